//! Causal memory: every session sees all writes that it knows of in one order of its own.
//!
//! Decided by the bad patterns of Bouajjani, Enea, Guerraoui and Hamza (*On Verifying Causal
//! Consistency*, POPL 2017, section 5.3), for single operations on registers whose writes are
//! distinguishable. For the last operation `o` of a session `p`, let *happened-before* be the
//! smallest transitive relation that contains causality among the causes of `o`, and `w1` before
//! `w2` whenever `p` reads `x` from `w2` and `w1`, another write of `x`, happened before that read.
//! Causal memory holds if and only if, for each session, it has no cycle (`cyclic-hb`), and no write
//! of `x` happened before a read by `p` of the initial state of `x` (`write-hb-init-read`); given
//! that causality itself has no cycle and nothing is read that nobody wrote. (Only the last
//! operation of a session needs to be looked at: the relation of an earlier one is contained in it.)
//!
//! **How.** The operations of `p` are a chain, so that it is enough to know, of each operation `v`,
//! the first operation of `p` that it happened before, `first(v)`. It is found for causality by
//! going back from the operations of `p` in their order, once over everything. Then the rule is
//! applied until nothing changes: for a write `w1` of `x`, take the first read of `x` by `p` from
//! `first(w1)` on that reads from another write `w2`. A pair `w1 → w2` is added, and what leads to
//! `w1` may get an earlier `first`. It only goes down, so that this ends.
//!
//! *Why the other reads of `x` need no pair.* If the result has a cycle, there is one by the full
//! rule, which gives all these pairs. If it has none, it is closed under the full rule: let `w1` have
//! happened before a read `r` of `x` from `w3`, and let `q`, from `w2`, be the read that gave `w1 →
//! w2`. If `q` is `r`, that is the pair. If not, `q` comes before `r` (or `r` is from `w1`). Look at
//! the pair of `w2`. Were it from a read before `q`, of a value from `w'`, follow the pairs from
//! `w'` on: each write on the way was read before `q` (or at it), and its pair is from the next read
//! after that, or an earlier one, so never from one after `q`, and never missing, until `w2` is
//! reached; in a finite history that ends in a cycle either way. So it is from a read after `q`, and
//! step by step `w3` is reached, or a read of the initial state, which is a violation.
//!
//! A compare-and-set reads and writes at once: it is a read of `p` where `p` did it, and a write
//! everywhere. (It writes whatever others see.)
//!
//! **Cost.** `O(n)` for each session where few pairs change something earlier, `O(n·k)` in all; at
//! worst each operation's `first` goes down once for each operation of the session.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::isolation::analysis::{Findings, LISTED_MAX, Violation, links};
use crate::isolation::execution::{Execution, INITIAL};
use crate::isolation::graph::Graph;
use crate::isolation::levels::Edge;

/// How many steps all sessions together may take.
pub(crate) const STEPS_MAX: u64 = 100_000_000;
/// How many pairs the search for short cycles may look at.
const SEARCH_MAX: u64 = 10_000_000;

/// Not before any operation of the session.
const NEVER: u32 = u32::MAX;

/// What stands against causal memory, given all transactions with causes first. At most so many
/// steps are taken, and those of one session more.
pub(crate) fn causal_memory(e: &Execution, order: &[u32], steps_max: u64) -> Findings {
    let mut findings = Findings::default();
    let mut rank = vec![0_u32; e.txns() as usize];
    for (i, &txn) in order.iter().enumerate() {
        rank[txn as usize] = i as u32;
    }
    let mut session = Session::new(e);
    let mut seen = FxHashSet::default();
    for p in 0..e.sessions() {
        session.begin(p);
        if session.steps > steps_max {
            findings.undecided = Some(format!(
                "budget: {steps_max} steps, after {p} of {} sessions; fewer sessions would do",
                e.sessions()
            ));
            return findings;
        }
        session.saturate();
        for edge in &session.initial {
            if seen.insert((edge.before, edge.reader)) {
                list(&mut findings, Violation::Initial(*edge));
            }
        }
        if session.cyclic(order, &rank) {
            cycles(e, &session.pairs, &mut seen, &mut findings);
        }
    }
    findings
}

fn list(findings: &mut Findings, violation: Violation) {
    if findings.violations.len() < LISTED_MAX {
        findings.violations.push(violation);
    } else {
        findings.unlisted += 1;
    }
}

/// Lists cycles of causality and the pairs, such that each pair on one is on one that is listed.
/// `seen`: pairs on those that are listed.
fn cycles(
    e: &Execution,
    edges: &[Edge],
    seen: &mut FxHashSet<(u32, u32)>,
    findings: &mut Findings,
) {
    let pairs: Vec<(u32, u32)> = edges.iter().map(|e| (e.before, e.after)).collect();
    let graph = Graph::new(e, &pairs);
    let components = graph.components();
    if !components.cyclic() {
        return;
    }
    let by_pair = edges.iter().map(|e| ((e.before, e.after), *e)).collect();
    let mut budget = SEARCH_MAX;
    for edge in edges {
        let on_cycle = components.same(edge.before, edge.after);
        if !on_cycle || !seen.insert((edge.before, edge.after)) {
            continue;
        }
        match graph.way(&components, edge.after, edge.before, &mut budget) {
            Some(way) => {
                seen.extend(way.windows(2).map(|two| (two[0], two[1])));
                let mut cycle = links(e, &way, &by_pair);
                let last = links(e, &[edge.before, edge.after], &by_pair);
                cycle.extend(last);
                list(findings, Violation::Cycle(cycle));
            }
            None => findings.unlisted += 1,
        }
    }
}

/// A read by the session: where, from whom, and the place of the next one in the list of its key
/// that reads from somebody else.
#[derive(Clone, Copy)]
struct OwnRead {
    at: u32,
    from: u32,
    other: u32,
}

/// What is known of one session at a time.
struct Session<'e> {
    e: &'e Execution,
    /// The first and the number after the last of its operations.
    own: std::ops::Range<u32>,
    first: Vec<u32>,
    /// The session's reads, by key and in order.
    reads: Vec<OwnRead>,
    /// By key: where its reads are.
    reads_of: Vec<(u32, u32)>,
    keys: Vec<u32>,
    /// By operation: who was put before it.
    put_before: Vec<Vec<u32>>,
    pairs: Vec<Edge>,
    initial: Vec<Edge>,
    /// Writes whose `first` went down, to be looked at in this order: the early ones first, so that
    /// what depends on them goes down at once and not step by step.
    changed: VecDeque<u32>,
    steps: u64,
}

impl<'e> Session<'e> {
    fn new(e: &'e Execution) -> Self {
        Self {
            e,
            own: 0..0,
            first: Vec::new(),
            reads: Vec::new(),
            reads_of: vec![(0, 0); e.keys()],
            keys: Vec::new(),
            put_before: vec![Vec::new(); e.txns() as usize],
            pairs: Vec::new(),
            initial: Vec::new(),
            changed: VecDeque::new(),
            steps: 0,
        }
    }

    /// Takes up a session: its reads, and what is before which of its operations by causality.
    fn begin(&mut self, session: u32) {
        for edge in self.pairs.drain(..) {
            self.put_before[edge.after as usize].clear();
        }
        for key in self.keys.drain(..) {
            self.reads_of[key as usize] = (0, 0);
        }
        self.initial.clear();
        self.own = self.e.session(session);
        self.first.clear();
        self.first.resize(self.e.txns() as usize, NEVER);
        let mut reads: Vec<(u32, u32, u32)> = Vec::new();
        for at in self.own.clone() {
            reads.extend(self.e.reads(at).iter().map(|r| (r.key, at, r.from)));
        }
        reads.sort_unstable();
        self.reads.clear();
        for (i, &(key, at, from)) in reads.iter().enumerate() {
            if self.keys.last() != Some(&key) {
                self.keys.push(key);
                self.reads_of[key as usize].0 = i as u32;
            }
            self.reads_of[key as usize].1 = i as u32 + 1;
            let other = i as u32 + 1;
            self.reads.push(OwnRead { at, from, other });
        }
        for i in (1..reads.len()).rev() {
            if (reads[i - 1].0, reads[i - 1].2) == (reads[i].0, reads[i].2) {
                self.reads[i - 1].other = self.reads[i].other;
            }
        }
        let mut stack = Vec::new();
        for at in self.own.clone() {
            self.first[at as usize] = at;
            stack.push(at);
            while let Some(txn) = stack.pop() {
                self.steps += 1;
                if !self.e.writes(txn).is_empty() {
                    self.changed.push_back(txn);
                }
                for &cause in self.e.sources(txn).iter().chain(&self.e.previous(txn)) {
                    if self.first[cause as usize] == NEVER {
                        self.first[cause as usize] = at;
                        stack.push(cause);
                    }
                }
            }
        }
    }

    /// Applies the rule until nothing changes.
    fn saturate(&mut self) {
        while let Some(write) = self.changed.pop_front() {
            let e = self.e;
            for &key in e.writes(write) {
                self.steps += 1;
                let Some(read) = self.next_read(write, key) else {
                    continue;
                };
                let edge = Edge {
                    before: write,
                    after: read.from,
                    reader: read.at,
                    key,
                };
                if read.from == INITIAL {
                    self.initial.push(edge);
                    continue;
                }
                self.pairs.push(edge);
                self.put_before[read.from as usize].push(write);
                self.lower(write, self.first[read.from as usize]);
            }
        }
    }

    /// The first read of the key by the session that a write of it happened before, and that is
    /// not from that write.
    fn next_read(&self, write: u32, key: u32) -> Option<OwnRead> {
        let (start, end) = self.reads_of[key as usize];
        let mut after = self.first[write as usize];
        if after == write {
            after += 1;
        }
        let reads = &self.reads[start as usize..end as usize];
        let at = reads.partition_point(|read| read.at < after);
        let read = reads.get(at)?;
        if read.from != write {
            return Some(*read);
        }
        reads.get((read.other - start) as usize).copied()
    }

    /// Says that an operation happened before one of the session, and so did what is before it.
    fn lower(&mut self, txn: u32, first: u32) {
        let mut stack = vec![txn];
        while let Some(txn) = stack.pop() {
            if self.first[txn as usize] <= first {
                continue;
            }
            self.steps += 1;
            self.first[txn as usize] = first;
            if !self.e.writes(txn).is_empty() {
                self.changed.push_back(txn);
            }
            stack.extend(self.e.sources(txn));
            stack.extend(self.e.previous(txn));
            stack.extend(&self.put_before[txn as usize]);
        }
    }

    /// Whether causality and the pairs have a cycle.
    ///
    /// `order` has causes first. Each cycle goes back in it somewhere: wherever the order is cut
    /// between its first and its last operation, by a pair from behind the cut to before it. So it
    /// is within one stretch that such pairs cover without a gap, and only these are searched.
    fn cyclic(&mut self, order: &[u32], rank: &[u32]) -> bool {
        const NEW: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let ranks = |edge: &Edge| (rank[edge.after as usize], rank[edge.before as usize]);
        let back = self.pairs.iter().map(ranks).filter(|(to, from)| to < from);
        let mut back: Vec<(u32, u32)> = back.collect();
        back.sort_unstable();
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        for (to, from) in back {
            match stretches.last_mut() {
                Some((_, end)) if to <= *end => *end = from.max(*end),
                _ => stretches.push((to, from)),
            }
        }
        let mut state: Vec<u8> = Vec::new();
        let mut stack: Vec<(u32, usize)> = Vec::new();
        for (start, end) in stretches {
            state.clear();
            state.resize((end - start + 1) as usize, NEW);
            self.steps += u64::from(end - start);
            for root in start..=end {
                if state[(root - start) as usize] != NEW {
                    continue;
                }
                state[(root - start) as usize] = OPEN;
                stack.push((root, 0));
                while let Some((at, seen)) = stack.last_mut() {
                    let txn = order[*at as usize];
                    let Some(before) = self.before(txn, *seen) else {
                        state[(*at - start) as usize] = DONE;
                        stack.pop();
                        continue;
                    };
                    *seen += 1;
                    let before = rank[before as usize];
                    if !(start..=end).contains(&before) {
                        continue;
                    }
                    match state[(before - start) as usize] {
                        NEW => {
                            state[(before - start) as usize] = OPEN;
                            stack.push((before, 0));
                        }
                        OPEN => return true,
                        _ => {}
                    }
                }
            }
        }
        false
    }

    /// The `n`th operation that is directly before this one.
    fn before(&self, txn: u32, n: usize) -> Option<u32> {
        let sources = self.e.sources(txn);
        let put = &self.put_before[txn as usize];
        let n = match sources.get(n) {
            Some(&source) => return Some(source),
            None => n - sources.len(),
        };
        match put.get(n) {
            Some(&write) => Some(write),
            None if n == put.len() => self.e.previous(txn),
            None => None,
        }
    }
}
