//! Replicas with only part of a processor.
//!
//! By the quota of their control group where there is one; else (`signal`) the process is stopped
//! and continued from a thread, so many milliseconds in every 20.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nemesis::mechanism::cgroup::{Controller, Group};
use nemesis::mechanism::lease::Undo;
use nemesis::{Node, Proof};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Lifecycle, Slot};
use super::fault::{ANSWER, HEAL_WITHIN, Locked, PROVE_WITHIN, all, lease, locks, prove, release};
use super::probe::{Probe, probe, probe_as};
use super::process::{Process, Stop};

/// How long a limited process is watched under load.
const WATCHED: Duration = Duration::from_millis(500);
/// Requests under way at a time, to make a process busy that has little to do.
const LOAD: usize = 8;
/// A process is stopped and continued once in this time.
const PERIOD: Duration = Duration::from_millis(20);
/// The same where its share of that would be shorter than a thread sleeps.
const LONG_PERIOD: Duration = Duration::from_millis(100);
/// Shares below this take the long period, in percent.
const SMALL: u8 = 10;
/// How many percent of a processor more than allowed are measured at the edges of a period.
const SLACK: f64 = 10.0;
/// Between two looks whether a process is stopped: no divisor of its period.
const LOOK: Duration = Duration::from_millis(7);

/// What one fault gives a process of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    percent: u8,
    by: Mechanism,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Cgroup,
    Signal,
}

/// A thread that stops and continues a process; ends when dropped, or with the process.
#[derive(Debug)]
pub(super) struct Throttle(Arc<AtomicBool>);

impl Throttle {
    fn start(process: &Arc<Process>, percent: u8) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let period = if percent < SMALL { LONG_PERIOD } else { PERIOD };
        let runs = period * u32::from(percent) / 100;
        let (ends, process) = (Arc::clone(&over), Arc::clone(process));
        let throttle = move || {
            while !ends.load(Ordering::SeqCst) && process.stop(Stop::Share).is_ok() {
                thread::sleep(period.saturating_sub(runs));
                if process.go_on(Stop::Share).is_err() {
                    break;
                }
                thread::sleep(runs);
            }
            let _ = process.go_on(Stop::Share);
        };
        let started = thread::Builder::new()
            .name("throttle".to_owned())
            .spawn(throttle);
        if let Err(error) = started {
            // Then nothing is slow, which the proof will show.
            tracing::warn!(%error, "no thread to throttle a process");
        }
        Self(over)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The smallest share that a mechanism is to give.
fn smallest(lifecycle: &Lifecycle, by: Mechanism) -> Option<u8> {
    let shares = lifecycle.cpu_for.values().filter(|share| share.by == by);
    shares.map(|share| share.percent).min()
}

/// What stops and continues the process that a node has now, if one of its faults wants that.
pub(super) fn throttle(lifecycle: &Lifecycle) -> Option<Throttle> {
    let percent = smallest(lifecycle, Mechanism::Signal).filter(|&percent| percent < 100)?;
    Some(Throttle::start(lifecycle.process.as_ref()?, percent))
}

/// Has it as the faults of a node want it by now.
fn apply(slot: &Slot, lifecycle: &mut Lifecycle, by: Mechanism) -> Result<(), String> {
    match (by, slot.group().of(Controller::Cpu)) {
        (Mechanism::Signal, _) => {
            lifecycle.throttle = None;
            lifecycle.throttle = throttle(lifecycle);
            Ok(())
        }
        (Mechanism::Cgroup, Some(group)) => {
            let applied = match smallest(lifecycle, by) {
                Some(percent) => group.limit_cpu(percent),
                None => group.lift_cpu(),
            };
            applied.map_err(|error| format!("n{}: {error}", slot.node))
        }
        (Mechanism::Cgroup, None) => Err(format!("n{} has no control group", slot.node)),
    }
}

pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    id: u32,
    nodes: &[Node],
    percent: u8,
    via: Option<&str>,
) -> Proof {
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let obstacle = cluster.custody.groups.obstacle(Controller::Cpu);
    let by = match (via, obstacle) {
        (None | Some("cgroup"), None) => Mechanism::Cgroup,
        (None, Some(_)) | (Some("signal"), _) => Mechanism::Signal,
        (Some("cgroup"), Some(why)) => {
            return Proof::NotSeen(format!("no control group limits processors here: {why}"));
        }
        (Some(other), _) => {
            return Proof::NotSeen(format!(
                "nothing limits processors by {other:?}; expected cgroup or signal"
            ));
        }
    };
    for Locked { slot, lifecycle } in &mut locked {
        let node = slot.node;
        let Some(process) = lifecycle.process.clone() else {
            return Proof::NotSeen(format!(
                "n{node} is not running, so it cannot be slowed down"
            ));
        };
        let undo = match (by, slot.group().of(Controller::Cpu)) {
            (Mechanism::Cgroup, Some(group)) => Ok(Undo::LiftCpu(group.clone())),
            _ => process.identity().map(Undo::Continue),
        };
        let undo = undo.map_err(|error| format!("n{node}: {error}"));
        let done = undo
            .and_then(|undo| lease(cluster, id, node, undo))
            .and_then(|()| {
                lifecycle.cpu_for.insert(id, Share { percent, by });
                block_in_place(|| apply(slot, lifecycle, by))
            });
        if let Err(why) = done {
            return Proof::NotSeen(why);
        }
    }
    let mut looking = JoinSet::new();
    for Locked { slot, lifecycle } in &locked {
        let node = slot.node;
        let (Some(process), Some(address)) = (lifecycle.process.clone(), slot.target.get()) else {
            return Proof::NotSeen(format!(
                "n{node} is not running, so it cannot be slowed down"
            ));
        };
        let allowed = smallest(lifecycle, by).unwrap_or(percent);
        let group = slot.group().of(Controller::Cpu).cloned();
        looking.spawn(async move {
            let proof = prove(PROVE_WITHIN, async || match (by, &group) {
                (Mechanism::Cgroup, Some(group)) => {
                    prove_quota(&process, address, allowed, group).await
                }
                _ => prove_stops(&process, address, allowed).await,
            });
            (node, proof.await)
        });
    }
    named(looking.join_all().await)
}

/// What is said of each node, in their order, with their names before it.
fn named(mut each: Vec<(Node, Proof)>) -> Proof {
    each.sort_by_key(|(node, _)| *node);
    all(each.into_iter().map(|(node, proof)| match proof {
        Proof::Seen(text) => Ok(format!("n{node} {text}")),
        Proof::NotSeen(text) => Err(format!("n{node} {text}")),
    }))
}

/// Keeps a node busy until the time is up.
async fn load(address: std::net::SocketAddr) {
    let until = Instant::now() + WATCHED;
    let mut clients = JoinSet::new();
    for _ in 0..LOAD {
        clients.spawn(async move {
            while Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                probe(address, 0, left.max(LOOK)).await;
            }
        });
    }
    clients.join_all().await;
}

/// How many percent of a processor a process takes while it is kept busy, and for how long that was
/// watched.
async fn taken(
    process: &Process,
    address: std::net::SocketAddr,
) -> Result<(f64, Duration), String> {
    let ran = || process.processor_time().map_err(|error| error.to_string());
    let (before, start) = (ran()?, Instant::now());
    load(address).await;
    let (ran, took) = (ran()?.saturating_sub(before), start.elapsed());
    Ok((100.0 * ran.as_secs_f64() / took.as_secs_f64(), took))
}

async fn prove_quota(
    process: &Process,
    address: std::net::SocketAddr,
    allowed: u8,
    group: &Group,
) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let before = group.throttled().map_err(said)?;
    let (taken, took) = taken(process, address).await?;
    let times = group.throttled().map_err(said)? - before;
    let limit = group.cpu_limit().map_err(said)?;
    if limit != Some(f64::from(allowed)) {
        return Err(format!("may take {}, not {allowed}%", percent(limit)));
    }
    let seen = format!("took {taken:.1}% of a processor in {took:.1?} under load");
    let by = format!("control group {}", group.version);
    if taken > f64::from(allowed) + SLACK {
        Err(format!("{seen}, yet it may take {allowed}% ({by})"))
    } else if times > 0 {
        Ok(format!(
            "{seen}, was throttled {times} times and may take {allowed}% ({by})"
        ))
    } else {
        Ok(format!(
            "may take {allowed}% of a processor ({by}, as read back); it {seen}, which is less, so \
             that it was not throttled yet"
        ))
    }
}

async fn prove_stops(
    process: &Arc<Process>,
    address: std::net::SocketAddr,
    allowed: u8,
) -> Result<String, String> {
    let watched = Arc::clone(process);
    let looks = tokio::spawn(async move {
        let until = Instant::now() + WATCHED;
        let (mut looks, mut stopped) = (0_u32, 0_u32);
        while Instant::now() < until {
            looks += 1;
            stopped += u32::from(watched.state() == Some('T'));
            sleep(LOOK).await;
        }
        (looks, stopped)
    });
    let (taken, took) = taken(process, address).await?;
    let (looks, stopped) = looks.await.map_err(|error| error.to_string())?;
    let seen = format!(
        "took {taken:.1}% of a processor in {took:.1?} under load and was found stopped in {stopped} \
         of {looks} looks"
    );
    let expected = f64::from(looks) * f64::from(100 - allowed.min(100)) / 100.0;
    if taken > f64::from(allowed) + SLACK || f64::from(stopped) < expected / 2.0 {
        Err(format!("{seen}, yet it may run {allowed}% of the time"))
    } else {
        Ok(format!(
            "{seen}: it may run {allowed}% of the time (signals)"
        ))
    }
}

fn percent(limit: Option<f64>) -> String {
    limit.map_or_else(
        || "all it can get".to_owned(),
        |limit| format!("{limit:.0}% of a processor"),
    )
}

pub(super) async fn heal(cluster: &Arc<Cluster>, id: u32, nodes: &[Node]) -> Proof {
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let mut looking = JoinSet::new();
    for Locked { slot, lifecycle } in &mut locked {
        let healed = lifecycle.cpu_for.remove(&id);
        if let Some(share) = healed
            && let Err(why) = block_in_place(|| apply(slot, lifecycle, share.by))
        {
            return Proof::NotSeen(why);
        }
        let wanted = [Mechanism::Cgroup, Mechanism::Signal].map(|by| smallest(lifecycle, by));
        let other = lifecycle.cpu_for.keys().next().copied();
        let paused = !lifecycle.paused_for.is_empty();
        let (node, process, ready) = (slot.node, lifecycle.process.clone(), slot.ready);
        let (address, group) = (slot.target.get(), slot.group().of(Controller::Cpu).cloned());
        looking.spawn(async move {
            let proof = prove(HEAL_WITHIN, async || {
                let limit = group.as_ref().map_or(Ok(None), Group::cpu_limit);
                let limit = limit.map_err(|error| error.to_string())?;
                if limit != wanted[0].map(f64::from) {
                    return Err(format!("may take {}", percent(limit)));
                }
                if let Some(other) = other {
                    return Ok(format!("stays slow for fault {other}"));
                }
                let (Some(process), Some(address)) = (&process, address) else {
                    return Ok("is down; it may take all it can get".to_owned());
                };
                if paused {
                    return Ok("may take all it can get, and is paused".to_owned());
                }
                match (process.state(), probe_as(ready, address, 0, ANSWER).await) {
                    (Some(state), Probe::Answered(..)) if state != 'T' => {
                        Ok("may take all it can get, and answers".to_owned())
                    }
                    (state, probe) => Err(format!("is in state {state:?}; a probe says {probe:?}")),
                }
            });
            (node, proof.await)
        });
    }
    let proof = named(looking.join_all().await);
    if let Proof::Seen(_) = &proof {
        for Locked { slot, .. } in &locked {
            release(cluster, id, slot.node);
        }
    }
    proof
}

/// Why a node is not as slow as this fault wants it any more.
pub(super) fn faded(locked: &Locked<'_>, id: u32) -> Option<String> {
    let Locked { slot, lifecycle } = locked;
    let share = lifecycle.cpu_for.get(&id)?;
    let group = slot.group().of(Controller::Cpu);
    let (Mechanism::Cgroup, Some(group)) = (share.by, group) else {
        return None;
    };
    let allowed = smallest(lifecycle, share.by).map(f64::from);
    match group.cpu_limit() {
        Ok(limit) if limit == allowed => None,
        Ok(limit) => Some(format!(
            "n{} was found to be allowed {} before its time",
            slot.node,
            percent(limit)
        )),
        Err(error) => Some(format!("n{}: {error}", slot.node)),
    }
}
