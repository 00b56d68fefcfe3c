//! Recorded histories with known verdicts, in the folder `../shared/histories` beside the
//! workspace, if it is there: its `manifest.json` names the files and what is known of them.

use std::path::{Path, PathBuf};

use checkers::format::{self, ReadOptions};
use checkers::linearizable::Model;
use checkers::{Checker, Format, Kind, Linearizable, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    file: String,
    format: String,
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

#[test]
fn linearizability_agrees_with_the_known_verdicts() {
    let Some(folder) = folder() else { return };
    let mut checked = 0;
    let mut wrong = Vec::new();
    for entry in entries(&folder) {
        let (model, refused_cas_constrains) = match entry.model.as_str() {
            "cas-register" => (Model::Register, false),
            m if m.starts_with("cas-register (") => (Model::Register, true),
            m if m.starts_with("kv ") => (Model::Text, false),
            _ => continue,
        };
        let report = format::read_path(&folder.join(&entry.file), None, &ReadOptions::default())
            .unwrap_or_else(|e| panic!("{e}"));
        let expected_format = match entry.format.as_str() {
            "jepsen-text-log" => Format::JepsenLog,
            "porcupine-kv-log" => Format::PorcupineKv,
            _ => Format::Edn,
        };
        assert_eq!(report.format, expected_format, "{}", entry.file);
        let linearizable = Linearizable {
            model: Some(model),
            refused_cas_constrains,
            ..Linearizable::default()
        };
        let result = linearizable.check(&report.history);
        let expected = match entry.verdict.as_str() {
            "valid" => Verdict::Valid,
            "invalid" => Verdict::Invalid,
            other => panic!("{}: verdict {other}", entry.file),
        };
        checked += 1;
        // Not one operation of it succeeded, which is nobody's proof of anything.
        let vacuous = result.verdict == Verdict::Unknown("nothing-to-judge".to_owned());
        let none_ok = report.history.events.iter().all(|e| e.kind != Kind::Ok);
        assert_eq!(vacuous, none_ok, "{}", entry.file);
        if vacuous {
            continue;
        }
        if result.verdict != expected {
            wrong.push(format!(
                "{}: {:?}, expected {expected:?}",
                entry.file, result.verdict
            ));
        }
        if model == Model::Text {
            let found = Linearizable::default().check(&report.history);
            assert_eq!(
                found.verdict, result.verdict,
                "{} by its content",
                entry.file
            );
        }
        for anomaly in &result.anomalies {
            assert!(
                !anomaly.ops.is_empty(),
                "{}: {}",
                entry.file,
                anomaly.summary
            );
        }
    }
    println!("{checked} histories checked");
    assert!(
        checked > 0,
        "the manifest names no history that a model fits"
    );
    assert!(
        wrong.is_empty(),
        "{} of {checked} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_history_survives_every_format_that_can_hold_it() {
    let Some(folder) = folder() else { return };
    for entry in entries(&folder) {
        let report = format::read_path(&folder.join(&entry.file), None, &ReadOptions::default())
            .unwrap_or_else(|e| panic!("{e}"));
        for to in [Format::Jsonl, Format::Json, Format::Edn, report.format] {
            let mut out = Vec::new();
            format::write(&mut out, &report.history, to).unwrap_or_else(|e| panic!("{e}"));
            let again = format::read_bytes(&out, Some(to), &ReadOptions::default())
                .unwrap_or_else(|e| panic!("{} as {}: {e}", entry.file, to.name()));
            assert!(
                again.history == report.history,
                "{} does not survive {}",
                entry.file,
                to.name()
            );
        }
    }
}
