//! A simulated network: directed links that delay, reorder, drop, duplicate, cut and throttle.
//!
//! Replicas send each other datagrams: one may be lost, overtaken or arrive twice. Clients use
//! connections, over which all arrives once and in order: there a packet lost is a retransmission,
//! so a delay (RFC 6298: 200 ms at least, as Linux has it, and twice as long each further time),
//! one held back is a delay, and one that came twice goes unnoticed. Each call has a connection of
//! its own.

use nemesis::{Endpoint, Impairment, Link};
use rand::Rng;
use rand_pcg::Pcg64;

use super::Conditions;

const MS: u64 = 1_000_000;
/// How long what is to be overtaken is held back, nanoseconds.
pub const HELD_BACK: std::ops::RangeInclusive<u64> = 10 * MS..=40 * MS;
/// After how long a connection sends again what was lost for the first time, nanoseconds.
pub const RETRANSMIT: u64 = 200 * MS;
/// How often it tries before it breaks, which is after the patience of any client.
const ATTEMPTS: u32 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct LinkState {
    /// How many active faults cut this link.
    cuts: u32,
    /// What else happens on it.
    impaired: Impairment,
    /// Nanoseconds a byte takes; 0 is unlimited.
    ns_per_byte: u64,
    /// When the link is free again, where it is throttled.
    busy_until: u64,
    /// How much was sent twice.
    doubled: u64,
}

/// All links between the nodes and the clients (endpoint 0).
#[derive(Debug)]
pub struct Network {
    ends: usize,
    links: Vec<LinkState>,
    conditions: Conditions,
}

/// When copies of a message arrive: none (lost), one, or two (duplicated).
pub type Arrivals = [Option<u64>; 2];

/// Whether something that happens to so many of a hundred happens now. Nothing is drawn where
/// nothing can happen, so that a fault shifts no other draw.
fn happens(percent: u8, rng: &mut Pcg64) -> bool {
    percent > 0 && rng.random_range(0..100) < percent
}

impl Network {
    /// A network without faults.
    pub fn new(nodes: u16, conditions: Conditions) -> Self {
        let ends = usize::from(nodes) + 1;
        Self {
            ends,
            links: vec![LinkState::default(); ends * ends],
            conditions,
        }
    }

    fn slot(&self, link: Link) -> usize {
        let end = |e| match e {
            Endpoint::Clients => 0,
            Endpoint::Node(n) => usize::from(n),
        };
        end(link.from) * self.ends + end(link.to)
    }

    /// Cuts a link; as often as it is cut it must be restored.
    pub fn cut(&mut self, link: Link) {
        let slot = self.slot(link);
        self.links[slot].cuts += 1;
    }

    /// Whether a fault lets nothing through.
    pub fn is_cut(&self, link: Link) -> bool {
        self.links[self.slot(link)].cuts > 0
    }

    /// Takes one cut back.
    pub fn restore(&mut self, link: Link) {
        let slot = self.slot(link);
        self.links[slot].cuts = self.links[slot].cuts.saturating_sub(1);
    }

    /// Impairs a link in this way and no other; the default undoes it.
    pub fn impair(&mut self, link: Link, impairment: Impairment) {
        let slot = self.slot(link);
        let state = &mut self.links[slot];
        state.impaired = impairment;
        let kib = impairment.bandwidth_kib_s;
        state.ns_per_byte = kib.map_or(0, |kib| 1_000_000_000 / (kib * 1024).max(1));
        state.busy_until = 0;
    }

    /// The delay, in nanoseconds, that a fault has added to a link, at least.
    pub fn slowed(&self, link: Link) -> u64 {
        let impaired = &self.links[self.slot(link)].impaired;
        impaired.latency_ms.saturating_sub(impaired.jitter_ms) * MS
    }

    /// How much was sent twice over a link.
    pub fn doubled(&self, link: Link) -> u64 {
        self.links[self.slot(link)].doubled
    }

    fn delay(&mut self, now: u64, slot: usize, bytes: u64, rng: &mut Pcg64) -> u64 {
        let jitter = match self.conditions.jitter_us {
            0 => 0,
            us => rng.random_range(0..=us * 1000),
        };
        let state = &mut self.links[slot];
        let mut start = now;
        if state.ns_per_byte > 0 {
            start = state.busy_until.max(now) + bytes * state.ns_per_byte;
            state.busy_until = start;
        }
        let Impairment {
            latency_ms,
            jitter_ms,
            reorder_percent,
            ..
        } = state.impaired;
        let mut added = latency_ms * MS;
        if jitter_ms > 0 {
            let least = latency_ms.saturating_sub(jitter_ms) * MS;
            added = rng.random_range(least..=(latency_ms + jitter_ms) * MS);
        }
        if happens(reorder_percent, rng) {
            added += rng.random_range(HELD_BACK);
        }
        start + self.conditions.latency_us * 1000 + jitter + added
    }

    /// Sends a datagram between replicas: it may be lost, duplicated and overtaken.
    pub fn datagram(&mut self, now: u64, link: Link, bytes: u64, rng: &mut Pcg64) -> Arrivals {
        let slot = self.slot(link);
        let state = self.links[slot];
        if state.cuts > 0 || happens(state.impaired.loss_percent, rng) {
            return [None, None];
        }
        let conditions = self.conditions;
        if conditions.drop > 0.0 && rng.random_bool(conditions.drop) {
            return [None, None];
        }
        let first = self.delay(now, slot, bytes, rng);
        let twice = conditions.duplicate > 0.0 && rng.random_bool(conditions.duplicate);
        let twice = twice | happens(state.impaired.duplicate_percent, rng);
        self.links[slot].doubled += u64::from(twice);
        let second = twice.then(|| self.delay(now, slot, bytes, rng));
        [Some(first), second]
    }

    /// Sends over a connection, as clients do: delivered once, or held back by a cut (`None`).
    pub fn stream(&mut self, now: u64, link: Link, bytes: u64, rng: &mut Pcg64) -> Option<u64> {
        let slot = self.slot(link);
        let state = self.links[slot];
        if state.cuts > 0 {
            return None;
        }
        let (mut sent, mut wait) = (now, RETRANSMIT);
        let mut attempts = 1;
        while happens(state.impaired.loss_percent, rng) {
            if attempts == ATTEMPTS {
                return None;
            }
            attempts += 1;
            sent += wait;
            wait *= 2;
        }
        if happens(state.impaired.duplicate_percent, rng) {
            self.links[slot].doubled += 1;
        }
        Some(self.delay(sent, slot, bytes, rng))
    }
}

#[cfg(test)]
mod tests {
    use nemesis::{Endpoint, Impairment, Link};
    use rand::SeedableRng;
    use rand_pcg::Pcg64;

    use super::{Conditions, HELD_BACK, MS, Network, RETRANSMIT};

    /// The link from n1 to n2, on a network without any weather.
    fn calm(impairment: Impairment) -> (Network, Link, Pcg64) {
        let conditions = Conditions {
            latency_us: 0,
            jitter_us: 0,
            drop: 0.0,
            duplicate: 0.0,
            ..Conditions::default()
        };
        let mut network = Network::new(2, conditions);
        let link = Link {
            from: Endpoint::Node(1),
            to: Endpoint::Node(2),
        };
        network.impair(link, impairment);
        (network, link, Pcg64::seed_from_u64(1))
    }

    #[test]
    fn cuts_nest_and_are_one_way() {
        let mut network = Network::new(3, Conditions::default());
        let mut rng = Pcg64::seed_from_u64(1);
        let there = Link {
            from: Endpoint::Node(1),
            to: Endpoint::Node(2),
        };
        let back = Link {
            from: Endpoint::Node(2),
            to: Endpoint::Node(1),
        };
        network.cut(there);
        network.cut(there);
        network.restore(there);
        assert_eq!(network.datagram(0, there, 1, &mut rng), [None, None]);
        assert!(network.datagram(0, back, 1, &mut rng)[0].is_some());
        network.restore(there);
        assert!(network.datagram(0, there, 1, &mut rng)[0].is_some());
    }

    #[test]
    fn bandwidth_queues_messages_behind_each_other() {
        let (mut network, link, mut rng) = calm(Impairment {
            latency_ms: 10,
            bandwidth_kib_s: Some(1),
            ..Impairment::default()
        });
        let first = network.stream(0, link, 1024, &mut rng).unwrap();
        let second = network.stream(0, link, 1024, &mut rng).unwrap();
        assert!(
            first >= 1_000_000_000 && second >= first + 990_000_000,
            "{first} {second}"
        );
    }

    #[test]
    fn so_many_of_a_hundred_datagrams_are_lost_or_come_twice() {
        let (mut network, link, mut rng) = calm(Impairment {
            loss_percent: 30,
            duplicate_percent: 20,
            ..Impairment::default()
        });
        let arrivals: Vec<_> = (0..10_000)
            .map(|_| network.datagram(0, link, 1, &mut rng))
            .collect();
        let lost = arrivals.iter().filter(|[first, _]| first.is_none()).count();
        let twice = arrivals.iter().filter(|[_, twice]| twice.is_some()).count();
        assert!((2_800..3_200).contains(&lost), "{lost}");
        // Of the others.
        assert!((1_250..1_550).contains(&twice), "{twice}");
        assert_eq!(network.doubled(link), twice as u64);
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_jitter_is_around_the_latency() {
        let (mut network, link, mut rng) = calm(Impairment {
            reorder_percent: 50,
            ..Impairment::default()
        });
        let mut held = 0;
        for _ in 0..1_000 {
            match network.datagram(0, link, 1, &mut rng)[0] {
                Some(0) => {}
                at => {
                    assert!(at.is_some_and(|at| HELD_BACK.contains(&at)), "{at:?}");
                    held += 1;
                }
            }
        }
        assert!((400..600).contains(&held), "{held}");
        let (mut network, link, mut rng) = calm(Impairment {
            latency_ms: 50,
            jitter_ms: 20,
            ..Impairment::default()
        });
        let arrivals = (0..1_000).map(|_| network.datagram(0, link, 1, &mut rng)[0].unwrap());
        let (mut least, mut most) = (u64::MAX, 0);
        for at in arrivals {
            (least, most) = (least.min(at), most.max(at));
        }
        assert!((30 * MS..33 * MS).contains(&least), "{least}");
        assert!((67 * MS..=70 * MS).contains(&most), "{most}");
    }

    #[test]
    fn a_connection_sends_again_what_was_lost() {
        let (mut network, link, mut rng) = calm(Impairment {
            loss_percent: 50,
            duplicate_percent: 50,
            ..Impairment::default()
        });
        let mut delays = [0; 3];
        for _ in 0..1_000 {
            match network.stream(0, link, 1, &mut rng).unwrap_or(u64::MAX) {
                0 => delays[0] += 1,
                RETRANSMIT => delays[1] += 1,
                at => {
                    assert!(at >= 3 * RETRANSMIT, "{at}");
                    delays[2] += 1;
                }
            }
        }
        let [none, one, more] = delays;
        assert!((400..600).contains(&none) && (200..300).contains(&one) && more > 200);
        let all = Impairment {
            loss_percent: 100,
            ..Impairment::default()
        };
        network.impair(link, all);
        assert_eq!(network.stream(0, link, 1, &mut rng), None);
    }
}
