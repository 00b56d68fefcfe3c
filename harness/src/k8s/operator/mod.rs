//! The operator: has a Job made for every `ConsistencyTest` and `Scorecard` whose time has come, and
//! writes down what it came to.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`spec`] | what a resource asks for, or why it is refused |
//! | `reconcile` | from what is seen to what is done; the decision itself is [`k8s::phase`] |
//! | `roles` | keeps the labels of roles |

mod reconcile;
mod roles;
pub mod spec;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use k8s::Cluster;
use k8s::crd::{ConsistencyTest, Scorecard};
use k8s::job::RUN_APP;
use k8s::leader::Claim;
use k8s::names::APP_LABEL;
use k8s::operator::NAME;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Error as ControllerError;
use kube::runtime::{Controller, watcher};
use std::sync::Arc;

use reconcile::{Failure, Served, Shared, reconcile};

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What an operator serves, and who it is.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Only this namespace; all if absent.
    pub namespace: Option<String>,
    /// Where its Lease is.
    pub home: String,
    /// A name that no other operator has.
    pub identity: String,
}

impl Operator {
    /// Waits until it is the leader, and serves until it is asked to end.
    ///
    /// # Errors
    /// If the resources are not defined, rights are missing, or it is the leader no more.
    pub async fn run(&self, cluster: Cluster) -> Result<()> {
        self.defined(&cluster).await?;
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let claim = Claim::new(&cluster, &self.home, NAME, &self.identity);
        tracing::info!("{} waits until it is the leader", self.identity);
        tokio::select! {
            leads = claim.acquire() => leads?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
        tracing::info!("{} leads", self.identity);
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
        });
        tokio::select! {
            () = self.control::<ConsistencyTest>(&shared) => {}
            () = self.control::<Scorecard>(&shared) => {}
            () = roles::keep(&cluster, self.namespace.as_deref()) => {}
            why = claim.keep() => {
                // What is half-done is in the objects, and the next leader goes on with it.
                bail!("{} leads no more: {why}", self.identity);
            }
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        claim.release().await;
        tracing::info!("{} has ended; runs under way go on", self.identity);
        Ok(())
    }

    fn api<K>(&self, cluster: &Cluster) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
            None => Api::all(cluster.client.clone()),
        }
    }

    async fn defined(&self, cluster: &Cluster) -> Result<()> {
        let one = ListParams::default().limit(1);
        match self.api::<ConsistencyTest>(cluster).list(&one).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => bail!(
                "this cluster does not know ConsistencyTests; `kubectl apply -k k8s/manifests/crd` \
                 makes it"
            ),
            Err(error) => Err(error).context("cannot look at ConsistencyTests"),
        }
    }

    async fn control<K: Served>(&self, shared: &Arc<Shared>) {
        let of_runs = watcher::Config::default().labels(&format!("{APP_LABEL}={RUN_APP}"));
        let resources = self.api::<K>(&shared.cluster);
        let jobs = self.api::<Job>(&shared.cluster);
        Controller::new(resources, watcher::Config::default())
            .owns(jobs, of_runs)
            .run(
                reconcile::<K>,
                |_, error: &Failure, _| {
                    tracing::warn!("{error}; tried again in {} s", RETRY.as_secs());
                    kube::runtime::controller::Action::requeue(RETRY)
                },
                Arc::clone(shared),
            )
            .for_each(|result| async {
                // What reconciling ran into was said above.
                if let Err(error) = result
                    && let ControllerError::QueueError(error) = error
                {
                    tracing::warn!("the watch was dropped and is taken up again: {error}");
                }
            })
            .await;
    }
}
