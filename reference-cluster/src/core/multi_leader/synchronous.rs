//! Conflicts detected before they happen: a write waits until all others have it.
//!
//! The node that is asked first has every other node promise to keep the key for it; then it makes
//! the change, which is replicated like any other; once all have it durably the client is
//! answered. Reads of a key that a node has promised wait until it is clear what became of the
//! write. So all nodes show the same at any time, and every write sees all before it.
//!
//! **Two at once.** Of two nodes that write the same key at the same time, the one whose attempt
//! began earlier, by (hybrid time, node), goes on; the other gives up, and its client is told that
//! nothing was done. (Wound-wait: Rosenkrantz, Stearns & Lewis, *System level concurrency control
//! for distributed database systems*, 1978.) A node promises nothing while a change of its own to
//! the key is not everywhere. As each of two needs the promise of the other, never both go on,
//! whatever others promise or forget.
//!
//! **Somebody does not answer.** Before the change was made, the write fails after
//! `failover_timeout_ms`, certainly. After that it is made, and will reach everybody once they can
//! be reached: the client is told that the outcome is unknown, and the key takes no other write
//! before. Nothing can be written while one node is away.
//!
//! **The writer dies.** Those who have promised ask it what became of the write. Until it is back
//! they refuse reads of that key after `failover_timeout_ms`: they do not guess, as two-phase
//! commit does not (Gray, *Notes on Data Base Operating Systems*, 1978). Writes would fail anyway.
//! Back again, it goes on with the change if it is in its journal, and takes back its request
//! otherwise. Promises are kept in the journal too; a writer that comes back wiped has no change
//! to go on with, and all of its promises are void; what some have of the change they pass on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::{Moment, Stamp};
use super::content::Cell;
use super::exchange::send;
use super::origin::Dot;
use super::replica::MultiLeader;
use super::{Change, Conflicts, Message as AnyMessage, Payload, Record};
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Effect, NodeId, Op, Refusal, Request, RequestId, Time};

/// One attempt to write. Ordered by age: the smaller is the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub moment: Moment,
    /// Where.
    pub node: NodeId,
}

/// What is said about attempts; of the key with this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which attempt.
    pub attempt: Attempt,
    /// The key.
    pub key: Arc<str>,
    /// What of it.
    pub word: Word,
}

/// What is said about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// From the writer: promise me the key.
    Prepare,
    /// To the writer: promised; the version held here is this.
    Promise(Option<Stamp>),
    /// To the writer: no.
    Refuse,
    /// From the writer: never mind.
    Release,
    /// To the writer: what became of it?
    Ask,
}

/// A write that has not been made yet.
#[derive(Debug)]
struct Begun {
    attempt: Attempt,
    id: RequestId,
    request: Request,
    until: Time,
    promised: BTreeSet<NodeId>,
}

/// A write that was made and is not known to be everywhere.
#[derive(Debug)]
struct Made {
    dot: Dot,
    /// Whose it is, if somebody still waits, and until when.
    client: Option<(RequestId, Time)>,
}

/// What a node has under way.
#[derive(Debug, Default)]
pub(super) struct Synchronous {
    begun: BTreeMap<Arc<str>, Begun>,
    made: BTreeMap<Arc<str>, Made>,
    /// Keys that are promised to others, and since when.
    promised: BTreeMap<Arc<str>, BTreeMap<Attempt, Time>>,
    /// Whether this node has started with nothing, and not yet what others have.
    pub empty: bool,
}

impl Synchronous {
    /// How much is under way.
    pub fn pending(&self) -> usize {
        self.begun.len() + self.made.len() + self.promised.len() + usize::from(self.empty)
    }

    /// Whether a read has to wait.
    pub fn blocks(&self, op: &Op) -> bool {
        match op {
            Op::Read(key) => self.empty || self.promised.contains_key(key),
            Op::ReadAll => self.empty || !self.promised.is_empty(),
            _ => false,
        }
    }

    pub fn promises(&self) -> Vec<(Arc<str>, Attempt)> {
        let each = self.promised.iter();
        each.flat_map(|(key, attempts)| attempts.keys().map(|attempt| (key.clone(), *attempt)))
            .collect()
    }

    pub fn promise(&mut self, key: Arc<str>, attempt: Attempt, now: Time) {
        let attempts = self.promised.entry(key).or_default();
        attempts.entry(attempt).or_insert(now);
    }

    pub fn release(&mut self, key: &str, over: impl Fn(Attempt) -> bool) {
        if let Some(attempts) = self.promised.get_mut(key) {
            attempts.retain(|attempt, _| !over(*attempt));
            if attempts.is_empty() {
                self.promised.remove(key);
            }
        }
    }

    /// A change was taken in: whatever its maker had attempted before is over.
    pub fn taken_in(&mut self, change: &Change) {
        if let Payload::Cell(key, _) = &change.payload {
            let node = change.dot.origin.node;
            self.release(key, |attempt| {
                attempt.node == node && attempt.moment <= change.moment
            });
        }
    }

    /// A change of this node's own that others may not have.
    pub fn unfinished(&mut self, change: &Change) {
        if let Payload::Cell(key, _) = &change.payload {
            let (dot, client) = (change.dot, None);
            self.made.insert(key.clone(), Made { dot, client });
        }
    }

    /// When something is to be given up.
    pub fn deadline(&self) -> Time {
        let begun = self.begun.values().map(|begun| begun.until);
        let made = self.made.values().filter_map(|made| Some(made.client?.1));
        begun.chain(made).min().unwrap_or(Time::MAX)
    }
}

fn unavailable(why: &'static str) -> Refusal {
    Refusal::Unavailable(why.into())
}

impl MultiLeader {
    pub(super) fn is_synchronous(&self) -> bool {
        self.config.multi_leader.conflicts == Conflicts::Synchronous
    }

    fn say(to: NodeId, attempt: Attempt, key: &Arc<str>, word: Word, effects: &mut Vec<Effect>) {
        let key = key.clone();
        let message = Message { attempt, key, word };
        send(to, AnyMessage::Synchronous(message), effects);
    }

    fn say_to_all(&self, attempt: Attempt, key: &Arc<str>, word: Word, effects: &mut Vec<Effect>) {
        for link in &self.links {
            Self::say(link.node, attempt, key, word, effects);
        }
    }

    /// Asks all others to promise the key.
    pub(super) fn begin(
        &mut self,
        now: Time,
        id: RequestId,
        request: &Request,
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = request.op.key().cloned() else {
            let why = "this mode has no such operation";
            return self.answer(id, Err(Refusal::Unsupported(why.into())));
        };
        let busy = &self.synchronous;
        if busy.empty {
            return self.answer(
                id,
                Err(unavailable("this node has not yet what others have")),
            );
        }
        if busy.begun.contains_key(&key)
            || busy.made.contains_key(&key)
            || busy.promised.contains_key(&key)
        {
            return self.answer(
                id,
                Err(unavailable("another write of the key is under way")),
            );
        }
        let attempt = Attempt {
            moment: self.stamp(now).moment,
            node: self.id,
        };
        self.say_to_all(attempt, &key, Word::Prepare, effects);
        let until = now + self.config.failover_timeout_ms * MILLISECOND;
        let (request, promised) = (request.clone(), BTreeSet::new());
        let begun = Begun {
            attempt,
            id,
            request,
            until,
            promised,
        };
        self.synchronous.begun.insert(key.clone(), begun);
        self.make(now, &key, effects);
    }

    /// Makes the change, if all others have promised the key.
    fn make(&mut self, now: Time, key: &Arc<str>, effects: &mut Vec<Effect>) {
        let all = self.links.len();
        let begun = &mut self.synchronous.begun;
        if begun
            .get(key)
            .is_none_or(|begun| begun.promised.len() < all)
        {
            return;
        }
        let Some(begun) = begun.remove(key) else {
            return;
        };
        match self.perform(&begun.request.op, None, now, effects) {
            Ok(dot) => {
                let until = now + self.config.failover_timeout_ms * MILLISECOND;
                let client = Some((begun.id, until));
                self.synchronous
                    .made
                    .insert(key.clone(), Made { dot, client });
            }
            Err(refusal) => {
                self.answer(begun.id, Err(refusal));
                self.say_to_all(begun.attempt, key, Word::Release, effects);
            }
        }
    }

    fn give_up(&mut self, key: &Arc<str>, why: &'static str, effects: &mut Vec<Effect>) {
        if let Some(begun) = self.synchronous.begun.remove(key) {
            self.answer(begun.id, Err(unavailable(why)));
            self.say_to_all(begun.attempt, key, Word::Release, effects);
        }
    }

    /// The version of a key here.
    fn version(&self, key: &str) -> Option<Stamp> {
        match self.content.cells().get(key) {
            Some(Cell::Lww(cell)) => Some(cell.stamp),
            _ => None,
        }
    }

    pub(super) fn on_word(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        let Message { attempt, key, word } = message;
        if !self.is_synchronous() {
            return;
        }
        let ours = self.synchronous.begun.get_mut(&key);
        let ours = ours.filter(|begun| begun.attempt == attempt);
        match (word, ours) {
            (Word::Prepare, _) if attempt.node == from => {
                self.on_prepare(now, attempt, key, effects);
            }
            (Word::Promise(version), Some(begun)) => {
                begun.promised.insert(from);
                if version > self.version(&key) {
                    let why = "this node has not yet what another has";
                    return self.give_up(&key, why, effects);
                }
                self.make(now, &key, effects);
            }
            (Word::Refuse, Some(_)) => {
                self.give_up(&key, "another write of the key is under way", effects);
            }
            (Word::Release, _) if attempt.node == from => {
                self.synchronous.release(&key, |known| known == attempt);
                self.write(Record::Released(key, attempt), now, effects);
            }
            (Word::Ask, None) if !self.synchronous.made.contains_key(&key) => {
                Self::say(from, attempt, &key, Word::Release, effects);
            }
            _ => {}
        }
    }

    fn on_prepare(
        &mut self,
        now: Time,
        attempt: Attempt,
        key: Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        self.see(attempt.moment);
        let to = attempt.node;
        let busy = &self.synchronous;
        let older = busy
            .begun
            .get(&key)
            .is_some_and(|begun| begun.attempt < attempt);
        let timeout = self.config.failover_timeout_ms * MILLISECOND;
        let promised = busy.promised.get(&key);
        let promised = promised.is_some_and(|attempts| {
            let mut each = attempts.iter();
            each.any(|(known, since)| *known < attempt && since + timeout > now)
        });
        if older || promised || busy.empty || busy.made.contains_key(&key) {
            return Self::say(to, attempt, &key, Word::Refuse, effects);
        }
        self.give_up(&key, "an earlier write of the key is under way", effects);
        self.synchronous.promise(key.clone(), attempt, now);
        self.write(Record::Promised(key.clone(), attempt), now, effects);
        let word = Word::Promise(self.version(&key));
        let message = Message { attempt, key, word };
        self.send_durably(to, AnyMessage::Synchronous(message));
    }

    /// Answers those whose writes are everywhere, and those who have waited long enough.
    pub(super) fn conclude(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.is_synchronous() {
            return;
        }
        if self.synchronous.empty {
            let (vector, links) = (&self.vector, &self.links);
            let behind = |known| !vector.covers(known);
            let waits = links
                .iter()
                .any(|link| link.run.is_none() || behind(&link.known));
            self.synchronous.empty = waits;
        }
        let mut answers = Vec::new();
        let (links, stable) = (&self.links, &self.stable);
        self.synchronous.made.retain(|_, made| {
            let everywhere = links.iter().all(|link| link.known.contains(made.dot));
            if everywhere && stable.contains(made.dot) {
                answers.extend(made.client.map(|(id, _)| (id, Ok(Answer::Done))));
                return false;
            }
            if let Some((id, until)) = made.client
                && now >= until
            {
                let why = "not all other nodes are known to have it";
                answers.push((id, Err(Refusal::Indeterminate(why.into()))));
                made.client = None;
            }
            true
        });
        for (id, result) in answers {
            self.answer(id, result);
        }
        let begun = self.synchronous.begun.iter();
        let late: Vec<Arc<str>> = begun
            .filter(|(_, begun)| now >= begun.until)
            .map(|(key, _)| key.clone())
            .collect();
        for key in late {
            self.give_up(&key, "not all other nodes answer", effects);
        }
    }

    /// Says again what may have been lost.
    pub(super) fn remind(&self, effects: &mut Vec<Effect>) {
        for (key, begun) in &self.synchronous.begun {
            let rest = self
                .links
                .iter()
                .filter(|link| !begun.promised.contains(&link.node));
            for link in rest {
                Self::say(link.node, begun.attempt, key, Word::Prepare, effects);
            }
        }
        for (key, attempt) in self.synchronous.promises() {
            Self::say(attempt.node, attempt, &key, Word::Ask, effects);
        }
    }
}
