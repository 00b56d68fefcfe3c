//! The workloads by name: what each does, and what judges it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Parameters;

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
    /// Read what oneself and others wrote, through whichever replica one is given.
    Session,
    /// Write few hot keys concurrently.
    Conflict,
    /// Increment and decrement counters.
    Counter,
    /// Append densely to few keys, while replicas join and return.
    Bootstrap,
    /// Let the store come up with what is written.
    Nondeterministic,
    /// Append while nodes go over to another version.
    Upgrade,
    /// Edit documents together.
    Text,
    /// Book slots on devices that are away now and then.
    Calendar,
    /// Transactions that append to lists and read them.
    ListAppend,
    /// Transactions that overwrite registers and read them.
    RwRegister,
    /// Move money between accounts.
    Bank,
    /// Acquire locks, hold them, and give them back.
    Lock,
}

impl Kind {
    /// All of them, in the order of help and docs.
    pub const ALL: [Self; 15] = [
        Self::Register,
        Self::Set,
        Self::Append,
        Self::Session,
        Self::Conflict,
        Self::Counter,
        Self::Bootstrap,
        Self::Nondeterministic,
        Self::Upgrade,
        Self::Text,
        Self::Calendar,
        Self::ListAppend,
        Self::RwRegister,
        Self::Bank,
        Self::Lock,
    ];

    /// The name used on the command line and in experiments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Set => "set",
            Self::Append => "append",
            Self::Session => "session",
            Self::Conflict => "conflict",
            Self::Counter => "counter",
            Self::Bootstrap => "bootstrap",
            Self::Nondeterministic => "nondeterministic",
            Self::Upgrade => "upgrade",
            Self::Text => "text",
            Self::Calendar => "calendar",
            Self::ListAppend => "list-append",
            Self::RwRegister => "rw-register",
            Self::Bank => "bank",
            Self::Lock => "lock",
        }
    }

    /// The names of all, for messages and help: `register, set, …`.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
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
            Self::Session => {
                "each client reads what it and others wrote, through whichever replica it is given"
            }
            Self::Conflict => {
                "write few hot keys concurrently, with readers that resolve conflicts or without"
            }
            Self::Counter => "increment and decrement counters, and read their sums",
            Self::Bootstrap => {
                "append densely to few keys while a replica joins and another returns, to find \
                 holes in what they were given"
            }
            Self::Nondeterministic => {
                "append what the store comes up with: the time, a random number, the next of a \
                 sequence, a row of a trigger"
            }
            Self::Upgrade => "append while the nodes go over to another version, one by one",
            Self::Text => {
                "several authors edit documents together, with a lock for each or merged as a CRDT"
            }
            Self::Calendar => {
                "book, move and cancel slots on devices that work while they are away and \
                 synchronise later"
            }
            Self::ListAppend => {
                "transactions that append unique elements to a few lists and read them: what they \
                 show tells the isolation that they got"
            }
            Self::RwRegister => {
                "transactions that overwrite a few registers with unique values and read them"
            }
            Self::Bank => {
                "transfers between accounts, and reads of all of them: no money comes or goes"
            }
            Self::Lock => "acquire locks, hold them for a while, and give them back",
        }
    }

    /// The operations that it issues, by name.
    pub fn operations(self, parameters: &Parameters) -> Vec<&'static str> {
        let parameters = parameters.resolved(self);
        let swaps = parameters.cas_fraction.is_some_and(|share| share > 0.0);
        match self {
            Self::Register if swaps => vec!["read", "write", "cas"],
            Self::Register | Self::Conflict => vec!["read", "write"],
            Self::Append | Self::Bootstrap | Self::Upgrade => vec!["read", "append"],
            Self::Set => vec!["read", "add"],
            Self::Counter => vec!["read", "increment"],
            Self::Session => vec!["read", "write", "append"],
            Self::Nondeterministic => vec!["read", "generate"],
            Self::Text => vec!["read", "insert", "remove", "acquire", "release"],
            Self::Calendar => vec!["read", "put", "remove"],
            Self::ListAppend | Self::RwRegister => vec!["txn"],
            Self::Bank => vec!["read", "transfer"],
            Self::Lock => vec!["acquire", "release"],
        }
    }

    /// Whether its operations are transactions, which the reference store does not have.
    pub fn is_transactional(self) -> bool {
        matches!(self, Self::ListAppend | Self::RwRegister | Self::Bank)
    }

    /// The checkers that judge it, as far as the mode and the parameters give them something to
    /// judge.
    pub fn checkers(self) -> &'static [&'static str] {
        match self {
            Self::Register | Self::Append => &[
                "linearizable",
                "lost-writes",
                "stale-reads",
                "split-brain",
                "convergence",
                "availability",
            ],
            Self::Set => &[
                "lost-writes",
                "stale-reads",
                "split-brain",
                "convergence",
                "availability",
            ],
            Self::Session => &["sessions", "convergence", "lost-writes", "availability"],
            Self::Conflict | Self::Calendar => {
                &["siblings", "lost-writes", "convergence", "availability"]
            }
            Self::Counter => &["counter", "convergence", "availability"],
            Self::Bootstrap => &["lost-writes", "convergence", "stale-reads", "availability"],
            Self::Nondeterministic => &["convergence", "lost-writes"],
            Self::Upgrade => &["convergence", "lost-writes", "availability"],
            Self::Text => &[
                "lost-writes",
                "convergence",
                "mutual-exclusion",
                "availability",
            ],
            Self::ListAppend => &["list-append", "availability"],
            Self::RwRegister => &["rw-register", "availability"],
            Self::Bank => &["bank", "availability"],
            Self::Lock => &[
                "mutual-exclusion",
                "linearizable",
                "convergence",
                "availability",
            ],
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
#[error("`{name}` is no workload; expected one of {}", Kind::names())]
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
