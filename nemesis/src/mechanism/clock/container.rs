//! The clock of a program in a container that others have started with libfaketime.
//!
//! The file that the program goes by is named by its environment and reached through its own mounts
//! (`/proc/PID/root`). The container is not believed: no link in it leads out of it, and only what is
//! in memory is written. What is on a disk would be wrong still when the machine is started again,
//! and whoever knew of it would not be there any more.
//!
//! That the program does go by the file is seen by the kernel's word that this very process opens it
//! (`fanotify`): that the library is loaded is not enough, since a program may ask the kernel itself.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, eaccess};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{ClockFile, FILE, SWITCHES, Wrong, environment, is_loaded};
use crate::mechanism::Available;
use crate::mechanism::process::{Identity, Stat};

/// The file that is recommended: there in every container, also where nothing else can be written.
pub const PLACE: &str = "/dev/shm/quorate-clock";
/// The library where packages put it; the dynamic linker of the image knows what `$LIB` is.
pub const PRELOAD: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";
/// The variable that makes a clock wrong from the start, whatever the file says.
const FIXED: &str = "FAKETIME";
/// Between two looks whether a process is there still.
const LOOK: Duration = Duration::from_millis(100);

/// What the container is to have in its environment.
pub fn recommended() -> Vec<(&'static str, OsString)> {
    environment(Path::new(PRELOAD), Path::new(PLACE))
}

/// Whether these variables, of which there may be others, let a clock be made wrong.
pub fn are_enough<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> bool {
    let mut needed = recommended().into_iter();
    needed.all(|(needed, _)| names.clone().any(|name| name == needed))
        && names.all(|name| name != FIXED)
}

/// Whether it can be seen here that a program goes by its file.
///
/// # Errors
/// Why not.
pub fn available() -> Available {
    watch()
        .map(drop)
        .map_err(|error| format!("who reads a file cannot be seen: {error}"))
}

fn watch() -> Result<Fanotify, Errno> {
    Fanotify::init(
        InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK,
        EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC,
    )
}

/// What to do for a clock that cannot be made wrong.
pub fn way_out() -> String {
    let all = recommended().into_iter();
    let all: Vec<String> = all
        .map(|(name, value)| format!("{name}={}", value.display()))
        .collect();
    format!(
        "put the package libfaketime into the image, and {} into the env of the container in the pod \
         template",
        all.join(" ")
    )
}

/// A program in a container, and the file that its clock goes by.
#[derive(Debug)]
pub struct Program {
    /// Its process.
    pub process: Identity,
    /// The file, as the container names it.
    pub path: PathBuf,
    file: ClockFile,
    /// What the name of the file in this process leads through.
    folder: OwnedFd,
}

impl Program {
    /// The program that this process runs.
    ///
    /// # Errors
    /// Why its clock cannot be made wrong, with the way out.
    pub fn of(pid: u32) -> Result<Self, String> {
        let ended = |error: io::Error| format!("process {pid}: {error}");
        let process = Identity::of(pid).map_err(ended)?;
        let environment = fs::read(format!("/proc/{pid}/environ"));
        let environment = environment.map_err(|error| {
            format!("the environment of process {pid} cannot be read ({error})")
        })?;
        let path = told(&environment)?;
        if !is_loaded(pid) {
            return Err(format!(
                "its program does not load libfaketime, which is not in its image, or the program is \
                 statically linked; {}",
                way_out()
            ));
        }
        let folder = folder_of(pid, &path)?;
        let name = path.file_name().unwrap_or_default();
        let through = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        eaccess(&through, AccessFlags::W_OK)
            .map_err(|error| format!("{} cannot be written ({error})", path.display()))?;
        let file = ClockFile(through.join(name));
        // What was read is of this process, and not of another that has its number by now.
        if !process.is_alive() {
            return Err(format!("process {pid} has ended"));
        }
        Ok(Self {
            process,
            path,
            file,
            folder,
        })
    }

    /// The file.
    pub fn file(&self) -> &ClockFile {
        &self.file
    }

    /// Device and number of the folder that the file is in.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn folder(&self) -> io::Result<(u64, u64)> {
        let through = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        let data = fs::metadata(through)?;
        Ok((data.dev(), data.ino()))
    }

    /// Whether its process reads the file within this time.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub fn reads(&self, within: Duration) -> io::Result<bool> {
        let pid = self.process.pid;
        Ok(self.readers(&BTreeSet::from([pid]), within)?.contains(&pid))
    }

    /// Sets the clock right, also one that runs fast or slow. Then these processes, which all go by
    /// the file, have to look at it in between; it may be tried again.
    ///
    /// # Errors
    /// If the file cannot be written, or one of them does not look at it within this time.
    pub fn set_right(&self, processes: &BTreeSet<u32>, within: Duration) -> io::Result<()> {
        if self.file.said()?.is_some_and(|said| said.contains('x')) {
            self.file.steady()?;
            let read = self.readers(processes, within)?;
            let there = |pid: &&u32| !read.contains(pid) && Stat::of(**pid).is_ok();
            if let Some(pid) = processes.iter().find(there) {
                return Err(io::Error::other(format!(
                    "process {pid} has not asked for the time since, and keeps what its clock has \
                     gained until it does"
                )));
            }
        }
        self.file.set(Wrong::default())
    }

    /// Those of these processes that open the file within this time; waits until all that are there
    /// still have.
    fn readers(&self, wanted: &BTreeSet<u32>, within: Duration) -> io::Result<BTreeSet<u32>> {
        let watch = watch()?;
        watch.mark(
            MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_DONT_FOLLOW,
            MaskFlags::FAN_OPEN,
            AT_FDCWD,
            Some(&self.file.0),
        )?;
        let until = Instant::now() + within;
        let mut seen = BTreeSet::new();
        loop {
            let missing = |pid: &u32| !seen.contains(pid) && Stat::of(*pid).is_ok();
            if !wanted.iter().any(missing) || Instant::now() >= until {
                return Ok(seen);
            }
            let left = LOOK.min(until.saturating_duration_since(Instant::now()));
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&left))?;
            match watch.read_events() {
                Ok(events) => seen.extend(
                    events
                        .iter()
                        .filter_map(|event| u32::try_from(event.pid()).ok()),
                ),
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The file that a program with this environment goes by.
fn told(environment: &[u8]) -> Result<PathBuf, String> {
    let value = |name: &str| {
        let mut all = environment.split(|byte| *byte == 0);
        all.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let Some(file) = value(FILE) else {
        return Err(format!(
            "it was not started with libfaketime (no {FILE} in its environment); {}",
            way_out()
        ));
    };
    if value(FIXED).is_some() {
        return Err(format!(
            "{FIXED} in its environment counts instead of the file; take it out of the env of the container"
        ));
    }
    if let Some(missing) = SWITCHES.iter().find(|name| value(name) != Some(b"1")) {
        return Err(format!(
            "it was started without {missing}=1; put it into the env of the container in the pod template"
        ));
    }
    let file = Path::new(OsStr::from_bytes(file));
    if !file.is_absolute() || file.file_name().is_none() {
        return Err(format!(
            "{FILE} is {}; let it be a whole path such as {PLACE}",
            file.display()
        ));
    }
    Ok(file.to_owned())
}

/// The folder of a file in the container of this process.
fn folder_of(pid: u32, path: &Path) -> Result<OwnedFd, String> {
    let parent = path.parent().unwrap_or(path);
    let unseen = |error: Errno| format!("{} cannot be looked at ({error})", parent.display());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = format!("/proc/{pid}/root");
    let root = open(root.as_str(), flags, Mode::empty()).map_err(unseen)?;
    let within = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(within);
    let folder = openat2(&root, parent, how).map_err(unseen)?;
    if fstatfs(&folder).map_err(unseen)?.filesystem_type() != TMPFS_MAGIC {
        return Err(format!(
            "{} is not in memory, and would be wrong still when its machine is started again; let {FILE} \
             be {PLACE}, or a file in an emptyDir with medium: Memory",
            path.display()
        ));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::super::library;
    use super::*;

    fn words(all: &[&str]) -> Vec<u8> {
        all.join("\0").into_bytes()
    }

    const GOOD: [&str; 6] = [
        "PATH=/bin",
        "LD_PRELOAD=/lib/libfaketime.so.1",
        "FAKETIME_TIMESTAMP_FILE=/dev/shm/c",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_XRESET=1",
        "FAKETIME_DISABLE_SHM=1",
    ];

    #[test]
    fn an_environment_names_the_file() {
        assert_eq!(told(&words(&GOOD)), Ok(PathBuf::from("/dev/shm/c")));
        let all = recommended();
        let all: Vec<String> = all
            .iter()
            .map(|(name, value)| format!("{name}={}", value.display()))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(told(&words(&all)), Ok(PathBuf::from(PLACE)));
    }

    #[test]
    fn one_without_what_it_takes_is_refused_with_the_way_out() {
        let without = |name: &str| {
            let left = GOOD.into_iter().filter(|word| !word.starts_with(name));
            words(&left.collect::<Vec<_>>())
        };
        let with = |word| words(&[&GOOD[..], &[word]].concat());
        for (environment, says) in [
            (Vec::new(), "LD_PRELOAD=/usr/$LIB/"),
            (
                without("FAKETIME_TIMESTAMP_FILE"),
                "not started with libfaketime",
            ),
            (without("FAKETIME_XRESET"), "FAKETIME_XRESET=1"),
            (without("FAKETIME_NO_CACHE"), "FAKETIME_NO_CACHE=1"),
            (with("FAKETIME=+0"), "take it out"),
            (
                [&b"FAKETIME_TIMESTAMP_FILE=c\0"[..], &without("FAKETIME_T")].concat(),
                "a whole path",
            ),
        ] {
            let refused = told(&environment).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn names_of_variables_tell_as_much_as_can_be_told_without_the_program() {
        let names: Vec<&str> = recommended().into_iter().map(|(name, _)| name).collect();
        assert!(are_enough(names.iter().copied().chain(["PATH"])));
        assert!(!are_enough(names.iter().copied().skip(1)));
        assert!(!are_enough(names.iter().copied().chain([FIXED])));
    }

    /// A process that asks for the time whenever it is told to, and its input.
    struct Asked(Child, BufReader<std::process::ChildStdout>);

    impl Asked {
        fn start(file: &Path) -> Option<Self> {
            let (Ok(library), true) = (library(), Path::new("/usr/bin/python3").exists()) else {
                eprintln!("not tested: libfaketime or python3 is not installed");
                return None;
            };
            let program = "import sys, time\nfor _ in sys.stdin: print(time.time(), flush=True)";
            let mut child = Command::new("/usr/bin/python3")
                .args(["-u", "-c", program])
                .envs(environment(&library, file))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let answers = BufReader::new(child.stdout.take().unwrap());
            let mut asked = Self(child, answers);
            asked.ask();
            Some(asked)
        }

        fn ask(&mut self) -> f64 {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            let mut said = String::new();
            self.1.read_line(&mut said).unwrap();
            said.trim().parse().unwrap()
        }
    }

    impl Drop for Asked {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    #[test]
    fn a_program_is_seen_to_read_its_file_and_is_set_right() {
        let folder = in_memory();
        let path = folder.path().join("clock");
        let Some(mut asked) = Asked::start(&path) else {
            return;
        };
        let program = Program::of(asked.0.id()).unwrap();
        assert_eq!(program.path, path);
        assert_eq!(program.file().said().unwrap(), None);
        let wrong = Wrong {
            ahead_ms: 0,
            ppm: 9_000_000,
        };
        program.file().set(wrong).unwrap();
        assert_eq!(program.file().said().unwrap(), Some(wrong.to_string()));
        if let Err(why) = available() {
            eprintln!("not tested: {why}");
            return;
        }
        let short = Duration::from_millis(50);
        // Nobody asks it for the time: sooner or later it is done with what it was asked before.
        let stands_still = || {
            let began = Instant::now();
            while program.reads(short).unwrap() {
                assert!(began.elapsed() < Duration::from_secs(60));
            }
        };
        stands_still();
        let all = BTreeSet::from([asked.0.id()]);
        let long = Duration::from_secs(30);
        let read = std::thread::scope(|scope| {
            let reads = scope.spawn(|| program.reads(long).unwrap());
            while !reads.is_finished() {
                asked.ask();
            }
            reads.join().unwrap()
        });
        assert!(read);
        stands_still();
        let error = program.set_right(&all, short).unwrap_err().to_string();
        assert!(error.contains("has not asked for the time"), "{error}");
        std::thread::scope(|scope| {
            let right = scope.spawn(|| program.set_right(&all, long));
            while !right.is_finished() {
                asked.ask();
            }
            right.join().unwrap().unwrap();
        });
        assert_eq!(program.file().said().unwrap().unwrap(), "+0.000");
        let now = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.unwrap().as_secs_f64()
        };
        let before = now();
        let said = asked.ask();
        assert!((before - 0.001..=now() + 0.001).contains(&said));
    }

    #[test]
    fn only_a_file_in_memory_that_can_be_written_is() {
        let on_disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let Some(asked) = Asked::start(&on_disk.path().join("clock")) else {
            return;
        };
        let refused = Program::of(asked.0.id()).unwrap_err();
        assert!(refused.contains("medium: Memory"), "{refused}");
        let missing = in_memory().path().join("gone/clock");
        let Some(asked) = Asked::start(&missing) else {
            return;
        };
        let refused = Program::of(asked.0.id()).unwrap_err();
        assert!(refused.contains("cannot be looked at"), "{refused}");
    }

    #[test]
    fn no_link_is_followed() {
        let folder = in_memory();
        let (path, other) = (folder.path().join("clock"), folder.path().join("other"));
        let Some(asked) = Asked::start(&path) else {
            return;
        };
        let program = Program::of(asked.0.id()).unwrap();
        fs::write(&other, "theirs").unwrap();
        for name in ["clock", "clock.new"] {
            std::os::unix::fs::symlink(&other, folder.path().join(name)).unwrap();
        }
        program.file().said().unwrap_err();
        program.file().set(Wrong::default()).unwrap();
        assert_eq!(program.file().said().unwrap().unwrap(), "+0.000");
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
    }

    #[test]
    fn a_program_without_the_library_is_refused() {
        let mut sleep = Command::new("sleep")
            .arg("60")
            .env_clear()
            .envs(GOOD[2..].iter().filter_map(|word| word.split_once('=')))
            .spawn()
            .unwrap();
        let refused = Program::of(sleep.id());
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        let refused = refused.unwrap_err();
        assert!(refused.contains("does not load libfaketime"), "{refused}");
    }
}
