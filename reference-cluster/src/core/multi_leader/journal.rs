//! What a node keeps in its journal, and how it takes up a journal again.

use std::sync::Arc;

use super::changes::Changes;
use super::links::Link;
use super::origin::{Dot, Origin, Vector};
use super::replica::MultiLeader;
use super::{Change, Payload, Record, Snapshot, State};
use crate::core::config::Fsync;
use crate::core::timing::mix;
use crate::core::{DiskOp, Effect, Position, Record as AnyRecord, Time, Trace};

impl MultiLeader {
    /// Takes up the journal. The last life, if it can be gone on with.
    pub(super) fn recover(&mut self, records: Vec<AnyRecord>) -> Option<u32> {
        let mut life = None;
        for record in records {
            let AnyRecord::MultiLeader(record) = record else {
                continue;
            };
            match *record {
                Record::Life(begun) => life = Some(begun),
                Record::Change(change) => {
                    self.take_in(&change);
                }
                Record::State(state) => {
                    self.take_in_state(&state);
                }
                Record::Promised(key, attempt) => self.synchronous.promise(key, attempt, 0),
                Record::Released(key, attempt) => {
                    self.synchronous.release(&key, |known| known == attempt);
                }
                Record::Snapshot(snapshot) => {
                    for (key, attempt) in snapshot.promises {
                        self.synchronous.promise(key, attempt, 0);
                    }
                    life = Some(snapshot.life);
                    self.take_in_state(&snapshot.state);
                    self.changes = Changes::after(snapshot.base);
                    for change in snapshot.changes {
                        self.changes.push(change, 0);
                    }
                }
            }
        }
        life
    }

    /// Goes on with the life of before, if the journal is known to hold every change that others
    /// may have seen; begins a new one if not.
    pub(super) fn begin_life(
        &mut self,
        lived: Option<u32>,
        seed: u64,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.origin.life = match (lived, self.config.fsync) {
            (Some(life), Fsync::Always) => life,
            _ => {
                let lives = (0..).map(|draw| (mix(seed, now, 2 + draw) >> 32) as u32);
                let mut fresh = lives.filter(|&life| {
                    let node = self.id;
                    self.vector.get(Origin { node, life }) == 0
                });
                fresh.next().unwrap_or_default()
            }
        };
        if lived != Some(self.origin.life) {
            self.write(Record::Life(self.origin.life), now, effects);
        }
    }

    pub(super) fn write(&mut self, record: Record, now: Time, effects: &mut Vec<Effect>) {
        self.record += 1;
        self.records_since += 1;
        self.durability.wrote(self.record, now);
        effects.push(Effect::Disk(DiskOp::Append(AnyRecord::MultiLeader(
            record.into(),
        ))));
    }

    /// Makes a change part of the content. It is the next of its origin.
    pub(super) fn take_in(&mut self, change: &Arc<Change>) -> bool {
        self.clock.see(change.moment);
        self.vector.see(change.dot.origin, change.dot.seq);
        self.changes.push(Arc::clone(change), self.record);
        self.synchronous.taken_in(change);
        match &change.payload {
            Payload::Cell(key, cell) => self.content.merge(key, cell),
            Payload::Home(home, owner) => self.homes.merge(*home, *owner),
        }
    }

    pub(super) fn take_in_state(&mut self, state: &State) -> bool {
        self.clock.see(state.moment);
        self.changes.skip(&state.vector, &self.vector);
        self.vector.merge(&state.vector);
        for (&home, &owner) in &state.homes {
            self.homes.merge(home, owner);
        }
        let merged = state.cells.iter();
        merged.fold(true, |well, (key, cell)| {
            self.content.merge(key, cell) && well
        })
    }

    pub(super) fn unstable(&mut self, known: &Vector) {
        for (&origin, &seq) in &known.0 {
            if seq > self.stable.get(origin) {
                let dot = Dot { origin, seq };
                self.unstable.push_back((self.record, dot));
            }
        }
    }

    /// Records a change, of this node or another, and makes it part of the content.
    pub(super) fn record_change(
        &mut self,
        change: &Arc<Change>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.write(Record::Change(Arc::clone(change)), now, effects);
        self.unstable.push_back((self.record, change.dot));
        if !self.take_in(change) {
            Self::remark_failure(effects);
        }
    }

    /// Records what another node holds, and merges it.
    pub(super) fn record_state(&mut self, state: &State, now: Time, effects: &mut Vec<Effect>) {
        self.write(Record::State(state.clone()), now, effects);
        self.unstable(&state.vector);
        if !self.take_in_state(state) {
            Self::remark_failure(effects);
        }
        effects.push(Effect::Trace(Trace::SnapshotInstalled(Position::default())));
    }

    pub(super) fn remark_failure(effects: &mut Vec<Effect>) {
        effects.push(Effect::Trace(Trace::Remark(
            "the procedure failed; the larger value was kept",
        )));
    }

    /// What this node holds.
    pub(super) fn state(&self) -> State {
        let cells = self.content.cells().iter();
        State {
            moment: self.clock.last(),
            vector: self.vector.clone(),
            cells: cells
                .map(|(key, cell)| (key.clone(), cell.clone()))
                .collect(),
            homes: self.homes.owners().clone(),
        }
    }

    /// Drops changes that all have, or that are too many; rewrites the journal if it has grown.
    pub(super) fn compact(&mut self, effects: &mut Vec<Effect>) {
        let (links, durable) = (&self.links, self.durability.durable());
        let keep = self.config.log_keep;
        self.changes.compact(|oldest, count| {
            let had = |link: &Link| !link.target || link.known.contains(oldest.change.dot);
            oldest.record <= durable && (count as u64 > keep || links.iter().all(had))
        });
        if self.records_since >= 2 * keep {
            self.rewrite_journal(effects);
        }
    }

    /// Drops all changes that are durable: who lacks one is sent the whole state instead. Where
    /// writes are synchronous an unfinished one is known by its change, which stays.
    pub(super) fn snapshot(&mut self, effects: &mut Vec<Effect>) {
        let durable = self.durability.durable();
        if !self.is_synchronous() {
            self.changes.compact(|oldest, _| oldest.record <= durable);
        }
        self.rewrite_journal(effects);
    }

    fn rewrite_journal(&mut self, effects: &mut Vec<Effect>) {
        self.records_since = 0;
        let kept = self.changes.iter().map(|kept| Arc::clone(&kept.change));
        let snapshot = Record::Snapshot(Box::new(Snapshot {
            life: self.origin.life,
            state: self.state(),
            base: self.changes.base().clone(),
            changes: kept.collect(),
            promises: self.synchronous.promises(),
        }));
        let records = vec![AnyRecord::MultiLeader(snapshot.into())];
        self.durability.replace(records, effects);
    }
}
