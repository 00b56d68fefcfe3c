//! Faults of the simulation that change what a node is: carried out, proven, healed.

use nemesis::{Action, Command, Proof};
use reference_cluster::core::config::{Config, Mode};
use workloads::Invocation;

use super::{Conditions, SimOptions, SimSubstrate};
use crate::substrate::{Happening, Substrate};

const SECOND: u64 = 1_000_000_000;

fn start(config: Config, nodes: u16) -> SimSubstrate {
    config.validate(nodes.into()).unwrap();
    let mut sim = SimSubstrate::new(SimOptions {
        nodes,
        config,
        seed: 7,
        conditions: Conditions::default(),
        call_timeout: SECOND,
    });
    pass(&mut sim, 2 * SECOND);
    sim
}

fn raft() -> Config {
    Config {
        mode: Mode::Raft,
        ..Config::default()
    }
}

fn pass(sim: &mut SimSubstrate, span: u64) {
    let until = sim.now() + span;
    while !matches!(sim.next(until), Happening::Deadline) {}
}

fn inject(sim: &mut SimSubstrate, id: u32, action: &Action) -> Proof {
    sim.inject(id, action);
    match sim.next(sim.now() + 60 * SECOND) {
        Happening::Injected { id: of, proof } if of == id => proof,
        other => panic!("{other:?}"),
    }
}

fn heal(sim: &mut SimSubstrate, id: u32) -> Proof {
    sim.heal(id);
    match sim.next(sim.now() + 60 * SECOND) {
        Happening::Healed { id: of, proof } if of == id => proof,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::Seen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}

#[track_caller]
fn not_seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::NotSeen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}

fn write(sim: &mut SimSubstrate, node: u16, value: i64) {
    let (key, value) = (checkers::Value::str("k"), checkers::Value::Int(value));
    let invocation = Invocation::new(checkers::F::Write, Some(key), value);
    sim.call(0, node, &invocation);
    match sim.next(sim.now() + 10 * SECOND) {
        Happening::Completed { completion, .. } => {
            assert_eq!(completion.outcome, checkers::Outcome::Ok, "{completion:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wiped_node_starts_on_nothing() {
    let mut sim = start(Config::default(), 3);
    for value in 0..20 {
        write(&mut sim, 1, value);
    }
    pass(&mut sim, SECOND);
    let before = sim.view().nodes[2].last_index;
    assert!(before > 0);
    assert!(!sim.nodes[2].disk.is_empty());
    let proof = inject(&mut sim, 1, &Action::Wipe(vec![3]));
    seen(&proof, "1 of 1 processes are gone, 1 of 1 disks empty");
    assert_eq!(sim.view().nodes[2].role, None);
    seen(&heal(&mut sim, 1), "1 of 1 processes run");
    pass(&mut sim, 5 * SECOND);
    assert_eq!(sim.view().nodes[2].last_index, before);
}

#[test]
fn an_upgraded_node_keeps_its_data_and_its_version() {
    let mut sim = start(Config::default(), 3);
    write(&mut sim, 1, 1);
    pass(&mut sim, SECOND);
    let proof = inject(&mut sim, 1, &Action::Upgrade(vec![2]));
    seen(&proof, "1 of 1 nodes write storage format 2");
    seen(&heal(&mut sim, 1), "1 of 1 nodes write storage format 2");
    seen(&inject(&mut sim, 2, &Action::Kill(vec![2])), "gone");
    seen(&heal(&mut sim, 2), "run");
    pass(&mut sim, SECOND);
    let versions: Vec<_> = sim.view().nodes.iter().map(|n| n.storage_version).collect();
    assert_eq!(versions, [1, 2, 1]);
    assert!(sim.view().nodes[1].last_index > 0);
    // One that is down cannot be upgraded.
    seen(&inject(&mut sim, 3, &Action::Kill(vec![3])), "gone");
    not_seen(&inject(&mut sim, 4, &Action::Upgrade(vec![3])), "0 of 1");
}

#[test]
fn what_a_mode_does_not_know_is_not_proven() {
    for config in [Config::default(), raft()] {
        let mut sim = start(config, 3);
        let proof = inject(&mut sim, 1, &Action::Admin(1, Command::TakeHome(2)));
        not_seen(&proof, "n1 says: ");
        seen(&heal(&mut sim, 1), "stays as it is");
    }
}
