//! A PN-counter (Shapiro, Preguiça, Baquero & Zawirski, *A comprehensive study of Convergent and
//! Commutative Replicated Data Types*, 2011): each origin's own increments and decrements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::multi_leader::origin::Origin;

/// The sums of each origin, increments and decrements apart, so that they only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    sums: BTreeMap<Origin, (u64, u64)>,
}

impl Counter {
    /// The change that adds an amount.
    #[must_use]
    pub fn increment(&self, origin: Origin, amount: i64) -> Self {
        let (up, down) = self.sums.get(&origin).copied().unwrap_or_default();
        let sum = if amount < 0 {
            (up, down.saturating_add(amount.unsigned_abs()))
        } else {
            (up.saturating_add(amount.unsigned_abs()), down)
        };
        let sums = [(origin, sum)].into();
        Self { sums }
    }

    /// Takes the larger sums of each origin; with `adding`, the planted mistake, both together.
    pub fn merge(&mut self, other: &Self, adding: bool) {
        for (&origin, &(up, down)) in &other.sums {
            let sum = self.sums.entry(origin).or_default();
            *sum = if adding {
                (sum.0.saturating_add(up), sum.1.saturating_add(down))
            } else {
                (sum.0.max(up), sum.1.max(down))
            };
        }
    }

    /// All together; wraps around as counters do elsewhere.
    pub fn value(&self) -> i64 {
        let each = self.sums.values();
        each.fold(0, |sum: i64, (up, down)| {
            sum.wrapping_add(up.wrapping_sub(*down) as i64)
        })
    }
}
