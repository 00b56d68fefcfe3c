//! Which agents there are, and what was ordered of them.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::protocol::{FAULT, Report, order, report};
use crate::Error;
use crate::cluster::Cluster;
use crate::names::{AGENT, AGENT_NAMESPACE, APP_LABEL};

/// An agent, as the API server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its pod.
    pub pod: String,
    /// Its Kubernetes node.
    pub on: String,
    /// What it runs.
    pub image: String,
    /// Whether it serves.
    pub ready: bool,
    /// How often its container was started anew.
    pub restarts: i32,
    /// Why it does not run.
    pub trouble: Option<String>,
}

/// All agents, ordered by node.
///
/// # Errors
/// If they cannot be listed.
pub async fn agents(cluster: &Cluster) -> Result<Vec<Agent>, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), AGENT_NAMESPACE);
    let ours = ListParams::default().labels(&format!("{APP_LABEL}={AGENT}"));
    let found = pods.list(&ours).await;
    let found = found.map_err(|error| Error::of("listing the agents", &error))?;
    let mut agents: Vec<Agent> = found.items.into_iter().map(agent).collect();
    agents.sort_by(|a, b| (&a.on, &a.pod).cmp(&(&b.on, &b.pod)));
    Ok(agents)
}

fn agent(pod: Pod) -> Agent {
    let spec = pod.spec.unwrap_or_default();
    let statuses = pod.status.and_then(|status| status.container_statuses);
    let status = statuses.and_then(|all| all.into_iter().next());
    let waiting = status.as_ref().and_then(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        Some(match &waiting.message {
            Some(message) => format!("{reason}: {message}"),
            None => reason,
        })
    });
    Agent {
        pod: pod.metadata.name.unwrap_or_default(),
        on: spec.node_name.unwrap_or_default(),
        image: spec
            .containers
            .into_iter()
            .next()
            .and_then(|c| c.image)
            .unwrap_or_default(),
        ready: status.as_ref().is_some_and(|status| status.ready),
        restarts: status.map_or(0, |status| status.restart_count),
        trouble: waiting,
    }
}

/// A fault that somebody has ordered, and what the agents say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Where.
    pub namespace: String,
    /// The name of its Lease.
    pub lease: String,
    /// What was ordered, and what each node's agent last said.
    pub said: Vec<(String, Option<Report>)>,
}

/// All faults that have a Lease.
///
/// # Errors
/// If they cannot be listed.
pub async fn ordered(cluster: &Cluster) -> Result<Vec<Ordered>, Error> {
    let leases = Api::<Lease>::all(cluster.client.clone());
    let found = leases.list(&ListParams::default().labels(FAULT)).await;
    let found = found.map_err(|error| Error::of("listing leases", &error))?;
    let of = |lease: Lease| {
        let mut nodes: Vec<String> = order(&lease)
            .map(|order| order.pods.into_iter().map(|pod| pod.on).collect())
            .unwrap_or_default();
        nodes.sort();
        nodes.dedup();
        Ordered {
            said: nodes
                .into_iter()
                .map(|node| {
                    let said = report(&lease, &node);
                    (node, said)
                })
                .collect(),
            namespace: lease.metadata.namespace.unwrap_or_default(),
            lease: lease.metadata.name.unwrap_or_default(),
        }
    };
    Ok(found.items.into_iter().map(of).collect())
}
