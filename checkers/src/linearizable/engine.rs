//! What decides whether the operations on one key are linearizable.
//!
//! Linearizability (Herlihy and Wing, 1990): every operation takes effect at one instant between
//! its invocation and its completion; one that never completed takes effect at any instant after
//! its invocation, or never.

use std::sync::Arc;
use std::time::Duration;

use budget::Totals;

pub mod auto;
pub mod brute_force;
pub mod budget;
pub mod jit;
mod models;
pub mod monitors;
pub mod porcupine;
pub mod specification;
pub mod witness;
pub mod zones;

/// A value of a key, numbered; [`NIL`] is the value of a register that was never written.
pub type Id = u32;

/// The initial value of a register.
pub const NIL: Id = 0;

/// A sequential specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Read, write, compare-and-set; initially [`NIL`].
    Register,
    /// Append; reads return all elements in order; initially empty.
    List,
    /// Add, remove, contains; reads return all elements; initially empty.
    Set,
    /// Put, append to the text, get; initially `""` (Porcupine's KV).
    Text,
    /// Put and remove of fields; reads return all fields with their values; initially empty.
    Map,
    /// First in, first out; initially empty.
    Queue,
    /// Last in, first out; initially empty.
    Stack,
    /// The smallest value comes out first ([`Id`]s are numbered in the order of the values);
    /// initially empty.
    PriorityQueue,
    /// Increments; reads return the sum; initially 0.
    Counter,
    /// Held by one owner at most, not reentrant; only its owner releases it; initially free.
    Lock,
    /// A lock whose acquisitions return fences: each greater than all that were given out before.
    FencedLock,
    /// As many permits as said here; only an owner that holds one releases one.
    Semaphore(u32),
}

impl Model {
    /// The names of the models, as the command line takes them; of a semaphore with its permits.
    pub const NAMES: [&str; 12] = [
        "register",
        "list",
        "set",
        "text",
        "map",
        "queue",
        "stack",
        "priority-queue",
        "counter",
        "lock",
        "fenced-lock",
        "semaphore=N",
    ];

    /// The model of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "register" => Self::Register,
            "list" => Self::List,
            "set" => Self::Set,
            "text" => Self::Text,
            "map" => Self::Map,
            "queue" => Self::Queue,
            "stack" => Self::Stack,
            "priority-queue" => Self::PriorityQueue,
            "counter" => Self::Counter,
            "lock" => Self::Lock,
            "fenced-lock" => Self::FencedLock,
            other => Self::Semaphore(other.strip_prefix("semaphore=")?.parse().ok()?),
        })
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::Semaphore(permits) => format!("semaphore={permits}"),
            Self::Register => "register".to_owned(),
            Self::List => "list".to_owned(),
            Self::Set => "set".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Map => "map".to_owned(),
            Self::Queue => "queue".to_owned(),
            Self::Stack => "stack".to_owned(),
            Self::PriorityQueue => "priority-queue".to_owned(),
            Self::Counter => "counter".to_owned(),
            Self::Lock => "lock".to_owned(),
            Self::FencedLock => "fenced-lock".to_owned(),
        }
    }
}

/// What came out of a queue, stack or priority queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// This value.
    Value(Id),
    /// It was empty.
    Empty,
    /// Nobody knows: of a pending operation only.
    Unknown,
}

/// What an operation did and, if it was to return something, what it returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A register was read and held this.
    Read(Id),
    /// A register was overwritten.
    Write(Id),
    /// A register held the first and was set to the second. (Of a pending one: if it did.)
    Cas(Id, Id),
    /// A register did not hold this.
    CasRefused(Id),
    /// An element was appended.
    Append(Id),
    /// An element was added; that it was there already does not matter.
    Add(Id),
    /// An element was taken out; that it was not there does not matter.
    Remove(Id),
    /// Whether a set held this element.
    Contains(Id, bool),
    /// A list held these, in this order.
    ReadList(Arc<[Id]>),
    /// A set held these: ascending, each once.
    ReadSet(Arc<[Id]>),
    /// A text was replaced.
    Put(Arc<str>),
    /// A text was appended to.
    AppendText(Arc<str>),
    /// A text was read.
    Get(Arc<str>),
    /// A field (the first) of a map was set to a value (the second).
    PutField(Id, Id),
    /// A field of a map was taken out; that it was not there does not matter.
    RemoveField(Id),
    /// A map held these fields with these values: ascending by field, each once.
    ReadMap(Arc<[(Id, Id)]>),
    /// Something was put into a queue, stack or priority queue.
    Enqueue(Id),
    /// Something was taken out of a queue, stack or priority queue.
    Dequeue(Taken),
    /// A counter was changed by this.
    Increment(i64),
    /// A counter was read and held this.
    ReadCounter(i64),
    /// A lock, or a permit of a semaphore, was acquired by this owner.
    Acquire(Id),
    /// A fenced lock was acquired by this owner with this fence; `None` of a pending one.
    AcquireFenced(Id, Option<i64>),
    /// A lock, or a permit of a semaphore, was given back by this owner.
    Release(Id),
}

/// One operation on the key. Instants are positions in the history: no two are equal.
#[derive(Clone, Debug)]
pub struct Op {
    /// When it was invoked.
    pub call: u64,
    /// When it completed; `None` if never: it may have taken effect or not.
    pub completion: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// How much a decision may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time for one key; `None` is unlimited.
    pub per_key: Option<Duration>,
    /// Memory for the states that the search remembers of one key, in bytes; `None` is unlimited.
    pub per_key_bytes: Option<u64>,
    /// Configurations that the search may visit for one key; `None` is unlimited. The only limit
    /// that is the same on every machine.
    pub per_key_configurations: Option<u64>,
    /// Wall-clock time for all keys of one check; `None` is unlimited.
    pub total: Option<Duration>,
    /// Memory for the searches of all keys that run at the same time, in bytes.
    pub total_bytes: Option<u64>,
    /// Configurations that may be visited for all keys together.
    pub total_configurations: Option<u64>,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        per_key: None,
        per_key_bytes: None,
        per_key_configurations: None,
        total: None,
        total_bytes: None,
        total_configurations: None,
    };

    /// The same with at most so many configurations for one key.
    #[must_use]
    pub fn with_configurations(self, most: u64) -> Self {
        let per_key_configurations = Some(
            self.per_key_configurations
                .map_or(most, |limit| limit.min(most)),
        );
        Self {
            per_key_configurations,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_key: Some(Duration::from_secs(30)),
            per_key_bytes: Some(1 << 30),
            total_bytes: Some(4 << 30),
            ..Self::NONE
        }
    }
}

/// What an engine found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is an order that explains every result.
    Linearizable,
    /// There is none.
    NotLinearizable(Refutation),
    /// Neither could be shown.
    Unknown(Undecided),
}

impl Decision {
    /// That there is no order, without a word on why.
    pub fn not_linearizable() -> Self {
        Self::NotLinearizable(Refutation::default())
    }

    /// That nothing could be shown, for this reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let reached = None;
        let remedy = None;
        Self::Unknown(Undecided {
            reason,
            reached,
            open: 0,
            remedy,
        })
    }

    /// Whether there is an order, if that was decided.
    pub fn is_linearizable(&self) -> Option<bool> {
        match self {
            Self::Linearizable => Some(true),
            Self::NotLinearizable(_) => Some(false),
            Self::Unknown(_) => None,
        }
    }
}

/// What an engine knows of why there is no order: a help for whoever explains it, who has to check
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refutation {
    /// Operations, by position, that cannot be ordered even if all others are left out; empty if
    /// the engine cannot tell.
    pub core: Vec<usize>,
    /// What had completed up to this instant (and what was invoked by then) cannot be ordered. Not
    /// always the first such instant.
    pub by: Option<u64>,
}

/// Why an engine could not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The limit that was reached, or what does not fit: `budget: 30 s`.
    pub reason: String,
    /// The operation, by position, that the search had reached.
    pub reached: Option<usize>,
    /// How many operations were open there; 0 if nobody counted.
    pub open: usize,
    /// What would decide it, in a few words: `a limit of 5 min`.
    pub remedy: Option<String>,
}

/// Decides linearizability of the operations on one key.
pub trait Engine: Send + Sync {
    /// Decides; operations may come in any order. An operation that does not belong to the model
    /// makes the decision unknown.
    fn decide(&self, model: Model, ops: &[Op], limits: &Limits) -> Decision;

    /// Decides one key of several, which share the limits in all. An engine that counts nothing
    /// ignores those.
    fn decide_within(
        &self,
        model: Model,
        ops: &[Op],
        limits: &Limits,
        totals: Option<&Totals>,
    ) -> Decision {
        let _ = totals;
        self.decide(model, ops, limits)
    }

    /// Whether registers with unique values are decided by [`zones`], so that a history of nothing
    /// else needs no operations at all.
    fn uses_zones(&self) -> bool {
        false
    }
}

/// The names of the engines, as the command line takes them.
pub const NAMES: [&str; 4] = ["auto", "zones", "jit", "porcupine"];

/// The engine of that name.
pub fn by_name(name: &str) -> Option<Box<dyn Engine>> {
    Some(match name {
        "auto" => Box::new(auto::Auto),
        "zones" => Box::new(zones::Zones),
        "jit" => Box::new(jit::Jit),
        "porcupine" => Box::new(porcupine::Porcupine),
        _ => return None,
    })
}

/// Whether an action belongs to a model.
pub(crate) fn belongs(model: Model, action: &Action) -> bool {
    use Action as A;
    match model {
        Model::Register => matches!(
            action,
            A::Read(_) | A::Write(_) | A::Cas(..) | A::CasRefused(_)
        ),
        Model::List => matches!(action, A::Append(_) | A::ReadList(_)),
        Model::Set => matches!(
            action,
            A::Add(_) | A::Remove(_) | A::Contains(..) | A::ReadSet(_)
        ),
        Model::Text => matches!(action, A::Put(_) | A::AppendText(_) | A::Get(_)),
        Model::Map => matches!(action, A::PutField(..) | A::RemoveField(_) | A::ReadMap(_)),
        Model::Queue | Model::Stack | Model::PriorityQueue => {
            matches!(action, A::Enqueue(_) | A::Dequeue(_))
        }
        Model::Counter => matches!(action, A::Increment(_) | A::ReadCounter(_)),
        Model::Lock | Model::Semaphore(_) => matches!(action, A::Acquire(_) | A::Release(_)),
        Model::FencedLock => matches!(action, A::AcquireFenced(..) | A::Release(_)),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
