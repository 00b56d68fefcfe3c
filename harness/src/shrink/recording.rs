//! One run watched: what nodes told each other, what they were, and what they held.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkers::Value;
use nemesis::{Action, Node};
use reference_cluster::core::Role;
use reference_cluster::core::observe::Purpose;

use crate::sim::trace::{Arrived, Nodes, Process, Sent, Watch};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It came to its receiver.
    Arrived,
    /// A fault let nothing through.
    Cut,
    /// The network lost it.
    Lost,
    /// It came to a process that had ended, or died with that of its sender.
    Nobody,
}

/// A message between nodes.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it was sent, nanoseconds.
    pub sent: u64,
    /// When it arrived, or would have.
    pub at: u64,
    /// By whom.
    pub from: Node,
    /// To whom.
    pub to: Node,
    /// What it is called.
    pub kind: &'static str,
    /// What it is there for.
    pub purpose: Purpose,
    /// The first and the last index of the log that it carries or confirms.
    pub entries: Option<(u64, u64)>,
    /// Whether it carries something of the keys in question.
    pub about: bool,
    /// What became of it.
    pub fate: Fate,
}

/// What a node was from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Was {
    /// From when on, nanoseconds.
    pub at: u64,
    /// Which node.
    pub node: Node,
    /// Whether its process ran.
    pub process: Process,
    /// What it called itself, and in which epoch; none if it had ended.
    pub role: Option<(Role, u64)>,
}

/// What a node held of a key from a moment on.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// From when on, nanoseconds.
    pub at: u64,
    /// Which node.
    pub node: Node,
    /// Which key.
    pub key: Arc<str>,
    /// What; none: nothing, or its process had ended.
    pub value: Option<Value>,
}

/// So many messages are kept at most.
const MESSAGES_MAX: usize = 200_000;

/// Everything of a run that a story may need.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    keys: Vec<Arc<str>>,
    /// Messages that carry the keys in question, that confirm, or that decide who leads, in the
    /// order sent.
    pub messages: Vec<Told>,
    /// What nodes were.
    pub roles: Vec<Was>,
    /// What nodes held of the keys in question.
    pub held: Vec<Held>,
    /// When each fault was healed; the proof of it comes later.
    pub healed: BTreeMap<u32, u64>,
    under_way: BTreeMap<(u64, Node, Node, u64), usize>,
    latest: BTreeMap<Node, Was>,
    holds: BTreeMap<(Node, usize), Option<Value>>,
}

impl Recording {
    /// Of what happens to these keys.
    pub fn of(keys: Vec<Arc<str>>) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }

    /// What a node was at this time.
    pub fn was(&self, node: Node, at: u64) -> Option<Was> {
        let of_node = self.roles.iter().filter(|was| was.node == node);
        of_node.take_while(|was| was.at <= at).last().copied()
    }

    /// What a node held of a key at this time.
    pub fn held_at(&self, node: Node, key: &str, at: u64) -> Option<&Value> {
        let of_node = self
            .held
            .iter()
            .filter(|held| held.node == node && &*held.key == key);
        let last = of_node.take_while(|held| held.at <= at).last();
        last.and_then(|held| held.value.as_ref())
    }
}

impl Watch for Recording {
    fn sent(&mut self, sent: &Sent<'_>) {
        if self.messages.len() >= MESSAGES_MAX {
            return;
        }
        let glimpse = sent.glimpse();
        let about = glimpse.keys.iter().any(|key| self.keys.contains(key));
        let confirms = glimpse.purpose == Purpose::Routine && glimpse.entries.is_some();
        if !about && !confirms && glimpse.purpose != Purpose::Election && glimpse.kind != "snapshot"
        {
            return;
        }
        let arrival = sent.arrivals.into_iter().flatten().min();
        let fate = match (arrival, sent.cut) {
            (Some(_), _) => Fate::Arrived,
            (None, true) => Fate::Cut,
            (None, false) => Fate::Lost,
        };
        if let Some(at) = arrival {
            let key = (sent.now, sent.from, sent.to, at);
            self.under_way.insert(key, self.messages.len());
        }
        self.messages.push(Told {
            sent: sent.now,
            at: arrival.unwrap_or(sent.now),
            from: sent.from,
            to: sent.to,
            kind: glimpse.kind,
            purpose: glimpse.purpose,
            entries: glimpse.entries,
            about,
            fate,
        });
    }

    fn arrived(&mut self, arrived: &Arrived<'_>) {
        let key = (arrived.sent, arrived.from, arrived.to, arrived.now);
        if let Some(i) = self.under_way.remove(&key)
            && !arrived.taken
        {
            self.messages[i].fate = Fate::Nobody;
        }
    }

    fn node(&mut self, now: u64, node: Node, nodes: &Nodes<'_>) {
        let status = nodes.status(node);
        let was = Was {
            at: now,
            node,
            process: nodes.process(node),
            role: status.map(|status| (status.role, status.epoch)),
        };
        let before = self.latest.get(&node);
        if before.is_none_or(|b| (b.process, b.role) != (was.process, was.role)) {
            self.latest.insert(node, was);
            self.roles.push(was);
        }
        for (i, key) in self.keys.iter().enumerate() {
            let value = nodes.holds(node, key);
            if self.holds.get(&(node, i)) == Some(&value) {
                continue;
            }
            let known = self.holds.insert((node, i), value.clone()).is_some();
            if known || value.is_some() {
                self.held.push(Held {
                    at: now,
                    node,
                    key: key.clone(),
                    value,
                });
            }
        }
    }

    fn fault(&mut self, now: u64, id: u32, action: Option<&Action>) {
        if action.is_none() {
            self.healed.insert(id, now);
        }
    }
}
