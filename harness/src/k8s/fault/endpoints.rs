//! Lets the Services that lead to the store's pods lead nowhere: by their names neither clients nor
//! nodes find the store. Connections that stand already stay.

use std::sync::Arc;
use std::time::Duration;

use k8s::endpoints;
use nemesis::Proof;
use tokio::time::{Instant, sleep};

use super::super::substrate::Inner;
use super::{PAUSE, patiently};

/// How long endpoints may take to follow.
const FOLLOW_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn inject(inner: &Arc<Inner>) -> Proof {
    match take(inner).await {
        Ok(seen) => Proof::Seen(seen),
        Err(why) => Proof::NotSeen(why),
    }
}

async fn take(inner: &Inner) -> Result<String, String> {
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let said = |error: k8s::Error| error.to_string();
    let services = endpoints::leading_to(cluster, namespace, &inner.selector)
        .await
        .map_err(said)?;
    if services.is_empty() {
        return Err("no Service leads to the store".to_owned());
    }
    for service in &services {
        endpoints::take(cluster, namespace, service, &inner.run)
            .await
            .map_err(said)?;
    }
    lead(inner, &services, false).await?;
    Ok(format!("{} lead nowhere", services.join(", ")))
}

/// Waits until all these Services lead somewhere, or nowhere.
async fn lead(inner: &Inner, services: &[String], somewhere: bool) -> Result<(), String> {
    let deadline = Instant::now() + FOLLOW_WITHIN;
    for service in services {
        loop {
            let count = endpoints::count(&inner.cluster, &inner.namespace, service).await;
            match count {
                Ok(count) if (count > 0) == somewhere => break,
                Ok(count) if Instant::now() >= deadline => {
                    return Err(format!(
                        "{service} leads to {count} addresses after {FOLLOW_WITHIN:?}"
                    ));
                }
                Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
                _ => sleep(PAUSE).await,
            }
        }
    }
    Ok(())
}

pub(super) async fn heal(inner: &Arc<Inner>) -> Proof {
    let (cluster, namespace) = (&inner.cluster, &inner.namespace);
    let back = patiently(|| async {
        for (service, run) in endpoints::taken(cluster, namespace).await? {
            if run == inner.run {
                endpoints::give_back(cluster, namespace, &service).await?;
            }
        }
        endpoints::leading_to(cluster, namespace, &inner.selector).await
    });
    let services = match back.await {
        Ok(services) => services,
        Err(why) => return Proof::NotSeen(why),
    };
    match lead(inner, &services, true).await {
        Ok(()) => Proof::Seen(format!("{} lead to the store again", services.join(", "))),
        Err(why) => Proof::NotSeen(why),
    }
}
