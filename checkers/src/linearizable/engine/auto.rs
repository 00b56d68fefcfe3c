//! Takes the engine that fits the history.
//!
//! * What is decided in polynomial time is decided so: [`polynomial`].
//! * Lists and sets: first a look for an order without memory ([`super::witness`]), which is there
//!   more often than not.
//! * Else just-in-time linearization ([`super::jit`]).

use super::budget::Totals;
use super::jit::Jit;
use super::{Decision, Engine, Limits, Model, Op, monitors, witness, zones};

/// The engine; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl Engine for Auto {
    fn decide(&self, model: Model, ops: &[Op], limits: &Limits) -> Decision {
        self.decide_within(model, ops, limits, None)
    }

    fn uses_zones(&self) -> bool {
        true
    }

    fn decide_within(
        &self,
        model: Model,
        ops: &[Op],
        limits: &Limits,
        totals: Option<&Totals>,
    ) -> Decision {
        if let Some(decision) = polynomial(model, ops) {
            return decision;
        }
        if matches!(model, Model::List | Model::Set) && witness::found(model, ops) {
            return Decision::Linearizable;
        }
        Jit.decide_within(model, ops, limits, totals)
    }
}

/// Decides what a polynomial algorithm exists for, `None` of everything else: registers with unique
/// values by clusters and zones, collections with unambiguous values by monitors.
fn polynomial(model: Model, ops: &[Op]) -> Option<Decision> {
    match model {
        Model::Register => zones::decide(ops),
        _ => monitors::decide(model, ops),
    }
}
