//! Bookings made on devices that work while they are away and synchronise later.

use std::collections::BTreeMap;

use checkers::{F, Outcome, Value};

use super::Parameters;
use super::draw::{Draw, replacing};
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// The hours of a day that can be booked, from 8 to 17.
const HOURS: u64 = 10;

/// The slot of this number: ten hours a day, day after day.
pub(super) fn slot(number: u64) -> Value {
    let (day, hour) = (number / HOURS + 1, number % HOURS + 8);
    Value::str(&format!("day-{day}/{hour}h"))
}

/// Each client looks at a slot on its device and books it if it is free, settles a double booking,
/// cancels, or moves a booking to another slot; all in the knowledge of what it saw, so that what
/// others booked meanwhile is kept. A client stays with its device: policy `spread`.
pub(super) struct Calendar {
    draw: Draw,
    cancel_fraction: f64,
    /// What each client is about to do.
    intents: BTreeMap<u32, Intent>,
}

enum Intent {
    /// Looks, in order to do this.
    Looking(Wish),
    /// Has looked: this is next, and then a booking elsewhere if it is a move.
    Act {
        act: Box<Invocation>,
        then: Option<Value>,
    },
    /// Looks at this slot, in order to book it.
    LookAt(Value),
    /// A cancellation is under way whose booking is to be made elsewhere.
    Moving(Value),
}

enum Wish {
    Book,
    Cancel,
    Move { to: Value },
}

impl Calendar {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            cancel_fraction: parameters.cancel_fraction(),
            intents: BTreeMap::new(),
        }
    }

    fn wish(&mut self) -> Wish {
        if !self.draw.chance(self.cancel_fraction) {
            return Wish::Book;
        }
        // Half of those who give up a slot want another.
        if self.draw.chance(0.5) {
            return Wish::Cancel;
        }
        Wish::Move {
            to: self.draw.key_for_later(),
        }
    }

    fn look(&mut self, thread: u32, slot: Value, wish: Wish) -> Next {
        self.draw.touch(&slot);
        self.intents.insert(thread, Intent::Looking(wish));
        let invocation = self.draw.read(slot);
        Next::Op { thread, invocation }
    }
}

impl Generator for Calendar {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        match self.intents.remove(&thread) {
            Some(Intent::Act { act, then }) => {
                let mut invocation = *act;
                if invocation.f == F::Write {
                    invocation.value = self.draw.fresh();
                }
                if let Some(slot) = &invocation.key {
                    self.draw.written(slot);
                }
                if let Some(to) = then {
                    self.intents.insert(thread, Intent::Moving(to));
                }
                Next::Op { thread, invocation }
            }
            Some(Intent::LookAt(slot)) => self.look(thread, slot, Wish::Book),
            _ => {
                let slot = self.draw.key();
                if self.draw.is_read() {
                    let invocation = self.draw.read(slot);
                    return Next::Op { thread, invocation };
                }
                let wish = self.wish();
                self.look(thread, slot, wish)
            }
        }
    }

    fn completed(
        &mut self,
        _context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        let ok = completion.outcome == Outcome::Ok;
        let next = match (self.intents.remove(&thread), &invocation.f) {
            (Some(Intent::Looking(wish)), F::Read) if ok => decide(wish, invocation, completion),
            (Some(Intent::Moving(to)), F::Remove) if ok => Some(Intent::LookAt(to)),
            _ => None,
        };
        if let Some(intent) = next {
            self.intents.insert(thread, intent);
        }
    }
}

/// What to do with a slot, having seen who has booked it.
fn decide(wish: Wish, read: &Invocation, completion: &Completion) -> Option<Intent> {
    let replaces = replacing(completion);
    let bookings = replaces.seen.items().map_or(0, <[Value]>::len);
    let (f, then) = match (wish, bookings) {
        // Free, or booked twice: one booking takes the place of all.
        (Wish::Book, 0 | 2..) => (F::Write, None),
        (Wish::Cancel, 1..) => (F::Remove, None),
        (Wish::Move { to }, 1..) => (F::Remove, Some(to)),
        _ => return None,
    };
    let act = Box::new(Invocation {
        replaces: Some(replaces),
        ..Invocation::new(f, read.key.clone(), Value::Nil)
    });
    Some(Intent::Act { act, then })
}
