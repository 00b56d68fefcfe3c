//! Faults in the simulation: carried out, then proven by probes and by what processes do.

use std::collections::{BTreeMap, VecDeque};

use nemesis::{Action, Capabilities, FaultKind, Link, Node, Proof};
use rand::Rng;
use reference_cluster::core::NodeId;

use super::errand::Errand;
use super::{Event, Happening, Happens, SimSubstrate};

/// How long after a change its proof is judged, nanoseconds.
const OBSERVE: u64 = 300_000_000;
/// When the probes of a link are sent, nanoseconds after the change. More than one, because the
/// weather may lose one.
const PROBES: [u64; 3] = [0, 60_000_000, 120_000_000];

/// A fault that was begun and is not healed yet.
pub struct Active {
    action: Action,
    pub(super) healing: bool,
    /// What an operator is still to ask for.
    pub(super) errand: Option<Errand>,
    /// For each link of the action: the probes that arrived, the shortest round trip.
    arrived: Vec<(u32, u64)>,
    /// For each paused node: how many events it had handled when the fault began.
    handled: Vec<u64>,
}

impl SimSubstrate {
    pub(super) fn start_fault(&mut self, id: u32, action: &Action) {
        match action {
            Action::Kill(nodes) => nodes.iter().for_each(|n| self.crash(*n, false)),
            Action::PowerLoss(nodes) => nodes.iter().for_each(|n| self.crash(*n, true)),
            Action::Wipe(nodes) => {
                for node in nodes {
                    self.crash(*node, false);
                    self.node(*node).disk.wipe();
                }
            }
            Action::Upgrade(nodes) => {
                for node in nodes {
                    let this = self.node(*node);
                    if this.replica.is_some() {
                        this.storage_version = this.storage_version.saturating_add(1);
                        self.crash(*node, false);
                        self.boot(*node);
                    }
                }
            }
            Action::Admin(asked, command) => {
                let todo = command.requests();
                return self.begin_errand(id, *asked, action.clone(), false, todo);
            }
            Action::Pause(nodes) => nodes.iter().for_each(|n| self.node(*n).paused += 1),
            Action::Cut(links) => links.iter().for_each(|l| self.network.cut(*l)),
            Action::Impair { links, impairment } => {
                for link in links {
                    let (latency_ms, bandwidth) =
                        (impairment.latency_ms, impairment.bandwidth_kib_s);
                    self.network.slow(*link, latency_ms, bandwidth);
                }
            }
            other => {
                let proof = Proof::NotSeen(format!("the simulation does not know {other:?}"));
                self.ready.push_back(Happening::Injected { id, proof });
                return;
            }
        }
        self.observe_fault(id, action.clone(), false);
    }

    pub(super) fn end_fault(&mut self, id: u32) {
        let Some(active) = self.faults.remove(&id) else {
            let proof = Proof::Seen("nothing to heal".to_owned());
            self.ready.push_back(Happening::Healed { id, proof });
            return;
        };
        match &active.action {
            Action::Kill(nodes) | Action::PowerLoss(nodes) | Action::Wipe(nodes) => {
                for node in nodes {
                    if self.node(*node).replica.is_none() {
                        self.boot(*node);
                    }
                }
            }
            Action::Upgrade(_) => {}
            Action::Admin(asked, command) => {
                let (asked, todo) = (*asked, command.undo());
                return self.begin_errand(id, asked, active.action, true, todo);
            }
            Action::Pause(nodes) => nodes.iter().for_each(|n| self.resume(*n)),
            Action::Cut(links) => links.iter().for_each(|l| self.network.restore(*l)),
            Action::Impair { links, .. } => {
                for link in links {
                    self.network.slow(*link, 0, None);
                }
            }
            _ => {}
        }
        self.observe_fault(id, active.action, true);
    }

    fn begin_errand(
        &mut self,
        id: u32,
        asked: Node,
        action: Action,
        healing: bool,
        todo: Vec<nemesis::action::Request>,
    ) {
        let errand = Some(self.errand(id, asked, todo));
        let active = Active {
            action,
            healing,
            errand,
            arrived: Vec::new(),
            handled: Vec::new(),
        };
        self.faults.insert(id, active);
    }

    fn resume(&mut self, node: Node) {
        let this = self.node(node);
        this.paused = this.paused.saturating_sub(1);
        if this.paused > 0 {
            return;
        }
        // What waited in the sockets of different connections is read in any order, and in the
        // order sent only within each.
        let mut waiting: BTreeMap<NodeId, VecDeque<Event>> = BTreeMap::new();
        for event in std::mem::take(&mut this.backlog) {
            let from = match &event {
                Event::Message(from, _) => *from,
                Event::Request(..) => NodeId(0),
                // The node's own disk and clock come first.
                Event::Synced(_) | Event::Wake => {
                    self.deliver(node, event);
                    continue;
                }
            };
            waiting.entry(from).or_default().push_back(event);
        }
        while !waiting.is_empty() {
            let which = self.rng.random_range(0..waiting.len());
            let Some(from) = waiting.keys().nth(which).copied() else {
                break;
            };
            match waiting.get_mut(&from).and_then(VecDeque::pop_front) {
                Some(event) => self.deliver(node, event),
                None => drop(waiting.remove(&from)),
            }
        }
    }

    /// Sends the probes of a fault and schedules the judgement of what came of them.
    fn observe_fault(&mut self, id: u32, action: Action, healing: bool) {
        let links = links(&action).to_vec();
        let handled = paused(&action)
            .iter()
            .map(|n| self.node(*n).handled)
            .collect();
        // Something for a paused process to do, so that doing nothing says something.
        for node in paused(&action).to_vec() {
            self.deliver(node, Event::Wake);
        }
        for after in PROBES {
            for (i, link) in links.iter().enumerate() {
                let sent = self.now + after;
                if let Some(at) = self.network.stream(sent, *link, 64, &mut self.rng) {
                    let fault = id;
                    self.queue.push(
                        at,
                        Happens::Probe {
                            fault,
                            link: i as u16,
                            sent,
                        },
                    );
                }
            }
        }
        let slack = match &action {
            Action::Impair { impairment, .. } => impairment.latency_ms * 1_000_000,
            _ => 0,
        };
        let arrived = vec![(0, u64::MAX); links.len()];
        self.faults.insert(
            id,
            Active {
                action,
                healing,
                errand: None,
                arrived,
                handled,
            },
        );
        self.queue
            .push(self.now + OBSERVE + slack, Happens::Judge { fault: id });
    }

    pub(super) fn probe_arrived(&mut self, fault: u32, link: u16, sent: u64) {
        let now = self.now;
        if let Some(active) = self.faults.get_mut(&fault)
            && let Some((count, least)) = active.arrived.get_mut(usize::from(link))
        {
            *count += 1;
            *least = (*least).min(now - sent);
        }
    }

    pub(super) fn judge(&mut self, id: u32) {
        let Some(active) = self.faults.get(&id) else {
            return;
        };
        let healing = active.healing;
        let proof = self.proof(active);
        self.ready.push_back(if healing {
            self.faults.remove(&id);
            Happening::Healed { id, proof }
        } else {
            Happening::Injected { id, proof }
        });
    }

    fn proof(&self, active: &Active) -> Proof {
        let node = |n: &Node| &self.nodes[usize::from(*n) - 1];
        let silent = active
            .arrived
            .iter()
            .filter(|(count, _)| *count == 0)
            .count();
        let total = active.arrived.len();
        let (seen, what) = match &active.action {
            Action::Kill(nodes) | Action::PowerLoss(nodes) => {
                let down = nodes.iter().filter(|n| node(n).replica.is_none()).count();
                if active.healing {
                    (
                        down == 0,
                        format!("{} of {} processes run", nodes.len() - down, nodes.len()),
                    )
                } else {
                    let all = nodes.len();
                    (down == all, format!("{down} of {all} processes are gone"))
                }
            }
            Action::Wipe(nodes) => {
                let all = nodes.len();
                let down = nodes.iter().filter(|n| node(n).replica.is_none()).count();
                let empty = nodes.iter().filter(|n| node(n).disk.is_empty()).count();
                if active.healing {
                    (down == 0, format!("{} of {all} processes run", all - down))
                } else {
                    (
                        down == all && empty == all,
                        format!("{down} of {all} processes are gone, {empty} of {all} disks empty"),
                    )
                }
            }
            Action::Upgrade(nodes) => {
                let writes = |n: &Node| {
                    let replica = node(n).replica.as_ref();
                    replica.map(|replica| replica.status().storage_version)
                };
                let newer = |n: &&Node| {
                    writes(n) == Some(node(n).storage_version)
                        && node(n).storage_version > self.options.config.storage_version
                };
                let all = nodes.len();
                let upgraded = nodes.iter().filter(newer).count();
                let version = nodes.iter().filter_map(writes).min().unwrap_or(0);
                (
                    upgraded == all,
                    format!("{upgraded} of {all} nodes write storage format {version}"),
                )
            }
            Action::Admin(..) => (false, "it is not judged here".to_owned()),
            Action::Pause(nodes) => {
                let still = nodes
                    .iter()
                    .zip(&active.handled)
                    .filter(|(n, before)| node(n).handled == **before)
                    .count();
                let all = nodes.len();
                if active.healing {
                    (
                        still == 0,
                        format!("{} of {all} processes go on", all - still),
                    )
                } else {
                    (
                        still == all,
                        format!("{still} of {all} processes did nothing for 300 ms"),
                    )
                }
            }
            Action::Cut(_) if active.healing => (
                silent == 0,
                format!("{} of {total} links carry probes", total - silent),
            ),
            Action::Cut(_) => (
                silent == total,
                format!("{silent} of {total} cut links gave no answer in 300 ms"),
            ),
            Action::Impair { impairment, .. } => {
                let latency_ms = impairment.latency_ms;
                let asked = latency_ms * 1_000_000;
                let least = active.arrived.iter().map(|(_, least)| *least);
                let (fastest, slowest) = (least.clone().min(), least.max());
                let (seen, took) = if active.healing {
                    (slowest.is_some_and(|ns| ns < asked), slowest)
                } else {
                    (fastest.is_some_and(|ns| ns >= asked), fastest)
                };
                match took {
                    Some(u64::MAX) | None => (false, "no probe arrived".to_owned()),
                    Some(ns) => {
                        let ms = ns as f64 / 1e6;
                        (
                            seen,
                            format!("a probe took {ms:.1} ms; {latency_ms} ms were asked"),
                        )
                    }
                }
            }
            other => (false, format!("the simulation does not know {other:?}")),
        };
        if seen {
            Proof::Seen(what)
        } else {
            Proof::NotSeen(what)
        }
    }
}

/// What the simulation can do to a cluster.
pub fn capabilities() -> Capabilities {
    use FaultKind as K;
    [
        K::Crash,
        K::Cpu,
        K::Memory,
        K::Loss,
        K::Reorder,
        K::Duplicate,
        K::TornWrite,
        K::BitFlip,
        K::DiskFull,
        K::ReadOnly,
        K::SlowDisk,
        K::FsyncError,
        K::Rollback,
        K::ClockJump,
        K::ClockDrift,
        K::ClockStrobe,
        K::Snapshot,
        K::Downgrade,
    ]
    .into_iter()
    .fold(Capabilities::all(), |all, kind| {
        all.without(kind, "the simulation does not know it")
    })
}

/// The links an action touches.
fn links(action: &Action) -> &[Link] {
    match action {
        Action::Cut(links) | Action::Impair { links, .. } => links,
        _ => &[],
    }
}

/// The nodes an action pauses.
fn paused(action: &Action) -> &[Node] {
    match action {
        Action::Pause(nodes) => nodes,
        _ => &[],
    }
}
