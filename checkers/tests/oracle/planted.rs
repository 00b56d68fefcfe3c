//! Small stores of one copy, correct but for one planted mistake: `siblings`, `counter` and
//! `mutual-exclusion` say nothing of them without it, and with it what its definition, read off
//! every pair of operations, says.

use std::collections::{BTreeMap, BTreeSet};

use checkers::{Checker, Counter, Event, F, History, Kind, MutualExclusion, Process, Siblings};
use checkers::{Value, Verdict};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const CLIENTS: usize = 3;
const RUNS: u64 = 1_500;

/// What becomes of an operation: invoked, taking effect, completed.
trait Store {
    /// An operation of a client: function, argument and, if it replaces, what it has seen.
    fn next(&mut self, rng: &mut SmallRng, client: u64) -> (F, Value, Option<Vec<i64>>);

    /// It takes effect, or not: the outcome and the result.
    fn serve(&mut self, rng: &mut SmallRng, op: &Op) -> (Kind, Value);
}

#[derive(Clone, Debug)]
struct Op {
    client: u64,
    f: F,
    argument: Value,
    seen: Option<Vec<i64>>,
    invoked: usize,
    /// `None`: open for ever.
    completed: Option<usize>,
    kind: Kind,
    result: Value,
}

impl Op {
    fn possible(&self) -> bool {
        self.kind != Kind::Fail
    }

    fn number(&self) -> i64 {
        self.argument.as_int().unwrap()
    }
}

struct Run {
    history: History,
    ops: Vec<Op>,
}

fn record(history: &mut History, process: u64, kind: Kind, f: &F, value: Value) -> usize {
    let index = history.events.len() as u64;
    let client = Process::Client(process);
    let mut event = Event::new(index, index * 1_000, client, kind, f.clone(), value);
    event.key = Some(Value::str("k"));
    history.events.push(event);
    index as usize
}

/// Operations of several clients, interleaved, then one final read.
fn run(store: &mut dyn Store, rng: &mut SmallRng, count: usize) -> Run {
    let mut run = Run {
        history: History::default(),
        ops: Vec::new(),
    };
    // By client: the process, and the operation that is open, with whether it was served.
    let mut clients: Vec<(u64, Option<(usize, bool)>)> =
        (0..CLIENTS as u64).map(|c| (c, None)).collect();
    let mut late: Vec<usize> = Vec::new();
    while run.ops.len() < count || clients.iter().any(|(_, open)| open.is_some()) {
        let c = rng.random_range(0..CLIENTS);
        let process = clients[c].0;
        match clients[c].1 {
            None if run.ops.len() >= count => {}
            None => {
                let (f, argument, seen) = store.next(rng, process);
                let at = record(
                    &mut run.history,
                    process,
                    Kind::Invoke,
                    &f,
                    argument.clone(),
                );
                if let Some(seen) = &seen {
                    let seen = seen.iter().copied().map(Value::Int).collect();
                    run.history.events[at].extra.push(("seen".into(), seen));
                }
                clients[c].1 = Some((run.ops.len(), false));
                run.ops.push(Op {
                    client: process,
                    f,
                    argument,
                    seen,
                    invoked: at,
                    completed: None,
                    kind: Kind::Info,
                    result: Value::Nil,
                });
            }
            Some((op, false)) if rng.random_bool(0.1) => {
                // Nobody waits for it any more.
                let f = run.ops[op].f.clone();
                record(&mut run.history, process, Kind::Info, &f, Value::Nil);
                late.push(op);
                clients[c] = (process + CLIENTS as u64, None);
            }
            Some((op, false)) => {
                let (kind, result) = store.serve(rng, &run.ops[op]);
                (run.ops[op].kind, run.ops[op].result) = (kind, result);
                clients[c].1 = Some((op, true));
            }
            Some((op, true)) => {
                let (kind, f) = (run.ops[op].kind, run.ops[op].f.clone());
                let value = run.ops[op].result.clone();
                let at = record(&mut run.history, process, kind, &f, value);
                run.ops[op].completed = Some(at);
                clients[c].1 = None;
            }
        }
        if !late.is_empty() && rng.random_bool(0.1) {
            let op = late.swap_remove(0);
            store.serve(rng, &run.ops[op]);
        }
    }
    let read = F::Read;
    let invoked = record(&mut run.history, 99, Kind::Invoke, &read, Value::Nil);
    let mut last = Op {
        client: 99,
        f: read,
        argument: Value::Nil,
        seen: None,
        invoked,
        completed: None,
        kind: Kind::Ok,
        result: Value::Nil,
    };
    (_, last.result) = store.serve(rng, &last);
    let value = last.result.clone();
    last.completed = Some(record(&mut run.history, 99, Kind::Ok, &F::Read, value));
    run.ops.push(last);
    run
}

/// A register that keeps siblings.
#[derive(Default)]
struct Register {
    state: BTreeSet<i64>,
    gone: BTreeSet<i64>,
    written: i64,
    /// Whether a mistake is planted.
    planted: bool,
}

impl Store for Register {
    fn next(&mut self, rng: &mut SmallRng, _: u64) -> (F, Value, Option<Vec<i64>>) {
        let seen = rng
            .random_bool(0.6)
            .then(|| self.state.iter().copied().collect());
        match rng.random_range(0..8) {
            0..3 => (F::Read, Value::Nil, None),
            // Blind removals would need to know what was acknowledged: with a context only.
            3 => (F::Remove, Value::Nil, Some(seen.unwrap_or_default())),
            _ => {
                self.written += 1;
                (F::Write, Value::Int(self.written), seen)
            }
        }
    }

    fn serve(&mut self, rng: &mut SmallRng, op: &Op) -> (Kind, Value) {
        if self.planted && rng.random_bool(0.1) {
            match (rng.random_bool(0.5), self.state.first(), self.gone.first()) {
                (true, Some(&value), _) => _ = self.state.remove(&value),
                (_, _, Some(&value)) => _ = self.state.insert(value),
                _ => _ = self.state.insert(1_000),
            }
        }
        if op.f == F::Read {
            let shown = self.state.iter().copied().map(Value::Int).collect();
            return (Kind::Ok, shown);
        }
        if rng.random_bool(0.1) {
            return (Kind::Fail, op.argument.clone());
        }
        for value in op.seen.iter().flatten() {
            if self.state.remove(value) {
                self.gone.insert(*value);
            }
        }
        if op.f == F::Write {
            self.state.insert(op.number());
        }
        (Kind::Ok, op.argument.clone())
    }
}

/// What the definition says: vanished and resurrected values.
fn of_siblings(ops: &[Op]) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let last = ops.last().unwrap();
    let shown: BTreeSet<i64> = last
        .result
        .items()
        .unwrap()
        .iter()
        .filter_map(Value::as_int)
        .collect();
    let (mut vanished, mut resurrected) = (BTreeSet::new(), BTreeSet::new());
    for write in ops.iter().filter(|op| op.f == F::Write && op.possible()) {
        let value = write.number();
        let replaces = |by: &&Op| match &by.seen {
            Some(seen) => seen.contains(&value),
            None => write.completed.is_some_and(|end| end < by.invoked),
        };
        let changes = || ops.iter().filter(|op| op.f != F::Read && op.possible());
        let acked = write.kind == Kind::Ok;
        if acked && !shown.contains(&value) && !changes().any(|by| replaces(&by)) {
            vanished.insert(value);
        }
        let named = |by: &&Op| by.kind == Kind::Ok && by.seen.is_some() && replaces(by);
        if shown.contains(&value) && changes().any(|by| named(&by)) {
            resurrected.insert(value);
        }
    }
    (vanished, resurrected)
}

#[test]
fn siblings_that_vanish_or_come_back_are_found() {
    let mut found_in = BTreeMap::from([("vanished", 0), ("resurrected", 0), ("fabricated", 0)]);
    for seed in 0..RUNS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut store = Register {
            planted: seed % 2 == 1,
            ..Register::default()
        };
        let run = run(&mut store, &mut rng, 14);
        let result = Siblings.check(&run.history);
        let context = || format!("seed {seed}: {:#?}\n{result:#?}", run.history);
        let of_class = |class: &str| -> BTreeSet<i64> {
            let anomalies = result.anomalies.iter().filter(|a| a.class == class);
            anomalies
                .map(|a| a.figures["value"].as_i64().unwrap_or(-1))
                .collect()
        };
        let (vanished, resurrected) = of_siblings(&run.ops);
        assert_eq!(of_class("vanished"), vanished, "{}", context());
        assert_eq!(of_class("resurrected"), resurrected, "{}", context());
        if seed % 2 == 0 {
            assert!(result.anomalies.is_empty(), "{}", context());
        }
        for (class, count) in &mut found_in {
            *count += u32::from(!of_class(class).is_empty());
        }
    }
    assert!(found_in.values().all(|&n| n > 50), "{found_in:?}");
}

/// A counter.
struct Tally {
    sum: i64,
    /// The increment that is counted this many times instead of once.
    planted: Option<(i64, i64)>,
    next: i64,
}

impl Store for Tally {
    fn next(&mut self, rng: &mut SmallRng, _: u64) -> (F, Value, Option<Vec<i64>>) {
        if rng.random_bool(0.3) {
            return (F::Read, Value::Nil, None);
        }
        self.next += 1;
        let sign = if rng.random_bool(0.4) { -1 } else { 1 };
        // Each amount is told from all others.
        (F::Increment, Value::Int(sign * self.next), None)
    }

    fn serve(&mut self, rng: &mut SmallRng, op: &Op) -> (Kind, Value) {
        if op.f == F::Read {
            return (Kind::Ok, Value::Int(self.sum));
        }
        if rng.random_bool(0.1) {
            return (Kind::Fail, op.argument.clone());
        }
        let amount = op.number();
        let times = self.planted.filter(|(a, _)| *a == amount.abs());
        self.sum += amount * times.map_or(1, |(_, times)| times);
        (Kind::Ok, op.argument.clone())
    }
}

#[test]
fn increments_lost_or_counted_twice_are_found() {
    let (mut off, mut exact) = (0, 0);
    for seed in 0..RUNS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let planted = (seed % 2 == 1).then(|| (rng.random_range(1..6), rng.random_range(0..2) * 2));
        let mut store = Tally {
            sum: 0,
            planted,
            next: 0,
        };
        let run = run(&mut store, &mut rng, 12);
        let result = Counter.check(&run.history);
        let context = || format!("seed {seed}: {:#?}\n{result:#?}", run.history);
        if planted.is_none() {
            assert!(result.anomalies.is_empty(), "{}", context());
            assert_eq!(result.figures["stale"], 0, "{}", context());
        }
        let increments = || run.ops.iter().filter(|op| op.f == F::Increment);
        if increments().any(|op| op.kind == Kind::Info) {
            continue;
        }
        let acknowledged = increments().filter(|op| op.kind == Kind::Ok);
        let expected: i64 = acknowledged.map(Op::number).sum();
        let shown = run.ops.last().unwrap().result.as_int().unwrap();
        assert_eq!(
            result.figures["lost"],
            (expected - shown).max(0),
            "{}",
            context()
        );
        assert_eq!(
            result.figures["extra"],
            (shown - expected).max(0),
            "{}",
            context()
        );
        if shown == expected {
            exact += 1;
        } else {
            off += 1;
            assert_eq!(result.verdict, Verdict::Invalid, "{}", context());
        }
    }
    assert!(off > 100 && exact > 100, "{off} and {exact}");
}

/// A lock, which is given to whoever asks with some probability.
struct Lock {
    holder: Option<u64>,
    careless: f64,
}

impl Store for Lock {
    fn next(&mut self, rng: &mut SmallRng, client: u64) -> (F, Value, Option<Vec<i64>>) {
        let f = [F::Acquire, F::Release].choose(rng).unwrap().clone();
        (f, Value::Int((client % CLIENTS as u64) as i64), None)
    }

    fn serve(&mut self, rng: &mut SmallRng, op: &Op) -> (Kind, Value) {
        let owner = op.argument.as_int().map(|n| n as u64);
        let granted = match op.f {
            F::Acquire => self.holder.is_none() || rng.random_bool(self.careless),
            F::Release => self.holder == owner,
            _ => return (Kind::Ok, Value::Nil),
        };
        if granted {
            self.holder = owner.filter(|_| op.f == F::Acquire);
        }
        let kind = if granted { Kind::Ok } else { Kind::Fail };
        (kind, op.argument.clone())
    }
}

/// From when to when the owner held the lock for certain.
fn certain(ops: &[Op], acquired: &Op) -> (usize, usize) {
    let from = acquired.completed.unwrap();
    let releases = ops
        .iter()
        .filter(|op| op.f == F::Release && op.possible() && op.argument == acquired.argument);
    let after = releases.filter(|op| op.completed.is_none_or(|end| end > acquired.invoked));
    let to = after.map(|op| op.invoked).min().unwrap_or(usize::MAX);
    (from, to.max(from))
}

#[test]
fn locks_held_twice_are_found() {
    let (mut twice, mut clean) = (0, 0);
    for seed in 0..RUNS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let careless = if seed % 2 == 0 { 0.0 } else { 0.2 };
        let mut store = Lock {
            holder: None,
            careless,
        };
        let run = run(&mut store, &mut rng, 14);
        let result = MutualExclusion.check(&run.history);
        let context = || format!("seed {seed}: {:#?}\n{result:#?}", run.history);
        let acquired: Vec<&Op> = run
            .ops
            .iter()
            .filter(|op| op.f == F::Acquire && op.kind == Kind::Ok && op.completed.is_some())
            .collect();
        let mut expected = BTreeSet::new();
        for first in &acquired {
            for second in &acquired {
                let (a, b) = (certain(&run.ops, first), certain(&run.ops, second));
                let both = a.0 < b.0 && b.0 < a.1 && b.0 < b.1;
                if both && first.argument != second.argument {
                    expected.insert(second.invoked as u64);
                }
            }
        }
        let found: BTreeSet<u64> = result.anomalies.iter().map(|a| a.ops[1]).collect();
        assert_eq!(found, expected, "{}", context());
        if careless == 0.0 {
            assert!(found.is_empty(), "{}", context());
        }
        if found.is_empty() {
            clean += 1;
        } else {
            twice += 1;
            let second = result.anomalies[0].ops[1];
            let op = acquired.iter().find(|op| op.invoked as u64 == second);
            assert!(op.is_some_and(|op| op.client < 99), "{}", context());
        }
    }
    assert!(twice > 100 && clean > 100, "{twice} and {clean}");
}
