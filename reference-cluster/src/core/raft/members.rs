//! Who takes part: members join and leave one at a time (Ongaro 2014, §4.1), by an entry of the log
//! that counts once it is applied; and the leadership is handed over (§3.10).

use raft::eraftpb::Message as Wire;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, MessageType};

use super::Message;
use super::replica::Raft;
use crate::core::{
    Admin, Answer, Effect, Message as AnyMessage, NodeId, Position, Refusal, RequestId, Trace,
};

/// The change of members in an entry, if it is one.
pub(super) fn change(entry: &Entry) -> Option<ConfChange> {
    use protobuf::Message as _;
    if entry.get_entry_type() != EntryType::EntryConfChange {
        return None;
    }
    let mut change = ConfChange::default();
    change.merge_from_bytes(&entry.data).ok()?;
    Some(change)
}

/// Carries a change out on a list of members.
pub(super) fn changed(members: &mut ConfState, change: &ConfChange) {
    let mut voters = members.get_voters().to_vec();
    voters.retain(|voter| *voter != change.node_id);
    if change.get_change_type() == ConfChangeType::AddNode {
        voters.push(change.node_id);
    }
    voters.sort_unstable();
    members.set_voters(voters);
}

impl Raft {
    /// Whether a node is a member, as far as this one has applied.
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.engine.raft.prs().get(node.0.into()).is_some()
    }

    /// Why this node does not take part, if so. One that its leader talks to is only on its way.
    pub(super) fn absent(&self) -> Option<&'static str> {
        let waits = !self.engine.raft.promotable() && self.engine.raft.leader_id == 0;
        (self.expelled || waits).then_some("it is not a member of the cluster")
    }

    pub(super) fn on_admin(
        &mut self,
        id: RequestId,
        admin: &Admin,
        here: Position,
        effects: &mut Vec<Effect>,
    ) {
        let done = match *admin {
            Admin::TakeHome(_) => Err(Refusal::Unsupported("keys have no home in raft".into())),
            Admin::Snapshot => {
                self.snapshot(effects);
                Ok(Answer::Done)
            }
            Admin::AddMember(node) => match self.propose_change(node, true, id) {
                Ok(true) => return,
                Ok(false) => Ok(Answer::Done),
                Err(why) => Err(why),
            },
            Admin::RemoveMember(node) => match self.propose_change(node, false, id) {
                Ok(true) => return,
                Ok(false) => Ok(Answer::Done),
                Err(why) => Err(why),
            },
            Admin::TransferLeadership(to) if to == self.id => Ok(Answer::Done),
            Admin::TransferLeadership(to) if self.is_member(to) => {
                self.lease.forfeit();
                self.engine.transfer_leader(to.0.into());
                Ok(Answer::Done)
            }
            Admin::TransferLeadership(to) => Err(Refusal::Unavailable(
                format!("n{} is not a member", to.0).into(),
            )),
        };
        self.reply(id, done, here, effects);
    }

    /// Proposes that a node joins or leaves; whether there is anything to change.
    fn propose_change(
        &mut self,
        node: NodeId,
        joins: bool,
        id: RequestId,
    ) -> Result<bool, Refusal> {
        let refuse = |why: &'static str| Err(Refusal::Unavailable(why.into()));
        if !self.nodes.contains(&node) {
            let message = format!("there is no n{}", node.0);
            return Err(Refusal::Unsupported(message.into()));
        }
        if self.engine.raft.has_pending_conf() {
            return refuse("another change of members may be under way");
        }
        if self.is_member(node) == joins {
            return Ok(false);
        }
        if !joins && self.engine.raft.prs().iter().count() == 1 {
            return refuse("the last member cannot leave");
        }
        let mut change = ConfChange {
            node_id: node.0.into(),
            ..ConfChange::default()
        };
        change.set_change_type(if joins {
            ConfChangeType::AddNode
        } else {
            ConfChangeType::RemoveNode
        });
        let context = postcard::to_stdvec(&(self.id, id)).unwrap_or_default();
        if self.engine.propose_conf_change(context, change).is_err() {
            return refuse("the leader takes no changes for now");
        }
        self.proposed(id);
        Ok(true)
    }

    /// Applies a change. The leader has told the others that it is committed, the one that leaves
    /// too, before it comes here.
    pub(super) fn change_members(&mut self, index: u64, change: &ConfChange) {
        // An error would be a change to no members at all, which is never proposed.
        let _ = self.engine.apply_conf_change(change);
        self.members_at = index;
        self.lease.renew();
        if change.get_change_type() == ConfChangeType::AddNode {
            // A snapshot in which the newcomer is no member is of no use to it.
            self.base_wanted = index;
        }
    }

    /// Ends what a node that has left does as a member.
    pub(super) fn leave(&mut self, effects: &mut Vec<Effect>) {
        if !self.expelled {
            self.expelled = true;
            effects.push(Effect::Trace(Trace::Remark("left the cluster")));
        }
        let term = self.engine.raft.term;
        self.engine.raft.become_follower(term, 0);
    }

    /// Tells one that stands for election and has left, which it may have missed, that it has: it
    /// would try for ever. Says from which index on that is so.
    pub(super) fn tell_absent(&self, from: NodeId, message: &Wire, effects: &mut Vec<Effect>) {
        let stands = matches!(
            message.msg_type,
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        if stands && self.engine.raft.promotable() && !self.is_member(from) {
            let told = Message::NotAMember {
                since: self.members_at,
            };
            effects.push(Effect::Send(from, AnyMessage::Raft(told)));
        }
    }

    /// This node was told that it has left.
    pub(super) fn on_absent(&mut self, since: u64, effects: &mut Vec<Effect>) {
        if since > self.members_at && !self.leads() {
            self.leave(effects);
        }
    }
}
