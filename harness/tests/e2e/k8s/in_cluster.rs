//! Runs in a Job: the verdict comes back, whatever it is, and nothing of them stays.

use rustix::process::{Signal, kill_process};

use super::under_way::{cordoned, harness_in_job, harness_pod, nothing_is_left, of_runs};
use super::{Granted, Lab, every_fault_was_seen_and_healed};

#[test]
fn a_job_brings_its_verdict_back() {
    let Some(lab) = Lab::find("job") else { return };
    lab.make_namespace();
    let inside = ["--in-cluster", "--storage", "empty-dir", "--mode"];
    let calm = ["raft", "--seed", "5", "--time-limit", "15s"];
    let wipe = "- {at: 3s, for: 4s, fault: wipe, target: n2}\n";
    let (code, found) = lab.test(&[&inside[..], &calm].concat(), wipe);
    // A Raft that has lost a replica's log with the pod is another matter than a calm one; both
    // bring a verdict, and this one is about the way back.
    every_fault_was_seen_and_healed(&found, 1);
    assert_eq!(code.map(i64::from), found["exit_code"].as_i64(), "{found}");
    nothing_is_left(&lab);

    let all = "- {at: 3s, for: 4s, fault: wipe, target: all}\n";
    let lossy = ["async", "--seed", "6", "--time-limit", "12s"];
    let mut run = lab.start(&[&inside[..], &lossy].concat(), all);
    let (code, said) = run.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("recovering"), "the run is shown: {said}");
    let found = run.verdict();
    assert_eq!(found["verdict"], "invalid");
    let repeat = found["reproduce"].as_str().unwrap();
    assert!(repeat.contains("--in-cluster"), "{repeat}");
    assert!(repeat.contains(run.store().to_str().unwrap()), "{repeat}");
    for file in [
        "experiment.yaml",
        "schedule.yaml",
        "history.jsonl",
        "report.html",
        "junit.xml",
    ] {
        assert!(run.dir().join(file).exists(), "{file}");
    }
    // What came back is judged here as it was there.
    let again = lab.quorate(&["report", run.dir().to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    nothing_is_left(&lab);
}

#[test]
fn a_job_that_cannot_start_or_is_killed_ends_in_a_sentence() {
    let Some(lab) = Lab::find("jobend") else {
        return;
    };
    lab.make_namespace();
    let inside = ["--in-cluster", "--storage", "empty-dir", "--mode", "raft"];
    let missing = ["--image", "quorate-e2e-missing:1"];
    let (code, said) = lab.start(&[&inside[..], &missing].concat(), "[]\n").end();
    assert_eq!(code, Some(255), "{said}");
    assert!(
        said.contains("cannot have the image quorate-e2e-missing:1"),
        "{said}"
    );
    nothing_is_left(&lab);

    // The harness is gone at once, without time to say anything. (A pod that is deleted with force
    // still gets two seconds, in which it hands over what there is.)
    let mut run = lab.start(&[&inside[..], &["--time-limit", "60s"]].concat(), "[]\n");
    run.until("a part of the history is handed over", |_| {
        of_runs(&lab).contains("-part-1")
    });
    let Some(harness) = harness_in_job(&lab) else {
        return;
    };
    kill_process(harness, Signal::KILL).unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(255), "{said}");
    assert!(
        said.contains("the harness's own pod ended before the run did"),
        "{said}"
    );
    let recorded = run.history().lines().count();
    assert!(recorded > 100, "{recorded} lines");
    // What there is can be judged, and does not pass for a whole run.
    let judged = lab.quorate(&["report", run.dir().to_str().unwrap()]);
    assert_eq!(judged.status.code(), Some(2));
    nothing_is_left(&lab);
}

#[test]
fn an_interrupted_job_heals_and_hands_over() {
    let Some(lab) = Lab::find("jobint") else {
        return;
    };
    lab.make_namespace();
    let args = [
        "--in-cluster",
        "--storage",
        "empty-dir",
        "--mode",
        "raft",
        "--time-limit",
        "60s",
    ];
    let mut run = lab.start(&args, "[]\n");
    run.until("it has begun", |_| of_runs(&lab).contains("-part-0"));
    run.signal(Signal::INT);
    assert_eq!(run.end().0, Some(130));
    let found = run.verdict();
    assert_eq!(found["verdict"], "unknown");
    assert!(found["ops"]["ok"].as_u64().unwrap() > 0, "{found}");
    nothing_is_left(&lab);
}

/// Evicts the pod of the harness, as a drain does.
pub fn evict_harness(lab: &Lab) {
    let (pod, namespace) = (harness_pod(lab), &lab.namespace);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let version = lab.disruption_budget();
    let eviction = lab.dir.path().join("eviction.json");
    let object = serde_json::json!({
        "apiVersion": version, "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    });
    std::fs::write(&eviction, object.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    lab.kubectl(&["create", "--raw", &path, "-f", eviction.to_str().unwrap()]);
}

#[test]
fn an_evicted_harness_heals_and_hands_over_and_is_not_repeated() {
    let Some(lab) = Lab::find("jobevict") else {
        return;
    };
    lab.make_namespace();
    let args = ["--in-cluster", "--storage", "empty-dir", "--mode", "raft"];
    let faults = "- {at: 1s, for: 50s, fault: scale, target: n3}\n";
    let mut run = lab.start(&[&args[..], &["--time-limit", "60s"]].concat(), faults);
    run.until("it has begun", |_| of_runs(&lab).contains("-part-0"));
    run.until("the fault is done", |_| {
        let left = of_runs(&lab);
        let third = |name: &str| name.starts_with("pod/") && name.ends_with("-2");
        !left.lines().any(third)
    });
    evict_harness(&lab);
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.contains("the harness's own pod was told to end before the run did"),
        "{said}"
    );
    let found = run.verdict();
    assert_eq!(found["verdict"], "unknown");
    assert!(found["ops"]["ok"].as_u64().unwrap() > 0, "{found}");
    assert!(found["faults"][0]["healed_at_s"].is_number(), "{found}");
    nothing_is_left(&lab);
}

#[test]
fn what_a_killed_harness_in_a_job_has_drained_is_given_back() {
    let Some(lab) = Lab::find("jobdrain") else {
        return;
    };
    lab.make_namespace();
    let drainer = ["create", "clusterrole", &lab.namespace, "--resource=nodes"];
    lab.kubectl(&[&drainer[..], &["--verb=get,list,patch"]].concat());
    let _drainer = Granted::to_runs(&lab, &lab.namespace);
    let args = ["--in-cluster", "--storage", "empty-dir", "--mode", "raft"];
    let faults = "- {at: 1s, for: 100s, fault: drain, target: n3}\n";
    let mut run = lab.start(&[&args[..], &["--time-limit", "120s"]].concat(), faults);
    run.until("a node is cordoned", |_| cordoned(&lab).contains("true"));
    match harness_in_job(&lab) {
        Some(harness) => kill_process(harness, Signal::KILL).unwrap(),
        // It is told to end, and gives the node back itself.
        None => run.signal(Signal::INT),
    }
    let (code, said) = run.end();
    assert!(matches!(code, Some(255 | 130)), "{said}");
    assert_eq!(cordoned(&lab), "");
    nothing_is_left(&lab);
}
