//! Sans-I/O replicas: `(now, event) → effects`, in every replication mode, behind [`Replica`].

pub mod config;
pub mod raft;
pub mod single_leader;
pub mod store;
#[cfg(test)]
mod testing;
mod timing;

use std::sync::Arc;

pub use config::Config;

/// Nanoseconds of the node's own monotonic clock. In simulation that clock may be offset and
/// drift; no two nodes' times are comparable.
pub type Time = u64;

/// A node, numbered from 1; displayed as `n1`, `n2`, …
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// One client request, numbered by the shell; unique in the life of a replica.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// An element or register value. Bounded in size by the server, not here.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Scalar {
    /// Nothing; what a key that was never written reads as.
    Nil,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(Arc<str>),
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Datum {
    /// A single value.
    Register(Scalar),
    /// Elements in the order appended.
    List(Vec<Scalar>),
    /// Distinct elements, ordered.
    Set(std::collections::BTreeSet<Scalar>),
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation.
    pub op: Op,
    /// For reads: answer from this replica's own state whatever its role, knowing that it may be
    /// stale. Ignored by writes.
    pub local: bool,
}

/// The operations of the store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Op {
    /// Read one key.
    Read(Arc<str>),
    /// Read all keys.
    ReadAll,
    /// Overwrite a register.
    Write(Arc<str>, Scalar),
    /// Set a register to the second value if it holds the first.
    Cas(Arc<str>, Scalar, Scalar),
    /// Append to a list.
    Append(Arc<str>, Scalar),
    /// Add to a set.
    Add(Arc<str>, Scalar),
}

/// What a node thinks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Replicates from a leader.
    Follower,
    /// Seeks to become leader.
    Candidate,
}

/// Place of an entry in a replicated log. Two entries with the same position are the same entry,
/// and so are all before them (log matching).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Position {
    /// Epoch or term in which the entry was created.
    pub epoch: u64,
    /// The leader that created it (0 where the epoch alone says so, as in Raft).
    pub leader: u16,
    /// Index in the log, from 1; 0 is the empty log.
    pub index: u64,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What came of it.
    pub result: Result<Answer, Refusal>,
    /// The role of the node that answers: a witness for split brain.
    pub role: Role,
    /// Its epoch or term.
    pub epoch: u64,
    /// The entry that a write made, or the newest entry that a read saw.
    pub position: Position,
}

/// A request that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A write, compare-and-set, append or add was done.
    Done,
    /// What the key holds; `None` if it was never written.
    Value(Option<Datum>),
    /// What all keys hold, ordered by key.
    All(Vec<(Arc<str>, Datum)>),
}

/// A request that was not, or not certainly, carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Certainly not done: this node is not the leader.
    #[error("not the leader{}", .leader.map(|l| format!(", try n{}", l.0)).unwrap_or_default())]
    NotLeader {
        /// Who it believes the leader is.
        leader: Option<NodeId>,
    },
    /// Certainly not done: the register held another value.
    #[error("the register holds another value")]
    CasMismatch {
        /// What it held.
        actual: Scalar,
    },
    /// Certainly not done: the key holds another kind of datum.
    #[error("the key holds a {0}")]
    WrongKind(&'static str),
    /// Certainly not done, for another reason.
    #[error("{0}")]
    Unavailable(&'static str),
    /// Nobody knows: e.g. leadership was lost after the entry was appended.
    #[error("outcome unknown: {0}")]
    Indeterminate(&'static str),
}

/// A message between replicas; each mode has its own, and ignores another's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// Of the single-leader mode.
    SingleLeader(single_leader::Message),
    /// Of the Raft mode.
    Raft(raft::Message),
}

/// A record of the journal; each mode has its own, and ignores another's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Record {
    /// Of the single-leader mode.
    SingleLeader(single_leader::Record),
    /// Of the Raft mode. Boxed, for it is far larger than the other.
    Raft(Box<raft::Record>),
}

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer's message arrived. May be duplicated, reordered, late or never.
    Message(NodeId, Message),
    /// A client's request arrived.
    Request(RequestId, Request),
    /// Everything up to and including the [`DiskOp::Sync`] with this token is durable.
    Synced(u64),
    /// [`Replica::deadline`] has passed.
    Wake,
}

/// What a replica wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to a peer; may be lost.
    Send(NodeId, Message),
    /// Answer a client.
    Reply(RequestId, Reply),
    /// Write to disk. Operations of one replica reach the disk in order.
    Disk(DiskOp),
    /// Something an observer wants to know; changes nothing.
    Trace(Trace),
}

/// Operations on the replica's journal: an append-only sequence of records.
#[derive(Clone, Debug)]
pub enum DiskOp {
    /// Append a record. Survives a crash of the process, not a loss of power, until synced.
    Append(Record),
    /// Make durable all before; [`Event::Synced`] with this token tells when.
    Sync(u64),
    /// Replace the whole journal by these records, atomically and durably (compaction); the
    /// records replaced so far need no further sync. [`Event::Synced`] with this token tells when.
    Replace(Vec<Record>, u64),
}

/// For observers: ground truth in simulation, log lines and counters in the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// The replica changed its role or epoch.
    Role {
        /// The new role.
        role: Role,
        /// The new epoch.
        epoch: u64,
    },
    /// An entry was created by this node as leader.
    Created {
        /// The entry.
        position: Position,
        /// The entry before it in the log.
        previous: Position,
        /// The request that made it; none for the mode's own entries.
        request: Option<RequestId>,
    },
    /// The tail of the log after `keep` was thrown away because it diverged from the leader's.
    Discarded {
        /// The newest entry kept.
        keep: Position,
        /// The discarded entries, oldest first, with the operation of each.
        entries: Vec<(Position, Option<Op>)>,
    },
    /// The whole state was replaced by a leader's snapshot up to this entry.
    SnapshotInstalled(Position),
}

/// What a node says of itself, for operators, role selectors and the live display.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its epoch or term.
    pub epoch: u64,
    /// Who it believes the leader is.
    pub leader: Option<NodeId>,
    /// The newest entry in its log.
    pub last: Position,
    /// The newest entry applied to its state.
    pub applied: u64,
    /// Acknowledged or not, entries thrown away as divergent since the process started.
    pub discarded: u64,
}

/// A replica of the store in some replication mode.
///
/// Implementations are deterministic: the same configuration, recovered records, seed and
/// sequence of `(now, event)` give the same effects. The trait knows of no leader: a mode without
/// one reports every node as [`Role::Leader`].
pub trait Replica: Send {
    /// Takes in one event and appends to `effects` what is to be done.
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>);

    /// When to deliver the next [`Event::Wake`]; `Time::MAX` for never. Asked after every event.
    fn deadline(&self) -> Time;

    /// What the node says of itself. O(1).
    fn status(&self) -> Status;

    /// A digest of the state: equal digests, equal states (but for chance). O(state).
    fn digest(&self) -> u64;

    /// The positions of the log from `first` on, oldest first (fewer if truncated), for observers.
    fn log(&self, first: u64) -> Vec<Position>;
}

/// Starts a replica, for the first time or again.
///
/// `nodes` are all members, this one included, in ascending order; all are given the same.
/// `recovered` are the records of the journal that survived, in order. `seed` is the node's own;
/// two replicas given the same arguments and the same events do the same. The configuration must
/// have passed [`Config::validate`].
pub fn start(
    config: &Config,
    id: NodeId,
    nodes: &[NodeId],
    seed: u64,
    now: Time,
    recovered: Vec<Record>,
    effects: &mut Vec<Effect>,
) -> Box<dyn Replica> {
    match config.mode {
        config::Mode::SingleLeader => Box::new(single_leader::SingleLeader::start(
            config, id, nodes, seed, now, recovered, effects,
        )),
        config::Mode::Raft => Box::new(raft::Raft::start(
            config, id, nodes, seed, now, recovered, effects,
        )),
    }
}
