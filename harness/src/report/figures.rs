//! What the checkers measured, read by name from their figures.
//!
//! A figure that is not there is `None`: it is left out of every page, never shown as 0.

use checkers::{Anomaly, CheckResult};
use serde_json::{Map, Value};

use super::text::seconds;
use super::{FaultRecord, Summary};

/// A number by its path, e.g. `ms.p99`. Flat names are found too: `ms_p99`.
pub fn number(figures: &Map<String, Value>, path: &str) -> Option<f64> {
    if let Some(value) = figures.get(path) {
        return value.as_f64();
    }
    let (head, tail) = path.split_once('.')?;
    match figures.get(head) {
        Some(Value::Object(inner)) => number(inner, tail),
        _ => figures.get(&path.replace('.', "_"))?.as_f64(),
    }
}

fn count(result: &CheckResult, path: &str) -> Option<u64> {
    number(&result.figures, path).map(|n| n as u64)
}

/// Acknowledged writes that are readable nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lost<'a> {
    /// How many.
    pub lost: Option<u64>,
    /// Of how many acknowledged.
    pub acknowledged: Option<u64>,
    /// Each of them.
    pub anomalies: Vec<&'a Anomaly>,
    /// Anomalies of the same checker in other classes (duplicated, resurrected, …).
    pub others: u64,
}

/// Reads that returned less than what was acknowledged before they began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stale {
    /// How many.
    pub stale: Option<u64>,
    /// Of how many reads judged.
    pub reads: Option<u64>,
    /// Median, 99th percentile and greatest number of versions behind.
    pub versions: [Option<f64>; 3],
    /// Median, 99th percentile and greatest age in milliseconds.
    pub ms: [Option<f64>; 3],
}

/// Two nodes acknowledging writes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SplitBrain {
    /// For how many seconds in all.
    pub overlap_s: Option<f64>,
    /// How many writes were acknowledged by a node that had been replaced and are gone.
    pub diverged: Option<u64>,
}

/// Windows without an acknowledged write.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Availability {
    /// Seconds in all.
    pub unavailable_s: Option<f64>,
    /// How many windows.
    pub windows: Option<u64>,
    /// Share of the time with acknowledged writes, 0 to 100.
    pub percent: Option<f64>,
}

/// The figures that every page leads with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings<'a> {
    /// From `lost-writes`.
    pub lost: Option<Lost<'a>>,
    /// From `stale-reads`.
    pub stale: Option<Stale>,
    /// From `split-brain`.
    pub split_brain: Option<SplitBrain>,
    /// From `availability`.
    pub availability: Option<Availability>,
}

impl<'a> Findings<'a> {
    /// Collects the figures of a run.
    pub fn of(summary: &'a Summary) -> Self {
        Self {
            lost: summary.result("lost-writes").map(lost),
            stale: summary.result("stale-reads").map(stale),
            split_brain: summary.result("split-brain").map(split_brain),
            availability: summary
                .result("availability")
                .map(|r| availability(r, summary.duration_s)),
        }
    }
}

fn lost(result: &CheckResult) -> Lost<'_> {
    let anomalies: Vec<_> = result
        .anomalies
        .iter()
        .filter(|a| a.class == "lost")
        .collect();
    Lost {
        others: (result.anomalies.len() - anomalies.len()) as u64,
        lost: count(result, "lost"),
        acknowledged: count(result, "acknowledged"),
        anomalies,
    }
}

fn stale(result: &CheckResult) -> Stale {
    let quantiles =
        |of: &str| ["p50", "p99", "max"].map(|q| number(&result.figures, &format!("{of}.{q}")));
    Stale {
        stale: count(result, "stale"),
        reads: count(result, "reads").or((result.judged > 0).then_some(result.judged)),
        versions: quantiles("versions"),
        ms: quantiles("ms"),
    }
}

fn split_brain(result: &CheckResult) -> SplitBrain {
    SplitBrain {
        overlap_s: number(&result.figures, "overlap_seconds"),
        diverged: count(result, "discarded_writes"),
    }
}

fn availability(result: &CheckResult, duration_s: f64) -> Availability {
    let unavailable_s = number(&result.figures, "writes_unavailable_seconds");
    let percent = unavailable_s
        .filter(|_| duration_s > 0.0)
        .map(|down| (100.0 * (1.0 - down / duration_s)).clamp(0.0, 100.0));
    Availability {
        unavailable_s,
        windows: result
            .figures
            .get("windows")
            .map(|_| windows_of(result).len() as u64),
        percent,
    }
}

/// The windows without an acknowledged write, from and to in seconds.
pub fn write_windows(summary: &Summary) -> Vec<(f64, f64)> {
    summary
        .result("availability")
        .map(windows_of)
        .unwrap_or_default()
}

fn windows_of(result: &CheckResult) -> Vec<(f64, f64)> {
    let windows = result.figures.get("windows").and_then(Value::as_array);
    windows
        .into_iter()
        .flatten()
        .filter(|w| w["class"] == "writes")
        .filter_map(|w| Some((w["from_seconds"].as_f64()?, w["to_seconds"].as_f64()?)))
        .collect()
}

/// How long writes were unavailable after a fault, in words.
pub fn unavailable(summary: &Summary, fault: &FaultRecord) -> String {
    let measured = || {
        let availability = summary.result("availability")?;
        let faults = availability.figures.get("faults")?.as_array()?;
        let entry = faults.iter().find(|f| f["id"] == fault.id)?;
        let down = entry["writes_unavailable_seconds"].as_f64()?;
        let recovered = !entry["recovery_seconds"].is_null();
        let threshold = number(&availability.figures, "threshold_seconds");
        Some(match threshold {
            _ if !recovered => format!("{}, to the end", seconds(down)),
            _ if down > 0.0 => seconds(down),
            // Shorter windows are not counted: the figure 0 does not say that there was none.
            Some(threshold) => format!("under {threshold} s"),
            None => "not at all".to_owned(),
        })
    };
    measured().unwrap_or_else(|| match fault.recovery_s {
        None => "not measured".to_owned(),
        Some(s) if s <= 0.0 => "not at all".to_owned(),
        Some(s) => seconds(s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn figures(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).expect("an object")
    }

    #[test]
    fn finds_nested_and_flat_names() {
        let nested = figures(r#"{"ms":{"p99":4.5}}"#);
        let flat = figures(r#"{"ms_p99":4.5}"#);
        assert_eq!(number(&nested, "ms.p99"), Some(4.5));
        assert_eq!(number(&flat, "ms.p99"), Some(4.5));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        let none = figures(r#"{"lost":"many"}"#);
        assert_eq!(number(&none, "lost"), None);
        assert_eq!(number(&none, "ms.p99"), None);
        assert_eq!(number(&none, "stale"), None);
    }

    #[test]
    fn how_long_a_fault_hurt_is_never_guessed() {
        let mut summary = fixture::summary();
        let said = |summary: &Summary| {
            let faults = summary.faults.iter();
            faults.map(|f| unavailable(summary, f)).collect::<Vec<_>>()
        };
        assert_eq!(
            said(&summary),
            ["under 1 s", "2.20 s", "1.50 s, to the end"]
        );
        for result in &mut summary.results {
            result.figures.clear();
        }
        assert_eq!(said(&summary), ["5.0 ms", "2.21 s", "not measured"]);
    }
}
