//! The substrate `external`: a store that somebody else has started. Clients speak to its nodes
//! where they listen; nothing is started or ended, and nothing is hurt but by what its owner gives
//! commands for ([`hooks`]).
//!
//! What they speak is the store's ([`crate::stores`]).

mod asking;
pub mod hooks;
mod own_keys;
mod substrate;

use std::collections::BTreeMap;

use nemesis::{Capabilities, FaultKind};
use serde::{Deserialize, Serialize};

pub(crate) use self::asking::{Asking, without_roles};
use self::hooks::Hook;
#[cfg(feature = "k8s")]
pub(crate) use self::own_keys::OwnKeys;
pub use self::substrate::{ExternalError, ExternalSubstrate};
use crate::experiment::Impossible;

/// Where a store runs already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct External {
    /// Where each node listens: `host:port`. The first is n1.
    pub nodes: Vec<String>,
    /// The faults that its owner allows, and the commands that do them: `kill`, `pause`, `partition`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<FaultKind, Hook>,
}

impl External {
    /// Refuses what cannot be, before anything is sent.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn validate(&self) -> Result<(), Impossible> {
        let impossible = |field: &str, message: String| {
            Err(Impossible {
                field: format!("external.{field}"),
                message,
            })
        };
        if self.nodes.is_empty() {
            return impossible(
                "nodes",
                "expected where the nodes listen, e.g. 10.0.0.1:2379 (--nodes host:port,…)"
                    .to_owned(),
            );
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let port = node.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return impossible(
                    &format!("nodes[{i}]"),
                    format!("expected host:port, not {node:?}"),
                );
            }
        }
        for (kind, hook) in &self.faults {
            let name = format!("faults.{}", kind.name());
            if !hooks::KINDS.contains(kind) {
                let known = hooks::KINDS.map(FaultKind::name).join(", ");
                return impossible(&name, format!("expected one of {known}"));
            }
            if let Some(strange) = hook.strange(*kind) {
                return impossible(&name, strange);
            }
        }
        Ok(())
    }

    /// What its owner gives commands for, and else nothing: it is not ours.
    pub fn capabilities(&self) -> Capabilities {
        let why = "the store is not this harness's own: only what external.faults has commands for \
                   is done to it";
        let barred = FaultKind::ALL
            .into_iter()
            .filter(|kind| !self.faults.contains_key(kind));
        barred.fold(Capabilities::all(), |all, kind| all.without(kind, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(external: &External) -> String {
        let Impossible { field, message } = external.validate().unwrap_err();
        format!("{field}: {message}")
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_be_right() {
        let with = |nodes: &[&str]| External {
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            ..External::default()
        };
        assert_eq!(
            with(&["127.0.0.1:1", "[::1]:2", "db.example:3"]).validate(),
            Ok(())
        );
        assert!(refused(&with(&[])).contains("--nodes host:port"));
        for bad in ["127.0.0.1", ":80", "host:http", "host:99999"] {
            let said = refused(&with(&["127.0.0.1:1", bad]));
            assert!(
                said.starts_with("external.nodes[1]: expected host:port"),
                "{said}"
            );
        }
    }
}
