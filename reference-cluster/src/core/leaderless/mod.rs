//! Leaderless replication.

use serde::{Deserialize, Serialize};

use super::{Config, Effect, NodeId, Record as AnyRecord, Replica, Time};

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

/// What Leaderless replicas tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {}

/// What a Leaderless replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {}

/// See [`super::start`].
pub fn start(
    _config: &Config,
    _id: NodeId,
    _nodes: &[NodeId],
    _seed: u64,
    _now: Time,
    _recovered: Vec<AnyRecord>,
    _effects: &mut Vec<Effect>,
) -> Box<dyn Replica> {
    unimplemented!("refused by Config::validate until it is built")
}
