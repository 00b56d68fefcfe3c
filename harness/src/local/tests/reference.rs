//! The substrate with nodes of the reference cluster.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use checkers::{F, Outcome, Value};
use nemesis::{Action, Endpoint, Link, Node, Proof, View};
use reference_cluster::core::{Config, NodeId};
use reference_cluster::server::{self, NodeOptions};
use workloads::{Completion, Invocation};

use super::stand_in::{Scratch, asked_for, helper, start_program};
use crate::local::LocalSubstrate;
use crate::local::disk::Needs;
use crate::local::program::{NodeSetup, Program};
use crate::sim::{Conditions, SimOptions, SimSubstrate};
use crate::substrate::{Happening, Substrate};

const AS_NODE: &str = "as-reference-node";
const NODES: u16 = 3;

fn arguments(setup: &NodeSetup) -> Vec<OsString> {
    let peers = setup.peers.iter().map(|(node, at)| format!("{node}={at}"));
    let peers = peers.collect::<Vec<_>>().join(",");
    let data = setup.data_dir.display();
    helper(
        "reference::node",
        AS_NODE,
        &format!("{};{peers};{data}", setup.node),
    )
}

/// A node with the default configuration: one asynchronous leader, automatic failover.
#[test]
fn node() {
    let Some(setup) = asked_for(AS_NODE) else {
        return;
    };
    let [id, peers, data] = setup.split(';').collect::<Vec<_>>()[..] else {
        panic!("{setup}");
    };
    let peers: BTreeMap<_, _> = peers
        .split(',')
        .filter(|peer| !peer.is_empty())
        .map(|peer| {
            let (node, address) = peer.split_once('=').unwrap();
            (NodeId(node.parse().unwrap()), address.to_owned())
        })
        .collect();
    let options = NodeOptions {
        id: NodeId(id.parse().unwrap()),
        listen: "127.0.0.1:0".parse().unwrap(),
        peers,
        data: data.into(),
        config: Config::default(),
        seed: 1,
        exit_with_parent: true,
        exit_on_stdin_eof: true,
    };
    // The test runner has begun a line of its own.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(server::run(options)).unwrap();
    // Rather than the rest of the test runner.
    std::process::exit(0);
}

fn program() -> Program {
    Program {
        path: std::env::current_exe().unwrap(),
        arguments: Box::new(arguments),
        version_flag: "as-storage-version",
    }
}

struct Run {
    substrate: LocalSubstrate,
    written: i64,
    next_fault: u32,
}

impl Run {
    fn start(run_dir: &Path) -> Self {
        Self {
            substrate: start_program(NODES, run_dir, &program()).unwrap(),
            written: 0,
            next_fault: 0,
        }
    }

    fn next(&mut self) -> Happening {
        self.substrate.next(u64::MAX)
    }

    fn view(&mut self) -> View {
        self.substrate.poll_view();
        match self.next() {
            Happening::View(view) => view,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until one node other than `not` leads.
    fn leader_other_than(&mut self, not: Option<Node>) -> Node {
        let deadline = self.substrate.now() + 60_000_000_000;
        loop {
            let view = self.view();
            if let Some(leader) = view.leader().filter(|&leader| Some(leader) != not) {
                return leader;
            }
            assert!(self.substrate.now() < deadline, "no leader: {view:?}");
        }
    }

    fn call(&mut self, node: Node, f: F, value: Value, local: bool) -> Completion {
        let invocation = Invocation {
            local,
            ..Invocation::new(f, Some(Value::str("k")), value)
        };
        self.substrate.call(0, node, &invocation);
        match self.next() {
            Happening::Completed { completion, .. } => completion,
            other => panic!("{other:?}"),
        }
    }

    /// Writes the next number at this node.
    fn write(&mut self, node: Node) -> Outcome {
        self.written += 1;
        self.call(node, F::Write, Value::Int(self.written), false)
            .outcome
    }

    /// Waits until this node itself holds the number last written.
    fn arrives_at(&mut self, node: Node) {
        let deadline = self.substrate.now() + 60_000_000_000;
        loop {
            let read = self.call(node, F::Read, Value::Nil, true);
            if read.value == Value::Int(self.written) {
                return;
            }
            assert!(self.substrate.now() < deadline, "n{node} holds {read:?}");
        }
    }

    /// Injects a fault and has it proven.
    fn inject(&mut self, action: &Action) -> u32 {
        self.next_fault += 1;
        let id = self.next_fault;
        self.substrate.inject(id, action, None);
        match self.next() {
            Happening::Injected {
                proof: Proof::Seen(_),
                ..
            } => id,
            other => panic!("{other:?}"),
        }
    }

    fn heal(&mut self, id: u32) {
        self.substrate.heal(id);
        match self.next() {
            Happening::Healed {
                proof: Proof::Seen(_),
                ..
            } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// All links between this replica and the others; clients still reach it.
fn isolate(node: Node) -> Action {
    let others = || (1..=NODES).filter(move |&other| other != node);
    let link = |from, to| Link {
        from: Endpoint::Node(from),
        to: Endpoint::Node(to),
    };
    Action::Cut(
        others()
            .flat_map(|other| [link(node, other), link(other, node)])
            .collect(),
    )
}

#[test]
fn faults_do_to_a_real_cluster_what_they_should() {
    let scratch = Scratch::new("reference");
    let mut run = Run::start(&scratch.0);
    let first = run.leader_other_than(None);
    assert_eq!(run.write(first), Outcome::Ok);
    (1..=NODES).for_each(|node| run.arrives_at(node));

    // Cut off, the old leader goes on acknowledging; the others elect a new one.
    let cut = run.inject(&isolate(first));
    let second = run.leader_other_than(Some(first));
    assert_eq!(run.write(first), Outcome::Ok);
    assert_eq!(run.write(second), Outcome::Ok);
    run.heal(cut);
    // The write that only the old leader held is thrown away.
    run.arrives_at(first);

    let pause = run.inject(&Action::Pause(vec![second]));
    assert_eq!(run.write(second), Outcome::Info);
    let third = run.leader_other_than(Some(second));
    run.heal(pause);

    let kill = run.inject(&Action::Kill(vec![third]));
    assert_eq!(run.write(third), Outcome::Fail);
    run.leader_other_than(Some(third));
    run.heal(kill);
    let last = run.leader_other_than(None);
    assert_eq!(run.write(last), Outcome::Ok);
    (1..=NODES).for_each(|node| run.arrives_at(node));
}

/// One operation of each kind, and some that fail.
fn script() -> Vec<Invocation> {
    let pair = |a: Value, b: Value| -> Value { [a, b].into_iter().collect() };
    let int = Value::Int;
    [
        ("r", F::Write, int(1)),
        ("r", F::Cas, pair(int(1), int(2))),
        ("r", F::Cas, pair(int(1), int(3))),
        ("l", F::Append, Value::str("a b")),
        ("s", F::Add, int(2)),
        ("s", F::Add, int(1)),
        ("c", F::Increment, int(-3)),
        ("t", F::Insert, pair(Value::Nil, int(1))),
        ("t", F::Insert, pair(int(1), int(2))),
        ("t", F::Remove, int(1)),
        ("m", F::Put, pair(Value::str("f"), int(1))),
        ("m", F::Put, pair(int(7), Value::Nil)),
        ("s", F::Write, int(1)),
        ("k/lock", F::Acquire, Value::str("me")),
        ("k/lock", F::Acquire, Value::str("you")),
        ("k/lock", F::Release, Value::str("me")),
        ("gone", F::Write, int(1)),
        ("gone", F::Remove, Value::Nil),
    ]
    .into_iter()
    .map(|(key, f, value)| Invocation::new(f, Some(Value::str(key)), value))
    .chain(
        ["r", "l", "s", "c", "t", "m", "gone", "k/lock"]
            .into_iter()
            .flat_map(|key| {
                [F::Read, F::Inspect].map(|f| Invocation::new(f, Some(Value::str(key)), Value::Nil))
            }),
    )
    .chain([F::Read, F::Inspect].map(|f| Invocation::new(f, None, Value::Nil)))
    .collect()
}

/// What comes of the script, asked of the leader.
fn carry_out(substrate: &mut dyn Substrate) -> Vec<(Outcome, Value, Option<String>)> {
    let leader = loop {
        substrate.poll_view();
        let later = substrate.now() + 50_000_000;
        if let Happening::View(view) = substrate.next(later)
            && let Some(leader) = view.leader()
        {
            break leader;
        }
        substrate.next(later);
    };
    let mut ask = |invocation: &Invocation| {
        substrate.call(0, leader, invocation);
        loop {
            if let Happening::Completed { completion, .. } = substrate.next(u64::MAX) {
                let error = completion.error.as_deref().map(str::to_owned);
                return (completion.outcome, completion.value, error);
            }
        }
    };
    script().iter().map(&mut ask).collect()
}

#[test]
fn simulation_and_processes_answer_alike() {
    let scratch = Scratch::new("alike");
    // One node, which has nobody to lose its leadership to, and all the time it needs.
    let patience = Duration::from_secs(60);
    let mut nodes =
        LocalSubstrate::start_program(1, &scratch.0, patience, &program(), &Needs::default())
            .unwrap();
    let mut simulation = SimSubstrate::new(SimOptions {
        nodes: 1,
        config: Config::default(),
        seed: 1,
        conditions: Conditions::default(),
        call_timeout: 60_000_000_000,
    });
    let processes = carry_out(&mut nodes);
    let simulated = carry_out(&mut simulation);
    for (invocation, (real, simulated)) in script().iter().zip(processes.iter().zip(&simulated)) {
        assert_eq!(real, simulated, "{invocation:?}");
    }
    let failed = processes
        .iter()
        .filter(|(outcome, ..)| *outcome == Outcome::Fail);
    assert_eq!(failed.count(), 3);
    let unknown = processes
        .iter()
        .any(|(outcome, ..)| *outcome == Outcome::Info);
    assert!(!unknown, "{processes:?}");
}
