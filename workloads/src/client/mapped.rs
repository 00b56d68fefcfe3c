//! The client of any HTTP API, described in YAML.
//!
//! ```yaml
//! read:  {request: "GET /kv/{key}", value: {at: /value}, absent: [404]}
//! write: {request: "PUT /kv/{key}", body: '{"value": {value}}'}
//! cas:   {request: "POST /kv/{key}/cas", body: '{"from": {old}, "to": {new}}', fail: [409]}
//! ```
//!
//! **Placeholders** are `{key}`, `{value}`, and of a compare-and-set `{old}` and `{new}`. In a path
//! they stand for the text, with everything but letters and digits encoded; in a body for JSON.
//! `{key:text}` is the bare text, `{key:base64}` that in Base64, `{key:json}` JSON.
//!
//! # Which outcome
//! | what happened | outcome |
//! | --- | --- |
//! | a status of `ok` (200, 201 and 204 if none is named), and `succeeded`, if named, is `true` | ok |
//! | the same, but `succeeded` is not `true` | fail, `not-succeeded` |
//! | the same of a read, but its value is not where it should be | info, `bad-response` |
//! | a status of `absent` | ok, and the value is `null` |
//! | a status of `fail` | fail, `http-409`, … |
//! | any other status | info, `http-500`, … |
//! | no connection came about | fail, `connection-refused`, `unreachable` |
//! | anything else: time ran out, the connection was lost | info |
//!
//! Only what the author of the description calls `fail` counts as not done: a store that answers 400
//! or 404 to a write may well have done it.

mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use checkers::{F, Outcome, Value};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use self::template::{Form, Template};
use super::http::{HttpClientError, broken, plain, unanswered};
use super::{At, Client};
use crate::operation::{Completion, Invocation};

/// What a store's HTTP API is asked for each operation, by the operation's name.
pub type Api = BTreeMap<String, Exchange>;

/// One request, and what its answers mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Method and path, e.g. `PUT /kv/{key}`.
    pub request: String,
    /// What is sent; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Headers to be sent; with a body, `content-type: application/json` unless it is among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Where a read finds the value; the whole body if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Found>,
    /// Statuses that say that it was done; 200, 201 and 204 if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ok: Vec<u16>,
    /// Statuses that say that the key holds nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<u16>,
    /// Statuses that say that nothing was done, for certain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail: Vec<u16>,
    /// Where the body says `true` if it was done, for stores that answer 200 either way: a JSON
    /// pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<String>,
}

/// Where a value is in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// A JSON pointer (RFC 6901), e.g. `/kvs/0/value`; the whole body if empty.
    #[serde(default)]
    pub at: String,
    /// How it is written there.
    #[serde(default)]
    pub r#as: Written,
    /// That there is nothing in that place means that the key holds nothing.
    #[serde(default)]
    pub optional: bool,
}

/// How a value is written in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Written {
    /// As JSON.
    #[default]
    Json,
    /// As a text that holds JSON: `"5"` is the number 5.
    Text,
    /// As such a text, in Base64.
    Base64,
}

/// A description that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The operation is none.
    #[error(
        "there is no operation {0}; there are read, write, cas, append, add, increment, remove"
    )]
    Unknown(String),
    /// Of one operation.
    #[error("{operation}: {why}")]
    Exchange {
        /// Which.
        operation: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The HTTP library cannot be set up.
    #[error(transparent)]
    Client(#[from] HttpClientError),
}

/// Speaks to a store by a description of its API.
#[derive(Clone, Debug)]
pub struct MappedClient {
    inner: reqwest::Client,
    api: BTreeMap<F, Prepared>,
}

#[derive(Clone, Debug)]
struct Prepared {
    method: Method,
    path: Template,
    body: Option<Template>,
    exchange: Exchange,
}

impl MappedClient {
    /// By this description, with this time for an operation.
    ///
    /// # Errors
    /// If the description names an operation, a method or a placeholder that there is not.
    pub fn new(api: &Api, timeout: Duration) -> Result<Self, MappingError> {
        let mut prepared = BTreeMap::new();
        for (name, exchange) in api {
            let f = match F::from_name(name) {
                F::Other(_) => return Err(MappingError::Unknown(name.clone())),
                f => f,
            };
            let done = prepare(&f, exchange).map_err(|why| MappingError::Exchange {
                operation: name.clone(),
                why,
            })?;
            prepared.insert(f, done);
        }
        Ok(Self {
            inner: plain(timeout)?,
            api: prepared,
        })
    }

    /// The operations that are described.
    pub fn operations(&self) -> impl Iterator<Item = &F> {
        self.api.keys()
    }
}

fn prepare(f: &F, exchange: &Exchange) -> Result<Prepared, String> {
    let (method, path) = exchange
        .request
        .split_once(' ')
        .ok_or("request must be a method and a path, e.g. `GET /kv/{key}`")?;
    let known = ["GET", "PUT", "POST", "PATCH", "DELETE"];
    if !known.contains(&method) {
        return Err(format!(
            "{method} is no method; it is one of {}",
            known.join(", ")
        ));
    }
    if !path.starts_with('/') {
        return Err(format!("the path {path} must begin with /"));
    }
    let names: &[&str] = match f {
        F::Cas => &["key", "old", "new"],
        F::Read | F::Inspect => &["key"],
        _ => &["key", "value"],
    };
    let path = Template::parse(path, Form::Encoded, names)?;
    let body = exchange.body.as_deref();
    let body = body.map(|body| Template::parse(body, Form::Json, names));
    if let Some(at) = exchange
        .succeeded
        .iter()
        .chain(exchange.value.as_ref().map(|v| &v.at))
        .find(|at| !at.is_empty() && !at.starts_with('/'))
    {
        return Err(format!("{at} is no JSON pointer: it must begin with /"));
    }
    Ok(Prepared {
        method: Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?,
        path,
        body: body.transpose()?,
        exchange: exchange.clone(),
    })
}

/// What the placeholders stand for, or why the operation cannot be asked.
fn values(invocation: &Invocation) -> Result<Vec<(&'static str, &Value)>, &'static str> {
    let mut values = Vec::new();
    values.extend(invocation.key.as_ref().map(|key| ("key", key)));
    match (&invocation.f, invocation.value.items()) {
        (F::Cas, Some([old, new])) => values.extend([("old", old), ("new", new)]),
        (F::Cas, _) => return Err("bad-argument"),
        _ => values.push(("value", &invocation.value)),
    }
    Ok(values)
}

impl Prepared {
    /// The completion that an answer stands for.
    fn answered(&self, invocation: &Invocation, status: u16, body: &[u8]) -> Completion {
        let Exchange {
            ok, absent, fail, ..
        } = &self.exchange;
        let unanswered = |outcome, code: &str| unanswered(invocation, outcome, code);
        if absent.contains(&status) {
            return Completion::new(Outcome::Ok, Value::Nil);
        }
        if fail.contains(&status) {
            return unanswered(Outcome::Fail, &format!("http-{status}"));
        }
        let usual = ok.is_empty() && [200, 201, 204].contains(&status);
        if !usual && !ok.contains(&status) {
            return unanswered(Outcome::Info, &format!("http-{status}"));
        }
        if let Some(at) = &self.exchange.succeeded {
            let body: Option<Json> = serde_json::from_slice(body).ok();
            // A store may leave out what is false.
            match body.as_ref().map(|body| body.pointer(at)) {
                Some(Some(Json::Bool(true))) => {}
                Some(Some(Json::Bool(false)) | None) => {
                    return unanswered(Outcome::Fail, "not-succeeded");
                }
                _ => return unanswered(Outcome::Info, "bad-response"),
            }
        }
        if !matches!(invocation.f, F::Read | F::Inspect | F::Generate) {
            return Completion::new(Outcome::Ok, invocation.value.clone());
        }
        let found = self.exchange.value.clone().unwrap_or_default();
        match value(&found, body) {
            Some(value) => Completion::new(Outcome::Ok, value),
            None => unanswered(Outcome::Info, "bad-response"),
        }
    }
}

/// What a body shows.
fn value(found: &Found, body: &[u8]) -> Option<Value> {
    if found.at.is_empty() && found.r#as == Written::Text {
        return Some(read_text(std::str::from_utf8(body).ok()?));
    }
    let body: Json = serde_json::from_slice(body).ok()?;
    let Some(here) = body.pointer(&found.at) else {
        return found.optional.then_some(Value::Nil);
    };
    match (found.r#as, here) {
        (Written::Json, here) => Value::deserialize(here).ok(),
        (_, Json::Null) => Some(Value::Nil),
        (Written::Text, Json::String(text)) => Some(read_text(text)),
        (Written::Base64, Json::String(text)) => {
            let bytes = STANDARD.decode(text).ok()?;
            Some(read_text(std::str::from_utf8(&bytes).ok()?))
        }
        _ => None,
    }
}

/// A text that holds JSON, or else is a text.
fn read_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::str(text))
}

impl Client for MappedClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let fail = |code| unanswered(invocation, Outcome::Fail, code);
        let Some(prepared) = self.api.get(&invocation.f) else {
            return fail("unknown-function");
        };
        let filled = values(invocation).and_then(|values| {
            let path = prepared.path.fill(&values)?;
            let body = prepared.body.as_ref().map(|body| body.fill(&values));
            Ok((path, body.transpose()?))
        });
        let (path, body) = match filled {
            Ok(filled) => filled,
            Err(code) => return fail(code),
        };
        let url = format!("{}{path}", at.address.trim_end_matches('/'));
        let mut request = self.inner.request(prepared.method.clone(), url);
        let headers = &prepared.exchange.headers;
        let mut typed = false;
        for (name, value) in headers {
            typed |= name.eq_ignore_ascii_case("content-type");
            request = request.header(name, value);
        }
        if let Some(body) = body {
            if !typed {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return broken(invocation, &error),
        };
        let status = response.status().as_u16();
        match response.bytes().await {
            Ok(body) => prepared.answered(invocation, status, &body),
            Err(error) => broken(invocation, &error),
        }
    }
}
