use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::porcupine::Porcupine;
use super::tests::{KINDS, random_ops};
use super::*;
use crate::Value;

fn value(id: Id) -> Value {
    match id {
        NIL => Value::Nil,
        id => Value::Int(i64::from(id)),
    }
}

/// Watches the operations: each is a process of its own. The processes of pending ones say so as soon
/// as they can, at random, or never.
fn watch(rng: &mut SmallRng, ops: &[Op], room: usize) -> (Online, usize) {
    let mut watch = Watch::with_room(room);
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        events.push((2 * op.call, i, false));
        let unknown = 2 * op.call + 1 + 2 * rng.random_range(0..12);
        match op.completion {
            Some(end) => events.push((2 * end, i, true)),
            None if rng.random_bool(0.7) => events.push((unknown, i, true)),
            None => {}
        }
    }
    events.sort_unstable();
    let mut most = 0;
    for (_, i, ends) in events {
        let process = i as u64;
        match (&ops[i].action, ends) {
            (Action::Read(_), false) => watch.invoke(process, Request::Read),
            (Action::Write(v), false) => watch.invoke(process, Request::Write(&value(*v))),
            (Action::Cas(old, new), false) => {
                watch.invoke(process, Request::Cas(&value(*old), &value(*new)));
            }
            (Action::Read(shown), true) => watch.answer(process, Answer::Shown(&value(*shown))),
            _ if ops[i].completion.is_some() => watch.answer(process, Answer::Done),
            _ => watch.answer(process, Answer::Unknown),
        }
        most = most.max(watch.remembered());
    }
    (watch.look(), most)
}

#[test]
fn what_is_forgotten_does_not_matter() {
    for (name, kind) in KINDS.iter().filter(|(_, kind)| kind.refused == 0) {
        let mut rng = SmallRng::seed_from_u64(53);
        let (mut valid, rounds) = (0, 20_000);
        for round in 0..rounds {
            let max = [8, 16, 60][round % 3];
            let ops = random_ops(&mut rng, *kind, max);
            let room = rng.random_range(0..6);
            let (found, _) = watch(&mut rng, &ops, room);
            let expected = decide(&ops).unwrap().is_linearizable().unwrap();
            let here = format!("{name}, round {round}, room {room}: {found:?}, {ops:#?}");
            assert_eq!(found == Online::Linearizable, expected, "{here}");
            assert!(found != Online::Unknown, "{here}");
            valid += u32::from(expected);
        }
        let share = f64::from(valid) / rounds as f64;
        assert!((0.1..0.9).contains(&share), "{name}: {share} valid");
    }
}

/// Values come again after a while; the oracle does not need them to be unique.
#[test]
fn forgotten_values_may_come_again() {
    let kind = KINDS[1].1;
    let mut rng = SmallRng::seed_from_u64(59);
    let (mut valid, mut decided, rounds) = (0, 0, 3_000);
    for round in 0..rounds {
        let mut ops = random_ops(&mut rng, kind, 60);
        let again = |v: Id| if v == NIL { NIL } else { 1 + v % 9 };
        for op in &mut ops {
            match &mut op.action {
                Action::Read(v) | Action::Write(v) => *v = again(*v),
                Action::Cas(old, new) => (*old, *new) = (again(*old), again(*new)),
                _ => {}
            }
        }
        let (found, _) = watch(&mut rng, &ops, 0);
        if found == Online::Unknown {
            continue;
        }
        let limits = Limits {
            per_key_bytes: Some(1 << 22),
            ..Limits::NONE
        };
        let expected = Porcupine.decide(Model::Register, &ops, &limits);
        let Some(expected) = expected.is_linearizable() else {
            continue;
        };
        let here = format!("round {round}: {found:?}, {ops:#?}");
        assert_eq!(found == Online::Linearizable, expected, "{here}");
        decided += 1;
        valid += u32::from(expected);
    }
    let share = f64::from(valid) / f64::from(decided);
    assert!((0.1..0.9).contains(&share), "{share} valid");
    assert!(decided > rounds / 4, "{decided} decided");
}

#[test]
fn memory_follows_what_is_under_way() {
    for (cas, clients, unanswered) in [(false, 5, 0), (true, 5, 0), (true, 50, 0), (true, 5, 100)] {
        let mut watch = Watch::with_room(0);
        let mut rng = SmallRng::seed_from_u64(61);
        let (mut held, mut most) = (0_i64, 0);
        let value = |n: i64| if n == 0 { Value::Nil } else { Value::Int(n) };
        // The value written or expected of each client; what it is to be told.
        let mut open: Vec<Option<(i64, bool)>> = vec![None; clients];
        for n in 1..=40_000_i64 {
            let c = rng.random_range(0..clients);
            let process = c as u64;
            match open[c].take() {
                Some((shown, false)) => watch.answer(process, Answer::Shown(&value(shown))),
                Some((_, true)) => watch.answer(process, Answer::Done),
                None if rng.random_bool(0.4) => {
                    watch.invoke(process, Request::Read);
                    open[c] = Some((held, false));
                }
                None if unanswered > 0 && n % (40_000 / unanswered) == 0 => {
                    watch.invoke(process, Request::Write(&value(-n)));
                    watch.answer(process, Answer::Unknown);
                }
                None => {
                    if cas && rng.random_bool(0.9) {
                        watch.invoke(process, Request::Cas(&value(held), &value(n)));
                    } else {
                        watch.invoke(process, Request::Write(&value(n)));
                    }
                    held = n;
                    open[c] = Some((n, true));
                }
            }
            most = most.max(watch.remembered());
        }
        assert_eq!(watch.look(), Online::Linearizable);
        let unseen = usize::try_from(unanswered).unwrap();
        assert!(most < 40 * clients + 3 * unseen, "{cas} {clients}: {most}");
    }
}

#[test]
fn what_does_not_pair_is_unknown() {
    let mut watch = Watch::default();
    watch.answer(1, Answer::Done);
    assert_eq!(watch.look(), Online::Unknown);
    let mut watch = Watch::default();
    watch.invoke(1, Request::Read);
    watch.invoke(1, Request::Read);
    assert_eq!(watch.look(), Online::Unknown);
    let one = Value::Int(1);
    let mut watch = Watch::default();
    watch.invoke(1, Request::Write(&one));
    watch.answer(1, Answer::Failed);
    watch.invoke(1, Request::Write(&one));
    assert_eq!(watch.look(), Online::Linearizable, "the first failed");
    watch.invoke(2, Request::Write(&one));
    assert_eq!(watch.look(), Online::Unknown);
    let mut watch = Watch::default();
    watch.invoke(1, Request::Write(&one));
    watch.invoke(2, Request::Read);
    watch.answer(2, Answer::Shown(&one));
    watch.answer(1, Answer::Failed);
    assert_eq!(watch.look(), Online::NotLinearizable(3), "it was seen");
}
