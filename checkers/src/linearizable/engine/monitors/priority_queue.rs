//! Priority queues into which each value is put by at most one operation; the smallest comes out
//! first.
//!
//! Notation: value `v` is put in in one of the slots `a_v .. A_v` and taken out in one of `b_v ..
//! B_v`, narrowed to `a_v <= b_v` and `A_v <= B_v`.
//!
//! # Everything answered
//!
//! `v` is inside for certain in the slots `I_v = A_v .. b_v`, if `A_v < b_v`. *Claim: an order
//! exists if and only if each `v` that was taken out has a slot in `b_v .. B_v` that lies in the
//! `I` of no smaller value, and each empty answer one that lies in no `I`.*
//!
//! *Only if* is plain. *If:* take `v` out in the first such slot, `y_v`, and put it in as late as
//! possible: in slot `A_v - 1`, or, if `y_v < A_v`, in slot `y_v`, next to its being taken out. It
//! is then inside from beginning to end of the slots `A_v .. y_v`: those of `I_v`, and from `b_v`
//! on some that lie in the `I` of smaller values. So each slot throughout which a value is inside
//! lies in its own `I` or in that of a smaller value. Within a slot, first take out what was put in
//! in earlier slots, smallest first; then put in and take out, value by value, what does both here;
//! then answer that it is empty; last put in what stays. When `v` is taken out, a smaller value
//! that is inside would be so throughout the slot: it was put in in an earlier one, as what stays
//! comes last, and is taken out in a later one, or it would be out by then. So the slot would lie
//! in the `I` of a value smaller than `v`. The same for empty answers.
//!
//! A value that nobody took out has `I = A ..` for ever.
//!
//! # Unanswered operations
//!
//! Unanswered puts: as for queues. Unanswered takes may take *stuck* values (put in for certain,
//! taken by no answered operation): then `b_s = max(c, a_s)` with the invocation `c`, and `B_s` is
//! the end of time. To take out in slot `y`, or to find nothing there, each stuck value (smaller
//! than what is taken) with `A_s <= y` has to be out. Taking a value out early may need fewer of
//! the others out, but at a time when fewer takes had been invoked; therefore this is bracketed, as
//! for stacks:
//!
//! * *Nothing is possible, if not even this:* the stuck values that must go are taken as if each
//!   take had been the first one. Which must: let all others never have been. The slots `y` and
//!   those of empty answers that follow are the earliest that any order can have; each stuck value
//!   that is in their way must go. Repeat until there are no more. If they are more than there are
//!   takes, there is no order.
//! * *It is possible, if this is:* the slots so found, ascending, come no earlier than the takes,
//!   ascending: then each can be taken by a take of its own. Or the same with the takes assigned to
//!   values in the order in which they get into the way.
//!
//! With at most one value that must go, the two bounds meet. Between them the monitor does not
//! apply.
//!
//! # Cost
//!
//! Sorting by value, and the slots in which something is inside as a union of ranges that only
//! grows: n log n.

use std::collections::BTreeSet;

use super::super::{Decision, Op};
use super::shared::{Empty, Life, Lives, NEVER, NONE, Ranges, cover, lives, refuted};

/// How often the values that must be taken are looked for.
const ROUNDS_MAX: usize = 64;

/// Decides; `None` if a value is put in more than once, an answer is of an unknown kind, or
/// unanswered takes leave it open.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let mut lives = match lives(ops) {
        Ok(lives) => lives,
        Err(decided) => return decided,
    };
    // Those of each round are these and a few more: a stable sort is linear then.
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
    values.sort_by_key(|life| life.value);
    let outs = outs(&values, clock);
    let proof = |smaller: &[Life], from, to, op: &mut dyn Iterator<Item = usize>| {
        let inside = smaller
            .iter()
            .filter_map(|life| life.inside().map(|(from, to)| (from, to, *life)));
        let Some(covering) = cover(inside, from, to) else {
            return Decision::not_linearizable();
        };
        refuted(covering.iter().flat_map(Life::ops).chain(op))
    };
    let late = |(life, out): (&Life, &u64)| life.take != NONE && life.take_end <= *out;
    if let Some(at) = values.iter().zip(&outs).position(late) {
        let life = values[at];
        return proof(
            &values[..at],
            life.take_call,
            life.take_end,
            &mut life.ops(),
        );
    }
    let inside = Ranges::union(values.iter().filter_map(Life::inside).collect());
    let wrong = |empty: &&Empty| empty.end <= inside.next_outside(empty.call);
    match lives.empties.iter().find(wrong) {
        None => Decision::Linearizable,
        Some(empty) => {
            let op = &mut std::iter::once(empty.op as usize);
            proof(&values, empty.call, empty.end, op)
        }
    }
}

/// The first slot in which each of these, smallest first, can be taken out; [`NEVER`] if nobody
/// did.
fn outs(values: &[Life], clock: &Clock) -> Vec<u64> {
    let mut busy = Busy::new(clock);
    let mut outs = Vec::with_capacity(values.len());
    for life in values {
        let out = match life.take_call {
            NEVER => NEVER,
            call => busy.next(clock, call),
        };
        busy.add(clock, life.put_end, life.take_call);
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
        values.sort_by_key(|life| life.value);
        let outs = outs(&values, clock);
        if values
            .iter()
            .zip(&outs)
            .any(|(life, &out)| life.take_end <= out)
        {
            return Outcome::Impossible;
        }
        let inside = Ranges::union(values.iter().filter_map(Life::inside).collect());
        let mut slots = BTreeSet::new();
        for empty in &lives.empties {
            let slot = inside.next_outside(empty.call);
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
        let mut instants: Vec<u64> = values.chain(takes).chain(stuck).collect();
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
