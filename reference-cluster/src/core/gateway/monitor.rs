//! The monitor: a failover manager beside the replicas, as operators run it with `MySQL`
//! (`MHA`, Orchestrator) or `PostgreSQL` (`pg_auto_failover`'s monitor).
//!
//! With every heartbeat it asks all replicas how they stand and probes the one that calls itself
//! leader in the highest epoch. A probe goes the way of a write as far as the leader's disk, and
//! leaves nothing behind: a leader that is fenced or whose disk hangs does not answer it. After
//! `failed_writes` probes in a row without an answer, or as many heartbeats without a leader to
//! probe, it asks all replicas anew, waits for one heartbeat, and orders one of those that answered
//! to lead: the most up-to-date or the first, as `candidate` says, never the one that failed.
//!
//! **Promises** no more than one order a round, and with `failover_requires_majority` none without
//! the answers of a majority of all replicas.
//!
//! **Does not promise** that the old leader is gone: it may only be cut off from the monitor, and
//! goes on until it hears of its successor. While the monitor is down there is no failover; what is
//! out of its reach cannot be promoted, however up to date.

use super::known::Replicas;
use super::{Message, Probe};
use crate::core::single_leader::{choose, majority};
use crate::core::timing::MILLISECOND;
use crate::core::{
    Config, Effect, Event, Message as AnyMessage, NodeId, Position, Refusal, Replica, Reply, Role,
    Status, Time, Trace,
};

/// The monitor; see the module.
pub struct Monitor {
    config: Config,
    id: NodeId,
    replicas: Replicas,
    /// The last probe, whom it was sent to, and whether it was answered.
    probe: Probe,
    probed: Option<NodeId>,
    answered: bool,
    /// Probes in a row that were not answered.
    failures: u32,
    /// Since when answers count in a failover under way, and whom it is to replace.
    round: Option<(Time, Option<NodeId>)>,
    beat_at: Time,
}

impl Monitor {
    /// See [`crate::core::start`].
    pub(super) fn start(config: &Config, id: NodeId, replicas: &[NodeId], now: Time) -> Self {
        Self {
            config: config.clone(),
            id,
            replicas: Replicas::new(replicas),
            // A number that no probe of a former life has.
            probe: Probe(now),
            probed: None,
            answered: false,
            failures: 0,
            round: None,
            beat_at: now,
        }
    }

    fn beat(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.beat_at = now + self.config.heartbeat_ms * MILLISECOND;
        if let Some((since, failed)) = self.round.take() {
            self.promote(since, failed, effects);
        }
        let silence = self.config.failover_timeout_ms * MILLISECOND;
        let leader = self.replicas.leader(now.saturating_sub(silence));
        let another = leader.is_some() && leader != self.probed;
        if self.answered || another {
            self.failures = 0;
        } else {
            self.failures += 1;
        }
        if self.failures >= self.config.failed_writes {
            self.failures = 0;
            self.round = Some((now, leader));
        }
        (self.probed, self.answered) = (leader, false);
        if let Some(leader) = leader {
            self.probe.0 += 1;
            let probe = AnyMessage::Gateway(Message::Probe(self.probe));
            effects.push(Effect::Send(leader, probe));
        }
        self.replicas.ask(effects);
    }

    /// Ends a round: orders one of those that answered to lead.
    fn promote(&mut self, since: Time, failed: Option<NodeId>, effects: &mut Vec<Effect>) {
        let answers = self.replicas.heard_since(since);
        let needed = majority(&self.config, self.replicas.count());
        if self.config.failover_requires_majority && answers.count() < needed {
            return;
        }
        let able = self
            .replicas
            .heard_since(since)
            .filter(|status| Some(status.id) != failed && status.stopped.is_none())
            .map(|status| (status.id, status.last));
        if let Some(chosen) = choose(&self.config, able) {
            let epoch = self.replicas.epoch();
            let order = AnyMessage::Gateway(Message::Promote { epoch });
            effects.push(Effect::Send(chosen, order));
            let remark = "the monitor ordered a failover";
            effects.push(Effect::Trace(Trace::Remark(remark)));
        }
    }
}

impl Replica for Monitor {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Wake if now >= self.beat_at => self.beat(now, effects),
            Event::Message(from, AnyMessage::Gateway(Message::Stands { life, status }))
                if status.id == from =>
            {
                self.replicas.hear(now, from, life, status);
            }
            Event::Message(from, AnyMessage::Gateway(Message::Probed(probe)))
                if probe == self.probe && self.probed == Some(from) =>
            {
                self.answered = true;
            }
            Event::Request(id, _) => {
                let reply = Reply {
                    result: Err(Refusal::Unsupported("the monitor serves no clients".into())),
                    node: self.id,
                    role: Role::Monitor,
                    epoch: self.replicas.epoch(),
                    position: Position::default(),
                    session: None,
                    context: None,
                };
                effects.push(Effect::Reply(id, reply));
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Time {
        self.beat_at
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: Role::Monitor,
            epoch: self.replicas.epoch(),
            leader: self.probed,
            last: Position::default(),
            applied: 0,
            discarded: 0,
            pending: 0,
            storage_version: self.config.storage_version,
            stopped: None,
            standbys: Vec::new(),
        }
    }

    fn digest(&self) -> u64 {
        0
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }
}
