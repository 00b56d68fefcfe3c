//! Whether counters show what was added to them: nothing lost, nothing counted twice.
//!
//! The bounds are those of Jepsen's counter checker (`jepsen.checker/counter`), with decrements. Of
//! a read,
//!
//! * the *upper* bound is the sum of the positive amounts that may have been added before it ended
//!   and of the negative ones acknowledged before it began;
//! * the *lower* bound is the sum of the positive amounts acknowledged before it began and of the
//!   negative ones that may have been added before it ended.
//!
//! With nothing pending and nothing of unknown outcome the two are the same number.
//!
//! **Jepsen's counters** are changed by `add` (and `decrement`) instead of `increment`: a key that is
//! added to, and whose reads return whole numbers. Each of their reads is judged by its bounds, as
//! Jepsen does, and no final read is asked for.
//!
//! **Other counters**: unlike Jepsen's, this checker forgives a read that is merely late, because replicas of a store
//! that promises no more than convergence (a counter as a CRDT, say) may be: what is judged by
//! those bounds are the *final reads* (as in [`crate::lost_writes`]), of which one that is within
//! them is enough. Any other read must show the sum of some of the amounts that may have been added
//! before it ended; one that does, but is outside of its own bounds, counts as `stale`.
//!
//! `out-of-bounds`: a final read below its lower or above its upper bound, while none is within (of
//! Jepsen's counters any read that is); any read above the sum of the positive, or below that of the negative amounts that may have been
//! added. Figures: `increments` (acknowledged), `lost` and `extra` (by how much the final reads are
//! off, over all keys), `stale`. A key that somebody may have removed is not judged.

use std::collections::BTreeMap;

use crate::found::{Found, anomaly};
use crate::lost_writes::final_reads;
use crate::observe::{self, Family, KeyView, View};
use crate::verdict::conclude;
use crate::{CheckResult, Checker, F, History, Operation, Value};

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

impl Checker for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut findings = Findings {
            operations: &operations,
            increments: 0,
            reads: 0,
            stale: 0,
            lost: 0,
            extra: 0,
            found: Found::default(),
            reasons: BTreeMap::new(),
        };
        let marker = history.final_phase();
        for (key, view) in observe::by_key(&operations) {
            if view.family == Family::Counter
                && let Err(reason) = findings.judge(key, &view, marker)
            {
                *findings.reasons.entry(reason).or_insert(0) += 1;
            }
        }
        findings.conclude(self.name())
    }
}

/// Amounts in the order of a position in the history, with their sums.
struct Sums {
    positions: Vec<usize>,
    positive: Vec<i128>,
    negative: Vec<i128>,
}

impl Sums {
    fn of(mut amounts: Vec<(usize, i128)>) -> Self {
        amounts.sort_unstable();
        let mut sums = Self {
            positions: amounts.iter().map(|(position, _)| *position).collect(),
            positive: vec![0],
            negative: vec![0],
        };
        let (mut positive, mut negative) = (0, 0);
        for (_, amount) in amounts {
            positive += amount.max(0);
            negative += amount.min(0);
            sums.positive.push(positive);
            sums.negative.push(negative);
        }
        sums
    }

    /// The sum of the positive and that of the negative amounts before the position.
    fn before(&self, position: usize) -> (i128, i128) {
        let count = self.positions.partition_point(|&p| p < position);
        (self.positive[count], self.negative[count])
    }
}

/// What a read may show.
struct Bounds {
    lower: i128,
    upper: i128,
    /// Of any part of what may have been added.
    least: i128,
    most: i128,
}

impl Bounds {
    /// How far the value is outside: negative if too low.
    fn off(&self, shown: i128) -> i128 {
        (shown - self.upper).max(0) + (shown - self.lower).min(0)
    }
}

struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    increments: u64,
    reads: u64,
    stale: u64,
    lost: i128,
    extra: i128,
    found: Found,
    /// Why keys could not be judged, and how many.
    reasons: BTreeMap<&'static str, u64>,
}

impl Findings<'_, '_> {
    fn judge(
        &mut self,
        key: Option<&Value>,
        view: &KeyView<'_>,
        marker: Option<usize>,
    ) -> Result<(), &'static str> {
        let operations = self.operations;
        if view
            .removes
            .iter()
            .any(|&r| observe::possible(&operations[r]))
        {
            return Err("removed");
        }
        let every_read = view
            .writes
            .iter()
            .any(|&w| operations[w].f() != &F::Increment);
        let (mut acknowledged, mut possible) = (Vec::new(), Vec::new());
        for &w in &view.writes {
            let op = &operations[w];
            if !observe::possible(op) {
                continue;
            }
            let amount = observe::amount(op).ok_or("malformed-increment")?;
            possible.push((op.invoked_position, amount));
            if let (true, Some(completed)) = (op.is_ok(), op.completed_position) {
                acknowledged.push((completed, amount));
            }
        }
        let last_acknowledged = acknowledged.iter().map(|(p, _)| *p).max();
        self.increments += acknowledged.len() as u64;
        let (acknowledged, possible) = (Sums::of(acknowledged), Sums::of(possible));
        let finals = final_reads(operations, &view.reads, marker);
        let first_final = view.reads.len() - finals.len();
        let mut readable = true;
        // Of the final reads the one that is least off, with by how much.
        let mut best: Option<(i128, &View<'_>, i128, Bounds)> = None;
        for (i, read) in view.reads.iter().enumerate() {
            let shown = match read.value {
                Value::Nil => 0,
                Value::Int(n) => i128::from(*n),
                _ => {
                    readable = false;
                    continue;
                }
            };
            self.reads += 1;
            let op = &operations[read.op];
            let began = acknowledged.before(op.invoked_position);
            let ended = possible.before(op.completed_position.unwrap_or(usize::MAX));
            let bounds = Bounds {
                lower: began.0 + ended.1,
                upper: ended.0 + began.1,
                least: ended.1,
                most: ended.0,
            };
            let off = bounds.off(shown);
            if shown < bounds.least || shown > bounds.most {
                self.impossible(key, read, shown, &bounds);
            } else if off != 0 && every_read {
                self.outside(key, read, shown, &bounds, "while");
            } else if off != 0 {
                self.stale += 1;
            }
            if !every_read
                && i >= first_final
                && best.as_ref().is_none_or(|b| off.abs() < b.0.abs())
            {
                best = Some((off, read, shown, bounds));
            }
        }
        let complete = finals
            .iter()
            .any(|r| last_acknowledged.is_some_and(|p| p < operations[r.op].invoked_position));
        if let Some((off, read, shown, bounds)) = best
            && off != 0
        {
            self.lost += (-off).max(0);
            self.extra += off.max(0);
            self.final_read(key, read, shown, &bounds);
        }
        match (
            readable,
            every_read || complete || last_acknowledged.is_none(),
        ) {
            (false, _) => Err("unreadable-read"),
            (true, false) => Err("final-read-missing"),
            (true, true) => Ok(()),
        }
    }

    /// A read that no part of the increments explains.
    fn impossible(&mut self, key: Option<&Value>, read: &View<'_>, shown: i128, bounds: &Bounds) {
        let why = format!(
            "what may have been added until then comes to {} at least and {} at most",
            bounds.least, bounds.most
        );
        self.record(key, read, shown, bounds, &why);
    }

    fn final_read(&mut self, key: Option<&Value>, read: &View<'_>, shown: i128, bounds: &Bounds) {
        if shown < bounds.least || shown > bounds.most {
            return;
        }
        self.outside(key, read, shown, bounds, "which is final, but");
    }

    fn outside(
        &mut self,
        key: Option<&Value>,
        read: &View<'_>,
        shown: i128,
        bounds: &Bounds,
        how: &str,
    ) {
        let off = bounds.off(shown);
        let what = if off < 0 { "lost" } else { "too many" };
        let expected = if bounds.lower == bounds.upper {
            format!("exactly {}", bounds.lower)
        } else {
            format!("{} to {}", bounds.lower, bounds.upper)
        };
        let why = format!(
            "{how} the increments come to {expected}: {} {what}",
            off.abs()
        );
        self.record(key, read, shown, bounds, &why);
    }

    fn record(
        &mut self,
        key: Option<&Value>,
        read: &View<'_>,
        shown: i128,
        bounds: &Bounds,
        why: &str,
    ) {
        let op = &self.operations[read.op];
        let node = op.node().map_or_else(String::new, |n| format!(" from {n}"));
        let mut figures = serde_json::Map::new();
        for (name, number) in [
            ("shown", shown),
            ("lower", bounds.lower),
            ("upper", bounds.upper),
        ] {
            figures.insert(name.to_owned(), observe::number(number));
        }
        self.found.add("out-of-bounds", || {
            let summary = format!(
                "a read of {} by process {}{node} shows {shown}, {why}",
                observe::key_name(key),
                op.process()
            );
            let mut anomaly = anomaly(key, &[op], summary);
            anomaly.figures = figures;
            anomaly
        });
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let reasons = self
            .reasons
            .iter()
            .map(|(reason, keys)| format!("{reason} ({keys} keys)"));
        let violated = !self.found.is_empty();
        let judged = if self.increments > 0 { self.reads } else { 0 };
        let verdict = conclude(violated, judged, reasons.collect());
        let mut result = CheckResult::new(checker, verdict);
        result.judged = judged;
        result.figure("increments", self.increments);
        result.figure("reads", self.reads);
        result.figure("stale", self.stale);
        result.figure("lost", observe::number(self.lost));
        result.figure("extra", observe::number(self.extra));
        self.found.list(&mut result);
        result
    }
}

#[cfg(test)]
mod tests;
