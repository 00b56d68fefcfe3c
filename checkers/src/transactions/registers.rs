//! What transactions on registers say of each other.
//!
//! If every value is written once, who wrote what a read shows is known (wr). The order in which
//! values replaced each other is not, save for this much:
//!
//! * The initial state, `nil`, comes before every value.
//! * A transaction that read one value and then wrote another replaced it, at once or later. (So in
//!   every model from read committed on: what was read was there before. That it was overwritten
//!   is drawn as rw from its other readers; as ww it would say nothing that wr does not.)
//! * If keys are taken to be sequentially consistent each for itself: a process sees the versions of
//!   a key in their order.
//! * If they are taken to be linearizable: what completed before something else was invoked saw a
//!   version not later than that one.
//!
//! The last two are assumptions that the user makes; where they contradict each other or the first
//! two, the key has `cyclic-versions` and they are not used for it.
//!
//! A value that nobody is recorded to have written says nothing, as long as it can be what the
//! register held before the record began: there is one such value of the key, and nobody read
//! `nil`. Otherwise it is a `garbage-read`. Keys of which a value was written twice, or `nil` was,
//! say nothing.
//!
//! All passes are linear but for sorting.

use super::encode::{Mop, Shown, Transactions, Txn};
use super::findings::{Explain, Findings, quoted};
use super::graph::{Builder, Kind, Kinds};
use super::models::Phenomenon;
use crate::{Outcome, Value};

const NONE: u32 = u32::MAX;
/// Of a value that was written more than once.
const SEVERAL: u32 = u32::MAX - 1;

/// What is taken for granted of the order of versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assumptions {
    pub(crate) sequential_keys: bool,
    pub(crate) linearizable_keys: bool,
}

/// A transaction that touched a key, seen from outside: the version it first met and the one it
/// left. Versions are values by number; after them, for each key, `nil`.
#[derive(Clone, Copy, Debug)]
struct Touch {
    txn: u32,
    key: u32,
    met: u32,
    left: u32,
}

/// The analysis of a history of registers.
pub(crate) struct Registers<'t, 'a> {
    txns: &'t Transactions<'a>,
    /// By value: who wrote it, [`NONE`] or [`SEVERAL`].
    writer: Vec<u32>,
    /// By value: whether its transaction overwrote it itself.
    intermediate: Vec<bool>,
    /// By transaction: whether it is known to have been committed.
    pub(crate) committed: Vec<bool>,
    /// By key: whether nothing can be said of it.
    ambiguous: Vec<bool>,
    /// Reads of versions of others, as version and transaction, sorted.
    readers: Vec<(u32, u32)>,
    /// What transactions left, as key and transaction, sorted.
    writers: Vec<(u32, u32)>,
    touches: Vec<Touch>,
    assumptions: Assumptions,
    /// How many values were read that nobody wrote.
    pub(crate) unwritten: u64,
}

impl<'t, 'a> Registers<'t, 'a> {
    /// Analyses a history and adds its dependencies to the graph.
    pub(crate) fn of(
        txns: &'t Transactions<'a>,
        assumptions: Assumptions,
        builder: &mut Builder,
        findings: &mut Findings,
    ) -> Result<Self, String> {
        let values = txns.values.len();
        let mut registers = Self {
            txns,
            writer: vec![NONE; values],
            intermediate: vec![false; values],
            committed: Vec::new(),
            ambiguous: vec![false; txns.keys.len()],
            readers: Vec::new(),
            writers: Vec::new(),
            touches: Vec::new(),
            assumptions,
            unwritten: 0,
        };
        registers.find_writers(findings)?;
        registers.find_commits();
        registers.impossible_reads(findings);
        registers.transactions(builder, findings);
        registers.link_initial(builder);
        registers.link_replaced(builder, findings);
        registers.link_assumed(builder, findings);
        Ok(registers)
    }

    fn all(&self) -> impl Iterator<Item = (u32, &'t Txn)> + use<'t, 'a> {
        (0u32..).zip(&self.txns.txns)
    }

    fn outcome(&self, txn: u32) -> Outcome {
        self.txns.txns[txn as usize].outcome
    }

    /// The version `nil` of a key.
    fn nil(&self, key: u32) -> u32 {
        self.writer.len() as u32 + key
    }

    fn version(&self, key: u32, shown: Shown) -> Option<u32> {
        match shown {
            Shown::Nil => Some(self.nil(key)),
            Shown::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Who wrote a version, if that is one transaction.
    fn writer_of(&self, version: u32) -> Option<u32> {
        self.writer
            .get(version as usize)
            .copied()
            .filter(|&writer| writer < SEVERAL)
    }

    fn name(&self, key: u32) -> &'a Value {
        self.txns.keys[key as usize]
    }

    fn value(&self, version: u32) -> &'a Value {
        const NIL: &Value = &Value::Nil;
        self.txns
            .values
            .get(version as usize)
            .copied()
            .unwrap_or(NIL)
    }

    fn quoted(&self, txn: u32) -> String {
        quoted(self.txns, txn)
    }

    fn find_writers(&mut self, findings: &mut Findings) -> Result<(), String> {
        let mut last = vec![(NONE, NONE); self.ambiguous.len()];
        let mut example = None;
        for (at, txn) in self.all() {
            for &mop in self.txns.mops_of(txn) {
                match mop {
                    Mop::Write { key, value } => {
                        let writer = &mut self.writer[value as usize];
                        let nil = self.txns.values[value as usize].is_nil();
                        if *writer == NONE && !nil {
                            *writer = at;
                        } else {
                            *writer = SEVERAL;
                            self.ambiguous[key as usize] = true;
                            example.get_or_insert((key, value));
                        }
                        let (before, earlier) = last[key as usize];
                        if before == at {
                            self.intermediate[earlier as usize] = true;
                        }
                        last[key as usize] = (at, value);
                    }
                    Mop::Append { .. } if txn.outcome != Outcome::Fail => {
                        let index = self.txns.index(txn);
                        let what = "function-outside-the-model: `append`";
                        return Err(format!("{what} at event {index}"));
                    }
                    _ => {}
                }
            }
        }
        if let Some((key, value)) = example {
            let keys = self.ambiguous.iter().filter(|&&a| a).count();
            let (key, value) = (self.name(key), self.value(value));
            let twice = if value.is_nil() {
                ""
            } else {
                " more than once"
            };
            findings.reasons.push(format!(
                "repeated-writes: on {keys} keys, of which nothing can be said; {value} was \
                 written to {key}{twice}"
            ));
        }
        Ok(())
    }

    fn find_commits(&mut self) {
        let ok = |txn: &Txn| txn.outcome == Outcome::Ok;
        self.committed = self.txns.txns.iter().map(ok).collect();
        for &mop in &self.txns.mops {
            if let Mop::Read {
                shown: Shown::Value(value),
                ..
            } = mop
                && let Some(writer) = self.writer_of(value)
                && self.outcome(writer) == Outcome::Info
            {
                self.committed[writer as usize] = true;
            }
        }
    }

    /// Reads of values that nobody wrote, or a failed transaction did: each value once.
    fn impossible_reads(&mut self, findings: &mut Findings) {
        let mut told = vec![false; self.writer.len()];
        // By key, the version that it must have held before the record began.
        let mut initial = vec![(NONE, NONE); self.ambiguous.len()];
        for (at, txn) in self.all() {
            for &mop in self.txns.mops_of(txn) {
                let Mop::Read { key, shown } = mop else {
                    continue;
                };
                let Some(version) = self.version(key, shown) else {
                    continue;
                };
                let nil = version == self.nil(key);
                let again = told.get_mut(version as usize);
                if again.is_some_and(|told| std::mem::replace(told, true)) {
                    continue;
                }
                let (name, value) = (self.name(key), self.value(version));
                if nil || self.writer[version as usize] == NONE {
                    self.unwritten += u64::from(!nil);
                    let (other, reader) = initial[key as usize];
                    if other == NONE || self.ambiguous[key as usize] {
                        initial[key as usize] = (version, at);
                    } else if other != version {
                        let both = [reader, at];
                        findings.add(Phenomenon::GarbageRead, key, &both, || {
                            let other = self.value(other);
                            let (a, b) = (self.quoted(reader), self.quoted(at));
                            format!(
                                "T1 = {a} read {name} = {other}, and T2 = {b} read {name} = \
                                 {value}: nobody wrote either, and it can have held only one of \
                                 them to begin with"
                            )
                        });
                    }
                } else if let Some(writer) = self.writer_of(version)
                    && self.outcome(writer) == Outcome::Fail
                {
                    findings.add(Phenomenon::G1a, key, &[writer, at], || {
                        let (a, b) = (self.quoted(at), self.quoted(writer));
                        format!("T1 = {a} read {name} = {value}, written by T2 = {b}, which failed")
                    });
                }
            }
        }
    }

    /// What each transaction saw, within itself and of others.
    fn transactions(&mut self, builder: &mut Builder, findings: &mut Findings) {
        let mut within = vec![Within::default(); self.ambiguous.len()];
        let mut touched: Vec<u32> = Vec::new();
        for (at, txn) in self.all() {
            if !self.committed[at as usize] {
                continue;
            }
            touched.clear();
            for &mop in self.txns.mops_of(txn) {
                let here = &mut within[mop.key() as usize];
                if here.txn != at {
                    *here = Within {
                        txn: at,
                        ..Within::default()
                    };
                    touched.push(mop.key());
                }
                match mop {
                    Mop::Write { key, value } => {
                        if here.read == value && self.writer_of(value) == Some(at) {
                            findings.add(Phenomenon::FutureRead, key, &[at], || {
                                let (name, value) = (self.name(key), self.value(value));
                                let quoted = self.quoted(at);
                                format!("T1 = {quoted} read {name} = {value} before it wrote it")
                            });
                        }
                        let nil = self.value(value).is_nil();
                        here.holds = if nil { self.nil(key) } else { value };
                        here.wrote = value;
                    }
                    Mop::Read { key, shown } => {
                        let Some(version) = self.version(key, shown) else {
                            continue;
                        };
                        if here.holds == NONE {
                            here.read = version;
                        } else if here.holds != version {
                            let expected = here.holds;
                            findings.add(Phenomenon::Internal, key, &[at], || {
                                let (name, value) = (self.name(key), self.value(version));
                                let (expected, quoted) = (self.value(expected), self.quoted(at));
                                format!(
                                    "T1 = {quoted} read {name} = {value}, though it had read or \
                                     written {expected} before"
                                )
                            });
                        }
                        here.holds = version;
                        self.intermediate_read(at, key, version, findings);
                    }
                    Mop::Append { .. } => {}
                }
            }
            for &key in &touched {
                let here = &within[key as usize];
                let (met, left) = (
                    first_of(here.read, here.wrote),
                    first_of(here.wrote, here.read),
                );
                if self.ambiguous[key as usize] || met == NONE {
                    continue;
                }
                if here.read != NONE {
                    self.readers.push((here.read, at));
                    if let Some(writer) = self.writer_of(here.read)
                        && self.committed[writer as usize]
                    {
                        builder.add(writer, at, Kind::Wr);
                    }
                }
                if here.wrote != NONE {
                    self.writers.push((key, at));
                }
                self.touches.push(Touch {
                    txn: at,
                    key,
                    met,
                    left,
                });
            }
        }
        self.readers.sort_unstable();
        self.writers.sort_unstable();
    }

    fn intermediate_read(&self, at: u32, key: u32, version: u32, findings: &mut Findings) {
        let Some(writer) = self.writer_of(version) else {
            return;
        };
        if self.intermediate[version as usize] && writer != at {
            findings.add(Phenomenon::G1b, key, &[writer, at], || {
                let (name, value) = (self.name(key), self.value(version));
                let (a, b) = (self.quoted(at), self.quoted(writer));
                format!("T1 = {a} read {name} = {value}, which T2 = {b} overwrote itself")
            });
        }
    }

    fn readers_of(&self, version: u32) -> &[(u32, u32)] {
        group(&self.readers, version)
    }

    /// What read `nil` came before all that wrote.
    fn link_initial(&self, builder: &mut Builder) {
        for writers in self.writers.chunk_by(|a, b| a.0 == b.0) {
            let readers = self.readers_of(self.nil(writers[0].0));
            let targets: Vec<u32> = writers.iter().map(|w| w.1).collect();
            link(builder, None, readers, &targets);
        }
    }

    /// What read a version came before what replaced it.
    fn link_replaced(&self, builder: &mut Builder, findings: &mut Findings) {
        let mut replaced: Vec<(u32, u32, u32)> = self
            .touches
            .iter()
            .filter(|t| t.met != t.left)
            .map(|t| (t.met, t.txn, t.key))
            .collect();
        replaced.sort_unstable();
        for group in replaced.chunk_by(|a, b| a.0 == b.0) {
            let (version, first, key) = group[0];
            let targets: Vec<u32> = group.iter().map(|g| g.1).collect();
            if version != self.nil(key) {
                link(builder, None, self.readers_of(version), &targets);
            }
            let [_, second, ..] = targets[..] else {
                continue;
            };
            let told = &targets[..targets.len().min(100)];
            findings.add(Phenomenon::LostUpdate, key, told, || {
                let (name, value) = (self.name(key), self.value(version));
                let (a, b) = (self.quoted(first), self.quoted(second));
                let more = match targets.len() {
                    2 => String::new(),
                    n => format!(", as did {} more", n - 2),
                };
                format!(
                    "T1 = {a} and T2 = {b} both read {name} = {value} and then overwrote it{more}: \
                     none of them saw the others' write"
                )
            });
        }
    }

    /// The orders of versions that the user takes for granted.
    fn link_assumed(&mut self, builder: &mut Builder, findings: &mut Findings) {
        let assumptions = self.assumptions;
        if assumptions == Assumptions::default() {
            return;
        }
        self.touches.sort_by_key(|t| (t.key, t.txn));
        let cyclic = self.cyclic_keys(findings);
        for touches in self.touches.chunk_by(|a, b| a.key == b.key) {
            if cyclic[touches[0].key as usize] {
                continue;
            }
            let mut order: Vec<(u32, u32)> = Vec::new();
            if assumptions.sequential_keys {
                self.by_process(touches, |from, to| order.push((from, to)));
            }
            order.sort_unstable();
            order.dedup();
            for group in order.chunk_by(|a, b| a.0 == b.0) {
                let writers = group.iter().filter_map(|&(_, to)| self.writer_of(to));
                self.link_version(builder, group[0].0, &writers.collect::<Vec<_>>());
            }
            if assumptions.linearizable_keys {
                self.link_linearizable(builder, touches);
            }
        }
    }

    fn link_version(&self, builder: &mut Builder, from: u32, targets: &[u32]) {
        link(
            builder,
            self.writer_of(from),
            self.readers_of(from),
            targets,
        );
    }

    /// Each version that a process left before it met another.
    fn by_process(&self, touches: &[Touch], mut add: impl FnMut(u32, u32)) {
        let mut last: rustc_hash::FxHashMap<u32, u32> = rustc_hash::FxHashMap::default();
        for touch in touches {
            let txn = &self.txns.txns[touch.txn as usize];
            if let Some(&before) = last.get(&txn.process)
                && before != touch.met
            {
                add(before, touch.met);
            }
            if txn.completed.is_some() {
                last.insert(txn.process, touch.left);
            }
        }
    }

    /// Keys of which the assumed orders contradict each other or what is known.
    fn cyclic_keys(&self, findings: &mut Findings) -> Vec<bool> {
        let assumptions = self.assumptions;
        let versions = self.writer.len() + self.ambiguous.len();
        let mut graph = Builder::new(versions as u32);
        for touches in self.touches.chunk_by(|a, b| a.key == b.key) {
            let nil = self.nil(touches[0].key);
            for touch in touches {
                graph.add(touch.met, touch.left, Kind::Ww);
                graph.add(nil, touch.met, Kind::Ww);
            }
            if assumptions.sequential_keys {
                self.by_process(touches, |from, to| graph.add(from, to, Kind::Ww));
            }
            if assumptions.linearizable_keys {
                let mut ends: Vec<(u32, u32)> = touches
                    .iter()
                    .filter_map(|t| Some((self.txns.txns[t.txn as usize].completed?, t.left)))
                    .collect();
                ends.sort_unstable();
                let mut ends = ends.into_iter().peekable();
                let mut barrier = graph.auxiliary();
                for touch in touches {
                    let began = self.txns.txns[touch.txn as usize].invoked;
                    while let Some((_, left)) = ends.next_if(|&(end, _)| end < began) {
                        let next = graph.auxiliary();
                        graph.add(barrier, next, Kind::On);
                        graph.add(left, next, Kind::Ww);
                        barrier = next;
                    }
                    graph.add(barrier, touch.met, Kind::On);
                }
            }
        }
        let graph = graph.build();
        let components = graph.components(Kinds::of(&[Kind::Ww]));
        let mut cyclic = vec![false; self.ambiguous.len()];
        for touch in &self.touches {
            let component = components.of(touch.met);
            if cyclic[touch.key as usize] || !components.is_cyclic(component) {
                continue;
            }
            cyclic[touch.key as usize] = true;
            let of_key = group_by(&self.touches, touch.key);
            let inside = of_key.iter().filter(|t| components.of(t.met) == component);
            let txns: Vec<u32> = inside.map(|t| t.txn).take(10).collect();
            findings.add(Phenomenon::CyclicVersions, touch.key, &txns, || {
                let name = self.name(touch.key);
                let quoted: Vec<String> = txns.iter().map(|&t| self.quoted(t)).collect();
                format!(
                    "the versions of {name} have no order in which a version never comes back: {}",
                    quoted.join(", ")
                )
            });
        }
        cyclic
    }

    /// One version comes before another if something left the first and completed before something
    /// was invoked that met the second. So all that counts of a version is when it was left first
    /// and met last. Versions in the order of the latter form a chain of auxiliary nodes; a version
    /// leads into it where it was left, and must not come back to itself: what is met between the
    /// two is linked one by one. As versions have an order, this was not left before: it was open
    /// at the last of the two moments, and of that there is as much as there are clients.
    fn link_linearizable(&self, builder: &mut Builder, touches: &[Touch]) {
        let mut left: rustc_hash::FxHashMap<u32, u32> = rustc_hash::FxHashMap::default();
        let mut met: rustc_hash::FxHashMap<u32, u32> = rustc_hash::FxHashMap::default();
        for touch in touches {
            let txn = &self.txns.txns[touch.txn as usize];
            let last = met.entry(touch.met).or_insert(txn.invoked);
            *last = txn.invoked.max(*last);
            if let Some(end) = txn.completed {
                let first = left.entry(touch.left).or_insert(end);
                *first = end.min(*first);
            }
        }
        let mut order: Vec<(u32, u32)> = met.into_iter().map(|(v, at)| (at, v)).collect();
        order.sort_unstable();
        let chain: Vec<u32> = order.iter().map(|_| builder.auxiliary()).collect();
        for (i, &(_, version)) in order.iter().enumerate() {
            if let Some(writer) = self.writer_of(version) {
                builder.add(chain[i], writer, Kind::On);
            }
            if let Some(&next) = chain.get(i + 1) {
                builder.add(chain[i], next, Kind::On);
            }
        }
        let mut left: Vec<(u32, u32)> = left.into_iter().collect();
        left.sort_unstable();
        for (version, end) in left {
            let from = order.partition_point(|&(at, _)| at < end);
            let own = order[from..].iter().position(|o| o.1 == version);
            let (between, after) = match own {
                Some(n) => (&order[from..from + n], from + n + 1),
                None => (&order[..0], from),
            };
            let mut targets: Vec<u32> = between
                .iter()
                .filter_map(|&(_, v)| self.writer_of(v))
                .collect();
            targets.extend(chain.get(after));
            self.link_version(builder, version, &targets);
        }
    }
}

/// Links who wrote a version, if that counts, and its readers to all that came after it.
fn link(builder: &mut Builder, writer: Option<u32>, readers: &[(u32, u32)], targets: &[u32]) {
    let target = match targets {
        [] => return,
        [only] => *only,
        _ => {
            let hub = builder.auxiliary();
            for &target in targets {
                builder.add(hub, target, Kind::On);
            }
            hub
        }
    };
    if let Some(writer) = writer {
        builder.add(writer, target, Kind::Ww);
    }
    for &(_, reader) in readers {
        builder.add(reader, target, Kind::Rw);
    }
}

/// The pairs that begin with this, of sorted ones.
fn group(pairs: &[(u32, u32)], first: u32) -> &[(u32, u32)] {
    let start = pairs.partition_point(|p| p.0 < first);
    let end = start + pairs[start..].partition_point(|p| p.0 == first);
    &pairs[start..end]
}

/// The touches of a key, of those sorted by key.
fn group_by(touches: &[Touch], key: u32) -> &[Touch] {
    let start = touches.partition_point(|t| t.key < key);
    let end = start + touches[start..].partition_point(|t| t.key == key);
    &touches[start..end]
}

fn first_of(a: u32, b: u32) -> u32 {
    if a == NONE { b } else { a }
}

/// What a transaction knows of a key.
#[derive(Clone, Copy, Debug)]
struct Within {
    txn: u32,
    /// The version of another that it read.
    read: u32,
    /// What it wrote last.
    wrote: u32,
    /// What it must read next.
    holds: u32,
}

impl Default for Within {
    fn default() -> Self {
        Self {
            txn: NONE,
            read: NONE,
            wrote: NONE,
            holds: NONE,
        }
    }
}

impl Explain for Registers<'_, '_> {
    fn explain(&self, a: u32, b: u32, kind: Kind, names: [&str; 2]) -> Option<String> {
        let [first, second] = names;
        let mops = |txn: u32| self.txns.mops_of(&self.txns.txns[txn as usize]).iter();
        let last_write = |txn: u32, of: u32| {
            mops(txn).rev().find_map(|&mop| match mop {
                Mop::Write { key, value } if key == of => Some(value),
                _ => None,
            })
        };
        let first_read = |txn: u32, of: u32| {
            let mop = mops(txn).find(|mop| mop.key() == of)?;
            match *mop {
                Mop::Read { key, shown } => self.version(key, shown),
                _ => None,
            }
        };
        match kind {
            Kind::Wr => mops(b).find_map(|mop| {
                let key = mop.key();
                let version = first_read(b, key)?;
                (self.writer_of(version) == Some(a)).then(|| {
                    let (name, value) = (self.name(key), self.value(version));
                    format!("{second} read {name} = {value}, which {first} wrote")
                })
            }),
            Kind::Rw => mops(a).find_map(|mop| {
                let key = mop.key();
                let version = first_read(a, key)?;
                let next = last_write(b, key)?;
                if version == next {
                    return None;
                }
                let (name, value, next) = (self.name(key), self.value(version), self.value(next));
                if version == self.nil(key) {
                    let before = format!("the state before {second} wrote {next}");
                    return Some(format!("{first} read {name} = nil, {before}"));
                }
                if first_read(b, key) == Some(version) {
                    let replaced = format!("which {second} replaced by {next}");
                    return Some(format!("{first} read {name} = {value}, {replaced}"));
                }
                (self.assumptions != Assumptions::default()).then(|| {
                    format!(
                        "{first} read {name} = {value}, and {second} wrote {next}, which came \
                         later in the order assumed of versions"
                    )
                })
            }),
            Kind::Ww if self.assumptions != Assumptions::default() => mops(a).find_map(|mop| {
                let key = mop.key();
                let (version, next) = (last_write(a, key)?, last_write(b, key)?);
                let (name, value, next) = (self.name(key), self.value(version), self.value(next));
                Some(format!(
                    "{first} wrote {name} = {value}, and {second} wrote {next}, which came later \
                     in the order assumed of versions"
                ))
            }),
            _ => None,
        }
    }
}
