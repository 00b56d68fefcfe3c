//! What a node knows of the others, and to whom it sends what.

use super::Topology;
use super::changes::Changes;
use super::origin::{Dot, Origin, Vector};
use crate::core::{NodeId, Time};

/// What is known of another node.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub node: NodeId,
    /// Whether changes are sent to it, by the topology.
    pub target: bool,
    /// Whether it is told how far this node is, and does the same.
    pub neighbour: bool,
    /// Which run of its process `known` is about; none before it was first heard.
    pub run: Option<u64>,
    /// What it has, durably.
    pub known: Vector,
    /// When it was last heard.
    pub heard: Time,
    /// The place of the next change to be sent.
    pub cursor: u64,
    /// Before this place it has every change.
    pub acked: u64,
    /// When a whole state was last sent.
    pub state_sent: Option<Time>,
}

impl Link {
    /// Takes note of how far the node is. Of another run of its process it replaces what was
    /// known: what was not durable, or was wiped, is gone.
    pub fn hear(&mut self, run: u64, known: Vector, now: Time) {
        self.heard = now;
        if self.run == Some(run) {
            self.known.merge(&known);
        } else {
            self.run = Some(run);
            self.known = known;
            self.state_sent = None;
            self.acked = 0;
            self.cursor = 0;
        }
    }

    /// Moves `acked` over what it is known to have.
    pub fn advance(&mut self, changes: &Changes) {
        self.acked = self.acked.max(changes.first());
        while let Some(kept) = changes.get(self.acked)
            && self.known.contains(kept.change.dot)
        {
            self.acked += 1;
        }
        self.cursor = self.cursor.max(self.acked);
    }
}

/// The links of a node, by the topology; one to each other node.
pub(super) fn links(id: NodeId, nodes: &[NodeId], topology: Topology, all_tell: bool) -> Vec<Link> {
    let count = nodes.len();
    let place = nodes.iter().position(|node| *node == id).unwrap_or(0);
    let others = nodes.iter().enumerate().filter(|(_, node)| **node != id);
    others
        .map(|(other, &node)| {
            let (target, source) = match topology {
                Topology::AllToAll => (true, true),
                Topology::Ring => ((place + 1) % count == other, (other + 1) % count == place),
                Topology::Star => (place == 0 || other == 0, place == 0 || other == 0),
            };
            Link {
                node,
                target,
                neighbour: target || source || all_tell,
                run: None,
                known: Vector::default(),
                heard: 0,
                cursor: 0,
                acked: 0,
                state_sent: None,
            }
        })
        .collect()
}

/// Whether this node is to pass on to its targets what an origin made.
///
/// In a ring or star: yes. Where everybody sends to everybody: only what the origin cannot send
/// itself, for it was not heard of lately, or has lost it.
pub(super) fn passes_on(
    links: &[Link],
    topology: Topology,
    id: NodeId,
    dot: Dot,
    heard_since: Time,
) -> bool {
    if topology != Topology::AllToAll || dot.origin.node == id {
        return true;
    }
    let origin = links.iter().find(|link| link.node == dot.origin.node);
    origin.is_none_or(|link| link.heard < heard_since || !link.known.contains(dot))
}

/// Whether a node needs a whole state, because the changes that it lacks are not kept.
pub(super) fn needs_state(link: &Link, base: &Vector, passes_on: impl Fn(Dot) -> bool) -> bool {
    link.run.is_some()
        && base.0.iter().any(|(&origin, &seq): (&Origin, _)| {
            link.known.get(origin) < seq && passes_on(Dot { origin, seq })
        })
}
