//! Stores of other makers: how they are spoken to, how a cluster of them is started, and what their
//! nodes say of themselves (docs/stores.md).
//!
//! | module | what it does |
//! | --- | --- |
//! | `client` | the clients: a program of the user's, a described HTTP API, or the store's own |
//! | [`target`] | what a run asks of a store, whichever it is |
//! | [`absent`] | the options of a store whose client is not built in |
//! | [`recipe`] | how nodes of a store are started from the distribution's packages |
//! | [`failover`] | promotes another node where a store does not do so by itself |
//! | [`etcd`] | etcd through its JSON gateway |
//! | `nats` | NATS JetStream (feature `nats`) |
//! | `rabbitmq` | RabbitMQ (feature `rabbitmq`) |
//! | `mariadb` | MariaDB with replicas, or Galera (feature `mysql`) |
//! | `postgres` | PostgreSQL, and under Patroni (feature `postgres`) |
//! | `redis` | Redis with Sentinel (feature `redis`) |
//! | `zookeeper` | ZooKeeper (feature `zookeeper`) |
//! | `dynamodb` | the DynamoDB API (feature `dynamodb`) |

pub mod absent;
pub mod client;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod etcd;
pub mod failover;
#[cfg(feature = "mysql")]
pub mod mariadb;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
pub mod recipe;
#[cfg(feature = "redis")]
pub mod redis;
pub mod target;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use workloads::client::mapped::Api;

use crate::experiment::Impossible;

pub use self::client::{AnyClient, ClientError, Exec};
#[cfg(feature = "dynamodb")]
pub use self::dynamodb::Dynamodb;
pub use self::etcd::Etcd;
#[cfg(feature = "mysql")]
pub use self::mariadb::Mariadb;
#[cfg(feature = "nats")]
pub use self::nats::Nats;
#[cfg(feature = "postgres")]
pub use self::postgres::{Postgres, patroni::Patroni};
#[cfg(feature = "rabbitmq")]
pub use self::rabbitmq::RabbitMq;
pub use self::recipe::Recipe;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use self::target::Target;
#[cfg(feature = "zookeeper")]
pub use self::zookeeper::Zookeeper;

#[cfg(not(feature = "dynamodb"))]
pub use self::absent::Absent as Dynamodb;
#[cfg(not(feature = "mysql"))]
pub use self::absent::Absent as Mariadb;
#[cfg(not(feature = "nats"))]
pub use self::absent::Absent as Nats;
#[cfg(not(feature = "rabbitmq"))]
pub use self::absent::Absent as RabbitMq;
#[cfg(not(feature = "redis"))]
pub use self::absent::Absent as Redis;
#[cfg(not(feature = "zookeeper"))]
pub use self::absent::Absent as Zookeeper;
#[cfg(not(feature = "postgres"))]
pub use self::absent::{Absent as Patroni, Absent as Postgres};

/// A store that is not the reference store. Every build knows all of them, also those that it has no
/// client for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// Spoken to by this program, with its arguments.
    Exec(Exec),
    /// Spoken to by this description of its HTTP API.
    Http(Api),
    /// etcd.
    Etcd(Etcd),
    /// NATS JetStream.
    Nats(Nats),
    /// RabbitMQ.
    #[serde(rename = "rabbitmq")]
    RabbitMq(RabbitMq),
    /// MariaDB.
    Mariadb(Mariadb),
    /// PostgreSQL with streaming replication.
    Postgres(Postgres),
    /// PostgreSQL under Patroni.
    Patroni(Patroni),
    /// Redis, with a Sentinel beside each node.
    Redis(Redis),
    /// ZooKeeper.
    Zookeeper(Zookeeper),
    /// The DynamoDB API.
    Dynamodb(Dynamodb),
}

impl Store {
    /// From a flag: `exec:PROGRAM`, `http:FILE`, or the name of a store with options, as in
    /// `etcd:reads=serializable`. `None` is the reference store.
    ///
    /// # Errors
    /// What would be right.
    pub fn from_flag(flag: &str) -> Result<Option<Self>, String> {
        let (name, rest) = flag.split_once(':').unwrap_or((flag, ""));
        let store = match name {
            "reference" if rest.is_empty() => return Ok(None),
            "exec" if !rest.is_empty() => Self::Exec(Exec(rest.to_owned())),
            "http" if !rest.is_empty() => {
                let text = std::fs::read_to_string(rest)
                    .map_err(|error| format!("cannot read {rest}: {error}"))?;
                let api = crate::experiment::parse_yaml(&text, rest);
                Self::Http(api.map_err(|error| error.to_string())?)
            }
            "etcd" => Self::Etcd(options(rest)?),
            "nats" => Self::Nats(options(rest)?),
            "rabbitmq" => Self::RabbitMq(options(rest)?),
            "mariadb" => Self::Mariadb(options(rest)?),
            "postgres" => Self::Postgres(options(rest)?),
            "patroni" => Self::Patroni(options(rest)?),
            "redis" => Self::Redis(options(rest)?),
            "zookeeper" => Self::Zookeeper(options(rest)?),
            "dynamodb" => Self::Dynamodb(options(rest)?),
            _ => {
                return Err(format!(
                    "expected reference, dynamodb, etcd, mariadb, nats, patroni, postgres, rabbitmq, redis, zookeeper, exec:PROGRAM or http:FILE, not {flag:?}"
                ));
            }
        };
        store.target().validate()?;
        Ok(Some(store))
    }

    /// Its name in a report.
    pub fn name(&self) -> &str {
        match self {
            Self::Exec(Exec(command)) => command,
            Self::Http(_) => "HTTP API",
            Self::Etcd(_) => "etcd",
            Self::Nats(_) => "nats",
            Self::RabbitMq(_) => "rabbitmq",
            Self::Mariadb(_) => "mariadb",
            Self::Postgres(_) => "postgres",
            Self::Patroni(_) => "patroni",
            Self::Redis(_) => "redis",
            Self::Zookeeper(_) => "zookeeper",
            Self::Dynamodb(_) => "dynamodb",
        }
    }

    /// What a run can ask of it.
    pub fn target(&self) -> &dyn Target {
        match self {
            Self::Exec(exec) => exec,
            Self::Http(api) => api,
            Self::Etcd(etcd) => etcd,
            Self::Nats(nats) => nats,
            Self::RabbitMq(rabbitmq) => rabbitmq,
            Self::Mariadb(mariadb) => mariadb,
            Self::Postgres(postgres) => postgres,
            Self::Patroni(patroni) => patroni,
            Self::Redis(redis) => redis,
            Self::Zookeeper(zookeeper) => zookeeper,
            Self::Dynamodb(dynamodb) => dynamodb,
        }
    }

    /// Refuses what no client can be made for, and options that cannot be.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn validate(&self) -> Result<(), Impossible> {
        let target = self.target();
        let made = target.client(None, Duration::from_secs(1));
        (target.validate())
            .and(made.map(drop).map_err(|error| error.to_string()))
            .map_err(|message| Impossible {
                field: "store".to_owned(),
                message: format!("{}: {message}", self.name()),
            })
    }
}

/// Options as in `reads=serializable,lease=5`.
fn options<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, String> {
    let mut fields = serde_json::Map::new();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("expected options as in name=value, not {option:?}"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        fields.insert(name.to_owned(), value);
    }
    serde_json::from_value(fields.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_names_a_store_and_its_options() {
        assert_eq!(Store::from_flag("reference"), Ok(None));
        let etcd = |reads| {
            Ok(Some(Store::Etcd(Etcd {
                reads,
                ..Etcd::default()
            })))
        };
        assert_eq!(Store::from_flag("etcd"), etcd(etcd::Reads::Linearizable));
        assert_eq!(
            Store::from_flag("etcd:reads=serializable"),
            etcd(etcd::Reads::Serializable)
        );
        let program = Store::Exec(Exec("python3 c.py --at x:1".to_owned()));
        assert_eq!(
            Store::from_flag("exec:python3 c.py --at x:1"),
            Ok(Some(program))
        );
        for (flag, part) in [
            ("etcd:reads=fast", "serializable"),
            ("etcd:color=red", "unknown field"),
            ("etcd:reads", "name=value"),
            ("exec:", "exec:PROGRAM"),
            #[cfg(feature = "mysql")]
            ("mariadb:flush=3", "0, 1 or 2"),
            #[cfg(feature = "mysql")]
            ("mariadb:isolation=chaos", "repeatable-read"),
            ("oracle", "expected reference, dynamodb, etcd"),
            ("http:/no/such/file", "cannot read"),
        ] {
            let said = Store::from_flag(flag).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_store_is_written_in_yaml_as_it_is_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            #[serde(with = "serde_yaml::with::singleton_map")]
            store: Option<Store>,
        }
        for text in [
            "store:\n  exec: python3 client.py\n",
            "store:\n  etcd:\n    reads: serializable\n    lease: 5\n    keep-alive: false\n",
        ] {
            let file: File = serde_yaml::from_str(text).unwrap();
            assert_eq!(serde_yaml::to_string(&file).unwrap(), text);
        }
    }
}
