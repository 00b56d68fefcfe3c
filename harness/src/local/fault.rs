//! Faults, and the proofs that they took effect and are gone.
//!
//! A proof compares what is observed with what all faults together should have caused. Where
//! another fault hides this one (a healed link leads to a node that is down for a reason of its
//! own), the proof says what was seen instead and never more than that.
//!
//! Faults on one node's process take turns: a node that is being started is not paused until it
//! answers. Locks of several nodes are taken in the order of their numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nemesis::mechanism::lease::{Lease, Undo};
use nemesis::{Action, Node, Proof};
use tokio::sync::OwnedMutexGuard;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, Lifecycle, Slot};
use super::probe::{Probe, probe_as};
use super::{clock, cpu, crash, disk, memory, operator, pause};
use crate::versions::{REFUSES, Version};

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
    cluster.network.apply(id, action);
}

/// Why what only an orchestrator does is not done here.
pub(super) const NO_THROTTLE: &str =
    "an agent does this on Kubernetes (--on k8s --agent); slow-disk delays the disk here";
/// Why a fault of an orchestrator is not done here.
pub(super) const NO_ORCHESTRATOR: &str = "only Kubernetes does this to nodes; that is --on k8s";

/// The rest of an injection, and its proof.
pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    id: u32,
    action: &Action,
    via: Option<&str>,
) -> Proof {
    match action {
        Action::Crash(nodes, point) => crash::inject(cluster, http, id, nodes, *point).await,
        Action::Cpu(nodes, percent) => cpu::inject(cluster, id, nodes, *percent, via).await,
        Action::Memory(nodes, mib) => memory::inject(cluster, id, nodes, *mib, via).await,
        Action::TornWrite(_)
        | Action::BitFlip(..)
        | Action::Rollback(..)
        | Action::Disk(..)
        | Action::PowerLoss(_) => disk::inject(cluster, id, action, via).await,
        Action::Clock(nodes, fault) => clock::inject(cluster, http, id, nodes, *fault, via).await,
        Action::Downgrade(nodes) => match locks(cluster, nodes).await {
            Ok(locked) => change_version(cluster, http, locked, false).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Wipe(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => wipe(&mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Upgrade(nodes) => match locks(cluster, nodes).await {
            Ok(locked) => change_version(cluster, http, locked, true).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Admin(asked, command) => {
            operator::ask(cluster, http, *asked, &command.requests()).await
        }
        Action::Kill(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => kill(&mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Pause(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => pause::inject(cluster, &mut locked, id, via).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Orchestrate(..) => Proof::NotSeen(NO_ORCHESTRATOR.to_owned()),
        Action::ThrottleDisk(..) => Proof::NotSeen(NO_THROTTLE.to_owned()),
        Action::Cut(_) | Action::Impair { .. } => {
            let network = &cluster.network;
            network.inject(&cluster.slots, id, action, via).await
        }
    }
}

/// Why a fault does not have its effect any more, if that is so.
pub(super) async fn faded(cluster: &Arc<Cluster>, id: u32, action: &Action) -> Option<String> {
    let (nodes, look): (_, fn(&Locked<'_>, u32) -> Option<String>) = match action {
        Action::Pause(nodes) => (nodes, pause::faded),
        Action::Cpu(nodes, _) => (nodes, cpu::faded),
        Action::Memory(nodes, _) => (nodes, memory::faded),
        Action::Disk(nodes, fault) => return disk::faded(cluster, id, nodes, *fault).await,
        Action::Cut(_) | Action::Impair { .. } => {
            return cluster.network.stands(id, action).await.err();
        }
        _ => return None,
    };
    let locked = locks(cluster, nodes).await.ok()?;
    let why: Vec<_> = locked
        .iter()
        .filter_map(|locked| look(locked, id))
        .collect();
    (!why.is_empty()).then(|| why.join("; "))
}

/// Undoes an injection, and proves that it is gone.
pub(super) async fn heal(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    id: u32,
    action: &Action,
) -> Proof {
    match action {
        Action::Upgrade(nodes) | Action::Downgrade(nodes) => match locks(cluster, nodes).await {
            Ok(locked) => upgraded(http, &locked).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Admin(asked, command) => {
            operator::ask(cluster, http, *asked, &command.undo()).await
        }
        Action::Kill(nodes) | Action::Wipe(nodes) => match locks(cluster, nodes).await {
            Ok(locked) => restart(cluster, locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Pause(nodes) => match locks(cluster, nodes).await {
            Ok(mut locked) => pause::heal(cluster, &mut locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Crash(nodes, _) => crash::heal(cluster, http, id, nodes).await,
        Action::Cpu(nodes, _) => cpu::heal(cluster, id, nodes).await,
        Action::Memory(nodes, _) => memory::heal(cluster, id, nodes).await,
        Action::TornWrite(_)
        | Action::BitFlip(..)
        | Action::Rollback(..)
        | Action::Disk(..)
        | Action::PowerLoss(_) => disk::heal(cluster, id, action).await,
        Action::Clock(nodes, fault) => clock::heal(cluster, http, id, nodes, *fault).await,
        Action::Orchestrate(..) => Proof::Seen(NO_ORCHESTRATOR.to_owned()),
        Action::ThrottleDisk(..) => Proof::Seen(NO_THROTTLE.to_owned()),
        Action::Cut(_) | Action::Impair { .. } => {
            cluster.network.heal(&cluster.slots, id, action).await
        }
    }
}

/// A node, and the right to change what its process does.
pub(super) struct Locked<'a> {
    pub slot: &'a Slot,
    pub lifecycle: OwnedMutexGuard<Lifecycle>,
}

/// Has the keeper of the run know what undoes the part of a fault that is about to be done to a
/// node.
pub(super) fn lease(cluster: &Cluster, id: u32, node: Node, undo: Undo) -> Result<(), String> {
    let lease = Lease::new(lease_id(id, node), undo);
    let registered = block_in_place(|| cluster.custody.keeper.register(lease));
    registered.map_err(|lost| lost.to_string())
}

/// Lets the keeper forget it, once it is undone.
pub(super) fn release(cluster: &Cluster, id: u32, node: Node) {
    block_in_place(|| cluster.custody.keeper.release(&lease_id(id, node)));
}

fn lease_id(id: u32, node: Node) -> String {
    format!("fault-{id}-n{node}")
}

pub(super) async fn locks<'a>(
    cluster: &'a Cluster,
    nodes: &[Node],
) -> Result<Vec<Locked<'a>>, String> {
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
pub(super) fn all(each: impl IntoIterator<Item = Result<String, String>>) -> Proof {
    match each.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(seen) if seen.is_empty() => Proof::NotSeen("no node is meant".to_owned()),
        Ok(seen) => Proof::Seen(seen.join("; ")),
        Err(why) => Proof::NotSeen(why),
    }
}

pub(super) async fn kill(locked: &mut [Locked<'_>], id: u32) -> Proof {
    // All signals first, so that the nodes go down together.
    for Locked { slot, lifecycle } in locked.iter_mut() {
        lifecycle.down_for.insert(id);
        lifecycle.paused_for.clear();
        lifecycle.throttle = None;
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
            _ if !process.left().is_empty() => Err(format!(
                "n{node} ended, yet what it has started runs on: {:?}",
                process.left()
            )),
            None => Ok(format!(
                "n{node} ended ({status}); it was not listening yet"
            )),
            Some(address) => match probe_as(slot.ready, address, 0, SILENCE).await {
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

/// Ends the nodes and deletes what they have written.
async fn wipe(locked: &mut [Locked<'_>], id: u32) -> Proof {
    let ended = kill(locked, id).await;
    let Proof::Seen(ended) = ended else {
        return ended;
    };
    let emptied = all(locked.iter().map(|Locked { slot, .. }| {
        let node = slot.node;
        let left = slot.data.empty().and_then(|()| slot.data.count());
        match left {
            Ok(0) => Ok(format!("n{node} has no data")),
            Ok(left) => Err(format!("n{node} still has {left} files")),
            Err(error) => Err(format!("n{node} keeps its data: {error}")),
        }
    }));
    match emptied {
        Proof::Seen(emptied) => Proof::Seen(format!("{ended}; {emptied}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Ends the nodes and starts them at once, as another version.
async fn change_version(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    mut locked: Vec<Locked<'_>>,
    upgrade: bool,
) -> Proof {
    for Locked { slot, lifecycle } in &mut locked {
        let node = slot.node;
        let (Some(process), Some(address)) = (lifecycle.process.clone(), slot.target.get()) else {
            return Proof::NotSeen(format!("n{node} is not running, so its version stays"));
        };
        let wanted = match &slot.launch.versions {
            Some(versions) => Ok(versions.after(upgrade).clone()),
            None => next_format(http, node, address, upgrade).await,
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why) => return Proof::NotSeen(why),
        };
        // It fails only when the process has ended by itself, which the wait will show.
        let _ = process.kill();
        if timeout(PROVE_WITHIN, process.ended()).await.is_err() {
            return Proof::NotSeen(format!("n{node} (pid {}) has not ended", process.pid()));
        }
        lifecycle.process = None;
        slot.target.set(None);
        lifecycle.version = Some(wanted);
        if let Err(error) = cluster.start(slot, lifecycle).await {
            return Proof::NotSeen(error.to_string());
        }
    }
    upgraded(http, &locked).await
}

/// One storage format newer or older than a node says that it writes.
async fn next_format(
    http: &reqwest::Client,
    node: Node,
    address: SocketAddr,
    upgrade: bool,
) -> Result<Version, String> {
    let Some(format) = operator::storage_version(http, address).await else {
        return Err(format!("n{node} does not say which format it writes"));
    };
    let wanted = format.saturating_add_signed(if upgrade { 1 } else { -1 });
    if wanted == 0 || wanted == format {
        return Err(format!(
            "n{node} writes storage format {format}, the {} there is",
            if upgrade { "newest" } else { "oldest" }
        ));
    }
    Ok(Version {
        program: None,
        storage: Some(wanted),
    })
}

/// Looks whether the nodes run as the version that they were started as: the program is what the
/// harness has started, and the storage format is what they say.
async fn upgraded(http: &reqwest::Client, locked: &[Locked<'_>]) -> Proof {
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in locked {
        let node = slot.node;
        let version = lifecycle.version.clone().unwrap_or_default();
        if let Some(address) = slot.target.get()
            && let Some(why) = operator::refusal(http, address).await
        {
            each.push(Err(format!("n{node} {REFUSES}: {why}")));
            continue;
        }
        let mut seen = Vec::new();
        if let Some(program) = &version.program {
            match lifecycle.process.as_ref().filter(|p| p.status().is_none()) {
                Some(process) => seen.push(format!("runs {program} (pid {})", process.pid())),
                None => {
                    each.push(Err(format!("n{node} does not run")));
                    continue;
                }
            }
        }
        let says = match slot.target.get() {
            Some(address) => operator::storage_version(http, address).await,
            None => None,
        };
        match (says, version.storage) {
            (Some(says), wanted) if wanted.is_none_or(|wanted| wanted == says) => {
                seen.push(format!("writes storage format {says}"));
                each.push(Ok(format!("n{node} {}", seen.join(" and "))));
            }
            (says, wanted) => each.push(Err(format!(
                "n{node} says that it writes storage format {says:?}, not {wanted:?}"
            ))),
        }
    }
    all(each)
}

/// Starts the nodes that no other fault wants down.
pub(super) async fn restart(cluster: &Arc<Cluster>, locked: Vec<Locked<'_>>, id: u32) -> Proof {
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
