//! The journal on disk: one file of checksummed records, appended to.
//!
//! Format: the 8 bytes `QRTJRNL\n`, a version (u32); then records, each `[length u32][crc32 u32]
//! [payload]`, all numbers little-endian, the checksum over the payload, the payload a
//! [`Record`] in postcard.
//!
//! What a crash leaves at the end of the file, half a record or bytes never written, is cut off at
//! the next start. A record that does not check but has a good one after it is no torn tail: then
//! the disk or somebody has damaged the file, and to go on would be to forget what was promised.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::core::Record;

/// Version of the journal's format, the layout of records in it included: to be raised with every
/// change of either.
pub const JOURNAL_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"QRTJRNL\n";
const HEADER_BYTES: usize = 12;
const PREFIX_BYTES: usize = 8;

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It is something else.
    #[error("{} is not a journal", .0.display())]
    NotAJournal(PathBuf),
    /// It is of another version of this program.
    #[error(
        "{} has format version {found}, this program reads version {JOURNAL_VERSION} alone; run the \
         version of the program that wrote it, or start the node with an empty folder",
        path.display()
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is damaged in the middle.
    #[error(
        "{} is corrupt: the record at byte {offset} does not check, but the one at byte {next} \
         does; restore the file from a copy; without it the node forgets what it acknowledged",
        path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where the bad record begins.
        offset: usize,
        /// Where a good one begins again.
        next: usize,
    },
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    /// Held for as long as the journal is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal in a folder, or makes one, and reads what survived.
    pub fn open(folder: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        fs::create_dir_all(folder).map_err(fault("create", folder))?;
        let lock_path = folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(fault("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse(folder.to_owned()),
            TryLockError::Error(source) => fault("lock", &lock_path)(source),
        })?;

        let path = folder.join("journal");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fault("read", &path)(error)),
        };
        let (records, good) = if bytes.len() < HEADER_BYTES && header().starts_with(&bytes) {
            (Vec::new(), 0)
        } else {
            read_header(&path, &bytes)?;
            read_records(&path, &bytes)?
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(fault("open", &path))?;
        let mut journal = Self {
            folder: folder.to_owned(),
            path,
            file,
            _lock: lock,
        };
        if good < bytes.len() {
            tracing::warn!(
                offset = good,
                bytes = bytes.len() - good,
                "cut off a torn tail of the journal"
            );
            journal.attempt("truncate", |file| file.set_len(good as u64))?;
        }
        if good == 0 {
            journal.append(&header())?;
            journal.sync()?;
            journal.sync_folder()?;
        } else if !records.is_empty() {
            // What was read may be in the page cache alone: the process before this one may have
            // been killed before its sync, or ended because its sync failed, and then no later sync
            // writes these pages. Who goes on from here promises what was read, so it is written
            // again (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
            journal.replace(&records)?;
        }
        tracing::info!(
            records = records.len(),
            bytes = good,
            "recovered the journal"
        );
        Ok((journal, records))
    }

    /// Adds encoded records.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.attempt("write to", |mut file| file.write_all(bytes))
    }

    /// Makes everything added so far durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.attempt("sync", File::sync_data)
    }

    /// Replaces the whole, atomically and durably.
    pub fn replace(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut bytes = header().to_vec();
        for record in records {
            encode(record, &mut bytes);
        }
        let path = self.folder.join("journal.new");
        let mut file = File::create(&path).map_err(fault("create", &path))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(fault("write", &path))?;
        fs::rename(&path, &self.path).map_err(fault("rename", &path))?;
        self.sync_folder()?;
        self.file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(fault("open", &self.path))?;
        Ok(())
    }

    fn sync_folder(&self) -> Result<(), JournalError> {
        File::open(&self.folder)
            .and_then(|f| f.sync_all())
            .map_err(fault("sync", &self.folder))
    }

    fn attempt(
        &self,
        what: &'static str,
        action: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        action(&self.file).map_err(fault(what, &self.path))
    }
}

fn fault(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { what, path, source }
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&JOURNAL_VERSION.to_le_bytes());
    header
}

/// Adds a record as it stands in the file.
pub(super) fn encode(record: &Record, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend([0; PREFIX_BYTES]);
    // Writing to memory does not fail, and every record has a known length.
    *bytes = postcard::to_extend(record, std::mem::take(bytes)).unwrap_or_default();
    let payload = bytes.get(start + PREFIX_BYTES..).unwrap_or_default();
    let (length, checksum) = (payload.len() as u32, crc32fast::hash(payload));
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + PREFIX_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    if !bytes.starts_with(MAGIC) {
        return Err(JournalError::NotAJournal(path.to_owned()));
    }
    match number(bytes, 8) {
        Some(JOURNAL_VERSION) => Ok(()),
        Some(found) => Err(JournalError::Version {
            path: path.to_owned(),
            found,
        }),
        None => Err(JournalError::NotAJournal(path.to_owned())),
    }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The record at an offset and the offset after it, if it checks.
fn read_record(bytes: &[u8], offset: usize) -> Option<(Record, usize)> {
    let length = number(bytes, offset)? as usize;
    let checksum = number(bytes, offset + 4)?;
    let start = offset + PREFIX_BYTES;
    let payload = bytes.get(start..start.checked_add(length)?)?;
    if length == 0 || crc32fast::hash(payload) != checksum {
        return None;
    }
    Some((postcard::from_bytes(payload).ok()?, start + length))
}

/// Where in the bytes of a journal the newest snapshot is, if it has one.
pub fn newest_snapshot(bytes: &[u8]) -> Option<Range<usize>> {
    let mut newest = None;
    let mut offset = HEADER_BYTES;
    while let Some((record, next)) = read_record(bytes, offset) {
        if record.is_snapshot() {
            newest = Some(offset..next);
        }
        offset = next;
    }
    newest
}

/// All good records and where they end.
fn read_records(path: &Path, bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut records = Vec::new();
    let mut offset = HEADER_BYTES;
    while let Some((record, next)) = read_record(bytes, offset) {
        records.push(record);
        offset = next;
    }
    match (offset + 1..bytes.len()).find(|next| read_record(bytes, *next).is_some()) {
        Some(next) => Err(JournalError::Corrupt {
            path: path.to_owned(),
            offset,
            next,
        }),
        None => Ok((records, offset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::single_leader::{Entry, Record as LeaderRecord};
    use crate::core::{Op, Position, Scalar};
    use crate::server::tests::Folder;

    fn record(index: u64) -> Record {
        let position = Position {
            epoch: 1,
            leader: 1,
            index,
        };
        let op = Some(Op::Write("key".into(), Scalar::Int(index as i64)));
        Record::SingleLeader(LeaderRecord::Entry(Entry { position, op }.into()))
    }

    fn encoded(records: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            encode(record, &mut bytes);
        }
        bytes
    }

    fn same(a: &[Record], b: &[Record]) -> bool {
        encoded(a) == encoded(b)
    }

    /// A folder with a journal of these bytes after the header.
    fn holding(bytes: &[u8]) -> Folder {
        let folder = Folder::new();
        fs::create_dir_all(folder.path()).unwrap();
        let whole = [&header()[..], bytes].concat();
        fs::write(folder.path().join("journal"), whole).unwrap();
        folder
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = Folder::new();
        let records: Vec<Record> = (1..4).map(record).collect();
        let (mut journal, found) = Journal::open(folder.path()).unwrap();
        assert!(found.is_empty());
        journal.append(&encoded(&records)).unwrap();
        journal.sync().unwrap();
        assert!(matches!(
            Journal::open(folder.path()),
            Err(JournalError::InUse(_))
        ));
        drop(journal);
        let (mut journal, found) = Journal::open(folder.path()).unwrap();
        assert!(same(&found, &records));
        journal.replace(&records[1..]).unwrap();
        journal.append(&encoded(&[record(4)])).unwrap();
        drop(journal);
        let (_, found) = Journal::open(folder.path()).unwrap();
        assert!(same(&found, &[record(2), record(3), record(4)]));
    }

    #[test]
    fn what_is_read_at_the_start_is_written_again() {
        use std::os::unix::fs::MetadataExt;

        let folder = holding(&encoded(&[record(1), record(2)]));
        let path = folder.path().join("journal");
        // Held, so that its number is not used again.
        let before = File::open(&path).unwrap();
        drop(Journal::open(folder.path()).unwrap());
        let after = fs::metadata(&path).unwrap();
        assert_ne!(before.metadata().unwrap().ino(), after.ino());
        assert_eq!(before.metadata().unwrap().len(), after.len());
    }

    #[test]
    fn the_newest_snapshot_is_found() {
        let snapshot = || {
            let snapshot = crate::core::single_leader::Snapshot {
                position: Position::default(),
                beginnings: Vec::new(),
                store: crate::core::store::Store::default(),
            };
            Record::SingleLeader(LeaderRecord::Snapshot(snapshot.into()))
        };
        let bytes = |records: &[Record]| [&header()[..], &encoded(records)].concat();
        assert_eq!(newest_snapshot(&bytes(&[record(1)])), None);
        let start = HEADER_BYTES + encoded(&[snapshot(), record(1)]).len();
        let all = bytes(&[snapshot(), record(1), snapshot(), record(2)]);
        let end = start + encoded(&[snapshot()]).len();
        assert_eq!(newest_snapshot(&all), Some(start..end));
    }

    #[test]
    fn a_torn_tail_is_cut_off_wherever_it_tears() {
        let records: Vec<Record> = (1..4).map(record).collect();
        let (bytes, good) = (encoded(&records), encoded(&records[..2]));
        for end in good.len()..bytes.len() {
            let folder = holding(&bytes[..end]);
            let (mut journal, found) = Journal::open(folder.path()).unwrap();
            assert!(same(&found, &records[..2]), "cut at {end}");
            journal.append(&encoded(&[record(9)])).unwrap();
            drop(journal);
            let (_, found) = Journal::open(folder.path()).unwrap();
            assert!(
                same(&found, &[record(1), record(2), record(9)]),
                "cut at {end}"
            );
        }
        // So are zeros that the file system left, and a header half written.
        let folder = holding(&[&good[..], &[0; 100]].concat());
        assert!(same(
            &Journal::open(folder.path()).unwrap().1,
            &records[..2]
        ));
        fs::write(folder.path().join("journal"), &header()[..5]).unwrap();
        assert!(Journal::open(folder.path()).unwrap().1.is_empty());
        assert!(Journal::open(folder.path()).unwrap().1.is_empty());
    }

    #[test]
    fn damage_in_the_middle_is_refused() {
        let records: Vec<Record> = (1..4).map(record).collect();
        let (bytes, second) = (encoded(&records), encoded(&records[..1]).len());
        for place in second..encoded(&records[..2]).len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x41;
            let folder = holding(&damaged);
            let error = Journal::open(folder.path()).unwrap_err();
            let JournalError::Corrupt { offset, .. } = error else {
                panic!("damage at {place}: {error}");
            };
            assert_eq!(offset, HEADER_BYTES + second);
            assert!(error.to_string().contains("corrupt"), "{error}");
        }
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        let folder = holding(&[]);
        let path = folder.path().join("journal");
        for other in [JOURNAL_VERSION - 1, JOURNAL_VERSION + 1] {
            let mut written = [&header()[..], &encoded(&[record(1)])].concat();
            written[8..HEADER_BYTES].copy_from_slice(&other.to_le_bytes());
            fs::write(&path, &written).unwrap();
            let error = Journal::open(folder.path()).unwrap_err();
            let JournalError::Version { found, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*found, other);
            let says = format!("has format version {other}, this program reads version 2 alone");
            assert!(error.to_string().contains(&says), "{error}");
            assert_eq!(fs::read(&path).unwrap(), written, "it is left as it was");
        }
        fs::write(&path, "Dear diary, today").unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        assert!(matches!(error, JournalError::NotAJournal(_)), "{error}");
    }
}
