//! How stale the last read was, for schedules that wait for a stale one.
//!
//! An observation for triggers, not a verdict: it knows the last writes that were acknowledged for
//! each key, and of registers and lists only. The checkers decide from the whole history.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use checkers::{F, Value};

/// So many acknowledged writes of a key are remembered: an older value than those is not known.
const REMEMBERED: usize = 64;

struct Write {
    value: Value,
    invoked: u64,
    acknowledged: u64,
}

/// Remembers what was acknowledged.
#[derive(Default)]
pub struct Staleness {
    /// The newest last.
    keys: BTreeMap<Value, VecDeque<Write>>,
}

impl Staleness {
    /// A write of a key was acknowledged.
    pub fn acknowledged(&mut self, key: &Value, f: &F, value: &Value, invoked: u64, now: u64) {
        let value = match (f, value) {
            (F::Write | F::Append, value) => value.clone(),
            // Compare-and-set has what is expected and what is to be.
            (F::Cas, Value::Vector(pair) | Value::List(pair)) => match pair.last() {
                Some(new) => new.clone(),
                None => return,
            },
            _ => return,
        };
        let writes = self.keys.entry(key.clone()).or_default();
        if writes.len() == REMEMBERED {
            writes.pop_front();
        }
        writes.push_back(Write {
            value,
            invoked,
            acknowledged: now,
        });
    }

    /// How long before it was asked a read's answer had been replaced, of times in nanoseconds; of
    /// a list by its last element. Zero if it was not, or that is not known.
    pub fn of_read(&self, key: &Value, shown: &Value, invoked: u64) -> Duration {
        let Some(writes) = self.keys.get(key) else {
            return Duration::ZERO;
        };
        let shown = match shown {
            Value::Vector(items) | Value::List(items) => items.last().unwrap_or(&Value::Nil),
            value => value,
        };
        let seen = writes.iter().rposition(|write| write.value == *shown);
        // Writes are in order if one began when the other was acknowledged.
        let (newer, since) = match seen {
            Some(place) => (place + 1, writes[place].acknowledged),
            None if *shown == Value::Nil && writes.len() < REMEMBERED => (0, 0),
            None => return Duration::ZERO,
        };
        let mut newer = writes.range(newer..).filter(|write| write.invoked >= since);
        let replaced = newer.next().map_or(invoked, |write| write.acknowledged);
        Duration::from_nanos(invoked.saturating_sub(replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_as_stale_as_what_it_shows_has_been_replaced() {
        let mut staleness = Staleness::default();
        let (key, other) = (Value::str("k"), Value::str("other"));
        let stale = |staleness: &Staleness, shown: Value, at: u64| {
            staleness.of_read(&key, &shown, at).as_nanos()
        };
        for (value, invoked, acknowledged) in [(1, 10, 20), (2, 30, 40), (3, 35, 50)] {
            let value = Value::Int(value);
            staleness.acknowledged(&key, &F::Write, &value, invoked, acknowledged);
        }
        assert_eq!(stale(&staleness, Value::Int(1), 100), 60);
        // The third overlapped the second: either may stand.
        assert_eq!(stale(&staleness, Value::Int(2), 100), 0);
        assert_eq!(stale(&staleness, Value::Int(3), 100), 0);
        // Asked before anything newer was acknowledged.
        assert_eq!(stale(&staleness, Value::Int(1), 40), 0);
        assert_eq!(stale(&staleness, Value::Nil, 100), 80);
        assert_eq!(stale(&staleness, Value::Int(9), 100), 0);
        let list = Value::Vector([Value::Int(7), Value::Int(1)].into_iter().collect());
        assert_eq!(stale(&staleness, list, 100), 60);
        assert_eq!(staleness.of_read(&other, &Value::Nil, 100), Duration::ZERO);
    }
}
