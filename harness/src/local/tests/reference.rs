//! The substrate with nodes of the reference cluster.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use checkers::{F, Outcome, Value};
use nemesis::{Action, Command, Endpoint, Link, Node, Proof, View};
use reference_cluster::core::{Config, NodeId};
use reference_cluster::server::{self, NodeOptions};
use workloads::{Completion, Invocation};

use super::stand_in::{Scratch, asked_for, helper, start_program};
use crate::experiment::On;
use crate::local::LocalSubstrate;
use crate::local::disk::Needs;
use crate::local::program::{NodeSetup, Program, Serves};
use crate::sim::{Conditions, SimOptions, SimSubstrate};
use crate::stores::AnyClient;
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
        config: Config {
            storage_version: asked_for("as-storage-version").map_or(1, |v| v.parse().unwrap()),
            ..Config::default()
        },
        seed: 1,
        allow_faults: true,
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
        arguments: Box::new(|setup| Ok(arguments(setup))),
        version_flag: "as-storage-version",
        versions: None,
        keeper: super::stand_in::program().keeper,
        preload_clock: false,
        serves: Serves::default(),
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
    let mut nodes = LocalSubstrate::start_program(
        On::Local,
        1,
        &scratch.0,
        AnyClient::new(None, None, patience).unwrap(),
        &program(),
        &Needs::default(),
    )
    .unwrap();
    let mut simulation = SimSubstrate::new(SimOptions {
        formats: None,
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

impl Run {
    /// Injects something that takes effect only once the node writes, and writes meanwhile.
    fn inject_while_writing(&mut self, node: Node, action: &Action) -> (u32, Proof) {
        self.next_fault += 1;
        let id = self.next_fault;
        self.substrate.inject(id, action, None);
        loop {
            self.written += 1;
            let value = Value::Int(self.written);
            let invocation = Invocation::new(F::Write, Some(Value::str("k")), value);
            self.substrate.call(0, node, &invocation);
            let (mut proof, mut completed) = (None, false);
            while !completed {
                match self.next() {
                    Happening::Completed { .. } => completed = true,
                    Happening::Injected { proof: seen, .. } => proof = Some(seen),
                    other => panic!("{other:?}"),
                }
            }
            if let Some(proof) = proof {
                return (id, proof);
            }
        }
    }

    fn try_inject(&mut self, action: &Action, via: Option<&str>) -> (u32, Proof) {
        self.next_fault += 1;
        let id = self.next_fault;
        self.substrate.inject(id, action, via);
        match self.next() {
            Happening::Injected { proof, .. } => (id, proof),
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn says(proof: &Proof, seen: bool, part: &str) {
    let (was, text) = match proof {
        Proof::Seen(text) => (true, text),
        Proof::NotSeen(text) => (false, text),
    };
    assert!(was == seen && text.contains(part), "{part:?}: {proof:?}");
}

#[test]
fn a_node_ends_itself_at_each_point_and_keeps_what_it_wrote() {
    let scratch = Scratch::new("crash-points");
    let mut run = Run::start(&scratch.0);
    for point in nemesis::CrashPoint::ALL {
        let leader = run.leader_other_than(None);
        let (id, proof) = run.inject_while_writing(leader, &Action::Crash(vec![leader], point));
        let text = format!("n{leader} ended itself at {}", point.name());
        says(&proof, true, &text);
        run.heal(id);
        let leader = run.leader_other_than(None);
        // Whatever became of the write at which it ended, the log goes on.
        let deadline = run.substrate.now() + 60_000_000_000;
        while run.write(leader) != Outcome::Ok {
            assert!(run.substrate.now() < deadline, "n{leader} takes no writes");
        }
        (1..=NODES).for_each(|node| run.arrives_at(node));
    }
    // A node that is down passes nothing.
    let down = run.inject(&Action::Kill(vec![2]));
    let crash = Action::Crash(vec![2], nemesis::CrashPoint::BeforeFsync);
    let (_, proof) = run.try_inject(&crash, None);
    says(&proof, false, "n2 is not running");
    run.heal(down);
}

#[test]
fn clocks_are_made_wrong_and_right_again() {
    use nemesis::ClockFault;
    let scratch = Scratch::new("clocks");
    let mut run = Run::start(&scratch.0);
    let clock = |fault| Action::Clock(vec![1, 2], fault);
    let strobe = ClockFault::Strobe {
        by_ms: 700,
        every_ms: 60,
    };
    for (fault, part) in [
        (
            ClockFault::Jump(-90_000),
            "by native: the clock of n2 shows -90000.0 ms",
        ),
        (ClockFault::Drift(150_000), "150000 ppm were asked"),
        (ClockFault::Drift(-150_000), "-150000 ppm were asked"),
        (strobe, "+700 ms ahead"),
    ] {
        let (id, proof) = run.try_inject(&clock(fault), None);
        says(&proof, true, part);
        run.heal(id);
    }
    let jump = clock(ClockFault::Jump(500));
    let (_, proof) = run.try_inject(&jump, Some("libfaketime"));
    says(&proof, false, "it was not started with libfaketime");
    // A process that was started again has a right clock: the fault is gone before its time.
    let (id, proof) = run.try_inject(&jump, None);
    says(&proof, true, "shows +500.0 ms");
    let killed = run.inject(&Action::Kill(vec![2]));
    run.heal(killed);
    run.substrate.heal(id);
    let Happening::Faded { why, .. } = run.next() else {
        panic!("it has not faded");
    };
    assert!(why.contains("n2 was right already"), "{why}");
    let Happening::Healed { proof, .. } = run.next() else {
        panic!("it was not healed");
    };
    says(&proof, true, "the clock of n1 is right");
}

#[test]
fn a_snapshot_is_taken_and_a_downgrade_is_refused() {
    let scratch = Scratch::new("snapshot");
    let mut run = Run::start(&scratch.0);
    let leader = run.leader_other_than(None);
    for _ in 0..100 {
        assert_eq!(run.write(leader), Outcome::Ok);
    }
    (1..=NODES).for_each(|node| run.arrives_at(node));
    let journal = scratch.0.join("data/n2/journal");
    let length = || std::fs::metadata(&journal).unwrap().len();
    let before = length();
    let (id, proof) = run.try_inject(&Action::Admin(2, Command::Snapshot(2)), None);
    says(&proof, true, "n2 has a new snapshot");
    let deadline = run.substrate.now() + 60_000_000_000;
    while length() >= before / 4 {
        assert!(run.substrate.now() < deadline, "{} of {before}", length());
        run.view();
    }
    run.heal(id);
    let (_, proof) = run.try_inject(&Action::Downgrade(vec![2]), None);
    says(
        &proof,
        false,
        "n2 writes storage format 1, the oldest there is",
    );
    let (_, proof) = run.try_inject(&Action::Upgrade(vec![2]), None);
    says(&proof, true, "n2 writes storage format 2");
    let (id, proof) = run.try_inject(&Action::Downgrade(vec![2]), None);
    says(
        &proof,
        false,
        "n2 refuses: the journal is in storage format 2",
    );
    run.substrate.heal(id);
    assert!(matches!(
        run.next(),
        Happening::Healed {
            proof: Proof::NotSeen(_),
            ..
        }
    ));
}
