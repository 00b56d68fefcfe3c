//! Lets the StatefulSet have fewer pods, and as many as before again. Their volumes stay.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use k8s::{pod, scale};
use nemesis::{Node, Proof};

use super::super::substrate::Inner;
use super::{patiently, pods, short};

/// How long the pods may take to go: they get the time that they have to end.
const GONE_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn inject(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    match down(inner, id, nodes).await {
        Ok(seen) => Proof::Seen(seen),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn down(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Result<String, String> {
    let all = inner.nodes();
    let to = all - Node::try_from(nodes.len()).unwrap_or(all);
    if nodes.iter().any(|&node| node <= to) {
        return Err(format!("only n{} to n{all} can be taken away", to + 1));
    }
    let targets = pods::targets(inner, id, nodes).await?;
    for (_, slot) in &targets {
        slot.down.store(true, SeqCst);
    }
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let scaled = scale::down(cluster, namespace, &inner.store, &inner.run, to).await;
    for (member, slot) in &targets {
        tokio::spawn(pods::comeback(
            Arc::clone(inner),
            member.clone(),
            Arc::clone(slot),
        ));
    }
    if let Err(error) = scaled {
        for (_, slot) in &targets {
            slot.known().hurt_by.remove(&id);
            slot.down.store(false, SeqCst);
        }
        return Err(error.to_string());
    }
    let mut gone = Vec::new();
    for (member, _) in &targets {
        let (pod, uid) = (&member.pod, short(&member.uid));
        let left = pod::gone(cluster, namespace, member, GONE_WITHIN).await;
        if !left.map_err(|error| error.to_string())? {
            return Err(format!("{pod} is still there after {GONE_WITHIN:?}"));
        }
        gone.push(format!("n{}: pod {pod} ({uid}) is gone", member.node));
    }
    Ok(format!("{to} of {all} pods are left; {}", gone.join("; ")))
}

/// Lets there be as many pods as before, and waits until they are ready.
pub(super) async fn heal(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    let up = || scale::up(&inner.cluster, &inner.namespace, &inner.store, &inner.run);
    match patiently(up).await {
        Ok(_) => pods::back(inner, id, nodes).await,
        Err(why) => Proof::NotSeen(why),
    }
}
