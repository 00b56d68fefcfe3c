//! Multi-leader replication.

mod causal;
mod changes;
mod clock;
mod content;
pub mod crdt;
mod exchange;
mod home;
mod links;
mod lww;
mod origin;
mod procedure;
mod replica;
mod siblings;
mod synchronous;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::clock::{Moment, Stamp};
pub use self::content::Cell;
pub use self::home::Owner;
use self::origin::NODES_MAX;
pub use self::origin::{Dot, Origin, Vector};
use self::procedure::Procedure;
pub use self::synchronous::Attempt;
use super::config::{ConfigError, within};
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

/// A change of one key at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Who made it, and which of its changes it is.
    pub dot: Dot,
    /// When.
    pub moment: Moment,
    /// What its maker had of the others: they come before it everywhere.
    pub after: Vector,
    /// What changes.
    pub payload: Payload,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// What a key holds: to be merged.
    Cell(Arc<str>, Cell),
    /// Who owns the keys whose first home was this node.
    Home(NodeId, Owner),
}

/// All that a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The latest time in it.
    pub moment: Moment,
    /// The changes that went into it.
    pub vector: Vector,
    /// What each key holds.
    pub cells: Vec<(Arc<str>, Cell)>,
    /// Homes that were taken over.
    pub homes: BTreeMap<NodeId, Owner>,
}

/// What a node needs to start again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the node.
    pub life: u32,
    /// What it holds.
    pub state: State,
    /// The changes before those that are kept.
    pub base: Vector,
    /// The changes that are kept for others. They are part of the state.
    pub changes: Vec<Arc<Change>>,
    /// Keys that are promised to others (synchronous).
    pub promises: Vec<(Arc<str>, Attempt)>,
}

/// What multi-leader replicas tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The changes that the sender has, durably by the fsync policy.
    Have {
        /// Tells runs of the sender's process apart.
        run: u64,
        /// The changes.
        vector: Vector,
    },
    /// Changes, in the order in which the sender took them in.
    Changes(Arc<[Arc<Change>]>),
    /// All that the sender holds, to be merged.
    State(Arc<State>),
    /// About a write that is under way (synchronous).
    Synchronous(synchronous::Message),
}

/// What a multi-leader replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The node began a life.
    Life(u32),
    /// A change was made or taken in.
    Change(Arc<Change>),
    /// What another node held was merged.
    State(State),
    /// A key was promised to a writer (synchronous).
    Promised(Arc<str>, Attempt),
    /// The promise is over.
    Released(Arc<str>, Attempt),
    /// Replaces all before.
    Snapshot(Box<Snapshot>),
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
    Box::new(replica::MultiLeader::start(
        config, id, nodes, seed, now, recovered, effects,
    ))
}

impl MultiLeader {
    /// Checks every field against its range, if the mode is chosen.
    ///
    /// # Errors
    /// The first impossible value.
    pub fn validate(&self, nodes: usize) -> Result<(), ConfigError> {
        let error = |field, message| Err(ConfigError { field, message });
        if nodes > NODES_MAX {
            let message = format!("expected at most {NODES_MAX} nodes, not {nodes}");
            return error("multi_leader", message);
        }
        within("multi_leader.resend_ms", self.resend_ms, 1, 600_000)?;
        within(
            "multi_leader.procedure_steps",
            self.procedure_steps,
            100,
            10_000_000,
        )?;
        if self.conflicts == Conflicts::Procedure
            && let Err(message) = Procedure::compile(&self.procedure, self.procedure_steps)
        {
            return error("multi_leader.procedure", message);
        }
        Ok(())
    }
}
