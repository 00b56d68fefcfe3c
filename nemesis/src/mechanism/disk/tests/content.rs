//! The content of one file, against a model of a page cache.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;

use proptest::prelude::*;

use super::super::undo::PAGE;
use super::super::volume::{Loss, ROOT, Tail, Volume};
use super::volume;

const PAGE_BYTES: usize = PAGE as usize;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, length: usize },
    SetLength(usize),
    Sync,
    FailedSync,
}

/// Around the ends of pages, where it is easy to be wrong.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..40usize,
        (0..3usize, 0..24usize).prop_map(|(page, more)| page * PAGE_BYTES + PAGE_BYTES + more - 12),
    ]
}

fn step(fails: bool) -> impl Strategy<Value = Step> {
    let length = prop_oneof![1..30usize, PAGE_BYTES - 10..2 * PAGE_BYTES + 10];
    prop_oneof![
        6 => (place(), length).prop_map(|(offset, length)| Step::Write { offset, length }),
        2 => place().prop_map(Step::SetLength),
        2 => Just(Step::Sync),
        if fails { 2 } else { 0 } => Just(Step::FailedSync),
    ]
}

/// A file in a page cache over a disk, as Linux has it.
#[derive(Debug, Default)]
struct PageCache {
    cache: Vec<u8>,
    dirty: BTreeSet<usize>,
    changed: bool,
    disk: BTreeMap<usize, Vec<u8>>,
    disk_length: usize,
}

impl PageCache {
    fn touch(&mut self, start: usize, end: usize) {
        self.changed = true;
        if start < end {
            self.dirty
                .extend(start / PAGE_BYTES..=(end - 1) / PAGE_BYTES);
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(data);
        self.touch(offset, end);
    }

    fn set_length(&mut self, length: usize) {
        let before = self.cache.len();
        if before != length {
            self.cache.resize(length, 0);
            self.touch(before.min(length), before.max(length));
        }
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            let start = (page * PAGE_BYTES).min(self.cache.len());
            let end = (start + PAGE_BYTES).min(self.cache.len());
            let mut bytes = self.cache[start..end].to_vec();
            bytes.resize(PAGE_BYTES, 0);
            self.disk.insert(page, bytes);
        }
        if std::mem::take(&mut self.changed) {
            self.disk_length = self.cache.len();
            // What is cut off is free, and reads as zeros should the file grow again.
            self.disk.split_off(&self.disk_length.div_ceil(PAGE_BYTES));
            if let Some(last) = self.disk.get_mut(&(self.disk_length / PAGE_BYTES)) {
                last[self.disk_length % PAGE_BYTES..].fill(0);
            }
        }
    }

    fn failed_sync(&mut self) {
        self.dirty.clear();
        self.changed = false;
    }

    fn on_disk(&self) -> Vec<u8> {
        let mut all = vec![0; self.disk_length];
        for (page, bytes) in &self.disk {
            let start = page * PAGE_BYTES;
            if start < all.len() {
                let end = (start + PAGE_BYTES).min(all.len());
                all[start..end].copy_from_slice(&bytes[..end - start]);
            }
        }
        all
    }
}

/// Bytes that tell each write from all others.
fn data(index: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (1 + (index * 37 + i * 11) % 255) as u8)
        .collect()
}

/// Says where two contents differ, and not all of both.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differ = left.iter().zip(right).position(|(l, r)| l != r);
    if differ.is_some() || left.len() != right.len() {
        eprintln!(
            "{} and {} bytes; first at {differ:?}",
            left.len(),
            right.len()
        );
    }
    left == right
}

fn new_file(volume: &mut Volume) -> u64 {
    let number = volume.create(ROOT, OsStr::new("f"), 0o644).unwrap();
    volume.directory_synced(ROOT, volume.now()).unwrap();
    number
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// With failing syncs, and nothing left of what the disk does not have.
    #[test]
    fn power_loss_leaves_what_the_disk_has(steps in prop::collection::vec(step(true), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = volume(folder.path());
        let number = new_file(&mut volume);
        let mut model = PageCache::default();
        for (index, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { offset, length } => {
                    let data = data(index, length);
                    volume.write(number, offset as u64, &data).unwrap();
                    model.write(offset, &data);
                }
                Step::SetLength(length) => {
                    volume.set_len(number, length as u64).unwrap();
                    model.set_length(length);
                }
                Step::Sync => {
                    volume.synced(number, volume.now());
                    model.sync();
                }
                Step::FailedSync => {
                    volume.sync_failed(number).unwrap();
                    model.failed_sync();
                }
            }
            // Programs see everything all the time.
            prop_assert!(same(&fs::read(folder.path().join("f")).unwrap(), &model.cache));
        }
        volume.power_loss(Tail::None).unwrap();
        prop_assert!(same(&fs::read(folder.path().join("f")).unwrap(), &model.on_disk()));
        // What is there now is on the disk.
        prop_assert_eq!(volume.power_loss(Tail::None).unwrap(), Loss::default());
    }

    /// Of the changes since the last sync the oldest may be left, and a part of the next.
    #[test]
    fn what_is_left_of_the_tail_is_a_prefix(
        steps in prop::collection::vec(step(false), 1..30),
        seed: u64,
        tear: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = volume(folder.path());
        let number = new_file(&mut volume);
        let mut model = PageCache::default();
        // The content after each change since the last sync, and what the next change wrote.
        let mut states = vec![(Vec::new(), None)];
        for (index, step) in steps.iter().enumerate() {
            match *step {
                Step::Write { offset, length } => {
                    let data = data(index, length);
                    volume.write(number, offset as u64, &data).unwrap();
                    model.write(offset, &data);
                    states.last_mut().unwrap().1 = Some((offset, data));
                    states.push((model.cache.clone(), None));
                }
                Step::SetLength(length) => {
                    volume.set_len(number, length as u64).unwrap();
                    model.set_length(length);
                    states.push((model.cache.clone(), None));
                }
                Step::Sync | Step::FailedSync => {
                    volume.synced(number, volume.now());
                    states = vec![(model.cache.clone(), None)];
                }
            }
        }
        let can_tear = volume.can_tear();
        let tail = if tear { Tail::Torn(seed) } else { Tail::Random(seed) };
        let loss = volume.power_loss(tail).unwrap();
        let left = fs::read(folder.path().join("f")).unwrap();
        let whole = states.iter().any(|(state, _)| *state == left);
        let torn = loss.torn.as_ref().is_some_and(|(_, kept, of)| {
            assert!(0 < *kept && kept < of);
            states.iter().any(|(state, next)| {
                let Some((offset, data)) = next else {
                    return false;
                };
                if data.len() as u64 != *of {
                    return false;
                }
                let mut state = state.clone();
                let end = offset + *kept as usize;
                state.resize(state.len().max(end), 0);
                state[*offset..end].copy_from_slice(&data[..*kept as usize]);
                state == left
            })
        });
        prop_assert!(whole && loss.torn.is_none() || torn, "{loss:?}");
        if tear && can_tear {
            prop_assert!(loss.torn.is_some());
            // It is the newest write that is torn, and nothing else is lost.
            prop_assert_eq!(loss.changes, 1);
        }
    }
}

#[test]
fn many_small_changes_cost_little_and_are_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut volume = volume(folder.path());
    let number = new_file(&mut volume);
    volume.write(number, 0, b"durable").unwrap();
    volume.synced(number, volume.now());
    for i in 0..5_000u64 {
        // Over and over the same bytes, and appends.
        volume.write(number, i % 7, b"x").unwrap();
        volume.write(number, 7 + i, b"y").unwrap();
    }
    assert!(volume.unsynced().0 < 2_000, "{:?}", volume.unsynced());
    assert_eq!(volume.unsynced().1, 10_000);
    let loss = volume.power_loss(Tail::None).unwrap();
    assert_eq!(loss.bytes, 10_000);
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"durable");
}

#[test]
fn a_sync_that_began_before_a_write_does_not_cover_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut volume = volume(folder.path());
    let number = new_file(&mut volume);
    volume.write(number, 0, b"one").unwrap();
    let begun = volume.now();
    volume.write(number, 3, b"two").unwrap();
    volume.synced(number, begun);
    volume.power_loss(Tail::None).unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"one");
}

#[test]
fn a_write_is_torn_at_a_sector_or_anywhere() {
    let mut sizes = BTreeSet::new();
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = volume(folder.path());
        let number = new_file(&mut volume);
        volume.write(number, 0, &[1; 100]).unwrap();
        volume.write(number, 100, &[2; 2_000]).unwrap();
        assert!(volume.can_tear());
        let loss = volume.power_loss(Tail::Torn(seed)).unwrap();
        let (name, kept, of) = loss.torn.unwrap();
        assert_eq!((name.as_str(), of), ("f", 2_000));
        let left = fs::read(folder.path().join("f")).unwrap();
        assert_eq!(left.len() as u64, 100 + kept);
        assert!(left[..100].iter().all(|b| *b == 1) && left[100..].iter().all(|b| *b == 2));
        sizes.insert(left.len().is_multiple_of(512));
    }
    assert_eq!(sizes.len(), 2, "at a boundary and elsewhere");
}
