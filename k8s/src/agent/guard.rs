//! Whom an agent may hurt. Pure: what the API server says of a pod, its namespace and this node
//! goes in, a refusal comes out.
//!
//! The agent trusts no order: who may write a Lease may name any pod in it.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use super::protocol::Target;
use crate::cluster::{is_system, opted_in};
use crate::names::FAULTS;

/// Labels and taints of nodes with the control plane.
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Where the agent itself is.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its Kubernetes node.
    pub node: String,
    /// The uid of its pod.
    pub uid: String,
}

/// Whether a node hosts the control plane.
pub fn is_control_plane(node: &Node) -> bool {
    let labels = node.metadata.labels.iter().flat_map(|all| all.keys());
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    labels
        .chain(taints.map(|taint| &taint.key))
        .any(|name| CONTROL_PLANE.contains(&name.as_str()))
}

/// Refuses what must not be hurt.
///
/// # Errors
/// The reason.
pub fn check(
    own: &Own,
    node: &Node,
    namespace: &Namespace,
    pod: &Pod,
    target: &Target,
) -> Result<(), String> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    if is_system(name) {
        return Err(format!("namespace {name} belongs to the cluster itself"));
    }
    if !opted_in(namespace) {
        return Err(format!(
            "namespace {name} does not allow faults (label {FAULTS})"
        ));
    }
    if is_control_plane(node) {
        return Err(format!("node {} hosts the control plane", own.node));
    }
    let pod_name = &target.pod;
    if pod.metadata.uid.as_deref() != Some(&target.uid) {
        return Err(format!(
            "pod {pod_name} is another by now, with another uid"
        ));
    }
    if target.uid == own.uid {
        return Err("this is the agent's own pod".to_owned());
    }
    let spec = pod.spec.as_ref();
    let on = spec.and_then(|spec| spec.node_name.as_deref());
    if on != Some(&own.node) {
        return Err(format!(
            "pod {pod_name} runs on {}, not on {}",
            on.unwrap_or("no node"),
            own.node
        ));
    }
    if spec.is_some_and(|spec| spec.host_network == Some(true) || spec.host_pid == Some(true)) {
        return Err(format!(
            "pod {pod_name} shares the network or the processes of its node"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(change: impl Fn(&mut [Value; 3], &mut Target, &mut Own)) -> Result<(), String> {
        let mut objects = [
            json!({"metadata": {"name": "worker", "labels": {}}, "spec": {}}),
            json!({"metadata": {"name": "shop", "labels": {FAULTS: "allowed"}}}),
            json!({"metadata": {"name": "s-0", "uid": "u1"}, "spec": {"nodeName": "worker", "containers": []}}),
        ];
        let mut target = Target {
            node: 1,
            pod: "s-0".to_owned(),
            uid: "u1".to_owned(),
            container: "node".to_owned(),
            on: "worker".to_owned(),
            ip: None,
        };
        let mut own = Own {
            node: "worker".to_owned(),
            uid: "agent".to_owned(),
        };
        change(&mut objects, &mut target, &mut own);
        let [node, namespace, pod] = objects;
        check(
            &own,
            &serde_json::from_value(node).unwrap(),
            &serde_json::from_value(namespace).unwrap(),
            &serde_json::from_value(pod).unwrap(),
            &target,
        )
    }

    #[test]
    fn a_pod_of_this_node_in_a_namespace_that_opted_in_may_be_hurt() {
        assert_eq!(verdict(|_, _, _| {}), Ok(()));
    }

    #[test]
    fn nobody_else_may() {
        type Change = fn(&mut [Value; 3], &mut Target, &mut Own);
        let cases: [(&str, Change); 11] = [
            ("belongs to the cluster", |o, _, _| {
                o[1]["metadata"]["name"] = "kube-system".into();
            }),
            ("belongs to the cluster", |o, _, _| {
                o[1]["metadata"]["name"] = "default".into();
            }),
            ("does not allow", |o, _, _| {
                o[1]["metadata"]["labels"] = json!({});
            }),
            ("does not allow", |o, _, _| {
                o[1]["metadata"]["labels"] = json!({FAULTS: "yes"});
            }),
            ("control plane", |o, _, _| {
                o[0]["metadata"]["labels"] = json!({CONTROL_PLANE[0]: ""});
            }),
            ("control plane", |o, _, _| {
                o[0]["spec"] =
                    json!({"taints": [{"key": CONTROL_PLANE[1], "effect": "NoSchedule"}]});
            }),
            ("another by now", |o, _, _| {
                o[2]["metadata"]["uid"] = "u2".into();
            }),
            ("own pod", |_, _, own| own.uid = "u1".to_owned()),
            ("runs on elsewhere", |o, _, _| {
                o[2]["spec"]["nodeName"] = "elsewhere".into();
            }),
            ("shares the network", |o, _, _| {
                o[2]["spec"]["hostNetwork"] = true.into();
            }),
            ("shares the network", |o, _, _| {
                o[2]["spec"]["hostPID"] = true.into();
            }),
        ];
        for (says, change) in cases {
            let refused = verdict(change).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
