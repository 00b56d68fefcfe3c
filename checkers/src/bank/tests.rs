use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::testing::{Script, correct_run};
use crate::{Kind, Verdict};

fn transfer() -> F {
    F::from_name("transfer")
}

fn map(pairs: impl IntoIterator<Item = (i64, Value)>) -> Value {
    let pairs = pairs.into_iter().map(|(k, v)| (Value::Int(k), v));
    Value::Map(pairs.collect())
}

fn moved(from: i64, to: i64, amount: i64) -> Value {
    let pairs = [("from", from), ("to", to), ("amount", amount)];
    let pairs = pairs.map(|(k, v)| (Value::Keyword(k.into()), Value::Int(v)));
    Value::Map(pairs.into())
}

fn run(rng: &mut SmallRng) -> History {
    let mut accounts = [20_i64, 0, 0, 0];
    let ops = rng.random_range(4..30);
    correct_run(
        rng,
        &mut accounts,
        3,
        ops,
        |rng| {
            if rng.random_bool(0.5) {
                return (F::Read, Value::Nil);
            }
            let (from, to) = (rng.random_range(0..4), rng.random_range(0..4));
            (transfer(), moved(from, to, rng.random_range(1..6)))
        },
        |accounts, f, value| {
            if f == &F::Read {
                return map(accounts
                    .iter()
                    .enumerate()
                    .map(|(a, b)| (a as i64, Value::Int(*b))));
            }
            let Value::Map(fields) = value else {
                return Value::Nil;
            };
            let field = |i: usize| fields[i].1.as_int().unwrap();
            let (from, to, amount) = (field(0) as usize, field(1) as usize, field(2));
            if accounts[from] >= amount {
                accounts[from] -= amount;
                accounts[to] += amount;
            }
            value.clone()
        },
    )
}

#[test]
fn planted_mistakes_are_found_and_nothing_else() {
    let mut seen = [0; 5];
    for seed in 0..10_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut history = run(&mut rng);
        let mut reads: Vec<usize> = (0..history.events.len())
            .filter(|&i| history.events[i].f == F::Read && history.events[i].kind == Kind::Ok)
            .collect();
        // Told, half of the time; otherwise most reads must be right.
        let is_told = rng.random_bool(0.5);
        let bank = Bank {
            total: is_told.then_some(20),
            accounts: is_told.then(|| (0..4).map(Value::Int).collect()),
            ..Bank::default()
        };
        let mut expected = BTreeSet::new();
        let planted = match reads.len() {
            0 => 0,
            n if is_told => rng.random_range(0..=n.min(3)),
            n => rng.random_range(0..=(n - 1) / 2),
        };
        reads.shuffle(&mut rng);
        for &at in &reads[..planted] {
            let index = history.events[at].index;
            let Value::Map(pairs) = &history.events[at].value else {
                panic!()
            };
            let mut pairs: Vec<(Value, Value)> = pairs.to_vec();
            let a = rng.random_range(0..4);
            let balance = pairs[a].1.as_int().unwrap();
            let class = match rng.random_range(0..6) {
                0 => {
                    pairs[a].1 = Value::Int(balance + 1);
                    "wrong-total"
                }
                1 => {
                    let b = (a + 1) % 4;
                    pairs[b].1 = Value::Int(pairs[b].1.as_int().unwrap() + balance + 3);
                    pairs[a].1 = Value::Int(-3);
                    "negative-balance"
                }
                2 => {
                    pairs[a].1 = Value::Nil;
                    "missing-account"
                }
                3 => {
                    pairs.remove(a);
                    "missing-account"
                }
                4 => {
                    pairs.push((Value::Int(9), Value::Int(0)));
                    "unexpected-account"
                }
                _ => {
                    pairs[a].1 = Value::Int(balance.wrapping_sub(i64::MAX));
                    expected.insert((index, "negative-balance".to_owned()));
                    "wrong-total"
                }
            };
            expected.insert((index, class.to_owned()));
            history.events[at].value = Value::Map(pairs.into());
        }
        let result = bank.check(&history);
        let operations = history.operations().unwrap();
        let completion = |invoke: u64| {
            let op = operations.iter().find(|op| op.invoke.index == invoke);
            op.unwrap().complete.unwrap().index
        };
        let found: BTreeSet<(u64, String)> = result
            .anomalies
            .iter()
            .map(|a| (completion(a.ops[0]), a.class.clone()))
            .collect();
        assert_eq!(found, expected, "seed {seed}: {result:#?}");
        let verdict = match (expected.is_empty(), reads.is_empty()) {
            (false, _) => Verdict::Invalid,
            (true, true) => Verdict::Unknown("nothing-to-judge".to_owned()),
            (true, false) => Verdict::Valid,
        };
        assert_eq!(result.verdict, verdict, "seed {seed}");
        for (n, (_, class)) in CLASSES.iter().enumerate() {
            seen[n] += expected.iter().filter(|(_, c)| c == class).count();
        }
        seen[4] += usize::from(verdict == Verdict::Valid);
    }
    assert!(seen.iter().all(|n| *n > 1_000), "{seen:?}");
}

#[test]
fn a_total_is_inferred_and_said_to_be() {
    let mut s = Script::new();
    let read = |a: i64, b: i64| map([(0, Value::Int(a)), (1, Value::Int(b))]);
    s.op(1, Kind::Ok, F::Read, read(9, 1))
        .op(1, Kind::Ok, F::Read, read(5, 4))
        .op(1, Kind::Ok, transfer(), moved(0, 1, 4))
        .op(1, Kind::Ok, F::Read, read(10, -1));
    let result = Bank::default().check(&s.history());
    assert_eq!(result.figures["total"], 9);
    assert_eq!(result.figures["total_inferred"], true);
    assert_eq!(result.figures["total_max"], 10);
    assert_eq!(
        result.anomalies[0].summary,
        "the read of the object by process 1 (answered at 0.001 s) shows 10 in all accounts \
         instead of 9: +1"
    );
    assert_eq!(result.figures["negative_balance"], 1);
    let allowed = Bank {
        negative_balances: true,
        total: Some(9),
        ..Bank::default()
    };
    assert_eq!(allowed.check(&s.history()).figures["negative_balance"], 0);
    assert_eq!(allowed.check(&s.history()).verdict, Verdict::Invalid);
}

#[test]
fn what_else_may_change_balances_is_unknown() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Read, map([(0, Value::Int(1))])).op(
        1,
        Kind::Fail,
        F::from_name("deposit"),
        3,
    );
    assert_eq!(Bank::default().check(&s.history()).verdict, Verdict::Valid);
    s.op(1, Kind::Info, F::from_name("deposit"), 3);
    let reason = "unknown-function: `deposit` at event 4";
    let verdict = Bank::default().check(&s.history()).verdict;
    assert_eq!(verdict, Verdict::Unknown(reason.into()));
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Read, map([(0, Value::str("much"))]));
    let verdict = Bank::default().check(&s.history()).verdict;
    let reason = "unreadable-read (1 reads); nothing-to-judge";
    assert_eq!(verdict, Verdict::Unknown(reason.into()));
}
