//! Requests of clients: served at once, or once this node has seen what the client has.

use std::sync::Arc;

use super::clock::Stamp;
use super::origin::{Dot, Vector};
use super::replica::{MultiLeader, Waiting};
use super::{Change, Payload};
use crate::core::timing::MILLISECOND;
use crate::core::{
    Admin, Answer, Datum, Effect, Op, Position, Refusal, Reply, Request, RequestId, Role,
    StateDigest, Time, VersionVector,
};

impl MultiLeader {
    /// A new change of this node.
    pub(super) fn create(&mut self, payload: Payload, stamp: Stamp) -> Arc<Change> {
        let mut after = self.vector.clone();
        after.0.remove(&self.origin);
        Arc::new(Change {
            dot: Dot {
                origin: self.origin,
                seq: stamp.seq,
            },
            moment: stamp.moment,
            after,
            payload,
        })
    }

    pub(super) fn stamp(&mut self, now: Time) -> Stamp {
        Stamp {
            moment: self.clock.tick(now),
            origin: self.origin,
            seq: self.vector.get(self.origin).saturating_add(1),
        }
    }

    /// Carries out a write.
    ///
    /// # Errors
    /// What the content says; nothing is changed then.
    pub(super) fn perform(
        &mut self,
        op: &Op,
        context: Option<&VersionVector>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<Dot, Refusal> {
        let Some(key) = op.key() else {
            return Err(Refusal::Unsupported(
                "this mode has no such operation".into(),
            ));
        };
        let context = context.map(Vector::of_versions);
        let stamp = self.stamp(now);
        let cell = self.content.change(key, op, context, stamp)?;
        let change = self.create(Payload::Cell(key.clone(), cell), stamp);
        self.record_change(&change, now, effects);
        Ok(change.dot)
    }

    /// Answers once all that the answer may rest upon is durable.
    pub(super) fn answer(&mut self, id: RequestId, result: Result<Answer, Refusal>) {
        self.answer_with(id, result, None);
    }

    pub(super) fn answer_with(
        &mut self,
        id: RequestId,
        result: Result<Answer, Refusal>,
        context: Option<Vector>,
    ) {
        let reply = Reply {
            result,
            node: self.id,
            role: Role::Leader,
            epoch: 0,
            position: Position::default(),
            session: Some(self.vector.to_versions()),
            context: context.map(|context| context.to_versions()),
        };
        self.answers.push_back((self.record, id, reply));
    }

    pub(super) fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let mut session = Vector::default();
        if let Some(seen) = &request.session {
            session = Vector::of_versions(seen);
        }
        let until = now + self.config.failover_timeout_ms * MILLISECOND;
        let waiting = Waiting {
            until,
            session,
            id,
            request,
        };
        if self.must_wait(&waiting) {
            self.waiting.push(waiting);
        } else {
            self.serve(now, id, &waiting.request, effects);
        }
    }

    pub(super) fn must_wait(&self, waiting: &Waiting) -> bool {
        !self.vector.covers(&waiting.session) || self.synchronous.blocks(&waiting.request.op)
    }

    pub(super) fn serve(
        &mut self,
        now: Time,
        id: RequestId,
        request: &Request,
        effects: &mut Vec<Effect>,
    ) {
        match &request.op {
            Op::Read(key) => {
                let (datum, context) = self.content.read(key);
                self.answer_with(id, Ok(Answer::Value(datum)), context);
            }
            Op::ReadAll => {
                let all: Vec<(Arc<str>, Datum)> = self.content.read_all();
                self.answer(id, Ok(Answer::All(all)));
            }
            Op::Digest => {
                let digest = StateDigest {
                    digest: self.content.digest(),
                    scope: "".into(),
                    stopped: None,
                };
                self.answer(id, Ok(Answer::Digest(digest)));
            }
            Op::Admin(Admin::Snapshot) => {
                self.snapshot(effects);
                self.answer(id, Ok(Answer::Done));
            }
            Op::Admin(Admin::TakeHome(from)) => self.take_home(now, id, *from, effects),
            op => {
                if let Some(home) = self.elsewhere(op) {
                    let leader = Some(home);
                    self.answer(id, Err(Refusal::NotLeader { leader }));
                    return;
                }
                if self.is_synchronous() {
                    self.begin(now, id, request, effects);
                    return;
                }
                let done = self.perform(op, request.context.as_ref(), now, effects);
                self.answer(id, done.map(|_| Answer::Done));
            }
        }
    }

    /// Serves those who waited and need to no longer.
    pub(super) fn serve_waiting(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            if !self.must_wait(waiting) {
                let waiting = self.waiting.remove(at);
                self.serve(now, waiting.id, &waiting.request, effects);
            } else if now >= waiting.until {
                let waiting = self.waiting.remove(at);
                self.answer(
                    waiting.id,
                    Err(Refusal::Unavailable(
                        "this node does not have yet what it would have to show".into(),
                    )),
                );
            } else {
                at += 1;
            }
        }
    }
}
