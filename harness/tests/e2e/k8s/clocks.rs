//! Clocks that agents make wrong: nodes say so, whoever is killed they become right again, and where
//! it cannot be done that is said before anything is.

use std::fs;
use std::process::Output;

use k8s::agent::locate::Tree;
use nemesis::mechanism::clock::container::{PLACE, Program};
use serde_json::Value;

use super::agent::{Agents, Pod, RAFT, Run, kill_agent, visible};
use super::under_way::until;
use super::{Lab, every_fault_was_seen_and_healed};

/// The flag of runs whose nodes have clocks that can be made wrong.
const CLOCKS: [&str; 1] = ["--clocks"];
const RIGHT: &str = "+0.000";

fn has_library(lab: &Lab) -> bool {
    let has = lab.kit.is_none() || nemesis::mechanism::clock::available().is_ok();
    if !has {
        eprintln!("skipped: libfaketime is not on this machine, of whose files the image is made");
    }
    has
}

/// What the clock of a pod goes by, as seen from outside.
fn said(pod: &Pod) -> Option<String> {
    let groups = Tree::at("/sys/fs/cgroup").container(&pod.uid, &pod.container);
    let processes = groups.ok()?.freezer.processes().ok()?;
    let mut programs = processes
        .into_iter()
        .filter_map(|pid| Program::of(pid).ok());
    let program = programs.find(|program| program.path.as_os_str() == PLACE)?;
    program.file().said().ok()?
}

/// Whether all pods are there still, and have right clocks.
fn are_right(run: &Run) -> bool {
    let said: Vec<_> = run.pods.iter().map(said).collect();
    let right = said.iter().all(|said| said.as_deref() == Some(RIGHT));
    if !right {
        eprintln!("{said:?}");
    }
    right
}

/// The arguments that bring up a store.
fn up(lab: &Lab) -> Vec<&str> {
    let (namespace, image) = (lab.namespace.as_str(), lab.image.as_str());
    let mut all = vec!["k8s", "up", "--namespace", namespace, "--image", image];
    all.extend(["--mode", "raft", "--storage", "empty-dir"]);
    all
}

/// The store as one that runs already and that only its HTTP API is known of: a run does not remove
/// it, and cannot ask it for the time.
fn described(lab: &Lab) -> String {
    let api = lab.dir.path().join("api.yaml");
    let text = "read: {request: 'GET /v1/kv/{key}', value: {at: /value, optional: true}, fail: [421]}\n\
                write: {request: 'PUT /v1/kv/{key}', body: '{\"value\": {value}}', fail: [421]}\n";
    fs::write(&api, text).unwrap();
    format!("http:{}", api.display())
}

fn running(target: &str) -> Vec<&str> {
    let mut all = vec!["--agent", "--clocks", "--target", target, "--seed", "4"];
    all.extend(["--statefulset", "app.kubernetes.io/instance=quorate"]);
    all.extend(["--port", "7100"]);
    all
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nodes_say_that_their_clocks_are_wrong_and_right_again() {
    let Some(agents) = Agents::start("agent-clock") else {
        return;
    };
    let Agents(lab) = &agents;
    if !has_library(lab) {
        return;
    }
    let faults = "\
        - {at: 1s, for: 5s, fault: clock-jump, by: 5s, target: n1}\n\
        - {at: 9s, for: 3s, fault: clock-jump, by: -2s, target: follower}\n\
        - {at: 17s, for: 3s, fault: clock-drift, ppm: 100000, target: n2}\n\
        - {at: 26s, for: 3s, fault: clock-strobe, by: 2s, every: 200ms, target: n3}\n";
    let (code, verdict) = lab.test(
        &[&RAFT[..], &CLOCKS, &["--time-limit", "36s"]].concat(),
        faults,
    );
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 4);
    for fault in verdict["faults"].as_array().unwrap() {
        let proof = fault["proof"].as_str().unwrap();
        assert!(proof.starts_with("by libfaketime"), "{proof}");
        assert!(proof.contains("itself says that its clock"), "{proof}");
    }
}

#[test]
fn a_clock_is_set_right_when_harness_or_agents_are_killed() {
    let Some(agents) = Agents::start("clock-owners") else {
        return;
    };
    let Agents(lab) = &agents;
    if !has_library(lab) {
        return;
    }
    let faults = "- {at: 1s, for: 60s, fault: clock-jump, by: 7s, target: n1}\n\
                  - {at: 1s, for: 60s, fault: clock-drift, ppm: 50000, target: n2}\n\
                  - {at: 1s, for: 60s, fault: clock-strobe, by: 2s, every: 200ms, target: n3}\n";
    let target = described(lab);
    let store = lab.quorate(&[&up(lab)[..], &CLOCKS].concat());
    assert_eq!(store.status.code(), Some(0));
    let mut run = Run::in_the_middle(lab, &running(&target), faults, 3);
    if !visible(&run) {
        return;
    }
    assert_eq!(said(&run.pods[0]).as_deref(), Some("+7.000"));
    assert_eq!(said(&run.pods[1]).as_deref(), Some("+0.000 x1.050000"));
    run.kill();
    until("the clocks are right", || are_right(&run));

    let run = Run::in_the_middle(lab, &running(&target), faults, 3);
    assert!(!are_right(&run));
    for pod in &run.pods {
        kill_agent(lab, &pod.on);
    }
    until("the clocks are right", || are_right(&run));
    // A fault that ended before its time earns no credit.
    let (code, verdict) = run.end();
    assert_eq!(code, Some(2), "{verdict}");
}

#[test]
fn clocks_of_nodes_without_libfaketime_are_refused_before_anything_starts() {
    let Some(agents) = Agents::start("clock-refused") else {
        return;
    };
    let Agents(lab) = &agents;
    if !has_library(lab) {
        return;
    }
    let faults = "- {at: 1s, for: 4s, fault: clock-jump, by: 3s, target: n1}\n";
    // A store of the run's own that is not to be started with it.
    let (args, store) = lab.test_args(&RAFT, faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = lab.quorate(&args);
    assert_eq!(refused.status.code(), Some(254));
    assert!(stderr(&refused).contains("--clocks"));
    assert!(!store.exists());

    let target = described(lab);
    let running = [&running(&target)[..], &["--time-limit", "12s"]].concat();
    let up = up(lab);
    // One that runs already, whose template says nothing of it.
    assert_eq!(lab.quorate(&up).status.code(), Some(0));
    let (args, _) = lab.test_args(&running, faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for more in [&[][..], &["--dry-run"]] {
        let refused = lab.quorate(&[&args[..], more].concat());
        assert_eq!(refused.status.code(), Some(255));
        let said = stderr(&refused);
        assert!(said.contains("FAKETIME_TIMESTAMP_FILE=/dev/shm/"), "{said}");
    }
    // One whose template says it of a library that is not in the image: the agents see that.
    let broken = r#"{"spec":{"template":{"spec":{"containers":[{"name":"node","env":[{"name":"LD_PRELOAD","value":"/nowhere/libfaketime.so.1"}]}]}}}}"#;
    assert_eq!(
        lab.quorate(&[&up[..], &CLOCKS].concat()).status.code(),
        Some(0)
    );
    let patch = [
        "patch",
        "statefulset",
        "quorate",
        "-n",
        &lab.namespace,
        "-p",
    ];
    lab.kubectl(&[&patch[..], &[broken]].concat());
    let rolled = ["rollout", "status", "statefulset/quorate", "-n"];
    lab.kubectl(&[&rolled[..], &[&lab.namespace]].concat());
    let refused = lab.quorate(&args);
    assert_eq!(refused.status.code(), Some(255));
    let said = stderr(&refused);
    assert!(said.contains("does not load libfaketime"), "{said}");

    // One that loads it, of which nobody knows how to ask it for the time.
    assert_eq!(
        lab.quorate(&[&up[..], &CLOCKS].concat()).status.code(),
        Some(0)
    );
    let (_, verdict): (_, Value) = lab.test(&running, faults);
    every_fault_was_seen_and_healed(&verdict, 1);
    let proof = verdict["faults"][0]["proof"].as_str().unwrap();
    assert!(proof.contains("has read that by libfaketime"), "{proof}");
    assert!(
        proof.contains("does not say what its clock shows"),
        "{proof}"
    );
}
