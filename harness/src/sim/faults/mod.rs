//! Faults in the simulation: carried out, then proven by probes and by what processes do.
//!
//! * `process`: kills, crashes at a point, pauses, a part of a processor, other versions.
//! * `network`: cuts, delay, bandwidth, loss, disorder, duplicates.
//! * `disk`: what is stored, and what storing it does.
//! * `clock`: clocks that jump, drift and strobe.

mod clock;
mod disk;
mod network;
mod process;
#[cfg(test)]
mod tests;

use nemesis::{Action, Capabilities, FaultKind, Link, Node, Proof};
use rand::Rng;

use super::errand::Errand;
use super::{Happening, Happens, SimSubstrate};
pub(super) use network::Probe;
use network::Probed;

/// How long after a change its proof is judged, nanoseconds.
const OBSERVE: u64 = 300 * MS;
/// How long something is waited for that the nodes themselves must do first, nanoseconds.
const PATIENCE: u64 = 4_000 * MS;
const MS: u64 = 1_000_000;

/// A fault that was begun and is not healed yet.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are true of it in every combination"
)]
pub struct Active {
    action: Action,
    pub(super) healing: bool,
    /// What an operator is still to ask for.
    pub(super) errand: Option<Errand>,
    /// When it is judged: nanoseconds; `None` once it was.
    judge_at: Option<u64>,
    /// Whether it was seen to take effect.
    proven: bool,
    /// For each link of the action: what came of the probes.
    probed: Vec<Probed>,
    /// For each node of the action: what it was like when this began.
    before: Vec<Before>,
    /// What is worth saying in the proof.
    notes: Vec<String>,
    /// Whether nothing was done: the injector was out of order.
    omitted: bool,
    /// Whether what goes on and off is on.
    on: bool,
    /// How often it went on.
    times: u32,
    /// In how many of these it was seen to have its effect.
    effective: u32,
}

/// What a node was like.
#[derive(Clone, Copy)]
struct Before {
    /// How many events it had handled.
    handled: u64,
    /// When.
    at: u64,
    /// What its clocks showed: the monotonic one, the wall clock.
    clocks: (u64, i128),
    /// How much faster than true time its clock ran.
    drift_ppm: i64,
    /// The version of the storage format that its program wrote.
    version: u16,
    /// Whether what was to be done to it was done.
    done: bool,
    /// The process that it ran.
    incarnation: u32,
}

impl SimSubstrate {
    pub(super) fn start_fault(&mut self, id: u32, action: &Action) {
        let omitted = self.injector_fails();
        if let Action::Admin(asked, command) = action
            && !omitted
        {
            let todo = command.requests();
            return self.begin_errand(id, *asked, action.clone(), false, todo);
        }
        let mut active = self.active(action.clone(), false);
        if omitted {
            active.omitted = true;
            return self.observe_fault(id, active);
        }
        match action {
            Action::Kill(nodes) | Action::PowerLoss(nodes) => self.kill(nodes, action),
            Action::Wipe(nodes) => {
                self.kill(nodes, action);
                for n in nodes {
                    self.node(*n).disk.wipe();
                }
            }
            Action::Upgrade(nodes) => self.change_version(nodes, true),
            Action::Downgrade(nodes) => self.change_version(nodes, false),
            Action::Pause(nodes) => nodes.iter().for_each(|n| self.node(*n).paused += 1),
            Action::Cpu(_, share) => self.throttle(id, &mut active, *share),
            Action::Crash(nodes, point) => self.set_trap(&mut active, nodes, *point),
            Action::Cut(links) => links.iter().for_each(|l| self.network.cut(*l)),
            Action::Impair { links, impairment } => {
                for link in links {
                    self.network.impair(*link, *impairment);
                }
            }
            Action::TornWrite(nodes) => self.tear(&mut active, nodes),
            Action::BitFlip(nodes, file) => self.flip(&mut active, nodes, *file),
            Action::Rollback(nodes, age_ms) => self.roll_back(&mut active, nodes, *age_ms),
            Action::Disk(nodes, fault) => {
                for node in nodes {
                    self.node(*node).disk_fault = Some(*fault);
                }
            }
            Action::Clock(nodes, fault) => self.disturb_clocks(id, &mut active, nodes, *fault),
            // It says so when it is judged.
            Action::Memory(..)
            | Action::ThrottleDisk(..)
            | Action::Admin(..)
            | Action::Orchestrate(..) => {}
        }
        self.observe_fault(id, active);
    }

    /// Whether the injector is out of order this time.
    fn injector_fails(&mut self) -> bool {
        let Some((share, random)) = &mut self.injector_failures else {
            return false;
        };
        random.random_bool(*share)
    }

    pub(super) fn end_fault(&mut self, id: u32) {
        let Some(mut active) = self.faults.remove(&id) else {
            let proof = Proof::Seen("nothing to heal".to_owned());
            self.ready.push_back(Happening::Healed { id, proof });
            return;
        };
        if active.proven
            && let Some(why) = self.faded(&active)
        {
            self.ready.push_back(Happening::Faded { id, why });
        }
        if active.omitted {
            let proof = Proof::Seen("nothing to heal".to_owned());
            self.ready.push_back(Happening::Healed { id, proof });
            return;
        }
        let action = active.action.clone();
        let mut notes = Vec::new();
        match &action {
            Action::Kill(nodes)
            | Action::PowerLoss(nodes)
            | Action::Wipe(nodes)
            | Action::Crash(nodes, _)
            | Action::TornWrite(nodes)
            | Action::BitFlip(nodes, _)
            | Action::Rollback(nodes, _) => self.start_again(nodes, &mut notes),
            Action::Admin(asked, command) => {
                let (asked, todo) = (*asked, command.undo());
                return self.begin_errand(id, asked, action, true, todo);
            }
            Action::Pause(nodes) => nodes.iter().for_each(|n| self.resume(*n)),
            Action::Cpu(nodes, _) => {
                if active.on {
                    for n in nodes {
                        self.release(*n);
                    }
                }
            }
            Action::Cut(links) => links.iter().for_each(|l| self.network.restore(*l)),
            Action::Impair { links, .. } => {
                for link in links {
                    self.network.impair(*link, nemesis::Impairment::default());
                }
            }
            Action::Disk(nodes, _) => {
                for node in nodes {
                    self.node(*node).disk_fault = None;
                }
                self.start_again(nodes, &mut notes);
            }
            Action::Clock(nodes, fault) => self.set_clocks_right(&active, nodes, *fault),
            Action::Upgrade(_)
            | Action::Downgrade(_)
            | Action::Memory(..)
            | Action::ThrottleDisk(..)
            | Action::Orchestrate(..) => {}
        }
        let before = std::mem::take(&mut active.before);
        let mut active = self.active(action, true);
        active.notes = notes;
        if matches!(active.action, Action::Upgrade(_) | Action::Downgrade(_)) {
            // What it was is what it is compared with, before and after.
            active.before = before;
        }
        self.observe_fault(id, active);
    }

    /// A fault that begins or ends now, of which nothing is seen yet.
    fn active(&mut self, action: Action, healing: bool) -> Active {
        let now = self.now;
        let before = nodes(&action).iter().map(|node| {
            let this = &self.nodes[usize::from(*node) - 1];
            Before {
                handled: this.handled,
                at: now,
                clocks: this.clocks(now),
                drift_ppm: this.clock.drift_ppm(),
                version: this.storage_version,
                done: false,
                incarnation: this.incarnation,
            }
        });
        Active {
            before: before.collect(),
            probed: match &action {
                Action::Disk(nodes, _) => nodes.iter().map(|_| Probed::default()).collect(),
                other => links(other).iter().map(|_| Probed::default()).collect(),
            },
            action,
            healing,
            errand: None,
            judge_at: None,
            proven: false,
            notes: Vec::new(),
            omitted: false,
            on: false,
            times: 0,
            effective: 0,
        }
    }

    fn begin_errand(
        &mut self,
        id: u32,
        asked: Node,
        action: Action,
        healing: bool,
        todo: Vec<nemesis::action::Request>,
    ) {
        let mut active = self.active(action, healing);
        active.errand = Some(self.errand(id, asked, todo));
        self.faults.insert(id, active);
    }

    /// Sends the probes of a fault and schedules the judgement of what came of them.
    fn observe_fault(&mut self, id: u32, mut active: Active) {
        let span = match &active.action {
            Action::Cut(_) | Action::Impair { .. } => self.probe_links(id, &mut active),
            Action::Disk(..) => self.probe_disks(id, &mut active),
            // What the nodes must do first is waited for.
            Action::Crash(..) | Action::TornWrite(_) if !active.healing => {
                let done = active.before.iter().all(|before| before.done);
                if done { OBSERVE } else { PATIENCE }
            }
            _ => OBSERVE,
        };
        if let Action::Pause(nodes) | Action::Cpu(nodes, _) | Action::Clock(nodes, _) =
            &active.action
        {
            // Something for a paused process to do, so that doing nothing says something.
            for node in nodes {
                self.deliver(*node, super::Event::Wake);
            }
        }
        let at = self.now + span;
        active.judge_at = Some(at);
        self.faults.insert(id, active);
        self.queue.push(at, Happens::Judge { fault: id });
    }

    pub(super) fn judge(&mut self, id: u32) {
        let Some(mut active) = self.faults.remove(&id) else {
            return;
        };
        // Of several times scheduled only the one for what is under way counts.
        if active.judge_at != Some(self.now) {
            self.faults.insert(id, active);
            return;
        }
        active.judge_at = None;
        let proof = self.proof(&active);
        if active.healing {
            self.ready.push_back(Happening::Healed { id, proof });
            return;
        }
        active.proven = matches!(proof, Proof::Seen(_));
        // What did not come to pass in time is not to come to pass later, unseen.
        if let Action::Crash(nodes, _) | Action::TornWrite(nodes) = &active.action {
            for n in nodes {
                self.node(*n).trap = None;
            }
        }
        self.faults.insert(id, active);
        self.ready.push_back(Happening::Injected { id, proof });
    }

    fn proof(&self, active: &Active) -> Proof {
        let (seen, mut what) = match &active.action {
            Action::Kill(_)
            | Action::PowerLoss(_)
            | Action::Wipe(_)
            | Action::Crash(..)
            | Action::Upgrade(_)
            | Action::Downgrade(_)
            | Action::Pause(_)
            | Action::Cpu(..) => self.judge_processes(active),
            Action::TornWrite(_)
            | Action::BitFlip(..)
            | Action::Rollback(..)
            | Action::Disk(..) => self.judge_disks(active),
            Action::Clock(_, fault) => self.judge_clocks(active, *fault),
            Action::Cut(_) => network::judge_cut(active),
            Action::Impair { impairment, .. } => self.judge_impaired(active, impairment),
            Action::Memory(..) | Action::ThrottleDisk(..) if active.healing => {
                (true, "nothing to heal".to_owned())
            }
            Action::ThrottleDisk(..) => (false, NO_BANDWIDTH.to_owned()),
            Action::Memory(..) => (false, NO_MEMORY.to_owned()),
            Action::Orchestrate(..) => (active.healing, NO_ORCHESTRATOR.to_owned()),
            Action::Admin(..) => (false, "it is not judged here".to_owned()),
        };
        for note in &active.notes {
            what = format!("{what}; {note}");
        }
        if seen {
            Proof::Seen(what)
        } else {
            Proof::NotSeen(what)
        }
    }

    /// Why a fault that was seen to take effect has it no longer, if so.
    fn faded(&self, active: &Active) -> Option<String> {
        let node = |n: &Node| &self.nodes[usize::from(*n) - 1];
        let with_before = || nodes(&active.action).iter().zip(&active.before);
        match &active.action {
            Action::Kill(nodes)
            | Action::PowerLoss(nodes)
            | Action::Wipe(nodes)
            | Action::Crash(nodes, _)
            | Action::TornWrite(nodes)
            | Action::BitFlip(nodes, _)
            | Action::Rollback(nodes, _) => {
                let up = nodes.iter().find(|n| node(n).replica.is_some())?;
                Some(format!("n{up} runs again"))
            }
            Action::Pause(nodes) => {
                let up = nodes.iter().find(|n| node(n).paused == 0)?;
                Some(format!("n{up} goes on"))
            }
            Action::Cpu(..) | Action::Clock(..) => {
                let mut ended = with_before().filter(|(n, before)| {
                    node(n).replica.is_none() || node(n).incarnation != before.incarnation
                });
                let (ended, _) = ended.next()?;
                Some(format!("the process of n{ended} has ended meanwhile"))
            }
            Action::Disk(nodes, fault) => {
                let well = nodes.iter().find(|n| node(n).disk_fault != Some(*fault))?;
                Some(format!("the disk of n{well} is well again"))
            }
            _ => None,
        }
    }

    /// What a fault does again and again is due.
    pub(super) fn beat(&mut self, id: u32) {
        let Some(mut active) = self.faults.remove(&id) else {
            return;
        };
        if !active.healing {
            match active.action.clone() {
                Action::Cpu(nodes, share) => self.next_slice(id, &mut active, &nodes, share),
                Action::Clock(nodes, fault) => self.next_strobe(id, &mut active, &nodes, fault),
                _ => {}
            }
        }
        self.faults.insert(id, active);
    }
}

/// Why the simulation cannot do what only an orchestrator does.
const NO_ORCHESTRATOR: &str = "only Kubernetes does this to nodes; that is --on k8s";
const NO_BANDWIDTH: &str = "a simulated disk has no bandwidth; slow-disk delays it";
const NO_MEMORY: &str = "a simulated node has no memory to squeeze";

/// What the simulation can do to a cluster.
pub fn capabilities() -> Capabilities {
    FaultKind::ORCHESTRATED.into_iter().fold(
        Capabilities::all()
            .without(FaultKind::Memory, NO_MEMORY)
            .without(FaultKind::ThrottleDisk, NO_BANDWIDTH),
        |all, kind| all.without(kind, NO_ORCHESTRATOR),
    )
}

/// The links an action touches.
fn links(action: &Action) -> &[Link] {
    match action {
        Action::Cut(links) | Action::Impair { links, .. } => links,
        _ => &[],
    }
}

/// The nodes that an action is done to.
fn nodes(action: &Action) -> &[Node] {
    match action {
        Action::Kill(nodes)
        | Action::PowerLoss(nodes)
        | Action::Wipe(nodes)
        | Action::Upgrade(nodes)
        | Action::Downgrade(nodes)
        | Action::Pause(nodes)
        | Action::Crash(nodes, _)
        | Action::Cpu(nodes, _)
        | Action::Memory(nodes, _)
        | Action::ThrottleDisk(nodes, _)
        | Action::TornWrite(nodes)
        | Action::BitFlip(nodes, _)
        | Action::Rollback(nodes, _)
        | Action::Disk(nodes, _)
        | Action::Orchestrate(nodes, _)
        | Action::Clock(nodes, _) => nodes,
        Action::Cut(_) | Action::Impair { .. } | Action::Admin(..) => &[],
    }
}
