//! Carries out faults on Kubernetes, proves them, heals them, and proves that they are gone.
//!
//! | module | what it does |
//! | --- | --- |
//! | `pods` | ends pods by the API |

mod pods;

use std::sync::Arc;

use k8s::discover::members;
use k8s::names::selector;
use k8s::{Error, Member};
use nemesis::{Action, Node, Proof};

use super::substrate::Inner;

/// Carries out an action, and proves it.
pub(super) async fn inject(inner: &Arc<Inner>, id: u32, action: &Action) -> Proof {
    match action {
        Action::Kill(nodes) => pods::end(inner, id, nodes, "its volume stays").await,
        Action::Wipe(nodes) => pods::end(inner, id, nodes, "its data went with it").await,
        _ => Proof::NotSeen("this fault is not known on Kubernetes yet".to_owned()),
    }
}

/// Proves that an action is gone.
pub(super) async fn heal(inner: &Arc<Inner>, id: u32, action: &Action) -> Proof {
    match action {
        Action::Kill(nodes) | Action::Wipe(nodes) => pods::back(inner, id, nodes).await,
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

async fn found(inner: &Inner) -> Result<Vec<Member>, Error> {
    members(&inner.cluster, &inner.namespace, &selector(&inner.store)).await
}

/// The beginning of a uid, which tells it from others of one run.
fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}
