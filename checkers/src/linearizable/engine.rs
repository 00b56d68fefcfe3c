//! What decides whether the operations on one key are linearizable.
//!
//! Linearizability (Herlihy and Wing, 1990): every operation takes effect at one instant between
//! its invocation and its completion; one that never completed takes effect at any instant after
//! its invocation, or never.

use std::sync::Arc;
use std::time::Duration;

pub mod brute_force;
pub mod porcupine;
pub mod witness;

/// A value of a key, numbered; [`NIL`] is the value of a register that was never written.
pub type Id = u32;

/// The initial value of a register.
pub const NIL: Id = 0;

/// A sequential specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Read, write, compare-and-set; initially [`NIL`].
    Register,
    /// Append; reads return all elements in order; initially empty.
    List,
    /// Add; reads return all elements; initially empty.
    Set,
    /// Put, append to the text, get; initially `""` (Porcupine's KV).
    Text,
}

/// What an operation did and, if it was to return something, what it returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A register was read and held this.
    Read(Id),
    /// A register was overwritten.
    Write(Id),
    /// A register held the first and was set to the second. (Of a pending one: if it did.)
    Cas(Id, Id),
    /// A register did not hold this.
    CasRefused(Id),
    /// An element was appended.
    Append(Id),
    /// An element was added.
    Add(Id),
    /// A list held these, in this order.
    ReadList(Arc<[Id]>),
    /// A set held these: ascending, each once.
    ReadSet(Arc<[Id]>),
    /// A text was replaced.
    Put(Arc<str>),
    /// A text was appended to.
    AppendText(Arc<str>),
    /// A text was read.
    Get(Arc<str>),
}

/// One operation on the key. Instants are positions in the history: no two are equal.
#[derive(Clone, Debug)]
pub struct Op {
    /// When it was invoked.
    pub call: u64,
    /// When it completed; `None` if never: it may have taken effect or not.
    pub completion: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// How much a decision may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time for one key; `None` is unlimited.
    pub per_key: Option<Duration>,
    /// Memory for the states that the search remembers of one key, in bytes; `None` is unlimited.
    pub per_key_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_key: Some(Duration::from_secs(30)),
            per_key_bytes: Some(1 << 30),
        }
    }
}

/// What an engine found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is an order that explains every result.
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// Neither could be shown; why.
    Unknown(String),
}

/// Decides linearizability of the operations on one key.
pub trait Engine: Send + Sync {
    /// Decides; operations may come in any order. An operation that does not belong to the model
    /// makes the decision unknown.
    fn decide(&self, model: Model, ops: &[Op], limits: &Limits) -> Decision;
}

/// Whether an action belongs to a model.
pub(crate) fn belongs(model: Model, action: &Action) -> bool {
    use Action::{
        Add, Append, AppendText, Cas, CasRefused, Get, Put, Read, ReadList, ReadSet, Write,
    };
    match model {
        Model::Register => matches!(action, Read(_) | Write(_) | Cas(..) | CasRefused(_)),
        Model::List => matches!(action, Append(_) | ReadList(_)),
        Model::Set => matches!(action, Add(_) | ReadSet(_)),
        Model::Text => matches!(action, Put(_) | AppendText(_) | Get(_)),
    }
}

#[cfg(test)]
mod tests;
