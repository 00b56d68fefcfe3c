//! The exact account of one list or set.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::Findings;
use crate::observe::{self, Family, KeyView, Removals, View};
use crate::{F, Value};

/// One value of the key and what became of it. Positions are those of the history.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent findings, not a state"
)]
struct Element<'a> {
    value: &'a Value,
    /// Acknowledged writes of it, by invocation.
    acknowledged: Vec<usize>,
    /// Writes that are not known to have failed.
    possible: u64,
    /// The first possible write began here.
    begun: usize,
    /// The first acknowledgement ended here.
    acked: usize,
    /// The first read that shows it, and where that read ended.
    shown: Option<(usize, usize)>,
    /// Occurrences in the read being looked at.
    here: u64,
    /// The most occurrences in one final read.
    in_final: u64,
    missed_after_ack: bool,
    resurrected: bool,
    duplicated: bool,
    unexpected: bool,
    /// What may have removed it alone.
    removals: Removals,
    /// By node: what its reads did with the element.
    by_node: Vec<Appearance>,
}

/// Showed, then missed: where the first such reads of a node ended.
#[derive(Clone, Copy)]
struct Appearance {
    shown: usize,
    missed: usize,
}

const NEVER: usize = usize::MAX;

impl<'a> Element<'a> {
    fn new(value: &'a Value) -> Self {
        Self {
            value,
            acknowledged: Vec::new(),
            possible: 0,
            begun: NEVER,
            acked: NEVER,
            shown: None,
            here: 0,
            in_final: 0,
            missed_after_ack: false,
            resurrected: false,
            duplicated: false,
            unexpected: false,
            removals: Removals::default(),
            by_node: Vec::new(),
        }
    }

    fn appear(&mut self, node: usize, began: usize, ended: usize) {
        const NOT_YET: Appearance = Appearance {
            shown: NEVER,
            missed: NEVER,
        };
        if self.by_node.len() <= node {
            if self.here == 0 {
                return;
            }
            self.by_node.resize(node + 1, NOT_YET);
        }
        let on = &mut self.by_node[node];
        if self.here > 0 {
            self.resurrected |= on.missed < began;
            on.shown = on.shown.min(ended);
        } else if on.shown < began {
            on.missed = on.missed.min(ended);
        }
    }
}

pub(super) fn judge<'a>(
    findings: &mut Findings<'_, 'a>,
    key: Option<&Value>,
    view: &KeyView<'a>,
    finals: &[View<'a>],
) {
    let operations = findings.operations;
    let mut elements: Vec<Element<'a>> = Vec::new();
    let mut ids: FxHashMap<&'a Value, usize> = FxHashMap::default();
    // What was generated, and nobody knows what it was: how often, and from when on.
    let (mut unknown, mut unknown_from) = (0, NEVER);
    for &w in &view.writes {
        let op = &operations[w];
        let Some(value) = observe::written(op) else {
            if op.f() != &F::Generate {
                return findings.reason("malformed-insert", key);
            }
            if observe::possible(op) {
                unknown += 1;
                unknown_from = unknown_from.min(op.invoked_position);
            }
            continue;
        };
        let id = *ids.entry(value).or_insert_with(|| {
            elements.push(Element::new(value));
            elements.len() - 1
        });
        let element = &mut elements[id];
        if observe::possible(op) {
            element.possible += 1;
            element.begun = element.begun.min(op.invoked_position);
        }
        if op.is_ok() {
            findings.counts.acknowledged += 1;
            element.acknowledged.push(w);
            element.acked = element.acked.min(op.completed_position.unwrap_or(NEVER));
        }
    }

    // What may have removed everything.
    let mut whole = Removals::default();
    for &r in &view.removes {
        let op = &operations[r];
        if op.argument().is_nil() {
            whole.add(op);
        } else if let Some(&id) = ids.get(op.argument()) {
            elements[id].removals.add(op);
        }
    }

    let mut nodes: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let first_final = view.reads.len() - finals.len();
    let mut readable_finals: Vec<View<'a>> = Vec::new();
    let (mut before, mut current): (&[Value], Vec<usize>) = (&[], Vec::new());
    for (r, read) in view.reads.iter().enumerate() {
        let op = &operations[read.op];
        let (began, ended) = (op.invoked_position, op.completed_position.unwrap_or(NEVER));
        let Some(items) = observe::elements(read.value) else {
            findings.reason("unreadable-read", key);
            continue;
        };
        let is_final = r >= first_final;
        if is_final {
            readable_finals.push(*read);
        }
        let next = nodes.len();
        let node = *nodes.entry(op.node().map(|n| &**n)).or_insert(next);
        for element in &mut elements {
            element.here = 0;
        }
        // Most of a read is what the one before showed.
        let common = observe::common_beginning(before, items);
        current.truncate(common);
        for value in &items[common..] {
            let id = *ids.entry(value).or_insert_with(|| {
                elements.push(Element::new(value));
                elements.len() - 1
            });
            current.push(id);
        }
        before = items;
        for &id in &current {
            elements[id].here += 1;
        }
        for element in &mut elements {
            element.appear(node, began, ended);
            if element.here == 0 {
                let removed = element.removals.from().min(whole.from()) < ended;
                element.missed_after_ack |= element.acked < began && !removed;
                continue;
            }
            if is_final {
                element.in_final = element.in_final.max(element.here);
            }
            if element.shown.is_none_or(|(_, first)| ended < first) {
                element.shown = Some((read.op, ended));
            }
            let written = element.possible > 0 && element.begun < ended;
            if !element.unexpected && !written && unknown_from > ended {
                element.unexpected = true;
                let why = if element.possible > 0 {
                    "its write had not begun"
                } else if view
                    .writes
                    .iter()
                    .any(|&w| observe::written(&operations[w]) == Some(element.value))
                {
                    "every write of it failed"
                } else {
                    "nobody wrote it"
                };
                findings.unexpected(key, element.value, read.op, why);
            }
            let allowed = match view.family {
                Family::List => element.possible.max(1) + unknown,
                _ => 1,
            };
            if !element.duplicated && element.here > allowed {
                element.duplicated = true;
                let (times, written) = (element.here, element.possible);
                findings.duplicated(key, element.value, read.op, times, written);
            }
        }
    }

    for element in &elements {
        settle(
            findings,
            key,
            view.family,
            element,
            &whole,
            &readable_finals,
        );
    }
}

/// Decides what became of one element once all reads were looked at.
fn settle(
    findings: &mut Findings<'_, '_>,
    key: Option<&Value>,
    family: Family,
    element: &Element<'_>,
    whole: &Removals,
    finals: &[View<'_>],
) {
    let operations = findings.operations;
    let ended = |read: &View<'_>| operations[read.op].completed_position.unwrap_or(NEVER);
    let may_be_removed = |began: usize, until: usize| {
        element.removals.may_take(began, until) || whole.may_take(began, until)
    };
    findings.counts.resurrected +=
        u64::from(element.resurrected && !may_be_removed(element.begun, NEVER));
    // A set holds a value once, however often it was added.
    let present = match family {
        Family::List => element.in_final as usize,
        _ if element.in_final > 0 => element.acknowledged.len(),
        _ => 0,
    };
    let (kept, missing) = element
        .acknowledged
        .split_at(present.min(element.acknowledged.len()));
    if !kept.is_empty() && missing.is_empty() && element.missed_after_ack {
        findings.counts.stale += 1;
    }
    for &write in missing {
        // The last one proves it best: whatever was acknowledged before it began must be there.
        let proof = finals
            .iter()
            .rfind(|r| operations[write].precedes(&operations[r.op]));
        let until = proof.map_or(NEVER, ended);
        match proof {
            _ if may_be_removed(operations[write].invoked_position, until) => {
                findings.counts.removed += 1;
            }
            Some(read) => findings.lost(key, element.value, write, read.op),
            None => findings.counts.never_read += 1,
        }
    }
    if !element.acknowledged.is_empty() || element.possible == 0 {
        return;
    }
    if element.in_final > 0 {
        findings.counts.recovered += 1;
        return;
    }
    let Some((seen_by, shown_until)) = element.shown else {
        return;
    };
    let proof = finals
        .iter()
        .rfind(|r| operations[r.op].invoked_position > shown_until);
    if let Some(read) = proof.filter(|read| !may_be_removed(element.begun, ended(read))) {
        findings.vanished(key, element.value, seen_by, read.op);
    }
}
