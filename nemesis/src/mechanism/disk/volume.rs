//! The files and directories under a layer, and what of them the disk does not have yet.
//!
//! The real directory always holds what programs see, so nothing has to be written back when the
//! layer goes. Beside it there is what undoes the changes since the last sync: for the content of
//! files an [`UndoLog`] each, for names one log of all directories. What is removed but not
//! durably so waits in [`ATTIC`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use rand::Rng;
use rand_pcg::Pcg64;

use super::undo::{Kept, SECTOR, UndoLog};

/// Where removed files wait, in the top directory; no program sees it.
pub const ATTIC: &str = ".quorate-attic";
/// A file of the harness, to prove that a disk works or not; nothing of it is remembered.
pub const PROBE: &str = ".quorate-probe";
/// The number of the top directory.
pub(super) const ROOT: u64 = 1;

/// A number of a file or directory. None is used twice.
pub(super) type Number = u64;

#[derive(Debug)]
enum Kind {
    File(UndoLog),
    Directory(BTreeMap<OsString, Number>),
    /// A symbolic link, a socket, a pipe.
    Other,
}

#[derive(Debug)]
struct Inode {
    kind: Kind,
    /// Where it is found: directory and name.
    names: BTreeSet<(Number, OsString)>,
    /// The file itself, once it was opened.
    file: Option<Arc<File>>,
    /// How often it is open.
    opened: usize,
}

/// A change of names that the disk does not have yet.
#[derive(Clone, Debug)]
struct Renaming {
    /// Its place among all changes; also its name in the attic.
    sequence: u64,
    what: Change,
}

#[derive(Clone, Debug)]
enum Change {
    /// A name for something new, or one more for a file.
    Added {
        place: (Number, OsString),
        number: Number,
    },
    /// Moved to the attic.
    Removed {
        place: (Number, OsString),
        number: Number,
    },
    Moved {
        from: (Number, OsString),
        to: (Number, OsString),
        number: Number,
        /// What was there before, in the attic now.
        replaced: Option<Number>,
    },
}

impl Change {
    fn places(&self) -> Vec<&(Number, OsString)> {
        match self {
            Self::Added { place, .. } | Self::Removed { place, .. } => vec![place],
            Self::Moved { from, to, .. } => vec![from, to],
        }
    }

    /// What it put into the attic.
    fn gone(&self) -> Option<Number> {
        match *self {
            Self::Added { .. } => None,
            Self::Removed { number, .. } => Some(number),
            Self::Moved { replaced, .. } => replaced,
        }
    }
}

/// How much of what was not synced power loss leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    None,
    /// By this seed: nothing, or of each file the oldest changes, and of all directories the oldest
    /// changes of names, but never all; the first write that is lost may be torn.
    Random(u64),
    /// Everything but the newest write, and of that a part, by this seed.
    Torn(u64),
}

/// What power loss took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Files that lost content.
    pub files: usize,
    /// Writes and changes of length undone.
    pub changes: usize,
    /// Bytes that these had written.
    pub bytes: u64,
    /// Files created, removed or renamed that are not any more.
    pub names: usize,
    /// A write that was cut: the name of the file, bytes kept, bytes written.
    pub torn: Option<(String, u64, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Volume {
    /// The real directory, by a way that a mount over it does not hide.
    root: PathBuf,
    inodes: BTreeMap<Number, Inode>,
    /// Oldest first.
    names: Vec<Renaming>,
    next: Number,
    sequence: u64,
}

fn error(errno: Errno) -> io::Error {
    errno.into()
}

impl Volume {
    /// What is there is on the disk.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let mut volume = Self {
            root,
            inodes: BTreeMap::new(),
            names: Vec::new(),
            next: ROOT + 1,
            sequence: 0,
        };
        volume.scan()?;
        Ok(volume)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn attic(&self) -> PathBuf {
        self.root.join(ATTIC)
    }

    /// Forgets everything, and takes what is there for what the disk has. Numbers are not used again.
    fn scan(&mut self) -> io::Result<()> {
        self.inodes.clear();
        self.names.clear();
        let attic = self.attic();
        if attic.symlink_metadata().is_ok() {
            fs::remove_dir_all(&attic)?;
        }
        self.inodes.insert(ROOT, Inode::directory());
        let mut known = BTreeMap::new();
        let mut waiting = vec![(ROOT, self.root.clone())];
        while let Some((directory, path)) = waiting.pop() {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let data = entry.metadata()?;
                let identity = (data.dev(), data.ino());
                let number = match known.get(&identity) {
                    Some(&number) if !data.is_dir() => number,
                    _ => {
                        let number = self.add_inode(Inode::of(&data));
                        known.insert(identity, number);
                        number
                    }
                };
                self.link_in((directory, entry.file_name()), number);
                if data.is_dir() {
                    waiting.push((number, entry.path()));
                }
            }
        }
        Ok(())
    }

    fn add_inode(&mut self, inode: Inode) -> Number {
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, inode);
        number
    }

    fn entries(&mut self, directory: Number) -> Option<&mut BTreeMap<OsString, Number>> {
        match &mut self.inodes.get_mut(&directory)?.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    fn link_in(&mut self, place: (Number, OsString), number: Number) {
        if let Some(entries) = self.entries(place.0) {
            entries.insert(place.1.clone(), number);
        }
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.names.insert(place);
        }
    }

    fn link_out(&mut self, place: &(Number, OsString)) -> Option<Number> {
        let number = self.entries(place.0)?.remove(&place.1)?;
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.names.remove(place);
        }
        Some(number)
    }

    fn inode(&self, number: Number) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or_else(|| error(Errno::ESTALE))
    }

    fn inode_mut(&mut self, number: Number) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&number)
            .ok_or_else(|| error(Errno::ESTALE))
    }

    /// Where it is in the real directory.
    pub fn path(&self, number: Number) -> io::Result<PathBuf> {
        let mut parts = Vec::new();
        let mut at = number;
        while at != ROOT {
            let (parent, name) = self
                .inode(at)?
                .names
                .first()
                .ok_or_else(|| error(Errno::ENOENT))?;
            parts.push(name);
            at = *parent;
        }
        let mut path = self.root.clone();
        path.extend(parts.into_iter().rev());
        Ok(path)
    }

    fn path_at(&self, place: &(Number, OsString)) -> io::Result<PathBuf> {
        Ok(self.path(place.0)?.join(&place.1))
    }

    fn in_attic(&self, sequence: u64) -> PathBuf {
        self.attic().join(sequence.to_string())
    }

    fn count(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// What a name stands for.
    pub fn lookup(&self, directory: Number, name: &OsStr) -> io::Result<Number> {
        match &self.inode(directory)?.kind {
            Kind::Directory(entries) => entries
                .get(name)
                .copied()
                .ok_or_else(|| error(Errno::ENOENT)),
            _ => Err(error(Errno::ENOTDIR)),
        }
    }

    /// Names and numbers in a directory, and its parent.
    pub fn list(&self, directory: Number) -> io::Result<(Number, Vec<(OsString, Number)>)> {
        let inode = self.inode(directory)?;
        let parent = inode.names.first().map_or(ROOT, |(parent, _)| *parent);
        match &inode.kind {
            Kind::Directory(entries) => Ok((
                parent,
                entries.iter().map(|(n, i)| (n.clone(), *i)).collect(),
            )),
            _ => Err(error(Errno::ENOTDIR)),
        }
    }

    /// What the file system says of it, and how many names it has.
    pub fn metadata(&self, number: Number) -> io::Result<(Metadata, u32)> {
        let inode = self.inode(number)?;
        let data = match &inode.file {
            Some(file) => file.metadata()?,
            None => fs::symlink_metadata(self.path(number)?)?,
        };
        let names = match inode.kind {
            Kind::Directory(_) => data.nlink() as u32,
            _ => inode.names.len() as u32,
        };
        Ok((data, names))
    }

    /// The file itself, opened for reading and, where allowed, for writing.
    pub fn file(&mut self, number: Number) -> io::Result<Arc<File>> {
        if let Some(file) = &self.inode(number)?.file {
            return Ok(Arc::clone(file));
        }
        if !matches!(self.inode(number)?.kind, Kind::File(_)) {
            return Err(error(Errno::EISDIR));
        }
        let path = self.path(number)?;
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path)?,
            opened => opened?,
        };
        let file = Arc::new(file);
        self.inode_mut(number)?.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// One more, or one less, has it open.
    pub fn opened(&mut self, number: Number) -> io::Result<()> {
        self.file(number)?;
        self.inode_mut(number)?.opened += 1;
        Ok(())
    }

    pub fn closed(&mut self, number: Number) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.opened = inode.opened.saturating_sub(1);
            if inode.opened == 0 {
                // Otherwise there would be as many descriptors as files.
                inode.file = None;
            }
        }
        self.forget(number);
    }

    /// Drops what nothing can reach any more.
    fn forget(&mut self, number: Number) {
        let Some(inode) = self.inodes.get(&number) else {
            return;
        };
        let named = self.names.iter().any(|renaming| {
            let of = match renaming.what {
                Change::Added { number, .. }
                | Change::Removed { number, .. }
                | Change::Moved { number, .. } => number,
            };
            of == number || renaming.what.gone() == Some(number)
        });
        if inode.names.is_empty() && inode.opened == 0 && !named && number != ROOT {
            self.inodes.remove(&number);
        }
    }

    /// Whether changes of this file are to be remembered.
    fn is_probe(&self, number: Number) -> bool {
        self.inodes.get(&number).is_some_and(|inode| {
            inode.names.len() == 1
                && inode
                    .names
                    .first()
                    .is_some_and(|(_, name)| name.as_os_str() == PROBE)
        })
    }

    fn log_mut(&mut self, number: Number) -> io::Result<&mut UndoLog> {
        match &mut self.inode_mut(number)?.kind {
            Kind::File(log) => Ok(log),
            Kind::Directory(_) => Err(error(Errno::EISDIR)),
            Kind::Other => Err(error(Errno::EINVAL)),
        }
    }

    pub fn write(&mut self, number: Number, offset: u64, data: &[u8]) -> io::Result<()> {
        let (file, sequence) = (self.file(number)?, self.count());
        if self.is_probe(number) {
            return std::os::unix::fs::FileExt::write_all_at(&*file, data, offset);
        }
        self.log_mut(number)?.write(&file, sequence, offset, data)
    }

    pub fn set_len(&mut self, number: Number, length: u64) -> io::Result<()> {
        let (file, sequence) = (self.file(number)?, self.count());
        self.log_mut(number)?.set_len(&file, sequence, length)
    }

    /// A new file, opened; its number.
    pub fn create(&mut self, directory: Number, name: &OsStr, mode: u32) -> io::Result<Number> {
        let path = self.free(directory, name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)?;
        let mut inode = Inode::of(&file.metadata()?);
        inode.file = Some(Arc::new(file));
        let number = self.add_inode(inode);
        self.added(directory, name, number);
        Ok(number)
    }

    pub fn make_directory(
        &mut self,
        directory: Number,
        name: &OsStr,
        mode: u32,
    ) -> io::Result<Number> {
        let path = self.free(directory, name)?;
        fs::DirBuilder::new().mode(mode).create(&path)?;
        let number = self.add_inode(Inode::directory());
        self.added(directory, name, number);
        Ok(number)
    }

    pub fn symlink(
        &mut self,
        directory: Number,
        name: &OsStr,
        target: &Path,
    ) -> io::Result<Number> {
        let path = self.free(directory, name)?;
        std::os::unix::fs::symlink(target, &path)?;
        let number = self.add_inode(Inode::new(Kind::Other));
        self.added(directory, name, number);
        Ok(number)
    }

    pub fn link(&mut self, number: Number, directory: Number, name: &OsStr) -> io::Result<()> {
        let path = self.free(directory, name)?;
        fs::hard_link(self.path(number)?, path)?;
        self.added(directory, name, number);
        Ok(())
    }

    /// The real path of a name that nothing has yet.
    fn free(&self, directory: Number, name: &OsStr) -> io::Result<PathBuf> {
        match self.lookup(directory, name) {
            Ok(_) => Err(error(Errno::EEXIST)),
            Err(missing) if missing.raw_os_error() == Some(Errno::ENOENT as i32) => {
                if directory == ROOT && name == ATTIC {
                    return Err(error(Errno::EPERM));
                }
                self.path_at(&(directory, name.to_owned()))
            }
            Err(other) => Err(other),
        }
    }

    fn added(&mut self, directory: Number, name: &OsStr, number: Number) {
        let place = (directory, name.to_owned());
        self.link_in(place.clone(), number);
        if name != PROBE {
            self.remember(Change::Added { place, number });
        }
    }

    fn remember(&mut self, what: Change) -> u64 {
        let sequence = self.count();
        self.names.push(Renaming { sequence, what });
        sequence
    }

    /// Removes a name of a file, or an empty directory.
    pub fn remove(
        &mut self,
        directory: Number,
        name: &OsStr,
        is_directory: bool,
    ) -> io::Result<()> {
        let number = self.lookup(directory, name)?;
        match (&self.inode(number)?.kind, is_directory) {
            (Kind::Directory(_), false) => return Err(error(Errno::EISDIR)),
            (Kind::Directory(entries), true) if !entries.is_empty() => {
                return Err(error(Errno::ENOTEMPTY));
            }
            (Kind::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(error(Errno::ENOTDIR)),
        }
        let place = (directory, name.to_owned());
        let path = self.path_at(&place)?;
        if name == PROBE {
            fs::remove_file(path)?;
            self.link_out(&place);
            self.forget(number);
            return Ok(());
        }
        self.make_attic()?;
        fs::rename(path, self.in_attic(self.sequence + 1))?;
        self.link_out(&place);
        self.remember(Change::Removed { place, number });
        Ok(())
    }

    fn make_attic(&self) -> io::Result<()> {
        match fs::create_dir(self.attic()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    pub fn rename(
        &mut self,
        from: (Number, &OsStr),
        to: (Number, &OsStr),
        replace: bool,
    ) -> io::Result<()> {
        let number = self.lookup(from.0, from.1)?;
        let replaced = self.lookup(to.0, to.1).ok();
        let from = (from.0, from.1.to_owned());
        let to = (to.0, to.1.to_owned());
        let (source, target) = (self.path_at(&from)?, self.path_at(&to)?);
        if replaced == Some(number) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if !replace {
                return Err(error(Errno::EEXIST));
            }
            match (&self.inode(number)?.kind, &self.inode(replaced)?.kind) {
                (Kind::Directory(_), Kind::Directory(entries)) if !entries.is_empty() => {
                    return Err(error(Errno::ENOTEMPTY));
                }
                (Kind::Directory(_), Kind::Directory(_)) => {}
                (Kind::Directory(_), _) => return Err(error(Errno::ENOTDIR)),
                (_, Kind::Directory(_)) => return Err(error(Errno::EISDIR)),
                _ => {}
            }
            self.make_attic()?;
            fs::rename(&target, self.in_attic(self.sequence + 1))?;
        }
        if let Err(refused) = fs::rename(&source, &target) {
            if replaced.is_some() {
                // Such as a directory that was to be moved into itself.
                fs::rename(self.in_attic(self.sequence + 1), &target)?;
            }
            return Err(refused);
        }
        self.link_out(&to);
        self.link_out(&from);
        self.link_in(to.clone(), number);
        self.remember(Change::Moved {
            from,
            to,
            number,
            replaced,
        });
        Ok(())
    }

    /// Whether a sync of this file or directory has nothing to do.
    pub fn is_durable(&self, number: Number) -> bool {
        match self.inodes.get(&number).map(|inode| &inode.kind) {
            Some(Kind::File(log)) => log.len() == 0,
            _ => self.names.iter().all(|renaming| {
                let places = renaming.what.places();
                places.iter().all(|(directory, _)| *directory != number)
            }),
        }
    }

    /// Where a sync that begins now reaches to.
    pub fn now(&self) -> u64 {
        self.sequence
    }

    /// A sync of a file that began at this place succeeded.
    pub fn synced(&mut self, number: Number, sequence: u64) {
        if let Ok(log) = self.log_mut(number) {
            log.synced(sequence);
        }
    }

    /// A sync of a file failed.
    pub fn sync_failed(&mut self, number: Number) -> io::Result<()> {
        let file = self.file(number)?;
        self.log_mut(number)?.failed(&file)
    }

    /// A sync of a directory that began at this place succeeded: its names are durable, and whatever
    /// they depend on.
    ///
    /// A rename between two directories is never half done, so it is durable in both; and so is
    /// what was done before to any of the names.
    pub fn directory_synced(&mut self, directory: Number, sequence: u64) -> io::Result<()> {
        let mut places: BTreeSet<(Number, OsString)> = BTreeSet::new();
        // A directory that is durably gone has no names to go back to either.
        let mut directories = BTreeSet::from([directory]);
        let mut durable = Vec::new();
        for (index, renaming) in self.names.iter().enumerate().rev() {
            let of = renaming.what.places();
            let meant = renaming.sequence <= sequence
                && of
                    .iter()
                    .any(|place| directories.contains(&place.0) || places.contains(*place));
            if meant {
                places.extend(of.into_iter().cloned());
                directories.extend(renaming.what.gone());
                durable.push(index);
            }
        }
        for index in durable {
            let done = self.names.remove(index);
            self.done_for_good(&done)?;
        }
        Ok(())
    }

    fn done_for_good(&mut self, done: &Renaming) -> io::Result<()> {
        if let Change::Added { number, .. } = done.what {
            self.forget(number);
        }
        let Some(gone) = done.what.gone() else {
            return Ok(());
        };
        let place = self.in_attic(done.sequence);
        if place.symlink_metadata()?.is_dir() {
            fs::remove_dir(place)?;
        } else {
            fs::remove_file(place)?;
        }
        self.forget(gone);
        Ok(())
    }

    /// The disk has everything.
    pub fn settle(&mut self) -> io::Result<()> {
        for done in std::mem::take(&mut self.names) {
            self.done_for_good(&done)?;
        }
        for inode in self.inodes.values_mut() {
            if let Kind::File(log) = &mut inode.kind {
                *log = UndoLog::default();
            }
        }
        match fs::remove_dir(self.attic()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// How much the disk does not have: changes of files, bytes, changes of names.
    pub fn unsynced(&self) -> (usize, u64, usize) {
        let logs = self.inodes.values().filter_map(|inode| match &inode.kind {
            Kind::File(log) => Some((log.len(), log.bytes())),
            _ => None,
        });
        let (changes, bytes) = logs.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        (changes, bytes, self.names.len())
    }

    /// Whether the newest write of some file is not synced.
    pub fn can_tear(&self) -> bool {
        self.newest_write().is_some()
    }

    fn newest_write(&self) -> Option<(Number, std::ops::Range<u64>)> {
        let newest = self.inodes.iter().filter_map(|(&number, inode)| {
            let Kind::File(log) = &inode.kind else {
                return None;
            };
            // What is unlinked cannot be seen to be torn.
            inode.names.first()?;
            let (sequence, range) = log.newest_write()?;
            Some((sequence, number, range))
        });
        newest
            .max_by_key(|(sequence, ..)| *sequence)
            .map(|(_, number, range)| (number, range))
    }

    /// Power is lost: what the disk does not have is gone, but for some of it. Nobody may have a file
    /// open; what is open is stale afterwards.
    pub fn power_loss(&mut self, tail: Tail) -> io::Result<Loss> {
        let mut loss = Loss::default();
        let (seed, any) = match tail {
            Tail::None => (0, false),
            Tail::Random(seed) | Tail::Torn(seed) => (seed, true),
        };
        let mut random = <Pcg64 as rand::SeedableRng>::seed_from_u64(seed);
        let torn = matches!(tail, Tail::Torn(_))
            .then(|| self.newest_write())
            .flatten();
        let any = any && (torn.is_some() || random.random_bool(0.5));
        // By number, so that the same seed does the same.
        let files: Vec<Number> = self.inodes.keys().copied().collect();
        for number in files {
            let Some(Inode {
                kind: Kind::File(log),
                ..
            }) = self.inodes.get(&number)
            else {
                continue;
            };
            if log.is_clean() || self.inode(number)?.names.is_empty() && !self.waits(number) {
                continue;
            }
            let count = log.len();
            let kept = match &torn {
                Some((of, range)) if *of == number => Kept {
                    changes: count - 1,
                    torn: part_of(&mut random, range),
                },
                Some(_) => Kept {
                    changes: count,
                    torn: 0,
                },
                None if any => {
                    let changes = random.random_range(0..count.max(1));
                    let next = log
                        .write_at(changes)
                        .filter(|range| range.end - range.start > 1);
                    let torn = match next {
                        Some(range) if random.random_bool(0.5) => part_of(&mut random, &range),
                        _ => 0,
                    };
                    Kept { changes, torn }
                }
                None => Kept {
                    changes: 0,
                    torn: 0,
                },
            };
            if kept.torn > 0 {
                let written = log.write_at(kept.changes).map_or(0, |r| r.end - r.start);
                let name = self.inode(number)?.names.first();
                let name = name.map(|(_, name)| name.to_string_lossy().into_owned());
                loss.torn = Some((name.unwrap_or_default(), kept.torn, written));
            }
            let file = self.file_wherever(number)?;
            let taken = self.log_mut(number)?.power_loss(&file, kept)?;
            if taken.changes > 0 {
                loss.files += 1;
                loss.changes += taken.changes;
                loss.bytes += taken.bytes;
            }
        }
        let keep = match &torn {
            Some(_) => self.names.len(),
            None if any => random.random_range(0..self.names.len().max(1)),
            None => 0,
        };
        for undone in self.names.split_off(keep).into_iter().rev() {
            self.undo(undone)?;
            loss.names += 1;
        }
        self.scan()?;
        Ok(loss)
    }

    /// Whether it is in the attic and may come back.
    fn waits(&self, number: Number) -> bool {
        self.names
            .iter()
            .any(|renaming| renaming.what.gone() == Some(number))
    }

    /// The file itself, also in the attic.
    fn file_wherever(&mut self, number: Number) -> io::Result<Arc<File>> {
        if self.inode(number)?.file.is_some() || !self.inode(number)?.names.is_empty() {
            return self.file(number);
        }
        let place = self
            .names
            .iter()
            .find(|renaming| renaming.what.gone() == Some(number))
            .ok_or_else(|| error(Errno::ENOENT))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.in_attic(place.sequence))?;
        Ok(Arc::new(file))
    }

    fn undo(&mut self, undone: Renaming) -> io::Result<()> {
        match undone.what {
            Change::Added { place, number } => {
                let path = self.path_at(&place)?;
                match self.inode(number)?.kind {
                    // Whatever is in it has no way to it any more.
                    Kind::Directory(_) => fs::remove_dir_all(path)?,
                    _ => fs::remove_file(path)?,
                }
                self.link_out(&place);
            }
            Change::Removed { place, number } => {
                fs::rename(self.in_attic(undone.sequence), self.path_at(&place)?)?;
                self.link_in(place, number);
            }
            Change::Moved {
                from,
                to,
                number,
                replaced,
            } => {
                let (source, target) = (self.path_at(&from)?, self.path_at(&to)?);
                fs::rename(&target, source)?;
                self.link_out(&to);
                self.link_in(from, number);
                if let Some(replaced) = replaced {
                    fs::rename(self.in_attic(undone.sequence), target)?;
                    self.link_in(to, replaced);
                }
            }
        }
        Ok(())
    }
}

/// How much of a write stays: up to a sector's boundary, or to any byte, but neither nothing nor
/// everything.
fn part_of(random: &mut Pcg64, range: &std::ops::Range<u64>) -> u64 {
    let size = range.end - range.start;
    if size < 2 {
        return 0;
    }
    let first = (range.start / SECTOR + 1) * SECTOR;
    let boundaries = if first < range.end {
        (range.end - 1 - first) / SECTOR + 1
    } else {
        0
    };
    if boundaries > 0 && random.random_bool(0.5) {
        return first + random.random_range(0..boundaries) * SECTOR - range.start;
    }
    random.random_range(1..size)
}

impl Inode {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            names: BTreeSet::new(),
            file: None,
            opened: 0,
        }
    }

    fn directory() -> Self {
        Self::new(Kind::Directory(BTreeMap::new()))
    }

    fn of(data: &Metadata) -> Self {
        Self::new(if data.is_dir() {
            Kind::Directory(BTreeMap::new())
        } else if data.is_file() {
            Kind::File(UndoLog::default())
        } else {
            Kind::Other
        })
    }
}
