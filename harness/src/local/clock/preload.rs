//! Wrong clocks by libfaketime. A node that was started with it goes by a file, which the harness
//! writes: what is wrong stays wrong when the node is started again, and ends with the run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nemesis::mechanism::clock::{ClockFile, Wrong, is_loaded, library};
use nemesis::{ClockFault, Node};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{RIGHT_NS, WATCH, look, ms};

/// A clock that runs fast or slow, or is set over and over, is watched for no longer.
const WATCH_AT_MOST: Duration = Duration::from_secs(4);
/// A clock that is nearer to the machine's counts as right: that one may itself be set meanwhile.
const NEAR_NS: u64 = 50_000_000;

/// What the clock of one node goes by.
#[derive(Debug)]
pub(in crate::local) struct Preload {
    library: PathBuf,
    file: ClockFile,
    faults: Mutex<BTreeMap<u32, Fault>>,
}

/// How wrong a fault makes a clock, and the task that sets it over and over.
#[derive(Debug, Default)]
struct Fault {
    wrong: Wrong,
    strobe: Option<AbortHandle>,
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Some(strobe) = &self.strobe {
            strobe.abort();
        }
    }
}

impl Preload {
    /// A right clock for a node, whose file is put into this directory.
    ///
    /// # Errors
    /// If libfaketime is not on this machine, or the file cannot be written.
    pub fn of(dir: &Path, node: Node) -> io::Result<Arc<Self>> {
        let dir = std::path::absolute(dir)?;
        Ok(Arc::new(Self {
            library: library().map_err(io::Error::other)?,
            file: ClockFile::create(dir.join(format!("n{node}.clock")))?,
            faults: Mutex::default(),
        }))
    }

    /// What the node is started with.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        self.file.environment(&self.library)
    }

    /// Whether this fault makes it wrong.
    pub fn is_wrong_for(&self, id: u32) -> bool {
        self.faults().contains_key(&id)
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<u32, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what all faults make of it together.
    fn write(&self, faults: &BTreeMap<u32, Fault>) -> Result<(), String> {
        let mut all = Wrong::default();
        for Fault { wrong, .. } in faults.values() {
            all.ahead_ms = all.ahead_ms.saturating_add(wrong.ahead_ms);
            all.ppm = all.ppm.saturating_add(wrong.ppm);
        }
        self.file.set(all).map_err(|error| unwritten(&error))
    }

    fn set(&self, id: u32, wrong: Wrong) -> Result<(), String> {
        let mut faults = self.faults();
        let drifts = wrong.ppm != 0 || faults.values().any(|fault| fault.wrong.ppm != 0);
        if drifts && !faults.is_empty() {
            return Err("one that runs fast or slow is made wrong by one fault at a time".into());
        }
        faults.entry(id).or_default().wrong = wrong;
        self.write(&faults)
    }

    /// Has it run as fast as it ought to, if this fault has it run fast or slow.
    fn steady(&self, id: u32) -> Result<bool, String> {
        let drifts = (self.faults().get(&id)).is_some_and(|fault| fault.wrong.ppm != 0);
        if drifts {
            self.file.steady().map_err(|error| unwritten(&error))?;
        }
        Ok(drifts)
    }

    /// How many faults are left without this one.
    fn clear(&self, id: u32) -> Result<usize, String> {
        let mut faults = self.faults();
        faults.remove(&id);
        self.write(&faults)?;
        Ok(faults.len())
    }

    fn strobe(self: &Arc<Self>, id: u32, by_ms: i64, every_ms: u64) {
        let clock = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut wrong = false;
            loop {
                sleep(Duration::from_millis(every_ms.max(1))).await;
                let mut faults = clock.faults();
                // Healed just now.
                let Some(fault) = faults.get_mut(&id) else {
                    return;
                };
                wrong = !wrong;
                fault.wrong.ahead_ms = if wrong { 0 } else { by_ms };
                // What cannot be written will be seen to be missing.
                let _ = clock.write(&faults);
            }
        });
        self.faults().entry(id).or_default().strobe = Some(task.abort_handle());
    }
}

fn unwritten(error: &io::Error) -> String {
    format!("its file cannot be written: {error}")
}

/// Between which two numbers of nanoseconds a clock is ahead of this machine's: it was read some
/// time between asking and hearing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    least: i64,
    most: i64,
}

impl Ahead {
    /// By how much more than at an earlier reading.
    fn since(self, earlier: Self) -> Self {
        Self {
            least: self.least.saturating_sub(earlier.most),
            most: self.most.saturating_sub(earlier.least),
        }
    }

    fn is_near(self, ns: i64, within: u64) -> bool {
        let within = i64::try_from(within).unwrap_or(i64::MAX);
        self.least.saturating_sub(within) <= ns && ns <= self.most.saturating_add(within)
    }

    fn middle_ms(self) -> f64 {
        f64::midpoint(ms(self.least), ms(self.most))
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

async fn ahead(http: &reqwest::Client, address: SocketAddr) -> Result<Ahead, String> {
    let before = now_ns();
    let said = look(http, address).await?.wall_ns;
    let after = now_ns();
    let said = i64::try_from(said).map_err(|_| "it shows a time after the year 2262".to_owned())?;
    Ok(Ahead {
        least: said.saturating_sub(after),
        most: said.saturating_sub(before),
    })
}

/// Makes one clock wrong, and has the node say so.
pub(super) async fn inject(
    clock: &Arc<Preload>,
    http: &reqwest::Client,
    pid: u32,
    address: SocketAddr,
    id: u32,
    fault: ClockFault,
) -> Result<String, String> {
    if !is_loaded(pid) {
        return Err("its program does not load libfaketime".to_owned());
    }
    let before = ahead(http, address).await?;
    let began = Instant::now();
    match fault {
        ClockFault::Jump(ahead_ms) => {
            clock.set(id, Wrong { ahead_ms, ppm: 0 })?;
            let by = ahead(http, address).await?.since(before);
            let text = format!("shows {:+.1} ms", by.middle_ms());
            let there = by.is_near(ahead_ms.saturating_mul(1_000_000), RIGHT_NS.unsigned_abs());
            // Where the reading is less exact than that, nothing was seen.
            let moved = !by.is_near(0, 0);
            if there && moved { Ok(text) } else { Err(text) }
        }
        ClockFault::Drift(ppm) => {
            clock.set(id, Wrong { ahead_ms: 0, ppm })?;
            // The first reading notices the change.
            let first = ahead(http, address).await?;
            let since = Instant::now();
            loop {
                sleep(WATCH).await;
                let least = since.elapsed();
                let gained = ahead(http, address).await?.since(first);
                let text = format!(
                    "gained {:+.1} ms in {:.0} ms; {ppm} ppm were asked",
                    gained.middle_ms(),
                    ms(nanos(since.elapsed()))
                );
                if !gained.is_near(0, 0) {
                    let asked = |passed: Duration| {
                        i64::try_from(i128::from(nanos(passed)) * i128::from(ppm) / 1_000_000)
                            .unwrap_or(i64::MAX)
                    };
                    let (a, b) = (asked(least), asked(began.elapsed()));
                    let near = gained.least <= a.max(b) && gained.most >= a.min(b);
                    return if near { Ok(text) } else { Err(text) };
                }
                if since.elapsed() > WATCH_AT_MOST {
                    return Err(format!("{text}: too little to be seen"));
                }
            }
        }
        ClockFault::Strobe { by_ms, every_ms } => {
            clock.set(
                id,
                Wrong {
                    ahead_ms: by_ms,
                    ppm: 0,
                },
            )?;
            clock.strobe(id, by_ms, every_ms);
            let asked = by_ms.saturating_mul(1_000_000);
            let (mut there, mut back) = (0, 0);
            let enough = WATCH.max(Duration::from_millis(every_ms.saturating_mul(3)));
            let enough = enough.min(WATCH_AT_MOST);
            while began.elapsed() < enough {
                let by = ahead(http, address).await?.since(before);
                let (is_there, is_back) = (
                    by.is_near(asked, RIGHT_NS.unsigned_abs()),
                    by.is_near(0, RIGHT_NS.unsigned_abs()),
                );
                there += u32::from(is_there && !is_back);
                back += u32::from(is_back && !is_there);
                sleep(Duration::from_millis((every_ms / 4).clamp(1, 50))).await;
            }
            let text = format!("was seen {there} times {by_ms:+} ms ahead, {back} times not");
            // One that is not set back within that time cannot be seen back.
            let both = there > 0 && (back > 0 || u128::from(every_ms) >= enough.as_millis());
            if both { Ok(text) } else { Err(text) }
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Sets one clock right, and looks.
pub(super) async fn heal(
    clock: &Preload,
    http: &reqwest::Client,
    address: Option<SocketAddr>,
    id: u32,
    fault: ClockFault,
) -> Result<String, String> {
    if clock.steady(id)? {
        // That has to be read before it can be set.
        match address {
            Some(address) => drop(look(http, address).await),
            None => sleep(WATCH).await,
        }
    }
    let left = clock.clear(id)?;
    let Some(address) = address else {
        return Ok("will be right when its node starts".to_owned());
    };
    if left > 0 {
        return Ok(format!("is as wrong as {left} other faults make it"));
    }
    let by_ms = match fault {
        ClockFault::Jump(by_ms) | ClockFault::Strobe { by_ms, .. } => by_ms,
        ClockFault::Drift(_) => i64::MAX,
    };
    let near = by_ms.unsigned_abs().saturating_mul(500_000);
    let now = ahead(http, address).await?;
    if now.is_near(0, near.min(NEAR_NS)) {
        Ok("is right".to_owned())
    } else {
        Err(format!("it is {:+.1} ms ahead", now.middle_ms()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_by_what_lies_between_asking_and_hearing() {
        let early = Ahead { least: 0, most: 10 };
        let late = Ahead {
            least: 95,
            most: 103,
        };
        let by = late.since(early);
        assert_eq!(
            by,
            Ahead {
                least: 85,
                most: 103
            }
        );
        assert!(by.is_near(100, 0) && by.is_near(80, 5));
        assert!(!by.is_near(80, 4) && !by.is_near(104, 0) && !by.is_near(0, 0));
    }

    #[test]
    fn faults_of_one_clock_add_up_and_leave_one_by_one() {
        if let Err(why) = library() {
            eprintln!("not tested: {why}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let clock = Preload::of(dir.path(), 3).unwrap();
        let said = || std::fs::read_to_string(dir.path().join("n3.clock")).unwrap();
        assert_eq!(said(), "+0.000");
        let wrong = |ahead_ms, ppm| Wrong { ahead_ms, ppm };
        clock.set(1, wrong(1_000, 0)).unwrap();
        clock.set(2, wrong(-250, 0)).unwrap();
        assert_eq!(said(), "+0.750");
        assert!(clock.is_wrong_for(2) && !clock.is_wrong_for(3));
        assert_eq!(clock.clear(1), Ok(1));
        assert_eq!(said(), "-0.250");
        clock.set(3, wrong(0, 40)).unwrap_err();
        assert_eq!(clock.steady(2), Ok(false));
        assert_eq!(said(), "-0.250");
        assert_eq!(clock.clear(2), Ok(0));
        assert_eq!(said(), "+0.000");
        clock.set(3, wrong(0, 40)).unwrap();
        assert_eq!(said(), "+0.000 x1.000040");
        clock.set(4, wrong(10, 0)).unwrap_err();
        assert_eq!(clock.steady(3), Ok(true));
        assert_eq!(said(), "+0.000 x1.000000");
        assert_eq!(clock.clear(3), Ok(0));
        assert_eq!(said(), "+0.000");
    }
}
