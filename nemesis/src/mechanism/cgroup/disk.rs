//! How much a group may read from and write to a disk: `blkio.throttle` in version 1, `io.max` in
//! version 2.
//!
//! Version 1 holds back what a process submits itself, which includes what it syncs, and not what the
//! kernel writes later on by itself.
//!
//! Sources: `Documentation/admin-guide/cgroup-v1/blkio-controller.rst` and `cgroup-v2.rst` of Linux.

use std::fmt;
use std::io;
use std::path::Path;
use std::{fs, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Group, Version, existing};

/// A block device by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Of its driver; 0 is no block device.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(':');
        let parsed = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.trim().parse().ok()?)));
        let (major, minor) = parsed.ok_or_else(|| format!("{text:?} names no device"))?;
        Ok(Self { major, minor })
    }
}

impl Device {
    /// The disk behind a path, as a process of this number sees it: the whole disk, if that is
    /// partitioned.
    ///
    /// # Errors
    /// If the path is on no disk of this machine, with what it is on.
    pub fn behind(pid: u32, path: &Path) -> Result<Self, String> {
        let file = format!("/proc/{pid}/mountinfo");
        let mounts = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let (device, kind) = mounted(&mounts, path)
            .ok_or_else(|| format!("{} is on no mount of process {pid}", path.display()))?;
        if device.major == 0 {
            return Err(format!(
                "{} is on {kind}, which is no disk of this node",
                path.display()
            ));
        }
        // A limit is one of whole disks.
        let known = Path::new("/sys/dev/block").join(device.to_string());
        if !known.join("partition").exists() {
            return Ok(device);
        }
        let disk = fs::canonicalize(&known)
            .ok()
            .and_then(|part| fs::read_to_string(part.parent()?.join("dev")).ok());
        disk.and_then(|disk| disk.trim().parse().ok())
            .ok_or_else(|| format!("the disk that {device} is a part of was not found"))
    }
}

/// On which device, and what kind of file system, a path is, by the text of a `mountinfo`.
fn mounted(mounts: &str, path: &Path) -> Option<(Device, String)> {
    let mut best: Option<(usize, Device, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(_), Some(point)) = (fields.nth(2), fields.next(), fields.next())
        else {
            continue;
        };
        let point = point.replace("\\040", " ");
        let kind = line
            .split_once(" - ")
            .and_then(|(_, rest)| rest.split(' ').next());
        let (Ok(device), true) = (device.parse(), path.starts_with(&point)) else {
            continue;
        };
        // The last mount on a point hides those before it.
        if best
            .as_ref()
            .is_none_or(|(length, ..)| *length <= point.len())
        {
            best = Some((point.len(), device, kind.unwrap_or("?").to_owned()));
        }
    }
    best.map(|(_, device, kind)| (device, kind))
}

/// How much may be read and written, in bytes a second; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLimit {
    /// Read.
    pub read: Option<u64>,
    /// Written.
    pub write: Option<u64>,
}

const V1_READ: &str = "blkio.throttle.read_bps_device";
const V1_WRITE: &str = "blkio.throttle.write_bps_device";
const V2: &str = "io.max";

impl Group {
    /// Whether disks can be limited for it.
    pub fn limits_disks(&self) -> bool {
        let file = match self.version {
            Version::V1 => V1_WRITE,
            Version::V2 => V2,
        };
        self.path.join(file).exists()
    }

    /// How much it may read from and write to a disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn disk_limit(&self, device: Device) -> io::Result<DiskLimit> {
        Ok(match self.version {
            Version::V1 => {
                let of = |file| -> io::Result<Option<u64>> {
                    let text = self.read(file)?;
                    Ok(line_of(&text, device).and_then(|rest| rest.trim().parse().ok()))
                };
                DiskLimit {
                    read: of(V1_READ)?,
                    write: of(V1_WRITE)?,
                }
            }
            Version::V2 => {
                let text = self.read(V2)?;
                let of = |name| named(line_of(&text, device)?, name);
                DiskLimit {
                    read: of("rbps"),
                    write: of("wbps"),
                }
            }
        })
    }

    /// Lets it read and write so much. One that does not exist needs nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn limit_disk(&self, device: Device, limit: DiskLimit) -> io::Result<()> {
        existing(match self.version {
            Version::V1 => {
                let line = |limit: Option<u64>| format!("{device} {}", limit.unwrap_or(0));
                let read = self.write(V1_READ, &line(limit.read));
                read.and_then(|()| self.write(V1_WRITE, &line(limit.write)))
            }
            Version::V2 => {
                let word = |limit: Option<u64>| limit.map_or("max".to_owned(), |it| it.to_string());
                let (read, write) = (word(limit.read), word(limit.write));
                self.write(V2, &format!("{device} rbps={read} wbps={write}"))
            }
        })
    }

    /// How many bytes it has written to a disk so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn disk_written(&self, device: Device) -> io::Result<u64> {
        let found = match self.version {
            Version::V1 => {
                let text = self.read("blkio.throttle.io_service_bytes")?;
                let wanted = format!("{device} Write ");
                let mut lines = text.lines();
                lines.find_map(|line| line.strip_prefix(&wanted)?.trim().parse().ok())
            }
            Version::V2 => {
                let text = self.read("io.stat")?;
                line_of(&text, device).and_then(|rest| named(rest, "wbytes"))
            }
        };
        // A group that has not used a disk yet does not name it.
        Ok(found.unwrap_or(0))
    }
}

/// What follows the device's numbers on its line.
fn line_of(text: &str, device: Device) -> Option<&str> {
    let wanted = format!("{device} ");
    text.lines().find_map(|line| line.strip_prefix(&wanted))
}

/// `wbps=1024 …`; nothing for `max`.
fn named(line: &str, name: &str) -> Option<u64> {
    let mut fields = line.split_whitespace().filter_map(|it| it.split_once('='));
    fields.find(|(field, _)| *field == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Device = Device {
        major: 254,
        minor: 0,
    };

    #[test]
    fn the_mount_nearest_to_a_path_counts() {
        let mounts = "1 0 0:52 / / ro - overlay overlay lowerdir=x\n\
                      2 1 254:1 /pv /data rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      3 1 0:60 / /data/tmp rw - tmpfs tmpfs rw\n\
                      4 1 254:16 / /my\\040data rw - xfs /dev/vdb rw\n";
        let at = |path: &str| {
            let (device, kind) = mounted(mounts, Path::new(path)).unwrap();
            format!("{device} {kind}")
        };
        assert_eq!(at("/data"), "254:1 ext4");
        assert_eq!(at("/data/etcd/wal"), "254:1 ext4");
        assert_eq!(at("/data/tmp/x"), "0:60 tmpfs");
        assert_eq!(at("/database"), "0:52 overlay");
        assert_eq!(at("/my data/x"), "254:16 xfs");
    }

    #[test]
    fn what_is_on_no_disk_is_refused_with_what_it_is_on() {
        let why = Device::behind(std::process::id(), Path::new("/proc/self")).unwrap_err();
        assert!(why.contains("on proc, which is no disk"), "{why}");
    }

    fn group(version: Version) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        (dir, Group { version, path })
    }

    #[test]
    fn version_1_has_a_file_for_each_direction() {
        let (dir, group) = group(Version::V1);
        assert!(!group.limits_disks());
        let file = |name: &str| dir.path().join(name);
        fs::write(file(V1_READ), "").unwrap();
        fs::write(file(V1_WRITE), "8:0 7\n254:0 4096\n").unwrap();
        assert!(group.limits_disks());
        let limit = group.disk_limit(DISK).unwrap();
        assert_eq!((limit.read, limit.write), (None, Some(4096)));
        group.limit_disk(DISK, DiskLimit::default()).unwrap();
        let written = fs::read_to_string(file(V1_WRITE)).unwrap();
        assert!(written.starts_with("254:0 0"), "{written}");
        let bytes = "254:0 Read 5\n254:0 Write 77\n254:0 Total 82\nTotal 82\n";
        fs::write(file("blkio.throttle.io_service_bytes"), bytes).unwrap();
        assert_eq!(group.disk_written(DISK).unwrap(), 77);
    }

    #[test]
    fn version_2_has_one_line_a_disk() {
        let (dir, group) = group(Version::V2);
        let file = |name: &str| dir.path().join(name);
        fs::write(
            file(V2),
            "8:0 rbps=1 wbps=2\n254:0 rbps=max wbps=65536 riops=max wiops=9\n",
        )
        .unwrap();
        let limit = group.disk_limit(DISK).unwrap();
        assert_eq!((limit.read, limit.write), (None, Some(65536)));
        fs::write(file("io.stat"), "254:0 rbytes=1 wbytes=123 rios=1\n").unwrap();
        assert_eq!(group.disk_written(DISK).unwrap(), 123);
        let limit = DiskLimit {
            read: None,
            write: Some(1024),
        };
        group.limit_disk(DISK, limit).unwrap();
        let written = fs::read_to_string(file(V2)).unwrap();
        assert!(written.starts_with("254:0 rbps=max wbps=1024"), "{written}");
    }
}
