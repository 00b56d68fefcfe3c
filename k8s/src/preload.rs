//! Whether the clocks of a StatefulSet's nodes can be made wrong, as far as its template tells: only
//! what is started with libfaketime has a clock of its own ([`nemesis::mechanism::clock`]).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Container;
use kube::api::Api;
use nemesis::mechanism::clock::container::{are_enough, way_out};

use crate::Error;
use crate::cluster::Cluster;
use crate::rollout::{node_of, selected_set};

/// Refuses a StatefulSet whose nodes are not started with libfaketime.
///
/// # Errors
/// The way out, or that the server refuses.
pub async fn check(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    container: Option<&str>,
) -> Result<(), Error> {
    let name = selected_set(cluster, namespace, selector).await?;
    let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), namespace);
    let set = sets
        .get(&name)
        .await
        .map_err(|error| Error::of(format!("looking at StatefulSet {name}"), &error))?;
    match node_of(&set, container) {
        Some(node) if !may_be_preloaded(node) => Err(Error::NoClock {
            set: name,
            way_out: way_out(),
        }),
        _ => Ok(()),
    }
}

/// Whether a container's environment lets its clock be made wrong. What comes from elsewhere is not
/// looked at: the agents see what became of it.
fn may_be_preloaded(container: &Container) -> bool {
    let names = container.env.iter().flatten().map(|it| it.name.as_str());
    container.env_from.iter().flatten().next().is_some() || are_enough(names)
}

#[cfg(test)]
mod tests {
    use nemesis::mechanism::clock::container::recommended;
    use serde_json::{Value, json};

    use super::*;

    fn verdict(container: &Value) -> bool {
        let mut container = container.clone();
        container["name"] = "node".into();
        may_be_preloaded(&serde_json::from_value(container).unwrap())
    }

    #[test]
    fn a_template_without_libfaketime_is_seen_to_be_one() {
        assert!(!verdict(&json!({})));
        assert!(!verdict(
            &json!({"env": [{"name": "POD_NAME", "value": "x"}]})
        ));
        assert!(!verdict(
            &json!({"env": [{"name": "LD_PRELOAD", "value": "libfaketime.so.1"}]})
        ));
        let all: Vec<Value> = recommended()
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value.to_str()}))
            .collect();
        assert!(verdict(&json!({"env": all})));
        let elsewhere = json!({"envFrom": [{"configMapRef": {"name": "clocks"}}]});
        assert!(verdict(&elsewhere));
    }
}
