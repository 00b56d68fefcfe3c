//! Histories of transactions, as the checkers of isolation need them.
//!
//! * `encode`: from a [`History`](crate::History) to transactions of micro-operations, with dense
//!   numbers for keys, values and processes.

pub(crate) mod encode;
