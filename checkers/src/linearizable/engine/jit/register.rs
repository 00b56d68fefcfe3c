//! Just-in-time linearization of one register.
//!
//! Lowe's algorithm (*Testing for linearizability*, 2017) goes through the history and keeps every
//! *configuration* that can be: the value, and which of the open operations have taken effect.
//! Operations take effect only when one completes that has not yet. For a register much less will
//! do, and this module keeps the fewest configurations that it can prove to be enough.
//!
//! # Configurations
//!
//! An order is cut into *segments*: a plain write, and what follows up to the next plain write. A
//! configuration is the value at the end of the last segment, and of every open operation what
//! became of it:
//!
//! * *done*: it took effect and was of use: a read showed or a compare-and-set expected what it
//!   left.
//! * *early*: not done, and it was already open when the last segment began. Just before that
//!   plain write anything may still be *inserted* that does not matter to what follows: a whole
//!   segment that begins with a plain write. An early plain write is therefore *free*: it may count
//!   as done (overwritten at once) or as not done, whichever is better later.
//! * *late*: not done, and open only since.
//!
//! Pending operations (never completed) have no slot: of each kind a configuration counts how many
//! are left, early and late.
//!
//! # Steps
//!
//! * A read, and a compare-and-set that was refused, takes effect as soon as the value fits. It
//!   changes nothing, so that an order in which it comes later can be changed to this one.
//! * When a plain write completes that is free: (1) it counts as overwritten. As this was its last
//!   chance, its segment is inserted with all that can be done in it at no cost: early reads of its
//!   value always, chains of early compare-and-sets as a choice. Or (2) it takes effect now.
//! * When a plain write completes that is late, it takes effect now. That another one overwrites it
//!   is left to when that one completes or its value is asked for: until then nothing depends on it.
//! * When another operation completes that is not done, it is made to: by compare-and-sets from the
//!   value that is there; by a plain write now, and compare-and-sets after it; or, if it is early,
//!   in an inserted segment.
//! * Before any plain write that takes effect now, chains of compare-and-sets at the end of the
//!   segment that it ends are a choice, too: that end is not seen again.
//!
//! # Why it is enough
//!
//! By induction over the events: for every linearization there is a configuration kept that can go
//! on as it does. Cut the linearization into segments. A plain write whose segment is empty can be
//! moved next to any other plain write that takes effect while it is open, which is what *free*
//! says. A segment that only serves operations which are still open when the next plain write
//! takes effect can be inserted later, just before the last plain write, as long as its own plain
//! write is open; when that completes is the last moment, and (1) takes it. Ends of segments that
//! compare-and-sets use are explored before the segment is closed. What is left are the segments
//! that are last when something completes: (2), and the third and fourth rule.
//!
//! # Which one of equals
//!
//! * Of plain writes of one value the one that completes first is used; pending ones last. If an
//!   order uses another one first, the two can change places.
//! * So of compare-and-sets of the same pair; but an early one that is left can be inserted and a
//!   late one cannot, so that where these two rules disagree both are tried.
//!
//! # Dominance
//!
//! Of two configurations with the same value and the same compare-and-sets done, one is dropped if
//! in the other every plain write is at least as useful (free before done; late only if late in
//! both), every read done or at least as early, and no fewer pending operations are left: whatever
//! the first can go on with, the second can, too.
//!
//! # Cost
//!
//! Memory is that of the configurations kept and of one line an operation; configurations are
//! compared exactly. In the worst case (the problem is NP-complete: Gibbons and Korach, 1997) their
//! number grows with the subsets of open operations. Therefore the history is gone through with few
//! configurations first ([`Breadth`]): if one survives, that is an order.

use super::super::budget::Spent;
use super::super::{Action, Op};
use super::mask::Mask;
use super::timeline::{Entry, NONE};
use super::{Found, Undone};
use crate::linearizable::engine::budget::{Meter, Spend};

mod configuration;
mod plan;
mod steps;

use configuration::{Configuration, Left, prune};
use plan::{Kind, Plan};

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breadth {
    /// Keeps so many configurations at most, and uses pending operations only where nothing else
    /// helps: what survives is an order, but nothing is refuted if anything was dropped.
    Beam(usize),
    /// Pending operations are never used up: what does not survive is refuted, but what does need
    /// not be an order.
    Relaxed,
    /// Keeps all.
    Exact,
}

/// How many configurations are kept in one pass after the other, before all are.
const BEAMS: [usize; 2] = [24, 384];

/// How many configurations may be made when all are kept, before other ways are tried.
const ALL_AT_FIRST: u64 = 100_000;

/// Decides a register.
pub(super) fn decide(ops: &[Op], meter: &mut Meter<'_>) -> Result<Found, Undone> {
    let plan = Plan::new(ops).map_err(Undone::Unfit)?;
    match plan.timeline.width.div_ceil(64) {
        0 | 1 => Passes::<1>::run(&plan, meter),
        2 => Passes::<2>::run(&plan, meter),
        3..=4 => Passes::<4>::run(&plan, meter),
        5..=16 => Passes::<16>::run(&plan, meter),
        17..=64 => Passes::<64>::run(&plan, meter),
        _ => Err(Undone::Unfit("more than 4096 operations are open at once")),
    }
}

struct Passes<const N: usize>;

impl<const N: usize> Passes<N> {
    fn run(plan: &Plan, meter: &mut Meter<'_>) -> Result<Found, Undone> {
        let short = ALL_AT_FIRST + 4 * plan.kinds.len() as u64;
        let pending = plan.pending_kinds() > 0;
        let passes = [
            Some((Breadth::Beam(BEAMS[0]), u64::MAX)),
            Some((Breadth::Exact, short)),
            pending.then_some((Breadth::Relaxed, u64::MAX)),
            Some((Breadth::Beam(BEAMS[1]), u64::MAX)),
        ];
        for (breadth, most) in passes.into_iter().flatten() {
            let mut search = Search::<N>::new(plan, breadth, most, meter);
            let found = search.run()?;
            let certain = match found {
                Some(Found::Order) => breadth != Breadth::Relaxed,
                Some(Found::None(_)) => !search.dropped,
                None => false,
            };
            if let (true, Some(found)) = (certain, found) {
                return Ok(found);
            }
        }
        let found = Search::<N>::new(plan, Breadth::Exact, u64::MAX, meter).run()?;
        found.ok_or(Undone::Unfit("the search was cut short"))
    }
}

/// The open operations that read or replace one value.
#[derive(Clone, Default)]
struct OpenOf {
    /// Plain writes of it, by deadline: `(deadline, slot)`.
    writes: Vec<(u32, u32)>,
    /// Reads that show it, by slot.
    reads: Vec<u32>,
    /// Refused compare-and-sets that expected it.
    refused: Vec<u32>,
}

struct Search<'p, 'm, const N: usize> {
    plan: &'p Plan,
    breadth: Breadth,
    /// Whether anything was left out for the sake of a beam.
    dropped: bool,
    of: Vec<OpenOf>,
    /// By kind of compare-and-set: the open ones by deadline, `(deadline, slot)`.
    sets: Vec<Vec<(u32, u32)>>,
    open: Mask<N>,
    writes: Mask<N>,
    cas: Mask<N>,
    refused: Mask<N>,
    /// By slot: the value that a plain write writes.
    value_of: Vec<u32>,
    /// Kinds of compare-and-set that are open or pending, each once.
    live_sets: Vec<u32>,
    /// By kind of pending operation: how many began so far.
    begun: Vec<u32>,
    front: Vec<Configuration<N>>,
    /// How many are collected for the next front.
    held: usize,
    next: Vec<Configuration<N>>,
    made: u64,
    made_before: u64,
    /// How many may be made before the pass gives up.
    most: u64,
    meter: &'m mut dyn Spend,
    /// The limit that was reached.
    spent: Option<Spent>,
}

impl<'p, 'm, const N: usize> Search<'p, 'm, N> {
    fn new(plan: &'p Plan, breadth: Breadth, most: u64, meter: &'m mut dyn Spend) -> Self {
        let start = Configuration {
            state: 0,
            done: Mask::EMPTY,
            early: Mask::EMPTY,
            left: vec![Left::default(); plan.pending_kinds()].into(),
        };
        Self {
            plan,
            breadth,
            dropped: false,
            of: vec![OpenOf::default(); plan.values],
            sets: vec![Vec::new(); plan.sets.len()],
            open: Mask::EMPTY,
            writes: Mask::EMPTY,
            cas: Mask::EMPTY,
            refused: Mask::EMPTY,
            value_of: vec![NONE; plan.timeline.width],
            live_sets: Vec::new(),
            begun: vec![0; plan.pending_kinds()],
            front: vec![start],
            held: 0,
            next: Vec::new(),
            made: 0,
            made_before: 0,
            most,
            meter,
            spent: None,
        }
    }

    fn bytes(&self) -> u64 {
        let kept = (self.front.capacity() + self.next.capacity()) * size_of::<Configuration<N>>();
        let counts = (self.front.len() + self.next.len()) * self.begun.len() * size_of::<Left>();
        let open = self.of.len() * size_of::<OpenOf>() + self.sets.len() * size_of::<Vec<u32>>();
        self.plan.bytes() + (kept + counts + open) as u64
    }

    /// Goes through the history; `None` if that takes too many configurations.
    fn run(&mut self) -> Result<Option<Found>, Undone> {
        for entry in self.plan.timeline.entries() {
            match entry {
                Entry::Call(op) => self.call(op),
                Entry::End(op) => {
                    let open = self.open.len() as usize;
                    self.end(op);
                    self.look(0);
                    if let Some(spent) = self.spent {
                        let at = op as usize;
                        return Err(Undone::Spent { spent, at, open });
                    }
                    if self.front.is_empty() {
                        return Ok(Some(Found::None(op as usize)));
                    }
                    self.made_before += self.front.len() as u64;
                    if self.made_before > self.most {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(Found::Order))
    }

    fn call(&mut self, op: u32) {
        let slot = self.plan.timeline.slots[op as usize];
        let deadline = self.plan.timeline.ends[op as usize];
        let kind = self.plan.kinds[op as usize];
        if slot == NONE {
            let Some(pending) = self.plan.pending_kind(kind) else {
                return;
            };
            if let Kind::Cas(set) = kind
                && self.begun[pending] == 0
                && self.sets[set as usize].is_empty()
            {
                self.live_sets.push(set);
            }
            self.begun[pending] += 1;
            for c in &mut self.front {
                c.left[pending].late += 1;
            }
            return;
        }
        self.open.insert(slot);
        match kind {
            Kind::Read(value) => {
                self.of[value as usize].reads.push(slot);
                for c in &mut self.front {
                    if c.state == value {
                        c.done.insert(slot);
                    }
                }
            }
            Kind::Refused(value) => {
                self.refused.insert(slot);
                self.of[value as usize].refused.push(slot);
                for c in &mut self.front {
                    if c.state != value {
                        c.done.insert(slot);
                    }
                }
            }
            Kind::Write(value) => {
                self.writes.insert(slot);
                self.value_of[slot as usize] = value;
                insert_by_deadline(&mut self.of[value as usize].writes, deadline, slot);
            }
            Kind::Cas(set) => {
                self.cas.insert(slot);
                let pending = self.plan.pending_kind(kind);
                if self.sets[set as usize].is_empty() && pending.is_none_or(|p| self.begun[p] == 0)
                {
                    self.live_sets.push(set);
                }
                insert_by_deadline(&mut self.sets[set as usize], deadline, slot);
            }
        }
    }

    /// Reports what was made, and what is in use with so many configurations beside those kept.
    fn look(&mut self, beside: usize) {
        let made = std::mem::take(&mut self.made);
        self.made_before += made;
        let bytes = self.bytes() + self.loose_bytes(beside);
        if let Err(spent) = self.meter.spend(made, bytes) {
            self.spent = Some(spent);
        }
    }

    fn end(&mut self, op: u32) {
        let slot = self.plan.timeline.slots[op as usize];
        let kind = self.plan.kinds[op as usize];
        let mut front = std::mem::take(&mut self.front);
        let mut next = std::mem::take(&mut self.next);
        let reach = self.reach(kind);
        let mut expanded = false;
        for c in front.drain(..) {
            if c.done.has(slot) {
                next.push(c);
                continue;
            }
            expanded = true;
            let before = next.len();
            self.expand(&c, slot, kind, &reach, &mut next);
            self.made += (next.len() - before) as u64;
            if next.len() > 4 * before.max(64) {
                self.settle(&mut next);
            }
            self.held = next.len();
            if self.held > 1024 {
                self.look(0);
            }
            if self.spent.is_some() {
                return;
            }
        }
        self.held = 0;
        self.close(slot, kind);
        for c in &mut next {
            c.done.remove(slot);
            c.early.remove(slot);
        }
        if expanded || next.len() > 1 {
            self.settle(&mut next);
        }
        if let Breadth::Beam(beam) = self.breadth
            && next.len() > beam
        {
            self.dropped = true;
            configuration::keep_best(&mut next, beam, self.open.without(self.writes));
        }
        self.front = next;
        self.next = front;
    }

    fn loose_bytes(&self, beside: usize) -> u64 {
        let each = size_of::<Configuration<N>>() + self.begun.len() * size_of::<Left>();
        // As much again for what a growing list leaves unused.
        2 * ((beside + self.held) * each) as u64
    }

    fn settle(&self, configurations: &mut Vec<Configuration<N>>) {
        prune(configurations, self.writes, self.cas);
    }

    /// Forgets an operation that completed.
    fn close(&mut self, slot: u32, kind: Kind) {
        self.open.remove(slot);
        match kind {
            Kind::Read(value) => self.of[value as usize].reads.retain(|s| *s != slot),
            Kind::Refused(value) => {
                self.refused.remove(slot);
                self.of[value as usize].refused.retain(|s| *s != slot);
            }
            Kind::Write(value) => {
                self.writes.remove(slot);
                self.of[value as usize].writes.retain(|(_, s)| *s != slot);
            }
            Kind::Cas(set) => {
                self.cas.remove(slot);
                self.sets[set as usize].retain(|(_, s)| *s != slot);
                let pending = self.plan.pending_kind(kind);
                if self.sets[set as usize].is_empty() && pending.is_none_or(|p| self.begun[p] == 0)
                {
                    self.live_sets.retain(|s| *s != set);
                }
            }
        }
    }
}

fn insert_by_deadline(list: &mut Vec<(u32, u32)>, deadline: u32, slot: u32) {
    let at = list.partition_point(|(d, _)| *d < deadline);
    list.insert(at, (deadline, slot));
}

/// Whether an action of a register can matter while it never completes.
fn may_matter(action: &Action) -> bool {
    match action {
        Action::Write(_) => true,
        Action::Cas(old, new) => old != new,
        _ => false,
    }
}
