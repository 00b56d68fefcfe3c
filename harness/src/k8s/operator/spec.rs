//! What a resource asks for, or why it is refused: nothing is started for what cannot be run.

use k8s::schedule::Schedule;
use serde_json::{Map, Value};

use crate::compare::Definition;
use crate::defaults::{self, Given};
use crate::experiment::{Experiment, On, explain};
use crate::k8s::options::choose_faults;
use crate::locate::says;

/// The experiment of a `ConsistencyTest` in this namespace, every default chosen.
///
/// # Errors
/// One sentence that names the field.
pub fn experiment(
    spec: &Map<String, Value>,
    namespace: &str,
    image: Option<&str>,
) -> Result<Experiment, String> {
    const PLACE: &str = "spec.experiment";
    let (mut experiment, text) = read(spec, PLACE)?;
    if experiment.compare.is_some() {
        return Err(format!("{PLACE}.compare: is of a Scorecard"));
    }
    if !says(&text, "substrate") {
        experiment.substrate = On::K8s;
    }
    place(&mut experiment, &text, PLACE, namespace, image)?;
    let given = Given {
        workload: says(&text, "workload"),
        policy: says(&text, "clients.policy"),
        faults: says(&text, "faults.packages") || says(&text, "faults.schedule"),
    };
    defaults::choose(&mut experiment, given);
    if experiment.substrate == On::K8s && !given.faults {
        choose_faults(&mut experiment);
    }
    experiment
        .validate()
        .map_err(|impossible| format!("{PLACE}.{}", explain(&impossible, PLACE, None)))?;
    Ok(experiment.resolved())
}

/// The comparison of a `Scorecard` in this namespace, every default chosen, and how many runs it makes
/// on the cluster (one Job does all).
///
/// # Errors
/// One sentence that names the field.
pub fn comparison(
    spec: &Map<String, Value>,
    namespace: &str,
    image: Option<&str>,
) -> Result<(Experiment, u32), String> {
    const PLACE: &str = "spec.comparison";
    let (mut experiment, text) = read(spec, PLACE)?;
    if !says(&text, "substrate") {
        experiment.substrate = On::Sim;
    }
    place(&mut experiment, &text, PLACE, namespace, image)?;
    experiment.compare.get_or_insert_default();
    let given = Given {
        workload: says(&text, "workload"),
        policy: says(&text, "clients.policy"),
        faults: true,
    };
    let definition = Definition::new(experiment, given, 1)
        .map_err(|impossible| format!("{PLACE}.{}", explain(&impossible, PLACE, None)))?;
    let runs = match definition.experiment().substrate {
        On::K8s => u32::try_from(definition.size()).unwrap_or(u32::MAX),
        _ => 1,
    };
    Ok((definition.to_experiment(), runs))
}

/// Lets an experiment be on this cluster, in its own namespace, or in simulation.
fn place(
    experiment: &mut Experiment,
    text: &str,
    place: &str,
    namespace: &str,
    image: Option<&str>,
) -> Result<(), String> {
    match experiment.substrate {
        On::Sim => return Ok(()),
        On::K8s => {}
        other => {
            return Err(format!(
                "{place}.substrate: expected k8s or sim in a pod, not {other}"
            ));
        }
    }
    let kubernetes = experiment.kubernetes.get_or_insert_default();
    if says(text, "kubernetes.namespace") && kubernetes.namespace != namespace {
        return Err(format!(
            "{place}.kubernetes.namespace: a test hurts its own namespace {namespace}, not {}",
            kubernetes.namespace
        ));
    }
    if kubernetes.statefulset.as_ref().is_some_and(|it| it.copy) {
        return Err(format!(
            "{place}.kubernetes.statefulset.copy: a test stays in its own namespace, and a copy is made in \
             another; `quorate test --on k8s` and `quorate preflight` make copies"
        ));
    }
    if kubernetes.secret.is_some() {
        return Err(format!(
            "{place}.kubernetes.secret: expected nothing, since who may make this resource may not be \
             allowed to see Secrets; `quorate test --in-cluster --secret NAME` takes one"
        ));
    }
    namespace.clone_into(&mut kubernetes.namespace);
    if let Some(image) = image {
        kubernetes.image = Some(image.to_owned());
    }
    Ok(())
}

/// Refuses a schedule that is none.
///
/// # Errors
/// What was expected.
pub fn schedule(text: Option<&str>) -> Result<(), String> {
    text.map_or(Ok(()), |text| {
        Schedule::parse(text)
            .map(drop)
            .map_err(|why| format!("spec.{why}"))
    })
}

fn read(spec: &Map<String, Value>, place: &str) -> Result<(Experiment, String), String> {
    let text = serde_yaml::to_string(spec).map_err(|error| format!("{place}: {error}"))?;
    let experiment = Experiment::parse(&text, place).map_err(|error| {
        // Its line is one of a text that nobody has written.
        let said = error.to_string();
        let rest = said.strip_prefix(place).unwrap_or(&said);
        let rest = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        format!("{place}: {}", rest.trim_start())
    })?;
    Ok((experiment, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("no object: {other}"),
        }
    }

    #[test]
    fn an_experiment_runs_in_its_own_namespace() {
        let raft = json!({"target": {"mode": "raft"}, "nodes": 3});
        let chosen = experiment(&object(raft), "ns", Some("i:1")).unwrap();
        assert_eq!(chosen.substrate, On::K8s);
        let kubernetes = chosen.kubernetes.clone().unwrap();
        assert_eq!(kubernetes.namespace, "ns");
        assert_eq!(kubernetes.image.as_deref(), Some("i:1"));
        assert_eq!(chosen.faults.packages, ["kill-leader"]);
        // What is handed to the Job is read there as the same.
        let again = Experiment::parse(&chosen.to_yaml(), "x").unwrap();
        assert_eq!(again, chosen);
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_field() {
        for (bad, says) in [
            (json!({"nodes": 0}), "nodes"),
            (json!({"target": {"mode": "magic"}}), "magic"),
            (json!({"colour": "red"}), "colour"),
            (json!({"substrate": "local"}), "substrate"),
            (json!({"kubernetes": {"namespace": "other"}}), "other"),
            (
                json!({"kubernetes": {"statefulset": {"selector": "a=b", "port": 1, "copy": true}}}),
                "statefulset.copy",
            ),
            (json!({"kubernetes": {"secret": "s"}}), "--in-cluster"),
            (json!({"compare": {"modes": ["raft"]}}), "Scorecard"),
            (json!({"faults": {"packages": ["meteor"]}}), "meteor"),
        ] {
            let why = experiment(&object(bad.clone()), "ns", None).unwrap_err();
            assert!(
                why.contains(says) && why.starts_with("spec.experiment"),
                "{bad}: {why}"
            );
            assert!(!why.contains('\n'), "{why}");
        }
        assert!(schedule(Some("0 3 * * *")).is_ok());
        assert!(
            schedule(Some("at night"))
                .unwrap_err()
                .starts_with("spec.schedule")
        );
    }

    #[test]
    fn a_comparison_is_simulated_or_measured_on_the_cluster() {
        let matrix = json!({"modes": ["async", "leaderless"], "faults": ["none"], "repeat": 3});
        let simulated = json!({"nodes": 3, "compare": matrix});
        let (chosen, runs) = comparison(&object(simulated), "ns", Some("i:1")).unwrap();
        assert_eq!((chosen.substrate, runs), (On::Sim, 1));
        let measured = json!({"substrate": "k8s", "nodes": 3, "compare": matrix});
        let (chosen, runs) = comparison(&object(measured), "ns", Some("i:1")).unwrap();
        assert_eq!((chosen.substrate, runs), (On::K8s, 6));
        let kubernetes = chosen.kubernetes.clone().unwrap();
        assert_eq!(kubernetes.namespace, "ns");
        assert_eq!(kubernetes.image.as_deref(), Some("i:1"));
        // What is handed to the Job is read there as the same: each mode keeps its own workload.
        let again = Experiment::parse(&chosen.to_yaml(), "x").unwrap();
        let again = Definition::new(again, Given::default(), 0).unwrap();
        assert_eq!(again.to_experiment(), chosen);
        assert_ne!(again.workload_of("async"), again.workload_of("leaderless"));
        for (bad, says) in [
            (json!({"compare": {"modes": ["magic"]}}), "magic"),
            (json!({"substrate": "netns"}), "k8s or sim"),
            (
                json!({"substrate": "k8s", "kubernetes": {"namespace": "other"}}),
                "other",
            ),
            // A volume outlives its pod.
            (
                json!({"substrate": "k8s", "compare": {"faults": ["wipe"]}}),
                "volume",
            ),
        ] {
            let why = comparison(&object(bad), "ns", None).unwrap_err();
            assert!(why.contains(says), "{why}");
            assert!(why.starts_with("spec.comparison"), "{why}");
        }
    }
}
