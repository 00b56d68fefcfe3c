//! Collaborative editing: several authors of few documents, each document a sequence of unique
//! elements.

use std::collections::BTreeMap;

use checkers::{F, Outcome, Value};

use super::Parameters;
use super::draw::{Draw, siblings};
use super::keys::Keys;
use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// Each author reads a document and changes it at a place that he saw: inserts an element after a
/// visible one, or removes one. The store merges what others did meanwhile (a text CRDT).
pub(super) struct Merged {
    draw: Draw,
    remove_fraction: f64,
    /// What the authors are about to do, by thread.
    intents: BTreeMap<u32, Intent>,
}

enum Intent {
    Reading,
    Edit { document: Value, shown: Vec<Value> },
}

impl Merged {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            remove_fraction: parameters.remove_fraction(),
            intents: BTreeMap::new(),
        }
    }

    /// An edit in the knowledge of what the document showed.
    fn edit(&mut self, document: Value, shown: &[Value]) -> Invocation {
        let place = self.draw.below(shown.len() + 1).unwrap_or_default();
        self.draw.written(&document);
        if place > 0 && self.draw.chance(self.remove_fraction) {
            return Invocation::new(F::Remove, Some(document), shown[place - 1].clone());
        }
        insert(document, shown, place, self.draw.fresh())
    }
}

/// Inserts an element so that it becomes the one at this place.
fn insert(document: Value, shown: &[Value], place: usize, element: Value) -> Invocation {
    let after = match place {
        0 => Value::Nil,
        _ => shown[place - 1].clone(),
    };
    let argument = [after, element].into_iter().collect();
    Invocation::new(F::Insert, Some(document), argument)
}

impl Generator for Merged {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        if let Some(Intent::Edit { document, shown }) = self.intents.remove(&thread) {
            let invocation = self.edit(document, &shown);
            return Next::Op { thread, invocation };
        }
        let document = self.draw.key();
        if !self.draw.is_read() {
            self.intents.insert(thread, Intent::Reading);
        }
        let invocation = self.draw.read(document);
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        _context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        if invocation.f != F::Read || self.intents.remove(&thread).is_none() {
            return;
        }
        if let (Outcome::Ok, Some(document)) = (completion.outcome, &invocation.key) {
            let edit = Intent::Edit {
                document: document.clone(),
                shown: siblings(&completion.value),
            };
            self.intents.insert(thread, edit);
        }
    }
}

/// Each author takes the document's lock, reads it, inserts an element at its end and gives the
/// lock back. A lock whose fate is unknown is given back, too, until the store says whether it was
/// held: nobody else would ever get it.
pub(super) struct Locked {
    draw: Draw,
    /// Where each author is in his edit.
    stages: BTreeMap<u32, Stage>,
}

struct Stage {
    document: Value,
    owner: Value,
    step: Step,
}

#[derive(Clone, PartialEq)]
enum Step {
    Acquire,
    Read,
    /// What the document shows.
    Insert(Vec<Value>),
    Release,
}

impl Locked {
    /// The seed is used as it is.
    pub fn new(parameters: &Parameters, keys: Keys, seed: u64) -> Self {
        Self {
            draw: Draw::new(parameters, keys, seed),
            stages: BTreeMap::new(),
        }
    }
}

/// The key that holds the owner of a document.
fn lock(document: &Value) -> Value {
    Value::str(&format!("{document}/lock"))
}

impl Generator for Locked {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(thread) = self.draw.thread(context) else {
            return Next::Wait(u64::MAX);
        };
        let Some(stage) = self.stages.get(&thread) else {
            let document = self.draw.key();
            if self.draw.is_read() {
                let invocation = self.draw.read(document);
                return Next::Op { thread, invocation };
            }
            // Unique: who holds a lock twice is two owners.
            let owner = Value::str(&format!("author-{thread}-{}", self.draw.fresh()));
            let invocation = Invocation::new(F::Acquire, Some(lock(&document)), owner.clone());
            let stage = Stage {
                document,
                owner,
                step: Step::Acquire,
            };
            self.stages.insert(thread, stage);
            return Next::Op { thread, invocation };
        };
        let document = stage.document.clone();
        let invocation = match stage.step.clone() {
            Step::Acquire | Step::Read => self.draw.read(document),
            Step::Insert(shown) => {
                self.draw.written(&document);
                insert(document, &shown, shown.len(), self.draw.fresh())
            }
            Step::Release => {
                Invocation::new(F::Release, Some(lock(&document)), stage.owner.clone())
            }
        };
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        _context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        let Some(stage) = self.stages.get_mut(&thread) else {
            return;
        };
        let done = completion.outcome;
        let next = match (&invocation.f, done) {
            (F::Acquire, Outcome::Ok) => Some(Step::Read),
            (F::Acquire, Outcome::Fail) => None,
            (F::Read, Outcome::Ok) => Some(Step::Insert(siblings(&completion.value))),
            (F::Release, Outcome::Ok) => None,
            // Not held, or no longer.
            (F::Release, Outcome::Fail) if completion.error.as_deref() == Some("cas-mismatch") => {
                None
            }
            _ => Some(Step::Release),
        };
        match next {
            Some(step) => stage.step = step,
            None => drop(self.stages.remove(&thread)),
        }
    }
}
