//! Hash trees over what a replica holds, by which two replicas find where they differ.
//!
//! One tree a range, as in the paper (`DeCandia` et al. 2007, §4.7), of fixed depth: a root, 16
//! nodes, 256 leaves, each leaf a bucket of keys. The hash of a leaf is the sum of the hashes of
//! its entries, that of an inner node the sum of its children's: a changed entry changes three
//! sums and nothing is computed anew. (A hash of hashes would resist forgery, too; replicas trust
//! each other.)

/// Children of an inner node.
pub(super) const FAN_OUT: u16 = 16;
/// The level of the leaves; that of the root is 0.
pub(super) const LEAVES: u8 = 2;

/// Where a key is in its tree.
pub(super) fn bucket(hash: u64) -> u16 {
    // Other bits than those that choose the range.
    (hash >> 56) as u16
}

/// The tree of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    root: u64,
    inner: [u64; 16],
    leaves: Box<[u64; 256]>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: 0,
            inner: [0; 16],
            leaves: Box::new([0; 256]),
        }
    }
}

impl Tree {
    /// An entry with this hash is in the bucket now.
    pub fn add(&mut self, bucket: u16, hash: u64) {
        self.change(bucket, hash);
    }

    /// It is no longer.
    pub fn take(&mut self, bucket: u16, hash: u64) {
        self.change(bucket, hash.wrapping_neg());
    }

    fn change(&mut self, bucket: u16, by: u64) {
        let leaf = usize::from(bucket) % 256;
        let sums = [
            &mut self.root,
            &mut self.inner[leaf / usize::from(FAN_OUT)],
            &mut self.leaves[leaf],
        ];
        for sum in sums {
            *sum = sum.wrapping_add(by);
        }
    }

    /// The hash of a node, by level and place; 0 beyond the tree.
    pub fn hash(&self, level: u8, place: u16) -> u64 {
        let nodes: &[u64] = match level {
            0 => &[self.root],
            1 => &self.inner,
            LEAVES => self.leaves.as_slice(),
            _ => &[],
        };
        nodes.get(usize::from(place)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::timing::mix;

    #[test]
    fn trees_differ_exactly_on_the_way_to_what_differs() {
        let (mut a, mut b) = (Tree::default(), Tree::default());
        for n in 0..1_000 {
            a.add((n * 7 % 256) as u16, mix(n, 0, 0));
            let m = 999 - n;
            b.add((m * 7 % 256) as u16, mix(m, 0, 0));
        }
        assert_eq!(a, b);
        b.take(35, mix(5, 0, 0));
        b.add(35, mix(5, 1, 0));
        for level in 0..=LEAVES {
            let count = u16::pow(FAN_OUT, level.into());
            let differ: Vec<u16> = (0..count)
                .filter(|place| a.hash(level, *place) != b.hash(level, *place))
                .collect();
            assert_eq!(differ, [35 / u16::pow(FAN_OUT, (LEAVES - level).into())]);
        }
        b.take(35, mix(5, 1, 0));
        b.add(35, mix(5, 0, 0));
        assert_eq!(a, b);
        assert_eq!(a.hash(LEAVES, 999), 0);
    }
}
