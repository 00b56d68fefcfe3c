//! A run says that it is alive: a Lease of its own, renewed while it goes on.
//!
//! Whoever wants to know whether a run is alive looks twice, some seconds apart, and compares what
//! is written; nobody's clock is compared with another's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use crate::Error;
use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::{MANAGED_BY, MANAGER, RUN};

/// How often a run says it.
pub const EVERY: Duration = Duration::from_secs(2);
/// A run that says nothing for so long is dead.
pub const SILENCE: Duration = Duration::from_secs(7);
/// The annotation with the number of beats so far.
const BEATS: &str = "quorate.dev/beats";

fn leases(cluster: &Cluster, namespace: &str) -> Api<Lease> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// Says once that a run is alive; makes its Lease the first time.
///
/// # Errors
/// If the server refuses.
pub async fn once(cluster: &Cluster, namespace: &str, run: &str, beat: u64) -> Result<(), Error> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": run,
            "labels": {RUN: run, MANAGED_BY: MANAGER},
            "annotations": {BEATS: beat.to_string()},
        },
        "spec": {"holderIdentity": run, "leaseDurationSeconds": SILENCE.as_secs()},
    });
    leases(cluster, namespace)
        .patch(
            run,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&lease),
        )
        .await
        .map(drop)
        .map_err(|error| Error::of(format!("renewing Lease {run}"), &error))
}

/// Takes the Lease of a run away. One that is gone is no error.
///
/// # Errors
/// If the server refuses.
pub async fn end(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Error> {
    let leases = leases(cluster, namespace);
    match leases.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(Error::of(format!("deleting Lease {name}"), &error)),
    }
}

/// All Leases of runs in a namespace, also those of their faults: name, run, and what changes with
/// every renewal.
///
/// # Errors
/// If they cannot be listed.
pub async fn all(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Vec<(String, String, String)>, Error> {
    let found = leases(cluster, namespace)
        .list(&ListParams::default().labels(RUN))
        .await
        .map_err(|error| Error::of(format!("listing Leases in {namespace}"), &error))?;
    let named = found.items.into_iter().filter_map(|lease| {
        let run = lease.metadata.labels?.get(RUN)?.clone();
        let version = lease.metadata.resource_version?;
        Some((lease.metadata.name?, run, version))
    });
    Ok(named.collect())
}

/// What changes whenever this run, or one that it is made of, says that it is alive; empty if none
/// says anything.
///
/// # Errors
/// If their Leases cannot be listed.
pub async fn of(cluster: &Cluster, namespace: &str, run: &str) -> Result<String, Error> {
    let mut own = all(cluster, namespace).await?;
    own.retain(|(name, of, _)| name == of && crate::names::is_of(of, run));
    own.sort();
    Ok(own
        .into_iter()
        .map(|(_, _, version)| version + " ")
        .collect())
}

/// The runs of a namespace that say within [`SILENCE`] that they are alive.
///
/// # Errors
/// If their Leases cannot be listed.
pub async fn living(cluster: &Cluster, namespace: &str) -> Result<BTreeSet<String>, Error> {
    // Only the run's own Lease is kept by the run alone.
    let own = |found: Vec<(String, String, String)>| -> BTreeMap<String, String> {
        let own = found.into_iter().filter(|(name, run, _)| name == run);
        own.map(|(_, run, version)| (run, version)).collect()
    };
    // One that has just begun may not have said it yet.
    let before = own(all(cluster, namespace).await?);
    sleep(SILENCE).await;
    let after = own(all(cluster, namespace).await?);
    let changed = after
        .into_iter()
        .filter(|(run, version)| before.get(run) != Some(version));
    Ok(changed.map(|(run, _)| run).collect())
}
