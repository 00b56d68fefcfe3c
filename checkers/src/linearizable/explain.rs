//! A few operations that show why a key is not linearizable.
//!
//! Only what keeps a linearizable history linearizable may be left out, so that what is left is a
//! proof about the whole:
//!
//! * What comes after an instant: linearizability is closed under prefixes.
//! * A read, and a compare-and-set that was refused: they change nothing.
//! * A write of a register whose value no operation left depends on; the argument is that of
//!   [`super::encode`]. Not beside a refused compare-and-set, which depends on every value.
//! * An element of a list or set: all its writes, and its place in every read.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::encode::{Problem, left_by};
use super::engine::{Action, Decision, Engine, Id, Limits, Model, NIL, Op, Taken};

/// Decisions spent on one explanation, their work (in words of the sets of operations that the search
/// goes through), and the limits of each: none is a clock, so that the same history always gets the
/// same explanation. Whatever was reached by then is returned.
const DECISIONS_MAX: u32 = 150;
const WORK_MAX: usize = 64_000_000;
/// A search that ran out of its limits costs as much as all of them: after a few, what was reached
/// is good enough.
const UNDECIDED_MAX: u32 = 5;
const LIMITS: Limits = Limits {
    per_key_bytes: Some(8 << 20),
    ..Limits::NONE
};

struct Shrinker<'e> {
    engine: &'e dyn Engine,
    model: Model,
    decisions_left: u32,
    work_left: usize,
    undecided: u32,
}

/// An operation still in, by its position in the problem.
type Kept = Vec<(usize, Op)>;

/// The positions (in the problem) of operations that already cannot be ordered.
pub(super) fn explain(engine: &dyn Engine, problem: &Problem) -> Vec<usize> {
    let mut shrinker = Shrinker::new(engine, problem.model);
    let all: Kept = problem.ops.iter().cloned().enumerate().collect();
    let prefix = shrinker.shortest_prefix(all);
    let half = prefix.len().div_ceil(2);
    let mut core = shrinker.without_chunks(prefix, half);
    // With all their completions back, fewer operations may do.
    for (i, op) in &mut core {
        op.completion = problem.ops[*i].completion;
    }
    let core = shrinker.without_chunks(core, 1);
    core.into_iter().map(|(i, _)| i).collect()
}

/// The positions (in the problem) of two to four operations that cannot be ordered, where they are
/// plain to see: an acknowledged element that a read invoked afterwards misses, or a read of a
/// register that goes back behind an acknowledged write. The engine confirms them.
pub(super) fn direct(engine: &dyn Engine, problem: &Problem) -> Option<Vec<usize>> {
    let mut core = match problem.model {
        Model::List | Model::Set => missed_element(&problem.ops),
        Model::Register => value_gone_back(&problem.ops),
        _ => None,
    }?;
    core.sort_unstable();
    let left: Vec<Option<Id>> = core
        .iter()
        .map(|&i| left_by(&problem.ops[i].action))
        .collect();
    let only = |items: &Arc<[Id]>| -> Arc<[Id]> {
        let kept = items.iter().copied().filter(|&e| left.contains(&Some(e)));
        kept.collect()
    };
    let mut kept: Kept = core.iter().map(|&i| (i, problem.ops[i].clone())).collect();
    for (_, op) in &mut kept {
        match &mut op.action {
            Action::ReadList(items) | Action::ReadSet(items) => *items = only(items),
            _ => {}
        }
    }
    let mut shrinker = Shrinker::new(engine, problem.model);
    if !shrinker.still_fails(&kept) {
        return None;
    }
    let core = shrinker.without_chunks(kept, 1);
    Some(core.into_iter().map(|(i, _)| i).collect())
}

/// The writes (of any kind) by what they leave, if each value is left by one only.
fn writers(ops: &[Op]) -> FxHashMap<Id, Option<usize>> {
    let mut writers = FxHashMap::default();
    for (i, op) in ops.iter().enumerate() {
        if let Some(value) = left_by(&op.action) {
            let known = writers.entry(value).or_insert(Some(i));
            if *known != Some(i) {
                *known = None;
            }
        }
    }
    writers
}

fn missed_element(ops: &[Op]) -> Option<Vec<usize>> {
    let writers = writers(ops);
    let mut acknowledged: Vec<(u64, Id, usize)> = ops
        .iter()
        .enumerate()
        .filter_map(|(i, op)| {
            let element = left_by(&op.action)?;
            (writers.get(&element) == Some(&Some(i))).then_some((op.completion?, element, i))
        })
        .collect();
    acknowledged.sort_unstable();
    let mut shown = FxHashSet::default();
    for (r, op) in ops.iter().enumerate() {
        let (Action::ReadList(items) | Action::ReadSet(items)) = &op.action else {
            continue;
        };
        let before = acknowledged.partition_point(|(end, ..)| *end < op.call);
        shown.clear();
        shown.extend(items.iter().copied());
        let missed = acknowledged[..before]
            .iter()
            .find(|(_, e, _)| !shown.contains(e));
        if let Some((_, _, write)) = missed {
            return Some(vec![*write, r]);
        }
    }
    None
}

fn value_gone_back(ops: &[Op]) -> Option<Vec<usize>> {
    let plain = |op: &Op| matches!(op.action, Action::Write(_));
    if ops
        .iter()
        .any(|op| matches!(op.action, Action::CasRefused(_)))
    {
        return None;
    }
    let writers = writers(ops);
    // Since when a value was in place, and what proves it: the end of its write or of a read of it.
    let mut in_place: FxHashMap<Id, (u64, usize)> = FxHashMap::default();
    for (i, op) in ops.iter().enumerate() {
        let (Action::Write(value) | Action::Read(value)) = op.action else {
            continue;
        };
        if let Some(end) = op.completion {
            let known = in_place.entry(value).or_insert((end, i));
            *known = (end, i).min(*known);
        }
    }
    // Acknowledged writes by invocation, each with the one acknowledged first among it and later ones.
    let mut later: Vec<(u64, u64, usize)> = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| plain(op))
        .filter_map(|(i, op)| Some((op.call, op.completion?, i)))
        .collect();
    later.sort_unstable();
    for i in (1..later.len()).rev() {
        if later[i].1 < later[i - 1].1 {
            (later[i - 1].1, later[i - 1].2) = (later[i].1, later[i].2);
        }
    }
    for (r, op) in ops.iter().enumerate() {
        let Action::Read(value) = op.action else {
            continue;
        };
        let (since, proof) = match (in_place.get(&value), writers.get(&value)) {
            // The initial value, which nobody ever wrote.
            (_, None) if value == NIL => (None, Vec::new()),
            (Some((end, by)), Some(Some(write))) if plain(&ops[*write]) => {
                (Some(*end), vec![*write, *by])
            }
            _ => continue,
        };
        let from = later.partition_point(|(call, ..)| since.is_some_and(|since| *call < since));
        if let Some(&(_, end, over)) = later.get(from)
            && end < op.call
        {
            let mut core = proof;
            core.extend([over, r]);
            core.sort_unstable();
            core.dedup();
            return Some(core);
        }
    }
    None
}

impl<'e> Shrinker<'e> {
    fn new(engine: &'e dyn Engine, model: Model) -> Self {
        Self {
            engine,
            model,
            decisions_left: DECISIONS_MAX,
            work_left: WORK_MAX,
            undecided: 0,
        }
    }

    fn still_fails(&mut self, kept: &Kept) -> bool {
        let Some(left) = self.decisions_left.checked_sub(1) else {
            return false;
        };
        let work = kept.len() * (1 + kept.len() / 64);
        let Some(work_left) = self.work_left.checked_sub(work) else {
            self.decisions_left = 0;
            return false;
        };
        self.decisions_left = left;
        self.work_left = work_left;
        let ops: Vec<Op> = kept.iter().map(|(_, op)| op.clone()).collect();
        let decision = self.engine.decide(self.model, &ops, &LIMITS);
        if let Decision::Unknown(_) = decision {
            self.undecided += 1;
            if self.undecided == UNDECIDED_MAX {
                self.decisions_left = 0;
            }
        }
        matches!(decision, Decision::NotLinearizable(_))
    }

    /// The shortest failing prefix, by bisection over the completions.
    fn shortest_prefix(&mut self, all: Kept) -> Kept {
        let mut ends: Vec<u64> = all.iter().filter_map(|(_, op)| op.completion).collect();
        ends.sort_unstable();
        // The prefix that ends with the completion `high` fails.
        let (mut low, mut high) = (0, ends.len().saturating_sub(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.still_fails(&until(&all, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let Some(&end) = ends.get(high) else {
            return all;
        };
        let prefix = until(&all, end);
        if self.still_fails(&prefix) {
            prefix
        } else {
            all
        }
    }

    /// Leaves out chunks, halving their size, as long as the rest fails.
    fn without_chunks(&mut self, mut kept: Kept, mut chunk: usize) -> Kept {
        while chunk > 0 {
            let mut from = 0;
            let mut shrunk = false;
            while from < kept.len() {
                let to = (from + chunk).min(kept.len());
                let candidate = without(self.model, &kept, from, to);
                if candidate.len() < kept.len() && self.still_fails(&candidate) {
                    kept = candidate;
                    shrunk = true;
                } else {
                    from = to;
                }
            }
            if !shrunk || chunk > 1 {
                chunk /= 2;
            }
        }
        kept
    }
}

/// The history as it was just after an instant: what was open then is pending, and pending reads
/// say nothing.
fn until(all: &Kept, end: u64) -> Kept {
    let mut prefix = Kept::new();
    for (i, op) in all.iter().filter(|(_, op)| op.call < end) {
        let mut op = op.clone();
        op.completion = op.completion.filter(|&c| c <= end);
        if op.completion.is_none() {
            forget_result(&mut op.action);
        }
        if op.completion.is_some() || !is_passive(&op.action) {
            prefix.push((*i, op));
        }
    }
    prefix
}

/// What a pending operation returned, nobody knows.
fn forget_result(action: &mut Action) {
    match action {
        Action::Dequeue(taken) => *taken = Taken::Unknown,
        Action::AcquireFenced(_, fence) => *fence = None,
        _ => {}
    }
}

/// Whether the action changes nothing.
fn is_passive(action: &Action) -> bool {
    matches!(
        action,
        Action::Read(_)
            | Action::CasRefused(_)
            | Action::ReadList(_)
            | Action::ReadSet(_)
            | Action::Get(_)
            | Action::Contains(..)
            | Action::ReadMap(_)
            | Action::ReadCounter(_)
    )
}

/// Whether the action takes nothing out of a set and looks at no element alone.
fn grows(action: &Action) -> bool {
    matches!(action, Action::Add(_) | Action::ReadSet(_))
}

/// Leaves out what may be left out of `kept[from..to]`.
fn without(model: Model, kept: &Kept, from: usize, to: usize) -> Kept {
    let in_chunk = |i: usize| (from..to).contains(&i);
    let reads_left = |i: usize, op: &Op| !(in_chunk(i) && is_passive(&op.action));
    let mut rest: Kept = Vec::with_capacity(kept.len());
    let mut candidates = FxHashSet::default();
    for (i, entry) in kept.iter().enumerate() {
        if reads_left(i, &entry.1) {
            if in_chunk(i) {
                candidates.insert(entry.0);
            }
            rest.push(entry.clone());
        }
    }
    match model {
        Model::Register => without_writes(rest, &candidates),
        Model::List => without_elements(rest, &candidates),
        Model::Set if rest.iter().all(|(_, op)| grows(&op.action)) => {
            without_elements(rest, &candidates)
        }
        _ => rest,
    }
}

/// Leaves out those candidates whose value nothing that stays depends on.
fn without_writes(rest: Kept, candidates: &FxHashSet<usize>) -> Kept {
    let mut stays: Vec<bool> = rest.iter().map(|(i, _)| !candidates.contains(i)).collect();
    if rest
        .iter()
        .any(|(_, op)| matches!(op.action, Action::CasRefused(_)))
    {
        return rest;
    }
    let mut needed: FxHashSet<Id> = FxHashSet::default();
    loop {
        for ((_, op), _) in rest.iter().zip(&stays).filter(|(_, stays)| **stays) {
            if let Action::Read(value) | Action::Cas(value, _) = op.action {
                needed.insert(value);
            }
        }
        let mut grown = false;
        for ((_, op), stays) in rest.iter().zip(&mut stays) {
            if !*stays && left_by(&op.action).is_some_and(|v| needed.contains(&v)) {
                *stays = true;
                grown = true;
            }
        }
        if !grown {
            break;
        }
    }
    let mut stays = stays.into_iter();
    rest.into_iter()
        .filter(|_| stays.next().unwrap_or(true))
        .collect()
}

/// Leaves out the elements that the candidates wrote.
fn without_elements(rest: Kept, candidates: &FxHashSet<usize>) -> Kept {
    let dropped: FxHashSet<Id> = rest
        .iter()
        .filter(|(i, _)| candidates.contains(i))
        .filter_map(|(_, op)| left_by(&op.action))
        .collect();
    let keep = |items: &Arc<[Id]>| -> Arc<[Id]> {
        items
            .iter()
            .copied()
            .filter(|e| !dropped.contains(e))
            .collect()
    };
    rest.into_iter()
        .filter(|(_, op)| left_by(&op.action).is_none_or(|e| !dropped.contains(&e)))
        .map(|(i, mut op)| {
            match &mut op.action {
                Action::ReadList(items) | Action::ReadSet(items) => *items = keep(items),
                _ => {}
            }
            (i, op)
        })
        .collect()
}
