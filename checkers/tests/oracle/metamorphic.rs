//! What must not matter to a verdict, and what must.

use std::collections::BTreeSet;

use checkers::{CheckResult, Value, Verdict};
use checkers::{Checker, Event, F, History, Kind, LostWrites, Process, SplitBrain, StaleReads};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::setups;
use crate::store::{self, Collection, KEYS, Run, Setup};

const CHECKERS: [&dyn Checker; 3] = [&LostWrites, &StaleReads, &SplitBrain];

/// A share of the runs: every one is checked several times.
fn runs() -> impl Iterator<Item = (Setup, u64, Run)> {
    setups()
        .filter(|(_, seed)| seed % 3 == 0)
        .map(|(setup, seed)| (setup, seed, store::run(setup, seed)))
}

/// What was found, without the words.
fn findings(result: &CheckResult) -> Vec<(String, Option<Value>, Vec<u64>)> {
    let anomalies = result.anomalies.iter();
    anomalies
        .map(|a| (a.class.clone(), a.key.clone(), a.ops.clone()))
        .collect()
}

fn write_of(setup: Setup) -> F {
    match setup.collection {
        None => F::Write,
        Some(Collection::List) => F::Append,
        Some(Collection::Set) => F::Add,
    }
}

/// Puts the two events of an operation somewhere in between, in this order.
fn insert(rng: &mut SmallRng, history: &mut History, mut op: [Event; 2], last: bool) {
    let mut at = history.events.len();
    for event in op.iter_mut().rev() {
        if !last {
            at = rng.random_range(0..=at);
        }
        let before = at.checked_sub(1).map(|i| &history.events[i]);
        event.index = before.map_or(0, |e| e.index + 1);
        event.time = before.map_or(0, |e| e.time);
        history.events.insert(at, event.clone());
    }
    // The first event of all has the index 0 already; whoever came before it moves the others.
    let mut next = 0;
    for event in &mut history.events {
        event.index = event.index.max(next);
        next = event.index + 1;
    }
}

fn op(process: u64, kind: Kind, f: &F, key: i64, argument: Value, result: Value) -> [Event; 2] {
    [(Kind::Invoke, argument), (kind, result)].map(|(kind, value)| {
        let mut event = Event::new(0, 0, Process::Client(process), kind, f.clone(), value);
        event.key = Some(Value::Int(key));
        if kind == Kind::Ok {
            event.node = Some("n0".into());
            event.epoch = Some(1_000);
        }
        event
    })
}

#[test]
fn failed_operations_change_nothing() {
    let mut rng = SmallRng::seed_from_u64(3);
    for (setup, seed, run) in runs() {
        let mut more = run.history.clone();
        // Indexes leave room between events, not before the first one.
        for event in &mut more.events {
            event.index += store::STRIDE;
        }
        let before = more.clone();
        for i in 0..4 {
            let key = rng.random_range(0..KEYS as i64 + 1);
            let (f, argument) = match i {
                0 => (F::Read, Value::Nil),
                _ => (
                    write_of(setup),
                    Value::Int(rng.random_range(10_000..20_000)),
                ),
            };
            let failed = op(1_000 + i, Kind::Fail, &f, key, argument.clone(), argument);
            insert(&mut rng, &mut more, failed, false);
        }
        for checker in CHECKERS {
            let (was, is) = (checker.check(&before), checker.check(&more));
            assert_eq!(
                was,
                is,
                "{}: {setup:?}, seed {seed}: {more:#?}",
                checker.name()
            );
        }
    }
}

#[test]
fn another_key_changes_nothing_of_these() {
    let mut rng = SmallRng::seed_from_u64(4);
    for (setup, seed, run) in runs() {
        let mut more = run.history.clone();
        let key = KEYS as i64;
        let held = match setup.collection {
            None => Value::Int(1),
            Some(_) => [Value::Int(1)].into_iter().collect(),
        };
        let write = op(1_000, Kind::Ok, &write_of(setup), key, 1.into(), 1.into());
        let read = op(1_000, Kind::Ok, &F::Read, key, Value::Nil, held);
        insert(&mut rng, &mut more, write, true);
        insert(&mut rng, &mut more, read, true);
        for checker in [&LostWrites as &dyn Checker, &StaleReads] {
            let (was, is) = (checker.check(&run.history), checker.check(&more));
            assert_eq!(findings(&was), findings(&is), "{setup:?}, seed {seed}");
            match was.verdict {
                Verdict::Unknown(why) if why == "nothing-to-judge" => {
                    assert_eq!(is.verdict, Verdict::Valid);
                }
                verdict => assert_eq!(is.verdict, verdict, "{setup:?}, seed {seed}"),
            }
        }
    }
}

#[test]
fn names_of_processes_and_nodes_do_not_matter() {
    for (setup, seed, run) in runs() {
        let mut renamed = run.history.clone();
        for event in &mut renamed.events {
            if let Process::Client(n) = event.process {
                event.process = Process::Client(1_000_000 - 7 * n);
            }
            event.node = event.node.take().map(|n| format!("host-{n}").into());
        }
        for checker in CHECKERS {
            let (was, is) = (checker.check(&run.history), checker.check(&renamed));
            assert_eq!(was.verdict, is.verdict, "{setup:?}, seed {seed}");
            assert_eq!(findings(&was), findings(&is), "{setup:?}, seed {seed}");
        }
    }
}

fn without(history: &History, index: u64) -> History {
    let mut rest = history.clone();
    let at = rest.events.iter().position(|e| e.index == index);
    let at = at.expect("an anomaly names its operations");
    let process = rest.events[at].process.clone();
    let completion = rest.events[at + 1..]
        .iter()
        .position(|e| e.process == process);
    let completion = completion.expect("what is judged has completed") + at + 1;
    rest.events.remove(completion);
    rest.events.remove(at);
    rest
}

#[test]
fn an_anomaly_goes_away_with_its_operation() {
    let mut removed = 0;
    for (setup, seed, run) in runs() {
        let was = LostWrites.check(&run.history);
        for (i, anomaly) in was.anomalies.iter().enumerate() {
            let id = run.ops[run.op(anomaly.ops[0])].write.unwrap_or_default();
            let seen = (0..KEYS)
                .flat_map(|key| run.reads(key))
                .any(|r| run.ops[r].lineage.contains(&id));
            if anomaly.class != "lost" || seen {
                continue;
            }
            let mut expected = findings(&was);
            expected.remove(i);
            let is = LostWrites.check(&without(&run.history, anomaly.ops[0]));
            assert_eq!(findings(&is), expected, "{setup:?}, seed {seed}");
            removed += 1;
        }
        let was = StaleReads.check(&run.history);
        let reads = |result: &CheckResult| -> BTreeSet<u64> {
            result.anomalies.iter().map(|a| a.ops[1]).collect()
        };
        for &read in &reads(&was) {
            let is = reads(&StaleReads.check(&without(&run.history, read)));
            let mut rest = reads(&was);
            rest.remove(&read);
            assert!(is.is_subset(&rest), "{setup:?}, seed {seed}");
            removed += 1;
        }
    }
    assert!(removed > 300, "{removed} anomalies removed");
}
