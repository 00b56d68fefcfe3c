//! Replicas that stand still.
//!
//! Two mechanisms: `signal` (`SIGSTOP` to every process of the node) and `freezer` (that of its
//! control group). Signals are the default: they need no privileges, and what they stop can be
//! killed by whoever wants to, the kernel at the harness's end included. What the freezer of
//! control groups v1 holds ends only when it is thawed, so that after a crash of the harness
//! everything hangs on the keeper. The freezer stops what a node starts as well, all at one moment,
//! and the processes cannot notice it.

use std::sync::Arc;
use std::time::Duration;

use nemesis::mechanism::cgroup::{Controller, Group, NodeGroup};
use nemesis::mechanism::lease::Undo;
use nemesis::{Node, Proof};
use tokio::task::{JoinSet, block_in_place};

use super::cluster::{Cluster, Hold, Lifecycle, Mechanism};
use super::fault::{
    ANSWER, HEAL_WITHIN, Locked, PROVE_WITHIN, SILENCE, all, lease, prove, release,
};
use super::probe::{Probe, probe_as};
use super::process::{Process, Stop};

/// A process that was to stand still and has run for longer than this was let go meanwhile. Taking
/// note of a signal takes microseconds.
const RAN: Duration = Duration::from_millis(1);

pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    locked: &mut [Locked<'_>],
    id: u32,
    via: Option<&str>,
) -> Proof {
    let by = match via {
        None | Some("signal") => Mechanism::Signal,
        Some("freezer") => Mechanism::Freezer,
        Some(other) => {
            return Proof::NotSeen(format!(
                "nothing pauses by {other:?}; expected signal or freezer"
            ));
        }
    };
    if by == Mechanism::Freezer
        && let Some(why) = cluster.custody.groups.obstacle(Controller::Freezer)
    {
        return Proof::NotSeen(format!("nothing can be frozen here: {why}"));
    }
    for Locked { slot, lifecycle } in locked.iter_mut() {
        let Some(process) = lifecycle.process.clone() else {
            continue;
        };
        let undo = match (by, slot.group().of(Controller::Freezer)) {
            (Mechanism::Freezer, Some(group)) => Undo::Thaw(group.clone()),
            _ => match process.identity() {
                Ok(identity) => Undo::Continue(identity),
                // It has ended, which the proof will show.
                Err(_) => continue,
            },
        };
        if let Err(why) = lease(cluster, id, slot.node, undo) {
            return Proof::NotSeen(why);
        }
        lifecycle.paused_for.insert(id, Hold { by, ran: None });
        slot.set_paused(true);
        let stopped = block_in_place(|| match by {
            Mechanism::Signal => process.stop(Stop::Pause),
            Mechanism::Freezer => slot
                .group()
                .of(Controller::Freezer)
                .map_or(Ok(()), Group::freeze),
        });
        if let Err(error) = stopped {
            // It may have ended, which the proof will show better.
            tracing::debug!(node = slot.node, %error, "it does not stand still");
        }
    }
    let proof = prove_each(locked, PROVE_WITHIN, |_| Want::Still(by)).await;
    for Locked { lifecycle, .. } in locked {
        let ran = lifecycle
            .process
            .as_ref()
            .and_then(|process| process.processor_time().ok());
        if let Some(hold) = lifecycle.paused_for.get_mut(&id) {
            hold.ran = ran;
        }
    }
    proof
}

pub(super) async fn heal(cluster: &Arc<Cluster>, locked: &mut [Locked<'_>], id: u32) -> Proof {
    for Locked { slot, lifecycle } in locked.iter_mut() {
        let healed = lifecycle.paused_for.remove(&id);
        let others = |by| lifecycle.paused_for.values().any(|hold| hold.by == by);
        if lifecycle.paused_for.is_empty() {
            slot.set_paused(false);
        }
        let Some(process) = &lifecycle.process else {
            continue;
        };
        let went_on = match healed.map(|hold| hold.by) {
            Some(by) if others(by) => continue,
            Some(Mechanism::Freezer) => match slot.group().of(Controller::Freezer) {
                Some(group) => block_in_place(|| group.thaw()),
                None => continue,
            },
            Some(Mechanism::Signal) => block_in_place(|| process.go_on(Stop::Pause)),
            None => continue,
        };
        if let Err(error) = went_on {
            // It may have ended, which the proof will show better.
            tracing::debug!(node = slot.node, %error, "it does not go on");
        }
    }
    let proof = prove_each(locked, HEAL_WITHIN, |lifecycle| {
        match lifecycle.paused_for.iter().next() {
            Some((&other, hold)) => Want::StillFor(other, hold.by),
            None => Want::Running,
        }
    })
    .await;
    if let Proof::Seen(_) = &proof {
        for Locked { slot, .. } in locked {
            release(cluster, id, slot.node);
        }
    }
    proof
}

/// Why a node that this fault wants to stand still does not, or did not all the time.
pub(super) fn faded(locked: &Locked<'_>, id: u32) -> Option<String> {
    let Locked { slot, lifecycle } = locked;
    let node = slot.node;
    // A fault that killed it has ended its pause: that is no secret of anybody.
    let (hold, process) = (lifecycle.paused_for.get(&id)?, lifecycle.process.as_ref()?);
    let ran = process.processor_time().ok().zip(hold.ran);
    let ran = ran.map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
    if !stands_still(slot.group(), process, hold.by) {
        Some(format!(
            "n{node} was found running before its pause was over"
        ))
    } else if ran > RAN {
        Some(format!("n{node} ran for {ran:.1?} while it was paused"))
    } else {
        None
    }
}

/// What the freezer holds cannot be seen to be stopped by a signal as well, but it stands still.
fn stands_still(group: &NodeGroup, process: &Process, by: Mechanism) -> bool {
    (by == Mechanism::Signal && process.is_stopped()) || is_frozen(group)
}

fn is_frozen(group: &NodeGroup) -> bool {
    group
        .of(Controller::Freezer)
        .is_some_and(|group| group.is_frozen().unwrap_or(false))
}

/// What a process should be seen to be.
#[derive(Clone, Copy)]
enum Want {
    Still(Mechanism),
    StillFor(u32, Mechanism),
    Running,
}

/// Looks at all nodes at once.
async fn prove_each(
    locked: &[Locked<'_>],
    within: Duration,
    want: impl Fn(&Lifecycle) -> Want,
) -> Proof {
    let mut each = Vec::new();
    let mut looking = JoinSet::new();
    for Locked { slot, lifecycle } in locked {
        let (node, want) = (slot.node, want(lifecycle));
        let (process, address) = (lifecycle.process.clone(), slot.target.get());
        let (Some(process), Some(address)) = (process, address) else {
            each.push((
                node,
                match want {
                    Want::Running => Ok(format!("n{node} is down; nothing of it is stopped")),
                    _ => Err(format!("n{node} is not running, so it cannot be stopped")),
                },
            ));
            continue;
        };
        let (group, ready) = (slot.group().clone(), slot.ready);
        looking.spawn(async move {
            let still = |by| stands_still(&group, &process, by);
            let proof = prove(within, async || {
                let before = process.processor_time().ok();
                let answer = match want {
                    Want::Running => probe_as(ready, address, 0, ANSWER).await,
                    _ => probe_as(ready, address, 0, SILENCE).await,
                };
                let Some(state) = process.state() else {
                    return Err(format!("n{node} has ended"));
                };
                let ran = before.zip(process.processor_time().ok());
                let idle = ran.is_none_or(|(before, after)| before == after);
                let frozen = group
                    .of(Controller::Freezer)
                    .is_some_and(|group| group.is_freezing().unwrap_or(false));
                match (want, answer) {
                    (Want::Still(by), Probe::Silent) if idle && still(by) => Ok(seen(node, &group)),
                    (Want::StillFor(other, by), Probe::Silent) if idle && still(by) => {
                        Ok(format!("n{node} stays stopped for fault {other}"))
                    }
                    (Want::Running, Probe::Answered(..)) if state != 'T' && !frozen => {
                        Ok(format!("n{node} runs (state {state}) and answers"))
                    }
                    (_, answer) => Err(format!(
                        "n{node} is in state {state}{}; a probe says {answer:?}",
                        if frozen { " and frozen" } else { "" }
                    )),
                }
            })
            .await;
            (
                node,
                match proof {
                    Proof::Seen(text) => Ok(text),
                    Proof::NotSeen(text) => Err(text),
                },
            )
        });
    }
    each.extend(looking.join_all().await);
    each.sort();
    all(each.into_iter().map(|(_, result)| result))
}

fn seen(node: Node, group: &NodeGroup) -> String {
    match group.of(Controller::Freezer) {
        Some(freezer) if is_frozen(group) => {
            let processes = freezer.processes().map_or(0, |pids| pids.len());
            format!(
                "n{node} is frozen ({processes} processes, control group {}), uses no processor \
                 time and gives no answer",
                freezer.version
            )
        }
        _ => format!("n{node} is stopped (state T) and gives no answer"),
    }
}
