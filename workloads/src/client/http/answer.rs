//! What an answer of the store says.

use std::sync::Arc;

use checkers::{F, Outcome, Value};
use reqwest::StatusCode;
use serde::{Deserialize, Deserializer};

use super::unanswered;
use crate::operation::{Completion, Invocation, Witness};
use crate::route::parse_node;

/// Any answer of the store.
#[derive(Deserialize)]
struct Answer {
    /// `null` is a value: that of a key never written.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    #[serde(default)]
    entries: Option<Value>,
    #[serde(default)]
    digest: Option<Arc<str>>,
    #[serde(default)]
    scope: Option<Arc<str>>,
    #[serde(default)]
    stopped: Option<Arc<str>>,
    #[serde(default)]
    session: Option<Arc<str>>,
    #[serde(default)]
    context: Option<Arc<str>>,
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
pub(super) fn answered(invocation: &Invocation, status: StatusCode, body: &[u8]) -> Completion {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    if status.is_success() {
        let Some(answer) = answer else {
            return unanswered(invocation, Outcome::Info, "bad-response");
        };
        let value = match (&invocation.f, &invocation.key) {
            (F::Read | F::Inspect, Some(_)) | (F::Generate, _) => answer.value.clone(),
            (F::Read, None) => answer.entries.clone(),
            (F::Inspect, None) => answer.state(),
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
            session: answer.session,
            context: answer.context,
            may_repeat: None,
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
        leader_hint: answer
            .as_ref()
            .and_then(|answer| parse_node(answer.leader.as_ref()?)),
        session: answer.as_ref().and_then(|answer| answer.session.clone()),
        context: answer.and_then(|answer| answer.context),
        may_repeat: None,
    }
}

impl Answer {
    /// What a replica says of its state as a whole.
    fn state(&self) -> Option<Value> {
        let text = |text: &Arc<str>| Value::str(text);
        let mut pairs = vec![
            (Value::str("digest"), text(self.digest.as_ref()?)),
            (Value::str("scope"), text(self.scope.as_ref()?)),
        ];
        pairs.extend(
            self.stopped
                .as_ref()
                .map(|why| (Value::str("stopped"), text(why))),
        );
        Some(Value::Map(pairs.into()))
    }

    fn witness(&self) -> Option<Witness> {
        Some(Witness {
            node: self.node.clone()?,
            role: self.role.clone()?,
            epoch: self.epoch?,
        })
    }
}
