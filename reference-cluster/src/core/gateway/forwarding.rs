//! A gateway: takes clients' requests and has replicas carry them out.
//!
//! It asks all replicas with every heartbeat how they stand. A write goes to the replica that calls
//! itself leader in the highest epoch; where several lead, or nobody, each gateway keeps to one
//! replica as long as that one answers. Reads are spread as `gateway_reads` says: to the leader
//! like writes; or to all replicas that answer, in turn or to the one with the fewest requests of
//! this gateway under way, perhaps leaving out those that are too far behind. A spread read asks
//! the replica for its own state: it may be stale, by as much as replication lags, and with
//! `bounded-staleness` by as many entries as configured behind the newest that the gateway knew
//! of a heartbeat ago.
//!
//! **Promises.** A request is carried out at most once. Only a refusal with [`Refusal::NotLeader`],
//! which is certain, is followed by another try, at the leader named, twice at most. What is not
//! answered within the failover timeout is [`Refusal::Indeterminate`] for a write and
//! [`Refusal::Unavailable`] for a read.
//!
//! **Does not promise** to know the leader: until the gateway hears of a failover it asks the old
//! one, and with a leader on each side of a partition it asks the one on its own side.

use std::collections::{BTreeMap, VecDeque};

use super::known::Replicas;
use super::{Message, client_id};
use crate::core::config::{GatewayReads, Mode, Reads};
use crate::core::timing::MILLISECOND;
use crate::core::{
    Admin, Config, Effect, Event, Message as AnyMessage, NodeId, Op, Position, Refusal, Replica,
    Reply, Request, RequestId, Role, Status, Time,
};

/// Requests under way; beyond that they are refused.
const UNDER_WAY_MAX: usize = 8_192;
/// How often a request is tried again.
const RETRIES_MAX: u8 = 2;

/// A gateway; see the module.
pub struct Gateway {
    config: Config,
    id: NodeId,
    /// See [`Message`].
    life: Time,
    replicas: Replicas,
    /// Which of the replicas this gateway keeps to where there is no one leader.
    home: usize,
    under_way: BTreeMap<u64, UnderWay>,
    /// When each request is given up, in order; some have been answered meanwhile.
    deadlines: VecDeque<(Time, u64)>,
    /// Counts spread reads.
    turn: usize,
    ask_at: Time,
}

/// A request that a replica was asked.
struct UnderWay {
    to: NodeId,
    request: Request,
    retries: u8,
}

impl Gateway {
    /// See [`crate::core::start`]; `which` counts the gateways from 0.
    pub(super) fn start(
        config: &Config,
        id: NodeId,
        replicas: &[NodeId],
        which: usize,
        now: Time,
    ) -> Self {
        Self {
            config: config.clone(),
            id,
            life: now,
            replicas: Replicas::new(replicas),
            home: which % replicas.len().max(1),
            under_way: BTreeMap::new(),
            deadlines: VecDeque::new(),
            turn: which,
            ask_at: now,
        }
    }

    fn patience(&self) -> Time {
        self.config.failover_timeout_ms * MILLISECOND
    }

    /// Since when a replica must have been heard to count as up.
    fn lately(&self, now: Time) -> Time {
        now.saturating_sub(self.patience())
    }

    fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let own = matches!(request.op, Op::Digest | Op::Admin(Admin::Snapshot));
        let refusal = if own {
            Refusal::Unsupported("a gateway holds nothing".into())
        } else if id != client_id(id) || self.under_way.contains_key(&id.0) {
            Refusal::Unsupported("a gateway numbers requests by 48 bits, each once".into())
        } else if self.under_way.len() >= UNDER_WAY_MAX {
            Refusal::Unavailable("too many requests are under way".into())
        } else if let Some((to, request)) = self.route(now, request) {
            self.deadlines.push_back((now + self.patience(), id.0));
            let retries = 0;
            return self.forward(id.0, to, request, retries, effects);
        } else {
            Refusal::Unavailable("no replica is known that could do it".into())
        };
        self.refuse(id, refusal, effects);
    }

    /// Whom to ask, and what.
    fn route(&mut self, now: Time, mut request: Request) -> Option<(NodeId, Request)> {
        let spread = self.config.gateway_reads != GatewayReads::Leader;
        if !request.op.is_read() || !(spread || request.local) {
            return Some((self.leader(now)?, request));
        }
        let to = self.reader(now, &request.op)?;
        let answers_all = self.config.mode == Mode::SingleLeader && self.config.reads == Reads::Any;
        request.local |= self.config.one_log() && !answers_all;
        Some((to, request))
    }

    /// Who takes writes.
    fn leader(&self, now: Time) -> Option<NodeId> {
        let since = self.lately(now);
        if self.config.one_log() {
            return self.replicas.leader(since);
        }
        let up: Vec<NodeId> = self.replicas.heard_since(since).map(|s| s.id).collect();
        let home = up.iter().find(|node| usize::from(node.0) > self.home);
        home.or(up.first()).copied()
    }

    /// Who answers the next spread read.
    fn reader(&mut self, now: Time, op: &Op) -> Option<NodeId> {
        let since = self.lately(now);
        let newest = self.replicas.heard_since(since).map(|s| s.last.index).max();
        let least = match self.config.gateway_reads {
            GatewayReads::BoundedStaleness => newest?.saturating_sub(self.config.gateway_staleness),
            _ => 0,
        };
        let holds = |status: &Status| match (self.config.partial.get(&status.id.0), op.key()) {
            (None, _) => true,
            (Some(prefix), Some(key)) => key.starts_with(&**prefix),
            (Some(_), None) => false,
        };
        let leaves_reads = self.config.reads == Reads::Follower;
        let able: Vec<NodeId> = self
            .replicas
            .heard_since(since)
            .filter(|status| status.applied >= least && status.stopped.is_none() && holds(status))
            .filter(|status| !(leaves_reads && status.role == Role::Leader))
            .map(|status| status.id)
            .collect();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % able.len().max(1);
        let in_turn = able[first..].iter().chain(&able[..first]).copied();
        match self.config.gateway_reads {
            GatewayReads::LeastConnections => {
                let busy =
                    |node: &NodeId| self.under_way.values().filter(|r| r.to == *node).count();
                in_turn.min_by_key(busy)
            }
            _ => in_turn.take(1).next(),
        }
        .or_else(|| self.leader(now).filter(|_| leaves_reads))
    }

    fn forward(
        &mut self,
        number: u64,
        to: NodeId,
        request: Request,
        retries: u8,
        effects: &mut Vec<Effect>,
    ) {
        let message = Message::Forward {
            number,
            life: self.life,
            to: self.replicas.get(to).map_or(0, |known| known.life),
            request: request.clone(),
        };
        effects.push(Effect::Send(to, AnyMessage::Gateway(message)));
        let entry = UnderWay {
            to,
            request,
            retries,
        };
        self.under_way.insert(number, entry);
    }

    fn on_forwarded(
        &mut self,
        now: Time,
        from: NodeId,
        number: u64,
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        let Some(under_way) = self.under_way.get(&number).filter(|r| r.to == from) else {
            return;
        };
        let Err(Refusal::NotLeader { leader }) = &reply.result else {
            self.under_way.remove(&number);
            effects.push(Effect::Reply(RequestId(number), reply));
            return;
        };
        let retries = under_way.retries + 1;
        let known = |node: &NodeId| *node != from && self.replicas.get(*node).is_some();
        let next = leader
            .filter(known)
            .or_else(|| self.leader(now).filter(known))
            .filter(|_| retries <= RETRIES_MAX);
        let Some(under_way) = self.under_way.remove(&number) else {
            return;
        };
        match next {
            Some(next) => self.forward(number, next, under_way.request, retries, effects),
            None => effects.push(Effect::Reply(RequestId(number), reply)),
        }
    }

    /// Gives up what no replica has answered in time.
    fn give_up(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some((until, number)) = self.deadlines.front().copied()
            && until <= now
        {
            self.deadlines.pop_front();
            let Some(under_way) = self.under_way.remove(&number) else {
                continue;
            };
            let text = format!("n{} did not answer in time", under_way.to.0).into();
            let refusal = if under_way.request.op.is_read() {
                Refusal::Unavailable(text)
            } else {
                Refusal::Indeterminate(text)
            };
            self.refuse(RequestId(number), refusal, effects);
        }
    }

    fn refuse(&self, id: RequestId, refusal: Refusal, effects: &mut Vec<Effect>) {
        let reply = Reply {
            result: Err(refusal),
            node: self.id,
            role: Role::Gateway,
            epoch: self.replicas.epoch(),
            position: Position::default(),
            session: None,
            context: None,
        };
        effects.push(Effect::Reply(id, reply));
    }
}

impl Replica for Gateway {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            Event::Message(from, AnyMessage::Gateway(message)) => match message {
                Message::Stands { life, status } if status.id == from => {
                    self.replicas.hear(now, from, life, status);
                }
                Message::Forwarded {
                    number,
                    life,
                    reply,
                } if life == self.life => self.on_forwarded(now, from, number, reply, effects),
                _ => {}
            },
            Event::Message(..) | Event::Synced(_) | Event::Stepped(_) => {}
            Event::Wake => {
                self.give_up(now, effects);
                if now >= self.ask_at {
                    self.ask_at = now + self.config.heartbeat_ms * MILLISECOND;
                    self.replicas.ask(effects);
                }
            }
        }
    }

    fn deadline(&self) -> Time {
        let first = self
            .deadlines
            .front()
            .map_or(Time::MAX, |(until, _)| *until);
        self.ask_at.min(first)
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: Role::Gateway,
            epoch: self.replicas.epoch(),
            leader: self.replicas.leader(0),
            last: Position::default(),
            applied: 0,
            discarded: 0,
            pending: 0,
            storage_version: self.config.storage_version,
            stopped: None,
        }
    }

    fn digest(&self) -> u64 {
        0
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }
}
