//! Keeps what the nodes write, across the pods that they run in.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

/// Before the next attempt, when there is nothing to follow.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the log of a pod and of its successors of the same name into a file, until dropped.
pub(super) async fn follow(pods: Api<Pod>, pod: String, container: String, file: PathBuf) {
    let params = LogParams {
        container: Some(container),
        follow: true,
        // Each line's time comes first: what was written already is told by it.
        timestamps: true,
        ..LogParams::default()
    };
    let mut last = String::new();
    loop {
        if let Ok(stream) = pods.log_stream(&pod, &params).await
            && let Ok(mut out) = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&file)
                .await
        {
            let mut lines = stream.lines();
            while let Ok(Some(line)) = lines.try_next().await {
                let Some((time, text)) = line.split_once(' ') else {
                    continue;
                };
                if time <= last.as_str() {
                    continue;
                }
                time.clone_into(&mut last);
                if out.write_all(format!("{text}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
            let _ = out.flush().await;
        }
        sleep(PAUSE).await;
    }
}
