//! Registers, and the fields of maps.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Class, Findings};
use crate::observe::{self, KeyView};
use crate::{Value, registers};

/// Everything that happened to one register.
struct Register<'a> {
    key: Option<&'a Value>,
    /// `key k`, or `field f of key k`.
    name: String,
    values: FxHashMap<&'a Value, Known>,
    /// Positions among the operations and what they wrote or showed, in that order.
    steps: Vec<(usize, Step<'a>)>,
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

enum Step<'a> {
    Wrote(&'a Value),
    Saw(Vec<&'a Value>),
}

/// What a session has done and seen so far.
#[derive(Default)]
struct Memory<'a> {
    /// Its last acknowledged write: which, and of what.
    wrote: Option<(usize, &'a Value)>,
    /// The value shown whose write began last: of which read, and what was shown beside it.
    newest: Option<(&'a Value, usize, Vec<&'a Value>)>,
    /// What the last read showed.
    last: Option<(usize, Vec<&'a Value>)>,
    /// What was shown and then no longer: by which reads.
    gone: FxHashMap<&'a Value, (usize, usize)>,
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

impl<'a> Register<'a> {
    fn of(
        findings: &Findings<'_, 'a>,
        key: Option<&'a Value>,
        register: &registers::Register<'a>,
    ) -> Result<Self, &'static str> {
        let (writes, reads) = (&register.writes, &register.reads);
        let mut values = FxHashMap::default();
        let mut steps = Vec::with_capacity(writes.len() + reads.len());
        for &(write, value) in writes {
            if !observe::possible(&findings.operations[write]) {
                continue;
            }
            let in_place = findings.ended(write);
            let known = Known { write, in_place };
            if value.is_nil() || values.insert(value, known).is_some() {
                return Err("values-not-unique");
            }
            if findings.operations[write].is_ok() {
                steps.push((write, Step::Wrote(value)));
            }
        }
        for (read, shows) in reads {
            // What nobody wrote is no value of this register: nothing follows from such a read.
            if shows.iter().any(|value| !values.contains_key(value)) {
                continue;
            }
            for value in shows {
                if let Some(known) = values.get_mut(value) {
                    known.in_place = known.in_place.min(findings.ended(*read));
                }
            }
            steps.push((*read, Step::Saw(shows.clone())));
        }
        steps.sort_by_key(|(op, _)| *op);
        Ok(Self {
            key,
            name: register.name(key),
            values,
            steps,
            removed_from: register.removals.from(),
        })
    }

    /// Whether the value was in place before the other's write began.
    fn precedes(&self, findings: &Findings<'_, 'a>, value: &Value, other: &Value) -> bool {
        match (self.values.get(value), self.values.get(other)) {
            (Some(value), Some(other)) => value.in_place < findings.began(other.write),
            _ => false,
        }
    }

    fn walk(&self, findings: &mut Findings<'_, 'a>) {
        let mut memories: FxHashMap<usize, Memory<'a>> = FxHashMap::default();
        for (op, step) in &self.steps {
            let memory = memories.entry(findings.sessions[*op]).or_default();
            match step {
                Step::Wrote(value) => memory.wrote = Some((*op, value)),
                Step::Saw(shows) => self.read(findings, memory, *op, shows),
            }
        }
    }

    fn read(
        &self,
        findings: &mut Findings<'_, 'a>,
        memory: &mut Memory<'a>,
        read: usize,
        shows: &[&'a Value],
    ) {
        let before = memory.wrote.is_some() || memory.last.is_some();
        findings.judged += u64::from(before || shows.len() > 1);
        let removed = self.removed_from < findings.ended(read);
        if let (false, Some((write, value))) = (removed, memory.wrote) {
            self.must_not_precede(findings, read, shows, value, &[], write);
        }
        if let (false, Some((value, by, beside))) = (removed, &memory.newest) {
            self.must_not_precede(findings, read, shows, value, beside, *by);
        }
        self.must_not_come_back(findings, memory, read, shows);
        self.must_have_replaced(findings, read, shows);
        self.remember(findings, memory, read, shows);
    }

    /// Read your writes, monotonic reads: something shown must be able to have replaced the value.
    /// What had been shown `beside` it cannot.
    fn must_not_precede(
        &self,
        findings: &mut Findings<'_, 'a>,
        read: usize,
        shows: &[&'a Value],
        value: &'a Value,
        beside: &[&'a Value],
        because: usize,
    ) {
        let may_replace = |shown: &&'a Value| {
            *shown == value || !beside.contains(shown) && !self.precedes(findings, shown, value)
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
        findings.record(class, self.key, value, &[because, read], || {
            let before = match class {
                Class::ReadYourWrites => format!("after the {} of {value}", told[0]),
                _ => format!("after the {} showed {value}", told[0]),
            };
            let shown = shown(shows);
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
        memory: &mut Memory<'a>,
        read: usize,
        shows: &[&'a Value],
    ) {
        for value in shows {
            let Some(&(showed, missed)) = memory.gone.get(value) else {
                continue;
            };
            let ops = [showed, missed, read];
            let (name, told) = (&self.name, ops.map(|op| findings.told(op)));
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
    fn must_have_replaced(
        &self,
        findings: &mut Findings<'_, 'a>,
        read: usize,
        shows: &[&'a Value],
    ) {
        if shows.len() < 2 {
            return;
        }
        let together: FxHashSet<&Value> = shows.iter().copied().collect();
        for value in shows {
            let write = self.values[value].write;
            let seen = observe::seen(&findings.operations[write]).unwrap_or_default();
            let replaced = |old: &&'a Value| *old != *value && together.contains(old);
            for old in seen.iter().filter(replaced) {
                let Some(known) = self.values.get(old) else {
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
        memory: &mut Memory<'a>,
        read: usize,
        shows: &[&'a Value],
    ) {
        if let Some((showed, last)) = memory.last.take() {
            for value in last.into_iter().filter(|value| !shows.contains(value)) {
                memory.gone.entry(value).or_insert((showed, read));
            }
        }
        memory.last = Some((read, shows.to_vec()));
        let began = |value: &Value| findings.began(self.values[value].write);
        let Some(newest) = shows.iter().copied().max_by_key(|value| began(value)) else {
            return;
        };
        let newer = |(old, ..): &(&Value, usize, Vec<&Value>)| began(old) <= began(newest);
        if memory.newest.as_ref().is_none_or(newer) {
            memory.newest = Some((newest, read, shows.to_vec()));
        }
    }
}

/// What a read showed, in words.
fn shown(shows: &[&Value]) -> String {
    match shows {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        many => {
            let all: Value = many.iter().map(|value| (*value).clone()).collect();
            all.to_string()
        }
    }
}
