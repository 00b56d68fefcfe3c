//! Stores of other makers that run already as a StatefulSet, tested where they are.

use k8s::agent::locate::Tree;

use super::under_way::{cordoned, until};
use super::{Lab, etcd, every_fault_was_seen_and_healed};

#[test]
fn a_store_that_runs_already_is_tested_where_it_is() {
    let Some(lab) = &etcd::start("running") else {
        return;
    };
    let up = [
        "k8s",
        "agent",
        "up",
        "--image",
        &lab.image,
        "--allow",
        &lab.namespace,
    ];
    assert_eq!(lab.quorate(&up).status.code(), Some(0));
    // However long a busy kubelet takes over the pod that is killed.
    let file = lab.dir.path().join("whole.yaml");
    std::fs::write(&file, "limits: {time: 600s, until_schedule_ends: true}\n").unwrap();
    let faults = "- at: 1s\n  sequence:\n\
         \x20   - {fault: pause, target: leader, for: 2s}\n\
         \x20   - {wait: 5s}\n\
         \x20   - {fault: partition, shape: isolate, target: follower, for: 4s}\n\
         \x20   - {wait: 4s}\n\
         \x20   - {fault: kill, target: leader, for: 1s}\n\
         \x20   - {wait: 4s}\n\
         \x20   - {fault: throttle-disk, bandwidth: 16KiB/s, target: leader, for: 4s}\n";
    let whole = [file.to_str().unwrap(), "--agent", "--seed", "7"];
    let (code, verdict) = lab.test(&[&etcd::FLAGS[..], &whole].concat(), faults);
    every_fault_was_seen_and_healed(&verdict, 4);
    let proofs = verdict["faults"].to_string();
    for proof in [
        "is frozen",
        "packets dropped by nftables",
        "its process has ended",
        "KiB/s before",
    ] {
        assert!(proofs.contains(proof), "{proof}: {proofs}");
    }
    assert_eq!(code, Some(0), "{verdict}");
    a_killed_harness_leaves_no_limit(lab);
    lab.quorate(&["k8s", "agent", "down"]);
    // It is left as it is, with the keys of the run.
    assert_eq!(lab.uids().split(' ').count(), 3);
    let stranger = lab.quorate(&[
        "test",
        "--on",
        "k8s",
        "--namespace",
        &lab.namespace,
        "--statefulset",
        "app=nobody",
        "--port",
        "1",
        "--target",
        "etcd",
    ]);
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert_eq!(stranger.status.code(), Some(254), "{said}");
    assert!(said.contains("of 0 StatefulSets"), "{said}");
}

/// Kills a run in the middle of a limit of a disk, and waits until that is lifted and nothing is left.
fn a_killed_harness_leaves_no_limit(lab: &Lab) {
    let faults =
        "- {at: 1s, for: 100s, fault: throttle-disk, bandwidth: 16KiB/s, target: leader}\n";
    let how = ["--agent", "--time-limit", "120s", "--seed", "8"];
    let mut run = lab.start(&[&etcd::FLAGS[..], &how[..]].concat(), faults);
    run.until("the limit is seen", |run| {
        run.history().contains("KiB/s before")
    });
    assert!(limits(lab).contains("16384"));
    run.kill();
    until("the limit is lifted", || limits(lab).is_empty());
    until("nothing is left", || lab.get("leases", "name").is_empty());
}

/// What the control groups of the pods' containers say of disks.
fn limits(lab: &Lab) -> String {
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{'\\n'}{end}";
    let pods = lab.get("pods", path);
    let tree = Tree::at("/sys/fs/cgroup");
    let mut said = String::new();
    for (uid, id) in pods.lines().filter_map(|line| line.split_once(' ')) {
        let group = tree.container(uid, id).unwrap().disk.unwrap();
        let file = ["blkio.throttle.write_bps_device", "io.max"].map(|name| group.path.join(name));
        let file = file.iter().find(|file| file.exists()).unwrap();
        said += &std::fs::read_to_string(file).unwrap();
    }
    said.trim().to_owned()
}

#[test]
fn a_drain_takes_the_pod_of_a_strangers_store_alone_and_gives_the_node_back() {
    let Some(lab) = &etcd::start("strangers") else {
        return;
    };
    let namespace = &lab.namespace;
    let host = lab.get("pod/etcd-1", "jsonpath={.spec.nodeName}");
    let budget = lab.disruption_budget();
    lab.apply(&format!(
        "apiVersion: {budget}\nkind: PodDisruptionBudget\n\
         metadata: {{name: etcd, namespace: {namespace}}}\n\
         spec: {{maxUnavailable: 1, selector: {{matchLabels: {{app: etcd}}}}}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: neighbour, namespace: {namespace}}}\n\
         spec: {{nodeName: {host}, containers: [{{name: etcd, image: '{}', imagePullPolicy: Never}}]}}\n",
        etcd::IMAGE
    ));
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/neighbour",
        "--timeout=60s",
        "-n",
    ];
    lab.kubectl(&[&ready[..], &[namespace]].concat());
    let neighbour = || lab.get("pod/neighbour", "jsonpath={.metadata.uid}");
    let uid = |pod: &str| lab.get(&format!("pod/{pod}"), "jsonpath={.metadata.uid}");
    let before = (neighbour(), uid("etcd-0"), uid("etcd-1"));
    let flags = ["--time-limit", "25s", "--seed", "3"];
    let flags = [&etcd::FLAGS[..], &flags].concat();
    let (code, verdict) = lab.test(&flags, "- {at: 2s, for: 5s, fault: drain, target: n2}\n");
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 1);
    let proof = verdict["faults"][0]["proof"].as_str().unwrap();
    assert!(proof.contains(&format!("{host} cordoned")), "{proof}");
    assert!(proof.contains("its process has ended"), "{proof}");
    let after = (neighbour(), uid("etcd-0"), uid("etcd-1"));
    assert_eq!((&before.0, &before.1), (&after.0, &after.1));
    assert_ne!(before.2, after.2);
    assert_eq!(cordoned(lab), "");
    etcd::all_are_ready(lab);

    // A budget that lets nobody go is kept, and nothing stays.
    let none = "{\"spec\":{\"maxUnavailable\":0}}";
    let patch = ["patch", "pdb", "etcd", "--type=merge", "-p", none, "-n"];
    lab.kubectl(&[&patch[..], &[namespace]].concat());
    let before = lab.uids();
    let (code, verdict) = lab.test(&flags, "- {at: 2s, for: 1s, fault: drain, target: n2}\n");
    assert_eq!(code, Some(2), "{verdict}");
    let proof = verdict["faults"][0]["proof"].as_str().unwrap();
    assert!(proof.contains("disruption budget"), "{proof}");
    assert_eq!(lab.uids(), before);
    assert_eq!(cordoned(lab), "");

    // Killed in the middle, it gives the node back all the same.
    let one = none.replace('0', "1");
    let patch = ["patch", "pdb", "etcd", "--type=merge", "-p", &one, "-n"];
    lab.kubectl(&[&patch[..], &[namespace]].concat());
    let long = ["--time-limit", "120s"];
    let long = [&etcd::FLAGS[..], &long].concat();
    let mut run = lab.start(&long, "- {at: 2s, for: 100s, fault: drain, target: n2}\n");
    run.until("the drain is seen", |run| {
        run.history().contains("its host takes no other")
    });
    run.kill();
    until("the node is given back", || cordoned(lab).is_empty());
    until("nothing is left", || lab.get("leases", "name").is_empty());
    etcd::all_are_ready(lab);
    assert!(before.contains(&neighbour()), "the neighbour is another");
}
