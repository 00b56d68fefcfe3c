//! Every checker against the simulator's ground truth, over a thousand seeds a mode: no false
//! alarm, no miss. And a thousand seeds are not vacuous: things do go wrong in them.

use checkers::{CheckResult, Kind, Verdict, check_all};
use quorate::commands::sim::{SeedResult, seeds, simulate};
use quorate::experiment::{Experiment, Lasting, On};
use quorate::mode;
use quorate::sim::agreement::compare;
use reference_cluster::core::config::Stream;
use workloads::Kind as Workload;

/// Short, dense runs: many faults a second, so that a thousand of them see everything.
fn experiment(mode: &str, workload: Workload) -> Experiment {
    let mut experiment = Experiment {
        substrate: On::Sim,
        workload,
        ..Experiment::default()
    };
    mode::set(&mut experiment.target, mode).unwrap();
    experiment.target.heartbeat_ms = 50;
    experiment.target.failover_timeout_ms = 300;
    experiment.limits.time = std::time::Duration::from_secs(6);
    experiment.faults.interval = std::time::Duration::from_millis(500);
    experiment.faults.packages = vec!["all".to_owned()];
    experiment.faults.lasting = Some(Lasting {
        min: std::time::Duration::from_millis(200),
        max: std::time::Duration::from_millis(1500),
    });
    experiment.clients.rate = 150.0;
    experiment.clients.timeout = std::time::Duration::from_millis(500);
    experiment
}

fn run(mode: &str, workload: Workload, range: std::ops::Range<u64>) -> Vec<SeedResult> {
    let results = seeds(&experiment(mode, workload), range, 2).unwrap();
    for result in &results {
        let wrong = &result.truth.disagreements;
        assert!(
            wrong.is_empty(),
            "{mode} {} seed {}: {wrong:?}",
            workload.name(),
            result.seed
        );
        assert!(
            result.truth.compared > 0,
            "{mode} seed {}: nothing was compared",
            result.seed
        );
        assert!(
            result.faults > 0,
            "{mode} seed {}: nothing was done to the cluster",
            result.seed
        );
    }
    let unknown = share(&results, |r| !r.truth.unknown.is_empty());
    assert!(
        unknown < 0.02,
        "{mode} {}: {unknown} of the seeds are unknown",
        workload.name()
    );
    results
}

fn share(results: &[SeedResult], of: impl Fn(&SeedResult) -> bool) -> f64 {
    results.iter().filter(|r| of(r)).count() as f64 / results.len() as f64
}

fn invalid(result: &SeedResult, checker: &str) -> bool {
    result.checks.get(checker).is_some_and(|v| v == "invalid")
}

#[test]
fn asynchronous_replication_loses_writes_and_checkers_know_which() {
    let results = run("async", Workload::Append, 0..1000);
    assert!(share(&results, |r| r.lost > 0) > 0.5);
    assert!(share(&results, |r| r.stale > 0) > 0.1);
    assert!(share(&results, |r| invalid(r, "split-brain")) > 0.1);
    assert!(share(&results, |r| invalid(r, "linearizable")) > 0.5);
}

#[test]
fn raft_loses_nothing_and_checkers_say_so() {
    let results = run("raft", Workload::Append, 0..1000);
    for r in &results {
        assert_eq!(r.verdict, Verdict::Valid, "seed {}: {:?}", r.seed, r.checks);
    }
    assert!(
        share(&results, |r| r.ops > 100) > 0.9,
        "raft serves most of the time"
    );
}

#[test]
fn registers_and_sets_agree_too() {
    for mode in ["async", "raft"] {
        for workload in [Workload::Register, Workload::Set] {
            run(mode, workload, 0..250);
        }
    }
}

#[test]
fn waiting_for_followers_agrees_too() {
    run("semi-sync(1)", Workload::Append, 0..150);
    run("sync", Workload::Append, 0..150);
}

#[test]
fn local_reads_of_raft_are_found_stale() {
    let mut experiment = experiment("raft", Workload::Append);
    experiment.parameters.local_reads = Some(true);
    experiment.clients.policy = workloads::Policy::Spread;
    let results = seeds(&experiment, 0..150, 2).unwrap();
    let wrong: Vec<_> = results
        .iter()
        .flat_map(|r| &r.truth.disagreements)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(share(&results, |r| r.stale > 0) > 0.5);
    assert!(results.iter().all(|r| r.lost == 0), "stale is not lost");
}

/// The comparison itself can fail: results that were tampered with are noticed.
#[test]
fn a_wrong_verdict_is_noticed() {
    let mut experiment = experiment("async", Workload::Append);
    let checkers = quorate::judge::of_experiment(&experiment);
    // After healing, the replicas of one leader converge.
    let apart = ["availability", "convergence"];
    let everything_is_wrong = |results: &[CheckResult]| {
        let judged = results
            .iter()
            .filter(|r| !apart.contains(&r.checker.as_str()));
        judged.clone().count() > 3 && judged.clone().all(|r| r.verdict == Verdict::Invalid)
    };
    let (run, results) = (0..100)
        .find_map(|seed| {
            experiment.seed = Some(seed);
            let run = simulate(&experiment).unwrap();
            let results = check_all(&run.history, &checkers).results;
            everything_is_wrong(&results).then_some((run, results))
        })
        .expect("a seed in which every checker finds something");
    let disagreements = |results: &[CheckResult]| {
        compare(&run.history, results, &run.truth)
            .disagreements
            .len()
    };
    assert_eq!(disagreements(&results), 0);
    for result in &results {
        let name = result.checker.as_str();
        if name == "convergence" {
            continue;
        }
        if name == "availability" {
            let mut late = result.clone();
            late.figures["faults"][0]["recovery_seconds"] = 1e6.into();
            assert!(
                disagreements(&[late]) > 0,
                "a wrong recovery goes unnoticed"
            );
            continue;
        }
        // A checker that missed everything…
        let blind = CheckResult {
            verdict: Verdict::Valid,
            anomalies: Vec::new(),
            ..result.clone()
        };
        assert!(disagreements(&[blind]) > 0, "{name}: a miss goes unnoticed");
        // …and one that cries wolf in a run where nothing went wrong.
        let calm = Experiment {
            faults: quorate::experiment::Faults {
                packages: vec!["none".to_owned()],
                ..experiment.faults.clone()
            },
            ..experiment.clone()
        };
        let quiet = simulate(&calm).unwrap();
        let mut alarm = result.clone();
        alarm.anomalies.truncate(1);
        let calls = quiet.history.events.iter();
        let calls = calls.filter(|e| e.kind == Kind::Invoke && !e.process.is_nemesis());
        alarm.anomalies[0].ops = calls.map(|e| e.index).collect();
        let wrong = compare(&quiet.history, &[alarm], &quiet.truth).disagreements;
        assert!(!wrong.is_empty(), "{name}: a false alarm goes unnoticed");
    }
}

/// Sessions of clients that ask any node.
#[test]
fn session_guarantees_agree_with_the_truth() {
    for (mode, workload, broken) in [
        ("async", Workload::Append, true),
        ("async", Workload::Set, true),
        ("async", Workload::Register, true),
        ("raft", Workload::Append, false),
    ] {
        let mut experiment = experiment(mode, workload);
        experiment.checks = vec!["sessions".to_owned()];
        experiment.clients.policy = workloads::Policy::Any;
        let results = seeds(&experiment, 0..60, 2).unwrap();
        let invalid = results.iter().filter(|r| r.verdict == Verdict::Invalid);
        let invalid = invalid.count();
        assert!(
            if broken { invalid > 20 } else { invalid == 0 },
            "{mode}: {invalid}"
        );
        for result in &results {
            let truth = &result.truth;
            assert_eq!(
                truth.disagreements,
                [],
                "{mode} {workload}, seed {}",
                result.seed
            );
            assert_eq!(truth.compared + truth.unknown.len() as u64, 1);
        }
        if !broken {
            continue;
        }
        let seed = results.iter().find(|r| r.verdict == Verdict::Invalid);
        experiment.seed = seed.map(|r| r.seed);
        let run = simulate(&experiment).unwrap();
        let checkers = quorate::judge::of_experiment(&experiment);
        let result = check_all(&run.history, &checkers).results.remove(0);
        let noticed = |result: CheckResult| {
            let agreement = compare(&run.history, &[result], &run.truth);
            !agreement.disagreements.is_empty()
        };
        assert!(!noticed(result.clone()));
        let lists = workload != Workload::Register;
        let blind = CheckResult {
            verdict: Verdict::Valid,
            anomalies: Vec::new(),
            ..result.clone()
        };
        assert_eq!(noticed(blind), lists, "of registers not all is seen");
        let mut alarm = result;
        let fine = run.history.operations().unwrap();
        let named: std::collections::BTreeSet<u64> =
            alarm.anomalies.iter().flat_map(|a| a.ops.clone()).collect();
        let suspects: std::collections::BTreeSet<_> = fine
            .iter()
            .filter(|op| named.contains(&op.invoke.index))
            .map(|op| op.process().clone())
            .collect();
        let innocent = fine.iter().find(|op| {
            op.is_ok() && *op.f() == checkers::F::Read && !suspects.contains(op.process())
        });
        if let Some(innocent) = innocent {
            alarm.anomalies[0].ops = vec![innocent.invoke.index];
            assert!(
                noticed(alarm),
                "{mode} {workload}: a false alarm goes unnoticed"
            );
        }
    }
}

#[test]
fn a_wrong_verdict_on_convergence_is_noticed() {
    for (stream, expected, wrong) in [
        (Stream::Statement, Verdict::Invalid, Verdict::Valid),
        (Stream::Logical, Verdict::Valid, Verdict::Invalid),
    ] {
        let mut experiment = experiment("async", Workload::Nondeterministic);
        experiment.target.stream = stream;
        experiment.checks = vec!["convergence".to_owned()];
        experiment.faults.packages = vec!["none".to_owned()];
        experiment.seed = Some(1);
        let run = simulate(&experiment).unwrap();
        let checkers = quorate::judge::of_experiment(&experiment);
        let mut results = check_all(&run.history, &checkers).results;
        assert_eq!(results[0].verdict, expected, "{stream:?}");
        let right = compare(&run.history, &results, &run.truth);
        assert_eq!((right.compared, right.disagreements.len()), (1, 0));
        results[0].verdict = wrong;
        let noticed = compare(&run.history, &results, &run.truth).disagreements;
        assert_eq!(noticed.len(), 1, "{stream:?}: {noticed:?}");
    }
}
