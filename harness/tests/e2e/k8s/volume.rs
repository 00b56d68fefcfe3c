//! Results in a volume: there when the Job is gone, and when its harness was killed.

use std::process::Stdio;

use super::Lab;
use super::in_cluster::{nothing_is_left, of_runs, process_with, run_of, until, verdict};
use crate::run_dir;

#[test]
fn results_in_a_volume_outlive_the_job_and_a_killed_harness() {
    let Some(lab) = Lab::find("jobpvc") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(1);
    let claim = ["--in-cluster", "--results", "pvc", "--storage", "empty-dir"];
    let calm = ["--mode", "raft", "--seed", "5", "--time-limit", "8s"];
    let args = [&claim[..], &calm, lab.storage].concat();
    let (args, store) = lab.test_args(&args, "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let whole = lab.quorate(&args);
    assert_eq!(whole.status.code(), Some(0));
    let said = String::from_utf8_lossy(&whole.stderr).into_owned();
    let run = said.split("starting Job ").nth(1).unwrap();
    let run = run.split_whitespace().next().unwrap();
    let history = std::fs::read(run_dir(&store).join("history.jsonl")).unwrap();
    nothing_is_left(&lab);

    // The Job is gone, and its ConfigMaps with it.
    let again = lab.dir.path().join("again");
    let fetch = [
        "k8s",
        "fetch",
        run,
        "--namespace",
        &lab.namespace,
        "--store",
        again.to_str().unwrap(),
    ];
    let nowhere = lab.quorate(&fetch);
    assert_eq!(nowhere.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("--results pvc"));
    let fetched = lab.quorate(&[&fetch[..], &["--results", "pvc"]].concat());
    assert_eq!(fetched.status.code(), Some(0));
    let fetched = std::fs::read(run_dir(&again).join("history.jsonl")).unwrap();
    assert!(fetched == history, "another history");
    let other = lab.quorate(&[&fetch[..], &["--results", "pvc:nobodys"]].concat());
    assert_eq!(other.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&other.stderr).contains("there is no claim nobodys"));

    // A harness that is killed leaves all that it has recorded.
    let long = ["--mode", "raft", "--time-limit", "60s"];
    let args = [&claim[..], &long, lab.storage].concat();
    let (args, store) = lab.test_args(&args, "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("its store is there", || {
        of_runs(&lab).contains("statefulset")
    });
    let ready = || {
        let of = ["get", "statefulsets", "-n", &lab.namespace, "-o"];
        lab.kubectl(&[&of[..], &["jsonpath={.items[0].status.readyReplicas}"]].concat())
    };
    until("its store is ready", || ready() == "3");
    let recorded = || {
        let runs = lab.kubectl(&["get", "leases", "-n", &lab.namespace, "-o", "json"]);
        let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
        let beats = &runs["items"][0]["metadata"]["annotations"]["quorate.dev/beats"];
        beats.as_str().and_then(|beats| beats.parse::<u64>().ok())
    };
    // Some seconds of it.
    let before = recorded().unwrap_or_default();
    until("it is under way", || recorded() > Some(before + 3));
    let harness = process_with(&format!("--run={}", run_of(&lab)));
    let signal = rustix::process::Signal::KILL;
    let Some(harness) = harness else {
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        child.wait_with_output().unwrap();
        return eprintln!("skipped: the harness's process is not on this machine");
    };
    rustix::process::kill_process(harness, signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(
        said.contains("the harness's own pod ended before the run did"),
        "{said}"
    );
    let history = std::fs::read_to_string(run_dir(&store).join("history.jsonl")).unwrap();
    assert!(history.lines().count() > 100);
    let judged = lab.quorate(&["report", run_dir(&store).to_str().unwrap()]);
    assert_eq!(judged.status.code(), Some(2));
    assert_eq!(verdict(&again)["verdict"], "valid");
    nothing_is_left(&lab);
}
