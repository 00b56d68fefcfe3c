//! `quorate shrink`: of a long failing run little is left, and that fails the same way.

use std::path::Path;
use std::time::Duration;

use quorate::experiment::Experiment;
use quorate::museum::exhibits::EXHIBITS;
use quorate::museum::{Exhibit, shown_at};
use quorate::shrink::story::{Story, page, paragraph};
use quorate::shrink::{Failing, Goal, Search, Trials, Watch};
use quorate::truth_table::run::judge_seed;
use serde_json::Value;

use crate::{quorate, run_dir};

/// A failing run of two dozen faults, in a directory.
fn long_run(store: &Path) -> std::path::PathBuf {
    let output = quorate()
        .args(["test", "--on", "sim", "--seed", "3", "--time-limit", "60s"])
        .args(["--nemesis", "kill-leader,isolate-leader,pause,partition"])
        .args(["--nemesis-interval", "1s", "-o", "json", "--store"])
        .arg(store)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    run_dir(store)
}

#[test]
fn a_long_run_shrinks_to_a_short_one_that_fails_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = long_run(dir.path());
    let output = quorate()
        .arg("shrink")
        .arg(&run)
        .args(["-o", "json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["from"]["faults"].as_u64().unwrap() >= 8, "{found}");
    assert!(found["to"]["faults"].as_u64().unwrap() <= 1, "{found}");
    assert_eq!(found["finished"], true);
    let picture = std::fs::read_to_string(run.join("minimal.html")).unwrap();
    for part in [
        "<svg",
        "class=\"lane\"",
        "leader e1",
        "takes over",
        "acknowledges",
    ] {
        assert!(picture.contains(part), "{part} is missing in the picture");
    }
    for tag in ["<link", "<img", " src=", "@import", "<script"] {
        assert!(!picture.contains(tag), "{tag} loads something");
    }
    let told = found["paragraph"].as_str().unwrap();
    assert!(told.contains("in epoch 2 without"), "{told}");
    let minimal = run.join("minimal.yaml");
    let again = quorate()
        .args(["test", "-o", "json", "--store"])
        .arg(dir.path())
        .arg(&minimal)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1), "minimal.yaml fails");
    let verdict: Value = serde_json::from_slice(&again.stdout).unwrap();
    let classes: Vec<&Value> = verdict["results"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|r| r["anomalies"].as_array().unwrap())
        .map(|a| &a["class"])
        .collect();
    assert!(classes.contains(&&found["goal"]["class"]), "{classes:?}");
    // Nothing is left to do, and that is what a second search says.
    let second = quorate()
        .arg("shrink")
        .arg(&run)
        .args(["-o", "json"])
        .output()
        .unwrap();
    let second: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(second["to"], found["to"]);
    assert_eq!(
        second["from"], found["from"],
        "the first size is remembered"
    );
}

#[test]
fn a_search_without_time_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let run = long_run(dir.path());
    let shrink = |time: &str| -> Value {
        let output = quorate()
            .arg("shrink")
            .arg(&run)
            .args(["--time", time, "-o", "json"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let cut_short = shrink("1ms");
    assert_eq!(cut_short["finished"], false);
    let whole = shrink("60s");
    assert_eq!(whole["finished"], true);
    assert_eq!(whole["from"], cut_short["from"]);
    assert!(whole["runs"].as_u64() > cut_short["runs"].as_u64());
}

#[test]
fn what_did_not_fail_is_refused_and_what_does_not_fail_again_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let valid = quorate()
        .args(["test", "--on", "sim", "--seed", "1", "--time-limit", "2s"])
        .args([
            "--mode",
            "raft",
            "--nemesis",
            "none",
            "-o",
            "json",
            "--store",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(valid.status.code(), Some(0));
    let run = run_dir(dir.path());
    let refused = quorate().arg("shrink").arg(&run).output().unwrap();
    assert_eq!(refused.status.code(), Some(254));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("nothing to shrink"), "{said}");
    // A verdict of another experiment: raft never loses.
    let failing = tempfile::tempdir().unwrap();
    let other = long_run(failing.path());
    std::fs::copy(other.join("verdict.json"), run.join("verdict.json")).unwrap();
    let unknown = quorate().arg("shrink").arg(&run).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(!run.join("minimal.yaml").exists());
}

struct Quiet;

impl Watch for Quiet {
    fn smaller(&mut self, _: &Failing, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn pass(&mut self, _: &str, _: u64) {}
}

/// The planted mistake under two dozen random faults, as a failing run with its realised schedule.
fn random_failure(exhibit: &Exhibit, seed: u64) -> Option<(Goal, Failing)> {
    let hand_written = exhibit.experiment(true).unwrap();
    let mut random: Experiment = hand_written.clone();
    random.faults.schedule = None;
    let here = random.capabilities();
    let possible = |name: &&str| nemesis::package::select([name], random.nodes, &here).is_ok();
    random.faults.packages = ["kill", "power-loss", "pause", "partition", "wipe-follower"]
        .into_iter()
        .filter(possible)
        .map(str::to_owned)
        .collect();
    random.faults.interval = Duration::from_millis(400);
    random.faults.lasting = Some(quorate::experiment::Lasting {
        min: Duration::from_millis(100),
        max: Duration::from_millis(800),
    });
    random.limits.time = Duration::from_secs(40);
    random.validate().unwrap();
    let judged = judge_seed(&random, seed).unwrap();
    let result = judged.result(exhibit.checker)?;
    let anomaly = result.anomalies.first()?.clone();
    let mut experiment = judged.experiment.clone();
    let mut faults = judged.run.ended.realised.faults.clone();
    faults.retain(|entry| !entry.skipped() && entry.at < experiment.limits.time);
    experiment.faults.schedule = Some(faults.into());
    experiment.faults.packages = Vec::new();
    let goal = Goal {
        checker: exhibit.checker.to_owned(),
        class: anomaly.class.clone(),
    };
    let failing = Failing {
        shown_at: shown_at(&judged.run.history, &anomaly),
        experiment,
        anomaly,
        ops: 0,
        rate: (1, 1),
    };
    Some((goal, failing))
}

#[test]
fn a_store_without_faults_has_a_story_too() {
    let exhibit = EXHIBITS
        .iter()
        .find(|e| e.name() == "tie-keeps-own")
        .unwrap();
    let experiment = Experiment {
        seed: Some(1),
        ..exhibit.experiment(true).unwrap()
    };
    let judged = judge_seed(&experiment, 1).unwrap();
    let anomaly = judged.result(exhibit.checker).unwrap().anomalies[0].clone();
    let goal = Goal {
        checker: exhibit.checker.to_owned(),
        class: anomaly.class.clone(),
    };
    let failing = Failing {
        experiment,
        shown_at: shown_at(&judged.run.history, &anomaly),
        anomaly,
        ops: 0,
        rate: (1, 1),
    };
    let story = Story::of(&goal, &failing).unwrap().unwrap();
    let told = paragraph(&story);
    assert!(told.contains("Nothing is done to it"), "{told}");
    assert!(page(&story, "").contains("<svg"));
    // What does not fail has no story.
    let mut sound = failing;
    sound.experiment.target.bugs.clear();
    assert!(Story::of(&goal, &sound).unwrap().is_none());
}

/// How many random failures of each exhibit are shrunk, if somebody says so.
fn failures_each() -> Option<usize> {
    std::env::var("QUORATE_SHRINK_FAILURES")
        .ok()
        .map(|n| n.parse().unwrap())
}

#[test]
fn random_failures_of_planted_mistakes_shrink_to_the_hand_written_schedule_or_less() {
    let (mut all, mut as_short) = (0, 0);
    let mut longer = Vec::new();
    for exhibit in EXHIBITS {
        let by_hand = exhibit.experiment(true).unwrap();
        // Dense ones take long, and a majority that loses power within a moment is rare.
        let slow = by_hand.clients.rate > 1000.0;
        let Some(by_hand) = by_hand.faults.schedule else {
            continue;
        };
        if slow && failures_each().is_none() {
            continue;
        }
        let failures = (0..40).filter_map(|seed| random_failure(exhibit, seed));
        for (goal, failing) in failures.take(failures_each().unwrap_or(2)) {
            let before = failing.size().faults;
            if before < 20 {
                continue;
            }
            let store = std::env::temp_dir();
            let trials = Trials::new(goal, 4, store);
            let minute = Duration::from_secs(60);
            let began = std::time::Instant::now();
            let mut quiet = Quiet;
            let search = Search::new(trials, minute, failing, &mut quiet);
            let (_, best, runs) = search.run().unwrap();
            let after = best.size().faults;
            println!(
                "{}: {before} faults to {after}, {} by hand, {runs} runs, {:.1} s",
                exhibit.name(),
                by_hand.len(),
                began.elapsed().as_secs_f64()
            );
            all += 1;
            if after <= by_hand.len() {
                as_short += 1;
            } else {
                longer.push(format!("{}: {after} > {}", exhibit.name(), by_hand.len()));
            }
        }
    }
    assert!(all >= 5, "only {all} random failures to shrink");
    assert!(as_short * 10 >= all * 9, "{as_short} of {all}: {longer:?}");
}
