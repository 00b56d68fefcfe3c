//! `quorate compare`: modes × faults × repetitions, and a scorecard.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::{CompareArgs, CompareOutput, ExperimentArgs};
use crate::compare::campaign::Campaign;
use crate::compare::cell::Cell;
use crate::compare::definition::{Definition, Matrix, Place};
use crate::compare::execute::execute;
use crate::compare::scorecard::{Scorecard, Timing};
use crate::compare::{markdown, page, table};
use crate::defaults::Given;
use crate::experiment::{Experiment, ExperimentError, On, explain};
use crate::local;
use crate::locate::says;
use crate::report::screen::Style;
use crate::{exit, judge};

/// Compares, and prints the scorecard. The verdicts of the runs are its subject and do not change
/// the exit code: 0 when the comparison was made, 255 if a run crashed.
///
/// # Errors
/// Bad arguments and definitions are [`ExperimentError`].
pub fn run(args: &CompareArgs) -> Result<u8> {
    let (mut campaign, definition, cells) = match &args.resume {
        Some(dir) => {
            refuse_with_resume(args)?;
            Campaign::resume(dir)?
        }
        None => {
            let definition = define(args)?;
            let campaign = Campaign::create(&args.store, &definition, Timestamp::now())?;
            (campaign, definition, Vec::new())
        }
    };
    let made = make(&mut campaign, &definition, cells, args.jobs)?;
    for (place, why) in &made.crashed {
        eprintln!(
            "error: {} under {}, repetition {}: {why}",
            place.mode, place.fault, place.repetition
        );
    }
    let Some(scorecard) = made.scorecard else {
        eprintln!(
            "interrupted: {} of {} cells are finished; go on with\n  {}",
            made.finished,
            definition.size(),
            go_on(campaign.dir()),
        );
        return Ok(exit::INTERRUPTED);
    };
    let text = match args.output {
        CompareOutput::Table => table::render(&scorecard, Some(campaign.dir()), Style::of_stdout()),
        CompareOutput::Md => markdown::render(&scorecard),
        CompareOutput::Json => scorecard.to_json()?,
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    if made.crashed.is_empty() {
        return Ok(exit::VALID);
    }
    eprintln!(
        "run the crashed cells again with\n  {}",
        go_on(campaign.dir())
    );
    Ok(exit::CRASHED)
}

/// What running what was missing of a comparison came to.
pub(crate) struct Made {
    /// None if it was interrupted.
    pub scorecard: Option<Scorecard>,
    /// How many cells are finished.
    pub finished: usize,
    /// Those that crashed, and why.
    pub crashed: Vec<(Place, String)>,
}

/// Runs the cells of a comparison that are not among these, and writes the scorecard.
///
/// # Errors
/// If something cannot be written.
pub(crate) fn make(
    campaign: &mut Campaign,
    definition: &Definition,
    mut cells: Vec<Cell>,
    jobs: u16,
) -> Result<Made> {
    let finished: BTreeSet<Place> = cells.iter().map(|c: &Cell| c.place.clone()).collect();
    let mut places = definition.places();
    places.retain(|place| !finished.contains(place));
    for place in &places {
        local::enter(&definition.run_of(place))?;
    }
    let started = Instant::now();
    let executed = execute(definition, &places, campaign, jobs)?;
    let seconds = started.elapsed().as_secs_f64();
    let jobs = match definition.experiment().substrate {
        On::Sim => jobs,
        On::Local | On::Netns | On::K8s | On::External => 1,
    };
    let timing = Timing::new(executed.cells.len(), seconds, jobs);
    cells.extend(executed.cells);
    let mut made = Made {
        scorecard: None,
        finished: cells.len(),
        crashed: executed.crashed,
    };
    if executed.interrupted {
        return Ok(made);
    }
    let crashed: Vec<(String, String)> = made
        .crashed
        .iter()
        .map(|(place, _)| (place.mode.clone(), place.fault.clone()))
        .collect();
    let scorecard = Scorecard::new(definition, &cells, &crashed, timing);
    campaign.write("scorecard.json", &scorecard.to_json()?)?;
    campaign.write("scorecard.md", &markdown::render(&scorecard))?;
    campaign.write("compare.html", &page::render(&scorecard))?;
    made.scorecard = Some(scorecard);
    Ok(made)
}

/// The command that runs what is missing of a comparison.
fn go_on(dir: &Path) -> String {
    let dir = judge::quoted(&dir.display().to_string());
    format!("{} compare --resume {dir}", judge::program())
}

/// What flags and file say is to be compared.
fn define(args: &CompareArgs) -> Result<Definition, ExperimentError> {
    for (flag, given, instead) in [
        ("--mode", args.experiment.mode.is_some(), "--modes"),
        ("--nemesis", args.experiment.nemesis.is_some(), "--faults"),
        ("--schedule", args.experiment.schedule.is_some(), "--faults"),
    ] {
        if given {
            return Err(ExperimentError(format!(
                "{flag} is of one experiment; a comparison takes {instead}"
            )));
        }
    }
    let (mut experiment, text) = match &args.experiment.file {
        Some(path) => {
            let (experiment, text) = Experiment::read(path)?;
            (experiment, Some(text))
        }
        None => (Experiment::default(), None),
    };
    let file = args
        .experiment
        .file
        .as_ref()
        .map(|p| p.display().to_string())
        .unwrap_or_default();
    args.experiment.apply(&mut experiment)?;
    let says_where = text.as_deref().is_some_and(|text| says(text, "substrate"));
    if let Some(on) = args.on {
        experiment.substrate = on;
    } else if !says_where {
        experiment.substrate = On::Sim;
    }
    if args.seed.is_some() {
        experiment.seed = args.seed;
    }
    let matrix = experiment.compare.get_or_insert_with(Matrix::default);
    if let Some(modes) = &args.modes {
        matrix.modes.clone_from(modes);
    }
    if let Some(faults) = &args.faults {
        matrix.faults.clone_from(faults);
    }
    if let Some(repeat) = args.repeat {
        matrix.repeat = repeat;
    }
    let in_file = |field| text.as_deref().is_some_and(|text| says(text, field));
    let given = Given {
        workload: args.experiment.workload.is_some() || in_file("workload"),
        policy: args.experiment.policy.is_some() || in_file("clients.policy"),
        faults: true,
    };
    Definition::new(experiment, given, 1).map_err(|mut impossible| {
        let flag = [
            ("compare.modes", "--modes", args.modes.is_some()),
            ("compare.faults", "--faults", args.faults.is_some()),
            ("compare.repeat", "--repeat", args.repeat.is_some()),
        ]
        .into_iter()
        .find(|(field, _, given)| *given && impossible.field.starts_with(field));
        if let Some((_, flag, _)) = flag {
            flag.clone_into(&mut impossible.field);
            return explain(&impossible, &file, None);
        }
        explain(&impossible, &file, text.as_deref())
    })
}

/// What is compared is in the directory; flags that say otherwise would be ignored.
fn refuse_with_resume(args: &CompareArgs) -> Result<(), ExperimentError> {
    let defines = args.experiment != ExperimentArgs::default()
        || args.modes.is_some()
        || args.faults.is_some()
        || args.repeat.is_some()
        || args.on.is_some()
        || args.seed.is_some();
    if defines {
        return Err(ExperimentError(
            "--resume goes on with what its directory says; only --jobs and --output go with it"
                .to_owned(),
        ));
    }
    Ok(())
}
