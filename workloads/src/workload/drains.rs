//! The last phase of a run on queues: after everything is healed, all that is left is taken out.
//!
//! First all threads dequeue from each queue, one element an operation, until one of them sees it
//! empty: an operation that ends unknown costs the verdict one element so, and not all that a drain
//! may have taken. Then every thread drains every queue: what was on its way to a client that is no
//! more, or is kept by a replica that others know nothing of, turns up there.

use std::collections::{BTreeMap, VecDeque};

use checkers::{F, Outcome, Value};

use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// How often a thread drains a queue at most, and how many dequeues from one may come to nothing in
/// a row.
const ATTEMPTS: u32 = 20;

/// Pause before a queue is asked again, in nanoseconds.
const PAUSE_NS: u64 = 250_000_000;

/// Empties queues. Exhausted when every thread has drained each of them, or tried often enough.
#[derive(Debug)]
pub struct Drains {
    nodes: u16,
    /// Queues not seen empty yet.
    queues: VecDeque<Queue>,
    /// What each thread has to drain; made when all queues have been seen empty.
    left: BTreeMap<u32, VecDeque<Drain>>,
    all: Vec<Value>,
    under_way: BTreeMap<u32, Drain>,
    dequeues: u32,
    draining: bool,
    given_up: u32,
}

#[derive(Debug)]
struct Queue {
    key: Value,
    failures: u32,
    not_before: u64,
}

#[derive(Clone, Debug)]
struct Drain {
    key: Value,
    attempts: u32,
    not_before: u64,
}

impl Drains {
    /// Of these queues. Thread 0 asks node 1, thread 1 node 2 and so on, over so many nodes.
    pub fn new(keys: Vec<Value>, nodes: u16) -> Self {
        let queue = |key| Queue {
            key,
            failures: 0,
            not_before: 0,
        };
        Self {
            nodes: nodes.max(1),
            all: keys.clone(),
            queues: keys.into_iter().map(queue).collect(),
            left: BTreeMap::new(),
            under_way: BTreeMap::new(),
            dequeues: 0,
            draining: false,
            given_up: 0,
        }
    }

    /// How many drains failed too often.
    pub fn given_up(&self) -> u32 {
        self.given_up
    }

    fn ask(&self, thread: u32, f: &str, key: Value) -> Next {
        let node = (thread % u32::from(self.nodes)) as u16 + 1;
        let invocation = Invocation {
            node: Some(node),
            ..Invocation::new(F::from_name(f), Some(key), Value::Nil)
        };
        Next::Op { thread, invocation }
    }

    fn dequeue(&mut self, context: &Context<'_>) -> Next {
        let later = |queue: &Queue| queue.not_before > context.now;
        let Some(place) = self.queues.iter().position(|queue| !later(queue)) else {
            let times = self.queues.iter().map(|queue| queue.not_before);
            return Next::Wait(times.min().unwrap_or(u64::MAX));
        };
        let (Some(&thread), Some(queue)) = (context.free.first(), self.queues.remove(place)) else {
            return Next::Wait(u64::MAX);
        };
        // Threads take turns with the queues.
        let key = queue.key.clone();
        self.queues.push_back(queue);
        self.dequeues += 1;
        self.ask(thread, "dequeue", key)
    }

    fn drain(&mut self, context: &Context<'_>) -> Next {
        let mut wake = u64::MAX;
        for &thread in context.free {
            let Some(first) = self.left.get(&thread).and_then(VecDeque::front) else {
                continue;
            };
            if first.not_before > context.now {
                wake = wake.min(first.not_before);
                continue;
            }
            let Some(drain) = self.left.get_mut(&thread).and_then(VecDeque::pop_front) else {
                continue;
            };
            let key = drain.key.clone();
            self.under_way.insert(thread, drain);
            return self.ask(thread, "drain", key);
        }
        let left = self.left.values().any(|drains| !drains.is_empty());
        if left || !self.under_way.is_empty() {
            Next::Wait(wake)
        } else {
            Next::Exhausted
        }
    }

    fn dequeued(&mut self, context: &Context<'_>, key: &Value, completion: &Completion) {
        self.dequeues = self.dequeues.saturating_sub(1);
        let Some(place) = self.queues.iter().position(|queue| queue.key == *key) else {
            return;
        };
        let queue = &mut self.queues[place];
        let empty = match completion.outcome {
            Outcome::Ok if completion.value.is_nil() => true,
            Outcome::Ok => {
                queue.failures = 0;
                false
            }
            Outcome::Fail => {
                let error = completion.error.as_deref().unwrap_or_default();
                error.contains("empty") || error.contains("exhausted")
            }
            Outcome::Info => false,
        };
        if !empty && completion.outcome != Outcome::Ok {
            queue.failures += 1;
            queue.not_before = context.now.saturating_add(PAUSE_NS);
        }
        if empty || queue.failures >= ATTEMPTS {
            self.queues.remove(place);
        }
    }

    fn drained(&mut self, context: &Context<'_>, thread: u32, completion: &Completion) {
        let Some(mut drain) = self.under_way.remove(&thread) else {
            return;
        };
        if completion.outcome == Outcome::Ok {
            return;
        }
        drain.attempts += 1;
        if drain.attempts >= ATTEMPTS {
            self.given_up += 1;
            return;
        }
        drain.not_before = context.now.saturating_add(PAUSE_NS);
        self.left.entry(thread).or_default().push_back(drain);
    }
}

impl Generator for Drains {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if !self.queues.is_empty() {
            return self.dequeue(context);
        }
        if self.dequeues > 0 {
            return Next::Wait(u64::MAX);
        }
        if !self.draining {
            self.draining = true;
            let drain = |key: &Value| Drain {
                key: key.clone(),
                attempts: 0,
                not_before: 0,
            };
            let all: VecDeque<Drain> = self.all.iter().map(drain).collect();
            self.left = (0..context.threads).map(|t| (t, all.clone())).collect();
        }
        self.drain(context)
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        match (invocation.f.name(), &invocation.key) {
            ("dequeue", Some(key)) => self.dequeued(context, key, completion),
            ("drain", _) => self.drained(context, thread, completion),
            _ => {}
        }
    }
}
