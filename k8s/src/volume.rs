//! Results in the volume of a claim: larger than `ConfigMap`s may be, and there after the Job is gone.
//!
//! A volume can be read only by a pod that has it. So a pod is made for that, which offers what it
//! packs on its own loopback alone; it is reached as `kubectl port-forward` would.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use crate::Error;
use crate::cluster::Cluster;
use crate::deploy;
use crate::discover::{Trouble, trouble_of};
use crate::error::{causes, is_missing};
use crate::job::{RUN_APP, STORE, USER, ended};
use crate::names::{APP_LABEL, MANAGED_BY, MANAGER, RUN};
use crate::rights::Right;

/// Where the pod that reads a volume offers what it has packed.
pub const PORT: u16 = 7110;
/// What it takes to have a claim made, beside [`crate::job::START`].
pub const CLAIM: &[Right] = &[
    ("get", "", "persistentvolumeclaims", ""),
    ("create", "", "persistentvolumeclaims", ""),
];
/// What it takes to read a volume.
pub const READ: &[Right] = &[
    ("create", "", "pods", ""),
    ("get", "", "pods", ""),
    ("delete", "", "pods", ""),
    ("create", "", "pods", "portforward"),
    ("get", "", "pods", "portforward"),
    ("get", "", "persistentvolumeclaims", ""),
    ("list", "", "events", ""),
];
/// How long the pod may take to start.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long it may live, should nobody delete it.
const LIVES_S: u32 = 1800;
/// How long packing may take until the first byte comes.
const PACKED_WITHIN: Duration = Duration::from_secs(300);
/// Nothing larger is taken for an archive.
const LARGEST: u64 = 8 << 30;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// The claim for results: as it is if it is there, else of this class and size.
///
/// # Errors
/// If the server refuses.
pub async fn claim(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    class: Option<&str>,
    mib: u32,
) -> Result<(), Error> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), namespace);
    let doing = || format!("making the claim {name}");
    let found = claims.get_opt(name).await;
    if found.map_err(|error| Error::of(doing(), &error))?.is_some() {
        return Ok(());
    }
    let object = serde_json::from_value(claim_object(name, class, mib));
    let object = object.map_err(|error| Error::Refused {
        doing: doing(),
        message: error.to_string(),
    })?;
    match claims.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::of(doing(), &error)),
    }
}

fn claim_object(name: &str, class: Option<&str>, mib: u32) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": format!("{mib}Mi")}},
    });
    if let Some(class) = class {
        spec["storageClassName"] = class.into();
    }
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {APP_LABEL: RUN_APP, MANAGED_BY: MANAGER}},
        "spec": spec,
    })
}

fn pod_name(run: &str) -> String {
    format!("{run}-fetch")
}

fn pod_object(run: &str, image: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(run),
            "labels": {APP_LABEL: RUN_APP, MANAGED_BY: MANAGER, RUN: run},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIVES_S,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "fetch",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["in-cluster", "offer", format!("--run={run}")],
                "resources": {
                    "requests": {"cpu": "50m", "memory": "64Mi"},
                    "limits": {"memory": "2Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "store", "mountPath": STORE, "readOnly": true}],
            }],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// What a run has left in the volume of this claim, packed; empty if it has left nothing there.
///
/// # Errors
/// If the volume cannot be read, in one sentence.
pub async fn read(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    image: &str,
    claim: &str,
) -> Result<Vec<u8>, Error> {
    cluster.may(namespace, READ).await?;
    let name = pod_name(run);
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let doing = || format!("reading the volume of {claim}");
    let claims = Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), namespace);
    let found = claims.get_opt(claim).await;
    if found.map_err(|error| Error::of(doing(), &error))?.is_none() {
        return Err(refused(
            doing(),
            format!("there is no claim {claim} in namespace {namespace}"),
        ));
    }
    let object = serde_json::from_value(pod_object(run, image, claim))
        .map_err(|error| refused(doing(), error))?;
    let read = async {
        begun(&pods, &object)
            .await
            .map_err(|error| Error::of(doing(), &error))?;
        started(cluster, namespace, &name, image, claim).await?;
        offered(&pods, &name)
            .await
            .map_err(|why| refused(doing(), why))
    }
    .await;
    if let Err(error) = delete(&pods, &name).await {
        tracing::warn!(
            "{name} ends by itself, and stays until `quorate clean --on k8s`: {}",
            causes(&error)
        );
    }
    read
}

/// Makes the pod, unless somebody else fetches it already: it offers the same to everybody.
async fn begun(pods: &Api<Pod>, wanted: &Pod) -> Result<(), kube::Error> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        match pods.create(&PostParams::default(), wanted).await {
            Err(kube::Error::Api(status)) if status.code == 409 && Instant::now() < deadline => {}
            made => return made.map(drop),
        }
        let name = wanted.name_any();
        match pods.get_opt(&name).await? {
            Some(pod) if offers(&pod) => return Ok(()),
            // Who made it was cut short, and it has ended since.
            Some(_) => delete(pods, &name).await?,
            None => {}
        }
        sleep(PAUSE).await;
    }
}

/// Whether a pod that reads a volume may still be asked for what it reads.
fn offers(pod: &Pod) -> bool {
    ended(pod).is_none() && pod.metadata.deletion_timestamp.is_none()
}

async fn delete(pods: &Api<Pod>, name: &str) -> Result<(), kube::Error> {
    let at_once = DeleteParams::default().grace_period(0);
    match pods.delete(name, &at_once).await {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A pod that reads a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Its name.
    pub pod: String,
    /// The run whose results it reads.
    pub run: String,
    /// Whether it has not ended: whoever made it may be waiting for it.
    pub alive: bool,
}

/// The pods of a namespace that read volumes. That of a fetch that was cut short ends by itself, and
/// stays.
///
/// # Errors
/// If they cannot be listed.
pub async fn readers(cluster: &Cluster, namespace: &str) -> Result<Vec<Reader>, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let of_runs = ListParams::default().labels(&format!("{APP_LABEL}={RUN_APP},{RUN}"));
    let found = match pods.list(&of_runs).await {
        Ok(found) => found.items,
        // An account that may not look at pods has made none.
        Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
        Err(error) => return Err(Error::of(format!("listing pods in {namespace}"), &error)),
    };
    Ok(found.iter().filter_map(reader).collect())
}

/// A pod as one that reads a volume; the harness's own of a Job has the same labels.
fn reader(pod: &Pod) -> Option<Reader> {
    let run = pod.labels().get(RUN)?;
    (pod.name_any() == pod_name(run)).then(|| Reader {
        pod: pod.name_any(),
        run: run.clone(),
        alive: offers(pod),
    })
}

/// Removes a pod that reads a volume. One that is gone is no error.
///
/// # Errors
/// If the server refuses.
pub async fn dismiss(cluster: &Cluster, namespace: &str, pod: &str) -> Result<(), Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let deleted = delete(&pods, pod).await;
    deleted.map_err(|error| Error::of(format!("deleting {pod}"), &error))
}

fn refused(doing: String, why: impl std::fmt::Display) -> Error {
    Error::Refused {
        doing,
        message: why.to_string(),
    }
}

async fn started(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    image: &str,
    claim: &str,
) -> Result<(), Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let deadline = Instant::now() + START_WITHIN;
    loop {
        let found = pods.get_opt(name).await;
        let trouble = match found {
            Ok(Some(pod)) => match trouble_of(&pod) {
                None => return Ok(()),
                Some(Trouble::Image(why)) => {
                    return Err(Error::Image {
                        pod: name.to_owned(),
                        image: image.to_owned(),
                        why,
                    });
                }
                Some(trouble) => trouble.to_string(),
            },
            Ok(None) => "it was deleted".to_owned(),
            // The API server may be away for a moment.
            Err(error) => causes(&error),
        };
        if Instant::now() >= deadline {
            let why = deploy::last_event(cluster, namespace, name, None).await;
            return Err(refused(
                format!("reading the volume of {claim}"),
                format!(
                    "the pod {name} has not started after {} s: {}",
                    START_WITHIN.as_secs(),
                    why.unwrap_or(trouble)
                ),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// Takes what the pod offers: how many bytes there are, and these.
async fn offered(pods: &Api<Pod>, name: &str) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + PACKED_WITHIN;
    loop {
        match timeout(PACKED_WITHIN, once(pods, name)).await {
            Ok(Ok(bytes)) => return Ok(bytes),
            // It may not listen yet.
            Ok(Err(why)) if Instant::now() >= deadline => return Err(why),
            Ok(Err(why)) => {
                if let Ok(Some(pod)) = pods.get_opt(name).await
                    && let Some(how) = ended(&pod)
                {
                    return Err(format!("{name} has ended ({how}): {why}"));
                }
                sleep(PAUSE).await;
            }
            Err(_) => return Err(format!("{name} says nothing for {PACKED_WITHIN:?}")),
        }
    }
}

async fn once(pods: &Api<Pod>, name: &str) -> Result<Vec<u8>, String> {
    let mut forwarder = pods
        .portforward(name, &[PORT])
        .await
        .map_err(|error| causes(&error))?;
    let mut stream = forwarder.take_stream(PORT).ok_or("no stream was opened")?;
    let said = |error: std::io::Error| error.to_string();
    let size = stream.read_u64().await.map_err(said)?;
    if size > LARGEST {
        return Err(format!("{size} bytes are no archive"));
    }
    let mut bytes = Vec::new();
    let mut limited = stream.take(size);
    limited.read_to_end(&mut bytes).await.map_err(said)?;
    forwarder.abort();
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(format!("only {} of {size} bytes came", bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_one_that_kubernetes_knows() {
        let pod = pod_object("run-1", "quorate:test", "c");
        let read: Pod = serde_json::from_value(pod.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), pod);
        for class in [None, Some("fast")] {
            let claim = claim_object("c", class, 64);
            let read: PersistentVolumeClaim = serde_json::from_value(claim.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), claim);
        }
    }

    #[test]
    fn a_reader_is_alive_until_it_has_ended_and_no_pod_of_a_harness() {
        let with = |name: &str, status: Value| {
            let mut pod = pod_object("run-1", "quorate:test", "c");
            pod["metadata"]["name"] = name.into();
            pod["status"] = status;
            reader(&serde_json::from_value(pod).unwrap())
        };
        let alive = |alive| {
            Some(Reader {
                pod: "run-1-fetch".to_owned(),
                run: "run-1".to_owned(),
                alive,
            })
        };
        assert_eq!(
            with("run-1-fetch", json!({"phase": "Running"})),
            alive(true)
        );
        let late = json!({"phase": "Failed", "reason": "DeadlineExceeded"});
        assert_eq!(with("run-1-fetch", late), alive(false));
        assert_eq!(with("run-1-x7k2p", json!({"phase": "Running"})), None);
    }

    #[test]
    fn what_reads_a_volume_cannot_write_it_and_has_no_token() {
        let pod = pod_object("run-1", "quorate:test", "c");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][0]["readOnly"], true);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }
}
