use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::auto::Auto;
use super::brute_force::BruteForce;
use super::porcupine::Porcupine;
use super::*;

/// A random history of a few operations that overlap, biased towards plausible results: reads
/// return what some order of the writes could leave, more often than not.
fn random_ops(rng: &mut SmallRng, model: Model) -> Vec<Op> {
    let count = rng.random_range(1..=BruteForce::MAX_OPS);
    let mut instants: Vec<u64> = (0..2 * count as u64).collect();
    for i in (1..instants.len()).rev() {
        // Swaps over short distances: longer ones make everything overlap.
        let j = i - rng.random_range(0..=i.min(3));
        instants.swap(i, j);
    }
    let mut held: Vec<Id> = Vec::new();
    let mut text = String::new();
    (0..count)
        .map(|i| {
            let (a, b) = (instants[2 * i], instants[2 * i + 1]);
            let value = rng.random_range(0..3);
            let changes = rng.random_bool(0.55);
            let action = match model {
                Model::Register if changes => match rng.random_range(0..4) {
                    0 | 1 => Action::Write(value),
                    2 => Action::Cas(rng.random_range(0..3), value),
                    _ => Action::CasRefused(value),
                },
                Model::Register => Action::Read(value),
                Model::List if changes => Action::Append(value),
                Model::Set if changes => Action::Add(value),
                Model::List => {
                    let shown = rng.random_range(0..=held.len());
                    Action::ReadList(held[..shown].into())
                }
                Model::Set => {
                    let shown = rng.random_range(0..=held.len());
                    let mut shown = held[..shown].to_vec();
                    shown.sort_unstable();
                    shown.dedup();
                    Action::ReadSet(shown.into())
                }
                Model::Text if changes && rng.random_bool(0.2) => {
                    Action::Put(value.to_string().into())
                }
                Model::Text if changes => Action::AppendText(value.to_string().into()),
                _ => Action::Get(text.as_str().into()),
            };
            match &action {
                Action::Append(e) | Action::Add(e) => held.push(*e),
                Action::Put(t) => text = t.to_string(),
                Action::AppendText(t) => text.push_str(t),
                _ => {}
            }
            let returns = matches!(
                action,
                Action::Read(_)
                    | Action::ReadList(_)
                    | Action::ReadSet(_)
                    | Action::Get(_)
                    | Action::CasRefused(_)
            );
            let pending = !returns && rng.random_bool(0.2);
            Op {
                call: a.min(b),
                completion: (!pending).then_some(a.max(b)),
                action,
            }
        })
        .collect()
}

const UNLIMITED: Limits = Limits::NONE;

const ROUNDS: u32 = 30_000;

#[test]
fn agrees_with_trying_every_order() {
    for model in [Model::Register, Model::List, Model::Set, Model::Text] {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut linearizable = 0;
        for round in 0..ROUNDS {
            let ops = random_ops(&mut rng, model);
            let expected = BruteForce.decide(model, &ops, &UNLIMITED);
            let decided = Porcupine.decide(model, &ops, &UNLIMITED);
            assert_eq!(
                decided.is_linearizable(),
                expected.is_linearizable(),
                "{model:?}, round {round}: {ops:#?}"
            );
            let decided = Auto.decide(model, &ops, &UNLIMITED);
            assert_eq!(
                decided.is_linearizable(),
                expected.is_linearizable(),
                "{model:?}, round {round}: {ops:#?}"
            );
            linearizable += u32::from(expected == Decision::Linearizable);
        }
        // Both answers must be frequent, or the comparison says little.
        let share = f64::from(linearizable) / f64::from(ROUNDS);
        assert!(
            (0.1..0.9).contains(&share),
            "{model:?}: {share} linearizable"
        );
    }
}

/// Many concurrent writes and a read of what nobody wrote: every subset must be tried.
fn hard() -> Vec<Op> {
    let mut ops: Vec<Op> = (0..40)
        .map(|i| Op {
            call: i,
            completion: Some(1000 + i),
            action: Action::Write(i as Id + 1),
        })
        .collect();
    ops.push(Op {
        call: 2000,
        completion: Some(2001),
        action: Action::Read(99),
    });
    ops
}

#[test]
fn a_spent_budget_is_unknown() {
    let time = Limits {
        per_key: Some(Duration::from_millis(20)),
        ..Limits::NONE
    };
    let decision = Porcupine.decide(Model::Register, &hard(), &time);
    assert_eq!(decision, Decision::unknown("budget: 0.02 s"));
    let memory = Limits {
        per_key: None,
        per_key_bytes: Some(8 << 20),
        ..Limits::NONE
    };
    let decision = Porcupine.decide(Model::Register, &hard(), &memory);
    assert_eq!(
        decision,
        Decision::unknown("budget: 8 MiB of search states")
    );
}

#[test]
fn an_operation_outside_the_model_is_unknown() {
    let ops = [Op {
        call: 0,
        completion: Some(1),
        action: Action::Append(1),
    }];
    for engine in [&Porcupine as &dyn Engine, &Auto, &BruteForce] {
        let decision = engine.decide(Model::Register, &ops, &UNLIMITED);
        assert!(matches!(decision, Decision::Unknown(_)));
    }
}
