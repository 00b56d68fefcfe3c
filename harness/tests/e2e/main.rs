//! End-to-end tests: the binary as a user runs it, and the checkers against the simulation's truth.
//! One program, so that it is linked once.

mod bad_input;
mod check;
mod compare;
mod determinism;
mod disk;
mod explore;
mod external;
mod gateway;
#[cfg(feature = "k8s")]
mod k8s;
mod leases;
mod local;
mod minimal;
mod netns;
mod preflight;
mod schedules;
mod shrink;
mod stores;
mod truth;
mod truth_table;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary under test.
pub fn quorate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
}

/// The run directory of the only experiment in a store.
pub fn run_dir(store: &Path) -> PathBuf {
    std::fs::canonicalize(store.join("demo/latest")).unwrap()
}
