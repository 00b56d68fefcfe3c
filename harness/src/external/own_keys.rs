//! [`OwnKeys`]: keeps a run to keys of its own, so that it finds them empty in a store that others
//! have written to.

use checkers::Value;
use workloads::client::At;
use workloads::{Client, Completion, Invocation};

/// A client that puts a prefix before every key in the store.
#[derive(Debug)]
pub struct OwnKeys<C> {
    client: C,
    prefix: String,
}

impl<C> OwnKeys<C> {
    /// With this prefix.
    pub fn new(client: C, prefix: String) -> Self {
        Self { client, prefix }
    }

    /// What does the work.
    #[cfg(feature = "k8s")]
    pub fn client(&self) -> &C {
        &self.client
    }

    /// The same operation on a key of this run.
    fn asked(&self, invocation: &Invocation) -> Invocation {
        let mut asked = invocation.clone();
        if let Some(key) = &mut asked.key {
            *key = Value::str(&format!("{}{}", self.prefix, text(key)));
        }
        asked
    }
}

/// A key as it is written.
fn text(key: &Value) -> String {
    match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    }
}

impl<C: Client> Client for OwnKeys<C> {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        self.client.invoke(at, &self.asked(invocation)).await
    }
}
