//! What a leader applies and acknowledges, and when.

use super::SingleLeader;
use super::replica::Part;
use crate::core::config::Visibility;
use crate::core::{Answer, Effect, Time};

impl SingleLeader {
    /// Applies and acknowledges what is now held by those who have to hold it.
    ///
    /// A fenced leader does neither, but with `visibility: before-ack` what is in its own journal
    /// is applied whoever else holds it.
    pub(super) fn advance(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        let durable = self.durability.durable();
        let held = if leading.fallen {
            u64::MAX
        } else {
            leading.held
        };
        let commit = if self.fenced(leading, now) {
            0
        } else {
            held.min(durable)
        };
        let visible = match self.config.visibility {
            Visibility::AfterAck => commit,
            Visibility::BeforeAck => durable,
        };
        self.execute(visible);
        self.acknowledge(commit, effects);
        self.serve_waiting(effects);
        self.hand_over(effects);
    }

    /// Applies the log up to an index, and keeps what came of it for who asked.
    fn execute(&mut self, upto: u64) {
        while self.applied < upto
            && let Some(entry) = self.log.entry(self.applied + 1)
        {
            self.applied += 1;
            let applied = entry.op.as_ref().map(|op| self.store.apply(op));
            let result = applied.unwrap_or(Ok(Answer::Done));
            if result.is_err() {
                // A failed operation has taken a number all the same. Followers, which do not
                // know it for an attempt, do not count it.
                self.store.counters_mut().advance();
            }
            if let Part::Leader(leading) = &mut self.part
                && let Ok(which) = leading
                    .pending
                    .binary_search_by_key(&self.applied, |pending| pending.index)
            {
                leading.pending[which].result = Some(result);
            }
        }
    }

    /// Answers the writes up to an index that are applied.
    fn acknowledge(&mut self, upto: u64, effects: &mut Vec<Effect>) {
        while let Part::Leader(leading) = &mut self.part
            && let Some(first) = leading.pending.front()
            && first.index <= upto
            && first.result.is_some()
            && let Some(pending) = leading.pending.pop_front()
        {
            let position = self.log.position(pending.index).unwrap_or_default();
            self.reply(
                pending.asked,
                pending.result.unwrap_or(Ok(Answer::Done)),
                position,
                effects,
            );
        }
    }
}
