//! One replica: its state, and which part of it handles which event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Message;
use super::anti_entropy::AntiEntropy;
use super::keys::{Held, Keys};
use super::outbox::{Outbox, Saying};
use super::reading::Reading;
use super::ring::Ring;
use super::tombstones::Tombstones;
use super::version::{Actor, EPOCH_BITS};
use super::writing::Writing;
use crate::core::config::{Bug, Config};
use crate::core::timing::{MILLISECOND, mix};
use crate::core::{
    Effect, Event, Message as AnyMessage, NodeId, Position, Record as AnyRecord, Replica, Role,
    Status, Time, Trace,
};

/// Requests to mint that are remembered, in order to carry out none twice.
const MINTED_MAX: usize = 256;

/// A replica in leaderless mode; see the [module](super).
#[derive(Debug)]
pub struct Peer {
    pub(super) id: NodeId,
    pub(super) config: Config,
    pub(super) ring: Ring,
    pub(super) keys: Keys,
    pub(super) outbox: Outbox,
    /// Drawn from the seed and the time of the start: what this life's epochs are drawn from.
    pub(super) life: u64,
    /// How many epochs were drawn.
    pub(super) epochs: u64,
    /// The newest timestamp given.
    pub(super) stamped: Time,
    /// How far the wall clock was set forward, nanoseconds.
    pub(super) step: i64,
    /// The number of the newest request to other replicas. Each life begins elsewhere, so that an
    /// answer to a former life is not taken for one to this.
    pub(super) number: u64,
    pub(super) writes: BTreeMap<u64, Writing>,
    pub(super) reads: BTreeMap<u64, Reading>,
    pub(super) timers: BTreeSet<(Time, Timer)>,
    /// When each node was last heard of.
    pub(super) heard: BTreeMap<NodeId, Time>,
    /// Nodes that did not answer in time and have not been heard of since.
    pub(super) suspects: BTreeSet<NodeId>,
    /// How many hints sent to their owners are not acknowledged.
    pub(super) handing: BTreeMap<NodeId, usize>,
    pub(super) anti_entropy: AntiEntropy,
    pub(super) tombstones: Tombstones,
    /// Which requests to mint were carried out lately, oldest first.
    minted: VecDeque<(NodeId, u64)>,
    /// Messages of this node to itself.
    inbox: VecDeque<Message>,
    /// Records in the journal.
    pub(super) records: usize,
}

/// What there is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A write or read has waited long enough for those that have not answered.
    Patience(u64),
    /// A write or read has failed, if it has not been answered yet.
    Deadline(u64),
    /// Suspects are asked whether they are back.
    Beat,
    /// Hints are offered to their owners.
    Handoff,
    /// Trees are compared and tombstones collected.
    AntiEntropy,
}

impl Peer {
    /// See [`crate::core::start`].
    pub fn start(
        config: &Config,
        id: NodeId,
        nodes: &[NodeId],
        seed: u64,
        now: Time,
        recovered: Vec<AnyRecord>,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let life = mix(mix(seed, id.0.into(), now), recovered.len() as u64, 2);
        let mut peer = Self {
            id,
            config: config.clone(),
            ring: Ring::new(nodes),
            keys: Keys::new(nodes.len()),
            outbox: Outbox::new(config),
            life,
            epochs: 0,
            stamped: 0,
            step: 0,
            number: mix(life, 0, 3) >> 1,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            timers: BTreeSet::new(),
            heard: BTreeMap::new(),
            suspects: BTreeSet::new(),
            handing: BTreeMap::new(),
            anti_entropy: AntiEntropy::default(),
            tombstones: Tombstones::default(),
            minted: VecDeque::new(),
            inbox: VecDeque::new(),
            records: recovered.len(),
        };
        peer.recover(recovered);
        if peer.records > 0 {
            // What a crash of the process left may still be lost with the power.
            peer.outbox.wrote(now);
        }
        peer.doubt_all();
        peer.mark_tombstones(now);
        for (period, timer) in peer.periods() {
            // Not all nodes at once.
            let wait = mix(peer.life, period, 5) % period;
            peer.timers.insert((now + wait, timer));
        }
        let (role, epoch) = (Role::Peer, 0);
        effects.push(Effect::Trace(Trace::Role { role, epoch }));
        peer.outbox.flush(effects);
        peer
    }

    /// What is done again and again, and how often.
    fn periods(&self) -> Vec<(Time, Timer)> {
        let anti_entropy = self.config.leaderless.anti_entropy_ms * MILLISECOND;
        let mut periods = vec![(self.beat(), Timer::Beat), (self.timeout(), Timer::Handoff)];
        if anti_entropy > 0 {
            periods.push((anti_entropy, Timer::AntiEntropy));
        }
        periods
    }

    /// The time between two heartbeats; also how long nodes may take to answer before they are
    /// suspected and others stand in.
    pub(super) fn beat(&self) -> Time {
        self.config.heartbeat_ms * MILLISECOND
    }

    /// How long a request may take.
    pub(super) fn timeout(&self) -> Time {
        self.config.failover_timeout_ms * MILLISECOND
    }

    /// An actor that no other node, life or key has.
    pub(super) fn draw_actor(&mut self) -> Actor {
        self.epochs += 1;
        Actor {
            node: self.id,
            epoch: mix(self.life, self.epochs, 4) >> (u64::BITS - EPOCH_BITS),
        }
    }

    /// Says something that tells of this replica's content.
    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        self.outbox.say(Saying::Message(to, message));
    }

    /// Says something that does not.
    pub(super) fn tell(&mut self, to: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if to == self.id {
            self.inbox.push_back(message);
        } else {
            effects.push(Effect::Send(to, AnyMessage::Leaderless(message)));
        }
    }

    /// Whether this node is to hold a key.
    pub(super) fn is_home(&self, key: &str) -> bool {
        let range = self.ring.range(key);
        self.ring.is_home(self.id, range, self.config.leaderless.n)
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Put {
                number,
                key,
                entry,
                owner,
                repair,
            } => {
                // This node's own keys need no hint.
                let owner = owner.filter(|owner| *owner != self.id);
                if repair && self.config.has(Bug::ReadRepairOverwrites) {
                    let epoch = None;
                    self.hold(now, owner, &key, Held { entry, epoch }, effects);
                } else if !self.take_in(now, owner, &key, &entry, effects) {
                    return;
                }
                self.say(from, Message::Ack { number });
            }
            Message::Ack { number } => self.on_ack(from, number, effects),
            Message::Mint {
                number,
                key,
                value,
                context,
                owner,
            } => {
                if !self.is_new(from, number) {
                    return;
                }
                let owner = owner.filter(|owner| *owner != self.id);
                let result = self.mint(now, owner, &key, value, context.as_ref(), effects);
                self.say(from, Message::Minted { number, result });
            }
            Message::Minted { number, result } => {
                self.on_minted(now, from, number, result, effects);
            }
            Message::Get { number, key } => {
                let entry = self.keys.everything(&key);
                self.say(from, Message::Got { number, entry });
            }
            Message::Got { number, entry } => self.on_got(from, number, entry, effects),
            Message::Ping => self.tell(from, Message::Pong, effects),
            // To have been heard of is all.
            Message::Pong => {}
            Message::Handoff { key, entry } => {
                let hash = entry.hash(&key);
                self.take_in(now, None, &key, &entry, effects);
                self.say(from, Message::HandedOff { key, hash });
            }
            Message::HandedOff { key, hash } => {
                self.on_handed_off(now, from, &key, hash, effects);
            }
            Message::Roots { round, roots } => self.on_roots(from, round, &roots),
            Message::Compared { round, same } => self.on_compared(from, round, same),
            Message::Hashes { level, hashes } => self.on_hashes(from, level, &hashes),
            Message::Listing {
                range,
                bucket,
                from: first,
                until,
                keys,
            } => self.on_listing(from, (range, bucket), (&first, until.as_ref()), keys),
            Message::Exchange { entries, want } => {
                self.on_exchange(now, from, &entries, &want, effects);
            }
            Message::Cover { key, entry } => self.on_cover(now, from, &key, &entry, effects),
            Message::Covered { key, hash } => self.on_covered(now, from, &key, hash, effects),
            Message::Forget { key, hash } => self.on_forget(now, &key, hash, effects),
        }
    }

    /// Whether a request to mint did not come before: one that is carried out twice makes two dots
    /// of one write.
    fn is_new(&mut self, from: NodeId, number: u64) -> bool {
        if self.minted.contains(&(from, number)) {
            return false;
        }
        if self.minted.len() >= MINTED_MAX {
            self.minted.pop_front();
        }
        self.minted.push_back((from, number));
        true
    }

    /// What is known to be under way to others, or from them.
    fn pending(&self) -> u64 {
        (self.keys.hints() + self.repairs() + self.anti_entropy.unlike()) as u64
    }

    fn on_wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.outbox.tick(now, effects);
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, timer)) = self.timers.pop_first() else {
                return;
            };
            match timer {
                Timer::Patience(number) => {
                    self.write_patience(now, number, effects);
                    self.read_patience(now, number, effects);
                }
                Timer::Deadline(number) => {
                    self.write_deadline(number, effects);
                    self.read_deadline(number, effects);
                }
                Timer::Beat => {
                    for suspect in self.suspects.clone() {
                        self.tell(suspect, Message::Ping, effects);
                    }
                }
                Timer::Handoff => self.hand_off(now, effects),
                Timer::AntiEntropy => {
                    self.compare();
                    self.collect(now, effects);
                }
            }
            let again = self.periods().into_iter().find(|(_, of)| *of == timer);
            self.timers
                .extend(again.map(|(period, timer)| (now + period, timer)));
        }
    }

    /// Says what may be said, to itself too, until nothing is left to say now.
    fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                self.on_message(now, self.id, message, effects);
            } else if let Some(saying) = self.outbox.next() {
                match saying {
                    Saying::Message(to, message) => self.tell(to, message, effects),
                    Saying::Reply(id, reply) => effects.push(Effect::Reply(id, reply)),
                }
            } else {
                break;
            }
        }
    }
}

impl Replica for Peer {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Message(from, AnyMessage::Leaderless(message)) if self.ring.contains(from) => {
                self.heard.insert(from, now);
                self.suspects.remove(&from);
                self.on_message(now, from, message, effects);
            }
            Event::Message(..) => {}
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            Event::Synced(token) => self.outbox.synced(token),
            Event::Stepped(step) => self.step = step,
            Event::Wake => self.on_wake(now, effects),
        }
        self.settle(now, effects);
        self.compact(effects);
        self.outbox.flush(effects);
    }

    fn deadline(&self) -> Time {
        let timer = self.timers.first().map_or(Time::MAX, |(at, _)| *at);
        timer.min(self.outbox.deadline())
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: Role::Peer,
            epoch: 0,
            leader: None,
            last: Position::default(),
            applied: 0,
            discarded: 0,
            pending: self.pending(),
            storage_version: self.config.storage_version,
            stopped: None,
            standbys: Vec::new(),
        }
    }

    fn digest(&self) -> u64 {
        self.keys.digest(|key| self.is_home(key))
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }

    fn holds(&self, key: &std::sync::Arc<str>) -> Option<crate::core::Datum> {
        self.keys.get(None, key)?.entry.datum()
    }
}
