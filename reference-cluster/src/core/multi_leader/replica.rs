//! The state machine: what a node keeps in mind, and what follows from every event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::changes::Changes;
use super::clock::{Clocked, Moment};
use super::content::Content;
use super::exchange::send;
use super::home::Homes;
use super::links::{Link, links};
use super::origin::{Dot, Origin, Vector};
use super::synchronous::Synchronous;
use super::{Change, Clock, Conflicts, Message};
use crate::core::config::{Bug, Fsync};
use crate::core::single_leader::durability::Durability;
use crate::core::timing::{MILLISECOND, mix};
use crate::core::{
    Config, Effect, Event, Message as AnyMessage, NodeId, Position, Record as AnyRecord, Replica,
    Reply, Request, RequestId, Role, Status, Time, Trace,
};

/// One leader among several.
#[derive(Debug)]
pub(super) struct MultiLeader {
    pub(super) id: NodeId,
    pub(super) config: Config,
    /// Under which name this node makes changes.
    pub(super) origin: Origin,
    /// Tells this run of the process apart from others.
    pub(super) run: u64,
    pub(super) content: Content,
    pub(super) homes: Homes,
    pub(super) synchronous: Synchronous,
    pub(super) clock: Clocked,
    /// All changes that are part of the content.
    pub(super) vector: Vector,
    /// Those of them that are durable.
    pub(super) stable: Vector,
    pub(super) unstable: VecDeque<(u64, Dot)>,
    pub(super) changes: Changes,
    /// Changes that came before others on which they depend.
    pub(super) held: BTreeMap<Dot, Arc<Change>>,
    pub(super) links: Vec<Link>,
    /// Who is to be told how far this node is.
    pub(super) owed: BTreeSet<NodeId>,
    pub(super) durability: Durability,
    /// How many records were written to the journal.
    pub(super) record: u64,
    /// How many since it was last rewritten.
    pub(super) records_since: u64,
    /// Answers, each with the record that must be durable first.
    pub(super) answers: VecDeque<(u64, RequestId, Reply)>,
    /// Messages, each with the record that must be durable first.
    outgoing: VecDeque<(u64, NodeId, Message)>,
    /// Requests of clients that have seen more than this node.
    pub(super) waiting: Vec<Waiting>,
    pub(super) tick_at: Time,
    /// Where the log ended at the last tick, and at the one before.
    pub(super) marks: (u64, u64),
}

/// A request that waits until this node has seen enough.
#[derive(Debug)]
pub(super) struct Waiting {
    pub until: Time,
    pub session: Vector,
    pub id: RequestId,
    pub request: Request,
}

impl MultiLeader {
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
        let options = &config.multi_leader;
        let clock = match options.conflicts {
            Conflicts::Lww => options.clock,
            _ => Clock::Hybrid,
        };
        let synchronous = options.conflicts == Conflicts::Synchronous;
        let mut links = links(id, nodes, options.topology, synchronous);
        for link in &mut links {
            link.heard = now;
        }
        let mut replica = Self {
            id,
            origin: Origin { node: id, life: 0 },
            run: mix(seed, now, 1),
            content: Content::new(config),
            homes: Homes::new(nodes),
            synchronous: Synchronous::default(),
            clock: Clocked::new(clock),
            vector: Vector::default(),
            stable: Vector::default(),
            unstable: VecDeque::new(),
            changes: Changes::default(),
            held: BTreeMap::new(),
            links,
            owed: nodes.iter().copied().filter(|node| *node != id).collect(),
            durability: Durability::new(
                config.fsync,
                config.fsync_interval_ms * MILLISECOND,
                false,
            ),
            record: recovered.len() as u64,
            records_since: recovered.len() as u64,
            answers: VecDeque::new(),
            outgoing: VecDeque::new(),
            waiting: Vec::new(),
            tick_at: now + options.resend_ms * MILLISECOND,
            marks: (0, 0),
            config: config.clone(),
        };
        replica.synchronous.empty = synchronous && recovered.is_empty();
        let lived = replica.recover(recovered);
        if synchronous {
            let own = replica.changes.iter().map(|kept| &kept.change);
            for change in own.filter(|change| change.dot.origin.node == id) {
                replica.synchronous.unfinished(change);
            }
        }
        replica.begin_life(lived, seed, now, effects);
        let known = replica.vector.clone();
        replica.unstable(&known);
        replica.durability.wrote(replica.record, now);
        effects.push(Effect::Trace(Trace::Role {
            role: Role::Leader,
            epoch: 0,
        }));
        replica.finish(now, effects);
        replica
    }

    pub(super) fn see(&mut self, moment: Moment) {
        self.clock.see(moment);
    }

    /// Sends once all that was written so far is durable.
    pub(super) fn send_durably(&mut self, to: NodeId, message: Message) {
        self.outgoing.push_back((self.record, to, message));
    }

    /// What follows from every event.
    fn finish(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.conclude(now, effects);
        self.serve_waiting(now, effects);
        self.durability.flush(effects);
        let durable = self.durability.durable();
        let mut moved = false;
        while let Some(&(record, dot)) = self.unstable.front()
            && record <= durable
        {
            moved = true;
            self.unstable.pop_front();
            self.stable.see(dot.origin, dot.seq);
        }
        while let Some((record, ..)) = self.answers.front()
            && *record <= durable
            && let Some((_, id, reply)) = self.answers.pop_front()
        {
            effects.push(Effect::Reply(id, reply));
        }
        self.replicate(moved, now, effects);
        while let Some((record, ..)) = self.outgoing.front()
            && *record <= durable
            && let Some((_, to, message)) = self.outgoing.pop_front()
        {
            send(to, message, effects);
        }
        self.compact(effects);
    }

    /// Changes that a neighbour is not known to have, or that this node is known to lack; nodes
    /// that have not told yet what they have; and requests that wait.
    fn pending(&self) -> u64 {
        let neighbours = self.links.iter().filter(|link| link.neighbour);
        let each = neighbours.map(|link| {
            let unheard = u64::from(link.run.is_none());
            if self.forgets_sent() {
                // What was sent counts as done.
                return unheard;
            }
            let deliver = self.vector.lacking(&link.known);
            let fetch = link.known.lacking(&self.vector);
            unheard.saturating_add(deliver).saturating_add(fetch)
        });
        let requests = self.waiting.len() + self.synchronous.pending();
        each.fold(requests as u64, u64::saturating_add)
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if !self.links.iter().any(|link| link.node == from) {
            return;
        }
        match message {
            Message::Have { run, vector } => self.on_have(now, from, run, vector),
            Message::Changes(changes) => self.on_changes(now, from, &changes, effects),
            Message::State(state) => self.on_state(now, from, &state, effects),
            Message::Synchronous(message) => self.on_word(now, from, message, effects),
        }
    }
}

impl Replica for MultiLeader {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Message(from, AnyMessage::MultiLeader(message)) => {
                self.on_message(now, from, message, effects);
            }
            Event::Message(..) => {}
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            Event::Synced(token) => self.durability.synced(token),
            Event::Stepped(step) => self.clock.set(step),
            Event::Wake => {
                self.durability.tick(now, effects);
                if now >= self.tick_at {
                    self.tick(now, effects);
                }
            }
        }
        self.finish(now, effects);
    }

    fn deadline(&self) -> Time {
        let waiting = self.waiting.iter().map(|waiting| waiting.until).min();
        let sync = match self.config.fsync {
            Fsync::Interval => self.durability.deadline(),
            Fsync::Always | Fsync::Never => Time::MAX,
        };
        let sync = sync.min(self.synchronous.deadline());
        self.tick_at.min(sync).min(waiting.unwrap_or(Time::MAX))
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: Role::Leader,
            epoch: 0,
            leader: Some(self.id),
            last: Position::default(),
            applied: self.vector.lacking(&Vector::default()),
            discarded: 0,
            pending: self.pending(),
            storage_version: self.config.storage_version,
            stopped: None,
            standbys: Vec::new(),
        }
    }

    fn digest(&self) -> u64 {
        self.content.digest()
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }

    fn holds(&self, key: &Arc<str>) -> Option<crate::core::Datum> {
        self.content.read(key).0
    }
}

impl MultiLeader {
    /// The planted mistake: what was sent is forgotten, whether it arrived or not.
    pub(super) fn forgets_sent(&self) -> bool {
        self.config.has(Bug::ChangeSentOnce)
    }
}
