//! The client of etcd, through its JSON gateway
//! (<https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>).
//!
//! | operation | request | |
//! | --- | --- | --- |
//! | read | `kv/range` | linearizable, or serializable if so configured |
//! | write | `kv/put` | |
//! | cas | `kv/txn` that compares the value | `fail` if it differs |
//! | txn that only reads | `kv/txn` of ranges | one revision of all keys |
//! | txn | the same, then `kv/txn` that compares the revision of every key, read or written | `fail` if one has changed since |
//! | transfer | as a txn of two accounts | `fail` if it would overdraw |
//! | read without key | as a txn that reads all accounts | |
//! | acquire | `lease/grant`, then `kv/txn` that creates the key with that lease | `fail` if the key is there |
//! | release | `kv/txn` that deletes the key if its value is the owner | `fail` if it is not |
//!
//! An account is made with its first balance before it is used for the first time, unless it is there.
//!
//! # Which outcome
//! | what happened | outcome |
//! | --- | --- |
//! | a comparison failed | fail |
//! | an error that etcd gives before it proposes anything, or instead of applying it (`REFUSALS`) | fail |
//! | any other error while reading only | fail: there was nothing to be done |
//! | any other error: a proposal timed out, the leader was lost, the server stops | info |
//! | no connection came about | fail |
//! | time ran out, the connection was lost | info |
//!
//! What a transaction reads first changes nothing: whatever goes wrong in it, the transaction is `fail`,
//! save when time runs out.
//!
//! **A lock** is a key with a lease. Its owner keeps the lease alive while it holds the lock, three times
//! in a lease, or not at all if so configured: a holder that stopped for a while, as in a long pause for
//! garbage. It never looks whether the lease still stands: it goes by what it was told when it acquired the
//! lock. The acknowledgement carries the revision at which the key was created, a fencing token.

mod locks;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checkers::{F, Outcome, Value};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use self::locks::Leases;
use self::wire::{Range, Stored, to_text};
use super::http::{HttpClientError, plain};
use super::{At, Client, Login};
use crate::operation::{Completion, Invocation};
use crate::transaction::{self, BALANCE, Micro, Transfer};

/// How etcd is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Reads from the asked member's own state, stale or not.
    pub serializable: bool,
    /// How long a lease of a lock lasts.
    pub lease: Duration,
    /// Whether the owner of a lock keeps its lease alive.
    pub keep_alive: bool,
}

/// How a member says that it does not know a token.
const INVALID_TOKEN: &str = "invalid-auth-token";

/// Speaks to etcd.
#[derive(Debug)]
pub struct EtcdClient {
    http: reqwest::Client,
    timeout: Duration,
    settings: Settings,
    login: Login,
    /// What each member that was asked has given for the login.
    tokens: Mutex<BTreeMap<String, String>>,
    /// The accounts that are known to be there.
    accounts: Mutex<BTreeSet<String>>,
    leases: Leases,
}

/// How a request ended that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    outcome: Outcome,
    code: String,
}

impl Ended {
    fn fail(code: &str) -> Self {
        Self {
            outcome: Outcome::Fail,
            code: code.to_owned(),
        }
    }

    fn info(code: &str) -> Self {
        Self {
            outcome: Outcome::Info,
            code: code.to_owned(),
        }
    }

    /// Of a request that changes nothing: nothing was done, unless nobody has said anything.
    fn of_reading(self) -> Self {
        let outcome = if self.code == "timeout" {
            self.outcome
        } else {
            Outcome::Fail
        };
        Self { outcome, ..self }
    }
}

impl EtcdClient {
    /// With this time for an operation, and this login if it names a user.
    ///
    /// # Errors
    /// If the HTTP library cannot be set up.
    pub fn new(
        timeout: Duration,
        settings: Settings,
        login: Login,
    ) -> Result<Self, HttpClientError> {
        Ok(Self {
            http: plain(timeout)?,
            timeout,
            settings,
            login,
            tokens: Mutex::default(),
            accounts: Mutex::default(),
            leases: Leases::default(),
        })
    }

    /// The answer to one request.
    async fn ask(&self, at: At<'_>, path: &str, body: &Json) -> Result<Json, Ended> {
        let token = self.token(at).await?;
        let answer = wire::ask(&self.http, at.address, token.as_deref(), path, body).await;
        if matches!(&answer, Err(ended) if ended.code == INVALID_TOKEN) {
            // A member that was started again has forgotten it; the next request has another.
            self.tokens().remove(at.address);
        }
        answer
    }

    /// The token of the login, if there is a login. The request itself has not been sent then.
    async fn token(&self, at: At<'_>) -> Result<Option<String>, Ended> {
        let Some(user) = &self.login.user else {
            return Ok(None);
        };
        let known = self.tokens().get(at.address).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let asked = json!({"name": user, "password": self.login.password});
        let answer = wire::ask(&self.http, at.address, None, "auth/authenticate", &asked).await;
        let answer = answer.map_err(|ended| Ended::fail(&ended.code))?;
        let token = answer.get("token").and_then(Json::as_str);
        let token = token.ok_or_else(|| Ended::fail("bad-response"))?.to_owned();
        self.tokens().insert(at.address.to_owned(), token.clone());
        Ok(Some(token))
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current state of these keys, of one revision.
    async fn read(&self, at: At<'_>, keys: &[String]) -> Result<Vec<Stored>, Ended> {
        let serializable = self.settings.serializable;
        let ranges = keys.iter().map(|key| Range { key, serializable }.request());
        let asked = json!({"success": ranges.collect::<Vec<_>>()});
        let answer = self.ask(at, "kv/txn", &asked).await;
        let answer = answer.map_err(Ended::of_reading)?;
        wire::ranges(&answer, keys.len()).ok_or_else(|| Ended::fail("bad-response"))
    }

    /// Writes, if none of the keys has changed since it was read.
    async fn write_if_unchanged(
        &self,
        at: At<'_>,
        seen: &[(String, Stored)],
        writes: &[(String, Value)],
    ) -> Result<(), Ended> {
        let compares = seen
            .iter()
            .map(|(key, stored)| wire::unchanged(key, stored));
        let puts = writes
            .iter()
            .map(|(key, value)| wire::put(key, &to_text(value), None));
        let asked = json!({
            "compare": compares.collect::<Vec<_>>(),
            "success": puts.collect::<Vec<_>>(),
        });
        let answer = self.ask(at, "kv/txn", &asked).await?;
        match wire::succeeded(&answer) {
            Some(true) => Ok(()),
            Some(false) => Err(Ended::fail("conflict")),
            None => Err(Ended::info("bad-response")),
        }
    }

    async fn transaction(&self, at: At<'_>, value: &Value) -> Result<Value, Ended> {
        let micro = Micro::all(value).ok_or_else(|| Ended::fail("bad-argument"))?;
        let mut keys: Vec<String> = micro.iter().map(|micro| text(micro.key())).collect();
        keys.sort_unstable();
        keys.dedup();
        let stored = self.read(at, &keys).await?;
        let mut seen: Vec<(String, Stored)> = keys.into_iter().zip(stored).collect();
        let mut held: Vec<Value> = seen
            .iter()
            .map(|(_, stored)| stored.value.clone())
            .collect();
        let mut written = vec![false; seen.len()];
        let mut done = Vec::with_capacity(micro.len());
        for micro in &micro {
            let name = text(micro.key());
            let place = seen.partition_point(|(key, _)| *key < name);
            match micro {
                Micro::Read(_) => {}
                Micro::Append(_, element) => {
                    let mut items = held[place].items().unwrap_or_default().to_vec();
                    items.push(element.clone());
                    held[place] = items.into_iter().collect();
                    written[place] = true;
                }
                Micro::Write(_, value) => {
                    held[place] = value.clone();
                    written[place] = true;
                }
            }
            done.push(micro.written(held[place].clone()));
        }
        let writes: Vec<(String, Value)> = seen
            .iter()
            .zip(held)
            .zip(&written)
            .filter(|(_, written)| **written)
            .map(|(((key, _), value), _)| (key.clone(), value))
            .collect();
        if !writes.is_empty() {
            // Who overwrites what he has not read depends on nothing.
            let read = |key: &String| {
                let mut micro = micro.iter();
                micro.any(|m| !matches!(m, Micro::Write(..)) && text(m.key()) == *key)
            };
            seen.retain(|(key, _)| read(key));
            self.write_if_unchanged(at, &seen, &writes).await?;
        }
        Ok(done.into_iter().collect())
    }

    /// Makes those of the accounts that are not there.
    async fn make_accounts(&self, at: At<'_>, accounts: &[String]) -> Result<(), Ended> {
        for account in accounts {
            if self.known_accounts().contains(account) {
                continue;
            }
            let absent = Stored::default();
            let asked = json!({
                "compare": [wire::unchanged(account, &absent)],
                "success": [wire::put(account, &BALANCE.to_string(), None)],
            });
            // Whether it was made now or before, and whether this is known: there is one at most, and
            // who asked for it has not done anything yet.
            let answer = self.ask(at, "kv/txn", &asked).await;
            answer.map_err(Ended::of_reading)?;
            self.known_accounts().insert(account.clone());
        }
        Ok(())
    }

    fn known_accounts(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn balances(&self, at: At<'_>, asked: &Value) -> Result<Value, Ended> {
        let accounts = transaction::accounts(asked);
        let keys: Vec<String> = accounts.iter().map(account).collect();
        self.make_accounts(at, &keys).await?;
        let stored = self.read(at, &keys).await?;
        let pairs = accounts
            .into_iter()
            .zip(stored.into_iter().map(|s| s.value));
        Ok(Value::Map(pairs.collect()))
    }

    async fn transfer(&self, at: At<'_>, value: &Value) -> Result<Value, Ended> {
        let Transfer { from, to, amount } =
            Transfer::of(value).ok_or_else(|| Ended::fail("bad-argument"))?;
        let keys = [account(&from), account(&to)];
        self.make_accounts(at, &keys).await?;
        let stored = self.read(at, &keys).await?;
        let [Some(gives), Some(takes)] = [&stored[0], &stored[1]].map(|s| s.value.as_int()) else {
            return Err(Ended::fail("no-account"));
        };
        if gives < amount {
            return Err(Ended::fail("overdrawn"));
        }
        let seen: Vec<_> = keys.iter().cloned().zip(stored).collect();
        let balances = [gives - amount, takes + amount].map(Value::Int);
        let writes: Vec<_> = keys.into_iter().zip(balances).collect();
        self.write_if_unchanged(at, &seen, &writes).await?;
        Ok(value.clone())
    }

    async fn carry_out(&self, at: At<'_>, invocation: &Invocation) -> Result<Value, Ended> {
        let value = &invocation.value;
        match &invocation.f {
            F::Other(name) if &**name == "txn" => return self.transaction(at, value).await,
            F::Other(name) if &**name == "transfer" => return self.transfer(at, value).await,
            F::Read if invocation.key.is_none() => return self.balances(at, value).await,
            _ => {}
        }
        let key = invocation.key.as_ref().map(text);
        let key = key.ok_or_else(|| Ended::fail("no-key"))?;
        match &invocation.f {
            F::Read => {
                let serializable = self.settings.serializable || invocation.local;
                let asked = Range {
                    key: &key,
                    serializable,
                }
                .body();
                let answer = self.ask(at, "kv/range", &asked).await;
                let answer = answer.map_err(Ended::of_reading)?;
                let stored = wire::stored(&answer);
                return stored
                    .map(|stored| stored.value)
                    .ok_or_else(|| Ended::fail("bad-response"));
            }
            F::Write => {
                let asked = wire::put_body(&key, &to_text(value), None);
                self.ask(at, "kv/put", &asked).await?;
            }
            F::Cas => {
                let Some([old, new]) = value.items() else {
                    return Err(Ended::fail("bad-argument"));
                };
                let asked = json!({
                    "compare": [wire::equal(&key, old)],
                    "success": [wire::put(&key, &to_text(new), None)],
                });
                let answer = self.ask(at, "kv/txn", &asked).await?;
                match wire::succeeded(&answer) {
                    Some(true) => {}
                    Some(false) => return Err(Ended::fail("not-equal")),
                    None => return Err(Ended::info("bad-response")),
                }
            }
            F::Acquire => return self.acquire(at, &key, value).await,
            F::Release => return self.release(at, &key, value).await,
            _ => return Err(Ended::fail("unknown-function")),
        }
        Ok(value.clone())
    }
}

/// A key as etcd has it.
fn text(key: &Value) -> String {
    match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    }
}

/// The key of an account.
fn account(account: &Value) -> String {
    format!("account/{}", text(account))
}

impl Client for EtcdClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let done = timeout(self.timeout, self.carry_out(at, invocation)).await;
        match done.unwrap_or_else(|_| Err(Ended::info("timeout"))) {
            Ok(value) => Completion::new(Outcome::Ok, value),
            Err(Ended { outcome, code }) => Completion {
                error: Some(code.into()),
                ..Completion::new(outcome, invocation.value.clone())
            },
        }
    }
}
