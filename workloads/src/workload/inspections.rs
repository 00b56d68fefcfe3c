//! After the final reads: what does every replica hold? Each is asked for a digest, and where
//! digests cannot be compared or differ, for the content of every key.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use checkers::{F, Outcome, Value};

use crate::generator::{Context, Generator, Next};
use crate::operation::{Completion, Invocation};

/// How many keys are asked for at most, in the order of their first use.
const KEYS_MAX: usize = 2_000;

/// How often a replica is asked for its digest, or for one key, at most.
const ATTEMPTS: u32 = 20;
const ATTEMPTS_KEY: u32 = 4;

/// How often all replicas are asked again because their digests differ: what is still under way
/// when the final reads end (a read repair, the last commit index) should not count as divergence.
const ROUNDS: u32 = 5;

/// Pause before a question is asked again, in nanoseconds.
const PAUSE_NS: u64 = 250_000_000;

/// Asks every replica for its digest until it answers or was asked often enough, all of them again
/// while they differ, and then, if they still do or if replicas hold different parts, each for
/// every key; where digests said nothing, those again of which the contents differ. What counts is
/// the last answer of each replica.
#[derive(Debug)]
pub struct Inspections {
    nodes: u16,
    keys: Vec<Value>,
    waiting: VecDeque<Question>,
    under_way: BTreeMap<u32, Question>,
    /// The digest that each replica told last.
    told: BTreeMap<u16, Value>,
    rounds: u32,
    by_key: bool,
    /// The content of each key that each replica told last.
    contents: BTreeMap<Value, BTreeMap<u16, Value>>,
}

#[derive(Clone, Debug)]
struct Question {
    node: u16,
    key: Option<Value>,
    attempts: u32,
    not_before: u64,
}

impl Inspections {
    /// Of replicas 1 to `nodes`, about these keys where digests do not settle it.
    pub fn new(nodes: u16, mut keys: Vec<Value>) -> Self {
        keys.truncate(KEYS_MAX);
        let mut inspections = Self {
            nodes,
            keys,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            told: BTreeMap::new(),
            rounds: 0,
            by_key: false,
            contents: BTreeMap::new(),
        };
        inspections.ask_all(None, 0);
        inspections
    }

    fn ask_all(&mut self, key: Option<&Value>, not_before: u64) {
        self.waiting.extend((1..=self.nodes).map(|node| Question {
            node,
            key: key.cloned(),
            attempts: 0,
            not_before,
        }));
    }

    /// What is to be asked once everything asked so far is answered; whether that is anything.
    fn ask_on(&mut self, now: u64) -> bool {
        if self.by_key {
            return self.ask_again(now);
        }
        if self.told.len() < 2 {
            return false;
        }
        let scope = |state: &Value| field(state, "scope");
        let scopes: BTreeSet<Option<Value>> = self.told.values().map(scope).collect();
        let states: BTreeSet<(Option<Value>, Option<Value>)> = self
            .told
            .values()
            .map(|state| (scope(state), field(state, "digest")))
            .collect();
        // As many as there are scopes: within each, all tell the same.
        let equal = states.len() == scopes.len();
        self.rounds += 1;
        if !equal && self.rounds < ROUNDS {
            self.ask_all(None, now.saturating_add(PAUSE_NS));
            return true;
        }
        self.by_key = true;
        if equal && scopes.len() == 1 {
            return false;
        }
        for key in std::mem::take(&mut self.keys) {
            self.ask_all(Some(&key), now);
        }
        !self.waiting.is_empty()
    }

    /// Asks those who differ about a key for it again, as often as digests that differ.
    fn ask_again(&mut self, now: u64) -> bool {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return false;
        }
        for (key, told) in &self.contents {
            let mut contents = told.values();
            let first = contents.next();
            if contents.all(|content| Some(content) == first) {
                continue;
            }
            self.waiting.extend(told.keys().map(|&node| Question {
                node,
                key: Some(key.clone()),
                attempts: 0,
                not_before: now.saturating_add(PAUSE_NS),
            }));
        }
        !self.waiting.is_empty()
    }
}

/// A field of a map.
fn field(map: &Value, name: &str) -> Option<Value> {
    let Value::Map(pairs) = map else { return None };
    let found = pairs.iter().find(|(key, _)| *key == Value::str(name))?;
    Some(found.1.clone())
}

impl Generator for Inspections {
    fn next(&mut self, context: &Context<'_>) -> Next {
        if self.waiting.is_empty() {
            if !self.under_way.is_empty() {
                return Next::Wait(u64::MAX);
            }
            if !self.ask_on(context.now) {
                return Next::Exhausted;
            }
        }
        let (Some(first), Some(&thread)) = (self.waiting.front(), context.free.first()) else {
            return Next::Wait(u64::MAX);
        };
        if context.now < first.not_before {
            return Next::Wait(first.not_before);
        }
        let Some(question) = self.waiting.pop_front() else {
            return Next::Exhausted;
        };
        let invocation = Invocation {
            node: Some(question.node),
            ..Invocation::new(F::Inspect, question.key.clone(), Value::Nil)
        };
        self.under_way.insert(thread, question);
        Next::Op { thread, invocation }
    }

    fn completed(
        &mut self,
        context: &Context<'_>,
        thread: u32,
        invocation: &Invocation,
        completion: &Completion,
    ) {
        // Operations of an earlier phase may still come in.
        if invocation.f != F::Inspect {
            return;
        }
        let Some(mut question) = self.under_way.remove(&thread) else {
            return;
        };
        if completion.outcome == Outcome::Ok {
            let value = completion.value.clone();
            match question.key {
                None => _ = self.told.insert(question.node, value),
                Some(key) => {
                    let contents = self.contents.entry(key).or_default();
                    contents.insert(question.node, value);
                }
            }
            return;
        }
        question.attempts += 1;
        let most = match question.key {
            None => ATTEMPTS,
            Some(_) => ATTEMPTS_KEY,
        };
        // What the store cannot do it will not do the next time.
        let pointless = completion.error.as_deref() == Some("unsupported");
        if question.attempts < most && !pointless {
            question.not_before = context.now.saturating_add(PAUSE_NS);
            self.waiting.push_back(question);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(digest: &str, scope: &str) -> Value {
        let pairs = [("digest", digest), ("scope", scope)];
        let pairs = pairs.map(|(k, v)| (Value::str(k), Value::str(v)));
        Value::Map(pairs.into())
    }

    /// Which replica was asked for what, given what each tells; none: it does not answer.
    fn asked(tell: impl Fn(u16, u64) -> Option<Value>, keys: usize) -> Vec<(u16, Option<Value>)> {
        let keys = (0..keys).map(|n| Value::str(&format!("k{n}")));
        let mut inspections = Inspections::new(3, keys.collect());
        let (mut now, mut asked) = (0, Vec::new());
        loop {
            let context = Context {
                now,
                free: &[0, 1],
                threads: 2,
            };
            match inspections.next(&context) {
                Next::Op { thread, invocation } => {
                    let node = invocation.node.expect("a replica");
                    let mut completion = Completion::new(Outcome::Fail, Value::Nil);
                    if let Some(value) = tell(node, now) {
                        // Of a key, the content is the digest.
                        let content = invocation.key.as_ref().and(field(&value, "digest"));
                        completion = Completion::new(Outcome::Ok, content.unwrap_or(value));
                    }
                    inspections.completed(&context, thread, &invocation, &completion);
                    asked.push((node, invocation.key));
                }
                Next::Wait(until) => {
                    assert!(until > now && until < u64::MAX);
                    now = until;
                }
                Next::Exhausted => return asked,
            }
        }
    }

    #[test]
    fn equal_digests_settle_it() {
        let asked = asked(|_, _| Some(state("a", "")), 9);
        assert_eq!(asked, [(1, None), (2, None), (3, None)]);
    }

    #[test]
    fn digests_that_become_equal_settle_it_too() {
        let late = |node, now| Some(state(if node == 2 && now == 0 { "b" } else { "a" }, ""));
        assert_eq!(asked(late, 9).len(), 6);
    }

    #[test]
    fn digests_that_differ_are_followed_by_every_key_at_every_replica() {
        let differ = |node: u16, _| Some(state(&node.to_string(), ""));
        let asked = asked(differ, 5_000);
        let digests = asked.iter().filter(|(_, key)| key.is_none()).count();
        assert_eq!(digests, 3 * ROUNDS as usize);
        let by_key: BTreeSet<_> = asked.iter().filter(|(_, key)| key.is_some()).collect();
        assert_eq!(by_key.len(), 3 * KEYS_MAX);
    }

    #[test]
    fn replicas_of_different_parts_are_compared_by_key_at_once() {
        let part = |node, _| Some(state("a", if node == 3 { "user/" } else { "" }));
        assert_eq!(asked(part, 4).len(), 3 + 3 * 4);
    }

    #[test]
    fn keys_of_different_parts_that_differ_are_asked_for_again() {
        let by_key = |becomes_equal: bool| {
            let tell = move |node: u16, now: u64| {
                let late = node == 2 && (now == 0 || !becomes_equal);
                let scope = format!("range n{node}");
                Some(state(if late { "b" } else { "a" }, &scope))
            };
            asked(tell, 2).iter().filter(|(_, k)| k.is_some()).count()
        };
        assert_eq!(by_key(true), 3 * 2 * 2);
        assert_eq!(by_key(false), 3 * 2 * ROUNDS as usize);
    }

    #[test]
    fn one_that_is_silent_is_asked_often_and_then_left() {
        let asked = asked(|node, _| (node != 2).then(|| state("a", "")), 4);
        assert_eq!(asked.iter().filter(|(node, _)| *node == 2).count(), 20);
        assert_eq!(asked.len(), 22);
    }
}
