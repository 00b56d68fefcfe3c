//! What a leader does: appends, ships, acknowledges.

use std::collections::VecDeque;
use std::sync::Arc;

use super::replica::{Part, entry};
use super::{Entry, Message, SingleLeader};
use crate::core::config::{Ack, Fencing};
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Effect, NodeId, Op, Position, RequestId, Time, Trace};

/// What a leader keeps in mind.
#[derive(Debug)]
pub(super) struct Leading {
    /// One a peer, in their order.
    pub followers: Vec<Follower>,
    /// Requests not yet acknowledged, with the index of their entry.
    pub pending: VecDeque<(u64, RequestId)>,
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
    /// When it was last heard of.
    pub heard: Time,
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
            needs_state: false,
            installed: None,
        });
        self.part = Part::Leader(Leading {
            followers: followers.collect(),
            pending: VecDeque::new(),
            beat_at: now,
            seq: 0,
        });
        self.trace_role(effects);
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
        self.peers.len().div_ceil(2) + 1
    }

    /// Appends a write and ships it.
    pub(super) fn lead_write(
        &mut self,
        now: Time,
        request: RequestId,
        op: Op,
        effects: &mut Vec<Effect>,
    ) {
        let previous = self.log.last();
        let position = self.leadership.at(previous.index + 1);
        let entry = entry(position, Some(op));
        let request = Some(request);
        effects.push(Effect::Trace(Trace::Created {
            position,
            previous,
            request,
        }));
        let shipment: Arc<[Arc<Entry>]> = Arc::new([Arc::clone(&entry)]);
        self.push(now, entry, effects);

        let leadership = self.leadership;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        leading
            .pending
            .extend(request.map(|request| (position.index, request)));
        leading.seq += 1;
        let seq = leading.seq;
        for follower in &mut leading.followers {
            if !follower.probing && follower.next == position.index {
                follower.next += 1;
                let entries = shipment.clone();
                let message = Message::Append {
                    leadership,
                    seq,
                    prev: previous,
                    entries,
                };
                effects.push(Effect::Send(
                    follower.id,
                    crate::core::Message::SingleLeader(message),
                ));
            }
        }
        self.advance(now, effects);
        self.compact(effects);
    }

    /// Sends a follower what it lacks, as much as goes in one message; a heartbeat if nothing.
    fn ship(&mut self, now: Time, which: usize, effects: &mut Vec<Effect>) {
        let timeout = self.config.failover_timeout_ms * MILLISECOND;
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        leading.seq += 1;
        let (leadership, seq) = (self.leadership, leading.seq);
        let follower = &mut leading.followers[which];
        let to = follower.id;
        let message = if follower.needs_state || follower.next <= self.log.base().index {
            if follower.installed.is_some_and(|sent| sent + timeout > now) {
                return;
            }
            follower.installed = Some(now);
            follower.needs_state = false;
            follower.next = self.log.base().index + 1;
            follower.probing = true;
            follower.reset_seq = seq;
            Message::Install {
                leadership,
                seq,
                snapshot: self.log.snapshot().into(),
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
                entries,
            }
        };
        Self::send(to, message, effects);
    }

    /// Sends every follower a heartbeat, by which it also notices whether it has missed anything.
    pub(super) fn beat(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let silence = self.config.failover_timeout_ms * MILLISECOND;
        let leadership = self.leadership;
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
            };
            effects.push(Effect::Send(
                follower.id,
                crate::core::Message::SingleLeader(message),
            ));
        }
        self.beat_later(now);
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
        follower.heard = now;
        if seq >= follower.reset_seq {
            follower.probing = false;
        }
        let moved = matched > follower.matched;
        follower.matched = follower.matched.max(matched);
        follower.next = follower.next.max(matched + 1);
        if !follower.probing && follower.next <= last {
            self.ship(now, which, effects);
        }
        if moved && self.config.ack != Ack::Async {
            self.advance(now, effects);
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
        follower.heard = now;
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

    /// Applies and acknowledges what is now held by those who have to hold it.
    pub(super) fn advance(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        let commit = self.held(leading).min(self.durability.durable());
        if commit <= self.applied || self.fenced(leading, now) {
            return;
        }
        while self.applied < commit {
            self.applied += 1;
            let Some(entry) = self.log.entry(self.applied) else {
                break;
            };
            let position = entry.position;
            let result = entry
                .op
                .as_ref()
                .map_or(Ok(Answer::Done), |op| self.store.apply(op));
            if let Part::Leader(leading) = &mut self.part
                && let Some(&(index, request)) = leading.pending.front()
                && index == self.applied
            {
                leading.pending.pop_front();
                self.reply(request, result, position, effects);
            }
        }
    }

    /// Index up to which as many followers as `ack` demands hold the log.
    fn held(&self, leading: &Leading) -> u64 {
        let count = match self.config.ack {
            Ack::Async => return u64::MAX,
            Ack::Sync => leading.followers.len(),
            Ack::SemiSync(k) => usize::from(k),
        };
        if count == 0 {
            return u64::MAX;
        }
        let mut matched: Vec<u64> = leading.followers.iter().map(|f| f.matched).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        matched.get(count - 1).copied().unwrap_or(0)
    }
}
