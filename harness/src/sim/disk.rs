//! A simulated disk: a journal whose unsynced tail is lost when power fails.

use rand::Rng;
use rand_pcg::Pcg64;

/// One node's journal. `R` is a record; a record is torn or whole, never half-read.
#[derive(Debug)]
pub struct Disk<R> {
    records: Vec<R>,
    /// How many of `records` survive a loss of power.
    synced: usize,
    /// Syncs under way, oldest first: (token, how many records it covers, replaces).
    pending: Vec<(u64, usize, bool)>,
    /// The journal as it was before a replacement that is not durable yet.
    previous: Option<(Vec<R>, usize)>,
}

impl<R> Default for Disk<R> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            synced: 0,
            pending: Vec::new(),
            previous: None,
        }
    }
}

impl<R: Clone> Disk<R> {
    /// Appends to the journal, into the page cache.
    pub fn append(&mut self, record: R) {
        self.records.push(record);
    }

    /// Starts a sync of everything appended so far; [`Disk::synced`] ends it.
    pub fn sync(&mut self, token: u64) {
        self.pending.push((token, self.records.len(), false));
    }

    /// Starts to replace the whole journal; atomic, and durable at [`Disk::synced`].
    pub fn replace(&mut self, records: Vec<R>, token: u64) {
        let old = std::mem::replace(&mut self.records, records);
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

    /// The sync or replacement with this token has reached the disk.
    pub fn synced(&mut self, token: u64) {
        let Some(at) = self.pending.iter().position(|(t, ..)| *t == token) else {
            return;
        };
        for (_, covered, replaces) in self.pending.drain(..=at) {
            self.synced = self.synced.max(covered);
            if replaces {
                self.previous = None;
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
        self.records.truncate(keep);
        self.synced = keep;
        before - keep
    }

    /// Everything is deleted.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.previous.is_none()
    }

    /// What recovery reads after a crash.
    pub fn recover(&self) -> Vec<R> {
        self.records.clone()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::Disk;

    fn rng() -> rand_pcg::Pcg64 {
        rand_pcg::Pcg64::seed_from_u64(1)
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_may_lose_the_rest() {
        let mut lost_some = false;
        let mut rng = rng();
        for _ in 0..50 {
            let mut disk = Disk::default();
            disk.append(1);
            disk.append(2);
            disk.sync(9);
            disk.append(3);
            disk.append(4);
            disk.synced(9);
            let lost = disk.power_loss(&mut rng);
            assert_eq!(disk.recover(), [1, 2, 3, 4][..4 - lost]);
            assert!(lost <= 2);
            lost_some |= lost > 0;
        }
        assert!(lost_some);
    }

    #[test]
    fn process_crash_keeps_what_was_written() {
        let mut disk = Disk::default();
        disk.append(1);
        disk.process_crash();
        assert_eq!(disk.recover(), [1]);
    }

    #[test]
    fn a_wiped_disk_holds_nothing() {
        let mut disk = Disk::default();
        disk.append(1);
        disk.sync(1);
        disk.synced(1);
        disk.replace(vec![10, 11], 2);
        disk.wipe();
        assert!(disk.is_empty());
        disk.synced(2);
        disk.append(3);
        assert_eq!(disk.power_loss(&mut rng()) + disk.recover().len(), 1);
    }

    #[test]
    fn a_replacement_is_all_or_nothing() {
        let mut disk = Disk::default();
        disk.append(1);
        disk.sync(1);
        disk.synced(1);
        disk.replace(vec![10, 11], 2);
        disk.append(12);
        disk.process_crash();
        assert_eq!(disk.recover(), [1]);
        disk.replace(vec![10, 11], 3);
        disk.synced(3);
        assert_eq!(disk.power_loss(&mut rng()), 0);
        assert_eq!(disk.recover(), [10, 11]);
    }
}
