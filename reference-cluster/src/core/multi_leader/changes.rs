//! The changes that some other node may still need.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Change;
use super::origin::Vector;

/// One change, and the record of this node's journal that holds it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub change: Arc<Change>,
    pub record: u64,
}

/// Changes in the order in which they came to this node, its own among them. Each has a place; of
/// one origin, places are in the order of its sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Changes {
    first: u64,
    kept: VecDeque<Kept>,
    /// What has been dropped, or never came as changes: to be had only as a whole state.
    base: Vector,
}

impl Changes {
    /// A log that begins after a state.
    pub fn after(base: Vector) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    pub fn base(&self) -> &Vector {
        &self.base
    }

    /// The place of the oldest.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The place of the next to come.
    pub fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    pub fn get(&self, place: u64) -> Option<&Kept> {
        self.kept.get(place.checked_sub(self.first)? as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter()
    }

    pub fn push(&mut self, change: Arc<Change>, record: u64) {
        self.kept.push_back(Kept { change, record });
    }

    /// All of this is known now, but not as changes.
    pub fn skip(&mut self, known: &Vector, before: &Vector) {
        for (&origin, &seq) in &known.0 {
            if seq > before.get(origin) {
                self.base.see(origin, seq);
            }
        }
    }

    /// Drops the oldest, as long as there are some to drop.
    pub fn compact(&mut self, mut drop: impl FnMut(&Kept, usize) -> bool) {
        while let Some(oldest) = self.kept.front()
            && drop(oldest, self.kept.len())
        {
            let dot = oldest.change.dot;
            self.base.see(dot.origin, dot.seq);
            self.kept.pop_front();
            self.first += 1;
        }
    }
}
