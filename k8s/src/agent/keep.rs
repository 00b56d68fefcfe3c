//! The agent itself: follows the Leases of the whole cluster, and keeps one task for each fault
//! that is about a pod of its own node.
//!
//! **When a fault lapses** is judged by this program's own monotonic clock alone: a Lease whose
//! `renewTime` has not been seen to change for its duration has lapsed. The clocks of harness and
//! node are never compared. So an agent that cannot reach the API server heals, too. And a Lease
//! that was there already when it was first seen, and may be an orphan, is obeyed only once it is
//! seen to be renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::fault::{Bench, Fault, Local};
use super::guard::{self, Own};
use super::locate::Tree;
use super::protocol::{
    self, DURATION_S, FAULT, Order, Release, Report, State, Target, proof_key, renewed,
};
use super::undo::{Journal, Record};
use crate::Error;
use crate::cluster::Cluster;
use crate::error::{causes, is_missing};

/// How long one request may take: an agent must not wait longer than its faults may stand.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long a report is tried to be delivered.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to reach the API server.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);
/// What is said of faults that an agent before this one has left.
const RESTARTED: &str = "healed: the agent was started again";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at the time.
const TICK: Duration = Duration::from_millis(200);
/// Between two looks whether a fault still stands.
const LOOK: Duration = Duration::from_secs(1);
/// A watch is begun anew after so long.
const WATCH_S: u32 = 60;
/// How long healing may take when the agent ends: less than the kubelet waits for it.
const END_WITHIN: Duration = Duration::from_secs(25);
/// The bounds of what a Lease may say of its duration.
const DURATION: std::ops::RangeInclusive<i32> = 2..=60;

/// Where an agent runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its Kubernetes node.
    pub node: String,
    /// The uid of its own pod.
    pub uid: String,
    /// Where the host's control groups are mounted.
    pub cgroups: std::path::PathBuf,
    /// Its state folder.
    pub state: std::path::PathBuf,
}

/// What is known of a Lease by now.
#[derive(Clone, Debug)]
struct Update {
    renewed: Option<String>,
    /// When that was last seen to change.
    seen: Instant,
    duration: Duration,
    release: Option<Release>,
    /// The Lease was deleted.
    gone: bool,
    /// The agent is to end.
    ending: bool,
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
    fn of(lease: &Lease) -> Self {
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

/// What is to become of a Lease.
enum Known {
    /// Nothing.
    Ignored,
    /// It may be an orphan; obeyed when it is renewed.
    Waiting(Option<String>),
    /// Its task is told.
    Kept(watch::Sender<Update>),
}

struct Agent {
    cluster: Cluster,
    own: Own,
    bench: Arc<Bench>,
}

/// Serves until `end` resolves; then heals everything and returns.
///
/// # Errors
/// If the state folder cannot be used.
pub async fn run(options: &Options, end: impl Future<Output = ()>) -> Result<(), Error> {
    let doing = |source| Error::Io {
        doing: "the agent's state folder cannot be used".to_owned(),
        source,
    };
    let journal = Journal::open(&options.state).map_err(doing)?;
    let left = journal.all().map_err(doing)?;
    let bench = Arc::new(Bench::new(Tree::at(&options.cgroups), journal));
    // Before anything is asked of the API server, which may be away.
    recover(&bench, &left).await;
    let mut tasks = JoinSet::new();
    let mut known = BTreeMap::new();
    tokio::select! {
        () = serve(options, &bench, &left, &mut known, &mut tasks) => {}
        () = end => {}
    }
    for known in known.values() {
        if let Known::Kept(updates) = known {
            updates.send_modify(|update| update.ending = true);
        }
    }
    let healed = async { while tasks.join_next().await.is_some() {} };
    if timeout(END_WITHIN, healed).await.is_err() {
        tracing::error!("not everything is healed; the next agent on this node goes on with it");
    }
    Ok(())
}

/// Says what was recovered, then follows the Leases; ends never.
async fn serve(
    options: &Options,
    bench: &Arc<Bench>,
    left: &[(String, Record)],
    known: &mut BTreeMap<String, Known>,
    tasks: &mut JoinSet<()>,
) {
    let cluster = loop {
        let _ = bench.journal.alive();
        match timeout(CONNECT_WITHIN, Cluster::connect()).await {
            Ok(Ok(cluster)) => break cluster,
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(_) => tracing::warn!("the API server gives no answer in {CONNECT_WITHIN:?}"),
        }
        sleep(PAUSE).await;
    };
    let agent = Arc::new(Agent {
        cluster,
        own: Own {
            node: options.node.clone(),
            uid: options.uid.clone(),
        },
        bench: Arc::clone(bench),
    });
    for (uid, record) in left {
        let report = Report::new(State::Faded, RESTARTED);
        agent
            .report(&record.namespace, &record.lease, uid, &report)
            .await;
    }
    tracing::info!(node = options.node, "the agent serves");
    follow(&agent, known, tasks).await;
}

/// Undoes what an agent before this one has left.
async fn recover(bench: &Arc<Bench>, left: &[(String, Record)]) {
    for (uid, record) in left {
        // Nothing new is done before the old is undone.
        while let Err(error) = undo_all(bench, &record.undo).await {
            tracing::error!(lease = record.lease, "what was left is not undone: {error}");
            let _ = bench.journal.alive();
            sleep(PAUSE).await;
        }
        let _ = bench.journal.forget(uid);
        tracing::warn!(lease = record.lease, "{RESTARTED}");
    }
}

async fn undo_all(bench: &Arc<Bench>, undo: &[super::undo::Undo]) -> Result<(), String> {
    let (bench, undo) = (Arc::clone(bench), undo.to_vec());
    let work = move || {
        let mut last_first = undo.iter().rev();
        last_first.try_for_each(|undo| {
            let undone = undo.carry_out(&bench.tree);
            undone.map_err(|error| format!("{undo}: {error}"))
        })
    };
    spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

/// Follows all Leases with a fault; ends never.
async fn follow(agent: &Arc<Agent>, known: &mut BTreeMap<String, Known>, tasks: &mut JoinSet<()>) {
    let leases = Api::<Lease>::all(agent.cluster.client.clone());
    let mut said = String::new();
    loop {
        let _ = agent.bench.journal.alive();
        let why = match follow_once(agent, &leases, known, tasks).await {
            Ok(()) => String::new(),
            Err(why) => why,
        };
        if why != said && !why.is_empty() {
            tracing::warn!("the API server: {why}");
        }
        if !why.is_empty() {
            sleep(PAUSE).await;
        }
        said = why;
    }
}

/// Lists them, then watches until the watch ends.
async fn follow_once(
    agent: &Arc<Agent>,
    leases: &Api<Lease>,
    known: &mut BTreeMap<String, Known>,
    tasks: &mut JoinSet<()>,
) -> Result<(), String> {
    let ours = ListParams::default().labels(FAULT);
    let listing = leases.list(&ours);
    let listed = timeout(ANSWER_WITHIN, listing)
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| causes(&error))?;
    let there: BTreeSet<String> = listed.items.iter().map(uid_of).collect();
    let gone: Vec<String> = known
        .keys()
        .filter(|uid| !there.contains(*uid))
        .cloned()
        .collect();
    for uid in gone {
        forget(known, &uid);
    }
    for lease in &listed.items {
        see(agent, known, tasks, lease, false).await;
    }
    let version = listed.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().labels(FAULT).timeout(WATCH_S);
    let watching = timeout(ANSWER_WITHIN, leases.watch(&params, &version));
    let stream = watching
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| causes(&error))?;
    let mut stream = pin!(stream);
    let until = Instant::now() + Duration::from_secs(u64::from(WATCH_S) + 5);
    while Instant::now() < until {
        let _ = agent.bench.journal.alive();
        while tasks.try_join_next().is_some() {}
        let Ok(event) = timeout(LOOK, stream.next()).await else {
            continue;
        };
        match event {
            None => return Ok(()),
            Some(Ok(WatchEvent::Added(lease))) => see(agent, known, tasks, &lease, true).await,
            Some(Ok(WatchEvent::Modified(lease))) => see(agent, known, tasks, &lease, false).await,
            Some(Ok(WatchEvent::Deleted(lease))) => forget(known, &uid_of(&lease)),
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            Some(Ok(WatchEvent::Error(status))) => return Err(status.message.clone()),
            Some(Err(error)) => return Err(causes(&error)),
        }
    }
    Ok(())
}

fn uid_of(lease: &Lease) -> String {
    lease.metadata.uid.clone().unwrap_or_default()
}

fn forget(known: &mut BTreeMap<String, Known>, uid: &str) {
    if let Some(Known::Kept(updates)) = known.remove(uid) {
        updates.send_modify(|update| update.gone = true);
    }
}

/// Takes in what a Lease is like now. `fresh` is one that was made while it was watched for.
async fn see(
    agent: &Arc<Agent>,
    known: &mut BTreeMap<String, Known>,
    tasks: &mut JoinSet<()>,
    lease: &Lease,
    fresh: bool,
) {
    let uid = uid_of(lease);
    match known.get(&uid) {
        Some(Known::Kept(updates)) => {
            updates.send_modify(|update| {
                let new = Update::of(lease);
                if new.renewed != update.renewed {
                    (update.renewed, update.seen) = (new.renewed, new.seen);
                }
                update.release = update.release.or(new.release);
            });
            return;
        }
        Some(Known::Waiting(before))
            if *before == renewed(lease) && Release::of(lease).is_none() =>
        {
            return;
        }
        Some(Known::Ignored) if Release::of(lease).is_none() => return,
        _ => {}
    }
    let sure = fresh || matches!(known.get(&uid), Some(Known::Waiting(_)));
    let next = consider(agent, tasks, lease, sure).await;
    known.insert(uid, next);
}

/// Decides what is to become of a Lease that no task keeps.
async fn consider(agent: &Arc<Agent>, tasks: &mut JoinSet<()>, lease: &Lease, sure: bool) -> Known {
    let name = lease.metadata.name.clone().unwrap_or_default();
    let namespace = lease.metadata.namespace.clone().unwrap_or_default();
    let uid = uid_of(lease);
    let said = protocol::report(lease, &agent.own.node);
    let order = protocol::order(lease);
    let concerned = match &order {
        Ok(order) => order.pods.iter().any(|pod| pod.on == agent.own.node),
        // Nobody knows whom it is about: every agent says so.
        Err(_) => true,
    };
    if !concerned {
        return Known::Ignored;
    }
    let answer = |report: Report| async move {
        if said_already(lease, &agent.own.node, &report) {
            return Known::Ignored;
        }
        agent.report(&namespace, &name, &uid, &report).await;
        Known::Ignored
    };
    let order = match order {
        Ok(order) => order,
        Err(why) => return answer(Report::new(State::Refused, why)).await,
    };
    if Release::of(lease).is_some() {
        return match said {
            Some(said) if matches!(said.state, State::Healed | State::Refused) => Known::Ignored,
            _ => answer(Report::new(State::Healed, "nothing of it stands here")).await,
        };
    }
    match said {
        None if sure => {
            let (sender, receiver) = watch::channel(Update::of(lease));
            let agent = Arc::clone(agent);
            let (namespace, name, uid) = (
                lease.metadata.namespace.clone().unwrap_or_default(),
                lease.metadata.name.clone().unwrap_or_default(),
                uid_of(lease),
            );
            tasks.spawn(async move {
                agent.keep(&namespace, &name, &uid, order, receiver).await;
            });
            Known::Kept(sender)
        }
        None => Known::Waiting(renewed(lease)),
        // What an agent before this one has begun, it or this one has undone by now.
        Some(said)
            if matches!(
                said.state,
                State::Taken | State::Seen | State::NotSeen | State::NotHealed
            ) =>
        {
            answer(Report::new(State::Faded, RESTARTED)).await
        }
        Some(_) => Known::Ignored,
    }
}

fn said_already(lease: &Lease, node: &str, report: &Report) -> bool {
    protocol::report(lease, node).as_ref() == Some(report)
}

impl Agent {
    /// Writes what was seen into the Lease; whether it is there now.
    async fn report(&self, namespace: &str, lease: &str, uid: &str, report: &Report) -> bool {
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
            });
        }
        Ok(locals)
    }

    /// One fault from its order to the end of its Lease.
    async fn keep(
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

/// The id of the target's container, if it runs.
fn container_id(pod: &Pod, target: &Target) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses
        .iter()
        .find(|status| status.name == target.container)?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.clone()
}
