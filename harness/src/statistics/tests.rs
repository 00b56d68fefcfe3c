use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use rayon::prelude::*;

use super::*;

/// Campaigns of each coverage test.
const CAMPAIGNS: u64 = 2_000;

/// The share of campaigns whose interval covers the truth; `None` counts as not covering.
fn coverage(truth: f64, campaign: impl Fn(u64) -> Option<Interval> + Sync) -> f64 {
    let covering = (0..CAMPAIGNS)
        .into_par_iter()
        .filter(|&seed| campaign(seed).is_some_and(|interval| interval.covers(truth)))
        .count();
    covering as f64 / CAMPAIGNS as f64
}

fn exponential(random: &mut impl Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.random::<f64>()).ln()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 5e-5
}

#[test]
fn wilson_gives_the_published_intervals() {
    // Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine
    // 17 (1998), table I, method 3.
    for (successes, trials, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ] {
        let interval = wilson(successes, trials).unwrap();
        assert!(
            close(interval.low, low) && close(interval.high, high),
            "{successes} of {trials}: {interval:?}"
        );
    }
    let none = wilson(0, 200).unwrap();
    assert!(none.low == 0.0 && close(none.high, 0.0188), "{none:?}");
    let all = wilson(200, 200).unwrap();
    assert!(all.high >= 1.0 && close(all.low, 1.0 - 0.0188), "{all:?}");
    assert_eq!(wilson(0, 0), None);
}

#[test]
fn quantiles_are_those_of_type_seven() {
    // R: quantile(c(1, 2, 3, 4, 10), c(0, .1, .5, .9, 1))
    let sample = [1.0, 2.0, 3.0, 4.0, 10.0];
    for (share, expected) in [(0.0, 1.0), (0.1, 1.4), (0.5, 3.0), (0.9, 7.6), (1.0, 10.0)] {
        assert!(
            close(quantile(&sample, share).unwrap(), expected),
            "{share}"
        );
    }
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), Some(2.5));
    let beyond = [1.0, f64::INFINITY, f64::INFINITY];
    assert_eq!(quantile(&beyond, 0.5), Some(f64::INFINITY));
    assert_eq!(quantile(&beyond, 0.25), Some(f64::INFINITY));
}

#[test]
fn what_says_nothing_has_no_interval() {
    assert_eq!(
        ratio_interval(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)], 1),
        None
    );
    assert_eq!(ratio_interval(&[(0.0, 10.0); 20], 1), None, "all zero");
    assert_eq!(ratio_interval(&[(2.0, 10.0); 20], 1), None, "all the same");
    assert_eq!(ratio_interval(&[(0.0, 0.0); 20], 1), None, "of nothing");
    assert_eq!(median_interval(&vec![vec![3.0]; 20], 1), None);
    assert_eq!(median_interval(&[], 1), None);
    assert_eq!(median_interval(&vec![Vec::new(); 20], 1), None);
}

#[test]
fn one_seed_gives_one_interval() {
    let runs: Vec<(f64, f64)> = (0..20).map(|i| (f64::from(i * i), 10.0)).collect();
    let interval = ratio_interval(&runs, 7).unwrap();
    assert_eq!(ratio_interval(&runs, 7), Some(interval));
    assert_ne!(ratio_interval(&runs, 8), Some(interval));
    assert!(
        interval.low < 12.35 && 12.35 < interval.high,
        "{interval:?}"
    );
}

#[test]
fn tails_of_the_normal_and_of_student_are_those_of_the_tables() {
    for (x, share) in [
        (0.0, 0.5),
        (1.0, 0.158_655),
        (1.959_964, 0.025),
        (3.0, 0.001_350),
    ] {
        assert!((normal_tail(x) - share).abs() < 1e-6, "{x}");
    }
    for (freedom, t) in [(4.0, 2.776), (9.0, 2.262), (19.0, 2.093), (100.0, 1.984)] {
        assert!(
            (student(freedom) - t).abs() < 0.01,
            "{freedom}: {}",
            student(freedom)
        );
    }
    assert!(expanded_tail(LEAST_RUNS) < expanded_tail(20) && expanded_tail(20) < TAIL);
    assert_eq!(expanded_tail(100_000), TAIL);
}

#[test]
fn wilson_covers_planted_shares() {
    let mut average = 0.0;
    let shares = [0.02, 0.1, 0.3, 0.5, 0.9];
    let sizes = [60_u64, 200];
    for share in shares {
        for trials in sizes {
            let covered = coverage(share, |seed| {
                let mut random = Pcg32::seed_from_u64(seed);
                let successes = (0..trials).filter(|_| random.random_bool(share)).count();
                wilson(successes as u64, trials)
            });
            // The shares that a sample can show are discrete, so that coverage oscillates.
            assert!(
                (0.92..=0.98).contains(&covered),
                "{share} of {trials}: {covered}"
            );
            average += covered / (shares.len() * sizes.len()) as f64;
        }
    }
    assert!((0.94..=0.96).contains(&average), "{average}");
}

#[test]
fn the_bootstrap_covers_skewed_means_and_ratios() {
    for runs in [LEAST_RUNS, 20] {
        let mean = coverage(3.0, |seed| {
            let mut random = Pcg32::seed_from_u64(seed);
            let mut run = || (exponential(&mut random, 3.0), 1.0);
            let sample: Vec<(f64, f64)> = (0..runs).map(|_| run()).collect();
            ratio_interval(&sample, seed)
        });
        let ratio = coverage(0.2, |seed| {
            let mut random = Pcg32::seed_from_u64(seed);
            let mut run = || {
                let all = random.random_range(50.0..150.0);
                (exponential(&mut random, 0.2 * all), all)
            };
            let sample: Vec<(f64, f64)> = (0..runs).map(|_| run()).collect();
            ratio_interval(&sample, seed)
        });
        for covered in [mean, ratio] {
            assert!((0.93..=0.98).contains(&covered), "{runs} runs: {covered}");
        }
    }
}

#[test]
fn the_bootstrap_covers_the_median_of_clusters() {
    for runs in [LEAST_RUNS, 10, 20] {
        let covered = coverage(3.0 * 2_f64.ln(), |seed| {
            let mut random = Pcg32::seed_from_u64(seed);
            let mut run = || {
                let values = random.random_range(1..=4);
                (0..values).map(|_| exponential(&mut random, 3.0)).collect()
            };
            let sample: Vec<Vec<f64>> = (0..runs).map(|_| run()).collect();
            median_interval(&sample, seed)
        });
        assert!((0.93..=0.98).contains(&covered), "{runs} runs: {covered}");
    }
}

#[test]
fn a_share_is_at_most_what_clopper_and_pearson_say() {
    assert_eq!(at_most(0, 0), None);
    assert_eq!(at_most(3, 3), Some(1.0));
    // By the exact sums of the binomial distribution, to six digits.
    for (k, n, wanted) in [
        (0, 1, 0.95),
        (0, 3, 0.631_597),
        (0, 10, 0.258_866),
        (1, 10, 0.394_163),
        (2, 30, 0.195_326),
        (0, 199, 0.014_941),
    ] {
        let found = at_most(k, n).unwrap();
        assert!((found - wanted).abs() < 5e-5, "{k} of {n}: {found}");
    }
    // The rule of three.
    let found = at_most(0, 10_000).unwrap();
    assert!((found - 3.0 / 10_000.0).abs() < 1e-6, "{found}");
}
