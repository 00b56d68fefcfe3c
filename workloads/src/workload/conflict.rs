//! Concurrent writes of few hot keys.

use std::collections::BTreeMap;

use checkers::{F, Outcome};

use super::Parameters;
use super::draw::{Draw, replacing};
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// Reads, and writes of unique values. With `resolve`, a thread reads before it writes, and its
/// write replaces what the read showed, siblings and all; without, writes are blind.
pub(super) struct Conflict {
    draw: Draw,
    resolve: bool,
    /// What each thread is about to do to the key that it reads or has read.
    intents: BTreeMap<u32, Intent>,
}

enum Intent {
    /// Reads in order to write.
    Reading,
    /// Has read.
    Write(Box<Invocation>),
}

impl Conflict {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            resolve: parameters.resolve(),
            intents: BTreeMap::new(),
        }
    }
}

impl Generator for Conflict {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        if let Some(Intent::Write(mut write)) = self.intents.remove(&thread) {
            write.value = self.draw.fresh();
            let invocation = *write;
            if let Some(key) = &invocation.key {
                self.draw.written(key);
            }
            return Next::Op { thread, invocation };
        }
        let key = self.draw.key();
        let only_read = self.draw.is_read();
        if only_read || self.resolve {
            if !only_read {
                self.intents.insert(thread, Intent::Reading);
            }
            let invocation = self.draw.read(key);
            return Next::Op { thread, invocation };
        }
        self.draw.written(&key);
        let invocation = Invocation::new(F::Write, Some(key), self.draw.fresh());
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        _context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        if invocation.f != F::Read || self.intents.remove(&thread).is_none() {
            return;
        }
        if completion.outcome == Outcome::Ok {
            let write = Invocation {
                f: F::Write,
                local: false,
                replaces: Some(replacing(completion)),
                ..invocation.clone()
            };
            self.intents.insert(thread, Intent::Write(Box::new(write)));
        }
    }
}
