//! Whether every read may return one of the last two values: 2-atomicity.
//!
//! The algorithm is *limited backtracking* of Golab, Hurwitz and Li ("On the k-atomicity-verification
//! problem", ICDCS 2013), on one record a value.
//!
//! # What is asked
//!
//! Values are unique and there is no compare-and-set, so that each read tells which write it read
//! from. A history is `k`-atomic if there is an order of its operations that extends real time, in
//! which at most `k - 1` other writes lie between each read and its write. Writes that nobody read and
//! nobody acknowledged may be left out: without one there are only fewer writes in between.
//!
//! Of each value let `a` be the beginning of its write, `e` the first end among its write and its reads,
//! `s` the beginning of the last of its reads. No read ends before its write begins, or there is no
//! `k` at all; so `a < e`. In any order a write comes before its reads, so that it may be taken to end
//! at `e`.
//!
//! *Claim 1. The history is `k`-atomic if and only if its writes have an order with (1) `x` before `y`
//! where `e(x) < a(y)`, and (2) `s(x) < e(y)` where `y` is at least `k` places behind `x`.*
//!
//! *Only if*: (1) is real time. In (2), if `e(y) < s(x)`, then a read of `x` began after `y` had been
//! written, so that it comes after `y` and the `k - 1` writes between. *If*: put each read `r` behind the
//! last write that has to come before it: its own, those with `e < ` its beginning, and those of reads
//! before it in real time. The first two are fewer than `k` places behind its own, by (2); and the last
//! are among the first two, for if a read of `y` ends before `r` begins, `e(y)` does, too. Nothing behind
//! has to come before: if `r` ends before the write `z` begins, whatever `r` is put behind ended, or began,
//! before `z` begins: its own and earlier ones have `e` before that, hence come before `z` by (1). Reads
//! put behind the same write are ordered by their beginnings. ∎
//!
//! # The order, from its end
//!
//! A write `w` can come last if no other has `a > e(w)`. Then, by (2) with `k = 2`, only the one right
//! before it may have `s > e(w)`: if there are two such, `w` cannot come last; if there is one, it has to
//! come next; if there is none, anything may. An *epoch* is what one free choice forces.
//!
//! *Claim 2. An epoch that comes to its end need never be taken back.* What is left has no condition in
//! common with what was placed: every one of (1) and (2) between the two is met, whatever the order of
//! what is left. If the whole has an order, so has what is left: leave out what was placed, and nothing
//! gets further apart. ∎
//!
//! So only the choice of the epoch under way is ever tried again. The choices are the writes that can come
//! last, at most as many as are open at one instant, `c`. They are followed in turn for 4 steps, 8, 16, …,
//! so that one that forces a long epoch costs no more than twice the shortest that succeeds, for each:
//! O(n log n + c·n) for `n` values. Steps are limited; beyond the limit nothing is said.

/// What matters of one value. Instants are all different, save that 0 is that of the initial one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// When its write began.
    pub(super) call: u32,
    /// When the first of its operations ended.
    pub(super) end: u32,
    /// When the last of its reads began; 0 without any.
    pub(super) last_read: u32,
}

/// A `k` for which the spans are `k`-atomic: that of the order of the ends.
pub(super) fn upper_bound(spans: &[Span]) -> usize {
    let mut sorted: Vec<(u32, u32)> = spans.iter().map(|s| (s.end, s.last_read)).collect();
    sorted.sort_unstable();
    let behind = |(i, (_, last_read)): (usize, &(u32, u32))| {
        let before = sorted.partition_point(|(end, _)| end < last_read);
        before.saturating_sub(i)
    };
    let most = sorted.iter().enumerate().map(behind).max();
    most.unwrap_or(1).max(1)
}

/// Steps for each value, before nothing is said.
const STEPS_EACH: usize = 256;

/// Whether the spans are 2-atomic; `None` if that would take too long.
pub(super) fn is_two_atomic(spans: &[Span]) -> Option<bool> {
    let mut rest = Rest::new(spans);
    let mut steps_left = spans.len() * STEPS_EACH + 10_000;
    let mut undecided: Vec<u32> = Vec::new();
    while let Some(first) = rest.by_end.first() {
        undecided.clear();
        let mut limit = 4;
        // The first round goes through all that can come last.
        let last_call = rest.last_call(None);
        let mut candidate = Some(first);
        let mut done = false;
        // The initial value begins and ends at once.
        while let Some(write) = candidate.filter(|w| spans[*w as usize].end >= last_call) {
            match rest.epoch(write, limit, &mut steps_left) {
                Epoch::Ended => {
                    done = true;
                    break;
                }
                Epoch::Impossible => {}
                Epoch::Limit => undecided.push(write),
            }
            candidate = rest.by_end.next(write);
        }
        while !done {
            if undecided.is_empty() {
                return Some(false);
            }
            if steps_left == 0 {
                return None;
            }
            limit *= 2;
            undecided.retain(|&write| {
                if done {
                    return false;
                }
                match rest.epoch(write, limit, &mut steps_left) {
                    Epoch::Ended => done = true,
                    Epoch::Impossible => return false,
                    Epoch::Limit => {}
                }
                true
            });
        }
    }
    Some(true)
}

enum Epoch {
    /// Nothing more is forced: what it placed is gone.
    Ended,
    /// There is no such order: all is as it was.
    Impossible,
    /// It went on for longer: all is as it was.
    Limit,
}

/// The writes that are not placed yet, each order from the greatest to the least.
struct Rest<'s> {
    spans: &'s [Span],
    by_call: Order,
    by_end: Order,
    by_last_read: Order,
    placed: Vec<u32>,
}

impl<'s> Rest<'s> {
    fn new(spans: &'s [Span]) -> Self {
        Self {
            spans,
            by_call: Order::new(spans.len(), |i| spans[i].call),
            by_end: Order::new(spans.len(), |i| spans[i].end),
            by_last_read: Order::new(spans.len(), |i| spans[i].last_read),
            placed: Vec::new(),
        }
    }

    /// The last beginning of the others.
    fn last_call(&self, except: Option<u32>) -> u32 {
        let mut last = self.by_call.first();
        if last.is_some() && last == except {
            last = last.and_then(|last| self.by_call.next(last));
        }
        last.map_or(0, |last| self.spans[last as usize].call)
    }

    fn epoch(&mut self, write: u32, limit: usize, steps_left: &mut usize) -> Epoch {
        self.placed.clear();
        let mut last = write;
        for _ in 0..limit {
            if *steps_left == 0 {
                break;
            }
            *steps_left -= 1;
            let end = self.spans[last as usize].end;
            let after = |other: &u32| self.spans[*other as usize].last_read > end;
            if self.last_call(Some(last)) > end {
                self.put_back();
                return Epoch::Impossible;
            }
            self.by_call.unlink(last);
            self.by_end.unlink(last);
            self.by_last_read.unlink(last);
            self.placed.push(last);
            let Some(next) = self.by_last_read.first().filter(after) else {
                return Epoch::Ended;
            };
            if self.by_last_read.next(next).as_ref().is_some_and(after) {
                self.put_back();
                return Epoch::Impossible;
            }
            last = next;
        }
        self.put_back();
        Epoch::Limit
    }

    fn put_back(&mut self) {
        while let Some(write) = self.placed.pop() {
            self.by_call.link(write);
            self.by_end.link(write);
            self.by_last_read.link(write);
        }
    }
}

/// A doubly linked list in a fixed order, out of which elements can be taken and put back.
struct Order {
    next: Vec<u32>,
    previous: Vec<u32>,
}

impl Order {
    /// From the greatest to the least. The element behind the last is the list itself.
    fn new(count: usize, key: impl Fn(usize) -> u32) -> Self {
        let mut sorted: Vec<(u32, u32)> = (0..count).map(|i| (key(i), i as u32)).collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let mut order = Self {
            next: vec![0; count + 1],
            previous: vec![0; count + 1],
        };
        let mut before = count as u32;
        for (_, i) in sorted {
            order.next[before as usize] = i;
            order.previous[i as usize] = before;
            before = i;
        }
        order.next[before as usize] = count as u32;
        order.previous[count] = before;
        order
    }

    fn of(&self, next: u32) -> Option<u32> {
        (next as usize + 1 < self.next.len()).then_some(next)
    }

    fn first(&self) -> Option<u32> {
        self.of(self.next[self.next.len() - 1])
    }

    fn next(&self, element: u32) -> Option<u32> {
        self.of(self.next[element as usize])
    }

    fn unlink(&mut self, element: u32) {
        let (before, after) = self.around(element);
        self.next[before] = after as u32;
        self.previous[after] = before as u32;
    }

    /// Puts back what was taken out last.
    fn link(&mut self, element: u32) {
        let (before, after) = self.around(element);
        self.next[before] = element;
        self.previous[after] = element;
    }

    fn around(&self, element: u32) -> (usize, usize) {
        let at = element as usize;
        (self.previous[at] as usize, self.next[at] as usize)
    }
}
