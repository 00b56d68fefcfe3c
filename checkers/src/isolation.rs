//! Isolation of transactions.

mod analysis;
mod clocks;
mod execution;
mod graph;
mod levels;

#[cfg(test)]
mod tests;
