//! Throughput and latency over time.

use checkers::{Event, Kind, Process};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::buckets::{Buckets, Merge};
use crate::report::tally::{Open, new_histogram};
use crate::report::{FaultRecord, Summary};

/// What ended in one slice of time.
#[derive(Debug, Default)]
struct Slice {
    ok: u32,
    fail: u32,
    info: u32,
    latency_us: Option<Histogram<u64>>,
}

impl Merge for Slice {
    fn merge(&mut self, other: Self) {
        self.ok += other.ok;
        self.fail += other.fail;
        self.info += other.info;
        match (&mut self.latency_us, other.latency_us) {
            // Both grow as needed, so that nothing is out of range.
            (Some(mine), Some(theirs)) => drop(mine.add(theirs)),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }
}

/// Collects the series while events stream by.
pub(super) struct Series {
    open: Open<u64>,
    slices: Buckets<Slice>,
    last_ns: u64,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            open: Open::default(),
            slices: Buckets::new(125_000_000, 240),
            last_ns: 0,
        }
    }

    pub(super) fn record(&mut self, event: &Event) {
        self.last_ns = self.last_ns.max(event.time);
        if event.process == Process::Nemesis {
            return;
        }
        if event.kind == Kind::Invoke {
            self.open.invoke(&event.process, event.time);
            return;
        }
        let Some(invoked) = self.open.complete(&event.process) else {
            return;
        };
        let slice = self.slices.at(event.time);
        match event.kind {
            Kind::Ok => {
                slice.ok += 1;
                let us = (event.time.saturating_sub(invoked) / 1_000).max(1);
                slice
                    .latency_us
                    .get_or_insert_with(new_histogram)
                    .saturating_record(us);
            }
            Kind::Fail => slice.fail += 1,
            Kind::Info | Kind::Invoke => slice.info += 1,
        }
    }

    /// Whether nothing ended.
    pub(super) fn is_empty(&self) -> bool {
        self.slices.slices().is_empty()
    }

    /// Seconds from the start to the last event.
    pub(super) fn last_s(&self) -> f64 {
        self.last_ns as f64 / 1e9
    }

    /// The data of the charts: rates per second and latencies in milliseconds, by slice.
    pub(super) fn to_json(&self, summary: &Summary) -> Value {
        let width = self.slices.width_s();
        let last = self.last_ns as f64 / 1e9;
        let all = self.slices.slices();
        // A last slice that is hardly begun would be drawn as a collapse that did not happen.
        let whole = all.len().saturating_sub(1);
        let begun = last - whole as f64 * width > width * 0.5;
        let shown = if begun || whole == 0 {
            all
        } else {
            &all[..whole]
        };
        let slices = || (0_u32..).zip(shown);
        let rates = |of: fn(&Slice) -> u32| -> Vec<f64> {
            slices()
                .map(|(i, slice)| {
                    // The last slice is seldom whole: its rate is that of the part that was.
                    let from = f64::from(i) * width;
                    let covered = (last - from).clamp(width * 0.1, width);
                    round(f64::from(of(slice)) / covered)
                })
                .collect()
        };
        let quantile = |q: f64| -> Vec<Option<f64>> {
            slices()
                .map(|(_, slice)| {
                    let histogram = slice.latency_us.as_ref()?;
                    Some(round(histogram.value_at_quantile(q) as f64 / 1e3))
                })
                .collect()
        };
        let faults: Vec<_> = summary
            .faults
            .iter()
            .map(|fault| {
                json!({
                    "from": fault.injected_at_s,
                    "to": fault.healed_at_s.unwrap_or(last),
                    "label": label(fault),
                })
            })
            .collect();
        json!({
            "t": slices().map(|(i, _)| round((f64::from(i) + 0.5) * width)).collect::<Vec<_>>(),
            "ok": rates(|s| s.ok),
            "fail": rates(|s| s.fail),
            "info": rates(|s| s.info),
            "p50": quantile(0.5),
            "p99": quantile(0.99),
            "faults": faults,
        })
    }
}

/// A fault in a few words: what and to whom.
pub(super) fn label(fault: &FaultRecord) -> String {
    format!("{} {}", fault.name, fault.targets.join(" "))
        .trim_end()
        .to_owned()
}

/// Three decimals are more than a chart can show.
fn round(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_ok_is_in_some_slice() {
        let history = fixture::history();
        let summary = fixture::summary();
        let mut series = Series::new();
        history.events.iter().for_each(|e| series.record(e));
        let ok: u32 = series.slices.slices().iter().map(|s| s.ok).sum();
        assert_eq!(u64::from(ok), summary.ops.all.ok);
        let json = series.to_json(&summary);
        let length = |name: &str| json[name].as_array().map(Vec::len);
        assert!(length("t").is_some_and(|n| n > 100));
        assert_eq!(length("p99"), length("t"));
        assert!(
            json["p50"]
                .as_array()
                .is_some_and(|p| p.contains(&Value::Null))
        );
    }
}
