//! What comes next for a `ConsistencyTest` or a `Scorecard`: a pure function of its spec, its status
//! and what is seen of its Job. All that is known is in these objects, so an operator that starts
//! goes on where another was killed.
//!
//! ```text
//!            a run is due             its Job is there          its Job has ended
//! Scheduled ─────────────► Pending ─────────────────► Running ───────────────────► Complete
//! Complete, Failed, …       (Job is started; again                                 Failed
//!                            if it was not)
//! ```

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crd::{Condition, Phase, Row, RunSpec, RunStatus};
use crate::schedule::Schedule;

/// What a run came to: what a Job hands over for the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// `valid`, `invalid` or `unknown`; none of a scorecard.
    pub verdict: Option<String>,
    /// What is violated, or why nobody can say.
    pub reason: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
    /// Acknowledged writes lost.
    pub lost_writes: Option<u64>,
    /// How far back they reach, seconds.
    pub rpo_seconds: Option<f64>,
    /// How long writes were away, seconds.
    pub rto_seconds: Option<f64>,
    /// Of a scorecard: how many runs it is made of.
    pub runs: Option<u64>,
    /// Of a scorecard: its lines.
    pub table: Vec<Row>,
}

/// What is seen of a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum JobSeen {
    /// There is none of this name.
    Missing,
    /// It has not ended.
    Running,
    /// It has ended.
    Ended {
        /// What its harness exited with, if that is known.
        exit_code: Option<u8>,
        /// What it handed over.
        figures: Option<Figures>,
        /// Why there is no verdict.
        error: Option<String>,
    },
}

/// What is seen of the world.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The time of the operator's clock.
    pub now: Timestamp,
    /// The resource's uid.
    pub uid: &'a str,
    /// The generation of its spec.
    pub generation: i64,
    /// When it was made.
    pub created: Timestamp,
    /// The Job of `status.run`.
    pub job: JobSeen,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the Job of this name, unless it is there.
    Start(String),
    /// Nothing, until something changes or this time has passed.
    Wait(Option<Duration>),
}

/// Whether a run is under way or about to be.
pub fn is_under_way(status: &RunStatus) -> bool {
    matches!(status.phase, Some(Phase::Pending | Phase::Running))
}

/// The status that follows, and what is to be done once it is written. A schedule that cannot be
/// read is one that is never due; whoever calls this has refused it before.
pub fn next(spec: &RunSpec, status: &RunStatus, seen: &Seen<'_>) -> (RunStatus, Step) {
    let mut status = status.clone();
    if is_under_way(&status)
        && let Some(run) = status.run.clone()
    {
        match (&seen.job, status.phase) {
            (JobSeen::Missing, Some(Phase::Pending)) => return (status, Step::Start(run)),
            (JobSeen::Running, _) => {
                status.phase = Some(Phase::Running);
                return (status, Step::Wait(None));
            }
            (JobSeen::Missing, _) => {
                let error = format!("Job {run} was deleted before it ended");
                conclude(&mut status, seen, None, None, Some(error));
            }
            (
                JobSeen::Ended {
                    exit_code,
                    figures,
                    error,
                },
                _,
            ) => conclude(
                &mut status,
                seen,
                *exit_code,
                figures.clone(),
                error.clone(),
            ),
        }
    }
    let schedule = spec
        .schedule
        .as_ref()
        .map(|text| Schedule::parse(text).ok());
    status.next_run = match (&schedule, spec.suspend) {
        (Some(Some(schedule)), false) => schedule.after(seen.now).map(|time| time.to_string()),
        _ => None,
    };
    let due = match &schedule {
        None => {
            let new = status.observed_generation != Some(seen.generation);
            let again = status.phase == Some(Phase::Refused);
            (new || again).then(|| (format!("generation {}", seen.generation), None))
        }
        Some(schedule) => {
            let last = status.last_scheduled.as_ref();
            let last = last.and_then(|time| time.parse().ok());
            let since = last.unwrap_or(seen.created).max(seen.created);
            let due = schedule
                .as_ref()
                .and_then(|schedule| schedule.due(since, seen.now));
            due.map(|time| (format!("time {time}"), Some(time)))
        }
    };
    match due {
        _ if spec.suspend => {
            status.phase = Some(Phase::Suspended);
            (status, Step::Wait(None))
        }
        Some((key, time)) => {
            let run = run_name(seen.uid, &key);
            begin(&mut status, seen, &run);
            if let Some(time) = time {
                status.last_scheduled = Some(time.to_string());
            }
            (status, Step::Start(run))
        }
        None => {
            let waits = matches!(status.phase, None | Some(Phase::Suspended | Phase::Refused));
            if schedule.is_some() && waits {
                status.phase = Some(Phase::Scheduled);
            }
            status.observed_generation = Some(seen.generation);
            let next = status.next_run.as_ref();
            let next: Option<Timestamp> = next.and_then(|time| time.parse().ok());
            let wait = next.map(|next| {
                let wait = Duration::try_from(next.duration_since(seen.now));
                // Never before it is due.
                wait.unwrap_or_default() + Duration::from_millis(100)
            });
            (status, Step::Wait(wait))
        }
    }
}

/// The status of a resource that nothing is started for.
pub fn refused(status: &RunStatus, seen: &Seen<'_>, why: &str) -> RunStatus {
    let mut status = status.clone();
    status.phase = Some(Phase::Refused);
    status.observed_generation = Some(seen.generation);
    status.next_run = None;
    status.reason = Some(why.to_owned());
    let mut set =
        |kind: &str, value: &str| condition(&mut status, seen, kind, value, "Refused", why);
    set("Complete", "False");
    set("Valid", "Unknown");
    set("Failed", "True");
    status
}

/// The name of the run for this occasion: the same whoever asks, so that nothing is run twice.
pub fn run_name(uid: &str, key: &str) -> String {
    let text = format!("{uid} {key}");
    // FNV-1a: tells occasions apart, and promises nothing against forgery.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("run-{:012x}", hash & 0xffff_ffff_ffff)
}

fn begin(status: &mut RunStatus, seen: &Seen<'_>, run: &str) {
    *status = RunStatus {
        phase: Some(Phase::Pending),
        observed_generation: Some(seen.generation),
        run: Some(run.to_owned()),
        started: Some(seconds(seen.now)),
        last_scheduled: status.last_scheduled.take(),
        next_run: status.next_run.take(),
        conditions: std::mem::take(&mut status.conditions),
        ..RunStatus::default()
    };
    let message = format!("{run} is under way");
    condition(status, seen, "Complete", "False", "Running", &message);
    condition(status, seen, "Valid", "Unknown", "Running", &message);
    condition(status, seen, "Failed", "False", "Running", &message);
}

fn conclude(
    status: &mut RunStatus,
    seen: &Seen<'_>,
    exit_code: Option<u8>,
    figures: Option<Figures>,
    error: Option<String>,
) {
    let number = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    let figures = figures.unwrap_or_default();
    status.finished = Some(seconds(seen.now));
    status.exit_code = exit_code.map(i32::from);
    status.verdict = figures.verdict;
    status.reason = error.or(figures.reason);
    status.seed = number(figures.seed);
    status.lost_writes = number(figures.lost_writes);
    status.rpo_seconds = figures.rpo_seconds;
    status.rto_seconds = figures.rto_seconds;
    status.runs = number(figures.runs);
    status.table = figures.table;
    let why = status.reason.clone().unwrap_or_default();
    let said = |fallback: &str| {
        if why.is_empty() {
            fallback.to_owned()
        } else {
            why.clone()
        }
    };
    let (phase, complete, failed, reason, message) = match exit_code {
        Some(0) => (Phase::Complete, "True", "False", "Judged", said("valid")),
        Some(1) => (Phase::Complete, "True", "False", "Judged", said("invalid")),
        Some(2) => (Phase::Complete, "True", "False", "Judged", said("unknown")),
        Some(130) => {
            let message = said("the run was ended before its time");
            (Phase::Failed, "False", "True", "Interrupted", message)
        }
        _ => {
            let message = said("the harness ended without a verdict");
            (Phase::Failed, "False", "True", "Crashed", message)
        }
    };
    let valid = match exit_code {
        Some(0) => ("True", "Valid"),
        Some(1) => ("False", "Violated"),
        _ => ("Unknown", "Unknown"),
    };
    status.phase = Some(phase);
    condition(status, seen, "Complete", complete, reason, &message);
    condition(status, seen, "Valid", valid.0, valid.1, &message);
    condition(status, seen, "Failed", failed, reason, &message);
}

fn condition(
    status: &mut RunStatus,
    seen: &Seen<'_>,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
) {
    let before = status.conditions.iter().position(|c| c.kind == kind);
    let since = before
        .map(|i| &status.conditions[i])
        .filter(|before| before.status == value)
        .map_or_else(
            || seconds(seen.now),
            |before| before.last_transition_time.clone(),
        );
    let condition = Condition {
        kind: kind.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: Some(seen.generation),
    };
    match before {
        Some(i) => status.conditions[i] = condition,
        None => status.conditions.push(condition),
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(job: JobSeen) -> Seen<'static> {
        Seen {
            now: "2027-01-01T12:00:00Z".parse().unwrap(),
            uid: "u1",
            generation: 1,
            created: "2027-01-01T11:30:00Z".parse().unwrap(),
            job,
        }
    }

    fn ended(exit_code: Option<u8>, verdict: Option<&str>) -> JobSeen {
        JobSeen::Ended {
            exit_code,
            figures: verdict.map(|verdict| Figures {
                verdict: Some(verdict.to_owned()),
                lost_writes: Some(2),
                ..Figures::default()
            }),
            error: None,
        }
    }

    fn is(status: &RunStatus, kind: &str) -> String {
        let found = status.conditions.iter().find(|c| c.kind == kind);
        found.unwrap().status.clone()
    }

    #[test]
    fn a_run_goes_from_pending_to_its_verdict() {
        let spec = RunSpec::default();
        let (pending, step) = next(&spec, &RunStatus::default(), &seen(JobSeen::Missing));
        let Step::Start(run) = step else {
            panic!("{step:?}")
        };
        assert_eq!(pending.phase, Some(Phase::Pending));
        assert_eq!(pending.run.as_ref(), Some(&run));
        // Whoever was killed before the Job was made makes the same.
        let (_, again) = next(&spec, &pending, &seen(JobSeen::Missing));
        assert_eq!(again, Step::Start(run.clone()));
        let (running, step) = next(&spec, &pending, &seen(JobSeen::Running));
        assert_eq!(running.phase, Some(Phase::Running));
        assert_eq!(step, Step::Wait(None));
        for (code, word, valid) in [
            (0, "valid", "True"),
            (1, "invalid", "False"),
            (2, "unknown", "Unknown"),
        ] {
            let job = ended(Some(code), Some(word));
            let (done, step) = next(&spec, &running, &seen(job));
            assert_eq!(done.phase, Some(Phase::Complete), "{word}");
            assert_eq!(step, Step::Wait(None), "it is not run again");
            assert_eq!(done.verdict.as_deref(), Some(word));
            assert_eq!(is(&done, "Complete"), "True");
            assert_eq!(is(&done, "Valid"), valid);
            assert_eq!(is(&done, "Failed"), "False");
            assert_eq!(done.lost_writes, Some(2));
            // A look later changes nothing.
            let (later, step) = next(&spec, &done, &seen(JobSeen::Missing));
            assert_eq!((later, step), (done, Step::Wait(None)));
        }
    }

    #[test]
    fn without_a_verdict_it_has_failed_and_is_not_valid() {
        let spec = RunSpec::default();
        let (pending, _) = next(&spec, &RunStatus::default(), &seen(JobSeen::Missing));
        let (running, _) = next(&spec, &pending, &seen(JobSeen::Running));
        for job in [
            ended(Some(255), None),
            ended(Some(130), Some("unknown")),
            ended(None, None),
            JobSeen::Missing,
        ] {
            let (failed, _) = next(&spec, &running, &seen(job.clone()));
            assert_eq!(failed.phase, Some(Phase::Failed), "{job:?}");
            assert_eq!(is(&failed, "Complete"), "False");
            assert_eq!(is(&failed, "Failed"), "True");
            assert_eq!(is(&failed, "Valid"), "Unknown");
        }
    }

    #[test]
    fn a_change_of_the_spec_is_another_run_once_the_first_has_ended() {
        let spec = RunSpec::default();
        let (pending, first) = next(&spec, &RunStatus::default(), &seen(JobSeen::Missing));
        let changed = |job| Seen {
            generation: 2,
            ..seen(job)
        };
        let (running, step) = next(&spec, &pending, &changed(JobSeen::Running));
        assert_eq!(step, Step::Wait(None));
        let (second, step) = next(&spec, &running, &changed(ended(Some(0), Some("valid"))));
        assert!(matches!(step, Step::Start(_)) && step != first);
        assert_eq!(second.observed_generation, Some(2));
        assert_eq!(second.verdict, None, "the verdict was on another spec");
    }

    #[test]
    fn a_schedule_runs_when_due_and_never_twice_for_one_time() {
        let spec = RunSpec {
            schedule: Some("0 * * * *".to_owned()),
            ..RunSpec::default()
        };
        let early = Seen {
            now: "2027-01-01T11:45:00Z".parse().unwrap(),
            ..seen(JobSeen::Missing)
        };
        let (waiting, step) = next(&spec, &RunStatus::default(), &early);
        assert_eq!(waiting.phase, Some(Phase::Scheduled));
        assert_eq!(waiting.next_run.as_deref(), Some("2027-01-01T12:00:00Z"));
        let wait = Duration::from_millis(15 * 60 * 1000 + 100);
        assert_eq!(step, Step::Wait(Some(wait)));
        let (pending, step) = next(&spec, &waiting, &seen(JobSeen::Missing));
        assert!(matches!(step, Step::Start(_)));
        assert_eq!(
            pending.last_scheduled.as_deref(),
            Some("2027-01-01T12:00:00Z")
        );
        let (running, _) = next(&spec, &pending, &seen(JobSeen::Running));
        let (done, step) = next(&spec, &running, &seen(ended(Some(0), Some("valid"))));
        assert_eq!(done.phase, Some(Phase::Complete));
        let hour = Duration::from_millis(3600 * 1000 + 100);
        assert_eq!(step, Step::Wait(Some(hour)));
        // A change of the spec does not run it out of turn.
        let changed = Seen {
            generation: 2,
            ..seen(JobSeen::Missing)
        };
        assert!(matches!(next(&spec, &done, &changed).1, Step::Wait(_)));
    }

    #[test]
    fn what_is_suspended_starts_nothing_and_ends_what_runs() {
        let on = RunSpec::default();
        let off = RunSpec {
            suspend: true,
            ..RunSpec::default()
        };
        let (suspended, step) = next(&off, &RunStatus::default(), &seen(JobSeen::Missing));
        assert_eq!(suspended.phase, Some(Phase::Suspended));
        assert_eq!(step, Step::Wait(None));
        assert!(matches!(
            next(&on, &suspended, &seen(JobSeen::Missing)).1,
            Step::Start(_)
        ));
        let (pending, _) = next(&on, &RunStatus::default(), &seen(JobSeen::Missing));
        let (running, _) = next(&off, &pending, &seen(JobSeen::Running));
        assert_eq!(running.phase, Some(Phase::Running));
    }

    #[test]
    fn what_was_refused_is_tried_again() {
        let seen = seen(JobSeen::Missing);
        let no = refused(&RunStatus::default(), &seen, "no such mode");
        assert_eq!(is(&no, "Failed"), "True");
        assert_eq!(no.reason.as_deref(), Some("no such mode"));
        assert!(!is_under_way(&no));
        assert!(matches!(
            next(&RunSpec::default(), &no, &seen).1,
            Step::Start(_)
        ));
    }

    #[test]
    fn names_differ_by_resource_and_occasion() {
        let names = [
            run_name("u1", "generation 1"),
            run_name("u1", "generation 2"),
            run_name("u2", "generation 1"),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name));
            assert!(name.len() <= 40);
        }
    }
}
