//! Values, answers and errors as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::core::{Answer, Datum, Function, NodeId, Refusal, Reply, Scalar};

/// A scalar as clients write it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JsonScalar(pub Scalar);

impl<'de> Deserialize<'de> for JsonScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = JsonScalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 64 bits, a string or null")
            }

            fn visit_unit<E>(self) -> Result<JsonScalar, E> {
                Ok(JsonScalar(Scalar::Nil))
            }

            fn visit_i64<E>(self, n: i64) -> Result<JsonScalar, E> {
                Ok(JsonScalar(Scalar::Int(n)))
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<JsonScalar, E> {
                let number = i64::try_from(n);
                let beyond = |_| E::invalid_value(de::Unexpected::Unsigned(n), &self);
                number.map(|n| JsonScalar(Scalar::Int(n))).map_err(beyond)
            }

            fn visit_str<E>(self, text: &str) -> Result<JsonScalar, E> {
                Ok(JsonScalar(Scalar::Text(text.into())))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// Body of a write, an append, an add or a remove.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueBody {
    pub value: JsonScalar,
}

/// Body of a compare-and-set. Both fields must be there; either may be `null`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CasBody {
    pub old: JsonScalar,
    pub new: JsonScalar,
}

/// Body of an increment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IncrementBody {
    pub value: i64,
}

/// Body of an insert into a text. `after` may be `null`: the beginning.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InsertBody {
    pub after: JsonScalar,
    pub value: JsonScalar,
}

/// Body of a put into a map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutBody {
    pub field: JsonScalar,
    pub value: JsonScalar,
}

/// Body of a generate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionBody {
    pub function: Function,
}

fn scalar(value: &Scalar) -> Value {
    match value {
        Scalar::Nil => Value::Null,
        Scalar::Int(n) => (*n).into(),
        Scalar::Text(text) => Value::String(text.to_string()),
    }
}

fn datum(datum: &Datum) -> Value {
    match datum {
        Datum::Register(value) => scalar(value),
        Datum::List(items) => items.iter().map(scalar).collect(),
        Datum::Set(items) => items.iter().map(scalar).collect(),
        Datum::Counter(sum) => (*sum).into(),
        // Fields are not all text: pairs.
        Datum::Map(map) => map
            .iter()
            .map(|(f, v)| json!([scalar(f), scalar(v)]))
            .collect(),
        Datum::Siblings(values) => values.iter().map(scalar).collect(),
    }
}

/// An error before a replica was asked: nothing was done.
pub(super) fn refuse(node: NodeId, status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({
        "error": code,
        "message": message,
        "outcome": "fail",
        "node": format!("n{}", node.0),
    });
    respond(status, &body)
}

/// An error after a replica was asked that did not answer.
pub(super) fn unanswered(node: NodeId, message: &str) -> Response {
    let body = json!({
        "error": "indeterminate",
        "message": message,
        "outcome": "info",
        "node": format!("n{}", node.0),
    });
    respond(StatusCode::GATEWAY_TIMEOUT, &body)
}

/// The stable code of a reply: `ok` or that of the error.
pub(super) fn code(reply: &Reply) -> &'static str {
    match &reply.result {
        Ok(_) => "ok",
        Err(Refusal::NotLeader { .. }) => "not-leader",
        Err(Refusal::CasMismatch { .. }) => "cas-mismatch",
        Err(Refusal::WrongKind(_)) => "wrong-kind",
        Err(Refusal::Unsupported(_)) => "unsupported",
        Err(Refusal::Unavailable(_)) => "unavailable",
        Err(Refusal::Indeterminate(_)) => "indeterminate",
    }
}

/// A replica's reply. The node is the one that answers, which behind a gateway is not the one asked.
pub(super) fn answer(reply: &Reply) -> Response {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("node", format!("n{}", reply.node.0).into());
    put("role", reply.role.name().into());
    put("epoch", reply.epoch.into());
    put("position", reply.position.index.into());
    if let Some(session) = &reply.session {
        put("session", session.to_string().into());
    }
    if let Some(context) = &reply.context {
        put("context", context.to_string().into());
    }
    let status = match &reply.result {
        Ok(Answer::Done) => StatusCode::OK,
        Ok(Answer::Value(value)) => {
            put("value", value.as_ref().map_or(Value::Null, datum));
            StatusCode::OK
        }
        Ok(Answer::All(all)) => {
            let entries: BTreeMap<&Arc<str>, Value> =
                all.iter().map(|(key, value)| (key, datum(value))).collect();
            put("entries", json!(entries));
            StatusCode::OK
        }
        Ok(Answer::Generated(value)) => {
            put("value", scalar(value));
            StatusCode::OK
        }
        Ok(Answer::Digest(digest)) => {
            // As text: not every reader of JSON keeps 64 bits.
            put("digest", format!("{:016x}", digest.digest).into());
            put("scope", digest.scope.to_string().into());
            if let Some(why) = &digest.stopped {
                put("stopped", why.to_string().into());
            }
            StatusCode::OK
        }
        Err(refusal) => {
            let certain = !matches!(refusal, Refusal::Indeterminate(_));
            put("error", code(reply).into());
            put("message", refusal.to_string().into());
            put("outcome", if certain { "fail" } else { "info" }.into());
            match refusal {
                Refusal::NotLeader { leader } => {
                    if let Some(leader) = leader {
                        put("leader", format!("n{}", leader.0).into());
                    }
                    StatusCode::MISDIRECTED_REQUEST
                }
                Refusal::CasMismatch { actual } => {
                    put("actual", scalar(actual));
                    StatusCode::CONFLICT
                }
                Refusal::WrongKind(_) => StatusCode::CONFLICT,
                Refusal::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
                Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Indeterminate(_) => StatusCode::GATEWAY_TIMEOUT,
            }
        }
    };
    respond(status, &body)
}

/// Any body as JSON.
pub(super) fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
