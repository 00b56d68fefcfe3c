//! A run under way: its harness, what it records, and what there is of it on the cluster.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Lab;
use crate::run_dir;

/// What anything that is waited for may take on a busy machine. Kubelets of 1.20 take their time.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// A harness on this machine. Killed when dropped: its keeper undoes what it has done.
pub struct Run {
    harness: Child,
    store: PathBuf,
    said: PathBuf,
}

impl Run {
    /// Starts what leaves its runs in this store.
    pub fn start(mut command: Command, store: &Path) -> Self {
        let said = store.with_extension("said");
        let harness = command
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Self {
            harness,
            store: store.to_owned(),
            said,
        }
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The files of this name in the directories of its runs.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let inside = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
        let runs = inside(self.store.clone()).flat_map(|name| inside(name.path()));
        // The link `latest` leads to one of them.
        let runs = runs.filter(|run| run.file_type().is_ok_and(|kind| kind.is_dir()));
        let files = runs.map(|run| run.path().join(name));
        files.filter(|file| file.exists()).collect()
    }

    /// All that it has recorded so far.
    pub fn history(&self) -> String {
        let files = self.files("history.jsonl").into_iter();
        files
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect()
    }

    /// Whether nobody has anything to undo for it any more.
    pub fn is_forgotten(&self) -> bool {
        self.files("leases.json").is_empty()
    }

    /// Waits until something is so; the harness must not end before.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        until(what, || {
            let ended = self.harness.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: it ended: {}", self.said());
            so(self)
        });
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.harness), signal).unwrap();
    }

    /// Leaves it no time to undo anything.
    pub fn kill(&mut self) {
        self.harness.kill().unwrap();
        self.harness.wait().unwrap();
    }

    /// The same, and nobody undoes anything either.
    pub fn kill_with_keeper(&mut self) {
        let leases = self.files("leases.json");
        let leases = std::fs::read_to_string(&leases[0]).unwrap();
        let leases: Value = serde_json::from_str(&leases).unwrap();
        let keeper = i32::try_from(leases["keeper"]["pid"].as_u64().unwrap()).unwrap();
        // The harness must not live to replace it.
        self.signal(Signal::STOP);
        kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
        self.kill();
    }

    /// Waits for its end; its exit code, and what it has said.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let status = self.harness.wait().unwrap();
        let said = self.said();
        eprintln!("{status}: {said}");
        (status.code(), said)
    }

    /// What it came to.
    pub fn verdict(&self) -> Value {
        verdict(&self.store)
    }

    /// Where the only run of its store is.
    pub fn dir(&self) -> PathBuf {
        run_dir(&self.store)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.harness.kill();
        let _ = self.harness.wait();
    }
}

/// What the only run in this store came to.
pub fn verdict(store: &Path) -> Value {
    let text = std::fs::read_to_string(run_dir(store).join("verdict.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The objects of runs in a namespace, by kind and name.
pub fn of_runs(lab: &Lab) -> String {
    let kinds =
        "jobs,pods,statefulsets,services,poddisruptionbudgets,configmaps,persistentvolumeclaims";
    let all = ["get", kinds, "-l", "quorate.dev/run", "-o", "name", "-n"];
    lab.kubectl(&[&all[..], &[&lab.namespace]].concat())
}

pub fn nothing_is_left(lab: &Lab) {
    until("nothing of the run is left", || of_runs(lab).is_empty());
}

/// The Kubernetes nodes that runs of this namespace have cordoned.
pub fn cordoned(lab: &Lab) -> String {
    let owner = format!("{}/", lab.namespace);
    let columns = "custom-columns=NAME:.metadata.name,NO:.spec.unschedulable,\
                   BY:.metadata.annotations.quorate\\.dev/cordoned-by";
    let all = lab.kubectl(&["get", "nodes", "--no-headers", "-o", columns]);
    let ours = all.lines().filter(|line| line.contains(&owner));
    ours.collect::<Vec<_>>().join("\n")
}

/// The only Job of a namespace, which is called as its run.
pub fn job_of(lab: &Lab) -> String {
    let jobs = lab.get("jobs", "name");
    jobs.trim_start_matches("job.batch/").to_owned()
}

/// The pod of the harness in that Job.
pub fn harness_pod(lab: &Lab) -> Value {
    let label = format!("job-name={}", job_of(lab));
    let pods = ["get", "pods", "-o", "json", "-l", &label, "-n"];
    let pods = lab.kubectl(&[&pods[..], &[&lab.namespace]].concat());
    let pods: Value = serde_json::from_str(&pods).unwrap();
    pods["items"][0].clone()
}

/// The process of that harness, if it is one of this machine.
pub fn harness_in_job(lab: &Lab) -> Option<Pid> {
    let argument = format!("--run={}", job_of(lab));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|process| {
        let words = std::fs::read(process.path().join("cmdline")).ok()?;
        let says = words
            .split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes());
        let pid = process.file_name().to_str()?.parse().ok()?;
        says.then(|| Pid::from_raw(pid)).flatten()
    });
    let found = found.min_by_key(|pid| pid.as_raw_nonzero());
    if found.is_none() {
        eprintln!("skipped in part: the process in the Job is not on this machine");
    }
    found
}
