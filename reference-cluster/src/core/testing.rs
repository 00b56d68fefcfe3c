//! A tiny deterministic world for tests: a network that delays, reorders, drops and duplicates,
//! disks that lose what was not synced, and crashes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::timing::{MILLISECOND, mix};
use super::{
    Answer, Config, DiskOp, Effect, Event, Message, NodeId, Op, Position, Record, Refusal, Replica,
    Reply, Request, RequestId, Role, Scalar, Status, Time, Trace,
};

/// One machine.
#[derive(Default)]
struct Machine {
    replica: Option<Box<dyn Replica>>,
    life: u64,
    durable: Vec<Record>,
    written: Vec<DiskOp>,
}

enum Due {
    Message(NodeId, NodeId, Message),
    Synced(NodeId, u64, u64),
}

pub(crate) struct World {
    pub config: Config,
    pub seed: u64,
    pub now: Time,
    pub nodes: Vec<NodeId>,
    /// How many of the nodes, from the first, are replicas.
    replicas: usize,
    /// Storage versions of nodes that were upgraded; takes effect when they start.
    pub versions: BTreeMap<NodeId, u16>,
    machines: BTreeMap<NodeId, Machine>,
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    dues: BTreeMap<usize, Due>,
    count: u64,
    draws: u64,
    /// Directed links that let nothing through.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// In a thousand messages, so many are dropped and so many duplicated.
    pub loss: u64,
    /// Longest delay of a message.
    pub delay_max: Time,
    /// How fast a node's clock runs, in percent; 100 where nothing is said.
    pub rates: BTreeMap<NodeId, u64>,
    pub replies: BTreeMap<RequestId, (NodeId, Reply)>,
    pub asked: BTreeMap<RequestId, Op>,
    pub traces: Vec<(NodeId, Trace)>,
    /// Every effect in order, if wanted.
    pub script: Option<Vec<String>>,
    pub handled: u64,
}

impl World {
    pub fn new(config: Config, count: u16, seed: u64) -> Self {
        config.validate(count.into()).unwrap();
        let all = count + config.auxiliaries() as u16;
        let nodes: Vec<NodeId> = (1..=all).map(NodeId).collect();
        let mut world = Self {
            replicas: count.into(),
            versions: BTreeMap::new(),
            config,
            seed,
            now: 0,
            machines: nodes
                .iter()
                .map(|node| (*node, Machine::default()))
                .collect(),
            nodes: nodes.clone(),
            queue: BinaryHeap::new(),
            dues: BTreeMap::new(),
            count: 0,
            draws: 0,
            cut: BTreeSet::new(),
            loss: 0,
            delay_max: 2 * MILLISECOND,
            rates: BTreeMap::new(),
            replies: BTreeMap::new(),
            asked: BTreeMap::new(),
            traces: Vec::new(),
            script: None,
            handled: 0,
        };
        for node in nodes {
            world.start(node);
        }
        world
    }

    pub fn draw(&mut self, below: u64) -> u64 {
        self.draws += 1;
        mix(self.seed, u64::MAX, self.draws) % below
    }

    pub fn start(&mut self, node: NodeId) {
        let mut effects = Vec::new();
        let recovered = self.machines[&node].durable.clone();
        let mut config = self.config.clone();
        if let Some(version) = self.versions.get(&node) {
            config.storage_version = *version;
        }
        let replica = super::start(
            &config,
            node,
            &self.nodes,
            mix(self.seed, node.0.into(), 0),
            self.local(node),
            recovered,
            &mut effects,
        );
        self.machines.get_mut(&node).unwrap().replica = Some(replica);
        self.carry_out(node, effects);
    }

    fn any_node(&mut self) -> NodeId {
        let which = self.draw(self.nodes.len() as u64) as usize;
        self.nodes[which]
    }

    /// Ends a node. Of what was written since the last sync, a prefix survives.
    pub fn crash(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).unwrap();
        if machine.replica.take().is_none() {
            return;
        }
        machine.life += 1;
        let written = std::mem::take(&mut machine.written);
        let survives = self.draw(written.len() as u64 + 1) as usize;
        let machine = self.machines.get_mut(&node).unwrap();
        written
            .into_iter()
            .take(survives)
            .for_each(|op| settle(&mut machine.durable, op));
    }

    /// Ends a node and takes away all that it had not synced.
    pub fn lose_power(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).unwrap();
        machine.written.clear();
        self.crash(node);
    }

    /// Ends a node and takes away all that it has written.
    pub fn wipe(&mut self, node: NodeId) {
        self.crash(node);
        let machine = self.machines.get_mut(&node).unwrap();
        machine.durable.clear();
        machine.written.clear();
    }

    /// How many records would survive a loss of power at this node.
    pub fn records(&self, node: NodeId) -> usize {
        self.machines[&node].durable.len()
    }

    /// What a node's clock shows.
    fn local(&self, node: NodeId) -> Time {
        self.now * self.rates.get(&node).unwrap_or(&100) / 100
    }

    /// The earliest time at which a node's clock shows this.
    fn when(&self, node: NodeId, local: Time) -> Time {
        match self.rates.get(&node) {
            Some(rate) if local < Time::MAX => (local * 100).div_ceil(*rate),
            _ => local,
        }
    }

    /// How many records of a node are durable.
    pub fn durable(&self, node: NodeId) -> usize {
        self.machines[&node].durable.len()
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        self.machines[&node].replica.is_some()
    }

    fn later(&mut self, time: Time, due: Due) {
        self.count += 1;
        let slot = self.count as usize;
        self.queue.push(Reverse((time, self.count, slot)));
        self.dues.insert(slot, due);
    }

    fn carry_out(&mut self, node: NodeId, effects: Vec<Effect>) {
        for effect in effects {
            if let Some(script) = &mut self.script {
                script.push(format!("{} {node:?} {effect:?}", self.now));
            }
            match effect {
                Effect::Send(to, message) => {
                    for _ in 0..2 {
                        let dropped = self.draw(1000) < self.loss;
                        if !dropped && !self.cut.contains(&(node, to)) {
                            let delay = 50_000 + self.draw(self.delay_max);
                            let due = Due::Message(to, node, message.clone());
                            self.later(self.now + delay, due);
                        }
                        if self.draw(1000) >= self.loss {
                            break;
                        }
                    }
                }
                Effect::Reply(id, reply) => {
                    let before = self.replies.insert(id, (node, reply));
                    assert!(before.is_none(), "{id:?} was answered twice");
                }
                Effect::Disk(op) => {
                    let token = match &op {
                        DiskOp::Append(_) => None,
                        DiskOp::Sync(token) | DiskOp::Replace(_, token) => Some(*token),
                    };
                    let machine = self.machines.get_mut(&node).unwrap();
                    machine.written.push(op);
                    if let Some(token) = token {
                        let life = machine.life;
                        // One disk works in order.
                        self.later(self.now + MILLISECOND, Due::Synced(node, life, token));
                    }
                }
                Effect::Trace(trace) => self.traces.push((node, trace)),
            }
        }
    }

    fn deliver(&mut self, node: NodeId, event: Event) {
        let now = self.local(node);
        let Some(replica) = &mut self.machines.get_mut(&node).unwrap().replica else {
            return;
        };
        let mut effects = Vec::new();
        replica.handle(now, event, &mut effects);
        self.handled += 1;
        self.carry_out(node, effects);
    }

    fn sync(&mut self, node: NodeId, token: u64) {
        let machine = self.machines.get_mut(&node).unwrap();
        let end = machine.written.iter().position(|op| match op {
            DiskOp::Sync(t) | DiskOp::Replace(_, t) => *t == token,
            DiskOp::Append(_) => false,
        });
        let done: Vec<DiskOp> = machine.written.drain(..=end.unwrap()).collect();
        for op in done {
            settle(&mut machine.durable, op);
        }
        self.deliver(node, Event::Synced(token));
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Time) {
        let end = self.now + span;
        loop {
            let wake = self
                .machines
                .iter()
                .filter_map(|(node, m)| {
                    let deadline = m.replica.as_ref()?.deadline();
                    Some((self.when(*node, deadline), *node))
                })
                .min();
            let queued = self
                .queue
                .peek()
                .map_or(Time::MAX, |Reverse((time, ..))| *time);
            let woken = wake.map_or(Time::MAX, |(time, _)| time);
            let next = queued.min(woken);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if woken < queued {
                self.deliver(wake.unwrap().1, Event::Wake);
                continue;
            }
            let Reverse((_, _, slot)) = self.queue.pop().unwrap();
            match self.dues.remove(&slot).unwrap() {
                Due::Message(to, from, message) => self.deliver(to, Event::Message(from, message)),
                Due::Synced(node, life, token) => {
                    if self.machines[&node].life == life {
                        self.sync(node, token);
                    }
                }
            }
        }
        self.now = end;
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(ms * MILLISECOND);
    }

    pub fn ask(&mut self, node: NodeId, op: Op) -> RequestId {
        self.ask_with(node, op, false)
    }

    pub fn ask_with(&mut self, node: NodeId, op: Op, local: bool) -> RequestId {
        let request = Request {
            local,
            ..Request::new(op)
        };
        self.request(node, request)
    }

    pub fn request(&mut self, node: NodeId, request: Request) -> RequestId {
        let id = RequestId(self.asked.len() as u64 + 1);
        self.asked.insert(id, request.op.clone());
        self.deliver(node, Event::Request(id, request));
        id
    }

    /// What came of a request that must have been answered.
    pub fn result(&self, id: RequestId) -> &Result<Answer, Refusal> {
        let reply = self.reply(id);
        let op = &self.asked[&id];
        &reply
            .unwrap_or_else(|| panic!("{op:?} was not answered"))
            .result
    }

    /// Asks, waits a little and returns what came of it.
    pub fn done(&mut self, node: NodeId, op: Op) -> Result<Answer, Refusal> {
        let id = self.ask(node, op);
        self.run_ms(50);
        self.result(id).clone()
    }

    /// How often a node, or any, remarked upon this.
    pub fn remarks(&self, what: &str) -> usize {
        self.count(|trace| matches!(trace, Trace::Remark(remark) if *remark == what))
    }

    /// Delivers a message of this node's own making.
    pub fn forge(&mut self, to: NodeId, from: NodeId, message: Message) {
        self.deliver(to, Event::Message(from, message));
    }

    /// The replicas, without auxiliary nodes.
    pub fn replicas(&self) -> &[NodeId] {
        &self.nodes[..self.replicas]
    }

    pub fn reply(&self, id: RequestId) -> Option<&Reply> {
        self.replies.get(&id).map(|(_, reply)| reply)
    }

    pub fn status(&self, node: NodeId) -> Status {
        self.machines[&node].replica.as_ref().unwrap().status()
    }

    pub fn digest(&self, node: NodeId) -> u64 {
        self.machines[&node].replica.as_ref().unwrap().digest()
    }

    pub fn log(&self, node: NodeId) -> Vec<Position> {
        self.machines[&node].replica.as_ref().unwrap().log(1)
    }

    /// The leader of the highest epoch.
    pub fn leader(&self) -> Option<NodeId> {
        let up = self.nodes.iter().filter(|node| self.is_up(**node));
        up.map(|node| self.status(*node))
            .filter(|status| status.role == Role::Leader)
            .max_by_key(|status| (status.epoch, status.id))
            .map(|status| status.id)
    }

    /// Cuts these nodes off from all others.
    pub fn isolate(&mut self, nodes: &[NodeId]) {
        for &a in nodes {
            for &b in &self.nodes {
                if !nodes.contains(&b) {
                    self.cut.extend([(a, b), (b, a)]);
                }
            }
        }
    }

    /// Ends every fault and waits for calm.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss = 0;
        self.delay_max = 2 * MILLISECOND;
        for node in self.nodes.clone() {
            if !self.is_up(node) {
                self.start(node);
            }
        }
        self.run_ms(6_000);
    }

    /// Asserts that all replicas hold the same log and state and agree on the leader.
    pub fn assert_converged(&self) {
        let seed = self.seed;
        let leader = self
            .leader()
            .unwrap_or_else(|| panic!("seed {seed}: no leader"));
        let expected = self.status(leader);
        for &node in self.replicas() {
            let status = self.status(node);
            assert_eq!(status.leader, Some(leader), "seed {seed}: {status:?}");
            assert_eq!(
                (status.last, status.applied, status.epoch),
                (expected.last, expected.applied, expected.epoch),
                "seed {seed}: {node:?} against {leader:?}"
            );
            assert_eq!(
                self.digest(node),
                self.digest(leader),
                "seed {seed}: {node:?} against {leader:?}"
            );
        }
    }

    /// Asserts that no position was created twice, and that every log is a chain of created
    /// positions: equal positions, equal entries, equal logs before them.
    pub fn assert_log_matching(&self) {
        let mut before = BTreeMap::new();
        for (node, trace) in &self.traces {
            if let Trace::Created {
                position, previous, ..
            } = trace
            {
                let twice = before.insert(*position, *previous);
                assert_eq!(
                    twice, None,
                    "seed {}: {node:?} used {position:?} again",
                    self.seed
                );
            }
        }
        for node in &self.nodes {
            let mut previous = Position::default();
            for position in self.log(*node) {
                assert_eq!(
                    before.get(&position),
                    Some(&previous),
                    "seed {}: {node:?}",
                    self.seed
                );
                previous = position;
            }
        }
    }

    /// Some seconds of random faults with a client that writes unique values to a few keys
    /// through whoever calls itself leader.
    pub fn torment(&mut self, steps: u64) {
        self.loss = 20;
        for step in 0..steps {
            let node = self.any_node();
            match self.draw(40) {
                0 => self.crash(node),
                1 => {
                    let count = self.draw(self.nodes.len() as u64 - 1) as usize + 1;
                    let some = self.nodes[..count].to_vec();
                    self.isolate(&some);
                }
                2 => self.isolate(&[node]),
                3 => {
                    let other = self.any_node();
                    self.cut.insert((node, other));
                }
                4 | 5 => self.cut.clear(),
                6 => self.delay_max = (1 + self.draw(300)) * MILLISECOND,
                7 => self.delay_max = 2 * MILLISECOND,
                8..12 => {
                    if let Some(node) = self.nodes.iter().copied().find(|node| !self.is_up(*node)) {
                        self.start(node);
                    }
                }
                _ => {}
            }
            for node in self.nodes.clone() {
                if self.is_up(node) && self.status(node).role == Role::Leader {
                    let op = Op::Append(
                        format!("k{}", self.draw(3)).into(),
                        Scalar::Int(step as i64 * 100 + i64::from(node.0)),
                    );
                    self.ask(node, op);
                }
            }
            let span = self.draw(100);
            self.run_ms(span);
        }
    }

    /// Counts traces of a kind.
    pub fn count(&self, which: impl Fn(&Trace) -> bool) -> usize {
        self.traces.iter().filter(|(_, trace)| which(trace)).count()
    }
}

fn settle(durable: &mut Vec<Record>, op: DiskOp) {
    match op {
        DiskOp::Append(record) => durable.push(record),
        DiskOp::Sync(_) => {}
        DiskOp::Replace(records, _) => *durable = records,
    }
}
