//! How fast the simulation is, on one core, without checking: five replicas, 500 operations a
//! second of virtual time by 20 clients, all that they see recorded in memory.
//!
//! `cargo bench -p quorate --bench simulation [-- WORD…]` runs the cases whose name has all words.

mod measure;

use std::time::Duration;

use measure::{Span, peak_mib};
use quorate::commands::sim::simulate;
use quorate::experiment::{Concurrency, Experiment, On};
use quorate::mode;
use workloads::Kind;

/// Virtual time of one run.
const LENGTH: Duration = Duration::from_secs(60);
/// Runs of each case, each with its own seed; the one with the median speed is shown.
const RUNS: u64 = 3;

fn experiment(mode: &str, workload: Kind, faults: bool, seed: u64) -> Experiment {
    let mut experiment = Experiment {
        substrate: On::Sim,
        workload,
        seed: Some(seed),
        ..Experiment::default()
    };
    mode::set(&mut experiment.target, mode).expect("a mode");
    experiment.clients.concurrency = Concurrency::Fixed(20);
    experiment.clients.rate = 500.0;
    experiment.limits.time = LENGTH;
    experiment.faults.interval = Duration::from_secs(4);
    experiment.faults.packages = if faults {
        vec!["all".to_owned()]
    } else {
        Vec::new()
    };
    experiment
}

struct Figures {
    ops: f64,
    events: f64,
    virtual_s: f64,
    wall: f64,
    cpu: f64,
}

fn measure(experiment: &Experiment) -> Figures {
    let span = Span::begin();
    let run = simulate(experiment).expect("the packages of faults work in simulation");
    let (wall, cpu) = span.end();
    let counts = run.ended.counts;
    Figures {
        ops: (counts.ok + counts.fail + counts.info) as f64,
        events: run.events as f64,
        virtual_s: run.ended.elapsed as f64 / 1e9,
        wall,
        cpu,
    }
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    println!(
        "{:<24}{:>10}{:>10}{:>12}{:>12}{:>12}{:>10}{:>10}",
        "case",
        "ops/s",
        "events/s",
        "x real time",
        "x per cpu s",
        "events/op",
        "ns/event",
        "peak MiB"
    );
    for mode in ["async", "raft"] {
        for workload in [Kind::Register, Kind::Append] {
            for faults in [false, true] {
                let calm = if faults { "faults" } else { "calm" };
                let name = format!("{mode} {workload} {calm}");
                if !words.iter().all(|word| name.contains(word)) {
                    continue;
                }
                let mut runs: Vec<Figures> = (1..=RUNS)
                    .map(|seed| measure(&experiment(mode, workload, faults, seed)))
                    .collect();
                let speed = |run: &Figures| run.virtual_s / run.cpu;
                runs.sort_by(|a, b| speed(a).total_cmp(&speed(b)));
                let run = &runs[runs.len() / 2];
                println!(
                    "{name:<24}{:>10.0}{:>10.0}{:>12.0}{:>12.0}{:>12.1}{:>10.0}{:>10.0}",
                    run.ops / run.wall,
                    run.events / run.wall,
                    run.virtual_s / run.wall,
                    speed(run),
                    run.events / run.ops,
                    run.cpu * 1e9 / run.events,
                    peak_mib(),
                );
            }
        }
    }
}
