//! Messages to peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::metrics::Metrics;
use crate::core::{Message, NodeId};

/// Messages that wait for one peer; what comes beyond is dropped.
const QUEUE_MAX: usize = 4_096;
/// Messages in one request.
const BATCH_MAX: usize = 512;
/// How long a peer may take to answer one request; then it is taken for lost.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where messages to each peer go in.
pub(super) type Links = BTreeMap<NodeId, Sender<Message>>;

/// Starts one task a peer.
pub(super) fn connect(
    id: NodeId,
    peers: &BTreeMap<NodeId, String>,
    metrics: &Arc<Metrics>,
) -> Result<Links, reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .http1_only()
        .build()?;
    let mut links = Links::new();
    for (peer, address) in peers {
        let base = if address.contains("://") {
            address.trim_end_matches('/').to_owned()
        } else {
            format!("http://{address}")
        };
        let (sender, messages) = channel(QUEUE_MAX);
        let url = format!("{base}/internal/messages");
        tokio::spawn(deliver(id, client.clone(), url, messages, metrics.clone()));
        links.insert(*peer, sender);
    }
    Ok(links)
}

/// Sends what comes, one request after the other so that order is kept.
async fn deliver(
    id: NodeId,
    client: reqwest::Client,
    url: String,
    mut messages: Receiver<Message>,
    metrics: Arc<Metrics>,
) {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let count = batch.len() as u64;
        let Ok(body) = postcard::to_stdvec(&(id, &batch)) else {
            continue;
        };
        batch.clear();
        let answer = client.post(&url).body(body).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            metrics.messages_sent.inc_by(count);
            continue;
        }
        // What has gathered meanwhile is as stale as what was lost; replicas send anew.
        while messages.try_recv().is_ok() {
            metrics.messages_dropped.inc();
        }
        metrics.messages_dropped.inc_by(count);
    }
}
