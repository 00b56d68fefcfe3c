//! A simulated network: directed links that delay, reorder, drop, duplicate, cut and throttle.

use nemesis::{Endpoint, Link};
use rand::Rng;
use rand_pcg::Pcg64;

use super::Conditions;

#[derive(Clone, Copy, Debug, Default)]
struct LinkState {
    /// How many active faults cut this link.
    cuts: u32,
    /// Added delay in nanoseconds.
    delay: u64,
    /// Nanoseconds a byte takes; 0 is unlimited.
    ns_per_byte: u64,
    /// When the link is free again, where it is throttled.
    busy_until: u64,
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

    /// Slows a link; zero latency and no bandwidth limit undo it.
    pub fn slow(&mut self, link: Link, latency_ms: u64, bandwidth_kib_s: Option<u64>) {
        let slot = self.slot(link);
        let state = &mut self.links[slot];
        state.delay = latency_ms * 1_000_000;
        state.ns_per_byte = bandwidth_kib_s.map_or(0, |kib| 1_000_000_000 / (kib * 1024).max(1));
        state.busy_until = 0;
    }

    /// The delay, in nanoseconds, that a fault has added to a link.
    pub fn slowed(&self, link: Link) -> u64 {
        self.links[self.slot(link)].delay
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
        start + self.conditions.latency_us * 1000 + jitter + state.delay
    }

    /// Sends a datagram between replicas: it may be lost, duplicated and overtaken.
    pub fn datagram(&mut self, now: u64, link: Link, bytes: u64, rng: &mut Pcg64) -> Arrivals {
        let slot = self.slot(link);
        if self.links[slot].cuts > 0 {
            return [None, None];
        }
        let conditions = self.conditions;
        if conditions.drop > 0.0 && rng.random_bool(conditions.drop) {
            return [None, None];
        }
        let first = self.delay(now, slot, bytes, rng);
        let twice = conditions.duplicate > 0.0 && rng.random_bool(conditions.duplicate);
        let second = twice.then(|| self.delay(now, slot, bytes, rng));
        [Some(first), second]
    }

    /// Sends over a connection, as clients do: delivered once, or held back by a cut (`None`).
    pub fn stream(&mut self, now: u64, link: Link, bytes: u64, rng: &mut Pcg64) -> Option<u64> {
        let slot = self.slot(link);
        (self.links[slot].cuts == 0).then(|| self.delay(now, slot, bytes, rng))
    }
}

#[cfg(test)]
mod tests {
    use nemesis::{Endpoint, Link};
    use rand::SeedableRng;

    use super::{Conditions, Network};

    #[test]
    fn cuts_nest_and_are_one_way() {
        let mut network = Network::new(3, Conditions::default());
        let mut rng = rand_pcg::Pcg64::seed_from_u64(1);
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
        let conditions = Conditions {
            latency_us: 0,
            jitter_us: 0,
            ..Conditions::default()
        };
        let mut network = Network::new(2, conditions);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(1);
        let link = Link {
            from: Endpoint::Node(1),
            to: Endpoint::Node(2),
        };
        network.slow(link, 10, Some(1));
        let first = network.stream(0, link, 1024, &mut rng).unwrap();
        let second = network.stream(0, link, 1024, &mut rng).unwrap();
        assert!(
            first >= 1_000_000_000 && second >= first + 990_000_000,
            "{first} {second}"
        );
    }
}
