//! Histories of simulated replicated stores, too long to try all orders of: what a store promises
//! by its construction holds, what it does not promise fails often.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::testing::Script;
use crate::{CheckResult, Event, F, History, Kind, Process, Value, Verdict, by_name};

/// How a replica holds what it was sent.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    /// The write with the greatest timestamp.
    Newest,
    /// The write that came last.
    Last,
}

#[derive(Clone, Copy)]
struct Store {
    keep: Keep,
    /// Whether transactions come after their causes.
    causal: bool,
    /// Whether a transaction reads from one state, or each read from the newest.
    snapshot: bool,
    /// How many operations a transaction has at most; 1 is a history of single operations.
    mops: usize,
}

#[derive(Clone)]
struct Sent {
    time: (u64, usize),
    /// By replica: how many of its transactions come before.
    after: Vec<usize>,
    writes: Vec<(usize, i64)>,
}

#[derive(Clone)]
struct Replica {
    clock: u64,
    seen: Vec<usize>,
    held: Vec<((u64, usize), Option<i64>)>,
    /// By replica: which of its transactions were applied, for deliveries out of order.
    applied: Vec<Vec<bool>>,
}

impl Replica {
    fn apply(&mut self, sent: &Sent, keep: Keep) {
        self.clock = self.clock.max(sent.time.0);
        for &(key, value) in &sent.writes {
            if keep == Keep::Last || self.held[key].0 < sent.time {
                self.held[key] = (sent.time, Some(value));
            }
        }
    }
}

/// One session on each replica; transactions of each travel to the others in any time.
fn run(rng: &mut SmallRng, store: Store, txns: usize) -> History {
    let replicas = rng.random_range(2..=4);
    let keys = rng.random_range(2..=4);
    let slow = rng.random_range(0.4..0.95);
    let mut state = vec![
        Replica {
            clock: 0,
            seen: vec![0; replicas],
            held: vec![((0, 0), None); keys],
            applied: vec![Vec::new(); replicas],
        };
        replicas
    ];
    let mut sent: Vec<Vec<Sent>> = vec![Vec::new(); replicas];
    let mut script = Script::new();
    let mut events: Vec<Event> = Vec::new();
    let mut next = 0;
    for _ in 0..txns {
        // Some do more than others.
        let me = rng
            .random_range(0..replicas)
            .min(rng.random_range(0..replicas));
        deliver(rng, &mut state[me], &sent, me, store, slow);
        let mut own: Vec<(usize, i64)> = Vec::new();
        let mut mops: Vec<Value> = Vec::new();
        for _ in 0..rng.random_range(1..=store.mops) {
            let key = rng.random_range(0..keys);
            let name = Value::Int(key as i64);
            let write = rng.random_bool(0.5);
            let (f, value) = if write {
                next += 1;
                own.retain(|(k, _)| *k != key);
                own.push((key, next));
                ("w", Value::Int(next))
            } else {
                if !store.snapshot {
                    deliver(rng, &mut state[me], &sent, me, store, slow);
                }
                let mine = own.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
                let shown = mine.or(state[me].held[key].1);
                ("r", shown.map_or(Value::Nil, Value::Int))
            };
            if store.mops == 1 {
                let f = if write { F::Write } else { F::Read };
                script
                    .key(&format!("{key}"))
                    .op(me as u64, Kind::Ok, f, value);
            } else {
                mops.push([Value::str(f), name, value].into_iter().collect());
            }
        }
        for kind in [Kind::Invoke, Kind::Ok] {
            let index = events.len() as u64;
            let f = F::from_name("txn");
            let value: Value = mops.iter().cloned().collect();
            events.push(Event::new(
                index,
                index,
                Process::Client(me as u64),
                kind,
                f,
                value,
            ));
        }
        if !own.is_empty() {
            let replica = &mut state[me];
            let txn = Sent {
                time: (replica.clock + 1, me),
                after: replica.seen.clone(),
                writes: own,
            };
            replica.seen[me] += 1;
            replica.apply(&txn, store.keep);
            sent[me].push(txn);
        }
    }
    if store.mops == 1 {
        script.history()
    } else {
        History { events }
    }
}

/// Applies some of what is on its way.
fn deliver(
    rng: &mut SmallRng,
    replica: &mut Replica,
    sent: &[Vec<Sent>],
    me: usize,
    store: Store,
    slow: f64,
) {
    for (from, sent) in sent.iter().enumerate().filter(|(from, _)| *from != me) {
        replica.applied[from].resize(sent.len(), false);
        for (i, txn) in sent.iter().enumerate() {
            if replica.applied[from][i] || rng.random_bool(slow) {
                continue;
            }
            let ready = txn.after.iter().zip(&replica.seen).all(|(a, b)| a <= b);
            if store.causal && !(ready && replica.seen[from] == i) {
                continue;
            }
            replica.applied[from][i] = true;
            replica.seen[from] = replica.seen[from].max(i + 1);
            replica.apply(txn, store.keep);
        }
    }
}

fn holds(name: &str, history: &History) -> bool {
    let result: CheckResult = by_name(name).unwrap().check(history);
    match result.verdict {
        Verdict::Valid => true,
        Verdict::Invalid => false,
        Verdict::Unknown(reason) => reason == "nothing-to-judge",
    }
}

/// How many of 200 histories hold each of these.
fn held(store: Store, names: &[&str]) -> Vec<usize> {
    let mut rng = SmallRng::seed_from_u64(9);
    let mut held = vec![0; names.len()];
    for _ in 0..200 {
        let txns = rng.random_range(100..400);
        let history = run(&mut rng, store, txns);
        let holds: Vec<bool> = names.iter().map(|name| holds(name, &history)).collect();
        for (held, holds) in held.iter_mut().zip(holds) {
            *held += usize::from(holds);
        }
    }
    held
}

const FORMS: [&str; 3] = ["causal", "causal-convergence", "causal-memory"];

#[test]
fn a_store_that_keeps_the_newest_write_converges() {
    let store = Store {
        keep: Keep::Newest,
        causal: true,
        snapshot: true,
        mops: 1,
    };
    assert_eq!(held(store, &FORMS[..2]), [200; 2]);
}

#[test]
fn a_store_that_keeps_the_last_write_is_a_causal_memory() {
    let store = Store {
        keep: Keep::Last,
        causal: true,
        snapshot: true,
        mops: 1,
    };
    let held = held(store, &FORMS);
    assert!(
        held[0] == 200 && held[1] < 100 && held[2] == 200,
        "{held:?}"
    );
}

#[test]
fn a_store_that_delivers_effects_before_causes_is_not_causal() {
    let store = Store {
        keep: Keep::Newest,
        causal: false,
        snapshot: true,
        mops: 1,
    };
    let held = held(store, &FORMS);
    assert!(held.iter().all(|&held| held < 160), "{held:?}");
}

const LEVELS: [&str; 3] = ["read-committed", "read-atomic", "causal"];

#[test]
fn transactions_from_snapshots_are_read_atomic() {
    let mut store = Store {
        keep: Keep::Newest,
        causal: true,
        snapshot: true,
        mops: 5,
    };
    assert_eq!(held(store, &LEVELS), [200; 3]);
    store.causal = false;
    let without = held(store, &LEVELS);
    assert!(without[..2] == [200; 2] && without[2] < 100, "{without:?}");
    store.snapshot = false;
    let without = held(store, &LEVELS);
    assert!(without[0] == 200 && without[1] < 100, "{without:?}");
    store.keep = Keep::Last;
    let without = held(store, &LEVELS);
    assert!(without[0] < 100, "{without:?}");
}

#[test]
fn the_forms_are_a_hierarchy() {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut counts = [0; 5];
    for case in 0..1_500 {
        let store = Store {
            keep: if case % 2 == 0 {
                Keep::Newest
            } else {
                Keep::Last
            },
            causal: case % 5 > 0,
            snapshot: true,
            mops: 1,
        };
        let txns = rng.random_range(5..30);
        let history = run(&mut rng, store, txns);
        let [linearizable, sequential, memory, convergence, weak] = [
            "linearizable",
            "sequential",
            "causal-memory",
            "causal-convergence",
            "causal",
        ]
        .map(|name| holds(name, &history));
        assert!(!linearizable || sequential, "{history:#?}");
        assert!(!sequential || memory && convergence, "{history:#?}");
        assert!(!memory && !convergence || weak, "{history:#?}");
        for (count, holds) in
            counts
                .iter_mut()
                .zip([linearizable, sequential, memory, convergence, weak])
        {
            *count += u32::from(holds);
        }
    }
    assert!(
        counts.iter().all(|&count| count > 20 && count < 1_500),
        "{counts:?}"
    );
    assert!(
        counts[0] < counts[1] && counts[1] < counts[2].min(counts[3]),
        "{counts:?}"
    );
}
