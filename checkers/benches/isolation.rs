//! Isolation of transactions: seconds and peak memory of read committed, read atomic and causal
//! consistency at 10^5 and 10^6 events (reads and writes) of 10 to 100 sessions.
//!
//! `cargo bench -p checkers --bench isolation`. Every measurement is a process of its own, so that
//! its peak memory (`VmHWM` of Linux) is its own; the time is that of the check, from the history in
//! memory to the verdict.

use std::process::Command;

use checkers::{Event, F, History, Kind, Process, Value, Verdict, by_name};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod measure;

use measure::{peak_mib, timed};

const SIZES: [usize; 2] = [100_000, 1_000_000];
const SESSIONS: [usize; 3] = [10, 50, 100];
const LEVELS: [&str; 3] = ["read-committed", "read-atomic", "causal-convergence"];
/// Reads and writes in a transaction, on average.
const MOPS: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, size, sessions] = args.as_slice()
        && child == "--measure"
    {
        let (size, sessions) = (size.parse().expect("a size"), sessions.parse());
        return measure(what, size, sessions.expect("a number of sessions"));
    }
    println!("isolation: transactions of {MOPS} reads and writes on average, unique values");
    println!(
        "{:>9} {:>9}  {:>18}  {:>8} {:>8} {:>9} {:>9}",
        "events", "sessions", "level", "seconds", "CPU", "peak MiB", "history"
    );
    let singles = [
        ("causal", 10),
        ("causal", 100),
        ("causal-memory", 10),
        ("sequential", 10),
    ];
    let many = SIZES.iter().flat_map(|&size| {
        let levels = SESSIONS
            .into_iter()
            .flat_map(|s| LEVELS.map(|level| (level, s)));
        levels
            .chain(singles)
            .map(move |(level, s)| (level, size, s))
    });
    for (level, size, sessions) in many {
        let measured = in_child(level, size, sessions);
        println!(
            "{size:>9} {sessions:>9}  {level:>18}  {:>8.3} {:>8.3} {:>9.0} {:>9.0}",
            measured[0], measured[1], measured[2], measured[3],
        );
    }
    println!("(causal, causal-memory and sequential: single operations on registers)");
}

fn in_child(what: &str, size: usize, sessions: usize) -> Vec<f64> {
    let exe = std::env::current_exe().expect("this program has a path");
    let output = Command::new(exe)
        .args(["--measure", what, &size.to_string(), &sessions.to_string()])
        .output()
        .expect("the child starts");
    assert!(
        output.status.success(),
        "{what} at {size}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.split_whitespace();
    numbers.map(|n| n.parse().expect("a number")).collect()
}

fn measure(what: &str, size: usize, sessions: usize) {
    let single = !LEVELS.contains(&what);
    let history = generate(size, sessions, if single { 1 } else { MOPS });
    let before = peak_mib();
    let checker = by_name(what).expect("a checker");
    let start = cpu();
    let (result, elapsed) = timed(|| checker.check(&history));
    let cpu = (cpu() - start) as f64 / 1e9;
    assert_eq!(result.verdict, Verdict::Valid, "{what}");
    println!("{} {cpu} {} {before}", elapsed.as_secs_f64(), peak_mib());
}

/// The time that this thread has been running, ns: on a busy machine less than what passes.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A serializable history: transactions take effect at a random instant while they are open; one
/// in a thousand never returns, having taken effect or not, and its client is replaced.
fn generate(mops: usize, sessions: usize, per_txn: usize) -> History {
    enum State {
        Idle,
        Open(Vec<(usize, Option<i64>)>),
        Done(Vec<(usize, Option<i64>)>, bool, Vec<Option<i64>>),
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let keys = (mops / 100).max(10);
    let names: Vec<Value> = (0..keys).map(|k| Value::Int(k as i64)).collect();
    let (read, write) = (Value::Keyword("r".into()), Value::Keyword("w".into()));
    let mut held: Vec<Option<i64>> = vec![None; keys];
    let mut clients: Vec<State> = (0..sessions).map(|_| State::Idle).collect();
    let mut processes: Vec<u64> = (0..sessions as u64).collect();
    let mut events = Vec::with_capacity(2 * mops / per_txn + 2);
    let (mut begun, mut next, mut busy) = (0, 0, 0);
    let int = |n: Option<i64>| n.map_or(Value::Nil, Value::Int);
    while begun < mops || busy > 0 {
        let c = rng.random_range(0..sessions);
        let state = std::mem::replace(&mut clients[c], State::Idle);
        let (kind, ops, shown) = match state {
            State::Idle if begun >= mops => continue,
            State::Idle => {
                let length = if per_txn == 1 {
                    1
                } else {
                    rng.random_range(1..2 * per_txn)
                };
                let ops: Vec<(usize, Option<i64>)> = (0..length)
                    .map(|_| {
                        next += 1;
                        let key = rng.random_range(0..keys);
                        (key, rng.random_bool(0.5).then_some(next))
                    })
                    .collect();
                begun += length;
                busy += 1;
                clients[c] = State::Open(ops.clone());
                (Kind::Invoke, ops, Vec::new())
            }
            State::Open(ops) => {
                let lost = rng.random_bool(0.001);
                let mut after = held_by(&held, &ops);
                let shown = ops
                    .iter()
                    .map(|(key, written)| {
                        let held = after.iter_mut().find(|(k, _)| k == key);
                        let (_, held) = held.expect("every key is there");
                        if written.is_some() {
                            *held = *written;
                        }
                        *held
                    })
                    .collect();
                if !lost || rng.random_bool(0.5) {
                    for (key, value) in after {
                        held[key] = value;
                    }
                }
                clients[c] = State::Done(ops, lost, shown);
                continue;
            }
            State::Done(ops, lost, shown) => {
                busy -= 1;
                let kind = if lost { Kind::Info } else { Kind::Ok };
                (kind, ops, if lost { Vec::new() } else { shown })
            }
        };
        let index = events.len() as u64;
        let process = Process::Client(processes[c]);
        let shown = |i: usize, written: Option<i64>| int(shown.get(i).copied().unwrap_or(written));
        if per_txn == 1 {
            let (key, written) = ops[0];
            let f = if written.is_some() { F::Write } else { F::Read };
            let mut event = Event::new(index, index * 1_000, process, kind, f, shown(0, written));
            event.key = Some(names[key].clone());
            events.push(event);
        } else {
            let mops = ops.iter().enumerate().map(|(i, (key, written))| -> Value {
                let f = if written.is_some() { &write } else { &read };
                [f.clone(), names[*key].clone(), shown(i, *written)]
                    .into_iter()
                    .collect()
            });
            let f = F::from_name("txn");
            events.push(Event::new(
                index,
                index * 1_000,
                process,
                kind,
                f,
                mops.collect(),
            ));
        }
        if kind == Kind::Info {
            processes[c] += sessions as u64;
        }
    }
    History { events }
}

/// What the keys of these operations hold.
fn held_by(held: &[Option<i64>], ops: &[(usize, Option<i64>)]) -> Vec<(usize, Option<i64>)> {
    let mut keys: Vec<usize> = ops.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|key| (key, held[key])).collect()
}
