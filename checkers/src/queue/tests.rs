use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::testing::{Script, correct_run, ints};
use crate::{Kind, Verdict};

fn f(name: &str) -> F {
    F::from_name(name)
}

fn values(result: &CheckResult, class: &str) -> BTreeSet<i64> {
    let of_class = result.anomalies.iter().filter(|a| a.class == class);
    of_class
        .map(|a| a.figures["value"].as_i64().unwrap())
        .collect()
}

/// What the store does wrong, and with which elements it did.
#[derive(Clone, Debug, Default)]
struct Store {
    queue: VecDeque<i64>,
    /// The mistake: loses, repeats, invents or swaps.
    mistake: Option<u8>,
    count: u64,
    every: u64,
}

impl Store {
    fn errs(&mut self, mistake: u8) -> bool {
        self.count += 1;
        self.mistake == Some(mistake) && self.count.is_multiple_of(self.every)
    }

    fn take(&mut self) -> Value {
        if self.errs(2) {
            return Value::Int(1_000 + self.count as i64);
        }
        if self.errs(3) && self.queue.len() > 1 {
            self.queue.swap(0, 1);
        }
        let Some(&first) = self.queue.front() else {
            return Value::Nil;
        };
        if !self.errs(1) {
            self.queue.pop_front();
        }
        Value::Int(first)
    }

    fn apply(&mut self, f: &F, value: &Value) -> Value {
        match (f.name(), value) {
            ("enqueue", Value::Int(e)) => {
                if !self.errs(0) {
                    self.queue.push_back(*e);
                }
                value.clone()
            }
            ("dequeue", _) => self.take(),
            _ => {
                let left = std::mem::take(&mut self.queue);
                ints(&left.into_iter().collect::<Vec<_>>())
            }
        }
    }
}

/// The definitions, pair by pair.
#[derive(Debug, Default, PartialEq)]
struct Truth {
    missing: BTreeSet<i64>,
    unknown: bool,
    not_dequeued: u64,
    duplicated: BTreeSet<i64>,
    unexpected: BTreeSet<i64>,
    reordered: BTreeSet<i64>,
}

fn truth(history: &History) -> Truth {
    const NEVER: usize = usize::MAX;
    let operations = history.operations().unwrap();
    let ended = |op: &Operation<'_>| op.completed_position.unwrap_or(NEVER);
    let mut truth = Truth::default();
    let mut dequeues: BTreeMap<i64, Vec<(usize, usize, usize)>> = BTreeMap::new();
    let mut emptied: Vec<usize> = Vec::new();
    for op in &operations {
        let at = (op.invoked_position, ended(op));
        match (op.f().name(), op.result()) {
            ("dequeue", Some(Value::Int(e))) => {
                dequeues.entry(*e).or_default().push((at.0, at.1, 0));
            }
            ("dequeue", Some(_)) => emptied.push(at.0),
            ("drain", Some(all)) => {
                emptied.push(at.0);
                for (n, e) in all.items().unwrap().iter().enumerate() {
                    let e = e.as_int().unwrap();
                    dequeues.entry(e).or_default().push((at.0, at.1, n));
                }
            }
            _ => {}
        }
    }
    let last_empty = emptied.iter().max();
    let enqueues: BTreeMap<i64, &Operation<'_>> = operations
        .iter()
        .filter(|op| op.f().name() == "enqueue")
        .map(|op| (op.argument().as_int().unwrap(), op))
        .collect();
    truth.unknown = operations
        .iter()
        .any(|op| op.f().name() != "enqueue" && op.outcome == Outcome::Info);
    for (e, op) in &enqueues {
        if op.is_ok() && !dequeues.contains_key(e) {
            if last_empty.is_some_and(|empty| ended(op) < *empty) {
                truth.missing.insert(*e);
            } else {
                truth.not_dequeued += 1;
            }
        }
    }
    let good = |e: &i64| enqueues.get(e).filter(|op| op.outcome != Outcome::Fail);
    for (e, all) in &dequeues {
        match good(e) {
            Some(op) if all.iter().all(|d| d.1 > op.invoked_position) => {
                if all.len() > 1 {
                    truth.duplicated.insert(*e);
                }
            }
            _ => {
                truth.unexpected.insert(*e);
            }
        }
    }
    for (a, deqs) in &dequeues {
        for (b, others) in &dequeues {
            let (Some(x), Some(y), [deq], [other]) = (good(a), good(b), &deqs[..], &others[..])
            else {
                continue;
            };
            let same_drain = deq.0 == other.0 && other.2 < deq.2;
            if ended(x) < y.invoked_position && (other.1 < deq.0 || same_drain) {
                truth.reordered.insert(*a);
            }
        }
    }
    truth
}

#[test]
fn what_is_found_is_what_the_definitions_say() {
    let (mut totals, mut clean, mut uncertain) = ([0; 4], 0, 0);
    for seed in 0..20_000_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut store = Store {
            mistake: (seed % 2 == 0).then(|| rng.random_range(0..4)),
            every: rng.random_range(1..4),
            ..Store::default()
        };
        let mut next = 0;
        let ops = rng.random_range(3..24);
        let mut history = correct_run(
            &mut rng,
            &mut store,
            3,
            ops,
            |rng| match rng.random_range(0..10) {
                0..5 => {
                    next += 1;
                    (f("enqueue"), Value::Int(next))
                }
                5..9 => (f("dequeue"), Value::Nil),
                _ => (f("drain"), Value::Nil),
            },
            Store::apply,
        );
        // Half of the time what is unknown is known to have failed: it had no effect in this run
        // unless it was a dequeue, so only those that did not happen are left.
        let drained = rng.random_bool(0.7);
        if drained {
            let left = store.apply(&f("drain"), &Value::Nil);
            for (kind, value) in [(Kind::Invoke, Value::Nil), (Kind::Ok, left)] {
                let index = history.events.len() as u64;
                let process = crate::Process::Client(99_999);
                let f = f("drain");
                let event = crate::Event::new(index, index * 1_000_000, process, kind, f, value);
                history.events.push(event);
            }
        }
        let expected = truth(&history);
        let result = Queue { fifo: true }.check(&history);
        let context = || format!("seed {seed}: {store:?} {result:#?} {history:#?}");
        let figure = |name: &str| result.figures[name].as_u64().unwrap();
        assert_eq!(
            figure("missing"),
            expected.missing.len() as u64,
            "{}",
            context()
        );
        assert_eq!(
            figure("not_dequeued"),
            expected.not_dequeued,
            "{}",
            context()
        );
        if !expected.unknown {
            assert_eq!(values(&result, "lost"), expected.missing, "{}", context());
        }
        assert!(values(&result, "lost").is_subset(&expected.missing));
        assert_eq!(
            values(&result, "duplicated"),
            expected.duplicated,
            "{}",
            context()
        );
        assert_eq!(
            values(&result, "unexpected"),
            expected.unexpected,
            "{}",
            context()
        );
        assert_eq!(
            values(&result, "reordered"),
            expected.reordered,
            "{}",
            context()
        );
        let invalid = result.verdict == Verdict::Invalid;
        assert!(store.mistake.is_some() || !invalid, "{}", context());
        let all = [
            values(&result, "lost").len(),
            expected.duplicated.len(),
            expected.unexpected.len(),
            expected.reordered.len(),
        ];
        for (total, n) in totals.iter_mut().zip(all) {
            *total += n;
        }
        clean += u64::from(result.verdict == Verdict::Valid);
        uncertain += u64::from(matches!(result.verdict, Verdict::Unknown(_)));
        let lenient = Queue::default().check(&history);
        assert!(values(&lenient, "reordered").is_empty());
        assert!(lenient.figures["reordered"].as_u64().unwrap() >= expected.reordered.len() as u64);
    }
    assert!(totals.iter().all(|n| *n > 300), "{totals:?}");
    assert!(clean > 1_000 && uncertain > 1_000, "{clean} {uncertain}");
}

#[test]
fn what_may_still_be_in_the_queue_is_not_lost() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, f("enqueue"), 1)
        .op(1, Kind::Ok, f("enqueue"), 2)
        .client(1, Kind::Invoke, f("dequeue"), Value::Nil)
        .client(1, Kind::Ok, f("dequeue"), 1);
    let result = Queue::default().check(&s.history());
    let reason = "not-drained: 1 elements";
    assert_eq!(result.verdict, Verdict::Unknown(reason.into()));
    for (kind, error, lost) in [
        (Kind::Fail, None, 0),
        (Kind::Fail, Some(":exhausted"), 1),
        (Kind::Fail, Some("refused"), 0),
        (Kind::Ok, None, 1),
    ] {
        let mut s = s.clone();
        s.op(2, kind, f("dequeue"), Value::Nil);
        let mut history = s.history();
        history.events.last_mut().unwrap().error = error.map(Into::into);
        let result = Queue::default().check(&history);
        assert_eq!(result.figures["lost"], lost, "{kind:?} {error:?}");
        assert_eq!(result.verdict == Verdict::Invalid, lost > 0);
    }
}

#[test]
fn a_dequeue_of_unknown_outcome_may_have_taken_one() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, f("enqueue"), 1)
        .op(1, Kind::Ok, f("enqueue"), 2)
        .op(3, Kind::Info, f("dequeue"), Value::Nil)
        .client(2, Kind::Invoke, f("drain"), Value::Nil)
        .client(2, Kind::Ok, f("drain"), ints(&[1]));
    let result = Queue::default().check(&s.history());
    let reason = "dequeue-of-unknown-outcome: 1 elements missing";
    assert_eq!(result.verdict, Verdict::Unknown(reason.into()));
    let mut s = Script::new();
    s.op(1, Kind::Ok, f("enqueue"), 1)
        .op(1, Kind::Ok, f("enqueue"), 2)
        .op(3, Kind::Info, f("dequeue"), Value::Nil)
        .op(2, Kind::Ok, f("drain"), ints(&[]));
    let result = Queue::default().check(&s.history());
    assert_eq!(result.figures["lost"], 1);
    assert_eq!(result.verdict, Verdict::Invalid);
}

#[test]
fn elements_enqueued_twice_may_be_dequeued_twice() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, f("enqueue"), 1)
        .op(1, Kind::Info, f("enqueue"), 1)
        .op(2, Kind::Ok, f("drain"), ints(&[1, 1]));
    let result = Queue::default().check(&s.history());
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(result.figures["recovered"], 1);
    let mut s = Script::new();
    s.op(1, Kind::Ok, f("enqueue"), 1)
        .op(2, Kind::Ok, f("drain"), ints(&[1, 1]));
    assert_eq!(
        Queue::default().check(&s.history()).verdict,
        Verdict::Invalid
    );
}

#[test]
fn deliveries_that_the_store_marks_may_be_repetitions() {
    let taken = |marked: &[usize]| {
        let mut s = Script::new();
        s.op(1, Kind::Ok, f("enqueue"), 1);
        let mut history = s
            .client(2, Kind::Invoke, f("dequeue"), Value::Nil)
            .client(2, Kind::Ok, f("dequeue"), 1)
            .client(3, Kind::Invoke, f("drain"), Value::Nil)
            .client(3, Kind::Ok, f("drain"), ints(&[1]))
            .history();
        for &event in marked {
            history.events[event].extra = vec![(MAY_REPEAT.into(), ints(&[1]))];
        }
        Queue::default().check(&history)
    };
    let silent = taken(&[]);
    assert_eq!(silent.verdict, Verdict::Invalid);
    assert_eq!(silent.figures["repeated"], 0);
    // The first was not confirmed, or the second says that it is a repetition.
    for event in [3, 5] {
        let told = taken(&[event]);
        assert_eq!(told.verdict, Verdict::Valid, "{event}");
        assert_eq!(told.figures["repeated"], 1);
    }
}
