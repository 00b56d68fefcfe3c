//! The whole way on a real cluster: a store comes up, is killed pod by pod, is judged, and nothing
//! is left.
//!
//! The cluster is the laboratory beside the checkout where there is one (started if need be, and
//! then stopped), else what `KUBECONFIG` names with the image `QUORATE_K8S_IMAGE`, else none: then
//! the tests say so and pass.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{quorate, run_dir};

const TAG: &str = "quorate-e2e:1";
const NAMESPACE: &str = "quorate-e2e";

#[test]
fn manifests_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/manifests");
    let wanted = quorate::commands::k8s::manifests().unwrap();
    for (path, text) in &wanted {
        let file = folder.join(path);
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            &found == text,
            "{path} differs from the code; `quorate k8s manifests` writes it anew"
        );
    }
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            assert!(wanted.contains_key(relative), "{relative} is not generated");
        }
    }
}

#[test]
fn without_a_cluster_one_sentence_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
        users: [{name: u, user: {}}]\n\
        contexts: [{name: c, context: {cluster: c, user: u}}]\n";
    std::fs::write(&nowhere, text).unwrap();
    let missing = dir.path().join("missing");
    for (file, says) in [
        (nowhere, "does not answer"),
        (missing, "there is no Kubernetes cluster"),
    ] {
        let said = refusal(Some(&file), dir.path(), "x");
        assert!(said.contains(says) && said.contains("KUBECONFIG"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// What `test --on k8s` says when it refuses, less where the run is.
fn refusal(kubeconfig: Option<&Path>, dir: &Path, namespace: &str) -> String {
    let mut command = quorate();
    command.args(["test", "--on", "k8s", "--namespace", namespace, "--store"]);
    command.arg(dir.join("store"));
    if let Some(file) = kubeconfig {
        command.env("KUBECONFIG", file);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A cluster to test on.
struct Lab {
    /// Where the laboratory's programs are; `None` on another cluster.
    kit: Option<PathBuf>,
    kubeconfig: PathBuf,
    image: String,
    /// Whether this test has started it.
    ours: bool,
    storage: &'static [&'static str],
    dir: tempfile::TempDir,
}

impl Lab {
    /// The cluster at hand, or why there is none.
    fn find() -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/k8s-lab");
        if kit.join("up").exists() && rustix::process::geteuid().is_root() {
            return Self::laboratory(kit, dir);
        }
        let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let kubeconfig = kubeconfig.filter(|file| file.exists()).ok_or(
            "there is no ../shared/k8s-lab (or no root to start it), and KUBECONFIG names no file",
        )?;
        let image = std::env::var("QUORATE_K8S_IMAGE")
            .map_err(|_| "QUORATE_K8S_IMAGE does not name an image that the cluster has")?;
        Ok(Self {
            kit: None,
            kubeconfig,
            image,
            ours: false,
            storage: &[],
            dir,
        })
    }

    fn laboratory(kit: PathBuf, dir: tempfile::TempDir) -> Result<Self, String> {
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(kit.join(program)).args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = String::from_utf8_lossy(&output.stdout);
            let last = last.lines().last().unwrap_or_default().to_owned();
            if output.status.success() {
                Ok(last)
            } else {
                Err(format!("{program}: {said}"))
            }
        };
        let ours = run("kubectl", &["get", "--raw", "/healthz"]).is_err();
        let kubeconfig = run("up", &[])?;
        let tar = run("make-image", &[TAG, env!("CARGO_BIN_EXE_quorate")])?;
        run("load-image", &[&tar])?;
        Ok(Self {
            kit: Some(kit),
            kubeconfig: kubeconfig.into(),
            image: TAG.to_owned(),
            ours,
            storage: &["--storage-class", "quorate-e2e"],
            dir,
        })
    }

    /// Volumes, where the cluster does not make them itself: folders of this machine.
    fn provide_volumes(&self, how_many: usize) {
        let Some(kit) = &self.kit else { return };
        let mut all = String::new();
        for i in 0..how_many {
            let folder = self.dir.path().join(format!("volume-{i}"));
            std::fs::create_dir(&folder).unwrap();
            let name = format!("quorate-e2e-{}-{i}", std::process::id());
            let node = i % 3 + 1;
            let path = folder.display();
            write!(
                all,
                "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\n\
                 spec:\n  capacity: {{storage: 256Mi}}\n  accessModes: [ReadWriteOnce]\n  \
                 storageClassName: quorate-e2e\n  local: {{path: {path}}}\n  nodeAffinity: {{required: \
                 {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, \
                 values: [n{node}]}}]}}]}}}}\n"
            )
            .unwrap();
        }
        let file = self.dir.path().join("volumes.yaml");
        std::fs::write(&file, all).unwrap();
        let made = Command::new(kit.join("kubectl"))
            .args(["apply", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn quorate(&self, args: &[&str]) -> Output {
        let output = quorate()
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .unwrap();
        eprintln!("{args:?}");
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs an experiment with these faults; its exit code and verdict.
    fn test(&self, args: &[&str], faults: &str) -> (Option<i32>, Value) {
        let store = self.dir.path().join(args.join("-"));
        let schedule = self.dir.path().join("schedule.yaml");
        std::fs::write(&schedule, faults).unwrap();
        let mut all = vec![
            "test",
            "--on",
            "k8s",
            "--namespace",
            NAMESPACE,
            "--nodes",
            "3",
        ];
        all.extend(args);
        let (schedule, to) = (schedule.display().to_string(), store.display().to_string());
        all.extend(["--schedule", &schedule, "--store", &to]);
        let output = self.quorate(&all);
        let verdict = std::fs::read_to_string(run_dir(&store).join("verdict.json")).unwrap();
        let log = run_dir(&store).join("nodes/n1.log");
        assert!(
            log.metadata().is_ok_and(|log| log.len() > 0),
            "n1 has no log"
        );
        (
            output.status.code(),
            serde_json::from_str(&verdict).unwrap(),
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.quorate(&["k8s", "down", "--namespace", NAMESPACE, "--runs"]);
        let Some(kit) = &self.kit else { return };
        let forget = ["delete", "pv", "--all", "--wait=false"];
        let quiet = |program: &str, args: &[&str]| {
            let _ = Command::new(kit.join(program))
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        };
        quiet("kubectl", &forget);
        if self.ours {
            quiet("down", &["--wipe"]);
        }
    }
}

fn every_fault_was_seen_and_healed(verdict: &Value, how_many: usize) {
    let faults = verdict["faults"].as_array().unwrap();
    assert_eq!(faults.len(), how_many);
    for fault in faults {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
}

#[test]
fn on_a_real_cluster() {
    let lab = match Lab::find() {
        Ok(lab) => lab,
        Err(why) => {
            eprintln!("skipped: k8s::on_a_real_cluster: {why}");
            return;
        }
    };
    // Nothing is started where faults are not allowed.
    for (namespace, says) in [
        ("kube-system", "belongs to the cluster itself"),
        ("default", "belongs to the cluster itself"),
        (NAMESPACE, "`quorate k8s up"),
    ] {
        let said = refusal(Some(&lab.kubeconfig), lab.dir.path(), namespace);
        assert!(said.contains(says), "{said}");
    }

    let up = [
        "k8s",
        "up",
        "--namespace",
        NAMESPACE,
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

    let good = lab.quorate(&[&up[..], &["--image", &lab.image]].concat());
    assert_eq!(good.status.code(), Some(0));
    let status = lab.quorate(&["k8s", "status", "--namespace", NAMESPACE]);
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
    let status = lab.quorate(&["k8s", "status", "--namespace", NAMESPACE]);
    assert_eq!(status.status.code(), Some(0));
    let down = lab.quorate(&["k8s", "down", "--namespace", NAMESPACE, "--runs"]);
    let said = String::from_utf8_lossy(&down.stdout).into_owned();
    assert!(!said.contains("run-"), "{said}");
    assert!(
        said.contains(&format!("namespace {NAMESPACE} removed")),
        "{said}"
    );
}
