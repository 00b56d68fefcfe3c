//! Throw-away copies of a store that runs already: an upgrade is tried on them, and none stays.

use serde_json::Value;

use super::under_way::{Run, harness_in_job, until};
use super::{Granted, Lab, etcd};

/// The arguments of one roll of a copy from the image of the original to this one.
fn roll<'a>(lab: &'a Lab, to: &'a str, faults: &'a str, store: &'a str) -> Vec<&'a str> {
    let on = ["preflight", "--on=k8s", "--namespace", &lab.namespace];
    let versions = ["--from", etcd::IMAGE, "--to", to, "--faults", faults];
    let how = ["--rolls=1", "--seed=1", "-o=json", "--store", store];
    [&on[..], &etcd::FLAGS, &versions, &how].concat()
}

/// The namespaces of copies.
fn copies(lab: &Lab) -> String {
    let of = format!("quorate.dev/copy-of={}", lab.namespace);
    lab.kubectl(&["get", "namespaces", "-l", &of, "-o", "name"])
}

#[test]
fn an_upgrade_is_tried_on_a_copy() {
    let Some(lab) = &etcd::start("copies") else {
        return;
    };
    let before = lab.uids();
    let store = lab.dir.path().join("store");
    let preflight = |to: &str| {
        lab.provide_volumes(3);
        let output = lab.quorate(&roll(lab, to, "kill", store.to_str().unwrap()));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = preflight(etcd::NEXT);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["rolls"][0]["changes"], serde_json::json!([6, 6]));
    let (code, report) = preflight(etcd::BROKEN);
    assert_eq!(code, Some(1), "{report}");
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("n3 did not come up"), "{reasons}");
    // Nothing was done to the original, and nothing is left of the copies.
    assert_eq!(lab.uids(), before);
    assert_eq!(copies(lab), "");
}

#[test]
fn what_limits_the_pods_of_the_original_limits_those_of_the_copy() {
    let Some(lab) = &etcd::start("limits") else {
        return;
    };
    let namespace = &lab.namespace;
    let budget = lab.disruption_budget();
    lab.apply(&format!(
        "apiVersion: {budget}\nkind: PodDisruptionBudget\n\
         metadata: {{name: etcd, namespace: {namespace}}}\n\
         spec: {{maxUnavailable: 0, selector: {{matchLabels: {{app: etcd}}}}}}\n\
         ---\napiVersion: {budget}\nkind: PodDisruptionBudget\n\
         metadata: {{name: web, namespace: {namespace}}}\n\
         spec: {{maxUnavailable: 1, selector: {{matchLabels: {{app: web}}}}}}\n\
         ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: etcd, namespace: {namespace}}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: etcd}}}}\n  ingress: [{{from: [{{namespaceSelector: \
         {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}]}}]\n"
    ));
    lab.provide_volumes(3);
    // The budget of the original forbids it on the copy, too.
    let faults = "- {at: 1s, for: 1s, fault: drain, target: n2}\n";
    let mut run = copied(lab, &["--time-limit", "60s"], faults);
    run.until("a copy is hurt", |run| run.history().contains("begin"));
    let copy = copies(lab);
    let copy = copy.trim_start_matches("namespace/");
    let there = ["get", "pdb,networkpolicies", "-o", "name", "-n", copy];
    assert_eq!(
        lab.kubectl(&there),
        "poddisruptionbudget.policy/etcd\nnetworkpolicy.networking.k8s.io/etcd"
    );
    let lets_in = "jsonpath={.spec.ingress[0].from[0].namespaceSelector.matchLabels.*}";
    let lets_in = ["get", "networkpolicy", "etcd", "-o", lets_in, "-n", copy];
    assert_eq!(lab.kubectl(&lets_in), copy);
    let (code, said) = run.end();
    assert_eq!(code, Some(2), "{said}");
    let proof = run.verdict()["faults"][0]["proof"].to_string();
    assert!(proof.contains("disruption budget"), "{proof}");
    assert_eq!(copies(lab), "");
}

/// A run on a copy, with these faults.
fn copied(lab: &Lab, args: &[&str], faults: &str) -> Run {
    let file = lab.dir.path().join("copy.yaml");
    let text = "kubernetes: {statefulset: {selector: app=etcd, port: 2379, copy: true}}\n";
    std::fs::write(&file, text).unwrap();
    let file = [file.to_str().unwrap(), "--target", "etcd"];
    lab.start(&[&file, args].concat(), faults)
}

/// The nodes that are cordoned by runs on copies of what is in the namespace.
fn cordoned_by(copies: &str, lab: &Lab) -> bool {
    let by = "jsonpath={.items[*].metadata.annotations.quorate\\.dev/cordoned-by}";
    let by = lab.kubectl(&["get", "nodes", "-o", by]);
    let names = copies.lines().map(|it| it.trim_start_matches("namespace/"));
    names
        .into_iter()
        .any(|name| by.contains(&format!("{name}/")))
}

#[test]
fn nothing_of_a_copy_outlives_a_killed_harness() {
    let Some(lab) = &etcd::start("copykill") else {
        return;
    };
    let before = lab.uids();

    // In the middle of a roll: what watches over the harness removes the copy.
    lab.provide_volumes(3);
    let store = lab.dir.path().join("roll");
    let args = roll(lab, etcd::NEXT, "kill", store.to_str().unwrap());
    let mut run = Run::start(lab.command(&args), &store);
    run.until("a node has changed its version", |run| {
        run.history().contains(etcd::NEXT)
    });
    assert_ne!(copies(lab), "");
    run.kill();
    until("the copy is gone", || copies(lab).is_empty());
    until("nobody has anything to undo", || run.is_forgotten());

    // Nobody watches any more: it is found from where the original is.
    lab.provide_volumes(3);
    let faults = "- {at: 1s, for: 100s, fault: drain, target: n3}\n";
    let mut run = copied(lab, &["--time-limit", "120s"], faults);
    run.until("a node is drained", |run| {
        run.history().contains("its host takes no other")
    });
    let copy = copies(lab);
    assert!(cordoned_by(&copy, lab));
    // Not while it is alive.
    assert!(lab.clean(&[]).contains("of living runs stay"));
    assert_eq!(copies(lab), copy);
    run.kill_with_keeper();
    let said = lab.clean(&["--dry-run"]);
    for trace in ["cordoned", "with a copy"] {
        assert!(said.contains(trace), "{said}");
    }
    assert_eq!(copies(lab), copy);
    lab.clean(&[]);
    assert!(!cordoned_by(&copy, lab));
    assert_eq!(copies(lab), "");
    assert!(lab.clean(&[]).contains("0 traces"));

    // The original is as it was.
    assert_eq!(lab.uids(), before);
}

#[test]
fn nothing_of_a_copy_outlives_a_killed_harness_in_a_job() {
    let Some(lab) = &etcd::start("copyjob") else {
        return;
    };
    lab.provide_volumes(3);
    let _copier = Granted::to_runs(lab, "cluster-admin");
    let args = ["--in-cluster", "--time-limit", "120s"];
    let mut run = copied(
        lab,
        &args,
        "- {at: 1s, for: 100s, fault: kill, target: n3}\n",
    );
    run.until("there is a copy", |_| !copies(lab).is_empty());
    let Some(harness) = harness_in_job(lab) else {
        return;
    };
    rustix::process::kill_process(harness, rustix::process::Signal::KILL).unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(255), "{said}");
    assert!(said.contains("its store was removed"), "{said}");
    assert_eq!(copies(lab), "");
}
