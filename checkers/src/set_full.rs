//! What became of every element of a set, a list or a text: as Jepsen's `set-full`
//! (`jepsen.checker/set-full`), and more.
//!
//! Unlike [`crate::lost_writes`], which looks at the reads of a final phase, this checker follows
//! each element through all reads, in the order in which they began.
//!
//! An element is *known* once an operation that wrote it was acknowledged, or once a read that
//! shows it has ended. A read *misses* it if it began after that and does not show it. Classes of
//! anomalies, each counted in the figure of its name:
//!
//! * `lost`: acknowledged; the read that began last misses it, and every read that shows it had
//!   ended before that one began: from some read on it was never seen again.
//! * `phantom`: a read shows an element whose every write certainly failed (`phantom_failed`), or
//!   one never acknowledged that was seen and then, as above, never again (`phantom_vanished`).
//! * `duplicated`: one read shows it more often than it can be there: twice in a set or a text, in
//!   a list more often than it was written.
//! * `unexpected`: a read shows what nobody wrote, or whose write had not begun when it ended.
//! * `resurrected`: an acknowledged removal began after every write of it had ended, and the last
//!   read, which began after the acknowledgement, shows it.
//! * `stale`, only with the option `linearizable`: a read misses it, and it is not lost.
//!
//! All make a history invalid. Further figures: `attempts` (elements), `acknowledged`, `stable`
//! (known, seen and not lost), `stale` (as above, whatever the option), `never_read` (acknowledged,
//! never shown, and no read began later), `recovered` (never acknowledged, shown by the last read),
//! `removed` (missing from the last read, which a removal explains), `reappeared` (shown, missed by
//! a later read, and shown by one still later, one after the other: late replicas do that), and the
//! quantiles of `stale_ms`: how long after it was known an element could still be missed, by the
//! last read that does. Without a read of an element that was known, nothing can be said:
//! `unknown(nothing-to-judge)`. In a history that marks phases, the last read decides only if it
//! began in the final one; otherwise what it misses is `unsettled` and the verdict
//! `unknown(final-read-missing)`.
//!
//! An element that an operation may have removed (one that is not known to have failed, and had not
//! ended when the element's first write began) before the read in question ended is neither lost,
//! stale nor a phantom that vanished. While a `generate` of unknown outcome may have written
//! anything, nothing is unexpected and nothing is duplicated in a list.
//!
//! **Why this is linear.** Absence is never looked at: an element is missing from the reads between
//! two runs of reads that show it. Of two reads that follow each other only what differs after their
//! common beginning is looked at, so that an element costs something when its run of reads begins
//! and when it ends. The time is in O(n log n), n being operations and elements shown; comparing
//! equal beginnings is the only thing done for every element shown.

use std::collections::BTreeMap;

use crate::found::{self, Found};
use crate::observe::{self, Family};
use crate::verdict::conclude;
use crate::{CheckResult, Checker, History, Operation};

mod element;
mod judge;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct SetFull {
    /// Whether a read that misses an element is a violation even though a later one shows it.
    pub linearizable: bool,
}

impl Checker for SetFull {
    fn name(&self) -> &'static str {
        "set-full"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        if u32::try_from(operations.len()).is_err() {
            return CheckResult::unknown(self.name(), "too-many-operations: more than 2^32");
        }
        let mut findings = Findings {
            operations: &operations,
            linearizable: self.linearizable,
            marker: history.final_phase(),
            counts: Counts::default(),
            stale_ms: Vec::new(),
            found: Found::default(),
            reasons: BTreeMap::new(),
        };
        for (key, view) in observe::by_key(&operations) {
            match view.family {
                Family::List | Family::Set | Family::Text => {
                    judge::judge(&mut findings, key, &view);
                }
                Family::Mixed => findings.reason("mixed-functions"),
                Family::Register
                | Family::Map
                | Family::Counter
                | Family::Lock
                | Family::ReadOnly => {}
            }
        }
        findings.conclude(self.name())
    }
}

#[derive(Default)]
struct Counts {
    reads: u64,
    attempts: u64,
    acknowledged: u64,
    stable: u64,
    stale: u64,
    never_read: u64,
    recovered: u64,
    removed: u64,
    reappeared: u64,
    unsettled: u64,
    phantom_failed: u64,
    phantom_vanished: u64,
    /// Elements that a read could have missed.
    judged: u64,
}

/// What was found so far, over all keys.
struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    linearizable: bool,
    marker: Option<usize>,
    counts: Counts,
    stale_ms: Vec<f64>,
    found: Found,
    /// Why keys could not be judged, and how many.
    reasons: BTreeMap<&'static str, u64>,
}

impl Findings<'_, '_> {
    fn reason(&mut self, reason: &'static str) {
        *self.reasons.entry(reason).or_insert(0) += 1;
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, keys)| format!("{reason} ({keys} keys)"))
            .collect();
        if self.counts.unsettled > 0 {
            reasons.push("final-read-missing".to_owned());
        }
        let verdict = conclude(!self.found.is_empty(), self.counts.judged, reasons);
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.counts.judged;
        let c = &self.counts;
        for (name, count) in [
            ("attempts", c.attempts),
            ("acknowledged", c.acknowledged),
            ("stable", c.stable),
            ("stale", c.stale),
            ("lost", self.found.count("lost")),
            ("never_read", c.never_read),
            ("duplicated", self.found.count("duplicated")),
            ("unexpected", self.found.count("unexpected")),
            ("phantom_failed", c.phantom_failed),
            ("phantom_vanished", c.phantom_vanished),
            ("resurrected", self.found.count("resurrected")),
            ("reappeared", c.reappeared),
            ("recovered", c.recovered),
            ("removed", c.removed),
            ("unsettled", c.unsettled),
            ("reads", c.reads),
        ] {
            result.figure(name, count);
        }
        found::quantiles(&mut result, "stale_ms", self.stale_ms);
        self.found.list(&mut result);
        result
    }
}

#[cfg(test)]
mod tests;
