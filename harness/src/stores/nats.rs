//! NATS with JetStream: nodes are one cluster, streams are replicated by Raft
//! (<https://docs.nats.io/nats-concepts/jetstream>).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use nemesis::{FaultKind as K, Node, NodeView};
use serde::{Deserialize, Serialize};
use workloads::client::Login;
use workloads::client::nats::NatsClient;

use super::client::login;
use super::recipe::{CLOCKS, Ready, Recipe, Setup, Status};
use super::{AnyClient, ClientError, Store, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 6] = ["read", "write", "cas", "enqueue", "dequeue", "drain"];
/// Where nodes listen for each other.
const PEER_PORT: u16 = 7001;
/// Where they say what they are.
const MONITOR_PORT: u16 = 7002;
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// Why nobody is known to lead where nodes run already.
const MONITOR_ONLY: &str = "nodes of NATS that run already say who leads to their monitor alone, which is \
                            at another port than their clients'";
/// The first version that can be told when to sync.
const SYNC_SINCE: (u32, u32) = (2, 10);

/// NATS JetStream, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Nats {
    /// How many copies there are of each stream.
    pub replicas: u16,
    /// When what was acknowledged goes to disk.
    pub sync: Sync,
    /// Who answers reads of registers.
    pub reads: Reads,
    /// Whom clients log in as; a password without a user is a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the environment that holds their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// When JetStream syncs its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// As the server has it: every two minutes.
    #[default]
    Default,
    /// After every write.
    Always,
}

/// Who answers reads of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// The leader of the stream.
    #[default]
    Leader,
    /// Any replica.
    Direct,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            replicas: 3,
            sync: Sync::default(),
            reads: Reads::default(),
            user: None,
            password_env: None,
        }
    }
}

impl Nats {
    /// As whom clients log in.
    pub fn login(&self) -> Login {
        login(self.user.as_deref(), self.password_env.as_deref())
    }

    fn possible(&self, (major, minor): (u32, u32)) -> Result<(), String> {
        if self.sync == Sync::Always && (major, minor) < SYNC_SINCE {
            return Err(format!(
                "sync=always: nats-server {major}.{minor} cannot be told when to sync; 2.10 is the \
                 first that can"
            ));
        }
        Ok(())
    }
}

impl Target for Nats {
    fn mode(&self) -> String {
        let sync = match self.sync {
            Sync::Default => "default sync",
            Sync::Always => "sync always",
        };
        let reads = match self.reads {
            Reads::Leader => "",
            Reads::Direct => ", direct reads",
        };
        format!("R{}, {sync}{reads}", self.replicas)
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let direct = self.reads == Reads::Direct;
        let client = NatsClient::new(timeout, self.replicas, direct, self.login());
        Ok(AnyClient::Nats(client))
    }

    fn validate(&self) -> Result<(), String> {
        if !matches!(self.replicas, 1 | 3 | 5) {
            return Err(format!(
                "replicas: expected 1, 3 or 5, not {}",
                self.replicas
            ));
        }
        Ok(())
    }

    fn startable(&self) -> Result<(), String> {
        let version = RECIPE.version().as_deref().and_then(version);
        version.map_or(Ok(()), |version| self.possible(version))
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }

    fn without_roles_elsewhere(&self) -> Option<&'static str> {
        Some(MONITOR_ONLY)
    }

    fn status(&self) -> Option<Status> {
        None
    }
}

/// Of `nats-server: v2.9.10`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, number) = said.rsplit_once('v')?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "nats",
    programs: &["nats-server"],
    install: "apt-get install nats-server",
    version: &["--version"],
    in_shell: false,
    arguments,
    // A server greets who connects.
    ready: Ready::Line("", "INFO "),
    ready_within: Duration::from_secs(30),
    status: |http, node, at| Box::pin(async move { status(&http, node, at).await }),
    failover: None,
    without: &[
        (
            &[K::Wipe],
            "a NATS server that has lost its data has to be replaced by its operator",
        ),
        (
            CLOCKS,
            "NATS asks the kernel itself for the time: libfaketime does not reach it",
        ),
    ],
};

fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::Nats(nats) = store else {
        return Err(io::Error::other("these are not the options of NATS"));
    };
    let file = setup.config_dir.join("nats.conf");
    fs::write(&file, config(setup, nats))?;
    Ok(vec!["--config".into(), file.into()])
}

fn config(setup: &Setup<'_>, nats: &Nats) -> String {
    let ip = setup.listen.ip();
    let routes: Vec<String> = setup
        .members
        .iter()
        .filter(|(node, _)| *node != setup.node)
        .map(|(_, ip)| format!("\"nats://{}\"", SocketAddr::new(*ip, PEER_PORT)))
        .collect();
    let sync = match nats.sync {
        Sync::Default => "",
        Sync::Always => "  sync_interval: always\n",
    };
    let mut text = format!(
        "server_name: n{}\nlisten: \"{}\"\nhttp: \"{}\"\njetstream {{\n  store_dir: \"{}\"\n{sync}}}\n",
        setup.node,
        setup.listen,
        SocketAddr::new(ip, MONITOR_PORT),
        quoted(&setup.data_dir.join("jetstream")),
    );
    // JetStream refuses to be a cluster of one.
    if !routes.is_empty() {
        text += &format!(
            "cluster {{\n  name: quorate\n  listen: \"{}\"\n  routes: [{}]\n}}\n",
            SocketAddr::new(ip, PEER_PORT),
            routes.join(", ")
        );
    }
    text
}

fn quoted(path: &Path) -> String {
    path.display().to_string().replace('"', "\\\"")
}

/// The parts of an answer to `/jsz` that matter here.
#[derive(Deserialize)]
struct Said {
    meta_cluster: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    leader: String,
}

/// What a node says of itself: whom it takes for the leader of the group that places streams, and
/// whether all that it has of them is up to date.
async fn status(http: &reqwest::Client, node: Node, at: SocketAddr) -> Option<NodeView> {
    let ask = |path: &str| {
        let address = SocketAddr::new(at.ip(), MONITOR_PORT);
        http.get(format!("http://{address}{path}"))
            .timeout(ANSWER_WITHIN)
            .send()
    };
    let said = ask("/jsz").await.ok()?.error_for_status().ok()?;
    let said = serde_json::from_slice::<Said>(&said.bytes().await.ok()?).ok()?;
    let healthy = ask("/healthz").await.ok()?.status().is_success();
    Some(described(node, &said, healthy))
}

fn described(node: Node, said: &Said, healthy: bool) -> NodeView {
    let leader = match &said.meta_cluster {
        // It is on its own.
        None => Some(node),
        Some(meta) => nemesis::selector::parse_node(&meta.leader),
    };
    let role = match leader {
        Some(leader) if leader == node => "leader",
        Some(_) => "follower",
        None => "candidate",
    };
    NodeView {
        role: Some(role.to_owned()),
        leader,
        pending: u64::from(!healthy),
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_not_told_when_to_sync() {
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(version("nothing"), None);
        let always = Nats {
            sync: Sync::Always,
            ..Nats::default()
        };
        let said = always.possible((2, 9)).unwrap_err();
        assert!(said.contains("2.10"), "{said}");
        assert_eq!(always.possible((2, 10)), Ok(()));
        assert_eq!(Nats::default().possible((2, 9)), Ok(()));
        let two = Nats {
            replicas: 2,
            ..Nats::default()
        };
        assert!(two.validate().unwrap_err().contains("1, 3 or 5"));
        assert_eq!(always.mode(), "R3, sync always");
    }

    #[test]
    fn a_node_is_told_of_the_others() {
        let ip = |n| std::net::IpAddr::from([10, 1, 0, n]);
        let members = [(1, ip(1)), (2, ip(2)), (3, ip(3))];
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/d"),
            config_dir: Path::new("/c"),
            listen: SocketAddr::new(ip(2), 7000),
            members: &members,
        };
        let text = config(&setup, &Nats::default());
        assert!(text.contains("routes: [\"nats://10.1.0.1:7001\", \"nats://10.1.0.3:7001\"]"));
        assert!(text.contains("store_dir: \"/d/jetstream\"") && !text.contains("sync"));
        let always = Nats {
            sync: Sync::Always,
            ..Nats::default()
        };
        assert!(config(&setup, &always).contains("sync_interval: always"));
        let alone = Setup {
            members: &members[1..2],
            ..setup
        };
        assert!(!config(&alone, &Nats::default()).contains("cluster"));
    }

    #[test]
    fn a_node_says_whom_it_follows() {
        let said = |text| serde_json::from_str::<Said>(text).unwrap();
        let view = |text, healthy| described(2, &said(text), healthy);
        let follower = view(r#"{"meta_cluster":{"leader":"n1"}}"#, true);
        assert_eq!(
            (follower.role.as_deref(), follower.leader, follower.pending),
            (Some("follower"), Some(1), 0)
        );
        let leader = view(r#"{"meta_cluster":{"leader":"n2"}}"#, false);
        assert_eq!(
            (leader.role.as_deref(), leader.pending),
            (Some("leader"), 1)
        );
        let nobody = view(r#"{"meta_cluster":{"cluster_size":3}}"#, true);
        assert_eq!(nobody.role.as_deref(), Some("candidate"));
    }
}
