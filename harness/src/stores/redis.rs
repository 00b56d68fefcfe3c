//! Redis (and Valkey, which speaks the same), with a Sentinel beside each node: the first node begins as
//! primary, the others as its replicas, and the Sentinels agree on who is next
//! (<https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/>).

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use nemesis::{Node, NodeView};
use redis::{AsyncConnectionConfig, Client};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use workloads::client::Login;
use workloads::client::redis::{RedisClient, Wait, connection_info};

use super::client::login;
use super::recipe::{CLOCK_NOT_SEEN, CLOCKS, Ready, Recipe, Setup, Status, found};
use super::{AnyClient, ClientError, Store, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 6] = ["read", "write", "cas", "append", "add", "increment"];
/// Where Sentinels listen.
const SENTINEL_PORT: u16 = 7002;
/// What Sentinels call the primary and its replicas.
const MASTER: &str = "quorate";
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Redis, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Redis {
    /// `min-replicas-to-write`: with fewer replicas that answered lately, the primary refuses writes.
    pub min_replicas_to_write: u16,
    /// `min-replicas-max-lag`, seconds: what lately means.
    pub min_replicas_max_lag: u16,
    /// After every write, `WAIT` for so many replicas to have it.
    pub wait: u16,
    /// `appendfsync`: when the log goes to disk.
    pub appendfsync: Appendfsync,
    /// Whom clients log in as; `default`, as Redis itself has it, if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the environment that holds their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// When the log of Redis goes to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Appendfsync {
    /// Before each answer.
    Always,
    /// Once a second.
    #[default]
    Everysec,
    /// When the kernel writes it.
    No,
}

impl Appendfsync {
    fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::No => "no",
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            min_replicas_to_write: 0,
            // As Redis itself has it.
            min_replicas_max_lag: 10,
            wait: 0,
            appendfsync: Appendfsync::default(),
            user: None,
            password_env: None,
        }
    }
}

impl Redis {
    /// As whom clients log in.
    pub fn login(&self) -> Login {
        login(self.user.as_deref(), self.password_env.as_deref())
    }

    /// What clients wait for.
    pub fn wait(&self) -> Option<Wait> {
        (self.wait > 0).then_some(Wait {
            replicas: self.wait,
            within: Duration::from_secs(1),
        })
    }
}

impl Target for Redis {
    fn mode(&self) -> String {
        let mut words = Vec::new();
        if self.min_replicas_to_write > 0 {
            words.push(format!(
                "min-replicas-to-write {} (lag {} s)",
                self.min_replicas_to_write, self.min_replicas_max_lag
            ));
        }
        if self.wait > 0 {
            words.push(format!("WAIT {}", self.wait));
        }
        if words.is_empty() {
            words.push("plain".to_owned());
        }
        words.join(", ")
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let client = RedisClient::new(timeout, self.wait(), self.login());
        Ok(AnyClient::Redis(client))
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn status(&self) -> Option<Status> {
        let login = Arc::new(self.login());
        Some(Status::elsewhere(move |_, node, at| {
            let login = Arc::clone(&login);
            Box::pin(async move { status_as(&login, node, at).await })
        }))
    }
}

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "redis",
    programs: &["redis-server", "redis-sentinel"],
    install: "apt-get install redis-server redis-sentinel` or `apt-get install valkey-server valkey-sentinel",
    version: &["--version"],
    in_shell: true,
    arguments,
    ready: Ready::Line("PING", "+PONG"),
    ready_within: Duration::from_secs(20),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: None,
    without: &[(CLOCKS, CLOCK_NOT_SEEN)],
};

/// Runs both, and ends with the server. A group of processes is a node: who ends one ends the other.
const BOTH: &str = r#""$1" "$2" & "$3" "$4"; exit $?"#;

fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::Redis(redis) = store else {
        return Err(io::Error::other("these are not the options of Redis"));
    };
    let program = |name| found(name).ok_or_else(|| io::Error::other(format!("no {name}")));
    let (server, sentinel) = (program("redis-server")?, program("redis-sentinel")?);
    let config = |name: &str| setup.config_dir.join(name);
    let (of_server, of_sentinel) = (config("redis.conf"), config("sentinel.conf"));
    // Sentinels write into both whom they chose: a node that is started again goes by that.
    let first = setup
        .members
        .first()
        .map_or(setup.listen.ip(), |(_, ip)| *ip);
    fs::write(&of_server, server_config(setup, redis, first))?;
    fs::write(&of_sentinel, sentinel_config(setup, first))?;
    Ok(vec![
        "-c".into(),
        BOTH.into(),
        "node".into(),
        sentinel.into(),
        of_sentinel.into(),
        server.into(),
        of_server.into(),
    ])
}

fn server_config(setup: &Setup<'_>, redis: &Redis, first: IpAddr) -> String {
    let (ip, port) = (setup.listen.ip(), setup.listen.port());
    let mut text = format!(
        "bind {ip}\nport {port}\nprotected-mode no\ndaemonize no\nlogfile {}\ndir {}\n\
         appendonly yes\nappendfsync {}\nsave \"\"\nrepl-diskless-sync-delay 0\n\
         repl-ping-replica-period 1\nrepl-timeout 5\nmin-replicas-to-write {}\n\
         min-replicas-max-lag {}\n",
        setup.config_dir.join("redis.log").display(),
        setup.data_dir.display(),
        redis.appendfsync.name(),
        redis.min_replicas_to_write,
        redis.min_replicas_max_lag,
    );
    if ip != first {
        text += &format!("replicaof {first} {port}\n");
    }
    text
}

fn sentinel_config(setup: &Setup<'_>, first: IpAddr) -> String {
    let (ip, port) = (setup.listen.ip(), setup.listen.port());
    let quorum = setup.members.len() / 2 + 1;
    let mut text = format!(
        "bind {ip}\nport {SENTINEL_PORT}\nprotected-mode no\ndaemonize no\nlogfile {}\ndir {}\n\
         sentinel monitor {MASTER} {first} {port} {quorum}\n\
         sentinel down-after-milliseconds {MASTER} 1000\n\
         sentinel failover-timeout {MASTER} 5000\nsentinel parallel-syncs {MASTER} 1\n",
        setup.config_dir.join("sentinel.log").display(),
        setup.config_dir.display(),
    );
    // By itself it asks for them every ten seconds: until then there is nobody to fail over to.
    for (_, replica) in setup.members.iter().filter(|(_, ip)| *ip != first) {
        text += &format!("sentinel known-replica {MASTER} {replica} {port}\n");
    }
    text
}

/// What a node says of itself: its role, how much of the stream it has; and its Sentinel, in which
/// epoch that is.
async fn status(node: Node, at: SocketAddr) -> Option<NodeView> {
    let nobody = Login::default();
    let replication = timeout(ANSWER_WITHIN, replication(&nobody, at));
    let replication = replication.await.ok()??;
    let sentinel = SocketAddr::new(at.ip(), SENTINEL_PORT);
    let info = timeout(ANSWER_WITHIN, epoch(sentinel)).await;
    Some(described(
        node,
        &replication,
        info.ok().flatten().unwrap_or_default(),
    ))
}

/// The same of a node that runs already, with this login: it says nothing of an epoch.
async fn status_as(login: &Login, node: Node, at: SocketAddr) -> Option<NodeView> {
    Some(described(node, &replication(login, at).await?, 0))
}

async fn connection(login: &Login, at: SocketAddr) -> Option<redis::aio::MultiplexedConnection> {
    let client = Client::open(connection_info(&at.to_string(), login).ok()?).ok()?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER_WITHIN));
    let made = client.get_multiplexed_async_connection_with_config(&config);
    made.await.ok()
}

async fn replication(login: &Login, at: SocketAddr) -> Option<String> {
    let mut connection = connection(login, at).await?;
    let mut asked = redis::cmd("INFO");
    asked.arg("replication");
    asked.query_async(&mut connection).await.ok()
}

/// The epoch of the configuration that a Sentinel goes by.
async fn epoch(sentinel: SocketAddr) -> Option<u64> {
    let mut connection = connection(&Login::default(), sentinel).await?;
    let mut asked = redis::cmd("SENTINEL");
    let pairs: Vec<String> = asked
        .arg("MASTER")
        .arg(MASTER)
        .query_async(&mut connection)
        .await
        .ok()?;
    let mut pairs = pairs.chunks_exact(2);
    let found = pairs.find(|pair| pair[0] == "config-epoch")?;
    found[1].parse().ok()
}

fn described(node: Node, replication: &str, epoch: u64) -> NodeView {
    let field = |name: &str| {
        let mut lines = replication.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.trim())
    };
    let leads = field("role") == Some("master");
    let offset = field("slave_repl_offset").or(field("master_repl_offset"));
    NodeView {
        role: Some(if leads { "leader" } else { "follower" }.to_owned()),
        epoch,
        last_index: offset
            .and_then(|offset| offset.parse().ok())
            .unwrap_or_default(),
        leader: leads.then_some(node),
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_whether_it_leads() {
        let master = described(
            1,
            "# Replication\r\nrole:master\r\nmaster_repl_offset:42\r\n",
            3,
        );
        assert_eq!(master.role.as_deref(), Some("leader"));
        assert_eq!(
            (master.leader, master.epoch, master.last_index),
            (Some(1), 3, 42)
        );
        let text =
            "role:slave\r\nmaster_host:10.1.0.1\r\nslave_repl_offset:7\r\nmaster_repl_offset:9\r\n";
        let replica = described(2, text, 3);
        assert_eq!(
            (replica.role.as_deref(), replica.last_index),
            (Some("follower"), 7)
        );
    }

    #[test]
    fn a_mode_is_told_in_words() {
        let redis = Redis {
            min_replicas_to_write: 1,
            wait: 2,
            ..Redis::default()
        };
        assert_eq!(redis.mode(), "min-replicas-to-write 1 (lag 10 s), WAIT 2");
        assert_eq!(Redis::default().mode(), "plain");
    }
}
