//! Who read what from whom: all that the levels of isolation look at.

/// A read of what was there before any write.
pub(crate) const INITIAL: u32 = u32::MAX;

/// A read of a key, and the transaction that wrote what it showed (or [`INITIAL`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) key: u32,
    pub(crate) from: u32,
}

/// Transactions that took effect, in sessions, with what they read from others and what they
/// wrote. Transactions are numbered session by session and, within one, in its order, so that the
/// session order is that of the numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Execution {
    /// The first transaction of each session, and the number of all transactions.
    starts: Vec<u32>,
    session_of: Vec<u32>,
    read_starts: Vec<u32>,
    reads: Vec<Read>,
    write_starts: Vec<u32>,
    writes: Vec<u32>,
    source_starts: Vec<u32>,
    sources: Vec<u32>,
    keys: u32,
    /// Transactions in about the order of the history: where to begin, no more.
    pub(crate) order: Vec<u32>,
    /// Pairs known to be committed in this order, whatever the level: the versions of a list.
    pub(crate) versions: Vec<(u32, u32)>,
}

/// Builds an [`Execution`] one transaction after the other.
pub(crate) struct Builder {
    execution: Execution,
    /// By transaction read from: the last reader that counted it as a source.
    counted: Vec<u32>,
}

impl Builder {
    /// For this many keys and transactions.
    pub(crate) fn new(keys: u32, txns: usize) -> Self {
        let execution = Execution {
            keys,
            session_of: Vec::with_capacity(txns),
            read_starts: vec![0],
            write_starts: vec![0],
            source_starts: vec![0],
            order: (0..txns as u32).collect(),
            ..Execution::default()
        };
        Self {
            execution,
            counted: vec![u32::MAX; txns],
        }
    }

    /// The transactions that follow belong to a new session.
    pub(crate) fn session(&mut self) {
        let next = self.execution.session_of.len() as u32;
        self.execution.starts.push(next);
    }

    /// The next transaction: reads from others in the order of the program, keys written in any.
    pub(crate) fn txn(&mut self, reads: &[Read], writes: &[u32]) {
        let e = &mut self.execution;
        let txn = e.session_of.len() as u32;
        e.session_of.push(e.starts.len() as u32 - 1);
        e.reads.extend_from_slice(reads);
        e.read_starts.push(e.reads.len() as u32);
        for read in reads.iter().filter(|read| read.from != INITIAL) {
            let counted = &mut self.counted[read.from as usize];
            if *counted != txn {
                *counted = txn;
                e.sources.push(read.from);
            }
        }
        e.source_starts.push(e.sources.len() as u32);
        let first = e.writes.len();
        e.writes.extend_from_slice(writes);
        e.writes[first..].sort_unstable();
        let mut kept = first;
        for i in first..e.writes.len() {
            if i == first || e.writes[i] != e.writes[kept - 1] {
                e.writes[kept] = e.writes[i];
                kept += 1;
            }
        }
        e.writes.truncate(kept);
        e.write_starts.push(kept as u32);
    }

    /// All of them.
    pub(crate) fn finish(mut self) -> Execution {
        let txns = self.execution.session_of.len() as u32;
        self.execution.starts.push(txns);
        self.execution
    }
}

fn range(starts: &[u32], of: u32) -> std::ops::Range<usize> {
    starts[of as usize] as usize..starts[of as usize + 1] as usize
}

impl Execution {
    /// How many transactions.
    pub(crate) fn txns(&self) -> u32 {
        self.session_of.len() as u32
    }

    /// How many keys.
    pub(crate) fn keys(&self) -> usize {
        self.keys as usize
    }

    /// How many sessions.
    pub(crate) fn sessions(&self) -> u32 {
        self.starts.len() as u32 - 1
    }

    /// The transactions of a session.
    pub(crate) fn session(&self, session: u32) -> std::ops::Range<u32> {
        self.starts[session as usize]..self.starts[session as usize + 1]
    }

    /// The session of a transaction.
    pub(crate) fn session_of(&self, txn: u32) -> u32 {
        self.session_of[txn as usize]
    }

    /// What a transaction read from others, in the order of the program.
    pub(crate) fn reads(&self, txn: u32) -> &[Read] {
        &self.reads[range(&self.read_starts, txn)]
    }

    /// The keys that a transaction wrote: ascending, each once.
    pub(crate) fn writes(&self, txn: u32) -> &[u32] {
        &self.writes[range(&self.write_starts, txn)]
    }

    /// Whether a transaction wrote a key.
    pub(crate) fn wrote(&self, txn: u32, key: u32) -> bool {
        self.writes(txn).binary_search(&key).is_ok()
    }

    /// The transactions that a transaction read from: each once.
    pub(crate) fn sources(&self, txn: u32) -> &[u32] {
        &self.sources[range(&self.source_starts, txn)]
    }

    /// The transaction before it in its session.
    pub(crate) fn previous(&self, txn: u32) -> Option<u32> {
        (txn > self.starts[self.session_of(txn) as usize]).then(|| txn - 1)
    }

    /// The transaction after it in its session.
    pub(crate) fn next(&self, txn: u32) -> Option<u32> {
        (txn + 1 < self.starts[self.session_of(txn) as usize + 1]).then(|| txn + 1)
    }

    /// Whether the first comes before the second in one session.
    pub(crate) fn in_session_order(&self, a: u32, b: u32) -> bool {
        a < b && self.session_of(a) == self.session_of(b)
    }
}

/// Pairs `(group, member)` sorted by group: the members of each, in the order given.
pub(crate) struct Grouped {
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl Grouped {
    /// `pairs` is gone through twice.
    pub(crate) fn new<I: Iterator<Item = (u32, u32)>>(
        groups: usize,
        pairs: impl Fn() -> I,
    ) -> Self {
        let mut starts = vec![0_u32; groups + 1];
        for (group, _) in pairs() {
            starts[group as usize + 1] += 1;
        }
        for i in 0..groups {
            starts[i + 1] += starts[i];
        }
        let mut members = vec![0; starts[groups] as usize];
        let mut at = starts.clone();
        for (group, member) in pairs() {
            let at = &mut at[group as usize];
            members[*at as usize] = member;
            *at += 1;
        }
        Self { starts, members }
    }

    /// The members of a group.
    pub(crate) fn of(&self, group: u32) -> &[u32] {
        &self.members[range(&self.starts, group)]
    }
}
