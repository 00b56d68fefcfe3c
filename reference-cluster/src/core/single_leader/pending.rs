//! Writes that wait for their acknowledgement, and reads that wait until their session is caught
//! up with.

use std::collections::VecDeque;

use super::SingleLeader;
use crate::core::config::Bug;
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Effect, Op, Refusal, RequestId, Time};

/// Reads that may wait at one replica.
const WAITING_MAX: usize = 4_096;

/// A client's request: how to answer it, and the newest entry that its session has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub id: RequestId,
    pub seen: u64,
}

/// A write in the log that was not yet acknowledged.
#[derive(Debug)]
pub(super) struct Pending {
    pub index: u64,
    pub asked: Asked,
    /// When it was appended.
    pub since: Time,
    /// What came of it, once it is applied.
    pub result: Option<Result<Answer, Refusal>>,
}

/// A read whose session has seen more than this replica has applied.
#[derive(Debug)]
pub(super) struct Waiting {
    asked: Asked,
    op: Op,
    /// When it is refused.
    until: Time,
}

/// Reads that wait, in the order in which they are given up.
#[derive(Debug, Default)]
pub(super) struct WaitingReads(VecDeque<Waiting>);

impl WaitingReads {
    /// When the first is to be refused.
    pub fn deadline(&self) -> Time {
        self.0.front().map_or(Time::MAX, |waiting| waiting.until)
    }
}

impl SingleLeader {
    /// Answers a read, at once if this replica has applied what its session has seen.
    pub(super) fn read_or_wait(
        &mut self,
        now: Time,
        asked: Asked,
        op: Op,
        effects: &mut Vec<Effect>,
    ) {
        if asked.seen <= self.applied || self.config.has(Bug::SessionIgnored) {
            let (answer, position) = (self.store.read(&op), self.applied_position());
            self.reply(asked, Ok(answer), position, effects);
        } else if self.waiting.0.len() >= WAITING_MAX {
            let refusal = Refusal::Unavailable("too many reads wait for this replica".into());
            self.reply(asked, Err(refusal), self.applied_position(), effects);
        } else {
            let until = now + self.config.failover_timeout_ms * MILLISECOND;
            self.waiting.0.push_back(Waiting { asked, op, until });
        }
    }

    /// Answers the reads that this replica has caught up with.
    pub(super) fn serve_waiting(&mut self, effects: &mut Vec<Effect>) {
        if self.waiting.0.is_empty() {
            return;
        }
        let applied = self.applied;
        let (ready, rest) = std::mem::take(&mut self.waiting.0)
            .into_iter()
            .partition(|waiting| waiting.asked.seen <= applied);
        self.waiting.0 = rest;
        let ready: VecDeque<Waiting> = ready;
        for waiting in ready {
            let (answer, position) = (self.store.read(&waiting.op), self.applied_position());
            self.reply(waiting.asked, Ok(answer), position, effects);
        }
    }

    /// Refuses the reads that have waited too long.
    pub(super) fn give_up_waiting(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while self.waiting.deadline() <= now
            && let Some(waiting) = self.waiting.0.pop_front()
        {
            self.refuse_read(waiting.asked, effects);
        }
    }

    /// Refuses all reads that wait: this replica is about to become something else.
    pub(super) fn refuse_waiting(&mut self, effects: &mut Vec<Effect>) {
        for waiting in std::mem::take(&mut self.waiting.0) {
            self.refuse_read(waiting.asked, effects);
        }
    }

    fn refuse_read(&self, asked: Asked, effects: &mut Vec<Effect>) {
        let refusal =
            Refusal::Unavailable("this replica lacks what the session has already seen".into());
        self.reply(asked, Err(refusal), self.applied_position(), effects);
    }
}
