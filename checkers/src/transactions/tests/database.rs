//! A simulated database: transactions of several clients, interleaved at random, at a level of
//! isolation that is kept by construction; and bugs to plant in it.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::{Event, F, History, Kind, Process, Value};

/// What the database keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Everything at one instant.
    Serial,
    /// Updates at one instant, other transactions on an old snapshot.
    StaleReads,
    /// Reads of a snapshot taken after the invocation, first committer wins.
    Snapshot,
    /// Reads of what is committed, writes under locks.
    ReadCommitted,
    /// Reads of whatever is there, writes under locks, taken back on abort.
    ReadUncommitted,
    /// Writes at once, without locks.
    Dirty,
    /// Locks, but what is aborted stays.
    NoRollback,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) isolation: Isolation,
    pub(super) lists: bool,
    pub(super) txns: usize,
    pub(super) clients: usize,
    pub(super) keys: usize,
    pub(super) mops: usize,
    /// Of 100 transactions, how many are not answered.
    pub(super) unanswered: u32,
    /// Of 100, how many the clients abort.
    pub(super) aborted: u32,
    /// Of 100 reads, how many show something wrong.
    pub(super) corrupted: u32,
}

type Store = BTreeMap<usize, Vec<i64>>;

struct Open {
    mops: Vec<(usize, Option<i64>, Vec<i64>)>,
    next: usize,
    snapshot: Store,
    written: Store,
    undo: Vec<(usize, i64)>,
    failed: bool,
    committed: bool,
}

pub(super) struct Database {
    options: Options,
    rng: SmallRng,
    committed: Store,
    old: Vec<Store>,
    /// With the writes of open transactions, where they are made at once.
    dirty: Store,
    locks: BTreeMap<usize, usize>,
    clients: Vec<Option<Open>>,
    processes: Vec<u64>,
    next_value: i64,
    events: Vec<Event>,
}

pub(super) fn run(options: Options, seed: u64) -> History {
    let mut database = Database {
        options,
        rng: SmallRng::seed_from_u64(seed),
        committed: Store::new(),
        old: vec![Store::new()],
        dirty: Store::new(),
        locks: BTreeMap::new(),
        clients: (0..options.clients).map(|_| None).collect(),
        processes: (0..options.clients as u64).collect(),
        next_value: 0,
        events: Vec::new(),
    };
    let mut begun = 0;
    while begun < options.txns || database.clients.iter().any(Option::is_some) {
        let client = database.rng.random_range(0..options.clients);
        if database.clients[client].is_some() {
            database.step(client);
        } else if begun < options.txns {
            begun += 1;
            database.begin(client);
        }
    }
    History {
        events: database.events,
    }
}

impl Database {
    fn event(&mut self, client: usize, kind: Kind, value: Value) {
        let index = self.events.len() as u64;
        let process = Process::Client(self.processes[client]);
        let f = F::Other("txn".into());
        self.events
            .push(Event::new(index, index * 1_000, process, kind, f, value));
    }

    fn in_words(&self, mops: &[(usize, Option<i64>, Vec<i64>)], shown: bool) -> Value {
        let write = if self.options.lists { "append" } else { "w" };
        let mop = |(key, value, list): &(usize, Option<i64>, Vec<i64>)| {
            let key = Value::Int(*key as i64);
            let items = match value {
                Some(value) => [Value::Keyword(write.into()), key, Value::Int(*value)],
                None => {
                    let list = match list.last() {
                        _ if !shown => Value::Nil,
                        last if !self.options.lists => last.map_or(Value::Nil, |&v| v.into()),
                        _ => list.iter().copied().map(Value::Int).collect(),
                    };
                    [Value::Keyword("r".into()), key, list]
                }
            };
            items.into_iter().collect()
        };
        mops.iter().map(mop).collect()
    }

    fn begin(&mut self, client: usize) {
        let n = self.rng.random_range(1..=self.options.mops);
        let mut mops = Vec::new();
        for _ in 0..n {
            let key = self.rng.random_range(0..self.options.keys);
            let value = self.rng.random_bool(0.5).then(|| {
                self.next_value += 1;
                self.next_value
            });
            mops.push((key, value, Vec::new()));
        }
        let value = self.in_words(&mops, false);
        self.event(client, Kind::Invoke, value);
        self.clients[client] = Some(Open {
            mops,
            next: 0,
            snapshot: Store::new(),
            written: Store::new(),
            undo: Vec::new(),
            failed: false,
            committed: false,
        });
    }

    fn step(&mut self, client: usize) {
        let Some(mut open) = self.clients[client].take() else {
            return;
        };
        if open.committed || open.failed {
            self.end(client, &open);
            return;
        }
        if open.next == 0 {
            open.snapshot = self.committed.clone();
            if self.options.isolation == Isolation::StaleReads
                && open.mops.iter().all(|mop| mop.1.is_none())
            {
                let back = self.rng.random_range(0..self.old.len());
                open.snapshot = self.old[back].clone();
            }
        }
        let at_once = matches!(
            self.options.isolation,
            Isolation::Serial | Isolation::StaleReads
        );
        let until = if at_once {
            open.mops.len()
        } else {
            open.next + 1
        };
        while open.next < until && !open.failed {
            self.mop(client, &mut open);
            open.next += 1;
        }
        if open.failed || open.next == open.mops.len() {
            self.commit(client, &mut open);
        }
        self.clients[client] = Some(open);
    }

    fn mop(&mut self, client: usize, open: &mut Open) {
        use Isolation::{Dirty, NoRollback, ReadCommitted, ReadUncommitted};
        let (key, value, _) = open.mops[open.next].clone();
        let level = self.options.isolation;
        let in_place = matches!(level, ReadUncommitted | Dirty | NoRollback);
        let Some(value) = value else {
            let base = match level {
                _ if in_place => &self.dirty,
                ReadCommitted => &self.committed,
                _ => &open.snapshot,
            };
            let mut list = base.get(&key).cloned().unwrap_or_default();
            if !in_place {
                list.extend(open.written.get(&key).into_iter().flatten());
            }
            open.mops[open.next].2 = self.maybe_corrupted(list);
            return;
        };
        if matches!(level, ReadCommitted | ReadUncommitted | NoRollback) {
            let holder = *self.locks.entry(key).or_insert(client);
            if holder != client {
                open.failed = true;
                return;
            }
        }
        if in_place {
            self.dirty.entry(key).or_default().push(value);
            open.undo.push((key, value));
        } else {
            open.written.entry(key).or_default().push(value);
        }
    }

    fn maybe_corrupted(&mut self, mut list: Vec<i64>) -> Vec<i64> {
        if self.rng.random_range(0..100) >= self.options.corrupted {
            return list;
        }
        match self.rng.random_range(0..5) {
            0 => drop(list.pop()),
            1 => list.reverse(),
            2 => list.clear(),
            3 => list.extend(list.first().copied()),
            _ => list.push(self.next_value),
        }
        list
    }

    fn commit(&mut self, client: usize, open: &mut Open) {
        open.failed |= self.rng.random_range(0..100) < self.options.aborted;
        if self.options.isolation == Isolation::Snapshot {
            let changed = |key: &usize| self.committed.get(key) != open.snapshot.get(key);
            open.failed |= open.written.keys().any(changed);
        }
        self.locks.retain(|_, holder| *holder != client);
        if open.failed {
            if self.options.isolation != Isolation::NoRollback {
                for (key, value) in &open.undo {
                    self.dirty.entry(*key).or_default().retain(|v| v != value);
                }
            }
            return;
        }
        for (key, values) in &open.written {
            self.committed.entry(*key).or_default().extend(values);
        }
        if self.options.isolation == Isolation::StaleReads {
            self.old.push(self.committed.clone());
        }
        open.committed = true;
    }

    fn end(&mut self, client: usize, open: &Open) {
        let kind = if self.rng.random_range(0..100) < self.options.unanswered {
            Kind::Info
        } else if open.failed {
            Kind::Fail
        } else {
            Kind::Ok
        };
        let value = self.in_words(&open.mops, kind == Kind::Ok);
        self.event(client, kind, value);
        if kind == Kind::Info {
            self.processes[client] += self.options.clients as u64;
        }
    }
}
