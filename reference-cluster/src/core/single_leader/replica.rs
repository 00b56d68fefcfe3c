//! One replica: its state, and which part of it handles which event.

use std::sync::Arc;

use super::durability::Durability;
use super::failover::Inquiry;
use super::leading::Leading;
use super::log::Log;
use super::pending::WaitingReads;
use super::{Entry, Leadership, Message, Record};
use crate::core::config::{Config, Detection, Failover, Fsync};
use crate::core::gateway::{Message as FromAuxiliary, Probe};
use crate::core::store::Store;
use crate::core::timing::{MILLISECOND, mix};
use crate::core::{
    DiskOp, Effect, Event, Message as AnyMessage, NodeId, Op, Position, Record as AnyRecord,
    Replica, Role, Status, Time, Trace,
};

/// A replica in single-leader mode; see the [module](super).
#[derive(Debug)]
pub struct SingleLeader {
    pub(super) id: NodeId,
    pub(super) peers: Vec<NodeId>,
    pub(super) config: Config,
    pub(super) seed: u64,
    /// How many numbers were drawn from the seed.
    pub(super) draws: u64,
    /// How far the wall clock was set forward, nanoseconds.
    pub(super) step: i64,
    pub(super) log: Log,
    pub(super) store: Store,
    /// Index of the newest entry applied. The last of the log, but for a leader that waits.
    pub(super) applied: u64,
    pub(super) durability: Durability,
    /// The highest leadership that this node has followed or been.
    pub(super) leadership: Leadership,
    /// The highest epoch that this node has led or begun to.
    pub(super) led: u64,
    /// The highest epoch whose leadership this node has handed over.
    pub(super) handed: u64,
    pub(super) part: Part,
    pub(super) discarded: u64,
    pub(super) waiting: WaitingReads,
    /// The monitor's probes that wait for the disk, with the sync that they wait for.
    pub(super) probes: Vec<(u64, NodeId, Probe)>,
    /// Why this replica does not replicate, if so.
    pub(super) stopped: Option<Arc<str>>,
    /// Whether it cannot even read its own journal: then it does nothing at all.
    pub(super) halted: bool,
}

/// What the replica is at the moment.
#[derive(Debug)]
pub(super) enum Part {
    Follower(Following),
    /// Asks around before a failover.
    Inquiring(Inquiry),
    /// Waits until its own leadership is durable: the sync token.
    Rising(u64),
    Leader(Leading),
}

/// What a follower keeps in mind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    /// When the leader was last heard, if ever.
    pub heard: Option<Time>,
    /// When the leader is suspected.
    pub suspect_at: Time,
    /// Index up to which the log is known to be the leader's.
    pub verified: u64,
    /// An answer that waits for the disk: to whom, and the number to repeat.
    pub owed: Option<(NodeId, u64)>,
}

impl SingleLeader {
    pub(super) fn role(&self) -> Role {
        match self.part {
            Part::Follower(_) => Role::Follower,
            Part::Inquiring(_) | Part::Rising(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    pub(super) fn trace_role(&self, effects: &mut Vec<Effect>) {
        let (role, epoch) = (self.role(), self.leadership.epoch);
        effects.push(Effect::Trace(Trace::Role { role, epoch }));
    }

    pub(super) fn send(to: NodeId, message: Message, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(to, AnyMessage::SingleLeader(message)));
    }

    pub(super) fn write_record(record: Record, effects: &mut Vec<Effect>) {
        effects.push(Effect::Disk(DiskOp::Append(AnyRecord::SingleLeader(
            record,
        ))));
    }

    /// Appends an entry to the log and to the journal.
    pub(super) fn push(&mut self, now: Time, entry: Arc<Entry>, effects: &mut Vec<Effect>) {
        self.durability.wrote(entry.position.index, now);
        Self::write_record(Record::Entry(Arc::clone(&entry)), effects);
        self.log.push(entry);
    }

    /// Throws away what follows an index, and the state it led to.
    pub(super) fn discard(&mut self, keep: u64, effects: &mut Vec<Effect>) {
        let thrown = self.log.truncate(keep);
        self.durability.truncated(keep);
        Self::write_record(Record::Truncate(keep), effects);
        self.store = self.log.rebuild();
        self.applied = self.log.last().index;
        self.report_discarded(thrown, effects);
    }

    pub(super) fn report_discarded(&mut self, thrown: Vec<Arc<Entry>>, effects: &mut Vec<Effect>) {
        let Some(first) = thrown.first() else { return };
        self.discarded += thrown.len() as u64;
        let keep = self
            .log
            .position(first.position.index - 1)
            .unwrap_or(self.log.last());
        effects.push(Effect::Trace(Trace::Discarded {
            keep,
            entries: thrown
                .into_iter()
                .map(|entry| (entry.position, entry.op.clone()))
                .collect(),
        }));
    }

    /// Truncates the log behind a snapshot if it has grown long.
    pub(super) fn compact(&mut self, effects: &mut Vec<Effect>) {
        let keep = self.config.log_keep;
        if self.log.len() < 2 * keep {
            return;
        }
        let base = (self.log.last().index - keep).min(self.applied);
        if base > self.log.base().index {
            self.log.compact(base);
            self.rewrite_journal(effects);
        }
    }

    /// Truncates the log behind a snapshot of all that is applied.
    pub(super) fn snapshot(&mut self, effects: &mut Vec<Effect>) {
        self.log.compact(self.applied);
        self.rewrite_journal(effects);
    }

    /// Replaces the journal by one that holds the log as it is now.
    pub(super) fn rewrite_journal(&mut self, effects: &mut Vec<Effect>) {
        let head = [
            Record::Version(self.config.storage_version),
            Record::Led(self.led),
            Record::Handed(self.handed),
            Record::Snapshot(self.log.snapshot().into()),
        ];
        let tail = self.log.entries().cloned().map(Record::Entry);
        let records = head
            .into_iter()
            .chain(tail)
            .map(AnyRecord::SingleLeader)
            .collect();
        self.durability.replace(records, effects);
    }

    /// A timeout for this node: between one and one and a half times the configured one.
    pub(super) fn draw_timeout(&mut self) -> Time {
        self.draws += 1;
        let least = self.config.failover_timeout_ms * MILLISECOND;
        least + mix(self.seed, u64::from(self.id.0), self.draws) % (least / 2)
    }

    pub(super) fn suspect_at(&mut self, time: Time) {
        if let Part::Follower(following) = &mut self.part {
            let suspects = self.config.failover == Failover::Automatic
                && self.config.detection == Detection::Heartbeat
                && !self.config.partial.contains_key(&self.id.0);
            following.suspect_at = if suspects { time } else { Time::MAX };
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Append {
                leadership,
                seq,
                prev,
                entries,
                version,
            } => {
                if self.accept(now, from, leadership, effects) {
                    if self.can_read(version, effects) {
                        self.on_append(now, from, seq, prev, &entries, effects);
                    } else {
                        self.refuse_stream(from, effects);
                    }
                }
            }
            Message::Install {
                leadership,
                seq,
                snapshot,
                version,
            } => {
                if self.accept(now, from, leadership, effects) {
                    if self.can_read(version, effects) {
                        self.on_install(from, seq, &snapshot, effects);
                    } else {
                        self.refuse_stream(from, effects);
                    }
                }
            }
            Message::Unreadable { leadership } => {
                if leadership == self.leadership {
                    self.on_unreadable(now, from);
                }
            }
            Message::TakeOver { leadership, last } => {
                self.on_take_over(now, leadership, last, effects);
            }
            Message::Matched {
                leadership,
                seq,
                matched,
            } => {
                if leadership == self.leadership {
                    self.on_matched(now, from, seq, matched, effects);
                }
            }
            Message::Mismatched {
                leadership,
                seq,
                hint,
                base,
            } => {
                if leadership == self.leadership {
                    self.on_mismatched(now, from, seq, hint, base, effects);
                }
            }
            Message::Superseded(leadership) => {
                if leadership > self.leadership {
                    self.follow(now, leadership, None, effects);
                }
            }
            Message::Inquire { number } => self.on_inquire(now, from, number, effects),
            Message::Standing {
                number,
                leadership,
                last,
                leads,
                hears,
            } => {
                let standing = super::failover::Standing {
                    leadership,
                    last,
                    leads,
                    hears,
                };
                self.on_standing(now, from, number, standing, effects);
            }
            Message::Promote { epoch } => self.on_promote(now, epoch, effects),
        }
    }

    /// From the monitor: whether this node leads and could acknowledge a write, answered once its
    /// disk has made everything so far durable. Whether followers could acknowledge one is not
    /// asked: another leader would not cure that.
    fn on_probe(&mut self, now: Time, from: NodeId, probe: Probe, effects: &mut Vec<Effect>) {
        let Part::Leader(leading) = &self.part else {
            return;
        };
        if self.fenced(leading, now) {
            return;
        }
        if self.config.fsync == Fsync::Always {
            let token = self.durability.force(effects);
            self.probes.retain(|(_, asker, _)| *asker != from);
            self.probes.push((token, from, probe));
        } else {
            Self::answer_probe(from, probe, effects);
        }
    }

    fn answer_probe(to: NodeId, probe: Probe, effects: &mut Vec<Effect>) {
        let answer = AnyMessage::Gateway(FromAuxiliary::Probed(probe));
        effects.push(Effect::Send(to, answer));
    }

    fn on_synced(&mut self, now: Time, token: u64, effects: &mut Vec<Effect>) {
        self.durability.synced(token);
        let probes = std::mem::take(&mut self.probes);
        for (awaited, from, probe) in probes {
            if awaited > token {
                self.probes.push((awaited, from, probe));
            } else if matches!(self.part, Part::Leader(_)) {
                Self::answer_probe(from, probe, effects);
            }
        }
        match &self.part {
            Part::Rising(awaited) if *awaited <= token => self.lead(now, effects),
            Part::Leader(_) => self.advance(now, effects),
            Part::Follower(_) => self.pay_answer(effects),
            Part::Rising(_) | Part::Inquiring(_) => {}
        }
    }

    fn on_wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.durability.tick(now, effects);
        self.give_up_waiting(now, effects);
        self.fall_back(now, effects);
        self.end_handover(now, effects);
        match &self.part {
            Part::Follower(following) if now >= following.suspect_at => self.inquire(now, effects),
            Part::Inquiring(inquiry) if now >= inquiry.until => self.conclude(now, effects),
            Part::Leader(leading) if now >= leading.beat_at => self.beat(now, effects),
            _ => {}
        }
    }
}

impl Replica for SingleLeader {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            _ if self.halted => {}
            Event::Message(from, AnyMessage::SingleLeader(message)) => {
                self.on_message(now, from, message, effects);
            }
            Event::Message(from, AnyMessage::Gateway(FromAuxiliary::Probe(probe))) => {
                self.on_probe(now, from, probe, effects);
            }
            Event::Message(_, AnyMessage::Gateway(FromAuxiliary::Promote { epoch })) => {
                self.on_ordered(now, epoch, effects);
            }
            Event::Message(..) => {}
            Event::Synced(token) => self.on_synced(now, token, effects),
            Event::Stepped(step) => self.step = step,
            Event::Wake => self.on_wake(now, effects),
        }
        if !self.halted {
            self.durability.flush(effects);
        }
    }

    fn deadline(&self) -> Time {
        if self.halted {
            return Time::MAX;
        }
        let own = match &self.part {
            Part::Follower(following) => following.suspect_at,
            Part::Inquiring(inquiry) => inquiry.until,
            Part::Rising(_) => Time::MAX,
            Part::Leader(leading) => leading.beat_at.min(self.fallback_at(leading)).min(
                leading
                    .handover
                    .map_or(Time::MAX, |handover| handover.until),
            ),
        };
        let own = own.min(self.waiting.deadline());
        match self.config.fsync {
            Fsync::Interval => own.min(self.durability.deadline()),
            Fsync::Always | Fsync::Never => own,
        }
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: self.role(),
            epoch: self.leadership.epoch,
            leader: self.believed_leader(),
            last: self.log.last(),
            applied: self.applied,
            discarded: self.discarded,
            pending: 0,
            storage_version: self.config.storage_version,
            stopped: self.stopped.clone(),
            standbys: self.standbys(),
        }
    }

    fn digest(&self) -> u64 {
        self.store.digest()
    }

    fn log(&self, first: u64) -> Vec<Position> {
        (first.max(1)..=self.log.last().index)
            .filter_map(|i| self.log.position(i))
            .collect()
    }

    fn holds(&self, key: &Arc<str>) -> Option<crate::core::Datum> {
        match self.store.read(&Op::Read(key.clone())) {
            crate::core::Answer::Value(datum) => datum,
            _ => None,
        }
    }
}

/// An operation of the log as an entry; see [`SingleLeader::push`].
pub(super) fn entry(position: Position, op: Option<Op>) -> Arc<Entry> {
    Arc::new(Entry { position, op })
}
