//! What clients ask: which requests are coordinated, and what this node answers alone.

use std::sync::Arc;

use super::outbox::Saying;
use super::replica::Peer;
use super::version::Entry;
use crate::core::{
    Admin, Answer, Effect, Op, Position, Refusal, Replica, Reply, Request, RequestId, Role,
    StateDigest, Time, VersionVector,
};

/// Requests under way at one coordinator; beyond that they are refused.
const IN_FLIGHT_MAX: usize = 8_192;

impl Peer {
    pub(super) fn on_request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if self.writes.len() + self.reads.len() >= IN_FLIGHT_MAX {
            let busy = Refusal::Unavailable("too many requests are under way".into());
            return self.reply(id, Err(busy), None, effects);
        }
        let Request {
            op,
            local,
            context,
            quorum,
            ..
        } = request;
        let begun = match op {
            Op::Read(key) if local => {
                let (result, context) = self.read_here(&key);
                let reply = self.make_reply(result, context);
                self.outbox.say(Saying::Reply(id, reply));
                Ok(())
            }
            Op::ReadAll | Op::Digest => {
                let answer = if op == Op::ReadAll {
                    Answer::All(self.keys.all())
                } else {
                    Answer::Digest(self.state_digest())
                };
                let reply = self.make_reply(Ok(answer), None);
                self.outbox.say(Saying::Reply(id, reply));
                Ok(())
            }
            Op::Read(key) => self.begin_read(now, id, key, quorum, effects),
            Op::Write(key, value) => {
                self.begin_write(now, id, key, Some(value), context, quorum, effects)
            }
            Op::Delete(key) => self.begin_write(now, id, key, None, context, quorum, effects),
            Op::Admin(Admin::Snapshot) => {
                self.rewrite_journal(effects);
                let reply = self.make_reply(Ok(Answer::Done), None);
                self.outbox.say(Saying::Reply(id, reply));
                Ok(())
            }
            _ => Err(Refusal::Unsupported(
                "the leaderless mode has reads, writes and deletes only".into(),
            )),
        };
        if let Err(refusal) = begun {
            self.reply(id, Err(refusal), None, effects);
        }
    }

    /// What this node alone says of a key.
    fn read_here(&self, key: &Arc<str>) -> (Result<Answer, Refusal>, Option<VersionVector>) {
        if !self.is_home(key) {
            let elsewhere = format!("n{} does not hold this key", self.id.0);
            return (Err(Refusal::Unsupported(elsewhere.into())), None);
        }
        let entry = self.keys.get(None, key).map(|held| &held.entry);
        let answer = Answer::Value(entry.and_then(Entry::datum));
        (Ok(answer), self.context_of(entry))
    }

    fn state_digest(&self) -> StateDigest {
        let everything = usize::from(self.config.leaderless.n) == self.ring.len();
        StateDigest {
            digest: self.digest(),
            scope: if everything {
                "".into()
            } else {
                format!("range n{}", self.id.0).into()
            },
            stopped: None,
        }
    }

    pub(super) fn reply(
        &self,
        id: RequestId,
        result: Result<Answer, Refusal>,
        context: Option<VersionVector>,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Reply(id, self.make_reply(result, context)));
    }

    fn make_reply(&self, result: Result<Answer, Refusal>, context: Option<VersionVector>) -> Reply {
        Reply {
            result,
            node: self.id,
            role: Role::Peer,
            epoch: 0,
            position: Position::default(),
            session: None,
            context,
        }
    }
}
