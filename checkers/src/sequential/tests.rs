//! The search against trying every interleaving.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::{Event, Kind, Process, Value};

/// A history of up to 8 operations of up to 3 processes on up to 2 keys of one kind, nearly
/// sequential: operations take effect in some interleaving, and some results are replaced.
fn any_history(rng: &mut SmallRng, kind: &str) -> History {
    let processes = rng.random_range(1..=3_u64);
    let keys = rng.random_range(1..=2_i64);
    let values = if rng.random_bool(0.5) { 3 } else { 100 };
    let wrong = rng.random_range(0.0..0.7);
    let mut held: Vec<Vec<i64>> = vec![Vec::new(); keys as usize];
    let mut events: Vec<Event> = Vec::new();
    let mut open = vec![true; processes as usize];
    let mut ops: Vec<Vec<[Event; 2]>> = vec![Vec::new(); processes as usize];
    for n in 0..rng.random_range(2..=8) {
        let p = rng.random_range(0..processes);
        if !open[p as usize] {
            continue;
        }
        let key = rng.random_range(0..keys);
        let state = &mut held[key as usize];
        let unique = if values == 3 {
            rng.random_range(1..=3)
        } else {
            n + 1
        };
        let guess = rng.random_range(0..=if values == 3 { 3 } else { n });
        let items = |items: &[i64]| items.iter().copied().map(Value::Int).collect::<Value>();
        let outcome = match rng.random_range(0..10) {
            0 => Kind::Info,
            1 => Kind::Fail,
            _ => Kind::Ok,
        };
        let happens = outcome == Kind::Ok || outcome == Kind::Info && rng.random_bool(0.5);
        let odd = rng.random_bool(wrong);
        let (f, argument, result) = match (kind, rng.random_range(0..5)) {
            ("register", 0) => {
                let held_now = state.last().copied().unwrap_or(0);
                let old = if odd { guess } else { held_now };
                if happens {
                    *state = vec![unique];
                }
                let old = if old == 0 {
                    Value::Nil
                } else {
                    Value::Int(old)
                };
                let both: Value = [old, Value::Int(unique)].into_iter().collect();
                (F::Cas, both.clone(), both)
            }
            ("register", 1 | 2) => {
                if happens {
                    *state = vec![unique];
                }
                (F::Write, Value::Int(unique), Value::Int(unique))
            }
            ("register", _) => {
                let shown = if odd {
                    guess
                } else {
                    state.last().copied().unwrap_or(0)
                };
                let shown = if shown == 0 {
                    Value::Nil
                } else {
                    Value::Int(shown)
                };
                (F::Read, Value::Nil, shown)
            }
            ("list", 0..=2) => {
                if happens {
                    state.push(unique);
                }
                (F::Append, Value::Int(unique), Value::Int(unique))
            }
            ("set", 0..=2) => {
                let remove = rng.random_bool(0.2);
                if happens {
                    state.retain(|&v| v != unique);
                    if !remove {
                        state.push(unique);
                    }
                }
                let f = if remove { F::Remove } else { F::Add };
                (f, Value::Int(unique), Value::Int(unique))
            }
            ("list" | "set", _) => {
                let mut shown = state.clone();
                if odd {
                    shown.pop();
                    if rng.random_bool(0.3) {
                        shown.push(guess);
                    }
                }
                (F::Read, Value::Nil, items(&shown))
            }
            (_, 0..=2) => {
                let by = rng.random_range(-1..=2);
                if happens {
                    state.push(by);
                }
                (F::Increment, Value::Int(by), Value::Int(by))
            }
            _ => {
                let sum = state.iter().sum::<i64>() + i64::from(odd);
                (F::Read, Value::Nil, Value::Int(sum))
            }
        };
        open[p as usize] = outcome != Kind::Info;
        let event = |kind, value| {
            let mut event = Event::new(0, 0, Process::Client(p), kind, f.clone(), value);
            event.key = Some(Value::Int(key));
            event
        };
        ops[p as usize].push([event(Kind::Invoke, argument), event(outcome, result)]);
    }
    // The events of the processes in any interleaving: real time must not matter.
    let mut at = vec![0; processes as usize];
    loop {
        let left: Vec<usize> = (0..at.len())
            .filter(|&p| at[p] < 2 * ops[p].len())
            .collect();
        if left.is_empty() {
            break;
        }
        let p = left[rng.random_range(0..left.len())];
        let mut event = ops[p][at[p] / 2][at[p] % 2].clone();
        event.index = events.len() as u64;
        event.time = event.index;
        events.push(event);
        at[p] += 1;
    }
    History { events }
}

/// Whether some interleaving explains all, as plainly as possible.
fn by_definition(operations: &[Operation<'_>]) -> bool {
    let mut left: Vec<usize> = (0..operations.len())
        .filter(|&op| operations[op].outcome != crate::Outcome::Fail)
        .collect();
    interleaves(operations, &mut left, &mut Vec::new())
}

fn interleaves(operations: &[Operation<'_>], left: &mut Vec<usize>, done: &mut Vec<usize>) -> bool {
    if left.iter().all(|&op| !operations[op].is_ok()) {
        return true;
    }
    for i in 0..left.len() {
        let op = left[i];
        let own = |&o: &usize| operations[o].process() == operations[op].process();
        if left[..i].iter().any(own) || !fits(operations, op, done) {
            continue;
        }
        left.remove(i);
        done.push(op);
        let found = interleaves(operations, left, done);
        done.pop();
        left.insert(i, op);
        if found {
            return true;
        }
    }
    false
}

/// Whether an operation fits after those done.
fn fits(operations: &[Operation<'_>], op: usize, done: &[usize]) -> bool {
    let op = &operations[op];
    let on_key = done
        .iter()
        .map(|&o| &operations[o])
        .filter(|o| o.key() == op.key());
    let mut register = Value::Nil;
    let mut items: Vec<Value> = Vec::new();
    let mut sum = 0;
    for done in on_key {
        let argument = done.argument().clone();
        match done.f() {
            F::Write => register = argument,
            F::Cas => register = argument.items().unwrap()[1].clone(),
            F::Append => items.push(argument),
            F::Add | F::Remove => {
                items.retain(|v| v != &argument);
                if done.f() == &F::Add {
                    items.push(argument);
                    items.sort();
                }
            }
            F::Increment => sum += argument.as_int().unwrap(),
            _ => {}
        }
    }
    match (op.f(), op.result()) {
        (F::Cas, _) => op.argument().items().unwrap()[0] == register,
        (F::Read, Some(Value::Int(shown))) => register == Value::Int(*shown) || sum == *shown,
        (F::Read, Some(Value::Nil)) => register == Value::Nil,
        (F::Read, Some(shown)) => {
            let mut shown: Vec<Value> = shown.items().unwrap().to_vec();
            if operations
                .iter()
                .any(|o| matches!(o.f(), F::Add | F::Remove))
            {
                shown.sort();
                shown.dedup();
            }
            shown == items
        }
        _ => true,
    }
}

#[test]
fn histories_are_decided_as_the_definition_says() {
    let mut rng = SmallRng::seed_from_u64(3);
    for (kind, cases) in [
        ("register", 60_000),
        ("list", 20_000),
        ("set", 20_000),
        ("counter", 20_000),
    ] {
        let mut counts = [0; 2];
        for case in 0..cases {
            let history = any_history(&mut rng, kind);
            let operations = history.operations().unwrap();
            let increments = operations.iter().any(|op| op.f() == &F::Increment);
            if kind == "counter" && !increments {
                // Nothing tells that it is a counter.
                continue;
            }
            let Ok(encoded) = encode::encode(&operations) else {
                continue;
            };
            let expected = by_definition(&operations);
            let found = search(&encoded.problem, 1_000_000);
            let interleaves = matches!(found, Found::Interleaving(_));
            assert_eq!(interleaves, expected, "case {case}: {found:?}");
            let result = Sequential::default().check(&history);
            let invalid = result.verdict == Verdict::Invalid;
            if result.judged > 0 {
                assert_eq!(invalid, !expected, "case {case}: {result:#?}");
            }
            counts[usize::from(expected)] += 1;
        }
        println!("{kind}: {counts:?}");
        assert!(
            counts.iter().all(|&count| count > cases / 10),
            "{kind}: {counts:?}"
        );
    }
}
