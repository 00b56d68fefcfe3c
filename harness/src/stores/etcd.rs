//! etcd, spoken to through its JSON gateway (<https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>).
//!
//! What clients ask and what its errors mean is in [`workloads::client::etcd`].

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use checkers::ConsistencyModel;
use nemesis::{FaultKind as K, Node, NodeView};
use serde::{Deserialize, Serialize};
use workloads::client::etcd::Settings;
use workloads::client::{EtcdClient, Login};

use super::client::login;
use super::recipe::{CLOCKS, Ready, Recipe, Setup};
use super::{AnyClient, ClientError, Store, Target};

/// What it can be asked for.
const OPERATIONS: [&str; 7] = [
    "read", "write", "cas", "txn", "transfer", "acquire", "release",
];
/// Where nodes listen for each other.
const PEER_PORT: u16 = 7001;
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// etcd, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Etcd {
    /// What reads promise.
    pub reads: Reads,
    /// How long the lease of a lock lasts, s.
    pub lease: u16,
    /// Whether the owner of a lock keeps its lease alive.
    pub keep_alive: bool,
    /// Whom clients log in as; nobody if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The variable of the environment that holds their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// What reads of etcd promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// Through the leader, which makes sure that it still is one.
    #[default]
    Linearizable,
    /// From the asked member's own state, stale or not.
    Serializable,
}

impl Reads {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Serializable => "serializable",
        }
    }
}

impl Etcd {
    /// As whom clients log in.
    pub fn login(&self) -> Login {
        login(self.user.as_deref(), self.password_env.as_deref())
    }

    /// How clients use it.
    pub fn settings(&self) -> Settings {
        Settings {
            serializable: self.reads == Reads::Serializable,
            lease: Duration::from_secs(u64::from(self.lease)),
            keep_alive: self.keep_alive,
        }
    }
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            reads: Reads::default(),
            // The least that a member with this election timeout grants.
            lease: 2,
            keep_alive: true,
            user: None,
            password_env: None,
        }
    }
}

impl Target for Etcd {
    fn mode(&self) -> String {
        format!("{} reads", self.reads.name())
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        Ok(AnyClient::Etcd(EtcdClient::new(
            timeout,
            self.settings(),
            self.login(),
        )?))
    }

    fn promises(&self) -> ConsistencyModel {
        match self.reads {
            Reads::Linearizable => ConsistencyModel::StrongSerializable,
            Reads::Serializable => ConsistencyModel::Serializable,
        }
    }

    fn recipe(&self) -> Option<&'static Recipe> {
        Some(&RECIPE)
    }

    fn password_env(&self) -> Option<&str> {
        self.password_env.as_deref()
    }
}

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "etcd",
    programs: &["etcd"],
    install: "apt-get install etcd-server",
    version: &["--version"],
    in_shell: false,
    arguments,
    ready: Ready::Http("/health"),
    ready_within: Duration::from_secs(20),
    status: |http, node, at| Box::pin(async move { status(&http, node, at).await }),
    failover: None,
    without: &[
        (
            &[K::Wipe],
            "a member of etcd that has lost its data has to be replaced by its operator",
        ),
        (
            CLOCKS,
            "etcd asks the kernel itself for the time: libfaketime does not reach it",
        ),
    ],
};

#[expect(clippy::unnecessary_wraps, reason = "other stores have files to write")]
fn arguments(setup: &Setup<'_>, _: &Store) -> io::Result<Vec<OsString>> {
    let url = |address: SocketAddr| format!("http://{address}");
    let peer = |ip| url(SocketAddr::new(ip, PEER_PORT));
    let me = peer(setup.listen.ip());
    let members: Vec<_> = setup
        .members
        .iter()
        .map(|&(node, ip)| format!("n{node}={}", peer(ip)))
        .collect();
    let clients = url(setup.listen);
    let mut arguments: Vec<OsString> =
        vec!["--data-dir".into(), setup.data_dir.join("etcd").into()];
    for (flag, value) in [
        ("--name", format!("n{}", setup.node)),
        ("--listen-client-urls", clients.clone()),
        ("--advertise-client-urls", clients),
        ("--listen-peer-urls", me.clone()),
        ("--initial-advertise-peer-urls", me),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", "new".to_owned()),
        ("--initial-cluster-token", "quorate".to_owned()),
        ("--heartbeat-interval", "100".to_owned()),
        ("--election-timeout", "1000".to_owned()),
    ] {
        arguments.extend([flag.into(), value.into()]);
    }
    Ok(arguments)
}

/// The parts of an answer to `/v3/maintenance/status` that matter here. Numbers of 64 bits are texts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    header: Header,
    #[serde(default)]
    leader: String,
    #[serde(default)]
    raft_term: String,
    #[serde(default)]
    raft_index: String,
}

#[derive(Deserialize)]
struct Header {
    member_id: String,
}

/// What a node says of itself. Who leads is known by the member's own id alone, so only the leader's
/// view names a leader: itself.
async fn status(http: &reqwest::Client, node: Node, at: SocketAddr) -> Option<NodeView> {
    let request = http
        .post(format!("http://{at}/v3/maintenance/status"))
        .header("content-type", "application/json")
        .body("{}")
        .timeout(ANSWER_WITHIN);
    let response = request.send().await.ok()?.error_for_status().ok()?;
    let said = serde_json::from_slice::<Said>(&response.bytes().await.ok()?).ok()?;
    Some(described(node, &said))
}

fn described(node: Node, said: &Said) -> NodeView {
    let leads = !said.leader.is_empty() && said.leader == said.header.member_id;
    let role = if leads {
        "leader"
    } else if said.leader.is_empty() || said.leader == "0" {
        "candidate"
    } else {
        "follower"
    };
    NodeView {
        role: Some(role.to_owned()),
        epoch: said.raft_term.parse().unwrap_or_default(),
        last_index: said.raft_index.parse().unwrap_or_default(),
        leader: leads.then_some(node),
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_says_whether_it_leads() {
        let said = |text| described(2, &serde_json::from_str(text).unwrap());
        let leader =
            said(r#"{"header":{"member_id":"7"},"leader":"7","raftTerm":"3","raftIndex":"42"}"#);
        assert_eq!(leader.role.as_deref(), Some("leader"));
        assert_eq!(
            (leader.leader, leader.epoch, leader.last_index),
            (Some(2), 3, 42)
        );
        let follower = said(r#"{"header":{"member_id":"8"},"leader":"7","raftTerm":"3"}"#);
        assert_eq!(
            (follower.role.as_deref(), follower.leader),
            (Some("follower"), None)
        );
        let nobody = said(r#"{"header":{"member_id":"8"},"raftTerm":"4"}"#);
        assert_eq!(nobody.role.as_deref(), Some("candidate"));
    }
}
