//! Faults that agents on the nodes of the cluster carry out: `k8s::agent`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use k8s::agent::order::{HURT, Reports, Standing, give, own_pod};
use k8s::agent::protocol::{Order, Path, Release, State, Target, VERSION, What};
use k8s::{Cluster, Error, Member};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::Api;
use nemesis::{Action, ClockFault, Endpoint, Link, Node, Proof};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::found;
use crate::k8s::substrate::Inner;
use crate::local::clock::shown::{Ahead, Shown};
use crate::substrate::Happening;

/// How long agents may take to answer at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long they may take to do something and prove it.
const PROVE_WITHIN: Duration = Duration::from_secs(25);
/// How long they may take to undo it and prove that; a node that lost power is not waited for.
const HEAL_WITHIN: Duration = Duration::from_secs(25);
/// How long a healed pod may take to answer clients again: a container that was ended again and
/// again is started late.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// How long one answer may take.
const REPLY_WITHIN: Duration = Duration::from_secs(2);
/// How long a node may take to say what its clock shows.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// The agents, as one run speaks to them.
#[derive(Debug)]
pub(in crate::k8s) struct Agents {
    /// The reference to the run's store: its end takes Leases along.
    owner: Option<Value>,
    /// The pod that the clients are in, if they are in the cluster.
    clients: Option<Target>,
    /// The orders that stand, by fault.
    orders: Mutex<BTreeMap<u32, Given>>,
}

/// An order that stands.
#[derive(Debug)]
struct Given {
    standing: Standing,
    proven: bool,
    /// What nodes that say it showed of their clocks before, if these are made wrong.
    clocks: BTreeMap<Node, Ahead>,
}

impl Agents {
    /// Finds out whether an agent is on every node that has a pod of the store, and may hurt it. The
    /// same of the pod that the clients are in, if their links are to be hurt; and whether the clocks
    /// of the nodes can be made wrong, if they are said to be such.
    ///
    /// # Errors
    /// If not, with the way out.
    pub async fn find(
        cluster: &Cluster,
        namespace: &str,
        (store, run): (&str, &str),
        members: &[Member],
        port: u16,
        client_links: bool,
        clocks: bool,
    ) -> Result<Self, Error> {
        cluster.may(namespace, HURT).await?;
        let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
        let uid = sets.get(store).await.ok().and_then(|set| set.metadata.uid);
        let owner = uid.map(|uid| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": store, "uid": uid}));
        let own = if client_links {
            own_pod(cluster).await?
        } else {
            None
        };
        let nodes = targets(members, |_| true);
        let mut pods = nodes.clone();
        pods.extend(own.clone());
        let mut checks = vec![("check", order(What::Check, pods, Vec::new(), port, None))];
        if clocks {
            let check = order(What::CheckClock, nodes, Vec::new(), port, None);
            checks.push(("check-clock", check));
        }
        for (name, check) in &checks {
            let standing = give(cluster, namespace, run, name, check, owner.clone()).await?;
            answered(standing, namespace).await?;
        }
        Ok(Self {
            owner,
            clients: own,
            orders: Mutex::default(),
        })
    }
}

/// Waits until all agents say that they can do what they were asked about.
async fn answered(standing: Standing, namespace: &str) -> Result<(), Error> {
    let mut reports = standing.proven(ANSWER_WITHIN).await;
    let busy = |reports: &Reports| {
        reports
            .values()
            .flatten()
            .any(|said| said.state == State::Taken)
    };
    if reports.as_ref().is_ok_and(busy) {
        // It is there, only slow.
        reports = standing.proven(PROVE_WITHIN).await;
    }
    let released = standing.release(Release::Alone, ANSWER_WITHIN).await;
    standing.end().await?;
    match seen(&reports?, State::Seen, namespace) {
        Ok(text) => tracing::debug!("{text}"),
        Err(why) => return Err(Error::NoAgent(why)),
    }
    released.map(drop)
}

/// Whether agents do this rather than the API server.
pub(in crate::k8s) fn does(inner: &Inner, action: &Action, via: Option<&str>) -> bool {
    match action {
        Action::Pause(_)
        | Action::Cut(_)
        | Action::Impair { .. }
        | Action::Cpu(..)
        | Action::Memory(..)
        | Action::ThrottleDisk(..)
        | Action::Clock(..) => true,
        // What a pod has in an emptyDir survives the end of its container, not its own.
        Action::Kill(_) => via == Some("container") || (via.is_none() && inner.data_ends_with_pod),
        _ => false,
    }
}

fn order(what: What, pods: Vec<Target>, links: Vec<Path>, port: u16, via: Option<&str>) -> Order {
    Order {
        version: VERSION,
        what,
        pods,
        links,
        port,
        via: via.map(str::to_owned),
    }
}

fn targets(members: &[Member], concerned: impl Fn(Node) -> bool) -> Vec<Target> {
    let concerned = members.iter().filter(|member| concerned(member.node));
    concerned
        .map(|member| Target {
            node: member.node,
            pod: member.pod.clone(),
            uid: member.uid.clone(),
            container: member.container.clone(),
            on: member.on.clone().unwrap_or_default(),
            ip: member.ip.as_deref().and_then(|ip| ip.parse().ok()),
        })
        .collect()
}

/// What an action asks of agents: what, of which nodes, over which links, by which mechanism of
/// those that there are.
#[allow(clippy::type_complexity)]
fn asked(action: &Action) -> Option<(What, Vec<Node>, &[Link], &'static [&'static str])> {
    Some(match action {
        Action::Kill(nodes) => (What::Kill, nodes.clone(), &[], &["container"]),
        Action::Pause(nodes) => (What::Pause, nodes.clone(), &[], &["freezer"]),
        Action::Cpu(nodes, percent) => (What::Cpu(*percent), nodes.clone(), &[], &["cgroup"]),
        Action::Memory(nodes, mib) => (What::Memory(*mib), nodes.clone(), &[], &["cgroup"]),
        Action::ThrottleDisk(nodes, kib_s) => {
            (What::ThrottleDisk(*kib_s), nodes.clone(), &[], &["cgroup"])
        }
        Action::Clock(nodes, fault) => (
            What::Clock((*fault).into()),
            nodes.clone(),
            &[],
            &["libfaketime"],
        ),
        Action::Cut(links) => (What::Cut, ends(links), links, &["nftables"]),
        Action::Impair { links, impairment } => (
            What::Impair((*impairment).into()),
            ends(links),
            links,
            &["nfqueue", "netem", "tbf"],
        ),
        _ => return None,
    })
}

fn ends(links: &[Link]) -> Vec<Node> {
    let ends = links.iter().flat_map(|link| [link.from, link.to]);
    let nodes: BTreeSet<Node> = ends
        .filter_map(|end| match end {
            Endpoint::Node(node) => Some(node),
            Endpoint::Clients => None,
        })
        .collect();
    nodes.into_iter().collect()
}

fn paths(links: &[Link]) -> Vec<Path> {
    let number = |end| match end {
        Endpoint::Node(node) => node,
        Endpoint::Clients => 0,
    };
    let path = |link: &Link| Path {
        from: number(link.from),
        to: number(link.to),
    };
    links.iter().map(path).collect()
}

/// All agents in this state, with what they said; or the first that is not.
fn seen(reports: &Reports, wanted: State, namespace: &str) -> Result<String, String> {
    let mut texts = Vec::new();
    for (node, report) in reports {
        match report {
            None => {
                return Err(format!(
                    "no agent on {node} answers for namespace {namespace}; `quorate k8s agent status` shows the agents, `quorate k8s agent up --allow {namespace}` starts them"
                ));
            }
            Some(report) if report.state == State::Taken => {
                return Err(format!("the agent on {node} is not done yet"));
            }
            Some(report) if report.state == wanted => {
                if !report.text.is_empty() {
                    texts.push(report.text.clone());
                }
            }
            Some(report) if wanted == State::Healed && report.state != State::NotHealed => {
                return Err(format!(
                    "the agent on {node} does not say that it has healed (its fault ends with the node, else some seconds after the last sign of life from here)"
                ));
            }
            Some(report) => return Err(format!("the agent on {node}: {}", report.text)),
        }
    }
    Ok(texts.join("; "))
}

/// Has the agents do it, and waits for their proofs.
pub(super) async fn inject(
    inner: &Arc<Inner>,
    id: u32,
    action: &Action,
    via: Option<&str>,
) -> Proof {
    match try_inject(inner, id, action, via).await {
        Ok(text) => Proof::Seen(text),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn try_inject(
    inner: &Arc<Inner>,
    id: u32,
    action: &Action,
    via: Option<&str>,
) -> Result<String, String> {
    let agents = inner
        .agents
        .as_ref()
        .ok_or("it takes an agent on each node, and this run was started without --agent")?;
    let (what, nodes, links, mechanisms) = asked(action).ok_or("agents do not know this fault")?;
    if let Some(via) = via
        && !mechanisms.contains(&via)
    {
        return Err(format!(
            "on Kubernetes this is done by {}, not by {via}",
            mechanisms.join(", ")
        ));
    }
    let members = found(inner).await.map_err(|error| error.to_string())?;
    let pods = targets(&members, |node| nodes.contains(&node));
    if let Some(node) = nodes
        .iter()
        .find(|node| pods.iter().all(|pod| pod.node != **node))
    {
        return Err(format!("n{node} has no pod"));
    }
    for pod in &pods {
        let Some(slot) = inner.slot(pod.node) else {
            return Err(format!("there is no n{}", pod.node));
        };
        if !what.is_of_links() {
            // Its container may be started anew, or its pod be replaced, because of this.
            slot.known().hurt_by.insert(id, pod.uid.clone());
        }
        if what == What::Kill {
            slot.down.store(true, SeqCst);
            tokio::spawn(comeback(
                Arc::clone(inner),
                pod.clone(),
                restarts(&members, pod.node),
            ));
        }
    }
    let mut pods = pods;
    if links.iter().any(|link| link.from == Endpoint::Clients) {
        pods.extend(agents.clients.clone());
    }
    let clocks = match action {
        Action::Clock(nodes, _) => clocks(inner, nodes).await?,
        _ => BTreeMap::new(),
    };
    let began = Instant::now();
    // Mechanisms that agents have one of need not be told them.
    let via = via.filter(|_| mechanisms.len() > 1);
    let order = order(what, pods, paths(links), inner.port, via);
    let fault = id.to_string();
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let standing = give(
        cluster,
        namespace,
        &inner.run,
        &fault,
        &order,
        agents.owner.clone(),
    )
    .await
    .map_err(|error| error.to_string())?;
    let reports = standing.proven(PROVE_WITHIN).await;
    let mut result = reports
        .map_err(|error| error.to_string())
        .and_then(|reports| seen(&reports, State::Seen, namespace));
    if let (Action::Clock(nodes, fault), Ok(text)) = (action, &result) {
        let shown = are_wrong(inner, nodes, &clocks, *fault, began).await;
        result = shown.map(|shown| format!("by libfaketime: {text}; {shown}"));
    }
    // Kept also if it was not proven: some agent may have done its part.
    let given = Given {
        standing,
        proven: result.is_ok(),
        clocks,
    };
    agents.orders.lock().await.insert(id, given);
    result
}

/// A node as one that shows its clock, if it does so.
fn shown(inner: &Inner, node: Node) -> Option<Shown<'_>> {
    let slot = inner.slot(node)?;
    inner.is_reference.then(|| Shown {
        http: &inner.http,
        address: slot.forward.address(),
        patience: SHOWN_WITHIN,
    })
}

/// What the clocks of these nodes are before anything is done to them, of nodes that say it.
async fn clocks(inner: &Inner, nodes: &[Node]) -> Result<BTreeMap<Node, Ahead>, String> {
    let mut all = BTreeMap::new();
    for &node in nodes {
        if let Some(shown) = shown(inner, node) {
            let ahead = shown.ahead().await;
            all.insert(
                node,
                ahead.map_err(|why| format!("the clock of n{node}: {why}"))?,
            );
        }
    }
    Ok(all)
}

/// Has the nodes show that their clocks are wrong, and says of which it cannot be known by themselves.
async fn are_wrong(
    inner: &Inner,
    nodes: &[Node],
    before: &BTreeMap<Node, Ahead>,
    fault: ClockFault,
    began: Instant,
) -> Result<String, String> {
    let mut texts = Vec::new();
    for &node in nodes {
        texts.push(match (shown(inner, node), before.get(&node)) {
            (Some(shown), Some(before)) => {
                let seen = shown.is_wrong(fault, *before, began).await;
                let text = seen.map_err(|why| format!("the clock of n{node} {why}"))?;
                format!("n{node} itself says that its clock {text}")
            }
            _ => format!("n{node} itself does not say what its clock shows"),
        });
    }
    Ok(texts.join("; "))
}

/// Has those nodes that do so show that their clocks are right again; one that another fault hurts
/// may say nothing.
async fn are_right(
    inner: &Inner,
    id: u32,
    before: &BTreeMap<Node, Ahead>,
    fault: ClockFault,
) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for (&node, &before) in before {
        if hurt_by_another(inner, id, node).is_some() {
            continue;
        }
        if let Some(shown) = shown(inner, node) {
            let seen = shown.is_right(fault, before).await;
            let text = seen.map_err(|why| format!("the clock of n{node}: {why}"))?;
            texts.push(format!("the clock of n{node} {text}"));
        }
    }
    Ok(texts)
}

fn restarts(members: &[Member], node: Node) -> u32 {
    let member = members.iter().find(|member| member.node == node);
    member.map_or(0, |member| member.restarts)
}

/// Waits until the node answers from a container that was started after the kill; from then on it
/// is asked again.
async fn comeback(inner: Arc<Inner>, pod: Target, before: u32) {
    let deadline = Instant::now() + BACK_WITHIN;
    while Instant::now() < deadline {
        sleep(PAUSE).await;
        let Ok(members) = found(&inner).await else {
            continue;
        };
        let again = members.iter().any(|member| {
            member.node == pod.node && (member.restarts > before || member.uid != pod.uid)
        });
        if again && answers(&inner, &pod.pod).await.is_ok() {
            break;
        }
    }
    if let Some(slot) = inner.slot(pod.node) {
        slot.down.store(false, SeqCst);
    }
}

async fn answers(inner: &Inner, pod: &str) -> Result<(), String> {
    match timeout(REPLY_WITHIN, inner.witness(pod)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer in {REPLY_WITHIN:?}")),
    }
}

/// Has the agents undo it, and waits until the nodes answer.
pub(super) async fn heal(inner: &Arc<Inner>, id: u32, action: &Action) -> Proof {
    let result = try_heal(inner, id, action).await;
    for node in asked(action)
        .map(|(_, nodes, ..)| nodes)
        .unwrap_or_default()
    {
        if let Some(slot) = inner.slot(node) {
            slot.known().hurt_by.remove(&id);
        }
    }
    match result {
        Ok(text) => Proof::Seen(text),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn try_heal(inner: &Arc<Inner>, id: u32, action: &Action) -> Result<String, String> {
    let agents = inner.agents.as_ref().ok_or("nothing was done")?;
    let (standing, others) = {
        let mut orders = agents.orders.lock().await;
        let standing = orders.remove(&id);
        (standing, !orders.is_empty())
    };
    let (what, nodes, ..) = asked(action).ok_or("nothing was done")?;
    let Some(Given {
        standing,
        proven,
        clocks,
    }) = standing
    else {
        // The order was not given.
        return Ok("there is nothing to undo".to_owned());
    };
    if proven && let Some(why) = standing.faded() {
        let _ = inner.events.send(Happening::Faded { id, why });
    }
    let down = inner
        .nodes()
        .any(|node| hurt_by_another(inner, id, node).is_some());
    let release = if others || down {
        Release::BesideOthers
    } else {
        Release::Alone
    };
    let reports = standing.release(release, HEAL_WITHIN).await;
    let faded = standing.faded();
    let ended = standing.end().await;
    let healed = reports
        .map_err(|error| error.to_string())
        .and_then(|reports| healed(&reports, &inner.namespace, proven, faded))?;
    ended.map_err(|error| error.to_string())?;
    if what.is_of_links() {
        return Ok(healed);
    }
    let mut texts = vec![healed, back(inner, id, &nodes).await?];
    if let (Action::Clock(_, fault), true) = (action, proven) {
        texts.extend(are_right(inner, id, &clocks, *fault).await?);
    }
    texts.retain(|text| !text.is_empty());
    Ok(texts.join("; "))
}

fn healed(
    reports: &Reports,
    namespace: &str,
    proven: bool,
    faded: Option<String>,
) -> Result<String, String> {
    let refused = |report: &k8s::agent::protocol::Report| report.state == State::Refused;
    // Who refused has done nothing, so that there is nothing to be undone there.
    let concerned: Reports = reports
        .iter()
        .filter(|(_, report)| !report.as_ref().is_some_and(refused))
        .map(|(node, report)| (node.clone(), report.clone()))
        .collect();
    if !proven && concerned.values().all(Option::is_none) {
        return Ok("no agent has taken it up".to_owned());
    }
    let text = seen(&concerned, State::Healed, namespace)?;
    Ok(match faded {
        Some(why) => format!("{text}; before its time: {why}"),
        None => text,
    })
}

/// Waits until the nodes answer; those that another fault has stopped are left.
async fn back(inner: &Arc<Inner>, id: u32, nodes: &[Node]) -> Result<String, String> {
    let deadline = Instant::now() + BACK_WITHIN;
    let mut texts = Vec::new();
    for &node in nodes {
        loop {
            let why = match back_one(inner, id, node).await {
                Ok(text) => {
                    texts.push(text);
                    break;
                }
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(format!("n{node} {why} after {BACK_WITHIN:?}"));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(texts.join("; "))
}

/// Another fault that hurts a node.
fn hurt_by_another(inner: &Inner, id: u32, node: Node) -> Option<u32> {
    let known = inner.slot(node)?.known();
    known.hurt_by.keys().copied().find(|other| *other != id)
}

async fn back_one(inner: &Arc<Inner>, id: u32, node: Node) -> Result<String, String> {
    let slot = inner.slot(node).ok_or("is not there")?;
    if let Some(other) = hurt_by_another(inner, id, node) {
        return Ok(format!("n{node} is hurt by fault {other} still"));
    }
    let members = found(inner).await.map_err(|error| error.to_string())?;
    let member = members
        .iter()
        .find(|member| member.node == node)
        .ok_or("has no pod")?;
    if slot.down.load(SeqCst) {
        return Err(match &member.trouble {
            Some(trouble) => format!("does not answer ({trouble})"),
            None => "does not answer".to_owned(),
        });
    }
    answers(inner, &member.pod)
        .await
        .map_err(|why| format!("does not answer ({why})"))?;
    let mut known = slot.known();
    known.uid.clone_from(&member.uid);
    known.restarts = member.restarts;
    Ok(format!("n{node} answers"))
}
