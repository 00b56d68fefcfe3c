//! Registers, and the fields of maps.

use rustc_hash::FxHashMap;

use super::{Class, Findings};
use crate::Value;
use crate::observe::{self, KeyView};
use crate::registers::{self, Shows};

/// Everything that happened to one register.
struct Register<'r, 'a> {
    key: Option<&'a Value>,
    /// `key k`, or `field f of key k`.
    name: String,
    of: &'r registers::Register<'a>,
    /// By number of the value.
    known: Vec<Option<Known>>,
    /// Positions among the operations and what they wrote or showed, in that order.
    steps: Vec<(usize, Step)>,
    /// Position from which it may have been taken away.
    removed_from: usize,
}

/// What is known of a value.
struct Known {
    /// The one operation that may have written it.
    write: usize,
    /// Since when it was in place.
    in_place: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Wrote(u32),
    Saw(Shows),
}

/// What a session has done and seen so far.
#[derive(Default)]
struct Memory {
    /// Its last acknowledged write: which, and of what.
    wrote: Option<(usize, u32)>,
    /// The value shown whose write began last: of which read, and what was shown beside it.
    newest: Option<(u32, usize, Shows)>,
    /// What the last read showed.
    last: Option<(usize, Shows)>,
    /// What was shown and then no longer: by which reads.
    gone: FxHashMap<u32, (usize, usize)>,
}

pub(super) fn judge<'a>(
    findings: &mut Findings<'_, 'a>,
    key: Option<&'a Value>,
    view: &KeyView<'a>,
) -> Result<(), &'static str> {
    let mut all = Ok(());
    let operations = findings.operations;
    registers::Register::each(operations, view, |register| {
        match Register::of(findings, key, &register) {
            Ok(register) => register.walk(findings),
            Err(reason) => all = Err(reason),
        }
    })?;
    all
}

impl<'r, 'a> Register<'r, 'a> {
    fn of(
        findings: &Findings<'_, 'a>,
        key: Option<&'a Value>,
        register: &'r registers::Register<'a>,
    ) -> Result<Self, &'static str> {
        let (writes, reads) = (&register.writes, &register.reads);
        let mut known: Vec<Option<Known>> = Vec::new();
        known.resize_with(register.values.len(), || None);
        let mut steps = Vec::with_capacity(writes.len() + reads.len());
        for &(write, value) in writes {
            if !observe::possible(&findings.operations[write]) {
                continue;
            }
            let in_place = findings.ended(write);
            let before = known[value as usize].replace(Known { write, in_place });
            if register.values[value as usize].is_nil() || before.is_some() {
                return Err("values-not-unique");
            }
            if findings.operations[write].is_ok() {
                steps.push((write, Step::Wrote(value)));
            }
        }
        for (read, shows) in reads {
            let values = register.shows(*shows);
            // What nobody wrote is no value of this register: nothing follows from such a read.
            if values.iter().any(|&value| known[value as usize].is_none()) {
                continue;
            }
            for &value in values {
                if let Some(known) = &mut known[value as usize] {
                    known.in_place = known.in_place.min(findings.ended(*read));
                }
            }
            steps.push((*read, Step::Saw(*shows)));
        }
        steps.sort_unstable_by_key(|(op, _)| *op);
        Ok(Self {
            key,
            name: register.name(key),
            of: register,
            known,
            steps,
            removed_from: register.removals.from(),
        })
    }

    fn value(&self, number: u32) -> &'a Value {
        self.of.values[number as usize]
    }

    fn shows(&self, shows: Shows) -> &'r [u32] {
        self.of.shows(shows)
    }

    /// Whether the value was in place before the other's write began.
    fn precedes(&self, findings: &Findings<'_, 'a>, value: u32, other: u32) -> bool {
        match (&self.known[value as usize], &self.known[other as usize]) {
            (Some(value), Some(other)) => value.in_place < findings.began(other.write),
            _ => false,
        }
    }

    fn walk(&self, findings: &mut Findings<'_, 'a>) {
        let mut memories: FxHashMap<usize, Memory> = FxHashMap::default();
        for (op, step) in &self.steps {
            let memory = memories.entry(findings.sessions[*op]).or_default();
            match step {
                Step::Wrote(value) => memory.wrote = Some((*op, *value)),
                Step::Saw(shows) => self.read(findings, memory, *op, *shows),
            }
        }
    }

    fn read(
        &self,
        findings: &mut Findings<'_, 'a>,
        memory: &mut Memory,
        read: usize,
        showed: Shows,
    ) {
        let shows = self.shows(showed);
        let before = memory.wrote.is_some() || memory.last.is_some();
        findings.judged += u64::from(before || shows.len() > 1);
        let removed = self.removed_from < findings.ended(read);
        if let (false, Some((write, value))) = (removed, memory.wrote) {
            self.must_not_precede(findings, read, shows, value, &[], write);
        }
        if let (false, Some((value, by, beside))) = (removed, memory.newest) {
            self.must_not_precede(findings, read, shows, value, self.shows(beside), by);
        }
        self.must_not_come_back(findings, memory, read, shows);
        self.must_have_replaced(findings, read, shows);
        self.remember(findings, memory, read, showed);
    }

    /// Read your writes, monotonic reads: something shown must be able to have replaced the value.
    /// What had been shown `beside` it cannot.
    fn must_not_precede(
        &self,
        findings: &mut Findings<'_, 'a>,
        read: usize,
        shows: &[u32],
        value: u32,
        beside: &[u32],
        because: usize,
    ) {
        let may_replace = |&shown: &u32| {
            shown == value || !beside.contains(&shown) && !self.precedes(findings, shown, value)
        };
        if shows.iter().any(may_replace) {
            return;
        }
        let class = if findings.operations[because].f().is_write() {
            Class::ReadYourWrites
        } else {
            Class::MonotonicReads
        };
        let (name, told) = (&self.name, [because, read].map(|op| findings.told(op)));
        let value = self.value(value);
        findings.record(class, self.key, value, &[because, read], || {
            let before = match class {
                Class::ReadYourWrites => format!("after the {} of {value}", told[0]),
                _ => format!("after the {} showed {value}", told[0]),
            };
            let shown = self.shown(shows);
            format!(
                "{before} the {} of {name} shows {shown}, which is older",
                told[1]
            )
        });
    }

    /// Monotonic reads: a value was written once, so that it comes and goes once.
    fn must_not_come_back(
        &self,
        findings: &mut Findings<'_, 'a>,
        memory: &mut Memory,
        read: usize,
        shows: &[u32],
    ) {
        for value in shows {
            let Some(&(showed, missed)) = memory.gone.get(value) else {
                continue;
            };
            let ops = [showed, missed, read];
            let (name, told) = (&self.name, ops.map(|op| findings.told(op)));
            let value = self.value(*value);
            findings.record(Class::MonotonicReads, self.key, value, &ops, || {
                format!(
                    "{value} of {name} was shown to the {}, no longer to the {}, and again to the \
                     {}, although it was written once",
                    told[0], told[1], told[2]
                )
            });
        }
    }

    /// Monotonic writes, writes follow reads: no value beside one that had replaced it.
    fn must_have_replaced(&self, findings: &mut Findings<'_, 'a>, read: usize, shows: &[u32]) {
        if shows.len() < 2 {
            return;
        }
        // Few: the concurrent values of one register.
        let together: FxHashMap<&Value, u32> = shows
            .iter()
            .map(|&shown| (self.value(shown), shown))
            .collect();
        for &number in shows {
            let Some(Known { write, .. }) = self.known[number as usize] else {
                continue;
            };
            let value = self.value(number);
            let seen = observe::seen(&findings.operations[write]).unwrap_or_default();
            for old in seen.iter().filter(|old| *old != value) {
                let Some(&replaced) = together.get(old) else {
                    continue;
                };
                let Some(known) = &self.known[replaced as usize] else {
                    continue;
                };
                let own = findings.sessions[known.write] == findings.sessions[write];
                let class = if own {
                    Class::MonotonicWrites
                } else {
                    Class::WritesFollowReads
                };
                let ops = [known.write, write, read];
                let (name, told) = (&self.name, ops.map(|op| findings.told(op)));
                findings.record(class, self.key, old, &ops, || {
                    format!(
                        "the {} of {value} replaced {old} of the {}, but the {} of {name} shows \
                         both",
                        told[1], told[0], told[2]
                    )
                });
            }
        }
    }

    fn remember(
        &self,
        findings: &Findings<'_, 'a>,
        memory: &mut Memory,
        read: usize,
        showed: Shows,
    ) {
        let shows = self.shows(showed);
        if let Some((before, last)) = memory.last.replace((read, showed)) {
            let gone = self
                .shows(last)
                .iter()
                .filter(|value| !shows.contains(value));
            for &value in gone {
                memory.gone.entry(value).or_insert((before, read));
            }
        }
        let began = |value: u32| {
            let known = self.known[value as usize].as_ref();
            known.map_or(0, |known| findings.began(known.write))
        };
        let Some(newest) = shows.iter().copied().max_by_key(|&value| began(value)) else {
            return;
        };
        let newer = |(old, ..): (u32, usize, Shows)| began(old) <= began(newest);
        if memory.newest.is_none_or(newer) {
            memory.newest = Some((newest, read, showed));
        }
    }

    /// What a read showed, in words.
    fn shown(&self, shows: &[u32]) -> String {
        match shows {
            [] => "nothing".to_owned(),
            [one] => self.value(*one).to_string(),
            many => {
                let all: Value = many
                    .iter()
                    .map(|&value| self.value(value).clone())
                    .collect();
                all.to_string()
            }
        }
    }
}
