//! `quorate list`: what there is to choose from.

use std::io::Write;

use anyhow::Result;

use crate::{exit, judge, mode};

/// Prints workloads, faults, checkers and modes.
///
/// # Errors
/// If stdout is closed.
pub fn run() -> Result<u8> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "modes (--mode)")?;
    for mode in &mode::WORDS {
        writeln!(out, "  {:<26} {}", mode.word, mode.description)?;
    }
    writeln!(out, "\nworkloads (--workload)")?;
    for entry in workloads::catalogue() {
        writeln!(out, "  {:<26} {}", entry.name, entry.description)?;
    }
    writeln!(out, "\nfaults (--nemesis)")?;
    for (name, what) in nemesis::package::catalogue() {
        writeln!(out, "  {name:<26} {what}")?;
    }
    writeln!(out, "\ncheckers (--checks)")?;
    for name in judge::checker_names() {
        writeln!(out, "  {name}")?;
    }
    Ok(exit::VALID)
}
