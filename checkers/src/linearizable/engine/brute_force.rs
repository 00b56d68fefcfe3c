//! Tries every order: the oracle that other engines are tested against.

use super::{Action, Decision, Engine, Id, Limits, Model, NIL, Op, belongs};

/// Tries every order of at most [`BruteForce::MAX_OPS`] operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct BruteForce;

impl BruteForce {
    /// The longest history it looks at: the orders grow with the factorial.
    pub const MAX_OPS: usize = 8;
}

/// The object, of whichever model, as plainly as possible.
#[derive(Clone)]
struct Object {
    register: Id,
    elements: Vec<Id>,
    text: String,
}

impl Engine for BruteForce {
    fn decide(&self, model: Model, ops: &[Op], _limits: &Limits) -> Decision {
        if ops.len() > Self::MAX_OPS {
            return Decision::Unknown(format!("{} ops are too many to try all orders", ops.len()));
        }
        if ops.iter().any(|op| !belongs(model, &op.action)) {
            return Decision::Unknown("an operation does not belong to the model".to_owned());
        }
        let start = Object {
            register: NIL,
            elements: Vec::new(),
            text: String::new(),
        };
        let mut left: Vec<&Op> = ops.iter().collect();
        if any_order(&start, &mut left) {
            Decision::Linearizable
        } else {
            Decision::NotLinearizable
        }
    }
}

/// Whether some order of the operations left explains them. Those that never completed may be
/// left over.
fn any_order(object: &Object, left: &mut Vec<&Op>) -> bool {
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
        if !apply(&mut next, op) {
            continue;
        }
        left.remove(i);
        let found = any_order(&next, left);
        left.insert(i, op);
        if found {
            return true;
        }
    }
    false
}

fn apply(object: &mut Object, op: &Op) -> bool {
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
        Action::Append(value) => {
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
    }
}
