//! Applies a store, waits until it is ready or says why it is not, and removes it.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, PersistentVolumeClaim, Pod, Service,
};
use kube::Resource;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch,
    PatchParams,
};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, is_system};
use crate::discover::{Trouble, members};
use crate::error::is_missing;
use crate::names::{IMAGE, MANAGED_BY, MANAGER, MODE, selector};
use crate::{Error, Member, Store};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long what is removed may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// How long trouble may last that may pass by itself.
const PATIENCE: Duration = Duration::from_secs(45);
/// The same of a quota, which the pods of a store that is going away may still use up.
const QUOTA_PATIENCE: Duration = Duration::from_secs(15);

/// Makes the namespace, with the label that allows faults, unless it is there. One that is there
/// must carry that label: somebody else's namespace is not opened to faults in passing.
///
/// # Errors
/// See [`Cluster::allowed`]; if the server refuses.
pub async fn namespace(cluster: &Cluster, name: &str, image: &str) -> Result<(), Error> {
    if is_system(name) {
        return Err(Error::System(name.to_owned()));
    }
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    match cluster.allowed(name).await {
        Err(Error::NoNamespace(_)) => {
            let wanted = crate::kustomize::namespace(name);
            let params = PatchParams::apply(MANAGER).force();
            namespaces
                .patch(name, &params, &Patch::Apply(&wanted))
                .await
                .map_err(|error| Error::of(format!("making namespace {name}"), &error))?;
        }
        other => drop(other?),
    }
    let image = json!({"metadata": {"annotations": {IMAGE: image}}});
    namespaces
        .patch(name, &PatchParams::default(), &Patch::Merge(&image))
        .await
        .map_err(|error| Error::of(format!("annotating namespace {name}"), &error))?;
    Ok(())
}

/// Applies all objects of a store; server-side, so that fields which others have set stay theirs.
///
/// # Errors
/// If the server refuses one.
pub async fn apply(cluster: &Cluster, namespace: &str, store: &Store) -> Result<(), Error> {
    store.validate()?;
    apply_objects(cluster, namespace, &store.objects(cluster.features)).await
}

/// Applies objects in this order, server-side.
///
/// # Errors
/// If the server refuses one.
pub async fn apply_objects(
    cluster: &Cluster,
    namespace: &str,
    objects: &[Value],
) -> Result<(), Error> {
    let params = PatchParams::apply(MANAGER).force();
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let name = text(&object["metadata"]["name"]);
        dynamic(cluster, Some(namespace), &version, &kind)
            .patch(&name, &params, &Patch::Apply(object))
            .await
            .map_err(|error| Error::of(format!("applying {kind} {name}"), &error))?;
    }
    Ok(())
}

/// Objects of any kind, in a namespace or of the cluster.
pub(crate) fn dynamic(
    cluster: &Cluster,
    namespace: Option<&str>,
    version: &str,
    kind: &str,
) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let client = cluster.client.clone();
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    }
}

/// Waits until every node is ready in a pod of the newest template.
///
/// # Errors
/// At once where waiting would not help: an image that cannot be had, a node that ends as soon as
/// it is started; else when the time is up, with what holds it up.
pub async fn ready(
    cluster: &Cluster,
    namespace: &str,
    store: &Store,
    within: Duration,
) -> Result<Vec<Member>, Error> {
    let start = Instant::now();
    let wanted = usize::from(store.nodes);
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    loop {
        let error = match look(cluster, namespace, store, &sets).await {
            Ok(Look::Ready(found)) => return Ok(found),
            Ok(Look::Waiting(found)) => {
                let waited = start.elapsed();
                if let Some(error) = hopeless(cluster, namespace, store, &found, waited).await? {
                    return Err(error);
                }
                let why = held_up(cluster, namespace, store, &found).await;
                Error::NotReady {
                    name: store.name.clone(),
                    ready: found.iter().filter(|member| member.ready).count(),
                    wanted,
                    after: within,
                    why,
                }
            }
            // The API server may be away for a moment.
            Err(error) => error,
        };
        if start.elapsed() >= within {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// Waits until so many pods of this selector, all of one StatefulSet, are ready.
///
/// # Errors
/// If that does not come about, with what there is instead.
pub async fn standing(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    wanted: usize,
    within: Duration,
) -> Result<Vec<Member>, Error> {
    let deadline = Instant::now() + within;
    loop {
        let found = members(cluster, namespace, selector).await?;
        let sets: std::collections::BTreeSet<&str> =
            found.iter().map(|member| member.set.as_str()).collect();
        let ready = found.iter().filter(|member| member.ready).count();
        if found.len() == wanted && ready == wanted && sets.len() == 1 {
            return Ok(found);
        }
        // Waiting adds no pods to a StatefulSet that is as large as it is to be.
        if ready == found.len() || Instant::now() >= deadline {
            return Err(Error::NotStanding {
                selector: selector.to_owned(),
                namespace: namespace.to_owned(),
                found: format!(
                    "{} pods, {ready} of them ready, of {} StatefulSets",
                    found.len(),
                    sets.len()
                ),
                wanted,
            });
        }
        sleep(PAUSE).await;
    }
}

enum Look {
    Ready(Vec<Member>),
    /// Those of the newest template, as far as they are there.
    Waiting(Vec<Member>),
}

async fn look(
    cluster: &Cluster,
    namespace: &str,
    store: &Store,
    sets: &Api<StatefulSet>,
) -> Result<Look, Error> {
    let set = sets
        .get(&store.name)
        .await
        .map_err(|error| Error::of(format!("looking at StatefulSet {}", store.name), &error))?;
    let found = members(cluster, namespace, &selector(&store.name)).await?;
    let status = set.status.unwrap_or_default();
    // What the controller says counts only for the template that it has seen.
    if status.observed_generation < set.metadata.generation {
        return Ok(Look::Waiting(Vec::new()));
    }
    let newest = |member: &Member| member.revision == status.update_revision;
    let stuck = |member: &Member| {
        let trouble = member.trouble.as_ref();
        trouble.is_some_and(|trouble| {
            matches!(
                trouble,
                Trouble::Image(_) | Trouble::Crashing(_) | Trouble::Container(_)
            )
        })
    };
    for member in found.iter().filter(|m| !newest(m) && stuck(m)) {
        // The controller replaces one pod at a time and waits until it is ready. After a template
        // that could not run it would wait for ever: one node alone does not become ready.
        crate::pod::delete(cluster, namespace, member, true).await?;
    }
    let all = found.len() == usize::from(store.nodes)
        && found
            .iter()
            .all(|member| newest(member) && member.ready && !member.ending);
    Ok(if all {
        Look::Ready(found)
    } else {
        Look::Waiting(found.into_iter().filter(newest).collect())
    })
}

/// Refuses to turn a store that is there into one that its nodes could not become one by one.
///
/// # Errors
/// [`Error::Other`] if its mode or its number of nodes is another.
pub async fn compatible(cluster: &Cluster, namespace: &str, store: &Store) -> Result<(), Error> {
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    let found = sets
        .get_opt(&store.name)
        .await
        .map_err(|error| Error::of(format!("looking at StatefulSet {}", store.name), &error))?;
    let Some(found) = found else { return Ok(()) };
    let nodes = found.spec.replicas.unwrap_or(1);
    let annotations = found.metadata.annotations.unwrap_or_default();
    let mode = annotations.get(MODE).cloned().unwrap_or_default();
    if mode == store.mode && nodes == i32::from(store.nodes) {
        return Ok(());
    }
    Err(Error::Other {
        name: store.name.clone(),
        namespace: namespace.to_owned(),
        found: format!("mode {mode} with {nodes} nodes"),
    })
}

/// Why waiting would not help.
async fn hopeless(
    cluster: &Cluster,
    namespace: &str,
    store: &Store,
    found: &[Member],
    waited: Duration,
) -> Result<Option<Error>, Error> {
    for member in found {
        match &member.trouble {
            Some(Trouble::Image(why)) => {
                return Ok(Some(Error::Image {
                    pod: member.pod.clone(),
                    image: member.image.clone(),
                    why: why.clone(),
                }));
            }
            // Its peers may not have been there the first time.
            Some(Trouble::Crashing(why)) if member.restarts >= 2 => {
                return Ok(Some(Error::Crashing {
                    pod: member.pod.clone(),
                    why: why.clone(),
                    log: log_tail(cluster, namespace, member, true).await,
                }));
            }
            _ => {}
        }
    }
    if waited >= QUOTA_PATIENCE && found.len() < usize::from(store.nodes) {
        let why = last_event(cluster, namespace, &store.name, Some("FailedCreate")).await;
        if let Some(why) = why.filter(|why| why.contains("exceeded quota")) {
            return Ok(Some(Error::Quota {
                name: store.name.clone(),
                namespace: namespace.to_owned(),
                why,
            }));
        }
    }
    if waited >= PATIENCE
        && found
            .iter()
            .any(|m| matches!(m.trouble, Some(Trouble::Unschedulable(_))))
    {
        return pending_claim(cluster, namespace, store, waited).await;
    }
    Ok(None)
}

async fn pending_claim(
    cluster: &Cluster,
    namespace: &str,
    store: &Store,
    after: Duration,
) -> Result<Option<Error>, Error> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), namespace)
        .list(&ListParams::default().labels(&selector(&store.name)))
        .await
        .map_err(|error| Error::of("listing volume claims", &error))?;
    let pending = claims.items.into_iter().find(|claim| {
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Pending")
    });
    let Some(claim) = pending.and_then(|claim| claim.metadata.name) else {
        return Ok(None);
    };
    let why = last_event(cluster, namespace, &claim, None).await;
    Ok(Some(Error::Volume {
        claim,
        after,
        why: why.unwrap_or_else(|| "no reason given".to_owned()),
    }))
}

/// What holds up those that are not ready, in a few words.
async fn held_up(cluster: &Cluster, namespace: &str, store: &Store, found: &[Member]) -> String {
    if found.len() < usize::from(store.nodes) {
        let refused = last_event(cluster, namespace, &store.name, Some("FailedCreate")).await;
        return refused.unwrap_or_else(|| format!("there are {} pods", found.len()));
    }
    let reasons = found.iter().filter(|member| !member.ready).map(|member| {
        let why: &dyn fmt::Display = match &member.trouble {
            Some(trouble) => trouble,
            None => &"runs, but is not ready",
        };
        format!("{} {why}", member.pod)
    });
    let reasons: Vec<String> = reasons.collect();
    if reasons.is_empty() {
        "the controller is not done with them".to_owned()
    } else {
        reasons.join("; ")
    }
}

/// The newest event about an object of this name, in its own words.
pub async fn last_event(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    reason: Option<&str>,
) -> Option<String> {
    let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let events = Api::<Event>::namespaced(cluster.client.clone(), namespace);
    let mut found = events.list(&about).await.ok()?.items;
    found.retain(|event| reason.is_none_or(|reason| event.reason.as_deref() == Some(reason)));
    found.sort_by_key(|event| event.last_timestamp.clone());
    found.pop()?.message
}

/// The last lines of a pod's log; of the container before this one if `previous`.
pub async fn log_tail(
    cluster: &Cluster,
    namespace: &str,
    member: &Member,
    previous: bool,
) -> String {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let params = |previous| LogParams {
        container: Some(member.container.clone()),
        tail_lines: Some(10),
        previous,
        ..LogParams::default()
    };
    let pod = &member.pod;
    match pods.logs(pod, &params(previous)).await {
        Ok(text) => text,
        Err(_) => pods.logs(pod, &params(false)).await.unwrap_or_default(),
    }
}

/// Removes everything of the store of this name, also its volumes' claims, and waits until no pod
/// of it is left. Its pods are not given time to end: what they hold is thrown away anyway, and
/// kubelets of 1.20 take ten seconds to say that a pod has ended. What is gone already is no error.
/// How many objects there were.
///
/// # Errors
/// If the server refuses, or a pod stays.
pub async fn remove(cluster: &Cluster, namespace: &str, name: &str) -> Result<usize, Error> {
    let labels = ListParams::default().labels(&selector(name));
    let how = DeleteParams::background();
    let mut removed = 0;
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    match sets.delete(name, &how).await {
        Ok(_) => removed += 1,
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(Error::of(format!("deleting StatefulSet {name}"), &error)),
    }
    // One by one: Services cannot be deleted as a collection before 1.23.
    removed += each::<Service>(cluster, namespace, &labels).await?;
    removed += each::<ConfigMap>(cluster, namespace, &labels).await?;
    let budgets = dynamic(
        cluster,
        Some(namespace),
        cluster.features.disruption_budget,
        "PodDisruptionBudget",
    );
    match budgets.delete(name, &DeleteParams::default()).await {
        Ok(_) => removed += 1,
        Err(error) if is_missing(&error) => {}
        Err(error) => {
            return Err(Error::of(
                format!("deleting PodDisruptionBudget {name}"),
                &error,
            ));
        }
    }
    removed += each::<PersistentVolumeClaim>(cluster, namespace, &labels).await?;
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let left = members(cluster, namespace, &selector(name)).await?;
        for member in &left {
            crate::pod::delete(cluster, namespace, member, true).await?;
        }
        let set = sets.get_opt(name).await.ok().flatten();
        let Some(what) = left
            .first()
            .map(|m| m.pod.clone())
            .or_else(|| set.map(|_| name.to_owned()))
        else {
            return Ok(removed);
        };
        if Instant::now() >= deadline {
            let after = GONE_WITHIN;
            return Err(Error::StillThere { what, after });
        }
        sleep(PAUSE).await;
    }
}

async fn each<K>(cluster: &Cluster, namespace: &str, labels: &ListParams) -> Result<usize, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + fmt::Debug,
{
    let api = Api::<K>::namespaced(cluster.client.clone(), namespace);
    let kind = K::kind(&());
    let found = api
        .list(labels)
        .await
        .map_err(|error| Error::of(format!("listing {kind}s"), &error))?;
    let names: Vec<String> = found
        .items
        .into_iter()
        .filter_map(|o| o.meta().name.clone())
        .collect();
    for name in &names {
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(Error::of(format!("deleting {kind} {name}"), &error)),
        }
    }
    Ok(names.len())
}

/// Removes the namespace if `k8s up` made it and nothing runs in it any more; whether it did.
///
/// # Errors
/// If the server refuses.
pub async fn remove_namespace(cluster: &Cluster, name: &str) -> Result<bool, Error> {
    let found = cluster.allowed(name).await?;
    let labels = found.metadata.labels.unwrap_or_default();
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return Ok(false);
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), name);
    let left = pods
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::of(format!("listing pods in {name}"), &error))?;
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), name)
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::of(format!("listing StatefulSets in {name}"), &error))?;
    if !left.items.is_empty() || !sets.items.is_empty() {
        return Ok(false);
    }
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .map_err(|error| Error::of(format!("deleting namespace {name}"), &error))?;
    let deadline = Instant::now() + GONE_WITHIN;
    while let Ok(Some(_)) = namespaces.get_opt(name).await {
        if Instant::now() >= deadline {
            return Err(Error::StillThere {
                what: format!("namespace {name}"),
                after: GONE_WITHIN,
            });
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}

/// The names of all stores in a namespace that belong to a run, with the run's id.
///
/// # Errors
/// If they cannot be listed.
pub async fn of_runs(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>, Error> {
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    let found = sets
        .list(&ListParams::default().labels(crate::names::RUN))
        .await
        .map_err(|error| Error::of(format!("listing StatefulSets in {namespace}"), &error))?;
    let named = found.items.into_iter().filter_map(|set| {
        let run = set.metadata.labels?.get(crate::names::RUN)?.clone();
        Some((set.metadata.name?, run))
    });
    Ok(named.collect())
}
