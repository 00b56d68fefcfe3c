//! The core of a violation in words that can be pasted into an incident report.
//!
//! A sentence states facts of the history only (who answered what, when, how long after what), those
//! that contradict each other where the pattern is known ([`Core::plain`]), and then all operations.
//! Which of two operations was first is decided by their positions; lengths of time are left out where the
//! times recorded do not say so.

use std::fmt::Write as _;

use crate::observe::{self, pair};
use crate::{Anomaly, F, Operation, Outcome, Value};

/// Operations that are named one by one.
const NAMED_MAX: usize = 8;
/// A proof of more operations than this could not be made small: its last ones are listed, and all counted
/// (figure `operations`).
const LISTED_MAX: usize = 1_000;
/// Histories without a clock number their events instead: a run takes longer than this, in ns.
const CLOCK_MIN: u64 = 1_000_000;
/// Values are cut to so many characters.
const VALUE_CHARS: usize = 60;

/// The anomaly of a key, from the operations (by position among all) that prove it.
pub(in super::super) fn anomaly(
    operations: &[Operation<'_>],
    key: Option<&Value>,
    proof: &[usize],
) -> Anomaly {
    let ops: Vec<&Operation<'_>> = proof.iter().filter_map(|&i| operations.get(i)).collect();
    let core = Core {
        key,
        timed: ops
            .iter()
            .any(|op| op.complete.is_some_and(|e| e.time >= CLOCK_MIN)),
        ops,
    };
    let mut figures = serde_json::Map::new();
    let more = core.ops.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        figures.insert("operations".to_owned(), core.ops.len().into());
    }
    let listed = core.ops.iter().skip(more);
    Anomaly {
        class: "non-linearizable".to_owned(),
        key: key.cloned(),
        summary: core.summary(),
        ops: listed.map(|op| op.invoke.index).collect(),
        figures,
    }
}

struct Core<'o, 'a> {
    key: Option<&'a Value>,
    ops: Vec<&'o Operation<'a>>,
    /// Whether the history has times, and not only numbers for them.
    timed: bool,
}

impl<'o, 'a> Core<'o, 'a> {
    fn summary(&self) -> String {
        let name = observe::key_name(self.key);
        let fact = self
            .plain()
            .unwrap_or_else(|| format!("{name} is not linearizable"));
        let named: Vec<String> = self
            .ops
            .iter()
            .take(NAMED_MAX)
            .map(|op| self.told(op))
            .collect();
        let more = match self.ops.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let order = match self.ops.len() {
            1 => "this operation fits no order".to_owned(),
            n => format!(
                "no order of these {n} operations fits both real time and what they returned"
            ),
        };
        format!("{fact}; {order}: {}{more}", named.join("; "))
    }

    /// What contradicts what, if it is one of the known patterns.
    fn plain(&self) -> Option<String> {
        if self.ops.len() > NAMED_MAX {
            return self.counter();
        }
        self.nobody_wrote()
            .or_else(|| self.replaced_twice())
            .or_else(|| self.missed())
            .or_else(|| self.contradicting_reads())
            .or_else(|| self.gone_back())
            .or_else(|| self.queue())
            .or_else(|| self.held_twice())
            .or_else(|| self.counter())
    }

    fn reads(&self) -> impl DoubleEndedIterator<Item = (&'o Operation<'a>, &'a Value)> + '_ {
        let reads = self.ops.iter().filter(|op| op.f() == &F::Read);
        reads.filter_map(|op| Some((*op, self.shown(op, op.result()?))))
    }

    /// What a read showed of this key: one of everything shows a map.
    fn shown(&self, op: &Operation<'_>, value: &'a Value) -> &'a Value {
        static ABSENT: Value = Value::Nil;
        match (value, op.key(), self.key) {
            (Value::Map(pairs), None, Some(key)) => {
                let shown = pairs.iter().find(|(k, _)| k == key);
                shown.map_or(&ABSENT, |(_, value)| value)
            }
            _ => value,
        }
    }

    fn writes(&self) -> impl Iterator<Item = (&'o Operation<'a>, &'a Value)> + '_ {
        let writes = self.ops.iter().filter(|op| observe::possible(op));
        writes.filter_map(|op| Some((*op, observe::written(op)?)))
    }

    fn writers(&self, value: &Value) -> Vec<&'o Operation<'a>> {
        let of = self.writes().filter(|(_, written)| *written == value);
        of.map(|(op, _)| op).collect()
    }

    fn is_collection(&self) -> bool {
        let grows = |op: &&Operation<'_>| matches!(op.f(), F::Append | F::Add | F::Generate);
        let elements = |value: &Value| value.items().is_some();
        self.ops.iter().any(grows)
            || !self.writes().any(|_| true) && self.reads().any(|(_, value)| elements(value))
    }

    /// A read (or compare-and-set) of what nobody had written by its end.
    fn nobody_wrote(&self) -> Option<String> {
        let [.., last] = self.ops[..] else {
            return None;
        };
        let of = self.ops.iter().filter(|op| op.is_ok());
        for op in of.filter(|op| self.ops.len() <= 2 || op.invoke.index == last.invoke.index) {
            let expected = match (op.f(), op.result()) {
                (F::Read, Some(value)) => vec![self.shown(op, value)],
                (F::Cas, _) => vec![pair(op.argument())?.0],
                _ => continue,
            };
            let each: Vec<&Value> = match expected[..] {
                [one] if self.is_collection() => one.items()?.iter().collect(),
                _ => expected,
            };
            for value in each.into_iter().filter(|v| !observe::is_blank(v)) {
                let writers = self.writers(value);
                let early = writers.iter().all(|writer| op.precedes(writer));
                if early && (writers.len() == 1 || self.ops.len() == 1) {
                    let said = self.answered(op, &Shows::Value(value));
                    let verb = if self.is_collection() {
                        "added"
                    } else {
                        "written"
                    };
                    let name = observe::key_name(self.key);
                    return Some(format!("{said}, which nobody had {verb} to {name} by then"));
                }
            }
        }
        None
    }

    /// Two compare-and-sets from one value.
    fn replaced_twice(&self) -> Option<String> {
        let cas: Vec<(&Operation<'_>, &Value)> = self
            .ops
            .iter()
            .filter(|op| op.is_ok() && op.f() == &F::Cas)
            .filter_map(|op| Some((*op, pair(op.argument())?.0)))
            .collect();
        let [(one, old), (other, same)] = cas[..] else {
            return None;
        };
        if old != same || self.writers(old).len() > 1 {
            return None;
        }
        let there = match self.writers(old)[..] {
            [write] => format!("{} put it there only once", asked(write)),
            _ => "it was there only at the beginning".to_owned(),
        };
        Some(format!(
            "{} and {} were both acknowledged ({}, {}) and both replaced {}, though {there}",
            asked(one),
            asked(other),
            self.ended(one),
            self.ended(other),
            cut(old),
        ))
    }

    /// A read of a list or set that misses an acknowledged element.
    fn missed(&self) -> Option<String> {
        if !self.is_collection() {
            return None;
        }
        for (read, value) in self.reads() {
            let items = observe::elements(value)?;
            for (write, element) in self.writes() {
                if items.contains(element) || !self.surely_before(write, read) {
                    continue;
                }
                let said = self.answered(read, &Shows::Without(element));
                return Some(format!("{said}{}", self.after(write, element, read)?));
            }
        }
        None
    }

    /// Whether a write was acknowledged, or its element shown, before the read began.
    fn surely_before(&self, write: &Operation<'_>, read: &Operation<'_>) -> bool {
        write.precedes(read) && write.is_ok()
            || observe::written(write).is_some_and(|element| {
                self.reads().any(|(earlier, value)| {
                    let shows = value.items().is_some_and(|items| items.contains(element));
                    shows && earlier.precedes(read)
                })
            })
    }

    /// `, whose read began 310 ms after write 42 was acknowledged by n1 and 3 ms after process 5 had
    /// read it`: what a read came after, but does not show.
    fn after(&self, write: &Operation<'_>, value: &Value, read: &Operation<'_>) -> Option<String> {
        let of_value = |(_, shown): &(&Operation<'_>, &Value)| {
            if self.is_collection() {
                shown.items().is_some_and(|items| items.contains(value))
            } else {
                *shown == value
            }
        };
        let seen = self.reads().filter(of_value).map(|(op, _)| op);
        let seen = seen
            .filter(|op| op.precedes(read))
            .min_by_key(|op| op.completed_position);
        let mut facts = Vec::new();
        if write.is_ok() && write.precedes(read) {
            let lapse = self.lapse(write.completed_at(), Some(read.invoked_at()));
            let by = write.node().map(|n| format!(" by {n}")).unwrap_or_default();
            facts.push(format!(
                "{lapse}after {} was acknowledged{by}",
                asked(write)
            ));
        }
        if let Some(seen) = seen {
            let lapse = self.lapse(seen.completed_at(), Some(read.invoked_at()));
            let what = if facts.is_empty() {
                cut(value)
            } else {
                "it".to_owned()
            };
            let from = seen
                .node()
                .map(|n| format!(" from {n}"))
                .unwrap_or_default();
            facts.push(format!(
                "{lapse}after {} had read {what}{from}",
                seen.process_name()
            ));
        }
        (!facts.is_empty()).then(|| format!("; the read began {}", facts.join(" and ")))
    }

    /// Two reads of a list or set that contradict each other, or one that contradicts real time.
    fn contradicting_reads(&self) -> Option<String> {
        if !self.is_collection() {
            return None;
        }
        let ours: Vec<&Value> = self.writes().map(|(_, element)| element).collect();
        let reads: Vec<(&Operation<'_>, Vec<&Value>)> = self
            .reads()
            .filter_map(|(op, value)| {
                let items = observe::elements(value)?.iter();
                Some((op, items.filter(|e| ours.contains(e)).collect()))
            })
            .collect();
        let ordered = !self.ops.iter().any(|op| op.f() == &F::Add);
        for (i, (a, first)) in reads.iter().enumerate() {
            if let Some(twice) = first
                .iter()
                .enumerate()
                .find(|(at, e)| first[..*at].contains(e))
                && ordered
                && self.writers(twice.1).len() == 1
            {
                let said = self.answered(a, &Shows::Value(twice.1));
                return Some(format!("{said} twice, which was added once"));
            }
            for (b, second) in &reads[i + 1..] {
                if ordered {
                    let differ = first.iter().zip(second).find(|(x, y)| x != y);
                    if let Some((x, y)) = differ {
                        let (said, but) = (
                            self.answered(a, &Shows::Before(x, y)),
                            self.answered(b, &Shows::Before(y, x)),
                        );
                        return Some(format!("{said}, but {but}"));
                    }
                } else {
                    let x = first.iter().find(|e| !second.contains(e));
                    let y = second.iter().find(|e| !first.contains(e));
                    if let (Some(x), Some(y)) = (x, y) {
                        let (said, but) = (
                            self.answered(a, &Shows::Besides(x, y)),
                            self.answered(b, &Shows::Besides(y, x)),
                        );
                        return Some(format!("{said}, but {but}"));
                    }
                }
            }
            if let ([x, y], true) = (&first[..], ordered)
                && let ([wx], [wy]) = (&self.writers(x)[..], &self.writers(y)[..])
                && wy.precedes(wx)
            {
                let said = self.answered(a, &Shows::Before(x, y));
                let lapse = self.lapse(wy.completed_at(), Some(wx.invoked_at()));
                let (wx, wy) = (asked(wx), asked(wy));
                return Some(format!(
                    "{said}, but {wx} began {lapse}after {wy} had ended"
                ));
            }
        }
        None
    }

    /// A read of a register after another value was there.
    fn gone_back(&self) -> Option<String> {
        if self.is_collection() || !self.writes().any(|(op, _)| is_register(op.f())) {
            return None;
        }
        let (read, value) = self.reads().max_by_key(|(op, _)| op.completed_position)?;
        // What was there last before it began, by what is certain: an acknowledgement or a read.
        let acknowledged = self.writes().filter(|(op, _)| op.is_ok());
        let (_, other) = acknowledged
            .chain(self.reads())
            .filter(|(op, other)| *other != value && op.precedes(read))
            .max_by_key(|(op, _)| op.completed_position)?;
        let said = self.answered(read, &Shows::Value(value));
        let after = match self.writers(other)[..] {
            [write] => self.after(write, other, read)?,
            _ => {
                let seen = self
                    .reads()
                    .filter(|(op, v)| *v == other && op.precedes(read));
                let (seen, _) = seen.min_by_key(|(op, _)| op.completed_position)?;
                let lapse = self.lapse(seen.completed_at(), Some(read.invoked_at()));
                let who = seen.process_name();
                format!(
                    "; the read began {lapse}after {who} had read {}",
                    cut(other)
                )
            }
        };
        Some(format!("{said}{after}"))
    }

    fn queue(&self) -> Option<String> {
        let name = observe::key_name(self.key);
        let takes = |op: &&&Operation<'_>| is_take(op.f());
        let taken: Vec<(&Operation<'_>, &Value)> = self
            .ops
            .iter()
            .filter(takes)
            .filter_map(|op| Some((*op, op.result()?)))
            .collect();
        let puts = |value: &Value| -> Vec<&Operation<'a>> {
            let of = self
                .ops
                .iter()
                .filter(|op| is_put(op.f()) && observe::possible(op));
            of.filter(|op| op.argument() == value).copied().collect()
        };
        for (i, (take, value)) in taken.iter().enumerate() {
            let put = puts(value);
            let said = format!(
                "{} took {} out of {name} {}",
                take.process_name(),
                cut(value),
                self.ended(take)
            );
            if value.is_nil() {
                let mut before = self.ops.iter().filter(|op| is_put(op.f()) && op.is_ok());
                let inside = before.rfind(|op| op.precedes(take))?;
                let lapse = self.lapse(inside.completed_at(), Some(take.invoked_at()));
                return Some(format!(
                    "{} found {name} empty {}, though it began {lapse}after {} was acknowledged",
                    take.process_name(),
                    self.ended(take),
                    asked(inside)
                ));
            }
            if put.is_empty() {
                return Some(format!("{said}, which nobody had put in"));
            }
            if put.iter().all(|put| take.precedes(put)) {
                let lapse = self.lapse(take.completed_at(), Some(put[0].invoked_at()));
                return Some(format!("{said}, {lapse}before {} began", asked(put[0])));
            }
            let again = taken[i + 1..].iter().find(|(_, other)| other == value);
            if let (Some((again, _)), 1) = (again, put.len()) {
                let (who, when) = (again.process_name(), self.ended(again));
                return Some(format!(
                    "{said}, and {who} took it out again {when}, though it was put in once"
                ));
            }
        }
        let [(one, first), (other, second)] = taken[..] else {
            return None;
        };
        let ([a], [b]) = (&puts(first)[..], &puts(second)[..]) else {
            return None;
        };
        let order = if a.precedes(b) && other.precedes(one) {
            (a, b, other, one)
        } else if b.precedes(a) && one.precedes(other) {
            (b, a, one, other)
        } else {
            return None;
        };
        let (earlier, later, out_first, out_last) = order;
        Some(format!(
            "{} was acknowledged before {} began, but {name} gave out {} first ({} to {}) and {} \
             after it ({} to {})",
            asked(earlier),
            asked(later),
            cut(later.argument()),
            self.ended(out_first),
            out_first.process_name(),
            cut(earlier.argument()),
            self.ended(out_last),
            out_last.process_name(),
        ))
    }

    fn held_twice(&self) -> Option<String> {
        let acquired: Vec<&Operation<'_>> = self
            .ops
            .iter()
            .filter(|op| op.f() == &F::Acquire && op.is_ok())
            .copied()
            .collect();
        let [one, other] = acquired[..] else {
            return None;
        };
        let (first, second) = if one.completed_position < other.completed_position {
            (one, other)
        } else {
            (other, one)
        };
        let name = observe::key_name(self.key);
        let got = |op: &Operation<'_>| {
            let fence = op.result().and_then(Value::as_int);
            let fence = fence
                .map(|f| format!(" with fence {f}"))
                .unwrap_or_default();
            let from = op.node().map(|n| format!(" from {n}")).unwrap_or_default();
            format!("{} acquired {name}{fence}{from}", op.process_name())
        };
        let release = self
            .ops
            .iter()
            .find(|op| op.f() == &F::Release && op.process() == first.process());
        let until = match release {
            Some(release) if second.precedes(release) => {
                let lapse = self.lapse(second.completed_at(), Some(release.invoked_at()));
                format!(
                    " and {lapse}before {} began to release it",
                    release.process_name()
                )
            }
            Some(_) => return None,
            None => ", before that was released".to_owned(),
        };
        let lapse = self.lapse(first.completed_at(), second.completed_at());
        Some(format!(
            "{} {}, {lapse}after {}{until}",
            got(second),
            self.ended(second),
            got(first)
        ))
    }

    /// A read of a counter that no sum of increments can be.
    fn counter(&self) -> Option<String> {
        if !self.ops.iter().any(|op| op.f() == &F::Increment) {
            return None;
        }
        for (read, value) in self.reads() {
            let shown = i128::from(value.as_int()?);
            let (mut least, mut most) = (0_i128, 0_i128);
            for op in self.ops.iter().filter(|op| op.f() == &F::Increment) {
                let by = i128::from(op.argument().as_int()?);
                if op.is_ok() && op.precedes(read) {
                    least += by;
                    most += by;
                } else if observe::possible(op) && !read.precedes(op) {
                    least += by.min(0);
                    most += by.max(0);
                }
            }
            if shown < least || shown > most {
                let said = self.answered(read, &Shows::Value(value));
                return Some(format!(
                    "{said}, but increments before and during the read make it {least} at least \
                     and {most} at most"
                ));
            }
        }
        None
    }

    /// `n3 answered k7=41 to process 3 at 12.034 s`.
    fn answered(&self, op: &Operation<'_>, shows: &Shows<'_>) -> String {
        let key = self
            .key
            .map_or_else(|| "the object".to_owned(), ToString::to_string);
        let list = self.is_collection();
        let what = match shows {
            Shows::Value(value) if list => format!("{key} with {}", cut(value)),
            Shows::Value(value) => format!("{key}={}", cut(value)),
            Shows::Without(element) => format!("{key} without {}", cut(element)),
            Shows::Before(x, y) => format!("{key} with {} before {}", cut(x), cut(y)),
            Shows::Besides(x, y) => format!("{key} with {} but without {}", cut(x), cut(y)),
        };
        let (process, when) = (op.process_name(), self.ended(op));
        match (op.node(), op.f()) {
            (Some(node), F::Cas) => format!("{node} found {what} for {process} {when}"),
            (None, F::Cas) => format!("{process} found {what} {when}"),
            (Some(node), _) => format!("{node} answered {what} to {process} {when}"),
            (None, _) => format!("{process} read {what} {when}"),
        }
    }

    /// `at 12.034 s`, or, in a history without times, `(event 57)`.
    fn ended(&self, op: &Operation<'_>) -> String {
        match op.complete {
            Some(end) if self.timed => format!("at {} s", seconds(end.time)),
            Some(end) => format!("(event {})", end.index),
            None => "(no answer)".to_owned(),
        }
    }

    /// `310 ms `, or nothing where the times do not tell.
    fn lapse(&self, from: Option<u64>, to: Option<u64>) -> String {
        match (from, to) {
            (Some(from), Some(to)) if self.timed && to > from => format!("{} ", length(to - from)),
            _ => String::new(),
        }
    }

    /// `write 4 by process 1 at n2 (1.000–1.004 s)`.
    fn told(&self, op: &Operation<'_>) -> String {
        let begun = op.invoked_at();
        let span = match (op.completed_at(), self.timed) {
            (Some(end), true) => format!("{}–{} s", seconds(begun), seconds(end)),
            (None, true) => format!("from {} s, outcome unknown", seconds(begun)),
            (Some(_), false) => {
                let end = op.complete.map_or(0, |e| e.index);
                format!("events {}–{end}", op.invoke.index)
            }
            (None, false) => format!("from event {}, outcome unknown", op.invoke.index),
        };
        let what = match (op.f(), op.result()) {
            (F::Read, Some(value)) => format!("read → {}", cut(self.shown(op, value))),
            (f, Some(result)) if is_take(f) => format!("{} → {}", f.name(), cut(result)),
            (f, _) if op.argument().is_nil() => f.name().to_owned(),
            (f, _) => format!("{} {}", f.name(), cut(op.argument())),
        };
        let refused = match op.outcome {
            Outcome::Fail => " refused",
            Outcome::Ok | Outcome::Info => "",
        };
        let at = op.node().map(|n| format!(" at {n}")).unwrap_or_default();
        format!("{what}{refused} by {}{at} ({span})", op.process_name())
    }
}

/// What of a read matters.
enum Shows<'v> {
    Value(&'v Value),
    Without(&'v Value),
    Before(&'v Value, &'v Value),
    Besides(&'v Value, &'v Value),
}

trait Named {
    fn process_name(&self) -> String;
}

impl Named for Operation<'_> {
    fn process_name(&self) -> String {
        format!("process {}", self.process())
    }
}

/// `write 42 by process 1`.
fn asked(op: &Operation<'_>) -> String {
    let argument = match (op.f(), pair(op.argument())) {
        (F::Cas, Some((old, new))) => format!("{} → {}", cut(old), cut(new)),
        _ => cut(op.argument()),
    };
    let what = if op.argument().is_nil() {
        op.f().name().to_owned()
    } else {
        format!("{} {argument}", op.f().name())
    };
    format!("{what} by {}", op.process_name())
}

fn is_register(f: &F) -> bool {
    matches!(f, F::Write | F::Cas)
}

fn is_put(f: &F) -> bool {
    matches!(f.name(), "enqueue" | "push" | "offer" | "insert")
}

fn is_take(f: &F) -> bool {
    matches!(f.name(), "dequeue" | "pop" | "poll" | "delete-min")
}

/// A value in a few characters; of a long collection the end, where the news is.
fn cut(value: &Value) -> String {
    const LAST: usize = 6;
    let text = match value.items() {
        Some(items) if items.len() > 2 * LAST => {
            let tail: Vec<String> = items[items.len() - LAST..]
                .iter()
                .map(Value::to_string)
                .collect();
            format!("[… {}] ({} elements)", tail.join(" "), items.len())
        }
        _ => value.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn seconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e9)
}

/// A length of time with three significant digits.
fn length(ns: u64) -> String {
    let (number, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..10_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = match number {
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    let mut text = String::new();
    let _ = write!(text, "{number:.decimals$} {unit}");
    text
}

#[cfg(test)]
mod tests;
