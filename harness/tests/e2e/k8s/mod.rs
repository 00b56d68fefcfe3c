//! Tests on a real cluster, and those of manifests and refusals that need none.
//!
//! The cluster is the laboratory beside the checkout where there is one (started if need be, and
//! then stopped), else what `KUBECONFIG` names with the image `QUORATE_K8S_IMAGE`, else none: then
//! the tests say so and pass, as do those that are not in every run without `QUORATE_K8S_TESTS`. Each test has a namespace of its own ([`Lab`]), and they take turns.

mod agent;
mod clocks;
mod copies;
mod etcd;
mod faults;
mod guards;
mod in_cluster;
mod lost;
mod operator;
mod preflight;
#[cfg(feature = "nats")]
#[cfg(feature = "nats")]
mod queues;
mod rights;
mod running;
mod scorecard;
mod store;
mod under_way;
mod volume;
mod weather;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use self::under_way::Run;
use crate::quorate;

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

/// What is tested on a cluster whenever there is one. All together take an hour.
const IN_EVERY_RUN: [&str; 7] = [
    "agent",
    "agent-async",
    "agent-clock",
    "budget",
    "faults",
    "rights",
    "store",
];
/// The variable that asks for the others, too.
const ALL: &str = "QUORATE_K8S_TESTS";

/// One test on the cluster at a time: they would slow each other down.
static TURN: Mutex<()> = Mutex::new(());
/// The tests that use the cluster or wait for their turn.
static USERS: AtomicUsize = AtomicUsize::new(0);
/// Whether these tests have started the laboratory.
static OURS: AtomicBool = AtomicBool::new(false);

/// A cluster to test on, and a namespace of the test's own on it.
pub struct Lab {
    /// Where the laboratory's programs are; `None` on another cluster.
    pub kit: Option<PathBuf>,
    pub kubeconfig: PathBuf,
    /// An image of the binary under test.
    pub image: String,
    /// Not made yet; removed at the end.
    pub namespace: String,
    /// The flags that choose the storage of [`Lab::provide_volumes`].
    pub storage: &'static [&'static str],
    /// Files of the test.
    pub dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// The cluster at hand for the tests of this subject (one short word). Where there is none,
    /// says why they are skipped.
    pub fn find(subject: &str) -> Option<Self> {
        if !IN_EVERY_RUN.contains(&subject) && std::env::var_os(ALL).is_none() {
            eprintln!("skipped: k8s::{subject}: it takes minutes; {ALL}=1 runs it");
            return None;
        }
        USERS.fetch_add(1, SeqCst);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        match Self::at_hand(subject, turn) {
            Ok(lab) => Some(lab),
            Err(why) => {
                USERS.fetch_sub(1, SeqCst);
                eprintln!("skipped: k8s::{subject}: {why}");
                None
            }
        }
    }

    fn at_hand(subject: &str, turn: MutexGuard<'static, ()>) -> Result<Self, String> {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/k8s-lab");
        let lab = |kit, kubeconfig, image, storage| Self {
            kit,
            kubeconfig,
            image,
            namespace: format!("quorate-e2e-{subject}-{}", std::process::id()),
            storage,
            dir: tempfile::tempdir().unwrap(),
            _turn: turn,
        };
        if kit.join("up").exists() && rustix::process::geteuid().is_root() {
            let kubeconfig = start(&kit)?;
            let image = image(&kit)?;
            let storage: &[&str] = &["--storage-class", "quorate-e2e"];
            return Ok(lab(Some(kit), kubeconfig, image, storage));
        }
        let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let kubeconfig = kubeconfig.filter(|file| file.exists()).ok_or(
            "there is no ../shared/k8s-lab (or no root to start it), and KUBECONFIG names no file",
        )?;
        let image = std::env::var("QUORATE_K8S_IMAGE")
            .map_err(|_| "QUORATE_K8S_IMAGE does not name an image that the cluster has")?;
        Ok(lab(None, kubeconfig, image, &[]))
    }

    /// Volumes for the pods of one run, where the cluster does not make them itself: folders of
    /// this machine. A volume that was released is not bound again.
    pub fn provide_volumes(&self, how_many: usize) {
        if self.kit.is_none() {
            return;
        }
        let mut all = String::new();
        for i in 0..how_many {
            let folder = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
            let unique = folder.file_name().unwrap().to_str().unwrap();
            let unique = unique.trim_start_matches('.').to_lowercase();
            let name = format!("{}-{unique}", self.namespace);
            let node = i % 3 + 1;
            let (path, label) = (folder.display(), &self.namespace);
            write!(
                all,
                "---\napiVersion: v1\nkind: PersistentVolume\n\
                 metadata: {{name: {name}, labels: {{quorate-e2e: {label}}}}}\n\
                 spec:\n  capacity: {{storage: 256Mi}}\n  accessModes: [ReadWriteOnce]\n  \
                 storageClassName: quorate-e2e\n  local: {{path: {path}}}\n  nodeAffinity: {{required: \
                 {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, \
                 values: [n{node}]}}]}}]}}}}\n"
            )
            .unwrap();
        }
        self.apply(&all);
    }

    /// `kubectl apply` of these objects.
    pub fn apply(&self, objects: &str) {
        let file = self.dir.path().join("apply.yaml");
        std::fs::write(&file, objects).unwrap();
        self.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// What kubectl prints; it must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_command().args(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What `kubectl get` prints of these objects in the namespace, in this form.
    pub fn get(&self, what: &str, form: &str) -> String {
        self.kubectl(&["get", what, "-n", &self.namespace, "-o", form])
    }

    /// The pods in the namespace: another uid is another pod.
    pub fn uids(&self) -> String {
        self.get("pods", "jsonpath={.items[*].metadata.uid}")
    }

    /// What runs leave in the namespace while they go on, by name.
    pub fn there(&self) -> String {
        self.get("statefulsets,services,leases,pods", "name")
    }

    /// The version of PodDisruptionBudgets and evictions here.
    pub fn disruption_budget(&self) -> &'static str {
        let versions = self.kubectl(&["api-versions"]);
        if versions.lines().any(|line| line == "policy/v1") {
            "policy/v1"
        } else {
            "policy/v1beta1"
        }
    }

    /// kubectl, to be given arguments.
    pub fn kubectl_command(&self) -> Command {
        let program = self.kit.as_ref().map(|kit| kit.join("kubectl"));
        let mut command = Command::new(program.unwrap_or_else(|| "kubectl".into()));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The binary under test, on this cluster.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = quorate();
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs the binary under test on this cluster.
    pub fn quorate(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        eprintln!("{args:?}");
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Brings up a store of Raft that is no run's own, without volumes.
    pub fn up(&self) {
        let up = [
            "k8s",
            "up",
            "--namespace",
            &self.namespace,
            "--mode",
            "raft",
        ];
        let how = ["--storage", "empty-dir", "--image", &self.image];
        let up = self.quorate(&[&up[..], &how].concat());
        assert_eq!(up.status.code(), Some(0));
    }

    /// An experiment on the store of [`Lab::up`], with this fault, as a file.
    pub fn on_that(&self, time: &str, fault: &str) -> String {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let file = folder.join("experiment.yaml");
        let text = format!(
            "substrate: k8s\ntarget: {{mode: raft}}\nnodes: 3\nseed: 9\nlimits: {{time: {time}}}\n\
             kubernetes:\n  namespace: {}\n  storage: empty-dir\n  statefulset: \
             {{selector: app.kubernetes.io/instance=quorate, port: 7100}}\n\
             faults: {{schedule: [{fault}]}}\n",
            self.namespace
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// What `quorate clean` prints of this namespace.
    pub fn clean(&self, args: &[&str]) -> String {
        let all = ["clean", "--on", "k8s", "--namespace", &self.namespace];
        let output = self.quorate(&[&all[..], args].concat());
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes the namespace, with the label that allows faults.
    pub fn make_namespace(&self) {
        let (name, image) = (&self.namespace, &self.image);
        self.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  \
             labels: {{quorate.dev/faults: allowed}}\n  \
             annotations: {{quorate.dev/image: '{image}'}}\n"
        ));
    }

    /// The arguments of a run of three nodes with these faults, and the store that it goes to.
    pub fn test_args(&self, args: &[&str], faults: &str) -> (Vec<String>, PathBuf) {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let (schedule, store) = (folder.join("schedule.yaml"), folder.join("store"));
        std::fs::write(&schedule, faults).unwrap();
        let on = ["test", "--on", "k8s", "--nodes", "3", "--namespace"];
        let mut all: Vec<String> = on.iter().map(|arg| (*arg).to_owned()).collect();
        all.push(self.namespace.clone());
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        for (flag, path) in [("--schedule", &schedule), ("--store", &store)] {
            all.extend([flag.to_owned(), path.display().to_string()]);
        }
        (all, store)
    }

    /// Starts an experiment with these faults.
    pub fn start(&self, args: &[&str], faults: &str) -> Run {
        self.start_by(&self.kubeconfig, args, faults)
    }

    /// The same by another way to the API server.
    pub fn start_by(&self, kubeconfig: &Path, args: &[&str], faults: &str) -> Run {
        let (all, store) = self.test_args(args, faults);
        let mut command = quorate();
        command.args(all).env("KUBECONFIG", kubeconfig);
        Run::start(command, &store)
    }

    /// Runs an experiment with these faults; its exit code and verdict.
    pub fn test(&self, args: &[&str], faults: &str) -> (Option<i32>, Value) {
        let mut run = self.start(args, faults);
        let (code, _) = run.end();
        let log = run.dir().join("nodes/n1.log");
        assert!(
            log.metadata().is_ok_and(|log| log.len() > 0),
            "n1 has no log"
        );
        (code, run.verdict())
    }
}

/// A role for the account of runs in Jobs, in the whole cluster; taken away when dropped, and deleted if
/// it is called as the namespace.
pub struct Granted<'a>(&'a Lab);

impl<'a> Granted<'a> {
    pub fn to_runs(lab: &'a Lab, role: &str) -> Self {
        let account = format!("{}:quorate-runner", lab.namespace);
        let binding = ["create", "clusterrolebinding", &lab.namespace];
        let bound = ["--clusterrole", role, "--serviceaccount", &account];
        let granted = Self(lab);
        lab.kubectl(&[&binding[..], &bound].concat());
        granted
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let away = [
            "delete",
            "clusterrole,clusterrolebinding",
            "--ignore-not-found",
        ];
        let away = self
            .0
            .kubectl_command()
            .args(away)
            .arg(&self.0.namespace)
            .status();
        eprintln!("the role is taken away: {away:?}");
    }
}

/// A node of the laboratory without power; dropped, it is started again and waited for.
pub struct PowerCut<'a> {
    lab: &'a Lab,
    node: String,
}

impl Lab {
    /// Cuts the power of a node. Where that cannot be done, says so.
    pub fn cut_power(&self, node: &str) -> Option<PowerCut<'_>> {
        let home = std::env::var_os("K8S_LAB_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/k8s-lab")));
        let (Some(_), Some(home)) = (&self.kit, home) else {
            eprintln!("skipped: only the laboratory's nodes can lose power");
            return None;
        };
        let number = node.trim_start_matches('n');
        let file = home.join(format!("state/run/node{number}.pid"));
        let pid = std::fs::read_to_string(file).unwrap();
        let pid: u32 = pid.split_whitespace().next().unwrap().parse().unwrap();
        let process = nemesis::mechanism::process::Identity::of(pid).unwrap();
        assert!(process.signal(rustix::process::Signal::KILL).unwrap());
        Some(PowerCut {
            lab: self,
            node: node.to_owned(),
        })
    }
}

impl Drop for PowerCut<'_> {
    fn drop(&mut self) {
        if let Some(kit) = &self.lab.kit {
            let again = run(kit, "up", &[]);
            let ready = ["wait", "--for=condition=Ready", "--timeout=120s", "node"];
            let mut waiting = self.lab.kubectl_command();
            let ready = waiting.args(ready).arg(&self.node).status();
            eprintln!("{} has power again: {again:?}, {ready:?}", self.node);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let quiet = |command: &mut Command| {
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        };
        let down = ["k8s", "down", "--namespace", &self.namespace, "--runs"];
        quiet(&mut self.command(&down));
        let away = ["delete", "namespace", "--ignore-not-found", "--wait=false"];
        quiet(self.kubectl_command().args(away).arg(&self.namespace));
        let copies = format!("quorate.dev/copy-of={}", self.namespace);
        let away = ["delete", "namespace", "--wait=false", "-l", &copies];
        quiet(self.kubectl_command().args(away));
        let volumes = format!("quorate-e2e={}", self.namespace);
        let away = ["delete", "pv", "--wait=false", "-l", &volumes];
        quiet(self.kubectl_command().args(away));
        let last = USERS.fetch_sub(1, SeqCst) == 1;
        if let Some(kit) = self
            .kit
            .as_ref()
            .filter(|_| last && OURS.swap(false, SeqCst))
        {
            quiet(Command::new(kit.join("down")).arg("--wipe"));
        }
    }
}

/// Runs a program of the laboratory; the last line that it prints.
fn run(kit: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(kit.join(program)).args(args).output().unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {said}"));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().last().unwrap_or_default().to_owned())
}

/// Starts the laboratory unless it runs; its configuration.
fn start(kit: &Path) -> Result<PathBuf, String> {
    if run(kit, "kubectl", &["get", "--raw", "/healthz"]).is_err() {
        OURS.store(true, SeqCst);
    }
    run(kit, "up", &[]).map(PathBuf::from)
}

/// Makes an image of the binary under test, once, and loads it into the laboratory.
fn image(kit: &Path) -> Result<String, String> {
    static IMAGE: OnceLock<Result<String, String>> = OnceLock::new();
    let make = || {
        let binary = Path::new(env!("CARGO_BIN_EXE_quorate"));
        // A tag for each build: a node that has an image of this name would not take another.
        let meta = binary.metadata().map_err(|error| error.to_string())?;
        let built = meta.modified().map_err(|error| error.to_string())?;
        let built = built.duration_since(std::time::UNIX_EPOCH);
        let built = built.map_or(0, |since| since.as_millis());
        let tag = format!("quorate-e2e:{built:x}");
        let dir = tempfile::tempdir().unwrap();
        let stripped = dir.path().join("quorate");
        let stripping = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(binary)
            .status();
        let smaller = stripping.is_ok_and(|status| status.success());
        let binary = if smaller { &stripped } else { binary };
        let mut all = vec![tag.clone(), binary.display().to_string()];
        all.extend(tools());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let tar = run(kit, "make-image", &all)?;
        run(kit, "load-image", &[&tar])?;
        Ok(tag)
    };
    IMAGE.get_or_init(make).clone()
}

/// The programs that agents run, and what those and nodes with clocks of their own load, as far as
/// this machine has them: `FILE:PLACE`.
fn tools() -> Vec<String> {
    let mut all = Vec::new();
    for program in ["nft", "tc", "ip", "iptables", "iptables-restore"] {
        for folder in ["/usr/sbin", "/sbin", "/usr/bin"] {
            if let Ok(file) = std::fs::canonicalize(format!("{folder}/{program}")) {
                all.push(format!("{}:/usr/sbin/{program}", file.display()));
                break;
            }
        }
    }
    let folder = format!("/usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
    for extension in ["libxt_NFQUEUE", "libxt_comment", "libxt_standard"] {
        let file = format!("{folder}/{extension}.so");
        if Path::new(&file).exists() {
            all.push(format!("{file}:{file}"));
        }
    }
    if let Ok(library) = nemesis::mechanism::clock::library() {
        let library = library.display();
        all.push(format!("{library}:{library}"));
    }
    all
}

fn every_fault_was_seen_and_healed(verdict: &Value, how_many: usize) {
    let faults = verdict["faults"].as_array().unwrap();
    assert_eq!(faults.len(), how_many);
    for fault in faults {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
}
