//! What the main generators have in common: a thread, a key, a share of reads, unique values.

use std::sync::Arc;

use checkers::{F, Value};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::Parameters;
use super::keys::Keys;
use crate::generator::Context;
use crate::operation::{Completion, Invocation, Replaced};

/// Draws from a workload's own stream of randomness.
pub(super) struct Draw {
    pub keys: Keys,
    random: Pcg64Mcg,
    read_fraction: f64,
    local_reads: bool,
    next_value: i64,
}

impl Draw {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            keys,
            random: Pcg64Mcg::seed_from_u64(seed),
            read_fraction: parameters.read_fraction(),
            local_reads: parameters.local_reads(),
            next_value: 1,
        }
    }

    /// A free thread; none if there is none.
    pub fn thread(&mut self, context: &Context<'_>) -> Option<u32> {
        let place = self.below(context.free.len())?;
        Some(context.free[place])
    }

    /// A key in use, to be asked for now.
    pub fn key(&mut self) -> Value {
        let key = self.key_for_later();
        self.touch(&key);
        key
    }

    /// A key in use, to be asked for later, and [touched](Self::touch) then.
    pub fn key_for_later(&mut self) -> Value {
        let keys = self.keys.clone();
        let pool = keys.lock();
        let place = self.below(pool.slots.len()).unwrap_or_default();
        pool.slots[place].key.clone()
    }

    /// Takes note that a key is asked for: it is among the final reads.
    pub fn touch(&mut self, key: &Value) {
        let mut pool = self.keys.lock();
        if let Some(place) = pool.place(key) {
            pool.slots[place].touched = true;
        }
    }

    /// Counts a write to a key, which may retire it for later operations.
    pub fn written(&mut self, key: &Value) {
        let mut pool = self.keys.lock();
        if let Some(place) = pool.place(key) {
            pool.write(place);
        }
    }

    /// Whether the next operation is a read for its own sake.
    pub fn is_read(&mut self) -> bool {
        self.chance(self.read_fraction)
    }

    /// Whether reads are to be answered from the node's own state.
    pub fn local_reads(&self) -> bool {
        self.local_reads
    }

    /// A yes of this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.random.random::<f64>() < probability
    }

    /// A number below another; none below 0.
    pub fn below(&mut self, end: usize) -> Option<usize> {
        (end > 0).then(|| self.random.random_range(0..end))
    }

    /// A value that was never written before.
    pub fn fresh(&mut self) -> Value {
        let value = Value::Int(self.next_value);
        self.next_value += 1;
        value
    }

    /// A read of a key.
    pub fn read(&self, key: Value) -> Invocation {
        Invocation {
            local: self.local_reads,
            ..Invocation::new(F::Read, Some(key), Value::Nil)
        }
    }
}

/// What a read showed, as the values that a write in its knowledge replaces: siblings, or the one
/// value of a register.
pub(super) fn siblings(shown: &Value) -> Vec<Value> {
    match (shown, shown.items()) {
        (Value::Nil, _) => Vec::new(),
        (_, Some(items)) => items.to_vec(),
        (value, None) => vec![value.clone()],
    }
}

/// What a write replaces that is made in the knowledge of this read. A store without contexts is
/// handed an empty one, which it ignores.
pub(super) fn replacing(read: &Completion) -> Replaced {
    Replaced {
        context: read.context.clone().unwrap_or_else(|| Arc::from("")),
        seen: siblings(&read.value).into_iter().collect(),
    }
}
