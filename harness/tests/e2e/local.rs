//! The whole way on real processes: start, drive, break, judge; and nothing left behind, whatever
//! way the harness ends.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::{quorate, run_dir};
use quorate::local::manifest::Manifest;
use serde_json::Value;

const SCHEDULE: &str = "\
- {at: 1s, for: 5s, fault: partition, shape: isolate, target: leader}
- {at: 8s, for: 2s, fault: kill, target: leader}
- {at: 11s, for: 1s, fault: pause, target: follower}
- {at: 13s, for: 1s, fault: slow, links: peers, target: n1, latency: 50ms}
";

fn written(dir: &Path, schedule: &str) -> std::path::PathBuf {
    let file = dir.join("schedule.yaml");
    std::fs::write(&file, schedule).unwrap();
    file
}

fn verdict(store: &Path) -> Value {
    let text = std::fs::read_to_string(run_dir(store).join("verdict.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn run(mode: &str, seed: &str, schedule: &str) -> (tempfile::TempDir, i32) {
    let dir = tempfile::tempdir().unwrap();
    let output = quorate()
        .args([
            "test",
            "--mode",
            mode,
            "--seed",
            seed,
            "--time-limit",
            "15s",
            "--schedule",
        ])
        .arg(written(dir.path(), schedule))
        .arg("--store")
        .arg(dir.path().join("store"))
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    (dir, output.status.code().unwrap())
}

fn figure(verdict: &Value, checker: &str, name: &str) -> u64 {
    let results = verdict["results"].as_array().unwrap();
    let result = results.iter().find(|r| r["checker"] == checker).unwrap();
    result["figures"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("{checker}.{name}: {result}"))
}

/// Every process of the run's manifest has ended.
fn nothing_is_left(manifest: &Manifest) {
    let until = Instant::now() + Duration::from_secs(10);
    while manifest.processes.iter().any(|p| p.identity.is_alive()) {
        assert!(Instant::now() < until, "still alive: {manifest:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn asynchronous_replication_is_found_to_lose_writes() {
    let (dir, code) = run("async", "11", SCHEDULE);
    assert_eq!(code, 1);
    let store = dir.path().join("store");
    let verdict = verdict(&store);
    assert_eq!(verdict["verdict"], "invalid");
    assert!(figure(&verdict, "lost-writes", "lost") > 0);
    for fault in verdict["faults"].as_array().unwrap() {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
    let run = run_dir(&store);
    for file in [
        "experiment.yaml",
        "history.jsonl",
        "schedule.yaml",
        "junit.xml",
        "report.html",
        "nodes/n1.log",
    ] {
        assert!(run.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    // What was recorded is judged the same without the run around it.
    let check = quorate()
        .args(["check", "--workload", "append", "-o", "json"])
        .arg(run.join("history.jsonl"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(1));
    let again: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(
        figure(&again, "lost-writes", "lost"),
        figure(&verdict, "lost-writes", "lost")
    );
    // The realised schedule is a schedule.
    let text = std::fs::read_to_string(run.join("schedule.yaml")).unwrap();
    assert_eq!(nemesis::Schedule::parse(&text).unwrap().faults.len(), 4);
}

#[test]
fn raft_is_found_to_lose_nothing() {
    let (dir, code) = run("raft", "12", SCHEDULE);
    assert_eq!(code, 0);
    let verdict = verdict(&dir.path().join("store"));
    assert_eq!(verdict["verdict"], "valid");
    assert!(figure(&verdict, "lost-writes", "acknowledged") > 100);
    assert_eq!(verdict["faults"].as_array().unwrap().len(), 4);
}

#[test]
fn clocks_that_libfaketime_makes_wrong_are_wrong_and_become_right() {
    if let Err(why) = nemesis::mechanism::clock::available() {
        eprintln!("not tested: {why}");
        return;
    }
    let schedule = "\
- {at: 1s, for: 4s, fault: clock-jump, by: 2s, target: n1, via: libfaketime}
- {at: 7s, for: 2s, fault: clock-drift, ppm: 100000, target: n2, via: libfaketime}
- {at: 11s, for: 2s, fault: clock-strobe, by: 1s, every: 100ms, target: n3, via: libfaketime}
";
    let (dir, code) = run("raft", "13", schedule);
    assert_eq!(code, 0);
    let verdict = verdict(&dir.path().join("store"));
    let faults = verdict["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3);
    for fault in faults {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
        let proof = fault["proof"].as_str().unwrap();
        assert!(proof.starts_with("by libfaketime"), "{fault}");
    }
}

/// A harness under way; ended and reaped however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a long run, waits until clients are served and a fault is active, and returns the
/// processes that then run.
fn under_way(dir: &Path) -> (Running, Manifest) {
    let file = dir.join("pause.yaml");
    std::fs::write(
        &file,
        "- {at: 500ms, for: 60s, fault: pause, target: follower}\n",
    )
    .unwrap();
    let store = dir.join("store");
    let command = quorate()
        .args([
            "test",
            "--mode",
            "async",
            "--time-limit",
            "60s",
            "--schedule",
        ])
        .arg(file)
        .arg("--store")
        .arg(&store)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = Running(command.unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < until, "the run does not get under way");
        std::thread::sleep(Duration::from_millis(50));
        let Ok(run) = std::fs::canonicalize(store.join("demo/latest")) else {
            continue;
        };
        let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap_or_default();
        if history.contains("\"inject\"") {
            let manifest = Manifest::read(&run)
                .unwrap()
                .expect("a manifest while running");
            assert_eq!(manifest.processes.len(), 5);
            assert!(manifest.processes.iter().all(|p| p.identity.is_alive()));
            return (running, manifest);
        }
    }
}

#[test]
fn an_interrupt_heals_judges_and_exits_130() {
    let dir = tempfile::tempdir().unwrap();
    let (mut harness, manifest) = under_way(dir.path());
    let pid = rustix::process::Pid::from_child(&harness.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(harness.0.wait().unwrap().code(), Some(130));
    nothing_is_left(&manifest);
    let verdict = verdict(&dir.path().join("store"));
    assert_eq!(verdict["exit_code"], 130);
    let fault = &verdict["faults"][0];
    assert!(
        fault["healed_at_s"].is_number(),
        "healed before the end: {fault}"
    );
}

#[test]
fn a_killed_harness_leaves_no_process_and_a_history_that_can_be_judged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut harness, manifest) = under_way(dir.path());
    harness.0.kill().unwrap();
    harness.0.wait().unwrap();
    nothing_is_left(&manifest);
    let report = quorate()
        .arg("report")
        .arg(run_dir(&dir.path().join("store")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&report.stdout);
    assert_eq!(report.status.code(), Some(2), "{said}");
    // Its last reads are not final: nothing can be called lost, nor kept.
    let verdict = verdict(&dir.path().join("store"));
    let results = verdict["results"].as_array().unwrap();
    let lost = results
        .iter()
        .find(|r| r["checker"] == "lost-writes")
        .unwrap();
    assert_eq!(lost["figures"]["final_reads"], 0, "{lost}");
    assert_eq!(lost["verdict"], "unknown", "{lost}");
    assert!(
        lost["reason"]
            .as_str()
            .unwrap()
            .contains("final-read-missing"),
        "{lost}"
    );
}

#[test]
fn a_node_that_does_not_come_back_is_shown_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kill.yaml");
    std::fs::write(&file, "- {at: 1s, for: 3s, fault: kill, target: n2}\n").unwrap();
    let store = dir.path().join("store");
    let command = quorate()
        .args(["test", "--time-limit", "30s", "--schedule"])
        .arg(file)
        .arg("--store")
        .arg(&store)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut harness = Running(command.unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    let run = loop {
        assert!(Instant::now() < until, "the node is not killed");
        std::thread::sleep(Duration::from_millis(50));
        let Ok(run) = std::fs::canonicalize(store.join("demo/latest")) else {
            continue;
        };
        let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap_or_default();
        if history.contains("\"inject\"") {
            break run;
        }
    };
    let manifest = Manifest::read(&run).unwrap().expect("a manifest");
    let journal = run.join("data/n2/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // A record in the middle: not a torn tail, which a node cuts off.
    bytes[30] ^= 0xff;
    std::fs::write(&journal, bytes).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut harness.0.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(harness.0.wait().unwrap().code(), Some(255), "{said}");
    assert!(said.contains("n2") && said.contains("corrupt"), "{said}");
    nothing_is_left(&manifest);
    assert!(run.join("verdict.json").exists());
}
