//! The scorecard: a row for each mode and fault.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::cell::{Cell, Figures, Word};
use super::definition::Definition;
use super::measure::{Estimate, MEASURES, Unit, difference, estimate};
use super::sentence;

/// The version of the JSON form.
pub const SCHEMA: u32 = 1;

/// What a comparison came to.
#[derive(Clone, Debug, Serialize)]
pub struct Scorecard {
    /// The version of this form.
    pub schema: u32,
    /// Which program made it.
    pub quorate: &'static str,
    /// What was compared.
    pub definition: Described,
    /// What each measure is.
    pub measures: BTreeMap<&'static str, Meaning>,
    /// Fault by fault, mode by mode, both in the order asked for.
    pub rows: Vec<Row>,
    /// How long it took. The one part that differs when the comparison is repeated in simulation.
    pub timing: Timing,
}

/// What was compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Described {
    /// Modes, the first of which the others are held against.
    pub modes: Vec<String>,
    /// Faults.
    pub faults: Vec<String>,
    /// Runs of each mode under each fault.
    pub repeat: u32,
    /// The seed of the first run of each; the next ones follow.
    pub seed: u64,
    /// Where it ran.
    pub substrate: String,
    /// What clients did, mode by mode.
    pub workloads: Vec<String>,
    /// Number of replicas.
    pub nodes: u16,
    /// Number of client threads.
    pub concurrency: u32,
    /// Operations a second of all clients, at most; 0 is no limit.
    pub rate: f64,
    /// How long clients and faults went on in each run, seconds.
    pub run_s: f64,
}

/// What a measure is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Meaning {
    /// Its name for people.
    pub label: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// How runs became an estimate and an interval.
    pub method: &'static str,
}

/// One mode under one fault.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The mode.
    pub mode: String,
    /// The fault.
    pub fault: String,
    /// Runs that were measured.
    pub runs: u64,
    /// Runs that crashed, and say nothing.
    pub crashed: u64,
    /// Faults that were seen to take effect, in all runs.
    pub faults: u64,
    /// Acknowledged writes of all runs.
    pub acknowledged: u64,
    /// Of those, the ones of which final reads tell whether they are lost; absent if of none.
    pub judged: Option<u64>,
    /// Of those, the lost ones.
    pub lost: Option<u64>,
    /// Whether the mode lost writes in runs without faults, too: then no loss is a fault's doing
    /// alone. Absent if it was not run without faults.
    pub loses_without_faults: Option<bool>,
    /// Runs in which the replicas did not agree again, or something else was in doubt.
    pub doubtful: u64,
    /// Runs by the verdict of each checker, and of the run itself.
    pub checks: BTreeMap<String, Verdicts>,
    /// By name.
    pub measures: BTreeMap<&'static str, Estimate>,
    /// Mean differences from the first mode, run by run with the same seed, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub differences: BTreeMap<&'static str, Estimate>,
    /// The row in plain words.
    pub sentences: Vec<String>,
}

/// Runs by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Holds.
    pub valid: u64,
    /// Violated.
    pub invalid: u64,
    /// Nobody can say.
    pub unknown: u64,
}

/// How long a comparison took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Cells run; those of an earlier, interrupted session are not among them.
    pub cells: usize,
    /// Wall time they took, seconds.
    pub seconds: f64,
    /// Cells a minute; absent if none was run.
    pub cells_per_minute: Option<f64>,
    /// Threads that ran them.
    pub jobs: u16,
}

impl Timing {
    /// So many cells in so many seconds.
    pub fn new(cells: usize, seconds: f64, jobs: u16) -> Self {
        Self {
            cells,
            seconds,
            cells_per_minute: (cells > 0 && seconds > 0.0).then(|| cells as f64 * 60.0 / seconds),
            jobs,
        }
    }
}

impl Scorecard {
    /// Makes the scorecard of the finished cells, in whatever order they come. `crashed` are the
    /// modes and faults of runs that crashed.
    pub fn new(
        definition: &Definition,
        cells: &[Cell],
        crashed: &[(String, String)],
        timing: Timing,
    ) -> Self {
        let matrix = definition.matrix();
        let wanted: Vec<(&String, &String)> = matrix
            .faults
            .iter()
            .flat_map(|fault| matrix.modes.iter().map(move |mode| (mode, fault)))
            .collect();
        let rows = wanted
            .into_par_iter()
            .map(|(mode, fault)| {
                let runs = of(cells, mode, fault);
                let baseline =
                    (*mode != matrix.modes[0]).then(|| of(cells, &matrix.modes[0], fault));
                let crashed = crashed
                    .iter()
                    .filter(|(m, f)| m == mode && f == fault)
                    .count();
                let mut row = row(mode, fault, &runs, baseline.as_ref(), definition.seed());
                row.crashed = crashed as u64;
                let calm = of(cells, mode, "none");
                row.loses_without_faults = calm
                    .values()
                    .filter_map(|run| run.lost)
                    .reduce(|a, b| a + b)
                    .map(|lost| lost > 0);
                row.sentences = sentence::of(&row);
                row
            })
            .collect();
        let experiment = definition.experiment();
        Self {
            schema: SCHEMA,
            quorate: env!("CARGO_PKG_VERSION"),
            definition: Described {
                modes: matrix.modes.clone(),
                faults: matrix.faults.clone(),
                repeat: matrix.repeat,
                seed: definition.seed(),
                substrate: experiment.substrate.to_string(),
                workloads: matrix
                    .modes
                    .iter()
                    .map(|mode| definition.workload_of(mode).name().to_owned())
                    .collect(),
                nodes: experiment.nodes,
                concurrency: experiment.threads(),
                rate: experiment.clients.rate,
                run_s: experiment.limits.time.as_secs_f64(),
            },
            measures: MEASURES
                .iter()
                .map(|measure| {
                    let meaning = Meaning {
                        label: measure.label,
                        unit: measure.unit,
                        method: measure.how.name(),
                    };
                    (measure.name, meaning)
                })
                .collect(),
            rows,
            timing,
        }
    }

    /// The row of a mode under a fault.
    pub fn row(&self, mode: &str, fault: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.mode == mode && row.fault == fault)
    }

    /// The JSON form, ending in a newline.
    ///
    /// # Errors
    /// Never, as no map has keys that are not text.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The runs of a mode under a fault, by repetition.
fn of<'a>(cells: &'a [Cell], mode: &str, fault: &str) -> BTreeMap<u32, &'a Figures> {
    cells
        .iter()
        .filter(|cell| cell.place.mode == mode && cell.place.fault == fault)
        .map(|cell| (cell.place.repetition, &cell.figures))
        .collect()
}

/// The row of these runs, by repetition; no run of it crashed, and it has no sentences yet.
pub(super) fn row(
    mode: &str,
    fault: &str,
    runs: &BTreeMap<u32, &Figures>,
    baseline: Option<&BTreeMap<u32, &Figures>>,
    seed: u64,
) -> Row {
    let figures: Vec<&Figures> = runs.values().copied().collect();
    let sum = |of: fn(&Figures) -> Option<u64>| {
        let known = figures.iter().filter_map(|f| of(f));
        known.reduce(|a, b| a + b)
    };
    let mut checks: BTreeMap<String, Verdicts> = BTreeMap::new();
    for (name, word) in figures.iter().flat_map(|f| &f.checks) {
        let verdicts = checks.entry(name.clone()).or_default();
        *match word {
            Word::Valid => &mut verdicts.valid,
            Word::Invalid => &mut verdicts.invalid,
            Word::Unknown => &mut verdicts.unknown,
        } += 1;
    }
    let pairs: Vec<(&Figures, &Figures)> = baseline
        .into_iter()
        .flatten()
        .filter_map(|(repetition, against)| Some((*runs.get(repetition)?, *against)))
        .collect();
    Row {
        mode: mode.to_owned(),
        fault: fault.to_owned(),
        runs: figures.len() as u64,
        crashed: 0,
        faults: figures.iter().map(|f| f.faults.len() as u64).sum(),
        acknowledged: figures.iter().map(|f| f.acknowledged).sum(),
        judged: sum(|f| f.judged),
        lost: sum(|f| f.lost),
        loses_without_faults: None,
        doubtful: checks.get(crate::judge::RUN).map_or(0, |v| v.unknown),
        checks,
        measures: MEASURES
            .iter()
            .map(|measure| (measure.name, estimate(measure, &figures, seed)))
            .collect(),
        differences: MEASURES
            .iter()
            .filter_map(|measure| Some((measure.name, difference(measure, &pairs, seed)?)))
            .collect(),
        sentences: Vec::new(),
    }
}
