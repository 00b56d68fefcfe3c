//! Whether two owners held the same lock at the same time.
//!
//! Mutual exclusion (Dijkstra, *Solution of a Problem in Concurrent Programming Control*, CACM
//! 1965), as far as clients can tell: an owner holds the lock of a key *for certain* from the
//! acknowledgement of its `acquire` to the invocation of a `release` that may have taken effect.
//! What is not released is held to the end of the history, unless it was *leased* (Gray and
//! Cheriton, *Leases*, SOSP 1989): a lock whose acquisition has a field `lease_ms` is certainly held
//! only until that long after the acquisition was invoked, by the clock of the history, since it
//! cannot have been granted before. An acquisition that renews a lease begins a tenure of its own.
//!
//! The owner is the value of the operation, or the process if it has none. A release by the same
//! owner counts whoever issues it, and one of unknown outcome may take effect at any time after its
//! invocation: an acquisition while such a release is pending is not certain to last, and is not
//! judged. Nor is one that a pending removal of the key may undo. A release that failed has not given
//! the lock back, unless the store's reason is that its owner does not have it (error `cas-mismatch` or
//! `not-held`): he had lost it before, and has done with it.
//!
//! `held-twice`: an owner acquired the lock while another one certainly held it. One anomaly an
//! acquisition; figures: `acquired`, `leased`, `held_twice`, and `overlap_seconds` in all.
//!
//! `fence-not-increasing`: the acknowledgement of an acquisition may carry a fencing token, a whole
//! number: a field `fence` of its value or of the event. Of two acquisitions, one acknowledged
//! before the other began, the later must have the greater one, and two owners never get the same.
//! (An owner that renews may keep its own.) Figures: `fenced`, `fence_not_increasing`.

use std::collections::BTreeMap;

use crate::found::{self, Found};
use crate::observe::{self, Family, KeyView};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Outcome, Process, Value};

mod fences;

const NEVER: usize = usize::MAX;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct MutualExclusion;

impl Checker for MutualExclusion {
    fn name(&self) -> &'static str {
        "mutual-exclusion"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let (mut acquired, mut leased, mut fenced, mut mixed) = (0, 0, 0, 0_u64);
        let mut found = Vec::new();
        let mut all = Found::default();
        let clock = Clock::of(history);
        for (key, view) in observe::by_key(&operations) {
            match view.family {
                Family::Lock => {
                    let (tenures, leases) = tenures(&operations, &view, &clock);
                    acquired += tenures.len() as u64;
                    leased += leases;
                    fenced += fences::judge(&operations, key, &view, &mut all);
                    found.extend(overlaps(tenures).into_iter().map(|pair| (key, pair)));
                }
                Family::Mixed => {
                    let of_lock = |&&w: &&usize| operations[w].f() == &F::Acquire;
                    mixed += u64::from(view.writes.iter().any(|w| of_lock(&w)));
                }
                _ => {}
            }
        }
        let reasons = (mixed > 0).then(|| format!("mixed-functions ({mixed} keys)"));
        let violated = !found.is_empty() || !all.is_empty();
        let verdict = conclude(violated, acquired, reasons.into_iter().collect());
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = acquired;
        result.figure("acquired", acquired);
        result.figure("leased", leased);
        result.figure("held_twice", found.len());
        let mut overlap_ns: u64 = 0;
        for (key, pair) in &found {
            let ns = overlap(history, &operations, pair);
            overlap_ns = overlap_ns.saturating_add(ns);
            all.add("held-twice", || anomaly(&operations, *key, pair, ns));
        }
        result.figure("overlap_seconds", overlap_ns as f64 / 1e9);
        result.figure("fenced", fenced);
        let refused = all.count("fence-not-increasing");
        result.figure("fence_not_increasing", refused);
        all.list(&mut result);
        result
    }
}

/// The latest time up to each event, ns: what the clock of the history had certainly come to.
struct Clock(Vec<u64>);

impl Clock {
    fn of(history: &History) -> Self {
        let mut latest = 0;
        let times = history.events.iter().map(|event| {
            latest = event.time.max(latest);
            latest
        });
        Self(times.collect())
    }

    /// The first event from which on a time had come.
    fn first_at(&self, time: u64) -> usize {
        self.0.partition_point(|&t| t < time)
    }
}

/// For how long an acquisition was leased, ns.
fn lease(op: &Operation<'_>) -> Option<u64> {
    let ms = match extra(op, "lease_ms")? {
        Value::Int(ms) => *ms as f64,
        Value::Float(ms) => *ms,
        _ => return None,
    };
    // A cast that is out of range takes the nearest number.
    (ms >= 0.0).then_some((ms * 1e6) as u64)
}

/// Whether an owner who gives the lock back is told that he does not have it: he had lost it, and has
/// done with it.
fn is_denied(op: &Operation<'_>) -> bool {
    let error = op.complete.and_then(|event| event.error.as_deref());
    op.outcome == Outcome::Fail && matches!(error, Some("cas-mismatch" | "not-held"))
}

/// A field that has no meaning to other checkers: of the completion, or of the invocation.
fn extra<'a>(op: &Operation<'a>, name: &str) -> Option<&'a Value> {
    let events = [op.complete, Some(op.invoke)];
    let mut fields = events.into_iter().flatten().flat_map(|event| &event.extra);
    let (_, value) = fields.find(|(field, _)| &**field == name)?;
    Some(value)
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner<'a> {
    Named(&'a Value),
    Process(&'a Process),
}

impl<'a> Owner<'a> {
    fn of(op: &Operation<'a>) -> Self {
        match op.argument() {
            Value::Nil => Self::Process(op.process()),
            name => Self::Named(name),
        }
    }
}

/// From when to when an owner held the lock for certain: positions in the history.
#[derive(Clone, Copy, Debug)]
struct Tenure<'a> {
    owner: Owner<'a>,
    from: usize,
    to: usize,
    /// The acquisition, by position among the operations.
    op: usize,
}

/// The certain tenures of one lock, by their beginning, and how many of them are leases.
fn tenures<'a>(
    operations: &[Operation<'a>],
    view: &KeyView<'a>,
    clock: &Clock,
) -> (Vec<Tenure<'a>>, u64) {
    let mut leases = 0;
    // By owner, or of everybody: when what gives the lock back began and ended, by beginning, with
    // the last end up to there.
    let mut given_back: BTreeMap<Option<Owner<'a>>, Vec<(usize, usize)>> = BTreeMap::new();
    let mut all: Vec<usize> = view.writes.iter().chain(&view.removes).copied().collect();
    all.sort_unstable();
    for &i in &all {
        let op = &operations[i];
        let owner = match op.f() {
            F::Release => Some(Owner::of(op)),
            F::Remove => None,
            _ => continue,
        };
        if observe::possible(op) || is_denied(op) {
            let before = given_back.entry(owner).or_default();
            let ended = op.completed_position.unwrap_or(NEVER);
            let last = before.last().map_or(0, |(_, last)| *last);
            before.push((op.invoked_position, ended.max(last)));
        }
    }
    let mut tenures: Vec<Tenure<'a>> = Vec::new();
    for &i in &all {
        let op = &operations[i];
        let (true, &F::Acquire, Some(from)) = (op.is_ok(), op.f(), op.completed_position) else {
            continue;
        };
        let owner = Owner::of(op);
        let mut to = NEVER;
        for kind in [Some(owner), None] {
            let Some(ends) = given_back.get(&kind) else {
                continue;
            };
            let later = ends.partition_point(|&(began, _)| began < from);
            let pending = later > 0 && ends[later - 1].1 > op.invoked_position;
            let next = ends.get(later).map_or(NEVER, |&(began, _)| began);
            to = to.min(if pending { from } else { next });
        }
        if let Some(ns) = lease(op) {
            leases += 1;
            to = to
                .min(clock.first_at(op.invoked_at().saturating_add(ns)))
                .max(from);
        }
        tenures.push(Tenure {
            owner,
            from,
            to,
            op: i,
        });
    }
    tenures.sort_by_key(|tenure| tenure.from);
    (tenures, leases)
}

/// Each tenure that began within one of another owner, with that one.
fn overlaps(tenures: Vec<Tenure<'_>>) -> Vec<(Tenure<'_>, Tenure<'_>)> {
    let mut found = Vec::new();
    // The tenures that end last, of two owners.
    let mut last: Vec<Tenure<'_>> = Vec::with_capacity(3);
    for tenure in tenures {
        if tenure.from == tenure.to {
            continue;
        }
        let holder = last
            .iter()
            .find(|held| held.owner != tenure.owner && held.to > tenure.from);
        if let Some(&holder) = holder {
            found.push((holder, tenure));
        }
        last.push(tenure);
        last.sort_by_key(|held| std::cmp::Reverse(held.to));
        let longest = last[0].owner;
        let other = last.iter().position(|held| held.owner != longest);
        last = [Some(0), other]
            .into_iter()
            .flatten()
            .map(|i| last[i])
            .collect();
    }
    found
}

/// How long both held the lock, ns.
fn overlap(
    history: &History,
    operations: &[Operation<'_>],
    (first, second): &(Tenure<'_>, Tenure<'_>),
) -> u64 {
    let last = history.events.len().saturating_sub(1);
    let end = first.to.min(second.to).min(last);
    let from = operations[second.op].completed_at().unwrap_or_default();
    let to = history.events.get(end).map_or(0, |event| event.time);
    to.saturating_sub(from)
}

fn anomaly(
    operations: &[Operation<'_>],
    key: Option<&Value>,
    (first, second): &(Tenure<'_>, Tenure<'_>),
    overlap_ns: u64,
) -> Anomaly {
    let told = |tenure: &Tenure<'_>| {
        let op = &operations[tenure.op];
        let owner = match tenure.owner {
            Owner::Named(name) => format!("{name} (process {})", op.process()),
            Owner::Process(process) => format!("process {process}"),
        };
        let node = op.node().map_or_else(String::new, |n| format!(" from {n}"));
        let at = op.completed_at().unwrap_or_default() as f64 / 1e9;
        (owner, node, at)
    };
    let ((holder, from, since), (other, other_from, at)) = (told(first), told(second));
    let mut figures = serde_json::Map::new();
    let seconds = overlap_ns as f64 / 1e9;
    figures.insert("seconds".to_owned(), seconds.into());
    let lease = lease(&operations[first.op]).map_or_else(String::new, |ns| {
        format!(" on a lease of {:.3} s", ns as f64 / 1e9)
    });
    let summary = format!(
        "{other} acquired the lock of {}{other_from} at {at:.3} s while {holder}, who had \
         acquired it{from} at {since:.3} s{lease}, had not begun to release it: both held it for \
         {seconds:.3} s",
        observe::key_name(key)
    );
    let ops = [&operations[first.op], &operations[second.op]];
    let mut anomaly = found::anomaly(key, &ops, summary);
    anomaly.figures = figures;
    anomaly
}

#[cfg(test)]
mod tests;
