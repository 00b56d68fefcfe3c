//! Stores like one that is there: what the reference store is configured with, and throw-away copies
//! of any StatefulSet in namespaces of their own.
//!
//! A copy has what the pods need to run: the StatefulSet, the Services that lead to it, the ConfigMaps
//! and Secrets that its pods read, their account with its roles in the namespace, and new volumes; and
//! what stands in their way: `NetworkPolicies` and PodDisruptionBudgets. The data is not copied. Objects
//! keep their names, and texts that name the original's namespace name the copy's. What would be shared
//! with the original is refused.

mod objects;

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::agent::install;
use crate::cluster::Cluster;
use crate::deploy::{apply_objects, dynamic, log_tail};
use crate::discover::{Trouble, members_in};
use crate::error::is_missing;
use crate::names::{COPY_OF, MANAGER, RUN, selector};
use crate::rights::Right;
use crate::{Error, Member, rollout};

use objects::{Needs, Renamed};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the namespace of a copy may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// What it takes to look at the original.
pub const READ: &[Right] = &[
    ("list", "", "pods", ""),
    ("get", "apps", "statefulsets", ""),
    ("list", "", "services", ""),
    ("get", "", "configmaps", ""),
    ("get", "", "secrets", ""),
    ("get", "", "serviceaccounts", ""),
    ("list", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("get", "rbac.authorization.k8s.io", "roles", ""),
    ("list", "networking.k8s.io", "networkpolicies", ""),
    ("list", "policy", "poddisruptionbudgets", ""),
];

/// What it takes to make the copy and to find it again, beside what a run needs in its namespace.
pub const MAKE: &[Right] = &[
    ("create", "", "namespaces", ""),
    ("list", "", "namespaces", ""),
    ("patch", "", "namespaces", ""),
    ("delete", "", "namespaces", ""),
    ("create", "", "secrets", ""),
    ("patch", "", "secrets", ""),
    ("create", "", "serviceaccounts", ""),
    ("patch", "", "serviceaccounts", ""),
    ("create", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("patch", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("create", "rbac.authorization.k8s.io", "roles", ""),
    ("patch", "rbac.authorization.k8s.io", "roles", ""),
    ("create", "networking.k8s.io", "networkpolicies", ""),
    ("patch", "networking.k8s.io", "networkpolicies", ""),
];

/// What is to be copied, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The namespace of the original.
    pub from: &'a str,
    /// The selector of its pods.
    pub selector: &'a str,
    /// The container that is the node; the first, if none is named.
    pub container: Option<&'a str>,
    /// The image to begin with; as the original, if none is named.
    pub image: Option<&'a str>,
    /// The namespace of the copy, which [`namespace`] has made.
    pub to: &'a str,
    /// Whether agents are to serve it.
    pub agents: bool,
    /// Whether what a node has written must outlive its pod.
    pub durable: bool,
}

/// Makes the namespace of a copy of something in the namespace `original`, which belongs to this run.
///
/// # Errors
/// If the server refuses.
pub async fn namespace(
    cluster: &Cluster,
    name: &str,
    run: &str,
    original: &str,
) -> Result<(), Error> {
    let mut wanted = crate::kustomize::namespace(name);
    let labels = &mut wanted["metadata"]["labels"];
    labels[RUN] = run.into();
    labels[COPY_OF] = original.into();
    let params = PatchParams::apply(MANAGER).force();
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let patch = Patch::Apply(&wanted);
    let made = namespaces.patch(name, &params, &patch).await;
    made.map(drop)
        .map_err(|error| Error::of(format!("making namespace {name}"), &error))
}

/// The run that a namespace was made for, if it was made for one.
///
/// # Errors
/// If it cannot be looked at.
pub async fn made_for(cluster: &Cluster, name: &str) -> Result<Option<String>, Error> {
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    match namespaces.get_opt(name).await {
        Ok(found) => Ok(found.and_then(|it| it.metadata.labels?.remove(RUN))),
        // An account that may not look at it has not made it.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(Error::of(format!("looking at namespace {name}"), &error)),
    }
}

/// The namespaces of copies of what is in this one.
///
/// # Errors
/// If they cannot be listed.
pub async fn copies_of(cluster: &Cluster, original: &str) -> Result<Vec<String>, Error> {
    let copies = ListParams::default().labels(&format!("{RUN},{COPY_OF}={original}"));
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    match namespaces.list(&copies).await {
        Ok(found) => Ok(found.into_iter().map(|it| it.name_any()).collect()),
        // An account that may not look for them has made none.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(Error::of(format!("listing copies of {original}"), &error)),
    }
}

/// Removes the namespace of a copy, with all that is in it, and waits until it is gone. Its pods are
/// not given time to end.
///
/// # Errors
/// If the server refuses, or something stays.
pub async fn remove(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    match namespaces.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Ok(()),
        // It is going already.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(Error::of(format!("deleting namespace {name}"), &error)),
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), name);
    let deadline = Instant::now() + GONE_WITHIN;
    while let Ok(Some(_)) | Err(_) = namespaces.get_opt(name).await {
        if Instant::now() >= deadline {
            return Err(Error::StillThere {
                what: format!("namespace {name}"),
                after: GONE_WITHIN,
            });
        }
        if let Ok(left) = pods.list(&ListParams::default()).await {
            let at_once = DeleteParams::default().grace_period(0);
            for pod in left.items.into_iter().filter_map(|pod| pod.metadata.name) {
                // The controller makes no more of them: it cannot in a namespace that goes.
                let _ = pods.delete(&pod, &at_once).await;
            }
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn get(
    cluster: &Cluster,
    namespace: &str,
    (api, kind): (&str, &str),
    name: &str,
) -> Result<Option<Value>, Error> {
    let found = dynamic(cluster, Some(namespace), api, kind)
        .get_opt(name)
        .await
        .map_err(|error| Error::of(format!("looking at {kind} {name}"), &error))?;
    Ok(found.and_then(|found| serde_json::to_value(found).ok()))
}

async fn list(
    cluster: &Cluster,
    namespace: &str,
    (api, kind): (&str, &str),
) -> Result<Vec<Value>, Error> {
    let found = dynamic(cluster, Some(namespace), api, kind)
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::of(format!("listing {kind}s in {namespace}"), &error))?;
    let values = found.items.into_iter();
    Ok(values
        .filter_map(|found| serde_json::to_value(found).ok())
        .collect())
}

/// Makes the copy. How many nodes it has, and what their image is.
///
/// # Errors
/// If the original cannot be copied, or the server refuses.
pub async fn make(cluster: &Cluster, plan: &Plan<'_>) -> Result<(u16, String), Error> {
    let set = rollout::selected_set(cluster, plan.from, plan.selector).await?;
    let refused = |why: String| Error::NotCopied {
        set: set.clone(),
        why,
    };
    let kind = ("apps/v1", "StatefulSet");
    let original = get(cluster, plan.from, kind, &set).await?;
    let original = original.ok_or_else(|| refused("it is gone".to_owned()))?;
    if let Some(why) = objects::obstacle(&original["spec"]) {
        return Err(refused(why));
    }
    if plan.durable && !objects::keeps_data(&original["spec"]) {
        let why = "it has no volume claims, so that a pod that is upgraded loses its data";
        return Err(refused(why.to_owned()));
    }
    let services = list(cluster, plan.from, ("v1", "Service")).await?;
    let services: Vec<&Value> = services
        .iter()
        .filter(|service| objects::serves(service, &original))
        .collect();
    let named: Vec<String> = services
        .iter()
        .filter_map(|service| service["metadata"]["name"].as_str())
        .map(str::to_owned)
        .collect();
    let renamed = Renamed {
        from: plan.from,
        to: plan.to,
        services: &named,
    };
    let template = &original["spec"]["template"];
    let mut all = account(cluster, plan, template).await?;
    all.extend(configuration(cluster, plan, &renamed, template).await?);
    all.extend(services.into_iter().map(objects::service));
    all.extend(limits(cluster, plan, template).await?);
    let (image, container) = (plan.image, plan.container);
    let copy = objects::stateful_set(&original, &renamed, image, container);
    let replicas = copy["spec"]["replicas"].as_u64().unwrap_or(1);
    let containers = copy["spec"]["template"]["spec"]["containers"].as_array();
    let mut containers = containers.into_iter().flatten();
    let ours = containers.find(|it| container.is_none_or(|name| it["name"] == name));
    let ours = ours.ok_or_else(|| refused("it has no such container".to_owned()))?;
    let image = ours["image"].as_str().unwrap_or_default().to_owned();
    all.push(copy);
    if plan.agents {
        all.push(install::binding(plan.to));
    }
    apply_objects(cluster, plan.to, &all).await?;
    Ok((u16::try_from(replicas).unwrap_or(u16::MAX), image))
}

/// The pods' account, and what it may do in the namespace.
async fn account(
    cluster: &Cluster,
    plan: &Plan<'_>,
    template: &Value,
) -> Result<Vec<Value>, Error> {
    let named = template["spec"]["serviceAccountName"].as_str();
    let account = named.unwrap_or("default");
    let mut all = Vec::new();
    if account != "default" {
        let metadata = json!({"name": account});
        all.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
    }
    let rbac = "rbac.authorization.k8s.io/v1";
    for binding in list(cluster, plan.from, (rbac, "RoleBinding")).await? {
        if !objects::binds(&binding, account) {
            continue;
        }
        if binding["roleRef"]["kind"] == "Role"
            && let Some(name) = binding["roleRef"]["name"].as_str()
            && let Some(role) = get(cluster, plan.from, (rbac, "Role"), name).await?
        {
            all.push(objects::fresh(rbac, "Role", &role));
        }
        all.push(objects::binding(&binding, account, plan.to));
    }
    Ok(all)
}

/// What limits the pods: whom they may speak to, and how many may be evicted.
async fn limits(cluster: &Cluster, plan: &Plan<'_>, template: &Value) -> Result<Vec<Value>, Error> {
    let policy = ("networking.k8s.io/v1", "NetworkPolicy");
    let budget = (cluster.features.disruption_budget, "PodDisruptionBudget");
    let mut all = Vec::new();
    for policy in list(cluster, plan.from, policy).await? {
        if objects::selects(&policy["spec"]["podSelector"], template) {
            all.push(objects::network_policy(&policy, plan.from, plan.to));
        }
    }
    let (api, kind) = budget;
    for found in list(cluster, plan.from, budget).await? {
        if objects::selects(&found["spec"]["selector"], template) {
            all.push(objects::fresh(api, kind, &found));
        }
    }
    Ok(all)
}

/// What the pods read. What is not there is left out: it may be optional.
async fn configuration(
    cluster: &Cluster,
    plan: &Plan<'_>,
    renamed: &Renamed<'_>,
    template: &Value,
) -> Result<Vec<Value>, Error> {
    let needs = Needs::of(template);
    let mut all = Vec::new();
    for name in &needs.config_maps {
        if let Some(mut map) = get(cluster, plan.from, ("v1", "ConfigMap"), name).await? {
            if let Some(data) = map.get("data") {
                map["data"] = renamed.value(data);
            }
            all.push(objects::fresh("v1", "ConfigMap", &map));
        }
    }
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), plan.from);
    for name in &needs.secrets {
        let found = secrets.get_opt(name).await;
        let found =
            found.map_err(|error| Error::of(format!("looking at Secret {name}"), &error))?;
        let Some(mut secret) = found else { continue };
        for ByteString(bytes) in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
            if let Ok(text) = std::str::from_utf8(bytes) {
                *bytes = renamed.text(text).into_bytes();
            }
        }
        if let Ok(secret) = serde_json::to_value(secret) {
            all.push(objects::fresh("v1", "Secret", &secret));
        }
    }
    Ok(all)
}

/// Waits until so many pods of the copy are ready.
///
/// # Errors
/// At once where waiting would not help; else when the time is up, with what holds it up.
pub async fn ready(
    cluster: &Cluster,
    plan: &Plan<'_>,
    wanted: u16,
    within: Duration,
) -> Result<Vec<Member>, Error> {
    let deadline = Instant::now() + within;
    loop {
        let found = members_in(cluster, plan.to, plan.selector, plan.container).await?;
        let ready = found.iter().filter(|member| member.ready).count();
        if found.len() == usize::from(wanted) && ready == found.len() {
            return Ok(found);
        }
        for member in &found {
            match &member.trouble {
                Some(Trouble::Image(why)) => {
                    return Err(Error::Image {
                        pod: member.pod.clone(),
                        image: member.image.clone(),
                        why: why.clone(),
                    });
                }
                // Its peers may not have been there the first time.
                Some(Trouble::Crashing(why)) if member.restarts >= 3 => {
                    return Err(Error::Crashing {
                        pod: member.pod.clone(),
                        why: why.clone(),
                        log: log_tail(cluster, plan.to, member, true).await,
                    });
                }
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            let troubled = found.iter().find_map(|member| {
                let trouble = member.trouble.as_ref()?;
                Some(format!("{}: {trouble}", member.pod))
            });
            return Err(Error::NotReady {
                name: plan.selector.to_owned(),
                ready,
                wanted: usize::from(wanted),
                after: within,
                why: troubled.unwrap_or_else(|| format!("there are {} pods", found.len())),
            });
        }
        sleep(PAUSE).await;
    }
}

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
