//! An abstract replicated store that records both a history and what really happened.
//!
//! Every node holds one log of writes a key. A write takes effect by being pushed to the log of one
//! node; logs are copied from node to node, over what the other had (a discard), or merged. A read
//! shows the log of one node. After the final marker all nodes hold the log of one of them.

use std::sync::Arc;

use checkers::{Event, F, History, Kind, Process, Value};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// A write, by number: also the value that it writes.
pub type Id = i64;

/// What is stored, and how badly.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// [`F::Append`], [`F::Add`] or [`F::Write`] (with compare-and-set).
    pub collection: Option<Collection>,
    /// One node is a correct store.
    pub nodes: usize,
    /// Whether only the node elected last takes writes.
    pub fenced: bool,
    /// Whether there is a final phase, with a marker.
    pub marked: bool,
    /// Operations of clients, final reads apart.
    pub ops: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    List,
    Set,
}

/// One operation as it really was. Instants are positions among the events.
#[derive(Clone, Debug)]
pub struct Op {
    pub invoked: usize,
    /// `None`: open for ever.
    pub completed: Option<usize>,
    pub kind: Kind,
    pub key: usize,
    /// What it writes, if it is a write.
    pub write: Option<Id>,
    /// The log that a read was served from; of a write: the log it was pushed to.
    pub lineage: Vec<Id>,
    /// Node and epoch that took the write.
    pub witness: (usize, u64),
}

impl Op {
    pub fn is_ok(&self) -> bool {
        self.kind == Kind::Ok
    }

    pub fn precedes(&self, other: &Self) -> bool {
        self.completed.is_some_and(|end| end < other.invoked)
    }
}

/// What was recorded, and what happened.
pub struct Run {
    pub history: History,
    pub ops: Vec<Op>,
    /// Position of the final marker.
    pub marker: Option<usize>,
    /// By key: the log that all nodes held when the final phase began.
    pub survived: Vec<Vec<Id>>,
}

/// Indexes are this much apart, so that events can be put in between.
pub const STRIDE: u64 = 100;
pub const KEYS: usize = 2;
const CLIENTS: usize = 4;

impl Run {
    /// The operation that an anomaly names.
    pub fn op(&self, index: u64) -> usize {
        let position = (index / STRIDE) as usize;
        let found = self.ops.iter().position(|op| op.invoked == position);
        found.expect("an anomaly names invocations")
    }

    /// The ok reads of a key, by invocation.
    pub fn reads(&self, key: usize) -> impl Iterator<Item = usize> {
        let of_key = move |&i: &usize| {
            let op: &Op = &self.ops[i];
            op.key == key && op.write.is_none() && op.is_ok()
        };
        (0..self.ops.len()).filter(of_key)
    }

    /// The acknowledged writes of a key, by invocation.
    pub fn acknowledged(&self, key: usize) -> impl Iterator<Item = usize> {
        let of_key = move |&i: &usize| {
            let op: &Op = &self.ops[i];
            op.key == key && op.write.is_some() && op.is_ok()
        };
        (0..self.ops.len()).filter(of_key)
    }

    /// The reads that decide what is lost.
    pub fn finals(&self, key: usize) -> Vec<usize> {
        match self.marker {
            Some(marker) => {
                let after = |&i: &usize| self.ops[i].invoked > marker;
                self.reads(key).filter(after).collect()
            }
            None => self.reads(key).last().into_iter().collect(),
        }
    }
}

struct Client {
    process: u64,
    open: Option<Open>,
}

struct Open {
    op: usize,
    served: bool,
    fate: Kind,
    argument: Value,
    f: F,
    /// Of a compare-and-set.
    expected: Option<Id>,
}

struct Store {
    setup: Setup,
    rng: SmallRng,
    events: Vec<Event>,
    ops: Vec<Op>,
    /// By node, then key.
    logs: Vec<Vec<Vec<Id>>>,
    epochs: Vec<u64>,
    /// Operations that nobody waits for any more and that may still take effect.
    late: Vec<Open>,
}

/// Runs the store. The same seed gives the same run.
pub fn run(setup: Setup, seed: u64) -> Run {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut epochs = vec![0; setup.nodes];
    epochs[rng.random_range(0..setup.nodes)] = 1;
    let mut store = Store {
        setup,
        rng,
        events: Vec::new(),
        ops: Vec::new(),
        logs: vec![vec![Vec::new(); KEYS]; setup.nodes],
        epochs,
        late: Vec::new(),
    };
    let mut clients: Vec<Client> = (0..CLIENTS as u64)
        .map(|process| Client {
            process,
            open: None,
        })
        .collect();
    let mut left = setup.ops;
    while left > 0 || clients.iter().any(|c| c.open.is_some()) {
        store.background();
        let i = store.rng.random_range(0..CLIENTS);
        left -= usize::from(store.step(&mut clients[i], left > 0, false));
    }
    let winner = store.rng.random_range(0..setup.nodes);
    let survived = store.logs[winner].clone();
    let mut marker = None;
    if setup.marked {
        store.logs = vec![survived.clone(); setup.nodes];
        marker = Some(store.events.len());
        let value = Value::str("final");
        store.event(Process::Nemesis, Kind::Info, F::from_name("phase"), value);
        let mut left = store.rng.random_range(0..2 * KEYS);
        while left > 0 || clients.iter().any(|c| c.open.is_some()) {
            let i = store.rng.random_range(0..CLIENTS);
            left -= usize::from(store.step(&mut clients[i], left > 0, true));
        }
    }
    Run {
        history: History {
            events: store.events,
        },
        ops: store.ops,
        marker,
        survived,
    }
}

impl Store {
    fn event(&mut self, process: Process, kind: Kind, f: F, value: Value) -> &mut Event {
        let position = self.events.len() as u64;
        let event = Event::new(position * STRIDE, position * 1_000, process, kind, f, value);
        self.events.push(event);
        self.events.last_mut().expect("it was just pushed")
    }

    fn node(&mut self) -> usize {
        self.rng.random_range(0..self.setup.nodes)
    }

    /// Replication, elections, and operations that take effect when nobody waits any more.
    fn background(&mut self) {
        let (from, to) = (self.node(), self.node());
        let key = self.rng.random_range(0..KEYS);
        match self.rng.random_range(0..24) {
            0..3 => self.logs[to][key] = self.logs[from][key].clone(),
            // Merged registers would go back in time within one log.
            3..6 if self.setup.collection.is_some() => {
                for id in self.logs[from][key].clone() {
                    if !self.logs[to][key].contains(&id) {
                        self.logs[to][key].push(id);
                    }
                }
            }
            6 => {
                let newest = self.epochs.iter().max().copied().unwrap_or(0);
                let same = !self.setup.fenced && self.rng.random_bool(0.2);
                self.epochs[to] = newest + u64::from(!same);
            }
            7..9 if !self.late.is_empty() => {
                let i = self.rng.random_range(0..self.late.len());
                let mut open = self.late.swap_remove(i);
                self.serve(&mut open);
            }
            _ => {}
        }
    }

    /// One step of a client; whether it invoked an operation.
    fn step(&mut self, client: &mut Client, may_invoke: bool, only_reads: bool) -> bool {
        match client.open.take() {
            None if !may_invoke => false,
            None => {
                client.open = Some(self.invoke(client.process, only_reads));
                true
            }
            Some(mut open)
                if !open.served && (open.fate == Kind::Ok || self.rng.random_bool(0.5)) =>
            {
                self.serve(&mut open);
                client.open = Some(open);
                false
            }
            Some(open) => {
                self.complete(client, open);
                false
            }
        }
    }

    fn invoke(&mut self, process: u64, only_reads: bool) -> Open {
        let key = self.rng.random_range(0..KEYS);
        let id = self.ops.len() as Id + 1;
        let reads = only_reads || self.rng.random_bool(0.45);
        let mut expected = None;
        let (f, argument) = match self.setup.collection {
            _ if reads => (F::Read, Value::Nil),
            Some(Collection::List) => (F::Append, Value::Int(id)),
            Some(Collection::Set) => (F::Add, Value::Int(id)),
            None if self.rng.random_bool(0.3) => {
                let node = self.node();
                expected = self.logs[node][key].last().copied();
                let old = expected.map_or(Value::Nil, Value::Int);
                (F::Cas, [old, Value::Int(id)].into_iter().collect())
            }
            None => (F::Write, Value::Int(id)),
        };
        let fate = match self.rng.random_range(0..20) {
            0..2 => Kind::Fail,
            2..5 => Kind::Info,
            _ => Kind::Ok,
        };
        let invoked = self.events.len();
        self.ops.push(Op {
            invoked,
            completed: None,
            kind: Kind::Info,
            key,
            write: (!reads).then_some(id),
            lineage: Vec::new(),
            witness: (0, 0),
        });
        let event = self.event(
            Process::Client(process),
            Kind::Invoke,
            f.clone(),
            argument.clone(),
        );
        event.key = Some(Value::Int(key as i64));
        Open {
            op: self.ops.len() - 1,
            served: false,
            fate,
            argument,
            f,
            expected,
        }
    }

    fn serve(&mut self, open: &mut Open) {
        let op = open.op;
        let key = self.ops[op].key;
        let mut node = self.node();
        open.served = true;
        if let Some(id) = self.ops[op].write {
            if open.fate == Kind::Fail {
                return;
            }
            let newest = self.epochs.iter().max().copied().unwrap_or(0);
            let takes_writes = |epoch: u64| epoch > 0 && (!self.setup.fenced || epoch == newest);
            while !takes_writes(self.epochs[node]) {
                node = (node + 1) % self.setup.nodes;
            }
            let log = &mut self.logs[node][key];
            if open.f == F::Cas && log.last().copied() != open.expected {
                open.fate = Kind::Fail;
                return;
            }
            log.push(id);
        }
        self.ops[op].lineage = self.logs[node][key].clone();
        self.ops[op].witness = (node, self.epochs[node]);
    }

    fn complete(&mut self, client: &mut Client, open: Open) {
        let op = &self.ops[open.op];
        let (key, lineage, (node, epoch)) = (op.key, op.lineage.clone(), op.witness);
        let result = match (
            open.f == F::Read && open.fate == Kind::Ok,
            self.setup.collection,
        ) {
            (false, _) => open.argument.clone(),
            (true, None) => lineage.last().map_or(Value::Nil, |&id| Value::Int(id)),
            (true, Some(collection)) => {
                let mut shown = lineage;
                if collection == Collection::Set {
                    shown.shuffle(&mut self.rng);
                }
                shown.into_iter().map(Value::Int).collect()
            }
        };
        let position = self.events.len();
        let process = Process::Client(client.process);
        let event = self.event(process, open.fate, open.f.clone(), result);
        event.key = Some(Value::Int(key as i64));
        if open.fate == Kind::Ok {
            event.node = Some(Arc::from(format!("n{node}")));
            event.epoch = Some(epoch);
        }
        let op = &mut self.ops[open.op];
        op.kind = open.fate;
        if open.fate == Kind::Info {
            client.process += CLIENTS as u64;
            if !open.served {
                self.late.push(open);
            }
        } else {
            op.completed = Some(position);
        }
    }
}
