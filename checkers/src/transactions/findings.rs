//! What was found in a history of transactions, and what follows from it for a consistency model.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use serde_json::{Map, json};

use super::cycles::{Cycle, Found, SHOWN_MAX};
use super::encode::{Mop, Shown, Transactions};
use super::graph::Kind;
use super::models::{Class, ConsistencyModel, Level, Phenomenon, boundary};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult};

/// How many of a kind are told of those that the model allows.
const ALSO_SEEN_MAX: usize = 10;

/// Phenomena with the transactions that show them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: Vec<Finding>,
    counts: FxHashMap<Phenomenon, u64>,
    /// Why not all could be judged.
    pub(crate) reasons: Vec<String>,
}

#[derive(Debug)]
struct Finding {
    phenomenon: Phenomenon,
    key: Option<u32>,
    /// Numbers of transactions.
    txns: Vec<u32>,
    summary: String,
    figures: Map<String, serde_json::Value>,
}

/// Says why one transaction comes before another.
pub(crate) trait Explain {
    /// Why `b`, called by the second name, depends so on `a`; `None` if it does not.
    fn explain(&self, a: u32, b: u32, kind: Kind, names: [&str; 2]) -> Option<String>;
}

impl Findings {
    /// Adds a finding, if there are not too many of its kind yet.
    pub(crate) fn add(
        &mut self,
        phenomenon: Phenomenon,
        key: u32,
        txns: &[u32],
        summary: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry(phenomenon).or_insert(0);
        *count += 1;
        if *count <= SHOWN_MAX as u64 {
            self.all.push(Finding {
                phenomenon,
                key: Some(key),
                txns: txns.to_vec(),
                summary: summary(),
                figures: Map::new(),
            });
        }
    }

    /// Adds the cycles.
    pub(crate) fn add_cycles(
        &mut self,
        txns: &Transactions<'_>,
        found: Found,
        explain: &impl Explain,
    ) {
        for (phenomenon, count) in found.counts {
            *self.counts.entry(phenomenon).or_insert(0) += count;
        }
        for cycle in &found.cycles {
            let mut figures = Map::new();
            figures.insert("transactions".to_owned(), json!(cycle.steps.len()));
            self.all.push(Finding {
                phenomenon: cycle.phenomenon(),
                key: None,
                txns: cycle.steps.iter().map(|step| step.0).collect(),
                summary: in_words(txns, cycle, explain),
                figures,
            });
        }
    }

    /// The result against a model. `undecided`: levels at which cycles with exactly one
    /// anti-dependency may have been missed; `judged`: transactions that were.
    pub(crate) fn conclude(
        mut self,
        checker: &str,
        txns: &Transactions<'_>,
        model: ConsistencyModel,
        undecided: &[Level],
        judged: u64,
    ) -> CheckResult {
        let seen: Vec<Phenomenon> = Phenomenon::ALL
            .into_iter()
            .filter(|p| self.counts.contains_key(p))
            .collect();
        let violated = seen.iter().any(|&p| model.forbids(p));
        for &level in undecided {
            let missed = Phenomenon::Cycle(Class::GSingle, level);
            if model.forbids(missed) && !seen.iter().any(|p| p.implies(missed)) {
                let name = missed.name();
                let reason = format!("budget: not all cycles were searched for {name}");
                self.reasons.push(reason);
            }
        }
        let reasons = std::mem::take(&mut self.reasons);
        let mut result = CheckResult::new(checker, conclude(violated, judged, reasons));
        result.judged = judged;
        let first = |f: &Finding| f.txns.iter().min().copied();
        self.all.sort_by_key(|f| (first(f), f.phenomenon));
        let mut also: Vec<serde_json::Value> = Vec::new();
        let mut told: FxHashMap<Phenomenon, usize> = FxHashMap::default();
        for finding in self.all {
            let index = |&txn: &u32| txns.index(&txns.txns[txn as usize]);
            let class = finding.phenomenon.name();
            let ops: Vec<u64> = finding.txns.iter().map(index).collect();
            if model.forbids(finding.phenomenon) {
                result.anomalies.push(Anomaly {
                    class: class.to_owned(),
                    key: finding.key.map(|key| txns.keys[key as usize].clone()),
                    summary: finding.summary,
                    ops,
                    figures: finding.figures,
                });
                continue;
            }
            let told = told.entry(finding.phenomenon).or_insert(0);
            *told += 1;
            if *told <= ALSO_SEEN_MAX {
                let summary = finding.summary;
                also.push(json!({"class": class, "summary": summary, "ops": ops}));
            }
        }
        let names = |models: Vec<ConsistencyModel>| {
            let names = models.into_iter().map(ConsistencyModel::name);
            names.collect::<Vec<_>>()
        };
        let boundary = boundary(&seen);
        result.figure("model", model.name());
        result.figure("not", names(boundary.not));
        result.figure("also-not", names(boundary.also_not));
        result.figure("not-ruled-out", names(boundary.possible));
        if !also.is_empty() {
            result.figure("also-seen", also);
        }
        for phenomenon in seen {
            let count = self.counts.get(&phenomenon).copied().unwrap_or(0);
            result.figure(&format!("{}_count", phenomenon.name()), count);
        }
        result
    }
}

/// A cycle, edge by edge.
fn in_words(txns: &Transactions<'_>, cycle: &Cycle, explain: &impl Explain) -> String {
    const TOLD_MAX: usize = 12;
    let n = cycle.steps.len();
    let mut text = String::new();
    for (i, &(txn, _)) in cycle.steps.iter().enumerate().take(TOLD_MAX) {
        let separator = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}T{} = {}", i + 1, quoted(txns, txn));
    }
    if n > TOLD_MAX {
        let _ = write!(text, " and {} more", n - TOLD_MAX);
    }
    for (i, &(a, kind)) in cycle.steps.iter().enumerate() {
        if i >= TOLD_MAX && i + 1 < n {
            continue;
        }
        let after = (i + 1) % n;
        let b = cycle.steps[after].0;
        let names = [format!("T{}", i + 1), format!("T{}", after + 1)];
        let names = [names[0].as_str(), names[1].as_str()];
        let order = || by_order(txns, a, b, kind, names);
        let why = explain.explain(a, b, kind, names).unwrap_or_else(order);
        let _ = write!(text, "{} {why}", if i == 0 { ":" } else { ";" });
    }
    let _ = write!(
        text,
        ". No order of these {n} transactions agrees with all of that"
    );
    text
}

fn by_order(txns: &Transactions<'_>, a: u32, b: u32, kind: Kind, names: [&str; 2]) -> String {
    let [first, second] = names;
    let (a, b) = (&txns.txns[a as usize], &txns.txns[b as usize]);
    match kind {
        Kind::Process => {
            let process = txns.processes[a.process as usize];
            format!("process {process} executed {first} before {second}")
        }
        Kind::Realtime => {
            let ended = txns.operations[a.op as usize].complete.map(|e| e.index);
            let began = txns.index(b);
            let ended = ended.unwrap_or_default();
            format!(
                "{first} had completed (event {ended}) before {second} was invoked (event {began})"
            )
        }
        _ => format!("{second} depends on {first}"),
    }
}

/// A transaction as it is quoted: `[append x 1, read y = [2 3]] (event 7, process 3)`.
pub(crate) fn quoted(txns: &Transactions<'_>, txn: u32) -> String {
    const TOLD_MAX: usize = 12;
    let txn = &txns.txns[txn as usize];
    let mops = txns.mops_of(txn);
    let mut text = String::from("[");
    for (i, &mop) in mops.iter().enumerate().take(TOLD_MAX) {
        let separator = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{}", mop_in_words(txns, mop));
    }
    if mops.len() > TOLD_MAX {
        let _ = write!(text, ", … {} more", mops.len() - TOLD_MAX);
    }
    let process = txns.processes[txn.process as usize];
    let _ = write!(text, "] (event {}, process {process})", txns.index(txn));
    text
}

fn mop_in_words(txns: &Transactions<'_>, mop: Mop) -> String {
    let key = txns.keys[mop.key() as usize];
    let value = |v: u32| txns.values[v as usize];
    match mop {
        Mop::Append { value: v, .. } => format!("append {key} {}", value(v)),
        Mop::Write { value: v, .. } => format!("write {key} {}", value(v)),
        Mop::Read {
            shown: Shown::Unknown,
            ..
        } => format!("read {key}"),
        Mop::Read { shown, .. } => format!("read {key} = {}", shown_in_words(txns, shown)),
    }
}

/// What a read showed; the middle of a long list is left out.
pub(crate) fn shown_in_words(txns: &Transactions<'_>, shown: Shown) -> String {
    const WHOLE_MAX: usize = 10;
    let value = |&v: &u32| txns.values[v as usize].to_string();
    let join = |items: &[u32]| items.iter().map(value).collect::<Vec<_>>().join(" ");
    match shown {
        Shown::Unknown => "?".to_owned(),
        Shown::Nil => "nil".to_owned(),
        Shown::Value(v) => value(&v),
        Shown::List { .. } => match txns.list(shown) {
            list if list.len() <= WHOLE_MAX => format!("[{}]", join(list)),
            list => {
                let (head, tail) = (&list[..2], &list[list.len() - 4..]);
                let n = list.len();
                format!("[{} … {}] ({n} elements)", join(head), join(tail))
            }
        },
    }
}
