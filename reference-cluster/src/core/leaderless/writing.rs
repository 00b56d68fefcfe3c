//! Coordinating writes.

use std::sync::Arc;

use super::Message;
use super::Versions;
use super::keys::Held;
use super::replica::{Peer, Timer};
use super::slots::Slot;
use super::version::{Actor, Dotted, Entry, Stamped, context as clock_of};
use crate::core::timing::wall;
use crate::core::{
    Answer, Effect, NodeId, Quorum, Refusal, RequestId, Scalar, Time, VersionVector,
};

/// Concurrent values of a key beyond which further ones are refused until somebody resolves them.
const SIBLINGS_MAX: usize = 1_024;

/// A write under way.
#[derive(Debug)]
pub(super) struct Writing {
    /// Whose it is; none once answered.
    request: Option<RequestId>,
    key: Arc<str>,
    /// What the replicas are to hold; none while it is being minted.
    entry: Option<Entry>,
    /// How many must hold it.
    w: usize,
    slots: Vec<Slot>,
    /// When the replicas were asked.
    asked: Time,
}

impl Peer {
    /// Begins a write, or a deletion if there is no value.
    #[expect(clippy::too_many_arguments, reason = "the parts of a request")]
    pub(super) fn begin_write(
        &mut self,
        now: Time,
        request: RequestId,
        key: Arc<str>,
        value: Option<Scalar>,
        context: Option<VersionVector>,
        quorum: Quorum,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (n, _, w) = self.quorum(quorum)?;
        let slots = self.slots(&key, n, w)?;
        self.number += 1;
        let number = self.number;
        let mut writing = Writing {
            request: Some(request),
            key: key.clone(),
            entry: None,
            w: w.into(),
            slots,
            asked: now,
        };
        match self.config.leaderless.versions {
            Versions::Lww => {
                self.stamped = wall(now, self.step).max(self.stamped + 1);
                writing.entry = Some(Entry::Stamped(Stamped {
                    at: self.stamped,
                    node: self.id,
                    value,
                }));
                self.distribute(number, &writing, effects);
            }
            Versions::Dotted => {
                let (to, owner) = self.minter(&writing.slots);
                if to != self.id {
                    // To know, when patience ends, who could mint next time.
                    for slot in &writing.slots {
                        self.tell(slot.home, Message::Ping, effects);
                    }
                }
                let mint = Message::Mint {
                    number,
                    key,
                    value,
                    context,
                    owner,
                };
                self.tell(to, mint, effects);
            }
        }
        self.writes.insert(number, writing);
        self.timers
            .insert((now + self.beat(), Timer::Patience(number)));
        self.timers
            .insert((now + self.timeout(), Timer::Deadline(number)));
        Ok(())
    }

    /// Who is to mint the dot, and in whose stead: this node if it is one of those asked, or else
    /// the first of them that is not suspected, homes before stand-ins.
    ///
    /// If that one does not answer no other is asked: it may have done it, and of two dots of one
    /// write one could outlive what replaces the other.
    fn minter(&self, slots: &[Slot]) -> (NodeId, Option<NodeId>) {
        let homes = slots.iter().map(|slot| (slot.home, None));
        let stand_ins = slots
            .iter()
            .filter_map(|slot| Some((slot.stand_in?, Some(slot.home))));
        let all: Vec<(NodeId, Option<NodeId>)> = homes.chain(stand_ins).collect();
        let own = all.iter().find(|(node, _)| *node == self.id);
        let reachable = all.iter().find(|(node, _)| !self.suspects.contains(node));
        *own.or(reachable).unwrap_or(&all[0])
    }

    /// Makes a new version of a key out of what is held here.
    pub(super) fn mint(
        &mut self,
        now: Time,
        owner: Option<NodeId>,
        key: &Arc<str>,
        value: Option<Scalar>,
        context: Option<&VersionVector>,
        effects: &mut Vec<Effect>,
    ) -> Result<Entry, String> {
        let held = self.keys.get(owner, key);
        if held.is_none() && self.is_full(owner) {
            return Err("no room for further hints".into());
        }
        let mut dotted = match held.map(|held| &held.entry) {
            Some(Entry::Dotted(dotted)) => dotted.clone(),
            Some(Entry::Stamped(_)) => return Err("the key has timestamps".into()),
            None => Dotted::default(),
        };
        let mut epoch = held.and_then(|held| held.epoch);
        match (context, &value) {
            (Some(context), _) => {
                let mut seen = clock_of(context);
                seen.retain(|actor, _| self.ring.contains(actor.node));
                if let Some(epoch) = epoch {
                    // Nobody can have seen more of this actor than it has minted.
                    let actor = Actor {
                        node: self.id,
                        epoch,
                    };
                    let minted = dotted.clock.get(&actor).copied().unwrap_or(0);
                    seen.entry(actor)
                        .and_modify(|count| *count = minted.min(*count));
                }
                dotted.replace(&seen);
            }
            // Who deletes without having read means whatever is there.
            (None, None) => dotted.replace(&dotted.clock.clone()),
            (None, Some(_)) => {}
        }
        if let Some(value) = value {
            if dotted.siblings.len() >= SIBLINGS_MAX {
                return Err(format!(
                    "the key has {SIBLINGS_MAX} concurrent values: read it and replace them"
                ));
            }
            let mut actor = Actor {
                node: self.id,
                epoch: epoch.unwrap_or_default(),
            };
            while epoch.is_none() || !dotted.mint(actor, value.clone()) {
                actor = self.draw_actor();
                epoch = Some(actor.epoch);
            }
        }
        let entry = Entry::Dotted(dotted);
        let held = Held {
            entry: entry.clone(),
            epoch,
        };
        self.hold(now, owner, key, held, effects);
        Ok(entry)
    }

    pub(super) fn on_minted(
        &mut self,
        now: Time,
        from: NodeId,
        number: u64,
        result: Result<Entry, String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut writing) = self.writes.remove(&number) else {
            return;
        };
        match result {
            _ if writing.entry.is_some() => drop(self.writes.insert(number, writing)),
            Err(reason) => {
                if let Some(request) = writing.request {
                    let refusal = Refusal::Unavailable(reason.into());
                    self.reply(request, Err(refusal), None, effects);
                }
            }
            Ok(entry) => {
                writing.entry = Some(entry);
                writing.asked = now;
                if let Some(slot) = writing.slots.iter_mut().find(|slot| slot.is_of(from)) {
                    slot.done = true;
                }
                self.distribute(number, &writing, effects);
                self.timers
                    .insert((now + self.beat(), Timer::Patience(number)));
                self.advance_write(number, writing, effects);
            }
        }
    }

    /// Sends a write to all that are to hold it and have not said that they do.
    fn distribute(&mut self, number: u64, writing: &Writing, effects: &mut Vec<Effect>) {
        for slot in writing.slots.iter().filter(|slot| !slot.done) {
            self.put(number, writing, slot.home, None, effects);
            if let Some(stand_in) = slot.stand_in {
                self.put(number, writing, stand_in, Some(slot.home), effects);
            }
        }
    }

    fn put(
        &mut self,
        number: u64,
        writing: &Writing,
        to: NodeId,
        owner: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = writing.entry.clone() else {
            return;
        };
        let put = Message::Put {
            number,
            key: writing.key.clone(),
            entry,
            owner,
            repair: false,
        };
        self.tell(to, put, effects);
    }

    pub(super) fn on_ack(&mut self, from: NodeId, number: u64, effects: &mut Vec<Effect>) {
        if let Some(mut writing) = self.writes.remove(&number) {
            for slot in &mut writing.slots {
                slot.done |= slot.is_of(from);
            }
            self.advance_write(number, writing, effects);
        } else {
            self.on_repaired(from, number, effects);
        }
    }

    /// Answers a write that enough replicas hold, and forgets one that all hold.
    fn advance_write(&mut self, number: u64, mut writing: Writing, effects: &mut Vec<Effect>) {
        let done = writing.slots.iter().filter(|slot| slot.done).count();
        if done >= writing.w
            && let Some(request) = writing.request.take()
        {
            self.reply(request, Ok(Answer::Done), None, effects);
        }
        if done < writing.slots.len() {
            self.writes.insert(number, writing);
        }
    }

    /// Looks who has not answered, and has others stand in for them.
    pub(super) fn write_patience(&mut self, now: Time, number: u64, effects: &mut Vec<Effect>) {
        let patience = self.beat();
        let due = |writing: &Writing| writing.asked + patience <= now;
        if !self.writes.get(&number).is_some_and(due) {
            return;
        }
        let Some(mut writing) = self.writes.remove(&number) else {
            return;
        };
        if writing.entry.is_none() {
            for slot in &writing.slots {
                self.suspect_if_silent(slot.home, writing.asked);
            }
        } else {
            let key = writing.key.clone();
            for slot in self.replace_silent(&key, &mut writing.slots, writing.asked) {
                let Slot { home, stand_in, .. } = writing.slots[slot];
                if let Some(stand_in) = stand_in {
                    self.put(number, &writing, stand_in, Some(home), effects);
                }
            }
            self.timers
                .insert((now + self.beat(), Timer::Patience(number)));
        }
        self.writes.insert(number, writing);
    }

    /// Gives up a write that too few replicas acknowledged. Those that hold it keep it.
    pub(super) fn write_deadline(&mut self, number: u64, effects: &mut Vec<Effect>) {
        let Some(writing) = self.writes.remove(&number) else {
            return;
        };
        if let Some(request) = writing.request {
            let done = writing.slots.iter().filter(|slot| slot.done).count();
            let what = format!("{done} of {} replicas acknowledged in time", writing.w);
            self.reply(
                request,
                Err(Refusal::Indeterminate(what.into())),
                None,
                effects,
            );
        }
    }
}
