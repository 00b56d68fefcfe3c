//! MariaDB: a primary with replicas, asynchronous or semi-synchronous
//! (<https://mariadb.com/kb/en/standard-replication/>), or a Galera cluster
//! (<https://mariadb.com/kb/en/galera-cluster/>).
//!
//! | module | what it does |
//! | --- | --- |
//! | `config` | what nodes are configured with |
//! | `start` | how they are started: from one template, so that all begin with the same state |
//! | `failover` | promotes replicas, and has others follow or begin anew |
//! | `status` | what nodes say of themselves |

mod config;
mod failover;
mod start;
mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use checkers::ConsistencyModel;
use mysql_async::{Conn, Opts, OptsBuilder};
use nemesis::{Capabilities, FaultKind as K};
use serde::{Deserialize, Serialize};
use workloads::client::mysql::{Access, MysqlClient};

use super::client::password;
use super::recipe::{CLOCKS, Ready, Recipe, Status};
use super::{AnyClient, ClientError, Target};

use self::status::{status, status_as};

/// What it can be asked for.
const OPERATIONS: [&str; 8] = [
    "read",
    "write",
    "cas",
    "append",
    "add",
    "increment",
    "txn",
    "transfer",
];
/// The user and the database of clients, where none are named.
const CLIENT: &str = "quorate";
/// Who looks after the nodes started here, and whose tables are those of failovers.
const ADMIN: &str = "quorate_admin";

/// MariaDB, and how it is used. What is left out is as the servers have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Mariadb {
    /// How writes reach other nodes.
    pub replication: Replication,
    /// `rpl_semi_sync_master_timeout`, milliseconds: after so long without an acknowledgement
    /// semi-synchronous replication goes on asynchronously.
    pub timeout_ms: u64,
    /// `rpl_semi_sync_master_wait_point`.
    pub wait_point: WaitPoint,
    /// `wsrep_sync_wait` of Galera: 0 to 15; 1 has reads wait for what was committed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_wait: Option<u8>,
    /// The isolation level of transactions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// `innodb_snapshot_isolation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_isolation: Option<Switch>,
    /// Who is read from.
    pub reads: Reads,
    /// `innodb_flush_log_at_trx_commit`: 0, 1, 2; with 1 the binary log goes to disk with every
    /// commit, too.
    pub flush: u8,
    /// Whom clients log in as.
    pub user: String,
    /// The database that their tables are in.
    pub database: String,
    /// The variable of the environment that holds their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// How writes reach other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replication {
    /// After they were acknowledged.
    #[default]
    Async,
    /// One replica has them before they are acknowledged, or a timeout has passed.
    SemiSync,
    /// All nodes of the cluster agree on their order before they are acknowledged.
    Galera,
}

/// When a semi-synchronous primary waits for a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitPoint {
    /// Before others see the write.
    AfterSync,
    /// When others see it already.
    #[default]
    AfterCommit,
}

impl WaitPoint {
    fn name(self) -> &'static str {
        match self {
            Self::AfterSync => "after-sync",
            Self::AfterCommit => "after-commit",
        }
    }
}

/// The isolation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// `READ UNCOMMITTED`.
    ReadUncommitted,
    /// `READ COMMITTED`.
    ReadCommitted,
    /// `REPEATABLE READ`.
    RepeatableRead,
    /// `SERIALIZABLE`.
    Serializable,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read-uncommitted",
            Self::ReadCommitted => "read-committed",
            Self::RepeatableRead => "repeatable-read",
            Self::Serializable => "serializable",
        }
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Who is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// Nodes that take writes.
    #[default]
    Primary,
    /// Whoever is asked.
    Any,
}

impl Default for Mariadb {
    fn default() -> Self {
        Self {
            replication: Replication::default(),
            // As MariaDB itself has it.
            timeout_ms: 10_000,
            wait_point: WaitPoint::default(),
            sync_wait: None,
            isolation: None,
            snapshot_isolation: None,
            reads: Reads::default(),
            flush: 1,
            user: CLIENT.to_owned(),
            database: CLIENT.to_owned(),
            password_env: None,
        }
    }
}

impl Mariadb {
    /// Whether every node takes writes.
    pub fn is_galera(&self) -> bool {
        self.replication == Replication::Galera
    }

    /// How clients speak to it.
    pub fn access(&self) -> Access {
        let mut session = Vec::new();
        if let Some(level) = self.isolation {
            let level = level.name().replace('-', " ").to_uppercase();
            session.push(format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"));
        }
        if let Some(on) = self.snapshot_isolation {
            session.push(format!(
                "SET SESSION innodb_snapshot_isolation = {}",
                on.name()
            ));
        }
        if let Some(wait) = self.sync_wait {
            session.push(format!("SET SESSION wsrep_sync_wait = {wait}"));
        }
        Access {
            user: self.user.clone(),
            password: password(self.password_env.as_deref()),
            database: self.database.clone(),
            session,
            primary_reads: self.reads == Reads::Primary && !self.is_galera(),
        }
    }
}

impl Target for Mariadb {
    fn mode(&self) -> String {
        let mut words = vec![match self.replication {
            Replication::Async => "async".to_owned(),
            Replication::SemiSync => format!(
                "semi-sync ({} ms, {})",
                self.timeout_ms,
                self.wait_point.name()
            ),
            Replication::Galera => "galera".to_owned(),
        }];
        words.extend(self.sync_wait.map(|wait| format!("wsrep_sync_wait {wait}")));
        words.extend(self.isolation.map(|level| level.name().to_owned()));
        let snapshots = self.snapshot_isolation;
        words.extend(snapshots.map(|on| format!("innodb_snapshot_isolation {}", on.name())));
        if self.reads == Reads::Any && !self.is_galera() {
            words.push("reads from any node".to_owned());
        }
        if self.flush != 1 {
            words.push(format!("flush {}", self.flush));
        }
        words.join(", ")
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        Ok(AnyClient::Mysql(MysqlClient::new(timeout, self.access())))
    }

    fn validate(&self) -> Result<(), String> {
        if self.flush > 2 {
            return Err(format!("flush: expected 0, 1 or 2, not {}", self.flush));
        }
        if let Some(wait) = self.sync_wait {
            if !self.is_galera() {
                return Err("sync-wait: expected replication=galera with it".to_owned());
            }
            if wait > 15 {
                return Err(format!("sync-wait: expected 0 to 15, not {wait}"));
            }
        }
        Ok(())
    }

    // What is said of it is what the level is called; the servers' own is taken for what it is by
    // default, `REPEATABLE READ`.
    fn promises(&self) -> ConsistencyModel {
        match self.isolation {
            Some(Isolation::ReadUncommitted) => ConsistencyModel::ReadUncommitted,
            Some(Isolation::ReadCommitted) => ConsistencyModel::ReadCommitted,
            Some(Isolation::Serializable) => ConsistencyModel::Serializable,
            Some(Isolation::RepeatableRead) | None => match self.snapshot_isolation {
                Some(Switch::On) => ConsistencyModel::SnapshotIsolation,
                Some(Switch::Off) | None => ConsistencyModel::RepeatableRead,
            },
        }
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn capabilities(&self, here: Capabilities) -> Capabilities {
        let here = RECIPE.capabilities(here);
        if !self.is_galera() {
            return here;
        }
        let reason = "every node of a Galera cluster takes writes: nobody leads, nobody follows";
        here.without_role("leader", reason)
            .without_role("follower", reason)
    }

    fn has_leader(&self) -> bool {
        !self.is_galera()
    }

    fn status(&self) -> Option<Status> {
        let access = Arc::new(self.access());
        Some(Status::elsewhere(move |_, node, at| {
            let access = Arc::clone(&access);
            Box::pin(async move { status_as(&access, node, at).await })
        }))
    }
}

const POWER: &str = "replicas do not come up again after it on the layer that loses what was not \
                     synced, and why is not known";

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "mariadb",
    programs: &[
        "mariadbd",
        "mariadb-install-db",
        "mariadb",
        "mariadb-backup",
        "socat",
    ],
    install: "apt-get install mariadb-server mariadb-backup galera-4 socat",
    version: &["--version"],
    in_shell: true,
    arguments: start::arguments,
    ready: Ready::Connects,
    // A node of Galera may have to be given all data before it takes connections.
    ready_within: Duration::from_secs(60),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: Some(failover::manager),
    without: &[
        (&[K::PowerLoss, K::TornWrite], POWER),
        (
            CLOCKS,
            "nothing that MariaDB replicates by goes by the clock",
        ),
    ],
};

/// A connection of the administrator to a node started here.
async fn admin(at: SocketAddr) -> Result<Conn, mysql_async::Error> {
    let options: Opts = OptsBuilder::default()
        .ip_or_hostname(at.ip().to_string())
        .tcp_port(at.port())
        .user(Some(ADMIN))
        .prefer_socket(false)
        .max_allowed_packet(Some(1024 * 1024))
        .wait_timeout(Some(60))
        .into();
    Conn::new(options).await
}

/// A position in the order of all writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Gtid {
    /// How many writes precede it, itself included.
    sequence: u64,
    /// Where it was written first.
    server: u64,
}

impl Gtid {
    /// The furthest of a list as in `0-1-42,0-2-43`; the beginning if it is empty.
    fn furthest(text: &str) -> Self {
        let one = |text: &str| {
            let mut parts = text.trim().splitn(3, '-').skip(1).map(str::parse);
            let server = parts.next()?.ok()?;
            let sequence = parts.next()?.ok()?;
            Some(Self { sequence, server })
        };
        text.split(',').filter_map(one).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_told_in_words() {
        assert_eq!(Mariadb::default().mode(), "async");
        let short = Mariadb {
            replication: Replication::SemiSync,
            timeout_ms: 1000,
            reads: Reads::Any,
            ..Mariadb::default()
        };
        let mode = "semi-sync (1000 ms, after-commit), reads from any node";
        assert_eq!(short.mode(), mode);
        let galera = Mariadb {
            replication: Replication::Galera,
            sync_wait: Some(1),
            isolation: Some(Isolation::RepeatableRead),
            snapshot_isolation: Some(Switch::On),
            flush: 2,
            ..Mariadb::default()
        };
        let mode =
            "galera, wsrep_sync_wait 1, repeatable-read, innodb_snapshot_isolation on, flush 2";
        assert_eq!(galera.mode(), mode);
    }

    #[test]
    fn only_what_was_asked_for_is_set() {
        let access = Mariadb::default().access();
        assert!(access.session.is_empty() && access.primary_reads);
        let galera = Mariadb {
            replication: Replication::Galera,
            sync_wait: Some(3),
            isolation: Some(Isolation::ReadCommitted),
            snapshot_isolation: Some(Switch::Off),
            ..Mariadb::default()
        };
        let access = galera.access();
        assert!(!access.primary_reads);
        assert_eq!(
            access.session,
            [
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "SET SESSION innodb_snapshot_isolation = off",
                "SET SESSION wsrep_sync_wait = 3",
            ]
        );
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let told = |mariadb: Mariadb| mariadb.validate().unwrap_err();
        let default = Mariadb::default;
        assert!(
            told(Mariadb {
                flush: 3,
                ..default()
            })
            .contains("0, 1 or 2")
        );
        let wait = |replication, wait| Mariadb {
            replication,
            sync_wait: Some(wait),
            ..default()
        };
        assert!(told(wait(Replication::Async, 1)).contains("replication=galera"));
        assert!(told(wait(Replication::Galera, 16)).contains("0 to 15"));
        assert_eq!(wait(Replication::Galera, 15).validate(), Ok(()));
    }

    #[test]
    fn of_positions_the_furthest_counts() {
        let gtid = |server, sequence| Gtid { sequence, server };
        for (text, wanted) in [
            ("", gtid(0, 0)),
            ("0-1-42", gtid(1, 42)),
            ("0-1-42,0-3-57", gtid(3, 57)),
            ("nonsense", gtid(0, 0)),
        ] {
            assert_eq!(Gtid::furthest(text), wanted, "{text}");
        }
    }
}
