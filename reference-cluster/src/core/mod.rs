//! Sans-I/O replicas: `(now, event) → effects`, in every replication mode, behind [`Replica`].

pub mod config;
pub mod gateway;
mod generate;
pub mod leaderless;
pub mod multi_leader;
pub mod observe;
pub mod raft;
pub mod single_leader;
pub mod store;
#[cfg(test)]
mod testing;
mod timing;
pub mod versions;

use std::borrow::Cow;
use std::sync::Arc;

pub use config::Config;
pub use versions::VersionVector;

/// Nanoseconds of the node's own clock: monotonic, and set by the wall clock when the node starts.
/// Two nodes' times differ by the offset and drift of their clocks, so that nothing but
/// last-write-wins, which is wrong by as much, should compare them.
///
/// Everything that waits (heartbeats, failover and election timeouts, leases, fences, patience
/// with a request, tombstones' grace) goes by this time, which nobody can set. What clients see of
/// the clock goes by the wall clock, which is this time plus the step of the last
/// [`Event::Stepped`]: the timestamps of last-write-wins (multi-leader, leaderless) and
/// [`Function::Now`]. A clock that is set therefore misleads the latter alone; one that runs fast
/// or slow misleads both, as on Linux, where adjusting the frequency changes `CLOCK_MONOTONIC` and
/// `CLOCK_REALTIME` alike and setting the time changes only the second.
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
    /// A sum.
    Counter(i64),
    /// Values by field.
    Map(std::collections::BTreeMap<Scalar, Scalar>),
    /// Values written concurrently to a register that nobody has resolved yet, ordered: only in
    /// answers. With one element where there is no conflict.
    Siblings(Vec<Scalar>),
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// The operation.
    pub op: Op,
    /// For reads: answer from this replica's own state whatever its role, knowing that it may be
    /// stale. Ignored by writes.
    pub local: bool,
    /// What the client's own operations have shown it so far. A replica that has seen less waits
    /// until it has caught up, or refuses. Modes without sessions ignore it.
    pub session: Option<VersionVector>,
    /// For writes: the versions that this one replaces, as a read gave them. Without one, a mode
    /// that keeps siblings takes the write for concurrent with all that its replicas hold.
    pub context: Option<VersionVector>,
    /// How many replicas are to take part, in leaderless mode.
    pub quorum: Quorum,
}

impl Request {
    /// An operation with nothing else asked for.
    pub fn new(op: Op) -> Self {
        Self {
            op,
            local: false,
            session: None,
            context: None,
            quorum: Quorum::default(),
        }
    }
}

/// N, R and W of one request (leaderless); what is absent is as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quorum {
    /// How many replicas hold the key.
    pub n: Option<u16>,
    /// How many of them must answer a read.
    pub r: Option<u16>,
    /// How many of them must hold a write.
    pub w: Option<u16>,
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
    /// Add to a counter, which begins at 0.
    Increment(Arc<str>, i64),
    /// Insert the last into a text (a list), after the first of its elements that equals the
    /// other; nil stands for the beginning.
    Insert(Arc<str>, Scalar, Scalar),
    /// Take an element out of a set or list, or a field out of a map.
    Remove(Arc<str>, Scalar),
    /// Set a field of a map.
    Put(Arc<str>, Scalar, Scalar),
    /// Forget the key.
    Delete(Arc<str>),
    /// Append to a list what the replica itself comes up with; answered by what it was.
    Generate(Arc<str>, Function),
    /// What a replica came up with, to be appended to a list: what a `Generate` becomes in a log.
    /// Not for clients.
    Generated(Arc<str>, Function, Scalar),
    /// A digest of what this replica holds. Always answered locally.
    Digest,
    /// Of an operator or the nemesis.
    Admin(Admin),
}

/// What a replica can come up with: the functions that make statements differ when they are
/// executed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// The time of the executing node's clock.
    Now,
    /// A number drawn by the executing node.
    Random,
    /// One more than the executing node's own counter, which failed operations advance too.
    AutoIncrement,
    /// A row that a trigger of the executing node writes: how many it has written so far, by the
    /// name of the node.
    Trigger,
}

/// What an operator can ask of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    /// Become the home of all keys that have that node as their home (multi-leader).
    TakeHome(NodeId),
    /// Let a node join (raft; asked of the leader).
    AddMember(NodeId),
    /// Let a node leave (raft; asked of the leader).
    RemoveMember(NodeId),
    /// Hand the leadership over (raft, single-leader; asked of the leader).
    TransferLeadership(NodeId),
    /// Take a snapshot and drop the log before it; asked of the node that is to do so, whatever
    /// its role. In leaderless mode, which has no log, the journal is written anew. Answered when
    /// the write has begun.
    Snapshot,
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
    /// Takes reads and writes like all others (leaderless).
    Peer,
    /// Holds nothing; passes requests on to replicas.
    Gateway,
    /// Holds nothing; watches the leader and promotes another.
    Monitor,
}

impl Role {
    /// As it is written in histories and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Peer => "peer",
            Self::Gateway => "gateway",
            Self::Monitor => "monitor",
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reply {
    /// What came of it.
    pub result: Result<Answer, Refusal>,
    /// The replica that answers, which is not the node asked where a gateway passed it on.
    pub node: NodeId,
    /// The role of the node that answers: a witness for split brain.
    pub role: Role,
    /// Its epoch or term.
    pub epoch: u64,
    /// The entry that a write made, or the newest entry that a read saw; zero without a log.
    pub position: Position,
    /// For the client's next requests: the session that this operation leaves.
    pub session: Option<VersionVector>,
    /// For a write that is to replace what this read showed, in modes that keep siblings.
    pub context: Option<VersionVector>,
}

/// A request that took effect.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// A write, compare-and-set, append or add was done.
    Done,
    /// What the key holds; `None` if it was never written.
    Value(Option<Datum>),
    /// What all keys hold, ordered by key.
    All(Vec<(Arc<str>, Datum)>),
    /// What was generated and appended.
    Generated(Scalar),
    /// What the replica holds, as a number.
    Digest(StateDigest),
}

/// What a replica says of its state as a whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StateDigest {
    /// Equal digests of the same scope, equal states (but for chance).
    pub digest: u64,
    /// The prefix of the keys that it holds; empty: all.
    pub scope: Arc<str>,
    /// Why it no longer replicates, if so.
    pub stopped: Option<Arc<str>>,
}

/// A request that was not, or not certainly, carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
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
    WrongKind(Cow<'static, str>),
    /// Certainly not done: this mode, or this kind of node, has no such operation.
    #[error("{0}")]
    Unsupported(Cow<'static, str>),
    /// Certainly not done, for another reason.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// Nobody knows: e.g. leadership was lost after the entry was appended.
    #[error("outcome unknown: {0}")]
    Indeterminate(Cow<'static, str>),
}

/// A message between replicas; each mode has its own, and ignores another's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Message {
    /// Of the single-leader mode.
    SingleLeader(single_leader::Message),
    /// Of the Raft mode.
    Raft(raft::Message),
    /// Of the multi-leader mode.
    MultiLeader(multi_leader::Message),
    /// Of the leaderless mode.
    Leaderless(leaderless::Message),
    /// Between gateways or monitors and replicas of any mode.
    Gateway(gateway::Message),
}

/// A record of the journal; each mode has its own, and ignores another's.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Record {
    /// Of the single-leader mode.
    SingleLeader(single_leader::Record),
    /// Of the Raft mode. Boxed, for it is far larger than the other.
    Raft(Box<raft::Record>),
    /// Of the multi-leader mode.
    MultiLeader(Box<multi_leader::Record>),
    /// Of the leaderless mode.
    Leaderless(Box<leaderless::Record>),
}

impl Record {
    /// Whether it holds the whole state instead of what changed it.
    pub fn is_snapshot(&self) -> bool {
        match self {
            Self::SingleLeader(record) => matches!(record, single_leader::Record::Snapshot(..)),
            Self::Raft(record) => matches!(**record, raft::Record::Snapshot { .. }),
            Self::MultiLeader(record) => matches!(**record, multi_leader::Record::Snapshot(_)),
            Self::Leaderless(_) => false,
        }
    }
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
    /// The wall clock was set: from now on it shows so many nanoseconds more than [`Time`] does
    /// (less, if negative). 0 until told otherwise.
    Stepped(i64),
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
    /// The node no longer replicates; why.
    Stopped(Arc<str>),
    /// Something worth a line in the log, and counting: e.g. `semi-sync fell back to async`.
    Remark(&'static str),
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
    /// What this node knows that it has still to deliver to others or to fetch from them: 0 on all
    /// nodes means that the cluster has settled. Modes with one leader are judged by their logs
    /// instead and leave it 0.
    #[serde(default)]
    pub pending: u64,
    /// The version of the storage format that it writes.
    #[serde(default)]
    pub storage_version: u16,
    /// Why it no longer replicates, if so.
    #[serde(default)]
    pub stopped: Option<Arc<str>>,
    /// The followers whose copies its acknowledgements rest on, where it leads and waits for some
    /// (single-leader, synchronous or semi-synchronous).
    #[serde(default)]
    pub standbys: Vec<NodeId>,
}

/// A replica of the store in some replication mode.
///
/// Implementations are deterministic: the same configuration, recovered records, seed and
/// sequence of `(now, event)` give the same effects. The trait knows of no leader: where several
/// lead each node is a [`Role::Leader`], where none does a [`Role::Peer`].
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

    /// What this replica itself holds of a key at the moment, for observers; none if nothing, or if
    /// it holds no part of the state.
    fn holds(&self, key: &Arc<str>) -> Option<Datum> {
        let _ = key;
        None
    }
}

/// Starts a replica, for the first time or again.
///
/// `nodes` are all nodes, this one included, in ascending order; all are given the same. The last
/// [`Config::auxiliaries`] of them hold no data: gateways, then the monitor if there is one.
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
    let replicas = nodes.len().saturating_sub(config.auxiliaries());
    if let Some(which) = nodes.iter().skip(replicas).position(|node| *node == id) {
        return gateway::start(config, id, &nodes[..replicas], which, seed, now);
    }
    let nodes = &nodes[..replicas];
    let replica: Box<dyn Replica> = match config.mode {
        config::Mode::SingleLeader => Box::new(single_leader::SingleLeader::start(
            config, id, nodes, seed, now, recovered, effects,
        )),
        config::Mode::Raft => Box::new(raft::Raft::start(
            config, id, nodes, seed, now, recovered, effects,
        )),
        config::Mode::MultiLeader => {
            multi_leader::start(config, id, nodes, seed, now, recovered, effects)
        }
        config::Mode::Leaderless => {
            leaderless::start(config, id, nodes, seed, now, recovered, effects)
        }
    };
    if config.auxiliaries() == 0 {
        return replica;
    }
    Box::new(gateway::Served::new(replica, now))
}
