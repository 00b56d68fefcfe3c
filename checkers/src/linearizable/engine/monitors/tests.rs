//! The monitors against engines that try every order, on random histories.
//!
//! Histories come from a real object whose operations take effect at random instants, some never
//! answered; most are then changed in one or two places, so that they are wrong, if at all, by
//! little.

mod generate;
mod search;

use generate::Shape;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::brute_force::BruteForce;
use super::super::porcupine::Porcupine;
use super::super::{Engine, Id, Limits, Refutation, Taken};
use super::*;

/// What was asked, and how often the monitors gave which answer.
#[derive(Default, Debug)]
struct Tally {
    asked: u32,
    yes: u32,
    no: u32,
    cores: u32,
}

impl Tally {
    fn add(&mut self, decision: Option<&Decision>) {
        self.asked += 1;
        match decision {
            Some(Decision::Linearizable) => self.yes += 1,
            Some(Decision::NotLinearizable(refutation)) => {
                self.no += 1;
                self.cores += u32::from(!refutation.core.is_empty());
            }
            _ => {}
        }
    }

    /// Both answers must be frequent, or a comparison says little; and few may be left open.
    #[track_caller]
    fn assert_telling(&self, what: &str) {
        let share = |n: u32| f64::from(n) / f64::from(self.asked);
        let open = self.asked - self.yes - self.no;
        assert!(
            share(self.yes) > 0.15 && share(self.no) > 0.15 && share(open) < 0.05,
            "{what}: {self:?}"
        );
        assert!(self.cores * 10 > self.no * 8, "{what}: few cores: {self:?}");
    }
}

fn compare(
    model: Model,
    shape: &Shape,
    seed: u64,
    rounds: u32,
    oracle: impl Fn(&[Op]) -> bool,
) -> Tally {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for round in 0..rounds {
        let ops = generate::history(&mut rng, model, shape);
        let decision = decide(model, &ops);
        tally.add(decision.as_ref());
        let Some(decision) = decision else { continue };
        let expected = oracle(&ops);
        let context = || format!("{model:?}, seed {seed}, round {round}: {ops:#?}");
        assert_eq!(decision.is_linearizable(), Some(expected), "{}", context());
        if let Decision::NotLinearizable(Refutation { core, .. }) = &decision {
            assert_core(model, &ops, core, &context);
        }
    }
    println!("{model:?} {tally:?}");
    tally
}

/// A core cannot be ordered, not even if the reads in it show only elements that are added in it.
fn assert_core(model: Model, ops: &[Op], core: &[usize], context: &dyn Fn() -> String) {
    if core.is_empty() || core.len() > search::OPS_MAX {
        return;
    }
    let mut kept: Vec<Op> = core.iter().map(|&i| ops[i].clone()).collect();
    assert!(
        !search::has_order(model, &kept),
        "core {core:?} has an order; {}",
        context()
    );
    let adds =
        |e: Id| move |op: &&Op| op.action == Action::Add(e) || op.action == Action::Append(e);
    let whole = |e: &Id| {
        ops.iter().filter(adds(*e)).count() == core.iter().filter(|&&i| adds(*e)(&&ops[i])).count()
    };
    for op in &mut kept {
        match &mut op.action {
            Action::ReadList(items) | Action::ReadSet(items) => {
                *items = items.iter().copied().filter(whole).collect();
            }
            _ => {}
        }
    }
    assert!(
        !search::has_order(model, &kept),
        "core {core:?} is no projection; {}",
        context()
    );
}

fn brute_force(model: Model) -> impl Fn(&[Op]) -> bool {
    move |ops| {
        let decision = BruteForce.decide(model, ops, &Limits::NONE);
        decision.is_linearizable().expect("it is short enough")
    }
}

const ROUNDS: u32 = 50_000;

/// Four shapes of up to 8 operations: 200,000 histories a model.
fn small(model: Model) {
    for (seed, shape) in Shape::SMALL.iter().enumerate() {
        let tally = compare(model, shape, seed as u64, ROUNDS, brute_force(model));
        tally.assert_telling(&format!("{model:?} {shape:?}"));
    }
}

#[test]
fn small_lists() {
    small(Model::List);
}

#[test]
fn small_sets() {
    small(Model::Set);
}

#[test]
fn small_queues() {
    small(Model::Queue);
}

#[test]
fn small_stacks() {
    small(Model::Stack);
}

#[test]
fn small_priority_queues() {
    small(Model::PriorityQueue);
}

/// 10 to 14 operations, against a search with memory.
fn medium(model: Model) {
    for (seed, shape) in Shape::MEDIUM.iter().enumerate() {
        let oracle = |ops: &[Op]| search::has_order(model, ops);
        let tally = compare(model, shape, seed as u64, 2_000, oracle);
        tally.assert_telling(&format!("{model:?} {shape:?}"));
    }
}

#[test]
fn medium_lists() {
    medium(Model::List);
}

#[test]
fn medium_sets() {
    medium(Model::Set);
}

#[test]
fn medium_queues() {
    medium(Model::Queue);
}

#[test]
fn medium_stacks() {
    medium(Model::Stack);
}

#[test]
fn medium_priority_queues() {
    medium(Model::PriorityQueue);
}

/// The search of the tests is an engine, too, and has to be right.
#[test]
fn the_search_agrees_with_trying_every_order() {
    for model in generate::MODELS {
        let mut rng = SmallRng::seed_from_u64(99);
        for _ in 0..2_000 {
            let ops = generate::history(&mut rng, model, &Shape::SMALL[1]);
            assert_eq!(
                search::has_order(model, &ops),
                brute_force(model)(&ops),
                "{ops:#?}"
            );
        }
    }
}

/// Hundreds of operations, against porcupine.
#[test]
fn longer_lists_and_sets_agree_with_porcupine() {
    let limits = Limits {
        per_key_bytes: Some(64 << 20),
        ..Limits::NONE
    };
    for model in [Model::List, Model::Set] {
        let mut rng = SmallRng::seed_from_u64(5);
        let mut tally = Tally::default();
        let mut compared = 0;
        for _ in 0..500 {
            let mut ops = generate::history(&mut rng, model, &Shape::LONG);
            // What porcupine's adapter knows: adds, and answered reads of everything.
            if ops.iter().any(|op| matches!(op.action, Action::Remove(_))) {
                continue;
            }
            ops.retain(|op| match op.action {
                Action::Append(_) | Action::Add(_) => true,
                Action::Contains(..) => false,
                _ => op.completion.is_some(),
            });
            let decision = decide(model, &ops);
            tally.add(decision.as_ref());
            let known = Porcupine.decide(model, &ops, &limits).is_linearizable();
            if let (Some(decision), Some(known)) = (decision, known) {
                assert_eq!(
                    decision.is_linearizable(),
                    Some(known),
                    "{model:?}: {ops:#?}"
                );
                compared += 1;
            }
        }
        tally.assert_telling(&format!("{model:?}"));
        assert!(compared > 200, "{model:?}: only {compared} compared");
    }
}

/// Whatever comes in, and in whichever order, nothing panics and the order says nothing.
#[test]
fn odd_input_is_left_to_others() {
    let op = |call, completion, action| Op {
        call,
        completion,
        action,
    };
    for model in generate::MODELS {
        assert_eq!(decide(model, &[]), Some(Decision::Linearizable));
        let ops = [op(0, Some(1), Action::Write(1))];
        assert_eq!(decide(model, &ops), None, "not of the model");
        let ops = [
            op(5, Some(5), Action::Add(1)),
            op(7, Some(6), Action::Enqueue(1)),
        ];
        assert_eq!(decide(model, &ops), None, "not after its invocation");
    }
    let huge = Id::MAX;
    let cases = [
        (
            Model::List,
            vec![Action::Append(huge), Action::ReadList([huge].into())],
        ),
        (
            Model::Set,
            vec![Action::Add(huge), Action::ReadSet([huge].into())],
        ),
        (
            Model::Set,
            vec![Action::Add(huge), Action::Contains(huge, true)],
        ),
        (
            Model::Queue,
            vec![Action::Enqueue(huge), Action::Dequeue(Taken::Value(huge))],
        ),
        (
            Model::Stack,
            vec![Action::Enqueue(huge), Action::Dequeue(Taken::Value(huge))],
        ),
        (
            Model::PriorityQueue,
            vec![Action::Enqueue(huge), Action::Dequeue(Taken::Value(huge))],
        ),
    ];
    for (model, actions) in cases {
        let at = |(i, action): (usize, &Action)| {
            let call = NEVER - 10 + 2 * i as u64;
            op(call, Some(call + 1), action.clone())
        };
        let ops: Vec<Op> = actions.iter().enumerate().map(at).collect();
        assert_eq!(
            decide(model, &ops),
            Some(Decision::Linearizable),
            "{model:?}"
        );
        let ops: Vec<Op> = actions.iter().rev().enumerate().map(at).collect();
        assert_eq!(
            decide(model, &ops).and_then(|d| d.is_linearizable()),
            Some(false),
            "{model:?}"
        );
        let twice = [&actions[..1], &actions[..1], &actions[1..]].concat();
        let ops: Vec<Op> = twice.iter().enumerate().map(at).collect();
        let expected = (model == Model::Set).then_some(Decision::Linearizable);
        assert_eq!(decide(model, &ops), expected, "{model:?}");
    }
    let mut rng = SmallRng::seed_from_u64(1);
    for model in generate::MODELS {
        for _ in 0..2_000 {
            let mut ops = generate::history(&mut rng, model, &Shape::MEDIUM[1]);
            let decision = decide(model, &ops).and_then(|d| d.is_linearizable());
            for i in (1..ops.len()).rev() {
                ops.swap(i, rng.random_range(0..=i));
            }
            assert_eq!(
                decide(model, &ops).and_then(|d| d.is_linearizable()),
                decision,
                "{ops:#?}"
            );
        }
    }
}
