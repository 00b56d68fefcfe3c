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
    let cases: [(&str, &[&str]); 32] = [
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
            "faults:\n  schedule:\n    - sequence:\n        - wait: 1s\n        - {fault: kil, target: n1, for: 1s}\n",
            &["e.yaml:5:", "schedule[0].sequence[1].fault", "kil"],
        ),
        (
            "faults:\n  schedule:\n    - at: 1s\n      do: [{wait: 1s}]\n",
            &[
                "e.yaml:3:",
                "schedule[0]",
                "expected one of fault, sequence",
            ],
        ),
        (
            "faults:\n  schedule:\n    - repeat: 2\n      target: n1\n      do: [{wait: 1s}]\n",
            &["e.yaml:3:", "`target` does not apply to repeat"],
        ),
        (
            "faults:\n  schedule:\n    - repeat: 2\n      do:\n        - fault: kill\n          target: $nobody\n          for: 1s\n",
            &["e.yaml:6: faults.schedule[0].do[0].target:", "as: nobody"],
        ),
        (
            "faults:\n  schedule:\n    - choose:\n        - {do: [{use: earthquake}]}\n",
            &[
                "e.yaml:4: faults.schedule[0].choose[0].do[0].use:",
                "earthquake",
            ],
        ),
        (
            "faults:\n  schedule:\n    - {at: 1s, when: {moon: full}, do: [{wait: 1s}]}\n",
            &["e.yaml:3:", "moon", "leader_changes"],
        ),
        (
            "faults:\n  schedule:\n    - {at: 1s, for: 4s..2s, fault: kill, target: n1}\n",
            &["e.yaml:3:", "for", "ends before it begins"],
        ),
        (
            "faults:\n  hurt_at_most: 1\n  schedule:\n    - {at: 1s, for: 1s, fault: kill, target: all}\n",
            &["e.yaml:4: faults.schedule[0].target:", "at most 1 may be"],
        ),
        (
            "faults:\n  targets: [n1, n9]\n",
            &["e.yaml:2: faults.targets[1]:", "n1 to n5"],
        ),
        (
            "target: {mode: leaderless}\nfaults:\n  packages: [kill-leader]\n",
            &["e.yaml:3: faults.packages[0]:", "nobody leads"],
        ),
        (
            "checks: [telepathy]\n",
            &["e.yaml:1: checks[0]:", "telepathy", "lost-writes"],
        ),
        (
            "simulation:\n  drop: 1.5\n",
            &["e.yaml:2: simulation.drop:"],
        ),
        (
            "target: {mode: leaderless}\nworkload: append\n",
            &["e.yaml:2: workload:", "conflict", "leaderless"],
        ),
        (
            "target:\n  gateways: 99\n",
            &["e.yaml:2: target.gateways:", "0 to 9"],
        ),
        (
            "target:\n  semi_sync_timeout_ms: 0\n",
            &["e.yaml:2: target.semi_sync_timeout_ms:", "1 to 600000"],
        ),
        (
            "target:\n  mode: multi-leader\n  multi_leader:\n    conflicts: procedure\n    procedure: 'fn ('\n",
            &["e.yaml:5: target.multi_leader.procedure:", "line 1"],
        ),
        (
            "target:\n  bugs: [no-such]\n",
            &["e.yaml:2: target.bugs[0]:", "no-such", "hint-dropped"],
        ),
        (
            "target:\n  mode: leaderless\n  leaderless:\n    r: 9\n",
            &["e.yaml:4: target.leaderless.r:", "1 to 3"],
        ),
        (
            "target:\n  mode: raft\n  initial_members: 9\n",
            &["e.yaml:3: target.initial_members:", "1 to 5"],
        ),
        (
            "target:\n  partial: {5: k}\n  stream: wal\n",
            &["e.yaml:2: target.partial:", "logical"],
        ),
        (
            "clients:\n  policy: gateway\n",
            &["e.yaml:2: clients.policy:", "target.gateways"],
        ),
        (
            "target: {mode: raft}\nfaults:\n  packages: [move-home]\n",
            &["e.yaml:3: faults.packages[0]:", "move-home"],
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
        (
            vec!["test", "--mode", "semi-sync(9)"],
            vec!["target.ack", "k is 9"],
        ),
        (
            vec!["test", "--mode", "leaderless", "--workload", "append"],
            vec!["workload", "conflict"],
        ),
        (vec!["compare", "--modes", "nope"], vec!["--modes", "raft"]),
        (
            vec!["compare", "--modes", "async,semi-sync(9)"],
            vec!["--modes", "semi-sync(9)", "k is 9"],
        ),
        (
            vec!["compare", "--modes", "async", "--faults", "nope"],
            vec!["--faults", "kill-leader"],
        ),
        (vec!["truth", "nope"], vec!["nope", "async-kill-leader"]),
        (vec!["museum", "nope"], vec!["nope", "hint-dropped"]),
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
