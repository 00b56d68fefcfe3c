//! How nodes of a store of another maker are started: from the distribution's own package, with data,
//! configuration and addresses of their own; nothing global is touched.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use nemesis::{Capabilities, FaultKind, Node, NodeView};

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Which.
    pub node: Node,
    /// Its own directory, which exists.
    pub data_dir: &'a Path,
    /// Where clients are to find it.
    pub listen: SocketAddr,
    /// The addresses of all nodes, itself among them.
    pub members: &'a [(Node, IpAddr)],
}

/// A store that can be started.
#[derive(Debug)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// The program, looked for on the `PATH` and where distributions put servers.
    pub program: &'static str,
    /// What installs it.
    pub install: &'static str,
    /// The arguments that make it tell its version.
    pub version: &'static [&'static str],
    /// The arguments of a node.
    pub arguments: fn(&Setup<'_>) -> Vec<OsString>,
    /// Where it answers 200 when it serves.
    pub ready: &'static str,
    /// What a node says of itself.
    pub status: Status,
    /// Faults that it cannot suffer, or not be told to, and why.
    pub without: &'static [(FaultKind, &'static str)],
}

/// Which protocol a node says in what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The reference store's.
    Reference,
    /// etcd's.
    Etcd,
}

impl Status {
    /// What the node at this address says; `None` if nothing, or not in time.
    pub async fn ask(self, http: &reqwest::Client, node: Node, at: SocketAddr) -> Option<NodeView> {
        match self {
            Self::Reference => crate::local::view::ask(http, node, at).await,
            Self::Etcd => super::etcd::status(http, node, at).await,
        }
    }
}

/// Where servers are that are not on the `PATH`.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

impl Recipe {
    /// The program on this machine.
    ///
    /// # Errors
    /// What installs it, if it is missing.
    pub fn find(&self) -> Result<PathBuf, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
        let mut places = folders.map(|folder| folder.join(self.program));
        places.find(|place| place.is_file()).ok_or_else(|| {
            let Self {
                name,
                program,
                install,
                ..
            } = self;
            format!("{name} is not installed (no {program}): `{install}`")
        })
    }

    /// The first line that it tells of its version.
    pub fn version(&self) -> Option<String> {
        let output = Command::new(self.find().ok()?).args(self.version).output();
        let output = output.ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        said.lines().next().map(str::to_owned)
    }

    /// What can be done to it, of what can be done to processes here.
    pub fn capabilities(&self, here: Capabilities) -> Capabilities {
        let without = self.without.iter();
        without.fold(here, |all, &(kind, why)| all.without(kind, why))
    }
}
