//! What the planned faults need under the nodes' data.

use std::time::Duration;

use nemesis::mechanism::namespace::{self, EnterError};
use nemesis::{Fault, package};
use workloads::substream;

use super::{EXT4, OF_LAYER};
use crate::experiment::{Experiment, On};

/// What has to be under the nodes' data; by default nothing, which costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A layer that can lose, refuse and delay.
    pub layer: bool,
    /// Instead of it, a file system of its own that can be shut down.
    pub ext4: bool,
    /// Copies that are this old, at least: the youngest and the oldest that is asked for.
    pub copies: Option<(Duration, Duration)>,
    /// The seed of what is left to chance.
    pub seed: u64,
}

impl Needs {
    /// What the faults of an experiment need; nothing in simulation.
    pub fn of(experiment: &Experiment) -> Self {
        if experiment.substrate == On::Sim {
            return Self::default();
        }
        let mut needs = Self {
            seed: substream(experiment.seed.unwrap_or_default(), "disks"),
            ..Self::default()
        };
        let capabilities = experiment.capabilities();
        let faults = match &experiment.faults.schedule {
            Some(program) => program.faults(experiment.nodes, &capabilities),
            None => {
                let names = &experiment.faults.packages;
                // Impossible packages have been refused before.
                let packages = package::select(names, experiment.nodes, &capabilities);
                let packages = packages.unwrap_or_default().into_iter();
                packages.flat_map(nemesis::Package::faults).collect()
            }
        };
        let program = experiment.faults.schedule.as_ref();
        needs.ext4 = program.is_some_and(|program| program.demands(EXT4));
        for fault in faults {
            if capabilities.has(fault.kind()) {
                needs.add(&fault);
            }
        }
        // One or the other is under a directory.
        needs.layer &= !needs.ext4;
        needs
    }

    fn add(&mut self, fault: &Fault) {
        self.layer |= OF_LAYER.contains(&fault.kind());
        if let Fault::Rollback { age } = fault {
            let (least, most) = self.copies.unwrap_or((*age, *age));
            self.copies = Some((least.min(*age), most.max(*age)));
            // Under one, a copy is of one instant. Without, it is taken when nothing is written.
            self.layer |= nemesis::mechanism::disk::available().is_ok();
        }
    }

    /// Gives this program mounts of its own if a layer is to be put anywhere. To be called before
    /// there is any other thread; again it does nothing.
    ///
    /// # Errors
    /// When the machine does not allow it.
    pub fn enter(&self) -> Result<(), EnterError> {
        if self.layer || self.ext4 {
            namespace::enter(namespace::Needs { network: false })
        } else {
            Ok(())
        }
    }
}
