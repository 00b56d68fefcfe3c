//! `quorate preflight`: the check before an upgrade.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use nemesis::{FaultKind, duration};

use crate::cli::{ExperimentArgs, Nodes, PreflightArgs, PreflightOutput};
use crate::experiment::{Experiment, ExperimentError, On};
use crate::k8s::options::Storage;
use crate::preflight::plan::{Disturbance, Roll};
use crate::preflight::{self, Preflight};
use crate::report::screen::Style;
use crate::versions::{Version, Versions};
use crate::{exit, local};

/// What clients ask for in a second, unless file or flags say.
const RATE: f64 = 100.0;
/// So many writes a key takes at least: what was written in one part is to be read in the next ones.
const WRITES_PER_KEY: u32 = 100_000;

/// Makes the rolls and prints the answer: 0 is go, 1 no-go, 2 unknown.
///
/// # Errors
/// Bad arguments are [`ExperimentError`]; everything else is a crash.
pub fn run(args: &PreflightArgs) -> Result<u8> {
    let preflight = resolve(args)?;
    local::enter(&preflight.experiment)?;
    let (report, dir, interrupted) = preflight::run(&preflight)?;
    let text = match args.output {
        PreflightOutput::Text => preflight::text(&report, &dir, Style::of_stdout()),
        PreflightOutput::Md => preflight::markdown(&report),
        PreflightOutput::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let code = report.exit_code();
    Ok(if interrupted {
        exit::worse(code, exit::INTERRUPTED)
    } else {
        code
    })
}

/// What flags and file say is to be done. Nothing is started.
fn resolve(args: &PreflightArgs) -> Result<Preflight> {
    let given = &args.experiment;
    refuse_foreign(given)?;
    let from_file = match &given.file {
        Some(path) => Some(Experiment::read(path)?.0),
        None => None,
    };
    let versions = versions(args, from_file.as_ref())?;
    let on = place(args, from_file.as_ref(), &versions);
    let in_file = from_file.as_ref().and_then(|file| file.kubernetes.as_ref());
    let copied = on == On::K8s
        && (given.kubernetes.statefulset.is_some()
            || in_file.is_some_and(|kubernetes| kubernetes.statefulset.is_some()));
    refuse_target(given, copied)?;
    let configured = given.file.is_some() || given.mode.is_some() || copied;
    let mut base = ExperimentArgs {
        mode: given.mode.clone().or_else(|| {
            // The reference store's default loses writes by itself.
            (!configured).then(|| "raft".to_owned())
        }),
        target: given.target.clone(),
        nodes: (given.nodes.clone()).or((!configured).then_some(Nodes::Count(3))),
        rate: given.rate.or(given.file.is_none().then_some(RATE)),
        ..copy(given)
    };
    if on == On::K8s && !copied {
        base.kubernetes.image.clone_from(&versions.from.program);
    }
    let mut experiment = base.resolve(Some(on), args.seed)?;
    if on == On::K8s && !configured {
        super::k8s::copy_of(&mut experiment, &args.of)?;
    }
    if let Some(kubernetes) = &mut experiment.kubernetes
        && let Some(existing) = &mut kubernetes.statefulset
    {
        existing.copy = true;
    }
    let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
    if on == On::K8s && kubernetes.storage == Storage::EmptyDir {
        return Err(ExperimentError(
            "--storage: expected volumes: a pod that is upgraded is another pod, and an emptyDir goes \
             with the old one"
                .to_owned(),
        )
        .into());
    }
    experiment.name = format!(
        "{}-roll",
        if given.file.is_some() {
            &experiment.name
        } else {
            "preflight"
        }
    );
    experiment.compare = None;
    experiment.seed = Some(experiment.seed.unwrap_or_else(super::test::random_seed));
    experiment.versions = Some(versions);
    let per_key = &mut experiment.parameters.writes_per_key;
    if per_key.is_none() {
        *per_key = Some(WRITES_PER_KEY);
    }
    let (faults, impossible) = disturbances(args, &experiment)?;
    let mut roll = Roll {
        nodes: experiment.nodes,
        faults: faults.iter().copied().collect(),
        leader: experiment.has_leader(),
        calm: calm(on),
    };
    if let Some(time) = args.time {
        roll = roll.lasting(time).map_err(|least| {
            ExperimentError(format!(
                "--time: expected at least {}, which the steps of a roll of {} nodes take",
                duration::format(Duration::from_secs(least.as_secs() + 1)),
                experiment.nodes
            ))
        })?;
    }
    experiment.faults.schedule = Some(roll.program()?);
    experiment.faults.packages = Vec::new();
    experiment.faults.hurt_at_most = None;
    experiment.faults.targets = None;
    experiment.limits.until_schedule_ends = true;
    // The roll ends when its last step is over. This is for one that hangs at every step.
    experiment.limits.time = roll.takes() * 4 + Duration::from_secs(20 * 60);
    let experiment = experiment.resolved();
    experiment.validate().map_err(|impossible| {
        let field = match impossible.field.as_str() {
            "versions.from" => "--from",
            "versions.to" => "--to",
            other => other,
        };
        ExperimentError(format!("{field}: {}", impossible.message))
    })?;
    Ok(Preflight {
        experiment,
        faults,
        impossible,
        rolls: args.rolls,
        store: args.store.clone(),
    })
}

/// How long nothing is done between two steps, unless a time for all is given.
fn calm(on: On) -> Duration {
    match on {
        On::K8s => Duration::from_secs(2),
        On::Sim | On::Local | On::Netns | On::External => Duration::from_millis(500),
    }
}

/// Refuses flags that a preflight decides itself.
fn refuse_foreign(given: &ExperimentArgs) -> Result<(), ExperimentError> {
    for (flag, given, instead) in [
        ("--nemesis", given.nemesis.is_some(), "--faults"),
        (
            "--nemesis-interval",
            given.nemesis_interval.is_some(),
            "--time",
        ),
        ("--schedule", given.schedule.is_some(), "--faults"),
        ("--time-limit", given.time_limit.is_some(), "--time"),
        (
            "--image",
            given.kubernetes.image.is_some(),
            "--from and --to",
        ),
    ] {
        if given {
            return Err(ExperimentError(format!(
                "{flag} is of one experiment; a preflight takes {instead}"
            )));
        }
    }
    Ok(())
}

/// Another store than the reference store is rolled where its operator has it.
fn refuse_target(given: &ExperimentArgs, copied: bool) -> Result<(), ExperimentError> {
    if given.target.is_some() && !copied {
        return Err(ExperimentError(
            "--target: expected --statefulset SELECTOR --port PORT, on Kubernetes, with it: the store \
             whose copy is rolled; elsewhere a preflight is of the reference store, and takes --from and \
             --to"
                .to_owned(),
        ));
    }
    Ok(())
}

fn copy(given: &ExperimentArgs) -> ExperimentArgs {
    ExperimentArgs {
        file: given.file.clone(),
        mode: given.mode.clone(),
        workload: given.workload.clone(),
        consistency: given.consistency.clone(),
        name: given.name.clone(),
        kubernetes: given.kubernetes.clone(),
        nemesis: None,
        nemesis_interval: None,
        schedule: None,
        time_limit: None,
        target: None,
        nodes: given.nodes.clone(),
        ..*given
    }
}

fn versions(args: &PreflightArgs, file: Option<&Experiment>) -> Result<Versions, ExperimentError> {
    let in_file = file.and_then(|experiment| experiment.versions.clone());
    let one = |flag: &str, given: &Option<Version>, in_file: Option<Version>| {
        given.clone().or(in_file).map(found).ok_or_else(|| {
            ExperimentError(format!(
                "which versions? {flag} is missing: a program such as ./quorate, with a storage format \
                 if need be (./quorate@2), or an image"
            ))
        })
    };
    let versions = Versions {
        from: one("--from", &args.from, in_file.clone().map(|v| v.from))?,
        to: one("--to", &args.to, in_file.map(|v| v.to))?,
    };
    if versions.same() {
        return Err(ExperimentError(format!(
            "--to: expected another version than --from, not {} again",
            versions.from
        )));
    }
    Ok(versions)
}

/// The same with the whole path of the program, if there is one of that name: as a shell finds it.
fn found(version: Version) -> Version {
    let Some(program) = &version.program else {
        return version;
    };
    let direct = PathBuf::from(program);
    let in_path = || {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&dirs)
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
    };
    let path = if direct.is_file() {
        Some(direct)
    } else if program.contains('/') {
        None
    } else {
        in_path()
    };
    let path = path.and_then(|path| std::path::absolute(path).ok());
    let path = path.and_then(|path| path.to_str().map(str::to_owned));
    Version {
        program: path.or_else(|| version.program.clone()),
        ..version
    }
}

/// Where: as said, or by what the versions are.
fn place(args: &PreflightArgs, file: Option<&Experiment>, versions: &Versions) -> On {
    let here = |version: &Version| {
        version
            .program
            .as_ref()
            .is_none_or(|p| Path::new(p).is_file())
    };
    let images = !here(&versions.from) || !here(&versions.to);
    args.on
        .or(file.map(|experiment| experiment.substrate))
        .unwrap_or(if images { On::K8s } else { On::Local })
}

/// What is done while both versions are there, and what cannot be.
fn disturbances(
    args: &PreflightArgs,
    experiment: &Experiment,
) -> Result<(Vec<Disturbance>, Vec<String>), ExperimentError> {
    let here = experiment.capabilities();
    let why = |fault: Disturbance| {
        let kind = match fault {
            Disturbance::Kill => FaultKind::Kill,
            Disturbance::Pause => FaultKind::Pause,
            Disturbance::Partition => FaultKind::Partition,
        };
        let why = here.obstacle(kind)?;
        Some(format!("{}: {why}", kind.name()))
    };
    let wanted: BTreeSet<Disturbance> = match &args.faults {
        Some(faults) => faults.iter().filter_map(|fault| fault.0).collect(),
        None => Disturbance::ALL.into(),
    };
    let (mut faults, mut impossible) = (Vec::new(), Vec::new());
    for fault in wanted {
        match why(fault) {
            None => faults.push(fault),
            Some(why) if args.faults.is_some() => {
                return Err(ExperimentError(format!("--faults: {why}")));
            }
            Some(why) => impossible.push(why),
        }
    }
    Ok((faults, impossible))
}
