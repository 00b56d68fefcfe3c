//! The parameters of workloads, as an experiment file gives them.

use serde::{Deserialize, Serialize};

use super::Kind;

/// What an experiment may set; what is absent takes the workload's default. Each workload has some
/// of them, and refuses the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// How many keys are in use at a time, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// Share of reads among all operations, 0 to 1; of reads for their own sake, where a client
    /// reads before it writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_fraction: Option<f64>,
    /// Share of compare-and-sets among all operations, 0 to 1 (`register`), or among those that
    /// are no reads (`nondeterministic`, where all of them fail).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cas_fraction: Option<f64>,
    /// How many writes a key takes before a fresh key replaces it, from 1. It keeps lists and
    /// sets, and the search of the linearizability checker, short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_key: Option<u32>,
    /// Ask every read of the main phase of the node's own state, stale or not. The final reads
    /// never are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_reads: Option<bool>,
    /// What a key holds (`session`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Whether clients read before they write, and replace all that they saw (`conflict`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<bool>,
    /// Share of decrements among all changes, 0 to 1 (`counter`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decrement_fraction: Option<f64>,
    /// How authors keep out of each other's way (`text`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub editing: Option<Editing>,
    /// Share of removals among all edits, 0 to 1 (`text` with `editing: crdt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_fraction: Option<f64>,
    /// Share of those clients who give up a slot instead of booking one, half of them for
    /// another, 0 to 1 (`calendar`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_fraction: Option<f64>,
    /// How many reads and writes a transaction has at most, 1 to 100 (`list-append`, `rw-register`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn_length: Option<u32>,
    /// How long a lock is held, ms, up to an hour (`lock`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u32>,
}

/// What the keys of a session hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Lists, appended to: a read shows everything that came before.
    #[default]
    List,
    /// Registers, overwritten: for modes without lists.
    Register,
}

/// How the authors of a document keep out of each other's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Editing {
    /// Not at all: the store merges their edits.
    Crdt,
    /// Only who has the document's lock edits it.
    #[default]
    Lock,
}

/// A parameter that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ParameterError {
    /// Which.
    pub field: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Parameters {
    /// What a workload has, all of it set.
    pub fn defaults(kind: Kind) -> Self {
        let common = |keys, read_fraction, writes_per_key| Self {
            keys: Some(keys),
            read_fraction: Some(read_fraction),
            writes_per_key: Some(writes_per_key),
            local_reads: Some(false),
            ..Self::default()
        };
        match kind {
            Kind::Register => Self {
                cas_fraction: Some(0.1),
                ..common(20, 0.5, 50)
            },
            Kind::Set => common(10, 0.05, 500),
            Kind::Append | Kind::Upgrade => common(20, 0.5, 60),
            Kind::Session => Self {
                data: Some(Data::default()),
                ..common(5, 0.6, 60)
            },
            Kind::Conflict => Self {
                resolve: Some(true),
                ..common(3, 0.3, 100)
            },
            Kind::Counter => Self {
                decrement_fraction: Some(0.3),
                ..common(5, 0.4, 500)
            },
            // Long lists and few reads: most of what a replica is given came before it joined.
            Kind::Bootstrap => common(5, 0.2, 200),
            Kind::Nondeterministic => Self {
                cas_fraction: Some(0.1),
                ..common(10, 0.3, 60)
            },
            Kind::Text => Self {
                editing: Some(Editing::default()),
                remove_fraction: Some(0.1),
                ..common(3, 0.3, 100)
            },
            Kind::Calendar => Self {
                cancel_fraction: Some(0.3),
                ..common(40, 0.2, 100)
            },
            // The read fraction is that of transactions that write nothing.
            Kind::ListAppend | Kind::RwRegister => Self {
                txn_length: Some(4),
                ..common(5, 0.3, 32)
            },
            Kind::Lock => Self {
                keys: Some(3),
                writes_per_key: Some(1000),
                hold_ms: Some(200),
                ..Self::default()
            },
            Kind::Bank => Self {
                read_fraction: Some(0.5),
                local_reads: Some(false),
                ..Self::default()
            },
        }
    }

    /// All parameters set that the workload has: those given, and its defaults for the others.
    #[must_use]
    pub fn resolved(&self, kind: Kind) -> Self {
        let mut defaults = Self::defaults(kind);
        if self.editing == Some(Editing::Crdt) {
            defaults.editing = self.editing;
        }
        if kind == Kind::Text && defaults.editing == Some(Editing::Lock) {
            // Who edits under a lock only ever inserts.
            defaults.remove_fraction = None;
        }
        Self {
            keys: self.keys.or(defaults.keys),
            read_fraction: self.read_fraction.or(defaults.read_fraction),
            cas_fraction: self.cas_fraction.or(defaults.cas_fraction),
            writes_per_key: self.writes_per_key.or(defaults.writes_per_key),
            local_reads: self.local_reads.or(defaults.local_reads),
            data: self.data.or(defaults.data),
            resolve: self.resolve.or(defaults.resolve),
            decrement_fraction: self.decrement_fraction.or(defaults.decrement_fraction),
            editing: self.editing.or(defaults.editing),
            remove_fraction: self.remove_fraction.or(defaults.remove_fraction),
            cancel_fraction: self.cancel_fraction.or(defaults.cancel_fraction),
            txn_length: self.txn_length.or(defaults.txn_length),
            hold_ms: self.hold_ms.or(defaults.hold_ms),
        }
    }

    /// Whether a workload of this kind can run with them.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub fn validate(&self, kind: Kind) -> Result<(), ParameterError> {
        self.validate_presence(kind)?;
        let fail = |field, message: String| Err(ParameterError { field, message });
        let all = self.resolved(kind);
        if all.keys() == 0 {
            return fail("keys", "0; expected at least 1".to_owned());
        }
        if all.keys() > MOST_KEYS {
            return fail(
                "keys",
                format!("{}; expected at most {MOST_KEYS}", all.keys()),
            );
        }
        if all.writes_per_key() == 0 {
            return fail("writes_per_key", "0; expected at least 1".to_owned());
        }
        if let Some(length) = all.txn_length.filter(|n| !(1..=100).contains(n)) {
            return fail("txn_length", format!("{length}; expected 1 to 100"));
        }
        if let Some(hold) = all.hold_ms.filter(|ms| *ms > 3_600_000) {
            return fail("hold_ms", format!("{hold}; expected at most 3600000"));
        }
        for (field, share) in [
            ("read_fraction", all.read_fraction),
            ("cas_fraction", all.cas_fraction),
            ("decrement_fraction", all.decrement_fraction),
            ("remove_fraction", all.remove_fraction),
            ("cancel_fraction", all.cancel_fraction),
        ] {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return fail(field, format!("{share}; expected a share from 0 to 1"));
            }
        }
        if kind == Kind::Register && all.read_fraction() + all.cas_fraction() > 1.0 {
            let message = "with read_fraction it makes more than 1; expected at most 1 in all";
            return fail("cas_fraction", message.to_owned());
        }
        Ok(())
    }

    /// Refuses what the workload does not have.
    fn validate_presence(&self, kind: Kind) -> Result<(), ParameterError> {
        let had = Self::defaults(kind).given();
        let given = self.given();
        let strange = given.iter().find(|field| !had.contains(field));
        if let Some(&field) = strange {
            let message = format!(
                "{kind} has no such parameter; expected one of {}",
                had.join(", ")
            );
            return Err(ParameterError { field, message });
        }
        let locked = self.resolved(kind).editing == Some(Editing::Lock);
        if locked && self.remove_fraction.is_some() {
            return Err(ParameterError {
                field: "remove_fraction",
                message: "expected nothing: authors remove only with editing: crdt".to_owned(),
            });
        }
        Ok(())
    }

    /// The names of those that are set.
    pub fn given(&self) -> Vec<&'static str> {
        let all = [
            ("keys", self.keys.is_some()),
            ("read_fraction", self.read_fraction.is_some()),
            ("cas_fraction", self.cas_fraction.is_some()),
            ("writes_per_key", self.writes_per_key.is_some()),
            ("local_reads", self.local_reads.is_some()),
            ("data", self.data.is_some()),
            ("resolve", self.resolve.is_some()),
            ("decrement_fraction", self.decrement_fraction.is_some()),
            ("editing", self.editing.is_some()),
            ("remove_fraction", self.remove_fraction.is_some()),
            ("cancel_fraction", self.cancel_fraction.is_some()),
            ("txn_length", self.txn_length.is_some()),
            ("hold_ms", self.hold_ms.is_some()),
        ];
        let set = all.into_iter().filter(|(_, set)| *set);
        set.map(|(name, _)| name).collect()
    }

    /// The value, or 1 if not [resolved](Self::resolved).
    pub fn keys(&self) -> u32 {
        self.keys.unwrap_or(1)
    }

    /// The value, or 0 if the workload has none.
    pub fn read_fraction(&self) -> f64 {
        self.read_fraction.unwrap_or(0.0)
    }

    /// The value, or 0 if the workload has none.
    pub fn cas_fraction(&self) -> f64 {
        self.cas_fraction.unwrap_or(0.0)
    }

    /// The value, or no limit if not [resolved](Self::resolved).
    pub fn writes_per_key(&self) -> u32 {
        self.writes_per_key.unwrap_or(u32::MAX)
    }

    /// The value, or false if not [resolved](Self::resolved).
    pub fn local_reads(&self) -> bool {
        self.local_reads.unwrap_or(false)
    }

    /// The value, or false if the workload has none.
    pub fn resolve(&self) -> bool {
        self.resolve.unwrap_or(false)
    }

    /// The value, or 0 if the workload has none.
    pub fn decrement_fraction(&self) -> f64 {
        self.decrement_fraction.unwrap_or(0.0)
    }

    /// The value, or 0 if the workload has none.
    pub fn remove_fraction(&self) -> f64 {
        self.remove_fraction.unwrap_or(0.0)
    }

    /// The value, or 0 if the workload has none.
    pub fn cancel_fraction(&self) -> f64 {
        self.cancel_fraction.unwrap_or(0.0)
    }

    /// The value, or 0 if the workload has none.
    pub fn hold_ms(&self) -> u32 {
        self.hold_ms.unwrap_or(0)
    }

    /// The value, or 1 if the workload has none.
    pub fn txn_length(&self) -> u32 {
        self.txn_length.unwrap_or(1)
    }
}

/// Every key in use takes memory, and a read at the end.
const MOST_KEYS: u32 = 1_000_000;
