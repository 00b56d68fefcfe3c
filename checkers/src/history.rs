//! Events, the history they make up, and the operations paired from them.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::Value;

/// Who issued an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A logical client: strictly sequential, retired after an indeterminate outcome.
    Client(u64),
    /// The fault injector.
    Nemesis,
    /// Anything else a recorded history names.
    Other(Arc<str>),
}

impl Process {
    /// The process a history names so: a whole number is a client.
    pub fn from_name(name: &str) -> Self {
        match name.parse() {
            Ok(n) => Self::Client(n),
            Err(_) if name == "nemesis" => Self::Nemesis,
            Err(_) => Self::Other(name.into()),
        }
    }

    /// Whether it is the fault injector.
    pub fn is_nemesis(&self) -> bool {
        matches!(self, Self::Nemesis)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(n) => write!(f, "{n}"),
            Self::Nemesis => f.write_str("nemesis"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// What an event says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It was issued.
    Invoke,
    /// It took effect.
    Ok,
    /// It certainly did not take effect.
    Fail,
    /// Nobody knows whether it took effect. (Of the nemesis: a remark.)
    Info,
}

impl Kind {
    /// As it is written in every format: `invoke`, `ok`, `fail`, `info`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "invoke" => Some(Self::Invoke),
            "ok" => Some(Self::Ok),
            "fail" => Some(Self::Fail),
            "info" => Some(Self::Info),
            _ => None,
        }
    }
}

/// The function of an operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum F {
    /// Read a key (or everything, without a key).
    Read,
    /// Overwrite a register.
    Write,
    /// Compare and set a register: the value is `[old new]`.
    Cas,
    /// Append an element to a list; reads return the whole list.
    Append,
    /// Add an element to a set; reads return the whole set.
    Add,
    /// Add an amount, which may be negative, to a counter; reads return the sum.
    Increment,
    /// Insert an element into a text after another: the value is `[after new]`, with `nil` for the
    /// beginning; reads return the elements in their order.
    Insert,
    /// Take an element out of a set or a text, or a field out of a map; with `nil`, delete the key.
    Remove,
    /// Set a field of a map: the value is `[field value]`; reads return the map.
    Put,
    /// Append what the store itself comes up with; the value of the invocation says how (`now`,
    /// `random`, `auto-increment`, `trigger`), that of the completion is what it was.
    Generate,
    /// Take the lock of a key, which must be free.
    Acquire,
    /// Give back the lock of a key.
    Release,
    /// Ask one replica for what it holds, whatever its role: without a key a digest of the whole
    /// state, with one the content of that key. Never counts as a read.
    Inspect,
    /// Any other, by name.
    Other(Arc<str>),
}

impl F {
    /// As it is written, e.g. `read`; the other's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Cas => "cas",
            Self::Append => "append",
            Self::Add => "add",
            Self::Increment => "increment",
            Self::Insert => "insert",
            Self::Remove => "remove",
            Self::Put => "put",
            Self::Generate => "generate",
            Self::Acquire => "acquire",
            Self::Release => "release",
            Self::Inspect => "inspect",
            Self::Other(name) => name,
        }
    }

    /// The function of that name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "read" => Self::Read,
            "write" => Self::Write,
            "cas" => Self::Cas,
            "append" => Self::Append,
            "add" => Self::Add,
            "increment" => Self::Increment,
            "insert" => Self::Insert,
            "remove" => Self::Remove,
            "put" => Self::Put,
            "generate" => Self::Generate,
            "acquire" => Self::Acquire,
            "release" => Self::Release,
            "inspect" => Self::Inspect,
            other => Self::Other(other.into()),
        }
    }

    /// Whether it changes a key.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Write
            | Self::Cas
            | Self::Append
            | Self::Add
            | Self::Increment
            | Self::Insert
            | Self::Remove
            | Self::Put
            | Self::Generate
            | Self::Acquire
            | Self::Release => true,
            Self::Read | Self::Inspect | Self::Other(_) => false,
        }
    }
}

/// One line of a history.
///
/// In the canonical form (JSON Lines) `time` is in nanoseconds of the run's own monotonic clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Position in the history, unique and increasing.
    pub index: u64,
    /// Nanoseconds since the start of the run.
    pub time: u64,
    /// Who.
    pub process: Process,
    /// Invocation or completion.
    pub kind: Kind,
    /// Which function.
    pub f: F,
    /// The key, where the operation has one. Never `Some(Nil)`: no format can tell that from none.
    pub key: Option<Value>,
    /// Argument (at the invocation) or result (at the completion).
    pub value: Value,
    /// The node asked (invocation) or the node that answered (completion).
    pub node: Option<Arc<str>>,
    /// The role that the answering node said it had: `leader`, `follower`, …
    pub role: Option<Arc<str>>,
    /// The epoch or term that the answering node said it was in.
    pub epoch: Option<u64>,
    /// Why it failed or is unknown.
    pub error: Option<Arc<str>>,
    /// Fields of a recorded history that have no meaning here, kept for the round trip.
    pub extra: Vec<(Arc<str>, Value)>,
}

impl Event {
    /// An event with its required fields; the optional ones are empty.
    pub fn new(index: u64, time: u64, process: Process, kind: Kind, f: F, value: Value) -> Self {
        Self {
            index,
            time,
            process,
            kind,
            f,
            key: None,
            value,
            node: None,
            role: None,
            epoch: None,
            error: None,
            extra: Vec::new(),
        }
    }
}

/// The ordered record of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// All events, client and nemesis, in the order recorded.
    pub events: Vec<Event>,
}

impl History {
    /// Pairs invocations with completions, in the order of the invocations.
    ///
    /// Events of the nemesis are left out (see [`History::nemesis`]). A process that is neither
    /// the nemesis nor a number counts as a client, save for its lone `info` events: remarks.
    /// An operation without completion, or completed by `info`, stays open for ever.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] names the events that cannot be: indexes that do not increase, a
    /// completion without invocation or of another function, an invocation by a
    /// process that has an operation open.
    pub fn operations(&self) -> Result<Vec<Operation<'_>>, HistoryError> {
        let mut operations: Vec<Operation<'_>> = Vec::with_capacity(self.events.len() / 2 + 1);
        let mut open: FxHashMap<&Process, usize> = FxHashMap::default();
        let mut previous: Option<&Event> = None;
        for (position, event) in self.events.iter().enumerate() {
            if let Some(previous) = previous
                && event.index <= previous.index
            {
                return Err(HistoryError::IndexNotIncreasing {
                    index: event.index,
                    previous: previous.index,
                });
            }
            previous = Some(event);
            if event.process.is_nemesis() {
                continue;
            }
            let outcome = match event.kind {
                Kind::Invoke => {
                    if let Some(&earlier) = open.get(&event.process) {
                        return Err(HistoryError::StillOpen {
                            index: event.index,
                            process: event.process.clone(),
                            open: operations[earlier].invoke.index,
                        });
                    }
                    open.insert(&event.process, operations.len());
                    operations.push(Operation {
                        invoke: event,
                        complete: None,
                        outcome: Outcome::Info,
                        invoked_position: position,
                        completed_position: None,
                    });
                    continue;
                }
                Kind::Ok => Outcome::Ok,
                Kind::Fail => Outcome::Fail,
                Kind::Info => Outcome::Info,
            };
            let Some(at) = open.remove(&event.process) else {
                if event.kind == Kind::Info && matches!(event.process, Process::Other(_)) {
                    continue;
                }
                return Err(HistoryError::NotInvoked {
                    index: event.index,
                    process: event.process.clone(),
                });
            };
            let operation = &mut operations[at];
            if operation.invoke.f != event.f {
                return Err(HistoryError::OtherFunction {
                    index: event.index,
                    process: event.process.clone(),
                    invoked: operation.invoke.f.name().into(),
                    completed: event.f.name().into(),
                });
            }
            if let (Some(asked), Some(answered)) = (&operation.invoke.key, &event.key)
                && asked != answered
            {
                return Err(HistoryError::OtherKey {
                    index: event.index,
                    process: event.process.clone(),
                    invoked: asked.to_string(),
                    completed: answered.to_string(),
                });
            }
            operation.complete = Some(event);
            operation.outcome = outcome;
            operation.completed_position = (outcome != Outcome::Info).then_some(position);
        }
        Ok(operations)
    }

    /// The events of the nemesis: faults injected and healed, phases of the run.
    pub fn nemesis(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|e| e.process.is_nemesis())
    }

    /// Position of the event after which reads are final: the last remark of the nemesis that the
    /// phase `final` begins, after healing and recovery. In a history that marks phases but broke
    /// off before the final one, or whose replicas did not agree, the end: no read is final. `None` if no phase is marked at all.
    pub fn final_phase(&self) -> Option<usize> {
        let phase = |e: &Event| e.process.is_nemesis() && e.f.name() == "phase";
        let last = self.events.iter().rposition(|e| {
            phase(e) && matches!(&e.value, Value::Str(s) | Value::Keyword(s) if &**s == "final")
        });
        last.or_else(|| self.events.iter().any(phase).then_some(self.events.len()))
    }
}

/// Why a history cannot be paired into operations. Events are named by their `index`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
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

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Took effect.
    Ok,
    /// Certainly did not.
    Fail,
    /// Unknown, including: no completion was recorded.
    Info,
}

/// An invocation paired with its completion. Borrowed from the history.
///
/// Which of two operations was first is decided by their positions in the history, which is the
/// order recorded and has no ties; times are for figures.
#[derive(Clone, Debug)]
pub struct Operation<'a> {
    /// The invocation.
    pub invoke: &'a Event,
    /// The completion, if one was recorded (of any kind, `info` included).
    pub complete: Option<&'a Event>,
    /// How it ended.
    pub outcome: Outcome,
    /// Position of the invocation in the history's events.
    pub invoked_position: usize,
    /// Position of the completion; `None` if the operation is open for ever.
    pub completed_position: Option<usize>,
}

impl<'a> Operation<'a> {
    /// Who issued it.
    pub fn process(&self) -> &'a Process {
        &self.invoke.process
    }

    /// Its function.
    pub fn f(&self) -> &'a F {
        &self.invoke.f
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&'a Value> {
        let completed = self.complete.and_then(|e| e.key.as_ref());
        self.invoke.key.as_ref().or(completed)
    }

    /// The argument it was invoked with.
    pub fn argument(&self) -> &'a Value {
        &self.invoke.value
    }

    /// The result, if it is known to have succeeded.
    pub fn result(&self) -> Option<&'a Value> {
        match self.outcome {
            Outcome::Ok => self.complete.map(|e| &e.value),
            Outcome::Fail | Outcome::Info => None,
        }
    }

    /// When it was invoked, ns.
    pub fn invoked_at(&self) -> u64 {
        self.invoke.time
    }

    /// When it ended, ns; `None` for an operation that is open for ever.
    pub fn completed_at(&self) -> Option<u64> {
        self.completed_position.and(self.complete).map(|e| e.time)
    }

    /// Whether it is known to have taken effect.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// The node that answered.
    pub fn node(&self) -> Option<&'a Arc<str>> {
        self.complete.and_then(|e| e.node.as_ref())
    }

    /// The role that the answering node said it had.
    pub fn role(&self) -> Option<&'a Arc<str>> {
        self.complete.and_then(|e| e.role.as_ref())
    }

    /// The epoch or term that the answering node said it was in.
    pub fn epoch(&self) -> Option<u64> {
        self.complete.and_then(|e| e.epoch)
    }

    /// Whether it ended before the other began.
    pub fn precedes(&self, other: &Operation<'_>) -> bool {
        self.completed_position
            .is_some_and(|p| p < other.invoked_position)
    }
}

#[cfg(test)]
mod tests;
