//! What a follower does with what its leader sends, and how a replica becomes a follower.

use std::sync::Arc;

use super::replica::{Following, Part};
use super::{Entry, Leadership, Message, SingleLeader, Snapshot};
use crate::core::config::Bug;
use crate::core::{Effect, NodeId, Position, Refusal, Time, Trace};

impl SingleLeader {
    /// Whether a message on this authority is to be obeyed. Follows a higher leadership at once;
    /// tells the sender if its own is superseded.
    pub(super) fn accept(
        &mut self,
        now: Time,
        from: NodeId,
        leadership: Leadership,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let compared = !self.config.has(Bug::EpochNotCompared);
        let older = if compared {
            leadership < self.leadership
        } else {
            leadership.epoch < self.leadership.epoch
        };
        if older {
            Self::send(from, Message::Superseded(self.leadership), effects);
            return false;
        }
        if leadership.leader == self.id.0 {
            return false;
        }
        if leadership != self.leadership || !matches!(self.part, Part::Follower(_)) {
            self.follow(now, leadership, Some(now), effects);
        } else {
            let timeout = self.draw_timeout();
            self.suspect_at(now + timeout);
            if let Part::Follower(following) = &mut self.part {
                following.heard = Some(now);
            }
        }
        true
    }

    /// Becomes a follower under this leadership, which is not below the one known so far.
    pub(super) fn follow(
        &mut self,
        now: Time,
        leadership: Leadership,
        heard: Option<Time>,
        effects: &mut Vec<Effect>,
    ) {
        self.leadership = leadership;
        self.refuse_waiting(effects);
        let following = Following {
            heard,
            suspect_at: Time::MAX,
            verified: 0,
            owed: None,
        };
        let before = std::mem::replace(&mut self.part, Part::Follower(following));
        let timeout = self.draw_timeout();
        self.suspect_at(now + timeout);
        self.trace_role(effects);
        if let Part::Leader(leading) = before {
            let position = self.log.last();
            for pending in leading.pending {
                let refusal =
                    Refusal::Indeterminate("leadership was lost before it was acknowledged".into());
                self.reply(pending.asked, Err(refusal), position, effects);
            }
            if let Some(handover) = leading.handover {
                self.handed_over(handover, leadership, position, effects);
            }
        }
        self.apply_all();
    }

    /// Applies what a leader had not yet.
    pub(super) fn apply_all(&mut self) {
        while let Some(entry) = self.log.entry(self.applied + 1) {
            if let Some(op) = &entry.op {
                let _ = self.store.apply(op);
            }
            self.applied += 1;
        }
    }

    pub(super) fn on_append(
        &mut self,
        now: Time,
        from: NodeId,
        seq: u64,
        prev: Position,
        entries: &[Arc<Entry>],
        effects: &mut Vec<Effect>,
    ) {
        let verified = self.verified();
        let base = self.log.base().index;
        let matches = prev.index <= verified || self.log.position(prev.index) == Some(prev);
        // An entry that contradicts what is no longer in the log cannot be put right from here.
        let contradicts = |entry: &&Arc<Entry>| {
            let index = entry.position.index;
            index > verified && index <= base && self.log.position(index) != Some(entry.position)
        };
        let below = prev.index < base && verified < base;
        if !matches || (below && entries.iter().any(|entry| contradicts(&entry))) {
            let (leadership, hint) = (self.leadership, self.log.agreement(prev));
            Self::send(
                from,
                Message::Mismatched {
                    leadership,
                    seq,
                    hint,
                    base,
                },
                effects,
            );
            return;
        }
        for entry in entries {
            if entry.position.index <= verified {
                self.apply_duplicate(entry);
                continue;
            }
            let Position { index, .. } = entry.position;
            match self.log.position(index) {
                Some(here) if here == entry.position => {
                    self.apply_duplicate(entry);
                    continue;
                }
                Some(_) => self.discard(index - 1, effects),
                None => {}
            }
            let entry = self.received(now, entry);
            if let Some(op) = &entry.op {
                // A compare-and-set that fails here failed at the leader.
                let _ = self.store.apply(op);
            }
            self.push(now, entry, effects);
            self.applied = index;
        }
        self.serve_waiting(effects);
        let upto = prev.index + entries.len() as u64;
        self.owe_answer(from, seq, verified.max(upto), effects);
        self.compact(effects);
    }

    pub(super) fn on_install(
        &mut self,
        from: NodeId,
        seq: u64,
        snapshot: &Snapshot,
        effects: &mut Vec<Effect>,
    ) {
        let Position { index, .. } = snapshot.position;
        let verified = self.verified();
        // What is before the base agrees with the leader's log only if something after it does.
        let base = self.log.base().index;
        let known = verified >= index.max(base)
            || (index >= base && self.log.position(index) == Some(snapshot.position));
        if !known {
            let thrown = self.log.install(snapshot);
            self.durability.restarted(index);
            self.store = snapshot.store.clone();
            self.applied = index;
            self.rewrite_journal(effects);
            self.report_discarded(thrown, effects);
            effects.push(Effect::Trace(Trace::SnapshotInstalled(snapshot.position)));
            self.serve_waiting(effects);
        }
        self.owe_answer(from, seq, verified.max(index), effects);
    }

    /// An entry came that is in the log already: nothing is to be done.
    fn apply_duplicate(&mut self, entry: &Entry) {
        if self.config.has(Bug::DuplicateAppliedTwice)
            && let Some(op) = &entry.op
        {
            let _ = self.store.apply(op);
        }
    }

    fn verified(&self) -> u64 {
        match &self.part {
            Part::Follower(following) => following.verified,
            _ => 0,
        }
    }

    /// The log is now known to be the leader's up to an index: says so once it is durable.
    fn owe_answer(&mut self, from: NodeId, seq: u64, verified: u64, effects: &mut Vec<Effect>) {
        if let Part::Follower(following) = &mut self.part {
            following.verified = verified;
            let seq = following.owed.map_or(seq, |(_, owed)| owed.max(seq));
            following.owed = Some((from, seq));
        }
        if self.durability.durable() >= verified {
            self.pay_answer(effects);
        }
    }

    /// Tells the leader what is verified and durable, if an answer is owed.
    pub(super) fn pay_answer(&mut self, effects: &mut Vec<Effect>) {
        let leadership = self.leadership;
        let durable = self.durability.durable();
        if let Part::Follower(following) = &mut self.part
            && let Some((leader, seq)) = following.owed
        {
            let matched = following.verified.min(durable);
            if matched == following.verified {
                following.owed = None;
            }
            Self::send(
                leader,
                Message::Matched {
                    leadership,
                    seq,
                    matched,
                },
                effects,
            );
        }
    }
}
