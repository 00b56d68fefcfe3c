//! Lists, sets and texts, element by element.

use std::collections::BTreeMap;
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::bits::Bits;
use super::{Class, Findings};
use crate::Value;
use crate::observe::{self, Family, KeyView};

const NEVER: usize = usize::MAX;

/// Bits of shown elements that are held at a time: 32 MiB.
const CHUNK_BITS: usize = 1 << 28;

/// One value of the key.
struct Element<'a> {
    value: &'a Value,
    /// Operations that may have written it.
    writes: usize,
    /// The last of them: the one, if it is one.
    write: usize,
    /// Position from which it may have been taken away.
    removed_from: usize,
}

/// A read of the key, in elements.
struct Read {
    op: usize,
    ended: usize,
    shows: Vec<u32>,
}

/// The key, in elements.
struct Object<'a> {
    key: Option<&'a Value>,
    family: Family,
    elements: Vec<Element<'a>>,
    reads: Vec<Read>,
    /// By session: its acknowledged writes and removes and its reads, in its order.
    sessions: BTreeMap<usize, Vec<Step>>,
}

/// Elements, and the operation because of which each is there.
struct Noted {
    of: Bits,
    by: Vec<usize>,
    /// Every element that was there since it was last emptied.
    touched: Vec<usize>,
    count: usize,
}

impl Noted {
    fn new(elements: usize) -> Self {
        Self {
            of: Bits::new(elements),
            by: vec![NEVER; elements],
            touched: Vec::new(),
            count: 0,
        }
    }

    fn note(&mut self, element: usize, by: usize) {
        if !self.of.contains(element) {
            self.of.insert(element);
            self.touched.push(element);
            self.count += 1;
        }
        self.by[element] = by;
    }

    fn remove(&mut self, element: usize) {
        if self.of.contains(element) {
            self.of.remove(element);
            self.count -= 1;
        }
    }

    /// Forgets everything, in the time that it took to note it.
    fn clear(&mut self) {
        for element in self.touched.drain(..) {
            self.of.remove(element);
        }
        self.count = 0;
    }
}

/// What a session has done and seen so far.
struct Memory {
    wrote: Noted,
    saw: Noted,
    /// Written by one operation, of which the session knew when it removed the element.
    removed: Noted,
    /// Written by one operation, shown, and then missing because somebody may have removed it.
    missed: Noted,
}

impl Memory {
    fn new(elements: usize) -> Self {
        Self {
            wrote: Noted::new(elements),
            saw: Noted::new(elements),
            removed: Noted::new(elements),
            missed: Noted::new(elements),
        }
    }

    fn forget(&mut self) {
        for noted in [
            &mut self.wrote,
            &mut self.saw,
            &mut self.removed,
            &mut self.missed,
        ] {
            noted.clear();
        }
    }

    fn is_empty(&self) -> bool {
        let noted = [&self.wrote, &self.saw, &self.removed, &self.missed];
        noted.iter().all(|noted| noted.count == 0)
    }

    fn removes(&mut self, element: usize, op: usize, of: &Element<'_>) {
        let known = self.wrote.of.contains(element) || self.saw.of.contains(element);
        if known && of.writes == 1 {
            self.removed.note(element, op);
        }
    }
}

/// What a session did.
enum Step {
    Wrote { op: usize, element: usize },
    Removed { op: usize, taken: Range<usize> },
    Saw { read: usize },
}

pub(super) fn judge<'a>(
    findings: &mut Findings<'_, 'a>,
    key: Option<&'a Value>,
    view: &KeyView<'a>,
) -> Result<(), &'static str> {
    let (object, readable) = Object::of(findings, key, view);
    object.own_reads(findings);
    object.all_reads(findings);
    if object.family == Family::List {
        object.order(findings);
    }
    if readable {
        Ok(())
    } else {
        Err("unreadable-read")
    }
}

impl<'a> Object<'a> {
    fn of(findings: &Findings<'_, 'a>, key: Option<&'a Value>, view: &KeyView<'a>) -> (Self, bool) {
        let mut object = Self {
            key,
            family: view.family,
            elements: Vec::new(),
            reads: Vec::with_capacity(view.reads.len()),
            sessions: BTreeMap::new(),
        };
        let mut ids: FxHashMap<&'a Value, usize> = FxHashMap::default();
        let mut steps: Vec<(usize, Step)> = Vec::new();
        for &w in &view.writes {
            let op = &findings.operations[w];
            let (true, Some(value)) = (observe::possible(op), observe::written(op)) else {
                continue;
            };
            let element = object.number(&mut ids, value);
            object.elements[element].writes += 1;
            object.elements[element].write = w;
            if op.is_ok() {
                steps.push((w, Step::Wrote { op: w, element }));
            }
        }
        let mut readable = true;
        let mut before: &[Value] = &[];
        for view in &view.reads {
            let Some(items) = observe::elements(view.value) else {
                readable = false;
                continue;
            };
            // Most of a read is what the one before showed.
            let common = observe::common_beginning(before, items);
            let mut shows: Vec<u32> = Vec::with_capacity(items.len());
            let last = object.reads.last().map_or(&[][..], |read| &read.shows);
            shows.extend(last.iter().take(common));
            let rest = items[common..].iter();
            shows.extend(rest.map(|value| object.number(&mut ids, value) as u32));
            before = items;
            steps.push((
                view.op,
                Step::Saw {
                    read: object.reads.len(),
                },
            ));
            object.reads.push(Read {
                op: view.op,
                ended: findings.ended(view.op),
                shows,
            });
        }
        for &r in &view.removes {
            let op = &findings.operations[r];
            if !observe::possible(op) {
                continue;
            }
            let from = op.invoked_position;
            let taken = match ids.get(op.argument()) {
                _ if op.argument().is_nil() => 0..object.elements.len(),
                Some(&one) => one..one + 1,
                None => continue,
            };
            if op.is_ok() {
                let taken = taken.clone();
                steps.push((r, Step::Removed { op: r, taken }));
            }
            for element in &mut object.elements[taken] {
                element.removed_from = element.removed_from.min(from);
            }
        }
        steps.sort_by_key(|(op, _)| *op);
        for (op, step) in steps {
            let session = object.sessions.entry(findings.sessions[op]);
            session.or_default().push(step);
        }
        (object, readable)
    }

    fn number(&mut self, ids: &mut FxHashMap<&'a Value, usize>, value: &'a Value) -> usize {
        *ids.entry(value).or_insert_with(|| {
            self.elements.push(Element {
                value,
                writes: 0,
                write: NEVER,
                removed_from: NEVER,
            });
            self.elements.len() - 1
        })
    }

    /// Whether the element may be missing from the read because somebody took it away.
    fn excused(&self, element: usize, read: &Read) -> bool {
        self.elements[element].removed_from < read.ended
    }

    fn shown(&self, read: &Read) -> Bits {
        let mut shown = Bits::new(self.elements.len());
        read.shows.iter().for_each(|&e| shown.insert(e as usize));
        shown
    }

    /// Read your writes, monotonic reads: what a session's read must show, or must not, for the
    /// session's own sake.
    fn own_reads(&self, findings: &mut Findings<'_, 'a>) {
        let mut memory = Memory::new(self.elements.len());
        for steps in self.sessions.values() {
            memory.forget();
            for step in steps {
                match step {
                    Step::Wrote { op, element } => memory.wrote.note(*element, *op),
                    Step::Removed { op, taken } => {
                        for element in taken.clone() {
                            memory.removes(element, *op, &self.elements[element]);
                        }
                    }
                    Step::Saw { read } => {
                        let read = &self.reads[*read];
                        findings.judged += u64::from(!memory.is_empty());
                        self.own_read(findings, &mut memory, read);
                    }
                }
            }
        }
    }

    fn own_read(&self, findings: &mut Findings<'_, 'a>, memory: &mut Memory, read: &Read) {
        let shown = self.shown(read);
        for class in [Class::ReadYourWrites, Class::MonotonicReads] {
            let own = class == Class::ReadYourWrites;
            let held = if own { &memory.wrote } else { &memory.saw };
            let missing: Vec<usize> = held.of.without(&shown).collect();
            let mut first = None;
            for element in missing {
                if !self.excused(element, read) {
                    first = first.or(Some(element));
                    continue;
                }
                // So it will be for every later read of the session; but it cannot come back.
                if own {
                    memory.wrote.remove(element);
                } else {
                    memory.saw.remove(element);
                    if self.elements[element].writes == 1 {
                        memory.missed.note(element, read.op);
                    }
                }
            }
            if let Some(element) = first {
                let held = if own { &memory.wrote } else { &memory.saw };
                self.missing(findings, class, element, held.by[element], read);
            }
        }
        for &element in &read.shows {
            let element = element as usize;
            if memory.removed.of.contains(element) {
                let by = memory.removed.by[element];
                self.back(findings, Class::ReadYourWrites, element, by, read);
            } else if memory.missed.of.contains(element) {
                let by = memory.missed.by[element];
                self.back(findings, Class::MonotonicReads, element, by, read);
            }
            memory.saw.note(element, read.op);
        }
    }

    /// A read misses what its session wrote or saw.
    fn missing(
        &self,
        findings: &mut Findings<'_, 'a>,
        class: Class,
        element: usize,
        because: usize,
        read: &Read,
    ) {
        let (name, value) = (observe::key_name(self.key), self.elements[element].value);
        let (told, read_told) = (findings.told(because), findings.told(read.op));
        let ops = [because, read.op];
        findings.record(class, self.key, value, &ops, || {
            let before = match class {
                Class::ReadYourWrites => format!("{value} of the {told}"),
                _ => format!("{value}, shown to the {told},"),
            };
            format!("{before} is missing from the later {read_told} of {name}")
        });
    }

    /// A read shows what its session had removed, or seen removed.
    fn back(
        &self,
        findings: &mut Findings<'_, 'a>,
        class: Class,
        element: usize,
        because: usize,
        read: &Read,
    ) {
        let (name, value) = (observe::key_name(self.key), self.elements[element].value);
        let (told, read_told) = (findings.told(because), findings.told(read.op));
        let ops = [because, read.op];
        findings.record(class, self.key, value, &ops, || {
            let before = match class {
                Class::ReadYourWrites => format!("{value}, gone by the {told},"),
                _ => format!("{value}, shown once and then no longer to the {told},"),
            };
            format!("{before} is back in the later {read_told} of {name}")
        });
    }

    /// What each session had done and seen, in order: element and by which operation, each once.
    fn dependencies(&self) -> BTreeMap<usize, Vec<(usize, usize)>> {
        let mut known = Bits::new(self.elements.len());
        let mut found = BTreeMap::new();
        for (&session, steps) in &self.sessions {
            let mut of_session: Vec<(usize, usize)> = Vec::new();
            let mut add = |element: usize, op: usize| {
                if !known.contains(element) {
                    known.insert(element);
                    of_session.push((element, op));
                }
            };
            for step in steps {
                match *step {
                    Step::Wrote { op, element } => add(element, op),
                    Step::Saw { read } => {
                        let read = &self.reads[read];
                        read.shows.iter().for_each(|&e| add(e as usize, read.op));
                    }
                    Step::Removed { .. } => {}
                }
            }
            for &(e, _) in &of_session {
                known.remove(e);
            }
            found.insert(session, of_session);
        }
        found
    }

    /// Whose write an element is for certain.
    fn writer(&self, findings: &Findings<'_, 'a>, element: usize) -> Option<(usize, usize)> {
        let element = &self.elements[element];
        (element.writes == 1).then(|| (findings.sessions[element.write], element.write))
    }

    /// Monotonic writes, writes follow reads: what a read must show because it shows a write.
    ///
    /// What a session depends on only grows, so that of its writes in a read the last one counts.
    fn all_reads(&self, findings: &mut Findings<'_, 'a>) {
        let dependencies = self.dependencies();
        let mut order: Vec<usize> = (0..self.reads.len()).collect();
        order.sort_by_key(|&r| self.reads[r].ended);
        let mut excused: Vec<usize> = (0..self.elements.len())
            .filter(|&e| self.elements[e].removed_from != NEVER)
            .collect();
        excused.sort_by_key(|&e| self.elements[e].removed_from);
        let mut excused = excused.into_iter().peekable();
        let mut gone = Bits::new(self.elements.len());
        let mut depends_on = Noted::new(self.elements.len());
        let words = self.elements.len() / 64;
        let chunk = (CHUNK_BITS / self.elements.len().max(1)).max(1);
        for reads in order.chunks(chunk) {
            // By session: the reads that show a write of it, with the last one.
            let mut showing: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
            let mut shown: Vec<Bits> = Vec::with_capacity(reads.len());
            for (i, &r) in reads.iter().enumerate() {
                let read = &self.reads[r];
                while let Some(e) = excused.next_if(|&e| self.excused(e, read)) {
                    gone.insert(e);
                }
                let mut bits = gone.clone();
                read.shows.iter().for_each(|&e| bits.insert(e as usize));
                shown.push(bits);
                let mut last: BTreeMap<usize, usize> = BTreeMap::new();
                for &e in &read.shows {
                    if let Some((session, write)) = self.writer(findings, e as usize) {
                        let last = last.entry(session).or_insert(write);
                        *last = write.max(*last);
                    }
                }
                let mut constrained = false;
                for (session, write) in last {
                    let depends = dependencies
                        .get(&session)
                        .and_then(|all| all.first())
                        .is_some_and(|(_, op)| *op < write);
                    if depends {
                        constrained = true;
                        showing.entry(session).or_default().push((write, i));
                    }
                }
                findings.judged += u64::from(constrained);
            }
            for (session, mut showing) in showing {
                showing.sort_unstable();
                depends_on.clear();
                let mut added = dependencies[&session].iter().peekable();
                for (write, i) in showing {
                    while let Some(&(e, by)) = added.next_if(|(_, op)| *op < write) {
                        depends_on.note(e, by);
                    }
                    let read = &self.reads[reads[i]];
                    // Whichever is less to look at.
                    let missing: Vec<usize> = if depends_on.touched.len() < words {
                        let noted = depends_on.touched.iter().copied();
                        noted.filter(|&e| !shown[i].contains(e)).collect()
                    } else {
                        depends_on.of.without(&shown[i]).collect()
                    };
                    let mut first: Option<Class> = None;
                    for missing in missing {
                        let by = depends_on.by[missing];
                        let class = self.broken(findings, missing, by, write, read, "without");
                        if *first.get_or_insert(class) != class {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// A read that shows a write but not, or not before it, what its session had done or seen.
    fn broken(
        &self,
        findings: &mut Findings<'_, 'a>,
        element: usize,
        because: usize,
        write: usize,
        read: &Read,
        how: &str,
    ) -> Class {
        let (name, value) = (observe::key_name(self.key), self.elements[element].value);
        let class = if findings.operations[because].f().is_write() {
            Class::MonotonicWrites
        } else {
            Class::WritesFollowReads
        };
        let of = observe::written(&findings.operations[write]).unwrap_or(&Value::Nil);
        let told = [because, write, read.op].map(|op| findings.told(op));
        let ops = [because, write, read.op];
        findings.record(class, self.key, value, &ops, || {
            let before = match class {
                Class::MonotonicWrites => format!("the {} of {value}", told[0]),
                _ => format!("{value}, shown to the {},", told[0]),
            };
            format!(
                "{before} came before the {} of {of}, but the {} of {name} shows {of} {how} {value}",
                told[1], told[2]
            )
        });
        class
    }

    /// The order in lists. What begins a list that is in order is in order.
    fn order(&self, findings: &mut Findings<'_, 'a>) {
        let dependencies = self.dependencies();
        let mut order: Vec<&Read> = self.reads.iter().collect();
        order.sort_by_key(|read| (std::cmp::Reverse(read.shows.len()), read.op));
        let mut in_order: Vec<&[u32]> = Vec::new();
        let mut first_at = vec![NEVER; self.elements.len()];
        for read in order {
            if in_order.iter().any(|list| list.starts_with(&read.shows)) {
                continue;
            }
            let mut right = true;
            for (at, &e) in read.shows.iter().enumerate() {
                first_at[e as usize] = first_at[e as usize].min(at);
            }
            // How much of what a session depends on was seen to come first.
            let mut checked: FxHashMap<usize, usize> = FxHashMap::default();
            for (at, &e) in read.shows.iter().enumerate() {
                let Some((session, write)) = self.writer(findings, e as usize) else {
                    continue;
                };
                let Some(depends) = dependencies.get(&session) else {
                    continue;
                };
                let checked = checked.entry(session).or_insert(0);
                while let Some(&(element, because)) = depends.get(*checked)
                    && because < write
                {
                    *checked += 1;
                    let unique = self.elements[element].writes == 1;
                    if unique && first_at[element] != NEVER && first_at[element] > at {
                        self.broken(findings, element, because, write, read, "before");
                        right = false;
                    }
                }
            }
            for &e in &read.shows {
                first_at[e as usize] = NEVER;
            }
            if right && in_order.len() < BRANCHES_MAX {
                in_order.push(&read.shows);
            }
        }
    }
}

/// Lists that begin differently and are remembered, so as not to look at what begins them.
const BRANCHES_MAX: usize = 16;
