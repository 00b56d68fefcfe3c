//! Operations whose effect is not in their text: a statement executed again gives another.

use checkers::{F, Value};

use super::Parameters;
use super::draw::Draw;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::Invocation;

/// What the store can be asked to come up with.
const FUNCTIONS: [&str; 4] = ["now", "random", "auto-increment", "trigger"];

/// No register ever holds it.
const NEVER: Value = Value::Int(-1);

/// Reads of lists, appends of what the store generates, and compare-and-sets that fail, for an
/// operation that fails may still use up a number of the sequence.
pub(super) struct Nondeterministic {
    draw: Draw,
    cas_fraction: f64,
}

impl Nondeterministic {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            cas_fraction: parameters.cas_fraction(),
        }
    }
}

impl Generator for Nondeterministic {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        let key = self.draw.key();
        if self.draw.is_read() {
            let invocation = self.draw.read(key);
            return Next::Op { thread, invocation };
        }
        if self.draw.chance(self.cas_fraction) {
            // The lists are no registers: a key of its own.
            let key = Value::str(&format!("{key}/register"));
            let change = [NEVER, self.draw.fresh()].into_iter().collect();
            let invocation = Invocation::new(F::Cas, Some(key), change);
            return Next::Op { thread, invocation };
        }
        let which = self.draw.below(FUNCTIONS.len()).unwrap_or_default();
        self.draw.written(&key);
        let invocation = Invocation::new(F::Generate, Some(key), Value::str(FUNCTIONS[which]));
        Next::Op { thread, invocation }
    }
}
