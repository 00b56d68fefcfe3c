//! `compare.html`: the scorecard as one file that needs no network.

use maud::{Markup, html};

use super::measure::{MEASURES, Measure, by_name};
use super::plot::{self, Line};
use super::scorecard::{Row, Scorecard};
use super::table::{described, pace, rows_of};
use super::words::{interval, value};
use crate::report::html::page;

/// Nothing is loaded and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const FURTHER_STYLE: &str = "
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 12px; }
.plots .panel { margin: 0; }
.plots h3 { margin: 0 0 6px; }
.plots svg { width: 100%; height: auto; }
svg .group { font-weight: 700; }
.sentences { margin: 8px 0 0; padding-left: 20px; }
.sentences li { margin: 6px 0; }
td:first-child { white-space: nowrap; }
.scores th { white-space: normal; vertical-align: bottom; min-width: 70px; }
td .soft { display: block; font-size: 12px; }
td.bad { color: var(--invalid); font-weight: 650; }
td.good { color: var(--valid); font-weight: 650; }
td.bad .soft, td.good .soft { font-weight: 400; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 7px; }
";

/// The columns of a fault's table: heading, measure, and the measure of its worst, if any.
const COLUMNS: [(&str, &str, Option<&str>); 9] = [
    ("Faults losing writes", "losing_faults", None),
    ("Writes lost", "lost_share", None),
    ("RPO, worst", "rpo_seconds_worst", None),
    ("RTO of writes", "write_rto_median", Some("write_rto_worst")),
    ("RTO of reads", "read_rto_median", Some("read_rto_worst")),
    ("Stale reads", "stale_share", Some("stale_ms_max")),
    ("Split brain a run", "split_brain_seconds", None),
    ("Writes available", "write_availability", None),
    ("Write p99, calm", "write_ms_p99_calm", None),
];

/// What is plotted: heading, measure, and the measure of its worst, if any.
const PLOTS: [(&str, &str, Option<&str>); 14] = [
    ("Faults that lost a write", "losing_faults", None),
    ("Acknowledged writes lost", "lost_share", None),
    (
        "RPO: reach of what was lost",
        "rpo_seconds_median",
        Some("rpo_seconds_worst"),
    ),
    (
        "RTO: writes succeed again",
        "write_rto_median",
        Some("write_rto_worst"),
    ),
    (
        "RTO: reads succeed again",
        "read_rto_median",
        Some("read_rto_worst"),
    ),
    ("Stale reads", "stale_share", None),
    (
        "Staleness of stale reads, p99",
        "stale_ms_p99",
        Some("stale_ms_max"),
    ),
    ("Split brain per run", "split_brain_seconds", None),
    ("Time with writes available", "write_availability", None),
    (
        "Throughput while no fault is active",
        "throughput_calm",
        None,
    ),
    (
        "Throughput while a fault is active",
        "throughput_faulty",
        None,
    ),
    (
        "Latency of writes without faults, p99",
        "write_ms_p99_calm",
        None,
    ),
    (
        "Latency of writes under faults, p99",
        "write_ms_p99_faulty",
        None,
    ),
    (
        "Latency of reads without faults, p99",
        "read_ms_p99_calm",
        None,
    ),
];

/// The page.
pub fn render(scorecard: &Scorecard) -> String {
    let body = html! {
        header.top { div {
            h1 { "Replication modes compared" }
            p.lead { (headline(scorecard)) }
            div.meta { @for part in described(scorecard) { span { (part) } } }
        } }
        main {
            @for fault in &scorecard.definition.faults {
                section {
                    h2 { (fault) }
                    ul.sentences {
                        @for row in rows_of(scorecard, fault) { li { (row.sentences.join(" ")) } }
                    }
                    (table(scorecard, fault))
                }
            }
            section {
                h2 { "Estimates and their intervals" }
                p.soft {
                    "Dot: the estimate; bar: its 95 % interval; ring: the worst that was seen. "
                    "Time is drawn logarithmically where values lie far apart."
                }
                (plots(scorecard))
            }
            section {
                h2 { "All measures" }
                @for fault in &scorecard.definition.faults {
                    details { summary { (fault) } (everything(scorecard, fault)) }
                }
            }
            section {
                h2 { "How to read this" }
                (legend(scorecard))
            }
            footer { "quorate " (scorecard.quorate) " · " (pace(scorecard)) }
        }
    };
    page(
        "Replication modes compared",
        Some(FURTHER_STYLE),
        Some(POLICY),
        &body,
    )
}

/// Which modes lost acknowledged writes, and which did not.
fn headline(scorecard: &Scorecard) -> String {
    let modes = &scorecard.definition.modes;
    let of = |wanted: fn(Option<u64>) -> bool| -> Vec<&str> {
        let lost = |mode: &String| {
            let rows = scorecard.rows.iter().filter(|row| row.mode == *mode);
            rows.filter_map(|row| row.lost).reduce(|a, b| a + b)
        };
        let modes = modes.iter().filter(|mode| wanted(lost(mode)));
        modes.map(String::as_str).collect()
    };
    let lists = [
        (
            "Lost acknowledged writes",
            of(|lost| lost.is_some_and(|lost| lost > 0)),
        ),
        ("Lost none here", of(|lost| lost == Some(0))),
        ("Not measured", of(|lost| lost.is_none())),
    ];
    let said = lists.iter().filter(|(_, modes)| !modes.is_empty());
    said.map(|(what, modes)| format!("{what}: {}.", modes.join(", ")))
        .collect::<Vec<_>>()
        .join(" ")
}

fn dot(place: usize) -> Markup {
    html! { span.dot style=(format!("background:var(--e{})", place % 6)) {} }
}

/// Whether a value is what nobody wants, or what everybody does; `None` for all others.
fn judged(measure: &Measure, row: &Row) -> &'static str {
    let harm = [
        "losing_faults",
        "losing_runs",
        "lost_share",
        "stale_share",
        "split_brain_seconds",
    ];
    match row.measures.get(measure.name).and_then(|e| e.value) {
        Some(value) if harm.contains(&measure.name) => {
            if value > 0.0 {
                "num bad"
            } else {
                "num good"
            }
        }
        _ => "num",
    }
}

fn table(scorecard: &Scorecard, fault: &str) -> Markup {
    let columns = COLUMNS.map(|column| match column {
        // Without a fault it is runs that lose.
        (_, "losing_faults", None) if fault == "none" => {
            ("Runs losing writes", "losing_runs", None)
        }
        column => column,
    });
    let rows = rows_of(scorecard, fault);
    let measured = |name: &str| {
        rows.iter()
            .filter_map(|row| row.measures.get(name))
            .any(|e| e.value.is_some() || e.never)
    };
    html! {
        div.panel { div.scroll { table.scores {
            thead { tr {
                th { "Mode" }
                @for (heading, name, _) in columns { @if measured(name) { th.num { (heading) } } }
            } }
            tbody {
                @for (place, row) in rows.iter().enumerate() {
                    tr {
                        td { (dot(place)) (row.mode) }
                        @for (_, name, worst) in columns {
                            @if let Some(measure) = by_name(name).filter(|_| measured(name)) {
                                td class=(judged(measure, row)) { (cell(measure, row, worst)) }
                            }
                        }
                    }
                }
            }
        } } }
    }
}

fn cell(measure: &Measure, row: &Row, worst: Option<&str>) -> Markup {
    let estimate = row.measures.get(measure.name).copied().unwrap_or_default();
    let worst = worst.and_then(|name| {
        let of = by_name(name)?;
        let worst = row.measures.get(name)?;
        (worst.value.is_some() || worst.never).then(|| value(of.unit, worst))
    });
    html! {
        (value(measure.unit, &estimate))
        @if let Some(interval) = interval(measure.unit, &estimate) { span.soft { (interval) } }
        @if let Some(worst) = worst { span.soft { "worst " (worst) } }
    }
}

fn plots(scorecard: &Scorecard) -> Markup {
    let plot = |(heading, name, worst): (&str, &str, Option<&str>)| {
        let measure = by_name(name)?;
        let groups: Vec<(&str, Vec<Line<'_>>)> = scorecard
            .definition
            .faults
            .iter()
            .map(|fault| {
                let rows = rows_of(scorecard, fault).into_iter().enumerate();
                let lines = rows.map(|(place, row)| Line {
                    label: &row.mode,
                    colour: place,
                    estimate: row.measures.get(name).copied().unwrap_or_default(),
                    worst: worst.and_then(|worst| row.measures.get(worst).copied()),
                });
                (fault.as_str(), lines.collect::<Vec<_>>())
            })
            .filter(|(_, lines)| {
                lines
                    .iter()
                    .any(|l| l.estimate.value.is_some() || l.estimate.never)
            })
            .collect();
        // A plot of nothing but zeros shows nothing that the tables do not say.
        let flat = groups
            .iter()
            .flat_map(|(_, lines)| lines)
            .all(|l| l.estimate.value == Some(0.0) && l.estimate.high.is_none_or(|h| h == 0.0));
        let svg = plot::draw(heading, measure.unit, &groups).filter(|_| !flat)?;
        Some(html! { div.panel { h3 { (heading) } (svg) } })
    };
    html! {
        div.plots { @for shown in PLOTS.into_iter().filter_map(plot) { (shown) } }
    }
}

/// Every measure of a fault, and beside each mode its difference from the first.
fn everything(scorecard: &Scorecard, fault: &str) -> Markup {
    let rows = rows_of(scorecard, fault);
    html! {
        div.panel { div.scroll { table {
            thead { tr {
                th { "Measure" }
                @for (place, row) in rows.iter().enumerate() { th.num { (dot(place)) (row.mode) } }
            } }
            tbody {
                @for measure in &MEASURES {
                    tr {
                        td { (measure.label) }
                        @for row in &rows { td.num { (cell(measure, row, None)) (differs(measure, row, scorecard)) } }
                    }
                }
            }
        } } }
    }
}

fn differs(measure: &Measure, row: &Row, scorecard: &Scorecard) -> Markup {
    let difference = row.differences.get(measure.name);
    html! {
        @if let Some(difference) = difference {
            @if let Some(number) = difference.value.filter(|n| *n != 0.0) {
                span.soft {
                    (if number > 0.0 { "+" } else { "" }) (value(measure.unit, difference))
                    @if let Some(interval) = interval(measure.unit, difference) { " (" (interval) ")" }
                    " against " (scorecard.definition.modes[0])
                }
            }
        }
    }
}

fn legend(scorecard: &Scorecard) -> Markup {
    html! {
        ul {
            li { "Every mode runs under every fault with the same seeds: the same operations at the same "
                "times, the same faults. Differences are of runs with the same seed." }
            li { "A fault counts if it was seen to take effect. A lost write counts for the fault that is "
                "nearest to its acknowledgement." }
            li { b { "RPO" } ": from the first lost acknowledgement to the fault, or to the last lost one under it. "
                b { "RTO" } ": from the fault to the end of the first success begun after it." }
            li { b { "Availability" } ": the share of the run outside of windows of more than a second without a success." }
            li { "Shares of faults and runs have Wilson's interval; for that, faults of one run count as independent. "
                "Everything else is resampled run by run: sums and means by the studentised bootstrap, medians by "
                "percentiles. What is the same in all runs, fewer than " (crate::statistics::LEAST_RUNS)
                " runs, and the worst seen have no interval." }
            li { "–: not measured, which is not 0." }
            @let crashed: u64 = scorecard.rows.iter().map(|row| row.crashed).sum();
            @if crashed > 0 { li { b { (crashed) " runs crashed" } " and count for nothing." } }
        }
    }
}
