//! Faults as what undoes them, written down before they are done.
//!
//! An [`Undo`] is data: the same one is carried out by whoever is there to do it: the owner when it
//! heals, the [keeper](super::keeper) when the owner is gone, `quorate clean` when both are. It
//! names groups by their path and processes by their [`Identity`], so that it can never hit
//! anything else, and it may be carried out any number of times.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::cgroup::{self, Group};
use super::process::{Identity, Stat};

/// How long a killed process may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a program that undoes something may take.
const RUN_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);

/// What undoes a fault, or removes what a run has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Let the processes of a group go on.
    Thaw(Group),
    /// Take the limit of processor time off a group.
    LiftCpu(Group),
    /// Take the limit of memory off a group.
    LiftMemory(Group),
    /// Let a stopped process go on.
    Continue(Identity),
    /// End a process.
    Kill(Identity),
    /// End everything in these groups and below, and remove them.
    Remove(Vec<Group>),
    /// Run a program, which undoes it from afar and may be run any number of times.
    Run(Command),
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Undo {
    /// Whether there is anything to undo. What cannot be looked at is taken to be there still.
    pub fn stands(&self) -> bool {
        match self {
            Self::Thaw(group) => group.exists() && group.is_freezing().unwrap_or(true),
            Self::LiftCpu(group) => {
                group.exists() && group.cpu_limit().map_or(true, |limit| limit.is_some())
            }
            Self::LiftMemory(group) => {
                group.exists() && group.memory().map_or(true, |memory| memory.limit.is_some())
            }
            Self::Continue(process) => {
                process.is_alive() && Stat::of(process.pid).is_ok_and(|stat| stat.state == 'T')
            }
            Self::Kill(process) => process.is_alive(),
            Self::Remove(groups) => groups.iter().any(Group::exists),
            // Only the program itself could tell.
            Self::Run(_) => true,
        }
    }

    /// Undoes it. That there is nothing to undo is no error.
    ///
    /// # Errors
    /// When it cannot be undone, or is not undone in seconds.
    pub fn carry_out(&self) -> io::Result<()> {
        match self {
            Self::Thaw(group) => group.thaw(),
            Self::LiftCpu(group) => group.lift_cpu(),
            Self::LiftMemory(group) => group.lift_memory(),
            Self::Continue(process) => process.signal(Signal::CONT).map(drop),
            Self::Kill(process) => {
                if process.signal(Signal::KILL)? && !process.wait(END_WITHIN)? {
                    return Err(io::Error::other(format!(
                        "process {} was killed but has not ended after {END_WITHIN:?}",
                        process.pid
                    )));
                }
                Ok(())
            }
            Self::Remove(groups) => cgroup::remove(groups),
            Self::Run(command) => command.run(),
        }
    }
}

impl Command {
    /// Runs it to its end. What it says goes where this process's own errors go.
    fn run(&self) -> io::Result<()> {
        let mut child = std::process::Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let until = Instant::now() + RUN_WITHIN;
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(io::Error::other(format!("it ended with {status}")));
                }
                None if Instant::now() >= until => {
                    child.kill()?;
                    child.wait()?;
                    return Err(io::Error::other(format!(
                        "it did not end within {RUN_WITHIN:?}"
                    )));
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }
}

/// What stands: `control group …/n1, frozen`.
impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thaw(group) => write!(f, "control group {}, frozen", group.path.display()),
            Self::LiftCpu(group) => {
                write!(
                    f,
                    "control group {}, short of processor time",
                    group.path.display()
                )
            }
            Self::LiftMemory(group) => {
                write!(f, "control group {}, short of memory", group.path.display())
            }
            Self::Continue(process) => write!(f, "process {}, stopped", process.pid),
            Self::Kill(process) => write!(f, "process {}", process.pid),
            Self::Remove(groups) => {
                let there = groups.iter().filter(|group| group.exists());
                let paths: Vec<_> = there.map(|g| g.path.display().to_string()).collect();
                write!(f, "control groups {}", paths.join(", "))
            }
            Self::Run(command) => write!(
                f,
                "what `{} {}` undoes",
                command.program.display(),
                command.arguments.join(" ")
            ),
        }
    }
}

/// An undoing, and the name by which its owner takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Unique among those of one owner.
    pub id: String,
    /// What is done when the owner is gone.
    pub undo: Undo,
}

impl Lease {
    /// A lease under this name.
    pub fn new(id: impl Into<String>, undo: Undo) -> Self {
        Self {
            id: id.into(),
            undo,
        }
    }
}

/// Leases in the order taken: the file `leases.json` of a run directory while the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Who took them, and undoes them in time.
    pub owner: Identity,
    /// Who undoes them if the owner does not; none for a moment when it is being replaced.
    pub keeper: Option<Identity>,
    /// In the order taken; undone in the opposite order.
    pub leases: Vec<Lease>,
}

impl Leases {
    /// Nobody is left to undo them.
    pub fn are_orphaned(&self) -> bool {
        !self.owner.is_alive() && !self.keeper.as_ref().is_some_and(Identity::is_alive)
    }

    /// Those that have something to undo, in the order in which to do that.
    pub fn standing(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().rev().filter(|lease| lease.undo.stands())
    }

    /// Reads such a file; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::other(format!("{} holds no leases: {error}", path.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file whole: a crash leaves the old or the new one, never half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, path)
    }
}

/// Undoes all, the last one first. Returns what could not be undone, with the reasons.
pub fn undo_all(leases: &[Lease]) -> Vec<(Lease, io::Error)> {
    let mut failed = Vec::new();
    for lease in leases.iter().rev() {
        if let Err(error) = lease.undo.carry_out() {
            failed.push((lease.clone(), error));
        }
    }
    // In the order taken, as they were.
    failed.reverse();
    failed
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::mechanism::cgroup::Version;

    fn sleeper() -> (Child, Identity) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        (child, identity)
    }

    #[test]
    fn leases_are_undone_from_the_last_to_the_first_and_twice_is_once() {
        let (mut child, process) = sleeper();
        let gone = Group {
            version: Version::V1,
            path: "/sys/fs/cgroup/freezer/quorate-no-such-run/n1".into(),
        };
        let leases = [
            Lease::new("1", Undo::Kill(process.clone())),
            Lease::new("2", Undo::Continue(process.clone())),
            Lease::new("3", Undo::Thaw(gone.clone())),
            Lease::new("4", Undo::LiftCpu(gone.clone())),
            Lease::new("5", Undo::LiftMemory(gone.clone())),
            Lease::new("6", Undo::Remove(vec![gone])),
        ];
        process.signal(Signal::STOP).unwrap();
        while Stat::of(process.pid).unwrap().state != 'T' {
            std::thread::yield_now();
        }
        let file = Leases {
            owner: process.clone(),
            keeper: None,
            leases: leases.to_vec(),
        };
        let standing: Vec<_> = file.standing().map(|lease| lease.id.as_str()).collect();
        assert_eq!(standing, ["2", "1"]);
        leases[1].undo.carry_out().unwrap();
        assert!(!leases[1].undo.stands());
        assert!(undo_all(&leases).is_empty());
        assert!(!child.wait().unwrap().success());
        assert_eq!(file.standing().count(), 0);
        assert!(undo_all(&leases).is_empty());
    }

    #[test]
    fn what_cannot_be_undone_is_told_and_does_not_keep_the_rest() {
        let (mut child, process) = sleeper();
        let theirs = Group {
            version: Version::V1,
            path: "/tmp".into(),
        };
        let leases = [
            Lease::new("1", Undo::Kill(process)),
            Lease::new("2", Undo::Remove(vec![theirs])),
        ];
        let failed = undo_all(&leases);
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].0, leases[1]);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_program_undoes_what_is_far_away() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("undone");
        let run = |program: &str, argument: &Path| {
            Undo::Run(super::Command {
                program: program.into(),
                arguments: vec![argument.display().to_string()],
            })
        };
        run("touch", &mark).carry_out().unwrap();
        assert!(mark.exists());
        let failed = run("cat", &dir.path().join("missing")).carry_out();
        assert!(failed.unwrap_err().to_string().contains("exit status: 1"));
        run("quorate-no-such-program", &mark)
            .carry_out()
            .unwrap_err();
    }

    #[test]
    fn the_file_holds_what_was_written_and_knows_who_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases.json");
        assert_eq!(Leases::read(&path).unwrap(), None);
        let me = Identity::of(std::process::id()).unwrap();
        let dead = Identity {
            start_time: me.start_time + 1,
            ..me.clone()
        };
        let mut leases = Leases {
            owner: dead.clone(),
            keeper: Some(dead.clone()),
            leases: vec![Lease::new("process-1", Undo::Kill(dead.clone()))],
        };
        leases.write(&path).unwrap();
        assert_eq!(Leases::read(&path).unwrap().as_ref(), Some(&leases));
        assert!(leases.are_orphaned());
        leases.keeper = Some(me.clone());
        assert!(!leases.are_orphaned());
        leases.keeper = None;
        assert!(leases.are_orphaned());
        leases.owner = me;
        assert!(!leases.are_orphaned());
        fs::write(&path, "{").unwrap();
        let error = Leases::read(&path).unwrap_err().to_string();
        assert!(error.contains("holds no leases"), "{error}");
    }
}
