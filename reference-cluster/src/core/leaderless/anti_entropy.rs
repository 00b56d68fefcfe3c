//! Anti-entropy: replicas compare their trees, go down where these differ, and exchange what they
//! find different (`DeCandia` et al. 2007, §4.7).
//!
//! Every message is answered from what it says and what the receiver holds, so that nothing has to
//! be remembered and a lost message costs no more than the time to the next exchange:
//!
//! ```text
//! A ── Roots ──► B      of all ranges that both hold
//! A ◄ Compared ─ B      equal or not
//! A ◄─ Hashes ── B      of the nodes below those that differ
//! A ── Hashes ─► B      of the leaves below those that differ
//! A ◄─ Listing ─ B      the keys in a leaf that differs, with hashes
//! A ── Exchange ► B     what A has otherwise, and what it wants
//! A ◄ Exchange ─ B      what A wanted
//! ```
//!
//! A node keeps for each peer whether they have been equal since its own last change; only those
//! that have not are compared. A node that starts has been equal with nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::merkle::{FAN_OUT, LEAVES};
use super::replica::Peer;
use super::version::Entry;
use super::{Hash, Message};
use crate::core::{Effect, NodeId, Time};

/// Hashes in one message; what is left out is found in the next exchange.
const HASHES_MAX: usize = 2_048;
/// Keys in one listing.
const LISTING_MAX: usize = 128;
/// Entries in one message.
const ENTRIES_MAX: usize = 16;

/// How this node stands with its peers.
#[derive(Debug, Default)]
pub(super) struct AntiEntropy {
    /// Changes of what is held, counted.
    changes: u64,
    /// Peers not known to be equal, with the count at the last change that concerns them.
    unlike: BTreeMap<NodeId, u64>,
    /// The newest comparison begun with each peer: its number, and the count then.
    begun: BTreeMap<NodeId, (u64, u64)>,
}

impl AntiEntropy {
    /// How many peers are not known to be equal.
    pub fn unlike(&self) -> usize {
        self.unlike.len()
    }
}

impl Peer {
    fn common(&self, peer: NodeId) -> Vec<u16> {
        let n = self.config.leaderless.n;
        let both = |range: &u16| {
            self.ring.is_home(self.id, *range, n) && self.ring.is_home(peer, *range, n)
        };
        (0..self.ring.len() as u16).filter(both).collect()
    }

    /// Takes every peer with common ranges for different.
    pub(super) fn doubt_all(&mut self) {
        if self.config.leaderless.anti_entropy_ms > 0 {
            let peers: Vec<NodeId> = self.ring.walk(0).filter(|peer| *peer != self.id).collect();
            for peer in peers {
                if !self.common(peer).is_empty() {
                    self.anti_entropy.unlike.insert(peer, 0);
                }
            }
        }
    }

    /// What is held of a key has changed.
    pub(super) fn doubt(&mut self, key: &str) {
        let (range, n) = (self.ring.range(key), self.config.leaderless.n);
        if self.config.leaderless.anti_entropy_ms == 0 || !self.ring.is_home(self.id, range, n) {
            return;
        }
        self.anti_entropy.changes += 1;
        for peer in self.ring.homes(range, n).filter(|peer| *peer != self.id) {
            self.anti_entropy
                .unlike
                .insert(peer, self.anti_entropy.changes);
        }
    }

    /// Begins a comparison with everybody who is not known to be equal.
    pub(super) fn compare(&mut self) {
        let peers: Vec<NodeId> = self.anti_entropy.unlike.keys().copied().collect();
        for peer in peers {
            self.number += 1;
            let round = self.number;
            let changes = self.anti_entropy.changes;
            self.anti_entropy.begun.insert(peer, (round, changes));
            let roots = self.roots(peer);
            self.say(peer, Message::Roots { round, roots });
        }
    }

    fn roots(&self, peer: NodeId) -> Vec<Hash> {
        let root = |range| (range, 0, self.keys.hash(range, 0, 0));
        self.common(peer).into_iter().map(root).collect()
    }

    pub(super) fn on_roots(&mut self, from: NodeId, round: u64, roots: &[Hash]) {
        let same = roots == self.roots(from);
        if same {
            self.anti_entropy.unlike.remove(&from);
        } else if self.config.leaderless.anti_entropy_ms > 0 {
            let changes = self.anti_entropy.changes;
            self.anti_entropy.unlike.entry(from).or_insert(changes);
        }
        self.say(from, Message::Compared { round, same });
        self.on_hashes(from, 0, roots);
    }

    pub(super) fn on_compared(&mut self, from: NodeId, round: u64, same: bool) {
        let state = &mut self.anti_entropy;
        let Some((_, then)) = state.begun.get(&from).filter(|(begun, _)| *begun == round) else {
            return;
        };
        let changed = state
            .unlike
            .get(&from)
            .is_some_and(|changed| changed > then);
        if same && !changed {
            state.unlike.remove(&from);
        }
    }

    /// Goes down where hashes of a peer differ from this node's.
    pub(super) fn on_hashes(&mut self, from: NodeId, level: u8, hashes: &[Hash]) {
        let common = self.common(from);
        let differing: Vec<(u16, u16)> = hashes
            .iter()
            .take(HASHES_MAX)
            .filter(|(range, _, _)| common.contains(range))
            .filter(|(range, place, hash)| self.keys.hash(*range, level, *place) != *hash)
            .map(|(range, place, _)| (*range, *place))
            .collect();
        if level >= LEAVES {
            for (range, bucket) in differing {
                self.list(from, range, bucket);
            }
            return;
        }
        let level = level + 1;
        let below = differing.into_iter().flat_map(|(range, place)| {
            let first = place.saturating_mul(FAN_OUT);
            (first..first.saturating_add(FAN_OUT)).map(move |place| (range, place))
        });
        let hashes: Vec<Hash> = below
            .map(|(range, place)| (range, place, self.keys.hash(range, level, place)))
            .take(HASHES_MAX)
            .collect();
        if !hashes.is_empty() {
            self.say(from, Message::Hashes { level, hashes });
        }
    }

    /// Tells a peer which keys are in a bucket here.
    fn list(&mut self, to: NodeId, range: u16, bucket: u16) {
        let mut from: Arc<str> = "".into();
        loop {
            let mut keys: Vec<(Arc<str>, u64)> = self
                .keys
                .bucket(range, bucket, &from)
                .take(LISTING_MAX + 1)
                .collect();
            let until = (keys.len() > LISTING_MAX)
                .then(|| keys.pop().map(|(key, _)| key))
                .flatten();
            let listing = Message::Listing {
                range,
                bucket,
                from,
                until: until.clone(),
                keys,
            };
            self.say(to, listing);
            match until {
                Some(until) => from = until,
                None => return,
            }
        }
    }

    /// Compares a stretch of a bucket with a peer's: sends what it lacks, asks for what it has.
    pub(super) fn on_listing(
        &mut self,
        peer: NodeId,
        (range, bucket): (u16, u16),
        (from, until): (&Arc<str>, Option<&Arc<str>>),
        keys: Vec<(Arc<str>, u64)>,
    ) {
        if !self.common(peer).contains(&range) {
            return;
        }
        let theirs: BTreeMap<Arc<str>, u64> = keys.into_iter().collect();
        let here = self.keys.bucket(range, bucket, from);
        let ours: BTreeMap<Arc<str>, u64> = here
            .take_while(|(key, _)| until.is_none_or(|until| key < until))
            .collect();
        let differs = |key: &&Arc<str>| ours.get(*key) != theirs.get(*key);
        let want: Vec<Arc<str>> = theirs.keys().filter(differs).cloned().collect();
        let give: Vec<Arc<str>> = ours.keys().filter(differs).cloned().collect();
        if !want.is_empty() {
            let entries = Vec::new();
            self.say(peer, Message::Exchange { entries, want });
        }
        self.give(peer, &give);
    }

    fn give(&mut self, to: NodeId, keys: &[Arc<str>]) {
        for some in keys.chunks(ENTRIES_MAX) {
            let entry = |key: &Arc<str>| {
                let held = self.keys.get(None, key)?;
                Some((key.clone(), held.entry.clone()))
            };
            let entries = some.iter().filter_map(entry).collect();
            let want = Vec::new();
            self.say(to, Message::Exchange { entries, want });
        }
    }

    pub(super) fn on_exchange(
        &mut self,
        now: Time,
        from: NodeId,
        entries: &[(Arc<str>, Entry)],
        want: &[Arc<str>],
        effects: &mut Vec<Effect>,
    ) {
        for (key, entry) in entries {
            if self.is_home(key) {
                self.take_in(now, None, key, entry, effects);
            }
        }
        self.give(from, want.get(..LISTING_MAX).unwrap_or(want));
    }
}
