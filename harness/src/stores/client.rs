//! The clients that stores of other makers are spoken to with.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "dynamodb")]
use workloads::client::dynamodb::DynamoDbClient;
use workloads::client::exec::ExecError;
use workloads::client::http::HttpClientError;
use workloads::client::mapped::MappingError;
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

use super::Store;

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
    #[error("dynamodb: {0}")]
    Dynamodb(String),
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
        Ok(match store {
            None => Self::Reference(HttpClient::new(timeout)?),
            Some(Store::Exec(command)) => Self::Exec(ExecClient::new(command, logs, timeout)?),
            Some(Store::Http(api)) => Self::Http(MappedClient::new(api, timeout)?),
            #[cfg(feature = "nats")]
            Some(Store::Nats(nats)) => {
                let direct = nats.reads == super::nats::Reads::Direct;
                Self::Nats(NatsClient::new(
                    timeout,
                    nats.replicas,
                    direct,
                    nats.login(),
                ))
            }
            #[cfg(feature = "rabbitmq")]
            Some(Store::RabbitMq(rabbitmq)) => {
                let (queues, access) = (rabbitmq.queue_type(), rabbitmq.access());
                let confirms = rabbitmq.confirms;
                Self::RabbitMq(RabbitMqClient::new(timeout, queues, confirms, access))
            }
            #[cfg(feature = "mysql")]
            Some(Store::Mariadb(mariadb)) => {
                Self::Mysql(MysqlClient::new(timeout, mariadb.access()))
            }
            #[cfg(feature = "postgres")]
            Some(Store::Postgres(postgres)) => {
                Self::Postgres(PostgresClient::new(timeout, postgres.session()))
            }
            #[cfg(feature = "postgres")]
            Some(Store::Patroni(patroni)) => {
                Self::Postgres(PostgresClient::new(timeout, patroni.session()))
            }
            #[cfg(feature = "redis")]
            Some(Store::Redis(redis)) => {
                Self::Redis(RedisClient::new(timeout, redis.wait(), redis.login()))
            }
            #[cfg(feature = "zookeeper")]
            Some(Store::Zookeeper(zookeeper)) => {
                let login = zookeeper.login();
                Self::Zookeeper(ZooKeeperClient::new(timeout, zookeeper.sync, login))
            }
            #[cfg(feature = "dynamodb")]
            Some(Store::Dynamodb(dynamodb)) => {
                let settings = dynamodb.settings(timeout, |name| std::env::var(name).ok());
                Self::Dynamodb(DynamoDbClient::new(
                    settings.map_err(ClientError::Dynamodb)?,
                ))
            }
            Some(Store::Etcd(etcd)) => {
                Self::Etcd(EtcdClient::new(timeout, etcd.settings(), etcd.login())?)
            }
        })
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
        let variable = store.and_then(password_variable);
        match variable.filter(|_| password(variable).is_none()) {
            Some(missing) => Err(ClientError::NoPassword(missing.to_owned())),
            None => Self::new(store, Some(logs), timeout),
        }
    }

    /// Where a node that listens there is for this client.
    pub fn address(&self, node: &str) -> String {
        match self {
            Self::Exec(_) => node.to_owned(),
            #[cfg(feature = "nats")]
            Self::Nats(_) => node.to_owned(),
            #[cfg(feature = "rabbitmq")]
            Self::RabbitMq(_) => node.to_owned(),
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => node.to_owned(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => node.to_owned(),
            #[cfg(feature = "redis")]
            Self::Redis(_) => node.to_owned(),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => node.to_owned(),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => node.to_owned(),
            Self::Reference(_) | Self::Http(_) | Self::Etcd(_) => format!("http://{node}"),
        }
    }
}

/// The variable of the environment that holds the password of a store, if it has one.
fn password_variable(store: &Store) -> Option<&str> {
    match store {
        Store::Exec(_) | Store::Http(_) => None,
        Store::Etcd(etcd) => etcd.password_env.as_deref(),
        #[cfg(feature = "nats")]
        Store::Nats(nats) => nats.password_env.as_deref(),
        #[cfg(feature = "rabbitmq")]
        Store::RabbitMq(rabbitmq) => rabbitmq.password_env.as_deref(),
        #[cfg(feature = "mysql")]
        Store::Mariadb(mariadb) => mariadb.password_env.as_deref(),
        #[cfg(feature = "postgres")]
        Store::Postgres(postgres) => postgres.password_env.as_deref(),
        #[cfg(feature = "postgres")]
        Store::Patroni(patroni) => patroni.password_env.as_deref(),
        #[cfg(feature = "redis")]
        Store::Redis(redis) => redis.password_env.as_deref(),
        #[cfg(feature = "zookeeper")]
        Store::Zookeeper(zookeeper) => zookeeper.password_env.as_deref(),
        // Its keys are in variables with names of their own.
        #[cfg(feature = "dynamodb")]
        Store::Dynamodb(_) => None,
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
