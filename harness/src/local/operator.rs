//! What an operator does: asks nodes for something, directly, and starts them with a newer program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nemesis::action::Request;
use nemesis::{Node, Proof};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::view;
use crate::admin::admin;

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// When it has failed.
const WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// The part of an answer that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<String>,
    message: Option<String>,
    leader: Option<String>,
}

/// Asks for these things, one after the other; who is not the leader says who is.
pub(super) async fn ask(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    asked: Node,
    todo: &[Request],
) -> Proof {
    if todo.is_empty() {
        return Proof::Seen("nothing to undo: it stays as it is".to_owned());
    }
    let deadline = Instant::now() + WITHIN;
    let mut asked = asked;
    let mut done = Vec::new();
    for &request in todo {
        let mut last = "it was not answered".to_owned();
        loop {
            if let Request::Transfer(to) = request
                && view::poll(http, &cluster.addresses()).await.leader() == Some(to)
            {
                break;
            }
            if Instant::now() >= deadline {
                return Proof::NotSeen(last);
            }
            match once(cluster, http, asked, request).await {
                Ok(answer) => match (answer.error.as_deref(), request) {
                    // Handing over has only begun; that it is over is seen in what nodes say.
                    (None, Request::Transfer(_)) => {
                        last = format!("n{asked} hands over, but not yet");
                    }
                    (None, _) => break,
                    (Some(error), _) => {
                        let message = answer.message.as_deref().unwrap_or(error);
                        last = format!("n{asked} says: {message}");
                        if matches!(error, "unsupported" | "bad-input" | "not-found") {
                            return Proof::NotSeen(last);
                        }
                        let leader = answer.leader.as_deref();
                        let leader = leader.and_then(nemesis::selector::parse_node);
                        asked = leader.unwrap_or_else(|| next(cluster, asked, error, request));
                    }
                },
                Err(why) => {
                    last = why;
                    asked = next(cluster, asked, "not-leader", request);
                }
            }
            sleep(RETRY).await;
        }
        done.push(request.to_string());
    }
    Proof::Seen(done.join("; "))
}

/// Whom to ask after this node, which named nobody.
fn next(cluster: &Cluster, asked: Node, error: &str, request: Request) -> Node {
    if error != "not-leader" || matches!(request, Request::TakeHome(_) | Request::Snapshot(_)) {
        return asked;
    }
    let nodes: Vec<Node> = cluster.addresses().iter().map(|(node, _)| *node).collect();
    let place = nodes.iter().position(|&node| node == asked).unwrap_or(0);
    nodes
        .get((place + 1) % nodes.len())
        .copied()
        .unwrap_or(asked)
}

async fn once(
    cluster: &Cluster,
    http: &reqwest::Client,
    asked: Node,
    request: Request,
) -> Result<Answer, String> {
    let slot = cluster.slot(asked);
    let address: SocketAddr = slot
        .and_then(|slot| slot.target.get())
        .ok_or_else(|| format!("n{asked} is down"))?;
    let body = serde_json::to_vec(&admin(request)).map_err(|error| error.to_string())?;
    let sent = http
        .post(format!("http://{address}/v1/admin"))
        .timeout(ANSWER_WITHIN)
        .body(body)
        .send();
    let unclear = |error: reqwest::Error| format!("n{asked} did not answer: {error}");
    let bytes = sent
        .await
        .map_err(unclear)?
        .bytes()
        .await
        .map_err(unclear)?;
    serde_json::from_slice(&bytes).map_err(|_| format!("n{asked} answered what is no JSON"))
}

/// Why a node cannot read what it finds, in its own words, if so.
pub(super) async fn refusal(http: &reqwest::Client, address: SocketAddr) -> Option<String> {
    let status = view::status(http, address).await?;
    let why = status.stopped.map(|why| why.to_string());
    why.filter(|why| why.contains("storage format"))
}

/// The version of the storage format that a node says it writes.
pub(super) async fn storage_version(http: &reqwest::Client, address: SocketAddr) -> Option<u16> {
    let view = view::poll(http, &[(0, Some(address))]).await;
    let node = view.nodes.into_iter().find(|node| node.role.is_some())?;
    Some(node.storage_version)
}
