//! What a checker found: anomalies, listed up to a limit and all counted, and distributions.

use std::collections::BTreeMap;

use crate::observe;
use crate::{Anomaly, CheckResult, Operation, Value};

/// Anomalies of one class that are listed; the others are only counted.
pub(crate) const LISTED_MAX: u64 = 1_000;

/// Anomalies by class: the first ones of each, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct Found {
    classes: BTreeMap<&'static str, (u64, Vec<Anomaly>)>,
}

impl Found {
    /// Counts an anomaly, and lists it if there is room.
    pub(crate) fn add(&mut self, class: &'static str, anomaly: impl FnOnce() -> Anomaly) {
        let (count, listed) = self.classes.entry(class).or_default();
        *count += 1;
        if *count <= LISTED_MAX {
            listed.push(Anomaly {
                class: class.to_owned(),
                ..anomaly()
            });
        }
    }

    /// How many of the class were added.
    pub(crate) fn count(&self, class: &str) -> u64 {
        self.classes.get(class).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Moves what is listed into the result, in the order of the history.
    pub(crate) fn list(self, result: &mut CheckResult) {
        let listed = self.classes.into_values().flat_map(|(_, listed)| listed);
        result.anomalies.extend(listed);
        result
            .anomalies
            .sort_by(|a, b| (&a.ops, &a.class, &a.key).cmp(&(&b.ops, &b.class, &b.key)));
    }
}

/// An anomaly over these operations; its class is set when it is added to what was [`Found`].
pub(crate) fn anomaly(key: Option<&Value>, ops: &[&Operation<'_>], summary: String) -> Anomaly {
    Anomaly {
        class: String::new(),
        key: key.cloned(),
        summary,
        ops: ops.iter().map(|op| op.invoke.index).collect(),
        figures: serde_json::Map::new(),
    }
}

/// The anomaly with the value it is about.
pub(crate) fn with_value(mut anomaly: Anomaly, value: &Value) -> Anomaly {
    if let Ok(json) = serde_json::to_value(value) {
        anomaly.figures.insert("value".to_owned(), json);
    }
    anomaly
}

/// `add of 3 to key k by process 2 (acknowledged by n1 at 1.250 s)`; of a read, without its value.
pub(crate) fn told(op: &Operation<'_>, value: Option<&Value>, key: Option<&Value>) -> String {
    let at = op.completed_at().unwrap_or(op.invoked_at()) as f64 / 1e9;
    let node = op.node().map_or_else(String::new, |n| format!(" by {n}"));
    let (of, to) = match value {
        Some(value) => (format!(" of {value}"), "to"),
        None => (String::new(), "of"),
    };
    let how = match op.outcome {
        crate::Outcome::Ok => "answered",
        crate::Outcome::Fail => "refused",
        crate::Outcome::Info => "never answered, asked",
    };
    format!(
        "{}{of} {to} {} by process {} ({how}{node} at {at:.3} s)",
        op.f().name(),
        observe::key_name(key),
        op.process(),
    )
}

/// Sets the figures `<name>_p50`, `_p95`, `_p99` and `_max` of a sample, by nearest rank; `null`
/// of an empty one.
pub(crate) fn quantiles(result: &mut CheckResult, name: &str, mut sample: Vec<f64>) {
    sample.sort_by(f64::total_cmp);
    for (suffix, percent) in [("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)] {
        result.figure(&format!("{name}_{suffix}"), nearest_rank(&sample, percent));
    }
}

/// The percentile of an ascending sample by nearest rank; `None` of an empty one.
pub(crate) fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sample: Vec<u32> = (1..=200).collect();
        assert_eq!(nearest_rank(&sample, 50), Some(100));
        assert_eq!(nearest_rank(&sample, 99), Some(198));
        assert_eq!(nearest_rank(&sample, 100), Some(200));
        assert_eq!(nearest_rank(&sample[..1], 50), Some(1));
        assert_eq!(nearest_rank::<u32>(&[], 50), None);
    }

    #[test]
    fn millions_of_anomalies_are_counted_and_not_listed() {
        let mut found = Found::default();
        for n in 0..5_000_u64 {
            found.add("odd", || Anomaly {
                ops: vec![5_000 - n],
                ..anomaly(None, &[], String::new())
            });
        }
        assert_eq!(found.count("odd"), 5_000);
        assert_eq!(found.count("even"), 0);
        let mut result = CheckResult::unknown("test", "");
        found.list(&mut result);
        assert_eq!(result.anomalies.len() as u64, LISTED_MAX);
        assert!(result.anomalies.is_sorted_by_key(|a| a.ops[0]));
        assert_eq!(result.anomalies[0].class, "odd");
    }
}
