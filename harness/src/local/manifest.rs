//! `processes.json` of a run directory: which processes this run owns, kept while it runs so that
//! what a crashed run left behind can be found and proven to be its own.

use std::path::{Path, PathBuf};
use std::{fs, io};

use nemesis::Node;
use serde::{Deserialize, Serialize};

use super::procfs::Identity;

/// The name of the file in the run directory.
pub const FILE_NAME: &str = "processes.json";

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The harness. While it is alive its nodes are not left behind.
    pub owner: Identity,
    /// The nodes that are running; empty once the run has ended.
    pub processes: Vec<Entry>,
}

/// One running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which node.
    pub node: Node,
    /// Which process.
    #[serde(flatten)]
    pub identity: Identity,
    /// The program it runs.
    pub executable: PathBuf,
}

impl Manifest {
    /// Reads the manifest of a run directory; `None` if it has none.
    ///
    /// # Errors
    /// When the file cannot be read or is not a manifest.
    pub fn read(run_dir: &Path) -> io::Result<Option<Self>> {
        let path = run_dir.join(FILE_NAME);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::other(format!("{} is not a manifest: {error}", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole: a crash leaves the old or the new one, never half of it.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, run_dir: &Path) -> io::Result<()> {
        let path = run_dir.join(FILE_NAME);
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, &path)
    }
}
