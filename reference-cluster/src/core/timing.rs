//! Units of time, and numbers drawn from a seed without state.

use super::Time;

/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: Time = 1_000_000;

/// What the wall clock shows, which was set so many nanoseconds forward.
pub(crate) fn wall(now: Time, step: i64) -> Time {
    now.saturating_add_signed(step)
}

/// A number that depends on nothing but its arguments, well spread (`SplitMix64`'s finaliser;
/// Steele, Lea & Flood 2014).
pub(crate) fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let scramble = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    scramble(scramble(scramble(seed) ^ a) ^ b)
}
