//! Whether every acknowledged write of a register is still there or was replaced by somebody:
//! sibling completeness.
//!
//! A store that keeps concurrent writes as siblings (Dynamo, SOSP 2007; Riak) lets
//! a write replace only what its client had read, told by a context; the history has those values
//! as the write's `seen`. So no acknowledged write may vanish unless somebody replaced it on
//! purpose. In a store that keeps one of two concurrent writes (last write wins), it may.
//!
//! Registers (write and compare-and-set, every value written once), by their final reads as in
//! [`crate::lost_writes`]; a read shows one value or an array of concurrent ones. A write or
//! removal *replaces*
//!
//! * with a `seen`: the values in it; a compare-and-set: the value it expected;
//! * without: whatever was acknowledged before it began.
//!
//! Classes:
//!
//! * `vanished`: acknowledged, absent from every final read (at least one of which began after the
//!   acknowledgement), and replaced by nothing that may have taken effect.
//! * `resurrected`: shown by every final read that began after the acknowledgement of a write that
//!   had it in its `seen`, a compare-and-set that expected it, or a removal that replaced it.
//! * `fabricated`: shown by any read, but never written before that read ended.
//!
//! Figures count them, and `acknowledged` writes.
//!
//! The checker is for stores that claim to keep what is concurrent. That a register with one copy
//! may order two concurrent writes, and show only the last, is no excuse here.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::lost_writes::final_reads;
use crate::observe::{self, Family, KeyView, View};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Value};

const NEVER: usize = usize::MAX;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Siblings;

impl Checker for Siblings {
    fn name(&self) -> &'static str {
        "siblings"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut findings = Findings {
            operations: &operations,
            acknowledged: 0,
            never_read: 0,
            anomalies: Vec::new(),
            reasons: BTreeMap::new(),
        };
        let marker = history.final_phase();
        for (key, view) in observe::by_key(&operations) {
            if view.family == Family::Register
                && let Err(reason) = findings.judge(key, &view, marker)
            {
                *findings.reasons.entry(reason).or_insert(0) += 1;
            }
        }
        findings.conclude(self.name())
    }
}

/// Everything that replaces values of one key.
struct Replaced<'a> {
    /// By value: the operations that name it and may have taken effect.
    named: FxHashMap<&'a Value, Vec<usize>>,
    /// Those that name nothing, by invocation.
    blind: Vec<usize>,
}

impl<'a> Replaced<'a> {
    fn of(operations: &[Operation<'a>], view: &KeyView<'a>) -> Self {
        let mut replaced = Self {
            named: FxHashMap::default(),
            blind: Vec::new(),
        };
        let all = view.writes.iter().chain(&view.removes);
        for &w in all.filter(|&&w| observe::possible(&operations[w])) {
            let op = &operations[w];
            let expected = match op.f() {
                F::Cas => observe::pair(op.argument()).map(|(old, _)| std::slice::from_ref(old)),
                _ => observe::seen(op),
            };
            match expected {
                Some(named) => {
                    for value in named {
                        replaced.named.entry(value).or_default().push(w);
                    }
                }
                None => replaced.blind.push(w),
            }
        }
        replaced.blind.sort_unstable();
        replaced
    }

    /// Whether something that began before `until` may have replaced the value, acknowledged at
    /// `acked`.
    fn maybe(
        &self,
        operations: &[Operation<'a>],
        value: &Value,
        acked: usize,
        until: usize,
    ) -> bool {
        let began = |w: usize| operations[w].invoked_position;
        let named = self.named.get(value);
        if named.is_some_and(|all| all.iter().any(|&w| began(w) < until)) {
            return true;
        }
        let after = self.blind.partition_point(|&w| began(w) < acked);
        self.blind.get(after).is_some_and(|&w| began(w) < until)
    }

    /// The operation that was acknowledged first of those that certainly replaced the value.
    fn certainly(
        &self,
        operations: &[Operation<'a>],
        value: &Value,
        acked: Option<usize>,
    ) -> Option<usize> {
        let named = self.named.get(value).into_iter().flatten();
        let removes = self.blind.iter().filter(|&&w| {
            let op = &operations[w];
            op.f() == &F::Remove && acked.is_some_and(|acked| acked < op.invoked_position)
        });
        named
            .chain(removes)
            .copied()
            .filter(|&w| operations[w].is_ok())
            .min_by_key(|&w| operations[w].completed_position)
    }
}

struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    acknowledged: u64,
    never_read: u64,
    anomalies: Vec<Anomaly>,
    /// Why keys could not be judged, and how many.
    reasons: BTreeMap<&'static str, u64>,
}

impl<'a> Findings<'_, 'a> {
    fn judge(
        &mut self,
        key: Option<&Value>,
        view: &KeyView<'a>,
        marker: Option<usize>,
    ) -> Result<(), &'static str> {
        let operations = self.operations;
        let mut writes: FxHashMap<&'a Value, usize> = FxHashMap::default();
        let mut asked: FxHashSet<&'a Value> = FxHashSet::default();
        for &w in &view.writes {
            let op = &operations[w];
            let value = observe::written(op).ok_or("malformed-cas")?;
            asked.insert(value);
            if !observe::possible(op) {
                continue;
            }
            if value.is_nil() || writes.insert(value, w).is_some() {
                return Err("values-not-unique");
            }
        }
        let shown = |read: &View<'a>| -> &'a [Value] {
            if observe::is_blank(read.value) && !writes.contains_key(read.value) {
                return &[];
            }
            observe::siblings(read.value, |value| asked.contains(value))
        };
        let mut fabricated = FxHashMap::default();
        for read in &view.reads {
            let ended = operations[read.op].completed_position.unwrap_or(NEVER);
            for value in shown(read) {
                let write = writes.get(value);
                if write.is_none_or(|&w| operations[w].invoked_position > ended) {
                    fabricated.entry(value).or_insert(read.op);
                }
            }
        }
        for (value, read) in fabricated {
            self.fabricated(key, value, read);
        }
        let finals = final_reads(operations, &view.reads, marker);
        // By value: how many final reads show it.
        let mut present: FxHashMap<&Value, Vec<usize>> = FxHashMap::default();
        for (i, read) in finals.iter().enumerate() {
            for value in shown(read) {
                let reads = present.entry(value).or_default();
                if reads.last() != Some(&i) {
                    reads.push(i);
                }
            }
        }
        let ended = |read: &View<'_>| operations[read.op].completed_position.unwrap_or(NEVER);
        let last_end = finals.iter().map(ended).max().unwrap_or(0);
        let replaced = Replaced::of(operations, view);
        for (&value, &w) in &writes {
            let op = &operations[w];
            let acked = op.completed_position.filter(|_| op.is_ok());
            self.acknowledged += u64::from(acked.is_some());
            match (present.get(value), acked) {
                (Some(reads), _) => {
                    if let Some(by) = replaced.certainly(operations, value, acked) {
                        let from =
                            finals.partition_point(|r| !operations[by].precedes(&operations[r.op]));
                        let showing = reads.len() - reads.partition_point(|&i| i < from);
                        if from < finals.len() && showing == finals.len() - from {
                            self.resurrected(key, value, w, by, finals[from].op);
                        }
                    }
                }
                (None, Some(acked)) => {
                    let after = finals.iter().rfind(|r| op.precedes(&operations[r.op]));
                    match after {
                        _ if replaced.maybe(operations, value, acked, last_end) => {}
                        None => self.never_read += 1,
                        Some(read) => self.vanished(key, value, w, read),
                    }
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn vanished(&mut self, key: Option<&Value>, value: &Value, write: usize, read: &View<'_>) {
        let op = &self.operations[write];
        let at = op.completed_at().unwrap_or_default() as f64 / 1e9;
        let node = op.node().map_or_else(String::new, |n| format!(" by {n}"));
        let summary = format!(
            "{} of {value} to {} was acknowledged{node} to process {} at {at:.3} s and vanished: \
             the final read shows {}, and nobody who had read {value} replaced it",
            op.f().name(),
            observe::key_name(key),
            op.process(),
            read.value,
        );
        self.record("vanished", key, value, &[write, read.op], summary);
    }

    fn resurrected(
        &mut self,
        key: Option<&Value>,
        value: &Value,
        write: usize,
        by: usize,
        read: usize,
    ) {
        let op = &self.operations[by];
        let what = match (op.f(), observe::written(op)) {
            (f, Some(new)) => format!("{} of {new}", f.name()),
            (f, None) => f.name().to_owned(),
        };
        let summary = format!(
            "{value} of {} was replaced by the {what} of process {}, which was acknowledged, but \
             the final read by process {} shows it again",
            observe::key_name(key),
            op.process(),
            self.operations[read].process(),
        );
        self.record("resurrected", key, value, &[write, by, read], summary);
    }

    fn fabricated(&mut self, key: Option<&Value>, value: &Value, read: usize) {
        let summary = format!(
            "a read of {} by process {} shows {value}, which nobody can have written",
            observe::key_name(key),
            self.operations[read].process(),
        );
        self.record("fabricated", key, value, &[read], summary);
    }

    fn record(
        &mut self,
        class: &str,
        key: Option<&Value>,
        value: &Value,
        ops: &[usize],
        summary: String,
    ) {
        let mut figures = serde_json::Map::new();
        if let Ok(json) = serde_json::to_value(value) {
            figures.insert("value".to_owned(), json);
        }
        let ops = ops.iter().map(|&i| self.operations[i].invoke.index);
        self.anomalies.push(Anomaly {
            class: class.to_owned(),
            key: key.cloned(),
            summary,
            ops: ops.collect(),
            figures,
        });
    }

    fn conclude(mut self, checker: &str) -> CheckResult {
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, keys)| format!("{reason} ({keys} keys)"))
            .collect();
        if self.never_read > 0 {
            reasons.insert(0, "final-read-missing".to_owned());
        }
        let verdict = conclude(!self.anomalies.is_empty(), self.acknowledged, reasons);
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.acknowledged;
        result.figure("acknowledged", self.acknowledged);
        for class in ["vanished", "resurrected", "fabricated"] {
            let of_class = self.anomalies.iter().filter(|a| a.class == class);
            result.figure(class, of_class.count());
        }
        result.figure("never_read", self.never_read);
        self.anomalies
            .sort_by(|a, b| (&a.ops, &a.class).cmp(&(&b.ops, &b.class)));
        result.anomalies = self.anomalies;
        result
    }
}

#[cfg(test)]
mod tests;
