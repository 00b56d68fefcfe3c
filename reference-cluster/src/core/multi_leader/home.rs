//! Each key has a home, which alone takes its writes.
//!
//! The home of a key is the node with the number FxHash(key) modulo the number of nodes, as long as
//! nobody has taken it over. Taking over is announced to the others as a change like any other,
//! with an epoch; of two that take over at the same time the one with the higher epoch, then with
//! the higher number, stays.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use super::replica::MultiLeader;
use super::{Conflicts, Payload};
use crate::core::{Answer, Effect, NodeId, Op, Refusal, RequestId, Time};

/// Whose keys they are. Ordered by epoch, then by node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// How often it has been taken over, as the one who took it over knew.
    pub epoch: u64,
    /// The node.
    pub node: NodeId,
}

/// The owners of the keys, by the node to which they belonged at first.
#[derive(Debug)]
pub(super) struct Homes {
    nodes: Vec<NodeId>,
    owners: BTreeMap<NodeId, Owner>,
}

impl Homes {
    pub fn new(nodes: &[NodeId]) -> Self {
        Self {
            nodes: nodes.to_vec(),
            owners: BTreeMap::new(),
        }
    }

    /// Those that are not as at first.
    pub fn owners(&self) -> &BTreeMap<NodeId, Owner> {
        &self.owners
    }

    fn owner(&self, first: NodeId) -> Owner {
        let untouched = Owner {
            epoch: 0,
            node: first,
        };
        self.owners.get(&first).copied().unwrap_or(untouched)
    }

    /// The node that takes writes of a key, as far as is known here.
    pub fn of(&self, key: &str) -> NodeId {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        let which = hasher.finish() % self.nodes.len().max(1) as u64;
        let first = self.nodes.get(which as usize).copied();
        self.owner(first.unwrap_or(NodeId(1))).node
    }

    /// Takes note of an owner. Always as it should be.
    pub fn merge(&mut self, first: NodeId, owner: Owner) -> bool {
        if owner > self.owner(first) && self.nodes.contains(&first) {
            self.owners.insert(first, owner);
        }
        true
    }
}

impl MultiLeader {
    /// The node that is to take this write, if it is not this one.
    pub(super) fn elsewhere(&self, op: &Op) -> Option<NodeId> {
        if self.config.multi_leader.conflicts != Conflicts::Home {
            return None;
        }
        let home = self.homes.of(op.key()?);
        (home != self.id).then_some(home)
    }

    /// Makes this node the home of all keys that have that node as their home.
    pub(super) fn take_home(
        &mut self,
        now: Time,
        id: RequestId,
        from: NodeId,
        effects: &mut Vec<Effect>,
    ) {
        if self.config.multi_leader.conflicts != Conflicts::Home {
            let why = "keys have homes with conflicts: home only";
            self.answer(id, Err(Refusal::Unsupported(why.into())));
            return;
        }
        let nodes = self.homes.nodes.clone();
        for first in nodes {
            let owner = self.homes.owner(first);
            if owner.node == from && from != self.id {
                let owner = Owner {
                    epoch: owner.epoch.saturating_add(1),
                    node: self.id,
                };
                let stamp = self.stamp(now);
                let change = self.create(Payload::Home(first, owner), stamp);
                self.record_change(&change, now, effects);
            }
        }
        self.answer(id, Ok(Answer::Done));
    }
}
