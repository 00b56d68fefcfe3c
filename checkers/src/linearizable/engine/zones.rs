//! Registers whose values tell their writers apart, in time that is all but linear.
//!
//! Deciding whether a register is linearizable is NP-complete in general, but not if every value was
//! written by one operation: then each read tells which write it read from (Gibbons and Korach,
//! "Testing shared memories", 1997; the zones as in Golab, Li and Shah, "Analyzing consistency
//! properties for fun and profit", 2011). This module adds compare-and-set and operations that were
//! never answered, and proves both.
//!
//! # What is decided
//!
//! Reads, writes and compare-and-sets of a register that holds [`NIL`] at first. It applies if no
//! value is written (by write or compare-and-set, answered or not) more than once, and `NIL` never.
//! A compare-and-set from a value to itself writes nothing new: it is a read if it was answered, and
//! nothing otherwise. An instant is a position in the history; no two are equal. What was not
//! answered ends after all instants.
//!
//! # Unanswered operations
//!
//! A value is *needed* if a read returned it, if an answered operation wrote it, or if a
//! compare-and-set expects it whose own value is needed.
//!
//! *Claim 1. The history is linearizable if and only if there is an order of all answered operations
//! and the writers of needed values, all of which take effect.*
//!
//! *If*: the others may be left out. *Only if*: take an order of the history. It has all answered
//! operations, so it has what they need: a read or compare-and-set that takes effect finds its value,
//! which only its writer can have left; so it has the writer, and so on. Now drop all others: the
//! writers of values that are not needed, and compare-and-sets that found something else. Every
//! operation that stays and depends on a value (a read, a compare-and-set) still finds it: its writer
//! stays, because the value is needed, and nothing wrote between the two, so nothing does now. One
//! that depends on `NIL` comes before all writes. ∎
//!
//! From here on all operations take effect, and every value that is depended on was written by exactly
//! one of them (if one was not, there is no order).
//!
//! # Blocks
//!
//! The *cluster* of a value is its writer and its reads; that of `NIL` has a writer before everything.
//! A compare-and-set from `a` to `b` *links* the cluster of `a` to that of `b`. There is no order if two
//! compare-and-sets expect the same value: the first of them to take effect replaces it, and nobody
//! writes it again. Nor if the links form a cycle: of its writers each has to come before the next.
//! What is left are paths; each, with all operations of its clusters, is a *block*. It begins with a
//! plain write or with `NIL`. The *level* of an operation in its block: first writer 0, its reads 1, the
//! compare-and-set 2, its reads 3, and so on.
//!
//! *Claim 2. An order explains all results if and only if the operations of each block are contiguous in
//! it, with ascending levels, and those of `NIL` come first.*
//!
//! Reads of a value come after its writer and before the next write of the register; a compare-and-set
//! from `a` comes after the writer of `a`, and no write lies between them: so all reads of `a` lie
//! between them (after it `a` is gone for good), and nothing but they. Conversely, in an order like this
//! every operation finds what it depends on. ∎
//!
//! # Zones
//!
//! Let `f(A)` be the first end among the operations of a block, `s(A)` the last beginning.
//!
//! *Claim 3. There is an order if and only if (1) no operation of a block ends before one of lower level
//! of the same block begins, and (2) no two blocks have `f(A) < s(B)` and `f(B) < s(A)`.*
//!
//! `A` has to come before `B` if an operation of `A` ends before one of `B` begins: if `f(A) < s(B)`.
//! *Only if* is plain. *If*: let the blocks be nodes, with an edge from `A` to `B` where `A` has to come
//! before `B`. If there is a cycle, take the block `A` on it with the smallest `f`, its predecessor `P` and
//! the predecessor `Q` of that: `f(P) < s(A)`, and `f(A) ≤ f(Q) < s(P)`; so `A` and `P` violate (2). (If
//! `Q` is `A`, they do anyway.) So there is none: put the blocks in topological order, and within each
//! the operations by level and, on the same level, by their beginnings. This extends real time: between
//! blocks by the edges, within a block by (1). `NIL` has `f = 0`: it precedes every block that has an
//! operation, so it comes first. ∎
//!
//! The *zone* of a block is the span between `f` and `s`: *forward* if `f < s` (a value of the block is
//! held all that time), else *backward* (all its operations have those instants in common). (2) says
//! that no two forward zones overlap and that no backward zone lies in a forward one. Forward zones
//! sorted by `f` overlap if and only if two neighbours do; a backward zone lies in one if and only if it
//! lies in the last that begins before it.
//!
//! # Refused compare-and-sets
//!
//! One says that the register held another value at some instant while it was open; it changes nothing.
//! Which other value is not known, and placing them all at once looks hard; but most are plain. Let
//! `f(v)` be the first end among the operations of level of `v`'s writer and above in its block, and
//! `s(v)` the last beginning among the reads of `v` and the compare-and-set that expects it. In any order
//! `v` is in force from `f(v)` to `s(v)`: its writer took effect, and what depends on it still has to.
//! So, if there is an order without the refused ones, one of them of value `v`
//!
//! * can take effect if nobody wrote `v`, or if it is open at an instant at which another value is in
//!   force in any order;
//! * cannot if `v` is in force from its beginning to its end.
//!
//! The first kind can be added to any order, all together, as they change nothing. (Writes that are not
//! needed are left out in that order, which is fine; in the second case they do not matter.) Of any other
//! kind the engine says that it does not know.
//!
//! # Cost
//!
//! A [`Table`] is filled operation by operation, in any order, in constant time each; it takes 20 bytes a
//! value. The decision walks every block once and sorts the zones, 12 bytes each: O(v log v) for `v` values,
//! and O(v) where clusters come in the order of their zones.

use super::{Action, Decision, Engine, Id, Limits, Model, NIL, Op, Refutation};
use rustc_hash::FxHashMap;

mod core;
pub(crate) mod decide;
pub(crate) mod encode;
mod numbers;
mod online;
mod refused;
mod screen;
pub(crate) mod table;

pub use online::{Answer, Online, Request, Watch};
pub use screen::{Screen, ScreenedKey, operations_at, screen};
pub use table::Table;

/// The engine; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Zones;

/// The reason of the decision on operations that this engine cannot decide.
pub const NOT_UNIQUE: &str = "values-not-unique";

impl Engine for Zones {
    fn decide(&self, model: Model, ops: &[Op], _limits: &Limits) -> Decision {
        let decided = (model == Model::Register).then(|| decide(ops)).flatten();
        decided.unwrap_or_else(|| Decision::unknown(NOT_UNIQUE))
    }

    fn uses_zones(&self) -> bool {
        true
    }
}

/// Decides the operations on a register; `None` where the engine cannot: where a value is written
/// twice, and (rarely) beside refused compare-and-sets.
pub fn decide(ops: &[Op]) -> Option<Decision> {
    let table = table_of(ops)?;
    let decision = match table.decide()? {
        Ok(()) => Decision::Linearizable,
        Err(refuted) => Decision::NotLinearizable(refuted.refutation(ops)),
    };
    Some(decision)
}

/// The table of these operations, if they are of a register whose values are unique.
fn table_of(ops: &[Op]) -> Option<Table> {
    let greatest = ops.iter().map(|op| greatest_value(&op.action)).max();
    let mut table = Table::default();
    if greatest.is_some_and(|greatest| greatest as usize / 4 > ops.len()) {
        // The table is as long as the greatest value.
        let mut numbers: FxHashMap<Id, Id> = FxHashMap::default();
        numbers.insert(NIL, NIL);
        for op in ops {
            table.add(op, |value| {
                let next = numbers.len() as Id;
                *numbers.entry(value).or_insert(next)
            })?;
        }
    } else {
        for op in ops {
            table.add(op, |value| value)?;
        }
    }
    table.is_unique().then_some(table)
}

fn greatest_value(action: &Action) -> Id {
    match action {
        Action::Read(value) | Action::Write(value) | Action::CasRefused(value) => *value,
        Action::Cas(old, new) => *old.max(new),
        _ => NIL,
    }
}

/// That there is no order, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuted {
    /// One instant (invocation or completion) of each of a few operations, ascending: positions in
    /// the history. These operations cannot be ordered even if all others are left out.
    pub positions: Vec<u64>,
}

impl Refuted {
    /// The same, with operations by index.
    fn refutation(&self, ops: &[Op]) -> Refutation {
        let named = |position| self.positions.binary_search(&position).is_ok();
        let is_in = |op: &Op| named(op.call) || op.completion.is_some_and(named);
        let core: Vec<usize> = (0..ops.len()).filter(|&i| is_in(&ops[i])).collect();
        let by = core.iter().filter_map(|&i| ops[i].completion).max();
        Refutation { core, by }
    }
}

impl Table {
    /// Decides what was filled in; `None` where the engine cannot.
    pub fn decide(&self) -> Option<Result<(), Refuted>> {
        if !self.is_unique() {
            return None;
        }
        let decided = decide::decide(self)?;
        Some(decided.map_err(|conflict| Refuted {
            positions: core::positions(self, conflict),
        }))
    }
}

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod online_tests;
#[cfg(test)]
mod tests;
