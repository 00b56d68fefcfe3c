//! Linearizability of recorded histories: operations a second and peak memory at 10^4, 10^5 and
//! 10^6 operations of 10 clients over 100 keys, ours beside one call of porcupine-rs with its own
//! partitioning; and the codec of the canonical form.
//!
//! `cargo bench -p checkers`. Every measurement is a process of its own, so that its peak memory
//! (`VmHWM` of Linux) is its own.

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use checkers::format::{ReadOptions, jsonl};
use checkers::{Checker, Event, F, History, Kind, Linearizable, Process, Value, Verdict};
use porcupine_rs::{CheckResult, model};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod measure;

use measure::{peak_mib, timed};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const CLIENTS: usize = 10;
const KEYS: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, size] = args.as_slice()
        && child == "--measure"
    {
        let size = size.parse().expect("a size");
        return measure(what, size);
    }
    println!("linearizability: {CLIENTS} clients, {KEYS} keys, unique values, half reads");
    println!(
        "{:>9}  {:>12} {:>9}  {:>12} {:>9}  {:>11} {:>8}",
        "ops", "ours ops/s", "peak MiB", "raw ops/s", "peak MiB", "speed ratio", "memory"
    );
    for size in SIZES {
        let ours = in_child("ours", size);
        let raw = in_child("raw", size);
        println!(
            "{size:>9}  {:>12.0} {:>9.0}  {:>12.0} {:>9.0}  {:>10.2}x {:>7.2}x",
            size as f64 / ours.seconds,
            ours.peak_mib,
            size as f64 / raw.seconds,
            raw.peak_mib,
            raw.seconds / ours.seconds,
            raw.peak_mib / ours.peak_mib,
        );
    }
    println!("(peak memory includes the history itself, the same in both columns)");
    println!();
    println!("history, JSON Lines, 1,000,000 ops:");
    for what in ["write", "read"] {
        let measured = in_child(what, 1_000_000);
        println!("{what:>6}  {:>12.0} events/s", 2e6 / measured.seconds);
    }
}

struct Measured {
    seconds: f64,
    peak_mib: f64,
}

fn in_child(what: &str, size: usize) -> Measured {
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
    let mut numbers = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"));
    Measured {
        seconds: numbers.next().expect("seconds"),
        peak_mib: numbers.next().expect("peak memory"),
    }
}

fn measure(what: &str, size: usize) {
    let history = generate(size);
    let elapsed = match what {
        "ours" => {
            let (result, elapsed) = timed(|| Linearizable::default().check(&history));
            assert_eq!(result.verdict, Verdict::Valid);
            elapsed
        }
        "raw" => raw(&history),
        "write" => {
            let mut out = Vec::new();
            let write = || {
                for event in &history.events {
                    jsonl::write_event(&mut out, event);
                    if out.len() > 1 << 16 {
                        black_box(&out);
                        out.clear();
                    }
                }
            };
            timed(write).1
        }
        _ => {
            let mut out = Vec::new();
            jsonl::write(&mut out, &history).expect("memory can be written");
            drop(history);
            let (report, elapsed) = timed(|| jsonl::read(&out[..], "", &ReadOptions::default()));
            assert_eq!(
                report.expect("it was just written").history.events.len(),
                2 * size
            );
            elapsed
        }
    };
    println!("{} {}", elapsed.as_secs_f64(), peak_mib());
}

/// A linearizable history: operations take effect at a random instant while they are open; one in
/// a hundred writes never returns, having taken effect or not, and its client is replaced.
fn generate(ops: usize) -> History {
    struct Open {
        key: usize,
        write: Option<i64>,
        read: Option<i64>,
        done: bool,
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let names: Vec<Value> = (0..KEYS).map(|k| Value::str(&format!("k{k}"))).collect();
    let mut held = vec![None; KEYS];
    let mut clients: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
    let mut processes: Vec<u64> = (0..CLIENTS as u64).collect();
    let mut events: Vec<Event> = Vec::with_capacity(2 * ops);
    let mut begun = 0;
    let int = |n: Option<i64>| n.map_or(Value::Nil, Value::Int);
    while begun < ops || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..CLIENTS);
        let (kind, f, key, value) = match &mut clients[c] {
            None if begun == ops => continue,
            slot @ None => {
                begun += 1;
                let write = rng.random_bool(0.5).then_some(begun as i64);
                let key = rng.random_range(0..KEYS);
                *slot = Some(Open {
                    key,
                    write,
                    read: None,
                    done: false,
                });
                let f = if write.is_some() { F::Write } else { F::Read };
                (Kind::Invoke, f, key, int(write))
            }
            Some(open) if !open.done => {
                match open.write {
                    Some(value) => held[open.key] = Some(value),
                    None => open.read = held[open.key],
                }
                open.done = true;
                continue;
            }
            Some(open) => {
                let lost = open.write.is_some() && rng.random_bool(0.01);
                let kind = if lost { Kind::Info } else { Kind::Ok };
                let (f, value) = match open.write {
                    Some(_) => (F::Write, int(open.write)),
                    None => (F::Read, int(open.read)),
                };
                (kind, f, open.key, value)
            }
        };
        let index = events.len() as u64;
        let process = Process::Client(processes[c]);
        let mut event = Event::new(index, index * 1_000, process, kind, f, value);
        event.key = Some(names[key].clone());
        events.push(event);
        if kind != Kind::Invoke {
            clients[c] = None;
        }
        if kind == Kind::Info {
            processes[c] += CLIENTS as u64;
        }
    }
    History { events }
}

/// The same operations in one call of porcupine-rs.
#[derive(Clone)]
struct Raw;

#[derive(Clone, Debug)]
struct RawOp {
    key: u32,
    write: bool,
    value: i64,
}

impl model::Model for Raw {
    type State = i64;
    type Op = RawOp;
    type Metadata = ();

    fn partition_operations(
        history: &[model::Operation<Self>],
    ) -> Vec<Vec<model::Operation<Self>>> {
        let mut keys = vec![Vec::new(); KEYS];
        for op in history {
            keys[op.op.key as usize].push(op.clone());
        }
        keys
    }

    fn init() -> i64 {
        0
    }

    fn step(state: &i64, op: &RawOp) -> (bool, i64) {
        if op.write {
            (true, op.value)
        } else {
            (*state == op.value, *state)
        }
    }
}

fn raw(history: &History) -> Duration {
    let (result, elapsed) = timed(|| {
        let operations = history.operations().expect("the history pairs");
        let ops: Vec<model::Operation<Raw>> = operations
            .iter()
            .filter(|op| op.is_ok() || op.f() == &F::Write)
            .map(|op| {
                let key = op.key().map(ToString::to_string).unwrap_or_default();
                let value = op.result().unwrap_or(op.argument());
                model::Operation {
                    client_id: None,
                    call_time: op.invoked_position as i64,
                    return_time: op.completed_position.map_or(i64::MAX, |p| p as i64),
                    op: RawOp {
                        key: key[1..].parse().expect("a key is k and a number"),
                        write: op.f() == &F::Write,
                        value: value.as_int().unwrap_or(0),
                    },
                    metadata: None,
                }
            })
            .collect();
        porcupine_rs::check_operations_timeout(&ops, Duration::from_secs(600))
    });
    assert_eq!(result, CheckResult::Ok);
    elapsed
}
