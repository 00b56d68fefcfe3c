//! The operator's own manifests: definitions of its resources, its account, its Deployment.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::crd::definitions;
use crate::job::{START, rules, runner_rights};
use crate::kustomize::put;
use crate::names::{APP_LABEL, MANAGED_BY, MANAGER};
use crate::rights::Right;
use crate::volume::CLAIM;

/// The operator's namespace; not one that allows faults.
pub const NAMESPACE: &str = "quorate-operator";
/// The name of all its objects, and of its Lease.
pub const NAME: &str = "quorate-operator";
/// The user and group of the operator in its container.
const USER: u32 = 65532;

/// What it takes to follow the resources, beside what their runs need.
const FOLLOW: &[Right] = &[
    ("get", "quorate.dev", "consistencytests", ""),
    ("list", "quorate.dev", "consistencytests", ""),
    ("watch", "quorate.dev", "consistencytests", ""),
    // The finalizer.
    ("update", "quorate.dev", "consistencytests", ""),
    ("patch", "quorate.dev", "consistencytests", ""),
    ("patch", "quorate.dev", "consistencytests", "status"),
    ("get", "quorate.dev", "scorecards", ""),
    ("list", "quorate.dev", "scorecards", ""),
    ("watch", "quorate.dev", "scorecards", ""),
    ("update", "quorate.dev", "scorecards", ""),
    ("patch", "quorate.dev", "scorecards", ""),
    ("patch", "quorate.dev", "scorecards", "status"),
    // Jobs point at the resource that they are of, and block its deletion.
    ("update", "quorate.dev", "consistencytests", "finalizers"),
    ("update", "quorate.dev", "scorecards", "finalizers"),
    ("watch", "batch", "jobs", ""),
    ("list", "", "namespaces", ""),
];

/// All rights of the operator in the namespaces that it serves. It may give runs only what it has.
pub fn rights() -> Vec<Right> {
    let mut rights = [FOLLOW, START, CLAIM, &runner_rights()].concat();
    rights.sort_unstable();
    rights.dedup();
    rights
}

/// The operator with this image: namespace, account, rights, Deployment.
pub fn objects(image: &str) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io";
    let labels = json!({APP_LABEL: NAME, MANAGED_BY: MANAGER});
    let metadata = json!({"name": NAME, "namespace": NAMESPACE, "labels": labels});
    let cluster_wide = json!({"name": NAME, "labels": labels});
    let lease: &[Right] = &[
        ("create", "coordination.k8s.io", "leases", ""),
        ("get", "coordination.k8s.io", "leases", ""),
        ("update", "coordination.k8s.io", "leases", ""),
    ];
    let account = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]);
    let binding = |kind: &str, of: &str, metadata: &Value| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": kind, "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": of, "name": NAME},
            "subjects": account,
        })
    };
    let role = |kind: &str, metadata: &Value, rights: &[Right]| {
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": kind, "metadata": metadata,
            "rules": rules(rights),
        })
    };
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {MANAGED_BY: MANAGER}},
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        role("Role", &metadata, lease),
        binding("RoleBinding", "Role", &metadata),
        role("ClusterRole", &cluster_wide, &rights()),
        binding("ClusterRoleBinding", "ClusterRole", &cluster_wide),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {APP_LABEL: NAME}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": pod(image),
                },
            },
        }),
    ]
}

fn pod(image: &str) -> Value {
    json!({
        "serviceAccountName": NAME,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "operator",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["operator"],
            "env": [
                {"name": "POD_NAME", "valueFrom":
                    {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "POD_NAMESPACE", "valueFrom":
                    {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}},
            ],
            "resources": {
                "requests": {"cpu": "20m", "memory": "32Mi"},
                "limits": {"memory": "256Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

/// The files for `kubectl apply -k`: `crd` with the resources' definitions, `operator` with the
/// operator.
pub fn files(image: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let definitions = definitions().into_iter().map(|definition| {
        let name = definition.spec.names.plural.clone();
        let object = serde_json::to_value(definition).unwrap_or_default();
        (format!("{name}.yaml"), object)
    });
    folder(&mut files, "crd", &definitions.collect::<Vec<_>>());
    let objects = objects(image).into_iter().map(|object| {
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        (format!("{kind}.yaml"), object)
    });
    folder(&mut files, "operator", &objects.collect::<Vec<_>>());
    files
}

fn folder(files: &mut BTreeMap<String, String>, folder: &str, objects: &[(String, Value)]) {
    let names: Vec<&String> = objects.iter().map(|(name, _)| name).collect();
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": names,
    });
    put(
        files,
        &format!("{folder}/kustomization.yaml"),
        &kustomization,
    );
    for (name, object) in objects {
        put(files, &format!("{folder}/{name}"), object);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;

    use super::*;

    #[test]
    fn the_operator_may_do_no_more_than_is_named_and_is_not_root() {
        let objects = objects("quorate:test");
        let text = serde_json::to_string(&objects).unwrap();
        assert!(!text.contains('*'), "{text}");
        for forbidden in ["secrets", "escalate", "impersonate", "\"bind\""] {
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        let deployment = objects.last().unwrap();
        let read: Deployment = serde_json::from_value(deployment.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), deployment);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
            true
        );
    }

    #[test]
    fn it_may_give_runs_what_it_gives_them() {
        let own = rights();
        for right in runner_rights() {
            assert!(own.contains(&right), "{right:?}");
        }
    }
}
