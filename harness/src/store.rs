//! The run store: `store/<name>/<UTC time>/`, with `latest` beside the newest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

/// A directory that holds everything of one run.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new run directory below `store/name`, named by the time, and points `latest` at it.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn create(store: &Path, name: &str, now: Timestamp) -> Result<Self> {
        let path = create_dir(store, name, now)?;
        fs::create_dir(path.join("nodes"))?;
        Ok(Self { path })
    }

    /// An existing run directory.
    ///
    /// # Errors
    /// If it holds no `history.jsonl`.
    pub fn open(path: &Path) -> Result<Self> {
        anyhow::ensure!(
            ["history.jsonl", "history.jsonl.zst"]
                .iter()
                .any(|f| path.join(f).exists()),
            "{} is not a run directory: it has no history.jsonl; runs are below store/, e.g. store/demo/latest",
            path.display()
        );
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Compresses the history with zstd if it is large; the plain file goes once the other is whole.
    ///
    /// # Errors
    /// If a file cannot be read or written; the plain file is left as it was.
    pub fn compress_history(&self, at_least_bytes: u64) -> Result<()> {
        let (plain, packed) = (self.file("history.jsonl"), self.file("history.jsonl.zst"));
        if fs::metadata(&plain)?.len() < at_least_bytes {
            return Ok(());
        }
        let temporary = self.file(".history.jsonl.zst.tmp");
        let compress = || -> io::Result<()> {
            let mut from = io::BufReader::new(fs::File::open(&plain)?);
            let mut to = zstd::Encoder::new(fs::File::create(&temporary)?, 3)?;
            io::copy(&mut from, &mut to)?;
            to.finish()?.sync_all()?;
            fs::rename(&temporary, &packed)?;
            fs::remove_file(&plain)
        };
        compress().with_context(|| format!("cannot compress {}", plain.display()))
    }

    /// The history, plain or compressed.
    pub fn history(&self) -> PathBuf {
        let plain = self.file("history.jsonl");
        if plain.exists() {
            plain
        } else {
            self.file("history.jsonl.zst")
        }
    }

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        write_whole(&self.file(name), content)
    }
}

/// The smallest history that fails again, of an invalid run.
pub const MINIMAL: &str = "minimal.jsonl";

/// Makes a new directory below `store/name`, named by the time, and points `latest` at it.
///
/// # Errors
/// If it cannot be made.
pub fn create_dir(store: &Path, name: &str, now: Timestamp) -> Result<PathBuf> {
    let parent = store.join(name);
    fs::create_dir_all(&parent)
        .with_context(|| format!("cannot create {}: choose another --store", parent.display()))?;
    let stamp = now.strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    // Two runs may start in the same millisecond; the second takes the next free name.
    for attempt in 0..1000 {
        let dir = if attempt == 0 {
            stamp.clone()
        } else {
            format!("{stamp}-{attempt}")
        };
        let path = parent.join(&dir);
        match fs::create_dir(&path) {
            Ok(()) => {
                point_latest(&parent, &dir)?;
                return Ok(path);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("cannot create {}", path.display()));
            }
        }
    }
    anyhow::bail!("{} is full of runs of this millisecond", parent.display())
}

/// Writes a file whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_whole(path: &Path, content: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Points `latest` at a run, atomically: a link beside is renamed over the old one.
fn point_latest(parent: &Path, dir: &str) -> Result<()> {
    let temporary = parent.join(format!(".latest-{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(dir, &temporary)?;
    fs::rename(&temporary, parent.join("latest"))
        .with_context(|| format!("cannot point {}/latest at {dir}", parent.display()))
}

/// One run found in a store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its directory.
    pub path: PathBuf,
    /// The experiment's name.
    pub name: String,
    /// The directory's name: the UTC time of the start.
    pub time: String,
}

/// Any of these makes a directory a run.
const RUN_FILES: [&str; 3] = ["experiment.yaml", "history.jsonl", "verdict.json"];

/// All runs below a store, newest first. A store that does not exist has none.
///
/// # Errors
/// If a directory cannot be read.
pub fn runs(store: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let names = match fs::read_dir(store) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e),
    };
    for name in names {
        let name = name?;
        if !name.file_type()?.is_dir() {
            continue;
        }
        for run in fs::read_dir(name.path())? {
            let run = run?;
            let of_a_run = |file: &str| run.path().join(file).exists();
            // Links such as `latest` are no runs of their own.
            if run.file_type()?.is_dir() && RUN_FILES.into_iter().any(of_a_run) {
                found.push(Entry {
                    path: run.path(),
                    name: name.file_name().to_string_lossy().into_owned(),
                    time: run.file_name().to_string_lossy().into_owned(),
                });
            }
        }
    }
    found.sort_by(|a, b| (&b.time, &b.name).cmp(&(&a.time, &a.name)));
    Ok(found)
}

/// The runs that comparisons on real machines made, whose directories are within theirs.
///
/// # Errors
/// If a directory cannot be read.
pub fn compared(store: &Path) -> io::Result<Vec<Entry>> {
    let comparisons = match fs::read_dir(store.join("compare")) {
        Ok(comparisons) => comparisons,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for comparison in comparisons {
        let comparison = comparison?;
        if comparison.file_type()?.is_dir() {
            found.extend(runs(&comparison.path().join("cells"))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_follows_the_newest_run() {
        let store = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let first = RunDir::create(store.path(), "demo", now).unwrap();
        let second = RunDir::create(store.path(), "demo", now).unwrap();
        assert_ne!(first.path(), second.path());
        let latest = fs::canonicalize(store.path().join("demo/latest")).unwrap();
        assert_eq!(latest, fs::canonicalize(second.path()).unwrap());
        assert!(
            runs(store.path()).unwrap().is_empty(),
            "nothing was recorded"
        );
        second.write("experiment.yaml", "name: demo\n").unwrap();
        let found = runs(store.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "demo");
        assert!(compared(store.path()).unwrap().is_empty());
        let comparison = create_dir(store.path(), "compare", now).unwrap();
        let cell = RunDir::create(&comparison.join("cells"), "raft-none-0", now).unwrap();
        cell.write("experiment.yaml", "name: raft-none-0\n")
            .unwrap();
        assert_eq!(compared(store.path()).unwrap()[0].path, cell.path());
        assert_eq!(
            runs(store.path()).unwrap().len(),
            1,
            "they are no runs of the store"
        );
    }

    #[test]
    fn a_large_history_is_compressed_and_reads_the_same() {
        let store = tempfile::tempdir().unwrap();
        let run = RunDir::create(store.path(), "demo", Timestamp::UNIX_EPOCH).unwrap();
        let line = r#"{"index":0,"time":1,"process":0,"type":"invoke","f":"read","value":null}"#;
        fs::write(run.file("history.jsonl"), format!("{line}\n")).unwrap();
        let read = || {
            let options = checkers::format::ReadOptions::default();
            checkers::format::read_path(&run.history(), None, &options)
                .unwrap()
                .history
        };
        let before = read();
        run.compress_history(1_000_000).unwrap();
        assert!(
            run.file("history.jsonl").exists(),
            "small ones stay as they are"
        );
        run.compress_history(1).unwrap();
        assert!(!run.file("history.jsonl").exists());
        assert_eq!(read(), before);
        assert!(RunDir::open(run.path()).is_ok());
    }

    #[test]
    fn a_store_that_is_not_there_has_no_runs() {
        assert!(runs(Path::new("/nonexistent/store")).unwrap().is_empty());
    }
}
