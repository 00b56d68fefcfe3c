//! Elements put into queues and taken out of them.

use checkers::{F, Value};

use super::Parameters;
use super::draw::Draw;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::Invocation;

/// Enqueues of unique elements, and dequeues. Each key is a queue.
pub(super) struct Queue {
    draw: Draw,
    dequeue_fraction: f64,
}

impl Queue {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            dequeue_fraction: parameters.dequeue_fraction(),
        }
    }
}

impl Generator for Queue {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        let key = self.draw.key();
        if self.draw.chance(self.dequeue_fraction) {
            let invocation = Invocation::new(F::from_name("dequeue"), Some(key), Value::Nil);
            return Next::Op { thread, invocation };
        }
        self.draw.written(&key);
        let invocation = Invocation::new(F::from_name("enqueue"), Some(key), self.draw.fresh());
        Next::Op { thread, invocation }
    }
}
