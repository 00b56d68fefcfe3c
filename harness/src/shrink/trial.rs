//! Does an experiment fail by a given anomaly?

use std::path::PathBuf;

use anyhow::Result;
use checkers::Anomaly;
use rayon::prelude::*;

use super::{Failing, Goal};
use crate::commands::sim::simulate;
use crate::commands::test::run_once;
use crate::experiment::{Experiment, On};
use crate::judge;
use crate::museum::shown_at;

/// So many times as many seeds can be tried of a short run for the price of a long one. Told by
/// virtual time: a clock would make the result depend on the machine.
fn cheapness(candidate: &Experiment) -> u32 {
    match candidate.limits.time.as_secs() {
        0..4 => 16,
        4..10 => 4,
        10..20 => 2,
        _ => 1,
    }
}

/// Runs candidates.
pub struct Trials {
    goal: Goal,
    each: u32,
    /// Where runs on real substrates are kept while they are judged.
    store: PathBuf,
    runs: u64,
}

impl Trials {
    /// Trials for this goal, at most `each` of one candidate.
    pub fn new(goal: Goal, each: u32, store: PathBuf) -> Self {
        let runs = 0;
        Self {
            goal,
            each,
            store,
            runs,
        }
    }

    /// How many runs were made.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The candidate, if it fails in at least one of the trials. In simulation each trial has a
    /// seed of its own, the candidate's first, and the first that fails is taken (of short runs
    /// more are tried); real processes are tried as often as asked, and the share of failures is
    /// kept.
    ///
    /// # Errors
    /// If a run is impossible or breaks.
    pub fn failing(&mut self, candidate: &Experiment) -> Result<Option<Failing>> {
        let mut candidate = candidate.clone();
        candidate.checks = vec![self.goal.checker.clone()];
        match candidate.substrate {
            On::Sim => self.simulated(&candidate),
            On::Local | On::Netns | On::K8s | On::External => self.repeated(&candidate),
        }
    }

    fn simulated(&mut self, candidate: &Experiment) -> Result<Option<Failing>> {
        let first = candidate.seed.unwrap_or_default();
        let side_by_side = rayon::current_num_threads().max(1) as u64;
        let seeds = u64::from(self.each) * u64::from(cheapness(candidate));
        let mut done = 0;
        while done < seeds {
            let until = (done + side_by_side).min(seeds);
            let tried: Vec<Option<Failing>> = (done..until)
                .into_par_iter()
                .map(|i| self.one(candidate, first.wrapping_add(i)))
                .collect::<Result<_>>()?;
            self.runs += until - done;
            done = until;
            if let Some(failing) = tried.into_iter().flatten().next() {
                return Ok(Some(failing));
            }
        }
        Ok(None)
    }

    fn one(&self, candidate: &Experiment, seed: u64) -> Result<Option<Failing>> {
        let experiment = Experiment {
            seed: Some(seed),
            ..candidate.clone()
        };
        let run = simulate(&experiment)?;
        let checkers = judge::of_experiment(&experiment);
        let report = checkers::check_all(&run.history, &checkers);
        let counts = run.ended.counts;
        let found = report.results.into_iter().flat_map(|r| r.anomalies);
        Ok(self.first(found).map(|anomaly| Failing {
            shown_at: shown_at(&run.history, &anomaly),
            experiment,
            anomaly,
            ops: counts.ok + counts.fail + counts.info,
            rate: (1, 1),
        }))
    }

    fn repeated(&mut self, candidate: &Experiment) -> Result<Option<Failing>> {
        let mut failing: Option<Failing> = None;
        let mut failed = 0;
        for _ in 0..self.each {
            let (summary, dir) = run_once(candidate, &self.store)?;
            self.runs += 1;
            let all = &summary.ops.all;
            let ops = all.ok + all.fail + all.info;
            let anomalies = summary.results.into_iter().flat_map(|r| r.anomalies);
            if let Some(anomaly) = self.first(anomalies) {
                failed += 1;
                failing.get_or_insert(Failing {
                    experiment: candidate.clone(),
                    anomaly,
                    // Where it was seen is not worth reading the history again: the whole run.
                    shown_at: u64::try_from(candidate.limits.time.as_nanos()).unwrap_or(u64::MAX),
                    ops,
                    rate: (0, 0),
                });
            }
            std::fs::remove_dir_all(dir.path())?;
        }
        Ok(failing.map(|failing| Failing {
            rate: (failed, self.each),
            ..failing
        }))
    }

    fn first(&self, mut anomalies: impl Iterator<Item = Anomaly>) -> Option<Anomaly> {
        anomalies.find(|anomaly| anomaly.class == self.goal.class)
    }
}
