//! The figures of one run, from its history and what the checkers found in it.
//!
//! What a run could not tell is `None`, never 0. Lost writes are held against the fault that is
//! nearest to their acknowledgement in time: the one they were acknowledged under, or else the one
//! whose beginning or end is closest. Faults that were not seen to take effect count for nothing.

use std::collections::BTreeMap;

use checkers::{CheckResult, F, History, Operation, Value, Verdict};
use serde::{Deserialize, Serialize};

use super::definition::Place;
use crate::experiment::Experiment;
use crate::report::figures::number;

/// One finished cell: a line of `cells.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Which one.
    #[serde(flatten)]
    pub place: Place,
    /// The seed of its run.
    pub seed: u64,
    /// What it measured.
    pub figures: Figures,
    /// Wall time it took, seconds.
    pub wall_s: f64,
}

/// What one run measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The word of each checker's verdict, and of the run's own (`run`).
    pub checks: BTreeMap<String, Word>,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Of those, the ones of which the final reads tell whether they are lost.
    pub judged: Option<u64>,
    /// Of those, the lost ones.
    pub lost: Option<u64>,
    /// The faults that were seen to take effect, in order.
    pub faults: Vec<Fault>,
    /// Reads that miss what was acknowledged before they began.
    pub stale: Option<Stale>,
    /// For how long two nodes acknowledged writes, seconds.
    pub split_brain_s: Option<f64>,
    /// For how long clients and faults went on, seconds.
    pub main_s: f64,
    /// Within that, for how long no write succeeded, seconds.
    pub writes_down_s: Option<f64>,
    /// Within that, for how long no read succeeded, seconds.
    pub reads_down_s: Option<f64>,
    /// While no fault was active.
    pub calm: Option<Stretch>,
    /// While one was.
    pub faulty: Option<Stretch>,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Holds.
    Valid,
    /// Nobody can say.
    Unknown,
    /// Violated.
    Invalid,
}

impl From<&Verdict> for Word {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Valid => Self::Valid,
            Verdict::Unknown(_) => Self::Unknown,
            Verdict::Invalid => Self::Invalid,
        }
    }
}

/// One fault of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When it began, seconds.
    pub began_s: f64,
    /// When it had ended, seconds; absent if it was never seen to end.
    pub ended_s: Option<f64>,
    /// Acknowledged writes lost with it; absent if losses could not be judged.
    pub lost: Option<u64>,
    /// From the first acknowledgement that was lost to the fault's beginning, or to the last
    /// such acknowledgement under it, seconds; 0 where nothing was lost.
    pub rpo_s: Option<f64>,
    /// From its beginning to the end of the first successful write invoked since, seconds; absent
    /// if there was none.
    pub write_rto_s: Option<f64>,
    /// The same for reads.
    pub read_rto_s: Option<f64>,
}

/// Stale reads of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stale {
    /// Reads that could have been.
    pub judged: u64,
    /// Reads that were.
    pub stale: u64,
    /// Median, 99th percentile and greatest age of what the stale ones showed, ms.
    pub ms: Option<[f64; 3]>,
    /// The same in versions missed.
    pub versions: Option<[f64; 3]>,
}

/// Part of the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// How long, seconds.
    pub seconds: f64,
    /// Operations begun in it that succeeded.
    pub ok: u64,
    /// Median and 99th percentile of the latency of its successful writes, ms.
    pub write_ms: Option<[f64; 2]>,
    /// The same of reads.
    pub read_ms: Option<[f64; 2]>,
}

/// Measures a run from what was recorded and found. `results` include the run's own.
pub fn measure(experiment: &Experiment, history: &History, results: &[CheckResult]) -> Figures {
    let result = |name: &str| results.iter().find(|r| r.checker == name);
    let main_ns = u64::try_from(experiment.limits.time.as_nanos()).unwrap_or(u64::MAX);
    let operations = history.operations().unwrap_or_default();
    let mut figures = Figures {
        checks: results
            .iter()
            .map(|r| (r.checker.clone(), Word::from(&r.verdict)))
            .collect(),
        acknowledged: operations
            .iter()
            .filter(|op| op.f().is_write() && op.is_ok())
            .count() as u64,
        main_s: main_ns as f64 / 1e9,
        ..Figures::default()
    };
    let mut losses = None;
    if let Some(found) = result("lost-writes") {
        let count = |name: &str| number(&found.figures, name).map(|n| n as u64);
        let judged = count("acknowledged")
            .map(|all| all.saturating_sub(count("never_read").unwrap_or(0)))
            .filter(|&judged| judged > 0);
        figures.judged = judged;
        figures.lost = judged.and(count("lost"));
        losses = figures.lost.map(|_| lost_at(found));
    }
    if let Some(found) = result("siblings") {
        // Concurrent writes that vanish unresolved are lost, too; `lost-writes` alone does not count
        // them, since a register may be overwritten.
        let count = |name: &str| number(&found.figures, name).map(|n| n as u64);
        let judged = count("acknowledged")
            .map(|all| all.saturating_sub(count("never_read").unwrap_or(0)))
            .filter(|&judged| judged > 0);
        let vanished = judged.and(count("vanished"));
        if vanished >= figures.lost {
            figures.judged = judged;
            figures.lost = vanished;
            losses = vanished.map(|_| vanished_at(found, &operations));
        }
    }
    let availability = result("availability");
    figures.faults = faults(history, availability, losses.as_deref());
    figures.stale = result("stale-reads").and_then(stale);
    if experiment.target.one_log() {
        // Where every node leads, two that acknowledge are no split brain.
        figures.split_brain_s = result("split-brain")
            .filter(|r| r.judged > 0)
            .and_then(|r| number(&r.figures, "overlap_seconds"));
    }
    if let Some(found) = availability {
        figures.writes_down_s = down(found, &operations, "writes", figures.main_s);
        figures.reads_down_s = down(found, &operations, "reads", figures.main_s);
    }
    let active = active(history, main_ns);
    figures.calm = stretch(&operations, &active, main_ns, false);
    figures.faulty = stretch(&operations, &active, main_ns, true);
    figures
}

/// When each lost write was acknowledged, seconds.
fn lost_at(result: &CheckResult) -> Vec<f64> {
    let lost = result.anomalies.iter().filter(|a| a.class == "lost");
    lost.filter_map(|a| number(&a.figures, "acknowledged_at_seconds"))
        .collect()
}

/// When each write that vanished was acknowledged, seconds.
fn vanished_at(result: &CheckResult, operations: &[Operation<'_>]) -> Vec<f64> {
    let vanished = result.anomalies.iter().filter(|a| a.class == "vanished");
    let write = |index: &u64| {
        let op = operations.iter().find(|op| op.invoke.index == *index)?;
        (op.f().is_write() && op.is_ok()).then_some(op.completed_at()? as f64 / 1e9)
    };
    vanished
        .filter_map(|anomaly| anomaly.ops.iter().find_map(write))
        .collect()
}

fn field<'a>(event: &'a checkers::Event, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = &event.value else {
        return None;
    };
    let named = |key: &Value| matches!(key, Value::Str(text) if &**text == name);
    pairs.iter().find(|(key, _)| named(key)).map(|(_, v)| v)
}

fn faults(
    history: &History,
    availability: Option<&CheckResult>,
    losses: Option<&[f64]>,
) -> Vec<Fault> {
    let proven = |id: &serde_json::Value| {
        history.nemesis().any(|event| {
            let this = |v: &Value| matches!(v, Value::Int(n) if id.as_i64() == Some(*n));
            event.f.name() == "inject"
                && field(event, "id").is_some_and(this)
                && field(event, "seen") == Some(&Value::Bool(true))
        })
    };
    let entries = availability.and_then(|r| r.figures.get("faults")?.as_array());
    let mut faults: Vec<Fault> = entries
        .into_iter()
        .flatten()
        .filter(|entry| proven(&entry["id"]))
        .filter_map(|entry| {
            Some(Fault {
                began_s: entry["injected_at_seconds"].as_f64()?,
                ended_s: entry["healed_at_seconds"].as_f64(),
                lost: losses.map(|_| 0),
                rpo_s: losses.map(|_| 0.0),
                write_rto_s: entry["recovery_seconds"].as_f64(),
                read_rto_s: entry["reads_recovery_seconds"].as_f64(),
            })
        })
        .collect();
    let mut spans: Vec<Option<(f64, f64)>> = vec![None; faults.len()];
    for &at in losses.unwrap_or_default() {
        let nearest = faults
            .iter()
            .map(|f| (f.began_s - at).max(at - f.ended_s.unwrap_or(f64::INFINITY)))
            .enumerate()
            .min_by(|a, b| a.1.max(0.0).total_cmp(&b.1.max(0.0)));
        let Some((nearest, _)) = nearest else { break };
        *faults[nearest].lost.get_or_insert(0) += 1;
        let (first, last) = spans[nearest].unwrap_or((at, faults[nearest].began_s));
        spans[nearest] = Some((first.min(at), last.max(at)));
    }
    for (fault, span) in faults.iter_mut().zip(spans) {
        if let Some((first, last)) = span {
            fault.rpo_s = Some(last - first);
        }
    }
    faults
}

fn stale(result: &CheckResult) -> Option<Stale> {
    let count = |name: &str| number(&result.figures, name).map(|n| n as u64);
    let three = |of: &str| {
        let quantile = |q: &str| number(&result.figures, &format!("{of}.{q}"));
        Some([quantile("p50")?, quantile("p99")?, quantile("max")?])
    };
    (result.judged > 0).then_some(())?;
    Some(Stale {
        judged: result.judged,
        stale: count("stale")?,
        ms: three("ms"),
        versions: three("versions"),
    })
}

/// For how much of the main phase no operation of a class succeeded; `None` if none was tried.
fn down(
    result: &CheckResult,
    operations: &[Operation<'_>],
    class: &str,
    main_s: f64,
) -> Option<f64> {
    let windows = result.figures.get("windows")?.as_array()?;
    operations
        .iter()
        .any(|op| matches_class(op.f(), class))
        .then_some(())?;
    let within = |window: &serde_json::Value| {
        let from = window["from_seconds"].as_f64()?;
        let to = window["to_seconds"].as_f64()?.min(main_s);
        (window["class"] == class).then_some((to - from).max(0.0))
    };
    Some(windows.iter().filter_map(within).sum())
}

fn matches_class(f: &F, class: &str) -> bool {
    match class {
        "writes" => f.is_write(),
        _ => *f == F::Read,
    }
}

/// When faults were active within the main phase: disjoint, ascending, ns.
fn active(history: &History, main_ns: u64) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut open: BTreeMap<i64, u64> = BTreeMap::new();
    for event in history.nemesis() {
        let Some(Value::Int(id)) = field(event, "id") else {
            continue;
        };
        match event.f.name() {
            "begin" => {
                open.insert(*id, event.time);
            }
            "heal" => {
                if let Some(from) = open.remove(id) {
                    spans.push((from, event.time));
                }
            }
            _ => {}
        }
    }
    spans.extend(open.into_values().map(|from| (from, main_ns)));
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        let to = to.min(main_ns);
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ if from < to => merged.push((from, to)),
            _ => {}
        }
    }
    merged
}

fn stretch(
    operations: &[Operation<'_>],
    active: &[(u64, u64)],
    main_ns: u64,
    faulty: bool,
) -> Option<Stretch> {
    let under_fault: u64 = active.iter().map(|(from, to)| to - from).sum();
    let length = if faulty {
        under_fault
    } else {
        main_ns.saturating_sub(under_fault)
    };
    if length == 0 {
        return None;
    }
    let inside = |at: u64| {
        let next = active.partition_point(|(from, _)| *from <= at);
        next > 0 && at < active[next - 1].1
    };
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for op in operations {
        let at = op.invoked_at();
        if at >= main_ns || !op.is_ok() || inside(at) != faulty {
            continue;
        }
        let ms = op.completed_at().unwrap_or(at).saturating_sub(at) as f64 / 1e6;
        if op.f().is_write() {
            writes.push(ms);
        } else if *op.f() == F::Read {
            reads.push(ms);
        }
    }
    Some(Stretch {
        seconds: length as f64 / 1e9,
        ok: (writes.len() + reads.len()) as u64,
        write_ms: latency(writes),
        read_ms: latency(reads),
    })
}

fn latency(mut ms: Vec<f64>) -> Option<[f64; 2]> {
    ms.sort_unstable_by(f64::total_cmp);
    let quantile = |share| crate::statistics::quantile(&ms, share);
    Some([quantile(0.5)?, quantile(0.99)?])
}

#[cfg(test)]
mod tests;
