//! How changes get from node to node.
//!
//! A node sends its targets what they are not known to have: at once what is new, and again what
//! was not acknowledged in time. Every node tells its neighbours regularly, and when it was sent
//! something, which changes it has durably (an anti-entropy digest, as in Demers et al., *Epidemic
//! Algorithms for Replicated Database Maintenance*, 1987). So a node that was away, lost something
//! or was wiped is served without further ado.

use std::sync::Arc;

use super::links::{needs_state, passes_on};
use super::origin::{Dot, Vector};
use super::replica::MultiLeader;
use super::{Change, Message, State};
use crate::core::timing::MILLISECOND;
use crate::core::{Effect, Message as AnyMessage, NodeId, Time};

/// Most changes in one message.
const BATCH: usize = 128;
/// How far the changes sent may be ahead of the ones acknowledged, and how many are looked at to be
/// sent again at once.
const WINDOW: u64 = 2_048;
/// Most changes that wait for others on which they depend.
const HELD_MAX: usize = 4_096;

pub(super) fn send(to: NodeId, message: Message, effects: &mut Vec<Effect>) {
    effects.push(Effect::Send(to, AnyMessage::MultiLeader(message)));
}

impl MultiLeader {
    /// Since when a node must have been heard to count as being there.
    fn heard_since(&self, now: Time) -> Time {
        now.saturating_sub(self.config.failover_timeout_ms * MILLISECOND)
    }

    fn passes_on(&self, dot: Dot, now: Time) -> bool {
        let topology = self.config.multi_leader.topology;
        passes_on(&self.links, topology, self.id, dot, self.heard_since(now))
    }

    /// Sends what is new, and tells those who are to be told.
    pub(super) fn replicate(&mut self, moved: bool, now: Time, effects: &mut Vec<Effect>) {
        for which in 0..self.links.len() {
            self.links[which].advance(&self.changes);
            if self.links[which].target && self.links[which].run.is_some() {
                self.send_new(which, now, effects);
            }
        }
        if moved || self.stable == self.vector {
            for to in std::mem::take(&mut self.owed) {
                self.tell(to, effects);
            }
        }
    }

    /// Tells a node what this one has.
    fn tell(&self, to: NodeId, effects: &mut Vec<Effect>) {
        let (run, vector) = (self.run, self.stable.clone());
        send(to, Message::Have { run, vector }, effects);
    }

    /// Sends a target what came since the last time, or a whole state if that is not enough.
    fn send_new(&mut self, which: usize, now: Time, effects: &mut Vec<Effect>) {
        let link = &self.links[which];
        let retry = self.config.failover_timeout_ms * MILLISECOND;
        if needs_state(link, self.changes.base(), |dot| self.passes_on(dot, now)) {
            if link.state_sent.is_none_or(|sent| sent + retry <= now) {
                let (to, state) = (link.node, Arc::new(self.state()));
                self.links[which].state_sent = Some(now);
                self.links[which].cursor = self.changes.end();
                // Nobody is told of changes that may yet be lost.
                self.send_durably(to, Message::State(state));
            }
            return;
        }
        let durable = self.durability.durable();
        let (from, until) = (link.cursor, link.acked + WINDOW);
        let mut at = from;
        let mut batch = Vec::new();
        while at < until
            && let Some(kept) = self.changes.get(at)
            && kept.record <= durable
        {
            let dot = kept.change.dot;
            if !link.known.contains(dot) && self.passes_on(dot, now) {
                batch.push(Arc::clone(&kept.change));
            }
            at += 1;
        }
        self.links[which].cursor = at;
        self.ship(which, &batch, effects);
    }

    fn ship(&mut self, which: usize, changes: &[Arc<Change>], effects: &mut Vec<Effect>) {
        let forgets = self.forgets_sent();
        let link = &mut self.links[which];
        for batch in changes.chunks(BATCH) {
            send(link.node, Message::Changes(batch.into()), effects);
        }
        if forgets {
            for change in changes {
                link.known.see(change.dot.origin, change.dot.seq);
            }
        }
    }

    /// Every now and then: sends again what was not acknowledged in time, and tells all neighbours
    /// what this node has.
    pub(super) fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let interval = self.config.multi_leader.resend_ms * MILLISECOND;
        // Ticks that were slept through are not made up for.
        self.tick_at = now + interval;
        let (recent, older) = self.marks;
        self.marks = (self.changes.end(), recent);
        let since = self.heard_since(now);
        for which in 0..self.links.len() {
            let link = &self.links[which];
            if link.neighbour {
                self.owed.insert(link.node);
            }
            // Spare the network what nobody takes in.
            if !link.target || link.run.is_none() || link.heard < since {
                continue;
            }
            let end = recent.min(link.cursor);
            let again = (link.acked..end.min(link.acked + WINDOW)).filter_map(|place| {
                let change = &self.changes.get(place)?.change;
                let dot = change.dot;
                let own = dot.origin.node == self.id;
                let due = (own || place < older) && !link.known.contains(dot);
                (due && self.passes_on(dot, now)).then(|| Arc::clone(change))
            });
            let again: Vec<_> = again.collect();
            self.ship(which, &again, effects);
        }
        for to in std::mem::take(&mut self.owed) {
            self.tell(to, effects);
        }
        self.remind(effects);
    }

    pub(super) fn on_have(&mut self, now: Time, from: NodeId, run: u64, vector: Vector) {
        let Some(link) = self.links.iter_mut().find(|link| link.node == from) else {
            return;
        };
        if link.run != Some(run) {
            // It has just started, and knows nothing of this node either.
            self.owed.insert(from);
        }
        link.hear(run, vector, now);
    }

    pub(super) fn on_changes(
        &mut self,
        now: Time,
        from: NodeId,
        changes: &[Arc<Change>],
        effects: &mut Vec<Effect>,
    ) {
        self.owe(from);
        for change in changes {
            let ours = change.dot.origin == self.origin;
            if ours || self.vector.contains(change.dot) {
                continue;
            }
            if self.is_synchronous() {
                self.owe(change.dot.origin.node);
            }
            if self.is_next(change) {
                self.record_change(change, now, effects);
            } else if self.held.len() < HELD_MAX {
                self.held.insert(change.dot, Arc::clone(change));
            }
        }
        self.release_held(now, effects);
    }

    fn owe(&mut self, node: NodeId) {
        if self.links.iter().any(|link| link.node == node) {
            self.owed.insert(node);
        }
    }

    /// Whether all changes are here that this one follows: those of its origin before it, and those
    /// that its origin had when it made it.
    fn is_next(&self, change: &Change) -> bool {
        let before = self.vector.get(change.dot.origin);
        self.forgets_sent()
            || (before.checked_add(1) == Some(change.dot.seq) && self.vector.covers(&change.after))
    }

    /// Takes in what waited for changes that have come.
    fn release_held(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let vector = &self.vector;
        self.held.retain(|dot, _| !vector.contains(*dot));
        while let Some(change) = self.held.values().find(|change| self.is_next(change)) {
            let change = Arc::clone(change);
            self.held.remove(&change.dot);
            self.record_change(&change, now, effects);
        }
    }

    pub(super) fn on_state(
        &mut self,
        now: Time,
        from: NodeId,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        self.owe(from);
        if !self.vector.covers(&state.vector) {
            self.record_state(state, now, effects);
            self.release_held(now, effects);
        }
    }
}
