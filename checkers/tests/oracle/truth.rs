//! What the checkers should find, from what really happened: as plainly as possible.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Id, KEYS, Op, Run};

/// Operations by number, as [`Run::ops`] counts them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub lost: BTreeSet<usize>,
    pub vanished: BTreeSet<Id>,
    pub never_read: u64,
    pub recovered: u64,
    /// Stale reads, and how many writes each misses.
    pub stale: BTreeMap<usize, u64>,
    /// Reads that miss an acknowledged write that no later read shows.
    pub missing_lost: BTreeSet<usize>,
}

/// Of lists and sets: exact, by what each read was served from.
pub fn of_collections(run: &Run) -> Truth {
    let shows = |read: &Op, write: &Op| read.lineage.iter().any(|id| Some(*id) == write.write);
    // A final read counts from the start of the final phase, acknowledged or not.
    let mut truth = judge(run, &|_, _| true, &|read, write| !shows(read, write));
    for op in &run.ops {
        let (Some(id), false) = (op.write, op.is_ok()) else {
            continue;
        };
        let finals = run.finals(op.key);
        if finals.iter().any(|&r| run.ops[r].lineage.contains(&id)) {
            truth.recovered += 1;
            continue;
        }
        let first_shown = run
            .reads(op.key)
            .filter(|&r| run.ops[r].lineage.contains(&id))
            .filter_map(|r| run.ops[r].completed)
            .min();
        if first_shown.is_some_and(|first| finals.iter().any(|&r| run.ops[r].invoked > first)) {
            truth.vanished.insert(id);
        }
    }
    truth
}

/// Of registers: what the values alone prove.
///
/// A value is in place once its write, or a read of it, has ended. A read misses a write that began
/// after its value was in place, and may reflect any other.
pub fn of_registers(run: &Run) -> Truth {
    let misses = |read: &Op, write: &Op| {
        let Some(value) = read.lineage.last() else {
            return true;
        };
        run.ops.iter().any(|other| {
            let of_value = other.is_ok() && other.lineage.last() == Some(value);
            of_value && other.key == read.key && other.precedes(write)
        })
    };
    let mut truth = judge(run, &|read, write| write.precedes(read), &misses);
    for op in run.ops.iter().filter(|op| !op.is_ok()) {
        let finals = run.finals(op.key);
        let shown =
            |&r: &usize| op.write.is_some() && run.ops[r].lineage.last() == op.write.as_ref();
        truth.recovered += u64::from(finals.iter().any(shown));
    }
    truth
}

/// `counts`: whether a final read may clear a write.
fn judge(run: &Run, counts: &dyn Fn(&Op, &Op) -> bool, misses: &dyn Fn(&Op, &Op) -> bool) -> Truth {
    let mut truth = Truth::default();
    for key in 0..KEYS {
        let finals: Vec<&Op> = run.finals(key).into_iter().map(|i| &run.ops[i]).collect();
        let reads: Vec<&Op> = run.reads(key).map(|i| &run.ops[i]).collect();
        for w in run.acknowledged(key) {
            let write = &run.ops[w];
            if finals.iter().any(|r| counts(r, write) && !misses(r, write)) {
                continue;
            }
            if finals.iter().any(|r| write.precedes(r)) {
                truth.lost.insert(w);
            } else {
                truth.never_read += 1;
            }
        }
        for r in run.reads(key) {
            let read = &run.ops[r];
            for w in run.acknowledged(key) {
                let write = &run.ops[w];
                if !write.precedes(read) || !misses(read, write) {
                    continue;
                }
                let reflects =
                    |other: &&Op| other.completed > read.completed && !misses(other, write);
                if reads.iter().any(reflects) {
                    *truth.stale.entry(r).or_insert(0) += 1;
                } else {
                    truth.missing_lost.insert(r);
                }
            }
        }
    }
    truth
}
