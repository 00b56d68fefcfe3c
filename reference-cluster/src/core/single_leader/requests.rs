//! Who answers which request.
//!
//! * Writes, and reads with `reads: leader`: the leader, unless it is fenced.
//! * `reads: any`: every replica, from its own state.
//! * `reads: follower`: every replica but the leader, which answers only while it has heard from no
//!   follower within the failover timeout, so that a leader that is left alone stays readable.
//! * A read that asks to be local: every replica, whatever its role.
//! * A partial replica answers no read of what it does not hold.
//!
//! A session is the index of the newest entry that its client has seen. A replica that has applied
//! less lets a read wait. The index says nothing of which log it counts in: what a failover
//! discarded, the session has still seen, and it takes other entries of the same number for it.

use std::sync::Arc;

use super::SingleLeader;
use super::leading::Leading;
use super::pending::Asked;
use super::replica::Part;
use crate::core::config::{Bug, Reads};
use crate::core::timing::MILLISECOND;
use crate::core::{
    Admin, Answer, Effect, NodeId, Op, Position, Refusal, Reply, Request, RequestId, StateDigest,
    Time, VersionVector,
};

impl SingleLeader {
    pub(super) fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let session = request.session.as_ref();
        let seen = session.map_or(0, |session| session.get(VersionVector::LOG));
        let asked = Asked { id, seen };
        let refusal = if request.op == Op::Digest {
            return self.answer_digest(asked, effects);
        } else if self.halted {
            Some(Refusal::Unavailable(self.why_stopped()))
        } else if request.op == Op::Admin(Admin::Snapshot) {
            self.snapshot(effects);
            return self.reply(asked, Ok(Answer::Done), self.applied_position(), effects);
        } else if request.op.is_read() {
            self.refuses_read(now, &request)
        } else {
            self.refuses_write(now)
        };
        if let Some(refusal) = refusal {
            return self.reply(asked, Err(refusal), self.applied_position(), effects);
        }
        match request.op {
            op if op.is_read() => self.read_or_wait(now, asked, op, effects),
            Op::Admin(Admin::TransferLeadership(to)) => self.transfer(now, asked, to, effects),
            Op::Admin(_) => {
                let refusal = Refusal::Unsupported("this mode has no such operation".into());
                self.reply(asked, Err(refusal), self.applied_position(), effects);
            }
            op => self.write(now, asked, op, effects),
        }
    }

    /// Why this replica does not answer a read, if it does not.
    fn refuses_read(&self, now: Time, request: &Request) -> Option<Refusal> {
        if let Some(prefix) = self.scope_of(self.id)
            && request.op.key().is_none_or(|key| !key.starts_with(prefix))
        {
            let text = format!("this replica holds only keys that begin with {prefix:?}");
            return Some(Refusal::Unsupported(text.into()));
        }
        let leading = match &self.part {
            Part::Leader(leading) => Some(leading),
            _ => None,
        };
        if request.local || self.config.reads == Reads::Any {
            return None;
        }
        match (self.config.reads, leading) {
            (Reads::Follower, Some(leading)) if self.followed(leading, now) => Some(
                Refusal::Unavailable("the leader leaves reads to its followers".into()),
            ),
            (_, Some(leading)) if self.fenced(leading, now) => Some(Refusal::Unavailable(
                "the leader has lost contact with the majority".into(),
            )),
            // The other may already take writes.
            (_, Some(leading)) if leading.handover.is_some_and(|handover| handover.told) => Some(
                Refusal::Unavailable("the leadership is being handed over".into()),
            ),
            (Reads::Follower, None) | (_, Some(_)) => None,
            (_, None) => Some(self.not_leader()),
        }
    }

    /// Why this replica does not take a write, if it does not.
    fn refuses_write(&self, now: Time) -> Option<Refusal> {
        match &self.part {
            Part::Leader(leading) if self.fenced(leading, now) => Some(Refusal::Unavailable(
                "the leader has lost contact with the majority".into(),
            )),
            Part::Leader(leading) if leading.handover.is_some() => Some(Refusal::Unavailable(
                "the leadership is being handed over".into(),
            )),
            Part::Leader(_) => None,
            _ => Some(self.not_leader()),
        }
    }

    fn not_leader(&self) -> Refusal {
        let leader = self.believed_leader();
        Refusal::NotLeader { leader }
    }

    /// Whether a follower that holds everything was heard lately.
    fn followed(&self, leading: &Leading, now: Time) -> bool {
        let timeout = self.config.failover_timeout_ms * MILLISECOND;
        leading.followers.iter().any(|follower| {
            follower.answered
                && follower.heard + timeout >= now
                && self.scope_of(follower.id).is_none()
        })
    }

    fn write(&mut self, now: Time, asked: Asked, op: Op, effects: &mut Vec<Effect>) {
        let op = match op {
            Op::Cas(key, old, new) if self.config.has(Bug::CasDecidedEarly) => {
                // What is in the log but not yet applied is overlooked.
                let cas = Op::Cas(key.clone(), old, new.clone());
                if let Err(refusal) = self.store.clone().apply(&cas) {
                    return self.reply(asked, Err(refusal), self.applied_position(), effects);
                }
                Op::Write(key, new)
            }
            op => self.evaluate(now, op),
        };
        self.lead_write(now, asked, op, effects);
    }

    fn answer_digest(&self, asked: Asked, effects: &mut Vec<Effect>) {
        let answer = Answer::Digest(StateDigest {
            digest: self.store.digest(),
            scope: self.scope_of(self.id).unwrap_or_default().into(),
            stopped: self.stopped.clone(),
        });
        self.reply(asked, Ok(answer), self.applied_position(), effects);
    }

    fn why_stopped(&self) -> std::borrow::Cow<'static, str> {
        let why = self.stopped.as_ref().map(Arc::to_string);
        why.unwrap_or_default().into()
    }

    pub(super) fn applied_position(&self) -> Position {
        self.log.position(self.applied).unwrap_or_default()
    }

    /// Who this node believes leads.
    pub(super) fn believed_leader(&self) -> Option<NodeId> {
        match &self.part {
            Part::Leader(_) => Some(self.id),
            Part::Follower(_) if self.leadership.leader != 0 => {
                Some(NodeId(self.leadership.leader)).filter(|leader| *leader != self.id)
            }
            _ => None,
        }
    }

    pub(super) fn reply(
        &self,
        asked: Asked,
        result: Result<Answer, Refusal>,
        position: Position,
        effects: &mut Vec<Effect>,
    ) {
        // What a failed compare-and-set tells is something seen, other refusals tell nothing.
        let seen = match &result {
            Ok(_) | Err(Refusal::CasMismatch { .. }) => asked.seen.max(position.index),
            Err(_) => asked.seen,
        };
        let reply = Reply {
            result,
            node: self.id,
            role: self.role(),
            epoch: self.leadership.epoch,
            position,
            session: Some(VersionVector::of_log(seen)),
            context: None,
        };
        effects.push(Effect::Reply(asked.id, reply));
    }
}
