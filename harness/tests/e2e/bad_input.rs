//! Bad input gets one message with file, line, field and what was expected, and exit code 254,
//! before anything starts.

use std::process::Output;

use crate::quorate;

fn refused(output: &Output, needles: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(254), "{stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "expected {needle:?} in: {stderr}");
    }
    assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
}

fn experiment(text: &str) -> (tempfile::TempDir, Output) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("e.yaml");
    std::fs::write(&file, text).unwrap();
    let output = quorate()
        .arg("test")
        .arg(&file)
        .arg("--store")
        .arg(dir.path().join("store"))
        .output()
        .unwrap();
    assert!(!dir.path().join("store").exists(), "something was started");
    (dir, output)
}

#[test]
fn experiment_files_are_refused_by_line_and_field() {
    let cases: [(&str, &[&str]); 12] = [
        ("name: x\nnodse: 3\n", &["e.yaml:2:", "nodse", "nodes"]),
        ("nodes: many\n", &["e.yaml:1:", "nodes", "many"]),
        (
            "nodes: -3\n",
            &["e.yaml:1: nodes:", "expected a whole number"],
        ),
        ("name: x\nclients: 5\n", &["e.yaml:2: clients:", "fields"]),
        ("name: x\nnodes: 0\n", &["e.yaml:2: nodes:", "1 to 99"]),
        (
            "nodes: 5\ntarget:\n  mode: single-leader\n  ack: semi-sync(7)\n",
            &["e.yaml:4: target.ack:"],
        ),
        (
            "target:\n  ack: sometimes\n",
            &["e.yaml:2:", "semi-sync(k)"],
        ),
        (
            "faults:\n  schedule:\n    - {at: 1s, for: 2s, fault: kill, target: n9}\n",
            &["e.yaml:3: faults.schedule[0].target:", "n9"],
        ),
        (
            "faults:\n  packages: [earthquake]\n",
            &["e.yaml:2: faults.packages[0]:", "earthquake"],
        ),
        ("clients:\n  timeout: soon\n", &["e.yaml:2:", "soon"]),
        (
            "checks: [telepathy]\n",
            &["e.yaml:1: checks[0]:", "telepathy", "lost-writes"],
        ),
        (
            "simulation:\n  drop: 1.5\n",
            &["e.yaml:2: simulation.drop:"],
        ),
    ];
    for (text, needles) in cases {
        let (_dir, output) = experiment(text);
        refused(&output, needles);
    }
}

#[test]
fn flags_are_refused_by_name() {
    for (args, needles) in [
        (vec!["test", "--mode", "telepathy"], vec!["--mode", "raft"]),
        (
            vec!["test", "--workload", "mining"],
            vec!["--workload", "append"],
        ),
        (
            vec!["test", "--nemesis", "earthquake"],
            vec!["earthquake", "kill"],
        ),
        (vec!["test", "--rate", "-1"], vec!["clients.rate", "-1"]),
        (
            vec!["test", "--time-limit", "0s"],
            vec!["limits.time", "0s"],
        ),
        (vec!["test", "/nonexistent.yaml"], vec!["/nonexistent.yaml"]),
        (
            vec!["check", "/nonexistent.jsonl"],
            vec!["/nonexistent.jsonl"],
        ),
        (vec!["report", "/nonexistent"], vec!["/nonexistent"]),
    ] {
        refused(&quorate().args(&args).output().unwrap(), &needles);
    }
    for args in [
        ["test", "--no-such-flag"],
        ["test", "--test-count=0"],
        ["sim", "--jobs=0"],
        ["sim", "--jobs=999999"],
    ] {
        let output = quorate().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(254), "{args:?}");
    }
}

#[test]
fn a_schedule_file_is_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.yaml");
    std::fs::write(&file, "- {at: 1s, for: 1s, fault: kill, target: n1}\n- {at: 2s, for: 1s, fault: kill, target: n8}\n").unwrap();
    let output = quorate()
        .args(["test", "--schedule"])
        .arg(&file)
        .output()
        .unwrap();
    refused(&output, &["s.yaml:2:", "n8"]);
}

#[test]
fn a_corrupt_history_names_the_line_and_its_prefix_can_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.jsonl");
    let good = concat!(
        r#"{"index":0,"time":1,"process":0,"type":"invoke","f":"append","key":"k","value":1}"#,
        "\n",
        r#"{"index":1,"time":2,"process":0,"type":"ok","f":"append","key":"k","value":1}"#,
        "\n",
        r#"{"index":2,"time":3,"process":0,"type":"invoke","f":"read","key":"k","value":null}"#,
        "\n",
        r#"{"index":3,"time":4,"process":0,"type":"ok","f":"read","key":"k","value":[]}"#,
        "\n",
    );
    std::fs::write(&file, format!("{good}{{\"index\": oops\n{good}")).unwrap();
    let check = |extra: &[&str]| {
        quorate()
            .args(["check", "--workload", "append"])
            .args(extra)
            .arg(&file)
            .output()
            .unwrap()
    };
    refused(&check(&[]), &["h.jsonl", "5"]);
    let partial = check(&["--partial"]);
    assert_eq!(
        partial.status.code(),
        Some(1),
        "a lost write before the corrupt line is still found"
    );
}
