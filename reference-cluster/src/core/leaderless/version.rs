//! What a replica holds of a key, and how two replicas' contents become one.
//!
//! Both kinds are join semilattices: [`Entry::merge`] is commutative, associative and idempotent,
//! so that late, reordered and duplicated messages do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use crate::core::timing::mix;
use crate::core::{Datum, NodeId, Scalar, Time, VersionVector};

/// Highest number of a node: contexts have six bits for it.
pub(super) const NODE_MAX: u16 = 63;
/// Bits of [`Actor::epoch`] that fit into a context.
pub(super) const EPOCH_BITS: u32 = 42;

/// Who mints dots: a node, for as long as it remembers what it minted for one key. It takes a new
/// epoch for a key of which it holds nothing, having never written it, lost its disk or collected
/// its tombstone (Riak's *per-key actor epochs*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// A number below 2⁴² that the node never draws twice, but for chance.
    pub epoch: u64,
}

/// One write: the how-manieth of its actor, from 1.
pub type Dot = (Actor, u32);

/// What a replica holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// With last-write-wins.
    Stamped(Stamped),
    /// With dotted version vectors.
    Dotted(Dotted),
}

/// A value and when it was written; the greatest wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamped {
    /// By the clock of the node that took the write.
    pub at: Time,
    /// That node: decides between equal times.
    pub node: NodeId,
    /// What was written; none: deleted.
    pub value: Option<Scalar>,
}

/// Concurrent values with the causal past that they share: a dotted version vector set (Almeida,
/// Baquero, Gonçalves, Preguiça & Fonte, *Scalable and Accurate Causality Tracking for Eventually
/// Consistent Stores*, 2014).
///
/// The clock is downward closed: who knows a dot knows all dots of that actor before it, because
/// an actor is one replica that numbers its writes of the key one after the other and always sends
/// all it holds. A dot that the clock covers and that is not among the siblings is of a value that
/// was replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dotted {
    /// How many writes of each actor are known.
    pub clock: BTreeMap<Actor, u32>,
    /// Those of them that nothing known replaces. None: the key was deleted.
    pub siblings: BTreeMap<Dot, Scalar>,
}

impl Dotted {
    fn covers(clock: &BTreeMap<Actor, u32>, dot: &Dot) -> bool {
        clock.get(&dot.0).is_some_and(|known| *known >= dot.1)
    }

    fn see(&mut self, clock: &BTreeMap<Actor, u32>) {
        for (actor, count) in clock {
            let known = self.clock.entry(*actor).or_default();
            *known = (*known).max(*count);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.siblings
            .retain(|dot, _| other.siblings.contains_key(dot) || !Self::covers(&other.clock, dot));
        for (dot, value) in &other.siblings {
            if !Self::covers(&self.clock, dot) {
                self.siblings.insert(*dot, value.clone());
            }
        }
        self.see(&other.clock);
    }

    /// Drops the values that a context covers.
    pub fn replace(&mut self, context: &BTreeMap<Actor, u32>) {
        self.siblings.retain(|dot, _| !Self::covers(context, dot));
        self.see(context);
    }

    /// Adds a value as the actor's next write. False if the actor has no number left.
    pub fn mint(&mut self, actor: Actor, value: Scalar) -> bool {
        let count = self.clock.entry(actor).or_default();
        let Some(next) = count.checked_add(1) else {
            return false;
        };
        *count = next;
        self.siblings.insert((actor, next), value);
        true
    }

    /// The clock as clients carry it: see [`context`].
    fn context(&self) -> VersionVector {
        let alive: BTreeSet<Actor> = self.siblings.keys().map(|(actor, _)| *actor).collect();
        let mut vector = VersionVector::default();
        // Two epochs of a node may fall on one place. To leave one of them out makes a write
        // concurrent with what it replaces, which loses nothing; but what is there to be replaced
        // goes first.
        let (first, second): (Vec<_>, Vec<_>) = self
            .clock
            .iter()
            .partition(|(actor, _)| alive.contains(actor));
        for (actor, count) in first.into_iter().chain(second) {
            let place = NodeId(actor.node.0 + 64 * (actor.epoch & 1_023) as u16);
            let count = (actor.epoch >> 10) << 32 | u64::from(*count);
            vector.0.entry(place).or_insert(count);
        }
        vector
    }
}

/// A clock out of the version vector that a client carried. There, a node's number has the lowest
/// ten bits of the epoch above its own six, and the count has the other 32 bits of the epoch above
/// its own 32.
pub(super) fn context(vector: &VersionVector) -> BTreeMap<Actor, u32> {
    let actors = vector.0.iter().map(|(place, count)| {
        let actor = Actor {
            node: NodeId(place.0 % 64),
            epoch: u64::from(place.0 / 64) | (count >> 32) << 10,
        };
        (actor, *count as u32)
    });
    actors.collect()
}

impl Entry {
    /// Takes in what another replica holds. True if this changed anything. An entry of the other
    /// kind changes nothing.
    pub fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stamped(mine), Self::Stamped(theirs)) => {
                let newer = theirs > mine;
                if newer {
                    *mine = theirs.clone();
                }
                newer
            }
            (Self::Dotted(mine), Self::Dotted(theirs)) => {
                if mine == theirs {
                    return false;
                }
                let before = mine.clone();
                mine.merge(theirs);
                *mine != before
            }
            _ => false,
        }
    }

    /// Whether all that the other holds is known here.
    pub fn includes(&self, other: &Self) -> bool {
        !self.clone().merge(other)
    }

    /// Whether there is nothing left but the memory that there was something.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Stamped(stamped) => stamped.value.is_none(),
            Self::Dotted(dotted) => dotted.siblings.is_empty(),
        }
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        match self {
            Self::Stamped(stamped) => usize::from(stamped.value.is_some()),
            Self::Dotted(dotted) => dotted.siblings.len(),
        }
    }

    /// What a reader sees, without versions. Equal values that were written concurrently are one.
    pub fn datum(&self) -> Option<Datum> {
        match self {
            Self::Stamped(stamped) => stamped.value.clone().map(Datum::Register),
            Self::Dotted(dotted) if dotted.siblings.is_empty() => None,
            Self::Dotted(dotted) => {
                let values: BTreeSet<&Scalar> = dotted.siblings.values().collect();
                Some(Datum::Siblings(values.into_iter().cloned().collect()))
            }
        }
    }

    /// What a reader gets to say which versions it replaces.
    pub fn context(&self) -> Option<VersionVector> {
        match self {
            Self::Stamped(_) => None,
            Self::Dotted(dotted) => Some(dotted.context()),
        }
    }

    /// A number for the entry of this key: equal entries, equal numbers.
    pub fn hash(&self, key: &str) -> u64 {
        let mut hasher = FxHasher::default();
        Hash::hash(self, &mut hasher);
        mix(super::ring::hash(key), hasher.finish(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(node: u16) -> Actor {
        Actor {
            node: NodeId(node),
            epoch: u64::from(node) << 30 | 5,
        }
    }

    fn write(state: &mut Dotted, node: u16, context: &BTreeMap<Actor, u32>, value: i64) {
        state.replace(context);
        assert!(state.mint(actor(node), Scalar::Int(value)));
    }

    fn values(state: &Dotted) -> Vec<i64> {
        let of = |value: &Scalar| match value {
            Scalar::Int(n) => *n,
            _ => unreachable!(),
        };
        state.siblings.values().map(of).collect()
    }

    /// The example of Preguiça et al. 2010 for which plain version vectors with one entry a server
    /// are wrong: two clients write through one server without having seen each other.
    #[test]
    fn concurrent_writes_through_one_replica_are_siblings() {
        let mut state = Dotted::default();
        write(&mut state, 1, &BTreeMap::new(), 1);
        let seen = context(&state.context());
        write(&mut state, 1, &seen, 2);
        write(&mut state, 1, &seen, 3);
        assert_eq!(values(&state), [2, 3]);
        let both = context(&state.context());
        write(&mut state, 1, &both, 4);
        assert_eq!(values(&state), [4]);
    }

    #[test]
    fn merging_keeps_what_neither_side_has_replaced() {
        let (mut a, mut b) = (Dotted::default(), Dotted::default());
        write(&mut a, 1, &BTreeMap::new(), 1);
        b.merge(&a);
        let seen = a.clock.clone();
        write(&mut a, 1, &seen, 2);
        write(&mut b, 2, &BTreeMap::new(), 3);
        let mut both = a.clone();
        both.merge(&b);
        assert_eq!(values(&both), [2, 3]);
        let mut other = b.clone();
        other.merge(&a);
        assert_eq!(both, other);
        // A deletion that has seen one of them leaves the other, everywhere.
        a.replace(&a.clock.clone());
        assert!(a.siblings.is_empty());
        both.merge(&a);
        assert_eq!(values(&both), [3]);
        assert!(Entry::Dotted(both).includes(&Entry::Dotted(a)));
    }

    /// Joins of random histories: commutative, associative, idempotent.
    #[test]
    fn merging_is_a_join() {
        for seed in 0..500 {
            let mut states = [Dotted::default(), Dotted::default(), Dotted::default()];
            for step in 0..12 {
                let which = (mix(seed, step, 0) % 3) as usize;
                match mix(seed, step, 1) % 4 {
                    0 => {
                        let from = states[(mix(seed, step, 2) % 3) as usize].clone();
                        states[which].merge(&from);
                    }
                    1 => {
                        let seen = states[(mix(seed, step, 2) % 3) as usize].clock.clone();
                        write(&mut states[which], which as u16 + 1, &seen, step as i64);
                    }
                    2 => write(
                        &mut states[which],
                        which as u16 + 1,
                        &BTreeMap::new(),
                        step as i64,
                    ),
                    _ => {
                        let seen = states[which].clock.clone();
                        states[which].replace(&seen);
                    }
                }
            }
            let join = |a: &Dotted, b: &Dotted| {
                let mut both = a.clone();
                both.merge(b);
                both
            };
            let [a, b, c] = &states;
            assert_eq!(join(a, b), join(b, a), "seed {seed}");
            assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "seed {seed}");
            assert_eq!(join(a, a), *a, "seed {seed}");
            assert_eq!(join(&join(a, b), b), join(a, b), "seed {seed}");
        }
    }

    #[test]
    fn contexts_survive_the_way_through_the_client() {
        let mut state = Dotted::default();
        for n in [1, 2, 63] {
            let actor = Actor {
                node: NodeId(n),
                epoch: mix(7, u64::from(n), 0) >> (64 - EPOCH_BITS),
            };
            assert!(state.mint(actor, Scalar::Nil) && state.mint(actor, Scalar::Nil));
        }
        let text = state.context().to_string();
        assert_eq!(context(&text.parse().unwrap()), state.clock);
    }

    #[test]
    fn where_two_epochs_collide_the_living_one_is_in_the_context() {
        let mut state = Dotted::default();
        let [old, new] = [1, 2].map(|high| Actor {
            node: NodeId(3),
            epoch: high << 10 | 77,
        });
        for (dead, alive) in [(old, new), (new, old)] {
            state = Dotted::default();
            assert!(state.mint(dead, Scalar::Int(1)));
            state.replace(&state.clock.clone());
            assert!(state.mint(alive, Scalar::Int(2)));
            assert_eq!(context(&state.context()), [(alive, 1)].into());
        }
        assert!(!state.siblings.is_empty());
    }

    #[test]
    fn the_last_write_wins_by_time_then_node() {
        let entry = |at, node, n| {
            Entry::Stamped(Stamped {
                at,
                node: NodeId(node),
                value: Some(Scalar::Int(n)),
            })
        };
        let mut held = entry(5, 1, 1);
        assert!(!held.merge(&entry(4, 9, 2)));
        assert!(held.merge(&entry(5, 2, 3)));
        assert!(!held.merge(&entry(5, 2, 3)));
        assert_eq!(held, entry(5, 2, 3));
        assert!(!held.merge(&Entry::Dotted(Dotted::default())));
    }
}
