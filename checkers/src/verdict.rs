//! The three-valued verdict, anomalies, and what a checker returns.

use serde::{Deserialize, Serialize};

use crate::{History, Value};

/// What a checker, or a whole run, concluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// The property holds in this history.
    Valid,
    /// Nobody can say; the reason, e.g. `nothing-to-judge` or `budget: 30 s`.
    Unknown(String),
    /// The property is violated.
    Invalid,
}

impl Verdict {
    /// The worse of two: invalid > unknown > valid. Reasons of two unknowns are joined.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Invalid, _) | (_, Self::Invalid) => Self::Invalid,
            (Self::Unknown(a), Self::Unknown(b)) if a == b => Self::Unknown(a),
            (Self::Unknown(a), Self::Unknown(b)) => Self::Unknown(format!("{a}; {b}")),
            (Self::Unknown(a), Self::Valid) | (Self::Valid, Self::Unknown(a)) => Self::Unknown(a),
            (Self::Valid, Self::Valid) => Self::Valid,
        }
    }
}

/// One violation, with the operations that prove it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// What kind: `lost`, `stale-read`, `split-brain`, `non-linearizable`, …
    pub class: String,
    /// The key it happened on, where it is of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// One sentence an operator can paste into an incident report.
    pub summary: String,
    /// The `index` of the invocation event of every operation that proves it, in order.
    pub ops: Vec<u64>,
    /// Figures of this anomaly (`versions`, `ms`, …).
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub figures: serde_json::Map<String, serde_json::Value>,
}

/// What one checker found in one history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The checker's name, e.g. `lost-writes`.
    pub checker: String,
    /// Its verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How many operations it judged.
    pub judged: u64,
    /// All violations, in the order of the history.
    pub anomalies: Vec<Anomaly>,
    /// Figures of the whole history (counts, distributions), by name.
    pub figures: serde_json::Map<String, serde_json::Value>,
}

impl CheckResult {
    /// A result without anomalies and figures.
    pub fn new(checker: &str, verdict: Verdict) -> Self {
        Self {
            checker: checker.to_owned(),
            verdict,
            judged: 0,
            anomalies: Vec::new(),
            figures: serde_json::Map::new(),
        }
    }

    /// Nothing can be said, for this reason.
    pub fn unknown(checker: &str, reason: impl Into<String>) -> Self {
        Self::new(checker, Verdict::Unknown(reason.into()))
    }

    /// Sets a figure.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }
}

/// The reason for a verdict on a history without an acknowledged operation of the kind judged.
pub(crate) const NOTHING_TO_JUDGE: &str = "nothing-to-judge";

/// Folds the findings of a checker into its verdict: a violation wins over everything; then the
/// reasons why not all could be judged; then whether anything was judged at all.
pub(crate) fn conclude(violated: bool, judged: u64, reasons: Vec<String>) -> Verdict {
    if violated {
        return Verdict::Invalid;
    }
    let nothing = (judged == 0).then(|| NOTHING_TO_JUDGE.to_owned());
    reasons
        .into_iter()
        .chain(nothing)
        .map(Verdict::Unknown)
        .reduce(Verdict::merge)
        .unwrap_or(Verdict::Valid)
}

/// A property of a history.
pub trait Checker {
    /// The name used on the command line and in reports, e.g. `stale-reads`.
    fn name(&self) -> &'static str;

    /// Judges a history. Never panics on any history that could be read.
    fn check(&self, history: &History) -> CheckResult;
}
