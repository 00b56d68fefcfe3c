//! The content of `verdict.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use checkers::{CheckResult, Verdict};
use serde::{Deserialize, Serialize};

/// The version of the format of `verdict.json` that this program writes, and the newest it reads.
pub const SCHEMA: u32 = 1;

/// Everything a run came to: what was run, what was found, and how to run it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this format, see [`SCHEMA`].
    pub schema: u32,
    /// The experiment's name.
    pub name: String,
    /// The merged verdict; in JSON the fields `verdict` and, if unknown, `reason`.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the process exits with: 0 valid, 1 invalid, 2 unknown, 130 interrupted, 255 broken.
    pub exit_code: i32,
    /// The seed of all randomness.
    pub seed: u64,
    /// Replication mode, e.g. `single-leader (async)` or `raft`.
    pub mode: String,
    /// The store under test, e.g. `reference`.
    pub target: String,
    /// Where it ran: `sim`, `local`, …
    pub substrate: String,
    /// What the clients did: `register`, `set`, `append`.
    pub workload: String,
    /// The nodes' names, in order.
    pub nodes: Vec<String>,
    /// Client threads.
    pub concurrency: u32,
    /// When it started: UTC, RFC 3339.
    pub started: String,
    /// How long it ran, in seconds of the run's own clock.
    pub duration_s: f64,
    /// Operations by outcome, and by function.
    pub ops: Ops,
    /// Latency of operations that took effect; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Latency>,
    /// What each checker found.
    pub results: Vec<CheckResult>,
    /// The faults that were injected, in order of injection.
    pub faults: Vec<FaultRecord>,
    /// The exact command that repeats the run.
    pub reproduce: String,
    /// The version of the program that wrote this.
    pub version: String,
}

/// Operations by outcome. An operation without a recorded completion counts as `info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Took effect.
    pub ok: u64,
    /// Certainly did not.
    pub fail: u64,
    /// Nobody knows.
    pub info: u64,
    /// All of them.
    pub total: u64,
}

/// Operations of a run by outcome, in all and by function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ops {
    /// All functions together.
    #[serde(flatten)]
    pub all: Counts,
    /// By function: `read`, `append`, …
    #[serde(default)]
    pub by_f: BTreeMap<String, Counts>,
}

/// Latency of operations that took effect, in milliseconds from invocation to completion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// One fault as it really happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Number of the fault within the run.
    pub id: u32,
    /// What was done, in the schedule's words: `kill leader`, `isolate`, …
    pub name: String,
    /// The nodes or links it was done to.
    pub targets: Vec<String>,
    /// Seconds from the start of the run to the injection.
    pub injected_at_s: f64,
    /// Seconds from the start of the run to the healing; none if the run ended first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed_at_s: Option<f64>,
    /// What was observed of its effect, in a few words.
    pub proof: String,
    /// Whether the effect was seen. A fault that was not earns no credit.
    pub seen: bool,
    /// Seconds from the injection until writes were acknowledged again, 0 if they went on all the
    /// time; none if that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_s: Option<f64>,
}

impl Summary {
    /// The verdict as one word: `valid`, `invalid`, `unknown`.
    pub fn verdict_word(&self) -> &'static str {
        verdict_word(&self.verdict)
    }

    /// What a checker of this name found, if it ran.
    pub fn result(&self, checker: &str) -> Option<&CheckResult> {
        self.results.iter().find(|r| r.checker == checker)
    }

    /// Pretty JSON with a newline at the end: the text of `verdict.json`.
    ///
    /// # Errors
    /// Only if a figure cannot be written as JSON.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads a `verdict.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not such a file, or was written by a newer version.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let versioned: Versioned = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a verdict.json", path.display()))?;
        if versioned.schema > SCHEMA {
            bail!(
                "{} has schema {}, newer than {SCHEMA}: read it with a newer quorate",
                path.display(),
                versioned.schema
            );
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a verdict.json", path.display()))
    }
}

/// A verdict as one word.
pub(crate) fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Unknown(_) => "unknown",
    }
}
