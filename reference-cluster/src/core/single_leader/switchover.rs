//! Planned switchover: a leader hands over to a follower that has everything, so that nothing is
//! lost ([`Admin::TransferLeadership`](crate::core::Admin::TransferLeadership)).
//!
//! The leader takes no more writes, waits until those under way are acknowledged and the target
//! holds its whole log, and tells the target to take over, again with every heartbeat until it
//! hears of the target's leadership. If the target does not catch up within the failover timeout
//! the leader goes on as before. Once it has told the target it can not know: if it hears nothing
//! for a timeout it asks all replicas, as a follower would that suspects its leader.

use super::leading::Leading;
use super::pending::Asked;
use super::replica::Part;
use super::{Leadership, Message, Record, SingleLeader};
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Effect, NodeId, Position, Refusal, Time};

/// A switchover under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    pub target: NodeId,
    pub asked: Asked,
    /// When to give up, or to ask around.
    pub until: Time,
    /// Whether the target was told to take over.
    pub told: bool,
}

impl SingleLeader {
    /// Begins a switchover.
    pub(super) fn transfer(
        &mut self,
        now: Time,
        asked: Asked,
        target: NodeId,
        effects: &mut Vec<Effect>,
    ) {
        let until = now + self.config.failover_timeout_ms * MILLISECOND;
        let follows = self.peers.contains(&target) && self.scope_of(target).is_none();
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let refusal = if leading.handover.is_some() {
            Some(Refusal::Unavailable("a switchover is under way".into()))
        } else if !follows {
            let text = format!("n{} is no follower that could lead", target.0);
            Some(Refusal::Unsupported(text.into()))
        } else {
            leading.handover = Some(Handover {
                target,
                asked,
                until,
                told: false,
            });
            None
        };
        match refusal {
            Some(refusal) => self.reply(asked, Err(refusal), self.applied_position(), effects),
            None => self.hand_over(effects),
        }
    }

    /// Tells the target to take over once it has everything.
    pub(super) fn hand_over(&mut self, effects: &mut Vec<Effect>) {
        let (leadership, last) = (self.leadership, self.log.last());
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(handover) = &mut leading.handover else {
            return;
        };
        let target = handover.target;
        let has_all = |leading: &Leading| {
            leading.pending.is_empty()
                && leading
                    .followers
                    .iter()
                    .any(|follower| follower.id == target && follower.matched == last.index)
        };
        if handover.told || !has_all(leading) {
            return;
        }
        if let Some(handover) = &mut leading.handover {
            handover.told = true;
        }
        self.handed = leadership.epoch;
        Self::write_record(Record::Handed(leadership.epoch), effects);
        self.durability.force(effects);
        Self::send(target, Message::TakeOver { leadership, last }, effects);
    }

    /// Repeats what may have been lost; called with every heartbeat.
    pub(super) fn repeat_handover(&self, effects: &mut Vec<Effect>) {
        if let Part::Leader(leading) = &self.part
            && let Some(handover) = leading.handover.filter(|handover| handover.told)
        {
            let (leadership, last) = (self.leadership, self.log.last());
            let message = Message::TakeOver { leadership, last };
            Self::send(handover.target, message, effects);
        }
    }

    /// Ends a switchover that has taken too long.
    pub(super) fn end_handover(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Part::Leader(leading) = &mut self.part else {
            return;
        };
        let Some(handover) = leading.handover.take_if(|handover| handover.until <= now) else {
            return;
        };
        let position = self.applied_position();
        if handover.told {
            let refusal = Refusal::Indeterminate("the other node did not answer in time".into());
            self.reply(handover.asked, Err(refusal), position, effects);
            self.apply_all();
            self.inquire(now, effects);
        } else {
            let refusal = Refusal::Unavailable("the other node did not catch up in time".into());
            self.reply(handover.asked, Err(refusal), position, effects);
        }
    }

    /// Answers who asked for a switchover that ended with this leadership.
    pub(super) fn handed_over(
        &self,
        handover: Handover,
        to: Leadership,
        position: Position,
        effects: &mut Vec<Effect>,
    ) {
        let result = if to.leader == handover.target.0 {
            Ok(Answer::Done)
        } else {
            let text = "another node took the leadership over";
            Err(Refusal::Indeterminate(text.into()))
        };
        self.reply(handover.asked, result, position, effects);
    }

    /// Takes a leadership over whose whole log this node has.
    pub(super) fn on_take_over(
        &mut self,
        now: Time,
        leadership: Leadership,
        last: Position,
        effects: &mut Vec<Effect>,
    ) {
        let follows = matches!(self.part, Part::Follower(_));
        if follows && leadership == self.leadership && last == self.log.last() {
            self.rise(now, leadership.epoch.max(self.led), effects);
        }
    }
}
