//! Replicas with only part of a processor.

use std::sync::Arc;

use nemesis::{Node, Proof};

use super::cluster::Cluster;

pub(super) async fn inject(
    _cluster: &Arc<Cluster>,
    _id: u32,
    _nodes: &[Node],
    _percent: u8,
    _via: Option<&str>,
) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}

pub(super) async fn heal(_cluster: &Arc<Cluster>, _id: u32, _nodes: &[Node]) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}
