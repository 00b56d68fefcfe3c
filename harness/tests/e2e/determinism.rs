//! The same seed gives the same history, to the byte, in separate processes.

use crate::{quorate, run_dir};

fn history(store: &std::path::Path, mode: &str, seed: &str) -> Vec<u8> {
    let status = quorate()
        .args([
            "test",
            "--on",
            "sim",
            "--mode",
            mode,
            "--seed",
            seed,
            "--time-limit",
            "8s",
        ])
        .args([
            "--nemesis",
            "all",
            "--nemesis-interval",
            "1s",
            "-o",
            "json",
            "--store",
        ])
        .arg(store)
        .output()
        .unwrap()
        .status;
    assert!(matches!(status.code(), Some(0..=2)), "{status}");
    std::fs::read(run_dir(store).join("history.jsonl")).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_history_to_the_byte() {
    for mode in ["async", "raft"] {
        let (one, two, other) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let first = history(one.path(), mode, "7");
        assert!(
            first.len() > 10_000,
            "{mode}: the history is too short to say anything"
        );
        assert!(
            first == history(two.path(), mode, "7"),
            "{mode}: seed 7 gave two histories"
        );
        assert!(
            first != history(other.path(), mode, "8"),
            "{mode}: the seed changes nothing"
        );
    }
}

#[test]
fn the_command_that_repeats_a_run_can_be_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("a store");
    let run = quorate()
        .args(["test", "--on", "sim", "--time-limit", "3s", "--seed", "9"])
        .arg("--store")
        .arg(&store)
        .output()
        .unwrap();
    let first = run_dir(&store);
    let verdict = std::fs::read_to_string(first.join("verdict.json")).unwrap();
    let verdict: serde_json::Value = serde_json::from_str(&verdict).unwrap();
    let again = std::process::Command::new("sh")
        .arg("-c")
        .arg(verdict["reproduce"].as_str().unwrap())
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(again.status.code(), run.status.code());
    let second = run_dir(&store);
    assert_ne!(first, second, "the run is repeated in the same store");
    let history = |run: &std::path::Path| std::fs::read(run.join("history.jsonl")).unwrap();
    assert!(history(&first) == history(&second));
}
