//! Makes a StatefulSet smaller, and as large again as it was.
//!
//! How large it was is written onto it in the same request, so whoever finds it can undo it.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::Error;
use crate::cluster::Cluster;
use crate::error::is_missing;
use crate::names::SCALED;

/// A StatefulSet that a run has made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Which.
    pub set: String,
    /// The run.
    pub run: String,
    /// How many pods it had.
    pub from: i32,
}

fn scaled(set: &StatefulSet) -> Option<Scaled> {
    let annotation = set.metadata.annotations.as_ref()?.get(SCALED)?;
    let (run, from) = annotation.split_once(' ')?;
    Some(Scaled {
        set: set.metadata.name.clone()?,
        run: run.to_owned(),
        from: from.parse().ok()?,
    })
}

fn sets(cluster: &Cluster, namespace: &str) -> Api<StatefulSet> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// Lets there be only so many pods, and writes down how many there were.
///
/// # Errors
/// If another run has changed it, or the server refuses.
pub async fn down(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    run: &str,
    to: u16,
) -> Result<(), Error> {
    let doing = || format!("scaling StatefulSet {name}");
    let sets = sets(cluster, namespace);
    let found = sets
        .get(name)
        .await
        .map_err(|error| Error::of(doing(), &error))?;
    let from = match scaled(&found) {
        Some(before) if before.run == run => before.from,
        Some(before) => {
            return Err(Error::Scaled {
                set: before.set,
                by: before.run,
            });
        }
        None => found.spec.replicas.unwrap_or(1),
    };
    let patch = json!({
        // Nobody has changed it meanwhile.
        "metadata": {
            "resourceVersion": found.metadata.resource_version,
            "annotations": {SCALED: format!("{run} {from}")},
        },
        "spec": {"replicas": to},
    });
    sets.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|error| Error::of(doing(), &error))
}

/// Lets there be as many pods as before [`down`], if that was this run's doing; whether there was
/// anything to undo.
///
/// # Errors
/// If the server refuses.
pub async fn up(cluster: &Cluster, namespace: &str, name: &str, run: &str) -> Result<bool, Error> {
    let doing = || format!("scaling StatefulSet {name}");
    let sets = sets(cluster, namespace);
    let found = sets
        .get_opt(name)
        .await
        .map_err(|error| Error::of(doing(), &error))?;
    let Some(before) = found.as_ref().and_then(scaled).filter(|it| it.run == run) else {
        return Ok(false);
    };
    let patch = json!({
        "metadata": {"annotations": {SCALED: null}},
        "spec": {"replicas": before.from},
    });
    match sets
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(Error::of(doing(), &error)),
    }
}

/// The StatefulSets of a namespace that runs have made smaller.
///
/// # Errors
/// If they cannot be listed.
pub async fn all(cluster: &Cluster, namespace: &str) -> Result<Vec<Scaled>, Error> {
    let found = sets(cluster, namespace)
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::of(format!("listing StatefulSets in {namespace}"), &error))?;
    Ok(found.items.iter().filter_map(scaled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_large_it_was_is_written_on_it() {
        let set = |annotation: &str| -> StatefulSet {
            let metadata = json!({"name": "s", "annotations": {SCALED: annotation}});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let found = scaled(&set("run-1 5")).unwrap();
        assert_eq!((found.run.as_str(), found.from), ("run-1", 5));
        for bad in ["run-1", "", "run-1 many"] {
            assert_eq!(scaled(&set(bad)), None, "{bad}");
        }
    }
}
