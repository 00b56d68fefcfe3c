//! Who takes part in a request: the homes of the key, and who stands in for them.

use super::replica::Peer;
use crate::core::{NodeId, Quorum, Refusal, Time};

/// The place of one home of the key among those asked.
#[derive(Debug)]
pub(super) struct Slot {
    pub home: NodeId,
    /// Who was asked in its stead.
    pub stand_in: Option<NodeId>,
    /// Whether one of them has answered.
    pub done: bool,
}

impl Slot {
    pub fn is_of(&self, node: NodeId) -> bool {
        self.home == node || self.stand_in == Some(node)
    }
}

impl Peer {
    /// The places of a key, with stand-ins for suspects if the quorum is sloppy; refuses if those
    /// that are not suspected are fewer than `least`.
    pub(super) fn slots(&self, key: &str, n: u16, least: u16) -> Result<Vec<Slot>, Refusal> {
        let range = self.ring.range(key);
        let mut slots: Vec<Slot> = self
            .ring
            .homes(range, n)
            .map(|home| Slot {
                home,
                stand_in: None,
                done: false,
            })
            .collect();
        let suspected: Vec<usize> = (0..slots.len())
            .filter(|slot| self.suspects.contains(&slots[*slot].home))
            .collect();
        self.stand_in(key, &mut slots, &suspected);
        let reachable = slots
            .iter()
            .filter(|slot| slot.stand_in.is_some() || !self.suspects.contains(&slot.home));
        let count = reachable.count();
        if count < usize::from(least) {
            return Err(Refusal::Unavailable(
                format!("{count} replicas can be reached, {least} are needed").into(),
            ));
        }
        Ok(slots)
    }

    /// Finds stand-ins for some places, as far as there are any. Returns which places got one.
    pub(super) fn stand_in(&self, key: &str, slots: &mut [Slot], which: &[usize]) -> Vec<usize> {
        if !self.config.leaderless.sloppy {
            return Vec::new();
        }
        let walk = self.ring.walk(self.ring.range(key)).skip(slots.len());
        let free: Vec<NodeId> = walk
            .filter(|node| !self.suspects.contains(node))
            .filter(|node| !slots.iter().any(|slot| slot.is_of(*node)))
            .collect();
        let vacant = which
            .iter()
            .filter(|slot| slots[**slot].stand_in.is_none())
            .copied();
        let places: Vec<(usize, NodeId)> = vacant.zip(free).collect();
        for (slot, node) in &places {
            slots[*slot].stand_in = Some(*node);
        }
        places.into_iter().map(|(slot, _)| slot).collect()
    }

    /// N, R and W of a request.
    pub(super) fn quorum(&self, asked: Quorum) -> Result<(u16, u16, u16), Refusal> {
        let defaults = &self.config.leaderless;
        let n = asked.n.unwrap_or(defaults.n);
        // Who asks for fewer replicas than usual means all of them, if nothing else is said.
        let r = asked.r.unwrap_or(defaults.r.min(n));
        let w = asked.w.unwrap_or(defaults.w.min(n));
        let nodes = self.ring.len();
        if usize::from(n) > nodes || r < 1 || w < 1 || r > n || w > n {
            let wrong = format!("expected 1 ≤ r, w ≤ n ≤ {nodes}, not n {n}, r {r}, w {w}");
            return Err(Refusal::Unsupported(wrong.into()));
        }
        Ok((n, r, w))
    }

    /// Suspects those that were asked then and are silent, and finds others to stand in for them.
    /// Returns the places that got a new stand-in.
    pub(super) fn replace_silent(
        &mut self,
        key: &str,
        slots: &mut [Slot],
        asked: Time,
    ) -> Vec<usize> {
        let waiting: Vec<usize> = (0..slots.len()).filter(|slot| !slots[*slot].done).collect();
        for slot in &waiting {
            self.suspect_if_silent(slots[*slot].home, asked);
            if let Some(stand_in) = slots[*slot].stand_in {
                self.suspect_if_silent(stand_in, asked);
                if self.suspects.contains(&stand_in) {
                    slots[*slot].stand_in = None;
                }
            }
        }
        self.stand_in(key, slots, &waiting)
    }

    /// Suspects a node that was asked then and has been silent since.
    pub(super) fn suspect_if_silent(&mut self, node: NodeId, asked: Time) {
        let heard = self.heard.get(&node).is_some_and(|heard| *heard >= asked);
        if node != self.id && !heard {
            self.suspects.insert(node);
        }
    }
}
