//! FIFO queues into which each value is put by at most one operation.
//!
//! Notation: value `v` is enqueued in one of the slots `a_v .. A_v` and dequeued in one of `b_v ..
//! B_v`, narrowed to `a_v <= b_v` and `A_v <= B_v` (an enqueue comes before its dequeue).
//!
//! # Everything answered, nothing found empty
//!
//! Write `v < w` if `A_v <= a_w` or `B_v <= b_w`: then `v` has to go through the queue before `w`.
//! For values that nobody dequeued, `b = B = NEVER`; that they come after all dequeued ones is the
//! case `B_v <= NEVER`.
//!
//! *Claim: an order exists if and only if there are no `v`, `w` with both `A_v <= a_w` and `B_w <=
//! b_v`.* One direction is plain. For the other, a cycle of `<` implies such a pair: take a
//! shortest cycle. Both relations are transitive, so that it alternates between them, and each is
//! an interval order: of `v1 <A v2` and `v3 <A v4` follows `v1 <A v4` or `v3 <A v2`. Of a cycle
//! `v1 <A v2 <B v3 <A v4 <B …`, the first makes a shorter one, and the second is a pair. Hence
//! without a pair there is a total order of the values that extends `<`. In this order let each enqueue
//! take effect in the slot `max a_w` over `w` up to and including `v`, and each dequeue in the slot
//! `max b_w`. Then enqueues are in this order, so are dequeues, and each enqueue is no later than
//! its dequeue, since `a <= b`. `max a_w < A_v`, since otherwise `A_v <= a_w` for some `w` before
//! `v`; the same for `B`. Within a slot, enqueues go first.
//!
//! # Empty answers
//!
//! A value is inside for certain in the slots `A_v .. b_v`, if `A_v < b_v`. *Claim: an operation
//! that found nothing needs just one of its slots in which no value is inside for certain, and all
//! of them can be satisfied together, whatever else holds.* Let `t` be such a slot; split it into
//! two halves, with the empty answer between them. Each value has `A_v > t` or `b_v <= t`; it is
//! *before* if `A_v <= t`, *after* if `b_v > t`, else *free* (`b_v <= t < A_v`): it can go in and
//! out right before the answer. Let values before leave in the first half at the latest (`B` gets
//! smaller; `b <= t` leaves room), and values after come in the second half at the earliest (`a`
//! gets larger; `A > t` leaves room); those free at several such slots go in and out at the first
//! of them. `A` and `b` of values that are not free do not change, and so neither does which slots
//! are empty.
//!
//! No new pair arises. Suppose that `v`, before `t`, is ahead of `w` by its new `B_v`: then `w` is
//! after `t`, and `A_w <= a_v` cannot be, since `a_v < A_v <= t < A_w`. Suppose that `w`, after `t`,
//! is behind `v` by its new `a_w`: then `A_v <= t`, and `B_w <= b_v` cannot be, since `b_v <= t <
//! b_w`. A free value has `a, b <= t < A, B`: neither is ahead of it but what is before `t`, nor
//! behind it but what is after `t`. So the first claim applies, with half slots for slots, and at
//! the answer the queue is empty: it lies between what is before and what is after.
//!
//! # Unanswered operations
//!
//! * An unanswered enqueue that was seen has `A = B` of its dequeue; one that was not seen is left
//!   out (see `shared::lives`).
//! * Unanswered dequeues may take what is *stuck*: enqueued for certain, dequeued by no answered
//!   operation. Say that `s` is taken by the unanswered dequeue invoked at `c`: then `b_s = max(c,
//!   a_s)`, `B_s` is the end of time, and `s` still goes before all that is never dequeued. The
//!   conditions above become:
//!   - for a dequeued `w`, each stuck `s` with `A_s <= a_w` is taken with `c < B_w`;
//!   - for the slot `t` of an empty answer, each stuck `s` with `A_s <= t` is taken with `c <= t`;
//!   - if `s` is taken, so is each stuck `s'` with `A_s' <= a_s`. That follows from the others, if
//!     only what they ask for is taken: their conditions on `A` hold for `s'` if they hold for `s`.
//!
//!   Each demand has the form: all stuck `s` with `A_s <= x` are taken by calls before `y`. The
//!   stuck values of one demand are contained in those of another or contain them, and so are the
//!   calls. Therefore (Hall's theorem, for nested neighbourhoods) all demands can be met together
//!   if and only if each of them can be met alone: *as many calls before `y` as stuck values with
//!   `A_s <= x`.* So unanswered dequeues need no search at all: two counts are compared.
//!
//! # Cost
//!
//! Sorting, and sweeps over what is sorted.

use super::super::{Decision, Op};
use super::shared::{Empty, Life, Lives, NEVER, Ranges, cover, lives, refuted};

/// Decides; `None` if a value is put in more than once, or an answer is of an unknown kind.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let lives = match lives(ops) {
        Ok(lives) => lives,
        Err(decided) => return decided,
    };
    let decision = overtaken(&lives).or_else(|| never_empty(&lives));
    Some(decision.unwrap_or(Decision::Linearizable))
}

/// A value that was enqueued before another one and dequeued after it, or not at all.
fn overtaken(lives: &Lives) -> Option<Decision> {
    let mut by_put_end: Vec<&Life> = lives.taken.iter().collect();
    by_put_end.sort_unstable_by_key(|life| life.put_end);
    let mut by_put_call: Vec<&Life> = lives.taken.iter().collect();
    by_put_call.sort_unstable_by_key(|life| life.put_call);
    let mut stuck: Vec<&Life> = lives.stuck.iter().collect();
    stuck.sort_unstable_by_key(|life| life.put_end);
    let mut ahead = by_put_end.into_iter().peekable();
    let mut slowest: Option<&Life> = None;
    let mut stuck_ahead = 0;
    for behind in by_put_call {
        while let Some(life) = ahead.next_if(|life| life.put_end < behind.put_call) {
            if slowest.is_none_or(|slowest| slowest.take_call < life.take_call) {
                slowest = Some(life);
            }
        }
        if let Some(slow) = slowest.filter(|slow| behind.take_end < slow.take_call) {
            return Some(refuted(slow.ops().chain(behind.ops())));
        }
        while stuck
            .get(stuck_ahead)
            .is_some_and(|life| life.put_end < behind.put_call)
        {
            stuck_ahead += 1;
        }
        if stuck_ahead > 0 {
            let takes = lives
                .open_takes
                .partition_point(|(call, _)| *call < behind.take_end);
            if takes < stuck_ahead {
                let stuck = stuck[..=takes].iter().flat_map(|life| life.ops());
                let takes = lives.open_takes[..takes].iter().map(|(_, op)| *op as usize);
                return Some(refuted(behind.ops().chain(stuck).chain(takes)));
            }
        }
    }
    None
}

/// An operation that found nothing although something was in all the time.
fn never_empty(lives: &Lives) -> Option<Decision> {
    if lives.empties.is_empty() {
        return None;
    }
    let mut inside: Vec<(u64, u64)> = lives.taken.iter().filter_map(Life::inside).collect();
    inside.extend(too_many(lives));
    let inside = Ranges::union(inside);
    let wrong = |empty: &&Empty| empty.end <= inside.next_outside(empty.call);
    let empty = lives.empties.iter().find(wrong)?;
    let first_take = lives.open_takes.first().map_or(NEVER, |(call, _)| *call);
    let taken = lives
        .taken
        .iter()
        .filter_map(|life| life.inside().map(|(from, to)| (from, to, *life)));
    let stuck = lives
        .stuck
        .iter()
        .map(|life| (life.put_end, first_take, *life));
    let covering = cover(taken.chain(stuck), empty.call, empty.end);
    let Some(covering) = covering else {
        return Some(Decision::not_linearizable());
    };
    let takes = lives
        .open_takes
        .partition_point(|(call, _)| *call < empty.end);
    let takes = lives.open_takes[..takes].iter().map(|(_, op)| *op as usize);
    let covering = covering.iter().flat_map(Life::ops);
    Some(refuted(
        [empty.op as usize].into_iter().chain(covering).chain(takes),
    ))
}

/// The slots in which there are more stuck values than unanswered dequeues that may have taken
/// them.
fn too_many(lives: &Lives) -> Vec<(u64, u64)> {
    let put = lives.stuck.iter().map(|life| (life.put_end, 1));
    let taken = lives.open_takes.iter().map(|(call, _)| (*call, -1_i64));
    let mut changes: Vec<(u64, i64)> = put.chain(taken).collect();
    changes.sort_unstable();
    changes.push((NEVER, 0));
    let mut left = 0;
    let mut ranges = Vec::new();
    for change in changes.windows(2) {
        left += change[0].1;
        if left > 0 {
            ranges.push((change[0].0, change[1].0));
        }
    }
    ranges
}
