//! A store of another maker that runs already as a StatefulSet: three members of etcd, in an image made
//! of this machine's own.

use std::fmt::Write as _;
use std::path::Path;

use super::{Lab, run};

const ETCD: &str = "/usr/bin/etcd";

/// What every member runs at first.
pub const IMAGE: &str = "quorate-e2e-etcd:a";
/// Another name of the same: another version, as far as Kubernetes knows.
pub const NEXT: &str = "quorate-e2e-etcd:b";
/// One that ends at once.
pub const BROKEN: &str = "quorate-e2e-etcd:broken";
/// The flags of a run on it.
pub const FLAGS: [&str; 6] = [
    "--statefulset",
    "app=etcd",
    "--port",
    "2379",
    "--target",
    "etcd",
];

/// Three members in the namespace of a lab, which are ready, each on a Kubernetes node of its own.
pub fn start(subject: &str) -> Option<Lab> {
    let lab = Lab::find(subject)?;
    let Some(kit) = lab.kit.clone().filter(|_| Path::new(ETCD).exists()) else {
        eprintln!("skipped: k8s::{subject}: an image of etcd is made of {ETCD} in the laboratory");
        return None;
    };
    for (image, program) in [(IMAGE, ETCD), (NEXT, ETCD), (BROKEN, "/usr/bin/false")] {
        let tar = run(&kit, "make-image", &[image, program]).unwrap();
        run(&kit, "load-image", &[&tar]).unwrap();
    }
    lab.make_namespace();
    // One on each node, and no more until all are bound.
    lab.provide_volumes(3);
    lab.apply(&manifest(&lab.namespace));
    all_are_ready(&lab);
    Some(lab)
}

/// Waits until they are.
pub fn all_are_ready(lab: &Lab) {
    let rollout = [
        "rollout",
        "status",
        "statefulset/etcd",
        "--timeout=120s",
        "-n",
    ];
    lab.kubectl(&[&rollout[..], &[&lab.namespace]].concat());
}

fn manifest(namespace: &str) -> String {
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
          image: {IMAGE}
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
