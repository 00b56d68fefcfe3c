//! PostgreSQL with streaming replication (<https://www.postgresql.org/docs/15/warm-standby.html>): the
//! first node begins as primary, the others as copies of it. It does not fail over by itself:
//! [`super::failover`] does, and a former primary is made anew from the new one.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`patroni`] | the same under Patroni, which fails over by itself |
//! | `managed` | where nodes stand, and what they are told by who manages failovers |
//!
//! PostgreSQL refuses to run as root. Nodes run in a user namespace in which the user of the harness is
//! called `postgres`: their files stay the harness's own, wherever they are. Their System V shared
//! memory is in a namespace of its own, which ends with them.

mod managed;
pub mod patroni;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use checkers::ConsistencyModel;
use nemesis::{Node, NodeView};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls, Row};
use workloads::client::postgres::{Commit, Isolation, PostgresClient, Reads, Session, TABLE};

use super::Store;
use super::client::password;
use super::recipe::{CLOCKS, Ready, Recipe, Setup, Status, Without, found};
use super::{AnyClient, ClientError, Target};
use crate::local::connect_as_administrator;

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
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// The user of the package, which nodes take themselves for.
const USER: &str = "postgres";

/// Who connects to which database, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Postgres {
    /// How many standbys a commit waits for.
    pub sync: Synchronous,
    /// What a commit waits for; `on` as the server has it if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// The level of isolation; read committed as the server has it if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Who answers reads.
    pub reads: Reads,
    /// Whether what was committed is on disk.
    pub fsync: Fsync,
    /// The role that clients connect as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The variable of the environment that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            sync: Synchronous::default(),
            commit: None,
            isolation: None,
            reads: Reads::default(),
            fsync: Fsync::default(),
            user: USER.to_owned(),
            database: "postgres".to_owned(),
            password_env: None,
        }
    }
}

/// `synchronous_standby_names`: `none`, or `any-K`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Synchronous(pub u16);

impl TryFrom<String> for Synchronous {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let any = text.strip_prefix("any-").and_then(|k| k.parse().ok());
        match (text.as_str(), any) {
            ("none", _) => Ok(Self(0)),
            (_, Some(k)) if k > 0 => Ok(Self(k)),
            _ => Err(format!("expected none or any-1, any-2, …, not {text:?}")),
        }
    }
}

impl From<Synchronous> for String {
    fn from(Synchronous(k): Synchronous) -> Self {
        match k {
            0 => "none".to_owned(),
            k => format!("any-{k}"),
        }
    }
}

/// Whether what was committed is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fsync {
    /// It is.
    #[default]
    On,
    /// It is when the kernel writes it.
    Off,
}

impl Fsync {
    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What is asked of sessions, in a few words.
fn words(
    commit: Option<Commit>,
    isolation: Option<Isolation>,
    reads: Reads,
    fsync: Fsync,
) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(commit.map(|commit| format!("synchronous_commit {}", commit.sql())));
    words.extend(isolation.map(|isolation| isolation.sql().to_owned()));
    if reads == Reads::Any {
        words.push("reads from standbys".to_owned());
    }
    if fsync == Fsync::Off {
        words.push("fsync off".to_owned());
    }
    words
}

impl Postgres {
    /// What clients ask of their sessions.
    pub fn session(&self) -> Session {
        Session {
            user: self.user.clone(),
            database: self.database.clone(),
            password: password(self.password_env.as_deref()),
            isolation: self.isolation,
            commit: self.commit,
            reads: self.reads,
        }
    }
}

impl Target for Postgres {
    fn mode(&self) -> String {
        let replication = match self.sync.0 {
            0 => "asynchronous".to_owned(),
            k => format!("synchronous, any {k}"),
        };
        let mut all = vec![replication];
        all.extend(words(self.commit, self.isolation, self.reads, self.fsync));
        all.join(", ")
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let client = PostgresClient::new(timeout, self.session());
        Ok(AnyClient::Postgres(client))
    }

    fn promises(&self) -> ConsistencyModel {
        promises(self.isolation)
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn status(&self) -> Option<Status> {
        Some(asked_as(self.session()))
    }
}

/// What PostgreSQL promises of transactions at this level; its own is the lowest.
fn promises(isolation: Option<Isolation>) -> ConsistencyModel {
    match isolation {
        None | Some(Isolation::ReadCommitted) => ConsistencyModel::ReadCommitted,
        Some(Isolation::RepeatableRead) => ConsistencyModel::SnapshotIsolation,
        Some(Isolation::Serializable) => ConsistencyModel::Serializable,
    }
}

const INSTALL: &str = "apt-get install postgresql-15";
const CLOCK: &str =
    "no clock decides what PostgreSQL acknowledges, and a wrong one is not proven here";

const WITHOUT: &[Without] = &[(CLOCKS, CLOCK)];

/// A client that begins a session as `postgres`, and a server that takes it.
const GREETING: Ready = Ready::Bytes(
    b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0",
    b"R",
);

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "postgres",
    programs: &["postgres", "initdb", "pg_basebackup", "psql", "unshare"],
    install: INSTALL,
    version: &["--version"],
    in_shell: true,
    arguments,
    ready: GREETING,
    ready_within: Duration::from_secs(60),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: Some(managed::manager),
    without: WITHOUT,
};

/// Goes on, as its own `postgres`, with a script and what it is called with.
const AS_POSTGRES: &str =
    r#"exec unshare --user --ipc --map-user=postgres --map-group=postgres -- /bin/sh "$@""#;

/// The arguments of a shell that runs this script as `postgres`.
fn scripted(
    setup: &Setup<'_>,
    script: &str,
    with: impl IntoIterator<Item = OsString>,
) -> io::Result<Vec<OsString>> {
    let file = setup.config_dir.join("node.sh");
    fs::write(&file, script)?;
    let head: [OsString; 4] = ["-c".into(), AS_POSTGRES.into(), "node".into(), file.into()];
    Ok(head.into_iter().chain(with).collect())
}

fn program(name: &str) -> io::Result<PathBuf> {
    found(name).ok_or_else(|| io::Error::other(format!("no {name}")))
}

/// Where its programs are, all of them: a link to the server may be elsewhere.
fn programs() -> io::Result<OsString> {
    let server = fs::canonicalize(program("postgres")?)?;
    let folder = server.parent().map(|folder| folder.as_os_str().to_owned());
    folder.ok_or_else(|| io::Error::other("postgres is nowhere"))
}

fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::Postgres(postgres) = store else {
        return Err(io::Error::other("these are not the options of PostgreSQL"));
    };
    let text = server_config(setup, postgres);
    fs::write(setup.config_dir.join("postgresql.conf"), text)?;
    fs::write(setup.config_dir.join("pg_hba.conf"), HBA)?;
    let port = setup.listen.port();
    let first = setup.members.first().map_or(setup.node, |(node, _)| *node);
    let mut with: Vec<OsString> = vec![
        setup.data_dir.join("pg").into(),
        setup.config_dir.into(),
        programs()?,
        format!("n{}", setup.node).into(),
        format!("n{first}").into(),
        TABLE.into(),
    ];
    let others = setup.members.iter().filter(|(node, _)| *node != setup.node);
    with.extend(others.map(|(_, ip)| format!("{ip}:{port}").into()));
    scripted(setup, include_str!("postgres/node.sh"), with)
}

/// Who may connect: whoever reaches the network of a node.
const HBA: &str = "host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n";

/// What all nodes are given, whoever starts them.
const PARAMETERS: &[(&str, &str)] = &[
    ("wal_level", "replica"),
    ("wal_log_hints", "on"),
    ("hot_standby", "on"),
    ("max_wal_senders", "10"),
    ("max_connections", "300"),
    ("shared_buffers", "32MB"),
    ("dynamic_shared_memory_type", "sysv"),
    ("wal_keep_size", "512MB"),
    // A link that was cut is noticed within seconds.
    ("wal_sender_timeout", "2s"),
    ("wal_receiver_timeout", "2s"),
    ("wal_receiver_status_interval", "500ms"),
    ("wal_retrieve_retry_interval", "500ms"),
    // By itself it looks for deadlocks after a second, when clients have given up.
    ("deadlock_timeout", "100ms"),
    ("unix_socket_directories", ""),
];

fn server_config(setup: &Setup<'_>, postgres: &Postgres) -> String {
    let mut text = format!(
        "listen_addresses = '{}'\nport = {}\ncluster_name = 'n{}'\nfsync = {}\n",
        setup.listen.ip(),
        setup.listen.port(),
        setup.node,
        postgres.fsync.name(),
    );
    for (name, value) in PARAMETERS {
        text += &format!("{name} = '{value}'\n");
    }
    let Synchronous(k) = postgres.sync;
    if k > 0 {
        text += &format!("synchronous_standby_names = 'ANY {k} (*)'\n");
    }
    text
}

/// What a node says: whether it follows, its timeline, how much it shows, how much it has received,
/// whether it is connected to whom it follows, and how it connects to that one.
const STANDING: &str = "SELECT pg_is_in_recovery(), \
     CASE WHEN pg_is_in_recovery() THEN greatest( \
       (SELECT received_tli FROM pg_stat_wal_receiver), \
       (SELECT min_recovery_end_timeline FROM pg_control_recovery()), \
       (SELECT timeline_id FROM pg_control_checkpoint()))::bigint \
     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END, \
     (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
      ELSE pg_current_wal_lsn() END - '0/0')::bigint, \
     (CASE WHEN pg_is_in_recovery() \
      THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
      ELSE pg_current_wal_lsn() END - '0/0')::bigint, \
     EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
     current_setting('primary_conninfo')";

/// What a node said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    follows: bool,
    timeline: u64,
    shown: u64,
    received: u64,
    attached: bool,
    conninfo: String,
}

impl Said {
    fn of(row: &Row) -> Option<Self> {
        // A node that has replayed nothing yet has no place.
        let number = |at| {
            let number: Option<i64> = row.try_get(at).ok()?;
            u64::try_from(number.unwrap_or_default()).ok()
        };
        Some(Self {
            follows: row.try_get(0).ok()?,
            timeline: number(1)?,
            shown: number(2)?,
            received: number(3)?,
            attached: row.try_get(4).ok()?,
            conninfo: row.try_get(5).ok()?,
        })
    }
}

/// A session of the administrator, whom no fault disturbs.
async fn administrator(at: SocketAddr) -> io::Result<tokio_postgres::Client> {
    connected(&Postgres::default().session(), at).await
}

async fn connected(session: &Session, at: SocketAddr) -> io::Result<tokio_postgres::Client> {
    let stream = connect_as_administrator(at).await?;
    let mut config = Config::new();
    config.user(&session.user).dbname(&session.database);
    if let Some(password) = &session.password {
        config.password(password);
    }
    let connected = config.connect_raw(stream, NoTls).await;
    let (client, connection) = connected.map_err(io::Error::other)?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

async fn said(at: SocketAddr) -> Option<Said> {
    said_to(&Postgres::default().session(), at).await
}

async fn said_to(session: &Session, at: SocketAddr) -> Option<Said> {
    let client = connected(session, at).await.ok()?;
    Said::of(&client.query_typed(STANDING, &[]).await.ok()?.pop()?)
}

/// What a node says of itself: an old primary that was cut off still says that it leads.
async fn status(node: Node, at: SocketAddr) -> Option<NodeView> {
    status_as(&Postgres::default().session(), node, at).await
}

async fn status_as(session: &Session, node: Node, at: SocketAddr) -> Option<NodeView> {
    let said = timeout(ANSWER_WITHIN, said_to(session, at)).await.ok()??;
    Some(described(node, &said))
}

/// The same, said to this role.
fn asked_as(session: Session) -> Status {
    let session = Arc::new(session);
    Status::elsewhere(move |_, node, at| {
        let session = Arc::clone(&session);
        Box::pin(async move { status_as(&session, node, at).await })
    })
}

fn described(node: Node, said: &Said) -> NodeView {
    NodeView {
        role: Some(if said.follows { "follower" } else { "leader" }.to_owned()),
        epoch: said.timeline,
        last_index: said.shown,
        leader: (!said.follows).then_some(node),
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn options(text: &str) -> Result<Postgres, String> {
        match Store::from_flag(&format!("postgres:{text}"))? {
            Some(Store::Postgres(postgres)) => Ok(postgres),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        let all =
            options("sync=any-2,commit=remote-apply,isolation=repeatable-read,reads=any,fsync=off");
        let all = all.unwrap();
        assert_eq!(
            all.mode(),
            "synchronous, any 2, synchronous_commit remote_apply, repeatable read, \
             reads from standbys, fsync off"
        );
        let yaml = serde_yaml::to_string(&all).unwrap();
        assert_eq!(serde_yaml::from_str::<Postgres>(&yaml).unwrap(), all);
        assert_eq!(options("").unwrap().mode(), "asynchronous");
        for (bad, part) in [
            ("sync=all", "any-1"),
            ("sync=any-0", "any-1"),
            ("commit=off", "remote-write"),
            ("isolation=snapshot", "repeatable-read"),
            ("mode=sync", "unknown field"),
        ] {
            let said = options(bad).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_node_is_configured_apart_from_the_rest_of_the_machine() {
        let members = [(1, [10, 1, 0, 1].into()), (2, [10, 1, 0, 2].into())];
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/data/n2"),
            config_dir: Path::new("/config/n2"),
            listen: ([10, 1, 0, 2], 7000).into(),
            members: &members,
        };
        let plain = server_config(&setup, &Postgres::default());
        for line in [
            "listen_addresses = '10.1.0.2'\n",
            "port = 7000\n",
            "unix_socket_directories = ''\n",
            "fsync = on\n",
        ] {
            assert!(plain.contains(line), "{plain}");
        }
        assert!(!plain.contains("synchronous_standby_names"), "{plain}");
        let synchronous = server_config(&setup, &options("sync=any-1,fsync=off").unwrap());
        assert!(synchronous.contains("synchronous_standby_names = 'ANY 1 (*)'\n"));
        assert!(synchronous.contains("fsync = off\n"));
    }

    #[test]
    fn a_node_says_whether_it_leads() {
        let said = Said {
            timeline: 3,
            shown: 42,
            received: 50,
            ..Said::default()
        };
        let leader = described(1, &said);
        assert_eq!(leader.role.as_deref(), Some("leader"));
        assert_eq!(
            (leader.leader, leader.epoch, leader.last_index),
            (Some(1), 3, 42)
        );
        let follower = described(
            2,
            &Said {
                follows: true,
                ..said
            },
        );
        assert_eq!(
            (follower.role.as_deref(), follower.leader),
            (Some("follower"), None)
        );
    }
}
