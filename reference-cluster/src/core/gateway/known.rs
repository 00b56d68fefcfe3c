//! What an auxiliary node knows of the replicas.

use super::Message;
use crate::core::{Effect, Message as AnyMessage, NodeId, Role, Status, Time};

/// One replica, as it was last heard of.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub node: NodeId,
    /// Its life; see [`Message`].
    pub life: Time,
    /// When it last said how it stands, and how.
    pub stands: Option<(Time, Status)>,
}

impl Known {
    fn status_since(&self, since: Time) -> Option<&Status> {
        self.stands
            .as_ref()
            .filter(|(heard, _)| *heard >= since)
            .map(|(_, status)| status)
    }
}

/// All replicas, by number.
#[derive(Clone, Debug)]
pub(super) struct Replicas(Vec<Known>);

impl Replicas {
    pub fn new(nodes: &[NodeId]) -> Self {
        let unheard = |node: &NodeId| Known {
            node: *node,
            life: 0,
            stands: None,
        };
        Self(nodes.iter().map(unheard).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, node: NodeId) -> Option<&Known> {
        self.0.iter().find(|known| known.node == node)
    }

    /// Asks all how they stand.
    pub fn ask(&self, effects: &mut Vec<Effect>) {
        for known in &self.0 {
            let ask = AnyMessage::Gateway(Message::Ask);
            effects.push(Effect::Send(known.node, ask));
        }
    }

    /// Takes note of what a replica says. What one says of a life before the last known is late.
    pub fn hear(&mut self, now: Time, from: NodeId, life: Time, status: Status) {
        if let Some(known) = self.0.iter_mut().find(|known| known.node == from)
            && known.life <= life
        {
            known.life = life;
            known.stands = Some((now, status));
        }
    }

    /// Those heard since a time, by number.
    pub fn heard_since(&self, since: Time) -> impl Iterator<Item = &Status> {
        self.0
            .iter()
            .filter_map(move |known| known.status_since(since))
    }

    /// Who calls itself leader in the highest epoch, of those heard since a time.
    pub fn leader(&self, since: Time) -> Option<NodeId> {
        self.heard_since(since)
            .filter(|status| status.role == Role::Leader)
            .max_by_key(|status| (status.epoch, status.id))
            .map(|status| status.id)
    }

    /// The highest epoch ever heard of.
    pub fn epoch(&self) -> u64 {
        let epochs = self.0.iter().filter_map(|known| known.stands.as_ref());
        epochs.map(|(_, status)| status.epoch).max().unwrap_or(0)
    }
}
