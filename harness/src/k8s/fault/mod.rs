//! Carries out faults on Kubernetes, proves them, heals them, and proves that they are gone.
//!
//! | module | what it does |
//! | --- | --- |
//! | `pods` | ends pods |
//! | `drain` | cordons hosts, and evicts the pods of the store there |
//! | `scale` | takes the last nodes away |
//! | `rolling` | has the controller make all pods anew, as they are or as another version |
//! | `endpoints` | lets Services lead nowhere |
//! | `agent` | what agents on the nodes do |
//!
//! What undoes a fault is written on the objects that it changes, by the request that changes them:
//! see [`k8s::clean`].

pub(super) mod agent;
mod drain;
mod endpoints;
mod pods;
mod rolling;
mod scale;

use std::sync::Arc;
use std::time::Duration;

use k8s::discover::members_in;
use k8s::{Error, Member};
use nemesis::{Action, Node, Orchestration as O, Proof};

use tokio::time::{Instant, sleep};

use self::pods::How;
use super::substrate::Inner;

/// How long what heals is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Carries out an action, and proves it.
pub(super) async fn inject(
    inner: &Arc<Inner>,
    id: u32,
    action: &Action,
    via: Option<&str>,
) -> Proof {
    if agent::does(inner, action, via) {
        return agent::inject(inner, id, action, via).await;
    }
    let how = match (action, via) {
        (Action::Kill(_) | Action::Wipe(_), via) => How::of(via),
        (_, None) => Ok(How::Force),
        (_, Some(via)) => Err(format!("there is no mechanism {via} on Kubernetes")),
    };
    let how = match how {
        Ok(how) => how,
        Err(why) => return Proof::NotSeen(why),
    };
    match action {
        Action::Kill(nodes) => pods::end(inner, id, nodes, how, "its volume stays").await,
        Action::Wipe(nodes) => pods::end(inner, id, nodes, how, "its data went with it").await,
        Action::Upgrade(nodes) => rolling::change_version(inner, id, nodes, 1).await,
        Action::Downgrade(nodes) => rolling::change_version(inner, id, nodes, -1).await,
        Action::Orchestrate(nodes, O::Drain) => drain::inject(inner, id, nodes).await,
        Action::Orchestrate(nodes, O::Scale) => scale::inject(inner, id, nodes).await,
        Action::Orchestrate(nodes, O::RollingRestart) => rolling::restart(inner, id, nodes).await,
        Action::Orchestrate(_, O::NoEndpoints) => endpoints::inject(inner).await,
        _ => Proof::NotSeen("this fault is not known on Kubernetes yet".to_owned()),
    }
}

/// Undoes an action, and proves that it is gone.
pub(super) async fn heal(inner: &Arc<Inner>, id: u32, action: &Action, via: Option<&str>) -> Proof {
    if agent::does(inner, action, via) {
        return agent::heal(inner, id, action).await;
    }
    match action {
        Action::Kill(nodes) | Action::Wipe(nodes) => pods::back(inner, id, nodes).await,
        Action::Upgrade(nodes)
        | Action::Downgrade(nodes)
        | Action::Orchestrate(nodes, O::RollingRestart) => rolling::done(inner, id, nodes).await,
        Action::Orchestrate(nodes, O::Drain) => drain::heal(inner, id, nodes).await,
        Action::Orchestrate(nodes, O::Scale) => scale::heal(inner, id, nodes).await,
        Action::Orchestrate(_, O::NoEndpoints) => endpoints::heal(inner).await,
        _ => Proof::NotSeen("this fault is not known on Kubernetes yet".to_owned()),
    }
}

/// All seen, or the first that was not.
fn all(mut each: Vec<(Node, Result<String, String>)>) -> Proof {
    each.sort();
    let each: Result<Vec<_>, _> = each.into_iter().map(|(_, result)| result).collect();
    match each {
        Ok(seen) if seen.is_empty() => Proof::NotSeen("no node is meant".to_owned()),
        Ok(seen) => Proof::Seen(seen.join("; ")),
        Err(why) => Proof::NotSeen(why),
    }
}

pub(super) async fn found(inner: &Inner) -> Result<Vec<Member>, Error> {
    let container = inner.container.as_deref();
    members_in(&inner.cluster, &inner.namespace, &inner.selector, container).await
}

/// Tries again for a while, since the API server may be away for a moment.
async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, Error>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The beginning of a uid, which tells it from others of one run.
fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
