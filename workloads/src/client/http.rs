//! The client of the reference store's HTTP API.
//!
//! | operation | request | answer |
//! | --- | --- | --- |
//! | read | `GET /v1/kv/{key}` | `{"value": …}` |
//! | read all | `GET /v1/kv` | `{"entries": {…}}` |
//! | write | `PUT /v1/kv/{key}` `{"value": v}` | |
//! | cas, acquire, release | `POST /v1/kv/{key}/cas` `{"old": a, "new": b}` | |
//! | append, add, increment, remove | `POST /v1/kv/{key}/append`, … `{"value": v}` | |
//! | remove the key | `DELETE /v1/kv/{key}` | |
//! | insert | `POST /v1/kv/{key}/insert` `{"after": a, "value": v}` | |
//! | put | `POST /v1/kv/{key}/put` `{"field": f, "value": v}` | |
//! | generate | `POST /v1/kv/{key}/generate` `{"function": f}` | `{"value": …}` |
//! | inspect | `GET /v1/digest` | `{"digest": hex, "scope": prefix[, "stopped": why]}` |
//! | inspect a key | `GET /v1/kv/{key}?read=local` | `{"value": …}` |
//!
//! The query carries what else the operation asks for: `read=local`, `session=…`, `context=…`, `n=`,
//! `r=`, `w=`. An answer may bring a `session` and a `context` to be handed back.
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

mod answer;
mod request;

use std::error::Error;
use std::io;
use std::time::Duration;

use checkers::Outcome;
use percent_encoding::utf8_percent_encode;
use reqwest::RequestBuilder;

use super::{At, Client};
use crate::operation::{Completion, Invocation};
use answer::answered;
use request::{Asked, IN_QUERY, asked, parameters};

/// Speaks to the reference store. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
}

/// A client that could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up an HTTP client")]
pub struct HttpClientError(#[from] reqwest::Error);

/// A client that does what it is told and nothing else.
pub(super) fn plain(timeout: Duration) -> Result<reqwest::Client, HttpClientError> {
    let builder = reqwest::Client::builder()
        .timeout(timeout)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .http1_only();
    Ok(builder.build()?)
}

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
        Ok(Self {
            inner: plain(timeout)?,
        })
    }

    /// The request, or why the operation is none of this store.
    fn request(
        &self,
        base_url: &str,
        invocation: &Invocation,
    ) -> Result<RequestBuilder, &'static str> {
        let Asked { method, path, body } = asked(invocation)?;
        let base = base_url.trim_end_matches('/');
        let mut url = format!("{base}{path}");
        let mut separator = '?';
        for (name, value) in parameters(invocation) {
            let value = utf8_percent_encode(&value, IN_QUERY);
            url.push(separator);
            url.push_str(name);
            url.push('=');
            url.extend(value);
            separator = '&';
        }
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
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let request = match self.request(at.address, invocation) {
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

/// The completion that a broken exchange stands for.
pub(super) fn broken(invocation: &Invocation, error: &reqwest::Error) -> Completion {
    let (outcome, code) = failure(error);
    unanswered(invocation, outcome, code)
}

/// How a request ended that got no answer.
pub(super) fn failure(error: &reqwest::Error) -> (Outcome, &'static str) {
    if error.is_builder() {
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
    }
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

pub(super) fn unanswered(invocation: &Invocation, outcome: Outcome, code: &str) -> Completion {
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
