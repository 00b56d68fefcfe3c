//! No fault outlives its owner: the harness, its keeper or both are killed in the middle of every
//! kind of fault, and what they leave is looked for. And a fault that is taken away behind the
//! harness's back earns no credit.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nemesis::mechanism::cgroup::{self, Controller, Group};
use nemesis::mechanism::lease::{Leases, Undo};
use nemesis::mechanism::process::Identity;
use quorate::local::leftovers::LEASES;
use quorate::local::manifest::Manifest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::quorate;

/// How long anything here may take on a machine that is busy; nothing is asserted of the time that
/// it takes, but it is printed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One fault of each kind that is injected on `local`, in the words of schedules.
const FAULTS: &[&str] = &[
    "fault: kill, target: n2",
    "fault: pause, target: n2",
    "fault: pause, target: n2, via: freezer",
    "fault: partition, shape: isolate, target: n2",
    "fault: slow, links: peers, target: n2, latency: 50ms",
    "fault: wipe, target: n2",
    "fault: cpu, target: n2, share: 10%",
    "fault: cpu, target: n2, share: 10%, via: signal",
    "fault: memory, target: n2, limit: 64MiB",
    "fault: memory, target: n2, limit: 64MiB, via: rlimit",
];

/// Whether a fault can be injected on this machine; said if not.
fn possible(fault: &str) -> bool {
    let controller = if fault.contains("freezer") {
        Controller::Freezer
    } else if fault.contains("via") {
        return true;
    } else if fault.contains("cpu") {
        Controller::Cpu
    } else if fault.contains("memory") {
        Controller::Memory
    } else {
        return true;
    };
    match cgroup::available(controller) {
        Ok(()) => true,
        Err(why) => {
            eprintln!("not tested here: {fault}: {why}");
            false
        }
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return (found, start.elapsed());
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A harness under way; ended and reaped however the test ends.
struct Running {
    child: Child,
    run: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a run of three nodes and waits until its first fault is injected.
    fn start(dir: &Path, name: &str, time_limit: &str, schedule: &str) -> Self {
        let mut running = Self::launch(dir, name, time_limit, schedule);
        running.await_remarks("inject", 1);
        running
    }

    fn launch(dir: &Path, name: &str, time_limit: &str, schedule: &str) -> Self {
        let file = dir.join(format!("{name}.yaml"));
        std::fs::write(&file, schedule).unwrap();
        let store = dir.join("store");
        let said = std::fs::File::create(dir.join(format!("{name}.stderr"))).unwrap();
        let child = quorate()
            .args(["test", "--mode", "raft", "--nodes", "3", "--seed", "7"])
            .args(["--name", name, "--time-limit", time_limit, "--schedule"])
            .arg(file)
            .arg("--store")
            .arg(&store)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let run = store.join(name).join("latest");
        let mut running = Self { child, run };
        let link = running.run.clone();
        let (run, _) = eventually("a run directory", || {
            running.goes_on();
            std::fs::canonicalize(&link).ok()
        });
        running.run = run;
        running
    }

    fn goes_on(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended ({status})");
        }
    }

    /// Waits for so many remarks of the nemesis of this kind in the history.
    fn await_remarks(&mut self, kind: &str, count: usize) {
        let wanted = format!("\"f\":\"{kind}\"");
        let file = self.run.join("history.jsonl");
        eventually(kind, || {
            self.goes_on();
            let history = std::fs::read_to_string(&file).unwrap_or_default();
            (history.matches(&wanted).count() >= count).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn leases(&self) -> Leases {
        Leases::read(&self.run.join(LEASES)).unwrap().unwrap()
    }

    fn verdict(&self) -> Value {
        let text = std::fs::read_to_string(self.run.join("verdict.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// What the run has on this machine now.
    fn belongings(&self) -> Belongings {
        let leases = self.leases();
        let nodes = Manifest::read(&self.run).unwrap().unwrap().processes;
        let groups = leases.leases.iter().find_map(|lease| match &lease.undo {
            Undo::Remove(groups) => Some(groups.clone()),
            _ => None,
        });
        let processes = nodes.into_iter().map(|entry| entry.identity);
        Belongings {
            processes: processes.chain(leases.keeper).collect(),
            groups: groups.unwrap(),
        }
    }
}

struct Belongings {
    processes: Vec<Identity>,
    groups: Vec<Group>,
}

impl Belongings {
    fn are_gone(&self) -> bool {
        self.processes.iter().all(|process| !process.is_alive())
            && self.groups.iter().all(|group| !group.exists())
    }

    fn are_there(&self) -> bool {
        self.processes.iter().all(Identity::is_alive) && self.groups.iter().all(Group::exists)
    }
}

#[test]
fn nothing_is_left_of_a_harness_that_is_killed_in_the_middle_of_any_fault() {
    for fault in FAULTS.iter().filter(|fault| possible(fault)) {
        let dir = tempfile::tempdir().unwrap();
        let schedule = format!("- {{at: 300ms, for: 300s, {fault}}}\n");
        let mut running = Running::start(dir.path(), "demo", "300s", &schedule);
        let belongings = running.belongings();
        running.kill();
        let file = running.run.join(LEASES);
        let ((), took) = eventually("nothing is left", || {
            (belongings.are_gone() && !file.exists()).then_some(())
        });
        eprintln!("{fault}: nothing is left after {:.2} s", took.as_secs_f64());
        // Its history can be read and judged.
        let report = quorate().arg("report").arg(&running.run).output().unwrap();
        assert_eq!(report.status.code(), Some(2), "{fault}: {report:?}");
        let verdict = running.verdict();
        assert_eq!(verdict["verdict"], "unknown", "{fault}");
        // And nobody has anything to do.
        let clean = clean(dir.path());
        assert!(clean.starts_with("0 leftovers were undone"), "{clean}");
    }
}

fn clean(dir: &Path) -> String {
    let output = quorate()
        .args(["clean", "--store"])
        .arg(dir.join("store"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_killed_keeper_is_replaced_and_the_run_ends_normally() {
    let fault = "fault: pause, target: follower, via: freezer";
    if !possible(fault) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schedule = format!("- {{at: 300ms, for: 3s, {fault}}}\n");
    let mut running = Running::start(dir.path(), "demo", "6s", &schedule);
    let (before, belongings) = (running.leases(), running.belongings());
    let first = before.keeper.clone().unwrap();
    assert!(first.signal(Signal::KILL).unwrap());
    let (after, took) = eventually("another keeper", || {
        let leases = running.leases();
        leases
            .keeper
            .as_ref()
            .is_some_and(|k| *k != first && k.is_alive())
            .then_some(leases)
    });
    eprintln!("another keeper after {:.3} s", took.as_secs_f64());
    assert_eq!(after.leases, before.leases);
    assert_eq!(running.end(), Some(0));
    let verdict = running.verdict();
    let fault = &verdict["faults"][0];
    assert_eq!(fault["seen"], true, "{fault}");
    assert!(
        fault["proof"].as_str().unwrap().contains("frozen"),
        "{fault}"
    );
    assert!(fault["healed_at_s"].is_number(), "{fault}");
    assert!(belongings.are_gone());
    assert!(!after.keeper.unwrap().is_alive());
    assert!(!running.run.join(LEASES).exists());
}

/// A process that a store might have started and that does not notice the end of anything.
struct Stray(Child);

impl Stray {
    fn in_group_of(belongings: &Belongings, node: &str) -> Self {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        for group in &belongings.groups {
            let group = Group {
                version: group.version,
                path: group.path.join(node),
            };
            group.adopt(child.id()).unwrap();
        }
        Self(child)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clean_undoes_what_is_left_when_both_are_killed_and_nothing_of_another_run() {
    let fault = "fault: pause, target: n2, via: freezer";
    if !possible(fault) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schedule = format!("- {{at: 300ms, for: 300s, {fault}}}\n");
    let mut other = Running::start(dir.path(), "other", "300s", &schedule);
    let mut running = Running::start(dir.path(), "demo", "300s", &schedule);
    let (belongings, of_other) = (running.belongings(), other.belongings());
    let mut stray = Stray::in_group_of(&belongings, "n1");
    // Neither sees the other's end.
    running.signal(Signal::STOP);
    let keeper = running.leases().keeper.unwrap();
    assert!(keeper.signal(Signal::KILL).unwrap());
    running.kill();
    assert!(keeper.wait(PATIENCE).unwrap());
    assert!(belongings.groups.iter().all(Group::exists));
    assert!(stray.0.try_wait().unwrap().is_none());

    let dry = quorate()
        .args(["clean", "--dry-run", "--store"])
        .arg(dir.path().join("store"))
        .output()
        .unwrap();
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("control groups /"), "{dry}");
    assert!(belongings.groups.iter().all(Group::exists));

    let said = clean(dir.path());
    assert!(
        said.contains("control groups /") && !said.contains("/other/"),
        "{said}"
    );
    assert!(belongings.are_gone());
    assert!(!stray.0.wait().unwrap().success());
    assert!(!running.run.join(LEASES).exists());
    assert!(clean(dir.path()).starts_with("0 leftovers were undone"));
    // The other one goes on as if nothing had been.
    assert!(of_other.are_there());
    other.goes_on();
    other.signal(Signal::INT);
    assert_eq!(other.end(), Some(130));
    let verdict = other.verdict();
    assert_eq!(verdict["faults"][0]["seen"], true, "{verdict}");
    assert!(of_other.are_gone());
}

#[test]
fn a_harness_that_stands_still_loses_its_leases() {
    for fault in [
        "fault: pause, target: n2",
        "fault: pause, target: n2, via: freezer",
    ] {
        if !possible(fault) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let schedule = format!("- {{at: 300ms, for: 300s, {fault}}}\n");
        let mut running = Running::start(dir.path(), "demo", "300s", &schedule);
        let belongings = running.belongings();
        running.signal(Signal::STOP);
        let ((), took) = eventually("its leases run out", || {
            // Its nodes are not reaped while it stands still; what is dead is not alive.
            belongings.are_gone().then_some(())
        });
        eprintln!(
            "{fault}: undone {:.2} s after the harness stood still",
            took.as_secs_f64()
        );
        running.signal(Signal::CONT);
        assert_eq!(running.end(), Some(255));
        let said = std::fs::read_to_string(dir.path().join("demo.stderr")).unwrap();
        assert!(
            said.contains("this process stood still for more than 3 s"),
            "{said}"
        );
        assert!(!running.run.join(LEASES).exists());
    }
}

#[test]
fn a_fault_that_is_taken_away_earns_no_credit() {
    let faults = [
        "fault: pause, target: n2",
        "fault: pause, target: n2, via: freezer",
        "fault: cpu, target: n2, share: 10%",
        "fault: memory, target: n2, limit: 64MiB",
    ];
    let faults: Vec<_> = faults.into_iter().filter(|fault| possible(fault)).collect();
    // Any of them but none.
    let random = std::hash::RandomState::new().build_hasher().finish();
    let chosen = 1 + random % ((1 << faults.len()) - 1);
    let chosen: BTreeSet<_> = (0..faults.len())
        .filter(|i| chosen & (1 << i) != 0)
        .collect();
    eprintln!("taken away: {chosen:?} of {faults:?}");
    let dir = tempfile::tempdir().unwrap();
    let entries = faults
        .iter()
        .enumerate()
        .map(|(i, fault)| format!("- {{at: {}ms, for: 4s, {fault}}}\n", 300 + 6000 * i));
    let schedule: String = entries.collect();
    let limit = format!("{}s", 6 * faults.len());
    let mut running = Running::launch(dir.path(), "demo", &limit, &schedule);
    for i in 0..faults.len() {
        running.await_remarks("inject", i + 1);
        if chosen.contains(&i) {
            let leases = running.leases().leases;
            let lease = leases.iter().find(|lease| lease.id.starts_with("fault-"));
            lease
                .expect("a fault holds a lease")
                .undo
                .carry_out()
                .unwrap();
        }
        running.await_remarks("heal", i + 1);
    }
    assert_eq!(running.end(), Some(2));
    let verdict = running.verdict();
    for (i, fault) in verdict["faults"].as_array().unwrap().iter().enumerate() {
        assert_eq!(fault["seen"], !chosen.contains(&i), "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
    let text = verdict.to_string();
    assert!(text.contains("fault-not-effective: "), "{text}");
}
