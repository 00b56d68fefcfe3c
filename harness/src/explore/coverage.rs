//! The protocol states that a run reaches.
//!
//! A state is, as a multiset over the nodes: role × epoch relative to the highest × how the log
//! relates to that of the leader × whether the process runs; with the kinds of faults that are
//! active, and the kinds of messages under way. Nodes have no names in it, epochs and logs no
//! absolute values: a state reached by n1 in epoch 7 is the one that n3 reaches in epoch 2.
//!
//! It is looked at whenever something happens to a node, and at two depths: with and without what
//! is under way. The shallow ones are few and mean much; the deep ones are many.

use std::collections::BTreeMap;

use nemesis::{Action, Node};
use reference_cluster::core::observe::Purpose;
use reference_cluster::core::{Position, Role, Status};

use crate::sim::trace::{Arrived, Nodes, Process, Sent, Watch};

/// What identifies a state.
pub type State = u64;

/// How a log relates to the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Relation {
    /// There is no leader, or no log of the whole cluster.
    None,
    /// Nothing in it.
    Empty,
    /// Equal to the leader's.
    Equal,
    /// The leader's, without its end.
    Prefix,
    /// The same, and much is missing.
    FarBehind,
    /// The leader's and more.
    Ahead,
    /// Entries that the leader does not have, in the place of some that it has.
    Diverged,
}

/// As many entries less than the leader are much.
const FAR: u64 = 16;

/// What of a node is part of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    process: Process,
    role: Role,
    epoch: u64,
    last: Position,
    /// What it has of the others' changes, and what is still to be delivered, in modes without one
    /// log.
    applied: u64,
    pending: u64,
    stopped: bool,
}

impl Seen {
    fn of(process: Process, status: Option<Status>) -> Self {
        let down = Self {
            process,
            role: Role::Follower,
            epoch: 0,
            last: Position::default(),
            applied: 0,
            pending: 0,
            stopped: false,
        };
        let Some(status) = status else { return down };
        Self {
            process,
            role: status.role,
            epoch: status.epoch,
            last: status.last,
            applied: status.applied,
            pending: status.pending,
            stopped: status.stopped.is_some(),
        }
    }
}

/// One state reached, and when first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub state: State,
    /// Nanoseconds of the run.
    pub at: u64,
}

/// Collects the states of one run.
#[derive(Debug, Default)]
pub struct Coverage {
    nodes: Vec<Option<Seen>>,
    relations: Vec<Relation>,
    leader: Option<usize>,
    /// Kinds of active faults, with how many of each; whose fault it is.
    faults: BTreeMap<&'static str, u32>,
    by_id: BTreeMap<u32, &'static str>,
    /// Messages under way, by kind.
    under_way: BTreeMap<&'static str, u32>,
    shallow: BTreeMap<State, u64>,
    deep: BTreeMap<State, u64>,
    latest: State,
}

impl Coverage {
    /// The states without what is under way, in the order first reached.
    pub fn shallow(&self) -> Vec<Reached> {
        in_order(&self.shallow)
    }

    /// The states with what is under way, in the order first reached.
    pub fn deep(&self) -> Vec<Reached> {
        in_order(&self.deep)
    }

    fn sample(&mut self, now: u64) {
        let highest = self.nodes.iter().flatten().map(|n| n.epoch).max();
        let highest = highest.unwrap_or(0);
        // A sum does not care about the order: a multiset.
        let mut nodes: u64 = 0;
        for (seen, relation) in self.nodes.iter().zip(&self.relations) {
            let Some(seen) = seen else { continue };
            let mut hash = Hash::default();
            hash.add(seen.process as u64);
            if seen.process != Process::Down {
                hash.add(seen.role as u64 + 16);
                hash.add((highest - seen.epoch).min(3) + 32);
                hash.add(*relation as u64 + 48);
                hash.add(seen.pending.min(2) + 64);
                hash.add(u64::from(seen.stopped) + 80);
            }
            nodes = nodes.wrapping_add(hash.end());
        }
        let mut hash = Hash::default();
        hash.add(nodes);
        for kind in self.faults.keys() {
            hash.text(kind);
        }
        let shallow = hash.end();
        for kind in self.under_way.keys() {
            hash.text(kind);
        }
        let deep = hash.end();
        if deep == self.latest {
            return;
        }
        self.latest = deep;
        self.shallow.entry(shallow).or_insert(now);
        self.deep.entry(deep).or_insert(now);
    }

    /// Who leads: of those that say so the one in the highest epoch.
    fn find_leader(&mut self) -> Option<usize> {
        let leads = |n: &Seen| n.process != Process::Down && n.role == Role::Leader && n.epoch > 0;
        let nodes = self.nodes.iter().enumerate();
        let leaders = nodes.filter_map(|(i, n)| n.filter(leads).map(|n| (n.epoch, i)));
        leaders.max().map(|(_, i)| i)
    }

    fn relate(&self, node: usize, nodes: &Nodes<'_>) -> Relation {
        let Some(seen) = self.nodes[node] else {
            return Relation::None;
        };
        if seen.process == Process::Down {
            return Relation::None;
        }
        let Some(leader) = self.leader else {
            return self.without_log(&seen);
        };
        let Some(leading) = self.nodes[leader] else {
            return Relation::None;
        };
        let (mine, its) = (seen.last, leading.last);
        if mine == its {
            return Relation::Equal;
        }
        if mine.index == 0 {
            return Relation::Empty;
        }
        if its.index >= mine.index {
            let same = (mine.epoch, mine.leader) == (its.epoch, its.leader);
            // Of one leadership: the same log.
            let of_its_log = same || {
                let before = self.relations[node];
                // What the leader has forgotten was a part of its log.
                let theirs = nodes.entry(leader as Node + 1, mine.index);
                match theirs {
                    Some(entry) => entry == mine,
                    None => before != Relation::Diverged,
                }
            };
            return match (of_its_log, its.index - mine.index) {
                (false, _) => Relation::Diverged,
                (true, FAR..) => Relation::FarBehind,
                (true, _) => Relation::Prefix,
            };
        }
        match nodes.entry(node as Node + 1, its.index) {
            Some(entry) if entry == its => Relation::Ahead,
            _ => Relation::Diverged,
        }
    }

    /// Where there is no leader's log, what a node has of the changes of all.
    fn without_log(&self, seen: &Seen) -> Relation {
        let most = self.nodes.iter().flatten().map(|n| n.applied).max();
        match most.unwrap_or(0).saturating_sub(seen.applied) {
            _ if seen.applied == 0 => Relation::None,
            0 => Relation::Equal,
            1..FAR => Relation::Prefix,
            _ => Relation::FarBehind,
        }
    }
}

fn in_order(states: &BTreeMap<State, u64>) -> Vec<Reached> {
    let mut all: Vec<Reached> = states
        .iter()
        .map(|(&state, &at)| Reached { state, at })
        .collect();
    all.sort_by_key(|reached| (reached.at, reached.state));
    all
}

impl Watch for Coverage {
    fn sent(&mut self, sent: &Sent<'_>) {
        let (kind, purpose) = sent.kind();
        if purpose == Purpose::Routine {
            return;
        }
        let copies = sent.arrivals.iter().flatten().count() as u32;
        if copies > 0 {
            *self.under_way.entry(kind).or_default() += copies;
        }
    }

    fn arrived(&mut self, arrived: &Arrived<'_>) {
        let (kind, _) = arrived.kind();
        if let Some(count) = self.under_way.get_mut(kind) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(kind);
            }
        }
    }

    fn node(&mut self, now: u64, node: Node, nodes: &Nodes<'_>) {
        let count = usize::from(nodes.count());
        if self.nodes.len() < count {
            self.nodes.resize(count, None);
            self.relations.resize(count, Relation::None);
        }
        let at = usize::from(node) - 1;
        let seen = Seen::of(nodes.process(node), nodes.status(node));
        if self.nodes[at] == Some(seen) {
            return;
        }
        self.nodes[at] = Some(seen);
        let before = self.leader;
        self.leader = self.find_leader();
        if self.leader == Some(at) || self.leader != before {
            for other in 0..count {
                self.relations[other] = self.relate(other, nodes);
            }
        } else {
            self.relations[at] = self.relate(at, nodes);
        }
        self.sample(now);
    }

    fn fault(&mut self, now: u64, id: u32, action: Option<&Action>) {
        if let Some(action) = action {
            let kind = word(action);
            *self.faults.entry(kind).or_default() += 1;
            self.by_id.insert(id, kind);
        } else if let Some(kind) = self.by_id.remove(&id)
            && let Some(count) = self.faults.get_mut(kind)
        {
            *count -= 1;
            if *count == 0 {
                self.faults.remove(kind);
            }
        }
        self.sample(now);
    }
}

/// One word for an action.
fn word(action: &Action) -> &'static str {
    match action {
        Action::Kill(_) => "kill",
        Action::PowerLoss(_) => "power-loss",
        Action::Wipe(_) => "wipe",
        Action::Upgrade(_) => "upgrade",
        Action::Admin(..) => "admin",
        Action::Pause(_) => "pause",
        Action::Cut(_) => "cut",
        Action::Impair { .. } => "impair",
        _ => "other",
    }
}

/// A hash that is the same on every machine and in every version.
#[derive(Clone, Copy, Default)]
struct Hash(u64);

impl Hash {
    fn add(&mut self, value: u64) {
        let mut z = self
            .0
            .wrapping_add(value)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }

    fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.add(u64::from(byte) + 1);
        }
        self.add(0);
    }

    fn end(self) -> u64 {
        self.0
    }
}
