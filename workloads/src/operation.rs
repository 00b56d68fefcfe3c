//! What a generator asks for and what a client answers.

use std::sync::Arc;

use checkers::{F, Value};

/// An operation to be issued by one client thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// The function.
    pub f: F,
    /// The key; `None` reads everything.
    pub key: Option<Value>,
    /// The argument: `Nil` for reads, `[old new]` for compare-and-set.
    pub value: Value,
    /// Answer from the asked node's own state, stale or not (reads only).
    pub local: bool,
}

/// What the answering node said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The node, e.g. `n2`.
    pub node: Arc<str>,
    /// `leader`, `follower` or `candidate`.
    pub role: Arc<str>,
    /// Its epoch or term.
    pub epoch: u64,
}

/// How an operation ended.
///
/// The rule: `ok` only on the store's own word; `fail` only where the store said that nothing was
/// done, or where no byte of the request can have reached it (connection refused); everything
/// else, a timeout above all, is `info`.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// ok, fail or info.
    pub outcome: checkers::Outcome,
    /// The result (reads), or the argument again.
    pub value: Value,
    /// Who answered, if anybody did.
    pub witness: Option<Witness>,
    /// Why it failed or is unknown: a short stable code, e.g. `timeout`, `not-leader`.
    pub error: Option<Arc<str>>,
    /// Where the answering node says the leader is (node number).
    pub leader_hint: Option<u16>,
}
