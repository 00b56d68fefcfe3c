use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::brute_force::BruteForce;
use super::super::porcupine::Porcupine;
use super::*;

/// What a random history is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kind {
    /// Chances, in percent: of a compare-and-set among the writes, of no answer, of a refused
    /// compare-and-set among the others.
    cas: u32,
    pending: u32,
    pub(super) refused: u32,
    clients: usize,
}

/// A history as a register gives it, in which then one or two things may be made wrong. Values are
/// unique.
pub(super) fn random_ops(rng: &mut SmallRng, kind: Kind, max: usize) -> Vec<Op> {
    struct Open {
        op: usize,
        done: bool,
    }
    let chance = |rng: &mut SmallRng, percent: u32| rng.random_range(0..100) < percent;
    let count = rng.random_range(1..=max);
    let mut ops: Vec<Op> = Vec::new();
    let mut clients: Vec<Option<Open>> = (0..kind.clients).map(|_| None).collect();
    let (mut held, mut next, mut now) = (NIL, 1, 0);
    while ops.len() < count || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..kind.clients);
        now += 1;
        match &mut clients[c] {
            None if ops.len() == count => {}
            slot @ None => {
                *slot = Some(Open {
                    op: ops.len(),
                    done: false,
                });
                let action = if chance(rng, 45) {
                    Action::Read(NIL)
                } else if chance(rng, kind.refused) {
                    Action::CasRefused(rng.random_range(0..next))
                } else {
                    next += 1;
                    if chance(rng, kind.cas) {
                        // Of what is held now, or will be soon, mostly.
                        Action::Cas(held.max(rng.random_range(0..next - 1)), next - 1)
                    } else {
                        Action::Write(next - 1)
                    }
                };
                ops.push(Op {
                    call: now,
                    completion: None,
                    action,
                });
            }
            Some(open) if !open.done => {
                open.done = true;
                let op = &mut ops[open.op];
                let lost = chance(rng, kind.pending) && !matches!(op.action, Action::CasRefused(_));
                let answered = match &mut op.action {
                    Action::Read(value) => {
                        *value = held;
                        true
                    }
                    Action::CasRefused(value) => *value != held,
                    _ if lost && chance(rng, 50) => false,
                    Action::Write(value) => {
                        held = *value;
                        !lost
                    }
                    Action::Cas(old, new) if *old == held => {
                        held = *new;
                        !lost
                    }
                    _ => false,
                };
                // Remembers that the answer will come.
                op.completion = answered.then_some(0);
            }
            Some(open) => {
                let op = &mut ops[open.op];
                op.completion = op.completion.map(|_| now);
                clients[c] = None;
            }
        }
    }
    for _ in 0..rng.random_range(0..5) {
        spoil(rng, &mut ops, next);
    }
    // Without answer they say nothing.
    ops.retain(|op| op.completion.is_some() || writes(&op.action));
    ops
}

fn spoil(rng: &mut SmallRng, ops: &mut [Op], next: Id) {
    let i = rng.random_range(0..ops.len());
    let other = rng.random_range(0..next + 1);
    match &mut ops[i].action {
        Action::Read(value) | Action::CasRefused(value) | Action::Cas(value, _) => *value = other,
        // Somebody answers sooner, or begins later.
        _ => {
            if let Some(end) = ops[i].completion {
                let (from, to) = (ops[i].call, end);
                let taken = |at: u64| ops.iter().any(|o| o.call == at || o.completion == Some(at));
                let free = (from + 1..to).find(|at| !taken(*at));
                match (free, rng.random_bool(0.5)) {
                    (Some(at), true) => ops[i].completion = Some(at),
                    (Some(at), false) => ops[i].call = at,
                    (None, _) => {}
                }
            }
        }
    }
}

const PLAIN: Kind = Kind {
    cas: 0,
    pending: 0,
    refused: 0,
    clients: 4,
};

pub(super) const KINDS: [(&str, Kind); 6] = [
    ("plain", PLAIN),
    ("with cas", Kind { cas: 50, ..PLAIN }),
    (
        "with pending",
        Kind {
            pending: 40,
            ..PLAIN
        },
    ),
    (
        "with both",
        Kind {
            cas: 60,
            pending: 40,
            ..PLAIN
        },
    ),
    (
        "chains",
        Kind {
            cas: 95,
            pending: 30,
            refused: 0,
            clients: 3,
        },
    ),
    (
        "refused",
        Kind {
            cas: 30,
            pending: 15,
            refused: 50,
            clients: 3,
        },
    ),
];

fn sub_history(ops: &[Op], core: &[usize]) -> Vec<Op> {
    core.iter().map(|&i| ops[i].clone()).collect()
}

const ROUNDS: u32 = 100_000;

#[test]
fn agrees_with_trying_every_order() {
    for (name, kind) in KINDS {
        let mut rng = SmallRng::seed_from_u64(11);
        let (mut linearizable, mut undecided) = (0, 0);
        for round in 0..ROUNDS {
            let ops = random_ops(&mut rng, kind, 7);
            let expected = BruteForce.decide(Model::Register, &ops, &Limits::NONE);
            let expected = expected.is_linearizable().unwrap();
            linearizable += u32::from(expected);
            let Some(decided) = decide(&ops) else {
                undecided += 1;
                continue;
            };
            let here = format!("{name}, round {round}: {ops:#?}");
            assert_eq!(decided.is_linearizable(), Some(expected), "{here}");
            if let Decision::NotLinearizable(refutation) = decided {
                let core = sub_history(&ops, &refutation.core);
                let alone = BruteForce.decide(Model::Register, &core, &Limits::NONE);
                assert_eq!(alone.is_linearizable(), Some(false), "{core:#?} of {here}");
                let by = refutation.by.unwrap();
                let before: Vec<Op> = ops.iter().filter(|o| o.call <= by).cloned().collect();
                let before: Vec<Op> = before
                    .into_iter()
                    .map(|mut op| {
                        op.completion = op.completion.filter(|end| *end <= by);
                        op
                    })
                    .filter(|op| op.completion.is_some() || writes(&op.action))
                    .collect();
                let alone = BruteForce.decide(Model::Register, &before, &Limits::NONE);
                assert_eq!(alone.is_linearizable(), Some(false), "by {by} of {here}");
            }
        }
        let share = f64::from(linearizable) / f64::from(ROUNDS);
        assert!((0.2..0.8).contains(&share), "{name}: {share} linearizable");
        let share = f64::from(undecided) / f64::from(ROUNDS);
        let most = if kind.refused > 0 { 0.3 } else { 0.0 };
        assert!(share <= most, "{name}: {share} undecided");
    }
}

fn writes(action: &Action) -> bool {
    matches!(action, Action::Write(_) | Action::Cas(..))
}

/// Values that are not in the order of their writers, with great numbers.
#[test]
fn numbers_of_values_do_not_matter() {
    let kind = KINDS[3].1;
    let mut rng = SmallRng::seed_from_u64(5);
    for _ in 0..2_000 {
        let ops = random_ops(&mut rng, kind, 9);
        let renumbered = |value: Id| match value {
            NIL => NIL,
            value => Id::MAX - value.wrapping_mul(2_654_435_761) % 1_000_003,
        };
        let mut others = ops.clone();
        for op in &mut others {
            match &mut op.action {
                Action::Read(v) | Action::Write(v) => *v = renumbered(*v),
                Action::Cas(old, new) => (*old, *new) = (renumbered(*old), renumbered(*new)),
                _ => {}
            }
        }
        others.reverse();
        let decided = |ops: &[Op]| decide(ops).unwrap().is_linearizable();
        assert_eq!(decided(&ops), decided(&others));
    }
}

#[test]
fn agrees_with_porcupine_on_longer_histories() {
    for (name, kind) in KINDS {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut linearizable, mut decided, rounds) = (0, 0, 1_500);
        for round in 0..rounds {
            let max = rng.random_range(20..=60);
            let ops = random_ops(&mut rng, kind, max);
            let Some(found) = decide(&ops).and_then(|d| d.is_linearizable()) else {
                continue;
            };
            let limits = Limits {
                per_key: None,
                per_key_bytes: Some(1 << 22),
                ..Limits::NONE
            };
            let expected = Porcupine.decide(Model::Register, &ops, &limits);
            // It gives up on many unanswered ones.
            let Some(expected) = expected.is_linearizable() else {
                continue;
            };
            assert_eq!(found, expected, "{name}, round {round}: {ops:#?}");
            decided += 1;
            linearizable += u32::from(found);
        }
        let share = f64::from(linearizable) / f64::from(decided);
        assert!((0.1..0.9).contains(&share), "{name}: {share} linearizable");
        assert!(decided > rounds / 3, "{name}: {decided} decided");
    }
}

/// Pending writes with the values of others, self-sets, and writes of the initial value.
#[test]
fn only_unique_values_are_decided() {
    let op = |call, completion, action| Op {
        call,
        completion,
        action,
    };
    let twice = [
        op(0, Some(1), Action::Write(1)),
        op(2, None, Action::Write(1)),
    ];
    assert_eq!(decide(&twice), None);
    assert_eq!(decide(&[op(0, None, Action::Cas(2, NIL))]), None);
    assert_eq!(decide(&[op(0, Some(1), Action::Append(1))]), None);
    let reason = Zones.decide(Model::Register, &twice, &Limits::NONE);
    assert_eq!(reason, Decision::unknown(NOT_UNIQUE));
    let far = [op(u64::MAX - 1, Some(u64::MAX), Action::Read(NIL))];
    assert_eq!(decide(&far), None);
    let itself = [
        op(0, Some(1), Action::Write(1)),
        op(2, Some(3), Action::Cas(1, 1)),
        op(4, None, Action::Cas(7, 7)),
    ];
    assert_eq!(decide(&itself), Some(Decision::Linearizable));
    assert_eq!(
        decide(&itself[1..]).unwrap().is_linearizable(),
        Some(false),
        "1 was never written"
    );
    assert_eq!(decide(&[]), Some(Decision::Linearizable));
}

/// A stale read is shown by three operations, one of the initial value by two.
#[test]
fn the_core_is_small() {
    let write = |at: u64, value| Op {
        call: at,
        completion: Some(at + 1),
        action: Action::Write(value),
    };
    let read = |at: u64, value| Op {
        call: at,
        completion: Some(at + 1),
        action: Action::Read(value),
    };
    let mut ops: Vec<Op> = (0..1000)
        .flat_map(|n| [write(10 * n, n as Id + 1), read(10 * n + 5, n as Id + 1)])
        .collect();
    assert_eq!(decide(&ops), Some(Decision::Linearizable));
    ops.push(read(6002, 500));
    let Some(Decision::NotLinearizable(refutation)) = decide(&ops) else {
        panic!("a stale read passed");
    };
    assert_eq!(refutation.core.len(), 3, "{refutation:?}");
    ops.pop();
    ops.push(read(6002, NIL));
    let Some(Decision::NotLinearizable(refutation)) = decide(&ops) else {
        panic!("a stale read passed");
    };
    assert_eq!(refutation.core.len(), 2, "{refutation:?}");
}

#[test]
fn neighbours_are_found_from_anywhere() {
    let sorted: Vec<u32> = (0..50).map(|n| 2 * n).collect();
    for near in 0..=50 {
        for at in 0..102 {
            let expected = sorted.partition_point(|n| *n < at);
            assert_eq!(decide::first_from(&sorted, near, |n| *n >= at), expected);
        }
    }
}
