//! The price of each guarantee: operations a second and latency of every mode with five nodes on
//! this machine, beside the same clients against one node.
//!
//! Both run as processes on loopback, with no limit of operations, no faults, and every journal
//! synced. A round runs the single node right before and right after the five; the ratio is to the
//! mean of both, so that a machine that slows down meanwhile falsifies it less. Clients, proxies and
//! all nodes share the machine's processors: a mode of five nodes pays for five.
//!
//! `cargo bench -p quorate --bench price [-- MODE… [--rounds N] [--seconds N]]`

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use checkers::format::{ReadOptions, read_path};
use quorate::compare::cell::{Figures, measure};
use quorate::experiment::{Concurrency, Experiment, On};
use quorate::mode;

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

fn experiment(word: &str, nodes: u16, seconds: u64) -> Option<Experiment> {
    let mut experiment = Experiment {
        substrate: On::Local,
        nodes,
        // It does not judge; the one checker that is named is the cheapest.
        checks: vec!["availability".to_owned()],
        ..Experiment::default()
    };
    mode::set(&mut experiment.target, word).ok()?;
    experiment.clients.concurrency = Concurrency::Fixed(THREADS);
    experiment.clients.rate = 0.0;
    experiment.faults.packages = vec!["none".to_owned()];
    experiment.limits.time = Duration::from_secs(seconds);
    // What cannot be yet is left out.
    experiment.validate().ok()?;
    Some(experiment)
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
    Price::of(&measure(experiment, &history.history, &[]))
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
        let (Some(five), Some(one)) = (
            experiment(&word, NODES, seconds),
            experiment("async", 1, seconds),
        ) else {
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
            println!("{word:<26}{:>10}", "failed");
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
