//! The client of ZooKeeper.
//!
//! | operation | request | |
//! | --- | --- | --- |
//! | read | `getData`, after a `sync` if so configured | no node is nothing |
//! | write | `setData` at any version, `create` where there is no node | |
//! | cas, append, add, increment | `getData`, then `setData` at the version that it showed, or `create` | `fail` if another was faster |
//!
//! A key is a node below the root; its data is JSON.
//!
//! A thread has a session with each node that it asks, and with that node alone. It ends with the
//! first operation whose outcome is unknown, or when its connection is lost: the driver would
//! connect again by itself. What it had sent by then it does not send again; what it had not, it
//! still sends then, as happens to every operation that is unknown.
//!
//! An error that a server gives instead of a change (`BadVersion`, `NoNode`, `NodeExists`, …) is
//! `fail`, as is a session that did not come about; everything that goes wrong in one that stands,
//! its expiry too, is `info`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checkers::{F, Outcome, Value};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;
use zookeeper_client::{Acls, Client as Session, CreateMode, Error, SessionState};

use super::{At, Client, Login};
use crate::operation::{Completion, Invocation};

/// What is asked for as the time after which a silent session ends; servers have bounds for it.
const SESSION: Duration = Duration::from_secs(4);

/// Speaks to ZooKeeper, in a session for each thread and node.
pub struct ZooKeeperClient {
    timeout: Duration,
    sync: bool,
    login: Login,
    sessions: Mutex<BTreeMap<(u32, String), Session>>,
}

impl std::fmt::Debug for ZooKeeperClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZooKeeperClient")
            .field("timeout", &self.timeout)
            .field("sync", &self.sync)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// How an operation ended that did not end well.
type Ended = (Outcome, &'static str);

impl ZooKeeperClient {
    /// With this time for an operation. `sync` has the asked server catch up with the leader before
    /// each read, those of a conditional write too. A login that names a user is one of the scheme
    /// `digest`.
    pub fn new(timeout: Duration, sync: bool, login: Login) -> Self {
        Self {
            timeout,
            sync,
            login,
            sessions: Mutex::default(),
        }
    }

    async fn session(&self, at: At<'_>) -> Result<Session, Ended> {
        let place = (at.thread, at.address.to_owned());
        let known = self.sessions().get(&place).cloned();
        match known {
            Some(session) if session.state() == SessionState::SyncConnected => return Ok(session),
            // Nothing is given to it any more, so nothing waits in it to be sent some day.
            _ => self.sessions().remove(&place),
        };
        let mut connector = Session::connector()
            .with_session_timeout(SESSION)
            .with_fail_eagerly();
        if let Some(user) = &self.login.user {
            let password = self.login.password.as_deref().unwrap_or_default();
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        let made = connector.connect(at.address).await;
        // No operation was sent.
        let session = made.map_err(|error| (Outcome::Fail, unconnected(&error)))?;
        self.sessions().insert(place, session.clone());
        Ok(session)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<(u32, String), Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, session: &Session, invocation: &Invocation) -> Result<Value, Ended> {
        let key = invocation.key.as_ref();
        let path = path(key.ok_or((Outcome::Fail, "no-key"))?);
        let value = &invocation.value;
        match &invocation.f {
            F::Read => {
                let found = self.read(session, &path).await?;
                return Ok(found.map_or(Value::Nil, |(value, _)| value));
            }
            F::Write => write(session, &path, value).await?,
            F::Cas | F::Append | F::Add | F::Increment => {
                let found = self.read(session, &path).await?;
                let (now, version) = found.map_or((Value::Nil, None), |(value, version)| {
                    (value, Some(version))
                });
                let next = next(&invocation.f, &now, value)?;
                replace(session, &path, &next, version).await?;
            }
            _ => return Err((Outcome::Fail, "unknown-function")),
        }
        Ok(value.clone())
    }

    /// What a node holds, and which version that is.
    async fn read(&self, session: &Session, path: &str) -> Result<Option<(Value, i32)>, Ended> {
        if self.sync {
            session.sync(path).await.map_err(|error| ended(&error))?;
        }
        match session.get_data(path).await {
            Ok((data, stat)) => {
                let value = serde_json::from_slice(&data);
                let value = value.map_err(|_| (Outcome::Info, "bad-response"))?;
                Ok(Some((value, stat.version)))
            }
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(ended(&error)),
        }
    }
}

/// Writes whatever is there. Each request but the last was refused, so the last one is the write.
async fn write(session: &Session, path: &str, value: &Value) -> Result<(), Ended> {
    let data = text(value)?;
    let set = async || session.set_data(path, data.as_bytes(), None).await;
    match set().await {
        Err(Error::NoNode) => {}
        done => return done.map(drop).map_err(|error| ended(&error)),
    }
    match create(session, path, &data).await {
        Err(Error::NodeExists) => {}
        done => return done.map_err(|error| ended(&error)),
    }
    set().await.map(drop).map_err(|error| ended(&error))
}

/// Writes if this version is still there; if nothing is, where it is `None`.
async fn replace(
    session: &Session,
    path: &str,
    value: &Value,
    version: Option<i32>,
) -> Result<(), Ended> {
    let data = text(value)?;
    let done = match version {
        Some(_) => {
            let set = session.set_data(path, data.as_bytes(), version).await;
            set.map(drop)
        }
        None => create(session, path, &data).await,
    };
    done.map_err(|error| ended(&error))
}

async fn create(session: &Session, path: &str, data: &str) -> Result<(), Error> {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let created = session.create(path, data.as_bytes(), &options).await;
    created.map(drop)
}

/// What is to be there after an operation on what is there now.
fn next(f: &F, now: &Value, value: &Value) -> Result<Value, Ended> {
    let bad = (Outcome::Fail, "bad-argument");
    let wrong = (Outcome::Fail, "wrong-type");
    if *f == F::Cas {
        let Some([old, new]) = value.items() else {
            return Err(bad);
        };
        return if old == now {
            Ok(new.clone())
        } else {
            Err((Outcome::Fail, "not-equal"))
        };
    }
    if *f == F::Increment {
        let by = value.as_int().ok_or(bad)?;
        let sum = match now {
            Value::Nil => Some(by),
            Value::Int(now) => now.checked_add(by),
            _ => return Err(wrong),
        };
        return sum.map(Value::Int).ok_or(bad);
    }
    let mut items = match now {
        Value::Nil => Vec::new(),
        now => now.items().ok_or(wrong)?.to_vec(),
    };
    // A set has each element once.
    if *f == F::Append || !items.contains(value) {
        items.push(value.clone());
    }
    Ok(items.into_iter().collect())
}

/// The node of a key: whatever it is, it is one name.
fn path(key: &Value) -> String {
    let name = match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    };
    format!("/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC))
}

fn text(value: &Value) -> Result<String, Ended> {
    serde_json::to_string(value).map_err(|_| (Outcome::Fail, "bad-argument"))
}

/// Why there is no session.
fn unconnected(error: &Error) -> &'static str {
    match error {
        Error::BadArguments(_) => "bad-address",
        Error::NoAuth | Error::AuthFailed => "no-auth",
        _ => "unreachable",
    }
}

/// What an error of an operation means.
fn ended(error: &Error) -> Ended {
    let refused = |code| (Outcome::Fail, code);
    let unknown = |code| (Outcome::Info, code);
    match error {
        // Given by the server instead of the change.
        Error::BadVersion => refused("bad-version"),
        Error::NoNode => refused("no-node"),
        Error::NodeExists => refused("node-exists"),
        Error::NoAuth => refused("no-auth"),
        Error::NoChildrenForEphemerals => refused("no-children-for-ephemerals"),
        Error::InvalidAcl => refused("invalid-acl"),
        Error::NotReadOnly => refused("not-read-only"),
        Error::QuotaExceeded => refused("quota-exceeded"),
        Error::Throttled => refused("throttled"),
        Error::MarshallingError => refused("marshalling-error"),
        Error::Unimplemented => refused("unimplemented"),
        // By the driver, before it is sent.
        Error::BadArguments(_) => refused("bad-argument"),
        // These end a session; what was under way in it may have been done.
        Error::SessionExpired => unknown("session-expired"),
        Error::SessionMoved => unknown("session-moved"),
        Error::ClientClosed => unknown("session-closed"),
        Error::UnmarshalError { .. } => unknown("bad-response"),
        Error::UnexpectedErrorCode(_) | Error::RuntimeInconsistent => unknown("server-error"),
        _ => unknown("connection-lost"),
    }
}

impl Client for ZooKeeperClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let connected = timeout(self.timeout, self.session(at)).await;
        let ended = match connected {
            // A session may have come about, but no operation was sent.
            Err(_) => Err((Outcome::Fail, "unreachable")),
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(session)) => {
                let done = timeout(self.timeout, self.carry_out(&session, invocation)).await;
                done.unwrap_or(Err((Outcome::Info, "timeout")))
            }
        };
        match ended {
            Ok(value) => Completion::new(Outcome::Ok, value),
            Err((outcome, code)) => {
                if outcome == Outcome::Info {
                    let place = (at.thread, at.address.to_owned());
                    self.sessions().remove(&place);
                }
                Completion {
                    error: Some(code.into()),
                    ..Completion::new(outcome, invocation.value.clone())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_refused_has_failed() {
        for refused in [
            Error::BadVersion,
            Error::NoNode,
            Error::NodeExists,
            Error::Throttled,
            Error::QuotaExceeded,
            Error::NotReadOnly,
            Error::BadArguments(&"bad path"),
        ] {
            assert_eq!(ended(&refused).0, Outcome::Fail, "{refused}");
        }
        for unknown in [
            Error::ConnectionLoss,
            Error::SessionExpired,
            Error::SessionMoved,
            Error::ClientClosed,
            Error::Timeout,
            Error::NoHosts,
            Error::AuthFailed,
            Error::RuntimeInconsistent,
            // OPERATIONTIMEOUT, SYSTEMERROR: said of requests that were taken on.
            Error::UnexpectedErrorCode(-7),
            Error::UnexpectedErrorCode(-1),
            Error::UnexpectedError("recv response with no pending request".to_owned()),
        ] {
            assert_eq!(ended(&unknown).0, Outcome::Info, "{unknown}");
        }
    }

    fn list(items: &[i64]) -> Value {
        items.iter().copied().map(Value::Int).collect()
    }

    #[test]
    fn a_conditional_write_goes_by_what_is_there() {
        let after = |f, now: Value, value: Value| next(&f, &now, &value).map_err(|(_, why)| why);
        assert_eq!(after(F::Cas, 1.into(), list(&[1, 2])), Ok(2.into()));
        assert_eq!(after(F::Cas, 3.into(), list(&[1, 2])), Err("not-equal"));
        let first: Value = [Value::Nil, 5.into()].into_iter().collect();
        assert_eq!(after(F::Cas, Value::Nil, first.clone()), Ok(5.into()));
        assert_eq!(after(F::Cas, 5.into(), first), Err("not-equal"));
        assert_eq!(after(F::Cas, 5.into(), 5.into()), Err("bad-argument"));

        assert_eq!(after(F::Append, Value::Nil, 1.into()), Ok(list(&[1])));
        assert_eq!(after(F::Append, list(&[1]), 1.into()), Ok(list(&[1, 1])));
        assert_eq!(after(F::Append, 1.into(), 1.into()), Err("wrong-type"));
        assert_eq!(after(F::Add, list(&[1]), 1.into()), Ok(list(&[1])));
        assert_eq!(after(F::Add, list(&[1]), 2.into()), Ok(list(&[1, 2])));

        assert_eq!(after(F::Increment, Value::Nil, 2.into()), Ok(2.into()));
        assert_eq!(after(F::Increment, 40.into(), 2.into()), Ok(42.into()));
        assert_eq!(
            after(F::Increment, i64::MAX.into(), 1.into()),
            Err("bad-argument")
        );
        assert_eq!(after(F::Increment, list(&[]), 1.into()), Err("wrong-type"));
    }

    #[test]
    fn a_key_is_one_node() {
        assert_eq!(path(&Value::str("q4f-k3")), "/q4f%2Dk3");
        assert_eq!(path(&7.into()), "/7");
        for odd in ["a/b", ".", "..", ""] {
            let path = path(&Value::str(odd));
            assert_eq!(path.matches('/').count(), 1, "{path}");
            assert!(!path[1..].starts_with('.'), "{path}");
        }
    }
}
