//! What a run came to in a few figures: what the status of a `ConsistencyTest` shows.

use checkers::{History, Verdict};
use k8s::crd::Row;
use k8s::phase::Figures;
use serde_json::Value;

use crate::compare::cell::measure;
use crate::experiment::Experiment;
use crate::report::Summary;

/// A run in a few figures. RPO and RTO are those of the worst fault, and absent if one of them is
/// not known: it may be worse than all others.
pub(crate) fn figures(experiment: &Experiment, history: &History, summary: &Summary) -> Figures {
    let measured = measure(experiment, history, &summary.results);
    let reason = match &summary.verdict {
        Verdict::Valid => None,
        Verdict::Unknown(reason) => Some(reason.clone()),
        Verdict::Invalid => {
            let violated = summary.results.iter();
            let violated = violated.filter(|result| result.verdict == Verdict::Invalid);
            let names: Vec<&str> = violated.map(|result| result.checker.as_str()).collect();
            Some(format!("violated: {}", names.join(", ")))
        }
    };
    let faults = &measured.faults;
    Figures {
        verdict: Some(summary.verdict_word().to_owned()),
        reason,
        seed: Some(summary.seed),
        lost_writes: measured.lost,
        rpo_seconds: worst(faults.iter().map(|fault| fault.rpo_s)),
        rto_seconds: worst(faults.iter().map(|fault| fault.write_rto_s)),
        ..Figures::default()
    }
}

/// A scorecard in a few lines.
pub(crate) fn of_scorecard(scorecard: &Value) -> Figures {
    let rows = scorecard["rows"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let table = rows.iter().map(|row| {
        let measure = |name: &str| row["measures"][name]["value"].as_f64();
        Row {
            mode: text(&row["mode"]),
            fault: text(&row["fault"]),
            lost_share: measure("lost_share"),
            rpo_seconds: measure("rpo_seconds_worst"),
            rto_seconds: measure("write_rto_median"),
        }
    });
    Figures {
        seed: scorecard["definition"]["seed"].as_u64(),
        runs: Some(rows.iter().filter_map(|row| row["runs"].as_u64()).sum()),
        table: table.collect(),
        ..Figures::default()
    }
}

fn worst(each: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Option<Vec<f64>> = each.collect();
    let worst = known?.into_iter().max_by(f64::total_cmp)?;
    // Milliseconds: what is beyond them is of no use in a column.
    Some((worst * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_not_known_unless_all_are() {
        assert_eq!(
            worst([Some(1.0), Some(3.0), Some(2.0)].into_iter()),
            Some(3.0)
        );
        assert_eq!(worst([Some(1.0), None].into_iter()), None);
        assert_eq!(worst([Some(0.123_456)].into_iter()), Some(0.123));
        assert_eq!(worst(std::iter::empty()), None);
    }
}
