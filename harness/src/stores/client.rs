//! The clients that stores of other makers are spoken to with.

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "dynamodb")]
use workloads::client::dynamodb::DynamoDbClient;
use workloads::client::exec::ExecError;
use workloads::client::http::HttpClientError;
use workloads::client::mapped::MappingError;
#[cfg(feature = "redis")]
use workloads::client::redis::RedisClient;
#[cfg(feature = "zookeeper")]
use workloads::client::zookeeper::ZooKeeperClient;
use workloads::client::{At, ExecClient, MappedClient};
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
            #[cfg(feature = "redis")]
            Some(Store::Redis(redis)) => Self::Redis(RedisClient::new(timeout, redis.wait())),
            #[cfg(feature = "zookeeper")]
            Some(Store::Zookeeper(zookeeper)) => {
                Self::Zookeeper(ZooKeeperClient::new(timeout, zookeeper.sync))
            }
            #[cfg(feature = "dynamodb")]
            Some(Store::Dynamodb(dynamodb)) => {
                let settings = dynamodb.settings(timeout, |name| std::env::var(name).ok());
                Self::Dynamodb(DynamoDbClient::new(
                    settings.map_err(ClientError::Dynamodb)?,
                ))
            }
            Some(Store::Etcd(etcd)) => Self::Http(MappedClient::new(&etcd.api(), timeout)?),
        })
    }

    /// Where a node that listens there is for this client.
    pub fn address(&self, node: &str) -> String {
        match self {
            Self::Exec(_) => node.to_owned(),
            #[cfg(feature = "redis")]
            Self::Redis(_) => node.to_owned(),
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(_) => node.to_owned(),
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(_) => node.to_owned(),
            Self::Reference(_) | Self::Http(_) => format!("http://{node}"),
        }
    }
}

impl Client for AnyClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        match self {
            Self::Reference(client) => client.invoke(at, invocation).await,
            Self::Exec(client) => client.invoke(at, invocation).await,
            Self::Http(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "redis")]
            Self::Redis(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "zookeeper")]
            Self::Zookeeper(client) => client.invoke(at, invocation).await,
            #[cfg(feature = "dynamodb")]
            Self::Dynamodb(client) => client.invoke(at, invocation).await,
        }
    }
}
