//! An observed-remove set (Shapiro et al. 2011; without tombstones: Bieniusa et al., *An optimized
//! conflict-free replicated set*, 2012): removing takes away the additions that the remover has
//! seen, so that an addition concurrent with it stays.

use std::collections::BTreeSet;

use crate::core::Scalar;
use crate::core::multi_leader::causal::{Causal, Context};
use crate::core::multi_leader::origin::{Dot, Origin};

/// Elements by the addition that put them there.
pub type Set = Causal<Scalar>;

fn additions(set: &Set, element: &Scalar) -> Vec<Dot> {
    let each = set.live.iter().filter(|(_, live)| *live == element);
    each.map(|(dot, _)| *dot).collect()
}

/// The change that adds an element.
pub(super) fn add(set: &Set, origin: Origin, element: &Scalar) -> Set {
    let before = additions(set, element);
    set.write(origin, element.clone(), before, Context::default())
}

/// The change that takes one out.
pub(super) fn remove(set: &Set, element: &Scalar) -> Set {
    Set::remove(additions(set, element))
}

/// What a reader sees.
pub(super) fn value(set: &Set) -> BTreeSet<Scalar> {
    set.live.values().cloned().collect()
}
