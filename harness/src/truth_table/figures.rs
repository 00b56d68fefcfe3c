//! Properties of a run that no checker's verdict says by itself.

use checkers::{Event, Kind, Outcome};

use super::run::Judged;
use crate::sim::Oracle;

/// Every lost write was made at most the time of three messages before a fault began, or later: it
/// was on its way to the followers, be it that one that had overtaken it was refused and it had to
/// be sent again, or it could not be sent. None if no fault was injected.
pub fn lost_only_in_flight(judged: &Judged) -> Option<bool> {
    let truth = &judged.run.truth;
    let first = judged.run.ended.faults.iter().map(|f| f.begun).min()?;
    let conditions = judged.experiment.simulation;
    let longest = (conditions.latency_us + conditions.jitter_us) * 1_000;
    let earliest = first.saturating_sub(3 * longest);
    let lost = Oracle::new(truth).lost();
    let made = |call: usize| truth.calls[call].created_at.unwrap_or(0);
    Some(lost.into_iter().all(|call| made(call) >= earliest))
}

/// Whether any write that was invoked while a fault of the schedule was in effect was acknowledged
/// before it began to be healed.
pub fn writes_during_fault(judged: &Judged) -> Option<bool> {
    let realised = &judged.run.ended.realised.faults;
    let faults: Vec<(u64, u64)> = realised
        .iter()
        .filter_map(|entry| {
            let injected = entry.realised.as_ref()?.injected_at?;
            let until = entry.at + entry.lasting;
            Some((injected.as_nanos() as u64, until.as_nanos() as u64))
        })
        .collect();
    if faults.is_empty() {
        return None;
    }
    let operations = judged.run.history.operations().ok()?;
    Some(operations.iter().any(|op| {
        let done = op.complete.map(|c| c.time);
        op.f().is_write()
            && op.outcome == Outcome::Ok
            && faults
                .iter()
                .any(|(from, to)| *from <= op.invoke.time && done.is_some_and(|at| at < *to))
    }))
}

/// Whether all replicas agreed, within the time for recovery, after everything was healed.
pub fn recovers(judged: &Judged) -> Option<bool> {
    Some(judged.run.ended.recovered)
}

/// Whether a write was acknowledged after the last fault was healed.
pub fn writes_after_fault(judged: &Judged) -> Option<bool> {
    let healed = judged.run.ended.faults.iter().map(|f| f.healed).max()??;
    let acknowledged = |e: &Event| e.kind == Kind::Ok && e.f.is_write() && e.time >= healed;
    Some(judged.run.history.events.iter().any(acknowledged))
}

/// Whether nobody but the first leader ever led. The start of the cluster is left out: the first
/// second of the run.
pub fn first_leader_stays(judged: &Judged) -> Option<bool> {
    use reference_cluster::core::Role;
    let roles = &judged.run.truth.roles;
    let mut leaders = roles.iter().filter(|r| r.role == Some(Role::Leader));
    leaders.next()?;
    Some(leaders.next().is_none())
}

/// Whether the next write after the first fault began was acknowledged within a second.
pub fn writes_within_a_second(judged: &Judged) -> Option<bool> {
    const SECOND: u64 = 1_000_000_000;
    let begun = judged.run.ended.faults.iter().map(|f| f.begun).min()?;
    // An answer that was on its way when the fault began says nothing.
    let operations = judged.run.history.operations().ok()?;
    let next = operations
        .iter()
        .filter(|op| op.f().is_write() && op.outcome == Outcome::Ok && op.invoke.time >= begun)
        .filter_map(|op| op.complete.map(|c| c.time))
        .min()?;
    Some(next <= begun + SECOND)
}

/// Whether every counter, as the last read of the run shows it, is the sum of its acknowledged
/// changes, but for what changes of unknown outcome may have added. None without a final read.
pub fn final_counts_are_exact(judged: &Judged) -> Option<bool> {
    let result = judged.result("counter")?;
    match result.verdict {
        checkers::Verdict::Unknown(_) => None,
        _ => Some(result.anomalies.is_empty()),
    }
}
