//! Runs one replica as a process: HTTP for clients and peers, a checksummed log on disk.
//!
//! * `driver`: one task owns the replica; all events reach it through channels, and it carries
//!   out the effects. It never waits for a disk or a peer.
//! * `disk`, `journal`: one thread writes the journal; syncs that are asked for together are done
//!   together (group commit).
//! * `peers`: one task a peer sends batches of messages; what a peer does not take in time is lost,
//!   as on any network.
//! * `api`, `keys`, `query`, `json`: the HTTP interface, for clients, peers and operators.
//! * `metrics`: what is counted.
//! * `faults`: what a node does to itself when told to.
//! * `owner`: the end of the process with that of its owner.
//!
//! # HTTP
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/kv/{key}` | `{"value": …}`, `null` if never written |
//! | `GET /v1/kv` | `{"entries": {key: value, …}}` |
//! | `PUT /v1/kv/{key}` `{"value": v}` | |
//! | `DELETE /v1/kv/{key}` | forgets the key |
//! | `POST /v1/kv/{key}/cas` `{"old": a, "new": b}` | |
//! | `POST /v1/kv/{key}/append` `{"value": v}` | at the end of a list |
//! | `POST /v1/kv/{key}/add` `{"value": v}` | to a set |
//! | `POST /v1/kv/{key}/increment` `{"value": n}` | a counter, by `n`, which may be negative |
//! | `POST /v1/kv/{key}/insert` `{"after": a, "value": v}` | into a text (a list) after the element `a`; `null`: at the beginning |
//! | `POST /v1/kv/{key}/remove` `{"value": v}` | an element out of a set or list, a field out of a map |
//! | `POST /v1/kv/{key}/put` `{"field": f, "value": v}` | a field of a map |
//! | `POST /v1/kv/{key}/generate` `{"function": f}` | `{"value": …}`, which was generated and appended; `f` is `now`, `random`, `auto-increment` or `trigger` |
//! | `GET /v1/digest` | `{"digest": hex, "scope": prefix[, "stopped": why]}` of what this node itself holds |
//! | `POST /v1/admin` | asks for an [`Admin`](crate::core::Admin), e.g. `{"add-member": 3}` |
//! | `GET /v1/status` | [`Status`](crate::core::Status), and as `clock` the [`Clocks`] |
//! | `POST /v1/fault/crash` `{"at": point}` | the process ends itself, as `SIGKILL` would, when it passes the [`CrashPoint`] next, e.g. `before-fsync`; `null`: it does not |
//! | `POST /v1/fault/clock` | a [`ClockFault`]: `{"jump": {"by_ms": -500}}`, `{"drift": {"ppm": 200}}`, `{"strobe": {"by_ms": 500, "every_ms": 50}}`, `"reset"` |
//! | `GET /healthz` | 200: the process answers |
//! | `GET /readyz` | 200: it knows a leader, if there is one in its mode, and in Raft mode its log has an entry of that leader's term; else 503 |
//! | `GET /metrics` | Prometheus text |
//! | `POST /internal/messages` | 204; for peers |
//!
//! Faults are refused (403 `forbidden`) unless the node was started with
//! [`NodeOptions::allow_faults`].
//!
//! A request about keys may say more in its query:
//!
//! | parameter | meaning |
//! | --- | --- |
//! | `read=local` | answer from this node's own state, stale or not (reads) |
//! | `session=n0:5` | what the client's operations have shown it so far; a replica that has seen less waits or refuses |
//! | `context=n1:3,n2:4` | the versions that this write replaces, as a read gave them |
//! | `n=`, `r=`, `w=` | how many replicas hold the key, must answer a read, must hold a write (leaderless) |
//!
//! Values are numbers (64-bit signed), strings or `null`; lists, sets and siblings come back as
//! arrays, maps as arrays of `[field, value]`, counters as numbers. Every answer about keys has the
//! witnesses `node` (the replica that answered, which is another than the one asked behind a
//! gateway), `role`, `epoch`, `position`, and in modes that have them `session` and `context`, to be
//! handed back as they are. An error is
//! `{"error": code, "message": …, "outcome": "fail" | "info"}` with the witnesses where a replica
//! was asked: 421 `not-leader` (with `leader` where known), 409 `cas-mismatch` (with `actual`) and
//! `wrong-kind`, 501 `unsupported` in this mode, 503 `unavailable`, 504 `indeterminate`, 400 `bad-input`, 413 `too-large`, 404
//! `not-found`, 405 `method-not-allowed`. Only `indeterminate` is `info`: all else was certainly
//! not done.

mod api;
mod disk;
mod driver;
mod faults;
mod journal;
mod json;
mod keys;
mod metrics;
mod owner;
mod peers;
mod query;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::core::config::ConfigError;
use crate::core::{Config, NodeId};

pub use faults::{ClockFault, Clocks, CrashPoint, ENDING_AT};
pub use journal::{JOURNAL_VERSION, JournalError, newest_snapshot};

/// How to run one node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Which node this is.
    pub id: NodeId,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The other nodes: `host:port` or base URL.
    pub peers: BTreeMap<NodeId, String>,
    /// Folder of the journal; made if missing.
    pub data: PathBuf,
    /// How the cluster replicates; the same on all nodes.
    pub config: Config,
    /// Seed of this node's timeouts. Give all nodes of a cluster the same or different ones.
    pub seed: u64,
    /// Whether anybody may have it end itself, or make its clock wrong.
    pub allow_faults: bool,
    /// Have the kernel kill this process when the thread that started it ends (Linux).
    pub exit_with_parent: bool,
    /// Return from [`run`] when stdin reaches its end, as it does when the owner of the other end
    /// of the pipe is gone.
    pub exit_on_stdin_eof: bool,
}

/// Why a node did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration is impossible.
    #[error("impossible configuration: {0}")]
    Config(#[from] ConfigError),
    /// Its own number is 0 or among the peers.
    #[error("node n{0} is 0 or its own peer; number the nodes from 1 and list the others as peers")]
    Identity(u16),
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}; is another process using it?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The HTTP client for peers could not be set up.
    #[error("cannot set up the client for peers: {0}")]
    Peers(#[from] reqwest::Error),
    /// The end of the owner could not be watched.
    #[error("cannot watch the owner of this process: {0}")]
    Owner(#[source] io::Error),
    /// The server ended unasked.
    #[error("the server ended: {0}")]
    Server(String),
}

/// A node that is up: its address, and its end.
pub(crate) struct Running {
    pub address: SocketAddr,
    /// Ends when the journal fails, or the replica or the server does.
    failed: oneshot::Receiver<JournalError>,
    driver: JoinHandle<()>,
    serving: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Waits until something ends that should not.
    async fn ended(self) -> NodeError {
        tokio::select! {
            Ok(error) = self.failed => NodeError::Journal(error),
            ended = self.driver => NodeError::Server(format!("the replica ended: {ended:?}")),
            ended = self.serving => NodeError::Server(format!("{ended:?}")),
        }
    }
}

/// Checks the options and binds the address.
pub(crate) async fn bind(options: &NodeOptions) -> Result<TcpListener, NodeError> {
    let NodeOptions {
        id, listen, config, ..
    } = options;
    if id.0 == 0 || options.peers.contains_key(id) {
        return Err(NodeError::Identity(id.0));
    }
    let nodes = options.peers.len() + 1;
    config.validate(nodes.saturating_sub(config.auxiliaries()))?;
    TcpListener::bind(listen)
        .await
        .map_err(|source| NodeError::Listen {
            address: *listen,
            source,
        })
}

/// Recovers the journal and starts all tasks.
pub(crate) fn start(options: &NodeOptions, listener: TcpListener) -> Result<Running, NodeError> {
    let NodeOptions {
        id, listen, config, ..
    } = options;
    let (journal, recovered) = journal::Journal::open(&options.data)?;
    let address = listener.local_addr().map_err(|source| NodeError::Listen {
        address: *listen,
        source,
    })?;

    let metrics = Arc::new(metrics::Metrics::default());
    let trap = Arc::new(faults::Trap::default());
    let (disk, synced, failed) = disk::spawn(journal, metrics.clone(), trap.clone())?;
    let links = peers::connect(*id, &options.peers, &metrics)?;
    let nodes = options.peers.keys().copied().chain([*id]).collect();
    let (inputs, received) = mpsc::channel(driver::INPUTS_MAX);
    let acts = driver::ActsUpon {
        links,
        disk,
        metrics: metrics.clone(),
        trap: trap.clone(),
    };
    let driver = driver::Driver::new(options, nodes, recovered, acts);
    let driver = tokio::spawn(driver.run(received, synced));
    let app = api::App {
        id: *id,
        config: config.clone(),
        peers: options.peers.keys().copied().collect(),
        inputs,
        metrics,
        trap: options.allow_faults.then_some(trap),
    };
    let serving = tokio::spawn(async move { axum::serve(listener, api::router(app)).await });
    Ok(Running {
        address,
        failed,
        driver,
        serving,
    })
}

/// Runs a node until its owner is gone (if told to watch it) or something fails.
///
/// Once it listens it prints one line on stdout: `listening 127.0.0.1:41233`.
///
/// # Errors
/// See [`NodeError`].
pub async fn run(options: NodeOptions) -> Result<(), NodeError> {
    if options.exit_with_parent {
        owner::die_with_parent().map_err(NodeError::Owner)?;
    }
    let watched = options.exit_on_stdin_eof.then(owner::stdin_end);
    let orphaned = watched.transpose().map_err(NodeError::Owner)?;
    let listener = bind(&options).await?;
    let running = start(&options, listener)?;
    let mut stdout = io::stdout();
    // Who does not read this line does not need it.
    let _ = writeln!(stdout, "listening {}", running.address).and_then(|()| stdout.flush());
    tracing::info!(node = %format_args!("n{}", options.id.0), address = %running.address, "up");
    let orphaned = async {
        match orphaned {
            Some(end) => drop(end.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        error = running.ended() => Err(error),
        () = orphaned => {
            tracing::info!("the owner of this process is gone: ending");
            Ok(())
        }
    }
}
