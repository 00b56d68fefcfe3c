//! Node processes: started from one thread, watched, signalled and reaped through their pidfds,
//! so that a signal can never reach a process that merely got the same number. Where there are
//! control groups, a node is all processes in its group: what a third-party store starts is stopped
//! and ended with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nemesis::Node;
use nemesis::mechanism::cgroup::{Controller, NodeGroup};
use nemesis::mechanism::keeper::Keeper;
use nemesis::mechanism::lease::{Lease, Undo};
use nemesis::mechanism::namespace::Namespace;
use nemesis::mechanism::process::processor_time;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::manifest::{Entry, Manifest};
use super::procfs::{Identity, Stat, executable};
use crate::versions::{Version, Versions};

/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 15;
/// Bytes of a log read for them.
const QUOTED_BYTES: u64 = 8 * 1024;

/// What to run.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub node: Node,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// What it finds in its environment beside what the harness does.
    pub environment: Vec<(&'static str, OsString)>,
    /// See [`super::program::Program`].
    pub version_flag: &'static str,
    /// See there, too.
    pub versions: Option<Versions>,
    /// Standard error is appended to it.
    pub log: PathBuf,
    /// The network to start it in; that of the thread that starts processes if none.
    pub network: Option<Arc<Namespace>>,
    /// The control groups that it is put into, with all that it starts.
    pub group: NodeGroup,
}

impl Launch {
    /// The same as this version.
    pub fn of(&self, version: Option<&Version>) -> Self {
        let mut launch = self.clone();
        if let Some(program) = version.and_then(|v| v.program.as_ref()) {
            launch.program = program.into();
        }
        if let Some(format) = version.and_then(|v| v.storage) {
            let format = format.to_string();
            launch
                .args
                .extend([launch.version_flag.into(), format.into()]);
        }
        launch
    }
}

/// Starts processes from a thread that lives as long as this value.
///
/// A parent-death signal is sent when the *thread* that forked ends, so nodes must not be started
/// from a runtime's worker, which may end long before the harness does.
#[derive(Debug)]
struct Spawner(mpsc::Sender<Job>);

/// What to start, in which network, and where to say how it went.
type Job = (
    Command,
    Option<Arc<Namespace>>,
    oneshot::Sender<io::Result<Child>>,
);

impl Spawner {
    /// Must be called within a tokio runtime, which the processes are then watched by.
    fn new() -> io::Result<Self> {
        let runtime = Handle::current();
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let _watched_by = runtime.enter();
                for (mut command, network, reply) in queue {
                    // Either all processes have a network of their own or none.
                    let entered = network.map_or(Ok(()), |network| network.enter_thread());
                    // If nobody waits for it any more, it is dropped and thereby killed.
                    let _ = reply.send(entered.and_then(|()| command.spawn()));
                }
            })?;
        Ok(Self(jobs))
    }

    async fn spawn(&self, command: Command, network: Option<Arc<Namespace>>) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let gone = |()| io::Error::other("the thread that starts processes has ended");
        self.0
            .send((command, network, reply))
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

/// All processes of a run, and its manifest.
#[derive(Debug)]
pub(super) struct Processes {
    run_dir: PathBuf,
    keeper: Arc<Keeper>,
    spawner: Spawner,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Nothing is started any more.
    closing: bool,
    owner: Identity,
    running: BTreeMap<u32, (Entry, Arc<Process>)>,
}

impl State {
    fn save(&self, run_dir: &Path) -> io::Result<()> {
        Manifest {
            owner: self.owner.clone(),
            processes: self
                .running
                .values()
                .map(|(entry, _)| entry.clone())
                .collect(),
        }
        .write(run_dir)
    }
}

impl Processes {
    /// Writes an empty manifest into the run directory.
    pub fn new(run_dir: &Path, keeper: Arc<Keeper>) -> io::Result<Arc<Self>> {
        let state = State {
            closing: false,
            owner: Identity::of(std::process::id())?,
            running: BTreeMap::new(),
        };
        state.save(run_dir)?;
        Ok(Arc::new(Self {
            run_dir: run_dir.to_owned(),
            keeper,
            spawner: Spawner::new()?,
            state: Mutex::new(state),
        }))
    }

    /// Starts a process in a process group of its own (so that a terminal's Ctrl-C reaches the
    /// harness only, which then stops the nodes in order), with a pipe as standard input that
    /// closes when the harness ends. `ended` is told the exit status if it ends although nobody
    /// killed it, and whether a fault made that likely.
    pub async fn start(
        self: &Arc<Self>,
        launch: &Launch,
        ended: impl FnOnce(String, bool) + Send + 'static,
    ) -> io::Result<Arc<Process>> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&launch.log)?;
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = self.spawner.spawn(command, launch.network.clone()).await?;
        let missing = || io::Error::other("a pipe to the process is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let (listening, address) = watch::channel(None);
        let process = self.adopt(launch, &child, address)?;
        tokio::spawn(read_address(stdout, listening));
        let (owned, group) = (Arc::clone(self), launch.group.clone());
        let identity = Identity::of(process.pid)?;
        // Not reaped before `watch` waits for it, so the pid is still its own.
        let kept = tokio::task::spawn_blocking(move || {
            let pid = identity.pid;
            let lease = Lease::new(process_lease(pid), Undo::Kill(identity));
            owned.keeper.register(lease).map_err(io::Error::other)?;
            group.adopt(pid)
        });
        let kept = kept.await.map_err(io::Error::other).and_then(|kept| kept);
        if kept.is_err() {
            // It fails only when it has ended.
            let _ = process.kill();
        }
        tokio::spawn(Arc::clone(self).watch(child, stdin, Arc::clone(&process), ended));
        kept.map(|()| process)
    }

    fn adopt(
        &self,
        launch: &Launch,
        child: &Child,
        address: watch::Receiver<Option<SocketAddr>>,
    ) -> io::Result<Arc<Process>> {
        let pid = child
            .id()
            .ok_or_else(|| io::Error::other("it has ended already"))?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("it has no pid"))?;
        let process = Arc::new(Process {
            pid,
            // Not reaped before `watch` waits for it, so the pid is still its own.
            handle: pidfd_open(raw, PidfdFlags::empty())?,
            group: launch.group.clone(),
            will: Mutex::new(Will::default()),
            address,
            ended: watch::Sender::default(),
        });
        let entry = Entry {
            node: launch.node,
            identity: Identity::of(pid)?,
            // Not to be had of a process that has ended already; that is reported by its status.
            executable: executable(pid).unwrap_or_else(|_| launch.program.clone()),
        };
        let mut state = self.lock();
        if state.closing {
            return Err(io::Error::other("the run is being stopped"));
        }
        state.running.insert(pid, (entry, Arc::clone(&process)));
        if let Err(error) = state.save(&self.run_dir) {
            state.running.remove(&pid);
            return Err(error);
        }
        Ok(process)
    }

    /// Holds the process's standard input open for as long as it runs, and reaps it.
    async fn watch(
        self: Arc<Self>,
        mut child: Child,
        stdin: ChildStdin,
        process: Arc<Process>,
        ended: impl FnOnce(String, bool),
    ) {
        let status = match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown status: {error}"),
        };
        drop(stdin);
        {
            let mut state = self.lock();
            state.running.remove(&process.pid);
            if let Err(error) = state.save(&self.run_dir) {
                tracing::warn!(%error, "the manifest of processes cannot be written");
            }
        }
        self.keeper.release(&process_lease(process.pid));
        match process.will().ending {
            Ending::Wanted => {}
            ending => ended(status.clone(), ending == Ending::Tolerated),
        }
        process.ended.send_replace(Some(status));
    }

    /// Kills everything, now and without waiting, and lets nothing be started any more.
    pub fn kill_all(&self) -> Vec<Arc<Process>> {
        let mut state = self.lock();
        state.closing = true;
        let all: Vec<_> = state.running.values().map(|(_, p)| Arc::clone(p)).collect();
        for process in &all {
            // It has ended already, or nothing can be done.
            let _ = process.kill();
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn process_lease(pid: u32) -> String {
    format!("process-{pid}")
}

/// Waits for the line `listening ADDRESS`, then reads on so that the node never blocks on a full
/// pipe.
async fn read_address(stdout: ChildStdout, listening: watch::Sender<Option<SocketAddr>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line
            .strip_prefix("listening ")
            .and_then(|a| a.trim().parse().ok())
        {
            listening.send_replace(Some(address));
        }
    }
}

/// A process that was started, running or ended, and all that it has started.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    handle: OwnedFd,
    group: NodeGroup,
    will: Mutex<Will>,
    address: watch::Receiver<Option<SocketAddr>>,
    ended: watch::Sender<Option<String>>,
}

/// What is wanted of a process.
#[derive(Debug, Default)]
struct Will {
    ending: Ending,
    /// Why it is to stand still, if it is.
    stopped_by: BTreeSet<Stop>,
}

/// What the end of a process means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    /// The target is broken.
    #[default]
    Unexpected,
    /// A fault has done it, most likely.
    Tolerated,
    /// Somebody killed it.
    Wanted,
}

/// Why a process is stopped. It goes on when there is no reason left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// A pause.
    Pause,
    /// It has used its share of the processor.
    Share,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Which process it is, to others.
    pub fn identity(&self) -> io::Result<Identity> {
        Identity::of(self.pid)
    }

    /// Ends it at once with all that it has started, stopped or frozen or not.
    pub fn kill(&self) -> io::Result<()> {
        self.will().ending = Ending::Wanted;
        let killed = self.signal(Signal::KILL);
        if let Some(group) = self.group.any() {
            group.kill()?;
        }
        if let Some(group) = self.group.of(Controller::Freezer) {
            // What is frozen ends when it is thawed, and what is started next is not to be frozen.
            group.thaw()?;
        }
        killed
    }

    /// From now on its end is (not) the doing of a fault.
    pub fn tolerate_end(&self, tolerate: bool) {
        let mut will = self.will();
        match (will.ending, tolerate) {
            (Ending::Unexpected, true) => will.ending = Ending::Tolerated,
            (Ending::Tolerated, false) => will.ending = Ending::Unexpected,
            _ => {}
        }
    }

    /// Stops it, with all that it has started.
    pub fn stop(&self, reason: Stop) -> io::Result<()> {
        let mut will = self.will();
        will.stopped_by.insert(reason);
        self.signal(Signal::STOP)?;
        match self.group.any() {
            Some(group) => group.signal(Signal::STOP),
            None => Ok(()),
        }
    }

    /// Lets it go on, unless there is another reason.
    pub fn go_on(&self, reason: Stop) -> io::Result<()> {
        let mut will = self.will();
        if !will.stopped_by.remove(&reason) || !will.stopped_by.is_empty() {
            return Ok(());
        }
        self.signal(Signal::CONT)?;
        match self.group.any() {
            Some(group) => group.signal(Signal::CONT),
            None => Ok(()),
        }
    }

    fn will(&self) -> MutexGuard<'_, Will> {
        self.will.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    /// It and all that it has started, as far as there are control groups.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid];
        if let Some(group) = self.group.any() {
            pids.extend(group.processes().unwrap_or_default());
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Those of [`Self::pids`] that have not ended.
    pub fn left(&self) -> Vec<u32> {
        let mut pids = self.pids();
        pids.retain(|&pid| Stat::of(pid).is_ok_and(|stat| !"ZX".contains(stat.state)));
        pids
    }

    /// How long it, and all that it has started, has run on a processor.
    pub fn processor_time(&self) -> io::Result<Duration> {
        processor_time(&self.pids())
    }

    /// Whether all of it stands still by a signal.
    pub fn is_stopped(&self) -> bool {
        self.state() == Some('T')
            && (self.pids().into_iter())
                .all(|pid| Stat::of(pid).map_or(true, |stat| "TZX".contains(stat.state)))
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// The letter of `/proc/PID/stat`; `None` once it has ended.
    pub fn state(&self) -> Option<char> {
        if self.ended.borrow().is_some() {
            return None;
        }
        Stat::of(self.pid).ok().map(|stat| stat.state)
    }

    /// Waits until it has ended and is reaped; its exit status.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "unknown status".to_owned(),
        }
    }

    /// Waits until it says where it listens. `None` if it closed its standard output first.
    pub async fn address(&self) -> Option<SocketAddr> {
        let mut address = self.address.clone();
        address
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|address| *address)
    }
}

/// The last lines of a log, each indented by two spaces.
pub(super) fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(QUOTED_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(QUOTED_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("  ({} cannot be read: {error})", path.display()),
    };
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
    if last.is_empty() {
        return format!("  ({} is empty)", path.display());
    }
    last.iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
