//! Faults by the API, each seen and healed; and what is undone when the harness dies in the middle.

use super::under_way::{Run, cordoned, until, verdict};
use super::{Lab, every_fault_was_seen_and_healed};

#[test]
fn faults_by_the_api_are_seen_and_healed() {
    let Some(lab) = Lab::find("faults") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    // One after the other: a disruption budget lets no eviction through while a node is down.
    let (code, verdict) = verdict_of(
        &lab,
        "target: {mode: raft}\nlimits: {time: 600s, until_schedule_ends: true}\n\
         faults:\n  schedule:\n    - at: 1s\n      sequence:\n\
         \x20       - {fault: kill, target: follower, via: delete, for: 500ms}\n\
         \x20       - {fault: no-endpoints, target: all, for: 2s}\n\
         \x20       - {fault: scale, target: n3, for: 2s}\n\
         \x20       - {fault: kill, target: n1, via: evict, for: 500ms}\n\
         \x20       - {fault: drain, target: n2, for: 1s}\n",
    );
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 5);
    assert_eq!(cordoned(&lab), "");
    assert_eq!(lab.there(), "");
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
    (run.status.code(), verdict(std::path::Path::new(store)))
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
    assert_eq!(lab.there(), "");
}

/// A run in the middle of a fault, as seen on the cluster.
fn in_the_middle(lab: &Lab, schedule: &str, seen: impl Fn(&Lab) -> bool) -> Run {
    let raft = ["--mode", "raft", "--seed", "5", "--time-limit", "120s"];
    let all = [&raft[..], &["--storage", "empty-dir"]].concat();
    let mut run = lab.start(&all, schedule);
    run.until("injected", |_| seen(lab));
    run
}

fn is_scaled(lab: &Lab) -> bool {
    lab.get("statefulsets", "json")
        .contains("quorate.dev/scaled")
}

/// Kills the harness once a fault is seen on the cluster; what it has left is undone without it.
fn a_dead_harness_heals(lab: &Lab, schedule: &str, seen: impl Fn(&Lab) -> bool) {
    let mut run = in_the_middle(lab, schedule, seen);
    run.kill();
    let killed = std::time::Instant::now();
    until("uncordoned", || cordoned(lab).is_empty());
    until("removed", || lab.there().is_empty());
    eprintln!("undone after {:?}", killed.elapsed());
    // The history up to then is there to be read.
    assert!(!run.history().is_empty());
    until("the keeper done", || run.is_forgotten());
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
    assert!(lab.clean(&[]).contains("0 traces"));
}

#[test]
fn what_is_left_of_harness_and_keeper_is_cleaned_but_nothing_of_a_living_run() {
    let Some(lab) = Lab::find("clean") else {
        return;
    };
    lab.make_namespace();
    let scale = "- {at: 1s, for: 100s, fault: scale, target: n3}\n";
    let mut run = in_the_middle(&lab, scale, is_scaled);
    let said = lab.clean(&[]);
    assert!(said.contains("0 traces of runs were undone"), "{said}");
    assert!(said.contains("of living runs stay"), "{said}");
    assert!(is_scaled(&lab));

    run.kill_with_keeper();
    let said = lab.clean(&["--dry-run"]);
    assert!(said.contains("scaled from 3"), "{said}");
    assert!(is_scaled(&lab));
    let said = lab.clean(&[]);
    assert!(said.contains("store run-"), "{said}");
    assert_eq!(lab.there(), "");
    assert!(lab.clean(&[]).contains("0 traces of runs were undone"));
}

#[test]
fn a_store_of_others_is_tested_scaled_back_and_left() {
    let Some(lab) = Lab::find("others") else {
        return;
    };
    lab.up();
    let fault = |time, lasts| {
        lab.on_that(
            time,
            &format!("{{at: 1s, for: {lasts}, fault: scale, target: n3}}"),
        )
    };
    let store = lab.dir.path().join("others");
    let args = |file| ["test", file, "--store", store.to_str().unwrap()];
    let replicas = || lab.get("statefulset/quorate", "jsonpath={.spec.replicas}");
    let long = fault("120s", "100s");
    let mut run = Run::start(lab.command(&args(&long)), &store);
    run.until("scaled", |_| replicas() == "2");
    run.kill();
    until("scaled back", || replicas() == "3");
    until("let go", || lab.get("leases", "name").is_empty());
    assert!(lab.get("pods", "name").contains("quorate-0"));
    until("ready again", || {
        let status = ["k8s", "status", "--namespace", &lab.namespace];
        lab.quorate(&status).status.code() == Some(0)
    });
    // Whole runs leave it, too.
    let whole = lab.quorate(&args(&fault("15s", "2s")));
    assert_eq!(whole.status.code(), Some(0));
    assert_eq!(replicas(), "3");
}

#[test]
fn a_disruption_budget_is_kept_and_said() {
    let Some(lab) = Lab::find("budget") else {
        return;
    };
    lab.up();
    let none = "{\"spec\":{\"maxUnavailable\":0}}";
    let patch = ["patch", "pdb", "quorate", "--type=merge", "-p", none, "-n"];
    lab.kubectl(&[&patch[..], &[&lab.namespace]].concat());
    let before = lab.uids();
    let file = lab.on_that(
        "60s",
        "{at: 1s, for: 1s, fault: wipe, target: n2, via: evict}",
    );
    let store = lab.dir.path().join("budget");
    let store = store.to_str().unwrap();
    let run = lab.quorate(&["test", &file, "--store", store]);
    assert_eq!(run.status.code(), Some(2));
    let verdict = verdict(std::path::Path::new(store)).to_string();
    assert!(verdict.contains("disruption budget"), "{verdict}");
    assert_eq!(lab.uids(), before);
}
