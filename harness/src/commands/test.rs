//! `quorate test`: one experiment, from generator to verdict.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result};
use checkers::{History, Verdict};
use jiff::Timestamp;
use workloads::substream;

use crate::cli::TestArgs;
use crate::experiment::{Experiment, ExperimentError, On, explain};
use crate::external::ExternalSubstrate;
use crate::k8s::options::refuse_client_links;
use crate::live::Live;
use crate::local::{self, LocalOptions, LocalSubstrate};
use crate::plan::{plan, simulation};
use crate::recorder::{FileSink, Sink};
use crate::report::{self, Summary};
use crate::runner::{self, Ended};
use crate::store::{MINIMAL, RunDir};
use crate::{exit, judge};

/// Runs the experiment as often as asked; the exit code of the worst run.
///
/// # Errors
/// Bad experiments are [`crate::experiment::ExperimentError`]; everything else is a crash.
pub fn run(args: &TestArgs) -> Result<u8> {
    let mut experiment = args.experiment.resolve(args.on, args.seed)?.resolved();
    if let Some(results) = &args.results {
        experiment.kubernetes.get_or_insert_default().results = results.clone();
    }
    if args.print_experiment {
        print!("{}", experiment.to_yaml());
        return Ok(exit::VALID);
    }
    if args.in_cluster && experiment.substrate != On::K8s {
        return Err(ExperimentError(format!(
            "--in-cluster is of a run on Kubernetes, and this one is on {}; say --on k8s",
            experiment.substrate
        ))
        .into());
    }
    if experiment.substrate == On::K8s {
        refuse_client_links(&experiment, args.in_cluster)
            .map_err(|impossible| explain(&impossible, "", None))?;
    }
    let first = experiment.seed.unwrap_or_else(random_seed);
    if args.dry_run {
        experiment.seed = Some(first);
        return super::k8s::dry_run(&experiment);
    }
    local::enter(&experiment)?;
    let mut code = exit::VALID;
    for i in 0..args.test_count {
        experiment.seed = Some(first.wrapping_add(u64::from(i)));
        let (summary, dir) = if args.in_cluster {
            super::k8s::run_in_cluster(&experiment, &args.store)?
        } else {
            run_once(&experiment, &args.store)?
        };
        let style = report::screen::Style::of_stdout();
        let text = report::formats::render(&summary, args.output, Some(dir.path()), style)?;
        let mut out = std::io::stdout().lock();
        if i > 0 && args.output == report::Format::Yaml {
            writeln!(out, "---")?;
        }
        out.write_all(text.as_bytes())?;
        code = exit::worse(code, summary.exit_code as u8);
        if summary.exit_code == i32::from(exit::INTERRUPTED) {
            break;
        }
    }
    Ok(code)
}

/// A seed for those who did not choose one; it is written out, so that the run can be repeated.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    // Short enough to be typed.
    random % 1_000_000_000
}

/// Runs an experiment once and leaves everything in a new run directory.
pub(crate) fn run_once(experiment: &Experiment, store: &Path) -> Result<(Summary, RunDir)> {
    run_shown(experiment, store, Live::new(experiment.target.one_log()))
}

/// The same, and shows it like this.
pub(crate) fn run_shown(
    experiment: &Experiment,
    store: &Path,
    mut live: Live,
) -> Result<(Summary, RunDir)> {
    let started = Timestamp::now();
    let dir = RunDir::create(store, &experiment.name, started)?;
    dir.write("experiment.yaml", &experiment.to_yaml())?;
    let mut sink = FileSink::create(&dir.file("history.jsonl"))
        .with_context(|| format!("cannot write the history below {}", dir.path().display()))?;
    let ended = match experiment.substrate {
        On::Sim => run_sim(experiment, &dir, &mut sink, &mut live),
        On::Local | On::Netns => run_local(experiment, &dir, &mut sink, &mut live),
        On::K8s => super::k8s::run_test(experiment, &dir, &mut sink, &mut live),
        On::External => run_external(experiment, &dir, &mut sink, &mut live),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(e) => {
            live.finish();
            return Err(anyhow::anyhow!(
                "{}\nwhat was recorded is in {}",
                exit::said(&e),
                dir.path().display()
            ));
        }
    };
    dir.write("schedule.yaml", &ended.realised.to_yaml())?;
    live.step("checking the history");
    let summary = conclude(experiment, &dir, &ended, started)?;
    live.finish();
    if let Some(why) = &ended.broken {
        // In full: the screen has no room for the last lines of a log.
        eprintln!("error: {}", why.trim_end());
    }
    Ok((summary, dir))
}

/// Histories of at least this size are compressed once the run has been judged.
const COMPRESS_FROM_BYTES: u64 = 64 << 20;

/// Judges what was recorded and writes verdict and reports. The verdict comes first: nothing that
/// goes wrong afterwards can change or hide it.
fn conclude(
    experiment: &Experiment,
    dir: &RunDir,
    ended: &Ended,
    started: Timestamp,
) -> Result<Summary> {
    let path = dir.file("history.jsonl");
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let read = checkers::format::jsonl::read(
        &mut BufReader::new(file),
        &path.display().to_string(),
        &checkers::format::ReadOptions {
            partial: true,
            ..Default::default()
        },
    )
    .context("cannot read back the history")?;
    let history = read.history;
    let summary = judge::summary(experiment, &history, ended, started, dir);
    write_reports(experiment, dir, &summary, &history)?;
    if let Err(e) = dir.compress_history(COMPRESS_FROM_BYTES) {
        tracing::warn!("{e:#}");
    }
    Ok(summary)
}

/// Writes `verdict.json`, then the reports made from it; a report that fails is said and skipped.
///
/// # Errors
/// If the verdict itself cannot be written.
pub fn write_reports(
    experiment: &Experiment,
    dir: &RunDir,
    summary: &Summary,
    history: &History,
) -> Result<()> {
    dir.write("verdict.json", &summary.to_json()?)?;
    if let Err(e) = write_minimal(experiment, dir, summary, history) {
        tracing::warn!("no {MINIMAL}: {e:#}");
    }
    let junit = report::formats::render(
        summary,
        report::Format::Junit,
        None,
        report::screen::Style::PLAIN,
    )
    .and_then(|text| dir.write("junit.xml", &text));
    if let Err(e) = junit {
        tracing::warn!("no junit.xml: {e:#}");
    }
    let page = std::panic::catch_unwind(|| {
        report::html::render(summary, &history.events, &experiment.to_yaml())
    });
    match page {
        Ok(page) => dir.write("report.html", &page)?,
        Err(_) => tracing::warn!("no report.html: drawing it failed; the verdict stands"),
    }
    Ok(())
}

/// Writes the smallest history that fails again of a run that is invalid; takes away that of an
/// earlier verdict.
fn write_minimal(
    experiment: &Experiment,
    dir: &RunDir,
    summary: &Summary,
    history: &History,
) -> Result<()> {
    let path = dir.file(MINIMAL);
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    if summary.verdict != Verdict::Invalid {
        return Ok(());
    }
    let found = std::panic::catch_unwind(|| {
        let checkers = judge::of_experiment(experiment);
        checkers::minimal::first(history, &checkers, &summary.results)
    });
    match found {
        Ok(Some(found)) => dir.write(MINIMAL, &found.to_jsonl()),
        Ok(None) => Ok(()),
        Err(_) => anyhow::bail!("looking for it failed; the verdict stands"),
    }
}

fn run_sim(
    experiment: &Experiment,
    dir: &RunDir,
    sink: &mut dyn Sink,
    live: &mut Live,
) -> Result<Ended> {
    let mut substrate = simulation(experiment);
    let ended = runner::run(
        plan(experiment)?,
        experiment.all_nodes(),
        &mut substrate,
        sink,
        live,
    )
    .context("cannot write the history")?;
    let truth = serde_json::to_string(&substrate.into_truth())?;
    dir.write("truth.json", &truth)?;
    Ok(ended)
}

fn run_local(
    experiment: &Experiment,
    dir: &RunDir,
    sink: &mut dyn Sink,
    live: &mut Live,
) -> Result<Ended> {
    live.step(&format!("starting {} nodes", experiment.all_nodes()));
    if let Some(recipe) = experiment
        .store
        .as_ref()
        .and_then(|store| store.target().recipe())
    {
        let version = recipe.version().unwrap_or_else(|| "unknown".to_owned());
        dir.write("nodes/version.txt", &format!("{version}\n"))?;
    }
    let config = dir.file("nodes/config.yaml");
    std::fs::write(&config, serde_yaml::to_string(&experiment.target)?)
        .with_context(|| format!("cannot write {}", config.display()))?;
    let mut substrate = LocalSubstrate::start(LocalOptions {
        on: experiment.substrate,
        nodes: experiment.all_nodes(),
        run_dir: dir.path().to_owned(),
        config,
        seed: substream(experiment.seed.unwrap_or_default(), "nodes"),
        call_timeout: experiment.clients.timeout,
        disk: local::disk::Needs::of(experiment),
        preload_clock: local::clock::is_preloaded(experiment),
        versions: experiment.versions.clone(),
        store: experiment.store.clone(),
    })?;
    let ended = runner::run(
        plan(experiment)?,
        experiment.all_nodes(),
        &mut substrate,
        sink,
        live,
    )
    .context("cannot write the history")?;
    substrate.stop();
    Ok(ended)
}

fn run_external(
    experiment: &Experiment,
    dir: &RunDir,
    sink: &mut dyn Sink,
    live: &mut Live,
) -> Result<Ended> {
    live.step(&format!("looking for {} nodes", experiment.nodes));
    let external = experiment.external.clone().unwrap_or_default();
    let logs = dir.file("clients");
    std::fs::create_dir(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let prefix = format!("q{:06x}-", random_seed() & 0x00ff_ffff);
    dir.write("clients/keys.txt", &format!("{prefix}\n"))?;
    let timeout = experiment.clients.timeout;
    let store = experiment.store.as_ref();
    let mut substrate = ExternalSubstrate::start(&external, store, dir.path(), prefix, timeout)?;
    let plan = plan(experiment)?;
    let ended = runner::run(plan, experiment.nodes, &mut substrate, sink, live)
        .context("cannot write the history")?;
    substrate.stop();
    Ok(ended)
}
