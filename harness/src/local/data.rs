//! The data directory of a node, and the proof that it is this run's own before it is emptied.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file that marks a directory as made by a run; its text says by which, for which node.
pub(super) const MARK: &str = "quorate-data";

/// A directory that a run made, or found.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// What its mark says, if the run made it.
    mark: Option<String>,
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
        Ok(Self { path, mark })
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
        Ok(())
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

    fn prove_ours(&self) -> io::Result<()> {
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
