//! The client of Redis and Valkey.
//!
//! | operation | command | |
//! | --- | --- | --- |
//! | read | `GET`, else `LRANGE`, else `SMEMBERS` | by what the key holds |
//! | write | `SET` | |
//! | cas | `EVAL` of a comparison and a `SET` | `fail` if it differs |
//! | append, add, increment | `RPUSH`, `SADD`, `INCRBY` | |
//!
//! After a change, `WAIT k` if so configured; fewer acknowledgements in time leave it unknown.
//!
//! An error that the server answers with (`READONLY`, `NOREPLICAS`, `LOADING`, `MASTERDOWN`, …) is
//! given instead of carrying out the command: `fail`. A connection that did not come about is `fail`;
//! everything that goes wrong on one that stands is `info`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use checkers::{F, Outcome, Value};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, Value as Reply,
};
use tokio::time::timeout;

use super::{At, Client, Login};
use crate::operation::{Completion, Invocation};

/// Compares and sets; a key never written is the empty comparison.
const SWAP: &str = "if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then \
     redis.call('SET', KEYS[1], ARGV[2]) return 1 else return 0 end";

/// How many replicas have to have a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// So many.
    pub replicas: u16,
    /// And no later than this.
    pub within: Duration,
}

/// Speaks to Redis or Valkey, over a connection for each thread and node.
pub struct RedisClient {
    timeout: Duration,
    wait: Option<Wait>,
    login: Login,
    connections: Mutex<BTreeMap<(u32, String), MultiplexedConnection>>,
}

impl std::fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisClient")
            .field("timeout", &self.timeout)
            .field("wait", &self.wait)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// How a command ended that did not end well.
type Ended = (Outcome, String);

/// How to connect to this address with this login.
///
/// # Errors
/// If the address is none.
pub fn connection_info(address: &str, login: &Login) -> Result<ConnectionInfo, RedisError> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password);
    }
    let info = format!("redis://{address}/").into_connection_info()?;
    Ok(info.set_redis_settings(settings))
}

impl RedisClient {
    /// With this time for an operation, and this login.
    pub fn new(timeout: Duration, wait: Option<Wait>, login: Login) -> Self {
        Self {
            timeout,
            wait,
            login,
            connections: Mutex::default(),
        }
    }

    async fn connection(&self, at: At<'_>) -> Result<MultiplexedConnection, Ended> {
        let place = (at.thread, at.address.to_owned());
        let known = self.connections().get(&place).cloned();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let info = connection_info(at.address, &self.login);
        let client = info
            .and_then(redis::Client::open)
            .map_err(|_| (Outcome::Fail, "bad-address".to_owned()))?;
        // The whole operation has a limit of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let made = client.get_multiplexed_async_connection_with_config(&config);
        let connection = made.await.map_err(|error| {
            let code = if error.is_connection_refusal() {
                "connection-refused".to_owned()
            } else {
                error
                    .code()
                    .map_or("unreachable".to_owned(), str::to_lowercase)
            };
            // No command was sent.
            (Outcome::Fail, code)
        })?;
        self.connections().insert(place, connection.clone());
        Ok(connection)
    }

    fn connections(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<(u32, String), MultiplexedConnection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(
        &self,
        connection: &mut MultiplexedConnection,
        invocation: &Invocation,
    ) -> Result<Value, Ended> {
        let key = invocation.key.as_ref().map(text);
        let key = key.ok_or((Outcome::Fail, "no-key".to_owned()))?;
        let value = &invocation.value;
        let command = match &invocation.f {
            F::Read => return read(connection, &key).await,
            F::Write => command("SET", &key, &[&text(value)]),
            F::Append => command("RPUSH", &key, &[&text(value)]),
            F::Add => command("SADD", &key, &[&text(value)]),
            F::Increment => command("INCRBY", &key, &[&text(value)]),
            F::Cas => {
                let Some([old, new]) = value.items() else {
                    return Err((Outcome::Fail, "bad-argument".to_owned()));
                };
                let old = if old.is_nil() {
                    String::new()
                } else {
                    text(old)
                };
                let mut command = redis::cmd("EVAL");
                command.arg(SWAP).arg(1).arg(&key).arg(old).arg(text(new));
                command
            }
            _ => return Err((Outcome::Fail, "unknown-function".to_owned())),
        };
        let reply = ask(connection, &command).await?;
        if invocation.f == F::Cas && reply != Reply::Int(1) {
            return Err((Outcome::Fail, "not-equal".to_owned()));
        }
        if let Some(Wait { replicas, within }) = self.wait {
            let mut wait = redis::cmd("WAIT");
            wait.arg(replicas).arg(within.as_millis() as u64);
            // The change is done where it was asked for; elsewhere, who knows.
            let reached = ask(connection, &wait).await;
            let unknown = |code: String| (Outcome::Info, code);
            match reached.map_err(|(_, code)| unknown(code))? {
                Reply::Int(reached) if reached >= i64::from(replicas) => {}
                _ => return Err(unknown("too-few-replicas".to_owned())),
            }
        }
        Ok(value.clone())
    }
}

fn command(name: &str, key: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key).arg(arguments);
    command
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Reply, Ended> {
    let reply: Result<Reply, RedisError> = command.query_async(connection).await;
    reply.map_err(|error| match error.code() {
        Some(code) => (Outcome::Fail, code.to_lowercase()),
        None if error.kind() == ErrorKind::Client => (Outcome::Fail, "bad-argument".to_owned()),
        None => (Outcome::Info, "connection-lost".to_owned()),
    })
}

/// What a key holds.
async fn read(connection: &mut MultiplexedConnection, key: &str) -> Result<Value, Ended> {
    let all = |reply| match reply {
        Reply::Array(items) | Reply::Set(items) => items.into_iter().map(shown).collect(),
        other => Some(shown(other)?),
    };
    let mut ended = (Outcome::Fail, "wrongtype".to_owned());
    for (name, arguments) in [
        ("GET", &[][..]),
        ("LRANGE", &["0", "-1"]),
        ("SMEMBERS", &[]),
    ] {
        match ask(connection, &command(name, key, arguments)).await {
            Ok(reply) => {
                let value = all(reply);
                return value.ok_or((Outcome::Info, "bad-response".to_owned()));
            }
            Err(why) if why.1 == "wrongtype" => ended = why,
            Err(why) => return Err(why),
        }
    }
    Err(ended)
}

/// A text that holds JSON, or else is a text.
fn shown(reply: Reply) -> Option<Value> {
    let text = match reply {
        Reply::Nil => return Some(Value::Nil),
        Reply::Int(number) => return Some(Value::Int(number)),
        Reply::BulkString(bytes) => String::from_utf8(bytes).ok()?,
        Reply::SimpleString(text) => text,
        _ => return None,
    };
    Some(serde_json::from_str(&text).unwrap_or_else(|_| Value::str(&text)))
}

fn text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

impl Client for RedisClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let connected = timeout(self.timeout, self.connection(at)).await;
        let ended = match connected {
            // The node may have taken the connection, but no command was sent.
            Err(_) => Err((Outcome::Fail, "unreachable".to_owned())),
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(mut connection)) => {
                let done = self.carry_out(&mut connection, invocation);
                let done = timeout(self.timeout, done).await;
                done.unwrap_or_else(|_| Err((Outcome::Info, "timeout".to_owned())))
            }
        };
        match ended {
            Ok(value) => Completion::new(Outcome::Ok, value),
            Err((outcome, code)) => {
                if outcome == Outcome::Info {
                    // What it may still bring is an answer to nothing.
                    let place = (at.thread, at.address.to_owned());
                    self.connections().remove(&place);
                }
                Completion {
                    error: Some(code.into()),
                    ..Completion::new(outcome, invocation.value.clone())
                }
            }
        }
    }
}
