//! A row of the scorecard in plain words, for an operator.

use std::fmt::Write as _;

use super::measure::Unit;
use super::scorecard::Row;
use super::words::{percent, said};
use crate::report::text::{plural, thousands};

/// What a fault is called: one of them, several of them, and what was done to the cluster.
fn nouns(fault: &str) -> Option<[&'static str; 2]> {
    Some(match fault {
        "kill-leader" => ["leader kill", "leader kills"],
        "pause-leader" => ["leader pause", "leader pauses"],
        "partition-leader" | "isolate-leader" => ["leader partition", "leader partitions"],
        "partition-halves" => ["partition into halves", "partitions into halves"],
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
    // What is lost without a fault, too, is not held against the faults.
    let anyway = !without && row.loses_without_faults == Some(true);
    let trials = if anyway {
        format!("{} under {}", plural(row.runs, "run"), row.fault)
    } else if without {
        format!("{} without faults", plural(row.runs, "run"))
    } else {
        so_many(&row.fault, row.faults)
    };
    let (measure, them) = if anyway {
        ("losing_runs", "such runs".to_owned())
    } else if without {
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
        let _ = write!(
            said_so,
            ": {} of {them} lost a write (95 %: {} to {})",
            percent(losing),
            percent(low),
            percent(high)
        );
    }
    if let Some(worst) = value(row, "rpo_writes_worst").filter(|_| !without && !anyway)
        && worst > 0.0
    {
        let reach = value(row, "rpo_seconds_worst")
            .map(|s| format!(", reaching back {}", said(Unit::Seconds, s)))
            .unwrap_or_default();
        let _ = write!(
            said_so,
            "; the worst cost {}{reach}",
            plural(worst as u64, "write")
        );
    }
    if anyway {
        said_so += "; it loses writes without any fault, too";
    }
    said_so + "."
}

/// A fault that delays operations by less than this did not stop them, seconds.
const WENT_ON_S: f64 = 0.25;

fn recovery(row: &Row) -> Option<String> {
    let of = |name: &str| {
        let median = row.measures.get(format!("{name}_median").as_str())?;
        let worst = row.measures.get(format!("{name}_worst").as_str())?;
        if median.n == 0 {
            return None;
        }
        if median.never {
            return Some("mostly did not succeed again before the end of the run".to_owned());
        }
        if worst.value.is_some_and(|worst| worst < WENT_ON_S) {
            return Some("went on".to_owned());
        }
        let once = median.n == 1;
        let median = said(Unit::Seconds, median.value?);
        if once {
            return Some(format!("succeeded again after {median}"));
        }
        let worst = match worst.value {
            Some(worst) => said(Unit::Seconds, worst),
            None => "not before the end of the run".to_owned(),
        };
        Some(format!(
            "succeeded again after {median} (median; worst {worst})"
        ))
    };
    Some(match (of("write_rto"), of("read_rto")) {
        (None, None) => return None,
        (Some(writes), Some(reads)) if writes == reads => format!("Writes and reads {writes}."),
        (Some(writes), Some(reads)) => format!("Writes {writes}; reads {reads}."),
        (Some(writes), None) => format!("Writes {writes}."),
        (None, Some(reads)) => format!("Reads {reads}."),
    })
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
    if let Some(unread) = row
        .judged
        .and_then(|judged| row.acknowledged.checked_sub(judged))
        && unread > 0
    {
        doubts.push(format!(
            "of {} no final read tells whether they are lost",
            plural(unread, "acknowledged write")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cell::{Fault, Figures, Word};
    use crate::compare::scorecard::row;
    use std::collections::BTreeMap;

    /// A run whose faults lost so many writes each, of 100 acknowledged ones.
    fn run(lost: &[u64]) -> Figures {
        Figures {
            checks: BTreeMap::from([("run".to_owned(), Word::Valid)]),
            acknowledged: 100,
            judged: Some(100),
            lost: Some(lost.iter().sum()),
            faults: lost
                .iter()
                .map(|&lost| Fault {
                    began_s: 1.0,
                    ended_s: Some(2.0),
                    lost: Some(lost),
                    rpo_s: Some(lost as f64 / 100.0),
                    write_rto_s: Some(1.2),
                    read_rto_s: Some(0.01),
                })
                .collect(),
            main_s: 25.0,
            ..Figures::default()
        }
    }

    fn said(mode: &str, fault: &str, runs: &[Figures]) -> String {
        let runs = (0..).zip(runs).collect();
        of(&row(mode, fault, &runs, None, 1)).join(" ")
    }

    #[test]
    fn nothing_lost_is_a_bound_not_a_promise() {
        let runs = vec![run(&[0; 10]); 20];
        assert_eq!(
            said("semi-sync(1)", "kill-leader", &runs),
            "semi-sync(1) lost nothing in 200 leader kills: at most 1.9 % of leader kills lose a write \
             (95 %). Writes succeeded again after 1.20 s (median; worst 1.20 s); reads went on."
        );
        assert!(
            said("raft", "wipe", &runs).starts_with(
                "raft lost nothing in 200 faults (wipe): at most 1.9 % of faults (wipe)"
            )
        );
        assert_eq!(
            said("raft", "none", &vec![run(&[]); 20]),
            "raft lost nothing in 20 runs without faults: at most 16.1 % of runs without faults \
             lose a write (95 %)."
        );
    }

    #[test]
    fn losses_are_counted_and_bounded() {
        let runs = [vec![run(&[0, 0]); 15], vec![run(&[0, 3]); 5]].concat();
        let said = said("async", "kill-leader", &runs);
        assert!(
            said.starts_with(
                "async lost 15 of 2,000 acknowledged writes (0.75 %) in 40 leader kills: 12.5 % of \
                 leader kills lost a write (95 %: 5.5 % to 26.1 %); the worst cost 3 writes, \
                 reaching back 30 ms."
            ),
            "{said}"
        );
    }

    #[test]
    fn what_is_lost_without_faults_is_not_held_against_them() {
        let runs = vec![run(&[0, 3]); 10];
        let runs = (0..).zip(&runs).collect();
        let mut row = row("multi-leader-lww", "kill", &runs, None, 1);
        row.loses_without_faults = Some(true);
        assert!(
            of(&row)[0].ends_with(
                "in 10 runs under kill: 100 % of such runs lost a write (95 %: 72.2 % to 100 %); \
                 it loses writes without any fault, too."
            ),
            "{:?}",
            of(&row)
        );
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let mut unjudged = run(&[0]);
        (unjudged.judged, unjudged.lost) = (None, None);
        assert!(
            said("sync", "kill-leader", &[unjudged])
                .starts_with("sync: whether it lost acknowledged writes was not measured.")
        );
        assert_eq!(
            said("sync", "kill-leader", &[run(&[])]),
            "sync: no fault was seen to take effect in 1 run, so that nothing can be said."
        );
        assert_eq!(
            said("sync", "kill-leader", &[]),
            "sync: no run was measured."
        );
        let mut never = run(&[0]);
        never.faults[0].write_rto_s = None;
        never.judged = Some(90);
        never.checks.insert("run".to_owned(), Word::Unknown);
        let said = said("sync", "kill-leader", &[never]);
        for part in [
            "Writes mostly did not succeed again before the end of the run; reads went on.",
            "1 of 1 run proved less than asked",
            "of 10 acknowledged writes no final read tells",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
