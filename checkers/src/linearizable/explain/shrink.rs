//! From a history that is not linearizable to a smallest closed sub-history that is not
//! ([`super::closed`]), with a limited number of decisions.
//!
//! 1. Hints first: operations that somebody takes for the proof (the engine's refutation, a known
//!    pattern). All others are left out as far as that is sound, and the engine decides whether what is left
//!    still fails: a wrong hint costs one decision and harms nothing.
//! 2. Else the shortest failing prefix (up to the instant that the engine names, or by bisection);
//!    of it what completed last, twice as much and again until it fails; then chunks are left out, of half the size
//!    each time (Zeller and Hildebrandt's delta debugging, 2002).
//! 3. A prefix makes pending what it cuts: a compare-and-set whose result nobody sees could be shown
//!    with a result that does not fit. So what was found is closed again within the whole history.
//! 4. Last, every single step is tried until none leaves a failing history: that is the core.

use std::borrow::Borrow;

use super::super::engine::{Action, Decision, Engine, Limits, Model, Op, Taken};
use super::closed::{self, Kept};

/// Decisions spent on one explanation, and their work (operations looked at): no limit is a clock, so
/// that the same history always gets the same explanation. Whatever was reached by then is returned.
const DECISIONS_MAX: u32 = 300;
const WORK_MAX: usize = 256_000_000;
/// What a decision costs: as much as so many operations, and each of its operations so often.
const DECISION: usize = 20_000;
const EACH: usize = 8;
/// A search that ran out of its limits costs as much as all of them: after a few, what was reached
/// is good enough.
const UNDECIDED_MAX: u32 = 5;
const LIMITS: Limits = Limits {
    per_key_bytes: Some(8 << 20),
    per_key_configurations: Some(1 << 15),
    ..Limits::NONE
};

/// A hint that leads to more operations than this is none.
const HINTED_MAX: usize = 2_000;
/// The first window at the end of a prefix.
const WINDOW: usize = 8;

/// Shrinks one history.
pub(super) struct Shrinker<'e> {
    engine: &'e dyn Engine,
    model: Model,
    /// All operations, by invocation.
    all: Vec<(usize, &'e Op)>,
    decisions_left: u32,
    work_left: usize,
    undecided: u32,
}

impl<'e> Shrinker<'e> {
    pub(super) fn new(engine: &'e dyn Engine, model: Model, ops: &'e [Op]) -> Self {
        let mut all: Vec<(usize, &Op)> = ops.iter().enumerate().collect();
        all.sort_by_key(|(_, op)| op.call);
        Self {
            engine,
            model,
            all,
            decisions_left: DECISIONS_MAX,
            work_left: WORK_MAX,
            undecided: 0,
        }
    }

    /// The core around these operations (by position), if they are the proof.
    pub(super) fn hinted(&mut self, hint: &[usize]) -> Option<Kept> {
        let closed = self.closed_around(hint);
        if closed.len() > HINTED_MAX || !self.still_fails(&closed) {
            return None;
        }
        Some(self.minimal(closed))
    }

    /// The core, or what of the history was left when the budget was spent. `by`: the instant until
    /// which it fails, if that is known.
    pub(super) fn core(&mut self, by: Option<u64>) -> Kept {
        let prefix = match by.map(|by| until(&self.all, by)) {
            Some(prefix) if self.still_fails(&prefix) => prefix,
            _ => self.shortest_prefix(),
        };
        let window = self.window(prefix);
        let half = window.len().div_ceil(2);
        let found = self.without_chunks(window, half);
        let closed = self.closed_around(&positions(&found));
        if self.still_fails(&closed) {
            self.minimal(closed)
        } else {
            found
        }
    }

    /// All operations but those that can soundly be left out around these.
    fn closed_around(&self, positions: &[usize]) -> Kept {
        let mut drop = vec![true; self.all.len()];
        let mut stays = vec![false; self.all.len()];
        for &position in positions {
            if let Some(stays) = stays.get_mut(position) {
                *stays = true;
            }
        }
        for ((position, _), drop) in self.all.iter().zip(&mut drop) {
            *drop = !stays.get(*position).copied().unwrap_or(false);
        }
        closed::without(self.model, &self.all, &drop)
    }

    fn afford(&mut self, work: usize) -> bool {
        let left = self.work_left.checked_sub(work);
        self.work_left = left.unwrap_or(0);
        left.is_some()
    }

    fn still_fails(&mut self, kept: &Kept) -> bool {
        let Some(left) = self.decisions_left.checked_sub(1) else {
            return false;
        };
        if !self.afford(DECISION + EACH * kept.len()) {
            self.decisions_left = 0;
            return false;
        }
        self.decisions_left = left;
        let ops: Vec<Op> = kept.iter().map(|(_, op)| op.clone()).collect();
        let decision = self.engine.decide(self.model, &ops, &LIMITS);
        if let Decision::Unknown(_) = decision {
            self.undecided += 1;
            if self.undecided == UNDECIDED_MAX {
                self.decisions_left = 0;
            }
        }
        matches!(decision, Decision::NotLinearizable(_))
    }

    /// The shortest failing prefix, by bisection over the completions.
    fn shortest_prefix(&mut self) -> Kept {
        let mut ends: Vec<u64> = self
            .all
            .iter()
            .filter_map(|(_, op)| op.completion)
            .collect();
        ends.sort_unstable();
        // The prefix that ends with the completion `high` fails.
        let (mut low, mut high) = (0, ends.len().saturating_sub(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.still_fails(&until(&self.all, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let Some(&end) = ends.get(high) else {
            return until(&self.all, u64::MAX);
        };
        let prefix = until(&self.all, end);
        if self.still_fails(&prefix) {
            prefix
        } else {
            until(&self.all, u64::MAX)
        }
    }

    /// What completed last of a failing history, as long as it fails.
    fn window(&mut self, kept: Kept) -> Kept {
        let mut ends: Vec<u64> = kept.iter().filter_map(|(_, op)| op.completion).collect();
        ends.sort_unstable();
        let mut size = WINDOW;
        while size < ends.len() && self.afford(kept.len()) {
            let from = ends[ends.len() - size];
            let earlier: Vec<bool> = kept
                .iter()
                .map(|(_, op)| op.completion.is_none_or(|end| end < from))
                .collect();
            let candidate = closed::without(self.model, &kept, &earlier);
            if candidate.len() < kept.len() && self.still_fails(&candidate) {
                return candidate;
            }
            size *= 4;
        }
        kept
    }

    /// Leaves out chunks, halving their size, as long as the rest fails.
    fn without_chunks(&mut self, mut kept: Kept, mut chunk: usize) -> Kept {
        while chunk > 1 {
            let mut from = 0;
            while from < kept.len() && self.afford(kept.len()) {
                let to = (from + chunk).min(kept.len());
                let drop: Vec<bool> = (0..kept.len()).map(|i| (from..to).contains(&i)).collect();
                let drop = match self.model {
                    Model::Lock | Model::FencedLock | Model::Semaphore(_) => drop,
                    _ => closed::with_subjects(&kept, drop),
                };
                let candidate = closed::without(self.model, &kept, &drop);
                if candidate.len() < kept.len() && self.still_fails(&candidate) {
                    kept = candidate;
                } else {
                    from = to;
                }
            }
            chunk /= 2;
        }
        kept
    }

    /// Takes single steps until none leaves a failing history.
    fn minimal(&mut self, mut kept: Kept) -> Kept {
        if kept.len() > 64 {
            let half = kept.len().div_ceil(2);
            kept = self.without_chunks(kept, half);
        }
        let mut shrunk = true;
        while shrunk {
            shrunk = false;
            // From the end: reads depend on writes, not the other way round.
            let mut place = kept.len();
            while place > 0 {
                place = (place - 1).min(kept.len().saturating_sub(1));
                if self.decisions_left == 0 || !self.afford(4 * kept.len()) {
                    return kept;
                }
                let mut tried: Vec<Vec<usize>> = Vec::new();
                for drop in closed::attempts(self.model, &kept, place) {
                    let candidate = closed::without(self.model, &kept, &drop);
                    let places = positions(&candidate);
                    if candidate.len() == kept.len() || tried.contains(&places) {
                        continue;
                    }
                    tried.push(places);
                    if self.still_fails(&candidate) {
                        kept = candidate;
                        shrunk = true;
                        break;
                    }
                }
            }
        }
        kept
    }
}

/// Where in the problem they are.
pub(super) fn positions(kept: &[(usize, Op)]) -> Vec<usize> {
    kept.iter().map(|(i, _)| *i).collect()
}

/// The history as it was just after an instant: what was open then is pending, and pending reads
/// say nothing.
pub(super) fn until<T: Borrow<Op>>(all: &[(usize, T)], end: u64) -> Kept {
    let mut prefix = Kept::new();
    for (i, op) in all.iter().filter(|(_, op)| op.borrow().call < end) {
        let mut op = op.borrow().clone();
        op.completion = op.completion.filter(|&c| c <= end);
        if op.completion.is_none() {
            forget_result(&mut op.action);
        }
        if op.completion.is_some() || !closed::is_passive(&op.action) {
            prefix.push((*i, op));
        }
    }
    prefix
}

/// What a pending operation returned, nobody knows.
fn forget_result(action: &mut Action) {
    match action {
        Action::Dequeue(taken) => *taken = Taken::Unknown,
        Action::AcquireFenced(_, fence) => *fence = None,
        _ => {}
    }
}
