//! The replicated log: entries after a base state, and where each leadership began.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entry, Leadership, Snapshot};
use crate::core::store::Store;
use crate::core::{Op, Position, Scalar};

/// At most so many entries in one message.
const BATCH_ENTRIES_MAX: u64 = 1_024;
/// At most about so many bytes in one message, so that one fits the server's limit.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Positions are known from the first entry on, entries only after the base.
///
/// Invariant: indices are consecutive; `beginnings` is ascending in index and in leadership, and
/// covers every entry.
#[derive(Debug, Default)]
pub(super) struct Log {
    base: Position,
    base_store: Store,
    entries: VecDeque<Arc<Entry>>,
    beginnings: Vec<Position>,
}

impl Log {
    /// The entry before the first that is kept.
    pub fn base(&self) -> Position {
        self.base
    }

    /// The newest entry.
    pub fn last(&self) -> Position {
        self.entries
            .back()
            .map_or(self.base, |entry| entry.position)
    }

    /// How many entries are kept.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The position at an index up to the last; index 0 is the empty log.
    pub fn position(&self, index: u64) -> Option<Position> {
        if index > self.last().index {
            return None;
        }
        Some(place(&self.beginnings, index))
    }

    /// The entry at an index after the base.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.base.index + 1)?;
        self.entries.get(offset as usize).map(|entry| &**entry)
    }

    /// Adds an entry, which must follow the last.
    pub fn push(&mut self, entry: Arc<Entry>) {
        debug_assert_eq!(entry.position.index, self.last().index + 1);
        let leadership = Leadership::of(entry.position);
        if self
            .beginnings
            .last()
            .is_none_or(|first| Leadership::of(*first) != leadership)
        {
            self.beginnings.push(entry.position);
        }
        self.entries.push_back(entry);
    }

    /// Takes off everything after an index, which is not before the base.
    pub fn truncate(&mut self, keep: u64) -> Vec<Arc<Entry>> {
        let kept = keep.saturating_sub(self.base.index) as usize;
        self.beginnings
            .retain(|first| first.index <= keep.max(self.base.index));
        self.entries.drain(kept.min(self.entries.len())..).collect()
    }

    /// The newest entry that may be common with a log that has `other`, or whose newest entry that
    /// may be common is `other`.
    pub fn agreement(&self, other: Position) -> Position {
        let index = other.index.min(self.last().index);
        let here = place(&self.beginnings, index);
        if Leadership::of(here) <= Leadership::of(other) {
            return here;
        }
        let later = self
            .beginnings
            .partition_point(|first| Leadership::of(*first) <= Leadership::of(other));
        self.beginnings
            .get(later)
            .map_or(here, |first| place(&self.beginnings, first.index - 1))
    }

    /// Entries from an index on, as many as go in one message; none if it is after the last.
    pub fn batch(&self, first: u64) -> Arc<[Arc<Entry>]> {
        let mut bytes = 0;
        let start = (first - self.base.index - 1) as usize;
        self.entries
            .iter()
            .skip(start)
            .take(BATCH_ENTRIES_MAX as usize)
            .take_while(|entry| {
                let before = bytes;
                bytes += entry.op.as_ref().map_or(0, size);
                before == 0 || bytes <= BATCH_BYTES_MAX
            })
            .cloned()
            .collect()
    }

    /// The state after all entries.
    pub fn rebuild(&self) -> Store {
        let mut store = self.base_store.clone();
        for op in self.entries.iter().filter_map(|entry| entry.op.as_ref()) {
            // A compare-and-set that fails here failed everywhere.
            let _ = store.apply(op);
        }
        store
    }

    /// Moves the base on to an index up to the last.
    pub fn compact(&mut self, index: u64) {
        while self.base.index < index
            && let Some(entry) = self.entries.pop_front()
        {
            if let Some(op) = &entry.op {
                let _ = self.base_store.apply(op);
            }
            self.base = entry.position;
        }
    }

    /// The state at the base.
    pub fn snapshot(&self) -> Snapshot {
        let within = self
            .beginnings
            .iter()
            .filter(|first| first.index <= self.base.index);
        Snapshot {
            position: self.base,
            beginnings: within.copied().collect(),
            store: self.base_store.clone(),
        }
    }

    /// Starts anew from a state. Returns the entries thrown away, those that the snapshot does not
    /// include; of what was before the base nothing is left to return.
    pub fn install(&mut self, snapshot: &Snapshot) -> Vec<Arc<Entry>> {
        let divergent = |entry: &Arc<Entry>| {
            entry.position.index > snapshot.position.index
                || place(&snapshot.beginnings, entry.position.index) != entry.position
        };
        let thrown = std::mem::take(&mut self.entries)
            .into_iter()
            .filter(divergent)
            .collect();
        self.base = snapshot.position;
        self.base_store = snapshot.store.clone();
        self.beginnings.clone_from(&snapshot.beginnings);
        thrown
    }

    /// All entries kept.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }
}

/// The position at an index of a log whose leaderships began there.
fn place(beginnings: &[Position], index: u64) -> Position {
    let leadership = match beginnings.last() {
        Some(first) if first.index <= index => *first,
        _ => match beginnings.partition_point(|first| first.index <= index) {
            0 => Position::default(),
            n => beginnings[n - 1],
        },
    };
    Leadership::of(leadership).at(index)
}

/// About how many bytes an operation takes in a message.
fn size(op: &Op) -> usize {
    let scalar = |value: &Scalar| match value {
        Scalar::Text(text) => text.len() + 8,
        _ => 12,
    };
    let key = op.key().map_or(0, |key| key.len());
    32 + key
        + match op {
            Op::Write(_, value)
            | Op::Append(_, value)
            | Op::Add(_, value)
            | Op::Remove(_, value)
            | Op::Generated(_, _, value) => scalar(value),
            Op::Cas(_, a, b) | Op::Insert(_, a, b) | Op::Put(_, a, b) => scalar(a) + scalar(b),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(leaderships: &[(u64, u16, u64)]) -> Log {
        let mut log = Log::default();
        for &(epoch, leader, count) in leaderships {
            for _ in 0..count {
                let index = log.last().index + 1;
                let position = Position {
                    epoch,
                    leader,
                    index,
                };
                let op = Some(Op::Write("k".into(), Scalar::Int(index as i64)));
                log.push(Entry { position, op }.into());
            }
        }
        log
    }

    fn meet(leader: &Log, follower: &Log) -> Position {
        let mut prev = leader.last();
        let mut rounds = 0;
        while follower.position(prev.index) != Some(prev) {
            prev = leader.agreement(follower.agreement(prev));
            rounds += 1;
            assert!(rounds < 20, "no agreement");
        }
        prev
    }

    #[test]
    fn logs_meet_at_the_newest_common_entry() {
        let old = log(&[(1, 1, 10), (2, 1, 5)]);
        let new = log(&[(1, 1, 7), (2, 2, 3), (4, 3, 9)]);
        let common = Position {
            epoch: 1,
            leader: 1,
            index: 7,
        };
        assert_eq!(meet(&new, &old), common);
        assert_eq!(meet(&old, &new), common);
        assert_eq!(meet(&new, &log(&[])), Position::default());
        assert_eq!(meet(&new, &log(&[(3, 1, 4)])), Position::default());
        assert_eq!(meet(&log(&[(1, 1, 7), (2, 2, 9)]), &new).index, 10);
    }

    #[test]
    fn compaction_keeps_positions_and_state() {
        let mut log = log(&[(1, 1, 10), (2, 2, 10)]);
        let (state, place) = (log.rebuild(), log.position(4));
        log.compact(13);
        assert_eq!((log.base().index, log.len()), (13, 7));
        assert_eq!(log.rebuild(), state);
        assert_eq!(log.position(4), place);
        assert_eq!(log.entry(13), None);
        assert_eq!(log.entry(14).map(|e| e.position.index), Some(14));

        let mut other = self::log(&[(1, 1, 12), (1, 2, 4)]);
        let thrown = other.install(&log.snapshot());
        let indices: Vec<u64> = thrown.iter().map(|e| e.position.index).collect();
        assert_eq!(indices, [11, 12, 13, 14, 15, 16]);
        assert_eq!(other.last(), log.base());
    }

    #[test]
    fn truncation_forgets_leaderships_that_are_gone() {
        let mut log = log(&[(1, 1, 3), (2, 2, 3)]);
        assert_eq!(log.truncate(2).len(), 4);
        assert_eq!(
            log.last(),
            Position {
                epoch: 1,
                leader: 1,
                index: 2
            }
        );
        log.push(
            Entry {
                position: Position {
                    epoch: 3,
                    leader: 1,
                    index: 3,
                },
                op: None,
            }
            .into(),
        );
        assert_eq!(log.position(3).map(|p| p.epoch), Some(3));
        assert_eq!(log.position(2).map(|p| p.epoch), Some(1));
    }
}
