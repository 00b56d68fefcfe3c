//! What this machine can do: every fault on every substrate, by which mechanism, and why not.
//!
//! * [`mechanisms`]: the ways of doing faults. [`render`]: the answer as a table, or as data.

pub mod mechanisms;
pub mod render;

use nemesis::FaultKind;
use serde::Serialize;

use crate::experiment::{Experiment, On};
use mechanisms::MECHANISMS;

/// The substrates, in the order of columns.
pub const SUBSTRATES: [On; 3] = [On::Sim, On::Local, On::Netns];

/// Everything that is known of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The machine.
    pub machine: Machine,
    /// The mechanisms, in their order.
    pub mechanisms: Vec<MechanismHere>,
    /// The faults, in the order of [`FaultKind::ALL`].
    pub faults: Vec<FaultHere>,
}

/// The machine, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Name and release of its kernel.
    pub kernel: String,
    /// `root`, or `user 1000`.
    pub user: String,
}

/// A mechanism on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MechanismHere {
    /// Its name.
    pub name: &'static str,
    /// How it works.
    pub what: &'static str,
    /// Whether it works here.
    pub available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A fault on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultHere {
    /// Which.
    pub fault: FaultKind,
    /// What it does.
    pub what: &'static str,
    /// On each substrate, in the order of [`SUBSTRATES`].
    pub on: Vec<FaultOn>,
}

/// A fault on one substrate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultOn {
    /// Where.
    pub substrate: On,
    /// By what it would be done, first choice first; empty if it cannot be done.
    pub mechanisms: Vec<&'static str>,
    /// Why it cannot be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Looks at this machine. Changes nothing on it.
pub fn diagnose() -> Diagnosis {
    let mechanisms: Vec<_> = MECHANISMS
        .iter()
        .map(|mechanism| {
            let available = (mechanism.available)();
            MechanismHere {
                name: mechanism.name,
                what: mechanism.what,
                available: available.is_ok(),
                reason: available.err(),
            }
        })
        .collect();
    let capabilities = SUBSTRATES.map(|substrate| (substrate, here(substrate)));
    let faults = FaultKind::ALL.map(|fault| FaultHere {
        fault,
        what: fault.summary(),
        on: capabilities
            .iter()
            .map(|(substrate, capabilities)| {
                let reason = capabilities.obstacle(fault).map(str::to_owned);
                let mechanisms = MECHANISMS
                    .iter()
                    .zip(&mechanisms)
                    .filter(|(does, here)| {
                        here.available
                            && does.on.contains(substrate)
                            && does.faults.contains(&fault)
                    })
                    .map(|(does, _)| does.name);
                FaultOn {
                    substrate: *substrate,
                    mechanisms: match reason {
                        None => mechanisms.collect(),
                        Some(_) => Vec::new(),
                    },
                    reason,
                }
            })
            .collect(),
    });
    let system = rustix::system::uname();
    let user = rustix::process::geteuid();
    Diagnosis {
        machine: Machine {
            kernel: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            user: if user.is_root() {
                "root".to_owned()
            } else {
                format!("user {}", user.as_raw())
            },
        },
        mechanisms,
        faults: faults.into(),
    }
}

/// What can be done on a substrate, whatever the mode of replication.
fn here(substrate: On) -> nemesis::Capabilities {
    Experiment {
        substrate,
        ..Experiment::default()
    }
    .capabilities_of_substrate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_names_its_mechanism_and_what_cannot_its_reason() {
        let diagnosis = diagnose();
        assert_eq!(diagnosis.faults.len(), FaultKind::ALL.len());
        for fault in &diagnosis.faults {
            for on in &fault.on {
                let name = fault.fault.name();
                assert_eq!(
                    on.mechanisms.is_empty(),
                    on.reason.is_some(),
                    "{name} on {}: {on:?}",
                    on.substrate
                );
                assert_ne!(on.reason.as_deref(), Some(""), "{name} on {}", on.substrate);
            }
        }
        let kill = &diagnosis.faults[0].on;
        assert!(
            kill.iter().take(2).all(|on| on.reason.is_none()),
            "{kill:?}"
        );
    }
}
