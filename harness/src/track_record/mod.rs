//! The track record: which anomalies runs have shown in stores that people use, how often, and what
//! others have published of them.
//!
//! Its rows are a file: an experiment each, so many seeds of it, and the published analysis. What came
//! of running them is kept in a file beside it, row by row, and the table of the docs is made of both:
//! nothing in it is written by hand but the words of the rows.

pub mod render;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use checkers::Verdict;
use serde::{Deserialize, Serialize};

use crate::exit;
use crate::experiment::parse_yaml;
use crate::report::Summary;

/// A row: what is run, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name: letters, digits, `-`.
    pub name: String,
    /// The fault, in words.
    pub fault: String,
    /// The checkers whose findings are told.
    pub checks: Vec<String>,
    /// Seeds 1 to this, at least 1.
    pub seeds: u64,
    /// The published analysis that found it before, or what its makers say: a link in Markdown, and
    /// what it says.
    pub published: String,
    /// Where the result differs from that: how, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// The experiment, as in a file of its own.
    pub experiment: serde_yaml::Value,
}

/// What came of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The store's name.
    pub store: String,
    /// The first line that the store tells of its version.
    pub version: String,
    /// Its mode, in words.
    pub mode: String,
    /// Runs made.
    pub runs: u64,
    /// Acknowledged operations, all runs together.
    pub acknowledged: u64,
    /// What each checker found.
    pub findings: BTreeMap<String, Finding>,
}

/// What a checker found in all runs of a row together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Runs that it found invalid.
    pub invalid: u64,
    /// Runs of which it could not say.
    pub unknown: u64,
    /// Operations that it judged.
    pub judged: u64,
    /// Anomalies by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub anomalies: BTreeMap<String, u64>,
    /// Of lost writes and stale reads: how many, and of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<(u64, u64)>,
}

/// What came of rows, by name.
pub type Records = BTreeMap<String, Record>;

/// Reads the rows of a file.
///
/// # Errors
/// If it cannot be read, or says what cannot be.
pub fn rows(file: &Path) -> Result<Vec<Row>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut rows: Vec<Row> = parse_yaml(&text, &file.display().to_string())?;
    for row in &mut rows {
        let merged = row.experiment.apply_merge();
        merged.with_context(|| format!("{}: what `<<` names cannot be merged", row.name))?;
    }
    for (i, row) in rows.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = &row.name;
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "{name:?} is no name of a row: expected letters, digits and -"
        );
        ensure!(
            rows[..i].iter().all(|other| other.name != *name),
            "two rows are called {name}"
        );
        ensure!(row.seeds > 0, "{name}: expected at least one seed");
        ensure!(
            !row.checks.is_empty(),
            "{name}: expected at least one check"
        );
        ensure!(
            row.experiment.is_mapping(),
            "{name}: expected an experiment, as in a file of its own"
        );
    }
    Ok(rows)
}

/// Where the records of a file of rows are kept: beside it, as JSON.
pub fn records_file(rows: &Path) -> PathBuf {
    rows.with_extension("json")
}

/// What is kept beside a file of rows; nothing if there is no such file yet.
///
/// # Errors
/// If it cannot be read, or is something else.
pub fn records(rows: &Path) -> Result<Records> {
    let file = records_file(rows);
    if !file.exists() {
        return Ok(Records::new());
    }
    let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no such record", file.display()))
}

impl Row {
    /// Runs it: each seed a `quorate test` of its own, kept in `store`.
    ///
    /// # Errors
    /// If a run could not be made; a violation is none.
    pub fn run(&self, store: &Path, mut told: impl FnMut(u64)) -> Result<Record> {
        let mut experiment = self.experiment.clone();
        if let Some(fields) = experiment.as_mapping_mut() {
            fields.insert("name".into(), self.name.as_str().into());
        }
        fs::create_dir_all(store).with_context(|| format!("cannot make {}", store.display()))?;
        let file = store.join(format!("{}.yaml", self.name));
        let text = serde_yaml::to_string(&experiment)?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let mut record = Record::default();
        for seed in 1..=self.seeds {
            told(seed);
            let run = run_once(&file, seed, store)?;
            let latest = store.join(&self.name).join("latest");
            let summary = Summary::load(&latest.join("verdict.json"))?;
            ensure!(
                summary.exit_code == run,
                "{}: seed {seed} ended with {run}, its verdict says {}",
                self.name,
                summary.exit_code
            );
            let version = fs::read_to_string(latest.join("nodes/version.txt"));
            version
                .unwrap_or_default()
                .trim()
                .clone_into(&mut record.version);
            record.add(&summary, &self.checks)?;
        }
        Ok(record)
    }
}

/// One run; its exit code.
fn run_once(file: &Path, seed: u64, store: &Path) -> Result<i32> {
    let output = Command::new(std::env::current_exe().context("cannot find this program")?)
        .arg("test")
        .arg(file)
        .args(["--seed", &seed.to_string()])
        .arg("--store")
        .arg(store)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("cannot start a run")?;
    let judged = [exit::VALID, exit::INVALID, exit::UNKNOWN].map(i32::from);
    match output.status.code() {
        Some(code) if judged.contains(&code) => Ok(code),
        _ => bail!(
            "seed {seed} of {} could not be run ({}): {}",
            file.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

impl Record {
    /// Adds a run.
    fn add(&mut self, summary: &Summary, checks: &[String]) -> Result<()> {
        self.runs += 1;
        self.store.clone_from(&summary.target);
        self.mode.clone_from(&summary.mode);
        self.acknowledged += summary.ops.all.ok;
        for check in checks {
            let result = summary.result(check);
            let result = result.with_context(|| format!("{check} did not judge the run"))?;
            let finding = self.findings.entry(check.clone()).or_default();
            finding.judged += result.judged;
            match result.verdict {
                Verdict::Valid => {}
                Verdict::Invalid => finding.invalid += 1,
                Verdict::Unknown(_) => finding.unknown += 1,
            }
            for anomaly in &result.anomalies {
                *finding.anomalies.entry(anomaly.class.clone()).or_default() += 1;
            }
            let figure = |name: &str| result.figures.get(name).and_then(serde_json::Value::as_u64);
            let share = match check.as_str() {
                "lost-writes" => figure("lost").zip(figure("acknowledged")),
                "stale-reads" => figure("stale").zip(figure("reads")),
                _ => None,
            };
            if let Some((some, all)) = share {
                let (before, of) = finding.share.unwrap_or_default();
                finding.share = Some((before + some, of + all));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
- name: two
  fault: none
  checks: [linearizable]
  seeds: 2
  published: nothing
  experiment: {nodes: 3}
";

    fn read(text: &str) -> Result<Vec<Row>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("rows.yaml");
        fs::write(&file, text)?;
        rows(&file)
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        assert_eq!(read(ROWS).unwrap()[0].seeds, 2);
        for (from, to, part) in [
            ("two", "t w o", "is no name of a row"),
            ("seeds: 2", "seeds: 0", "at least one seed"),
            ("[linearizable]", "[]", "at least one check"),
            ("{nodes: 3}", "three", "expected an experiment"),
            ("fault", "faults", "faults"),
        ] {
            let said = read(&ROWS.replace(from, to)).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
        let twice = format!("{ROWS}{ROWS}");
        let said = read(&twice).unwrap_err().to_string();
        assert!(said.contains("two rows are called two"), "{said}");
    }
}
