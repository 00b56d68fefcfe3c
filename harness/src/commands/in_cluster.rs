//! `quorate in-cluster`: the harness in a Job's pod. It runs what `quorate test` would, and hands
//! over what it found through the API server, or leaves it in a volume, which another pod reads.

use anyhow::Result;
use clap::{Args, ValueEnum};

/// `quorate in-cluster`.
#[derive(Debug, Args)]
pub struct InClusterArgs {
    /// What is done with the experiment.
    #[arg(value_enum)]
    pub task: InClusterTask,
    /// The run's id.
    #[arg(long)]
    pub run: String,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InClusterTask {
    /// One experiment.
    Test,
    /// A comparison of many.
    Compare,
    /// What a run has left in a volume is offered to whoever fetches it.
    Offer,
}

/// Refuses.
///
/// # Errors
/// Always.
#[cfg(not(feature = "k8s"))]
pub fn run(_args: &InClusterArgs) -> Result<u8> {
    anyhow::bail!(super::k8s::NOT_BUILT_IN)
}

/// Runs the experiment and hands over what it found.
///
/// # Errors
/// If there is nobody to hand it over to; whatever else goes wrong is handed over.
#[cfg(feature = "k8s")]
pub fn run(args: &InClusterArgs) -> Result<u8> {
    inside::run(args)
}

#[cfg(feature = "k8s")]
mod inside {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use anyhow::{Context, Result, bail};
    use jiff::Timestamp;
    use k8s::Cluster;
    use k8s::job::{EXPERIMENT_FILE, STORE, owned_by};
    use k8s::results::{self, LARGEST, Outcome};
    use k8s::volume::PORT;
    use k8s_openapi::api::batch::v1::Job;
    use kube::api::Api;
    use serde_json::Value;

    use super::{InClusterArgs, InClusterTask};
    use crate::commands::compare::{Made, make};
    use crate::commands::test::run_shown;
    use crate::compare::campaign::Campaign;
    use crate::compare::definition::Definition;
    use crate::defaults::Given;
    use crate::exit;
    use crate::experiment::{Experiment, ExperimentError, explain};
    use crate::k8s::digest::{figures, of_scorecard};
    use crate::k8s::pack::pack;
    use crate::live::Live;
    use crate::report::Summary;
    use crate::store::RunDir;

    /// How often the history so far is handed over, at first.
    const PART_EVERY: Duration = Duration::from_secs(5);
    /// How much of it at once: histories pack to a tenth, and a ConfigMap holds 1 MiB.
    const PART_OF: u64 = 4 << 20;

    pub(super) fn run(args: &InClusterArgs) -> Result<u8> {
        if args.task == InClusterTask::Offer {
            return offer(&args.run);
        }
        let variable = |name: &str| {
            std::env::var(name)
                .with_context(|| format!("{name} is not set: this command is for the pod of a Job"))
        };
        let (pod, namespace) = (variable("POD_NAME")?, variable("POD_NAMESPACE")?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        // What is wrong with it is said below, to somebody.
        let claim = Experiment::read(Path::new(EXPERIMENT_FILE)).ok();
        let claim = claim.and_then(|(experiment, _)| experiment.kubernetes);
        let claim = claim.and_then(|it| it.results.claim().map(str::to_owned));
        let store = match &claim {
            Some(_) => Path::new(STORE).join(&args.run),
            None => PathBuf::from(STORE),
        };
        let cluster = runtime.block_on(Cluster::connect())?;
        let owner = runtime.block_on(async {
            let jobs = Api::<Job>::namespaced(cluster.client.clone(), &namespace);
            let job = jobs.get(&args.run).await;
            let job = job.with_context(|| format!("cannot look at Job {}", args.run))?;
            let owner = owned_by(&job);
            if !results::begin(
                &cluster,
                &namespace,
                &args.run,
                &owner,
                &pod,
                claim.as_deref(),
            )
            .await?
            {
                bail!(
                    "another pod has begun {} and is gone; a run is not repeated by itself",
                    args.run
                );
            }
            Ok(owner)
        })?;
        let keeping = match args.task {
            // A volume has the history already.
            InClusterTask::Test if claim.is_none() => {
                let (cluster, owner) = (cluster.clone(), owner.clone());
                let (namespace, run) = (namespace.clone(), args.run.clone());
                Some(runtime.spawn(async move {
                    hand_over_history(&cluster, &namespace, &run, &owner).await;
                }))
            }
            _ => None,
        };
        // The runs make runtimes of their own, which must not be within another.
        let (outcome, dir) = match args.task {
            InClusterTask::Test => test(args, &store),
            _ => compare(args, &store),
        };
        if let Some(keeping) = keeping {
            keeping.abort();
        }
        let (outcome, archive) = match claim {
            Some(_) => (outcome, Vec::new()),
            None => packed(outcome, dir.as_deref()),
        };
        let code = outcome.exit_code.unwrap_or(exit::CRASHED);
        runtime.block_on(results::put(
            &cluster, &namespace, &args.run, &owner, &outcome, &archive,
        ))?;
        Ok(code)
    }

    /// Hands over what is recorded while it is recorded; what cannot be handed over now comes with
    /// the next part.
    async fn hand_over_history(cluster: &Cluster, namespace: &str, run: &str, owner: &Value) {
        let began = tokio::time::Instant::now();
        let (mut number, mut from) = (0, 0);
        loop {
            // Less and less often, so that long runs do not make too many.
            tokio::time::sleep(PART_EVERY.max(began.elapsed() / 10)).await;
            let Ok((bytes, to)) = part(from) else {
                continue;
            };
            if to > from
                && results::put_part(cluster, namespace, run, owner, number, &bytes)
                    .await
                    .is_ok()
            {
                (number, from) = (number + 1, to);
            }
        }
    }

    /// What was recorded from here on, packed, and up to where.
    fn part(from: u64) -> std::io::Result<(Vec<u8>, u64)> {
        let experiment = Experiment::read(Path::new(EXPERIMENT_FILE));
        let (experiment, _) = experiment.map_err(std::io::Error::other)?;
        let path = Path::new(STORE)
            .join(experiment.name)
            .join("latest/history.jsonl");
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(PART_OF).read_to_end(&mut bytes)?;
        let to = from + bytes.len() as u64;
        Ok((zstd::encode_all(&bytes[..], 3)?, to))
    }

    fn failed(code: u8, why: String) -> Outcome {
        Outcome {
            exit_code: Some(code),
            error: Some(why),
            ..Outcome::default()
        }
    }

    /// What it came to, and where it is.
    fn test(args: &InClusterArgs, store: &Path) -> (Outcome, Option<PathBuf>) {
        let experiment = match read(Path::new(EXPERIMENT_FILE), &args.run) {
            Ok(experiment) => experiment,
            Err(error) => return (failed(exit::USAGE, error.to_string()), None),
        };
        let live = Live::relayed(experiment.target.one_log());
        match run_shown(&experiment, store, live) {
            Ok((summary, dir)) => {
                let outcome = Outcome {
                    exit_code: Some(summary.exit_code as u8),
                    verdict: digest(&experiment, &dir, &summary),
                    ..Outcome::default()
                };
                (outcome, Some(dir.path().to_owned()))
            }
            Err(error) => {
                let said = exit::said(&error);
                // Where it is in here is of no use to whoever reads this elsewhere.
                let why = said.split("\nwhat was recorded is in ").next();
                let why = why.unwrap_or_default().to_owned();
                let latest = store.join(&experiment.name).join("latest");
                let dir = std::fs::canonicalize(latest).ok();
                (failed(exit::CRASHED, why), dir)
            }
        }
    }

    /// The same of a comparison, as `quorate compare` makes it.
    fn compare(args: &InClusterArgs, store: &Path) -> (Outcome, Option<PathBuf>) {
        let definition = match defined(Path::new(EXPERIMENT_FILE)) {
            Ok(definition) => definition.in_job(&args.run),
            Err(error) => return (failed(exit::USAGE, error.to_string()), None),
        };
        let campaign = Campaign::create(store, &definition, Timestamp::now());
        let mut campaign = match campaign {
            Ok(campaign) => campaign,
            Err(error) => return (failed(exit::CRASHED, exit::said(&error)), None),
        };
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = u16::try_from(jobs).unwrap_or(1);
        let made = make(&mut campaign, &definition, Vec::new(), jobs);
        let dir = Some(campaign.dir().to_owned());
        let outcome = made
            .and_then(|made| of_comparison(&made, &definition))
            .unwrap_or_else(|error| failed(exit::CRASHED, exit::said(&error)));
        (outcome, dir)
    }

    fn defined(file: &Path) -> Result<Definition, ExperimentError> {
        let (experiment, text) = Experiment::read(file)?;
        // All that was open was decided on when it was handed over.
        Definition::new(experiment, Given::default(), 0)
            .map_err(|impossible| explain(&impossible, &file.display().to_string(), Some(&text)))
    }

    fn of_comparison(made: &Made, definition: &Definition) -> Result<Outcome> {
        let Some(scorecard) = &made.scorecard else {
            let why = format!(
                "the comparison was ended before its time: {} of {} cells are finished",
                made.finished,
                definition.size()
            );
            return Ok(failed(exit::INTERRUPTED, why));
        };
        let figures = of_scorecard(&serde_json::from_str(&scorecard.to_json()?)?);
        let error = made.crashed.first().map(|(place, why)| {
            format!(
                "{} of {} cells crashed; {} under {}, repetition {}: {why}",
                made.crashed.len(),
                definition.size(),
                place.mode,
                place.fault,
                place.repetition
            )
        });
        let code = if error.is_some() {
            exit::CRASHED
        } else {
            exit::VALID
        };
        Ok(Outcome {
            exit_code: Some(code),
            error,
            verdict: Some(serde_json::to_string(&figures)?),
            ..Outcome::default()
        })
    }

    /// Offers what a run has left in the volume, packed, on loopback alone, to everybody who comes
    /// there through the API server; until the pod is deleted.
    fn offer(run: &str) -> Result<u8> {
        let archive = match kept(&Path::new(STORE).join(run)) {
            Some(dir) => pack(&dir)?,
            None => Vec::new(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
            .with_context(|| format!("cannot listen on port {PORT}"))?;
        for client in listener.incoming() {
            let sent = client.and_then(|mut client| {
                client.write_all(&(archive.len() as u64).to_be_bytes())?;
                client.write_all(&archive)
            });
            if let Err(error) = sent {
                eprintln!("a connection broke: {error}");
            }
        }
        Ok(exit::VALID)
    }

    /// The newest run directory of a run.
    fn kept(store: &Path) -> Option<PathBuf> {
        let named = std::fs::read_dir(store).ok()?.flatten();
        let mut latest = named.filter_map(|entry| entry.path().join("latest").canonicalize().ok());
        latest.next()
    }

    /// The run in a few figures; without them the verdict stands all the same.
    fn digest(experiment: &Experiment, dir: &RunDir, summary: &Summary) -> Option<String> {
        let options = checkers::format::ReadOptions {
            partial: true,
            ..Default::default()
        };
        match checkers::format::read_path(&dir.history(), None, &options) {
            Ok(read) => serde_json::to_string(&figures(experiment, &read.history, summary)).ok(),
            Err(error) => {
                tracing::warn!("no figures: {error}");
                None
            }
        }
    }

    fn read(file: &Path, run: &str) -> Result<Experiment, ExperimentError> {
        let (mut experiment, text) = Experiment::read(file)?;
        experiment
            .validate()
            .map_err(|impossible| explain(&impossible, &file.display().to_string(), Some(&text)))?;
        // The store is named like the run, so that whoever removes the one finds the other.
        experiment.kubernetes.get_or_insert_default().run = Some(run.to_owned());
        Ok(experiment)
    }

    /// The archive, or an outcome that says why there is none.
    fn packed(outcome: Outcome, dir: Option<&Path>) -> (Outcome, Vec<u8>) {
        let Some(dir) = dir else {
            return (outcome, Vec::new());
        };
        let too_large = |size: usize| {
            format!(
                "the results take {} MiB, and ConfigMaps keep at most {}; keep them in a volume (--results \
                 pvc), or run it from outside, with a lower rate or for a shorter time",
                size >> 20,
                LARGEST >> 20
            )
        };
        let why = match pack(dir) {
            Ok(archive) if archive.len() <= LARGEST => return (outcome, archive),
            Ok(archive) => too_large(archive.len()),
            Err(error) => exit::said(&error),
        };
        let error = match &outcome.error {
            Some(before) => format!("{before}; {why}"),
            None => why,
        };
        // A failure is not masked by results that are too large to be shown.
        let exit_code = match outcome.exit_code {
            Some(exit::INVALID) => Some(exit::INVALID),
            _ => Some(exit::CRASHED),
        };
        let outcome = Outcome {
            exit_code,
            error: Some(error),
            ..outcome
        };
        (outcome, Vec::new())
    }
}
