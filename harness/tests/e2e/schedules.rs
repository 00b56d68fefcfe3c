//! The language of schedules as a user writes it: refused by line and field, and carried out in
//! simulation as it says.

use nemesis::{Entry, Fault, Program, Selector, Shape};
use quorate::commands::sim::simulate;
use quorate::experiment::{Experiment, On};

use crate::quorate;

/// An experiment in simulation.
fn experiment(yaml: &str, seed: u64) -> Experiment {
    let mut experiment = Experiment::parse(yaml, "test").expect("readable");
    experiment.substrate = On::Sim;
    experiment.seed = Some(seed);
    experiment.validate().expect("possible");
    experiment.resolved()
}

/// What was really done, of a composite that comes up at least once.
fn realised(name: &str, target: &str, seed: u64) -> Vec<Entry> {
    let yaml = format!(
        "target: {target}\nlimits: {{time: 30s}}\nfaults: {{schedule: [{{at: 2s, use: {name}}}]}}"
    );
    let run = simulate(&experiment(&yaml, seed)).expect("runs");
    let faults = run.ended.realised.faults;
    for fault in &faults {
        let done = fault.realised.as_ref().expect("recorded");
        assert_eq!(done.skipped, None, "{name}, seed {seed}: {faults:#?}");
        assert_eq!(done.seen, Some(true), "{name}, seed {seed}: {fault:#?}");
        assert_eq!(done.gone, Some(true), "{name}, seed {seed}: {fault:#?}");
    }
    faults
}

fn nodes(entry: &Entry) -> Vec<u16> {
    match &entry.target {
        Some(Selector::Nodes(nodes)) => nodes.clone(),
        other => panic!("not resolved: {other:?}"),
    }
}

fn is_cut(entry: &Entry) -> bool {
    matches!(entry.fault, Fault::Partition(_))
}

fn end(entry: &Entry) -> std::time::Duration {
    entry.at + entry.lasting
}

const RAFT: &str = "{mode: raft}";

#[test]
fn part_kill_ends_one_of_those_cut_off_and_then_cuts_one_of_the_others() {
    for seed in 0..4 {
        let faults = realised("part-kill", RAFT, seed);
        assert_eq!(faults.len(), 3);
        let (cut, killed, second) = (nodes(&faults[0]), nodes(&faults[1]), nodes(&faults[2]));
        assert!(is_cut(&faults[0]) && is_cut(&faults[2]));
        assert_eq!((cut.len(), killed.len(), second.len()), (2, 1, 1));
        assert!(cut.contains(&killed[0]) && !cut.contains(&second[0]));
        assert!(end(&faults[1]) < end(&faults[0]) && end(&faults[0]) < faults[2].at);
    }
}

#[test]
fn a_swizzle_heals_in_another_order() {
    for seed in 0..4 {
        let faults = realised("swizzle", RAFT, seed);
        let mut hit: Vec<u16> = faults.iter().flat_map(nodes).collect();
        hit.sort_unstable();
        hit.dedup();
        assert_eq!((faults.len(), hit.len()), (3, 3), "three distinct nodes");
        let ends: Vec<_> = faults.iter().map(end).collect();
        assert!(!ends.is_sorted(), "{ends:?}");
    }
}

#[test]
fn pause_kill_ends_the_leader_that_came_after_the_one_that_is_stopped() {
    for seed in 0..4 {
        let faults = realised("pause-kill", RAFT, seed);
        assert_eq!(faults.len(), 2);
        assert_eq!(
            [&faults[0].fault, &faults[1].fault],
            [&Fault::Pause, &Fault::Kill]
        );
        assert_ne!(nodes(&faults[0]), nodes(&faults[1]));
        assert!(faults[1].at < end(&faults[0]), "it is still stopped");
        assert!(
            end(&faults[0]) < end(&faults[1]),
            "it goes on before the other is back"
        );
    }
}

#[test]
fn clients_stay_with_the_leader_that_is_cut_off_and_ended() {
    for seed in 0..4 {
        let faults = realised(
            "isolate-clients-then-kill-leader",
            "{mode: single-leader}",
            seed,
        );
        assert_eq!(faults.len(), 3);
        let (old, others, killed) = (nodes(&faults[0]), nodes(&faults[1]), nodes(&faults[2]));
        assert_eq!(faults[0].fault, Fault::Partition(Shape::Isolate));
        assert_eq!(faults[1].fault, Fault::Partition(Shape::Clients));
        assert_eq!((old.len(), others.len(), &killed), (1, 4, &old));
        assert!(!others.contains(&old[0]));
        assert!(end(&faults[2]) < end(&faults[1]) && end(&faults[1]) < end(&faults[0]));
    }
}

#[test]
fn every_other_node_is_started_again_while_the_leader_is_stopped() {
    let faults = realised("restart-under-pause", RAFT, 1);
    let paused = nodes(&faults[0]);
    let restarted: Vec<u16> = faults[1..].iter().flat_map(nodes).collect();
    assert_eq!(restarted.len(), 4);
    assert!(!restarted.contains(&paused[0]));
    assert!(faults[1..].iter().all(|kill| end(kill) < end(&faults[0])));
}

#[test]
fn the_leader_ends_while_one_follower_has_forgotten_and_one_is_cut_off() {
    for seed in 0..4 {
        let faults = realised("amnesia-then-vote", RAFT, seed);
        assert_eq!(faults.len(), 3);
        let all: Vec<u16> = faults.iter().flat_map(nodes).collect();
        assert!(
            all[0] != all[1] && all[1] != all[2] && all[0] != all[2],
            "{all:?}"
        );
        assert!(faults[2].at <= end(&faults[1]) && faults[2].at < end(&faults[0]));
    }
}

#[test]
fn a_semi_synchronous_leader_that_falls_back_loses_what_it_acknowledged() {
    let target = "{mode: single-leader, ack: semi-sync(1), semi_sync_timeout_ms: 500}";
    let yaml = format!(
        "target: {target}\nlimits: {{time: 20s}}\nfaults: {{schedule: [{{at: 2s, use: semi-sync-downgrade}}]}}"
    );
    let lost = (0..6)
        .filter(|&seed| {
            let experiment = experiment(&yaml, seed);
            let run = simulate(&experiment).expect("runs");
            let checkers = quorate::judge::of_experiment(&experiment);
            let report = checkers::check_all(&run.history, &checkers);
            let mut results = report.results.iter();
            results.any(|r| r.checker == "lost-writes" && !r.anomalies.is_empty())
        })
        .count();
    assert!(lost > 0, "nothing was lost in six runs");
}

#[test]
fn triggers_see_clients_and_nodes_and_the_run_replays_as_a_flat_schedule() {
    let yaml = "
target: {mode: raft}
limits: {time: 20s}
faults:
  schedule:
    - at: 1s
      when: {acknowledged: 50, in_flight: write}
      within: 5s
      do: [{fault: kill, target: leader, for: 2s}]
    - at: 1s
      when: {leader_changes: 1}
      do: [{fault: pause, target: former-leader, for: 1s..2s, within: 8s}]
";
    let first = experiment(yaml, 5);
    let run = simulate(&first).expect("runs");
    let done = &run.ended.realised;
    let whats: Vec<&Fault> = done.faults.iter().map(|entry| &entry.fault).collect();
    assert_eq!(whats, [&Fault::Kill, &Fault::Pause], "{done:#?}");
    assert_eq!(nodes(&done.faults[0]), nodes(&done.faults[1]));

    let mut again = first.clone();
    let written = Program::parse(&done.to_yaml()).expect("readable");
    again.faults.schedule = Some(written);
    again.validate().expect("possible");
    let replay = simulate(&again).expect("runs");
    // The trigger fired the moment after an operation was sent; a time alone does not say which of
    // the two was first, so clients may see another run, but the nodes suffer the same.
    let what = |entry: &Entry| (entry.at, entry.fault.clone(), entry.target.clone());
    let replayed = &replay.ended.realised.faults;
    let first: Vec<_> = done.faults.iter().map(what).collect();
    assert_eq!(replayed.iter().map(what).collect::<Vec<_>>(), first);
}

#[test]
fn a_stale_read_is_seen_and_pulls_the_trigger() {
    let yaml = "
workload: register
target: {mode: single-leader, reads: any}
clients: {policy: split}
limits: {time: 15s}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: partition, shape: isolate, target: follower, as: behind}
    - at: 500ms
      when: {staleness: 500ms}
      do: [{fault: kill, target: leader, for: 1s}]
";
    let run = simulate(&experiment(yaml, 2)).expect("runs");
    let faults = run.ended.realised.faults;
    assert_eq!(faults.len(), 2);
    assert_eq!(faults[1].fault, Fault::Kill);
    assert!(faults[1].at >= faults[0].at + std::time::Duration::from_millis(500));
    assert!(faults[1].at < end(&faults[0]), "{faults:#?}");
}

#[test]
fn a_trigger_that_never_fires_makes_a_clean_run_unknown_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.yaml");
    let text = "
limits: {time: 4s}
faults:
  schedule:
    - when: {staleness: 1h}
      within: 2s
      do: [{fault: kill, target: leader, for: 1s}]
";
    std::fs::write(&file, text).unwrap();
    let output = quorate()
        .args([
            "test", "--on", "sim", "--seed", "1", "-o", "json", "--store",
        ])
        .arg(dir.path().join("store"))
        .arg(&file)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(
        stdout.contains("a read 1h stale did not come within 2s"),
        "{stdout}"
    );
}

#[test]
fn the_budget_of_a_run_is_kept() {
    let yaml = "
target: {mode: raft}
limits: {time: 40s}
faults: {packages: [kill, pause], interval: 1s, hurt_at_most: 1, targets: [n2, n4]}
";
    let run = simulate(&experiment(yaml, 3)).expect("runs");
    let faults = run.ended.realised.faults;
    let done: Vec<&Entry> = faults.iter().filter(|fault| !fault.skipped()).collect();
    assert!(done.len() > 3, "{faults:#?}");
    let hit: std::collections::BTreeSet<u16> = done.iter().flat_map(|f| nodes(f)).collect();
    assert_eq!(hit.into_iter().collect::<Vec<_>>(), [2, 4]);
}
