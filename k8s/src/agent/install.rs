//! The agent as objects of Kubernetes: a DaemonSet in a namespace of its own, and its rights.
//!
//! It may read pods, namespaces and nodes one at a time, and Leases of the whole cluster. It may
//! write Leases only in the namespaces that `up` binds it in, and nothing else anywhere.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::status::agents;
use crate::Error;
use crate::cluster::Cluster;
use crate::deploy::dynamic;
use crate::error::is_missing;
use crate::names::{AGENT, AGENT_NAMESPACE, APP_LABEL, MANAGED_BY, MANAGER};

/// The `ClusterRole` for writing proofs; bound by namespace.
pub const REPORTS: &str = "quorate-agent-reports";
/// Where the agent's container has the host's control groups.
pub const CGROUPS: &str = "/host/cgroup";
/// The state folder, on the node and in the container.
pub const STATE: &str = "/run/quorate-agent";
/// How long the kubelet waits for an agent that was asked to end: it heals meanwhile.
const GRACE_S: u32 = 30;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The least that it needs, by the kernel's names.
const CAPABILITIES: [&str; 6] = [
    // Entering the network of a pod; seeing who reads the file that a clock goes by.
    "SYS_ADMIN",
    // nftables, iptables, traffic control; queues.
    "NET_ADMIN",
    // Sending the second copy of a packet.
    "NET_RAW",
    // Opening /proc/PID/ns/net of processes of other users; finding that file through their root.
    "SYS_PTRACE",
    // Reading the environment of processes of other users, which names that file.
    "DAC_READ_SEARCH",
    // Ending processes of other users.
    "KILL",
];

fn object(api: &str, kind: &str, name: &str, body: Value) -> Value {
    let mut object = json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": {APP_LABEL: AGENT, MANAGED_BY: MANAGER}},
    });
    if let (Some(object), Value::Object(body)) = (object.as_object_mut(), body) {
        object.extend(body);
    }
    object
}

fn role_ref(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name})
}

fn subjects() -> Value {
    json!([{"kind": "ServiceAccount", "name": AGENT, "namespace": AGENT_NAMESPACE}])
}

/// What lets the agents write proofs in a namespace, and so hurt the pods there that opted in.
pub fn binding(namespace: &str) -> Value {
    let body = json!({"roleRef": role_ref(REPORTS), "subjects": subjects()});
    let mut binding = object("rbac.authorization.k8s.io/v1", "RoleBinding", AGENT, body);
    binding["metadata"]["namespace"] = namespace.into();
    binding
}

/// All objects but the bindings by namespace, in the order in which they are applied; the first is
/// the namespace.
pub fn objects(image: &str) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let mut namespace = object("v1", "Namespace", AGENT_NAMESPACE, json!({}));
    // Pods that share the processes of their node keep to no other profile of Pod Security.
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "privileged".into();
    let mut account = object("v1", "ServiceAccount", AGENT, json!({}));
    account["metadata"]["namespace"] = AGENT_NAMESPACE.into();
    vec![
        namespace,
        account,
        object(
            rbac,
            "ClusterRole",
            AGENT,
            json!({"rules": [
                {"apiGroups": [""], "resources": ["nodes", "namespaces", "pods"], "verbs": ["get"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list", "watch"]},
            ]}),
        ),
        object(
            rbac,
            "ClusterRole",
            REPORTS,
            json!({"rules": [
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["patch"]},
            ]}),
        ),
        object(
            rbac,
            "ClusterRoleBinding",
            AGENT,
            json!({"roleRef": role_ref(AGENT), "subjects": subjects()}),
        ),
        daemon_set(image),
    ]
}

fn daemon_set(image: &str) -> Value {
    let selected = json!({APP_LABEL: AGENT});
    let not_control_plane: Vec<_> = ["control-plane", "master"]
        .map(|role| json!({"key": format!("node-role.kubernetes.io/{role}"), "operator": "DoesNotExist"}))
        .into();
    let from = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut set = object(
        "apps/v1",
        "DaemonSet",
        AGENT,
        json!({"spec": {
            "selector": {"matchLabels": selected},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {
                    "labels": {APP_LABEL: AGENT, MANAGED_BY: MANAGER},
                    // Where there is AppArmor, its default keeps from looking at other containers.
                    "annotations": {"container.apparmor.security.beta.kubernetes.io/agent": "unconfined"},
                },
                "spec": {
                    "serviceAccountName": AGENT,
                    "enableServiceLinks": false,
                    // To see the processes of the containers. The network stays its own.
                    "hostPID": true,
                    "terminationGracePeriodSeconds": GRACE_S,
                    "tolerations": [{"operator": "Exists"}],
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": not_control_plane}],
                    }}},
                    "containers": [{
                        "name": "agent",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["agent", format!("--cgroups={CGROUPS}"), format!("--state={STATE}")],
                        "env": [
                            from("NODE_NAME", "spec.nodeName"),
                            from("POD_UID", "metadata.uid"),
                            // The root of the container cannot be written.
                            {"name": "XTABLES_LOCKFILE", "value": format!("{STATE}/xtables.lock")},
                        ],
                        // An agent that hangs cannot heal: the kubelet starts it again, and then it does.
                        "livenessProbe": {
                            "exec": {"command": ["quorate", "agent", "--alive", format!("--state={STATE}")]},
                            "initialDelaySeconds": 5,
                            "periodSeconds": 10,
                            "timeoutSeconds": 5,
                            "failureThreshold": 2,
                        },
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "32Mi"},
                            "limits": {"memory": "256Mi"},
                        },
                        "securityContext": {
                            "runAsUser": 0,
                            "runAsGroup": 0,
                            "privileged": false,
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
                        },
                        "volumeMounts": [
                            {"name": "cgroups", "mountPath": CGROUPS},
                            {"name": "state", "mountPath": STATE},
                        ],
                    }],
                    "volumes": [
                        {"name": "cgroups", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}},
                        {"name": "state", "hostPath": {"path": STATE, "type": "DirectoryOrCreate"}},
                    ],
                },
            },
        }}),
    );
    set["metadata"]["namespace"] = AGENT_NAMESPACE.into();
    set
}

async fn apply(cluster: &Cluster, namespace: &str, object: &Value) -> Result<(), Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let name = text(&object["metadata"]["name"]);
    let api = if matches!(
        kind.as_str(),
        "Namespace" | "ClusterRole" | "ClusterRoleBinding"
    ) {
        dynamic(cluster, None, &version, &kind)
    } else {
        dynamic(cluster, Some(namespace), &version, &kind)
    };
    let params = PatchParams::apply(MANAGER).force();
    let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
    applied
        .map(drop)
        .map_err(|error| Error::of(format!("applying {kind} {name}"), &error))
}

/// Puts an agent on every node but those of the control plane, lets them serve these namespaces,
/// which must allow faults, and waits until all are ready; how many.
///
/// # Errors
/// If the server refuses, or not all are ready in time.
pub async fn up(
    cluster: &Cluster,
    image: &str,
    namespaces: &[String],
    within: Duration,
) -> Result<i32, Error> {
    for namespace in namespaces {
        cluster.allowed(namespace).await?;
    }
    for object in objects(image) {
        apply(cluster, AGENT_NAMESPACE, &object).await?;
    }
    for namespace in namespaces {
        apply(cluster, namespace, &binding(namespace)).await?;
    }
    let sets = Api::<DaemonSet>::namespaced(cluster.client.clone(), AGENT_NAMESPACE);
    let deadline = Instant::now() + within;
    loop {
        let set = sets
            .get(AGENT)
            .await
            .map_err(|error| Error::of("looking at the agents", &error))?;
        let status = set.status.unwrap_or_default();
        let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
        let current = status.observed_generation == set.metadata.generation
            && status.updated_number_scheduled == Some(wanted);
        if current && ready == wanted {
            if wanted == 0 {
                return Err(Error::NoAgent(
                    "every node of this cluster hosts the control plane, where no agent runs"
                        .to_owned(),
                ));
            }
            return Ok(wanted);
        }
        if Instant::now() >= deadline {
            let agents = agents(cluster).await?;
            let why = agents.iter().find_map(|agent| agent.trouble.clone());
            return Err(Error::NotReady {
                name: AGENT.to_owned(),
                ready: usize::try_from(ready).unwrap_or(0),
                wanted: usize::try_from(wanted).unwrap_or(0),
                after: within,
                why: why.unwrap_or_else(|| "`quorate k8s agent status` shows them".to_owned()),
            });
        }
        sleep(PAUSE).await;
    }
}

/// Ends all agents, which heal what stands, waits until they have, and removes everything of them.
///
/// # Errors
/// If the server refuses, or an agent does not end: then its rights stay, so that it can go on.
pub async fn down(cluster: &Cluster, within: Duration) -> Result<usize, Error> {
    let client = || cluster.client.clone();
    let sets = Api::<DaemonSet>::namespaced(client(), AGENT_NAMESPACE);
    let ours = ListParams::default().labels(&format!("{APP_LABEL}={AGENT}"));
    let mut removed = 0;
    // The agents first: without their rights they could not say what they heal.
    match sets.delete(AGENT, &DeleteParams::foreground()).await {
        Ok(_) => removed += 1,
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(Error::of("removing the agents", &error)),
    }
    let deadline = Instant::now() + within;
    while !agents(cluster).await?.is_empty() {
        if Instant::now() >= deadline {
            return Err(Error::StillThere {
                what: "an agent".to_owned(),
                after: within,
            });
        }
        sleep(PAUSE).await;
    }
    let bindings = Api::<RoleBinding>::all(client());
    let found = bindings.list(&ours).await;
    let found = found.map_err(|error| Error::of("listing role bindings", &error))?;
    let params = DeleteParams::default();
    for binding in found.items {
        let namespace = binding.metadata.namespace.unwrap_or_default();
        let bindings = Api::<RoleBinding>::namespaced(client(), &namespace);
        removed += gone(
            bindings.delete(AGENT, &params).await.map(drop),
            "a role binding",
        )?;
    }
    let of_cluster = Api::<ClusterRoleBinding>::all(client());
    removed += gone(
        of_cluster.delete(AGENT, &params).await.map(drop),
        "the cluster role binding",
    )?;
    let roles = Api::<ClusterRole>::all(client());
    for role in [AGENT, REPORTS] {
        removed += gone(
            roles.delete(role, &params).await.map(drop),
            "a cluster role",
        )?;
    }
    let namespaces = Api::<Namespace>::all(client());
    removed += gone(
        namespaces.delete(AGENT_NAMESPACE, &params).await.map(drop),
        "the agents' namespace",
    )?;
    // One that is still ending lets nobody start agents anew.
    while namespaces
        .get_opt(AGENT_NAMESPACE)
        .await
        .map_err(|error| Error::of("looking at the agents' namespace", &error))?
        .is_some()
    {
        if Instant::now() >= deadline {
            return Err(Error::StillThere {
                what: format!("namespace {AGENT_NAMESPACE}"),
                after: within,
            });
        }
        sleep(PAUSE).await;
    }
    Ok(removed)
}

fn gone(deleted: kube::Result<()>, what: &str) -> Result<usize, Error> {
    match deleted {
        Ok(()) => Ok(1),
        Err(error) if is_missing(&error) => Ok(0),
        Err(error) => Err(Error::of(format!("removing {what}"), &error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Reads an object as the type that Kubernetes gives it, and writes it again: a field that is
    /// misspelt or in the wrong place does not come back.
    fn known<T: Serialize + DeserializeOwned>(object: &Value) {
        let read: T = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), object);
    }

    #[test]
    fn every_field_is_one_that_kubernetes_knows() {
        known::<RoleBinding>(&binding("shop"));
        for object in objects("i:1") {
            match object["kind"].as_str().unwrap() {
                "Namespace" => known::<Namespace>(&object),
                "ServiceAccount" => known::<ServiceAccount>(&object),
                "ClusterRole" => known::<ClusterRole>(&object),
                "ClusterRoleBinding" => known::<ClusterRoleBinding>(&object),
                "DaemonSet" => known::<DaemonSet>(&object),
                other => panic!("{other} is not checked"),
            }
        }
    }

    #[test]
    fn the_agent_has_the_least_that_it_needs() {
        let set = daemon_set("i:1");
        let pod = &set["spec"]["template"]["spec"];
        assert!(pod["hostNetwork"].is_null() && pod["hostIPC"].is_null());
        let container = &pod["containers"][0];
        assert!(container["ports"].is_null());
        let context = &container["securityContext"];
        assert_eq!(context["privileged"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        let writes: Vec<_> = objects("i:1")
            .into_iter()
            .filter(|object| object["kind"] == "ClusterRole")
            .flat_map(|role| role["rules"].as_array().unwrap().clone())
            .filter(|rule| {
                rule["verbs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|verb| !["get", "list", "watch"].contains(&verb.as_str().unwrap()))
            })
            .collect();
        assert_eq!(
            writes,
            [
                json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["patch"]})
            ]
        );
    }
}
