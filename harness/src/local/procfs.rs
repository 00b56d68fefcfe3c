//! What `/proc` says of a process.

use std::path::{Path, PathBuf};
use std::{fs, io};

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
}

fn boot() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// `R` running, `S` sleeping, `T` stopped, `Z` zombie, …
    pub state: char,
    /// Clock ticks since the boot.
    pub start_time: u64,
}

impl Stat {
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
pub(super) fn executable(pid: u32) -> io::Result<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    let stripped = path.to_str().and_then(|p| p.strip_suffix(" (deleted)"));
    Ok(stripped.map_or_else(|| path.clone(), |p| Path::new(p).to_owned()))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            executable(me.pid).unwrap(),
            std::env::current_exe().unwrap()
        );
    }
}
