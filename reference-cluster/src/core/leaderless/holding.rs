//! Holding entries: in memory, in the journal, and after a restart.

use std::sync::Arc;

use super::Record;
use super::handoff::HINTS_MAX;
use super::keys::Held;
use super::replica::Peer;
use super::version::Entry;
use crate::core::config::Fsync;
use crate::core::{Effect, NodeId, Record as AnyRecord, Time};

impl Peer {
    pub(super) fn recover(&mut self, records: Vec<AnyRecord>) {
        for record in records {
            let AnyRecord::Leaderless(record) = record else {
                continue;
            };
            match *record {
                Record::Held {
                    owner,
                    key,
                    entry,
                    epoch,
                } => {
                    // Where syncs are not awaited, dots that others have heard of may be
                    // forgotten: new ones need a new epoch.
                    let epoch = epoch.filter(|_| self.config.fsync == Fsync::Always);
                    self.keys.put(owner, &key, Held { entry, epoch });
                }
                Record::Forgotten { owner, key } => self.keys.remove(owner, &key),
            }
        }
    }

    /// Merges what somebody else holds into what is held here, for an owner if one is named.
    /// False if there is no room for more hints, or no such owner.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        owner: Option<NodeId>,
        key: &Arc<str>,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let held = match self.keys.get(owner, key) {
            None if self.is_full(owner) => return false,
            None => Held {
                entry: entry.clone(),
                epoch: None,
            },
            Some(held) => {
                let mut held = held.clone();
                if !held.entry.merge(entry) {
                    return true;
                }
                held
            }
        };
        self.hold(now, owner, key, held, effects);
        true
    }

    /// Whether nothing more can be held for an owner.
    pub(super) fn is_full(&self, owner: Option<NodeId>) -> bool {
        let full = |owner| self.keys.hints() >= HINTS_MAX || !self.ring.contains(owner);
        owner.is_some_and(full)
    }

    /// Holds this from now on.
    pub(super) fn hold(
        &mut self,
        now: Time,
        owner: Option<NodeId>,
        key: &Arc<str>,
        held: Held,
        effects: &mut Vec<Effect>,
    ) {
        let record = Record::Held {
            owner,
            key: key.clone(),
            entry: held.entry.clone(),
            epoch: held.epoch,
        };
        self.keys.put(owner, key, held);
        if owner.is_none() {
            self.doubt(key);
            self.mark_tombstone(now, key);
        }
        self.write(now, record, effects);
    }

    pub(super) fn write(&mut self, now: Time, record: Record, effects: &mut Vec<Effect>) {
        self.outbox.write(now, record, effects);
        self.records += 1;
    }

    /// Writes the journal anew when most of it is history.
    pub(super) fn compact(&mut self, effects: &mut Vec<Effect>) {
        let live = self.keys.len();
        if self.records >= 2 * (live + self.config.log_keep as usize) {
            self.rewrite_journal(effects);
        }
    }

    /// Writes the journal anew, as short as it can be.
    pub(super) fn rewrite_journal(&mut self, effects: &mut Vec<Effect>) {
        let records: Vec<Record> = self.keys.records().collect();
        self.records = records.len();
        self.outbox.replace(records, effects);
    }
}
