//! What fails is written as small as it can be, and fails again by itself.

use serde_json::Value;

use crate::{quorate, run_dir};

#[test]
fn an_invalid_run_leaves_a_minimal_history_that_fails_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = quorate()
        .args(["test", "--on", "sim", "--seed", "3", "--time-limit", "10s"])
        .arg("--store")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(test.status.code(), Some(1));
    let run = run_dir(dir.path());
    let minimal = run.join("minimal.jsonl");
    let screen = String::from_utf8_lossy(&test.stdout).into_owned();
    assert!(screen.contains("minimal.jsonl"), "{screen}");
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    let (small, whole) = (lines(minimal.clone()), lines(run.join("history.jsonl")));
    assert!(
        small >= 2 && small * 10 < whole,
        "{small} of {whole} events"
    );
    let again = quorate().arg("check").arg(&minimal).output().unwrap();
    assert_eq!(
        again.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );

    // The same by hand, from the history; and the command that is printed works.
    let (out, page) = (dir.path().join("out.jsonl"), dir.path().join("out.html"));
    let check = quorate()
        .args(["check", "-o", "json", "--minimal"])
        .arg(&out)
        .arg("--picture")
        .arg(&page)
        .arg(run.join("history.jsonl"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(verdict["verdict"], "invalid");
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    let checker = said
        .split("--checks ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next();
    let again = quorate()
        .args(["check", "--checks", checker.unwrap()])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1), "{said}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg class=\"evidence\""));
}

#[test]
fn a_valid_run_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let test = quorate()
        .args(["test", "--on", "sim", "--mode", "raft", "--nemesis", "none"])
        .args(["--seed", "3", "--time-limit", "3s", "--store"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(test.status.code(), Some(0));
    assert!(!run_dir(dir.path()).join("minimal.jsonl").exists());
}
