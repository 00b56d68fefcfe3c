//! The check before an upgrade: a throw-away store of the operator's configuration is upgraded node
//! by node under load and faults, and taken back the same way, as often as asked.
//!
//! * [`plan`]: one roll as a schedule. * [`evidence`]: what its history shows of the two versions.
//! * [`decide`]: go, no-go or unknown, with the reasons and what may still go wrong.
//! * `words`, `page`: the same for people.
//!
//! Every roll is an ordinary run in the store. Where something was violated, the same roll is made
//! again from the old version to itself: what is violated then, too, is not the upgrade's doing.

pub mod decide;
pub mod evidence;
mod page;
pub mod plan;
mod words;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use checkers::{CheckResult, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::decide::{Control, Decision, Roll, Violation, decide};
use self::evidence::Evidence;
use self::plan::Disturbance;
use crate::commands::test::run_once;
use crate::exit;
use crate::experiment::Experiment;
use crate::judge::RUN;
use crate::report::findings::findings;
use crate::report::text::plain;
use crate::report::{FaultRecord, Summary};
use crate::store::{RunDir, create_dir, write_whole};
use crate::versions::{ENDED, NOT_UP, REFUSES, Versions};

pub use page::render as page;
pub use words::{markdown, text};

/// So many times at most a roll is made again without an upgrade, where something was violated: on
/// real machines whether it is again is chance.
const CONTROLS: u32 = 2;

/// The version of the format of `preflight.json`.
pub const SCHEMA: u32 = 1;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// One roll: its versions and its schedule are in it.
    pub experiment: Experiment,
    /// What it does while both versions are there.
    pub faults: Vec<Disturbance>,
    /// Faults that were asked for, or left to choose, and cannot be done here; why.
    pub impossible: Vec<String>,
    /// How many rolls, the seed one higher each time.
    pub rolls: u32,
    /// Where runs are kept.
    pub store: PathBuf,
}

/// The content of `preflight.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this format.
    pub schema: u32,
    /// The answer, the reasons, and what may still go wrong.
    #[serde(flatten)]
    pub decision: Decision,
    /// From which version to which.
    pub versions: Versions,
    /// Where.
    pub substrate: String,
    /// Replication mode.
    pub mode: String,
    /// Number of replicas.
    pub nodes: u16,
    /// What was done while both versions were there.
    pub faults: Vec<Disturbance>,
    /// The rolls that were made.
    pub rolls: Vec<Roll>,
    /// How many there were to be.
    pub wanted: u32,
    /// When it began: UTC, RFC 3339.
    pub started: String,
    /// How long it took, in seconds, checking included.
    pub took_s: f64,
    /// The version of this program.
    pub version: String,
}

impl Report {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self.decision.outcome {
            decide::Outcome::Go => exit::VALID,
            decide::Outcome::NoGo => exit::INVALID,
            decide::Outcome::Unknown => exit::UNKNOWN,
        }
    }
}

/// Makes the rolls, decides, and leaves the report below the store; gives back where.
///
/// # Errors
/// If the report cannot be written. A store that does not start is part of the report.
pub fn run(preflight: &Preflight) -> Result<(Report, PathBuf, bool)> {
    let began = Instant::now();
    let started = Timestamp::now();
    let dir = create_dir(&preflight.store, "preflight", started)?;
    let experiment = &preflight.experiment;
    let versions = experiment
        .versions
        .clone()
        .context("a preflight has two versions")?;
    let mut rolls: Vec<Roll> = Vec::new();
    let (mut failed, mut interrupted) = (None, false);
    for i in 0..preflight.rolls {
        eprintln!(
            "roll {} of {}: {} to {} and back",
            i + 1,
            preflight.rolls,
            versions.from,
            versions.to
        );
        let seed = experiment
            .seed
            .unwrap_or_default()
            .wrapping_add(u64::from(i));
        match roll(preflight, seed) {
            Ok((roll, stopped)) => {
                interrupted = stopped;
                let fails = roll.fails();
                rolls.push(roll);
                if fails || stopped {
                    break;
                }
            }
            Err(error) => {
                failed = Some(format!("a roll could not be made: {}", exit::said(&error)));
                break;
            }
        }
    }
    if interrupted {
        failed = Some("it was interrupted".to_owned());
    }
    let mut decision = decide(&rolls, preflight.rolls, failed.as_deref());
    let impossible = preflight.impossible.iter();
    decision
        .notes
        .extend(impossible.map(|why| format!("not done: {why}")));
    let report = Report {
        schema: SCHEMA,
        decision,
        versions,
        substrate: experiment.substrate.to_string(),
        mode: experiment.mode(),
        nodes: experiment.nodes,
        faults: preflight.faults.clone(),
        rolls,
        wanted: preflight.rolls,
        started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        took_s: began.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let json = serde_json::to_string_pretty(&report)? + "\n";
    write_whole(&dir.join("preflight.json"), &json)?;
    write_whole(&dir.join("preflight.md"), &markdown(&report))?;
    write_whole(&dir.join("preflight.html"), &page(&report, &dir))?;
    Ok((report, dir, interrupted))
}

/// One roll, and its control if need be; whether it was interrupted.
fn roll(preflight: &Preflight, seed: u64) -> Result<(Roll, bool)> {
    let mut experiment = preflight.experiment.clone();
    experiment.seed = Some(seed);
    let (summary, dir) = run_once(&experiment, &preflight.store)?;
    let mut roll = told(&experiment, &summary, &dir)?;
    let mut interrupted = summary.exit_code == i32::from(exit::INTERRUPTED);
    if let Some(versions) = &mut experiment.versions {
        versions.to = versions.from.clone();
    }
    experiment.name = experiment.name.replace("-roll", "-control");
    for _ in 0..CONTROLS {
        if interrupted || !roll.wants_control() {
            break;
        }
        eprintln!("something was violated; now the same without an upgrade");
        match run_once(&experiment, &preflight.store) {
            Ok((control, dir)) => {
                interrupted = control.exit_code == i32::from(exit::INTERRUPTED);
                let violated = violations(&control);
                // One that ended early shows what is violated, and not what is kept.
                match doubt_of_run(&control) {
                    Some(why) if violated.is_empty() => roll.doubts.push(format!(
                        "the same roll without an upgrade was not whole: {}",
                        plain(log_apart(why))
                    )),
                    _ => roll.controls.push(Control {
                        run: dir.path().display().to_string(),
                        violated,
                    }),
                }
            }
            // Then nothing excuses what was violated.
            Err(error) => {
                roll.doubts.push(format!(
                    "the same roll without an upgrade could not be made: {}",
                    exit::said(&error)
                ));
                break;
            }
        }
    }
    Ok((roll, interrupted))
}

/// What a run says of a roll.
fn told(experiment: &Experiment, summary: &Summary, dir: &RunDir) -> Result<Roll> {
    let options = checkers::format::ReadOptions {
        partial: true,
        ..Default::default()
    };
    let history = checkers::format::read_path(&dir.history(), None, &options)
        .context("cannot read back the history")?
        .history;
    let evidence = evidence::read(&history, experiment.nodes);
    let known = |result: &&CheckResult| {
        result.checker != RUN && !matches!(result.verdict, Verdict::Unknown(_))
    };
    let judged = summary.results.iter().filter(known);
    let disturbing = |fault: &&FaultRecord| fault.seen && !changes_version(fault);
    let faults = summary.faults.iter().filter(disturbing);
    Ok(Roll {
        seed: summary.seed,
        run: dir.path().display().to_string(),
        verdict: summary.verdict_word().to_owned(),
        duration_s: summary.duration_s,
        changes: (evidence.changes, 2 * u32::from(experiment.nodes)),
        faults: faults.map(|fault| fault.name.clone()).collect(),
        judged: judged.map(|result| result.checker.clone()).collect(),
        broken: broken(summary, &evidence),
        violated: violations(summary),
        doubts: doubts(summary, &evidence, experiment.nodes),
        parts: evidence.parts,
        controls: Vec::new(),
    })
}

fn changes_version(fault: &FaultRecord) -> bool {
    matches!(fault.name.as_str(), "upgrade" | "downgrade")
}

/// Why the run itself proves less than it should, in one line.
fn doubt_of_run(summary: &Summary) -> Option<&str> {
    match &summary.result(RUN)?.verdict {
        Verdict::Unknown(why) => why.lines().next(),
        _ => None,
    }
}

/// What a version did that no store may do, whatever was done to it.
fn broken(summary: &Summary, evidence: &Evidence) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some((_, why)) = doubt_of_run(summary).and_then(|why| why.split_once("target-broken: "))
        && why.contains(ENDED)
    {
        let what = evidence.parts.last().map_or("", |part| &part.what);
        broken.push(format!("{} while the cluster was {what}", log_apart(why)));
    }
    for fault in summary
        .faults
        .iter()
        .filter(|f| changes_version(f) && !f.seen)
    {
        let first = fault.proof.lines().next().unwrap_or_default();
        if first.contains(REFUSES) || first.contains(NOT_UP) {
            broken.push(format!("{}: {}", fault.name, log_apart(first)));
        }
    }
    let refused = !broken.is_empty();
    for part in &evidence.parts {
        // Who has refused has been named.
        if !part.stopped.is_empty() && !refused {
            let nodes = part.stopped.join(", ");
            broken.push(format!(
                "{nodes} stopped replicating while the cluster was {}",
                part.what
            ));
        }
        if part.writes == 0 && part.to_s - part.from_s > STANDSTILL_S {
            broken.push(format!(
                "no write was acknowledged in {:.0} s while the cluster was {}",
                part.to_s - part.from_s,
                part.what
            ));
        }
    }
    broken.dedup();
    broken
}

/// What precedes the mention of a log, whose lines are not in this one.
fn log_apart(text: &str) -> &str {
    text.split_once("; the end of ")
        .map_or(text, |(before, _)| before)
}

/// A part that is longer than this and has no acknowledged write stood still: a roll goes on without
/// one after 20 s only.
const STANDSTILL_S: f64 = 15.0;

fn doubts(summary: &Summary, evidence: &Evidence, nodes: u16) -> Vec<String> {
    let mut doubts: Vec<String> = doubt_of_run(summary)
        .map(log_apart)
        .map(plain)
        .into_iter()
        .collect();
    let wanted = 2 * u32::from(nodes);
    if evidence.changes < wanted && doubts.is_empty() {
        let seen = evidence.changes;
        doubts.push(format!(
            "only {seen} of {wanted} changes of version were seen"
        ));
    }
    for result in summary.results.iter().filter(|r| r.checker != RUN) {
        if let Verdict::Unknown(why) = &result.verdict {
            doubts.push(format!("{}: {}", result.checker, plain(why)));
        }
    }
    for (part, new) in evidence.unread() {
        doubts.push(format!(
            "no node of the {} version was seen to read what was written while the cluster was {}",
            if new { "new" } else { "old" },
            part.what
        ));
    }
    doubts
}

fn violations(summary: &Summary) -> Vec<Violation> {
    let invalid = findings(summary).into_iter();
    invalid
        .filter(|finding| finding.result.verdict == Verdict::Invalid)
        .map(|finding| Violation {
            check: finding.result.checker.clone(),
            finding: finding.sentence,
        })
        .collect()
}
