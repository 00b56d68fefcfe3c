//! Sequential consistency (Lamport, 1979): whether all operations, of all keys together, could have
//! been done one after the other, each session's in its own order. Real time does not count.
//!
//! It is a property of the whole history — keys that are so one by one need not be so together — and
//! to decide it is NP-hard even where every value is written once (Gibbons and Korach, *Testing
//! Shared Memories*, 1997). So, in this order:
//!
//! 1. What is not causal ([`crate::causal`], convergence and memory, both of which follow from it)
//!    is not sequential. That finds most violations in histories of any length, and says why.
//! 2. What is linearizable key by key is linearizable as a whole (Herlihy and Wing), and that is
//!    sequential, since a session's operations follow each other in real time.
//! 3. Small histories, and large ones with few open ends, by a search of interleavings (see the
//!    submodule `search`), with a budget of configurations. When it is spent, the history is
//!    `unknown(budget: …)`.
//!
//! Judged are registers (write, compare-and-set; a removal writes `nil`), lists, sets and counters.
//! A session is a process, up to an operation of unknown outcome, which happened then or any time
//! later, or never. Failed operations did not happen. A read of everything is one operation. A read
//! that shows several concurrent values of a register (siblings) is left out; a history that is
//! sequential without such reads is `unknown(siblings)`.
//!
//! Where the search finds that there is no interleaving, the anomaly `not-sequential` names
//! operations of which none can be left out: of those that are left, some are not explained by any
//! interleaving. (Of a long history: what each session came to next where most was explained.)

use crate::isolation::analysis::{Level, analyse};
use crate::isolation::clocks;
use crate::isolation::encode::Encoded;
use crate::isolation::explain;
use crate::isolation::listed::Listed;
use crate::linearizable::Limits;
use crate::transactions::encode::Shape;
use crate::verdict::conclude;
use crate::{CheckResult, Checker, F, History, Linearizable, Operation, Verdict, causal, observe};

mod encode;
mod search;
mod shrink;

use search::{Found, search};

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Sequential {
    /// How many configurations the search may visit.
    pub configurations: u64,
}

impl Default for Sequential {
    fn default() -> Self {
        Self {
            configurations: 2_000_000,
        }
    }
}

/// What the check of linearizability may cost, in configurations of a key.
const LINEARIZABLE_CONFIGURATIONS: u64 = 1_000_000;

/// What the search for reasons against causal memory may cost, in steps.
const STEPS_MAX: u64 = 20_000_000;
/// What the search for an interleaving may cost: how many sessions and keys it looks at.
const LOOKS_MAX: u64 = 2_000_000_000;

impl Checker for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let encoded = match encode::encode(&operations) {
            Ok(encoded) => encoded,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut listed = Listed::default();
        if encoded.plain {
            not_causal(history, &mut listed);
        }
        let mut reasons = encoded.reasons.clone();
        let mut by = "causality";
        if listed.is_empty() {
            by = "linearizability";
            if encoded.several || !linearizable(history) {
                by = "search";
                let limit = self.configurations.min(LOOKS_MAX / encoded.problem.width());
                match search(&encoded.problem, limit) {
                    Found::Interleaving(_) => {}
                    Found::None { next, .. } => {
                        let core = shrink::shrink(&encoded.problem).unwrap_or(next);
                        let core = core.iter().map(|&op| encoded.sources[op as usize]);
                        anomaly(&operations, &core.collect::<Vec<_>>(), &mut listed);
                    }
                    Found::Budget { taken } => reasons.push(format!(
                        "budget: {limit} configurations, {taken} of {} operations explained at \
                         most; more configurations, fewer sessions or a shorter history would do",
                        encoded.problem.ops.len(),
                    )),
                }
            }
        }
        let verdict = conclude(!listed.is_empty(), encoded.judged, reasons);
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = encoded.judged;
        result.figure("operations", encoded.problem.ops.len());
        result.figure("decided_by", by);
        listed.report(&mut result);
        result
    }
}

/// Lists why a history is not causal, if that can be said of it.
fn not_causal(history: &History, listed: &mut Listed) {
    let Ok(mut encoded) = Encoded::of(history) else {
        return;
    };
    if !encoded.single {
        return;
    }
    let findings = analyse(&encoded.execution, Level::Causal);
    *listed = std::mem::take(&mut encoded.listed);
    explain::list(&encoded, Level::Causal, &findings, listed);
    if listed.is_empty()
        && encoded.shape == Shape::Registers
        && let Some(order) = clocks::causes_first(&encoded.execution)
    {
        let findings = causal::memory::causal_memory(&encoded.execution, &order, STEPS_MAX);
        explain::list(&encoded, Level::CausalMemory, &findings, listed);
    }
}

fn linearizable(history: &History) -> bool {
    let checker = Linearizable {
        limits: Limits {
            per_key_configurations: Some(LINEARIZABLE_CONFIGURATIONS),
            ..Limits::default()
        },
        ..Linearizable::default()
    };
    checker.check(history).verdict == Verdict::Valid
}

fn anomaly(operations: &[Operation<'_>], core: &[usize], listed: &mut Listed) {
    const NAMED_MAX: usize = 12;
    let told = |&op: &usize| {
        let op = &operations[op];
        let key = observe::key_name(op.key());
        let what = match (op.f(), op.result()) {
            (F::Read, Some(value)) => format!("read of {key} → {value}"),
            (f, _) => format!("{} {} to {key}", f.name(), op.argument()),
        };
        format!("{what} by process {}", op.process())
    };
    let named: Vec<String> = core.iter().take(NAMED_MAX).map(told).collect();
    let more = match core.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let ops: Vec<u64> = core.iter().map(|&op| operations[op].invoke.index).collect();
    listed.add("not-sequential", None, &ops, || {
        format!(
            "no interleaving of the sessions explains these {} operations: {}{more}",
            core.len(),
            named.join("; "),
        )
    });
}

#[cfg(test)]
mod tests;
