//! The client of the DynamoDB API: AWS's, or whoever's speaks the same.
//!
//! | operation | request | |
//! | --- | --- | --- |
//! | read | `GetItem`, consistent or not | |
//! | write | `PutItem` | |
//! | cas | `PutItem` on the condition that the old value is there | `fail` if it is not |
//! | append, add, increment | `UpdateItem` with `list_append`, `ADD` | |
//! | txn of reads alone | `TransactGetItems` | |
//! | txn of writes alone | `TransactWriteItems` | |
//! | transfer | `TransactWriteItems` of two updates, one on the condition that it does not overdraw | `fail` if it would |
//! | read without key | `TransactGetItems` of all accounts | |
//!
//! One transaction of the API does not both read and write, nor touch a key twice: others are
//! refused before anything is sent.
//!
//! An account that is not there has its first balance.
//!
//! An item is a key, `k`, and what it holds, `v`, in the API's own types. Nothing is retried.
//!
//! Errors that the API documents as a refusal ([`REFUSED`]) are `fail`, as is a connection that was
//! refused; an answer with 5xx, a timeout and everything else is `info`.

mod value;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client as Api;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, Get, KeySchemaElement, KeyType, Put,
    ScalarAttributeType, TableStatus, TransactGetItem, TransactWriteItem, Update,
};
use aws_smithy_http_client::{Builder, tls};
use checkers::{F, Outcome, Value};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use self::value::{from_value, to_value};
use super::{At, Client};
use crate::operation::{Completion, Invocation};
use crate::transaction::{self, BALANCE, Transfer};

/// The attribute that an item is found by.
const KEY: &str = "k";
/// The attribute of what it holds.
const HELD: &str = "v";
/// Pause between two looks at whether a table is there.
const LOOK: Duration = Duration::from_millis(100);

/// What the API answers with instead of carrying out a request
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>).
pub const REFUSED: [&str; 20] = [
    "AccessDeniedException",
    "ConditionalCheckFailedException",
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "ItemCollectionSizeLimitExceededException",
    "LimitExceededException",
    "MissingAuthenticationTokenException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "SerializationException",
    "SignatureDoesNotMatch",
    "ThrottlingException",
    "TransactionCanceledException",
    "TransactionConflictException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
];

/// Who asks, by AWS's signatures.
#[derive(Clone)]
pub struct Keys {
    /// The access key.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Of temporary keys: the session's token.
    pub token: Option<String>,
}

/// How the API is used.
#[derive(Clone)]
pub struct Settings {
    /// The time for an operation.
    pub timeout: Duration,
    /// Reads ask for consistency.
    pub consistent: bool,
    /// The table; its partition key is the text `k`, and it has no sort key.
    pub table: String,
    /// The table is made if it is not there.
    pub create: bool,
    /// The region that requests are signed for.
    pub region: String,
    /// Over TLS.
    pub tls: bool,
    /// Who asks.
    pub keys: Keys,
}

/// Speaks the DynamoDB API.
pub struct DynamoDbClient {
    settings: Settings,
    http: SharedHttpClient,
    endpoints: Mutex<BTreeMap<String, Arc<Endpoint>>>,
}

/// An endpoint, and whether its table is known to be there.
struct Endpoint {
    api: Api,
    table: OnceCell<()>,
}

impl std::fmt::Debug for DynamoDbClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoDbClient")
            .field("table", &self.settings.table)
            .field("consistent", &self.settings.consistent)
            .finish_non_exhaustive()
    }
}

/// How an operation ended that did not end well.
type Ended = (Outcome, String);

fn refused(code: &str) -> Ended {
    (Outcome::Fail, code.to_owned())
}

impl DynamoDbClient {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        Self {
            settings,
            http: Builder::new().tls_provider(provider).build_https(),
            endpoints: Mutex::default(),
        }
    }

    fn endpoint(&self, address: &str) -> Arc<Endpoint> {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = endpoints
            .entry(address.to_owned())
            .or_insert_with(|| Arc::new(self.made(address)));
        known.clone()
    }

    fn made(&self, address: &str) -> Endpoint {
        let settings = &self.settings;
        let scheme = if settings.tls { "https" } else { "http" };
        let keys = settings.keys.clone();
        let keys = Credentials::new(keys.id, keys.secret, keys.token, None, "quorate");
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .endpoint_url(format!("{scheme}://{address}"))
            .credentials_provider(keys)
            .http_client(self.http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(settings.timeout)
                    .operation_timeout(settings.timeout)
                    .build(),
            )
            .build();
        Endpoint {
            api: Api::from_conf(config),
            table: OnceCell::new(),
        }
    }

    /// Makes the table if it is to be made, and waits for it.
    async fn prepare(&self, endpoint: &Endpoint) -> Result<(), Ended> {
        if !self.settings.create {
            return Ok(());
        }
        let ready = endpoint
            .table
            .get_or_try_init(|| create(&endpoint.api, &self.settings.table));
        ready.await.copied()
    }

    async fn carry_out(&self, api: &Api, invocation: &Invocation) -> Result<Value, Ended> {
        let value = &invocation.value;
        match invocation.f.name() {
            "txn" => return self.transact(api, value).await,
            "transfer" => return self.transfer(api, value).await,
            "read" if invocation.key.is_none() => return self.balances(api, value).await,
            _ => {}
        }
        let key = invocation.key.as_ref().ok_or_else(|| refused("no-key"))?;
        let key = name(key);
        let table = &self.settings.table;
        match &invocation.f {
            F::Read => {
                let got = api
                    .get_item()
                    .table_name(table)
                    .key(KEY, key)
                    .consistent_read(self.settings.consistent)
                    .send()
                    .await
                    .map_err(|error| ended(&error))?;
                return shown(got.item.and_then(|mut item| item.remove(HELD)));
            }
            F::Write => {
                let put = api.put_item().table_name(table).item(KEY, key);
                let put = put.item(HELD, held(value)?).send().await;
                put.map_err(|error| ended(&error))?;
            }
            F::Cas => {
                let Some([old, new]) = value.items() else {
                    return Err(refused("bad-argument"));
                };
                let put = api.put_item().table_name(table).item(KEY, key);
                let put = put
                    .item(HELD, held(new)?)
                    .expression_attribute_names("#v", HELD);
                let put = if old.is_nil() {
                    put.condition_expression("attribute_not_exists(#v)")
                } else {
                    put.condition_expression("#v = :old")
                        .expression_attribute_values(":old", held(old)?)
                };
                put.send().await.map_err(|error| ended(&error))?;
            }
            F::Append | F::Add | F::Increment => {
                let change = Change::of(&invocation.f, value)?;
                let update = api.update_item().table_name(table).key(KEY, key);
                let update = update
                    .update_expression(change.expression)
                    .expression_attribute_names("#v", HELD);
                let values = change.values.into_iter();
                let update = values.fold(update, |update, (name, value)| {
                    update.expression_attribute_values(name, value)
                });
                update.send().await.map_err(|error| ended(&error))?;
            }
            _ => return Err(refused("unknown-function")),
        }
        Ok(value.clone())
    }

    /// A transaction of reads alone, or of writes alone.
    async fn transact(&self, api: &Api, value: &Value) -> Result<Value, Ended> {
        let steps = value.items().ok_or_else(|| refused("bad-argument"))?;
        let steps: Vec<_> = steps.iter().map(Step::of).collect::<Result<_, _>>()?;
        if !can_be_one(&steps) {
            return Err(refused("transaction-not-expressible"));
        }
        if steps.iter().all(|step| step.f == "r") {
            return self.read_all(api, &steps).await;
        }
        let items = steps.iter().map(|step| self.written(step));
        let written = api
            .transact_write_items()
            .set_transact_items(Some(items.collect::<Result<_, Ended>>()?))
            .send();
        written.await.map_err(|error| ended(&error))?;
        Ok(value.clone())
    }

    async fn read_all(&self, api: &Api, steps: &[Step<'_>]) -> Result<Value, Ended> {
        let found = self.found(api, steps.iter().map(|step| step.key)).await?;
        let told = |(step, found): (&Step<'_>, Value)| -> Value {
            [Value::str(step.f), step.key.clone(), found]
                .into_iter()
                .collect()
        };
        Ok(steps.iter().zip(found).map(told).collect())
    }

    /// What all of these keys hold at one time, in the same order.
    async fn found(
        &self,
        api: &Api,
        keys: impl ExactSizeIterator<Item = &Value>,
    ) -> Result<Vec<Value>, Ended> {
        let invalid = |_| refused("bad-argument");
        let asked = keys.len();
        let items = keys.map(|key| -> Result<_, Ended> {
            let get = Get::builder().table_name(&self.settings.table);
            let get = get.key(KEY, name(key)).build().map_err(invalid)?;
            Ok(TransactGetItem::builder().get(get).build())
        });
        let read = api
            .transact_get_items()
            .set_transact_items(Some(items.collect::<Result<_, Ended>>()?))
            .send();
        let read = read.await.map_err(|error| ended(&error))?;
        let found = read.responses.unwrap_or_default();
        if found.len() != asked {
            return Err((Outcome::Info, "bad-response".to_owned()));
        }
        let held = found
            .into_iter()
            .map(|found| shown(found.item.and_then(|mut item| item.remove(HELD))));
        held.collect()
    }

    /// What all accounts hold at one time.
    async fn balances(&self, api: &Api, asked: &Value) -> Result<Value, Ended> {
        let accounts = transaction::accounts(asked);
        let found = self.found(api, accounts.iter()).await?;
        let balance = |held: Value| match held {
            Value::Nil => Value::Int(BALANCE),
            held => held,
        };
        let balances = found.into_iter().map(balance);
        Ok(Value::Map(accounts.into_iter().zip(balances).collect()))
    }

    async fn transfer(&self, api: &Api, value: &Value) -> Result<Value, Ended> {
        let Transfer { from, to, amount } =
            Transfer::of(value).ok_or_else(|| refused("bad-argument"))?;
        let number = |number: i64| AttributeValue::N(number.to_string());
        let update = |account: &Value, expression: &str| {
            Update::builder()
                .table_name(&self.settings.table)
                .key(KEY, name(account))
                .update_expression(expression)
                .expression_attribute_names("#v", HELD)
                .expression_attribute_values(":first", number(BALANCE))
                .expression_attribute_values(":amount", number(amount))
        };
        let give = update(&from, "SET #v = if_not_exists(#v, :first) - :amount");
        let give = give.condition_expression(if amount <= BALANCE {
            "attribute_not_exists(#v) OR #v >= :amount"
        } else {
            "#v >= :amount"
        });
        let take = update(&to, "SET #v = if_not_exists(#v, :first) + :amount");
        let mut both = Vec::new();
        for update in [give, take] {
            let update = update.build().map_err(|_| refused("bad-argument"))?;
            both.push(TransactWriteItem::builder().update(update).build());
        }
        let done = api.transact_write_items().set_transact_items(Some(both));
        done.send().await.map_err(|error| ended(&error))?;
        Ok(value.clone())
    }

    fn written(&self, step: &Step<'_>) -> Result<TransactWriteItem, Ended> {
        let invalid = |_| refused("bad-argument");
        let key = name(step.key);
        let table = &self.settings.table;
        let item = TransactWriteItem::builder();
        let item = if step.f == "w" {
            let put = Put::builder().table_name(table).item(KEY, key);
            item.put(put.item(HELD, held(step.value)?).build().map_err(invalid)?)
        } else {
            let change = Change::of(&F::Append, step.value)?;
            let update = Update::builder()
                .table_name(table)
                .key(KEY, key)
                .update_expression(change.expression)
                .expression_attribute_names("#v", HELD);
            let values = change.values.into_iter();
            let update = values.fold(update, |update, (name, value)| {
                update.expression_attribute_values(name, value)
            });
            item.update(update.build().map_err(invalid)?)
        };
        Ok(item.build())
    }
}

/// One operation of a transaction: `["r", k, nil]`, `["w", k, v]` or `["append", k, v]`.
struct Step<'a> {
    f: &'static str,
    key: &'a Value,
    value: &'a Value,
}

impl<'a> Step<'a> {
    fn of(step: &'a Value) -> Result<Self, Ended> {
        let Some([Value::Str(f), key, value]) = step.items() else {
            return Err(refused("bad-argument"));
        };
        let known = ["r", "w", "append"];
        let f = known.into_iter().find(|known| **known == **f);
        Ok(Self {
            f: f.ok_or_else(|| refused("bad-argument"))?,
            key,
            value,
        })
    }
}

/// Whether the API has a transaction of these.
fn can_be_one(steps: &[Step<'_>]) -> bool {
    let reads = steps.iter().filter(|step| step.f == "r").count();
    let mut keys: Vec<_> = steps.iter().map(|step| name(step.key)).collect();
    keys.sort_unstable_by(|a, b| a.as_s().ok().cmp(&b.as_s().ok()));
    keys.dedup();
    !steps.is_empty() && (reads == 0 || reads == steps.len()) && keys.len() == steps.len()
}

/// A change to what is there.
struct Change {
    expression: &'static str,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Change {
    fn of(f: &F, value: &Value) -> Result<Self, Ended> {
        let bad = || refused("bad-argument");
        let one = held(value)?;
        let (expression, values) = match (f, one) {
            (F::Append, one) => (
                "SET #v = list_append(if_not_exists(#v, :none), :one)",
                vec![
                    (":none", AttributeValue::L(Vec::new())),
                    (":one", AttributeValue::L(vec![one])),
                ],
            ),
            (F::Add, AttributeValue::N(n)) => {
                ("ADD #v :one", vec![(":one", AttributeValue::Ns(vec![n]))])
            }
            (F::Add, AttributeValue::S(s)) => {
                ("ADD #v :one", vec![(":one", AttributeValue::Ss(vec![s]))])
            }
            (F::Increment, by @ AttributeValue::N(_)) => ("ADD #v :one", vec![(":one", by)]),
            _ => return Err(bad()),
        };
        Ok(Self { expression, values })
    }
}

fn name(key: &Value) -> AttributeValue {
    AttributeValue::S(match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    })
}

fn held(value: &Value) -> Result<AttributeValue, Ended> {
    from_value(value).ok_or_else(|| refused("bad-argument"))
}

fn shown(held: Option<AttributeValue>) -> Result<Value, Ended> {
    let Some(held) = held else {
        return Ok(Value::Nil);
    };
    to_value(&held).ok_or_else(|| (Outcome::Info, "bad-response".to_owned()))
}

/// Makes a table and waits until it can be used. Whoever comes second waits, too.
async fn create(api: &Api, table: &str) -> Result<(), Ended> {
    let invalid = |_| refused("bad-argument");
    let attribute = AttributeDefinition::builder()
        .attribute_name(KEY)
        .attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder()
        .attribute_name(KEY)
        .key_type(KeyType::Hash);
    let made = api
        .create_table()
        .table_name(table)
        .attribute_definitions(attribute.build().map_err(invalid)?)
        .key_schema(schema.build().map_err(invalid)?)
        .billing_mode(BillingMode::PayPerRequest)
        .send();
    // Of the run, nothing is done yet.
    let not_yet = |(_, code)| (Outcome::Fail, code);
    match made.await {
        Ok(_) => {}
        Err(error) if error.code() == Some("ResourceInUseException") => {}
        Err(error) => return Err(not_yet(ended(&error))),
    }
    loop {
        let described = api.describe_table().table_name(table).send().await;
        let described = described.map_err(|error| not_yet(ended(&error)))?;
        let status = described.table.and_then(|table| table.table_status);
        if status == Some(TableStatus::Active) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// What an error means.
fn ended<E>(error: &SdkError<E, HttpResponse>) -> Ended
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let unknown = |code: &str| (Outcome::Info, code.to_owned());
    match error {
        SdkError::ConstructionFailure(_) => refused("bad-argument"),
        SdkError::TimeoutError(_) => unknown("timeout"),
        SdkError::DispatchFailure(failure) => {
            let cause = failure
                .as_connector_error()
                .map(|error| error as &(dyn Error + 'static));
            if cause.is_some_and(is_refusal) {
                refused("connection-refused")
            } else {
                unknown("connection-lost")
            }
        }
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            said(status, answer.err().code())
        }
        _ => unknown("bad-response"),
    }
}

/// What an answer with an error means.
fn said(status: u16, code: Option<&str>) -> Ended {
    match code {
        // By whatever name: the server does not know what it has done.
        _ if status >= 500 => (Outcome::Info, "server-error".to_owned()),
        Some("ConditionalCheckFailedException") => refused("not-equal"),
        Some(code) if REFUSED.contains(&code) => refused(code),
        Some(code) => (Outcome::Info, code.to_owned()),
        None => (Outcome::Info, "bad-response".to_owned()),
    }
}

/// Whether nobody listened.
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Client for DynamoDbClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let endpoint = self.endpoint(at.address);
        let prepared = timeout(self.settings.timeout, self.prepare(&endpoint)).await;
        let ended = match prepared {
            Err(_) => Err(refused("no-table-yet")),
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(())) => {
                let done = self.carry_out(&endpoint.api, invocation);
                let done = timeout(self.settings.timeout, done).await;
                done.unwrap_or_else(|_| Err((Outcome::Info, "timeout".to_owned())))
            }
        };
        match ended {
            Ok(value) => Completion::new(Outcome::Ok, value),
            Err((outcome, code)) => Completion {
                error: Some(code.into()),
                ..Completion::new(outcome, invocation.value.clone())
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_documented_refusal_has_failed() {
        for code in REFUSED {
            assert_eq!(said(400, Some(code)).0, Outcome::Fail, "{code}");
            // Of what it says while it fails itself, nothing is certain.
            assert_eq!(said(500, Some(code)).0, Outcome::Info, "{code}");
        }
        for (status, code) in [
            (500, Some("InternalServerError")),
            (503, Some("ServiceUnavailable")),
            (503, None),
            (400, None),
            // The same request is under way: it may yet be done.
            (400, Some("TransactionInProgressException")),
            (400, Some("SomethingNewException")),
        ] {
            assert_eq!(said(status, code).0, Outcome::Info, "{status} {code:?}");
        }
    }

    #[test]
    fn a_transaction_either_reads_or_writes_and_each_key_once() {
        let possible = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            let steps: Result<Vec<_>, _> = value.items().unwrap().iter().map(Step::of).collect();
            can_be_one(&steps.unwrap())
        };
        assert!(possible(r#"[["r", 1, null], ["r", "x2", null]]"#));
        assert!(possible(r#"[["append", 1, 7], ["w", 2, 8]]"#));
        assert!(!possible(r#"[["r", 1, null], ["append", 2, 7]]"#));
        assert!(!possible(r#"[["append", 1, 7], ["append", 1, 8]]"#));
        // Both are the same item.
        assert!(!possible(r#"[["r", 1, null], ["r", "1", null]]"#));
        assert!(!possible("[]"));
        let unknown: Value = serde_json::from_str(r#"["x", 1, 2]"#).unwrap();
        assert!(Step::of(&unknown).is_err());
    }

    #[test]
    fn a_change_is_written_in_the_types_of_the_api() {
        let one = |f: F, value: Value| {
            let change = Change::of(&f, &value).ok()?;
            let mut values = change.values.into_iter();
            Some(values.find(|(name, _)| *name == ":one")?.1)
        };
        let seven = AttributeValue::N("7".to_owned());
        let list = AttributeValue::L(vec![seven.clone()]);
        assert_eq!(one(F::Append, 7.into()), Some(list));
        assert_eq!(one(F::Increment, 7.into()), Some(seven));
        let set = AttributeValue::Ns(vec!["7".to_owned()]);
        assert_eq!(one(F::Add, 7.into()), Some(set));
        assert_eq!(one(F::Increment, Value::str("7")), None);
        assert_eq!(one(F::Add, Value::Nil), None);
    }

    #[test]
    fn nobody_listening_is_told_from_a_connection_that_broke() {
        let wrapped = |kind| io::Error::other(io::Error::from(kind));
        assert!(is_refusal(&io::Error::from(
            io::ErrorKind::ConnectionRefused
        )));
        assert!(!is_refusal(&io::Error::from(
            io::ErrorKind::ConnectionReset
        )));
        assert!(!is_refusal(&wrapped(io::ErrorKind::BrokenPipe)));
    }
}
