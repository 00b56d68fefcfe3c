//! Timestamps of changes: by the wall clock, or by a hybrid logical clock.

use serde::{Deserialize, Serialize};

use super::Clock;
use super::origin::Origin;
use crate::core::Time;
use crate::core::timing::{MILLISECOND, wall};

/// When a value was written, as its writer believes. Totally ordered: by time, then by count, then
/// by node; the rest tells apart what one node wrote in the same millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The time.
    pub moment: Moment,
    /// The writer.
    pub origin: Origin,
    /// The writer's change.
    pub seq: u64,
}

/// A reading of a clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment {
    /// Milliseconds.
    pub ms: u64,
    /// Tells apart what the hybrid clock has to within a millisecond; 0 by the wall clock.
    pub count: u32,
}

/// The clock of one node.
///
/// The hybrid one is that of Kulkarni, Demirbas, Madappa, Avva & Leone (*Logical Physical Clocks*,
/// 2014): never behind anything it has seen, so that what was written with the knowledge of
/// something is always later than it; else as close to the wall clock as that allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocked {
    kind: Clock,
    last: Moment,
    /// How far the wall clock was set forward, nanoseconds.
    step: i64,
}

impl Clocked {
    pub fn new(kind: Clock) -> Self {
        Self {
            kind,
            last: Moment::default(),
            step: 0,
        }
    }

    /// The wall clock was set.
    pub fn set(&mut self, step: i64) {
        self.step = step;
    }

    /// The time of a new change.
    pub fn tick(&mut self, now: Time) -> Moment {
        let wall = Moment {
            ms: wall(now, self.step) / MILLISECOND,
            count: 0,
        };
        if self.kind == Clock::Wall {
            return wall;
        }
        self.last = if wall.ms > self.last.ms {
            wall
        } else {
            self.last.next()
        };
        self.last
    }

    /// The latest time that the hybrid clock has shown or seen.
    pub fn last(&self) -> Moment {
        self.last
    }

    /// Takes note of the time of another node's change.
    pub fn see(&mut self, moment: Moment) {
        self.last = self.last.max(moment);
    }
}

impl Moment {
    fn next(self) -> Self {
        match self.count.checked_add(1) {
            Some(count) => Self { count, ..self },
            None => Self {
                ms: self.ms.saturating_add(1),
                count: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_clock_is_never_behind_what_it_has_seen() {
        let at = |ms, count| Moment { ms, count };
        let mut clock = Clocked::new(Clock::Hybrid);
        assert_eq!(clock.tick(5 * MILLISECOND), at(5, 0));
        assert_eq!(clock.tick(5 * MILLISECOND), at(5, 1));
        clock.see(at(9, 3));
        assert_eq!(clock.tick(6 * MILLISECOND), at(9, 4));
        assert_eq!(clock.tick(10 * MILLISECOND), at(10, 0));
        clock.see(at(10, u32::MAX));
        assert_eq!(clock.tick(10 * MILLISECOND), at(11, 0));
        let mut wall = Clocked::new(Clock::Wall);
        wall.see(at(9, 3));
        assert_eq!(wall.tick(6 * MILLISECOND), at(6, 0));
        // Set back, the wall clock goes back and the hybrid one does not.
        for clock in [&mut wall, &mut clock] {
            clock.set(-(5 * MILLISECOND as i64));
        }
        assert_eq!(wall.tick(7 * MILLISECOND), at(2, 0));
        assert_eq!(clock.tick(7 * MILLISECOND), at(11, 1));
    }
}
