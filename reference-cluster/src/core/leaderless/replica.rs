//! One replica: its state, and which part of it handles which event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::keys::{Held, Keys};
use super::outbox::{Outbox, Saying};
use super::reading::Reading;
use super::ring::Ring;
use super::version::{Actor, EPOCH_BITS, Entry};
use super::writing::Writing;
use super::{Message, Record};
use crate::core::config::{Config, Fsync};
use crate::core::timing::{MILLISECOND, mix};
use crate::core::{
    Answer, Effect, Event, Message as AnyMessage, NodeId, Op, Position, Record as AnyRecord,
    Refusal, Replica, Reply, Request, RequestId, Role, StateDigest, Status, Time, Trace,
    VersionVector,
};

/// Requests under way at one coordinator; beyond that they are refused.
const IN_FLIGHT_MAX: usize = 8_192;

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
    /// Messages of this node to itself.
    inbox: VecDeque<Message>,
    /// Records in the journal.
    records: usize,
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
            keys: Keys::default(),
            outbox: Outbox::new(config),
            life,
            epochs: 0,
            stamped: 0,
            number: mix(life, 0, 3) >> 1,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            timers: BTreeSet::new(),
            heard: BTreeMap::new(),
            suspects: BTreeSet::new(),
            inbox: VecDeque::new(),
            records: recovered.len(),
        };
        peer.recover(recovered);
        if peer.records > 0 {
            // What a crash of the process left may still be lost with the power.
            peer.outbox.wrote(now);
        }
        peer.timers.insert((now + peer.beat(), Timer::Beat));
        let (role, epoch) = (Role::Peer, 0);
        effects.push(Effect::Trace(Trace::Role { role, epoch }));
        peer.outbox.flush(effects);
        peer
    }

    fn recover(&mut self, records: Vec<AnyRecord>) {
        for record in records {
            let AnyRecord::Leaderless(record) = record else {
                continue;
            };
            match *record {
                Record::Held { key, entry, epoch } => {
                    // Where syncs are not awaited, dots that others have heard of may be
                    // forgotten: new ones need a new epoch.
                    let epoch = epoch.filter(|_| self.config.fsync == Fsync::Always);
                    self.keys.put(key, Held { entry, epoch });
                }
            }
        }
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

    pub(super) fn reply(
        &self,
        id: RequestId,
        result: Result<Answer, Refusal>,
        context: Option<VersionVector>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Reply(id, self.make_reply(result, context)));
    }

    fn make_reply(&self, result: Result<Answer, Refusal>, context: Option<VersionVector>) -> Reply {
        Reply {
            result,
            node: self.id,
            role: Role::Peer,
            epoch: 0,
            position: Position::default(),
            session: None,
            context,
        }
    }

    /// Merges what somebody else holds into what is held here.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        key: &Arc<str>,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) {
        let held = match self.keys.get(key) {
            None => Held {
                entry: entry.clone(),
                epoch: None,
            },
            Some(held) => {
                let mut held = held.clone();
                if !held.entry.merge(entry) {
                    return;
                }
                held
            }
        };
        self.hold(now, key, held, effects);
    }

    /// Holds this from now on.
    pub(super) fn hold(
        &mut self,
        now: Time,
        key: &Arc<str>,
        held: Held,
        effects: &mut Vec<Effect>,
    ) {
        let record = Record::Held {
            key: key.clone(),
            entry: held.entry.clone(),
            epoch: held.epoch,
        };
        self.keys.put(key.clone(), held);
        self.write(now, record, effects);
    }

    pub(super) fn write(&mut self, now: Time, record: Record, effects: &mut Vec<Effect>) {
        self.outbox.write(now, record, effects);
        self.records += 1;
    }

    /// Writes the journal anew when most of it is history.
    fn compact(&mut self, effects: &mut Vec<Effect>) {
        let live = self.keys.len();
        if self.records < 2 * (live + self.config.log_keep as usize) {
            return;
        }
        let records: Vec<Record> = self.keys.records().collect();
        self.records = records.len();
        self.outbox.replace(records, effects);
    }

    /// Whether this node is to hold a key.
    pub(super) fn is_home(&self, key: &str) -> bool {
        let range = self.ring.range(key);
        self.ring.is_home(self.id, range, self.config.leaderless.n)
    }

    fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if self.writes.len() + self.reads.len() >= IN_FLIGHT_MAX {
            let busy = Refusal::Unavailable("too many requests are under way".into());
            return self.reply(id, Err(busy), None, effects);
        }
        let Request {
            op,
            local,
            context,
            quorum,
            ..
        } = request;
        let begun = match op {
            Op::Read(key) if local => {
                let (result, context) = self.read_here(&key);
                let reply = self.make_reply(result, context);
                self.outbox.say(Saying::Reply(id, reply));
                Ok(())
            }
            Op::ReadAll | Op::Digest => {
                let answer = if op == Op::ReadAll {
                    Answer::All(self.keys.all())
                } else {
                    Answer::Digest(self.state_digest())
                };
                let reply = self.make_reply(Ok(answer), None);
                self.outbox.say(Saying::Reply(id, reply));
                Ok(())
            }
            Op::Read(key) => self.begin_read(now, id, key, quorum, effects),
            Op::Write(key, value) => {
                self.begin_write(now, id, key, Some(value), context, quorum, effects)
            }
            Op::Delete(key) => self.begin_write(now, id, key, None, context, quorum, effects),
            _ => Err(Refusal::Unsupported(
                "the leaderless mode has reads, writes and deletes only".into(),
            )),
        };
        if let Err(refusal) = begun {
            self.reply(id, Err(refusal), None, effects);
        }
    }

    /// What this node alone says of a key.
    fn read_here(&self, key: &str) -> (Result<Answer, Refusal>, Option<VersionVector>) {
        if !self.is_home(key) {
            let elsewhere = format!("n{} does not hold this key", self.id.0);
            return (Err(Refusal::Unsupported(elsewhere.into())), None);
        }
        let entry = self.keys.get(key).map(|held| &held.entry);
        let answer = Answer::Value(entry.and_then(Entry::datum));
        (Ok(answer), self.context_of(entry))
    }

    fn state_digest(&self) -> StateDigest {
        let everything = usize::from(self.config.leaderless.n) == self.ring.len();
        StateDigest {
            digest: self.digest(),
            scope: if everything {
                "".into()
            } else {
                format!("range n{}", self.id.0).into()
            },
            stopped: None,
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Put {
                number,
                key,
                entry,
                repair,
            } => {
                self.on_put(now, &key, &entry, repair, effects);
                self.say(from, Message::Ack { number });
            }
            Message::Ack { number } => self.on_ack(from, number, effects),
            Message::Mint {
                number,
                key,
                value,
                context,
            } => {
                let result = self.mint(now, &key, value, context.as_ref(), effects);
                self.say(from, Message::Minted { number, result });
            }
            Message::Minted { number, result } => {
                self.on_minted(now, from, number, result, effects);
            }
            Message::Get { number, key } => {
                let entry = self.keys.get(&key).map(|held| held.entry.clone());
                self.say(from, Message::Got { number, entry });
            }
            Message::Got { number, entry } => self.on_got(now, from, number, entry, effects),
            Message::Ping => self.tell(from, Message::Pong, effects),
            // To have been heard of is all.
            Message::Pong => {}
        }
    }

    /// What is known to be under way to others, or from them.
    fn pending(&self) -> u64 {
        self.repairs() as u64
    }

    fn on_put(
        &mut self,
        now: Time,
        key: &Arc<str>,
        entry: &Entry,
        _repair: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.take_in(now, key, entry, effects);
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
                    self.timers.insert((now + self.beat(), Timer::Beat));
                }
            }
        }
    }

    /// Suspects a node that was asked then and has been silent since.
    pub(super) fn suspect_if_silent(&mut self, node: NodeId, asked: Time) {
        let heard = self.heard.get(&node).is_some_and(|heard| *heard >= asked);
        if node != self.id && !heard {
            self.suspects.insert(node);
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
        }
    }

    fn digest(&self) -> u64 {
        self.keys.digest(|key| self.is_home(key))
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }
}
