//! Stores of other makers: how they are spoken to, how a cluster of them is started, and what their
//! nodes say of themselves (docs/stores.md).
//!
//! | module | what it does |
//! | --- | --- |
//! | `client` | the clients: a program of the user's, a described HTTP API, or the store's own |
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
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::time::Duration;

use checkers::ConsistencyModel;
use nemesis::Capabilities;
use serde::{Deserialize, Serialize};
use workloads::client::mapped::Api;

use self::recipe::Status;

pub use self::client::{AnyClient, ClientError};
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
#[cfg(feature = "zookeeper")]
pub use self::zookeeper::Zookeeper;

/// Why no node of RabbitMQ leads.
const NO_ROLES: &str = "each queue of RabbitMQ has a leader of its own, and nodes do not say quickly of which they are";

/// A store that is not the reference store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// Spoken to by this program, with its arguments.
    Exec(String),
    /// Spoken to by this description of its HTTP API.
    Http(Api),
    /// etcd.
    Etcd(Etcd),
    /// NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(Nats),
    /// RabbitMQ.
    #[cfg(feature = "rabbitmq")]
    #[serde(rename = "rabbitmq")]
    RabbitMq(RabbitMq),
    /// MariaDB.
    #[cfg(feature = "mysql")]
    Mariadb(Mariadb),
    /// PostgreSQL with streaming replication.
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
    /// PostgreSQL under Patroni.
    #[cfg(feature = "postgres")]
    Patroni(Patroni),
    /// Redis, with a Sentinel beside each node.
    #[cfg(feature = "redis")]
    Redis(Redis),
    /// ZooKeeper.
    #[cfg(feature = "zookeeper")]
    Zookeeper(Zookeeper),
    /// The DynamoDB API.
    #[cfg(feature = "dynamodb")]
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
        Ok(Some(match name {
            "reference" if rest.is_empty() => return Ok(None),
            "exec" if !rest.is_empty() => Self::Exec(rest.to_owned()),
            "http" if !rest.is_empty() => {
                let text = std::fs::read_to_string(rest)
                    .map_err(|error| format!("cannot read {rest}: {error}"))?;
                let api = crate::experiment::parse_yaml(&text, rest);
                Self::Http(api.map_err(|error| error.to_string())?)
            }
            "etcd" => Self::Etcd(options(rest)?),
            #[cfg(feature = "nats")]
            "nats" => Self::Nats(options(rest)?),
            #[cfg(not(feature = "nats"))]
            "nats" => {
                return Err("this quorate was built without NATS; build it with `cargo build --features nats`".to_owned());
            }
            #[cfg(feature = "rabbitmq")]
            "rabbitmq" => Self::RabbitMq(options(rest)?),
            #[cfg(not(feature = "rabbitmq"))]
            "rabbitmq" => {
                return Err("this quorate was built without RabbitMQ; build it with `cargo build --features rabbitmq`".to_owned());
            }
            #[cfg(feature = "mysql")]
            "mariadb" => {
                let mariadb: Mariadb = options(rest)?;
                mariadb.validate()?;
                Self::Mariadb(mariadb)
            }
            #[cfg(not(feature = "mysql"))]
            "mariadb" => {
                return Err("this quorate was built without MariaDB; build it with `cargo build --features mysql`".to_owned());
            }
            #[cfg(feature = "postgres")]
            "postgres" => Self::Postgres(options(rest)?),
            #[cfg(feature = "postgres")]
            "patroni" => Self::Patroni(options(rest)?),
            #[cfg(not(feature = "postgres"))]
            "postgres" | "patroni" => {
                return Err("this quorate was built without PostgreSQL; build it with `cargo build --features postgres`".to_owned());
            }
            #[cfg(feature = "redis")]
            "redis" => Self::Redis(options(rest)?),
            #[cfg(not(feature = "redis"))]
            "redis" => {
                return Err("this quorate was built without Redis; build it with `cargo build --features redis`".to_owned());
            }
            #[cfg(feature = "zookeeper")]
            "zookeeper" => Self::Zookeeper(options(rest)?),
            #[cfg(not(feature = "zookeeper"))]
            "zookeeper" => {
                return Err("this quorate was built without ZooKeeper; build it with `cargo build --features zookeeper`".to_owned());
            }
            #[cfg(feature = "dynamodb")]
            "dynamodb" => Self::Dynamodb(options(rest)?),
            #[cfg(not(feature = "dynamodb"))]
            "dynamodb" => {
                return Err("this quorate was built without DynamoDB; build it with `cargo build --features dynamodb`".to_owned());
            }
            _ => {
                return Err(format!(
                    "expected reference, dynamodb, etcd, mariadb, nats, patroni, postgres, rabbitmq, redis, zookeeper, exec:PROGRAM or http:FILE, not {flag:?}"
                ));
            }
        }))
    }

    /// Its name in a report.
    pub fn name(&self) -> &str {
        match self {
            Self::Exec(command) => command,
            Self::Http(_) => "HTTP API",
            Self::Etcd(_) => "etcd",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(_) => "rabbitmq",
            #[cfg(feature = "mysql")]
            Self::Mariadb(_) => "mariadb",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "postgres")]
            Self::Patroni(_) => "patroni",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => "zookeeper",
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => "dynamodb",
        }
    }

    /// The mode that it is run in, in a few words.
    pub fn mode(&self) -> String {
        match self {
            Self::Exec(_) | Self::Http(_) => "unknown mode".to_owned(),
            Self::Etcd(etcd) => etcd.mode(),
            #[cfg(feature = "nats")]
            Self::Nats(nats) => nats.mode(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(rabbitmq) => rabbitmq.mode(),
            #[cfg(feature = "mysql")]
            Self::Mariadb(mariadb) => mariadb.mode(),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.mode(),
            #[cfg(feature = "postgres")]
            Self::Patroni(patroni) => patroni.mode(),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.mode(),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(zookeeper) => zookeeper.mode(),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(dynamodb) => dynamodb.mode(),
        }
    }

    /// Whether clients of it have this operation.
    pub fn has(&self, operation: &str) -> bool {
        match self {
            Self::Exec(_) => true,
            Self::Http(api) => api.contains_key(operation),
            Self::Etcd(_) => etcd::OPERATIONS.contains(&operation),
            #[cfg(feature = "nats")]
            Self::Nats(_) => nats::OPERATIONS.contains(&operation),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(_) => rabbitmq::OPERATIONS.contains(&operation),
            #[cfg(feature = "mysql")]
            Self::Mariadb(_) => mariadb::OPERATIONS.contains(&operation),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) | Self::Patroni(_) => postgres::OPERATIONS.contains(&operation),
            #[cfg(feature = "redis")]
            Self::Redis(_) => redis::OPERATIONS.contains(&operation),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => zookeeper::OPERATIONS.contains(&operation),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => dynamodb::OPERATIONS.contains(&operation),
        }
    }

    /// What it promises of transactions, run like this.
    pub fn promises(&self) -> ConsistencyModel {
        match self {
            Self::Etcd(etcd) => etcd.promises(),
            #[cfg(feature = "mysql")]
            Self::Mariadb(mariadb) => mariadb.promises(),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres::promises(postgres.isolation),
            #[cfg(feature = "postgres")]
            Self::Patroni(patroni) => postgres::promises(patroni.isolation),
            // Nothing is known of them but what their clients say: held to the most until told.
            _ => ConsistencyModel::StrongSerializable,
        }
    }

    /// How its nodes are started, if that is known.
    pub fn recipe(&self) -> Option<&'static Recipe> {
        match self {
            Self::Exec(_) | Self::Http(_) => None,
            Self::Etcd(_) => Some(&etcd::RECIPE),
            #[cfg(feature = "nats")]
            Self::Nats(_) => Some(&nats::RECIPE),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(_) => Some(&rabbitmq::RECIPE),
            #[cfg(feature = "mysql")]
            Self::Mariadb(_) => Some(&mariadb::RECIPE),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Some(&postgres::RECIPE),
            #[cfg(feature = "postgres")]
            Self::Patroni(_) => Some(&postgres::patroni::RECIPE),
            #[cfg(feature = "redis")]
            Self::Redis(_) => Some(&redis::RECIPE),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => Some(&zookeeper::RECIPE),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => None,
        }
    }

    /// Why its nodes do not say who leads, if they do not.
    pub fn without_roles(&self) -> Option<&'static str> {
        // By its name, since not every build knows of it.
        let recipe = self.recipe()?;
        (recipe.name == "rabbitmq").then_some(NO_ROLES)
    }

    /// What can be done to its nodes, of what can be done to processes here.
    pub fn capabilities(&self, here: Capabilities) -> Capabilities {
        let here = match self.recipe() {
            Some(recipe) => recipe.capabilities(here),
            None => here,
        };
        match self {
            #[cfg(feature = "mysql")]
            Self::Mariadb(mariadb) => mariadb.capabilities(here),
            _ => here,
        }
    }

    /// Whether one of its nodes leads, and says so to whoever looks after it here.
    pub fn has_leader(&self) -> bool {
        match self {
            #[cfg(feature = "mysql")]
            Self::Mariadb(mariadb) => !mariadb.is_galera(),
            _ => self.recipe().is_some(),
        }
    }

    /// How nodes that run already say what they are, if they say it to anybody.
    pub fn status(&self) -> Option<Status> {
        match self {
            // Not to strangers: as whom to log in is for clients to know.
            #[cfg(feature = "mysql")]
            Self::Mariadb(_) => None,
            _ => Some(self.recipe()?.status),
        }
    }

    /// Refuses what no client can be made for, and options that cannot be.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn validate(&self) -> Result<(), crate::experiment::Impossible> {
        #[cfg(feature = "nats")]
        if let Self::Nats(nats) = self {
            nats.validate()
                .map_err(|message| crate::experiment::Impossible {
                    field: "store.nats".to_owned(),
                    message,
                })?;
        }
        #[cfg(feature = "postgres")]
        if let Self::Patroni(patroni) = self {
            patroni
                .validate()
                .map_err(|message| crate::experiment::Impossible {
                    field: "store.patroni.ttl".to_owned(),
                    message,
                })?;
        }
        let made = AnyClient::new(Some(self), None, Duration::from_secs(1));
        made.map(drop)
            .map_err(|error| crate::experiment::Impossible {
                field: "store".to_owned(),
                message: error.to_string(),
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
        let program = Store::Exec("python3 c.py --at x:1".to_owned());
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
