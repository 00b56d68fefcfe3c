//! What is measured of every mode under every fault, and how runs become an estimate.

use serde::Serialize;

use super::cell::{Fault, Figures, Stretch, Word};
use crate::statistics::{Interval, median, median_interval, ratio_interval, wilson};

/// One measure of the scorecard.
#[derive(Clone, Copy)]
pub struct Measure {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// Whether less of it is better, or more.
    pub less_is_better: bool,
    /// How runs become an estimate.
    pub how: How,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share, 0 to 1.
    Share,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Operations a second.
    OperationsPerSecond,
    /// A number of writes.
    Writes,
    /// A number of versions.
    Versions,
}

/// How runs become an estimate and its interval.
#[derive(Clone, Copy)]
pub enum How {
    /// So many of so many independent trials; Wilson's interval.
    Share(fn(&Figures) -> Option<(u64, u64)>),
    /// One sum over another; studentised bootstrap over runs.
    Ratio(fn(&Figures) -> Option<(f64, f64)>),
    /// The median of all values of all runs; percentile bootstrap over runs. What never came to an
    /// end is infinite.
    Median(fn(&Figures) -> Vec<f64>),
    /// The greatest value of all runs. It has no interval: no resample exceeds what was seen.
    Worst(fn(&Figures) -> Vec<f64>),
}

impl How {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Share(_) => "share, Wilson",
            Self::Ratio(_) => "ratio of sums, bootstrap-t over runs",
            Self::Median(_) => "median, percentile bootstrap over runs",
            Self::Worst(_) => "greatest seen, no interval",
        }
    }
}

/// What runs say of a measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate; absent if nothing was measured, or if `never`.
    pub value: Option<f64>,
    /// The ends of its 95 % interval; absent where the runs set no bound.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// How many trials, runs or values it is from.
    pub n: u64,
    /// It lies beyond the end of the run: what was waited for did not come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never: bool,
}

impl Estimate {
    fn of(value: Option<f64>, interval: Option<Interval>, n: u64) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            value: value.and_then(finite),
            low: interval.and_then(|i| finite(i.low)),
            high: interval.and_then(|i| finite(i.high)),
            n,
            never: value.is_some_and(f64::is_infinite),
        }
    }

    /// Both ends of its interval, where it has both.
    pub fn interval(&self) -> Option<Interval> {
        Some(Interval {
            low: self.low?,
            high: self.high?,
        })
    }
}

/// What the runs of one mode under one fault say of a measure. The same seed gives the same.
pub fn estimate(measure: &Measure, runs: &[&Figures], seed: u64) -> Estimate {
    let seed = workloads::substream(seed, measure.name);
    let values = |of: fn(&Figures) -> Vec<f64>| -> Vec<Vec<f64>> {
        runs.iter().map(|run| of(run)).collect()
    };
    match measure.how {
        How::Share(of) => {
            let counts = runs.iter().filter_map(|run| of(run));
            let (some, all) = counts.fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
            let value = (all > 0).then(|| some as f64 / all as f64);
            Estimate::of(value, wilson(some, all), all)
        }
        How::Ratio(of) => {
            let pairs: Vec<(f64, f64)> = runs.iter().filter_map(|run| of(run)).collect();
            let (above, below) = pairs
                .iter()
                .fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
            // None of these is negative, and no share above 1. An end that the resamples do not
            // bound stays infinite, which is not known.
            let most = match measure.unit {
                Unit::Share => 1.0,
                _ => f64::MAX,
            };
            let interval = ratio_interval(&pairs, seed).map(|i| Interval {
                low: i.low.max(0.0),
                high: if i.high.is_finite() {
                    i.high.min(most)
                } else {
                    i.high
                },
            });
            let value = (below > 0.0).then(|| above / below);
            Estimate::of(value, interval, pairs.len() as u64)
        }
        How::Median(of) => {
            let values = values(of);
            let mut all: Vec<f64> = values.iter().flatten().copied().collect();
            let interval = median_interval(&values, seed);
            Estimate::of(median(&mut all), interval, all.len() as u64)
        }
        How::Worst(of) => {
            let values = values(of);
            let all = values.iter().flatten();
            let n = all.clone().count() as u64;
            Estimate::of(all.copied().max_by(f64::total_cmp), None, n)
        }
    }
}

/// The mean difference between runs of the same seed, `runs` less `against`; `None` for a measure
/// of which a single run says too little.
pub fn difference(measure: &Measure, runs: &[(&Figures, &Figures)], seed: u64) -> Option<Estimate> {
    let one = |figures: &Figures| -> Option<f64> {
        match measure.how {
            How::Ratio(of) => {
                let (above, below) = of(figures)?;
                (below > 0.0).then(|| above / below)
            }
            How::Median(of) => median(&mut of(figures)).filter(|m| m.is_finite()),
            How::Share(_) | How::Worst(_) => None,
        }
    };
    let differences: Vec<(f64, f64)> = runs
        .iter()
        .filter_map(|(run, against)| Some((one(run)? - one(against)?, 1.0)))
        .collect();
    let n = differences.len() as u64;
    let sum: f64 = differences.iter().map(|d| d.0).sum();
    let seed = workloads::substream(seed, &format!("difference {}", measure.name));
    let interval = ratio_interval(&differences, seed);
    (n > 0).then(|| Estimate::of(Some(sum / n as f64), interval, n))
}

/// All measures, in the order of the scorecard.
pub static MEASURES: [Measure; 35] = [
    share("invalid_runs", "runs found invalid", |f| {
        let worst = f.checks.values().max()?;
        Some((u64::from(*worst == Word::Invalid), 1))
    }),
    share("losing_runs", "runs losing writes", |f| {
        Some((u64::from(f.lost? > 0), 1))
    }),
    share("losing_faults", "faults losing writes", |f| {
        let judged = f.faults.iter().filter_map(|fault| fault.lost);
        let losing = judged.clone().filter(|&lost| lost > 0).count();
        Some((losing as u64, judged.count() as u64))
    }),
    ratio("lost_share", "writes lost", Unit::Share, |f| {
        Some((f.lost? as f64, f.judged? as f64))
    }),
    ratio("lost_per_fault", "lost per fault", Unit::Writes, |f| {
        let judged = f.faults.iter().filter_map(|fault| fault.lost);
        let lost: u64 = judged.clone().sum();
        Some((lost as f64, judged.count() as f64))
    }),
    ratio("lost_per_run", "lost per run", Unit::Writes, |f| {
        Some((f.lost? as f64, 1.0))
    }),
    worst(
        "rpo_writes_worst",
        "RPO in writes, worst",
        Unit::Writes,
        |f| of_faults(f, |fault| fault.lost.map(|lost| lost as f64)),
    ),
    middle("rpo_seconds_median", "RPO, median", Unit::Seconds, |f| {
        of_faults(f, |fault| fault.rpo_s)
    }),
    worst("rpo_seconds_worst", "RPO, worst", Unit::Seconds, |f| {
        of_faults(f, |fault| fault.rpo_s)
    }),
    middle(
        "write_rto_median",
        "RTO writes, median",
        Unit::Seconds,
        write_rto,
    ),
    worst(
        "write_rto_worst",
        "RTO writes, worst",
        Unit::Seconds,
        write_rto,
    ),
    middle(
        "read_rto_median",
        "RTO reads, median",
        Unit::Seconds,
        read_rto,
    ),
    worst(
        "read_rto_worst",
        "RTO reads, worst",
        Unit::Seconds,
        read_rto,
    ),
    share("stale_runs", "runs with stale reads", |f| {
        Some((u64::from(f.stale?.stale > 0), 1))
    }),
    ratio("stale_share", "stale reads", Unit::Share, |f| {
        let stale = f.stale?;
        Some((stale.stale as f64, stale.judged as f64))
    }),
    middle("stale_ms_p50", "staleness p50", Unit::Milliseconds, |f| {
        one(f.stale.and_then(|s| Some(s.ms?[0])))
    }),
    middle("stale_ms_p99", "staleness p99", Unit::Milliseconds, |f| {
        one(f.stale.and_then(|s| Some(s.ms?[1])))
    }),
    worst("stale_ms_max", "staleness max", Unit::Milliseconds, |f| {
        one(f.stale.and_then(|s| Some(s.ms?[2])))
    }),
    middle(
        "stale_versions_p50",
        "versions behind p50",
        Unit::Versions,
        |f| one(f.stale.and_then(|s| Some(s.versions?[0]))),
    ),
    middle(
        "stale_versions_p99",
        "versions behind p99",
        Unit::Versions,
        |f| one(f.stale.and_then(|s| Some(s.versions?[1]))),
    ),
    worst(
        "stale_versions_max",
        "versions behind max",
        Unit::Versions,
        |f| one(f.stale.and_then(|s| Some(s.versions?[2]))),
    ),
    share("split_brain_runs", "runs split-brained", |f| {
        Some((u64::from(f.split_brain_s? > 0.0), 1))
    }),
    ratio(
        "split_brain_seconds",
        "split brain per run",
        Unit::Seconds,
        |f| Some((f.split_brain_s?, 1.0)),
    ),
    more(ratio(
        "write_availability",
        "writes available",
        Unit::Share,
        |f| up(f.writes_down_s?, f.main_s),
    )),
    more(ratio(
        "read_availability",
        "reads available",
        Unit::Share,
        |f| up(f.reads_down_s?, f.main_s),
    )),
    more(ratio(
        "throughput_calm",
        "throughput, calm",
        Unit::OperationsPerSecond,
        |f| rate(f.calm?),
    )),
    more(ratio(
        "throughput_faulty",
        "throughput, faults",
        Unit::OperationsPerSecond,
        |f| rate(f.faulty?),
    )),
    middle(
        "write_ms_p50_calm",
        "write p50, calm",
        Unit::Milliseconds,
        |f| one(f.calm.and_then(|s| Some(s.write_ms?[0]))),
    ),
    middle(
        "write_ms_p99_calm",
        "write p99, calm",
        Unit::Milliseconds,
        |f| one(f.calm.and_then(|s| Some(s.write_ms?[1]))),
    ),
    middle(
        "write_ms_p50_faulty",
        "write p50, faults",
        Unit::Milliseconds,
        |f| one(f.faulty.and_then(|s| Some(s.write_ms?[0]))),
    ),
    middle(
        "write_ms_p99_faulty",
        "write p99, faults",
        Unit::Milliseconds,
        |f| one(f.faulty.and_then(|s| Some(s.write_ms?[1]))),
    ),
    middle(
        "read_ms_p50_calm",
        "read p50, calm",
        Unit::Milliseconds,
        |f| one(f.calm.and_then(|s| Some(s.read_ms?[0]))),
    ),
    middle(
        "read_ms_p99_calm",
        "read p99, calm",
        Unit::Milliseconds,
        |f| one(f.calm.and_then(|s| Some(s.read_ms?[1]))),
    ),
    middle(
        "read_ms_p50_faulty",
        "read p50, faults",
        Unit::Milliseconds,
        |f| one(f.faulty.and_then(|s| Some(s.read_ms?[0]))),
    ),
    middle(
        "read_ms_p99_faulty",
        "read p99, faults",
        Unit::Milliseconds,
        |f| one(f.faulty.and_then(|s| Some(s.read_ms?[1]))),
    ),
];

/// The measure of a name.
pub fn by_name(name: &str) -> Option<&'static Measure> {
    MEASURES.iter().find(|measure| measure.name == name)
}

type Of<T> = fn(&Figures) -> T;

const fn new(name: &'static str, label: &'static str, unit: Unit, how: How) -> Measure {
    Measure {
        name,
        label,
        unit,
        less_is_better: true,
        how,
    }
}

const fn share(name: &'static str, label: &'static str, of: Of<Option<(u64, u64)>>) -> Measure {
    new(name, label, Unit::Share, How::Share(of))
}

const fn ratio(
    name: &'static str,
    label: &'static str,
    unit: Unit,
    of: Of<Option<(f64, f64)>>,
) -> Measure {
    new(name, label, unit, How::Ratio(of))
}

const fn middle(name: &'static str, label: &'static str, unit: Unit, of: Of<Vec<f64>>) -> Measure {
    new(name, label, unit, How::Median(of))
}

const fn worst(name: &'static str, label: &'static str, unit: Unit, of: Of<Vec<f64>>) -> Measure {
    new(name, label, unit, How::Worst(of))
}

/// More of it is better.
const fn more(measure: Measure) -> Measure {
    Measure {
        less_is_better: false,
        ..measure
    }
}

fn one(value: Option<f64>) -> Vec<f64> {
    value.into_iter().collect()
}

fn of_faults(figures: &Figures, of: fn(&Fault) -> Option<f64>) -> Vec<f64> {
    figures.faults.iter().filter_map(of).collect()
}

fn write_rto(figures: &Figures) -> Vec<f64> {
    of_faults(figures, |f| Some(f.write_rto_s.unwrap_or(f64::INFINITY)))
}

fn read_rto(figures: &Figures) -> Vec<f64> {
    of_faults(figures, |f| Some(f.read_rto_s.unwrap_or(f64::INFINITY)))
}

fn up(down_s: f64, of_s: f64) -> Option<(f64, f64)> {
    (of_s > 0.0).then(|| ((of_s - down_s).max(0.0), of_s))
}

fn rate(stretch: Stretch) -> Option<(f64, f64)> {
    (stretch.seconds > 0.0).then_some((stretch.ok as f64, stretch.seconds))
}
