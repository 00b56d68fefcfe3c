//! Kubernetes nodes that lose power and do not come back while anybody looks.

use std::process::Stdio;

use super::Lab;
use super::in_cluster::{harness_pod, nothing_is_left, of_runs, until, verdict};
use crate::run_dir;

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
    let (args, store) = lab.test_args(&raft, "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = lab
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let history = || {
        let file = store.join("demo/latest/history.jsonl");
        std::fs::read_to_string(file).unwrap_or_default()
    };
    until("clients are answered", || history().lines().count() > 100);
    let of = ["get", "pods", "-n", &lab.namespace, "-o"];
    let hosts = lab.kubectl(&[&of[..], &["jsonpath={.items[*].spec.nodeName}"]].concat());
    let host = hosts.split_whitespace().last().unwrap();
    let Some(_power) = lab.cut_power(host) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{}\n{said}", String::from_utf8_lossy(&output.stdout));
    // A majority went on, but nobody can say what the third has: no pass, and no failure either.
    assert_eq!(output.status.code(), Some(2), "{said}");
    let found = verdict(&store);
    assert_eq!(found["verdict"], "unknown");
    let reason = found["reason"].as_str().unwrap();
    assert!(reason.contains("no-answer: n3"), "{reason}");
    let sentence = format!("n3 does not answer: its Kubernetes node {host} is not ready");
    assert!(said.contains(&sentence), "{said}");
    assert!(history().lines().count() > 1000);
    nothing_is_left(&lab);
    let left = [
        "get",
        "statefulsets,services,leases,pods",
        "-o",
        "name",
        "-n",
    ];
    assert_eq!(lab.kubectl(&[&left[..], &[&lab.namespace]].concat()), "");
}

#[test]
fn a_job_whose_node_is_gone_for_good_ends_in_a_sentence_and_keeps_its_history() {
    let Some(lab) = Lab::find("lostjob") else {
        return;
    };
    lab.make_namespace();
    let raft = ["--in-cluster", "--mode", "raft", "--storage", "empty-dir"];
    let (args, store) = lab.test_args(&[&raft[..], &["--time-limit", "300s"]].concat(), "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("a part of the history is handed over", || {
        of_runs(&lab).contains("-part-1")
    });
    let pod = harness_pod(&lab);
    let host = pod["spec"]["nodeName"].as_str().unwrap();
    let Some(_power) = lab.cut_power(host) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{said}");
    let sentence = format!("the Kubernetes node {host} that it was on is not ready");
    assert!(said.contains(&sentence), "{said}");
    let history = std::fs::read_to_string(run_dir(&store).join("history.jsonl")).unwrap();
    assert!(history.lines().count() > 100);
    let judged = lab.quorate(&["report", run_dir(&store).to_str().unwrap()]);
    assert_eq!(judged.status.code(), Some(2));
    nothing_is_left(&lab);
}
