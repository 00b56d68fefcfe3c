use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::closed::{Kept, attempts, without};
use super::pattern;
use super::shrink::{Shrinker, positions, until};
use crate::linearizable::engine::brute_force::BruteForce;
use crate::linearizable::engine::{Action, Decision, Engine, Id, Limits, Model, Op, Taken};

const MODELS: [Model; 12] = [
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
];

/// What the operations would leave if they took effect in the order in which they are made up.
#[derive(Default)]
struct Object {
    register: Id,
    elements: Vec<Id>,
    fields: std::collections::BTreeMap<Id, Id>,
    text: String,
    sum: i64,
    fence: i64,
    holders: Vec<Id>,
}

/// Random operations that overlap; what they return mostly fits the order in which they are made up.
fn random_ops(rng: &mut SmallRng, model: Model) -> Vec<Op> {
    let count = rng.random_range(2..=BruteForce::MAX_OPS);
    let mut instants: Vec<u64> = (0..2 * count as u64).collect();
    for i in (1..instants.len()).rev() {
        let j = i - rng.random_range(0..=i.min(2));
        instants.swap(i, j);
    }
    let values = rng.random_range(2..=6);
    let noise = rng.random_range(0.0..0.3);
    let unique = rng.random_bool(0.5);
    let mut object = Object::default();
    let mut ops: Vec<Op> = (0..count)
        .map(|i| {
            let (a, b) = (instants[2 * i], instants[2 * i + 1]);
            let value = match (unique, model) {
                (true, Model::Register | Model::List | Model::Queue | Model::Stack) => i as Id + 1,
                _ => rng.random_range(0..values),
            };
            let odd = rng.random_bool(noise);
            let action = random_action(rng, model, &mut object, value, odd);
            let returns = super::closed::is_passive(&action);
            let pending = !returns && rng.random_bool(0.2);
            let action = match action {
                Action::Dequeue(_) if pending => Action::Dequeue(Taken::Unknown),
                Action::AcquireFenced(owner, _) if pending => Action::AcquireFenced(owner, None),
                other => other,
            };
            Op {
                call: a.min(b),
                completion: (!pending).then_some(a.max(b)),
                action,
            }
        })
        .collect();
    ops.sort_by_key(|op| op.call);
    ops
}

fn random_action(
    rng: &mut SmallRng,
    model: Model,
    object: &mut Object,
    value: Id,
    odd: bool,
) -> Action {
    let changes = rng.random_bool(0.55);
    let held = |object: &Object, rng: &mut SmallRng| {
        let mut held = object.elements.clone();
        if odd && !held.is_empty() {
            held.remove(rng.random_range(0..held.len()));
        }
        held
    };
    match model {
        Model::Register => match (changes, rng.random_range(0..4)) {
            (true, 0 | 1) => {
                object.register = value;
                Action::Write(value)
            }
            (true, 2) => {
                let old = if odd {
                    rng.random_range(0..4)
                } else {
                    object.register
                };
                object.register = value;
                Action::Cas(old, value)
            }
            (true, _) => Action::CasRefused(value),
            _ if odd => Action::Read(rng.random_range(0..4)),
            _ => Action::Read(object.register),
        },
        Model::List if changes => {
            object.elements.push(value);
            Action::Append(value)
        }
        Model::List => Action::ReadList(held(object, rng).into()),
        Model::Set => match (changes, rng.random_range(0..3)) {
            (true, 0) => {
                object.elements.retain(|e| *e != value);
                Action::Remove(value)
            }
            (true, _) => {
                object.elements.push(value);
                Action::Add(value)
            }
            (_, 0) => Action::Contains(value, object.elements.contains(&value) != odd),
            _ => {
                let mut held = held(object, rng);
                held.sort_unstable();
                held.dedup();
                Action::ReadSet(held.into())
            }
        },
        Model::Text => {
            let text: Arc<str> = ["", "a", "b", "ab", "c", "d"][value as usize % 6].into();
            match (changes, rng.random_range(0..3)) {
                (true, 0) => {
                    object.text = text.to_string();
                    Action::Put(text)
                }
                (true, _) => {
                    object.text.push_str(&text);
                    Action::AppendText(text)
                }
                _ if odd => Action::Get(text),
                _ => Action::Get(object.text.as_str().into()),
            }
        }
        Model::Map => match (changes, rng.random_range(0..3)) {
            (true, 0) => {
                object.fields.remove(&(value % 3));
                Action::RemoveField(value % 3)
            }
            (true, _) => {
                object.fields.insert(value % 3, value);
                Action::PutField(value % 3, value)
            }
            _ => {
                let mut shown = object.fields.clone();
                if odd {
                    shown.pop_first();
                }
                Action::ReadMap(shown.into_iter().collect())
            }
        },
        Model::Queue | Model::Stack | Model::PriorityQueue => {
            if changes {
                object.elements.push(value);
                return Action::Enqueue(value);
            }
            let at = match model {
                _ if odd => object.elements.len().checked_sub(2),
                Model::Queue => (!object.elements.is_empty()).then_some(0),
                Model::Stack => object.elements.len().checked_sub(1),
                _ => (0..object.elements.len()).min_by_key(|&i| object.elements[i]),
            };
            match at {
                Some(at) => Action::Dequeue(Taken::Value(object.elements.remove(at))),
                None => Action::Dequeue(Taken::Empty),
            }
        }
        Model::Counter if changes => {
            let by = i64::from(value) - 1;
            object.sum += by;
            Action::Increment(by)
        }
        Model::Counter => Action::ReadCounter(object.sum + i64::from(odd)),
        Model::Lock | Model::FencedLock | Model::Semaphore(_) => {
            let permits = if model == Model::Semaphore(2) { 2 } else { 1 };
            let owner = value % 3;
            let free = object.holders.len() < permits;
            if free != odd || object.holders.is_empty() {
                object.holders.push(owner);
                object.fence += 1;
                match model {
                    Model::FencedLock => {
                        let fence = object.fence - 2 * i64::from(odd && rng.random_bool(0.5));
                        Action::AcquireFenced(owner, Some(fence))
                    }
                    _ => Action::Acquire(owner),
                }
            } else {
                Action::Release(object.holders.remove(0))
            }
        }
    }
}

fn orderable(model: Model, kept: &Kept) -> bool {
    let ops: Vec<Op> = kept.iter().map(|(_, op)| op.clone()).collect();
    match BruteForce.decide(model, &ops, &Limits::NONE) {
        Decision::Linearizable => true,
        Decision::NotLinearizable(_) => false,
        Decision::Unknown(why) => panic!("{why:?}"),
    }
}

fn whole(ops: &[Op]) -> Kept {
    ops.iter().cloned().enumerate().collect()
}

const ROUNDS: u32 = 12_000;

/// Whatever is left out of a history that can be ordered, what is left can be ordered, too.
#[test]
fn no_step_makes_a_linearizable_history_fail() {
    for model in MODELS {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut linearizable, mut left_out) = (0, 0);
        for round in 0..ROUNDS {
            let ops = random_ops(&mut rng, model);
            let mut kept = whole(&ops);
            if !orderable(model, &kept) {
                continue;
            }
            linearizable += 1;
            for _ in 0..4 {
                let before = kept.clone();
                kept = match rng.random_range(0..4) {
                    0 => until(&kept, rng.random_range(0..16)),
                    1 if !kept.is_empty() => {
                        let at = rng.random_range(0..kept.len());
                        let drops = attempts(model, &kept, at);
                        let which = rng.random_range(0..drops.len());
                        without(model, &kept, &drops[which])
                    }
                    _ => {
                        let share = rng.random_range(0.2..1.0);
                        let drop: Vec<bool> = kept.iter().map(|_| rng.random_bool(share)).collect();
                        without(model, &kept, &drop)
                    }
                };
                left_out += before.len() - kept.len();
                assert!(
                    orderable(model, &kept),
                    "{model:?}, round {round}: of {before:#?} is left {kept:#?}"
                );
            }
        }
        assert!(
            linearizable > ROUNDS / 5,
            "{model:?}: {linearizable} linearizable"
        );
        let least = linearizable as usize * if model == Model::Counter { 1 } else { 2 };
        assert!(left_out > least, "{model:?}: {left_out} left out");
    }
}

fn assert_core(model: Model, ops: &[Op], core: &Kept, context: &str) {
    assert!(!orderable(model, core), "no proof: {core:#?} {context}");
    let mut last = None;
    for (at, op) in core {
        let one = &ops[*at];
        assert!(last < Some(one.call), "out of order: {context}");
        last = Some(one.call);
        assert_eq!(
            (op.call, op.completion),
            (one.call, one.completion),
            "{context}"
        );
    }
    // Not only what was attempted: whatever is marked.
    for marks in 1..1_u32 << core.len() {
        let drop: Vec<bool> = (0..core.len()).map(|i| marks >> i & 1 == 1).collect();
        let rest = without(model, core, &drop);
        assert!(
            rest.len() == core.len() || orderable(model, &rest),
            "{rest:#?} is left of {core:#?} {context}"
        );
    }
}

/// The core of a history that cannot be ordered cannot be ordered, and every step makes it so: found
/// from nothing, from the instant by which it fails, from a pattern, and from a hint, wrong or right.
#[test]
fn the_core_fails_and_no_step_leads_to_a_smaller_one_that_does() {
    for model in MODELS {
        let mut rng = SmallRng::seed_from_u64(5);
        let (mut failing, mut patterns, mut small) = (0, 0, 0);
        for round in 0..ROUNDS {
            let ops = random_ops(&mut rng, model);
            if orderable(model, &whole(&ops)) {
                continue;
            }
            failing += 1;
            let context = format!("{model:?}, round {round}: {ops:#?}");
            let shrinker = || Shrinker::new(&BruteForce, model, &ops);
            let core = shrinker().core(None);
            assert_core(model, &ops, &core, &context);
            small += u32::from(core.len() < ops.len());
            let core = shrinker().core(Some(rng.random_range(0..16)));
            assert_core(model, &ops, &core, &context);
            let some: Vec<usize> = (0..ops.len()).filter(|_| rng.random_bool(0.4)).collect();
            for hint in pattern::hints(model, &ops).into_iter().chain([some]) {
                if let Some(core) = shrinker().hinted(&hint) {
                    assert_core(model, &ops, &core, &context);
                    patterns += 1;
                }
            }
        }
        assert!(failing > ROUNDS / 15, "{model:?}: {failing} failing");
        assert!(
            small > failing / 2,
            "{model:?}: {small} of {failing} shrunk"
        );
        assert!(
            patterns > failing / 20,
            "{model:?}: {patterns} hints led to a core"
        );
    }
}

/// Each pattern finds its violation, and the engine agrees.
#[test]
fn patterns_are_found() {
    use Action as A;
    let list = |items: &[Id]| A::ReadList(items.into());
    let set = |items: &[Id]| A::ReadSet(items.into());
    let out = |value| A::Dequeue(Taken::Value(value));
    let text = |text: &str| A::AppendText(text.into());
    let fenced = |owner, fence| A::AcquireFenced(owner, Some(fence));
    let cases: Vec<(Model, Vec<Action>, &[usize])> = vec![
        (Model::Register, vec![A::Write(1), A::Read(2)], &[1]),
        (Model::Register, vec![A::Read(1), A::Write(1)], &[0]),
        (
            Model::Register,
            vec![
                A::Write(9),
                A::Write(1),
                A::Write(2),
                A::Read(2),
                A::Read(1),
            ],
            &[1, 2, 4],
        ),
        (
            Model::Register,
            vec![
                A::Write(9),
                A::Write(1),
                A::Cas(1, 2),
                A::Write(5),
                A::Cas(1, 3),
            ],
            &[1, 2, 4],
        ),
        (Model::List, vec![A::Append(1), list(&[7])], &[1]),
        (
            Model::List,
            vec![A::Append(1), A::Append(2), list(&[2])],
            &[0, 2],
        ),
        (
            Model::List,
            vec![A::Append(1), A::Append(2), A::Append(3), list(&[1, 3, 2])],
            &[1, 2, 3],
        ),
        (
            Model::List,
            vec![A::Append(1), A::Append(2), list(&[1, 2, 2])],
            &[1, 2],
        ),
        (
            Model::Text,
            vec![text("x1"), text("x2"), text("x3"), A::Get("x1x3".into())],
            &[0, 1, 2, 3],
        ),
        (
            Model::Text,
            vec![A::Get("x9".into()), A::Get("x8x7".into())],
            &[0],
        ),
        (Model::Set, vec![A::Add(1), A::Add(2), set(&[2])], &[0, 2]),
        (
            Model::Queue,
            vec![A::Enqueue(1), out(1), A::Enqueue(2), out(1)],
            &[0, 1, 3],
        ),
        (
            Model::Queue,
            vec![
                A::Enqueue(1),
                A::Enqueue(2),
                A::Enqueue(3),
                out(1),
                out(3),
                out(2),
            ],
            &[1, 2, 4],
        ),
        (
            Model::Stack,
            vec![A::Enqueue(1), A::Dequeue(Taken::Empty)],
            &[0, 1],
        ),
        (
            Model::PriorityQueue,
            vec![A::Enqueue(2), out(4), A::Enqueue(4)],
            &[1],
        ),
        (
            Model::Lock,
            vec![
                A::Acquire(7),
                A::Release(7),
                A::Acquire(1),
                A::Acquire(2),
                A::Release(1),
            ],
            &[2, 3],
        ),
        (
            Model::FencedLock,
            vec![
                fenced(1, 5),
                A::Release(1),
                fenced(2, 6),
                A::Release(2),
                fenced(3, 6),
            ],
            &[2, 3, 4],
        ),
    ];
    for (model, actions, expected) in cases {
        let ops: Vec<Op> = (0..)
            .zip(&actions)
            .map(|(i, action)| Op {
                call: 2 * i,
                completion: Some(2 * i + 1),
                action: action.clone(),
            })
            .collect();
        let hints = pattern::hints(model, &ops);
        let mut cores = hints.iter().filter_map(|hint| {
            let core = Shrinker::new(&BruteForce, model, &ops).hinted(hint)?;
            Some(positions(&core))
        });
        assert_eq!(
            cores.next().as_deref(),
            Some(expected),
            "{model:?}: {actions:?} {hints:?}"
        );
    }
}

/// A prefix must not make a compare-and-set look impossible because the write that it waited for came
/// after the prefix.
#[test]
fn what_a_prefix_cuts_is_no_proof() {
    let op = |call, completion, action| Op {
        call,
        completion,
        action,
    };
    let ops = [
        op(0, Some(20), Action::Cas(5, 6)),
        op(1, Some(2), Action::Write(1)),
        op(3, Some(4), Action::Write(2)),
        op(5, Some(6), Action::Read(1)),
        op(7, Some(8), Action::Write(5)),
    ];
    for by in [None, Some(6)] {
        let core = Shrinker::new(&BruteForce, Model::Register, &ops).core(by);
        assert_eq!(positions(&core), [1, 2, 3]);
    }
}

/// A hint of the engine is taken where it is right, and harmless where it is wrong.
#[test]
fn a_refutation_helps_and_never_harms() {
    let mut ops: Vec<Op> = (0..400)
        .map(|i| Op {
            call: 2 * i,
            completion: Some(2 * i + 1),
            action: Action::Write(i as Id + 1),
        })
        .collect();
    for (i, value) in [(400, 7), (401, 7)] {
        ops.push(Op {
            call: 2 * i,
            completion: Some(2 * i + 1),
            action: Action::Read(value),
        });
    }
    let shrinker = || Shrinker::new(&BruteForce, Model::Register, &ops);
    for hint in [vec![399, 400], vec![6, 100, 401]] {
        assert_eq!(shrinker().hinted(&hint).map(|core| core.len()), Some(3));
    }
    for hint in [vec![3, 4], vec![9_999], vec![]] {
        assert!(shrinker().hinted(&hint).is_none());
    }
}
