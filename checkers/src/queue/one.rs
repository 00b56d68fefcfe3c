//! One queue.

use rustc_hash::FxHashMap;

use super::{Findings, Function, may_repeat, saw_empty, taken};
use crate::observe;
use crate::{Outcome, Value};

const NEVER: usize = usize::MAX;
const NONE: u32 = u32::MAX;

/// One element. Operations by position among the operations.
struct Element<'a> {
    value: &'a Value,
    /// The enqueue that began first, of those that may have taken effect; if none may, one that
    /// failed.
    enqueue: u32,
    /// Enqueues that may have taken effect, those acknowledged, and those acknowledged before the
    /// queue was last seen empty.
    possible: u32,
    acknowledged: u32,
    before_empty: u32,
    /// An acknowledged enqueue; the one acknowledged first.
    first_acknowledged: u32,
    /// How often it was dequeued, and the dequeue that ended first.
    dequeued: u32,
    dequeue: u32,
    /// How many of its deliveries may be repetitions, by the store's own word.
    repeatable: u32,
}

/// All elements of a queue.
#[derive(Default)]
struct Elements<'a> {
    all: Vec<Element<'a>>,
    ids: FxHashMap<&'a Value, u32>,
}

impl<'a> Elements<'a> {
    fn of(&mut self, value: &'a Value) -> &mut Element<'a> {
        let all = &mut self.all;
        let id = *self.ids.entry(value).or_insert_with(|| {
            all.push(Element {
                value,
                enqueue: NONE,
                possible: 0,
                acknowledged: 0,
                before_empty: 0,
                first_acknowledged: NONE,
                dequeued: 0,
                dequeue: NONE,
                repeatable: 0,
            });
            (all.len() - 1) as u32
        });
        &mut self.all[id as usize]
    }
}

pub(super) fn judge(
    findings: &mut Findings<'_, '_>,
    key: Option<&Value>,
    all: &[(usize, Function)],
) {
    let operations = findings.operations;
    let ended = |i: usize| operations[i].completed_position.unwrap_or(NEVER);
    let began = |i: usize| operations[i].invoked_position;

    // In the order of beginnings, so that the last one is the last.
    let empty = all.iter().rfind(|(i, f)| saw_empty(&operations[*i], *f));
    let empty_from = empty.map_or(0, |(i, _)| began(*i));
    let mut elements = Elements::default();
    // How many elements may have been taken without anybody knowing which.
    let mut unknown = 0_u64;
    for &(i, function) in all {
        let op = &operations[i];
        if function == Function::Enqueue {
            let element = elements.of(op.argument());
            if observe::possible(op) {
                if element.possible == 0 {
                    element.enqueue = i as u32;
                }
                element.possible += 1;
            } else if element.enqueue == NONE {
                element.enqueue = i as u32;
            }
            if op.is_ok() {
                findings.counts.enqueued += 1;
                element.acknowledged += 1;
                element.before_empty += u32::from(ended(i) < empty_from);
                let first = element.first_acknowledged;
                if first == NONE || ended(i) < ended(first as usize) {
                    element.first_acknowledged = i as u32;
                }
            }
            continue;
        }
        if op.outcome == Outcome::Info && empty.is_some_and(|&(e, _)| began(i) < ended(e)) {
            let some = if function == Function::Drain {
                NONE.into()
            } else {
                1
            };
            unknown += some;
        }
        for value in taken(op, function) {
            findings.counts.dequeued += 1;
            let element = elements.of(value);
            element.dequeued += 1;
            element.repeatable += u32::from(may_repeat(op).contains(value));
            let first = element.dequeue;
            if first == NONE || ended(i) < ended(first as usize) {
                element.dequeue = i as u32;
            }
        }
    }
    for element in &elements.all {
        impossible(findings, key, element);
    }
    missing(findings, key, &elements, empty.map(|(i, _)| *i), unknown);
    order(findings, key, &elements);
    order_in_drains(findings, key, &elements, all);
}

/// What cannot be dequeued, or not as often.
fn impossible(findings: &mut Findings<'_, '_>, key: Option<&Value>, element: &Element<'_>) {
    let operations = findings.operations;
    if element.dequeued == 0 {
        return;
    }
    let (value, by) = (element.value, element.dequeue as usize);
    let until = operations[by].completed_position.unwrap_or(NEVER);
    let enqueue = element.enqueue as usize;
    let times = element.dequeued;
    if element.enqueue == NONE {
        findings.add("unexpected", key, value, &[by], |told| {
            format!(
                "{value} was dequeued by the {}, but nobody enqueued it",
                told[0]
            )
        });
    } else if element.possible == 0 {
        findings.add("unexpected", key, value, &[by, enqueue], |told| {
            let (by, failed) = (&told[0], &told[1]);
            format!("{value} was dequeued by the {by}, but every enqueue failed, as the {failed}")
        });
    } else if operations[enqueue].invoked_position > until {
        findings.add("unexpected", key, value, &[by, enqueue], |told| {
            let (by, later) = (&told[0], &told[1]);
            format!("{value} was dequeued by the {by} before anybody had asked for the {later}")
        });
    } else if times > element.possible && times - element.repeatable <= element.possible {
        findings.counts.repeated += u64::from(times - element.possible);
    } else if times > element.possible {
        let possible = element.possible;
        findings.add("duplicated", key, value, &[enqueue, by], |told| {
            format!(
                "{value} was dequeued {times} times, first by the {}, but enqueued {possible} \
                 time(s), as by the {}",
                told[1], told[0]
            )
        });
    }
    if element.possible > element.acknowledged && times > element.acknowledged {
        let unknown = element.possible - element.acknowledged;
        findings.counts.recovered += u64::from(unknown.min(times - element.acknowledged));
    }
}

/// What was acknowledged and is not there.
fn missing(
    findings: &mut Findings<'_, '_>,
    key: Option<&Value>,
    elements: &Elements<'_>,
    empty: Option<usize>,
    unknown: u64,
) {
    let missing_of = |e: &Element<'_>| u64::from(e.before_empty.saturating_sub(e.dequeued));
    let missing: u64 = elements.all.iter().map(missing_of).sum();
    let left: u64 = elements
        .all
        .iter()
        .map(|e| u64::from(e.acknowledged.saturating_sub(e.dequeued)))
        .sum();
    findings.counts.missing += missing;
    findings.counts.not_dequeued += left - missing;
    let lost = missing.saturating_sub(unknown);
    findings.counts.lost += lost;
    let (true, Some(empty)) = (lost > 0, empty) else {
        return;
    };
    for element in elements.all.iter().filter(|e| missing_of(e) > 0) {
        let (value, enqueue) = (element.value, element.first_acknowledged as usize);
        findings.add("lost", key, value, &[enqueue, empty], |told| {
            let perhaps = if unknown > 0 {
                format!(
                    " ({missing} are missing, of which {unknown} dequeue(s) of unknown outcome may \
                     have taken as many)"
                )
            } else {
                String::new()
            };
            format!(
                "lost: the {}, but nobody dequeued it, and the queue was empty at the later \
                 {}{perhaps}",
                told[0], told[1]
            )
        });
    }
}

/// Elements that were overtaken by one that was dequeued by an earlier operation.
///
/// In the order in which enqueues began, those that began after the acknowledgement of an element
/// are the last ones: of those, the one whose dequeue ended first decides.
fn order(findings: &mut Findings<'_, '_>, key: Option<&Value>, elements: &Elements<'_>) {
    let operations = findings.operations;
    let ended = |i: u32| operations[i as usize].completed_position.unwrap_or(NEVER);
    let began = |i: u32| operations[i as usize].invoked_position;
    let mut once: Vec<&Element<'_>> = elements
        .all
        .iter()
        .filter(|e| e.possible == 1 && e.dequeued == 1)
        .collect();
    once.sort_by_key(|e| began(e.enqueue));
    // From each on, the one whose dequeue ended first.
    let mut first: Vec<&Element<'_>> = once.clone();
    for i in (1..first.len()).rev() {
        if ended(first[i].dequeue) < ended(first[i - 1].dequeue) {
            first[i - 1] = first[i];
        }
    }
    for element in &once {
        let later = once.partition_point(|e| began(e.enqueue) <= ended(element.enqueue));
        let Some(other) = first.get(later) else {
            continue;
        };
        if ended(other.dequeue) < began(element.dequeue) {
            overtaken(findings, key, element, other);
        }
    }
}

/// Elements that come later in a drain than one that was enqueued after them.
fn order_in_drains<'a>(
    findings: &mut Findings<'_, 'a>,
    key: Option<&Value>,
    elements: &Elements<'a>,
    all: &[(usize, Function)],
) {
    let operations = findings.operations;
    for &(i, function) in all.iter().filter(|(_, f)| *f == Function::Drain) {
        let mut latest: Option<&Element<'_>> = None;
        for value in taken(&operations[i], function) {
            let Some(&id) = elements.ids.get(value) else {
                continue;
            };
            let element = &elements.all[id as usize];
            if element.possible != 1 || element.dequeued != 1 {
                continue;
            }
            let began = |e: &Element<'_>| operations[e.enqueue as usize].invoked_position;
            let ended = operations[element.enqueue as usize].completed_position;
            if let Some(other) = latest
                && ended.is_some_and(|ended| ended < began(other))
            {
                overtaken(findings, key, element, other);
            }
            if latest.is_none_or(|other| began(other) < began(element)) {
                latest = Some(element);
            }
        }
    }
}

fn overtaken(
    findings: &mut Findings<'_, '_>,
    key: Option<&Value>,
    element: &Element<'_>,
    other: &Element<'_>,
) {
    findings.counts.reordered += 1;
    if !findings.fifo {
        return;
    }
    let (value, before) = (element.value, other.value);
    let ops = [
        element.enqueue,
        other.enqueue,
        other.dequeue,
        element.dequeue,
    ];
    let mut ops = ops.map(|op| op as usize).to_vec();
    ops.dedup();
    findings.add("reordered", key, value, &ops, |told| {
        format!(
            "{value} was enqueued before {before}, and dequeued after it: {}",
            told.join("; ")
        )
    });
}
