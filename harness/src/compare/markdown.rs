//! The scorecard in Markdown, for a decision record or a pull request.

use std::fmt::Write as _;

use super::scorecard::Scorecard;
use super::table::{LEGEND, described, pace, rows_of, text_of, worth_showing};

/// The scorecard in Markdown, ending in a newline.
pub fn render(scorecard: &Scorecard) -> String {
    let mut text = format!(
        "# Replication modes compared\n\n{}.\n",
        described(scorecard).join(" · ")
    );
    for fault in &scorecard.definition.faults {
        let rows = rows_of(scorecard, fault);
        let _ = writeln!(text, "\n## {}\n", escaped(fault));
        for row in &rows {
            let _ = writeln!(text, "* {}", escaped(&row.sentences.join(" ")));
        }
        let modes: Vec<String> = rows.iter().map(|row| escaped(&row.mode)).collect();
        let _ = writeln!(text, "\n| | {} |", modes.join(" | "));
        let _ = writeln!(text, "| --- |{}", " ---: |".repeat(rows.len()));
        for measure in worth_showing(&rows) {
            let cells: Vec<String> = rows.iter().map(|row| text_of(measure, row)).collect();
            let _ = writeln!(text, "| {} | {} |", measure.label, cells.join(" | "));
        }
    }
    let _ = writeln!(text, "\n{LEGEND} {}.", pace(scorecard));
    text
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '*' | '_' | '`' | '<' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
