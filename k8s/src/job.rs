//! A run in a Job: the harness inside the cluster.
//!
//! | object | what for |
//! | --- | --- |
//! | `ServiceAccount`, `Role`, `RoleBinding` [`RUNNER`] | what the harness may do in this namespace; one for all runs, so that a run which is deleted keeps the rights that it heals with |
//! | ConfigMap `RUN-experiment` | the experiment, every default written out |
//! | Job `RUN` | one pod, which is never started a second time |
//!
//! What the run leaves (see [`crate::results`]) belongs to the Job, so that deleting the Job deletes
//! all of it. The pod is then asked to end, heals, and removes its store.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::{APP_LABEL, MANAGED_BY, MANAGER, RUN};
use crate::rights::{self, DEPLOY, ENDPOINTS, EVICT, REACH, Right, VIEW};
use crate::{Error, beat};

/// The account that runs have in their namespace.
pub const RUNNER: &str = "quorate-runner";
/// What the objects of a run are: `app.kubernetes.io/name`.
pub const RUN_APP: &str = "quorate-run";
/// The container that is the harness.
pub const CONTAINER: &str = "harness";
/// Where the harness finds its experiment.
pub const EXPERIMENT_FILE: &str = "/etc/quorate/experiment.yaml";
/// Where it keeps the run until it is handed over.
pub const STORE: &str = "/var/lib/quorate";
/// How long the harness may take to heal, and to hand over what there is, once asked to end.
pub const GRACE: Duration = Duration::from_secs(120);
/// The user and group of the harness in its container.
pub(crate) const USER: u32 = 65532;
/// How long a Job that nobody has fetched is kept (by clusters that do so, from 1.21 on).
const KEEP_S: u32 = 24 * 3600;
/// A run whose Kubernetes node is not ready, and that says nothing for so long, is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// What it takes to start a run in a Job, beside what the run itself needs.
pub const START: &[Right] = &[
    ("create", "batch", "jobs", ""),
    ("get", "batch", "jobs", ""),
    ("list", "batch", "jobs", ""),
    ("patch", "batch", "jobs", ""),
    ("delete", "batch", "jobs", ""),
    ("create", "", "configmaps", ""),
    ("get", "", "configmaps", ""),
    ("list", "", "configmaps", ""),
    ("patch", "", "configmaps", ""),
    ("delete", "", "configmaps", ""),
    ("get", "", "pods", ""),
    ("list", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("list", "", "events", ""),
    ("patch", "", "serviceaccounts", ""),
    ("patch", "rbac.authorization.k8s.io", "roles", ""),
    ("patch", "rbac.authorization.k8s.io", "rolebindings", ""),
];

/// What the run itself needs: to start, look at and hurt its own store, and to hand over its results.
pub fn runner_rights() -> Vec<Right> {
    let own: &[Right] = &[
        ("get", "", "namespaces", ""),
        ("create", "", "configmaps", ""),
        ("get", "", "configmaps", ""),
        ("patch", "", "configmaps", ""),
        ("get", "batch", "jobs", ""),
    ];
    [DEPLOY, VIEW, REACH, rights::RUN, EVICT, ENDPOINTS, own].concat()
}

/// The rules of a Role with these rights. Applying what is not there yet is creating it, so whoever
/// may patch may create.
pub fn rules(rights: &[Right]) -> Vec<Value> {
    let mut by_resource: Vec<((&str, String), Vec<&str>)> = Vec::new();
    for &(verb, group, resource, subresource) in rights {
        let name = match subresource {
            "" => resource.to_owned(),
            sub => format!("{resource}/{sub}"),
        };
        let creates = verb == "patch" && subresource.is_empty() && resource != "pods";
        let verbs: &[&str] = if creates {
            &["create", "patch"]
        } else {
            &[verb]
        };
        let place = by_resource
            .iter()
            .position(|((g, n), _)| *g == group && *n == name)
            .unwrap_or_else(|| {
                by_resource.push(((group, name), Vec::new()));
                by_resource.len() - 1
            });
        let known = &mut by_resource[place].1;
        known.extend(verbs);
        known.sort_unstable();
        known.dedup();
    }
    by_resource.sort();
    by_resource
        .into_iter()
        .map(|((group, name), verbs)| {
            json!({"apiGroups": [group], "resources": [name], "verbs": verbs})
        })
        .collect()
}

/// The account of runs in a namespace: `ServiceAccount`, `Role` and `RoleBinding`.
pub fn runner(namespace: &str) -> Vec<Value> {
    let labels = json!({APP_LABEL: RUN_APP, MANAGED_BY: MANAGER});
    let metadata = json!({"name": RUNNER, "labels": labels});
    let rbac = "rbac.authorization.k8s.io";
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata,
            "rules": rules(&runner_rights()),
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": RUNNER},
            "subjects": [{"kind": "ServiceAccount", "name": RUNNER, "namespace": namespace}],
        }),
    ]
}

/// What the Job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One experiment.
    Test,
    /// A comparison of many.
    Compare,
}

/// A run to be done in a Job.
#[derive(Clone, Debug)]
pub struct JobRun {
    /// Its id, which is the Job's name and that of its store.
    pub run: String,
    /// The image with `quorate` as its entry point.
    pub image: String,
    /// The experiment, as YAML.
    pub experiment: String,
    /// What is done with it.
    pub task: Task,
    /// The account that it runs as.
    pub service_account: String,
    /// How long it may take in all.
    pub within: Duration,
    /// Who owns the Job (an owner reference), if anybody does.
    pub owner: Option<Value>,
    /// Whether the Job goes by itself once nobody has fetched its results for a day.
    pub expires: bool,
    /// The claim whose volume keeps the run; by default it is kept in the pod, until it is handed
    /// over.
    pub claim: Option<String>,
    /// The Secret whose entries are variables of its environment.
    pub secret: Option<String>,
}

impl JobRun {
    fn labels(&self) -> Value {
        json!({APP_LABEL: RUN_APP, MANAGED_BY: MANAGER, RUN: self.run})
    }

    /// The name of the ConfigMap with the experiment.
    fn config(&self) -> String {
        format!("{}-experiment", self.run)
    }

    /// The ConfigMap with the experiment.
    pub fn experiment_object(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": self.config(), "namespace": namespace, "labels": self.labels()},
            "data": {"experiment.yaml": self.experiment},
        })
    }

    /// The Job.
    pub fn job_object(&self, namespace: &str) -> Value {
        let task = match self.task {
            Task::Test => "test",
            Task::Compare => "compare",
        };
        let mut metadata =
            json!({"name": self.run, "namespace": namespace, "labels": self.labels()});
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let store = match &self.claim {
            Some(claim) => {
                json!({"name": "store", "persistentVolumeClaim": {"claimName": claim}})
            }
            None => json!({"name": "store", "emptyDir": {}}),
        };
        let mut spec = json!({
            // A run that ended is not repeated: its faults may have been what ended it.
            "backoffLimit": 0,
            "activeDeadlineSeconds": self.within.as_secs(),
            "template": {
                "metadata": {"labels": self.labels()},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": self.service_account,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": GRACE.as_secs(),
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "fsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": CONTAINER,
                        "image": self.image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["in-cluster", task, format!("--run={}", self.run)],
                        "env": [
                            {"name": "POD_NAME", "valueFrom":
                                {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                            {"name": "POD_NAMESPACE", "valueFrom":
                                {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}},
                        ],
                        // No limit of the processor: a harness that is throttled measures itself.
                        "resources": {
                            "requests": {"cpu": "100m", "memory": "128Mi"},
                            "limits": {"memory": "2Gi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [
                            {"name": "experiment", "mountPath": "/etc/quorate", "readOnly": true},
                            {"name": "store", "mountPath": STORE},
                        ],
                    }],
                    "volumes": [
                        {"name": "experiment", "configMap": {"name": self.config()}},
                        store,
                    ],
                },
            },
        });
        if let Some(secret) = &self.secret {
            let environment = json!([{"secretRef": {"name": secret}}]);
            spec["template"]["spec"]["containers"][0]["envFrom"] = environment;
        }
        if self.expires {
            spec["ttlSecondsAfterFinished"] = KEEP_S.into();
        }
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    }
}

/// An owner reference to a Job, for what is to go with it.
pub fn owned_by(job: &Job) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job.name_any(),
        "uid": job.uid().unwrap_or_default(),
    })
}

/// Applies the account of runs to a namespace.
///
/// # Errors
/// If the server refuses.
pub async fn apply_runner(cluster: &Cluster, namespace: &str) -> Result<(), Error> {
    crate::deploy::apply_objects(cluster, namespace, &runner(namespace)).await
}

/// Starts a run. What is there already is taken as it is, so this may be called again after it was
/// cut short.
///
/// # Errors
/// If the server refuses.
pub async fn start(cluster: &Cluster, namespace: &str, run: &JobRun) -> Result<Job, Error> {
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let failed = |what: &str, error: &kube::Error| Error::of(format!("making {what}"), error);
    let wrong = |error: serde_json::Error| Error::Refused {
        doing: "writing a Job".to_owned(),
        message: error.to_string(),
    };
    // The pod waits for this one, so it comes first; its owner is known only afterwards.
    let config: ConfigMap =
        serde_json::from_value(run.experiment_object(namespace)).map_err(wrong)?;
    match configs.create(&PostParams::default(), &config).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(failed("the experiment's ConfigMap", &error)),
    }
    let job: Job = serde_json::from_value(run.job_object(namespace)).map_err(wrong)?;
    let job = match jobs.create(&PostParams::default(), &job).await {
        Ok(job) => job,
        Err(kube::Error::Api(status)) if status.code == 409 => jobs
            .get(&run.run)
            .await
            .map_err(|error| failed("the Job", &error))?,
        Err(error) => {
            let _ = configs
                .delete(&run.config(), &DeleteParams::default())
                .await;
            return Err(failed("the Job", &error));
        }
    };
    let owner = json!({"metadata": {"ownerReferences": [owned_by(&job)]}});
    configs
        .patch(
            &run.config(),
            &PatchParams::default(),
            &Patch::Merge(&owner),
        )
        .await
        .map_err(|error| failed("the experiment's ConfigMap", &error))?;
    Ok(job)
}

/// The experiment of a run, as it was handed to its Job.
///
/// # Errors
/// If there is none.
pub async fn experiment_of(cluster: &Cluster, namespace: &str, run: &str) -> Result<String, Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let doing = || format!("looking at the experiment of {run}");
    let found = configs
        .get(&format!("{run}-experiment"))
        .await
        .map_err(|error| Error::of(doing(), &error))?;
    let text = found
        .data
        .and_then(|mut data| data.remove("experiment.yaml"));
    text.ok_or_else(|| Error::Refused {
        doing: doing(),
        message: "it is empty".to_owned(),
    })
}

/// Whether the Job of a run is there and has neither ended nor failed.
///
/// # Errors
/// If the server refuses to say.
pub async fn is_under_way(cluster: &Cluster, namespace: &str, run: &str) -> Result<bool, Error> {
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    let found = jobs.get_opt(run).await;
    let found = found.map_err(|error| Error::of(format!("looking at Job {run}"), &error))?;
    Ok(found.is_some_and(|job| crate::clean::goes_on(&job)))
}

/// Has a run end early: its pod is asked to end, heals and hands over what there is. The Job stays
/// until it is removed. (Deleting the pod alone would have the Job make another one.)
///
/// # Errors
/// If the server refuses; a Job that is gone is none.
pub async fn stop(cluster: &Cluster, namespace: &str, run: &str) -> Result<(), Error> {
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    let none = json!({"spec": {"parallelism": 0}});
    match jobs
        .patch(run, &PatchParams::default(), &Patch::Merge(&none))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(Error::of(format!("stopping Job {run}"), &error)),
    }
}

/// The pods that a run has, oldest first; more than one only if somebody has deleted one.
///
/// # Errors
/// If they cannot be listed.
pub async fn pods(cluster: &Cluster, namespace: &str, run: &str) -> Result<Vec<Pod>, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let mut found = pods
        .list(&ListParams::default().labels(&format!("job-name={run}")))
        .await
        .map_err(|error| Error::of(format!("listing pods of Job {run}"), &error))?
        .items;
    found.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    Ok(found)
}

/// Removes the Job of a run with all that belongs to it, and waits until its pod has ended, which
/// it does once it has healed. What is gone already is no error.
///
/// # Errors
/// If the server refuses, or the pod does not end.
pub async fn remove(cluster: &Cluster, namespace: &str, run: &str) -> Result<(), Error> {
    let outcome = crate::results::outcome(cluster, namespace, run).await?;
    // What it had to heal is healed by then; kubelets of 1.20 take ten seconds to say that a pod has
    // ended.
    let over = outcome.is_some_and(|outcome| outcome.exit_code.is_some());
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    match jobs.delete(run, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(Error::of(format!("deleting Job {run}"), &error)),
    }
    let within = GRACE + Duration::from_secs(30);
    let deadline = Instant::now() + within;
    let mut silence = Silence::default();
    loop {
        let left = pods(cluster, namespace, run).await?;
        let Some(pod) = left.first() else { break };
        if over
            || silence
                .is_lost(cluster, namespace, run, pod)
                .await?
                .is_some()
        {
            let all = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
            let at_once = DeleteParams::default().grace_period(0);
            // One that cannot be deleted at once goes in its own time.
            let _ = all.delete(&pod.name_any(), &at_once).await;
        }
        if Instant::now() >= deadline {
            return Err(Error::StillThere {
                what: format!("pod {}", pod.name_any()),
                after: within,
            });
        }
        sleep(PAUSE).await;
    }
    // What belonged to the Job goes with it in time; nobody should have to wait for that.
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let labels = ListParams::default().labels(&format!("{APP_LABEL}={RUN_APP},{RUN}={run}"));
    let found = configs
        .list(&labels)
        .await
        .map_err(|error| Error::of("listing ConfigMaps", &error))?;
    for name in found.items.iter().map(ResourceExt::name_any) {
        match configs.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::of(format!("deleting ConfigMap {name}"), &error)),
        }
    }
    Ok(())
}

/// For how long a run whose pod is not ready has said nothing, by one observer's clock.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    since: Option<(String, Instant)>,
}

impl Silence {
    /// Whether its pod was cut off when that was last asked.
    pub fn is_suspected(&self) -> bool {
        self.since.is_some()
    }

    /// Why the pod of a run is given up, if so: its Kubernetes node is gone, so that it neither runs on
    /// nor ends. To be asked again and again.
    ///
    /// # Errors
    /// If the server does not say.
    pub async fn is_lost(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        run: &str,
        pod: &Pod,
    ) -> Result<Option<String>, Error> {
        let Some(on) = cut_off(pod) else {
            self.since = None;
            return Ok(None);
        };
        let beat = beat::of(cluster, namespace, run).await?;
        match &self.since {
            Some((last, since)) if *last == beat => {
                let lost = since.elapsed() >= LOST_AFTER;
                Ok(lost.then(|| {
                    format!(
                        "the Kubernetes node {on} that it was on is not ready, and nothing was heard \
                         of it for {} s",
                        LOST_AFTER.as_secs()
                    )
                }))
            }
            _ => {
                self.since = Some((beat, Instant::now()));
                Ok(None)
            }
        }
    }
}

/// Whether the Kubernetes node of a pod that runs may be gone: see [`Silence`].
pub fn is_cut_off(pod: &Pod) -> bool {
    cut_off(pod).is_some()
}

/// The Kubernetes node of a pod that runs, as far as is known, and is not ready although nothing is
/// asked of it for that: its kubelet says nothing any more.
fn cut_off(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let not_ready = conditions.any(|it| it.type_ == "Ready" && it.status != "True");
    let runs = status.container_statuses.iter().flatten().any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    });
    let on = pod.spec.as_ref()?.node_name.as_deref()?;
    (runs && not_ready).then_some(on)
}

/// Why a pod of a run ended or does not start, in a few words; `None` while all is well.
pub fn ended(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    // A pod that was evicted before it started has no containers.
    let container = status.container_statuses.iter().flatten().next();
    let terminated = container.and_then(|c| c.state.as_ref()?.terminated.as_ref());
    let said = |reason: Option<&str>, message: Option<&str>| match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {}", message.trim()),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => String::new(),
    };
    if status.reason.is_some() {
        return Some(said(status.reason.as_deref(), status.message.as_deref()));
    }
    terminated.map(|end| {
        let reason = end.reason.as_deref().filter(|reason| *reason != "Error");
        match reason {
            Some(reason) => format!("{reason}, exit code {}", end.exit_code),
            None => format!("exit code {}", end.exit_code),
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    fn run() -> JobRun {
        JobRun {
            run: "run-0a1b2c".to_owned(),
            image: "quorate:test".to_owned(),
            experiment: "name: demo\n".to_owned(),
            task: Task::Test,
            service_account: RUNNER.to_owned(),
            within: Duration::from_secs(600),
            owner: None,
            expires: true,
            claim: None,
            secret: None,
        }
    }

    /// A field that is misspelt or in the wrong place does not come back.
    fn known<T: Serialize + DeserializeOwned>(object: &Value) {
        let read: T = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), object);
    }

    #[test]
    fn every_field_is_one_that_kubernetes_knows() {
        known::<Job>(&run().job_object("ns"));
        let claimed = JobRun {
            claim: Some("c".to_owned()),
            secret: Some("s".to_owned()),
            ..run()
        };
        let claimed = claimed.job_object("ns");
        known::<Job>(&claimed);
        let container = &claimed["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["envFrom"][0]["secretRef"]["name"], "s");
        known::<ConfigMap>(&run().experiment_object("ns"));
        let [account, role, binding] = &runner("ns")[..] else {
            panic!("three objects make an account");
        };
        known::<ServiceAccount>(account);
        known::<Role>(role);
        known::<RoleBinding>(binding);
    }

    #[test]
    fn the_pod_keeps_to_the_restricted_profile_and_runs_once() {
        let job = run().job_object("ns");
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(job["spec"]["backoffLimit"], 0);
        assert_eq!(pod["restartPolicy"], "Never");
    }

    #[test]
    fn a_role_has_each_right_once_and_nothing_by_asterisk() {
        let rules = rules(&runner_rights());
        let text = serde_json::to_string(&rules).unwrap();
        assert!(!text.contains('*'), "{text}");
        let names: Vec<_> = rules
            .iter()
            .map(|r| (&r["apiGroups"], &r["resources"]))
            .collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name:?} twice");
        }
        let sets = rules
            .iter()
            .find(|r| r["resources"][0] == "statefulsets")
            .unwrap();
        assert_eq!(
            sets["verbs"],
            json!(["create", "delete", "get", "list", "patch"])
        );
        let pods = rules.iter().find(|r| r["resources"][0] == "pods").unwrap();
        assert!(!pods["verbs"].as_array().unwrap().contains(&"create".into()));
    }

    #[test]
    fn a_pod_is_cut_off_that_runs_and_is_not_ready() {
        let pod = |ready: &str, state: Value| {
            serde_json::from_value::<Pod>(json!({
                "spec": {"nodeName": "worker", "containers": []},
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": ready}],
                    "containerStatuses": [{
                        "name": "harness", "image": "i", "imageID": "i", "ready": false,
                        "restartCount": 0, "state": state,
                    }],
                },
            }))
            .unwrap()
        };
        let running = json!({"running": {}});
        assert_eq!(cut_off(&pod("False", running.clone())), Some("worker"));
        assert_eq!(cut_off(&pod("True", running)), None);
        let ended = json!({"terminated": {"exitCode": 0}});
        assert_eq!(cut_off(&pod("False", ended)), None);
        let starts = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(cut_off(&pod("False", starts)), None);
    }

    #[test]
    fn an_eviction_says_its_reason() {
        let pod = |status: Value| serde_json::from_value::<Pod>(json!({"status": status})).unwrap();
        let evicted = pod(json!({
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory. ",
            "containerStatuses": [],
        }));
        assert_eq!(
            ended(&evicted).unwrap(),
            "Evicted: The node was low on memory."
        );
        let killed = |state: Value| {
            pod(json!({"phase": "Failed", "containerStatuses": [{
                "name": "harness", "image": "i", "imageID": "i", "ready": false,
                "restartCount": 0, "state": state,
            }]}))
        };
        let oom = killed(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
        assert_eq!(ended(&oom).unwrap(), "OOMKilled, exit code 137");
        let plain = killed(json!({"terminated": {"exitCode": 1, "reason": "Error"}}));
        assert_eq!(ended(&plain).unwrap(), "exit code 1");
        assert_eq!(ended(&killed(json!({"running": {}}))), None);
    }
}
