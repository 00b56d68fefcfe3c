//! Ends pods, and sees them end.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::{Error, Member};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Deletes exactly this pod, not a successor of the same name; at once if `forced`, as
/// `kubectl delete --force --grace-period=0` does. One that is gone already is no error.
///
/// # Errors
/// If the server refuses.
pub async fn delete(
    cluster: &Cluster,
    namespace: &str,
    member: &Member,
    forced: bool,
) -> Result<(), Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let mut how = DeleteParams::default().preconditions(Preconditions {
        uid: Some(member.uid.clone()),
        resource_version: None,
    });
    if forced {
        how = how.grace_period(0);
    }
    match pods.delete(&member.pod, &how).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        // Another pod has its name by now.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::of(format!("deleting {}", member.pod), &error)),
    }
}

/// What came of asking for an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The pod goes, or is gone.
    Accepted,
    /// A disruption budget stands in the way, in the server's words. Later it may not.
    Refused(String),
}

/// Asks for this pod to go, as a drain does: it gets the time that it has to end, and a
/// PodDisruptionBudget may forbid it.
///
/// # Errors
/// If the server refuses for another reason.
pub async fn evict(cluster: &Cluster, namespace: &str, member: &Member) -> Result<Evicted, Error> {
    let doing = || format!("evicting {}", member.pod);
    let eviction = json!({
        "apiVersion": cluster.features.eviction,
        "kind": "Eviction",
        "metadata": {"name": member.pod, "namespace": namespace},
        // Not a successor of the same name.
        "deleteOptions": {"preconditions": {"uid": member.uid}},
    });
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let asked: Result<Value, _> = pods
        .create_subresource("eviction", &member.pod, &PostParams::default(), &eviction)
        .await;
    match asked {
        Ok(_) => Ok(Evicted::Accepted),
        Err(error) if is_missing(&error) => Ok(Evicted::Accepted),
        Err(kube::Error::Api(status)) if status.code == 429 => {
            Ok(Evicted::Refused(status.message.clone()))
        }
        // Another pod has its name by now.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Evicted::Accepted),
        Err(error) => Err(Error::of(doing(), &error)),
    }
}

/// Waits until no pod has this uid; whether that came about in time.
///
/// # Errors
/// If the server refuses to say.
pub async fn gone(
    cluster: &Cluster,
    namespace: &str,
    member: &Member,
    within: Duration,
) -> Result<bool, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let deadline = Instant::now() + within;
    loop {
        match pods.get_opt(&member.pod).await {
            Ok(None) => return Ok(true),
            Ok(Some(pod)) if pod.metadata.uid.as_ref() != Some(&member.uid) => return Ok(true),
            Ok(Some(_)) if Instant::now() >= deadline => return Ok(false),
            Ok(Some(_)) => sleep(PAUSE).await,
            // The API server may be away for a moment.
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) => return Err(Error::of(format!("looking at {}", member.pod), &error)),
        }
    }
}
