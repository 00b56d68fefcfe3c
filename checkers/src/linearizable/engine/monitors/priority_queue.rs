//! Priority queues into which each value is put by at most one operation; the smallest comes out first.
//!
//! Notation: value `v` is put in in one of the slots `a_v .. A_v` and taken out in one of `b_v .. B_v`,
//! narrowed to `a_v <= b_v` and `A_v <= B_v`.
//!
//! # Everything answered
//!
//! `v` may be taken out in a slot unless a smaller value is inside. So go through the values from
//! the smallest up, and take each out in its first slot in which no smaller one is inside,
//! `y_v`; put it in as late as possible, in slot `A_v - 1`, or, if `y_v < A_v`, next to its being taken out. Then it
//! is in the way of larger values in the slots `Z_v = A_v .. y_v`. An order exists if and only if each `v` finds
//! a slot `y_v < B_v`, and each empty answer a slot in no `Z`:
//!
//! * *Only if.* By induction, in any order `v` is in in at least the slots of `Z_v`: it was put in
//!   by slot `A_v - 1`, and could not be taken out before `y_v`, since the earlier slots from `b_v` on lie in the
//!   `Z` of smaller values, which are at least as long in that order.
//! * *If.* Within a slot, first take out what was put in in earlier slots, smallest first; then put in and
//!   take out, value by value, what does both here; then answer that it is empty; last put in what
//!   stays. When `v` is taken out in slot `y_v`, a smaller value that is inside was put in in an earlier slot and
//!   is taken out in a later one (its `Z` has slot `y_v`, contradiction), or in this one, before `v`.
//!
//! A value that nobody took out has `Z = A ..` for ever.
//!
//! # Unanswered operations
//!
//! Unanswered puts: as for queues. Unanswered takes may take *stuck* values (put in for certain, taken by no
//! answered operation): then `b_s = max(c, a_s)` with the invocation `c`, and `B_s` is the end of time.
//! To take out in slot `y`, or to find nothing there, each stuck value (smaller than what is taken)
//! with `A_s <= y` has to be out. Taking a value out early may need fewer of the others out, but at
//! a time when fewer takes had been invoked; therefore this is bracketed, as for stacks:
//!
//! * *Nothing is possible, if not even this:* the stuck values that must go are taken as if each
//!   take had been the first one. Which must: let all others never have been. The slots `y` and
//!   those of empty answers that follow are the earliest that any order can have; each stuck value that is in their
//!   way must go. Repeat until there are no more. If they are more than there are takes, there is no order.
//! * *It is possible, if this is:* the slots so found, ascending, come no earlier than the takes,
//!   ascending: then each can be taken by a take of its own. Or the same with the takes assigned
//!   to values in the order in which they get into the way.
//!
//! With at most one value that must go, the two bounds meet. Between them the monitor does not apply.
//!
//! # Cost
//!
//! Sorting by value, and the slots in which something is inside as a union of ranges that only grows: n log n.

use std::collections::BTreeSet;

use super::super::{Decision, Op};
use super::shared::{Empty, Life, Lives, NEVER, NONE, cover, lives, refuted};

/// How often the values that must be taken are looked for.
const ROUNDS_MAX: usize = 64;

/// Decides; `None` if a value is put in more than once, an answer is of an unknown kind, or
/// unanswered takes leave it open.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let mut lives = match lives(ops) {
        Ok(lives) => lives,
        Err(decided) => return decided,
    };
    lives.taken.sort_unstable_by_key(|life| life.value);
    lives.stuck.sort_unstable_by_key(|life| life.value);
    let clock = Clock::new(&lives);
    let calls: Vec<u64> = lives.open_takes.iter().map(|(call, _)| *call).collect();
    let Some(&first_call) = calls.first() else {
        return Some(all_answered(&lives, &clock));
    };
    let must = match must_go(&lives, &clock, Vec::new(), &|must| {
        must.iter().map(|_| first_call).collect()
    }) {
        Outcome::Closed(must) => must,
        Outcome::Impossible => return Some(Decision::not_linearizable()),
        Outcome::Unsettled => return None,
    };
    if must.len() > calls.len() {
        return Some(Decision::not_linearizable());
    }
    let mut slots: Vec<u64> = must.iter().map(|gone| gone.slot).collect();
    slots.sort_unstable();
    if slots.iter().zip(&calls).all(|(slot, call)| call <= slot) {
        return Some(Decision::Linearizable);
    }
    let by_need = |must: &[Gone]| {
        let mut order: Vec<usize> = (0..must.len()).collect();
        order.sort_unstable_by_key(|&i| (must[i].needed, lives.stuck[must[i].stuck].value));
        let mut assigned = vec![NEVER; must.len()];
        for (&at, &call) in order.iter().zip(&calls) {
            assigned[at] = call;
        }
        assigned
    };
    match must_go(&lives, &clock, must, &by_need) {
        Outcome::Closed(must) if must.len() <= calls.len() => Some(Decision::Linearizable),
        _ => None,
    }
}

/// No take is unanswered: stuck values stay for ever.
fn all_answered(lives: &Lives, clock: &Clock) -> Decision {
    let mut values: Vec<Life> = lives.taken.iter().chain(&lives.stuck).copied().collect();
    values.sort_unstable_by_key(|life| life.value);
    let outs = outs(&values, clock);
    let inside = |outs: &[u64]| -> Vec<(u64, u64, Life)> {
        let ranges = values.iter().zip(outs);
        ranges
            .map(|(life, &out)| (life.put_end, out, *life))
            .collect()
    };
    let wrong = |(life, out): &(&Life, &u64)| life.take != NONE && life.take_end <= **out;
    if let Some(at) = values.iter().zip(&outs).position(|pair| wrong(&pair)) {
        let core = why(
            &inside(&outs[..at]),
            values[at].take_call,
            values[at].take_end,
        );
        let core = core.map(|core| core.into_iter().chain(values[at].ops()));
        return core.map_or_else(Decision::not_linearizable, refuted);
    }
    let ranges = inside(&outs);
    let mut covered = Busy::of(&ranges, clock);
    let mut wrong = |empty: &&Empty| covered.next(clock, empty.call) >= empty.end;
    match lives.empties.iter().find(|empty| wrong(empty)) {
        None => Decision::Linearizable,
        Some(empty) => {
            let core = why(&ranges, empty.call, empty.end);
            let core = core.map(|core| core.into_iter().chain([empty.op as usize]));
            core.map_or_else(Decision::not_linearizable, refuted)
        }
    }
}

/// Operations for which values are inside in all these slots: those that cover them, and those that
/// keep these in.
fn why(inside: &[(u64, u64, Life)], from: u64, to: u64) -> Option<Vec<usize>> {
    const VALUES_MAX: usize = 24;
    let mut core = BTreeSet::new();
    let mut open = vec![(from, to, inside.len())];
    while let Some((from, to, smaller)) = open.pop() {
        for life in cover(inside[..smaller].iter().copied(), from, to)? {
            let at = inside.partition_point(|(.., other)| other.value < life.value);
            if core.insert(at) && life.take != NONE {
                // It could not be taken out sooner than it was.
                let (_, out, _) = inside[at];
                open.push((life.take_call.min(out), out, at));
            }
        }
        if core.len() > VALUES_MAX {
            return None;
        }
    }
    Some(core.into_iter().flat_map(|at| inside[at].2.ops()).collect())
}

/// The first slot in which each of these, smallest first, can be taken out; [`NEVER`] if nobody did.
/// What is too late for its operation is in the way nevertheless.
fn outs(values: &[Life], clock: &Clock) -> Vec<u64> {
    let mut busy = Busy::new(clock);
    let mut outs = Vec::with_capacity(values.len());
    for life in values {
        let out = match life.take_call {
            NEVER => NEVER,
            call => busy.next(clock, call),
        };
        busy.add(clock, life.put_end, out);
        outs.push(out);
    }
    outs
}

/// A stuck value that must go.
#[derive(Clone, Copy)]
struct Gone {
    stuck: usize,
    /// The slot in which it is taken.
    slot: u64,
    /// The first slot in which it would be in the way.
    needed: u64,
}

enum Outcome {
    /// These stuck values must go, and no others.
    Closed(Vec<Gone>),
    /// Even so there is no order.
    Impossible,
    Unsettled,
}

/// All stuck values that must be taken if these are.
fn must_go(
    lives: &Lives,
    clock: &Clock,
    mut must: Vec<Gone>,
    assign: &dyn Fn(&[Gone]) -> Vec<u64>,
) -> Outcome {
    let mut goes = vec![NONE; lives.stuck.len()];
    for (at, gone) in must.iter().enumerate() {
        goes[gone.stuck] = at as u32;
    }
    for _ in 0..ROUNDS_MAX {
        let gone = must.iter().zip(assign(&must)).map(|(gone, call)| Life {
            take_call: call.max(lives.stuck[gone.stuck].put_call),
            ..lives.stuck[gone.stuck]
        });
        let mut values: Vec<Life> = lives.taken.iter().copied().chain(gone).collect();
        values.sort_unstable_by_key(|life| life.value);
        let outs = outs(&values, clock);
        if values
            .iter()
            .zip(&outs)
            .any(|(life, &out)| life.take_end <= out)
        {
            return Outcome::Impossible;
        }
        let inside: Vec<(u64, u64, Life)> = values
            .iter()
            .zip(&outs)
            .map(|(life, &out)| (life.put_end, out, *life))
            .collect();
        let mut busy = Busy::of(&inside, clock);
        let mut slots = BTreeSet::new();
        for empty in &lives.empties {
            let slot = busy.next(clock, empty.call);
            if slot >= empty.end {
                return Outcome::Impossible;
            }
            slots.insert(slot);
        }
        // From the largest down: the slots in which something larger is taken, or nothing found.
        let before = must.len();
        let mut larger = values.iter().zip(&outs).rev().peekable();
        for (s, life) in lives.stuck.iter().enumerate().rev() {
            while let Some((_, out)) = larger.next_if(|(other, _)| other.value > life.value) {
                slots.insert(*out);
            }
            let needed = slots.range(life.put_end..).next().copied();
            let slot = larger.peek().filter(|(other, _)| other.value == life.value);
            let slot = slot.map_or(NEVER, |(_, out)| **out);
            match (must.get_mut(goes[s] as usize), needed) {
                (Some(gone), _) => {
                    gone.slot = slot;
                    gone.needed = needed.unwrap_or(NEVER);
                }
                (None, Some(needed)) => {
                    goes[s] = must.len() as u32;
                    must.push(Gone {
                        stuck: s,
                        slot: NEVER,
                        needed,
                    });
                }
                (None, None) => {}
            }
        }
        if must.len() == before {
            return Outcome::Closed(must);
        }
    }
    Outcome::Unsettled
}

/// All instants, numbered.
struct Clock(Vec<u64>);

impl Clock {
    fn new(lives: &Lives) -> Self {
        let values = lives.taken.iter().chain(&lives.stuck);
        let values = values.flat_map(|life| [life.put_end, life.take_call]);
        let takes = lives.open_takes.iter().map(|(call, _)| *call);
        // Stuck ones that are taken may have to be put in first.
        let stuck = lives.stuck.iter().map(|life| life.put_call);
        let empties = lives.empties.iter().map(|empty| empty.call);
        let mut instants: Vec<u64> = values.chain(takes).chain(stuck).chain(empties).collect();
        instants.push(NEVER);
        instants.sort_unstable();
        instants.dedup();
        Self(instants)
    }

    fn number(&self, instant: u64) -> usize {
        self.0.partition_point(|other| *other < instant)
    }
}

/// Slots in which something is inside: for each the next that may be free.
struct Busy(Vec<u32>);

impl Busy {
    fn new(clock: &Clock) -> Self {
        Self((0..clock.0.len() as u32).collect())
    }

    fn of(ranges: &[(u64, u64, Life)], clock: &Clock) -> Self {
        // All at once, ranges may overlap: what is busy already is skipped.
        let mut busy = Self::new(clock);
        for (from, to, _) in ranges {
            busy.add(clock, *from, *to);
        }
        busy
    }

    fn add(&mut self, clock: &Clock, from: u64, to: u64) {
        let to = clock.number(to);
        let mut at = self.find(clock.number(from));
        while at < to {
            self.0[at] = at as u32 + 1;
            at = self.find(at + 1);
        }
    }

    fn find(&mut self, mut at: usize) -> usize {
        while self.0[at] as usize != at {
            let next = self.0[at] as usize;
            self.0[at] = self.0[next];
            at = next;
        }
        at
    }

    /// The first free slot from this one on.
    fn next(&mut self, clock: &Clock, slot: u64) -> u64 {
        let at = self.find(clock.number(slot));
        clock.0[at]
    }
}
