//! Lets Services lead nowhere, and back.
//!
//! A requirement that no pod meets is added to a Service's selector, so its endpoints go and its
//! name resolves to nothing. Taking the selector away would not do: then nobody keeps the endpoints
//! any more, and they stay. What was added names the run, and taking it away restores what was.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::Error;
use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::NO_ENDPOINTS;

/// The run that has taken the endpoints of a Service.
fn taken_by(service: &Service) -> Option<&str> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    selector.get(NO_ENDPOINTS).map(String::as_str)
}

fn services(cluster: &Cluster, namespace: &str) -> Api<Service> {
    Api::namespaced(cluster.client.clone(), namespace)
}

async fn list(
    cluster: &Cluster,
    namespace: &str,
    params: &ListParams,
) -> Result<Vec<Service>, Error> {
    let found = services(cluster, namespace)
        .list(params)
        .await
        .map_err(|error| Error::of(format!("listing Services in {namespace}"), &error))?;
    Ok(found.items)
}

async fn require(cluster: &Cluster, namespace: &str, name: &str, run: Value) -> Result<(), Error> {
    let patch = json!({"spec": {"selector": {NO_ENDPOINTS: run}}});
    match services(cluster, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(Error::of(format!("changing Service {name}"), &error)),
    }
}

/// The Services that lead to pods of this selector.
///
/// # Errors
/// If they cannot be listed.
pub async fn leading_to(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
) -> Result<Vec<String>, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace)
        .list(&ListParams::default().labels(selector))
        .await
        .map_err(|error| Error::of(format!("listing pods in {namespace}"), &error))?;
    let labels: Vec<_> = pods
        .items
        .into_iter()
        .filter_map(|pod| pod.metadata.labels)
        .collect();
    let found = list(cluster, namespace, &ListParams::default()).await?;
    let leads = |service: &Service| labels.iter().any(|labels| meets(service, labels));
    let found = found.into_iter().filter(leads);
    Ok(found.filter_map(|service| service.metadata.name).collect())
}

/// Whether a pod with these labels is what a Service selects. One without a selector selects none.
fn meets(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        let met = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        !selector.is_empty() && selector.iter().all(met)
    })
}

/// Lets a Service lead nowhere.
///
/// # Errors
/// If the server refuses.
pub async fn take(cluster: &Cluster, namespace: &str, name: &str, run: &str) -> Result<(), Error> {
    require(cluster, namespace, name, run.into()).await
}

/// The Services of a namespace that runs have let lead nowhere, each with the run.
///
/// # Errors
/// If they cannot be listed.
pub async fn taken(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>, Error> {
    let named = |service: Service| {
        let run = taken_by(&service)?.to_owned();
        Some((service.metadata.name?, run))
    };
    let found = list(cluster, namespace, &ListParams::default()).await?;
    Ok(found.into_iter().filter_map(named).collect())
}

/// Undoes [`take`].
///
/// # Errors
/// If the server refuses.
pub async fn give_back(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Error> {
    require(cluster, namespace, name, Value::Null).await
}

/// How many addresses a Service leads to, ready or not.
///
/// # Errors
/// If the server does not say.
pub async fn count(cluster: &Cluster, namespace: &str, name: &str) -> Result<usize, Error> {
    let endpoints = Api::<Endpoints>::namespaced(cluster.client.clone(), namespace);
    let found = endpoints
        .get_opt(name)
        .await
        .map_err(|error| Error::of(format!("looking at the endpoints of {name}"), &error))?;
    let subsets = found.and_then(|found| found.subsets).unwrap_or_default();
    let addresses = subsets.iter().map(|subset| {
        let ready = subset.addresses.as_ref().map_or(0, Vec::len);
        ready + subset.not_ready_addresses.as_ref().map_or(0, Vec::len)
    });
    Ok(addresses.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_was_taken_meets_no_pod() {
        let service = |selector: Value| -> Service {
            let spec = json!({"selector": selector});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        let labels = BTreeMap::from([("app".to_owned(), "s".to_owned())]);
        assert!(meets(&service(json!({"app": "s"})), &labels));
        assert!(!meets(&service(json!({"app": "t"})), &labels));
        assert!(!meets(&service(json!({})), &labels));
        let taken = service(json!({"app": "s", NO_ENDPOINTS: "run-1"}));
        assert!(!meets(&taken, &labels));
        assert_eq!(taken_by(&taken), Some("run-1"));
    }
}
