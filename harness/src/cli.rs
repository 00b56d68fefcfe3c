//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nemesis::{FaultKind, duration};
use workloads::Policy;

use crate::commands::agent::AgentArgs;
use crate::commands::in_cluster::InClusterArgs;
use crate::commands::k8s::K8sArgs;
use crate::commands::keeper::KeeperArgs;
use crate::commands::operator::OperatorArgs;
use crate::defaults::{self, Given};
use crate::experiment::{Concurrency, Experiment, ExperimentError, Impossible, On, explain};
use crate::explore::Guidance;
use crate::k8s::options::{KubernetesArgs, Results};
use crate::locate::says;
use crate::node::NodeArgs;
use crate::preflight::plan::Disturbance;
use crate::report::Format;
use crate::versions::Version;

/// Drives a replicated store, breaks it, and proves what it lost.
///
/// Exit codes: 0 valid, 1 invalid, 2 unknown, 254 bad arguments or experiment file, 255 the
/// harness or the target failed to start or crashed, 130 interrupted, after healing.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: start the cluster, drive clients, inject faults, judge the history.
    Test(TestArgs),
    /// Run an experiment in simulation over many seeds and hold every verdict against the truth.
    Sim(SimArgs),
    /// Print what runs have shown in other makers' stores, or run them again.
    TrackRecord(TrackRecordArgs),
    /// Print the truth table, or hold the harness against it.
    Truth(TruthArgs),
    /// Plant known mistakes in the reference store and see whether they are found.
    Museum(MuseumArgs),
    /// Search schedules for failures in simulation, steered by the protocol states they reach.
    ///
    /// Exit codes: 0 if nothing invalid was found, 1 if something was.
    Explore(ExploreArgs),
    /// Make a failing run smaller: fewest faults, shortest time, fewest nodes, clients and keys.
    ///
    /// Exit codes: 0 if something smaller or equal fails, 2 if the failure could not be reproduced.
    Shrink(ShrinkArgs),
    /// Run every mode under every fault, many times, and print a scorecard.
    ///
    /// Each cell (mode × fault × repetition) is one run as of `quorate test`; repetition i has the
    /// same seed for every mode and fault. Exit codes: 0 when the comparison was made, whatever
    /// the runs were found to violate (that is its subject); 255 if a run crashed; 254 bad input;
    /// 130 interrupted, and how to go on is said.
    #[command(mut_arg("mode", |a| a.hide(true)), mut_arg("nemesis", |a| a.hide(true)))]
    #[command(mut_arg("schedule", |a| a.hide(true)), mut_arg("name", |a| a.hide(true)))]
    Compare(CompareArgs),
    /// Before an upgrade: roll a throw-away store from one version to the other and back, under load
    /// and faults.
    ///
    /// Exit codes: 0 go, 1 no-go, 2 unknown; 254 bad arguments, 130 interrupted.
    #[command(mut_arg("nemesis", |a| a.hide(true)), mut_arg("nemesis_interval", |a| a.hide(true)))]
    #[command(mut_arg("schedule", |a| a.hide(true)), mut_arg("name", |a| a.hide(true)))]
    #[command(mut_arg("time_limit", |a| a.hide(true)), mut_arg("image", |a| a.hide(true)))]
    Preflight(PreflightArgs),
    /// Judge a recorded history.
    Check(CheckArgs),
    /// Judge a run again and rewrite its verdict and report.
    Report(ReportArgs),
    /// Browse the run store in a web page.
    Serve(ServeArgs),
    /// End processes and remove control groups that a crashed run left behind, and remove old runs.
    Clean(CleanArgs),
    /// Say which faults can be done on this machine, by which mechanism, and why not the others.
    ///
    /// Exit codes: 0, or 2 if a fault given by --require cannot be done.
    Doctor(DoctorArgs),
    /// The reference store on Kubernetes: up, down, status, logs, manifests.
    K8s(K8sArgs),
    /// Run the `ConsistencyTest`s and `Scorecard`s of a Kubernetes cluster, once or by their schedules.
    Operator(OperatorArgs),
    /// List workloads, faults, checkers and modes.
    List,
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Run one replica of the reference cluster.
    Node(NodeArgs),
    /// Undo what a run has done, once it is gone; started by `quorate test`.
    #[command(hide = true)]
    Keeper(KeeperArgs),
    /// Hurt pods of this Kubernetes node as Leases say; started by `quorate k8s agent up`.
    #[command(hide = true)]
    Agent(AgentArgs),
    /// Run an experiment in the pod of a Job; started by `quorate test --in-cluster`.
    #[command(hide = true)]
    InCluster(InClusterArgs),
}

/// Flags that change an experiment.
#[derive(Debug, Default, PartialEq, Args)]
pub struct ExperimentArgs {
    /// The experiment (YAML); without it, the defaults.
    pub file: Option<PathBuf>,
    /// Replication mode, e.g. async, semi-sync(1), raft (`quorate list` names all).
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Number of replicas; or where the nodes of a store listen that runs already, e.g.
    /// 10.0.0.1:2379,10.0.0.2:2379. Nothing is done to such a store.
    #[arg(long, value_name = "N|HOST:PORT,…")]
    pub nodes: Option<Nodes>,
    /// The store: `reference`, `etcd` (with options: `etcd:reads=serializable`), `redis`,
    /// `exec:PROGRAM` (a client of your own, one JSON object a line) or `http:FILE` (its HTTP API,
    /// described in YAML).
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What clients do, e.g. register, append, conflict (`quorate list` names all); by default what
    /// fits the mode.
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// What transactions are held to, e.g. snapshot-isolation (as `quorate check` takes it); by
    /// default what the store promises.
    #[arg(long, visible_alias = "consistency-model", value_name = "MODEL")]
    pub consistency: Option<String>,
    /// Client threads: a number, or 3n for three a node.
    #[arg(long, value_name = "N|Nn")]
    pub concurrency: Option<Concurrency>,
    /// How long clients and faults go on, e.g. 30s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub time_limit: Option<Duration>,
    /// Operations a second of all clients together; 0 is unlimited.
    #[arg(long, value_name = "OPS/S", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// How long a client waits for an answer.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub client_timeout: Option<Duration>,
    /// Which node clients ask: leader, any, spread, split (writes to the leader, reads anywhere), or
    /// one such as n3; by default what fits the mode.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<Policy>,
    /// Random faults, by name, e.g. kill,partition; none for none (see `quorate list`).
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub nemesis: Option<Vec<String>>,
    /// Mean time between two random faults.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub nemesis_interval: Option<Duration>,
    /// Exactly these faults (YAML), e.g. the schedule.yaml of an earlier run.
    #[arg(long, value_name = "FILE", conflicts_with = "nemesis")]
    pub schedule: Option<PathBuf>,
    /// Names the run directory.
    #[arg(long)]
    pub name: Option<String>,
    /// Where and how on Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
}

/// How many nodes, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// So many are to be started.
    Count(u16),
    /// They run already, and listen there.
    Addresses(Vec<String>),
}

impl std::str::FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(':') {
            let addresses = text.split(',').map(|node| node.trim().to_owned());
            return Ok(Self::Addresses(addresses.collect()));
        }
        let count = text.parse().map(Self::Count);
        count.map_err(|_| format!("expected a number, or host:port,…, not {text:?}"))
    }
}

/// `quorate test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Where to run: local (processes on loopback), sim (deterministic simulation) or k8s.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// The seed of all randomness.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Run so many times, with seeds that follow each other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub test_count: u32,
    /// The run store.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// On Kubernetes: run in a Job of the cluster, and fetch what it found.
    #[arg(long, help_heading = "Kubernetes")]
    pub in_cluster: bool,
    /// With --in-cluster: where the run is kept until it is fetched: config-map, or a volume, which
    /// keeps it (pvc, or pvc:CLAIM).
    #[arg(
        long,
        value_name = "WHERE",
        requires = "in_cluster",
        help_heading = "Kubernetes"
    )]
    pub results: Option<Results>,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Print the experiment with all defaults written out, and run nothing.
    #[arg(long)]
    pub print_experiment: bool,
    /// With --on k8s: print what would be done to whom on the cluster, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `quorate sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Seeds: a range such as 0..1000, or one.
    #[arg(long, default_value = "0..100", value_parser = parse_seeds)]
    pub seeds: std::ops::Range<u64>,
    /// Threads, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// `json` for one line a seed on stdout, `table` for the summary.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimOutput,
}

/// How `quorate sim` writes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SimOutput {
    /// A summary for people.
    #[default]
    Table,
    /// One JSON object a seed and line.
    Json,
}

/// `quorate track-record`.
#[derive(Debug, Args)]
pub struct TrackRecordArgs {
    /// The file of the rows; what came of them is kept beside it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only these rows.
    #[arg(value_name = "ROW")]
    pub rows: Vec<String>,
    /// Run the rows, one after the other, and keep what comes of them.
    #[arg(long)]
    pub run: bool,
    /// Print the experiment of each row as YAML.
    #[arg(long, conflicts_with = "run")]
    pub print: bool,
    /// Where the runs are kept.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
}

/// `quorate truth`.
#[derive(Debug, Args)]
pub struct TruthArgs {
    /// Only these rows.
    #[arg(value_name = "ROW")]
    pub rows: Vec<String>,
    /// Run the rows in simulation and compare.
    #[arg(long)]
    pub run: bool,
    /// Print the experiment of each row as YAML.
    #[arg(long, conflicts_with = "run")]
    pub print: bool,
    /// Seeds to run: a range such as 0..1000, or one.
    #[arg(long, default_value = "0..1000", value_parser = parse_seeds)]
    pub seeds: std::ops::Range<u64>,
    /// Threads, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// How it is written to stdout; md is the page of the docs.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TruthOutput,
}

/// How `quorate truth` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TruthOutput {
    /// For people.
    #[default]
    Table,
    /// Markdown.
    Md,
    /// One JSON object a row and line.
    Json,
}

/// `quorate museum`.
#[derive(Debug, Args)]
pub struct MuseumArgs {
    /// Only these mistakes.
    #[arg(value_name = "MISTAKE")]
    pub bugs: Vec<String>,
    /// Print the experiment of each as YAML, the mistake planted.
    #[arg(long)]
    pub print: bool,
    /// Seeds among which each mistake must be found.
    #[arg(long, default_value = "0..100", value_parser = parse_seeds)]
    pub seeds: std::ops::Range<u64>,
    /// How many seeds to run without the mistake, at least.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub controls: u64,
    /// Threads, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// How it is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimOutput,
}

/// `quorate explore`.
#[derive(Debug, Args)]
pub struct ExploreArgs {
    /// The experiment; its faults are left out, those tried come from the exploration.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// How long to explore. [default: 1m, without a budget]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub time: Option<Duration>,
    /// How many runs to make: the same on every machine, whatever its speed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: Option<u64>,
    /// The seed of the exploration.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keep what was reached in this directory, and go on from what is there.
    #[arg(long, value_name = "DIR")]
    pub corpus: Option<PathBuf>,
    /// Stop at the first failure.
    #[arg(long)]
    pub until_found: bool,
    /// Kinds of faults to try, e.g. kill,partition; by default all that a store should survive.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = parse_kind)]
    pub faults: Vec<FaultKind>,
    /// How schedules are chosen: by the states reached, blindly changed, or by packages of random
    /// faults.
    #[arg(long, value_enum, default_value_t)]
    pub guidance: Guidance,
    /// Plant this mistake of the museum, and explore its cluster.
    #[arg(long, value_name = "MISTAKE")]
    pub bug: Option<String>,
    /// Measure how soon each mistake of the museum is found in each way (`-o md` is the table of
    /// the docs).
    #[arg(long)]
    pub museum: bool,
    /// Repetitions for each mistake and way, each with a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "museum", value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Where failing runs are kept.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// Threads, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TruthOutput,
}

impl ExploreArgs {
    /// How long to explore if nobody says.
    pub const TIME: Duration = Duration::from_secs(60);
    /// How long a run with a planted mistake is if nobody says.
    pub const RUN: Duration = Duration::from_secs(6);
}

fn parse_kind(text: &str) -> Result<FaultKind, String> {
    let known = FaultKind::ALL.into_iter().find(|kind| kind.name() == text);
    known.ok_or_else(|| {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("expected some of {}", names.join(", "))
    })
}

/// `quorate shrink`.
#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// The directory of a run that failed, e.g. store/demo/latest.
    pub run: PathBuf,
    /// Keep the first anomaly of this checker, not the first of all.
    #[arg(long, value_name = "NAME")]
    pub check: Option<String>,
    /// How long to search; the same command goes on where the time was up.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    pub time: Duration,
    /// Seeds (in simulation) or repetitions (on real processes) tried before a smaller experiment
    /// is taken not to fail.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trials: u32,
    /// Where to try: in simulation, whatever the run was on, or on real processes.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// Start from the run again, not from what an earlier search came to.
    #[arg(long)]
    pub restart: bool,
    /// Threads for simulations, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: SimOutput,
}

/// `quorate compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What all runs share; its section `compare` may say modes, faults and repeat.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Replication modes, e.g. async,semi-sync,sync,raft (`quorate list` names all); the others are
    /// held against the first.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub modes: Option<Vec<String>>,
    /// Faults, e.g. kill-leader,partition-leader,slow-follower, or none (`quorate list` names all).
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub faults: Option<Vec<String>>,
    /// Runs of each mode under each fault; 7 at least for intervals of more than shares. [default:
    /// 20]
    #[arg(long, value_name = "N")]
    pub repeat: Option<u32>,
    /// Where to run: sim unless this or the file says local.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// The seed of the first repetition; the next ones follow. [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Threads for simulations, 1 to 1024; one for each processor by default.
    #[arg(long, value_name = "N", default_value_t = processors(), value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
    /// The run store; the comparison goes to compare/<UTC time>/ in it.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// Go on with an interrupted comparison: its directory.
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// How the scorecard is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: CompareOutput,
}

/// How `quorate compare` writes its scorecard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CompareOutput {
    /// For people.
    #[default]
    Table,
    /// Markdown, for a decision record or a pull request.
    Md,
    /// For programs.
    Json,
}

/// `quorate preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// The store to copy: its configuration, size and load; its faults are left out. Without file and
    /// --mode: on Kubernetes the store in the namespace, elsewhere raft with 3 nodes.
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// The version that runs now: a program, or on Kubernetes an image; with @N told to write storage
    /// format N; @N alone is this program.
    #[arg(long, value_name = "VERSION")]
    pub from: Option<Version>,
    /// The version to upgrade to.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<Version>,
    /// Where to try; by default where the file says, else local if the versions are programs of this
    /// machine, else k8s.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// The store on Kubernetes whose configuration is copied.
    #[arg(long, value_name = "NAME", default_value = "quorate")]
    pub of: String,
    /// How many rolls to make, each with another seed.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rolls: u32,
    /// About how long one roll is to take; by default as long as its steps do.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub time: Option<Duration>,
    /// What is done while both versions are there: some of kill, pause, partition, or none; by default
    /// all that can be done there.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub faults: Option<Vec<PreflightFault>>,
    /// The seed of the first roll; the next ones follow.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The run store; the report goes to preflight/<UTC time>/ in it.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// How the report is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: PreflightOutput,
}

/// A fault of a preflight, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreflightFault(pub Option<Disturbance>);

impl std::str::FromStr for PreflightFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use clap::ValueEnum;
        if text == "none" {
            return Ok(Self(None));
        }
        Disturbance::from_str(text, false)
            .map(|fault| Self(Some(fault)))
            .map_err(|_| "expected some of kill, pause, partition, or none".to_owned())
    }
}

/// How `quorate preflight` writes its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PreflightOutput {
    /// For people.
    #[default]
    Text,
    /// Markdown, for a change request.
    Md,
    /// For programs.
    Json,
}

/// `quorate check`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags are that")]
pub struct CheckArgs {
    /// The history, or `-` for stdin.
    pub file: PathBuf,
    /// What the clients did: decides the checkers.
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Exactly these checkers.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub checks: Option<Vec<String>>,
    /// What each key is, e.g. register, queue, lock, semaphore=3; by default what the functions used
    /// on it say.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What decides linearizability.
    #[arg(long, value_name = "auto|zones|jit|porcupine", default_value = "auto")]
    pub engine: String,
    /// What transactions were promised, e.g. serializable, snapshot-isolation.
    #[arg(long, value_name = "MODEL", default_value = "strong-serializable")]
    pub consistency_model: String,
    /// Queues promise order.
    #[arg(long)]
    pub fifo: bool,
    /// Accounts may be overdrawn.
    #[arg(long)]
    pub negative_balances: bool,
    /// The format, if it cannot be guessed: jsonl, json, edn, jepsen-log, porcupine-kv.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// What a failed compare-and-set says of the register: that it held another value, or nothing.
    #[arg(long, value_enum)]
    pub refused_cas: Option<RefusedCas>,
    /// Check what precedes a corrupt line.
    #[arg(long)]
    pub partial: bool,
    /// Write the smallest history found that fails again for the same reason.
    #[arg(long, value_name = "OUT.jsonl")]
    pub minimal: Option<PathBuf>,
    /// Write the page with the evidence drawn over time.
    #[arg(long, value_name = "OUT.html")]
    pub picture: Option<PathBuf>,
    /// How long to search for a linearization of one key.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub time_limit_per_key: Duration,
    /// How long to search for linearizations of all keys.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub time_limit: Option<Duration>,
    /// Memory for the search of one key, MiB.
    #[arg(long, value_name = "MiB", default_value_t = 1024)]
    pub memory_per_key: u64,
    /// Memory for the searches of all keys at a time, MiB.
    #[arg(long, value_name = "MiB")]
    pub memory: Option<u64>,
    /// Configurations that the search of one key may visit: the same on every machine.
    #[arg(long, value_name = "N")]
    pub configurations_per_key: Option<u64>,
    /// Configurations that the searches of all keys may visit.
    #[arg(long, value_name = "N")]
    pub configurations: Option<u64>,
    /// Stop at the first key that is not linearizable.
    #[arg(long)]
    pub fail_fast: bool,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What a failed compare-and-set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RefusedCas {
    /// The register held another value at that moment (etcd's text logs, as Porcupine reads them).
    Constrains,
    /// Only that nothing was done (Jepsen).
    SaysNothing,
}

/// `quorate report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run directory, e.g. store/demo/latest.
    pub dir: PathBuf,
    /// How the result is written to stdout.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `quorate serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The run store.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// `quorate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Faults that must be possible, e.g. kill,partition,slow.
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = fault_kind)]
    pub require: Vec<FaultKind>,
    /// The substrate on which they must be; by default all.
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// A store of another maker, e.g. etcd: whether it can be started here, and what installs it.
    #[arg(long, value_name = "STORE", conflicts_with_all = ["require", "on", "output"])]
    pub target: Option<String>,
    /// How the answer is written: table, json, yaml or md.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `quorate clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The run store.
    #[arg(long, default_value = "store", value_name = "DIR")]
    pub store: PathBuf,
    /// Also remove runs, all but the newest N of each name.
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Undo on a cluster what runs have left there, instead of on this machine.
    #[arg(long, value_parser = ["k8s"], conflicts_with_all = ["store", "keep"])]
    pub on: Option<String>,
    /// With --on k8s: in this namespace; by default in all that allow faults.
    #[arg(long, value_name = "NAMESPACE", requires = "on")]
    pub namespace: Option<String>,
    /// With --on k8s: what this run has left, even if it is alive; by default what all that are
    /// not alive any more have left.
    #[arg(long, value_name = "RUN", requires = "on")]
    pub run: Option<String>,
    /// With --run: leave the Job that carries the run out; for what runs in that Job.
    #[arg(long, requires = "run", hide = true)]
    pub keep_job: bool,
    /// With --on k8s: end the agents, too, and remove everything of them.
    #[arg(long, requires = "on", conflicts_with = "run")]
    pub agent: bool,
}

fn processors() -> u16 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(processors).map_or(1024, |n| n.min(1024))
}

fn fault_kind(text: &str) -> Result<FaultKind, String> {
    let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == text);
    kind.ok_or_else(|| {
        let names = FaultKind::ALL.map(FaultKind::name);
        format!("expected one of {}, not {text:?}", names.join(", "))
    })
}

fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = || format!("expected a range such as 0..1000, or one seed, not {text:?}");
    let number = |t: &str| t.parse::<u64>().map_err(|_| wrong());
    let range = match text.split_once("..") {
        Some((first, end)) => number(first)?..number(end)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or_else(wrong)?
        }
    };
    if range.is_empty() {
        Err(wrong())
    } else {
        Ok(range)
    }
}

impl ExperimentArgs {
    /// The experiment that the file and the flags describe, checked. Nothing is started.
    ///
    /// # Errors
    /// One message that names the file and line, or the flag.
    pub fn resolve(
        &self,
        on: Option<On>,
        seed: Option<u64>,
    ) -> Result<Experiment, ExperimentError> {
        let (mut experiment, text) = match &self.file {
            Some(path) => {
                let (experiment, text) = Experiment::read(path)?;
                (experiment, Some(text))
            }
            None => (Experiment::default(), None),
        };
        let file = self
            .file
            .as_ref()
            .map(|p| p.display().to_string())
            .unwrap_or_default();
        let schedule_text = self.apply(&mut experiment)?;
        let in_file = |field| text.as_deref().is_some_and(|text| says(text, field));
        let given = Given {
            workload: self.workload.is_some() || in_file("workload"),
            policy: self.policy.is_some() || in_file("clients.policy"),
            faults: self.nemesis.is_some()
                || self.schedule.is_some()
                || in_file("faults.packages")
                || in_file("faults.schedule"),
        };
        defaults::choose(&mut experiment, given);
        if let Some(on) = on {
            experiment.substrate = on;
        }
        self.count_nodes(&mut experiment, in_file("nodes"))?;
        if experiment.store.is_some() || experiment.substrate == On::External {
            defaults::choose_foreign(&mut experiment, given);
        }
        if experiment.substrate == On::K8s && !given.faults {
            crate::k8s::options::choose_faults(&mut experiment);
        }
        if seed.is_some() {
            experiment.seed = seed;
        }
        if experiment.compare.is_some() {
            let impossible = Impossible {
                field: "compare".to_owned(),
                message: "is of a comparison; run this file with quorate compare".to_owned(),
            };
            return Err(explain(&impossible, &file, text.as_deref()));
        }
        experiment
            .validate()
            .map_err(|impossible| match (&schedule_text, &self.schedule) {
                (Some(schedule), Some(path)) if impossible.field.starts_with("faults.schedule") => {
                    explain_in_schedule(impossible, schedule, &path.display().to_string())
                }
                _ => explain(&impossible, &file, text.as_deref()),
            })?;
        Ok(experiment)
    }

    /// A store that runs already on Kubernetes has as many nodes as it has, unless that is said.
    fn count_nodes(&self, experiment: &mut Experiment, said: bool) -> Result<(), ExperimentError> {
        let kubernetes = experiment.kubernetes.as_ref();
        let existing = kubernetes.filter(|kubernetes| kubernetes.statefulset.is_some());
        let Some(kubernetes) = existing.filter(|_| experiment.substrate == On::K8s) else {
            return Ok(());
        };
        if self.nodes.is_none() && !said {
            let counted = crate::commands::k8s::count(kubernetes);
            experiment.nodes = counted.map_err(|error| {
                let why = crate::exit::said(&error);
                ExperimentError(format!(
                    "--nodes is missing, and nobody can be asked: {why}"
                ))
            })?;
        }
        Ok(())
    }

    /// How many nodes, or where they are and how they are spoken to.
    fn apply_nodes(&self, experiment: &mut Experiment) -> Result<(), ExperimentError> {
        match &self.nodes {
            None => {}
            Some(Nodes::Count(count)) => experiment.nodes = *count,
            Some(Nodes::Addresses(addresses)) => {
                experiment
                    .external
                    .get_or_insert_default()
                    .nodes
                    .clone_from(addresses);
            }
        }
        if let Some(target) = &self.target {
            let store = crate::stores::Store::from_flag(target);
            experiment.store = store.map_err(|why| ExperimentError(format!("--target: {why}")))?;
        }
        if let Some(external) = &experiment.external {
            experiment.substrate = On::External;
            if !external.nodes.is_empty() {
                experiment.nodes = external.nodes.len() as u16;
            }
        }
        Ok(())
    }

    /// Puts the flags over the file; gives back the text of the schedule file, if there is one.
    pub(crate) fn apply(
        &self,
        experiment: &mut Experiment,
    ) -> Result<Option<String>, ExperimentError> {
        if let Some(mode) = &self.mode {
            crate::mode::set(&mut experiment.target, mode)
                .map_err(|e| ExperimentError(format!("--mode: {e}")))?;
        }
        if let Some(workload) = &self.workload {
            experiment.workload = workload
                .parse()
                .map_err(|e| ExperimentError(format!("--workload: {e}")))?;
        }
        if let Some(model) = &self.consistency {
            let model = model.parse();
            experiment.consistency =
                Some(model.map_err(|e| ExperimentError(format!("--consistency: {e}")))?);
        }
        let clients = &mut experiment.clients;
        set(&mut clients.concurrency, self.concurrency);
        set(&mut clients.rate, self.rate);
        set(&mut clients.timeout, self.client_timeout);
        set(&mut clients.policy, self.policy);
        self.apply_nodes(experiment)?;
        set(&mut experiment.name, self.name.clone());
        set(&mut experiment.limits.time, self.time_limit);
        set(&mut experiment.faults.interval, self.nemesis_interval);
        self.kubernetes.apply(&mut experiment.kubernetes);
        if let Some(packages) = &self.nemesis {
            experiment.faults.packages.clone_from(packages);
            experiment.faults.schedule = None;
        }
        let Some(path) = &self.schedule else {
            return Ok(None);
        };
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ExperimentError(format!("cannot read {file}: {e}")))?;
        let program = nemesis::Program::parse(&text).map_err(|e| {
            let line = e
                .location()
                .map(|(line, _)| format!(":{line}"))
                .unwrap_or_default();
            ExperimentError(format!("{file}{line}: {e}"))
        })?;
        experiment.faults.schedule = Some(program);
        Ok(Some(text))
    }
}

fn set<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

/// A schedule file holds the list itself, or `faults:` with the list.
fn explain_in_schedule(mut impossible: Impossible, text: &str, file: &str) -> ExperimentError {
    let within = impossible
        .field
        .trim_start_matches("faults.schedule")
        .to_owned();
    let path = format!("faults{within}");
    impossible.field = if crate::locate::line_of(text, &path).is_some() {
        path
    } else {
        within
    };
    explain(&impossible, file, Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_to_do_is_refused() {
        for bad in [
            ["quorate", "test", "--test-count", "0"],
            ["quorate", "sim", "--jobs", "0"],
            ["quorate", "sim", "--jobs", "999999"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn seeds_are_a_range_or_one() {
        assert_eq!(parse_seeds("0..1000"), Ok(0..1000));
        assert_eq!(parse_seeds("7"), Ok(7..8));
        assert!(parse_seeds("9..3").is_err());
        assert!(parse_seeds("x").is_err());
    }
}
