//! `quorate preflight`: the three answers, in simulation and on processes, and what is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::quorate;

fn preflight(store: &Path, arguments: &[&str]) -> Output {
    let mut command = quorate();
    command.args(["preflight", "-o=json", "--seed=1", "--rolls=1"]);
    command.args(arguments).arg("--store").arg(store);
    command.output().unwrap()
}

/// What it has said, which is also in the store.
fn report(store: &Path, output: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    let dir = std::fs::canonicalize(store.join("preflight/latest")).unwrap();
    let kept = std::fs::read_to_string(dir.join("preflight.json")).unwrap();
    assert_eq!(kept, stdout);
    for file in ["preflight.html", "preflight.md"] {
        assert!(dir.join(file).exists(), "{file}");
    }
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let word = ["go", "no-go", "unknown"][code as usize];
    assert_eq!(report["outcome"], word);
    report
}

fn reasons(report: &Value) -> String {
    let reasons = report["reasons"].as_array().unwrap();
    let reasons: Vec<_> = reasons.iter().filter_map(Value::as_str).collect();
    reasons.join("\n")
}

/// A single-leader store of three nodes that ships its log in this form.
fn experiment(dir: &Path, stream: &str) -> String {
    let file = dir.join(format!("{stream}.yaml"));
    let text = format!(
        "name: {stream}\nnodes: 3\nclients: {{rate: 100}}\n\
         target: {{ack: semi-sync(1), failover_requires_majority: true, stream: {stream}}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_pair_that_goes_together_is_a_go() {
    let store = tempfile::tempdir().unwrap();
    let file = experiment(store.path(), "logical");
    let output = preflight(store.path(), &[&file, "--on=sim", "--from=@2", "--to=@3"]);
    let report = report(store.path(), &output, 0);
    let roll = &report["rolls"][0];
    assert_eq!(roll["changes"], serde_json::json!([6, 6]));
    let faults = roll["faults"].as_array().unwrap();
    for kind in ["kill", "pause", "partition"] {
        let times = faults.iter().filter(|fault| *fault == kind).count();
        assert_eq!(times, 4, "{kind}: {faults:?}");
    }
    for part in roll["parts"].as_array().unwrap() {
        let writes = part["writes"].as_u64().unwrap();
        assert!(
            writes > 0 || part["what"] == "all old, last reads",
            "{part}"
        );
    }
    let limit = report["risks"][0]["at_most"].as_f64().unwrap();
    assert!((limit - 0.95).abs() < 1e-9, "of one roll: {limit}");
    // Each roll is a run like any other, and can be run again.
    let run = PathBuf::from(roll["run"].as_str().unwrap());
    for file in [
        "history.jsonl",
        "verdict.json",
        "report.html",
        "schedule.yaml",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    let again = quorate()
        .arg("test")
        .arg(run.join("experiment.yaml"))
        .arg("--store")
        .arg(store.path().join("again"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0), "{again:?}");
}

#[test]
fn a_pair_that_only_breaks_when_mixed_is_a_no_go() {
    let store = tempfile::tempdir().unwrap();
    let file = experiment(store.path(), "wal");
    let output = preflight(store.path(), &[&file, "--on=sim", "--from=@2", "--to=@3"]);
    let reasons = reasons(&report(store.path(), &output, 1));
    assert!(
        reasons.contains("the leader ships storage format 2"),
        "{reasons}"
    );
}

#[test]
fn a_way_back_that_is_closed_is_a_no_go() {
    let store = tempfile::tempdir().unwrap();
    let file = experiment(store.path(), "logical");
    let arguments = [&file, "--on=sim", "--from=@1", "--to=@2", "--faults=none"];
    let output = preflight(store.path(), &arguments);
    let report = report(store.path(), &output, 1);
    let reasons = reasons(&report);
    assert!(reasons.contains("downgrade: n3 refuses"), "{reasons}");
    assert_eq!(report["rolls"][0]["changes"], serde_json::json!([3, 6]));
}

#[test]
fn what_is_lost_without_an_upgrade_too_leaves_it_open() {
    let store = tempfile::tempdir().unwrap();
    let arguments = [
        "--mode=async",
        "--nodes=3",
        "--on=sim",
        "--from=@2",
        "--to=@3",
    ];
    let output = preflight(store.path(), &arguments);
    let report = report(store.path(), &output, 2);
    let reasons = reasons(&report);
    assert!(reasons.contains("lost-writes"), "{reasons}");
    assert!(reasons.contains("so it is without an upgrade"), "{reasons}");
    let controls = report["rolls"][0]["controls"].as_array().unwrap();
    assert!(!controls.is_empty());
}

/// A program that runs this instead of a node.
fn script(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn two_programs_are_rolled_on_this_machine() {
    let store = tempfile::tempdir().unwrap();
    let path = |name: &str| store.path().join(name).display().to_string();
    for name in ["a", "b"] {
        std::fs::hard_link(env!("CARGO_BIN_EXE_quorate"), path(name))
            .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_quorate"), path(name)).map(drop))
            .unwrap();
    }
    let (from, to) = (
        format!("--from={}", path("a")),
        format!("--to={}@2", path("b")),
    );
    let output = preflight(store.path(), &[&from, &to, "--faults=kill"]);
    let report = report(store.path(), &output, 0);
    assert_eq!(report["substrate"], "local");
    let run = PathBuf::from(report["rolls"][0]["run"].as_str().unwrap());
    let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap();
    for proof in [
        format!("n3 runs {} (pid ", path("b")),
        format!("n1 runs {} (pid ", path("a")),
    ] {
        assert!(history.contains(&proof), "{proof}");
    }
}

#[test]
fn both_answers_in_networks_of_their_own() {
    if let Err(why) = nemesis::mechanism::namespace::available() {
        eprintln!("skipped: preflight on netns: {why}");
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let versions = [format!("--from={quorate}@2"), format!("--to={quorate}@3")];
    for (stream, code) in [("logical", 0), ("wal", 1)] {
        let file = experiment(store.path(), stream);
        let arguments = [&file, "--on=netns", &versions[0], &versions[1]];
        let output = preflight(store.path(), &arguments);
        let report = report(store.path(), &output, code);
        assert_eq!(report["substrate"], "netns");
        if code == 1 {
            let said = reasons(&report);
            // Which node refuses first, and whether it says so or is only seen to stand still, depends
            // on who leads when.
            let refuses = said.contains(" refuses: the leader ships");
            let stands = said.contains(" stopped replicating while the cluster was ");
            assert!(refuses || stands, "{said}");
            continue;
        }
        let roll = &report["rolls"][0];
        assert_eq!(roll["changes"], serde_json::json!([6, 6]));
        let faults = roll["faults"].as_array().unwrap();
        for kind in ["kill", "pause", "partition"] {
            let times = faults.iter().filter(|fault| *fault == kind).count();
            assert_eq!(times, 4, "{kind}: {faults:?}");
        }
    }
}

#[test]
fn a_version_that_does_not_start_is_a_no_go_and_if_it_is_the_old_one_unknown() {
    let store = tempfile::tempdir().unwrap();
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let broken = script(store.path(), "broken", "echo no such option >&2; exit 3");
    let versions = [format!("--from={quorate}"), format!("--to={broken}")];
    let output = preflight(store.path(), &[&versions[0], &versions[1], "--faults=none"]);
    let said = reasons(&report(store.path(), &output, 1));
    assert!(said.contains("n3"), "{said}");
    assert!(
        said.contains("did not come up") || said.contains("nobody killed it"),
        "{said}"
    );
    let versions = [format!("--from={broken}"), format!("--to={quorate}")];
    let output = preflight(store.path(), &[&versions[0], &versions[1]]);
    let said = reasons(&report(store.path(), &output, 2));
    assert!(said.contains("could not be made"), "{said}");
}

#[test]
fn bad_input_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let here = env!("CARGO_BIN_EXE_quorate");
    for (arguments, says) in [
        (vec!["--from=@1"], "--to is missing"),
        (vec!["--from=@1", "--to=@1"], "another version"),
        (vec!["--from=@1", "--to=@0"], "from 1 to 1000"),
        (
            vec!["--from=@1", "--to=@2", "--time=1s"],
            "--time: expected at least",
        ),
        (vec!["--from=@1", "--to=@2", "--nemesis=kill"], "--faults"),
        (
            vec!["--from=@1", "--to=@2", "--faults=fire"],
            "kill, pause, partition",
        ),
        (
            vec!["--on=local", "--from=@1", "--to=/nonexistent/q"],
            "--to: expected the path",
        ),
        (
            vec!["--on=sim", "--from=@1", "--to", here],
            "--to: in simulation",
        ),
    ] {
        let output = preflight(&store, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(254), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(!store.exists(), "{arguments:?}");
    }
}
