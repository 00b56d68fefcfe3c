//! Recorded histories of banks, counters and sets with known verdicts, in the folder
//! `../shared/histories` beside the workspace, if it is there.

use std::path::{Path, PathBuf};

use checkers::format::{self, ReadOptions};
use checkers::{Bank, Checker, Counter, F, History, SetFull, Verdict};
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

/// As elle-cli reads them, which knows no `jepsen.independent`: the set adds `[0 n]`, and its read
/// shows `n` for all of them. (With `0` for a key, nothing is wrong with that set.)
fn read(path: &Path) -> History {
    let options = ReadOptions {
        independent: Some(false),
        ..ReadOptions::default()
    };
    let report = format::read_path(path, None, &options);
    report.unwrap_or_else(|e| panic!("{e}")).history
}

#[test]
fn anomalies_agree_with_the_known_verdicts() {
    let Some(folder) = folder() else { return };
    let manifest = std::fs::read(folder.join("manifest.json")).expect("the manifest is readable");
    let entries: Vec<Entry> =
        serde_json::from_slice(&manifest).expect("the manifest lists files and verdicts");
    let mut checked = 0;
    for entry in entries {
        let checker: Box<dyn Checker> = match entry.model.as_str() {
            "bank" => Box::new(Bank::default()),
            "counter" => Box::new(Counter),
            "set-full" => Box::new(SetFull::default()),
            _ => continue,
        };
        let history = read(&folder.join(&entry.file));
        let result = checker.check(&history);
        let expected = match entry.verdict.as_str() {
            "valid" => Verdict::Valid,
            "invalid" => Verdict::Invalid,
            other => panic!("{}: verdict {other}", entry.file),
        };
        checked += 1;
        // A counter that nobody ever read: nobody's proof of anything.
        let never_read = history.events.iter().all(|e| e.f != F::Read);
        if never_read {
            let nothing = Verdict::Unknown("nothing-to-judge".to_owned());
            assert_eq!(result.verdict, nothing, "{}", entry.file);
            continue;
        }
        assert_eq!(result.verdict, expected, "{}: {result:#?}", entry.file);
        for anomaly in &result.anomalies {
            assert!(!anomaly.ops.is_empty(), "{}: {anomaly:?}", entry.file);
        }
    }
    assert!(checked >= 5, "the manifest names {checked} of them");
}

#[test]
fn what_is_wrong_in_them_is_counted() {
    let Some(folder) = folder() else { return };
    let bank = read(&folder.join("elle-cli/jepsen/bank-tidb.edn"));
    let result = Bank::default().check(&bank);
    assert_eq!(result.figures["reads"], 1_805);
    // 74 reads show the 100 that the bank began with.
    assert_eq!(result.figures["total"], 100);
    assert_eq!(result.figures["wrong_total"], 1_805 - 74);
    assert_eq!(result.figures["negative_balance"], 0);
    // Elements were added as `[0 n]` and read as `n`.
    let set = read(&folder.join("elle-cli/jepsen/set_full.json"));
    let result = SetFull::default().check(&set);
    assert_eq!(result.figures["lost"], 293);
    assert_eq!(result.figures["unexpected"], 293);
}
