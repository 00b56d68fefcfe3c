//! How long the store answered nothing, and how long it took to recover from each fault.
//!
//! * **Windows**, of writes and of reads: from an attempt after which nothing succeeds (or from the
//!   last success, while further attempts are open) to the next success, if that is longer than the
//!   threshold. A window that no success ends lasts to the last event of its kind.
//! * **Recovery** from each fault: from its injection to the end of the first successful write
//!   invoked after it (of a history without writes: read), and of reads on their own. The nemesis records a fault as an event
//!   `inject` whose value is a map with `id`, `fault` and `target`, and its end as an event `heal`
//!   with the same `id`.
//!
//! A transaction counts as a read if all of it reads, and as a write otherwise; a transfer is a write, and
//! so is putting an element into a queue.
//!
//! These are figures: the verdict is `valid` unless nothing was acknowledged.

use std::collections::BTreeMap;

use crate::{
    CheckResult, Checker, Event, F, History, Kind, Operation, Process, Value, transactions,
};

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Availability {
    /// Windows longer than this count, ns.
    pub threshold_ns: u64,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            threshold_ns: 1_000_000_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Writes,
    Reads,
}

impl Class {
    /// What an operation is, if it is one of them.
    fn of(f: &F, argument: &Value) -> Option<Self> {
        match f {
            F::Read => Some(Self::Reads),
            F::Other(name) => match &**name {
                "txn" if transactions::only_reads(argument) => Some(Self::Reads),
                "txn" | "transfer" | "enqueue" => Some(Self::Writes),
                _ => None,
            },
            f => f.is_write().then_some(Self::Writes),
        }
    }

    /// What the operations of all events are; a completion is what was invoked.
    fn of_events(history: &History) -> Vec<Option<Self>> {
        let mut open = BTreeMap::new();
        let of = |event: &Event| {
            if event.process == Process::Nemesis {
                return None;
            }
            if event.kind != Kind::Invoke
                && let Some(class) = open.remove(&event.process)
            {
                return class;
            }
            let class = Self::of(&event.f, &event.value);
            if event.kind == Kind::Invoke {
                open.insert(event.process.clone(), class);
            }
            class
        };
        history.events.iter().map(of).collect()
    }
}

/// A stretch without a success. Times in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    class: Class,
    from: u64,
    to: u64,
    /// Whether a success ended it.
    ended: bool,
}

impl Checker for Availability {
    fn name(&self) -> &'static str {
        "availability"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let acknowledged = operations.iter().filter(|op| op.is_ok()).count() as u64;
        let verdict = crate::verdict::conclude(false, acknowledged, Vec::new());
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = acknowledged;
        let classes = Class::of_events(history);
        let writes = self.windows(history, &classes, Class::Writes);
        let reads = self.windows(history, &classes, Class::Reads);
        result.figure("threshold_seconds", seconds(self.threshold_ns));
        result.figure("writes_unavailable_seconds", total(&writes));
        result.figure("reads_unavailable_seconds", total(&reads));
        result.figure("faults", faults(history, &operations, &writes));
        let mut windows = writes;
        windows.extend(reads);
        windows.sort_by_key(|w| (w.from, w.to));
        let windows: Vec<_> = windows.iter().map(Window::json).collect();
        result.figure("windows", windows);
        result
    }
}

impl Availability {
    /// `classes`: of the operation of each event.
    fn windows(self, history: &History, classes: &[Option<Class>], class: Class) -> Vec<Window> {
        let mut windows = Vec::new();
        let mut open = 0_u64;
        // Since when nothing succeeded although something was attempted.
        let mut waiting_since = None;
        let mut last_event = 0;
        let mut close = |from: u64, to: u64, ended: bool| {
            if to.saturating_sub(from) > self.threshold_ns {
                windows.push(Window {
                    class,
                    from,
                    to,
                    ended,
                });
            }
        };
        for (event, &of) in history.events.iter().zip(classes) {
            if of != Some(class) {
                continue;
            }
            last_event = event.time;
            match event.kind {
                Kind::Invoke => {
                    open += 1;
                    waiting_since.get_or_insert(event.time);
                }
                Kind::Ok => {
                    open = open.saturating_sub(1);
                    if let Some(from) = waiting_since {
                        close(from, event.time, true);
                    }
                    waiting_since = (open > 0).then_some(event.time);
                }
                Kind::Fail | Kind::Info => open = open.saturating_sub(1),
            }
        }
        if let Some(from) = waiting_since {
            close(from, last_event, false);
        }
        windows
    }
}

impl Window {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "class": match self.class {
                Class::Writes => "writes",
                Class::Reads => "reads",
            },
            "from_seconds": seconds(self.from),
            "to_seconds": seconds(self.to),
            "seconds": seconds(self.to.saturating_sub(self.from)),
            "ended": self.ended,
        })
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Times that go back can make windows overlap, and their sum longer than any time.
fn sum(spans: impl Iterator<Item = u64>) -> u64 {
    spans.fold(0, u64::saturating_add)
}

fn total(windows: &[Window]) -> f64 {
    seconds(sum(windows.iter().map(|w| w.to.saturating_sub(w.from))))
}

/// By invocation, with the earliest end among this and all later ones.
fn earliest<'o>(operations: impl Iterator<Item = &'o Operation<'o>>) -> Vec<(usize, u64)> {
    let mut earliest: Vec<(usize, u64)> = operations
        .filter_map(|op| Some((op.invoked_position, op.completed_at()?)))
        .collect();
    for i in (1..earliest.len()).rev() {
        earliest[i - 1].1 = earliest[i - 1].1.min(earliest[i].1);
    }
    earliest
}

/// One entry a fault, in the order of injection.
fn faults(
    history: &History,
    operations: &[Operation<'_>],
    write_windows: &[Window],
) -> Vec<serde_json::Value> {
    let is = |op: &Operation<'_>, class| Class::of(op.f(), op.argument()) == Some(class);
    let any_write = operations.iter().any(|op| is(op, Class::Writes));
    let judged = if any_write {
        Class::Writes
    } else {
        Class::Reads
    };
    let of = |class| {
        let of = operations
            .iter()
            .filter(move |op| op.is_ok() && is(op, class));
        earliest(of)
    };
    let (earliest, earliest_read) = (of(judged), of(Class::Reads));
    let end_of_run = history.events.last().map_or(0, |e| e.time);
    let nemesis = || {
        let events = history.events.iter().enumerate();
        events.filter(|(_, e)| e.process.is_nemesis())
    };
    // The remark `inject` comes with the proof, some time after the fault took hold; the remark
    // `begin` of the same id, where there is one, tells when that was.
    let begun = |inject: &Event, position: usize| {
        let id = field(&inject.value, "id");
        let mut before = nemesis().take_while(|(p, _)| *p < position);
        let begin = before
            .find(|(_, e)| e.f.name() == "begin" && id.is_some() && field(&e.value, "id") == id);
        begin.map_or((position, inject.time), |(p, e)| (p, e.time))
    };
    let injected: Vec<(usize, &Event)> =
        nemesis().filter(|(_, e)| e.f.name() == "inject").collect();
    injected
        .iter()
        .enumerate()
        .map(|(i, &(position, inject))| {
            let id = field(&inject.value, "id");
            let (from_position, from) = begun(inject, position);
            let healed = nemesis()
                .skip_while(|(p, _)| *p <= position)
                .find(|(_, e)| e.f.name() == "heal" && id.is_some() && field(&e.value, "id") == id)
                .map(|(_, e)| e.time);
            let after = |earliest: &[(usize, u64)]| {
                let next = earliest.partition_point(|(invoked, _)| *invoked < from_position);
                let ended = earliest.get(next).map(|(_, ended)| *ended)?;
                Some(seconds(ended.saturating_sub(from)))
            };
            // An outage may outlast its fault; the next fault answers for what comes after it.
            let next_fault = injected.get(i + 1).map(|&(p, e)| begun(e, p).1);
            let until = next_fault
                .unwrap_or(end_of_run)
                .max(healed.unwrap_or(end_of_run));
            let overlap = |w: &Window| w.to.min(until).saturating_sub(w.from.max(from));
            let unavailable = sum(write_windows.iter().map(overlap));
            serde_json::json!({
                "id": id,
                "fault": field(&inject.value, "fault"),
                "target": field(&inject.value, "target"),
                "injected_at_seconds": seconds(from),
                "healed_at_seconds": healed.map(seconds),
                "recovery_seconds": after(&earliest),
                "reads_recovery_seconds": after(&earliest_read),
                "writes_unavailable_seconds": seconds(unavailable),
            })
        })
        .collect()
}

/// A field of a map, named by text (JSON) or keyword (EDN).
fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = map else { return None };
    pairs.iter().find_map(|(key, value)| match key {
        Value::Str(s) | Value::Keyword(s) if &**s == name => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;
    use crate::testing::Script;

    fn at(history: &mut History, ms: &[u64]) {
        assert_eq!(history.events.len(), ms.len());
        for (event, ms) in history.events.iter_mut().zip(ms) {
            event.time = ms * 1_000_000;
        }
    }

    #[test]
    fn windows_start_at_an_attempt_and_end_at_a_success() {
        let mut s = Script::new();
        s.op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Fail, F::Write, 2)
            .op(1, Kind::Info, F::Write, 3)
            .op(2, Kind::Ok, F::Write, 4)
            .op(2, Kind::Ok, F::Read, 4)
            .op(2, Kind::Fail, F::Write, 5);
        let mut h = s.history();
        // Nothing is attempted from 10 ms to 5 s: not a window.
        at(
            &mut h,
            &[
                0, 10, 5000, 5010, 5500, 6500, 6600, 7000, 7001, 7002, 9000, 9900,
            ],
        );
        let result = Availability::default().check(&h);
        assert_eq!(result.verdict, Verdict::Valid);
        assert_eq!(
            result.figures["windows"],
            serde_json::json!([{
                "class": "writes", "from_seconds": 5.0, "to_seconds": 7.0, "seconds": 2.0,
                "ended": true
            }])
        );
        assert_eq!(result.figures["writes_unavailable_seconds"], 2.0);
        assert_eq!(result.figures["reads_unavailable_seconds"], 0.0);
        let strict = Availability {
            threshold_ns: 500_000_000,
        };
        let result = strict.check(&h);
        assert_eq!(result.figures["windows"][1]["ended"], false);
    }

    #[test]
    fn recovery_runs_from_the_injection_to_the_first_write_invoked_after_it() {
        let fault = |id: i64| {
            Value::Map(
                vec![
                    (Value::str("id"), Value::Int(id)),
                    (Value::str("fault"), Value::str("kill")),
                ]
                .into(),
            )
        };
        let mut s = Script::new();
        s.client(1, Kind::Invoke, F::Write, 1)
            .nemesis("inject", fault(3))
            .client(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Info, F::Write, 2)
            .op(2, Kind::Ok, F::Write, 3)
            .nemesis("heal", fault(3))
            .nemesis("inject", fault(4));
        let mut h = s.history();
        at(&mut h, &[0, 100, 150, 200, 1900, 2000, 2600, 3000, 4000]);
        let result = Availability::default().check(&h);
        let faults = &result.figures["faults"];
        assert_eq!(faults[0]["id"], 3);
        assert_eq!(faults[0]["fault"], "kill");
        assert_eq!(faults[0]["recovery_seconds"], 2.5);
        assert_eq!(faults[0]["healed_at_seconds"], 3.0);
        assert_eq!(faults[0]["writes_unavailable_seconds"], 2.4);
        assert_eq!(faults[1]["recovery_seconds"], serde_json::Value::Null);
    }

    #[test]
    fn a_transaction_is_a_write_unless_it_only_reads() {
        let txn = |f: &str| -> Value {
            let micro = [Value::str(f), Value::Int(1), Value::Nil];
            [micro.into_iter().collect()].into_iter().collect()
        };
        let f = || F::from_name("txn");
        let mut s = Script::new();
        s.op(1, Kind::Ok, f(), txn("append"))
            .op(1, Kind::Info, f(), txn("append"))
            .op(2, Kind::Ok, f(), txn("r"))
            .op(2, Kind::Ok, f(), txn("append"));
        let mut h = s.history();
        at(&mut h, &[0, 10, 1000, 2000, 2100, 2200, 4000, 4500]);
        let result = Availability::default().check(&h);
        assert_eq!(result.figures["writes_unavailable_seconds"], 3.5);
        assert_eq!(result.figures["reads_unavailable_seconds"], 0.0);
    }

    #[test]
    fn a_store_that_acknowledged_nothing_is_not_valid() {
        let mut s = Script::new();
        s.op(1, Kind::Fail, F::Write, 1);
        let result = Availability::default().check(&s.history());
        assert_eq!(result.verdict, Verdict::Unknown("nothing-to-judge".into()));
    }
}
