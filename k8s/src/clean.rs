//! What runs have left on a cluster, and how it is undone.
//!
//! Everything that a run does is written on the object that it is done to, with the run's id; so
//! nothing but the cluster is needed to find it. Undoing may be done any number of times.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams};

use crate::cluster::{Cluster, is_system};
use crate::error::is_missing;
use crate::names::{ALLOWED, FAULTS, RUN, is_of};
use crate::{Error, beat, copy, deploy, endpoints, hosts, scale, volume};

/// Something that a run has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What.
    pub what: What,
    /// Whose.
    pub run: String,
    /// Where the run is.
    pub namespace: String,
}

impl Trace {
    /// Whether it is of this run, or of one of the runs that this one is made of.
    pub fn is_of(&self, run: &str) -> bool {
        is_of(&self.run, run)
    }
}

/// What a run has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A Service that leads nowhere.
    NoEndpoints(String),
    /// A StatefulSet that is smaller than it was.
    Scaled(scale::Scaled),
    /// A Kubernetes node that takes no pods.
    Cordon(String),
    /// A Job that carries out a run.
    Job(String),
    /// A pod that reads the results of a run from a volume.
    Reader(String),
    /// A store of a run's own.
    Store(String),
    /// A namespace with the copy of a store.
    Copy(String),
    /// A Lease: of the run, or of a fault, which its deletion heals.
    Lease(String),
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            run,
            namespace,
        } = self;
        match what {
            What::NoEndpoints(name) => write!(f, "Service {name} without endpoints")?,
            What::Scaled(scaled) => {
                write!(f, "StatefulSet {}, scaled from {}", scaled.set, scaled.from)?;
            }
            What::Cordon(host) => write!(f, "node {host}, cordoned")?,
            What::Job(name) => write!(f, "Job {name}")?,
            What::Reader(name) => write!(f, "pod {name}, which reads a volume")?,
            What::Store(name) => write!(f, "store {name}")?,
            What::Copy(name) => write!(f, "namespace {name}, with a copy")?,
            What::Lease(name) => write!(f, "Lease {name}")?,
        }
        write!(f, " (run {run} in {namespace})")
    }
}

/// The namespaces where there may be something: those that allow faults, copies among them, and those
/// from where Kubernetes nodes were cordoned, which may be gone themselves.
///
/// # Errors
/// If they cannot be listed.
pub async fn namespaces(cluster: &Cluster) -> Result<BTreeSet<String>, Error> {
    let labels = ListParams::default().labels(&format!("{FAULTS}={ALLOWED}"));
    let found = Api::<Namespace>::all(cluster.client.clone())
        .list(&labels)
        .await
        .map_err(|error| Error::of("listing namespaces (--namespace names one)", &error))?;
    let mut names: BTreeSet<String> = found
        .items
        .into_iter()
        .filter_map(|it| it.metadata.name)
        .collect();
    let cordons = cordons(cluster).await?.into_iter();
    names.extend(cordons.map(|cordon| cordon.namespace));
    names.retain(|name| !is_system(name));
    Ok(names)
}

/// A namespace, and those of the copies that were made of what is in it: all where a run that is said
/// to be there may have left something.
///
/// # Errors
/// If copies cannot be looked for.
pub async fn with_copies(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, Error> {
    let mut all = vec![namespace.to_owned()];
    all.extend(copy::copies_of(cluster, namespace).await?);
    Ok(all)
}

/// The Kubernetes nodes that runs have cordoned. An account that may not look at nodes can have
/// cordoned none.
async fn cordons(cluster: &Cluster) -> Result<Vec<Trace>, Error> {
    let cordoned = match hosts::cordoned(cluster).await {
        Ok(cordoned) => cordoned,
        Err(Error::Refused { message, .. }) if message.contains("forbidden") => {
            tracing::debug!("nodes are not looked at: {message}");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let trace = |(host, by): (String, String)| {
        let (namespace, run) = by.split_once('/')?;
        Some(Trace {
            what: What::Cordon(host),
            run: run.to_owned(),
            namespace: namespace.to_owned(),
        })
    };
    Ok(cordoned.into_iter().filter_map(trace).collect())
}

/// What runs have left in a namespace, and what those of this namespace have done to Kubernetes
/// nodes, in the order in which it is to be undone.
///
/// # Errors
/// If it cannot be looked at.
pub async fn traces(cluster: &Cluster, namespace: &str) -> Result<Vec<Trace>, Error> {
    let trace = |what, run| Trace {
        what,
        run,
        namespace: namespace.to_owned(),
    };
    let mut found = Vec::new();
    // Jobs first: what carries out a run could do more.
    for (job, run) in jobs(cluster, namespace).await? {
        found.push(trace(What::Job(job), run));
    }
    for reader in volume::readers(cluster, namespace).await? {
        found.push(trace(What::Reader(reader.pod), reader.run));
    }
    for (service, run) in endpoints::taken(cluster, namespace).await? {
        found.push(trace(What::NoEndpoints(service), run));
    }
    for scaled in scale::all(cluster, namespace).await? {
        let run = scaled.run.clone();
        found.push(trace(What::Scaled(scaled), run));
    }
    let cordons = cordons(cluster).await?.into_iter();
    found.extend(cordons.filter(|cordon| cordon.namespace == namespace));
    for (store, run) in deploy::of_runs(cluster, namespace).await? {
        found.push(trace(What::Store(store), run));
    }
    let mut leases = beat::all(cluster, namespace).await?;
    // That of the run itself last, or its namespace: until then it can be found again.
    leases.sort_by_key(|(name, run, _)| name == run);
    for (name, run, _) in leases {
        found.push(trace(What::Lease(name), run));
    }
    if let Some(run) = copy::made_for(cluster, namespace).await? {
        found.push(trace(What::Copy(namespace.to_owned()), run));
    }
    Ok(found)
}

/// The Jobs of runs, as name and run.
async fn jobs(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>, Error> {
    let found = list_jobs(cluster, namespace).await?.into_iter();
    Ok(found
        .filter_map(|job| Some((job.metadata.name.clone()?, run_of(&job)?)))
        .collect())
}

fn run_of(job: &Job) -> Option<String> {
    job.metadata.labels.as_ref()?.get(RUN).cloned()
}

/// Whether a Job has neither ended nor failed.
pub(crate) fn goes_on(job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .flat_map(|it| it.conditions.iter().flatten());
    !conditions
        .filter(|condition| condition.status == "True")
        .any(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"))
}

async fn list_jobs(cluster: &Cluster, namespace: &str) -> Result<Vec<Job>, Error> {
    let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
    match jobs.list(&ListParams::default().labels(RUN)).await {
        Ok(found) => Ok(found.items),
        // An account that may not look at Jobs has made none.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(Error::of(format!("listing Jobs in {namespace}"), &error)),
    }
}

/// The runs of a namespace that are alive, of those that have left something: they say so, a Job of
/// theirs goes on, or somebody reads their results. Takes some seconds, if there are any.
///
/// # Errors
/// If that cannot be told.
pub async fn living(
    cluster: &Cluster,
    namespace: &str,
    traces: &[Trace],
) -> Result<BTreeSet<String>, Error> {
    if traces.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut living = beat::living(cluster, namespace).await?;
    let jobs = list_jobs(cluster, namespace).await?;
    living.extend(jobs.iter().filter(|job| goes_on(job)).filter_map(run_of));
    let readers = volume::readers(cluster, namespace).await?.into_iter();
    living.extend(readers.filter(|reader| reader.alive).map(|it| it.run));
    Ok(living)
}

/// Undoes it. What is gone meanwhile is no error.
///
/// # Errors
/// If the server refuses, or something stays.
pub async fn undo(cluster: &Cluster, trace: &Trace) -> Result<(), Error> {
    let Trace {
        what,
        run,
        namespace,
    } = trace;
    match what {
        What::NoEndpoints(service) => endpoints::give_back(cluster, namespace, service).await,
        What::Scaled(scaled) => scale::up(cluster, namespace, &scaled.set, run)
            .await
            .map(drop),
        What::Cordon(host) => hosts::uncordon(cluster, host, &hosts::owner(namespace, run))
            .await
            .map(drop),
        What::Job(name) => {
            let jobs = Api::<Job>::namespaced(cluster.client.clone(), namespace);
            match jobs.delete(name, &DeleteParams::background()).await {
                Ok(_) => Ok(()),
                Err(error) if is_missing(&error) => Ok(()),
                Err(error) => Err(Error::of(format!("deleting Job {name}"), &error)),
            }
        }
        What::Reader(name) => volume::dismiss(cluster, namespace, name).await,
        What::Store(name) => deploy::remove(cluster, namespace, name).await.map(drop),
        What::Copy(name) => copy::remove(cluster, name).await,
        What::Lease(name) => beat::end(cluster, namespace, name).await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_goes_on_until_it_says_otherwise() {
        let job = |status: serde_json::Value| -> Job {
            let metadata = json!({"name": "run-1", "labels": {RUN: "run-1"}});
            serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
        };
        let said = |kind: &str, status: &str| {
            job(json!({"conditions": [{"type": kind, "status": status}]}))
        };
        assert_eq!(run_of(&job(json!({}))).as_deref(), Some("run-1"));
        assert!(goes_on(&job(json!({"active": 1}))));
        assert!(goes_on(&said("Suspended", "True")));
        assert!(goes_on(&said("Failed", "False")));
        assert!(!goes_on(&said("Failed", "True")));
        assert!(!goes_on(&said("Complete", "True")));
    }

    #[test]
    fn a_trace_says_what_and_whose_it_is() {
        let trace = Trace {
            what: What::Cordon("worker".to_owned()),
            run: "run-1".to_owned(),
            namespace: "ns".to_owned(),
        };
        assert_eq!(trace.to_string(), "node worker, cordoned (run run-1 in ns)");
        assert!(trace.is_of("run-1") && !trace.is_of("run-12") && !trace.is_of("run-1-0"));
        let part = Trace {
            run: "run-1-0".to_owned(),
            ..trace
        };
        assert!(part.is_of("run-1") && part.is_of("run-1-0") && !part.is_of("run-1-"));
    }
}
