//! The keeper: a small process beside the owner of faults, which undoes them when the owner is gone.
//!
//! ```text
//! owner ── {"register": {"id": "pause-3-n2", "undo": {"thaw": …}}} ──► keeper
//!       ◄── {"registered": "pause-3-n2"} ──        only then is the fault injected
//!       ── {"release": "pause-3-n2"} ──►           once it is healed
//!       ── "beat" ──►  ◄── "alive" ──              every 500 ms
//! ```
//!
//! Lines of JSON over the keeper's standard input and output. When its input ends, or nothing came
//! for 3 s, the keeper undoes everything that is registered, the last first, and ends. It is in a
//! session of its own, so that a signal to the owner's process group does not reach it.
//!
//! The owner's side is [`Keeper`]. A keeper that dies or hangs is replaced at once, and takes over
//! all leases; an owner that cannot have one any more is told ([`Lost`]).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::lease::{Lease, Leases, undo_all};
use super::process::Identity;

/// How often the owner says that it is alive.
pub const BEAT: Duration = Duration::from_millis(500);
/// Silence of this length ends a lease.
pub const EXPIRY: Duration = Duration::from_secs(3);
/// The exit code of a keeper whose owner said nothing for [`EXPIRY`].
pub const EXPIRED: u8 = 3;
/// What could not be undone is tried again for so long.
const UNDO_WITHIN: Duration = Duration::from_secs(20);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(50);
/// How long a keeper may take to start, and to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// So many keepers in a row may die within [`SOON`] of their start.
const DEATHS: u32 = 3;
/// See [`DEATHS`].
const SOON: Duration = Duration::from_secs(1);
/// A line longer than this is no request.
const LONGEST_LINE: usize = 1 << 20;

/// What the owner says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Undo this if I am gone; one of the same id is replaced.
    Register(Lease),
    /// No more.
    Release(String),
    /// I am alive.
    Beat,
}

/// What the keeper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It has begun, in a session of its own.
    Ready,
    /// See [`Request::Register`].
    Registered(String),
    /// See [`Request::Beat`].
    Alive,
}

/// Why a keeper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The owner closed its end, or died.
    Closed,
    /// The owner said nothing for [`EXPIRY`].
    Expired,
}

/// Leaves the session of the owner; at the start of a keeper's process.
///
/// # Errors
/// When the process leads a process group.
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    // A file system that goes away with the run is not held.
    std::env::set_current_dir("/")
}

/// Keeps what it is told until its owner is gone, then undoes it. What was not undone is told on
/// standard error and left in the file, if there is one.
///
/// # Errors
/// When the pipes cannot be read, after everything was undone.
pub fn serve(
    input: impl Read + AsFd,
    mut output: impl Write,
    expiry: Duration,
    file: Option<&Path>,
) -> io::Result<End> {
    let mut leases = Vec::new();
    let end = listen(input, &mut output, expiry, &mut leases);
    if !leases.is_empty() {
        eprintln!(
            "the owner is gone ({end:?}); {} leases are undone",
            leases.len()
        );
    }
    let until = Instant::now() + UNDO_WITHIN;
    loop {
        let failed = undo_all(&leases);
        leases = failed.iter().map(|(lease, _)| lease.clone()).collect();
        if leases.is_empty() || Instant::now() > until {
            for (lease, error) in failed {
                eprintln!("{} is left: {error}", lease.undo);
            }
            break;
        }
        thread::sleep(RETRY);
    }
    if let Some(file) = file {
        settle(file, leases);
    }
    end
}

/// Leaves in the file only what is left; nothing is: no file.
fn settle(file: &Path, left: Vec<Lease>) {
    let result = match Leases::read(file) {
        Ok(Some(mut leases)) if !left.is_empty() => {
            leases.leases = left;
            leases.write(file)
        }
        Ok(Some(_)) => fs::remove_file(file),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        // The directory may be gone with everything in it.
        eprintln!("{}", at(file, &error));
    }
}

fn at(file: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}

fn listen(
    mut input: impl Read + AsFd,
    output: &mut impl Write,
    expiry: Duration,
    leases: &mut Vec<Lease>,
) -> io::Result<End> {
    reply(output, &Reply::Ready);
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    let mut heard = Instant::now();
    loop {
        let left = expiry.saturating_sub(heard.elapsed());
        // What has arrived counts, however late it is read: this process may itself have been
        // stopped meanwhile.
        if !readable(&input, left)? {
            return Ok(End::Expired);
        }
        let read = match input.read(&mut chunk) {
            Ok(0) => return Ok(End::Closed),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        heard = Instant::now();
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<_> = buffer.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Request::Register(lease)) => {
                    let id = lease.id.clone();
                    leases.retain(|other: &Lease| other.id != id);
                    leases.push(lease);
                    reply(output, &Reply::Registered(id));
                }
                Ok(Request::Release(id)) => leases.retain(|lease| lease.id != id),
                Ok(Request::Beat) => reply(output, &Reply::Alive),
                Err(error) => {
                    let line = String::from_utf8_lossy(&line);
                    eprintln!("{line:?} is no request: {error}");
                }
            }
        }
        if buffer.len() > LONGEST_LINE {
            return Err(io::Error::other("a request without end"));
        }
    }
}

/// If the owner cannot hear it, its input ends too.
fn reply(output: &mut impl Write, reply: &Reply) {
    let _ = write_line(output, reply).and_then(|()| output.flush());
}

fn write_line(output: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)
}

/// Whether something can be read, or the other end was closed, in this time.
fn readable(input: &impl AsFd, within: Duration) -> io::Result<bool> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(input, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// How a keeper is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its program.
    pub program: PathBuf,
    /// The arguments that make it one.
    pub arguments: Vec<OsString>,
    /// What it says goes there.
    pub log: PathBuf,
    /// Where the leases are written down; the keeper is told by its arguments.
    pub file: PathBuf,
}

/// Why there is no keeper any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It took this process for dead.
    #[error(
        "this process stood still for more than {} s, so its leases ran out and its keeper ended \
         the run",
        EXPIRY.as_secs()
    )]
    Expired,
    /// It died, and no other can be had.
    #[error("the keeper of the leases has ended, and no other can be had: {0}")]
    Unreplaceable(String),
    /// It was told to end.
    #[error("the run is being stopped")]
    Closed,
    /// The file of the leases cannot be written.
    #[error("the leases cannot be written down: {0}")]
    Unwritten(String),
}

/// The owner's side: takes leases, says that it is alive, replaces a keeper that has died.
///
/// When it is dropped the keeper undoes what is still registered, and ends.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of a [`Keeper`] have in common.
struct Shared {
    launch: Launch,
    state: Mutex<State>,
    /// Something in the state has changed.
    news: Condvar,
    lost: Box<dyn Fn(&Lost) + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    leases: Leases,
    /// The ids that the present keeper has acknowledged.
    acknowledged: Vec<String>,
    /// The way to the present keeper.
    pipe: Option<ChildStdin>,
    /// When it last answered.
    heard: Instant,
    /// When it was last told that this process is alive.
    beaten: Instant,
    /// How many there have been.
    keepers: u32,
    closing: bool,
    lost: Option<Lost>,
}

impl Keeper {
    /// Starts a keeper. `lost` is told, from a thread of its own, if there is none any more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        launch: Launch,
        lost: impl Fn(&Lost) + Send + Sync + 'static,
    ) -> Result<Self, Lost> {
        let unwritten = |error: io::Error| Lost::Unwritten(error.to_string());
        let leases = Leases {
            owner: Identity::of(std::process::id()).map_err(unwritten)?,
            keeper: None,
            leases: Vec::new(),
        };
        leases.write(&launch.file).map_err(unwritten)?;
        let shared = Arc::new(Shared {
            launch,
            state: Mutex::new(State {
                leases,
                acknowledged: Vec::new(),
                pipe: None,
                heard: Instant::now(),
                beaten: Instant::now(),
                keepers: 0,
                closing: false,
                lost: None,
            }),
            news: Condvar::new(),
            lost: Box::new(lost),
        });
        let thread = |name: &str, work: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&shared))
                .map_err(|error| Lost::Unreplaceable(error.to_string()))
        };
        let threads = Mutex::new(vec![
            thread("keeper", Shared::supervise)?,
            thread("keeper-beat", Shared::beat)?,
        ]);
        let keeper = Self { shared, threads };
        let shared = &keeper.shared;
        let state = shared.wait(shared.lock(), |state| state.keepers > 0);
        match &state.lost {
            None if state.keepers > 0 => {}
            None => return Err(Lost::Unreplaceable("it does not answer".to_owned())),
            Some(lost) => return Err(lost.clone()),
        }
        drop(state);
        Ok(keeper)
    }

    /// Has the keeper take a lease, before what it undoes is done. Blocks until it is acknowledged.
    ///
    /// # Errors
    /// When there is no keeper any more: then the fault must not be injected.
    pub fn register(&self, lease: Lease) -> Result<(), Lost> {
        let shared = &self.shared;
        let id = lease.id.clone();
        let mut state = shared.lock();
        if state.closing {
            return Err(Lost::Closed);
        }
        state.leases.leases.retain(|other| other.id != id);
        state.leases.leases.push(lease.clone());
        state.acknowledged.retain(|other| *other != id);
        shared.write_down(&state)?;
        // If it does not get there, the next keeper gets all of them.
        state.say(&Request::Register(lease));
        let state = shared.wait(state, |state| state.acknowledged.contains(&id));
        match &state.lost {
            Some(lost) => Err(lost.clone()),
            None if state.acknowledged.contains(&id) => Ok(()),
            None => Err(Lost::Unreplaceable("it does not answer".to_owned())),
        }
    }

    /// Takes a lease back, once what it undoes is undone.
    pub fn release(&self, id: &str) {
        let mut state = self.shared.lock();
        if state.closing {
            // All that is left is undone, or was.
            return;
        }
        state.leases.leases.retain(|lease| lease.id != id);
        state.acknowledged.retain(|other| other != id);
        if let Err(error) = self.shared.write_down(&state) {
            tracing::warn!(%error, "a lease that was taken back is still in the file");
        }
        state.say(&Request::Release(id.to_owned()));
    }

    /// Which process it is; none for a moment when it is being replaced.
    pub fn identity(&self) -> Option<Identity> {
        self.shared.lock().leases.keeper.clone()
    }

    /// Why there is none any more, if that is so. A process that stood still knows it before its
    /// keeper's end is noticed.
    pub fn lost(&self) -> Option<Lost> {
        let state = self.shared.lock();
        let overdue = state.beaten.elapsed() > EXPIRY;
        state.lost.clone().or(overdue.then_some(Lost::Expired))
    }
}

impl Keeper {
    /// Lets the keeper undo what is still registered and end, and waits until it has. If there is
    /// none any more, this process does it.
    pub fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.closing = true;
            state.pipe = None;
            self.shared.news.notify_all();
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.is_empty() {
            return;
        }
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        let failed = undo_all(&std::mem::take(&mut state.leases.leases));
        for (lease, error) in &failed {
            tracing::warn!(%error, "{} is left", lease.undo);
        }
        let left = failed.into_iter().map(|(lease, _)| lease).collect();
        settle(&self.shared.launch.file, left);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// A keeper that cannot hear has ended, which its supervisor notices.
    fn say(&mut self, request: &Request) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = write_line(pipe, request)
        {
            tracing::debug!(%error, "the keeper does not hear");
            self.pipe = None;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the condition holds, all is lost, or a time has passed in which every keeper
    /// would have answered.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.news
            .wait_timeout_while(state, ANSWER_WITHIN, |state| {
                state.lost.is_none() && !holds(state)
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn write_down(&self, state: &State) -> Result<(), Lost> {
        let written = state.leases.write(&self.launch.file);
        written.map_err(|error| Lost::Unwritten(error.to_string()))
    }

    fn give_up(&self, why: &Lost) {
        {
            let mut state = self.lock();
            state.pipe = None;
            state.lost.get_or_insert_with(|| why.clone());
            self.news.notify_all();
        }
        (self.lost)(why);
    }

    /// Starts a keeper, hears what it says, and when it has ended starts the next one.
    fn supervise(&self) {
        let mut deaths = 0;
        loop {
            let began = Instant::now();
            let status = self
                .spawn()
                .and_then(|(child, output)| self.attend(child, output));
            let mut state = self.lock();
            state.pipe = None;
            state.leases.keeper = None;
            state.acknowledged.clear();
            if state.closing {
                return;
            }
            drop(state);
            deaths = if began.elapsed() < SOON {
                deaths + 1
            } else {
                1
            };
            let why = match status {
                Ok(status) if status.code() == Some(i32::from(EXPIRED)) => {
                    return self.give_up(&Lost::Expired);
                }
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            if deaths > DEATHS {
                return self.give_up(&Lost::Unreplaceable(why));
            }
            tracing::warn!(%why, "the keeper of the leases has ended; another takes over");
        }
    }

    fn spawn(&self) -> io::Result<(Child, BufReader<ChildStdout>)> {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.launch.log)?;
        let mut child = Command::new(&self.launch.program)
            .args(&self.launch.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no pipe"))?;
        Ok((child, BufReader::new(output)))
    }

    /// Hands over all leases, and listens until the keeper has ended.
    fn attend(
        &self,
        mut child: Child,
        mut output: BufReader<ChildStdout>,
    ) -> io::Result<ExitStatus> {
        let result = self.converse(&mut child, &mut output);
        // It has closed its output, or said something strange: in either case it is of no use.
        let closing = self.lock().closing;
        if !closing || result.is_err() {
            let _ = child.kill();
        }
        drop(child.stdin.take());
        let status = child.wait()?;
        result.map(|()| status)
    }

    fn converse(&self, child: &mut Child, output: &mut BufReader<ChildStdout>) -> io::Result<()> {
        {
            let mut state = self.lock();
            if state.closing {
                return Ok(());
            }
            state.pipe = child.stdin.take();
            state.heard = Instant::now();
            state.leases.keeper = Identity::of(child.id()).ok();
            let written = state.leases.write(&self.launch.file);
            written.map_err(|error| at(&self.launch.file, &error))?;
        }
        let mut line = String::new();
        loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                return Ok(());
            }
            // A program that is more than a keeper may say other things first.
            let Ok(reply) = serde_json::from_str(&line) else {
                continue;
            };
            let mut state = self.lock();
            state.heard = Instant::now();
            match reply {
                Reply::Ready => {
                    state.keepers += 1;
                    for lease in state.leases.leases.clone() {
                        state.say(&Request::Register(lease));
                    }
                }
                Reply::Registered(id) => state.acknowledged.push(id),
                Reply::Alive => {}
            }
            self.news.notify_all();
        }
    }

    /// Says that this process is alive, and ends a keeper that does not answer.
    fn beat(&self) {
        let mut state = self.lock();
        while !state.closing && state.lost.is_none() {
            // Stays overdue once it was: see `Keeper::lost`.
            if state.beaten.elapsed() <= EXPIRY {
                state.beaten = Instant::now();
                state.say(&Request::Beat);
                if state.heard.elapsed() > 2 * EXPIRY
                    && let Some(keeper) = state.leases.keeper.clone()
                {
                    tracing::warn!("the keeper of the leases does not answer; it is ended");
                    let _ = keeper.signal(rustix::process::Signal::KILL);
                    state.heard = Instant::now();
                }
            }
            state = self
                .news
                .wait_timeout_while(state, BEAT, |state| !state.closing && state.lost.is_none())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests;
