//! What a generator asks for and what a client answers.

use std::sync::Arc;

use checkers::{F, Value};

use crate::transaction;

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
    /// For writes that replace what a read showed: the context that the read gave, and the values
    /// that it showed, which the history records as `seen`.
    pub replaces: Option<Replaced>,
    /// What the client's own operations have shown it so far; set by whoever issues the operation.
    pub session: Option<Arc<str>>,
    /// How many replicas are to take part (leaderless); what is absent is as configured.
    pub quorum: Quorum,
    /// The node to ask, whatever the policy of the clients is.
    pub node: Option<u16>,
}

impl Invocation {
    /// An operation with nothing else asked for.
    pub fn new(f: F, key: Option<Value>, value: Value) -> Self {
        Self {
            f,
            key,
            value,
            local: false,
            replaces: None,
            session: None,
            quorum: Quorum::default(),
            node: None,
        }
    }
}

impl Invocation {
    /// Whether it reads, and changes nothing: a transaction does if all of it does.
    pub fn only_reads(&self) -> bool {
        match &self.f {
            F::Read | F::Inspect => true,
            F::Other(name) if &**name == "txn" => transaction::only_reads(&self.value),
            _ => false,
        }
    }
}

/// What a write replaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Replaced {
    /// Of the store: opaque.
    pub context: Arc<str>,
    /// The values that the client saw.
    pub seen: Value,
}

/// N, R and W of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// How many replicas hold the key.
    pub n: Option<u16>,
    /// How many of them must answer a read.
    pub r: Option<u16>,
    /// How many of them must hold a write.
    pub w: Option<u16>,
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
    /// The session that it leaves: opaque.
    pub session: Option<Arc<str>>,
    /// For a write that is to replace what this read showed: opaque.
    pub context: Option<Arc<str>>,
}

impl Completion {
    /// An outcome with nothing else known.
    pub fn new(outcome: checkers::Outcome, value: Value) -> Self {
        Self {
            outcome,
            value,
            witness: None,
            error: None,
            leader_hint: None,
            session: None,
            context: None,
        }
    }
}
