//! The substrates `local` and `netns`: nodes are processes of this machine. On `local` they listen on
//! loopback, links between them are TCP proxies in the harness, and no privileges are needed; on
//! `netns` each has a network of its own on a bridge, and links are what the kernel carries.
//!
//! ```text
//! n1 ──► [link n1→n2] ──► n2        every directed pair of replicas
//! client calls ──► [link clients→n2] ──► n2
//! status, probes of a node itself ──► n2          the administrator's path, never disturbed
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | `program`, `start_error` | what is run, with which arguments; why it did not start |
//! | `process` | starts, watches, signals and reaps processes, through pidfds |
//! | `network` | the links: all proxies, or all of the kernel's |
//! | `proxy` | forwards a link's bytes; cuts, delays, throttles |
//! | `custody` | the keeper of a run's leases, and its control groups |
//! | `cluster` | nodes, their links, and bringing a node up |
//! | `fault`, `link_proof`, `probe` | inject, heal, and prove both by observation |
//! | [`disk`] | what disks do, and what is done to what is stored on them |
//! | [`clock`] | wrong clocks: the store's own, or by libfaketime |
//! | `data` | a node's data directory, and the proof that it is ours before it is emptied |
//! | `operator` | commands to nodes |
//! | `view` | what the nodes say of themselves |
//! | `signals` | Ctrl-C |
//! | [`manifest`], [`leftovers`] | what runs now, and what a crashed run left behind |
//!
//! **Leases.** What is injected lives in the harness process, is a state of its children, or is a
//! state of a control group. Proxies end with the harness, and its nodes notice its end by a
//! parent-death signal and by the end of their standard input. Networks have no names: the kernel
//! removes them, with every interface, rule and queue in them, when the last process and the last
//! socket in them have ended. Control groups, what is frozen in them, and what a third-party store
//! has started would outlive it: the `custody` of a run has a keeper, told of each before it is
//! done, that undoes it within seconds of the harness's end.

pub mod clock;
mod cluster;
mod cpu;
mod crash;
mod custody;
mod data;
pub mod disk;
mod fault;
pub mod leftovers;
mod link_proof;
pub mod manifest;
mod memory;
mod network;
mod operator;
mod pause;
mod probe;
mod process;
pub mod procfs;
mod program;
mod proxy;
pub(crate) mod signals;
mod start_error;
#[cfg(test)]
mod tests;
pub(crate) mod view;
#[cfg(feature = "postgres")]
pub(crate) use self::probe::connect as connect_as_administrator;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use checkers::Outcome;
use nemesis::mechanism::namespace::{self, EnterError, Needs};
use nemesis::{Action, Capabilities, FaultKind, Node, Order, Proof};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use workloads::{Completion, Invocation};

use self::cluster::Cluster;
use self::custody::Custody;
use self::program::Program;
use self::signals::{Handler, Registration};
use self::start_error::io_error;
pub use self::start_error::{NotReady, StartError};
use crate::calls::{Calls, WORKERS};
use crate::experiment::{Experiment, On};
use crate::stores::failover::{Duty, Log};
use crate::stores::{AnyClient, Recipe, Store};
use crate::substrate::{Happening, Substrate};
use crate::versions::Versions;

/// How long killed processes may take to end at the end of a run.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What can be done to processes on this machine.
pub fn capabilities(substrate: On) -> Capabilities {
    let orchestrated =
        FaultKind::ORCHESTRATED.map(|kind| (kind, fault::NO_ORCHESTRATOR.to_owned()));
    let throttle = (FaultKind::ThrottleDisk, fault::NO_THROTTLE.to_owned());
    network::obstacles(substrate)
        .into_iter()
        .chain(orchestrated)
        .chain([throttle])
        .fold(disk::capabilities(), |all, (kind, why)| {
            all.without(kind, &why)
        })
}

/// What this program has to have for itself before nodes run there. To be called before any other
/// thread exists; a second call does nothing.
///
/// # Errors
/// If this machine does not allow it; the text says what would.
pub fn enter(experiment: &Experiment) -> Result<(), EnterError> {
    match experiment.substrate {
        On::Netns => {
            namespace::available().map_err(EnterError::Unavailable)?;
            namespace::enter(Needs { network: true })
        }
        On::Local => disk::Needs::of(experiment).enter(),
        On::Sim | On::K8s | On::External => Ok(()),
    }
}

/// How to start nodes of the reference cluster.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// How they reach each other: [`On::Local`] or [`On::Netns`].
    pub on: On,
    /// How many.
    pub nodes: u16,
    /// The run's directory. Logs go to `nodes/n1.log`, data to `data/n1`.
    pub run_dir: PathBuf,
    /// The file with their configuration.
    pub config: PathBuf,
    /// The seed of what they leave to chance; each node gets a sub-stream of its own.
    pub seed: u64,
    /// How long an operation may take until its outcome is unknown.
    pub call_timeout: Duration,
    /// What has to be under the nodes' data for the faults that are planned.
    pub disk: disk::Needs,
    /// Whether their clocks are to be made wrong by libfaketime, which they are started with.
    pub preload_clock: bool,
    /// What they are upgraded from and to, if that is said.
    pub versions: Option<Versions>,
    /// What they are, if not nodes of the reference store.
    pub store: Option<Store>,
}

/// A fault that was injected, and the task that last worked on it: whether the fault is now in
/// force, and was proven to be.
struct Fault {
    action: Action,
    task: JoinHandle<bool>,
}

/// A cluster of processes. Dropping it kills and reaps them all.
pub struct LocalSubstrate {
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
    cluster: Arc<Cluster>,
    calls: Calls<AnyClient>,
    /// Ends when this is dropped.
    copies: Option<disk::Copies>,
    http: reqwest::Client,
    happenings: Receiver<Happening>,
    faults: BTreeMap<u32, Fault>,
    start: Instant,
    _signals: Registration,
}

impl LocalSubstrate {
    /// Starts all nodes and waits until each is ready. The clock starts then.
    ///
    /// Must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// When a node does not come up, with the last lines of its log; when a directory or a port
    /// cannot be had. Nothing is left running.
    pub fn start(options: LocalOptions) -> Result<Self, StartError> {
        let LocalOptions {
            on,
            nodes,
            run_dir,
            config,
            seed,
            call_timeout,
            disk,
            preload_clock,
            versions,
            store,
        } = options;
        // A second call does nothing; the first has to be made before there are threads.
        disk.enter()
            .map_err(|error| io_error("keeping mounts to itself")(io::Error::other(error)))?;
        let foreign = store
            .clone()
            .and_then(|store| Some((store.target().recipe()?, store)));
        let configs = run_dir.join("nodes");
        let program = match foreign.clone() {
            Some((recipe, store)) => Program::of(recipe, store, configs.clone()),
            None => Program::reference(config, seed),
        };
        let program = program.map_err(io_error("finding the program"))?;
        let program = Program {
            versions,
            preload_clock,
            ..program
        };
        let client = AnyClient::new(store.as_ref(), None, call_timeout);
        let client =
            client.map_err(|error| io_error("making a client")(io::Error::other(error)))?;
        let substrate = Self::start_program(on, nodes, &run_dir, client, &program, &disk)?;
        match foreign {
            Some((recipe, store)) => substrate.managed(recipe, &store, &configs),
            None => Ok(substrate),
        }
    }

    /// With what promotes another node where the store itself does not; waits until all replicas have
    /// attached.
    fn managed(
        mut self,
        recipe: &Recipe,
        store: &Store,
        configs: &Path,
    ) -> Result<Self, StartError> {
        let Some(manager) = recipe.failover else {
            return Ok(self);
        };
        let (settled, waits) = oneshot::channel();
        let log = Log::create(&configs.join("failover.log"));
        let duty = Duty {
            members: (self.cluster.members(configs)).map_err(io_error("naming the nodes"))?,
            log: log.map_err(io_error("writing failover.log"))?,
            settled,
        };
        self.runtime().spawn(manager(store, duty));
        let settled = self.block_on(waits);
        let settled = settled.unwrap_or_else(|_| Err("what manages it has ended".to_owned()));
        settled.map_err(|why| io_error("setting up replication")(io::Error::other(why)))?;
        self.start = Instant::now();
        Ok(self)
    }

    fn start_program(
        on: On,
        nodes: u16,
        run_dir: &Path,
        client: AnyClient,
        program: &Program,
        disk: &disk::Needs,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("local")
            .enable_all()
            .build()
            .map_err(io_error("starting the runtime"))?;
        let (events, happenings) = channel();
        let completions = events.clone();
        let custody = Custody::begin(run_dir, program, events.clone())?;
        let cluster = runtime.block_on(cluster::prepare(
            on,
            nodes,
            run_dir,
            program,
            custody,
            disk,
            events.clone(),
        ))?;
        let handler = Handler {
            interrupt: Box::new(move || {
                // The runner may be gone already.
                let _ = events.send(Happening::Interrupted);
            }),
            abandon: {
                let processes = Arc::clone(&cluster.processes);
                Box::new(move || drop(processes.kill_all()))
            },
        };
        let signals = signals::register(handler).map_err(io_error("listening for signals"))?;
        let http = reqwest::Client::builder()
            .local_address(cluster.network.administrator())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| StartError::Io {
                what: "making an HTTP client".to_owned(),
                source: io::Error::other(error),
            })?;
        let calls = Calls::new(client, runtime.handle().clone(), completions);
        // From here on dropping it ends what was started.
        let mut substrate = Self {
            runtime: Some(runtime),
            cluster,
            calls,
            copies: None,
            http,
            happenings,
            faults: BTreeMap::new(),
            start: Instant::now(),
            _signals: signals,
        };
        substrate.copies = disk::Copies::start(disk, &substrate.cluster)
            .map_err(io_error("starting to copy the nodes' data"))?;
        substrate.block_on(cluster::start_all(Arc::clone(&substrate.cluster)))?;
        substrate.start = Instant::now();
        Ok(substrate)
    }

    /// Where clients reach a node. The same for the whole run, also when the node restarts.
    pub fn address(&self, node: Node) -> Option<String> {
        let address = self.cluster.network.client_address(node)?;
        Some(self.calls.client().address(&address.to_string()))
    }

    /// Kills and reaps all nodes and closes all links, as dropping does.
    pub fn stop(self) {
        drop(self);
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime is taken only when dropping")
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime().block_on(future)
    }

    fn post(&self, happening: Happening) {
        // The receiver is this very value's.
        let _ = self.cluster.events.send(happening);
    }
}

impl LocalSubstrate {
    /// What an order for this action does.
    fn inject(&mut self, id: u32, action: &Action, via: Option<&str>) {
        if self.faults.contains_key(&id) {
            let proof = Proof::NotSeen(format!("fault {id} was injected already"));
            return self.post(Happening::Injected { id, proof });
        }
        fault::apply(&self.cluster, id, action);
        let (cluster, owned) = (Arc::clone(&self.cluster), action.clone());
        let http = self.http.clone();
        let via = via.map(str::to_owned);
        let task = self.runtime().spawn(async move {
            let proof = fault::inject(&cluster, &http, id, &owned, via.as_deref()).await;
            let proven = matches!(proof, Proof::Seen(_));
            let _ = cluster.events.send(Happening::Injected { id, proof });
            proven
        });
        let action = action.clone();
        self.faults.insert(id, Fault { action, task });
    }
}

impl Substrate for LocalSubstrate {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation) {
        let Some(address) = self.address(node) else {
            let completion = refused(invocation, &format!("there is no n{node}"));
            return self.post(Happening::Completed { thread, completion });
        };
        if self.cluster.network.leads_nowhere(node) {
            // No byte is sent: it certainly failed.
            let completion = refused(invocation, "connection-refused");
            return self.post(Happening::Completed { thread, completion });
        }
        self.calls
            .start(thread, node, address.into(), invocation.clone());
    }

    fn inject(&mut self, id: u32, order: &Order) {
        LocalSubstrate::inject(self, id, order.action(), order.via());
    }

    fn heal(&mut self, id: u32) {
        let Some(Fault { action, task }) = self.faults.remove(&id) else {
            let proof = Proof::NotSeen(format!("no fault {id} was injected"));
            return self.post(Happening::Healed { id, proof });
        };
        let (cluster, owned) = (Arc::clone(&self.cluster), action.clone());
        let http = self.http.clone();
        let task = self.runtime().spawn(async move {
            // A fault lasts at least until it is proven, and a second healing follows the first.
            let proven = task.await.unwrap_or(false);
            if proven && let Some(why) = fault::faded(&cluster, id, &owned).await {
                let _ = cluster.events.send(Happening::Faded { id, why });
            }
            let proof = fault::heal(&cluster, &http, id, &owned).await;
            let _ = cluster.events.send(Happening::Healed { id, proof });
            false
        });
        self.faults.insert(id, Fault { action, task });
    }

    fn poll_view(&mut self) {
        let (http, cluster) = (self.http.clone(), Arc::clone(&self.cluster));
        self.runtime().spawn(async move {
            let view = view::poll_by(&http, &cluster.serves.status, &cluster.addresses()).await;
            let _ = cluster.events.send(Happening::View(view));
        });
    }

    fn next(&mut self, deadline: u64) -> Happening {
        let wait = Duration::from_nanos(deadline.saturating_sub(self.now()));
        match self.happenings.recv_timeout(wait) {
            Ok(happening) => happening,
            Err(RecvTimeoutError::Timeout) => Happening::Deadline,
            // Not while `self.cluster` holds a sender.
            Err(RecvTimeoutError::Disconnected) => {
                Happening::Broken("the substrate has ended".to_owned())
            }
        }
    }
}

pub(crate) fn refused(invocation: &Invocation, why: &str) -> Completion {
    Completion {
        outcome: Outcome::Fail,
        value: invocation.value.clone(),
        witness: None,
        error: Some(why.into()),
        leader_hint: None,
        session: None,
        context: None,
        may_repeat: None,
    }
}

impl Drop for LocalSubstrate {
    fn drop(&mut self) {
        self.copies = None;
        let processes = self.cluster.processes.kill_all();
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        runtime.block_on(async {
            for process in processes {
                if tokio::time::timeout(END_WITHIN, process.ended())
                    .await
                    .is_err()
                {
                    tracing::warn!(pid = process.pid(), "a node was killed but has not ended");
                }
            }
        });
        runtime.shutdown_timeout(END_WITHIN);
        self.cluster.custody.end();
    }
}
