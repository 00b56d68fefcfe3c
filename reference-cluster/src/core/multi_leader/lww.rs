//! Last write wins: a whole value with the time at which it was written.

use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use crate::core::store::Store;
use crate::core::{Datum, Op, Refusal};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// When it was written, and by whom.
    pub stamp: Stamp,
    /// What was written; none if the key was deleted.
    pub datum: Option<Datum>,
}

impl Cell {
    /// Keeps the later of the two.
    ///
    /// With `tie_keeps_own`, the planted mistake, timestamps of different nodes are compared by
    /// time alone, and the one that was here first stays if they are equal.
    pub fn merge(&mut self, other: &Self, tie_keeps_own: bool) {
        let tie = self.stamp.moment == other.stamp.moment
            && self.stamp.origin.node != other.stamp.origin.node;
        if other.stamp > self.stamp && !(tie && tie_keeps_own) {
            *self = other.clone();
        }
    }
}

/// The whole value that an operation makes of the one there is.
///
/// # Errors
/// As [`Store::apply`].
pub(super) fn change(cell: Option<&Cell>, op: &Op, stamp: Stamp) -> Result<Cell, Refusal> {
    let datum = cell.and_then(|cell| cell.datum.clone());
    let datum = Store::apply_to(datum, op)?;
    Ok(Cell { stamp, datum })
}
