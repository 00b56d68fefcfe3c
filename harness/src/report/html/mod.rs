//! `report.html`: one file that needs no network, with the verdict and its evidence first.
//!
//! The history is gone through once and never held: what is kept are slices of time whose number
//! is bounded ([`buckets`]), and the operations of the anomalies that are shown ([`evidence`]).
//!
//! * [`series`]: throughput and latency over time.
//! * [`roles`]: which node acknowledged writes in which epoch.
//! * [`super::picture`]: the operations that prove an anomaly.
//! * [`parts`]: what is made from the summary alone, shared with the store's pages.

mod buckets;
pub(in crate::report) mod evidence;
pub(crate) mod parts;
mod roles;
mod series;

use std::borrow::Borrow;

use checkers::Event;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Summary;
use super::findings::{headline, title};
use super::picture;
use super::text::{clip, plural, seconds, thousands};
use evidence::Evidence;
use roles::Roles;
use series::Series;

const UPLOT_JS: &str = include_str!("../../../assets/uplot/uPlot.iife.min.js");
const UPLOT_CSS: &str = include_str!("../../../assets/uplot/uPlot.min.css");
const REPORT_JS: &str = include_str!("../../../assets/report.js");
/// The style of all pages.
pub(crate) const STYLE: &str = include_str!("../../../assets/style.css");

/// Nothing is loaded, whatever a history contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Renders the page. `events` is the history in its order (owned or borrowed, so that it can be
/// read from a file while rendering); `experiment` is the resolved experiment as YAML, or empty.
pub fn render<E: Borrow<Event>>(
    summary: &Summary,
    events: impl IntoIterator<Item = E>,
    experiment: &str,
) -> String {
    let mut series = Series::new();
    let mut roles = Roles::default();
    let mut evidence = Evidence::choose(summary);
    for event in events {
        let event = event.borrow();
        series.record(event);
        roles.record(event);
        evidence.record(event);
    }
    evidence.finish();
    let end_s = if summary.duration_s > 0.0 {
        summary.duration_s.max(series.last_s())
    } else {
        series.last_s()
    };
    let body = html! {
        (parts::header(summary))
        main {
            (parts::cards(summary))
            section {
                h2 { "What was checked" }
                (parts::checks(summary))
            }
            @if let Some(picture) = roles.draw(summary, end_s) {
                section {
                    h2 { "Who acknowledged writes" }
                    p.soft { "A bar: the node acknowledged writes at that time"
                        @if roles.have_epochs() {
                            ", in that epoch (one colour an epoch). Two bars above each other at one time in different epochs: split brain. "
                        } @else {
                            ". There is no leader: all nodes may at once. "
                        }
                        "Dashed: a fault on that node. Last row: no node acknowledged a write." }
                    div.panel { div.scroll { (picture) } }
                }
            }
            @if !series.is_empty() {
                (charts())
            }
            (anomalies(&evidence))
            @if !summary.faults.is_empty() {
                section {
                    h2 { "Faults" }
                    (parts::faults(summary))
                }
            }
            section {
                h2 { "Operations" }
                (parts::operations(summary))
            }
            section {
                h2 { "Run it again" }
                div.command {
                    pre { code #command { (summary.reproduce) } }
                    button.copy hidden { "copy" }
                }
                @if !experiment.is_empty() {
                    h3 { "The experiment, with all defaults written out" }
                    pre { code { (experiment) } }
                }
            }
            footer { "quorate " (summary.version) " · charts by uPlot (MIT)" }
        }
        @if !series.is_empty() {
            script type="application/json" id="series" { (script_safe(&series.to_json(summary).to_string())) }
            script { (PreEscaped(UPLOT_JS)) }
            script { (PreEscaped(REPORT_JS)) }
        }
    };
    let heading = format!(
        "{} {} · {}",
        summary.verdict_word(),
        summary.name,
        headline(summary)
    );
    page(&heading, Some(UPLOT_CSS), Some(POLICY), &body)
}

/// A whole page around a body.
pub(crate) fn page(
    title: &str,
    further_style: Option<&str>,
    policy: Option<&str>,
    body: &Markup,
) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(policy) = policy {
                    meta http-equiv="Content-Security-Policy" content=(policy);
                }
                title { (title) }
                @if let Some(style) = further_style { style { (PreEscaped(style)) } }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

/// JSON that cannot end the script element it stands in.
fn script_safe(json: &str) -> PreEscaped<String> {
    PreEscaped(json.replace('<', "\\u003c"))
}

fn charts() -> Markup {
    html! {
        section {
            h2 { "Throughput and latency" }
            p.soft { "Shaded: a fault was active. Drag to zoom, double-click to see all." }
            div.panel {
                h3 style="margin-top:0" { "Operations that ended, per second" }
                div #throughput .chart {}
                h3 { "Latency of operations that took effect (logarithmic)" }
                div #latency .chart {}
                noscript { "The charts need JavaScript; everything else on this page does not." }
            }
        }
    }
}

fn anomalies(evidence: &Evidence<'_>) -> Markup {
    html! {
        @if !evidence.groups.is_empty() {
            section {
                h2 { "Evidence" }
                p.key {
                    (key("ok", "wrote"))
                    (key("ok reads", "read"))
                    (key("fail", "certainly did not"))
                    (key("open", "unknown: may take effect later"))
                    (arrow("from", "read from"))
                    (arrow("missed", "came later, and misses it"))
                    (arrow("order", "began after its end"))
                    span { "A bar reaches from invocation to completion; label: operation → result, answering node, epoch. Faint: other operations on the key." }
                }
                @for group in &evidence.groups {
                    h3 {
                        (title(group.class)) ": " (thousands(group.total as u64))
                        span.soft style="font-weight:400" {
                            " found by " code { (group.checker) }
                        }
                    }
                    div.panel {
                        @for (i, anomaly) in group.shown.iter().enumerate() {
                            @let (scene, hidden) = evidence.scene(anomaly);
                            details.anomaly open[i == 0] {
                                // A long sentence is whole in verdict.json and when pointed at.
                                summary title=(anomaly.summary) { (clip(&anomaly.summary, 240)) }
                                // A cycle of transactions is argued step by step.
                                @if by_model(group.checker) && anomaly.summary.len() > 240 {
                                    p { (clip(&anomaly.summary, 4_000)) }
                                }
                                @if !scene.core.is_empty() {
                                    (picture::draw(&scene))
                                }
                                @if hidden > 0 {
                                    p.soft { "and " (plural(hidden as u64, "more operation")) " in history.jsonl" }
                                }
                                (parts::figures(&anomaly.figures))
                            }
                        }
                    }
                    @if group.total > group.shown.len() {
                        p.soft {
                            "The first " (group.shown.len()) " of " (thousands(group.total as u64))
                            "; the other " (thousands((group.total - group.shown.len()) as u64)) " are in verdict.json."
                        }
                    }
                }
            }
        }
    }
}

fn by_model(checker: &str) -> bool {
    crate::defaults::BY_MODEL.contains(&checker)
}

fn key(class: &str, words: &str) -> Markup {
    html! {
        span {
            svg width="28" height="14" aria-hidden="true" { rect class=(class) x="1" y="1" width="26" height="12" rx="2" {} }
            (words)
        }
    }
}

fn arrow(class: &str, words: &str) -> Markup {
    html! {
        span {
            svg width="28" height="14" aria-hidden="true" {
                g class=(format!("edge {class}")) { path.line d="M1 7 L21 7" {} path.head d="M27 7 L20 4 L20 10 Z" {} }
            }
            (words)
        }
    }
}

/// The span of a run in words, for pages.
pub(crate) fn duration(summary: &Summary) -> String {
    seconds(summary.duration_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_page_holds_everything_and_loads_nothing() {
        let history = fixture::history();
        let summary = fixture::summary();
        let page = render(&summary, &history.events, fixture::EXPERIMENT);
        for part in [
            "invalid",
            "lost-writes",
            "split brain 5.",
            "id=\"series\"",
            "isolate leader n1",
            "The first 20 of 606; the other 586",
            "kill: leader",
            "quorate test --mode async",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        for tag in ["<link", "<img", " src=", "@import", "url("] {
            assert!(!page.contains(tag), "{tag} loads something");
        }
    }

    #[test]
    fn markup_in_data_is_text() {
        let history = fixture::history();
        let mut summary = fixture::summary();
        let evil = "</script><script>alert(1)</script>";
        summary.name = evil.into();
        summary.faults[0].name = evil.into();
        summary.faults[0].proof = evil.into();
        summary.results[0].anomalies[0].summary = evil.into();
        summary.reproduce = evil.into();
        let page = render(&summary, &history.events, evil);
        assert!(!page.contains("<script>alert"));
        assert!(page.contains("&lt;/script&gt;"));
    }

    #[test]
    fn an_empty_history_still_has_a_page() {
        let mut summary = fixture::valid();
        summary.results.clear();
        summary.faults.clear();
        let page = render(&summary, &[] as &[Event], "");
        assert!(page.contains("What was checked"));
        assert!(!page.contains("id=\"series\""));
    }

    #[test]
    fn events_may_be_owned() {
        let history = fixture::history();
        let summary = fixture::summary();
        let borrowed = render(&summary, &history.events, "");
        assert_eq!(render(&summary, history.events, ""), borrowed);
    }
}
