//! The client of PostgreSQL.
//!
//! One table, `quorate (key text PRIMARY KEY, value text)`, holds what JSON says of each value; it is
//! made on the first connection that finds none.
//!
//! | operation | statement | |
//! | --- | --- | --- |
//! | read | `SELECT`, with `pg_is_in_recovery()` | `fail` on a standby, unless standbys are to be read |
//! | write | `INSERT … ON CONFLICT DO UPDATE` | |
//! | cas | `UPDATE … WHERE value =`, `INSERT … ON CONFLICT DO NOTHING` for a key never written | `fail` if no row |
//! | append, add, increment | `INSERT … ON CONFLICT DO UPDATE` that reads the row | |
//! | txn, transfer, read of a bank | `BEGIN ISOLATION LEVEL …`, a statement each, `COMMIT` | see `transaction` |
//!
//! Single statements commit by themselves, at the same level of isolation.
//!
//! | what happened | outcome | why |
//! | --- | --- | --- |
//! | no connection, or none that could be set up | `fail` | no statement was sent |
//! | anything before `COMMIT` of a transaction was sent, a read | `fail` | what was not committed is undone |
//! | 40001, 40P01, 40000, 40002 | `fail` | serialization failure, deadlock: rolled back |
//! | 25006 | `fail` | a standby, or read-only: refused |
//! | classes 0A, 22, 23, 25, 26, 28, 34, 3D, 3F, 42, 44, 55, severity `ERROR` | `fail` | the statement was refused |
//! | 40003, 08007 | `info` | the server does not know either |
//! | 57P01, 57P02, 57014 | `info` | shut down or cancelled on the way, perhaps in the commit |
//! | every other error, every `FATAL` and `PANIC` | `info` | |
//! | success with a `WARNING` | `info` | a wait for synchronous standbys that was cancelled: committed here, perhaps nowhere else |
//! | connection lost, timeout | `info` | the commit may have been done |
//!
//! The server's own timeouts are off. A connection that something else than an `ERROR` came over is
//! closed.

mod session;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checkers::{F, Outcome, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Error, NoTls};

pub use self::session::{Commit, Isolation, Reads, Session};
use super::{At, Client};
use crate::operation::{Completion, Invocation};

/// Makes the table where everything is.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS quorate (key text PRIMARY KEY, value text NOT NULL)";

const READ: &str = "SELECT pg_is_in_recovery(), (SELECT value FROM quorate WHERE key = $1)";
const WRITE: &str = "INSERT INTO quorate VALUES ($1, $2) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const APPEND: &str = "INSERT INTO quorate AS q VALUES ($1, '[' || $2 || ']') \
     ON CONFLICT (key) DO UPDATE SET value = left(q.value, -1) || ',' || $2 || ']'";
const INCREMENT: &str = "INSERT INTO quorate AS q VALUES ($1, $2) \
     ON CONFLICT (key) DO UPDATE SET value = (q.value::bigint + $2::bigint)::text";
const SWAP: &str = "UPDATE quorate SET value = $3 WHERE key = $1 AND value = $2";
const CREATE: &str = "INSERT INTO quorate VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Speaks to PostgreSQL, over a connection for each thread and node.
#[derive(Debug)]
pub struct PostgresClient {
    timeout: Duration,
    session: Session,
    connections: Mutex<BTreeMap<(u32, String), Arc<Connection>>>,
}

/// A connection, and what drives it.
struct Connection {
    client: tokio_postgres::Client,
    /// The last warning that came.
    warned: Arc<Mutex<Option<SqlState>>>,
    /// Accounts of a bank that are known to be there.
    accounts: Mutex<BTreeSet<String>>,
    driver: JoinHandle<()>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Drop for Connection {
    /// Closes the socket, even in the middle of an answer that never comes.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an operation ended that did not end well.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    outcome: Outcome,
    code: String,
    /// Whether the connection can be used again.
    usable: bool,
}

impl Ended {
    /// Nothing was done, and the connection is as it was.
    fn refused(code: &str) -> Self {
        Self {
            outcome: Outcome::Fail,
            code: code.to_owned(),
            usable: true,
        }
    }

    /// As an error says, that came before or after what commits was sent.
    fn by(error: &Error, committing: bool) -> Self {
        match error.as_db_error() {
            Some(said) => Self::said(said.code().code(), said.severity() == "ERROR", committing),
            None => Self::lost("connection-lost", committing),
        }
    }

    fn said(state: &str, is_error: bool, committing: bool) -> Self {
        let undone = !committing || (is_error && is_refusal(state));
        Self {
            outcome: if undone { Outcome::Fail } else { Outcome::Info },
            code: name(state),
            // The next connection makes the table that is not there.
            usable: undone && is_error && state != "42P01",
        }
    }

    fn lost(code: &str, committing: bool) -> Self {
        Self {
            outcome: if committing {
                Outcome::Info
            } else {
                Outcome::Fail
            },
            code: code.to_owned(),
            usable: false,
        }
    }
}

/// Whether an error of this state that answers what commits says that nothing was committed.
fn is_refusal(state: &str) -> bool {
    const CLASSES: [&str; 12] = [
        "0A", "22", "23", "25", "26", "28", "34", "3D", "3F", "42", "44", "55",
    ];
    match state.get(..2) {
        Some("40") => state != "40003",
        Some(class) => CLASSES.contains(&class),
        None => false,
    }
}

/// A short word for a state, as histories have them.
fn name(state: &str) -> String {
    match state {
        "40001" => "serialization-failure",
        "40P01" => "deadlock",
        "25006" => "read-only",
        "53300" => "too-many-connections",
        "57014" => "cancelled",
        "57P01" => "admin-shutdown",
        "57P02" => "crash-shutdown",
        "57P03" => "cannot-connect-now",
        _ => return format!("sqlstate-{state}"),
    }
    .to_owned()
}

impl PostgresClient {
    /// With this time for an operation.
    pub fn new(timeout: Duration, session: Session) -> Self {
        Self {
            timeout,
            session,
            connections: Mutex::default(),
        }
    }

    async fn connection(&self, at: At<'_>) -> Result<Arc<Connection>, Ended> {
        let place = (at.thread, at.address.to_owned());
        let known = locked(&self.connections).get(&place).cloned();
        if let Some(connection) = known.filter(|known| !known.client.is_closed()) {
            return Ok(connection);
        }
        let config = self.session.config(at.address);
        let config = config.ok_or_else(|| Ended::refused("bad-address"))?;
        let made = connect(&config).await;
        let made = made.map_err(|error| match error.as_db_error() {
            Some(said) => Ended::refused(&name(said.code().code())),
            None => Ended::refused("unreachable"),
        })?;
        let ready = set_up(&made, &self.session).await;
        ready.map_err(|error| Ended::by(&error, false))?;
        let made = Arc::new(made);
        locked(&self.connections).insert(place, Arc::clone(&made));
        Ok(made)
    }

    async fn carry_out(
        &self,
        connection: &Connection,
        invocation: &Invocation,
        committing: &AtomicBool,
    ) -> Result<Value, Ended> {
        let Some(key) = &invocation.key else {
            return self.transact(connection, invocation, committing).await;
        };
        let (key, value) = (text(key), text(&invocation.value));
        let one = [&key, &value];
        let rows = match &invocation.f {
            F::Read => return self.read(connection, &key).await,
            F::Write => change(connection, WRITE, &one, committing).await?,
            F::Append | F::Add => change(connection, APPEND, &one, committing).await?,
            F::Increment => change(connection, INCREMENT, &one, committing).await?,
            F::Cas => {
                let Some([old, new]) = invocation.value.items() else {
                    return Err(Ended::refused("bad-argument"));
                };
                let (old, new, never) = (text(old), text(new), old.is_nil());
                if never {
                    change(connection, CREATE, &[&key, &new], committing).await?
                } else {
                    change(connection, SWAP, &[&key, &old, &new], committing).await?
                }
            }
            _ => return Err(Ended::refused("unknown-function")),
        };
        if invocation.f == F::Cas && rows == 0 {
            return Err(Ended::refused("not-equal"));
        }
        Ok(invocation.value.clone())
    }

    async fn read(&self, connection: &Connection, key: &str) -> Result<Value, Ended> {
        let rows = connection
            .client
            .query_typed(READ, &parameters(&[key]))
            .await;
        let rows = rows.map_err(|error| Ended::by(&error, false))?;
        let row = rows.first().ok_or_else(bad_response)?;
        let standby: bool = row.try_get(0).map_err(|_| bad_response())?;
        if standby && self.session.reads == Reads::Primary {
            return Err(Ended::refused("standby"));
        }
        let found: Option<&str> = row.try_get(1).map_err(|_| bad_response())?;
        Ok(found.map_or(Value::Nil, shown))
    }
}

fn bad_response() -> Ended {
    Ended::lost("bad-response", false)
}

/// A statement that commits by itself; the number of rows that it changed.
async fn change(
    connection: &Connection,
    statement: &str,
    arguments: &[&String],
    committing: &AtomicBool,
) -> Result<u64, Ended> {
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str()).collect();
    committing.store(true, Ordering::SeqCst);
    let done = connection
        .client
        .execute_typed(statement, &parameters(&arguments))
        .await;
    let rows = done.map_err(|error| Ended::by(&error, true))?;
    without_warning(connection)?;
    Ok(rows)
}

/// A commit that came with a warning was done here, and perhaps nowhere else.
fn without_warning(connection: &Connection) -> Result<(), Ended> {
    match locked(&connection.warned).take() {
        None => Ok(()),
        Some(state) => Err(Ended::lost(&format!("warning-{}", state.code()), true)),
    }
}

fn parameters<'a>(texts: &'a [&'a str]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let one = |text: &'a &'a str| (text as &(dyn ToSql + Sync), Type::TEXT);
    texts.iter().map(one).collect()
}

async fn connect(config: &tokio_postgres::Config) -> Result<Connection, Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let warned = Arc::new(Mutex::new(None));
    let noticed = Arc::clone(&warned);
    // What comes before an answer is seen before the answer is given to who waits for it.
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.severity() == "WARNING"
            {
                *locked(&noticed) = Some(notice.code().clone());
            }
        }
    });
    Ok(Connection {
        client,
        warned,
        accounts: Mutex::default(),
        driver,
    })
}

/// Sets what the session is to be like, and makes the table if there is none.
async fn set_up(connection: &Connection, session: &Session) -> Result<(), Error> {
    let client = &connection.client;
    client.batch_execute(&session.settings()).await?;
    let there = "SELECT to_regclass('quorate') IS NULL AND NOT pg_is_in_recovery()";
    let missing: bool = client.query_one_scalar(there, &[]).await?;
    if missing {
        // Two that make it at once collide in the catalogue.
        let made = client.batch_execute(TABLE).await;
        match made.as_ref().err().and_then(Error::code) {
            Some(&(SqlState::UNIQUE_VIOLATION | SqlState::DUPLICATE_TABLE)) => {}
            _ => made?,
        }
    }
    Ok(())
}

/// A text that holds JSON, or else is a text.
fn shown(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::str(text))
}

fn text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

impl Client for PostgresClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let connected = timeout(self.timeout, self.connection(at)).await;
        let ended = match connected {
            // The node may have taken the connection, but no statement was sent.
            Err(_) => Err(Ended::refused("unreachable")),
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(connection)) => {
                // An operation earlier may have been left before its warning.
                locked(&connection.warned).take();
                let committing = AtomicBool::new(false);
                let done = self.carry_out(&connection, invocation, &committing);
                let done = timeout(self.timeout, done).await;
                done.unwrap_or_else(|_| {
                    Err(Ended::lost("timeout", committing.load(Ordering::SeqCst)))
                })
            }
        };
        match ended {
            Ok(value) => Completion::new(Outcome::Ok, value),
            Err(ended) => {
                if !ended.usable {
                    let place = (at.thread, at.address.to_owned());
                    locked(&self.connections).remove(&place);
                }
                Completion {
                    error: Some(ended.code.into()),
                    ..Completion::new(ended.outcome, invocation.value.clone())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_certainly_not_done_has_failed() {
        use Outcome::{Fail, Info};
        for (state, committing, outcome, usable) in [
            ("40001", true, Fail, true),
            ("40P01", true, Fail, true),
            ("25006", true, Fail, true),
            ("23505", true, Fail, true),
            ("42P01", true, Fail, false),
            ("40003", true, Info, false),
            ("08007", true, Info, false),
            ("57014", true, Info, false),
            ("57P01", true, Info, false),
            ("58030", true, Info, false),
            ("XX000", true, Info, false),
            // Nothing was committed yet.
            ("57014", false, Fail, true),
            ("XX000", false, Fail, true),
        ] {
            let ended = Ended::said(state, true, committing);
            assert_eq!((ended.outcome, ended.usable), (outcome, usable), "{state}");
        }
        // A session that ends says nothing of the commit, whatever it ends with.
        let fatal = Ended::said("25006", false, true);
        assert_eq!((fatal.outcome, fatal.usable), (Info, false));
        let fatal = Ended::said("57P01", false, false);
        assert_eq!((fatal.outcome, fatal.usable), (Fail, false));
        assert_eq!(Ended::lost("timeout", true).outcome, Info);
        assert_eq!(Ended::lost("timeout", false).outcome, Fail);
        assert_eq!(fatal.code, "admin-shutdown");
        assert_eq!(Ended::said("XX000", true, true).code, "sqlstate-XX000");
    }

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for value in [
            Value::Int(5),
            Value::str("no number"),
            [Value::Int(1), Value::Int(2)].into_iter().collect(),
        ] {
            assert_eq!(shown(&text(&value)), value);
        }
    }
}
