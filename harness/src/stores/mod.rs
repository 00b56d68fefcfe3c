//! Stores of other makers: how they are spoken to, how a cluster of them is started, and what their
//! nodes say of themselves (docs/stores.md).
//!
//! | module | what it does |
//! | --- | --- |
//! | `client` | the clients: a program of the user's, a described HTTP API, or the store's own |
//! | [`recipe`] | how nodes of a store are started from the distribution's packages |
//! | [`failover`] | promotes another node where a store does not do so by itself |
//! | [`etcd`] | etcd through its JSON gateway |
//! | `redis` | Redis with Sentinel (feature `redis`) |
//! | `zookeeper` | ZooKeeper (feature `zookeeper`) |
//! | `dynamodb` | the DynamoDB API (feature `dynamodb`) |

pub mod client;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod etcd;
pub mod failover;
pub mod recipe;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use workloads::client::mapped::Api;

pub use self::client::{AnyClient, ClientError};
#[cfg(feature = "dynamodb")]
pub use self::dynamodb::Dynamodb;
pub use self::etcd::Etcd;
pub use self::recipe::Recipe;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
#[cfg(feature = "zookeeper")]
pub use self::zookeeper::Zookeeper;

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
                    "expected reference, etcd, redis, zookeeper, dynamodb, exec:PROGRAM or http:FILE, not {flag:?}"
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
            Self::Etcd(etcd) => format!("{} reads", etcd.reads.name()),
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
            #[cfg(feature = "redis")]
            Self::Redis(_) => redis::OPERATIONS.contains(&operation),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => zookeeper::OPERATIONS.contains(&operation),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => dynamodb::OPERATIONS.contains(&operation),
        }
    }

    /// How its nodes are started, if that is known.
    pub fn recipe(&self) -> Option<&'static Recipe> {
        match self {
            Self::Exec(_) | Self::Http(_) => None,
            Self::Etcd(_) => Some(&etcd::RECIPE),
            #[cfg(feature = "redis")]
            Self::Redis(_) => Some(&redis::RECIPE),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => Some(&zookeeper::RECIPE),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => None,
        }
    }

    /// Refuses what no client can be made for.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn validate(&self) -> Result<(), crate::experiment::Impossible> {
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
        let etcd = |reads| Ok(Some(Store::Etcd(Etcd { reads })));
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
            ("oracle", "expected reference, etcd"),
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
            "store:\n  etcd:\n    reads: serializable\n",
        ] {
            let file: File = serde_yaml::from_str(text).unwrap();
            assert_eq!(serde_yaml::to_string(&file).unwrap(), text);
        }
    }
}
