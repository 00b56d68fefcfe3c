//! The nemesis: a state machine that walks a program.
//!
//! The runner asks [`Nemesis::next`] what to do and tells it what came of it. Blocks and triggers
//! (`interpret`) make faults; a fault goes pending → injecting → active → healing → healed, or
//! pending → skipped. What a substrate is handed is an [`Order`], which only the check against the
//! [`Budget`] makes.
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
//! * with it more nodes would be hurt at once than the budget permits, or others.
//!
//! A fault in the `while` of another, or `under` it, may hit what that one has hit, but for links of
//! nodes that are down; it is healed before that one is.
//!
//! The window of a fault is as long as it was to last, unless the program says otherwise. A fault
//! injected late keeps its length.

mod description;
mod interpret;
mod order;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_pcg::Pcg32;

use crate::Budget;
use crate::action::{Action, Node, Proof, View};
use crate::duration::nanos;
use crate::fault::{Capabilities, Fault};
use crate::package::{self, Pace, Package};
use crate::program::{Block, Planned, Program, Span, What};
use crate::schedule::{Entry, Realised, Schedule};
use crate::selector::{Scene, Selector};

pub use description::FaultDescription;
use interpret::{Now, Running, Scope, key_of, stream};
pub use order::Order;
use resolve::{Resolved, resolve};

/// How soon a fault that could not be injected is tried again, in nanoseconds.
const RETRY_NS: u64 = 100_000_000;

/// How long, after [`Nemesis::stop`], the report of an injection is awaited before the fault is
/// healed without it, in nanoseconds.
const STOP_GRACE_NS: u64 = 5_000_000_000;

/// What the runner is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry this out now, then report with [`Nemesis::injected`].
    Inject {
        /// Names the fault in what follows.
        id: u32,
        /// What it is, for people and the history.
        description: FaultDescription,
        /// What the substrate is to do.
        order: Order,
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

/// Walks a program. See the [module](self).
#[derive(Debug)]
pub struct Nemesis {
    nodes: Node,
    seed: u64,
    budget: Budget,
    slots: Vec<Slot>,
    /// How many were ordered.
    orders: u64,
    /// The blocks under way and to come; nothing once all are over.
    running: Option<Running>,
    scopes: Vec<Scope>,
    observes_staleness: bool,
    leader: Option<Node>,
    former_leader: Option<Node>,
    leader_changes: u64,
    stopped_at: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    planned: Entry,
    phase: Phase,
    /// Draws whom it hits; from its beginning at each attempt, so that a retry shifts nothing.
    random: Pcg32,
    /// How long it is tried to inject it, if not as long as it is to last.
    window: Option<Duration>,
    /// Where the name is kept that it gives to those it hits, and where it looks names up.
    scope: usize,
    /// The fault in whose `while` it is.
    outer: Option<usize>,
    /// Whether it is in a repetition without end: what the end of the run cuts off is no matter.
    endless: bool,
    /// Whether it stands until it is released, not for its length.
    held: bool,
    released: Option<u64>,
    /// The how manyth order it was.
    order: u64,
    /// Set when injected.
    resolved: Option<Resolved>,
    ordered_at: u64,
    heal_ordered_at: Option<u64>,
    injected: Option<(u64, Proof)>,
    healed: Option<(u64, Proof)>,
    /// The nodes that it hurts, once ordered.
    hurt: BTreeSet<Node>,
    /// Why it is still pending, or was skipped.
    obstacle: Option<String>,
    /// Whether it was the end of the run that it was skipped for.
    obstacle_at_end: bool,
}

impl Nemesis {
    /// Walks this schedule on a cluster of this size, without limits. Entries that a realised
    /// schedule marks as skipped are left out. The seed decides whom `random` and the like mean.
    pub fn from_schedule(schedule: &Schedule, nodes: Node, seed: u64) -> Self {
        let program = Program::from(schedule.clone());
        Self::from_program(&program, nodes, &Capabilities::all(), seed)
    }

    /// Walks this program where these things can and may be done; packages and composites that it
    /// names do there what is possible. Faults that stand outside all blocks draw from streams
    /// numbered by their order in time, all others from such as no other statement shifts.
    pub fn from_program(
        program: &Program,
        nodes: Node,
        capabilities: &Capabilities,
        seed: u64,
    ) -> Self {
        let program = program.expanded(nodes, capabilities);
        let observes_staleness = program.observes_staleness();
        let block: Block = program.statements.into();
        let mut entries: Vec<Entry> = Vec::new();
        let mut rest = Vec::new();
        for (index, statement) in block.iter().enumerate() {
            match &statement.what {
                What::Fault(planned) if planned.entry.skipped() => {}
                What::Fault(planned) if planned.body.is_none() && planned.window.is_none() => {
                    entries.push(drawn(planned, key_of(&block, index, 0), seed));
                }
                _ => rest.push(index),
            }
        }
        entries.sort_by_key(|entry| entry.at);
        let slots = entries.into_iter().zip(0..);
        let mut nemesis = Self {
            nodes,
            seed,
            budget: capabilities.budget().clone(),
            slots: slots
                .map(|(entry, id)| Slot::new(entry, Pcg32::new(seed, id)))
                .collect(),
            orders: 0,
            running: None,
            scopes: vec![Scope::default()],
            observes_staleness,
            leader: None,
            former_leader: None,
            leader_changes: 0,
            stopped_at: None,
        };
        if !rest.is_empty() {
            nemesis.running = Some(Running::program(&nemesis, &block, rest));
        }
        nemesis
    }

    /// Draws a program from packages ([`package::draw`]) and walks it.
    pub fn from_packages(
        packages: &[&Package],
        nodes: Node,
        capabilities: &Capabilities,
        pace: &Pace,
        seed: u64,
    ) -> Self {
        let program = package::draw(packages, nodes, capabilities, pace, seed);
        Self::from_program(&program, nodes, capabilities, seed)
    }

    /// Whether anything in it waits for a stale read, so that somebody has to look for one.
    pub fn observes_staleness(&self) -> bool {
        self.observes_staleness
    }

    /// Whether blocks are still to be walked: then it may have something to do whenever clients or
    /// nodes show something new.
    pub fn watches(&self) -> bool {
        self.running.is_some()
    }

    /// What to do at this time (nanoseconds of the run), given what is known of the cluster.
    ///
    /// Ask again after every step and every report, and when the time of a [`Step::Wait`] comes.
    pub fn next(&mut self, now: u64, view: &View) -> Step {
        self.observe(view);
        loop {
            let mut walk = Now {
                time: now,
                view,
                wake: u64::MAX,
            };
            self.walk(&mut walk);
            let wake = walk.wake;
            if let Some(id) = self.due_to_heal(now) {
                let slot = &mut self.slots[id];
                slot.phase = Phase::Healing;
                slot.heal_ordered_at = Some(now);
                return Step::Heal { id: id as u32 };
            }
            let mut skipped = false;
            for id in 0..self.slots.len() {
                if self.slots[id].phase == Phase::Pending {
                    if let Some(step) = self.try_inject(id, now, view) {
                        return step;
                    }
                    skipped |= self.slots[id].phase == Phase::Skipped;
                }
            }
            // What waited for one that was skipped goes on.
            if skipped && self.running.is_some() {
                continue;
            }
            if self.running.is_none() && self.slots.iter().all(Slot::over) {
                return Step::Done;
            }
            return Step::Wait(wake.min(self.wake(now)));
        }
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
        self.abandon(now);
        for slot in &mut self.slots {
            if slot.phase == Phase::Pending {
                slot.phase = Phase::Skipped;
                slot.obstacle_at_end = true;
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

    /// What was really done: concrete nodes, actual times, what was observed, in the order of
    /// injection. It replays: a nemesis made from it gives the same actions at the same times.
    pub fn realised(&self) -> Schedule {
        let names = self.names_of_outer_faults();
        let recorded = self.slots.iter().enumerate();
        let recorded = recorded
            .filter(|(_, slot)| !(slot.endless && slot.resolved.is_none() && slot.obstacle_at_end));
        let mut faults: Vec<(u64, Entry)> = recorded
            .map(|(id, slot)| {
                let mut entry = slot.realised();
                if slot.resolved.is_some() {
                    if let Some(name) = names.get(&id) {
                        entry.name = Some(name.clone());
                    }
                    let outer = self.outer(id).and_then(|outer| names.get(&outer));
                    entry.under = outer.cloned();
                }
                (slot.order, entry)
            })
            .collect();
        // Those that were never ordered come after others of the same time.
        faults.sort_by_key(|(order, entry)| (entry.at, *order));
        Schedule {
            faults: faults.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    /// Names, each given once, of the faults that others are under.
    fn names_of_outer_faults(&self) -> BTreeMap<usize, String> {
        let ids = 0..self.slots.len();
        let outer: BTreeSet<usize> = ids
            .filter(|&id| self.slots[id].resolved.is_some())
            .filter_map(|id| self.outer(id))
            .collect();
        let name = |id: usize| match &self.slots[id].planned.name {
            Some(name) => {
                let same = |slot: &&Slot| {
                    slot.resolved.is_some() && slot.planned.name.as_ref() == Some(name)
                };
                match self.slots.iter().filter(same).count() {
                    0 | 1 => name.clone(),
                    _ => format!("{name}-{id}"),
                }
            }
            None => format!("fault-{id}"),
        };
        outer.into_iter().map(|id| (id, name(id))).collect()
    }

    /// The fault in whose `while` this one is, or that it says it is under.
    fn outer(&self, id: usize) -> Option<usize> {
        let slot = &self.slots[id];
        if slot.outer.is_some() {
            return slot.outer;
        }
        let under = slot.planned.under.as_ref()?;
        let mut others = self.slots.iter().enumerate();
        others
            .find(|(other, slot)| *other != id && slot.planned.name.as_ref() == Some(under))
            .map(|(other, _)| other)
    }

    /// Whether a fault is under another, however deep.
    fn is_under(&self, id: usize, other: usize) -> bool {
        let mut at = id;
        // No longer than there are faults, should names go round in a circle.
        for _ in 0..self.slots.len() {
            match self.outer(at) {
                Some(outer) if outer == other => return true,
                Some(outer) => at = outer,
                None => return false,
            }
        }
        false
    }

    /// Nodes that faults under way take down or forbid to.
    fn taken(&self) -> BTreeSet<Node> {
        let mut taken = BTreeSet::new();
        let under_way = self.slots.iter().filter(|slot| slot.under_way());
        under_way
            .filter_map(|slot| slot.resolved.as_ref())
            .for_each(|other| other.taken(&mut taken));
        taken
    }

    fn observe(&mut self, view: &View) {
        let leader = view.leader();
        if leader.is_some() && leader != self.leader {
            if self.leader.is_some() {
                self.former_leader = self.leader;
                self.leader_changes += 1;
            }
            self.leader = leader;
        }
    }

    fn due_to_heal(&self, now: u64) -> Option<usize> {
        let ids = 0..self.slots.len();
        let mut due = ids.filter(|&id| {
            let slot = &self.slots[id];
            match slot.phase {
                Phase::Active => self.stopped_at.is_some() || now >= slot.heal_at(),
                Phase::Injecting => {
                    self.stopped_at.is_some()
                        && now >= slot.ordered_at.saturating_add(STOP_GRACE_NS)
                }
                _ => false,
            }
        });
        due.find(|&id| self.healed_inside(id, now).is_none())
    }

    /// When to look again whether a fault can be healed, because one under it still stands: after
    /// the run has been stopped it is waited for only so long.
    fn healed_inside(&self, id: usize, now: u64) -> Option<u64> {
        let ids = 0..self.slots.len();
        let inside = ids.filter(|&other| self.slots[other].under_way() && self.is_under(other, id));
        let patience = match self.stopped_at {
            Some(stopped) => stopped.saturating_add(2 * STOP_GRACE_NS),
            None => u64::MAX,
        };
        (inside.count() > 0 && now < patience).then_some(patience)
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
            Ok((resolved, order)) => {
                self.orders += 1;
                let slot = &mut self.slots[id];
                slot.phase = Phase::Injecting;
                slot.ordered_at = now;
                slot.obstacle = None;
                slot.order = self.orders;
                slot.hurt.clone_from(order.hurt());
                let step = Step::Inject {
                    id: id as u32,
                    description: resolved.description.clone(),
                    order,
                };
                if let Some(name) = slot.planned.name.clone() {
                    let hit = resolved.target.as_ref().or(resolved.order.as_ref());
                    let hit = hit.cloned().unwrap_or_default();
                    self.scopes[slot.scope].names.insert(name, hit);
                }
                slot.resolved = Some(resolved);
                Some(step)
            }
            Err(obstacle) => {
                self.slots[id].obstacle = Some(obstacle);
                None
            }
        }
    }

    /// The action of an entry, or what stands in its way now.
    fn resolve(&self, id: usize, view: &View) -> Result<(Resolved, Order), String> {
        let slot = &self.slots[id];
        let scene = Scene {
            nodes: self.nodes,
            view,
            former_leader: self.former_leader,
            taken: &self.taken(),
            names: &self.names(slot.scope),
            budget: &self.budget,
        };
        let resolved = resolve(&slot.planned, &scene, &mut slot.random.clone())?;
        let mut standing = BTreeSet::new();
        for (other_id, other) in self.slots.iter().enumerate() {
            let (true, Some(meant)) = (other.under_way(), &other.resolved) else {
                continue;
            };
            standing.extend(other.hurt.iter().copied());
            let blocked = if self.is_under(id, other_id) {
                meant.blocks_inside(&resolved)
            } else {
                meant.blocks(&resolved)
            };
            if blocked {
                return Err(format!("it met another fault: {}", meant.description));
            }
        }
        let target = resolved.target.as_deref().unwrap_or(&[]);
        let via = slot.planned.via.as_deref();
        let order = Order::check(&resolved.action, target, via, &self.budget, &standing)?;
        Ok((resolved, order))
    }

    fn wake(&self, now: u64) -> u64 {
        let slots = self.slots.iter().enumerate();
        let times = slots.filter_map(|(id, slot)| match slot.phase {
            Phase::Pending => {
                let at = nanos(slot.planned.at);
                let retry = now.saturating_add(RETRY_NS).min(slot.window_end());
                Some(if at > now { at } else { retry })
            }
            Phase::Active => {
                let at = slot.heal_at();
                match self.healed_inside(id, now) {
                    Some(patience) if at <= now || self.stopped_at.is_some() => Some(patience),
                    _ => Some(at),
                }
            }
            Phase::Injecting if self.stopped_at.is_some() => {
                Some(slot.ordered_at.saturating_add(STOP_GRACE_NS))
            }
            _ => None,
        });
        times.min().unwrap_or(u64::MAX)
    }
}

impl Slot {
    fn new(planned: Entry, random: Pcg32) -> Self {
        Self {
            planned,
            phase: Phase::Pending,
            random,
            window: None,
            scope: 0,
            outer: None,
            endless: false,
            held: false,
            released: None,
            order: u64::MAX,
            hurt: BTreeSet::new(),
            obstacle_at_end: false,
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
        let window = self.window.unwrap_or(self.planned.lasting);
        nanos(self.planned.at).saturating_add(nanos(window))
    }

    fn heal_at(&self) -> u64 {
        if self.held {
            return self.released.unwrap_or(u64::MAX);
        }
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
        // The name that it may have been under is that of another run.
        entry.under = None;
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

/// A fault that stands outside all blocks, with what is open of its time and length drawn.
fn drawn(planned: &Planned, key: u64, seed: u64) -> Entry {
    let mut entry = planned.entry.clone();
    let draw = |least: Duration, more: Duration, purpose: u64| {
        let span = Span {
            least,
            most: least + more,
        };
        span.draw(&mut stream(seed, key, purpose))
    };
    entry.at = draw(entry.at, planned.later, interpret::AT);
    entry.lasting = draw(entry.lasting, planned.longer, interpret::LENGTH);
    entry
}

#[cfg(test)]
mod tests;
