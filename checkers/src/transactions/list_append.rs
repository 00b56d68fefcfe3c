//! Whether transactions that append to lists and read them keep a consistency model.

use super::cycles;
use super::encode::{Mop, Shape, Shown, Transactions};
use super::findings::Findings;
use super::graph::{Builder, NODES_MAX};
use super::lists::Lists;
use super::models::ConsistencyModel;
use crate::{CheckResult, Checker, History, Outcome};

const NAME: &str = "list-append";

/// Transactions over lists that only grow: `[append k v]` and `[r k [v …]]`, every element appended
/// once.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListAppend {
    /// The model promised.
    pub model: ConsistencyModel,
}

impl Checker for ListAppend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, history: &History) -> CheckResult {
        let result = Transactions::of(history, Shape::Lists).and_then(|txns| {
            if txns.txns.len() >= NODES_MAX / 4 {
                return Err("too-large: more transactions than can be numbered".to_owned());
            }
            let mut findings = Findings::default();
            let mut builder = Builder::new(txns.txns.len() as u32);
            let lists = Lists::of(&txns, &mut builder, &mut findings)?;
            let mut found = cycles::find(&txns, &lists.committed, builder)?;
            let undecided = std::mem::take(&mut found.undecided);
            findings.add_cycles(&txns, found, &lists);
            let judged = judged(&txns);
            Ok(findings.conclude(NAME, &txns, self.model, &undecided, judged))
        });
        result.unwrap_or_else(|reason| CheckResult::unknown(NAME, reason))
    }
}

/// How many transactions succeeded; 0 if none of them read anything.
pub(super) fn judged(txns: &Transactions<'_>) -> u64 {
    let read = |mop: &Mop| matches!(mop, Mop::Read { shown, .. } if *shown != Shown::Unknown);
    if !txns.mops.iter().any(read) {
        return 0;
    }
    let ok = txns.txns.iter().filter(|txn| txn.outcome == Outcome::Ok);
    ok.count() as u64
}
