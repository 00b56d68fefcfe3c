//! Lost writes, stale reads, sessions, split brain and set-full on histories of 10^5, 10^6 and 10^7
//! operations: seconds (of the clock and of the processor), how much of them is the pairing of invocations with completions, and the
//! memory beside the history itself.
//!
//! `cargo bench -p checkers --bench anomalies`; with a size, only that one. Every measurement is a
//! process of its own, so that its peak memory (`VmHWM` of Linux) is its own. The histories are of
//! 10 clients:
//!
//! * `registers`: 100 keys, unique values, half reads, one write in a hundred unanswered.
//! * `sets`: keys of 1,000 operations, one in a hundred of them a read of all.
//! * `one set`: one key, all its elements read ten times a run.
//! * `churn`: keys of 10,000 operations, a set of about 50 elements that come and go; one in a
//!   hundred operations is a read.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkers::{Event, F, History, Kind, Process, Value, Verdict, by_name};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SIZES: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const CLIENTS: usize = 10;

const MEASURED: [(&str, &[&str]); 4] = [
    (
        "registers",
        &["lost-writes", "stale-reads", "sessions", "split-brain"],
    ),
    (
        "sets",
        &[
            "set-full",
            "lost-writes",
            "stale-reads",
            "sessions",
            "split-brain",
        ],
    ),
    (
        "one set",
        &["set-full", "lost-writes", "stale-reads", "sessions"],
    ),
    (
        "churn",
        &["set-full", "lost-writes", "stale-reads", "sessions"],
    ),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, history, checker, size] = args.as_slice()
        && child == "--measure"
    {
        let size = size.parse().expect("a size");
        return measure(history, checker, size);
    }
    let only: Option<usize> = args.iter().find_map(|arg| arg.parse().ok());
    println!(
        "{:<10} {:<12} {:>10} {:>9} {:>9} {:>9} {:>10} {:>9}",
        "history", "checker", "ops", "s", "CPU s", "pairing s", "bytes/op", "MiB"
    );
    for (history, checkers) in MEASURED {
        for checker in checkers {
            for size in SIZES {
                if only.is_none_or(|only| only == size) {
                    in_child(history, checker, size);
                }
            }
        }
    }
    println!("(bytes an operation and MiB: the peak beside the history itself)");
}

fn in_child(history: &str, checker: &str, size: usize) {
    let exe = std::env::current_exe().expect("this program has a path");
    let output = Command::new(exe)
        .args(["--measure", history, checker, &size.to_string()])
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        print!("{text}");
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        println!("{history:<10} {checker:<12} {size:>10}  failed: {error}");
    }
}

fn measure(name: &str, checker: &str, size: usize) {
    let history = match name {
        "registers" => registers(size),
        "sets" => sets(size, 1_000, size.div_ceil(1_000), false),
        "one set" => sets(size, size / 10, 1, false),
        _ => sets(size, 10_000, size.div_ceil(10_000), true),
    };
    let checker = by_name(checker).expect("a checker of that name");
    let before = memory_mib("VmRSS:");
    let cpu = cpu_seconds();
    let (result, elapsed) = timed(|| checker.check(&history));
    let cpu = cpu_seconds() - cpu;
    assert_eq!(result.verdict, Verdict::Valid, "{result:?}");
    let peak = memory_mib("VmHWM:") - before;
    let (paired, pairing) = timed(|| history.operations().map(|all| all.len()));
    assert_eq!(paired, Ok(size));
    println!(
        "{name:<10} {:<12} {size:>10} {:>9.2} {cpu:>9.2} {:>9.2} {:>10.0} {peak:>9.0}",
        checker.name(),
        elapsed.as_secs_f64(),
        pairing.as_secs_f64(),
        peak * 1_048_576.0 / size as f64,
    );
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Processor time of this thread so far: what a busy machine does not change.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok());
    ns.unwrap_or(f64::NAN) / 1e9
}

fn memory_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// What a client has open.
struct Open {
    f: F,
    key: usize,
    argument: Value,
    result: Option<Value>,
}

/// A run of clients whose operations take effect at a random instant while they are open; one
/// change in a hundred is never answered, if `unanswered`, and its client is replaced.
fn run(
    ops: usize,
    keys: &[Value],
    unanswered: bool,
    mut next: impl FnMut(&mut SmallRng, usize) -> (F, usize, Value),
    mut apply: impl FnMut(&F, usize, &Value) -> Value,
) -> History {
    let mut rng = SmallRng::seed_from_u64(1);
    let node: Arc<str> = "n1".into();
    let mut clients: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
    let mut processes: Vec<u64> = (0..CLIENTS as u64).collect();
    let mut events: Vec<Event> = Vec::with_capacity(2 * ops);
    let mut begun = 0;
    while begun < ops || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..CLIENTS);
        let (kind, f, key, value) = match &mut clients[c] {
            None if begun == ops => continue,
            slot @ None => {
                let (f, key, argument) = next(&mut rng, begun);
                begun += 1;
                let invoked = (Kind::Invoke, f.clone(), key, argument.clone());
                *slot = Some(Open {
                    f,
                    key,
                    argument,
                    result: None,
                });
                invoked
            }
            Some(open) if open.result.is_none() => {
                open.result = Some(apply(&open.f, open.key, &open.argument));
                continue;
            }
            slot => {
                let Some(open) = slot.take() else { continue };
                let lost = unanswered && open.f != F::Read && rng.random_bool(0.01);
                let kind = if lost { Kind::Info } else { Kind::Ok };
                (kind, open.f, open.key, open.result.unwrap_or_default())
            }
        };
        let index = events.len() as u64;
        let process = Process::Client(processes[c]);
        let mut event = Event::new(index, index * 1_000, process, kind, f, value);
        event.key = Some(keys[key].clone());
        if kind == Kind::Ok {
            event.node = Some(Arc::clone(&node));
            event.epoch = Some(1);
        }
        events.push(event);
        if kind == Kind::Info {
            processes[c] += CLIENTS as u64;
        }
    }
    History { events }
}

fn names(keys: usize) -> Vec<Value> {
    (0..keys).map(|k| Value::str(&format!("k{k}"))).collect()
}

fn registers(ops: usize) -> History {
    let mut held = vec![Value::Nil; 100];
    run(
        ops,
        &names(100),
        true,
        |rng, n| {
            let key = rng.random_range(0..100);
            // The last operations read every key, so that nothing is left unread.
            if rng.random_bool(0.5) && n + 1_000 < ops {
                (F::Write, key, Value::Int(n as i64))
            } else {
                (F::Read, n % 100, Value::Nil)
            }
        },
        |f, key, value| {
            if f == &F::Read {
                return held[key].clone();
            }
            held[key] = value.clone();
            value.clone()
        },
    )
}

/// Keys one after the other, each of some operations, every `every`-th a read (the last one, too).
fn sets(ops: usize, of_key: usize, keys: usize, churn: bool) -> History {
    let every = if keys == 1 { of_key } else { 100 };
    let mut contents: Vec<Vec<Value>> = vec![Vec::new(); keys];
    run(
        ops,
        &names(keys),
        false,
        |_, n| {
            let key = (n / of_key).min(keys - 1);
            let last = n + 1 == ops || (n + 1) % of_key == 0;
            // All clients are done with a key's changes when it is read for the last time.
            let quiet = n + 100 > ops || n % of_key + 100 > of_key;
            match ((n + 1) % every == 0, quiet && keys > 1 || n + 100 > ops) {
                (true, false) => (F::Read, key, Value::Nil),
                (_, true) if last => (F::Read, key, Value::Nil),
                (_, true) => (F::Inspect, key, Value::Nil),
                (false, false) if churn && n % 2 == 1 && n > 100 => {
                    (F::Remove, key, Value::Int((n - 101) as i64))
                }
                _ => (F::Add, key, Value::Int(n as i64)),
            }
        },
        |f, key, value| {
            let set = &mut contents[key];
            match f {
                F::Add => set.push(value.clone()),
                F::Remove => set.retain(|element| element != value),
                _ => return set.iter().cloned().collect(),
            }
            value.clone()
        },
    )
}
