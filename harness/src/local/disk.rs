//! Faults of disks, and of what is stored on them.
//!
//! | module | what it does |
//! | --- | --- |
//! | `needs` | what has to be under the nodes' data, seen from what is planned |
//! | `copies` | older copies of the nodes' data |
//! | `damage` | flips a bit of a log or a snapshot |
//! | `probe` | writes to a node's disk and looks what comes of it |
//!
//! A loss of power, a disk that is full, read-only or slow, and a sync that fails are done by a layer
//! under the node's data ([`nemesis::mechanism::disk`]). It is put there only where such a fault is
//! planned, and ends with the harness.

mod copies;
mod damage;
mod needs;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use nemesis::mechanism::disk::{DiskLayer, Loss, Tail};
use nemesis::{Action, Capabilities, DiskFault, FaultKind, Node, Proof, Stored};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

pub(super) use self::copies::{Copies, Shelf, copy_tree};
pub use self::needs::Needs;
use self::probe::Seen;
use super::cluster::Cluster;
use super::fault::{ANSWER, HEAL_WITHIN, Locked, all, kill, locks, prove, restart};
use super::probe::{Probe, probe_as as ask};

/// How long syncs are held before power is lost, as by a disk with a long queue, so that it is lost
/// in the middle of something if anything is going on.
const HELD_FOR: Duration = Duration::from_millis(200);
/// How long they are held to have a write that can be torn.
const HELD_TO_TEAR: Duration = Duration::from_secs(2);
/// A process that ends over a disk that refused it has done so this soon after the last refusal.
const LAST_REFUSAL: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// The kinds of faults that need a layer.
const OF_LAYER: [FaultKind; 6] = [
    FaultKind::PowerLoss,
    FaultKind::TornWrite,
    FaultKind::DiskFull,
    FaultKind::ReadOnly,
    FaultKind::SlowDisk,
    FaultKind::FsyncError,
];

/// The name of the mechanism that shuts a file system down.
const EXT4: &str = "ext4";

/// What can be done to disks here.
pub(super) fn capabilities() -> Capabilities {
    match nemesis::mechanism::disk::available() {
        Ok(()) => Capabilities::all(),
        Err(why) => OF_LAYER
            .into_iter()
            .fold(Capabilities::all(), |all, kind| all.without(kind, &why)),
    }
}

pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    id: u32,
    action: &Action,
    via: Option<&str>,
) -> Proof {
    let (Action::TornWrite(nodes)
    | Action::BitFlip(nodes, _)
    | Action::Rollback(nodes, _)
    | Action::Disk(nodes, _)
    | Action::PowerLoss(nodes)) = action
    else {
        return Proof::NotSeen("it is no fault of a disk".to_owned());
    };
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    if matches!(action, Action::PowerLoss(_)) && via == Some(EXT4) {
        return shut_down(&mut locked, id).await;
    }
    let by_layer = !matches!(action, Action::BitFlip(..) | Action::Rollback(..));
    if let Some(other) = via.filter(|via| !by_layer || *via != "fuse") {
        let known = match action {
            Action::PowerLoss(_) => "fuse and ext4",
            _ if by_layer => "fuse alone",
            _ => "none",
        };
        return Proof::NotSeen(format!(
            "it is not done by {other:?} here; known is {known}"
        ));
    }
    match action {
        Action::PowerLoss(_) => power_loss(&mut locked, id, false).await,
        Action::TornWrite(_) => power_loss(&mut locked, id, true).await,
        Action::BitFlip(_, stored) => flip(&mut locked, id, *stored).await,
        Action::Rollback(_, age_ms) => roll_back(&mut locked, id, *age_ms).await,
        Action::Disk(_, fault) => misbehave(&mut locked, id, *fault),
        _ => Proof::NotSeen("it is no fault of a disk".to_owned()),
    }
}

fn layer<'a>(locked: &'a Locked<'_>) -> Result<&'a DiskLayer, String> {
    let node = locked.slot.node;
    let layer = locked.slot.data.layer();
    layer.ok_or_else(|| format!("there is no layer under the data of n{node}"))
}

/// Ends the processes and loses what they had not synced.
///
/// Syncs are held for a moment before, so that power is lost while something waits to be durable;
/// what is told to clients in that moment was told without waiting.
async fn power_loss(locked: &mut [Locked<'_>], id: u32, tear: bool) -> Proof {
    if let Some(Err(why)) = locked.iter().map(layer).find(Result::is_err) {
        return Proof::NotSeen(why);
    }
    let layers = |locked: &[Locked<'_>], what: &dyn Fn(&DiskLayer)| {
        for layer in locked.iter().filter_map(|locked| layer(locked).ok()) {
            what(layer);
        }
    };
    layers(locked, &DiskLayer::hold_syncs);
    if tear {
        let until = Instant::now() + HELD_TO_TEAR;
        while Instant::now() < until && !locked.iter().all(can_tear) {
            sleep(LOOK).await;
        }
    } else {
        // All of it: a store that does not wait for its syncs goes on meanwhile.
        sleep(HELD_FOR).await;
    }
    // All signals first, so that all power is lost at once.
    for Locked { lifecycle, .. } in locked.iter() {
        if let Some(process) = &lifecycle.process {
            // It fails only when the process has ended by itself, which the proof will show.
            let _ = process.kill();
        }
    }
    // Not before: nobody is to see how the disk fails.
    layers(locked, &DiskLayer::cut_power);
    let ended = kill(locked, id).await;
    let Proof::Seen(ended) = ended else {
        layers(locked, &DiskLayer::restore_power);
        return ended;
    };
    let lost = all(locked.iter().map(|locked| {
        let node = locked.slot.node;
        let layer = layer(locked)?;
        let seed = locked.slot.data.seed(id);
        let tail = if tear {
            Tail::Torn(seed)
        } else {
            Tail::Random(seed)
        };
        let loss = block_in_place(|| layer.lose(tail))
            .map_err(|error| format!("n{node} keeps its data: {error}"))?;
        if tear && loss.torn.is_none() {
            return Err(format!("n{node} had nothing to tear: {}", told(&loss)));
        }
        Ok(format!("n{node} {}", told(&loss)))
    }));
    match lost {
        Proof::Seen(lost) => Proof::Seen(format!("{ended}; by fuse: {lost}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Ends the processes and shuts the file systems of their data down.
async fn shut_down(locked: &mut [Locked<'_>], id: u32) -> Proof {
    if let Err(why) = nemesis::mechanism::disk::ext4::available() {
        return Proof::NotSeen(why);
    }
    let ended = kill(locked, id).await;
    let Proof::Seen(ended) = ended else {
        return ended;
    };
    let lost = all(locked.iter().map(|Locked { slot, .. }| {
        let (node, data) = (slot.node, &slot.data);
        let volume = data.volume();
        let volume = volume.ok_or_else(|| format!("n{node} has no file system of its own"))?;
        let lost = block_in_place(|| {
            let before = data.bytes()?;
            volume.lose_power()?;
            Ok::<_, std::io::Error>(before.saturating_sub(data.bytes()?))
        });
        lost.map(|bytes| format!("n{node} lost {bytes} unsynced bytes when it was shut down"))
            .map_err(|error| format!("n{node} keeps its data: {error}"))
    }));
    match lost {
        Proof::Seen(lost) => Proof::Seen(format!("{ended}; by ext4: {lost}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Whether a node has a write that can be torn, or nobody to write it.
fn can_tear(locked: &Locked<'_>) -> bool {
    let unsynced = layer(locked).map(DiskLayer::unsynced).unwrap_or_default();
    unsynced.can_tear || locked.lifecycle.process.is_none()
}

fn told(loss: &Loss) -> String {
    let Loss {
        files,
        changes,
        bytes,
        names,
        torn,
    } = loss;
    let torn = torn.as_ref().map(|(file, kept, of)| {
        format!(", and kept {kept} of the {of} bytes of a write to {file}")
    });
    let torn = torn.unwrap_or_default();
    if *changes == 0 && *names == 0 {
        return format!("had nothing unsynced to lose{torn}");
    }
    format!(
        "lost {bytes} unsynced bytes ({changes} changes of {files} files, {names} changes of names)\
         {torn}"
    )
}

/// Ends the processes and flips one bit of each one's log or snapshot.
async fn flip(locked: &mut [Locked<'_>], id: u32, stored: Stored) -> Proof {
    let ended = kill(locked, id).await;
    let Proof::Seen(ended) = ended else {
        return ended;
    };
    let flipped = all(locked.iter_mut().map(|Locked { slot, lifecycle }| {
        let node = slot.node;
        let flipped = block_in_place(|| damage::flip(&slot.data, stored, slot.data.seed(id)))
            .map_err(|why| format!("n{node}: {why}"))?;
        // It may end over it when it is started again.
        lifecycle.disk_for.insert(id);
        Ok(format!("n{node}: {flipped}"))
    }));
    match flipped {
        Proof::Seen(flipped) => Proof::Seen(format!("{ended}; {flipped}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Ends the processes and puts back older copies of their data.
async fn roll_back(locked: &mut [Locked<'_>], id: u32, age_ms: u64) -> Proof {
    let ended = kill(locked, id).await;
    let Proof::Seen(ended) = ended else {
        return ended;
    };
    let back = all(locked.iter().map(|Locked { slot, .. }| {
        let node = slot.node;
        let age = Duration::from_millis(age_ms);
        match block_in_place(|| slot.data.put_back(age)) {
            Ok(Some((of, files))) => Ok(format!(
                "n{node} has the {files} files that it had {} ms ago",
                of.as_millis()
            )),
            Ok(None) => Ok(format!(
                "n{node} has no data: there is no copy that is {age_ms} ms old"
            )),
            Err(error) => Err(format!("n{node} keeps its data: {error}")),
        }
    }));
    match back {
        Proof::Seen(back) => Proof::Seen(format!("{ended}; {back}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Lets disks misbehave, and looks at them do it.
fn misbehave(locked: &mut [Locked<'_>], id: u32, fault: DiskFault) -> Proof {
    for locked in locked.iter_mut() {
        if layer(locked).is_err() {
            continue;
        }
        locked.lifecycle.disk_for.insert(id);
        if let Some(process) = &locked.lifecycle.process {
            process.tolerate_end(true);
        }
        if let Ok(layer) = layer(locked) {
            layer.inject(id, fault);
        }
    }
    let proof = all(locked.iter().map(|locked| {
        let node = locked.slot.node;
        let layer = layer(locked)?;
        let seen = block_in_place(|| probe::probe(layer.path(), fault));
        match seen {
            Seen::Misbehaves(how) => Ok(format!("n{node}: {how}")),
            Seen::Works(how) => Err(format!("n{node}: {how}")),
        }
    }));
    match proof {
        Proof::Seen(text) => Proof::Seen(format!("by fuse: {text}")),
        not_seen @ Proof::NotSeen(_) => not_seen,
    }
}

/// Why the disks of some nodes do not misbehave any more.
pub(super) async fn faded(
    cluster: &Arc<Cluster>,
    id: u32,
    nodes: &[Node],
    fault: DiskFault,
) -> Option<String> {
    let locked = locks(cluster, nodes).await.ok()?;
    let why: Vec<_> = locked
        .iter()
        .filter_map(|locked| {
            let node = locked.slot.node;
            let layer = layer(locked).ok()?;
            if !layer.is_mounted() {
                return Some(format!("the layer under n{node} is gone"));
            }
            if !layer.has(id) {
                return Some(format!("the disk of n{node} was healed"));
            }
            match block_in_place(|| probe::probe(layer.path(), fault)) {
                Seen::Misbehaves(_) => None,
                Seen::Works(how) => Some(format!("n{node}: {how}")),
            }
        })
        .collect();
    (!why.is_empty()).then(|| why.join("; "))
}

pub(super) async fn heal(cluster: &Arc<Cluster>, id: u32, action: &Action) -> Proof {
    match action {
        Action::TornWrite(nodes) | Action::PowerLoss(nodes) | Action::Rollback(nodes, _) => {
            match locks(cluster, nodes).await {
                Ok(locked) => restart(cluster, locked, id).await,
                Err(unknown) => Proof::NotSeen(unknown),
            }
        }
        Action::BitFlip(nodes, _) => match locks(cluster, nodes).await {
            Ok(locked) => start_on_damage(cluster, locked, id).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        Action::Disk(nodes, fault) => match locks(cluster, nodes).await {
            Ok(locked) => behave(cluster, locked, id, *fault).await,
            Err(unknown) => Proof::NotSeen(unknown),
        },
        _ => Proof::NotSeen("it is no fault of a disk".to_owned()),
    }
}

/// Starts nodes on damaged data, and those that refuse on nothing.
async fn start_on_damage(cluster: &Arc<Cluster>, mut locked: Vec<Locked<'_>>, id: u32) -> Proof {
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in &mut locked {
        let node = slot.node;
        lifecycle.down_for.remove(&id);
        if let Some(&other) = lifecycle.down_for.first() {
            lifecycle.disk_for.remove(&id);
            each.push(Ok(format!("n{node} stays down for fault {other}")));
            continue;
        }
        if lifecycle.process.is_some() {
            lifecycle.disk_for.remove(&id);
            each.push(Ok(format!("n{node} runs already")));
            continue;
        }
        // Its end is tolerated while this fault is among those of its disk.
        let started = cluster.start(slot, lifecycle).await;
        lifecycle.disk_for.remove(&id);
        let process = lifecycle.process.clone();
        if let Some(process) = &process {
            process.tolerate_end(!lifecycle.disk_for.is_empty());
        }
        let refused = match started {
            Ok(()) => {
                each.push(Ok(format!("n{node} was started on it and answers")));
                continue;
            }
            Err(refused) => refused,
        };
        if process.is_some_and(|process| process.status().is_none()) {
            each.push(Err(refused.to_string()));
            continue;
        }
        lifecycle.process = None;
        slot.target.set(None);
        let said = refused.tail.lines().last().unwrap_or_default().trim();
        let said = format!("n{node} refused its data ({}; {said})", refused.why);
        if let Err(error) = block_in_place(|| slot.data.empty()) {
            each.push(Err(format!("{said}, which could not be deleted: {error}")));
            continue;
        }
        each.push(match cluster.start(slot, lifecycle).await {
            Ok(()) => Ok(format!("{said}, was started on nothing and answers")),
            Err(error) => Err(format!("{said}; {error}")),
        });
    }
    all(each)
}

/// Lets disks be, and looks at them work; starts the processes that ended over it.
async fn behave(
    cluster: &Arc<Cluster>,
    mut locked: Vec<Locked<'_>>,
    id: u32,
    fault: DiskFault,
) -> Proof {
    // All of them, whatever comes of each.
    for layer in locked.iter().filter_map(|locked| layer(locked).ok()) {
        layer.heal(id);
    }
    let works = all(locked.iter().map(|locked| {
        let node = locked.slot.node;
        let layer = layer(locked)?;
        if let Some((other, _)) = layer.faults().first() {
            return Ok(format!("the disk of n{node} is left to fault {other}"));
        }
        match block_in_place(|| probe::works(layer.path())) {
            Ok(()) => Ok(format!("n{node} can write and sync")),
            Err(error) => Err(format!("n{node} can still not write and sync: {error}")),
        }
    }));
    if !matches!(fault, DiskFault::Slow(_)) {
        // Who was refused a moment ago may be about to end over it.
        sleep(LAST_REFUSAL).await;
    }
    for Locked { slot, lifecycle } in &mut locked {
        lifecycle.disk_for.remove(&id);
        let Some(process) = lifecycle.process.clone() else {
            continue;
        };
        if process.status().is_some() {
            lifecycle.process = None;
            slot.target.set(None);
            let others: Vec<_> = lifecycle.disk_for.iter().copied().collect();
            lifecycle.down_for.extend(others);
        } else {
            process.tolerate_end(!lifecycle.disk_for.is_empty());
        }
    }
    let Proof::Seen(works) = works else {
        return works;
    };
    let nodes: Vec<Node> = locked.iter().map(|locked| locked.slot.node).collect();
    let restarted = match restart(cluster, locked, id).await {
        Proof::Seen(restarted) => restarted,
        not_seen @ Proof::NotSeen(_) => return not_seen,
    };
    // One that went on through it has not answered yet.
    let mut each = vec![Ok(works), Ok(restarted)];
    for node in nodes {
        let Some(slot) = cluster.slot(node) else {
            continue;
        };
        if slot.is_paused() || slot.target.get().is_none() {
            continue;
        }
        let answers = prove(HEAL_WITHIN, async || match slot.target.get() {
            None => Err(format!("n{node} has ended")),
            Some(address) => match ask(slot.ready, address, 0, ANSWER).await {
                Probe::Answered(..) => Ok(format!("n{node} answers")),
                other => Err(format!("n{node} does not answer: {other:?}")),
            },
        });
        each.push(match answers.await {
            Proof::Seen(text) => Ok(text),
            Proof::NotSeen(text) => Err(text),
        });
    }
    all(each)
}
