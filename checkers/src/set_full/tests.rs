use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::testing::{Script, correct_run, ints};
use crate::{F, Kind, Outcome, Value, Verdict};

const NEVER: usize = usize::MAX;

fn check(history: &History) -> CheckResult {
    SetFull::default().check(history)
}

fn elements(result: &CheckResult, class: &str) -> BTreeSet<i64> {
    let of_class = result.anomalies.iter().filter(|a| a.class == class);
    of_class
        .map(|a| a.figures["value"].as_i64().unwrap())
        .collect()
}

/// The definitions, read by read and element by element.
#[derive(Debug, Default, PartialEq)]
struct Truth {
    lost: BTreeSet<i64>,
    phantom: BTreeSet<i64>,
    duplicated: BTreeSet<i64>,
    unexpected: BTreeSet<i64>,
    resurrected: BTreeSet<i64>,
    stale: BTreeSet<i64>,
    never_read: u64,
    reappeared: u64,
    recovered: u64,
    removed: u64,
    stable: u64,
}

fn truth(history: &History, list: bool) -> Truth {
    let operations = history.operations().unwrap();
    let ended = |op: &Operation<'_>| op.completed_position.unwrap_or(NEVER);
    let reads: Vec<(usize, usize, Vec<i64>)> = operations
        .iter()
        .filter(|op| op.f() == &F::Read && op.is_ok())
        .map(|op| {
            let items = op.result().unwrap().items().unwrap();
            let items = items.iter().map(|v| v.as_int().unwrap()).collect();
            (op.invoked_position, ended(op), items)
        })
        .collect();
    let mut all: BTreeSet<i64> = reads.iter().flat_map(|r| r.2.iter().copied()).collect();
    all.extend(
        operations
            .iter()
            .filter(|op| op.f().is_write())
            .filter_map(|op| op.argument().as_int()),
    );
    let mut truth = Truth::default();
    for e in all {
        let of = |f: F| {
            operations
                .iter()
                .filter(move |op| op.f() == &f && op.argument() == &Value::Int(e))
        };
        let writes: Vec<_> = of(if list { F::Append } else { F::Add }).collect();
        let possible: Vec<_> = writes
            .iter()
            .filter(|op| op.outcome != Outcome::Fail)
            .collect();
        let allowed = if list { possible.len().max(1) } else { 1 };
        let times = |r: &(usize, usize, Vec<i64>)| r.2.iter().filter(|x| **x == e).count();
        if reads.iter().any(|r| times(r) > allowed) {
            truth.duplicated.insert(e);
        }
        let showing: Vec<_> = reads.iter().filter(|r| times(r) > 0).collect();
        let first_write = possible.iter().map(|op| op.invoked_position).min();
        if showing.iter().any(|r| first_write.is_none_or(|w| w > r.1)) {
            if possible.is_empty() && !writes.is_empty() {
                truth.phantom.insert(e);
            } else {
                truth.unexpected.insert(e);
            }
        }
        let Some(write) = first_write else { continue };
        let acknowledged = possible
            .iter()
            .filter(|op| op.is_ok())
            .map(|op| ended(op))
            .min();
        let Some(last) = reads.last() else {
            truth.never_read += u64::from(acknowledged.is_some());
            continue;
        };
        let known = showing.iter().map(|r| r.1).chain(acknowledged).min();
        let Some(known) = known else { continue };
        let removed_before = |until: usize| {
            of(F::Remove).any(|r| {
                r.outcome != Outcome::Fail && ended(r) > write && r.invoked_position < until
            })
        };
        let in_last = times(last) > 0;
        truth.recovered += u64::from(in_last && acknowledged.is_none());
        let gone = last.0 > known && showing.iter().all(|r| r.1 < last.0);
        if gone {
            if removed_before(last.1) {
                truth.removed += 1;
            } else if acknowledged.is_some() {
                truth.lost.insert(e);
            } else {
                truth.phantom.insert(e);
            }
            continue;
        }
        let written_until = possible.iter().map(|op| ended(op)).max().unwrap();
        let taken = of(F::Remove)
            .any(|r| r.is_ok() && r.invoked_position > written_until && ended(r) < last.0);
        if in_last && taken {
            truth.resurrected.insert(e);
        }
        if showing.is_empty() {
            truth.never_read += 1;
            continue;
        }
        truth.stable += 1;
        let missing = |r: &&(usize, usize, Vec<i64>)| times(r) == 0;
        let again = reads
            .iter()
            .filter(missing)
            .any(|m| showing.iter().any(|s| s.1 < m.0) && showing.iter().any(|s| s.0 > m.1));
        truth.reappeared += u64::from(again && !removed_before(NEVER));
        let last_missing = reads.iter().rev().find(missing);
        if last_missing.is_some_and(|m| m.0 > known && !removed_before(m.1)) {
            truth.stale.insert(e);
        }
    }
    truth
}

fn found(result: &CheckResult) -> Truth {
    let figure = |name: &str| result.figures[name].as_u64().unwrap();
    Truth {
        lost: elements(result, "lost"),
        phantom: elements(result, "phantom"),
        duplicated: elements(result, "duplicated"),
        unexpected: elements(result, "unexpected"),
        resurrected: elements(result, "resurrected"),
        stale: elements(result, "stale"),
        never_read: figure("never_read"),
        reappeared: figure("reappeared"),
        recovered: figure("recovered"),
        removed: figure("removed"),
        stable: figure("stable"),
    }
}

/// A run without mistakes; elements are written once, or twice.
fn run(rng: &mut SmallRng, list: bool, removes: bool) -> History {
    let mut next_element = 0;
    let mut contents: Vec<i64> = Vec::new();
    let sorted = rng.random_bool(0.5);
    let ops = rng.random_range(3..22);
    correct_run(
        rng,
        &mut contents,
        3,
        ops,
        |rng| match rng.random_range(0..8) {
            0..4 => (F::Read, Value::Nil),
            4 if removes && next_element > 0 => {
                (F::Remove, Value::Int(rng.random_range(0..next_element)))
            }
            n => {
                next_element += 1;
                let again = n == 5 && next_element > 1;
                let e = if again {
                    rng.random_range(0..next_element - 1)
                } else {
                    next_element - 1
                };
                (if list { F::Append } else { F::Add }, Value::Int(e))
            }
        },
        |contents, f, value| {
            match (f, value) {
                (F::Append, Value::Int(e)) => contents.push(*e),
                (F::Add, Value::Int(e)) if !contents.contains(e) => contents.push(*e),
                (F::Remove, Value::Int(e)) => contents.retain(|x| x != e),
                (F::Read, _) => {
                    let mut shown = contents.clone();
                    if sorted && !list {
                        shown.sort_unstable();
                    }
                    return ints(&shown);
                }
                _ => {}
            }
            value.clone()
        },
    )
}

/// Damages some reads.
fn damage(rng: &mut SmallRng, history: &mut History) {
    let shows = |e: &crate::Event| e.f == F::Read && e.kind == Kind::Ok;
    let reads: Vec<usize> = (0..history.events.len())
        .filter(|&i| shows(&history.events[i]))
        .collect();
    for _ in 0..rng.random_range(1..4) {
        let Some(&at) = reads.choose(rng) else { return };
        let items = history.events[at].value.items().unwrap();
        let mut items: Vec<i64> = items.iter().filter_map(Value::as_int).collect();
        match rng.random_range(0..4) {
            0 => items.truncate(items.len().saturating_sub(rng.random_range(1..3))),
            1 if !items.is_empty() => {
                items.remove(rng.random_range(0..items.len()));
            }
            2 => items.push(rng.random_range(0..10)),
            _ => items.insert(0, rng.random_range(0..10)),
        }
        history.events[at].value = ints(&items);
    }
}

#[test]
fn what_is_found_is_what_the_definitions_say() {
    let classes = |t: &Truth| {
        [
            t.lost.len(),
            t.phantom.len(),
            t.duplicated.len(),
            t.unexpected.len(),
            t.resurrected.len(),
            t.stale.len(),
            t.reappeared as usize,
            t.recovered as usize,
            t.removed as usize,
            t.never_read as usize,
        ]
    };
    let (mut totals, mut valid, mut invalid) = ([0; 10], 0, 0);
    for seed in 0..20_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let list = seed % 3 == 0;
        let mut history = run(&mut rng, list, seed % 2 == 0);
        // A key that is only read is no set.
        if history.events.iter().all(|e| !e.f.is_write()) {
            continue;
        }
        let damaged = rng.random_bool(0.7);
        if damaged {
            damage(&mut rng, &mut history);
        }
        let linearizable = SetFull { linearizable: true };
        let result = linearizable.check(&history);
        let expected = truth(&history, list);
        assert_eq!(found(&result), expected, "seed {seed}: {history:#?}");
        let strict = result.verdict == Verdict::Invalid;
        assert!(damaged || !strict, "seed {seed}: {result:#?} {history:#?}");
        let lenient = check(&history);
        let counted = lenient.figures["stale"].as_u64();
        assert_eq!(counted, Some(expected.stale.len() as u64));
        let only_stale = result.anomalies.iter().all(|a| a.class == "stale");
        assert_eq!(lenient.verdict == Verdict::Invalid, strict && !only_stale);
        for (total, n) in totals.iter_mut().zip(classes(&expected)) {
            *total += n;
        }
        valid += u64::from(lenient.verdict == Verdict::Valid);
        invalid += u64::from(lenient.verdict == Verdict::Invalid);
    }
    assert!(totals.iter().all(|n| *n > 20), "{totals:?}");
    assert!(valid > 4_000 && invalid > 4_000, "{valid} and {invalid}");
}

#[test]
fn an_element_is_stale_until_the_last_read_that_misses_it_began() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Add, 2)
        .op(2, Kind::Ok, F::Read, ints(&[2]))
        .op(2, Kind::Ok, F::Read, ints(&[]))
        .op(2, Kind::Ok, F::Read, ints(&[2, 1]));
    let result = check(&s.history());
    assert_eq!(result.verdict, Verdict::Valid);
    // Acknowledged at 1 and 3 ms, still missed by the read that began at 6 ms.
    assert_eq!(result.figures["stale"], 2);
    assert_eq!(result.figures["stale_ms_p50"], 3.0);
    assert_eq!(result.figures["stale_ms_max"], 5.0);
    let strict = SetFull { linearizable: true }.check(&s.history());
    assert_eq!(strict.verdict, Verdict::Invalid);
    assert_eq!(strict.anomalies[0].ops, [0, 6]);
}

#[test]
fn nothing_read_is_unknown_and_so_is_a_last_read_that_is_not_final() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Add, 1);
    let result = check(&s.history());
    assert_eq!(result.verdict, Verdict::Unknown("nothing-to-judge".into()));
    assert_eq!(result.figures["never_read"], 1);
    for (phase, verdict) in [
        ("main", Verdict::Unknown("final-read-missing".to_owned())),
        ("final", Verdict::Invalid),
    ] {
        let mut s = Script::new();
        s.nemesis("phase", "main")
            .op(1, Kind::Ok, F::Add, 1)
            .nemesis("phase", phase)
            .op(1, Kind::Ok, F::Read, ints(&[]));
        assert_eq!(check(&s.history()).verdict, verdict);
    }
}

#[test]
fn keys_are_judged_on_their_own_and_what_cannot_be_read_is_unknown() {
    let mut s = Script::new();
    s.key("a")
        .op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Read, ints(&[1]));
    s.key("b")
        .op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Read, "what");
    let result = check(&s.history());
    let reason = "unreadable-read (1 keys)".to_owned();
    assert_eq!(result.verdict, Verdict::Unknown(reason));
    s.op(1, Kind::Ok, F::Read, ints(&[]));
    let result = check(&s.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].key, Some(Value::str("b")));
    assert_eq!(
        result.anomalies[0].summary,
        "lost: the add of 1 to key b by process 1 (answered at 0.005 s), but it is missing from \
         the later read of key b by process 1 (answered at 0.009 s), and no read shows it after \
         that"
    );
}
