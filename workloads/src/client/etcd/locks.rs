//! Locks: keys with a lease.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use checkers::Value;
use serde_json::json;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::wire::{self, Stored, to_text};
use super::{Ended, EtcdClient};
use crate::client::At;

/// The leases that are kept alive, by lock and owner.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<BTreeMap<(String, String), AbortHandle>>);

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends keeping a lease alive.
    fn give_up(&self, key: &str, owner: &str) {
        let kept = self.lock().remove(&(key.to_owned(), owner.to_owned()));
        if let Some(kept) = kept {
            kept.abort();
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.lock().values().for_each(AbortHandle::abort);
    }
}

impl EtcdClient {
    pub(super) async fn acquire(
        &self,
        at: At<'_>,
        key: &str,
        owner: &Value,
    ) -> Result<Value, Ended> {
        let lease = self.settings.lease;
        let asked = json!({"TTL": lease.as_secs().to_string()});
        let granted = self.ask(at, "lease/grant", &asked).await;
        // A lease that nothing belongs to is nobody's concern.
        let granted = granted.map_err(Ended::of_reading)?;
        let id = granted.get("ID").and_then(|id| id.as_str());
        let id = id.ok_or_else(|| Ended::fail("bad-response"))?;
        let name = to_text(owner);
        let asked = json!({
            "compare": [wire::unchanged(key, &Stored::default())],
            "success": [wire::put(key, &name, Some(id))],
        });
        let answer = self.ask(at, "kv/txn", &asked).await?;
        match wire::succeeded(&answer) {
            Some(true) => {}
            Some(false) => return Err(Ended::fail("held")),
            None => return Err(Ended::info("bad-response")),
        }
        if self.settings.keep_alive {
            let kept = Kept {
                http: self.http.clone(),
                address: at.address.to_owned(),
                // The one that the request before has used.
                token: self.tokens().get(at.address).cloned(),
                lease: id.to_owned(),
            };
            let task = kept.keep_alive(lease / 3);
            let kept = tokio::spawn(task).abort_handle();
            self.leases.lock().insert((key.to_owned(), name), kept);
        }
        let fence = wire::revision(&answer).map_or(Value::Nil, Value::Int);
        let fields = [("owner", owner.clone()), ("fence", fence)];
        Ok(Value::Map(
            fields.map(|(name, value)| (Value::str(name), value)).into(),
        ))
    }

    pub(super) async fn release(
        &self,
        at: At<'_>,
        key: &str,
        owner: &Value,
    ) -> Result<Value, Ended> {
        self.leases.give_up(key, &to_text(owner));
        let asked = json!({
            "compare": [wire::equal(key, owner)],
            "success": [wire::delete(key)],
        });
        let answer = self.ask(at, "kv/txn", &asked).await?;
        match wire::succeeded(&answer) {
            Some(true) => Ok(owner.clone()),
            Some(false) => Err(Ended::fail("cas-mismatch")),
            None => Err(Ended::info("bad-response")),
        }
    }
}

/// A lease, and whom to ask to renew it.
struct Kept {
    http: reqwest::Client,
    address: String,
    token: Option<String>,
    lease: String,
}

impl Kept {
    /// Renews it for ever, whatever etcd says to it.
    async fn keep_alive(self, every: Duration) {
        let asked = json!({"ID": self.lease});
        let token = self.token.as_deref();
        loop {
            sleep(every).await;
            // Nobody is told: the owner goes by what he was told when he acquired the lock.
            let _ = wire::ask(&self.http, &self.address, token, "lease/keepalive", &asked).await;
        }
    }
}
