//! What is made from the summary alone.

use checkers::Verdict;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::duration;
use crate::report::Summary;
use crate::report::figures::{Findings, number, unavailable};
use crate::report::findings::{described, findings, headline};
use crate::report::summary::{Counts, verdict_word};
use crate::report::text::{millis, plural, seconds, share, thousands};

/// A verdict as a coloured word.
pub(crate) fn badge(verdict: &Verdict) -> Markup {
    let word = verdict_word(verdict);
    html! { span class=(format!("badge {word}")) { (word) } }
}

/// The head of the page: verdict, headline, and what was run.
pub(super) fn header(summary: &Summary) -> Markup {
    html! {
        header class=(format!("top {}", summary.verdict_word())) {
            div {
                div.verdict {
                    (badge(&summary.verdict))
                    h1 { (summary.name) }
                }
                p.lead { (headline(summary)) "." }
                div.meta {
                    @for part in described(summary) { span { (part) } }
                    @if !summary.started.is_empty() { span { "started " (summary.started) } }
                    span { "exit code " (summary.exit_code) }
                }
            }
        }
    }
}

struct Card {
    class: &'static str,
    label: &'static str,
    figure: String,
    note: String,
}

/// The figures an operator asks for first. What was not measured has no card.
pub(super) fn cards(summary: &Summary) -> Markup {
    let figures = Findings::of(summary);
    let class = |checker: &str, bad: bool| match summary.result(checker).map(|r| &r.verdict) {
        Some(Verdict::Unknown(_)) => "unknown",
        Some(Verdict::Invalid) if bad => "invalid",
        Some(Verdict::Valid) if !bad => "valid",
        _ => "",
    };
    let mut cards = Vec::new();
    if let Some(lost) = figures.lost.as_ref()
        && let Some(count) = lost.lost
    {
        cards.push(Card {
            class: class("lost-writes", count > 0),
            label: "Lost writes",
            figure: thousands(count),
            note: lost
                .acknowledged
                .map(|all| format!("{} of {} acknowledged", share(count, all), thousands(all)))
                .unwrap_or_default(),
        });
    }
    // What `lost-writes` cannot tell of registers: 0 lost there must not stand alone.
    if let Some(result) = summary.result("siblings")
        && let Some(count) = number(&result.figures, "vanished")
    {
        cards.push(Card {
            class: class("siblings", count > 0.0),
            label: "Vanished writes",
            figure: thousands(count as u64),
            note: "replaced by nobody who had read them".to_owned(),
        });
    }
    if let Some(stale) = figures.stale
        && let Some(count) = stale.stale
    {
        let worst: Vec<_> = [
            stale.versions[2].map(|v| plural(v as u64, "version")),
            stale.ms[2].map(millis),
        ]
        .into_iter()
        .flatten()
        .collect();
        cards.push(Card {
            class: class("stale-reads", count > 0),
            label: "Stale reads",
            figure: thousands(count),
            note: if count > 0 && !worst.is_empty() {
                format!("worst {}", worst.join(", "))
            } else {
                stale
                    .reads
                    .map(|all| format!("of {}", plural(all, "read")))
                    .unwrap_or_default()
            },
        });
    }
    if let Some(split) = figures.split_brain
        && let Some(overlap) = split.overlap_s
    {
        let discarded = split.diverged.filter(|n| *n > 0);
        cards.push(Card {
            class: class("split-brain", overlap > 0.0 || discarded.is_some()),
            label: "Two leaders at once",
            figure: if overlap > 0.0 {
                seconds(overlap)
            } else {
                "never".to_owned()
            },
            note: discarded
                .map(|n| format!("{} discarded", plural(n, "write")))
                .unwrap_or_default(),
        });
    }
    if let Some(availability) = figures.availability {
        if let Some(down) = availability.unavailable_s {
            cards.push(Card {
                class: "",
                label: "Writes unavailable",
                figure: if down > 0.0 {
                    seconds(down)
                } else {
                    "never".to_owned()
                },
                note: availability
                    .windows
                    .map(|n| format!("in {}", plural(n, "window")))
                    .unwrap_or_default(),
            });
        }
        if let Some(percent) = availability.percent {
            cards.push(Card {
                class: "",
                label: "Availability for writes",
                figure: if percent < 100.0 {
                    format!("{:.2} %", percent.min(99.99))
                } else {
                    "100 %".to_owned()
                },
                note: format!("of {}", duration(summary)),
            });
        }
    }
    html! {
        @if !cards.is_empty() {
            div.cards {
                @for card in cards {
                    div class=(format!("card {}", card.class)) {
                        span.label { (card.label) }
                        b { (card.figure) }
                        span { (card.note) }
                    }
                }
            }
        }
    }
}

/// A row a checker.
pub(crate) fn checks(summary: &Summary) -> Markup {
    html! {
        div.panel { div.scroll { table {
            thead { tr { th { "Check" } th { "Verdict" } th { "Finding" } th.num { "Judged" } } }
            tbody {
                @for finding in findings(summary) {
                    tr {
                        td { code { (finding.result.checker) } }
                        td { (badge(&finding.result.verdict)) }
                        td { (finding.sentence) }
                        td.num { (thousands(finding.result.judged)) }
                    }
                }
                @if summary.results.is_empty() {
                    tr { td colspan="4" { "Nothing was checked." } }
                }
            }
        } } }
    }
}

/// A row a fault, with its proof.
pub(super) fn faults(summary: &Summary) -> Markup {
    html! {
        div.panel { div.scroll { table {
            thead { tr {
                th { "Fault" } th { "Target" } th.num { "From" } th.num { "To" } th { "Took effect" }
                th { "Observed" } th.num { "Writes unavailable" }
            } }
            tbody {
                @for fault in &summary.faults {
                    tr {
                        td { (fault.name) }
                        td.mono { (fault.targets.join(" ")) }
                        td.num { (format!("{:.3} s", fault.injected_at_s)) }
                        td.num {
                            @match fault.healed_at_s {
                                Some(s) => { (format!("{s:.3} s")) }
                                None => { "the end" }
                            }
                        }
                        td {
                            @if fault.seen { span.badge.none { "proven" } }
                            @else { span.badge.unknown { "not proven" } }
                        }
                        td { (fault.proof) }
                        td.num { (unavailable(summary, fault)) }
                    }
                }
            }
        } } }
    }
}

/// Operations by function and outcome, and latency.
pub(super) fn operations(summary: &Summary) -> Markup {
    let row = |name: &str, counts: &Counts| {
        html! {
            tr {
                td { (name) }
                td.num { (thousands(counts.ok)) }
                td.num { (thousands(counts.fail)) }
                td.num { (thousands(counts.info)) }
                td.num { (thousands(counts.total)) }
            }
        }
    };
    html! {
        div.panel { div.scroll { table {
            thead { tr {
                th { "Function" } th.num { "Took effect" } th.num { "Failed" } th.num { "Unknown" } th.num { "All" }
            } }
            tbody {
                @for (name, counts) in &summary.ops.by_f { (row(name, counts)) }
                (row("all", &summary.ops.all))
            }
        } } }
        @if let Some(latency) = summary.latency_ms {
            p.soft {
                "Latency: median " (millis(latency.p50)) ", p99 " (millis(latency.p99)) ", worst " (millis(latency.max)) "."
            }
        }
    }
}

/// Figures by name, on one line.
pub(super) fn figures(figures: &Map<String, Value>) -> Markup {
    html! {
        @if !figures.is_empty() {
            p.key {
                @for (name, value) in figures {
                    span { (name.replace('_', " ")) " " code { (figure(value)) } }
                }
            }
        }
    }
}

/// A figure as text: numbers with at most three decimals.
fn figure(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let rounded = (number.as_f64().unwrap_or_default() * 1e3).round() / 1e3;
            rounded.to_string()
        }
        Value::Object(fields) => {
            let named: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{} {}", name.replace('_', " "), figure(value)))
                .collect();
            named.join(", ")
        }
        other => other.to_string(),
    }
}
