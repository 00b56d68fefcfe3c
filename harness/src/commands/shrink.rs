//! `quorate shrink`: the smallest experiment that still fails like a run did.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use nemesis::Realised;
use serde::{Deserialize, Serialize};

use crate::cli::{ShrinkArgs, SimOutput};
use crate::exit;
use crate::experiment::{Experiment, ExperimentError, On};
use crate::local;
use crate::report::Summary;
use crate::shrink::story::{self, Story};
use crate::shrink::{Failing, Goal, Search, Size, Trials, Watch, words};
use crate::store::RunDir;

/// The result, an experiment that `quorate test` runs.
const MINIMAL: &str = "minimal.yaml";
/// What is known of it, and whether the search came to its end.
const STATE: &str = "shrink.json";
/// The run of the result, drawn and told.
const PICTURE: &str = "minimal.html";

/// How many seeds are tried to find a run of real processes again in simulation.
const SEEDS_TO_REPRODUCE: u32 = 64;

/// What is kept of a search beside the smallest experiment.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    goal: Goal,
    /// What the run was.
    from: Size,
    /// What it was shrunk to.
    to: Size,
    /// Where the run was found.
    found_on: On,
    /// Where it was made smaller.
    shrunk_on: On,
    /// Trials of the last candidate that failed, of how many.
    rate: (u32, u32),
    /// The anomaly of the smallest.
    finding: String,
    /// In plain words.
    paragraph: String,
    /// Runs made.
    runs: u64,
    /// Whether nothing gives way any more.
    finished: bool,
}

/// Shrinks a failing run and writes `minimal.yaml` and `shrink.json` beside it. Exit code 0 if
/// there is something that fails, 2 if the failure could not be reproduced.
///
/// # Errors
/// If it is no run, or none that failed.
pub fn run(args: &ShrinkArgs) -> Result<u8> {
    let usage = |message: String| ExperimentError(message);
    let dir = RunDir::open(&args.run).map_err(|e| usage(format!("{e:#}")))?;
    let goal = goal(&dir, args)?;
    let start = start(&dir, args)?;
    local::enter(&start)?;
    let store = dir.file("shrink");
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(args.jobs))
        .build()
        .context("cannot start threads")?;
    let (original, _) = Experiment::read(&dir.file("experiment.yaml"))?;
    let mut progress = Progress::new(&dir, goal.clone(), original.substrate, args);
    let found = pool.install(|| first(&start, &goal, &store, args))?;
    let Some(found) = found else {
        progress.bar.finish_and_clear();
        let how = match start.substrate {
            On::Sim => "no seed tried in simulation fails so",
            On::Local | On::Netns | On::K8s | On::External => "no repetition fails so",
        };
        eprintln!(
            "unknown: {} of {} could not be reproduced: {how}; more --trials may help{}",
            goal.class,
            goal.checker,
            if start.substrate == On::Sim {
                ", or --on local"
            } else {
                ""
            },
        );
        return Ok(exit::UNKNOWN);
    };
    progress.from.get_or_insert(found.size());
    progress.smaller(&found, "reproduced")?;
    let trials = Trials::new(goal.clone(), args.trials, store.clone());
    let (finished, best, runs) =
        pool.install(|| Search::new(trials, args.time, found, &mut progress).run())?;
    progress.runs += runs;
    progress.finished = finished;
    progress.bar.set_message("drawing what happens");
    progress.story = Story::of(&goal, &best)?;
    progress.keep(&best)?;
    progress.bar.finish_and_clear();
    let _ = std::fs::remove_dir_all(&store);
    let state = progress.state(&best);
    let mut out = std::io::stdout().lock();
    match args.output {
        SimOutput::Json => writeln!(out, "{}", serde_json::to_string(&state)?)?,
        SimOutput::Table => {
            writeln!(out, "from      {}", words::size(&state.from))?;
            writeln!(out, "to        {}", words::size(&state.to))?;
            writeln!(out, "runs      {}", state.runs)?;
            let (failed, of) = state.rate;
            match (state.found_on, state.shrunk_on) {
                (On::Sim, On::Sim) => {}
                (found, On::Sim) => {
                    writeln!(
                        out,
                        "found on  {found}; fails in simulation too, where it was shrunk"
                    )?;
                }
                (_, on) => writeln!(out, "on {:<7}failed {failed} of {of}", on.to_string())?,
            }
            writeln!(out, "\n{}\n", state.paragraph)?;
            writeln!(
                out,
                "run it    quorate test {}",
                dir.file(MINIMAL).display()
            )?;
            if progress.story.is_some() {
                writeln!(out, "picture   {}", dir.file(PICTURE).display())?;
            }
        }
    }
    if !finished {
        eprintln!("the time is up; the same command goes on from here");
    }
    Ok(exit::VALID)
}

/// What must not get lost: asked for, that of an earlier search, or the first anomaly of the run.
fn goal(dir: &RunDir, args: &ShrinkArgs) -> Result<Goal> {
    let path = dir.file("verdict.json");
    let summary = Summary::load(&path)?;
    Goal::of(&summary, args.check.as_deref()).ok_or_else(|| {
        let of = args
            .check
            .as_ref()
            .map_or(String::new(), |c| format!(" of {c}"));
        let message = format!(
            "{} has no anomaly{of}: there is nothing to shrink",
            path.display()
        );
        ExperimentError(message).into()
    })
}

/// The experiment to start from: what an earlier search came to, or the run with the faults as
/// they were realised.
fn start(dir: &RunDir, args: &ShrinkArgs) -> Result<Experiment> {
    let minimal = dir.file(MINIMAL);
    if minimal.exists() && !args.restart {
        let (experiment, _) = Experiment::read(&minimal)?;
        return Ok(experiment);
    }
    let (mut experiment, _) = Experiment::read(&dir.file("experiment.yaml"))?;
    let path = dir.file("schedule.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}: the run did not get that far",
            path.display()
        )
    })?;
    let schedule = nemesis::Schedule::parse(&text)
        .map_err(|e| ExperimentError(format!("{}: {e}", path.display())))?;
    let mut faults = schedule.faults;
    faults.retain(|entry| !entry.skipped() && entry.at < experiment.limits.time);
    experiment.faults.schedule = Some(faults.into());
    experiment.faults.packages = Vec::new();
    experiment.substrate = args.on.unwrap_or(On::Sim);
    Ok(experiment.resolved())
}

/// The start, if it fails: a run of real processes may need some seeds until the simulation shows
/// the same.
fn first(
    start: &Experiment,
    goal: &Goal,
    store: &Path,
    args: &ShrinkArgs,
) -> Result<Option<Failing>> {
    let each = match start.substrate {
        On::Sim => SEEDS_TO_REPRODUCE.max(args.trials),
        On::Local | On::Netns | On::K8s | On::External => args.trials,
    };
    Trials::new(goal.clone(), each, store.to_owned()).failing(start)
}

/// Shows how far it is, and keeps the smallest.
struct Progress<'d> {
    dir: &'d RunDir,
    goal: Goal,
    from: Option<Size>,
    runs: u64,
    finished: bool,
    found_on: On,
    /// What happens in the smallest, once that is known.
    story: Option<Story>,
    bar: ProgressBar,
}

impl<'d> Progress<'d> {
    fn new(dir: &'d RunDir, goal: Goal, found_on: On, args: &ShrinkArgs) -> Self {
        let earlier = (!args.restart).then(|| earlier(&dir.file(STATE))).flatten();
        let earlier = earlier.filter(|state| state.goal == goal);
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.set_message("reproducing the failure");
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self {
            dir,
            goal,
            from: earlier.as_ref().map(|state| state.from),
            runs: earlier.map_or(0, |state| state.runs),
            finished: false,
            found_on,
            story: None,
            bar,
        }
    }

    fn state(&self, best: &Failing) -> State {
        State {
            goal: self.goal.clone(),
            from: self.from.unwrap_or(best.size()),
            to: best.size(),
            found_on: self.found_on,
            shrunk_on: best.experiment.substrate,
            rate: best.rate,
            finding: best.anomaly.summary.clone(),
            paragraph: match &self.story {
                Some(story) => story::paragraph(story),
                None => words::paragraph(&self.goal, best),
            },
            runs: self.runs,
            finished: self.finished,
        }
    }

    fn keep(&self, best: &Failing) -> Result<()> {
        let mut experiment = best.experiment.clone();
        for entry in experiment.faults.schedule.iter_mut().flatten() {
            // Observed in another run. Which role it was is still to be tried.
            entry.realised = entry.realised.take().map(|realised| Realised {
                was: realised.was.filter(|_| !self.finished),
                ..Realised::default()
            });
        }
        experiment.name = format!("{}-minimal", experiment.name.trim_end_matches("-minimal"));
        if let Some(story) = &self.story {
            self.dir
                .write(PICTURE, &story::page(story, &experiment.to_yaml()))?;
        }
        self.dir.write(MINIMAL, &experiment.to_yaml())?;
        let state = serde_json::to_string_pretty(&self.state(best))?;
        self.dir.write(STATE, &(state + "\n"))
    }
}

impl Watch for Progress<'_> {
    fn smaller(&mut self, failing: &Failing, pass: &str) -> Result<()> {
        let size = words::size(&failing.size());
        self.bar.set_message(format!("{pass}: {size}"));
        self.keep(failing)
    }

    fn pass(&mut self, name: &str, runs: u64) {
        self.bar.set_prefix(name.to_owned());
        tracing::debug!("{name} after {runs} runs");
    }
}

fn earlier(path: &PathBuf) -> Option<State> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
