//! Plain histories of registers, decided in one pass over their events.
//!
//! No record of the operations is made: an operation is remembered while it is open, and goes into
//! the table of its key when it ends. That takes 20 bytes a value and what numbers the values, instead
//! of some hundred bytes an operation.

use rustc_hash::FxHashMap;

use super::super::Id;
use super::numbers::Numbers;
use super::{Refuted, Table};
use crate::observe;
use crate::{Event, F, History, Kind, Operation, Outcome, Process, Value};

/// What was found of one key.
#[derive(Debug)]
pub struct ScreenedKey<'a> {
    /// The key, if it has one.
    pub key: Option<&'a Value>,
    /// Acknowledged writes, and reads.
    pub judged: u64,
    /// Whether it is linearizable.
    pub decision: Result<(), Refuted>,
}

/// Decides all keys of a history, in their order. `refused_cas`: a failed compare-and-set says that the
/// register did not hold the expected value.
///
/// `None` if the history is not as plain as can be, or a key cannot be decided so: then it has to be
/// looked at the long way. Plain are events that pair, in the order of time, of clients with numbers,
/// with functions and values of registers: no text that is empty, no collection.
pub fn screen(history: &History, refused_cas: bool) -> Option<Vec<ScreenedKey<'_>>> {
    let mut screen = Screen {
        refused_cas,
        numbers: FxHashMap::default(),
        keys: Vec::new(),
        open: FxHashMap::default(),
    };
    let mut previous: Option<&Event> = None;
    for (position, event) in history.events.iter().enumerate() {
        if let Some(previous) = previous
            && (event.index <= previous.index || event.time < previous.time)
        {
            return None;
        }
        previous = Some(event);
        match event.process {
            Process::Nemesis => {}
            Process::Client(process) => screen.event(position as u64, process, event)?,
            Process::Other(_) => return None,
        }
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
struct Key<'a> {
    name: Option<&'a Value>,
    table: Table,
    numbers: Numbers<'a>,
    judged: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Change {
    Read,
    Write(Id),
    Cas(Id, Id),
    Inspect,
}

struct Open<'a> {
    call: u64,
    key: usize,
    change: Change,
    invoke: &'a Event,
}

struct Screen<'a> {
    refused_cas: bool,
    numbers: FxHashMap<Option<&'a Value>, usize>,
    keys: Vec<Key<'a>>,
    /// By process.
    open: FxHashMap<u64, Open<'a>>,
}

impl<'a> Screen<'a> {
    fn event(&mut self, position: u64, process: u64, event: &'a Event) -> Option<()> {
        if event.kind == Kind::Invoke {
            let open = self.begin(position, event)?;
            // An operation that is still open makes the history malformed.
            return self.open.insert(process, open).is_none().then_some(());
        }
        let open = self.open.remove(&process)?;
        let key_fits = match (&open.invoke.key, &event.key) {
            (Some(asked), Some(answered)) => asked == answered,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !key_fits || open.invoke.f != event.f {
            return None;
        }
        self.end(position, &open, event)
    }

    fn begin(&mut self, call: u64, invoke: &'a Event) -> Option<Open<'a>> {
        let value = &invoke.value;
        if invoke.f == F::Inspect {
            let change = Change::Inspect;
            return Some(Open {
                call,
                key: 0,
                change,
                invoke,
            });
        }
        let key = match self.numbers.get(&invoke.key.as_ref()) {
            Some(known) => *known,
            None => self.new_key(invoke.key.as_ref()),
        };
        let numbers = &mut self.keys[key].numbers;
        let mut number = |value: &'a Value| is_plain(value).then(|| numbers.of(value));
        let change = match invoke.f {
            F::Read => Change::Read,
            F::Write => Change::Write(number(value)?),
            F::Cas => {
                let (old, new) = observe::pair(value)?;
                Change::Cas(number(old)?, number(new)?)
            }
            _ => return None,
        };
        Some(Open {
            call,
            key,
            change,
            invoke,
        })
    }

    fn new_key(&mut self, name: Option<&'a Value>) -> usize {
        let number = self.keys.len();
        self.numbers.insert(name, number);
        self.keys.push(Key {
            name,
            ..Key::default()
        });
        number
    }

    fn end(&mut self, end: u64, open: &Open<'a>, event: &'a Event) -> Option<()> {
        let key = match open.change {
            Change::Inspect => return Some(()),
            _ => self.keys.get_mut(open.key)?,
        };
        key.judged += u64::from(event.kind == Kind::Ok);
        match (open.change, event.kind) {
            (Change::Read, Kind::Ok) => {
                if !is_plain(&event.value) {
                    return None;
                }
                let value = key.numbers.of(&event.value);
                key.table.read(value, open.call, end);
            }
            (Change::Write(value), Kind::Ok) => key.table.write(value, open.call, Some(end)),
            (Change::Cas(old, new), Kind::Ok) => key.table.cas(old, new, open.call, Some(end)),
            (Change::Cas(old, _), Kind::Fail) if self.refused_cas => {
                key.table.cas_refused(old, open.call, end);
            }
            (_, Kind::Info) => unanswered(&mut key.table, open),
            _ => {}
        }
        Some(())
    }

    fn decide(mut self) -> Option<Vec<ScreenedKey<'a>>> {
        for open in self.open.values() {
            if open.change != Change::Inspect {
                unanswered(&mut self.keys.get_mut(open.key)?.table, open);
            }
        }
        // Its memory is not needed beside that of the decision.
        let mut keys: Vec<(Option<&Value>, u64, Table)> = self
            .keys
            .into_iter()
            .map(|key| (key.name, key.judged, key.table))
            .collect();
        keys.sort_unstable_by_key(|(name, ..)| *name);
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

fn unanswered(table: &mut Table, open: &Open<'_>) {
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
