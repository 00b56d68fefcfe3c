//! Processes by identity: what `/proc` says of them, and signals that reach no other.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Names one process for ever: a pid is used again, a pid with its start time and boot is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since the boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

impl Identity {
    /// Of a process that exists now.
    ///
    /// # Errors
    /// When there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            start_time: Stat::of(pid)?.start_time,
            boot: boot()?,
        })
    }

    /// Whether exactly this process still exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
            && Stat::of(self.pid)
                .is_ok_and(|stat| stat.start_time == self.start_time && !"ZX".contains(stat.state))
    }

    /// Sends a signal to exactly this process. `false` if it has ended, which is no error.
    ///
    /// # Errors
    /// When it belongs to another user.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(handle) = self.open()? else {
            return Ok(false);
        };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended; `false` if it did not in this time.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn wait(&self, within: Duration) -> io::Result<bool> {
        let Some(handle) = self.open()? else {
            return Ok(true);
        };
        let within = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        Ok(poll(&mut ended, Some(&within))? > 0)
    }

    /// The handle refers to whichever process had the pid when it was opened, and keeps doing so:
    /// checked after opening, it is of this process.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(handle) = open(self.pid)? else {
            return Ok(None);
        };
        Ok(self.is_alive().then_some(handle))
    }
}

/// A handle of whichever process has this pid now; none if there is none.
pub(super) fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| io::Error::other(format!("{pid} is no process id")))?;
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn boot() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R` running, `S` sleeping, `T` stopped, `Z` zombie, …
    pub state: char,
    /// Clock ticks since the boot.
    pub start_time: u64,
}

impl Stat {
    /// Of the process that has this pid now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {text:?}")))
    }

    /// The second field is the program's name in parentheses and may itself hold spaces and
    /// parentheses, so fields are counted from the last `)`.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_time })
    }
}

/// The program that a process runs, also when its file was replaced since.
///
/// # Errors
/// When the process has ended, or is another user's.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    let stripped = path.to_str().and_then(|p| p.strip_suffix(" (deleted)"));
    Ok(stripped.map_or_else(|| path.clone(), |p| Path::new(p).to_owned()))
}

/// How long the threads of these processes have run on a processor. Those that ended do not count.
///
/// # Errors
/// When the kernel does not say (it lacks `CONFIG_SCHED_INFO`).
pub fn processor_time(pids: &[u32]) -> io::Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for task in numbered(Path::new(&format!("/proc/{pid}/task")))? {
            let path = format!("/proc/{pid}/task/{task}/schedstat");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // It ended since it was listed; if the file is missing in general, nothing is known.
                Err(_) if Stat::of(task).is_err() => continue,
                Err(error) => return Err(error),
            };
            let first = text.split_ascii_whitespace().next();
            let ran: u64 = first
                .and_then(|n| n.parse().ok())
                .ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))?;
            nanos += ran;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// The processes that this one has started, those that they have started, and so on; itself first.
pub fn tree(pid: u32) -> Vec<u32> {
    let (mut found, mut seen) = (vec![pid], BTreeSet::from([pid]));
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let tasks = numbered(Path::new(&format!("/proc/{parent}/task"))).unwrap_or_default();
        for task in tasks {
            let path = format!("/proc/{parent}/task/{task}/children");
            // A thread that has ended meanwhile has no children any more.
            let children = fs::read_to_string(path).unwrap_or_default();
            let children = children
                .split_ascii_whitespace()
                .filter_map(|c| c.parse().ok());
            found.extend(children.filter(|&child| seen.insert(child)));
        }
    }
    found
}

/// The entries of a directory that are numbers; none of one that does not exist.
fn numbered(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) S (b) T 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 9 0 777 1000 10";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.start_time), ('T', 777));
        assert_eq!(Stat::parse("42 (a"), None);
        assert_eq!(Stat::parse("42 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let other = Identity {
            start_time: me.start_time + 1,
            ..me.clone()
        };
        assert!(!other.is_alive());
        // It would end this test.
        assert!(!other.signal(Signal::KILL).unwrap());
        assert!(other.wait(Duration::ZERO).unwrap());
        assert!(!me.wait(Duration::ZERO).unwrap());
        assert_eq!(
            executable(me.pid).unwrap(),
            std::env::current_exe().unwrap()
        );
    }

    #[test]
    fn work_takes_processor_time_and_a_stopped_process_none() {
        let spin = "while :; do :; done";
        let mut child = Command::new("sh")
            .args(["-c", spin])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let used = || processor_time(&[identity.pid]).unwrap();
        let before = used();
        while used() < before + Duration::from_millis(5) {
            std::thread::yield_now();
        }
        assert!(identity.signal(Signal::STOP).unwrap());
        while Stat::of(identity.pid).unwrap().state != 'T' {
            std::thread::yield_now();
        }
        let stopped = used();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(used(), stopped);
        assert!(identity.signal(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!identity.signal(Signal::KILL).unwrap());
    }
}
