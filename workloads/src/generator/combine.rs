//! Combinators that put generators together: mix, phases, reserve, each thread.

use std::collections::VecDeque;
use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// Draws each operation from one of several generators, with weights.
///
/// All of them hear of every completion, since an operation does not say who generated it.
pub struct Mix {
    parts: Vec<(u32, Box<dyn Generator>)>,
    random: Pcg64Mcg,
    /// Drawn, but not yet answered with an operation.
    chosen: Option<usize>,
}

impl Mix {
    /// Weights and generators; one of weight 0 is never asked.
    pub fn new(parts: Vec<(u32, Box<dyn Generator>)>, seed: u64) -> Self {
        Self {
            parts: parts
                .into_iter()
                .filter(|(weight, _)| *weight > 0)
                .collect(),
            random: Pcg64Mcg::seed_from_u64(seed),
            chosen: None,
        }
    }

    fn draw(&mut self) -> usize {
        let total: u64 = self
            .parts
            .iter()
            .map(|(weight, _)| u64::from(*weight))
            .sum();
        let mut ticket = self.random.random_range(0..total);
        for (place, (weight, _)) in self.parts.iter().enumerate() {
            if ticket < u64::from(*weight) {
                return place;
            }
            ticket -= u64::from(*weight);
        }
        unreachable!("the ticket is below the sum of the weights")
    }
}

impl Generator for Mix {
    fn next(&mut self, context: &Context<'_>) -> Next {
        while !self.parts.is_empty() {
            let chosen = match self.chosen {
                Some(chosen) => chosen,
                None => self.draw(),
            };
            match self.parts[chosen].1.next(context) {
                Next::Exhausted => {
                    self.parts.remove(chosen);
                    self.chosen = None;
                }
                Next::Wait(until) => {
                    self.chosen = Some(chosen);
                    return Next::Wait(until);
                }
                op @ Next::Op { .. } => {
                    self.chosen = None;
                    return op;
                }
            }
        }
        Next::Exhausted
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        for (_, part) in &mut self.parts {
            part.completed(context, thread, invocation, completion);
        }
    }
}

/// One generator after the other. The next begins when the one before is exhausted and no
/// operation is under way on any thread.
pub struct Phases {
    phases: VecDeque<Box<dyn Generator>>,
    /// Whether the first of `phases` has ended and is only waiting for its operations.
    draining: bool,
}

impl Phases {
    /// In this order.
    pub fn new(phases: Vec<Box<dyn Generator>>) -> Self {
        Self {
            phases: phases.into(),
            draining: false,
        }
    }

    /// This one, then the main one's operations having ended, that one.
    pub fn then(first: impl Generator + 'static, second: impl Generator + 'static) -> Self {
        Self::new(vec![Box::new(first), Box::new(second)])
    }
}

impl Generator for Phases {
    fn next(&mut self, context: &Context<'_>) -> Next {
        while let Some(phase) = self.phases.front_mut() {
            if !self.draining {
                match phase.next(context) {
                    Next::Exhausted => self.draining = true,
                    next => return next,
                }
            }
            if self.phases.len() > 1 && context.free.len() < context.threads as usize {
                return Next::Wait(u64::MAX);
            }
            self.phases.pop_front();
            self.draining = false;
        }
        Next::Exhausted
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        if let Some(phase) = self.phases.front_mut() {
            phase.completed(context, thread, invocation, completion);
        }
    }
}

/// Gives ranges of threads to generators of their own, and the rest to another.
pub struct Reserve {
    parts: Vec<(Range<u32>, Box<dyn Generator>)>,
}

impl Reserve {
    /// The first so many threads to the first generator, and so on; what is left to `rest`.
    pub fn new(parts: Vec<(u32, Box<dyn Generator>)>, rest: Box<dyn Generator>) -> Self {
        let mut first = 0_u32;
        let mut ranges = Vec::new();
        for (threads, generator) in parts {
            let end = first.saturating_add(threads);
            ranges.push((first..end, generator));
            first = end;
        }
        ranges.push((first..u32::MAX, rest));
        Self { parts: ranges }
    }
}

impl Generator for Reserve {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let parts = self.parts.iter_mut();
        first_of(context, parts.map(|(range, part)| (range.clone(), part)))
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        let owner = self
            .parts
            .iter_mut()
            .find(|(range, _)| range.contains(&thread));
        if let Some((range, part)) = owner {
            let free = within(context.free, range);
            let context = narrowed(context, free, range);
            part.completed(&context, thread, invocation, completion);
        }
    }
}

/// Gives every thread a generator of its own.
pub struct EachThread {
    make: Box<dyn FnMut(u32) -> Box<dyn Generator> + Send>,
    parts: Vec<Box<dyn Generator>>,
}

impl EachThread {
    /// `make` is called once a thread, ascending.
    pub fn new(make: impl FnMut(u32) -> Box<dyn Generator> + Send + 'static) -> Self {
        Self {
            make: Box::new(make),
            parts: Vec::new(),
        }
    }
}

impl Generator for EachThread {
    fn next(&mut self, context: &Context<'_>) -> Next {
        while self.parts.len() < context.threads as usize {
            self.parts.push((self.make)(self.parts.len() as u32));
        }
        let parts = (0..).zip(self.parts.iter_mut());
        first_of(
            context,
            parts.map(|(thread, part)| (thread..thread + 1, part)),
        )
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        if let Some(part) = self.parts.get_mut(thread as usize) {
            let range = thread..thread + 1;
            let free = within(context.free, &range);
            part.completed(
                &narrowed(context, free, &range),
                thread,
                invocation,
                completion,
            );
        }
    }
}

/// The first operation that any of the parts has for its threads.
fn first_of<'a>(
    context: &Context<'_>,
    parts: impl Iterator<Item = (Range<u32>, &'a mut Box<dyn Generator>)>,
) -> Next {
    let mut wait = None;
    for (range, part) in parts {
        let free = within(context.free, &range);
        if range.start >= context.threads {
            continue; // None of its threads exists.
        }
        if free.is_empty() {
            // It may have more to do when one of its threads is free.
            wait = Some(wait.unwrap_or(u64::MAX));
            continue;
        }
        match part.next(&narrowed(context, free, &range)) {
            Next::Exhausted => {}
            Next::Wait(until) => wait = Some(wait.unwrap_or(u64::MAX).min(until)),
            op @ Next::Op { .. } => return op,
        }
    }
    wait.map_or(Next::Exhausted, Next::Wait)
}

/// The part of the free threads (ascending) that lies within a range.
fn within<'a>(free: &'a [u32], range: &Range<u32>) -> &'a [u32] {
    let start = free.partition_point(|&thread| thread < range.start);
    let end = free.partition_point(|&thread| thread < range.end);
    &free[start..end]
}

fn narrowed<'a>(context: &Context<'_>, free: &'a [u32], range: &Range<u32>) -> Context<'a> {
    Context {
        now: context.now,
        free,
        threads: range.end.min(context.threads).saturating_sub(range.start),
    }
}
