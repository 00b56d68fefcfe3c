//! `quorate explore`: schedules steered by what they reach; the same seed, the same exploration.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use quorate::commands::sim::{simulate, simulate_watched};
use quorate::experiment::{Experiment, On};
use quorate::explore::coverage::Coverage;
use quorate::museum::exhibits::EXHIBITS;
use quorate::shrink::recording::Recording;
use quorate::sim::trace::Watch;
use serde_json::Value;

use crate::quorate;

#[test]
fn watching_changes_nothing() {
    let keys = || (0..20).map(|i| format!("k{i}").into()).collect();
    for mode in [
        "async",
        "semi-sync(1)",
        "raft",
        "multi-leader-lww",
        "leaderless",
    ] {
        let mut experiment = Experiment {
            substrate: On::Sim,
            seed: Some(11),
            ..Experiment::default()
        };
        quorate::mode::set(&mut experiment.target, mode).unwrap();
        if ["multi-leader-lww", "leaderless"].contains(&mode) {
            experiment.workload = "conflict".parse().unwrap();
            experiment.clients.policy = workloads::Policy::Any;
        }
        experiment.faults.packages = ["kill", "partition", "pause"].map(str::to_owned).to_vec();
        experiment.faults.interval = Duration::from_secs(1);
        experiment.limits.time = Duration::from_secs(10);
        experiment.validate().unwrap();
        let alone = simulate(&experiment).unwrap();
        let coverage = Rc::new(RefCell::new(Coverage::default()));
        let recording = Rc::new(RefCell::new(Recording::of(keys())));
        let watches: [Rc<RefCell<dyn Watch>>; 2] = [coverage.clone(), recording.clone()];
        for watch in watches {
            let watched = simulate_watched(&experiment, watch).unwrap();
            assert_eq!(watched.history, alone.history, "{mode}");
            assert_eq!(watched.events, alone.events, "{mode}");
            let truth = |truth| serde_json::to_string(truth).unwrap();
            assert_eq!(truth(&watched.truth), truth(&alone.truth), "{mode}");
        }
        assert!(coverage.borrow().shallow().len() > 10, "{mode}");
        let recording = recording.borrow();
        assert!(
            !recording.held.is_empty() && !recording.messages.is_empty(),
            "{mode}"
        );
    }
}

fn explore(store: &Path, arguments: &str) -> (Option<i32>, Value) {
    let output = quorate()
        .arg("explore")
        .args(arguments.split(' '))
        .args(["-o", "json", "--store"])
        .arg(store)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        json.unwrap_or_else(|_| panic!("{said}")),
    )
}

#[test]
fn the_same_seed_explores_the_same_at_once_or_in_parts_on_one_thread_or_three() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = |name: &str| dir.path().join(name);
    let go = |name: &str, budget: u32, jobs: u32| {
        let corpus = corpus(name).display().to_string();
        explore(
            dir.path(),
            &format!(
                "--mode raft --time-limit 5s --seed 4 --budget {budget} --jobs {jobs} --corpus {corpus}"
            ),
        )
    };
    let (code, whole) = go("whole", 24, 3);
    assert_eq!(code, Some(0), "{whole}");
    go("parts", 16, 1);
    let (_, parts) = go("parts", 8, 2);
    assert_eq!(parts["states"], whole["states"]);
    assert_eq!(parts["runs"], 24);
    let text = |name| std::fs::read_to_string(corpus(name).join("corpus.json")).unwrap();
    assert_eq!(text("whole"), text("parts"));
    // What another experiment reached is of no use, and that is said.
    let other = quorate()
        .args(["explore", "--mode", "async", "--budget", "8", "--corpus"])
        .arg(corpus("whole"))
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(254));
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("another experiment"), "{said}");
}

#[test]
fn exploration_reaches_many_more_states_than_packages() {
    let dir = tempfile::tempdir().unwrap();
    let states = |guidance: &str| {
        let (_, found) = explore(
            dir.path(),
            &format!("--mode raft --time-limit 6s --seed 2 --budget 96 --guidance {guidance}"),
        );
        found["states"].as_u64().unwrap()
    };
    let (guided, packages) = (states("coverage"), states("packages"));
    assert!(guided > 3 * packages, "{guided} {packages}");
}

#[test]
fn what_is_found_is_a_run_that_fails_again_and_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let (code, found) = explore(
        dir.path(),
        "--bug majority-off-by-one --seed 1 --budget 200 --until-found",
    );
    assert_eq!(code, Some(1), "{found}");
    let goal = &found["found"][0]["goal"];
    assert_eq!(goal["checker"], "split-brain");
    let name = format!(
        "majority-off-by-one-split-brain-{}",
        goal["class"].as_str().unwrap()
    );
    let run = std::fs::canonicalize(dir.path().join(name).join("latest")).unwrap();
    let again = quorate()
        .arg("test")
        .arg(run.join("experiment.yaml"))
        .arg("--store")
        .arg(dir.path().join("again"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1));
    let shrunk = quorate()
        .args(["shrink", "-o", "json"])
        .arg(&run)
        .output()
        .unwrap();
    assert_eq!(shrunk.status.code(), Some(0));
    let shrunk: Value = serde_json::from_slice(&shrunk.stdout).unwrap();
    assert!(shrunk["to"]["faults"].as_u64() <= Some(2), "{shrunk}");
    assert!(shrunk["to"]["time"].is_string(), "{shrunk}");
    assert!(run.join("minimal.html").exists());
}

#[test]
fn the_page_of_the_docs_has_every_mistake_and_its_command() {
    let page = include_str!("../../../docs/exploration.md");
    for exhibit in EXHIBITS {
        let row = format!("\n| {} |", exhibit.name());
        assert!(page.contains(&row), "{} is missing", exhibit.name());
    }
    assert!(page.contains("quorate explore --museum"));
}
