//! The table of the docs.

use std::fmt::Write as _;

use super::{Finding, Record, Records, Row};
use crate::report::text::{plural, share, thousands};

/// The page: each row with what came of it, as far as it was run.
pub fn page(rows: &[Row], records: &Records, file: &str) -> String {
    let mut page = format!(
        "# Track record\n\n\
         What runs have shown in stores that people use. Made from them by\n\
         `quorate track-record {file} --run`; one row by `quorate track-record {file} --run NAME`, in under\n\
         five minutes. The experiment of a row is printed by `quorate track-record {file} --print NAME`.\n\n\
         | row | store | mode | fault | seen | published |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for row in rows {
        let Some(record) = records.get(&row.name) else {
            let _ = writeln!(
                page,
                "| `{}` | | | {} | not run yet | {} |",
                row.name, row.fault, row.published
            );
            continue;
        };
        let seen: Vec<_> = row
            .checks
            .iter()
            .filter_map(|check| Some(finding(check, record.findings.get(check)?, record.runs)))
            .collect();
        let differs = row.differs.as_ref();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {}{} |",
            row.name,
            store(record),
            record.mode,
            row.fault,
            seen.join("; "),
            row.published,
            differs
                .map(|why| format!(". Differs: {why}"))
                .unwrap_or_default(),
        );
    }
    page
}

/// `etcd 3.4.23`: the first number with a point in it that the store tells of its version.
fn store(record: &Record) -> String {
    let outside = |c: char| !(c.is_ascii_digit() || c == '.');
    let mut numbers = record
        .version
        .split(outside)
        .map(|word| word.trim_matches('.'));
    let number = numbers.find(|word| word.contains('.'));
    match number {
        Some(number) => format!("{} {number}", record.store),
        None => record.store.clone(),
    }
}

/// What a checker found, in words.
fn finding(check: &str, finding: &Finding, runs: u64) -> String {
    let of_runs = format!("{} of {}", finding.invalid, plural(runs, "run"));
    let unknown = match finding.unknown {
        0 => String::new(),
        unknown => format!(" (unknown in {unknown})"),
    };
    let told = match (check, finding.share) {
        ("lost-writes", Some((lost, all))) => format!(
            "{} of {} acknowledged writes lost{}",
            thousands(lost),
            thousands(all),
            percent(lost, all)
        ),
        ("stale-reads", Some((stale, all))) => format!(
            "{} of {} reads stale{}",
            thousands(stale),
            thousands(all),
            percent(stale, all)
        ),
        _ if finding.invalid == 0 => format!("{check}: nothing in {}", plural(runs, "run")),
        _ => {
            let classes = finding.anomalies.iter();
            let classes: Vec<_> = classes
                .map(|(class, count)| format!("{} {class}", thousands(*count)))
                .collect();
            format!("{check} violated in {of_runs}: {}", classes.join(", "))
        }
    };
    told + unknown.as_str()
}

fn percent(some: u64, all: u64) -> String {
    if some == 0 || all == 0 {
        return String::new();
    }
    format!(" ({})", share(some, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "a".to_owned(),
            fault: "kill".to_owned(),
            checks: ["lost-writes", "linearizable"].map(str::to_owned).to_vec(),
            seeds: 2,
            published: "[x](y): so".to_owned(),
            differs: None,
            experiment: serde_yaml::Value::Null,
        }
    }

    fn record(lost: u64, invalid: u64) -> Record {
        let mut record = Record {
            store: "etcd".to_owned(),
            version: "etcd Version: 3.4.23".to_owned(),
            mode: "plain".to_owned(),
            runs: 2,
            ..Record::default()
        };
        record.findings.insert(
            "lost-writes".to_owned(),
            Finding {
                invalid: u64::from(lost > 0),
                share: Some((lost, 2000)),
                ..Finding::default()
            },
        );
        record.findings.insert(
            "linearizable".to_owned(),
            Finding {
                invalid,
                unknown: 1,
                anomalies: [("non-linearizable".to_owned(), 3)].into(),
                ..Finding::default()
            },
        );
        record
    }

    #[test]
    fn a_row_tells_what_its_runs_found() {
        let line = |record| {
            let page = page(&[row()], &[("a".to_owned(), record)].into(), "f.yaml");
            page.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            line(record(500, 1)),
            "| `a` | etcd 3.4.23 | plain | kill | 500 of 2,000 acknowledged writes lost (25.0 %); \
             linearizable violated in 1 of 2 runs: 3 non-linearizable (unknown in 1) | [x](y): so |"
        );
        assert!(line(record(0, 0)).contains(
            "| 0 of 2,000 acknowledged writes lost; linearizable: nothing in 2 runs (unknown in 1) |"
        ));
        let never = page(&[row()], &Records::new(), "f.yaml");
        assert!(never.ends_with("| `a` | | | kill | not run yet | [x](y): so |\n"));
    }
}
