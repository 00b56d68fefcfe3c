//! From a failing run to the smallest experiment that still fails by the same anomaly.
//!
//! * `trial`: does this experiment fail that way? In simulation that is decided; on real processes
//!   it is a matter of how often.
//! * [`passes`]: what is made smaller, one thing after the other, until nothing gives way any more:
//!   the schedule by delta debugging ([`nemesis::shrink`]), then times, then the cluster and its
//!   clients.
//! * [`story`]: the smallest run watched ([`recording`]), drawn and told.
//! * [`words`]: what was found, in figures and from the schedule alone.

pub mod passes;
pub mod recording;
pub mod story;
mod trial;
pub mod words;

use std::time::{Duration, Instant};

use anyhow::Result;
use checkers::Anomaly;
use nemesis::Program;
use serde::{Deserialize, Serialize};

use crate::experiment::Experiment;
use crate::report::Summary;

pub use trial::Trials;

/// The anomaly that must not get lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The checker that finds it.
    pub checker: String,
    /// Its class.
    pub class: String,
}

impl Goal {
    /// The first anomaly of a run; of one checker, if that is asked for.
    pub fn of(summary: &Summary, checker: Option<&str>) -> Option<Self> {
        let wanted = |name: &str| checker.is_none_or(|wanted| wanted == name);
        let mut results = summary.results.iter().filter(|r| wanted(&r.checker));
        results.find_map(|result| {
            result.anomalies.first().map(|anomaly| Self {
                checker: result.checker.clone(),
                class: anomaly.class.clone(),
            })
        })
    }
}

/// An experiment that fails, and how.
#[derive(Clone, Debug)]
pub struct Failing {
    /// What was run, with its seed and its schedule.
    pub experiment: Experiment,
    /// The first anomaly of the goal.
    pub anomaly: Anomaly,
    /// When it was there to be seen, ns since the start of the run.
    pub shown_at: u64,
    /// Client operations of the run.
    pub ops: u64,
    /// Trials of this experiment that failed this way, of how many. In simulation with its seed it
    /// always does.
    pub rate: (u32, u32),
}

impl Failing {
    /// How large it is, most important first: faults, time, nodes, clients, keys, operations a
    /// second.
    pub fn size(&self) -> Size {
        let e = &self.experiment;
        Size {
            faults: e.faults.schedule.as_ref().map_or(0, Program::len),
            time: e.limits.time,
            nodes: e.nodes,
            clients: e.threads(),
            keys: e.parameters.keys,
            ops: self.ops,
        }
    }
}

/// How large an experiment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Faults in the schedule.
    pub faults: usize,
    /// Until clients stop.
    #[serde(with = "nemesis::duration")]
    pub time: Duration,
    /// Replicas.
    pub nodes: u16,
    /// Client threads.
    pub clients: u32,
    /// Keys in use at a time, where the workload has some.
    pub keys: Option<u32>,
    /// Client operations of the run.
    pub ops: u64,
}

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Wall-clock time.
    pub time: Duration,
    /// Trials of one candidate before it is taken not to fail.
    pub trials: u32,
}

/// Told about each step forward.
pub trait Watch {
    /// Something smaller fails too.
    ///
    /// # Errors
    /// If it could not be kept: the search ends.
    fn smaller(&mut self, failing: &Failing, pass: &str) -> Result<()>;
    /// A pass begins; so many runs were made so far.
    fn pass(&mut self, name: &str, runs: u64);
}

/// The search: the smallest that is known, and what is left of the budget.
pub struct Search<'w> {
    trials: Trials,
    deadline: Instant,
    best: Failing,
    watch: &'w mut dyn Watch,
    error: Option<anyhow::Error>,
}

impl<'w> Search<'w> {
    /// A search that starts from an experiment that fails.
    pub fn new(trials: Trials, time: Duration, start: Failing, watch: &'w mut dyn Watch) -> Self {
        Self {
            trials,
            deadline: Instant::now() + time,
            best: start,
            watch,
            error: None,
        }
    }

    /// The smallest failing experiment so far.
    pub fn best(&self) -> &Failing {
        &self.best
    }

    /// Whether the candidate fails, too; if so it is the best from now on. `None` if the time is
    /// up, or something went wrong.
    fn fails(&mut self, candidate: &Experiment, pass: &str) -> Option<bool> {
        if self.error.is_some() || Instant::now() >= self.deadline {
            return None;
        }
        if candidate.validate().is_err() {
            return Some(false);
        }
        let tried = self.trials.failing(candidate);
        let failing = match tried {
            Ok(failing) => failing,
            Err(e) => {
                self.error = Some(e);
                return None;
            }
        };
        let Some(failing) = failing else {
            return Some(false);
        };
        self.best = failing;
        if let Err(e) = self.watch.smaller(&self.best, pass) {
            self.error = Some(e);
            return None;
        }
        Some(true)
    }

    /// Makes everything smaller until nothing gives way any more, or the time is up. Returns
    /// whether the search came to its end, the best, and the number of runs.
    ///
    /// # Errors
    /// If a trial could not be run, or a result not be kept.
    pub fn run(mut self) -> Result<(bool, Failing, u64)> {
        loop {
            let before = self.best.size();
            for (name, pass) in passes::ALL {
                self.watch.pass(name, self.trials.runs());
                pass(&mut self, name);
            }
            if let Some(error) = self.error {
                return Err(error);
            }
            let in_time = Instant::now() < self.deadline;
            let size = self.best.size();
            let same = Size {
                ops: size.ops,
                ..before
            } == size;
            if !in_time || same {
                let runs = self.trials.runs();
                return Ok((in_time, self.best, runs));
            }
        }
    }
}
