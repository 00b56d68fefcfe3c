//! The smallest part of a list that still does what the whole does.
//!
//! Delta debugging (Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*,
//! IEEE TSE 28, 2002): of a schedule that makes a run fail, leave out larger and smaller parts as
//! long as what is left still fails.

/// Whether what is left still fails; `None` ends the search (nobody wants to wait any longer).
pub type Fails<'a, T> = &'a mut dyn FnMut(&[T]) -> Option<bool>;

/// A part of `items`, in their order, that fails though no single item can be left out of it.
///
/// `items` themselves are taken to fail. Asks at most O(n²) times for n items, O(log n) times if
/// one item is the reason. If the search is ended, the smallest part found by then is returned,
/// which may be larger than need be.
///
/// ```
/// let mut fails = |part: &[u32]| Some(part.contains(&3) && part.contains(&7));
/// let items: Vec<u32> = (0..20).collect();
/// assert_eq!(nemesis::shrink::smallest_part(&items, &mut fails), [3, 7]);
/// ```
pub fn smallest_part<T: Clone>(items: &[T], fails: Fails<'_, T>) -> Vec<T> {
    let mut left = items.to_vec();
    if left.is_empty() {
        return left;
    }
    match fails(&[]) {
        Some(false) => {}
        Some(true) => return Vec::new(),
        None => return left,
    }
    let mut parts = 2;
    while left.len() > 1 {
        let size = left.len().div_ceil(parts);
        let mut smaller = None;
        // One part alone is the largest step; all but one of them the next.
        if parts > 2 || size < left.len() {
            for part in left.chunks(size) {
                match fails(part) {
                    Some(true) => {
                        smaller = Some((part.to_vec(), 2));
                        break;
                    }
                    Some(false) => {}
                    None => return left,
                }
            }
        }
        if smaller.is_none() && parts > 2 {
            for at in (0..left.len()).step_by(size) {
                let end = (at + size).min(left.len());
                let rest: Vec<T> = [&left[..at], &left[end..]].concat();
                match fails(&rest) {
                    Some(true) => {
                        smaller = Some((rest, (parts - 1).max(2)));
                        break;
                    }
                    Some(false) => {}
                    None => return left,
                }
            }
        }
        match smaller {
            Some((part, next)) => {
                left = part;
                parts = next.min(left.len().max(2));
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(left.len()),
        }
    }
    left
}

/// The smallest of some values, tried from the first on, for which it still fails; `None` if it
/// does for none, or the search was ended before it was known.
pub fn first_failing<T: Clone>(
    values: impl IntoIterator<Item = T>,
    fails: &mut dyn FnMut(&T) -> Option<bool>,
) -> Option<T> {
    for value in values {
        match fails(&value) {
            Some(true) => return Some(value),
            Some(false) => {}
            None => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for _ in 0..500 {
            let count = rng.random_range(0..40);
            let items: Vec<u32> = (0..count).collect();
            let needed: Vec<u32> = items
                .iter()
                .copied()
                .filter(|_| rng.random_bool(0.1))
                .collect();
            let mut asked = 0;
            let left = smallest_part(&items, &mut |part| {
                asked += 1;
                Some(needed.iter().all(|n| part.contains(n)))
            });
            assert_eq!(left, needed);
            assert!(
                asked <= count * count + 4 * count + 2,
                "{asked} for {count}"
            );
        }
    }

    /// Whether a part fails need not follow from what it contains alone.
    #[test]
    fn the_result_fails_and_loses_no_single_item_for_any_test() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        for _ in 0..200 {
            let items: Vec<u32> = (0..12).collect();
            let salt: u64 = rng.random();
            let fails = |part: &[u32]| {
                let sum = part.iter().fold(salt, |h, &i| {
                    (h ^ u64::from(i + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                });
                part.len() == 12 || !part.is_empty() && sum >> 61 == 0
            };
            let left = smallest_part(&items, &mut |part| Some(fails(part)));
            assert!(fails(&left));
            for i in 0..left.len() {
                let mut without = left.clone();
                without.remove(i);
                assert!(
                    !fails(&without) || without.is_empty(),
                    "{left:?} without {i}"
                );
            }
        }
    }

    #[test]
    fn a_search_that_is_ended_returns_what_fails() {
        let items: Vec<u32> = (0..32).collect();
        for patience in 0..60 {
            let mut left_to_ask = patience;
            let mut last_failing = items.clone();
            let left = smallest_part(&items, &mut |part| {
                left_to_ask -= 1;
                if left_to_ask < 0 {
                    return None;
                }
                let fails = part.contains(&5) && part.contains(&20);
                if fails {
                    last_failing = part.to_vec();
                }
                Some(fails)
            });
            assert_eq!(left, last_failing);
        }
    }

    #[test]
    fn the_first_value_that_fails_is_taken() {
        assert_eq!(first_failing([1, 2, 4, 8], &mut |&n| Some(n > 3)), Some(4));
        assert_eq!(first_failing([1, 2], &mut |_| Some(false)), None);
        assert_eq!(first_failing([1, 2], &mut |_| None), None);
    }
}
