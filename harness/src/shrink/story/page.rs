//! `minimal.html`: the paragraph, the picture and the experiment; one file that loads nothing.

use maud::{Markup, html};

use super::{Story, paragraph, picture};
use crate::report::html::page as whole_page;
use crate::shrink::words;

/// Nothing is loaded, whatever a history contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// What the style of the reports lacks.
const STYLE: &str = "
svg.story { max-width: none; }
svg .follows { fill-opacity: .16; }
svg .fail-fill { fill: var(--fail); opacity: .55; }
svg .gained { fill: var(--valid); font-weight: 700; }
svg .holds { stroke: var(--soft); stroke-width: 1; opacity: .6; }
svg .halo-lane { paint-order: stroke; stroke: var(--code); stroke-width: 3px; stroke-linejoin: round; }
svg .vote .line { stroke: var(--e3); } svg .vote .head { fill: var(--e3); }
svg .confirm .line { stroke: var(--soft); stroke-width: 1; } svg .confirm .head { fill: var(--soft); }
svg .call .line { stroke: var(--ok); stroke-width: 1; stroke-dasharray: 1 2; } svg .call .head { fill: var(--ok); }
svg .missed text { font-weight: 400; }
.story-panel > .scroll > svg { width: auto; }
header.top > div, main.wide { max-width: 1720px; }
";

/// The page.
pub fn page(story: &Story, experiment: &str) -> String {
    let failing = &story.failing;
    let title = format!("{} · {}", story.goal.class, failing.experiment.name);
    let body = html! {
        header.top.invalid {
            div {
                div.verdict { span.badge.invalid { (story.goal.class) } h1 { "The smallest experiment that fails this way" } }
                p.meta {
                    span { (words::size(&failing.size())) }
                    span { "mode " (failing.experiment.mode()) }
                    span { "found by " (story.goal.checker) }
                    @if let Some(seed) = failing.experiment.seed { span { "seed " (seed) } }
                }
            }
        }
        main.wide {
            p.lead { (paragraph(story)) }
            div.panel.story-panel { div.scroll { (picture::draw(story)) } }
            (legend())
            h2 { "The experiment" }
            p.soft { "quorate test minimal.yaml" }
            pre { code { (experiment) } }
        }
    };
    whole_page(&title, Some(STYLE), Some(POLICY), &body)
}

fn legend() -> Markup {
    html! {
        p.key {
            (bar("ok", "wrote"))
            (bar("ok reads", "read"))
            (bar("info", "outcome unknown"))
            (bar("e1", "leads, one colour an epoch"))
            (bar("e1 follows", "follows"))
            (arrow("from", "carries data"))
            (arrow("confirm", "confirms"))
            (arrow("vote", "decides who leads"))
            (arrow("missed", "lost or cut off"))
            span { "Shaded: a fault on that node. Below each node: what it held, " b style="color:var(--valid)" { "with" } " and " span style="color:var(--fault)" { "without" }
                " what was written. Time is not to scale: pauses are shortened. Of messages alike the first." }
        }
    }
}

fn bar(class: &str, words: &str) -> Markup {
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
