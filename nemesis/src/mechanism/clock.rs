//! Wrong clocks for programs that know nothing of it, by libfaketime: a library that is loaded
//! before the C library and answers `clock_gettime` and the like in its stead. It reads from a
//! file, at every call, how wrong the clock is to be. The clock of the machine is never touched.
//!
//! A program in a container that others start is given a wrong clock if they have started it so:
//! [`container`].
//!
//! **Which programs.** Those that ask the C library for the time, dynamically linked. A program
//! that is statically linked, that asks the kernel itself (Go), or that runs with more privileges
//! than who started it, has the machine's time: [`is_loaded`] tells.
//!
//! **Which clocks.** All of them, the monotonic one too: libfaketime can leave that alone
//! (`FAKETIME_DONT_FAKE_MONOTONIC`), but then a program that sleeps until a point in monotonic time
//! is woken at the wrong one, or refused. So a jump back is one that no program could see on a
//! machine whose time was set, and one that trusts its monotonic clock may rightly complain.

pub mod container;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use nix::fcntl::OFlag;

use super::Available;
use crate::ClockFault;

/// Where distributions put it, in the order of preference: `MT` is for programs with threads.
const FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib64/faketime",
    "/usr/lib/faketime",
    "/usr/local/lib/faketime",
];
const NAMES: [&str; 2] = ["libfaketimeMT.so.1", "libfaketime.so.1"];
/// What every program that loads it has in the names of its mapped files.
const LIBRARY: &str = "libfaketime";
/// The variable that names the file.
const FILE: &str = "FAKETIME_TIMESTAMP_FILE";
/// The variables that must be 1.
const SWITCHES: [&str; 3] = [
    // Else a change is noticed only seconds later.
    "FAKETIME_NO_CACHE",
    // Else a change of speed counts from the start of the program.
    "FAKETIME_XRESET",
    // Its memory that several processes share would tie one's clock to another's.
    "FAKETIME_DISABLE_SHM",
];
/// What a file says for a clock that ran fast or slow to stop doing so.
const STEADY: &str = "+0.000 x1.000000";
/// More than this is not read of a file: it says something else.
const LONGEST: u64 = 128;

/// The library.
///
/// # Errors
/// If it is not on this machine.
pub fn library() -> Result<PathBuf, String> {
    let places = FOLDERS.iter().flat_map(|folder| {
        let folder = Path::new(folder);
        NAMES.iter().map(move |name| folder.join(name))
    });
    let mut found = places.filter(|place| place.is_file());
    let missing = || "libfaketime is not installed (apt install libfaketime)".to_owned();
    found.next().ok_or_else(missing)
}

/// Whether programs can be given wrong clocks.
///
/// # Errors
/// Why not.
pub fn available() -> Available {
    library().map(drop)
}

/// How wrong a clock is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// So many milliseconds ahead, behind if negative.
    pub ahead_ms: i64,
    /// So many microseconds gained each second from now on, lost if negative.
    pub ppm: i64,
}

/// How wrong this fault makes a clock when it begins.
impl From<ClockFault> for Wrong {
    fn from(fault: ClockFault) -> Self {
        let (ahead_ms, ppm) = match fault {
            ClockFault::Jump(by_ms) | ClockFault::Strobe { by_ms, .. } => (by_ms, 0),
            ClockFault::Drift(ppm) => (0, ppm),
        };
        Self { ahead_ms, ppm }
    }
}

/// In the words of libfaketime: `+1.500 x1.000200`.
impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.ahead_ms < 0 { '-' } else { '+' };
        let ms = self.ahead_ms.unsigned_abs();
        write!(f, "{sign}{}.{:03}", ms / 1_000, ms % 1_000)?;
        if self.ppm != 0 {
            let speed = (1_000_000 + i128::from(self.ppm)).max(1);
            write!(f, " x{}.{:06}", speed / 1_000_000, speed % 1_000_000)?;
        }
        Ok(())
    }
}

/// What a program must find in its environment when it starts, to load this library and go by this
/// file.
pub fn environment(library: &Path, file: &Path) -> Vec<(&'static str, OsString)> {
    let mut all = vec![("LD_PRELOAD", library.into()), (FILE, file.into())];
    all.extend(SWITCHES.map(|switch| (switch, OsString::from("1"))));
    all
}

/// The file that says how wrong the clock of one program is.
#[derive(Clone, Debug)]
pub struct ClockFile(PathBuf);

impl ClockFile {
    /// Makes it, with a right clock.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = Self(path);
        file.set(Wrong::default())?;
        Ok(file)
    }

    /// What the program must find in its environment when it starts.
    pub fn environment(&self, library: &Path) -> Vec<(&'static str, OsString)> {
        environment(library, &self.0)
    }

    /// Makes the clock wrong, or right, from now on. A program that reads the file at the same
    /// time sees the old one or the new one. What a clock shows that begins to run fast or slow is
    /// what it showed before: only a steady one is set. One that runs fast or slow has to be
    /// [made steady](Self::steady) first.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set(&self, wrong: Wrong) -> io::Result<()> {
        self.write(&wrong.to_string())
    }

    /// Has a clock run as fast as it ought to again. What it gained or lost stays, until it is
    /// [set](Self::set) after the program has read the file, as it does whenever it asks for the
    /// time: libfaketime changes either the speed or the offset.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn steady(&self) -> io::Result<()> {
        self.write(STEADY)
    }

    /// What it says now; nothing if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, or is no file.
    pub fn said(&self) -> io::Result<Option<String>> {
        // Not through a link, and without waiting for somebody who writes: others may have put
        // something else there.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits());
        let file = match options.open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        Ok(Some(text.trim().to_owned()))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut new = self.0.clone().into_os_string();
        new.push(".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A new one, so that no link that others have put there is followed. The program that reads
        // it may be another user's.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        options.open(&new)?.write_all(text.as_bytes())?;
        fs::rename(&new, &self.0)
    }
}

/// Whether a process has the library loaded: only then does its clock go wrong. A process that has
/// ended has not.
pub fn is_loaded(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains(LIBRARY))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn it_is_said_in_the_words_of_libfaketime() {
        let said = |ahead_ms, ppm| Wrong { ahead_ms, ppm }.to_string();
        assert_eq!(said(0, 0), "+0.000");
        assert_eq!(said(1_500, 0), "+1.500");
        assert_eq!(said(-1_042, 200), "-1.042 x1.000200");
        assert_eq!(said(0, -900_000), "+0.000 x0.100000");
        assert_eq!(said(0, -2_000_000), "+0.000 x0.000001");
    }

    #[test]
    fn a_program_that_knows_nothing_of_it_has_a_wrong_clock() {
        let library = match library() {
            Ok(library) => library,
            Err(why) => {
                eprintln!("not tested: {why}");
                return;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let file = ClockFile::create(folder.path().join("n1.clock")).unwrap();
        // One that tells the time whenever it is asked.
        let mut shell = Command::new("sh")
            .args(["-c", "while read line; do date +%s%3N; done"])
            .envs(file.environment(&library))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut asks = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap()).lines();
        let now = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap().as_millis() as i64
        };
        // How far ahead it is, at most and at least.
        let mut ahead = || {
            let before = now();
            asks.write_all(b"\n").unwrap();
            let said: i64 = answers.next().unwrap().unwrap().parse().unwrap();
            said - now()..=said - before
        };
        assert!(ahead().contains(&0));
        assert!(is_loaded(shell.id()));
        assert!(!is_loaded(std::process::id()));
        for ahead_ms in [3_600_000, -250_500] {
            file.set(Wrong { ahead_ms, ppm: 0 }).unwrap();
            let seen = ahead();
            assert!(seen.contains(&ahead_ms), "{seen:?}");
        }
        file.set(Wrong::default()).unwrap();
        assert!(ahead().contains(&0));
        drop(asks);
        shell.wait().unwrap();
        assert!(!is_loaded(shell.id()));
    }

    #[test]
    fn a_clock_runs_fast_in_a_process_that_lives_on() {
        let (Ok(library), true) = (library(), Path::new("/usr/bin/python3").exists()) else {
            eprintln!("not tested: libfaketime or python3 is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = ClockFile::create(folder.path().join("n1.clock")).unwrap();
        let program = "import sys, time\nfor _ in sys.stdin: print(time.time_ns(), flush=True)";
        let mut python = Command::new("/usr/bin/python3")
            .args(["-u", "-c", program])
            .envs(file.environment(&library))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut asks = python.stdin.take().unwrap();
        let mut answers = BufReader::new(python.stdout.take().unwrap()).lines();
        let mut time = || {
            asks.write_all(b"\n").unwrap();
            let said = answers.next().unwrap().unwrap();
            said.parse::<i64>().unwrap()
        };
        time();
        file.set(Wrong {
            ahead_ms: 0,
            ppm: 9_000_000,
        })
        .unwrap();
        // The first reading notices the change.
        time();
        let began = std::time::Instant::now();
        let first = time();
        std::thread::sleep(Duration::from_millis(200));
        let passed = time() - first;
        let really = began.elapsed().as_nanos() as i64;
        // Ten times as fast as time passed at least, and no faster than it passed at most.
        assert!(passed >= 1_900_000_000, "{passed}");
        assert!(passed <= really * 10 + 10_000_000, "{passed} {really}");
        // Not even what it gained is left.
        file.steady().unwrap();
        time();
        file.set(Wrong::default()).unwrap();
        let now = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap().as_nanos() as i64
        };
        let before = now();
        let said = time();
        assert!((before..=now()).contains(&said), "{}", said - before);
        drop(asks);
        python.wait().unwrap();
    }
}
