//! Isolation of transactions whose values are distinguishable: read committed and read atomic.
//! (Causal consistency, the next level, is the matter of [`crate::causal`].)
//!
//! Defined by Biswas and Enea (*On the Complexity of Checking Transactional Consistency*, OOPSLA
//! 2019). The transactions that took effect are ordered by *sessions* (one process each, up to a
//! transaction of unknown outcome) and by *reads-from*. A level holds if there is a total *commit
//! order* that contains both and meets the axiom of the level: if a transaction reads `x` from `t1`,
//! then every other transaction that wrote `x` and was visible to it was committed before `t1`.
//!
//! * [`ReadCommitted`] (`read-committed`): visible is what the transaction had read from before.
//! * [`ReadAtomic`] (`read-atomic`): visible is whatever it reads from, and what came before it in
//!   its session. Nothing is seen in part, and reads can be repeated.
//!
//! Each is implied by the next, read atomic by causal consistency, and that by serializability
//! (that respects sessions). Note that the session order counts at all levels.
//!
//! Both are decided exactly and in `O(n^{3/2})` (the algorithms of Møldrup and Pavlogiannis,
//! *AWDIT: An Optimal Weak Database Isolation Tester*, PLDI 2025): the submodule `levels` argues
//! why, `encode` says whose value each read is. Judged are histories of `txn`, and of single reads,
//! writes, appends and compare-and-sets as transactions of one operation. The order in which
//! elements were appended to a list is known from its reads and has to be that of the commits.
//!
//! Classes of anomalies, besides those that `encode` finds:
//!
//! * `non-monotonic-read` (read committed): a transaction reads from one, and then what that one
//!   had replaced.
//! * `fractured-read` (read atomic): it sees one write of a transaction and misses another.
//! * `non-repeatable-read` (read atomic): it reads a key twice, from two transactions.
//! * `read-your-writes` (read atomic): it misses what its own session wrote.
//! * `causality-cycle`: transactions that read from one another, or from what came later in their
//!   session.
//! * `version-order-cycle`: the order of elements in lists contradicts that.
//! * `commit-order-cycle`: several reads, each of which could be, but not all of them together.
//!
//! Every pair that the axiom asks for and that is on a cycle is on a cycle that is listed, up to
//! 1,000 of a class; figures `<class>_count` count them, and `unlisted` what is not listed.

use crate::verdict::conclude;
use crate::{CheckResult, Checker, History};

pub(crate) mod analysis;
pub(crate) mod clocks;
pub(crate) mod encode;
pub(crate) mod execution;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod levels;
pub(crate) mod listed;

use analysis::{Findings, Level, analyse};
use encode::Encoded;

/// The checker `read-committed`; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadCommitted;

/// The checker `read-atomic`; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadAtomic;

impl Checker for ReadCommitted {
    fn name(&self) -> &'static str {
        "read-committed"
    }

    fn check(&self, history: &History) -> CheckResult {
        check(self.name(), Level::ReadCommitted, history)
    }
}

impl Checker for ReadAtomic {
    fn name(&self) -> &'static str {
        "read-atomic"
    }

    fn check(&self, history: &History) -> CheckResult {
        check(self.name(), Level::ReadAtomic, history)
    }
}

fn check(name: &str, level: Level, history: &History) -> CheckResult {
    match Encoded::of(history) {
        Ok(encoded) => {
            let findings = analyse(&encoded.execution, level);
            report(name, level, encoded, &findings)
        }
        Err(reason) => CheckResult::unknown(name, reason),
    }
}

/// The result of a checker that found this.
pub(crate) fn report(
    name: &str,
    level: Level,
    mut encoded: Encoded<'_>,
    findings: &Findings,
) -> CheckResult {
    let mut listed = std::mem::take(&mut encoded.listed);
    explain::list(&encoded, level, findings, &mut listed);
    let mut reasons = std::mem::take(&mut encoded.reasons);
    reasons.extend(findings.undecided.clone());
    let verdict = conclude(!listed.is_empty(), encoded.judged, reasons);
    let mut result = CheckResult::new(name, verdict);
    result.judged = encoded.judged;
    result.figure("transactions", encoded.execution.txns());
    result.figure("sessions", encoded.execution.sessions());
    if findings.unlisted > 0 {
        result.figure("unlisted", findings.unlisted);
    }
    listed.report(&mut result);
    result
}

#[cfg(test)]
mod tests;
