//! Replicas with little memory.
//!
//! By the limit of their control group where there is one; else (`rlimit`) by that of the process's
//! data (`RLIMIT_DATA`): what it has now and so many MiB less what it holds. In the first case the
//! kernel ends who wants more, in the second the process is refused, which few survive. Either way
//! its end is expected; it is started again at healing.
//!
//! A group counts what its processes have taken since they are in it, which is some milliseconds
//! after their start: the first few MiB of a process are not in what it "holds".

use std::sync::Arc;
use std::{fs, io};

use nemesis::mechanism::cgroup::{Controller, Group};
use nemesis::mechanism::lease::Undo;
use nemesis::{Node, Proof};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::cluster::{Cluster, Lifecycle, Slot};
use super::fault::{
    ANSWER, HEAL_WITHIN, Locked, PROVE_WITHIN, SILENCE, all, lease, locks, prove, release, restart,
};
use super::probe::{Probe, probe_as};
use super::process::Process;

/// Requests that are sent to a squeezed process, so that it has something to do.
const REQUESTS: usize = 20;

/// What one fault leaves a process of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    mib: u64,
    by: Mechanism,
    /// How often it had been refused memory, and processes of it had been ended for it, before.
    before: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Cgroup,
    Rlimit,
}

/// The smallest limit that a mechanism is to set, in MiB.
fn smallest(lifecycle: &Lifecycle, by: Mechanism) -> Option<u64> {
    let limits = lifecycle.memory_for.values().filter(|limit| limit.by == by);
    limits.map(|limit| limit.mib).min()
}

/// Limits the process that a node has now, if one of its faults wants that done to the process.
pub(super) fn limit_process(lifecycle: &Lifecycle) {
    if let (Some(mib), Some(process)) = (smallest(lifecycle, Mechanism::Rlimit), &lifecycle.process)
        && let Err(error) = set_data(process, Some(mib))
    {
        // It has ended, most likely; otherwise it is seen at healing.
        tracing::debug!(%error, "the memory of a process stays as it is");
    }
}

/// Lets a process have so many MiB, or what this program may have itself, as before; the limit in
/// bytes.
fn set_data(process: &Process, mib: Option<u64>) -> io::Result<Option<u64>> {
    let own = getrlimit(Resource::Data);
    let current = match mib {
        Some(mib) => {
            let (has, holds) = (field(process, "VmData")?, field(process, "RssAnon")?);
            Some(has + (mib << 20).saturating_sub(holds))
        }
        None => own.current,
    };
    let identity = process.identity()?;
    let raw = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| io::Error::other("it has no pid"))?;
    // A child that is not reaped yet keeps its pid; seen just now, and it was not.
    if process.status().is_some() || !identity.is_alive() {
        return Err(io::Error::other("it has ended"));
    }
    let limit = Rlimit {
        current,
        maximum: own.maximum,
    };
    prlimit(Some(raw), Resource::Data, limit)?;
    Ok(current)
}

/// A line of `/proc/PID/status`, in bytes.
fn field(process: &Process, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{}/status", process.pid());
    let text = fs::read_to_string(&path)?;
    let value = text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let kib = value.ok_or_else(|| io::Error::other(format!("{path} does not say {name}")))?;
    Ok(kib << 10)
}

/// The soft limit of a process's data, as the kernel says it: `None` is unlimited.
fn data_limit(process: &Process) -> io::Result<Option<u64>> {
    let path = format!("/proc/{}/limits", process.pid());
    let text = fs::read_to_string(&path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max data size"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    let soft = soft.ok_or_else(|| io::Error::other(format!("{path} says nothing of data")))?;
    Ok(soft.parse().ok())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    id: u32,
    nodes: &[Node],
    mib: u64,
    via: Option<&str>,
) -> Proof {
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let obstacle = cluster.custody.groups.obstacle(Controller::Memory);
    let by = match (via, obstacle) {
        (None | Some("cgroup"), None) => Mechanism::Cgroup,
        (None, Some(_)) | (Some("rlimit"), _) => Mechanism::Rlimit,
        (Some("cgroup"), Some(why)) => {
            return Proof::NotSeen(format!("no control group limits memory here: {why}"));
        }
        (Some(other), _) => {
            return Proof::NotSeen(format!(
                "nothing limits memory by {other:?}; expected cgroup or rlimit"
            ));
        }
    };
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in &mut locked {
        let node = slot.node;
        let Some(process) = lifecycle.process.clone() else {
            each.push(Err(format!(
                "n{node} is not running, so it cannot be squeezed"
            )));
            continue;
        };
        let limit = Limit {
            mib,
            by,
            before: (0, 0),
        };
        let squeezed = match (by, slot.group().of(Controller::Memory)) {
            (Mechanism::Cgroup, Some(group)) => {
                by_group(cluster, slot, lifecycle, id, limit, group, &process).await
            }
            (Mechanism::Cgroup, None) => Err("it has no control group".to_owned()),
            (Mechanism::Rlimit, _) => by_process(slot, lifecycle, id, limit, &process).await,
        };
        each.push(match squeezed {
            Ok(text) => Ok(format!("n{node} {text}")),
            Err(text) => Err(format!("n{node} {text}")),
        });
    }
    all(each)
}

async fn by_group(
    cluster: &Cluster,
    slot: &Slot,
    lifecycle: &mut Lifecycle,
    id: u32,
    limit: Limit,
    group: &Group,
    process: &Arc<Process>,
) -> Result<String, String> {
    let said = |error: io::Error| error.to_string();
    lease(cluster, id, slot.node, Undo::LiftMemory(group.clone()))?;
    let before = group.memory().map_err(said)?;
    let before_counts = (before.refused, before.killed);
    lifecycle.memory_for.insert(
        id,
        Limit {
            before: before_counts,
            ..limit
        },
    );
    process.tolerate_end(true);
    let allowed = smallest(lifecycle, limit.by).unwrap_or(limit.mib) << 20;
    let by = format!("control group {}", group.version);
    match block_in_place(|| group.limit_memory(allowed)) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            // Version 1 refuses such a limit. Version 2 ends who holds more.
            let held = group.memory().map_err(said)?.used;
            let _ = process.kill();
            if timeout(PROVE_WITHIN, process.ended()).await.is_err() {
                return Err(format!("(pid {}) has not ended", process.pid()));
            }
            lifecycle.process = None;
            lifecycle.throttle = None;
            lifecycle.down_for.insert(id);
            slot.target.set(None);
            group.limit_memory(allowed).map_err(said)?;
            return Ok(format!(
                "held {}, which could not be taken from it, may have {} ({by}), and was ended as \
                 the kernel ends who holds more",
                mib(held),
                mib(allowed)
            ));
        }
        written => written.map_err(said)?,
    }
    busy(slot).await;
    let now = group.memory().map_err(said)?;
    if now.limit != Some(allowed) {
        let limit = now.limit.map_or_else(|| "all there is".to_owned(), mib);
        return Err(format!("may have {limit}, not {}", mib(allowed)));
    }
    let refused = now.refused - before.refused;
    Ok(match process.status() {
        None => format!(
            "holds {} of the {} that it may have ({by}, as read back) and hit that limit {refused} \
             times",
            mib(now.used),
            mib(allowed)
        ),
        Some(status) => format!(
            "may have {} ({by}, as read back), hit that limit {refused} times and did not survive \
             it ({status}; {} of its processes ended by the kernel)",
            mib(allowed),
            now.killed - before.killed
        ),
    })
}

async fn by_process(
    slot: &Slot,
    lifecycle: &mut Lifecycle,
    id: u32,
    limit: Limit,
    process: &Arc<Process>,
) -> Result<String, String> {
    let said = |error: io::Error| error.to_string();
    lifecycle.memory_for.insert(id, limit);
    process.tolerate_end(true);
    let allowed = smallest(lifecycle, limit.by).unwrap_or(limit.mib);
    let wanted = set_data(process, Some(allowed)).map_err(said)?;
    busy(slot).await;
    if let Some(status) = process.status() {
        return Ok(format!(
            "may have {allowed} MiB (rlimit) and did not survive it ({status})"
        ));
    }
    let (has, limit) = (
        field(process, "VmData").map_err(said)?,
        data_limit(process).map_err(said)?,
    );
    if limit != wanted {
        return Err(format!("may have data of {limit:?} bytes, not {wanted:?}"));
    }
    Ok(format!(
        "may have {allowed} MiB: data of {} (rlimit, as read back), of which it has {}",
        mib(limit.unwrap_or(u64::MAX)),
        mib(has)
    ))
}

/// Gives a node something to do: one that does nothing needs no memory.
async fn busy(slot: &Slot) {
    for _ in 0..REQUESTS {
        let Some(address) = slot.target.get() else {
            return;
        };
        probe_as(slot.ready, address, 4096, SILENCE).await;
    }
}

pub(super) async fn heal(cluster: &Arc<Cluster>, id: u32, nodes: &[Node]) -> Proof {
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in &mut locked {
        let node = slot.node;
        let Some(limit) = lifecycle.memory_for.remove(&id) else {
            each.push(Ok(format!("n{node} was not squeezed by this")));
            continue;
        };
        if limit.by == Mechanism::Rlimit {
            // One that was refused memory may be about to end.
            forget_ended(slot, lifecycle).await;
        }
        let lifted = match (limit.by, slot.group().of(Controller::Memory)) {
            (Mechanism::Cgroup, Some(group)) => block_in_place(|| lift(group, lifecycle, limit)),
            _ => restore(lifecycle),
        };
        forget_ended(slot, lifecycle).await;
        if lifecycle.memory_for.is_empty()
            && let Some(process) = &lifecycle.process
        {
            process.tolerate_end(false);
        }
        each.push(match lifted {
            Ok(text) => Ok(format!("n{node} {text}")),
            Err(error) => Err(format!("n{node}: {error}")),
        });
    }
    let lifted = match all(each) {
        Proof::Seen(text) => text,
        not_seen @ Proof::NotSeen(_) => return not_seen,
    };
    let nodes: Vec<_> = locked.iter().map(|locked| locked.slot.node).collect();
    match restart(cluster, locked, id).await {
        Proof::Seen(text) => {
            for node in nodes {
                release(cluster, id, node);
            }
            Proof::Seen(format!("{lifted}; {text}"))
        }
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// A process that did not survive is none any more. One that is paused cannot say.
async fn forget_ended(slot: &Slot, lifecycle: &mut Lifecycle) {
    if let (true, Some(process)) = (lifecycle.paused_for.is_empty(), lifecycle.process.clone())
        && !survived(slot, &process).await
    {
        lifecycle.process = None;
        lifecycle.throttle = None;
    }
}

/// Whether a process that was squeezed answers; one that does not may be about to end.
async fn survived(slot: &Slot, process: &Process) -> bool {
    let proof = prove(HEAL_WITHIN, async || {
        if process.status().is_some() {
            return Ok("it has ended".to_owned());
        }
        match slot.target.get() {
            Some(address) => match probe_as(slot.ready, address, 0, ANSWER).await {
                Probe::Answered(..) => Ok("it answers".to_owned()),
                other => Err(format!("{other:?}")),
            },
            None => Err("it does not listen".to_owned()),
        }
    });
    // One that neither ends nor answers is left to the proof.
    drop(proof.await);
    process.status().is_none()
}

fn lift(group: &Group, lifecycle: &Lifecycle, limit: Limit) -> io::Result<String> {
    let wanted = smallest(lifecycle, limit.by).map(|mib| mib << 20);
    match wanted {
        Some(bytes) => group.limit_memory(bytes)?,
        None => group.lift_memory()?,
    }
    let now = group.memory()?;
    if now.limit != wanted {
        return Err(io::Error::other(format!(
            "it may have {:?} bytes, not {wanted:?}",
            now.limit
        )));
    }
    let (refused, killed) = limit.before;
    Ok(format!(
        "may have {} (it hit its limit {} times, and {} of its processes were ended by the kernel)",
        wanted.map_or_else(|| "all there is".to_owned(), mib),
        now.refused.saturating_sub(refused),
        now.killed.saturating_sub(killed)
    ))
}

fn restore(lifecycle: &Lifecycle) -> io::Result<String> {
    let wanted = smallest(lifecycle, Mechanism::Rlimit);
    let Some(process) = &lifecycle.process else {
        return Ok("is down; nothing of it is squeezed".to_owned());
    };
    let set = set_data(process, wanted)?;
    let limit = data_limit(process)?;
    if limit == set {
        Ok("may have the memory that it had before".to_owned())
    } else {
        Err(io::Error::other(format!(
            "it may have data of {limit:?} bytes, not {set:?}"
        )))
    }
}

/// Why a node is not squeezed as this fault wants it any more.
pub(super) fn faded(locked: &Locked<'_>, id: u32) -> Option<String> {
    let Locked { slot, lifecycle } = locked;
    let limit = lifecycle.memory_for.get(&id)?;
    let node = slot.node;
    let found = match (limit.by, slot.group().of(Controller::Memory)) {
        (Mechanism::Cgroup, Some(group)) => {
            let wanted = smallest(lifecycle, limit.by).map(|mib| mib << 20);
            group.memory().map(|memory| memory.limit == wanted)
        }
        _ => match &lifecycle.process {
            Some(process) => data_limit(process).map(|limit| limit.is_some()),
            None => return None,
        },
    };
    match found {
        Ok(true) => None,
        Ok(false) => Some(format!("n{node} was found to have another limit of memory")),
        // It did not survive, as was to be expected.
        Err(error) if is_gone(&error) && limit.by == Mechanism::Rlimit => None,
        Err(error) => Some(format!("n{node}: {error}")),
    }
}

/// Whether this is said of a process that has ended; of one that is not reaped yet the kernel says
/// `ESRCH`.
fn is_gone(error: &io::Error) -> bool {
    let ended = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ended)
}
