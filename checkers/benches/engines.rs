//! Our engines beside one call of porcupine-rs on the same histories, in the same run: histories
//! with few values, which no polynomial algorithm is known for, and recorded ones.
//!
//! `cargo bench -p checkers --bench engines`. Every measurement is a process of its own with 4 GB of
//! memory and 20 s of time, so that its peak memory (`VmHWM` of Linux) and its CPU time are its
//! own. Of what takes less than 0.3 s the mean of several runs is given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use checkers::format;
use checkers::linearizable::engine::{Action, Op, by_name};
use checkers::linearizable::{Limits, Model};
use porcupine_rs::{CheckResult, model};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const TIME_LIMIT: Duration = Duration::from_secs(20);
const MEMORY_KIB: u64 = 4 << 20;
/// The shortest time that is measured.
const MEASURED: Duration = Duration::from_millis(300);

/// A register's history.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    ops: usize,
    clients: usize,
    /// So many operations (in a thousand) never complete.
    unanswered_per_mille: u32,
    /// But at most so many.
    unanswered_max: usize,
    cas: bool,
    stale: bool,
}

const fn shape(
    name: &'static str,
    ops: usize,
    clients: usize,
    unanswered: (u32, usize),
    cas: bool,
    stale: bool,
) -> Shape {
    Shape {
        name,
        ops,
        clients,
        unanswered_per_mille: unanswered.0,
        unanswered_max: unanswered.1,
        cas,
        stale,
    }
}

const VALUES: u32 = 5;
const ALL: usize = usize::MAX;

const SHAPES: [Shape; 22] = [
    shape("10^4 ops, 5 clients", 10_000, 5, (0, 0), false, false),
    shape("10^5 ops, 5 clients", 100_000, 5, (0, 0), false, false),
    shape("10^5 ops, 5 clients, CAS", 100_000, 5, (0, 0), true, false),
    shape("10^6 ops, 5 clients", 1_000_000, 5, (0, 0), false, false),
    shape("CAS, 8 unanswered, stale", 1_000, 5, (30, 8), true, true),
    shape("CAS, 10 unanswered, stale", 1_000, 5, (30, 10), true, true),
    shape("CAS, 12 unanswered, stale", 1_000, 5, (30, 12), true, true),
    shape("CAS, 14 unanswered, stale", 1_000, 5, (30, 14), true, true),
    shape("CAS, 14 clients, stale", 1_000, 14, (0, 0), true, true),
    shape("CAS, 16 clients, stale", 1_000, 16, (0, 0), true, true),
    shape("CAS, 18 clients, stale", 1_000, 18, (0, 0), true, true),
    shape("CAS, 24 clients", 1_000, 24, (0, 0), true, false),
    shape("24 clients", 1_000, 24, (0, 0), false, false),
    shape("10^4 ops, 30 clients", 10_000, 30, (0, 0), false, false),
    shape(
        "10^4 ops, 30 clients, stale",
        10_000,
        30,
        (0, 0),
        false,
        true,
    ),
    shape("10^4 ops, 30 clients, CAS", 10_000, 30, (0, 0), true, false),
    shape(
        "10^4 ops, 30 clients, CAS, stale",
        10_000,
        30,
        (0, 0),
        true,
        true,
    ),
    shape("10^4 ops, 50 clients, CAS", 10_000, 50, (0, 0), true, false),
    shape(
        "10^5 ops, 10 clients, 1 % unanswered",
        100_000,
        10,
        (10, ALL),
        false,
        false,
    ),
    shape("  the same, stale", 100_000, 10, (10, ALL), false, true),
    shape("  the same, CAS", 100_000, 10, (10, ALL), true, false),
    shape("  the same, CAS, stale", 100_000, 10, (10, ALL), true, true),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, who, what] = args.as_slice()
        && child == "--measure"
    {
        return measure(who, what);
    }
    let only = args.iter().skip(1).find(|a| !a.starts_with("--"));
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only.as_str()));
    println!(
        "{:<38} {:>10} {:>9} {:>12} {:>9}  {:>10} {:>9} {:>12}  {:>9}",
        "one register, 5 values",
        "ours",
        "CPU s",
        "ns/op",
        "MiB",
        "theirs",
        "CPU s",
        "MiB",
        "ratio"
    );
    for (number, shape) in SHAPES.iter().enumerate().filter(|(_, s)| wanted(s.name)) {
        let ours = in_child("ours", &number.to_string());
        let theirs = in_child("theirs", &number.to_string());
        print_row(shape.name, shape.ops, &ours, &theirs);
    }
    let Some(files) = files() else { return };
    let etcd: Vec<&PathBuf> = files.iter().filter(|f| is_etcd(f)).collect();
    if wanted("etcd") {
        let (ours, theirs) = (in_child("ours", "etcd"), in_child("theirs", "etcd"));
        print_row(
            &format!("{} etcd logs together", etcd.len()),
            0,
            &ours,
            &theirs,
        );
    }
    if wanted("files") {
        let mut worst: Option<(f64, String)> = None;
        for file in &files {
            let what = file.to_string_lossy();
            let (ours, theirs) = (in_child("ours", &what), in_child("theirs", &what));
            let ratio = theirs.seconds / ours.seconds;
            if ratio.is_finite() && worst.as_ref().is_none_or(|(w, _)| ratio < *w) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                worst = Some((ratio, format!("{name}: {:.1} us", ours.seconds * 1e6)));
            }
        }
        if let Some((ratio, name)) = worst {
            println!(
                "worst of {} recorded files: {ratio:.1} times as fast ({name})",
                files.len()
            );
        }
    }
}

fn print_row(name: &str, ops: usize, ours: &Measured, theirs: &Measured) {
    let each = ours.seconds * 1e9 / ops.max(1) as f64;
    let ratio = theirs.seconds / ours.seconds;
    let bound = if theirs.answer == "invalid" || theirs.answer == "valid" {
        ""
    } else {
        ">"
    };
    println!(
        "{name:<38} {:>10} {:>9.4} {each:>12.0} {:>9.1}  {:>10} {:>9.3} {:>12.0}  {bound}{ratio:>8.0}x",
        ours.answer, ours.seconds, ours.peak_mib, theirs.answer, theirs.seconds, theirs.peak_mib,
    );
}

struct Measured {
    answer: String,
    seconds: f64,
    peak_mib: f64,
}

/// A process that is killed by its limit of memory has no answer.
fn in_child(who: &str, what: &str) -> Measured {
    let exe = std::env::current_exe().expect("this program has a path");
    let limited = format!("ulimit -v {MEMORY_KIB}; exec \"$0\" --measure {who} \"$1\"");
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let start = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &limited, &exe.to_string_lossy(), what])
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    let answer = words.next().unwrap_or("4 GB").to_owned();
    let mut number = || words.next().and_then(|w| w.parse().ok());
    Measured {
        answer,
        seconds: number().unwrap_or_else(|| start.elapsed().as_secs_f64()),
        peak_mib: number().unwrap_or(f64::NAN),
    }
}

fn measure(who: &str, what: &str) {
    let (answer, seconds) = match what.parse::<usize>() {
        Ok(number) => {
            let ops = generate(&SHAPES[number]);
            decide(who, &ops)
        }
        Err(_) if what == "etcd" => {
            let files = files().unwrap_or_default();
            let each = files
                .iter()
                .filter(|f| is_etcd(f))
                .map(|f| recorded(who, f));
            ("decided", each.map(|(_, seconds)| seconds).sum())
        }
        Err(_) => recorded(who, Path::new(what)),
    };
    println!("{answer} {seconds} {}", peak_mib());
}

fn decide(who: &str, ops: &[Op]) -> (&'static str, f64) {
    let limits = Limits {
        per_key: Some(TIME_LIMIT),
        ..Limits::default()
    };
    if who == "ours" {
        let engine = by_name("jit").expect("an engine");
        let decide = || engine.decide(Model::Register, ops, &limits);
        let (decision, seconds) = timed(decide);
        return (answer(decision.is_linearizable()), seconds);
    }
    let raw = raw(ops);
    let (result, seconds) = timed(|| {
        // Its own partitioning cannot split one register. (Without a limit of time it starts no
        // thread, but then it never ends on some.)
        porcupine_rs::check_operations_timeout(&raw, TIME_LIMIT)
    });
    let linearizable = match result {
        CheckResult::Ok => Some(true),
        CheckResult::Illegal => Some(false),
        CheckResult::Unknown => None,
    };
    (answer(linearizable), seconds)
}

fn answer(linearizable: Option<bool>) -> &'static str {
    match linearizable {
        Some(true) => "valid",
        Some(false) => "invalid",
        None => "undecided",
    }
}

/// Runs the work often enough to be measured; the result of the first, and CPU seconds of one.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<T>(work: impl Fn() -> T) -> (T, f64) {
    let start = Instant::now();
    let cpu = cpu_seconds();
    let result = work();
    let first = start.elapsed();
    if first >= MEASURED {
        return (result, cpu_seconds() - cpu);
    }
    // Short ones by the wall clock: the clock of the CPU ticks in hundredths.
    let mut best = first;
    while start.elapsed() < MEASURED {
        let begun = Instant::now();
        work();
        best = best.min(begun.elapsed());
    }
    (result, best.as_secs_f64())
}

/// CPU time of this process, its threads included.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Operations that take effect at a random instant while they are open. What never completes took
/// effect or not. With a stale read: one of the last reads shows what makes the whole invalid.
fn generate(shape: &Shape) -> Vec<Op> {
    struct Open {
        op: usize,
        took: bool,
    }
    let mut rng = SmallRng::seed_from_u64(7);
    let mut state = 0;
    let mut ops: Vec<Op> = Vec::with_capacity(shape.ops);
    let mut clients: Vec<Option<Open>> = (0..shape.clients).map(|_| None).collect();
    let mut unanswered = 0;
    let mut at = 0;
    while ops.len() < shape.ops || clients.iter().any(Option::is_some) {
        let client = rng.random_range(0..shape.clients);
        let slot = &mut clients[client];
        let Some(open) = slot else {
            if ops.len() == shape.ops {
                continue;
            }
            at += 1;
            *slot = Some(Open {
                op: ops.len(),
                took: false,
            });
            let value = rng.random_range(1..=VALUES);
            let other = rng.random_range(1..=VALUES);
            let action = match rng.random_range(0..10) {
                0..5 => Action::Read(0),
                5..7 if shape.cas => Action::Cas(other, value),
                _ => Action::Write(value),
            };
            ops.push(Op {
                call: at,
                completion: None,
                action,
            });
            continue;
        };
        let lost = rng.random_range(0..1000) < shape.unanswered_per_mille
            && unanswered < shape.unanswered_max;
        let is_read = matches!(ops[open.op].action, Action::Read(_));
        if lost && !is_read && rng.random_bool(0.5) {
            unanswered += 1;
            *slot = None;
        } else if !open.took {
            open.took = true;
            match &mut ops[open.op].action {
                Action::Read(value) => *value = state,
                Action::Write(value) => state = *value,
                Action::Cas(old, new) => {
                    // Most of those that would be refused expect what is there.
                    *old = state;
                    state = *new;
                }
                _ => {}
            }
        } else if lost && !is_read {
            unanswered += 1;
            *slot = None;
        } else {
            at += 1;
            ops[open.op].completion = Some(at);
            *slot = None;
        }
    }
    ops.retain(|op| op.completion.is_some() || !matches!(op.action, Action::Read(_)));
    if shape.stale {
        make_invalid(&mut ops);
    }
    ops
}

/// Changes what one of the last reads shows so that there is no order any more. Where any value can
/// be explained, one that nobody wrote.
fn make_invalid(ops: &mut [Op]) {
    let engine = by_name("jit").expect("an engine");
    let limits = Limits {
        per_key: Some(Duration::from_secs(20)),
        ..Limits::default()
    };
    let reads: Vec<usize> = (0..ops.len())
        .filter(|&i| matches!(ops[i].action, Action::Read(_)))
        .collect();
    for &read in reads.iter().rev().skip(reads.len() / 20).take(60) {
        let shown = ops[read].action.clone();
        for value in 1..=VALUES {
            ops[read].action = Action::Read(value);
            let around = ops.len() > 20_000;
            let decision = if around {
                break;
            } else {
                engine.decide(Model::Register, ops, &limits)
            };
            if decision.is_linearizable() == Some(false) {
                return;
            }
        }
        ops[read].action = shown;
    }
    if let Some(&read) = reads.iter().rev().nth(reads.len() / 20) {
        ops[read].action = Action::Read(VALUES + 1);
    }
}

/// The same for porcupine-rs.
#[derive(Clone)]
struct Raw;

#[derive(Clone, Debug)]
struct RawOp {
    action: Action,
    pending: bool,
}

impl model::Model for Raw {
    type State = u32;
    type Op = RawOp;
    type Metadata = ();

    fn init() -> u32 {
        0
    }

    fn step(state: &u32, op: &RawOp) -> (bool, u32) {
        match op.action {
            Action::Read(value) => (*state == value, *state),
            Action::Write(value) => (true, value),
            Action::Cas(old, new) if *state == old => (true, new),
            Action::Cas(..) => (op.pending, *state),
            Action::CasRefused(old) => (*state != old, *state),
            _ => (false, *state),
        }
    }
}

fn raw(ops: &[Op]) -> Vec<model::Operation<Raw>> {
    ops.iter()
        .map(|op| model::Operation {
            client_id: None,
            call_time: op.call as i64,
            return_time: op.completion.map_or(i64::MAX, |end| end as i64),
            op: RawOp {
                action: op.action.clone(),
                pending: op.completion.is_none(),
            },
            metadata: None,
        })
        .collect()
}

include!("engines/recorded.rs");
