//! The nemesis: a state machine that walks a schedule.
//!
//! The runner asks [`Nemesis::next`] what to do and tells it what came of it. A fault goes
//! pending → injecting → active → healing → healed, or pending → skipped.
//!
//! # When faults meet
//! Faults may overlap, but two never work on the same thing at once, for then neither could be
//! proven or healed on its own. A fault waits (and is skipped if its window ends first) while
//! * it would kill, power off or pause a node that another such fault has down;
//! * it would kill, power off or pause a node that is being isolated, cut one way, cut from
//!   clients or slowed;
//! * it would cut or slow a link that another fault cuts or slows;
//! * it would cut or slow a link one end of which is down: no probe could prove it;
//! * it is a command about a node that another one is about, or would have a node that is down
//!   lead, or take keys in.
//!
//! Its window is as long as the fault was to last. A fault injected late keeps its length.

mod description;
mod resolve;

use std::collections::BTreeSet;
use std::time::Duration;

use rand_pcg::Pcg32;

use crate::action::{Action, Node, Proof, View};
use crate::duration::nanos;
use crate::fault::{Capabilities, Fault};
use crate::package::{self, Pace, Package};
use crate::schedule::{Entry, Realised, Schedule};
use crate::selector::{Scene, Selector};

pub use description::FaultDescription;
use resolve::{Resolved, resolve};

/// How soon a fault that could not be injected is tried again, in nanoseconds.
const RETRY_NS: u64 = 100_000_000;

/// How long, after [`Nemesis::stop`], the report of an injection is awaited before the fault is
/// healed without it, in nanoseconds.
const STOP_GRACE_NS: u64 = 5_000_000_000;

/// What the runner is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry this out now, then report with [`Nemesis::injected`].
    Inject {
        /// Names the fault in what follows.
        id: u32,
        /// What it is, for people and the history.
        description: FaultDescription,
        /// What the substrate is to do.
        action: Action,
        /// By which mechanism, where the schedule demands one.
        via: Option<String>,
    },
    /// Undo the action of this id, then report with [`Nemesis::healed`].
    Heal {
        /// Which.
        id: u32,
    },
    /// Nothing until this time, or until something is reported. `u64::MAX` waits for a report.
    Wait(u64),
    /// Everything is over and healed.
    Done,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its time has not come, or it could not be injected yet.
    Pending,
    /// Ordered; the proof is awaited.
    Injecting,
    /// In effect.
    Active,
    /// Healing was ordered; the proof is awaited.
    Healing,
    /// Over.
    Healed,
    /// Never injected.
    Skipped,
}

/// A fault under way, for the live display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its id.
    pub id: u32,
    /// What it is.
    pub description: FaultDescription,
    /// Injecting, active or healing.
    pub phase: Phase,
    /// When it was ordered, in nanoseconds of the run.
    pub since: u64,
    /// What was observed, once it was.
    pub proof: Option<Proof>,
}

/// Walks a schedule. See the [module](self).
#[derive(Debug)]
pub struct Nemesis {
    nodes: Node,
    seed: u64,
    slots: Vec<Slot>,
    leader: Option<Node>,
    former_leader: Option<Node>,
    stopped_at: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    planned: Entry,
    phase: Phase,
    /// Set when injected.
    resolved: Option<Resolved>,
    ordered_at: u64,
    heal_ordered_at: Option<u64>,
    injected: Option<(u64, Proof)>,
    healed: Option<(u64, Proof)>,
    /// Why it is still pending, or was skipped.
    obstacle: Option<String>,
}

impl Nemesis {
    /// Walks this schedule on a cluster of this size. Entries that a realised schedule marks as
    /// skipped are left out. The seed decides whom `random` and the like mean.
    pub fn from_schedule(schedule: &Schedule, nodes: Node, seed: u64) -> Self {
        let mut entries: Vec<Entry> = schedule.faults.clone();
        entries.retain(|entry| !entry.skipped());
        entries.sort_by_key(|entry| entry.at);
        Self {
            nodes,
            seed,
            slots: entries.into_iter().map(Slot::new).collect(),
            leader: None,
            former_leader: None,
            stopped_at: None,
        }
    }

    /// Draws a schedule from packages ([`package::draw`]) and walks it.
    pub fn from_packages(
        packages: &[&Package],
        nodes: Node,
        capabilities: &Capabilities,
        pace: &Pace,
        seed: u64,
    ) -> Self {
        let schedule = package::draw(packages, nodes, capabilities, pace, seed);
        Self::from_schedule(&schedule, nodes, seed)
    }

    /// What to do at this time (nanoseconds of the run), given what is known of the cluster.
    ///
    /// Ask again after every step and every report, and when the time of a [`Step::Wait`] comes.
    pub fn next(&mut self, now: u64, view: &View) -> Step {
        self.observe(view);
        if let Some(id) = self.due_to_heal(now) {
            let slot = &mut self.slots[id];
            slot.phase = Phase::Healing;
            slot.heal_ordered_at = Some(now);
            return Step::Heal { id: id as u32 };
        }
        for id in 0..self.slots.len() {
            if self.slots[id].phase == Phase::Pending
                && let Some(step) = self.try_inject(id, now, view)
            {
                return step;
            }
        }
        if self.slots.iter().all(Slot::over) {
            return Step::Done;
        }
        Step::Wait(self.wake(now))
    }

    /// What was observed after a [`Step::Inject`], and when.
    pub fn injected(&mut self, id: u32, now: u64, proof: &Proof) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.injected = Some((now, proof.clone()));
            if slot.phase == Phase::Injecting {
                slot.phase = Phase::Active;
            }
        }
    }

    /// The fault was in effect, and ceased to be before it was healed: it earns no credit.
    pub fn faded(&mut self, id: u32, why: &str) {
        if let Some(slot) = self.slots.get_mut(id as usize)
            && let Some((_, proof)) = &mut slot.injected
        {
            *proof = Proof::NotSeen(why.to_owned());
        }
    }

    /// What was observed after a [`Step::Heal`], and when.
    pub fn healed(&mut self, id: u32, now: u64, proof: &Proof) {
        if let Some(slot) = self.slots.get_mut(id as usize)
            && slot.phase == Phase::Healing
        {
            slot.healed = Some((now, proof.clone()));
            slot.phase = Phase::Healed;
        }
    }

    /// Inject nothing more and heal everything: from now on [`Nemesis::next`] gives
    /// [`Step::Heal`] for every fault under way, and [`Step::Done`] when all are healed.
    pub fn stop(&mut self, now: u64) {
        self.stopped_at.get_or_insert(now);
        for slot in &mut self.slots {
            if slot.phase == Phase::Pending {
                slot.phase = Phase::Skipped;
                let mut reason = "the run ended before it".to_owned();
                if let Some(obstacle) = slot.obstacle.take() {
                    reason = format!("{reason}; {obstacle}");
                }
                slot.obstacle = Some(reason);
            }
        }
    }

    /// The faults under way, in the order of their injection times.
    pub fn active(&self) -> Vec<Active> {
        let under_way = self
            .slots
            .iter()
            .zip(0..)
            .filter(|(slot, _)| slot.under_way());
        under_way
            .filter_map(|(slot, id)| {
                Some(Active {
                    id,
                    description: slot.resolved.as_ref()?.description.clone(),
                    phase: slot.phase,
                    since: slot.ordered_at,
                    proof: slot.injected.as_ref().map(|(_, proof)| proof.clone()),
                })
            })
            .collect()
    }

    /// How far the fault of this id has come.
    pub fn phase(&self, id: u32) -> Option<Phase> {
        self.slots.get(id as usize).map(|slot| slot.phase)
    }

    /// What was really done: concrete nodes, actual times, what was observed. It replays: a
    /// nemesis made from it gives the same actions at the same times.
    pub fn realised(&self) -> Schedule {
        Schedule {
            faults: self.slots.iter().map(Slot::realised).collect(),
        }
    }

    fn observe(&mut self, view: &View) {
        let leader = view.leader();
        if leader.is_some() && leader != self.leader {
            if self.leader.is_some() {
                self.former_leader = self.leader;
            }
            self.leader = leader;
        }
    }

    fn due_to_heal(&self, now: u64) -> Option<usize> {
        self.slots.iter().position(|slot| match slot.phase {
            Phase::Active => self.stopped_at.is_some() || now >= slot.heal_at(),
            Phase::Injecting => {
                self.stopped_at.is_some() && now >= slot.ordered_at.saturating_add(STOP_GRACE_NS)
            }
            _ => false,
        })
    }

    fn try_inject(&mut self, id: usize, now: u64, view: &View) -> Option<Step> {
        let slot = &self.slots[id];
        let at = nanos(slot.planned.at);
        if now < at {
            return None;
        }
        if now >= slot.window_end() {
            let slot = &mut self.slots[id];
            slot.phase = Phase::Skipped;
            slot.obstacle
                .get_or_insert_with(|| "its window had passed".to_owned());
            return None;
        }
        match self.resolve(id, view) {
            Ok(resolved) => {
                let slot = &mut self.slots[id];
                slot.phase = Phase::Injecting;
                slot.ordered_at = now;
                slot.obstacle = None;
                let step = Step::Inject {
                    id: id as u32,
                    description: resolved.description.clone(),
                    action: resolved.action.clone(),
                    via: slot.planned.via.clone(),
                };
                slot.resolved = Some(resolved);
                Some(step)
            }
            Err(obstacle) => {
                self.slots[id].obstacle = Some(obstacle);
                None
            }
        }
    }

    /// The action of an entry, or what stands in its way now. Every entry has a random stream of
    /// its own, the same at each attempt, so that a retry shifts no other draw.
    fn resolve(&self, id: usize, view: &View) -> Result<Resolved, String> {
        let others = || {
            let under_way = self.slots.iter().filter(|slot| slot.under_way());
            under_way.filter_map(|slot| slot.resolved.as_ref())
        };
        let mut taken = BTreeSet::new();
        others().for_each(|other| other.taken(&mut taken));
        let scene = Scene {
            nodes: self.nodes,
            view,
            former_leader: self.former_leader,
            taken: &taken,
        };
        let mut random = Pcg32::new(self.seed, id as u64);
        let resolved = resolve(&self.slots[id].planned, &scene, &mut random)?;
        match others().find(|other| other.blocks(&resolved)) {
            Some(other) => Err(format!("it met another fault: {}", other.description)),
            None => Ok(resolved),
        }
    }

    fn wake(&self, now: u64) -> u64 {
        let times = self.slots.iter().filter_map(|slot| match slot.phase {
            Phase::Pending => {
                let at = nanos(slot.planned.at);
                let retry = now.saturating_add(RETRY_NS).min(slot.window_end());
                Some(if at > now { at } else { retry })
            }
            Phase::Active => Some(slot.heal_at()),
            Phase::Injecting if self.stopped_at.is_some() => {
                Some(slot.ordered_at.saturating_add(STOP_GRACE_NS))
            }
            _ => None,
        });
        times.min().unwrap_or(u64::MAX)
    }
}

impl Slot {
    fn new(planned: Entry) -> Self {
        Self {
            planned,
            phase: Phase::Pending,
            resolved: None,
            ordered_at: 0,
            heal_ordered_at: None,
            injected: None,
            healed: None,
            obstacle: None,
        }
    }

    fn over(&self) -> bool {
        matches!(self.phase, Phase::Healed | Phase::Skipped)
    }

    fn under_way(&self) -> bool {
        matches!(
            self.phase,
            Phase::Injecting | Phase::Active | Phase::Healing
        )
    }

    fn window_end(&self) -> u64 {
        nanos(self.planned.at).saturating_add(nanos(self.planned.lasting))
    }

    fn heal_at(&self) -> u64 {
        self.ordered_at.saturating_add(nanos(self.planned.lasting))
    }

    fn realised(&self) -> Entry {
        let mut entry = self.planned.clone();
        let Some(resolved) = &self.resolved else {
            let reason = self.obstacle.clone();
            entry.realised = Some(Realised {
                skipped: Some(reason.unwrap_or_else(|| "the run ended before it".to_owned())),
                ..Realised::default()
            });
            return entry;
        };
        entry.at = Duration::from_nanos(self.ordered_at);
        if let Some(healed_at) = self.heal_ordered_at {
            // Zero is no length of a fault, and a clock may stand still between two steps.
            entry.lasting = Duration::from_nanos((healed_at - self.ordered_at).max(1));
        }
        if let (Fault::MoveHome { to }, Action::Admin(asked, _)) =
            (&mut entry.fault, &resolved.action)
        {
            *to = Some(*asked);
        }
        entry.target = resolved.target.clone().map(Selector::Nodes);
        entry.order.clone_from(&resolved.order);
        let read = |report: &Option<(u64, Proof)>| match report {
            None => (None, None, None),
            Some((at, Proof::Seen(text))) => (Some(*at), Some(true), Some(text.clone())),
            Some((at, Proof::NotSeen(text))) => (Some(*at), Some(false), Some(text.clone())),
        };
        let (injected_at, seen, proof) = read(&self.injected);
        let (healed_at, gone, heal_proof) = read(&self.healed);
        let earlier = self.planned.realised.as_ref().and_then(|r| r.was.clone());
        entry.realised = Some(Realised {
            was: earlier.or_else(|| self.planned.target.clone()),
            injected_at: injected_at.map(Duration::from_nanos),
            seen,
            proof,
            healed_at: healed_at.map(Duration::from_nanos),
            gone,
            heal_proof,
            skipped: None,
        });
        entry
    }
}

#[cfg(test)]
mod tests;
