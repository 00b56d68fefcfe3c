//! What the store is asked for an operation.

use checkers::F;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::operation::{Invocation, Quorum};

/// What may stand in a query as it is: sessions and contexts stay readable.
pub(super) const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b',');

/// What is to be asked.
pub(super) struct Asked {
    pub method: Method,
    pub path: String,
    pub body: Option<Json>,
}

/// Method, path and body of an operation, or why it is none of this store.
pub(super) fn asked(invocation: &Invocation) -> Result<Asked, &'static str> {
    let value = &invocation.value;
    let pair = || match value.items() {
        Some([first, second]) => Ok((first, second)),
        _ => Err("bad-argument"),
    };
    let (method, action, body) = match &invocation.f {
        F::Read => (Method::GET, "", None),
        F::Inspect if invocation.key.is_none() => {
            return Ok(Asked {
                method: Method::GET,
                path: "/v1/digest".to_owned(),
                body: None,
            });
        }
        F::Inspect => (Method::GET, "", None),
        F::Write => (Method::PUT, "", Some(json!({ "value": value }))),
        F::Append => (Method::POST, "/append", Some(json!({ "value": value }))),
        F::Add => (Method::POST, "/add", Some(json!({ "value": value }))),
        F::Remove if value.is_nil() => (Method::DELETE, "", None),
        F::Remove => (Method::POST, "/remove", Some(json!({ "value": value }))),
        F::Increment => {
            let amount = value.as_int().ok_or("bad-argument")?;
            (Method::POST, "/increment", Some(json!({ "value": amount })))
        }
        F::Cas => {
            let (old, new) = pair()?;
            let body = json!({ "old": old, "new": new });
            (Method::POST, "/cas", Some(body))
        }
        // A lock is a register that holds its owner.
        F::Acquire => {
            let body = json!({ "old": null, "new": value });
            (Method::POST, "/cas", Some(body))
        }
        F::Release => {
            let body = json!({ "old": value, "new": null });
            (Method::POST, "/cas", Some(body))
        }
        F::Insert => {
            let (after, value) = pair()?;
            let body = json!({ "after": after, "value": value });
            (Method::POST, "/insert", Some(body))
        }
        F::Put => {
            let (field, value) = pair()?;
            let body = json!({ "field": field, "value": value });
            (Method::POST, "/put", Some(body))
        }
        F::Generate => {
            let body = json!({ "function": value });
            (Method::POST, "/generate", Some(body))
        }
        F::Other(_) => return Err("unknown-function"),
    };
    let mut path = "/v1/kv".to_owned();
    match &invocation.key {
        Some(key) => {
            path.push('/');
            path.extend(utf8_percent_encode(&key.to_string(), NON_ALPHANUMERIC));
        }
        None if invocation.f.is_write() => return Err("no-key"),
        None => {}
    }
    path.push_str(action);
    Ok(Asked { method, path, body })
}

/// What the operation asks for beside itself.
pub(super) fn parameters(invocation: &Invocation) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    let inspects_key = invocation.f == F::Inspect && invocation.key.is_some();
    if inspects_key || (invocation.local && !invocation.f.is_write()) {
        parameters.push(("read", "local".to_owned()));
    }
    if let Some(session) = &invocation.session {
        parameters.push(("session", session.to_string()));
    }
    if let Some(replaced) = &invocation.replaces {
        parameters.push(("context", replaced.context.to_string()));
    }
    let Quorum { n, r, w } = invocation.quorum;
    for (name, count) in [("n", n), ("r", r), ("w", w)] {
        parameters.extend(count.map(|count| (name, count.to_string())));
    }
    parameters
}
