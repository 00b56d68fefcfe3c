//! One line each way.

use std::sync::Arc;

use checkers::{F, Outcome, Value};
use serde::{Deserialize, Deserializer, Serialize};

use crate::client::At;
use crate::operation::{Completion, Invocation, Witness};
use crate::route::parse_node;
use crate::transaction;

#[derive(Serialize)]
struct Asked<'a> {
    id: u64,
    r#type: &'static str,
    node: String,
    address: &'a str,
    f: &'a str,
    key: Option<&'a Value>,
    value: &'a Value,
    /// Answer from the node's own state, stale or not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    local: bool,
}

/// The line that asks for an operation.
pub(super) fn asked(id: u64, at: At<'_>, invocation: &Invocation) -> String {
    let asked = Asked {
        id,
        r#type: "invoke",
        node: format!("n{}", at.node),
        address: at.address,
        f: invocation.f.name(),
        key: invocation.key.as_ref(),
        value: &invocation.value,
        local: invocation.local,
    };
    // Values are numbers, texts and collections of them, whose keys are texts.
    let mut line = serde_json::to_string(&asked).expect("a value can be written as JSON");
    line.push('\n');
    line
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<u64>,
    r#type: Kind,
    /// `null` is a value: that of a key never written.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    #[serde(default)]
    error: Option<Arc<str>>,
    #[serde(default)]
    leader: Option<String>,
    #[serde(default)]
    node: Option<Arc<str>>,
    #[serde(default)]
    role: Option<Arc<str>>,
    #[serde(default)]
    epoch: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Ok,
    Fail,
    Info,
}

/// A field that is there, whatever it holds; an `Option` alone would read `null` as absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The completion that a line stands for, if it is an answer to that invocation.
pub(super) fn answered(id: u64, invocation: &Invocation, line: &[u8]) -> Option<Completion> {
    let answer: Answer = serde_json::from_slice(line).ok()?;
    if answer.id.is_some_and(|other| other != id) {
        return None;
    }
    let outcome = match answer.r#type {
        Kind::Ok => Outcome::Ok,
        Kind::Fail => Outcome::Fail,
        Kind::Info => Outcome::Info,
    };
    let is_txn = invocation.f == transaction::txn();
    let shows = is_txn || matches!(invocation.f, F::Read | F::Inspect | F::Generate);
    let value = match answer.value {
        // What it did was something else.
        Some(value)
            if outcome == Outcome::Ok
                && is_txn
                && !transaction::answers(&invocation.value, &value) =>
        {
            return None;
        }
        Some(value) if outcome == Outcome::Ok => value,
        // A read that shows nothing has not been answered.
        None if outcome == Outcome::Ok && shows => return None,
        _ => invocation.value.clone(),
    };
    let unnamed = || (outcome != Outcome::Ok).then(|| "unnamed".into());
    let witness = answer.node.map(|node| Witness {
        node,
        role: answer.role.unwrap_or_else(|| "unknown".into()),
        epoch: answer.epoch.unwrap_or_default(),
    });
    Some(Completion {
        witness,
        error: answer.error.or_else(unnamed),
        leader_hint: answer.leader.as_deref().and_then(parse_node),
        ..Completion::new(outcome, value)
    })
}
