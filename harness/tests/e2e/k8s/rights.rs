//! Who may do what: accounts with a role each, and what is said when a right is missing.

use std::path::PathBuf;
use std::process::Output;

use super::Lab;

/// A configuration of this test's own for an account with these roles: `(role, in the cluster)`.
fn account(lab: &Lab, name: &str, roles: &[&str]) -> PathBuf {
    let namespace = &lab.namespace;
    let mut objects = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    );
    for role in roles {
        objects += &format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: {name}-{role}, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]\n"
        );
    }
    lab.apply(&objects);
    let path = lab.dir.path().join(format!("{name}.kubeconfig"));
    let mut config: serde_json::Value = serde_json::from_str(&lab.kubectl(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "-o",
        "json",
    ]))
    .unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token(lab, name)});
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// A token of a ServiceAccount: asked for where that can be done, else the one that is kept for it
/// (before 1.24).
fn token(lab: &Lab, name: &str) -> String {
    let asked = lab
        .kubectl_command()
        .args(["create", "token", name, "-n", &lab.namespace])
        .output()
        .unwrap();
    if asked.status.success() {
        return String::from_utf8(asked.stdout).unwrap().trim().to_owned();
    }
    let of = ["get", "sa", name, "-n", &lab.namespace, "-o"];
    for _ in 0..50 {
        let secret = lab.kubectl(&[&of[..], &["jsonpath={.secrets[0].name}"]].concat());
        if !secret.is_empty() {
            let data = "go-template={{.data.token | base64decode}}";
            return lab.kubectl(&["get", "secret", &secret, "-n", &lab.namespace, "-o", data]);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    panic!("{name} has no token");
}

fn run(lab: &Lab, account: &PathBuf, args: &[&str]) -> Output {
    let output = lab
        .command(args)
        .env("KUBECONFIG", account)
        .output()
        .unwrap();
    eprintln!("{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_missing_right_is_named_before_anything_is_done() {
    let Some(lab) = Lab::find("rights") else {
        return;
    };
    lab.make_namespace();
    let rbac = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/manifests/rbac");
    lab.kubectl(&["apply", "-k", rbac.to_str().unwrap()]);
    let namespace = lab.namespace.as_str();
    let store = lab.dir.path().join("store");
    let test = [
        "test",
        "--on",
        "k8s",
        "--mode",
        "raft",
        "--storage",
        "empty-dir",
        "--time-limit",
        "6s",
        "--namespace",
        namespace,
        "--store",
        store.to_str().unwrap(),
        "--nodes",
        "3",
        "--nemesis",
        "none",
    ];
    let nothing_done = || {
        let all = [
            "get",
            "statefulsets,services,leases,configmaps,pods",
            "-n",
            namespace,
        ];
        let names = lab.kubectl(&[&all[..], &["-o", "name"]].concat());
        // Kubernetes makes one of its own in every namespace.
        names.lines().all(|name| name.ends_with("kube-root-ca.crt"))
    };

    let viewer = account(&lab, "viewer", &["quorate-viewer"]);
    let refused = run(&lab, &viewer, &test);
    assert_eq!(refused.status.code(), Some(255));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("may not get namespaces"), "{said}");
    assert!(nothing_done());

    // All but one right.
    let runner = account(&lab, "runner", &["quorate-runner"]);
    let drain = lab.dir.path().join("drain.yaml");
    std::fs::write(&drain, "- {at: 1s, for: 2s, fault: drain, target: n2}\n").unwrap();
    let drain = drain.to_str().unwrap();
    let drains = [&test[..test.len() - 2], &["--schedule", drain]].concat();
    let refused = run(&lab, &runner, &drains);
    assert_eq!(refused.status.code(), Some(255));
    let said = String::from_utf8_lossy(&refused.stderr);
    let missing = "this account may not get nodes, list nodes, patch nodes in";
    assert!(said.contains(missing), "{said}");
    assert!(said.contains("nothing was done"), "{said}");
    assert!(nothing_done());

    // And the runner's are enough for a run, and to see what is left.
    let whole = run(&lab, &runner, &test);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    assert!(nothing_done());
    let clean = run(
        &lab,
        &runner,
        &["clean", "--on", "k8s", "--namespace", namespace],
    );
    assert_eq!(clean.status.code(), Some(0), "{clean:?}");

    // A dry run refuses as the run would, and else says what it would do, and does nothing.
    let dry = [&drains[..], &["--dry-run"]].concat();
    assert_eq!(run(&lab, &runner, &dry).status.code(), Some(255));
    let said = lab.quorate(&dry);
    assert_eq!(said.status.code(), Some(0));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("drain n2"), "{said}");
    assert!(said.contains("run-…-1 would be cordoned"), "{said}");
    assert!(nothing_done());
    let tight = lab.dir.path().join("tight.yaml");
    let text = "substrate: k8s\nnodes: 3\nfaults:\n  hurt_at_most: 1\n  schedule:\n    \
                - {at: 1s, for: 9s, fault: drain, target: n2}\n    \
                - {at: 2s, for: 2s, fault: drain, target: n3}\n";
    std::fs::write(&tight, text).unwrap();
    let tight = [
        "test",
        tight.to_str().unwrap(),
        "--namespace",
        namespace,
        "--dry-run",
    ];
    let said = lab.quorate(&tight);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("refused") && said.contains("at most 1 may be"),
        "{said}"
    );
    // Roles are in no namespace, so nothing else takes them away.
    lab.kubectl(&["delete", "-k", rbac.to_str().unwrap()]);
}
