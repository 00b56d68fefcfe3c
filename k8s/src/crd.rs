//! The resources `ConsistencyTest` and `Scorecard`.
//!
//! What is to be run (`experiment`, `comparison`) is free-form for the API server: it is what an
//! experiment file says, and the operator reads it as one. Everything else has a structural schema
//! that Kubernetes 1.20 knows.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is done, how often, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The image of harness and nodes; by default the one last brought up in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The account that the run has; by default one that the operator makes, with the least rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// When to run, as five fields of cron in UTC, e.g. "0 3 * * *"; without it there is one run for
    /// each change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Starts no run while true; one under way goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How many Jobs of valid runs are kept, with their results. 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_runs_history_limit: Option<u32>,
    /// How many Jobs of other runs are kept, with their results. 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_runs_history_limit: Option<u32>,
}

/// An experiment that is run on this cluster, once or by a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "quorate.dev",
    version = "v1alpha1",
    kind = "ConsistencyTest",
    namespaced,
    status = "RunStatus",
    shortname = "ct",
    category = "quorate",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#,
    printcolumn = r#"{"name":"Lost","type":"integer","jsonPath":".status.lostWrites"}"#,
    printcolumn = r#"{"name":"RPO","type":"number","jsonPath":".status.rpoSeconds","priority":1}"#,
    printcolumn = r#"{"name":"RTO","type":"number","jsonPath":".status.rtoSeconds","priority":1}"#,
    printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.schedule","priority":1}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyTestSpec {
    /// What an experiment file says.
    #[schemars(schema_with = "free_form")]
    pub experiment: Map<String, Value>,
    /// What is done, how often, and as whom.
    #[serde(flatten)]
    pub run: RunSpec,
}

/// A comparison of modes under faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "quorate.dev",
    version = "v1alpha1",
    kind = "Scorecard",
    namespaced,
    status = "RunStatus",
    category = "quorate",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Runs","type":"integer","jsonPath":".status.runs"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ScorecardSpec {
    /// What a file for `quorate compare` says.
    #[schemars(schema_with = "free_form")]
    pub comparison: Map<String, Value>,
    /// What is done, how often, and as whom.
    #[serde(flatten)]
    pub run: RunSpec,
}

/// How a resource stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The run that is under way or was the last: the name of its Job and of its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// When that run was begun (UTC, RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// `valid`, `invalid` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What is violated, why nobody can say, or why there was no run; in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `quorate test` would have exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The seed of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Acknowledged writes that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_writes: Option<i64>,
    /// How far back they reach under the worst fault, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<f64>,
    /// From a fault to the first write that succeeded since, under the worst fault, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<f64>,
    /// Of a scorecard: how many runs it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<i64>,
    /// Of a scorecard: a line for each mode under each fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<Row>,
    /// The time of the schedule that the last run was begun for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled: Option<String>,
    /// When the schedule begins the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<String>,
    /// `Complete`, `Valid` and `Failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One mode under one fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Replication mode.
    pub mode: String,
    /// Fault.
    pub fault: String,
    /// Share of acknowledged writes lost, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_share: Option<f64>,
    /// Worst RPO seen, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<f64>,
    /// Median time until writes succeeded again, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<f64>,
}

/// Where a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// A run is to be started.
    Pending,
    /// A run is under way.
    Running,
    /// The last run came to a verdict.
    Complete,
    /// The last run came to none.
    Failed,
    /// Nothing was started: the spec or the namespace does not allow it.
    Refused,
    /// Waits for the time of its schedule.
    Scheduled,
    /// Starts nothing, as it was told to.
    Suspended,
}

/// One aspect of a status, in the way of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Complete`, `Valid` or `Failed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When its status last changed (UTC, RFC 3339).
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Fields that the API server keeps as they are.
fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// The definitions of all resources.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![ConsistencyTest::crd(), Scorecard::crd()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(of: &CustomResourceDefinition) -> Value {
        let schema = of.spec.versions[0].schema.as_ref().unwrap();
        serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
    }

    /// The words of a structural schema that Kubernetes 1.20 knows and that these need.
    const KNOWN: [&str; 13] = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "nullable",
        "enum",
        "format",
        "minimum",
        "maximum",
        "title",
        "default",
        "x-kubernetes-preserve-unknown-fields",
    ];

    fn structural(schema: &Value, path: &str) {
        let object = schema.as_object().unwrap();
        assert!(object.contains_key("type"), "{path} has no type");
        for (word, value) in object {
            assert!(KNOWN.contains(&word.as_str()), "{path}: {word}");
            match word.as_str() {
                "properties" => {
                    for (name, inner) in value.as_object().unwrap() {
                        structural(inner, &format!("{path}.{name}"));
                    }
                }
                "items" => structural(value, &format!("{path}[]")),
                _ => {}
            }
        }
    }

    #[test]
    fn the_schemas_are_structural_and_old_enough() {
        for definition in definitions() {
            structural(&schema(&definition), &definition.spec.names.kind);
        }
    }

    #[test]
    fn what_is_run_is_kept_whatever_it_says() {
        for (definition, field) in definitions().iter().zip(["experiment", "comparison"]) {
            let schema = schema(definition);
            let spec = &schema["properties"]["spec"];
            assert_eq!(
                spec["properties"][field]["x-kubernetes-preserve-unknown-fields"],
                true
            );
            assert_eq!(spec["required"], serde_json::json!([field]));
            assert_eq!(spec["properties"]["schedule"]["type"], "string");
        }
    }

    #[test]
    fn a_status_comes_back_as_it_was() {
        let status = RunStatus {
            phase: Some(Phase::Complete),
            lost_writes: Some(3),
            rpo_seconds: Some(0.25),
            table: vec![Row {
                mode: "async".to_owned(),
                fault: "kill".to_owned(),
                ..Row::default()
            }],
            ..RunStatus::default()
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["lostWrites"], 3);
        assert_eq!(json["phase"], "Complete");
        assert_eq!(serde_json::from_value::<RunStatus>(json).unwrap(), status);
    }
}
