//! The scorecard on a terminal, at most 100 columns wide: a block for each fault, measures down,
//! modes across; then every row in plain words.

use std::fmt::Write as _;
use std::path::Path;

use super::measure::{Measure, by_name};
use super::scorecard::{Row, Scorecard};
use super::words::{NOT_MEASURED, estimated};
use crate::report::screen::Style;
use crate::report::text::{clip, plural, seconds, thousands, wrap};

/// What is shown to people, in this order; all measures are in JSON.
pub const SHOWN: [&str; 23] = [
    "losing_faults",
    "losing_runs",
    "lost_share",
    "lost_per_fault",
    "rpo_writes_worst",
    "rpo_seconds_median",
    "rpo_seconds_worst",
    "write_rto_median",
    "write_rto_worst",
    "read_rto_median",
    "read_rto_worst",
    "stale_share",
    "stale_ms_p50",
    "stale_ms_p99",
    "stale_ms_max",
    "stale_versions_max",
    "split_brain_seconds",
    "write_availability",
    "throughput_calm",
    "throughput_faulty",
    "write_ms_p50_calm",
    "write_ms_p99_calm",
    "write_ms_p99_faulty",
];

/// What says nothing more where every mode has none of it.
const DETAILS: [&str; 5] = [
    "losing_runs",
    "lost_per_fault",
    "rpo_writes_worst",
    "rpo_seconds_median",
    "rpo_seconds_worst",
];

/// Space for the names of measures.
const LABEL: usize = 22;

/// A measure of one mode as text.
pub fn text_of(measure: &Measure, row: &Row) -> String {
    row.measures
        .get(measure.name)
        .map_or_else(|| NOT_MEASURED.to_owned(), |e| estimated(measure.unit, e))
}

/// The measures worth showing of these rows: not those that none measured, nor details of nothing.
pub fn worth_showing(rows: &[&Row]) -> Vec<&'static Measure> {
    let value = |row: &&Row, name: &str| {
        row.measures
            .get(name)
            .filter(|e| e.value.is_some() || e.never)
            .copied()
    };
    SHOWN
        .iter()
        .filter(|name| {
            let detail = DETAILS.contains(name);
            // Without a fault it is the runs that lose.
            let detail = detail && !rows.iter().any(|row| row.fault == "none");
            rows.iter()
                .filter_map(|row| value(row, name))
                .any(|e| !detail || e.value != Some(0.0))
        })
        .filter_map(|name| by_name(name))
        .collect()
}

/// The rows of a fault, mode by mode.
pub fn rows_of<'a>(scorecard: &'a Scorecard, fault: &str) -> Vec<&'a Row> {
    let modes = scorecard.definition.modes.iter();
    modes
        .filter_map(|mode| scorecard.row(mode, fault))
        .collect()
}

/// What was compared, in a line.
pub fn described(scorecard: &Scorecard) -> Vec<String> {
    let d = &scorecard.definition;
    let rate = if d.rate > 0.0 {
        format!("{:.0} ops/s", d.rate)
    } else {
        "no limit of ops/s".to_owned()
    };
    let mut workloads = d.workloads.clone();
    workloads.sort_unstable();
    workloads.dedup();
    vec![
        format!(
            "{} × {} × {}",
            plural(d.modes.len() as u64, "mode"),
            plural(d.faults.len() as u64, "fault"),
            plural(u64::from(d.repeat), "run"),
        ),
        format!("{} on {}", workloads.join(", "), d.substrate),
        plural(u64::from(d.nodes), "node"),
        format!("{} clients, {rate}", d.concurrency),
        format!("{} a run", seconds(d.run_s)),
        format!("seeds from {}", d.seed),
    ]
}

/// How long it took.
pub fn pace(scorecard: &Scorecard) -> String {
    let timing = &scorecard.timing;
    let pace = timing
        .cells_per_minute
        .map(|pace| format!(": {} cells a minute", thousands(pace.round() as u64)))
        .unwrap_or_default();
    format!(
        "{} in {} on {}{pace}",
        plural(timing.cells as u64, "cell"),
        seconds(timing.seconds),
        plural(u64::from(timing.jobs), "thread"),
    )
}

/// How to read the numbers.
pub const LEGEND: &str = "In brackets: 95 % intervals (Wilson for shares of faults and runs, \
    bootstrap over runs otherwise); –: not measured; calm: while no fault is active.";

/// The screen, ending in a newline.
pub fn render(scorecard: &Scorecard, directory: Option<&Path>, style: Style) -> String {
    let mut text = String::from("\n");
    for line in wrap(&described(scorecard).join(" · "), style.width - 2) {
        let _ = writeln!(text, "  {}", style.dim(&line));
    }
    for fault in &scorecard.definition.faults {
        let rows = rows_of(scorecard, fault);
        blocks(&mut text, fault, &rows, style);
        text.push('\n');
        for row in rows {
            let said = wrap(&row.sentences.join(" "), style.width - 4);
            for (i, line) in said.iter().enumerate() {
                let _ = writeln!(text, "  {} {line}", if i == 0 { "·" } else { " " });
            }
        }
    }
    text.push('\n');
    for line in wrap(LEGEND, style.width - 2) {
        let _ = writeln!(text, "  {}", style.dim(&line));
    }
    let _ = writeln!(text, "  {}", pace(scorecard));
    if let Some(directory) = directory {
        let _ = writeln!(text, "  {}", directory.join("compare.html").display());
    }
    text
}

/// The table of one fault: as many modes side by side as the width allows.
fn blocks(text: &mut String, fault: &str, rows: &[&Row], style: Style) {
    let measures = worth_showing(rows);
    let columns: Vec<Vec<String>> = rows
        .iter()
        .map(|row| measures.iter().map(|m| text_of(m, row)).collect())
        .collect();
    let widest = columns
        .iter()
        .flatten()
        .map(|cell| cell.chars().count())
        .chain(rows.iter().map(|row| row.mode.chars().count()))
        .max()
        .unwrap_or_default();
    let room = style.width - 2 - LABEL;
    let width = (widest + 1).min(room);
    // As many side by side as there is room for, and the same number in each block.
    let blocks = rows.len().div_ceil((room / width).max(1)).max(1);
    let across = rows.len().div_ceil(blocks).max(1);
    for (rows, columns) in rows.chunks(across).zip(columns.chunks(across)) {
        let mut head = format!("{:<LABEL$}", clip(fault, LABEL - 1));
        for row in rows {
            let _ = write!(head, "{:>width$}", clip(&row.mode, width - 1));
        }
        let _ = writeln!(text, "\n  {}", style.bold(&head));
        for (i, measure) in measures.iter().enumerate() {
            let _ = write!(text, "  {:<LABEL$}", clip(measure.label, LABEL - 1));
            for column in columns {
                let _ = write!(text, "{:>width$}", clip(&column[i], width - 1));
            }
            text.push('\n');
        }
    }
}
