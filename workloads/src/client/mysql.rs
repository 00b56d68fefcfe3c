//! The client of MariaDB and MySQL, for ordinary operations, transactions and a bank.
//!
//! | operation | statements | |
//! | --- | --- | --- |
//! | read | `SELECT` | lists are kept without their brackets |
//! | write | `INSERT … ON DUPLICATE KEY UPDATE` | |
//! | cas | `UPDATE … WHERE v = old`; `INSERT` where nothing is to be there | `fail` if it differs |
//! | append, add | the same that concatenates | |
//! | increment | the same that adds | |
//! | txn | `START TRANSACTION`, a statement for each micro-operation, `COMMIT` | |
//! | transfer | a transaction that reads both balances and writes what they are to be | `fail` if it would overdraw |
//! | read of a bank | one `SELECT` of all accounts | |
//!
//! Everything outside a transaction is a single statement, committed by itself. Tables that are
//! missing are made for the next operation; the one that missed them fails. Accounts are made, once
//! and with what they begin with, before they are first named.
//!
//! | error | after a change | after `COMMIT` | why |
//! | --- | --- | --- | --- |
//! | 1213 deadlock, also Galera's failed certification | fail | fail | rolled back |
//! | 1020 record changed (`innodb_snapshot_isolation`) | fail | fail | rolled back |
//! | 1290, 1792, 1836 read only | fail | fail | refused, a transaction is rolled back |
//! | 1047 the node is no part of the cluster | fail | fail | refused before it is looked at |
//! | 1205 lock wait timeout | fail | info | the statement is rolled back; the client rolls back the rest |
//! | 1062 duplicate key | fail | info | of `cas` |
//! | 1146 no such table, 1142, 1044 no right, 1064 syntax | fail | info | refused |
//! | 1180 error during commit, 1053 shutdown, 1317 interrupted, 1927 killed, any other | info | info | |
//! | connection lost | info | info | |
//! | timeout | info | info | |
//!
//! Of what cannot have changed anything (reads, transactions whose `COMMIT` was not sent) every error
//! and a lost connection are `fail`: nothing commits by itself there. A timeout is `info` even then. A
//! connection that did not come about is `fail`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checkers::{F, Outcome, Value};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Params};
use tokio::time::timeout;

use super::{At, Client};
use crate::operation::{Completion, Invocation};
use crate::transaction::{self, BALANCE, Micro, Transfer};

/// What makes the tables, where they are missing.
pub const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS quorate_items (k VARBINARY(255) PRIMARY KEY, list BOOLEAN NOT NULL, \
     v LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS quorate_accounts (id VARBINARY(255) PRIMARY KEY, \
     balance BIGINT NOT NULL) ENGINE=InnoDB",
];
/// Of a row that is not there, the first column is.
const READ: &str = "SELECT @@global.read_only, list, v FROM (SELECT 1) AS one \
     LEFT JOIN quorate_items ON k = ?";
const WRITE: &str = "INSERT INTO quorate_items (k, list, v) VALUES (?, FALSE, ?) \
     ON DUPLICATE KEY UPDATE list = FALSE, v = VALUES(v)";
const APPEND: &str = "INSERT INTO quorate_items (k, list, v) VALUES (?, TRUE, ?) \
     ON DUPLICATE KEY UPDATE v = CONCAT(v, ',', VALUES(v))";
const INCREMENT: &str = "INSERT INTO quorate_items (k, list, v) VALUES (?, FALSE, ?) \
     ON DUPLICATE KEY UPDATE v = CAST(v AS SIGNED) + CAST(VALUES(v) AS SIGNED)";
const CREATE: &str = "INSERT INTO quorate_items (k, list, v) VALUES (?, FALSE, ?)";
const SWAP: &str = "UPDATE quorate_items SET v = ? WHERE k = ? AND list = FALSE AND v = ?";
const BALANCE_OF: &str = "SELECT balance FROM quorate_accounts WHERE id = ?";
const SET_BALANCE: &str = "UPDATE quorate_accounts SET balance = ? WHERE id = ?";

/// Errors after which nothing was changed, of a statement and of `COMMIT` alike.
const UNDONE: [(u16, &str); 6] = [
    (1020, "record-changed"),
    (1047, "not-in-cluster"),
    (1213, "deadlock"),
    (1290, "read-only"),
    (1792, "read-only"),
    (1836, "read-only"),
];
/// Errors after which a statement has changed nothing.
const REFUSED: [(u16, &str); 10] = [
    (1044, "access-denied"),
    (1045, "access-denied"),
    (1046, "no-database"),
    (1049, "no-database"),
    (1062, "duplicate"),
    (1064, "syntax"),
    (1142, "access-denied"),
    (1146, NO_TABLE),
    (1205, "lock-wait-timeout"),
    (1406, "too-long"),
];
const NO_TABLE: &str = "no-such-table";

/// As whom, and how, the client speaks to its servers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The user.
    pub user: String,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The database that the tables are in, which exists.
    pub database: String,
    /// Statements that every connection begins with.
    pub session: Vec<String>,
    /// Nodes that are read only are not read from.
    pub primary_reads: bool,
}

impl fmt::Debug for Access {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("session", &self.session)
            .field("primary_reads", &self.primary_reads)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// How to connect to this address, `host:port`; `None` if it is none.
    pub fn options(&self, address: &str) -> Option<Opts> {
        let (host, port) = address.rsplit_once(':')?;
        let builder = OptsBuilder::default()
            .ip_or_hostname(host.trim_matches(['[', ']']))
            .tcp_port(port.parse().ok()?)
            .user(Some(self.user.clone()))
            .pass(self.password.clone())
            .db_name(Some(self.database.clone()))
            .init(self.session.clone())
            // An update that finds what it looks for counts, though it changes nothing.
            .client_found_rows(true)
            .prefer_socket(false)
            // What would be asked otherwise, on every connection.
            .max_allowed_packet(Some(16 * 1024 * 1024))
            .wait_timeout(Some(28_800));
        Some(builder.into())
    }
}

/// Speaks to MariaDB or MySQL, over a connection for each thread and node.
pub struct MysqlClient {
    timeout: Duration,
    access: Access,
    idle: Mutex<BTreeMap<(u32, String), Conn>>,
    /// The accounts that are known to have been made.
    made: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for MysqlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlClient")
            .field("timeout", &self.timeout)
            .field("user", &self.access.user)
            .finish_non_exhaustive()
    }
}

/// What was sent last that could have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing: reads, or parts of a transaction that has not been told to commit.
    Nothing,
    /// A statement that commits by itself.
    Change,
    /// `COMMIT`.
    Commit,
}

/// Why an operation did not succeed.
#[derive(Debug)]
enum Trouble {
    /// The server or the connection says so.
    Error(Error),
    /// The client knows by itself that nothing was done.
    Undone(&'static str),
    /// An answer that no statement of this client can have.
    Strange,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How an operation ended that did not end well, and whether its connection can still be used.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    outcome: Outcome,
    code: String,
    usable: bool,
}

/// What an error means.
fn judged(trouble: &Trouble, sent: Sent) -> Ended {
    let named = |table: &[(u16, &str)], code| {
        let found = table.iter().find(|(known, _)| *known == code);
        found.map(|(_, name)| (*name).to_owned())
    };
    match trouble {
        Trouble::Undone(code) => Ended {
            outcome: Outcome::Fail,
            code: (*code).to_owned(),
            usable: true,
        },
        Trouble::Strange => Ended {
            outcome: Outcome::Info,
            code: "bad-response".to_owned(),
            usable: false,
        },
        Trouble::Error(Error::Server(error)) => {
            let undone = named(&UNDONE, error.code);
            let refused = named(&REFUSED, error.code);
            let fails = match sent {
                Sent::Nothing => true,
                Sent::Change => undone.is_some() || refused.is_some(),
                Sent::Commit => undone.is_some(),
            };
            let known = undone.or(refused);
            let usable = fails && known.is_some();
            Ended {
                outcome: if fails { Outcome::Fail } else { Outcome::Info },
                code: known.unwrap_or_else(|| format!("error-{}", error.code)),
                usable,
            }
        }
        Trouble::Error(_) => Ended {
            outcome: match sent {
                Sent::Nothing => Outcome::Fail,
                Sent::Change | Sent::Commit => Outcome::Info,
            },
            code: "connection-lost".to_owned(),
            usable: false,
        },
    }
}

/// A connection, and what was sent over it in this operation.
struct Session<'a> {
    connection: &'a mut Conn,
    sent: &'a mut Sent,
}

impl Session<'_> {
    /// A statement that commits by itself; how many rows it found.
    async fn change(
        &mut self,
        statement: &str,
        with: impl Into<Params> + Send,
    ) -> Result<u64, Trouble> {
        *self.sent = Sent::Change;
        self.connection.exec_drop(statement, with).await?;
        Ok(self.connection.affected_rows())
    }

    /// A part of a transaction.
    async fn part(
        &mut self,
        statement: &str,
        with: impl Into<Params> + Send,
    ) -> Result<(), Trouble> {
        Ok(self.connection.exec_drop(statement, with).await?)
    }

    async fn begin(&mut self) -> Result<(), Trouble> {
        Ok(self.connection.query_drop("START TRANSACTION").await?)
    }

    async fn commit(&mut self) -> Result<(), Trouble> {
        *self.sent = Sent::Commit;
        Ok(self.connection.query_drop("COMMIT").await?)
    }

    /// What a key holds, and whether the node is read only.
    async fn held(&mut self, key: &Value) -> Result<(bool, Value), Trouble> {
        type Row = (bool, Option<bool>, Option<String>);
        let row = self.connection.exec_first(READ, (text(key),)).await?;
        let (read_only, list, held): Row = row.ok_or(Trouble::Strange)?;
        let value = match (list, held) {
            (Some(list), Some(held)) => shown(list, &held).ok_or(Trouble::Strange)?,
            _ => Value::Nil,
        };
        Ok((read_only, value))
    }

    async fn is_read_only(&mut self) -> Result<bool, Trouble> {
        let row = self.connection.query_first("SELECT @@global.read_only");
        row.await?.ok_or(Trouble::Strange)
    }
}

/// What a column shows.
fn shown(list: bool, held: &str) -> Option<Value> {
    if list {
        serde_json::from_str(&format!("[{held}]")).ok()
    } else {
        serde_json::from_str(held).ok()
    }
}

/// A key or an account as it is written.
fn text(key: &Value) -> String {
    match key {
        Value::Str(text) => text.to_string(),
        other => json(other),
    }
}

/// A value as it is kept.
fn json(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl MysqlClient {
    /// With this time for an operation.
    pub fn new(timeout: Duration, access: Access) -> Self {
        Self {
            timeout,
            access,
            idle: Mutex::default(),
            made: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<(u32, String), Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of a thread, taken from the idle ones or made.
    async fn connection(&self, at: At<'_>) -> Result<Conn, String> {
        let known = self.idle().remove(&(at.thread, at.address.to_owned()));
        if let Some(connection) = known {
            return Ok(connection);
        }
        let options = self.access.options(at.address).ok_or("bad-address")?;
        Conn::new(options).await.map_err(|error| match error {
            Error::Server(error) => {
                let mut known = UNDONE.iter().chain(&REFUSED);
                let name = known.find(|(code, _)| *code == error.code);
                name.map_or_else(
                    || format!("error-{}", error.code),
                    |(_, name)| (*name).to_owned(),
                )
            }
            error if is_refusal(&error) => "connection-refused".to_owned(),
            _ => "unreachable".to_owned(),
        })
    }

    async fn carry_out(
        &self,
        session: &mut Session<'_>,
        invocation: &Invocation,
    ) -> Result<Value, Trouble> {
        let value = &invocation.value;
        let primary_only = self.access.primary_reads && !invocation.local;
        match (&invocation.f, &invocation.key) {
            (F::Read, None) => self.bank(session, value, primary_only).await,
            (F::Read, Some(key)) => {
                let (read_only, held) = session.held(key).await?;
                if read_only && primary_only {
                    return Err(Trouble::Undone("read-only"));
                }
                Ok(held)
            }
            (F::Cas, Some(key)) => {
                let Some([old, new]) = value.items() else {
                    return Err(Trouble::Undone("bad-argument"));
                };
                let (key, new) = (text(key), json(new));
                let swapped = if old.is_nil() {
                    session.change(CREATE, (key, new)).await
                } else {
                    session.change(SWAP, (new, key, json(old))).await
                };
                match swapped {
                    Ok(1) => Ok(value.clone()),
                    Ok(0) => Err(Trouble::Undone("not-equal")),
                    Ok(_) => Err(Trouble::Strange),
                    Err(Trouble::Error(Error::Server(error))) if error.code == 1062 => {
                        Err(Trouble::Undone("not-equal"))
                    }
                    Err(trouble) => Err(trouble),
                }
            }
            (f, Some(key)) => {
                let statement = match f {
                    F::Write => WRITE,
                    F::Append | F::Add => APPEND,
                    F::Increment => INCREMENT,
                    _ => return Err(Trouble::Undone("unknown-function")),
                };
                session.change(statement, (text(key), json(value))).await?;
                Ok(value.clone())
            }
            (f, None) if *f == transaction::txn() => {
                let micro = Micro::all(value).ok_or(Trouble::Undone("bad-argument"))?;
                let reads = micro.iter().all(Micro::is_read);
                if reads && primary_only && session.is_read_only().await? {
                    return Err(Trouble::Undone("read-only"));
                }
                transact(session, &micro).await
            }
            (f, None) if *f == transaction::transfer() => {
                let transfer = Transfer::of(value).ok_or(Trouble::Undone("bad-argument"))?;
                let accounts = [transfer.from.clone(), transfer.to.clone()];
                self.make_accounts(session, &accounts).await?;
                hand_over(session, &transfer).await?;
                Ok(value.clone())
            }
            _ => Err(Trouble::Undone("unknown-function")),
        }
    }

    /// Makes the accounts that nobody has named before, with what they begin with.
    async fn make_accounts(
        &self,
        session: &mut Session<'_>,
        accounts: &[Value],
    ) -> Result<(), Trouble> {
        let names: Vec<_> = accounts.iter().map(text).collect();
        let missing: Vec<_> = {
            let made = self.made();
            names
                .into_iter()
                .filter(|name| !made.contains(name))
                .collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let rows = vec![format!("(?, {BALANCE})"); missing.len()].join(", ");
        let statement = format!("INSERT IGNORE INTO quorate_accounts VALUES {rows}");
        // Done twice it is done once, and no operation: what becomes of it changes no outcome.
        session
            .part(
                &statement,
                Params::Positional(missing.iter().map(Into::into).collect()),
            )
            .await?;
        self.made().extend(missing);
        Ok(())
    }

    /// All accounts of a bank.
    async fn bank(
        &self,
        session: &mut Session<'_>,
        asked: &Value,
        primary_only: bool,
    ) -> Result<Value, Trouble> {
        let accounts = transaction::accounts(asked);
        let read_only = session.is_read_only().await?;
        if read_only && primary_only {
            return Err(Trouble::Undone("read-only"));
        }
        if !read_only {
            self.make_accounts(session, &accounts).await?;
        }
        let marks = vec!["?"; accounts.len()].join(", ");
        let statement = format!("SELECT id, balance FROM quorate_accounts WHERE id IN ({marks})");
        let names = accounts
            .iter()
            .map(|account| text(account).into())
            .collect();
        let rows = session
            .connection
            .exec(statement, Params::Positional(names));
        let rows: Vec<(String, i64)> = rows.await?;
        if rows.is_empty() {
            // The node has not heard of it yet.
            return Err(Trouble::Undone("no-accounts"));
        }
        let balances: BTreeMap<_, _> = rows.into_iter().collect();
        let shown = accounts.iter().filter_map(|account| {
            let balance = balances.get(&text(account))?;
            Some((account.clone(), Value::Int(*balance)))
        });
        Ok(Value::Map(shown.collect()))
    }
}

/// Runs a transaction to its end.
async fn transact(session: &mut Session<'_>, micro: &[Micro]) -> Result<Value, Trouble> {
    session.begin().await?;
    let mut shown = Vec::new();
    for micro in micro {
        shown.push(match micro {
            Micro::Read(key) => micro.written(session.held(key).await?.1),
            Micro::Append(key, value) => {
                session.part(APPEND, (text(key), json(value))).await?;
                micro.written(Value::Nil)
            }
            Micro::Write(key, value) => {
                session.part(WRITE, (text(key), json(value))).await?;
                micro.written(Value::Nil)
            }
        });
    }
    session.commit().await?;
    Ok(shown.into_iter().collect())
}

/// Moves money, by what both accounts are read to hold.
async fn hand_over(session: &mut Session<'_>, transfer: &Transfer) -> Result<(), Trouble> {
    session.begin().await?;
    let mut balances = [0_i64; 2];
    let accounts = [text(&transfer.from), text(&transfer.to)];
    for (balance, account) in balances.iter_mut().zip(&accounts) {
        let found = session.connection.exec_first(BALANCE_OF, (account,));
        *balance = found.await?.ok_or(Trouble::Undone("no-account"))?;
    }
    let [from, to] = balances;
    if from < transfer.amount {
        return Err(Trouble::Undone("insufficient"));
    }
    for (balance, account) in [from - transfer.amount, to + transfer.amount]
        .iter()
        .zip(&accounts)
    {
        session.part(SET_BALANCE, (balance, account)).await?;
    }
    session.commit().await
}

fn is_refusal(error: &Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

/// Whether an operation runs in a transaction of several statements.
fn is_transaction(invocation: &Invocation) -> bool {
    [transaction::txn(), transaction::transfer()].contains(&invocation.f)
}

impl Client for MysqlClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let completion = |outcome, code: String| Completion {
            error: Some(code.into()),
            ..Completion::new(outcome, invocation.value.clone())
        };
        let mut connection = match timeout(self.timeout, self.connection(at)).await {
            Ok(Ok(connection)) => connection,
            // The node may have taken the connection, but nothing of the operation was sent.
            Ok(Err(code)) => return completion(Outcome::Fail, code),
            Err(_) => return completion(Outcome::Fail, "unreachable".to_owned()),
        };
        let mut sent = Sent::Nothing;
        let mut session = Session {
            connection: &mut connection,
            sent: &mut sent,
        };
        let done = timeout(self.timeout, self.carry_out(&mut session, invocation)).await;
        let (completion, mut usable) = match done {
            Ok(Ok(value)) => (Completion::new(Outcome::Ok, value), true),
            Ok(Err(trouble)) => {
                let ended = judged(&trouble, sent);
                (completion(ended.outcome, ended.code), ended.usable)
            }
            Err(_) => (completion(Outcome::Info, "timeout".to_owned()), false),
        };
        if usable && completion.outcome != Outcome::Ok && is_transaction(invocation) {
            let undone = timeout(self.timeout, connection.query_drop("ROLLBACK")).await;
            usable = matches!(undone, Ok(Ok(())));
        }
        if usable && completion.error.as_deref() == Some(NO_TABLE) {
            // For the next operation; this one has failed. Not before `ROLLBACK`: it would commit.
            for table in TABLES {
                let made = timeout(self.timeout, connection.query_drop(table)).await;
                usable &= made.is_ok();
            }
        }
        if usable {
            let place = (at.thread, at.address.to_owned());
            self.idle().insert(place, connection);
        }
        completion
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::{DriverError, ServerError};

    use super::*;

    fn server(code: u16) -> Trouble {
        Trouble::Error(Error::Server(ServerError {
            code,
            message: String::new(),
            state: String::new(),
        }))
    }

    fn lost() -> Trouble {
        Trouble::Error(Error::Driver(DriverError::ConnectionClosed))
    }

    #[test]
    fn an_error_is_a_failure_only_where_nothing_can_have_been_done() {
        use Outcome::{Fail, Info};
        // Outcomes when nothing, a change, and a commit was sent.
        for (trouble, outcomes, name) in [
            (server(1213), [Fail, Fail, Fail], "deadlock"),
            (server(1020), [Fail, Fail, Fail], "record-changed"),
            (server(1290), [Fail, Fail, Fail], "read-only"),
            (server(1047), [Fail, Fail, Fail], "not-in-cluster"),
            (server(1205), [Fail, Fail, Info], "lock-wait-timeout"),
            (server(1062), [Fail, Fail, Info], "duplicate"),
            (server(1146), [Fail, Fail, Info], "no-such-table"),
            (server(1180), [Fail, Info, Info], "error-1180"),
            (server(1053), [Fail, Info, Info], "error-1053"),
            (server(1317), [Fail, Info, Info], "error-1317"),
            (server(1927), [Fail, Info, Info], "error-1927"),
            (lost(), [Fail, Info, Info], "connection-lost"),
            (
                Trouble::Undone("not-equal"),
                [Fail, Fail, Fail],
                "not-equal",
            ),
            (Trouble::Strange, [Info, Info, Info], "bad-response"),
        ] {
            for (sent, outcome) in [Sent::Nothing, Sent::Change, Sent::Commit]
                .into_iter()
                .zip(outcomes)
            {
                let ended = judged(&trouble, sent);
                assert_eq!(
                    (ended.outcome, &*ended.code),
                    (outcome, name),
                    "{trouble:?} {sent:?}"
                );
                // What nobody knows the end of is not asked again.
                assert!(!(ended.usable && outcome == Info), "{trouble:?} {sent:?}");
            }
        }
        assert!(!judged(&lost(), Sent::Nothing).usable);
        assert!(judged(&server(1213), Sent::Commit).usable);
    }

    #[test]
    fn lists_and_values_are_read_as_they_were_written() {
        let list: Value = [Value::Int(1), Value::str("a,b")].into_iter().collect();
        let items = list.items().unwrap();
        let held = items.iter().map(json).collect::<Vec<_>>().join(",");
        assert_eq!(shown(true, &held), Some(list));
        for value in [Value::Int(-3), Value::str("x"), Value::Nil] {
            assert_eq!(shown(false, &json(&value)), Some(value));
        }
        assert_eq!(shown(true, "1,,2"), None);
        assert_eq!(
            (text(&Value::Int(7)), text(&Value::str("k7"))),
            ("7".to_owned(), "k7".to_owned())
        );
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure() {
        let client = MysqlClient::new(Duration::from_secs(5), Access::default());
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let write = Invocation::new(F::Write, Some(Value::str("k")), Value::Int(1));
        for (address, code) in [
            (&*address, "connection-refused"),
            ("nonsense", "bad-address"),
        ] {
            let at = At {
                thread: 0,
                node: 1,
                address,
            };
            let done = client.invoke(at, &write).await;
            assert_eq!(
                (done.outcome, done.error.as_deref()),
                (Outcome::Fail, Some(code))
            );
        }
    }
}
