//! One event of a history: who did what, and what came of it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::Value;
use crate::value::Text;

/// Who issued an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A logical client: strictly sequential, retired after an indeterminate outcome.
    Client(u64),
    /// The fault injector.
    Nemesis,
    /// Anything else a recorded history names.
    Other(Text),
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
    Other(Text),
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
        Self::known(name.as_bytes()).unwrap_or_else(|| Self::Other(name.into()))
    }

    /// The function of that name, if it has a variant of its own.
    pub(crate) fn known(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"read" => Self::Read,
            b"write" => Self::Write,
            b"cas" => Self::Cas,
            b"append" => Self::Append,
            b"add" => Self::Add,
            b"increment" => Self::Increment,
            b"insert" => Self::Insert,
            b"remove" => Self::Remove,
            b"put" => Self::Put,
            b"generate" => Self::Generate,
            b"acquire" => Self::Acquire,
            b"release" => Self::Release,
            b"inspect" => Self::Inspect,
            _ => return None,
        })
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
///
/// The optional fields are those of [`Details`], as if they were the event's own:
/// `event.node = Some(…)`. They are kept apart because most of them are the same on very many
/// events, which then share them; an event is 96 bytes so, and has no memory of its own unless its
/// value has.
#[derive(Clone)]
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
    /// `None` if all of them are empty, or as good as that.
    details: Option<Arc<Details>>,
}

/// The optional fields of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
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

impl Details {
    /// Those of an event that has none.
    const NONE: Self = Self {
        node: None,
        role: None,
        epoch: None,
        error: None,
        extra: Vec::new(),
    };
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
            details: None,
        }
    }

    /// Gives it these optional fields.
    pub fn set_details(&mut self, details: Details) {
        self.details = (details != Details::NONE).then(|| Arc::new(details));
    }

    /// Its optional fields, to be shared with other events by [`Event::share_details`].
    pub fn details(&self) -> Option<&Arc<Details>> {
        self.details.as_ref()
    }

    /// Gives it optional fields that other events have, too. They become its own when they are
    /// changed.
    pub fn share_details(&mut self, details: Option<Arc<Details>>) {
        self.details = details;
    }
}

impl Deref for Event {
    type Target = Details;

    fn deref(&self) -> &Details {
        static NONE: Details = Details::NONE;
        self.details.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Event {
    fn deref_mut(&mut self) -> &mut Details {
        Arc::make_mut(self.details.get_or_insert_default())
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.time, self.kind) == (other.index, other.time, other.kind)
            && (&self.process, &self.f) == (&other.process, &other.f)
            && (&self.key, &self.value) == (&other.key, &other.value)
            && **self == **other
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("index", &self.index)
            .field("time", &self.time)
            .field("process", &self.process)
            .field("kind", &self.kind)
            .field("f", &self.f)
            .field("key", &self.key)
            .field("value", &self.value)
            .field("details", &**self)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_small() {
        assert_eq!(size_of::<Event>(), 96);
    }

    #[test]
    fn details_are_shared_until_they_are_changed() {
        let mut first = Event::new(0, 0, Process::Client(1), Kind::Ok, F::Read, Value::Nil);
        assert_eq!(first.node, None);
        first.node = Some("n1".into());
        let mut second = first.clone();
        assert!(Arc::ptr_eq(
            first.details().unwrap(),
            second.details().unwrap()
        ));
        second.epoch = Some(3);
        assert_eq!((first.epoch, second.epoch), (None, Some(3)));
        assert_eq!(second.node.as_deref(), Some("n1"));
        assert_ne!(first, second);
        let none = Event::new(0, 0, Process::Client(1), Kind::Ok, F::Read, Value::Nil);
        first.node = None;
        assert_eq!(first, none);
    }
}
