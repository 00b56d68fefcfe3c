//! Coordinating reads, and repairing what they find.

use std::sync::Arc;

use super::Message;
use super::replica::{Peer, Timer};
use super::version::Entry;
use super::writing::Slot;
use super::{ReadRepair, Versions};
use crate::core::{Answer, Effect, NodeId, Quorum, Refusal, RequestId, Time, VersionVector};

/// A read under way.
#[derive(Debug)]
pub(super) struct Reading {
    /// Whose it is; none once answered.
    request: Option<RequestId>,
    key: Arc<str>,
    r: usize,
    /// How many must hold what it returns, if it blocks on that.
    w: usize,
    slots: Vec<Slot>,
    /// Who answered, with what.
    answers: Vec<(NodeId, Option<Entry>)>,
    /// All answers together.
    merged: Option<Entry>,
    /// Who was sent a repair and has not acknowledged it; none before repairs begin.
    repairing: Option<Vec<NodeId>>,
    /// When the replicas were asked.
    asked: Time,
}

impl Reading {
    /// Whether what a node answered, if anything, lacks something.
    fn lacks(&self, node: NodeId) -> bool {
        let Some(merged) = &self.merged else {
            return false;
        };
        let answer = self.answers.iter().find(|(from, _)| *from == node);
        let entry = answer.and_then(|(_, entry)| entry.as_ref());
        !entry.is_some_and(|entry| entry.includes(merged))
    }

    fn has_answered(&self, node: NodeId) -> bool {
        self.answers.iter().any(|(from, _)| *from == node)
    }

    /// How many replicas are known to hold what was read.
    fn holders(&self) -> usize {
        let holds = |slot: &&Slot| {
            let of = [Some(slot.home), slot.stand_in];
            of.into_iter().flatten().any(|node| !self.lacks(node))
        };
        self.slots.iter().filter(holds).count()
    }
}

impl Peer {
    /// The context that goes with an answer.
    pub(super) fn context_of(&self, entry: Option<&Entry>) -> Option<VersionVector> {
        match self.config.leaderless.versions {
            Versions::Lww => None,
            Versions::Dotted => Some(entry.and_then(Entry::context).unwrap_or_default()),
        }
    }

    pub(super) fn begin_read(
        &mut self,
        now: Time,
        request: RequestId,
        key: Arc<str>,
        quorum: Quorum,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (n, r, w) = self.quorum(quorum)?;
        let slots = self.slots(&key, n, r)?;
        self.number += 1;
        let number = self.number;
        for node in slots
            .iter()
            .flat_map(|slot| [Some(slot.home), slot.stand_in])
            .flatten()
        {
            let key = key.clone();
            self.tell(node, Message::Get { number, key }, effects);
        }
        let reading = Reading {
            request: Some(request),
            key,
            r: r.into(),
            w: w.into(),
            slots,
            answers: Vec::new(),
            merged: None,
            repairing: None,
            asked: now,
        };
        self.reads.insert(number, reading);
        self.timers
            .insert((now + self.beat(), Timer::Patience(number)));
        self.timers
            .insert((now + self.timeout(), Timer::Deadline(number)));
        Ok(())
    }

    pub(super) fn on_got(
        &mut self,
        _now: Time,
        from: NodeId,
        number: u64,
        entry: Option<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut reading) = self.reads.remove(&number) else {
            return;
        };
        let place = reading.slots.iter_mut().find(|slot| slot.is_of(from));
        let known = reading.answers.iter().any(|(node, _)| *node == from);
        if let Some(slot) = place.filter(|_| !known) {
            slot.done = true;
            // What is being waited for does not change any more.
            if reading.repairing.is_none()
                && let Some(entry) = &entry
            {
                match &mut reading.merged {
                    Some(merged) => drop(merged.merge(entry)),
                    none => *none = Some(entry.clone()),
                }
            }
            reading.answers.push((from, entry));
        }
        self.advance_read(number, reading, effects);
    }

    /// Goes on with a read as far as its answers allow.
    fn advance_read(&mut self, number: u64, mut reading: Reading, effects: &mut Vec<Effect>) {
        let answered = reading.slots.iter().filter(|slot| slot.done).count();
        if answered >= reading.r {
            match self.config.leaderless.read_repair {
                ReadRepair::Off => {
                    self.answer_read(&mut reading, effects);
                    return;
                }
                ReadRepair::Background => {
                    self.answer_read(&mut reading, effects);
                    if answered == reading.slots.len() {
                        self.repair(number, &mut reading, true, effects);
                    }
                }
                ReadRepair::Blocking => {
                    // Those that have said nothing are sent it, too, if it is not enough else.
                    let enough = reading.holders() >= reading.w;
                    self.repair(number, &mut reading, enough, effects);
                    if enough {
                        self.answer_read(&mut reading, effects);
                    }
                }
            }
        }
        self.keep_read(number, reading);
    }

    /// Keeps a read for as long as there is something to wait for.
    fn keep_read(&mut self, number: u64, reading: Reading) {
        let repaired = reading.repairing.as_ref().is_some_and(Vec::is_empty);
        if reading.request.is_some() || !repaired {
            self.reads.insert(number, reading);
        }
    }

    fn answer_read(&self, reading: &mut Reading, effects: &mut Vec<Effect>) {
        if let Some(request) = reading.request.take() {
            let entry = reading.merged.as_ref();
            let answer = Answer::Value(entry.and_then(Entry::datum));
            self.reply(request, Ok(answer), self.context_of(entry), effects);
        }
    }

    /// Sends what was read to the homes that lack it, once: to those that answered, or to the
    /// silent ones, too.
    fn repair(
        &mut self,
        number: u64,
        reading: &mut Reading,
        answered_only: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = reading
            .merged
            .clone()
            .filter(|_| reading.repairing.is_none())
        else {
            reading.repairing.get_or_insert_default();
            return;
        };
        let homes = reading.slots.iter().map(|slot| slot.home);
        let lacking: Vec<NodeId> = homes
            .filter(|home| reading.lacks(*home))
            .filter(|home| !answered_only || reading.has_answered(*home))
            .collect();
        for home in &lacking {
            let put = Message::Put {
                number,
                key: reading.key.clone(),
                entry: entry.clone(),
                repair: true,
            };
            self.tell(*home, put, effects);
        }
        reading.repairing = Some(lacking);
    }

    /// A replica has taken a repair.
    pub(super) fn on_repaired(&mut self, from: NodeId, number: u64, effects: &mut Vec<Effect>) {
        let Some(mut reading) = self.reads.remove(&number) else {
            return;
        };
        if let Some(repairing) = &mut reading.repairing {
            repairing.retain(|node| *node != from);
            let merged = reading.merged.clone();
            reading.answers.retain(|(node, _)| *node != from);
            reading.answers.push((from, merged));
        }
        if reading.request.is_some() {
            self.advance_read(number, reading, effects);
        } else {
            self.keep_read(number, reading);
        }
    }

    /// How many repairs were sent and not acknowledged.
    pub(super) fn repairs(&self) -> usize {
        let repairing = |reading: &Reading| reading.repairing.as_ref().map_or(0, Vec::len);
        self.reads.values().map(repairing).sum()
    }

    /// Looks who has not answered, and repairs those that have.
    pub(super) fn read_patience(&mut self, _now: Time, number: u64, effects: &mut Vec<Effect>) {
        let Some(mut reading) = self.reads.remove(&number) else {
            return;
        };
        for slot in reading.slots.iter().filter(|slot| !slot.done) {
            self.suspect_if_silent(slot.home, reading.asked);
        }
        if reading.request.is_none() {
            self.repair(number, &mut reading, true, effects);
        }
        self.keep_read(number, reading);
    }

    /// Gives up a read that too few replicas answered.
    pub(super) fn read_deadline(&mut self, number: u64, effects: &mut Vec<Effect>) {
        let Some(reading) = self.reads.remove(&number) else {
            return;
        };
        if let Some(request) = reading.request {
            let what = if reading.repairing.is_some() {
                format!("fewer than {} replicas took the repair in time", reading.w)
            } else {
                format!("fewer than {} replicas answered in time", reading.r)
            };
            self.reply(
                request,
                Err(Refusal::Unavailable(what.into())),
                None,
                effects,
            );
        }
    }
}
