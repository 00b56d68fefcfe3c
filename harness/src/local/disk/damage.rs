//! Flips a bit of what is stored.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nemesis::Stored;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::local::data::DataDir;

/// The journal of the reference store, which holds its snapshots too.
const JOURNAL: &str = "journal";

/// Flips a bit drawn by this seed; says which.
pub fn flip(data: &DataDir, stored: Stored, seed: u64) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    data.prove_ours().map_err(said)?;
    let files = data.files().map_err(said)?;
    let (path, range) = match stored {
        Stored::Log => log(&files).ok_or("there is no log: it has no file with anything in it")?,
        Stored::Snapshot => snapshot(&files).ok_or("there is no snapshot among its files")?,
    };
    let mut random = Pcg64::seed_from_u64(seed);
    let place = random.random_range(range);
    let bit = random.random_range(0..8u32);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(said)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).map_err(said)?;
    let [before] = byte;
    file.write_all_at(&[before ^ (1 << bit)], place)
        .map_err(said)?;
    file.sync_all().map_err(said)?;
    // What programs read from now on.
    let now = fs::read(&path).map_err(said)?;
    let now = usize::try_from(place)
        .ok()
        .and_then(|at| now.get(at).copied());
    if now != Some(before ^ (1 << bit)) {
        return Err(format!(
            "byte {place} of {} is {now:?} still",
            path.display()
        ));
    }
    data.settle().map_err(said)?;
    let name = path.strip_prefix(data.path()).unwrap_or(&path).display();
    Ok(format!(
        "bit {bit} of byte {place} of the {} in {name} is flipped ({before:#04x} is {:#04x})",
        stored.name(),
        before ^ (1 << bit)
    ))
}

/// The file written last, but for what is there to be locked.
fn log(files: &[PathBuf]) -> Option<(PathBuf, Range<u64>)> {
    let written = |path: &PathBuf| -> Option<(SystemTime, PathBuf, u64)> {
        let data = fs::metadata(path).ok()?;
        (data.len() > 0).then_some((data.modified().ok()?, path.clone(), data.len()))
    };
    let (_, path, length) = files
        .iter()
        .filter(|path| !is_snapshot(path))
        .filter_map(written)
        .max()?;
    Some((path, 0..length))
}

/// The snapshot written last: a record of the reference store's journal, or a file that is called one.
fn snapshot(files: &[PathBuf]) -> Option<(PathBuf, Range<u64>)> {
    let in_journal = files
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name == JOURNAL))
        .find_map(|path| {
            let bytes = fs::read(path).ok()?;
            let range = reference_cluster::server::newest_snapshot(&bytes)?;
            Some((path.clone(), range.start as u64..range.end as u64))
        });
    in_journal.or_else(|| {
        let called: Vec<PathBuf> = files
            .iter()
            .filter(|path| is_snapshot(path))
            .cloned()
            .collect();
        let written = called.iter().filter_map(|path| {
            let data = fs::metadata(path).ok()?;
            (data.len() > 0).then_some((data.modified().ok()?, path.clone(), data.len()))
        });
        written.max().map(|(_, path, length)| (path, 0..length))
    })
}

/// Whether its name says so: `0001.snap`, `snapshot.db`, `dump.rdb`.
fn is_snapshot(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains("snap") || path.extension().is_some_and(|of| of == "rdb")
}
