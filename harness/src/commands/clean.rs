//! `quorate clean`: undoes what a crashed run left behind, and removes old runs.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};

use crate::cli::CleanArgs;
use crate::local::leftovers;
use crate::{exit, store};

/// Undoes leftovers that can be proven to be ours (processes, control groups and what was done to
/// them) of runs whose harness and keeper are both gone, then removes old runs if asked.
///
/// # Errors
/// If the store cannot be read, something cannot be undone or a run cannot be removed.
pub fn run(args: &CleanArgs) -> Result<u8> {
    if args.on.is_some() {
        return super::k8s::clean(args);
    }
    let mut out = std::io::stdout().lock();
    let runs = store::runs(&args.store)
        .with_context(|| format!("cannot read {}", args.store.display()))?;
    let compared = store::compared(&args.store)
        .with_context(|| format!("cannot read {}", args.store.display()))?;
    let mut undone = 0;
    let mut failed = Vec::new();
    for run in runs.iter().chain(&compared) {
        for leftover in leftovers::find(&run.path)? {
            writeln!(out, "{leftover} of {}", run.path.display())?;
            if !args.dry_run
                && let Err(error) = leftover.undo()
            {
                failed.push(format!("{leftover}: {error}"));
                continue;
            }
            undone += 1;
        }
        if !args.dry_run {
            leftovers::forget(&run.path)?;
        }
    }
    let mut removed = 0;
    if let Some(keep) = args.keep {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        // Newest first, so the first `keep` of each name stay.
        for run in &runs {
            let count = seen.entry(&run.name).or_default();
            *count += 1;
            if *count > keep {
                removed += 1;
                writeln!(out, "run {}", run.path.display())?;
                if !args.dry_run {
                    std::fs::remove_dir_all(&run.path)
                        .with_context(|| format!("cannot remove {}", run.path.display()))?;
                }
            }
        }
    }
    let done = if args.dry_run { "would be" } else { "were" };
    writeln!(
        out,
        "{undone} leftovers {done} undone, {removed} runs {done} removed"
    )?;
    anyhow::ensure!(
        failed.is_empty(),
        "left as they are:\n  {}",
        failed.join("\n  ")
    );
    Ok(exit::VALID)
}
