//! Sets of small numbers.

const WORD: usize = u64::BITS as usize;

/// A set of numbers below a bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set of numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        Self(vec![0; bound.div_ceil(WORD)])
    }

    pub(super) fn insert(&mut self, n: usize) {
        self.0[n / WORD] |= 1 << (n % WORD);
    }

    pub(super) fn remove(&mut self, n: usize) {
        self.0[n / WORD] &= !(1 << (n % WORD));
    }

    pub(super) fn contains(&self, n: usize) -> bool {
        self.0[n / WORD] & (1 << (n % WORD)) != 0
    }

    /// What is in this set and not in the other (of the same bound), ascending.
    pub(super) fn without<'b>(&'b self, other: &'b Self) -> impl Iterator<Item = usize> + 'b {
        let words = self.0.iter().zip(&other.0).map(|(a, b)| a & !b);
        words.enumerate().flat_map(|(i, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    i * WORD + bit
                })
            })
        })
    }
}
