//! How soon planted mistakes are found: guided, blind and by packages, with the same budget.

use std::time::{Duration, Instant};

use anyhow::Result;
use rayon::prelude::*;
use serde::Serialize;

use super::campaign::Campaign;
use super::{Explorer, Guidance};
use crate::experiment::{Experiment, ExperimentError, Lasting};
use crate::museum::Exhibit;
use crate::truth_table::run::judge_seed;

/// All ways to choose inputs, in the order of the table.
pub const WAYS: [Guidance; 3] = [Guidance::Packages, Guidance::Blind, Guidance::Coverage];

/// How much is tried.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Effort {
    /// Runs until a mistake counts as not found.
    pub budget: u64,
    /// Repetitions, each with a seed of its own.
    pub repeat: u64,
    /// The first seed.
    pub seed: u64,
    /// How long clients and faults of each run go on, milliseconds of virtual time.
    pub run_ms: u64,
}

/// One way in one repetition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Attempt {
    /// Runs until it was found, if it was.
    pub runs: Option<u64>,
    /// Wall-clock seconds of one thread, until it was found or the budget was spent.
    pub seconds: f64,
    /// Protocol states reached.
    pub states: usize,
}

/// One mistake, all ways.
#[derive(Clone, Debug, Serialize)]
pub struct Detection {
    /// The mistake.
    pub bug: String,
    /// The attempts of each of [`WAYS`].
    pub ways: Vec<Vec<Attempt>>,
    /// Failures of the checker that the store without the mistake showed as well: not counted.
    pub also_without: u64,
}

/// No clients are faster than this, operations a second.
const RATE_MAX: f64 = 500.0;

/// What the exhibit's cluster and clients are explored with: its own faults are left out, and runs
/// are of equal length.
///
/// # Errors
/// If the exhibit is wrong.
pub fn experiment(exhibit: &Exhibit, run: Duration) -> Result<Experiment, ExperimentError> {
    let mut experiment = exhibit.experiment(true)?;
    experiment.faults.schedule = None;
    experiment.faults.packages = vec!["all".to_owned()];
    experiment.faults.interval = Duration::from_secs(1);
    experiment.faults.lasting = Some(Lasting {
        min: Duration::from_millis(100),
        max: Duration::from_secs(2),
    });
    experiment.limits.time = run;
    // A run of the densest would cost as much as ten of the others.
    experiment.clients.rate = experiment.clients.rate.min(RATE_MAX);
    Ok(experiment)
}

/// Looks for one mistake in all ways.
///
/// # Errors
/// If the experiment is impossible.
pub fn detect(exhibit: &Exhibit, effort: &Effort) -> Result<Detection> {
    let planted = experiment(exhibit, Duration::from_millis(effort.run_ms))?;
    let attempts: Vec<(usize, u64)> = (0..WAYS.len())
        .flat_map(|way| (0..effort.repeat).map(move |i| (way, i)))
        .collect();
    let made: Vec<(usize, Attempt, u64)> = attempts
        .into_par_iter()
        .map(|(way, i)| {
            let seed = effort.seed + i;
            let (attempt, also) = attempt(&planted, WAYS[way], seed, effort.budget)?;
            Ok((way, attempt, also))
        })
        .collect::<Result<_>>()?;
    let mut ways = vec![Vec::new(); WAYS.len()];
    let mut also_without = 0;
    for (way, attempt, also) in made {
        ways[way].push(attempt);
        also_without += also;
    }
    Ok(Detection {
        bug: exhibit.name(),
        ways,
        also_without,
    })
}

/// Tries until the mistake is found, on one thread.
fn attempt(planted: &Experiment, way: Guidance, seed: u64, budget: u64) -> Result<(Attempt, u64)> {
    let began = Instant::now();
    let mut campaign = Campaign::new(planted, &[], Explorer::new(seed, way));
    let mut sound = planted.clone();
    sound.target.bugs.clear();
    let mut also_without = 0;
    let mut runs = None;
    while runs.is_none() && campaign.explorer.runs() < budget {
        for found in campaign.step(budget - campaign.explorer.runs())? {
            // What a sound store does as well under these faults is not the mistake.
            let control = Experiment {
                target: sound.target.clone(),
                ..campaign.experiment(&found.input)
            };
            let judged = judge_seed(&control, found.input.seed)?;
            if judged.results.iter().any(|r| !r.anomalies.is_empty()) {
                also_without += 1;
                campaign.found.retain(|known| known.goal != found.goal);
                continue;
            }
            runs = Some(runs.unwrap_or(u64::MAX).min(found.run));
        }
    }
    let attempt = Attempt {
        runs,
        seconds: began.elapsed().as_secs_f64(),
        states: campaign.explorer.states().0,
    };
    Ok((attempt, also_without))
}

/// The median of what may be missing; missing is more than anything.
pub fn median(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let mut all: Vec<f64> = values
        .into_iter()
        .map(|value| value.unwrap_or(f64::INFINITY))
        .collect();
    all.sort_by(f64::total_cmp);
    let middle = all.get(all.len().saturating_sub(1) / 2).copied()?;
    middle.is_finite().then_some(middle)
}

/// The table of the docs.
pub fn markdown(detections: &[Detection], effort: &Effort) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| mistake | packages: found | runs | s | blind: found | runs | s | guided: found | runs | s |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut totals = [(0_usize, 0_u64, 0.0_f64); WAYS.len()];
    for detection in detections {
        let _ = write!(text, "| {} ", detection.bug);
        for (way, total) in detection.ways.iter().zip(&mut totals) {
            let found = way.iter().filter(|a| a.runs.is_some()).count();
            let runs = median(way.iter().map(|a| a.runs.map(|runs| runs as f64)));
            let seconds = median(way.iter().map(|a| a.runs.map(|_| a.seconds)));
            let shown = runs.map_or(format!("> {}", effort.budget), |runs| format!("{runs:.0}"));
            let took = seconds.map_or("–".to_owned(), |s| format!("{s:.1}"));
            let _ = write!(text, "| {found}/{} | {shown} | {took} ", way.len());
            total.0 += found;
            total.1 += way
                .iter()
                .map(|a| a.runs.unwrap_or(effort.budget))
                .sum::<u64>();
            total.2 += way.iter().map(|a| a.seconds).sum::<f64>();
        }
        let _ = writeln!(text, "|");
    }
    let _ = write!(text, "| **all** ");
    let all = detections.len() * usize::try_from(effort.repeat).unwrap_or(0);
    for (found, runs, seconds) in totals {
        let _ = write!(
            text,
            "| {found}/{all} | {runs} in all | {seconds:.0} in all "
        );
    }
    let _ = writeln!(text, "|");
    text
}
