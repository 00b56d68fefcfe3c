//! ZooKeeper, each node a server with a vote
//! (<https://zookeeper.apache.org/doc/r3.8.0/zookeeperAdmin.html>).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use nemesis::{Node, NodeView};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use workloads::client::Login;
use workloads::client::zookeeper::ZooKeeperClient;

use super::client::login;
use super::recipe::{CLOCK_NOT_SEEN, CLOCKS, Ready, Recipe, Setup, Status};
use super::{AnyClient, ClientError, Store, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 6] = ["read", "write", "cas", "append", "add", "increment"];
/// Where followers reach the leader.
const PEER_PORT: u16 = 7003;
/// Where servers vote.
const ELECTION_PORT: u16 = 7004;
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// The server.
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// The server, and what it logs by.
const CLASSES: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-log4j12.jar:\
                       /usr/share/java/log4j-1.2.jar";

/// ZooKeeper, and how it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Zookeeper {
    /// Before each read, the asked server catches up with the leader.
    pub sync: bool,
    /// Whom clients log in as, by the scheme `digest`; nobody if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the environment that holds their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

impl Zookeeper {
    /// As whom clients log in.
    pub fn login(&self) -> Login {
        login(self.user.as_deref(), self.password_env.as_deref())
    }
}

impl Target for Zookeeper {
    fn mode(&self) -> String {
        let mode = if self.sync {
            "sync before reads"
        } else {
            "plain reads"
        };
        mode.to_owned()
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let client = ZooKeeperClient::new(timeout, self.sync, self.login());
        Ok(AnyClient::Zookeeper(client))
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn status(&self) -> Option<Status> {
        Some(Status::elsewhere(|_, node, at| {
            Box::pin(async move { Some(described(node, &said(at).await.ok()?)) })
        }))
    }
}

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "zookeeper",
    programs: &["java", JAR],
    install: "apt-get install zookeeper",
    version: &["-cp", JAR, "org.apache.zookeeper.version.VersionInfoMain"],
    in_shell: false,
    arguments,
    ready: Ready::Line("isro", "rw"),
    // A server serves once it is in a quorum: 3 s, on a busy machine 15 s and more.
    ready_within: Duration::from_secs(60),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: None,
    without: &[(CLOCKS, CLOCK_NOT_SEEN)],
};

fn arguments(setup: &Setup<'_>, _: &Store) -> io::Result<Vec<OsString>> {
    let data = setup.data_dir.join("zookeeper");
    fs::create_dir_all(&data)?;
    // Who it is; asked for again by a node whose data was wiped.
    fs::write(data.join("myid"), setup.node.to_string())?;
    let config = setup.config_dir.join("zoo.cfg");
    fs::write(&config, server_config(setup))?;
    let logging = setup.config_dir.join("log4j.properties");
    fs::write(&logging, log_config(setup))?;
    let mut arguments: Vec<OsString> = [
        // Three and more of them share a machine.
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        // Logs of 64 MiB each are for servers that live longer.
        "-Dzookeeper.preAllocSize=4096",
        // By itself 5 s: so long a vote waits for a server that is cut off.
        "-Dzookeeper.cnxTimeout=1000",
    ]
    .map(OsString::from)
    .into();
    let mut logging_flag = OsString::from("-Dlog4j.configuration=file:");
    logging_flag.push(logging);
    arguments.extend([
        logging_flag,
        "-cp".into(),
        CLASSES.into(),
        "org.apache.zookeeper.server.quorum.QuorumPeerMain".into(),
        config.into(),
    ]);
    Ok(arguments)
}

fn server_config(setup: &Setup<'_>) -> String {
    let (ip, port) = (setup.listen.ip(), setup.listen.port());
    let mut text = format!(
        "tickTime=500\ninitLimit=10\nsyncLimit=4\ndataDir={}\nclientPortAddress={ip}\n\
         clientPort={port}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\n",
        setup.data_dir.join("zookeeper").display(),
    );
    for (node, ip) in setup.members {
        text += &format!("server.{node}={ip}:{PEER_PORT}:{ELECTION_PORT}\n");
    }
    text
}

fn log_config(setup: &Setup<'_>) -> String {
    format!(
        "log4j.rootLogger=INFO, FILE\nlog4j.appender.FILE=org.apache.log4j.FileAppender\n\
         log4j.appender.FILE.File={}\nlog4j.appender.FILE.layout=org.apache.log4j.PatternLayout\n\
         log4j.appender.FILE.layout.ConversionPattern=%d{{ISO8601}} %-5p [%t] %c{{1}} %m%n\n",
        setup.config_dir.join("zookeeper.log").display(),
    )
}

/// What a node says of itself, asked `srvr`.
async fn status(node: Node, at: SocketAddr) -> Option<NodeView> {
    let said = timeout(ANSWER_WITHIN, said(at)).await;
    Some(described(node, &said.ok()?.ok()?))
}

async fn said(at: SocketAddr) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(at).await?);
    stream.write_all(b"srvr").await?;
    let mut text = String::new();
    // Whether the server has hung up is not known through the API server of a cluster.
    while stream.read_line(&mut text).await? > 0 && !is_whole(&text) {}
    Ok(text)
}

/// Whether an answer has its last line: of a server in a quorum, or of one in none.
fn is_whole(said: &str) -> bool {
    let last = said.lines().last().unwrap_or_default();
    said.ends_with('\n')
        && (last.starts_with("Node count") || last.contains("not currently serving"))
}

/// A server that is in no quorum says so in a sentence, and nothing of what it has.
fn described(node: Node, said: &str) -> NodeView {
    let field = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.trim())
    };
    let (role, leads) = match field("Mode") {
        Some("leader" | "standalone") => ("leader", true),
        Some("follower" | "observer") => ("follower", false),
        _ => ("candidate", false),
    };
    // Of a change, the upper half is the epoch of the leader, the lower half counts its changes.
    let zxid = field("Zxid").and_then(|zxid| zxid.strip_prefix("0x"));
    let zxid = zxid.and_then(|zxid| u64::from_str_radix(zxid, 16).ok());
    let zxid = zxid.unwrap_or_default();
    NodeView {
        role: Some(role.to_owned()),
        epoch: zxid >> 32,
        last_index: zxid & 0xffff_ffff,
        leader: leads.then_some(node),
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use super::*;

    #[test]
    fn a_server_says_whether_it_leads_and_what_it_has() {
        let said = "Zookeeper version: 3.8.0-x, built on 2024-12-29 17:54 UTC\n\
                    Latency min/avg/max: 0/0.5/7\nReceived: 3\nOutstanding: 0\n\
                    Zxid: 0x30000002a\nMode: leader\nNode count: 5\n";
        assert!(is_whole(said) && !is_whole(&said[..said.len() - 1]));
        let leader = described(2, said);
        assert_eq!(leader.role.as_deref(), Some("leader"));
        assert_eq!(
            (leader.leader, leader.epoch, leader.last_index),
            (Some(2), 3, 42)
        );
        let follower = described(1, "Zxid: 0x200000007\nMode: follower\n");
        assert_eq!(follower.role.as_deref(), Some("follower"));
        assert_eq!(
            (follower.leader, follower.epoch, follower.last_index),
            (None, 2, 7)
        );
        let alone = described(1, "Zxid: 0x0\nMode: standalone\n");
        assert_eq!(alone.leader, Some(1));
        let nobody = described(
            3,
            "This ZooKeeper instance is not currently serving requests\n",
        );
        assert_eq!(
            (nobody.role.as_deref(), nobody.leader, nobody.last_index),
            (Some("candidate"), None, 0)
        );
    }

    #[test]
    fn a_server_is_told_who_it_is_and_who_the_others_are() {
        let ip = |n| IpAddr::V4(Ipv4Addr::new(10, 1, 0, n));
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/run/n2"),
            config_dir: Path::new("/run/n2-config"),
            listen: SocketAddr::new(ip(2), 7000),
            members: &[(1, ip(1)), (2, ip(2)), (3, ip(3))],
        };
        let config = server_config(&setup);
        for line in [
            "clientPortAddress=10.1.0.2",
            "clientPort=7000",
            "dataDir=/run/n2/zookeeper",
            "server.1=10.1.0.1:7003:7004",
            "server.3=10.1.0.3:7003:7004",
            "4lw.commands.whitelist=*",
        ] {
            assert!(config.lines().any(|l| l == line), "{line}: {config}");
        }
        let logs = log_config(&setup);
        assert!(
            logs.contains("File=/run/n2-config/zookeeper.log\n"),
            "{logs}"
        );
        assert!(logs.contains("%d{ISO8601}"), "{logs}");
    }
}
