//! The clients that stores of other makers are spoken to with.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
#[cfg(feature = "dynamodb")]
use workloads::client::dynamodb::DynamoDbClient;
use workloads::client::exec::ExecError;
use workloads::client::http::HttpClientError;
use workloads::client::mapped::{Api, MappingError};
#[cfg(feature = "mysql")]
use workloads::client::mysql::MysqlClient;
#[cfg(feature = "nats")]
use workloads::client::nats::NatsClient;
#[cfg(feature = "postgres")]
use workloads::client::postgres::PostgresClient;
#[cfg(feature = "rabbitmq")]
use workloads::client::rabbitmq::RabbitMqClient;
#[cfg(feature = "redis")]
use workloads::client::redis::RedisClient;
#[cfg(feature = "zookeeper")]
use workloads::client::zookeeper::ZooKeeperClient;
use workloads::client::{At, EtcdClient, ExecClient, Login, MappedClient};
use workloads::{Client, Completion, HttpClient, Invocation};

use super::{Store, Target};

/// Of what only its owner knows.
pub(super) const UNKNOWN_MODE: &str = "unknown mode";

/// One of the clients.
#[derive(Debug)]
pub enum AnyClient {
    /// Of the reference store.
    Reference(HttpClient),
    /// A program.
    Exec(ExecClient),
    /// Of a described HTTP API.
    Http(MappedClient),
    /// Of etcd.
    Etcd(EtcdClient),
    /// Of NATS JetStream.
    #[cfg(feature = "nats")]
    Nats(NatsClient),
    /// Of RabbitMQ.
    #[cfg(feature = "rabbitmq")]
    RabbitMq(RabbitMqClient),
    /// Of MariaDB and MySQL.
    #[cfg(feature = "mysql")]
    Mysql(MysqlClient),
    /// Of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(PostgresClient),
    /// Of Redis.
    #[cfg(feature = "redis")]
    Redis(RedisClient),
    /// Of ZooKeeper.
    #[cfg(feature = "zookeeper")]
    Zookeeper(ZooKeeperClient),
    /// Of the DynamoDB API.
    #[cfg(feature = "dynamodb")]
    Dynamodb(DynamoDbClient),
}

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP library cannot be set up.
    #[error(transparent)]
    Reference(#[from] HttpClientError),
    /// The program cannot be one.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The description cannot be one.
    #[error(transparent)]
    Http(#[from] MappingError),
    /// The password is not where it was said to be.
    #[error("password-env: {0} is not in the environment")]
    NoPassword(String),
    /// The DynamoDB API cannot be asked so.
    #[cfg(feature = "dynamodb")]
    #[error("{0}")]
    Dynamodb(String),
    /// There is none in this build.
    #[error("its client is not built in")]
    Absent,
}

impl AnyClient {
    /// The client of a store; of the reference store if there is none. What programs write to standard error goes into the folder `logs`.
    ///
    /// # Errors
    /// If there is no such program, or the description is wrong.
    pub fn new(
        store: Option<&Store>,
        logs: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        match store {
            None => Ok(Self::Reference(HttpClient::new(timeout)?)),
            Some(store) => store.target().client(logs, timeout),
        }
    }

    /// The same for a run that begins now: where the store wants a password, it has to be there.
    ///
    /// # Errors
    /// The same, or that the environment does not hold the password.
    pub fn for_run(
        store: Option<&Store>,
        logs: PathBuf,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let variable = store.and_then(|store| store.target().password_env());
        match variable.filter(|_| password(variable).is_none()) {
            Some(missing) => Err(ClientError::NoPassword(missing.to_owned())),
            None => Self::new(store, Some(logs), timeout),
        }
    }

    /// Where a node that listens there is for this client.
    pub fn address(&self, node: &str) -> String {
        if matches!(self, Self::Reference(_) | Self::Http(_) | Self::Etcd(_)) {
            format!("http://{node}")
        } else {
            node.to_owned()
        }
    }
}

/// The password that a variable of the environment holds.
pub(super) fn password(variable: Option<&str>) -> Option<String> {
    std::env::var(variable?).ok()
}

/// A user, and the password that a variable of the environment holds.
pub(super) fn login(user: Option<&str>, variable: Option<&str>) -> Login {
    Login {
        user: user.map(str::to_owned),
        password: password(variable),
    }
}

impl Client for AnyClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        match self {
            Self::Reference(client) => client.invoke(at, invocation).await,
            Self::Exec(client) => client.invoke(at, invocation).await,
            Self::Http(client) => client.invoke(at, invocation).await,
            Self::Etcd(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "nats")]
            Self::Nats(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "mysql")]
            Self::Mysql(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "redis")]
            Self::Redis(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(client) => client.invoke(at, invocation).await,
        }
    }
}

/// A program that is the client, with its arguments, as a line of a shell without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exec(pub String);

impl Target for Exec {
    fn mode(&self) -> String {
        UNKNOWN_MODE.to_owned()
    }

    fn has(&self, _: &str) -> bool {
        true
    }

    fn client(&self, logs: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        Ok(AnyClient::Exec(ExecClient::new(&self.0, logs, timeout)?))
    }
}

impl Target for Api {
    fn mode(&self) -> String {
        UNKNOWN_MODE.to_owned()
    }

    fn has(&self, operation: &str) -> bool {
        self.contains_key(operation)
    }

    fn client(&self, _: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError> {
        Ok(AnyClient::Http(MappedClient::new(self, timeout)?))
    }
}
