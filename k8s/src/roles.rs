//! The role of each node as a label of its pod, which the Service `NAME-leader` selects.
//!
//! A node has no access to the API server (it would need a token that a test could abuse), so
//! somebody else has to keep the labels: the harness does with every look at the cluster while it
//! runs, `quorate k8s status` does once. When neither runs, the labels are those of the last look,
//! and after a failover `NAME-leader` leads to a node that refuses with 421 and names the leader.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::ROLE;
use crate::{Error, Member};

/// Changes the label of this pod where it differs from the role; `None` takes it away. Whether it
/// was changed.
///
/// # Errors
/// If the server refuses; a pod that is gone is none.
pub async fn label(
    cluster: &Cluster,
    namespace: &str,
    member: &Member,
    role: Option<&str>,
) -> Result<bool, Error> {
    if member.role.as_deref() == role {
        return Ok(false);
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    // With the pod's uid, so that its successor of the same name is left alone.
    let patch = json!({"metadata": {"uid": member.uid, "labels": {ROLE: role}}});
    match pods
        .patch(&member.pod, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) || is_conflict(&error) => Ok(false),
        Err(error) => Err(Error::of(
            format!("labelling {} as {role:?}", member.pod),
            &error,
        )),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
