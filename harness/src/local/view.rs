//! What the nodes say of themselves, asked directly: the administrator's path is not part of the
//! network under test.

use std::net::SocketAddr;
use std::time::Duration;

use nemesis::{Node, NodeView, View};
use reference_cluster::core::Status as Said;
use tokio::task::JoinSet;

use crate::stores::recipe::Status;

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Asks all nodes of the reference store at once. Those that are down or do not answer in time have
/// no role.
pub(crate) async fn poll(http: &reqwest::Client, nodes: &[(Node, Option<SocketAddr>)]) -> View {
    poll_by(http, &reference(), nodes).await
}

/// How nodes of the reference store are asked what they are.
pub(crate) fn reference() -> Status {
    Status::new(|http, node, at| Box::pin(async move { ask(&http, node, at).await }))
}

/// The same of any store that says what its nodes are.
pub(crate) async fn poll_by(
    http: &reqwest::Client,
    status: &Status,
    nodes: &[(Node, Option<SocketAddr>)],
) -> View {
    let mut asked = JoinSet::new();
    for (node, address) in nodes.iter().copied() {
        let asking = address.map(|address| status.ask(http.clone(), node, address));
        asked.spawn(async move {
            let said = match asking {
                Some(asking) => asking.await,
                None => None,
            };
            said.unwrap_or_else(|| NodeView::silent(node))
        });
    }
    let mut nodes = asked.join_all().await;
    nodes.sort_by_key(|view| view.node);
    View {
        nodes,
        ..View::default()
    }
}

pub(crate) async fn status(http: &reqwest::Client, address: SocketAddr) -> Option<Said> {
    let request = http
        .get(format!("http://{address}/v1/status"))
        .timeout(ANSWER_WITHIN);
    let response = request.send().await.ok()?.error_for_status().ok()?;
    serde_json::from_slice(&response.bytes().await.ok()?).ok()
}

async fn ask(http: &reqwest::Client, node: Node, address: SocketAddr) -> Option<NodeView> {
    let status = status(http, address).await?;
    Some(NodeView {
        node,
        role: Some(status.role.name().to_owned()),
        epoch: status.epoch,
        last_index: status.last.index,
        leader: status.leader.map(|leader| leader.0),
        pending: status.pending,
        storage_version: status.storage_version,
        stopped: status.stopped.is_some(),
        standbys: status.standbys.iter().map(|standby| standby.0).collect(),
        host: None,
    })
}
