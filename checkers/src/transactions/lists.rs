//! What transactions on lists that only grow say of each other.
//!
//! A read shows every element that was appended before it, in order. So all reads of a key are
//! prefixes of the longest, which is its version order as far as anybody saw it; and whatever was
//! appended by a transaction that was committed and is not in it, came later. From this follow the
//! dependencies: who appended right after whom (ww), who appended the last element that a read
//! shows (wr), and who appended the first that it does not show (rw). Of the elements never seen
//! only their place after the others is known: each of them follows the last one seen, and what
//! read that far did not see any of them.
//!
//! What failed is in no order. What may have failed counts if any of it was seen: then all of it was
//! committed. A key with elements
//! appended more than once says nothing: who appended what a read shows is not known. One whose
//! reads contradict each other has no order either; it only shows who saw whose append.
//!
//! All passes are linear in the micro-operations and the elements of all reads.

use super::encode::{Mop, Shown, Transactions, Txn};
use super::findings::{Explain, Findings, quoted, shown_in_words};
use super::graph::{Builder, Kind};
use super::models::Phenomenon;
use crate::Outcome;

const NONE: u32 = u32::MAX;
/// Of an element that was appended more than once.
const SEVERAL: u32 = u32::MAX - 1;

/// What is known of the order of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// All reads fit together.
    Known,
    /// They do not.
    Contradictory,
    /// Elements were appended more than once, or shown more than once.
    Ambiguous,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    order: Order,
    /// The longest read, and who read it.
    longest: Shown,
    reader: u32,
    /// Its elements by committed transactions, in [`Lists::versions`].
    start: u32,
    len: u32,
    /// Transactions whose appends nobody saw, in [`Lists::unseen`].
    unseen: (u32, u32),
    /// Where those who read all of it lead to: an auxiliary node, or the only transaction.
    beyond: u32,
}

/// The analysis of a history of lists.
pub(crate) struct Lists<'t, 'a> {
    txns: &'t Transactions<'a>,
    /// By element: who appended it, [`NONE`] or [`SEVERAL`].
    writer: Vec<u32>,
    /// By element: whether its transaction appended to the key again afterwards.
    intermediate: Vec<bool>,
    /// By element: its position in the longest read of its key.
    position: Vec<u32>,
    /// By element of the longest read: how many of committed transactions there are up to it.
    rank: Vec<u32>,
    /// By transaction: whether it is known to have been committed.
    pub(crate) committed: Vec<bool>,
    keys: Vec<Key>,
    versions: Vec<u32>,
    /// Key and transaction of each append that nobody saw, sorted.
    unseen: Vec<(u32, u32)>,
}

impl<'t, 'a> Lists<'t, 'a> {
    /// Analyses a history and adds its dependencies to the graph.
    pub(crate) fn of(
        txns: &'t Transactions<'a>,
        builder: &mut Builder,
        findings: &mut Findings,
    ) -> Result<Self, String> {
        let values = txns.values.len();
        let mut lists = Self {
            txns,
            writer: vec![NONE; values],
            intermediate: vec![false; values],
            position: vec![NONE; values],
            rank: vec![NONE; values],
            committed: Vec::new(),
            keys: vec![
                Key {
                    order: Order::Known,
                    longest: Shown::Nil,
                    reader: NONE,
                    start: 0,
                    len: 0,
                    unseen: (0, 0),
                    beyond: NONE,
                };
                txns.keys.len()
            ],
            versions: Vec::new(),
            unseen: Vec::new(),
        };
        lists.writers(findings)?;
        lists.commits();
        lists.longest_reads(findings);
        lists.impossible_reads(findings);
        lists.version_orders(findings);
        lists.orders_within(findings);
        lists.unseen_appends();
        lists.link_versions(builder);
        lists.transactions(builder, findings);
        Ok(lists)
    }

    fn all(&self) -> impl Iterator<Item = (u32, &'t Txn)> + use<'t, 'a> {
        (0u32..).zip(&self.txns.txns)
    }

    fn outcome(&self, txn: u32) -> Outcome {
        self.txns.txns[txn as usize].outcome
    }

    /// Whose element it is, if that is one transaction.
    fn writer_of(&self, element: u32) -> Option<u32> {
        let writer = self.writer[element as usize];
        (writer < SEVERAL).then_some(writer)
    }

    fn name(&self, key: u32) -> &'a crate::Value {
        self.txns.keys[key as usize]
    }

    fn value(&self, element: u32) -> &'a crate::Value {
        self.txns.values[element as usize]
    }

    fn quoted(&self, txn: u32) -> String {
        quoted(self.txns, txn)
    }

    /// Who appended what.
    fn writers(&mut self, findings: &mut Findings) -> Result<(), String> {
        // By key: the last transaction that appended, and its element.
        let mut last = vec![(NONE, NONE); self.keys.len()];
        let mut ambiguous = 0u64;
        let mut example = None;
        for (at, txn) in self.all() {
            for &mop in self.txns.mops_of(txn) {
                match mop {
                    Mop::Append { key, value } => {
                        let writer = &mut self.writer[value as usize];
                        if *writer == NONE {
                            *writer = at;
                        } else {
                            *writer = SEVERAL;
                            let order = &mut self.keys[key as usize].order;
                            ambiguous += u64::from(*order == Order::Known);
                            *order = Order::Ambiguous;
                            example.get_or_insert((key, value));
                        }
                        let (before, element) = last[key as usize];
                        if before == at {
                            self.intermediate[element as usize] = true;
                        }
                        last[key as usize] = (at, value);
                    }
                    Mop::Write { .. } if txn.outcome != Outcome::Fail => {
                        let index = self.txns.index(txn);
                        return Err(format!("function-outside-the-model: `w` at event {index}"));
                    }
                    _ => {}
                }
            }
        }
        if let Some((key, value)) = example {
            let (key, value) = (self.name(key), self.value(value));
            findings.reasons.push(format!(
                "repeated-appends: on {ambiguous} keys, of which nothing can be said; \
                 {value} was appended to {key} more than once"
            ));
        }
        Ok(())
    }

    /// Which transactions are known to have been committed: those that said so, and those of whose
    /// appends one was seen.
    fn commits(&mut self) {
        let ok = |txn: &Txn| txn.outcome == Outcome::Ok;
        self.committed = self.txns.txns.iter().map(ok).collect();
        for &element in &self.txns.elements {
            if let Some(writer) = self.writer_of(element)
                && self.outcome(writer) == Outcome::Info
            {
                self.committed[writer as usize] = true;
            }
        }
    }

    /// Reads of lists that are not empty.
    fn reads(&self) -> impl Iterator<Item = (u32, u32, Shown)> + use<'t, 'a> {
        let txns = self.txns;
        self.all().flat_map(move |(at, txn)| {
            txns.mops_of(txn).iter().filter_map(move |&mop| match mop {
                Mop::Read {
                    key,
                    shown: shown @ Shown::List { .. },
                } => Some((at, key, shown)),
                _ => None,
            })
        })
    }

    /// Finds the longest read of each key, and those that contradict it.
    fn longest_reads(&mut self, findings: &mut Findings) {
        let mut seen_by = vec![NONE; self.txns.values.len()];
        for (number, (at, key, shown)) in (0u32..).zip(self.reads()) {
            let k = self.keys[key as usize];
            let (list, longest) = (self.txns.list(shown), self.txns.list(k.longest));
            let common = list.len().min(longest.len());
            let fits = list[..common] == longest[..common];
            if fits && list.len() <= longest.len() {
                continue;
            }
            let twice = list.iter().copied().find(|&element| {
                std::mem::replace(&mut seen_by[element as usize], number) == number
            });
            if let Some(element) = twice {
                self.keys[key as usize].order = Order::Ambiguous;
                if self.writer[element as usize] != SEVERAL {
                    findings.add(Phenomenon::DuplicateElements, key, &[at], || {
                        let (name, value) = (self.name(key), self.value(element));
                        let (quoted, shown) = (self.quoted(at), shown_in_words(self.txns, shown));
                        format!(
                            "T1 = {quoted} read {name} = {shown}, with {value} in it more than \
                             once, though it was appended once at most"
                        )
                    });
                }
            } else if !fits {
                if k.order == Order::Ambiguous {
                    continue;
                }
                self.keys[key as usize].order = Order::Contradictory;
                findings.add(Phenomenon::IncompatibleOrder, key, &[k.reader, at], || {
                    let name = self.name(key);
                    let (a, b) = (self.quoted(k.reader), self.quoted(at));
                    let (one, other) = (
                        shown_in_words(self.txns, k.longest),
                        shown_in_words(self.txns, shown),
                    );
                    format!(
                        "T1 = {a} read {name} = {one}, and T2 = {b} read {name} = {other}: \
                         neither continues the other, but elements are only ever appended"
                    )
                });
            } else {
                let k = &mut self.keys[key as usize];
                (k.longest, k.reader) = (shown, at);
            }
        }
    }

    /// Reads of elements that nobody appended, or a failed transaction did: each element once.
    fn impossible_reads(&mut self, findings: &mut Findings) {
        let bad = |element: u32| match self.writer[element as usize] {
            NONE => Some(Phenomenon::GarbageRead),
            SEVERAL => None,
            writer if self.outcome(writer) == Outcome::Fail => Some(Phenomenon::G1a),
            _ => None,
        };
        if !self.txns.elements.iter().any(|&e| bad(e).is_some()) {
            return;
        }
        let mut told = vec![false; self.txns.values.len()];
        for (at, key, shown) in self.reads() {
            for &element in self.txns.list(shown) {
                let Some(phenomenon) = bad(element) else {
                    continue;
                };
                if std::mem::replace(&mut told[element as usize], true) {
                    continue;
                }
                let (name, value) = (self.name(key), self.value(element));
                let reader = || {
                    let shown = shown_in_words(self.txns, shown);
                    format!("T1 = {} read {name} = {shown}", self.quoted(at))
                };
                match self.writer_of(element) {
                    Some(writer) => findings.add(phenomenon, key, &[writer, at], || {
                        let (reader, writer) = (reader(), self.quoted(writer));
                        format!("{reader}, but {value} was appended by T2 = {writer}, which failed")
                    }),
                    None => findings.add(phenomenon, key, &[at], || {
                        format!("{}, but nobody ever appended {value}", reader())
                    }),
                }
            }
        }
    }

    /// From longest reads to the versions of committed transactions.
    fn version_orders(&mut self, findings: &mut Findings) {
        for key in 0..self.keys.len() {
            let k = self.keys[key];
            let start = self.versions.len() as u32;
            let mut failed = None;
            for (position, &element) in (0u32..).zip(self.txns.list(k.longest)) {
                self.position[element as usize] = position;
                if let Some(writer) = self.writer_of(element) {
                    if self.committed[writer as usize] {
                        if let Some((element, writer)) = failed.take() {
                            self.dirty_update(findings, key as u32, element, writer, position);
                        }
                        self.versions.push(element);
                    } else if failed.is_none() {
                        failed = Some((element, writer));
                    }
                }
                self.rank[element as usize] = self.versions.len() as u32 - start;
            }
            let k = &mut self.keys[key];
            (k.start, k.len) = (start, self.versions.len() as u32 - start);
        }
    }

    fn dirty_update(
        &self,
        findings: &mut Findings,
        key: u32,
        failed: u32,
        writer: u32,
        position: u32,
    ) {
        let k = self.keys[key as usize];
        let next = self.txns.list(k.longest)[position as usize];
        let Some(after) = self.writer_of(next) else {
            return;
        };
        findings.add(
            Phenomenon::DirtyUpdate,
            key,
            &[writer, after, k.reader],
            || {
                let (name, value, next) = (self.name(key), self.value(failed), self.value(next));
                let (a, b) = (self.quoted(writer), self.quoted(after));
                let c = self.quoted(k.reader);
                format!(
                    "T1 = {a} failed, but its append of {value} to {name} stayed: T2 = {b} was \
                 committed with {next} after it, as T3 = {c} read"
                )
            },
        );
    }

    /// Appends of one transaction to a key that stand in another order than it made them.
    fn orders_within(&self, findings: &mut Findings) {
        let mut last = vec![(NONE, NONE); self.keys.len()];
        for (at, txn) in self.all() {
            for &mop in self.txns.mops_of(txn) {
                let Mop::Append { key, value } = mop else {
                    continue;
                };
                let (before, earlier) = std::mem::replace(&mut last[key as usize], (at, value));
                let k = &self.keys[key as usize];
                if before != at || k.order != Order::Known {
                    continue;
                }
                let position = |element: u32| self.position[element as usize];
                // What was not seen has the greatest position.
                if position(value) == NONE || position(earlier) < position(value) {
                    continue;
                }
                findings.add(Phenomenon::IncompatibleOrder, key, &[at, k.reader], || {
                    let (name, shown) = (self.name(key), shown_in_words(self.txns, k.longest));
                    let (a, b) = (self.quoted(at), self.quoted(k.reader));
                    let (earlier, value) = (self.value(earlier), self.value(value));
                    format!(
                        "T1 = {a} appended {earlier} and then {value} to {name}, but T2 = {b} \
                         read {name} = {shown}"
                    )
                });
            }
        }
    }

    /// The appends that were committed but no read shows.
    fn unseen_appends(&mut self) {
        for (at, txn) in self.all() {
            if !self.committed[at as usize] {
                continue;
            }
            for &mop in self.txns.mops_of(txn) {
                if let Mop::Append { key, value } = mop
                    && self.position[value as usize] == NONE
                    && self.keys[key as usize].order == Order::Known
                {
                    self.unseen.push((key, at));
                }
            }
        }
        self.unseen.sort_unstable();
        self.unseen.dedup();
        let mut at = 0;
        for group in self.unseen.chunk_by(|a, b| a.0 == b.0) {
            let end = at + group.len() as u32;
            self.keys[group[0].0 as usize].unseen = (at, end);
            at = end;
        }
    }

    fn unseen_of(&self, key: &Key) -> &[(u32, u32)] {
        &self.unseen[key.unseen.0 as usize..key.unseen.1 as usize]
    }

    fn versions_of(&self, key: &Key) -> &[u32] {
        &self.versions[key.start as usize..(key.start + key.len) as usize]
    }

    fn link_versions(&mut self, builder: &mut Builder) {
        for at in 0..self.keys.len() {
            let key = self.keys[at];
            if key.order != Order::Known {
                continue;
            }
            let mut before = None;
            for &version in self.versions_of(&key) {
                let Some(writer) = self.writer_of(version) else {
                    continue;
                };
                if let Some(before) = before {
                    builder.add(before, writer, Kind::Ww);
                }
                before = Some(writer);
            }
            let beyond = match self.unseen_of(&key) {
                [] => NONE,
                [(_, only)] => *only,
                _ => builder.auxiliary(),
            };
            for &(_, txn) in self.unseen_of(&key) {
                if let Some(before) = before {
                    builder.add(before, txn, Kind::Ww);
                }
                builder.add(beyond, txn, Kind::On);
            }
            self.keys[at].beyond = beyond;
        }
    }

    /// What each transaction saw, within itself and of others.
    fn transactions(&mut self, builder: &mut Builder, findings: &mut Findings) {
        let mut within: Vec<Within> = vec![Within::default(); self.keys.len()];
        // Version read and who replaced it; nil of a key counts as a version after all others.
        let mut replaced: Vec<(u32, u32)> = Vec::new();
        for (at, txn) in self.all() {
            if txn.outcome != Outcome::Ok {
                continue;
            }
            for &mop in self.txns.mops_of(txn) {
                let here = &mut within[mop.key() as usize];
                if here.txn != at {
                    here.begin(at);
                }
                match mop {
                    Mop::Append { key, value } => {
                        if let (false, Some(read)) = (here.appended, here.read) {
                            let nil = self.txns.values.len() as u32 + key;
                            let version = self.txns.list(read).last().copied().unwrap_or(nil);
                            if self.keys[key as usize].order == Order::Known {
                                replaced.push((version, at));
                            }
                        }
                        here.appended = true;
                        here.own.push(value);
                        if let Some(read) = here.read
                            && self.shows(key, read, value)
                        {
                            findings.add(Phenomenon::FutureRead, key, &[at], || {
                                let (name, value) = (self.name(key), self.value(value));
                                let shown = shown_in_words(self.txns, read);
                                format!(
                                    "T1 = {} read {name} = {shown} before it appended {value} itself",
                                    self.quoted(at)
                                )
                            });
                        }
                    }
                    Mop::Read { key, shown } => {
                        let list = self.txns.list(shown);
                        if let Some(expected) = self.contradicts(here, list) {
                            findings.add(Phenomenon::Internal, key, &[at], || {
                                let (name, shown) =
                                    (self.name(key), shown_in_words(self.txns, shown));
                                format!(
                                    "T1 = {} read {name} = {shown}, {expected}",
                                    self.quoted(at)
                                )
                            });
                        }
                        self.intermediate_read(at, key, shown, findings);
                        let again = here.read.is_some_and(|read| self.txns.list(read) == list);
                        let own = list.last().is_some_and(|&e| self.writer_of(e) == Some(at));
                        // What comes after its own append is said by the order of versions.
                        if !own && !again {
                            self.link_read(builder, at, key, list);
                        }
                        here.read = Some(shown);
                        here.own.clear();
                    }
                    Mop::Write { .. } => {}
                }
            }
        }
        self.lost_updates(replaced, findings);
    }

    /// Whether a read of a key shows an element.
    fn shows(&self, key: u32, read: Shown, element: u32) -> bool {
        let list = self.txns.list(read);
        if self.keys[key as usize].order == Order::Known {
            let position = self.position[element as usize];
            return position != NONE && (position as usize) < list.len();
        }
        list.contains(&element)
    }

    /// What a read should have shown after what its transaction had read and appended.
    fn contradicts(&self, here: &Within, list: &[u32]) -> Option<&'static str> {
        match here.read {
            None if list.ends_with(&here.own) => None,
            None => Some("which does not end with what it had appended before"),
            Some(read) => {
                let before = self.txns.list(read);
                let fits = list.len() == before.len() + here.own.len()
                    && list.starts_with(before)
                    && list.ends_with(&here.own);
                (!fits).then_some("which is not what it had read before and appended since")
            }
        }
    }

    fn intermediate_read(&self, at: u32, key: u32, shown: Shown, findings: &mut Findings) {
        let Some(&last) = self.txns.list(shown).last() else {
            return;
        };
        let Some(writer) = self.writer_of(last) else {
            return;
        };
        if self.intermediate[last as usize] && writer != at {
            findings.add(Phenomenon::G1b, key, &[writer, at], || {
                let (name, value) = (self.name(key), self.value(last));
                let shown = shown_in_words(self.txns, shown);
                format!(
                    "T1 = {} read {name} = {shown}, but {value} was not the last that T2 = {} \
                     appended to it",
                    self.quoted(at),
                    self.quoted(writer)
                )
            });
        }
    }

    /// How many versions of committed transactions a read of this shows.
    fn seen(&self, list: &[u32]) -> u32 {
        list.last().map_or(0, |&last| self.rank[last as usize])
    }

    fn link_read(&self, builder: &mut Builder, at: u32, key: u32, list: &[u32]) {
        let k = &self.keys[key as usize];
        match k.order {
            Order::Ambiguous => {}
            Order::Contradictory => {
                if let Some(writer) = list.last().and_then(|&last| self.writer_of(last))
                    && self.committed[writer as usize]
                {
                    builder.add(writer, at, Kind::Wr);
                }
            }
            Order::Known => {
                let (versions, seen) = (self.versions_of(k), self.seen(list) as usize);
                let writer = |i: usize| versions.get(i).and_then(|&v| self.writer_of(v));
                if let Some(writer) = seen.checked_sub(1).and_then(writer) {
                    builder.add(writer, at, Kind::Wr);
                }
                match writer(seen) {
                    Some(writer) => builder.add(at, writer, Kind::Rw),
                    None if k.beyond != NONE => builder.add(at, k.beyond, Kind::Rw),
                    None => {}
                }
            }
        }
    }

    /// Versions that several transactions read and then replaced.
    fn lost_updates(&self, mut replaced: Vec<(u32, u32)>, findings: &mut Findings) {
        replaced.sort_unstable();
        replaced.dedup();
        for group in replaced.chunk_by(|a, b| a.0 == b.0) {
            let [(version, first), (_, second), ..] = group else {
                continue;
            };
            let nil = self.txns.values.len() as u32;
            let mops = self.txns.mops_of(&self.txns.txns[*first as usize]);
            let read = |mop: &&Mop| match **mop {
                Mop::Read { key, shown } => {
                    let last = self.txns.list(shown).last().copied();
                    last.unwrap_or(nil + key) == *version
                }
                _ => false,
            };
            let Some(&Mop::Read { key, shown }) = mops.iter().find(read) else {
                continue;
            };
            let txns: Vec<u32> = group.iter().map(|g| g.1).take(100).collect();
            findings.add(Phenomenon::LostUpdate, key, &txns, || {
                let (name, n) = (self.name(key), group.len());
                let shown = shown_in_words(self.txns, shown);
                let (a, b) = (self.quoted(*first), self.quoted(*second));
                let more = match n {
                    2 => String::new(),
                    n => format!(", as did {} more", n - 2),
                };
                format!(
                    "T1 = {a} and T2 = {b} both read {name} = {shown} and then appended to \
                     it{more}: none of them saw the others' append"
                )
            });
        }
    }

    /// Of a transaction's appends to a key, one that nobody saw.
    fn unseen_append(&self, txn: u32, key: u32) -> Option<u32> {
        let mops = self.txns.mops_of(&self.txns.txns[txn as usize]);
        mops.iter().find_map(|&mop| match mop {
            Mop::Append { key: k, value } if k == key && self.position[value as usize] == NONE => {
                Some(value)
            }
            _ => None,
        })
    }
}

/// What a transaction knows of a key.
#[derive(Clone, Debug)]
struct Within {
    txn: u32,
    /// What it read last.
    read: Option<Shown>,
    /// What it has appended since.
    own: Vec<u32>,
    /// Whether it has appended at all.
    appended: bool,
}

impl Default for Within {
    fn default() -> Self {
        Self {
            txn: NONE,
            read: None,
            own: Vec::new(),
            appended: false,
        }
    }
}

impl Within {
    fn begin(&mut self, txn: u32) {
        self.txn = txn;
        self.read = None;
        self.own.clear();
        self.appended = false;
    }
}

impl Explain for Lists<'_, '_> {
    fn explain(&self, a: u32, b: u32, kind: Kind, names: [&str; 2]) -> Option<String> {
        let [first, second] = names;
        let mops = |txn: u32| self.txns.mops_of(&self.txns.txns[txn as usize]).iter();
        let by = |element: Option<&u32>, txn: u32| {
            element.copied().filter(|&e| self.writer_of(e) == Some(txn))
        };
        match kind {
            Kind::Ww => mops(a).find_map(|&mop| {
                let Mop::Append { key, value } = mop else {
                    return None;
                };
                let k = &self.keys[key as usize];
                let (name, before) = (self.name(key), self.value(value));
                let place = self.rank[value as usize];
                if k.order != Order::Known || place == NONE {
                    return None;
                }
                let versions = self.versions_of(k);
                if let Some(next) = by(versions.get(place as usize), b) {
                    let next = self.value(next);
                    return Some(format!(
                        "{second} appended {next} to {name} right after {first}'s {before}"
                    ));
                }
                let next = self.unseen_append(b, key)?;
                (place == k.len).then(|| {
                    let next = self.value(next);
                    format!(
                        "{second}'s append of {next} to {name} came after {first}'s {before}, the \
                         last element that any read showed"
                    )
                })
            }),
            Kind::Wr => mops(b).find_map(|&mop| {
                let Mop::Read { key, shown } = mop else {
                    return None;
                };
                let k = &self.keys[key as usize];
                let list = self.txns.list(shown);
                let element = match k.order {
                    Order::Known => {
                        let seen = self.seen(list).checked_sub(1)?;
                        by(self.versions_of(k).get(seen as usize), a)
                    }
                    Order::Contradictory => by(list.last(), a),
                    Order::Ambiguous => None,
                }?;
                let (name, value) = (self.name(key), self.value(element));
                Some(format!(
                    "{second} observed {first}'s append of {value} to {name}"
                ))
            }),
            Kind::Rw => mops(a).find_map(|&mop| {
                let Mop::Read { key, shown } = mop else {
                    return None;
                };
                let k = &self.keys[key as usize];
                if k.order != Order::Known || shown == Shown::Unknown {
                    return None;
                }
                let (versions, seen) = (self.versions_of(k), self.seen(self.txns.list(shown)));
                let next = match versions.get(seen as usize) {
                    next @ Some(_) => by(next, b),
                    None => self.unseen_append(b, key),
                }?;
                let (name, value) = (self.name(key), self.value(next));
                let shown = shown_in_words(self.txns, shown);
                Some(format!(
                    "{first} read {name} = {shown} and did not observe {second}'s append of {value}"
                ))
            }),
            _ => None,
        }
    }
}
