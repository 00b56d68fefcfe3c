//! What an observer of a simulation sees: messages and their fate, nodes and what they hold,
//! faults. Watching changes nothing: the same seed gives the same history, watched or not.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use checkers::Value;
use nemesis::{Action, Node};
use reference_cluster::core::observe::{self, Glimpse, Purpose};
use reference_cluster::core::{Message, Position, Status};

use super::network::Arrivals;
use super::nodes::SimNode;
use super::{SimSubstrate, translate};

/// Somebody who watches a simulation.
pub trait Watch {
    /// A message was sent: it arrives at these times, or never. `cut` says that a fault lets
    /// nothing through.
    fn sent(&mut self, sent: &Sent<'_>);
    /// A message came to its end at a node.
    fn arrived(&mut self, arrived: &Arrived<'_>);
    /// Something happened to this node, or it did something.
    fn node(&mut self, now: u64, node: Node, nodes: &Nodes<'_>);
    /// A fault begins (`Some`) or is healed.
    fn fault(&mut self, now: u64, id: u32, action: Option<&Action>);
}

/// A message on its way.
#[derive(Debug)]
pub struct Sent<'a> {
    /// When, nanoseconds.
    pub now: u64,
    /// By whom.
    pub from: Node,
    /// To whom.
    pub to: Node,
    /// What it is.
    pub message: &'a Message,
    /// When it arrives, each copy of it.
    pub arrivals: Arrivals,
    /// Whether a fault lets nothing through.
    pub cut: bool,
}

/// A message at its end.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// When, nanoseconds.
    pub now: u64,
    /// When it was sent.
    pub sent: u64,
    /// By whom.
    pub from: Node,
    /// To whom.
    pub to: Node,
    /// What it is.
    pub message: &'a Message,
    /// Whether the receiver could take it: it runs, and the sender did not end with the message
    /// still in its buffers. A paused one takes it when it goes on.
    pub taken: bool,
}

impl Sent<'_> {
    /// What can be seen of the message.
    pub fn glimpse(&self) -> Glimpse {
        observe::glimpse(self.message)
    }

    /// What it is called, and what for: cheaper than the glimpse.
    pub fn kind(&self) -> (&'static str, Purpose) {
        observe::kind(self.message)
    }
}

impl Arrived<'_> {
    /// What can be seen of the message.
    pub fn glimpse(&self) -> Glimpse {
        observe::glimpse(self.message)
    }

    /// What it is called, and what for: cheaper than the glimpse.
    pub fn kind(&self) -> (&'static str, Purpose) {
        observe::kind(self.message)
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// It runs.
    Up,
    /// It is stopped, and goes on later.
    Paused,
    /// It ended.
    Down,
}

/// The nodes at a moment.
pub struct Nodes<'a> {
    nodes: &'a [SimNode],
}

impl Nodes<'_> {
    /// How many there are, gateways and the monitor included.
    pub fn count(&self) -> Node {
        self.nodes.len() as Node
    }

    fn get(&self, node: Node) -> &SimNode {
        &self.nodes[usize::from(node) - 1]
    }

    /// Whether its process runs.
    pub fn process(&self, node: Node) -> Process {
        let node = self.get(node);
        match &node.replica {
            None => Process::Down,
            Some(_) if node.paused > 0 => Process::Paused,
            Some(_) => Process::Up,
        }
    }

    /// What it says of itself; none if it has ended.
    pub fn status(&self, node: Node) -> Option<Status> {
        let replica = self.get(node).replica.as_ref();
        replica.map(|replica| replica.status())
    }

    /// The entry at this index of its log, if it has one and still knows it.
    pub fn entry(&self, node: Node, index: u64) -> Option<Position> {
        let log = self.get(node).replica.as_ref()?.log(index);
        log.into_iter().find(|entry| entry.index == index)
    }

    /// What it holds of a key.
    pub fn holds(&self, node: Node, key: &Arc<str>) -> Option<Value> {
        let held = self.get(node).replica.as_ref()?.holds(key);
        held.as_ref().map(translate::datum)
    }
}

/// The watcher of a simulation, if there is one.
#[derive(Default)]
pub(super) struct Watcher(Option<Rc<RefCell<dyn Watch>>>);

impl SimSubstrate {
    /// Lets somebody watch from now on.
    #[must_use]
    pub fn watched_by(mut self, watch: Rc<RefCell<dyn Watch>>) -> Self {
        self.watcher = Watcher(Some(watch));
        for node in 1..=self.options.all_nodes() {
            self.seen(node);
        }
        self
    }

    /// Something happened to a node.
    pub(super) fn seen(&self, node: Node) {
        if let Watcher(Some(watch)) = &self.watcher {
            let nodes = Nodes { nodes: &self.nodes };
            watch.borrow_mut().node(self.now, node, &nodes);
        }
    }

    /// Something happened to all nodes, maybe.
    fn all_seen(&self) {
        for node in 1..=self.options.all_nodes() {
            self.seen(node);
        }
    }

    /// A fault begins (`Some`) or ends.
    pub(super) fn fault_seen(&self, id: u32, action: Option<&Action>) {
        if let Watcher(Some(watch)) = &self.watcher {
            watch.borrow_mut().fault(self.now, id, action);
            self.all_seen();
        }
    }
}

impl Watcher {
    /// A message was sent.
    pub(super) fn sent(&self, sent: &Sent<'_>) {
        if let Self(Some(watch)) = self {
            watch.borrow_mut().sent(sent);
        }
    }

    /// A message arrives.
    pub(super) fn arrived(&self, arrived: &Arrived<'_>) {
        if let Self(Some(watch)) = self {
            watch.borrow_mut().arrived(arrived);
        }
    }
}
