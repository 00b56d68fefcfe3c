//! [`K8sSubstrate`]: a store of the run's own on a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s::clean::What;
use k8s::discover::members_in;
use k8s::forward::{Forward, Greeting, Witness};
use k8s::names::{IMAGE, PORT, selector};
use k8s::rights::{DEPLOY, REACH, RUN, Right, VIEW};
use k8s::{Cluster, Error, Member, Store, beat, clean, copy, deploy, preload, roles};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use nemesis::{Action, Node, NodeView, Order, Proof, View};
use reference_cluster::core::Config;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use workloads::Invocation;

use super::custody::{self, Custody};
use super::fault::agent::Agents;
use super::greeting::greeting;
use super::options::{Existing, Kubernetes, Storage};
use super::{fault, logs};
use crate::calls::{Calls, WORKERS};
use crate::external::OwnKeys;
use crate::local::signals::{self, Handler, Registration};
use crate::local::{refused, view};
use crate::mode;
use crate::stores::recipe::Status;
use crate::stores::{self, AnyClient};
use crate::substrate::{Happening, Substrate};
use crate::versions::Versions;

/// Between two looks at the pods.
const WATCH: Duration = Duration::from_secs(1);
/// How long tasks may take to end at the end of a run.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How to run a store on a cluster.
#[derive(Clone, Debug)]
pub struct K8sOptions {
    /// Where and how.
    pub kubernetes: Kubernetes,
    /// How many nodes.
    pub nodes: u16,
    /// How the store replicates.
    pub target: Config,
    /// The seed of what they leave to chance.
    pub seed: u64,
    /// The run's directory. Logs go to `nodes/n1.log`.
    pub run_dir: PathBuf,
    /// How long an operation may take until its outcome is unknown.
    pub call_timeout: Duration,
    /// What its faults need beside the rights of every run.
    pub rights: Vec<Right>,
    /// Whether faults are done to the links of clients.
    pub client_links: bool,
    /// What the nodes are upgraded from and to, if that is said.
    pub versions: Option<Versions>,
    /// The store, if it is not the reference store.
    pub store: Option<stores::Store>,
}

/// What is known of a node's pod.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its uid when it was last seen unharmed.
    pub uid: String,
    /// How often its container had been started anew.
    pub restarts: u32,
    /// The Kubernetes node that it was last seen on.
    pub on: Option<String>,
    /// The faults that have ended it, each with the uid that it had.
    pub hurt_by: BTreeMap<u32, String>,
}

/// A node and the way to it.
#[derive(Debug)]
pub(super) struct Slot {
    pub node: Node,
    /// The container that is the node.
    container: String,
    pub forward: Forward,
    /// Whether it was deleted and has not answered since.
    pub down: AtomicBool,
    known: Mutex<Known>,
}

impl Slot {
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tasks share.
#[derive(Debug)]
pub(super) struct Inner {
    pub cluster: Cluster,
    pub namespace: String,
    /// The run's id: everything that it changes on the cluster carries it.
    pub run: String,
    /// The store's StatefulSet.
    pub store: String,
    /// What its pods are found by.
    pub selector: String,
    /// Where they listen.
    pub port: u16,
    /// The container that is the node; none: the first of each pod.
    pub container: Option<String>,
    /// What finds out whether a process is there.
    greeting: Greeting,
    /// How nodes are asked what they are, if they say it.
    status: Option<Status>,
    /// Nodes are the reference store's.
    pub is_reference: bool,
    /// Whether the run has made the store, and removes it.
    pub own: bool,
    /// What the nodes run.
    pub images: Images,
    slots: Vec<Arc<Slot>>,
    pub http: reqwest::Client,
    /// What a node has stored ends with its pod.
    pub data_ends_with_pod: bool,
    /// The agents, where the experiment wants them.
    pub agents: Option<Agents>,
    /// What pods were last labelled with.
    labelled: Mutex<Vec<(Node, Option<String>)>>,
    pub events: Sender<Happening>,
}

/// What the nodes of a run's own store run.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    /// At the beginning, and after a `downgrade`.
    pub first: String,
    /// From which version to which, if the run says both.
    pub versions: Option<Versions>,
    /// The storage format that they are configured to write.
    pub configured: u16,
}

impl Inner {
    /// How many nodes there are.
    pub fn size(&self) -> Node {
        Node::try_from(self.slots.len()).unwrap_or(Node::MAX)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.slots.iter().map(|slot| slot.node)
    }

    /// A connection to the process in a pod, once that has answered.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn witness(&self, pod: &str) -> Result<Witness, String> {
        Witness::of(
            &self.cluster,
            &self.namespace,
            pod,
            self.port,
            &self.greeting,
        )
        .await
    }

    /// What is known of all nodes: what they say, or of stores that say nothing, whether their pods are
    /// ready.
    async fn view(&self) -> View {
        if let Some(status) = &self.status {
            return view::poll_by(&self.http, status, &self.addresses()).await;
        }
        // When the API server is away, nothing is known.
        let members = fault::found(self).await.unwrap_or_default();
        let role = |slot: &Arc<Slot>| {
            let member = members.iter().find(|member| member.node == slot.node);
            let there = member.is_some_and(|member| member.ready) && !slot.down.load(SeqCst);
            NodeView {
                role: there.then(|| "unknown".to_owned()),
                ..NodeView::silent(slot.node)
            }
        };
        View {
            nodes: self.slots.iter().map(role).collect(),
            ..View::default()
        }
    }

    /// Why a node cannot read what it finds, in its own words, if so.
    pub async fn refusal(&self, node: Node) -> Option<String> {
        if !self.is_reference {
            return None;
        }
        let of_node = self.addresses().into_iter().find(|(it, _)| *it == node);
        let why = view::status(&self.http, of_node?.1?).await?.stopped?;
        Some(why.to_string()).filter(|why| why.contains("storage format"))
    }

    /// Which storage format each node that answers says it writes.
    pub async fn versions(&self) -> Vec<(Node, u16)> {
        if !self.is_reference {
            return Vec::new();
        }
        let view = view::poll(&self.http, &self.addresses()).await;
        let answered = view.nodes.iter().filter(|node| node.role.is_some());
        answered
            .map(|node| (node.node, node.storage_version))
            .collect()
    }

    pub fn slot(&self, node: Node) -> Option<&Arc<Slot>> {
        self.slots.get(usize::from(node).checked_sub(1)?)
    }

    fn addresses(&self) -> Vec<(Node, Option<SocketAddr>)> {
        let address = |slot: &Arc<Slot>| {
            let down = slot.down.load(SeqCst);
            (slot.node, (!down).then(|| slot.forward.address()))
        };
        self.slots.iter().map(address).collect()
    }
}

struct Fault {
    action: Action,
    via: Option<String>,
    task: JoinHandle<()>,
}

/// A store on Kubernetes. Dropping it removes the store.
pub struct K8sSubstrate {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    inner: Arc<Inner>,
    calls: Calls<OwnKeys<AnyClient>>,
    happenings: Receiver<Happening>,
    faults: BTreeMap<u32, Fault>,
    start: Instant,
    custody: Custody,
    _signals: Registration,
}

impl K8sSubstrate {
    /// Starts a store in the namespace and waits until it is ready. The clock starts then.
    ///
    /// Must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// If there is no cluster, the namespace does not allow faults, this account lacks rights, or
    /// the store does not become ready; what was started is removed.
    pub fn start(options: &K8sOptions) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("k8s")
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let (events, happenings) = channel();
        let completions = events.clone();
        let run = options.kubernetes.run.clone().unwrap_or_else(new_run);
        let namespace = place(&options.kubernetes, &run);
        let hint = custody::clean(&namespace, &run).join(" ");
        let interrupted = events.clone();
        let handler = Handler {
            interrupt: Box::new(move || {
                // The runner may be gone already.
                let _ = interrupted.send(Happening::Interrupted);
            }),
            abandon: Box::new(move || {
                eprintln!("if something of this run is left, `quorate {hint}` removes it");
            }),
        };
        let signals = signals::register(handler).context("cannot listen for signals")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .context("cannot make an HTTP client")?;
        let cluster = runtime.block_on(permitted(options, &namespace))?;
        let custody = Custody::begin(&options.run_dir, &namespace, &run, events.clone())?;
        let started = bring_up(&cluster, options, &run, http, events);
        let inner = match runtime.block_on(started) {
            Ok(inner) => inner,
            Err(error) => {
                let undone = runtime.block_on(undo(&cluster, &namespace, &run));
                if let Err(left) = &undone {
                    tracing::warn!("{left}");
                }
                custody.end(undone.is_ok());
                return Err(error);
            }
        };
        let client = client(options, &run)?;
        let calls = Calls::new(client, runtime.handle().clone(), completions);
        let pods = Api::<Pod>::namespaced(inner.cluster.client.clone(), &namespace);
        for slot in &inner.slots {
            let file = options
                .run_dir
                .join("nodes")
                .join(format!("n{}.log", slot.node));
            let pod = format!("{}-{}", inner.store, slot.node - 1);
            let container = slot.container.clone();
            runtime.spawn(logs::follow(pods.clone(), pod, container, file));
        }
        runtime.spawn(watch(Arc::clone(&inner)));
        runtime.spawn(custody::beat(cluster, namespace, run));
        Ok(Self {
            runtime: Some(runtime),
            inner,
            calls,
            happenings,
            faults: BTreeMap::new(),
            start: Instant::now(),
            custody,
            _signals: signals,
        })
    }

    /// Removes the store, if it is the run's own, and undoes what may be left of faults.
    ///
    /// # Errors
    /// If something stays.
    pub fn stop(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let Some(runtime) = self.runtime.take() else {
            return Ok(());
        };
        let Inner {
            cluster,
            namespace,
            run,
            ..
        } = &*self.inner;
        let removed = runtime.block_on(undo(cluster, namespace, run));
        runtime.shutdown_timeout(END_WITHIN);
        self.custody.end(removed.is_ok());
        removed.with_context(|| {
            let clean = custody::clean(namespace, run).join(" ");
            format!("`quorate {clean}` removes what is left")
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is taken only when dropping")
    }

    fn post(&self, happening: Happening) {
        // The receiver is this very value's.
        let _ = self.inner.events.send(happening);
    }
}

/// What clients speak with. Another run, or somebody else, may have written to keys of the same names
/// in a store that is not the run's own.
fn client(options: &K8sOptions, run: &str) -> Result<OwnKeys<AnyClient>> {
    let existing = !options.kubernetes.is_own();
    let logs = options.run_dir.join("clients");
    let prefix = if existing {
        format!("{run}-")
    } else {
        String::new()
    };
    if options.store.is_some() || existing {
        std::fs::create_dir_all(&logs)
            .and_then(|()| std::fs::write(logs.join("keys.txt"), format!("{prefix}\n")))
            .with_context(|| format!("cannot write {}", logs.display()))?;
    }
    let client = AnyClient::for_run(options.store.as_ref(), logs, options.call_timeout)?;
    Ok(OwnKeys::new(client, prefix))
}

/// A name that no other run has at the same time.
pub(crate) fn new_run() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    format!("run-{:06x}", random & 0x00ff_ffff)
}

/// The store that these options describe.
///
/// # Errors
/// If the configuration cannot be written.
pub(crate) fn described(
    kubernetes: &Kubernetes,
    name: &str,
    image: &str,
    nodes: u16,
    target: &Config,
    seed: u64,
) -> Result<Store> {
    Ok(Store {
        name: name.to_owned(),
        image: image.to_owned(),
        nodes,
        mode: mode::name(target),
        config: serde_yaml::to_string(target)?,
        seed,
        storage: match kubernetes.storage {
            Storage::EmptyDir => k8s::Storage::EmptyDir,
            Storage::Volumes => k8s::Storage::Volumes {
                class: kubernetes.storage_class.clone(),
                mib: kubernetes.volume_mib,
            },
        },
        clocks: kubernetes.clocks,
        run: None,
    })
}

/// Undoes everything that a run has done on a cluster, also where it has made a copy. The Job that it
/// may be in goes on: it has still to hand over what was found. So does who reads that already.
pub(crate) async fn undo(cluster: &Cluster, namespace: &str, run: &str) -> Result<(), Error> {
    let mut failed = None;
    for place in clean::with_copies(cluster, namespace).await? {
        for trace in clean::traces(cluster, &place).await? {
            if trace.is_of(run)
                && !matches!(trace.what, What::Job(_) | What::Reader(_))
                && let Err(error) = clean::undo(cluster, &trace).await
            {
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The cluster, if the run may be there.
async fn permitted(options: &K8sOptions, namespace: &str) -> Result<Cluster> {
    let cluster = Cluster::connect().await?;
    let mut rights = [DEPLOY, VIEW, REACH, RUN, &options.rights].concat();
    let kubernetes = &options.kubernetes;
    if is_copy(kubernetes) {
        cluster.may(&kubernetes.namespace, copy::READ).await?;
        rights.extend_from_slice(copy::MAKE);
    } else {
        cluster.allowed(namespace).await?;
    }
    cluster.may(namespace, &rights).await?;
    if let Some(Existing {
        selector,
        container,
        ..
    }) = kubernetes
        .statefulset
        .as_ref()
        .filter(|_| kubernetes.clocks)
    {
        preload::check(
            &cluster,
            &kubernetes.namespace,
            selector,
            container.as_deref(),
        )
        .await?;
    }
    Ok(cluster)
}

fn is_copy(kubernetes: &Kubernetes) -> bool {
    kubernetes.statefulset.is_some() && kubernetes.is_own()
}

/// The namespace that a run is in: that of its experiment, or one of its own for a copy.
fn place(kubernetes: &Kubernetes, run: &str) -> String {
    if is_copy(kubernetes) {
        format!("quorate-{run}")
    } else {
        kubernetes.namespace.clone()
    }
}

/// The pods of a store, all ready.
struct Pods {
    members: Vec<Member>,
    selector: String,
    port: u16,
    images: Images,
}

/// Starts a store of the run's own.
async fn own(cluster: &Cluster, options: &K8sOptions, run: &str) -> Result<Pods> {
    let kubernetes = &options.kubernetes;
    let namespace = &kubernetes.namespace;
    let annotated = cluster.allowed(namespace).await?.metadata.annotations;
    let remembered = annotated.unwrap_or_default().remove(IMAGE);
    let image = kubernetes.image.clone().or(remembered).with_context(|| {
        format!("which image? say --image; namespace {namespace} remembers none that was brought up in it")
    })?;
    let (nodes, seed) = (options.nodes, options.seed);
    let mut target = options.target.clone();
    let from = options.versions.as_ref().map(|versions| &versions.from);
    let image = from.and_then(|from| from.program.clone()).unwrap_or(image);
    if let Some(format) = from.and_then(|from| from.storage) {
        target.storage_version = format;
    }
    let store = Store {
        run: Some(run.to_owned()),
        ..described(kubernetes, run, &image, nodes, &target, seed)?
    };
    let within = Duration::from_secs(kubernetes.ready_within_s);
    deploy::apply(cluster, namespace, &store).await?;
    let members = deploy::ready(cluster, namespace, &store, within).await?;
    let images = Images {
        first: image,
        versions: options.versions.clone(),
        configured: options.target.storage_version,
    };
    Ok(Pods {
        members,
        selector: selector(run),
        port: PORT,
        images,
    })
}

/// Finds a store that runs already.
async fn standing(cluster: &Cluster, options: &K8sOptions, existing: &Existing) -> Result<Pods> {
    let kubernetes = &options.kubernetes;
    let within = Duration::from_secs(kubernetes.ready_within_s);
    let (selector, wanted) = (&existing.selector, usize::from(options.nodes));
    let namespace = &kubernetes.namespace;
    deploy::standing(cluster, namespace, selector, wanted, within).await?;
    let container = existing.container.as_deref();
    Ok(Pods {
        members: members_in(cluster, namespace, selector, container).await?,
        selector: selector.clone(),
        port: existing.port,
        images: Images::default(),
    })
}

/// Starts a copy of a store that runs already.
async fn copied(
    cluster: &Cluster,
    options: &K8sOptions,
    existing: &Existing,
    namespace: &str,
) -> Result<Pods> {
    let kubernetes = &options.kubernetes;
    let from = options.versions.as_ref().map(|versions| &versions.from);
    let plan = copy::Plan {
        from: &kubernetes.namespace,
        selector: &existing.selector,
        container: existing.container.as_deref(),
        image: from.and_then(|from| from.program.as_deref()),
        to: namespace,
        agents: kubernetes.agent,
        durable: kubernetes.storage == Storage::Volumes,
    };
    let (nodes, image) = copy::make(cluster, &plan).await?;
    anyhow::ensure!(
        nodes == options.nodes,
        "{} has {nodes} nodes, and the experiment {} (--nodes)",
        existing.selector,
        options.nodes
    );
    let within = Duration::from_secs(kubernetes.ready_within_s);
    Ok(Pods {
        members: copy::ready(cluster, &plan, nodes, within).await?,
        selector: existing.selector.clone(),
        port: existing.port,
        images: Images {
            first: image,
            versions: options.versions.clone(),
            ..Images::default()
        },
    })
}

/// Starts a store of the run's own, or finds the one that is to be tested.
async fn bring_up(
    cluster: &Cluster,
    options: &K8sOptions,
    run: &str,
    http: reqwest::Client,
    events: Sender<Happening>,
) -> Result<Arc<Inner>> {
    let kubernetes = &options.kubernetes;
    let namespace = &place(kubernetes, run);
    if is_copy(kubernetes) {
        copy::namespace(cluster, namespace, run, &kubernetes.namespace).await?;
    }
    beat::once(cluster, namespace, run, 0).await?;
    let Pods {
        members,
        selector,
        port,
        images,
    } = match &kubernetes.statefulset {
        Some(existing) if existing.copy => copied(cluster, options, existing, namespace).await?,
        Some(existing) => standing(cluster, options, existing).await?,
        None => own(cluster, options, run).await?,
    };
    let container = kubernetes.statefulset.as_ref();
    let container = container.and_then(|existing| existing.container.clone());
    let store = members
        .first()
        .map(|member| member.set.clone())
        .context("there are no pods")?;
    let mut slots = Vec::new();
    for member in members.clone() {
        let forward = Forward::start(cluster, namespace, &member.pod, port).await?;
        let known = Known {
            uid: member.uid,
            restarts: member.restarts,
            on: member.on,
            hurt_by: BTreeMap::new(),
        };
        slots.push(Arc::new(Slot {
            node: member.node,
            container: member.container,
            forward,
            down: AtomicBool::new(false),
            known: Mutex::new(known),
        }));
    }
    let agents = if kubernetes.agent {
        Some(
            Agents::find(
                cluster,
                namespace,
                (&store, run),
                &members,
                port,
                options.client_links,
                kubernetes.clocks,
            )
            .await?,
        )
    } else {
        None
    };
    Ok(Arc::new(Inner {
        data_ends_with_pod: kubernetes.storage == Storage::EmptyDir,
        agents,
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        run: run.to_owned(),
        store,
        selector,
        port,
        container,
        greeting: greeting(options.store.as_ref()),
        status: match &options.store {
            None => Some(view::reference()),
            Some(store) => store.target().status(),
        },
        is_reference: options.store.is_none(),
        own: kubernetes.is_own(),
        images,
        slots,
        http,
        labelled: Mutex::default(),
        events,
    }))
}

/// Looks whether something happens to pods that no fault explains.
async fn watch(inner: Arc<Inner>) {
    let mut told = BTreeSet::new();
    loop {
        tokio::time::sleep(WATCH).await;
        // The API server may be away for a moment; what happens meanwhile is seen afterwards.
        let Ok(members) = fault::found(&inner).await else {
            continue;
        };
        for member in &members {
            if let Some(why) = unexplained(&inner, member) {
                let log = deploy::log_tail(&inner.cluster, &inner.namespace, member, true).await;
                let _ = inner.events.send(Happening::Broken(format!(
                    "{why}; the end of its log:\n{log}"
                )));
            }
            // Once: the event that tells it stays when the Kubernetes node is back.
            if !member.ready
                && !told.contains(&member.node)
                && let Some(host) = lost_host(&inner, member).await
            {
                told.insert(member.node);
                tracing::warn!(
                    "n{} does not answer: its Kubernetes node {host} is not ready",
                    member.node
                );
            }
        }
    }
}

/// The Kubernetes node of a pod that is not ready, if that is because nothing is heard of it.
async fn lost_host(inner: &Inner, member: &Member) -> Option<String> {
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let reason = Some("NodeNotReady");
    deploy::last_event(cluster, namespace, &member.pod, reason).await?;
    member.on.clone()
}

/// A node that ended although nobody killed it. A pod that somebody else has replaced (a drain, an
/// eviction) is remembered and said; the store has to live with that.
fn unexplained(inner: &Inner, member: &Member) -> Option<String> {
    let slot = inner.slot(member.node)?;
    let mut known = slot.known();
    known.on.clone_from(&member.on);
    if !known.hurt_by.is_empty() {
        return None;
    }
    if member.uid != known.uid {
        if !slot.down.load(SeqCst) && !known.uid.is_empty() {
            tracing::info!("n{} is in another pod now, {}", member.node, member.pod);
        }
        known.uid.clone_from(&member.uid);
        known.restarts = member.restarts;
    } else if member.restarts > known.restarts {
        known.restarts = member.restarts;
        return Some(format!("n{} ended although nobody killed it", member.node));
    }
    None
}

/// Writes roles onto pods where they have changed.
async fn label(inner: &Inner, view: &View) -> Result<(), Error> {
    let roles = roles_of(view);
    let labelled = || {
        inner
            .labelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if *labelled() == roles {
        return Ok(());
    }
    let members = fault::found(inner).await?;
    for member in &members {
        let role = roles.iter().find(|(node, _)| *node == member.node);
        let role = role.and_then(|(_, role)| role.as_deref());
        roles::label(&inner.cluster, &inner.namespace, member, role).await?;
    }
    *labelled() = roles;
    Ok(())
}

/// The role of each node. Two may call themselves leader; the one in the highest epoch is.
pub(crate) fn roles_of(view: &View) -> Vec<(Node, Option<String>)> {
    let leader = view.leader();
    let role = |node: &NodeView| {
        let stale = node.role.as_deref() == Some("leader") && leader != Some(node.node);
        (node.node, node.role.clone().filter(|_| !stale))
    };
    view.nodes.iter().map(role).collect()
}

impl Substrate for K8sSubstrate {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation) {
        let Some(slot) = self.inner.slot(node) else {
            let completion = refused(invocation, &format!("there is no n{node}"));
            return self.post(Happening::Completed { thread, completion });
        };
        if slot.down.load(SeqCst) {
            // The forwarded port would take the connection and so turn a certain failure into an
            // unknown outcome. No byte is sent: it certainly failed.
            let completion = refused(invocation, "connection-refused");
            return self.post(Happening::Completed { thread, completion });
        }
        let address = slot.forward.address().to_string();
        let address = self.calls.client().client().address(&address).into();
        self.calls.start(thread, node, address, invocation.clone());
    }

    fn inject(&mut self, id: u32, order: &Order) {
        if self.faults.contains_key(&id) {
            let proof = Proof::NotSeen(format!("fault {id} was injected already"));
            return self.post(Happening::Injected { id, proof });
        }
        let action = order.action().clone();
        let via = order.via().map(str::to_owned);
        let (inner, owned, by) = (Arc::clone(&self.inner), action.clone(), via.clone());
        let task = self.runtime().spawn(async move {
            let proof = fault::inject(&inner, id, &owned, by.as_deref()).await;
            let _ = inner.events.send(Happening::Injected { id, proof });
        });
        self.faults.insert(id, Fault { action, via, task });
    }

    fn heal(&mut self, id: u32) {
        let Some(Fault { action, via, task }) = self.faults.remove(&id) else {
            let proof = Proof::NotSeen(format!("no fault {id} was injected"));
            return self.post(Happening::Healed { id, proof });
        };
        let (inner, owned, by) = (Arc::clone(&self.inner), action.clone(), via.clone());
        let task = self.runtime().spawn(async move {
            // A fault lasts at least until it is proven, and a second healing follows the first.
            let _ = task.await;
            let proof = fault::heal(&inner, id, &owned, by.as_deref()).await;
            let _ = inner.events.send(Happening::Healed { id, proof });
        });
        self.faults.insert(id, Fault { action, via, task });
    }

    fn poll_view(&mut self) {
        let inner = Arc::clone(&self.inner);
        self.runtime().spawn(async move {
            let mut view = inner.view().await;
            for node in &mut view.nodes {
                let slot = inner.slot(node.node);
                node.host = slot.and_then(|slot| slot.known().on.clone());
            }
            let labels = view.clone();
            let _ = inner.events.send(Happening::View(view));
            // The pods of somebody else's store carry nobody's labels but theirs.
            if inner.own
                && inner.is_reference
                && let Err(error) = label(&inner, &labels).await
            {
                tracing::debug!("{error}");
            }
        });
    }

    fn next(&mut self, deadline: u64) -> Happening {
        let wait = Duration::from_nanos(deadline.saturating_sub(self.now()));
        match self.happenings.recv_timeout(wait) {
            Ok(happening) => happening,
            Err(RecvTimeoutError::Timeout) => Happening::Deadline,
            // Not while `self.inner` holds a sender.
            Err(RecvTimeoutError::Disconnected) => {
                Happening::Broken("the substrate has ended".to_owned())
            }
        }
    }
}

impl Drop for K8sSubstrate {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{error:#}");
        }
    }
}
