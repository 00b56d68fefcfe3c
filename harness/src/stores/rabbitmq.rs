//! RabbitMQ: nodes are one cluster, found by its configuration
//! (<https://www.rabbitmq.com/docs/cluster-formation>). Queues are quorum queues (Raft) or classic
//! ones that are mirrored to all nodes.
//!
//! Nodes are called `rabbit@n1`, …; each finds the others by a file of hosts of its own, which takes
//! the place of `/etc/hosts` for it alone. Erlang's port mapper is started with the node, so that it
//! ends with it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use nemesis::{FaultKind as K, Node, NodeView};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use workloads::client::rabbitmq::{Access, RabbitMqClient};

use super::client::login;
use super::recipe::{CLOCK_NOT_SEEN, CLOCKS, Ready, Recipe, Setup};
use super::{AnyClient, ClientError, Store, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 3] = ["enqueue", "dequeue", "drain"];
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// How a client of AMQP 0-9-1 begins.
const GREETING: &str = "AMQP\0\0\t\u{1}";
/// How a node answers: with a method on channel 0.
const ANSWER: &str = "\u{1}\0\0";

/// RabbitMQ, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RabbitMq {
    /// What queues are.
    pub queue: Queue,
    /// Whether publishers wait for the broker to confirm.
    pub confirms: bool,
    /// What nodes do that do not see all others.
    pub partition: Partition,
    /// Whom clients log in as; `guest` if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the environment that holds their password; `guest` if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// The virtual host that queues are in.
    pub vhost: String,
}

/// The types of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Replicated by Raft.
    #[default]
    Quorum,
    /// One node has it, all others mirror it.
    ClassicMirrored,
}

/// `cluster_partition_handling`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    /// They go on; what the server does by default.
    #[default]
    Ignore,
    /// A minority stops until it sees the others again.
    PauseMinority,
    /// When they see each other again, all but the side with the most clients start again.
    Autoheal,
}

impl Partition {
    fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::PauseMinority => "pause_minority",
            Self::Autoheal => "autoheal",
        }
    }
}

impl Default for RabbitMq {
    fn default() -> Self {
        Self {
            queue: Queue::default(),
            confirms: true,
            partition: Partition::default(),
            user: None,
            password_env: None,
            vhost: "/".to_owned(),
        }
    }
}

impl RabbitMq {
    /// As whom, and where, clients keep their queues.
    pub fn access(&self) -> Access {
        Access {
            login: login(self.user.as_deref(), self.password_env.as_deref()),
            vhost: self.vhost.clone(),
        }
    }

    /// The type that clients declare queues with.
    pub fn queue_type(&self) -> &'static str {
        match self.queue {
            Queue::Quorum => "quorum",
            Queue::ClassicMirrored => "classic",
        }
    }
}

impl Target for RabbitMq {
    fn mode(&self) -> String {
        let queue = match self.queue {
            Queue::Quorum => "quorum queues",
            Queue::ClassicMirrored => "mirrored classic queues",
        };
        let confirms = if self.confirms {
            "confirms"
        } else {
            "no confirms"
        };
        format!("{queue}, {confirms}, {}", self.partition.name())
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let (queues, confirms) = (self.queue_type(), self.confirms);
        let client = RabbitMqClient::new(timeout, queues, confirms, self.access());
        Ok(AnyClient::RabbitMq(client))
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn without_roles(&self) -> Option<&'static str> {
        let why = "each queue of RabbitMQ has a leader of its own, and nodes do not say quickly of which they are";
        Some(why)
    }
}

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "rabbitmq",
    // The package's own programs would tell the version, too, but leave a port mapper running.
    programs: &["sh", "rabbitmq-server", "epmd", "unshare"],
    install: "apt-get install rabbitmq-server",
    version: &["-c", "cd /usr/lib/rabbitmq/lib && echo rabbitmq_server-*"],
    in_shell: true,
    arguments,
    ready: Ready::Line(GREETING, ANSWER),
    // Erlang starts slowly, and the first time nodes have to find each other.
    ready_within: Duration::from_secs(120),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: None,
    without: &[
        (
            &[K::Wipe],
            "a node of RabbitMQ that has lost its data has to be replaced by its operator",
        ),
        (CLOCKS, CLOCK_NOT_SEEN),
    ],
};

/// A view of files of its own, in which the node is started: `/etc/hosts` is another one there.
const APART: &str = r#"exec unshare --mount --propagation private /bin/sh "$1""#;

fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::RabbitMq(rabbitmq) = store else {
        return Err(io::Error::other("these are not the options of RabbitMQ"));
    };
    let file = |name: &str| setup.config_dir.join(name);
    let home = file("home");
    fs::create_dir_all(&home)?;
    let cookie = home.join(".erlang.cookie");
    // Erlang wants nobody else to read it, and it cannot be written a second time.
    if !cookie.exists() {
        fs::write(&cookie, "QUORATE")?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    }
    fs::write(file("hosts"), hosts(setup))?;
    fs::write(file("plugins"), "[].\n")?;
    fs::write(file("definitions.json"), DEFINITIONS)?;
    fs::write(file("rabbitmq.conf"), config(setup, rabbitmq))?;
    let script = file("start.sh");
    fs::write(&script, start(setup))?;
    Ok(vec![
        "-c".into(),
        APART.into(),
        "node".into(),
        script.into(),
    ])
}

fn hosts(setup: &Setup<'_>) -> String {
    let mut text = "127.0.0.1 localhost\n".to_owned();
    for (node, ip) in setup.members {
        text += &format!("{ip} n{node}\n");
    }
    text
}

fn config(setup: &Setup<'_>, rabbitmq: &RabbitMq) -> String {
    let mut text = format!(
        "listeners.tcp.1 = {}\nloopback_users = none\nlog.console = true\nlog.file = false\n\
         net_ticktime = 4\ncluster_partition_handling = {}\n\
         cluster_formation.peer_discovery_backend = classic_config\n",
        setup.listen,
        rabbitmq.partition.name(),
    );
    for (place, (node, _)) in setup.members.iter().enumerate() {
        let place = place + 1;
        text += &format!("cluster_formation.classic_config.nodes.{place} = rabbit@n{node}\n");
    }
    if rabbitmq.queue == Queue::ClassicMirrored {
        // Only a policy says that queues are mirrored.
        let definitions = setup.config_dir.join("definitions.json");
        text += &format!("load_definitions = {}\n", definitions.display());
    }
    text
}

/// With definitions of one's own there is no default user. The password is `guest`, salted and hashed
/// as <https://www.rabbitmq.com/docs/passwords> says.
const DEFINITIONS: &str = r#"{
  "vhosts": [{"name": "/"}],
  "users": [{"name": "guest", "tags": "administrator", "limits": {},
    "password_hash": "UXVvcj/qyH7G/PcEloCznPjGVMiThGnZhNp/OB4oh79yZuEH",
    "hashing_algorithm": "rabbit_password_hashing_sha256"}],
  "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
  "policies": [{"vhost": "/", "name": "mirrored", "pattern": ".*", "apply-to": "queues",
    "priority": 0, "definition": {"ha-mode": "all", "ha-sync-mode": "automatic"}}]
}
"#;

fn start(setup: &Setup<'_>) -> String {
    let quoted = |path: &std::path::Path| format!("'{}'", path.display());
    let file = |name: &str| quoted(&setup.config_dir.join(name));
    let mut text = format!("mount --bind {} /etc/hosts || exit 1\n", file("hosts"));
    for (name, value) in [
        ("HOME", file("home")),
        ("ERL_CRASH_DUMP_SECONDS", "0".to_owned()),
        ("RABBITMQ_NODENAME", format!("rabbit@n{}", setup.node)),
        ("RABBITMQ_MNESIA_BASE", quoted(setup.data_dir)),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins")),
        ("RABBITMQ_CONF_ENV_FILE", file("none")),
        ("RABBITMQ_PID_FILE", file("pid")),
        // One processor at a time, and none while there is nothing to do.
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "'+S 1:1 +sbwt none -start_epmd false'".to_owned(),
        ),
    ] {
        text += &format!("export {name}={value}\n");
    }
    // The script on the PATH would become another user, and write where the package does.
    text + "epmd >/dev/null 2>&1 &\nexec /usr/lib/rabbitmq/bin/rabbitmq-server 1>&2\n"
}

/// Whether a node answers a client that greets it. What it is nobody says.
async fn status(node: Node, at: SocketAddr) -> Option<NodeView> {
    let greeted = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(GREETING.as_bytes()).await.ok()?;
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer).await.ok()?;
        (answer == *ANSWER.as_bytes()).then_some(())
    };
    timeout(ANSWER_WITHIN, greeted).await.ok()??;
    Some(NodeView {
        role: Some("member".to_owned()),
        ..NodeView::silent(node)
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_node_is_told_its_cluster_and_what_becomes_of_a_partition() {
        let ip = |n| IpAddr::from([10, 1, 0, n]);
        let members = [(1, ip(1)), (2, ip(2))];
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/d"),
            config_dir: Path::new("/c"),
            listen: SocketAddr::new(ip(2), 7000),
            members: &members,
        };
        let quorum = config(&setup, &RabbitMq::default());
        assert!(quorum.contains("classic_config.nodes.2 = rabbit@n2\n"));
        assert!(quorum.contains("cluster_partition_handling = ignore\n"));
        assert!(!quorum.contains("load_definitions"));
        let mirrored = RabbitMq {
            queue: Queue::ClassicMirrored,
            partition: Partition::Autoheal,
            ..RabbitMq::default()
        };
        let text = config(&setup, &mirrored);
        assert!(text.contains("load_definitions = /c/definitions.json\n"));
        assert!(text.contains("cluster_partition_handling = autoheal\n"));
        assert_eq!(
            mirrored.mode(),
            "mirrored classic queues, confirms, autoheal"
        );
        assert_eq!(
            hosts(&setup),
            "127.0.0.1 localhost\n10.1.0.1 n1\n10.1.0.2 n2\n"
        );
        let script = start(&setup);
        assert!(script.contains("RABBITMQ_NODENAME=rabbit@n2\n"), "{script}");
        assert!(script.contains("RABBITMQ_MNESIA_BASE='/d'\n"), "{script}");
    }

    #[test]
    fn options_are_written_as_their_names() {
        let read = |flag: &str| Store::from_flag(flag);
        let classic = RabbitMq {
            queue: Queue::ClassicMirrored,
            confirms: false,
            partition: Partition::PauseMinority,
            ..RabbitMq::default()
        };
        assert_eq!(
            read("rabbitmq:queue=classic-mirrored,confirms=false,partition=pause-minority"),
            Ok(Some(Store::RabbitMq(classic)))
        );
        let said = read("rabbitmq:queue=stream").unwrap_err();
        assert!(said.contains("classic-mirrored"), "{said}");
        let quorum = Store::RabbitMq(RabbitMq::default());
        assert!(quorum.target().has("drain") && !quorum.target().has("read"));
        assert!(quorum.target().without_roles().is_some());
    }

    #[test]
    fn what_nodes_are_given_to_begin_with_is_json() {
        let given: serde_json::Value = serde_json::from_str(DEFINITIONS).unwrap();
        assert_eq!(given["policies"][0]["definition"]["ha-mode"], "all");
    }
}
