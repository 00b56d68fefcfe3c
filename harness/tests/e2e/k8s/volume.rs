//! Results in a volume: there when the Job is gone, and when its harness was killed.

use rustix::process::{Signal, kill_process};

use super::Lab;
use super::under_way::{Run, harness_in_job, nothing_is_left, of_runs, until, verdict};
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
    let mut whole = lab.start(&args, "[]\n");
    let (code, said) = whole.end();
    assert_eq!(code, Some(0));
    let run = said.split("starting Job ").nth(1).unwrap();
    let run = run.split_whitespace().next().unwrap();
    let history = whole.history();
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
    let fetched = std::fs::read_to_string(run_dir(&again).join("history.jsonl")).unwrap();
    assert!(fetched == history, "another history");
    let other = lab.quorate(&[&fetch[..], &["--results", "pvc:nobodys"]].concat());
    assert_eq!(other.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&other.stderr).contains("there is no claim nobodys"));

    a_fetch_that_is_killed_stands_in_nobodys_way(&lab, run, &fetch);

    // A harness that is killed leaves all that it has recorded.
    let long = ["--mode", "raft", "--time-limit", "60s"];
    let args = [&claim[..], &long, lab.storage].concat();
    let mut run = lab.start(&args, "[]\n");
    run.until("its store is there", |_| {
        of_runs(&lab).contains("statefulset")
    });
    let ready = || lab.get("statefulsets", "jsonpath={.items[0].status.readyReplicas}");
    run.until("its store is ready", |_| ready() == "3");
    let recorded = || {
        let runs = lab.get("leases", "json");
        let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
        let beats = &runs["items"][0]["metadata"]["annotations"]["quorate.dev/beats"];
        beats.as_str().and_then(|beats| beats.parse::<u64>().ok())
    };
    // Some seconds of it.
    let before = recorded().unwrap_or_default();
    run.until("it is under way", |_| recorded() > Some(before + 3));
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
    assert!(run.history().lines().count() > 100);
    let judged = lab.quorate(&["report", run.dir().to_str().unwrap()]);
    assert_eq!(judged.status.code(), Some(2));
    assert_eq!(verdict(&again)["verdict"], "valid");
    nothing_is_left(&lab);
}

/// Kills fetches in the middle; the pods that read for them end by themselves and are cleaned away.
fn a_fetch_that_is_killed_stands_in_nobodys_way(lab: &Lab, run: &str, fetch: &[&str]) {
    let pod = format!("pod/{run}-fetch");
    let killed = |name: &str| {
        let store = lab.dir.path().join(name);
        // The arguments end with the store.
        let flags = [store.to_str().unwrap(), "--results", "pvc"];
        let args = [&fetch[..fetch.len() - 1], &flags].concat();
        let mut fetching = Run::start(lab.command(&args), &store);
        fetching.until("it reads", |_| lab.get("pods", "name").contains(&pod));
        fetching.kill();
    };
    let phase = || lab.get(&pod, "jsonpath={.status.phase}");
    let late = || {
        let soon = "{\"spec\":{\"activeDeadlineSeconds\":1}}";
        lab.kubectl(&["patch", &pod, "-p", soon, "-n", &lab.namespace]);
        until("it has ended by itself", || phase() == "Failed");
    };
    killed("killed");
    // Somebody may still wait for it.
    assert!(lab.clean(&[]).contains("of living runs stay"));
    late();
    let fetched = lab.quorate(&[fetch, &["--results", "pvc"]].concat());
    assert_eq!(fetched.status.code(), Some(0), "it was not made anew");
    killed("again");
    late();
    let said = lab.clean(&[]);
    assert!(said.contains("which reads a volume"), "{said}");
    assert_eq!(of_runs(lab).matches("pod/").count(), 0);
}
