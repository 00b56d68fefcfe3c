//! Holds the checkers' verdicts, which know only what clients saw, against the ground truth.
//!
//! What is demanded of each checker:
//!
//! * `lost-writes`: on lists and sets exactly the truth's lost writes; on registers, where later
//!   writes hide lost ones, none that was not lost.
//! * `stale-reads`: on lists and sets exactly the reads that missed an acknowledged change which the
//!   state of a read that ended later held; on registers none that missed nothing, and all whose
//!   value alone proves it.
//! * `split-brain`: exactly when an acknowledged write was invoked after another node had
//!   acknowledged one in an epoch at least as high.
//! * `linearizable`: invalid when a read missed what was acknowledged before it (lists and sets) or
//!   shows a value older than that (registers); valid when the truth holds a certificate.
//! * `convergence`: invalid exactly when two replicas of the same keys ended with different states,
//!   or one had stopped replicating.
//! * `sessions`: on lists and sets exactly the reads that miss an own acknowledged write, or what an
//!   earlier read of the same process had been shown; on registers none of a process to which
//!   neither happened.
//! * `availability`: the time from each fault to the next acknowledged write, to the microsecond.

use std::collections::{BTreeMap, BTreeSet};

use checkers::{CheckResult, History, Kind, Process, Value, Verdict};

use super::truth::{Oracle, Truth};

/// A checker that said otherwise than the truth.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Disagreement {
    /// Which checker.
    pub checker: String,
    /// `false alarm` or `miss`, and of what.
    pub what: String,
}

/// What the comparison of one run came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Agreement {
    /// Where checkers and truth differ.
    pub disagreements: Vec<Disagreement>,
    /// Verdicts compared.
    pub compared: u64,
    /// Verdicts that were `unknown`, with the checker's name and reason.
    pub unknown: Vec<String>,
    /// Histories for which the truth holds neither a violation nor a certificate of
    /// linearizability, so that nothing could be demanded of `linearizable`.
    pub undecided: u64,
    /// Whether nothing could be demanded of what is about the log; see [`Truth::reused`].
    #[serde(default)]
    pub reused: bool,
}

/// Compares what checkers found in a history with what really happened.
pub fn compare(history: &History, results: &[CheckResult], truth: &Truth) -> Agreement {
    let oracle = Oracle::new(truth);
    let missed = oracle.missed();
    let mut scene = Scene {
        calls: calls(history),
        processes: processes(history),
        lists: history
            .events
            .iter()
            .any(|e| matches!(e.f.name(), "append" | "add")),
        stale: oracle.stale(&missed),
        lost: oracle.lost(),
        truth,
        oracle,
        missed,
        agreement: Agreement::default(),
    };
    if truth.reused {
        scene.agreement.reused = true;
        scene
            .agreement
            .unknown
            .push("truth: a node that forgot what it did took places of the log again".to_owned());
    }
    for result in results {
        if let Verdict::Unknown(reason) = &result.verdict {
            scene
                .agreement
                .unknown
                .push(format!("{}: {reason}", result.checker));
            continue;
        }
        scene.agreement.compared += 1;
        match result.checker.as_str() {
            "convergence" => scene.convergence(result),
            _ if !truth.one_log || truth.reused => scene.agreement.compared -= 1,
            "lost-writes" => scene.lost_writes(result),
            "stale-reads" => scene.stale_reads(result),
            "split-brain" => scene.split_brain(result),
            "linearizable" => scene.linearizable(result),
            "sessions" => scene.sessions(result),
            "availability" => scene.availability(history, result),
            _ => scene.agreement.compared -= 1,
        }
    }
    scene.agreement
}

/// From the index of an invocation event to the number of the call.
fn calls(history: &History) -> BTreeMap<u64, usize> {
    history
        .events
        .iter()
        .filter(|e| e.kind == Kind::Invoke && matches!(e.process, Process::Client(_)))
        .enumerate()
        .map(|(call, event)| (event.index, call))
        .collect()
}

/// The process of each call.
fn processes(history: &History) -> Vec<u64> {
    let clients = history.events.iter().filter_map(|e| match e.process {
        Process::Client(n) if e.kind == Kind::Invoke => Some(n),
        _ => None,
    });
    clients.collect()
}

/// The number of the fault that a remark of the nemesis is about.
fn fault_id(remark: &Value) -> Option<i64> {
    let Value::Map(pairs) = remark else {
        return None;
    };
    let (_, id) = pairs.iter().find(|(name, _)| *name == Value::str("id"))?;
    id.as_int()
}

struct Scene<'a> {
    calls: BTreeMap<u64, usize>,
    processes: Vec<u64>,
    lists: bool,
    truth: &'a Truth,
    oracle: Oracle<'a>,
    missed: BTreeMap<usize, Vec<usize>>,
    stale: BTreeSet<usize>,
    lost: BTreeSet<usize>,
    agreement: Agreement,
}

impl Scene<'_> {
    fn differ(&mut self, checker: &str, what: String) {
        self.agreement.disagreements.push(Disagreement {
            checker: checker.to_owned(),
            what,
        });
    }

    /// The calls that anomalies of a class are about: of the operations that prove each, the last
    /// write (what was lost) or the last read (what was stale).
    fn named(&self, result: &CheckResult, class: &str, write: bool) -> BTreeSet<usize> {
        result
            .anomalies
            .iter()
            .filter(|a| a.class == class)
            .filter_map(|a| {
                let mut calls = a
                    .ops
                    .iter()
                    .rev()
                    .filter_map(|op| self.calls.get(op).copied());
                calls.find(|call| self.truth.calls[*call].write == write)
            })
            .collect()
    }

    fn lost_writes(&mut self, result: &CheckResult) {
        let found = self.named(result, "lost", true);
        for call in found.difference(&self.lost.clone()) {
            self.differ("lost-writes", format!("false alarm: call {call} survived"));
        }
        if self.lists {
            for call in self.lost.clone().difference(&found) {
                self.differ("lost-writes", format!("miss: call {call} was lost"));
            }
        }
        for class in ["duplicated", "unexpected"] {
            for call in self.named(result, class, true) {
                self.differ(
                    "lost-writes",
                    format!("false alarm: call {call} is not {class}"),
                );
            }
        }
    }

    fn stale_reads(&mut self, result: &CheckResult) {
        let found = self.named(result, "stale-read", false);
        let (may, must) = if self.lists {
            (self.stale.clone(), self.stale.clone())
        } else {
            (self.missed.keys().copied().collect(), self.shown_stale())
        };
        for read in found.difference(&may) {
            self.differ(
                "stale-reads",
                format!("false alarm: call {read} was not stale"),
            );
        }
        for read in must.difference(&found) {
            self.differ("stale-reads", format!("miss: call {read} was stale"));
        }
    }

    /// Of the reads of registers that missed something: those whose value alone proves it, because
    /// its write was acknowledged before a missed one was invoked; with the missed ones.
    fn shown(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut shown = BTreeMap::new();
        for (read, writes) in &self.missed {
            // Without a write seen, the value is the initial one: older than any.
            let in_place = self.oracle.seen(*read).map_or(Some(0), |seen| {
                let seen = &self.truth.calls[seen];
                seen.ended.filter(|_| seen.acknowledged)
            });
            let Some(in_place) = in_place else { continue };
            let newer = writes
                .iter()
                .copied()
                .filter(|w| in_place < self.truth.calls[*w].began);
            let newer: Vec<usize> = newer.collect();
            if !newer.is_empty() {
                shown.insert(*read, newer);
            }
        }
        shown
    }

    /// Of these, the reads that missed a write which a later read returned.
    fn shown_stale(&self) -> BTreeSet<usize> {
        let shown = self.shown();
        if shown.is_empty() {
            return BTreeSet::new();
        }
        let mut returned: BTreeMap<usize, u64> = BTreeMap::new();
        for (i, call) in self.truth.calls.iter().enumerate() {
            if let (true, false, Some(done)) =
                (call.acknowledged, call.write || call.inspection, call.ended)
                && let Some(seen) = self.oracle.seen(i)
            {
                let last = returned.entry(seen).or_default();
                *last = done.max(*last);
            }
        }
        shown
            .into_iter()
            .filter(|(read, writes)| {
                let ended = self.truth.calls[*read].ended;
                writes.iter().any(|w| returned.get(w).copied() > ended)
            })
            .map(|(read, _)| read)
            .collect()
    }

    fn split_brain(&mut self, result: &CheckResult) {
        match (self.oracle.split_brain(), &result.verdict) {
            (true, Verdict::Valid) => {
                self.differ(
                    "split-brain",
                    "miss: two nodes acknowledged at once".to_owned(),
                );
            }
            (false, Verdict::Invalid) => {
                self.differ(
                    "split-brain",
                    "false alarm: there was one leader".to_owned(),
                );
            }
            _ => {}
        }
    }

    fn convergence(&mut self, result: &CheckResult) {
        match (self.oracle.diverged(), &result.verdict) {
            (Some(true), Verdict::Valid) => {
                self.differ("convergence", "miss: replicas differ at the end".to_owned());
            }
            (Some(false), Verdict::Invalid) => {
                self.differ(
                    "convergence",
                    "false alarm: all replicas hold the same".to_owned(),
                );
            }
            _ => {}
        }
    }

    fn sessions(&mut self, result: &CheckResult) {
        for (class, really) in [
            ("read-your-writes", self.oracle.own_missed(&self.processes)),
            ("monotonic-reads", self.oracle.gone_back(&self.processes)),
        ] {
            let found = self.named(result, class, false);
            // Of registers a value that comes back convicts the session, not the right read of it.
            let of = |reads: &BTreeSet<usize>| -> BTreeSet<u64> {
                reads.iter().map(|read| self.processes[*read]).collect()
            };
            let false_alarms: Vec<String> = if self.lists {
                let reads = found.difference(&really);
                reads.map(|read| format!("call {read}")).collect()
            } else {
                let (found, really) = (of(&found), of(&really));
                let processes = found.difference(&really);
                processes.map(|p| format!("process {p}")).collect()
            };
            for of in false_alarms {
                self.differ("sessions", format!("false alarm: {class} of {of} holds"));
            }
            if self.lists {
                for read in really.difference(&found) {
                    self.differ("sessions", format!("miss: {class} of call {read}"));
                }
            }
        }
    }

    fn availability(&mut self, history: &History, result: &CheckResult) {
        let mut found = BTreeMap::new();
        let faults = result.figures.get("faults").and_then(|f| f.as_array());
        for fault in faults.into_iter().flatten() {
            found.insert(fault["id"].as_i64(), fault["recovery_seconds"].as_f64());
        }
        // The calls made before each fault began are told by their number, not by the time, which
        // a call and a fault may share.
        let mut calls = 0;
        for event in &history.events {
            match (&event.process, event.kind, event.f.name()) {
                (Process::Client(_), Kind::Invoke, _) => calls += 1,
                (Process::Nemesis, _, "begin") => {
                    let id = fault_id(&event.value);
                    let after = self.truth.calls[calls..].iter();
                    let ended = after
                        .filter(|c| c.write && c.acknowledged)
                        .filter_map(|c| c.completed)
                        .min();
                    let really = ended.map(|at| at.saturating_sub(event.time) as f64 / 1e9);
                    let said = found.get(&id).copied().flatten();
                    let same = match (said, really) {
                        (Some(a), Some(b)) => (a - b).abs() < 1e-6,
                        (a, b) => a.is_none() && b.is_none(),
                    };
                    if !same && found.contains_key(&id) {
                        let what = format!("fault {id:?}: recovery {said:?}, really {really:?}");
                        self.differ("availability", what);
                    }
                }
                _ => {}
            }
        }
    }

    fn linearizable(&mut self, result: &CheckResult) {
        let violated = if self.lists {
            !self.missed.is_empty()
        } else {
            !self.shown_stale().is_empty()
        };
        let certified = self.oracle.certifies_linearizable();
        match &result.verdict {
            Verdict::Valid if violated => {
                self.differ(
                    "linearizable",
                    "miss: a read missed an acknowledged write".to_owned(),
                );
            }
            Verdict::Invalid if certified => {
                self.differ(
                    "linearizable",
                    "false alarm: there is a linearization".to_owned(),
                );
            }
            _ if !violated && !certified => self.agreement.undecided += 1,
            _ => {}
        }
    }
}
