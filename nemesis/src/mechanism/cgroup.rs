//! Control groups of our own, one for each node of a run: `quorate-<run>/n1`. All processes of a
//! node are in them, also those that a third-party store starts, so that they can be frozen, slowed
//! down, squeezed and ended together.
//!
//! Both versions are known, also mixed as older systemd does it: a controller that has a hierarchy
//! of version 1 is used there, everything else in the hierarchy of version 2. The freezer is used
//! in version 2 where there is one: it is no controller but a part of every group, and what it has
//! frozen can be killed; in version 1 a kill waits for the thaw.
//!
//! Groups are made below the group of the harness, so that nodes stay within its limits. In
//! version 2 a group that has processes cannot hand controllers on to its children; then the
//! nearest one above it that does, and where we may make groups, is taken.
//!
//! Sources: `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst` of Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::{Available, MARK, process};

pub mod disk;

/// The kernel's own unit of time for quotas, in microseconds; the smallest quota is 1 % of it.
const PERIOD_US: u64 = 100_000;
/// A limit of memory from here on is none (version 1 shows the largest number of whole pages).
const UNLIMITED_FROM: u64 = 1 << 62;
/// Between two looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(2);
/// How long frozen or killed processes may take to be so.
const WITHIN: Duration = Duration::from_secs(5);

/// What control groups are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Stops all processes of a group.
    Freezer,
    /// Limits the processor time of a group.
    Cpu,
    /// Limits the memory of a group.
    Memory,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Freezer, Self::Cpu, Self::Memory];

    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Freezer => "freezer",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the two interfaces a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// One control group, which need not exist any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// Its interface.
    pub version: Version,
    /// Its directory.
    pub path: PathBuf,
}

/// What a group was set to before, word for word: its files and what they held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting(Vec<(String, String)>);

impl Setting {
    /// Whether it is a setting of the same controller.
    pub fn is_of_same_files(&self, other: &Self) -> bool {
        let names = |setting: &Self| -> Vec<String> {
            setting.0.iter().map(|(file, _)| file.clone()).collect()
        };
        names(self) == names(other)
    }
}

/// `cpu.max: max 100000`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (file, text)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{file}: {text}")?;
        }
        Ok(())
    }
}

/// How much memory a group has, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In bytes.
    pub used: u64,
    /// In bytes; `None` is unlimited.
    pub limit: Option<u64>,
    /// How often more was asked for than the limit.
    pub refused: u64,
    /// How many of its processes the kernel has ended for want of memory.
    pub killed: u64,
}

impl Group {
    /// Whether it still exists.
    pub fn exists(&self) -> bool {
        self.path.join("cgroup.procs").exists()
    }

    /// The processes in it, not those in groups below it. None if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let text = match self.read("cgroup.procs") {
            // ENODEV is that of a group which was removed while its file was open.
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(19) =>
            {
                return Ok(Vec::new());
            }
            text => text?,
        };
        // 0 is a process outside our pid namespace.
        let pids = text.lines().filter_map(|line| line.parse().ok());
        Ok(pids.filter(|&pid| pid != 0).collect())
    }

    /// Takes a process in, and all that it has started so far; what they start later is in by
    /// itself.
    ///
    /// # Errors
    /// When the process cannot be moved. One that has ended is no error.
    pub fn adopt(&self, pid: u32) -> io::Result<()> {
        let mut moved = BTreeSet::new();
        loop {
            let new: Vec<_> = process::tree(pid)
                .into_iter()
                .filter(|&pid| moved.insert(pid))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                match self.write("cgroup.procs", &pid.to_string()) {
                    // ESRCH: it has ended.
                    Err(error) if error.raw_os_error() == Some(3) => {}
                    result => result?,
                }
            }
        }
    }

    /// Stops all its processes, and waits until they are.
    ///
    /// # Errors
    /// When it cannot be frozen, or is not in time.
    pub fn freeze(&self) -> io::Result<()> {
        match self.version {
            Version::V1 => self.write("freezer.state", "FROZEN")?,
            Version::V2 => self.write("cgroup.freeze", "1")?,
        }
        let until = Instant::now() + WITHIN;
        while !self.is_frozen()? {
            if Instant::now() > until {
                return Err(io::Error::other(format!(
                    "{} is not frozen after {WITHIN:?}",
                    self.path.display()
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Lets its processes go on. One that does not exist has none.
    ///
    /// # Errors
    /// When it cannot be thawed.
    pub fn thaw(&self) -> io::Result<()> {
        let thawed = match self.version {
            Version::V1 => self.write("freezer.state", "THAWED"),
            Version::V2 => self.write("cgroup.freeze", "0"),
        };
        existing(thawed)
    }

    /// Whether all its processes are stopped.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        Ok(match self.version {
            Version::V1 => self.read("freezer.state")?.trim() == "FROZEN",
            Version::V2 => self.field("cgroup.events", "frozen")? == Some(1),
        })
    }

    /// Whether somebody wants its processes stopped: true a moment before all of them are.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_freezing(&self) -> io::Result<bool> {
        Ok(match self.version {
            Version::V1 => self.read("freezer.state")?.trim() != "THAWED",
            Version::V2 => self.read("cgroup.freeze")?.trim() == "1",
        })
    }

    /// Lets its processes together have so many percent of one processor.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn limit_cpu(&self, percent: u8) -> io::Result<()> {
        let quota = PERIOD_US * u64::from(percent) / 100;
        match self.version {
            Version::V1 => {
                self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                self.write("cpu.cfs_quota_us", &quota.to_string())
            }
            Version::V2 => self.write("cpu.max", &format!("{quota} {PERIOD_US}")),
        }
    }

    /// Lets its processes have all they can get. One that does not exist has no limit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lift_cpu(&self) -> io::Result<()> {
        existing(match self.version {
            Version::V1 => self.write("cpu.cfs_quota_us", "-1"),
            Version::V2 => self.write("cpu.max", "max"),
        })
    }

    /// What its limit of a controller is, for [`Self::restore`]: a group that somebody else made may
    /// have had one before.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn setting(&self, controller: Controller) -> io::Result<Setting> {
        let files: &[&str] = match (controller, self.version) {
            (Controller::Cpu, Version::V1) => &["cpu.cfs_period_us", "cpu.cfs_quota_us"],
            (Controller::Cpu, Version::V2) => &["cpu.max"],
            (Controller::Memory, Version::V1) => &["memory.limit_in_bytes"],
            (Controller::Memory, Version::V2) => &["memory.max"],
            (Controller::Freezer, _) => &[],
        };
        let read = |file: &&str| Ok(((*file).to_owned(), self.read(file)?.trim().to_owned()));
        files
            .iter()
            .map(read)
            .collect::<io::Result<_>>()
            .map(Setting)
    }

    /// Sets it to what it was. One that does not exist needs nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(&self, setting: &Setting) -> io::Result<()> {
        let mut write = setting.0.iter();
        write.try_for_each(|(file, text)| existing(self.write(file, text)))
    }

    /// Whether it is set to this now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_set_to(&self, setting: &Setting) -> io::Result<bool> {
        for (file, text) in &setting.0 {
            if self.read(file)?.trim() != text {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many percent of one processor its processes may have; `None` is unlimited.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cpu_limit(&self) -> io::Result<Option<f64>> {
        let (quota, period) = match self.version {
            Version::V1 => (
                self.read("cpu.cfs_quota_us")?,
                self.read("cpu.cfs_period_us")?,
            ),
            Version::V2 => {
                let text = self.read("cpu.max")?;
                let (quota, period) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                (quota.to_owned(), period.to_owned())
            }
        };
        let (quota, period) = (quota.trim(), period.trim());
        if matches!(quota, "-1" | "max") {
            return Ok(None);
        }
        match (quota.parse::<f64>(), period.parse::<f64>()) {
            (Ok(quota), Ok(period)) if period > 0.0 => Ok(Some(100.0 * quota / period)),
            _ => Err(io::Error::other(format!(
                "{}: a quota of {quota:?} in {period:?}",
                self.path.display()
            ))),
        }
    }

    /// How often its processes had to wait because their time was used up.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn throttled(&self) -> io::Result<u64> {
        Ok(self.field("cpu.stat", "nr_throttled")?.unwrap_or(0))
    }

    /// Lets its processes together have so many bytes of memory.
    ///
    /// # Errors
    /// When it cannot be written. In version 1 that is the case if they have more than this already
    /// and it cannot be taken from them ([`ErrorKind::ResourceBusy`]); in version 2 the kernel then
    /// ends processes.
    pub fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        match self.version {
            Version::V1 => self.write("memory.limit_in_bytes", &bytes.to_string()),
            Version::V2 => self.write("memory.max", &bytes.to_string()),
        }
    }

    /// Lets its processes have all they can get. One that does not exist has no limit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lift_memory(&self) -> io::Result<()> {
        existing(match self.version {
            Version::V1 => self.write("memory.limit_in_bytes", "-1"),
            Version::V2 => self.write("memory.max", "max"),
        })
    }

    /// How its memory is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn memory(&self) -> io::Result<Memory> {
        let number =
            |name: &str| -> io::Result<Option<u64>> { Ok(self.read(name)?.trim().parse().ok()) };
        let field = |file: &str, name: &str| self.field(file, name).map(Option::unwrap_or_default);
        Ok(match self.version {
            Version::V1 => Memory {
                used: number("memory.usage_in_bytes")?.unwrap_or(0),
                limit: number("memory.limit_in_bytes")?.filter(|&limit| limit < UNLIMITED_FROM),
                refused: number("memory.failcnt")?.unwrap_or(0),
                killed: field("memory.oom_control", "oom_kill")?,
            },
            Version::V2 => Memory {
                used: number("memory.current")?.unwrap_or(0),
                limit: number("memory.max")?,
                refused: field("memory.events", "max")?,
                killed: field("memory.events", "oom_kill")?,
            },
        })
    }

    /// Sends `SIGKILL` to all its processes, also to frozen ones (which in version 1 end when they
    /// are thawed). Returns how many there were.
    ///
    /// # Errors
    /// When it cannot be read, or a process may not be killed.
    pub fn kill(&self) -> io::Result<usize> {
        let processes = self.processes()?;
        let all_at_once = self.path.join("cgroup.kill");
        if self.version == Version::V2 && all_at_once.exists() {
            existing(self.write("cgroup.kill", "1"))?;
            return Ok(processes.len());
        }
        self.signal_each(&processes, Signal::KILL)?;
        Ok(processes.len())
    }

    /// Sends a signal to all its processes, and to those that they start meanwhile.
    ///
    /// # Errors
    /// When it cannot be read, or a process may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut reached = BTreeSet::new();
        loop {
            let mut new = self.processes()?;
            new.retain(|&pid| reached.insert(pid));
            if new.is_empty() {
                return Ok(());
            }
            self.signal_each(&new, signal)?;
        }
    }

    fn signal_each(&self, pids: &[u32], signal: Signal) -> io::Result<()> {
        for &pid in pids {
            let Some(handle) = process::open(pid)? else {
                continue;
            };
            // The handle is of whichever process had the number when it was opened; if that one is
            // in this group now, it is one of ours.
            if self.processes()?.contains(&pid) {
                match pidfd_send_signal(&handle, signal) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// This group, then all below it, the outer ones first; nothing if it does not exist.
    fn with_those_below(&self) -> Vec<Self> {
        let mut found = Vec::new();
        let mut open = vec![self.clone()];
        while let Some(group) = open.pop() {
            let Ok(entries) = fs::read_dir(&group.path) else {
                continue;
            };
            open.extend(
                entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| Self {
                        version: group.version,
                        path: entry.path(),
                    }),
            );
            found.push(group);
        }
        found
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|error| at(&path, error))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.path.join(file);
        // Opened, never created: a missing file is a controller that is missing.
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).open(&path)?;
            io::Write::write_all(&mut file, text.as_bytes())
        };
        write().map_err(|error| at(&path, error))
    }

    /// A number in a file of lines such as `nr_throttled 7`.
    fn field(&self, file: &str, name: &str) -> io::Result<Option<u64>> {
        let text = self.read(file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.trim().parse().ok()))
    }
}

/// Kills everything in these groups and below, thaws it, waits until it has ended, and removes the
/// groups. They are one node's or one run's, of all hierarchies: what is frozen in one cannot end
/// in another. Nothing is done if there is none.
///
/// # Errors
/// When a group is not one that we have made (then nothing is done), or something does not end.
pub fn remove(groups: &[Group]) -> io::Result<()> {
    if let Some(theirs) = groups.iter().find(|group| !is_ours(&group.path)) {
        return Err(io::Error::other(format!(
            "{} is not a control group of ours; it is left as it is",
            theirs.path.display()
        )));
    }
    let until = Instant::now() + WITHIN;
    loop {
        match try_to_remove(groups) {
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(PAUSE),
            Ok(()) => return Ok(()),
        }
    }
}

fn try_to_remove(groups: &[Group]) -> io::Result<()> {
    let all: Vec<_> = groups.iter().flat_map(Group::with_those_below).collect();
    let mut left = 0;
    for group in &all {
        left += group.kill()?;
        // Version 1 has the freezer's file in its own hierarchy only.
        if group.version == Version::V2 || group.path.join("freezer.state").exists() {
            group.thaw()?;
        }
    }
    if left > 0 {
        let paths: Vec<_> = groups
            .iter()
            .map(|g| g.path.display().to_string())
            .collect();
        return Err(io::Error::other(format!(
            "processes in {} do not end",
            paths.join(", ")
        )));
    }
    // The innermost first.
    all.iter().rev().try_for_each(|group| {
        existing(fs::remove_dir(&group.path).map_err(|error| at(&group.path, error)))
    })
}

/// The same error with the file in its text where it has no number that tells it apart.
fn at(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // ESRCH, EBUSY and ENODEV are told apart by callers.
        Some(3 | 16 | 19) => error,
        _ => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}

/// What does not exist needs no undoing.
fn existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(19) => {
            Ok(())
        }
        result => result,
    }
}

/// Whether this is a group of ours, or below one: nothing else is ever removed.
fn is_ours(path: &Path) -> bool {
    let prefix = format!("{MARK}-");
    path.is_absolute()
        && path.components().any(|part| {
            part.as_os_str()
                .to_str()
                .is_some_and(|name| name.starts_with(&prefix))
        })
}

/// The groups of one node, by what they are used for; version 2 has one for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeGroup(BTreeMap<Controller, Group>);

impl NodeGroup {
    /// The group that a controller is used in; none where it cannot be used.
    pub fn of(&self, controller: Controller) -> Option<&Group> {
        self.0.get(&controller)
    }

    /// Any of its groups: all hold the same processes.
    pub fn any(&self) -> Option<&Group> {
        self.0.values().next()
    }

    /// Takes a process in, and all that it has started.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn adopt(&self, pid: u32) -> io::Result<()> {
        // Memory first, which is counted from then on only.
        let mut adopted = BTreeSet::new();
        let mut groups = self.0.values().rev();
        groups.try_for_each(|group| {
            if adopted.insert(group) {
                group.adopt(pid)
            } else {
                Ok(())
            }
        })
    }
}

/// The control groups of one run; what could not be had is known with the reason.
#[derive(Clone, Debug)]
pub struct Groups(BTreeMap<Controller, Result<Group, String>>);

impl Groups {
    /// Those of a substrate that wants none.
    pub fn none(why: &str) -> Self {
        Self(Controller::ALL.map(|c| (c, Err(why.to_owned()))).into())
    }

    /// Makes the groups `quorate-<run>` wherever they can be used. Never fails: see
    /// [`Self::obstacle`].
    pub fn create(run: &str) -> Self {
        match Hierarchies::read() {
            Ok(hierarchies) => Self::create_in(&hierarchies, run),
            Err(error) => Self::none(&format!("no control groups are mounted: {error}")),
        }
    }

    fn create_in(hierarchies: &Hierarchies, run: &str) -> Self {
        let name = format!("{MARK}-{run}");
        let unified = hierarchies.create_unified(&name);
        let made = Controller::ALL.map(|controller| {
            let found = match (controller, hierarchies.v1.get(controller.name()), &unified) {
                // A frozen process of version 2 can be killed.
                (Controller::Freezer, _, Ok(group)) => Ok(group.clone()),
                (_, Some(at), _) => create_group(&at.join(&name)).map(|()| Group {
                    version: Version::V1,
                    path: at.join(&name),
                }),
                (_, None, Ok(group)) => group.hand_on(controller).map(|()| group.clone()),
                (_, None, Err(why)) => Err(why.clone()),
            };
            (controller, found)
        });
        let groups = Self(made.into());
        // A group of version 2 that nothing is used in would only be in the way.
        if let Ok(group) = unified
            && !groups.distinct().contains(&group)
        {
            let _ = remove(&[group]);
        }
        groups
    }

    /// Every directory that [`Self::create`] might make, to be known to who removes them before
    /// any is made.
    pub fn candidates(run: &str) -> Vec<Group> {
        let name = format!("{MARK}-{run}");
        let Ok(hierarchies) = Hierarchies::read() else {
            return Vec::new();
        };
        let v1 = Controller::ALL
            .iter()
            .filter_map(|controller| hierarchies.v1.get(controller.name()))
            .map(|at| (Version::V1, at));
        let v2 = hierarchies.v2.iter().map(|at| (Version::V2, at));
        v1.chain(v2)
            .map(|(version, at)| Group {
                version,
                path: at.join(&name),
            })
            .collect()
    }

    /// Why a controller cannot be used; `None` if it can.
    pub fn obstacle(&self, controller: Controller) -> Option<&str> {
        self.0.get(&controller)?.as_ref().err().map(String::as_str)
    }

    /// The groups that were made.
    pub fn distinct(&self) -> BTreeSet<Group> {
        self.0
            .values()
            .filter_map(|found| found.clone().ok())
            .collect()
    }

    /// Makes the groups of one node.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn node(&self, name: &str) -> io::Result<NodeGroup> {
        let mut groups = BTreeMap::new();
        for (&controller, found) in &self.0 {
            let Ok(run) = found else { continue };
            let path = run.path.join(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(at(&path, error));
                }
                _ => {}
            }
            let version = run.version;
            groups.insert(controller, Group { version, path });
        }
        Ok(NodeGroup(groups))
    }

    /// Ends everything in the groups and removes them.
    ///
    /// # Errors
    /// When something in them does not end.
    pub fn remove(&self) -> io::Result<()> {
        remove(&Vec::from_iter(self.distinct()))
    }
}

impl Group {
    /// Lets the groups below this one use a controller (version 2).
    fn hand_on(&self, controller: Controller) -> Result<(), String> {
        if controller == Controller::Freezer {
            return Ok(());
        }
        let parent = self.path.parent().unwrap_or(&self.path).display();
        let has = self.read("cgroup.controllers").map_err(|e| e.to_string())?;
        if !has.split_ascii_whitespace().any(|c| c == controller.name()) {
            return Err(format!(
                "the control group {parent} does not hand on the controller {controller} \
                 (systemd: Delegate={controller})"
            ));
        }
        self.write("cgroup.subtree_control", &format!("+{controller}"))
            .map_err(|e| e.to_string())
    }
}

fn create_group(path: &Path) -> Result<(), String> {
    fs::create_dir(path).map_err(|error| {
        let parent = path.parent().unwrap_or(path).display();
        match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("no right to make control groups in {parent} (run as root, or delegate it)")
            }
            ErrorKind::ReadOnlyFilesystem => {
                format!("{parent} is mounted read-only (a container needs it writable)")
            }
            _ => format!("no control group can be made in {parent}: {error}"),
        }
    })
}

/// Where we may make groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    /// Our own group in the hierarchy of each controller.
    v1: BTreeMap<String, PathBuf>,
    /// Our own group, and all above it, the nearest first; empty if version 2 is not mounted.
    v2: Vec<PathBuf>,
}

impl Hierarchies {
    fn read() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &own, &|path| path.is_dir()))
    }

    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`. Our own group is not always below what
    /// is mounted (in a container without a namespace for groups); the mount itself stands in.
    fn parse(mounts: &str, own: &str, exists: &dyn Fn(&Path) -> bool) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let before: Vec<_> = before.split(' ').collect();
            let after: Vec<_> = after.split(' ').collect();
            let (&[_, _, _, root, point, ..], &[kind, _, options]) = (&before[..], &after[..])
            else {
                continue;
            };
            let point = PathBuf::from(point.replace("\\040", " "));
            let own_path = |wanted: &dyn Fn(&str, &str) -> bool| {
                let line = own.lines().find_map(|line| {
                    let (id, rest) = line.split_once(':')?;
                    let (controllers, path) = rest.split_once(':')?;
                    wanted(id, controllers).then_some(path)
                })?;
                let below = Path::new(line).strip_prefix(root).ok()?;
                let path = point.join(below);
                exists(&path).then_some(path)
            };
            match kind {
                "cgroup" => {
                    for controller in options.split(',') {
                        if Controller::ALL.iter().any(|c| c.name() == controller) {
                            let path =
                                own_path(&|_, list| list.split(',').any(|c| c == controller));
                            found
                                .v1
                                .entry(controller.to_owned())
                                .or_insert_with(|| path.unwrap_or_else(|| point.clone()));
                        }
                    }
                }
                "cgroup2" if found.v2.is_empty() => {
                    let own = own_path(&|id, list| id == "0" && list.is_empty());
                    let own = own.unwrap_or_else(|| point.clone());
                    found.v2 = own
                        .ancestors()
                        .take_while(|path| path.starts_with(&point))
                        .map(Path::to_owned)
                        .collect();
                }
                _ => {}
            }
        }
        found
    }

    /// Makes a group of version 2 where most of the controllers that version 1 does not have can be
    /// used: as near to our own group as can be.
    fn create_unified(&self, name: &str) -> Result<Group, String> {
        let wanted = |has: &str| {
            [Controller::Cpu, Controller::Memory]
                .iter()
                .filter(|c| !self.v1.contains_key(c.name()))
                .filter(|c| has.split_ascii_whitespace().any(|h| h == c.name()))
                .count()
        };
        let mut best: Option<(usize, Group)> = None;
        let mut obstacle = None;
        for at in &self.v2 {
            let group = Group {
                version: Version::V2,
                path: at.join(name),
            };
            if let Err(why) = create_group(&group.path) {
                obstacle.get_or_insert(why);
                continue;
            }
            let score = group
                .read("cgroup.controllers")
                .map_or(0, |has| wanted(&has));
            match &best {
                Some((most, _)) if *most >= score => drop(fs::remove_dir(&group.path)),
                _ => {
                    if let Some((_, other)) = best.replace((score, group)) {
                        drop(fs::remove_dir(&other.path));
                    }
                }
            }
        }
        best.map(|(_, group)| group)
            .ok_or_else(|| obstacle.unwrap_or_else(|| "no control groups are mounted".to_owned()))
    }
}

/// Whether a controller can be used here: a group is made, looked at and removed.
///
/// # Errors
/// Why not, with the way out.
pub fn available(controller: Controller) -> Available {
    let pid = std::process::id();
    let identity = process::Identity::of(pid).map_err(|error| error.to_string())?;
    let groups = Groups::create(&format!("probe-{pid}-{}-{controller}", identity.start_time));
    let result = match groups.obstacle(controller) {
        Some(why) => Err(why.to_owned()),
        None => groups.node("probe").map_err(|error| error.to_string()),
    };
    let result = result.and_then(|node| {
        let group = node.of(controller).ok_or("it was not made")?;
        match controller {
            Controller::Freezer => group.is_frozen().map(drop),
            Controller::Cpu => group.cpu_limit().map(drop),
            Controller::Memory => group.memory().map(drop),
        }
        .map_err(|error| error.to_string())
    });
    let removed = groups.remove().map_err(|error| error.to_string());
    result.and(removed)
}

#[cfg(test)]
mod tests;
