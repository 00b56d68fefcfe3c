//! Engines against each other on random histories: brute force, porcupine-rs and ours.
//!
//! `QUORATE_FUZZ_HISTORIES=5000000 cargo test --release -p checkers --lib fuzz` for more of them.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::auto::Auto;
use super::brute_force::BruteForce;
use super::jit::Jit;
use super::porcupine::Porcupine;
use super::*;

/// Histories for each model, if the environment does not say how many.
const ROUNDS: u64 = 30_000;

#[expect(
    clippy::disallowed_methods,
    reason = "tests may be told how long to run"
)]
fn rounds() -> u64 {
    let told = std::env::var("QUORATE_FUZZ_HISTORIES").ok();
    told.and_then(|n| n.parse().ok()).unwrap_or(ROUNDS)
}

const MODELS: [Model; 13] = [
    Model::Register,
    Model::List,
    Model::Set,
    Model::Text,
    Model::Map,
    Model::Queue,
    Model::Stack,
    Model::PriorityQueue,
    Model::Counter,
    Model::Lock,
    Model::FencedLock,
    Model::Semaphore(2),
    Model::Semaphore(3),
];

/// Random operations: what returns something returns what it could have, more often than not, as
/// they take effect at a random instant of a run that is simulated, and some results are changed.
pub(super) fn random_ops(
    rng: &mut SmallRng,
    model: Model,
    count: usize,
    clients: usize,
) -> Vec<Op> {
    let mut object = brute_force::Object::new();
    let values = rng.random_range(1..=4);
    let pending = [0.0, 0.1, 0.3][rng.random_range(0..3)];
    let mistakes = [0.0, 0.1, 0.2, 0.5][rng.random_range(0..4)];
    let mut ops: Vec<Op> = Vec::new();
    // Open operations, and whether each has taken effect.
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut at = 0;
    while ops.len() < count || !open.is_empty() {
        at += 1;
        let begin = ops.len() < count && open.len() < clients;
        let choice = rng.random_range(0..3);
        if open.is_empty() || begin && choice == 0 {
            if ops.len() == count {
                break;
            }
            open.push((ops.len(), false));
            ops.push(Op {
                call: at,
                completion: None,
                action: random_action(rng, model, values),
            });
            continue;
        }
        let which = rng.random_range(0..open.len());
        let (op, took) = open[which];
        if !took && choice == 1 {
            take_effect(rng, model, &mut object, &mut ops[op].action);
            open[which].1 = true;
        } else if took || rng.random_bool(0.1) {
            if !took {
                take_effect(rng, model, &mut object, &mut ops[op].action);
            }
            open.swap_remove(which);
            if rng.random_bool(mistakes) {
                mistake(rng, model, &mut ops[op].action, values);
            }
            ops[op].completion = Some(at);
            if rng.random_bool(pending) {
                ops[op].completion = None;
                forget(&mut ops[op].action);
            }
        } else if rng.random_bool(pending / 2.0) {
            open.swap_remove(which);
            forget(&mut ops[op].action);
        }
    }
    ops.retain(|op| op.completion.is_some() || !is_read(&op.action));
    ops
}

/// What a pending operation returned, nobody knows.
fn forget(action: &mut Action) {
    match action {
        Action::Dequeue(taken) => *taken = Taken::Unknown,
        Action::AcquireFenced(_, fence) => *fence = None,
        _ => {}
    }
}

fn is_read(action: &Action) -> bool {
    use Action as A;
    matches!(
        action,
        A::Read(_)
            | A::CasRefused(_)
            | A::ReadList(_)
            | A::ReadSet(_)
            | A::Get(_)
            | A::Contains(..)
            | A::ReadMap(_)
            | A::ReadCounter(_)
    )
}

fn random_action(rng: &mut SmallRng, model: Model, values: u32) -> Action {
    let value = rng.random_range(0..values);
    let other = rng.random_range(0..values);
    let choice = rng.random_range(0..10);
    match model {
        Model::Register => match choice {
            0..4 => Action::Read(value),
            4..7 => Action::Write(value),
            7..9 => Action::Cas(value, other),
            _ => Action::CasRefused(value),
        },
        Model::List => match choice {
            0..5 => Action::ReadList([].into()),
            _ => Action::Append(value),
        },
        Model::Set => match choice {
            0..2 => Action::ReadSet([].into()),
            2..5 => Action::Contains(value, false),
            5..8 => Action::Add(value),
            _ => Action::Remove(value),
        },
        Model::Text => match choice {
            0..5 => Action::Get("".into()),
            5 => Action::Put(value.to_string().into()),
            _ => Action::AppendText(value.to_string().into()),
        },
        Model::Map => match choice {
            0..4 => Action::ReadMap([].into()),
            4..8 => Action::PutField(value, other),
            _ => Action::RemoveField(value),
        },
        Model::Queue | Model::Stack | Model::PriorityQueue => match choice {
            0..5 => Action::Dequeue(Taken::Empty),
            _ => Action::Enqueue(value),
        },
        Model::Counter => match choice {
            0..4 => Action::ReadCounter(0),
            4..8 => Action::Increment(i64::from(value)),
            _ => Action::Increment(-i64::from(other)),
        },
        Model::Lock | Model::Semaphore(_) => match choice {
            0..5 => Action::Acquire(value),
            _ => Action::Release(value),
        },
        Model::FencedLock => match choice {
            0..5 => Action::AcquireFenced(value, None),
            _ => Action::Release(value),
        },
    }
}

/// The operation takes effect: it returns what is there.
fn take_effect(
    rng: &mut SmallRng,
    model: Model,
    object: &mut brute_force::Object,
    action: &mut Action,
) {
    match action {
        Action::Read(value) => *value = object.register,
        Action::ReadList(items) => *items = object.elements.as_slice().into(),
        Action::ReadSet(items) => {
            let mut held = object.elements.clone();
            held.sort_unstable();
            *items = held.into();
        }
        Action::Contains(value, held) => *held = object.elements.contains(value),
        Action::Get(text) => *text = object.text.as_str().into(),
        Action::ReadMap(shown) => {
            *shown = object.fields.iter().map(|(f, v)| (*f, *v)).collect();
        }
        Action::ReadCounter(sum) => *sum = object.sum,
        Action::Cas(old, new) if *old != object.register && rng.random_bool(0.8) => {
            if rng.random_bool(0.5) {
                *action = Action::CasRefused(*old);
            } else {
                *action = Action::Cas(object.register, *new);
            }
        }
        Action::CasRefused(old) if *old == object.register && rng.random_bool(0.8) => {
            *action = Action::Read(*old);
        }
        Action::Dequeue(taken) => {
            *taken = brute_force::next_out(model, object)
                .map_or(Taken::Empty, |at| Taken::Value(object.elements[at]));
        }
        Action::Release(owner) => {
            if let Some(holder) = object.holders.last() {
                *owner = *holder;
            }
        }
        Action::AcquireFenced(_, fence) => {
            *fence = Some(object.fence.max(0) + rng.random_range(0..3));
        }
        _ => {}
    }
    let done = Op {
        call: 0,
        completion: Some(1),
        action: action.clone(),
    };
    let mut next = object.clone();
    if brute_force::apply(model, &mut next, &done) {
        *object = next;
    }
}

/// Changes what an operation returned.
fn mistake(rng: &mut SmallRng, model: Model, action: &mut Action, values: u32) {
    let value = rng.random_range(0..values);
    match action {
        Action::Read(v) | Action::CasRefused(v) | Action::Cas(v, _) => *v = value,
        Action::ReadList(items) if !items.is_empty() && rng.random_bool(0.5) => {
            *items = items[..items.len() - 1].into();
        }
        Action::ReadList(items) => {
            let mut changed = items.to_vec();
            changed.insert(rng.random_range(0..=changed.len()), value);
            *items = changed.into();
        }
        Action::ReadSet(items) => {
            let mut changed = items.to_vec();
            match changed.binary_search(&value) {
                Ok(at) => drop(changed.remove(at)),
                Err(at) => changed.insert(at, value),
            }
            *items = changed.into();
        }
        Action::Contains(_, held) => *held = !*held,
        Action::Get(text) if !text.is_empty() && rng.random_bool(0.5) => {
            *text = text[1..].into();
        }
        Action::Get(text) => *text = format!("{text}{value}").into(),
        Action::ReadMap(shown) => {
            let mut changed = shown.to_vec();
            match changed.iter().position(|(f, _)| *f == value) {
                Some(at) => drop(changed.remove(at)),
                None => {
                    changed.push((value, 0));
                    changed.sort_unstable();
                }
            }
            *shown = changed.into();
        }
        Action::ReadCounter(sum) => *sum += if rng.random_bool(0.5) { 1 } else { -1 },
        Action::Dequeue(taken) => {
            *taken = if rng.random_bool(0.3) {
                Taken::Empty
            } else {
                Taken::Value(value)
            };
        }
        Action::Release(owner) => *owner = value,
        Action::AcquireFenced(owner, Some(fence)) => {
            *owner = value;
            *fence -= 1;
        }
        _ => {}
    }
    let _ = model;
}

#[test]
fn engines_agree_with_trying_every_order() {
    for (seed, model) in MODELS.into_iter().enumerate() {
        let mut rng = SmallRng::seed_from_u64(seed as u64);
        let rounds = rounds();
        let mut linearizable = 0_u64;
        for round in 0..rounds {
            let count = rng.random_range(1..=BruteForce::MAX_OPS);
            let clients = rng.random_range(1..=count);
            let ops = random_ops(&mut rng, model, count, clients);
            let expected = BruteForce
                .decide(model, &ops, &Limits::NONE)
                .is_linearizable();
            let told = || format!("{model:?}, round {round}: {ops:#?}");
            let decided = Jit.decide(model, &ops, &Limits::NONE);
            assert_eq!(decided.is_linearizable(), expected, "jit: {}", told());
            if let Decision::NotLinearizable(why) = decided {
                assert_shortest(model, &ops, why.by, &told);
            }
            if let Model::Register | Model::List | Model::Text = model {
                let decided = Porcupine.decide(model, &ops, &Limits::NONE);
                assert_eq!(decided.is_linearizable(), expected, "porcupine: {}", told());
                let decided = Auto.decide(model, &ops, &Limits::NONE);
                assert_eq!(decided.is_linearizable(), expected, "auto: {}", told());
            }
            linearizable += u64::from(expected == Some(true));
        }
        let share = linearizable as f64 / rounds as f64;
        println!("{model:?}: {rounds} histories, {share:.2} linearizable");
        assert!(
            (0.1..0.9).contains(&share),
            "{model:?}: {share} linearizable"
        );
    }
}

/// What completed up to the instant cannot be ordered; what completed before can.
fn assert_shortest(model: Model, ops: &[Op], by: Option<u64>, told: &dyn Fn() -> String) {
    let by = by.expect("the engine says by when");
    let until = |end: u64| -> Vec<Op> {
        let began = ops.iter().filter(|op| op.call < end);
        let cut = began.map(|op| {
            let mut op = op.clone();
            op.completion = op.completion.filter(|c| *c <= end);
            if op.completion.is_none() {
                forget(&mut op.action);
            }
            op
        });
        cut.filter(|op| op.completion.is_some() || !is_read(&op.action))
            .collect()
    };
    let decide = |end| BruteForce.decide(model, &until(end), &Limits::NONE);
    assert_eq!(
        decide(by).is_linearizable(),
        Some(false),
        "by {by}: {}",
        told()
    );
    // What was still open may have come back with a result that was known to the engine.
    if ops
        .iter()
        .any(|op| matches!(op.action, Action::Dequeue(_) | Action::AcquireFenced(..)))
    {
        return;
    }
    assert_eq!(
        decide(by - 1).is_linearizable(),
        Some(true),
        "by {by}: {}",
        told()
    );
}

#[test]
fn engines_agree_on_longer_histories() {
    for (seed, model) in MODELS.into_iter().enumerate() {
        if !matches!(model, Model::Register | Model::List | Model::Text) {
            continue;
        }
        let mut rng = SmallRng::seed_from_u64(100 + seed as u64);
        let limits = Limits {
            per_key_bytes: Some(4 << 20),
            per_key_configurations: Some(50_000),
            ..Limits::NONE
        };
        let (mut compared, mut linearizable) = (0_u64, 0_u64);
        for round in 0..rounds() / 100 {
            let count = rng.random_range(20..=200);
            let clients = rng.random_range(3..=8);
            let count = if model == Model::Register {
                count
            } else {
                count / 3
            };
            let ops = random_ops(&mut rng, model, count, clients);
            let ours = Jit.decide(model, &ops, &limits).is_linearizable();
            let theirs = Porcupine.decide(model, &ops, &limits).is_linearizable();
            if theirs.is_some() && ours.is_some() {
                compared += 1;
                linearizable += u64::from(theirs == Some(true));
                assert_eq!(ours, theirs, "{model:?}, round {round}: {ops:#?}");
            }
        }
        println!("{model:?}: {compared} compared, {linearizable} linearizable");
        assert!(linearizable * 10 > compared && linearizable * 10 < 9 * compared);
    }
}
