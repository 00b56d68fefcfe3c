//! What became of every element of a queue, as Jepsen's `total-queue`
//! (`jepsen.checker/total-queue`), and whether the order was kept.
//!
//! Operations of function `enqueue` take an element, `dequeue` returns one (or `nil` if there is
//! none), `drain` returns all that are left, in the order taken. With keys every key is a queue.
//!
//! * `lost`: acknowledged, never dequeued, and missing: the queue was *seen empty* by an operation
//!   that began after the acknowledgement: an acknowledged `drain`, a `dequeue` that returned `nil`,
//!   or one that failed because the queue was empty or exhausted (its error says so). What is not
//!   missing may still be in the queue: figure `not_dequeued`, verdict `unknown(not-drained)`.
//! * `duplicated`: dequeued more often than enqueued. A store that delivers at least once may repeat a
//!   delivery if it says so: elements that an acknowledged dequeue or drain lists in its field
//!   `may_repeat` were, by the store's word, perhaps delivered before, or may be delivered again since
//!   nothing confirmed that they were taken. Such deliveries are not counted here but as `repeated`.
//! * `unexpected`: dequeued, though nobody enqueued it, or every enqueue of it failed, or had not
//!   begun when the dequeue had ended.
//! * `reordered`: enqueued before another element (acknowledged before the other's enqueue began)
//!   and dequeued after it (the other's dequeue had ended before it began, or it came later in the
//!   same drain). A violation only with the option `fifo`; otherwise a figure.
//!
//! Each dequeue of unknown outcome may have taken one of the elements missing, and a drain any
//! number: while there may be as many as are missing (`missing`), none is lost for certain, and the
//! verdict is `unknown(dequeue-of-unknown-outcome)`. Figures besides: `enqueued` (acknowledged),
//! `dequeued`, `recovered` (enqueues of unknown outcome whose element was dequeued).
//!
//! Elements that are enqueued more than once are counted; in which order they were is not judged.
//! Sorting makes it O(n log n).

use std::collections::BTreeMap;

use crate::found::{Found, anomaly, told, with_value};
use crate::observe;
use crate::verdict::conclude;
use crate::{CheckResult, Checker, F, History, Operation, Outcome, Value};

mod one;

/// The field of a completion that lists what may be delivered more than once.
pub const MAY_REPEAT: &str = "may_repeat";

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    /// Whether elements must come out in the order in which they went in.
    pub fifo: bool,
}

/// What operations do to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Enqueue,
    Dequeue,
    Drain,
}

impl Function {
    fn of(f: &F) -> Option<Self> {
        match f {
            F::Other(name) => match &**name {
                "enqueue" => Some(Self::Enqueue),
                "dequeue" => Some(Self::Dequeue),
                "drain" => Some(Self::Drain),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Checker for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let mut queues: BTreeMap<Option<&Value>, Vec<(usize, Function)>> = BTreeMap::new();
        for (i, op) in operations.iter().enumerate() {
            if let Some(function) = Function::of(op.f()) {
                queues.entry(op.key()).or_default().push((i, function));
            } else if matches!(op.f(), F::Other(_)) && observe::possible(op) {
                let (name, index) = (op.f().name(), op.invoke.index);
                let reason = format!("unknown-function: `{name}` at event {index}");
                return CheckResult::unknown(self.name(), reason);
            }
        }
        let mut findings = Findings {
            operations: &operations,
            fifo: self.fifo,
            counts: Counts::default(),
            found: Found::default(),
        };
        for (key, all) in queues {
            one::judge(&mut findings, key, &all);
        }
        findings.conclude(self.name())
    }
}

#[derive(Default)]
struct Counts {
    enqueued: u64,
    dequeued: u64,
    recovered: u64,
    missing: u64,
    repeated: u64,
    lost: u64,
    not_dequeued: u64,
    reordered: u64,
}

/// What was found so far, over all keys.
struct Findings<'o, 'a> {
    operations: &'o [Operation<'a>],
    fifo: bool,
    counts: Counts,
    found: Found,
}

impl Findings<'_, '_> {
    /// An anomaly about an element, with the operations that prove it.
    fn add(
        &mut self,
        class: &'static str,
        key: Option<&Value>,
        value: &Value,
        ops: &[usize],
        summary: impl FnOnce(&[String]) -> String,
    ) {
        let operations = self.operations;
        self.found.add(class, || {
            let ops: Vec<&Operation<'_>> = ops.iter().map(|&i| &operations[i]).collect();
            let all: Vec<String> = ops
                .iter()
                .map(|op| match Function::of(op.f()) {
                    Some(Function::Enqueue) => told(op, Some(value), key),
                    _ => told(op, None, key),
                })
                .collect();
            let summary = summary(&all);
            let mut ops = ops;
            ops.sort_by_key(|op| op.invoked_position);
            with_value(anomaly(key, &ops, summary), value)
        });
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let c = &self.counts;
        let mut reasons = Vec::new();
        if c.missing > c.lost {
            let some = c.missing - c.lost;
            reasons.push(format!(
                "dequeue-of-unknown-outcome: {some} elements missing"
            ));
        }
        if c.not_dequeued > 0 {
            reasons.push(format!("not-drained: {} elements", c.not_dequeued));
        }
        let judged = c.dequeued + c.missing;
        let verdict = conclude(!self.found.is_empty(), judged, reasons);
        let mut result = CheckResult::new(checker, verdict);
        result.judged = judged;
        for (name, count) in [
            ("enqueued", c.enqueued),
            ("dequeued", c.dequeued),
            ("lost", c.lost),
            ("missing", c.missing),
            ("not_dequeued", c.not_dequeued),
            ("duplicated", self.found.count("duplicated")),
            ("repeated", c.repeated),
            ("unexpected", self.found.count("unexpected")),
            ("recovered", c.recovered),
            ("reordered", c.reordered),
        ] {
            result.figure(name, count);
        }
        self.found.list(&mut result);
        result
    }
}

/// What an operation took out of the queue, as far as it is known.
fn taken<'a>(op: &Operation<'a>, function: Function) -> &'a [Value] {
    match (function, op.outcome, op.complete) {
        (Function::Dequeue, Outcome::Ok, Some(event)) if !event.value.is_nil() => {
            std::slice::from_ref(&event.value)
        }
        // A drain that was broken off may tell what it had until then.
        (Function::Drain, Outcome::Ok | Outcome::Info, Some(event)) => {
            event.value.items().unwrap_or(&[])
        }
        _ => &[],
    }
}

/// What of that may be delivered more than once.
fn may_repeat<'a>(op: &Operation<'a>) -> &'a [Value] {
    let extra = op.complete.into_iter().flat_map(|event| &event.extra);
    let mut named = extra.filter(|(name, _)| &**name == MAY_REPEAT);
    named
        .next()
        .and_then(|(_, values)| values.items())
        .unwrap_or(&[])
}

/// Whether the operation saw the queue empty.
fn saw_empty(op: &Operation<'_>, function: Function) -> bool {
    match (function, op.outcome) {
        (Function::Drain, Outcome::Ok) => true,
        (Function::Dequeue, Outcome::Ok) => op.result().is_some_and(Value::is_nil),
        (Function::Dequeue, Outcome::Fail) => {
            let error = op.complete.and_then(|event| event.error.as_deref());
            error.is_some_and(|error| error.contains("empty") || error.contains("exhausted"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
