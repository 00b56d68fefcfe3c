//! What is done to data, without a layer.

use std::fs;
use std::time::Duration;

use nemesis::{DiskFault, Stored};

use super::copies::Shelf;
use super::probe::{Seen, probe, works};
use super::{Needs, damage};
use crate::local::data::DataDir;

fn data_dir() -> (tempfile::TempDir, DataDir) {
    let scratch = tempfile::tempdir().unwrap();
    let data = DataDir::create(scratch.path().join("n1"), 1).unwrap();
    (scratch, data)
}

#[test]
fn one_bit_of_the_log_is_flipped_and_nothing_else() {
    let (_scratch, data) = data_dir();
    let path = data.path().join("wal");
    let before: Vec<u8> = (0..200).collect();
    fs::write(&path, &before).unwrap();
    fs::write(data.path().join("0001.snap"), [7; 50]).unwrap();
    let text = damage::flip(&data, Stored::Log, 5).unwrap();
    assert!(text.contains("of the log in wal is flipped"), "{text}");
    let now = fs::read(&path).unwrap();
    let flipped: u32 = before
        .iter()
        .zip(&now)
        .map(|(b, n)| (b ^ n).count_ones())
        .sum();
    assert_eq!((flipped, now.len()), (1, 200));
    assert_eq!(fs::read(data.path().join("0001.snap")).unwrap(), [7; 50]);

    let text = damage::flip(&data, Stored::Snapshot, 5).unwrap();
    assert!(text.contains("of the snapshot in 0001.snap"), "{text}");
    assert_ne!(fs::read(data.path().join("0001.snap")).unwrap(), [7; 50]);
    assert_eq!(fs::read(&path).unwrap(), now);
    fs::remove_file(data.path().join("0001.snap")).unwrap();
    damage::flip(&data, Stored::Snapshot, 5).unwrap_err();
    fs::remove_file(path).unwrap();
    damage::flip(&data, Stored::Log, 5).unwrap_err();
}

#[test]
fn the_youngest_copy_that_is_old_enough_is_put_back() {
    let (scratch, mut data) = data_dir();
    let needs = Needs {
        copies: Some((Duration::ZERO, Duration::from_secs(600))),
        ..Needs::default()
    };
    data.prepare(&needs, 1).unwrap();
    let journal = data.path().join("journal");
    fs::create_dir(data.path().join("sub")).unwrap();
    fs::write(data.path().join("sub/file"), "x").unwrap();
    fs::write(&journal, "one").unwrap();
    data.take_copy().unwrap();
    fs::write(&journal, "one two").unwrap();
    data.take_copy().unwrap();
    fs::write(&journal, "one two three").unwrap();
    fs::remove_dir_all(data.path().join("sub")).unwrap();
    let (_, files) = data.put_back(Duration::ZERO).unwrap().unwrap();
    assert_eq!(files, 2);
    assert_eq!(fs::read(&journal).unwrap(), b"one two");
    assert_eq!(fs::read(data.path().join("sub/file")).unwrap(), b"x");
    // There is none that old: nothing is left.
    assert_eq!(data.put_back(Duration::from_secs(500)).unwrap(), None);
    assert_eq!(data.count().unwrap(), 0);
    drop(data);
    assert!(!scratch.path().join("n1.copies").exists());
}

#[test]
fn copies_that_nobody_asks_for_are_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("copies");
    let mut shelf = Shelf::create(folder.clone(), Duration::ZERO).unwrap();
    for _ in 0..5 {
        shelf.add(|_| Ok(())).unwrap();
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    shelf.add(|_| Err(std::io::Error::other("no"))).unwrap_err();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert!(shelf.find(Duration::ZERO).is_some());
    assert!(shelf.find(Duration::from_secs(60)).is_none());
}

#[test]
fn a_disk_that_works_proves_no_fault() {
    let scratch = tempfile::tempdir().unwrap();
    works(scratch.path()).unwrap();
    for fault in [
        DiskFault::Full,
        DiskFault::ReadOnly,
        DiskFault::FsyncError,
        DiskFault::Slow(60_000),
    ] {
        let seen = probe(scratch.path(), fault);
        assert!(matches!(seen, Seen::Works(_)), "{fault:?}: {seen:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}
