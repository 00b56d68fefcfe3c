//! Leaderless replication, after Dynamo (`DeCandia` et al., *Dynamo: Amazon's Highly Available
//! Key-value Store*, 2007) and its heirs Riak and Cassandra.
//!
//! Every node takes every request and coordinates it. A key has n homes, its preference list: the
//! node that the key's hash points at and those that follow it in ascending order, round the ring.
//! A write is sent to all of them and acknowledged once w hold it, durably by the fsync policy; a
//! read asks all of them and answers with the first r answers, merged. Each request may ask for
//! other n, r and w than configured. (More homes than configured take a copy that only requests
//! with as large an n see again: anti-entropy minds the configured homes.) There are registers and
//! deletions only; a compare-and-set would need consensus.
//!
//! **Versions.** With `lww` the coordinator stamps a write with its clock, and the later stamp
//! wins; it never gives a stamp twice. With `dotted` a home of the key numbers the write (a *dot*)
//! and replaces the siblings that the request's context covers; what is concurrent is kept, and a
//! read returns all of it, with the context for the write that resolves it. (Preguiça, Baquero,
//! Almeida, Fonte & Gonçalves, *Dotted Version Vectors*, 2010.) The dot is minted by a replica, not
//! by the coordinator, because only who holds everything it ever minted for a key may let a context
//! say "all up to here". A replica that has nothing of the key mints under a fresh *epoch*, drawn
//! from its seed and clock at its start: so one that lost its disk never mints a dot twice. Where
//! syncs are not waited for, all epochs end with the process.
//!
//! **Promises.** With r + w > n, strict quorums and no replica that loses its disk, a read that
//! begins after a write was acknowledged returns it or what replaced it. With `dotted` no
//! acknowledged write vanishes unless a later one has seen it. With anti-entropy all homes of a key
//! converge once they can reach each other; [`Status::pending`](super::Status::pending) is 0
//! everywhere only when they have. What is deleted stays deleted (see `tombstones`).
//!
//! **Does not promise.** Linearizability: a write that too few acknowledged, or that is still on
//! its way, is seen by one read and not by the next. It is answered `Indeterminate`, stays where it
//! is, and may surface later. `read_repair: background` makes that rarer; `blocking`, where a read
//! answers only once w replicas hold what it returns, makes quorum reads monotonic, as Cassandra's
//! does, but two concurrent reads may still disagree, and it gives up availability: a read that
//! finds a partial write needs w replicas, too. With r + w ≤ n reads are stale without any fault.
//! With `lww` a concurrent write is lost by design, and one stamped by a clock that is behind is
//! shadowed by what it came after. A replica that lost its disk answers with nothing until
//! anti-entropy has refilled it, and counts as an answer.
//!
//! **Sloppy quorums.** The nodes that follow the homes on the ring stand in for those that did not
//! answer within a heartbeat, or are suspected, each with a *hint* to whom the write belongs; they
//! count towards w and r. Hints are durable and offered to their owners every failover timeout
//! until acknowledged. Writes are available as long as w nodes are, and r + w > n promises nothing
//! any more: reads on another side of a partition are stale, and if the stand-ins lose their disks
//! before the handoff, acknowledged writes are lost.
//!
//! **Who is refused.** A node is suspected that was silent for a heartbeat when it was asked, until
//! it is heard of; suspects are pinged every heartbeat. A request for which too few replicas are
//! not suspected is refused at once, certainly not done, as Cassandra's `UnavailableException`; one
//! that gets too few answers in a failover timeout is indeterminate (writes) or refused (reads).
//!
//! **Local answers.** `local` reads, `ReadAll` and digests answer from this node alone, from what
//! is its own and not from hints; a local read of a key that it is no home of is refused. Where
//! nodes hold different keys, each digest has a scope of its own, not to be compared with others.
//! Sessions are ignored. A deletion without a context removes what the minting replica holds.

mod anti_entropy;
mod handoff;
mod holding;
mod keys;
mod merkle;
mod outbox;
mod reading;
mod replica;
mod ring;
mod serving;
mod slots;
#[cfg(test)]
mod tests;
mod tombstones;
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
    /// How many replicas hold a key; 1 to the number of nodes, of which there are at most 63.
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
        /// To whom it belongs, if the receiver is to stand in.
        owner: Option<NodeId>,
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
        /// To whom it belongs, if the receiver is to stand in.
        owner: Option<NodeId>,
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
    /// From one who stood in: this belongs to you.
    Handoff {
        /// The key.
        key: Arc<str>,
        /// What was held in the receiver's stead.
        entry: Entry,
    },
    /// To one who stood in: it is held, durably by the fsync policy.
    HandedOff {
        /// The key.
        key: Arc<str>,
        /// The hash of what was handed off.
        hash: u64,
    },
    /// The roots of the trees of all ranges that sender and receiver both hold.
    Roots {
        /// Repeated in the answer.
        round: u64,
        /// In the order of the ranges.
        roots: Vec<Hash>,
    },
    /// Whether they were equal.
    Compared {
        /// The number answered.
        round: u64,
        /// All of them.
        same: bool,
    },
    /// Nodes of the trees whose parents differ.
    Hashes {
        /// Their level; that of the root is 0.
        level: u8,
        /// What they are.
        hashes: Vec<Hash>,
    },
    /// The keys of a leaf that differs.
    Listing {
        /// The range.
        range: u16,
        /// The place of the leaf.
        bucket: u16,
        /// All from this key on are listed …
        from: Arc<str>,
        /// … up to but not including this one; none: to the end.
        until: Option<Arc<str>>,
        /// In order, with the hashes of what is held of them.
        keys: Vec<(Arc<str>, u64)>,
    },
    /// What the receiver holds otherwise or not at all.
    Exchange {
        /// By key.
        entries: Vec<(Arc<str>, Entry)>,
        /// Keys of which the sender holds something else or nothing.
        want: Vec<Arc<str>>,
    },
    /// From the first home of a key, to collect a tombstone: hold it, too, and say so.
    Cover {
        /// The key.
        key: Arc<str>,
        /// The tombstone.
        entry: Entry,
    },
    /// What is held now, durably by the fsync policy.
    Covered {
        /// The key.
        key: Arc<str>,
        /// The hash of it.
        hash: u64,
    },
    /// All hold this tombstone: forget it.
    Forget {
        /// The key.
        key: Arc<str>,
        /// The hash of the tombstone.
        hash: u64,
    },
}

/// A node of a tree: range, place among the nodes of its level, hash.
pub type Hash = (u16, u16, u64);

/// What a leaderless replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// All that is held of a key from now on.
    Held {
        /// For whom, if this node stands in.
        owner: Option<NodeId>,
        /// The key.
        key: Arc<str>,
        /// What is held.
        entry: Entry,
        /// The epoch in which this node mints dots for the key, once it has.
        epoch: Option<u64>,
    },
    /// Nothing is held of a key any more.
    Forgotten {
        /// For whom, if this node stood in.
        owner: Option<NodeId>,
        /// The key.
        key: Arc<str>,
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
