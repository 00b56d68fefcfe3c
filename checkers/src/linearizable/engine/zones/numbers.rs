//! Numbers the values of one register.

use rustc_hash::FxHashMap;

use super::super::{Id, NIL};
use crate::Value;

/// Numbers the values of one register in the order of their appearance; nil is [`NIL`].
#[derive(Default)]
pub(super) struct Numbers {
    /// By value, of whole numbers that are not much greater than there are values: looking them up
    /// stays close to where the last one was. [`NIL`] is none.
    small: Vec<Id>,
    others: FxHashMap<Value, Id>,
    last: Id,
}

impl Numbers {
    pub(super) fn of(&mut self, value: &Value) -> Id {
        let small = match value {
            Value::Nil => return NIL,
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let known = small.and_then(|n| self.small.get(n).copied());
        if let Some(number) = known.filter(|number| *number != NIL) {
            return number;
        }
        let room = 4 * self.last as usize + 1024;
        match small {
            // It may have come when there was no room yet.
            Some(n) if n < room && !self.others.contains_key(value) => {
                if n >= self.small.len() {
                    self.small.resize((n + 1).next_power_of_two(), NIL);
                }
                self.last += 1;
                self.small[n] = self.last;
                self.last
            }
            _ => {
                if let Some(number) = self.others.get(value) {
                    return *number;
                }
                self.last += 1;
                self.others.insert(value.clone(), self.last);
                self.last
            }
        }
    }
}
