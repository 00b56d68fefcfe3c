//! Sequences by their 128-bit hash.

/// A sequence of numbers or bytes: two lanes of 64 bits, and its length. Taken for equal if all
/// three are: two different sequences meet with probability 2^-128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sequence {
    lanes: [u64; 2],
    pub(super) len: u64,
}

impl Sequence {
    pub(super) fn of(items: &[u32]) -> Self {
        let with = |sequence: Self, item: &u32| sequence.with(u64::from(*item));
        items.iter().fold(Self::default(), with)
    }

    /// With one more at the end.
    pub(super) fn with(self, item: u64) -> Self {
        let [a, b] = self.lanes;
        Self {
            lanes: [
                mix(a ^ mix(item.wrapping_add(0x9e37_79b9_7f4a_7c15))),
                mix(b.rotate_left(23)
                    ^ mix(item.wrapping_mul(0xd129_0d3b_a04f_3a2d) ^ 0x5851_f42d_4c95_7f2d)),
            ],
            len: self.len + 1,
        }
    }

    pub(super) fn with_text(self, text: &str) -> Self {
        text.bytes().fold(self, |s, byte| s.with(u64::from(byte)))
    }
}

/// A permutation of 64 bits in which every bit depends on all (the finaliser of `SplitMix64`).
pub(super) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Of one entry of a map: two lanes.
pub(super) fn entry(key: u32, value: u32) -> u128 {
    let both = u64::from(key) << 32 | u64::from(value);
    let a = mix(both);
    let b = mix(mix(both ^ 0xa076_1d64_78bd_642f).wrapping_add(u64::from(key)));
    u128::from(a) << 64 | u128::from(b)
}
