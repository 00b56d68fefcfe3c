//! Runs in a Job: the verdict comes back, whatever it is, and nothing of them stays.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::faults::cordoned;
use super::{Lab, every_fault_was_seen_and_healed};
use crate::run_dir;

/// What one of these may take; they end long before.
const WITHIN: Duration = Duration::from_secs(120);

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not after {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The objects of runs in a namespace, by kind and name.
pub fn of_runs(lab: &Lab) -> String {
    let kinds =
        "jobs,pods,statefulsets,services,poddisruptionbudgets,configmaps,persistentvolumeclaims";
    lab.kubectl(&[
        "get",
        kinds,
        "-n",
        &lab.namespace,
        "-l",
        "quorate.dev/run",
        "-o",
        "name",
    ])
}

/// The only run of a namespace.
pub fn run_of(lab: &Lab) -> String {
    let jobs = lab.kubectl(&["get", "jobs", "-n", &lab.namespace, "-o", "name"]);
    jobs.trim_start_matches("job.batch/").to_owned()
}

/// The process with this argument, if it is one of this machine.
pub fn process_with(argument: &str) -> Option<rustix::process::Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|process| {
        let words = std::fs::read(process.path().join("cmdline")).ok()?;
        let says = words
            .split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes());
        let pid = process.file_name().to_str()?.parse().ok()?;
        says.then(|| rustix::process::Pid::from_raw(pid)).flatten()
    });
    found.min_by_key(|pid| pid.as_raw_nonzero())
}

pub fn nothing_is_left(lab: &Lab) {
    until("nothing of the run is left", || of_runs(lab).is_empty());
}

pub fn verdict(store: &Path) -> Value {
    let text = std::fs::read_to_string(run_dir(store).join("verdict.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

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
    let (args, store) = lab.test_args(&[&inside[..], &lossy].concat(), all);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = lab.quorate(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("recovering"), "the run is shown: {said}");
    let found = verdict(&store);
    assert_eq!(found["verdict"], "invalid");
    let repeat = found["reproduce"].as_str().unwrap();
    assert!(repeat.contains("--in-cluster"), "{repeat}");
    assert!(repeat.contains(store.to_str().unwrap()), "{repeat}");
    for file in [
        "experiment.yaml",
        "schedule.yaml",
        "history.jsonl",
        "report.html",
        "junit.xml",
    ] {
        assert!(run_dir(&store).join(file).exists(), "{file}");
    }
    // What came back is judged here as it was there.
    let again = lab.quorate(&["report", run_dir(&store).to_str().unwrap()]);
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
    let (args, _) = lab.test_args(&[&inside[..], &missing].concat(), "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = lab.quorate(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(
        said.contains("cannot have the image quorate-e2e-missing:1"),
        "{said}"
    );
    nothing_is_left(&lab);

    // The harness is gone at once, without time to say anything. (A pod that is deleted with force
    // still gets two seconds, in which it hands over what there is.)
    let (args, store) = lab.test_args(&[&inside[..], &["--time-limit", "60s"]].concat(), "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = lab
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("a part of the history is handed over", || {
        of_runs(&lab).contains("-part-1")
    });
    let Some(harness) = process_with(&format!("--run={}", run_of(&lab))) else {
        eprintln!(
            "skipped: the harness's process is not on this machine, where it could be killed"
        );
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::INT,
        );
        child.wait_with_output().unwrap();
        return;
    };
    rustix::process::kill_process(harness, rustix::process::Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(
        said.contains("the harness's own pod ended before the run did"),
        "{said}"
    );
    let history = std::fs::read_to_string(run_dir(&store).join("history.jsonl")).unwrap();
    assert!(
        history.lines().count() > 100,
        "{} lines",
        history.lines().count()
    );
    // What there is can be judged, and does not pass for a whole run.
    let judged = lab.quorate(&["report", run_dir(&store).to_str().unwrap()]);
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
    let (args, store) = lab.test_args(&args, "[]\n");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = lab.command(&args).spawn().unwrap();
    until("the run has begun", || of_runs(&lab).contains("-part-0"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let found = verdict(&store);
    assert_eq!(found["verdict"], "unknown");
    assert!(found["ops"]["ok"].as_u64().unwrap() > 0, "{found}");
    nothing_is_left(&lab);
}

/// The pod of the harness.
pub fn harness_pod(lab: &Lab) -> Value {
    let label = format!("job-name={}", run_of(lab));
    let pods = lab.kubectl(&[
        "get",
        "pods",
        "-n",
        &lab.namespace,
        "-l",
        &label,
        "-o",
        "json",
    ]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    pods["items"][0].clone()
}

/// Evicts the pod of the harness, as a drain does.
pub fn evict_harness(lab: &Lab) {
    let (pod, namespace) = (harness_pod(lab), &lab.namespace);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let version = lab.kubectl(&["api-versions"]);
    let version = if version.lines().any(|line| line == "policy/v1") {
        "policy/v1"
    } else {
        "policy/v1beta1"
    };
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
    let (args, store) = lab.test_args(&[&args[..], &["--time-limit", "60s"]].concat(), faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = lab
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the run has begun", || of_runs(&lab).contains("-part-0"));
    until("the fault is done", || {
        let left = of_runs(&lab);
        let third = |name: &str| name.starts_with("pod/") && name.ends_with("-2");
        !left.lines().any(third)
    });
    evict_harness(&lab);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("the harness's own pod was told to end before the run did"),
        "{said}"
    );
    let found = verdict(&store);
    assert_eq!(found["verdict"], "unknown");
    assert!(found["ops"]["ok"].as_u64().unwrap() > 0, "{found}");
    assert!(found["faults"][0]["healed_at_s"].is_number(), "{found}");
    nothing_is_left(&lab);
}

/// The right to cordon nodes for the account of runs; taken away when dropped.
struct Drainer<'a>(&'a Lab);

impl<'a> Drainer<'a> {
    fn make(lab: &'a Lab) -> Self {
        let (name, account) = (&lab.namespace, format!("{}:quorate-runner", lab.namespace));
        let verbs = ["--verb=get,list,patch", "--resource=nodes"];
        lab.kubectl(&[&["create", "clusterrole", name][..], &verbs].concat());
        let drainer = Self(lab);
        let bound = ["--clusterrole", name, "--serviceaccount", &account];
        lab.kubectl(&[&["create", "clusterrolebinding", name][..], &bound].concat());
        drainer
    }
}

impl Drop for Drainer<'_> {
    fn drop(&mut self) {
        let away = [
            "delete",
            "clusterrole,clusterrolebinding",
            &self.0.namespace,
        ];
        let _ = self.0.kubectl_command().args(away).status();
    }
}

#[test]
fn what_a_killed_harness_in_a_job_has_drained_is_given_back() {
    let Some(lab) = Lab::find("jobdrain") else {
        return;
    };
    lab.make_namespace();
    let _drainer = Drainer::make(&lab);
    let args = ["--in-cluster", "--storage", "empty-dir", "--mode", "raft"];
    let faults = "- {at: 1s, for: 100s, fault: drain, target: n3}\n";
    let (args, _) = lab.test_args(&[&args[..], &["--time-limit", "120s"]].concat(), faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let child = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("a node is cordoned", || cordoned(&lab).contains("true"));
    let harness = process_with(&format!("--run={}", run_of(&lab)));
    let (pid, signal) = match harness {
        Some(harness) => (harness, rustix::process::Signal::KILL),
        // Not on this machine: it is told to end, and gives the node back itself.
        None => (
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::INT,
        ),
    };
    rustix::process::kill_process(pid, signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(255 | 130)), "{said}");
    assert_eq!(cordoned(&lab), "");
    nothing_is_left(&lab);
}
