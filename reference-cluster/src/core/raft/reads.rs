//! Linearizable reads that wait for a confirmation of leadership.

use std::collections::VecDeque;

use crate::core::{Op, RequestId};

/// Reads at a leader, in three stages. One round of confirmation is under way at a time; what
/// comes meanwhile shares the next.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<(RequestId, Op)>,
    /// Wait for the round of this number.
    confirming: Option<(u64, Vec<(RequestId, Op)>)>,
    /// Confirmed, but the state has not reached this index yet.
    confirmed: VecDeque<(u64, Vec<(RequestId, Op)>)>,
    rounds: u64,
}

impl Reads {
    pub fn add(&mut self, id: RequestId, op: Op) {
        self.waiting.push((id, op));
    }

    /// Starts a round if one is wanted and none is under way; returns its number.
    pub fn begin(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        self.begin_anyway()
    }

    /// Starts a round that no read waits for, if none is under way; returns its number.
    pub fn begin_anyway(&mut self) -> Option<u64> {
        if self.confirming.is_some() {
            return None;
        }
        self.rounds += 1;
        self.confirming = Some((self.rounds, std::mem::take(&mut self.waiting)));
        Some(self.rounds)
    }

    /// A read that needs no confirmation, from any state that includes this index.
    pub fn add_confirmed(&mut self, id: RequestId, op: Op, index: u64) {
        self.confirmed.push_back((index, vec![(id, op)]));
    }

    /// The round is confirmed: its reads may be answered from any state that includes this index.
    pub fn confirm(&mut self, round: u64, index: u64) {
        if let Some((_, reads)) = self.confirming.take_if(|(number, _)| *number == round) {
            self.confirmed.push_back((index, reads));
        }
    }

    /// The next reads that can be answered from the state at this index.
    pub fn ready(&mut self, applied: u64) -> Option<Vec<(RequestId, Op)>> {
        let (index, _) = self.confirmed.front()?;
        (*index <= applied)
            .then(|| self.confirmed.pop_front())
            .flatten()
            .map(|(_, reads)| reads)
    }

    /// Gives up all that are not answered.
    pub fn drain(&mut self) -> Vec<RequestId> {
        let confirmed = std::mem::take(&mut self.confirmed)
            .into_iter()
            .map(|(_, reads)| reads);
        let confirming = self.confirming.take().map(|(_, reads)| reads);
        let waiting = std::mem::take(&mut self.waiting);
        let reads = confirmed.chain(confirming).chain([waiting]).flatten();
        reads.map(|(id, _)| id).collect()
    }
}
