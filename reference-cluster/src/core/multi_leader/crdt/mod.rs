//! Data types whose changes commute: conflict-free replicated data types (Shapiro, Preguiça,
//! Baquero & Zawirski 2011), a module each.
//!
//! All are state-based: a change is a small state that is merged, and merging is commutative,
//! associative and idempotent, so that neither order nor repetition matters. The type of a key is
//! that of the first operation on it. Where two nodes begin a key with different types at the same
//! time, both are kept, and the first in the order of [`Cell`] shows.
//!
//! Not offered, for they cannot be had without coordination: compare-and-set; forgetting a counter.
//! Deleting another key empties it of what the deleting node has seen.

pub mod counter;
pub mod map;
pub mod register;
pub mod set;
pub mod text;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::counter::Counter;
use self::map::Map;
use self::register::Register;
use self::set::Set;
use self::text::Text;
use super::clock::Stamp;
use crate::core::{Datum, Op, Refusal, Scalar};

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// A sum.
    pub counter: Option<Counter>,
    /// A single value.
    pub register: Option<Register>,
    /// Distinct elements.
    pub set: Option<Set>,
    /// Values by field.
    pub map: Option<Map>,
    /// A sequence.
    pub text: Option<Text>,
}

fn merge_part<T: Clone>(ours: &mut Option<T>, theirs: Option<&T>, merge: impl Fn(&mut T, &T)) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => merge(ours, theirs),
        (ours @ None, Some(theirs)) => *ours = Some(theirs.clone()),
        (_, None) => {}
    }
}

impl Cell {
    /// Merges type by type. With `adding`, the planted mistake, counters are added up.
    pub fn merge(&mut self, other: &Self, adding: bool) {
        merge_part(&mut self.counter, other.counter.as_ref(), |ours, theirs| {
            ours.merge(theirs, adding);
        });
        merge_part(&mut self.register, other.register.as_ref(), Register::merge);
        merge_part(&mut self.set, other.set.as_ref(), Set::merge);
        merge_part(&mut self.map, other.map.as_ref(), Map::merge);
        merge_part(&mut self.text, other.text.as_ref(), Text::merge);
    }

    /// The type that shows, as [`Datum::kind`] names it.
    fn kind(&self) -> Option<&'static str> {
        let kinds = [
            (self.counter.is_some(), "counter"),
            (self.register.is_some(), "register"),
            (self.set.is_some(), "set"),
            (self.map.is_some(), "map"),
            (self.text.is_some(), "list"),
        ];
        let shown = kinds.into_iter().find(|(there, _)| *there);
        shown.map(|(_, kind)| kind)
    }

    /// What a reader sees.
    pub fn datum(&self) -> Option<Datum> {
        let counter = self.counter.as_ref().map(|c| Datum::Counter(c.value()));
        counter
            .or_else(|| Some(Datum::Register(self.register.as_ref()?.value.clone())))
            .or_else(|| Some(Datum::Set(set::value(self.set.as_ref()?))))
            .or_else(|| Some(Datum::Map(map::value(self.map.as_ref()?))))
            .or_else(|| Some(Datum::List(self.text.as_ref()?.value())))
    }
}

fn unsupported(what: &'static str) -> Refusal {
    Refusal::Unsupported(what.into())
}

/// The change that an operation makes.
///
/// # Errors
/// [`Refusal::WrongKind`], or [`Refusal::Unsupported`] for what does not commute.
pub(super) fn change(cell: Option<&Cell>, op: &Op, stamp: Stamp) -> Result<Cell, Refusal> {
    let empty = Cell::default();
    let cell = cell.unwrap_or(&empty);
    let kind = cell.kind();
    let only = |expected: &'static str| match kind {
        Some(kind) if kind != expected => Err(Refusal::WrongKind(kind.into())),
        _ => Ok(()),
    };
    let (counter, set, map, text) = (
        cell.counter.clone().unwrap_or_default(),
        cell.set.as_ref(),
        cell.map.as_ref(),
        cell.text.as_ref(),
    );
    let (no_set, no_map, no_text) = (Set::default(), Map::default(), Text::default());
    let origin = stamp.origin;
    let mut change = Cell::default();
    match op {
        Op::Increment(_, amount) => {
            only("counter")?;
            change.counter = Some(counter.increment(origin, *amount));
        }
        Op::Write(_, value) => {
            only("register")?;
            let value = value.clone();
            change.register = Some(Register { stamp, value });
        }
        Op::Add(_, element) => {
            only("set")?;
            change.set = Some(set::add(set.unwrap_or(&no_set), origin, element));
        }
        Op::Put(_, field, value) => {
            only("map")?;
            change.map = Some(map::put(map.unwrap_or(&no_map), stamp, field, value));
        }
        Op::Append(_, value) => {
            only("list")?;
            change.text = Some(text.unwrap_or(&no_text).append(origin, value));
        }
        Op::Insert(_, after, value) => {
            only("list")?;
            change.text = Some(text.unwrap_or(&no_text).insert(origin, after, value));
        }
        Op::Remove(_, value) => match kind {
            Some("set") => change.set = set.map(|set| set::remove(set, value)),
            Some("map") => change.map = map.map(|map| map::remove(map, value)),
            Some("list") => change.text = text.map(|text| text.remove(Some(value))),
            Some(other) => return Err(Refusal::WrongKind(other.into())),
            None => {}
        },
        Op::Delete(_) => {
            if cell.counter.is_some() {
                return Err(unsupported("a replicated counter cannot be forgotten"));
            }
            let value = Scalar::Nil;
            change.register = cell.register.as_ref().map(|_| Register { stamp, value });
            change.set = set.map(|set| Set::remove(set.live.keys().copied()));
            change.map = map.map(|map| Map::remove(map.live.keys().copied()));
            change.text = text.map(|text| text.remove(None));
        }
        Op::Cas(..) => return Err(unsupported("a compare-and-set does not commute")),
        _ => return Err(unsupported("this mode has no such operation")),
    }
    Ok(change)
}
