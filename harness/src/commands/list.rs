//! `quorate list`: what there is to choose from.

use std::io::Write;

use anyhow::Result;
use nemesis::package::Kind;

use crate::{exit, judge, mode};

/// The parameters of a workload with their defaults, in one line.
fn parameters(parameters: &workloads::Parameters) -> String {
    let fields = serde_json::to_value(parameters).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    let pairs = fields.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}: {text}"),
        None => format!("{name}: {value}"),
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

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
        writeln!(out, "  {:<26} {}", "", parameters(&entry.parameters))?;
    }
    for (title, kind) in [
        ("faults (--nemesis, use:)", Kind::Package),
        ("composites (--nemesis, use:)", Kind::Composite),
    ] {
        writeln!(out, "\n{title}")?;
        for (name, what) in nemesis::package::catalogue_of(kind) {
            writeln!(out, "  {name:<32} {what}")?;
        }
    }
    writeln!(out, "\ncheckers (--checks)")?;
    for name in judge::checker_names() {
        writeln!(out, "  {name}")?;
    }
    Ok(exit::VALID)
}
