//! Writes to a node's disk, and looks what comes of it. What is written is removed again, and counts
//! for nothing when power is lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nemesis::DiskFault;
use nemesis::mechanism::disk::PROBE;
use rustix::io::Errno;

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What the fault is to do.
    Misbehaves(String),
    /// Something else.
    Works(String),
}

/// Writes and syncs a file.
///
/// # Errors
/// When the disk refuses.
pub fn works(folder: &Path) -> io::Result<()> {
    write(folder, |_| ()).and_then(|()| fs::remove_file(folder.join(PROBE)))
}

/// Makes the probe, writes and syncs it; says how long the write and the sync took.
fn write(folder: &Path, took: impl FnOnce([Duration; 2])) -> io::Result<()> {
    let mut file = File::create(folder.join(PROBE))?;
    let begun = Instant::now();
    file.write_all(b"probe")?;
    let written = begun.elapsed();
    file.sync_all()?;
    took([written, begun.elapsed().saturating_sub(written)]);
    Ok(())
}

/// Looks whether a disk misbehaves in this way.
pub fn probe(folder: &Path, fault: DiskFault) -> Seen {
    let mut times = None;
    let written = write(folder, |took| times = Some(took));
    // On a disk that is read-only it cannot be there.
    let _ = fs::remove_file(folder.join(PROBE));
    let wanted = match fault {
        DiskFault::Full => Errno::NOSPC,
        DiskFault::ReadOnly => Errno::ROFS,
        DiskFault::FsyncError => Errno::IO,
        DiskFault::Slow(ms) => return slow(written, times, Duration::from_millis(ms)),
    };
    match written {
        Err(error) if Errno::from_io_error(&error) == Some(wanted) => {
            Seen::Misbehaves(format!("a write and a sync fail ({error})"))
        }
        Err(error) => Seen::Works(format!(
            "a write and a sync fail with another error: {error}"
        )),
        Ok(()) => Seen::Works("a write and a sync succeed".to_owned()),
    }
}

fn slow(written: io::Result<()>, times: Option<[Duration; 2]>, wanted: Duration) -> Seen {
    match (written, times) {
        (Ok(()), Some([write, sync])) => {
            let text = format!(
                "a write takes {} ms and a sync {} ms",
                write.as_millis(),
                sync.as_millis()
            );
            if write.min(sync) >= wanted {
                Seen::Misbehaves(text)
            } else {
                Seen::Works(text)
            }
        }
        (Err(error), _) => Seen::Works(format!("a write and a sync fail: {error}")),
        (Ok(()), None) => Seen::Works("a write and a sync were not timed".to_owned()),
    }
}
