//! Linearizability, key by key.
//!
//! A history over several objects is linearizable if and only if it is so for each of them
//! (Herlihy and Wing, 1990, theorem 1), so that every key is judged alone, several at a time, and
//! the results are put in the order of the keys.
//!
//! What an operation means: failed ones did not happen; one without result may take effect at any
//! instant after its invocation, or never; a read without result says nothing. A read of
//! everything counts as a read of each key. Registers start as `nil`, lists and sets empty.
//!
//! The model of a key follows from the functions used on it: registers, lists, sets, texts, maps,
//! counters and locks, and by other names queues (`enqueue`, `dequeue`) and stacks (`push`, `pop`).
//! Priority queues, fenced locks and semaphores have to be asked for. A history in which a function
//! beyond these may have taken effect is `unknown(unknown-function)`. A read of a register that shows an array of one of its
//! values shows that value; one that shows several concurrent values (siblings) is left out, and a
//! key that is linearizable without such reads is `unknown(siblings)`: see [`crate::siblings`].

use rayon::prelude::*;

use crate::observe::{self, KeyView};
use crate::verdict::conclude;
use crate::{CheckResult, Checker, History, Operation, Value};

mod encode;
pub mod engine;
mod explain;
mod families;

pub use engine::{Decision, Engine, Limits, Model, Undecided};

use engine::auto::Auto;
use engine::budget::{Spent, Totals};
use engine::zones;

/// The checker; see the [module](self).
pub struct Linearizable {
    /// The sequential specification of every key; `None` takes the one that fits the functions
    /// used on the key.
    pub model: Option<Model>,
    /// Whether a failed compare-and-set says that the register held another value at some instant
    /// between its invocation and its completion. In Jepsen's semantics it says only that nothing
    /// was done; in the logs of etcd that Porcupine is tested with, it constrains.
    pub refused_cas_constrains: bool,
    /// What one key may cost, and all together.
    pub limits: Limits,
    /// Decides.
    pub engine: Box<dyn Engine>,
    /// Whether a key that fails ends the judging of all others: those are unknown, then.
    pub fail_fast: bool,
}

impl Default for Linearizable {
    fn default() -> Self {
        Self {
            model: None,
            refused_cas_constrains: false,
            limits: Limits::default(),
            engine: Box::new(Auto),
            fail_fast: false,
        }
    }
}

/// What was found of one key.
struct KeyResult {
    judged: u64,
    decision: Decision,
    /// Of a key that is undecided: the operation of the history that was reached.
    reached: Option<usize>,
    /// Of a key that is not linearizable: operations (of the history) that show it.
    proof: Vec<usize>,
}

/// Histories of fewer operations than this are decided sooner than threads start.
const PARALLEL_MIN: usize = 20_000;

/// Keys whose proof is shrunk to a few operations, where none is plain to see
/// ([`explain::direct`]); of further ones it is all operations.
const EXPLAINED_KEYS_MAX: usize = 5;

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&self, history: &History) -> CheckResult {
        if let Some(result) = self.screened(history) {
            return result;
        }
        let operations = match families::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let keys = families::by_key(&operations);
        let text = self.model == Some(Model::Text)
            || self.model.is_none() && keys.values().any(|v| encode::is_text(&operations, v));
        let keys: Vec<(Option<&Value>, KeyView<'_>)> = keys.into_iter().collect();
        let totals = Totals::default();
        let judge = |limits: &Limits, view: &KeyView<'_>| {
            self.judge(&operations, view, text, limits, &totals)
        };
        let parallel = operations.len() >= PARALLEL_MIN;
        let mut results: Vec<(KeyResult, Option<encode::Problem>)> = if self.fail_fast {
            // The key that fails may be cheap and come after one that is dear.
            let brief = self.limits.with_configurations(BRIEF_CONFIGURATIONS);
            let mut results = each(parallel, &keys, |(_, view)| judge(&brief, view));
            for ((_, view), result) in keys.iter().zip(&mut results) {
                if matches!(result.0.decision, Decision::Unknown(_)) && !totals.is_stopped() {
                    *result = judge(&self.limits, view);
                }
            }
            results
        } else {
            each(parallel, &keys, |(_, view)| judge(&self.limits, view))
        };
        results
            .iter_mut()
            .filter(|(r, _)| matches!(r.decision, Decision::NotLinearizable(_)))
            .filter(|(_, problem)| problem.is_some())
            .take(EXPLAINED_KEYS_MAX)
            .collect::<Vec<_>>()
            .into_par_iter()
            .for_each(|(result, problem)| {
                if let (Some(problem), Decision::NotLinearizable(refutation)) =
                    (problem, &result.decision)
                {
                    let core = explain::explain(&*self.engine, problem, refutation);
                    result.proof = core.into_iter().map(|i| problem.sources[i]).collect();
                }
            });
        self.report(history, &operations, &keys, results)
    }
}

/// Configurations that each key may cost before any may cost more, where the first key that fails
/// decides.
const BRIEF_CONFIGURATIONS: u64 = 100_000;

fn each<T: Sync, R: Send>(parallel: bool, all: &[T], of: impl Fn(&T) -> R + Send + Sync) -> Vec<R> {
    if parallel {
        all.par_iter().map(of).collect()
    } else {
        all.iter().map(of).collect()
    }
}

/// A failing history of fewer events than this is looked at again the long way, which has more to
/// say about it.
const SCREENED_MIN: usize = 2_000_000;

impl Linearizable {
    /// Judges a history of nothing but registers with unique values in one pass over its events;
    /// `None` of any other.
    fn screened(&self, history: &History) -> Option<CheckResult> {
        if !self.engine.uses_zones() || self.model.is_some_and(|m| m != Model::Register) {
            return None;
        }
        let keys = zones::screen(history, self.refused_cas_constrains)?;
        let refuted = keys.iter().filter_map(|key| key.decision.as_ref().err());
        let refuted: Vec<&zones::Refuted> = refuted.collect();
        if !refuted.is_empty() && history.events.len() < SCREENED_MIN {
            return None;
        }
        let judged = keys.iter().map(|key| key.judged).sum();
        let mut result = CheckResult::new(
            self.name(),
            conclude(!refuted.is_empty(), judged, Vec::new()),
        );
        result.judged = judged;
        result.figure("keys", keys.len());
        result.figure("keys_linearizable", keys.len() - refuted.len());
        result.figure("keys_not_linearizable", refuted.len());
        result.figure("keys_unknown", 0);
        let mut positions: Vec<u64> = refuted.iter().flat_map(|r| r.positions.clone()).collect();
        positions.sort_unstable();
        let operations = zones::operations_at(history, &positions);
        for (i, (key, view)) in families::by_key(&operations).into_iter().enumerate() {
            let totals = Totals::default();
            let (found, problem) = self.judge(&operations, &view, false, &self.limits, &totals);
            let proof = match (&found.decision, &problem) {
                (Decision::NotLinearizable(why), Some(problem)) if i < EXPLAINED_KEYS_MAX => {
                    let core = explain::explain(&*self.engine, problem, why);
                    core.into_iter().map(|i| problem.sources[i]).collect()
                }
                _ => found.proof,
            };
            let anomaly = explain::sentence::anomaly(&operations, key, &proof);
            result.anomalies.push(anomaly);
        }
        Some(result)
    }

    fn judge(
        &self,
        operations: &[Operation<'_>],
        view: &KeyView<'_>,
        text: bool,
        limits: &Limits,
        totals: &Totals,
    ) -> (KeyResult, Option<encode::Problem>) {
        let acknowledged = view.writes.iter().filter(|&&w| operations[w].is_ok());
        let judged = (acknowledged.count() + view.reads.len()) as u64;
        let unknown = |reason: &str| {
            let result = KeyResult {
                judged,
                decision: Decision::unknown(reason),
                reached: None,
                proof: Vec::new(),
            };
            (result, None)
        };
        if totals.is_stopped() {
            return unknown(&Spent::Stopped.reason());
        }
        let model = self
            .model
            .or_else(|| families::model_of(operations, view, text));
        let Some(model) = model else {
            return unknown("mixed-functions");
        };
        let problem = match encode::encode(operations, view, model, self.refused_cas_constrains) {
            Ok(problem) => problem,
            Err(reason) => return unknown(reason),
        };
        let mut decision = self
            .engine
            .decide_within(model, &problem.ops, limits, Some(totals));
        if problem.siblings && decision == Decision::Linearizable {
            decision = Decision::unknown("siblings");
        }
        let Decision::NotLinearizable(refutation) = &decision else {
            let reached = match &decision {
                Decision::Unknown(why) => why.reached.and_then(|i| problem.sources.get(i).copied()),
                _ => None,
            };
            let result = KeyResult {
                judged,
                decision,
                reached,
                proof: Vec::new(),
            };
            return (result, None);
        };
        if self.fail_fast {
            totals.stop();
        }
        let sources = |core: Vec<usize>| core.into_iter().map(|i| problem.sources[i]).collect();
        let direct = explain::direct(&*self.engine, &problem, refutation).map(sources);
        let direct_found = direct.is_some();
        let proof = direct.unwrap_or_else(|| problem.sources.clone());
        (
            KeyResult {
                judged,
                decision,
                reached: None,
                proof,
            },
            (!direct_found).then_some(problem),
        )
    }

    fn report(
        &self,
        history: &History,
        operations: &[Operation<'_>],
        keys: &[(Option<&Value>, KeyView<'_>)],
        results: Vec<(KeyResult, Option<encode::Problem>)>,
    ) -> CheckResult {
        let mut judged = 0;
        let (mut linearizable, mut not_linearizable) = (0_u64, 0_u64);
        let mut undecided: Vec<String> = Vec::new();
        let mut anomalies = Vec::new();
        for ((key, view), (result, _)) in keys.iter().zip(results) {
            judged += result.judged;
            match result.decision {
                Decision::Linearizable => linearizable += 1,
                Decision::NotLinearizable(_) => {
                    not_linearizable += 1;
                    anomalies.push(explain::sentence::anomaly(operations, *key, &result.proof));
                }
                Decision::Unknown(why) => {
                    let ops = view.writes.len() + view.reads.len();
                    let key = observe::key_name(*key);
                    let reached = result.reached.map(|op| &operations[op]);
                    let place = place(history, reached, &why, ops);
                    undecided.push(format!("{} at {key}{place}", why.reason));
                }
            }
        }
        let unknown = undecided.len() as u64;
        let mut reasons = Vec::new();
        if let Some(first) = undecided.into_iter().next() {
            reasons.push(match unknown {
                1 => first,
                more => format!("{first}, and {} more keys", more - 1),
            });
        }
        let verdict = conclude(not_linearizable > 0, judged, reasons);
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = judged;
        result.anomalies = anomalies;
        result.figure("keys", keys.len());
        result.figure("keys_linearizable", linearizable);
        result.figure("keys_not_linearizable", not_linearizable);
        result.figure("keys_unknown", unknown);
        result
    }
}

/// Where an undecided key was left, and what would help:
/// `, at event 4812 of 20000 (18 operations open); more time for each key, … would decide it`.
fn place(
    history: &History,
    reached: Option<&Operation<'_>>,
    why: &Undecided,
    ops: usize,
) -> String {
    /// With more operations open than this, fewer clients are the best advice.
    const MANY_OPEN: usize = 8;
    let Some(event) = reached.and_then(|op| op.complete) else {
        return format!(" ({ops} ops)");
    };
    let mut text = format!(
        ", at event {} of {} ({} operations open)",
        event.index,
        history.events.len(),
        why.open
    );
    if let Some(remedy) = &why.remedy {
        text += "; ";
        text += remedy;
        text += ", another engine";
        text += if why.open > MANY_OPEN {
            ", or fewer clients at a time would decide it"
        } else {
            ", or a shorter history would decide it"
        };
    }
    text
}

#[cfg(test)]
mod tests;
