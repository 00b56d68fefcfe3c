//! What a replica holds.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::Record;
use super::version::Entry;
use crate::core::Datum;

/// What a replica holds of one key.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub entry: Entry,
    /// The epoch in which this node mints dots for the key, once it has.
    pub epoch: Option<u64>,
}

/// All that a replica holds.
#[derive(Debug, Default)]
pub(super) struct Keys {
    held: BTreeMap<Arc<str>, Held>,
}

impl Keys {
    pub fn get(&self, key: &str) -> Option<&Held> {
        self.held.get(key)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn put(&mut self, key: Arc<str>, held: Held) {
        self.held.insert(key, held);
    }

    /// All keys with values, in order.
    pub fn all(&self) -> Vec<(Arc<str>, Datum)> {
        self.held
            .iter()
            .filter_map(|(key, held)| Some((key.clone(), held.entry.datum()?)))
            .collect()
    }

    /// The shortest journal that leads to this state.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.held.iter().map(|(key, held)| Record::Held {
            key: key.clone(),
            entry: held.entry.clone(),
            epoch: held.epoch,
        })
    }

    /// A number for the values of some keys, without their versions.
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
