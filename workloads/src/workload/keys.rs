//! The keys of a run: some in use, each replaced by a fresh one when it has taken its share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use checkers::Value;

/// The keys, shared between a workload's main generator and its final reads.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Mutex<Pool>>);

/// The keys in use. They are numbered in the order of first use, so that the keys retired need no
/// memory: they are all numbers given out that are no longer in use.
#[derive(Debug)]
pub(super) struct Pool {
    pub slots: Vec<Slot>,
    /// Where each key in use is among `slots`.
    places: BTreeMap<Value, usize>,
    /// How the key of a number is called.
    name: fn(u64) -> Value,
    next: u64,
    writes_per_key: u32,
}

/// A key in use.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    /// Its name as operations carry it.
    pub key: Value,
    writes: u32,
    /// Whether any operation was generated for it.
    pub touched: bool,
    /// The last value that a thread saw under it.
    pub seen: BTreeMap<u32, i64>,
}

impl Slot {
    /// How many writes it has taken.
    pub fn writes(&self) -> u32 {
        self.writes
    }

    fn new(number: u64, name: fn(u64) -> Value) -> Self {
        Self {
            number,
            key: name(number),
            writes: 0,
            touched: false,
            seen: BTreeMap::new(),
        }
    }
}

fn name(number: u64) -> Value {
    Value::str(&format!("k{number}"))
}

impl Keys {
    /// So many at a time, each for so many writes: `k0`, `k1`, …
    pub fn new(count: u32, writes_per_key: u32) -> Self {
        Self::named(count, writes_per_key, name)
    }

    /// The same with names of their own, each number another.
    pub fn named(count: u32, writes_per_key: u32, name: fn(u64) -> Value) -> Self {
        let numbers = 0..u64::from(count);
        let slots: Vec<Slot> = numbers.map(|number| Slot::new(number, name)).collect();
        let places = slots.iter().map(|slot| slot.key.clone()).zip(0..);
        Self(Arc::new(Mutex::new(Pool {
            places: places.collect(),
            slots,
            name,
            next: u64::from(count),
            writes_per_key,
        })))
    }

    /// Every key that any operation was generated for, in the order of first use.
    pub fn touched(&self) -> Vec<Value> {
        let pool = self.lock();
        let idle: BTreeSet<u64> = pool
            .slots
            .iter()
            .filter(|slot| !slot.touched)
            .map(|slot| slot.number)
            .collect();
        let used = (0..pool.next).filter(|number| !idle.contains(number));
        used.map(pool.name).collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Counts a write to a key in use, which may retire it for later operations. Its name.
    pub fn write(&mut self, place: usize) -> Value {
        let slot = &mut self.slots[place];
        let key = slot.key.clone();
        slot.touched = true;
        slot.writes += 1;
        if slot.writes >= self.writes_per_key {
            *slot = Slot::new(self.next, self.name);
            self.places.remove(&key);
            self.places.insert(slot.key.clone(), place);
            self.next += 1;
        }
        key
    }

    /// The place of a key, while it is in use.
    pub fn place(&self, key: &Value) -> Option<usize> {
        self.places.get(key).copied()
    }
}
