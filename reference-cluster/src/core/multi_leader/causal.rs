//! Values by the event that wrote them, and which events have been seen: dotted version vectors
//! (Preguiça, Baquero, Almeida, Fonte & Gonçalves, *Dotted Version Vectors*, 2010 and 2012), in the
//! form of delta-state CRDTs (Almeida, Shoker & Baquero, *Delta State Replicated Data Types*,
//! 2018).
//!
//! An event that was seen and whose value is gone was replaced or removed: so removals need no
//! tombstones. Events are numbered by key and origin.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::origin::{Dot, Origin, Vector};

/// A set of events: all up to a number of each origin, and single ones beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// All up to there.
    pub seen: Vector,
    /// Single ones.
    cloud: BTreeSet<Dot>,
}

impl Context {
    /// All that a vector knows.
    pub fn of(seen: Vector) -> Self {
        let cloud = BTreeSet::new();
        Self { seen, cloud }
    }

    /// Whether this event is among them.
    pub fn contains(&self, dot: Dot) -> bool {
        self.seen.contains(dot) || self.cloud.contains(&dot)
    }

    /// Adds one.
    pub fn add(&mut self, dot: Dot) {
        self.cloud.insert(dot);
        self.compact();
    }

    fn merge(&mut self, other: &Self) {
        self.seen.merge(&other.seen);
        self.cloud.extend(other.cloud.iter().copied());
        self.compact();
    }

    /// Single events that follow without a gap count as seen. In ascending order, so one pass does.
    fn compact(&mut self) {
        let seen = &mut self.seen;
        self.cloud.retain(|&dot| {
            if dot.seq == seen.get(dot.origin).saturating_add(1) {
                seen.see(dot.origin, dot.seq);
            }
            !seen.contains(dot)
        });
    }

    /// The event that follows all of this origin's.
    pub fn next(&self, origin: Origin) -> Dot {
        let single = self.cloud.iter().filter(|dot| dot.origin == origin);
        let last = single
            .map(|dot| dot.seq)
            .fold(self.seen.get(origin), u64::max);
        let seq = last.saturating_add(1);
        Dot { origin, seq }
    }
}

/// Values by event, and the events seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causal<T> {
    /// What has not been replaced.
    pub live: BTreeMap<Dot, T>,
    /// All events seen, replaced or not.
    pub context: Context,
}

impl<T> Default for Causal<T> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            context: Context::default(),
        }
    }
}

impl<T: Clone> Causal<T> {
    /// Merges: what either has, but for what the other has seen and has no longer. Commutative,
    /// associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        self.live
            .retain(|dot, _| other.live.contains_key(dot) || !other.context.contains(*dot));
        for (dot, value) in &other.live {
            if !self.context.contains(*dot) {
                self.live.insert(*dot, value.clone());
            }
        }
        self.context.merge(&other.context);
    }

    /// The change that replaces these events, and those of the context, by a value.
    pub fn write(
        &self,
        origin: Origin,
        value: T,
        replaced: impl IntoIterator<Item = Dot>,
        mut context: Context,
    ) -> Self {
        let mut all = self.context.clone();
        all.merge(&context);
        let dot = all.next(origin);
        replaced.into_iter().for_each(|dot| context.add(dot));
        context.add(dot);
        let live = [(dot, value)].into();
        Self { live, context }
    }

    /// The change that removes these events.
    pub fn remove(dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut change = Self::default();
        dots.into_iter().for_each(|dot| change.context.add(dot));
        change
    }
}
