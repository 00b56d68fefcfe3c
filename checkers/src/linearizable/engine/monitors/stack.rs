//! Stacks onto which each value is put by at most one operation.
//!
//! Notation: value `v` is pushed in one of the slots `a_v .. A_v` and popped in one of `b_v ..
//! B_v`, narrowed to `a_v <= b_v` and `A_v <= B_v`. It is inside for certain in the slots `I_v =
//! A_v .. b_v`, if `A_v < b_v`. If not, it is *free*: both operations can take effect next to each
//! other in slot `b_v`, where they disturb nobody, and it is left out.
//!
//! An order is a choice of a push and a pop of each value such that the lives (from push to pop) of
//! any two values are nested or disjoint, and no empty answer lies within a life.
//!
//! # Everything answered
//!
//! *Cutting.* Call a slot *open* if it is in no `I_v`. Of any order, each life that crosses an open
//! slot `t` can be cut there: if `I_v` lies to the left, `v` is popped in slot `t` (`b_v <= t`), if
//! to the right, pushed in it (`A_v > t`). The lives that cross `t` are nested in each other: let
//! the inner ones be popped first, and the outer ones be pushed first. Lives that do not cross `t`
//! lie within one half or outside, so that all stay nested or disjoint. Hence all open slots can be
//! cut at once: an empty answer needs one open slot among its own, nothing more, and the values
//! fall apart into *components*, the maximal sets whose `I_v` together cover a range of slots `l ..
//! r` without gap; each is decided alone.
//!
//! *Bottoms.* In an order of one component the stack is never empty from `l` to `r`, so that the
//! life of one value covers all of it, and the others live within: this bottom `v` has `a_v < A_w`
//! and `b_w < B_v` for all `w`, that is `a_v < l` and `r < B_v`. If there is no such value, there
//! is no order. If there are several, any of them will do: of an order, cut the lives of all others
//! at `a_v` and at `B_v - 1`, which are open (no `I` of the component reaches there), and let `v`
//! live from before the first to after the last; it is nested around all others. By the same cut,
//! the others are decided as if `v` were not there.
//!
//! So: take a bottom out of each component, split what is left into components, and so on, until
//! nothing is left or a component has no bottom. Components only shrink; so what makes `v` a
//! possible bottom (`a_v < l`, and `r < B_v`) stays true once it is, and each value moves ahead at
//! most twice. With segment trees for "which has the earliest push", "the latest pop" and "where is
//! nobody inside", this takes O(n log n).
//!
//! # Never popped
//!
//! A value that no operation popped (*stuck*) stays for ever. *Claim: given that the popped values
//! have an order, stuck ones can be added if and only if each has a slot in `a_s .. A_s` that is
//! open with regard to the popped ones.* When it is pushed, no popped value can be below it.
//! Conversely cut the lives at these slots. Empty answers go before all stuck values: the earliest
//! open slot of each must not be after the latest open slot of any stuck value.
//!
//! # Unanswered operations
//!
//! Unanswered pushes: as for queues. An unanswered pop invoked at `c` may take a stuck value: then
//! it is popped with `b_s = max(c, a_s)` and `B_s` the end of time. Which pop takes which value
//! matters, and what that costs is open. Therefore this is bracketed:
//!
//! * *Nothing is possible, if not even this:* every stuck value that must be taken is taken by the
//!   first unanswered pop, as if there were as many of it. A value must be taken if it has no open
//!   slot, or only ones before the earliest possible slot of some empty answer; open with regard to
//!   the popped ones and those that must be taken, which only makes `I` smaller than it will be. If
//!   there are more that must be taken than unanswered pops, there is no order either.
//! * *It is possible, if this is:* if nothing must be taken; or if, with a particular assignment of
//!   pops to values, the claims above give an order: the newest value to each pop, as a stack
//!   would, or else the oldest. With at most one value to be taken, the two bounds meet.
//!
//! Between the two, the monitor does not apply.

mod nesting;

use super::super::{Decision, Op};
use super::shared::{Empty, Life, Lives, NEVER, Ranges, cover, lives, refuted};

/// How often the values that must be taken are looked for.
const ROUNDS_MAX: usize = 64;

/// Decides; `None` if a value is put in more than once, an answer is of an unknown kind, or
/// unanswered pops leave it open.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let lives = match lives(ops) {
        Ok(lives) => lives,
        Err(decided) => return decided,
    };
    if let Some(core) = nesting::crossing(&lives.taken) {
        return Some(refuted(core.iter().flat_map(Life::ops)));
    }
    let popped = Popped::new(lives.taken.clone());
    let Some(latest_empty) = popped.latest_empty(&lives.empties) else {
        return Some(popped.no_room(&lives.empties));
    };
    let must = |popped: &Popped, latest_empty, life: &Life| popped.must_go(life, latest_empty);
    let Some(first) = lives
        .stuck
        .iter()
        .find(|life| must(&popped, latest_empty, life))
    else {
        return Some(Decision::Linearizable);
    };
    if lives.open_takes.is_empty() {
        return Some(popped.buried(first, &lives.empties, latest_empty));
    }
    with_open_takes(&lives)
}

/// The popped values, and where none of them is inside.
struct Popped {
    values: Vec<Life>,
    inside: Ranges,
}

impl Popped {
    fn new(values: Vec<Life>) -> Self {
        let inside = Ranges::union(values.iter().filter_map(Life::inside).collect());
        Self { values, inside }
    }

    /// The slot before which not all empty answers can be; `None` if one can be nowhere.
    fn latest_empty(&self, empties: &[Empty]) -> Option<u64> {
        empties.iter().try_fold(0, |latest, empty| {
            let slot = self.inside.next_outside(empty.call);
            (slot < empty.end).then_some(latest.max(slot))
        })
    }

    /// Whether a value cannot have stayed for ever.
    fn must_go(&self, life: &Life, latest_empty: u64) -> bool {
        let latest = self.inside.last_outside(life.put_end - 1);
        latest.is_none_or(|slot| slot < life.put_call.max(latest_empty))
    }

    fn covering(&self, from: u64, to: u64) -> Option<Vec<Life>> {
        let inside = self
            .values
            .iter()
            .filter_map(|life| life.inside().map(|(from, to)| (from, to, *life)));
        cover(inside, from, to)
    }

    /// An operation found nothing although something was in all the time.
    fn no_room(&self, empties: &[Empty]) -> Decision {
        let wrong = |empty: &&Empty| empty.end <= self.inside.next_outside(empty.call);
        let proof = empties.iter().find(wrong).and_then(|empty| {
            let covering = self.covering(empty.call, empty.end)?;
            Some((empty.op as usize, covering))
        });
        proof.map_or_else(Decision::not_linearizable, |(empty, covering)| {
            refuted(covering.iter().flat_map(Life::ops).chain([empty]))
        })
    }

    /// A value was never popped, but was on top of one that was, or found missing.
    fn buried(&self, life: &Life, empties: &[Empty], latest_empty: u64) -> Decision {
        let latest = self.inside.last_outside(life.put_end - 1);
        let from = latest.map_or(life.put_call, |slot| life.put_call.max(slot + 1));
        let mut core: Vec<usize> = life.ops().collect();
        let above = self.covering(from, life.put_end);
        let found = |empty: &&Empty| self.inside.next_outside(empty.call) == latest_empty;
        let Some(above) = above else {
            return Decision::not_linearizable();
        };
        core.extend(above.iter().flat_map(Life::ops));
        if latest.is_some_and(|slot| slot >= life.put_call) {
            // It can have been pushed, but only before an operation found nothing.
            let Some(empty) = empties.iter().find(found) else {
                return Decision::not_linearizable();
            };
            let Some(before) = self.covering(empty.call, latest_empty) else {
                return Decision::not_linearizable();
            };
            core.push(empty.op as usize);
            core.extend(before.iter().flat_map(Life::ops));
        }
        refuted(core)
    }
}

/// Some stuck values must have been taken, and there are unanswered pops.
fn with_open_takes(lives: &Lives) -> Option<Decision> {
    let calls: Vec<u64> = lives.open_takes.iter().map(|(call, _)| *call).collect();
    let first_call = *calls.first()?;
    let optimist = |must: &[usize]| must.iter().map(|_| first_call).collect();
    let must = match must_go(lives, Vec::new(), &optimist) {
        Outcome::Closed(must) => must,
        Outcome::Impossible => return Some(Decision::not_linearizable()),
        Outcome::Unsettled => return None,
    };
    if must.len() > calls.len()
        || nesting::crossing(&popped(lives, &must, &optimist(&must))).is_some()
    {
        return Some(Decision::not_linearizable());
    }
    for assign in [newest_first, oldest_first] {
        let assign = |must: &[usize]| assign(lives, must, &calls);
        if let Outcome::Closed(must) = must_go(lives, must.clone(), &assign)
            && must.len() <= calls.len()
            && nesting::crossing(&popped(lives, &must, &assign(&must))).is_none()
        {
            return Some(Decision::Linearizable);
        }
    }
    None
}

enum Outcome {
    /// These stuck values must go, and no others.
    Closed(Vec<usize>),
    /// An empty answer has no room.
    Impossible,
    Unsettled,
}

/// All stuck values that must be taken if these are.
fn must_go(lives: &Lives, mut must: Vec<usize>, assign: &dyn Fn(&[usize]) -> Vec<u64>) -> Outcome {
    let mut goes = vec![false; lives.stuck.len()];
    for &s in &must {
        goes[s] = true;
    }
    for _ in 0..ROUNDS_MAX {
        let popped = Popped::new(popped(lives, &must, &assign(&must)));
        let Some(latest_empty) = popped.latest_empty(&lives.empties) else {
            return Outcome::Impossible;
        };
        let before = must.len();
        for (s, life) in lives.stuck.iter().enumerate() {
            if !goes[s] && popped.must_go(life, latest_empty) {
                goes[s] = true;
                must.push(s);
            }
        }
        if must.len() == before {
            return Outcome::Closed(must);
        }
        must.sort_unstable_by_key(|&s| lives.stuck[s].put_end);
    }
    Outcome::Unsettled
}

/// The popped values if these stuck ones were popped by operations invoked then.
fn popped(lives: &Lives, must: &[usize], calls: &[u64]) -> Vec<Life> {
    let gone = must.iter().zip(calls).map(|(&s, &call)| Life {
        take_call: call.max(lives.stuck[s].put_call),
        ..lives.stuck[s]
    });
    lives.taken.iter().copied().chain(gone).collect()
}

/// Each pop, from the first on, takes the value that was pushed last.
fn newest_first(lives: &Lives, must: &[usize], calls: &[u64]) -> Vec<u64> {
    let mut assigned = vec![NEVER; must.len()];
    let mut on_top: Vec<usize> = Vec::new();
    let mut next = 0;
    for &call in calls {
        while must
            .get(next)
            .is_some_and(|&s| lives.stuck[s].put_end < call)
        {
            on_top.push(next);
            next += 1;
        }
        if let Some(top) = on_top.pop() {
            assigned[top] = call;
        } else if let Some(slot) = assigned.get_mut(next) {
            // Pushed after the call: this pop waited for it.
            *slot = call;
            next += 1;
        }
    }
    assigned
}

/// The first pop takes the value that was pushed first, and so on.
fn oldest_first(_: &Lives, must: &[usize], calls: &[u64]) -> Vec<u64> {
    let calls = calls.iter().copied().chain(std::iter::repeat(NEVER));
    must.iter().zip(calls).map(|(_, call)| call).collect()
}
