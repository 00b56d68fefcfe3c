//! Single-leader replication with failover, as operators run it with asynchronous or
//! semi-synchronous MySQL or PostgreSQL and a failover manager beside it.
//!
//! The leader appends each write to its log, makes it durable by the fsync policy, applies and
//! acknowledges it (`ack: async`), or first waits until followers hold it durably (`sync`: all of
//! them; `semi-sync(k)`: any k). It ships its log to the followers, which apply what they receive.
//!
//! **Failover.** With `detection: heartbeat` a follower that has not heard from the leader for its
//! timeout asks all peers for their standing and, a heartbeat later, promotes one of those *it can
//! reach*: the most up-to-date, or the first by number (`candidate`). With `detection: monitor`
//! followers suspect nobody, and the [monitor](crate::core::gateway) promotes. With `failover:
//! manual` nobody does: who led last leads whenever it is up. A planned switchover loses nothing
//! (`switchover`).
//!
//! **Promises.** While no failover happens, writes are applied in one order everywhere, and what
//! is acknowledged stays. After every fault is healed all replicas converge on one log: that of
//! the highest leadership. With `semi-sync(k)` without a timeout a write that was acknowledged
//! survives any failover that can reach one of the k followers that hold it and promotes the most
//! up-to-date. With session tokens a client reads its own writes, and never an older state than
//! one it has seen, at whichever replica, as long as no failover discards what it has seen.
//!
//! **Does not promise.** With `async`, acknowledged writes that were not shipped when the leader
//! died or was cut off are lost; so are those that a semi-synchronous leader acknowledged after
//! its fallback (`semi_sync`), and with `candidate: first` those that the first lacks. Without
//! `fencing`, a cut-off leader goes on acknowledging writes, all of which it discards when it meets
//! its successor. Even with fencing it does so until its timeout has passed. Reads at a deposed
//! leader that does not know it yet are stale, and so are reads at followers. With `visibility:
//! before-ack` (`MySQL`'s `AFTER_COMMIT`) the leader shows what no follower may hold, so that a
//! failover takes back what was read; with `after-ack` (`AFTER_SYNC`) it does not. `semi-sync`
//! does not help when the failover cannot reach those that hold the write, nor when the cut-off
//! leader keeps k followers on its side. Nobody votes: two failovers at the same time, as on a
//! network slower than a heartbeat or one in which each replica reaches another majority, promote
//! two replicas in turn, and what the first acknowledged the second discards, whatever `ack`,
//! `fencing` and majorities. That is what consensus is for. `sync` refuses nobody but acknowledges nothing while one
//! follower is away. What is not deterministic differs from replica to replica with `stream:
//! statement` (`stream`).
//!
//! **Partial replicas** (`partial`) get the log with everything but their part left out: their
//! positions are those of all others. They answer reads of their part, say how they stand and
//! count for majorities, which are about who leads; they are never promoted and do not count
//! towards `semi-sync(k)` or `sync`, which are about who holds what.
//!
//! **Upgrades.** A journal carries the version of the storage format. A node reads those up to its
//! own version and refuses one of a newer layout: then it does nothing but say why. An odd version has
//! the layout of the even one before it (`starting`), so that there are pairs that can go back.
//!
//! **How logs agree.** The identity of a leadership is the pair of its epoch and its leader,
//! ordered in that way, so that two simultaneous promotions differ and one of them wins. An entry
//! carries the leadership that created it; a leadership only ever appends to its own log. Hence
//! two entries with the same [`Position`] are the same, and so is all before them (Ongaro &
//! Ousterhout, *In Search of an Understandable Consensus Algorithm*, 2014, §5.3). A follower whose
//! log has another entry than the leader's at some index throws away its tail from there on. The
//! point of divergence is found from where each leadership began, as in Kafka's KIP-101 ("Alter
//! Replication Protocol to use Leader Epoch rather than High Watermark for Truncation").
//!
//! A leadership becomes durable, whatever the fsync policy, before anybody hears of it: a node
//! that restarts never uses the same one twice.

mod commit;
pub(crate) mod durability;
mod failover;
mod following;
mod leading;
mod log;
mod pending;
mod replica;
mod requests;
mod semi_sync;
mod starting;
mod stream;
mod switchover;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::{Op, Position};

pub(crate) use failover::{choose, majority};
pub use replica::SingleLeader;

/// The identity of one leadership. Ordered by epoch, then by leader.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Leadership {
    /// Larger than every epoch that its leader knew of.
    pub epoch: u64,
    /// Number of the node; 0 where there was no leadership yet.
    pub leader: u16,
}

impl Leadership {
    fn of(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            leader: position.leader,
        }
    }

    fn at(self, index: u64) -> Position {
        Position {
            epoch: self.epoch,
            leader: self.leader,
            index,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The operation; none for the marker that begins a leadership.
    pub op: Option<Op>,
}

/// A state and the place in the log where it was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The newest entry that the state includes.
    pub position: Position,
    /// The first entry of each leadership in the log up to there, oldest first.
    pub beginnings: Vec<Position>,
    /// The state.
    pub store: Store,
}

/// What single-leader replicas tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From the leader: entries that follow `prev`; none in a heartbeat.
    Append {
        /// On whose authority.
        leadership: Leadership,
        /// Numbers what this leader sent; repeated in the answer.
        seq: u64,
        /// The entry before the first of these.
        prev: Position,
        /// Consecutive entries.
        entries: Arc<[Arc<Entry>]>,
        /// The storage format of the sender, which matters to [`Stream::Wal`].
        ///
        /// [`Stream::Wal`]: crate::core::config::Stream::Wal
        version: u16,
    },
    /// To the leader: the log is the same as the leader's up to `matched`, durably by the fsync
    /// policy.
    Matched {
        /// The leadership answered.
        leadership: Leadership,
        /// The number answered.
        seq: u64,
        /// Index.
        matched: u64,
    },
    /// To the leader: the log has no entry `prev`.
    Mismatched {
        /// The leadership answered.
        leadership: Leadership,
        /// The number answered.
        seq: u64,
        /// The newest entry that may be common.
        hint: Position,
        /// Index before which this log cannot be changed but by a snapshot.
        base: u64,
    },
    /// From the leader: its state, to one whose log it cannot complete.
    Install {
        /// On whose authority.
        leadership: Leadership,
        /// Numbers what this leader sent; repeated in the answer.
        seq: u64,
        /// The state.
        snapshot: Arc<Snapshot>,
        /// The storage format of the sender.
        version: u16,
    },
    /// To the leader: here, but unable to read what it ships.
    Unreadable {
        /// The leadership answered.
        leadership: Leadership,
    },
    /// From the leader, which takes no more writes: take the leadership over, having all of my
    /// log.
    TakeOver {
        /// The leadership handed over.
        leadership: Leadership,
        /// Its last entry.
        last: Position,
    },
    /// To one who acts on a lower leadership than the sender knows of.
    Superseded(Leadership),
    /// From one who suspects the leader: how do you stand?
    Inquire {
        /// Numbers the inquiries of the sender.
        number: u64,
    },
    /// The answer to `Inquire`.
    Standing {
        /// The number answered.
        number: u64,
        /// The highest leadership known.
        leadership: Leadership,
        /// The newest entry in the log.
        last: Position,
        /// Whether the sender leads.
        leads: bool,
        /// Whether the sender has heard from the leader lately.
        hears: bool,
    },
    /// To the most up-to-date replica found: become leader, in an epoch above this one.
    Promote {
        /// The highest epoch found.
        epoch: u64,
    },
}

/// What a single-leader replica writes to its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An entry at the end of the log.
    Entry(Arc<Entry>),
    /// The log ends after this index.
    Truncate(u64),
    /// The log begins after this state, and is empty.
    Snapshot(Arc<Snapshot>),
    /// The highest epoch that this node has led, where the log may no longer tell.
    Led(u64),
    /// This node handed its leadership of this epoch over.
    Handed(u64),
    /// What follows is in this version of the storage format.
    Version(u16),
}
