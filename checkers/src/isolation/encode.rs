//! From transactions to an execution: whose value each read showed.
//!
//! Values are distinguishable: a value (of a list: an element) was written to its key by one
//! transaction only. Where two that may have taken effect wrote the same, nobody knows from whom a
//! read of it is: the read is left out, and an execution without violation is
//! `unknown(ambiguous-values)`. The same goes for reads that show several concurrent values of a
//! register (siblings).
//!
//! Failed transactions did not happen. One of unknown outcome happened if somebody read a value
//! that only it wrote, and is left out otherwise: nothing that is asked for needs it, and it can
//! only add to that. A session is a process, up to and with a transaction of unknown outcome.
//!
//! A read of a list is a read of its last element, save for the elements that the transaction had
//! appended itself. All reads of a list show prefixes of one list (or some of them showed what was
//! rolled back); the elements of the longest were appended in its order, and before those that it
//! does not show.
//!
//! What no level allows is found here: `thin-air-read` (nobody wrote it), `aborted-read` (of a
//! failed transaction, Adya's G1a), `intermediate-read` (the writer replaced it itself, G1b),
//! `future-read` (the transaction itself wrote it later), `internal` (it had itself written
//! another value), `incompatible-order`, `duplicate-elements` and `torn-append`
//! (what one transaction appended is not together and in its order) of lists.

use rustc_hash::FxHashMap;

use super::execution::{Builder, Execution, INITIAL, Read};
use super::explain;
use super::listed::Listed;
use crate::observe;
use crate::transactions::encode::{Mop, Shape, Shown, Transactions, Txn, shape_of};
use crate::{F, History, Outcome, Value};

const NONE: u32 = u32::MAX;

/// An execution, and what it was made from.
pub(crate) struct Encoded<'a> {
    pub(crate) txns: Transactions<'a>,
    pub(crate) execution: Execution,
    /// By transaction of the execution: its number in `txns`.
    pub(crate) source: Vec<u32>,
    pub(crate) shape: Shape,
    /// Whether each transaction is a single operation on one key.
    pub(crate) single: bool,
    /// What no level allows.
    pub(crate) listed: Listed,
    /// Why not everything could be judged.
    pub(crate) reasons: Vec<String>,
    /// Acknowledged transactions that read something.
    pub(crate) judged: u64,
}

/// Who wrote a value.
#[derive(Clone, Copy)]
struct Writer {
    txn: u32,
    /// How many further writes of the key its transaction did; none replaced the last one.
    left: u32,
    /// Whether it is the first write of the key by its transaction.
    first: bool,
    /// Whether others may have written it, too.
    shared: bool,
}

const NOBODY: Writer = Writer {
    txn: NONE,
    left: 0,
    first: false,
    shared: false,
};

/// What a read of a register showed.
#[derive(Clone, Copy)]
enum Source {
    Initial,
    /// This value, which was written.
    Written(u32),
    Nobody,
    Ambiguous,
    Siblings,
}

struct Encoder<'t, 'a> {
    txns: &'t Transactions<'a>,
    /// By value.
    writers: Vec<Writer>,
    /// By key: whether `nil` was written to it.
    nil_written: Vec<bool>,
    /// By key: the longest list read, in the elements, and by whom.
    longest: Vec<(u32, u32, u32)>,
    /// By key and value: its number; made when it is needed.
    numbers: Option<FxHashMap<(u32, &'a Value), u32>>,
    /// By transaction: its number in the execution.
    numbered: Vec<u32>,
    /// By value: whether it is in the longest list.
    in_longest: Vec<bool>,
    /// By key: who appended the last element of the longest list, in the execution.
    last_seen: Vec<u32>,
    listed: Listed,
    ambiguous: u64,
    siblings: u64,
}

impl<'a> Encoded<'a> {
    /// # Errors
    ///
    /// The reason of the verdict `unknown`.
    pub(crate) fn of(history: &'a History) -> Result<Self, String> {
        let shape = shape_of(history);
        let txns = Transactions::of(history, shape)?;
        let mut encoder = Encoder::new(&txns)?;
        encoder.find_longest();
        let taking_part = encoder.taking_part();
        let sessions = sessions(&txns);
        // By session, and within one in the order of the history: the sort is stable.
        let mut source: Vec<u32> = (0..txns.txns.len() as u32)
            .filter(|&t| taking_part[t as usize])
            .collect();
        source.sort_by_key(|&t| sessions[t as usize]);
        for (number, &t) in source.iter().enumerate() {
            encoder.numbered[t as usize] = number as u32;
        }
        let mut builder = Builder::new(txns.keys.len() as u32, source.len());
        let mut scratch = Scratch::new(txns.keys.len());
        let mut session = NONE;
        let mut single = true;
        let mut judged = 0;
        for &t in &source {
            if sessions[t as usize] != session {
                session = sessions[t as usize];
                builder.session();
            }
            let txn = &txns.txns[t as usize];
            let op = &txns.operations[txn.op as usize];
            single &= txn.mops.len() <= 1 || op.f() == &F::Cas;
            let read = encoder.transaction(t, &mut scratch);
            judged += u64::from(read && txn.outcome == Outcome::Ok);
            builder.txn(&scratch.reads, &scratch.writes);
        }
        let mut execution = builder.finish();
        let of_history = (0..txns.txns.len()).map(|t| encoder.numbered[t]);
        execution.order = of_history.filter(|&number| number != NONE).collect();
        encoder.lists(&mut execution);
        let mut reasons = Vec::new();
        if encoder.ambiguous > 0 {
            reasons.push(format!(
                "ambiguous-values: {} reads of values that were written more than once",
                encoder.ambiguous
            ));
        }
        if encoder.siblings > 0 {
            reasons.push(format!("siblings: in {} reads", encoder.siblings));
        }
        let listed = encoder.listed;
        Ok(Self {
            txns,
            execution,
            source,
            shape,
            single,
            listed,
            reasons,
            judged,
        })
    }
}

/// The session of each transaction.
fn sessions(txns: &Transactions<'_>) -> Vec<u32> {
    let mut current = vec![NONE; txns.processes.len()];
    let mut next = 0;
    let session = |txn: &Txn| {
        let current = &mut current[txn.process as usize];
        if *current == NONE {
            *current = next;
            next += 1;
        }
        let session = *current;
        if txn.outcome == Outcome::Info {
            *current = NONE;
        }
        session
    };
    txns.txns.iter().map(session).collect()
}

/// What is put together of one transaction.
struct Scratch {
    reads: Vec<Read>,
    writes: Vec<u32>,
    /// By key: the last transaction that wrote it, and its last write in `own`.
    own_of: Vec<(u32, u32)>,
    /// What the transaction wrote so far, and the write of the same key before.
    own: Vec<(u32, u32)>,
}

impl Scratch {
    fn new(keys: usize) -> Self {
        Self {
            reads: Vec::new(),
            writes: Vec::new(),
            own_of: vec![(NONE, NONE); keys],
            own: Vec::new(),
        }
    }

    /// The last write of the key so far by transaction `t`, in `own`.
    fn last_own(&self, t: u32, key: u32) -> u32 {
        match self.own_of[key as usize] {
            (by, at) if by == t => at,
            _ => NONE,
        }
    }
}

impl<'t, 'a> Encoder<'t, 'a> {
    fn new(txns: &'t Transactions<'a>) -> Result<Self, String> {
        let keys = txns.keys.len();
        let mut writers = vec![NOBODY; txns.values.len()];
        let mut nil_written = vec![false; keys];
        // By key: who wrote it last, how often, and what before that.
        let mut written_by = vec![(NONE, 0_u32, NONE); keys];
        let mut appended = vec![false; keys];
        let mut overwritten = vec![false; keys];
        for (t, txn) in txns.txns.iter().enumerate() {
            let possible = txn.outcome != Outcome::Fail;
            for mop in txns.mops_of(txn).iter().rev() {
                let (key, value, list) = match *mop {
                    Mop::Append { key, value } => (key, value, true),
                    Mop::Write { key, value } => (key, value, false),
                    Mop::Read { .. } => continue,
                };
                let kinds = if list {
                    &mut appended
                } else {
                    &mut overwritten
                };
                kinds[key as usize] |= possible;
                nil_written[key as usize] |= possible && txns.values[value as usize].is_nil();
                let (by, times, after) = &mut written_by[key as usize];
                if *by != t as u32 {
                    (*by, *times, *after) = (t as u32, 0, NONE);
                }
                let left = *times;
                *times += 1;
                let after = std::mem::replace(after, value);
                if after != NONE && writers[after as usize].txn == t as u32 {
                    writers[after as usize].first = false;
                }
                let writer = &mut writers[value as usize];
                let failed = |w: &Writer| {
                    w.txn == NONE || txns.txns[w.txn as usize].outcome == Outcome::Fail
                };
                if writer.txn == t as u32 {
                    writer.shared |= list;
                } else if failed(writer) {
                    *writer = Writer {
                        txn: t as u32,
                        left,
                        first: true,
                        shared: false,
                    };
                } else if possible {
                    writer.shared = true;
                }
            }
        }
        if let Some(key) = (0..keys).find(|&k| appended[k] && overwritten[k]) {
            return Err(format!("mixed-functions at key {}", txns.keys[key]));
        }
        Ok(Self {
            txns,
            writers,
            nil_written,
            longest: vec![(0, 0, NONE); keys],
            numbers: None,
            numbered: vec![NONE; txns.txns.len()],
            in_longest: vec![false; txns.values.len()],
            last_seen: vec![NONE; keys],
            listed: Listed::default(),
            ambiguous: 0,
            siblings: 0,
        })
    }

    fn find_longest(&mut self) {
        for (t, txn) in self.txns.txns.iter().enumerate() {
            for mop in self.txns.mops_of(txn) {
                if let Mop::Read {
                    key,
                    shown: Shown::List { start, end },
                } = *mop
                {
                    let longest = &mut self.longest[key as usize];
                    if end - start > longest.1 - longest.0 {
                        *longest = (start, end, t as u32);
                    }
                }
            }
        }
    }

    /// The longest list that was read of a key.
    fn longest(&self, key: u32) -> &'t [u32] {
        let (start, end, _) = self.longest[key as usize];
        &self.txns.elements[start as usize..end as usize]
    }

    /// The number of a value of a key, if it was written.
    fn number(&mut self, key: u32, value: &Value) -> Option<u32> {
        let txns = self.txns;
        let numbers = self.numbers.get_or_insert_with(|| {
            let writes = txns.mops.iter().filter_map(|mop| match *mop {
                Mop::Append { key, value } | Mop::Write { key, value } => Some((key, value)),
                Mop::Read { .. } => None,
            });
            writes
                .map(|(key, value)| ((key, txns.values[value as usize]), value))
                .collect()
        });
        numbers.get(&(key, value)).copied()
    }

    /// Where a value that a register showed is from.
    fn source(&mut self, key: u32, value: u32) -> Source {
        let writer = self.writers[value as usize];
        if writer.shared {
            return Source::Ambiguous;
        }
        if writer.txn != NONE {
            return Source::Written(value);
        }
        let shown = self.txns.values[value as usize];
        if observe::is_blank(shown) {
            return self.initial(key);
        }
        let items = shown.items().unwrap_or(&[]);
        let written: Vec<Option<u32>> = items.iter().map(|v| self.number(key, v)).collect();
        match written[..] {
            [Some(one)] if self.writers[one as usize].shared => Source::Ambiguous,
            [Some(one)] => Source::Written(one),
            _ if written.iter().any(Option::is_some) => Source::Siblings,
            _ => Source::Nobody,
        }
    }

    /// Where `nil` is from.
    fn initial(&self, key: u32) -> Source {
        if self.nil_written[key as usize] {
            Source::Ambiguous
        } else {
            Source::Initial
        }
    }

    /// The value that a pending compare-and-set expects.
    fn expected(&mut self, txn: &Txn) -> Option<(u32, Source)> {
        let op = &self.txns.operations[txn.op as usize];
        if txn.outcome != Outcome::Info || op.f() != &F::Cas {
            return None;
        }
        let key = self.txns.mops_of(txn).first()?.key();
        let (old, _) = observe::pair(op.argument())?;
        let source = match self.number(key, old) {
            Some(value) => self.source(key, value),
            None if observe::is_blank(old) => self.initial(key),
            None => Source::Nobody,
        };
        Some((key, source))
    }

    /// Which transactions happened: those that are acknowledged, and those of unknown outcome of
    /// which somebody saw something.
    fn taking_part(&mut self) -> Vec<bool> {
        let outcomes = self.txns.txns.iter().map(|txn| txn.outcome);
        let mut part: Vec<bool> = outcomes.map(|o| o == Outcome::Ok).collect();
        let mut found: Vec<u32> = Vec::new();
        for t in 0..self.txns.txns.len() {
            if !part[t] || self.txns.txns[t].outcome != Outcome::Ok {
                continue;
            }
            for mop in self.txns.mops_of(&self.txns.txns[t]) {
                match *mop {
                    Mop::Read {
                        key,
                        shown: Shown::Value(value),
                    } => {
                        if let Source::Written(value) = self.source(key, value) {
                            self.saw(value, &mut part, &mut found);
                        }
                    }
                    Mop::Read {
                        key,
                        shown: list @ Shown::List { start, end },
                    } => {
                        let items = self.txns.list(list);
                        let longest = self.longest[key as usize];
                        if (start, end) == (longest.0, longest.1)
                            || !self.longest(key).starts_with(items)
                        {
                            for &value in items {
                                self.saw(value, &mut part, &mut found);
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        while let Some(t) = found.pop() {
            let expected = self.expected(&self.txns.txns[t as usize]);
            if let Some((_, Source::Written(value))) = expected {
                self.saw(value, &mut part, &mut found);
            }
        }
        part
    }

    fn saw(&self, value: u32, part: &mut [bool], found: &mut Vec<u32>) {
        let writer = self.writers[value as usize];
        if writer.txn != NONE
            && !writer.shared
            && !part[writer.txn as usize]
            && self.txns.txns[writer.txn as usize].outcome == Outcome::Info
        {
            part[writer.txn as usize] = true;
            found.push(writer.txn);
        }
    }

    /// What a transaction read from others and wrote, in `scratch`; whether it read anything.
    fn transaction(&mut self, t: u32, scratch: &mut Scratch) -> bool {
        scratch.reads.clear();
        scratch.writes.clear();
        scratch.own.clear();
        let txn = &self.txns.txns[t as usize];
        let mut read = false;
        if let Some((key, source)) = self.expected(txn) {
            self.register(t, key, source, None, scratch);
        }
        for mop in self.txns.mops_of(txn) {
            match *mop {
                Mop::Append { key, value } | Mop::Write { key, value } => {
                    scratch.own.push((value, scratch.last_own(t, key)));
                    scratch.own_of[key as usize] = (t, scratch.own.len() as u32 - 1);
                    scratch.writes.push(key);
                }
                Mop::Read {
                    shown: Shown::Unknown,
                    ..
                } => {}
                Mop::Read {
                    key,
                    shown: Shown::Value(value),
                } => {
                    read = true;
                    let source = self.source(key, value);
                    self.register(t, key, source, Some(value), scratch);
                }
                Mop::Read {
                    key,
                    shown: Shown::Nil,
                } => {
                    read = true;
                    let source = self.initial(key);
                    self.register(t, key, source, None, scratch);
                }
                Mop::Read {
                    key,
                    shown: list @ Shown::List { .. },
                } => {
                    read = true;
                    self.list(t, key, self.txns.list(list), scratch);
                }
            }
        }
        read
    }

    /// A read of a register, or of a list that was empty. `value`: what it showed, but for `nil`.
    fn register(
        &mut self,
        t: u32,
        key: u32,
        source: Source,
        value: Option<u32>,
        scratch: &mut Scratch,
    ) {
        let own = scratch.last_own(t, key);
        if own != NONE {
            let wrote = scratch.own[own as usize].0;
            let shown = match source {
                Source::Written(value) => Some(value),
                _ => value,
            };
            let nil = shown.is_none() && self.txns.values[wrote as usize].is_nil();
            if shown != Some(wrote) && !nil {
                let shown = shown.map_or("nil".to_owned(), |v| self.name(v));
                self.add("internal", key, &[t], |this| {
                    format!(
                        "{} read {shown} of {} after it had itself written {}",
                        explain::told(this.txns, t),
                        this.key_name(key),
                        this.name(wrote),
                    )
                });
            }
            return;
        }
        match source {
            Source::Initial => scratch.reads.push(Read { key, from: INITIAL }),
            Source::Ambiguous => self.ambiguous += 1,
            Source::Siblings => self.siblings += 1,
            Source::Nobody => self.thin_air(t, key, value),
            Source::Written(value) => {
                if let Some(from) = self.from(t, key, value) {
                    scratch.reads.push(Read { key, from });
                }
            }
        }
    }

    /// Whom a value is from that was written by one transaction, if by another one.
    fn from(&mut self, t: u32, key: u32, value: u32) -> Option<u32> {
        let writer = self.writers[value as usize];
        let from = self.numbered[writer.txn as usize];
        if writer.txn == t {
            self.add("future-read", key, &[t], |this| {
                let (told, key) = (explain::told(this.txns, t), this.key_name(key));
                let value = this.name(value);
                format!("{told} read {value} of {key}, which it wrote itself only later")
            });
            return None;
        }
        if self.txns.txns[writer.txn as usize].outcome == Outcome::Fail {
            self.aborted(t, key, value);
            return None;
        }
        if writer.left > 0 {
            self.add("intermediate-read", key, &[writer.txn, t], |this| {
                format!(
                    "{} read {} of {}, which {} had itself replaced before it ended",
                    explain::told(this.txns, t),
                    this.name(value),
                    this.key_name(key),
                    explain::told(this.txns, writer.txn),
                )
            });
        }
        (from != NONE).then_some(from)
    }

    /// A read of a list that was not empty.
    fn list(&mut self, t: u32, key: u32, items: &[u32], scratch: &mut Scratch) {
        if !self.longest(key).starts_with(items) {
            let (_, _, longest) = self.longest[key as usize];
            self.add("incompatible-order", key, &[longest, t], |this| {
                format!(
                    "{} and {} read lists of {} of which neither begins with the other",
                    explain::told(this.txns, longest),
                    explain::told(this.txns, t),
                    this.key_name(key),
                )
            });
            self.elements(t, key, items);
        }
        let mut left = items;
        let mut own = scratch.last_own(t, key);
        while own != NONE {
            let (value, before) = scratch.own[own as usize];
            match left.split_last() {
                Some((&last, rest)) if last == value => left = rest,
                _ => {
                    self.add("internal", key, &[t], |this| {
                        format!(
                            "{} read {} without {} at its end, which it had itself appended",
                            explain::told(this.txns, t),
                            this.key_name(key),
                            this.name(value),
                        )
                    });
                    return;
                }
            }
            own = before;
        }
        let Some(&last) = left.last() else {
            scratch.reads.push(Read { key, from: INITIAL });
            return;
        };
        let writer = self.writers[last as usize];
        if writer.shared {
            self.ambiguous += 1;
        } else if writer.txn != NONE
            && self.txns.txns[writer.txn as usize].outcome != Outcome::Fail
            && let Some(from) = self.from(t, key, last)
        {
            scratch.reads.push(Read { key, from });
        }
    }

    /// Says which elements of a list that was read should not be there.
    fn elements(&mut self, t: u32, key: u32, items: &[u32]) {
        let mut sorted = items.to_vec();
        sorted.sort_unstable();
        let twice = |two: &&[u32]| two[0] == two[1] && !self.writers[two[0] as usize].shared;
        if let Some(two) = sorted.windows(2).find(twice) {
            let value = two[0];
            self.add("duplicate-elements", key, &[t], |this| {
                let (told, key) = (explain::told(this.txns, t), this.key_name(key));
                format!(
                    "{told} read a list of {key} that holds {} more than once",
                    this.name(value)
                )
            });
        }
        sorted.dedup();
        for value in sorted {
            let writer = self.writers[value as usize];
            if writer.txn == NONE {
                self.thin_air(t, key, Some(value));
            } else if self.txns.txns[writer.txn as usize].outcome == Outcome::Fail {
                self.aborted(t, key, value);
            }
        }
    }

    /// The order of the elements of the longest lists, and what should not be in them.
    fn lists(&mut self, execution: &mut Execution) {
        for key in 0..self.longest.len() as u32 {
            let (_, _, reader) = self.longest[key as usize];
            if reader == NONE {
                continue;
            }
            let items = self.longest(key);
            self.elements(reader, key, items);
            for &value in items {
                self.in_longest[value as usize] = true;
            }
            let mut previous: Option<Writer> = None;
            for &value in items {
                let writer = self.writers[value as usize];
                let known = writer.txn != NONE
                    && !writer.shared
                    && self.numbered[writer.txn as usize] != NONE;
                if let Some(previous) = previous.filter(|_| known) {
                    let (a, b) = (previous.txn, writer.txn);
                    if a != b {
                        let (a, b) = (self.numbered[a as usize], self.numbered[b as usize]);
                        execution.versions.push((a, b));
                    }
                    let follows = if a == b {
                        previous.left == writer.left + 1
                    } else {
                        previous.left == 0 && writer.first
                    };
                    if !follows {
                        self.torn(reader, key, value);
                    }
                } else if known && !writer.first && previous.is_none() && value == items[0] {
                    self.torn(reader, key, value);
                }
                previous = known.then_some(writer);
            }
            if let Some(last) = previous {
                self.last_seen[key as usize] = self.numbered[last.txn as usize];
            }
        }
        // What no read shows was appended later than what one does.
        for (t, txn) in self.txns.txns.iter().enumerate() {
            let number = self.numbered[t];
            if number == NONE {
                continue;
            }
            for mop in self.txns.mops_of(txn) {
                if let Mop::Append { key, value } = *mop
                    && !self.in_longest[value as usize]
                    && !self.writers[value as usize].shared
                {
                    let last = self.last_seen[key as usize];
                    if last != NONE && last != number {
                        execution.versions.push((last, number));
                    }
                }
            }
        }
    }

    /// An element that does not follow the one before it as its transaction appended it.
    fn torn(&mut self, reader: u32, key: u32, value: u32) {
        let writer = self.writers[value as usize].txn;
        self.add("torn-append", key, &[writer, reader], |this| {
            format!(
                "{} read a list of {} in which {}, appended by {}, does not follow what was \
                 appended before it in the same transaction, or comes amid what another appended",
                explain::told(this.txns, reader),
                this.key_name(key),
                this.name(value),
                explain::told(this.txns, writer),
            )
        });
    }

    fn thin_air(&mut self, t: u32, key: u32, value: Option<u32>) {
        self.add("thin-air-read", key, &[t], |this| {
            let (told, key) = (explain::told(this.txns, t), this.key_name(key));
            match value {
                Some(value) => format!(
                    "{told} read {} of {key}, which nobody wrote",
                    this.name(value)
                ),
                None => format!("{told} found a value of {key} that nobody wrote"),
            }
        });
    }

    fn aborted(&mut self, t: u32, key: u32, value: u32) {
        let writer = self.writers[value as usize].txn;
        self.add("aborted-read", key, &[writer, t], |this| {
            format!(
                "{} read {} of {}, written by {}, which failed",
                explain::told(this.txns, t),
                this.name(value),
                this.key_name(key),
                explain::told(this.txns, writer),
            )
        });
    }

    fn add(
        &mut self,
        class: &'static str,
        key: u32,
        txns: &[u32],
        summary: impl FnOnce(&Self) -> String,
    ) {
        let mut listed = std::mem::take(&mut self.listed);
        let mut ops: Vec<u64> = txns.iter().map(|&t| self.index(t)).collect();
        ops.sort_unstable();
        ops.dedup();
        let name = self.txns.keys[key as usize];
        listed.add(class, Some(name), &ops, || summary(self));
        self.listed = listed;
    }

    fn index(&self, t: u32) -> u64 {
        self.txns.index(&self.txns.txns[t as usize])
    }

    fn name(&self, value: u32) -> String {
        self.txns.values[value as usize].to_string()
    }

    fn key_name(&self, key: u32) -> String {
        explain::key_name(self.txns, key)
    }
}
