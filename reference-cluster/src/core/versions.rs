//! Version vectors: how much of each node's writes somebody has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NodeId;

/// How many writes of each node are known; of a node not named, none. (Parker et al., *Detection
/// of Mutual Inconsistency in Distributed Systems*, 1983.)
///
/// Clients carry it without looking inside, in two places: as the *session*, what the client's own
/// operations have shown it, and as the *context* of a write, the versions that it replaces. A
/// mode with one log counts its entries under [`VersionVector::LOG`].
///
/// Written `n1:4,n2:7`; empty for nothing seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionVector(pub BTreeMap<NodeId, u64>);

impl VersionVector {
    /// Stands for the one log of a mode that has only one.
    pub const LOG: NodeId = NodeId(0);

    /// Of a log whose newest entry seen has this index.
    pub fn of_log(index: u64) -> Self {
        Self([(Self::LOG, index)].into())
    }

    /// How many writes of this node are known.
    pub fn get(&self, node: NodeId) -> u64 {
        self.0.get(&node).copied().unwrap_or(0)
    }

    /// Takes note of this many writes of a node.
    pub fn see(&mut self, node: NodeId, count: u64) {
        let known = self.0.entry(node).or_default();
        *known = (*known).max(count);
    }

    /// Takes note of all that another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (&node, &count) in &other.0 {
            self.see(node, count);
        }
    }

    /// Whether all that the other has seen is known here.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(&node, &count)| self.get(node) >= count)
    }
}

impl fmt::Display for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (node, count)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}n{}:{count}", node.0)?;
        }
        Ok(())
    }
}

impl FromStr for VersionVector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a version vector such as n1:4,n2:7, not {text:?}");
        let mut vector = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (node, count) = part
                .strip_prefix('n')
                .and_then(|rest| rest.split_once(':'))
                .ok_or_else(wrong)?;
            let node = node.parse().map_err(|_| wrong())?;
            vector.see(NodeId(node), count.parse().map_err(|_| wrong())?);
        }
        Ok(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_reads_what_it_writes() {
        for text in ["", "n1:4", "n0:12,n3:1"] {
            let vector: VersionVector = text.parse().unwrap();
            assert_eq!(vector.to_string(), text);
        }
        for bad in ["n1", "1:2", "n1:x", "n1:1;n2:2"] {
            assert!(bad.parse::<VersionVector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn merging_covers_both() {
        let (a, b): (VersionVector, VersionVector) =
            ("n1:4,n2:1".parse().unwrap(), "n2:3,n3:1".parse().unwrap());
        assert!(!a.covers(&b) && !b.covers(&a));
        let mut both = a.clone();
        both.merge(&b);
        assert_eq!(both.to_string(), "n1:4,n2:3,n3:1");
        assert!(both.covers(&a) && both.covers(&b));
    }
}
