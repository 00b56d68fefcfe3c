//! How long it takes to do and to undo each fault on this machine, from the order to its proof, and
//! what was measured of the faults that have a size (asked 50 ms, measured …).
//!
//! Each fault is done three times to one of three replicas of asynchronous replication, in one run
//! of `quorate test` a fault; the figures are those of the realised schedule. The first row, a
//! `kill`, is what the others are compared with.
//!
//! `cargo bench -p quorate --bench faults [-- --on local|netns] [FAULT…]`

use std::path::Path;
use std::process::Command;

use nemesis::{FaultKind, Schedule};

/// How often each fault is done.
const TIMES: u64 = 3;
/// How long it lasts, and how long the cluster then has peace, seconds.
const LASTING_S: u64 = 2;
const PERIOD_S: u64 = 6;

/// The rest of the entry for each kind and size that is measured.
const FAULTS: [(&str, &str); 28] = [
    ("kill", ""),
    ("pause", "via: signal"),
    ("pause", "via: freezer"),
    ("wipe", ""),
    ("crash", "point: before-fsync"),
    ("cpu", "share: 10%"),
    ("memory", "limit: 8MiB"),
    ("partition", "shape: isolate"),
    ("partition", "shape: one-way, direction: out"),
    ("slow", "latency: 10ms"),
    ("slow", "latency: 50ms"),
    ("slow", "latency: 200ms"),
    ("slow", "latency: 50ms, jitter: 20ms"),
    ("slow", "bandwidth: 64KiB/s"),
    ("loss", "percent: 30%"),
    ("reorder", "percent: 30%"),
    ("duplicate", "percent: 30%"),
    ("power-loss", ""),
    ("torn-write", ""),
    ("bit-flip", ""),
    ("disk-full", ""),
    ("read-only", ""),
    ("slow-disk", "latency: 50ms"),
    ("fsync-error", ""),
    ("rollback", "age: 1s"),
    ("clock-jump", "by: 500ms"),
    ("clock-drift", "ppm: 50000"),
    ("clock-strobe", "by: 200ms, every: 50ms"),
];

/// What the repetitions of one fault took.
struct Row {
    inject_s: Vec<f64>,
    heal_s: Vec<f64>,
    proof: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let on = arguments
        .iter()
        .position(|a| a == "--on")
        .and_then(|at| arguments.get(at + 1))
        .map_or("local", String::as_str)
        .to_owned();
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|a| FaultKind::ALL.iter().any(|kind| kind.name() == **a))
        .collect();
    let store = tempfile::tempdir().expect("a temporary directory");
    println!(
        "on {on}, {TIMES} times each: seconds to inject and to heal (least / most), times kill's\n"
    );
    println!(
        "{:<12} {:<32} {:>15} {:>7} {:>15} {:>7}  first proof",
        "fault", "parameters", "inject", "×", "heal", "×"
    );
    let mut baseline: Option<(f64, f64)> = None;
    for (fault, parameters) in FAULTS {
        let baseline_row = fault == "kill";
        if !baseline_row && !wanted.is_empty() && !wanted.iter().any(|w| *w == fault) {
            continue;
        }
        let row = match measure(&on, fault, parameters, store.path()) {
            Ok(row) => row,
            Err(why) => {
                println!("{fault:<12} {parameters:<32} {why}");
                continue;
            }
        };
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let (inject, heal) = (mean(&row.inject_s), mean(&row.heal_s));
        let (inject_0, heal_0) = *baseline.get_or_insert((inject, heal));
        println!(
            "{fault:<12} {parameters:<32} {:>15} {:>7.2} {:>15} {:>7.2}  {}",
            range(&row.inject_s),
            inject / inject_0,
            range(&row.heal_s),
            heal / heal_0,
            row.proof
        );
    }
}

fn range(of: &[f64]) -> String {
    let least = of.iter().copied().fold(f64::INFINITY, f64::min);
    let most = of.iter().copied().fold(0.0, f64::max);
    format!("{least:.3} / {most:.3}")
}

/// One run with one fault, several times.
fn measure(on: &str, fault: &str, parameters: &str, store: &Path) -> Result<Row, String> {
    let mut text = String::new();
    for i in 0..TIMES {
        let at = 2 + i * PERIOD_S;
        let comma = if parameters.is_empty() { "" } else { ", " };
        text += &format!(
            "- {{at: {at}s, for: {LASTING_S}s, fault: {fault}, target: n2{comma}{parameters}}}\n"
        );
    }
    let file = store.join("schedule.yaml");
    std::fs::write(&file, text).map_err(|e| e.to_string())?;
    let limit = 2 + TIMES * PERIOD_S;
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args([
            "test",
            "--nodes=3",
            "--seed=1",
            "--rate=50",
            "--name=faults",
        ])
        .arg(format!("--on={on}"))
        .arg(format!("--time-limit={limit}s"))
        .arg("--schedule")
        .arg(&file)
        .arg("--store")
        .arg(store)
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let realised = store.join("faults/latest/schedule.yaml");
    if matches!(output.status.code(), Some(254 | 255)) || !realised.exists() {
        let line = said.lines().find(|line| line.starts_with("error"));
        return Err(line.unwrap_or("it did not run").to_owned());
    }
    let realised = std::fs::read_to_string(realised).map_err(|e| e.to_string())?;
    let realised = Schedule::parse(&realised).map_err(|e| e.to_string())?;
    let mut row = Row {
        inject_s: Vec::new(),
        heal_s: Vec::new(),
        proof: String::new(),
    };
    for entry in &realised.faults {
        let came = entry.realised.clone().unwrap_or_default();
        let said = came.proof.or(came.skipped).unwrap_or_default();
        if came.seen != Some(true) || came.gone != Some(true) {
            return Err(format!(
                "not proven: {said} {}",
                came.heal_proof.unwrap_or_default()
            ));
        }
        let (Some(injected), Some(healed)) = (came.injected_at, came.healed_at) else {
            continue;
        };
        row.inject_s
            .push(injected.saturating_sub(entry.at).as_secs_f64());
        let ordered = entry.at + entry.lasting;
        row.heal_s
            .push(healed.saturating_sub(ordered).as_secs_f64());
        if row.proof.is_empty() {
            row.proof = said;
        }
    }
    if row.inject_s.is_empty() {
        return Err("nothing was injected".to_owned());
    }
    Ok(row)
}
