//! Ends pods, and proves that they ended and are back.
//!
//! A deleted pod is made anew by the StatefulSet's controller at once: how long the node is down is
//! the cluster's own recovery, and healing waits for its end rather than causing it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use k8s::forward::Witness;
use k8s::pod::Evicted;
use k8s::{Member, pod};
use nemesis::{Node, Proof};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::substrate::{Inner, Slot};
use super::{all, found, patiently, short};

/// How long a pod may take to answer before it is deleted.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a deleted pod and its process may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long a disruption budget may stand in the way of an eviction.
const EVICT_WITHIN: Duration = Duration::from_secs(45);
/// Between two attempts to evict.
const EVICT_PAUSE: Duration = Duration::from_millis(500);
/// How long a rolling restart is followed.
const SHADOW: Duration = Duration::from_secs(600);
/// How long its successor may take to be ready.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// The pods of these nodes now, each with the way to it; they are remembered as hurt by this fault.
pub(super) async fn targets(
    inner: &Inner,
    id: u32,
    nodes: &[Node],
) -> Result<Vec<(Member, Arc<Slot>)>, String> {
    let members = patiently(|| found(inner)).await?;
    let mut targets = Vec::new();
    for &node in nodes {
        let member = members.iter().find(|member| member.node == node);
        let (Some(member), Some(slot)) = (member, inner.slot(node)) else {
            return Err(format!("n{node} has no pod"));
        };
        targets.push((member.clone(), Arc::clone(slot)));
    }
    for (member, slot) in &targets {
        slot.known().hurt_by.insert(id, member.uid.clone());
    }
    Ok(targets)
}

/// How pods are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Deleted, without the time that they have to end.
    Force,
    /// Deleted, with that time.
    Delete,
    /// Evicted, as a drain does it: a PodDisruptionBudget may forbid it.
    Evict,
}

impl How {
    /// What a schedule demands.
    pub fn of(via: Option<&str>) -> Result<Self, String> {
        match via {
            None | Some("force") => Ok(Self::Force),
            Some("delete") => Ok(Self::Delete),
            Some("evict") => Ok(Self::Evict),
            Some(other) => Err(format!(
                "pods are not ended via {other}; expected force, delete or evict"
            )),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Force => "deleted at once",
            Self::Delete => "deleted",
            Self::Evict => "evicted",
        }
    }
}

/// Ends the pods, and sees them end.
pub(super) async fn end(
    inner: &Arc<Inner>,
    id: u32,
    nodes: &[Node],
    how: How,
    data: &'static str,
) -> Proof {
    let targets = match targets(inner, id, nodes).await {
        Ok(targets) => targets,
        Err(why) => return Proof::NotSeen(why),
    };
    // A connection to each process first: its end is that of the process.
    let mut watching = JoinSet::new();
    for (member, slot) in targets {
        let inner = Arc::clone(inner);
        watching.spawn(async move {
            let witness = inner.witness(&member.pod);
            let witness = timeout(ANSWER_WITHIN, witness).await;
            let mut witness = witness.ok().and_then(Result::ok);
            // One that the process has ended already is no witness of its end.
            if let Some(it) = &mut witness
                && !it.stands().await
            {
                witness = None;
            }
            (member, slot, witness)
        });
    }
    let watched = watching.join_all().await;
    let mut ending = JoinSet::new();
    for (member, slot, witness) in watched {
        let inner = Arc::clone(inner);
        ending.spawn(async move {
            let node = member.node;
            let seen = end_one(&inner, id, &member, &slot, witness, how, data).await;
            tokio::spawn(comeback(inner, member, slot));
            (node, seen)
        });
    }
    all(ending.join_all().await)
}

async fn end_one(
    inner: &Inner,
    id: u32,
    member: &Member,
    slot: &Slot,
    witness: Option<Witness>,
    how: How,
    data: &str,
) -> Result<String, String> {
    let (node, pod) = (member.node, &member.pod);
    let ended = match how {
        How::Evict => evict(inner, member, slot).await,
        How::Force | How::Delete => {
            slot.down.store(true, SeqCst);
            let at_once = how == How::Force;
            // Again is no error: it is this pod alone that is meant.
            patiently(|| pod::delete(&inner.cluster, &inner.namespace, member, at_once)).await
        }
    };
    if let Err(why) = ended {
        // It was left alone.
        slot.known().hurt_by.remove(&id);
        slot.down.store(false, SeqCst);
        return Err(why);
    }
    let gone = pod::gone(&inner.cluster, &inner.namespace, member, END_WITHIN).await;
    if !gone.map_err(|error| error.to_string())? {
        return Err(format!("{pod} is still there after {END_WITHIN:?}"));
    }
    let on = member.on.as_deref().unwrap_or("no node");
    let process = match witness {
        None => "its process did not answer before",
        Some(witness) => match timeout(END_WITHIN, witness.ended()).await {
            Ok(()) => "its process has ended",
            Err(_) => {
                return Err(format!(
                    "the pod of n{node} is gone, yet the connection to its process stands"
                ));
            }
        },
    };
    let (uid, word) = (short(&member.uid), how.word());
    Ok(format!(
        "n{node}: pod {pod} ({uid} on {on}), {word}, is gone, {process}, {data}"
    ))
}

/// Has a pod evicted, as soon as no disruption budget stands in the way.
async fn evict(inner: &Inner, member: &Member, slot: &Slot) -> Result<(), String> {
    let deadline = Instant::now() + EVICT_WITHIN;
    loop {
        match patiently(|| pod::evict(&inner.cluster, &inner.namespace, member)).await? {
            Evicted::Accepted => {
                slot.down.store(true, SeqCst);
                return Ok(());
            }
            Evicted::Refused(why) if Instant::now() >= deadline => {
                let pod = &member.pod;
                return Err(format!(
                    "the eviction of {pod} was refused for {EVICT_WITHIN:?}: {why}"
                ));
            }
            Evicted::Refused(_) => sleep(EVICT_PAUSE).await,
        }
    }
}

/// Marks nodes as down when their pods end, whoever ends them, until each is in another pod.
pub(super) async fn shadow(inner: Arc<Inner>, mut members: Vec<Member>) {
    let deadline = Instant::now() + SHADOW;
    while !members.is_empty() && Instant::now() < deadline {
        if let Ok(now) = found(&inner).await {
            members.retain(|member| {
                let stays = now.iter().any(|it| it.uid == member.uid && !it.ending);
                if let (false, Some(slot)) = (stays, inner.slot(member.node)) {
                    slot.down.store(true, SeqCst);
                    tokio::spawn(comeback(
                        Arc::clone(&inner),
                        member.clone(),
                        Arc::clone(slot),
                    ));
                }
                stays
            });
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the node answers again, from another pod; from then on it is asked again.
pub(super) async fn comeback(inner: Arc<Inner>, old: Member, slot: Arc<Slot>) {
    loop {
        let witness = inner.witness(&old.pod);
        if let Ok(Ok(_)) = timeout(ANSWER_WITHIN, witness).await
            && let Ok(true) =
                pod::gone(&inner.cluster, &inner.namespace, &old, Duration::ZERO).await
        {
            slot.down.store(false, SeqCst);
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the nodes are ready in other pods than those that were deleted.
pub(super) async fn back(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    back_within(inner, id, nodes, BACK_WITHIN).await
}

/// The same, in this time.
pub(super) async fn back_within(
    inner: &Arc<Inner>,
    id: u32,
    nodes: &[Node],
    within: Duration,
) -> Proof {
    let deadline = Instant::now() + within;
    let mut why = String::new();
    loop {
        match found(inner).await {
            Ok(members) => {
                let each = nodes
                    .iter()
                    .map(|&node| (node, back_one(inner, &members, id, node)));
                match all(each.collect()) {
                    Proof::Seen(text) => {
                        for member in members.iter().filter(|m| nodes.contains(&m.node)) {
                            if let Some(slot) = inner.slot(member.node) {
                                let mut known = slot.known();
                                known.hurt_by.remove(&id);
                                known.uid.clone_from(&member.uid);
                                known.restarts = member.restarts;
                                known.on.clone_from(&member.on);
                            }
                        }
                        return Proof::Seen(text);
                    }
                    Proof::NotSeen(text) => why = text,
                }
            }
            // The API server may be away for a moment.
            Err(error) => {
                why = if why.is_empty() {
                    error.to_string()
                } else {
                    why
                }
            }
        }
        if Instant::now() >= deadline {
            return Proof::NotSeen(format!("{why} after {within:?}"));
        }
        sleep(PAUSE).await;
    }
}

fn back_one(inner: &Inner, members: &[Member], id: u32, node: Node) -> Result<String, String> {
    let missing = || format!("n{node} has no pod yet");
    let slot = inner.slot(node).ok_or_else(missing)?;
    let member = members
        .iter()
        .find(|member| member.node == node)
        .ok_or_else(missing)?;
    if slot.known().hurt_by.get(&id) == Some(&member.uid) {
        return Err(format!("n{node} is in the same pod still"));
    }
    if !member.ready || slot.down.load(SeqCst) {
        return Err(match &member.trouble {
            Some(trouble) => format!("n{node} is not ready ({trouble})"),
            None => format!("n{node} is not ready"),
        });
    }
    let on = member.on.as_deref().unwrap_or("no node");
    let (pod, uid) = (&member.pod, short(&member.uid));
    Ok(format!(
        "n{node} is ready again in pod {pod} ({uid} on {on})"
    ))
}
