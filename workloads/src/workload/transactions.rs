//! Transactions of several reads and writes, and transfers between accounts: as Jepsen generates them
//! (`jepsen.tests.cycle.append`, `jepsen.tests.cycle.wr`, `jepsen.tests.bank`).

use checkers::{F, Value};

use super::Parameters;
use super::draw::Draw;
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::Invocation;
use crate::transaction::{self, ACCOUNTS, Micro, Transfer};

/// What the keys of transactions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Lists, appended to.
    Lists,
    /// Registers, overwritten.
    Registers,
}

/// How a key of this number is called.
pub(super) fn key(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Transactions of one to a few micro-operations on few keys, of which the first is asked for half the
/// time, the second a quarter, and so on. Every value is written once to its key.
pub(super) struct Transactions {
    holds: Holds,
    draw: Draw,
    length: usize,
}

impl Transactions {
    /// The seed is used as it is.
    pub fn new(holds: Holds, parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            holds,
            draw: Draw::new(parameters, keys, seed),
            length: parameters.txn_length() as usize,
        }
    }

    /// A write to a hot key.
    fn write(&mut self) -> Micro {
        let (key, count) = {
            let place = self.place();
            let mut pool = self.draw.keys.lock();
            // Unique to the key, and short: the first is 1.
            let count = pool.slots[place].writes() + 1;
            (pool.write(place), i64::from(count))
        };
        match self.holds {
            Holds::Lists => Micro::Append(key, Value::Int(count)),
            Holds::Registers => Micro::Write(key, Value::Int(count)),
        }
    }

    fn read(&mut self) -> Micro {
        let place = self.place();
        let mut pool = self.draw.keys.lock();
        pool.slots[place].touched = true;
        Micro::Read(pool.slots[place].key.clone())
    }

    fn place(&mut self) -> usize {
        let last = self.draw.keys.lock().slots.len().saturating_sub(1);
        let mut place = 0;
        while place < last && self.draw.chance(0.5) {
            place += 1;
        }
        place
    }

    fn micro_operations(&mut self) -> Vec<Micro> {
        let only_reads = self.draw.is_read();
        let length = 1 + self.draw.below(self.length).unwrap_or_default();
        let mut all: Vec<Micro> = Vec::with_capacity(length);
        while all.len() < length {
            let last = all.len() + 1 == length;
            let written = all.iter().any(|micro| !micro.is_read());
            if only_reads || !(last && !written || self.draw.chance(0.5)) {
                all.push(self.read());
                continue;
            }
            let write = self.write();
            // Who reads a register before he overwrites it says which value he replaced.
            if self.holds == Holds::Registers && !last && self.draw.chance(0.5) {
                all.push(Micro::Read(write.key().clone()));
            }
            all.push(write);
        }
        all
    }
}

impl Generator for Transactions {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        let micro = self.micro_operations();
        let value = micro.iter().map(|micro| micro.written(Value::Nil));
        let invocation = Invocation {
            local: self.draw.local_reads() && micro.iter().all(Micro::is_read),
            ..Invocation::new(transaction::txn(), None, value.collect())
        };
        Next::Op { thread, invocation }
    }
}

/// The largest amount of one transfer.
const MOST: usize = 5;

/// Reads of all accounts, and transfers between two of them.
pub(super) struct Transfers {
    draw: Draw,
}

impl Transfers {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
        }
    }
}

impl Generator for Transfers {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        if self.draw.is_read() {
            let invocation = Invocation {
                local: self.draw.local_reads(),
                ..Invocation::new(F::Read, None, Value::Nil)
            };
            return Next::Op { thread, invocation };
        }
        let accounts = ACCOUNTS as usize;
        let from = self.draw.below(accounts).unwrap_or_default();
        // Another one: from 1 to all but one further on.
        let further = 1 + self.draw.below(accounts - 1).unwrap_or_default();
        let amount = 1 + self.draw.below(MOST).unwrap_or_default() as i64;
        let account = |number: usize| Value::Int(number as i64);
        let transfer = Transfer {
            from: account(from),
            to: account((from + further) % accounts),
            amount,
        };
        let invocation = Invocation::new(transaction::transfer(), None, transfer.written());
        Next::Op { thread, invocation }
    }
}
