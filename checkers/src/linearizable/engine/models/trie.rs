//! Maps of which changed copies share what did not change.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::hash;

const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
const LEVELS: u32 = 32 / BITS;

#[derive(Clone, Debug)]
enum Node {
    Inner([Option<Arc<Node>>; WIDTH]),
    /// Values, plus one; 0 is none.
    Leaf([u64; WIDTH]),
}

/// A map from numbers to numbers. Compared and hashed by the sum of the 128-bit hashes of its
/// entries: two different maps are taken for equal with probability 2^-128.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    root: Option<Arc<Node>>,
    hash: u128,
    pub(super) len: u32,
}

impl PartialEq for Trie {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.len == other.len
    }
}

impl Eq for Trie {}

impl Hash for Trie {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash as u64);
    }
}

/// What a changed copy of a trie costs.
pub(super) const BYTES_A_CHANGE: usize = LEVELS as usize * (WIDTH * 8 + 24);

fn digit(key: u32, level: u32) -> usize {
    (key >> (BITS * level)) as usize & (WIDTH - 1)
}

impl Trie {
    pub(super) fn get(&self, key: u32) -> Option<u32> {
        let mut node = self.root.as_deref()?;
        let mut level = LEVELS - 1;
        loop {
            match node {
                Node::Leaf(values) => {
                    return values[digit(key, 0)].checked_sub(1).map(|v| v as u32);
                }
                Node::Inner(children) => node = children[digit(key, level)].as_deref()?,
            }
            level = level.saturating_sub(1);
        }
    }

    /// A copy in which the key has this value, or none.
    #[must_use]
    pub(super) fn with(&self, key: u32, value: Option<u32>) -> Self {
        let before = self.get(key);
        if before == value {
            return self.clone();
        }
        let cell = value.map_or(0, |v| u64::from(v) + 1);
        let mut sum = self.hash;
        if let Some(before) = before {
            sum = sum.wrapping_sub(hash::entry(key, before));
        }
        if let Some(value) = value {
            sum = sum.wrapping_add(hash::entry(key, value));
        }
        Self {
            root: changed(self.root.as_deref(), LEVELS - 1, key, cell),
            hash: sum,
            len: self.len + u32::from(value.is_some()) - u32::from(before.is_some()),
        }
    }

    /// The smallest key.
    pub(super) fn first(&self) -> Option<u32> {
        let mut node = self.root.as_deref()?;
        let mut key = 0;
        loop {
            match node {
                Node::Leaf(values) => {
                    let at = values.iter().position(|v| *v != 0)?;
                    return Some(key << BITS | at as u32);
                }
                Node::Inner(children) => {
                    let at = children.iter().position(Option::is_some)?;
                    key = key << BITS | at as u32;
                    node = children[at].as_deref()?;
                }
            }
        }
    }
}

/// A changed copy; `None` if nothing is left in it. As deep as a key has digits.
fn changed(node: Option<&Node>, level: u32, key: u32, cell: u64) -> Option<Arc<Node>> {
    let at = digit(key, level);
    if level == 0 {
        let mut values = match node {
            Some(Node::Leaf(values)) => *values,
            _ => [0; WIDTH],
        };
        values[at] = cell;
        return values
            .iter()
            .any(|v| *v != 0)
            .then(|| Arc::new(Node::Leaf(values)));
    }
    let mut children = match node {
        Some(Node::Inner(children)) => children.clone(),
        _ => Default::default(),
    };
    children[at] = changed(children[at].as_deref(), level - 1, key, cell);
    let any = children.iter().any(Option::is_some);
    any.then(|| Arc::new(Node::Inner(children)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn behaves_as_an_ordered_map() {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut trie, mut map) = (Trie::default(), BTreeMap::new());
        for _ in 0..20_000 {
            let key = rng.random_range(0..40) * 107_374_182 + rng.random_range(0..3);
            let value = rng.random_bool(0.5).then(|| rng.random_range(0..3));
            trie = trie.with(key, value);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
            assert_eq!(trie.len as usize, map.len());
            assert_eq!(trie.first(), map.keys().next().copied());
            assert_eq!(trie.get(key), value);
        }
        let again = map
            .iter()
            .fold(Trie::default(), |t, (k, v)| t.with(*k, Some(*v)));
        assert_eq!(again, trie);
        assert_ne!(again.with(1, Some(7)), trie);
    }
}
