//! Kubernetes nodes, called hosts here because a node is one of the store: cordons them, and gives
//! them back.
//!
//! Who has cordoned a host is written onto it in the same request, so whoever finds it can undo it.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::Error;
use crate::cluster::Cluster;
use crate::names::CORDONED;

/// The kubelet changes its node, too: a request that it got ahead of is made again.
const ATTEMPTS: u32 = 10;
/// Labels and taints of hosts that carry the control plane; the first until 1.24.
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/control-plane",
];

/// Whether a host carries the control plane, as its labels or taints say.
pub fn is_control_plane(host: &Node) -> bool {
    let labels = host.metadata.labels.iter().flatten().map(|(key, _)| key);
    let taints = host
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    labels
        .chain(taints.map(|taint| &taint.key))
        .any(|key| CONTROL_PLANE.contains(&key.as_str()))
}

/// All hosts.
///
/// # Errors
/// If they cannot be listed.
pub async fn all(cluster: &Cluster) -> Result<Vec<Node>, Error> {
    let hosts = Api::<Node>::all(cluster.client.clone());
    let found = hosts
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::of("listing nodes", &error))?;
    Ok(found.items)
}

/// Whom a run's cordon belongs to.
pub fn owner(namespace: &str, run: &str) -> String {
    format!("{namespace}/{run}")
}

fn owner_of(host: &Node) -> Option<&str> {
    let annotations = host.metadata.annotations.as_ref()?;
    annotations.get(CORDONED).map(String::as_str)
}

fn is_cordoned(host: &Node) -> bool {
    host.spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Lets no new pod onto a host, and writes down whose doing that is. Again is no error.
///
/// # Errors
/// If it carries the control plane, if somebody else has cordoned it, or if the server refuses.
pub async fn cordon(cluster: &Cluster, host: &str, owner: &str) -> Result<(), Error> {
    let change = json!({
        "metadata": {"annotations": {CORDONED: owner}},
        "spec": {"unschedulable": true},
    });
    change_host(cluster, host, change, |found| {
        if is_control_plane(found) {
            return Err(Error::ControlPlane(host.to_owned()));
        }
        match (is_cordoned(found), owner_of(found)) {
            (true, Some(by)) if by == owner => Ok(false),
            (true, _) => Err(Error::Cordoned(host.to_owned())),
            (false, _) => Ok(true),
        }
    })
    .await
    .map(drop)
}

/// Undoes [`cordon`], if it was done by this owner; whether there was anything to undo.
///
/// # Errors
/// If the server refuses.
pub async fn uncordon(cluster: &Cluster, host: &str, owner: &str) -> Result<bool, Error> {
    let change = json!({
        "metadata": {"annotations": {CORDONED: null}},
        "spec": {"unschedulable": null},
    });
    change_host(cluster, host, change, |found| {
        Ok(owner_of(found) == Some(owner))
    })
    .await
}

/// Changes a host as it is when the condition is looked at, and no later one; whether it was.
async fn change_host(
    cluster: &Cluster,
    name: &str,
    mut change: Value,
    wanted: impl Fn(&Node) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let hosts = Api::<Node>::all(cluster.client.clone());
    let doing = || format!("changing node {name}");
    let mut attempt = 1;
    loop {
        let found = match hosts.get_opt(name).await {
            Ok(Some(found)) => found,
            // A host that is gone is cordoned by nobody.
            Ok(None) => return Ok(false),
            Err(error) => return Err(Error::of(doing(), &error)),
        };
        if !wanted(&found)? {
            return Ok(false);
        }
        change["metadata"]["resourceVersion"] = found.metadata.resource_version.into();
        let patch = Patch::Merge(&change);
        match hosts.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(Error::of(doing(), &error)),
        }
    }
}

/// The hosts that runs have cordoned, each with whose doing it is.
///
/// # Errors
/// If they cannot be listed.
pub async fn cordoned(cluster: &Cluster) -> Result<Vec<(String, String)>, Error> {
    let named = |host: Node| {
        let by = owner_of(&host)?.to_owned();
        Some((host.metadata.name?, by))
    };
    Ok(all(cluster).await?.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(object: Value) -> Node {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_control_plane_is_known_by_label_and_by_taint() {
        for key in CONTROL_PLANE {
            let labelled = host(json!({"metadata": {"labels": {key: ""}}}));
            assert!(is_control_plane(&labelled), "{key}");
            let taint = json!({"key": key, "effect": "NoSchedule"});
            assert!(is_control_plane(&host(
                json!({"metadata": {}, "spec": {"taints": [taint]}})
            )));
        }
        let worker = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}});
        assert!(!is_control_plane(&host(worker)));
    }

    #[test]
    fn a_cordon_has_an_owner() {
        let ours = host(json!({
            "metadata": {"annotations": {CORDONED: "ns/run-1"}}, "spec": {"unschedulable": true},
        }));
        assert_eq!(owner_of(&ours), Some(owner("ns", "run-1").as_str()));
        assert!(is_cordoned(&ours));
        assert!(!is_cordoned(&host(json!({"metadata": {}, "spec": {}}))));
    }
}
