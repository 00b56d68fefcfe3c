//! Kubernetes nodes that lose power and do not come back while anybody looks.

use super::Lab;
use super::operator::{Operator, STORE, crds, status, test, wait_for};
use super::under_way::{harness_pod, nothing_is_left, of_runs, until};

#[test]
fn a_run_ends_and_says_why_when_a_node_of_its_store_is_gone_for_good() {
    let Some(lab) = Lab::find("lostnode") else {
        return;
    };
    lab.make_namespace();
    let raft = [
        "--mode",
        "raft",
        "--storage",
        "empty-dir",
        "--time-limit",
        "25s",
    ];
    let mut run = lab.start(&raft, "[]\n");
    run.until("clients are answered", |run| {
        run.history().lines().count() > 100
    });
    let hosts = lab.get("pods", "jsonpath={.items[*].spec.nodeName}");
    let host = hosts.split_whitespace().last().unwrap();
    let Some(_power) = lab.cut_power(host) else {
        return;
    };
    let (code, said) = run.end();
    // A majority went on, but nobody can say what the third has: no pass, and no failure either.
    assert_eq!(code, Some(2), "{said}");
    let found = run.verdict();
    assert_eq!(found["verdict"], "unknown");
    let reason = found["reason"].as_str().unwrap();
    assert!(reason.contains("no-answer: n3"), "{reason}");
    let sentence = format!("n3 does not answer: its Kubernetes node {host} is not ready");
    assert!(said.contains(&sentence), "{said}");
    assert!(run.history().lines().count() > 1000);
    nothing_is_left(&lab);
    assert_eq!(lab.there(), "");
}

#[test]
fn a_job_whose_node_is_gone_for_good_ends_in_a_sentence_and_keeps_its_history() {
    let Some(lab) = Lab::find("lostjob") else {
        return;
    };
    lab.make_namespace();
    let raft = ["--in-cluster", "--mode", "raft", "--storage", "empty-dir"];
    let mut run = lab.start(&[&raft[..], &["--time-limit", "300s"]].concat(), "[]\n");
    run.until("a part of the history is handed over", |_| {
        of_runs(&lab).contains("-part-1")
    });
    let pod = harness_pod(&lab);
    let host = pod["spec"]["nodeName"].as_str().unwrap();
    let Some(_power) = lab.cut_power(host) else {
        return;
    };
    let (code, said) = run.end();
    assert_eq!(code, Some(255), "{said}");
    let sentence = format!("the Kubernetes node {host} that it was on is not ready");
    assert!(said.contains(&sentence), "{said}");
    assert!(run.history().lines().count() > 100);
    let judged = lab.quorate(&["report", run.dir().to_str().unwrap()]);
    assert_eq!(judged.status.code(), Some(2));
    nothing_is_left(&lab);
}

#[test]
fn a_test_of_the_operator_whose_node_is_gone_for_good_fails_with_a_sentence() {
    let Some(lab) = Lab::find("lostop") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let _operator = Operator::start(&lab);
    let long = format!(
        "{{{STORE}, target: {{mode: raft}}, faults: {{packages: [none]}}, limits: {{time: 300s}}}}"
    );
    test(&lab, "long", &long);
    until("the run has begun", || of_runs(&lab).contains("-part-0"));
    let pod = harness_pod(&lab);
    let host = pod["spec"]["nodeName"].as_str().unwrap();
    let Some(_power) = lab.cut_power(host) else {
        return;
    };
    wait_for(&lab, "ct/long", "Failed");
    let why = status(&lab, "ct/long", "reason");
    let sentence = format!("the Kubernetes node {host} that it was on is not ready");
    assert!(why.contains(&sentence), "{why}");
    assert_eq!(status(&lab, "ct/long", "verdict"), "");
    // Its store is removed although one of its pods is on that node.
    assert_eq!(lab.get("statefulsets", "name"), "");
    lab.kubectl(&["delete", "ct", "--all", "-n", &lab.namespace]);
    nothing_is_left(&lab);
}
