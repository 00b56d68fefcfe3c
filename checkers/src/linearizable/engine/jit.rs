//! Just-in-time linearization (Lowe, *Testing for linearizability*, 2017).

use super::budget::{Meter, Spent, Totals};
use super::specification::{Call, Specification};
use super::{Decision, Engine, Limits, Model, Op, Refutation, Undecided, belongs, models};

mod general;
mod mask;
mod register;
mod timeline;

/// The engine; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Jit;

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// There is an order.
    Order,
    /// There is none of what had begun when this operation completed.
    None(usize),
}

/// Why a search came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undone {
    /// A limit was reached.
    Spent {
        spent: Spent,
        /// The operation that was completing.
        at: usize,
        /// How many operations were open.
        open: usize,
    },
    /// The history is not for this engine.
    Unfit(&'static str),
}

impl Engine for Jit {
    fn decide(&self, model: Model, ops: &[Op], limits: &Limits) -> Decision {
        self.decide_within(model, ops, limits, None)
    }

    fn decide_within(
        &self,
        model: Model,
        ops: &[Op],
        limits: &Limits,
        totals: Option<&Totals>,
    ) -> Decision {
        if ops.iter().any(|op| !belongs(model, &op.action)) {
            return Decision::unknown("an operation does not belong to the model");
        }
        if model != Model::Register {
            return models::decide(model, ops, limits, totals);
        }
        let mut meter = Meter::new(limits, totals);
        let found = register::decide(ops, &mut meter);
        decision(found, |op| ops.get(op).and_then(|op| op.completion))
    }
}

/// Decides a history of any specification.
pub(super) fn decide_specified<S: Specification>(
    specification: &S,
    history: &[Call<S::Op>],
    limits: &Limits,
    totals: Option<&Totals>,
) -> Decision {
    decide_metered(specification, history, &mut Meter::new(limits, totals))
}

/// Likewise, with what was spent so far.
pub(super) fn decide_metered<S: Specification>(
    specification: &S,
    history: &[Call<S::Op>],
    meter: &mut Meter<'_>,
) -> Decision {
    let found = general::decide(specification, history, meter);
    decision(found, |op| history.get(op).and_then(|call| call.end))
}

fn decision(found: Result<Found, Undone>, end: impl Fn(usize) -> Option<u64>) -> Decision {
    match found {
        Ok(Found::Order) => Decision::Linearizable,
        Ok(Found::None(op)) => Decision::NotLinearizable(Refutation {
            core: Vec::new(),
            by: end(op),
        }),
        Err(Undone::Unfit(reason)) => Decision::unknown(reason),
        Err(Undone::Spent { spent, at, open }) => Decision::Unknown(Undecided {
            reason: spent.reason(),
            reached: Some(at),
            open,
            remedy: spent.remedy().map(str::to_owned),
        }),
    }
}
