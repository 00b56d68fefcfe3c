//! Configurations, and which of them make others superfluous.

use super::super::mask::Mask;

/// How many pending operations of a kind are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// That were open when the last segment began.
    pub(super) early: u32,
    /// That began since.
    pub(super) late: u32,
}

impl Left {
    pub(super) fn all(self) -> u32 {
        self.early + self.late
    }
}

/// See the [module above](super).
#[derive(Clone, Debug)]
pub(super) struct Configuration<const N: usize> {
    pub(super) state: u32,
    /// Open operations that took effect (plain writes: and were of use).
    pub(super) done: Mask<N>,
    /// Open operations that were open when the last segment began. Of those done it says nothing.
    pub(super) early: Mask<N>,
    /// By kind of pending operation.
    pub(super) left: Box<[Left]>,
}

impl<const N: usize> Configuration<N> {
    /// Whether whatever the other can go on with, this one can, too; see the [module](super).
    fn dominates(&self, other: &Self, writes: Mask<N>, cas: Mask<N>) -> bool {
        if self.state != other.state {
            return false;
        }
        let (d1, d2) = (self.done, other.done);
        let cas_differ = d1.without(d2).or(d2.without(d1)).and(cas);
        let used_up = d1.without(d2).and(writes);
        let undone = d2.without(d1).without(writes);
        let late = writes.or(other.early.without(d2)).without(d1);
        let late = late.without(self.early);
        let late_in_both = writes.without(d2).without(other.early);
        cas_differ.is_empty()
            && used_up.is_empty()
            && undone.is_empty()
            && late.without(late_in_both).is_empty()
            && self
                .left
                .iter()
                .zip(&other.left)
                .all(|(a, b)| a.early >= b.early && a.all() >= b.all())
    }

    /// How many pending operations are left.
    pub(super) fn left_in_all(&self) -> u64 {
        self.left.iter().map(|left| u64::from(left.all())).sum()
    }
}

/// Up to so many are compared with each other without sorting them first.
const FEW: usize = 12;

/// Of many with the same value, each is compared with so many others only: to keep one too many
/// costs time, but no right answer.
const COMPARED_MAX: usize = 512;

/// Drops what others dominate. `writes` and `cas`: of the open operations.
pub(super) fn prune<const N: usize>(
    configurations: &mut Vec<Configuration<N>>,
    writes: Mask<N>,
    cas: Mask<N>,
) {
    if configurations.len() <= FEW {
        return prune_group(configurations, writes, cas);
    }
    configurations.sort_unstable_by(|a, b| {
        let key = |c: &Configuration<N>| (c.state, c.done.and(cas));
        let rest = |c: &Configuration<N>| (c.done.and(writes).len(), c.done.without(writes).len());
        let left = || b.left_in_all().cmp(&a.left_in_all());
        let ((wa, ra), (wb, rb)) = (rest(a), rest(b));
        key(a)
            .cmp(&key(b))
            .then_with(left)
            .then(wa.cmp(&wb))
            .then(rb.cmp(&ra))
            .then_with(|| a.done.cmp(&b.done))
            .then_with(|| a.early.cmp(&b.early))
    });
    let mut kept: Vec<Configuration<N>> = Vec::with_capacity(configurations.len());
    let mut group = 0;
    for c in configurations.drain(..) {
        if let Some(first) = kept.get(group)
            && (first.state != c.state || first.done.and(cas) != c.done.and(cas))
        {
            group = kept.len();
        }
        // What is equal comes next to each other.
        let compared = kept[group..]
            .iter()
            .take(COMPARED_MAX)
            .chain(kept[group..].last());
        if compared.into_iter().any(|k| k.dominates(&c, writes, cas)) {
            continue;
        }
        let mut at = group;
        while at < kept.len().min(group + COMPARED_MAX) {
            if c.dominates(&kept[at], writes, cas) {
                kept.swap_remove(at);
            } else {
                at += 1;
            }
        }
        kept.push(c);
    }
    *configurations = kept;
}

fn prune_group<const N: usize>(
    configurations: &mut Vec<Configuration<N>>,
    writes: Mask<N>,
    cas: Mask<N>,
) {
    let mut at = 0;
    while at < configurations.len() {
        let mut other = 0;
        let mut dominated = false;
        while other < configurations.len() {
            if other != at && configurations[other].dominates(&configurations[at], writes, cas) {
                dominated = true;
                break;
            }
            other += 1;
        }
        if dominated {
            configurations.swap_remove(at);
        } else {
            at += 1;
        }
    }
}

/// Keeps the most promising: with most pending operations left, and fewest of `owed` (open
/// operations that are not plain writes) not done; of every value some.
pub(super) fn keep_best<const N: usize>(
    configurations: &mut Vec<Configuration<N>>,
    count: usize,
    owed: Mask<N>,
) {
    let merit = |c: &Configuration<N>| (c.left_in_all(), c.done.and(owed).len());
    configurations.sort_by(|a, b| {
        merit(b)
            .cmp(&merit(a))
            .then(a.state.cmp(&b.state))
            .then_with(|| a.done.cmp(&b.done))
            .then_with(|| a.early.cmp(&b.early))
    });
    // By value, how many are ahead of it: the first of every value come first.
    let mut seen: rustc_hash::FxHashMap<u32, usize> = rustc_hash::FxHashMap::default();
    let mut ranked: Vec<(usize, usize)> = configurations
        .iter()
        .enumerate()
        .map(|(at, c)| {
            let ahead = seen.entry(c.state).or_insert(0);
            *ahead += 1;
            (*ahead, at)
        })
        .collect();
    ranked.sort_unstable();
    ranked.truncate(count);
    let mut keep = vec![false; configurations.len()];
    for (_, at) in ranked {
        keep[at] = true;
    }
    let mut keep = keep.into_iter();
    configurations.retain(|_| keep.next().unwrap_or(false));
}
