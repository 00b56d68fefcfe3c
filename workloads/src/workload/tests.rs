//! Workloads, run against a store of their own making.

use std::collections::{BTreeMap, BTreeSet};

use checkers::{F, Outcome, Value};
use proptest::prelude::*;

use super::*;
use crate::generator::{Context, Next};

mod kinds;
mod transactional;

/// Those whose operations are drawn one by one.
const PLAIN: [Kind; 3] = [Kind::Register, Kind::Set, Kind::Append];
use crate::operation::{Completion, Invocation, Quorum};

fn completion(outcome: Outcome, value: Value) -> Completion {
    Completion {
        outcome,
        value,
        witness: None,
        error: None,
        leader_hint: None,
        session: None,
        context: None,
    }
}

/// A correct store of registers, lists and sets.
#[derive(Default)]
struct Store(BTreeMap<Value, Vec<Value>>);

impl Store {
    fn apply(&mut self, kind: Kind, invocation: &Invocation) -> Completion {
        if let Some(completion) = kinds::apply(self, kind, invocation) {
            return completion;
        }
        let held = self
            .0
            .entry(invocation.key.clone().expect("a key"))
            .or_default();
        let last = || held.last().cloned().unwrap_or_default();
        match &invocation.f {
            F::Read if kind == Kind::Register => completion(Outcome::Ok, last()),
            F::Read => completion(Outcome::Ok, held.iter().cloned().collect()),
            F::Cas => {
                let pair = invocation.value.items().expect("a pair");
                if last() != pair[0] {
                    return completion(Outcome::Fail, invocation.value.clone());
                }
                held.push(pair[1].clone());
                completion(Outcome::Ok, invocation.value.clone())
            }
            _ => {
                held.push(invocation.value.clone());
                completion(Outcome::Ok, invocation.value.clone())
            }
        }
    }
}

/// The first operations of a workload on four threads. Every eleventh ends unknown.
fn run(workload: &mut Workload, operations: u64) -> Vec<(u32, Invocation, Completion)> {
    let mut store = Store::default();
    let mut done = Vec::new();
    for now in 0..operations {
        let context = Context {
            now,
            free: &[0, 1, 2, 3],
            threads: 4,
        };
        let Next::Op { thread, invocation } = workload.main.next(&context) else {
            panic!("a workload has no end");
        };
        let mut completion = store.apply(workload.kind, &invocation);
        if now % 11 == 0 {
            completion = self::completion(Outcome::Info, invocation.value.clone());
        }
        workload
            .main
            .completed(&context, thread, &invocation, &completion);
        done.push((thread, invocation, completion));
    }
    done
}

fn written(invocation: &Invocation) -> Option<i64> {
    match &invocation.f {
        F::Read => None,
        F::Cas => invocation.value.items()?.get(1)?.as_int(),
        _ => invocation.value.as_int(),
    }
}

fn workload(kind: Kind, parameters: &Parameters) -> Workload {
    Workload::new(kind, parameters, 7).expect("possible")
}

#[test]
fn every_written_value_is_unique_and_every_key_takes_its_share() {
    for kind in PLAIN {
        let parameters = Parameters {
            keys: Some(5),
            writes_per_key: Some(20),
            ..Parameters::default()
        };
        let mut workload = workload(kind, &parameters);
        let done = run(&mut workload, 3_000);
        let values: Vec<i64> = done.iter().filter_map(|(_, i, _)| written(i)).collect();
        let unique: BTreeSet<i64> = values.iter().copied().collect();
        assert_eq!(values.len(), unique.len());
        let mut writes: BTreeMap<Value, u32> = BTreeMap::new();
        for (_, invocation, _) in &done {
            let key = invocation.key.clone().expect("every operation has a key");
            *writes.entry(key).or_default() += u32::from(invocation.f != F::Read);
        }
        assert!(
            writes.values().all(|&count| count <= 20),
            "{kind}: {writes:?}"
        );
        let full = writes.values().filter(|&&count| count == 20).count();
        assert_eq!(
            full,
            writes.len() - 5,
            "{kind}: all but those in use are full"
        );
    }
}

#[test]
fn shares_are_as_asked_and_the_functions_are_the_workload_s() {
    for (kind, write) in [
        (Kind::Register, F::Write),
        (Kind::Set, F::Add),
        (Kind::Append, F::Append),
    ] {
        let parameters = Parameters {
            read_fraction: Some(0.25),
            local_reads: Some(true),
            ..Parameters::default()
        };
        let done = run(&mut workload(kind, &parameters), 4_000);
        let share = |f: &F| done.iter().filter(|(_, i, _)| i.f == *f).count();
        let reads = share(&F::Read);
        // Registers read a little more: a compare-and-set without a value seen reads first.
        let most = if kind == Kind::Register { 1_500 } else { 1_100 };
        assert!((900..most).contains(&reads), "{kind}: {reads}");
        assert_eq!(share(&F::Cas) > 0, kind == Kind::Register);
        let known = kind.operations(&parameters);
        assert!(known.contains(&write.name()) && known.contains(&"read"));
        assert_eq!(known.contains(&"cas"), kind == Kind::Register);
        assert_eq!(share(&F::Read) + share(&F::Cas) + share(&write), 4_000);
        assert!(done.iter().all(|(_, i, _)| i.local == (i.f == F::Read)));
    }
}

#[test]
fn compare_and_set_expects_what_its_thread_saw_last() {
    let parameters = Parameters {
        keys: Some(3),
        cas_fraction: Some(0.4),
        ..Parameters::default()
    };
    let done = run(&mut workload(Kind::Register, &parameters), 5_000);
    let mut seen: BTreeMap<(u32, Value), Value> = BTreeMap::new();
    let mut succeeded = 0;
    for (thread, invocation, completion) in done {
        let place = (thread, invocation.key.expect("a key"));
        let pair = invocation.value.items();
        if let Some([expected, _]) = pair {
            assert_eq!(seen.get(&place), Some(expected));
        }
        match completion.outcome {
            Outcome::Ok => {
                succeeded += u32::from(invocation.f == F::Cas);
                let value = pair.map_or(completion.value.clone(), |pair| pair[1].clone());
                seen.insert(place, value);
            }
            _ => drop(seen.remove(&place)),
        }
    }
    assert!(succeeded > 1_000, "{succeeded} compare-and-sets succeeded");
}

#[test]
fn a_seed_gives_one_run() {
    for kind in Kind::ALL {
        let defaults = Parameters::default();
        let go = |seed| {
            run(
                &mut Workload::new(kind, &defaults, seed).expect("possible"),
                500,
            )
        };
        assert_eq!(go(1), go(1));
        assert_ne!(go(1), go(2));
    }
}

#[test]
fn final_reads_cover_every_key_touched_and_only_those() {
    for kind in [
        PLAIN.as_slice(),
        &[Kind::Conflict, Kind::Counter, Kind::Calendar],
    ]
    .concat()
    {
        let parameters = Parameters {
            keys: Some(50),
            writes_per_key: Some(2),
            local_reads: Some(true),
            ..Parameters::default()
        };
        let mut workload = workload(kind, &parameters);
        assert_eq!(workload.final_reads().left(), 0);
        let done = run(&mut workload, 60);
        let touched: BTreeSet<Value> = done.into_iter().filter_map(|(_, i, _)| i.key).collect();
        let mut reads = workload.final_reads();
        assert_eq!(reads.left(), touched.len());
        let context = Context {
            now: 0,
            free: &[1],
            threads: 4,
        };
        let mut read = BTreeSet::new();
        while let Next::Op { thread, invocation } = reads.next(&context) {
            assert!(invocation.f == F::Read && !invocation.local);
            reads.completed(
                &context,
                thread,
                &invocation,
                &completion(Outcome::Ok, Value::Nil),
            );
            assert!(read.insert(invocation.key.expect("a key")), "read twice");
        }
        assert_eq!(read, touched);
        assert_eq!(reads.left(), 0);
    }
}

#[test]
fn a_final_read_is_repeated_until_it_succeeds_or_was_tried_enough() {
    let key = |name| Value::str(name);
    let all = Quorum {
        r: Some(3),
        ..Quorum::default()
    };
    let mut reads = FinalReads::new(vec![key("a"), key("b")])
        .with_attempts(3)
        .with_quorum(all);
    let mut tried: BTreeMap<Value, u32> = BTreeMap::new();
    let mut threads = Vec::new();
    let mut now = 0;
    loop {
        let context = Context {
            now,
            free: &[0, 2],
            threads: 3,
        };
        match reads.next(&context) {
            Next::Op { thread, invocation } => {
                threads.push(thread);
                assert_eq!(invocation.quorum, all);
                let attempts = tried
                    .entry(invocation.key.clone().expect("a key"))
                    .or_default();
                *attempts += 1;
                let outcome = match (invocation.key == Some(key("a")), *attempts) {
                    (true, 2) => Outcome::Ok,
                    (true, _) => Outcome::Fail,
                    (false, _) => Outcome::Info,
                };
                // The late completion of an earlier phase changes nothing.
                let mut stray = invocation.clone();
                stray.key = Some(key("elsewhere"));
                reads.completed(
                    &context,
                    thread,
                    &stray,
                    &completion(Outcome::Ok, Value::Nil),
                );
                reads.completed(
                    &context,
                    thread,
                    &invocation,
                    &completion(outcome, Value::Nil),
                );
            }
            Next::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Next::Exhausted => break,
        }
    }
    assert_eq!(tried, [(key("a"), 2), (key("b"), 3)].into());
    assert_eq!(threads, [0, 2, 0, 2, 0], "they take turns");
    let given_up: Vec<_> = reads
        .given_up()
        .iter()
        .map(|read| read.key.clone())
        .collect();
    assert_eq!(given_up, [Some(key("b"))]);
}

#[test]
fn a_read_under_way_is_waited_for() {
    let mut reads = FinalReads::new(vec![Value::str("a")]);
    let context = Context {
        now: 0,
        free: &[0, 1],
        threads: 2,
    };
    assert!(matches!(reads.next(&context), Next::Op { .. }));
    assert_eq!(reads.next(&context), Next::Wait(u64::MAX));
}

#[test]
fn impossible_parameters_are_refused() {
    let cases = [
        (Kind::Register, r#"{"keys": 0}"#, "keys: 0"),
        (Kind::Register, r#"{"keys": 2000000}"#, "at most"),
        (
            Kind::Append,
            r#"{"writes_per_key": 0}"#,
            "writes_per_key: 0",
        ),
        (Kind::Set, r#"{"read_fraction": 1.5}"#, "read_fraction: 1.5"),
        (Kind::Set, r#"{"read_fraction": -0.1}"#, "from 0 to 1"),
        (
            Kind::Append,
            r#"{"cas_fraction": 0.1}"#,
            "cas_fraction: append has no such parameter; expected one of keys, read_fraction",
        ),
        (
            Kind::Register,
            r#"{"resolve": true}"#,
            "resolve: register has no",
        ),
        (
            Kind::Conflict,
            r#"{"data": "list"}"#,
            "data: conflict has no",
        ),
        (
            Kind::Counter,
            r#"{"decrement_fraction": 2}"#,
            "decrement_fraction: 2",
        ),
        (
            Kind::Text,
            r#"{"remove_fraction": 0.1}"#,
            "only with editing: crdt",
        ),
        (
            Kind::Register,
            r#"{"read_fraction": 0.8, "cas_fraction": 0.3}"#,
            "at most 1",
        ),
    ];
    for (kind, json, expected) in cases {
        let parameters: Parameters = serde_json::from_str(json).expect(json);
        let error = Workload::new(kind, &parameters, 1).expect_err(json);
        assert!(error.to_string().contains(expected), "{json}: {error}");
    }
    assert!(serde_json::from_str::<Parameters>(r#"{"key": 3}"#).is_err());
}

#[test]
fn the_catalogue_is_complete_and_its_defaults_are_possible() {
    let all = catalogue();
    assert_eq!(all.len(), Kind::ALL.len());
    for (entry, kind) in all.iter().zip(Kind::ALL) {
        assert_eq!(entry.name.parse(), Ok(kind));
        entry.parameters.validate(kind).expect("possible");
        assert!(!entry.checkers.is_empty() && !entry.description.contains('\n'));
        let json = serde_json::to_string(&entry.parameters).expect("writable");
        let read: Parameters = serde_json::from_str(&json).expect("readable");
        assert_eq!(read, entry.parameters);
        assert_eq!(read.resolved(kind), read);
    }
    assert!("registers".parse::<Kind>().is_err());
}

proptest! {
    /// Whatever the parameters: operations go to free threads and unique values are written.
    #[test]
    fn operations_are_well_formed(
        kind in 0_usize..3,
        keys in 1_u32..40,
        read in 0.0_f64..1.0,
        writes in 1_u32..80,
        seed in any::<u64>(),
    ) {
        let kind = PLAIN[kind];
        let parameters = Parameters {
            keys: Some(keys),
            read_fraction: Some(read),
            cas_fraction: (kind == Kind::Register).then_some((1.0 - read) / 2.0),
            writes_per_key: Some(writes),
            ..Parameters::default()
        };
        let mut workload = Workload::new(kind, &parameters, seed).expect("possible");
        let done = run(&mut workload, 300);
        let values: Vec<i64> = done.iter().filter_map(|(_, i, _)| written(i)).collect();
        let unique: BTreeSet<i64> = values.iter().copied().collect();
        prop_assert_eq!(values.len(), unique.len());
        prop_assert!(done.iter().all(|(thread, _, _)| *thread < 4));
    }
}

#[test]
fn every_workload_is_judged_by_checkers_that_there_are() {
    for kind in Kind::ALL {
        let known = |name: &&str| checkers::by_name(name).is_some();
        assert!(kind.checkers().iter().all(known), "{kind}");
        let inspected = kind.checkers().contains(&"convergence");
        assert_eq!(inspected, !kind.is_transactional(), "{kind}");
    }
}
