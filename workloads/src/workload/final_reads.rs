//! The last phase of a run: after everything is healed, one successful read of every key.

use std::collections::{BTreeMap, VecDeque};

use checkers::{F, Outcome, Value};

use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation, Quorum};

/// How often a key is read at most, unless said otherwise.
const ATTEMPTS: u32 = 20;

/// Pause before a key is read again, in nanoseconds: 20 attempts outlast an election.
const PAUSE_NS: u64 = 250_000_000;

/// Reads every key until the read succeeds or was tried often enough. Exhausted when no key is
/// left to read and none is under way.
#[derive(Debug)]
pub struct FinalReads {
    /// Keys to read, with the attempts made and the time before which not to try again (ascending).
    waiting: VecDeque<Pending>,
    under_way: BTreeMap<u32, Pending>,
    given_up: Vec<Value>,
    attempts: u32,
    quorum: Quorum,
    /// The thread after the one used last. All take turns, since the node that one of them asks
    /// may be one that never answers.
    turn: u32,
}

#[derive(Debug)]
struct Pending {
    key: Value,
    attempts: u32,
    not_before: u64,
}

impl FinalReads {
    /// Of these keys.
    pub fn new(keys: Vec<Value>) -> Self {
        let pending = |key| Pending {
            key,
            attempts: 0,
            not_before: 0,
        };
        Self {
            waiting: keys.into_iter().map(pending).collect(),
            under_way: BTreeMap::new(),
            given_up: Vec::new(),
            attempts: ATTEMPTS,
            quorum: Quorum::default(),
            turn: 0,
        }
    }

    /// With this number of attempts a key, at least one.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Asking so many replicas (leaderless). Where fewer than all of a key answer, one read may
    /// show a write that reached too few of them, and the next may not.
    #[must_use]
    pub fn with_quorum(mut self, quorum: Quorum) -> Self {
        self.quorum = quorum;
        self
    }

    /// How many keys are still to be read, those under way included.
    pub fn left(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// The keys whose reads failed too often.
    pub fn given_up(&self) -> &[Value] {
        &self.given_up
    }
}

impl Generator for FinalReads {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(first) = self.waiting.front() else {
            return if self.under_way.is_empty() {
                Next::Exhausted
            } else {
                Next::Wait(u64::MAX)
            };
        };
        if context.now < first.not_before {
            return Next::Wait(first.not_before);
        }
        let mut free = context.free.iter().copied();
        let in_turn = free.find(|&thread| thread >= self.turn);
        let Some(thread) = in_turn.or(context.free.first().copied()) else {
            return Next::Wait(u64::MAX);
        };
        let Some(pending) = self.waiting.pop_front() else {
            return Next::Exhausted;
        };
        let invocation = Invocation {
            quorum: self.quorum,
            ..Invocation::new(F::Read, Some(pending.key.clone()), Value::Nil)
        };
        self.turn = thread.saturating_add(1);
        self.under_way.insert(thread, pending);
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        // Operations of an earlier phase may still come in.
        let ours = |pending: &Pending| invocation.key.as_ref() == Some(&pending.key);
        if !self.under_way.get(&thread).is_some_and(ours) {
            return;
        }
        let Some(mut pending) = self.under_way.remove(&thread) else {
            return;
        };
        if completion.outcome == Outcome::Ok {
            return;
        }
        pending.attempts += 1;
        if pending.attempts >= self.attempts {
            self.given_up.push(pending.key);
            return;
        }
        pending.not_before = context.now.saturating_add(PAUSE_NS);
        self.waiting.push_back(pending);
    }
}
