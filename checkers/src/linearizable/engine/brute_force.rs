//! Tries every order: the oracle that other engines are tested against.

use std::collections::BTreeMap;

use super::{Action, Decision, Engine, Id, Limits, Model, NIL, Op, Taken, belongs};

/// Tries every order of at most [`BruteForce::MAX_OPS`] operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct BruteForce;

impl BruteForce {
    /// The longest history it looks at: the orders grow with the factorial.
    pub const MAX_OPS: usize = 8;
}

/// The object, of whichever model, as plainly as possible.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) register: Id,
    pub(super) elements: Vec<Id>,
    pub(super) text: String,
    pub(super) fields: BTreeMap<Id, Id>,
    pub(super) sum: i64,
    /// Owners, once a permit.
    pub(super) holders: Vec<Id>,
    pub(super) fence: i64,
}

impl Object {
    pub(super) fn new() -> Self {
        Self {
            register: NIL,
            elements: Vec::new(),
            text: String::new(),
            fields: BTreeMap::new(),
            sum: 0,
            holders: Vec::new(),
            fence: i64::MIN,
        }
    }
}

impl Engine for BruteForce {
    fn decide(&self, model: Model, ops: &[Op], _limits: &Limits) -> Decision {
        if ops.len() > Self::MAX_OPS {
            return Decision::unknown(format!("{} ops are too many to try all orders", ops.len()));
        }
        if ops.iter().any(|op| !belongs(model, &op.action)) {
            return Decision::unknown("an operation does not belong to the model");
        }
        let start = Object::new();
        let mut left: Vec<&Op> = ops.iter().collect();
        if any_order(model, &start, &mut left) {
            Decision::Linearizable
        } else {
            Decision::not_linearizable()
        }
    }
}

/// Whether some order of the operations left explains them. Those that never completed may be
/// left over.
fn any_order(model: Model, object: &Object, left: &mut Vec<&Op>) -> bool {
    if left.iter().all(|op| op.completion.is_none()) {
        return true;
    }
    for i in 0..left.len() {
        let op = left[i];
        let must_wait = left
            .iter()
            .any(|other| other.completion.is_some_and(|end| end < op.call));
        if must_wait {
            continue;
        }
        let mut next = object.clone();
        if !apply(model, &mut next, op) {
            continue;
        }
        left.remove(i);
        let found = any_order(model, &next, left);
        left.insert(i, op);
        if found {
            return true;
        }
    }
    false
}

pub(super) fn apply(model: Model, object: &mut Object, op: &Op) -> bool {
    match &op.action {
        Action::Read(value) => object.register == *value,
        Action::Write(value) => {
            object.register = *value;
            true
        }
        Action::Cas(old, new) => {
            let matches = object.register == *old;
            if matches {
                object.register = *new;
            }
            matches || op.completion.is_none()
        }
        Action::CasRefused(old) => object.register != *old,
        Action::Append(value) | Action::Enqueue(value) => {
            object.elements.push(*value);
            true
        }
        Action::Add(value) => {
            if !object.elements.contains(value) {
                object.elements.push(*value);
            }
            true
        }
        Action::ReadList(items) => object.elements == **items,
        Action::ReadSet(items) => {
            let mut held = object.elements.clone();
            held.sort_unstable();
            held == **items
        }
        Action::Put(text) => {
            object.text = text.to_string();
            true
        }
        Action::AppendText(text) => {
            object.text.push_str(text);
            true
        }
        Action::Get(text) => object.text == **text,
        Action::Remove(value) => {
            object.elements.retain(|held| held != value);
            true
        }
        Action::Contains(value, shown) => object.elements.contains(value) == *shown,
        Action::PutField(field, value) => {
            object.fields.insert(*field, *value);
            true
        }
        Action::RemoveField(field) => {
            object.fields.remove(field);
            true
        }
        Action::ReadMap(shown) => object
            .fields
            .iter()
            .map(|(f, v)| (*f, *v))
            .eq(shown.iter().copied()),
        Action::Dequeue(taken) => dequeue(model, object, *taken),
        Action::Increment(by) => {
            object.sum += by;
            true
        }
        Action::ReadCounter(shown) => object.sum == *shown,
        Action::Acquire(owner) => acquire(model, object, *owner),
        Action::AcquireFenced(owner, fence) => {
            // Of a pending one the smallest possible: it leaves the most room to those after it.
            let fence = fence.unwrap_or(object.fence.saturating_add(1));
            let greater = fence > object.fence;
            object.fence = fence;
            greater && acquire(model, object, *owner)
        }
        Action::Release(owner) => {
            let held = object.holders.iter().position(|holder| holder == owner);
            held.map(|at| object.holders.remove(at)).is_some()
        }
    }
}

/// The position of the element that comes out next.
pub(super) fn next_out(model: Model, object: &Object) -> Option<usize> {
    match model {
        Model::Queue => (!object.elements.is_empty()).then_some(0),
        Model::Stack => object.elements.len().checked_sub(1),
        _ => (0..object.elements.len()).min_by_key(|&i| object.elements[i]),
    }
}

fn dequeue(model: Model, object: &mut Object, taken: Taken) -> bool {
    let out = next_out(model, object).map(|at| object.elements.remove(at));
    match taken {
        Taken::Value(value) => out == Some(value),
        Taken::Empty => out.is_none(),
        Taken::Unknown => true,
    }
}

fn acquire(model: Model, object: &mut Object, owner: Id) -> bool {
    let permits = match model {
        Model::Semaphore(permits) => permits as usize,
        _ => 1,
    };
    object.holders.push(owner);
    object.holders.len() <= permits
}
