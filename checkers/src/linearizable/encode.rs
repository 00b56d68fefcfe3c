//! From the operations on one key to what an engine decides on.

use rustc_hash::{FxHashMap, FxHashSet};

use super::engine::{Action, Id, Model, NIL, Op, Taken};
use super::families::Named;
use crate::observe::{self, KeyView};
use crate::{F, Operation, Outcome, Process, Value};

/// The operations on one key, ready for an engine.
pub(super) struct Problem {
    pub(super) model: Model,
    pub(super) ops: Vec<Op>,
    /// For each of `ops`, its position among the operations of the history.
    pub(super) sources: Vec<usize>,
    /// Whether a read showed several concurrent values of a register. Such reads are left out:
    /// what is not linearizable without them is not with them, but not the other way round.
    pub(super) siblings: bool,
}

/// Numbers the values of one key, and the owners of a lock.
#[derive(Default)]
struct Ids<'a> {
    ids: FxHashMap<&'a Value, Id>,
    owners: FxHashMap<(Option<&'a Value>, Option<&'a Process>), Id>,
}

impl<'a> Ids<'a> {
    fn of(&mut self, value: &'a Value) -> Id {
        if value.is_nil() {
            return NIL;
        }
        let next = self.ids.len() as Id + 1;
        *self.ids.entry(value).or_insert(next)
    }

    /// In the order of the values, which is theirs in a priority queue.
    fn in_order(values: impl Iterator<Item = &'a Value>) -> Self {
        let mut values: Vec<&'a Value> = values.filter(|value| !value.is_nil()).collect();
        values.sort_unstable();
        values.dedup();
        let mut ids = Self::default();
        for value in values {
            ids.of(value);
        }
        ids
    }

    /// Who holds a lock: the value of the operation, or the process if it has none.
    fn owner(&mut self, op: &Operation<'a>) -> Id {
        let owner = match op.argument() {
            Value::Nil => (None, Some(op.process())),
            name => (Some(name), None),
        };
        let next = self.owners.len() as Id + 1;
        *self.owners.entry(owner).or_insert(next)
    }
}

/// Whether a key is a text: something was appended to it, and a read returned a text.
pub(super) fn is_text(operations: &[Operation<'_>], view: &KeyView<'_>) -> bool {
    view.writes.iter().any(|&w| operations[w].f() == &F::Append)
        && view.reads.iter().any(|r| matches!(r.value, Value::Str(_)))
}

/// Encodes what constrains the order: like [`encode_all`], but without the pending writes that
/// nobody can have seen (see [`prune`]).
pub(super) fn encode<'a>(
    operations: &[Operation<'a>],
    view: &KeyView<'a>,
    model: Model,
    refused_cas: bool,
) -> Result<Problem, &'static str> {
    let mut problem = encode_all(operations, view, model, refused_cas)?;
    prune(&mut problem);
    Ok(problem)
}

/// Encodes all operations but those that failed (save for `refused_cas`) and reads without result.
///
/// `refused_cas`: a failed compare-and-set says that the register did not hold the expected value.
pub(super) fn encode_all<'a>(
    operations: &[Operation<'a>],
    view: &KeyView<'a>,
    model: Model,
    refused_cas: bool,
) -> Result<Problem, &'static str> {
    let mut ids = match model {
        Model::PriorityQueue => {
            let ops = view.writes.iter().map(|&w| &operations[w]);
            Ids::in_order(
                ops.flat_map(|op| [Some(op.argument()), op.result()])
                    .flatten(),
            )
        }
        _ => Ids::default(),
    };
    let mut problem = Problem {
        model,
        ops: Vec::with_capacity(view.writes.len() + view.reads.len()),
        sources: Vec::with_capacity(view.writes.len() + view.reads.len()),
        siblings: false,
    };
    let written: FxHashSet<&Value> = match model {
        Model::Register => view
            .writes
            .iter()
            .filter_map(|&w| observe::written(&operations[w]))
            .collect(),
        Model::Map => {
            let puts = view
                .writes
                .iter()
                .filter_map(|&w| observe::written(&operations[w]));
            puts.filter_map(|put| Some(observe::pair(put)?.1)).collect()
        }
        _ => FxHashSet::default(),
    };
    let mut reads = view.reads.iter().peekable();
    let mut writes = view.writes.iter().copied().peekable();
    loop {
        let read_next = match (reads.peek(), writes.peek()) {
            (None, None) => break,
            (Some(read), Some(&write)) => read.op < write,
            (read, _) => read.is_some(),
        };
        let (source, action) = if read_next {
            let Some(read) = reads.next() else { break };
            let value = if initial(operations, view, read.value) {
                &Value::Nil
            } else {
                read.value
            };
            let value = match (model, observe::siblings(value, |v| written.contains(v))) {
                (Model::Register, [one]) => one,
                (Model::Map, _) => {
                    problem.ops.push(Op {
                        call: operations[read.op].invoked_position as u64,
                        completion: operations[read.op].completed_position.map(|p| p as u64),
                        action: shown_map(value, &written, &mut ids)?,
                    });
                    problem.sources.push(read.op);
                    continue;
                }
                (Model::Register, [_, _, ..]) => {
                    problem.siblings = true;
                    continue;
                }
                _ => value,
            };
            (read.op, Some(shown(model, value, &mut ids)?))
        } else {
            let Some(write) = writes.next() else { break };
            let op = &operations[write];
            (write, change(model, op, refused_cas, &mut ids)?)
        };
        let Some(action) = action else { continue };
        let op = &operations[source];
        problem.ops.push(Op {
            call: op.invoked_position as u64,
            completion: op.completed_position.map(|p| p as u64),
            action,
        });
        problem.sources.push(source);
    }
    Ok(problem)
}

/// Whether a read shows what a key holds that was never written.
fn initial(operations: &[Operation<'_>], view: &KeyView<'_>, value: &Value) -> bool {
    let wrote = |&w: &usize| {
        let op = &operations[w];
        observe::possible(op) && observe::written(op) == Some(value)
    };
    observe::is_blank(value) && (value.is_nil() || !view.writes.iter().any(wrote))
}

fn shown<'a>(model: Model, value: &'a Value, ids: &mut Ids<'a>) -> Result<Action, &'static str> {
    const UNREADABLE: &str = "unreadable-read";
    Ok(match model {
        Model::Register => Action::Read(ids.of(value)),
        Model::List => {
            let items = observe::elements(value).ok_or(UNREADABLE)?;
            Action::ReadList(items.iter().map(|v| ids.of(v)).collect())
        }
        Model::Set => {
            let items = observe::elements(value).ok_or(UNREADABLE)?;
            let mut items: Vec<Id> = items.iter().map(|v| ids.of(v)).collect();
            items.sort_unstable();
            items.dedup();
            Action::ReadSet(items.into())
        }
        Model::Text => match value {
            Value::Nil => Action::Get("".into()),
            Value::Str(text) => Action::Get(text.into()),
            _ => return Err(UNREADABLE),
        },
        Model::Counter => match value {
            Value::Nil => Action::ReadCounter(0),
            value => Action::ReadCounter(value.as_int().ok_or(UNREADABLE)?),
        },
        _ => return Err(UNREADABLE),
    })
}

fn shown_map<'a>(
    value: &'a Value,
    written: &FxHashSet<&Value>,
    ids: &mut Ids<'a>,
) -> Result<Action, &'static str> {
    let mut fields = Vec::new();
    for (field, value) in observe::fields(value).ok_or("unreadable-read")? {
        let value = match observe::siblings(value, |v| written.contains(v)) {
            [_, _, ..] => return Err("siblings"),
            [one] => one,
            [] => value,
        };
        fields.push((ids.of(field), ids.of(value)));
    }
    fields.sort_unstable();
    if fields.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err("unreadable-read");
    }
    Ok(Action::ReadMap(fields.into()))
}

fn change<'a>(
    model: Model,
    op: &Operation<'a>,
    refused_cas: bool,
    ids: &mut Ids<'a>,
) -> Result<Option<Action>, &'static str> {
    const MISFIT: &str = "function-outside-the-model";
    let argument = op.argument();
    let pair = || match argument.items() {
        Some([old, new]) => Ok((old, new)),
        _ => Err("malformed-cas"),
    };
    if op.outcome == Outcome::Fail {
        return match (model, op.f()) {
            (Model::Register, F::Cas) if refused_cas => {
                Ok(Some(Action::CasRefused(ids.of(pair()?.0))))
            }
            _ => Ok(None),
        };
    }
    let text = || match argument {
        Value::Str(text) => Ok(text.into()),
        _ => Err(MISFIT),
    };
    Ok(Some(match (model, op.f()) {
        (Model::Register, F::Write) => Action::Write(ids.of(argument)),
        (Model::Register, F::Cas) => {
            let (old, new) = pair()?;
            Action::Cas(ids.of(old), ids.of(new))
        }
        (Model::List, F::Append) => Action::Append(ids.of(argument)),
        (Model::Set, F::Add) => Action::Add(ids.of(argument)),
        (Model::Text, F::Write) => Action::Put(text()?),
        (Model::Text, F::Append) => Action::AppendText(text()?),
        (Model::Set, F::Remove) if !argument.is_nil() => Action::Remove(ids.of(argument)),
        (Model::Map, F::Put) => {
            let (field, value) = observe::pair(argument).ok_or("malformed-put")?;
            Action::PutField(ids.of(field), ids.of(value))
        }
        (Model::Map, F::Remove) if !argument.is_nil() => Action::RemoveField(ids.of(argument)),
        (Model::Counter, F::Increment) => {
            Action::Increment(argument.as_int().ok_or("malformed-increment")?)
        }
        (Model::FencedLock, F::Acquire) => {
            let fence = match op.result() {
                Some(result) => Some(result.as_int().ok_or("malformed-fence")?),
                None => None,
            };
            Action::AcquireFenced(ids.owner(op), fence)
        }
        (Model::Lock | Model::Semaphore(_), F::Acquire) => Action::Acquire(ids.owner(op)),
        (Model::Lock | Model::Semaphore(_) | Model::FencedLock, F::Release) => {
            Action::Release(ids.owner(op))
        }
        (_, f) => match (model, Named::of(f)) {
            (Model::Queue | Model::PriorityQueue, Some(Named::Enqueue))
            | (Model::Stack | Model::PriorityQueue, Some(Named::Push)) => {
                Action::Enqueue(ids.of(argument))
            }
            (Model::Queue | Model::PriorityQueue, Some(Named::Dequeue))
            | (Model::Stack | Model::PriorityQueue, Some(Named::Pop)) => {
                Action::Dequeue(match op.result() {
                    None => Taken::Unknown,
                    Some(Value::Nil) => Taken::Empty,
                    Some(value) => Taken::Value(ids.of(value)),
                })
            }
            (Model::Set, Some(Named::Contains)) => match op.result() {
                Some(Value::Bool(held)) => Action::Contains(ids.of(argument), *held),
                Some(_) => return Err("unreadable-read"),
                None => return Ok(None),
            },
            _ => return Err(MISFIT),
        },
    }))
}

/// Leaves out pending writes whose effect nobody can have seen. Each of them doubles what the
/// search may have to try, and none changes the answer:
///
/// * With one that took effect in the middle of an order, nothing between it and the next write
///   depended on its value, so that the order without it is one, too. A pending compare-and-set
///   that this lets succeed can go to the end instead: nothing bounds when it takes effect.
/// * Conversely, it can be put at the end of any order without it.
///
/// A register's value is depended on by a read that returned it and by a compare-and-set that
/// expects it; with refused ones in the history any value is. An element is depended on by every
/// read that shows it. Other models are left alone.
fn prune(problem: &mut Problem) {
    let needed_by = |action: &Action| -> Vec<Id> {
        match action {
            Action::Read(value) => vec![*value],
            Action::Cas(old, _) => vec![*old],
            Action::ReadList(items) | Action::ReadSet(items) => items.to_vec(),
            _ => Vec::new(),
        }
    };
    let prunable = |op: &Op| {
        matches!(
            op.action,
            Action::Read(_)
                | Action::Write(_)
                | Action::Cas(..)
                | Action::Append(_)
                | Action::ReadList(_)
                | Action::Add(_)
                | Action::ReadSet(_)
        )
    };
    if !problem.ops.iter().all(prunable) {
        return;
    }
    let mut needed = FxHashSet::default();
    let certain = problem.ops.iter().filter(|op| op.completion.is_some());
    needed.extend(certain.flat_map(|op| needed_by(&op.action)));
    let mut keep: Vec<bool> = problem
        .ops
        .iter()
        .map(|op| op.completion.is_some())
        .collect();
    loop {
        let mut grown = false;
        for (op, keep) in problem.ops.iter().zip(&mut keep) {
            let visible = left_by(&op.action).is_some_and(|value| needed.contains(&value));
            if !*keep && visible {
                *keep = true;
                grown = true;
                needed.extend(needed_by(&op.action));
            }
        }
        if !grown {
            break;
        }
    }
    let mut kept = keep.iter();
    problem.ops.retain(|_| *kept.next().unwrap_or(&true));
    let mut kept = keep.iter();
    problem.sources.retain(|_| *kept.next().unwrap_or(&true));
}

/// The value or element that an action leaves behind.
pub(super) fn left_by(action: &Action) -> Option<Id> {
    match action {
        Action::Write(value)
        | Action::Cas(_, value)
        | Action::Append(value)
        | Action::Add(value) => Some(*value),
        _ => None,
    }
}
