//! Registers of unique values, decided by zones, beside porcupine-rs on the same operations: as the
//! history grows, as more operations are never answered, and with more clients.
//!
//! `cargo bench -p checkers --bench zones` (`-- quick` stops at 10^6 operations). Every measurement is
//! a process of its own, so that its peak memory (`VmHWM` of Linux) is its own. porcupine-rs is given
//! 20 s and 6 GiB (by `ulimit`).

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use checkers::linearizable::engine::porcupine::Porcupine;
use checkers::linearizable::engine::zones::{self, Table};
use checkers::linearizable::engine::{Action, Engine, Id, Limits, Model, NIL, Op};
use checkers::{Event, F, History, Kind, Process, Value};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const PORCUPINE_SECONDS: u64 = 20;
const PORCUPINE_KIB: u64 = 6 << 20;

/// A history: one key, half of the operations reads, a fifth of the writes compare-and-sets.
#[derive(Clone, Copy)]
struct Shape {
    ops: usize,
    clients: usize,
    /// Writes in a thousand that are never answered.
    unanswered: u32,
    /// Whether one read shows a value replaced long ago.
    stale: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, ops, clients, unanswered, stale] = args.as_slice()
        && child == "--measure"
    {
        let number = |text: &String| text.parse().expect("a number");
        return measure(
            what,
            Shape {
                ops: number(ops),
                clients: number(clients),
                unanswered: number(unanswered) as u32,
                stale: number(stale) == 1,
            },
        );
    }
    let quick = args.iter().any(|arg| arg == "quick");
    let most = if quick { 6 } else { 7 };
    println!("one register, unique values, half reads, compare-and-sets; bytes beside the input\n");
    println!(
        "{:>9} {:>7} {:>10} {:>6}  {:>9} {:>7}  {:>9} {:>7}  {:>9} {:>7}  {:>10} {:>8}",
        "ops",
        "clients",
        "unanswered",
        "stale",
        "table s",
        "B/op",
        "ops s",
        "B/op",
        "history s",
        "B/op",
        "porcupine",
        "MiB"
    );
    let plain = Shape {
        ops: 1_000,
        clients: 5,
        unanswered: 10,
        stale: false,
    };
    for exponent in 4..=most {
        for stale in [false, true] {
            row(Shape {
                ops: 10_usize.pow(exponent),
                clients: 100,
                stale,
                ..plain
            });
        }
    }
    for exponent in 4..=6 {
        let ops = 10_usize.pow(exponent);
        row(Shape { ops, ..plain });
    }
    println!();
    for unanswered in [10, 20, 50, 100, 200] {
        for stale in [false, true] {
            row(Shape {
                unanswered,
                stale,
                ..plain
            });
        }
    }
    println!();
    for clients in [5, 10, 20, 30, 100, 300, 1000] {
        for stale in [false, true] {
            row(Shape {
                ops: 10_000,
                clients,
                stale,
                ..plain
            });
        }
    }
}

fn row(shape: Shape) {
    print!(
        "{:>9} {:>7} {:>9.1}% {:>6} ",
        shape.ops,
        shape.clients,
        f64::from(shape.unanswered) / 10.0,
        shape.stale
    );
    for what in ["table", "ops", "history"] {
        match in_child(what, shape) {
            Some([seconds, bytes, _]) => print!(" {seconds:>9.4} {bytes:>7.1} "),
            None => print!(" {:>9} {:>7} ", "failed", ""),
        }
    }
    match in_child("porcupine", shape) {
        Some([seconds, _, mib]) if seconds < PORCUPINE_SECONDS as f64 => {
            println!(" {seconds:>10.4} {mib:>8.0}");
        }
        Some([_, _, mib]) => println!(" {:>10} {mib:>8.0}", "> 20 s"),
        None => println!(" {:>10} {:>8}", "never", "> 6 GiB"),
    }
}

/// Seconds, bytes an operation beside the input, and peak MiB; `None` if it was out of memory.
fn in_child(what: &str, shape: Shape) -> Option<[f64; 3]> {
    let exe = std::env::current_exe().expect("this program has a path");
    let numbers = [
        shape.ops,
        shape.clients,
        shape.unanswered as usize,
        usize::from(shape.stale),
    ];
    let limit = match what {
        "porcupine" => format!("ulimit -v {PORCUPINE_KIB}; "),
        _ => String::new(),
    };
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
        .arg(exe)
        .args(["--measure", what])
        .args(numbers.map(|n| n.to_string()))
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
    let all = [numbers.next()?, numbers.next()?, numbers.next()?];
    output.status.success().then_some(all)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(what: &str, shape: Shape) {
    let history = (what == "history").then(|| history(shape));
    let ops = match what {
        "history" => Vec::new(),
        _ => generate(shape),
    };
    let before = memory_mib("VmRSS:");
    let started = Instant::now();
    let linearizable = match what {
        "table" => {
            let mut table = Table::default();
            for op in &ops {
                match op.action {
                    Action::Read(v) => table.read(v, op.call, op.completion.unwrap_or(op.call)),
                    Action::Write(v) => table.write(v, op.call, op.completion),
                    Action::Cas(old, new) => table.cas(old, new, op.call, op.completion),
                    _ => {}
                }
            }
            table.decide().map(|decided| decided.is_ok())
        }
        "ops" => zones::decide(&ops).and_then(|decision| decision.is_linearizable()),
        "history" => {
            let keys = history.as_ref().and_then(|h| zones::screen(h, false));
            keys.map(|keys| keys.iter().all(|key| key.decision.is_ok()))
        }
        _ => {
            let limits = Limits {
                per_key: Some(Duration::from_secs(PORCUPINE_SECONDS)),
                ..Limits::NONE
            };
            let decision = Porcupine.decide(Model::Register, &ops, &limits);
            decision.is_linearizable()
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    black_box((&ops, &history));
    if linearizable.is_some() || what != "porcupine" {
        assert_eq!(linearizable, Some(!shape.stale), "{what}");
    }
    let peak = memory_mib("VmHWM:");
    let bytes = (peak - before).max(0.0) * 1_048_576.0 / shape.ops as f64;
    println!("{seconds} {bytes} {peak}");
}

/// Of this process.
fn memory_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// What a client does.
struct Doing {
    call: u64,
    action: Action,
    done: bool,
    /// Whether the compare-and-set found another value.
    failed: bool,
}

/// Runs clients against one register: operations take effect at a random instant while they are open.
/// Calls back for every invocation (no outcome) and completion, in their order.
fn run(shape: Shape, mut note: impl FnMut(usize, &Doing, Option<Kind>)) {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut clients: Vec<Option<Doing>> = (0..shape.clients).map(|_| None).collect();
    let (mut held, mut last, mut position, mut begun) = (NIL, NIL, 0_u64, 0);
    let mut old = NIL;
    let mut is_stale = !shape.stale;
    while begun < shape.ops || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..shape.clients);
        match &mut clients[c] {
            None if begun == shape.ops => {}
            slot @ None => {
                begun += 1;
                let action = match rng.random_range(0..10) {
                    0..5 => Action::Read(NIL),
                    kind => {
                        last += 1;
                        match kind {
                            5 => Action::Cas(held, last),
                            _ => Action::Write(last),
                        }
                    }
                };
                let doing = Doing {
                    call: position,
                    action,
                    done: false,
                    failed: false,
                };
                note(c, &doing, None);
                position += 1;
                *slot = Some(doing);
            }
            Some(doing) if !doing.done => {
                doing.done = true;
                if begun == shape.ops / 2 {
                    old = held;
                }
                match &mut doing.action {
                    Action::Read(value) if !is_stale && begun > shape.ops * 3 / 4 => {
                        *value = old;
                        is_stale = true;
                    }
                    Action::Read(value) => *value = held,
                    Action::Write(value) => held = *value,
                    Action::Cas(old, new) if *old == held => held = *new,
                    _ => doing.failed = true,
                }
            }
            Some(doing) => {
                let write = !matches!(doing.action, Action::Read(_));
                let lost = write && rng.random_range(0..500) < shape.unanswered;
                let kind = match (lost, doing.failed) {
                    (true, _) => Kind::Info,
                    (_, true) => Kind::Fail,
                    _ => Kind::Ok,
                };
                note(c, doing, Some(kind));
                position += 1;
                clients[c] = None;
            }
        }
    }
}

fn generate(shape: Shape) -> Vec<Op> {
    let mut ops = Vec::with_capacity(shape.ops);
    let mut position = 0;
    run(shape, |_, doing, outcome| {
        if matches!(outcome, Some(Kind::Ok | Kind::Info)) {
            ops.push(Op {
                call: doing.call,
                completion: (outcome == Some(Kind::Ok)).then_some(position),
                action: doing.action.clone(),
            });
        }
        position += 1;
    });
    ops
}

fn history(shape: Shape) -> History {
    let mut events: Vec<Event> = Vec::with_capacity(2 * shape.ops);
    let mut processes: Vec<u64> = (0..shape.clients as u64).collect();
    let key = Value::str("k");
    let value = |id: Id| match id {
        NIL => Value::Nil,
        id => Value::Int(i64::from(id)),
    };
    run(shape, |client, doing, outcome| {
        let (f, value) = match (&doing.action, outcome) {
            (Action::Read(_), None) => (F::Read, Value::Nil),
            (Action::Read(shown), _) => (F::Read, value(*shown)),
            (Action::Cas(old, new), _) => {
                (F::Cas, [value(*old), value(*new)].into_iter().collect())
            }
            (Action::Write(new), _) => (F::Write, value(*new)),
            _ => return,
        };
        let index = events.len() as u64;
        let process = Process::Client(processes[client]);
        let kind = outcome.unwrap_or(Kind::Invoke);
        let mut event = Event::new(index, index * 1_000, process, kind, f, value);
        event.key = Some(key.clone());
        events.push(event);
        if kind == Kind::Info {
            processes[client] += shape.clients as u64;
        }
    });
    History { events }
}
