//! Crashes at a named point in the code of the store: the node is told where to end, and does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nemesis::{CrashPoint, Node, Proof};
use reference_cluster::server::{self, ENDING_AT};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::fault::{Locked, all, locks, restart};
use super::process::log_tail;

/// A node that does not pass the point for so long is told to forget it.
const PASSED_WITHIN: Duration = Duration::from_secs(4);
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

fn at(point: CrashPoint) -> server::CrashPoint {
    match point {
        CrashPoint::BeforeFsync => server::CrashPoint::BeforeFsync,
        CrashPoint::BeforeReply => server::CrashPoint::BeforeReply,
        CrashPoint::BeforeApply => server::CrashPoint::BeforeApply,
    }
}

/// Asks a node to do something to itself.
pub(super) async fn ask(
    http: &reqwest::Client,
    address: SocketAddr,
    fault: &str,
    body: &serde_json::Value,
) -> Result<String, String> {
    let sent = http
        .post(format!("http://{address}/v1/fault/{fault}"))
        .timeout(ANSWER_WITHIN)
        .body(body.to_string())
        .send();
    let answer = sent.await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if status.is_success() {
        Ok(text)
    } else {
        Err(format!("{status}: {text}"))
    }
}

/// Tells the nodes where to end, and waits until they have.
pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    id: u32,
    nodes: &[Node],
    point: CrashPoint,
) -> Proof {
    let mut locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let mut told = Vec::new();
    for Locked { slot, lifecycle } in &mut locked {
        let (node, address) = (slot.node, slot.target.get());
        let (Some(process), Some(address)) = (&lifecycle.process, address) else {
            told.push(Err(format!("n{node} is not running, so it cannot end")));
            continue;
        };
        process.expect_end(true);
        let body = json!({ "at": at(point) });
        let answer = ask(http, address, "crash", &body).await;
        // It may have ended before it could answer.
        told.push(match answer {
            Err(why) if process.state().is_some() => {
                process.expect_end(false);
                Err(format!("n{node} cannot be told where to end: {why}"))
            }
            _ => Ok((Arc::clone(process), address)),
        });
    }
    let deadline = Instant::now() + PASSED_WITHIN;
    let mut each = Vec::new();
    for (Locked { slot, lifecycle }, told) in locked.iter_mut().zip(told) {
        let node = slot.node;
        let (process, address) = match told {
            Ok(told) => told,
            Err(why) => {
                each.push(Err(why));
                continue;
            }
        };
        let ended = timeout_at(deadline, process.ended()).await;
        let ended = match ended {
            Ok(status) => Some(status),
            Err(_) => match ask(http, address, "crash", &json!({ "at": null })).await {
                // It passed the point just now.
                Err(_) => timeout_at(deadline + ANSWER_WITHIN, process.ended())
                    .await
                    .ok(),
                Ok(_) => None,
            },
        };
        let Some(status) = ended else {
            process.expect_end(false);
            each.push(Err(format!(
                "n{node} has not passed {} in {PASSED_WITHIN:?}",
                point.name()
            )));
            continue;
        };
        lifecycle.process = None;
        lifecycle.down_for.insert(id);
        slot.target.set(None);
        let line = format!("{ENDING_AT}{}", point.name());
        each.push(if log_tail(&slot.launch.log).contains(&line) {
            Ok(format!(
                "n{node} ended itself at {} ({status})",
                point.name()
            ))
        } else {
            Err(format!(
                "n{node} ended ({status}), but not at {}",
                point.name()
            ))
        });
    }
    all(each)
}

/// Starts them again.
pub(super) async fn heal(
    cluster: &Arc<Cluster>,
    _http: &reqwest::Client,
    id: u32,
    nodes: &[Node],
) -> Proof {
    match locks(cluster, nodes).await {
        Ok(locked) => restart(cluster, locked, id).await,
        Err(unknown) => Proof::NotSeen(unknown),
    }
}
