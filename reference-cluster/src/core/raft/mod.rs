//! Consensus by Raft (Ongaro & Ousterhout, *In Search of an Understandable Consensus Algorithm*,
//! 2014), on the engine of `TiKV` (crate `raft`), stepped by hand.
//!
//! A write is acknowledged once a majority holds it durably and the leader has applied it. A read
//! at the leader is answered after the leader has confirmed, by a round of heartbeats to a
//! majority, that it still leads (`ReadIndex`; Ongaro, *Consensus: Bridging Theory and Practice*,
//! 2014, §6.4); reads that come while a round is under way share the next one. `PreVote` (§9.6) and
//! check-quorum (§6.2) are on.
//!
//! **Promises.** With `fsync: always`: every acknowledged write survives as long as a majority of
//! the disks does; all replicas apply the same entries in the same order; operations at the
//! leader are linearizable. A minority that is cut off acknowledges nothing.
//!
//! **Does not promise.** With `reads: local`, or a read that asks to be local, any replica answers
//! from its own state, which may be arbitrarily stale. With `fsync: interval` or `never` a loss of
//! power breaks the assumption on which Raft stands: acknowledged writes may be lost and replicas
//! may disagree. A node that learns of such a disagreement halts, as the engine would, rather than
//! go on; one that merely lost its tail stays behind until the next election. No availability
//! without a majority.
//!
//! **Exactness.** The engine draws its randomised election timeout from the thread's random
//! generator, and uses it nowhere but to compare with the ticks that have passed. So after every
//! call it is overwritten by a number that depends on seed, node and term alone; no call both draws
//! it and compares with it. All else in the engine is deterministic (its maps hash without a
//! random state).

mod generate;
mod lease;
mod members;
mod reads;
mod recovery;
mod replica;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::store::Store;

pub use replica::Raft;

/// A message between replicas.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// One of the engine's.
    Engine(Wire),
    /// To one that stands for election: it has left the cluster.
    NotAMember {
        /// By this index of the log at the latest.
        since: u64,
    },
}

/// A message of the engine. Serialised as its protobuf bytes.
#[derive(Clone, Debug)]
pub struct Wire(pub(crate) Box<::raft::eraftpb::Message>);

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.write_to_bytes().map_err(serde::ser::Error::custom)?;
        Bytes::from(bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let message = ::raft::eraftpb::Message::parse_from_carllerche_bytes(&bytes)
            .map_err(de::Error::custom)?;
        Ok(Self(Box::new(message)))
    }
}

/// What a Raft replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An entry; the log ends with it, whatever followed before.
    Entry {
        /// Place in the log.
        index: u64,
        /// Term in which it was created.
        term: u64,
        /// Whether it changes who the members are.
        members: bool,
        /// The operation or the change, encoded; empty for the engine's own entries.
        data: Bytes,
        /// Which node's request, encoded.
        context: Bytes,
    },
    /// The term, and whom this node voted for in it (0: nobody).
    Vote {
        /// The current term.
        term: u64,
        /// The node voted for.
        vote: u64,
    },
    /// The log begins after this state, and is empty.
    Snapshot {
        /// The newest entry that the state includes.
        index: u64,
        /// Its term.
        term: u64,
        /// The first index of each term in the log up to there.
        beginnings: Arc<[(u64, u64)]>,
        /// Who the members are.
        members: Arc<[u64]>,
        /// The state.
        store: Arc<Store>,
    },
}
