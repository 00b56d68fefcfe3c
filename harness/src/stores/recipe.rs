//! How nodes of a store of another maker are started: from the distribution's own package, with data,
//! configuration and addresses of their own; nothing global is touched.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nemesis::{Capabilities, FaultKind, Node, NodeView};

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
    /// What a node says of itself.
    pub status: Status,
    /// What promotes another node when the primary is lost, if the store itself does not.
    pub failover: Option<Manager>,
    /// Faults that it cannot suffer, or not be told to, and why.
    pub without: &'static [(FaultKind, &'static str)],
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

/// Which protocol a node says in what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The reference store's.
    Reference,
    /// etcd's.
    Etcd,
    /// That of the monitor of NATS.
    #[cfg(feature = "nats")]
    Nats,
    /// AMQP's greeting, which says that a node is there.
    #[cfg(feature = "rabbitmq")]
    RabbitMq,
    /// That of MariaDB.
    #[cfg(feature = "mysql")]
    Mariadb,
    /// PostgreSQL's, in SQL.
    #[cfg(feature = "postgres")]
    Postgres,
    /// That of Redis, and of the Sentinel beside it.
    #[cfg(feature = "redis")]
    Redis,
    /// ZooKeeper's four letters.
    #[cfg(feature = "zookeeper")]
    Zookeeper,
}

impl Status {
    /// What the node at this address says; `None` if nothing, or not in time.
    pub async fn ask(self, http: &reqwest::Client, node: Node, at: SocketAddr) -> Option<NodeView> {
        match self {
            Self::Reference => crate::local::view::ask(http, node, at).await,
            Self::Etcd => super::etcd::status(http, node, at).await,
            #[cfg(feature = "nats")]
            Self::Nats => super::nats::status(http, node, at).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq => super::rabbitmq::status(node, at).await,
            #[cfg(feature = "mysql")]
            Self::Mariadb => super::mariadb::status(node, at).await,
            #[cfg(feature = "postgres")]
            Self::Postgres => super::postgres::status(node, at).await,
            #[cfg(feature = "redis")]
            Self::Redis => super::redis::status(node, at).await,
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper => super::zookeeper::status(node, at).await,
        }
    }
}

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

    /// What can be done to it, of what can be done to processes here.
    pub fn capabilities(&self, here: Capabilities) -> Capabilities {
        let without = self.without.iter();
        without.fold(here, |all, &(kind, why)| all.without(kind, why))
    }
}

/// Refuses what the programs found here cannot do.
///
/// # Errors
/// What would be right.
pub fn able(store: &Store) -> Result<(), String> {
    match store {
        #[cfg(feature = "nats")]
        Store::Nats(nats) => nats.startable(),
        _ => Ok(()),
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
