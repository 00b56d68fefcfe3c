//! Hinted handoff: what was taken in another's stead goes to its owner when that is back
//! (`DeCandia` et al. 2007, §4.6).

use std::sync::Arc;

use super::replica::Peer;
use super::{Message, Record};
use crate::core::config::Bug;
use crate::core::{Effect, NodeId, Time};

/// Hints sent to one owner before one of them is acknowledged.
const BATCH: usize = 64;
/// Hints beyond which a node stands in for nobody.
pub(super) const HINTS_MAX: usize = 100_000;

impl Peer {
    /// Offers hints to all their owners, suspected or not.
    pub(super) fn hand_off(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let owners: Vec<NodeId> = self.keys.owners().collect();
        for owner in owners {
            self.hand_off_to(now, owner, effects);
        }
    }

    fn hand_off_to(&mut self, now: Time, owner: NodeId, effects: &mut Vec<Effect>) {
        let hints = self.keys.hints_for(owner).take(BATCH);
        let batch: Vec<_> = hints
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        self.handing.insert(owner, batch.len());
        for (key, entry) in batch {
            if self.config.has(Bug::HintDropped) {
                self.forget_hint(now, owner, &key, effects);
            }
            self.say(owner, Message::Handoff { key, entry });
        }
    }

    /// The owner of a hint holds what it said.
    pub(super) fn on_handed_off(
        &mut self,
        now: Time,
        owner: NodeId,
        key: &Arc<str>,
        hash: u64,
        effects: &mut Vec<Effect>,
    ) {
        // It may have been added to since it was sent.
        let hint = self.keys.get(Some(owner), key);
        if hint.is_none_or(|hint| hint.entry.hash(key) != hash) {
            return;
        }
        self.forget_hint(now, owner, key, effects);
        let left = self.handing.entry(owner).or_default();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.hand_off_to(now, owner, effects);
        }
    }

    fn forget_hint(&mut self, now: Time, owner: NodeId, key: &Arc<str>, effects: &mut Vec<Effect>) {
        self.keys.remove(Some(owner), key);
        let record = Record::Forgotten {
            owner: Some(owner),
            key: key.clone(),
        };
        self.write(now, record, effects);
    }
}
