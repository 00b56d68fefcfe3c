//! Nodes that outlived their harness. Nodes end with it, so there should be none; this is for the
//! case that there are, e.g. because the machine was frozen in the middle.

use std::io;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::manifest::{Entry, Manifest};
use super::procfs;

/// How long a killed process may take to end.
const END_WITHIN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// A process that a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Which process.
    pub pid: u32,
    /// Which node it was, e.g. `n2`.
    pub node: String,
    /// What the run's manifest says of it.
    entry: Entry,
}

impl Leftover {
    /// Same pid, same start time, same boot, same program: then it is the process that the run
    /// started, and no other that happens to have its number now.
    fn is_ours(&self) -> bool {
        self.entry.identity.is_alive()
            && procfs::executable(self.entry.identity.pid)
                .is_ok_and(|path| path == self.entry.executable)
    }
}

/// The processes in the manifest of this run directory that are still alive, if the harness that
/// started them is not. Kills nothing.
///
/// # Errors
/// When the manifest cannot be read. A run directory without one has no leftovers.
pub fn find(run_dir: &Path) -> io::Result<Vec<Leftover>> {
    let Some(manifest) = Manifest::read(run_dir)? else {
        return Ok(Vec::new());
    };
    if manifest.owner.is_alive() {
        return Ok(Vec::new());
    }
    Ok(manifest
        .processes
        .into_iter()
        .map(|entry| Leftover {
            pid: entry.identity.pid,
            node: format!("n{}", entry.node),
            entry,
        })
        .filter(Leftover::is_ours)
        .collect())
}

/// Kills one leftover and waits until it has ended. That it ended by itself meanwhile is no error.
///
/// # Errors
/// When the process belongs to another user, or does not end.
pub fn kill(leftover: &Leftover) -> io::Result<()> {
    let raw = i32::try_from(leftover.pid).map_err(io::Error::other)?;
    let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("pid 0 in the manifest"))?;
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The handle refers to whichever process had the pid when it was opened, and keeps doing so:
    // checked after opening, the process that is proven to be ours is the one that is killed.
    if !leftover.is_ours() {
        return Ok(());
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ended = [PollFd::new(&handle, PollFlags::IN)];
    if poll(&mut ended, Some(&END_WITHIN))? == 0 {
        return Err(io::Error::other(format!(
            "{} (pid {raw}) was killed but has not ended after {} s",
            leftover.node, END_WITHIN.tv_sec
        )));
    }
    Ok(())
}
