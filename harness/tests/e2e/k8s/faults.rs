//! Faults by the API, each seen and healed; and what is undone when the harness dies in the middle.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, every_fault_was_seen_and_healed};

/// How long what a dead harness has left may stay. Kubelets of 1.20 take their time over pods.
const UNDONE_WITHIN: Duration = Duration::from_secs(90);

/// Waits until something is so.
fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not {what} after {within:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The nodes that a run of this namespace has cordoned.
fn cordoned(lab: &Lab) -> String {
    let owner = format!("{}/", lab.namespace);
    let columns = "custom-columns=NAME:.metadata.name,NO:.spec.unschedulable,\
                   BY:.metadata.annotations.quorate\\.dev/cordoned-by";
    let all = lab.kubectl(&["get", "nodes", "--no-headers", "-o", columns]);
    let ours = all.lines().filter(|line| line.contains(&owner));
    ours.collect::<Vec<_>>().join("\n")
}

/// What of this kind is in the namespace, by name.
fn there(lab: &Lab, kind: &str) -> String {
    lab.kubectl(&["get", kind, "-n", &lab.namespace, "-o", "name"])
}

#[test]
fn faults_by_the_api_are_seen_and_healed() {
    let Some(lab) = Lab::find("faults") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let schedule = "\
        - {at: 2s, for: 1s, fault: kill, target: follower, via: delete}\n\
        - {at: 3s, for: 1s, fault: kill, target: n1, via: evict, within: 60s}\n\
        - {at: 4s, for: 3s, fault: scale, target: n3, within: 60s}\n\
        - {at: 5s, for: 3s, fault: no-endpoints, target: all, within: 90s}\n\
        - {at: 6s, for: 3s, fault: drain, target: n2, within: 120s}\n";
    let raft = ["--mode", "raft", "--seed", "3", "--time-limit", "100s"];
    let (code, verdict) = lab.test(&[&raft[..], lab.storage].concat(), schedule);
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 5);
    assert_eq!(cordoned(&lab), "");
    assert_eq!(there(&lab, "statefulsets,services,leases,pods"), "");
}

#[test]
fn versions_are_rolled_from_the_highest_ordinal_down() {
    let Some(lab) = Lab::find("rolling") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let schedule = "\
        - {at: 2s, for: 1s, fault: upgrade, target: n3}\n\
        - {at: 3s, for: 1s, fault: kill, target: n3, within: 60s}\n\
        - {at: 4s, for: 1s, fault: upgrade, target: n1, within: 60s}\n\
        - {at: 5s, for: 1s, fault: rolling-restart, target: all, within: 90s}\n";
    let all = ["--mode", "async", "--seed", "4", "--time-limit", "100s"];
    let (code, verdict) = lab.test(&[&all[..], lab.storage].concat(), schedule);
    let faults = verdict["faults"].as_array().unwrap();
    // n2 comes before n1, so that upgrade was refused; and so the run is no pass.
    for fault in faults {
        let refused = fault["name"] == "upgrade" && fault["targets"][0] == "n1";
        assert_eq!(fault["seen"], !refused, "{fault}");
    }
    assert_eq!(faults.len(), 4);
    assert!(
        verdict.to_string().contains("n2 comes before n1"),
        "{verdict}"
    );
    assert_ne!(code, Some(0), "{verdict}");
}

/// Kills the harness once a fault is seen on the cluster; what it has left is undone without it.
fn a_dead_harness_heals(lab: &Lab, schedule: &str, seen: impl Fn(&Lab) -> bool) {
    let raft = ["--mode", "raft", "--seed", "5", "--time-limit", "120s"];
    let (args, store) = lab.test_args(&[&raft[..], &["--storage", "empty-dir"]].concat(), schedule);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut harness = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("injected", Duration::from_secs(90), || {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended");
        seen(lab)
    });
    let pid = Pid::from_raw(i32::try_from(harness.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    harness.wait().unwrap();
    let killed = Instant::now();
    until("uncordoned", UNDONE_WITHIN, || cordoned(lab).is_empty());
    until("removed", UNDONE_WITHIN, || {
        there(lab, "statefulsets,services,leases,pods").is_empty()
    });
    eprintln!("undone after {:?}", killed.elapsed());
    // The history up to then is there to be read.
    let run = crate::run_dir(&store);
    let history = run.join("history.jsonl");
    assert!(history.metadata().is_ok_and(|history| history.len() > 0));
    until("the keeper done", UNDONE_WITHIN, || {
        !run.join("leases.json").exists()
    });
}

#[test]
fn what_a_dead_harness_has_drained_and_scaled_is_undone() {
    let Some(lab) = Lab::find("dead") else {
        return;
    };
    lab.make_namespace();
    let drain = "- {at: 1s, for: 100s, fault: drain, target: n3}\n";
    a_dead_harness_heals(&lab, drain, |lab| cordoned(lab).contains("true"));
    let scale = "- {at: 1s, for: 100s, fault: scale, target: n3}\n";
    a_dead_harness_heals(&lab, scale, |lab| {
        let sets = ["get", "statefulsets", "-n", &lab.namespace, "-o", "json"];
        lab.kubectl(&sets).contains("quorate.dev/scaled")
    });
    // Nothing was left for it to do.
    let clean = lab.quorate(&["clean", "--on", "k8s", "--namespace", &lab.namespace]);
    assert_eq!(clean.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&clean.stdout).contains("0 traces"));
}

#[test]
fn a_store_of_others_is_tested_scaled_back_and_left() {
    let Some(lab) = Lab::find("others") else {
        return;
    };
    let namespace = lab.namespace.as_str();
    let up = [
        "k8s",
        "up",
        "--namespace",
        namespace,
        "--mode",
        "raft",
        "--storage",
        "empty-dir",
        "--image",
        &lab.image,
    ];
    assert_eq!(lab.quorate(&up).status.code(), Some(0));
    let file = lab.dir.path().join("others.yaml");
    let text = format!(
        "substrate: k8s\ntarget: {{mode: raft}}\nnodes: 3\nseed: 8\nlimits: {{time: 120s}}\n\
         kubernetes:\n  namespace: {namespace}\n  storage: empty-dir\n  statefulset: \
         {{selector: app.kubernetes.io/instance=quorate, port: 7100, client: reference}}\n\
         faults:\n  schedule:\n    - {{at: 1s, for: 100s, fault: scale, target: n3}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let store = lab.dir.path().join("others");
    let args = [
        "test",
        file.to_str().unwrap(),
        "--store",
        store.to_str().unwrap(),
    ];
    let mut harness = lab
        .command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let replicas = || {
        let of = ["get", "statefulset", "quorate", "-n", namespace, "-o"];
        lab.kubectl(&[&of[..], &["jsonpath={.spec.replicas}"]].concat())
    };
    until("scaled", Duration::from_secs(90), || {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended");
        replicas() == "2"
    });
    let pid = Pid::from_raw(i32::try_from(harness.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    harness.wait().unwrap();
    until("scaled back", UNDONE_WITHIN, || replicas() == "3");
    until("let go", UNDONE_WITHIN, || there(&lab, "leases").is_empty());
    assert!(there(&lab, "pods").contains("quorate-0"));
    until("ready again", UNDONE_WITHIN, || {
        let status = ["k8s", "status", "--namespace", namespace];
        lab.quorate(&status).status.code() == Some(0)
    });
    // Whole runs leave it, too.
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("120s", "15s").replace("for: 100s", "for: 2s");
    std::fs::write(&file, text).unwrap();
    let whole = lab.quorate(&args);
    assert_eq!(whole.status.code(), Some(0));
    assert_eq!(replicas(), "3");
}
