//! A simulated disk: a journal whose unsynced tail is lost when power fails, and which can be
//! damaged, put back to an older state, and made to lose what a failed sync was to keep.

use rand::Rng;
use rand_pcg::Pcg64;

/// So many journals that were replaced are kept, for [`Disk::roll_back`].
const COPIES_MAX: usize = 8;

/// A record, whole or not.
#[derive(Clone, Debug)]
struct Stored<R> {
    record: R,
    /// When it was written, nanoseconds.
    at: u64,
    /// What is on the disk in its place is not this record, and its checksum says so.
    damaged: bool,
    /// Its sync failed: the cache holds it and takes it for written, the disk never got it.
    dropped: bool,
}

/// A journal that recovery refuses: a record does not check, and one after it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Which record, from 0.
    pub record: usize,
    /// Of how many.
    pub of: usize,
}

/// One node's journal. `R` is a record; a record is torn or whole, never half-read.
#[derive(Debug)]
pub struct Disk<R> {
    records: Vec<Stored<R>>,
    /// How many of `records` survive a loss of power.
    synced: usize,
    /// Syncs under way, oldest first: (token, how many records it covers, replaces).
    pending: Vec<(u64, usize, bool)>,
    /// The journal as it was before a replacement that is not durable yet.
    previous: Option<(Vec<Stored<R>>, usize)>,
    /// Journals that were replaced, oldest first, each with when the replacement was durable.
    copies: Vec<(u64, Vec<Stored<R>>)>,
}

impl<R> Default for Disk<R> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            synced: 0,
            pending: Vec::new(),
            previous: None,
            copies: Vec::new(),
        }
    }
}

impl<R: Clone> Disk<R> {
    /// Appends to the journal, into the page cache.
    pub fn append(&mut self, record: R, at: u64) {
        self.records.push(Stored {
            record,
            at,
            damaged: false,
            dropped: false,
        });
    }

    /// Starts a sync of everything appended so far; [`Disk::synced`] ends it.
    pub fn sync(&mut self, token: u64) {
        self.pending.push((token, self.records.len(), false));
    }

    /// A sync of everything appended so far has failed: the cache takes it for written.
    pub fn sync_fails(&mut self) {
        let synced = self.synced.min(self.records.len());
        for stored in &mut self.records[synced..] {
            stored.dropped = true;
        }
    }

    /// Starts to replace the whole journal; atomic, and durable at [`Disk::synced`].
    pub fn replace(&mut self, records: Vec<R>, token: u64, at: u64) {
        let records = records.into_iter().map(|record| Stored {
            record,
            at,
            damaged: false,
            dropped: false,
        });
        let old = std::mem::replace(&mut self.records, records.collect());
        // Of two replacements under way the older journal is what a crash falls back to.
        if self.previous.is_none() {
            self.previous = Some((old, self.synced));
        }
        self.synced = 0;
        for entry in &mut self.pending {
            entry.1 = 0;
        }
        self.pending.push((token, self.records.len(), true));
    }

    /// The sync or replacement with this token has reached the disk at this time.
    pub fn synced(&mut self, token: u64, now: u64) {
        let Some(at) = self.pending.iter().position(|(t, ..)| *t == token) else {
            return;
        };
        for (_, covered, replaces) in self.pending.drain(..=at) {
            self.synced = self.synced.max(covered);
            if replaces && let Some((old, _)) = self.previous.take() {
                if self.copies.len() == COPIES_MAX {
                    self.copies.remove(0);
                }
                self.copies.push((now, old));
            }
        }
    }

    /// The process ended: what was written stays; a replacement under way never happened.
    pub fn process_crash(&mut self) {
        if let Some((records, synced)) = self.previous.take() {
            self.records = records;
            self.synced = synced.min(self.records.len());
        }
        self.pending.clear();
    }

    /// Power failed: of the unsynced tail a random prefix survives; the record after it is torn,
    /// and recovery drops it. Returns how many records were lost.
    pub fn power_loss(&mut self, rng: &mut Pcg64) -> usize {
        self.process_crash();
        let before = self.records.len();
        let keep = rng.random_range(self.synced..=before);
        before - self.lose_after(keep)
    }

    /// Power failed while the last record was being written: it is torn, what is before it
    /// survives. False if everything is synced, so that nothing could tear.
    pub fn torn_write(&mut self) -> bool {
        self.process_crash();
        let before = self.records.len();
        let torn = before > self.synced;
        self.lose_after(before - usize::from(torn));
        torn
    }

    /// The power is gone: what the disk never got is lost, and of the rest so much is left.
    fn lose_after(&mut self, keep: usize) -> usize {
        self.records.truncate(keep);
        self.synced = keep;
        for stored in &mut self.records {
            stored.damaged |= std::mem::take(&mut stored.dropped);
        }
        keep - self.records.iter().filter(|stored| stored.damaged).count()
    }

    /// How many records would be lost with the power.
    pub fn unsynced(&self) -> usize {
        self.records.len() - self.synced.min(self.records.len())
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Flips a bit of one of the records of a kind; of the newest or of any. Says which, from 0,
    /// or `None` if there is none.
    pub fn flip(
        &mut self,
        of_kind: impl Fn(&R) -> bool,
        newest: bool,
        rng: &mut Pcg64,
    ) -> Option<usize> {
        let stored = self.records.iter().enumerate();
        let of_kind = stored.filter(|(_, stored)| of_kind(&stored.record));
        let places: Vec<usize> = of_kind.map(|(place, _)| place).collect();
        let place = match places.len() {
            0 => return None,
            _ if newest => places[places.len() - 1],
            count => places[rng.random_range(0..count)],
        };
        self.records[place].damaged = true;
        Some(place)
    }

    /// Whether a record is damaged.
    pub fn is_damaged(&self, place: usize) -> bool {
        self.records.get(place).is_some_and(|stored| stored.damaged)
    }

    /// Puts back the journal as it was at this time, or the oldest that is known to have been
    /// replaced after it, which may be older; whether that changes anything.
    pub fn roll_back(&mut self, to: u64) -> bool {
        self.process_crash();
        let before = (self.copies.len(), self.records.len());
        if let Some(place) = self.copies.iter().position(|(until, _)| *until > to) {
            self.records = self.copies.swap_remove(place).1;
            self.copies.truncate(place);
        }
        self.records.retain(|stored| stored.at <= to);
        // A copy is of what was read, from the cache or the disk, and is written anew.
        self.records.iter_mut().for_each(|s| s.dropped = false);
        self.synced = self.records.len();
        before != (self.copies.len(), self.records.len())
    }

    /// Everything is deleted.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.previous.is_none()
    }

    /// What recovery reads after a crash, as the journal of the server does it: records that do not
    /// check are cut off at the end, and refused before one that does.
    ///
    /// # Errors
    /// See [`Corrupt`].
    pub fn recover(&mut self) -> Result<Vec<R>, Corrupt> {
        if let Some(bad) = self.records.iter().position(|stored| stored.damaged) {
            if self.records[bad..].iter().any(|stored| !stored.damaged) {
                let of = self.records.len();
                return Err(Corrupt { record: bad, of });
            }
            self.records.truncate(bad);
            self.synced = self.synced.min(bad);
        }
        let records = self.records.iter();
        Ok(records.map(|stored| stored.record.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{Corrupt, Disk};

    fn rng() -> rand_pcg::Pcg64 {
        rand_pcg::Pcg64::seed_from_u64(1)
    }

    /// Records 1 to `count`, each written at its own number, the first so many synced.
    fn holding(count: u64, synced: u64) -> Disk<u64> {
        let mut disk = Disk::default();
        for record in 1..=count {
            disk.append(record, record);
            if record == synced {
                disk.sync(record);
                disk.synced(record, record);
            }
        }
        disk
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_may_lose_the_rest() {
        let mut lost_some = false;
        let mut rng = rng();
        for _ in 0..50 {
            let mut disk = holding(4, 2);
            let lost = disk.power_loss(&mut rng);
            assert_eq!(disk.recover().unwrap(), [1, 2, 3, 4][..4 - lost]);
            assert!(lost <= 2);
            lost_some |= lost > 0;
        }
        assert!(lost_some);
    }

    #[test]
    fn process_crash_keeps_what_was_written() {
        let mut disk = holding(1, 0);
        disk.process_crash();
        assert_eq!(disk.recover(), Ok(vec![1]));
    }

    #[test]
    fn a_wiped_disk_holds_nothing() {
        let mut disk = holding(1, 1);
        disk.replace(vec![10, 11], 2, 2);
        disk.wipe();
        assert!(disk.is_empty());
        disk.synced(2, 3);
        disk.append(3, 3);
        let lost = disk.power_loss(&mut rng());
        assert_eq!(lost + disk.recover().unwrap().len(), 1);
    }

    #[test]
    fn a_replacement_is_all_or_nothing() {
        let mut disk = holding(1, 1);
        disk.replace(vec![10, 11], 2, 2);
        disk.append(12, 2);
        disk.process_crash();
        assert_eq!(disk.recover(), Ok(vec![1]));
        disk.replace(vec![10, 11], 3, 3);
        disk.synced(3, 3);
        assert_eq!(disk.power_loss(&mut rng()), 0);
        assert_eq!(disk.recover(), Ok(vec![10, 11]));
    }

    #[test]
    fn only_what_is_not_synced_can_tear() {
        let mut disk = holding(4, 2);
        assert!(disk.torn_write());
        assert_eq!(disk.recover(), Ok(vec![1, 2, 3]));
        let mut disk = holding(2, 2);
        assert!(!disk.torn_write());
        assert_eq!(disk.recover(), Ok(vec![1, 2]));
    }

    #[test]
    fn damage_is_cut_off_at_the_end_and_refused_before_it() {
        let mut disk = holding(3, 3);
        assert_eq!(disk.flip(|r| *r == 3, false, &mut rng()), Some(2));
        assert!(disk.is_damaged(2));
        assert_eq!(disk.recover(), Ok(vec![1, 2]));
        // It is cut off for good.
        disk.append(9, 9);
        assert_eq!(disk.recover(), Ok(vec![1, 2, 9]));
        assert_eq!(disk.flip(|r| *r < 3, true, &mut rng()), Some(1));
        assert_eq!(disk.recover(), Err(Corrupt { record: 1, of: 3 }));
        assert_eq!(disk.flip(|r| *r == 7, true, &mut rng()), None);
    }

    #[test]
    fn what_a_failed_sync_dropped_is_gone_with_the_power_though_a_later_sync_succeeds() {
        let mut disk = holding(3, 1);
        disk.sync_fails();
        disk.process_crash();
        assert_eq!(disk.recover(), Ok(vec![1, 2, 3]));
        disk.append(4, 4);
        disk.sync(7);
        disk.synced(7, 7);
        assert_eq!(disk.unsynced(), 0);
        disk.process_crash();
        assert_eq!(disk.recover(), Ok(vec![1, 2, 3, 4]));
        assert_eq!(disk.power_loss(&mut rng()), 2);
        assert_eq!(disk.recover(), Err(Corrupt { record: 1, of: 4 }));
        // With nothing after it, it looks like a torn tail.
        let mut disk = holding(3, 1);
        disk.sync_fails();
        disk.sync(7);
        disk.synced(7, 7);
        disk.power_loss(&mut rng());
        assert_eq!(disk.recover(), Ok(vec![1]));
    }

    #[test]
    fn a_copy_is_as_old_as_was_asked_for() {
        let replaced = || {
            let mut disk = holding(5, 5);
            disk.replace(vec![50], 8, 8);
            disk.append(6, 9);
            disk.synced(8, 10);
            disk.append(7, 12);
            disk
        };
        for (to, holds) in [
            (15, vec![50, 6, 7]),
            (11, vec![50, 6]),
            (10, vec![50, 6]),
            (9, vec![1, 2, 3, 4, 5]),
            (3, vec![1, 2, 3]),
            (0, vec![]),
        ] {
            let mut disk = replaced();
            assert_eq!(disk.roll_back(to), to != 15, "{to}");
            assert_eq!(disk.recover(), Ok(holds), "{to}");
            assert_eq!(disk.unsynced(), 0);
        }
    }
}
