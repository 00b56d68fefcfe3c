//! The kernel's requests, answered from a [`Volume`] as its disk's state allows.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use super::volume::Volume;
use crate::DiskFault;

/// Nothing is kept by the kernel: power loss changes what names stand for.
const AT_ONCE: Duration = Duration::ZERO;

/// What was done to requests since the layer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Refused for want of space.
    pub full: u64,
    /// Refused because the disk is read-only.
    pub read_only: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Reads, writes and syncs that were delayed.
    pub delayed: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    /// By the number of the fault.
    pub faults: BTreeMap<u32, DiskFault>,
    /// Syncs wait.
    pub held: bool,
    /// There is no power: everything fails.
    pub cut: bool,
    pub counters: Counters,
}

impl Control {
    fn has(&self, wanted: DiskFault) -> bool {
        self.faults.values().any(|fault| *fault == wanted)
    }

    fn delay(&self) -> Duration {
        let slowest = self.faults.values().filter_map(|fault| match fault {
            DiskFault::Slow(ms) => Some(*ms),
            _ => None,
        });
        Duration::from_millis(slowest.max().unwrap_or(0))
    }
}

/// What the threads of the session and the owner of the layer share.
#[derive(Debug)]
pub(super) struct Shared {
    volume: Mutex<Volume>,
    control: Mutex<Control>,
    changed: Condvar,
}

/// What is asked of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Names and attributes.
    Look,
    Read,
    /// Removes or changes, and needs no space.
    Change,
    /// Needs space.
    Grow,
    Write,
    Sync,
    /// A sync of what is durable already, which has nothing to wait for.
    IdleSync,
}

type Answer<T> = Result<T, Errno>;

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

impl Shared {
    pub fn new(volume: Volume) -> Self {
        Self {
            volume: Mutex::new(volume),
            control: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of the disk, and wakes who waits for it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Control) -> T) -> T {
        let result = change(&mut self.control());
        self.changed.notify_all();
        result
    }

    /// Waits as the disk makes one wait, and says what it refuses.
    fn pass(&self, ask: Ask) -> Answer<()> {
        let mut control = self.control();
        if matches!(ask, Ask::Read | Ask::Write | Ask::Sync | Ask::IdleSync) {
            let begun = Instant::now();
            let delay = control.delay();
            control.counters.delayed += u64::from(!delay.is_zero());
            // Looked at anew whenever something changes: a disk that is healed is quick at once.
            loop {
                let left = control.delay().min(delay).saturating_sub(begun.elapsed());
                if left.is_zero() || control.cut {
                    break;
                }
                let waited = self.changed.wait_timeout(control, left);
                control = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        while ask == Ask::Sync && control.held && !control.cut {
            let waited = self.changed.wait(control);
            control = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if control.cut {
            return Err(Errno::EIO);
        }
        if matches!(ask, Ask::Change | Ask::Grow | Ask::Write) && control.has(DiskFault::ReadOnly) {
            control.counters.read_only += 1;
            return Err(Errno::EROFS);
        }
        if matches!(ask, Ask::Grow | Ask::Write) && control.has(DiskFault::Full) {
            control.counters.full += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Whether a sync fails now; counted if it does.
    fn sync_fails(&self) -> bool {
        let mut control = self.control();
        let fails = control.has(DiskFault::FsyncError);
        control.counters.syncs_failed += u64::from(fails);
        fails
    }

    fn with<T>(&self, ask: Ask, what: impl FnOnce(&mut Volume) -> io::Result<T>) -> Answer<T> {
        self.pass(ask)?;
        let mut volume = self.volume();
        // Power may have gone while this waited for its turn.
        if self.control().cut {
            return Err(Errno::EIO);
        }
        what(&mut volume).map_err(|error| errno(&error))
    }

    /// Syncs a file or directory; its changes are durable if that succeeds and power is still there.
    fn sync(
        &self,
        number: u64,
        open: impl FnOnce(&mut Volume) -> io::Result<Arc<File>>,
        fail: impl FnOnce(&mut Volume) -> io::Result<()>,
        done: impl FnOnce(&mut Volume, u64) -> io::Result<()>,
    ) -> Answer<()> {
        let ask = if self.volume().is_durable(number) {
            Ask::IdleSync
        } else {
            Ask::Sync
        };
        let (file, until) = self.with(ask, |volume| {
            if self.sync_fails() {
                fail(volume)?;
                tracing::debug!(number, "a sync was made to fail");
                return Err(nix::errno::Errno::EIO.into());
            }
            Ok((open(volume)?, volume.now()))
        })?;
        file.sync_data().map_err(|error| errno(&error))?;
        self.with(Ask::Look, |volume| done(volume, until))?;
        self.control().counters.syncs += 1;
        Ok(())
    }
}

fn kind(data: &Metadata) -> FileType {
    FileType::from_std(data.file_type()).unwrap_or(FileType::RegularFile)
}

fn attributes(number: u64, data: &Metadata, names: u32) -> FileAttr {
    let time = |seconds: i64, nanos: i64| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let at = match seconds {
            0.. => SystemTime::UNIX_EPOCH + whole,
            _ => SystemTime::UNIX_EPOCH - whole,
        };
        at + Duration::from_nanos(nanos.unsigned_abs())
    };
    FileAttr {
        ino: INodeNo(number),
        size: data.len(),
        blocks: data.blocks(),
        atime: time(data.atime(), data.atime_nsec()),
        mtime: time(data.mtime(), data.mtime_nsec()),
        ctime: time(data.ctime(), data.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(data),
        perm: (data.mode() & 0o7777) as u16,
        nlink: names,
        uid: data.uid(),
        gid: data.gid(),
        rdev: data.rdev() as u32,
        blksize: data.blksize() as u32,
        flags: 0,
    }
}

/// Name, number and kind of each entry of a directory.
type Listing = Vec<(OsString, u64, FileType)>;

/// The file system that the kernel sees.
#[derive(Debug)]
pub(super) struct Passing {
    shared: Arc<Shared>,
    /// What open directories showed when they were opened.
    listings: Mutex<BTreeMap<u64, Listing>>,
    next: AtomicU64,
}

impl Passing {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            listings: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    fn entry(
        &self,
        ask: Ask,
        reply: ReplyEntry,
        find: impl FnOnce(&mut Volume) -> io::Result<u64>,
    ) {
        let found = self.shared.with(ask, |volume| {
            let number = find(volume)?;
            let (data, names) = volume.metadata(number)?;
            Ok(attributes(number, &data, names))
        });
        match found {
            Ok(attr) => reply.entry(&AT_ONCE, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn empty(&self, ask: Ask, reply: ReplyEmpty, what: impl FnOnce(&mut Volume) -> io::Result<()>) {
        finish(self.shared.with(ask, what), reply);
    }

    fn list(&self, directory: u64) -> Answer<Listing> {
        self.shared.with(Ask::Look, |volume| {
            let (parent, entries) = volume.list(directory)?;
            let mut listing = vec![
                (".".into(), directory, FileType::Directory),
                ("..".into(), parent, FileType::Directory),
            ];
            for (name, number) in entries {
                let (data, _) = volume.metadata(number)?;
                listing.push((name, number, kind(&data)));
            }
            Ok(listing)
        })
    }
}

fn finish(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn set_times(
    path: &Path,
    file: Option<&File>,
    accessed: Option<TimeOrNow>,
    modified: Option<TimeOrNow>,
) -> io::Result<()> {
    let time = |time| match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    let mut times = FileTimes::new();
    if let Some(accessed) = accessed {
        times = times.set_accessed(time(accessed));
    }
    if let Some(modified) = modified {
        times = times.set_modified(time(modified));
    }
    match file {
        Some(file) => file.set_times(times),
        None => File::open(path)?.set_times(times),
    }
}

impl Filesystem for Passing {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(Ask::Look, reply, |volume| volume.lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.shared.with(Ask::Look, |volume| volume.metadata(ino.0)) {
            Ok((data, names)) => reply.attr(&AT_ONCE, &attributes(ino.0, &data, names)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let number = ino.0;
        let grows = size.is_some_and(|size| {
            let now = self.shared.volume().metadata(number);
            now.is_ok_and(|(data, _)| data.len() < size)
        });
        let ask = if grows { Ask::Grow } else { Ask::Change };
        let set = self.shared.with(ask, |volume| {
            if let Some(size) = size {
                volume.set_len(number, size)?;
            }
            let (data, _) = volume.metadata(number)?;
            let file = if data.is_file() {
                Some(volume.file(number)?)
            } else {
                None
            };
            // A removed file has no path any more, but its attributes are still asked for.
            let path = volume.path(number).unwrap_or_default();
            if let Some(mode) = mode {
                let mode = Permissions::from_mode(mode & 0o7777);
                match &file {
                    Some(file) => file.set_permissions(mode)?,
                    None => fs::set_permissions(&path, mode)?,
                }
            }
            if uid.is_some() || gid.is_some() {
                match &file {
                    Some(file) => std::os::unix::fs::fchown(&**file, uid, gid)?,
                    None => std::os::unix::fs::lchown(&path, uid, gid)?,
                }
            }
            if (atime.is_some() || mtime.is_some()) && !data.is_symlink() {
                set_times(&path, file.as_deref(), atime, mtime)?;
            }
            let (data, names) = volume.metadata(number)?;
            Ok(attributes(number, &data, names))
        });
        match set {
            Ok(attr) => reply.attr(&AT_ONCE, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self
            .shared
            .with(Ask::Look, |volume| fs::read_link(volume.path(ino.0)?));
        match target {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        if mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        self.entry(Ask::Grow, reply, |volume| {
            volume.create(parent.0, name, mode & 0o7777)
        });
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        self.entry(Ask::Grow, reply, |volume| {
            volume.make_directory(parent.0, name, mode & 0o7777)
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Ask::Change, reply, |volume| {
            volume.remove(parent.0, name, false)
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Ask::Change, reply, |volume| {
            volume.remove(parent.0, name, true)
        });
    }

    fn symlink(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.entry(Ask::Grow, reply, |volume| {
            volume.symlink(parent.0, name, target)
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags == RenameFlags::RENAME_NOREPLACE;
        if !keep && !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.empty(Ask::Change, reply, |volume| {
            volume.rename((parent.0, name), (new_parent.0, new_name), !keep)
        });
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(Ask::Grow, reply, |volume| {
            volume.link(ino.0, new_parent.0, new_name)?;
            Ok(ino.0)
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let ask = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => Ask::Look,
            _ => Ask::Change,
        };
        match self.shared.with(ask, |volume| volume.opened(ino.0)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let created = self.shared.with(Ask::Grow, |volume| {
            let number = volume.create(parent.0, name, mode & 0o7777)?;
            volume.opened(number)?;
            let (data, names) = volume.metadata(number)?;
            Ok(attributes(number, &data, names))
        });
        match created {
            Ok(attr) => reply.created(
                &AT_ONCE,
                &attr,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.shared.with(Ask::Read, |volume| {
            let file = volume.file(ino.0)?;
            let mut bytes = vec![0; size as usize];
            let mut filled = 0;
            while filled < bytes.len() {
                match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                    0 => break,
                    more => filled += more,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .shared
            .with(Ask::Write, |volume| volume.write(ino.0, offset, data));
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.volume().closed(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let number = ino.0;
        let synced = self.shared.sync(
            number,
            |volume| volume.file(number),
            |volume| volume.sync_failed(number),
            |volume, until| {
                volume.synced(number, until);
                Ok(())
            },
        );
        finish(synced, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.list(ino.0) {
            Ok(listing) => {
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
                listings.insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            // Also after `rewinddir`, which shows what is there now.
            match self.list(ino.0) {
                Ok(listing) => drop(listings.insert(handle.0, listing)),
                Err(errno) => return reply.error(errno),
            }
        }
        let listing = listings.get(&handle.0).map(Vec::as_slice);
        let rest = listing.unwrap_or_default().iter().enumerate();
        for (index, (name, number, kind)) in rest.skip(offset as usize) {
            if reply.add(INodeNo(*number), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        listings.remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let number = ino.0;
        let synced = self.shared.sync(
            number,
            |volume| Ok(Arc::new(File::open(volume.path(number)?)?)),
            |_| Ok(()),
            |volume, until| volume.directory_synced(number, until),
        );
        finish(synced, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let full = self.shared.control().has(DiskFault::Full);
        let asked = self.shared.with(Ask::Look, |volume| {
            Ok(nix::sys::statvfs::statvfs(
                &volume.path(super::volume::ROOT)?,
            )?)
        });
        match asked {
            Ok(on) => reply.statfs(
                on.blocks(),
                if full { 0 } else { on.blocks_free() },
                if full { 0 } else { on.blocks_available() },
                on.files(),
                on.files_free(),
                on.block_size() as u32,
                on.name_max() as u32,
                on.fragment_size() as u32,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keeps_size = mode & nix::libc::FALLOC_FL_KEEP_SIZE != 0;
        if mode & !nix::libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.empty(Ask::Grow, reply, |volume| {
            let (data, _) = volume.metadata(ino.0)?;
            let end = offset.saturating_add(length);
            if !keeps_size && end > data.len() {
                volume.set_len(ino.0, end)?;
            }
            Ok(())
        });
    }
}
