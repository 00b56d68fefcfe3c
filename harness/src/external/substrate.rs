//! [`ExternalSubstrate`]: calls to a store that runs already, looks at whether it is there, and what
//! its owner allows to be done to it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nemesis::{Action, Node, NodeView, Order, Proof, View};
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use workloads::Invocation;

use super::External;
use super::hooks::Hooks;
use super::own_keys::OwnKeys;
use crate::calls::{Calls, WORKERS};
use crate::local::signals::{self, Handler, Registration};
use crate::local::{refused, view};
use crate::stores::recipe::Status;
use crate::stores::{AnyClient, ClientError, Store};
use crate::substrate::{Happening, Substrate};

/// How long a node may take to take a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long tasks may take to end at the end of a run.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A store that runs already.
pub struct ExternalSubstrate {
    runtime: Runtime,
    calls: Calls<OwnKeys<AnyClient>>,
    /// By number from n1: where clients find it.
    addresses: Vec<Arc<str>>,
    /// The same as sockets.
    sockets: Vec<SocketAddr>,
    /// How nodes are asked what they are, if they say it.
    status: Option<Status>,
    /// What is allowed to be done to it.
    hooks: Option<Arc<Hooks>>,
    /// Those under way, and whether they have been seen.
    faults: BTreeMap<u32, (Action, JoinHandle<()>)>,
    http: reqwest::Client,
    events: Sender<Happening>,
    happenings: Receiver<Happening>,
    start: Instant,
    _signals: Registration,
}

/// Why no run can begin.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// A node takes no connection.
    #[error("n{node} at {at} takes no connection ({why}): is the store running there?")]
    Unreachable {
        /// Which.
        node: Node,
        /// Where it should be.
        at: String,
        /// What happened.
        why: String,
    },
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody would undo faults.
    #[error("{0:#}")]
    Keeper(anyhow::Error),
    /// Something of this machine.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ExternalSubstrate {
    /// Looks whether every node takes connections; the reference store's if there is no other. The
    /// clock starts then. What clients that are programs write to standard error goes to the folder
    /// `clients` of the run's directory. What `prefix` says is put before every key in the store, and
    /// not in the history.
    ///
    /// Must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// If a node does not.
    pub fn start(
        external: &External,
        store: Option<&Store>,
        run_dir: &Path,
        prefix: String,
        call_timeout: Duration,
    ) -> Result<Self, ExternalError> {
        let io = |what| move |source| ExternalError::Io { what, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("external")
            .enable_all()
            .build()
            .map_err(io("starting the runtime"))?;
        let client = AnyClient::for_run(store, run_dir.join("clients"), call_timeout)?;
        let mut sockets = Vec::new();
        for (i, at) in external.nodes.iter().enumerate() {
            let reached = runtime.block_on(reach(at));
            sockets.push(reached.map_err(|why| ExternalError::Unreachable {
                node: i as Node + 1,
                at: at.clone(),
                why,
            })?);
        }
        let (events, happenings) = channel();
        let interrupted = events.clone();
        let handler = Handler {
            interrupt: Box::new(move || {
                // The runner may be gone already.
                let _ = interrupted.send(Happening::Interrupted);
            }),
            abandon: Box::new(|| ()),
        };
        let signals = signals::register(handler).map_err(io("listening for signals"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| ExternalError::Io {
                what: "making an HTTP client",
                source: io::Error::other(error),
            })?;
        let hooks = Hooks::begin(external, run_dir, events.clone());
        let hooks = hooks.map_err(ExternalError::Keeper)?.map(Arc::new);
        let addresses = external.nodes.iter().map(|at| client.address(at).into());
        let addresses = addresses.collect();
        let client = OwnKeys::new(client, prefix);
        Ok(Self {
            addresses,
            calls: Calls::new(client, runtime.handle().clone(), events.clone()),
            sockets,
            status: match store {
                None => Some(view::reference()),
                Some(store) => store.target().status(),
            },
            hooks,
            faults: BTreeMap::new(),
            http,
            runtime,
            events,
            happenings,
            start: Instant::now(),
            _signals: signals,
        })
    }

    /// Ends calls that are under way.
    pub fn stop(self) {
        self.runtime.shutdown_timeout(END_WITHIN);
        if let Some(hooks) = self.hooks {
            hooks.end();
        }
    }

    fn post(&self, happening: Happening) {
        // The receiver is this very value's.
        let _ = self.events.send(happening);
    }
}

/// The first address of a name that takes a connection.
async fn reach(at: &str) -> Result<SocketAddr, String> {
    let found = timeout(CONNECT_WITHIN, lookup_host(at)).await;
    let found = found.map_err(|_| "its name was not found in time".to_owned())?;
    let mut why = "its name has no address".to_owned();
    for address in found.map_err(|error| error.to_string())? {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("nothing in {CONNECT_WITHIN:?}"),
        }
    }
    Err(why)
}

/// Which nodes take connections, of a store whose nodes do not say who they are.
async fn present(sockets: Vec<SocketAddr>) -> View {
    let mut asked = JoinSet::new();
    for (i, socket) in sockets.into_iter().enumerate() {
        asked.spawn(async move {
            let connected = timeout(CONNECT_WITHIN, TcpStream::connect(socket)).await;
            let silent = NodeView::silent(i as Node + 1);
            match connected {
                Ok(Ok(_)) => NodeView {
                    role: Some("unknown".to_owned()),
                    ..silent
                },
                _ => silent,
            }
        });
    }
    let mut nodes = asked.join_all().await;
    nodes.sort_by_key(|view| view.node);
    View {
        nodes,
        ..View::default()
    }
}

impl Substrate for ExternalSubstrate {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation) {
        let place = usize::from(node).checked_sub(1);
        let Some(address) = place.and_then(|place| self.addresses.get(place)) else {
            let completion = refused(invocation, &format!("there is no n{node}"));
            return self.post(Happening::Completed { thread, completion });
        };
        self.calls
            .start(thread, node, Arc::clone(address), invocation.clone());
    }

    fn inject(&mut self, id: u32, order: &Order) {
        let Some(hooks) = self.hooks.clone() else {
            let proof = Proof::NotSeen("the store is not this harness's own".to_owned());
            return self.post(Happening::Injected { id, proof });
        };
        let (events, action) = (self.events.clone(), order.action().clone());
        let done = action.clone();
        let task = self.runtime.spawn(async move {
            let proof = hooks.inject(id, &action).await;
            // The runner may be gone already.
            let _ = events.send(Happening::Injected { id, proof });
        });
        self.faults.insert(id, (done, task));
    }

    fn heal(&mut self, id: u32) {
        let found = (self.hooks.clone()).zip(self.faults.remove(&id));
        let Some((hooks, (action, task))) = found else {
            let proof = Proof::NotSeen("nothing was done".to_owned());
            return self.post(Happening::Healed { id, proof });
        };
        let (events, done) = (self.events.clone(), action.clone());
        let task = self.runtime.spawn(async move {
            // A fault lasts at least until it is proven, and a second healing follows the first.
            let _ = task.await;
            let proof = hooks.heal(id, &action).await;
            // The runner may be gone already.
            let _ = events.send(Happening::Healed { id, proof });
        });
        self.faults.insert(id, (done, task));
    }

    fn poll_view(&mut self) {
        let (events, sockets) = (self.events.clone(), self.sockets.clone());
        let (http, status) = (self.http.clone(), self.status.clone());
        self.runtime.spawn(async move {
            let view = match status {
                Some(status) => {
                    let nodes: Vec<_> = (1..).zip(sockets.into_iter().map(Some)).collect();
                    view::poll_by(&http, &status, &nodes).await
                }
                None => present(sockets).await,
            };
            // The runner may be gone already.
            let _ = events.send(Happening::View(view));
        });
    }

    fn next(&mut self, deadline: u64) -> Happening {
        let wait = Duration::from_nanos(deadline.saturating_sub(self.now()));
        match self.happenings.recv_timeout(wait) {
            Ok(happening) => happening,
            Err(RecvTimeoutError::Timeout) => Happening::Deadline,
            // Not while `self` holds a sender.
            Err(RecvTimeoutError::Disconnected) => {
                Happening::Broken("the substrate has ended".to_owned())
            }
        }
    }
}
