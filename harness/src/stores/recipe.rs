//! How nodes of a store of another maker are started: from the distribution's own package, with data,
//! configuration and addresses of their own; nothing global is touched.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nemesis::{Capabilities, FaultKind, Node, NodeView};
use tokio::time::timeout;

use super::Store;
use super::failover::Manager;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Which.
    pub node: Node,
    /// Its own directory, which exists. Faults of disks are done to what is in it.
    pub data_dir: &'a Path,
    /// A directory of its own for its configuration, which exists.
    pub config_dir: &'a Path,
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
    /// Its programs, looked for on the `PATH` and where distributions put servers; the first is the
    /// server itself.
    pub programs: &'static [&'static str],
    /// What installs it.
    pub install: &'static str,
    /// The arguments that make it tell its version.
    pub version: &'static [&'static str],
    /// A node is several processes, which a shell starts: the arguments are the shell's.
    pub in_shell: bool,
    /// Writes the configuration of a node where there is need of one, and gives its arguments.
    pub arguments: fn(&Setup<'_>, &Store) -> io::Result<Vec<OsString>>,
    /// How it is known to serve.
    pub ready: Ready,
    /// How soon after its start it does, at the latest.
    pub ready_within: Duration,
    /// How a node of such a cluster is asked what it is.
    pub status: fn(reqwest::Client, Node, SocketAddr) -> Said,
    /// What promotes another node when the primary is lost, if the store itself does not.
    pub failover: Option<Manager>,
    /// Faults that it cannot suffer beside those that no such store can, and why.
    pub without: &'static [Without],
}

/// How a node is known to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It answers a request for this path with 200.
    Http(&'static str),
    /// It answers the first line with the second.
    Line(&'static str, &'static str),
    /// It answers what begins with the first bytes with what begins with the second.
    Bytes(&'static [u8], &'static [u8]),
    /// It takes connections.
    Connects,
}

/// What a node says of itself; nothing if it does not, or not in time.
pub type Said = BoxFuture<'static, Option<NodeView>>;

/// How nodes are asked what they are.
#[derive(Clone)]
pub struct Status(Arc<dyn Fn(reqwest::Client, Node, SocketAddr) -> Said + Send + Sync>);

impl Status {
    /// They are asked like this.
    pub fn new(
        ask: impl Fn(reqwest::Client, Node, SocketAddr) -> Said + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// Nodes that run already are asked like this, perhaps with a login.
    pub fn elsewhere(
        ask: impl Fn(reqwest::Client, Node, SocketAddr) -> Said + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |http, node, at| {
            let said = timeout(ELSEWHERE_WITHIN, ask(http, node, at));
            Box::pin(async move { said.await.ok()? })
        })
    }

    /// What the node at this address says.
    pub fn ask(&self, http: reqwest::Client, node: Node, at: SocketAddr) -> Said {
        (self.0)(http, node, at)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").finish_non_exhaustive()
    }
}

/// How long a node that runs already may take for a login and an answer, through the API server of a
/// cluster where it is on one.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(1);

/// Kinds of faults that a store is without, and why.
pub type Without = (&'static [FaultKind], &'static str);

/// The kinds that make clocks wrong.
pub const CLOCKS: &[FaultKind] = &[
    FaultKind::ClockJump,
    FaultKind::ClockDrift,
    FaultKind::ClockStrobe,
];

/// Why clocks of most are left alone.
pub const CLOCK_NOT_SEEN: &str =
    "what it goes by cannot be asked, so a wrong clock cannot be proven";

/// What every store of another maker is without.
const WITHOUT: [Without; 3] = [
    (&[FaultKind::Crash], "it has no crash points"),
    (&VERSIONS, "there is one version of it on this machine"),
    (
        &[
            FaultKind::MoveHome,
            FaultKind::AddMember,
            FaultKind::RemoveMember,
            FaultKind::ReplaceMember,
            FaultKind::TransferLeadership,
            FaultKind::Snapshot,
        ],
        "requests of an operator are known for the reference store alone",
    ),
];

const VERSIONS: [FaultKind; 2] = [FaultKind::Upgrade, FaultKind::Downgrade];

/// Where servers are that are not on the `PATH`.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

impl Recipe {
    /// The server on this machine, where all its programs are.
    ///
    /// # Errors
    /// What installs it, if one is missing.
    pub fn find(&self) -> Result<PathBuf, String> {
        let missing = |program: &str| {
            format!(
                "{} is not installed (no {program}): `{}`",
                self.name, self.install
            )
        };
        let found: Result<Vec<_>, _> = self
            .programs
            .iter()
            .map(|program| found(program).ok_or_else(|| missing(program)))
            .collect();
        Ok(found?.swap_remove(0))
    }

    /// The first line that it tells of its version.
    pub fn version(&self) -> Option<String> {
        let output = Command::new(self.find().ok()?).args(self.version).output();
        let output = output.ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        said.lines().next().map(str::to_owned)
    }

    /// How nodes of such a cluster are asked what they are.
    pub fn status(&self) -> Status {
        Status::new(self.status)
    }

    /// What can be done to it, of what can be done to processes here.
    pub fn capabilities(&self, here: Capabilities) -> Capabilities {
        self.without()
            .fold(here, |all, (kind, why)| all.without(kind, why))
    }

    /// The same of what can be done to pods: their versions are images, whatever is installed here.
    pub fn capabilities_of_pods(&self, here: Capabilities) -> Capabilities {
        self.without()
            .filter(|(kind, _)| !VERSIONS.contains(kind))
            .fold(here, |all, (kind, why)| all.without(kind, why))
    }

    fn without(&self) -> impl Iterator<Item = (FaultKind, &'static str)> {
        let all = self.without.iter().chain(&WITHOUT);
        all.flat_map(|&(kinds, why)| kinds.iter().map(move |&kind| (kind, why)))
    }
}

/// Programs that take the place of others and are run as these are.
const SUCCESSORS: [(&str, &str); 2] = [
    ("redis-server", "valkey-server"),
    ("redis-sentinel", "valkey-sentinel"),
];

/// A program on the `PATH`, or where servers are, or else its successor there.
pub fn found(program: &str) -> Option<PathBuf> {
    let successor = SUCCESSORS.iter().find(|(it, _)| *it == program);
    let named = successor.map(|(_, successor)| *successor);
    installed(program).or_else(|| installed(named?))
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(FOLDERS.map(PathBuf::from))
        .chain(versioned());
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}

/// Where Debian puts the servers of PostgreSQL: a folder for each version, the newest first.
fn versioned() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut versions: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let folder = |version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
    versions.into_iter().map(folder).collect()
}
