//! The leader's lease: as long as it lasts, reads need no confirmation.

/// How long a leader may take it for certain that nobody else leads; see the
/// [module](super#reads).
///
/// A follower that hears from its leader votes for nobody until its election timeout, of so many
/// ticks, has passed. Measured in the leader's ticks, from when it *sent* the heartbeats that a
/// majority answered, and two ticks short: the first of a follower's ticks may follow at once, and
/// the other is what clocks may run apart.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The round under way, and the tick in which it was sent.
    sent: Option<(u64, u64)>,
    /// The tick in which it ends.
    until: u64,
    /// Gone for as long as this node leads: it has asked another to take over, and that one need
    /// not wait for anybody's timeout.
    forfeited: bool,
}

impl Lease {
    /// A round of heartbeats is sent.
    pub fn sent(&mut self, round: u64, tick: u64) {
        self.sent = Some((round, tick));
    }

    /// A majority has answered a round.
    pub fn confirmed(&mut self, round: u64, election_ticks: u64) {
        if let Some((_, tick)) = self.sent.take_if(|(sent, _)| *sent == round) {
            self.until = self.until.max(tick + election_ticks.saturating_sub(2));
        }
    }

    /// Whether it lasts.
    pub fn holds(&self, tick: u64) -> bool {
        !self.forfeited && tick < self.until
    }

    /// Those who promised are not those who count any more.
    pub fn renew(&mut self) {
        self.sent = None;
        self.until = 0;
    }

    /// Another was asked to take over.
    pub fn forfeit(&mut self) {
        self.forfeited = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Lease;

    #[test]
    fn it_counts_from_when_the_heartbeats_were_sent() {
        let mut lease = Lease::default();
        assert!(!lease.holds(0));
        lease.sent(1, 100);
        lease.confirmed(2, 20);
        assert!(!lease.holds(100));
        // However late the answers come.
        lease.confirmed(1, 20);
        assert!(lease.holds(117));
        assert!(!lease.holds(118));
        lease.sent(2, 110);
        lease.renew();
        lease.confirmed(2, 20);
        assert!(!lease.holds(111));
        lease.sent(3, 120);
        lease.confirmed(3, 20);
        assert!(lease.holds(121));
        lease.forfeit();
        assert!(!lease.holds(121));
    }
}
