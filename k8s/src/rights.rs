//! What an account must be allowed: as lists that are asked for before anything is done, and as
//! roles for those who give rights. Both are the same, so neither is more than the other.
//!
//! | role | for | bound |
//! | --- | --- | --- |
//! | `quorate-viewer` | `k8s status`, `k8s logs` | in a namespace |
//! | `quorate-runner` | `k8s up`, `k8s down`, `test --on k8s`, `clean --on k8s` | in a namespace |
//! | `quorate-drainer` | the fault `drain`, beside the runner | in the cluster |
//! | `quorate-copier` | copies of a StatefulSet, beside the runner | in the cluster |

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::copy;
use crate::names::{MANAGED_BY, MANAGER};

/// A right: verb, API group, resource, and subresource if any.
pub type Right = (&'static str, &'static str, &'static str, &'static str);

/// What it takes to start and remove a store.
pub const DEPLOY: &[Right] = &[
    ("patch", "apps", "statefulsets", ""),
    ("get", "apps", "statefulsets", ""),
    ("list", "apps", "statefulsets", ""),
    ("delete", "apps", "statefulsets", ""),
    // Server-side apply of what is not there yet is a creation.
    ("create", "apps", "statefulsets", ""),
    ("patch", "", "services", ""),
    ("create", "", "services", ""),
    ("list", "", "services", ""),
    ("delete", "", "services", ""),
    ("patch", "", "configmaps", ""),
    ("create", "", "configmaps", ""),
    ("list", "", "configmaps", ""),
    ("delete", "", "configmaps", ""),
    ("patch", "policy", "poddisruptionbudgets", ""),
    ("create", "policy", "poddisruptionbudgets", ""),
    ("delete", "policy", "poddisruptionbudgets", ""),
    ("list", "", "persistentvolumeclaims", ""),
    ("delete", "", "persistentvolumeclaims", ""),
    ("list", "", "events", ""),
    ("delete", "", "pods", ""),
];

/// What it takes to look at a store.
pub const VIEW: &[Right] = &[
    ("get", "", "pods", ""),
    ("list", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("get", "apps", "statefulsets", ""),
];

/// What it takes to reach the nodes of a store from outside the cluster, and to label their pods.
pub const REACH: &[Right] = &[
    ("create", "", "pods", "portforward"),
    ("get", "", "pods", "portforward"),
    ("patch", "", "pods", ""),
];

/// What it takes to run a test beyond [`DEPLOY`], [`VIEW`] and [`REACH`], and to clean up after one.
pub const RUN: &[Right] = &[
    ("get", "", "namespaces", ""),
    ("delete", "", "pods", ""),
    ("get", "coordination.k8s.io", "leases", ""),
    ("list", "coordination.k8s.io", "leases", ""),
    ("create", "coordination.k8s.io", "leases", ""),
    ("patch", "coordination.k8s.io", "leases", ""),
    ("delete", "coordination.k8s.io", "leases", ""),
];

/// What it takes to evict pods.
pub const EVICT: &[Right] = &[("create", "", "pods", "eviction")];

/// What it takes to see Services lose their endpoints.
pub const ENDPOINTS: &[Right] = &[("get", "", "endpoints", "")];

/// What it takes to cordon Kubernetes nodes. These are in no namespace.
pub const DRAIN: &[Right] = &[
    ("get", "", "nodes", ""),
    ("list", "", "nodes", ""),
    ("patch", "", "nodes", ""),
];

/// The roles, ready to be bound. All are `ClusterRole`s, so that one of each does for every
/// namespace; a `RoleBinding` gives the first two within its own namespace alone.
pub fn roles() -> Vec<Value> {
    vec![
        role("quorate-viewer", VIEW),
        role(
            "quorate-runner",
            &[DEPLOY, VIEW, REACH, RUN, EVICT, ENDPOINTS].concat(),
        ),
        role("quorate-drainer", DRAIN),
        role("quorate-copier", &[copy::READ, copy::MAKE].concat()),
    ]
}

fn role(name: &str, rights: &[Right]) -> Value {
    let mut verbs: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for &(verb, group, resource, subresource) in rights {
        let resource = match subresource {
            "" => resource.to_owned(),
            within => format!("{resource}/{within}"),
        };
        verbs.entry((group, resource)).or_default().insert(verb);
    }
    let rules: Vec<Value> = verbs
        .into_iter()
        .map(|((group, resource), verbs)| {
            json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
        })
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}},
        "rules": rules,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::ClusterRole;

    use super::*;

    #[test]
    fn roles_give_what_is_asked_for_and_nothing_by_wildcard() {
        for object in roles() {
            let role: ClusterRole = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(serde_json::to_value(&role).unwrap(), object);
            assert!(!object.to_string().contains('*'));
        }
        let runner = roles().remove(1);
        let rules = runner["rules"].as_array().unwrap();
        let rule = rules
            .iter()
            .find(|rule| rule["resources"] == json!(["pods"]));
        assert_eq!(
            rule.unwrap()["verbs"],
            json!(["delete", "get", "list", "patch"])
        );
        assert!(!runner.to_string().contains("nodes"));
    }
}
