//! Locks that are acquired, held for a while, and given back.

use std::collections::BTreeMap;

use checkers::{F, Outcome, Value};

use super::Parameters;
use super::draw::Draw;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// Each thread acquires a lock, holds it and gives it back; and so on. A lock whose fate is unknown is
/// given back, too, until the store says whether it was held.
pub(super) struct Locks {
    draw: Draw,
    hold_ns: u64,
    /// By thread: the lock that it has or may have.
    tenures: BTreeMap<u32, Tenure>,
}

struct Tenure {
    lock: Value,
    owner: Value,
    /// When it is to be given back; none while it is not known to be had.
    until: Option<u64>,
}

impl Locks {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            hold_ns: u64::from(parameters.hold_ms()) * 1_000_000,
            tenures: BTreeMap::new(),
        }
    }
}

impl Generator for Locks {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let until = |thread: &u32| self.tenures.get(thread).and_then(|tenure| tenure.until);
        let due = |thread: &u32| until(thread).is_none_or(|until| until <= context.now);
        let ready: Vec<u32> = context.free.iter().copied().filter(due).collect();
        if ready.is_empty() {
            let next = context.free.iter().filter_map(until).min();
            return Next::Wait(next.unwrap_or(u64::MAX));
        }
        let thread = ready[self.draw.below(ready.len()).unwrap_or_default()];
        if let Some(tenure) = self.tenures.get(&thread) {
            let (lock, owner) = (tenure.lock.clone(), tenure.owner.clone());
            let invocation = Invocation::new(F::Release, Some(lock), owner);
            return Next::Op { thread, invocation };
        }
        let lock = self.draw.key();
        self.draw.written(&lock);
        // Unique: who holds a lock twice is two owners.
        let owner = Value::str(&format!("owner-{thread}-{}", self.draw.fresh()));
        let invocation = Invocation::new(F::Acquire, Some(lock.clone()), owner.clone());
        let tenure = Tenure {
            lock,
            owner,
            until: None,
        };
        self.tenures.insert(thread, tenure);
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        let Some(tenure) = self.tenures.get_mut(&thread) else {
            return;
        };
        let mismatch = completion.error.as_deref() == Some("cas-mismatch");
        match (&invocation.f, completion.outcome) {
            (F::Acquire, Outcome::Ok) => {
                tenure.until = Some(context.now.saturating_add(self.hold_ns));
            }
            (F::Acquire, Outcome::Fail) | (F::Release, Outcome::Ok) => {
                self.tenures.remove(&thread);
            }
            // Not held, or no longer.
            (F::Release, Outcome::Fail) if mismatch => {
                self.tenures.remove(&thread);
            }
            // To be given back at once, or again.
            _ => tenure.until = None,
        }
    }
}
