//! Older copies of the nodes' data, taken while a rollback is planned.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Needs;
use crate::local::cluster::Cluster;

/// How often copies are taken at most and at least.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Takes copies until it is dropped.
#[derive(Debug)]
pub struct Copies {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Copies {
    /// Starts to, if any are needed.
    pub fn start(needs: &Needs, cluster: &Arc<Cluster>) -> io::Result<Option<Self>> {
        let Some((least, _)) = needs.copies else {
            return Ok(None);
        };
        let interval = (least / 8).clamp(INTERVAL.0, INTERVAL.1);
        let (stop, stopped) = channel();
        let cluster: Weak<Cluster> = Arc::downgrade(cluster);
        let thread = thread::Builder::new()
            .name("copies".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    let Some(cluster) = cluster.upgrade() else {
                        return;
                    };
                    for slot in &cluster.slots {
                        if let Err(error) = slot.data.take_copy() {
                            tracing::debug!(node = slot.node, %error, "no copy was taken");
                        }
                    }
                }
            })?;
        Ok(Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and does not panic.
            let _ = thread.join();
        }
    }
}

/// The copies of one node's data, oldest first.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    /// The oldest that is asked for.
    age: Duration,
    copies: VecDeque<(Instant, PathBuf)>,
    taken: u64,
}

impl Shelf {
    /// A folder that is made if it is missing, and removed when this is dropped.
    pub fn create(folder: PathBuf, age: Duration) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            age,
            copies: VecDeque::new(),
            taken: 0,
        })
    }

    /// Adds a copy, and removes those that are older than anybody asks for.
    pub fn add(&mut self, copy: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        self.taken += 1;
        let place = self.folder.join(self.taken.to_string());
        fs::create_dir(&place)?;
        let at = Instant::now();
        if let Err(error) = copy(&place) {
            fs::remove_dir_all(&place)?;
            return Err(error);
        }
        self.copies.push_back((at, place));
        // The youngest that is old enough stays.
        while self
            .copies
            .get(1)
            .is_some_and(|(at, _)| at.elapsed() > self.age)
        {
            if let Some((_, place)) = self.copies.pop_front() {
                fs::remove_dir_all(place)?;
            }
        }
        Ok(())
    }

    /// The youngest copy that is at least this old, and its age.
    pub fn find(&self, age: Duration) -> Option<(Duration, &Path)> {
        let mut old = self
            .copies
            .iter()
            .rev()
            .map(|(at, place)| (at.elapsed(), place));
        let (of, place) = old.find(|(of, _)| *of >= age)?;
        Some((of, place))
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, "copies of data are left behind");
        }
    }
}

/// Copies what is in a folder, but for some names at its top; how many files.
pub fn copy_tree(
    from: &Path,
    to: &Path,
    skip: &dyn Fn(&std::ffi::OsStr) -> bool,
) -> io::Result<usize> {
    let mut copied = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if skip(&entry.file_name()) {
            continue;
        }
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            copied += copy_tree(&entry.path(), &target, &|_| false)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
            copied += 1;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
            copied += 1;
        }
    }
    Ok(copied)
}
