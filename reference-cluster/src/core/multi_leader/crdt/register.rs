//! A last-writer-wins register (Shapiro et al. 2011) by hybrid logical clock: a write that has seen
//! another always wins over it; of concurrent ones one wins, and the other is lost.

use serde::{Deserialize, Serialize};

use crate::core::Scalar;
use crate::core::multi_leader::clock::Stamp;

/// A value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// When, and by whom.
    pub stamp: Stamp,
    /// What.
    pub value: Scalar,
}

impl Register {
    /// Keeps the later.
    pub fn merge(&mut self, other: &Self) {
        if other.stamp > self.stamp {
            *self = other.clone();
        }
    }
}
