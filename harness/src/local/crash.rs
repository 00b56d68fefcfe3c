//! Crashes at a named point in the code of the store.

use std::sync::Arc;

use nemesis::{CrashPoint, Node, Proof};

use super::cluster::Cluster;

pub(super) async fn inject(
    _cluster: &Arc<Cluster>,
    _http: &reqwest::Client,
    _id: u32,
    _nodes: &[Node],
    _point: CrashPoint,
) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}

pub(super) async fn heal(
    _cluster: &Arc<Cluster>,
    _http: &reqwest::Client,
    _id: u32,
    _nodes: &[Node],
) -> Proof {
    Proof::NotSeen("it is not known here".to_owned())
}
