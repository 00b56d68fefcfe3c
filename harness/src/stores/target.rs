//! What a run asks of a store, whichever it is.

use std::path::PathBuf;
use std::time::Duration;

use checkers::ConsistencyModel;
use nemesis::Capabilities;

use super::recipe::Status;
use super::{AnyClient, ClientError, Recipe};

/// A store of another maker, as it is configured and used.
pub trait Target {
    /// The mode that it is run in, in a few words.
    fn mode(&self) -> String;

    /// Whether clients of it have this operation.
    fn has(&self, operation: &str) -> bool;

    /// The client that speaks to it. What programs write to standard error goes into the folder
    /// `logs`; an operation that takes longer than `timeout` has an unknown outcome.
    ///
    /// # Errors
    /// If none can be made.
    fn client(&self, logs: Option<PathBuf>, timeout: Duration) -> Result<AnyClient, ClientError>;

    /// Refuses options that cannot be, wherever its nodes are.
    ///
    /// # Errors
    /// What would be right.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// What it promises of transactions, run like this. Of what nothing is known of is held to the
    /// most, until told.
    fn promises(&self) -> ConsistencyModel {
        ConsistencyModel::StrongSerializable
    }

    /// How its nodes are started, if that is known.
    fn recipe(&self) -> Option<&'static Recipe> {
        None
    }

    /// Why its nodes do not say who leads, if they do not.
    fn without_roles(&self) -> Option<&'static str> {
        None
    }

    /// The same of nodes that run already, here or on Kubernetes.
    fn without_roles_elsewhere(&self) -> Option<&'static str> {
        self.without_roles()
    }

    /// The variable of the environment that holds the password of its clients, if they have one.
    fn password_env(&self) -> Option<&str> {
        None
    }

    /// Refuses options that the programs found on this machine cannot do.
    ///
    /// # Errors
    /// What would be right.
    fn startable(&self) -> Result<(), String> {
        Ok(())
    }

    /// What can be done to its nodes, of what can be done to processes here.
    fn capabilities(&self, here: Capabilities) -> Capabilities {
        match self.recipe() {
            Some(recipe) => recipe.capabilities(here),
            None => here,
        }
    }

    /// Whether one of its nodes leads, and says so to whoever looks after it here.
    fn has_leader(&self) -> bool {
        self.recipe().is_some()
    }

    /// How nodes that run already are asked what they are, if they say it to anybody.
    fn status(&self) -> Option<Status> {
        Some(self.recipe()?.status())
    }
}
