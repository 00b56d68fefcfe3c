//! The state machine: takes requests, records changes, answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::changes::Changes;
use super::clock::{Clocked, Moment, Stamp};
use super::content::Content;
use super::exchange::send;
use super::home::Homes;
use super::links::{Link, links};
use super::origin::{Dot, Origin, Vector};
use super::synchronous::Synchronous;
use super::{Change, Clock, Conflicts, Message, Payload, Record, Snapshot, State};
use crate::core::config::{Bug, Fsync};
use crate::core::single_leader::durability::Durability;
use crate::core::timing::{MILLISECOND, mix};
use crate::core::{
    Admin, Answer, Config, Datum, DiskOp, Effect, Event, Message as AnyMessage, NodeId, Op,
    Position, Record as AnyRecord, Refusal, Replica, Reply, Request, RequestId, Role, StateDigest,
    Status, Time, Trace,
};

/// One leader among several.
#[derive(Debug)]
pub(super) struct MultiLeader {
    pub(super) id: NodeId,
    pub(super) config: Config,
    /// Under which name this node makes changes.
    pub(super) origin: Origin,
    /// Tells this run of the process apart from others.
    pub(super) run: u64,
    pub(super) content: Content,
    pub(super) homes: Homes,
    pub(super) synchronous: Synchronous,
    clock: Clocked,
    /// All changes that are part of the content.
    pub(super) vector: Vector,
    /// Those of them that are durable.
    pub(super) stable: Vector,
    unstable: VecDeque<(u64, Dot)>,
    pub(super) changes: Changes,
    /// Changes that came before others on which they depend.
    pub(super) held: BTreeMap<Dot, Arc<Change>>,
    pub(super) links: Vec<Link>,
    /// Who is to be told how far this node is.
    pub(super) owed: BTreeSet<NodeId>,
    pub(super) durability: Durability,
    /// How many records were written to the journal.
    record: u64,
    /// How many since it was last rewritten.
    records_since: u64,
    /// Answers, each with the record that must be durable first.
    answers: VecDeque<(u64, RequestId, Reply)>,
    /// Messages, each with the record that must be durable first.
    outgoing: VecDeque<(u64, NodeId, Message)>,
    /// Requests of clients that have seen more than this node.
    waiting: Vec<Waiting>,
    pub(super) tick_at: Time,
    /// Where the log ended at the last tick, and at the one before.
    pub(super) marks: (u64, u64),
}

/// A request that waits until this node has seen enough.
#[derive(Debug)]
struct Waiting {
    until: Time,
    session: Vector,
    id: RequestId,
    request: Request,
}

impl MultiLeader {
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
        let options = &config.multi_leader;
        let clock = match options.conflicts {
            Conflicts::Lww => options.clock,
            _ => Clock::Hybrid,
        };
        let synchronous = options.conflicts == Conflicts::Synchronous;
        let mut links = links(id, nodes, options.topology, synchronous);
        for link in &mut links {
            link.heard = now;
        }
        let mut replica = Self {
            id,
            origin: Origin { node: id, life: 0 },
            run: mix(seed, now, 1),
            content: Content::new(config),
            homes: Homes::new(nodes),
            synchronous: Synchronous::default(),
            clock: Clocked::new(clock),
            vector: Vector::default(),
            stable: Vector::default(),
            unstable: VecDeque::new(),
            changes: Changes::default(),
            held: BTreeMap::new(),
            links,
            owed: nodes.iter().copied().filter(|node| *node != id).collect(),
            durability: Durability::new(
                config.fsync,
                config.fsync_interval_ms * MILLISECOND,
                false,
            ),
            record: recovered.len() as u64,
            records_since: recovered.len() as u64,
            answers: VecDeque::new(),
            outgoing: VecDeque::new(),
            waiting: Vec::new(),
            tick_at: now + options.resend_ms * MILLISECOND,
            marks: (0, 0),
            config: config.clone(),
        };
        replica.synchronous.empty = synchronous && recovered.is_empty();
        let lived = replica.recover(recovered);
        if synchronous {
            let own = replica.changes.iter().map(|kept| &kept.change);
            for change in own.filter(|change| change.dot.origin.node == id) {
                replica.synchronous.unfinished(change);
            }
        }
        replica.begin_life(lived, seed, now, effects);
        let known = replica.vector.clone();
        replica.unstable(&known);
        replica.durability.wrote(replica.record, now);
        effects.push(Effect::Trace(Trace::Role {
            role: Role::Leader,
            epoch: 0,
        }));
        replica.finish(now, effects);
        replica
    }

    /// Takes up the journal. The last life, if it can be gone on with.
    fn recover(&mut self, records: Vec<AnyRecord>) -> Option<u32> {
        let mut life = None;
        for record in records {
            let AnyRecord::MultiLeader(record) = record else {
                continue;
            };
            match *record {
                Record::Life(begun) => life = Some(begun),
                Record::Change(change) => {
                    self.take_in(&change);
                }
                Record::State(state) => {
                    self.take_in_state(&state);
                }
                Record::Promised(key, attempt) => self.synchronous.promise(key, attempt, 0),
                Record::Released(key, attempt) => {
                    self.synchronous.release(&key, |known| known == attempt);
                }
                Record::Snapshot(snapshot) => {
                    for (key, attempt) in snapshot.promises {
                        self.synchronous.promise(key, attempt, 0);
                    }
                    life = Some(snapshot.life);
                    self.take_in_state(&snapshot.state);
                    self.changes = Changes::after(snapshot.base);
                    for change in snapshot.changes {
                        self.changes.push(change, 0);
                    }
                }
            }
        }
        life
    }

    /// Goes on with the life of before, if the journal is known to hold every change that others
    /// may have seen; begins a new one if not.
    fn begin_life(&mut self, lived: Option<u32>, seed: u64, now: Time, effects: &mut Vec<Effect>) {
        self.origin.life = match (lived, self.config.fsync) {
            (Some(life), Fsync::Always) => life,
            _ => {
                let lives = (0..).map(|draw| (mix(seed, now, 2 + draw) >> 32) as u32);
                let mut fresh = lives.filter(|&life| {
                    let node = self.id;
                    self.vector.get(Origin { node, life }) == 0
                });
                fresh.next().unwrap_or_default()
            }
        };
        if lived != Some(self.origin.life) {
            self.write(Record::Life(self.origin.life), now, effects);
        }
    }

    pub(super) fn write(&mut self, record: Record, now: Time, effects: &mut Vec<Effect>) {
        self.record += 1;
        self.records_since += 1;
        self.durability.wrote(self.record, now);
        effects.push(Effect::Disk(DiskOp::Append(AnyRecord::MultiLeader(
            record.into(),
        ))));
    }

    /// Makes a change part of the content. It is the next of its origin.
    fn take_in(&mut self, change: &Arc<Change>) -> bool {
        self.clock.see(change.moment);
        self.vector.see(change.dot.origin, change.dot.seq);
        self.changes.push(Arc::clone(change), self.record);
        self.synchronous.taken_in(change);
        match &change.payload {
            Payload::Cell(key, cell) => self.content.merge(key, cell),
            Payload::Home(home, owner) => self.homes.merge(*home, *owner),
        }
    }

    fn take_in_state(&mut self, state: &State) -> bool {
        self.clock.see(state.moment);
        self.changes.skip(&state.vector, &self.vector);
        self.vector.merge(&state.vector);
        for (&home, &owner) in &state.homes {
            self.homes.merge(home, owner);
        }
        let merged = state.cells.iter();
        merged.fold(true, |well, (key, cell)| {
            self.content.merge(key, cell) && well
        })
    }

    fn unstable(&mut self, known: &Vector) {
        for (&origin, &seq) in &known.0 {
            if seq > self.stable.get(origin) {
                let dot = Dot { origin, seq };
                self.unstable.push_back((self.record, dot));
            }
        }
    }

    /// Records a change, of this node or another, and makes it part of the content.
    pub(super) fn record_change(
        &mut self,
        change: &Arc<Change>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.write(Record::Change(Arc::clone(change)), now, effects);
        self.unstable.push_back((self.record, change.dot));
        if !self.take_in(change) {
            Self::remark_failure(effects);
        }
    }

    /// Records what another node holds, and merges it.
    pub(super) fn record_state(&mut self, state: &State, now: Time, effects: &mut Vec<Effect>) {
        self.write(Record::State(state.clone()), now, effects);
        self.unstable(&state.vector);
        if !self.take_in_state(state) {
            Self::remark_failure(effects);
        }
        effects.push(Effect::Trace(Trace::SnapshotInstalled(Position::default())));
    }

    fn remark_failure(effects: &mut Vec<Effect>) {
        effects.push(Effect::Trace(Trace::Remark(
            "the procedure failed; the larger value was kept",
        )));
    }

    /// What this node holds.
    pub(super) fn state(&self) -> State {
        let cells = self.content.cells().iter();
        State {
            moment: self.clock.last(),
            vector: self.vector.clone(),
            cells: cells
                .map(|(key, cell)| (key.clone(), cell.clone()))
                .collect(),
            homes: self.homes.owners().clone(),
        }
    }

    pub(super) fn see(&mut self, moment: Moment) {
        self.clock.see(moment);
    }

    /// Sends once all that was written so far is durable.
    pub(super) fn send_durably(&mut self, to: NodeId, message: Message) {
        self.outgoing.push_back((self.record, to, message));
    }

    /// A new change of this node.
    pub(super) fn create(&mut self, payload: Payload, stamp: Stamp) -> Arc<Change> {
        let mut after = self.vector.clone();
        after.0.remove(&self.origin);
        Arc::new(Change {
            dot: Dot {
                origin: self.origin,
                seq: stamp.seq,
            },
            moment: stamp.moment,
            after,
            payload,
        })
    }

    pub(super) fn stamp(&mut self, now: Time) -> Stamp {
        Stamp {
            moment: self.clock.tick(now),
            origin: self.origin,
            seq: self.vector.get(self.origin).saturating_add(1),
        }
    }

    /// Carries out a write.
    ///
    /// # Errors
    /// What the content says; nothing is changed then.
    pub(super) fn perform(
        &mut self,
        op: &Op,
        context: Option<&crate::core::VersionVector>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<Dot, Refusal> {
        let Some(key) = op.key() else {
            return Err(Refusal::Unsupported(
                "this mode has no such operation".into(),
            ));
        };
        let context = context.map(Vector::of_versions);
        let stamp = self.stamp(now);
        let cell = self.content.change(key, op, context, stamp)?;
        let change = self.create(Payload::Cell(key.clone(), cell), stamp);
        self.record_change(&change, now, effects);
        Ok(change.dot)
    }

    /// Answers once all that the answer may rest upon is durable.
    pub(super) fn answer(&mut self, id: RequestId, result: Result<Answer, Refusal>) {
        self.answer_with(id, result, None);
    }

    fn answer_with(
        &mut self,
        id: RequestId,
        result: Result<Answer, Refusal>,
        context: Option<Vector>,
    ) {
        let reply = Reply {
            result,
            node: self.id,
            role: Role::Leader,
            epoch: 0,
            position: Position::default(),
            session: Some(self.vector.to_versions()),
            context: context.map(|context| context.to_versions()),
        };
        self.answers.push_back((self.record, id, reply));
    }

    fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let mut session = Vector::default();
        if let Some(seen) = &request.session {
            session = Vector::of_versions(seen);
        }
        let until = now + self.config.failover_timeout_ms * MILLISECOND;
        let waiting = Waiting {
            until,
            session,
            id,
            request,
        };
        if self.must_wait(&waiting) {
            self.waiting.push(waiting);
        } else {
            self.serve(now, id, &waiting.request, effects);
        }
    }

    fn must_wait(&self, waiting: &Waiting) -> bool {
        !self.vector.covers(&waiting.session) || self.synchronous.blocks(&waiting.request.op)
    }

    fn serve(&mut self, now: Time, id: RequestId, request: &Request, effects: &mut Vec<Effect>) {
        match &request.op {
            Op::Read(key) => {
                let (datum, context) = self.content.read(key);
                self.answer_with(id, Ok(Answer::Value(datum)), context);
            }
            Op::ReadAll => {
                let all: Vec<(Arc<str>, Datum)> = self.content.read_all();
                self.answer(id, Ok(Answer::All(all)));
            }
            Op::Digest => {
                let digest = StateDigest {
                    digest: self.content.digest(),
                    scope: "".into(),
                    stopped: None,
                };
                self.answer(id, Ok(Answer::Digest(digest)));
            }
            Op::Admin(Admin::TakeHome(from)) => self.take_home(now, id, *from, effects),
            op => {
                if let Some(home) = self.elsewhere(op) {
                    let leader = Some(home);
                    self.answer(id, Err(Refusal::NotLeader { leader }));
                    return;
                }
                if self.is_synchronous() {
                    self.begin(now, id, request, effects);
                    return;
                }
                let done = self.perform(op, request.context.as_ref(), now, effects);
                self.answer(id, done.map(|_| Answer::Done));
            }
        }
    }

    /// Serves those who waited and need to no longer.
    fn serve_waiting(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            if !self.must_wait(waiting) {
                let waiting = self.waiting.remove(at);
                self.serve(now, waiting.id, &waiting.request, effects);
            } else if now >= waiting.until {
                let waiting = self.waiting.remove(at);
                self.answer(
                    waiting.id,
                    Err(Refusal::Unavailable(
                        "this node does not have yet what it would have to show".into(),
                    )),
                );
            } else {
                at += 1;
            }
        }
    }

    /// What follows from every event.
    fn finish(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.conclude(now, effects);
        self.serve_waiting(now, effects);
        self.durability.flush(effects);
        let durable = self.durability.durable();
        let mut moved = false;
        while let Some(&(record, dot)) = self.unstable.front()
            && record <= durable
        {
            moved = true;
            self.unstable.pop_front();
            self.stable.see(dot.origin, dot.seq);
        }
        while let Some((record, ..)) = self.answers.front()
            && *record <= durable
            && let Some((_, id, reply)) = self.answers.pop_front()
        {
            effects.push(Effect::Reply(id, reply));
        }
        self.replicate(moved, now, effects);
        while let Some((record, ..)) = self.outgoing.front()
            && *record <= durable
            && let Some((_, to, message)) = self.outgoing.pop_front()
        {
            send(to, message, effects);
        }
        self.compact(effects);
    }

    /// Drops changes that all have, or that are too many; rewrites the journal if it has grown.
    fn compact(&mut self, effects: &mut Vec<Effect>) {
        let (links, durable) = (&self.links, self.durability.durable());
        let keep = self.config.log_keep;
        self.changes.compact(|oldest, count| {
            let had = |link: &Link| !link.target || link.known.contains(oldest.change.dot);
            oldest.record <= durable && (count as u64 > keep || links.iter().all(had))
        });
        if self.records_since < 2 * keep {
            return;
        }
        self.records_since = 0;
        let kept = self.changes.iter().map(|kept| Arc::clone(&kept.change));
        let snapshot = Record::Snapshot(Box::new(Snapshot {
            life: self.origin.life,
            state: self.state(),
            base: self.changes.base().clone(),
            changes: kept.collect(),
            promises: self.synchronous.promises(),
        }));
        let records = vec![AnyRecord::MultiLeader(snapshot.into())];
        self.durability.replace(records, effects);
    }

    /// Changes that a neighbour is not known to have, or that this node is known to lack; nodes
    /// that have not told yet what they have; and requests that wait.
    fn pending(&self) -> u64 {
        let neighbours = self.links.iter().filter(|link| link.neighbour);
        let each = neighbours.map(|link| {
            let unheard = u64::from(link.run.is_none());
            if self.forgets_sent() {
                // What was sent counts as done.
                return unheard;
            }
            let deliver = self.vector.lacking(&link.known);
            let fetch = link.known.lacking(&self.vector);
            unheard.saturating_add(deliver).saturating_add(fetch)
        });
        let requests = self.waiting.len() + self.synchronous.pending();
        each.fold(requests as u64, u64::saturating_add)
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        if !self.links.iter().any(|link| link.node == from) {
            return;
        }
        match message {
            Message::Have { run, vector } => self.on_have(now, from, run, vector),
            Message::Changes(changes) => self.on_changes(now, from, &changes, effects),
            Message::State(state) => self.on_state(now, from, &state, effects),
            Message::Synchronous(message) => self.on_word(now, from, message, effects),
        }
    }
}

impl Replica for MultiLeader {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Message(from, AnyMessage::MultiLeader(message)) => {
                self.on_message(now, from, message, effects);
            }
            Event::Message(..) => {}
            Event::Request(id, request) => self.on_request(now, id, request, effects),
            Event::Synced(token) => self.durability.synced(token),
            Event::Wake => {
                self.durability.tick(now, effects);
                if now >= self.tick_at {
                    self.tick(now, effects);
                }
            }
        }
        self.finish(now, effects);
    }

    fn deadline(&self) -> Time {
        let waiting = self.waiting.iter().map(|waiting| waiting.until).min();
        let sync = match self.config.fsync {
            Fsync::Interval => self.durability.deadline(),
            Fsync::Always | Fsync::Never => Time::MAX,
        };
        let sync = sync.min(self.synchronous.deadline());
        self.tick_at.min(sync).min(waiting.unwrap_or(Time::MAX))
    }

    fn status(&self) -> Status {
        Status {
            id: self.id,
            role: Role::Leader,
            epoch: 0,
            leader: Some(self.id),
            last: Position::default(),
            applied: self.vector.lacking(&Vector::default()),
            discarded: 0,
            pending: self.pending(),
            storage_version: self.config.storage_version,
            stopped: None,
        }
    }

    fn digest(&self) -> u64 {
        self.content.digest()
    }

    fn log(&self, _first: u64) -> Vec<Position> {
        Vec::new()
    }
}

impl MultiLeader {
    /// The planted mistake: what was sent is forgotten, whether it arrived or not.
    pub(super) fn forgets_sent(&self) -> bool {
        self.config.has(Bug::ChangeSentOnce)
    }
}
