//! Known mistakes of replicated stores, planted one at a time: does the harness find them?
//!
//! Each exhibit is a [`Bug`], the checker that must find it, and the shortest schedule known to
//! show it. It is run with the mistake, seed after seed, until the checker finds it or the seeds
//! are used up; and without it over the same seeds, where the checker must find nothing. This
//! scores the harness itself: a mistake that is not found, or a sound store that is called broken,
//! is a failure of ours.
//!
//! * [`exhibits`]: what there is.

pub mod exhibits;

use std::ops::Range;

use anyhow::Result;
use checkers::{Anomaly, History, Verdict};
use reference_cluster::core::config::Bug;
use serde::Serialize;

use crate::experiment::{Experiment, ExperimentError, explain, parse_yaml};
use crate::overlay::overlay;
use crate::truth_table::rows::BASE;
use crate::truth_table::run::{Judged, judge_seed};

/// A planted mistake and how it is found.
#[derive(Clone, Copy, Debug)]
pub struct Exhibit {
    /// The mistake.
    pub bug: Bug,
    /// What it is and where it was seen, in a sentence.
    pub what: &'static str,
    /// The checker that must find it.
    pub checker: &'static str,
    /// The experiment without the mistake: what it has other than [`BASE`], as YAML.
    pub experiment: &'static str,
}

/// What came of one exhibit.
#[derive(Clone, Debug, Serialize)]
pub struct Visit {
    /// The mistake.
    pub bug: Bug,
    /// The checker that must find it.
    pub checker: &'static str,
    /// The first seed in which it was found.
    pub seed: Option<u64>,
    /// Its first anomaly, in a sentence.
    pub finding: Option<String>,
    /// Virtual seconds until the first anomaly was there to be seen, those of all seeds before
    /// included.
    pub virtual_s: f64,
    /// Seeds run with the mistake.
    pub runs: u64,
    /// Seeds run without the mistake.
    pub controls: u64,
    /// Seeds without the mistake in which the checker found something all the same, or could not
    /// tell.
    pub false_alarms: u64,
    /// The first of these, and the verdict.
    pub first_false_alarm: Option<String>,
}

impl Visit {
    /// Found with the mistake, and only with it.
    pub fn good(&self) -> bool {
        self.seed.is_some() && self.false_alarms == 0
    }
}

impl Exhibit {
    /// Its name: that of the mistake.
    ///
    /// # Panics
    /// Never: a mistake is written as one word.
    pub fn name(&self) -> String {
        match serde_json::to_value(self.bug) {
            Ok(serde_json::Value::String(name)) => name,
            _ => unreachable!("a unit variant is written as text"),
        }
    }

    /// The experiment, with or without the mistake, without a seed.
    ///
    /// # Errors
    /// If its YAML is no experiment, or an impossible one: a mistake in the exhibit.
    pub fn experiment(&self, planted: bool) -> Result<Experiment, ExperimentError> {
        let text = overlay(BASE, self.experiment).map_err(ExperimentError)?;
        let name = self.name();
        let mut experiment: Experiment = parse_yaml(&text, &name)?;
        experiment.name.clone_from(&name);
        experiment.checks = vec![self.checker.to_owned()];
        if planted {
            experiment.target.bugs.insert(self.bug);
        }
        experiment
            .validate()
            .map_err(|e| explain(&e, &name, Some(&text)))?;
        Ok(experiment)
    }

    /// Runs it over these seeds: with the mistake until it is found, without it over as many seeds
    /// as that took and at least `controls`.
    ///
    /// # Errors
    /// If the experiment is impossible.
    pub fn visit(&self, seeds: Range<u64>, controls: u64) -> Result<Visit> {
        let planted = self.experiment(true)?;
        let mut visit = Visit {
            bug: self.bug,
            checker: self.checker,
            seed: None,
            finding: None,
            virtual_s: 0.0,
            runs: 0,
            controls: 0,
            false_alarms: 0,
            first_false_alarm: None,
        };
        for seed in seeds.clone() {
            let judged = judge_seed(&planted, seed)?;
            visit.runs += 1;
            if let Some(anomaly) = self.found(&judged) {
                visit.seed = Some(seed);
                visit.finding = Some(anomaly.summary.clone());
                visit.virtual_s += shown_at(&judged.run.history, anomaly) as f64 / 1e9;
                break;
            }
            visit.virtual_s += judged.run.ended.elapsed as f64 / 1e9;
        }
        let sound = self.experiment(false)?;
        for seed in (seeds.start..).take(visit.runs.max(controls) as usize) {
            let judged = judge_seed(&sound, seed)?;
            visit.controls += 1;
            let verdict = judged.result(self.checker).map(|r| &r.verdict);
            if verdict != Some(&Verdict::Valid) {
                visit.false_alarms += 1;
                let what = || match verdict {
                    Some(Verdict::Unknown(why)) => format!("seed {seed}: unknown({why})"),
                    _ => format!("seed {seed}: invalid"),
                };
                visit.first_false_alarm.get_or_insert_with(what);
            }
        }
        Ok(visit)
    }

    /// The first anomaly of its checker.
    fn found<'a>(&self, judged: &'a Judged) -> Option<&'a Anomaly> {
        let result = judged.result(self.checker)?;
        let first = |a: &&Anomaly| shown_at(&judged.run.history, a);
        (result.verdict == Verdict::Invalid)
            .then(|| result.anomalies.iter().min_by_key(first))
            .flatten()
    }
}

/// When the last operation that proves an anomaly was done, nanoseconds of the run.
pub fn shown_at(history: &History, anomaly: &Anomaly) -> u64 {
    let Ok(operations) = history.operations() else {
        return 0;
    };
    operations
        .iter()
        .filter(|op| anomaly.ops.contains(&op.invoke.index))
        .map(|op| op.complete.map_or(op.invoke.time, |c| c.time))
        .max()
        .unwrap_or(0)
}

/// The exhibits with these names, in order; all without any.
///
/// # Errors
/// The first name that no exhibit has.
pub fn select(names: &[String]) -> Result<Vec<&'static Exhibit>, ExperimentError> {
    let all = exhibits::EXHIBITS;
    if let Some(unknown) = names.iter().find(|n| !all.iter().any(|e| e.name() == **n)) {
        let known: Vec<String> = all.iter().map(Exhibit::name).collect();
        return Err(ExperimentError(format!(
            "there is no planted mistake {unknown:?}; expected some of {}",
            known.join(", ")
        )));
    }
    let wanted = |e: &&Exhibit| names.is_empty() || names.contains(&e.name());
    Ok(all.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_exhibited_once() {
        for bug in Bug::ALL {
            let count = exhibits::EXHIBITS.iter().filter(|e| e.bug == bug).count();
            assert_eq!(count, 1, "{bug:?}");
        }
        for exhibit in exhibits::EXHIBITS {
            exhibit.experiment(true).unwrap();
        }
        assert!(select(&["nothing".to_owned()]).is_err());
    }
}
