//! The whole substrate: faults, proofs, calls, views.

use checkers::Outcome;
use nemesis::{Action, Command, Impairment, Link, Node, Proof};

use super::stand_in::{
    Scratch, between, from_clients, not_seen, ping, program, seen, start, start_program,
};
use crate::local::manifest::Manifest;
use crate::local::network::Network;
use crate::local::proxy::LinkProxy;
use crate::local::{LocalSubstrate, StartError};
use crate::substrate::{Happening, Substrate};

/// Long enough for anything here, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

struct Run {
    substrate: LocalSubstrate,
    scratch: Scratch,
}

impl Run {
    fn start(name: &str, nodes: u16) -> Self {
        let scratch = Scratch::new(name);
        let substrate = start(nodes, &scratch.0).unwrap();
        Self { substrate, scratch }
    }

    fn next(&mut self) -> Happening {
        let deadline = self.substrate.now() + PATIENCE;
        self.substrate.next(deadline)
    }

    fn inject(&mut self, id: u32, action: &Action) -> Proof {
        self.substrate.inject(id, action, None);
        match self.next() {
            Happening::Injected { id: of, proof } if of == id => proof,
            other => panic!("{other:?}"),
        }
    }

    fn heal(&mut self, id: u32) -> Proof {
        self.substrate.heal(id);
        match self.next() {
            Happening::Healed { id: of, proof } if of == id => proof,
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, node: Node) -> Outcome {
        self.substrate.call(9, node, &ping());
        match self.next() {
            Happening::Completed {
                thread: 9,
                completion,
            } => completion.outcome,
            other => panic!("{other:?}"),
        }
    }

    fn proxy(&self, link: Link) -> &LinkProxy {
        match &self.substrate.cluster.network {
            Network::Proxies(proxies) => proxies.get(link).unwrap(),
            Network::Namespaces(_) => panic!("there are no proxies"),
        }
    }

    fn roles(&mut self) -> Vec<Option<String>> {
        self.substrate.poll_view();
        match self.next() {
            Happening::View(view) => view.nodes.into_iter().map(|node| node.role).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_killed_node_is_refused_and_a_restarted_one_answers_at_the_same_url() {
    let mut run = Run::start("kill", 2);
    let url = run.substrate.address(1);
    assert_eq!(run.call(1), Outcome::Ok);
    assert_eq!(
        run.roles(),
        [Some("leader".to_owned()), Some("follower".to_owned())]
    );

    seen(
        &run.inject(1, &Action::Kill(vec![1])),
        "n1 ended (signal: 9 (SIGKILL))",
    );
    assert_eq!(run.call(1), Outcome::Fail);
    assert_eq!(run.roles(), [None, Some("follower".to_owned())]);
    assert_eq!(
        Manifest::read(&run.scratch.0)
            .unwrap()
            .unwrap()
            .processes
            .len(),
        1
    );

    // A second fault on the same node keeps it down.
    seen(
        &run.inject(2, &Action::Kill(vec![1, 2])),
        "n1 was down already; n2 ended",
    );
    seen(&run.heal(1), "n1 stays down for fault 2");
    assert_eq!(run.call(1), Outcome::Fail);
    seen(
        &run.heal(2),
        "n1 was restarted and answers; n2 was restarted and answers",
    );
    seen(&run.heal(2), "n1 runs already");
    assert_eq!(run.substrate.address(1), url);
    assert_eq!(run.call(1), Outcome::Ok);
    let log = std::fs::read_to_string(run.scratch.0.join("nodes/n1.log")).unwrap();
    assert_eq!(log.matches("n1 says hello").count(), 2);

    let Run { substrate, scratch } = run;
    drop(substrate);
    assert_eq!(Manifest::read(&scratch.0).unwrap().unwrap().processes, []);
}

#[test]
fn a_wiped_node_has_no_data_until_it_is_started_again() {
    let mut run = Run::start("wipe", 2);
    let data = run.scratch.0.join("data/n2");
    std::fs::write(data.join("journal"), "x").unwrap();
    std::fs::write(run.scratch.0.join("data/n1/journal"), "x").unwrap();
    let proof = run.inject(1, &Action::Wipe(vec![2]));
    seen(&proof, "n2 ended");
    seen(&proof, "n2 has no data");
    assert!(!data.join("journal").exists());
    assert!(run.scratch.0.join("data/n1/journal").exists());
    assert_eq!(run.call(2), Outcome::Fail);
    seen(&run.heal(1), "n2 was restarted and answers");

    // Somebody put another directory in its place.
    std::fs::rename(&data, run.scratch.0.join("elsewhere")).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("journal"), "x").unwrap();
    not_seen(&run.inject(2, &Action::Wipe(vec![2])), "n2 keeps its data");
    assert!(data.join("journal").exists());
    seen(&run.heal(2), "n2 was restarted and answers");
}

#[test]
fn an_upgraded_node_says_so_and_stays_so() {
    let mut run = Run::start("upgrade", 2);
    let two = Action::Upgrade(vec![2]);
    seen(&run.inject(1, &two), "n2 writes storage format 2");
    assert_eq!(run.call(2), Outcome::Ok);
    seen(&run.heal(1), "n2 writes storage format 2");
    seen(&run.inject(2, &two), "n2 writes storage format 3");
    seen(&run.heal(2), "n2 writes storage format 3");
    seen(&run.inject(3, &Action::Kill(vec![2])), "n2 ended");
    not_seen(&run.inject(4, &two), "n2 is not running");
    seen(&run.heal(3), "n2 was restarted");
    seen(
        &run.inject(5, &Action::Upgrade(vec![1, 2])),
        "n1 writes storage format 2; n2 writes storage format 4",
    );
}

#[test]
fn commands_go_to_whoever_is_said_to_lead() {
    let mut run = Run::start("operator", 3);
    let replace = Action::Admin(1, Command::ReplaceMember(3, 4));
    seen(&run.inject(1, &replace), "n4 joined; n3 left");
    // Not what the stand-in can do.
    not_seen(&run.heal(1), "n2 says: no ");
    let home = Action::Admin(3, Command::TakeHome(1));
    not_seen(&run.inject(2, &home), "n3 says: no ");
    seen(&run.heal(2), "stays as it is");
    // n1 leads, it says.
    let transfer = Action::Admin(2, Command::TransferLeadership(1));
    seen(&run.inject(3, &transfer), "n1 leads");
    seen(&run.heal(3), "stays as it is");
}

#[test]
fn a_paused_node_is_silent_until_the_last_fault_lets_it_go() {
    let mut run = Run::start("pause", 2);
    seen(
        &run.inject(1, &Action::Pause(vec![1])),
        "n1 is stopped (state T) and gives no answer",
    );
    assert_eq!(run.call(1), Outcome::Info);
    assert_eq!(run.roles(), [None, Some("follower".to_owned())]);
    seen(&run.inject(2, &Action::Pause(vec![1, 2])), "n1 is stopped");
    seen(&run.heal(1), "n1 stays stopped for fault 2");
    seen(&run.heal(2), "n1 runs");
    seen(&run.heal(2), "n1 runs");
    assert_eq!(run.call(1), Outcome::Ok);

    // Killed while paused: then nothing of it is paused any more.
    seen(&run.inject(3, &Action::Pause(vec![1])), "stopped");
    seen(&run.inject(4, &Action::Kill(vec![1])), "n1 ended");
    not_seen(&run.inject(5, &Action::Pause(vec![1])), "n1 is not running");
    seen(&run.heal(3), "n1 is down; nothing of it is stopped");
    seen(&run.heal(4), "n1 was restarted and answers");
    seen(&run.heal(5), "n1 runs");
}

#[test]
fn a_cut_is_one_way_and_proven_whatever_state_the_target_is_in() {
    let mut run = Run::start("cut", 3);
    let one_way = Action::Cut(vec![between(1, 2)]);
    seen(
        &run.inject(1, &one_way),
        "1 of 1 cut links let nothing through",
    );
    not_seen(
        &run.inject(2, &Action::Cut(vec![between(1, 1)])),
        "there is no link n1→n1",
    );
    let back = run.proxy(between(2, 1)).state();
    assert!(!back.cut);
    assert_eq!(run.call(2), Outcome::Ok);

    let around_two = Action::Cut(vec![between(1, 2), between(3, 2), from_clients(2)]);
    seen(&run.inject(3, &around_two), "3 of 3");
    assert_eq!(run.call(2), Outcome::Info);
    seen(
        &run.heal(3),
        "2 of 3 links answer; n1→n2 is still cut by another fault",
    );
    assert_eq!(run.call(2), Outcome::Ok);
    seen(&run.heal(1), "1 of 1 links answer");
    seen(&run.heal(1), "1 of 1 links answer");

    // A node that is down or paused gives no answer either; the proof does not rest on that.
    seen(&run.inject(4, &Action::Kill(vec![2])), "n2 ended");
    seen(&run.inject(5, &Action::Cut(vec![between(1, 2)])), "1 of 1");
    assert_eq!(run.call(2), Outcome::Fail);
    seen(&run.heal(5), "n1→n2 lets through again; n2 itself is down");
    seen(&run.heal(4), "restarted");
    seen(&run.inject(6, &Action::Pause(vec![2])), "stopped");
    seen(&run.inject(7, &Action::Cut(vec![between(1, 2)])), "1 of 1");
    seen(&run.heal(7), "n1→n2 lets through again; n2 is paused");
    seen(&run.heal(6), "n2 runs");
}

#[test]
fn a_cut_that_does_not_hold_is_not_seen() {
    let mut run = Run::start("leak", 2);
    // Injected and taken back behind the fault's back.
    run.substrate
        .inject(1, &Action::Cut(vec![between(1, 2), between(2, 1)]), None);
    run.proxy(between(1, 2)).release(1);
    match run.next() {
        Happening::Injected { proof, .. } => {
            not_seen(
                &proof,
                "1 of 2 links were seen to be cut; n1→n2: Answered(200",
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fault_that_ended_by_itself_has_faded() {
    let mut run = Run::start("faded", 2);
    let cut = Action::Cut(vec![between(1, 2)]);
    seen(&run.inject(1, &cut), "1 of 1");
    run.proxy(between(1, 2)).release(1);
    run.substrate.heal(1);
    match (run.next(), run.next()) {
        (Happening::Faded { id: 1, why }, Happening::Healed { id: 1, proof }) => {
            assert_eq!(why, "the proxy of n1→n2 has let go");
            seen(&proof, "1 of 1 links answer");
        }
        other => panic!("{other:?}"),
    }
    // What stands to its end has not, and what is healed twice has not either.
    seen(&run.inject(2, &cut), "1 of 1");
    seen(&run.heal(2), "1 of 1");
    seen(&run.heal(2), "1 of 1");
}

#[test]
fn what_a_proxy_cannot_do_is_said() {
    let mut run = Run::start("no-proxy", 2);
    let lossy = Action::Impair {
        links: vec![between(1, 2)],
        impairment: Impairment {
            loss_percent: 30,
            ..Impairment::default()
        },
    };
    not_seen(
        &run.inject(1, &lossy),
        "a TCP proxy cannot lose packets: use --on netns",
    );
    run.heal(1);
    run.substrate
        .inject(2, &Action::Cut(vec![between(1, 2)]), Some("nftables"));
    match run.next() {
        Happening::Injected { proof, .. } => not_seen(&proof, "there is no nftables"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn jitter_is_added_and_taken() {
    let mut run = Run::start("jitter", 2);
    let slow = Action::Impair {
        links: vec![between(1, 2), from_clients(2)],
        impairment: Impairment {
            latency_ms: 150,
            jitter_ms: 50,
            ..Impairment::default()
        },
    };
    seen(&run.inject(1, &slow), "100.0ms asked");
    seen(&run.heal(1), "2 of 2 links answer in");
}

#[test]
fn a_slow_link_is_measured() {
    let mut run = Run::start("slow", 2);
    let slow = |latency_ms, bandwidth_kib_s| Action::Impair {
        links: vec![between(1, 2), from_clients(2)],
        impairment: Impairment {
            latency_ms,
            bandwidth_kib_s,
            ..Impairment::default()
        },
    };
    seen(
        &run.inject(1, &slow(120, None)),
        "2 of 2 slowed links measured",
    );
    seen(&run.inject(2, &slow(200, None)), "200.0ms asked");
    seen(&run.heal(2), "2 of 2 links answer in");
    seen(&run.heal(1), "2 of 2 links answer in");
    seen(
        &run.inject(3, &slow(0, Some(64))),
        "the transfer at the throttled rate",
    );
    seen(&run.heal(3), "2 of 2");
    seen(&run.inject(4, &slow(50, Some(1_000_000))), "is not proven");
    seen(&run.heal(4), "2 of 2");
    not_seen(
        &run.inject(5, &slow(0, Some(1_000_000))),
        "no delay was asked for",
    );
    run.heal(5);
    seen(&run.inject(6, &Action::Kill(vec![2])), "ended");
    not_seen(
        &run.inject(7, &slow(120, None)),
        "0 of 2 slowed links could be measured; n2 is down",
    );
}

#[test]
fn what_cannot_be_done_is_not_seen() {
    let mut run = Run::start("cannot", 1);
    not_seen(
        &run.inject(1, &Action::PowerLoss(vec![1])),
        "there is no layer under the data of n1",
    );
    not_seen(&run.inject(2, &Action::Kill(vec![1, 9])), "there is no n9");
    not_seen(&run.inject(2, &Action::Kill(vec![1])), "injected already");
    not_seen(&run.heal(77), "no fault 77");
    not_seen(&run.inject(3, &Action::Cut(vec![])), "no link");
    assert_eq!(run.call(1), Outcome::Ok);
    assert_eq!(run.call(9), Outcome::Fail);
    let now = run.substrate.now();
    assert!(matches!(run.substrate.next(now), Happening::Deadline));
}

#[test]
fn a_fault_healed_at_once_is_still_proven_first() {
    let mut run = Run::start("brief", 2);
    run.substrate
        .inject(1, &Action::Cut(vec![between(1, 2)]), None);
    run.substrate.heal(1);
    match (run.next(), run.next()) {
        (
            Happening::Injected {
                proof: in_force, ..
            },
            Happening::Healed { proof: gone, .. },
        ) => {
            seen(&in_force, "1 of 1 cut");
            seen(&gone, "1 of 1 links answer");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_ends_by_itself_breaks_the_run_with_its_log() {
    let mut run = Run::start("broken", 2);
    let address = run.substrate.cluster.addresses()[1].1.unwrap();
    run.substrate
        .runtime()
        .spawn(reqwest::get(format!("http://{address}/exit")));
    match run.next() {
        Happening::Broken(why) => {
            assert!(
                why.starts_with("n2 ended although nobody killed it (exit status: 3)"),
                "{why}"
            );
            assert!(why.contains("nodes/n2.log:\n  n2 says hello"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_does_not_come_up_is_quoted_and_the_others_are_stopped() {
    let scratch = Scratch::new("start");
    let mut program = program();
    let arguments = program.arguments;
    program.arguments = Box::new(move |setup| match setup.node {
        1 => arguments(setup),
        _ => Ok(vec!["--no-such-option".into()]),
    });
    let Err(error) = start_program(2, &scratch.0, &program) else {
        panic!("it started");
    };
    assert!(matches!(error, StartError::NotReady(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("n2 did not come up: it ended (exit status: 1"),
        "{text}"
    );
    assert!(text.contains("no-such-option"), "{text}");
    assert_eq!(Manifest::read(&scratch.0).unwrap().unwrap().processes, []);
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let scratch = Scratch::new("program");
    let mut program = program();
    program.path = "/no/such/program".into();
    let Err(error) = start_program(1, &scratch.0, &program) else {
        panic!("it started");
    };
    assert!(
        error
            .to_string()
            .contains("/no/such/program cannot be started"),
        "{error}"
    );
}
