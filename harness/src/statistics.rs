//! Estimates with intervals: what a comparison says of many runs.
//!
//! * [`wilson`]: a share of independent trials. E. B. Wilson, "Probable inference, the law of
//!   succession, and statistical inference", JASA 22 (1927); for why not the textbook interval, see
//!   Brown, Cai and `DasGupta`, "Interval estimation for a binomial proportion", Statistical Science
//!   16 (2001). It says something when nothing was seen, too: 0 of 200 is at most 1.9 %.
//! * [`ratio_interval`]: the ratio of two sums over runs (a mean is the ratio to the number of
//!   runs), by the studentised bootstrap, *bootstrap-t*: Efron and Tibshirani, "An introduction to
//!   the bootstrap" (1993), chapter 12, with the linearised standard error of a ratio (Cochran,
//!   "Sampling techniques", chapter 6). Of few and skewed runs the percentile bootstrap covers too
//!   little; this one covers what it claims, see the tests.
//! * [`median_interval`]: the median of values that come in clusters, by the percentile bootstrap
//!   over clusters (Davison and Hinkley, "Bootstrap methods and their application", 1997, section
//!   3.8): whole runs are drawn, never single values of a run, which depend on each other. Its
//!   tails are widened as Student's t widens the normal ones (T. Hesterberg, "What teachers should
//!   know about the bootstrap", The American Statistician 69, 2015, section 4.1), for few runs.
//!
//! * [`at_most`]: what a share is at most, by Clopper and Pearson, "The use of confidence or fiducial
//!   limits illustrated in the case of the binomial", Biometrika 26 (1934): it never covers less than
//!   it claims. Of no success in n trials it is close to 3/n, the rule of three.
//!
//! What is drawn is runs; three choices keep the intervals honest. Fewer than [`LEAST_RUNS`] runs
//! have no interval: no resampling of three values covers 95 %, and of five clusters neither. Equal
//! values have none: the resamples of zeros are zeros, which would claim certainty. And where many
//! resamples are all equal (two runs of twenty lost something), the end that they do not bound is
//! infinite.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};

/// The share of campaigns whose intervals hold what they estimate.
pub const CONFIDENCE: f64 = 0.95;
/// The quantile of the normal distribution at `1 - (1 - CONFIDENCE) / 2`.
const Z: f64 = 1.959_963_984_540_054;
/// Fewer runs than this have no bootstrap interval.
pub const LEAST_RUNS: usize = 7;
/// How many resamples are drawn: with one more, both tails are whole numbers of them.
const RESAMPLES: usize = 1_999;
/// How many of the resamples lie beyond each end of an interval of the studentised bootstrap.
const TAIL: usize = 50;

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether it holds a value.
    pub fn covers(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Wilson's score interval of a share; `None` without trials. `successes` counts at most as many as
/// `trials`.
pub fn wilson(successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let n = trials as f64;
    let share = successes.min(trials) as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some(Interval {
        // Rounding must not exclude the ends that the formula reaches exactly.
        low: if successes == 0 {
            0.0
        } else {
            ((centre - spread) / scale).max(0.0)
        },
        high: if successes >= trials {
            1.0
        } else {
            ((centre + spread) / scale).min(1.0)
        },
    })
}

/// The share that is at most behind so many successes: a larger one would show so few in less than
/// 5 % of all campaigns (one-sided). `None` without trials.
pub fn at_most(successes: u64, trials: u64) -> Option<f64> {
    if trials == 0 {
        return None;
    }
    if successes >= trials {
        return Some(1.0);
    }
    // The probability of at most so many successes falls as the share grows: halved until it is
    // known to 1e-12.
    let few = |share: f64| {
        let odds = share / (1.0 - share);
        let mut term = trials as f64 * (-share).ln_1p();
        let mut sum = term.exp();
        for k in 0..successes {
            // In logarithms, for trials without number.
            term += ((trials - k) as f64 / (k + 1) as f64 * odds).ln();
            sum += term.exp();
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if few(middle) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// A quantile (0 to 1) of an ascending sample, linear between neighbours: type 7 of Hyndman and Fan,
/// "Sample quantiles in statistical packages" (1996). `None` of an empty sample.
pub fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let part = position - below as f64;
    let (low, high) = (ascending[below], ascending[(below + 1).min(last)]);
    // Of two equal infinities, or between a value and itself, there is nothing to interpolate.
    Some(if part > 0.0 && high > low {
        low + part * (high - low)
    } else {
        low
    })
}

/// The median; `None` of nothing. The order of the values is changed.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    quantile(values, 0.5)
}

/// A ratio of sums, and its standard error.
fn ratio(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Option<(f64, f64)> {
    let (mut n, mut above, mut below) = (0.0, 0.0, 0.0);
    for (y, x) in pairs.clone() {
        n += 1.0;
        above += y;
        below += x;
    }
    if n < 2.0 || below <= 0.0 {
        return None;
    }
    let ratio = above / below;
    let squares: f64 = pairs.map(|(y, x)| (y - ratio * x).powi(2)).sum();
    let error = (squares / (n * (n - 1.0))).sqrt() / (below / n);
    Some((ratio, error))
}

/// The interval of Σy / Σx over runs `(y, x)`, x ≥ 0. `None` of fewer than [`LEAST_RUNS`], of runs
/// that are all the same, and where the resamples set no bound. The same seed gives the same.
pub fn ratio_interval(runs: &[(f64, f64)], seed: u64) -> Option<Interval> {
    if runs.len() < LEAST_RUNS {
        return None;
    }
    let (estimate, error) = ratio(runs.iter().copied())?;
    // A rounding error is no spread.
    if error <= estimate.abs() * 1e-12 {
        return None;
    }
    let mut random = Pcg32::seed_from_u64(seed);
    let mut resample = vec![(0.0, 0.0); runs.len()];
    let mut scores: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for slot in &mut resample {
                *slot = *draw(runs, &mut random);
            }
            match ratio(resample.iter().copied()) {
                Some((drawn, spread)) if spread > estimate.abs() * 1e-12 => {
                    (drawn - estimate) / spread
                }
                // All the same: how far off that is in its own errors has no limit.
                Some((drawn, _)) if drawn > estimate => f64::INFINITY,
                Some((drawn, _)) if drawn < estimate => f64::NEG_INFINITY,
                _ => 0.0,
            }
        })
        .collect();
    scores.sort_unstable_by(f64::total_cmp);
    let interval = Interval {
        low: estimate - error * scores[RESAMPLES - TAIL],
        high: estimate - error * scores[TAIL - 1],
    };
    (!interval.low.is_nan() && !interval.high.is_nan()).then_some(interval)
}

/// The interval of the median of all values of all runs. `None` of fewer than [`LEAST_RUNS`] runs
/// with values, and of values that are all the same. The same seed gives the same.
pub fn median_interval(runs: &[Vec<f64>], seed: u64) -> Option<Interval> {
    let runs: Vec<&Vec<f64>> = runs.iter().filter(|run| !run.is_empty()).collect();
    let mut values = runs.iter().copied().flatten();
    let first = values.next()?;
    if runs.len() < LEAST_RUNS || values.all(|value| value.total_cmp(first).is_eq()) {
        return None;
    }
    let mut random = Pcg32::seed_from_u64(seed);
    let mut resample: Vec<f64> = Vec::new();
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            resample.clear();
            for _ in 0..runs.len() {
                resample.extend(*draw(&runs, &mut random));
            }
            median(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    let tail = expanded_tail(runs.len());
    Some(Interval {
        low: medians[tail - 1],
        high: medians[RESAMPLES - tail],
    })
}

fn draw<'a, T>(from: &'a [T], random: &mut Pcg32) -> &'a T {
    // Runs number in the thousands; 32 bits are drawn in half the time.
    &from[random.random_range(0..from.len() as u32) as usize]
}

/// How many of the resamples lie beyond each end of a percentile interval of so many runs:
/// Hesterberg's expanded percentiles.
fn expanded_tail(runs: usize) -> usize {
    let freedom = runs as f64 - 1.0;
    let share = normal_tail((runs as f64 / freedom).sqrt() * student(freedom));
    ((share * (RESAMPLES + 1) as f64).round() as usize).clamp(1, TAIL)
}

/// The quantile of Student's t at `1 - (1 - CONFIDENCE) / 2`, by Fisher's expansion (Abramowitz and
/// Stegun, 26.7.5); off by less than 0.01 from 4 degrees of freedom on.
fn student(freedom: f64) -> f64 {
    let z = |power| Z.powi(power);
    Z + (z(3) + z(1)) / (4.0 * freedom)
        + (5.0 * z(5) + 16.0 * z(3) + 3.0 * z(1)) / (96.0 * freedom.powi(2))
        + (3.0 * z(7) + 19.0 * z(5) + 17.0 * z(3) - 15.0 * z(1)) / (384.0 * freedom.powi(3))
        + (79.0 * z(9) + 776.0 * z(7) + 1482.0 * z(5) - 1920.0 * z(3) - 945.0 * z(1))
            / (92_160.0 * freedom.powi(4))
}

/// The share of a normal distribution above `x` ≥ 0 (Abramowitz and Stegun, 26.2.17; off by less
/// than 1e-7).
fn normal_tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let polynomial = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_530,
    ]
    .iter()
    .fold(0.0, |sum, factor| (sum + factor) * t);
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial
}

#[cfg(test)]
mod tests;
