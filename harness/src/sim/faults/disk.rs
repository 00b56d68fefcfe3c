//! Faults of disks, and of what is stored on them.

use nemesis::{Action, DiskFault, Node, Stored};
use reference_cluster::core::{self, multi_leader, raft, single_leader};

use super::super::nodes::{End, Trap};
use super::super::{Happens, SimSubstrate};
use super::{Active, MS, OBSERVE, Probe, nodes};

/// Whether a record is a whole state.
fn is_snapshot(record: &core::Record) -> bool {
    match record {
        core::Record::SingleLeader(record) => {
            matches!(record, single_leader::Record::Snapshot(_))
        }
        core::Record::Raft(record) => matches!(**record, raft::Record::Snapshot { .. }),
        core::Record::MultiLeader(record) => {
            matches!(**record, multi_leader::Record::Snapshot(_))
        }
        core::Record::Leaderless(_) => false,
    }
}

impl SimSubstrate {
    /// Has power fail at once where something is not synced, else in the middle of the next write.
    pub(super) fn tear(&mut self, active: &mut Active, nodes: &[Node]) {
        for (node, before) in nodes.iter().zip(&mut active.before) {
            let this = self.node(*node);
            if this.replica.is_none() {
                active.notes.push(format!("n{node} was down already"));
            } else if this.disk.unsynced() > 0 {
                before.done = true;
                self.crash(*node, End::Torn);
            } else {
                this.trap = Some(Trap::Tear);
            }
        }
    }

    /// Ends processes and flips a bit of what they have stored.
    pub(super) fn flip(&mut self, active: &mut Active, nodes: &[Node], file: Stored) {
        for (node, before) in nodes.iter().zip(&mut active.before) {
            self.crash(*node, End::Process);
            let Self { nodes, rng, .. } = self;
            let disk = &mut nodes[usize::from(*node) - 1].disk;
            let place = match file {
                Stored::Log => disk.flip(|record| !is_snapshot(record), false, rng),
                Stored::Snapshot => disk.flip(is_snapshot, true, rng),
            };
            before.done = place.is_some_and(|place| disk.is_damaged(place));
            active.notes.push(match place {
                Some(place) => format!(
                    "record {} of {} of n{node} is damaged",
                    place + 1,
                    disk.len()
                ),
                None => format!("n{node} has no {}", file.name()),
            });
        }
    }

    /// Ends processes and puts back what they had stored so long ago.
    pub(super) fn roll_back(&mut self, active: &mut Active, nodes: &[Node], age_ms: u64) {
        let to = self.now.checked_sub(age_ms.saturating_mul(MS));
        for (node, before) in nodes.iter().zip(&mut active.before) {
            self.crash(*node, End::Process);
            let disk = &mut self.node(*node).disk;
            let had = disk.len();
            let changed = match to {
                Some(to) => disk.roll_back(to),
                None => {
                    disk.wipe();
                    had > 0
                }
            };
            before.done = changed;
            let has = disk.len();
            active.notes.push(if changed {
                format!("n{node} had {had} records and has {has}, {age_ms} ms old at least")
            } else {
                format!("n{node} has written nothing for {age_ms} ms")
            });
        }
    }

    /// Has each disk do a sync; how long it takes until they can be judged, nanoseconds.
    pub(super) fn probe_disks(&mut self, id: u32, active: &mut Active) -> u64 {
        let nodes = nodes(&active.action).to_vec();
        for (of, node) in nodes.iter().enumerate() {
            let (at, sent) = (self.sync_done(*node), self.now);
            let of = of as u16;
            let probe = Probe {
                of,
                number: 0,
                sent,
            };
            self.queue.push(at, Happens::Probe { fault: id, probe });
        }
        let slow = match active.action {
            Action::Disk(_, DiskFault::Slow(ms)) => 2 * ms * MS,
            _ => 0,
        };
        OBSERVE + slow
    }

    pub(super) fn judge_disks(&self, active: &Active) -> (bool, String) {
        let node = |n: &Node| &self.nodes[usize::from(*n) - 1];
        let nodes = nodes(&active.action);
        let all = nodes.len();
        let down = nodes.iter().filter(|n| node(n).replica.is_none()).count();
        let done = active.before.iter().filter(|before| before.done).count();
        match &active.action {
            Action::Disk(_, fault) => {
                let probed = |of: usize| active.probed[of].most;
                let ill = |(of, n): (usize, &Node)| match node(n).disk_fault {
                    Some(DiskFault::Slow(ms)) => probed(of) >= ms * MS,
                    fault => fault.is_some(),
                };
                let ill = nodes.iter().enumerate().filter(|at| ill(*at)).count();
                let slowest = (0..all).map(probed).max().unwrap_or(0) as f64 / 1e6;
                if active.healing {
                    return (
                        ill == 0 && down == 0,
                        format!(
                            "{} of {all} disks are well (a sync took {slowest:.1} ms), {} of {all} \
                             processes run",
                            all - ill,
                            all - down
                        ),
                    );
                }
                let mut what = match fault {
                    DiskFault::Full => format!("{ill} of {all} disks refuse a write: no space"),
                    DiskFault::ReadOnly => {
                        format!("{ill} of {all} disks refuse a write: read-only file system")
                    }
                    DiskFault::Slow(ms) => {
                        format!("a sync took {slowest:.1} ms; {ms} ms more were asked")
                    }
                    DiskFault::FsyncError => {
                        format!("{ill} of {all} disks fail a sync: input/output error")
                    }
                };
                if down > 0 {
                    what = format!("{what}; {down} of {all} processes ended over it");
                }
                (ill == all, what)
            }
            _ if active.healing => (down == 0, format!("{} of {all} processes run", all - down)),
            Action::TornWrite(_) => {
                let what = format!("{done} of {all} machines lost power in the middle of a write");
                match all - done {
                    0 => (true, what),
                    others => (false, format!("{what}; {others} wrote nothing in 4 s")),
                }
            }
            _ => (
                down == all && done == all,
                format!("{down} of {all} processes are gone"),
            ),
        }
    }
}
