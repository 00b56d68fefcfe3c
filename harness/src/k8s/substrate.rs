//! [`K8sSubstrate`]: a store of the run's own on a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s::cluster::{DEPLOY, RUN, VIEW};
use k8s::discover::members;
use k8s::forward::Forward;
use k8s::names::{IMAGE, PORT, selector};
use k8s::{Cluster, Error, Member, Store, deploy, roles};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use nemesis::{Action, Node, NodeView, Order, Proof, View};
use reference_cluster::core::Config;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use workloads::Invocation;
use workloads::client::HttpClient;

use super::options::{Kubernetes, Storage};
use super::{fault, logs};
use crate::calls::{Calls, WORKERS};
use crate::local::signals::{self, Handler, Registration};
use crate::local::{refused, view};
use crate::mode;
use crate::substrate::{Happening, Substrate};

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
}

/// What is known of a node's pod.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its uid when it was last seen unharmed.
    pub uid: String,
    /// How often its container had been started anew.
    pub restarts: u32,
    /// The faults that have deleted it, each with the uid that it had.
    pub hurt_by: BTreeMap<u32, String>,
}

/// A node and the way to it.
#[derive(Debug)]
pub(super) struct Slot {
    pub node: Node,
    forward: Forward,
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
    /// The name of the store.
    pub store: String,
    slots: Vec<Arc<Slot>>,
    /// What pods were last labelled with.
    labelled: Mutex<Vec<(Node, Option<String>)>>,
    events: Sender<Happening>,
}

impl Inner {
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
    task: JoinHandle<()>,
}

/// A store on Kubernetes. Dropping it removes the store.
pub struct K8sSubstrate {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    inner: Arc<Inner>,
    calls: Calls<HttpClient>,
    http: reqwest::Client,
    happenings: Receiver<Happening>,
    faults: BTreeMap<u32, Fault>,
    start: Instant,
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
        let namespace = options.kubernetes.namespace.clone();
        let name = format!("run-{:06x}", run_id());
        let hint = format!("`quorate k8s down --namespace {namespace} --name {name}` removes it");
        let interrupted = events.clone();
        let handler = Handler {
            interrupt: Box::new(move || {
                // The runner may be gone already.
                let _ = interrupted.send(Happening::Interrupted);
            }),
            abandon: Box::new(move || eprintln!("the store of this run may be left: {hint}")),
        };
        let signals = signals::register(handler).context("cannot listen for signals")?;
        let inner = runtime.block_on(bring_up(options, &name, events))?;
        let client = HttpClient::new(options.call_timeout)?;
        let calls = Calls::new(client, runtime.handle().clone(), completions);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .context("cannot make an HTTP client")?;
        let pods = Api::<Pod>::namespaced(inner.cluster.client.clone(), &namespace);
        for slot in &inner.slots {
            let file = options
                .run_dir
                .join("nodes")
                .join(format!("n{}.log", slot.node));
            let pod = format!("{name}-{}", slot.node - 1);
            runtime.spawn(logs::follow(pods.clone(), pod, file));
        }
        runtime.spawn(watch(Arc::clone(&inner)));
        Ok(Self {
            runtime: Some(runtime),
            inner,
            calls,
            http,
            happenings,
            faults: BTreeMap::new(),
            start: Instant::now(),
            _signals: signals,
        })
    }

    /// Removes the store.
    ///
    /// # Errors
    /// If something of it stays.
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
            store,
            ..
        } = &*self.inner;
        let removed = runtime.block_on(deploy::remove(cluster, namespace, store));
        runtime.shutdown_timeout(END_WITHIN);
        removed.map(drop).with_context(|| {
            format!(
                "`quorate k8s down --namespace {namespace} --name {store}` removes what is left"
            )
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

/// A number that no other run has at the same time.
fn run_id() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    (random & 0x00ff_ffff) as u32
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
        run: None,
    })
}

async fn bring_up(
    options: &K8sOptions,
    name: &str,
    events: Sender<Happening>,
) -> Result<Arc<Inner>> {
    let kubernetes = &options.kubernetes;
    let namespace = &kubernetes.namespace;
    let cluster = Cluster::connect().await?;
    let allowed = cluster.allowed(namespace).await?;
    let rights: Vec<_> = [DEPLOY, VIEW, RUN].concat();
    cluster.may(namespace, &rights).await?;
    let annotated = allowed
        .metadata
        .annotations
        .unwrap_or_default()
        .remove(IMAGE);
    let image = kubernetes.image.clone().or(annotated).with_context(|| {
        format!("which image? say --image; namespace {namespace} remembers none that was brought up in it")
    })?;
    let store = Store {
        run: Some(name.to_owned()),
        ..described(
            kubernetes,
            name,
            &image,
            options.nodes,
            &options.target,
            options.seed,
        )?
    };
    match start_store(&cluster, options, &store, events).await {
        Ok(inner) => Ok(Arc::new(inner)),
        Err(error) => {
            if let Err(left) = deploy::remove(&cluster, namespace, name).await {
                tracing::warn!("{left}");
            }
            Err(error.into())
        }
    }
}

async fn start_store(
    cluster: &Cluster,
    options: &K8sOptions,
    store: &Store,
    events: Sender<Happening>,
) -> Result<Inner, Error> {
    let namespace = &options.kubernetes.namespace;
    deploy::apply(cluster, namespace, store).await?;
    let within = Duration::from_secs(options.kubernetes.ready_within_s);
    let members = deploy::ready(cluster, namespace, store, within).await?;
    let mut slots = Vec::new();
    for member in &members {
        let forward = Forward::start(cluster, namespace, &member.pod, PORT).await?;
        let known = Known {
            uid: member.uid.clone(),
            restarts: member.restarts,
            hurt_by: BTreeMap::new(),
        };
        slots.push(Arc::new(Slot {
            node: member.node,
            forward,
            down: AtomicBool::new(false),
            known: Mutex::new(known),
        }));
    }
    Ok(Inner {
        cluster: cluster.clone(),
        namespace: namespace.clone(),
        store: store.name.clone(),
        slots,
        labelled: Mutex::default(),
        events,
    })
}

/// Looks whether something happens to pods that no fault explains.
async fn watch(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(WATCH).await;
        // The API server may be away for a moment; what happens meanwhile is seen afterwards.
        let Ok(members) = members(&inner.cluster, &inner.namespace, &selector(&inner.store)).await
        else {
            continue;
        };
        for member in &members {
            if let Some(why) = unexplained(&inner, member) {
                let log =
                    deploy::log_tail(&inner.cluster, &inner.namespace, &member.pod, true).await;
                let _ = inner.events.send(Happening::Broken(format!(
                    "{why}; the end of its log:\n{log}"
                )));
            }
        }
    }
}

/// A node that ended although nobody killed it. A pod that somebody else has replaced (a drain, an
/// eviction) is remembered and said; the store has to live with that.
fn unexplained(inner: &Inner, member: &Member) -> Option<String> {
    let slot = inner.slot(member.node)?;
    let mut known = slot.known();
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
    let members = members(&inner.cluster, &inner.namespace, &selector(&inner.store)).await?;
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
        let base_url = format!("http://{}", slot.forward.address()).into();
        self.calls.start(thread, node, base_url, invocation.clone());
    }

    fn inject(&mut self, id: u32, order: &Order) {
        if self.faults.contains_key(&id) {
            let proof = Proof::NotSeen(format!("fault {id} was injected already"));
            return self.post(Happening::Injected { id, proof });
        }
        if let Some(via) = order.via() {
            let proof = Proof::NotSeen(format!("there is no mechanism {via} on Kubernetes"));
            return self.post(Happening::Injected { id, proof });
        }
        let action = order.action().clone();
        let (inner, owned) = (Arc::clone(&self.inner), action.clone());
        let task = self.runtime().spawn(async move {
            let proof = fault::inject(&inner, id, &owned).await;
            let _ = inner.events.send(Happening::Injected { id, proof });
        });
        self.faults.insert(id, Fault { action, task });
    }

    fn heal(&mut self, id: u32) {
        let Some(Fault { action, task }) = self.faults.remove(&id) else {
            let proof = Proof::NotSeen(format!("no fault {id} was injected"));
            return self.post(Happening::Healed { id, proof });
        };
        let (inner, owned) = (Arc::clone(&self.inner), action.clone());
        let task = self.runtime().spawn(async move {
            // A fault lasts at least until it is proven, and a second healing follows the first.
            let _ = task.await;
            let proof = fault::heal(&inner, id, &owned).await;
            let _ = inner.events.send(Happening::Healed { id, proof });
        });
        self.faults.insert(id, Fault { action, task });
    }

    fn poll_view(&mut self) {
        let (http, inner) = (self.http.clone(), Arc::clone(&self.inner));
        self.runtime().spawn(async move {
            let view = view::poll(&http, &inner.addresses()).await;
            let labels = view.clone();
            let _ = inner.events.send(Happening::View(view));
            if let Err(error) = label(&inner, &labels).await {
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
