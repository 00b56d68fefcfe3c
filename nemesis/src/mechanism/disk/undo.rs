//! What of one file the disk does not have yet, kept as what it takes to undo it.
//!
//! A file's bytes are those that programs see. Beside them there is an [`UndoLog`]: for each change
//! since the last sync, the bytes that it replaced and the length before. An append costs a few
//! words, an overwrite the bytes overwritten; a sync empties the log.
//!
//! A sync that *fails* is worse than none, as on Linux: the pages that it was to write are clean from
//! then on, so no later sync writes them, and what the disk has of them stays. The log keeps the
//! disk's version of such pages. A page that is written again becomes dirty as a whole, and reaches
//! the disk as a whole with the next sync that succeeds (Rebello et al., "Can Applications Recover
//! from fsync Failures?", USENIX ATC 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::extents::Extents;

/// Bytes of a page, the unit in which a file is dirty.
pub(super) const PAGE: u64 = 4096;
/// Bytes of a sector, which a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;
/// Changes that are kept apart; of more, the oldest become one.
const CHANGES_MAX: usize = 1024;

/// One change since the last sync.
#[derive(Clone, Debug)]
struct Change {
    /// Its place among all changes of the file system.
    sequence: u64,
    /// The bytes that it changed.
    range: Range<u64>,
    /// The length of the file before and after.
    length: (u64, u64),
    /// What the disk has, or had, in place of it.
    old: Extents,
    /// How many bytes it wrote.
    bytes: u64,
    /// Whether it is one write, which a loss of power can tear.
    write: bool,
}

/// What power loss leaves of the changes of a file that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// How many of them, the oldest.
    pub changes: usize,
    /// How many bytes of the next one, if it is a write.
    pub torn: u64,
}

/// What power loss has taken from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Changes undone, wholly or in part.
    pub changes: usize,
    /// Bytes that these had written, less those of a torn write that stay.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    changes: Vec<Change>,
    /// What the disk has of pages that a failed sync did not write.
    lost: BTreeMap<u64, Vec<u8>>,
    /// The length that the disk knows, if a failed sync did not write a later one.
    lost_length: Option<u64>,
}

impl UndoLog {
    /// Whether the disk has everything.
    pub fn is_clean(&self) -> bool {
        self.changes.is_empty() && self.lost.is_empty() && self.lost_length.is_none()
    }

    /// How many changes are not synced.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The newest change that is not synced, if it is a write of at least two bytes: its place among
    /// all changes, and the bytes that it wrote.
    pub fn newest_write(&self) -> Option<(u64, Range<u64>)> {
        let newest = self.changes.last()?;
        (newest.write && newest.range.end - newest.range.start >= 2)
            .then(|| (newest.sequence, newest.range.clone()))
    }

    /// The bytes that one change wrote, if it is a write.
    pub fn write_at(&self, index: usize) -> Option<Range<u64>> {
        let change = self.changes.get(index)?;
        change.write.then(|| change.range.clone())
    }

    /// Bytes that all changes have written.
    pub fn bytes(&self) -> u64 {
        self.changes.iter().map(|change| change.bytes).sum()
    }

    /// Writes, and remembers how to undo it.
    pub fn write(
        &mut self,
        file: &File,
        sequence: u64,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        let before = file.metadata()?.len();
        let range = offset..offset + data.len() as u64;
        let old = self.take_old(file, &range, before)?;
        let written = file.write_all_at(data, offset);
        // Also after a failure, which may have written a part.
        let after = file.metadata()?.len();
        self.add(Change {
            sequence,
            range,
            length: (before, after),
            old,
            bytes: data.len() as u64,
            write: written.is_ok(),
        });
        written
    }

    /// Changes the length, and remembers how to undo it.
    pub fn set_len(&mut self, file: &File, sequence: u64, length: u64) -> io::Result<()> {
        let before = file.metadata()?.len();
        if before == length {
            return Ok(());
        }
        let range = before.min(length)..before.max(length);
        let old = self.take_old(file, &range, before)?;
        file.set_len(length)?;
        self.add(Change {
            sequence,
            range,
            length: (before, length),
            old,
            bytes: 0,
            write: false,
        });
        Ok(())
    }

    /// What the disk has of a range that is about to change.
    fn take_old(&mut self, file: &File, range: &Range<u64>, length: u64) -> io::Result<Extents> {
        let mut old = Extents::default();
        if range.is_empty() {
            return Ok(old);
        }
        let pages = range.start / PAGE..=(range.end - 1) / PAGE;
        let lost: Vec<u64> = self.lost.range(pages).map(|(&page, _)| page).collect();
        for page in lost {
            if let Some(bytes) = self.lost.remove(&page) {
                old.insert_under(page * PAGE, &bytes);
            }
        }
        let end = range.end.min(length);
        if range.start < end {
            let mut bytes = vec![0; (end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start)?;
            old.insert_under(range.start, &bytes);
        }
        Ok(old)
    }

    fn add(&mut self, change: Change) {
        self.changes.push(change);
        if self.changes.len() <= CHANGES_MAX {
            return;
        }
        let rest = self.changes.split_off(CHANGES_MAX / 2);
        let mut oldest = std::mem::replace(&mut self.changes, rest).into_iter();
        if let Some(mut all) = oldest.next() {
            for next in oldest {
                all.sequence = next.sequence;
                all.range.start = all.range.start.min(next.range.start);
                all.range.end = all.range.end.max(next.range.end);
                all.length.1 = next.length.1;
                all.bytes += next.bytes;
                all.write = false;
                for (offset, bytes) in next.old.iter() {
                    // What was appended since is cut off by the length.
                    let kept = all.length.0.saturating_sub(offset).min(bytes.len() as u64);
                    all.old.insert_under(offset, &bytes[..kept as usize]);
                }
            }
            self.changes.insert(0, all);
        }
    }

    /// The disk has all changes up to this place: a sync that began there succeeded.
    pub fn synced(&mut self, sequence: u64) {
        let reached = self.changes.partition_point(|c| c.sequence <= sequence);
        let newest = self.changes.drain(..reached).next_back();
        let Some((_, length)) = newest.map(|change| change.length) else {
            return;
        };
        self.lost_length = None;
        // The disk knows the length now, and has nothing after it.
        self.lost.split_off(&length.div_ceil(PAGE));
        if let Some(last) = self.lost.get_mut(&(length / PAGE)) {
            last[(length % PAGE) as usize..].fill(0);
        }
    }

    /// A sync failed: what it was to write is clean from now on, and the disk does not have it.
    pub fn failed(&mut self, file: &File) -> io::Result<()> {
        let Some(first) = self.changes.first() else {
            return Ok(());
        };
        let known = self.lost_length.unwrap_or(first.length.0);
        let mut pages = BTreeSet::new();
        for change in &self.changes {
            if !change.range.is_empty() {
                pages.extend(change.range.start / PAGE..=(change.range.end - 1) / PAGE);
            }
        }
        for page in pages {
            let range = page * PAGE..(page + 1) * PAGE;
            let mut bytes = read_padded(file, &range)?;
            for change in self.changes.iter().rev() {
                change.old.overlay(&range, &mut bytes);
            }
            let has = known.saturating_sub(range.start).min(PAGE);
            bytes[has as usize..].fill(0);
            self.lost.insert(page, bytes);
        }
        self.lost_length = Some(known);
        self.changes.clear();
        Ok(())
    }

    /// Power is lost: undoes what the disk does not have.
    pub fn power_loss(&mut self, file: &File, kept: Kept) -> io::Result<Taken> {
        let mut taken = Taken::default();
        if self.is_clean() {
            return Ok(taken);
        }
        let now = file.metadata()?.len();
        let keep = kept.changes.min(self.changes.len());
        let mut torn = None;
        for (index, change) in self.changes.iter().enumerate().skip(keep).rev() {
            if index == keep && change.write && kept.torn > 0 {
                let size = kept.torn.min(change.range.end - change.range.start);
                let range = change.range.start..change.range.start + size;
                torn = Some((range.start, read_padded(file, &range)?));
            }
            for (offset, bytes) in change.old.iter() {
                file.write_all_at(bytes, offset)?;
            }
            taken.changes += 1;
            taken.bytes += change.bytes;
        }
        for (page, bytes) in &self.lost {
            file.write_all_at(bytes, page * PAGE)?;
        }
        taken.changes += usize::from(!self.lost.is_empty() || self.lost_length.is_some());
        let length = match (keep, self.lost_length, self.changes.first()) {
            (0, Some(length), _) => length,
            (0, None, first) => first.map_or(now, |change| change.length.0),
            (keep, ..) => self.changes[keep - 1].length.1,
        };
        // Also where nothing else changed it: the lost pages were written whole.
        file.set_len(length)?;
        if let Some((offset, bytes)) = torn {
            taken.bytes -= bytes.len() as u64;
            file.write_all_at(&bytes, offset)?;
        }
        *self = Self::default();
        Ok(taken)
    }
}

/// A range of a file, with zeros where it has ended.
fn read_padded(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], range.start + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(bytes)
}
