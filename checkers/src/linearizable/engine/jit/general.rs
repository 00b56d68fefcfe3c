//! Just-in-time linearization of any [`Specification`].
//!
//! Lowe's algorithm: the history is gone through, and after each event every *configuration* is
//! known that can be: a state, and which of the open operations have taken effect. When an
//! operation completes, configurations in which it has not taken effect are replaced by those that
//! it, after others that are open, can lead to. If there are none left, there is no order.
//!
//! What keeps the configurations few, and why nothing is lost:
//!
//! * *Read-only operations* take effect as soon as the state fits: an order in which one comes
//!   later can be changed to this one. For the same reason, of two configurations that differ only
//!   in those, the one with more of them makes the other superfluous.
//! * *Equal operations* can change places: of several the one that completes first is used first,
//!   and of those that never complete only their number is kept. Of two configurations that differ
//!   only in those numbers the one with more left makes the other superfluous.
//! * *Nothing takes effect before its time*: a sequence that ends with what completes is left out
//!   if one of its operations commutes with all that come after it. The sequence without it leads
//!   to a configuration from which that operation can still take effect, with the same result.
//! * *What rules out* the operation that has to take effect is not tried before it.
//!
//! States are numbered as they are found and compared exactly (as far as their own `Eq` is); those
//! that no configuration is in are forgotten from time to time. Memory follows the configurations.

use rustc_hash::FxHashMap;

use super::super::budget::{Meter, Spent};
use super::super::specification::{Call, Specification};
use super::mask::Mask;
use super::timeline::{Entry, NONE, Timeline};
use super::{Found, Undone};

/// Decides a history of a specification.
pub(super) fn decide<S: Specification>(
    specification: &S,
    history: &[Call<S::Op>],
    meter: &mut Meter<'_>,
) -> Result<Found, Undone> {
    let counts = |call: &Call<S::Op>| call.end.is_some() || !specification.is_read_only(&call.op);
    let spans = history
        .iter()
        .map(|call| counts(call).then_some((call.begin, call.end)));
    let timeline = Timeline::new(spans).map_err(Undone::Unfit)?;
    match timeline.width.div_ceil(64) {
        0 | 1 => Search::<S, 1>::new(specification, history, timeline).run(meter),
        2 => Search::<S, 2>::new(specification, history, timeline).run(meter),
        3..=8 => Search::<S, 8>::new(specification, history, timeline).run(meter),
        9..=64 => Search::<S, 64>::new(specification, history, timeline).run(meter),
        _ => Err(Undone::Unfit("more than 4096 operations are open at once")),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Configuration<const N: usize> {
    /// By number.
    state: u32,
    /// Open operations that took effect.
    done: Mask<N>,
    /// By kind of pending operation: how many of those that began did not take effect.
    left: Box<[u32]>,
}

/// A configuration on the way to what completes.
struct Path<const N: usize> {
    at: Configuration<N>,
    /// Kinds of operations that took effect on the way, and that all later ones commute with.
    loose: Vec<u32>,
}

struct Search<'s, S: Specification, const N: usize> {
    specification: &'s S,
    timeline: Timeline,
    /// By operation: its kind. Equal operations are of one kind.
    kind_of: Vec<u32>,
    kinds: Vec<&'s S::Op>,
    read_only: Vec<bool>,
    /// By kind: its number among the kinds of pending operations, or [`NONE`].
    pending: Vec<u32>,
    pending_kinds: usize,
    /// By kind: the open ones, `(deadline, slot)` by deadline.
    open_of: Vec<Vec<(u32, u32)>>,
    /// Kinds that are open or pending, each once: those that change something, and the others.
    changing: Vec<u32>,
    reading: Vec<u32>,
    /// By slot.
    kind_in: Vec<u32>,
    open: Mask<N>,
    reads: Mask<N>,
    states: Vec<S::State>,
    numbers: FxHashMap<S::State, u32>,
    state_bytes: u64,
    steps: FxHashMap<(u32, u32), u32>,
    front: Vec<Configuration<N>>,
    made: u64,
}

/// Of many in the same state, each is compared with so many others only.
const COMPARED_MAX: usize = 512;

/// States are forgotten when there are more than so many, and twice those that are needed.
const STATES_MIN: usize = 1 << 12;

impl<'s, S: Specification, const N: usize> Search<'s, S, N> {
    fn new(specification: &'s S, history: &'s [Call<S::Op>], timeline: Timeline) -> Self {
        let mut kinds: Vec<&'s S::Op> = Vec::new();
        let mut numbers: FxHashMap<&'s S::Op, u32> = FxHashMap::default();
        let kind_of: Vec<u32> = history
            .iter()
            .map(|call| {
                *numbers.entry(&call.op).or_insert_with(|| {
                    kinds.push(&call.op);
                    kinds.len() as u32 - 1
                })
            })
            .collect();
        let read_only: Vec<bool> = kinds
            .iter()
            .map(|op| specification.is_read_only(op))
            .collect();
        let mut pending = vec![NONE; kinds.len()];
        let mut pending_kinds = 0;
        for (call, &kind) in history.iter().zip(&kind_of) {
            let number = &mut pending[kind as usize];
            if call.end.is_none() && !read_only[kind as usize] && *number == NONE {
                *number = pending_kinds;
                pending_kinds += 1;
            }
        }
        let initial = specification.initial();
        let start = Configuration {
            state: 0,
            done: Mask::EMPTY,
            left: vec![0; pending_kinds as usize].into(),
        };
        Self {
            specification,
            kind_of,
            open_of: vec![Vec::new(); kinds.len()],
            kinds,
            read_only,
            pending,
            pending_kinds: pending_kinds as usize,
            changing: Vec::new(),
            reading: Vec::new(),
            kind_in: vec![NONE; timeline.width],
            open: Mask::EMPTY,
            reads: Mask::EMPTY,
            state_bytes: specification.bytes(&initial) as u64,
            states: vec![initial.clone()],
            numbers: FxHashMap::from_iter([(initial, 0)]),
            steps: FxHashMap::default(),
            front: vec![start],
            timeline,
            made: 0,
        }
    }

    fn bytes(&self, paths: usize) -> u64 {
        let configuration = size_of::<Configuration<N>>() + 4 * self.pending_kinds;
        let path = size_of::<Path<N>>() + 4 * self.pending_kinds + 32;
        let state = 2 * size_of::<S::State>() + 16;
        let of_states = self.states.len() * state + self.steps.len() * 16;
        let of_kinds = self.kinds.len() * 64 + self.kind_of.len() * 4;
        let of_front = self.front.len() * configuration + paths * path;
        self.timeline.bytes() + 2 * self.state_bytes + (of_states + of_kinds + of_front) as u64
    }

    fn run(mut self, meter: &mut Meter<'_>) -> Result<Found, Undone> {
        let entries: Vec<Entry> = self.timeline.entries().collect();
        for entry in entries {
            match entry {
                Entry::Call(op) => self.call(op as usize),
                Entry::End(op) => {
                    self.end(op as usize, meter)
                        .map_err(|spent| Undone::Spent {
                            spent,
                            at: op as usize,
                            open: self.open.len() as usize,
                        })?;
                    if self.front.is_empty() {
                        return Ok(Found::None(op as usize));
                    }
                    self.forget_states();
                }
            }
        }
        Ok(Found::Order)
    }

    fn call(&mut self, op: usize) {
        let kind = self.kind_of[op] as usize;
        let slot = self.timeline.slots[op];
        if slot == NONE {
            let number = self.pending[kind] as usize;
            if number < self.pending_kinds {
                if !self.changing.contains(&(kind as u32)) {
                    self.changing.push(kind as u32);
                }
                for c in &mut self.front {
                    c.left[number] += 1;
                }
            }
            return;
        }
        let deadline = self.timeline.ends[op];
        let list = &mut self.open_of[kind];
        let at = list.partition_point(|(d, _)| *d < deadline);
        list.insert(at, (deadline, slot));
        self.open.insert(slot);
        self.kind_in[slot as usize] = kind as u32;
        if !self.read_only[kind] {
            if !self.changing.contains(&(kind as u32)) {
                self.changing.push(kind as u32);
            }
            return;
        }
        if !self.reading.contains(&(kind as u32)) {
            self.reading.push(kind as u32);
        }
        self.reads.insert(slot);
        let mut front = std::mem::take(&mut self.front);
        for c in &mut front {
            if self.step(c.state, kind as u32) != NONE {
                c.done.insert(slot);
            }
        }
        self.front = front;
    }

    fn close(&mut self, op: usize) {
        let kind = self.kind_of[op];
        let slot = self.timeline.slots[op];
        self.open.remove(slot);
        self.reads.remove(slot);
        let list = &mut self.open_of[kind as usize];
        list.retain(|(_, s)| *s != slot);
        let pends = self.pending[kind as usize] != NONE;
        if list.is_empty() && !pends {
            self.changing.retain(|k| *k != kind);
            self.reading.retain(|k| *k != kind);
        }
    }

    /// The number of the state after a step, or [`NONE`].
    fn step(&mut self, state: u32, kind: u32) -> u32 {
        if let Some(&next) = self.steps.get(&(state, kind)) {
            return next;
        }
        let op = self.kinds[kind as usize];
        let next = match self.specification.step(&self.states[state as usize], op) {
            None => NONE,
            Some(next) => self.number(next),
        };
        self.steps.insert((state, kind), next);
        next
    }

    fn number(&mut self, state: S::State) -> u32 {
        if let Some(&number) = self.numbers.get(&state) {
            return number;
        }
        let number = self.states.len() as u32;
        self.state_bytes += self.specification.bytes(&state) as u64;
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    fn forget_states(&mut self) {
        let many = self.states.len().max(self.steps.len() / 8);
        if many < STATES_MIN.max(4 * self.front.len()) {
            return;
        }
        let old = std::mem::take(&mut self.states);
        self.numbers.clear();
        self.steps.clear();
        self.state_bytes = 0;
        let mut front = std::mem::take(&mut self.front);
        for c in &mut front {
            c.state = self.number(old[c.state as usize].clone());
        }
        self.front = front;
    }

    fn end(&mut self, op: usize, meter: &mut Meter<'_>) -> Result<(), Spent> {
        let slot = self.timeline.slots[op];
        let target = self.kind_of[op];
        let mut next: Vec<Configuration<N>> = Vec::new();
        let mut to_do: Vec<Configuration<N>> = Vec::new();
        for c in std::mem::take(&mut self.front) {
            if c.done.has(slot) {
                next.push(c);
            } else {
                to_do.push(c);
            }
        }
        for c in to_do {
            self.linearize(c, slot, target, &mut next, meter)?;
        }
        self.close(op);
        for c in &mut next {
            c.done.remove(slot);
        }
        self.prune(&mut next);
        self.front = next;
        let made = std::mem::take(&mut self.made);
        meter.spend(made, self.bytes(0))
    }

    /// Every configuration in which what completes has taken effect last.
    fn linearize(
        &mut self,
        from: Configuration<N>,
        slot: u32,
        target: u32,
        out: &mut Vec<Configuration<N>>,
        meter: &mut Meter<'_>,
    ) -> Result<(), Spent> {
        let target_op = self.kinds[target as usize];
        let mut paths = vec![Path {
            at: from,
            loose: Vec::new(),
        }];
        // By state and what is done: the paths there, so that equal ones are found.
        let mut seen: FxHashMap<(u32, Mask<N>), Vec<u32>> = FxHashMap::default();
        let mut next = 0;
        while next < paths.len() {
            let (c, loose) = (paths[next].at.clone(), paths[next].loose.clone());
            next += 1;
            // What reads takes effect by itself, and what is equal to it completes no earlier.
            if self.read_only[target as usize] {
                if c.done.has(slot) {
                    if loose.is_empty() {
                        out.push(c);
                    }
                    continue;
                }
            } else {
                let state = self.step(c.state, target);
                let blocking = |&k: &u32| {
                    let op = self.kinds[k as usize];
                    self.specification.commute(op, target_op)
                };
                if state != NONE && !loose.iter().any(blocking) {
                    let mut end = c.clone();
                    end.done.insert(slot);
                    self.arrive(&mut end, state);
                    out.push(end);
                }
            }
            for i in 0..self.changing.len() {
                let kind = self.changing[i];
                if let Some(path) = self.follow(&c, &loose, kind, slot, target) {
                    self.made += 1;
                    if self.is_new(&path, &paths, &mut seen) {
                        paths.push(path);
                    }
                }
            }
            if next % 64 == 0 {
                let made = std::mem::take(&mut self.made);
                meter.spend(made, self.bytes(paths.len() + 2 * out.len()))?;
            }
        }
        Ok(())
    }

    /// One more operation of a kind takes effect on the way to `target`.
    fn follow(
        &mut self,
        c: &Configuration<N>,
        loose: &[u32],
        kind: u32,
        slot: u32,
        target: u32,
    ) -> Option<Path<N>> {
        let open = self.open_of[kind as usize].iter();
        let first = open.map(|(_, s)| *s).find(|s| !c.done.has(*s));
        if first == Some(slot) {
            return None;
        }
        let number = self.pending[kind as usize] as usize;
        let left = c.left.get(number).copied().unwrap_or(0);
        if first.is_none() && left == 0 {
            return None;
        }
        let (op, target_op) = (self.kinds[kind as usize], self.kinds[target as usize]);
        let state = &self.states[c.state as usize];
        if self.specification.rules_out(state, op, target_op) {
            return None;
        }
        let state = self.step(c.state, kind);
        if state == NONE {
            return None;
        }
        let mut at = c.clone();
        match first {
            Some(slot) => at.done.insert(slot),
            None => at.left[number] -= 1,
        }
        let read = self.arrive(&mut at, state);
        let commute = |a: u32, b: u32| {
            let (a, b) = (self.kinds[a as usize], self.kinds[b as usize]);
            self.specification.commute(a, b)
        };
        let mut loose: Vec<u32> = loose
            .iter()
            .copied()
            .filter(|&k| commute(k, kind))
            .collect();
        if let Err(place) = loose.binary_search(&kind) {
            loose.insert(place, kind);
        }
        // What a read saw had to come before it.
        loose.retain(|&k| read.iter().all(|&r| commute(k, r)));
        Some(Path { at, loose })
    }

    /// The state changes; what reads it takes effect. The kinds of operations that did.
    fn arrive(&mut self, c: &mut Configuration<N>, state: u32) -> Vec<u32> {
        let mut read = Vec::new();
        c.state = state;
        for i in 0..self.reading.len() {
            let kind = self.reading[i];
            if self.open_of[kind as usize].iter().any(|s| !c.done.has(s.1))
                && self.step(state, kind) != NONE
            {
                for &(_, slot) in &self.open_of[kind as usize] {
                    c.done.insert(slot);
                }
                read.push(kind);
            }
        }
        read
    }

    /// Whether no path that was found before makes this one superfluous.
    fn is_new(
        &self,
        path: &Path<N>,
        paths: &[Path<N>],
        seen: &mut FxHashMap<(u32, Mask<N>), Vec<u32>>,
    ) -> bool {
        let key = (path.at.state, path.at.done.without(self.reads));
        let there = seen.entry(key).or_default();
        let covered = there.iter().any(|&i| {
            let known = &paths[i as usize];
            path.at.done.without(known.at.done).is_empty()
                && known.at.left.iter().zip(&path.at.left).all(|(a, b)| a >= b)
                && known.loose.iter().all(|k| path.loose.contains(k))
        });
        if !covered {
            there.push(paths.len() as u32);
        }
        !covered
    }

    /// Drops configurations that others make superfluous.
    fn prune(&self, configurations: &mut Vec<Configuration<N>>) {
        if configurations.len() < 2 {
            return;
        }
        let key = |c: &Configuration<N>| (c.state, c.done.without(self.reads));
        let left = |c: &Configuration<N>| c.left.iter().map(|n| u64::from(*n)).sum::<u64>();
        configurations.sort_by(|a, b| {
            key(a)
                .cmp(&key(b))
                .then_with(|| left(b).cmp(&left(a)))
                .then_with(|| b.done.len().cmp(&a.done.len()))
        });
        let mut kept: Vec<Configuration<N>> = Vec::with_capacity(configurations.len());
        let mut group = 0;
        for c in configurations.drain(..) {
            if kept.get(group).is_some_and(|first| key(first) != key(&c)) {
                group = kept.len();
            }
            let compared = kept[group..].iter().take(COMPARED_MAX);
            let covered = compared.chain(kept[group..].last()).any(|known| {
                c.done.without(known.done).is_empty()
                    && known.left.iter().zip(&c.left).all(|(a, b)| a >= b)
            });
            if !covered {
                kept.push(c);
            }
        }
        *configurations = kept;
    }
}
