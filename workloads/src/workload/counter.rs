//! Increments and decrements of counters.

use checkers::{F, Value};

use super::Parameters;
use super::draw::Draw;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::Invocation;

/// The largest amount of one operation.
const MOST: usize = 10;

/// Reads, and changes by 1 to 10 up or down.
pub(super) struct Counter {
    draw: Draw,
    decrement_fraction: f64,
}

impl Counter {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            decrement_fraction: parameters.decrement_fraction(),
        }
    }
}

impl Generator for Counter {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        let key = self.draw.key();
        if self.draw.is_read() {
            let invocation = self.draw.read(key);
            return Next::Op { thread, invocation };
        }
        let down = self.draw.chance(self.decrement_fraction);
        let amount = 1 + self.draw.below(MOST).unwrap_or_default() as i64;
        let amount = Value::Int(if down { -amount } else { amount });
        self.draw.written(&key);
        let invocation = Invocation::new(F::Increment, Some(key), amount);
        Next::Op { thread, invocation }
    }
}
