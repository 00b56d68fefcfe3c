//! A file system of a directory's own, ext4 on a loop device, that can be shut down as a loss of power
//! shuts it down: what was not synced is gone, and mounting it again recovers its journal.
//!
//! Shut down with `EXT4_IOC_SHUTDOWN` and the flag `NOLOGFLUSH`, as `xfs_io -x -c shutdown` asks for
//! (its `GOINGDOWN` is the same request). The loop device ends with the mount, and the mount with the
//! mount namespace of the program.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Available, mounts_available, tool};

/// Bytes of the image; it is sparse, and takes on the disk what is written to it.
const SIZE: u64 = 256 << 20;
/// What such a file system has at its top of its own.
pub const LOST_FOUND: &str = "lost+found";

/// Whether such a file system can be mounted here.
///
/// # Errors
/// Why it cannot.
pub fn available() -> Available {
    static AVAILABLE: OnceLock<Available> = OnceLock::new();
    AVAILABLE
        .get_or_init(|| {
            if !nix::unistd::geteuid().is_root() {
                return Err("loop devices are root's; run as root".to_owned());
            }
            for program in ["mkfs.ext4", "xfs_io"] {
                tool::run(program, &["-V"]).map_err(|error| error.to_string())?;
            }
            let control = "/dev/loop-control";
            File::open(control).map_err(|error| {
                format!("{control} cannot be opened ({error}); modprobe loop, and run as root")
            })?;
            mounts_available()
        })
        .clone()
}

/// A directory that is a file system of its own. Dropping it takes it away; its image stays beside
/// the directory.
#[derive(Debug)]
pub struct Ext4Volume {
    path: PathBuf,
    image: PathBuf,
}

impl Ext4Volume {
    /// Mounts an empty one over an existing directory, with its image (`.img`) beside it. Call it in
    /// a mount namespace of this program's own.
    ///
    /// # Errors
    /// If it cannot be made or mounted.
    pub fn mount(path: &Path) -> io::Result<Self> {
        let image = path.with_extension("img");
        let volume = Self {
            path: fs::canonicalize(path)?,
            image,
        };
        File::create(&volume.image)?.set_len(SIZE)?;
        run("mkfs.ext4", &["-q", "-F", text(&volume.image)?])?;
        volume.attach()?;
        Ok(volume)
    }

    /// Loses power: whatever was not synced will not be there when it is mounted again, which it is
    /// at once. Nothing may have a file of it open.
    ///
    /// # Errors
    /// If it cannot be shut down, or not be mounted again.
    pub fn lose_power(&self) -> io::Result<()> {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.path)?])?;
        if fs::write(self.path.join(".quorate-shut"), "").is_ok() {
            return Err(io::Error::other("it was shut down, and takes writes"));
        }
        run("umount", &[text(&self.path)?])?;
        self.attach()
    }

    fn attach(&self) -> io::Result<()> {
        let (image, path) = (text(&self.image)?, text(&self.path)?);
        run("mount", &["-t", "ext4", "-o", "loop,noatime", image, path])
    }
}

impl Drop for Ext4Volume {
    fn drop(&mut self) {
        // Detached at least: it ends with whoever still has it open.
        let lazily = |path| run("umount", &["-l", path]);
        if let Err(error) = text(&self.path).and_then(lazily) {
            tracing::warn!(%error, "a file system is left to the end of this program");
        }
    }
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str()
        .ok_or_else(|| io::Error::other(format!("{} is no text", path.display())))
}

fn run(program: &'static str, arguments: &[&str]) -> io::Result<()> {
    tool::run(program, arguments)
        .map(drop)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// In a thread with mounts of its own, which end with it.
    fn with_own_mounts(test: impl FnOnce() + Send + 'static) {
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            test();
        });
        thread.join().unwrap();
    }

    #[test]
    fn what_is_synced_survives_a_loss_of_power_and_nothing_else() {
        if let Err(why) = available() {
            eprintln!("not tested: {why}");
            return;
        }
        with_own_mounts(|| {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("n1");
            fs::create_dir(&path).unwrap();
            let volume = Ext4Volume::mount(&path).unwrap();
            assert!(path.join(LOST_FOUND).is_dir());
            let mut log = File::create(path.join("log")).unwrap();
            log.write_all(b"synced").unwrap();
            log.sync_all().unwrap();
            File::open(&path).unwrap().sync_all().unwrap();
            log.write_all(b" and not").unwrap();
            fs::write(path.join("new"), "not synced").unwrap();
            drop(log);
            volume.lose_power().unwrap();
            assert_eq!(fs::read(path.join("log")).unwrap(), b"synced");
            assert!(!path.join("new").exists());
            // It is as good as new.
            fs::write(path.join("new"), "later").unwrap();
            drop(volume);
            assert!(!path.join("log").exists());
            let loops = fs::read_dir("/sys/block").unwrap().flatten();
            let mut backing = loops.filter_map(|device| {
                fs::read_to_string(device.path().join("loop/backing_file")).ok()
            });
            let image = path.with_extension("img");
            assert!(!backing.any(|file| Path::new(file.trim()) == image));
        });
    }
}
