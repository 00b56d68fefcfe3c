//! Closed sub-histories: what may be left out of a history such that what is left proves something
//! about the whole.
//!
//! A sub-history that cannot be ordered proves nothing by itself: without the write of 7, every read
//! of 7 fails. So only *sound* steps are taken, those that turn a linearizable history into a
//! linearizable one. A sub-history is closed if such steps lead to it. If it is not linearizable,
//! then, step by step backwards, nor is the whole.
//!
//! It follows that failing is monotone: once a step makes a history linearizable, no further step
//! makes it fail. A closed sub-history that fails, and that every single step ([`attempts`]) makes
//! linearizable, has therefore no smaller one that fails below it.
//!
//! Below, *L* is an order that explains the whole history, and *L'* that order without what is left
//! out. Each step is sound because L' explains what is left (real time is kept: L' is part of L).
//!
//! **Any model.**
//! * What changes nothing: reads, a refused compare-and-set, `contains`, a dequeue that found it empty,
//!   an empty text appended, an increment by 0. The states in L' are those of L.
//! * What was invoked after *t*, the last completion among the operations left that return something
//!   (reads, compare-and-sets, dequeues, acquisitions, releases). In L it all comes after what
//!   completed by t. What else is left there are writes without result, which fit any state, and
//!   operations that never completed, which may as well not take effect.
//!
//! **Register.** Writes and compare-and-sets whose values no read and no compare-and-set left depends
//! on (returns or expects). In L the last write before one of those left its value, so it stays, and is
//! the last one in L', too. A compare-and-set that never completed and took no effect in L is left out of L'.
//! A *refused* compare-and-set of x stays only if L' cannot hold x there: each write
//! left out was invoked after its end, or is followed, before its invocation, by a whole write that stays (then
//! the last write before it in L is no write left out); or nothing left leaves x, and x is not the
//! initial value.
//!
//! **List, set, map.** All that concerns one element (or field), its place in every read included: what
//! the other elements do is the projection of L to them. And a single append of an element that no
//! read left shows: in L no read follows it. And a single add, remove, put or removal of a field, if no
//! read left shows what it left of that element: an element of a set, or a field, is a register.
//!
//! **Text.** A put of a text that no get left begins with, and an append of one that no get left
//! contains: in L no get left shows a text made with it, so that the put before each get, and all
//! appends between, stay.
//!
//! **Queue, stack, priority queue.** All enqueues and dequeues of one value: what is first, last or
//! smallest among all is so among some, and empty stays empty. A dequeue that never completed
//! and took that value in L is left out of L'. Such a dequeue itself may be left out if every value left is
//! dequeued by others as often as it was enqueued: in L it found nothing.
//!
//! **Counter.** Nothing more: each increment shows in all reads after it.
//!
//! **Lock, fenced lock, semaphore.** All operations of one owner: the others find the permits less used.
//! Of an owner whose operations follow each other in real time, of which at most the last never
//! completed (L has them in that order): an acquisition with the release that gives it back (the
//! matching parenthesis; for a lock the two are neighbours in L), and an acquisition that is never
//! given back. In between the others find one permit less used, and this owner's own count stays above zero
//! wherever it releases. A release without acquisition fits no L at all unless it never completed,
//! and then it took no effect. Fences left are a part of an increasing sequence.

use std::borrow::Borrow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::encode::left_by;
use super::super::engine::{Action, Id, Model, NIL, Op, Taken};

/// What is left of the operations on a key, by invocation, each with its position in the problem.
pub(super) type Kept = Vec<(usize, Op)>;

/// Texts are compared for at most so many bytes before nothing is left out any more.
const TEXT_WORK_MAX: usize = 1 << 26;

/// Whether the action changes nothing.
pub(super) fn is_passive(action: &Action) -> bool {
    match action {
        Action::Read(_)
        | Action::CasRefused(_)
        | Action::ReadList(_)
        | Action::ReadSet(_)
        | Action::Get(_)
        | Action::Contains(..)
        | Action::ReadMap(_)
        | Action::ReadCounter(_)
        | Action::Increment(0)
        | Action::Dequeue(Taken::Empty) => true,
        Action::AppendText(text) => text.is_empty(),
        _ => false,
    }
}

/// Whether the action fits any state.
pub(super) fn is_blind(action: &Action) -> bool {
    matches!(
        action,
        Action::Write(_)
            | Action::Append(_)
            | Action::Add(_)
            | Action::Remove(_)
            | Action::Put(_)
            | Action::AppendText(_)
            | Action::PutField(..)
            | Action::RemoveField(_)
            | Action::Enqueue(_)
            | Action::Increment(_)
    )
}

/// The element, field, dequeued or enqueued value, or owner that an action is about alone.
fn subject(action: &Action) -> Option<Id> {
    match action {
        Action::Append(e)
        | Action::Add(e)
        | Action::Remove(e)
        | Action::Contains(e, _)
        | Action::PutField(e, _)
        | Action::RemoveField(e)
        | Action::Enqueue(e)
        | Action::Dequeue(Taken::Value(e))
        | Action::Acquire(e)
        | Action::AcquireFenced(e, _)
        | Action::Release(e) => Some(*e),
        _ => None,
    }
}

/// Leaves out as much of what is marked in `drop` (by place in `kept`) as soundly goes together.
pub(super) fn without<T: Borrow<Op>>(model: Model, kept: &[(usize, T)], drop: &[bool]) -> Kept {
    let mut step = Step {
        kept,
        drop,
        goes: kept
            .iter()
            .zip(drop)
            .map(|((_, op), drop)| *drop && is_passive(&op.borrow().action))
            .collect(),
        projected: FxHashSet::default(),
    };
    step.after_all_results();
    match model {
        Model::Register => step.writes_of_a_register(),
        Model::List | Model::Set | Model::Map => {
            step.subjects();
            step.unseen_changes();
        }
        Model::Text => step.unseen_texts(),
        Model::Queue | Model::Stack | Model::PriorityQueue => {
            step.subjects();
            step.dequeues_of_nothing();
        }
        Model::Counter => {}
        Model::Lock | Model::FencedLock | Model::Semaphore(_) => {
            step.subjects();
            step.acquisitions();
        }
    }
    step.rest()
}

/// What to mark for [`without`] so as to leave out the one at place `i`, if anything can, with what
/// has to go with it: from the most to the least.
pub(super) fn attempts(model: Model, kept: &[(usize, Op)], i: usize) -> Vec<Vec<bool>> {
    let mark = |marked: &dyn Fn(usize, &Op) -> bool| -> Vec<bool> {
        let each = kept.iter().enumerate();
        each.map(|(at, (_, op))| marked(at, op)).collect()
    };
    let alone = mark(&|at, _| at == i);
    let Some((_, one)) = kept.get(i) else {
        return Vec::new();
    };
    if is_passive(&one.action) {
        return vec![alone];
    }
    let mut attempts = vec![mark(&|_, op| op.call >= one.call)];
    match model {
        Model::Register => attempts.push(dependents(kept, i)),
        Model::Lock | Model::FencedLock | Model::Semaphore(_) => {
            attempts.push(with_subjects(kept, alone.clone()));
            attempts.push(with_mate(kept, i));
        }
        Model::Text | Model::Counter => {}
        _ => attempts.push(with_subjects(kept, alone.clone())),
    }
    attempts.push(alone);
    attempts.dedup();
    attempts
}

/// Marks all that is about the same elements, values or owners as what is marked.
pub(super) fn with_subjects(kept: &[(usize, Op)], mut drop: Vec<bool>) -> Vec<bool> {
    let marked = kept.iter().zip(&drop).filter(|(_, drop)| **drop);
    let subjects: FxHashSet<Id> = marked
        .filter_map(|((_, op), _)| subject(&op.action))
        .collect();
    for ((_, op), drop) in kept.iter().zip(&mut drop) {
        *drop |= subject(&op.action).is_some_and(|s| subjects.contains(&s));
    }
    drop
}

/// Marks a write of a register and all that depends on it.
fn dependents(kept: &[(usize, Op)], i: usize) -> Vec<bool> {
    let mut drop = vec![false; kept.len()];
    let mut gone: FxHashSet<Id> = FxHashSet::default();
    if let Some(at) = drop.get_mut(i) {
        *at = true;
        gone.extend(left_by(&kept[i].1.action));
    }
    loop {
        let mut grown = false;
        for ((_, op), drop) in kept.iter().zip(&mut drop) {
            let depends = match op.action {
                Action::Read(value) | Action::Cas(value, _) => gone.contains(&value),
                _ => false,
            };
            if depends && !*drop {
                *drop = true;
                gone.extend(left_by(&op.action));
                grown = true;
            }
        }
        if !grown {
            return drop;
        }
    }
}

/// Marks an acquisition or release and what it is matched with.
fn with_mate(kept: &[(usize, Op)], i: usize) -> Vec<bool> {
    let mut drop = vec![false; kept.len()];
    let owner = kept.get(i).and_then(|(_, op)| subject(&op.action));
    let of_owner: Vec<usize> = (0..kept.len())
        .filter(|&at| subject(&kept[at].1.action) == owner)
        .collect();
    for unit in units(kept, &of_owner).unwrap_or_default() {
        if unit.contains(&Some(i)) {
            unit.into_iter().flatten().for_each(|at| drop[at] = true);
        }
    }
    drop
}

/// The operations of one owner (places, by invocation) in acquisitions with their releases; `None`
/// if they do not follow each other.
fn units<T: Borrow<Op>>(
    kept: &[(usize, T)],
    of_owner: &[usize],
) -> Option<Vec<[Option<usize>; 2]>> {
    let one_by_one = of_owner.windows(2).all(|pair| {
        let (before, after) = (kept[pair[0]].1.borrow(), kept[pair[1]].1.borrow());
        before.completion.is_some_and(|end| end < after.call)
    });
    if !one_by_one {
        return None;
    }
    let mut units = Vec::new();
    let mut held = Vec::new();
    for &at in of_owner {
        match kept[at].1.borrow().action {
            Action::Release(_) => units.push([held.pop(), Some(at)]),
            _ => held.push(at),
        }
    }
    units.extend(held.into_iter().map(|at| [Some(at), None]));
    Some(units)
}

fn ops<T: Borrow<Op>>(kept: &[(usize, T)]) -> impl Iterator<Item = &Op> {
    kept.iter().map(|(_, op)| op.borrow())
}

/// One step, as it is put together.
struct Step<'k, T> {
    kept: &'k [(usize, T)],
    drop: &'k [bool],
    /// What is left out.
    goes: Vec<bool>,
    /// The elements and fields that are left out of reads.
    projected: FxHashSet<Id>,
}

impl<'k, T: Borrow<Op>> Step<'k, T> {
    /// What is left, as decided so far.
    fn left(&self) -> impl Iterator<Item = &'k Op> {
        let left = self.kept.iter().zip(&self.goes).filter(|(_, goes)| !**goes);
        left.map(|((_, op), _)| op.borrow())
    }

    fn after_all_results(&mut self) {
        let returns = |op: &Op| op.completion.is_some() && !is_blind(&op.action);
        let stays = |(i, _): &(usize, &Op)| !self.drop[*i];
        let certain = ops(self.kept).enumerate().filter(stays);
        let certain = certain.filter(|(_, op)| returns(op));
        // What is marked and began by then may have to stay for other reasons, and lasts longer.
        let mut last = certain.filter_map(|(_, op)| op.completion).max();
        for (i, op) in ops(self.kept).enumerate() {
            if self.goes[i] {
                continue;
            }
            if last.is_none_or(|last| op.call > last) {
                self.goes[i] = self.drop[i];
            } else if returns(op) {
                last = last.max(op.completion);
            }
        }
    }

    fn writes_of_a_register(&mut self) {
        let mut needed: FxHashSet<Id> = FxHashSet::default();
        let need = |op: &Op, needed: &mut FxHashSet<Id>| {
            if let Action::Read(value) | Action::Cas(value, _) = op.action {
                needed.insert(value);
            }
        };
        // Marked writes by value; those that turn out to be needed are taken out.
        let mut marked: FxHashMap<Id, Vec<usize>> = FxHashMap::default();
        for (i, op) in ops(self.kept).enumerate() {
            if self.goes[i] {
                continue;
            }
            match left_by(&op.action) {
                Some(value) if self.drop[i] => marked.entry(value).or_default().push(i),
                _ => need(op, &mut needed),
            }
        }
        let mut pending: Vec<Id> = needed.iter().copied().collect();
        while let Some(value) = pending.pop() {
            for i in marked.remove(&value).unwrap_or_default() {
                if let Action::Cas(expected, _) = self.kept[i].1.borrow().action
                    && needed.insert(expected)
                {
                    pending.push(expected);
                }
            }
        }
        let mut gone: Vec<&Op> = Vec::new();
        for i in marked.into_values().flatten() {
            self.goes[i] = true;
            gone.push(self.kept[i].1.borrow());
        }
        if !gone.is_empty() {
            self.refused(gone);
        }
    }

    /// Leaves out the refused compare-and-sets that say something else without the writes `gone`.
    fn refused(&mut self, mut gone: Vec<&Op>) {
        let is_refused = |op: &Op| matches!(op.action, Action::CasRefused(_));
        if !self.left().any(is_refused) {
            return;
        }
        let left: FxHashSet<Id> = self.left().filter_map(|op| left_by(&op.action)).collect();
        // By invocation: the completion of those before, at most.
        gone.sort_unstable_by_key(|op| op.call);
        let mut lasts: Vec<u64> = Vec::with_capacity(gone.len());
        for op in &gone {
            let end = op.completion.unwrap_or(u64::MAX);
            lasts.push(lasts.last().map_or(end, |last| end.max(*last)));
        }
        // Whole writes that stay, by completion: the last invocation of those before.
        let mut whole: Vec<(u64, u64)> = self
            .left()
            .filter(|op| left_by(&op.action).is_some())
            .filter_map(|op| Some((op.completion?, op.call)))
            .collect();
        whole.sort_unstable();
        let mut latest = 0;
        for (_, call) in &mut whole {
            latest = latest.max(*call);
            *call = latest;
        }
        for (i, op) in ops(self.kept).enumerate() {
            let Action::CasRefused(value) = op.action else {
                continue;
            };
            if self.goes[i] || (value != NIL && !left.contains(&value)) {
                continue;
            }
            let end = op.completion.unwrap_or(u64::MAX);
            let before = gone.partition_point(|w| w.call < end);
            let Some(last) = before.checked_sub(1).map(|at| lasts[at]) else {
                continue;
            };
            let over = whole.partition_point(|(end, _)| *end < op.call);
            let covered = over.checked_sub(1).is_some_and(|at| last < whole[at].1);
            self.goes[i] = !covered;
        }
    }

    /// Leaves out the elements, values and owners all of whose operations that are left are marked.
    fn subjects(&mut self) {
        let mut all_marked: FxHashMap<Id, bool> = FxHashMap::default();
        for (i, op) in ops(self.kept).enumerate() {
            if let (Some(subject), false) = (subject(&op.action), self.goes[i]) {
                *all_marked.entry(subject).or_insert(true) &= self.drop[i];
            }
        }
        all_marked.retain(|_, all| *all);
        self.projected = all_marked.into_keys().collect();
        for (op, goes) in ops(self.kept).zip(&mut self.goes) {
            *goes |= subject(&op.action).is_some_and(|s| self.projected.contains(&s));
        }
    }

    /// Leaves out single changes of elements and fields that no read left depends on.
    fn unseen_changes(&mut self) {
        if !self
            .drop
            .iter()
            .zip(&self.goes)
            .any(|(drop, goes)| *drop && !*goes)
        {
            return;
        }
        let mut reads = 0_u64;
        let mut shown: FxHashMap<Id, u64> = FxHashMap::default();
        let mut fields: FxHashSet<(Id, Id)> = FxHashSet::default();
        let mut contained: FxHashSet<(Id, bool)> = FxHashSet::default();
        for op in self.left() {
            match &op.action {
                // Elements of a list may repeat: of a list it only matters whether one is shown.
                Action::ReadList(items) | Action::ReadSet(items) => {
                    reads += 1;
                    items
                        .iter()
                        .for_each(|&e| *shown.entry(e).or_insert(0) += 1);
                }
                Action::ReadMap(pairs) => {
                    reads += 1;
                    for &(field, value) in pairs.iter() {
                        *shown.entry(field).or_insert(0) += 1;
                        fields.insert((field, value));
                    }
                }
                Action::Contains(e, held) => {
                    contained.insert((*e, *held));
                }
                _ => {}
            }
        }
        let times = |e: &Id| shown.get(e).copied().unwrap_or(0);
        for (i, op) in ops(self.kept).enumerate() {
            if self.goes[i] || !self.drop[i] {
                continue;
            }
            self.goes[i] = match &op.action {
                Action::Append(e) | Action::Add(e) => {
                    times(e) == 0 && !contained.contains(&(*e, true))
                }
                Action::Remove(e) => times(e) == reads && !contained.contains(&(*e, false)),
                Action::PutField(field, value) => !fields.contains(&(*field, *value)),
                Action::RemoveField(field) => times(field) == reads,
                _ => false,
            };
        }
    }

    fn unseen_texts(&mut self) {
        let gets: Vec<&Arc<str>> = self
            .left()
            .filter_map(|op| match &op.action {
                Action::Get(text) => Some(text),
                _ => None,
            })
            .collect();
        let bytes: usize = gets.iter().map(|text| text.len()).sum();
        let mut work = TEXT_WORK_MAX;
        for (i, op) in ops(self.kept).enumerate() {
            if self.goes[i] || !self.drop[i] {
                continue;
            }
            let Some(left) = work.checked_sub(bytes + gets.len()) else {
                return;
            };
            work = left;
            self.goes[i] = match &op.action {
                Action::Put(text) => !gets.iter().any(|got| got.starts_with(&**text)),
                Action::AppendText(text) => !gets.iter().any(|got| got.contains(&**text)),
                _ => false,
            };
        }
    }

    fn dequeues_of_nothing(&mut self) {
        let mut inside: FxHashMap<Id, i64> = FxHashMap::default();
        for op in self.left() {
            match op.action {
                Action::Enqueue(value) => *inside.entry(value).or_insert(0) += 1,
                Action::Dequeue(Taken::Value(value)) if op.completion.is_some() => {
                    *inside.entry(value).or_insert(0) -= 1;
                }
                _ => {}
            }
        }
        if inside.values().any(|&times| times > 0) {
            return;
        }
        for (i, op) in ops(self.kept).enumerate() {
            let unknown = matches!(op.action, Action::Dequeue(_)) && op.completion.is_none();
            self.goes[i] |= self.drop[i] && unknown;
        }
    }

    fn acquisitions(&mut self) {
        let mut owners: FxHashMap<Id, Vec<usize>> = FxHashMap::default();
        for (i, op) in ops(self.kept).enumerate() {
            if let (Some(owner), false) = (subject(&op.action), self.goes[i]) {
                owners.entry(owner).or_default().push(i);
            }
        }
        for of_owner in owners.values() {
            for unit in units(self.kept, of_owner).unwrap_or_default() {
                let mut places = unit.into_iter().flatten();
                if places.clone().all(|at| self.drop[at]) {
                    places.by_ref().for_each(|at| self.goes[at] = true);
                }
            }
        }
    }

    fn rest(self) -> Kept {
        let project = |items: &Arc<[Id]>| -> Arc<[Id]> {
            if self.projected.is_empty() {
                return items.clone();
            }
            let left = items.iter().filter(|e| !self.projected.contains(e));
            left.copied().collect()
        };
        let mut rest: Kept = Vec::new();
        let left = self.kept.iter().zip(&self.goes).filter(|(_, goes)| !**goes);
        for ((i, op), _) in left {
            let op = op.borrow();
            let action = match &op.action {
                Action::ReadList(items) => Action::ReadList(project(items)),
                Action::ReadSet(items) => Action::ReadSet(project(items)),
                Action::ReadMap(pairs) if !self.projected.is_empty() => {
                    let left = pairs.iter().filter(|(f, _)| !self.projected.contains(f));
                    Action::ReadMap(left.copied().collect())
                }
                other => other.clone(),
            };
            rest.push((*i, Op { action, ..*op }));
        }
        rest
    }
}
