//! Whether money moves between accounts and none comes or goes, as Jepsen's `bank`
//! (`jepsen.tests.bank`).
//!
//! Operations of function `transfer` take `{from, to, amount}`; a `read` returns all accounts with
//! their balances, `{account balance, …}`. A transfer takes place as a whole, so that under snapshot
//! isolation (Berenson et al., *A Critique of ANSI SQL Isolation Levels*, SIGMOD 1995) every read
//! shows the same total. Each ok read is judged; of the first three classes one a read, in this
//! order:
//!
//! * `unexpected-account`: an account that neither belongs to the bank nor is named by a transfer
//!   that may have taken place.
//! * `missing-account`: an account of the bank is not shown, or its balance is `nil`.
//! * `wrong-total`: the balances do not come to the total.
//! * `negative-balance`: a balance below zero, unless those are allowed.
//!
//! What belongs to the bank and what its total is, can be told ([`Bank::accounts`],
//! [`Bank::total`]). Otherwise the accounts are those that most reads show, and the total is that of
//! most reads of all of them (of as many, what was shown first); the figure `total_inferred` says
//! so. Whatever is taken, reads that disagree make the history invalid.
//!
//! With keys (of `jepsen.independent`) every key is a bank. Further figures: `reads`, `transfers`
//! (acknowledged), `total`, `total_min` and `total_max` shown. A balance that is no whole number
//! makes its read unreadable and the verdict `unknown`, and so does a function that the checker
//! does not know and that may have changed balances. Linear in the reads.

use std::collections::{BTreeMap, BTreeSet};

use crate::found::{Found, anomaly, told};
use crate::observe;
use crate::verdict::{NOTHING_TO_JUDGE, conclude};
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Value};

/// The checker; see the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Bank {
    /// What all balances come to.
    pub total: Option<i64>,
    /// The accounts of the bank.
    pub accounts: Option<Vec<Value>>,
    /// Whether a balance may be below zero.
    pub negative_balances: bool,
}

/// A read: operation by position among the operations, and balances by account.
struct Shown<'a> {
    op: usize,
    balances: BTreeMap<&'a Value, Option<i64>>,
}

impl Shown<'_> {
    fn total(&self) -> i128 {
        let balances = self.balances.values().flatten();
        balances.map(|&balance| i128::from(balance)).sum()
    }
}

/// One bank of a history.
#[derive(Default)]
struct Ledger<'a> {
    reads: Vec<Shown<'a>>,
    unreadable: u64,
    /// Accounts named by transfers that may have taken place.
    named: BTreeSet<&'a Value>,
    transfers: u64,
}

impl Checker for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let ledgers = match ledgers(&operations) {
            Ok(ledgers) => ledgers,
            Err(reason) => return CheckResult::unknown(self.name(), reason),
        };
        let mut found = Found::default();
        let (mut reads, mut unreadable, mut transfers) = (0, 0, 0);
        let mut totals: Option<(i128, i128)> = None;
        let mut expected = None;
        for (key, ledger) in &ledgers {
            // Reads of something else, in a history that has banks beside it.
            if ledger.transfers == 0 && ledger.named.is_empty() && ledgers.len() > 1 {
                continue;
            }
            reads += ledger.reads.len() as u64;
            unreadable += ledger.unreadable;
            transfers += ledger.transfers;
            for total in ledger.reads.iter().map(Shown::total) {
                totals = Some(totals.map_or((total, total), |(min, max)| {
                    (min.min(total), max.max(total))
                }));
            }
            let total = self.judge(&operations, *key, ledger, &mut found);
            expected = expected.or(total);
        }
        let reasons = (unreadable > 0).then(|| format!("unreadable-read ({unreadable} reads)"));
        let verdict = conclude(!found.is_empty(), reads, reasons.into_iter().collect());
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = reads;
        result.figure("reads", reads);
        result.figure("transfers", transfers);
        let null = || serde_json::Value::Null;
        result.figure("total", expected.map_or_else(null, observe::number));
        result.figure("total_inferred", self.total.is_none());
        result.figure(
            "total_min",
            totals.map_or_else(null, |t| observe::number(t.0)),
        );
        result.figure(
            "total_max",
            totals.map_or_else(null, |t| observe::number(t.1)),
        );
        for (figure, class) in CLASSES {
            result.figure(figure, found.count(class));
        }
        found.list(&mut result);
        result
    }
}

const CLASSES: [(&str, &str); 4] = [
    ("unexpected_account", "unexpected-account"),
    ("missing_account", "missing-account"),
    ("wrong_total", "wrong-total"),
    ("negative_balance", "negative-balance"),
];

/// Sorts the operations by bank.
///
/// # Errors
///
/// The reason why nothing can be said of the history.
fn ledgers<'a>(
    operations: &[Operation<'a>],
) -> Result<BTreeMap<Option<&'a Value>, Ledger<'a>>, String> {
    let mut ledgers: BTreeMap<Option<&'a Value>, Ledger<'a>> = BTreeMap::new();
    let transfers = operations.iter().any(|op| op.f().name() == "transfer");
    for (i, op) in operations.iter().enumerate() {
        match op.f() {
            F::Read => {
                let Some(value) = op.result() else { continue };
                let ledger = ledgers.entry(op.key()).or_default();
                match balances(value) {
                    Some(balances) => ledger.reads.push(Shown { op: i, balances }),
                    None => ledger.unreadable += 1,
                }
            }
            F::Other(name) if &**name == "transfer" => {
                let ledger = ledgers.entry(op.key()).or_default();
                ledger.transfers += u64::from(op.is_ok());
                if let (true, Value::Map(fields)) = (observe::possible(op), op.argument()) {
                    let sides = fields.iter().filter(|(name, _)| is_side(name));
                    ledger.named.extend(sides.map(|(_, account)| account));
                }
            }
            F::Inspect => {}
            // The functions of other objects: a history without transfers is none of a bank.
            f if f.is_write() && !transfers => return Err(NOTHING_TO_JUDGE.to_owned()),
            f if observe::possible(op) => {
                let (name, index) = (f.name(), op.invoke.index);
                return Err(format!("unknown-function: `{name}` at event {index}"));
            }
            _ => {}
        }
    }
    // The one that ended first is the first.
    for ledger in ledgers.values_mut() {
        ledger
            .reads
            .sort_by_key(|read| operations[read.op].completed_position);
    }
    Ok(ledgers)
}

fn is_side(name: &Value) -> bool {
    matches!(name, Value::Str(s) | Value::Keyword(s) | Value::Symbol(s) if matches!(&**s, "from" | "to"))
}

/// What a read shows; `None` if a balance is no whole number.
fn balances(value: &Value) -> Option<BTreeMap<&Value, Option<i64>>> {
    let fields = observe::fields(value)?;
    fields
        .into_iter()
        .map(|(account, balance)| match balance {
            Value::Nil => Some((account, None)),
            Value::Int(n) => Some((account, Some(*n))),
            _ => None,
        })
        .collect()
}

/// What most of them are; of as many, the first.
fn most<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counted: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for (at, one) in all.enumerate() {
        counted.entry(one).or_insert((0, at)).0 += 1;
    }
    let best = |(_, (count, first)): &(T, (usize, usize))| (*count, std::cmp::Reverse(*first));
    counted.into_iter().max_by_key(best).map(|(one, _)| one)
}

impl Bank {
    /// Judges the reads of one bank; the total they were held against.
    fn judge(
        &self,
        operations: &[Operation<'_>],
        key: Option<&Value>,
        ledger: &Ledger<'_>,
        found: &mut Found,
    ) -> Option<i128> {
        let accounts: Vec<&Value> = match &self.accounts {
            Some(accounts) => accounts.iter().collect(),
            None => most(ledger.reads.iter().map(accounts_of)).unwrap_or_default(),
        };
        let belongs: BTreeSet<&Value> = accounts.iter().copied().collect();
        let complete = |read: &&Shown<'_>| {
            accounts
                .iter()
                .all(|a| matches!(read.balances.get(a), Some(Some(_))))
        };
        let told_total = self.total.map(i128::from);
        let total = told_total.or_else(|| {
            let complete = most(ledger.reads.iter().filter(complete).map(Shown::total));
            complete.or_else(|| most(ledger.reads.iter().map(Shown::total)))
        })?;
        for read in &ledger.reads {
            let op = &operations[read.op];
            let name = || format!("the {}", told(op, None, key));
            let mut add = |class, what: &dyn Fn() -> (String, serde_json::Value)| {
                found.add(class, || -> Anomaly {
                    let (what, figure) = what();
                    let mut anomaly = anomaly(key, &[op], format!("{} {what}", name()));
                    anomaly.figures.insert("value".to_owned(), figure);
                    anomaly
                });
            };
            let json = |value: &Value| serde_json::to_value(value).unwrap_or_default();
            let unexpected = read
                .balances
                .keys()
                .find(|account| !belongs.contains(*account) && !ledger.named.contains(*account));
            let missing = accounts
                .iter()
                .find(|a| !matches!(read.balances.get(*a), Some(Some(_))));
            let sum = read.total();
            if let Some(account) = unexpected {
                add("unexpected-account", &|| {
                    let what = format!("shows account {account}, which the bank does not have");
                    (what, json(account))
                });
            } else if let Some(account) = missing {
                add("missing-account", &|| {
                    let nil = read.balances.contains_key(*account);
                    let how = if nil { "nil in" } else { "missing" };
                    (
                        format!("shows account {account} {how} its balances"),
                        json(account),
                    )
                });
            } else if sum != total {
                add("wrong-total", &|| {
                    let off = sum.saturating_sub(total);
                    let what = format!("shows {sum} in all accounts instead of {total}: {off:+}");
                    (what, sum.to_string().into())
                });
            }
            let negative = read.balances.iter().find(|(_, b)| b.is_some_and(|b| b < 0));
            if let (false, Some((account, Some(balance)))) = (self.negative_balances, negative) {
                add("negative-balance", &|| {
                    (
                        format!("shows {balance} in account {account}"),
                        json(account),
                    )
                });
            }
        }
        Some(total)
    }
}

fn accounts_of<'a>(read: &Shown<'a>) -> Vec<&'a Value> {
    read.balances.keys().copied().collect()
}

#[cfg(test)]
mod tests;
