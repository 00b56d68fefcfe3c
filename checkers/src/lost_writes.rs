//! Which acknowledged writes are readable nowhere once everything has healed.
//!
//! **Final reads.** Reads invoked after the last marker of the final phase
//! ([`History::final_phase`]); in a history that marks no phases, the last ok read of each key.
//!
//! **Lists, sets and texts** (functions append and generate, add, insert) are judged exactly, element by element, in the
//! manner of Jepsen's set-full. An element is a value of a key. Its classes, by figure:
//!
//! * `acknowledged`: write operations that the store acknowledged.
//! * `lost`: acknowledged, and missing from every final read; at least one of them began after the
//!   acknowledgement. Of a value appended several times, the occurrences that are missing.
//! * `vanished`: never acknowledged, but an earlier read showed it, and every final read (at least
//!   one began after that read ended) misses it.
//! * `duplicated`: one read shows it more often than it was written.
//! * `unexpected`: a read shows it although it was not written, or only by operations that
//!   certainly failed, or only after the read had ended.
//! * `stale`: acknowledged, shown by a final read, but some read that began after the
//!   acknowledgement missed it.
//! * `resurrected`: a node showed it, then missed it in a later read, then showed it again, the
//!   three reads one after the other and answered by the same node (or all by nobody knows whom).
//! * `recovered`: never acknowledged, yet shown by a final read.
//! * `never_read`: acknowledged, and no final read began after the acknowledgement.
//!
//! `lost`, `vanished`, `duplicated` and `unexpected` make a history invalid; the others are
//! figures. `never_read` leaves a history that is otherwise valid `unknown(final-read-missing)`.
//!
//! An element that an operation of function remove may have taken away is not lost: one that is not
//! known to have failed, had not ended before the element's write began, and began before the final
//! read ended. Such writes are counted as `removed`. Nor does an element that may have been removed
//! count as vanished, stale or resurrected. While a `generate` of unknown outcome may have appended
//! anything, nothing is unexpected or duplicated.
//!
//! **Registers** (write and compare-and-set, every value written once), and every field of a map
//! (put), hide what was overwritten,
//! so that `lost` is a lower bound: a write is lost if each final read that began after its
//! acknowledgement returns a value that was in place before the write began. A value is in place
//! once its write, or any read that returned it, has ended; the initial `nil` always is.
//! A read that shows several concurrent values returns all of them: then all must have been in place
//! before. Removals excuse as above. `vanished` and `resurrected` do not apply, `duplicated`
//! neither. What becomes of concurrent writes is the matter of [`crate::siblings`], of counters and
//! locks that of [`crate::counter`] and [`crate::mutual_exclusion`].

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::found::LISTED_MAX;
use crate::observe::{self, Family, KeyView, View};
use crate::registers::Register;
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, History, Operation, Value};

mod collection;
mod register;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct LostWrites;

impl Checker for LostWrites {
    fn name(&self) -> &'static str {
        "lost-writes"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let keys = observe::by_key(&operations);
        find(&operations, keys, history.final_phase()).conclude(self.name())
    }
}

/// The acknowledged writes that are lost, by their position among the operations.
pub(crate) fn lost_operations<'a>(
    operations: &[Operation<'a>],
    keys: BTreeMap<Option<&'a Value>, KeyView<'a>>,
    marker: Option<usize>,
) -> FxHashSet<usize> {
    find(operations, keys, marker).lost
}

fn find<'o, 'a>(
    operations: &'o [Operation<'a>],
    keys: BTreeMap<Option<&'a Value>, KeyView<'a>>,
    marker: Option<usize>,
) -> Findings<'o, 'a> {
    let mut findings = Findings {
        operations,
        counts: Counts::default(),
        lost: FxHashSet::default(),
        anomalies: Vec::new(),
        reasons: BTreeMap::new(),
    };
    // A counter that nobody ever changed may be read as zero.
    let counters = keys.values().any(|view| view.family == Family::Counter);
    for (key, view) in keys {
        let finals = final_reads(operations, &view.reads, marker);
        findings.counts.reads += view.reads.len() as u64;
        findings.counts.final_reads += finals.len() as u64;
        match view.family {
            Family::List | Family::Set | Family::Text => {
                collection::judge(&mut findings, key, &view, finals);
            }
            Family::Register | Family::Map => {
                let first_final = view.reads.len() - finals.len();
                let acknowledged = view.writes.iter().filter(|&&w| operations[w].is_ok());
                findings.counts.acknowledged += acknowledged.count() as u64;
                let each = Register::each(operations, &view, |register| {
                    register::judge(&mut findings, key, &register, first_final);
                });
                if let Err(reason) = each {
                    findings.reason(reason, key);
                }
            }
            Family::Mixed => findings.reason("mixed-functions", key),
            // What they show cannot be told apart by write.
            Family::Counter | Family::Lock => {}
            Family::ReadOnly => {
                for read in &view.reads {
                    let zero = counters && read.value == &Value::Int(0);
                    if !(zero || observe::is_blank(read.value)) {
                        findings.unexpected(key, read.value, read.op, "nobody wrote to the key");
                    }
                }
            }
        }
    }
    findings
}

pub(crate) fn final_reads<'v, 'a>(
    operations: &[Operation<'_>],
    reads: &'v [View<'a>],
    marker: Option<usize>,
) -> &'v [View<'a>] {
    let from = match marker {
        Some(marker) => reads.partition_point(|r| operations[r.op].invoked_position <= marker),
        None => reads.len().saturating_sub(1),
    };
    &reads[from..]
}

#[derive(Default)]
struct Counts {
    reads: u64,
    final_reads: u64,
    acknowledged: u64,
    lost: u64,
    vanished: u64,
    duplicated: u64,
    unexpected: u64,
    stale: u64,
    resurrected: u64,
    recovered: u64,
    never_read: u64,
    removed: u64,
}

/// What was found so far, over all keys.
struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    counts: Counts,
    lost: FxHashSet<usize>,
    anomalies: Vec<Anomaly>,
    /// Why a key could not be judged: a key for each reason, and how many.
    reasons: BTreeMap<&'static str, (String, u64)>,
}

impl Findings<'_, '_> {
    fn reason(&mut self, reason: &'static str, key: Option<&Value>) {
        let first = || (observe::key_name(key), 0);
        self.reasons.entry(reason).or_insert_with(first).1 += 1;
    }

    fn lost(&mut self, key: Option<&Value>, value: &Value, write: usize, final_read: usize) {
        self.counts.lost += 1;
        self.lost.insert(write);
        if self.counts.lost > LISTED_MAX {
            return;
        }
        let op = &self.operations[write];
        let acked_at = op.completed_at().unwrap_or_default() as f64 / 1e9;
        let node = op.node().map_or_else(String::new, |n| format!(" by {n}"));
        let epoch = op
            .epoch()
            .map_or_else(String::new, |e| format!(" in epoch {e}"));
        let summary = format!(
            "{} of {value} to {} was acknowledged{node}{epoch} to process {} at {acked_at:.3} s, \
             but no final read shows it",
            op.f().name(),
            observe::key_name(key),
            op.process(),
        );
        let mut anomaly = self.anomaly("lost", key, value, vec![write, final_read], summary);
        let mut figure = |name: &str, value: serde_json::Value| {
            anomaly.figures.insert(name.to_owned(), value);
        };
        figure("process", op.process().to_string().into());
        if let Some(node) = op.node() {
            figure("node", node.to_string().into());
        }
        if let Some(epoch) = op.epoch() {
            figure("epoch", epoch.into());
        }
        figure("acknowledged_at_seconds", acked_at.into());
        self.anomalies.push(anomaly);
    }

    fn unexpected(&mut self, key: Option<&Value>, value: &Value, read: usize, why: &str) {
        self.counts.unexpected += 1;
        if self.counts.unexpected > LISTED_MAX {
            return;
        }
        let summary = format!(
            "a read of {} by process {} shows {value}, but {why}",
            observe::key_name(key),
            self.operations[read].process(),
        );
        let anomaly = self.anomaly("unexpected", key, value, vec![read], summary);
        self.anomalies.push(anomaly);
    }

    /// An element shown more often than it was written.
    fn duplicated(
        &mut self,
        key: Option<&Value>,
        value: &Value,
        read: usize,
        times: u64,
        written: u64,
    ) {
        self.counts.duplicated += 1;
        if self.counts.duplicated > LISTED_MAX {
            return;
        }
        let summary = format!(
            "a read of {} shows {value} {times} times, but it was written {written} time(s)",
            observe::key_name(key),
        );
        let anomaly = self.anomaly("duplicated", key, value, vec![read], summary);
        self.anomalies.push(anomaly);
    }

    /// Never acknowledged, shown, and gone from the final reads.
    fn vanished(&mut self, key: Option<&Value>, value: &Value, seen_by: usize, read: usize) {
        self.counts.vanished += 1;
        if self.counts.vanished > LISTED_MAX {
            return;
        }
        let summary = format!(
            "{value} of {} was read by process {}, but no final read shows it",
            observe::key_name(key),
            self.operations[seen_by].process(),
        );
        let anomaly = self.anomaly("vanished", key, value, vec![seen_by, read], summary);
        self.anomalies.push(anomaly);
    }

    /// An anomaly over these operations (positions among the operations).
    fn anomaly(
        &self,
        class: &str,
        key: Option<&Value>,
        value: &Value,
        ops: Vec<usize>,
        summary: String,
    ) -> Anomaly {
        let mut figures = serde_json::Map::new();
        if let Ok(json) = serde_json::to_value(value) {
            figures.insert("value".to_owned(), json);
        }
        let ops = ops.into_iter().map(|i| self.operations[i].invoke.index);
        Anomaly {
            class: class.to_owned(),
            key: key.cloned(),
            summary,
            ops: ops.collect(),
            figures,
        }
    }

    fn conclude(mut self, checker: &str) -> CheckResult {
        let c = &self.counts;
        let mut reasons: Vec<String> = Vec::new();
        if c.never_read > 0 {
            reasons.push("final-read-missing".to_owned());
        }
        for (reason, (key, keys)) in self.reasons {
            reasons.push(match keys {
                1 => format!("{reason}: {key}"),
                more => format!("{reason}: {key} and {} more", more - 1),
            });
        }
        let violated = c.lost + c.vanished + c.duplicated + c.unexpected > 0;
        let mut result = CheckResult::new(checker, conclude(violated, c.acknowledged, reasons));
        result.judged = c.acknowledged;
        for (name, count) in [
            ("acknowledged", c.acknowledged),
            ("lost", c.lost),
            ("vanished", c.vanished),
            ("duplicated", c.duplicated),
            ("unexpected", c.unexpected),
            ("stale", c.stale),
            ("resurrected", c.resurrected),
            ("recovered", c.recovered),
            ("never_read", c.never_read),
            ("removed", c.removed),
            ("reads", c.reads),
            ("final_reads", c.final_reads),
        ] {
            result.figure(name, count);
        }
        self.anomalies.sort_by(|a, b| a.ops.cmp(&b.ops));
        result.anomalies = self.anomalies;
        result
    }
}

#[cfg(test)]
mod tests;
