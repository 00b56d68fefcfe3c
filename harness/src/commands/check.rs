//! `quorate check` and `quorate report`: judge what was recorded.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use checkers::format::{ReadOptions, ReadReport};
use checkers::{CheckResult, Checker, F, Format, History, Kind, Report, Verdict};

use crate::cli::{CheckArgs, RefusedCas, ReportArgs};
use crate::commands::test::write_reports;
use crate::experiment::{Experiment, ExperimentError};
use crate::report::{self, Summary, Tally};
use crate::store::{self, RunDir};
use crate::{exit, judge};

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
    let read = read(&args.file, format, args.partial).map_err(usage)?;
    for warning in &read.warnings {
        eprintln!("warning: {warning}");
    }
    let names = check_names(args, &read).map_err(usage)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let refused_cas = refused_cas(args, read.format);
    let checkers = judge::checkers(&names, args.time_limit_per_key, refused_cas);
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

/// Whether a failed compare-and-set constrains the order, and why it is taken so.
fn refused_cas(args: &CheckArgs, format: Format) -> RefusedCas {
    args.refused_cas.unwrap_or_else(|| {
        if format == Format::JepsenLog {
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
    if read.format == Format::PorcupineKv && args.workload.is_none() {
        eprintln!("model: a map of texts with get, put and append (Porcupine's)");
        return Ok(vec!["linearizable".to_owned()]);
    }
    let Some(name) = &args.workload else {
        return applicable(read);
    };
    let kind = name
        .parse::<workloads::Kind>()
        .map_err(|e| format!("--workload: {e}"))?;
    let found = workloads_in(read);
    let written = |e: &checkers::Event| functions(kind).contains(&e.f.name());
    if !found.is_empty() && !read.history.events.iter().any(written) {
        eprintln!(
            "warning: the history looks like workload {}, not {name}; the checkers of {name} judge \
             it",
            found[0].name()
        );
    }
    Ok(kind
        .checkers()
        .iter()
        .map(|&name| name.to_owned())
        .collect())
}

/// The checkers that have something to go by in a history: those of the workload that it looks
/// like, and those that the functions and fields in it call for.
fn applicable(read: &ReadReport) -> Result<Vec<String>, String> {
    let events = || read.history.events.iter();
    let has = |any: &[F]| events().any(|e| any.contains(&e.f));
    // Beyond what the workloads of one function have.
    let further = has(&[
        F::Increment,
        F::Insert,
        F::Remove,
        F::Put,
        F::Generate,
        F::Acquire,
        F::Release,
    ]);
    let mut names = if workloads_in(read).is_empty() && (further || has(&[F::Inspect])) {
        vec!["lost-writes", "stale-reads", "split-brain", "availability"]
    } else {
        guess(read)?.checkers().to_vec()
    };
    if further {
        // No model has these functions.
        names.retain(|name| *name != "linearizable");
    }
    let told_apart = [
        F::Write,
        F::Cas,
        F::Append,
        F::Add,
        F::Insert,
        F::Put,
        F::Generate,
    ];
    for (name, applies) in [
        ("sessions", has(&told_apart)),
        (
            "siblings",
            events().any(|e| e.extra.iter().any(|(name, _)| &**name == "seen")),
        ),
        ("counter", has(&[F::Increment])),
        ("mutual-exclusion", has(&[F::Acquire])),
        ("convergence", has(&[F::Inspect])),
    ] {
        if applies && !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The functions by which a workload writes.
fn functions(kind: workloads::Kind) -> &'static [&'static str] {
    use workloads::Kind;
    match kind {
        Kind::Register => &["write", "cas"],
        Kind::Set => &["add"],
        Kind::Append | Kind::Bootstrap | Kind::Upgrade => &["append"],
        Kind::Session => &["append", "write"],
        Kind::Conflict | Kind::Calendar => &["write"],
        Kind::Counter => &["increment"],
        Kind::Nondeterministic => &["generate"],
        Kind::Text => &["insert"],
    }
}

/// The workloads of one function whose writes are in a history.
fn workloads_in(read: &ReadReport) -> Vec<workloads::Kind> {
    use workloads::Kind;
    let has = |names: &[&str]| {
        read.history
            .events
            .iter()
            .any(|e| names.contains(&e.f.name()))
    };
    let found = [
        (Kind::Register, has(&["write", "cas"])),
        (Kind::Set, has(&["add"])),
        (Kind::Append, has(&["append"])),
    ];
    found
        .into_iter()
        .filter(|(_, yes)| *yes)
        .map(|(kind, _)| kind)
        .collect()
}

fn guess(read: &ReadReport) -> Result<workloads::Kind, String> {
    match workloads_in(read)[..] {
        [kind] => {
            eprintln!(
                "workload: {} (from the functions in the history)",
                kind.name()
            );
            Ok(kind)
        }
        [] => Err("the history has no function that writes: say --workload or --checks".into()),
        _ => Err(
            "the history mixes functions of several workloads: say --workload or --checks".into(),
        ),
    }
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
