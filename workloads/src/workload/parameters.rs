//! The parameters of workloads, as an experiment file gives them.

use serde::{Deserialize, Serialize};

use super::Kind;

/// What an experiment may set; what is absent takes the workload's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// How many keys are in use at a time, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<u32>,
    /// Share of reads among all operations, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_fraction: Option<f64>,
    /// Share of compare-and-sets among all operations, 0 to 1; `register` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cas_fraction: Option<f64>,
    /// How many writes, appends or adds a key takes before a fresh key replaces it, from 1. It
    /// keeps lists and sets, and the search of the linearizability checker, short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_key: Option<u32>,
    /// Ask every read of the main phase of the node's own state, stale or not. The final reads
    /// never are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_reads: Option<bool>,
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
    /// All parameters set: those given, and the workload's defaults for the others.
    #[must_use]
    pub fn resolved(&self, kind: Kind) -> Self {
        let (keys, read, cas, writes) = match kind {
            Kind::Register => (20, 0.5, 0.1, 50),
            Kind::Set => (10, 0.05, 0.0, 500),
            Kind::Append => (20, 0.5, 0.0, 60),
        };
        Self {
            keys: self.keys.or(Some(keys)),
            read_fraction: self.read_fraction.or(Some(read)),
            cas_fraction: self.cas_fraction.or(Some(cas)),
            writes_per_key: self.writes_per_key.or(Some(writes)),
            local_reads: self.local_reads.or(Some(false)),
        }
    }

    /// Whether a workload of this kind can run with them.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub fn validate(&self, kind: Kind) -> Result<(), ParameterError> {
        let fail = |field, message: String| Err(ParameterError { field, message });
        let fraction = |field, value: f64| {
            if (0.0..=1.0).contains(&value) {
                return Ok(());
            }
            fail(field, format!("{value}; expected a share from 0 to 1"))
        };
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
        fraction("read_fraction", all.read_fraction())?;
        fraction("cas_fraction", all.cas_fraction())?;
        if kind != Kind::Register && all.cas_fraction() > 0.0 {
            let message = format!("{kind} has no compare-and-set; expected 0 or nothing");
            return fail("cas_fraction", message);
        }
        if all.read_fraction() + all.cas_fraction() > 1.0 {
            let message = "with read_fraction it makes more than 1; expected at most 1 in all";
            return fail("cas_fraction", message.to_owned());
        }
        Ok(())
    }

    /// The value, or 1 if not [resolved](Self::resolved).
    pub fn keys(&self) -> u32 {
        self.keys.unwrap_or(1)
    }

    /// The value, or 0 if not [resolved](Self::resolved).
    pub fn read_fraction(&self) -> f64 {
        self.read_fraction.unwrap_or(0.0)
    }

    /// The value, or 0 if not [resolved](Self::resolved).
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
}

/// Every key in use takes memory, and a read at the end.
const MOST_KEYS: u32 = 1_000_000;
