//! Recorded histories of transactions with known verdicts, in the folder `../shared/histories`
//! beside the workspace, if it is there: its `manifest.json` names the files and what is known of
//! them.

use std::path::{Path, PathBuf};

use checkers::format::{self, ReadOptions};
use checkers::{CheckResult, Checker, ListAppend, RwRegister, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    file: String,
    model: String,
    verdict: String,
}

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/histories");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn entries(folder: &Path) -> Vec<Entry> {
    let manifest = std::fs::read(folder.join("manifest.json")).expect("the manifest is readable");
    serde_json::from_slice(&manifest).expect("the manifest lists files and verdicts")
}

fn check(path: &Path, checker: &dyn Checker) -> CheckResult {
    let report =
        format::read_path(path, None, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    checker.check(&report.history)
}

#[test]
fn transactions_agree_with_the_known_verdicts() {
    let Some(folder) = folder() else { return };
    let mut checked = 0;
    for entry in entries(&folder) {
        let checker: Box<dyn Checker> = match entry.model.as_str() {
            "list-append" => Box::new(ListAppend::default()),
            "rw-register" => Box::new(RwRegister::default()),
            _ => continue,
        };
        let result = check(&folder.join(&entry.file), &*checker);
        let expected = if entry.verdict.starts_with("invalid") {
            Verdict::Invalid
        } else {
            Verdict::Valid
        };
        let told: Vec<_> = result
            .anomalies
            .iter()
            .take(3)
            .map(|a| &a.summary)
            .collect();
        println!(
            "{}: {:?}\n{told:#?}\n{:#?}",
            entry.file, result.verdict, result.figures
        );
        assert_eq!(result.verdict, expected, "{}", entry.file);
        checked += 1;
    }
    println!("{checked} histories checked");
    assert!(checked > 0, "the manifest names no history of transactions");
}
