//! Leaderless replication.

mod keys;
mod outbox;
mod reading;
mod replica;
mod ring;
#[cfg(test)]
mod tests;
mod version;
mod writing;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{ConfigError, within};
use super::{Config, Effect, NodeId, Record as AnyRecord, Replica, Scalar, Time, VersionVector};

pub use replica::Peer;
pub use version::{Actor, Dot, Dotted, Entry, Stamped};

/// How many replicas take part in a request, and how they are brought back in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leaderless {
    /// How many replicas hold a key; 1 to the number of nodes.
    pub n: u16,
    /// How many of them must answer a read; 1 to n.
    pub r: u16,
    /// How many of them must hold a write; 1 to n.
    pub w: u16,
    /// Whether other nodes stand in for those of a key that cannot be reached, with a hint to whom
    /// it belongs.
    pub sloppy: bool,
    /// What a read does about replicas that answered with less than others.
    pub read_repair: ReadRepair,
    /// Milliseconds between two exchanges of Merkle trees with a peer; 0: none; to 3 600 000.
    pub anti_entropy_ms: u64,
    /// How versions of a key are told apart.
    pub versions: Versions,
}

/// What a read does about replicas that answered with less than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadRepair {
    /// Nothing.
    Off,
    /// Sends them what they lack, after it has answered.
    Background,
    /// Sends them what they lack, and answers when enough of them have it.
    Blocking,
}

/// How versions of a key are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versions {
    /// By the timestamp of the node that took the write: the later wins.
    Lww,
    /// By dotted version vectors: concurrent ones are kept as siblings.
    Dotted,
}

impl Default for Leaderless {
    fn default() -> Self {
        Self {
            n: 3,
            r: 2,
            w: 2,
            sloppy: false,
            read_repair: ReadRepair::Background,
            anti_entropy_ms: 1_000,
            versions: Versions::Dotted,
        }
    }
}

impl Leaderless {
    /// Checks every field against its range and against the number of replicas.
    ///
    /// # Errors
    /// The first impossible value.
    pub(super) fn validate(&self, nodes: usize) -> Result<(), ConfigError> {
        let most = u16::try_from(nodes)
            .unwrap_or(u16::MAX)
            .min(version::NODE_MAX);
        if usize::from(most) < nodes {
            return Err(ConfigError {
                field: "leaderless",
                message: format!("expected at most {most} nodes, not {nodes}"),
            });
        }
        within("leaderless.n", self.n, 1, most)?;
        within("leaderless.r", self.r, 1, self.n)?;
        within("leaderless.w", self.w, 1, self.n)?;
        let hour = 3_600_000;
        within("leaderless.anti_entropy_ms", self.anti_entropy_ms, 0, hour)
    }
}

/// What leaderless replicas tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a coordinator: hold this, too.
    Put {
        /// Repeated in the answer.
        number: u64,
        /// The key.
        key: Arc<str>,
        /// What to merge into what is held.
        entry: Entry,
        /// Whether a read found that the receiver lacks it.
        repair: bool,
    },
    /// To a coordinator: it is held, durably by the fsync policy.
    Ack {
        /// The number answered.
        number: u64,
    },
    /// From a coordinator: make a new version of a key, and hold it.
    Mint {
        /// Repeated in the answer.
        number: u64,
        /// The key.
        key: Arc<str>,
        /// The value; none to delete.
        value: Option<Scalar>,
        /// Which versions it replaces.
        context: Option<VersionVector>,
    },
    /// To a coordinator: the version, durably held by the fsync policy; or why there is none.
    Minted {
        /// The number answered.
        number: u64,
        /// All that the sender now holds of the key.
        result: Result<Entry, String>,
    },
    /// From a coordinator: what do you hold?
    Get {
        /// Repeated in the answer.
        number: u64,
        /// The key.
        key: Arc<str>,
    },
    /// To a coordinator: this.
    Got {
        /// The number answered.
        number: u64,
        /// None: never heard of the key.
        entry: Option<Entry>,
    },
    /// To one that is suspected: are you there?
    Ping,
    /// To one that asked.
    Pong,
}

/// What a leaderless replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// All that is held of a key from now on.
    Held {
        /// The key.
        key: Arc<str>,
        /// What is held.
        entry: Entry,
        /// The epoch in which this node mints dots for the key, once it has.
        epoch: Option<u64>,
    },
}

/// See [`super::start`].
pub fn start(
    config: &Config,
    id: NodeId,
    nodes: &[NodeId],
    seed: u64,
    now: Time,
    recovered: Vec<AnyRecord>,
    effects: &mut Vec<Effect>,
) -> Box<dyn Replica> {
    Box::new(Peer::start(
        config, id, nodes, seed, now, recovered, effects,
    ))
}
