//! Collecting tombstones: the memory of a deletion may go when nobody is left who could bring the
//! value back.
//!
//! The first home of a key sees to it. When a tombstone has not changed for a while, it sends it to
//! all other homes (and, where quorums are sloppy, to all nodes: they may have hints of the key),
//! who merge it and say what they then hold. Once all hold that same tombstone they are told to
//! forget it. Who misses that gives the tombstone back to the others by anti-entropy, and it is
//! tried again. The while is longer than any request takes, so that no write older than the
//! tombstone is still on its way from its coordinator; that the network keeps a message for longer
//! is the one case that brings a value back.
//!
//! Without anti-entropy tombstones are kept for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::replica::Peer;
use super::version::Entry;
use super::{Message, Record};
use crate::core::config::Bug;
use crate::core::{Effect, NodeId, Time};

/// How many failover timeouts a tombstone is kept at least.
const GRACE: Time = 3;
/// Tombstones that are being collected at a time.
const COLLECTING_MAX: usize = 64;

/// The tombstones of a node.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// Since when they are as they are.
    since: BTreeMap<Arc<str>, Time>,
    /// Those being collected: their hashes, and who holds the same.
    collecting: BTreeMap<Arc<str>, (u64, BTreeSet<NodeId>)>,
}

impl Peer {
    /// What is held of a key has changed.
    pub(super) fn mark_tombstone(&mut self, now: Time, key: &Arc<str>) {
        let held = self.keys.get(None, key);
        let deleted = held.is_some_and(|held| held.entry.is_tombstone()) && self.is_home(key);
        if deleted {
            self.tombstones.since.insert(key.clone(), now);
        } else {
            self.tombstones.since.remove(key);
        }
        self.tombstones.collecting.remove(key);
    }

    /// All tombstones that were recovered count from now.
    pub(super) fn mark_tombstones(&mut self, now: Time) {
        let keys: Vec<Arc<str>> = self.keys.tombstones().cloned().collect();
        for key in keys {
            self.mark_tombstone(now, &key);
        }
    }

    /// Who has to agree before a key's tombstone may go, but for this node.
    fn concerned(&self, key: &str) -> Vec<NodeId> {
        let count = if self.config.leaderless.sloppy {
            self.ring.len() as u16
        } else {
            self.config.leaderless.n
        };
        let all = self.ring.homes(self.ring.range(key), count);
        all.filter(|node| *node != self.id).collect()
    }

    /// Goes on with collecting.
    pub(super) fn collect(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let grace = GRACE * self.timeout();
        let old = |(key, since): (&Arc<str>, &Time)| {
            (since.saturating_add(grace) <= now).then(|| key.clone())
        };
        let old: Vec<Arc<str>> = self.tombstones.since.iter().filter_map(old).collect();
        if self.config.has(Bug::TombstoneResurrected) {
            for key in old {
                self.forget(now, &key, effects);
            }
            return;
        }
        let first = |key: &Arc<str>| {
            let mut homes = self.ring.walk(self.ring.range(key));
            homes.next() == Some(self.id)
        };
        let mine: Vec<Arc<str>> = old.into_iter().filter(first).collect();
        for key in mine {
            let room = self.tombstones.collecting.len() < COLLECTING_MAX;
            let Some(held) = self
                .keys
                .get(None, &key)
                .filter(|_| room || self.tombstones.collecting.contains_key(&key))
            else {
                continue;
            };
            let (entry, hash) = (held.entry.clone(), held.entry.hash(&key));
            let state = self.tombstones.collecting.entry(key.clone());
            let (_, have) = state.or_insert_with(|| (hash, BTreeSet::new()));
            let have = have.clone();
            for node in self
                .concerned(&key)
                .into_iter()
                .filter(|node| !have.contains(node))
            {
                let (key, entry) = (key.clone(), entry.clone());
                self.say(node, Message::Cover { key, entry });
            }
            self.conclude(now, &key, effects);
        }
    }

    /// Takes in a tombstone that is to be collected, wherever there is something of its key.
    pub(super) fn on_cover(
        &mut self,
        now: Time,
        from: NodeId,
        key: &Arc<str>,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) {
        let owners: Vec<NodeId> = self.keys.owners().collect();
        for owner in owners {
            if self.keys.get(Some(owner), key).is_some() {
                self.take_in(now, Some(owner), key, entry, effects);
            }
        }
        if self.is_home(key) || self.keys.get(None, key).is_some() {
            self.take_in(now, None, key, entry, effects);
        }
        let held = self.keys.get(None, key).map_or(entry, |held| &held.entry);
        let hash = held.hash(key);
        let key = key.clone();
        self.say(from, Message::Covered { key, hash });
    }

    pub(super) fn on_covered(
        &mut self,
        now: Time,
        from: NodeId,
        key: &Arc<str>,
        hash: u64,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((expected, have)) = self.tombstones.collecting.get_mut(key)
            && *expected == hash
        {
            have.insert(from);
            self.conclude(now, key, effects);
        }
    }

    /// Forgets a tombstone that all concerned hold, and tells them to.
    fn conclude(&mut self, now: Time, key: &Arc<str>, effects: &mut Vec<Effect>) {
        let concerned = self.concerned(key);
        let Some((hash, have)) = self.tombstones.collecting.get(key) else {
            return;
        };
        if !concerned.iter().all(|node| have.contains(node)) {
            return;
        }
        let hash = *hash;
        for node in concerned {
            let key = key.clone();
            self.say(node, Message::Forget { key, hash });
        }
        self.forget(now, key, effects);
    }

    pub(super) fn on_forget(
        &mut self,
        now: Time,
        key: &Arc<str>,
        hash: u64,
        effects: &mut Vec<Effect>,
    ) {
        let held = self.keys.get(None, key).map(|held| &held.entry);
        if held.is_some_and(|entry| entry.is_tombstone() && entry.hash(key) == hash) {
            self.forget(now, key, effects);
        }
    }

    fn forget(&mut self, now: Time, key: &Arc<str>, effects: &mut Vec<Effect>) {
        self.keys.remove(None, key);
        self.doubt(key);
        self.mark_tombstone(now, key);
        let record = Record::Forgotten {
            owner: None,
            key: key.clone(),
        };
        self.write(now, record, effects);
    }
}
