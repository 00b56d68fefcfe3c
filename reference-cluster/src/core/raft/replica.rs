//! One replica around the engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message as Wire, MessageType};
use raft::{RawNode, SnapshotStatus, StateRole};

use super::lease::Lease;
use super::members::change;
use super::reads::Reads;
use super::storage::{Log, operation, record};
use super::{Message, Record, Wire as Carried};
use crate::core::config::{Bug, Config, Fsync, Reads as ReadPolicy};
use crate::core::generate::{Source, evaluate};
use crate::core::store::Store;
use crate::core::timing::{MILLISECOND, mix, wall};
use crate::core::{
    Admin, Answer, DiskOp, Effect, Event, Message as AnyMessage, NodeId, Op, Position,
    Record as AnyRecord, Refusal, Replica, Reply, Request, RequestId, Role, StateDigest, Status,
    Time, Trace,
};

/// The engine's ticks in one heartbeat interval.
const TICKS_A_HEARTBEAT: u64 = 2;
/// About how many bytes of entries go in one message. Every heartbeat that a follower who lags
/// answers, so every round of reads, has the engine send it one such message again.
const MESSAGE_BYTES_MAX: u64 = 1 << 14;

/// A replica in Raft mode; see the [module](super).
pub struct Raft {
    pub(super) id: NodeId,
    /// All nodes, members or not.
    pub(super) nodes: Vec<NodeId>,
    pub(super) config: Config,
    seed: u64,
    pub(super) engine: RawNode<Log>,
    pub(super) store: Store,
    pub(super) applied: u64,
    tick: Time,
    tick_at: Time,
    /// How many ticks there were since the process started.
    ticks: u64,
    election_ticks: u64,
    /// Whether the process had a life before this one.
    returned: bool,
    /// The election timeout of a term, in ticks.
    pinned: (u64, usize),
    /// What the engine handed out to be made durable, oldest first.
    pub(super) unsynced: VecDeque<Unsynced>,
    tokens: u64,
    /// The sync under way, and the newest of `unsynced` that it covers.
    pub(super) syncing: Option<(u64, u64)>,
    /// When to sync next, with `fsync: interval`.
    sync_at: Time,
    /// Writes proposed in `led` and not yet applied, by index.
    writes: VecDeque<(u64, RequestId)>,
    reads: Reads,
    pub(super) lease: Lease,
    /// How often something was generated.
    draws: u64,
    /// How far the wall clock was set forward, nanoseconds.
    step: i64,
    /// Whether this node has left the cluster, as far as it was told.
    pub(super) expelled: bool,
    /// The index of the newest change of members applied.
    pub(super) members_at: u64,
    /// Where the log should begin, for the sake of a newcomer.
    pub(super) base_wanted: u64,
    /// The term in which this node leads, as far as clients were told.
    led: Option<u64>,
    traced: (Role, u64),
    /// Ticks since a snapshot was sent, by peer.
    snapshots: BTreeMap<u64, u64>,
    discarded: u64,
    halted: bool,
}

/// The engine on a log.
pub(super) fn engine(id: NodeId, config: &Config, election_ticks: u64, log: Log) -> RawNode<Log> {
    let settings = raft::Config {
        id: id.0.into(),
        election_tick: election_ticks as usize,
        heartbeat_tick: TICKS_A_HEARTBEAT as usize,
        applied: log.base(),
        max_size_per_msg: MESSAGE_BYTES_MAX,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: config.pre_vote,
        // Followers learn of a commit with the next entry or heartbeat. Telling them at once
        // would double the messages, and nothing that is promised depends on it.
        skip_bcast_commit: true,
        ..raft::Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&settings, log, &logger).expect("the settings are sound")
}

/// Messages that may be sent once a batch of the engine's is durable.
pub(super) struct Unsynced {
    number: u64,
    messages: Vec<Wire>,
}

impl Raft {
    /// See [`crate::core::start`].
    ///
    /// # Panics
    /// If `nodes` does not contain `id`, or a node is numbered 0.
    pub fn start(
        config: &Config,
        id: NodeId,
        nodes: &[NodeId],
        seed: u64,
        now: Time,
        recovered: Vec<AnyRecord>,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let members = config.initial_members.map_or(nodes.len(), usize::from);
        let members = &nodes[..members.min(nodes.len())];
        let mut log = Log::new(members.iter().map(|node| u64::from(node.0)));
        for record in recovered {
            if let AnyRecord::Raft(record) = record {
                log.recover(*record);
            }
        }
        let fresh = log.last() == 0 && log.hard.term == 0;
        log.spoil(config);
        let tick = config.heartbeat_ms * MILLISECOND / TICKS_A_HEARTBEAT;
        let election_ticks = (config.failover_timeout_ms * MILLISECOND).div_ceil(tick);
        let (store, applied) = (log.base_store().clone(), log.base());
        let engine = engine(id, config, election_ticks, log);
        let phase = mix(seed, id.0.into(), u64::MAX) % tick;
        let mut replica = Self {
            id,
            nodes: nodes.to_vec(),
            ticks: 0,
            returned: !fresh,
            lease: Lease::default(),
            draws: 0,
            step: 0,
            expelled: false,
            members_at: applied,
            base_wanted: 0,
            config: config.clone(),
            seed,
            engine,
            store,
            applied,
            tick,
            tick_at: now + tick / 2 + phase / 2,
            election_ticks,
            pinned: (u64::MAX, 0),
            unsynced: VecDeque::new(),
            tokens: 0,
            syncing: None,
            sync_at: Time::MAX,
            writes: VecDeque::new(),
            reads: Reads::default(),
            led: None,
            traced: (Role::Candidate, 0),
            snapshots: BTreeMap::new(),
            discarded: 0,
            halted: false,
        };
        replica.pin();
        if config.fsync == Fsync::Always && !fresh {
            // What a crash of the process left may still be lost with the power. The engine
            // takes it for durable, so it must be before anything is sent.
            replica.hold(0, Vec::new());
        }
        // The first node of a new cluster need not wait for a timeout.
        if fresh && members.iter().min() == Some(&id) {
            let _ = replica.engine.campaign();
            replica.pin();
        }
        replica.process(now, effects);
        replica
    }

    /// Overwrites what the engine drew from the thread's random generator: see the module.
    pub(super) fn pin(&mut self) {
        let term = self.engine.raft.term;
        if self.pinned.0 != term {
            let extra = mix(self.seed, self.id.0.into(), term) % self.election_ticks;
            self.pinned = (term, (self.election_ticks + extra) as usize);
        }
        self.engine
            .raft
            .set_randomized_election_timeout(self.pinned.1);
    }

    pub(super) fn election_ticks(&self) -> u64 {
        self.election_ticks
    }

    fn role(&self) -> Role {
        match self.engine.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.engine.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<NodeId> {
        match self.engine.raft.leader_id {
            _ if self.expelled => None,
            0 => None,
            id => Some(NodeId(id as u16)),
        }
    }

    pub(super) fn reply(
        &self,
        id: RequestId,
        result: Result<Answer, Refusal>,
        position: Position,
        effects: &mut Vec<Effect>,
    ) {
        let (role, epoch) = (self.role(), self.engine.raft.term);
        effects.push(Effect::Reply(
            id,
            Reply {
                result,
                node: self.id,
                role,
                epoch,
                position,
                session: None,
                context: None,
            },
        ));
    }

    fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let here = self.engine.store().position(self.applied);
        let reads = request.op.is_read();
        let local = request.local || self.config.reads == ReadPolicy::Local;
        if request.op == Op::Digest && self.absent().is_none() {
            let digest = StateDigest {
                digest: self.store.digest(),
                scope: "".into(),
                stopped: self.stopped(),
            };
            self.reply(id, Ok(Answer::Digest(digest)), here, effects);
        } else if self.halted {
            let refusal = Refusal::Unavailable("the log contradicts the leader's: halted".into());
            self.reply(id, Err(refusal), here, effects);
        } else if (reads && local) || request.op == Op::Digest {
            let answer = match self.absent() {
                None => Ok(self.store.read(&request.op)),
                // It has no state of the cluster to compare with that of others.
                Some(why) if request.op == Op::Digest => Err(Refusal::Unsupported(why.into())),
                Some(why) => Err(Refusal::Unavailable(why.into())),
            };
            self.reply(id, answer, here, effects);
        } else if let Op::Admin(Admin::TakeHome(_)) = request.op {
            let refusal = Refusal::Unsupported("keys have no home in this mode".into());
            self.reply(id, Err(refusal), here, effects);
        } else if let Op::Admin(admin @ Admin::Snapshot) = &request.op {
            self.on_admin(id, admin, here, effects);
        } else if !self.leads() {
            let leader = self.leader().filter(|leader| *leader != self.id);
            self.reply(id, Err(Refusal::NotLeader { leader }), here, effects);
        } else if let Op::Admin(admin) = &request.op {
            self.on_admin(id, admin, here, effects);
        } else if reads && self.has_lease() {
            let index = self.engine.raft.raft_log.committed;
            self.reads.add_confirmed(id, request.op, index);
        } else if reads {
            self.reads.add(id, request.op);
        } else {
            self.draws += 1;
            let source = Source {
                node: self.id,
                seed: self.seed,
                now: wall(now, self.step),
                draw: self.draws,
            };
            let op = evaluate(request.op, &source, &mut self.store);
            self.propose(id, &op, here, effects);
        }
    }

    fn has_lease(&self) -> bool {
        self.config.reads == ReadPolicy::Lease && self.lease.holds(self.ticks)
    }

    fn propose(&mut self, id: RequestId, op: &Op, here: Position, effects: &mut Vec<Effect>) {
        let context = postcard::to_stdvec(&(self.id, id)).unwrap_or_default();
        let proposed = postcard::to_stdvec(op)
            .map_err(|_| ())
            .and_then(|data| self.engine.propose(context, data).map_err(|_| ()));
        if proposed.is_err() {
            let refusal = Refusal::Unavailable("the leader takes no more writes for now".into());
            return self.reply(id, Err(refusal), here, effects);
        }
        self.proposed(id);
    }

    /// The newest entry of the log is a write of this node's.
    pub(super) fn proposed(&mut self, id: RequestId) {
        self.led = Some(self.engine.raft.term);
        let index = self.engine.raft.raft_log.last_index();
        self.writes.push_back((index, id));
    }

    fn on_message(&mut self, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        let mut message = match message {
            Message::Engine(Carried(message)) => message,
            Message::NotAMember { since } => return self.on_absent(since, effects),
        };
        if message.from != u64::from(from.0) || message.to != u64::from(self.id.0) {
            return;
        }
        if let Some(index) = self.contradiction(&message) {
            if !self.goes_on() {
                self.halted = true;
                return;
            }
            self.start_over(index, effects);
        }
        let of_leader = matches!(
            message.msg_type,
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        if of_leader && message.term >= self.engine.raft.term {
            self.expelled = false;
        }
        if self.promised(&message) {
            return;
        }
        self.tell_absent(from, &message, effects);
        self.notice_loss(&message);
        if message.msg_type == MessageType::MsgHeartbeat {
            // A leader thinks that this node has what it lost with the power.
            message.commit = message.commit.min(self.engine.raft.raft_log.last_index());
        }
        // Errors tell of messages that are not for this group: as good as lost.
        let _ = self.engine.step(*message);
    }

    fn on_wake(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if now >= self.sync_at {
            self.sync_at = Time::MAX;
            self.tokens += 1;
            effects.push(Effect::Disk(DiskOp::Sync(self.tokens)));
        }
        if now >= self.tick_at {
            // After a pause one tick does for all that were missed.
            self.tick_at = (self.tick_at + self.tick).max(now + self.tick / 2);
            self.ticks += 1;
            if !self.expelled {
                self.engine.tick();
            }
            if self.config.reads == ReadPolicy::Lease
                && self.ticks.is_multiple_of(TICKS_A_HEARTBEAT)
                && self.leads()
                && self.engine.raft.commit_to_current_term()
            {
                let round = self.reads.begin_anyway();
                self.ask_to_confirm(round);
            }
            let overdue = self.election_ticks;
            let mut failed = Vec::new();
            for (peer, age) in &mut self.snapshots {
                *age += 1;
                if *age > overdue {
                    failed.push(*peer);
                }
            }
            for peer in failed {
                self.snapshots.remove(&peer);
                self.engine.report_snapshot(peer, SnapshotStatus::Failure);
            }
        }
    }

    fn on_synced(&mut self, token: u64, effects: &mut Vec<Effect>) {
        let Some((_, upto)) = self.syncing.take_if(|(awaited, _)| *awaited <= token) else {
            return;
        };
        while self
            .unsynced
            .front()
            .is_some_and(|batch| batch.number <= upto)
            && let Some(batch) = self.unsynced.pop_front()
        {
            self.release(batch, effects);
        }
    }

    /// Keeps messages back until all that was handed out so far is durable.
    fn hold(&mut self, number: u64, messages: Vec<Wire>) {
        self.unsynced.push_back(Unsynced { number, messages });
    }

    fn release(&mut self, batch: Unsynced, effects: &mut Vec<Effect>) {
        if batch.number > 0 {
            self.engine.on_persist_ready(batch.number);
            self.note_applied();
        }
        for message in batch.messages {
            self.send(message, effects);
        }
    }

    fn send(&mut self, message: Wire, effects: &mut Vec<Effect>) {
        if message.msg_type == MessageType::MsgSnapshot {
            self.snapshots.insert(message.to, 0);
        }
        let to = NodeId(message.to as u16);
        effects.push(Effect::Send(
            to,
            AnyMessage::Raft(Message::Engine(Carried(Box::new(message)))),
        ));
    }

    fn write(record: Record, effects: &mut Vec<Effect>) {
        let record = AnyRecord::Raft(Box::new(record));
        effects.push(Effect::Disk(DiskOp::Append(record)));
    }

    /// Carries out what the engine wants done until it wants nothing.
    fn process(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.settle_reads(effects);
        while !self.halted && self.engine.has_ready() {
            let mut ready = self.engine.ready();
            for message in ready.take_messages() {
                self.send(message, effects);
            }
            if !ready.snapshot().is_empty() && !self.install(ready.snapshot(), effects) {
                self.halted = true;
                break;
            }
            let wrote = ready.must_sync();
            for entry in ready.take_entries() {
                self.append(entry, effects);
            }
            if let Some(hard) = ready.hs() {
                let before = std::mem::replace(&mut self.engine.mut_store().hard, hard.clone());
                if (before.term, before.vote) != (hard.term, hard.vote) {
                    Self::write(
                        Record::Vote {
                            term: hard.term,
                            vote: hard.vote,
                        },
                        effects,
                    );
                }
            }
            for state in ready.take_read_states() {
                if let Ok(round) = <[u8; 8]>::try_from(&state.request_ctx[..]) {
                    let round = u64::from_be_bytes(round);
                    self.reads.confirm(round, state.index);
                    self.lease.confirmed(round, self.election_ticks);
                }
            }
            let messages = ready.take_persisted_messages();
            let committed = ready.take_committed_entries();
            let number = ready.number();
            self.engine.advance_append_async(ready);
            self.persist(now, number, wrote, messages, effects);
            for entry in committed {
                self.apply(&entry, effects);
            }
            self.note_applied();
            self.pin();
            self.settle_reads(effects);
        }
        self.pin();
        self.tell_changes(effects);
        self.compact(effects);
        self.request_sync(effects);
    }

    fn persist(
        &mut self,
        now: Time,
        number: u64,
        wrote: bool,
        messages: Vec<Wire>,
        effects: &mut Vec<Effect>,
    ) {
        if wrote && self.config.fsync == Fsync::Interval {
            self.sync_at = self
                .sync_at
                .min(now + self.config.fsync_interval_ms * MILLISECOND);
        }
        let waits = wrote && self.config.fsync == Fsync::Always;
        if self.config.has(Bug::AcknowledgeBeforeFsync) {
            self.release(Unsynced { number, messages }, effects);
            if waits {
                self.hold(0, Vec::new());
            }
        } else if waits || !self.unsynced.is_empty() {
            self.hold(number, messages);
        } else {
            self.release(Unsynced { number, messages }, effects);
        }
    }

    fn request_sync(&mut self, effects: &mut Vec<Effect>) {
        if self.syncing.is_none()
            && let Some(newest) = self.unsynced.back()
        {
            self.tokens += 1;
            self.syncing = Some((self.tokens, newest.number));
            effects.push(Effect::Disk(DiskOp::Sync(self.tokens)));
        }
    }

    fn append(&mut self, entry: Entry, effects: &mut Vec<Effect>) {
        let index = entry.index;
        let previous = self.engine.store().position(index - 1);
        let position = Position {
            epoch: entry.term,
            leader: 0,
            index,
        };
        if self.leads() && entry.term == self.engine.raft.term {
            let origin: Option<(NodeId, RequestId)> = postcard::from_bytes(&entry.context).ok();
            let request = origin.map(|(_, request)| request);
            effects.push(Effect::Trace(Trace::Created {
                position,
                previous,
                request,
            }));
        }
        Self::write(record(&entry), effects);
        let thrown = self.engine.mut_store().append(entry);
        self.report_discarded(previous, &thrown, effects);
    }

    pub(super) fn report_discarded(
        &mut self,
        keep: Position,
        thrown: &[Entry],
        effects: &mut Vec<Effect>,
    ) {
        if thrown.is_empty() {
            return;
        }
        self.discarded += thrown.len() as u64;
        let place = |e: &Entry| Position {
            epoch: e.term,
            leader: 0,
            index: e.index,
        };
        let entries = thrown
            .iter()
            .map(|entry| (place(entry), operation(entry)))
            .collect();
        effects.push(Effect::Trace(Trace::Discarded { keep, entries }));
    }

    fn install(&mut self, snapshot: &raft::eraftpb::Snapshot, effects: &mut Vec<Effect>) -> bool {
        let log = self.engine.mut_store();
        let Ok(thrown) = log.install(snapshot) else {
            return false;
        };
        self.store = log.base_store().clone();
        self.applied = log.base();
        self.members_at = self.applied;
        let position = log.position(self.applied);
        self.replace(effects);
        self.report_discarded(position, &thrown, effects);
        effects.push(Effect::Trace(Trace::SnapshotInstalled(position)));
        true
    }

    pub(super) fn replace(&mut self, effects: &mut Vec<Effect>) {
        let records = self
            .engine
            .store()
            .records()
            .into_iter()
            .map(|record| AnyRecord::Raft(Box::new(record)))
            .collect();
        self.tokens += 1;
        effects.push(Effect::Disk(DiskOp::Replace(records, self.tokens)));
    }

    /// How far the log may be dropped: the engine still looks at what it does not know to be
    /// applied.
    fn droppable(&self) -> u64 {
        self.applied.min(self.engine.raft.raft_log.applied)
    }

    /// Drops the log as far as it may be dropped, and writes the journal anew.
    pub(super) fn snapshot(&mut self, effects: &mut Vec<Effect>) {
        let base = self.droppable();
        if base > self.engine.store().base() {
            self.engine.mut_store().compact(base);
        }
        self.replace(effects);
    }

    fn compact(&mut self, effects: &mut Vec<Effect>) {
        let keep = self.config.log_keep;
        let applied = self.droppable();
        let mut base = 0;
        if self.engine.store().len() >= 2 * keep {
            base = applied.saturating_sub(keep);
        }
        if self.base_wanted <= applied {
            base = base.max(std::mem::take(&mut self.base_wanted));
        }
        if base > self.engine.store().base() {
            self.engine.mut_store().compact(base);
            self.replace(effects);
        }
    }

    fn apply(&mut self, entry: &Entry, effects: &mut Vec<Effect>) {
        let change = change(entry);
        let result = match operation(entry) {
            Some(op) => self.store.apply(&op),
            None => Ok(Answer::Done),
        };
        self.applied = entry.index;
        if let Some(change) = &change {
            self.change_members(entry.index, change);
        }
        if self.led == Some(entry.term)
            && self
                .writes
                .front()
                .is_some_and(|(index, _)| *index == entry.index)
            && let Some((index, id)) = self.writes.pop_front()
        {
            let position = Position {
                epoch: entry.term,
                leader: 0,
                index,
            };
            self.reply(id, result, position, effects);
        }
        if change.is_some() && !self.is_member(self.id) {
            self.leave(effects);
        }
    }

    /// Tells the engine what is applied; of a snapshot it wants to hear only once it is durable.
    fn note_applied(&mut self) {
        let log = &self.engine.raft.raft_log;
        if self.applied > log.applied && self.applied <= log.committed.min(log.persisted) {
            self.engine.advance_apply_to(self.applied);
        }
    }

    /// Asks for a confirmation of leadership if reads want one, and answers those that have it.
    fn settle_reads(&mut self, effects: &mut Vec<Effect>) {
        // Before it has committed in its term the engine would drop the request silently.
        if self.leads()
            && self.engine.raft.commit_to_current_term()
            && let Some(round) = self.reads.begin()
        {
            if self.config.has(Bug::ReadIndexWithoutQuorum) {
                self.reads
                    .confirm(round, self.engine.raft.raft_log.committed);
            } else {
                self.ask_to_confirm(Some(round));
            }
        }
        let position = self.engine.store().position(self.applied);
        while let Some(reads) = self.reads.ready(self.applied) {
            for (id, op) in reads {
                self.reply(id, Ok(self.store.read(&op)), position, effects);
            }
        }
    }

    /// Sends the heartbeats of a round.
    fn ask_to_confirm(&mut self, round: Option<u64>) {
        let Some(round) = round else { return };
        self.led = Some(self.engine.raft.term);
        self.lease.sent(round, self.ticks);
        self.engine
            .read_index(Bytes::copy_from_slice(&round.to_be_bytes()).into());
        self.pin();
    }

    /// Tells observers of a change of role or term, and clients that their leader is gone.
    fn tell_changes(&mut self, effects: &mut Vec<Effect>) {
        let (role, epoch) = (self.role(), self.engine.raft.term);
        if (role, epoch) == self.traced {
            return;
        }
        self.traced = (role, epoch);
        effects.push(Effect::Trace(Trace::Role { role, epoch }));
        let leads = self.leads().then_some(epoch);
        if self.led == leads && leads.is_some() {
            return;
        }
        self.led = leads;
        self.lease = Lease::default();
        let here = self.engine.store().position(self.applied);
        for (_, id) in std::mem::take(&mut self.writes) {
            let refusal =
                Refusal::Indeterminate("leadership was lost before it was committed".into());
            self.reply(id, Err(refusal), here, effects);
        }
        for id in self.reads.drain() {
            let refusal =
                Refusal::Unavailable("leadership was lost before it was confirmed".into());
            self.reply(id, Err(refusal), here, effects);
        }
    }
}

impl Raft {
    /// Why this node does not replicate, if so.
    fn stopped(&self) -> Option<Arc<str>> {
        let halted = self.halted.then_some("its log contradicts the leader's");
        halted.or(self.absent()).map(Into::into)
    }

    /// Whether this node may have promised, in a life that it does not remember, not to vote yet:
    /// a leader's lease rests on that. One who was asked to take over need not wait.
    fn promised(&self, message: &Wire) -> bool {
        self.config.reads == ReadPolicy::Lease
            && self.returned
            && self.ticks < self.election_ticks
            && matches!(
                message.msg_type,
                MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
            )
            && message.context != b"CampaignTransfer"[..]
    }
}

impl Replica for Raft {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            _ if self.halted => return,
            Event::Message(from, AnyMessage::Raft(message)) => {
                self.on_message(from, message, effects);
            }
            Event::Message(..) => {}
            Event::Synced(token) => self.on_synced(token, effects),
            Event::Stepped(step) => self.step = step,
            Event::Wake => self.on_wake(now, effects),
        }
        self.pin();
        self.process(now, effects);
    }

    fn deadline(&self) -> Time {
        if self.halted {
            Time::MAX
        } else {
            self.tick_at.min(self.sync_at)
        }
    }

    fn status(&self) -> Status {
        let log = self.engine.store();
        Status {
            id: self.id,
            role: self.role(),
            epoch: self.engine.raft.term,
            leader: self.leader(),
            last: log.position(log.last()),
            applied: self.applied,
            discarded: self.discarded,
            pending: 0,
            storage_version: self.config.storage_version,
            stopped: self.stopped(),
            standbys: Vec::new(),
        }
    }

    fn digest(&self) -> u64 {
        self.store.digest()
    }

    fn log(&self, first: u64) -> Vec<Position> {
        let log = self.engine.store();
        (first.max(1)..=log.last())
            .map(|index| log.position(index))
            .collect()
    }

    fn holds(&self, key: &Arc<str>) -> Option<crate::core::Datum> {
        match self.store.read(&Op::Read(key.clone())) {
            Answer::Value(datum) => datum,
            _ => None,
        }
    }
}
