//! Violations in words.

use std::fmt::{self, Write as _};

use super::analysis::{Findings, Level, Violation, Why};
use super::encode::Encoded;
use super::execution::{Execution, INITIAL};
use super::levels::Edge;
use super::listed::Listed;
use crate::transactions::encode::{Mop, Transactions};
use crate::{F, Value};

/// How a key is called in a sentence.
pub(super) fn key_name(txns: &Transactions<'_>, key: u32) -> String {
    match txns.keys[key as usize] {
        Value::Nil => "the object".to_owned(),
        key => format!("key {key}"),
    }
}

/// `write 4 to key x by process 1 (1.004 s)`, `transaction [[:r x 4]] of process 2 (1.010 s)`.
pub(super) fn told(txns: &Transactions<'_>, t: u32) -> String {
    let txn = &txns.txns[t as usize];
    let op = &txns.operations[txn.op as usize];
    let at = op.completed_at().unwrap_or(op.invoked_at()) as f64 / 1e9;
    let value = op.result().filter(|value| !value.is_nil());
    let value = shortened(value.unwrap_or(op.argument()));
    let key = match op.key() {
        Some(key) => format!("key {key}"),
        None => "the object".to_owned(),
    };
    let what = match op.f() {
        F::Read => format!("read of {key} → {value} by"),
        F::Write | F::Append | F::Cas => format!("{} {value} to {key} by", op.f().name()),
        _ => format!("transaction {value} of"),
    };
    format!("{what} process {} ({at:.3} s)", op.process())
}

/// A value, up to a length.
fn shortened(value: &Value) -> String {
    /// Takes so many characters, and no more work than that.
    struct Bounded(String, usize);

    impl fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(c);
            }
            Ok(())
        }
    }

    const CHARS_MAX: usize = 120;
    let mut bounded = Bounded(String::new(), CHARS_MAX);
    if write!(bounded, "{value}").is_err() {
        bounded.0.push('…');
    }
    bounded.0
}

/// Puts findings into words.
pub(crate) fn list(encoded: &Encoded<'_>, level: Level, findings: &Findings, listed: &mut Listed) {
    let teller = Teller { encoded, level };
    for violation in &findings.violations {
        teller.list(violation, listed);
    }
}

struct Teller<'t, 'a> {
    encoded: &'t Encoded<'a>,
    level: Level,
}

impl Teller<'_, '_> {
    fn execution(&self) -> &Execution {
        &self.encoded.execution
    }

    fn told(&self, txn: u32) -> String {
        told(&self.encoded.txns, self.encoded.source[txn as usize])
    }

    fn key(&self, key: u32) -> String {
        key_name(&self.encoded.txns, key)
    }

    /// What a transaction left in a key.
    fn wrote(&self, txn: u32, key: u32) -> String {
        if txn == INITIAL {
            return "the initial state".to_owned();
        }
        let txns = &self.encoded.txns;
        let mops = txns.mops_of(&txns.txns[self.encoded.source[txn as usize] as usize]);
        let last = mops.iter().rev().find_map(|mop| match *mop {
            Mop::Append { key: k, value } | Mop::Write { key: k, value } if k == key => {
                Some(txns.values[value as usize].to_string())
            }
            _ => None,
        });
        last.unwrap_or_else(|| "a value".to_owned())
    }

    /// How the writer was visible to the reader, and the name of the anomaly if what it read is
    /// before that without further ado.
    fn visible(&self, edge: Edge) -> (&'static str, &'static str) {
        let e = self.execution();
        let source = e.sources(edge.reader).contains(&edge.before);
        let initial = edge.after == INITIAL;
        match self.level {
            Level::ReadCommitted => ("it had read from before", "non-monotonic-read"),
            Level::ReadAtomic if source => {
                let reads = e.reads(edge.reader).iter();
                let both = reads
                    .filter(|read| read.key == edge.key)
                    .any(|read| read.from == edge.before);
                if both {
                    ("it read from, too", "non-repeatable-read")
                } else {
                    ("it read from", "fractured-read")
                }
            }
            Level::ReadAtomic => ("came before it in its session", "read-your-writes"),
            Level::CausalMemory => (
                "its session knew to be before that read",
                "write-hb-init-read",
            ),
            Level::Causal => {
                let how = if source {
                    "it read from"
                } else if e.in_session_order(edge.before, edge.reader) {
                    "came before it in its session"
                } else {
                    "was in its causal past"
                };
                let class = if initial {
                    "write-co-init-read"
                } else {
                    "write-co-read"
                };
                (how, class)
            }
        }
    }

    /// `R read 1 of key x, written by A, though B, which wrote 2, was visible to it`.
    fn missed(&self, edge: Edge) -> String {
        let (how, _) = self.visible(edge);
        let read = if edge.after == INITIAL {
            format!("found {} never written", self.key(edge.key))
        } else {
            format!(
                "read {} of {}, written by {},",
                self.wrote(edge.after, edge.key),
                self.key(edge.key),
                self.told(edge.after),
            )
        };
        format!(
            "{} {read} though {}, which {how}, had written {}",
            self.told(edge.reader),
            self.told(edge.before),
            self.wrote(edge.before, edge.key),
        )
    }

    fn link(&self, a: u32, why: Why, b: u32) -> String {
        let (first, second) = (self.told(a), self.told(b));
        match why {
            Why::Session => format!("{first} is before {second} in its session"),
            Why::ReadFrom => format!("{second} read from {first}"),
            Why::Versions => format!("lists show what {first} appended before that of {second}"),
            Why::Axiom(edge) => {
                let missed = self.missed(edge);
                format!("{first} has to be before {second}, since {missed}")
            }
        }
    }

    fn chain(&self, links: &[(u32, Why)], end: u32) -> String {
        const LINKS_MAX: usize = 8;
        let next = |i: usize| links.get(i + 1).map_or(end, |next| next.0);
        let mut told: Vec<String> = links
            .iter()
            .enumerate()
            .take(LINKS_MAX)
            .map(|(i, &(txn, why))| self.link(txn, why, next(i)))
            .collect();
        if links.len() > LINKS_MAX {
            told.push(format!("and {} more steps", links.len() - LINKS_MAX));
        }
        told.join("; ")
    }

    fn list(&self, violation: &Violation, listed: &mut Listed) {
        let keys = &self.encoded.txns.keys;
        match violation {
            Violation::Initial(edge) => {
                let (_, class) = self.visible(*edge);
                let key = keys[edge.key as usize];
                let ops = self.ops([edge.before, edge.reader]);
                listed.add(class, Some(key), &ops, || self.missed(*edge));
            }
            Violation::Overwritten { edge, way } => {
                let (_, class) = self.visible(*edge);
                let key = keys[edge.key as usize];
                let txns = way.iter().map(|link| link.0);
                let ops = self.ops(txns.chain([edge.before, edge.reader]));
                listed.add(class, Some(key), &ops, || {
                    let overwritten = self.chain(way, edge.before);
                    format!("{}, after it: {overwritten}", self.missed(*edge))
                });
            }
            Violation::Cycle(cycle) => {
                let axiom = cycle.iter().any(|(_, why)| matches!(why, Why::Axiom(_)));
                let versions = cycle.iter().any(|(_, why)| *why == Why::Versions);
                let class = match (self.level, axiom) {
                    (Level::Causal, true) => "cyclic-cf",
                    (Level::CausalMemory, _) => "cyclic-hb",
                    (_, true) => "commit-order-cycle",
                    _ if versions => "version-order-cycle",
                    (Level::Causal, false) => "cyclic-co",
                    (_, false) => "causality-cycle",
                };
                let readers = cycle.iter().filter_map(|(_, why)| match why {
                    Why::Axiom(edge) => Some(edge.reader),
                    _ => None,
                });
                let ops = self.ops(cycle.iter().map(|link| link.0).chain(readers));
                listed.add(class, None, &ops, || {
                    let end = cycle.first().map_or(INITIAL, |link| link.0);
                    let chain = self.chain(cycle, end);
                    format!(
                        "no order of commits fits {} transactions: {chain}",
                        cycle.len()
                    )
                });
            }
        }
    }

    /// The indexes of the invocations.
    fn ops(&self, of: impl IntoIterator<Item = u32>) -> Vec<u64> {
        let txns = &self.encoded.txns;
        let index = |t: u32| txns.index(&txns.txns[self.encoded.source[t as usize] as usize]);
        let mut ops: Vec<u64> = of.into_iter().map(index).collect();
        ops.sort_unstable();
        ops.dedup();
        ops
    }
}
