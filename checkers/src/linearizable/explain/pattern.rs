//! Violations that are plain to see, each found in one or two passes over the operations: hints for
//! [`super::shrink`], which closes and checks them.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::encode::left_by;
use super::super::engine::{Action, Id, Model, NIL, Op, Taken};

/// Texts are searched for at most so many bytes.
const TEXT_WORK_MAX: usize = 1 << 26;

/// Operations (by position) that look like a proof, the plainest first. At most one of each pattern.
pub(super) fn hints(model: Model, ops: &[Op]) -> Vec<Vec<usize>> {
    let found = match model {
        Model::Register => vec![from_nowhere(ops), value_gone_back(ops), replaced_twice(ops)],
        Model::List => vec![
            from_nowhere(ops),
            missed_element(ops),
            lists_that_contradict(ops),
        ],
        Model::Set if ops.iter().all(|op| grows(&op.action)) => vec![
            from_nowhere(ops),
            missed_element(ops),
            sets_that_contradict(ops),
        ],
        Model::Queue => vec![
            taken_too_often(ops),
            out_of_order(ops),
            empty_though_not(ops),
        ],
        Model::Stack | Model::PriorityQueue => vec![taken_too_often(ops), empty_though_not(ops)],
        Model::Lock | Model::FencedLock => vec![held_twice(ops), fence_gone_back(ops)],
        Model::Text if !ops.iter().any(|op| matches!(op.action, Action::Put(_))) => {
            vec![missed_text(ops), texts_that_contradict(ops)]
        }
        Model::Set | Model::Text | Model::Map | Model::Counter | Model::Semaphore(_) => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

fn grows(action: &Action) -> bool {
    matches!(action, Action::Add(_) | Action::ReadSet(_))
}

/// When each value or element was first written at the earliest, and by which operation.
fn first_writes(ops: &[Op]) -> FxHashMap<Id, (u64, usize)> {
    let mut first: FxHashMap<Id, (u64, usize)> = FxHashMap::default();
    for (i, op) in ops.iter().enumerate() {
        if let Some(value) = left_by(&op.action) {
            let known = first.entry(value).or_insert((op.call, i));
            *known = (op.call, i).min(*known);
        }
    }
    first
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

/// A read, or a compare-and-set, of what nobody had written by its end.
fn from_nowhere(ops: &[Op]) -> Option<Vec<usize>> {
    let first = first_writes(ops);
    for (r, op) in ops.iter().enumerate() {
        let Some(end) = op.completion else { continue };
        let source = |value: &Id| match first.get(value) {
            None => Some(vec![r]),
            Some((call, w)) if *call > end => Some(vec![r, *w]),
            Some(_) => None,
        };
        let found = match &op.action {
            Action::Read(value) | Action::Cas(value, _) if *value != NIL => source(value),
            Action::ReadList(items) | Action::ReadSet(items) => items.iter().find_map(source),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// An acknowledged element that a read invoked afterwards misses.
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

/// A read of a register that goes back behind an acknowledged write.
fn value_gone_back(ops: &[Op]) -> Option<Vec<usize>> {
    let plain = |op: &Op| matches!(op.action, Action::Write(_));
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
            return Some(core);
        }
    }
    None
}

/// Two compare-and-sets that both replaced what was there once.
fn replaced_twice(ops: &[Op]) -> Option<Vec<usize>> {
    let writers = writers(ops);
    let mut by_old: FxHashMap<Id, usize> = FxHashMap::default();
    for (i, op) in ops.iter().enumerate() {
        let Action::Cas(old, _) = op.action else {
            continue;
        };
        let once = match writers.get(&old) {
            Some(writer) => writer.is_some() && old != NIL,
            None => old == NIL,
        };
        if op.completion.is_none() || !once {
            continue;
        }
        if let Some(other) = by_old.insert(old, i) {
            return Some(vec![other, i]);
        }
    }
    None
}

/// Two reads of a list that do not begin alike, a read that shows an element twice, or one that shows two
/// in another order than they were appended one after the other.
fn lists_that_contradict(ops: &[Op]) -> Option<Vec<usize>> {
    let writers = writers(ops);
    let writer = |e: Id| writers.get(&e).copied().flatten();
    let with_writers = |elements: &[Id], reads: &[usize]| -> Vec<usize> {
        let writes = elements.iter().filter_map(|e| writer(*e));
        writes.chain(reads.iter().copied()).collect()
    };
    let mut reads: Vec<(usize, &Arc<[Id]>)> = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| op.completion.is_some())
        .filter_map(|(i, op)| match &op.action {
            Action::ReadList(items) => Some((i, items)),
            _ => None,
        })
        .collect();
    reads.sort_by_key(|(i, items)| (items.len(), *i));
    let (longest, all) = *reads.last()?;
    let mut place: FxHashMap<Id, usize> = FxHashMap::default();
    for (at, &e) in all.iter().enumerate() {
        if place.insert(e, at).is_some() && writer(e).is_some() {
            return Some(with_writers(&[e], &[longest]));
        }
    }
    for (r, items) in &reads {
        let mismatch = items.iter().zip(all.iter()).find(|(a, b)| a != b);
        if let Some((&a, &b)) = mismatch {
            return Some(with_writers(&[a, b], &[*r, longest]));
        }
    }
    // Along the longest list: the last invocation of an append so far, against completions after it.
    let mut latest: Option<(u64, Id)> = None;
    for &e in all.iter() {
        let Some(op) = writer(e).map(|w| &ops[w]) else {
            continue;
        };
        if let Some((call, before)) = latest
            && op.completion.is_some_and(|end| end < call)
        {
            return Some(with_writers(&[e, before], &[longest]));
        }
        latest = latest.max(Some((op.call, e)));
    }
    None
}

/// Two reads of a set that only grows, each of which misses what the other shows.
fn sets_that_contradict(ops: &[Op]) -> Option<Vec<usize>> {
    let writers = writers(ops);
    let mut reads: Vec<(usize, &Arc<[Id]>)> = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| op.completion.is_some())
        .filter_map(|(i, op)| match &op.action {
            Action::ReadSet(items) => Some((i, items)),
            _ => None,
        })
        .collect();
    reads.sort_by_key(|(i, items)| (items.len(), *i));
    for pair in reads.windows(2) {
        let ((a, smaller), (b, larger)) = (pair[0], pair[1]);
        let only = |these: &[Id], those: &[Id]| {
            let mut these = these.iter();
            these.find(|e| those.binary_search(e).is_err()).copied()
        };
        if let Some(x) = only(smaller, larger) {
            let y = only(larger, smaller);
            let elements = [Some(x), y].into_iter().flatten();
            let writes = elements.filter_map(|e| writers.get(&e).copied().flatten());
            return Some(writes.chain([a, b]).collect());
        }
    }
    None
}

/// The gets of a text, by their length.
fn gets(ops: &[Op]) -> Vec<(usize, &Arc<str>)> {
    let mut gets: Vec<(usize, &Arc<str>)> = ops
        .iter()
        .enumerate()
        .filter(|(_, op)| op.completion.is_some())
        .filter_map(|(i, op)| match &op.action {
            Action::Get(text) => Some((i, text)),
            _ => None,
        })
        .collect();
    gets.sort_by_key(|(i, text)| (text.len(), *i));
    gets
}

/// An acknowledged append to a text that only grows, and a get that began afterwards and misses it: of the
/// appends before it those acknowledged last come first.
fn missed_text(ops: &[Op]) -> Option<Vec<usize>> {
    let mut appends: Vec<(u64, usize, &Arc<str>)> = ops
        .iter()
        .enumerate()
        .filter_map(|(i, op)| match &op.action {
            Action::AppendText(text) => Some((op.completion?, i, text)),
            _ => None,
        })
        .collect();
    appends.sort_unstable();
    let mut work = TEXT_WORK_MAX;
    for (get, shown) in gets(ops) {
        let before = appends.partition_point(|(end, ..)| *end < ops[get].call);
        for (_, append, text) in appends[..before].iter().rev() {
            work = work.checked_sub(shown.len() + 1)?;
            if !shown.contains(&***text) {
                return Some(vec![*append, get]);
            }
        }
    }
    None
}

/// A get of a text that only grows, and a longer one that does not begin with it.
fn texts_that_contradict(ops: &[Op]) -> Option<Vec<usize>> {
    let gets = gets(ops);
    let (longest, all) = gets.last()?;
    let other = gets.iter().find(|(_, text)| !all.starts_with(&***text));
    other.map(|(get, _)| vec![*get, *longest])
}

/// What was put into a queue and taken out of it, by value.
#[derive(Default)]
struct Passage {
    all: Vec<usize>,
    enqueues: Vec<usize>,
    dequeues: Vec<usize>,
}

fn passages(ops: &[Op]) -> Vec<Passage> {
    let mut numbers: FxHashMap<Id, usize> = FxHashMap::default();
    let mut passages: Vec<Passage> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let (Action::Enqueue(value) | Action::Dequeue(Taken::Value(value))) = op.action else {
            continue;
        };
        let number = *numbers.entry(value).or_insert_with(|| {
            passages.push(Passage::default());
            passages.len() - 1
        });
        let passage = &mut passages[number];
        passage.all.push(i);
        match op.action {
            Action::Enqueue(_) => passage.enqueues.push(i),
            _ if op.completion.is_some() => passage.dequeues.push(i),
            _ => {}
        }
    }
    passages
}

/// A value that came out more often than it was put in, or before.
fn taken_too_often(ops: &[Op]) -> Option<Vec<usize>> {
    passages(ops).into_iter().find_map(|passage| {
        let first = passage.enqueues.iter().map(|&i| ops[i].call).min();
        let early = |&i: &usize| ops[i].completion < first;
        let wrong =
            passage.dequeues.len() > passage.enqueues.len() || passage.dequeues.iter().any(early);
        wrong.then_some(passage.all)
    })
}

/// Values that were in for certain for a while: the end of their enqueue, the beginning of their
/// dequeue (if ever), the passage. By that end, each with the latest beginning so far.
fn stays(ops: &[Op], passages: &[Passage]) -> Vec<(u64, u64, usize)> {
    let mut stays: Vec<(u64, u64, usize)> = passages
        .iter()
        .enumerate()
        .filter_map(|(at, passage)| {
            let [enqueue] = passage.enqueues[..] else {
                return None;
            };
            let out = passage.all.iter().filter(|&&i| i != enqueue);
            let out = out.map(|&i| ops[i].call).min().unwrap_or(u64::MAX);
            Some((ops[enqueue].completion?, out, at))
        })
        .collect();
    stays.sort_unstable();
    for i in 1..stays.len() {
        if stays[i - 1].1 > stays[i].1 {
            (stays[i].1, stays[i].2) = (stays[i - 1].1, stays[i - 1].2);
        }
    }
    stays
}

/// Put in one after the other, and taken out in the other order.
fn out_of_order(ops: &[Op]) -> Option<Vec<usize>> {
    let passages = passages(ops);
    let stays = stays(ops, &passages);
    passages.iter().find_map(|passage| {
        let ([enqueue], [dequeue]) = (&passage.enqueues[..], &passage.dequeues[..]) else {
            return None;
        };
        let before = stays.partition_point(|(end, ..)| *end < ops[*enqueue].call);
        let (_, out, other) = stays.get(before.checked_sub(1)?)?;
        let overtaken = *out > ops[*dequeue].completion?;
        overtaken.then(|| [&passages[*other].all[..], &passage.all].concat())
    })
}

/// Found empty while something was in for certain.
fn empty_though_not(ops: &[Op]) -> Option<Vec<usize>> {
    let passages = passages(ops);
    let stays = stays(ops, &passages);
    ops.iter().enumerate().find_map(|(i, op)| {
        let (Action::Dequeue(Taken::Empty), Some(end)) = (&op.action, op.completion) else {
            return None;
        };
        let before = stays.partition_point(|(enqueued, ..)| *enqueued < op.call);
        let (_, out, inside) = stays.get(before.checked_sub(1)?)?;
        (*out > end).then(|| [&passages[*inside].all[..], &[i]].concat())
    })
}

/// A lock acquired from beginning to end while another acquisition held it.
fn held_twice(ops: &[Op]) -> Option<Vec<usize>> {
    let mut by_owner: FxHashMap<Id, Vec<usize>> = FxHashMap::default();
    for (i, op) in ops.iter().enumerate() {
        if let Action::Acquire(o) | Action::AcquireFenced(o, _) | Action::Release(o) = op.action {
            by_owner.entry(o).or_default().push(i);
        }
    }
    let release = |i: usize| matches!(ops[i].action, Action::Release(_));
    // The end of an acquisition, the beginning of its owner's next operation, both.
    let mut holds: Vec<(u64, u64, usize, Option<usize>)> = Vec::new();
    for of_owner in by_owner.values_mut() {
        of_owner.sort_unstable_by_key(|&i| ops[i].call);
        for (at, &i) in of_owner.iter().enumerate() {
            let next = of_owner.get(at + 1).copied();
            if let (false, Some(end)) = (release(i), ops[i].completion) {
                holds.push((end, next.map_or(u64::MAX, |n| ops[n].call), i, next));
            }
        }
    }
    holds.sort_unstable();
    let all = holds.clone();
    for i in 1..holds.len() {
        if holds[i - 1].1 > holds[i].1 {
            let (_, until, acquire, next) = holds[i - 1];
            (holds[i].1, holds[i].2, holds[i].3) = (until, acquire, next);
        }
    }
    all.iter().find_map(|(end, _, i, next)| {
        let before = holds.partition_point(|(held, ..)| *held < ops[*i].call);
        let (_, until, other, others_next) = holds.get(before.checked_sub(1)?)?;
        let released = [*next, *others_next].into_iter().flatten();
        let released = released.filter(|&n| release(n));
        (until > end).then(|| [*other, *i].into_iter().chain(released).collect())
    })
}

/// A fence that is not greater than one that had been given out before.
fn fence_gone_back(ops: &[Op]) -> Option<Vec<usize>> {
    let fence = |op: &Op| match op.action {
        Action::AcquireFenced(_, fence) => fence,
        _ => None,
    };
    let mut given: Vec<(u64, i64, usize)> = ops
        .iter()
        .enumerate()
        .filter_map(|(i, op)| Some((op.completion?, fence(op)?, i)))
        .collect();
    given.sort_unstable();
    for i in 1..given.len() {
        if given[i - 1].1 > given[i].1 {
            (given[i].1, given[i].2) = (given[i - 1].1, given[i - 1].2);
        }
    }
    ops.iter().enumerate().find_map(|(i, op)| {
        let mine = fence(op)?;
        let before = given.partition_point(|(end, ..)| *end < op.call);
        let (_, greatest, other) = given.get(before.checked_sub(1)?)?;
        (*greatest >= mine).then(|| vec![*other, i])
    })
}
