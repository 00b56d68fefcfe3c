//! `quorate k8s`: the reference store on Kubernetes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::agent::AgentCommands;
use crate::cli::CleanArgs;
use crate::experiment::{Experiment, On};
use crate::k8s::options::{KubernetesArgs, Results};
use crate::live::Live;
use crate::recorder::Sink;
use crate::report::{Format, Summary};
use crate::runner::Ended;
use crate::store::RunDir;

/// `quorate k8s`.
#[derive(Debug, Args)]
pub struct K8sArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: K8sCommand,
}

/// What to do with a store on Kubernetes.
#[derive(Debug, Subcommand)]
pub enum K8sCommand {
    /// Start a store, or change the one there, and wait until all its nodes are ready.
    ///
    /// The namespace is made, with the label that allows faults, unless it is there; then it must
    /// carry that label.
    Up(UpArgs),
    /// Remove a store and its volumes, and the namespace if `up` made it and nothing else is in it.
    Down(DownArgs),
    /// Show the nodes of a store, and set the labels of their roles right.
    Status(StoreArgs),
    /// Print what the nodes of a store have written.
    Logs(LogsArgs),
    /// Start, end or show the agents, which do to pods what the API server cannot.
    Agent(AgentCommands),
    /// Fetch what a run in a Job has found, e.g. one that the operator has made.
    Fetch(FetchArgs),
    /// Write the manifests for `kubectl apply -k`.
    Manifests(ManifestsArgs),
}

/// Which store.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The namespace.
    #[arg(long, default_value = "quorate", value_name = "NAMESPACE")]
    pub namespace: String,
    /// The store's name.
    #[arg(long, default_value = "quorate")]
    pub name: String,
}

/// `quorate k8s up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Replication mode, e.g. async, semi-sync(1), raft (`quorate list` names all).
    #[arg(long, value_name = "MODE", default_value = "async")]
    pub mode: String,
    /// Number of replicas.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pub nodes: u16,
    /// The store's name.
    #[arg(long, default_value = "quorate")]
    pub name: String,
    /// Where and how.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
}

/// `quorate k8s down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Which store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Also remove the stores of runs that are not alive any more (`quorate clean --on k8s` undoes
    /// everything that these have left).
    #[arg(long)]
    pub runs: bool,
}

/// `quorate k8s logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Which store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// One node, e.g. n2; by default all.
    pub node: Option<String>,
    /// The last so many lines of each.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: u32,
}

/// `quorate k8s fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The run, as the status of a `ConsistencyTest` names it.
    pub run: String,
    /// The namespace.
    #[arg(long, default_value = "quorate", value_name = "NAMESPACE")]
    pub namespace: String,
    /// The run store.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// Where it was kept, if its Job is gone: pvc, or pvc:CLAIM.
    #[arg(long, value_name = "WHERE")]
    pub results: Option<Results>,
    /// The image of the pod that reads the volume; by default that of the Job, or the one last brought
    /// up in the namespace.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `quorate k8s manifests`.
#[derive(Debug, Args)]
pub struct ManifestsArgs {
    /// The folder that they are written to.
    #[arg(long, default_value = "k8s/manifests", value_name = "DIR")]
    pub out: PathBuf,
}

/// Does what was asked.
///
/// # Errors
/// One sentence that says why not, and what to do.
#[cfg(feature = "k8s")]
pub fn run(args: &K8sArgs) -> Result<u8> {
    on_cluster::run(args)
}

/// Refuses.
///
/// # Errors
/// Always.
#[cfg(not(feature = "k8s"))]
pub fn run(_args: &K8sArgs) -> Result<u8> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Prints what a test would do on a cluster.
///
/// # Errors
/// If it is not on a cluster, or would be refused.
pub(super) fn dry_run(experiment: &Experiment) -> Result<u8> {
    if experiment.substrate != On::K8s {
        let message = "--dry-run is of --on k8s: elsewhere nothing but the run's own is touched";
        return Err(crate::experiment::ExperimentError(message.to_owned()).into());
    }
    dry_run_on_cluster(experiment)
}

#[cfg(feature = "k8s")]
fn dry_run_on_cluster(experiment: &Experiment) -> Result<u8> {
    on_cluster::dry_run(experiment)
}

#[cfg(not(feature = "k8s"))]
fn dry_run_on_cluster(_experiment: &Experiment) -> Result<u8> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Undoes on a cluster what runs have left there.
///
/// # Errors
/// If it cannot be looked at, or something stays.
#[cfg(feature = "k8s")]
pub(super) fn clean(args: &CleanArgs) -> Result<u8> {
    on_cluster::clean(args)
}

/// Refuses.
#[cfg(not(feature = "k8s"))]
pub(super) fn clean(_args: &CleanArgs) -> Result<u8> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Runs an experiment on a cluster.
#[cfg(feature = "k8s")]
pub(super) fn run_test(
    experiment: &Experiment,
    dir: &RunDir,
    sink: &mut dyn Sink,
    live: &mut Live,
) -> Result<Ended> {
    on_cluster::run_test(experiment, dir, sink, live)
}

/// Refuses.
#[cfg(not(feature = "k8s"))]
pub(super) fn run_test(
    _experiment: &Experiment,
    _dir: &RunDir,
    _sink: &mut dyn Sink,
    _live: &mut Live,
) -> Result<Ended> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Runs an experiment in a Job.
#[cfg(feature = "k8s")]
pub(super) fn run_in_cluster(experiment: &Experiment, store: &Path) -> Result<(Summary, RunDir)> {
    crate::k8s::in_cluster::run_once(experiment, store)
}

/// How many nodes a store has that runs already.
#[cfg(feature = "k8s")]
pub(crate) fn count(kubernetes: &crate::k8s::Kubernetes) -> Result<u16> {
    on_cluster::count(kubernetes)
}

/// Refuses.
#[cfg(not(feature = "k8s"))]
pub(crate) fn count(_kubernetes: &crate::k8s::Kubernetes) -> Result<u16> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Gives an experiment the configuration and the size of a store that is there.
#[cfg(feature = "k8s")]
pub(super) fn copy_of(experiment: &mut Experiment, name: &str) -> Result<()> {
    on_cluster::copy_of(experiment, name)
}

/// Refuses.
#[cfg(not(feature = "k8s"))]
pub(super) fn copy_of(_experiment: &mut Experiment, _name: &str) -> Result<()> {
    anyhow::bail!(NOT_BUILT_IN)
}

/// Refuses.
#[cfg(not(feature = "k8s"))]
pub(super) fn run_in_cluster(_experiment: &Experiment, _store: &Path) -> Result<(Summary, RunDir)> {
    anyhow::bail!(NOT_BUILT_IN)
}

#[cfg(not(feature = "k8s"))]
pub(super) const NOT_BUILT_IN: &str =
    "this quorate was built without Kubernetes; build it with `cargo build --features k8s`";

#[cfg(feature = "k8s")]
pub use on_cluster::manifests;

#[cfg(feature = "k8s")]
mod on_cluster {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::time::{Duration, Instant};

    use anyhow::{Context, Result};
    use k8s::clean::What;
    use k8s::cluster::is_system;
    use k8s::discover::members;
    use k8s::forward::Forward;
    use k8s::names::{IMAGE, MODE, NAMESPACE, PORT, selector};
    use k8s::rights::{self, DEPLOY, REACH, Right, VIEW};
    use k8s::{Cluster, Error, Member, Store, beat, clean, deploy, kustomize, roles, rollout};
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{Api, LogParams};
    use nemesis::{FaultKind, View};
    use reference_cluster::core::Config;
    use workloads::substream;

    use super::{
        CleanArgs, DownArgs, FetchArgs, K8sArgs, K8sCommand, LogsArgs, ManifestsArgs, Results,
        StoreArgs, UpArgs,
    };
    use crate::exit;
    use crate::experiment::{Experiment, Impossible, explain};
    use crate::k8s::{K8sOptions, K8sSubstrate, Kubernetes, described, dry_run, roles_of};
    use crate::k8s::{in_cluster, options};
    use crate::live::Live;
    use crate::local::view;
    use crate::mode;
    use crate::plan::plan;
    use crate::recorder::Sink;
    use crate::report;
    use crate::runner::{self, Ended};
    use crate::store::RunDir;

    /// The modes that have an overlay of their own.
    const OVERLAYS: [&str; 7] = [
        "async",
        "semi-sync",
        "sync",
        "raft",
        "multi-leader-lww",
        "multi-leader-crdt",
        "leaderless",
    ];
    /// How long agents may take to heal and to end.
    const AGENTS_END_WITHIN: Duration = Duration::from_secs(90);
    /// The image that the manifests name; `kustomize edit set image` changes it.
    const IMAGE_OF_MANIFESTS: &str = concat!("quorate:", env!("CARGO_PKG_VERSION"));

    pub(super) fn run(args: &K8sArgs) -> Result<u8> {
        if let K8sCommand::Manifests(args) = &args.command {
            return write_manifests(args);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let cluster = Cluster::connect().await?;
            match &args.command {
                K8sCommand::Up(args) => up(&cluster, args).await,
                K8sCommand::Down(args) => down(&cluster, args).await,
                K8sCommand::Status(args) => status(&cluster, args).await,
                K8sCommand::Logs(args) => logs(&cluster, args).await,
                K8sCommand::Agent(args) => crate::commands::agent::on_cluster(&cluster, args).await,
                K8sCommand::Fetch(args) => fetch(&cluster, args).await,
                K8sCommand::Manifests(_) => Ok(exit::VALID),
            }
        })
    }

    pub(super) fn clean(args: &CleanArgs) -> Result<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(clean_up(args))
    }

    pub(super) fn dry_run(experiment: &Experiment) -> Result<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let mut out = std::io::stdout().lock();
        let rights = rights_of(experiment);
        runtime.block_on(dry_run::print(experiment, &rights, &mut out))?;
        Ok(exit::VALID)
    }

    async fn clean_up(args: &CleanArgs) -> Result<u8> {
        let cluster = Cluster::connect().await?;
        let namespaces = match &args.namespace {
            Some(namespace) if is_system(namespace) => {
                return Err(Error::System(namespace.clone()).into());
            }
            // Also where faults are not allowed any more, and where there is no namespace any more:
            // what was done to Kubernetes nodes is left.
            Some(namespace) => clean::with_copies(&cluster, namespace).await?,
            None => clean::namespaces(&cluster).await?.into_iter().collect(),
        };
        let mut out = std::io::stdout().lock();
        let (mut undone, mut living, mut failed) = (0, 0, Vec::new());
        for namespace in &namespaces {
            let mut traces = clean::traces(&cluster, namespace).await?;
            match &args.run {
                Some(run) => traces.retain(|trace| {
                    let job = matches!(trace.what, What::Job(_));
                    trace.is_of(run) && !(job && args.keep_job)
                }),
                None => {
                    let alive = clean::living(&cluster, namespace, &traces).await?;
                    let before = traces.len();
                    traces.retain(|trace| !alive.contains(&trace.run));
                    living += before - traces.len();
                }
            }
            for trace in &traces {
                writeln!(out, "{trace}")?;
                if !args.dry_run
                    && let Err(error) = clean::undo(&cluster, trace).await
                {
                    failed.push(format!("{trace}: {error}"));
                    continue;
                }
                undone += 1;
            }
        }
        let done = if args.dry_run { "would be" } else { "were" };
        writeln!(out, "{undone} traces of runs {done} undone")?;
        if living > 0 {
            writeln!(out, "{living} traces of living runs stay; --run names one")?;
        }
        if args.agent {
            clean_agents(&cluster, args.dry_run, &mut out).await?;
        }
        anyhow::ensure!(
            failed.is_empty(),
            "left as they are:\n  {}",
            failed.join("\n  ")
        );
        Ok(exit::VALID)
    }

    /// Ends the agents, which heal what stands, and removes everything of them.
    async fn clean_agents(cluster: &Cluster, dry_run: bool, out: &mut impl Write) -> Result<()> {
        if dry_run {
            let agents = k8s::agent::status::agents(cluster).await?.len();
            writeln!(out, "{agents} agents would be ended")?;
            return Ok(());
        }
        let removed = k8s::agent::install::down(cluster, AGENTS_END_WITHIN).await?;
        writeln!(
            out,
            "the agents have healed and ended; {removed} objects removed"
        )?;
        Ok(())
    }

    fn configured(word: &str, nodes: u16) -> Result<Config> {
        let mut config = Config::default();
        mode::set(&mut config, word)
            .map_err(|e| crate::experiment::ExperimentError(format!("--mode: {e}")))?;
        config.validate(usize::from(nodes)).map_err(|e| {
            let impossible = Impossible {
                field: e.field.to_owned(),
                message: e.message,
            };
            explain(&impossible, "", None)
        })?;
        Ok(config)
    }

    async fn up(cluster: &Cluster, args: &UpArgs) -> Result<u8> {
        let config = configured(&args.mode, args.nodes)?;
        let mut kubernetes = None;
        args.kubernetes.apply(&mut kubernetes);
        let kubernetes: Kubernetes = kubernetes.unwrap_or_default();
        let namespace = &kubernetes.namespace;
        let remembered = match cluster.allowed(namespace).await {
            Ok(found) => found.metadata.annotations.unwrap_or_default().remove(IMAGE),
            Err(Error::NoNamespace(_)) => None,
            Err(refused) => return Err(refused.into()),
        };
        let image = kubernetes.image.clone().or(remembered).with_context(|| {
            format!("which image? say --image; namespace {namespace} remembers none that was brought up in it")
        })?;
        cluster.may(namespace, &[DEPLOY, VIEW].concat()).await?;
        let store = described(&kubernetes, &args.name, &image, args.nodes, &config, 0)?;
        store.validate()?;
        deploy::compatible(cluster, namespace, &store).await?;
        deploy::namespace(cluster, namespace, &image).await?;
        let began = Instant::now();
        deploy::apply(cluster, namespace, &store).await?;
        let within = Duration::from_secs(kubernetes.ready_within_s);
        let members = deploy::ready(cluster, namespace, &store, within).await?;
        let took = began.elapsed().as_secs_f64();
        let view = look(cluster, namespace, &members).await?;
        let leader = view
            .leader()
            .map(|leader| format!(", n{leader} leads"))
            .unwrap_or_default();
        println!(
            "{} in namespace {namespace}: {} nodes ready in {took:.1} s ({}{leader})",
            store.name,
            members.len(),
            store.mode,
        );
        Ok(exit::VALID)
    }

    async fn down(cluster: &Cluster, args: &DownArgs) -> Result<u8> {
        let StoreArgs { namespace, name } = &args.store;
        match cluster.allowed(namespace).await {
            Err(Error::NoNamespace(_)) => {
                println!("there is no namespace {namespace}");
                return Ok(exit::VALID);
            }
            other => drop(other?),
        }
        let leases = rights::RUN
            .iter()
            .filter(|right| args.runs && right.2 == "leases");
        let rights: Vec<Right> = [DEPLOY, VIEW]
            .concat()
            .into_iter()
            .chain(leases.copied())
            .collect();
        cluster.may(namespace, &rights).await?;
        let mut names = vec![name.clone()];
        if args.runs {
            let runs = deploy::of_runs(cluster, namespace).await?;
            if !runs.is_empty() {
                let alive = beat::living(cluster, namespace).await?;
                let dead = runs.into_iter().filter(|(_, run)| !alive.contains(run));
                names.extend(dead.map(|(store, _)| store));
            }
        }
        for name in &names {
            let removed = deploy::remove(cluster, namespace, name).await?;
            println!("{name}: {removed} objects removed");
        }
        if deploy::remove_namespace(cluster, namespace).await? {
            println!("namespace {namespace} removed");
        }
        Ok(exit::VALID)
    }

    /// The nodes of a store, at least one.
    async fn found(cluster: &Cluster, args: &StoreArgs) -> Result<Vec<Member>, Error> {
        let StoreArgs { namespace, name } = args;
        cluster.may(namespace, VIEW).await?;
        let members = members(cluster, namespace, &selector(name)).await?;
        if members.is_empty() {
            return Err(Error::NoStore {
                name: name.clone(),
                namespace: namespace.clone(),
            });
        }
        Ok(members)
    }

    /// Asks all nodes for their status, and labels their pods with their roles; where this account
    /// may not, nothing is asked.
    async fn look(cluster: &Cluster, namespace: &str, members: &[Member]) -> Result<View> {
        if cluster.may(namespace, REACH).await.is_err() {
            return Ok(View::default());
        }
        let mut forwards = Vec::new();
        for member in members {
            let forward = Forward::start(cluster, namespace, &member.pod, PORT).await?;
            forwards.push((member.node, forward));
        }
        let addresses: Vec<_> = forwards
            .iter()
            .map(|(node, forward)| (*node, Some(forward.address())))
            .collect();
        let http = reqwest::Client::builder().no_proxy().build()?;
        // The first connection through the API server may take longer than a node may.
        let _ = view::poll(&http, &addresses).await;
        let view = view::poll(&http, &addresses).await;
        for (node, role) in roles_of(&view) {
            if let Some(member) = members.iter().find(|member| member.node == node) {
                roles::label(cluster, namespace, member, role.as_deref()).await?;
            }
        }
        Ok(view)
    }

    async fn status(cluster: &Cluster, args: &StoreArgs) -> Result<u8> {
        let members = found(cluster, args).await?;
        let view = look(cluster, &args.namespace, &members).await?;
        let sets = Api::<StatefulSet>::namespaced(cluster.client.clone(), &args.namespace);
        let mode = sets.get(&args.name).await.ok();
        let mode = mode.and_then(|set| set.metadata.annotations?.remove(MODE));
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{} in namespace {}, mode {}, Kubernetes {}",
            args.name,
            args.namespace,
            mode.as_deref().unwrap_or("unknown"),
            cluster.version
        )?;
        writeln!(
            out,
            "{:<5} {:<24} {:<10} {:>6} {:>9} {:>8}  {:<12} trouble",
            "node", "pod", "role", "epoch", "index", "restarts", "on"
        )?;
        let mut ready = 0;
        for member in &members {
            let node = view.nodes.iter().find(|node| node.node == member.node);
            let role = node.and_then(|node| node.role.as_deref());
            let trouble = match (&member.trouble, member.ready) {
                (Some(trouble), _) => trouble.to_string(),
                (None, false) => "not ready".to_owned(),
                (None, true) => String::new(),
            };
            ready += usize::from(member.ready);
            let line = format!(
                "n{:<4} {:<24} {:<10} {:>6} {:>9} {:>8}  {:<12} {trouble}",
                member.node,
                member.pod,
                role.unwrap_or("-"),
                node.map_or(0, |node| node.epoch),
                node.map_or(0, |node| node.last_index),
                member.restarts,
                member.on.as_deref().unwrap_or("-"),
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(if ready == members.len() {
            exit::VALID
        } else {
            exit::UNKNOWN
        })
    }

    async fn logs(cluster: &Cluster, args: &LogsArgs) -> Result<u8> {
        let mut members = found(cluster, &args.store).await?;
        if let Some(node) = &args.node {
            let wanted = nemesis::selector::parse_node(node)
                .with_context(|| format!("expected a node such as n1, not {node:?}"))?;
            members.retain(|member| member.node == wanted);
            anyhow::ensure!(!members.is_empty(), "{} has no {node}", args.store.name);
        }
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), &args.store.namespace);
        let params = LogParams {
            tail_lines: Some(i64::from(args.tail)),
            ..LogParams::default()
        };
        let mut out = std::io::stdout().lock();
        for member in members {
            match pods.logs(&member.pod, &params).await {
                Ok(text) => {
                    for line in text.lines() {
                        writeln!(out, "n{} {line}", member.node)?;
                    }
                }
                Err(error) => tracing::warn!("no log of n{}: {error}", member.node),
            }
        }
        Ok(exit::VALID)
    }

    async fn fetch(cluster: &Cluster, args: &FetchArgs) -> Result<u8> {
        let wanted = in_cluster::Wanted {
            namespace: &args.namespace,
            run: &args.run,
            claim: args.results.as_ref().and_then(Results::claim),
            image: args.image.as_deref(),
        };
        let (summary, dir) = in_cluster::fetch(cluster, &wanted, &args.store).await?;
        let Some(summary) = summary else {
            println!("{}", dir.path().display());
            return Ok(exit::VALID);
        };
        let style = report::screen::Style::of_stdout();
        let text = report::formats::render(&summary, args.output, Some(dir.path()), style)?;
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(summary.exit_code as u8)
    }

    /// The manifests by path, relative to their folder.
    ///
    /// # Errors
    /// If a mode is impossible, which a test rules out.
    pub fn manifests() -> Result<BTreeMap<String, String>> {
        let nodes = 3;
        let kubernetes = Kubernetes::default();
        let store = |word: &str| -> Result<Store> {
            let config = configured(word, nodes)?;
            described(
                &kubernetes,
                "quorate",
                IMAGE_OF_MANIFESTS,
                nodes,
                &config,
                0,
            )
        };
        let overlays = OVERLAYS
            .iter()
            .map(|word| Ok(((*word).to_owned(), store(word)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut files = kustomize::files(&store("semi-sync")?, &overlays);
        let mut agent = k8s::agent::install::objects(IMAGE_OF_MANIFESTS);
        agent.push(k8s::agent::install::binding(NAMESPACE));
        files.extend(kustomize::folder("agent", &agent));
        files.extend(k8s::operator::files(IMAGE_OF_MANIFESTS));
        Ok(files)
    }

    fn write_manifests(args: &ManifestsArgs) -> Result<u8> {
        for (path, text) in manifests()? {
            let file = args.out.join(path);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
            }
            std::fs::write(&file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        println!("{}", args.out.display());
        Ok(exit::VALID)
    }

    /// See above.
    pub(super) fn count(kubernetes: &Kubernetes) -> Result<u16> {
        let existing = kubernetes.statefulset.as_ref();
        let existing = existing.context("no StatefulSet is named")?;
        let namespace = &kubernetes.namespace;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let cluster = Cluster::connect().await?;
            cluster.may(namespace, VIEW).await?;
            Ok(rollout::selected(&cluster, namespace, &existing.selector)
                .await?
                .nodes)
        })
    }

    pub(super) fn copy_of(experiment: &mut Experiment, name: &str) -> Result<()> {
        let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
        let namespace = &kubernetes.namespace;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let (text, nodes) = runtime.block_on(async {
            let cluster = Cluster::connect().await?;
            cluster.allowed(namespace).await?;
            cluster.may(namespace, DEPLOY).await?;
            k8s::copy::configured(&cluster, namespace, name).await
        })?;
        let file = format!("the configuration of {name} in namespace {namespace}");
        experiment.target = crate::experiment::parse_yaml(&text, &file)?;
        experiment.nodes = nodes;
        Ok(())
    }

    /// What the faults of an experiment need beside the rights of every run.
    fn rights_of(experiment: &Experiment) -> Vec<Right> {
        let faults = options::faults_of(experiment);
        let program = experiment.faults.schedule.as_ref();
        let evicts = program.is_some_and(|program| program.demands("evict"));
        let has = |kind| faults.iter().any(|fault| fault.kind() == kind);
        let mut rights = Vec::new();
        if has(FaultKind::Drain) {
            rights.extend_from_slice(rights::DRAIN);
        }
        if has(FaultKind::Drain) || evicts {
            rights.extend_from_slice(rights::EVICT);
        }
        if has(FaultKind::NoEndpoints) {
            rights.extend_from_slice(rights::ENDPOINTS);
        }
        rights
    }

    pub(super) fn run_test(
        experiment: &Experiment,
        dir: &RunDir,
        sink: &mut dyn Sink,
        live: &mut Live,
    ) -> Result<Ended> {
        let own = experiment
            .kubernetes
            .as_ref()
            .is_none_or(Kubernetes::is_own);
        let inside = experiment
            .kubernetes
            .as_ref()
            .is_some_and(|it| it.run.is_some());
        options::refuse_client_links(experiment, inside)
            .map_err(|impossible| explain(&impossible, "", None))?;
        let verb = if own { "starting" } else { "looking for" };
        live.step(&format!("{verb} {} pods", experiment.all_nodes()));
        let seed = substream(experiment.seed.unwrap_or_default(), "nodes");
        let mut substrate = K8sSubstrate::start(&K8sOptions {
            kubernetes: experiment.kubernetes.clone().unwrap_or_default(),
            nodes: experiment.all_nodes(),
            target: experiment.target.clone(),
            seed,
            run_dir: dir.path().to_owned(),
            call_timeout: experiment.clients.timeout,
            rights: rights_of(experiment),
            client_links: options::changes_client_links(experiment),
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
        live.step(if own {
            "removing the pods"
        } else {
            "leaving the pods"
        });
        if let Err(error) = substrate.stop() {
            // The history is whole; what is left on the cluster does not change the verdict.
            tracing::warn!("{}", exit::said(&error));
        }
        Ok(ended)
    }
}
