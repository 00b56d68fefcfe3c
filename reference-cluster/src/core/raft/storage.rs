//! The log as the engine reads it, and the state at its base.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};
use serde::{Deserialize, Serialize};

use super::Record;
use super::members::{change, changed};
use crate::core::store::Store;
use crate::core::{Op, Position};

/// Entries after a base state. What the engine is shown here need not be durable yet; the engine
/// is told separately what is.
#[derive(Debug)]
pub(super) struct Log {
    pub hard: HardState,
    /// Whether snapshots lack a key (a planted mistake).
    pub hole: bool,
    /// The members at the base.
    conf: ConfState,
    /// The members that the cluster began with.
    initial: ConfState,
    base: u64,
    base_term: u64,
    base_store: Store,
    entries: VecDeque<Entry>,
    /// First index and term of each term in the log, ascending; covers what was truncated.
    beginnings: Vec<(u64, u64)>,
}

/// What a snapshot message carries.
#[derive(Serialize, Deserialize)]
struct State {
    beginnings: Vec<(u64, u64)>,
    store: Store,
}

impl Log {
    pub fn new(nodes: impl Iterator<Item = u64>) -> Self {
        let mut conf = ConfState::default();
        conf.set_voters(nodes.collect());
        Self {
            hard: HardState::default(),
            hole: false,
            initial: conf.clone(),
            conf,
            base: 0,
            base_term: 0,
            base_store: Store::default(),
            entries: VecDeque::new(),
            beginnings: Vec::new(),
        }
    }

    /// Takes back what a journal holds.
    pub fn recover(&mut self, record: Record) {
        match record {
            Record::Entry {
                index,
                term,
                members,
                data,
                context,
            } => {
                let known = index > self.base && index <= self.last() + 1;
                if known {
                    let mut entry = Entry {
                        index,
                        term,
                        data,
                        context,
                        ..Entry::default()
                    };
                    if members {
                        entry.set_entry_type(EntryType::EntryConfChange);
                    }
                    self.append(entry);
                }
            }
            Record::Vote { term, vote } => (self.hard.term, self.hard.vote) = (term, vote),
            Record::Snapshot {
                index,
                term,
                beginnings,
                members,
                store,
            } => {
                self.entries.clear();
                self.conf.set_voters(members.to_vec());
                (self.base, self.base_term) = (index, term);
                self.beginnings = beginnings.to_vec();
                self.base_store = Arc::unwrap_or_clone(store);
                self.hard.commit = self.hard.commit.max(index);
            }
        }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn base_store(&self) -> &Store {
        &self.base_store
    }

    pub fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The position at an index; also of entries truncated long ago.
    pub fn position(&self, index: u64) -> Position {
        let terms = self
            .beginnings
            .partition_point(|(first, _)| *first <= index);
        let epoch = terms
            .checked_sub(1)
            .map_or(0, |last| self.beginnings[last].1);
        Position {
            epoch,
            leader: 0,
            index,
        }
    }

    /// Puts an entry at its index; returns what was there and after it.
    pub fn append(&mut self, entry: Entry) -> Vec<Entry> {
        let offset = (entry.index - self.base - 1) as usize;
        let mut thrown = Vec::new();
        if offset < self.entries.len() {
            thrown.extend(self.entries.drain(offset..));
            self.beginnings.retain(|(first, _)| *first < entry.index);
        }
        if self
            .beginnings
            .last()
            .is_none_or(|(_, term)| *term != entry.term)
        {
            self.beginnings.push((entry.index, entry.term));
        }
        self.entries.push_back(entry);
        thrown
    }

    /// Throws away all entries after an index; after one before the base, everything. Returns
    /// what was thrown away.
    pub fn truncate(&mut self, last: u64) -> Vec<Entry> {
        let thrown = match last.checked_sub(self.base) {
            Some(keep) => self.entries.drain(self.entries.len().min(keep as usize)..),
            None => self.entries.drain(..),
        };
        let thrown = thrown.collect();
        if last < self.base {
            (self.base, self.base_term) = (0, 0);
            self.base_store = Store::default();
            self.conf.clone_from(&self.initial);
        }
        let last = self.last();
        self.beginnings.retain(|(first, _)| *first <= last);
        self.hard.commit = self.base;
        thrown
    }

    /// Moves the base on to an index that is applied.
    pub fn compact(&mut self, index: u64) {
        while self.base < index
            && let Some(entry) = self.entries.pop_front()
        {
            if let Some(op) = operation(&entry) {
                // A compare-and-set that fails here failed everywhere.
                let _ = self.base_store.apply(&op);
            }
            if let Some(change) = change(&entry) {
                changed(&mut self.conf, &change);
            }
            (self.base, self.base_term) = (entry.index, entry.term);
        }
    }

    /// Starts anew from a leader's snapshot. Returns the entries that came after it.
    ///
    /// # Errors
    /// The snapshot does not decode; nothing has changed.
    pub fn install(
        &mut self,
        snapshot: &Snapshot,
    ) -> std::result::Result<Vec<Entry>, postcard::Error> {
        let state: State = postcard::from_bytes(&snapshot.data)?;
        let metadata = snapshot.get_metadata();
        let thrown = self
            .entries
            .drain(..)
            .filter(|entry| entry.index > metadata.index)
            .collect();
        (self.base, self.base_term) = (metadata.index, metadata.term);
        self.base_store = state.store;
        self.conf = metadata.get_conf_state().clone();
        self.beginnings = state.beginnings;
        self.hard.commit = self.hard.commit.max(metadata.index);
        Ok(thrown)
    }

    /// The whole of it as a new journal.
    pub fn records(&self) -> Vec<Record> {
        let head = [
            Record::Vote {
                term: self.hard.term,
                vote: self.hard.vote,
            },
            Record::Snapshot {
                index: self.base,
                term: self.base_term,
                beginnings: self.beginnings_to_base().into(),
                members: self.conf.get_voters().into(),
                store: Arc::new(self.base_store.clone()),
            },
        ];
        head.into_iter()
            .chain(self.entries.iter().map(record))
            .collect()
    }

    fn beginnings_to_base(&self) -> Vec<(u64, u64)> {
        self.beginnings
            .iter()
            .copied()
            .filter(|(first, _)| *first <= self.base)
            .collect()
    }
}

/// An entry as a record of the journal.
pub(super) fn record(entry: &Entry) -> Record {
    Record::Entry {
        index: entry.index,
        term: entry.term,
        members: entry.get_entry_type() == EntryType::EntryConfChange,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

/// The operation in an entry; none in the engine's own.
pub(super) fn operation(entry: &Entry) -> Option<Op> {
    if entry.data.is_empty() || entry.get_entry_type() != EntryType::EntryNormal {
        return None;
    }
    postcard::from_bytes(&entry.data).ok()
}

impl raft::Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let from = (low - self.base - 1) as usize;
        let to = (high - self.base - 1) as usize;
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let fits = |entry: &&Entry| {
            let size = (entry.data.len() + entry.context.len() + 16) as u64;
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        };
        // At least one, however large. Counted first, so that the batch is allocated once.
        let count = self.entries.range(from..to).take_while(fits).count().max(1);
        let until = to.min(from + count);
        Ok(self.entries.range(from..until).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.base {
            return Ok(self.base_term);
        }
        if index < self.base {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get((index - self.base - 1) as usize);
        entry
            .map(|entry| entry.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        // Who is not a member in it would refuse it.
        if request_index > self.base || !self.conf.get_voters().contains(&to) {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut state = State {
            beginnings: self.beginnings_to_base(),
            store: self.base_store.clone(),
        };
        if self.hole {
            state.store.punch(self.base);
        }
        let data = postcard::to_stdvec(&state)
            .map_err(|_| Error::Store(StorageError::SnapshotTemporarilyUnavailable))?;
        let mut snapshot = Snapshot {
            data: Bytes::from(data),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.set_conf_state(self.conf.clone());
        (metadata.index, metadata.term) = (self.base, self.base_term);
        Ok(snapshot)
    }
}
