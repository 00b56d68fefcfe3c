//! What the clients of a run do, and what is judged by it.

pub mod final_reads;
pub mod keys;
pub mod parameters;
mod traffic;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use final_reads::FinalReads;
pub use parameters::{ParameterError, Parameters};

use crate::generator::Generator;
use crate::seed::substream;
use keys::Keys;
use traffic::Traffic;

/// The workloads by name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Read, write and compare-and-set registers.
    #[default]
    Register,
    /// Add elements to sets.
    Set,
    /// Append elements to lists.
    Append,
}

impl Kind {
    /// All of them, in the order of help and docs.
    pub const ALL: [Self; 3] = [Self::Register, Self::Set, Self::Append];

    /// The name used on the command line and in experiments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Set => "set",
            Self::Append => "append",
        }
    }

    /// One line for help and docs.
    pub fn description(self) -> &'static str {
        match self {
            Self::Register => {
                "read, write and compare-and-set registers under many keys; every value written \
                 is unique"
            }
            Self::Set => "add unique elements to sets, and read them all at the end",
            Self::Append => {
                "append unique elements to lists under many keys and read them: a read shows the \
                 whole order of the writes"
            }
        }
    }

    /// The checkers that judge it, unless the experiment says otherwise.
    pub fn checkers(self) -> &'static [&'static str] {
        match self {
            Self::Register | Self::Append => &[
                "linearizable",
                "lost-writes",
                "stale-reads",
                "split-brain",
                "availability",
            ],
            Self::Set => &["lost-writes", "stale-reads", "split-brain", "availability"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no workload; expected register, set or append")]
pub struct KindError {
    /// What was written.
    pub name: String,
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(name: &str) -> Result<Self, KindError> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| KindError {
            name: name.to_owned(),
        })
    }
}

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
        let keys = Keys::new(parameters.keys(), parameters.writes_per_key());
        let traffic = Traffic::new(kind, &parameters, keys.clone(), substream(seed, "workload"));
        Ok(Self {
            kind,
            parameters,
            main: Box::new(traffic),
            keys,
        })
    }

    /// One read of every key that any operation was generated for so far, each repeated until it
    /// succeeds or was tried often enough. To be made after the main phase has ended.
    pub fn final_reads(&self) -> FinalReads {
        FinalReads::new(self.keys.touched())
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
