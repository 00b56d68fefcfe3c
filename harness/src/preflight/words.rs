//! A report as text, for a screen and as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use super::decide::Roll;
use super::plan::Disturbance;
use super::{Report, decide::Outcome};
use crate::report::screen::Style;
use crate::report::text::{plural, seconds, wrap};

/// What was done, in one line.
pub(super) fn described(report: &Report) -> String {
    let Report {
        versions,
        mode,
        substrate,
        ..
    } = report;
    let faults: Vec<_> = report.faults.iter().copied().map(name).collect();
    let faults = match faults.as_slice() {
        [] => "without faults".to_owned(),
        some => format!("with {}", some.join(", ")),
    };
    format!(
        "{} → {} and back, {mode}, {} on {substrate}, {faults}, {} of {}, {}",
        versions.from,
        versions.to,
        plural(u64::from(report.nodes), "node"),
        report.rolls.len(),
        plural(u64::from(report.wanted), "roll"),
        seconds(report.took_s)
    )
}

fn name(disturbance: Disturbance) -> &'static str {
    match disturbance {
        Disturbance::Kill => "kills",
        Disturbance::Pause => "pauses",
        Disturbance::Partition => "partitions",
    }
}

/// The answer as a heading, with the sign that a screen of a run has.
pub(super) fn answer(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Go => "GO",
        Outcome::NoGo => "NO-GO",
        Outcome::Unknown => "UNKNOWN",
    }
}

/// What a roll came to, in a few words.
pub(super) fn came_to(roll: &Roll) -> String {
    let (seen, wanted) = roll.changes;
    let mut words = vec![
        format!("{seen} of {wanted} changes"),
        plural(roll.faults.len() as u64, "fault"),
        seconds(roll.duration_s),
    ];
    words.extend(
        roll.violated
            .iter()
            .map(|v| format!("{} violated", v.check)),
    );
    if !roll.broken.is_empty() {
        words.push("broken".to_owned());
    }
    if !roll.doubts.is_empty() {
        words.push(plural(roll.doubts.len() as u64, "doubt"));
    }
    words.join(", ")
}

/// For a screen.
pub fn text(report: &Report, dir: &Path, style: Style) -> String {
    let decision = &report.decision;
    let mut out = String::new();
    let sign = match decision.outcome {
        Outcome::Go => "✔",
        Outcome::NoGo => "✘",
        Outcome::Unknown => "?",
    };
    let heading = style.bold(&format!("{sign} {}", answer(decision.outcome)));
    let _ = writeln!(out, "\n{heading}   {}\n", described(report));
    let mut list = |items: &[String], dim: bool| {
        for item in items {
            for (i, line) in wrap(item, style.width.saturating_sub(4)).iter().enumerate() {
                let lead = if i == 0 { "  • " } else { "    " };
                let line = if dim { style.dim(line) } else { line.clone() };
                let _ = writeln!(out, "{lead}{line}");
            }
        }
    };
    list(&decision.reasons, false);
    let risks: Vec<_> = decision
        .risks
        .iter()
        .map(super::decide::Risk::sentence)
        .collect();
    list(&risks, false);
    list(&decision.notes, true);
    let _ = writeln!(out);
    for (i, roll) in report.rolls.iter().enumerate() {
        let _ = writeln!(
            out,
            "  roll {}  seed {}  {}",
            i + 1,
            roll.seed,
            came_to(roll)
        );
        let _ = writeln!(out, "    {}", roll.run);
        for control in &roll.controls {
            let _ = writeln!(out, "    {} (without an upgrade)", control.run);
        }
    }
    let _ = writeln!(out, "\n  {}", dir.join("preflight.html").display());
    out
}

/// As Markdown, for a change request.
pub fn markdown(report: &Report) -> String {
    let decision = &report.decision;
    let mut out = format!(
        "## Preflight: {}\n\n{}\n\n",
        answer(decision.outcome),
        described(report)
    );
    let mut list = |heading: &str, items: &[String]| {
        if !items.is_empty() {
            let _ = writeln!(out, "**{heading}**\n");
            for item in items {
                let _ = writeln!(out, "* {item}");
            }
            out.push('\n');
        }
    };
    list("Reasons", &decision.reasons);
    let risks: Vec<_> = decision
        .risks
        .iter()
        .map(super::decide::Risk::sentence)
        .collect();
    list("What may still go wrong", &risks);
    list("Also", &decision.notes);
    out += "| roll | seed | came to | run |\n| ---: | ---: | --- | --- |\n";
    for (i, roll) in report.rolls.iter().enumerate() {
        let _ = writeln!(
            out,
            "| {} | {} | {} | `{}` |",
            i + 1,
            roll.seed,
            came_to(roll),
            roll.run
        );
    }
    out
}
