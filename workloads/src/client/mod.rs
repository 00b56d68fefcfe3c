//! Clients: one operation in, its outcome out. They keep no state between operations.

pub mod http;
mod null;

use crate::operation::{Completion, Invocation};

pub use http::HttpClient;
pub use null::NullClient;

/// Sends operations to a store.
pub trait Client: Send + Sync {
    /// Carries out one operation against the node at this URL and tells how it ended, by the rule
    /// at [`Completion`]. Never retries: a hidden retry falsifies a history.
    fn invoke(
        &self,
        base_url: &str,
        invocation: &Invocation,
    ) -> impl Future<Output = Completion> + Send;
}
