//! What a run came to in a few figures: what the status of a `ConsistencyTest` shows.

use checkers::{History, Verdict};
use serde::{Deserialize, Serialize};

use crate::compare::cell::{Figures, measure};
use crate::experiment::Experiment;
use crate::report::Summary;

/// A run in a few figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// `valid`, `invalid` or `unknown`.
    pub verdict: String,
    /// Why it is unknown, or what is violated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The exit code.
    pub exit_code: i32,
    /// The seed.
    pub seed: u64,
    /// Acknowledged writes that are lost, if that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_writes: Option<u64>,
    /// How far back lost writes reach, in seconds, under the worst fault: from the first lost one to
    /// the fault's beginning; 0 where nothing was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_s: Option<f64>,
    /// From a fault's beginning to the first write that succeeded since, in seconds, under the worst
    /// fault; absent if there was none, or a fault without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_s: Option<f64>,
}

impl Digest {
    /// Of a run.
    pub fn of(experiment: &Experiment, history: &History, summary: &Summary) -> Self {
        Self::from_figures(&measure(experiment, history, &summary.results), summary)
    }

    fn from_figures(figures: &Figures, summary: &Summary) -> Self {
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
        let worst = |each: Vec<Option<f64>>| {
            // One that is not known may be worse than all others.
            let known: Option<Vec<f64>> = each.into_iter().collect();
            known?.into_iter().max_by(f64::total_cmp)
        };
        Self {
            verdict: summary.verdict_word().to_owned(),
            reason,
            exit_code: summary.exit_code,
            seed: summary.seed,
            lost_writes: figures.lost,
            rpo_s: worst(figures.faults.iter().map(|fault| fault.rpo_s).collect()),
            rto_s: worst(
                figures
                    .faults
                    .iter()
                    .map(|fault| fault.write_rto_s)
                    .collect(),
            ),
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// Only if a figure cannot be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}
