//! What a leader does: appends, ships, acknowledges.

use std::collections::VecDeque;
use std::sync::Arc;

use super::failover::majority;
use super::pending::{Asked, Pending};
use super::replica::{Part, entry};
use super::switchover::Handover;
use super::{Entry, Message, SingleLeader};
use crate::core::config::{Ack, Fencing};
use crate::core::timing::MILLISECOND;
use crate::core::{Effect, NodeId, Op, Position, Time, Trace};

/// What a leader keeps in mind.
#[derive(Debug)]
pub(super) struct Leading {
    /// One a peer, in their order.
    pub followers: Vec<Follower>,
    /// Writes not yet acknowledged, in the order of their entries.
    pub pending: VecDeque<Pending>,
    /// Index up to which as many followers as `ack` demands hold the log.
    pub held: u64,
    /// Whether semi-synchronous replication has fallen back to asynchronous.
    pub fallen: bool,
    /// A planned switchover under way.
    pub handover: Option<Handover>,
    /// When the next heartbeat is due.
    pub beat_at: Time,
    /// The number of the last message sent.
    pub seq: u64,
}

/// What a leader knows of one follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follower {
    pub id: NodeId,
    /// Index up to which its log is known to be the leader's, durably.
    pub matched: u64,
    /// Index of the entry to be sent next.
    pub next: u64,
    /// Whether `next` is a guess: then nothing is sent but heartbeats until it is confirmed.
    pub probing: bool,
    /// Answers to messages sent before this one say nothing of `next`.
    pub reset_seq: u64,
    /// When it was last heard of; when the leadership began, if never.
    pub heard: Time,
    /// Whether it ever answered this leadership.
    pub answered: bool,
    /// Whether its log cannot be completed from this log, but by a snapshot.
    pub needs_state: bool,
    /// When a snapshot was last sent.
    pub installed: Option<Time>,
}

impl SingleLeader {
    /// Takes up the leadership that has just become durable.
    pub(super) fn lead(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let followers = self.peers.iter().map(|&id| Follower {
            id,
            matched: 0,
            next: last,
            probing: false,
            reset_seq: 0,
            heard: now,
            answered: false,
            needs_state: false,
            installed: None,
        });
        self.part = Part::Leader(Leading {
            followers: followers.collect(),
            pending: VecDeque::new(),
            held: 0,
            fallen: false,
            handover: None,
            beat_at: now,
            seq: 0,
        });
        self.trace_role(effects);
        self.note_held(effects);
        for follower in 0..self.peers.len() {
            self.ship(now, follower, effects);
        }
        self.beat_later(now);
    }

    /// Whether fencing keeps this leader from answering.
    pub(super) fn fenced(&self, leading: &Leading, now: Time) -> bool {
        if self.config.fencing == Fencing::None {
            return false;
        }
        let timeout = self.config.failover_timeout_ms * MILLISECOND;
        let heard = leading
            .followers
            .iter()
            .filter(|f| f.heard + timeout >= now)
            .count();
        heard + 1 < self.majority()
    }

    pub(super) fn majority(&self) -> usize {
        majority(&self.config, self.peers.len() + 1)
    }

    /// Appends a write and ships it.
    pub(super) fn lead_write(
        &mut self,
        now: Time,
        asked: Asked,
        op: Op,
        effects: &mut Vec<Effect>,
    ) {
        let previous = self.log.last();
        let position = self.leadership.at(previous.index + 1);
        let entry = entry(position, Some(op));
        let request = Some(asked.id);
        effects.push(Effect::Trace(Trace::Created {
            position,
            previous,
            request,
        }));
        let shipment: Arc<[Arc<Entry>]> = Arc::new([Arc::clone(&entry)]);
        self.push(now, entry, effects);
        if let Part::Leader(leading) = &mut self.part {
            leading.pending.push_back(Pending {
                index: position.index,
                asked,
                since: now,
                result: None,
            });
            leading.seq += 1;
        }
        self.ship_newest(previous, &shipment, effects);
        self.advance(now, effects);
        self.compact(effects);
    }

    /// Ships the newest entry to the followers that have all before it.
    fn ship_newest(
        &mut self,
        previous: Position,
        shipment: &Arc<[Arc<Entry>]>,
        effects: &mut Vec<Effect>,
    ) {
        let (leadership, index) = (self.leadership, previous.index + 1);
        let version = self.config.storage_version;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let seq = leading.seq;
        let mut ready = Vec::with_capacity(leading.followers.len());
        for follower in &mut leading.followers {
            if !follower.probing && follower.next == index {
                follower.next += 1;
                ready.push(follower.id);
            }
        }
        for to in ready {
            let message = Message::Append {
                leadership,
                seq,
                prev: previous,
                entries: self.shipped(to, shipment.clone()),
                version,
            };
            Self::send(to, message, effects);
        }
    }

    /// Sends a follower what it lacks, as much as goes in one message; a heartbeat if nothing.
    fn ship(&mut self, now: Time, which: usize, effects: &mut Vec<Effect>) {
        let timeout = self.config.failover_timeout_ms * MILLISECOND;
        let (leadership, version) = (self.leadership, self.config.storage_version);
        let base = self.log.base().index;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        leading.seq += 1;
        let seq = leading.seq;
        let follower = &mut leading.followers[which];
        let to = follower.id;
        let message = if follower.needs_state || follower.next <= base {
            if follower.installed.is_some_and(|sent| sent + timeout > now) {
                return;
            }
            follower.installed = Some(now);
            follower.needs_state = false;
            follower.next = base + 1;
            follower.probing = true;
            follower.reset_seq = seq;
            Message::Install {
                leadership,
                seq,
                snapshot: self.shipped_snapshot(to).into(),
                version,
            }
        } else {
            let Some(prev) = self.log.position(follower.next - 1) else {
                return;
            };
            let entries = self.log.batch(follower.next);
            follower.next += entries.len() as u64;
            Message::Append {
                leadership,
                seq,
                prev,
                entries: self.shipped(to, entries),
                version,
            }
        };
        Self::send(to, message, effects);
    }

    /// Sends every follower a heartbeat, by which it also notices whether it has missed anything.
    pub(super) fn beat(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let silence = self.config.failover_timeout_ms * MILLISECOND;
        let (leadership, version) = (self.leadership, self.config.storage_version);
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        leading.seq += 1;
        let seq = leading.seq;
        let nothing: Arc<[Arc<Entry>]> = Arc::default();
        for follower in &mut leading.followers {
            if follower.heard + silence < now {
                // Spare the network what nobody takes in.
                follower.probing = true;
            }
            let Some(prev) = self.log.position(follower.next - 1) else {
                continue;
            };
            let message = Message::Append {
                leadership,
                seq,
                prev,
                entries: nothing.clone(),
                version,
            };
            effects.push(Effect::Send(
                follower.id,
                crate::core::Message::SingleLeader(message),
            ));
        }
        self.beat_later(now);
        self.repeat_handover(effects);
        // Fencing may have ended by the mere passing of messages that moved nothing.
        self.advance(now, effects);
    }

    fn beat_later(&mut self, now: Time) {
        let interval = self.config.heartbeat_ms * MILLISECOND;
        if let Part::Leader(leading) = &mut self.part {
            leading.beat_at = now + interval;
        }
    }

    pub(super) fn on_matched(
        &mut self,
        now: Time,
        from: NodeId,
        seq: u64,
        matched: u64,
        effects: &mut Vec<Effect>,
    ) {
        let last = self.log.last().index;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(which) = leading.followers.iter().position(|f| f.id == from) else {
            return;
        };
        let follower = &mut leading.followers[which];
        (follower.heard, follower.answered) = (now, true);
        if seq >= follower.reset_seq {
            follower.probing = false;
        }
        let moved = matched > follower.matched;
        follower.matched = follower.matched.max(matched);
        follower.next = follower.next.max(matched + 1);
        if !follower.probing && follower.next <= last {
            self.ship(now, which, effects);
        }
        if moved {
            self.note_held(effects);
            if self.config.ack == Ack::Async {
                self.hand_over(effects);
            } else {
                self.advance(now, effects);
            }
        }
    }

    /// A follower is there that cannot read what is shipped: it is only knocked at.
    pub(super) fn on_unreadable(&mut self, now: Time, from: NodeId) {
        if let Part::Leader(leading) = &mut self.part {
            let reset_seq = leading.seq + 1;
            for follower in leading.followers.iter_mut().filter(|f| f.id == from) {
                (follower.heard, follower.answered) = (now, true);
                (follower.probing, follower.reset_seq) = (true, reset_seq);
            }
        }
    }

    pub(super) fn on_mismatched(
        &mut self,
        now: Time,
        from: NodeId,
        seq: u64,
        hint: Position,
        base: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(which) = leading.followers.iter().position(|f| f.id == from) else {
            return;
        };
        let follower = &mut leading.followers[which];
        (follower.heard, follower.answered) = (now, true);
        if seq < follower.reset_seq {
            return;
        }
        let common = self.log.agreement(hint).index;
        // It cannot go back behind its base: it needs a state, even one older than its own.
        follower.needs_state = common < base;
        follower.next = common + 1;
        follower.probing = true;
        follower.reset_seq = leading.seq + 1;
        self.ship(now, which, effects);
    }
}
