//! Whether transactions that overwrite registers and read them keep a consistency model.

use super::cycles;
use super::encode::{Shape, Transactions};
use super::findings::Findings;
use super::graph::{Builder, NODES_MAX};
use super::list_append::judged;
use super::models::ConsistencyModel;
use super::registers::{Assumptions, Registers};
use crate::{CheckResult, Checker, History};

const NAME: &str = "rw-register";

/// Transactions over registers: `[w k v]` and `[r k v]`, every value written once.
///
/// How versions follow each other is known less well than of lists. The two assumptions let more
/// be found, and are wrong of a store that does not promise them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RwRegister {
    /// The model promised.
    pub model: ConsistencyModel,
    /// Every process sees the versions of a key in their order.
    pub sequential_keys: bool,
    /// Every key by itself is linearizable.
    pub linearizable_keys: bool,
}

impl Checker for RwRegister {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check(&self, history: &History) -> CheckResult {
        let assumptions = Assumptions {
            sequential_keys: self.sequential_keys,
            linearizable_keys: self.linearizable_keys,
        };
        let result = Transactions::of(history, Shape::Registers).and_then(|txns| {
            if txns.txns.len() >= NODES_MAX / 4 {
                return Err("too-large: more transactions than can be numbered".to_owned());
            }
            let mut findings = Findings::default();
            let mut builder = Builder::new(txns.txns.len() as u32);
            let registers = Registers::of(&txns, assumptions, &mut builder, &mut findings)?;
            let mut found = cycles::find(&txns, &registers.committed, builder)?;
            let undecided = std::mem::take(&mut found.undecided);
            findings.add_cycles(&txns, found, &registers);
            let judged = judged(&txns);
            let unwritten = registers.unwritten;
            let mut result = findings.conclude(NAME, &txns, self.model, &undecided, judged);
            if unwritten > 0 {
                result.figure("unwritten-values", unwritten);
            }
            Ok(result)
        });
        result.unwrap_or_else(|reason| CheckResult::unknown(NAME, reason))
    }
}
