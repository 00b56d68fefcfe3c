//! Clients: one operation in, its outcome out.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod etcd;
pub mod exec;
pub mod http;
mod login;
pub mod mapped;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "nats")]
pub mod nats;
mod null;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use crate::operation::{Completion, Invocation};

pub use etcd::EtcdClient;
pub use exec::ExecClient;
pub use http::HttpClient;
pub use login::Login;
pub use mapped::MappedClient;
pub use null::NullClient;

/// On whose behalf an operation is sent, and whom it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// The client thread, which has one operation at a time.
    pub thread: u32,
    /// The number of the node.
    pub node: u16,
    /// Where it listens: a URL, or whatever else the client understands.
    pub address: &'a str,
}

/// Sends operations to a store.
pub trait Client: Send + Sync {
    /// Carries out one operation and tells how it ended, by the rule at [`Completion`]. Never
    /// retries: a hidden retry falsifies a history.
    fn invoke(
        &self,
        at: At<'_>,
        invocation: &Invocation,
    ) -> impl Future<Output = Completion> + Send;
}
