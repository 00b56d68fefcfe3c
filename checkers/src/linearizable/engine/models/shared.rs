//! Sets and maps.

use super::super::{Action, Id};
use super::Specification;
use super::trie::{BYTES_A_CHANGE, Trie};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Put(Id, Id),
    Remove(Id),
    Contains(Id, bool),
    Read(Trie),
    Never,
}

pub(super) fn op(action: &Action) -> Op {
    let read = |fields: &mut dyn Iterator<Item = (Id, Id)>| {
        Op::Read(fields.fold(Trie::default(), |t, (field, value)| {
            t.with(field, Some(value))
        }))
    };
    match action {
        Action::Add(element) => Op::Put(*element, 0),
        Action::PutField(field, value) => Op::Put(*field, *value),
        Action::Remove(element) | Action::RemoveField(element) => Op::Remove(*element),
        Action::Contains(element, held) => Op::Contains(*element, *held),
        Action::ReadSet(items) => read(&mut items.iter().map(|e| (*e, 0))),
        Action::ReadMap(fields) => read(&mut fields.iter().copied()),
        _ => Op::Never,
    }
}

fn step(state: &Trie, op: &Op) -> Option<Trie> {
    match op {
        Op::Put(field, value) => Some(state.with(*field, Some(*value))),
        Op::Remove(field) => Some(state.with(*field, None)),
        Op::Contains(field, held) => (state.get(*field).is_some() == *held).then(|| state.clone()),
        Op::Read(shown) => (state == shown).then(|| state.clone()),
        Op::Never => None,
    }
}

fn is_read_only(op: &Op) -> bool {
    matches!(op, Op::Contains(..) | Op::Read(_))
}

fn commute(one: &Op, other: &Op) -> bool {
    match (one, other) {
        (Op::Put(field, value), Op::Put(also, to)) => field != also || value == to,
        (Op::Remove(_), Op::Remove(_)) => true,
        (
            Op::Put(field, _) | Op::Remove(field),
            Op::Put(also, _) | Op::Remove(also) | Op::Contains(also, _),
        )
        | (Op::Contains(field, _), Op::Put(also, _) | Op::Remove(also)) => field != also,
        _ => is_read_only(one) && is_read_only(other),
    }
}

pub(super) struct Set {
    /// Whether elements are ever taken out.
    pub(super) removes: bool,
}

impl Specification for Set {
    type State = Trie;
    type Op = Op;

    fn initial(&self) -> Trie {
        Trie::default()
    }

    fn step(&self, state: &Trie, op: &Op) -> Option<Trie> {
        step(state, op)
    }

    fn is_read_only(&self, op: &Op) -> bool {
        is_read_only(op)
    }

    fn commute(&self, a: &Op, b: &Op) -> bool {
        commute(a, b)
    }

    fn rules_out(&self, _state: &Trie, op: &Op, target: &Op) -> bool {
        match (op, target) {
            (Op::Put(element, _), Op::Read(shown)) => {
                !self.removes && shown.get(*element).is_none()
            }
            _ => false,
        }
    }

    fn bytes(&self, _state: &Trie) -> usize {
        BYTES_A_CHANGE
    }
}

pub(super) struct Map;

impl Specification for Map {
    type State = Trie;
    type Op = Op;

    fn initial(&self) -> Trie {
        Trie::default()
    }

    fn step(&self, state: &Trie, op: &Op) -> Option<Trie> {
        step(state, op)
    }

    fn is_read_only(&self, op: &Op) -> bool {
        is_read_only(op)
    }

    fn commute(&self, a: &Op, b: &Op) -> bool {
        commute(a, b)
    }

    fn bytes(&self, _state: &Trie) -> usize {
        BYTES_A_CHANGE
    }
}
