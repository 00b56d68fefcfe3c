//! The harness's side: gives an order, shows every second that it is still there, reads the proofs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::protocol::{
    DURATION_S, FAULT, ORDER, Order, RELEASE, Release, Report, State, Target, report,
};
use crate::Error;
use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::{MANAGED_BY, MANAGER, RUN};
use crate::rights::Right;

/// What it takes to have agents do something in a namespace.
pub const HURT: &[Right] = &[
    ("create", "coordination.k8s.io", "leases", ""),
    ("get", "coordination.k8s.io", "leases", ""),
    ("patch", "coordination.k8s.io", "leases", ""),
    ("delete", "coordination.k8s.io", "leases", ""),
];

/// Between two signs of life.
const RENEW: Duration = Duration::from_secs(1);
/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// How long one request may take: less than a fault stands without a sign of life.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the agents last said, by Kubernetes node; none if nothing yet.
pub type Reports = BTreeMap<String, Option<Report>>;

/// What is known of an order that was given.
#[derive(Debug, Default)]
struct Seen {
    reports: Reports,
    /// The first time that an agent said that it has ended by itself.
    faded: Option<String>,
}

/// An order that was given. Dropped, it lapses: the agents heal it after some seconds.
#[derive(Debug)]
pub struct Standing {
    leases: Leases,
    renewing: JoinHandle<()>,
}

#[derive(Clone)]
struct Leases {
    api: Api<Lease>,
    name: String,
    uid: String,
    nodes: Vec<String>,
    seen: Arc<Mutex<Seen>>,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease {}", self.name)
    }
}

fn now() -> Value {
    json!(MicroTime(Timestamp::now()))
}

/// The pod that this process is in, as node 0; none outside of the cluster.
///
/// # Errors
/// If the server does not say where it is.
pub async fn own_pod(cluster: &Cluster) -> Result<Option<Target>, Error> {
    let variable = |name| std::env::var(name).ok();
    let (true, Some(pod), Some(namespace)) = (
        cluster.inside,
        variable("POD_NAME"),
        variable("POD_NAMESPACE"),
    ) else {
        return Ok(None);
    };
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), &namespace);
    let found = pods
        .get(&pod)
        .await
        .map_err(|error| Error::of(format!("looking at {pod}"), &error))?;
    let spec = found.spec.unwrap_or_default();
    let container = spec.containers.into_iter().next();
    Ok(Some(Target {
        node: 0,
        pod,
        uid: found.metadata.uid.unwrap_or_default(),
        container: container.map_or_else(String::new, |container| container.name),
        on: spec.node_name.unwrap_or_default(),
        ip: found.status.and_then(|status| status.pod_ip?.parse().ok()),
    }))
}

/// Gives an order in the name of a run's fault. `owner` is the reference to an object whose end
/// takes the Lease along.
///
/// # Errors
/// If the server refuses.
pub async fn give(
    cluster: &Cluster,
    namespace: &str,
    run: &str,
    fault: &str,
    order: &Order,
    owner: Option<Value>,
) -> Result<Standing, Error> {
    let name = format!("quorate-{run}-{fault}");
    let doing = || format!("giving the agents the order {name}");
    let text = serde_json::to_string(order).unwrap_or_default();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": {RUN: run, FAULT: fault, MANAGED_BY: MANAGER},
            "annotations": {ORDER: text},
            "ownerReferences": owner.map(|owner| vec![owner]),
        },
        "spec": {
            "holderIdentity": run,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": now(),
            "renewTime": now(),
        },
    });
    let api = Api::<Lease>::namespaced(cluster.client.clone(), namespace);
    let lease: Lease = serde_json::from_value(lease).map_err(|error| Error::Refused {
        doing: doing(),
        message: error.to_string(),
    })?;
    let made = api
        .create(&PostParams::default(), &lease)
        .await
        .map_err(|error| Error::of(doing(), &error))?;
    let mut nodes: Vec<String> = order.pods.iter().map(|pod| pod.on.clone()).collect();
    nodes.sort();
    nodes.dedup();
    let leases = Leases {
        api,
        name,
        uid: made.metadata.uid.unwrap_or_default(),
        nodes,
        seen: Arc::default(),
    };
    let renewing = tokio::spawn(leases.clone().renew());
    Ok(Standing { leases, renewing })
}

impl Leases {
    async fn patch(&self, patch: &Value) -> Result<Lease, kube::Error> {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.api.patch(&self.name, &params, &patch).await
    }

    /// Shows that this program is alive, until it is not.
    async fn renew(self) {
        loop {
            sleep(RENEW).await;
            let patch = json!({"metadata": {"uid": self.uid}, "spec": {"renewTime": now()}});
            match timeout(ANSWER_WITHIN, self.patch(&patch)).await {
                Ok(Ok(lease)) => self.note(&lease),
                // The API server may be away for a moment; if it stays away, the agents heal.
                Ok(Err(error)) => tracing::debug!(%error, lease = self.name, "not renewed"),
                Err(_) => tracing::debug!(lease = self.name, "not renewed in time"),
            }
        }
    }

    fn note(&self, lease: &Lease) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for node in &self.nodes {
            let said = report(lease, node);
            if let Some(said) = &said
                && said.state == State::Faded
                && seen.faded.is_none()
            {
                seen.faded = Some(format!("{node}: {}", said.text));
            }
            seen.reports.insert(node.clone(), said);
        }
    }

    /// Looks until every agent is as far as that, or the time is up; what they last said.
    async fn wait(&self, within: Duration, far: impl Fn(State) -> bool) -> Result<Reports, Error> {
        let deadline = Instant::now() + within;
        let mut last = Ok(());
        loop {
            match timeout(ANSWER_WITHIN, self.api.get(&self.name)).await {
                Ok(Ok(lease)) => {
                    last = Ok(());
                    self.note(&lease);
                }
                Ok(Err(error)) if is_missing(&error) => {
                    return Err(Error::of(
                        format!("looking at the order {}", self.name),
                        &error,
                    ));
                }
                Ok(Err(error)) => {
                    last = Err(Error::of(
                        format!("looking at the order {}", self.name),
                        &error,
                    ));
                }
                Err(_) => {}
            }
            let reports = {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.reports.clone()
            };
            let all = self.nodes.iter().all(|node| {
                let said = reports.get(node).and_then(Option::as_ref);
                said.is_some_and(|said| far(said.state))
            });
            if all && last.is_ok() {
                return Ok(reports);
            }
            if Instant::now() >= deadline {
                return last.map(|()| reports);
            }
            sleep(LOOK).await;
        }
    }
}

impl Standing {
    /// Waits until every agent has done its part, or has said why not.
    ///
    /// # Errors
    /// If the Lease cannot be read when the time is up.
    pub async fn proven(&self, within: Duration) -> Result<Reports, Error> {
        self.leases
            .wait(within, |state| state != State::Taken)
            .await
    }

    /// What an agent said when its part ended before its time, if one did.
    pub fn faded(&self) -> Option<String> {
        let seen = &self.leases.seen;
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .faded
            .clone()
    }

    /// Asks for healing and waits until every agent has healed.
    ///
    /// # Errors
    /// If it cannot be asked for, or the Lease cannot be read when the time is up.
    pub async fn release(&self, how: Release, within: Duration) -> Result<Reports, Error> {
        let deadline = Instant::now() + within;
        let patch = json!({
            "metadata": {"uid": self.leases.uid, "annotations": {RELEASE: how.as_str()}},
        });
        loop {
            let why = match timeout(ANSWER_WITHIN, self.leases.patch(&patch)).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) => Error::of(format!("releasing {}", self.leases.name), &error),
                Err(_) => Error::Refused {
                    doing: format!("releasing {}", self.leases.name),
                    message: "there was no answer".to_owned(),
                },
            };
            if Instant::now() >= deadline {
                return Err(why);
            }
            sleep(LOOK).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let healed = |state| matches!(state, State::Healed | State::Refused);
        self.leases.wait(left, healed).await
    }

    /// Removes the Lease. What is not healed by then, the agents heal all the same.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn end(self) -> Result<(), Error> {
        self.renewing.abort();
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(self.leases.uid.clone()),
            resource_version: None,
        });
        match self.leases.api.delete(&self.leases.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(Error::of(format!("removing {}", self.leases.name), &error)),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}
