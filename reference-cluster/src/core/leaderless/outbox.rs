//! What may be said only once it is durable.

use std::collections::VecDeque;

use super::{Message, Record};
use crate::core::config::{Config, Fsync};
use crate::core::timing::MILLISECOND;
use crate::core::{DiskOp, Effect, NodeId, Record as AnyRecord, Reply, RequestId, Time};

/// What may wait for the disk; beyond that messages are lost, as if the network had lost them.
const WAITING_MAX: usize = 100_000;

/// Something to say.
#[derive(Debug)]
pub(super) enum Saying {
    /// To a node, possibly this one.
    Message(NodeId, Message),
    /// To a client.
    Reply(RequestId, Reply),
}

/// Writes the journal and holds back, with `fsync: always`, what tells of records that are not
/// durable yet: so no dot and no value that others have heard of is ever forgotten by a crash.
///
/// One sync is under way at a time, so that what is written meanwhile shares the next one (group
/// commit).
#[derive(Debug)]
pub(super) struct Outbox {
    policy: Fsync,
    interval: Time,
    /// How many records were written, and how many of them are durable.
    written: u64,
    durable: u64,
    tokens: u64,
    /// Tokens of the syncs under way, with the count of records that each makes durable.
    syncing: VecDeque<(u64, u64)>,
    /// When to sync next, with [`Fsync::Interval`], if anything was written since the last.
    due: Time,
    /// In order, each with the count of records that it has to wait for.
    waiting: VecDeque<(u64, Saying)>,
}

impl Outbox {
    pub fn new(config: &Config) -> Self {
        Self {
            policy: config.fsync,
            interval: config.fsync_interval_ms * MILLISECOND,
            written: 0,
            durable: 0,
            tokens: 0,
            syncing: VecDeque::new(),
            due: Time::MAX,
            waiting: VecDeque::new(),
        }
    }

    pub fn write(&mut self, now: Time, record: Record, effects: &mut Vec<Effect>) {
        effects.push(Effect::Disk(DiskOp::Append(AnyRecord::Leaderless(
            Box::new(record),
        ))));
        self.wrote(now);
    }

    /// A record is in the journal, whose durability is not known.
    pub fn wrote(&mut self, now: Time) {
        self.written += 1;
        if self.policy == Fsync::Interval {
            self.due = self.due.min(now + self.interval);
        }
    }

    /// Replaces the journal.
    pub fn replace(&mut self, records: Vec<Record>, effects: &mut Vec<Effect>) {
        let records = records
            .into_iter()
            .map(|record| AnyRecord::Leaderless(Box::new(record)))
            .collect();
        let token = self.token();
        effects.push(Effect::Disk(DiskOp::Replace(records, token)));
    }

    /// Says something as soon as all that was written so far is durable enough.
    pub fn say(&mut self, saying: Saying) {
        if self.waiting.len() >= WAITING_MAX && matches!(saying, Saying::Message(..)) {
            return;
        }
        let wait_for = match self.policy {
            Fsync::Always => self.written,
            Fsync::Interval | Fsync::Never => 0,
        };
        self.waiting.push_back((wait_for, saying));
    }

    /// What may be said now, oldest first.
    pub fn next(&mut self) -> Option<Saying> {
        self.waiting
            .pop_front_if(|(wait_for, _)| *wait_for <= self.durable)
            .map(|(_, saying)| saying)
    }

    /// Asks for a sync if the policy wants one now and none is under way.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        if self.policy == Fsync::Always && self.written > self.durable && self.syncing.is_empty() {
            self.sync(effects);
        }
    }

    fn sync(&mut self, effects: &mut Vec<Effect>) {
        let token = self.token();
        effects.push(Effect::Disk(DiskOp::Sync(token)));
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.syncing.push_back((self.tokens, self.written));
        self.tokens
    }

    /// A sync is done.
    pub fn synced(&mut self, token: u64) {
        while let Some((_, count)) = self.syncing.pop_front_if(|(oldest, _)| *oldest <= token) {
            self.durable = self.durable.max(count);
        }
    }

    /// When [`Outbox::tick`] has something to do.
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// Syncs if the interval has passed.
    pub fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now >= self.due {
            self.due = Time::MAX;
            self.sync(effects);
        }
    }
}
