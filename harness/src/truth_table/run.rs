//! Rows against seeds.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use checkers::{CheckResult, Verdict};
use rayon::prelude::*;
use serde::Serialize;

use super::{Expect, Property, Row};
use crate::commands::sim::{Simulated, simulate};
use crate::experiment::Experiment;
use crate::judge;
use crate::sim::agreement::compare;

/// A run and what the checkers made of it.
pub struct Judged {
    /// What was run, with its seed.
    pub experiment: Experiment,
    /// The run, with the truth.
    pub run: Simulated,
    /// One result a checker.
    pub results: Vec<CheckResult>,
}

impl Judged {
    /// The result of a checker that took part.
    pub fn result(&self, checker: &str) -> Option<&CheckResult> {
        self.results.iter().find(|r| r.checker == checker)
    }

    /// Whether the property holds; none if that is unknown.
    fn holds(&self, property: &Property) -> Option<bool> {
        match property {
            Property::Checker(name) => match self.result(name)?.verdict {
                Verdict::Valid => Some(true),
                Verdict::Invalid => Some(false),
                Verdict::Unknown(_) => None,
            },
            Property::Class(checker, class) => {
                let result = self.result(checker)?;
                let found = result.anomalies.iter().any(|a| a.class == *class);
                match result.verdict {
                    Verdict::Unknown(_) if !found => None,
                    _ => Some(!found),
                }
            }
            Property::Figure(figure) => (figure.holds)(self),
        }
    }
}

/// What came of one demand.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The property.
    pub property: String,
    /// `holds`, or in which share of the seeds it must be violated.
    pub expected: String,
    /// Seeds in which it held.
    pub held: u64,
    /// Seeds in which it was found violated.
    pub violated: u64,
    /// Seeds in which nobody can tell.
    pub unknown: u64,
    /// Whether that is as demanded.
    pub as_expected: bool,
    /// The first seed in which it was found violated.
    pub shown_by: Option<u64>,
    /// Reasons of the unknown, with how often.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

/// What came of one row.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    /// The row.
    pub id: &'static str,
    /// How many seeds were run.
    pub seeds: u64,
    /// One a demand.
    pub findings: Vec<Finding>,
    /// Verdicts in which a checker and the ground truth of the simulation disagree, with the seed.
    pub disagreements: Vec<String>,
    /// Client operations of all seeds.
    pub ops: u64,
    /// Virtual seconds of all seeds.
    pub virtual_s: f64,
}

impl RowResult {
    /// Whether every demand was met and no checker contradicted the truth.
    pub fn as_expected(&self) -> bool {
        self.disagreements.is_empty() && self.findings.iter().all(|f| f.as_expected)
    }
}

/// Of the seeds in which a property must hold, so many may remain unknown: a row in which nothing
/// was judged proves nothing.
const UNKNOWN_AT_MOST: f64 = 0.05;

/// What one seed says.
struct SeedOutcome {
    seed: u64,
    holds: Vec<Option<bool>>,
    reasons: Vec<Option<String>>,
    disagreements: Vec<String>,
    ops: u64,
    virtual_s: f64,
}

/// Runs a row over seeds, on the threads of the current pool.
///
/// # Errors
/// If the row's experiment is impossible.
pub fn run(row: &Row, seeds: Range<u64>) -> Result<RowResult> {
    let experiment = row.experiment()?;
    let outcomes: Vec<SeedOutcome> = seeds
        .clone()
        .into_par_iter()
        .map(|seed| outcome(row, &experiment, seed))
        .collect::<Result<_>>()?;
    let findings = (0..row.demands.len()).map(|i| finding(row, i, &outcomes));
    Ok(RowResult {
        id: row.id,
        seeds: outcomes.len() as u64,
        findings: findings.collect(),
        disagreements: outcomes
            .iter()
            .flat_map(|o| o.disagreements.clone())
            .collect(),
        ops: outcomes.iter().map(|o| o.ops).sum(),
        virtual_s: outcomes.iter().map(|o| o.virtual_s).sum(),
    })
}

fn outcome(row: &Row, experiment: &Experiment, seed: u64) -> Result<SeedOutcome> {
    let judged = judge_seed(experiment, seed)?;
    let agreement = compare(&judged.run.history, &judged.results, &judged.run.truth);
    let reason = |property: &Property| match property {
        Property::Checker(name) | Property::Class(name, _) => match &judged.result(name)?.verdict {
            Verdict::Unknown(reason) => Some(reason.clone()),
            _ => None,
        },
        Property::Figure(..) => None,
    };
    let counts = judged.run.ended.counts;
    Ok(SeedOutcome {
        seed,
        holds: row
            .demands
            .iter()
            .map(|d| judged.holds(&d.property))
            .collect(),
        reasons: row.demands.iter().map(|d| reason(&d.property)).collect(),
        disagreements: agreement
            .disagreements
            .iter()
            .map(|d| format!("seed {seed}: {}: {}", d.checker, d.what))
            .collect(),
        ops: counts.ok + counts.fail + counts.info,
        virtual_s: judged.run.ended.elapsed as f64 / 1e9,
    })
}

/// Runs and judges one seed.
///
/// # Errors
/// If the experiment is impossible.
pub fn judge_seed(experiment: &Experiment, seed: u64) -> Result<Judged> {
    let experiment = Experiment {
        seed: Some(seed),
        ..experiment.clone()
    };
    let run = simulate(&experiment)?;
    let results = judge::check(&experiment, &run.history);
    Ok(Judged {
        experiment,
        run,
        results,
    })
}

fn finding(row: &Row, demand: usize, outcomes: &[SeedOutcome]) -> Finding {
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|o| o.holds[demand] == wanted)
            .count() as u64
    };
    let (held, violated, unknown) = (count(Some(true)), count(Some(false)), count(None));
    let total = outcomes.len().max(1) as f64;
    let expect = row.demands[demand].expect;
    let as_expected = match expect {
        Expect::Holds => violated == 0 && unknown as f64 / total <= UNKNOWN_AT_MOST,
        Expect::Violated(share) => violated as f64 / total >= share,
    };
    let mut reasons = BTreeMap::new();
    for reason in outcomes.iter().filter_map(|o| o.reasons[demand].clone()) {
        *reasons.entry(reason).or_insert(0) += 1;
    }
    Finding {
        property: row.demands[demand].property.to_string(),
        expected: expect.to_string(),
        held,
        violated,
        unknown,
        as_expected,
        shown_by: outcomes
            .iter()
            .find(|o| o.holds[demand] == Some(false))
            .map(|o| o.seed),
        reasons,
    }
}
