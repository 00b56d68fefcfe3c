//! Faults of processes: they end, stop, get only part of a processor, or start as another version.

use std::collections::{BTreeMap, VecDeque};

use nemesis::{Action, CrashPoint, Node};
use rand::Rng;
use reference_cluster::core::{Event, NodeId};

use super::super::nodes::{End, Trap};
use super::super::{Happens, SimSubstrate};
use super::{Active, MS, nodes};
use crate::versions::REFUSES;

/// The period in which a processor is shared out, nanoseconds: that of Linux's CFS quotas.
const PERIOD: u64 = 100 * MS;

impl SimSubstrate {
    pub(super) fn kill(&mut self, nodes: &[Node], action: &Action) {
        let end = match action {
            Action::PowerLoss(_) => End::Power,
            _ => End::Process,
        };
        for n in nodes {
            self.crash(*n, end);
        }
    }

    /// Starts those that are down.
    pub(super) fn start_again(&mut self, nodes: &[Node], notes: &mut Vec<String>) {
        for node in nodes {
            let this = self.node(*node);
            this.trap = None;
            if this.replica.is_none() {
                notes.extend(self.restart(*node));
            }
        }
    }

    /// Starts processes again with another version of the storage format.
    pub(super) fn change_version(&mut self, nodes: &[Node], upgrade: bool) {
        // From one format to the same they are started again, as from one to another.
        let same = matches!(self.options.formats, Some([from, to]) if from == to);
        for node in nodes {
            let this = &self.nodes[usize::from(*node) - 1];
            let (before, runs) = (this.storage_version, this.replica.is_some());
            let version = self.format_after(before, upgrade);
            if runs && version > 0 && (version != before || same) {
                self.node(*node).storage_version = version;
                self.crash(*node, End::Process);
                self.boot(*node);
            }
        }
    }

    /// The storage format that a node with this one has afterwards; 0 if there is none.
    fn format_after(&self, before: u16, upgrade: bool) -> u16 {
        match (self.options.formats, upgrade) {
            (Some([_, to]), true) => to,
            (Some([from, _]), false) => from,
            (None, true) => before.saturating_add(1),
            (None, false) => before.saturating_sub(1),
        }
    }

    pub(super) fn set_trap(&mut self, active: &mut Active, nodes: &[Node], point: CrashPoint) {
        for node in nodes {
            let this = self.node(*node);
            if this.replica.is_some() {
                this.trap = Some(Trap::Point(point));
            } else {
                active.notes.push(format!("n{node} was down already"));
            }
        }
    }

    /// A process has ended where it was to end.
    pub(in super::super) fn trap_sprung(&mut self, node: Node) {
        let now = self.now;
        for (id, active) in &mut self.faults {
            let traps = matches!(active.action, Action::Crash(..) | Action::TornWrite(_));
            if active.healing || !traps || active.judge_at.is_none() {
                continue;
            }
            let of_action = nodes(&active.action).iter().zip(&mut active.before);
            let mut all = true;
            for (n, before) in of_action {
                before.done |= *n == node;
                all &= before.done;
            }
            if all {
                active.judge_at = Some(now);
                self.queue.push(now, Happens::Judge { fault: *id });
            }
        }
    }

    /// Begins to give processes only a share of a processor.
    pub(super) fn throttle(&mut self, id: u32, active: &mut Active, share: u8) {
        active.on = false;
        if share < 100 {
            let at = self.now + PERIOD / 100 * u64::from(share);
            self.queue.push(at, Happens::Beat { fault: id });
        }
    }

    /// The share of a period is used up, or the next one begins.
    pub(super) fn next_slice(&mut self, id: u32, active: &mut Active, nodes: &[Node], share: u8) {
        let part = PERIOD / 100 * u64::from(share);
        active.on = !active.on;
        let next = if active.on { PERIOD - part } else { part };
        if active.on {
            active.times += 1;
            for (node, before) in nodes.iter().zip(&mut active.before) {
                let this = self.node(*node);
                this.paused += 1;
                this.throttled += 1;
                before.done |= this.handled > before.handled;
                before.handled = this.handled;
                // Something to do, so that doing nothing says something.
                self.deliver(*node, Event::Wake);
            }
        } else {
            let still = |(n, before): (&Node, &super::Before)| {
                self.nodes[usize::from(*n) - 1].handled == before.handled
            };
            active.effective += u32::from(nodes.iter().zip(&active.before).all(still));
            for n in nodes {
                self.release(*n);
            }
        }
        self.queue
            .push(self.now + next, Happens::Beat { fault: id });
    }

    /// Lets a process go on that has used up its share.
    pub(super) fn release(&mut self, node: Node) {
        let this = self.node(node);
        this.throttled = this.throttled.saturating_sub(1);
        self.resume(node);
    }

    pub(super) fn resume(&mut self, node: Node) {
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
                Event::Synced(_) | Event::Wake | Event::Stepped(_) => {
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

    pub(super) fn judge_processes(&self, active: &Active) -> (bool, String) {
        let node = |n: &Node| &self.nodes[usize::from(*n) - 1];
        let nodes = nodes(&active.action);
        let all = nodes.len();
        let down = nodes.iter().filter(|n| node(n).replica.is_none()).count();
        let still = || {
            let with_before = nodes.iter().zip(&active.before);
            with_before
                .filter(|(n, before)| node(n).handled == before.handled)
                .count()
        };
        match &active.action {
            Action::Upgrade(_) | Action::Downgrade(_) => self.judge_version(active),
            Action::Pause(_) | Action::Cpu(..) if active.healing => {
                let still = still();
                (
                    still == 0,
                    format!("{} of {all} processes go on", all - still),
                )
            }
            Action::Pause(_) => {
                let still = still();
                (
                    still == all,
                    format!("{still} of {all} processes did nothing for 300 ms"),
                )
            }
            Action::Cpu(_, share) => {
                let (times, held) = (active.times, active.effective);
                // The last time it was stopped may not be over.
                let over = times - u32::from(active.on);
                let worked = active.before.iter().filter(|before| before.done).count();
                let ms = PERIOD / 100 * u64::from(100 - share) / MS;
                (
                    over > 0 && held == over && worked == all,
                    format!(
                        "{worked} of {all} processes worked, and all did nothing for {ms} ms in \
                         {held} of {over} periods of 100 ms"
                    ),
                )
            }
            _ if active.healing => (down == 0, format!("{} of {all} processes run", all - down)),
            Action::Crash(_, point) => {
                let done = active.before.iter().filter(|before| before.done).count();
                let at = point.name();
                let what = format!("{done} of {all} processes ended at {at}");
                match all - done {
                    0 => (true, what),
                    others => (false, format!("{what}; {others} did not pass it in 4 s")),
                }
            }
            Action::Wipe(_) => {
                let empty = nodes.iter().filter(|n| node(n).disk.is_empty()).count();
                (
                    down == all && empty == all,
                    format!("{down} of {all} processes are gone, {empty} of {all} disks empty"),
                )
            }
            _ => (down == all, format!("{down} of {all} processes are gone")),
        }
    }

    fn judge_version(&self, active: &Active) -> (bool, String) {
        let nodes = nodes(&active.action);
        let upgrade = matches!(active.action, Action::Upgrade(_));
        let wanted = |before: u16| self.format_after(before, upgrade);
        let (mut done, mut lowest) = (0, u16::MAX);
        for (node, before) in nodes.iter().zip(&active.before) {
            let this = &self.nodes[usize::from(*node) - 1];
            let Some(status) = this.replica.as_ref().map(|replica| replica.status()) else {
                continue;
            };
            if let Some(why) = status.stopped.filter(|why| why.contains("storage format")) {
                return (false, format!("n{node} {REFUSES}: {why}"));
            }
            if wanted(before.version) == 0 {
                return (
                    false,
                    format!("n{node} writes storage format 1, the oldest there is"),
                );
            }
            lowest = lowest.min(status.storage_version);
            done += usize::from(status.storage_version == wanted(before.version));
        }
        let (all, version) = (nodes.len(), if done == 0 { 0 } else { lowest });
        (
            done == all,
            format!("{done} of {all} nodes write storage format {version}"),
        )
    }
}
