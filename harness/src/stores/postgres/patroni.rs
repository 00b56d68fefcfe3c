//! PostgreSQL under Patroni (<https://patroni.readthedocs.io/>), with a member of etcd beside each node.
//!
//! Times are the least that Patroni's documentation allows: `loop_wait` 1 s, `retry_timeout` 3 s, `ttl`
//! 20 s. Shorter ones keep its rule `loop_wait + 2 * retry_timeout <= ttl`, but each member of etcd that
//! does not answer costs it a second at least: a leader that was cut off may step down after another
//! has been promoted.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use workloads::client::postgres::{Commit, Isolation, PostgresClient, Reads, Session, TABLE};

use super::super::client::password;
use super::super::recipe::{Recipe, Setup, Status};
use super::super::{AnyClient, ClientError, Target};
use super::{
    Fsync, GREETING, OPERATIONS, PARAMETERS, Store, WITHOUT, asked_as, program, programs, promises,
    scripted, status,
};
use checkers::ConsistencyModel;

/// Where etcd listens to Patroni.
const ETCD_PORT: u16 = 7002;
/// Where members of etcd listen for each other.
const ETCD_PEER_PORT: u16 = 7003;
/// Where Patroni answers.
const REST_PORT: u16 = 7004;

/// Seconds between two looks at the leader's lock.
const LOOP_WAIT: u16 = 1;

/// PostgreSQL under Patroni, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Patroni {
    /// How it replicates.
    pub mode: Mode,
    /// Seconds that a leader's lock lasts.
    pub ttl: u16,
    /// Seconds that etcd and PostgreSQL may take.
    pub retry_timeout: u16,
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

impl Default for Patroni {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            ttl: 20,
            retry_timeout: 3,
            commit: None,
            isolation: None,
            reads: Reads::default(),
            fsync: Fsync::default(),
            user: super::USER.to_owned(),
            database: "postgres".to_owned(),
            password_env: None,
        }
    }
}

/// How PostgreSQL replicates under Patroni.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Asynchronously.
    #[default]
    Async,
    /// `synchronous_mode`: to a standby that Patroni names, and to none if there is none.
    Sync,
    /// `synchronous_mode_strict`: to a standby that Patroni names, or not at all.
    Strict,
}

impl Mode {
    fn words(self) -> &'static str {
        match self {
            Self::Async => "asynchronous",
            Self::Sync => "synchronous_mode",
            Self::Strict => "synchronous_mode_strict",
        }
    }
}

impl Patroni {
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

impl Target for Patroni {
    fn mode(&self) -> String {
        let mut all = vec![self.mode.words().to_owned()];
        let usual = Self::default();
        if (self.ttl, self.retry_timeout) != (usual.ttl, usual.retry_timeout) {
            all.push(format!(
                "ttl {} s, retry_timeout {} s",
                self.ttl, self.retry_timeout
            ));
        }
        all.extend(super::words(
            self.commit,
            self.isolation,
            self.reads,
            self.fsync,
        ));
        all.join(", ")
    }

    fn has(&self, operation: &str) -> bool {
        OPERATIONS.contains(&operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        let client = PostgresClient::new(timeout, self.session());
        Ok(AnyClient::Postgres(client))
    }

    fn validate(&self) -> Result<(), String> {
        let least = 2 * u32::from(self.retry_timeout) + u32::from(LOOP_WAIT);
        if u32::from(self.ttl) >= least {
            return Ok(());
        }
        Err(format!(
            "expected a ttl of {least} s or more (loop_wait {LOOP_WAIT} s + 2 × retry-timeout), not {} s",
            self.ttl
        ))
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

/// How it is started.
pub static RECIPE: Recipe = Recipe {
    name: "patroni",
    programs: &["patroni", "etcd", "postgres", "pg_rewind", "unshare"],
    install: "apt-get install patroni python3-etcd etcd-server postgresql-15",
    version: &["--version"],
    in_shell: true,
    arguments,
    ready: GREETING,
    ready_within: Duration::from_secs(90),
    status: |_, node, at| Box::pin(status(node, at)),
    failover: None,
    without: WITHOUT,
};

fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::Patroni(patroni) = store else {
        return Err(io::Error::other("these are not the options of Patroni"));
    };
    let file = setup.config_dir.join("patroni.yml");
    let folder = programs()?;
    // JSON is YAML.
    let config = config(setup, patroni, &folder.to_string_lossy());
    fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let mut with: Vec<OsString> = vec![
        setup.config_dir.join("etcd.log").into(),
        program("etcd")?.into(),
        program("patroni")?.into(),
        file.into(),
        "--data-dir".into(),
        setup.config_dir.join("etcd").into(),
    ];
    with.extend(etcd_arguments(setup).into_iter().map(OsString::from));
    scripted(setup, include_str!("patroni.sh"), with)
}

fn etcd_arguments(setup: &Setup<'_>) -> Vec<String> {
    let url = |ip: IpAddr, port| format!("http://{}", SocketAddr::new(ip, port));
    let me = setup.listen.ip();
    let members: Vec<_> = setup
        .members
        .iter()
        .map(|&(node, ip)| format!("n{node}={}", url(ip, ETCD_PEER_PORT)))
        .collect();
    [
        ("--name", format!("n{}", setup.node)),
        ("--listen-client-urls", url(me, ETCD_PORT)),
        ("--advertise-client-urls", url(me, ETCD_PORT)),
        ("--listen-peer-urls", url(me, ETCD_PEER_PORT)),
        ("--initial-advertise-peer-urls", url(me, ETCD_PEER_PORT)),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", "new".to_owned()),
        ("--initial-cluster-token", "quorate".to_owned()),
        ("--heartbeat-interval", "100".to_owned()),
        ("--election-timeout", "1000".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn config(setup: &Setup<'_>, patroni: &Patroni, programs: &str) -> Value {
    let ip = setup.listen.ip();
    let name = format!("n{}", setup.node);
    let rest = SocketAddr::new(ip, REST_PORT);
    let hosts: Vec<_> = setup
        .members
        .iter()
        .map(|&(_, ip)| SocketAddr::new(ip, ETCD_PORT).to_string())
        .collect();
    let mut parameters: serde_json::Map<String, Value> = PARAMETERS
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.into()))
        .collect();
    parameters.insert("fsync".to_owned(), patroni.fsync.name().into());
    let role = json!({"username": "postgres"});
    json!({
        "scope": "quorate",
        "name": name,
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": {"hosts": hosts},
        "bootstrap": {
            "dcs": {
                "ttl": patroni.ttl,
                "loop_wait": LOOP_WAIT,
                "retry_timeout": patroni.retry_timeout,
                "maximum_lag_on_failover": 1_048_576,
                "synchronous_mode": patroni.mode != Mode::Async,
                "synchronous_mode_strict": patroni.mode == Mode::Strict,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    "parameters": parameters,
                },
            },
            // All copies have it.
            "post_bootstrap": format!("{programs}/psql -XAtqc '{TABLE}'"),
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
        },
        "postgresql": {
            "listen": setup.listen,
            "connect_address": setup.listen,
            "data_dir": setup.data_dir.join("pg"),
            "bin_dir": programs,
            "pgpass": setup.config_dir.join("pgpass"),
            "authentication": {"superuser": role, "replication": role, "rewind": role},
            "pg_hba": super::HBA.lines().collect::<Vec<_>>(),
            "remove_data_directory_on_rewind_failure": true,
            "remove_data_directory_on_diverged_timelines": true,
            "parameters": parameters,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn its_times_are_as_its_rule_demands() {
        let with = |ttl, retry_timeout| Patroni {
            ttl,
            retry_timeout,
            ..Patroni::default()
        };
        assert_eq!(Patroni::default().validate(), Ok(()));
        assert_eq!(with(5, 2).validate(), Ok(()));
        assert_eq!(
            with(5, 2).mode(),
            "asynchronous, ttl 5 s, retry_timeout 2 s"
        );
        let said = with(6, 3).validate().unwrap_err();
        assert!(said.contains("a ttl of 7 s"), "{said}");
    }

    #[test]
    fn a_node_is_configured_for_its_mode() {
        let members = [(1, [10, 1, 0, 1].into()), (2, [10, 1, 0, 2].into())];
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/data/n2"),
            config_dir: Path::new("/config/n2"),
            listen: ([10, 1, 0, 2], 7000).into(),
            members: &members,
        };
        for (flag, synchronous, strict, words) in [
            ("patroni", false, false, "asynchronous"),
            ("patroni:mode=sync", true, false, "synchronous_mode"),
            ("patroni:mode=strict", true, true, "synchronous_mode_strict"),
        ] {
            let Ok(Some(Store::Patroni(patroni))) = Store::from_flag(flag) else {
                panic!("{flag}");
            };
            assert_eq!(patroni.mode(), words);
            let config = config(&setup, &patroni, "/bin");
            let dcs = &config["bootstrap"]["dcs"];
            assert_eq!(dcs["synchronous_mode"], synchronous);
            assert_eq!(dcs["synchronous_mode_strict"], strict);
            assert_eq!(config["postgresql"]["listen"], "10.1.0.2:7000");
            assert_eq!(
                config["etcd3"]["hosts"],
                json!(["10.1.0.1:7002", "10.1.0.2:7002"])
            );
            assert_eq!(config["postgresql"]["parameters"]["fsync"], "on");
        }
        let arguments = etcd_arguments(&setup);
        let cluster = "n1=http://10.1.0.1:7003,n2=http://10.1.0.2:7003".to_owned();
        assert!(arguments.contains(&cluster), "{arguments:?}");
        assert!(Store::from_flag("patroni:mode=quorum").is_err());
    }
}
