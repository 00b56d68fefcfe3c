//! Stores of other makers that run already as a StatefulSet: tested where they are, and copied for the
//! check before an upgrade. The store is etcd, in an image made of this machine's own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use k8s::agent::locate::Tree;
use serde_json::Value;

use super::{Lab, every_fault_was_seen_and_healed, run};

const ETCD: &str = "/usr/bin/etcd";

/// Three members in the namespace of a lab, which are ready.
struct Etcd {
    lab: Lab,
    images: [String; 2],
}

impl Etcd {
    fn start(subject: &str) -> Option<Self> {
        let lab = Lab::find(subject)?;
        let Some(kit) = lab.kit.clone().filter(|_| Path::new(ETCD).exists()) else {
            eprintln!(
                "skipped: k8s::{subject}: an image of etcd is made of {ETCD} in the laboratory"
            );
            return None;
        };
        let images = ["a", "broken"].map(|tag| format!("quorate-e2e-etcd:{tag}"));
        for (image, program) in images.iter().zip([ETCD, "/usr/bin/false"]) {
            let tar = run(&kit, "make-image", &[image, program]).unwrap();
            run(&kit, "load-image", &[&tar]).unwrap();
        }
        // Another name of the same: another version, as far as Kubernetes knows.
        let tar = run(&kit, "make-image", &["quorate-e2e-etcd:b", ETCD]).unwrap();
        run(&kit, "load-image", &[&tar]).unwrap();
        lab.make_namespace();
        lab.provide_volumes(9);
        lab.apply(&manifest(&lab.namespace, &images[0]));
        let rollout = [
            "rollout",
            "status",
            "statefulset/etcd",
            "--timeout=120s",
            "-n",
        ];
        lab.kubectl(&[&rollout[..], &[&lab.namespace]].concat());
        Some(Self { lab, images })
    }

    fn uids(&self) -> String {
        let of = ["get", "pods", "-n", &self.lab.namespace, "-o"];
        let of = [&of[..], &["jsonpath={.items[*].metadata.uid}"]].concat();
        self.lab.kubectl(&of)
    }
}

fn manifest(namespace: &str, image: &str) -> String {
    let mut peers = String::new();
    for node in 0..3 {
        let comma = if node == 0 { "" } else { "," };
        // With the namespace: a copy must not find the original by it.
        write!(
            peers,
            "{comma}etcd-{node}=http://etcd-{node}.etcd.{namespace}.svc:2380"
        )
        .unwrap();
    }
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: etcd, namespace: {namespace}}}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{app: etcd}}
  ports: [{{name: client, port: 2379}}, {{name: peer, port: 2380}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: etcd, namespace: {namespace}}}
data: {{ETCD_INITIAL_CLUSTER: \"{peers}\"}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: etcd, namespace: {namespace}}}
spec:
  serviceName: etcd
  replicas: 3
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: etcd}}}}
  template:
    metadata: {{labels: {{app: etcd}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: etcd
          image: {image}
          imagePullPolicy: Never
          envFrom: [{{configMapRef: {{name: etcd}}}}]
          env:
            - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
          args:
            - --name=$(POD)
            - --data-dir=/data/etcd
            - --listen-client-urls=http://0.0.0.0:2379
            - --advertise-client-urls=http://$(POD).etcd.{namespace}.svc:2379
            - --listen-peer-urls=http://0.0.0.0:2380
            - --initial-advertise-peer-urls=http://$(POD).etcd.{namespace}.svc:2380
          readinessProbe: {{httpGet: {{path: /health, port: 2379}}, periodSeconds: 1}}
          volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: quorate-e2e
        resources: {{requests: {{storage: 64Mi}}}}
"
    )
}

const RUNNING: [&str; 5] = ["--statefulset", "app=etcd", "--port", "2379", "--target"];

#[test]
fn a_store_that_runs_already_is_tested_where_it_is() {
    let Some(etcd) = Etcd::start("running") else {
        return;
    };
    let lab = &etcd.lab;
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
    let faults = "- {at: 1s, for: 2s, fault: pause, target: leader}\n\
         - {at: 8s, for: 4s, fault: partition, shape: isolate, target: follower}\n\
         - {at: 16s, for: 1s, fault: kill, target: leader}\n\
         - {at: 28s, for: 4s, fault: throttle-disk, bandwidth: 16KiB/s, target: leader}\n";
    let common = ["--agent", "--time-limit", "40s", "--seed", "7"];
    let (code, verdict) = lab.test(&[&RUNNING[..], &["etcd"], &common[..]].concat(), faults);
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
    a_killed_harness_leaves_no_limit(&etcd);
    lab.quorate(&["k8s", "agent", "down"]);
    // It is left as it is, with the keys of the run.
    assert_eq!(etcd.uids().split(' ').count(), 3);
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
fn a_killed_harness_leaves_no_limit(etcd: &Etcd) {
    let lab = &etcd.lab;
    let faults =
        "- {at: 1s, for: 100s, fault: throttle-disk, bandwidth: 16KiB/s, target: leader}\n";
    let how = ["etcd", "--agent", "--time-limit", "120s", "--seed", "8"];
    let (args, store) = lab.test_args(&[&RUNNING[..], &how[..]].concat(), faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut harness = lab.command(&args).stdout(Stdio::null()).spawn().unwrap();
    until("the limit is seen", || {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended");
        // There is no run directory at first.
        let runs = std::fs::read_dir(store.join("demo"))
            .into_iter()
            .flatten()
            .flatten();
        let histories =
            runs.filter_map(|run| std::fs::read_to_string(run.path().join("history.jsonl")).ok());
        histories
            .into_iter()
            .any(|history| history.contains("KiB/s before"))
    });
    assert!(limits(lab).contains("16384"));
    harness.kill().unwrap();
    harness.wait().unwrap();
    until("the limit is lifted", || limits(lab).is_empty());
    let leases = ["get", "leases", "-o", "name", "-n", &lab.namespace];
    until("nothing is left", || lab.kubectl(&leases).is_empty());
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(200));
    }
}

/// What the control groups of the pods' containers say of disks.
fn limits(lab: &Lab) -> String {
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{'\\n'}{end}";
    let pods = lab.kubectl(&["get", "pods", "-n", &lab.namespace, "-o", path]);
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
fn an_upgrade_is_tried_on_a_copy() {
    let Some(etcd) = Etcd::start("copies") else {
        return;
    };
    let lab = &etcd.lab;
    let before = etcd.uids();
    let store = lab.dir.path().join("store");
    let preflight = |to: &str| {
        let versions = ["--from", &etcd.images[0], "--to", to];
        let on = ["preflight", "--on=k8s", "--namespace", &lab.namespace];
        let how = [
            "--faults=kill",
            "--rolls=1",
            "--seed=1",
            "-o=json",
            "--store",
        ];
        let args = [&on[..], &RUNNING[..], &["etcd"], &versions[..], &how[..]].concat();
        let output = lab.quorate(&[&args[..], &[store.to_str().unwrap()]].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = preflight("quorate-e2e-etcd:b");
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["rolls"][0]["changes"], serde_json::json!([6, 6]));
    let (code, report) = preflight(&etcd.images[1]);
    assert_eq!(code, Some(1), "{report}");
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("n3 did not come up"), "{reasons}");
    // Nothing was done to the original, and nothing is left of the copies.
    assert_eq!(etcd.uids(), before);
    let namespaces = lab.kubectl(&["get", "namespaces", "-l", "quorate.dev/run", "-o", "name"]);
    assert_eq!(namespaces, "");
}
