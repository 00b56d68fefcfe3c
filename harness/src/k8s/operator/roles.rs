//! Keeps the label of each node's role right, also when no test runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s::discover::member;
use k8s::names::{APP, APP_LABEL, INSTANCE, PORT};
use k8s::{Cluster, Member, cluster, roles};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use nemesis::Node;

use crate::k8s::roles_of;
use crate::local::view;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at all stores again and again, and never ends. Nodes are asked at their own addresses,
/// which only those within the cluster can.
pub(super) async fn keep(cluster: &Cluster, namespace: Option<&str>) {
    if !cluster.inside {
        tracing::info!("labels of roles are kept only by an operator that runs in the cluster");
        return std::future::pending().await;
    }
    let http = reqwest::Client::builder().no_proxy().build();
    let Ok(http) = http else {
        return std::future::pending().await;
    };
    loop {
        if let Err(error) = look(cluster, namespace, &http).await {
            tracing::debug!("roles: {error}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(
    cluster: &Cluster,
    namespace: Option<&str>,
    http: &reqwest::Client,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let of_stores = ListParams::default().labels(&format!("{APP_LABEL}={APP}"));
    let mut stores: BTreeMap<(String, String), Vec<Member>> = BTreeMap::new();
    for pod in pods.list(&of_stores).await? {
        let store = pod.labels().get(INSTANCE).cloned();
        let (Some(store), Some(namespace), Some(member)) = (store, pod.namespace(), member(&pod))
        else {
            continue;
        };
        stores.entry((namespace, store)).or_default().push(member);
    }
    let mut opted_in: BTreeMap<String, bool> = BTreeMap::new();
    for ((namespace, _), members) in &stores {
        if !opted_in.contains_key(namespace) {
            let found = Api::<Namespace>::all(cluster.client.clone());
            let found = found.get(namespace).await?;
            let allowed = cluster::opted_in(&found) && !cluster::is_system(namespace);
            opted_in.insert(namespace.clone(), allowed);
        }
        if opted_in.get(namespace) == Some(&true) {
            label(cluster, namespace, members, http).await;
        }
    }
    Ok(())
}

async fn label(cluster: &Cluster, namespace: &str, members: &[Member], http: &reqwest::Client) {
    let address = |member: &Member| {
        let ip: Option<IpAddr> = member.ip.as_ref().and_then(|ip| ip.parse().ok());
        ip.map(|ip| SocketAddr::new(ip, PORT))
    };
    let addresses: Vec<(Node, Option<SocketAddr>)> =
        members.iter().map(|m| (m.node, address(m))).collect();
    let view = view::poll(http, &addresses).await;
    for (node, role) in roles_of(&view) {
        if let Some(member) = members.iter().find(|member| member.node == node)
            && let Err(error) = roles::label(cluster, namespace, member, role.as_deref()).await
        {
            tracing::debug!("{error}");
        }
    }
}
