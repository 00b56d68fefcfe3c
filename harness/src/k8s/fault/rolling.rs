//! Has the StatefulSet's controller make pods anew, one by one, the highest first: as they are, or
//! with another version of the storage format or image.

use std::sync::Arc;
use std::time::Duration;

use k8s::discover::Trouble;
use k8s::rollout::{self, Version};
use k8s::{Member, pod};
use nemesis::{Node, Proof};
use tokio::time::{Instant, sleep};

use super::super::substrate::Inner;
use super::pods::How;
use super::{PAUSE, all, found, pods, short};
use crate::versions::{NOT_UP, REFUSES, Versions};

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
    let wanted = match &inner.images.versions {
        Some(versions) if versions.same() => {
            // The template stays, so the controller has nothing to do.
            let again = "it is to be started again as it was";
            return Ok(pods::end(inner, id, nodes, How::Delete, again).await);
        }
        Some(versions) => Wanted::named(versions, step > 0, inner),
        None => Wanted::next(step, from, says(from), &now)?,
    };
    // All above have to be there already: none is rolled that was not asked for.
    let members = found(inner).await.map_err(|error| error.to_string())?;
    let arrived = |member: &Member| wanted.is_run_by(member, says(member.node));
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
    rollout::set_version(
        cluster,
        namespace,
        store,
        from,
        &wanted.version,
        inner.container.as_deref(),
    )
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
    tokio::select! {
        rolled = rolled => drop(rolled.map_err(|error| error.to_string())?),
        why = fails(inner, from, &members) => return Err(why),
    }
    let deadline = Instant::now() + BEGUN_WITHIN;
    loop {
        let (say, members) = (inner.versions().await, found(inner).await);
        let members = members.map_err(|error| error.to_string())?;
        let each = members.iter().filter(|member| nodes.contains(&member.node));
        let each = each.map(|member| {
            let says = say.iter().find(|(it, _)| *it == member.node).map(|it| it.1);
            let says_what = match says {
                Some(says) => format!("writes storage format {says}"),
                None => "does not say its storage format".to_owned(),
            };
            let text = format!("n{} runs {} and {says_what}", member.node, member.image);
            let right = wanted.is_run_by(member, says);
            (member.node, if right { Ok(text) } else { Err(text) })
        });
        match all(each.collect()) {
            Proof::NotSeen(_) if Instant::now() < deadline => sleep(PAUSE).await,
            proof => {
                // It may be ready and yet have found out since that it cannot read what it is sent.
                return match inner.refusal(from).await {
                    Some(why) => Err(format!("n{from} {REFUSES}: {why}")),
                    None => Ok(proof),
                };
            }
        }
    }
}

/// What nodes are to run.
struct Wanted {
    version: Version,
    /// The storage format that they are to say.
    says: Option<u16>,
}

impl Wanted {
    /// One of the two versions of the run.
    fn named(versions: &Versions, upgrade: bool, inner: &Inner) -> Self {
        let images = &inner.images;
        let given = versions.after(upgrade);
        // The configuration says the format of the first; a flag says another.
        let storage = match (upgrade, given.storage, versions.from.storage) {
            (true, None, Some(_)) => Some(images.configured),
            (true, storage, _) => storage,
            (false, ..) => None,
        };
        let image = given.program.clone();
        Self {
            version: Version {
                image: image.unwrap_or_else(|| images.first.clone()),
                storage,
            },
            says: storage.or(given.storage),
        }
    }

    /// One storage format newer or older.
    fn next(
        step: i16,
        node: Node,
        says: Option<u16>,
        now: &rollout::Rollout,
    ) -> Result<Self, String> {
        let was = says.ok_or_else(|| format!("n{node} does not say its version"))?;
        let storage = was.checked_add_signed(step).filter(|&wanted| wanted > 0);
        let storage = storage
            .ok_or_else(|| format!("n{node} writes storage format {was}, the lowest there is"))?;
        Ok(Self {
            version: Version {
                image: now.version.image.clone(),
                storage: Some(storage),
            },
            says: Some(storage),
        })
    }

    fn is_run_by(&self, member: &Member, says: Option<u16>) -> bool {
        member.image == self.version.image && (self.says.is_none() || self.says == says)
    }
}

/// Waits until a node, in another pod than it was in, ends again and again or says that it cannot read
/// what it finds; goes on for ever if it does not.
async fn fails(inner: &Inner, node: Node, before: &[Member]) -> String {
    loop {
        sleep(PAUSE).await;
        let members = found(inner).await.unwrap_or_default();
        let new = members.iter().find(|member| {
            let same = |old: &Member| old.uid == member.uid;
            member.node == node && !before.iter().any(same)
        });
        let Some(new) = new else { continue };
        if let Some(trouble @ Trouble::Crashing(_)) = &new.trouble {
            return format!("n{node} {NOT_UP}: {trouble}");
        }
        if let Some(trouble @ Trouble::Image(_)) = &new.trouble {
            // Which says nothing of the version.
            return format!("n{node} cannot be started: {trouble}");
        }
        if let Some(why) = inner.refusal(node).await {
            return format!("n{node} {REFUSES}: {why}");
        }
    }
}
