//! Faults by the API, each seen and healed; and what is undone when the harness dies in the middle.

use std::path::PathBuf;
use std::process::{Child, Stdio};
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
pub fn cordoned(lab: &Lab) -> String {
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
    // One after the other: a disruption budget lets no eviction through while a node is down.
    let schedule = "\
        - at: 1s\n  sequence:\n\
        \x20   - {fault: kill, target: follower, via: delete, for: 500ms}\n\
        \x20   - {fault: no-endpoints, target: all, for: 2s}\n\
        \x20   - {fault: scale, target: n3, for: 2s}\n\
        \x20   - {fault: kill, target: n1, via: evict, for: 500ms}\n\
        \x20   - {fault: drain, target: n2, for: 1s}\n";
    let raft = ["--mode", "raft", "--seed", "3", "--time-limit", "80s"];
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
        - at: 1s\n  sequence:\n\
        \x20   - {fault: upgrade, target: n3, for: 500ms}\n\
        \x20   - {fault: kill, target: n3, for: 500ms}\n\
        \x20   - {fault: upgrade, target: n1, for: 500ms}\n\
        \x20   - {fault: upgrade, target: n2, for: 500ms}\n\
        \x20   - {fault: rolling-restart, target: all, for: 500ms}\n";
    let all = ["--mode", "async", "--seed", "4", "--time-limit", "100s"];
    let (code, verdict) = lab.test(&[&all[..], lab.storage].concat(), schedule);
    let faults = verdict["faults"].as_array().unwrap();
    // n2 comes before n1, so that upgrade was refused; and so the run is no pass.
    for fault in faults {
        let refused = fault["name"] == "upgrade" && fault["targets"][0] == "n1";
        assert_eq!(fault["seen"], !refused, "{fault}");
    }
    assert_eq!(faults.len(), 5);
    assert!(
        verdict.to_string().contains("n2 comes before n1"),
        "{verdict}"
    );
    assert_ne!(code, Some(0), "{verdict}");
}

/// The verdict of a run of an experiment of its own in the namespace.
fn verdict_of(lab: &Lab, experiment: &str) -> (Option<i32>, serde_json::Value) {
    let folder = tempfile::tempdir_in(lab.dir.path()).unwrap().keep();
    let (file, store) = (folder.join("experiment.yaml"), folder.join("store"));
    let class = if lab.storage.is_empty() {
        ""
    } else {
        ", storage_class: quorate-e2e"
    };
    let text = format!(
        "substrate: k8s\nnodes: 3\nseed: 11\nkubernetes: {{namespace: {}, image: '{}'{class}}}\n{experiment}",
        lab.namespace, lab.image
    );
    std::fs::write(&file, text).unwrap();
    let store = store.to_str().unwrap();
    let run = lab.quorate(&["test", file.to_str().unwrap(), "--store", store]);
    let verdict = crate::run_dir(std::path::Path::new(store)).join("verdict.json");
    let verdict = std::fs::read_to_string(verdict).unwrap();
    (run.status.code(), serde_json::from_str(&verdict).unwrap())
}

#[test]
fn versions_go_up_and_down_again_whole() {
    let Some(lab) = Lab::find("downgrade") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let (code, verdict) = verdict_of(
        &lab,
        "target: {ack: semi-sync(1), failover_requires_majority: true, fencing: epoch, stream: logical}\n\
         versions: {from: '@2', to: '@3'}\nlimits: {time: 180s, until_schedule_ends: true}\n\
         faults:\n  schedule:\n    - at: 1s\n      sequence:\n\
         \x20       - {use: rolling-upgrade}\n        - {use: rolling-downgrade}\n",
    );
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 6);
    let faults = verdict["faults"].as_array().unwrap();
    let each = faults.iter().map(|fault| {
        let name = fault["name"].as_str().unwrap();
        format!("{name} {}", fault["targets"][0].as_str().unwrap())
    });
    assert_eq!(
        each.collect::<Vec<_>>(),
        [
            "upgrade n3",
            "upgrade n2",
            "upgrade n1",
            "downgrade n3",
            "downgrade n2",
            "downgrade n1"
        ]
    );
}

#[test]
fn what_operators_do_has_packages() {
    let Some(lab) = Lab::find("packages") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let (code, verdict) = verdict_of(
        &lab,
        "target: {mode: raft}\nlimits: {time: 180s, until_schedule_ends: true}\n\
         faults:\n  schedule:\n    - at: 1s\n      sequence:\n\
         \x20       - {use: no-endpoints}\n        - {use: scale}\n        - {use: drain}\n        \
         - {use: rollout-restart}\n",
    );
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 4);
    assert_eq!(cordoned(&lab), "");
    assert_eq!(there(&lab, "statefulsets,services,leases,pods"), "");
}

/// A harness in the middle of a fault, and where its run is. Killed when dropped.
struct Running {
    harness: Child,
    store: PathBuf,
}

impl Running {
    /// Starts a run with these faults, and waits until one is seen on the cluster.
    fn start(lab: &Lab, schedule: &str, seen: impl Fn(&Lab) -> bool) -> Self {
        let raft = ["--mode", "raft", "--seed", "5", "--time-limit", "120s"];
        let all = [&raft[..], &["--storage", "empty-dir"]].concat();
        let (args, store) = lab.test_args(&all, schedule);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let harness = lab
            .command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Self { harness, store };
        until("injected", Duration::from_secs(240), || {
            assert!(running.harness.try_wait().unwrap().is_none(), "it ended");
            seen(lab)
        });
        running
    }

    fn run_dir(&self) -> PathBuf {
        crate::run_dir(&self.store)
    }

    fn kill(&mut self) {
        self.harness.kill().unwrap();
        self.harness.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.harness.kill();
        let _ = self.harness.wait();
    }
}

fn is_scaled(lab: &Lab) -> bool {
    let sets = ["get", "statefulsets", "-n", &lab.namespace, "-o", "json"];
    lab.kubectl(&sets).contains("quorate.dev/scaled")
}

/// Kills the harness once a fault is seen on the cluster; what it has left is undone without it.
fn a_dead_harness_heals(lab: &Lab, schedule: &str, seen: impl Fn(&Lab) -> bool) {
    let mut running = Running::start(lab, schedule, seen);
    running.kill();
    let killed = Instant::now();
    until("uncordoned", UNDONE_WITHIN, || cordoned(lab).is_empty());
    until("removed", UNDONE_WITHIN, || {
        there(lab, "statefulsets,services,leases,pods").is_empty()
    });
    eprintln!("undone after {:?}", killed.elapsed());
    // The history up to then is there to be read.
    let run = running.run_dir();
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
    a_dead_harness_heals(&lab, scale, is_scaled);
    // Nothing was left for it to do.
    let clean = lab.quorate(&["clean", "--on", "k8s", "--namespace", &lab.namespace]);
    assert_eq!(clean.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&clean.stdout).contains("0 traces"));
}

#[test]
fn what_is_left_of_harness_and_keeper_is_cleaned_but_nothing_of_a_living_run() {
    let Some(lab) = Lab::find("clean") else {
        return;
    };
    lab.make_namespace();
    let clean = |args: &[&str]| {
        let all = ["clean", "--on", "k8s", "--namespace", &lab.namespace];
        let output = lab.quorate(&[&all[..], args].concat());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let scale = "- {at: 1s, for: 100s, fault: scale, target: n3}\n";
    let mut running = Running::start(&lab, scale, is_scaled);
    let said = clean(&[]);
    assert!(said.contains("0 traces of runs were undone"), "{said}");
    assert!(said.contains("of living runs stay"), "{said}");
    assert!(is_scaled(&lab));

    let leases = std::fs::read_to_string(running.run_dir().join("leases.json")).unwrap();
    let leases: serde_json::Value = serde_json::from_str(&leases).unwrap();
    let keeper = i32::try_from(leases["keeper"]["pid"].as_u64().unwrap()).unwrap();
    // The harness must not live to replace it.
    let stop = Pid::from_raw(i32::try_from(running.harness.id()).unwrap()).unwrap();
    kill_process(stop, Signal::STOP).unwrap();
    kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    running.kill();
    let said = clean(&["--dry-run"]);
    assert!(said.contains("scaled from 3"), "{said}");
    assert!(is_scaled(&lab));
    let said = clean(&[]);
    assert!(said.contains("store run-"), "{said}");
    assert_eq!(there(&lab, "statefulsets,services,leases,pods"), "");
    assert!(clean(&[]).contains("0 traces of runs were undone"));
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
         {{selector: app.kubernetes.io/instance=quorate, port: 7100}}\n\
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
    until("scaled", Duration::from_secs(240), || {
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

#[test]
fn a_disruption_budget_is_kept_and_said() {
    let Some(lab) = Lab::find("budget") else {
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
    let none = "{\"spec\":{\"maxUnavailable\":0}}";
    let patch = ["patch", "pdb", "quorate", "--type=merge", "-p", none, "-n"];
    lab.kubectl(&[&patch[..], &[namespace]].concat());
    let uids = || {
        let of = ["get", "pods", "-n", namespace, "-o"];
        lab.kubectl(&[&of[..], &["jsonpath={.items[*].metadata.uid}"]].concat())
    };
    let before = uids();
    let file = lab.dir.path().join("budget.yaml");
    let text = format!(
        "substrate: k8s\ntarget: {{mode: raft}}\nnodes: 3\nseed: 9\nlimits: {{time: 60s}}\n\
         kubernetes:\n  namespace: {namespace}\n  storage: empty-dir\n  statefulset: \
         {{selector: app.kubernetes.io/instance=quorate, port: 7100}}\n\
         faults:\n  schedule:\n    - {{at: 1s, for: 1s, fault: wipe, target: n2, via: evict}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let store = lab.dir.path().join("budget");
    let store = store.to_str().unwrap();
    let run = lab.quorate(&["test", file.to_str().unwrap(), "--store", store]);
    assert_eq!(run.status.code(), Some(2));
    let verdict = crate::run_dir(std::path::Path::new(store)).join("verdict.json");
    let verdict = std::fs::read_to_string(verdict).unwrap();
    assert!(verdict.contains("disruption budget"), "{verdict}");
    assert_eq!(uids(), before);
}
