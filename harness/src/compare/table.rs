//! The scorecard on a terminal, at most 100 columns wide: a block for each fault, measures down,
//! modes across; then every row in plain words.

use std::fmt::Write as _;
use std::path::Path;

use super::measure::{Measure, Unit, by_name, number, percent, said};
use super::scorecard::{Row, Scorecard};
use crate::report::screen::Style;
use crate::report::text::{clip, millis, seconds, thousands, wrap};

/// Space for the names of measures.
const LABEL: usize = 24;
/// Space for each mode.
const COLUMN: usize = 18;

/// What is shown, in this order; a name without its own line is in JSON and on the page.
const SHOWN: [&str; 21] = [
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
    "stale_ms_p99",
    "stale_ms_max",
    "stale_versions_max",
    "split_brain_seconds",
    "write_availability",
    "throughput_calm",
    "throughput_faulty",
    "write_ms_p99_calm",
    "write_ms_p99_faulty",
];

/// An estimate with its interval, short: `1.6 % (1.1–2.3)`; `–` where nothing was measured.
pub fn short(measure: &Measure, row: &Row) -> String {
    let Some(estimate) = row.measures.get(measure.name) else {
        return "–".to_owned();
    };
    if estimate.never {
        return "not in the run".to_owned();
    }
    let Some(value) = estimate.value else {
        return "–".to_owned();
    };
    let interval = match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => format!(
            " ({}–{})",
            bare(measure.unit, low),
            bare(measure.unit, high)
        ),
        _ => String::new(),
    };
    format!("{}{interval}", said(measure.unit, value))
}

/// A number without its unit, in the unit that [`said`] would take for it.
fn bare(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share => percent(value).trim_end_matches(" %").to_owned(),
        Unit::Seconds => seconds(value).replace(' ', ""),
        Unit::Milliseconds => millis(value).trim_end_matches(" ms").to_owned(),
        Unit::OperationsPerSecond | Unit::Writes | Unit::Versions => number(value),
    }
}

/// The screen, ending in a newline.
pub fn render(scorecard: &Scorecard, directory: Option<&Path>, style: Style) -> String {
    let mut text = String::new();
    let described = &scorecard.definition;
    let _ = writeln!(
        text,
        "\n  {} modes × {} faults × {} runs · {} on {} · {} nodes · seeds {}..{}",
        described.modes.len(),
        described.faults.len(),
        described.repeat,
        described.workload,
        described.substrate,
        described.nodes,
        described.seed,
        described.seed.wrapping_add(u64::from(described.repeat)),
    );
    let across = (style.width.saturating_sub(2 + LABEL) / COLUMN).max(1);
    for fault in &described.faults {
        for modes in described.modes.chunks(across) {
            let rows: Vec<&Row> = modes
                .iter()
                .filter_map(|mode| scorecard.row(mode, fault))
                .collect();
            block(&mut text, fault, &rows);
        }
        text.push('\n');
        for mode in &described.modes {
            if let Some(row) = scorecard.row(mode, fault) {
                for (i, line) in wrap(&row.sentences.join(" "), style.width - 6)
                    .iter()
                    .enumerate()
                {
                    let _ = writeln!(text, "  {} {line}", if i == 0 { "·" } else { " " });
                }
            }
        }
    }
    footer(&mut text, scorecard, directory);
    text
}

fn block(text: &mut String, fault: &str, rows: &[&Row]) {
    let _ = write!(text, "\n  {:<LABEL$}", clip(fault, LABEL - 1));
    for row in rows {
        let _ = write!(text, "{:>COLUMN$}", clip(&row.mode, COLUMN - 1));
    }
    text.push('\n');
    for measure in SHOWN.iter().filter_map(|name| by_name(name)) {
        let cells: Vec<String> = rows.iter().map(|row| short(measure, row)).collect();
        if cells.iter().all(|cell| cell == "–") {
            continue;
        }
        let _ = write!(text, "  {:<LABEL$}", clip(measure.label, LABEL - 1));
        for cell in cells {
            let _ = write!(text, "{cell:>COLUMN$}");
        }
        text.push('\n');
    }
}

fn footer(text: &mut String, scorecard: &Scorecard, directory: Option<&Path>) {
    let timing = &scorecard.timing;
    let pace = timing
        .cells_per_minute
        .map(|pace| format!(": {} cells a minute", thousands(pace.round() as u64)))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "\n  {} cells in {} on {} {}{pace}",
        thousands(timing.cells as u64),
        seconds(timing.seconds),
        timing.jobs,
        if timing.jobs == 1 {
            "thread"
        } else {
            "threads"
        },
    );
    if let Some(directory) = directory {
        let _ = writeln!(text, "  {}", directory.display());
    }
}
