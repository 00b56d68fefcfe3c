//! The store as Kubernetes objects: a pure function of its description.
//!
//! | object | what for |
//! | --- | --- |
//! | ConfigMap `NAME-config` | the replication mode and everything else that nodes are configured with |
//! | Service `NAME-nodes` (headless) | a stable DNS name for each node, known before it is ready: nodes become ready through each other |
//! | Service `NAME-leader` | the node whose label says `leader`; see [`crate::roles`] |
//! | Service `NAME-read` | every ready node |
//! | PodDisruptionBudget `NAME` | drains take one node at a time |
//! | StatefulSet `NAME` | node `nK` is the pod `NAME-(K-1)` |
//!
//! Liveness asks whether the process answers at all, and waits a minute: a kubelet that restarts a
//! node which a test has paused would undo the fault. Readiness asks whether clients are served
//! well (`/readyz` of the reference cluster's server).

use nemesis::mechanism::clock::container;
use serde_json::{Value, json};

use crate::Error;
use crate::cluster::Features;
use crate::names::{
    APP, APP_LABEL, CONFIG_HASH, CONTAINER, INSTANCE, MANAGED_BY, MANAGER, MODE, PORT, ROLE, RUN,
};

/// The user and group of the node in its container: nobody in particular, but not root.
const USER: u32 = 65532;
/// How long the kubelet waits for a node that was asked to end.
const GRACE_S: u32 = 10;
/// How long a pod stays where it is when its Kubernetes node is lost.
const LOST_NODE_S: u32 = 300;

/// Where nodes keep their journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the pod: what a deleted pod has written is gone.
    EmptyDir,
    /// In a volume of its own for each node, which outlives the pod.
    Volumes {
        /// The storage class; the cluster's default if not given.
        class: Option<String>,
        /// Size of each.
        mib: u32,
    },
}

/// A store to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Its name, which is that of its StatefulSet.
    pub name: String,
    /// The image with `quorate` as its entry point.
    pub image: String,
    /// All nodes: replicas, then gateways and the monitor.
    pub nodes: u16,
    /// The replication mode in one word.
    pub mode: String,
    /// What nodes are configured with (YAML).
    pub config: String,
    /// Seed of what nodes leave to chance.
    pub seed: u64,
    /// Where journals are kept.
    pub storage: Storage,
    /// Whether the clocks of nodes can be made wrong: they are started with libfaketime, which their
    /// image must have.
    pub clocks: bool,
    /// The run that it belongs to, if it is of one run only.
    pub run: Option<String>,
}

impl Store {
    /// Refuses names that Kubernetes would refuse once suffixes are added.
    ///
    /// # Errors
    /// See [`Error::Name`].
    pub fn validate(&self) -> Result<(), Error> {
        let name = &self.name;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = name.len() <= 40
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(inner)
            && !name.ends_with('-');
        if good {
            Ok(())
        } else {
            Err(Error::Name(name.clone()))
        }
    }

    /// The pod of a node.
    pub fn pod(&self, node: u16) -> String {
        format!("{}-{}", self.name, node - 1)
    }

    /// Where a node is reached by the others, and by clients within the cluster.
    pub fn address(&self, node: u16) -> String {
        format!("{}.{}-nodes:{PORT}", self.pod(node), self.name)
    }

    fn selected(&self) -> Value {
        json!({APP_LABEL: APP, INSTANCE: self.name})
    }

    fn labels(&self) -> Value {
        let mut labels = json!({APP_LABEL: APP, INSTANCE: self.name, MANAGED_BY: MANAGER});
        if let Some(run) = &self.run {
            labels[RUN] = run.as_str().into();
        }
        labels
    }

    fn object(&self, api_version: &str, kind: &str, name: &str, body: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "labels": self.labels(),
                "annotations": {MODE: self.mode},
            },
        });
        if let (Some(object), Value::Object(body)) = (object.as_object_mut(), body) {
            object.extend(body);
        }
        object
    }

    /// The objects in the order in which they are applied, without a namespace.
    pub fn objects(&self, features: Features) -> Vec<Value> {
        let name = &self.name;
        let service = |suffix: &str, spec: Value| {
            self.object(
                "v1",
                "Service",
                &format!("{name}-{suffix}"),
                json!({"spec": spec}),
            )
        };
        let ports =
            json!([{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}]);
        let mut leader = self.selected();
        leader[ROLE] = "leader".into();
        vec![
            self.object(
                "v1",
                "ConfigMap",
                &format!("{name}-config"),
                json!({"data": {"config.yaml": self.config}}),
            ),
            service(
                "nodes",
                json!({
                    "clusterIP": "None",
                    "publishNotReadyAddresses": true,
                    "selector": self.selected(),
                    "ports": ports,
                }),
            ),
            service("leader", json!({"selector": leader, "ports": ports})),
            service("read", json!({"selector": self.selected(), "ports": ports})),
            self.object(
                features.disruption_budget,
                "PodDisruptionBudget",
                name,
                json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": self.selected()}}}),
            ),
            self.stateful_set(),
        ]
    }

    fn stateful_set(&self) -> Value {
        let claims = match &self.storage {
            Storage::EmptyDir => None,
            Storage::Volumes { class, mib } => {
                let mut spec = json!({
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": format!("{mib}Mi")}},
                });
                if let Some(class) = class {
                    spec["storageClassName"] = class.as_str().into();
                }
                Some(json!([{
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": self.labels()},
                    "spec": spec,
                }]))
            }
        };
        let mut spec = json!({
            "serviceName": format!("{}-nodes", self.name),
            "replicas": self.nodes,
            // All at once: a node is ready only once it has found the others.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": self.selected()},
            "template": {
                "metadata": {
                    "labels": self.labels(),
                    "annotations": {MODE: self.mode, CONFIG_HASH: hash(&self.config)},
                },
                "spec": self.pod_spec(),
            },
        });
        if let Some(claims) = claims {
            spec["volumeClaimTemplates"] = claims;
        }
        self.object("apps/v1", "StatefulSet", &self.name, json!({"spec": spec}))
    }

    fn environment(&self) -> Vec<Value> {
        let mut all = vec![json!({
            "name": "POD_NAME",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        })];
        if self.clocks {
            let preloaded = container::recommended().into_iter();
            all.extend(
                preloaded
                    .map(|(name, value)| json!({"name": name, "value": value.to_string_lossy()})),
            );
        }
        all
    }

    fn pod_spec(&self) -> Value {
        let peers: Vec<String> = (1..=self.nodes)
            .map(|node| format!("n{node}={}", self.address(node)))
            .collect();
        let get = |path: &str, period: u32, timeout: u32, failures: u32| {
            json!({
                "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
                "periodSeconds": period,
                "timeoutSeconds": timeout,
                "failureThreshold": failures,
            })
        };
        let lost = |key: &str| {
            json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": LOST_NODE_S,
            })
        };
        let mut volumes = vec![json!({
            "name": "config",
            "configMap": {"name": format!("{}-config", self.name)},
        })];
        if self.storage == Storage::EmptyDir {
            volumes.push(json!({"name": "data", "emptyDir": {}}));
        }
        json!({
            // A node asks the API server for nothing.
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // A lost Kubernetes node is waited for: where its pods go is not what is tested.
            "tolerations": [
                lost("node.kubernetes.io/not-ready"),
                lost("node.kubernetes.io/unreachable"),
            ],
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": self.selected()},
            }],
            "containers": [{
                "name": CONTAINER,
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "args": [
                    "node",
                    "--id=$(POD_NAME)",
                    format!("--listen=0.0.0.0:{PORT}"),
                    format!("--peers={}", peers.join(",")),
                    "--data=/data/journal",
                    "--config=/etc/quorate/config.yaml",
                    format!("--seed={}", self.seed),
                ],
                "env": self.environment(),
                "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
                "startupProbe": get("/healthz", 1, 1, 60),
                "livenessProbe": get("/healthz", 10, 5, 6),
                "readinessProbe": get("/readyz", 1, 1, 2),
                // No limit of the processor: being throttled would be a fault nobody asked for.
                "resources": {
                    "requests": {"cpu": "50m", "memory": "64Mi"},
                    "limits": {"memory": "512Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/quorate", "readOnly": true},
                    {"name": "data", "mountPath": "/data"},
                ],
            }],
            "volumes": volumes,
        })
    }
}

/// FNV-1a; tells configurations apart, and promises nothing against forgery.
pub(crate) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::{ConfigMap, Service};
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    pub(crate) fn store(storage: Storage) -> Store {
        Store {
            name: "quorate".to_owned(),
            image: "quorate:test".to_owned(),
            nodes: 3,
            mode: "async".to_owned(),
            config: "mode: single-leader\n".to_owned(),
            seed: 7,
            storage,
            clocks: false,
            run: Some("r1".to_owned()),
        }
    }

    fn all() -> Vec<Store> {
        let class = Some("fast".to_owned());
        let clocks = Store {
            clocks: true,
            ..store(Storage::EmptyDir)
        };
        let mut all: Vec<Store> = [
            Storage::EmptyDir,
            Storage::Volumes {
                class: None,
                mib: 64,
            },
            Storage::Volumes { class, mib: 64 },
        ]
        .map(store)
        .into();
        all.push(clocks);
        all
    }

    /// Reads an object as the type that Kubernetes gives it, and writes it again: a field that is
    /// misspelt or in the wrong place does not come back.
    fn known<T: Serialize + DeserializeOwned>(object: &Value) {
        let read: T = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), object);
    }

    #[test]
    fn every_field_is_one_that_kubernetes_knows() {
        for store in all() {
            for object in store.objects(Features::of_minor("37")) {
                match object["kind"].as_str().unwrap() {
                    "ConfigMap" => known::<ConfigMap>(&object),
                    "Service" => known::<Service>(&object),
                    "PodDisruptionBudget" => known::<PodDisruptionBudget>(&object),
                    "StatefulSet" => known::<StatefulSet>(&object),
                    other => panic!("{other} is not checked"),
                }
            }
        }
    }

    /// Pod Security's profile `restricted`, as its documentation lists it.
    #[test]
    fn pods_keep_to_the_restricted_profile() {
        for store in all() {
            let pod = store.pod_spec();
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_ne!(pod["securityContext"]["runAsUser"], 0);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[field].is_null());
            }
            for container in pod["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert!(context["privileged"].is_null());
            }
            for volume in pod["volumes"].as_array().unwrap() {
                assert!(volume["hostPath"].is_null());
            }
        }
    }

    #[test]
    fn every_service_selects_what_pods_are_labelled_with() {
        for store in all() {
            let objects = store.objects(Features::of_minor("20"));
            let set = objects.last().unwrap();
            let pod = &set["spec"]["template"]["metadata"]["labels"];
            for service in objects.iter().filter(|o| o["kind"] == "Service") {
                for (label, value) in service["spec"]["selector"].as_object().unwrap() {
                    if label == ROLE {
                        assert_eq!(service["metadata"]["name"], "quorate-leader");
                    } else {
                        assert_eq!(&pod[label], value);
                    }
                }
            }
        }
    }

    #[test]
    fn nodes_are_started_with_libfaketime_where_that_is_wanted() {
        let names = |clocks| {
            let store = Store {
                clocks,
                ..store(Storage::EmptyDir)
            };
            let names = store.environment().into_iter();
            names
                .map(|one| one["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(container::are_enough(
            names(true).iter().map(String::as_str)
        ));
        assert_eq!(names(false), ["POD_NAME"]);
    }

    #[test]
    fn names_leave_room_for_suffixes() {
        let named = |name: &str| Store {
            name: name.to_owned(),
            ..store(Storage::EmptyDir)
        };
        for good in ["a", "quorate-7", &"x".repeat(40)] {
            named(good).validate().unwrap();
        }
        for bad in ["", "7x", "-x", "x-", "X", "a.b", &"x".repeat(41)] {
            assert!(named(bad).validate().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_configuration_is_a_new_template() {
        let old = store(Storage::EmptyDir);
        let new = Store {
            config: "mode: raft\n".to_owned(),
            ..old.clone()
        };
        let hash = |store: &Store| {
            store.stateful_set()["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH].clone()
        };
        assert_ne!(hash(&old), hash(&new));
    }
}
