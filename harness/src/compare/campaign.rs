//! The directory of a comparison, `store/compare/<UTC time>/`:
//!
//! * `comparison.yaml`: what is compared, with all defaults written out.
//! * `cells.jsonl`: a first line that says of which definition the rest is; then every finished
//!   cell, a line each, appended as it is finished.
//! * `cells/`: the run directories of cells on real machines.
//! * `scorecard.json`, `scorecard.md`, `compare.html`: once all cells are finished.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::definition::{Definition, Place};
use crate::defaults::Given;
use crate::experiment::{Experiment, ExperimentError, explain};
use crate::store;

/// The version of `cells.jsonl`.
const SCHEMA: u32 = 1;
const DEFINITION: &str = "comparison.yaml";
const CELLS: &str = "cells.jsonl";

/// The first line of `cells.jsonl`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    comparison: u32,
    definition: String,
    quorate: String,
}

impl Header {
    fn of(definition: &Definition) -> Self {
        Self {
            comparison: SCHEMA,
            definition: definition.fingerprint(),
            quorate: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// An open comparison: finished cells are appended to it.
#[derive(Debug)]
pub struct Campaign {
    dir: PathBuf,
    cells: File,
}

impl Campaign {
    /// Makes a new directory for a comparison.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(store: &Path, definition: &Definition, now: Timestamp) -> Result<Self> {
        let dir = store::create_dir(store, "compare", now)?;
        store::write_whole(&dir.join(DEFINITION), &definition.to_yaml())?;
        let path = dir.join(CELLS);
        let mut cells =
            File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        append(&mut cells, &Header::of(definition))?;
        Ok(Self { dir, cells })
    }

    /// Opens the directory of an interrupted comparison: its definition, and the cells that are
    /// finished. A torn last line, of a cell that was being written when the power went, is cut off.
    ///
    /// # Errors
    /// [`ExperimentError`] if it is no such directory, if its definition has been changed since, or
    /// if a line before the last is no cell of it.
    pub fn resume(dir: &Path) -> Result<(Self, Definition, Vec<Cell>)> {
        let file = dir.join(DEFINITION);
        let shown = file.display().to_string();
        if !file.is_file() || !dir.join(CELLS).is_file() {
            return Err(refused(format!(
                "--resume: {} is no directory of a comparison: it lacks {DEFINITION} or {CELLS}; they are below store/compare",
                dir.display()
            )));
        }
        let (experiment, text) = Experiment::read(&file)?;
        let definition = Definition::new(experiment, Given::default(), 0)
            .map_err(|impossible| explain(&impossible, &shown, Some(&text)))?;
        let path = dir.join(CELLS);
        let mut cells = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut text = String::new();
        cells
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let found = parse(&text, &definition)
            .map_err(|(line, why)| refused(format!("{}:{line}: {why}", path.display())))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(
                "{}: the last line is torn; its cell is run again",
                path.display()
            );
        }
        cells.set_len(whole as u64)?;
        cells.seek(SeekFrom::End(0))?;
        let mut campaign = Self {
            dir: dir.to_owned(),
            cells,
        };
        if whole == 0 {
            append(&mut campaign.cells, &Header::of(&definition))?;
        }
        Ok((campaign, definition, found))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts a finished cell on disk, and gives it back as it will be read from there: whether a
    /// comparison was interrupted must not show in the last digit of a number.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finished(&mut self, cell: &Cell) -> io::Result<Cell> {
        let line = append(&mut self.cells, cell)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Writes a file of the comparison, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        store::write_whole(&self.dir.join(name), content)
    }
}

fn refused(message: String) -> anyhow::Error {
    ExperimentError(message).into()
}

/// One line with one call, so that a killed process tears at most the last one. Gives back the line.
fn append(file: &mut File, value: &impl Serialize) -> io::Result<String> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    file.write_all(line.as_bytes())?;
    Ok(line)
}

/// The cells of whole lines; of two of the same place the first. An error is a line and why.
fn parse(text: &str, definition: &Definition) -> Result<Vec<Cell>, (usize, String)> {
    let mut lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .enumerate()
        .map(|(i, line)| (i + 1, line));
    let Some((_, first)) = lines.next() else {
        return Ok(Vec::new());
    };
    let header: Header = serde_json::from_str(first)
        .map_err(|e| (1, format!("expected what the cells belong to: {e}")))?;
    if header != Header::of(definition) {
        let why = if header.quorate == env!("CARGO_PKG_VERSION") {
            format!(
                "these cells are of another comparison: {DEFINITION} was changed since; start a new one"
            )
        } else {
            format!(
                "these cells are of quorate {}, and cells of two versions are no comparison; start a new one",
                header.quorate
            )
        };
        return Err((1, why));
    }
    let places: std::collections::BTreeSet<Place> = definition.places().into_iter().collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut cells = Vec::new();
    for (number, line) in lines {
        let cell: Cell =
            serde_json::from_str(line).map_err(|e| (number, format!("is no cell: {e}")))?;
        if !places.contains(&cell.place) {
            return Err((number, "is no cell of this comparison".to_owned()));
        }
        if seen.insert(cell.place.clone()) {
            cells.push(cell);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cell::Figures;

    fn definition(yaml: &str) -> Definition {
        let experiment = Experiment::parse(yaml, "c.yaml").expect("well formed");
        Definition::new(experiment, Given::default(), 1).expect("possible")
    }

    const YAML: &str = "compare: {modes: [async, raft], faults: [kill-leader], repeat: 2}";

    fn cell(place: &Place, wall_s: f64) -> Cell {
        Cell {
            place: place.clone(),
            seed: 1,
            figures: Figures {
                main_s: 0.1 + 0.2,
                ..Figures::default()
            },
            wall_s,
        }
    }

    fn started(store: &Path) -> (Definition, PathBuf) {
        let definition = definition(YAML);
        let mut campaign = Campaign::create(store, &definition, Timestamp::UNIX_EPOCH).unwrap();
        for place in &definition.places()[..3] {
            let written = cell(place, 1.5);
            assert_eq!(campaign.finished(&written).unwrap(), written);
        }
        (definition, campaign.dir().to_owned())
    }

    #[test]
    fn a_torn_line_costs_one_cell() {
        let store = tempfile::tempdir().unwrap();
        let (definition, dir) = started(store.path());
        let whole = std::fs::read_to_string(dir.join(CELLS)).unwrap();
        for torn in 1..40 {
            std::fs::write(dir.join(CELLS), &whole[..whole.len() - torn]).unwrap();
            let (mut campaign, again, cells) = Campaign::resume(&dir).unwrap();
            assert_eq!(again, definition);
            assert_eq!(cells.len(), 2, "{torn}");
            let third = cell(&definition.places()[2], 1.5);
            campaign.finished(&third).unwrap();
            assert_eq!(std::fs::read_to_string(dir.join(CELLS)).unwrap(), whole);
        }
    }

    #[test]
    fn a_cell_that_is_there_twice_counts_once() {
        let store = tempfile::tempdir().unwrap();
        let (definition, dir) = started(store.path());
        let (mut campaign, _, cells) = Campaign::resume(&dir).unwrap();
        campaign
            .finished(&cell(&definition.places()[0], 9.0))
            .unwrap();
        let (_, _, again) = Campaign::resume(&dir).unwrap();
        assert_eq!(again, cells);
    }

    #[test]
    fn what_is_not_this_comparison_is_refused_by_line() {
        let store = tempfile::tempdir().unwrap();
        let (_, dir) = started(store.path());
        let refusal = || {
            let e = Campaign::resume(&dir).expect_err("refused");
            assert!(e.downcast_ref::<ExperimentError>().is_some());
            e.to_string()
        };
        let cells = std::fs::read_to_string(dir.join(CELLS)).unwrap();
        std::fs::write(dir.join(CELLS), cells.replacen("\"raft\"", "\"sync\"", 1)).unwrap();
        assert!(
            refusal().contains("cells.jsonl:3: is no cell of this"),
            "{}",
            refusal()
        );
        std::fs::write(
            dir.join(CELLS),
            cells.replacen("\"seed\":1", "\"seed\":x", 1),
        )
        .unwrap();
        assert!(
            refusal().contains("cells.jsonl:2: is no cell"),
            "{}",
            refusal()
        );
        std::fs::write(dir.join(CELLS), &cells).unwrap();
        let changed = definition(&YAML.replace("repeat: 2", "repeat: 3")).to_yaml();
        std::fs::write(dir.join(DEFINITION), changed).unwrap();
        assert!(
            refusal().contains("cells.jsonl:1: these cells are of another"),
            "{}",
            refusal()
        );
        std::fs::remove_file(dir.join(DEFINITION)).unwrap();
        assert!(
            refusal().contains("is no directory of a comparison"),
            "{}",
            refusal()
        );
    }
}
