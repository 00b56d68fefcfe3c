//! What undoes a fault, written down in the state folder before it is done.
//!
//! The folder is on the node and outlives the agent's container: whatever is found there when an
//! agent starts was left by one that did not end well, and is undone. It is on a file system that
//! a reboot empties (`/run`), as a reboot undoes the faults themselves.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use nemesis::mechanism::cgroup::disk::{Device, DiskLimit};
use nemesis::mechanism::cgroup::{Group, Setting};
use nemesis::mechanism::namespace::Namespace;
use nemesis::mechanism::{firewall, queue, shaper};
use serde::{Deserialize, Serialize};

use super::clock::Disturbed;
use super::locate::Tree;

/// The interface of a pod, by the convention of every runtime.
pub const INTERFACE: &str = "eth0";

/// One thing to be undone. Carrying it out twice is once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Let the processes of a container go on.
    Thaw(Group),
    /// Set a limit of a container to what it was.
    Restore(Group, Setting),
    /// Let a container read from and write to a disk what it might before.
    Unthrottle(Group, Device, DiskLimit),
    /// Remove what was done to the network of a pod.
    Network(Network),
    /// Set the clock of a container right.
    Clock(Disturbed),
}

/// Rules in the network of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The pod.
    pub uid: String,
    /// Device and number of its network when the fault was done: a pod has one for all its life.
    pub identity: (u64, u64),
    /// The number of the fault in the names of rules.
    pub fault: u32,
    /// By what it was done.
    pub by: By,
}

/// What is done to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Rules of nftables that drop.
    Firewall,
    /// Rules of iptables that hand packets to this program.
    Queue,
    /// A queueing discipline.
    Shaper,
}

impl Network {
    /// The network, if the pod is there still.
    pub fn find(&self, tree: &Tree) -> Option<Namespace> {
        network_of(tree, &self.uid).filter(|found| found.identity().ok() == Some(self.identity))
    }
}

/// The network of a pod, by any of its processes.
pub fn network_of(tree: &Tree, uid: &str) -> Option<Namespace> {
    let mut processes = tree.processes(uid).into_iter();
    processes.find_map(|pid| Namespace::of_process(pid).ok())
}

impl Undo {
    /// Undoes it. That there is nothing to undo, or nobody any more to whom it was done, is no
    /// error.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub fn carry_out(&self, tree: &Tree) -> io::Result<()> {
        match self {
            Self::Thaw(group) => group.thaw(),
            Self::Restore(group, setting) => group.restore(setting),
            Self::Unthrottle(group, device, limit) => group.limit_disk(*device, *limit),
            Self::Clock(clock) => clock.set_right(tree),
            Self::Network(network) => {
                let Some(namespace) = network.find(tree) else {
                    return Ok(());
                };
                match network.by {
                    By::Firewall => {
                        firewall::release(&namespace, network.fault)?;
                        firewall::tidy(&namespace)?;
                    }
                    By::Queue => {
                        queue::remove(&namespace, network.fault)?;
                    }
                    By::Shaper => {
                        shaper::remove(&namespace, INTERFACE)?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thaw(group) => write!(f, "{} is frozen", group.path.display()),
            Self::Restore(group, _) => write!(f, "{} is limited", group.path.display()),
            Self::Unthrottle(group, device, _) => {
                write!(f, "{} is limited on disk {device}", group.path.display())
            }
            Self::Network(network) => {
                write!(f, "rules in the network of pod {}", network.uid)
            }
            Self::Clock(clock) => write!(f, "{clock} is wrong"),
        }
    }
}

/// A fault that stands on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where its Lease is.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
    /// In the order done; undone from the last to the first.
    pub undo: Vec<Undo>,
}

/// The state folder.
#[derive(Clone, Debug)]
pub struct Journal(PathBuf);

impl Journal {
    /// The journal in this folder, which is made if it is missing.
    ///
    /// # Errors
    /// If it cannot be made or written to.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let journal = Self(folder.into());
        let there = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", journal.0.display()))
        };
        fs::create_dir_all(&journal.0).map_err(there)?;
        // Not to find out only when there is something to write down.
        journal.alive().map_err(there)?;
        Ok(journal)
    }

    fn file(&self, uid: &str) -> PathBuf {
        self.0.join(format!("{uid}.json"))
    }

    /// Writes down a fault by its Lease's uid, whole: a crash leaves the old or the new text.
    ///
    /// # Errors
    /// When it cannot be written; then nothing must be done.
    pub fn write(&self, uid: &str, record: &Record) -> io::Result<()> {
        let fresh = self.0.join(format!("{uid}.new"));
        fs::write(&fresh, serde_json::to_vec(record)?)?;
        fs::rename(fresh, self.file(uid))
    }

    /// Forgets a fault that is undone.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn forget(&self, uid: &str) -> io::Result<()> {
        match fs::remove_file(self.file(uid)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All faults that are written down, by the uid of their Lease.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds what is no record.
    pub fn all(&self) -> io::Result<Vec<(String, Record)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let uid = path.file_stem().and_then(|stem| stem.to_str());
            let record = serde_json::from_slice(&fs::read(&path)?).map_err(|error| {
                io::Error::other(format!("{} is no record: {error}", path.display()))
            })?;
            found.push((uid.unwrap_or_default().to_owned(), record));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Leaves a sign of life for the kubelet; see [`is_alive`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn alive(&self) -> io::Result<()> {
        fs::write(self.0.join(ALIVE), b"")
    }
}

const ALIVE: &str = "alive";

/// Whether the agent of this folder has left a sign of life lately.
pub fn is_alive(folder: &Path, within: std::time::Duration) -> bool {
    let changed = fs::metadata(folder.join(ALIVE)).and_then(|data| data.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age < within))
}

#[cfg(test)]
mod tests {
    use nemesis::mechanism::cgroup::Version;

    use super::*;

    fn record() -> Record {
        let group = Group {
            version: Version::V1,
            path: "/nowhere/quorate".into(),
        };
        Record {
            namespace: "shop".to_owned(),
            lease: "quorate-run-1".to_owned(),
            undo: vec![
                Undo::Thaw(group),
                Undo::Network(Network {
                    uid: "u1".to_owned(),
                    identity: (4, 4_026_531_840),
                    fault: 7,
                    by: By::Firewall,
                }),
                Undo::Clock(Disturbed {
                    uid: "u1".to_owned(),
                    file: "/dev/shm/quorate-clock".into(),
                }),
            ],
        }
    }

    #[test]
    fn what_is_written_down_is_found_again_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        let journal = Journal::open(&folder).unwrap();
        journal.write("b", &record()).unwrap();
        journal.write("a", &record()).unwrap();
        journal.write("b", &record()).unwrap();
        let again = Journal::open(&folder).unwrap().all().unwrap();
        assert_eq!(
            again,
            [("a".to_owned(), record()), ("b".to_owned(), record())]
        );
        for _ in 0..2 {
            journal.forget("a").unwrap();
        }
        assert_eq!(journal.all().unwrap().len(), 1);
        fs::write(folder.join("c.json"), "{").unwrap();
        let error = journal.all().unwrap_err().to_string();
        assert!(error.contains("c.json"), "{error}");
    }

    #[test]
    fn whom_nobody_finds_needs_no_undoing() {
        let tree = Tree::at("/nowhere");
        for undo in record().undo {
            for _ in 0..2 {
                undo.carry_out(&tree).unwrap();
            }
        }
    }

    #[test]
    fn a_sign_of_life_grows_old() {
        let dir = tempfile::tempdir().unwrap();
        let second = std::time::Duration::from_secs(60);
        assert!(!is_alive(dir.path(), second));
        Journal::open(dir.path()).unwrap();
        assert!(is_alive(dir.path(), second));
        assert!(!is_alive(dir.path(), std::time::Duration::ZERO));
    }
}
