//! Wrong clocks by libfaketime. A node that was started with it goes by a file, which the harness
//! writes: what is wrong stays wrong when the node is started again, and ends with the run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nemesis::mechanism::clock::{ClockFile, Wrong, is_loaded, library};
use nemesis::{ClockFault, Node};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::shown::{Ahead, Shown};
use super::{WATCH, look};

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
    let shown = shown(http, address);
    let before = shown.ahead().await?;
    let began = Instant::now();
    clock.set(id, fault.into())?;
    if let ClockFault::Strobe { by_ms, every_ms } = fault {
        clock.strobe(id, by_ms, every_ms);
    }
    shown.is_wrong(fault, before, began).await
}

fn shown(http: &reqwest::Client, address: SocketAddr) -> Shown<'_> {
    Shown {
        http,
        address,
        patience: Duration::ZERO,
    }
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
    // It was this machine's before.
    shown(http, address).is_right(fault, Ahead::NOT).await
}

#[cfg(test)]
mod tests {
    use super::*;

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
