//! Why a key is not linearizable: the smallest closed sub-history that is not, and what it says.
//!
//! * [`closed`]: what may be left out such that what is left proves something about the whole.
//! * [`pattern`]: violations that are plain to see.
//! * [`shrink`]: the search for the core.
//! * [`sentence`]: the core in words.

use super::encode::Problem;
use super::engine::{Engine, Refutation};

mod closed;
mod pattern;
pub(super) mod sentence;
mod shrink;

use shrink::{Shrinker, positions};

/// The positions (in the problem) of the few operations that cannot be ordered, where the engine or
/// a pattern points at them. Takes time linear in the problem.
pub(super) fn direct(
    engine: &dyn Engine,
    problem: &Problem,
    refutation: &Refutation,
) -> Option<Vec<usize>> {
    let mut hints = pattern::hints(problem.model, &problem.ops);
    hints.push(refutation.core.clone());
    hints.retain(|hint| !hint.is_empty());
    if hints.is_empty() {
        return None;
    }
    let mut shrinker = Shrinker::new(engine, problem.model, &problem.ops);
    let core = hints.iter().find_map(|hint| shrinker.hinted(hint))?;
    Some(positions(&core))
}

/// The positions (in the problem) of operations that already cannot be ordered: all of them if the
/// budget does not even find out that.
pub(super) fn explain(
    engine: &dyn Engine,
    problem: &Problem,
    refutation: &Refutation,
) -> Vec<usize> {
    let mut shrinker = Shrinker::new(engine, problem.model, &problem.ops);
    positions(&shrinker.core(refutation.by))
}

#[cfg(test)]
mod tests;
