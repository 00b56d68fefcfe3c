//! What only the whole history tells: numbers of events, times, keys.

use crate::{Event, F, History, Kind, Value};

use super::{ReadOptions, Warning};

/// The index or time of an event that has none. No format can record it: whole numbers have 63
/// bits there.
pub const MISSING: u64 = u64::MAX;

/// What the events of a format have for numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Indexes that increase, and times.
    Recorded,
    /// Indexes and times that may be [`MISSING`], in a history that is read as a whole.
    Optional,
    /// The same in one that is not: positions are taken for the indexes, as a missing one late in
    /// the history cannot change those before it any more.
    Positions,
    /// Neither indexes nor times: both are positions.
    None,
}

/// Gives every event an index that increases and a time, as the events come.
pub struct Numbering {
    numbers: Numbers,
    renumbered: bool,
    settled: usize,
    /// Index and time of the event above.
    above: Option<(u64, u64)>,
    timed: bool,
    /// The first event whose time is before that of the event above it, and how many there are.
    back: Option<(u64, u64)>,
}

impl Numbering {
    pub fn new(numbers: Numbers) -> Self {
        Self {
            numbers,
            renumbered: false,
            settled: 0,
            above: None,
            timed: false,
            back: None,
        }
    }

    /// Numbers the events from this one on. Those before it are numbered already; with
    /// [`Numbers::Optional`] they must be all that there are.
    pub fn settle(&mut self, events: &mut [Event], from: usize) {
        for at in from..events.len() {
            let position = self.settled as u64;
            self.settled += 1;
            if self.numbers == Numbers::None {
                (events[at].index, events[at].time) = (position, position);
                continue;
            }
            let (recorded, time) = (events[at].index, events[at].time);
            match self.numbers {
                Numbers::Optional => {
                    let follows = recorded != MISSING && self.above.is_none_or(|a| a.0 < recorded);
                    if !follows && !self.renumbered {
                        self.renumbered = true;
                        for (n, event) in (0..).zip(&mut events[..at]) {
                            event.index = n;
                        }
                    }
                    if self.renumbered {
                        events[at].index = position;
                    }
                }
                Numbers::Positions => {
                    events[at].index = position;
                    self.renumbered |= recorded != position;
                }
                Numbers::Recorded | Numbers::None => {}
            }
            let missing = time == MISSING && self.numbers != Numbers::Recorded;
            let above = self.above.map_or(0, |above| above.1);
            events[at].time = match missing {
                true if self.timed || self.numbers == Numbers::Optional => above,
                true => position,
                false => time,
            };
            if !missing && self.timed && time < above {
                self.back.get_or_insert((events[at].index, 0)).1 += 1;
            }
            self.timed |= !missing;
            self.above = Some((events[at].index, events[at].time));
        }
    }

    /// Without any time, positions are times. Tells what was odd.
    pub fn finish(self, events: &mut [Event], warnings: &mut Vec<Warning>) {
        if self.renumbered {
            warnings.push(Warning::Renumbered);
        }
        if !self.timed && (self.settled > 0 || self.numbers == Numbers::None) {
            warnings.push(Warning::NoTimes);
            if self.numbers == Numbers::Optional {
                for (n, event) in (0..).zip(events) {
                    event.time = n;
                }
            }
        }
        if let Some((first, events)) = self.back {
            warnings.push(Warning::TimesGoBack { first, events });
        }
    }
}

/// Finds the keys of a history that was just read.
pub fn keys(history: &mut History, options: &ReadOptions) {
    let independent = options
        .independent
        .unwrap_or_else(|| looks_independent(history));
    if independent {
        split_tuples(&mut history.events);
    }
    no_nil_keys(&mut history.events);
}

/// `:key nil` is how the writer says that values are no tuples.
pub fn no_nil_keys(events: &mut [Event]) {
    for event in events {
        if event.key.as_ref().is_some_and(Value::is_nil) {
            event.key = None;
        }
    }
}

/// Takes the keys out of the values of clients.
pub fn split_tuples(events: &mut [Event]) {
    for event in events {
        if !event.process.is_nemesis()
            && let Some((key, value)) = tuple(&event.value)
            && !key.is_nil()
        {
            (event.key, event.value) = (Some(key.clone()), value.clone());
        }
    }
}

/// Whether values look like tuples of jepsen.independent.
pub fn looks_independent(history: &History) -> bool {
    // What is invoked with a tuple is answered with one.
    let told = history
        .events
        .iter()
        .filter(|e| matches!(e.kind, Kind::Invoke | Kind::Ok) && !e.process.is_nemesis());
    let read_of_key = |e: &Event| {
        e.f == F::Read && tuple(&e.value).is_some_and(|(key, v)| v.is_nil() && !key.is_nil())
    };
    let mut any_read = false;
    for event in told {
        if tuple(&event.value).is_none_or(|(key, _)| key.is_nil()) {
            return false;
        }
        any_read |= event.kind == Kind::Invoke && read_of_key(event);
    }
    any_read && history.events.iter().all(|e| e.key.is_none())
}

/// The two parts of a tuple: a vector of two, or one that says that it is a tuple or a map's entry.
fn tuple(value: &Value) -> Option<(&Value, &Value)> {
    let items = match value {
        Value::Vector(items) => items,
        Value::Tagged(tagged) if is_tuple_tag(&tagged.0) => match &tagged.1 {
            Value::Vector(items) | Value::List(items) => items,
            _ => return None,
        },
        _ => return None,
    };
    match &**items {
        [key, value] => Some((key, value)),
        _ => None,
    }
}

fn is_tuple_tag(tag: &str) -> bool {
    tag.ends_with("MapEntry") || tag == "jepsen.independent/tuple" || tag.ends_with(".Tuple")
}
