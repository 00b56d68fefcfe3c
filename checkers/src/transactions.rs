//! Transactions of several reads and writes, and the isolation that they got: as Elle does it
//! (Kingsbury & Alvaro, *Elle: Inferring Isolation Anomalies from Experimental Observations*, VLDB
//! 2020).
//!
//! * `encode`: from a [`History`](crate::History) to transactions of micro-operations, with dense
//!   numbers for keys, values and processes.
//! * `lists`, `registers`: how transactions depend on each other, by what they read and wrote.
//! * `order`: how they depend by process and by real time.
//! * `graph`: the graph of dependencies and its strongly connected components.
//! * `cycles`: the cycles in it, each by its name in the literature.
//! * `models`: which consistency models forbid what was found.
//! * `findings`: what was found, in words, and the verdict.
//! * `list_append`, `rw_register`: the checkers.
//!
//! # Transactions
//!
//! An operation `txn` lists micro-operations: `[:append k v]` appends to a list, `[:w k v]`
//! overwrites a register, `[:r k nil]` reads either. Its completion repeats them with what the reads
//! showed. What failed is no dependency; what may have failed counts once somebody saw it.

mod cycles;
pub(crate) mod encode;
mod findings;
mod graph;
mod list_append;
mod lists;
mod models;
mod order;
mod registers;
mod rw_register;

pub use list_append::ListAppend;
pub use models::ConsistencyModel;
pub use rw_register::RwRegister;

use crate::Value;

/// Whether a transaction reads, and does nothing else.
pub(crate) fn only_reads(value: &Value) -> bool {
    let reads = |micro: &Value| {
        let name = micro.items().and_then(<[Value]>::first);
        matches!(name, Some(Value::Keyword(name) | Value::Str(name) | Value::Symbol(name)) if matches!(&**name, "r" | "read"))
    };
    value.items().is_some_and(|micro| micro.iter().all(reads))
}

#[cfg(test)]
mod tests;
