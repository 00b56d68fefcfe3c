//! A text: a replicated growable array (Roh, Jeon, Kim & Lee, *Replicated abstract data types*,
//! 2011), kept as the tree in which each element hangs from the one it was inserted after (the
//! form in which Attiya et al., *Specification and Complexity of Collaborative Text Editing*, 2016,
//! prove it correct).
//!
//! The text is the tree in depth-first order, the newest first among those inserted after the same
//! element. Removed elements stay, without showing, for others to hang from.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::Scalar;
use crate::core::multi_leader::origin::Origin;

/// Names an element; later ones are larger than all that their writer had seen (Lamport).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    count: u64,
    origin: Origin,
}

/// All elements ever inserted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Each with the one it was inserted after; none for the beginning.
    elements: BTreeMap<Id, (Option<Id>, Scalar)>,
    removed: BTreeSet<Id>,
}

impl Text {
    /// Those that can be reached from the beginning, removed or not, in order. An element whose
    /// predecessor has not arrived yet waits for it.
    fn order(&self) -> Vec<Id> {
        let mut after: BTreeMap<Option<Id>, Vec<Id>> = BTreeMap::new();
        for (id, (parent, _)) in &self.elements {
            after.entry(*parent).or_default().push(*id);
        }
        // Ascending, so that the newest comes off the stack first.
        let mut stack = after.remove(&None).unwrap_or_default();
        let mut order = Vec::with_capacity(self.elements.len());
        while let Some(id) = stack.pop() {
            order.push(id);
            stack.extend(after.remove(&Some(id)).unwrap_or_default());
        }
        order
    }

    fn visible(&self) -> impl Iterator<Item = (Id, &Scalar)> {
        let order = self.order().into_iter();
        order
            .filter(|id| !self.removed.contains(id))
            .filter_map(|id| Some((id, &self.elements.get(&id)?.1)))
    }

    /// What a reader sees.
    pub fn value(&self) -> Vec<Scalar> {
        self.visible().map(|(_, value)| value.clone()).collect()
    }

    /// The change that inserts an element after the first visible one that equals `after`: at the
    /// beginning for nil, at the end if it is not there (any more).
    #[must_use]
    pub fn insert(&self, origin: Origin, after: &Scalar, value: &Scalar) -> Self {
        let parent = match after {
            Scalar::Nil => None,
            _ => {
                let mut last = None;
                let found = self.visible().find(|(id, value)| {
                    last = Some(*id);
                    *value == after
                });
                found.map(|(id, _)| id).or(last)
            }
        };
        self.insert_at(origin, parent, value)
    }

    /// The change that inserts an element at the end.
    #[must_use]
    pub fn append(&self, origin: Origin, value: &Scalar) -> Self {
        let last = self.visible().last().map(|(id, _)| id);
        self.insert_at(origin, last, value)
    }

    fn insert_at(&self, origin: Origin, parent: Option<Id>, value: &Scalar) -> Self {
        let newest = self.elements.keys().next_back();
        let count = newest.map_or(0, |id| id.count).saturating_add(1);
        let element = (parent, value.clone());
        Self {
            elements: [(Id { count, origin }, element)].into(),
            removed: BTreeSet::new(),
        }
    }

    /// The change that removes all visible elements of this value; of any, if none is given.
    #[must_use]
    pub fn remove(&self, value: Option<&Scalar>) -> Self {
        let gone = self
            .visible()
            .filter(|(_, v)| value.is_none_or(|value| *v == value));
        Self {
            removed: gone.map(|(id, _)| id).collect(),
            elements: BTreeMap::new(),
        }
    }

    /// What either has.
    pub fn merge(&mut self, other: &Self) {
        for (id, element) in &other.elements {
            self.elements.entry(*id).or_insert_with(|| element.clone());
        }
        self.removed.extend(&other.removed);
    }
}

#[cfg(test)]
impl Text {
    /// The values of all elements, removed or not.
    pub fn inserted(&self) -> Vec<Scalar> {
        let values = self.elements.values();
        values.map(|(_, value)| value.clone()).collect()
    }

    /// The values of these elements that a change removes.
    pub fn taken_by(&self, change: Option<&Self>) -> Vec<Scalar> {
        let removed = change.iter().flat_map(|change| &change.removed);
        removed
            .filter_map(|id| Some(self.elements.get(id)?.1.clone()))
            .collect()
    }
}
