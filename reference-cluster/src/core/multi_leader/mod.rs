//! Multi-leader replication: every node takes writes and passes them on, as between the sites of
//! an active-active installation (Oracle's `GoldenGate`, `PostgreSQL` BDR, MySQL in a ring), `CouchDB`, or
//! devices that work offline.
//!
//! A node journals a write, acknowledges it when it is durable by the fsync policy, and replicates
//! the change asynchronously. What becomes of changes made concurrently is the heart of the matter:
//!
//! | `conflicts` | promises | does not promise |
//! | --- | --- | --- |
//! | `lww` | replicas converge on the value with the latest timestamp | acknowledged concurrent writes are lost; with `clock: wall`, later ones too, by as much as clocks differ. Every operation writes the whole value: so of two concurrent increments one is lost. Compare-and-set compares with what this node has |
//! | `siblings` | no acknowledged write vanishes before somebody who has read it replaces it; dotted version vectors ([`causal`]) | anything but writes, reads and deletions |
//! | `crdt` | no acknowledged increment, addition or insertion is lost ([`crdt`]) | compare-and-set; of two concurrent writes of a register or a field one is lost |
//! | `procedure` | a script of the user's decides ([`procedure`]) | replicas diverge unless it is commutative, associative and idempotent |
//! | `synchronous` | linearizable: there are no conflicts ([`synchronous`]) | no write while any node is away; reads of keys being written wait |
//! | `home` | each key is written at one node: no conflicts while homes stay ([`home`]) | a home moved before the new one has all of the old one's writes, or unknown to the old one: `lww` decides, acknowledged writes are lost |
//!
//! **Promises in all of them.** Once every fault has ended and nothing is pending, all nodes show
//! the same (but for the procedure). Replication is causal (Ladin et al., *Providing High
//! Availability Using Lazy Replication*, 1992; Lloyd et al., *Don't Settle for Eventual*, 2011): a
//! change is taken in after all those that its maker had. A client that carries its session reads
//! its own writes at any node, and never goes back in time: a node that has seen less waits for
//! `failover_timeout_ms`, then refuses. Reads are answered from the node's own state; what it shows
//! is durable.
//!
//! **Does not promise.** That reads are recent. That a write survives its node before another has
//! it: whoever is wiped takes along what it alone had. In a ring or a star, that changes get past a
//! node that is down: it blocks the way until it is back. Memory: tombstones of `lww` stay, those
//! of texts too; vectors grow by an entry for every life of a node that changed anything (with
//! `fsync: always` one for each wipe, else one for each start).
//!
//! **How changes travel.** Each has the name of its origin, which is a node in one of its lives, and
//! the next of that origin's sequence numbers. Nodes keep a vector of what they have of each
//! origin, take changes in in order, ignore what they have, and tell their neighbours ([`exchange`]).
//! A change that all neighbours have is dropped; so is the oldest of more than `log_keep`. Who
//! lacks what has been dropped gets the whole state, which is merged with its own, never put in
//! its place.
//!
//! **Offline clients**, the calendar that is written on a train, need nothing else: a device is a
//! node, cut off from the others, whose clients go on.

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
