//! Follows the elements of one key through its reads, and decides what became of them.

use rustc_hash::FxHashMap;

use super::Findings;
use super::element::{Element, NONE, Read, Reads};
use crate::found::{anomaly, told, with_value};
use crate::observe::{self, Family, KeyView, Removals};
use crate::{Operation, Value};

const NEVER: usize = usize::MAX;

/// What may have removed one element.
#[derive(Default)]
struct Removed {
    may: Removals,
    /// The end of the last write of it that may have taken effect.
    written_until: usize,
    /// Acknowledged removals, by invocation.
    acknowledged: Vec<usize>,
}

/// One key.
struct Object<'k, 'o, 'a> {
    operations: &'o [Operation<'a>],
    key: Option<&'k Value>,
    family: Family,
    elements: Vec<Element<'a>>,
    ids: FxHashMap<&'a Value, u32>,
    reads: Reads<'a>,
    /// What the last read shows, in its order.
    current: Vec<u32>,
    /// Elements that something may have removed.
    removed: FxHashMap<u32, Removed>,
    /// What may have removed everything.
    whole: Removals,
    /// Writes of which nobody knows what they wrote: how many, and from when on.
    unknown: u32,
    unknown_from: usize,
}

pub(super) fn judge<'a>(
    findings: &mut Findings<'_, 'a>,
    key: Option<&'a Value>,
    view: &KeyView<'a>,
) {
    let operations = findings.operations;
    let mut object = Object {
        operations,
        key,
        family: view.family,
        elements: Vec::new(),
        ids: FxHashMap::default(),
        reads: Reads::default(),
        current: Vec::new(),
        removed: FxHashMap::default(),
        whole: Removals::default(),
        unknown: 0,
        unknown_from: NEVER,
    };
    if let Err(reason) = object.write(findings, view) {
        return findings.reason(reason);
    }
    object.remove(view);
    let mut readable = true;
    for read in &view.reads {
        let op = &operations[read.op];
        match observe::elements(read.value) {
            Some(items) => object.read(
                findings,
                Read {
                    op: read.op,
                    began: op.invoked_position,
                    ended: op.completed_position.unwrap_or(NEVER),
                    items,
                },
            ),
            None => readable = false,
        }
    }
    object.end(findings);
    findings.counts.reads += object.reads.all.len() as u64;
    if !readable {
        findings.reason("unreadable-read");
    }
    object.settle(findings);
}

impl<'a> Object<'_, '_, 'a> {
    fn number(&mut self, value: &'a Value) -> u32 {
        let elements = &mut self.elements;
        *self.ids.entry(value).or_insert_with(|| {
            elements.push(Element::new(value));
            (elements.len() - 1) as u32
        })
    }

    fn write(
        &mut self,
        findings: &mut Findings<'_, 'a>,
        view: &KeyView<'a>,
    ) -> Result<(), &'static str> {
        let operations = self.operations;
        self.ids.reserve(view.writes.len());
        self.elements.reserve(view.writes.len());
        for &w in &view.writes {
            let op = &operations[w];
            let Some(value) = observe::written(op) else {
                if op.f() != &crate::F::Generate {
                    return Err("malformed-insert");
                }
                if observe::possible(op) {
                    self.unknown += 1;
                    self.unknown_from = self.unknown_from.min(op.invoked_position);
                }
                continue;
            };
            let id = self.number(value);
            let element = &mut self.elements[id as usize];
            if observe::possible(op) {
                if element.possible == 0 {
                    element.write = w as u32;
                }
                element.possible += 1;
            } else if element.write == NONE {
                element.write = w as u32;
            }
            if op.is_ok() {
                let before = operations.get(element.acknowledged as usize);
                let ended = |op: &Operation<'_>| op.completed_position;
                if before.is_none_or(|before| ended(op) < ended(before)) {
                    element.acknowledged = w as u32;
                }
            }
        }
        findings.counts.attempts += self.elements.len() as u64;
        Ok(())
    }

    fn remove(&mut self, view: &KeyView<'a>) {
        if view.removes.is_empty() {
            return;
        }
        for &r in &view.removes {
            let op = &self.operations[r];
            if op.argument().is_nil() {
                self.whole.add(op);
            } else if let Some(&id) = self.ids.get(op.argument()) {
                let removed = self.removed.entry(id).or_default();
                removed.may.add(op);
                if op.is_ok() {
                    removed.acknowledged.push(r);
                }
            }
        }
        for &w in &view.writes {
            let op = &self.operations[w];
            let id = observe::written(op).and_then(|value| self.ids.get(value));
            let removed = id.and_then(|id| self.removed.get_mut(id));
            if let (true, Some(removed)) = (observe::possible(op), removed) {
                let ended = op.completed_position.unwrap_or(NEVER);
                removed.written_until = removed.written_until.max(ended);
            }
        }
    }

    /// Looks at the next read: at what it does not have in common with the one before.
    fn read(&mut self, findings: &mut Findings<'_, 'a>, read: Read<'a>) {
        let at = self.reads.all.len() as u32;
        let before = self.reads.all.last().map_or(&[][..], |read| read.items);
        let common = observe::common_beginning(before, read.items);
        while self.current.len() > common {
            let Some(id) = self.current.pop() else { break };
            let element = &mut self.elements[id as usize];
            element.here = element.here.saturating_sub(1);
            if element.here == 0 {
                self.end_run(id);
            }
        }
        for value in &read.items[common..] {
            let id = self.number(value);
            self.current.push(id);
            self.begin(findings, id, at, &read);
        }
        self.reads.push(read);
    }

    /// An element is shown by the read `at`, which is not among the reads yet.
    fn begin(&mut self, findings: &mut Findings<'_, 'a>, id: u32, at: u32, read: &Read<'a>) {
        let element = &mut self.elements[id as usize];
        element.here += 1;
        let allowed = match self.family {
            Family::List => element.possible.max(1).saturating_add(self.unknown),
            _ => 1,
        };
        if element.here > allowed && !element.flags.duplicated {
            element.flags.duplicated = true;
            let (value, key) = (element.value, self.key);
            let times = read.items.iter().filter(|item| *item == value).count();
            let written = element.possible;
            let op = &self.operations[read.op];
            findings.found.add("duplicated", || {
                let summary = format!(
                    "the {} shows {value} {times} times, but it was written {written} time(s)",
                    told(op, None, key)
                );
                with_value(anomaly(key, &[op], summary), value)
            });
        }
        if element.here > 1 || element.last != NONE && element.last + 1 == at {
            return;
        }
        if let Some(shown) = self.reads.get(element.shown) {
            let from = self.reads.first_after(shown.ended).max(element.last + 1);
            let missed = self.reads.first_ended_since(from).unwrap_or(NONE);
            element.missed = self.reads.earlier(element.missed, missed);
        }
        element.since = at;
    }

    /// The last read is the last one of a run that shows the element.
    fn end_run(&mut self, id: u32) {
        let last = self.reads.all.len().saturating_sub(1) as u32;
        let element = &mut self.elements[id as usize];
        let first = self.reads.first_ended_since(element.since).unwrap_or(NONE);
        element.shown = self.reads.earlier(element.shown, first);
        element.last = last;
        if let (Some(missed), Some(again)) = (self.reads.get(element.missed), self.reads.get(last))
        {
            element.flags.reappeared |= missed.ended < again.began;
        }
        if let Some(shown) = self.reads.get(element.shown) {
            let begun = self.operations.get(element.write as usize);
            let written = element.possible > 0
                && begun.is_some_and(|write| write.invoked_position < shown.ended);
            element.flags.unexpected |= !written && self.unknown_from > shown.ended;
        }
    }

    /// All reads were looked at.
    fn end(&mut self, findings: &mut Findings<'_, 'a>) {
        for id in std::mem::take(&mut self.current) {
            if std::mem::take(&mut self.elements[id as usize].here) > 0 {
                self.end_run(id);
            }
        }
        let Some(&last) = self.reads.all.last() else {
            return;
        };
        // At most one a client.
        let open = self.reads.all.iter().filter(|r| r.ended > last.began);
        for value in open.flat_map(|read| read.items) {
            if let Some(&id) = self.ids.get(value) {
                self.elements[id as usize].flags.recent = true;
            }
        }
        findings.counts.acknowledged += self
            .elements
            .iter()
            .filter(|element| element.acknowledged != NONE)
            .count() as u64;
    }

    /// Whether the element may have been removed before a position.
    fn may_be_removed(&self, id: u32, write: &Operation<'_>, until: usize) -> bool {
        let began = write.invoked_position;
        self.whole.may_take(began, until)
            || self
                .removed
                .get(&id)
                .is_some_and(|removed| removed.may.may_take(began, until))
    }

    fn settle(&self, findings: &mut Findings<'_, 'a>) {
        if self.reads.all.is_empty() {
            let acknowledged = self.elements.iter().filter(|e| e.acknowledged != NONE);
            let count = acknowledged.count() as u64;
            findings.counts.acknowledged += count;
            findings.counts.never_read += count;
            return;
        }
        for (id, element) in self.elements.iter().enumerate() {
            if element.flags.unexpected {
                self.unexpected(findings, element);
            }
            if element.possible > 0 {
                self.settle_one(findings, id as u32, element);
            }
        }
    }

    /// Shown, and not written until then.
    fn unexpected(&self, findings: &mut Findings<'_, 'a>, element: &Element<'a>) {
        let Some(read) = self.reads.get(element.shown) else {
            return;
        };
        let (read, key) = (&self.operations[read.op], self.key);
        let write = self.operations.get(element.write as usize);
        let failed = element.possible == 0 && write.is_some();
        let class = if failed { "phantom" } else { "unexpected" };
        findings.counts.phantom_failed += u64::from(failed);
        findings.found.add(class, || {
            let why = match write {
                None => "nobody wrote it".to_owned(),
                Some(write) if failed => {
                    let write = told(write, Some(element.value), key);
                    format!("every write of it failed, as the {write}")
                }
                Some(write) => {
                    let write = told(write, Some(element.value), key);
                    format!("it had not been asked for: the {write} began after the read had ended")
                }
            };
            let value = element.value;
            let summary = format!("the {} shows {value}, but {why}", told(read, None, key));
            let mut ops = vec![read];
            ops.extend(write);
            ops.sort_by_key(|op| op.invoked_position);
            with_value(anomaly(key, &ops, summary), value)
        });
    }

    fn settle_one(&self, findings: &mut Findings<'_, 'a>, id: u32, element: &Element<'a>) {
        let (Some(last), Some(write)) = (
            self.reads.all.last(),
            self.operations.get(element.write as usize),
        ) else {
            return;
        };
        let last_read = (self.reads.all.len() - 1) as u32;
        let acknowledged = self.operations.get(element.acknowledged as usize);
        let shown = self.reads.get(element.shown);
        // From when on it was known: position and time.
        let known = [acknowledged, shown.map(|read| &self.operations[read.op])]
            .into_iter()
            .flatten()
            .filter_map(|op| Some((op.completed_position?, op.completed_at()?)))
            .min();
        let Some((known, known_at)) = known else {
            return;
        };
        let in_last = element.last == last_read;
        findings.counts.recovered += u64::from(in_last && acknowledged.is_none());
        findings.counts.judged += u64::from(shown.is_some() || last.began > known);
        let final_read = findings.marker.is_none_or(|marker| last.began > marker);

        if in_last {
            self.back(findings, id, element, last, final_read);
        } else if last.began > known && !element.flags.recent {
            // Missing from the last read, and in none that could be later.
            if self.may_be_removed(id, write, last.ended) {
                findings.counts.removed += 1;
            } else if final_read {
                self.gone(findings, element, acknowledged, last);
            } else {
                findings.counts.unsettled += 1;
            }
            return;
        }
        if shown.is_none() {
            findings.counts.never_read += 1;
            return;
        }
        findings.counts.stable += 1;
        let reappeared = element.flags.reappeared && !self.may_be_removed(id, write, NEVER);
        findings.counts.reappeared += u64::from(reappeared);
        let missing = if in_last {
            element.since.checked_sub(1)
        } else {
            Some(last_read)
        };
        let missing = missing.and_then(|read| self.reads.get(read));
        if let Some(read) = missing.filter(|read| read.began > known)
            && !self.may_be_removed(id, write, read.ended)
        {
            let began_at = self.operations[read.op].invoked_at();
            let ms = began_at.saturating_sub(known_at) as f64 / 1e6;
            findings.counts.stale += 1;
            findings.stale_ms.push(ms);
            if findings.linearizable {
                self.stale(findings, element, read, ms);
            }
        }
    }

    /// An acknowledged removal of what the last read shows.
    fn back(
        &self,
        findings: &mut Findings<'_, 'a>,
        id: u32,
        element: &Element<'a>,
        last: &Read<'a>,
        final_read: bool,
    ) {
        let Some(removed) = self.removed.get(&id) else {
            return;
        };
        let by = removed.acknowledged.iter().find(|&&r| {
            let op = &self.operations[r];
            op.invoked_position > removed.written_until
                && op.completed_position.is_some_and(|p| p < last.began)
        });
        let Some(&by) = by else { return };
        if !final_read {
            findings.counts.unsettled += 1;
            return;
        }
        let (removal, read, key) = (&self.operations[by], &self.operations[last.op], self.key);
        let value = element.value;
        findings.found.add("resurrected", || {
            let summary = format!(
                "the {} shows {value}, which the {} had taken away",
                told(read, None, key),
                told(removal, Some(value), key)
            );
            with_value(anomaly(key, &[removal, read], summary), value)
        });
    }

    /// Never seen again.
    fn gone(
        &self,
        findings: &mut Findings<'_, 'a>,
        element: &Element<'a>,
        acknowledged: Option<&Operation<'a>>,
        last: &Read<'a>,
    ) {
        let (value, key, read) = (element.value, self.key, &self.operations[last.op]);
        let missing = |because: &Operation<'a>, of: Option<&Value>, how: &str| {
            let summary = format!(
                "{how} the {}, but it is missing from the later {}, and no read shows it after \
                 that",
                told(because, of, key),
                told(read, None, key)
            );
            with_value(anomaly(key, &[because, read], summary), value)
        };
        if let Some(write) = acknowledged {
            let how = "lost:";
            return findings
                .found
                .add("lost", || missing(write, Some(value), how));
        }
        let Some(shown) = self.reads.get(element.shown) else {
            return;
        };
        findings.counts.phantom_vanished += 1;
        findings.found.add("phantom", || {
            let how = format!("{value}, whose write was never acknowledged, was shown to");
            missing(&self.operations[shown.op], None, &how)
        });
    }

    fn stale(
        &self,
        findings: &mut Findings<'_, 'a>,
        element: &Element<'a>,
        read: &Read<'a>,
        ms: f64,
    ) {
        let known_by = match self.operations.get(element.acknowledged as usize) {
            Some(write) if write.completed_position < Some(read.began) => Some((write, true)),
            _ => {
                let shown = self.reads.get(element.shown);
                shown.map(|shown| (&self.operations[shown.op], false))
            }
        };
        let Some((because, is_write)) = known_by else {
            return;
        };
        let (value, key, read) = (element.value, self.key, &self.operations[read.op]);
        findings.found.add("stale", || {
            let of = is_write.then_some(value);
            let summary = format!(
                "the {} misses {value}, known {ms:.3} ms before it began by the {}",
                told(read, None, key),
                told(because, of, key)
            );
            let mut anomaly = with_value(anomaly(key, &[because, read], summary), value);
            anomaly.figures.insert("ms".to_owned(), ms.into());
            anomaly
        });
    }
}
