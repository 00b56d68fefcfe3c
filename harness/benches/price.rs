//! The price of each guarantee: operations a second and latency of every mode with five nodes on
//! this machine, beside the same clients against one node.
//!
//! Both run as processes on loopback, with no limit of operations, no faults, and every journal
//! synced. A round runs the single node right before and right after the five; the ratio is to the
//! mean of both, so that a machine that slows down meanwhile falsifies it less. Clients, proxies and
//! all nodes share the machine's processors: a mode of five nodes pays for five. Clients read and write
//! registers, or what else the mode has; the single node gets the same.
//!
//! `cargo bench -p quorate --bench price [-- MODE… [--rounds N] [--seconds N]]`

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use checkers::format::{ReadOptions, read_path};
use checkers::{History, Kind};
use quorate::compare::cell::{Figures, measure};
use quorate::defaults::{self, Given};
use quorate::experiment::{Concurrency, Experiment, On};
use quorate::mode;

/// How long a cluster may take to have a leader before anything counts, seconds.
const WARM_UP_S: u64 = 3;
/// Client threads.
const THREADS: u32 = 10;
/// Replicas.
const NODES: u16 = 5;

/// What one run came to.
#[derive(Clone, Copy, Default)]
struct Price {
    /// Operations a second.
    throughput: f64,
    /// 99th percentile of writes, ms.
    write_ms: f64,
    /// 99th percentile of reads, ms.
    read_ms: f64,
}

impl Price {
    fn mean(self, other: Self) -> Self {
        let mean = |a: f64, b: f64| f64::midpoint(a, b);
        Self {
            throughput: mean(self.throughput, other.throughput),
            write_ms: mean(self.write_ms, other.write_ms),
            read_ms: mean(self.read_ms, other.read_ms),
        }
    }

    fn of(figures: &Figures) -> Option<Self> {
        let stretch = figures.calm?;
        Some(Self {
            throughput: stretch.ok as f64 / stretch.seconds,
            write_ms: stretch.write_ms?[1],
            read_ms: stretch.read_ms?[1],
        })
    }
}

/// Five nodes in a mode, and the same clients against one node; `None` of a mode that cannot be.
fn pair(word: &str, seconds: u64) -> Option<(Experiment, Experiment)> {
    let mut one = Experiment {
        substrate: On::Local,
        nodes: 1,
        // Values of one size, however many writes there were.
        workload: workloads::Kind::Register,
        // It does not judge; the one checker that is named is the cheapest.
        checks: vec!["availability".to_owned()],
        ..Experiment::default()
    };
    one.clients.concurrency = Concurrency::Fixed(THREADS);
    one.clients.rate = 0.0;
    one.faults.packages = vec!["none".to_owned()];
    one.limits.time = Duration::from_secs(WARM_UP_S + seconds);
    let mut five = Experiment {
        nodes: NODES,
        ..one.clone()
    };
    mode::set(&mut five.target, word).ok()?;
    let mut given = Given {
        workload: true,
        policy: false,
        faults: true,
    };
    let untouched = five.clone();
    defaults::choose(&mut five, given);
    if five.validate().is_err() {
        // It has no registers.
        five = untouched;
        given.workload = false;
        defaults::choose(&mut five, given);
    }
    five.validate().ok()?;
    one.workload = five.workload;
    one.parameters = five.parameters.clone();
    Some((five, one))
}

/// Runs an experiment as `quorate test` and measures what it recorded.
fn run(experiment: &Experiment, store: &Path) -> Option<Price> {
    let file = store.join("experiment.yaml");
    std::fs::write(&file, experiment.to_yaml()).expect("a temporary file");
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["test", "--on=local", "--seed=1"])
        .arg(&file)
        .arg("--store")
        .arg(store)
        .output()
        .expect("the binary");
    let dir = store.join(&experiment.name).join("latest");
    let history = ["history.jsonl", "history.jsonl.zst"]
        .map(|name| dir.join(name))
        .into_iter()
        .find(|path| path.exists());
    let Some(history) = history else {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    };
    let history = read_path(&history, None, &ReadOptions::default()).ok()?;
    let mut warm = experiment.clone();
    warm.limits.time -= Duration::from_secs(WARM_UP_S);
    Price::of(&measure(&warm, &after_warm_up(history.history), &[]))
}

/// What was begun after the warm-up, with the time since then.
fn after_warm_up(history: History) -> History {
    let warm = WARM_UP_S * 1_000_000_000;
    let mut begun = BTreeSet::new();
    let events = history.events.into_iter().filter_map(|mut event| {
        let counts = if event.kind == Kind::Invoke {
            event.time >= warm && begun.insert(event.process.clone())
        } else {
            begun.remove(&event.process)
        };
        event.time = event.time.saturating_sub(warm);
        counts.then_some(event)
    });
    History {
        events: events.collect(),
    }
}

/// The number after a flag.
fn flag(arguments: &[String], name: &str, default: u64) -> u64 {
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(default)
        .max(1)
}

/// The round with the median ratio.
fn middle(mut prices: Vec<(Price, Price)>) -> Option<(Price, Price)> {
    let ratio = |(five, one): &(Price, Price)| five.throughput / one.throughput;
    prices.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    prices.get(prices.len() / 2).copied()
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let rounds = flag(&arguments, "--rounds", 1);
    let seconds = flag(&arguments, "--seconds", 2);
    let wanted: Vec<&String> = arguments
        .iter()
        .take_while(|argument| !argument.starts_with("--"))
        .collect();
    let store = tempfile::tempdir().expect("a temporary directory");
    println!(
        "{:<26}{:>10}{:>10}{:>8}{:>14}{:>14}{:>14}",
        "mode, 5 nodes", "ops/s", "one node", "ratio", "write p99 ms", "one node", "read p99 ms"
    );
    for word in &mode::WORDS {
        let word = word.word.replace("(k)", "(1)");
        if !wanted.is_empty() && !wanted.iter().any(|w| word.contains(w.as_str())) {
            continue;
        }
        let Some((five, one)) = pair(&word, seconds) else {
            continue;
        };
        let prices = (0..rounds)
            .filter_map(|_| {
                let before = run(&one, store.path())?;
                let five = run(&five, store.path())?;
                Some((five, before.mean(run(&one, store.path())?)))
            })
            .collect();
        let Some((five, one)) = middle(prices) else {
            println!("{word:<26}{:>20}", "nothing measured");
            continue;
        };
        println!(
            "{word:<26}{:>10.0}{:>10.0}{:>8.2}{:>14.2}{:>14.2}{:>14.2}",
            five.throughput,
            one.throughput,
            five.throughput / one.throughput,
            five.write_ms,
            one.write_ms,
            five.read_ms,
        );
    }
}
