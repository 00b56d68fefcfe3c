//! Counts operations and latency while events stream by; memory does not grow with the history.

use std::collections::BTreeMap;

use checkers::{Event, F, Kind, Process};
use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;

use super::summary::{Counts, Latency, Ops};

/// Pairs invocations with completions: at most one operation of a process is open.
pub(crate) struct Open<T> {
    by_process: FxHashMap<Process, T>,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self {
            by_process: FxHashMap::default(),
        }
    }
}

impl<T> Open<T> {
    /// An operation was invoked; gives back one of the same process that never completed.
    pub(crate) fn invoke(&mut self, process: &Process, what: T) -> Option<T> {
        self.by_process.insert(process.clone(), what)
    }

    /// An operation completed; gives back what its invocation left here.
    pub(crate) fn complete(&mut self, process: &Process) -> Option<T> {
        self.by_process.remove(process)
    }

    /// The operations that never completed, in no order.
    pub(crate) fn left(self) -> impl Iterator<Item = T> {
        self.by_process.into_values()
    }
}

/// A running count of operations.
#[derive(Default)]
pub struct Tally {
    open: Open<(F, u64)>,
    by_f: BTreeMap<F, Counts>,
    latency_us: Option<Histogram<u64>>,
}

impl Tally {
    /// Takes in the next event of the history. Only clients' events count.
    pub fn record(&mut self, event: &Event) {
        if event.process == Process::Nemesis {
            return;
        }
        if event.kind == Kind::Invoke {
            let counts = self.by_f.entry(event.f.clone()).or_default();
            counts.total += 1;
            if let Some((f, _)) = self
                .open
                .invoke(&event.process, (event.f.clone(), event.time))
            {
                self.by_f.entry(f).or_default().info += 1;
            }
            return;
        }
        let Some((f, invoked)) = self.open.complete(&event.process) else {
            return;
        };
        let counts = self.by_f.entry(f).or_default();
        match event.kind {
            Kind::Ok => counts.ok += 1,
            Kind::Fail => counts.fail += 1,
            Kind::Info | Kind::Invoke => counts.info += 1,
        }
        if event.kind == Kind::Ok {
            let us = (event.time.saturating_sub(invoked) / 1_000).max(1);
            let histogram = self.latency_us.get_or_insert_with(new_histogram);
            histogram.saturating_record(us);
        }
    }

    /// What was counted; operations still open count as `info`.
    pub fn finish(mut self) -> (Ops, Option<Latency>) {
        for (f, _) in self.open.left() {
            self.by_f.entry(f).or_default().info += 1;
        }
        let mut ops = Ops::default();
        for (f, counts) in self.by_f {
            ops.all.ok += counts.ok;
            ops.all.fail += counts.fail;
            ops.all.info += counts.info;
            ops.all.total += counts.total;
            ops.by_f.insert(f.name().to_owned(), counts);
        }
        let latency = self.latency_us.map(|h| Latency {
            p50: h.value_at_quantile(0.5) as f64 / 1e3,
            p99: h.value_at_quantile(0.99) as f64 / 1e3,
            max: h.max() as f64 / 1e3,
        });
        (ops, latency)
    }
}

/// A histogram of microseconds that keeps two significant digits and grows as needed.
pub(crate) fn new_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 2)
        .expect("constant bounds and precision are in range");
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_operation_ends_one_way() {
        let history = fixture::history();
        let mut tally = Tally::default();
        history.events.iter().for_each(|e| tally.record(e));
        let (ops, latency) = tally.finish();
        let invoked = history
            .events
            .iter()
            .filter(|e| e.kind == Kind::Invoke && e.process != Process::Nemesis)
            .count() as u64;
        assert_eq!(ops.all.total, invoked);
        assert_eq!(ops.all.ok + ops.all.fail + ops.all.info, invoked);
        assert!(ops.all.ok > 0 && ops.all.fail > 0 && ops.all.info > 0);
        let latency = latency.expect("some operation took effect");
        assert!(latency.p50 <= latency.p99 && latency.p99 <= latency.max);
    }

    #[test]
    fn an_operation_left_open_is_info() {
        let history = fixture::history();
        let invoke = history
            .events
            .iter()
            .find(|e| e.kind == Kind::Invoke && e.process != Process::Nemesis)
            .expect("the fixture has invocations");
        let mut tally = Tally::default();
        tally.record(invoke);
        let (ops, latency) = tally.finish();
        assert_eq!((ops.all.info, ops.all.total), (1, 1));
        assert_eq!(latency, None);
    }
}
