//! Plain histories of registers, decided in one pass over their events.
//!
//! No record of the operations is made: an operation is remembered while it is open, and goes into
//! the table of its key when it ends. That takes 20 bytes a value and what numbers the values, instead
//! of some hundred bytes an operation; events need not be kept.

use rustc_hash::FxHashMap;

use super::super::Id;
use super::numbers::Numbers;
use super::{Refuted, Table};
use crate::observe;
use crate::{Event, F, History, Kind, Operation, Outcome, Process, Value};

/// What was found of one key.
#[derive(Debug)]
pub struct ScreenedKey {
    /// The key, if it has one.
    pub key: Option<Value>,
    /// Acknowledged writes, and reads.
    pub judged: u64,
    /// Whether it is linearizable.
    pub decision: Result<(), Refuted>,
}

/// Decides all keys of a history, in their order; see [`Screen`].
pub fn screen(history: &History, refused_cas: bool) -> Option<Vec<ScreenedKey>> {
    let mut screen = Screen::new(refused_cas);
    for event in &history.events {
        screen.event(event)?;
    }
    screen.decide()
}

/// The operations that have one of these positions (ascending), in their order, for whoever explains
/// a refutation.
pub fn operations_at<'a>(history: &'a History, positions: &[u64]) -> Vec<Operation<'a>> {
    let mut open: FxHashMap<&Process, usize> = FxHashMap::default();
    let mut found: Vec<Operation<'a>> = Vec::new();
    let mut named: FxHashMap<usize, usize> = FxHashMap::default();
    let is_named = |position: usize| positions.binary_search(&(position as u64)).is_ok();
    for (position, event) in history.events.iter().enumerate() {
        if event.process.is_nemesis() {
            continue;
        }
        if event.kind == Kind::Invoke {
            open.insert(&event.process, position);
            if is_named(position) {
                named.insert(position, found.len());
                found.push(operation(event, position));
            }
            continue;
        }
        let Some(invoked) = open.remove(&event.process) else {
            continue;
        };
        let at = match named.get(&invoked) {
            Some(at) => *at,
            None if is_named(position) => {
                found.push(operation(&history.events[invoked], invoked));
                found.len() - 1
            }
            None => continue,
        };
        let operation = &mut found[at];
        operation.complete = Some(event);
        operation.outcome = match event.kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info | Kind::Invoke => Outcome::Info,
        };
        operation.completed_position = (event.kind != Kind::Info).then_some(position);
    }
    found.sort_unstable_by_key(|op| op.invoked_position);
    found
}

fn operation(invoke: &Event, position: usize) -> Operation<'_> {
    Operation {
        invoke,
        complete: None,
        outcome: Outcome::Info,
        invoked_position: position,
        completed_position: None,
    }
}

#[derive(Default)]
struct Key {
    name: Option<Value>,
    table: Table,
    numbers: Numbers,
    judged: u64,
    /// Whether it was read or written, and not only inspected.
    is_used: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Change {
    Read,
    Write(Id),
    Cas(Id, Id),
    Inspect,
}

impl Change {
    fn f(self) -> F {
        match self {
            Self::Read => F::Read,
            Self::Write(_) => F::Write,
            Self::Cas(..) => F::Cas,
            Self::Inspect => F::Inspect,
        }
    }
}

#[derive(Clone, Copy)]
struct Open {
    call: u64,
    /// Where the key is among the keys.
    key: usize,
    change: Change,
}

/// Takes the events of a history as they come, and decides all its keys.
///
/// It gives up on a history that is not as plain as can be, or of which a key cannot be decided so:
/// then it has to be looked at the long way. Plain are events that pair, in the order of time, of
/// clients with numbers, with functions and values of registers: no text that is empty, no collection.
#[derive(Default)]
pub struct Screen {
    refused_cas: bool,
    no_key: Option<usize>,
    by_key: FxHashMap<Value, usize>,
    keys: Vec<Key>,
    /// By process.
    open: FxHashMap<u64, Open>,
    position: u64,
    /// Index and time of the last event.
    last: Option<(u64, u64)>,
}

impl Screen {
    /// `refused_cas`: a failed compare-and-set says that the register did not hold the expected value.
    pub fn new(refused_cas: bool) -> Self {
        Self {
            refused_cas,
            ..Self::default()
        }
    }

    /// Takes the next event; `None` to give up.
    #[must_use]
    pub fn event(&mut self, event: &Event) -> Option<()> {
        if let Some((index, time)) = self.last
            && (event.index <= index || event.time < time)
        {
            return None;
        }
        self.last = Some((event.index, event.time));
        let position = self.position;
        self.position += 1;
        let process = match event.process {
            Process::Nemesis => return Some(()),
            Process::Client(process) => process,
            Process::Other(_) => return None,
        };
        if event.kind == Kind::Invoke {
            let open = self.begin(position, event)?;
            // An operation that is still open makes the history malformed.
            return self.open.insert(process, open).is_none().then_some(());
        }
        let open = self.open.remove(&process)?;
        let key_fits = match (self.keys.get(open.key), &event.key) {
            (Some(key), Some(answered)) => key.name.as_ref() == Some(answered),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let fits = key_fits && open.change.f() == event.f;
        fits.then(|| self.end(position, open, event)).flatten()
    }

    fn begin(&mut self, call: u64, invoke: &Event) -> Option<Open> {
        let key = self.key(invoke.key.as_ref());
        let change = match invoke.f {
            F::Inspect => Change::Inspect,
            F::Read => Change::Read,
            F::Write => Change::Write(self.number(key, &invoke.value)?),
            F::Cas => {
                let (old, new) = observe::pair(&invoke.value)?;
                let old = self.number(key, old)?;
                Change::Cas(old, self.number(key, new)?)
            }
            _ => return None,
        };
        self.keys.get_mut(key)?.is_used |= change != Change::Inspect;
        Some(Open { call, key, change })
    }

    /// Where the key is among the keys.
    fn key(&mut self, name: Option<&Value>) -> usize {
        let known = match name {
            None => self.no_key,
            Some(name) => self.by_key.get(name).copied(),
        };
        if let Some(known) = known {
            return known;
        }
        let number = self.keys.len();
        self.keys.push(Key {
            name: name.cloned(),
            ..Key::default()
        });
        match name {
            None => self.no_key = Some(number),
            Some(name) => {
                self.by_key.insert(name.clone(), number);
            }
        }
        number
    }

    fn number(&mut self, key: usize, value: &Value) -> Option<Id> {
        let numbers = &mut self.keys.get_mut(key)?.numbers;
        is_plain(value).then(|| numbers.of(value))
    }

    fn end(&mut self, end: u64, open: Open, event: &Event) -> Option<()> {
        if open.change == Change::Inspect {
            return Some(());
        }
        let shown = match (open.change, event.kind) {
            (Change::Read, Kind::Ok) => Some(self.number(open.key, &event.value)?),
            _ => None,
        };
        let key = self.keys.get_mut(open.key)?;
        key.judged += u64::from(event.kind == Kind::Ok);
        let table = &mut key.table;
        match (open.change, event.kind) {
            (Change::Read, _) => {
                if let Some(value) = shown {
                    table.read(value, open.call, end);
                }
            }
            (Change::Write(value), Kind::Ok) => table.write(value, open.call, Some(end)),
            (Change::Cas(old, new), Kind::Ok) => table.cas(old, new, open.call, Some(end)),
            (Change::Cas(old, _), Kind::Fail) if self.refused_cas => {
                table.cas_refused(old, open.call, end);
            }
            (_, Kind::Info) => unanswered(table, open),
            _ => {}
        }
        Some(())
    }

    /// Decides all keys, in their order; `None` to give up.
    pub fn decide(mut self) -> Option<Vec<ScreenedKey>> {
        for open in self.open.values() {
            if open.change != Change::Inspect {
                unanswered(&mut self.keys.get_mut(open.key)?.table, *open);
            }
        }
        // What numbered the values is not needed beside what the decision takes.
        let keys = self.keys.into_iter().filter(|key| key.is_used);
        let mut keys: Vec<(Option<Value>, u64, Table)> =
            keys.map(|key| (key.name, key.judged, key.table)).collect();
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let decided = keys.into_iter().map(|(key, judged, table)| {
            let decision = table.decide()?;
            Some(ScreenedKey {
                key,
                judged,
                decision,
            })
        });
        decided.collect()
    }
}

fn unanswered(table: &mut Table, open: Open) {
    match open.change {
        Change::Write(value) => table.write(value, open.call, None),
        Change::Cas(old, new) => table.cas(old, new, open.call, None),
        Change::Read | Change::Inspect => {}
    }
}

/// Whether nothing but the value itself can be meant.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Keyword(_) => true,
        Value::Str(text) => !text.is_empty(),
        _ => false,
    }
}
