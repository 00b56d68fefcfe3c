//! Runs cells: on threads in simulation, one after the other on real machines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use checkers::check_all::panic_message;

use super::campaign::Campaign;
use super::cell::{Cell, Figures, measure};
use super::definition::{Definition, Place};
use super::progress::Progress;
use crate::commands::sim::simulate;
use crate::commands::test::run_once;
use crate::experiment::{Experiment, On};
use crate::local::signals::{Handler, register};
use crate::{exit, judge};

/// What running cells came to.
pub struct Executed {
    /// The finished ones, in no order.
    pub cells: Vec<Cell>,
    /// Those that crashed, and why.
    pub crashed: Vec<(Place, String)>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// How a cell ended.
enum End {
    Finished(Box<Figures>),
    Crashed(String),
    Interrupted,
}

/// What the threads share.
struct State<'c> {
    campaign: &'c mut Campaign,
    cells: Vec<Cell>,
    crashed: Vec<(Place, String)>,
    failed: Option<std::io::Error>,
}

/// Runs these cells of a comparison on so many threads; on real machines on one. Each is on disk
/// before the next one of its thread begins. The first Ctrl-C lets the cells under way end.
///
/// # Errors
/// If a finished cell cannot be written, or no thread be started.
pub fn execute(
    definition: &Definition,
    places: &[Place],
    campaign: &mut Campaign,
    jobs: u16,
) -> Result<Executed> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let _registration = register(Handler {
        interrupt: Box::new(move || asked.store(true, Ordering::SeqCst)),
        abandon: Box::new(|| {}),
    })
    .context("cannot listen for signals")?;
    let progress = Progress::new(places.len());
    let runs = campaign.dir().join("cells");
    let state = Mutex::new(State {
        campaign,
        cells: Vec::new(),
        crashed: Vec::new(),
        failed: None,
    });
    let begun = AtomicUsize::new(0);
    let one = |place: &Place| {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let started = Instant::now();
        let mut experiment = definition.run_of(place);
        if let Some(kubernetes) = &mut experiment.kubernetes
            && let Some(run) = &mut kubernetes.run
        {
            // A name of its own for each: the volumes of the one before may take a while to go.
            *run = format!("{run}-{}", begun.fetch_add(1, Ordering::SeqCst));
        }
        let run = || match experiment.substrate {
            On::Sim => simulated(&experiment),
            On::Local | On::Netns | On::K8s | On::External => {
                progress.begins(place);
                local(&experiment, &runs)
            }
        };
        let end = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(end)) => end,
            Ok(Err(e)) => End::Crashed(exit::said(&e)),
            Err(panic) => End::Crashed(panic_message(&*panic).to_owned()),
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match end {
            End::Finished(figures) => {
                let cell = Cell {
                    place: place.clone(),
                    seed: experiment.seed.unwrap_or_default(),
                    figures: *figures,
                    wall_s: started.elapsed().as_secs_f64(),
                };
                match state.campaign.finished(&cell) {
                    Ok(cell) => state.cells.push(cell),
                    Err(e) => {
                        state.failed.get_or_insert(e);
                        stop.store(true, Ordering::SeqCst);
                    }
                }
                progress.finished();
            }
            End::Crashed(why) => {
                state.crashed.push((place.clone(), why));
                progress.finished();
            }
            End::Interrupted => stop.store(true, Ordering::SeqCst),
        }
    };
    match definition.experiment().substrate {
        On::Sim => {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(usize::from(jobs).clamp(1, 256).min(places.len().max(1)))
                .build()
                .context("cannot start threads")?;
            // In their order, each thread taking the next: what is stopped half-way has compared
            // all modes.
            let next = AtomicUsize::new(0);
            pool.broadcast(|_| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::SeqCst)) {
                    one(place);
                }
            });
        }
        On::Local | On::Netns | On::K8s | On::External => places.iter().for_each(one),
    }
    progress.end();
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(e) = state.failed {
        return Err(e).context("cannot write a finished cell");
    }
    let ended = state.cells.len() + state.crashed.len();
    Ok(Executed {
        cells: state.cells,
        crashed: state.crashed,
        interrupted: ended < places.len(),
    })
}

fn simulated(experiment: &Experiment) -> Result<End> {
    let run = simulate(experiment)?;
    let mut results = checkers::check_all(&run.history, &judge::of_experiment(experiment)).results;
    results.push(judge::judge_run(experiment, &run.ended));
    let figures = measure(experiment, &run.history, &results);
    Ok(End::Finished(Box::new(figures)))
}

/// Runs a cell as `quorate test` does; its run directory is kept.
fn local(experiment: &Experiment, runs: &Path) -> Result<End> {
    let (summary, dir) = run_once(experiment, runs)?;
    if summary.exit_code == i32::from(exit::INTERRUPTED) {
        return Ok(End::Interrupted);
    }
    let broken = summary.result(judge::RUN).and_then(|r| match &r.verdict {
        checkers::Verdict::Unknown(why) if why.contains("target-broken") => Some(why.clone()),
        _ => None,
    });
    if let Some(why) = broken {
        return Ok(End::Crashed(why));
    }
    let history = checkers::format::read_path(
        &dir.history(),
        None,
        &checkers::format::ReadOptions::default(),
    )
    .context("cannot read back the history")?
    .history;
    let figures = measure(experiment, &history, &summary.results);
    Ok(End::Finished(Box::new(figures)))
}
