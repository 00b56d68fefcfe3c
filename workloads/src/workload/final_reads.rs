//! The last phase of a run: after everything is healed, one successful read of every key.

use std::collections::{BTreeMap, VecDeque};

use checkers::{F, Outcome, Value};

use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation, Quorum};
use crate::transaction::{self, Micro};

/// How often a read is made at most, unless said otherwise.
const ATTEMPTS: u32 = 20;

/// Pause before a read is made again, in nanoseconds: 20 attempts outlast an election.
const PAUSE_NS: u64 = 250_000_000;

/// How many keys a transaction reads at most.
const KEYS_A_TRANSACTION: usize = 4;

/// Makes every read until it succeeds or was tried often enough. Exhausted when none is left to be
/// made and none is under way.
#[derive(Debug)]
pub struct FinalReads {
    /// Reads to make, with the attempts made and the time before which not to try again (ascending).
    waiting: VecDeque<Pending>,
    under_way: BTreeMap<u32, Pending>,
    given_up: Vec<Invocation>,
    attempts: u32,
    quorum: Quorum,
    /// The thread after the one used last. All take turns, since the node that one of them asks
    /// may be one that never answers.
    turn: u32,
}

#[derive(Debug)]
struct Pending {
    read: Invocation,
    attempts: u32,
    not_before: u64,
}

impl FinalReads {
    /// Of these keys.
    pub fn new(keys: Vec<Value>) -> Self {
        let read = |key| Invocation::new(F::Read, Some(key), Value::Nil);
        Self::of(keys.into_iter().map(read))
    }

    /// Of these keys, some of them in each transaction.
    pub fn in_transactions(keys: &[Value]) -> Self {
        let read = |keys: &[Value]| {
            let micro = keys.iter().map(|key| Micro::Read(key.clone()));
            let micro = micro.map(|micro| micro.written(Value::Nil));
            Invocation::new(transaction::txn(), None, micro.collect())
        };
        Self::of(keys.chunks(KEYS_A_TRANSACTION).map(read))
    }

    /// One read without a key, of everything there is.
    pub fn of_everything() -> Self {
        Self::of([Invocation::new(F::Read, None, Value::Nil)].into_iter())
    }

    fn of(reads: impl Iterator<Item = Invocation>) -> Self {
        let pending = |read| Pending {
            read,
            attempts: 0,
            not_before: 0,
        };
        Self {
            waiting: reads.map(pending).collect(),
            under_way: BTreeMap::new(),
            given_up: Vec::new(),
            attempts: ATTEMPTS,
            quorum: Quorum::default(),
            turn: 0,
        }
    }

    /// With this number of attempts a read, at least one.
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

    /// How many reads are still to be made, those under way included.
    pub fn left(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// The reads that failed too often.
    pub fn given_up(&self) -> &[Invocation] {
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
            ..pending.read.clone()
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
        let ours = |Pending { read, .. }: &Pending| {
            (&read.f, &read.key, &read.value) == (&invocation.f, &invocation.key, &invocation.value)
        };
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
            self.given_up.push(pending.read);
            return;
        }
        pending.not_before = context.now.saturating_add(PAUSE_NS);
        self.waiting.push_back(pending);
    }
}
