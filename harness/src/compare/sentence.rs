//! A row of the scorecard in plain words, for an operator.

use super::measure::{Unit, percent, said};
use super::scorecard::Row;
use crate::report::text::{plural, thousands};

/// What a fault is called: one of them, several of them, and what was done to the cluster.
fn nouns(fault: &str) -> Option<[&'static str; 2]> {
    Some(match fault {
        "kill-leader" => ["leader kill", "leader kills"],
        "pause-leader" => ["leader pause", "leader pauses"],
        "partition-leader" | "isolate-leader" => ["leader partition", "leader partitions"],
        "slow-leader" => ["slowing of the leader", "slowings of the leader"],
        "slow-follower" => ["slowing of a follower", "slowings of a follower"],
        "kill" => ["kill", "kills"],
        "pause" => ["pause", "pauses"],
        "partition" => ["partition", "partitions"],
        "slow" => ["slowing", "slowings"],
        "power-loss" => ["power loss", "power losses"],
        _ => return None,
    })
}

/// `200 leader kills`, `1 leader kill`, `12 faults (wipe)`.
fn so_many(fault: &str, count: u64) -> String {
    match nouns(fault) {
        Some([one, many]) => {
            let noun = if count == 1 { one } else { many };
            format!("{} {noun}", thousands(count))
        }
        None => format!("{} ({fault})", plural(count, "fault")),
    }
}

/// `leader kills`, `faults (wipe)`.
fn kind(fault: &str) -> String {
    nouns(fault).map_or_else(|| format!("faults ({fault})"), |[_, many]| many.to_owned())
}

/// The sentences of a row; the first is about lost writes.
pub fn of(row: &Row) -> Vec<String> {
    let mut sentences = vec![losses(row)];
    sentences.extend(recovery(row));
    sentences.extend(split_brain(row));
    sentences.extend(staleness(row));
    sentences.extend(doubts(row));
    sentences
}

fn value(row: &Row, name: &str) -> Option<f64> {
    row.measures.get(name)?.value
}

fn ends(row: &Row, name: &str) -> Option<(f64, f64)> {
    let interval = row.measures.get(name)?.interval()?;
    Some((interval.low, interval.high))
}

fn losses(row: &Row) -> String {
    let mode = &row.mode;
    let without = row.fault == "none";
    if row.runs == 0 {
        return format!("{mode}: no run was measured.");
    }
    if !without && row.faults == 0 {
        return format!(
            "{mode}: no fault was seen to take effect in {}, so that nothing can be said.",
            plural(row.runs, "run")
        );
    }
    let (Some(lost), Some(judged)) = (row.lost, row.judged) else {
        return format!("{mode}: whether it lost acknowledged writes was not measured.");
    };
    let trials = if without {
        format!("{} without faults", plural(row.runs, "run"))
    } else {
        so_many(&row.fault, row.faults)
    };
    let (measure, them) = if without {
        ("losing_runs", "runs without faults".to_owned())
    } else {
        ("losing_faults", kind(&row.fault))
    };
    if lost == 0 {
        let most = ends(row, measure).map_or_else(
            || "how many of them would is not known".to_owned(),
            |(_, high)| format!("at most {} of {them} lose a write (95 %)", percent(high)),
        );
        return format!("{mode} lost nothing in {trials}: {most}.");
    }
    let share = percent(lost as f64 / judged as f64);
    let mut said_so = format!(
        "{mode} lost {} of {} acknowledged {} ({share}) in {trials}",
        thousands(lost),
        thousands(judged),
        if judged == 1 { "write" } else { "writes" },
    );
    if let (Some(losing), Some((low, high))) = (value(row, measure), ends(row, measure)) {
        said_so += &format!(
            ": {} of {them} lost a write (95 %: {} to {})",
            percent(losing),
            percent(low),
            percent(high)
        );
    }
    if let Some(worst) = value(row, "rpo_writes_worst").filter(|_| !without)
        && worst > 0.0
    {
        let reach = value(row, "rpo_seconds_worst")
            .map(|s| format!(", reaching back {}", said(Unit::Seconds, s)))
            .unwrap_or_default();
        said_so += &format!("; the worst cost {}{reach}", plural(worst as u64, "write"));
    }
    said_so + "."
}

fn recovery(row: &Row) -> Option<String> {
    let of = |class: &str, name: &str| {
        let median = row.measures.get(format!("{name}_median").as_str())?;
        let worst = row.measures.get(format!("{name}_worst").as_str())?;
        if median.n == 0 {
            return None;
        }
        if median.never {
            return Some(format!(
                "{class} did not succeed again in half of the cases"
            ));
        }
        let median = said(Unit::Seconds, median.value?);
        let worst = match worst.value {
            Some(worst) => said(Unit::Seconds, worst),
            None => "not before the end of the run".to_owned(),
        };
        Some(format!(
            "{class} succeeded again after {median} (median; worst {worst})"
        ))
    };
    let said: Vec<String> = [of("writes", "write_rto"), of("reads", "read_rto")]
        .into_iter()
        .flatten()
        .collect();
    (!said.is_empty()).then(|| capital(&said.join(", ")) + ".")
}

fn split_brain(row: &Row) -> Option<String> {
    let seconds = value(row, "split_brain_seconds").filter(|s| *s > 0.0)?;
    let runs = value(row, "split_brain_runs")? * row.measures.get("split_brain_runs")?.n as f64;
    Some(format!(
        "Two nodes acknowledged writes at the same time in {} of {}, {} a run.",
        runs.round(),
        plural(row.runs, "run"),
        said(Unit::Seconds, seconds)
    ))
}

fn staleness(row: &Row) -> Option<String> {
    let stale = value(row, "stale_share").filter(|s| *s > 0.0)?;
    let oldest = value(row, "stale_ms_max")?;
    Some(format!(
        "{} of reads were stale, by up to {}.",
        percent(stale),
        said(Unit::Milliseconds, oldest)
    ))
}

fn doubts(row: &Row) -> Option<String> {
    let mut doubts = Vec::new();
    if row.doubtful > 0 {
        doubts.push(format!(
            "{} of {} proved less than asked (a fault without effect, or replicas that did not agree again)",
            row.doubtful,
            plural(row.runs, "run")
        ));
    }
    if row.crashed > 0 {
        doubts.push(format!(
            "{} crashed and count for nothing",
            plural(row.crashed, "run")
        ));
    }
    (!doubts.is_empty()).then(|| capital(&doubts.join("; ")) + ".")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
