//! The workloads of transactions.

use super::*;
use crate::transaction::{self, ACCOUNTS, Micro, Transfer};

fn issued(kind: Kind, json: &str, operations: u64) -> (Workload, Vec<Invocation>) {
    let parameters: Parameters = serde_json::from_str(json).expect(json);
    let mut workload = workload(kind, &parameters);
    let issued = (0..operations).map(|now| {
        let context = Context {
            now,
            free: &[0, 1, 2],
            threads: 3,
        };
        match workload.main.next(&context) {
            Next::Op { invocation, .. } => invocation,
            other => panic!("a workload has no end: {other:?}"),
        }
    });
    let issued = issued.collect();
    (workload, issued)
}

fn micro(invocation: &Invocation) -> Vec<Micro> {
    assert_eq!(invocation.f, transaction::txn());
    assert_eq!(invocation.key, None);
    Micro::all(&invocation.value).expect("micro-operations")
}

#[test]
fn transactions_are_short_and_write_each_value_once_to_its_key() {
    for kind in [Kind::ListAppend, Kind::RwRegister] {
        let (workload, issued) = issued(kind, r#"{"writes_per_key": 20}"#, 4_000);
        let mut writes: BTreeMap<Value, Vec<i64>> = BTreeMap::new();
        let (mut reading, mut lengths) = (0, BTreeSet::new());
        for invocation in &issued {
            let micro = micro(invocation);
            lengths.insert(micro.len());
            assert_eq!(
                invocation.only_reads(),
                micro.iter().all(Micro::is_read),
                "{invocation:?}"
            );
            reading += usize::from(invocation.only_reads());
            for micro in micro {
                let (key, value) = match (kind, micro) {
                    (_, Micro::Read(_)) => continue,
                    (Kind::ListAppend, Micro::Append(key, value))
                    | (Kind::RwRegister, Micro::Write(key, value)) => (key, value),
                    (_, other) => panic!("{kind}: {other:?}"),
                };
                assert!(key.as_int().is_some());
                let value = value.as_int().expect("a number");
                writes.entry(key).or_default().push(value);
            }
        }
        assert_eq!(lengths, (1..=4).collect());
        assert!((1_000..1_500).contains(&reading), "{kind}: {reading}");
        for (key, values) in &writes {
            let expected: Vec<i64> = (1..=values.len() as i64).collect();
            assert_eq!(*values, expected, "{key}");
            assert!(values.len() <= 20);
        }
        // Few keys at a time, and fresh ones for those that have taken their share.
        let full = writes.values().filter(|values| values.len() == 20).count();
        assert!(full > 100 && writes.len() - full <= 5, "{full}");

        let mut last = workload.final_reads();
        let mut read = BTreeSet::new();
        while let Next::Op { thread, invocation } = last.next(&Context {
            now: 0,
            free: &[0],
            threads: 1,
        }) {
            assert!(invocation.only_reads());
            read.extend(micro(&invocation).iter().map(Micro::key).cloned());
            let context = Context {
                now: 0,
                free: &[0],
                threads: 1,
            };
            let done = completion(Outcome::Ok, invocation.value.clone());
            last.completed(&context, thread, &invocation, &done);
        }
        assert_eq!(last.left(), 0);
        assert!(writes.keys().all(|key| read.contains(key)));
    }
}

#[test]
fn registers_are_often_read_by_who_overwrites_them() {
    let (_, issued) = issued(Kind::RwRegister, "{}", 2_000);
    let replaced = issued.iter().filter(|invocation| {
        let micro = micro(invocation);
        micro
            .windows(2)
            .any(|pair| pair[0].is_read() && !pair[1].is_read() && pair[0].key() == pair[1].key())
    });
    assert!(replaced.count() > 300);
}

#[test]
fn transfers_are_between_two_accounts_and_all_are_read() {
    let (workload, issued) = issued(Kind::Bank, "{}", 2_000);
    let (mut reads, mut named) = (0, BTreeSet::new());
    for invocation in &issued {
        assert_eq!(invocation.key, None);
        if invocation.f == F::Read {
            assert!(invocation.value.is_nil());
            reads += 1;
            continue;
        }
        assert_eq!(invocation.f, transaction::transfer());
        let transfer = Transfer::of(&invocation.value).expect("a transfer");
        assert_ne!(transfer.from, transfer.to);
        assert!((1..=5).contains(&transfer.amount));
        named.extend([transfer.from, transfer.to]);
    }
    assert!((900..1_100).contains(&reads), "{reads}");
    assert_eq!(named, (0..ACCOUNTS).map(Value::Int).collect());
    assert_eq!(workload.final_reads().left(), 1);
}
