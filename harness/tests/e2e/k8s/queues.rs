//! A queue that runs already as a StatefulSet, and wants a password: NATS JetStream, in an image made of
//! this machine's own server.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Lab, every_fault_was_seen_and_healed, run};
use crate::run_dir;

const NATS: &str = "/usr/sbin/nats-server";
const PASSWORD: &str = "kept-to-itself";

fn manifest(namespace: &str, image: &str) -> String {
    let peers = [0, 1, 2].map(|node| format!("nats://nats-{node}.nats.{namespace}.svc:6222"));
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: nats, namespace: {namespace}}}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{app: nats}}
  ports: [{{name: client, port: 4222}}, {{name: peer, port: 6222}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: nats, namespace: {namespace}}}
stringData: {{NATS_PASSWORD: {PASSWORD}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: nats, namespace: {namespace}}}
data:
  nats.conf: |
    server_name: $POD
    listen: 0.0.0.0:4222
    http: 0.0.0.0:8222
    jetstream {{ store_dir: /data }}
    authorization {{ user: shop, password: $NATS_PASSWORD }}
    cluster {{ name: nats, listen: 0.0.0.0:6222, routes: [{}] }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: nats, namespace: {namespace}}}
spec:
  serviceName: nats
  replicas: 3
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: nats}}}}
  template:
    metadata: {{labels: {{app: nats}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: nats
          image: {image}
          imagePullPolicy: Never
          args: [--config, /etc/nats/nats.conf]
          envFrom: [{{secretRef: {{name: nats}}}}]
          env:
            - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
          readinessProbe: {{httpGet: {{path: /healthz, port: 8222}}, periodSeconds: 1}}
          volumeMounts:
            - {{name: data, mountPath: /data}}
            - {{name: config, mountPath: /etc/nats}}
      volumes: [{{name: config, configMap: {{name: nats}}}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: quorate-e2e
        resources: {{requests: {{storage: 64Mi}}}}
",
        peers.join(", ")
    )
}

/// Runs an experiment on it; its exit code, its verdict, and what is in its run directory.
fn tested(lab: &Lab, more: &[&str], environment: Option<&str>) -> (Option<i32>, Value, String) {
    let target = "nats:user=shop,password-env=NATS_PASSWORD";
    let running = ["--statefulset", "app=nats", "--port", "4222"];
    let how = ["--workload", "queue", "--time-limit", "20s", "--seed", "3"];
    let args = [&running[..], &["--target", target], &how[..], more].concat();
    let faults = "- {at: 3s, for: 1s, fault: kill, target: n1}\n";
    let (args, store) = lab.test_args(&args, faults);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = lab.command(&args);
    command.env_remove("NATS_PASSWORD");
    let output = command
        .envs(environment.map(|it| ("NATS_PASSWORD", it)))
        .output();
    let output = output.unwrap();
    let dir = run_dir(&store);
    let found = Command::new("grep")
        .args(["-r", "-l", PASSWORD])
        .arg(&dir)
        .output();
    assert!(
        found.unwrap().stdout.is_empty(),
        "the password is in {}",
        dir.display()
    );
    let verdict = std::fs::read_to_string(dir.join("verdict.json")).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdict = serde_json::from_str(&verdict).unwrap_or_default();
    (output.status.code(), verdict, said)
}

#[test]
fn a_queue_with_a_password_is_tested_from_outside_and_in_a_job() {
    let Some(lab) = Lab::find("queues") else {
        return;
    };
    let Some(kit) = lab.kit.clone().filter(|_| Path::new(NATS).exists()) else {
        return eprintln!(
            "skipped: k8s::queues: an image of NATS is made of {NATS} in the laboratory"
        );
    };
    let image = "quorate-e2e-nats:a";
    let tar = run(&kit, "make-image", &[image, NATS]).unwrap();
    run(&kit, "load-image", &[&tar]).unwrap();
    lab.make_namespace();
    lab.provide_volumes(3);
    lab.apply(&manifest(&lab.namespace, image));
    let rollout = [
        "rollout",
        "status",
        "statefulset/nats",
        "--timeout=120s",
        "-n",
    ];
    lab.kubectl(&[&rollout[..], &[&lab.namespace]].concat());

    let (code, _, said) = tested(&lab, &[], None);
    assert_eq!(code, Some(255), "{said}");
    assert!(
        said.contains("NATS_PASSWORD is not in the environment"),
        "{said}"
    );
    // What is in the environment here is not in that of the Job, for which there is the Secret.
    let in_job = ["--in-cluster", "--secret", "nats"];
    for (more, environment) in [(&[][..], Some(PASSWORD)), (&in_job[..], None)] {
        let (code, verdict, said) = tested(&lab, more, environment);
        assert_eq!(code, Some(0), "{said}");
        every_fault_was_seen_and_healed(&verdict, 1);
        assert!(
            verdict["faults"]
                .to_string()
                .contains("its process has ended"),
            "{verdict}"
        );
    }
}
