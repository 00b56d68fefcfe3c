//! Equal slices of time whose number is bounded: when there are too many, each two become one.

/// Something that can take in another of its kind.
pub(super) trait Merge: Default {
    /// Adds the other's content to this.
    fn merge(&mut self, other: Self);
}

impl Merge for u32 {
    fn merge(&mut self, other: Self) {
        *self = self.saturating_add(other);
    }
}

/// Slices of time from 0 on.
#[derive(Debug)]
pub(super) struct Buckets<T> {
    width_ns: u64,
    most: usize,
    slices: Vec<T>,
}

impl<T: Merge> Buckets<T> {
    /// At most `most` slices (at least 2), of at least `width_ns` nanoseconds (at least 1).
    pub(super) fn new(width_ns: u64, most: usize) -> Self {
        Self {
            width_ns: width_ns.max(1),
            most: most.max(2),
            slices: Vec::new(),
        }
    }

    /// The slice of a time.
    pub(super) fn at(&mut self, time_ns: u64) -> &mut T {
        while time_ns / self.width_ns >= self.most as u64 {
            self.halve();
        }
        let index = (time_ns / self.width_ns) as usize;
        if index >= self.slices.len() {
            self.slices.resize_with(index + 1, T::default);
        }
        &mut self.slices[index]
    }

    fn halve(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        let mut halved = Vec::with_capacity(self.slices.len().div_ceil(2));
        let mut slices = self.slices.drain(..);
        while let Some(mut first) = slices.next() {
            if let Some(second) = slices.next() {
                first.merge(second);
            }
            halved.push(first);
        }
        drop(slices);
        self.slices = halved;
    }

    /// Width of a slice in seconds.
    pub(super) fn width_s(&self) -> f64 {
        self.width_ns as f64 / 1e9
    }

    /// The slices, oldest first.
    pub(super) fn slices(&self) -> &[T] {
        &self.slices
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_number_is_bounded(
            times in prop::collection::vec(0..u64::MAX / 4, 0..200),
            width in 1..1_000_u64,
            most in 2..50_usize,
        ) {
            let mut buckets = Buckets::<u32>::new(width, most);
            for time in &times {
                *buckets.at(*time) += 1;
            }
            prop_assert!(buckets.slices().len() <= most);
            prop_assert_eq!(buckets.slices().iter().sum::<u32>() as usize, times.len());
        }
    }

    #[test]
    fn a_time_falls_into_its_slice() {
        let mut buckets = Buckets::<u32>::new(10, 4);
        for time in [5, 15, 39, 40] {
            *buckets.at(time) += 1;
        }
        assert_eq!(buckets.slices(), [2, 1, 1]);
        assert!((buckets.width_s() - 20e-9).abs() < 1e-12);
    }
}
