//! What happened in the smallest experiment that fails: one run of it, watched, and thinned to
//! what the anomaly needs.
//!
//! * [`picture`]: drawn over time.
//! * [`telling`]: told in one paragraph.
//! * `page`: both, as one file.

mod page;
mod picture;
mod telling;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use checkers::{Anomaly, Event, History, Value};
use nemesis::Node;
use reference_cluster::core::Role;
use reference_cluster::core::observe::Purpose;

use super::recording::{Fate, Held, Recording, Told};
use super::{Failing, Goal};
use crate::commands::sim::{Simulated, simulate, simulate_watched};
use crate::judge;
use crate::runner::FaultLog;
use crate::sim::Truth;

pub use page::page;
pub use telling::paragraph;

/// An operation of a client.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) invoke: Event,
    pub(super) complete: Option<Event>,
    /// The node that created the entry or gave the answer, and when.
    pub(super) at_node: Option<(Node, u64)>,
    /// Its entry in the log.
    pub(super) entry: Option<u64>,
    /// Whether it proves the anomaly.
    pub(super) proves: bool,
}

impl Op {
    /// When it ended, as far as is known.
    pub(super) fn end(&self) -> u64 {
        let end = self.complete.as_ref().map(|event| event.time);
        end.unwrap_or(self.invoke.time)
    }

    /// The key, as text.
    pub(super) fn key(&self) -> Option<String> {
        self.invoke.key.as_ref().map(text)
    }
}

/// A run of the smallest experiment, and what of it matters.
pub struct Story {
    pub(super) goal: Goal,
    pub(super) failing: Failing,
    pub(super) nodes: Node,
    pub(super) keys: Vec<Arc<str>>,
    /// In the order invoked.
    pub(super) ops: Vec<Op>,
    pub(super) faults: Vec<FaultLog>,
    pub(super) messages: Vec<Told>,
    pub(super) recording: Recording,
    /// Between these times it happens, nanoseconds.
    pub(super) window: (u64, u64),
    /// What was written of which nobody should have lost anything.
    pub(super) written: Vec<Value>,
}

/// So many operations beside those that prove the anomaly are drawn.
const CONTEXT_OPS: usize = 4;
/// So many that prove it.
const PROOF_OPS: usize = 12;
/// So many messages of one kind from one node to another with the same fate.
const EACH_LINK: usize = 1;
/// So many messages in all.
const MESSAGES: usize = 48;
/// So many keys.
const KEYS: usize = 2;

impl Story {
    /// Runs the experiment once more, in simulation, and watches. None if it is not simulated or
    /// does not fail so any more.
    ///
    /// # Errors
    /// If the experiment is impossible.
    pub fn of(goal: &Goal, failing: &Failing) -> Result<Option<Self>> {
        let experiment = &failing.experiment;
        if experiment.substrate != crate::experiment::On::Sim {
            return Ok(None);
        }
        // Which keys are in question is known only when it was judged.
        let Some((_, anomaly)) = failed(goal, failing, simulate(experiment)?) else {
            return Ok(None);
        };
        let keys = keys(&anomaly.0, &anomaly.1);
        let recording = Rc::new(RefCell::new(Recording::of(keys.clone())));
        let run = simulate_watched(experiment, recording.clone())?;
        let Some((run, (history, anomaly))) = failed(goal, failing, run) else {
            return Ok(None);
        };
        let recording = recording.take();
        let ops = ops(&run.truth, &history, &anomaly, &keys);
        let mut faults = run.ended.faults;
        for fault in &mut faults {
            fault.healed = recording.healed.get(&fault.id).copied().or(fault.healed);
        }
        let written = ops
            .iter()
            .filter(|op| op.proves && op.invoke.f.is_write())
            .map(|op| written(&op.invoke))
            .collect();
        let window = window(&ops, &faults);
        let mut ops = ops;
        ops.retain(|op| op.proves || (op.end() >= window.0 && op.invoke.time <= window.1));
        let messages = thinned(&recording, &ops, window);
        Ok(Some(Self {
            goal: goal.clone(),
            failing: Failing {
                anomaly,
                ..failing.clone()
            },
            nodes: experiment.all_nodes(),
            keys,
            ops,
            faults,
            messages,
            recording,
            window,
            written,
        }))
    }

    /// What nodes held, as far as it is worth drawing: each change in the window that adds or takes
    /// away what was written, and the first and the last of all.
    pub(super) fn held(&self, node: Node, key: &str) -> Vec<&Held> {
        let mine: Vec<&Held> = self
            .recording
            .held
            .iter()
            .filter(|held| held.node == node && &*held.key == key)
            .collect();
        let (from, to) = self.window;
        let before = mine.iter().rposition(|held| held.at < from);
        let has = |held: &Held| -> Vec<bool> {
            let value = held.value.as_ref();
            let holds = |written| value.is_some_and(|value| contains(value, written));
            self.written.iter().map(holds).collect()
        };
        let inside: Vec<&Held> = mine
            .iter()
            .enumerate()
            .filter(|(i, held)| before.is_none_or(|before| *i >= before) && held.at <= to)
            .map(|(_, held)| *held)
            .collect();
        let count = inside.len();
        let mut chosen: Vec<&Held> = Vec::new();
        for (i, held) in inside.into_iter().enumerate() {
            let changes = chosen
                .last()
                .is_none_or(|last: &&Held| has(last) != has(held) || last.value.is_none());
            if changes || count <= 8 || i + 1 == count {
                chosen.push(held);
            }
        }
        chosen
    }

    /// Who led at this time: of those that ran and said so the one in the highest epoch.
    pub(super) fn leader(&self, at: u64) -> Option<(Node, u64)> {
        let leads = |node: Node| {
            let was = self.recording.was(node, at)?;
            match was.role {
                Some((Role::Leader, epoch)) => Some((epoch, node)),
                _ => None,
            }
        };
        let leader = (1..=self.nodes).filter_map(leads).max();
        leader.map(|(epoch, node)| (node, epoch))
    }
}

/// The run and its first anomaly of the goal, with the history.
fn failed(
    goal: &Goal,
    failing: &Failing,
    mut run: Simulated,
) -> Option<(Simulated, (History, Anomaly))> {
    let results = judge::check(&failing.experiment, &run.history);
    let anomalies = results
        .into_iter()
        .filter(|result| result.checker == goal.checker)
        .flat_map(|result| result.anomalies);
    let anomaly = anomalies
        .into_iter()
        .find(|anomaly| anomaly.class == goal.class)?;
    let history = std::mem::replace(&mut run.history, History { events: Vec::new() });
    Some((run, (history, anomaly)))
}

/// The keys in question.
fn keys(history: &History, anomaly: &Anomaly) -> Vec<Arc<str>> {
    let mut keys: Vec<Arc<str>> = Vec::new();
    let of_ops = history
        .events
        .iter()
        .filter(|event| anomaly.ops.contains(&event.index))
        .filter_map(|event| event.key.as_ref());
    for key in anomaly.key.iter().chain(of_ops) {
        let key: Arc<str> = text(key).into();
        if !keys.contains(&key) && keys.len() < KEYS {
            keys.push(key);
        }
    }
    keys
}

/// The operations to draw.
fn ops(truth: &Truth, history: &History, anomaly: &Anomaly, keys: &[Arc<str>]) -> Vec<Op> {
    let Ok(operations) = history.operations() else {
        return Vec::new();
    };
    // The n-th call of the truth is the n-th invocation of a client.
    let all: Vec<Op> = operations
        .iter()
        .zip(&truth.calls)
        .map(|(op, call)| {
            let at_node = call.created_at.or(call.served_at);
            Op {
                invoke: op.invoke.clone(),
                complete: op.complete.cloned(),
                at_node: at_node.map(|at| (call.node, at)),
                entry: call.created.map(|position| position.index),
                proves: anomaly.ops.contains(&op.invoke.index),
            }
        })
        .collect();
    let proof: Vec<usize> = (0..all.len()).filter(|&i| all[i].proves).collect();
    let mut chosen: Vec<usize> = proof.iter().copied().take(PROOF_OPS).collect();
    let on_key = |op: &Op| match op.key() {
        Some(key) => keys.iter().any(|known| **known == *key),
        None => false,
    };
    // The nearest others on the key, those before first.
    let nearest = |i: &usize| {
        let near = |p: &usize| p.abs_diff(*i);
        proof.iter().map(near).min().unwrap_or(0)
    };
    let mut others: Vec<usize> = (0..all.len())
        .filter(|&i| !all[i].proves && on_key(&all[i]))
        .collect();
    others.sort_by_key(|i| (nearest(i), *i));
    chosen.extend(others.into_iter().take(CONTEXT_OPS));
    chosen.sort_unstable();
    chosen.into_iter().map(|i| all[i].clone()).collect()
}

/// When it happens: operations that prove it and faults, and a little around.
fn window(ops: &[Op], faults: &[FaultLog]) -> (u64, u64) {
    let proof = || ops.iter().filter(|op| op.proves);
    let begins = proof().map(|op| op.invoke.time);
    let ends = proof().map(Op::end);
    let from = begins.chain(faults.iter().map(|f| f.begun)).min();
    let to = ends.chain(faults.iter().filter_map(|f| f.healed)).max();
    let from = from.unwrap_or(0).saturating_sub(1_000_000);
    (from, to.unwrap_or(from) + 1_000_000)
}

/// The messages that matter: those with the entries of the operations, their confirmations, those
/// that decide who leads; of many alike the first.
fn thinned(recording: &Recording, ops: &[Op], window: (u64, u64)) -> Vec<Told> {
    let entries: Vec<u64> = ops
        .iter()
        .filter(|op| op.proves)
        .filter_map(|op| op.entry)
        .collect();
    let carries = |told: &Told| {
        let (first, last) = told.entries?;
        let carried = entries.iter().filter(|e| (first..=last).contains(e));
        carried.min().copied()
    };
    let mut counts: std::collections::BTreeMap<_, usize> = std::collections::BTreeMap::new();
    let mut chosen: Vec<(u8, Told)> = Vec::new();
    for told in &recording.messages {
        if told.sent < window.0 || told.sent > window.1 {
            continue;
        }
        let (weight, what) = match told.purpose {
            Purpose::Data => match (carries(told), entries.is_empty()) {
                (Some(entry), _) => (0, entry),
                (None, true) if told.about => (1, 0),
                (None, _) if told.kind == "snapshot" => (1, 0),
                (None, _) => continue,
            },
            Purpose::Election => (1, 0),
            Purpose::Routine => match told.entries {
                Some((_, index)) if entries.iter().any(|&entry| entry <= index) => {
                    let confirmed = entries.iter().filter(|&&entry| entry <= index).max();
                    (2, confirmed.copied().unwrap_or(0))
                }
                _ => continue,
            },
        };
        let alike = (told.from, told.to, told.kind, told.fate, what);
        let count = counts.entry(alike).or_default();
        *count += 1;
        if *count <= EACH_LINK {
            chosen.push((weight, told.clone()));
        }
    }
    // What was lost says more than what arrived.
    chosen.sort_by_key(|(weight, told)| (*weight, told.fate == Fate::Arrived, told.sent));
    chosen.truncate(MESSAGES);
    let mut messages: Vec<Told> = chosen.into_iter().map(|(_, told)| told).collect();
    messages.sort_by_key(|told| told.sent);
    messages
}

/// What a write wrote.
fn written(invoke: &Event) -> Value {
    match (&invoke.f, invoke.value.items()) {
        (checkers::F::Cas | checkers::F::Insert | checkers::F::Put, Some([_, new])) => new.clone(),
        _ => invoke.value.clone(),
    }
}

/// Whether a value is, or has in it, what was written.
pub(super) fn contains(value: &Value, written: &Value) -> bool {
    value == written
        || value
            .items()
            .is_some_and(|items| items.iter().any(|item| contains(item, written)))
}

/// A key as text, as the store has it.
fn text(key: &Value) -> String {
    match key {
        Value::Str(s) => s.to_string(),
        other => other.to_string(),
    }
}
