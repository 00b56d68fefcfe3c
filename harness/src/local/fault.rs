//! Faults, and the proofs that they took effect and are gone.
//!
//! A proof compares what is observed with what all faults together should have caused. Where
//! another fault hides this one (a healed link leads to a node that is down for a reason of its
//! own), the proof says what was seen instead and never more than that.
//!
//! Faults on one node's process take turns: a node that is being started is not paused until it
//! answers. Locks of several nodes are taken in the order of their numbers.

use std::sync::Arc;
use std::time::Duration;

use nemesis::{Action, Node, Proof};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, Lifecycle, Slot};
use super::link_proof::{Slowness, prove_cut, prove_passing, prove_quick, prove_slow};
use super::probe::{Probe, probe};
use super::proxy::Impairment;

/// No answer for this long is silence.
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// An answer that is expected is waited for this long.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Attempts to prove that a fault took effect end after this.
pub(super) const PROVE_WITHIN: Duration = Duration::from_secs(3);
/// Attempts to prove that it is gone end after this.
pub(super) const HEAL_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Tries until one attempt succeeds or the time is up.
pub(super) async fn prove<F>(within: Duration, mut attempt: impl FnMut() -> F) -> Proof
where
    F: Future<Output = Result<String, String>>,
{
    let deadline = Instant::now() + within;
    loop {
        match attempt().await {
            Ok(seen) => return Proof::Seen(seen),
            Err(why) if Instant::now() >= deadline => return Proof::NotSeen(why),
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// The part of an injection that takes effect at once: what it does to links.
pub(super) fn apply(cluster: &Cluster, id: u32, action: &Action) {
    let (links, impairment) = match action {
        Action::Cut(links) => (links, Impairment::CUT),
        Action::Slow { links, .. } => (links, Slowness::of(action).impairment()),
        Action::Kill(_) | Action::PowerLoss(_) | Action::Pause(_) => return,
    };
    for proxy in links.iter().filter_map(|link| cluster.links.get(link)) {
        proxy.impair(id, impairment);
    }
}

/// The rest of an injection, and its proof.
pub(super) async fn inject(cluster: &Arc<Cluster>, id: u32, action: &Action) -> Proof {
    match action {
        Action::Kill(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => kill(&mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Pause(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => pause(&mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::PowerLoss(_) => Proof::NotSeen("power loss needs the simulation".to_owned()),
        Action::Cut(links) => prove_cut(cluster, links).await,
        Action::Slow { links, .. } => prove_slow(cluster, links, Slowness::of(action)).await,
    }
}

/// Undoes an injection, and proves that it is gone.
pub(super) async fn heal(cluster: &Arc<Cluster>, id: u32, action: &Action) -> Proof {
    match action {
        Action::Kill(nodes) => match locks(cluster, nodes).await {
            Ok(locked) => restart(cluster, locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Pause(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => resume(&mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::PowerLoss(_) => Proof::NotSeen("power loss needs the simulation".to_owned()),
        Action::Cut(links) | Action::Slow { links, .. } => {
            for proxy in links.iter().filter_map(|link| cluster.links.get(link)) {
                proxy.release(id);
            }
            match action {
                Action::Slow { .. } => prove_quick(cluster, links, Slowness::of(action)).await,
                _ => prove_passing(cluster, links).await,
            }
        }
    }
}

struct Locked<'a> {
    slot: &'a Slot,
    lifecycle: OwnedMutexGuard<Lifecycle>,
}

async fn locks<'a>(cluster: &'a Cluster, nodes: &[Node]) -> Result<Vec<Locked<'a>>, String> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    let mut locked = Vec::new();
    for node in nodes {
        let slot = cluster
            .slot(node)
            .ok_or_else(|| format!("there is no n{node}"))?;
        locked.push(Locked {
            slot,
            lifecycle: slot.lock().await,
        });
    }
    Ok(locked)
}

/// All seen, or the first that was not.
fn all(each: impl IntoIterator<Item = Result<String, String>>) -> Proof {
    match each.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(seen) if seen.is_empty() => Proof::NotSeen("no node is meant".to_owned()),
        Ok(seen) => Proof::Seen(seen.join("; ")),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn kill(locked: &mut [Locked<'_>], id: u32) -> Proof {
    // All signals first, so that the nodes go down together.
    for Locked { slot, lifecycle } in locked.iter_mut() {
        lifecycle.down_for.insert(id);
        lifecycle.paused_for.clear();
        slot.set_paused(false);
        if let Some(process) = &lifecycle.process {
            // It fails only when the process has ended by itself, which the proof will show.
            let _ = process.kill();
        }
    }
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in locked {
        let node = slot.node;
        let address = slot.target.get();
        let Some(process) = lifecycle.process.clone() else {
            each.push(Ok(format!("n{node} was down already")));
            continue;
        };
        let Ok(status) = timeout(PROVE_WITHIN, process.ended()).await else {
            each.push(Err(format!(
                "n{node} (pid {}) has not ended",
                process.pid()
            )));
            continue;
        };
        lifecycle.process = None;
        slot.target.set(None);
        let proof = prove(PROVE_WITHIN, async || match address {
            None => Ok(format!(
                "n{node} ended ({status}); it was not listening yet"
            )),
            Some(address) => match probe(address, 0, SILENCE).await {
                Probe::Refused => Ok(format!("n{node} ended ({status}) and its port refuses")),
                other => Err(format!("n{node} ended, yet its port says {other:?}")),
            },
        });
        each.push(match proof.await {
            Proof::Seen(text) => Ok(text),
            Proof::NotSeen(text) => Err(text),
        });
    }
    all(each)
}

async fn restart(cluster: &Arc<Cluster>, locked: Vec<Locked<'_>>, id: u32) -> Proof {
    let mut starting = JoinSet::new();
    for Locked {
        slot,
        mut lifecycle,
    } in locked
    {
        let (cluster, node) = (Arc::clone(cluster), slot.node);
        starting.spawn(async move {
            lifecycle.down_for.remove(&id);
            let slot = cluster
                .slot(node)
                .ok_or_else(|| format!("there is no n{node}"))?;
            let text = if let Some(other) = lifecycle.down_for.first() {
                format!("n{node} stays down for fault {other}")
            } else if let Some(process) = &lifecycle.process {
                let state = process
                    .state()
                    .ok_or_else(|| format!("n{node} has ended"))?;
                format!("n{node} runs already (state {state})")
            } else {
                cluster
                    .start(slot, &mut lifecycle)
                    .await
                    .map_err(|error| error.to_string())?;
                format!("n{node} was restarted and answers")
            };
            Ok((node, text))
        });
    }
    let mut each = starting.join_all().await;
    each.sort();
    all(each.into_iter().map(|result| result.map(|(_, text)| text)))
}

async fn pause(locked: &mut [Locked<'_>], id: u32) -> Proof {
    for Locked { slot, lifecycle } in locked.iter_mut() {
        if let Some(process) = lifecycle.process.clone() {
            lifecycle.paused_for.insert(id);
            slot.set_paused(true);
            // It fails only when the process has ended, which the proof will show.
            let _ = process.pause();
        }
    }
    prove_each(locked, PROVE_WITHIN, |_| Want::Stopped).await
}

async fn resume(locked: &mut [Locked<'_>], id: u32) -> Proof {
    for Locked { slot, lifecycle } in locked.iter_mut() {
        lifecycle.paused_for.remove(&id);
        if lifecycle.paused_for.is_empty() {
            slot.set_paused(false);
            if let Some(process) = &lifecycle.process {
                // It fails only when the process has ended, which the proof will show.
                let _ = process.resume();
            }
        }
    }
    prove_each(locked, HEAL_WITHIN, |lifecycle| {
        match lifecycle.paused_for.first() {
            Some(&other) => Want::StoppedFor(other),
            None => Want::Running,
        }
    })
    .await
}

/// What a process should be seen to be.
#[derive(Clone, Copy)]
enum Want {
    Stopped,
    StoppedFor(u32),
    Running,
}

/// Looks at all nodes at once.
async fn prove_each(
    locked: &[Locked<'_>],
    within: Duration,
    want: impl Fn(&Lifecycle) -> Want,
) -> Proof {
    let mut looking = JoinSet::new();
    for Locked { slot, lifecycle } in locked {
        let (node, want) = (slot.node, want(lifecycle));
        let (process, address) = (lifecycle.process.clone(), slot.target.get());
        looking.spawn(async move {
            let (Some(process), Some(address)) = (process, address) else {
                return (
                    node,
                    match want {
                        Want::Running => Ok(format!("n{node} is down; nothing of it is stopped")),
                        _ => Err(format!("n{node} is not running, so it cannot be stopped")),
                    },
                );
            };
            let proof = prove(within, async || {
                let state = process.state();
                let answer = match want {
                    Want::Running => probe(address, 0, ANSWER).await,
                    _ => probe(address, 0, SILENCE).await,
                };
                match (want, state, answer) {
                    (Want::Stopped, Some('T'), Probe::Silent) => {
                        Ok(format!("n{node} is stopped (state T) and gives no answer"))
                    }
                    (Want::StoppedFor(other), Some('T'), Probe::Silent) => {
                        Ok(format!("n{node} stays stopped for fault {other}"))
                    }
                    (Want::Running, Some(state), Probe::Answered(..)) if state != 'T' => {
                        Ok(format!("n{node} runs (state {state}) and answers"))
                    }
                    (_, None, _) => Err(format!("n{node} has ended")),
                    (_, Some(state), answer) => Err(format!(
                        "n{node} is in state {state}; a probe says {answer:?}"
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
    let mut each = looking.join_all().await;
    each.sort();
    all(each.into_iter().map(|(_, result)| result))
}
