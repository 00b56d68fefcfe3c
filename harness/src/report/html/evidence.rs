//! Picks the anomalies to show and collects the operations that prove them from the history.

use std::collections::BTreeMap;

use checkers::{Anomaly, Event, Kind, Process};

use crate::report::Summary;
use crate::report::findings::findings;
use crate::report::tally::Open;

/// So many anomalies of a class are shown; the rest is counted.
pub(super) const ANOMALIES_SHOWN: usize = 20;
/// So many operations of an anomaly are drawn; the rest is counted.
pub(super) const OPS_DRAWN: usize = 24;

/// Anomalies of one class found by one checker.
pub(super) struct Group<'a> {
    pub(super) checker: &'a str,
    pub(super) class: &'a str,
    pub(super) total: usize,
    pub(super) shown: Vec<&'a Anomaly>,
}

/// An operation as far as it was recorded.
pub(super) struct Op {
    pub(super) invoke: Event,
    pub(super) complete: Option<Event>,
}

/// The anomalies of a run and the operations that prove them.
pub(super) struct Evidence<'a> {
    pub(super) groups: Vec<Group<'a>>,
    wanted: BTreeMap<u64, Option<Op>>,
    open: Open<u64>,
    end_ns: u64,
}

impl<'a> Evidence<'a> {
    /// Chooses what to show of each class.
    pub(super) fn choose(summary: &'a Summary) -> Self {
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
        Self {
            groups,
            wanted,
            open: Open::default(),
            end_ns: 0,
        }
    }

    pub(super) fn record(&mut self, event: &Event) {
        self.end_ns = self.end_ns.max(event.time);
        if event.process == Process::Nemesis {
            return;
        }
        if event.kind == Kind::Invoke {
            self.open.invoke(&event.process, event.index);
            if let Some(place) = self.wanted.get_mut(&event.index) {
                *place = Some(Op {
                    invoke: event.clone(),
                    complete: None,
                });
            }
        } else if let Some(index) = self.open.complete(&event.process)
            && let Some(Some(op)) = self.wanted.get_mut(&index)
        {
            op.complete = Some(event.clone());
        }
    }

    /// The operations of an anomaly that are in the history, and how many are not drawn.
    pub(super) fn of(&self, anomaly: &Anomaly) -> (Vec<&Op>, usize) {
        let mut indices: Vec<_> = anomaly.ops.iter().take(OPS_DRAWN).collect();
        indices.sort();
        indices.dedup();
        let ops = indices
            .iter()
            .filter_map(|i| self.wanted.get(i)?.as_ref())
            .collect();
        (ops, anomaly.ops.len().saturating_sub(OPS_DRAWN))
    }

    /// Time of the last event in nanoseconds.
    pub(super) fn end_ns(&self) -> u64 {
        self.end_ns
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
                let (ops, hidden) = evidence.of(anomaly);
                assert_eq!(ops.len() + hidden, anomaly.ops.len());
                assert!(ops.iter().all(|o| o.complete.is_some()));
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
        assert!(evidence.of(&summary.results[0].anomalies[0]).0.is_empty());
    }
}
