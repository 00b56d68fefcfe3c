//! A search with memory over all orders, for a dozen operations of any model of the monitors.

use rustc_hash::FxHashSet;

use super::super::super::{Action, Id, Model, Op, Taken};

pub(super) const OPS_MAX: usize = 20;

/// Whether some order explains the operations.
pub(super) fn has_order(model: Model, ops: &[Op]) -> bool {
    assert!(ops.len() <= OPS_MAX, "too many to search");
    let mut known = FxHashSet::default();
    let mut open: Vec<(u32, Vec<Id>)> = vec![(0, Vec::new())];
    while let Some((done, held)) = open.pop() {
        let left = || ops.iter().enumerate().filter(|(i, _)| done & (1 << i) == 0);
        if left().all(|(_, op)| op.completion.is_none()) {
            return true;
        }
        // A list never loses what it holds: no read left may miss it.
        let missed = |op: &Op| match &op.action {
            Action::ReadList(items) => op.completion.is_some() && !items.starts_with(&held),
            _ => false,
        };
        if left().any(|(_, op)| missed(op)) {
            continue;
        }
        let first_end = left()
            .filter_map(|(_, op)| op.completion)
            .min()
            .unwrap_or(u64::MAX);
        for (i, op) in left().filter(|(_, op)| op.call < first_end) {
            if let Some(next) = apply(model, &held, &op.action) {
                let state = (done | 1 << i, next);
                if known.insert(state.clone()) {
                    open.push(state);
                }
            }
        }
    }
    false
}

fn apply(model: Model, held: &[Id], action: &Action) -> Option<Vec<Id>> {
    let with = |e: &Id| {
        let mut next = held.to_vec();
        next.push(*e);
        if model != Model::List && model != Model::Queue && model != Model::Stack {
            next.sort_unstable();
        }
        next
    };
    let unchanged = |right: bool| right.then(|| held.to_vec());
    match action {
        Action::Add(e) if held.contains(e) => unchanged(true),
        Action::Append(e) | Action::Enqueue(e) | Action::Add(e) => Some(with(e)),
        Action::Remove(e) => Some(held.iter().copied().filter(|other| other != e).collect()),
        Action::Contains(e, shown) => unchanged(held.contains(e) == *shown),
        Action::ReadList(items) | Action::ReadSet(items) => unchanged(held == &items[..]),
        Action::Dequeue(taken) => {
            let at = match model {
                Model::Stack => held.len().checked_sub(1),
                _ => (!held.is_empty()).then_some(0),
            };
            let out = at.map(|at| held[at]);
            let right = match taken {
                Taken::Value(value) => out == Some(*value),
                Taken::Empty => out.is_none(),
                Taken::Unknown => true,
            };
            let stays = held.iter().copied().filter(|e| Some(*e) != out);
            right.then(|| stays.collect())
        }
        _ => None,
    }
}
