//! What a replica holds: its own keys, and hints for others.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::Record;
use super::merkle::{Tree, bucket};
use super::ring;
use super::version::Entry;
use crate::core::{Datum, NodeId};

/// What a replica holds of one key.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub entry: Entry,
    /// The epoch in which this node mints dots for the key, once it has.
    pub epoch: Option<u64>,
}

/// All that a replica holds. Where an *owner* is named, what is held for that node as a hint; none
/// for what is this node's own.
#[derive(Debug)]
pub(super) struct Keys {
    ranges: u16,
    held: BTreeMap<Arc<str>, Held>,
    hints: BTreeMap<(NodeId, Arc<str>), Held>,
    /// One tree a range, over the own keys.
    trees: Vec<Tree>,
    /// The own keys by range and bucket.
    index: BTreeSet<(u16, u16, Arc<str>)>,
}

impl Keys {
    /// With so many ranges.
    pub fn new(ranges: usize) -> Self {
        Self {
            ranges: ranges as u16,
            held: BTreeMap::new(),
            hints: BTreeMap::new(),
            trees: vec![Tree::default(); ranges],
            index: BTreeSet::new(),
        }
    }

    pub fn get(&self, owner: Option<NodeId>, key: &Arc<str>) -> Option<&Held> {
        match owner {
            None => self.held.get(key),
            Some(owner) => self.hints.get(&(owner, key.clone())),
        }
    }

    /// What is held of a key, as its own or for whomever.
    pub fn everything(&self, key: &Arc<str>) -> Option<Entry> {
        let mut all: Option<Entry> = self.held.get(key).map(|held| held.entry.clone());
        for owner in self.owners() {
            if let Some(hint) = self.hints.get(&(owner, key.clone())) {
                match &mut all {
                    Some(all) => drop(all.merge(&hint.entry)),
                    none => *none = Some(hint.entry.clone()),
                }
            }
        }
        all
    }

    /// How many keys and hints there are.
    pub fn len(&self) -> usize {
        self.held.len() + self.hints.len()
    }

    fn place(&self, key: &str) -> (u16, u16) {
        let hash = ring::hash(key);
        ((hash % u64::from(self.ranges)) as u16, bucket(hash))
    }

    pub fn put(&mut self, owner: Option<NodeId>, key: &Arc<str>, held: Held) {
        if let Some(owner) = owner {
            self.hints.insert((owner, key.clone()), held);
            return;
        }
        let (range, bucket) = self.place(key);
        let tree = &mut self.trees[usize::from(range)];
        tree.add(bucket, held.entry.hash(key));
        match self.held.insert(key.clone(), held) {
            Some(before) => tree.take(bucket, before.entry.hash(key)),
            None => drop(self.index.insert((range, bucket, key.clone()))),
        }
    }

    pub fn remove(&mut self, owner: Option<NodeId>, key: &Arc<str>) {
        if let Some(owner) = owner {
            self.hints.remove(&(owner, key.clone()));
            return;
        }
        let (range, bucket) = self.place(key);
        if let Some(before) = self.held.remove(key) {
            self.trees[usize::from(range)].take(bucket, before.entry.hash(key));
            self.index.remove(&(range, bucket, key.clone()));
        }
    }

    /// The hash of a node of the tree of a range.
    pub fn hash(&self, range: u16, level: u8, place: u16) -> u64 {
        let tree = self.trees.get(usize::from(range));
        tree.map_or(0, |tree| tree.hash(level, place))
    }

    /// The own keys of a bucket from this one on, in order, with the hashes of their entries.
    pub fn bucket(
        &self,
        range: u16,
        bucket: u16,
        from: &Arc<str>,
    ) -> impl Iterator<Item = (Arc<str>, u64)> {
        let keys = self.index.range((range, bucket, from.clone())..);
        keys.take_while(move |(r, b, _)| (*r, *b) == (range, bucket))
            .filter_map(|(_, _, key)| Some((key.clone(), self.held.get(key)?.entry.hash(key))))
    }

    /// All own keys whose values were deleted.
    pub fn tombstones(&self) -> impl Iterator<Item = &Arc<str>> {
        let deleted = self
            .held
            .iter()
            .filter(|(_, held)| held.entry.is_tombstone());
        deleted.map(|(key, _)| key)
    }

    /// How many hints there are.
    pub fn hints(&self) -> usize {
        self.hints.len()
    }

    /// For whom there are hints.
    pub fn owners(&self) -> impl Iterator<Item = NodeId> {
        let mut next = self.hints.keys().next().map(|(owner, _)| *owner);
        std::iter::from_fn(move || {
            let owner = next?;
            let after = (NodeId(owner.0.saturating_add(1)), Arc::from(""));
            let further = self.hints.range(after..).next();
            next = further.map(|((owner, _), _)| *owner);
            Some(owner)
        })
    }

    /// The hints for a node, in order.
    pub fn hints_for(&self, owner: NodeId) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let hints = self.hints.range((owner, Arc::from(""))..);
        hints
            .take_while(move |((of, _), _)| *of == owner)
            .map(|((_, key), held)| (key, &held.entry))
    }

    /// All own keys with values, in order.
    pub fn all(&self) -> Vec<(Arc<str>, Datum)> {
        self.held
            .iter()
            .filter_map(|(key, held)| Some((key.clone(), held.entry.datum()?)))
            .collect()
    }

    /// The shortest journal that leads to this state.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let record = |owner, key: &Arc<str>, held: &Held| Record::Held {
            owner,
            key: key.clone(),
            entry: held.entry.clone(),
            epoch: held.epoch,
        };
        let own = self
            .held
            .iter()
            .map(move |(key, held)| record(None, key, held));
        let hints = self.hints.iter();
        own.chain(hints.map(move |((owner, key), held)| record(Some(*owner), key, held)))
    }

    /// A number for the values of some own keys, without their versions.
    pub fn digest(&self, which: impl Fn(&str) -> bool) -> u64 {
        let mut hasher = FxHasher::default();
        for (key, held) in &self.held {
            if let Some(datum) = held.entry.datum()
                && which(key)
            {
                key.hash(&mut hasher);
                datum.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}
