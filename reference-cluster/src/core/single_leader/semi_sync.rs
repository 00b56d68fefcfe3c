//! Who has to hold a write before it is acknowledged, and semi-synchronous replication's fallback.
//!
//! With `semi_sync_timeout_ms` a leader whose oldest write has waited that long for its followers
//! goes on asynchronously: it acknowledges all that waits, and what comes, once it is in its own
//! journal. It returns when as many followers as `semi-sync(k)` demands hold its whole log. So
//! does `MySQL` (`rpl_semi_sync_master_timeout`; "Semisynchronous Replication" in its manual): what
//! is acknowledged in between may be lost with the leader, and no client can tell.

use super::SingleLeader;
use super::leading::Leading;
use super::replica::Part;
use crate::core::config::Ack;
use crate::core::timing::MILLISECOND;
use crate::core::{Effect, NodeId, Time, Trace};

impl SingleLeader {
    /// Index up to which as many followers as `ack` demands hold the log, whatever the fallback.
    /// Partial replicas do not count: a write is not safe with one that does not hold it.
    fn held_by_followers(&self, leading: &Leading) -> u64 {
        let full = leading
            .followers
            .iter()
            .filter(|follower| self.scope_of(follower.id).is_none());
        let mut matched: Vec<u64> = full.map(|follower| follower.matched).collect();
        let count = match self.config.ack {
            Ack::Async => 0,
            Ack::Sync => matched.len(),
            Ack::SemiSync(k) => usize::from(k),
        };
        if count == 0 {
            return u64::MAX;
        }
        matched.sort_unstable_by(|a, b| b.cmp(a));
        matched.get(count - 1).copied().unwrap_or(0)
    }

    /// The followers whose copies acknowledgements rest on: of a semi-synchronous leader as many as
    /// it waits for, those that hold most; none while it does not wait. O(followers).
    pub(super) fn standbys(&self) -> Vec<NodeId> {
        let Part::Leader(leading) = &self.part else {
            return Vec::new();
        };
        let mut full: Vec<(u64, NodeId)> = leading
            .followers
            .iter()
            .filter(|follower| self.scope_of(follower.id).is_none())
            .map(|follower| (follower.matched, follower.id))
            .collect();
        // Of equal ones the first.
        full.sort_by_key(|&(matched, id)| (std::cmp::Reverse(matched), id));
        match self.config.ack {
            Ack::SemiSync(k) if !leading.fallen => full.truncate(usize::from(k)),
            Ack::Sync => {}
            Ack::Async | Ack::SemiSync(_) => full.clear(),
        }
        full.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes note of what followers hold now; returns from the fallback if they hold everything.
    pub(super) fn note_held(&mut self, effects: &mut Vec<Effect>) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        let held = self.held_by_followers(leading);
        let last = self.log.last().index;
        if let Part::Leader(leading) = &mut self.part {
            leading.held = held;
            if leading.fallen && held >= last {
                leading.fallen = false;
                effects.push(Effect::Trace(Trace::Remark("semi-sync is on again")));
            }
        }
    }

    /// When the oldest write that waits for followers has waited too long.
    pub(super) fn fallback_at(&self, leading: &Leading) -> Time {
        match (self.config.ack, self.config.semi_sync_timeout_ms) {
            (Ack::SemiSync(_), Some(timeout)) if !leading.fallen => {
                let mut waiting = leading.pending.iter();
                waiting
                    .find(|pending| pending.index > leading.held)
                    .map_or(Time::MAX, |pending| pending.since + timeout * MILLISECOND)
            }
            _ => Time::MAX,
        }
    }

    /// Falls back to asynchronous replication if a write has waited too long.
    pub(super) fn fall_back(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if let Part::Leader(leading) = &self.part
            && self.fallback_at(leading) <= now
        {
            if let Part::Leader(leading) = &mut self.part {
                leading.fallen = true;
            }
            effects.push(Effect::Trace(Trace::Remark("semi-sync fell back to async")));
            self.advance(now, effects);
        }
    }
}
