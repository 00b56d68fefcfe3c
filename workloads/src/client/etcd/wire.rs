//! Requests of etcd's JSON gateway and their answers. Keys and values are written in Base64, numbers of
//! 64 bits as texts, and what is zero is left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use checkers::{Outcome, Value};
use serde_json::{Value as Json, json};

use super::Ended;
use crate::client::http::failure;

/// Errors of etcd after which nothing was done: those of requests that it does not even propose, and
/// those that it gives when it applies one that cannot be.
pub(super) const REFUSALS: [&str; 14] = [
    "etcdserver: key is not provided",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
    "etcdserver: no leader",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: requested lease not found",
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: user name is empty",
];

/// What a key holds, and since which revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub value: Value,
    /// 0 of a key that is not there.
    pub revision: i64,
}

/// A question for one key.
pub(super) struct Range<'a> {
    pub key: &'a str,
    pub serializable: bool,
}

impl Range<'_> {
    pub fn body(&self) -> Json {
        json!({"key": encoded(self.key), "serializable": self.serializable})
    }

    pub fn request(&self) -> Json {
        json!({"request_range": self.body()})
    }
}

pub(super) fn put_body(key: &str, value: &str, lease: Option<&str>) -> Json {
    let mut body = json!({"key": encoded(key), "value": encoded(value)});
    if let Some(lease) = lease {
        body["lease"] = lease.into();
    }
    body
}

pub(super) fn put(key: &str, value: &str, lease: Option<&str>) -> Json {
    json!({"request_put": put_body(key, value, lease)})
}

pub(super) fn delete(key: &str) -> Json {
    json!({"request_delete_range": {"key": encoded(key)}})
}

/// Compares: nobody has written the key since.
pub(super) fn unchanged(key: &str, seen: &Stored) -> Json {
    json!({
        "key": encoded(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": seen.revision.to_string(),
    })
}

/// Compares: the key holds this value.
pub(super) fn equal(key: &str, value: &Value) -> Json {
    if value.is_nil() {
        return unchanged(key, &Stored::default());
    }
    json!({
        "key": encoded(key),
        "target": "VALUE",
        "result": "EQUAL",
        "value": encoded(&to_text(value)),
    })
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// Whether the comparisons of a transaction held; `None` if that is not said.
pub(super) fn succeeded(answer: &Json) -> Option<bool> {
    // Without a header it is no answer of etcd.
    answer.get("header")?;
    match answer.get("succeeded") {
        None => Some(false),
        Some(said) => said.as_bool(),
    }
}

/// The revision of the store that an answer is of.
pub(super) fn revision(answer: &Json) -> Option<i64> {
    number(answer.get("header")?.get("revision")?)
}

fn number(json: &Json) -> Option<i64> {
    match json {
        Json::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

/// What each range of a transaction shows.
pub(super) fn ranges(answer: &Json, count: usize) -> Option<Vec<Stored>> {
    // Comparisons there are none, so they hold.
    if !succeeded(answer)? {
        return None;
    }
    let responses = answer.get("responses")?.as_array()?;
    if responses.len() != count {
        return None;
    }
    let ranges = responses.iter().map(|response| {
        let range = response.get("response_range")?;
        held(range)
    });
    ranges.collect()
}

/// What an answer to a range shows.
pub(super) fn stored(answer: &Json) -> Option<Stored> {
    answer.get("header")?;
    held(answer)
}

fn held(range: &Json) -> Option<Stored> {
    let Some(kvs) = range.get("kvs") else {
        return Some(Stored::default());
    };
    let Some(kv) = kvs.as_array()?.first() else {
        return Some(Stored::default());
    };
    let value = match kv.get("value") {
        None => String::new(),
        Some(text) => String::from_utf8(STANDARD.decode(text.as_str()?).ok()?).ok()?,
    };
    Some(Stored {
        value: read_text(&value),
        revision: number(kv.get("mod_revision")?)?,
    })
}

/// A value as it is stored.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// A text that holds JSON, or else is a text.
pub(super) fn read_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::str(text))
}

/// One request, with the token of a login if there is one, and its answer.
pub(super) async fn ask(
    http: &reqwest::Client,
    address: &str,
    token: Option<&str>,
    path: &str,
    body: &Json,
) -> Result<Json, Ended> {
    let url = format!("{}/v3/{path}", address.trim_end_matches('/'));
    let mut request = http
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let broken = |error: reqwest::Error| {
        let (outcome, code) = failure(&error);
        Ended {
            outcome,
            code: code.to_owned(),
        }
    };
    let response = request.send().await.map_err(broken)?;
    let status = response.status();
    let body = response.bytes().await.map_err(broken)?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|_| Ended::info("bad-response"));
    }
    Err(refused(status.as_u16(), &body))
}

/// What an answer other than 200 says.
fn refused(status: u16, body: &[u8]) -> Ended {
    let said: Option<Json> = serde_json::from_slice(body).ok();
    let message = said.as_ref().and_then(|said| {
        let message = said.get("message").or_else(|| said.get("error"))?;
        message.as_str()
    });
    let Some(message) = message else {
        return Ended::info(&format!("http-{status}"));
    };
    let outcome = if REFUSALS.contains(&message) {
        Outcome::Fail
    } else {
        Outcome::Info
    };
    let code = message.trim_start_matches("etcdserver: ");
    let code: String = code
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Ended { outcome, code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_is_certain_not_to_have_been_done() {
        let said = |message: &str| {
            let body = json!({"error": message, "code": 14, "message": message});
            refused(503, body.to_string().as_bytes())
        };
        let refused = said("etcdserver: too many requests");
        assert_eq!(refused, Ended::fail("too-many-requests"));
        for unknown in [
            // When the quota is first exceeded, the put that exceeds it is applied all the same.
            "etcdserver: mvcc: database space exceeded",
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "raft proposal dropped",
            "context deadline exceeded",
        ] {
            assert_eq!(said(unknown).outcome, Outcome::Info, "{unknown}");
        }
        assert_eq!(super::refused(502, b"<html>"), Ended::info("http-502"));
    }

    #[test]
    fn answers_show_what_keys_hold() {
        let answer = json!({
            "header": {"revision": "9"},
            "succeeded": true,
            "responses": [
                {"response_range": {"kvs": [
                    {"key": "YQ==", "mod_revision": "7", "value": STANDARD.encode("[1,2]")}
                ], "count": "1"}},
                {"response_range": {"header": {"revision": "9"}}},
            ],
        });
        let shown = ranges(&answer, 2).unwrap();
        assert_eq!(shown[0].revision, 7);
        assert_eq!(shown[0].value, [1, 2].into_iter().map(Value::Int).collect());
        assert_eq!(shown[1], Stored::default());
        assert_eq!(ranges(&answer, 3), None);
        assert_eq!(revision(&answer), Some(9));
        assert_eq!(succeeded(&json!({"header": {}})), Some(false));
        assert_eq!(succeeded(&json!({})), None);
    }
}
