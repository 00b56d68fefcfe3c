//! A client without a store, to measure what the harness itself costs.

use checkers::Outcome;

use super::{At, Client};
use crate::operation::{Completion, Invocation};

/// Answers every operation at once with `ok` and its own argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullClient;

impl Client for NullClient {
    async fn invoke(&self, _at: At<'_>, invocation: &Invocation) -> Completion {
        Completion {
            outcome: Outcome::Ok,
            value: invocation.value.clone(),
            witness: None,
            error: None,
            leader_hint: None,
            session: None,
            context: None,
            may_repeat: None,
        }
    }
}
