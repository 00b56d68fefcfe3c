//! From a history to transactions of micro-operations.
//!
//! A transaction is an operation `txn` whose value lists micro-operations: `[:append k v]`,
//! `[:w k v]`, `[:r k nil]` (named by keyword, text or symbol; `write` and `read` are spelled out
//! by some). The completion repeats the list with what the reads showed. An operation `read`,
//! `write`, `append` or `cas` is a transaction of one key; a read of everything (no key, a map)
//! reads every key of its map. Inspections are no reads. Any other function that may have taken
//! effect may have changed any key, so that nothing can be said.
//!
//! Keys, processes and values are numbered from 0 without gaps, and everything lies in flat
//! vectors: a transaction takes 32 bytes, a micro-operation 16, an element of a list 4. A value is
//! numbered *per key*: equal values of different keys have different numbers, so that a vector by
//! value number serves as a map by key and value.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::observe::{pair, possible};
use crate::{F, History, Operation, Outcome, Process, Value};

/// What reads of a history show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Lists: all elements appended, in order. `nil` and a list without elements are the same.
    Lists,
    /// Registers: one value, whatever it is; `nil` if never written.
    Registers,
}

/// What a read showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nobody knows: the transaction did not return.
    Unknown,
    /// `nil`, or an empty list: the state before any write.
    Nil,
    /// One value of a register.
    Value(u32),
    /// The elements of a list, at `start..end` of [`Transactions::elements`]; never empty.
    List {
        /// First position.
        start: u32,
        /// Position after the last.
        end: u32,
    },
}

/// A micro-operation; `key` and `value` are numbers in [`Transactions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mop {
    /// Append an element to a list.
    Append { key: u32, value: u32 },
    /// Overwrite a register.
    Write { key: u32, value: u32 },
    /// Read a key.
    Read { key: u32, shown: Shown },
}

impl Mop {
    /// Its key.
    pub(crate) fn key(self) -> u32 {
        match self {
            Self::Append { key, .. } | Self::Write { key, .. } | Self::Read { key, .. } => key,
        }
    }
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Txn {
    /// Its position among [`Transactions::operations`].
    pub(crate) op: u32,
    /// Number of its process.
    pub(crate) process: u32,
    /// How it ended. Only what is `Ok` has shown anything.
    pub(crate) outcome: Outcome,
    /// Position of the invocation in the history.
    pub(crate) invoked: u32,
    /// Position of the completion; `None` if it is open for ever.
    pub(crate) completed: Option<u32>,
    /// Its micro-operations in [`Transactions::mops`].
    pub(crate) mops: Range<u32>,
}

/// The transactions of a history, in the order of their invocations.
#[derive(Debug)]
pub(crate) struct Transactions<'a> {
    /// All operations of the history.
    pub(crate) operations: Vec<Operation<'a>>,
    /// The transactions, failed and unknown ones included.
    pub(crate) txns: Vec<Txn>,
    /// The micro-operations of all transactions.
    pub(crate) mops: Vec<Mop>,
    /// The elements that reads of lists showed, as numbers of values.
    pub(crate) elements: Vec<u32>,
    /// Keys by number. Operations without key have the key `nil`.
    pub(crate) keys: Vec<&'a Value>,
    /// Values by number. Values of different keys have different numbers.
    pub(crate) values: Vec<&'a Value>,
    /// Processes by number.
    pub(crate) processes: Vec<&'a Process>,
}

impl<'a> Transactions<'a> {
    /// The transactions of a history.
    ///
    /// # Errors
    ///
    /// The reason of the verdict `unknown`: the history does not pair, a function is not known, or
    /// what a transaction consists of cannot be read.
    pub(crate) fn of(history: &'a History, shape: Shape) -> Result<Self, String> {
        if u32::try_from(history.events.len()).is_err() {
            return Err("too-large: more than 2^32 events".to_owned());
        }
        let operations = history
            .operations()
            .map_err(|e| format!("malformed-history: {e}"))?;
        let mut encoder = Encoder::new(shape, operations.len());
        for (at, op) in operations.iter().enumerate() {
            encoder.operation(at as u32, op)?;
        }
        Ok(Self {
            operations,
            txns: encoder.txns,
            mops: encoder.mops,
            elements: encoder.elements,
            keys: encoder.keys.names,
            values: encoder.values.names,
            processes: encoder.processes.names,
        })
    }

    /// The micro-operations of a transaction.
    pub(crate) fn mops_of(&self, txn: &Txn) -> &[Mop] {
        &self.mops[txn.mops.start as usize..txn.mops.end as usize]
    }

    /// The elements that a read of a list showed; none of what is no list.
    pub(crate) fn list(&self, shown: Shown) -> &[u32] {
        match shown {
            Shown::List { start, end } => &self.elements[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The `index` of the invocation of a transaction.
    pub(crate) fn index(&self, txn: &Txn) -> u64 {
        self.operations[txn.op as usize].invoke.index
    }

    /// Whether two operations of the history count as one after the other in real time.
    pub(crate) fn precedes(a: &Txn, b: &Txn) -> bool {
        a.completed.is_some_and(|end| end < b.invoked)
    }
}

/// Whether anything is appended in a history of transactions: then reads show lists.
pub(crate) fn shape_of(history: &History) -> Shape {
    let appends = |value: &Value| {
        let mops = value.items().unwrap_or(&[]);
        mops.iter().any(|mop| {
            let name = mop.items().and_then(<[Value]>::first).and_then(text);
            name == Some("append")
        })
    };
    let lists = history.events.iter().any(|event| match &event.f {
        F::Append => true,
        F::Other(name) => &**name == "txn" && appends(&event.value),
        _ => false,
    });
    if lists {
        Shape::Lists
    } else {
        Shape::Registers
    }
}

static NO_KEY: Value = Value::Nil;

/// Names with their numbers.
struct Names<'a, T> {
    numbers: FxHashMap<&'a T, u32>,
    names: Vec<&'a T>,
}

impl<'a, T: std::hash::Hash + Eq> Names<'a, T> {
    fn new() -> Self {
        Self {
            numbers: FxHashMap::default(),
            names: Vec::new(),
        }
    }

    fn number(&mut self, name: &'a T) -> u32 {
        let next = self.names.len() as u32;
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.names.push(name);
        }
        number
    }
}

/// Values with their numbers, per key.
///
/// Most values are small whole numbers, which a table by key answers without hashing. A table is
/// never much longer than the number of values of its key, so that a large value is hashed.
struct Values<'a> {
    small: Vec<Small>,
    other: FxHashMap<(u32, &'a Value), u32>,
    names: Vec<&'a Value>,
}

#[derive(Default)]
struct Small {
    /// By value: its number, or `NONE`.
    numbers: Vec<u32>,
    /// How many values of the key have a number.
    known: usize,
    /// Whether some of them are hashed.
    hashed: bool,
}

const NONE: u32 = u32::MAX;

impl<'a> Values<'a> {
    fn number(&mut self, key: u32, value: &'a Value) -> u32 {
        let key_at = key as usize;
        if self.small.len() <= key_at {
            self.small.resize_with(key_at + 1, Small::default);
        }
        let small = &mut self.small[key_at];
        let next = self.names.len() as u32;
        let at = match value {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        if let Some(at) = at
            && let Some(&number) = small.numbers.get(at)
            && number != NONE
        {
            return number;
        }
        if small.hashed
            && let Some(&number) = self.other.get(&(key, value))
        {
            return number;
        }
        small.known += 1;
        self.names.push(value);
        match at {
            Some(at) if at < 2 * small.known + 16 => {
                if small.numbers.len() <= at {
                    small.numbers.resize(at + 1, NONE);
                }
                small.numbers[at] = next;
            }
            _ => {
                small.hashed = true;
                self.other.insert((key, value), next);
            }
        }
        next
    }
}

struct Encoder<'a> {
    shape: Shape,
    txns: Vec<Txn>,
    mops: Vec<Mop>,
    elements: Vec<u32>,
    keys: Names<'a, Value>,
    values: Values<'a>,
    processes: Names<'a, Process>,
}

impl<'a> Encoder<'a> {
    fn new(shape: Shape, operations: usize) -> Self {
        Self {
            shape,
            txns: Vec::with_capacity(operations),
            mops: Vec::with_capacity(2 * operations),
            elements: Vec::new(),
            keys: Names::new(),
            values: Values {
                small: Vec::new(),
                other: FxHashMap::default(),
                names: Vec::new(),
            },
            processes: Names::new(),
        }
    }

    fn operation(&mut self, at: u32, op: &Operation<'a>) -> Result<(), String> {
        let first = self.mops.len();
        match op.f() {
            F::Inspect => return Ok(()),
            F::Other(name) if &**name == "txn" => self.transaction(op)?,
            F::Read | F::Write | F::Append | F::Cas => self.single(op)?,
            _ if !possible(op) => return Ok(()),
            f => {
                let index = op.invoke.index;
                return Err(format!("unknown-function: `{}` at event {index}", f.name()));
            }
        }
        if u32::try_from(self.mops.len()).is_err() || u32::try_from(self.elements.len()).is_err() {
            return Err("too-large: more than 2^32 micro-operations or elements".to_owned());
        }
        self.txns.push(Txn {
            op: at,
            process: self.processes.number(op.process()),
            outcome: op.outcome,
            invoked: op.invoked_position as u32,
            completed: op.completed_position.map(|p| p as u32),
            mops: first as u32..self.mops.len() as u32,
        });
        Ok(())
    }

    fn transaction(&mut self, op: &Operation<'a>) -> Result<(), String> {
        // A completion without a value says no more than that it took effect.
        let result = op.result().filter(|value| !value.is_nil());
        let (value, known) = match result {
            Some(result) => (result, true),
            None => (op.argument(), false),
        };
        let event = match (known, op.complete) {
            (true, Some(complete)) => complete.index,
            _ => op.invoke.index,
        };
        let malformed = |what: &Value| {
            let text: String = what.to_string().chars().take(80).collect();
            format!("malformed-transaction: `{text}` at event {event}")
        };
        let mops = match value {
            Value::Vector(mops) | Value::List(mops) => &mops[..],
            Value::Nil => &[],
            other => return Err(malformed(other)),
        };
        for mop in mops {
            let items = match mop {
                Value::Vector(items) | Value::List(items) => &items[..],
                other => return Err(malformed(other)),
            };
            let (name, key, value) = match items {
                [name, key, value] => (name, key, value),
                [name, key] => (name, key, &NO_KEY),
                _ => return Err(malformed(mop)),
            };
            match text(name) {
                Some("r" | "read") => self.read(key, known.then_some(value)),
                Some("append") if items.len() == 3 => {
                    let (key, value) = self.version(key, value);
                    self.mops.push(Mop::Append { key, value });
                    Some(())
                }
                Some("w" | "write") if items.len() == 3 => {
                    let (key, value) = self.version(key, value);
                    self.mops.push(Mop::Write { key, value });
                    Some(())
                }
                _ => None,
            }
            .ok_or_else(|| malformed(mop))?;
        }
        Ok(())
    }

    /// An operation on one key, or a read of everything.
    fn single(&mut self, op: &Operation<'a>) -> Result<(), String> {
        let key = op.key().unwrap_or(&NO_KEY);
        let event = op.invoke.index;
        let unreadable = || format!("unreadable-read: at event {event}");
        match op.f() {
            F::Append | F::Write => {
                let (key, value) = self.version(key, op.argument());
                self.mops.push(match op.f() {
                    F::Append => Mop::Append { key, value },
                    _ => Mop::Write { key, value },
                });
            }
            F::Cas => {
                let Some((old, new)) = pair(op.argument()) else {
                    return Err(format!("malformed-cas: at event {event}"));
                };
                self.read(key, op.is_ok().then_some(old));
                let (key, value) = self.version(key, new);
                self.mops.push(Mop::Write { key, value });
            }
            _ => match (op.key(), op.result()) {
                (None, Some(Value::Map(pairs))) => {
                    for (key, value) in pairs.iter() {
                        self.read(key, Some(value)).ok_or_else(unreadable)?;
                    }
                }
                (_, result) => self.read(key, result).ok_or_else(unreadable)?,
            },
        }
        Ok(())
    }

    fn version(&mut self, key: &'a Value, value: &'a Value) -> (u32, u32) {
        let key = self.keys.number(key);
        (key, self.values.number(key, value))
    }

    /// A read that showed this. `None`: what should be a list is none.
    fn read(&mut self, key: &'a Value, value: Option<&'a Value>) -> Option<()> {
        let key = self.keys.number(key);
        let shown = match (value, self.shape) {
            (None, _) => Shown::Unknown,
            (Some(Value::Nil), _) => Shown::Nil,
            (Some(value), Shape::Registers) => Shown::Value(self.values.number(key, value)),
            (Some(value), Shape::Lists) => {
                let start = self.elements.len() as u32;
                for element in value.items()? {
                    self.elements.push(self.values.number(key, element));
                }
                match self.elements.len() as u32 {
                    end if end == start => Shown::Nil,
                    end => Shown::List { start, end },
                }
            }
        };
        self.mops.push(Mop::Read { key, shown });
        Some(())
    }
}

fn text(name: &Value) -> Option<&str> {
    match name {
        Value::Keyword(name) | Value::Str(name) | Value::Symbol(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
