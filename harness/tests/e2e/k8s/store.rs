//! The whole way: a store comes up, is killed pod by pod, is judged, and nothing is left.

use super::{Lab, every_fault_was_seen_and_healed, refusal};

#[test]
fn on_a_real_cluster() {
    let Some(lab) = Lab::find("store") else {
        return;
    };
    let namespace = lab.namespace.as_str();
    // Nothing is started where faults are not allowed.
    for (refused, says) in [
        ("kube-system", "belongs to the cluster itself"),
        ("default", "belongs to the cluster itself"),
        (namespace, "`quorate k8s up"),
    ] {
        let said = refusal(Some(&lab.kubeconfig), lab.dir.path(), refused);
        assert!(said.contains(says), "{said}");
    }

    let up = [
        "k8s",
        "up",
        "--namespace",
        namespace,
        "--mode",
        "raft",
        "--storage",
        "empty-dir",
    ];
    let bad = lab.quorate(&[&up[..], &["--image", "quorate-e2e-missing:1"]].concat());
    assert_eq!(bad.status.code(), Some(255));
    assert!(
        String::from_utf8_lossy(&bad.stderr)
            .contains("cannot have the image quorate-e2e-missing:1")
    );

    lab.up();
    let status = lab.quorate(&["k8s", "status", "--namespace", namespace]);
    assert_eq!(status.status.code(), Some(0));
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(text.matches(" leader ").count(), 1, "{text}");
    assert_eq!(text.matches(" follower ").count(), 2, "{text}");

    // Consensus keeps everything when pods are killed, as long as their volumes stay.
    lab.provide_volumes(3);
    let kills = "- {at: 2s, for: 6s, fault: kill, target: leader}\n\
                 - {at: 14s, for: 6s, fault: kill, target: follower}\n";
    let raft = ["--mode", "raft", "--seed", "5", "--time-limit", "25s"];
    let (code, verdict) = lab.test(&[&raft[..], lab.storage].concat(), kills);
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verdict["verdict"], "valid");
    every_fault_was_seen_and_healed(&verdict, 2);

    // A store whose pods all lose what they hold has lost what it acknowledged.
    let wipe = "- {at: 6s, for: 6s, fault: wipe, target: all}\n";
    let all = [
        "--mode",
        "async",
        "--seed",
        "6",
        "--time-limit",
        "20s",
        "--storage",
        "empty-dir",
    ];
    let (code, verdict) = lab.test(&all, wipe);
    assert_eq!(code, Some(1), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 1);

    // What the runs have made is gone; what `up` has made is not.
    let status = lab.quorate(&["k8s", "status", "--namespace", namespace]);
    assert_eq!(status.status.code(), Some(0));
    let down = lab.quorate(&["k8s", "down", "--namespace", namespace, "--runs"]);
    let said = String::from_utf8_lossy(&down.stdout).into_owned();
    assert!(!said.contains("run-"), "{said}");
    assert!(
        said.contains(&format!("namespace {namespace} removed")),
        "{said}"
    );
}
