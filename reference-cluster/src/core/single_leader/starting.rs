//! How a replica starts on what its journal holds.

use std::sync::Arc;

use super::durability::Durability;
use super::log::Log;
use super::pending::WaitingReads;
use super::replica::{Following, Part};
use super::{Leadership, Record, SingleLeader};
use crate::core::config::{Bug, Config, Failover};
use crate::core::store::Store;
use crate::core::timing::MILLISECOND;
use crate::core::{Effect, NodeId, Record as AnyRecord, Time, Trace};

/// The layout of the journal in a storage format. An odd format has that of the even one before it:
/// a node can go back from 3 to 2, though not from 2 to 1, nor from 4 to 3. (What is shipped as `wal`
/// differs in each format, so 2 and 3 differ only where both are in one cluster.)
fn journal_layout(format: u16) -> u16 {
    format / 2
}

impl SingleLeader {
    /// See [`crate::core::start`].
    pub fn start(
        config: &Config,
        id: NodeId,
        nodes: &[NodeId],
        seed: u64,
        now: Time,
        recovered: Vec<AnyRecord>,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let interval = config.fsync_interval_ms * MILLISECOND;
        let mut replica = Self {
            id,
            peers: nodes.iter().copied().filter(|node| *node != id).collect(),
            config: config.clone(),
            seed,
            draws: 0,
            step: 0,
            log: Log::default(),
            store: Store::default(),
            applied: 0,
            durability: Durability::new(
                config.fsync,
                interval,
                config.has(Bug::AcknowledgeBeforeFsync),
            ),
            leadership: Leadership::default(),
            led: 0,
            handed: 0,
            part: Part::Follower(Following {
                heard: None,
                suspect_at: Time::MAX,
                verified: 0,
                owed: None,
            }),
            discarded: 0,
            waiting: WaitingReads::default(),
            probes: Vec::new(),
            stopped: None,
            halted: false,
        };
        if replica.cannot_read(&recovered, effects) {
            return replica;
        }
        replica.recover(recovered);
        let last = replica.log.last();
        replica.leadership = Leadership::of(last);
        replica.store = replica.log.rebuild();
        replica.applied = last.index;
        // What a crash of the process left may still be lost with the power.
        replica.durability.wrote(last.index, now);
        replica.durability.flush(effects);
        replica.begin(now, nodes, effects);
        replica
    }

    /// Whether the journal is in a newer storage format than this node knows: then it halts. Takes
    /// note in the journal if it is in an older one, which every version can read.
    fn cannot_read(&mut self, records: &[AnyRecord], effects: &mut Vec<Effect>) -> bool {
        let version = |record: &AnyRecord| match record {
            AnyRecord::SingleLeader(Record::Version(version)) => Some(*version),
            _ => None,
        };
        let found = records.iter().filter_map(version).max();
        let own = self.config.storage_version;
        let unreadable = |found: &u16| journal_layout(*found) > journal_layout(own);
        if let Some(found) = found.filter(unreadable) {
            let why: Arc<str> = format!(
                "the journal is in storage format {found}, this node reads up to {own}: upgrade \
                 it, or start it on an empty journal"
            )
            .into();
            self.stopped = Some(why.clone());
            self.halted = true;
            effects.push(Effect::Trace(Trace::Stopped(why)));
        } else if found != Some(own) {
            Self::write_record(Record::Version(own), effects);
        }
        self.halted
    }

    /// What a replica does that has just started: who begins to lead, who waits for whom.
    fn begin(&mut self, now: Time, nodes: &[NodeId], effects: &mut Vec<Effect>) {
        let full = nodes.iter().filter(|node| self.scope_of(**node).is_none());
        let first = full.min() == Some(&self.id);
        let fresh = self.log.last().index == 0;
        match self.config.failover {
            Failover::Manual => {
                let own = self.leadership.leader == self.id.0;
                let led_last = own && self.handed < self.leadership.epoch;
                if (first && fresh) || led_last {
                    let highest = self.leadership.epoch.max(self.led);
                    self.rise(now, highest, effects);
                } else {
                    self.trace_role(effects);
                }
            }
            Failover::Automatic if first && fresh => {
                if let Part::Follower(following) = &mut self.part {
                    following.suspect_at = now;
                }
                self.trace_role(effects);
            }
            Failover::Automatic => {
                let wait = self.draw_timeout();
                self.suspect_at(now + wait);
                self.trace_role(effects);
            }
        }
    }

    fn recover(&mut self, records: Vec<AnyRecord>) {
        for record in records {
            let AnyRecord::SingleLeader(record) = record else {
                continue;
            };
            match record {
                Record::Entry(entry) => {
                    let index = entry.position.index;
                    if entry.op.is_none() && entry.position.leader == self.id.0 {
                        self.led = self.led.max(entry.position.epoch);
                    }
                    if index <= self.log.last().index && index > self.log.base().index {
                        self.log.truncate(index - 1);
                    }
                    if index == self.log.last().index + 1 {
                        self.log.push(entry);
                    }
                }
                Record::Truncate(keep) => {
                    self.log.truncate(keep);
                }
                Record::Snapshot(snapshot) => {
                    self.log.install(&snapshot);
                }
                Record::Led(epoch) => self.led = self.led.max(epoch),
                Record::Handed(epoch) => self.handed = self.handed.max(epoch),
                Record::Version(_) => {}
            }
        }
    }
}
