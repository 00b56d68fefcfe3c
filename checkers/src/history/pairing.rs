//! Which completion belongs to which invocation.

use rustc_hash::FxHashMap;

use super::{Event, Kind, Operation, Outcome, Process};

/// No position: an operation that never completed, a process that has nothing open.
const NONE: u32 = u32::MAX;

/// The operations of a history, in the order of their invocations. 8 bytes each.
#[derive(Clone, Debug)]
pub struct Paired<'a> {
    events: &'a [Event],
    /// Positions of invocation and completion.
    spans: Vec<(u32, u32)>,
}

impl<'a> Paired<'a> {
    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The operation whose invocation is the n-th, from 0.
    pub fn get(&self, n: usize) -> Option<Operation<'a>> {
        self.spans.get(n).map(|&span| self.operation(span))
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Operation<'a>> + '_ {
        self.spans.iter().map(|&span| self.operation(span))
    }

    fn operation(&self, (invoked, completed): (u32, u32)) -> Operation<'a> {
        let complete = self.events.get(completed as usize);
        let outcome = match complete.map(|event| event.kind) {
            Some(Kind::Ok) => Outcome::Ok,
            Some(Kind::Fail) => Outcome::Fail,
            Some(Kind::Info | Kind::Invoke) | None => Outcome::Info,
        };
        Operation {
            invoke: &self.events[invoked as usize],
            complete,
            outcome,
            invoked_position: invoked as usize,
            completed_position: (outcome != Outcome::Info).then_some(completed as usize),
        }
    }
}

/// The operation that each process has open.
struct Open<'a> {
    /// Of clients with small numbers, which nearly all are.
    small: Vec<u32>,
    small_max: u64,
    others: FxHashMap<&'a Process, u32>,
}

impl<'a> Open<'a> {
    /// Numbers beyond that of the events need not be small, and would make the table longer than
    /// the history.
    fn new(events: usize) -> Self {
        Self {
            small: Vec::new(),
            small_max: events as u64 + 64,
            others: FxHashMap::default(),
        }
    }

    fn slot(&mut self, process: &'a Process) -> &mut u32 {
        match process {
            Process::Client(n) if *n < self.small_max => {
                let n = *n as usize;
                if n >= self.small.len() {
                    self.small.resize(n + 1, NONE);
                }
                &mut self.small[n]
            }
            other => self.others.entry(other).or_insert(NONE),
        }
    }
}

pub(super) fn pair(events: &[Event]) -> Result<Paired<'_>, HistoryError> {
    if events.len() >= NONE as usize {
        let events = events.len();
        return Err(HistoryError::TooLong { events });
    }
    let mut spans: Vec<(u32, u32)> = Vec::with_capacity(events.len() / 2 + 1);
    let mut open = Open::new(events.len());
    let mut previous = None;
    for (position, event) in (0..).zip(events) {
        if let Some(previous) = previous.replace(event.index)
            && event.index <= previous
        {
            return Err(HistoryError::IndexNotIncreasing {
                index: event.index,
                previous,
            });
        }
        if event.process.is_nemesis() {
            continue;
        }
        let slot = open.slot(&event.process);
        if event.kind == Kind::Invoke {
            if *slot != NONE {
                let (earlier, _) = spans[*slot as usize];
                return Err(HistoryError::StillOpen {
                    index: event.index,
                    process: event.process.clone(),
                    open: events[earlier as usize].index,
                });
            }
            *slot = spans.len() as u32;
            spans.push((position, NONE));
            continue;
        }
        let at = std::mem::replace(slot, NONE);
        if at == NONE {
            if event.kind == Kind::Info && matches!(event.process, Process::Other(_)) {
                continue;
            }
            return Err(HistoryError::NotInvoked {
                index: event.index,
                process: event.process.clone(),
            });
        }
        let (invoked, completed) = &mut spans[at as usize];
        let invoke = &events[*invoked as usize];
        if invoke.f != event.f {
            return Err(HistoryError::OtherFunction {
                index: event.index,
                process: event.process.clone(),
                invoked: invoke.f.name().into(),
                completed: event.f.name().into(),
            });
        }
        if let (Some(asked), Some(answered)) = (&invoke.key, &event.key)
            && asked != answered
        {
            return Err(HistoryError::OtherKey {
                index: event.index,
                process: event.process.clone(),
                invoked: asked.to_string(),
                completed: answered.to_string(),
            });
        }
        *completed = position;
    }
    Ok(Paired { events, spans })
}

/// Why a history cannot be paired into operations. Events are named by their `index`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Positions are kept in 32 bits.
    #[error("{events} events are more than can be judged at once: {}", u32::MAX - 1)]
    TooLong {
        /// How many there are.
        events: usize,
    },
    /// Indexes must increase.
    #[error("event {index}: comes after event {previous}, but indexes must increase")]
    IndexNotIncreasing {
        /// The later event.
        index: u64,
        /// The one recorded before it.
        previous: u64,
    },
    /// A client is sequential.
    #[error(
        "event {index}: process {process} invokes while its operation of event {open} is still open"
    )]
    StillOpen {
        /// The second invocation.
        index: u64,
        /// Who.
        process: Process,
        /// The first invocation.
        open: u64,
    },
    /// A completion needs an invocation.
    #[error("event {index}: process {process} completes an operation that it has not invoked")]
    NotInvoked {
        /// The completion.
        index: u64,
        /// Who.
        process: Process,
    },
    /// A completion is of the operation invoked.
    #[error("event {index}: process {process} completes `{completed}` but had invoked `{invoked}`")]
    OtherFunction {
        /// The completion.
        index: u64,
        /// Who.
        process: Process,
        /// The function invoked.
        invoked: String,
        /// The function completed.
        completed: String,
    },
    /// A completion is of the key asked for.
    #[error(
        "event {index}: process {process} completes on key {completed} but had invoked on key {invoked}"
    )]
    OtherKey {
        /// The completion.
        index: u64,
        /// Who.
        process: Process,
        /// The key invoked.
        invoked: String,
        /// The key completed.
        completed: String,
    },
}
