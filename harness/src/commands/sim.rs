//! `quorate sim`: many seeds in simulation, each verdict held against the ground truth.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use checkers::{CheckResult, Event, History, Verdict};
use rayon::prelude::*;
use serde::Serialize;

use crate::cli::{SimArgs, SimOutput};
use crate::experiment::{Experiment, On};
use crate::plan::{plan, simulation};
use crate::runner::{self, Ended};
use crate::sim::agreement::{Agreement, compare};
use crate::sim::trace::Watch;
use crate::sim::{SimSubstrate, Truth};
use crate::{exit, judge};

/// One simulated run: what clients saw, and what really happened.
pub struct Simulated {
    /// What clients saw.
    pub history: History,
    /// What really happened.
    pub truth: Truth,
    /// How the run ended.
    pub ended: Ended,
    /// Simulated events.
    pub events: u64,
}

/// Simulates one experiment with its seed. Nothing is written.
///
/// # Errors
/// If a package of faults cannot work on this cluster.
pub fn simulate(experiment: &Experiment) -> Result<Simulated> {
    simulate_on(experiment, simulation(experiment))
}

/// The same while somebody watches; what they see changes nothing.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_watched(
    experiment: &Experiment,
    watch: Rc<RefCell<dyn Watch>>,
) -> Result<Simulated> {
    simulate_on(experiment, simulation(experiment).watched_by(watch))
}

pub(crate) fn simulate_on(
    experiment: &Experiment,
    mut substrate: SimSubstrate,
) -> Result<Simulated> {
    let mut recorded: Vec<Event> = Vec::new();
    let ended = runner::run(
        plan(experiment)?,
        experiment.all_nodes(),
        &mut substrate,
        &mut recorded,
        &mut (),
    )?;
    let events = substrate.events();
    Ok(Simulated {
        history: History { events: recorded },
        truth: substrate.into_truth(),
        ended,
        events,
    })
}

/// What one seed came to.
#[derive(Clone, Debug, Serialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// The merged verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Verdict of each checker.
    pub checks: BTreeMap<String, String>,
    /// Acknowledged writes lost, as the checker counts.
    pub lost: u64,
    /// Stale reads, as the checker counts.
    pub stale: u64,
    /// Client operations.
    pub ops: u64,
    /// Faults injected.
    pub faults: usize,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// Simulated events.
    pub events: u64,
    /// What the comparison with the truth came to.
    pub truth: Agreement,
}

/// Simulates one seed, judges it and holds it against the truth.
///
/// # Errors
/// If a package of faults cannot work on this cluster.
pub fn seed_result(experiment: &Experiment) -> Result<SeedResult> {
    let run = simulate(experiment)?;
    let checkers = judge::of_experiment(experiment);
    let report = checkers::check_all(&run.history, &checkers);
    let truth = compare(&run.history, &report.results, &run.truth);
    let figure = |checker: &str, name: &str| {
        let result: Option<&CheckResult> = report.results.iter().find(|r| r.checker == checker);
        result
            .and_then(|r| r.figures.get(name)?.as_u64())
            .unwrap_or(0)
    };
    let counts = run.ended.counts;
    Ok(SeedResult {
        seed: experiment.seed.unwrap_or_default(),
        verdict: report.verdict.clone(),
        checks: report
            .results
            .iter()
            .map(|r| {
                let word = match &r.verdict {
                    Verdict::Valid => "valid".to_owned(),
                    Verdict::Invalid => "invalid".to_owned(),
                    Verdict::Unknown(why) => format!("unknown({why})"),
                };
                (r.checker.clone(), word)
            })
            .collect(),
        lost: figure("lost-writes", "lost"),
        stale: figure("stale-reads", "stale"),
        ops: counts.ok + counts.fail + counts.info,
        faults: run.ended.faults.len(),
        virtual_s: run.ended.elapsed as f64 / 1e9,
        events: run.events,
        truth,
    })
}

/// Simulates a range of seeds on some threads; results in the order of the seeds.
///
/// # Errors
/// The first error of any seed.
pub fn seeds(experiment: &Experiment, seeds: Range<u64>, jobs: usize) -> Result<Vec<SeedResult>> {
    let pool = rayon::ThreadPoolBuilder::new()
        // More threads than seeds, or than any machine has cores, would only cost memory.
        .num_threads(
            jobs.clamp(1, 256)
                .min((seeds.end - seeds.start).max(1) as usize),
        )
        .build()
        .context("cannot start threads")?;
    pool.install(|| {
        seeds
            .into_par_iter()
            .map(|seed| {
                seed_result(&Experiment {
                    seed: Some(seed),
                    ..experiment.clone()
                })
            })
            .collect()
    })
}

/// Runs the seeds and prints what came of them. Invalid if a seed was, and 255 if a checker and the
/// truth disagreed anywhere: that is a bug of ours, and no verdict should be trusted until it is
/// mended.
///
/// # Errors
/// Bad experiments are [`crate::experiment::ExperimentError`].
pub fn run(args: &SimArgs) -> Result<u8> {
    let experiment = args.experiment.resolve(Some(On::Sim), None)?;
    let started = Instant::now();
    let results = seeds(&experiment, args.seeds.clone(), usize::from(args.jobs))?;
    let elapsed = started.elapsed();
    let mut out = std::io::stdout().lock();
    match args.output {
        SimOutput::Json => {
            for result in &results {
                writeln!(out, "{}", serde_json::to_string(result)?)?;
            }
        }
        SimOutput::Table => write!(out, "{}", table(&experiment, &results, elapsed))?,
    }
    let code = results
        .iter()
        .map(|r| exit::of(&r.verdict))
        .fold(exit::VALID, exit::worse);
    let disagreements: usize = results.iter().map(|r| r.truth.disagreements.len()).sum();
    if disagreements > 0 {
        eprintln!(
            "error: checkers and truth disagree {disagreements} times; please report this with the seeds above"
        );
        return Ok(exit::CRASHED);
    }
    Ok(code)
}

/// The command that runs one seed of a campaign, given the campaign's own command line.
fn one_seed(campaign: impl Iterator<Item = String>, seed: u64) -> String {
    let mut command = vec!["quorate test --on sim".to_owned()];
    let mut arguments = campaign.skip(2);
    while let Some(argument) = arguments.next() {
        let name = argument.split('=').next().unwrap_or_default();
        match name {
            "--seeds" | "--jobs" | "-o" | "--output" => {
                if !argument.contains('=') {
                    arguments.next();
                }
            }
            _ if argument.contains(['(', ' ']) => command.push(format!("'{argument}'")),
            _ => command.push(argument),
        }
    }
    command.push(format!("--seed {seed}"));
    command.join(" ")
}

fn table(experiment: &Experiment, results: &[SeedResult], elapsed: Duration) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let total = results.len();
    let count =
        |verdict: fn(&Verdict) -> bool| results.iter().filter(|r| verdict(&r.verdict)).count();
    let _ = writeln!(
        text,
        "{} {} on sim: {total} seeds: {} valid, {} invalid, {} unknown",
        experiment.mode(),
        experiment.workload.name(),
        count(|v| *v == Verdict::Valid),
        count(|v| *v == Verdict::Invalid),
        count(|v| matches!(v, Verdict::Unknown(_))),
    );
    let names: Vec<&String> = results
        .first()
        .map(|r| r.checks.keys().collect())
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "\n  {:<16}{:>9}{:>9}{:>9}",
        "checker", "valid", "invalid", "unknown"
    );
    for name in names {
        let of = |word: &str| {
            results
                .iter()
                .filter(|r| r.checks.get(name).is_some_and(|w| w.starts_with(word)))
                .count()
        };
        let _ = writeln!(
            text,
            "  {name:<16}{:>9}{:>9}{:>9}",
            of("valid"),
            of("invalid"),
            of("unknown")
        );
    }
    let sum = |f: fn(&SeedResult) -> u64| results.iter().map(f).sum::<u64>();
    let losing = results.iter().filter(|r| r.lost > 0).count();
    let _ = writeln!(
        text,
        "\n  acknowledged writes lost  {} in {losing} seeds\n  stale reads               {}\n  faults injected           {}",
        sum(|r| r.lost),
        sum(|r| r.stale),
        sum(|r| r.faults as u64),
    );
    if let Some(first) = results.iter().find(|r| r.verdict == Verdict::Invalid) {
        let _ = writeln!(
            text,
            "  first invalid seed        {}   ({})",
            first.seed,
            one_seed(std::env::args(), first.seed),
        );
    }
    let disagreements: usize = results.iter().map(|r| r.truth.disagreements.len()).sum();
    let _ = writeln!(
        text,
        "\n  against the ground truth: {} verdicts compared, {disagreements} disagreements, {} without a certificate",
        sum(|r| r.truth.compared),
        sum(|r| r.truth.undecided),
    );
    for result in results
        .iter()
        .filter(|r| !r.truth.disagreements.is_empty())
        .take(10)
    {
        for d in result.truth.disagreements.iter().take(3) {
            let _ = writeln!(text, "    seed {}: {}: {}", result.seed, d.checker, d.what);
        }
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in results.iter().flat_map(|r| &r.truth.unknown) {
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, n) in reasons.iter().take(5) {
        let _ = writeln!(text, "    unknown in {n}: {reason}");
    }
    let virtual_s: f64 = results.iter().map(|r| r.virtual_s).sum();
    let wall = elapsed.as_secs_f64().max(1e-9);
    let _ = writeln!(
        text,
        "\n  {} ops and {virtual_s:.0} virtual s in {wall:.1} s: {:.0} ops/s, {:.0} times real time, checking included",
        sum(|r| r.ops),
        sum(|r| r.ops) as f64 / wall,
        virtual_s / wall,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::one_seed;

    #[test]
    fn one_seed_of_a_campaign_keeps_its_flags() {
        let campaign = "quorate sim e.yaml --mode semi-sync(1) --seeds 0..9 --jobs=2 --rate 50";
        assert_eq!(
            one_seed(campaign.split(' ').map(str::to_owned), 7),
            "quorate test --on sim e.yaml --mode 'semi-sync(1)' --rate 50 --seed 7"
        );
    }
}
