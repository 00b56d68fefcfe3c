//! The table in words: for the terminal and the docs, without and with what was measured.

use std::fmt::Write;

use super::rows;
use super::{Demand, Expect, Row, RowResult};

/// The table as a page of the docs; `docs/truth-table.md` is this text.
pub fn docs() -> String {
    let mut text = String::from(
        "# The truth table\n\n\
         What theory says of each replication mode under each fault. Printed by `quorate truth -o \
         md`; a test fails when this file differs.\n\n\
         *holds*: no seed may show a violation, and nearly all must have been judged. *violated*: at least the \
         stated share of the seeds must show it, each within one run of a few virtual seconds. \
         `quorate truth --run --seeds 0..1000` runs every row; `quorate truth ROW --print` prints \
         a row's experiment for `quorate test --on sim`.\n\n\
         | row | mode | fault | expected | property | demand |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows::all() {
        for (i, Demand { property, expect }) in row.demands.iter().enumerate() {
            if i == 0 {
                let Row {
                    id,
                    mode,
                    fault,
                    expected,
                    ..
                } = row;
                let _ = write!(text, "| `{id}` | {mode} | {fault} | {expected} ");
            } else {
                text.push_str("| | | | ");
            }
            let _ = writeln!(text, "| {property} | {expect} |");
        }
    }
    text
}

/// The table for the terminal.
pub fn table(rows: &[&Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(
            text,
            "{}\n  {}; {}\n  expected: {}",
            row.id, row.mode, row.fault, row.expected
        );
        for Demand { property, expect } in row.demands {
            let _ = writeln!(text, "    {:<52}{expect}", property.to_string());
        }
        text.push('\n');
    }
    text
}

/// One row with what came of it, for the terminal.
pub fn result(row: &Row, result: &RowResult) -> String {
    let mark = |good: bool| {
        if good {
            "as expected"
        } else {
            "NOT AS EXPECTED"
        }
    };
    let mut text = format!(
        "{}: {}\n  {}; {}\n",
        row.id,
        mark(result.as_expected()),
        row.mode,
        row.fault
    );
    for (finding, demand) in result.findings.iter().zip(row.demands) {
        let seen = match demand.expect {
            Expect::Holds => format!("held in {} of {}", finding.held, result.seeds),
            Expect::Violated(_) => format!("violated in {} of {}", finding.violated, result.seeds),
        };
        let _ = write!(
            text,
            "    {:<48}{:<22}{seen}",
            finding.property, finding.expected
        );
        if !finding.as_expected {
            text.push_str("  <- not as expected");
            if let Some(seed) = finding.shown_by {
                let _ = write!(text, ": seed {seed}");
            }
            for (reason, count) in &finding.reasons {
                let _ = write!(text, "; unknown in {count}: {reason}");
            }
        }
        text.push('\n');
    }
    for what in result.disagreements.iter().take(5) {
        let _ = writeln!(text, "    checker and truth disagree: {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_of_the_docs_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/truth-table.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == docs(),
            "docs/truth-table.md has drifted: quorate truth -o md > docs/truth-table.md"
        );
    }

    #[test]
    fn every_row_has_an_id_of_its_own_and_a_possible_experiment() {
        let ids: BTreeSet<&str> = rows::all().map(|row| row.id).collect();
        assert_eq!(ids.len(), rows::all().count());
        for row in rows::all() {
            assert!(!row.demands.is_empty(), "{}", row.id);
            row.experiment().unwrap();
        }
    }
}
