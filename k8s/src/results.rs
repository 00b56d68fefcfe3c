//! What a run in a Job hands over: one ConfigMap `RUN-result` that says how it stands, and its
//! archived run directory in as many others (`RUN-result-0`, …) as it takes.
//!
//! `RUN-result` is made before the run starts anything, and only one pod can make it: a Job whose
//! pod was evicted makes another pod, which finds it there and does nothing.
//!
//! While the run goes on, its history so far is handed over in parts (`RUN-part-0`, …), so that a
//! harness which is killed takes only the last seconds with it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::cluster::Cluster;
use crate::job::RUN_APP;
use crate::names::{APP_LABEL, MANAGED_BY, MANAGER, RUN};

/// What a chunk holds at most; a ConfigMap may have 1 MiB in all.
pub const CHUNK: usize = 900 << 10;
/// The largest archive that is handed over in `ConfigMap`s: they are kept in memory by the cluster's
/// database, which others need, too.
pub const LARGEST: usize = 32 << 20;
/// How long the API server may be away while results are handed over.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How a run stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The pod that runs it.
    pub pod: String,
    /// What its harness would have exited with; `None` while it has not ended.
    pub exit_code: Option<u8>,
    /// Why there is no verdict, in one sentence.
    pub error: Option<String>,
    /// The text of its `verdict.json` or `scorecard.json`, if it came that far.
    pub verdict: Option<String>,
    /// How many chunks there are.
    pub chunks: usize,
    /// The claim in whose volume the run is, if it is not in chunks.
    pub claim: Option<String>,
}

fn index_name(run: &str) -> String {
    format!("{run}-result")
}

/// The pieces in which bytes are handed over.
pub fn split(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.chunks(CHUNK).collect()
}

fn object(run: &str, name: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {APP_LABEL: RUN_APP, MANAGED_BY: MANAGER, RUN: run},
            "ownerReferences": [owner],
        },
    })
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Refused {
        doing: "handing over the results".to_owned(),
        message: error.to_string(),
    }
}

/// Says that this pod has begun the run, and keeps it in the volume of this claim, if any; whether it
/// is the first to.
///
/// # Errors
/// If the server refuses.
pub async fn begin(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    owner: &Value,
    pod: &str,
    claim: Option<&str>,
) -> Result<bool, Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let mut begun = object(run, &index_name(run), owner);
    begun["data"] = json!({"pod": pod});
    if let Some(claim) = claim {
        begun["data"]["claim"] = claim.into();
    }
    let begun = serde_json::from_value(begun).map_err(refused)?;
    match configs.create(&PostParams::default(), &begun).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(Error::of("saying that the run has begun", &error)),
    }
}

/// Hands over the next part of the history.
///
/// # Errors
/// If the server refuses, or stays away.
pub async fn put_part(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    owner: &Value,
    number: usize,
    bytes: &[u8],
) -> Result<(), Error> {
    let name = format!("{run}-part-{number}");
    put_bytes(cluster, namespace, run, owner, &name, bytes).await
}

/// All parts of the history that were handed over, in order.
///
/// # Errors
/// If the server refuses.
pub async fn parts(cluster: &Cluster, namespace: &str, run: &str) -> Result<Vec<Vec<u8>>, Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let mut parts = Vec::new();
    loop {
        let name = format!("{run}-part-{}", parts.len());
        let found = configs
            .get_opt(&name)
            .await
            .map_err(|error| Error::of(format!("fetching {name}"), &error))?;
        match found.and_then(|found| found.binary_data?.remove("part")) {
            Some(part) => parts.push(part.0),
            None => return Ok(parts),
        }
    }
}

async fn put_bytes(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    owner: &Value,
    name: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let mut object: ConfigMap =
        serde_json::from_value(object(run, name, owner)).map_err(refused)?;
    let part = ("part".to_owned(), ByteString(bytes.to_vec()));
    object.binary_data = Some(BTreeMap::from([part]));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match configs.create(&PostParams::default(), &object).await {
            Ok(_) => return Ok(()),
            // An attempt whose answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => patience(error, deadline)?,
        }
        sleep(PAUSE).await;
    }
}

/// Hands over how the run ended: first the archive, then what it came to, so that whoever sees the
/// latter finds the former.
///
/// # Errors
/// If the server refuses, or stays away.
pub async fn put(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    owner: &Value,
    outcome: &Outcome,
    archive: &[u8],
) -> Result<(), Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let chunks = split(archive);
    for (i, chunk) in chunks.iter().enumerate() {
        let name = format!("{}-{i}", index_name(run));
        put_bytes(cluster, namespace, run, owner, &name, chunk).await?;
    }
    let mut data = json!({"chunks": chunks.len().to_string()});
    if let Some(code) = outcome.exit_code {
        data["exit_code"] = code.to_string().into();
    }
    if let Some(error) = &outcome.error {
        data["error"] = error.as_str().into();
    }
    if let Some(verdict) = &outcome.verdict {
        data["verdict"] = verdict.as_str().into();
    }
    let patch = json!({"data": data});
    let name = index_name(run);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let params = PatchParams::default();
        match configs.patch(&name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(()),
            Err(error) => patience(error, deadline)?,
        }
        sleep(PAUSE).await;
    }
}

/// Whether it is worth to try again: the API server may be away for a while.
fn patience(error: kube::Error, deadline: Instant) -> Result<(), Error> {
    match error {
        kube::Error::Api(status) if status.code < 500 && status.code != 429 => {
            Err(refused(status.message.clone()))
        }
        error if Instant::now() >= deadline => Err(Error::of("handing over the results", &error)),
        _ => Ok(()),
    }
}

/// How a run stands; `None` if no pod has begun it.
///
/// # Errors
/// If the server refuses to say.
pub async fn outcome(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
) -> Result<Option<Outcome>, Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let found = configs
        .get_opt(&index_name(run))
        .await
        .map_err(|error| Error::of(format!("looking at the results of {run}"), &error))?;
    Ok(found.map(|config| read(&config)))
}

/// What the ConfigMap `RUN-result` says.
fn read(config: &ConfigMap) -> Outcome {
    let text = |name: &str| config.data.as_ref()?.get(name).cloned();
    let number = |name: &str| text(name)?.parse::<u8>().ok();
    Outcome {
        pod: text("pod").unwrap_or_default(),
        exit_code: number("exit_code"),
        error: text("error"),
        verdict: text("verdict"),
        claim: text("claim"),
        chunks: text("chunks").and_then(|n| n.parse().ok()).unwrap_or(0),
    }
}

/// The archive of a run that has ended.
///
/// # Errors
/// If a part of it is missing.
pub async fn archive(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    chunks: usize,
) -> Result<Vec<u8>, Error> {
    let configs = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let mut bytes = Vec::new();
    for i in 0..chunks {
        let name = format!("{}-{i}", index_name(run));
        let found = configs
            .get(&name)
            .await
            .map_err(|error| Error::of(format!("fetching {name}"), &error))?;
        let part = found.binary_data.and_then(|mut data| data.remove("part"));
        bytes.extend(part.ok_or_else(|| refused(format!("{name} is empty")))?.0);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_a_config_map_and_make_the_whole() {
        for size in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let pieces = split(&bytes);
            assert!(pieces.iter().all(|piece| piece.len() <= CHUNK));
            assert_eq!(pieces.concat(), bytes);
            assert_eq!(pieces.len(), size.div_ceil(CHUNK));
        }
    }

    #[test]
    fn what_has_not_ended_has_no_exit_code() {
        let mut config = ConfigMap {
            data: Some(BTreeMap::from([("pod".to_owned(), "p".to_owned())])),
            ..ConfigMap::default()
        };
        assert_eq!(read(&config).exit_code, None);
        let data = config.data.as_mut().unwrap();
        data.insert("exit_code".to_owned(), "1".to_owned());
        data.insert("chunks".to_owned(), "3".to_owned());
        let ended = read(&config);
        assert_eq!((ended.exit_code, ended.chunks), (Some(1), 3));
    }
}
