//! A register's history, prepared: values and kinds of operations numbered without gaps.

use rustc_hash::FxHashMap;

use super::super::timeline::Timeline;
use super::{Action, Op, may_matter};
use crate::linearizable::engine::NIL;

/// What an operation does, with its value or its kind of compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read(u32),
    Refused(u32),
    Write(u32),
    Cas(u32),
}

const NO_PENDING: u32 = u32::MAX;

pub(super) struct Plan {
    pub(super) timeline: Timeline,
    /// By operation.
    pub(super) kinds: Vec<Kind>,
    /// How many values there are. The initial one is 0.
    pub(super) values: usize,
    /// By kind of compare-and-set: what it expects and what it leaves, never the same.
    pub(super) sets: Vec<(u32, u32)>,
    /// By value, and by kind of compare-and-set: the number among the kinds of pending operations.
    pending_writes: Vec<u32>,
    pending_sets: Vec<u32>,
    /// By kind of pending operation.
    pub(super) pending: Vec<Kind>,
}

impl Plan {
    pub(super) fn new(ops: &[Op]) -> Result<Self, &'static str> {
        let spans = ops.iter().map(|op| {
            let counts = op.completion.is_some() || may_matter(&op.action);
            counts.then_some((op.call, op.completion))
        });
        let timeline = Timeline::new(spans)?;
        let mut values: FxHashMap<u32, u32> = FxHashMap::default();
        values.insert(NIL, 0);
        let mut number = |id: u32| {
            let next = values.len() as u32;
            *values.entry(id).or_insert(next)
        };
        let mut set_numbers: FxHashMap<(u32, u32), u32> = FxHashMap::default();
        let mut sets = Vec::new();
        let mut kinds = Vec::with_capacity(ops.len());
        for op in ops {
            kinds.push(match op.action {
                Action::Read(value) => Kind::Read(number(value)),
                Action::CasRefused(value) => Kind::Refused(number(value)),
                Action::Write(value) => Kind::Write(number(value)),
                Action::Cas(old, new) if old == new => Kind::Read(number(old)),
                Action::Cas(old, new) => {
                    let pair = (number(old), number(new));
                    let set = *set_numbers.entry(pair).or_insert_with(|| {
                        sets.push(pair);
                        sets.len() as u32 - 1
                    });
                    Kind::Cas(set)
                }
                _ => return Err("an operation does not belong to the model"),
            });
        }
        let values = values.len();
        let mut pending_writes = Vec::new();
        let mut pending_sets = Vec::new();
        let mut pending = Vec::new();
        for (op, kind) in ops.iter().zip(&kinds) {
            if op.completion.is_some() {
                continue;
            }
            let (list, at, len) = match kind {
                Kind::Write(value) => (&mut pending_writes, *value, values),
                Kind::Cas(set) => (&mut pending_sets, *set, sets.len()),
                _ => continue,
            };
            list.resize(len, NO_PENDING);
            if list[at as usize] == NO_PENDING {
                list[at as usize] = pending.len() as u32;
                pending.push(*kind);
            }
        }
        Ok(Self {
            timeline,
            kinds,
            values,
            sets,
            pending_writes,
            pending_sets,
            pending,
        })
    }

    /// How many kinds of pending operations there are.
    pub(super) fn pending_kinds(&self) -> usize {
        self.pending.len()
    }

    /// Which kind of pending operation this is, if there are any.
    #[inline]
    pub(super) fn pending_kind(&self, kind: Kind) -> Option<usize> {
        let number = match kind {
            Kind::Write(value) => self.pending_writes.get(value as usize),
            Kind::Cas(set) => self.pending_sets.get(set as usize),
            Kind::Read(_) | Kind::Refused(_) => None,
        };
        number.filter(|n| **n != NO_PENDING).map(|n| *n as usize)
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        let own = 8 * (self.kinds.len() + self.sets.len())
            + 4 * (self.pending_writes.len() + self.pending_sets.len());
        self.timeline.bytes() + own as u64
    }
}
