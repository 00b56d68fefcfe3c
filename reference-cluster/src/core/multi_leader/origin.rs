//! Who made a change: nodes, their lives, and vectors of how much of each is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::{NodeId, VersionVector};

/// A node in one of its lives.
///
/// A node that has lost its journal, or the end of it, does not know which sequence numbers it has
/// used: whoever has already seen them would take its next changes for duplicates, and they would
/// be lost without a sound. So it begins a new life, with sequence numbers of its own. Lives are
/// drawn from the time at which they begin, and are in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Tells its lives apart.
    pub life: u32,
}

/// One event of an origin: the change, or the version of a key, with this number, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who made it.
    pub origin: Origin,
    /// Its number.
    pub seq: u64,
}

/// How much of each origin is known: all up to a number. Grows by an entry with each life that
/// changes anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vector(pub BTreeMap<Origin, u64>);

/// In a [`VersionVector`], which has one count a node, each further life of a node is told apart
/// by adding this to its number; and each count holds the life above, and the number below, 32 bits.
const SLOT: u16 = 1_024;

/// The most nodes that a [`VersionVector`] has room for.
pub(super) const NODES_MAX: usize = SLOT as usize - 1;

impl Vector {
    /// How many events of this origin are known.
    pub fn get(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Takes note that all events of an origin up to this are known.
    pub fn see(&mut self, origin: Origin, seq: u64) {
        let known = self.0.entry(origin).or_default();
        *known = (*known).max(seq);
    }

    /// Takes note of all that another knows.
    pub fn merge(&mut self, other: &Self) {
        for (&origin, &seq) in &other.0 {
            self.see(origin, seq);
        }
    }

    /// Whether this event is known.
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.origin) >= dot.seq
    }

    /// Whether all that the other knows is known here.
    pub fn covers(&self, other: &Self) -> bool {
        other.lacking(self) == 0
    }

    /// How many events are known here that the other does not know.
    pub fn lacking(&self, other: &Self) -> u64 {
        let each = self.0.iter();
        each.map(|(&origin, &seq)| seq.saturating_sub(other.get(origin)))
            .fold(0, u64::saturating_add)
    }

    /// As clients carry it. Of a node with more than 63 lives, the last in number are left out.
    pub fn to_versions(&self) -> VersionVector {
        let mut versions = VersionVector::default();
        for (origin, seq) in &self.0 {
            let free = (0..64)
                .map(|slot| NodeId(slot * SLOT + origin.node.0 % SLOT))
                .find(|key| !versions.0.contains_key(key));
            if let Some(key) = free {
                let seq = (*seq).min(u32::MAX.into());
                versions.0.insert(key, u64::from(origin.life) << 32 | seq);
            }
        }
        versions
    }

    /// From what a client carried; whatever it is.
    pub fn of_versions(versions: &VersionVector) -> Self {
        let mut vector = Self::default();
        for (key, count) in &versions.0 {
            let origin = Origin {
                node: NodeId(key.0 % SLOT),
                life: (count >> 32) as u32,
            };
            vector.see(origin, count & u64::from(u32::MAX));
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_carry_every_life() {
        let mut vector = Vector::default();
        for (node, life, seq) in [(1, 7, 3), (1, 9, 1), (2, u32::MAX, 4), (900, 0, 5)] {
            let node = NodeId(node);
            vector.see(Origin { node, life }, seq);
        }
        let text = vector.to_versions().to_string();
        let back = Vector::of_versions(&text.parse().unwrap());
        assert_eq!(back, vector);
        assert_eq!(back.lacking(&Vector::default()), 13);
    }
}
