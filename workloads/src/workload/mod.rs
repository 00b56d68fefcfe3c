//! What the clients of a run do, and what is judged by it.
//!
//! * [`kind`], [`parameters`]: the workloads by name, and what can be set of each.
//! * `traffic` (registers, sets, lists), `conflict`, `counter`, `nondeterministic`, `text`,
//!   `calendar`, `lock`, `transactions`, `queue`: the main generators. `draw`: what they have in
//!   common. [`keys`]: the keys in use.
//! * [`final_reads`] (of queues [`drains`]), then [`inspections`]: what is asked when the main phase is
//!   over.

mod calendar;
mod conflict;
mod counter;
pub mod drains;
mod draw;
pub mod final_reads;
pub mod inspections;
pub mod keys;
pub mod kind;
mod lock;
mod nondeterministic;
pub mod parameters;
mod queue;
mod text;
mod traffic;
mod transactions;

use std::fmt;

use serde::Serialize;

pub use drains::Drains;
pub use final_reads::FinalReads;
pub use inspections::Inspections;
pub use kind::{Kind, KindError};
pub use parameters::{Data, Editing, ParameterError, Parameters};

use crate::generator::Generator;
use crate::operation::Quorum;
use crate::seed::substream;
use calendar::Calendar;
use conflict::Conflict;
use counter::Counter;
use keys::Keys;
use lock::Locks;
use nondeterministic::Nondeterministic;
use queue::Queue;
use text::{Locked, Merged};
use traffic::{Object, Traffic};
use transactions::{Holds, Transactions, Transfers};

/// A workload in words, for help and docs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub description: &'static str,
    /// The checkers that judge it.
    pub checkers: &'static [&'static str],
    /// Its parameters, with the defaults.
    pub parameters: Parameters,
}

/// All workloads.
pub fn catalogue() -> Vec<Description> {
    Kind::ALL
        .into_iter()
        .map(|kind| Description {
            name: kind.name(),
            description: kind.description(),
            checkers: kind.checkers(),
            parameters: Parameters::default().resolved(kind),
        })
        .collect()
}

/// A workload made ready for a run.
pub struct Workload {
    /// Which one.
    pub kind: Kind,
    /// All parameters, defaults filled in.
    pub parameters: Parameters,
    /// Its operations, without end and without pace: wrap it in [`crate::generator::Rate`] or
    /// [`crate::generator::Stagger`], and [`crate::generator::TimeLimit`].
    pub main: Box<dyn Generator>,
    /// The keys in use, shared with `main`.
    keys: Keys,
}

impl Workload {
    /// The workload of this kind. The same parameters and seed (the run's own; a named sub-stream
    /// is taken from it) give the same operations.
    ///
    /// # Errors
    /// If a parameter has an impossible value.
    pub fn new(kind: Kind, parameters: &Parameters, seed: u64) -> Result<Self, ParameterError> {
        parameters.validate(kind)?;
        let parameters = parameters.resolved(kind);
        let keys = match kind {
            Kind::Calendar => Keys::named(
                parameters.keys(),
                parameters.writes_per_key(),
                calendar::slot,
            ),
            Kind::ListAppend | Kind::RwRegister => Keys::named(
                parameters.keys(),
                parameters.writes_per_key(),
                transactions::key,
            ),
            _ => Keys::new(parameters.keys(), parameters.writes_per_key()),
        };
        let main = main(kind, &parameters, keys.clone(), substream(seed, "workload"));
        Ok(Self {
            kind,
            parameters,
            main,
            keys,
        })
    }

    /// One read of every key that any operation was generated for so far, each repeated until it
    /// succeeds or was tried often enough. To be made after the main phase has ended.
    pub fn final_reads(&self) -> FinalReads {
        match self.kind {
            Kind::ListAppend | Kind::RwRegister => {
                FinalReads::in_transactions(&self.keys.touched())
            }
            Kind::Bank => FinalReads::of_everything(),
            // Who holds a lock is told by whom it was given to.
            Kind::Lock => FinalReads::new(Vec::new()),
            _ => FinalReads::new(self.keys.touched()),
        }
    }

    /// What ends a run when the main phase is over: of queues, everything that is left is taken out,
    /// by threads spread over replicas 1 to `nodes`; of all else [`Self::final_reads`], asking so many
    /// replicas.
    pub fn last_operations(&self, nodes: u16, quorum: Quorum) -> Box<dyn Generator> {
        match self.kind {
            Kind::Queue => Box::new(Drains::new(self.keys.touched(), nodes)),
            _ => Box::new(self.final_reads().with_quorum(quorum)),
        }
    }

    /// What replicas 1 to `nodes` hold of every key that any operation was generated for so far.
    /// To be asked after the final reads.
    pub fn inspections(&self, nodes: u16) -> Inspections {
        Inspections::new(nodes, self.keys.touched())
    }
}

/// The main generator of a workload, given all its parameters.
fn main(kind: Kind, parameters: &Parameters, keys: Keys, seed: u64) -> Box<dyn Generator> {
    let traffic = |object| Traffic::new(object, parameters, keys.clone(), seed);
    match kind {
        Kind::Register => Box::new(traffic(Object::Register)),
        Kind::Set => Box::new(traffic(Object::Set)),
        Kind::Append | Kind::Bootstrap | Kind::Upgrade => Box::new(traffic(Object::List)),
        Kind::Session => Box::new(traffic(match parameters.data.unwrap_or_default() {
            Data::List => Object::List,
            Data::Register => Object::Register,
        })),
        Kind::Conflict => Box::new(Conflict::new(parameters, keys, seed)),
        Kind::Counter => Box::new(Counter::new(parameters, keys, seed)),
        Kind::Nondeterministic => Box::new(Nondeterministic::new(parameters, keys, seed)),
        Kind::Text => match parameters.editing.unwrap_or_default() {
            Editing::Crdt => Box::new(Merged::new(parameters, keys, seed)),
            Editing::Lock => Box::new(Locked::new(parameters, keys, seed)),
        },
        Kind::Calendar => Box::new(Calendar::new(parameters, keys, seed)),
        Kind::ListAppend => Box::new(Transactions::new(Holds::Lists, parameters, keys, seed)),
        Kind::RwRegister => Box::new(Transactions::new(Holds::Registers, parameters, keys, seed)),
        Kind::Bank => Box::new(Transfers::new(parameters, keys, seed)),
        Kind::Lock => Box::new(Locks::new(parameters, keys, seed)),
        Kind::Queue => Box::new(Queue::new(parameters, keys, seed)),
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("kind", &self.kind)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
