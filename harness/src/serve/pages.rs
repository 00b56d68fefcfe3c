//! The store's pages.

use std::path::Path;

use maud::{Markup, html};

use super::{Filter, Run, encode};
use crate::report::Summary;
use crate::report::figures::Findings;
use crate::report::findings::headline;
use crate::report::html::{page, parts};
use crate::report::text::{seconds, thousands};

/// All runs of the store that the filter admits.
pub(super) fn index(store: &Path, runs: &[Run], filter: &Filter) -> String {
    let shown: Vec<_> = runs.iter().filter(|r| filter.admits(r)).collect();
    let body = html! {
        header.top { div {
            h1 { "Quorate" }
            div.meta { span { (thousands(runs.len() as u64)) " runs in " code { (store.display()) } } }
        } }
        main {
            @if runs.is_empty() {
                (empty(store))
            } @else {
                (filter_form(filter))
                @if shown.is_empty() {
                    p { "No run matches. " a href="/" { "Show all" } }
                } @else {
                    div.panel { div.scroll { table {
                        thead { tr {
                            th { "Verdict" } th { "Run" } th { "Mode" } th { "Workload" } th { "On" } th.num { "Faults" }
                            th.num { "Lost" } th.num { "Stale" } th.num { "Two leaders" } th.num { "Unavailable" } th.num { "Ran" }
                        } }
                        tbody { @for run in shown { (row(run)) } }
                    } } }
                    p.soft { "A dash: not measured in that run." }
                }
            }
        }
    };
    page("Quorate: runs", None, None, &body)
}

fn filter_form(filter: &Filter) -> Markup {
    html! {
        form.filter method="get" action="/" {
            select name="verdict" aria-label="verdict" {
                @for (value, words) in [("", "every verdict"), ("invalid", "invalid"), ("unknown", "unknown"), ("valid", "valid")] {
                    option value=(value) selected[filter.verdict == value] { (words) }
                }
            }
            input type="search" name="name" value=(filter.name) placeholder="name" aria-label="part of the name";
            button type="submit" { "Filter" }
        }
    }
}

fn row(run: &Run) -> Markup {
    let base = format!("/runs/{}/{}/", encode(&run.name), encode(&run.time));
    let report = if run.directory.join("report.html").is_file() {
        format!("{base}report.html")
    } else {
        base.clone()
    };
    html! {
        tr {
            @match &run.summary {
                Ok(summary) => {
                    td { (parts::badge(&summary.verdict)) }
                    td {
                        a href=(report) { (run.name) }
                        div.soft { (run.time) " · " a href=(base) { "files" } }
                    }
                    (figures(summary))
                }
                Err(why) => {
                    td { span.badge.none { "none" } }
                    td {
                        a href=(base) { (run.name) }
                        div.soft { (run.time) }
                    }
                    td.soft colspan="9" { (why) }
                }
            }
        }
    }
}

fn figures(summary: &Summary) -> Markup {
    let found = Findings::of(summary);
    let number = |n: Option<u64>| n.map_or_else(dash, thousands);
    let time = |s: Option<f64>| match s {
        None => dash(),
        Some(0.0) => "0".to_owned(),
        Some(s) => seconds(s),
    };
    html! {
        td { (summary.mode) }
        td { (summary.workload) }
        td { (summary.substrate) }
        td.num { (summary.faults.len()) }
        td.num { (number(found.lost.and_then(|l| l.lost))) }
        td.num { (number(found.stale.and_then(|s| s.stale))) }
        td.num { (time(found.split_brain.and_then(|s| s.overlap_s))) }
        td.num { (time(found.availability.and_then(|a| a.unavailable_s))) }
        td.num { (seconds(summary.duration_s)) }
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn empty(store: &Path) -> Markup {
    html! {
        h2 { "No run yet" }
        p { "There is no run in " code { (store.display()) } ". Make one; it takes half a minute:" }
        pre { code { "quorate test" } }
        p { "Then reload this page. If your runs lie elsewhere, start this server with their folder:" }
        pre { code { "quorate serve --store DIR" } }
    }
}

/// One run: what it found, and its files.
pub(super) fn run(run: &Run, files: &[(String, u64)]) -> String {
    let class = run.summary.as_ref().map_or("", |s| s.verdict_word());
    let body = html! {
        header class=(format!("top {class}")) { div {
            div.verdict {
                @if let Ok(summary) = &run.summary { (parts::badge(&summary.verdict)) }
                h1 { (run.name) }
            }
            @match &run.summary {
                Ok(summary) => p.lead { (headline(summary)) "." },
                Err(why) => p.lead { (why) },
            }
            div.meta { span { (run.time) } a href="/" { "all runs" } }
        } }
        main {
            @if let Ok(summary) = &run.summary {
                section {
                    h2 { "What was checked" }
                    (parts::checks(summary))
                }
            }
            section {
                h2 { "Files" }
                div.panel { table {
                    thead { tr { th { "File" } th { "What it is" } th.num { "Bytes" } } }
                    tbody {
                        @for (name, size) in files {
                            tr {
                                td { a href=(link(name)) { (name) } }
                                td.soft { (purpose(name)) }
                                td.num { (thousands(*size)) }
                            }
                        }
                    }
                } }
            }
            @if let Ok(summary) = &run.summary {
                section {
                    h2 { "Run it again" }
                    pre { code { (summary.reproduce) } }
                }
            }
        }
    };
    page(&format!("{} {}", run.name, run.time), None, None, &body)
}

fn link(file: &str) -> String {
    let segments: Vec<_> = file.split('/').map(encode).collect();
    segments.join("/")
}

/// Nothing in a run directory is unexplained.
fn purpose(file: &str) -> &'static str {
    match file {
        "report.html" => "the report: verdict, evidence, charts",
        "verdict.json" => "the verdict and all anomalies, for programs",
        "junit.xml" => "the verdict for CI",
        "history.jsonl" => "every operation and fault, an event a line",
        "history.jsonl.zst" => "every operation and fault, an event a line, compressed",
        "minimal.jsonl" => "the smallest history that fails again; see it with quorate check",
        "experiment.yaml" => "the experiment with all defaults written out",
        "schedule.yaml" => "the faults as they really happened; replay with --schedule",
        _ if file.starts_with("nodes/") => "what a node logged",
        _ => "",
    }
}

/// A page that says one thing.
pub(super) fn message(what: &str) -> String {
    let body = html! {
        header.top { div { h1 { "Quorate" } } }
        main {
            h2 { (what) }
            p { a href="/" { "All runs" } }
        }
    };
    page("Quorate", None, None, &body)
}
