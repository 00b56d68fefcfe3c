//! How far each register is from atomic: in versions (k-atomicity) and in time (Δ-atomicity).
//!
//! A register is *k-atomic* if its operations have an order that extends real time, in which every
//! read returns one of the last `k` values written (Aiyer, Alvisi and Bazzi, "On the availability of
//! non-strict quorum systems", 2005): 1-atomic is linearizable. It is *Δ-atomic* if every read returns a
//! value as if it had begun up to Δ earlier (Golab, Li and Shah, 2011). A key is judged if it is a
//! register whose values are unique.
//!
//! * `k` = 1 is decided by [`zones`](crate::linearizable::engine::zones), `k` = 2 by limited backtracking
//!   (see `two.rs`), both with a proof; beyond, nobody knows a fast way, and `k` is "more than 2", with an
//!   upper bound in `k_at_most`. With compare-and-sets, which are never allowed to be late, only 1 is
//!   told from "more than 1". "none" says that no `k` will do: a read returned what was never written,
//!   or not yet.
//! * `delta_ms` is the smallest Δ (see `delta.rs`): 0 if atomic, absent if no Δ will do.
//!
//! A key is not atomic if its `k` is not 1: one anomaly each. An unanswered write counts if somebody saw
//! its value; reads that show several concurrent values are left out, and a key that is atomic without
//! them is `unknown(siblings)`.

use serde_json::json;

use crate::linearizable::engine::zones::Table;
use crate::linearizable::engine::zones::decide::{Conflict, Links, links};
use crate::linearizable::engine::zones::encode::{Encoded, encode};
use crate::observe::{self, Family, KeyView};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Value};

mod delta;
mod two;

use delta::Late;
use two::Span;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct KAtomicity;

/// The smallest `k` of a register. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum K {
    One,
    Two,
    /// It has compare-and-sets, or deciding whether it is 2 would take too long.
    MoreThanOne,
    MoreThanTwo,
    None,
}

impl K {
    fn figure(self) -> serde_json::Value {
        match self {
            Self::One => json!(1),
            Self::Two => json!(2),
            Self::MoreThanOne => json!("more than 1"),
            Self::MoreThanTwo => json!("more than 2"),
            Self::None => json!("none"),
        }
    }
}

/// What was found of one register.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    k: K,
    /// An upper bound of `k`, where there is one.
    k_at_most: Option<usize>,
    late: Late,
    /// Operations (one instant each) that show that it is not atomic.
    positions: Vec<u64>,
}

/// Anomalies that are listed; further ones are counted.
const ANOMALIES_MAX: usize = 1_000;

impl Checker for KAtomicity {
    fn name(&self) -> &'static str {
        "k-atomicity"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match observe::known_operations(history) {
            Ok(operations) => operations,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut summary = Summary::default();
        let mut times = None;
        for (key, view) in observe::by_key(&operations) {
            if !matches!(
                view.family,
                Family::Register | Family::ReadOnly | Family::Mixed
            ) {
                continue;
            }
            let acknowledged = view.writes.iter().filter(|&&w| operations[w].is_ok());
            summary.judged += (acknowledged.count() + view.reads.len()) as u64;
            let mut time = |instant: u32| {
                // Times that go back would not fit the order of positions.
                let times = times.get_or_insert_with(|| running_times(history));
                let at = (instant as usize).checked_sub(1);
                at.and_then(|at| times.get(at)).copied().unwrap_or(0)
            };
            match judge(&operations, &view, &mut time) {
                Ok(found) => summary.add(&operations, key, &found),
                Err(reason) => summary.unknown(key, reason),
            }
        }
        summary.conclude(self.name())
    }
}

fn running_times(history: &History) -> Vec<u64> {
    let mut last = 0;
    let times = history.events.iter().map(|event| {
        last = event.time.max(last);
        last
    });
    times.collect()
}

fn judge(
    operations: &[Operation<'_>],
    view: &KeyView<'_>,
    time: &mut dyn FnMut(u32) -> u64,
) -> Result<Found, &'static str> {
    if view.family == Family::Mixed {
        return Err("mixed-functions");
    }
    if view
        .removes
        .iter()
        .any(|&r| observe::possible(&operations[r]))
    {
        return Err("removed");
    }
    let Encoded { table, siblings } = encode(operations, view, false)?;
    let found = of_table(&table, time).ok_or("values-not-unique")?;
    match found.k {
        K::One if siblings => Err("siblings"),
        _ => Ok(found),
    }
}

/// The smallest `k` and Δ of a register; `None` if its values are not unique.
fn of_table(table: &Table, time: &mut dyn FnMut(u32) -> u64) -> Option<Found> {
    let Err(refuted) = table.decide()? else {
        return Some(Found {
            k: K::One,
            k_at_most: Some(1),
            late: Late {
                delta: Some(0),
                blocks: 0,
            },
            positions: Vec::new(),
        });
    };
    let (k, k_at_most) = more_than_one(table);
    let time = std::cell::RefCell::new(time);
    let late = delta::late(table, |instant| (time.borrow_mut())(instant));
    Some(Found {
        k,
        k_at_most,
        late,
        positions: refuted.positions,
    })
}

/// The smallest `k` of a register that is not atomic, and an upper bound.
fn more_than_one(table: &Table) -> (K, Option<usize>) {
    let links: Links = match links(table) {
        Ok(links) => links,
        Err(Conflict::Unwritten(value)) if !table.of(value).is_written() => {
            return (K::None, None);
        }
        Err(_) => return (K::MoreThanOne, None),
    };
    let needed = (0_u32..).zip(&table.clusters);
    let needed = needed.filter(|(value, cluster)| cluster.is_written() && links.is_needed(*value));
    let mut spans = Vec::new();
    let mut has_cas = false;
    for (value, cluster) in needed {
        if cluster.first_read_end < cluster.write_call {
            return (K::None, None);
        }
        has_cas |= links.next(value).is_some();
        spans.push(Span {
            call: cluster.write_call,
            end: cluster.first_end(),
            last_read: cluster.last_read_call,
        });
    }
    if has_cas {
        return (K::MoreThanOne, None);
    }
    let k_at_most = two::upper_bound(&spans);
    let k = match k_at_most {
        ..=2 => K::Two,
        _ => match two::is_two_atomic(&spans) {
            Some(true) => K::Two,
            Some(false) => K::MoreThanTwo,
            None => K::MoreThanOne,
        },
    };
    let k_at_most = match k {
        K::Two => 2,
        _ => k_at_most,
    };
    (k, Some(k_at_most))
}

#[derive(Default)]
struct Summary {
    judged: u64,
    atomic: u64,
    two_atomic: u64,
    more: u64,
    not_atomic: u64,
    /// Why the first key could not be judged.
    undecided: Option<String>,
    unknown: u64,
    worst: Option<K>,
    /// The greatest, ns, and whether a key has none.
    delta: u64,
    no_delta: bool,
    anomalies: Vec<Anomaly>,
}

impl Summary {
    fn unknown(&mut self, key: Option<&Value>, reason: &str) {
        self.unknown += 1;
        let first = || format!("{reason} at {}", observe::key_name(key));
        self.undecided.get_or_insert_with(first);
    }

    fn add(&mut self, operations: &[Operation<'_>], key: Option<&Value>, found: &Found) {
        self.worst = self.worst.max(Some(found.k));
        self.delta = self.delta.max(found.late.delta.unwrap_or(0));
        self.no_delta |= found.late.delta.is_none();
        match found.k {
            K::One => {
                self.atomic += 1;
                return;
            }
            K::Two => self.two_atomic += 1,
            K::MoreThanOne | K::MoreThanTwo | K::None => self.more += 1,
        }
        self.not_atomic += 1;
        if self.anomalies.len() < ANOMALIES_MAX {
            self.anomalies.push(anomaly(operations, key, found));
        }
    }

    fn conclude(self, checker: &str) -> CheckResult {
        let mut reasons = Vec::new();
        if let Some(first) = self.undecided {
            reasons.push(match self.unknown {
                1 => first,
                more => format!("{first}, and {} more keys", more - 1),
            });
        }
        let verdict = conclude(self.not_atomic > 0, self.judged, reasons);
        let mut result = CheckResult::new(checker, verdict);
        result.judged = self.judged;
        result.anomalies = self.anomalies;
        if let Some(worst) = self.worst {
            result.figure("k", worst.figure());
            if !self.no_delta {
                result.figure("delta_ms", self.delta as f64 / 1e6);
            }
        }
        result.figure("keys_atomic", self.atomic);
        result.figure("keys_2_atomic", self.two_atomic);
        result.figure("keys_more", self.more);
        result.figure("keys_unknown", self.unknown);
        result.figure("not_atomic_count", self.not_atomic);
        result
    }
}

/// `write 4 by process 1 (1.000–1.004 s)`.
fn sentence(op: &Operation<'_>) -> String {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let span = match op.completed_at() {
        Some(end) => format!("{:.3}–{:.3} s", seconds(op.invoked_at()), seconds(end)),
        None => format!("from {:.3} s, outcome unknown", seconds(op.invoked_at())),
    };
    let what = match (op.f(), op.result()) {
        (F::Read, Some(value)) => format!("read → {value}"),
        (f, _) => format!("{} {}", f.name(), op.argument()),
    };
    format!("{what} by process {} ({span})", op.process())
}

fn anomaly(operations: &[Operation<'_>], key: Option<&Value>, found: &Found) -> Anomaly {
    const NAMED_MAX: usize = 8;
    let proof = at_positions(operations, &found.positions);
    let named: Vec<String> = proof
        .iter()
        .take(NAMED_MAX)
        .map(|op| sentence(op))
        .collect();
    let more = match proof.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let name = observe::key_name(key);
    let versions = match (found.k, found.k_at_most) {
        (K::Two, _) => "every read returns one of the last 2 values".to_owned(),
        (K::MoreThanTwo, Some(most)) => {
            format!("reads return values further back than the last 2, but among the last {most}")
        }
        (K::None, _) => "a read returns what was never written, or not yet".to_owned(),
        _ => "reads return values that were replaced".to_owned(),
    };
    let time = match found.late.delta {
        Some(delta) => format!("as late as {:.3} ms", delta as f64 / 1e6),
        None => "and no delay of reads explains all of it".to_owned(),
    };
    let mut figures = serde_json::Map::new();
    figures.insert("k".to_owned(), found.k.figure());
    figures.extend(found.k_at_most.map(|k| ("k_at_most".to_owned(), json!(k))));
    let delta_ms = found.late.delta.map(|ns| json!(ns as f64 / 1e6));
    figures.extend(delta_ms.map(|ms| ("delta_ms".to_owned(), ms)));
    figures.insert("blocks_in_conflict".to_owned(), json!(found.late.blocks));
    Anomaly {
        class: "not-atomic".to_owned(),
        key: key.cloned(),
        summary: format!(
            "{name} is not atomic: {versions}, {time}; e.g. no order of these operations is \
             atomic: {}{more}",
            named.join("; ")
        ),
        ops: proof.iter().map(|op| op.invoke.index).collect(),
        figures,
    }
}

/// The operations that begin or end at one of these positions (ascending).
fn at_positions<'o, 'a>(
    operations: &'o [Operation<'a>],
    positions: &[u64],
) -> Vec<&'o Operation<'a>> {
    let named = |position: usize| positions.binary_search(&(position as u64)).is_ok();
    let all = operations.iter();
    all.filter(|op| named(op.invoked_position) || op.completed_position.is_some_and(named))
        .collect()
}

#[cfg(test)]
mod tests;
