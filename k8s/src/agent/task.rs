//! One fault from its order to the end of its Lease.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Volume};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::fault::{Bench, Fault, Local};
use super::guard::{self, Own};
use super::protocol::{DURATION_S, Order, Release, Report, State, Target, proof_key, renewed};
use crate::cluster::Cluster;
use crate::error::{causes, is_missing};

/// How long one request may take: an agent must not wait longer than its faults may stand.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// How long a report is tried to be delivered.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at the time.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks whether a fault still stands.
const LOOK: Duration = Duration::from_secs(1);
/// The bounds of what a Lease may say of its duration.
const DURATION: std::ops::RangeInclusive<i32> = 2..=60;

/// What is known of a Lease by now.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub renewed: Option<String>,
    /// When that was last seen to change.
    pub seen: Instant,
    duration: Duration,
    pub release: Option<Release>,
    /// The Lease was deleted.
    pub gone: bool,
    /// The agent is to end.
    pub ending: bool,
}

/// Why a fault is to be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Asked(Release),
    Gone,
    Lapsed,
    Ending,
}

impl Update {
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let seconds = seconds
            .unwrap_or(DURATION_S)
            .clamp(*DURATION.start(), *DURATION.end());
        Self {
            renewed: renewed(lease),
            seen: Instant::now(),
            duration: Duration::from_secs(seconds.unsigned_abs().into()),
            release: Release::of(lease),
            gone: false,
            ending: false,
        }
    }

    fn over(&self) -> Option<Over> {
        if let Some(release) = self.release {
            Some(Over::Asked(release))
        } else if self.gone {
            Some(Over::Gone)
        } else if self.seen.elapsed() > self.duration {
            Some(Over::Lapsed)
        } else if self.ending {
            Some(Over::Ending)
        } else {
            None
        }
    }
}

/// Waits until a fault is over.
async fn over(updates: &mut watch::Receiver<Update>) -> Over {
    loop {
        if let Some(over) = updates.borrow_and_update().over() {
            return over;
        }
        // If the sender is gone, the time is still told.
        let _ = timeout(TICK, updates.changed()).await;
        if updates.has_changed().is_err() {
            sleep(TICK).await;
        }
    }
}

/// An agent, as its tasks share it.
pub(super) struct Agent {
    pub cluster: Cluster,
    pub own: Own,
    pub bench: Arc<Bench>,
}

impl Agent {
    /// Writes what was seen into the Lease; whether it is there now.
    pub async fn report(&self, namespace: &str, lease: &str, uid: &str, report: &Report) -> bool {
        let leases = Api::<Lease>::namespaced(self.cluster.client.clone(), namespace);
        let text = serde_json::to_string(report).unwrap_or_default();
        // With its uid, so that another Lease of the same name is left alone.
        let patch =
            json!({"metadata": {"uid": uid, "annotations": {proof_key(&self.own.node): text}}});
        let until = Instant::now() + DELIVER_WITHIN;
        loop {
            let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let patching = leases.patch(lease, &params, &patch);
            let why = match timeout(ANSWER_WITHIN, patching).await {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) if is_missing(&error) => return false,
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    tracing::error!(
                        "the agent may not patch leases in namespace {namespace}; `quorate k8s agent up --namespace {namespace}` lets it"
                    );
                    return false;
                }
                Ok(Err(error)) => causes(&error),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() >= until {
                tracing::warn!(lease, "what was seen cannot be reported: {why}");
                return false;
            }
            sleep(PAUSE).await;
        }
    }

    /// The pods of an order that are on this node, if all of them may be hurt.
    async fn locals(&self, namespace: &str, order: &Order) -> Result<Vec<Local>, String> {
        let client = || self.cluster.client.clone();
        let own = &self.own.node;
        let nodes = Api::<Node>::all(client());
        let node = answered(nodes.get(own), "the node").await?;
        let namespaces = Api::<Namespace>::all(client());
        let found = answered(namespaces.get(namespace), "the namespace").await?;
        let pods = Api::<Pod>::namespaced(client(), namespace);
        let mut locals = Vec::new();
        for target in order.pods.iter().filter(|pod| pod.on == *own) {
            let pod = answered(pods.get(&target.pod), &format!("pod {}", target.pod)).await?;
            guard::check(&self.own, &node, &found, &pod, target)?;
            let id = container_id(&pod, target).ok_or_else(|| {
                format!(
                    "pod {} has no running container {}",
                    target.pod, target.container
                )
            })?;
            locals.push(Local {
                target: target.clone(),
                id,
                data: data_of(&pod, &target.container),
            });
        }
        Ok(locals)
    }

    /// One fault from its order to the end of its Lease.
    pub async fn keep(
        self: &Arc<Self>,
        namespace: &str,
        lease: &str,
        uid: &str,
        order: Order,
        mut updates: watch::Receiver<Update>,
    ) {
        let say = async |report: Report| {
            tracing::info!(lease, state = ?report.state, "{}", report.text);
            self.report(namespace, lease, uid, &report).await
        };
        // An agent that may not write does nothing, and one that is started again knows that this
        // was begun.
        if !say(Report::new(State::Taken, "")).await {
            return;
        }
        let locals = match self.locals(namespace, &order).await {
            Ok(locals) => locals,
            Err(why) => {
                say(Report::new(State::Refused, why)).await;
                return;
            }
        };
        let fault = Fault::new(uid, namespace, lease, order, locals);
        let stop = Arc::new(AtomicBool::new(false));
        let (agent, stopped) = (Arc::clone(self), Arc::clone(&stop));
        let mut injecting = spawn_blocking(move || {
            let mut fault = fault;
            let report = fault.inject(&agent.bench, &stopped);
            (fault, report)
        });
        let mut early = None;
        let injected = tokio::select! {
            injected = &mut injecting => injected,
            why = over(&mut updates) => {
                early = Some(why);
                stop.store(true, Ordering::SeqCst);
                injecting.await
            }
        };
        let Ok((mut fault, report)) = injected else {
            // It panicked; what it wrote down is undone by the next agent.
            tracing::error!(
                lease,
                "injecting has failed; the agent ends so that it is healed"
            );
            std::process::exit(1);
        };
        let seen = report.state == State::Seen;
        let mut faded = false;
        let why = match early {
            Some(why) => why,
            None => {
                say(report).await;
                loop {
                    match timeout(LOOK, over(&mut updates)).await {
                        Ok(why) => break why,
                        Err(_) if faded || !seen => {}
                        Err(_) => {
                            let (looked, gone);
                            (fault, gone) = self
                                .blocking(fault, |fault, bench| fault.faded(bench))
                                .await;
                            looked = gone;
                            if let Some(why) = looked {
                                faded = true;
                                say(Report::new(State::Faded, why)).await;
                            }
                        }
                    }
                }
            }
        };
        let release = match why {
            Over::Asked(release) => Some(release),
            _ => None,
        };
        let mut told = false;
        let healed = loop {
            let healed;
            // Nobody reads the proof when the Lease is gone.
            let release = release.filter(|_| !updates.borrow().gone);
            (fault, healed) = self
                .blocking(fault, move |fault, bench| fault.heal(bench, release))
                .await;
            if healed.state == State::Healed {
                break healed.text;
            }
            if !told {
                told = say(healed).await;
            }
            if updates.borrow().gone {
                told = true;
            }
            sleep(PAUSE).await;
        };
        let report = match why {
            Over::Asked(_) | Over::Gone => Report::new(State::Healed, healed),
            Over::Lapsed => Report::new(
                State::Faded,
                format!("healed: its owner gave no sign of life ({healed})"),
            ),
            Over::Ending => Report::new(
                State::Faded,
                format!("healed: the agent was told to end ({healed})"),
            ),
        };
        say(report).await;
        if why == Over::Lapsed {
            // An owner that comes back asks for healing, and is to be told that it is done.
            loop {
                let (release, gone, ending) = {
                    let update = updates.borrow_and_update();
                    (update.release, update.gone, update.ending)
                };
                if release.is_some() {
                    say(Report::new(State::Healed, "it was healed before")).await;
                }
                if release.is_some() || gone || ending || updates.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Does something to a fault that blocks.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        mut fault: Fault,
        what: impl FnOnce(&mut Fault, &Bench) -> T + Send + 'static,
    ) -> (Fault, T) {
        let agent = Arc::clone(self);
        let done = spawn_blocking(move || {
            let result = what(&mut fault, &agent.bench);
            (fault, result)
        });
        match done.await {
            Ok(done) => done,
            Err(error) => {
                // What it wrote down is undone by the next agent.
                tracing::error!(
                    "a fault cannot be kept: {error}; the agent ends so that it is healed"
                );
                std::process::exit(1);
            }
        }
    }
}

/// What the server says, in time.
async fn answered<T>(
    asking: impl Future<Output = kube::Result<T>>,
    what: &str,
) -> Result<T, String> {
    match timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if is_missing(&error) => Err(format!("{what} does not exist")),
        Ok(Err(error)) => Err(format!("looking at {what}: {}", causes(&error))),
        Err(_) => Err(format!("looking at {what}: no answer from the API server")),
    }
}

/// Where a container has its data: the first of its volumes that outlives the pod, else the first that
/// it may write to, else its own root.
fn data_of(pod: &Pod, container: &str) -> PathBuf {
    let spec = pod.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice());
    let volumes = spec.and_then(|spec| spec.volumes.as_deref());
    let mut containers = containers.unwrap_or_default().iter();
    let found = containers.find(|it| it.name == container);
    let mounts = found.and_then(|it| it.volume_mounts.as_deref());
    let on = |is: fn(&Volume) -> bool| {
        let mut mounts = mounts.unwrap_or_default().iter();
        let named = |name: &str| {
            let mut volumes = volumes.unwrap_or_default().iter();
            volumes.any(|volume| volume.name == name && is(volume))
        };
        let found = mounts.find(|mount| mount.read_only != Some(true) && named(&mount.name));
        found.map(|mount| PathBuf::from(&mount.mount_path))
    };
    on(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some())
        .or_else(|| on(|volume| volume.empty_dir.is_some() || volume.host_path.is_some()))
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// The id of the target's container, if it runs.
fn container_id(pod: &Pod, target: &Target) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses
        .iter()
        .find(|status| status.name == target.container)?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.clone()
}
