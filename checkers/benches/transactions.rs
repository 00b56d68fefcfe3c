//! Transactions: how long `list-append` and `rw-register` take, and their peak memory, at 10^5 and
//! 10^6 transactions of 20 clients; valid, with one stale read, and with long cycles.
//!
//! `cargo bench -p checkers --bench transactions`. Every measurement is a process of its own, so
//! that its peak memory (`VmHWM` of Linux) is its own.

use std::process::Command;

use checkers::{Checker, Event, F, History, Kind, ListAppend, Process, RwRegister, Value, Verdict};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod measure;

use measure::{peak_mib, timed};

const CLIENTS: usize = 20;
const WHAT: [&str; 7] = [
    "list-append",
    "list-append, a stale read",
    "list-append, snapshots",
    "list-append, a long cycle",
    "rw-register",
    "rw-register, linearizable keys",
    "rw-register, snapshots",
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, size] = args.as_slice()
        && child == "--measure"
    {
        let size = size.parse().expect("a size");
        return measure(what, size);
    }
    println!("transactions: {CLIENTS} clients, 1 to 4 micro-operations, up to 64 writes a key");
    println!(
        "{:32} {:>9} {:>9} {:>12} {:>10} {:>10}",
        "history", "txns", "seconds", "txns/s", "peak MiB", "with it"
    );
    for what in WHAT {
        for size in [100_000, 1_000_000] {
            let [seconds, before, peak] = in_child(what, size);
            println!(
                "{what:32} {size:>9} {seconds:>9.2} {:>12.0} {before:>10.0} {peak:>10.0}",
                size as f64 / seconds,
            );
        }
    }
    println!("(peak memory of the history alone, and with the check)");
}

fn in_child(what: &str, size: usize) -> [f64; 3] {
    let exe = std::env::current_exe().expect("this program has a path");
    let output = Command::new(exe)
        .args(["--measure", what, &size.to_string()])
        .output()
        .expect("the child starts");
    assert!(
        output.status.success(),
        "{what} at {size}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    numbers.try_into().expect("three numbers")
}

fn measure(what: &str, size: usize) {
    let lists = what.starts_with("list-append");
    let snapshots = what.ends_with("snapshots");
    let mut history = if what.ends_with("a long cycle") {
        long_cycle(size)
    } else {
        generate(size, lists, snapshots)
    };
    if what.ends_with("a stale read") {
        make_stale(&mut history);
    }
    let before = peak_mib();
    let checker: Box<dyn Checker> = match what {
        _ if lists => Box::new(ListAppend::default()),
        "rw-register, linearizable keys" => Box::new(RwRegister {
            linearizable_keys: true,
            ..RwRegister::default()
        }),
        _ => Box::new(RwRegister::default()),
    };
    let (result, elapsed) = timed(|| checker.check(&history));
    let valid = matches!(
        what,
        "list-append" | "rw-register" | "rw-register, linearizable keys"
    );
    let expected = if valid {
        Verdict::Valid
    } else {
        Verdict::Invalid
    };
    assert_eq!(result.verdict, expected, "{:?}", result.anomalies.first());
    eprintln!("{} anomalies: {:?}", result.anomalies.len(), result.figures);
    println!("{} {before} {}", elapsed.as_secs_f64(), peak_mib());
}

/// A micro-operation: key, value written, values shown.
type Mop = (usize, Option<i64>, Vec<i64>);

struct Open {
    mops: Vec<Mop>,
    snapshot: Vec<usize>,
    done: bool,
    ok: bool,
}

fn txn(lists: bool, mops: &[Mop], shown: bool) -> Value {
    let write = if lists { "append" } else { "w" };
    let name = |name: &str| Value::Keyword(name.into());
    let mop = |(key, value, list): &Mop| -> Value {
        let key = Value::Int(*key as i64);
        let items = match value {
            Some(value) => [name(write), key, Value::Int(*value)],
            None if !shown => [name("r"), key, Value::Nil],
            None if lists => {
                let list = list.iter().copied().map(Value::Int).collect();
                [name("r"), key, list]
            }
            None => [
                name("r"),
                key,
                list.last().map_or(Value::Nil, |&v| Value::Int(v)),
            ],
        };
        items.into_iter().collect()
    };
    mops.iter().map(mop).collect()
}

/// Transactions on 10 keys at a time, each replaced by a new one after 32 to 64 writes. They take
/// effect at one instant; with `snapshots` they read what there was when they were invoked, and
/// fail if what they write has changed since. One in a hundred is not answered.
fn generate(size: usize, lists: bool, snapshots: bool) -> History {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut active: Vec<(usize, usize)> = (0..10).map(|k| (k, 32 + 3 * k)).collect();
    let mut next_key = active.len();
    let mut begun_values: Vec<i64> = vec![0; next_key];
    let mut held: Vec<Vec<i64>> = vec![Vec::new(); next_key];
    let mut clients: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
    let mut processes: Vec<u64> = (0..CLIENTS as u64).collect();
    let mut events: Vec<Event> = Vec::with_capacity(2 * size);
    let mut begun = 0;
    while begun < size || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..CLIENTS);
        let (kind, value) = match &mut clients[c] {
            None if begun == size => continue,
            slot @ None => {
                begun += 1;
                let n = rng.random_range(1..=4);
                let mut mops: Vec<Mop> = Vec::with_capacity(n);
                for _ in 0..n {
                    let at = rng.random_range(0..active.len());
                    let key = active[at].0;
                    let write = rng.random_bool(0.5).then(|| {
                        begun_values[key] += 1;
                        begun_values[key]
                    });
                    mops.push((key, write, Vec::new()));
                    if begun_values[key] as usize >= active[at].1 {
                        active[at] = (next_key, 32 + next_key % 33);
                        next_key += 1;
                        begun_values.push(0);
                        held.push(Vec::new());
                    }
                }
                let snapshot = mops.iter().map(|mop| held[mop.0].len()).collect();
                let value = txn(lists, &mops, false);
                *slot = Some(Open {
                    mops,
                    snapshot,
                    done: false,
                    ok: true,
                });
                (Kind::Invoke, value)
            }
            Some(open) if !open.done => {
                open.done = true;
                let changed = |(mop, len): (&Mop, &usize)| held[mop.0].len() != *len;
                open.ok = !snapshots
                    || !open
                        .mops
                        .iter()
                        .zip(&open.snapshot)
                        .filter(|(mop, _)| mop.1.is_some())
                        .any(changed);
                if open.ok {
                    execute(open, &mut held, snapshots);
                }
                continue;
            }
            Some(open) => {
                let kind = match rng.random_bool(0.01) {
                    true => Kind::Info,
                    false if open.ok => Kind::Ok,
                    false => Kind::Fail,
                };
                (kind, txn(lists, &open.mops, kind == Kind::Ok))
            }
        };
        let index = events.len() as u64;
        let process = Process::Client(processes[c]);
        let f = F::Other("txn".into());
        events.push(Event::new(index, index * 1_000, process, kind, f, value));
        if kind != Kind::Invoke {
            clients[c] = None;
        }
        if kind == Kind::Info {
            processes[c] += CLIENTS as u64;
        }
    }
    History { events }
}

fn execute(open: &mut Open, held: &mut [Vec<i64>], snapshots: bool) {
    for i in 0..open.mops.len() {
        let key = open.mops[i].0;
        match open.mops[i].1 {
            Some(value) => held[key].push(value),
            None => {
                let own = open.mops[..i]
                    .iter()
                    .filter(|m| m.0 == key)
                    .filter_map(|m| m.1);
                let mut list = held[key].clone();
                if snapshots {
                    list.truncate(open.snapshot[i]);
                    list.extend(own);
                }
                open.mops[i].2 = list;
            }
        }
    }
}

/// Takes the last element from a read of one element or more in the middle.
fn make_stale(history: &mut History) {
    let middle = history.events.len() / 2;
    for event in &mut history.events[middle..] {
        let Some(mops) = event.value.items().filter(|_| event.kind == Kind::Ok) else {
            continue;
        };
        let [mop] = mops else { continue };
        let Some([name, key, Value::Vector(list)]) = mop.items() else {
            continue;
        };
        if list.len() < 12 {
            continue;
        }
        let list: Value = list[..list.len() - 10].iter().cloned().collect();
        let mop: Value = [name.clone(), key.clone(), list].into_iter().collect();
        event.value = [mop].into_iter().collect();
        return;
    }
    panic!("no read to make stale");
}

/// A chain in which each reads what the one before appended, all at once; the first reads what the
/// last appended.
fn long_cycle(size: usize) -> History {
    let name = |name: &str| Value::Keyword(name.into());
    let mop = |f: &str, key: usize, value: Value| -> Value {
        [name(f), Value::Int(key as i64), value]
            .into_iter()
            .collect()
    };
    let txn = |i: usize, shown: bool| -> Value {
        let one: Value = [Value::Int(1)].into_iter().collect();
        let seen = if shown { one } else { Value::Nil };
        let read = mop("r", (i + size - 1) % size, seen);
        [mop("append", i, Value::Int(1)), read]
            .into_iter()
            .collect()
    };
    let mut events = Vec::with_capacity(2 * size);
    for kind in [Kind::Invoke, Kind::Ok] {
        for i in 0..size {
            let index = events.len() as u64;
            let process = Process::Client(i as u64);
            let f = F::Other("txn".into());
            let value = txn(i, kind == Kind::Ok);
            events.push(Event::new(index, index * 1_000, process, kind, f, value));
        }
    }
    History { events }
}
