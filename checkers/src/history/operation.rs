//! An operation: an invocation and what came of it.

use std::sync::Arc;

use super::{Event, F, Process};
use crate::Value;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Took effect.
    Ok,
    /// Certainly did not.
    Fail,
    /// Unknown, including: no completion was recorded.
    Info,
}

/// An invocation paired with its completion. Borrowed from the history.
///
/// Which of two operations was first is decided by their positions in the history, which is the
/// order recorded and has no ties; times are for figures.
#[derive(Clone, Debug)]
pub struct Operation<'a> {
    /// The invocation.
    pub invoke: &'a Event,
    /// The completion, if one was recorded (of any kind, `info` included).
    pub complete: Option<&'a Event>,
    /// How it ended.
    pub outcome: Outcome,
    /// Position of the invocation in the history's events.
    pub invoked_position: usize,
    /// Position of the completion; `None` if the operation is open for ever.
    pub completed_position: Option<usize>,
}

impl<'a> Operation<'a> {
    /// Who issued it.
    pub fn process(&self) -> &'a Process {
        &self.invoke.process
    }

    /// Its function.
    pub fn f(&self) -> &'a F {
        &self.invoke.f
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&'a Value> {
        let completed = self.complete.and_then(|e| e.key.as_ref());
        self.invoke.key.as_ref().or(completed)
    }

    /// The argument it was invoked with.
    pub fn argument(&self) -> &'a Value {
        &self.invoke.value
    }

    /// The result, if it is known to have succeeded.
    pub fn result(&self) -> Option<&'a Value> {
        match self.outcome {
            Outcome::Ok => self.complete.map(|e| &e.value),
            Outcome::Fail | Outcome::Info => None,
        }
    }

    /// When it was invoked, ns.
    pub fn invoked_at(&self) -> u64 {
        self.invoke.time
    }

    /// When it ended, ns; `None` for an operation that is open for ever.
    pub fn completed_at(&self) -> Option<u64> {
        self.completed_position.and(self.complete).map(|e| e.time)
    }

    /// Whether it is known to have taken effect.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// The node that answered.
    pub fn node(&self) -> Option<&'a Arc<str>> {
        self.complete.and_then(|e| e.node.as_ref())
    }

    /// The role that the answering node said it had.
    pub fn role(&self) -> Option<&'a Arc<str>> {
        self.complete.and_then(|e| e.role.as_ref())
    }

    /// The epoch or term that the answering node said it was in.
    pub fn epoch(&self) -> Option<u64> {
        self.complete.and_then(|e| e.epoch)
    }

    /// Whether it ended before the other began.
    pub fn precedes(&self, other: &Operation<'_>) -> bool {
        self.completed_position
            .is_some_and(|p| p < other.invoked_position)
    }
}
