//! The client that is a program of the user's own: any store, any language.
//!
//! One process of the program is started for each client thread, when that thread has its first
//! operation. It reads one JSON object a line from its standard input and writes one a line to its
//! standard output, which it has to flush; what it writes to standard error is kept.
//!
//! ```text
//! → {"id":1,"type":"invoke","node":"n1","address":"127.0.0.1:2379","f":"write","key":"x","value":5}
//! ← {"id":1,"type":"ok"}
//! → {"id":2,"type":"invoke","node":"n2","address":"127.0.0.1:2380","f":"read","key":"x","value":null}
//! ← {"id":2,"type":"ok","value":5}
//! ```
//!
//! | answer | what it says |
//! | --- | --- |
//! | `{"type":"ok","value":V}` | it was done; `value` is what was read, and may be left out for others |
//! | `{"type":"fail","error":E}` | nothing was done, for certain |
//! | `{"type":"info","error":E}` | nobody knows |
//!
//! `id` may be left out of an answer; one that is there has to be the invocation's. An answer may
//! name the leader (`"leader":"n2"`), and who answered (`"node":"n1","role":"leader","epoch":3`).
//!
//! **What is not an answer** leaves the outcome unknown (`info`), and the process is ended and
//! another one started for the thread's next operation: nothing until the time is up (`timeout`),
//! the end of its output (`program-ended`), anything that is not of this form (`bad-response`). A
//! process that cannot be started has done nothing (`fail`, `cannot-start`).
//!
//! A process ends when its standard input does: the harness closes it at the end of a run, and the
//! kernel does when the harness is killed.

mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use checkers::Outcome;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{At, Client};
use crate::operation::{Completion, Invocation};

/// The longest line that is read as an answer.
const LONGEST: u64 = 64 << 20;

/// Speaks to a store through a program.
#[derive(Debug)]
pub struct ExecClient {
    program: PathBuf,
    arguments: Vec<OsString>,
    logs: Option<PathBuf>,
    timeout: Duration,
    /// Each thread has one operation at a time; after one whose end nobody knows it may have the
    /// next while the last process is still being ended.
    threads: Mutex<BTreeMap<u32, Arc<tokio::sync::Mutex<Option<Process>>>>>,
}

/// A program that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no such program.
    #[error("there is no program {0}: give its path, or the name of one on the PATH")]
    Missing(String),
    /// It is not to be executed.
    #[error("{} cannot be executed: `chmod +x` it, or name its interpreter first", .0.display())]
    NotExecutable(PathBuf),
}

/// A program under way.
#[derive(Debug)]
struct Process {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    last_id: u64,
}

/// Why there was no answer.
const CANNOT_START: &str = "cannot-start";
const ENDED: &str = "program-ended";
const BAD: &str = "bad-response";

impl ExecClient {
    /// `command` is the program and its arguments, separated by spaces. Its processes' standard
    /// errors go to `t1.log`, … in the folder `logs`, or nowhere. Each operation may take `timeout`.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn new(command: &str, logs: Option<PathBuf>, timeout: Duration) -> Result<Self, ExecError> {
        let mut words = command.split_whitespace();
        let name = words.next().unwrap_or_default();
        Ok(Self {
            program: found(name)?,
            arguments: words.map(OsString::from).collect(),
            logs,
            timeout,
            threads: Mutex::default(),
        })
    }

    fn start(&self, thread: u32) -> io::Result<Process> {
        let errors = match &self.logs {
            None => Stdio::null(),
            Some(folder) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(format!("t{thread}.log")))?
                .into(),
        };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env("QUORATE_THREAD", thread.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            // A terminal's Ctrl-C is for the harness, which then ends it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        Ok(Process {
            asks: child.stdin.take().ok_or_else(missing)?,
            answers: BufReader::new(child.stdout.take().ok_or_else(missing)?),
            child,
            last_id: 0,
        })
    }

    async fn exchange(
        &self,
        slot: &mut Option<Process>,
        at: At<'_>,
        invocation: &Invocation,
    ) -> Result<Completion, &'static str> {
        if let Some(process) = slot
            && !matches!(process.child.try_wait(), Ok(None))
        {
            // It ended between two operations, so this one need not suffer for it.
            *slot = None;
        }
        let process = match slot {
            Some(process) => process,
            None => slot.insert(self.start(at.thread).map_err(|_| CANNOT_START)?),
        };
        process.last_id += 1;
        let asked = wire::asked(process.last_id, at, invocation);
        let sent = async {
            process.asks.write_all(asked.as_bytes()).await?;
            process.asks.flush().await
        };
        sent.await.map_err(|_| ENDED)?;
        let mut line = Vec::new();
        let mut limited = AsyncReadExt::take(&mut process.answers, LONGEST);
        let read = limited.read_until(b'\n', &mut line).await;
        if read.is_err() || !line.ends_with(b"\n") {
            return Err(ENDED);
        }
        wire::answered(process.last_id, invocation, &line).ok_or(BAD)
    }
}

impl Client for ExecClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let slot = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(threads.entry(at.thread).or_default())
        };
        let exchanged = async {
            let mut slot = slot.lock().await;
            let done = self.exchange(&mut slot, at, invocation).await;
            if done.is_err() {
                // What it may still answer is an answer to nothing.
                *slot = None;
            }
            done
        };
        let why = match timeout(self.timeout, exchanged).await {
            Ok(Ok(completion)) => return completion,
            Ok(Err(why)) => why,
            Err(_) => {
                // The lock is free again: what held it was dropped.
                *slot.lock().await = None;
                "timeout"
            }
        };
        let outcome = if why == CANNOT_START {
            Outcome::Fail
        } else {
            Outcome::Info
        };
        Completion {
            error: Some(why.into()),
            ..Completion::new(outcome, invocation.value.clone())
        }
    }
}

/// The program of this name, looked for on the `PATH` if it is no path.
fn found(name: &str) -> Result<PathBuf, ExecError> {
    let missing = || ExecError::Missing(name.to_owned());
    if name.is_empty() {
        return Err(missing());
    }
    let file = if name.contains('/') {
        std::path::absolute(name).ok().filter(|file| file.is_file())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
        places.find(|file| is_executable(file))
    };
    let file = file.ok_or_else(missing)?;
    if is_executable(&file) {
        Ok(file)
    } else {
        Err(ExecError::NotExecutable(file))
    }
}

fn is_executable(file: &Path) -> bool {
    let Ok(found) = file.metadata() else {
        return false;
    };
    found.is_file() && found.permissions().mode() & 0o111 != 0
}
