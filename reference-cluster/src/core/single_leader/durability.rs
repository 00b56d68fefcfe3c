//! Which part of the log is durable, under an fsync policy.

use std::collections::VecDeque;

use crate::core::config::Fsync;
use crate::core::{DiskOp, Effect, Record, Time};

/// Hands out sync tokens and learns from them. One sync is under way at a time, so that what is
/// appended meanwhile shares the next one (group commit).
#[derive(Debug)]
pub(crate) struct Durability {
    policy: Fsync,
    interval: Time,
    /// Whether what is merely written counts as durable all the same: a planted mistake,
    /// [`Bug::AcknowledgeBeforeFsync`](crate::core::config::Bug::AcknowledgeBeforeFsync).
    early: bool,
    /// Index up to which the log counts as durable.
    durable: u64,
    /// Index up to which the log was written.
    written: u64,
    tokens: u64,
    under_way: VecDeque<(u64, u64)>,
    /// When to sync next, with [`Fsync::Interval`], if anything was written since the last.
    due: Time,
}

impl Durability {
    pub fn new(policy: Fsync, interval: Time, early: bool) -> Self {
        Self {
            policy,
            interval,
            early,
            durable: 0,
            written: 0,
            tokens: 0,
            under_way: VecDeque::new(),
            due: Time::MAX,
        }
    }

    /// Index up to which the log counts as durable: synced, or merely written if the policy does
    /// not wait for syncs.
    pub fn durable(&self) -> u64 {
        if self.early {
            self.written
        } else {
            self.durable
        }
    }

    /// The log was written up to this index. Call [`Durability::flush`] after a batch of these.
    pub fn wrote(&mut self, index: u64, now: Time) {
        self.written = index;
        match self.policy {
            Fsync::Always => {}
            Fsync::Interval => {
                self.durable = index;
                self.due = self.due.min(now + self.interval);
            }
            Fsync::Never => self.durable = index,
        }
    }

    /// Asks for a sync if the policy wants one now and none is under way.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        if self.policy == Fsync::Always && self.written > self.durable && self.under_way.is_empty()
        {
            self.force(effects);
        }
    }

    /// Asks for a sync whatever the policy; returns its token.
    pub fn force(&mut self, effects: &mut Vec<Effect>) -> u64 {
        let token = self.token();
        effects.push(Effect::Disk(DiskOp::Sync(token)));
        token
    }

    /// The journal is replaced by these records, which hold the whole log.
    pub fn replace(&mut self, records: Vec<Record>, effects: &mut Vec<Effect>) {
        let token = self.token();
        effects.push(Effect::Disk(DiskOp::Replace(records, token)));
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.under_way.push_back((self.tokens, self.written));
        self.tokens
    }

    /// The log now ends after this index.
    pub fn truncated(&mut self, keep: u64) {
        self.written = self.written.min(keep);
        self.durable = self.durable.min(keep);
        for (_, index) in &mut self.under_way {
            *index = (*index).min(keep);
        }
    }

    /// The log now begins and ends with a state at this index, to be written by
    /// [`Durability::replace`].
    pub fn restarted(&mut self, index: u64) {
        self.under_way.iter_mut().for_each(|(_, upto)| *upto = 0);
        self.written = index;
        self.durable = if self.policy == Fsync::Always {
            0
        } else {
            index
        };
    }

    /// A sync is done.
    pub fn synced(&mut self, token: u64) {
        while let Some(&(oldest, index)) = self.under_way.front()
            && oldest <= token
        {
            self.under_way.pop_front();
            self.durable = self.durable.max(index);
        }
    }

    /// When [`Durability::tick`] has something to do.
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// Syncs if the interval has passed.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now >= self.due {
            self.due = Time::MAX;
            self.force(effects);
        }
    }
}
