//! Queues, stacks and priority queues.

use super::super::{Action, Id, Taken};
use super::Specification;
use super::trie::{BYTES_A_CHANGE, Trie};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    In(Id),
    Out(Taken),
    Never,
}

pub(super) fn op(action: &Action) -> Op {
    match action {
        Action::Enqueue(value) => Op::In(*value),
        Action::Dequeue(taken) => Op::Out(*taken),
        _ => Op::Never,
    }
}

/// Whether what came out (nothing if it was empty) is what was returned.
fn fits(out: Option<Id>, taken: Taken) -> bool {
    match taken {
        Taken::Value(value) => out == Some(value),
        Taken::Empty => out.is_none(),
        Taken::Unknown => true,
    }
}

/// Finding it empty changes nothing.
fn finds_empty(op: &Op) -> bool {
    matches!(op, Op::Out(Taken::Empty))
}

pub(super) struct Queue;

impl Specification for Queue {
    /// Elements by the order in which they came, and how many came and went. When it is empty the
    /// count starts again.
    type State = (Trie, u32, u32);
    type Op = Op;

    fn initial(&self) -> Self::State {
        (Trie::default(), 0, 0)
    }

    fn step(&self, (held, went, came): &Self::State, op: &Op) -> Option<Self::State> {
        match op {
            Op::In(value) => Some((held.with(*came, Some(*value)), *went, came + 1)),
            Op::Out(taken) => {
                let out = held.get(*went);
                if !fits(out, *taken) {
                    return None;
                }
                Some(match out {
                    None => (held.clone(), *went, *came),
                    Some(_) if went + 1 == *came => self.initial(),
                    Some(_) => (held.with(*went, None), went + 1, *came),
                })
            }
            Op::Never => None,
        }
    }

    fn is_read_only(&self, op: &Op) -> bool {
        finds_empty(op)
    }

    fn bytes(&self, _state: &Self::State) -> usize {
        BYTES_A_CHANGE
    }
}

pub(super) struct Stack;

impl Specification for Stack {
    /// Elements by their place from the bottom.
    type State = Trie;
    type Op = Op;

    fn initial(&self) -> Trie {
        Trie::default()
    }

    fn step(&self, held: &Trie, op: &Op) -> Option<Trie> {
        match op {
            Op::In(value) => Some(held.with(held.len, Some(*value))),
            Op::Out(taken) => {
                let top = held.len.checked_sub(1);
                let out = top.and_then(|top| held.get(top));
                fits(out, *taken).then(|| top.map_or(held.clone(), |top| held.with(top, None)))
            }
            Op::Never => None,
        }
    }

    fn is_read_only(&self, op: &Op) -> bool {
        finds_empty(op)
    }

    fn bytes(&self, _state: &Trie) -> usize {
        BYTES_A_CHANGE
    }
}

pub(super) struct PriorityQueue;

impl Specification for PriorityQueue {
    /// By value: how often it is held.
    type State = Trie;
    type Op = Op;

    fn initial(&self) -> Trie {
        Trie::default()
    }

    fn step(&self, held: &Trie, op: &Op) -> Option<Trie> {
        match op {
            Op::In(value) => {
                let count = held.get(*value).unwrap_or(0);
                Some(held.with(*value, Some(count.checked_add(1)?)))
            }
            Op::Out(taken) => {
                let out = held.first();
                if !fits(out, *taken) {
                    return None;
                }
                let Some(out) = out else {
                    return Some(held.clone());
                };
                let left = held.get(out).unwrap_or(1) - 1;
                Some(held.with(out, (left > 0).then_some(left)))
            }
            Op::Never => None,
        }
    }

    fn is_read_only(&self, op: &Op) -> bool {
        finds_empty(op)
    }

    fn commute(&self, a: &Op, b: &Op) -> bool {
        matches!((a, b), (Op::In(_), Op::In(_)))
    }

    fn bytes(&self, _state: &Trie) -> usize {
        BYTES_A_CHANGE
    }
}
