//! `quorate check` and `quorate report`: judge what was recorded.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use checkers::format::{ReadOptions, ReadReport};
use checkers::linearizable::{Limits, Model, engine};
use checkers::{CheckResult, Checker, ConsistencyModel, F, Format, History, Kind, Report, Verdict};

use crate::cli::{CheckArgs, RefusedCas, ReportArgs};
use crate::commands::test::write_reports;
use crate::experiment::{Experiment, ExperimentError};
use crate::judge::Settings;
use crate::report::{self, Summary, Tally};
use crate::store::{self, RunDir};
use crate::{exit, judge};

mod guess;

/// Judges a history.
///
/// # Errors
/// An unreadable history, unknown workload, checker or format is an
/// [`ExperimentError`].
pub fn run(args: &CheckArgs) -> Result<u8> {
    let usage = |message: String| ExperimentError(message);
    let format = args
        .format
        .as_deref()
        .map(|name| {
            Format::from_name(name).ok_or_else(|| {
                let known = Format::ALL.map(Format::name).join(", ");
                usage(format!("--format: expected one of {known}, not {name:?}"))
            })
        })
        .transpose()?;
    let mut settings = settings(args).map_err(usage)?;
    let read = read(&args.file, format, args.partial).map_err(usage)?;
    for warning in &read.warnings {
        eprintln!("warning: {warning}");
    }
    if let Err(e) = read.history.paired() {
        return Err(usage(format!("{}: {e}", args.file.display())).into());
    }
    let names = check_names(args, &read).map_err(usage)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let refused_cas = if names.contains(&"linearizable") {
        refused_cas(args, &read)
    } else {
        RefusedCas::SaysNothing
    };
    settings.refused_cas = refused_cas;
    let checkers = judge::checkers(&names, &settings);
    let mut report = checkers::check_all(&read.history, &checkers);
    if args.checks.is_none() {
        report = leave_out_what_does_not_apply(report, &read.history);
    }
    if let Some(out) = &args.minimal {
        write_minimal(out, &read.history, &checkers, &report, refused_cas)?;
    }
    let mut tally = Tally::default();
    read.history.events.iter().for_each(|e| tally.record(e));
    let (ops, latency_ms) = tally.finish();
    let mut verdict = report.verdict;
    if let Some(cut) = &read.cut {
        eprintln!("warning: only what precedes the error was judged: {cut}");
        verdict = verdict.merge(Verdict::Unknown(format!("partial: {cut}")));
    }
    let last = read.history.events.last().map_or(0, |e| e.time);
    let first = read.history.events.first().map_or(0, |e| e.time);
    let summary = Summary {
        schema: report::summary::SCHEMA,
        name: args.file.display().to_string(),
        exit_code: i32::from(exit::of(&verdict)),
        verdict,
        seed: 0,
        mode: "recorded".to_owned(),
        target: "recorded".to_owned(),
        substrate: "recorded".to_owned(),
        workload: args.workload.clone().unwrap_or_default(),
        nodes: Vec::new(),
        concurrency: 0,
        started: String::new(),
        duration_s: last.saturating_sub(first) as f64 / 1e9,
        ops,
        latency_ms,
        results: report.results,
        faults: Vec::new(),
        reproduce: format!(
            "quorate check {} --checks {}",
            args.file.display(),
            names.join(",")
        ),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Some(out) = &args.picture {
        let page = report::html::render(&summary, &read.history.events, "");
        store::write_whole(out, &page)?;
        eprintln!("picture: {}", out.display());
    }
    let style = report::screen::Style::of_stdout();
    let text = report::formats::render(&summary, args.output, None, style)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(summary.exit_code as u8)
}

/// Writes the smallest history that fails again, and says how to see it fail.
fn write_minimal(
    out: &Path,
    history: &History,
    checkers: &[Box<dyn Checker>],
    report: &Report,
    refused_cas: RefusedCas,
) -> Result<()> {
    let Some(found) = checkers::minimal::first(history, checkers, &report.results) else {
        eprintln!("minimal: nothing is violated by operations that could be told; not written");
        return Ok(());
    };
    store::write_whole(out, &found.to_jsonl())?;
    let operations = found
        .history
        .events
        .iter()
        .filter(|e| e.kind == Kind::Invoke);
    let further = match refused_cas {
        RefusedCas::Constrains => " --refused-cas constrains",
        RefusedCas::SaysNothing => "",
    };
    eprintln!(
        "minimal: {} operations fail again: {} check {} --checks {}{further}",
        operations.count(),
        judge::program(),
        judge::quoted(&out.display().to_string()),
        found.checker,
    );
    Ok(())
}

/// What the flags say to checkers.
fn settings(args: &CheckArgs) -> Result<Settings, String> {
    const MIB: u64 = 1 << 20;
    let known = |names: &[&str]| names.join(", ");
    let model = args.model.as_deref().map(|name| {
        Model::from_name(name).ok_or_else(|| {
            format!(
                "--model: expected one of {}, not {name:?}",
                known(&Model::NAMES)
            )
        })
    });
    let engine = engine::NAMES.into_iter().find(|name| *name == args.engine);
    let engine = engine.ok_or_else(|| {
        format!(
            "--engine: expected one of {}, not {:?}",
            known(&engine::NAMES),
            args.engine
        )
    })?;
    let consistency = ConsistencyModel::from_name(&args.consistency_model).ok_or_else(|| {
        format!(
            "--consistency-model: expected one of {}, not {:?}",
            known(&ConsistencyModel::NAMES),
            args.consistency_model
        )
    })?;
    Ok(Settings {
        refused_cas: RefusedCas::SaysNothing,
        model: model.transpose()?,
        engine,
        limits: Limits {
            per_key: Some(args.time_limit_per_key),
            per_key_bytes: Some(args.memory_per_key.saturating_mul(MIB)),
            per_key_configurations: args.configurations_per_key,
            total: args.time_limit,
            total_bytes: args.memory.map(|mib| mib.saturating_mul(MIB)),
            total_configurations: args.configurations,
        },
        fail_fast: args.fail_fast,
        consistency,
        fifo: args.fifo,
        negative_balances: args.negative_balances,
        bank: None,
    })
}

/// Whether a failed compare-and-set constrains the order, and why it is taken so.
fn refused_cas(args: &CheckArgs, read: &ReadReport) -> RefusedCas {
    args.refused_cas.unwrap_or_else(|| {
        let has_cas = || read.history.events.iter().any(|e| e.f == F::Cas);
        if read.format == Format::JepsenLog && has_cas() {
            eprintln!(
                "model: a failed cas says that the register held another value, as in etcd's logs \
                 (--refused-cas says-nothing for Jepsen's own reading)"
            );
            RefusedCas::Constrains
        } else {
            RefusedCas::SaysNothing
        }
    })
}

/// What a checker says when a recorded history lacks what it needs, as opposed to when it could
/// not make up its mind.
const DOES_NOT_APPLY: [&str; 5] = [
    "values-not-unique",
    "mixed-functions",
    "no-witnesses",
    "nothing-to-judge",
    "siblings",
];

/// Leaves out the checkers that a recorded history gives nothing to go by, if nobody asked for
/// them and others judged it; says which.
fn leave_out_what_does_not_apply(report: Report, history: &History) -> Report {
    // Of lists and sets final reads are the only proof that nothing is lost. Of registers they
    // prove little, and recorded ones seldom have any.
    let registers = !history
        .events
        .iter()
        .any(|e| matches!(e.f, F::Append | F::Add | F::Insert | F::Generate));
    let reason = |r: &CheckResult| match &r.verdict {
        Verdict::Unknown(why)
            if DOES_NOT_APPLY.iter().any(|prefix| why.starts_with(prefix))
                || registers && why.starts_with("final-read-missing") =>
        {
            Some(why.clone())
        }
        _ => None,
    };
    let judged =
        |r: &&CheckResult| r.checker != "availability" && !matches!(r.verdict, Verdict::Unknown(_));
    if report.results.iter().filter(judged).count() == 0 {
        return report;
    }
    let (out, results): (Vec<_>, Vec<_>) = report
        .results
        .into_iter()
        .partition(|r| reason(r).is_some());
    for result in &out {
        if let Some(why) = reason(result) {
            eprintln!("not judged: {}: {why}", result.checker);
        }
    }
    Report::of(results)
}

fn read(path: &Path, format: Option<Format>, partial: bool) -> Result<ReadReport, String> {
    let options = ReadOptions {
        partial,
        ..ReadOptions::default()
    };
    let read = if path == Path::new("-") {
        checkers::format::read_stream(std::io::stdin().lock(), "<stdin>", format, &options)
    } else {
        checkers::format::read_path(path, format, &options)
    };
    read.map_err(|e| e.to_string())
}

/// Which checkers to run: those asked for, those of the workload, or those that the history calls
/// for.
fn check_names(args: &CheckArgs, read: &ReadReport) -> Result<Vec<String>, String> {
    let known = judge::checker_names();
    if let Some(names) = &args.checks {
        for name in names {
            if !known.contains(&name.as_str()) {
                return Err(format!(
                    "--checks: there is no checker {name:?}; expected one of {}",
                    known.join(", ")
                ));
            }
        }
        return Ok(names.clone());
    }
    let choice = match (&args.workload, &args.model) {
        (Some(name), _) => guess::of_workload(name, &read.history)?,
        // Who names a model asks for linearizability.
        (None, Some(_)) => return Ok(vec!["linearizable".to_owned()]),
        (None, None) => guess::of_history(&read.history, read.format)?,
    };
    for remark in &choice.remarks {
        eprintln!("{remark}");
    }
    Ok(choice.checks)
}

/// Judges a run directory again, with the checkers of today, and rewrites verdict and reports.
/// What only the run knew (faults, proofs) is taken from its old verdict.
///
/// # Errors
/// If the directory is not a run directory or its files cannot be read.
pub fn report(args: &ReportArgs) -> Result<u8> {
    let dir = RunDir::open(&args.dir).map_err(|e| ExperimentError(format!("{e:#}")))?;
    let (experiment, _) = Experiment::read(&dir.file("experiment.yaml"))?;
    let read = read(&dir.history(), Some(Format::Jsonl), true).map_err(ExperimentError)?;
    for warning in &read.warnings {
        eprintln!("warning: {warning}");
    }
    let old = dir.file("verdict.json");
    let summary = if old.exists() {
        let old = Summary::load(&old)?;
        judge::again(&experiment, &read.history, old, &dir)
    } else {
        // The harness was killed before it could judge.
        judge::unfinished(&experiment, &read.history, &dir)
    };
    write_reports(&experiment, &dir, &summary, &read.history)
        .with_context(|| format!("cannot rewrite the report of {}", dir.path().display()))?;
    let style = report::screen::Style::of_stdout();
    let text = report::formats::render(&summary, args.output, Some(dir.path()), style)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(summary.exit_code as u8)
}
