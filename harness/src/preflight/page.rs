//! `preflight.html`: the answer as one file that needs no network.

use std::path::{Component, Path, PathBuf};

use maud::{Markup, html};

use super::Report;
use super::decide::{Outcome, Roll};
use super::words::{answer, came_to, described};
use crate::report::html::page;
use crate::report::text::thousands;

/// Nothing is loaded and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page, as it is to lie in this directory.
pub fn render(report: &Report, dir: &Path) -> String {
    let decision = &report.decision;
    let class = match decision.outcome {
        Outcome::Go => "valid",
        Outcome::NoGo => "invalid",
        Outcome::Unknown => "unknown",
    };
    let word = decision.outcome.word();
    let body = html! {
        header class=(format!("top {class}")) { div {
            div.verdict {
                span class=(format!("badge {class}")) { (word) }
                h1 { (report.versions.from) " → " (report.versions.to) }
            }
            p.lead { (described(report)) "." }
            div.meta {
                span { "started " (report.started) }
                span { "exit code " (report.exit_code()) }
            }
        } }
        main {
            section {
                h2 { "Why" }
                (list(&decision.reasons))
            }
            @if !decision.risks.is_empty() {
                section {
                    h2 { "What may still go wrong" }
                    ul { @for risk in &decision.risks { li { (risk.sentence()) } } }
                    p.soft { "One roll is a rolling upgrade and a rolling restart back, under the faults named "
                        "above. Upper limits by Clopper and Pearson, one-sided; more rolls make them smaller "
                        "(59 without a failure: 5 %, 299: 1 %). They are of this load on these machines." }
                }
            }
            @if !decision.notes.is_empty() {
                section { h2 { "Also" } (list(&decision.notes)) }
            }
            @for (i, roll) in report.rolls.iter().enumerate() {
                section {
                    h2 { "Roll " (i + 1) }
                    p { (came_to(roll)) ". " (link(dir, &roll.run, "Its report"))
                        @for control in &roll.controls {
                            " · " (link(dir, &control.run, "the same without an upgrade"))
                        }
                    }
                    (list(&roll.broken))
                    (list(&roll.doubts))
                    (parts(roll))
                }
            }
            footer { "quorate " (report.version) }
        }
    };
    page(
        &format!(
            "{}: {} → {}",
            answer(decision.outcome),
            report.versions.from,
            report.versions.to
        ),
        None,
        Some(POLICY),
        &body,
    )
}

fn list(items: &[String]) -> Markup {
    html! { @if !items.is_empty() { ul { @for item in items { li { (item) } } } } }
}

fn parts(roll: &Roll) -> Markup {
    let stopped = roll.parts.iter().any(|part| !part.stopped.is_empty());
    html! {
        div.panel { div.scroll { table {
            thead { tr {
                th { "The cluster" } th.num { "From" } th.num { "To" } th.num { "Writes acknowledged" }
                th.num { "Later read by the new" } th.num { "Later read by the old" }
                @if stopped { th { "Stopped" } }
            } }
            tbody {
                @for part in &roll.parts {
                    tr {
                        td { (part.what) }
                        td.num { (format!("{:.1} s", part.from_s)) }
                        td.num { (format!("{:.1} s", part.to_s)) }
                        td.num { (thousands(part.writes)) }
                        td.num { (thousands(part.read_by_to)) }
                        td.num { (thousands(part.read_by_from)) }
                        @if stopped { td { (part.stopped.join(", ")) } }
                    }
                }
            }
        } } }
    }
}

fn link(dir: &Path, run: &str, words: &str) -> Markup {
    let to = relative(dir, &Path::new(run).join("report.html"));
    html! { a href=(to.display().to_string()) { (words) } }
}

/// The way from a directory to a file, so that a store can be moved as a whole. Both are below the
/// same store, so they are written alike.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component<'_>>, Vec<_>) =
        (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    up.chain(to[common..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_linked_from_beside_it() {
        let from = Path::new("store/preflight/20260101T000000.000Z");
        let to = Path::new("store/demo-roll/20260101T000001.000Z/report.html");
        assert_eq!(
            relative(from, to),
            Path::new("../../demo-roll/20260101T000001.000Z/report.html")
        );
    }
}
