//! Anomalies as they are listed: the first of each class, and how many there are.

use std::collections::BTreeMap;

use crate::{Anomaly, CheckResult, Value};

/// How many anomalies of one class are listed.
const LISTED_MAX: u64 = 1_000;

/// Anomalies, bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    anomalies: Vec<Anomaly>,
    counts: BTreeMap<&'static str, u64>,
}

impl Listed {
    /// Counts an anomaly, and keeps it if it is one of the first of its class.
    pub(crate) fn add(
        &mut self,
        class: &'static str,
        key: Option<&Value>,
        ops: &[u64],
        summary: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry(class).or_insert(0);
        *count += 1;
        if *count <= LISTED_MAX {
            self.anomalies.push(Anomaly {
                class: class.to_owned(),
                key: key.filter(|key| !key.is_nil()).cloned(),
                summary: summary(),
                ops: ops.to_vec(),
                figures: serde_json::Map::new(),
            });
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Puts them into a result, in the order of the history, and counts them there.
    pub(crate) fn report(mut self, result: &mut CheckResult) {
        self.anomalies
            .sort_by_key(|anomaly| anomaly.ops.last().copied());
        result.anomalies.append(&mut self.anomalies);
        for (class, count) in self.counts {
            result.figure(&format!("{}_count", class.replace('-', "_")), count);
        }
    }
}
