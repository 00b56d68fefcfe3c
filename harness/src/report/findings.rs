//! What was found, one sentence a checker: shared by the screen, Markdown, `JUnit` and the page.

use std::fmt::Write as _;

use checkers::{CheckResult, Verdict};

use super::Summary;
use super::figures::{Availability, Findings, Lost, SplitBrain, Stale, number};
use super::text::{millis, plain, plural, seconds, share, thousands};

/// One checker's answer in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding<'a> {
    /// What was asked, e.g. `Lost writes`.
    pub title: String,
    /// The answer.
    pub sentence: String,
    /// What it was made from.
    pub result: &'a CheckResult,
}

/// What an operator asks for first, in that order; other checkers follow in the order they ran.
const FIRST: [&str; 3] = ["lost-writes", "stale-reads", "split-brain"];

/// One finding a checker, in the order in which an operator asks.
pub fn findings(summary: &Summary) -> Vec<Finding<'_>> {
    let figures = Findings::of(summary);
    let mut found: Vec<_> = summary
        .results
        .iter()
        .map(|result| Finding {
            title: title(&result.checker),
            sentence: sentence(&figures, result),
            result,
        })
        .collect();
    let rank = |f: &Finding<'_>| FIRST.iter().position(|name| f.result.checker == *name);
    found.sort_by_key(|f| rank(f).unwrap_or(FIRST.len()));
    found
}

/// The whole run in one line: the worst findings, or what is not known.
pub fn headline(summary: &Summary) -> String {
    match &summary.verdict {
        Verdict::Unknown(reason) => format!("nobody can say: {}", plain(reason)),
        Verdict::Valid => {
            // These two only measure: that they are valid promises nothing.
            let promises = summary
                .results
                .iter()
                .filter(|r| !["run", "availability"].contains(&r.checker.as_str()));
            let checks = promises.clone().count() as u64;
            let judged = promises.map(|r| r.judged).max().unwrap_or(0);
            let seen = summary.faults.iter().filter(|f| f.seen).count() as u64;
            let faults = match (summary.faults.is_empty(), summary.nodes.is_empty()) {
                (false, _) => format!(", through {}", plural(seen, "proven fault")),
                (true, false) => ", without a fault".to_owned(),
                // Of a history recorded elsewhere nobody knows what was done to the store.
                (true, true) => String::new(),
            };
            let hold = match checks {
                0 => return format!("nothing was promised, nothing broken{faults}"),
                1 => "the check holds".to_owned(),
                n => format!("all {n} checks hold"),
            };
            format!("{hold}: {} judged{faults}", plural(judged, "operation"))
        }
        Verdict::Invalid => {
            let parts: Vec<_> = findings(summary)
                .iter()
                .filter(|f| f.result.verdict == Verdict::Invalid)
                .map(|f| short(summary, f))
                .collect();
            if parts.is_empty() {
                "the run itself failed".to_owned()
            } else {
                parts.join(" · ")
            }
        }
    }
}

fn short(summary: &Summary, finding: &Finding<'_>) -> String {
    let figures = Findings::of(summary);
    let words = match finding.result.checker.as_str() {
        "lost-writes" => figures
            .lost
            .and_then(|l| l.lost)
            .filter(|n| *n > 0)
            .map(|n| format!("{} lost", plural(n, "acknowledged write"))),
        "stale-reads" => figures
            .stale
            .and_then(|s| s.stale)
            .filter(|n| *n > 0)
            .map(|n| plural(n, "stale read")),
        "split-brain" => figures
            .split_brain
            .and_then(|s| s.overlap_s)
            .filter(|s| *s > 0.0)
            .map(|s| format!("two leaders for {}", seconds(s))),
        "linearizable" => Some("not linearizable".to_owned()),
        "sessions" => Some("session guarantees broken".to_owned()),
        "siblings" => number(&finding.result.figures, "vanished")
            .filter(|n| *n > 0.0)
            .map(|n| format!("{} vanished", plural(n as u64, "concurrent write"))),
        "counter" => Some("counters are off".to_owned()),
        "mutual-exclusion" => Some("a lock was held twice".to_owned()),
        "list-append" | "rw-register" => {
            let mut classes = classes(finding.result);
            if classes.len() > 3 {
                classes.truncate(3);
                classes.push("…".to_owned());
            }
            text(&finding.result.figures, "model")
                .filter(|_| !classes.is_empty())
                .map(|model| format!("not {model}: {}", classes.join(", ")))
        }
        "bank" => number(&finding.result.figures, "wrong_total")
            .filter(|n| *n > 0.0)
            .map(|n| format!("{} a wrong total", showing(n as u64))),
        "convergence" => {
            let has = |class: &str| {
                let mut anomalies = finding.result.anomalies.iter();
                anomalies.any(|a| a.class == class)
            };
            // Who stopped replicating differs because of it.
            [
                ("replication-stopped", "replication stopped"),
                ("diverged", "replicas diverged"),
            ]
            .into_iter()
            .find(|(class, _)| has(class))
            .map(|(_, words)| words.to_owned())
        }
        _ => None,
    };
    words.unwrap_or_else(|| format!("{} violated", finding.result.checker))
}

/// What was run, in parts: of a recorded history much is not known, and is left out.
pub(crate) fn described(summary: &Summary) -> Vec<String> {
    let mut parts = Vec::new();
    if summary.target == summary.mode {
        parts.push(summary.mode.clone());
    } else {
        parts.push(format!("{}, {}", summary.target, summary.mode));
    }
    if !summary.nodes.is_empty() {
        let nodes = plural(summary.nodes.len() as u64, "node");
        parts.push(format!("{nodes} on {}", summary.substrate));
    }
    if !summary.workload.is_empty() {
        parts.push(format!("workload {}", summary.workload));
    }
    if summary.concurrency > 0 {
        parts.push(plural(u64::from(summary.concurrency), "client"));
    }
    parts.push(seconds(summary.duration_s));
    if !summary.nodes.is_empty() {
        parts.push(format!("seed {}", summary.seed));
    }
    parts.iter().map(|p| plain(p)).collect()
}

/// `lost-writes` → `Lost writes`.
pub(crate) fn title(checker: &str) -> String {
    let words = plain(checker).replace('-', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

fn sentence(figures: &Findings<'_>, result: &CheckResult) -> String {
    if let Verdict::Unknown(reason) = &result.verdict {
        return format!("unknown: {}", plain(reason));
    }
    let particular = match result.checker.as_str() {
        "lost-writes" => figures.lost.as_ref().and_then(lost),
        "stale-reads" => figures.stale.as_ref().and_then(stale),
        "split-brain" => figures.split_brain.as_ref().and_then(split_brain),
        "availability" => figures.availability.as_ref().and_then(availability),
        "linearizable" => linearizable(result),
        "sessions" => sessions(result),
        "siblings" => siblings(result),
        "counter" => counter(result),
        "mutual-exclusion" => mutual_exclusion(result),
        "convergence" => convergence(result),
        "list-append" | "rw-register" => isolation(result),
        "bank" => bank(result),
        "run" => run(result),
        _ => None,
    };
    // A sentence of figures must not sound better than the verdict: other classes may have failed.
    particular
        .filter(|_| result.verdict == Verdict::Valid || !result.anomalies.is_empty())
        .unwrap_or_else(|| generic(result))
}

fn linearizable(result: &CheckResult) -> Option<String> {
    let keys = number(&result.figures, "keys")? as u64;
    let bad = number(&result.figures, "keys_not_linearizable")? as u64;
    let judged = plural(result.judged, "operation");
    Some(if bad == 0 {
        format!("{judged} on {} fit one order", plural(keys, "key"))
    } else {
        format!(
            "no order fits what {} of {} returned; {judged} judged",
            thousands(bad),
            plural(keys, "key")
        )
    })
}

/// Which session guarantees were broken, and how often.
fn sessions(result: &CheckResult) -> Option<String> {
    let sessions = number(&result.figures, "sessions")? as u64;
    let broken: Vec<String> = [
        ("read_your_writes", "read your writes"),
        ("monotonic_reads", "monotonic reads"),
        ("monotonic_writes", "monotonic writes"),
        ("writes_follow_reads", "writes follow reads"),
    ]
    .into_iter()
    .filter_map(|(figure, name)| Some((number(&result.figures, figure)? as u64, name)))
    .filter(|(count, _)| *count > 0)
    .map(|(count, name)| format!("{name} {}", plural(count, "time")))
    .collect();
    let judged = plural(result.judged, "read");
    Some(if broken.is_empty() {
        format!(
            "{judged} in {} show what their sessions did and saw",
            plural(sessions, "session")
        )
    } else {
        format!("broken: {}; {judged} judged", broken.join(", "))
    })
}

/// What became of concurrent writes.
fn siblings(result: &CheckResult) -> Option<String> {
    let of = |name: &str| number(&result.figures, name).map(|n| n as u64);
    let acknowledged = plural(of("acknowledged")?, "acknowledged write");
    let broken: Vec<String> = ["vanished", "resurrected", "fabricated"]
        .into_iter()
        .filter_map(|class| Some((of(class)?, class)))
        .filter(|(count, _)| *count > 0)
        .map(|(count, class)| format!("{} {class}", thousands(count)))
        .collect();
    Some(if broken.is_empty() {
        format!("{acknowledged}: each is there or was replaced by who had read it")
    } else {
        format!("of {acknowledged}: {}", broken.join(", "))
    })
}

/// By how much counters are off.
fn counter(result: &CheckResult) -> Option<String> {
    let of = |name: &str| number(&result.figures, name).map(|n| n as u64);
    let increments = plural(of("increments")?, "acknowledged increment");
    let stale = match of("stale")? {
        0 => String::new(),
        n => format!("; {} late", plural(n, "read")),
    };
    Some(match (of("lost")?, of("extra")?) {
        (0, 0) if result.anomalies.is_empty() => {
            format!("{increments}: none lost, none counted twice{stale}")
        }
        (0, 0) => format!(
            "{} out of bounds; {increments}{stale}",
            plural(result.anomalies.len() as u64, "read")
        ),
        (lost, extra) => format!(
            "the counters are short of {} and over by {}; {increments}{stale}",
            thousands(lost),
            thousands(extra)
        ),
    })
}

/// How often a lock was held twice.
fn mutual_exclusion(result: &CheckResult) -> Option<String> {
    let of = |name: &str| number(&result.figures, name);
    let acquired = plural(of("acquired")? as u64, "acquisition");
    Some(match of("held_twice")? as u64 {
        0 => format!("{acquired}, none while another held the lock"),
        n => format!(
            "{} of {acquired} while another held the lock, for {} in all",
            thousands(n),
            seconds(of("overlap_seconds")?)
        ),
    })
}

/// Whether the replicas hold the same in the end.
fn convergence(result: &CheckResult) -> Option<String> {
    let of = |name: &str| number(&result.figures, name).map(|n| n as u64);
    let (scopes, keys, stopped) = (of("diverged_scopes")?, of("diverged_keys")?, of("stopped")?);
    let mut parts = Vec::new();
    if keys > 0 {
        parts.push(format!(
            "replicas hold different content of {}",
            plural(keys, "key")
        ));
    } else if scopes > 0 {
        parts.push("replicas hold different content".to_owned());
    }
    if stopped > 0 {
        parts.push(format!(
            "{} stopped replicating",
            plural(stopped, "replica")
        ));
    }
    Some(if parts.is_empty() {
        format!("{} hold the same", plural(result.judged, "replica"))
    } else {
        parts.join("; ")
    })
}

/// The anomalies of a consistency model, each with how often it was found: `G2-item 12 times`. The
/// checker counts more than it tells in full.
fn classes(result: &CheckResult) -> Vec<String> {
    let mut classes: Vec<&str> = result.anomalies.iter().map(|a| a.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    let counted = |class: &str| {
        let told = result.anomalies.iter().filter(|a| a.class == class).count();
        number(&result.figures, &format!("{class}_count")).map_or(told as u64, |n| n as u64)
    };
    let mut classes: Vec<_> = classes.into_iter().map(|c| (counted(c), c)).collect();
    classes.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let words = classes
        .into_iter()
        .map(|(count, class)| format!("{class} {}", plural(count, "time")));
    words.collect()
}

fn text<'a>(
    figures: &'a serde_json::Map<String, serde_json::Value>,
    name: &str,
) -> Option<&'a str> {
    figures.get(name)?.as_str()
}

/// The names in a figure that lists some.
fn listed(result: &CheckResult, name: &str) -> Vec<String> {
    let names = result
        .figures
        .get(name)
        .and_then(serde_json::Value::as_array);
    let names = names.into_iter().flatten().filter_map(|name| name.as_str());
    names.map(str::to_owned).collect()
}

/// Which isolation transactions got.
fn isolation(result: &CheckResult) -> Option<String> {
    let model = text(&result.figures, "model")?;
    let judged = plural(result.judged, "transaction");
    if result.verdict == Verdict::Valid {
        let mut also = Vec::new();
        for seen in result
            .figures
            .get("also-seen")
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
        {
            let class = seen["class"].as_str().unwrap_or_default();
            let count = number(&result.figures, &format!("{class}_count")).unwrap_or_default();
            let words = format!("{class} {}", plural(count as u64, "time"));
            if !also.contains(&words) {
                also.push(words);
            }
        }
        let also = match also.is_empty() {
            true => String::new(),
            false => format!("; seen, and allowed by it: {}", also.join(", ")),
        };
        return Some(format!("{judged} show nothing that {model} forbids{also}"));
    }
    let possible = listed(result, "not-ruled-out");
    let at_most = match possible.is_empty() {
        true => String::new(),
        false => format!("; what they show leaves at most {}", possible.join(", ")),
    };
    let classes = classes(result);
    (!classes.is_empty()).then(|| {
        format!(
            "not {model}: {} among {judged}{at_most}",
            classes.join(", ")
        )
    })
}

fn showing(reads: u64) -> String {
    match reads {
        1 => "1 read shows".to_owned(),
        n => format!("{} show", plural(n, "read")),
    }
}

/// Whether money came or went.
fn bank(result: &CheckResult) -> Option<String> {
    let of = |name: &str| number(&result.figures, name).map(|n| n as i64);
    let (total, reads) = (of("total")?, of("reads")? as u64);
    let transfers = plural(of("transfers")? as u64, "transfer");
    let wrong = of("wrong_total")? as u64;
    if result.anomalies.is_empty() {
        return Some(format!(
            "{} {total} in all accounts, through {transfers}",
            showing(reads)
        ));
    }
    let others = [
        ("unexpected_account", "an unexpected account"),
        ("missing_account", "too few accounts"),
        ("negative_balance", "an overdrawn account"),
    ];
    let mut parts = Vec::new();
    if wrong > 0 {
        let (least, most) = (of("total_min")?, of("total_max")?);
        parts.push(format!(
            "{} from {least} to {most} in all accounts instead of {total}",
            showing(wrong)
        ));
    }
    for (figure, what) in others {
        let count = of(figure)? as u64;
        if count > 0 {
            parts.push(format!("{} {what}", showing(count)));
        }
    }
    Some(format!(
        "{}; {} judged, {transfers}",
        parts.join("; "),
        plural(reads, "read")
    ))
}

/// Whether the run itself counts: its faults were proven and the cluster came back.
fn run(result: &CheckResult) -> Option<String> {
    let faults = number(&result.figures, "faults")? as u64;
    let proven = number(&result.figures, "proven")? as u64;
    Some(match faults {
        0 => "no fault was asked for; nothing broke".to_owned(),
        n if n == proven => format!("{} proven and healed", plural(n, "fault")),
        n => format!("{proven} of {} proven", plural(n, "fault")),
    })
}

fn generic(result: &CheckResult) -> String {
    let judged = plural(result.judged, "operation");
    if result.anomalies.is_empty() {
        match result.verdict {
            Verdict::Valid => format!("holds for {judged}"),
            _ => format!("violated; {judged} judged"),
        }
    } else {
        let mut sentence = match result.anomalies.len() {
            1 => "1 anomaly".to_owned(),
            n => format!("{} anomalies", thousands(n as u64)),
        };
        let mut keys: Vec<_> = result
            .anomalies
            .iter()
            .filter_map(|a| a.key.as_ref())
            .collect();
        keys.sort();
        keys.dedup();
        if !keys.is_empty() {
            let _ = write!(sentence, " on {}", plural(keys.len() as u64, "key"));
        }
        format!("{sentence}; {judged} judged")
    }
}

fn lost(lost: &Lost<'_>) -> Option<String> {
    let count = lost.lost?;
    let others = lost.others;
    let mut text = match (count, lost.acknowledged) {
        (0, Some(all)) => format!("none of {}", plural(all, "acknowledged write")),
        (0, None) => "none".to_owned(),
        (n, Some(all)) => format!(
            "{} of {} ({}) can be read nowhere",
            thousands(n),
            plural(all, "acknowledged write"),
            share(n, all)
        ),
        (n, None) => format!("{} can be read nowhere", plural(n, "acknowledged write")),
    };
    if others > 0 {
        let _ = write!(text, "; {} of other kinds", thousands(others));
    }
    Some(text)
}

fn stale(stale: &Stale) -> Option<String> {
    let count = stale.stale?;
    let of = stale
        .reads
        .map(|all| format!(" of {}", plural(all, "read")))
        .unwrap_or_default();
    if count == 0 {
        return Some(format!("none{of}"));
    }
    let mut text = if stale.reads.is_some() {
        format!("{}{of}", thousands(count))
    } else {
        plural(count, "read")
    };
    if let Some(all) = stale.reads {
        let _ = write!(text, " ({})", share(count, all));
    }
    let behind: Vec<_> = ["median", "p99", "worst"]
        .into_iter()
        .zip(stale.versions)
        .zip(stale.ms)
        .filter_map(|((name, versions), ms)| {
            let versions = versions.map(|n| plural(n.round() as u64, "version"));
            let parts: Vec<_> = [versions, ms.map(millis)].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| format!("{name} {}", parts.join(" / ")))
        })
        .collect();
    if !behind.is_empty() {
        let _ = write!(text, "; behind by {}", behind.join(", "));
    }
    Some(text)
}

fn split_brain(split: &SplitBrain) -> Option<String> {
    let overlap = split.overlap_s?;
    if overlap == 0.0 && split.diverged.unwrap_or(0) == 0 {
        return Some("never did two nodes acknowledge writes at once".to_owned());
    }
    let mut text = format!(
        "two leaders acknowledged writes at once for {}",
        seconds(overlap)
    );
    if let Some(n) = split.diverged.filter(|n| *n > 0) {
        let _ = write!(text, "; {} discarded", plural(n, "write"));
    }
    Some(text)
}

fn availability(availability: &Availability) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(percent) = availability.percent {
        let percent = if percent < 100.0 {
            percent.min(99.99)
        } else {
            percent
        };
        parts.push(format!(
            "writes were acknowledged {percent:.2} % of the time"
        ));
    }
    if let Some(s) = availability.unavailable_s {
        let windows = availability
            .windows
            .filter(|n| *n > 0)
            .map(|n| format!(" in {}", plural(n, "window")))
            .unwrap_or_default();
        parts.push(format!("unavailable {}{windows}", seconds(s)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn says_what_was_lost() {
        let summary = fixture::summary();
        let found = findings(&summary);
        assert_eq!(found.len(), summary.results.len());
        assert!(
            found[0].sentence.contains("can be read nowhere"),
            "{}",
            found[0].sentence
        );
        assert!(
            found[3].sentence.starts_with("unknown: budget"),
            "{}",
            found[3].sentence
        );
        assert!(headline(&summary).contains("acknowledged writes lost"));
    }

    #[test]
    fn what_was_lost_comes_first_whatever_ran_first() {
        let mut summary = fixture::summary();
        summary.results.reverse();
        let titles: Vec<_> = findings(&summary).into_iter().map(|f| f.title).collect();
        let expected = [
            "Lost writes",
            "Stale reads",
            "Split brain",
            "Availability",
            "Linearizable",
        ];
        assert_eq!(titles, expected);
    }

    #[test]
    fn missing_figures_are_not_zero() {
        let mut summary = fixture::summary();
        for result in &mut summary.results {
            result.figures.clear();
        }
        for finding in findings(&summary) {
            assert!(!finding.sentence.contains("none"), "{}", finding.sentence);
        }
        assert!(headline(&summary).contains("lost-writes violated"));
    }

    #[test]
    fn a_violation_of_another_class_is_not_called_none() {
        let mut summary = fixture::summary();
        let lost = &mut summary.results[0];
        lost.figures.insert("lost".into(), 0.into());
        lost.anomalies.truncate(2);
        for anomaly in &mut lost.anomalies {
            anomaly.class = "duplicated".into();
        }
        assert!(findings(&summary)[0].sentence.contains("2 of other kinds"));
    }
}
