//! What disks do: lose what was not synced, tear, fill up, refuse, dawdle.
//!
//! A [`DiskLayer`] is mounted by FUSE over the directory of a node, at the same path. It passes
//! everything through to the real directory below, and knows what of it is not on the disk yet.
//!
//! # What is durable
//! What POSIX promises, and no more:
//!
//! * the content and the length of a file that was synced (`fsync`, `fdatasync`, `O_SYNC`, `msync`),
//!   as they were when the sync began;
//! * the names in a directory that was synced. A sync of a file does **not** make its name durable,
//!   as it happens to on ext4. A rename is never half done: between two directories it is durable
//!   when either is synced.
//!
//! Permissions, owners and times count as durable at once. `sync` and `syncfs` do not reach a file
//! system in user space and so make nothing durable here.
//!
//! # What power loss leaves
//! Nothing of what was not synced ([`Tail::None`]); or ([`Tail::Random`]) what a kernel may have written
//! back by itself: of each file the oldest changes, of all names the oldest changes, as a
//! journalling file system commits them in order, each drawn by a seed. The first write of a file
//! that is lost may be torn: kept up to a sector's boundary, or up to any byte.
//!
//! # A sync that fails
//! It returns `EIO` once for every call, and what it was to write is clean from then on, without being
//! on the disk: programs still read it, and it is gone after the next loss of power, even if a later
//! sync succeeds, unless its page is written again. That is what Linux does (Rebello et al., "Can
//! Applications Recover from fsync Failures?", USENIX ATC 2020). A sync of a directory that fails
//! leaves its names as they were: not durable.
//!
//! # What is not done
//! A directory that is moved into another one is put back only if that one is still there: where the
//! name of the other is not durable either, losing power fails with an error, and the fault counts
//! as not proven. Stores rename files.
//!
//! # Costs
//! Nothing is copied for an append; an overwrite keeps the bytes overwritten, a removal the file
//! removed, both until the next sync. The design owes its questions to `LazyFS` and its answer, a log
//! that undoes instead of a cache that is lost, to the wish that a layer that goes away leaves the
//! directory as programs saw it.
//!
//! # Where it can be mounted
//! In mounts of the program's own ([`super::namespace::enter`]), so that the kernel removes it with
//! the program, however that ends. `fusermount` is not used: its mounts outlive who asked for them.

pub mod ext4;
mod extents;
mod session;
mod undo;
mod volume;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};

use self::session::{Passing, Shared};
use self::volume::Volume;
use super::{Available, tool};
use crate::DiskFault;

pub use self::session::Counters;
pub use self::volume::{ATTIC, Loss, PROBE, Tail};

/// Requests that are worked on at once: with fewer, one that waits holds up the others.
const THREADS: usize = 4;
const DEVICE: &str = "/dev/fuse";

/// What of a directory is not on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// Writes and changes of length.
    pub changes: usize,
    /// Bytes that these have written.
    pub bytes: u64,
    /// Files created, removed or renamed.
    pub names: usize,
    /// Whether one of the writes can be torn.
    pub can_tear: bool,
}

/// A directory under a layer. Dropping it takes the layer away; the directory then holds what
/// programs saw.
#[derive(Debug)]
pub struct DiskLayer {
    path: PathBuf,
    /// The device number that tells this mount from any other at the same place.
    device: u64,
    shared: Arc<Shared>,
    /// The real directory, which the mount hides.
    _below: File,
}

/// Whether a layer can be mounted here.
///
/// # Errors
/// Why it cannot.
pub fn available() -> Available {
    static AVAILABLE: std::sync::OnceLock<Available> = std::sync::OnceLock::new();
    AVAILABLE
        .get_or_init(|| {
            open_device().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no {DEVICE} (modprobe fuse)")
                }
                _ => format!("{DEVICE} cannot be opened ({error}); run as root"),
            })?;
            mounts_available()
        })
        .clone()
}

/// Whether a program can have mounts of its own here.
fn mounts_available() -> Available {
    let own = tool::run("unshare", &["-m", "--", "true"]);
    own.or_else(|_| tool::run("unshare", &["-U", "-r", "-m", "--", "true"]))
        .map(drop)
        .map_err(|error| {
            format!(
                "mounts of its own are not allowed ({error}); run as root, or allow them with \
                 sysctl kernel.unprivileged_userns_clone=1"
            )
        })
}

fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

impl DiskLayer {
    /// Puts a layer over a directory. Everything in it counts as durable.
    ///
    /// # Errors
    /// When it cannot be mounted; see [`available`].
    pub fn mount(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let below = File::open(&path)?;
        let mode = below.metadata()?.mode();
        // Through the descriptor, which the mount does not cover.
        let root = PathBuf::from(format!("/proc/self/fd/{}/.", below.as_raw_fd()));
        let shared = Arc::new(Shared::new(Volume::open(root)?));
        let device = open_device()?;
        let options = format!(
            "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            mode,
            geteuid(),
            getegid()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(
            Some(super::MARK),
            &path,
            Some("fuse.quorate"),
            flags,
            Some(options.as_str()),
        )?;
        let mut layer = Self {
            path,
            device: 0,
            shared,
            _below: below,
        };
        let started = layer.serve(device);
        if started.is_err() {
            // It is ours, as nothing can have been mounted here since.
            let _ = umount2(&layer.path, MntFlags::MNT_DETACH);
        }
        started?;
        layer.device = fs::metadata(&layer.path)?.dev();
        Ok(layer)
    }

    fn serve(&self, device: File) -> io::Result<()> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        let passing = Passing::new(Arc::clone(&self.shared));
        let acl = fuser::SessionACL::Owner;
        // Its threads end when the kernel has no more use for the mount.
        fuser::Session::from_fd(passing, device.into(), acl, config)?.spawn()?;
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the disk misbehave, under a number to heal it by.
    pub fn inject(&self, id: u32, fault: DiskFault) {
        self.shared
            .change(|control| control.faults.insert(id, fault));
    }

    /// Lets it be; whether it did misbehave.
    pub fn heal(&self, id: u32) -> bool {
        self.shared
            .change(|control| control.faults.remove(&id).is_some())
    }

    /// Whether this fault stands.
    pub fn has(&self, id: u32) -> bool {
        self.shared.control().faults.contains_key(&id)
    }

    /// The other faults that stand.
    pub fn faults(&self) -> Vec<(u32, DiskFault)> {
        let control = self.shared.control();
        control.faults.iter().map(|(&id, &of)| (id, of)).collect()
    }

    /// Lets no sync end, so that what is written now is lost when power is. Those that wait end with
    /// [`DiskLayer::release_syncs`], or fail with [`DiskLayer::cut_power`].
    pub fn hold_syncs(&self) {
        self.shared.change(|control| control.held = true);
    }

    /// Lets them go on.
    pub fn release_syncs(&self) {
        self.shared.change(|control| control.held = false);
    }

    /// Lets everything fail from now on, and nothing more become durable. To be called once the
    /// processes that use it have been killed: their end may wait for an answer.
    pub fn cut_power(&self) {
        self.shared.change(|control| control.cut = true);
    }

    /// Gives power back without having lost anything.
    pub fn restore_power(&self) {
        self.shared.change(|control| {
            control.held = false;
            control.cut = false;
        });
    }

    /// Loses what is not durable, and gives power back. Nothing may be open any more.
    ///
    /// # Errors
    /// When the real directory cannot be put in that state.
    pub fn lose(&self, tail: Tail) -> io::Result<Loss> {
        self.cut_power();
        let loss = self.shared.volume().power_loss(tail);
        self.restore_power();
        loss
    }

    /// Declares everything durable, as after `sync`.
    ///
    /// # Errors
    /// When something that was removed cannot be deleted.
    pub fn settle(&self) -> io::Result<()> {
        self.shared.volume().settle()
    }

    /// Does something while nothing is written, with the way to the real directory.
    pub fn while_still<T>(&self, what: impl FnOnce(&Path) -> T) -> T {
        let volume = self.shared.volume();
        what(volume.root())
    }

    /// What is not durable now.
    pub fn unsynced(&self) -> Unsynced {
        let volume = self.shared.volume();
        let (changes, bytes, names) = volume.unsynced();
        Unsynced {
            changes,
            bytes,
            names,
            can_tear: volume.can_tear(),
        }
    }

    /// What was done to requests so far.
    pub fn counters(&self) -> Counters {
        self.shared.control().counters
    }

    /// Whether it is what programs find at its place.
    pub fn is_mounted(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|data| data.dev() == self.device)
    }
}

impl Drop for DiskLayer {
    fn drop(&mut self) {
        // Nobody is to wait any more.
        self.restore_power();
        self.shared.change(|control| control.faults.clear());
        if self.is_mounted()
            && let Err(error) = umount2(&self.path, MntFlags::MNT_DETACH)
        {
            tracing::warn!(path = %self.path.display(), %error, "the layer stays mounted");
        }
        if let Err(error) = self.settle() {
            tracing::warn!(path = %self.path.display(), %error, "the attic is not empty");
        }
    }
}
