//! A node's own clock: offset and drifting against the simulation's true time.

const MILLION: u64 = 1_000_000;

/// Maps true virtual time to one node's monotonic clock and back. All times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What the node's clock shows at true time zero.
    pub offset: u64,
    /// How much faster it runs than true time, in parts per million; negative is slower.
    pub drift_ppm: i64,
}

impl Clock {
    /// What the node's clock shows at true time `now`.
    pub fn local(self, now: u64) -> u64 {
        // Millionths apart from the rest, so that 64 bits do: this is asked at every event.
        let (whole, part) = ((now / MILLION) as i64, (now % MILLION) as i64);
        let drift = whole * self.drift_ppm + part * self.drift_ppm / MILLION as i64;
        (self.offset + now).saturating_add_signed(drift)
    }

    /// The earliest true time at which the node's clock shows at least `local`;
    /// `u64::MAX` for `u64::MAX`.
    pub fn when(self, local: u64) -> u64 {
        if local == u64::MAX {
            return u64::MAX;
        }
        let ahead = i128::from(local.saturating_sub(self.offset));
        let scale = 1_000_000 + i128::from(self.drift_ppm);
        let mut guess = (ahead * 1_000_000 / scale).max(0) as u64;
        // Integer division rounds both ways; step to the exact earliest time.
        while self.local(guess) < local {
            guess += 1;
        }
        while guess > 0 && self.local(guess - 1) >= local {
            guess -= 1;
        }
        guess
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn when_is_the_earliest_time_that_shows_it() {
        for drift_ppm in [-200_000, -50, 0, 50, 333, 100_000] {
            let clock = Clock {
                offset: 5_000_000_000,
                drift_ppm,
            };
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
}
