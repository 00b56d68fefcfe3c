//! Has the StatefulSet's controller make pods anew, one by one, the highest first: as they are, or
//! with another version of the storage format or image.

use std::sync::Arc;
use std::time::Duration;

use k8s::rollout::{self, Version};
use k8s::{Member, pod};
use nemesis::{Node, Proof};
use tokio::time::{Instant, sleep};

use super::super::substrate::Inner;
use super::{PAUSE, all, found, pods, short};

/// How long the controller may take to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);
/// How long each pod may take.
const EACH_WITHIN: Duration = Duration::from_secs(90);

fn within(nodes: &[Node]) -> Duration {
    EACH_WITHIN * u32::try_from(nodes.len()).unwrap_or(1).max(1)
}

/// Begins a rolling restart; proven once the first pod is gone.
pub(super) async fn restart(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    match begin(inner, id, nodes).await {
        Ok(seen) => Proof::Seen(seen),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn begin(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Result<String, String> {
    let members = follow(inner, id, nodes).await?;
    let stamp = format!("{}-{id}", inner.run);
    rollout::restart(&inner.cluster, &inner.namespace, &inner.store, &stamp)
        .await
        .map_err(|error| error.to_string())?;
    let last = members.last().ok_or("no node is meant")?;
    let gone = pod::gone(&inner.cluster, &inner.namespace, last, BEGUN_WITHIN).await;
    let (pod, uid) = (&last.pod, short(&last.uid));
    if gone.map_err(|error| error.to_string())? {
        return Ok(format!(
            "n{}: pod {pod} ({uid}) is gone, the first of {}",
            last.node,
            members.len()
        ));
    }
    Err(format!("{pod} is still there after {BEGUN_WITHIN:?}"))
}

/// Remembers the pods of these nodes, ordered by node, and follows their ends.
async fn follow(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Result<Vec<Member>, String> {
    let targets = pods::targets(inner, id, nodes).await?;
    let mut members: Vec<Member> = targets.into_iter().map(|(member, _)| member).collect();
    members.sort_by_key(|member| member.node);
    tokio::spawn(pods::shadow(Arc::clone(inner), members.clone()));
    Ok(members)
}

/// Waits until all these nodes are ready in other pods.
pub(super) async fn done(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Proof {
    pods::back_within(inner, id, nodes, within(nodes)).await
}

/// Lets nodes run another version. They must be the next in turn: a StatefulSet is rolled from its
/// highest ordinal down.
pub(super) async fn change_version(
    inner: &Arc<Inner>,
    id: u32,
    nodes: &[Node],
    step: i16,
) -> Proof {
    match roll(inner, id, nodes, step).await {
        Ok(proof) => proof,
        Err(why) => Proof::NotSeen(why),
    }
}

async fn roll(inner: &Arc<Inner>, id: u32, nodes: &[Node], step: i16) -> Result<Proof, String> {
    if !inner.own {
        return Err("only a store of the run's own is given another version".to_owned());
    }
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let store = inner.store.as_str();
    let from = *nodes.iter().min().ok_or("no node is meant")?;
    let before = inner.versions().await;
    let now = rollout::current(cluster, namespace, store)
        .await
        .map_err(|error| error.to_string())?;
    let says = |node: Node| before.iter().find(|(it, _)| *it == node).map(|it| it.1);
    let was = says(from).ok_or_else(|| format!("n{from} does not say its version"))?;
    let storage = was
        .checked_add_signed(step)
        .filter(|&wanted| wanted > 0)
        .ok_or_else(|| format!("n{from} writes storage format {was}, the lowest there is"))?;
    let images = &inner.images;
    let version = match (&images.upgrade, step > 0) {
        (Some(image), true) => Version {
            image: image.clone(),
            storage: now.version.storage,
        },
        (Some(_), false) => Version {
            image: images.first.clone(),
            storage: now.version.storage,
        },
        (None, _) => Version {
            image: now.version.image.clone(),
            storage: Some(storage),
        },
    };
    // All above have to be there already: none is rolled that was not asked for.
    let members = found(inner).await.map_err(|error| error.to_string())?;
    let arrived = |member: &Member| match images.upgrade {
        Some(_) => member.image == version.image,
        None => says(member.node) == Some(storage),
    };
    let skipped = members
        .iter()
        .rev()
        .find(|member| member.node > from && !nodes.contains(&member.node) && !arrived(member));
    if let Some(skipped) = skipped {
        return Err(format!(
            "a StatefulSet is rolled from its highest ordinal down: n{} comes before n{from}",
            skipped.node
        ));
    }
    follow(inner, id, nodes).await?;
    rollout::set_version(cluster, namespace, store, from, &version)
        .await
        .map_err(|error| error.to_string())?;
    let rolled = rollout::rolled(
        cluster,
        namespace,
        store,
        &inner.selector,
        from,
        within(nodes),
    );
    let members = rolled.await.map_err(|error| error.to_string())?;
    // Where the image decides, what the nodes then write is the image's affair.
    if images.upgrade.is_some() {
        let each = members.iter().filter(|member| nodes.contains(&member.node));
        let each = each.map(|member| {
            let seen = format!("n{} runs {}", member.node, member.image);
            let right = member.image == version.image;
            (member.node, if right { Ok(seen) } else { Err(seen) })
        });
        return Ok(all(each.collect()));
    }
    let deadline = Instant::now() + BEGUN_WITHIN;
    loop {
        let say = inner.versions().await;
        let each = nodes.iter().map(|&node| {
            let says = say.iter().find(|(it, _)| *it == node).map(|it| it.1);
            let text = match says {
                Some(says) => format!("n{node} writes storage format {says}"),
                None => format!("n{node} does not say its version"),
            };
            (
                node,
                if says == Some(storage) {
                    Ok(text)
                } else {
                    Err(text)
                },
            )
        });
        match all(each.collect()) {
            Proof::NotSeen(_) if Instant::now() < deadline => sleep(PAUSE).await,
            proof => return Ok(proof),
        }
    }
}
