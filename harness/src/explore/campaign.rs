//! Inputs run in simulation and judged; what fails is kept.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use checkers::{Anomaly, Verdict};
use nemesis::FaultKind;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::mutate::{Alphabet, SURVIVABLE};
use super::{Explorer, Guidance, Input};
use crate::commands::sim::simulate_watched;
use crate::experiment::{Experiment, On};
use crate::judge;
use crate::shrink::Goal;

/// What came of one input.
pub struct Tried {
    /// The input.
    pub input: Input,
    /// What it reached.
    pub coverage: Coverage,
    /// The first anomaly of each class that each checker found.
    pub found: Vec<(Goal, Anomaly)>,
    /// Client operations.
    pub ops: u64,
}

/// A failure, the first of its kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// How many inputs had been tried, this one included.
    pub run: u64,
    /// The checker and its class.
    pub goal: Goal,
    /// The anomaly, in a sentence.
    pub summary: String,
    /// What fails.
    pub input: Input,
}

/// An exploration of one experiment.
pub struct Campaign {
    experiment: Experiment,
    alphabet: Alphabet,
    /// What was tried, and what it reached.
    pub explorer: Explorer,
    /// The first failure of each kind.
    pub found: Vec<Found>,
    ops: u64,
}

impl Campaign {
    /// Of an experiment, whose own faults are left out (but for packages, where these are what is
    /// tried), with these kinds of faults; those that any store should survive if none are named.
    pub fn new(experiment: &Experiment, kinds: &[FaultKind], explorer: Explorer) -> Self {
        let mut experiment = experiment.clone();
        experiment.substrate = On::Sim;
        experiment.faults.schedule = None;
        let kinds = if kinds.is_empty() { SURVIVABLE } else { kinds };
        let capabilities = experiment.capabilities();
        let time = experiment.limits.time;
        Self {
            alphabet: Alphabet::new(experiment.nodes, time, kinds, &capabilities),
            experiment,
            explorer,
            found: Vec::new(),
            ops: 0,
        }
    }

    /// What schedules are made of.
    pub fn alphabet(&self) -> &Alphabet {
        &self.alphabet
    }

    /// Client operations in all runs so far.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// The experiment that runs an input.
    pub fn experiment(&self, input: &Input) -> Experiment {
        let mut experiment = self.experiment.clone();
        experiment.seed = Some(input.seed);
        if self.explorer.guidance() != Guidance::Packages {
            experiment.faults.schedule = Some(input.schedule.clone().into());
            experiment.faults.packages = Vec::new();
        }
        experiment
    }

    /// Tries the next inputs, at most so many, on the threads of the current pool, and learns from
    /// them in their order. Returns what was found for the first time.
    ///
    /// # Errors
    /// If the experiment is impossible.
    pub fn step(&mut self, at_most: u64) -> Result<Vec<Found>> {
        let at_most = usize::try_from(at_most).unwrap_or(usize::MAX);
        let inputs = self.explorer.next(&self.alphabet, at_most);
        let tried: Vec<Tried> = inputs
            .into_par_iter()
            .map(|input| {
                let experiment = self.experiment(&input);
                run(&experiment, input)
            })
            .collect::<Result<_>>()?;
        let mut new = Vec::new();
        for tried in tried {
            self.ops += tried.ops;
            self.explorer.learn(tried.input.clone(), &tried.coverage);
            for (goal, anomaly) in tried.found {
                if self.found.iter().any(|found| found.goal == goal) {
                    continue;
                }
                let found = Found {
                    run: self.explorer.runs(),
                    goal,
                    summary: anomaly.summary,
                    input: tried.input.clone(),
                };
                self.found.push(found.clone());
                new.push(found);
            }
        }
        Ok(new)
    }
}

/// Runs and judges one input.
fn run(experiment: &Experiment, input: Input) -> Result<Tried> {
    let coverage = Rc::new(RefCell::new(Coverage::default()));
    let run = simulate_watched(experiment, coverage.clone())?;
    let mut found: Vec<(Goal, Anomaly)> = Vec::new();
    for result in judge::check(experiment, &run.history) {
        if result.verdict != Verdict::Invalid {
            continue;
        }
        for anomaly in result.anomalies {
            let goal = Goal {
                checker: result.checker.clone(),
                class: anomaly.class.clone(),
            };
            if found.iter().all(|(known, _)| *known != goal) {
                found.push((goal, anomaly));
            }
        }
    }
    let counts = run.ended.counts;
    Ok(Tried {
        input,
        coverage: coverage.take(),
        found,
        ops: counts.ok + counts.fail + counts.info,
    })
}
