//! Multi-leader replication.

use serde::{Deserialize, Serialize};

use super::{Config, Effect, NodeId, Record as AnyRecord, Replica, Time};

/// How leaders replicate among each other, and what becomes of conflicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultiLeader {
    /// Who sends changes to whom.
    pub topology: Topology,
    /// What becomes of concurrent changes of a key.
    pub conflicts: Conflicts,
    /// Where timestamps come from, with `conflicts: lww`.
    pub clock: Clock,
    /// The source of `merge(ours, theirs)`, with `conflicts: procedure`.
    pub procedure: String,
    /// How many steps the procedure may take; 100 to 10 000 000.
    pub procedure_steps: u64,
    /// Milliseconds after which changes that were not acknowledged are sent again; 1 to 600 000.
    pub resend_ms: u64,
}

/// Who sends changes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Everybody to everybody.
    AllToAll,
    /// Each to the next, which passes it on.
    Ring,
    /// The first to all others and back.
    Star,
}

/// What becomes of concurrent changes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflicts {
    /// The one with the later timestamp wins: the other is lost.
    Lww,
    /// All are kept and returned to the next reader, who resolves them.
    Siblings,
    /// Data types whose changes commute.
    Crdt,
    /// A script decides.
    Procedure,
    /// There are none: a write waits until all others have it, or fails.
    Synchronous,
    /// There are none: each key is written at its home only.
    Home,
}

/// Where timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The node's clock.
    Wall,
    /// A hybrid logical clock: the node's clock, but never behind what it has seen.
    Hybrid,
}

impl Default for MultiLeader {
    fn default() -> Self {
        Self {
            topology: Topology::AllToAll,
            conflicts: Conflicts::Lww,
            clock: Clock::Wall,
            procedure: "fn merge(ours, theirs) { if ours > theirs { ours } else { theirs } }"
                .to_owned(),
            procedure_steps: 10_000,
            resend_ms: 200,
        }
    }
}

/// What Multi-leader replicas tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {}

/// What a Multi-leader replica writes to its journal.
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
