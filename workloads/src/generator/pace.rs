//! Combinators that hold a generator back: stagger, rate, limits.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// How gaps between operations are distributed around their mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Between nothing and twice the mean, as Jepsen's `stagger`.
    Uniform,
    /// As independent clients arrive (a Poisson process).
    Exponential,
}

/// When the operation after one that was due, and issued now, is due.
///
/// An event loop wakes a little late each time: up to [`BEHIND`] mean gaps, or [`LATE_NS`], are
/// made up for, so that the rate holds. Load beyond that, which could not be issued because every
/// thread was waiting, is dropped, not made up for in a burst.
fn next_due(due: u64, now: u64, mean: u64, gap: u64) -> u64 {
    let behind = mean.saturating_mul(BEHIND).max(LATE_NS);
    due.max(now.saturating_sub(behind)).saturating_add(gap)
}

/// How many mean gaps a generator may be behind its pace.
const BEHIND: u64 = 10;

/// How late an event loop may be, in nanoseconds, at any pace.
const LATE_NS: u64 = 10_000_000;

/// Leaves a random gap between operations, over all threads.
pub struct Stagger<G> {
    inner: G,
    mean: f64,
    spread: Spread,
    random: Pcg64Mcg,
    due: u64,
}

impl<G: Generator> Stagger<G> {
    /// Gaps of this many nanoseconds on average.
    pub fn new(inner: G, mean: u64, spread: Spread, seed: u64) -> Self {
        Self {
            inner,
            mean: mean as f64,
            spread,
            random: Pcg64Mcg::seed_from_u64(seed),
            due: 0,
        }
    }

    fn gap(&mut self) -> u64 {
        // In (0, 1]: its logarithm is finite.
        let unit = 1.0 - self.random.random::<f64>();
        let gap = match self.spread {
            Spread::Uniform => self.mean * 2.0 * unit,
            Spread::Exponential => -self.mean * unit.ln(),
        };
        gap as u64
    }
}

impl<G: Generator> Generator for Stagger<G> {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if context.now < self.due {
            return Next::Wait(self.due);
        }
        let next = self.inner.next(context);
        if matches!(next, Next::Op { .. }) {
            let gap = self.gap();
            self.due = next_due(self.due, context.now, self.mean as u64, gap);
        }
        next
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        self.inner
            .completed(context, thread, invocation, completion);
    }
}

/// Issues at most so many operations a second, evenly, over all threads.
pub struct Rate<G> {
    inner: G,
    gap: u64,
    due: u64,
}

impl<G: Generator> Rate<G> {
    /// So many operations a second; a rate that is not above zero is no limit.
    pub fn new(inner: G, hz: f64) -> Self {
        let gap = if hz > 0.0 { (1e9 / hz) as u64 } else { 0 };
        Self { inner, gap, due: 0 }
    }
}

impl<G: Generator> Generator for Rate<G> {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if context.now < self.due {
            return Next::Wait(self.due);
        }
        let next = self.inner.next(context);
        if matches!(next, Next::Op { .. }) {
            self.due = next_due(self.due, context.now, self.gap, self.gap);
        }
        next
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        self.inner
            .completed(context, thread, invocation, completion);
    }
}

/// Ends some time after it was first asked.
pub struct TimeLimit<G> {
    inner: G,
    length: u64,
    end: Option<u64>,
}

impl<G: Generator> TimeLimit<G> {
    /// So many nanoseconds, from the first time it is asked.
    pub fn new(inner: G, length: u64) -> Self {
        Self {
            inner,
            length,
            end: None,
        }
    }
}

impl<G: Generator> Generator for TimeLimit<G> {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let end = *self
            .end
            .get_or_insert(context.now.saturating_add(self.length));
        if context.now >= end {
            return Next::Exhausted;
        }
        match self.inner.next(context) {
            Next::Wait(until) => Next::Wait(until.min(end)),
            next => next,
        }
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        self.inner
            .completed(context, thread, invocation, completion);
    }
}

/// Ends after so many operations.
pub struct Limit<G> {
    inner: G,
    left: u64,
}

impl<G: Generator> Limit<G> {
    /// At most so many operations.
    pub fn new(inner: G, operations: u64) -> Self {
        Self {
            inner,
            left: operations,
        }
    }
}

impl<G: Generator> Generator for Limit<G> {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if self.left == 0 {
            return Next::Exhausted;
        }
        let next = self.inner.next(context);
        if matches!(next, Next::Op { .. }) {
            self.left -= 1;
        }
        next
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        self.inner
            .completed(context, thread, invocation, completion);
    }
}
