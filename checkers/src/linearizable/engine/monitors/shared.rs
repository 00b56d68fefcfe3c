//! What the monitors share.

use rustc_hash::FxHashMap;

use super::super::{Action, Decision, Id, Op, Refutation, Taken};

/// After every instant.
pub(super) const NEVER: u64 = u64::MAX;

/// No index.
pub(super) const NONE: u32 = u32::MAX;

/// The most operations that are worth naming as a core.
const CORE_MAX: usize = 64;

/// That these operations cannot be ordered.
pub(super) fn refuted(core: impl IntoIterator<Item = usize>) -> Decision {
    let mut core: Vec<usize> = core.into_iter().take(CORE_MAX + 1).collect();
    core.sort_unstable();
    core.dedup();
    if core.len() > CORE_MAX {
        core.clear();
    }
    Decision::NotLinearizable(Refutation { core, by: None })
}

/// A map from ids to indexes. Ids number values and are dense as a rule: then it is a table; if
/// not, no memory is spent on the holes.
pub(super) struct IdMap {
    table: Vec<u32>,
    sparse: FxHashMap<Id, u32>,
}

impl IdMap {
    /// For about `entries` ids up to `largest`.
    pub(super) fn new(largest: Id, entries: usize) -> Self {
        let dense = largest as usize <= 4 * entries + 1024;
        Self {
            table: if dense {
                vec![NONE; largest as usize + 1]
            } else {
                Vec::new()
            },
            sparse: FxHashMap::default(),
        }
    }

    /// The index of an id.
    pub(super) fn get(&self, id: Id) -> Option<usize> {
        let index = match self.table.get(id as usize) {
            Some(&index) => index,
            None if self.sparse.is_empty() => NONE,
            None => self.sparse.get(&id).copied().unwrap_or(NONE),
        };
        (index != NONE).then_some(index as usize)
    }

    /// Sets the index of an id; the one before is returned.
    pub(super) fn insert(&mut self, id: Id, index: u32) -> Option<u32> {
        match self.table.get_mut(id as usize) {
            Some(slot) => {
                let before = std::mem::replace(slot, index);
                (before != NONE).then_some(before)
            }
            None => self.sparse.insert(id, index),
        }
    }
}

/// A value in a queue, stack or priority queue: put in in one of the slots `put_call .. put_end`,
/// taken out in one of `take_call .. take_end`.
///
/// It is put in before it is taken out, so that these are narrowed to `put_end <= take_end` and
/// `put_call <= take_call`: nothing is lost by that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) value: Id,
    pub(super) put: u32,
    /// [`NONE`] if nobody is known to have taken it out.
    pub(super) take: u32,
    pub(super) put_call: u64,
    pub(super) put_end: u64,
    pub(super) take_call: u64,
    pub(super) take_end: u64,
}

impl Life {
    /// The slots in which the value is in for certain, if any: it was put in by their start and is
    /// not taken out before their end.
    pub(super) fn inside(&self) -> Option<(u64, u64)> {
        (self.put_end < self.take_call).then_some((self.put_end, self.take_call))
    }

    /// The operations on the value.
    pub(super) fn ops(&self) -> impl Iterator<Item = usize> + use<> {
        [self.put, self.take]
            .into_iter()
            .filter(|&op| op != NONE)
            .map(|op| op as usize)
    }
}

/// An operation that found nothing: in one of the slots from its call to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Empty {
    pub(super) op: u32,
    pub(super) call: u64,
    pub(super) end: u64,
}

/// The history of a queue, stack or priority queue, value by value.
#[derive(Default)]
pub(super) struct Lives {
    /// Values that were taken out.
    pub(super) taken: Vec<Life>,
    /// Values that were put in for certain, and that no answered operation took out.
    ///
    /// Values whose operation of putting in was never answered, and that nobody is known to have
    /// taken out, are left out: see [`lives`].
    pub(super) stuck: Vec<Life>,
    pub(super) empties: Vec<Empty>,
    /// Unanswered takes, by invocation: instant and operation.
    pub(super) open_takes: Vec<(u64, u32)>,
}

/// Sorts a history by values. `Err(None)`: the monitors do not apply. `Err(Some(_))`: decided.
///
/// What is left out, and why that changes nothing:
///
/// * An unanswered put whose value no answered operation took out. From an order that explains the
///   history the value can be taken out together with the unanswered take, if any, that took it:
///   what is in a queue, stack or priority queue otherwise stays as it is, and so does what comes
///   out, because the value itself came out nowhere else. Where it hid another value, it was not in
///   the way of any answered operation.
/// * An unanswered take that is known to have found nothing: it changes nothing.
pub(super) fn lives(ops: &[Op]) -> Result<Lives, Option<Decision>> {
    let largest = ops.iter().filter_map(|op| match op.action {
        Action::Enqueue(value) => Some(value),
        _ => None,
    });
    let mut index = IdMap::new(largest.max().unwrap_or(0), ops.len());
    let mut all: Vec<Life> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        match op.action {
            Action::Enqueue(value) => {
                if index.insert(value, all.len() as u32).is_some() {
                    return Err(None);
                }
                all.push(Life {
                    value,
                    put: i as u32,
                    take: NONE,
                    put_call: op.call,
                    put_end: op.completion.unwrap_or(NEVER),
                    take_call: NEVER,
                    take_end: NEVER,
                });
            }
            // An unanswered operation that can have taken only one value is none of ours, nor is
            // an answered one of which nobody knows the answer.
            Action::Dequeue(Taken::Value(_)) if op.completion.is_none() => return Err(None),
            Action::Dequeue(Taken::Unknown) if op.completion.is_some() => return Err(None),
            _ => {}
        }
    }
    let mut lives = Lives::default();
    let mut wrong = None;
    for (i, op) in ops.iter().enumerate() {
        match (&op.action, op.completion) {
            (Action::Dequeue(Taken::Value(value)), Some(end)) => {
                let Some(at) = index.get(*value) else {
                    wrong = wrong.or(Some(refuted([i])));
                    continue;
                };
                let life = &mut all[at];
                if life.take != NONE || end < life.put_call {
                    wrong = wrong.or(Some(refuted(life.ops().chain([i]))));
                    continue;
                }
                life.take = i as u32;
                life.put_end = life.put_end.min(end);
                life.take_call = op.call.max(life.put_call);
                life.take_end = end;
            }
            (Action::Dequeue(Taken::Empty), Some(end)) => lives.empties.push(Empty {
                op: i as u32,
                call: op.call,
                end,
            }),
            (Action::Dequeue(Taken::Unknown), None) => lives.open_takes.push((op.call, i as u32)),
            _ => {}
        }
    }
    if wrong.is_some() {
        return Err(wrong);
    }
    lives.open_takes.sort_unstable();
    for life in all {
        if life.take != NONE {
            lives.taken.push(life);
        } else if life.put_end != NEVER {
            lives.stuck.push(life);
        }
    }
    Ok(lives)
}

/// Disjoint ranges of slots, ascending, that do not touch.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The union of ranges in any order.
    pub(super) fn union(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.retain(|(from, to)| from < to);
        ranges.sort_unstable();
        let mut union: Vec<(u64, u64)> = Vec::new();
        for (from, to) in ranges {
            match union.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => union.push((from, to)),
            }
        }
        Self(union)
    }

    /// The first slot outside, from this one on.
    pub(super) fn next_outside(&self, slot: u64) -> u64 {
        let after = self.0.partition_point(|(from, _)| *from <= slot);
        match after.checked_sub(1) {
            Some(at) if slot < self.0[at].1 => self.0[at].1,
            _ => slot,
        }
    }

    /// The last slot outside, up to this one; `None` if there is none.
    pub(super) fn last_outside(&self, slot: u64) -> Option<u64> {
        let after = self.0.partition_point(|(from, _)| *from <= slot);
        match after.checked_sub(1) {
            Some(at) if slot < self.0[at].1 => self.0[at].0.checked_sub(1),
            _ => Some(slot),
        }
    }
}

/// A few of these that together cover the slots `from .. to`; `None` if they do not.
pub(super) fn cover(
    inside: impl IntoIterator<Item = (u64, u64, Life)>,
    from: u64,
    to: u64,
) -> Option<Vec<Life>> {
    let overlaps = |(start, end, _): &(u64, u64, Life)| *start < to && from < *end;
    let mut inside: Vec<(u64, u64, Life)> = inside.into_iter().filter(overlaps).collect();
    inside.sort_unstable_by_key(|(start, end, life)| (*start, *end, life.put));
    let mut chosen = Vec::new();
    let mut reached = from;
    let mut rest = inside.into_iter().peekable();
    while reached < to {
        let mut best: Option<(u64, Life)> = None;
        while let Some((_, end, life)) = rest.next_if(|(start, ..)| *start <= reached) {
            if best.is_none_or(|(furthest, _)| furthest < end) {
                best = Some((end, life));
            }
        }
        let (end, life) = best.filter(|(end, _)| reached < *end)?;
        reached = end;
        chosen.push(life);
    }
    Some(chosen)
}
