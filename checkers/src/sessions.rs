//! The four session guarantees: what one client may expect of its own operations, whichever
//! replicas answer them.
//!
//! Defined by Terry, Demers, Petersen, Spreitzer, Theimer and Welch in *Session Guarantees for
//! Weakly Consistent Replicated Data* (PDIS 1994). A session here is one process, up to an
//! operation of unknown outcome, and each key is judged on its own:
//!
//! * `read-your-writes`: a read misses a write that the same session had acknowledged before.
//! * `monotonic-reads`: a read misses what an earlier read of the same session showed.
//! * `monotonic-writes`: a read, of anybody, shows a write but not an earlier write of the session
//!   that wrote it, or shows them in the other order.
//! * `writes-follow-reads`: a read, of anybody, shows a write but not what the session that wrote
//!   it had read before, or shows them in the other order.
//!
//! **Lists, sets and texts** (append and generate, add, insert) are judged exactly, element by
//! element; the order only of lists. An element that several operations may have written proves
//! nothing about who wrote it, and one that an operation may have removed may be missing from any
//! read that ended after that operation began.
//!
//! **Registers** (write and compare-and-set, every value written once), and each field of a map on
//! its own, hide what was overwritten. What is flagged is certain, given that the order of writes
//! is that of real time where they do not overlap:
//!
//! * `read-your-writes`: every value that the read shows was in place before the session's own
//!   write began, or it shows none. A value is in place once its write, or any read that showed it,
//!   has ended.
//! * `monotonic-reads`: a value shown before is missing, and every value shown instead was in place
//!   before that one's write began, or was shown beside it, or there is none; or a value is
//!   shown, missed and shown again, which no order of writes allows.
//! * `monotonic-writes` and `writes-follow-reads`: a read shows two values side by side of which
//!   one had replaced the other (it is in its `seen`).
//!
//! The first two are left out from when somebody may have removed the key. A read that shows a
//! value nobody wrote is left to [`crate::lost_writes`]. Counters and locks are not judged.
//!
//! One anomaly a read and class; the figures count them (`read_your_writes`, …) and the sessions.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::found::LISTED_MAX;
use crate::observe::{self, Family};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, History, Operation, Outcome, Process, Value};

mod bits;
mod collection;
mod register;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sessions;

impl Checker for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut findings = Findings::new(&operations);
        for (key, view) in observe::by_key(&operations) {
            let judged = match view.family {
                Family::List | Family::Set | Family::Text => {
                    collection::judge(&mut findings, key, &view)
                }
                Family::Register | Family::Map => register::judge(&mut findings, key, &view),
                Family::Mixed => Err("mixed-functions"),
                Family::Counter | Family::Lock | Family::ReadOnly => Ok(()),
            };
            if let Err(reason) = judged {
                *findings.reasons.entry(reason).or_insert(0) += 1;
            }
        }
        findings.conclude(self.name())
    }
}

/// Which guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Class {
    ReadYourWrites,
    MonotonicReads,
    MonotonicWrites,
    WritesFollowReads,
}

impl Class {
    const ALL: [Self; 4] = [
        Self::ReadYourWrites,
        Self::MonotonicReads,
        Self::MonotonicWrites,
        Self::WritesFollowReads,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic-reads",
            Self::MonotonicWrites => "monotonic-writes",
            Self::WritesFollowReads => "writes-follow-reads",
        }
    }
}

/// What was found so far, over all keys. Operations by position among the operations.
struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    /// The session of each operation.
    sessions: Vec<usize>,
    /// Reads that had something to be held against.
    judged: u64,
    /// Those that are listed; the others are only counted.
    anomalies: BTreeMap<(usize, Class, Option<Value>), Option<Box<Anomaly>>>,
    listed: BTreeMap<Class, u64>,
    /// Why keys could not be judged, and how many.
    reasons: BTreeMap<&'static str, u64>,
}

impl<'o, 'a> Findings<'o, 'a> {
    fn new(operations: &'o [Operation<'a>]) -> Self {
        let mut current: FxHashMap<&Process, usize> = FxHashMap::default();
        let mut next = 0;
        let sessions = operations
            .iter()
            .map(|op| {
                let session = *current.entry(op.process()).or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                if op.outcome == Outcome::Info {
                    current.remove(op.process());
                }
                session
            })
            .collect();
        Self {
            operations,
            sessions,
            judged: 0,
            anomalies: BTreeMap::new(),
            listed: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }

    fn began(&self, op: usize) -> usize {
        self.operations[op].invoked_position
    }

    fn ended(&self, op: usize) -> usize {
        self.operations[op].completed_position.unwrap_or(usize::MAX)
    }

    /// Records a violation by the last of these operations, a read.
    fn record(
        &mut self,
        class: Class,
        key: Option<&Value>,
        value: &Value,
        ops: &[usize],
        summary: impl FnOnce() -> String,
    ) {
        let Some(&read) = ops.last() else { return };
        let operations = self.operations;
        let entry = self.anomalies.entry((read, class, key.cloned()));
        let listed = self.listed.entry(class).or_insert(0);
        entry.or_insert_with(|| {
            *listed += 1;
            if *listed > LISTED_MAX {
                return None;
            }
            let mut figures = serde_json::Map::new();
            if let Ok(json) = serde_json::to_value(value) {
                figures.insert("value".to_owned(), json);
            }
            if let Some(node) = operations[read].node() {
                figures.insert("node".to_owned(), node.to_string().into());
            }
            Some(Box::new(Anomaly {
                class: class.name().to_owned(),
                key: key.cloned(),
                summary: summary(),
                ops: ops.iter().map(|&op| operations[op].invoke.index).collect(),
                figures,
            }))
        });
    }

    /// `read by process 3 from n2 (1.250 s)`.
    fn told(&self, op: usize) -> String {
        let operation = &self.operations[op];
        let at = operation.completed_at().unwrap_or(operation.invoked_at()) as f64 / 1e9;
        let node = operation
            .node()
            .map_or_else(String::new, |n| format!(" from {n}"));
        format!(
            "{} by process {}{node} ({at:.3} s)",
            operation.f().name(),
            operation.process()
        )
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let reasons = self
            .reasons
            .iter()
            .map(|(reason, keys)| format!("{reason} ({keys} keys)"));
        let violated = !self.anomalies.is_empty();
        let verdict = conclude(violated, self.judged, reasons.collect());
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.judged;
        for class in Class::ALL {
            let of_class = self.anomalies.keys().filter(|(_, c, _)| *c == class);
            result.figure(&class.name().replace('-', "_"), of_class.count());
        }
        let sessions = self.sessions.iter().max().map_or(0, |last| last + 1);
        result.figure("sessions", sessions);
        let listed = self.anomalies.into_values().flatten();
        result.anomalies = listed.map(|anomaly| *anomaly).collect();
        result
    }
}

#[cfg(test)]
mod tests;
