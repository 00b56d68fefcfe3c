//! What outlived its harness and its keeper. Nodes end with the harness, and the keeper undoes the
//! rest, so there should be nothing; this is for the case that there is, e.g. because both were
//! killed at once.

use std::path::Path;
use std::{fmt, fs, io};

use nemesis::mechanism::lease::{Leases, Undo};

use super::manifest::{Entry, Manifest};
use super::procfs;

/// The file of a run directory with the leases of the run, while it goes on.
pub const LEASES: &str = "leases.json";

/// Something that a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Which node it was, e.g. `n2`, if it is a process of one.
    pub node: Option<String>,
    /// What it is, and what undoes it.
    pub undo: Undo,
}

impl Leftover {
    /// Undoes it. That it is gone meanwhile is no error.
    ///
    /// # Errors
    /// When it belongs to another user, or does not end.
    pub fn undo(&self) -> io::Result<()> {
        self.undo.carry_out()
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{} ({node})", self.undo),
            None => write!(f, "{}", self.undo),
        }
    }
}

/// Same pid, same start time, same boot, same program: then it is the process that the run started,
/// and no other that happens to have its number now.
fn is_ours(entry: &Entry) -> bool {
    entry.identity.is_alive()
        && procfs::executable(entry.identity.pid).is_ok_and(|path| path == entry.executable)
}

/// What is left of the run of this directory, in the order in which to undo it, if neither the
/// harness nor its keeper is there to do so. Undoes nothing.
///
/// # Errors
/// When its files cannot be read. A run directory without them has no leftovers.
pub fn find(run_dir: &Path) -> io::Result<Vec<Leftover>> {
    let leases = Leases::read(&run_dir.join(LEASES))?;
    if leases.as_ref().is_some_and(|leases| !leases.are_orphaned()) {
        return Ok(Vec::new());
    }
    let manifest = Manifest::read(run_dir)?;
    if manifest.as_ref().is_some_and(|m| m.owner.is_alive()) {
        return Ok(Vec::new());
    }
    let processes = manifest.map(|manifest| manifest.processes);
    let processes = processes.unwrap_or_default();
    let leased = leases.iter().flat_map(Leases::standing).map(|lease| {
        let named = processes.iter().find(|entry| match &lease.undo {
            Undo::Kill(identity) | Undo::Continue(identity) => *identity == entry.identity,
            _ => false,
        });
        Leftover {
            node: named.map(|entry| format!("n{}", entry.node)),
            undo: lease.undo.clone(),
        }
    });
    let mut found: Vec<_> = leased.collect();
    for entry in processes.iter().filter(|entry| is_ours(entry)) {
        let undo = Undo::Kill(entry.identity.clone());
        if found.iter().all(|leftover| leftover.undo != undo) {
            found.push(Leftover {
                node: Some(format!("n{}", entry.node)),
                undo,
            });
        }
    }
    Ok(found)
}

/// Removes the file of leases of a run that has nothing left.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(run_dir: &Path) -> io::Result<()> {
    let path = run_dir.join(LEASES);
    match Leases::read(&path)? {
        Some(leases) if leases.are_orphaned() && leases.standing().next().is_none() => {
            fs::remove_file(path)
        }
        _ => Ok(()),
    }
}
