//! Sets that only grow and are read as a whole, and perhaps element by element, too.
//!
//! # Why it is exact
//!
//! A set that only grows runs through a chain of contents. In any order that explains the history:
//!
//! * The answered reads, sorted by size, include each other: `S_0 < S_1 < … < S_m`, equal ones
//!   counted once.
//! * Of several adds of an element only the first one matters. It may as well be the one invoked
//!   first: in an order in which another one is, move this one right before that; it was invoked
//!   before that one and completed after its new place, since it took effect later.
//! * An element that is in `S_k` and in no smaller one is first added between the last read of
//!   `S_{k-1}` and the first of `S_k`; what was added for certain, or found by a `contains`, and is
//!   in no read, after all reads. An unanswered add of an element that nobody saw is left out.
//! * `contains` that missed an element comes before its first add, one that found it after, and so
//!   do the element's other adds.
//!
//! Conversely every order of which all this holds explains the history. So all that is asked is a
//! linear extension of these precedences and real time. Let each operation take effect as early as
//! possible: at its invocation, or when the last of its predecessors does. This is an order if and
//! only if no operation completed before that, since then every operation is within its own time,
//! and what comes first in real time comes first. Going through the chain, one pass computes these
//! instants: the elements new in `S_k`, the reads of `S_k`, and so on; nothing comes after a
//! `contains` that found its element, or a later add.
//!
//! # Cost
//!
//! Sorting the reads by size, and one comparison of each read with the next larger one: linear in
//! the elements in the reads.

use std::sync::Arc;

use super::super::{Action, Decision, Id, Op};
use super::shared::{IdMap, NEVER, refuted};

/// What is known of an element.
#[derive(Clone)]
struct Element {
    /// The first invocation of an add, and by which operation.
    added: (u64, usize),
    /// The last invocation of a `contains` that missed it.
    missed: (u64, usize),
    /// The first completion of an add or of a `contains` that found it.
    in_by: (u64, usize),
    /// The read that showed it first, in the order of the reads.
    shown: Option<usize>,
}

/// Decides; `None` if something may have been removed, or a read is not sorted.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let mut reads: Vec<(usize, &Arc<[Id]>)> = Vec::new();
    let mut largest = 0;
    for (i, op) in ops.iter().enumerate() {
        match &op.action {
            Action::Remove(_) => return None,
            Action::Add(e) | Action::Contains(e, _) => largest = largest.max(*e),
            Action::ReadSet(items) if op.completion.is_some() => reads.push((i, items)),
            _ => {}
        }
    }
    reads.sort_by_key(|(_, items)| items.len());
    let same = |a: &Arc<[Id]>, b: &Arc<[Id]>| Arc::ptr_eq(a, b);
    for (at, (_, items)) in reads.iter().enumerate() {
        let known = at > 0 && same(items, reads[at - 1].1);
        if !known && !items.is_sorted_by(|a, b| a < b) {
            return None;
        }
    }
    let (elements, index) = elements(ops, largest);
    let mut set = Set {
        ops,
        reads,
        elements,
        index,
    };
    Some(set.decide().err().unwrap_or(Decision::Linearizable))
}

fn elements(ops: &[Op], largest: Id) -> (Vec<Element>, IdMap) {
    let mut elements: Vec<Element> = Vec::new();
    let mut index = IdMap::new(largest, ops.len());
    for (i, op) in ops.iter().enumerate() {
        let (Action::Add(id) | Action::Contains(id, _)) = op.action else {
            continue;
        };
        let at = index.get(id).unwrap_or_else(|| {
            index.insert(id, elements.len() as u32);
            elements.push(Element {
                added: (NEVER, usize::MAX),
                missed: (0, usize::MAX),
                in_by: (NEVER, usize::MAX),
                shown: None,
            });
            elements.len() - 1
        });
        let element = &mut elements[at];
        match (&op.action, op.completion) {
            (Action::Contains(..), None) => {}
            (Action::Contains(_, false), _) => element.missed = element.missed.max((op.call, i)),
            (Action::Contains(..), Some(end)) => element.in_by = element.in_by.min((end, i)),
            (_, end) => {
                element.added = element.added.min((op.call, i));
                element.in_by = element.in_by.min((end.unwrap_or(NEVER), i));
            }
        }
    }
    (elements, index)
}

struct Set<'o> {
    ops: &'o [Op],
    /// By size.
    reads: Vec<(usize, &'o Arc<[Id]>)>,
    elements: Vec<Element>,
    index: IdMap,
}

impl Set<'_> {
    /// `Err` is a refutation.
    fn decide(&mut self) -> Result<(), Decision> {
        // The latest instant so far, and the operation invoked then.
        let mut reached = (0, usize::MAX);
        let mut fresh: Vec<Id> = Vec::new();
        let mut from = 0;
        while from < self.reads.len() {
            let items = self.reads[from].1;
            let smaller: &[Id] = match from {
                0 => &[],
                _ => self.reads[from - 1].1,
            };
            fresh.clear();
            if let Some(missing) = added_to(smaller, items, &mut fresh) {
                return Err(self.no_chain(from, missing, fresh.first().copied()));
            }
            let mut latest = reached;
            for &id in &fresh {
                let added = |&at: &usize| self.elements[at].added.0 != NEVER;
                let Some(at) = self.index.get(id).filter(added) else {
                    return Err(refuted([self.reads[from].0]));
                };
                self.elements[at].shown = Some(from);
                latest = latest.max(self.add(at, reached)?);
            }
            reached = latest;
            // The reads of the same elements.
            let mut to = from;
            while let Some((read, same)) =
                self.reads.get(to).filter(|(_, r)| r.len() == items.len())
            {
                if !Arc::ptr_eq(same, items) && same[..] != items[..] {
                    let at = same.iter().zip(items.iter()).position(|(a, b)| a != b);
                    let pair = at.map(|at| (same[at], items[at]));
                    // Both are sorted: the smaller of the two is missing in the other.
                    return Err(self.differ(*read, self.reads[from].0, pair));
                }
                let end = self.ops[*read].completion.unwrap_or(NEVER);
                if end < reached.0 {
                    return Err(self.conflict(*read, reached.1));
                }
                latest = latest.max((self.ops[*read].call, *read));
                to += 1;
            }
            reached = latest;
            from = to;
        }
        for at in 0..self.elements.len() {
            let element = &self.elements[at];
            if element.shown.is_some() || element.in_by.0 == NEVER {
                continue;
            }
            if element.added.0 == NEVER {
                return Err(refuted([element.in_by.1]));
            }
            self.add(at, reached)?;
        }
        Ok(())
    }

    /// When an element is first added, if not before this instant.
    fn add(&self, at: usize, reached: (u64, usize)) -> Result<(u64, usize), Decision> {
        let element = &self.elements[at];
        let added = reached.max(element.added).max(element.missed);
        if element.in_by.0 < added.0 {
            return Err(self.conflict(element.in_by.1, added.1));
        }
        Ok(added)
    }

    /// `early` completed before `late` was invoked, but has to come after it.
    fn conflict(&self, early: usize, late: usize) -> Decision {
        let mut core = vec![early, late];
        let first_shown = |op: usize| match &self.ops[op].action {
            Action::Add(id) | Action::Contains(id, _) => {
                let at = self.index.get(*id);
                at.and_then(|at| self.elements[at].shown)
                    .unwrap_or(self.reads.len())
            }
            _ => self
                .reads
                .iter()
                .position(|(read, _)| *read == op)
                .unwrap_or_default(),
        };
        let element = |op: usize| match &self.ops[op].action {
            Action::Add(id) | Action::Contains(id, _) => Some(*id),
            _ => None,
        };
        let mut ids = vec![element(early), element(late)];
        match (element(early), element(late)) {
            // A read shows the later one without the earlier.
            (Some(early_id), Some(late_id)) if early_id != late_id => {
                let between = first_shown(early).checked_sub(1);
                core.extend(between.map(|at| self.reads[at].0));
            }
            // Something is in the earlier read that is not in the later one.
            (None, None) => {
                let (large, small) = (first_shown(early), first_shown(late));
                let mut more = Vec::new();
                added_to(self.reads[small].1, self.reads[large].1, &mut more);
                ids.push(more.first().copied());
            }
            _ => {}
        }
        core.extend(ids.into_iter().flatten().flat_map(|id| self.adds(id)));
        refuted(core)
    }

    /// A read misses something that a smaller one shows.
    fn no_chain(&self, read: usize, missing: Id, other: Option<Id>) -> Decision {
        let reads = [self.reads[read - 1].0, self.reads[read].0];
        let adds = [Some(missing), other]
            .into_iter()
            .flatten()
            .flat_map(|id| self.adds(id));
        refuted(reads.into_iter().chain(adds))
    }

    /// Two reads of the same size show different elements.
    fn differ(&self, read: usize, other: usize, pair: Option<(Id, Id)>) -> Decision {
        let Some((a, b)) = pair else {
            return Decision::not_linearizable();
        };
        let items = |read: usize| match &self.ops[read].action {
            Action::ReadSet(items) => items.clone(),
            _ => Arc::default(),
        };
        let (first, second) = if a < b { (read, other) } else { (other, read) };
        // The first shows an element that the second does not; as they are of one size, so does
        // the second.
        let (first_items, second_items) = (items(first), items(second));
        let mut back = Vec::new();
        added_to(&first_items, &second_items, &mut back);
        let ids = [Some(a.min(b)), back.first().copied()];
        let adds = ids.into_iter().flatten().flat_map(|id| self.adds(id));
        refuted([first, second].into_iter().chain(adds))
    }

    fn adds(&self, id: Id) -> impl Iterator<Item = usize> {
        let adds = self.ops.iter().enumerate();
        adds.filter(move |(_, op)| op.action == Action::Add(id))
            .map(|(i, _)| i)
    }
}

/// Appends what is in the larger but not in the smaller set; returns the first element for which it
/// is the other way round.
fn added_to(smaller: &[Id], larger: &[Id], fresh: &mut Vec<Id>) -> Option<Id> {
    const BLOCK: usize = 64;
    let (mut s, mut l) = (0, 0);
    let mut missing = None;
    while s < smaller.len() {
        // Comparing blocks is much faster than comparing elements.
        if let (Some(a), Some(b)) = (smaller.get(s..s + BLOCK), larger.get(l..l + BLOCK))
            && a == b
        {
            s += BLOCK;
            l += BLOCK;
            continue;
        }
        match larger.get(l) {
            Some(shown) if *shown < smaller[s] => {
                fresh.push(*shown);
                l += 1;
            }
            Some(shown) if *shown == smaller[s] => {
                s += 1;
                l += 1;
            }
            _ => {
                missing = missing.or(Some(smaller[s]));
                s += 1;
            }
        }
    }
    fresh.extend_from_slice(larger.get(l..).unwrap_or_default());
    missing
}
