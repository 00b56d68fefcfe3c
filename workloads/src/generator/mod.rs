//! Generators decide what each client thread does next.
//!
//! The combinators are those of `jepsen.generator`: [`pace`] holds a generator back in time,
//! [`combine`] puts several together.
//!
//! A generator that answers [`Next::Wait`] has consumed nothing: asked again at the same time, it
//! answers the same, and asked later, it gives the operation that it would have given.

pub mod combine;
pub mod pace;

pub use combine::{EachThread, Mix, Phases, Reserve};
pub use pace::{Limit, Rate, Spread, Stagger, TimeLimit};

use crate::operation::{Completion, Invocation};

/// What a generator may look at.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// Nanoseconds since the start of the run.
    pub now: u64,
    /// The client threads that are free, ascending. Never empty when a generator is asked.
    pub free: &'a [u32],
    /// Number of client threads in all.
    pub threads: u32,
}

/// A generator's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Issue this now, on this free thread.
    Op {
        /// One of `Context::free`.
        thread: u32,
        /// What to issue.
        invocation: Invocation,
    },
    /// Nothing now; ask again at this time (`u64::MAX`: when a thread becomes free or an
    /// operation completes).
    Wait(u64),
    /// Nothing ever again.
    Exhausted,
}

/// A pure, seeded source of operations. The same seed and the same sequence of calls give the same
/// operations.
pub trait Generator: Send {
    /// What to do next. An `Op` returned is issued; it is not asked for again.
    fn next(&mut self, context: &Context<'_>) -> Next;

    /// An operation completed on this thread.
    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        let _ = (context, thread, invocation, completion);
    }
}

impl<G: Generator + ?Sized> Generator for Box<G> {
    fn next(&mut self, context: &Context<'_>) -> Next {
        (**self).next(context)
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        (**self).completed(context, thread, invocation, completion);
    }
}

impl<G: Generator + ?Sized> Generator for &mut G {
    fn next(&mut self, context: &Context<'_>) -> Next {
        (**self).next(context)
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        (**self).completed(context, thread, invocation, completion);
    }
}

#[cfg(test)]
mod tests;
