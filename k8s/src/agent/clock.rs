//! Faults of clocks. Nodes of Kubernetes share the clock of their machine with all that runs there, so
//! it is not touched: a container whose program was started with libfaketime goes by a file, and that
//! is written. The file outlives the container and ends with its pod.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use nemesis::ClockFault;
use nemesis::mechanism::clock::Wrong;
use nemesis::mechanism::clock::container::Program;
use nemesis::mechanism::process::Identity;
use serde::{Deserialize, Serialize};

use super::container::{each, said};
use super::fault::{Bench, Fault, Local};
use super::locate::Tree;
use super::undo::Undo;

/// How long a program may take to look at its clock, which servers do all the time.
const LOOKS_WITHIN: Duration = Duration::from_secs(3);
/// How long it is waited for when a clock is set right, which is tried again.
const STEADY_WITHIN: Duration = Duration::from_secs(1);

/// A clock that is to be set right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disturbed {
    /// The pod.
    pub uid: String,
    /// What the container goes by, as it names it.
    pub file: PathBuf,
}

impl Disturbed {
    /// The programs that go by it now.
    fn programs(&self, tree: &Tree) -> Vec<Program> {
        let processes = tree.processes(&self.uid).into_iter();
        let programs = processes.filter_map(|pid| Program::of(pid).ok());
        programs
            .filter(|program| program.path == self.file)
            .collect()
    }

    /// Whether the pod is gone, and all that was in its memory.
    fn is_gone(&self, tree: &Tree) -> bool {
        tree.processes(&self.uid).is_empty()
    }

    /// Sets it right, by whichever programs go by it now. If there are none, those that are started
    /// next would have a wrong clock: to be tried again, until there are some or the pod is gone.
    ///
    /// # Errors
    /// When it cannot be set right.
    pub fn set_right(&self, tree: &Tree) -> io::Result<()> {
        let programs = self.programs(tree);
        if programs.is_empty() && !self.is_gone(tree) {
            return Err(io::Error::other(
                "nothing in its pod goes by that file now, so that nobody leads to it",
            ));
        }
        for program in &programs {
            program.set_right(&sharing(program, &programs), STEADY_WITHIN)?;
        }
        Ok(())
    }
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the clock {} of pod {}", self.file.display(), self.uid)
    }
}

/// The processes of these programs that go by the same file as this one.
fn sharing(one: &Program, programs: &[Program]) -> BTreeSet<u32> {
    let folder = one.folder().ok();
    let same = programs.iter().filter(|it| it.folder().ok() == folder);
    same.map(|program| program.process.pid).collect()
}

/// A clock that a fault makes wrong. It leads to the file also while the container is down.
#[derive(Debug)]
pub(super) struct Held {
    disturbed: Disturbed,
    program: Arc<Program>,
    /// What its file says until it is healed.
    says: Wrong,
    strobe: Option<Strobe>,
}

/// What sets a clock forward and back.
#[derive(Debug)]
struct Strobe {
    thread: Option<JoinHandle<()>>,
    stop: Option<Sender<()>>,
}

impl Strobe {
    fn start(program: Arc<Program>, wrong: Wrong, every: Duration) -> Self {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut is_wrong = true;
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                is_wrong = !is_wrong;
                let next = if is_wrong { wrong } else { Wrong::default() };
                // What cannot be written will be seen to be missing.
                let _ = program.file().set(next);
            }
        });
        Self {
            thread: Some(thread),
            stop: Some(stop),
        }
    }
}

impl Drop for Strobe {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The program of a container: its oldest process, as others may have been started in it since.
fn program(bench: &Bench, local: &Local) -> Result<Program, String> {
    let processes = local.groups(&bench.tree)?.freezer.processes();
    let processes = processes.map_err(said)?.into_iter();
    let identities = processes.filter_map(|pid| Identity::of(pid).ok());
    let oldest = identities.min_by_key(|process| (process.start_time, process.pid));
    Program::of(oldest.ok_or("its container has no process")?.pid)
}

/// Whether clocks can be made wrong.
pub(super) fn check(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    each(fault, |_, local| {
        let program = program(bench, local)?;
        is_right(&program)?;
        Ok(format!("goes by {}", program.path.display()))
    })
}

/// Refuses a clock that somebody else makes wrong.
fn is_right(program: &Program) -> Result<(), String> {
    let file = program.path.display();
    let text = program.file().said();
    let text = text.map_err(|error| format!("{file} cannot be read ({error})"))?;
    match text {
        Some(text) if text != Wrong::default().to_string() => Err(format!(
            "{file} says {text:?} already; remove it, if nobody needs that"
        )),
        _ => Ok(()),
    }
}

pub(super) fn disturb(bench: &Bench, fault: &mut Fault, how: ClockFault) -> Result<String, String> {
    each(fault, |fault, local| {
        let program = Arc::new(program(bench, local)?);
        let disturbed = Disturbed {
            uid: local.target.uid.clone(),
            file: program.path.clone(),
        };
        let undo = Undo::Clock(disturbed.clone());
        if bench.another(&fault.uid, |other| *other == undo) {
            return Err("another fault makes its clock wrong already".to_owned());
        }
        is_right(&program)?;
        let says = Wrong::from(how);
        // Each process counts for itself what it has gained.
        let all = disturbed.programs(&bench.tree).len();
        if says.ppm != 0 && all > 1 {
            return Err(format!(
                "{all} processes of its pod go by {}, and only one can be made to run fast or slow",
                program.path.display()
            ));
        }
        fault.will_undo(bench, undo)?;
        fault.clocks.push(Held {
            disturbed,
            program: Arc::clone(&program),
            says,
            strobe: None,
        });
        let (path, pid) = (program.path.display(), program.process.pid);
        let file = program.file();
        file.set(says)
            .map_err(|error| format!("{path} cannot be written ({error})"))?;
        let read = program.reads(LOOKS_WITHIN);
        let read = read.map_err(|error| format!("who reads {path} cannot be seen ({error})"))?;
        if !read {
            return Err(format!(
                "process {pid} loads libfaketime, but did not ask it for the time in {LOOKS_WITHIN:?}: \
                 it has the clock of its machine, or stands still"
            ));
        }
        if file.said().map_err(said)? != Some(says.to_string()) {
            return Err(format!("{path} does not say {says}, as read back"));
        }
        let seen = format!(
            "goes by {path}, which says {says}, and its process {pid} has read that by libfaketime"
        );
        let ClockFault::Strobe { every_ms, .. } = how else {
            return Ok(seen);
        };
        let every = Duration::from_millis(every_ms.max(1));
        if let Some(held) = fault.clocks.last_mut() {
            held.strobe = Some(Strobe::start(program.clone(), says, every));
        }
        Ok(format!("{seen}; it is set back and forth every {every:?}"))
    })
}

impl Held {
    /// Why it is not wrong any more, if so. A container that is down comes back with it.
    fn faded(&self, tree: &Tree) -> Option<String> {
        if self.disturbed.is_gone(tree) {
            return Some("a pod is gone, and its clock with it".to_owned());
        }
        let programs = self.disturbed.programs(tree);
        if !programs.is_empty() && sharing(&self.program, &programs).is_empty() {
            return Some("a container goes by another file by now".to_owned());
        }
        let says = self.program.file().said().ok().flatten();
        if self.strobe.is_none() && says != Some(self.says.to_string()) {
            return Some("a clock was found to be set before its time".to_owned());
        }
        None
    }

    fn set_right(&mut self, tree: &Tree) -> Result<String, String> {
        self.strobe = None;
        if self.disturbed.is_gone(tree) {
            return Ok("a pod is gone, and its clock with it".to_owned());
        }
        let programs = self.disturbed.programs(tree);
        let path = self.program.path.display();
        self.program
            .set_right(&sharing(&self.program, &programs), STEADY_WITHIN)
            .map_err(|error| format!("{path}: {error}"))?;
        is_right(&self.program)?;
        Ok(format!("{path} says {} again", Wrong::default()))
    }
}

/// Why clocks are not wrong any more, if so.
pub(super) fn faded(bench: &Bench, fault: &Fault) -> Option<String> {
    let mut clocks = fault.clocks.iter();
    clocks.find_map(|held| held.faded(&bench.tree))
}

pub(super) fn heal(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    let clocks = fault.clocks.iter_mut();
    // One that cannot be set right does not keep the others from it.
    let each: Vec<_> = clocks.map(|held| held.set_right(&bench.tree)).collect();
    let seen = each.into_iter().collect::<Result<Vec<_>, String>>()?;
    fault.clocks.clear();
    if seen.is_empty() {
        return Ok("there was nothing to undo".to_owned());
    }
    Ok(seen.join("; "))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command};
    use std::time::Instant;

    use nemesis::mechanism::clock::{container, environment, library};

    use super::super::protocol::{Order, State, Target, VERSION, What};
    use super::super::undo::Journal;
    use super::*;

    const UID: &str = "0f5c1a2e-7d7b-4a55-9d0a-3f1f4c3b2a10";
    const ID: &str = "8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f6d1c0b9a8e2f";
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A pod of one container whose program asks for the time over and over; the rest of a node is
    /// folders.
    struct Pod {
        folder: tempfile::TempDir,
        /// In memory.
        file: PathBuf,
        _memory: tempfile::TempDir,
        program: Child,
    }

    impl Pod {
        fn start() -> Option<Self> {
            let (Ok(library), true, Ok(())) = (
                library(),
                Path::new("/usr/bin/python3").exists(),
                container::available(),
            ) else {
                eprintln!("not tested: it takes libfaketime, python3 and privileges");
                return None;
            };
            let memory = tempfile::tempdir_in("/dev/shm").unwrap();
            let file = memory.path().join("clock");
            let pod = Self {
                folder: tempfile::tempdir().unwrap(),
                program: run(&environment(&library, &file)),
                file,
                _memory: memory,
            };
            // Every pod has a process that does nothing, and keeps what its containers share.
            pod.put("sandbox", &[std::process::id()]);
            pod.put(ID, &[pod.program.id()]);
            Some(pod)
        }

        fn group(&self) -> PathBuf {
            let group = format!("cgroup/freezer/kubepods/pod{UID}");
            self.folder.path().join(group)
        }

        fn put(&self, group: &str, pids: &[u32]) {
            let group = self.group().join(group);
            fs::create_dir_all(&group).unwrap();
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            fs::write(group.join("cgroup.procs"), pids.join("\n")).unwrap();
        }

        fn agent(&self) -> Bench {
            let journal = Journal::open(self.folder.path().join("state")).unwrap();
            Bench::new(Tree::at(self.folder.path().join("cgroup")), journal)
        }

        fn fault(lease: &str, how: ClockFault) -> Fault {
            let target = Target {
                node: 1,
                pod: "s-0".to_owned(),
                uid: UID.to_owned(),
                container: "node".to_owned(),
                on: "worker".to_owned(),
                ip: None,
            };
            let order = Order {
                version: VERSION,
                what: What::Clock(how.into()),
                pods: vec![target.clone()],
                links: Vec::new(),
                port: 1,
                via: None,
            };
            let local = Local {
                target,
                id: format!("containerd://{ID}"),
                data: "/".into(),
            };
            Fault::new(lease, "shop", lease, order, vec![local])
        }

        fn said(&self) -> String {
            fs::read_to_string(&self.file).unwrap()
        }

        /// Waits until its file says this.
        fn says(&self, wanted: &str) {
            let began = Instant::now();
            while self.said() != wanted {
                assert!(began.elapsed() < PATIENCE, "{} {wanted}", self.said());
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn run(environment: &[(&'static str, OsString)]) -> Child {
        let program = "import time\nwhile True: time.time(); time.sleep(0.005)";
        let child = Command::new("/usr/bin/python3")
            .args(["-c", program])
            .envs(environment.iter().cloned())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while let Err(why) = Program::of(child.id()) {
            assert!(began.elapsed() < PATIENCE, "{why}");
            thread::sleep(Duration::from_millis(10));
        }
        child
    }

    impl Drop for Pod {
        fn drop(&mut self) {
            let _ = self.program.kill();
            let _ = self.program.wait();
        }
    }

    fn inject(fault: &mut Fault, bench: &Bench) -> (State, String) {
        let report = fault.inject(bench, &false.into());
        (report.state, report.text)
    }

    #[test]
    fn a_clock_is_seen_to_go_wrong_and_is_set_right() {
        let Some(pod) = Pod::start() else {
            return;
        };
        let bench = pod.agent();
        for (how, wrong) in [
            (ClockFault::Jump(-5_000), "-5.000"),
            (ClockFault::Drift(50_000), "+0.000 x1.050000"),
        ] {
            let mut fault = Pod::fault("00000001-a", how);
            let (state, text) = inject(&mut fault, &bench);
            assert_eq!(state, State::Seen, "{text}");
            assert!(text.contains("has read that by libfaketime"), "{text}");
            assert_eq!(pod.said(), wrong);
            assert_eq!(fault.faded(&bench), None);
            let mut second = Pod::fault("00000002-b", how);
            let (state, text) = inject(&mut second, &bench);
            assert_eq!(state, State::NotSeen);
            assert!(text.contains("another fault"), "{text}");
            assert_eq!(second.heal(&bench, None).state, State::Healed);
            assert_eq!(pod.said(), wrong);
            let healed = fault.heal(&bench, None);
            assert_eq!(healed.state, State::Healed, "{}", healed.text);
            assert_eq!(pod.said(), "+0.000");
            assert!(bench.journal.all().unwrap().is_empty());
        }
    }

    #[test]
    fn a_clock_is_set_back_and_forth_until_it_is_set_right() {
        let Some(pod) = Pod::start() else {
            return;
        };
        let bench = pod.agent();
        let how = ClockFault::Strobe {
            by_ms: 1_000,
            every_ms: 5,
        };
        let mut fault = Pod::fault("00000001-a", how);
        assert_eq!(inject(&mut fault, &bench).0, State::Seen);
        for wanted in ["+0.000", "+1.000", "+0.000"] {
            pod.says(wanted);
        }
        assert_eq!(fault.heal(&bench, None).state, State::Healed);
        assert_eq!(pod.said(), "+0.000");
    }

    #[test]
    fn the_next_agent_sets_right_what_is_left() {
        let Some(mut pod) = Pod::start() else {
            return;
        };
        let mut fault = Pod::fault("00000001-a", ClockFault::Jump(5_000));
        assert_eq!(inject(&mut fault, &pod.agent()).0, State::Seen);
        drop(fault);
        let bench = pod.agent();
        let (_, record) = bench.journal.all().unwrap().remove(0);
        // The container is down: who is started next would have the wrong clock.
        pod.put(ID, &[]);
        let undo = record.undo.last().unwrap();
        undo.carry_out(&bench.tree).unwrap_err();
        assert_eq!(pod.said(), "+5.000");
        let environment = environment(&library().unwrap(), &pod.file);
        let mut before = std::mem::replace(&mut pod.program, run(&environment));
        pod.put(ID, &[pod.program.id()]);
        undo.carry_out(&bench.tree).unwrap();
        assert_eq!(pod.said(), "+0.000");
        before.kill().unwrap();
        before.wait().unwrap();
        fs::remove_dir_all(pod.group()).unwrap();
        undo.carry_out(&bench.tree).unwrap();
    }

    #[test]
    fn a_clock_is_set_right_while_its_container_is_down_and_ends_with_its_pod() {
        let Some(pod) = Pod::start() else {
            return;
        };
        let bench = pod.agent();
        let mut fault = Pod::fault("00000001-a", ClockFault::Jump(5_000));
        assert_eq!(inject(&mut fault, &bench).0, State::Seen);
        pod.put(ID, &[]);
        assert_eq!(fault.faded(&bench), None);
        assert_eq!(fault.heal(&bench, None).state, State::Healed);
        assert_eq!(pod.said(), "+0.000");

        pod.put(ID, &[pod.program.id()]);
        let mut fault = Pod::fault("00000001-a", ClockFault::Jump(5_000));
        assert_eq!(inject(&mut fault, &bench).0, State::Seen);
        fs::write(&pod.file, "+0.000").unwrap();
        assert!(fault.faded(&bench).unwrap().contains("before its time"));
        fs::remove_dir_all(pod.group()).unwrap();
        assert!(fault.faded(&bench).unwrap().contains("pod is gone"));
        assert_eq!(fault.heal(&bench, None).state, State::Healed);
    }

    #[test]
    fn a_clock_that_somebody_else_makes_wrong_is_left() {
        let Some(pod) = Pod::start() else {
            return;
        };
        let bench = pod.agent();
        fs::write(&pod.file, "+86400\n").unwrap();
        let mut fault = Pod::fault("00000001-a", ClockFault::Jump(5_000));
        let (state, text) = inject(&mut fault, &bench);
        assert_eq!(state, State::NotSeen);
        assert!(text.contains("says \"+86400\" already"), "{text}");
        assert_eq!(fault.heal(&bench, None).state, State::Healed);
        assert_eq!(pod.said(), "+86400\n");
    }
}
