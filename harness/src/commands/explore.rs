//! `quorate explore`: schedules steered by the protocol states that they reach.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::{ExploreArgs, TruthOutput};
use crate::exit;
use crate::experiment::{Experiment, ExperimentError, On};
use crate::explore::campaign::{Campaign, Found};
use crate::explore::detection::{self, Detection, Effort};
use crate::explore::{BATCH, Explorer};
use crate::museum;

use super::test::run_once;

/// The version of the file format of a corpus.
const VERSION: u32 = 1;
/// How often a corpus is saved while it grows.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What is kept of an exploration.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// What was explored: another experiment has other states.
    experiment: String,
    explorer: Explorer,
    found: Vec<Found>,
}

/// Explores until the time or the budget is spent. Exit code 1 if something invalid was found.
///
/// # Errors
/// Bad experiments are [`ExperimentError`].
pub fn run(args: &ExploreArgs) -> Result<u8> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(args.jobs))
        .build()
        .context("cannot start threads")?;
    if args.museum {
        return pool.install(|| compare(args));
    }
    let experiment = experiment(args)?;
    let corpus = args.corpus.as_deref().map(|dir| dir.join("corpus.json"));
    let (explorer, known) = match &corpus {
        Some(path) if path.exists() => load(path, &experiment, args)?,
        _ => {
            let seed = args.seed.unwrap_or_else(random_seed);
            (Explorer::new(seed, args.guidance), Vec::new())
        }
    };
    let mut campaign = Campaign::new(&experiment, &args.faults, explorer);
    if campaign.alphabet().kinds().is_empty() {
        let message = "--faults: none of these can be injected in simulation".to_owned();
        return Err(ExperimentError(message).into());
    }
    campaign.found = known;
    let mut explored = Explored {
        args,
        corpus,
        experiment: &experiment,
        bar: bar(),
        began: Instant::now(),
        saved: Instant::now(),
        before: campaign.explorer.runs(),
    };
    let done = pool.install(|| explored.go(&mut campaign));
    explored.bar.finish_and_clear();
    explored.save(&campaign)?;
    done?;
    explored.conclude(&campaign)
}

struct Explored<'a> {
    args: &'a ExploreArgs,
    corpus: Option<PathBuf>,
    experiment: &'a Experiment,
    bar: ProgressBar,
    began: Instant,
    saved: Instant,
    /// Runs of earlier explorations with this corpus.
    before: u64,
}

impl Explored<'_> {
    fn go(&mut self, campaign: &mut Campaign) -> Result<()> {
        // Without a budget the time decides, and whole batches are run.
        let budget = self.args.budget;
        loop {
            let done = campaign.explorer.runs() - self.before;
            let left = match budget {
                Some(budget) => budget.saturating_sub(done),
                None => BATCH as u64,
            };
            let in_time = budget.is_some() && self.args.time.is_none()
                || self.began.elapsed() < self.args.time.unwrap_or(ExploreArgs::TIME);
            if left == 0 || !in_time {
                return Ok(());
            }
            let new = campaign.step(left)?;
            for found in &new {
                self.keep(campaign, found)?;
            }
            self.show(campaign);
            if self.saved.elapsed() >= SAVE_EVERY {
                self.saved = Instant::now();
                self.save(campaign)?;
            }
            if self.args.until_found && !new.is_empty() {
                return Ok(());
            }
        }
    }

    fn show(&self, campaign: &Campaign) {
        let runs = campaign.explorer.runs();
        let wall = self.began.elapsed().as_secs_f64().max(1e-3);
        let (states, with_messages) = campaign.explorer.states();
        self.bar.set_message(format!(
            "{runs} runs, {:.1} runs/s, {states} states ({with_messages} with messages), corpus {}, found {}",
            (runs - self.before) as f64 / wall,
            campaign.explorer.corpus(),
            campaign.found.len(),
        ));
    }

    /// A failure as a run of its own, which `quorate test` repeats and `quorate shrink` takes.
    fn keep(&self, campaign: &Campaign, found: &Found) -> Result<()> {
        let mut experiment = campaign.experiment(&found.input);
        let goal = &found.goal;
        experiment.name = word(&format!(
            "{}-{}-{}",
            self.experiment.name, goal.checker, goal.class
        ));
        experiment
            .validate()
            .map_err(|e| ExperimentError(format!("{}: {}", e.field, e.message)))?;
        // The live line of a run must not mix with ours.
        self.bar.suspend(|| -> Result<()> {
            let (_, dir) = run_once(&experiment.resolved(), &self.args.store)?;
            eprintln!(
                "found after {} runs: {} reports {}: {}\n  quorate shrink --check {} {}",
                found.run,
                goal.checker,
                goal.class,
                found.summary,
                goal.checker,
                dir.path().display(),
            );
            Ok(())
        })
    }

    fn save(&self, campaign: &Campaign) -> Result<()> {
        let Some(path) = &self.corpus else {
            return Ok(());
        };
        let saved = Saved {
            version: VERSION,
            experiment: self.experiment.to_yaml(),
            explorer: campaign.explorer.clone(),
            found: campaign.found.clone(),
        };
        let dir = path.parent().unwrap_or(Path::new("."));
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(dir).with_context(cannot)?;
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_string(&saved)? + "\n").with_context(cannot)?;
        fs::rename(&new, path).with_context(cannot)
    }

    fn conclude(&self, campaign: &Campaign) -> Result<u8> {
        let explorer = &campaign.explorer;
        let (states, with_messages) = explorer.states();
        let mut out = std::io::stdout().lock();
        if self.args.output == TruthOutput::Json {
            let result = json!({
                "runs": explorer.runs(),
                "states": states,
                "states_with_messages": with_messages,
                "corpus": explorer.corpus(),
                "ops": campaign.ops(),
                "found": campaign.found,
            });
            writeln!(out, "{result}")?;
        } else {
            let kinds: Vec<&str> = campaign
                .alphabet()
                .kinds()
                .iter()
                .map(|k| k.name())
                .collect();
            writeln!(
                out,
                "{} {}: {} runs, {states} protocol states ({with_messages} with the messages under way), corpus of {}\n\
                 faults    {}",
                self.experiment.mode(),
                self.experiment.workload.name(),
                explorer.runs(),
                explorer.corpus(),
                kinds.join(", "),
            )?;
            for found in &campaign.found {
                let goal = &found.goal;
                writeln!(
                    out,
                    "found     {} ({}) in run {}: {}",
                    goal.class, goal.checker, found.run, found.summary
                )?;
            }
            if campaign.found.is_empty() {
                writeln!(out, "found     nothing")?;
            }
        }
        Ok(if campaign.found.is_empty() {
            exit::VALID
        } else {
            exit::INVALID
        })
    }
}

/// What to explore: the experiment of the command line, or the exhibit of a mistake.
fn experiment(args: &ExploreArgs) -> Result<Experiment> {
    if let Some(bug) = &args.bug {
        let exhibits = museum::select(std::slice::from_ref(bug))?;
        let length = args.experiment.time_limit.unwrap_or(ExploreArgs::RUN);
        let mut experiment = detection::experiment(exhibits[0], length)?;
        args.experiment.apply(&mut experiment)?;
        return Ok(experiment.resolved());
    }
    let mut experiment = args.experiment.resolve(Some(On::Sim), None)?;
    experiment.faults.schedule = None;
    Ok(experiment.resolved())
}

fn load(
    path: &Path,
    experiment: &Experiment,
    args: &ExploreArgs,
) -> Result<(Explorer, Vec<Found>)> {
    let wrong = |what: String| ExperimentError(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path)
        .map_err(|e| wrong(format!("cannot be read: {e}; name another --corpus")))?;
    let saved: Saved = serde_json::from_str(&text)
        .map_err(|e| wrong(format!("is no corpus: {e}; name another --corpus")))?;
    if saved.version != VERSION {
        let message = format!("has version {}; expected {VERSION}", saved.version);
        return Err(wrong(message).into());
    }
    if saved.experiment != experiment.to_yaml() {
        let message = "is of another experiment; name another --corpus".to_owned();
        return Err(wrong(message).into());
    }
    if saved.explorer.guidance() != args.guidance {
        let message = "was made with another --guidance; name another --corpus".to_owned();
        return Err(wrong(message).into());
    }
    Ok((saved.explorer, saved.found))
}

/// All planted mistakes, in all ways.
fn compare(args: &ExploreArgs) -> Result<u8> {
    let exhibits = museum::select(args.bug.as_slice())?;
    let length = args.experiment.time_limit.unwrap_or(ExploreArgs::RUN);
    let effort = Effort {
        budget: args.budget.unwrap_or(200),
        repeat: args.repeat,
        seed: args.seed.unwrap_or(1),
        run_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
    };
    let bar = bar();
    let mut detections: Vec<Detection> = Vec::new();
    let mut out = std::io::stdout().lock();
    for exhibit in exhibits {
        bar.set_message(exhibit.name());
        let detection = detection::detect(exhibit, &effort)?;
        if args.output == TruthOutput::Json {
            writeln!(out, "{}", serde_json::to_string(&detection)?)?;
        }
        bar.suspend(|| {
            let single = std::slice::from_ref(&detection);
            let table = detection::markdown(single, &effort);
            if let Some(row) = table.lines().nth(2) {
                eprintln!("{row}");
            }
        });
        detections.push(detection);
    }
    bar.finish_and_clear();
    if args.output != TruthOutput::Json {
        write!(out, "{}", detection::markdown(&detections, &effort))?;
    }
    Ok(exit::VALID)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// As a name of an experiment.
fn word(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect()
}

/// A seed for those who did not choose one.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000_000
}
