//! The diagnosis as a table for people.

use std::fmt::Write as _;

use super::{Diagnosis, FaultOn, SUBSTRATES};
use crate::report::screen::Style;

const NAME: usize = 20;
const COLUMN: usize = 28;

/// Two tables: the faults with their mechanisms on each substrate, then what is missing and why.
pub fn table(diagnosis: &Diagnosis, style: Style) -> String {
    let mut out = String::new();
    let machine = &diagnosis.machine;
    let _ = writeln!(out, "\n  {} · {}\n", machine.kernel, machine.user);
    let mut head = format!("  {:<NAME$}", "Fault");
    for substrate in SUBSTRATES {
        let _ = write!(head, "{:<COLUMN$}", substrate.to_string());
    }
    let _ = writeln!(out, "{}", style.bold(head.trim_end()));
    for fault in &diagnosis.faults {
        let mut line = format!("  {:<NAME$}", fault.fault.name());
        for on in &fault.on {
            let cell = format!("{:<COLUMN$}", cell(on));
            line.push_str(&if on.reason.is_some() {
                style.dim(&cell)
            } else {
                cell
            });
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let missing: Vec<_> = diagnosis
        .mechanisms
        .iter()
        .filter(|m| !m.available)
        .collect();
    if !missing.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold("  Missing here"));
        for mechanism in missing {
            let reason = mechanism.reason.as_deref().unwrap_or_default();
            let _ = writeln!(out, "  {:<NAME$}{reason}", mechanism.name);
        }
    }
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for fault in &diagnosis.faults {
        for on in &fault.on {
            if let Some(reason) = &on.reason {
                let text = format!("{}: {reason}", on.substrate);
                let name = fault.fault.name().to_owned();
                match reasons.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, names)) => names.push(name),
                    None => reasons.push((text, vec![name])),
                }
            }
        }
    }
    if !reasons.is_empty() {
        let _ = writeln!(out, "\n{}", style.bold("  Not to be done here"));
        for (reason, names) in reasons {
            let _ = writeln!(out, "  {}\n      {}", names.join(", "), style.dim(&reason));
        }
    }
    out.push('\n');
    out
}

fn cell(on: &FaultOn) -> String {
    match on.reason {
        None => on.mechanisms.join(", "),
        Some(_) => "—".to_owned(),
    }
}

/// The table of faults in Markdown.
pub fn markdown(diagnosis: &Diagnosis) -> String {
    let mut out = String::from("| fault | what it does |");
    for substrate in SUBSTRATES {
        let _ = write!(out, " {substrate} |");
    }
    out.push_str("\n| --- | --- |");
    out.push_str(&" --- |".repeat(SUBSTRATES.len()));
    out.push('\n');
    for fault in &diagnosis.faults {
        let _ = write!(out, "| `{}` | {} |", fault.fault.name(), fault.what);
        for on in &fault.on {
            let _ = write!(
                out,
                " {} |",
                on.reason
                    .clone()
                    .map_or_else(|| cell(on), |r| format!("no: {r}"))
            );
        }
        out.push('\n');
    }
    out
}
