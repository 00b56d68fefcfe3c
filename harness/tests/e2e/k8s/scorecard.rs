//! Scorecards that are measured on the cluster itself.

use super::Lab;
use super::operator::{Operator, crds, status, wait_for};
use super::under_way::{of_runs, until};

fn scorecard(lab: &Lab, name: &str, comparison: &str) {
    let namespace = &lab.namespace;
    lab.apply(&format!(
        "apiVersion: quorate.dev/v1alpha1\nkind: Scorecard\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{comparison: {comparison}}}\n"
    ));
}

#[test]
fn a_scorecard_is_measured_on_the_cluster() {
    let Some(lab) = Lab::find("opcard") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let _operator = Operator::start(&lab);
    scorecard(
        &lab,
        "measured",
        "{substrate: k8s, nodes: 3, kubernetes: {storage: empty-dir}, limits: {time: 8s}, \
         compare: {modes: [async, raft], faults: [none, wipe-follower], repeat: 1}}",
    );
    wait_for(&lab, "scorecard/measured", "Complete");
    assert_eq!(status(&lab, "scorecard/measured", "runs"), "4");
    assert_eq!(
        status(&lab, "scorecard/measured", "table[*].fault"),
        "none none wipe-follower wipe-follower"
    );
    // Its run directory has those of the cells.
    let run = status(&lab, "scorecard/measured", "run");
    let store = lab.dir.path().join("fetched");
    let fetch = [
        "k8s",
        "fetch",
        &run,
        "--namespace",
        &lab.namespace,
        "--store",
    ];
    let fetched = lab.quorate(&[&fetch[..], &[store.to_str().unwrap()]].concat());
    assert_eq!(fetched.status.code(), Some(0));
    let text = std::fs::read_to_string(store.join("compare/latest/scorecard.json")).unwrap();
    let card: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(card["rows"].as_array().unwrap().len(), 4, "{card}");
    let cells = store.join("compare/latest/cells");
    assert_eq!(cells.read_dir().unwrap().count(), 4);

    // What cannot be done there is refused by field, and nothing is started.
    scorecard(&lab, "bad", "{substrate: k8s, compare: {faults: [wipe]}}");
    wait_for(&lab, "scorecard/bad", "Failed");
    let why = status(&lab, "scorecard/bad", "reason");
    assert!(why.contains("spec.comparison.compare.faults"), "{why}");
    assert_eq!(status(&lab, "scorecard/bad", "run"), "");

    // Deleted in the middle: the store of the cell under way is removed, too.
    scorecard(
        &lab,
        "long",
        "{substrate: k8s, nodes: 3, kubernetes: {storage: empty-dir}, limits: {time: 300s}, \
         compare: {modes: [raft], faults: [none], repeat: 3}}",
    );
    until("its store is there", || {
        of_runs(&lab).contains("statefulset")
    });
    lab.kubectl(&[
        "delete",
        "scorecards",
        "--all",
        "-n",
        &lab.namespace,
        "--timeout=200s",
    ]);
    until("nothing is left", || of_runs(&lab).is_empty());
}
