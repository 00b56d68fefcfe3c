//! The data directory of a node, and the proof that it is this run's own before it is emptied.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use nemesis::mechanism::disk::ext4::{Ext4Volume, LOST_FOUND};
use nemesis::mechanism::disk::{ATTIC, DiskLayer, PROBE};

use super::disk::{Needs, Shelf, copy_tree};

/// The file that marks a directory as made by a run; its text says by which, for which node.
pub(super) const MARK: &str = "quorate-data";

/// A directory that a run made, or found.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// What its mark says, if the run made it.
    mark: Option<String>,
    /// What is under it, if a fault of its disk is planned.
    layer: Option<DiskLayer>,
    /// The file system that it is instead, if one is planned to be shut down.
    volume: Option<Ext4Volume>,
    /// Older copies of it, if it is planned to be rolled back.
    shelf: Option<Mutex<Shelf>>,
    seed: u64,
}

/// Tries to copy a directory between two writes.
const COPY_ATTEMPTS: usize = 20;

/// Whether a name at the top of a data directory is ours, and not the node's.
fn is_ours(name: &OsStr) -> bool {
    [MARK, ATTIC, PROBE, LOST_FOUND]
        .iter()
        .any(|ours| name == *ours)
}

impl DataDir {
    /// Makes the directory of a node, and marks it. One that is there already and holds anything
    /// is used as it is, but never emptied.
    pub fn create(path: PathBuf, node: u16) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let empty = fs::read_dir(&path)?.next().is_none();
        let mark = empty.then(|| {
            let whose = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            format!("n{node} {} {}\n", std::process::id(), whose.display())
        });
        if let Some(mark) = &mark {
            fs::write(path.join(MARK), mark)?;
        }
        Ok(Self {
            path,
            mark,
            layer: None,
            volume: None,
            shelf: None,
            seed: 0,
        })
    }

    /// Puts under it what the planned faults need.
    pub fn prepare(&mut self, needs: &Needs, node: u16) -> io::Result<()> {
        self.seed = workloads::substream(needs.seed, &format!("n{node}"));
        if let Some((_, oldest)) = needs.copies {
            let folder = self.path.with_extension("copies");
            self.shelf = Some(Mutex::new(Shelf::create(folder, oldest)?));
        }
        if needs.ext4 {
            self.volume = Some(Ext4Volume::mount(&self.path)?);
            if let Some(mark) = &self.mark {
                fs::write(self.path.join(MARK), mark)?;
                fs::File::open(&self.path)?.sync_all()?;
                fs::File::open(self.path.join(MARK))?.sync_all()?;
            }
        }
        if needs.layer {
            self.layer = Some(DiskLayer::mount(&self.path)?);
        }
        Ok(())
    }

    pub fn layer(&self) -> Option<&DiskLayer> {
        self.layer.as_ref()
    }

    pub fn volume(&self) -> Option<&Ext4Volume> {
        self.volume.as_ref()
    }

    /// Bytes in all files of the node.
    pub fn bytes(&self) -> io::Result<u64> {
        let sizes = self
            .files()?
            .into_iter()
            .map(|file| fs::metadata(file).map(|data| data.len()));
        sizes.sum()
    }

    /// The seed of what one fault leaves to chance here.
    pub fn seed(&self, fault: u32) -> u64 {
        workloads::substream(self.seed, &format!("fault-{fault}"))
    }

    /// Makes everything durable that was done here, which was not the node's doing.
    pub fn settle(&self) -> io::Result<()> {
        self.layer.as_ref().map_or(Ok(()), DiskLayer::settle)
    }

    /// All regular files of the node.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut waiting = vec![self.path.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if folder == self.path && is_ours(&entry.file_name()) {
                    continue;
                }
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    waiting.push(entry.path());
                } else if kind.is_file() {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Copies it as it is at one instant.
    pub fn take_copy(&self) -> io::Result<()> {
        let Some(shelf) = &self.shelf else {
            return Ok(());
        };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.add(|to| match &self.layer {
            Some(layer) => layer.while_still(|real| copy_tree(real, to, &is_ours).map(drop)),
            None => self.copy_between_writes(to),
        })
    }

    /// Without a layer nothing holds the node up: a copy counts if nothing was written meanwhile.
    fn copy_between_writes(&self, to: &Path) -> io::Result<()> {
        for _ in 0..COPY_ATTEMPTS {
            let before = self.state()?;
            // A file may be gone before it is copied.
            let copied = copy_tree(&self.path, to, &is_ours);
            if copied.is_ok() && before == self.state()? {
                return Ok(());
            }
            fs::remove_dir_all(to)?;
            fs::create_dir(to)?;
        }
        Err(io::Error::other("it was written to all the time"))
    }

    /// What tells whether it was written to.
    fn state(&self) -> io::Result<BTreeMap<PathBuf, (u64, u64, i64, i64)>> {
        let data = |path: PathBuf| {
            let data = fs::symlink_metadata(&path)?;
            let (seconds, nanos) = (data.mtime(), data.mtime_nsec());
            Ok((path, (data.ino(), data.len(), seconds, nanos)))
        };
        self.files()?.into_iter().map(data).collect()
    }

    /// Puts back the youngest copy that is at least this old: its age, and how many files; nothing at
    /// all if there is none.
    pub fn put_back(&self, age: Duration) -> io::Result<Option<(Duration, usize)>> {
        let Some(shelf) = &self.shelf else {
            return Err(io::Error::other("no copies were taken of it"));
        };
        let shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shelf.find(age);
        self.empty()?;
        let Some((of, place)) = found else {
            return Ok(None);
        };
        let files = copy_tree(place, &self.path, &|_| false)?;
        let now = self.files()?.len();
        self.settle()?;
        if now != files {
            let what = format!("{now} files are there instead of {files}");
            return Err(io::Error::other(what));
        }
        Ok(Some((of, files)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes everything in it but the mark. Links are deleted, not followed.
    ///
    /// # Errors
    /// When the directory is not provably this run's, or something cannot be deleted.
    pub fn empty(&self) -> io::Result<()> {
        self.prove_ours()?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == OsStr::new(MARK) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        self.settle()
    }

    /// How many things besides the mark it holds.
    pub fn count(&self) -> io::Result<usize> {
        let entries = fs::read_dir(&self.path)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names
            .filter(|name| !matches!(name, Ok(name) if name == OsStr::new(MARK)))
            .map(|name| name.map(|_| 1))
            .sum()
    }

    /// That the run made it.
    pub fn prove_ours(&self) -> io::Result<()> {
        let not_ours = |why: &str| {
            Err(io::Error::other(format!(
                "{} is left as it is: {why}",
                self.path.display()
            )))
        };
        let Some(mark) = &self.mark else {
            return not_ours("it held something before this run began");
        };
        if !fs::symlink_metadata(&self.path)?.is_dir() {
            return not_ours("it is no directory any more");
        }
        let place = self.path.join(MARK);
        let marked = fs::symlink_metadata(&place).is_ok_and(|data| data.is_file())
            && fs::read_to_string(&place).is_ok_and(|text| text == *mark);
        if !marked {
            return not_ours("it does not carry the mark of this run");
        }
        Ok(())
    }
}
