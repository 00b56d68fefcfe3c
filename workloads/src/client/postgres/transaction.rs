//! Transactions and banks.
//!
//! A transfer reads both balances and writes what it has computed from them, as programs do that hold
//! rows in objects: at READ COMMITTED this loses updates.

use std::sync::atomic::{AtomicBool, Ordering};

use checkers::{F, Value};
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};

use super::{
    APPEND, Connection, Ended, PostgresClient, Reads, WRITE, bad_response, locked, parameters,
    shown, text, without_warning,
};
use crate::operation::Invocation;
use crate::transaction::{self, BALANCE, Micro, Transfer};

const GET: &str = "SELECT value FROM quorate WHERE key = $1";
const SET: &str = "UPDATE quorate SET value = $2 WHERE key = $1";
const ALL: &str = "SELECT pg_is_in_recovery(), key, value FROM quorate WHERE key = ANY($1)";
const OPEN: &str = "INSERT INTO quorate SELECT unnest($1::text[]), $2 ON CONFLICT DO NOTHING";

impl PostgresClient {
    /// An operation that names no key.
    pub(super) async fn transact(
        &self,
        connection: &Connection,
        invocation: &Invocation,
        committing: &AtomicBool,
    ) -> Result<Value, Ended> {
        match (&invocation.f, invocation.f.name()) {
            (F::Read, _) => {
                self.balances(connection, &transaction::accounts(&invocation.value))
                    .await
            }
            (_, "transfer") => {
                let transfer = Transfer::of(&invocation.value);
                let transfer = transfer.ok_or_else(|| Ended::refused("bad-argument"))?;
                let sides = [&transfer.from, &transfer.to].map(text);
                open(connection, &sides).await?;
                let [from, to] = sides;
                let done = transfer_between(connection, &from, &to, transfer.amount);
                self.within(connection, committing, done).await?;
                Ok(invocation.value.clone())
            }
            (_, "txn") => {
                let all = Micro::all(&invocation.value);
                let all = all.ok_or_else(|| Ended::refused("bad-argument"))?;
                let done = async {
                    let mut shown = Vec::new();
                    for micro in &all {
                        shown.push(carry_out(connection, micro).await?);
                    }
                    Ok(shown.into_iter().collect())
                };
                self.within(connection, committing, done).await
            }
            _ => Err(Ended::refused("no-key")),
        }
    }

    /// Does it in a transaction, which begins before it is first polled.
    async fn within<T>(
        &self,
        connection: &Connection,
        committing: &AtomicBool,
        body: impl Future<Output = Result<T, Ended>>,
    ) -> Result<T, Ended> {
        let client = &connection.client;
        let begun = client.batch_execute(&self.session.begin()).await;
        let done = match begun {
            Ok(()) => body.await,
            Err(error) => Err(before_commit(&error)),
        };
        match done {
            Ok(value) => {
                committing.store(true, Ordering::SeqCst);
                let committed = client.batch_execute("COMMIT").await;
                committed.map_err(|error| Ended::by(&error, true))?;
                without_warning(connection)?;
                Ok(value)
            }
            Err(ended) => Err(Ended {
                usable: ended.usable && client.batch_execute("ROLLBACK").await.is_ok(),
                ..ended
            }),
        }
    }

    /// What all these accounts hold, by one statement.
    async fn balances(&self, connection: &Connection, accounts: &[Value]) -> Result<Value, Ended> {
        let names: Vec<String> = accounts.iter().map(text).collect();
        match open(connection, &names).await {
            Err(ended) if ended.code == "read-only" && self.session.reads == Reads::Any => {}
            opened => opened?,
        }
        let rows = connection
            .client
            .query_typed(ALL, &[(&names, Type::TEXT_ARRAY)])
            .await;
        let rows = rows.map_err(|error| before_commit(&error))?;
        // A standby may not have been given them yet.
        let first = rows.first().ok_or_else(|| Ended::refused("no-accounts"))?;
        let standby: bool = first.try_get(0).map_err(|_| bad_response())?;
        if standby && self.session.reads == Reads::Primary {
            return Err(Ended::refused("standby"));
        }
        let mut balances = Vec::new();
        for row in &rows {
            let name: &str = row.try_get(1).map_err(|_| bad_response())?;
            let balance: &str = row.try_get(2).map_err(|_| bad_response())?;
            let account = names.iter().position(|known| known == name);
            let account = account.ok_or_else(bad_response)?;
            balances.push((accounts[account].clone(), shown(balance)));
        }
        Ok(Value::Map(balances.into()))
    }
}

fn before_commit(error: &Error) -> Ended {
    Ended::by(error, false)
}

/// Opens the accounts that are not there, each with what it holds at first.
async fn open(connection: &Connection, accounts: &[String]) -> Result<(), Ended> {
    let missing: Vec<String> = {
        let known = locked(&connection.accounts);
        let missing = accounts.iter().filter(|account| !known.contains(*account));
        missing.cloned().collect()
    };
    if missing.is_empty() {
        return Ok(());
    }
    let balance = BALANCE.to_string();
    let with: [(&(dyn ToSql + Sync), Type); 2] =
        [(&missing, Type::TEXT_ARRAY), (&balance, Type::TEXT)];
    let opened = connection.client.execute_typed(OPEN, &with).await;
    // Whether it was done or not: no money moved, and it is done again.
    opened.map_err(|error| before_commit(&error))?;
    locked(&connection.accounts).extend(missing);
    Ok(())
}

async fn transfer_between(
    connection: &Connection,
    from: &str,
    to: &str,
    amount: i64,
) -> Result<(), Ended> {
    let balance = async |account| {
        let found = get(connection, account).await?;
        found.as_int().ok_or_else(|| Ended::refused("no-account"))
    };
    let (gives, takes) = (balance(from).await?, balance(to).await?);
    if gives < amount {
        return Err(Ended::refused("overdrawn"));
    }
    for (account, balance) in [(from, gives - amount), (to, takes + amount)] {
        put(connection, SET, account, &balance.to_string()).await?;
    }
    Ok(())
}

/// A micro-operation, with what it showed.
async fn carry_out(connection: &Connection, micro: &Micro) -> Result<Value, Ended> {
    let key = text(micro.key());
    let shown = match micro {
        Micro::Read(_) => get(connection, &key).await?,
        Micro::Append(_, value) => {
            put(connection, APPEND, &key, &text(value)).await?;
            Value::Nil
        }
        Micro::Write(_, value) => {
            put(connection, WRITE, &key, &text(value)).await?;
            Value::Nil
        }
    };
    Ok(micro.written(shown))
}

async fn get(connection: &Connection, key: &str) -> Result<Value, Ended> {
    let rows = connection
        .client
        .query_typed(GET, &parameters(&[key]))
        .await;
    let rows = rows.map_err(|error| before_commit(&error))?;
    let Some(row) = rows.first() else {
        return Ok(Value::Nil);
    };
    let found: &str = row.try_get(0).map_err(|_| bad_response())?;
    Ok(shown(found))
}

async fn put(
    connection: &Connection,
    statement: &str,
    key: &str,
    value: &str,
) -> Result<(), Ended> {
    let done = connection
        .client
        .execute_typed(statement, &parameters(&[key, value]))
        .await;
    done.map(drop).map_err(|error| before_commit(&error))
}
