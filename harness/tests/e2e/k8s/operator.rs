//! The operator: verdicts in a status, whatever happens to the operator meanwhile.

use std::path::Path;
use std::process::{Child, Stdio};

use super::Lab;
use super::in_cluster::evict_harness;
use super::under_way::{of_runs, until};

/// An operator of the test's own namespace, killed when dropped.
pub struct Operator(Child);

impl Operator {
    pub fn start(lab: &Lab) -> Self {
        Self::by(lab, &lab.kubeconfig)
    }

    /// The same by another way to the API server.
    pub fn by(lab: &Lab, kubeconfig: &Path) -> Self {
        let namespace = lab.namespace.as_str();
        let args = [
            "operator",
            "--namespace",
            namespace,
            "--lease-namespace",
            namespace,
        ];
        let child = lab
            .command(&args)
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn crds(lab: &Lab) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/manifests/crd");
    lab.kubectl(&["apply", "-k", folder]);
    for name in ["consistencytests", "scorecards"] {
        let name = format!("crd/{name}.quorate.dev");
        lab.kubectl(&[
            "wait",
            "--for=condition=Established",
            &name,
            "--timeout=30s",
        ]);
    }
}

pub fn test(lab: &Lab, name: &str, experiment: &str) {
    let namespace = &lab.namespace;
    lab.apply(&format!(
        "apiVersion: quorate.dev/v1alpha1\nkind: ConsistencyTest\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{experiment: {experiment}}}\n"
    ));
}

/// A field of the status; empty while there is none.
pub fn status(lab: &Lab, what: &str, field: &str) -> String {
    let path = format!("-o=jsonpath={{.status.{field}}}");
    lab.kubectl(&["get", what, "-n", &lab.namespace, &path])
}

pub fn wait_for(lab: &Lab, what: &str, condition: &str) {
    let condition = format!("--for=condition={condition}");
    lab.kubectl(&[
        "wait",
        &condition,
        what,
        "-n",
        &lab.namespace,
        "--timeout=120s",
    ]);
}

/// What all stores of these tests share.
pub const STORE: &str = "nodes: 3, kubernetes: {storage: empty-dir}";

#[test]
fn a_status_says_what_a_run_came_to() {
    let Some(lab) = Lab::find("operator") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let _operator = Operator::start(&lab);
    let calm = format!(
        "{{{STORE}, target: {{mode: raft}}, faults: {{packages: [none]}}, limits: {{time: 8s}}}}"
    );
    test(&lab, "calm", &calm);
    wait_for(&lab, "ct/calm", "Complete");
    wait_for(&lab, "ct/calm", "Valid");
    assert_eq!(status(&lab, "ct/calm", "verdict"), "valid");
    assert_eq!(status(&lab, "ct/calm", "lostWrites"), "0");

    let lossy = format!(
        "{{{STORE}, faults: {{schedule: [{{at: 3s, for: 4s, fault: wipe, target: all}}]}}, limits: {{time: 12s}}}}"
    );
    test(&lab, "lossy", &lossy);
    wait_for(&lab, "ct/lossy", "Complete");
    wait_for(&lab, "ct/lossy", "Valid=False");
    assert_eq!(status(&lab, "ct/lossy", "verdict"), "invalid");
    let lost: u64 = status(&lab, "ct/lossy", "lostWrites").parse().unwrap();
    assert!(lost > 0);
    // Its results are there to be fetched.
    let run = status(&lab, "ct/lossy", "run");
    let store = lab.dir.path().join("fetched");
    let store = store.to_str().unwrap();
    let fetched = lab.quorate(&[
        "k8s",
        "fetch",
        &run,
        "--namespace",
        &lab.namespace,
        "--store",
        store,
    ]);
    assert_eq!(fetched.status.code(), Some(1));

    test(&lab, "bad", "{nodes: 0}");
    wait_for(&lab, "ct/bad", "Failed");
    let why = status(&lab, "ct/bad", "reason");
    assert!(
        why.contains("spec.experiment") && why.contains("nodes"),
        "{why}"
    );
    assert_eq!(status(&lab, "ct/bad", "run"), "", "nothing was started");

    let namespace = &lab.namespace;
    lab.apply(&format!(
        "apiVersion: quorate.dev/v1alpha1\nkind: Scorecard\nmetadata: {{name: card, namespace: {namespace}}}\n\
         spec: {{comparison: {{nodes: 3, limits: {{time: 5s}}, compare: {{modes: [async, raft], \
         faults: [kill-leader], repeat: 3}}}}}}\n"
    ));
    wait_for(&lab, "scorecard/card", "Complete");
    assert_eq!(status(&lab, "scorecard/card", "runs"), "6");
    assert_eq!(
        status(&lab, "scorecard/card", "table[*].mode"),
        "async raft"
    );

    lab.kubectl(&["delete", "ct,scorecard", "--all", "-n", namespace]);
    until("nothing is left", || of_runs(&lab).is_empty());
}

#[test]
fn an_operator_that_is_killed_is_followed_by_one_that_goes_on() {
    let Some(lab) = Lab::find("opkill") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let first = Operator::start(&lab);
    let raft = format!(
        "{{{STORE}, target: {{mode: raft}}, faults: {{packages: [none]}}, limits: {{time: 15s}}}}"
    );
    test(&lab, "long", &raft);
    until("the run has begun", || {
        status(&lab, "ct/long", "phase") == "Running"
    });
    let run = status(&lab, "ct/long", "run");
    drop(first);
    let _second = Operator::start(&lab);
    wait_for(&lab, "ct/long", "Complete");
    assert_eq!(status(&lab, "ct/long", "verdict"), "valid");
    assert_eq!(status(&lab, "ct/long", "run"), run, "it was not run again");
    let jobs = lab.kubectl(&["get", "jobs", "-n", &lab.namespace, "-o", "name"]);
    assert_eq!(jobs, format!("job.batch/{run}"));

    // Deleted in the middle: healed first, and nothing is left.
    let forever = raft.replace("15s", "300s");
    test(&lab, "forever", &forever);
    until("its store is there", || {
        of_runs(&lab).contains("statefulset")
    });
    lab.kubectl(&[
        "delete",
        "ct/forever",
        "ct/long",
        "-n",
        &lab.namespace,
        "--timeout=150s",
    ]);
    until("nothing is left", || of_runs(&lab).is_empty());
}

#[test]
fn a_run_whose_pod_is_evicted_heals_before_its_end_is_told() {
    let Some(lab) = Lab::find("opevict") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let _operator = Operator::start(&lab);
    let long = format!(
        "{{{STORE}, target: {{mode: raft}}, faults: {{packages: [none]}}, limits: {{time: 120s}}}}"
    );
    test(&lab, "long", &long);
    until("the run has begun", || of_runs(&lab).contains("-part-0"));
    evict_harness(&lab);
    wait_for(&lab, "ct/long", "Failed");
    // Not the end of the pod that the Job has made for it, but what the run has handed over.
    assert_eq!(status(&lab, "ct/long", "exitCode"), "130");
    assert_eq!(status(&lab, "ct/long", "verdict"), "unknown");
    lab.kubectl(&["delete", "ct", "--all", "-n", &lab.namespace]);
    until("nothing is left", || of_runs(&lab).is_empty());
}
