//! Picks the anomalies to show and collects the operations that prove them from the history, and
//! for the first of them some others around.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use checkers::{Anomaly, Event, Kind, Process, Value};

use crate::report::Summary;
use crate::report::findings::findings;
use crate::report::picture::bands::{Band, Bands};
use crate::report::picture::{Op, Scene};
use crate::report::tally::Open;

/// So many anomalies of a class are shown; the rest is counted.
pub(in crate::report) const ANOMALIES_SHOWN: usize = 20;
/// So many operations of an anomaly are drawn; the rest is counted.
pub(in crate::report) const OPS_DRAWN: usize = 24;
/// So many anomalies are drawn with others around.
const WITH_CONTEXT: usize = 5;
/// Operations around each one of the proof, before and after it.
const AROUND: usize = 6;

/// Anomalies of one class found by one checker.
pub(in crate::report) struct Group<'a> {
    pub(in crate::report) checker: &'a str,
    pub(in crate::report) class: &'a str,
    pub(in crate::report) total: usize,
    pub(in crate::report) shown: Vec<&'a Anomaly>,
}

/// Collects the operations on a key that were invoked just before or after those of an anomaly.
struct Context<'a> {
    anomaly: &'a Anomaly,
    named: BTreeSet<u64>,
    /// Invoked last, of which it is not known yet whether they are wanted.
    recent: VecDeque<u64>,
    /// How many more are wanted.
    more: usize,
    wanted: BTreeSet<u64>,
    ops: BTreeMap<u64, Op>,
}

impl<'a> Context<'a> {
    fn new(anomaly: &'a Anomaly) -> Self {
        Self {
            anomaly,
            named: anomaly.ops.iter().take(OPS_DRAWN).copied().collect(),
            recent: VecDeque::new(),
            more: 0,
            wanted: BTreeSet::new(),
            ops: BTreeMap::new(),
        }
    }

    fn invoke(&mut self, event: &Event) {
        if self.named.contains(&event.index) {
            self.wanted.extend(self.recent.drain(..));
            self.more = AROUND;
            return;
        }
        let key: Option<&Value> = self.anomaly.key.as_ref();
        if key.is_some() && event.key.as_ref() != key {
            return;
        }
        let op = Op {
            invoke: event.clone(),
            complete: None,
        };
        self.ops.insert(event.index, op);
        if self.more > 0 {
            self.more -= 1;
            self.wanted.insert(event.index);
            return;
        }
        self.recent.push_back(event.index);
        if self.recent.len() > AROUND
            && let Some(old) = self.recent.pop_front()
        {
            self.ops.remove(&old);
        }
    }

    fn complete(&mut self, index: u64, event: &Event) {
        if let Some(op) = self.ops.get_mut(&index) {
            op.complete = Some(event.clone());
        }
    }
}

/// The anomalies of a run and the operations that prove them.
pub(in crate::report) struct Evidence<'a> {
    pub(in crate::report) groups: Vec<Group<'a>>,
    wanted: BTreeMap<u64, Option<Op>>,
    contexts: Vec<Context<'a>>,
    open: Open<u64>,
    end_ns: u64,
    /// The faults of the run, or else what the nemesis of the history tells of them.
    bands: Vec<Band>,
    told: Bands,
}

impl<'a> Evidence<'a> {
    /// Chooses what to show of each class.
    pub(in crate::report) fn choose(summary: &'a Summary) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for result in findings(summary).iter().map(|f| f.result) {
            for anomaly in &result.anomalies {
                let known = groups
                    .iter()
                    .position(|g| g.checker == result.checker && g.class == anomaly.class);
                let place = known.unwrap_or(groups.len());
                if known.is_none() {
                    groups.push(Group {
                        checker: &result.checker,
                        class: &anomaly.class,
                        total: 0,
                        shown: Vec::new(),
                    });
                }
                let group = &mut groups[place];
                group.total += 1;
                if group.shown.len() < ANOMALIES_SHOWN {
                    group.shown.push(anomaly);
                }
            }
        }
        let wanted = groups
            .iter()
            .flat_map(|g| &g.shown)
            .flat_map(|a| a.ops.iter().take(OPS_DRAWN))
            .map(|index| (*index, None))
            .collect();
        let shown = groups.iter().flat_map(|g| &g.shown).copied();
        let contexts = shown.filter(|a| !a.ops.is_empty()).take(WITH_CONTEXT);
        Self {
            wanted,
            contexts: contexts.map(Context::new).collect(),
            groups,
            open: Open::default(),
            end_ns: 0,
            bands: Band::of_run(&summary.faults),
            told: Bands::default(),
        }
    }

    pub(in crate::report) fn record(&mut self, event: &Event) {
        self.end_ns = self.end_ns.max(event.time);
        if event.process == Process::Nemesis {
            self.told.record(event);
            return;
        }
        if event.kind == Kind::Invoke {
            self.contexts.iter_mut().for_each(|c| c.invoke(event));
            self.open.invoke(&event.process, event.index);
            if let Some(place) = self.wanted.get_mut(&event.index) {
                *place = Some(Op {
                    invoke: event.clone(),
                    complete: None,
                });
            }
        } else if let Some(index) = self.open.complete(&event.process) {
            self.contexts
                .iter_mut()
                .for_each(|c| c.complete(index, event));
            if let Some(Some(op)) = self.wanted.get_mut(&index) {
                op.complete = Some(event.clone());
            }
        }
    }

    /// The history has ended.
    pub(in crate::report) fn finish(&mut self) {
        if self.bands.is_empty() {
            self.bands = std::mem::take(&mut self.told).found();
        }
    }

    /// What to draw of an anomaly, and how many of its operations are not drawn.
    pub(in crate::report) fn scene<'s>(&'s self, anomaly: &'s Anomaly) -> (Scene<'s>, usize) {
        let mut indices: Vec<_> = anomaly.ops.iter().take(OPS_DRAWN).collect();
        indices.sort();
        indices.dedup();
        let core = indices
            .iter()
            .filter_map(|i| self.wanted.get(i)?.as_ref())
            .collect();
        let context = self
            .contexts
            .iter()
            .find(|c| std::ptr::eq(c.anomaly, anomaly));
        let around = context.into_iter().flat_map(|c| {
            let wanted = |(index, _): &(&u64, &Op)| c.wanted.contains(index);
            c.ops.iter().filter(wanted).map(|(_, op)| op)
        });
        let scene = Scene {
            core,
            context: around.collect(),
            bands: &self.bands,
            end_ns: self.end_ns,
            sentence: &anomaly.summary,
        };
        (scene, anomaly.ops.len().saturating_sub(OPS_DRAWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_shown_anomaly_has_its_operations() {
        let history = fixture::history();
        let summary = fixture::summary();
        let mut evidence = Evidence::choose(&summary);
        history.events.iter().for_each(|e| evidence.record(e));
        assert_eq!(evidence.groups.len(), 3);
        for group in &evidence.groups {
            assert!(group.shown.len() <= ANOMALIES_SHOWN && group.shown.len() <= group.total);
            for anomaly in &group.shown {
                let (scene, hidden) = evidence.scene(anomaly);
                assert_eq!(scene.core.len() + hidden, anomaly.ops.len());
                assert!(scene.core.iter().all(|o| o.complete.is_some()));
            }
        }
    }

    #[test]
    fn operations_that_are_not_in_the_history_are_left_out() {
        let mut summary = fixture::summary();
        summary.results.truncate(1);
        summary.results[0].anomalies.truncate(1);
        summary.results[0].anomalies[0].ops = vec![u64::MAX, 3];
        let evidence = Evidence::choose(&summary);
        assert!(
            evidence
                .scene(&summary.results[0].anomalies[0])
                .0
                .core
                .is_empty()
        );
    }
}
