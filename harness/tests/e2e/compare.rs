//! `quorate compare` in simulation: the scorecard, its files, interruption, and what is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::quorate;

const MATRIX: [&str; 10] = [
    "compare",
    "--on=sim",
    "--modes=async,raft",
    "--faults=partition-leader,none",
    "--repeat=3",
    "--time-limit=12s",
    "--seed=40",
    "--jobs=2",
    "--nodes=3",
    "--workload=append",
];

fn compare(store: &Path, arguments: &[&str]) -> Command {
    let mut command = quorate();
    command.args(arguments).arg("--store").arg(store);
    command
}

fn resume(dir: &Path) -> Output {
    let mut command = quorate();
    command.args(["compare", "-o=json", "--resume"]).arg(dir);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The scorecard on stdout, without how long it took.
fn scorecard(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut scorecard: Value = serde_json::from_slice(&output.stdout).unwrap();
    let timing = scorecard.as_object_mut().unwrap().remove("timing").unwrap();
    assert!(timing["seconds"].as_f64().unwrap() >= 0.0);
    scorecard
}

fn latest(store: &Path) -> PathBuf {
    std::fs::canonicalize(store.join("compare/latest")).unwrap()
}

#[test]
fn the_scorecard_says_what_each_mode_lost() {
    let store = tempfile::tempdir().unwrap();
    let output = compare(store.path(), &MATRIX).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for part in [
        "2 modes × 2 faults × 3 runs",
        "faults losing writes",
        "RTO writes, median",
        "write p99, calm",
        "async lost",
        "raft lost nothing in",
        "cells a minute",
    ] {
        assert!(table.contains(part), "{part} is missing:\n{table}");
    }
    let wide = table.lines().find(|line| line.chars().count() > 100);
    assert_eq!(wide, None);

    let dir = latest(store.path());
    let page = std::fs::read_to_string(dir.join("compare.html")).unwrap();
    assert!(page.contains("Lost acknowledged writes: async. Lost none here: raft."));
    for tag in ["<link", "<img", " src=", "<script", "url(", "NaN"] {
        assert!(!page.contains(tag), "{tag}");
    }
    let markdown = std::fs::read_to_string(dir.join("scorecard.md")).unwrap();
    assert!(markdown.contains("| | async | raft |"), "{markdown}");
}

#[test]
fn json_has_every_measure_and_what_was_not_measured_is_null() {
    let store = tempfile::tempdir().unwrap();
    let output = compare(store.path(), &MATRIX)
        .arg("-o=json")
        .output()
        .unwrap();
    let scorecard = scorecard(&output);
    assert_eq!(scorecard["schema"], 1);
    assert_eq!(scorecard["definition"]["repeat"], 3);
    assert_eq!(
        scorecard["definition"]["modes"],
        serde_json::json!(["async", "raft"])
    );
    let measures = scorecard["measures"].as_object().unwrap();
    let rows = scorecard["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!((&row["runs"], &row["crashed"]), (&3.into(), &0.into()));
        assert!(!row["sentences"].as_array().unwrap().is_empty());
        for name in measures.keys() {
            let estimate = &row["measures"][name];
            for field in ["value", "low", "high", "n"] {
                assert!(estimate.get(field).is_some(), "{name} {field}");
            }
        }
        let first = row["mode"] == "async";
        assert_eq!(
            row.get("differences").is_none(),
            first,
            "held against async"
        );
    }
    let row = |mode: &str, fault: &str| {
        let found = rows
            .iter()
            .find(|r| r["mode"] == mode && r["fault"] == fault);
        found.unwrap()
    };
    let losing = &row("async", "partition-leader")["measures"]["losing_faults"];
    assert_eq!(
        losing["value"], 1.0,
        "a cut-off leader that goes on loses all of it"
    );
    assert!(losing["low"].as_f64().unwrap() > 0.2 && losing["high"] == 1.0);
    assert_eq!(row("raft", "partition-leader")["lost"], 0);
    let calm = &row("raft", "none")["measures"];
    for name in [
        "losing_faults",
        "write_rto_median",
        "stale_ms_p99",
        "throughput_faulty",
    ] {
        assert!(
            calm[name]["value"].is_null(),
            "{name} without a fault: {}",
            calm[name]
        );
    }
    assert!(
        calm["throughput_calm"]["low"].is_null(),
        "three runs have no such interval"
    );
    assert_eq!(calm["write_availability"]["value"], 1.0);

    let cells = std::fs::read_to_string(latest(store.path()).join("cells.jsonl")).unwrap();
    let cells: Vec<Value> = cells
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(cells.len(), 12);
    for cell in &cells {
        let repetition = cell["repetition"].as_u64().unwrap();
        assert_eq!(cell["seed"], 40 + repetition, "paired by seed");
    }
}

#[test]
fn cells_lost_from_the_end_are_run_again_and_no_others() {
    let store = tempfile::tempdir().unwrap();
    let whole = compare(store.path(), &MATRIX)
        .arg("-o=json")
        .output()
        .unwrap();
    let dir = latest(store.path());
    let file = dir.join("cells.jsonl");
    let cells = std::fs::read_to_string(&file).unwrap();
    let kept: usize = cells.split_inclusive('\n').take(6).map(str::len).sum();
    // Five whole cells, and the beginning of the sixth.
    std::fs::write(&file, &cells[..kept + 50]).unwrap();
    let resumed = resume(&dir);
    assert_eq!(scorecard(&resumed), scorecard(&whole));
    let again = std::fs::read_to_string(&file).unwrap();
    assert!(
        again.starts_with(&cells[..kept]),
        "finished cells stay as they are"
    );
    assert_eq!(again.lines().count(), 13);
    let timing = |output: &Output| -> Value {
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        all["timing"]["cells"].clone()
    };
    assert_eq!((timing(&whole), timing(&resumed)), (12.into(), 7.into()));
    assert_eq!(timing(&resume(&dir)), 0, "nothing is left to do");
}

#[test]
fn interrupted_it_says_how_to_go_on_and_comes_to_the_same() {
    let matrix = [
        "compare",
        "--on=sim",
        "--modes=async,raft",
        "--faults=kill-leader",
        "--repeat=40",
        "--jobs=1",
        "-o=json",
    ];
    let whole = tempfile::tempdir().unwrap();
    let whole = compare(whole.path(), &matrix).output().unwrap();
    let store = tempfile::tempdir().unwrap();
    let child = compare(store.path(), &matrix)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let cells = store.path().join("compare/latest/cells.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    let lines = || std::fs::read_to_string(&cells).map_or(0, |text| text.lines().count());
    while lines() < 3 {
        assert!(Instant::now() < deadline, "no cell was finished");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(text(&output.stdout), "");
    assert!(said.contains("compare --resume "), "{said}");
    let dir = latest(store.path());
    assert!(lines() < 81 && !dir.join("compare.html").exists());
    assert_eq!(scorecard(&resume(&dir)), scorecard(&whole));
}

#[test]
fn what_cannot_be_compared_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |mut command: Command, needles: &[&str]| {
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(254), "{said}");
        assert_eq!(text(&output.stdout), "");
        for needle in needles {
            assert!(said.contains(needle), "{needle} is missing: {said}");
        }
    };
    for (yaml, needles) in [
        (
            "nodes: 3\ncompare:\n  modes: [async, paxos]\n",
            vec!["c.yaml:3: compare.modes[1]:", "paxos", "raft"],
        ),
        (
            "compare:\n  modes: [async]\n  faults:\n    - kill-leader\n    - earthquake\n",
            vec!["c.yaml:5: compare.faults[1]:", "earthquake", "kill-leader"],
        ),
        (
            "compare:\n  repeat: 0\n",
            vec!["c.yaml:2: compare.repeat:", "1 to 10000"],
        ),
        ("compare:\n  repeat: often\n", vec!["c.yaml:2:", "often"]),
        (
            "compare:\n  mode: async\n",
            vec!["c.yaml:2:", "mode", "modes"],
        ),
        (
            "compare: {modes: [\"semi-sync(9)\"]}\n",
            vec![
                "c.yaml:1: compare.modes[0]:",
                "semi-sync(9)",
                "number of nodes",
            ],
        ),
    ] {
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut command = compare(dir.path(), &["compare"]);
        command.arg(&file);
        refused(command, &needles);
        let mut test = quorate();
        test.arg("test").arg(&file);
        refused(test, &["c.yaml:"]);
    }
    for (arguments, needles) in [
        (vec!["compare", "--modes=paxos"], vec!["--modes:", "raft"]),
        (
            vec!["compare", "--faults=earthquake"],
            vec!["--faults:", "kill"],
        ),
        (
            vec!["compare", "--repeat=0"],
            vec!["--repeat:", "1 to 10000"],
        ),
        (vec!["compare", "--mode=raft"], vec!["--mode", "--modes"]),
        (
            vec!["compare", "--nemesis=kill"],
            vec!["--nemesis", "--faults"],
        ),
        (
            vec!["compare", "--resume=/nonexistent"],
            vec!["/nonexistent", "comparison.yaml"],
        ),
        (
            vec!["compare", "--resume=/nonexistent", "--repeat=3"],
            vec!["--resume", "--jobs"],
        ),
        (
            vec!["compare", "/nonexistent.yaml"],
            vec!["/nonexistent.yaml"],
        ),
    ] {
        refused(compare(dir.path(), &arguments), &needles);
    }
    assert!(!dir.path().join("compare").exists(), "nothing was started");
}
