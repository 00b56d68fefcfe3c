//! Has pods of a StatefulSet run another version, from the highest ordinal down, as its controller
//! does a rolling update; or the same version anew.
//!
//! A StatefulSet knows two revisions of its template, and `partition` says where one ends: pods of
//! lower ordinals keep the old one even when they are made anew meanwhile. So a store is mixed for
//! as long as is wanted, and a killed pod comes back as what it was. That only works for all nodes
//! from one on; a node in the middle alone cannot be upgraded.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Container;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::discover::members;
use crate::{Error, Member};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Before the number of the storage format on a node's command line.
const STORAGE_FLAG: &str = "--storage-version=";
/// The annotation of a template that only makes it another one.
const RESTARTED: &str = "quorate.dev/restarted";

/// What pods run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The image of the first container.
    pub image: String,
    /// The storage format that the reference store is told to write; `None` is its own default, and
    /// what other stores have.
    pub storage: Option<u16>,
}

/// A template: what pods that are made from now on run, from which node on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// What they run.
    pub version: Version,
    /// The first node that takes part; those before keep what they had.
    pub from: u16,
    /// How many nodes there are to be.
    pub nodes: u16,
}

fn sets(cluster: &Cluster, namespace: &str) -> Api<StatefulSet> {
    Api::namespaced(cluster.client.clone(), namespace)
}

async fn get(cluster: &Cluster, namespace: &str, name: &str) -> Result<StatefulSet, Error> {
    sets(cluster, namespace)
        .get(name)
        .await
        .map_err(|error| Error::of(format!("looking at StatefulSet {name}"), &error))
}

async fn patch(cluster: &Cluster, namespace: &str, name: &str, spec: Value) -> Result<(), Error> {
    // Strategic: containers are told apart by name, and those not named stay.
    let patch = Patch::Strategic(json!({"spec": spec}));
    sets(cluster, namespace)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
        .map_err(|error| Error::of(format!("changing StatefulSet {name}"), &error))
}

fn first(set: &StatefulSet) -> Option<&Container> {
    node_of(set, None)
}

/// The container of this name, or the first.
pub(crate) fn node_of<'a>(set: &'a StatefulSet, name: Option<&str>) -> Option<&'a Container> {
    let pod = set.spec.template.spec.as_ref()?;
    let mut containers = pod.containers.iter();
    containers.find(|container| name.is_none_or(|name| container.name == name))
}

fn storage_of(container: &Container) -> Option<u16> {
    let args = container.args.as_deref().unwrap_or_default();
    let number = args.iter().find_map(|arg| arg.strip_prefix(STORAGE_FLAG))?;
    number.parse().ok()
}

/// The arguments with this storage format.
fn with_storage(args: &[String], storage: Option<u16>) -> Vec<String> {
    let others = args.iter().filter(|arg| !arg.starts_with(STORAGE_FLAG));
    let flag = storage.map(|storage| format!("{STORAGE_FLAG}{storage}"));
    others.cloned().chain(flag).collect()
}

/// What the template of a StatefulSet says.
///
/// # Errors
/// If the server refuses, or there is none.
pub async fn current(cluster: &Cluster, namespace: &str, name: &str) -> Result<Rollout, Error> {
    Ok(said(&get(cluster, namespace, name).await?))
}

/// The same of the one StatefulSet that pods of this selector belong to.
///
/// # Errors
/// If the server refuses, or there is none, or more than one.
pub async fn selected(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
) -> Result<Rollout, Error> {
    let set = selected_set(cluster, namespace, selector).await?;
    current(cluster, namespace, &set).await
}

/// The name of the one StatefulSet that pods of this selector belong to.
///
/// # Errors
/// If the server refuses, or there is none, or more than one.
pub async fn selected_set(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
) -> Result<String, Error> {
    let found = members(cluster, namespace, selector).await?;
    let sets: BTreeSet<&str> = found.iter().map(|member| member.set.as_str()).collect();
    match sets.first() {
        Some(set) if sets.len() == 1 => Ok((*set).to_owned()),
        _ => Err(Error::NotOneSet {
            selector: selector.to_owned(),
            namespace: namespace.to_owned(),
            found: sets.len(),
        }),
    }
}

fn said(set: &StatefulSet) -> Rollout {
    let strategy = set.spec.update_strategy.as_ref();
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    let container = first(set);
    let node = |number: i32| u16::try_from(number).unwrap_or(u16::MAX);
    Rollout {
        version: Version {
            image: container
                .and_then(|container| container.image.clone())
                .unwrap_or_default(),
            storage: container.and_then(storage_of),
        },
        from: node(partition).saturating_add(1),
        nodes: node(set.spec.replicas.unwrap_or(1)),
    }
}

/// Lets all nodes from this one on run this version in this container (the first, if none is named);
/// the others keep what they run. The controller
/// makes their pods anew, the highest first, each once the one before is ready. See [`rolled`].
///
/// Upgrading n3, then n2, then n1 of three is `from` 3, 2, 1 with the new version; rolling back is
/// the same with the old one.
///
/// # Errors
/// If the server refuses, or there is no such StatefulSet.
pub async fn set_version(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    from: u16,
    version: &Version,
    container: Option<&str>,
) -> Result<(), Error> {
    let set = get(cluster, namespace, name).await?;
    let Some(container) = node_of(&set, container) else {
        return Err(Error::Refused {
            doing: format!("changing StatefulSet {name}"),
            message: "its template has no such container".to_owned(),
        });
    };
    let mut changed = json!({"name": container.name, "image": version.image});
    if storage_of(container) != version.storage {
        let args = container.args.as_deref().unwrap_or_default();
        changed["args"] = with_storage(args, version.storage).into();
    }
    let spec = json!({
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"partition": from.saturating_sub(1)},
        },
        "template": {"spec": {"containers": [changed]}},
    });
    patch(cluster, namespace, name, spec).await
}

/// Lets the controller make all pods anew, one by one, as `kubectl rollout restart` does. The
/// stamp must be another than the last time.
///
/// # Errors
/// If the server refuses, or there is no such StatefulSet.
pub async fn restart(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    stamp: &str,
) -> Result<(), Error> {
    let spec = json!({
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "template": {"metadata": {"annotations": {RESTARTED: stamp}}},
    });
    patch(cluster, namespace, name, spec).await
}

/// Waits until all nodes from this one on are ready in pods of the newest template, and the others
/// are ready; all of them then.
///
/// # Errors
/// [`Error::NotReady`] when the time is up, with what holds it up.
pub async fn rolled(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    selector: &str,
    from: u16,
    within: Duration,
) -> Result<Vec<Member>, Error> {
    let deadline = Instant::now() + within;
    loop {
        let error = match look(cluster, namespace, name, selector, from).await {
            Ok((found, wanted, behind)) if behind.is_empty() && found.len() == wanted => {
                return Ok(found);
            }
            Ok((found, wanted, behind)) => Error::NotReady {
                name: name.to_owned(),
                ready: found.iter().filter(|member| member.ready).count(),
                wanted,
                after: within,
                why: if behind.is_empty() {
                    format!("there are {} pods", found.len())
                } else {
                    behind.join("; ")
                },
            },
            // The API server may be away for a moment.
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// The pods there are, how many there should be, and what is missing.
async fn look(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    selector: &str,
    from: u16,
) -> Result<(Vec<Member>, usize, Vec<String>), Error> {
    let set = get(cluster, namespace, name).await?;
    let found = members(cluster, namespace, selector).await?;
    let wanted = set.spec.replicas.unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    let status = set.status.unwrap_or_default();
    if status.observed_generation < set.metadata.generation {
        let behind = vec!["the controller has not seen the new template yet".to_owned()];
        return Ok((found, wanted, behind));
    }
    let behind = found
        .iter()
        .filter_map(|member| behind(member, from, status.update_revision.as_deref()))
        .collect();
    Ok((found, wanted, behind))
}

/// What a pod lacks of being rolled.
fn behind(member: &Member, from: u16, newest: Option<&str>) -> Option<String> {
    let pod = &member.pod;
    if member.ending {
        return Some(format!("{pod} is ending"));
    }
    if member.node >= from && member.revision.as_deref() != newest {
        return Some(format!("{pod} is of the old template"));
    }
    match &member.trouble {
        Some(trouble) => Some(format!("{pod} {trouble}")),
        None => (!member.ready).then(|| format!("{pod} is not ready")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_format_is_one_of_the_arguments() {
        let args = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let plain = args("node --seed=1");
        let two = with_storage(&plain, Some(2));
        assert_eq!(two, args("node --seed=1 --storage-version=2"));
        assert_eq!(
            with_storage(&two, Some(3)).last().unwrap(),
            "--storage-version=3"
        );
        assert_eq!(with_storage(&two, None), plain);
        let container = Container {
            args: Some(two),
            ..Container::default()
        };
        assert_eq!(storage_of(&container), Some(2));
        assert_eq!(storage_of(&Container::default()), None);
    }

    #[test]
    fn only_nodes_that_take_part_have_to_be_new() {
        let member = |node, revision: &str, ready| Member {
            node,
            set: "s".to_owned(),
            pod: format!("s-{}", node - 1),
            uid: "u".to_owned(),
            ready,
            ending: false,
            restarts: 0,
            on: None,
            ip: None,
            role: None,
            container: "node".to_owned(),
            image: "i".to_owned(),
            revision: Some(revision.to_owned()),
            trouble: None,
        };
        let newest = Some("new");
        assert_eq!(behind(&member(1, "old", true), 2, newest), None);
        assert_eq!(behind(&member(2, "new", true), 2, newest), None);
        assert!(behind(&member(2, "old", true), 2, newest).is_some());
        assert!(behind(&member(1, "old", false), 2, newest).is_some());
        let ending = Member {
            ending: true,
            ..member(3, "new", true)
        };
        assert!(behind(&ending, 2, newest).is_some());
    }
}
