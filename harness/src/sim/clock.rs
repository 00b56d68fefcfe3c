//! A node's own clocks: a monotonic one, offset and drifting against the simulation's true time,
//! and the wall clock, which is the same but for having been set.

const MILLION: u64 = 1_000_000;
/// The slowest that a clock can run.
const SLOWEST_PPM: i64 = 1 - MILLION as i64;

/// Maps true virtual time to one node's monotonic clock and back. All times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Since when it runs as fast as it does.
    since: u64,
    /// What it showed then.
    shown: u64,
    /// How much faster than true time it runs, in parts per million; negative is slower.
    drift_ppm: i64,
}

impl Clock {
    /// One that shows `offset` at true time zero.
    pub fn new(offset: u64, drift_ppm: i64) -> Self {
        Self {
            since: 0,
            shown: offset,
            drift_ppm: drift_ppm.max(SLOWEST_PPM),
        }
    }

    /// What the node's clock shows at true time `now`.
    pub fn local(self, now: u64) -> u64 {
        // Millionths apart from the rest, so that 64 bits do: this is asked at every event.
        let now = now.saturating_sub(self.since);
        let (whole, part) = ((now / MILLION) as i64, (now % MILLION) as i64);
        let drift = whole * self.drift_ppm + part * self.drift_ppm / MILLION as i64;
        (self.shown + now).saturating_add_signed(drift)
    }

    /// The same clock, running so much faster than it does from `now` on.
    #[must_use]
    pub fn faster(self, now: u64, ppm: i64) -> Self {
        Self {
            since: now,
            shown: self.local(now),
            drift_ppm: self.drift_ppm.saturating_add(ppm).max(SLOWEST_PPM),
        }
    }

    /// How much faster than true time it runs.
    pub fn drift_ppm(self) -> i64 {
        self.drift_ppm
    }

    /// The earliest true time at which the node's clock shows at least `local`, and the earliest
    /// it knows of if that was before it ran as it does; `u64::MAX` for `u64::MAX`.
    pub fn when(self, local: u64) -> u64 {
        if local == u64::MAX {
            return u64::MAX;
        }
        let ahead = i128::from(local.saturating_sub(self.shown));
        let scale = i128::from(MILLION) + i128::from(self.drift_ppm);
        let after = (ahead * i128::from(MILLION) / scale).max(0);
        let mut guess = self
            .since
            .saturating_add(u64::try_from(after).unwrap_or(u64::MAX));
        if scale < 500_000 {
            return self.search(local, guess);
        }
        // Integer division rounds both ways; step to the exact earliest time.
        while self.local(guess) < local {
            guess += 1;
        }
        while guess > self.since && self.local(guess - 1) >= local {
            guess -= 1;
        }
        guess
    }

    /// The same for a clock so slow that it shows one time for long; `guess` is less than 2 ms off.
    fn search(self, local: u64, guess: u64) -> u64 {
        let mut before = guess.saturating_sub(2 * MILLION).max(self.since);
        let mut after = guess.saturating_add(2 * MILLION);
        while before < after {
            let middle = before + (after - before) / 2;
            if self.local(middle) >= local {
                after = middle;
            } else {
                before = middle + 1;
            }
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn when_is_the_earliest_time_that_shows_it() {
        for drift_ppm in [-999_999, -700_000, -200_000, -50, 0, 50, 333, 100_000] {
            let clock = Clock::new(5_000_000_000, drift_ppm);
            for local in [
                0,
                5_000_000_000,
                5_000_000_001,
                5_123_456_789,
                9_999_999_999,
            ] {
                let at = clock.when(local);
                assert!(clock.local(at) >= local, "{drift_ppm} {local}");
                assert!(
                    at == 0 || clock.local(at - 1) < local,
                    "{drift_ppm} {local}"
                );
            }
            assert_eq!(clock.when(u64::MAX), u64::MAX);
        }
    }

    #[test]
    fn a_clock_that_is_made_faster_goes_on_from_where_it_is() {
        let clock = Clock::new(1_000, 100).faster(5_000_000, 200_000);
        assert_eq!(clock.local(5_000_000), 5_001_500);
        assert_eq!(clock.local(6_000_000), 6_201_600);
        assert_eq!(clock.when(6_201_600), 6_000_000);
        let clock = clock.faster(6_000_000, -200_000);
        assert_eq!(clock.drift_ppm(), 100);
        assert_eq!(clock.local(7_000_000), 7_201_700);
        assert_eq!(clock.faster(0, -5_000_000).drift_ppm(), -999_999);
    }
}
