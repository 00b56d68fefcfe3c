//! Causal consistency in its three forms.
//!
//! *Causality* is session order (one process each, up to an operation of unknown outcome) and
//! reads-from, in any number of steps. Values are distinguishable. All three forms ask that nobody
//! reads what, as far as causes go, was overwritten already:
//!
//! * **Weak** (CC): every operation can be explained by some order of its causes; another operation
//!   by another order.
//! * **Convergence** (`CCv`): by one order of all writes, the same for all. This is what *causal
//!   consistency* means for transactions, where it is the level above read atomic (Biswas and Enea,
//!   OOPSLA 2019); Møldrup and Pavlogiannis (*AWDIT*, PLDI 2025) decide it in `O(n·k)` for `k`
//!   sessions.
//! * **Memory** (CM): each session by one order of its own (Ahamad et al., 1995).
//!
//! Convergence and memory each imply weak; neither implies the other; sequential consistency implies
//! all. They are decided by the bad patterns of Bouajjani, Enea, Guerraoui and Hamza (*On Verifying
//! Causal Consistency*, POPL 2017), whose names the anomalies bear:
//!
//! * all three: `cyclic-co` (causality has a cycle), `write-co-init-read` (a read of the initial
//!   state, though a write is among its causes), `thin-air-read`, `write-co-read` (a read from a
//!   write that another one among the causes of the read had overwritten);
//! * convergence: `cyclic-cf` (no order of the writes fits all reads);
//! * memory: `write-hb-init-read` and `cyclic-hb` (no order of what a session knew of fits its
//!   reads).
//!
//! The checker `causal` takes the form that the literature calls so: weak for histories of single
//! operations on registers, convergence for transactions and lists. `causal-convergence` and
//! `causal-memory` ask for one of the others; memory is decided for single operations on registers
//! only. Where weak fails, the further patterns of memory are not looked for.
//!
//! Weak and convergence cost `O(n·k)` ([`crate::isolation`], its submodule `clocks`), and a history
//! of so many sessions that it would take minutes is `unknown(budget)`; memory see the submodule
//! `memory`. A compare-and-set is a read and a write; what it writes does not depend on what
//! others see.

use crate::isolation::analysis::{Findings, Level, Violation, Why, analyse};
use crate::isolation::clocks;
use crate::isolation::encode::Encoded;
use crate::isolation::report;
use crate::transactions::encode::Shape;
use crate::{CheckResult, Checker, History};

pub(crate) mod memory;

/// Which form; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// CC.
    Weak,
    /// `CCv`, causal consistency of transactions.
    Convergence,
    /// CM.
    Memory,
}

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Causal {
    /// Which form; `None` takes weak for single operations on registers, convergence otherwise.
    pub variant: Option<Variant>,
}

impl Checker for Causal {
    fn name(&self) -> &'static str {
        match self.variant {
            None => "causal",
            Some(Variant::Weak) => "causal-weak",
            Some(Variant::Convergence) => "causal-convergence",
            Some(Variant::Memory) => "causal-memory",
        }
    }

    fn check(&self, history: &History) -> CheckResult {
        let encoded = match Encoded::of(history) {
            Ok(encoded) => encoded,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let registers = encoded.single && encoded.shape == Shape::Registers;
        let variant = self.variant.unwrap_or(if registers {
            Variant::Weak
        } else {
            Variant::Convergence
        });
        let mut findings = analyse(&encoded.execution, Level::Causal);
        let decided = findings.undecided.is_none();
        let nothing_else = encoded.listed.is_empty() && encoded.reasons.is_empty();
        let converges = findings.violations.is_empty() && findings.unlisted == 0;
        let mut level = Level::Causal;
        if variant != Variant::Convergence {
            if registers {
                only_weak(&mut findings);
            } else {
                let reason = "not-registers: only single operations on registers can be judged";
                findings = Findings {
                    undecided: Some(reason.to_owned()),
                    ..Findings::default()
                };
            }
        }
        if variant == Variant::Memory && registers && !findings.weak {
            level = Level::CausalMemory;
            if let Some(order) = clocks::causes_first(&encoded.execution) {
                findings = memory::causal_memory(&encoded.execution, &order, memory::STEPS_MAX);
            }
        }
        let mut result = report(self.name(), level, encoded, &findings);
        if variant == Variant::Weak && decided && nothing_else {
            result.figure("converges", converges);
        }
        result
    }
}

/// Leaves out what only convergence forbids.
fn only_weak(findings: &mut Findings) {
    let only_converging = |violation: &Violation| match violation {
        Violation::Cycle(cycle) => cycle.iter().any(|(_, why)| matches!(why, Why::Axiom(_))),
        Violation::Initial(_) | Violation::Overwritten { .. } => false,
    };
    findings.violations.retain(|v| !only_converging(v));
    if !findings.weak {
        findings.unlisted = 0;
    }
}

#[cfg(test)]
mod tests;
