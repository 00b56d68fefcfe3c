//! Deletes pods, and proves that they ended and are back.
//!
//! A deleted pod is made anew by the StatefulSet's controller at once: how long the node is down is
//! the cluster's own recovery, and healing waits for its end rather than causing it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use k8s::forward::Witness;
use k8s::names::PORT;
use k8s::{Member, pod};
use nemesis::{Node, Proof};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::substrate::{Inner, Slot};
use super::{all, found, short};

/// How long a pod may take to answer before it is deleted.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a deleted pod and its process may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long its successor may take to be ready.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Deletes the pods at once, without the time that they have to end, and sees them end.
pub(super) async fn end(inner: &Arc<Inner>, id: u32, nodes: &[Node], data: &'static str) -> Proof {
    let members = match found(inner).await {
        Ok(members) => members,
        Err(error) => return Proof::NotSeen(error.to_string()),
    };
    let mut targets = Vec::new();
    for &node in nodes {
        let member = members.iter().find(|member| member.node == node);
        let (Some(member), Some(slot)) = (member, inner.slot(node)) else {
            return Proof::NotSeen(format!("n{node} has no pod"));
        };
        slot.known().hurt_by.insert(id, member.uid.clone());
        targets.push((member.clone(), Arc::clone(slot)));
    }
    // A connection to each process first: its end is that of the process.
    let mut watching = JoinSet::new();
    for (member, slot) in targets {
        let inner = Arc::clone(inner);
        watching.spawn(async move {
            let witness = Witness::of(&inner.cluster, &inner.namespace, &member.pod, PORT);
            let witness = timeout(ANSWER_WITHIN, witness).await;
            (member, slot, witness.ok().and_then(Result::ok))
        });
    }
    let watched = watching.join_all().await;
    let mut ending = JoinSet::new();
    for (member, slot, witness) in watched {
        let inner = Arc::clone(inner);
        ending.spawn(async move {
            let node = member.node;
            let seen = end_one(&inner, &member, &slot, witness, data).await;
            tokio::spawn(comeback(inner, member, slot));
            (node, seen)
        });
    }
    all(ending.join_all().await)
}

async fn end_one(
    inner: &Inner,
    member: &Member,
    slot: &Slot,
    witness: Option<Witness>,
    data: &str,
) -> Result<String, String> {
    slot.down.store(true, SeqCst);
    let (node, pod) = (member.node, &member.pod);
    let deleted = pod::delete(&inner.cluster, &inner.namespace, member, true).await;
    deleted.map_err(|error| error.to_string())?;
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
    let uid = short(&member.uid);
    Ok(format!(
        "n{node}: pod {pod} ({uid} on {on}) is gone, {process}, {data}"
    ))
}

/// Waits until the node answers again, from another pod; from then on it is asked again.
async fn comeback(inner: Arc<Inner>, old: Member, slot: Arc<Slot>) {
    loop {
        let witness = Witness::of(&inner.cluster, &inner.namespace, &old.pod, PORT);
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
    let deadline = Instant::now() + BACK_WITHIN;
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
            return Proof::NotSeen(format!("{why} after {BACK_WITHIN:?}"));
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
