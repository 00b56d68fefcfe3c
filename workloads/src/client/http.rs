//! The client of the reference store's HTTP API.
//!
//! | operation | request | answer |
//! | --- | --- | --- |
//! | read | `GET /v1/kv/{key}[?read=local]` | `{"value": …}` |
//! | read all | `GET /v1/kv[?read=local]` | `{"entries": {…}}` |
//! | write | `PUT /v1/kv/{key}` `{"value": v}` | |
//! | cas | `POST /v1/kv/{key}/cas` `{"old": a, "new": b}` | |
//! | append, add | `POST /v1/kv/{key}/append`, `…/add` `{"value": v}` | |
//!
//! Every answer names its witness: `{"node": "n1", "role": "leader", "epoch": 3}`. An error is
//! `{"error": code, "message": …, "outcome": "fail" | "info", "leader": "n3"}` and the witness.
//!
//! # Which outcome
//! | what happened | outcome | code |
//! | --- | --- | --- |
//! | the store's own word, 2xx | ok | |
//! | the store's own word, an error | as it says | as it says |
//! | no connection came about, so that no byte was sent | fail | `connection-refused`, `unreachable` |
//! | time ran out, while connecting or later | info | `timeout` |
//! | the connection ended before the answer did | info | `connection-lost` |
//! | 4xx without the store's word (408 excepted) | fail | `http-404`, … |
//! | any other status without the store's word | info | `http-500`, … |
//! | 2xx with a body that is not the store's | info | `bad-response` |

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use checkers::{F, Outcome, Value};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::Client;
use crate::operation::{Completion, Invocation, Witness};
use crate::route::parse_node;

/// Speaks to the reference store. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
}

/// A client that could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up an HTTP client")]
pub struct HttpClientError(#[from] reqwest::Error);

impl HttpClient {
    /// With this time for one operation from connecting to the last byte of the answer.
    ///
    /// Connections are kept alive. Retries, redirects and proxies are off. One thing below stays:
    /// a request whose reused connection turns out closed before a first byte of it was written is
    /// sent on a new one, which no store can tell from a request sent once.
    ///
    /// # Errors
    /// If the HTTP library cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, HttpClientError> {
        let builder = reqwest::Client::builder()
            .timeout(timeout)
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .tcp_nodelay(true)
            .http1_only();
        Ok(Self {
            inner: builder.build()?,
        })
    }

    /// The request, or why the operation is none of this store.
    fn request(
        &self,
        base_url: &str,
        invocation: &Invocation,
    ) -> Result<RequestBuilder, &'static str> {
        let base = base_url.trim_end_matches('/');
        let mut url = format!("{base}/v1/kv");
        if let Some(key) = &invocation.key {
            url.push('/');
            url.extend(utf8_percent_encode(&key.to_string(), NON_ALPHANUMERIC));
        }
        let value = || json!({ "value": invocation.value });
        let (method, suffix, body) = match &invocation.f {
            F::Read => {
                let suffix = if invocation.local { "?read=local" } else { "" };
                (Method::GET, suffix, None)
            }
            F::Write => (Method::PUT, "", Some(value())),
            F::Append => (Method::POST, "/append", Some(value())),
            F::Add => (Method::POST, "/add", Some(value())),
            F::Cas => {
                let Some([old, new]) = invocation.value.items() else {
                    return Err("bad-argument");
                };
                (
                    Method::POST,
                    "/cas",
                    Some(json!({ "old": old, "new": new })),
                )
            }
            _ => return Err("unknown-function"),
        };
        if invocation.key.is_none() && body.is_some() {
            return Err("no-key");
        }
        url.push_str(suffix);
        let mut request = self.inner.request(method, url);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        Ok(request)
    }
}

impl Client for HttpClient {
    async fn invoke(&self, base_url: &str, invocation: &Invocation) -> Completion {
        let request = match self.request(base_url, invocation) {
            Ok(request) => request,
            Err(code) => return unanswered(invocation, Outcome::Fail, code),
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return broken(invocation, &error),
        };
        let status = response.status();
        match response.bytes().await {
            Ok(body) => answered(invocation, status, &body),
            Err(error) => broken(invocation, &error),
        }
    }
}

/// Any answer of the store.
#[derive(Deserialize)]
struct Answer {
    /// `null` is a value: that of a key never written.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    #[serde(default)]
    entries: Option<Value>,
    #[serde(default)]
    error: Option<Arc<str>>,
    #[serde(default)]
    outcome: Option<String>,
    #[serde(default)]
    leader: Option<String>,
    #[serde(default)]
    node: Option<Arc<str>>,
    #[serde(default)]
    role: Option<Arc<str>>,
    #[serde(default)]
    epoch: Option<u64>,
}

/// A field that is there, whatever it holds; an `Option` alone would read `null` as absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The completion that an answer stands for.
fn answered(invocation: &Invocation, status: StatusCode, body: &[u8]) -> Completion {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    if status.is_success() {
        let Some(answer) = answer else {
            return unanswered(invocation, Outcome::Info, "bad-response");
        };
        let value = match (&invocation.f, &invocation.key) {
            (F::Read, Some(_)) => answer.value.clone(),
            (F::Read, None) => answer.entries.clone(),
            _ => Some(invocation.value.clone()),
        };
        let witness = answer.witness();
        // Without a witness it is not an answer of the store.
        let (Some(value), Some(witness)) = (value, witness) else {
            return unanswered(invocation, Outcome::Info, "bad-response");
        };
        return Completion {
            outcome: Outcome::Ok,
            value,
            witness: Some(witness),
            error: None,
            leader_hint: None,
            session: None,
            context: None,
        };
    }
    let said = answer.as_ref().and_then(|answer| {
        let outcome = match answer.outcome.as_deref()? {
            "fail" => Outcome::Fail,
            "info" => Outcome::Info,
            _ => return None,
        };
        Some((outcome, answer.error.clone()?))
    });
    let (outcome, code) = said.unwrap_or_else(|| {
        let refused = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
        let outcome = if refused {
            Outcome::Fail
        } else {
            Outcome::Info
        };
        (outcome, format!("http-{}", status.as_u16()).into())
    });
    Completion {
        outcome,
        value: invocation.value.clone(),
        witness: answer.as_ref().and_then(Answer::witness),
        error: Some(code),
        leader_hint: answer.and_then(|answer| parse_node(&answer.leader?)),
        session: None,
        context: None,
    }
}

impl Answer {
    fn witness(&self) -> Option<Witness> {
        Some(Witness {
            node: self.node.clone()?,
            role: self.role.clone()?,
            epoch: self.epoch?,
        })
    }
}

/// The completion that a broken exchange stands for.
fn broken(invocation: &Invocation, error: &reqwest::Error) -> Completion {
    let (outcome, code) = if error.is_builder() {
        (Outcome::Fail, "bad-url")
    } else if error.is_timeout() {
        (Outcome::Info, "timeout")
    } else if error.is_connect() {
        // Plain TCP: a request is written only once the connection stands.
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => (Outcome::Fail, "connection-refused"),
            Some(io::ErrorKind::TimedOut) => (Outcome::Info, "timeout"),
            _ => (Outcome::Fail, "unreachable"),
        }
    } else {
        (Outcome::Info, "connection-lost")
    };
    unanswered(invocation, outcome, code)
}

/// The kind of the I/O error that an error was caused by.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

fn unanswered(invocation: &Invocation, outcome: Outcome, code: &str) -> Completion {
    Completion {
        outcome,
        value: invocation.value.clone(),
        witness: None,
        error: Some(code.into()),
        leader_hint: None,
        session: None,
        context: None,
    }
}
