//! Every workload in simulation: each run is judged, a mode that loses nothing is found to lose
//! nothing, and one that loses writes is found out.

use checkers::{Event, F, Kind as EventKind, Value, Verdict};
use quorate::commands::sim::{seeds, simulate};
use quorate::defaults::{Given, choose};
use quorate::experiment::{Experiment, On};
use quorate::mode;
use workloads::Kind;

use crate::quorate;

fn experiment(mode: &str, workload: Kind) -> Experiment {
    let mut experiment = Experiment {
        substrate: On::Sim,
        workload,
        ..Experiment::default()
    };
    mode::set(&mut experiment.target, mode).unwrap();
    experiment.target.heartbeat_ms = 50;
    experiment.target.failover_timeout_ms = 300;
    experiment.limits.time = std::time::Duration::from_secs(8);
    experiment.faults.interval = std::time::Duration::from_secs(1);
    experiment.clients.timeout = std::time::Duration::from_millis(500);
    let given = Given {
        workload: true,
        policy: false,
        faults: false,
    };
    choose(&mut experiment, given);
    experiment
}

#[test]
fn raft_keeps_what_every_workload_writes() {
    // Of transactions and queues the reference store has none.
    let had = |kind: &Kind| !kind.is_transactional() && *kind != Kind::Queue;
    for kind in Kind::ALL.into_iter().filter(had) {
        let experiment = experiment("raft", kind);
        for result in seeds(&experiment, 0..6, 2).unwrap() {
            let context = format!("{kind} seed {}: {:?}", result.seed, result.checks);
            assert_eq!(result.verdict, Verdict::Valid, "{context}");
            assert!(result.faults > 0 && result.ops > 100, "{context}");
            let checks = quorate::defaults::checks(&experiment);
            assert_eq!(result.checks.len(), checks.len(), "{context}");
        }
    }
}

/// An asynchronous leader that is killed takes acknowledged writes with it.
#[test]
fn what_asynchronous_replication_loses_is_found_with_every_workload_that_judges_it() {
    for (kind, checker) in [
        (Kind::Set, "lost-writes"),
        (Kind::Append, "lost-writes"),
        (Kind::Session, "lost-writes"),
        (Kind::Bootstrap, "lost-writes"),
        (Kind::Upgrade, "lost-writes"),
        (Kind::Text, "lost-writes"),
        (Kind::Register, "lost-writes"),
        (Kind::Conflict, "lost-writes"),
        (Kind::Calendar, "lost-writes"),
        (Kind::Counter, "counter"),
    ] {
        let mut experiment = experiment("async", kind);
        if matches!(kind, Kind::Register | Kind::Conflict | Kind::Calendar) {
            // A register that is written again hides what it lost before.
            experiment.parameters.writes_per_key = Some(4);
        }
        let results = seeds(&experiment, 0..12, 2).unwrap();
        let wrong: Vec<_> = results
            .iter()
            .flat_map(|r| &r.truth.disagreements)
            .collect();
        assert!(wrong.is_empty(), "{kind}: {wrong:?}");
        for result in &results {
            let unknown = result.checks.values().any(|v| v.starts_with("unknown"));
            assert!(!unknown, "{kind} seed {}: {:?}", result.seed, result.checks);
        }
        let found = |r: &&quorate::commands::sim::SeedResult| {
            r.checks.get(checker).is_some_and(|v| v == "invalid")
        };
        assert!(results.iter().any(|r| found(&r)), "{kind}: no loss found");
    }
}

/// Inspections come after the final reads, one for each replica where all hold the same.
#[test]
fn every_replica_is_inspected_after_the_final_reads() {
    let mut experiment = experiment("raft", Kind::Counter);
    experiment.seed = Some(3);
    let run = simulate(&experiment).unwrap();
    let events = &run.history.events;
    let last_read = events.iter().rposition(|e| e.f == F::Read).unwrap();
    let inspected: Vec<(usize, &Event)> = events
        .iter()
        .enumerate()
        .filter(|(_, e)| e.f == F::Inspect && e.kind == EventKind::Ok)
        .collect();
    assert!(inspected.iter().all(|(place, _)| *place > last_read));
    let nodes: std::collections::BTreeSet<_> =
        inspected.iter().map(|(_, e)| e.node.clone()).collect();
    assert_eq!(nodes.len(), usize::from(experiment.nodes));
    for (_, event) in inspected {
        let Value::Map(pairs) = &event.value else {
            panic!("no digest: {event:?}")
        };
        assert_eq!(pairs[0].0, Value::str("digest"));
    }
    // Nobody who does not judge convergence asks.
    experiment.checks = vec!["counter".to_owned()];
    let run = simulate(&experiment).unwrap();
    assert!(run.history.events.iter().all(|e| e.f != F::Inspect));
}

#[test]
fn a_workload_that_the_mode_lacks_is_refused_before_anything_starts() {
    let output = quorate()
        .args(["sim", "--mode", "leaderless", "--workload", "append"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(254), "{stderr}");
    for word in ["workload", "conflict, calendar", "leaderless"] {
        assert!(stderr.contains(word), "expected {word} in: {stderr}");
    }
}

#[test]
fn the_list_names_every_workload() {
    let output = quorate().arg("list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for kind in Kind::ALL {
        assert!(text.contains(&format!("  {kind} ")), "{kind} in:\n{text}");
    }
}
