//! What becomes of each packet of one lane: a pure function of the packets before it.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use crate::Impairment;

/// A packet that is to be overtaken waits this much longer than the others.
const HELD_BACK: Duration = Duration::from_millis(25);
/// A throttled lane has room for what it carries in so long; what comes then is lost, as in the
/// buffer of a switch.
const BUFFER: Duration = Duration::from_secs(2);

/// What happened to the packets of a lane so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that came while anything was asked for.
    pub packets: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Held back, so that later ones overtake them.
    pub held_back: u64,
    /// Delivered twice.
    pub twice: u64,
    /// Lost because the throttled lane had no room.
    pub overflowed: u64,
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    /// Delivered at this time, and perhaps once more.
    Due(Duration, bool),
}

/// The packets of one directed link, as far as this node sees them.
#[derive(Debug)]
pub(super) struct Lane {
    faults: BTreeMap<u32, Impairment>,
    /// The worst of all faults.
    sum: Impairment,
    /// When the throttled lane has carried all that it was given.
    busy_until: Duration,
    /// When the last packet is due that was not held back.
    last_due: Duration,
    pub counts: Counts,
    chance: Pcg32,
}

impl Lane {
    pub fn new(seed: u64) -> Self {
        Self {
            faults: BTreeMap::new(),
            sum: Impairment::default(),
            busy_until: Duration::ZERO,
            last_due: Duration::ZERO,
            counts: Counts::default(),
            chance: Pcg32::seed_from_u64(seed),
        }
    }

    pub fn impair(&mut self, fault: u32, impairment: Impairment) {
        self.faults.insert(fault, impairment);
        self.add_up();
    }

    pub fn release(&mut self, fault: u32) {
        self.faults.remove(&fault);
        self.add_up();
    }

    fn add_up(&mut self) {
        let all = self.faults.values().copied();
        self.sum = all.fold(Impairment::default(), Impairment::and);
    }

    /// Whether nothing is asked for: what waits need not wait any longer.
    pub fn is_free(&self) -> bool {
        self.faults.is_empty()
    }

    pub fn has(&self, fault: u32) -> bool {
        self.faults.contains_key(&fault)
    }

    fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.chance.random_range(0..100) < percent
    }

    /// Times are counted from any one moment.
    pub fn fate(&mut self, now: Duration, bytes: usize) -> Fate {
        let asked = self.sum;
        self.counts.packets += 1;
        if self.happens(asked.loss_percent) {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        let sent = match asked.bandwidth_kib_s {
            None => now,
            Some(rate) => {
                let start = self.busy_until.max(now);
                if start.saturating_sub(now) > BUFFER {
                    self.counts.overflowed += 1;
                    return Fate::Lost;
                }
                let takes = bytes as f64 / (rate.max(1) as f64 * 1024.0);
                self.busy_until = start + Duration::from_secs_f64(takes);
                self.busy_until
            }
        };
        let (least, most) = (
            asked.latency_ms.saturating_sub(asked.jitter_ms) * 1000,
            (asked.latency_ms + asked.jitter_ms) * 1000,
        );
        let delay = Duration::from_micros(self.chance.random_range(least..=most));
        // Jitter alone lets nothing overtake: on a path of one queue it does not.
        let mut due = (sent + delay).max(self.last_due);
        if self.happens(asked.reorder_percent) {
            self.counts.held_back += 1;
            due += HELD_BACK;
        } else {
            self.last_due = due;
        }
        let twice = self.happens(asked.duplicate_percent);
        self.counts.twice += u64::from(twice);
        Fate::Due(due, twice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(impairment: Impairment) -> Lane {
        let mut lane = Lane::new(7);
        lane.impair(1, impairment);
        lane
    }

    const MS: Duration = Duration::from_millis(1);

    fn due(fate: Fate) -> Duration {
        match fate {
            Fate::Due(at, _) => at,
            Fate::Lost => panic!("lost"),
        }
    }

    #[test]
    fn delays_with_jitter_stay_in_their_bounds_and_in_order() {
        let mut lane = lane(Impairment {
            latency_ms: 50,
            jitter_ms: 10,
            ..Impairment::default()
        });
        let mut last = Duration::ZERO;
        let mut seen = Vec::new();
        for i in 0..1000 {
            let now = MS * 100 * i;
            let at = due(lane.fate(now, 100));
            assert!(at >= last);
            last = at;
            seen.push(at.checked_sub(now).unwrap());
        }
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert!(*least >= MS * 40 && *least < MS * 42, "{least:?}");
        assert!(*most <= MS * 60 && *most > MS * 58, "{most:?}");
        // However close together, none overtakes.
        for i in 0..1000 {
            let at = due(lane.fate(last + Duration::from_micros(i), 100));
            assert!(at >= last);
            last = at;
        }
    }

    #[test]
    fn a_throttled_lane_carries_its_rate_and_has_bounded_room() {
        let mut lane = lane(Impairment {
            bandwidth_kib_s: Some(100),
            ..Impairment::default()
        });
        let mut carried = 0;
        for _ in 0..1000 {
            match lane.fate(Duration::ZERO, 1024) {
                Fate::Due(at, _) => {
                    carried += 1;
                    assert_eq!(at, MS * 10 * carried);
                }
                Fate::Lost => {}
            }
        }
        assert_eq!(carried, 201);
        assert_eq!(lane.counts.overflowed, 799);
        // The line is idle: no credit is saved up.
        assert_eq!(due(lane.fate(MS * 60_000, 1024)), MS * 60_010);
    }

    #[test]
    fn chances_come_out_as_asked_for_and_are_counted() {
        let mut lane = lane(Impairment {
            loss_percent: 30,
            reorder_percent: 20,
            duplicate_percent: 10,
            ..Impairment::default()
        });
        let (mut lost, mut twice, mut overtaken) = (0, 0, 0);
        for i in 0..10_000 {
            match lane.fate(MS * i, 100) {
                Fate::Lost => lost += 1,
                Fate::Due(at, again) => {
                    twice += u64::from(again);
                    overtaken += u64::from(at > MS * i);
                }
            }
        }
        let Counts { packets, .. } = lane.counts;
        assert_eq!(packets, 10_000);
        assert_eq!(
            (lane.counts.lost, lane.counts.twice, lane.counts.held_back),
            (lost, twice, overtaken)
        );
        assert!((2800..3200).contains(&lost), "{lost}");
        assert!((600..800).contains(&twice), "{twice}");
        assert!((1250..1550).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn the_worst_of_all_faults_counts_and_each_ends_alone() {
        let slow = |latency_ms, rate| Impairment {
            latency_ms,
            bandwidth_kib_s: rate,
            ..Impairment::default()
        };
        let mut lane = lane(slow(80, None));
        lane.impair(2, slow(20, Some(1)));
        assert_eq!(due(lane.fate(MS, 1024)), MS * (1 + 1000 + 80));
        lane.release(1);
        lane.release(1);
        assert!(lane.has(2) && !lane.has(1) && !lane.is_free());
        lane.release(2);
        assert!(lane.is_free());
        // In order, and no later than what came before.
        assert_eq!(due(lane.fate(MS * 5000, 1024)), MS * 5000);
    }
}
