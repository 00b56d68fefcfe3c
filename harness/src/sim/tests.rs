//! Faults of the simulation that change what a node is: carried out, proven, healed.

use std::collections::BTreeMap;
use std::time::Duration;

use nemesis::{Action, Command, Proof};
use reference_cluster::core::config::{Config, Mode, Reads};
use workloads::{Invocation, Policy};

use super::{Conditions, SimOptions, SimSubstrate};
use crate::commands::sim::{seeds, simulate, simulate_on};
use crate::experiment::{Experiment, On};
use crate::substrate::{Happening, Substrate};

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn start(config: Config, nodes: u16) -> SimSubstrate {
    config.validate(nodes.into()).unwrap();
    let mut sim = SimSubstrate::new(SimOptions {
        formats: None,
        nodes,
        config,
        seed: 7,
        conditions: Conditions::default(),
        call_timeout: SECOND,
    });
    pass(&mut sim, 2 * SECOND);
    sim
}

pub(super) fn raft() -> Config {
    Config {
        mode: Mode::Raft,
        ..Config::default()
    }
}

pub(super) fn pass(sim: &mut SimSubstrate, span: u64) {
    let until = sim.now() + span;
    while !matches!(sim.next(until), Happening::Deadline) {}
}

pub(super) fn inject(sim: &mut SimSubstrate, id: u32, action: &Action) -> Proof {
    sim.inject(id, action, None);
    match sim.next(sim.now() + 60 * SECOND) {
        Happening::Injected { id: of, proof } if of == id => proof,
        other => panic!("{other:?}"),
    }
}

pub(super) fn heal(sim: &mut SimSubstrate, id: u32) -> Proof {
    sim.heal(id);
    loop {
        match sim.next(sim.now() + 60 * SECOND) {
            Happening::Healed { id: of, proof } if of == id => return proof,
            // Of what was under way.
            Happening::Completed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
pub(super) fn seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::Seen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}

#[track_caller]
pub(super) fn not_seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::NotSeen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}

pub(super) fn write(sim: &mut SimSubstrate, node: u16, value: i64) {
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
fn members_of_raft_come_and_go_whoever_leads() {
    let mut sim = start(raft(), 5);
    let leader = sim.view().leader().unwrap();
    let follower = leader % 5 + 1;
    // Asked of one that does not lead: it says who does.
    let remove = Action::Admin(follower, Command::RemoveMember(leader));
    let left = format!("n{leader} left");
    seen(&inject(&mut sim, 1, &remove), &left);
    pass(&mut sim, 3 * SECOND);
    let gone = &sim.view().nodes[usize::from(leader) - 1];
    assert!(gone.stopped && gone.leader.is_none(), "{gone:?}");
    let successor = sim.view().leader().unwrap();
    assert_ne!(successor, leader);
    write(&mut sim, successor, 1);
    seen(&heal(&mut sim, 1), &format!("n{leader} joined"));
    pass(&mut sim, 3 * SECOND);
    assert!(sim.view().nodes.iter().all(|node| !node.stopped));

    let to = sim.view().leader().unwrap() % 5 + 1;
    let transfer = Action::Admin(1, Command::TransferLeadership(to));
    seen(&inject(&mut sim, 2, &transfer), &format!("n{to} leads"));
    assert_eq!(sim.view().leader(), Some(to));
    seen(&heal(&mut sim, 2), "stays as it is");
}

#[test]
fn a_spare_takes_the_place_of_a_member() {
    let config = Config {
        initial_members: Some(3),
        ..raft()
    };
    let mut sim = start(config, 4);
    assert!(sim.view().nodes[3].stopped);
    let replace = Action::Admin(1, Command::ReplaceMember(2, 4));
    seen(&inject(&mut sim, 1, &replace), "n4 joined; n2 left");
    pass(&mut sim, 3 * SECOND);
    let stopped: Vec<_> = sim.view().nodes.iter().map(|node| node.stopped).collect();
    assert_eq!(stopped, [false, true, false, false]);
    seen(&heal(&mut sim, 1), "n2 joined; n4 left");
    // Without a majority nothing is decided, and nothing is claimed.
    seen(&inject(&mut sim, 2, &Action::Kill(vec![2, 3])), "gone");
    let remove = Action::Admin(1, Command::RemoveMember(2));
    sim.inject(3, &remove, None);
    let Happening::Injected { proof, .. } = sim.next(sim.now() + 60 * SECOND) else {
        panic!("no proof")
    };
    assert!(matches!(proof, Proof::NotSeen(_)), "{proof:?}");
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

/// In how many of some seeds reads were stale.
fn stale_seeds(reads: Reads, policy: Policy, package: &str, drift_ppm: u32) -> usize {
    let mut experiment = Experiment {
        substrate: On::Sim,
        workload: workloads::Kind::Register,
        seed: Some(1),
        ..Experiment::default()
    };
    experiment.target = Config { reads, ..raft() };
    experiment.clients.policy = policy;
    experiment.faults.packages = vec![package.to_owned()];
    experiment.faults.interval = Duration::from_secs(1);
    experiment.simulation.clock_drift_ppm = drift_ppm;
    let results = seeds(&experiment, 0..40, 2).unwrap();
    for result in &results {
        assert!(result.truth.disagreements.is_empty(), "{result:?}");
    }
    results.iter().filter(|result| result.stale > 0).count()
}

#[test]
fn a_lease_is_outlived_by_a_pause_and_by_clocks_that_run_apart() {
    let paused = stale_seeds(Reads::Lease, Policy::Spread, "pause-leader", 100);
    let apart = stale_seeds(Reads::Lease, Policy::Any, "isolate-leader", 500_000);
    assert!(paused > 0 && apart > 0, "{paused} {apart}");
    // Within what the lease allows for, and where a majority is asked instead, never.
    assert_eq!(
        stale_seeds(Reads::Lease, Policy::Any, "isolate-leader", 10_000),
        0
    );
    assert_eq!(
        stale_seeds(Reads::ReadIndex, Policy::Spread, "pause-leader", 500_000),
        0
    );
}

/// Each fault of the simulation that changes what nodes do, as entries of schedules, in time for
/// each other to matter.
const EVERY_FAULT: [&str; 17] = [
    "fault: crash, point: before-fsync, target: leader",
    "fault: crash, point: before-apply, target: leader",
    "fault: crash, point: before-reply, target: leader",
    "fault: cpu, share: 10%, target: leader",
    "fault: loss, percent: 30%, links: all, target: leader",
    "fault: reorder, percent: 40%, target: leader",
    "fault: duplicate, percent: 40%, target: leader",
    "fault: slow, latency: 80ms, jitter: 80ms, target: leader",
    "fault: torn-write, target: leader",
    "fault: bit-flip, target: leader",
    "fault: disk-full, target: leader",
    "fault: read-only, target: leader",
    "fault: slow-disk, latency: 60ms, target: leader",
    "fault: fsync-error, target: leader",
    "fault: rollback, age: 1500ms, target: leader",
    "fault: clock-drift, ppm: 400000, target: leader",
    "fault: clock-strobe, by: 900ms, every: 70ms, target: leader",
];

fn modes() -> Vec<(&'static str, Config)> {
    use reference_cluster::core::config::Ack;
    let single = |ack| Config {
        ack,
        failover_requires_majority: true,
        ..Config::default()
    };
    let other = |mode| Config {
        mode,
        ..Config::default()
    };
    vec![
        ("async", single(Ack::Async)),
        ("semi-sync(1)", single(Ack::SemiSync(1))),
        ("raft", raft()),
        ("multi-leader", other(Mode::MultiLeader)),
        ("leaderless", other(Mode::Leaderless)),
    ]
}

/// Three nodes of a mode under one fault, three times over.
fn under(config: &Config, fault: &str) -> Experiment {
    // In modes without one leader any node is as good.
    let fault = if config.one_log() {
        fault.to_owned()
    } else {
        fault.replace("target: leader", "target: random")
    };
    let entry = |at| format!("- {{at: {at}s, for: 2s, {fault}}}\n");
    let text: String = [2, 5, 8].map(entry).concat();
    let mut experiment = Experiment {
        substrate: On::Sim,
        nodes: 3,
        seed: Some(1),
        target: config.clone(),
        ..Experiment::default()
    };
    if !config.one_log() {
        experiment.workload = workloads::Kind::Register;
    }
    experiment.limits.time = Duration::from_secs(11);
    experiment.faults.schedule = Some(nemesis::Program::parse(&text).unwrap());
    experiment
}

/// How many faults were seen to take effect and to be gone, of how many.
fn proven(experiment: &Experiment) -> (usize, usize) {
    let faults = simulate(experiment).unwrap().ended.faults;
    let seen = |proof: &Option<Proof>| matches!(proof, Some(Proof::Seen(_)));
    let both = faults
        .iter()
        .filter(|fault| seen(&fault.proof) && seen(&fault.heal_proof));
    (both.count(), faults.len())
}

#[test]
fn checkers_agree_with_the_truth_under_every_fault() {
    for (mode, config) in modes() {
        for fault in EVERY_FAULT {
            let experiment = under(&config, fault);
            let (seen, of) = proven(&experiment);
            assert!(of > 0 && seen > 0, "{mode}, {fault}: {seen} of {of} proven");
            for result in seeds(&experiment, 0..2, 2).unwrap() {
                let wrong = &result.truth.disagreements;
                assert!(wrong.is_empty(), "{mode}, {fault}: {result:?}");
            }
        }
    }
}

/// Faults that change a process or its links, not what it says of itself to an operator.
const MORE_FAULTS: [&str; 9] = [
    "fault: kill, target: leader",
    "fault: power-loss, target: leader",
    "fault: pause, target: leader",
    "fault: partition, shape: isolate, target: leader",
    "fault: partition, shape: one-way, direction: out, target: leader",
    "fault: wipe, target: follower",
    "fault: snapshot, target: leader",
    "fault: clock-jump, by: 2s, target: leader",
    "fault: transfer-leadership, target: follower",
];

/// An injector that is out of order at random, and does not know it: none of its faults that came to
/// nothing earns credit, and a run with one of them is never called valid.
#[test]
fn an_injector_that_fails_is_found_out_whatever_the_fault() {
    let mut failed = 0;
    let mut wrong: Vec<String> = Vec::new();
    for fault in EVERY_FAULT.iter().chain(&MORE_FAULTS) {
        for seed in 1..=4 {
            let mut experiment = under(&raft(), fault);
            experiment.seed = Some(seed);
            let substrate = crate::plan::simulation(&experiment).with_injector_failures(0.5);
            let run = simulate_on(&experiment, substrate).unwrap();
            let unseen = run
                .ended
                .faults
                .iter()
                .filter(|f| !is_seen(f.proof.as_ref()));
            let unseen = unseen.count();
            failed += unseen;
            let verdict = crate::judge::judge_run(&experiment, &run.ended).verdict;
            if (unseen > 0) != format!("{verdict:?}").contains("fault-not-effective") {
                wrong.push(format!(
                    "{fault}, seed {seed}: {unseen} unseen, yet {verdict:?}"
                ));
            }
            // With nothing ever done, nothing may be seen.
            let substrate = crate::plan::simulation(&experiment).with_injector_failures(1.0);
            let run = simulate_on(&experiment, substrate).unwrap();
            for log in &run.ended.faults {
                assert!(
                    !is_seen(log.proof.as_ref()),
                    "{fault}, seed {seed}: {log:?}"
                );
            }
            let verdict = crate::judge::judge_run(&experiment, &run.ended).verdict;
            assert!(
                format!("{verdict:?}").contains("fault-not-effective"),
                "{fault}, seed {seed}: {verdict:?}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(failed > 20, "{failed}");
}

fn is_seen(proof: Option<&Proof>) -> bool {
    matches!(proof, Some(Proof::Seen(_)))
}

#[test]
#[ignore = "minutes: a campaign, whose table is read by people"]
fn campaign_of_every_fault() {
    for fault in EVERY_FAULT.iter().rev() {
        for (mode, config) in modes() {
            let experiment = under(&config, fault);
            let (seen, of) = proven(&experiment);
            let results = seeds(&experiment, 0..10, 2).unwrap();
            let mut checks: BTreeMap<&str, u32> = BTreeMap::new();
            for result in &results {
                for (check, _) in result.checks.iter().filter(|(_, word)| *word == "invalid") {
                    *checks.entry(check).or_default() += 1;
                }
            }
            let reused = results.iter().filter(|r| r.truth.reused).count();
            let lost: u64 = results.iter().map(|r| r.lost).sum();
            println!(
                "{mode}, {fault}: {seen} of {of} proven; of 10 seeds invalid {checks:?}; {lost} \
                 lost; {reused} reused"
            );
            for result in &results {
                let wrong = &result.truth.disagreements;
                assert!(
                    wrong.is_empty(),
                    "{mode}, {fault}, seed {}: {wrong:?}",
                    result.seed
                );
            }
        }
    }
}
