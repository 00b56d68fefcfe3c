//! From a history to what the search looks at.

use rustc_hash::{FxHashMap, FxHashSet};

use super::search::{Change, Kind, Op, Problem, Step};
use crate::observe::{self, Family, KeyView};
use crate::{F, Operation, Outcome, Process, Value};

/// A problem, and what it was made from.
pub(super) struct Encoded {
    pub(super) problem: Problem,
    /// By operation of the problem: its position among the operations of the history.
    pub(super) sources: Vec<usize>,
    /// Whether some operation looks at several keys.
    pub(super) several: bool,
    /// Whether all keys are registers or lists, as far as can be told.
    pub(super) plain: bool,
    /// Why not everything could be judged.
    pub(super) reasons: Vec<String>,
    /// Acknowledged reads.
    pub(super) judged: u64,
}

/// What an operation does, before operations are put together.
struct Steps<'a> {
    of: Vec<(usize, Step)>,
    values: FxHashMap<(u32, &'a Value), u32>,
    problem: Problem,
    siblings: u64,
    judged: u64,
}

/// # Errors
///
/// The reason of the verdict `unknown`.
pub(super) fn encode(operations: &[Operation<'_>]) -> Result<Encoded, String> {
    let mut steps = Steps {
        of: Vec::new(),
        values: FxHashMap::default(),
        problem: Problem::default(),
        siblings: 0,
        judged: 0,
    };
    let keys = observe::by_key(operations);
    let counters = keys.values().any(|view| view.family == Family::Counter);
    let mut plain = true;
    for (name, mut view) in keys {
        if counters && view.family == Family::ReadOnly {
            // A counter that was never changed reads as 0.
            view.family = Family::Counter;
        }
        plain &= !matches!(view.family, Family::Counter | Family::Set);
        steps
            .key(operations, &view)
            .map_err(|reason| format!("{reason} at {}", observe::key_name(name)))?;
    }
    let Steps {
        mut of,
        mut problem,
        siblings,
        judged,
        ..
    } = steps;
    of.sort_by_key(|(op, _)| *op);
    let sessions = sessions(operations);
    let mut sources = Vec::new();
    let mut several = false;
    let mut ops: Vec<Op> = Vec::new();
    for (source, step) in of {
        if sources.last() == Some(&source)
            && let Some(op) = ops.last_mut()
        {
            several = true;
            op.steps.push(step);
            continue;
        }
        let op = &operations[source];
        let ended = op.completed_position.unwrap_or(usize::MAX);
        sources.push(source);
        ops.push(Op {
            session: sessions[source],
            steps: vec![step],
            optional: op.outcome == Outcome::Info,
            ended: ended as u64,
        });
    }
    problem.ops = ops;
    let reasons = (siblings > 0).then(|| format!("siblings: in {siblings} reads"));
    Ok(Encoded {
        problem,
        sources,
        several,
        plain,
        reasons: reasons.into_iter().collect(),
        judged,
    })
}

/// The session of each operation: its process, up to an operation of unknown outcome.
fn sessions<'a>(operations: &[Operation<'a>]) -> Vec<u32> {
    let mut current: FxHashMap<&'a Process, u32> = FxHashMap::default();
    let mut next = 0;
    let session = |op: &Operation<'a>| {
        let session = *current.entry(op.process()).or_insert_with(|| {
            next += 1;
            next - 1
        });
        if op.outcome == Outcome::Info {
            current.remove(op.process());
        }
        session
    };
    operations.iter().map(session).collect()
}

impl<'a> Steps<'a> {
    fn value(&mut self, key: u32, value: &'a Value) -> u32 {
        if value.is_nil() {
            return 0;
        }
        let next = self.values.len() as u32 + 1;
        *self.values.entry((key, value)).or_insert(next)
    }

    fn key(
        &mut self,
        operations: &[Operation<'a>],
        view: &KeyView<'a>,
    ) -> Result<(), &'static str> {
        let kind = match view.family {
            Family::Register | Family::ReadOnly => Kind::Register,
            Family::List => Kind::List,
            Family::Set => Kind::Set,
            Family::Counter => Kind::Counter,
            Family::Text | Family::Map | Family::Lock | Family::Mixed => {
                return Err("not-modelled");
            }
        };
        let decrements = |&op: &usize| operations[op].argument().as_int().is_none_or(|by| by < 0);
        let returns =
            !view.removes.is_empty() || kind == Kind::Counter && view.writes.iter().any(decrements);
        let key = self.problem.key(kind, returns);
        let changes = view.writes.iter().chain(&view.removes);
        let mut changes: Vec<usize> = changes
            .copied()
            .filter(|&op| observe::possible(&operations[op]))
            .collect();
        changes.sort_unstable();
        let written: FxHashSet<&Value> = changes
            .iter()
            .filter_map(|&op| observe::written(&operations[op]))
            .collect();
        // What somebody saw, or needs: a pending write of anything else can be left out, since an
        // order with it is one without it.
        let mut seen: FxHashSet<&Value> = FxHashSet::default();
        for view_read in &view.reads {
            let value = view_read.value;
            let state = match kind {
                Kind::Register => {
                    let blank = observe::is_blank(value) && !written.contains(value);
                    match observe::siblings(value, |v| written.contains(v)) {
                        _ if blank => self.problem.value(key, 0),
                        [] => self.problem.value(key, 0),
                        [one] => {
                            seen.insert(one);
                            let value = self.value(key, one);
                            self.problem.value(key, value)
                        }
                        [_, _, ..] => {
                            self.siblings += 1;
                            continue;
                        }
                    }
                }
                Kind::List | Kind::Set => {
                    let items = observe::elements(value).ok_or("unreadable-read")?;
                    seen.extend(items);
                    let items: Vec<u32> = items.iter().map(|v| self.value(key, v)).collect();
                    if kind == Kind::List {
                        self.problem.list(key, &items)
                    } else {
                        self.problem.set(key, items)
                    }
                }
                Kind::Counter => {
                    let sum = match value {
                        Value::Nil => 0,
                        value => value.as_int().ok_or("unreadable-read")?,
                    };
                    self.problem.sum(key, sum)
                }
            };
            let step = Step::Read { key, state };
            self.judged += 1;
            self.of.push((view_read.op, step));
        }
        for &op in &changes {
            if operations[op].f() == &F::Cas {
                let (old, _) = observe::pair(operations[op].argument()).ok_or("malformed-cas")?;
                seen.insert(old);
            }
        }
        for op in changes {
            let operation = &operations[op];
            let pending = operation.outcome == Outcome::Info;
            if pending && observe::written(operation).is_some_and(|v| !seen.contains(v)) {
                continue;
            }
            let change = self.change(operation, key, view.family)?;
            self.of.push((op, Step::Change { key, change }));
        }
        Ok(())
    }

    fn change(
        &mut self,
        op: &Operation<'a>,
        key: u32,
        family: Family,
    ) -> Result<Change, &'static str> {
        let argument = op.argument();
        Ok(match (family, op.f()) {
            (Family::Register, F::Write) => Change::Write(self.value(key, argument)),
            (Family::Register, F::Cas) => {
                let (old, new) = observe::pair(argument).ok_or("malformed-cas")?;
                Change::Cas(self.value(key, old), self.value(key, new))
            }
            (Family::Register, F::Remove) if argument.is_nil() => Change::Write(0),
            (Family::List, F::Append) => Change::Append(self.value(key, argument)),
            (Family::Set, F::Add) => Change::Add(self.value(key, argument)),
            (Family::Set, F::Remove) if !argument.is_nil() => {
                Change::Remove(self.value(key, argument))
            }
            (Family::Counter, F::Increment) => {
                Change::Increment(argument.as_int().ok_or("malformed-increment")?)
            }
            _ => return Err("not-modelled"),
        })
    }
}
