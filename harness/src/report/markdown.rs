//! Markdown, for an incident report or a pull request.

use std::fmt::Write as _;
use std::path::Path;

use checkers::Verdict;

use super::Summary;
use super::figures::unavailable;
use super::findings::{described, findings, headline};
use super::text::{millis, plain, thousands};

const EXAMPLES: usize = 10;

/// The text, ending in a newline.
pub(super) fn render(summary: &Summary, directory: Option<&Path>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# {}: {}\n\n{}\n",
        escape(&summary.name),
        summary.verdict_word(),
        escape(&headline(summary))
    );
    let _ = writeln!(out, "{}\n", escape(&described(summary).join(" · ")));
    let _ = writeln!(out, "| check | verdict | finding |\n| --- | --- | --- |");
    let found = findings(summary);
    for finding in &found {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            escape(&finding.title),
            super::summary::verdict_word(&finding.result.verdict),
            escape(&finding.sentence)
        );
    }
    for finding in &found {
        let anomalies = &finding.result.anomalies;
        if finding.result.verdict != Verdict::Invalid || anomalies.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n## {}\n", escape(&finding.title));
        for anomaly in anomalies.iter().take(EXAMPLES) {
            let _ = writeln!(out, "- {}", escape(&anomaly.summary));
        }
        if anomalies.len() > EXAMPLES {
            let _ = writeln!(
                out,
                "- … and {} more",
                thousands((anomalies.len() - EXAMPLES) as u64)
            );
        }
    }
    if !summary.faults.is_empty() {
        let _ = writeln!(
            out,
            "\n## Faults\n\n| fault | target | at | proven | writes unavailable |\n\
             | --- | --- | ---: | --- | ---: |"
        );
        for fault in &summary.faults {
            let _ = writeln!(
                out,
                "| {} | {} | {:.1} s | {}: {} | {} |",
                escape(&fault.name),
                escape(&fault.targets.join(" ")),
                fault.injected_at_s,
                if fault.seen { "yes" } else { "**no**" },
                escape(&fault.proof),
                unavailable(summary, fault)
            );
        }
    }
    let ops = &summary.ops.all;
    let _ = write!(
        out,
        "\n{} ok, {} failed, {} unknown",
        thousands(ops.ok),
        thousands(ops.fail),
        thousands(ops.info)
    );
    if let Some(latency) = summary.latency_ms {
        let _ = write!(
            out,
            "; latency p50 {}, p99 {}, max {}",
            millis(latency.p50),
            millis(latency.p99),
            millis(latency.max)
        );
    }
    let _ = writeln!(out, "\n\nRepeat it:\n\n    {}", plain(&summary.reproduce));
    if let Some(directory) = directory {
        let report = directory.join("report.html").display().to_string();
        let _ = writeln!(out, "\nReport: {}", escape(&report));
    }
    out
}

/// Text that Markdown shows as it is, also within a table.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn says_what_the_screen_says() {
        let mut summary = fixture::summary();
        summary.faults[0].proof = "a | b\nc".into();
        let text = render(&summary, None);
        assert!(text.starts_with("# async-failover: invalid\n"), "{text}");
        assert!(text.contains("| Lost writes | invalid |"), "{text}");
        assert!(text.contains("- … and "), "{text}");
        assert!(text.contains(r"a \| b"), "{text}");
        assert!(text.contains("    quorate test --mode async"), "{text}");
    }
}
