//! Logs with offsets, as Jepsen's workload for Kafka (`jepsen.tests.kafka`).
//!
//! A key is a log: a partition of a topic. Operations of function `send`, `poll` and `txn` carry
//! micro-operations: `[:send k v]`, acknowledged as `[:send k [offset v]]`, and `[:poll]`, answered
//! by `[:poll {k [[offset v] …]}]`. `assign` and `subscribe` take the keys that a process polls from
//! then on; `crash` replaces a client. Offsets need not be contiguous. The *log* of a key is what was
//! polled by anybody and what was acknowledged with an offset. Classes of anomalies:
//!
//! * `inconsistent-offsets`: two different messages at one offset.
//! * `duplicate`: one message at more offsets than it was sent.
//! * `lost`: acknowledged at an offset up to the highest one polled, and never polled.
//! * `aborted-read` (G1a): a message was polled though every send of it failed.
//! * `unexpected`: a message was polled that nobody sent, though others were sent to its key, or
//!   whose send had not begun when the poll had ended.
//! * `precommitted-read`: a transaction polled what only itself sent.
//! * `int-poll-skip`, `int-nonmonotonic-poll`: within one operation, polls of a key pass over a
//!   message that is in the log between two that follow each other, or do not go forward.
//! * `poll-skip`, `nonmonotonic-poll`: the same from what a process polled last of a key to what its
//!   next operation polls first. What a process had polled is forgotten when it assigns or
//!   subscribes, save for the keys that it goes on with.
//! * `int-nonmonotonic-send`, `nonmonotonic-send`: within one operation, or from one operation of a
//!   process to its next, offsets of messages sent to a key do not increase.
//!
//! All make a history invalid, with these exceptions, after Jepsen's: a process that is subscribed
//! may be rebalanced at any time, so that its `poll_skips_subscribed` and
//! `nonmonotonic_polls_subscribed` are figures; an operation whose `rebalance-log` is not empty is
//! not held against the one before nor in itself. Messages sent by others between two of one
//! transaction are normal and not looked for. `unseen`, a figure, counts messages acknowledged and
//! never polled that are not lost: nobody knows whether they can be, and the verdict is
//! `unknown(unseen)`.
//!
//! Only acknowledged operations move the position of a process; what an operation of unknown outcome
//! is recorded to have polled is in the log. Cycles between transactions are the matter of another
//! checker. Sorting makes it O(n log n) in the messages.

use rustc_hash::FxHashMap;

use crate::found::{Found, anomaly, with_value};
use crate::observe;
use crate::verdict::conclude;
use crate::{CheckResult, Checker, F, History, Operation, Outcome, Process, Value};

mod log;
mod parse;
mod positions;

use log::Log;
use parse::{Message, Micro};

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Kafka;

/// The anomalies, and the figures that count them.
const CLASSES: [(&str, &str); 12] = [
    ("lost", "lost"),
    ("duplicate", "duplicates"),
    ("inconsistent-offsets", "inconsistent_offsets"),
    ("aborted-read", "aborted_reads"),
    ("unexpected", "unexpected"),
    ("precommitted-read", "precommitted_reads"),
    ("int-poll-skip", "int_poll_skips"),
    ("int-nonmonotonic-poll", "int_nonmonotonic_polls"),
    ("poll-skip", "poll_skips"),
    ("nonmonotonic-poll", "nonmonotonic_polls"),
    ("int-nonmonotonic-send", "int_nonmonotonic_sends"),
    ("nonmonotonic-send", "nonmonotonic_sends"),
];

impl Checker for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let mut findings = Findings {
            operations: &operations,
            keys: Keys::default(),
            messages: Vec::new(),
            sent: 0,
            polled: 0,
            unseen: 0,
            malformed: 0,
            skips_subscribed: 0,
            nonmonotonic_subscribed: 0,
            found: Found::default(),
        };
        findings.gather();
        let log = Log::of(&mut findings);
        positions::follow(&mut findings, &log);
        findings.conclude(self.name())
    }
}

/// Numbers for keys. JSON has only text for the keys of a map: text that is a number is that number.
#[derive(Default)]
struct Keys {
    names: Vec<Value>,
    ids: FxHashMap<Value, u32>,
}

impl Keys {
    fn number(&mut self, key: &Value) -> u32 {
        let key = match key {
            Value::Str(text) => text.parse().map_or_else(|_| key.clone(), Value::Int),
            other => other.clone(),
        };
        let names = &mut self.names;
        *self.ids.entry(key).or_insert_with_key(|key| {
            names.push(key.clone());
            (names.len() - 1) as u32
        })
    }
}

/// What was found so far, over all keys.
struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    keys: Keys,
    /// Everything sent and polled, in the order of the operations.
    messages: Vec<Message<'a>>,
    sent: u64,
    polled: u64,
    unseen: u64,
    malformed: u64,
    skips_subscribed: u64,
    nonmonotonic_subscribed: u64,
    found: Found,
}

/// Whether the function carries micro-operations.
fn carries_messages(f: &F) -> bool {
    matches!(f, F::Other(name) if matches!(&**name, "send" | "poll" | "txn"))
}

impl Findings<'_, '_> {
    fn gather(&mut self) {
        for (i, op) in self.operations.iter().enumerate() {
            if !carries_messages(op.f()) {
                continue;
            }
            let before = self.messages.len();
            let (keys, messages) = (&mut self.keys, &mut self.messages);
            let number = |key: &Value| keys.number(key);
            if parse::messages(op, i, number, messages).is_none() {
                self.malformed += 1;
                self.messages.truncate(before);
                continue;
            }
            if op.is_ok() {
                for message in &self.messages[before..] {
                    let sends = message.micro == Micro::Send;
                    *(if sends {
                        &mut self.sent
                    } else {
                        &mut self.polled
                    }) += 1;
                }
            }
        }
    }

    /// Records an anomaly about messages of a key.
    fn add(
        &mut self,
        class: &'static str,
        key: u32,
        value: &Value,
        ops: &[u32],
        summary: impl FnOnce(&str, &[String]) -> String,
    ) {
        let (operations, name) = (self.operations, &self.keys.names[key as usize]);
        self.found.add(class, || {
            let mut ops: Vec<&Operation<'_>> =
                ops.iter().map(|&op| &operations[op as usize]).collect();
            let told: Vec<String> = ops.iter().map(|op| short(op)).collect();
            let summary = summary(&observe::key_name(Some(name)), &told);
            ops.sort_by_key(|op| op.invoked_position);
            ops.dedup_by_key(|op| op.invoked_position);
            with_value(anomaly(Some(name), &ops, summary), value)
        });
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let mut reasons = Vec::new();
        if self.malformed > 0 {
            reasons.push(format!(
                "malformed-messages ({} operations)",
                self.malformed
            ));
        }
        if self.unseen > 0 {
            reasons.push(format!("unseen: {} acknowledged messages", self.unseen));
        }
        let verdict = conclude(!self.found.is_empty(), self.polled, reasons);
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.polled;
        result.figure("sent", self.sent);
        result.figure("polled", self.polled);
        result.figure("keys", self.keys.names.len());
        result.figure("unseen", self.unseen);
        for (class, figure) in CLASSES {
            result.figure(figure, self.found.count(class));
        }
        result.figure("poll_skips_subscribed", self.skips_subscribed);
        let nonmonotonic = self.nonmonotonic_subscribed;
        result.figure("nonmonotonic_polls_subscribed", nonmonotonic);
        self.found.list(&mut result);
        result
    }
}

/// `poll of process 3 (1.250 s)`.
fn short(op: &Operation<'_>) -> String {
    let at = op.completed_at().unwrap_or(op.invoked_at()) as f64 / 1e9;
    let outcome = match op.outcome {
        Outcome::Ok => "",
        Outcome::Fail => "failed ",
        Outcome::Info => "unanswered ",
    };
    format!(
        "{outcome}{} of process {} ({at:.3} s)",
        op.f().name(),
        op.process()
    )
}

#[cfg(test)]
mod tests;
