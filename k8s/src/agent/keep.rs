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
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::fault::Bench;
use super::guard::Own;
use super::locate::Tree;
use super::protocol::{self, FAULT, Release, Report, State, renewed};
use super::task::{ANSWER_WITHIN, Agent, PAUSE, Update};
use super::undo::{Journal, Record};
use crate::Error;
use crate::cluster::Cluster;
use crate::error::causes;

/// How long it may take to reach the API server.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);
/// What is said of faults that an agent before this one has left.
const RESTARTED: &str = "healed: the agent was started again";
/// Between two signs of life.
const LOOK: Duration = Duration::from_secs(1);
/// A watch is begun anew after so long.
const WATCH_S: u32 = 60;
/// How long healing may take when the agent ends: less than the kubelet waits for it.
const END_WITHIN: Duration = Duration::from_secs(25);

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

/// What is to become of a Lease.
enum Known {
    /// Nothing.
    Ignored,
    /// It may be an orphan; obeyed when it is renewed.
    Waiting(Option<String>),
    /// Its task is told.
    Kept(watch::Sender<Update>),
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
    let mut left: Vec<&(String, Record)> = left.iter().collect();
    // Nothing new is done before the old is undone.
    while !left.is_empty() {
        let mut stays = Vec::new();
        for one in left {
            let (uid, record) = one;
            match undo_all(bench, &record.undo).await {
                Ok(()) => {
                    let _ = bench.journal.forget(uid);
                    tracing::warn!(lease = record.lease, "{RESTARTED}");
                }
                // One may have to wait for another: a program that is stopped does not look at its
                // clock.
                Err(error) => {
                    tracing::error!(lease = record.lease, "what was left is not undone: {error}");
                    stays.push(one);
                }
            }
            let _ = bench.journal.alive();
        }
        if !stays.is_empty() {
            sleep(PAUSE).await;
        }
        left = stays;
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
