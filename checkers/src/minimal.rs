//! The smallest history by itself that a checker fails again for the same reason: what
//! `minimal.jsonl` holds.
//!
//! An anomaly names the operations that prove it ([`Anomaly::ops`]). Their events, with the index and
//! time that they had, are a history that [`Checker::check`] reads like any other; reads of lists,
//! sets and maps are cut to what the operations kept wrote, and to what nobody wrote at all. Some checkers need to see more
//! before they say the same again: so larger and larger histories are tried, and the
//! first in which the checker finds that anomaly (class, key and operations) is taken:
//!
//! 1. the operations named, with the releases of the acquisitions among them;
//! 2. and the writes of the values that their reads show;
//! 3. and a read that shows each of the values written;
//! 4. and the final reads of the key ([`History::final_phase`]);
//! 5. all of the key; 6. all until the last operation named; 7. everything.
//!
//! Of what was added, operations are left out in chunks again as long as the anomaly is found, within a
//! limited number of checks. The remarks of the nemesis on the phases of the run are always kept.
//!
//! That the checker finds the same anomaly does not make every operation kept a necessary one, save for
//! linearizability, whose anomalies name the smallest proof (see [`crate::linearizable`]).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::format::jsonl;
use crate::observe::{self, pair};
use crate::{
    Anomaly, CheckResult, Checker, Event, F, History, Kind, Operation, Process, Value, Verdict,
};

/// Checks spent on leaving out chunks, and the events that they may look at in all.
const CHECKS_MAX: usize = 80;
const EVENTS_MAX: usize = 4_000_000;

/// A history that fails again.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimal {
    /// The checker that fails it.
    pub checker: String,
    /// The anomaly that it is about.
    pub anomaly: Anomaly,
    /// The history.
    pub history: History,
}

impl Minimal {
    /// The history in its canonical form, an event a line.
    pub fn to_jsonl(&self) -> String {
        let mut lines = Vec::new();
        for event in &self.history.events {
            jsonl::write_event(&mut lines, event);
        }
        String::from_utf8_lossy(&lines).into_owned()
    }
}

/// The minimal history of the first violation: of linearizability if that is violated, else of the
/// first result that is invalid and whose checker is among `checkers`.
pub fn first(
    history: &History,
    checkers: &[Box<dyn Checker>],
    results: &[CheckResult],
) -> Option<Minimal> {
    let mut invalid: Vec<&CheckResult> = results
        .iter()
        .filter(|r| r.verdict == Verdict::Invalid && !r.anomalies.is_empty())
        .collect();
    invalid.sort_by_key(|r| r.checker != "linearizable");
    invalid.into_iter().find_map(|result| {
        let checker = checkers.iter().find(|c| c.name() == result.checker)?;
        let anomaly = result.anomalies.first()?;
        Some(Minimal {
            checker: result.checker.clone(),
            anomaly: anomaly.clone(),
            history: self::history(history, &**checker, anomaly)?,
        })
    })
}

/// The smallest history found in which the checker finds the anomaly again. `None` if the anomaly names
/// no operation, or the checker does not even find it in the whole history.
pub fn history(history: &History, checker: &dyn Checker, anomaly: &Anomaly) -> Option<History> {
    let operations = history.operations().ok()?;
    if anomaly.ops.is_empty() {
        return None;
    }
    let whole = Whole::new(history, &operations, anomaly);
    let named = whole.named();
    let seen = whole.with_writes_seen(&named);
    let shown = whole.with_reads_showing(&seen);
    let finals = whole.with_final_reads(&shown);
    for kept in [named, seen, shown, finals] {
        for projected in [true, false] {
            if found_again(checker, anomaly, &whole.build(&kept, projected)) {
                return Some(whole.shrink(checker, kept, projected));
            }
        }
    }
    for kept in [whole.of_key(), whole.until_the_last()] {
        if found_again(checker, anomaly, &whole.build(&kept, false)) {
            return Some(whole.shrink(checker, kept, false));
        }
    }
    found_again(checker, anomaly, history).then(|| history.clone())
}

/// Whether the checker finds the anomaly: of a counter with the same bounds, of a key that is not
/// linearizable by whichever operations of it.
fn found_again(checker: &dyn Checker, anomaly: &Anomaly, history: &History) -> bool {
    let result = checker.check(history);
    result.verdict == Verdict::Invalid
        && result.anomalies.iter().any(|again| {
            let same_ops = again.ops == anomaly.ops || anomaly.class == "non-linearizable";
            let same_bounds = checker.name() != "counter" || again.figures == anomaly.figures;
            again.class == anomaly.class && again.key == anomaly.key && same_ops && same_bounds
        })
}

/// The whole history, and what the anomaly says of it.
struct Whole<'a> {
    history: &'a History,
    operations: &'a [Operation<'a>],
    anomaly: &'a Anomaly,
    /// For each event the number of its operation.
    owners: Vec<Option<usize>>,
}

/// For each operation, whether it is kept.
type Kept = Vec<bool>;

impl<'a> Whole<'a> {
    fn new(history: &'a History, operations: &'a [Operation<'a>], anomaly: &'a Anomaly) -> Self {
        let mut open: FxHashMap<&Process, usize> = FxHashMap::default();
        let mut begun = 0;
        let owners = history
            .events
            .iter()
            .map(|event| match event.kind {
                _ if event.process.is_nemesis() => None,
                Kind::Invoke => {
                    open.insert(&event.process, begun);
                    begun += 1;
                    Some(begun - 1)
                }
                Kind::Ok | Kind::Fail | Kind::Info => open.remove(&event.process),
            })
            .collect();
        Self {
            history,
            operations,
            anomaly,
            owners,
        }
    }

    fn named(&self) -> Kept {
        let named: FxHashSet<u64> = self.anomaly.ops.iter().copied().collect();
        let mut kept: Kept = self
            .operations
            .iter()
            .map(|op| named.contains(&op.invoke.index))
            .collect();
        // A lock is held until its owner's next operation on it.
        let mut holding: FxHashSet<(&Process, Option<&Value>)> = FxHashSet::default();
        for (op, kept) in self.operations.iter().zip(&mut kept) {
            let who = (op.process(), op.key());
            if *kept && op.f() == &F::Acquire {
                holding.insert(who);
            } else if op.f() == &F::Release && holding.remove(&who) {
                *kept = true;
            }
        }
        kept
    }

    fn with_writes_seen(&self, kept: &Kept) -> Kept {
        let mut shown: FxHashSet<&Value> = FxHashSet::default();
        for (op, _) in self.operations.iter().zip(kept).filter(|(_, kept)| **kept) {
            if op.f() == &F::Cas {
                shown.extend(pair(op.argument()).map(|(old, _)| old));
            }
            if let (F::Read, Some(value)) = (op.f(), op.result()) {
                let value = self.of_this_key(op, value).unwrap_or(&Value::Nil);
                shown.insert(value);
                shown.extend(value.items().into_iter().flatten());
            }
        }
        let mut kept = kept.clone();
        for (op, kept) in self.operations.iter().zip(&mut kept) {
            let value = observe::written(op).filter(|_| self.is_of_key(op));
            *kept |= value.is_some_and(|value| shown.contains(value));
        }
        kept
    }

    fn with_reads_showing(&self, kept: &Kept) -> Kept {
        let mut written: FxHashSet<&Value> = FxHashSet::default();
        for (op, _) in self.operations.iter().zip(kept).filter(|(_, kept)| **kept) {
            written.extend(observe::written(op));
        }
        let mut kept = kept.clone();
        // The last read of each: the one that a later read may contradict is among those named.
        for (op, kept) in self.operations.iter().zip(&mut kept).rev() {
            let (true, F::Read, Some(value)) = (self.is_of_key(op), op.f(), op.result()) else {
                continue;
            };
            let value = self.of_this_key(op, value).unwrap_or(&Value::Nil);
            *kept |= written.remove(value);
            for item in value.items().into_iter().flatten() {
                *kept |= written.remove(item);
            }
        }
        kept
    }

    fn with_final_reads(&self, kept: &Kept) -> Kept {
        let is_read = |op: &Operation<'_>| op.f() == &F::Read && op.is_ok() && self.is_of_key(op);
        let from = match self.history.final_phase() {
            Some(marker) => marker,
            None => self
                .operations
                .iter()
                .rfind(|op| is_read(op))
                .map_or(usize::MAX, |op| op.invoked_position),
        };
        let mut kept = kept.clone();
        for (op, kept) in self.operations.iter().zip(&mut kept) {
            *kept |= op.invoked_position >= from && is_read(op);
        }
        kept
    }

    fn of_key(&self) -> Kept {
        let named = self.named();
        let of_key = self.operations.iter().zip(named);
        of_key
            .map(|(op, named)| named || self.is_of_key(op))
            .collect()
    }

    fn until_the_last(&self) -> Kept {
        let named = self.named();
        let of_named = self
            .operations
            .iter()
            .zip(&named)
            .filter(|(_, named)| **named);
        let last = of_named
            .filter_map(|(op, _)| op.completed_position.max(Some(op.invoked_position)))
            .max();
        let began = self.operations.iter().zip(&named);
        began
            .map(|(op, named)| *named || Some(op.invoked_position) <= last)
            .collect()
    }

    /// Whether it is of the anomaly's key; a read without a key may be one of every key.
    fn is_of_key(&self, op: &Operation<'_>) -> bool {
        let key = self.anomaly.key.as_ref();
        key.is_none() || op.key() == key || op.key().is_none() && op.f() == &F::Read
    }

    /// What a read showed of the anomaly's key; `None` of one of everything that does not show it.
    fn of_this_key<'v>(&self, op: &Operation<'_>, value: &'v Value) -> Option<&'v Value> {
        match (value, op.key(), &self.anomaly.key) {
            (Value::Map(pairs), None, Some(key)) => {
                pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v)
            }
            _ => Some(value),
        }
    }

    /// The history of the operations kept.
    fn build(&self, kept: &Kept, projected: bool) -> History {
        let projection = projected.then(|| Projection::new(self, kept));
        let is_kept = |owner: usize| kept.get(owner).copied().unwrap_or(false);
        let phase = |event: &Event| event.process.is_nemesis() && event.f.name() == "phase";
        let events = self.history.events.iter().zip(&self.owners);
        let events = events.filter_map(|(event, owner)| match owner {
            None => phase(event).then(|| event.clone()),
            Some(owner) if is_kept(*owner) => {
                let mut event = event.clone();
                if let (Some(projection), Kind::Ok) = (&projection, event.kind)
                    && let Some(op) = self.operations.get(*owner)
                    && op.f() == &F::Read
                {
                    event.value = projection.apply(op, &event.value);
                }
                Some(event)
            }
            Some(_) => None,
        });
        History {
            events: events.collect(),
        }
    }

    /// Leaves out chunks of operations as long as the anomaly is found.
    fn shrink(&self, checker: &dyn Checker, mut kept: Kept, projected: bool) -> History {
        let named = self.named();
        let (mut checks, mut events) = (CHECKS_MAX, EVENTS_MAX);
        let candidates = |kept: &Kept| -> Vec<usize> {
            (0..kept.len()).filter(|&i| kept[i] && !named[i]).collect()
        };
        let mut left = candidates(&kept);
        let mut chunk = left.len().div_ceil(2);
        while chunk > 0 {
            let mut from = 0;
            while from < left.len() {
                let to = (from + chunk).min(left.len());
                let mut fewer = kept.clone();
                left[from..to].iter().for_each(|&i| fewer[i] = false);
                let smaller = self.build(&fewer, projected);
                let spent = (
                    checks.checked_sub(1),
                    events.checked_sub(smaller.events.len()),
                );
                let (Some(checks_left), Some(events_left)) = spent else {
                    return self.build(&kept, projected);
                };
                (checks, events) = (checks_left, events_left);
                if found_again(checker, self.anomaly, &smaller) {
                    kept = fewer;
                    left.drain(from..to);
                } else {
                    from = to;
                }
            }
            chunk /= 2;
        }
        self.build(&kept, projected)
    }
}

/// Cuts reads of collections to what the operations kept wrote and what nobody wrote.
struct Projection<'w, 'a> {
    whole: &'w Whole<'a>,
    /// Elements, or fields, that only operations left out concern.
    gone: FxHashSet<&'a Value>,
    is_map: bool,
}

impl<'w, 'a> Projection<'w, 'a> {
    fn new(whole: &'w Whole<'a>, kept: &Kept) -> Self {
        let mut gone: FxHashSet<&'a Value> = FxHashSet::default();
        let mut stays: FxHashSet<&'a Value> = FxHashSet::default();
        let mut is_map = false;
        for (op, kept) in whole.operations.iter().zip(kept) {
            if !(observe::possible(op) && whole.is_of_key(op)) {
                continue;
            }
            let subject = match op.f() {
                F::Append | F::Add | F::Insert | F::Generate => observe::written(op),
                F::Remove => Some(op.argument()),
                F::Put => {
                    is_map = true;
                    pair(op.argument()).map(|(field, _)| field)
                }
                _ => None,
            };
            if let Some(subject) = subject {
                if *kept { &mut stays } else { &mut gone }.insert(subject);
            }
        }
        gone.retain(|value| !stays.contains(value));
        Self {
            whole,
            gone,
            is_map,
        }
    }

    fn apply(&self, op: &Operation<'_>, value: &Value) -> Value {
        if let (Value::Map(_), None, Some(key)) = (value, op.key(), &self.whole.anomaly.key) {
            let shown = self.whole.of_this_key(op, value);
            let pairs = shown.map(|value| (key.clone(), self.cut(value)));
            return Value::Map(pairs.into_iter().collect());
        }
        self.cut(value)
    }

    fn cut(&self, value: &Value) -> Value {
        let left = |items: &[Value]| -> Vec<Value> {
            let goes = |item: &&Value| {
                let subject = if self.is_map {
                    pair(item).map(|(field, _)| field)
                } else {
                    Some(*item)
                };
                subject.is_some_and(|subject| self.gone.contains(subject))
            };
            items.iter().filter(|item| !goes(item)).cloned().collect()
        };
        match value {
            _ if self.gone.is_empty() => value.clone(),
            Value::Vector(items) => Value::Vector(left(items).into()),
            Value::List(items) => Value::List(left(items).into()),
            Value::Set(items) => Value::Set(left(items).into()),
            Value::Map(pairs) if self.is_map => {
                let stays = pairs.iter().filter(|(field, _)| !self.gone.contains(field));
                Value::Map(stays.cloned().collect())
            }
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
