//! What of a run could outlive the harness on the cluster: its store, and what faults by the API
//! have changed. A keeper beside the harness knows how to undo it, and a Lease on the cluster says
//! that the run is alive.

use std::path::Path;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use k8s::{Cluster, beat};
use nemesis::mechanism::keeper::{Keeper, Launch, Lost};
use nemesis::mechanism::lease::{Command, Lease, Undo};

use crate::local::leftovers;
use crate::substrate::Happening;

/// The lease of everything that a run has on the cluster.
const TRACES: &str = "cluster";

/// The keeper of a run on a cluster.
pub(super) struct Custody {
    keeper: Keeper,
}

impl std::fmt::Debug for Custody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custody").finish_non_exhaustive()
    }
}

/// The arguments with which this program undoes all that a run has left.
pub(super) fn clean(namespace: &str, run: &str) -> Vec<String> {
    let words = [
        "clean",
        "--on",
        "k8s",
        "--namespace",
        namespace,
        "--run",
        run,
    ];
    words.map(str::to_owned).into()
}

impl Custody {
    /// Starts the keeper, before anything of the run is on the cluster. The run is over when there
    /// is no keeper any more.
    pub fn begin(
        run_dir: &Path,
        namespace: &str,
        run: &str,
        events: Sender<Happening>,
    ) -> Result<Self> {
        let run_dir = std::fs::canonicalize(run_dir)
            .with_context(|| format!("cannot find {}", run_dir.display()))?;
        let file = run_dir.join(leftovers::LEASES);
        let program = std::env::current_exe().context("cannot find this program")?;
        let launch = Launch {
            program: program.clone(),
            arguments: vec!["keeper".into(), "--leases".into(), file.clone().into()],
            log: run_dir.join("keeper.log"),
            file,
        };
        let lost = move |why: &Lost| {
            // The runner may be gone already.
            let _ = events.send(Happening::Broken(why.to_string()));
        };
        let keeper = Keeper::start(launch, lost).context("cannot start the keeper")?;
        let undo = Undo::Run(Command {
            program,
            arguments: clean(namespace, run),
        });
        keeper
            .register(Lease::new(TRACES, undo))
            .context("cannot start the keeper")?;
        Ok(Self { keeper })
    }

    /// Lets the keeper go. If not all is undone, it tries on before it ends.
    pub fn end(&self, all_undone: bool) {
        if all_undone {
            self.keeper.release(TRACES);
        }
        self.keeper.close();
    }
}

/// Says that the run is alive, until dropped. When the API server is away for a moment, so is this.
pub(super) async fn beat(cluster: Cluster, namespace: String, run: String) {
    for number in 1.. {
        tokio::time::sleep(beat::EVERY).await;
        if let Err(error) = beat::once(&cluster, &namespace, &run, number).await {
            tracing::debug!("{error}");
        }
    }
}
