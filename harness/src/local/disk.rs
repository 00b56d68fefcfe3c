//! Faults of disks, and of what is stored on them.

use std::sync::Arc;

use nemesis::{Action, Proof};

use super::cluster::Cluster;

pub(super) async fn inject(
    _cluster: &Arc<Cluster>,
    _id: u32,
    _action: &Action,
    _via: Option<&str>,
) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}

pub(super) async fn heal(_cluster: &Arc<Cluster>, _id: u32, _action: &Action) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}
