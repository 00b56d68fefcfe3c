//! What of a run could outlive the harness: its control groups, what is done to them, and what runs
//! in them. All of it is known to a keeper before it is there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

use nemesis::mechanism::cgroup::Groups;
use nemesis::mechanism::keeper::{Keeper, Launch, Lost};
use nemesis::mechanism::lease::{Lease, Undo};

use super::leftovers;
use super::procfs::Identity;
use super::program::Program;
use super::start_error::{StartError, io_error};
use crate::substrate::Happening;

/// The lease of the control groups of a run.
const GROUPS: &str = "groups";

/// Runs of this process so far: each has groups of its own.
static RUNS: AtomicU32 = AtomicU32::new(1);

/// The keeper of a run and its control groups.
#[derive(Debug)]
pub(super) struct Custody {
    /// Undoes what this process does not live to undo.
    pub keeper: Arc<Keeper>,
    /// As far as there are any.
    pub groups: Groups,
}

impl Custody {
    /// Starts the keeper and makes the groups. The run is over when there is no keeper any more.
    pub fn begin(
        run_dir: &Path,
        program: &Program,
        events: Sender<Happening>,
    ) -> Result<Self, StartError> {
        let writing = || io_error(format!("writing into {}", run_dir.display()));
        let run_dir = std::fs::canonicalize(run_dir).map_err(writing())?;
        let file = run_dir.join(leftovers::LEASES);
        let launch = Launch {
            program: std::env::current_exe().map_err(io_error("finding this program"))?,
            arguments: (program.keeper)(&file),
            log: run_dir.join("keeper.log"),
            file,
        };
        let lost = move |why: &Lost| {
            // The runner may be gone already.
            let _ = events.send(Happening::Broken(why.to_string()));
        };
        let starting = |why: Lost| io_error("starting the keeper")(std::io::Error::other(why));
        let keeper = Keeper::start(launch, lost).map_err(starting)?;
        let me = Identity::of(std::process::id()).map_err(io_error("reading /proc"))?;
        let number = RUNS.fetch_add(1, Ordering::SeqCst);
        let run = format!("{}-{}-{number}", me.pid, me.start_time);
        let lease = |groups| Lease::new(GROUPS, Undo::Remove(groups));
        keeper
            .register(lease(Groups::candidates(&run)))
            .map_err(starting)?;
        let groups = Groups::create(&run);
        keeper
            .register(lease(groups.distinct().into_iter().collect()))
            .map_err(starting)?;
        Ok(Self {
            keeper: Arc::new(keeper),
            groups,
        })
    }

    /// Removes the groups and lets the keeper go, once all nodes have ended.
    pub fn end(&self) {
        match self.groups.remove() {
            Ok(()) => self.keeper.release(GROUPS),
            // The keeper tries on.
            Err(error) => tracing::warn!(%error, "control groups are left"),
        }
        self.keeper.close();
    }
}
