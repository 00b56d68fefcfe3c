//! What each level says of the commit order: the pairs that its axiom puts in order.
//!
//! All three axioms have one form (Biswas and Enea): a transaction `t3` read a key `x` from `t1`,
//! and another transaction `t2` that wrote `x` was *visible* to `t3`; then `t2` is before `t1` in
//! the commit order. They differ in what was visible:
//!
//! * read committed: what `t3` had read from before, in the order of its program;
//! * read atomic: what `t3` read from anywhere in it, and what came before `t3` in its session;
//! * causal: whatever leads to `t3` by session order and reads-from, in any number of steps
//!   ([`super::clocks`]).
//!
//! The visible transactions do not depend on the commit order, so that the axiom holds of some
//! order if and only if all these pairs, the session order and reads-from have no cycle together:
//! any topological order is then a commit order, and a commit order contains all of them.
//!
//! A pair that follows from others may be left out. Which ones are is what makes this fast:
//!
//! **Read committed.** Let `t2` be read from first at position `i` of `t3`. For each `x` that `t2`
//! wrote, only the next read of `x` after `i` that is not from `t2` counts; let it be from `t1`. A
//! later one, from `t1'`, is after a read from `t1`, which wrote `x`: `t1` is before `t1'` by the
//! same argument (or is it), so that `t2` is before `t1'`.
//!
//! **Read atomic.** Among the transactions of the session only the last one before `t3` that wrote
//! `x` counts: the others are before it in session order. Of the transactions that `t3` read from,
//! the keys that both have to do with are found by going through the shorter list of the two. Two
//! reads of `x` from different transactions contradict each other.
//!
//! **Cost.** For each pair of a reader `t3` and one it reads from, `t2`, at most the smaller of
//! their sizes. Readers with at most `√n` operations cost `√n` an operation; of larger ones there
//! are at most `√n`, each of which costs at most the sizes of all that it reads from, `n`. Together
//! `O(n^{3/2})`, which is optimal (Møldrup and Pavlogiannis, *AWDIT*, PLDI 2025) — here times the
//! logarithm of the size of a transaction where the reader is the shorter.

use super::execution::{Execution, INITIAL};

/// That one transaction is before another in the commit order, because of what a third read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// It wrote the key and was visible to the reader, …
    pub(crate) before: u32,
    /// … which read the key from this one, or [`INITIAL`]: then it cannot be.
    pub(crate) after: u32,
    /// Who read.
    pub(crate) reader: u32,
    /// What.
    pub(crate) key: u32,
}

/// No transaction.
const NONE: u32 = u32::MAX - 1;

/// Gives all pairs that read committed asks for, save those that follow from others.
pub(crate) fn read_committed(e: &Execution, mut emit: impl FnMut(Edge)) {
    /// Of a key: the next read of it and the next one that is from somebody else.
    #[derive(Clone, Copy)]
    struct Next {
        reader: u32,
        first: u32,
        second: u32,
    }
    let mut next = vec![
        Next {
            reader: NONE,
            first: NONE,
            second: NONE,
        };
        e.keys()
    ];
    // By transaction: who read from it last, and where first.
    let mut first_read = vec![(NONE, 0_u32); e.txns() as usize];
    let mut keys_read: Vec<u32> = Vec::new();
    for t3 in 0..e.txns() {
        let reads = e.reads(t3);
        if reads.len() < 2 {
            continue;
        }
        for (i, read) in reads.iter().enumerate() {
            if read.from != INITIAL && first_read[read.from as usize].0 != t3 {
                first_read[read.from as usize] = (t3, i as u32);
            }
        }
        keys_read.clear();
        for (i, read) in reads.iter().enumerate().rev() {
            let t2 = read.from;
            if t2 != INITIAL && first_read[t2 as usize].1 == i as u32 {
                let mut consider = |key: u32| {
                    let next = next[key as usize];
                    let after = if next.first == t2 {
                        next.second
                    } else {
                        next.first
                    };
                    if next.reader == t3 && after != NONE {
                        emit(Edge {
                            before: t2,
                            after,
                            reader: t3,
                            key,
                        });
                    }
                };
                let writes = e.writes(t2);
                if writes.len() <= keys_read.len() {
                    for &key in writes {
                        consider(key);
                    }
                } else {
                    for &key in keys_read.iter().filter(|&&key| e.wrote(t2, key)) {
                        consider(key);
                    }
                }
            }
            let next = &mut next[read.key as usize];
            if next.reader != t3 {
                *next = Next {
                    reader: t3,
                    first: t2,
                    second: NONE,
                };
                keys_read.push(read.key);
            } else if next.first != t2 {
                next.second = next.first;
                next.first = t2;
            }
        }
    }
}

/// Gives all pairs that read atomic asks for, save those that follow from others.
pub(crate) fn read_atomic(e: &Execution, mut emit: impl FnMut(Edge)) {
    // By key: the last reader, and whom it read from first.
    let mut read_from = vec![(NONE, NONE); e.keys()];
    // By key: the last session that wrote it, and its last transaction that did.
    let mut written = vec![(NONE, NONE); e.keys()];
    let mut keys_read: Vec<u32> = Vec::new();
    for session in 0..e.sessions() {
        for t3 in e.session(session) {
            keys_read.clear();
            for read in e.reads(t3) {
                let edge = |before, after| Edge {
                    before,
                    after,
                    reader: t3,
                    key: read.key,
                };
                let (reader, from) = &mut read_from[read.key as usize];
                if *reader != t3 {
                    (*reader, *from) = (t3, read.from);
                    keys_read.push(read.key);
                } else if *from != read.from {
                    // The other way round follows below: it was read from, too.
                    if *from != INITIAL {
                        emit(edge(*from, read.from));
                    }
                }
            }
            for &key in &keys_read {
                let (_, after) = read_from[key as usize];
                let (by, before) = written[key as usize];
                let known = after != INITIAL && e.in_session_order(before, after);
                if by == session && before != after && !known {
                    emit(Edge {
                        before,
                        after,
                        reader: t3,
                        key,
                    });
                }
            }
            for &t2 in e.sources(t3) {
                let mut consider = |key: u32| {
                    let (reader, after) = read_from[key as usize];
                    if reader == t3 && after != t2 {
                        emit(Edge {
                            before: t2,
                            after,
                            reader: t3,
                            key,
                        });
                    }
                };
                let writes = e.writes(t2);
                if writes.len() <= keys_read.len() {
                    for &key in writes {
                        consider(key);
                    }
                } else {
                    for &key in keys_read.iter().filter(|&&key| e.wrote(t2, key)) {
                        consider(key);
                    }
                }
            }
            for &key in e.writes(t3) {
                written[key as usize] = (session, t3);
            }
        }
    }
}
