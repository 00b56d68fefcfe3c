//! Which pod is which node, how it is, and where it runs.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ListParams};

use crate::Error;
use crate::cluster::Cluster;
use crate::names::ROLE;

/// A node of the store, as the API server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node: the pod's ordinal plus one.
    pub node: u16,
    /// The StatefulSet that it belongs to.
    pub set: String,
    /// The pod's name, which its successor will have, too.
    pub pod: String,
    /// The pod's uid, which no other will ever have.
    pub uid: String,
    /// Whether Services send clients there.
    pub ready: bool,
    /// Whether it is to go away.
    pub ending: bool,
    /// How often its container was started anew.
    pub restarts: u32,
    /// The Kubernetes node that it runs on.
    pub on: Option<String>,
    /// Its address within the cluster.
    pub ip: Option<String>,
    /// The role that its label says.
    pub role: Option<String>,
    /// The container that is the node: the first of the pod, unless another was asked for.
    pub container: String,
    /// What that runs.
    pub image: String,
    /// The revision of the StatefulSet's template that it was made from.
    pub revision: Option<String>,
    /// Why it does not run.
    pub trouble: Option<Trouble>,
}

/// Why a pod does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its image cannot be had; why.
    Image(String),
    /// Its container ends again and again; why.
    Crashing(String),
    /// Its container cannot be made; why.
    Container(String),
    /// No Kubernetes node takes it; why.
    Unschedulable(String),
    /// It is neither running nor in any of these; in which phase.
    Phase(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(why) => write!(f, "image: {why}"),
            Self::Crashing(why) => write!(f, "crashing: {why}"),
            Self::Container(why) => write!(f, "container: {why}"),
            Self::Unschedulable(why) => write!(f, "not scheduled: {why}"),
            Self::Phase(phase) => f.write_str(&phase.to_lowercase()),
        }
    }
}

/// The pods of a selector that belong to a StatefulSet, ordered by node.
///
/// # Errors
/// If they cannot be listed.
pub async fn members(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
) -> Result<Vec<Member>, Error> {
    members_in(cluster, namespace, selector, None).await
}

/// The same, where the node is the container of this name.
///
/// # Errors
/// If they cannot be listed.
pub async fn members_in(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    container: Option<&str>,
) -> Result<Vec<Member>, Error> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let found = pods
        .list(&ListParams::default().labels(selector))
        .await
        .map_err(|error| Error::of(format!("listing pods in {namespace}"), &error))?;
    let of_pod = |pod| member_in(pod, container);
    let mut members: Vec<Member> = found.items.iter().filter_map(of_pod).collect();
    members.sort_by_key(|member| member.node);
    Ok(members)
}

/// What a pod says of a node; `None` if it belongs to no StatefulSet.
pub fn member(pod: &Pod) -> Option<Member> {
    member_in(pod, None)
}

fn member_in(pod: &Pod, node: Option<&str>) -> Option<Member> {
    let name = pod.metadata.name.as_deref()?;
    let owner = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "StatefulSet")?;
    let ordinal: u16 = name
        .strip_prefix(&owner.name)?
        .strip_prefix('-')?
        .parse()
        .ok()?;
    let label = |name| pod.metadata.labels.as_ref()?.get(name).cloned();
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let condition = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
    };
    let containers = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let mut named = spec.into_iter().flat_map(|spec| &spec.containers);
    let own = named.find(|container| node.is_none_or(|name| container.name == name));
    Some(Member {
        node: ordinal.checked_add(1)?,
        set: owner.name.clone(),
        pod: name.to_owned(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
        ending: pod.metadata.deletion_timestamp.is_some(),
        restarts: containers
            .iter()
            .map(|c| u32::try_from(c.restart_count).unwrap_or(0))
            .sum(),
        on: spec.and_then(|spec| spec.node_name.clone()),
        ip: status.and_then(|status| status.pod_ip.clone()),
        role: label(ROLE),
        revision: label("controller-revision-hash"),
        container: own.map_or_else(String::new, |container| container.name.clone()),
        image: own
            .and_then(|container| container.image.clone())
            .unwrap_or_default(),
        trouble: trouble_of(pod),
    })
}

/// Why a pod does not run; `None` if it does.
pub fn trouble_of(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    if let Some(trouble) = containers.unwrap_or_default().iter().find_map(trouble) {
        return Some(trouble);
    }
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let unscheduled = conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or("no reason given");
        return Some(Trouble::Unschedulable(why.to_owned()));
    }
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Unknown");
    (phase != "Running").then(|| Trouble::Phase(phase.to_owned()))
}

fn trouble(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let said = match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    };
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
        | "ImageInspectError" => Some(Trouble::Image(said)),
        "CrashLoopBackOff" => {
            let last = container
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            Some(Trouble::Crashing(match last {
                Some(last) => format!("exit code {}", last.exit_code),
                None => said,
            }))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(Trouble::Container(said))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "uid": "u1",
                "labels": {ROLE: "leader"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "my-store", "uid": "s1",
                }],
            },
            "spec": {"nodeName": "worker", "containers": [{"name": "node", "image": "i:1"}]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_pods_ordinal_is_its_node() {
        let status = json!({
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "node", "image": "i", "imageID": "", "ready": true, "restartCount": 2}],
        });
        let member = member(&pod("my-store-11", &status)).unwrap();
        assert_eq!((member.node, member.restarts, member.ready), (12, 2, true));
        assert_eq!(member.on.as_deref(), Some("worker"));
        assert_eq!(member.role.as_deref(), Some("leader"));
        assert_eq!(member.trouble, None);
    }

    #[test]
    fn other_pods_are_no_nodes() {
        for name in [
            "my-store",
            "my-store-x",
            "my-storehouse-1",
            "other-1",
            "my-store-65535",
        ] {
            assert_eq!(member(&pod(name, &json!({}))), None, "{name}");
        }
        let mut job = pod("my-store-1", &json!({}));
        job.metadata.owner_references.as_mut().unwrap()[0].kind = "Job".to_owned();
        assert_eq!(member(&job), None);
    }

    #[test]
    fn a_pod_says_what_is_wrong_with_it() {
        let waiting = |reason: &str| {
            json!({
                "phase": "Pending",
                "containerStatuses": [{
                    "name": "node", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": reason, "message": "so it is"}},
                    "lastState": {"terminated": {"exitCode": 3}},
                }],
            })
        };
        let trouble = |status: &Value| member(&pod("my-store-0", status)).unwrap().trouble.unwrap();
        let image = Trouble::Image("ErrImagePull: so it is".to_owned());
        assert_eq!(trouble(&waiting("ErrImagePull")), image);
        assert_eq!(
            trouble(&waiting("CrashLoopBackOff")),
            Trouble::Crashing("exit code 3".to_owned())
        );
        assert_eq!(
            trouble(&waiting("ContainerCreating")),
            Trouble::Phase("Pending".to_owned())
        );
        let unscheduled = json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}],
        });
        assert_eq!(
            trouble(&unscheduled),
            Trouble::Unschedulable("no room".to_owned())
        );
    }
}
