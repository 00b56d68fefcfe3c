//! One leader of several operators, by a Lease.
//!
//! Whether a leader is gone is judged by our own monotonic clock, since we last saw its Lease
//! change: what its clock says takes no part. A leader that cannot renew its Lease must stop before
//! another may take it, so it stops earlier than others wait.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::Error;
use crate::cluster::Cluster;

/// How long others wait for a sign of life.
const LAPSES: Duration = Duration::from_secs(15);
/// How often the leader gives one.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// After how long without an answer to it the leader stops.
const STOP_AFTER: Duration = Duration::from_secs(10);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two looks of those who wait.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A claim to be the leader.
#[derive(Clone, Debug)]
pub struct Claim {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

impl Claim {
    /// To the Lease of this name, as somebody whose name nobody else has.
    pub fn new(cluster: &Cluster, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(cluster.client.clone(), namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
        }
    }

    /// Waits until the Lease is ours.
    ///
    /// # Errors
    /// If the server refuses; that it is away is waited out.
    pub async fn acquire(&self) -> Result<(), Error> {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match timeout(ATTEMPT, self.leases.get_opt(&self.name)).await {
                Ok(Ok(None)) => {
                    if self.create().await? {
                        return Ok(());
                    }
                }
                Ok(Ok(Some(lease))) => {
                    let version = lease.metadata.resource_version.clone().unwrap_or_default();
                    let since = match &seen {
                        Some((known, since)) if *known == version => *since,
                        _ => Instant::now(),
                    };
                    seen = Some((version, since));
                    let free = holder(&lease).is_none_or(|holder| holder == self.identity);
                    if (free || since.elapsed() >= LAPSES) && self.take(lease).await? {
                        return Ok(());
                    }
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    return Err(Error::Refused {
                        doing: format!("looking at Lease {}", self.name),
                        message: status.message.clone(),
                    });
                }
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Keeps the Lease for as long as that can be done; ends when it is somebody else's, or may
    /// soon be. Why.
    pub async fn keep(&self) -> String {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW_EVERY).await;
            let attempt = timeout(ATTEMPT, async {
                let lease = self.leases.get(&self.name).await?;
                if holder(&lease) != Some(self.identity.as_str()) {
                    return Ok(false);
                }
                self.leases
                    .replace(&self.name, &PostParams::default(), &self.renewed(lease))
                    .await
                    .map(|_| true)
            });
            let began = Instant::now();
            match attempt.await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return "another operator leads".to_owned(),
                Ok(Err(_)) | Err(_) => {}
            }
            if renewed.elapsed() >= STOP_AFTER {
                return "the Lease could not be renewed".to_owned();
            }
        }
    }

    /// Gives the Lease back, so that nobody has to wait.
    pub async fn release(&self) {
        let given = timeout(ATTEMPT, async {
            let mut lease = self.leases.get(&self.name).await?;
            if holder(&lease) == Some(self.identity.as_str())
                && let Some(spec) = &mut lease.spec
            {
                spec.holder_identity = None;
                self.leases
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, kube::Error>(())
        });
        // Where it fails others wait until it lapses.
        let _ = given.await;
    }

    async fn create(&self) -> Result<bool, Error> {
        let empty = json!({"metadata": {"name": self.name}});
        let lease: Lease = serde_json::from_value(empty).map_err(|error| Error::Refused {
            doing: "writing a Lease".to_owned(),
            message: error.to_string(),
        })?;
        let lease = self.renewed(lease);
        self.settled(self.leases.create(&PostParams::default(), &lease).await)
    }

    async fn take(&self, lease: Lease) -> Result<bool, Error> {
        // With its version: of two who try, one succeeds.
        let lease = self.renewed(lease);
        self.settled(
            self.leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await,
        )
    }

    fn settled(&self, result: Result<Lease, kube::Error>) -> Result<bool, Error> {
        match result {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 403 => Err(Error::Refused {
                doing: format!("taking Lease {}", self.name),
                message: status.message.clone(),
            }),
            Err(_) => Ok(false),
        }
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(LAPSES.as_secs() as i32);
        spec.renew_time = Some(now);
        lease
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}
