//! The runs of a store, as they lie on disk: `<store>/<name>/<UTC time>/verdict.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::report::Summary;

/// One run directory.
#[derive(Debug)]
pub struct Run {
    /// The experiment's name: the folder in the store.
    pub name: String,
    /// When it started: the folder's name.
    pub time: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// What it came to; or why that cannot be read, e.g. because it still runs.
    pub summary: Result<Summary, String>,
}

impl Run {
    /// Reads what a run came to.
    pub(super) fn read(name: String, time: String, directory: PathBuf) -> Self {
        let verdict = directory.join("verdict.json");
        let summary = if verdict.exists() {
            Summary::load(&verdict).map_err(|e| format!("{e:#}"))
        } else {
            Err("no verdict yet: it is running, or was killed".to_owned())
        };
        Self {
            name,
            time,
            directory,
            summary,
        }
    }
}

/// All runs of a store, newest first. A store that does not exist has none; links (`latest`) and
/// files are no runs.
///
/// # Errors
/// If a directory exists and cannot be read.
pub fn list(store: &Path) -> anyhow::Result<Vec<Run>> {
    let found = crate::store::runs(store)
        .with_context(|| format!("cannot read the store {}", store.display()))?;
    Ok(found
        .into_iter()
        .map(|run| Run::read(run.name, run.time, run.path))
        .collect())
}

/// The files of a run and their sizes in bytes, two levels deep (`nodes/n1.log`), by name.
pub(super) fn files(directory: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    collect(directory, "", 0, &mut found);
    found.sort();
    found
}

fn collect(directory: &Path, prefix: &str, depth: u8, found: &mut Vec<(String, u64)>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else {
            continue;
        };
        if !super::is_segment(&name) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if kind.is_file() {
            found.push((path, entry.metadata().map_or(0, |m| m.len())));
        } else if kind.is_dir() && depth < 2 {
            collect(&entry.path(), &format!("{path}/"), depth + 1, found);
        }
    }
}
