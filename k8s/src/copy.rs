//! What a store that is there is configured with, for one that is to be like it.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};

use crate::Error;
use crate::cluster::Cluster;
use crate::names::selector;
use crate::rollout;

/// The configuration of a store, as text, and the number of its nodes.
///
/// # Errors
/// If there is no such store, or the server refuses.
pub async fn configured(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<(String, u16), Error> {
    let missing = || Error::NoStore {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    };
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let found = maps
        .list(&ListParams::default().labels(&selector(name)))
        .await
        .map_err(|error| Error::of(format!("listing ConfigMaps in {namespace}"), &error))?;
    let wanted = format!("{name}-config");
    let map = found
        .items
        .into_iter()
        .find(|map| map.metadata.name.as_ref() == Some(&wanted))
        .ok_or_else(missing)?;
    let text = map.data.unwrap_or_default().remove("config.yaml");
    let nodes = rollout::current(cluster, namespace, name).await?.nodes;
    Ok((text.ok_or_else(missing)?, nodes))
}
