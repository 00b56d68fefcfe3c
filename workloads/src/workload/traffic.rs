//! Reads and writes of registers, sets and lists under random keys by random free threads.

use std::collections::BTreeMap;

use checkers::{F, Outcome, Value};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::Parameters;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// What the keys hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// Written, and compared and set where `cas_fraction` says so.
    Register,
    /// Added to.
    Set,
    /// Appended to.
    List,
}

/// Never exhausted, never waits for the time.
pub(super) struct Traffic {
    object: Object,
    read_fraction: f64,
    cas_fraction: f64,
    local_reads: bool,
    keys: Keys,
    random: Pcg64Mcg,
    /// The key under which each thread saw a value last; registers only.
    last_seen: BTreeMap<u32, Value>,
    /// The next value to be written: unique in the run.
    next_value: i64,
}

impl Traffic {
    /// The seed is used as it is.
    pub fn new(object: Object, parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            object,
            read_fraction: parameters.read_fraction(),
            cas_fraction: parameters.cas_fraction(),
            local_reads: parameters.local_reads(),
            keys,
            random: Pcg64Mcg::seed_from_u64(seed),
            last_seen: BTreeMap::new(),
            next_value: 1,
        }
    }

    fn read(&self, key: Value) -> Invocation {
        Invocation {
            local: self.local_reads,
            ..Invocation::new(F::Read, Some(key), Value::Nil)
        }
    }

    fn fresh(&mut self) -> Value {
        let value = Value::Int(self.next_value);
        self.next_value += 1;
        value
    }
}

impl Generator for Traffic {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if context.free.is_empty() {
            return Next::Wait(u64::MAX);
        }
        let thread = context.free[self.random.random_range(0..context.free.len())];
        let keys = self.keys.clone();
        let mut pool = keys.lock();
        let mut place = self.random.random_range(0..pool.slots.len());
        let share: f64 = self.random.random();
        let cas = share >= self.read_fraction && share < self.read_fraction + self.cas_fraction;
        if cas {
            // The key whose value the thread saw last: under any other, somebody has most likely
            // written since, and the operation would tell little.
            let last = self.last_seen.get(&thread);
            place = last.and_then(|key| pool.place(key)).unwrap_or(place);
        }
        let slot = &mut pool.slots[place];
        slot.touched = true;
        let expected = slot.seen.get(&thread).copied();
        // A compare-and-set needs a value that the thread has seen; without one it reads first.
        if share < self.read_fraction || (cas && expected.is_none()) {
            let invocation = self.read(slot.key.clone());
            return Next::Op { thread, invocation };
        }
        let fresh = self.fresh();
        let (f, value) = match (self.object, expected) {
            (Object::Register, Some(old)) if cas => {
                (F::Cas, [Value::Int(old), fresh].into_iter().collect())
            }
            (Object::Register, _) => (F::Write, fresh),
            (Object::Set, _) => (F::Add, fresh),
            (Object::List, _) => (F::Append, fresh),
        };
        let invocation = Invocation::new(f, Some(pool.write(place)), value);
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        _context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        if self.object != Object::Register {
            return;
        }
        let Some(key) = &invocation.key else {
            return;
        };
        let mut pool = self.keys.lock();
        let Some(place) = pool.place(key) else {
            return; // Retired in the meantime.
        };
        let seen = &mut pool.slots[place].seen;
        let now_known = match (completion.outcome, &invocation.f) {
            (Outcome::Ok, F::Read) => completion.value.as_int(),
            (Outcome::Ok, F::Write) => invocation.value.as_int(),
            (Outcome::Ok, F::Cas) => invocation
                .value
                .items()
                .and_then(|pair| pair.get(1)?.as_int()),
            // After a mismatch, or an unknown outcome, what the thread saw is most likely gone.
            _ => None,
        };
        match now_known {
            Some(value) => {
                seen.insert(thread, value);
                self.last_seen.insert(thread, key.clone());
            }
            None => {
                seen.remove(&thread);
            }
        }
    }
}
