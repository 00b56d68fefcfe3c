//! `quorate list`: what there is to choose from.

use std::io::Write;

use anyhow::Result;

use crate::{exit, judge};

/// Prints workloads, faults, checkers and modes.
///
/// # Errors
/// If stdout is closed.
pub fn run() -> Result<u8> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "modes (--mode)")?;
    for (name, what) in MODES {
        writeln!(out, "  {name:<22} {what}")?;
    }
    writeln!(out, "\nworkloads (--workload)")?;
    for entry in workloads::catalogue() {
        writeln!(out, "  {:<22} {}", entry.name, entry.description)?;
    }
    writeln!(out, "\nfaults (--nemesis)")?;
    for (name, what) in nemesis::package::catalogue() {
        writeln!(out, "  {name:<22} {what}")?;
    }
    writeln!(out, "\ncheckers (--checks)")?;
    for name in judge::checker_names() {
        writeln!(out, "  {name}")?;
    }
    Ok(exit::VALID)
}

/// What `--mode` takes.
const MODES: [(&str, &str); 4] = [
    (
        "async",
        "single leader; acknowledges once the write is in its own log",
    ),
    (
        "semi-sync, semi-sync(k)",
        "single leader; waits for k followers",
    ),
    ("sync", "single leader; waits for every follower"),
    ("raft", "consensus; linearizable reads by ReadIndex"),
];
