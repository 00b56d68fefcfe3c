//! Which model fits a key.
//!
//! Beyond what [`observe`] knows: queues and stacks, by the names of their functions.

use std::collections::BTreeMap;

use super::engine::Model;
use crate::observe::{self, Family, KeyView};
use crate::{F, History, Operation, Value};

/// What a function of another name does here, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Enqueue,
    Dequeue,
    Push,
    Pop,
    Contains,
}

impl Named {
    pub(super) fn of(f: &F) -> Option<Self> {
        match f {
            F::Other(name) => Some(match &**name {
                "enqueue" => Self::Enqueue,
                "dequeue" => Self::Dequeue,
                "push" => Self::Push,
                "pop" => Self::Pop,
                "contains" => Self::Contains,
                _ => return None,
            }),
            _ => None,
        }
    }
}

/// The operations of a history, if all that may have taken effect can be held against a model. The
/// error is the reason of the verdict `unknown`.
pub(super) fn known_operations(history: &History) -> Result<Vec<Operation<'_>>, String> {
    let operations = history
        .operations()
        .map_err(|e| format!("malformed-history: {e}"))?;
    let known = |f: &F| match f {
        F::Insert | F::Generate => false,
        F::Other(_) => Named::of(f).is_some(),
        _ => true,
    };
    for op in &operations {
        if !known(op.f()) && observe::possible(op) {
            let (name, index) = (op.f().name(), op.invoke.index);
            return Err(format!("unknown-function: `{name}` at event {index}"));
        }
    }
    Ok(operations)
}

/// The operations by key. What goes by another name counts among the writes.
pub(super) fn by_key<'a>(operations: &[Operation<'a>]) -> BTreeMap<Option<&'a Value>, KeyView<'a>> {
    let mut keys = observe::by_key(operations);
    let mut sort = false;
    for (i, op) in operations.iter().enumerate() {
        if Named::of(op.f()).is_some() {
            let empty = || KeyView {
                family: Family::ReadOnly,
                writes: Vec::new(),
                removes: Vec::new(),
                reads: Vec::new(),
            };
            keys.entry(op.key()).or_insert_with(empty).writes.push(i);
            sort = true;
        }
    }
    for view in keys.values_mut() {
        if sort || !view.removes.is_empty() {
            view.writes.append(&mut view.removes);
            view.writes.sort_unstable();
        }
    }
    keys
}

/// The model that fits a key, if one does. `text`: the history is one of texts.
pub(super) fn model_of(
    operations: &[Operation<'_>],
    view: &KeyView<'_>,
    text: bool,
) -> Option<Model> {
    let mut named = None;
    let mut taken = false;
    for &w in &view.writes {
        let f = operations[w].f();
        taken |= f == &F::Remove;
        let model = match Named::of(f) {
            None => continue,
            Some(Named::Enqueue | Named::Dequeue) => Model::Queue,
            Some(Named::Push | Named::Pop) => Model::Stack,
            Some(Named::Contains) => Model::Set,
        };
        if *named.get_or_insert(model) != model {
            return None;
        }
    }
    match (named, view.family) {
        (Some(Model::Set), Family::Set | Family::ReadOnly) | (None, Family::Set) => {
            Some(Model::Set)
        }
        (Some(model), Family::ReadOnly) if model != Model::Set && view.reads.is_empty() => {
            (!taken).then_some(model)
        }
        (None, Family::Map) => Some(Model::Map),
        (None, _) if taken => None,
        (None, _) if text => Some(Model::Text),
        (None, Family::Register | Family::ReadOnly) => Some(Model::Register),
        (None, Family::List) => Some(Model::List),
        (None, Family::Counter) => Some(Model::Counter),
        (None, Family::Lock) => Some(Model::Lock),
        (Some(_), _) | (None, Family::Text | Family::Mixed) => None,
    }
}
