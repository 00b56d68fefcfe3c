//! Coordinating writes.

use std::sync::Arc;

use super::Message;
use super::Versions;
use super::keys::Held;
use super::replica::{Peer, Timer};
use super::version::{Actor, Dotted, Entry, Stamped, context as clock_of};
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

/// The place of one home of the key among those asked.
#[derive(Debug)]
pub(super) struct Slot {
    pub home: NodeId,
    /// Who was asked in its stead.
    pub stand_in: Option<NodeId>,
    /// Whether one of them has answered.
    pub done: bool,
}

impl Slot {
    pub fn is_of(&self, node: NodeId) -> bool {
        self.home == node || self.stand_in == Some(node)
    }
}

impl Peer {
    /// The places of a key, with stand-ins for suspects if the quorum is sloppy; refuses if those
    /// that are not suspected are fewer than `least`.
    pub(super) fn slots(&self, key: &str, n: u16, least: u16) -> Result<Vec<Slot>, Refusal> {
        let range = self.ring.range(key);
        let mut slots: Vec<Slot> = self
            .ring
            .homes(range, n)
            .map(|home| Slot {
                home,
                stand_in: None,
                done: false,
            })
            .collect();
        let suspected: Vec<usize> = (0..slots.len())
            .filter(|slot| self.suspects.contains(&slots[*slot].home))
            .collect();
        self.stand_in(key, &mut slots, &suspected);
        let reachable = slots
            .iter()
            .filter(|slot| slot.stand_in.is_some() || !self.suspects.contains(&slot.home));
        let count = reachable.count();
        if count < usize::from(least) {
            return Err(Refusal::Unavailable(
                format!("{count} replicas can be reached, {least} are needed").into(),
            ));
        }
        Ok(slots)
    }

    /// Finds stand-ins for some places, as far as there are any. Returns which places got one.
    pub(super) fn stand_in(&self, key: &str, slots: &mut [Slot], which: &[usize]) -> Vec<usize> {
        if !self.config.leaderless.sloppy {
            return Vec::new();
        }
        let walk = self.ring.walk(self.ring.range(key)).skip(slots.len());
        let free: Vec<NodeId> = walk
            .filter(|node| !self.suspects.contains(node))
            .filter(|node| !slots.iter().any(|slot| slot.is_of(*node)))
            .collect();
        let vacant = which
            .iter()
            .filter(|slot| slots[**slot].stand_in.is_none())
            .copied();
        let places: Vec<(usize, NodeId)> = vacant.zip(free).collect();
        for (slot, node) in &places {
            slots[*slot].stand_in = Some(*node);
        }
        places.into_iter().map(|(slot, _)| slot).collect()
    }

    /// N, R and W of a request.
    pub(super) fn quorum(&self, asked: Quorum) -> Result<(u16, u16, u16), Refusal> {
        let defaults = &self.config.leaderless;
        let n = asked.n.unwrap_or(defaults.n);
        // Who asks for fewer replicas than usual means all of them, if nothing else is said.
        let r = asked.r.unwrap_or(defaults.r.min(n));
        let w = asked.w.unwrap_or(defaults.w.min(n));
        let nodes = self.ring.len();
        if usize::from(n) > nodes || r < 1 || w < 1 || r > n || w > n {
            let wrong = format!("expected 1 ≤ r, w ≤ n ≤ {nodes}, not n {n}, r {r}, w {w}");
            return Err(Refusal::Unsupported(wrong.into()));
        }
        Ok((n, r, w))
    }

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
                self.stamped = now.max(self.stamped + 1);
                writing.entry = Some(Entry::Stamped(Stamped {
                    at: self.stamped,
                    node: self.id,
                    value,
                }));
                self.distribute(number, &writing, effects);
            }
            Versions::Dotted => {
                let to = self.minter(&writing.slots);
                let mint = Message::Mint {
                    number,
                    key,
                    value,
                    context,
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

    /// Who is to mint the dot: this node if it is one of those asked, or else the first of them
    /// that is not suspected, homes before stand-ins.
    fn minter(&self, slots: &[Slot]) -> NodeId {
        let homes = slots.iter().map(|slot| slot.home);
        let all: Vec<NodeId> = homes
            .chain(slots.iter().filter_map(|slot| slot.stand_in))
            .collect();
        if all.contains(&self.id) {
            return self.id;
        }
        let reachable = all.iter().find(|node| !self.suspects.contains(node));
        *reachable.unwrap_or(&all[0])
    }

    /// Makes a new version of a key out of what is held here.
    pub(super) fn mint(
        &mut self,
        now: Time,
        key: &Arc<str>,
        value: Option<Scalar>,
        context: Option<&VersionVector>,
        effects: &mut Vec<Effect>,
    ) -> Result<Entry, String> {
        let held = self.keys.get(key);
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
        self.hold(now, key, held, effects);
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
            self.put(number, writing, slot.home, effects);
        }
    }

    fn put(&mut self, number: u64, writing: &Writing, to: NodeId, effects: &mut Vec<Effect>) {
        let Some(entry) = writing.entry.clone() else {
            return;
        };
        let put = Message::Put {
            number,
            key: writing.key.clone(),
            entry,
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

    /// Looks who has not answered.
    pub(super) fn write_patience(&mut self, _now: Time, number: u64, _effects: &mut Vec<Effect>) {
        let Some(writing) = self.writes.get(&number) else {
            return;
        };
        let asked = writing.asked;
        let silent: Vec<NodeId> = match writing.entry {
            None => vec![self.minter(&writing.slots)],
            Some(_) => {
                let silent = writing.slots.iter().filter(|slot| !slot.done);
                silent.map(|slot| slot.home).collect()
            }
        };
        for node in silent {
            self.suspect_if_silent(node, asked);
        }
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
