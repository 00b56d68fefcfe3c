//! Histories of a real object, and small changes to them.

use rand::Rng;
use rand::rngs::SmallRng;

use super::super::super::{Action, Id, Model, Op, Taken};

pub(super) const MODELS: [Model; 5] = [
    Model::List,
    Model::Set,
    Model::Queue,
    Model::Stack,
    Model::PriorityQueue,
];

/// What histories look like.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) ops: (usize, usize),
    pub(super) clients: usize,
    /// Shares: of operations that are never answered, and of those that put something in.
    pub(super) unanswered: f64,
    pub(super) puts: f64,
    /// How many changes are made at most.
    pub(super) changes: usize,
}

const fn shape(
    ops: (usize, usize),
    clients: usize,
    unanswered: f64,
    puts: f64,
    changes: usize,
) -> Shape {
    Shape {
        ops,
        clients,
        unanswered,
        puts,
        changes,
    }
}

impl Shape {
    pub(super) const SMALL: [Self; 4] = [
        shape((4, 8), 3, 0.0, 0.5, 3),
        shape((5, 8), 4, 0.15, 0.5, 4),
        shape((7, 8), 4, 0.3, 0.6, 6),
        shape((6, 8), 6, 0.1, 0.5, 5),
    ];
    pub(super) const MEDIUM: [Self; 3] = [
        shape((10, 14), 3, 0.1, 0.5, 3),
        shape((10, 13), 5, 0.1, 0.5, 4),
        shape((10, 14), 4, 0.25, 0.6, 5),
    ];
    pub(super) const LONG: Self = shape((100, 200), 4, 0.02, 0.5, 2);
}

struct Client {
    op: usize,
    done: bool,
    never_answered: bool,
}

pub(super) fn history(rng: &mut SmallRng, model: Model, shape: &Shape) -> Vec<Op> {
    let mut ops = run(rng, model, shape);
    for _ in 0..rng.random_range(0..=shape.changes) {
        let before = ops.clone();
        for _ in 0..10 {
            change(rng, model, &mut ops);
            let same = |a: &Op, b: &Op| {
                (a.call, a.completion, &a.action) == (b.call, b.completion, &b.action)
            };
            if !ops.iter().zip(&before).all(|(a, b)| same(a, b)) {
                break;
            }
        }
    }
    ops
}

/// Runs clients against an object.
fn run(rng: &mut SmallRng, model: Model, shape: &Shape) -> Vec<Op> {
    let count = rng.random_range(shape.ops.0..=shape.ops.1);
    let mut ops: Vec<Op> = Vec::new();
    let mut held: Vec<Id> = Vec::new();
    let mut clients: Vec<Option<Client>> = (0..shape.clients).map(|_| None).collect();
    // Of a set: whether it is read as a whole, and how many elements there are.
    let whole = rng.random_bool(0.5);
    let elements = if whole {
        count as Id
    } else {
        rng.random_range(1..4)
    };
    let mut values: Vec<Id> = (1..=count as Id).collect();
    for i in (1..values.len()).rev() {
        values.swap(i, rng.random_range(0..=i));
    }
    let mut now = 0;
    while ops.len() < count
        || clients
            .iter()
            .flatten()
            .any(|c| !c.never_answered || !c.done)
    {
        now += 1;
        let c = rng.random_range(0..clients.len());
        match &mut clients[c] {
            None if ops.len() == count => {}
            slot @ None => {
                let put = rng.random_bool(shape.puts);
                let element = rng.random_range(1..=elements);
                let action = match model {
                    Model::List if put => Action::Append(values[ops.len()]),
                    Model::List => Action::ReadList([].into()),
                    Model::Set if put && !whole && rng.random_bool(0.5) => Action::Remove(element),
                    Model::Set if put => Action::Add(element),
                    Model::Set if !whole || rng.random_bool(0.25) => {
                        Action::Contains(element, false)
                    }
                    Model::Set => Action::ReadSet([].into()),
                    _ if put => Action::Enqueue(values[ops.len()]),
                    _ => Action::Dequeue(Taken::Unknown),
                };
                *slot = Some(Client {
                    op: ops.len(),
                    done: false,
                    never_answered: rng.random_bool(shape.unanswered),
                });
                ops.push(Op {
                    call: now,
                    completion: None,
                    action,
                });
            }
            Some(client) if !client.done => {
                // What is never answered may not happen either.
                if !client.never_answered || rng.random_bool(0.6) {
                    let unanswered = client.never_answered;
                    take_effect(model, &mut held, &mut ops[client.op].action, unanswered);
                }
                client.done = true;
                if client.never_answered {
                    // Its client goes on as another one.
                    clients[c] = None;
                }
            }
            Some(client) => {
                ops[client.op].completion = Some(now);
                clients[c] = None;
            }
        }
    }
    ops
}

fn take_effect(model: Model, held: &mut Vec<Id>, action: &mut Action, unanswered: bool) {
    match action {
        Action::Add(e) if held.contains(e) => {}
        Action::Append(e) | Action::Enqueue(e) | Action::Add(e) => held.push(*e),
        Action::Remove(e) => held.retain(|other| other != e),
        Action::Contains(e, shown) => *shown = held.contains(e),
        Action::ReadList(items) => *items = held.as_slice().into(),
        Action::ReadSet(items) => {
            let mut sorted = held.clone();
            sorted.sort_unstable();
            *items = sorted.into();
        }
        Action::Dequeue(taken) => {
            let at = match model {
                Model::Queue => 0,
                Model::Stack => held.len().saturating_sub(1),
                _ => (0..held.len()).min_by_key(|&i| held[i]).unwrap_or(0),
            };
            let out = (at < held.len()).then(|| held.remove(at));
            if !unanswered {
                *taken = out.map_or(Taken::Empty, Taken::Value);
            }
        }
        _ => {}
    }
}

/// Changes a history in one place.
fn change(rng: &mut SmallRng, model: Model, ops: &mut [Op]) {
    let count = ops.len();
    let (i, j) = (rng.random_range(0..count), rng.random_range(0..count));
    match rng.random_range(0..4) {
        // Answers change places.
        0 if returns(&ops[i].action) && returns(&ops[j].action) => {
            let answered = ops[i].completion.is_some() && ops[j].completion.is_some();
            if answered
                && std::mem::discriminant(&ops[i].action) == std::mem::discriminant(&ops[j].action)
            {
                let other = ops[j].action.clone();
                ops[j].action = std::mem::replace(&mut ops[i].action, other);
            }
        }
        // An answer is another one.
        1 if ops[i].completion.is_some() => {
            let value = rng.random_range(1..=count as Id);
            match &mut ops[i].action {
                Action::Contains(_, shown) => *shown = !*shown,
                Action::Dequeue(taken) if rng.random_bool(0.3) => *taken = Taken::Empty,
                Action::Dequeue(taken) => *taken = Taken::Value(value),
                Action::ReadList(items) | Action::ReadSet(items) => {
                    let mut changed = items.to_vec();
                    if rng.random_bool(0.5) && !changed.is_empty() {
                        changed.remove(rng.random_range(0..changed.len()));
                    } else if let Action::Append(e) | Action::Add(e) = ops[j].action {
                        changed.push(e);
                    }
                    if model == Model::Set {
                        changed.sort_unstable();
                        changed.dedup();
                    }
                    if let Action::ReadList(items) | Action::ReadSet(items) = &mut ops[i].action {
                        *items = changed.into();
                    }
                }
                _ => {}
            }
        }
        // An operation is shorter.
        2 => {
            if let Some(end) = ops[i].completion {
                let at = rng.random_range(ops[i].call..end);
                if rng.random_bool(0.5) {
                    move_instant(ops, ops[i].call, at);
                } else {
                    move_instant(ops, end, at + 1);
                }
            }
        }
        // An operation is later or earlier.
        _ => {
            let (a, b) = (ops[i].call, ops[j].call);
            if ops[i].completion.is_none_or(|end| b < end)
                && ops[j].completion.is_none_or(|end| a < end)
            {
                ops[i].call = b;
                ops[j].call = a;
            }
        }
    }
}

/// Moves one instant to a place, and those between by one.
fn move_instant(ops: &mut [Op], from: u64, to: u64) {
    let moved = |at: u64| match at {
        at if at == from => to,
        at if from < at && at <= to => at - 1,
        at if to <= at && at < from => at + 1,
        at => at,
    };
    let mut changed = ops.to_vec();
    for op in &mut changed {
        op.call = moved(op.call);
        op.completion = op.completion.map(moved);
        if op.completion.is_some_and(|end| end <= op.call) {
            return;
        }
    }
    ops.clone_from_slice(&changed);
}

fn returns(action: &Action) -> bool {
    matches!(
        action,
        Action::Dequeue(_) | Action::ReadList(_) | Action::ReadSet(_) | Action::Contains(..)
    )
}
