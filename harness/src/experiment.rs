//! Experiments: the YAML file, its defaults, and what is possible in it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use checkers::ConsistencyModel;
use nemesis::selector::parse_node;
use nemesis::{Budget, Capabilities, FaultKind, Program, ScheduleError, duration, package};
use reference_cluster::core::Config;
use reference_cluster::core::config::{Ack, Mode};
use serde::{Deserialize, Serialize};
use workloads::{Kind, Parameters, Policy};

use crate::compare::Matrix;
use crate::external::External;
use crate::k8s::Kubernetes;
use crate::locate::line_of;
use crate::mode;
use crate::sim::{self, Conditions};
use crate::stores::Store;
use crate::versions::Versions;
use crate::{defaults, k8s, local};

/// Everything that defines a run. What a file leaves out has the default shown by
/// `quorate test --print-experiment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Experiment {
    /// Names the run directory: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where all randomness comes from. Drawn at the start if absent, and always written out.
    pub seed: Option<u64>,
    /// Number of replicas, 1 to 99.
    pub nodes: u16,
    /// Where it runs.
    pub substrate: On,
    /// The reference cluster's configuration.
    pub target: Config,
    /// What clients do.
    pub workload: Kind,
    /// Parameters of the workload; those left out have the workload's own defaults.
    pub parameters: Parameters,
    /// How they do it.
    pub clients: Clients,
    /// What is done to the cluster.
    pub faults: Faults,
    /// Names of the checkers that judge the run; empty: those that the workload names.
    pub checks: Vec<String>,
    /// What transactions are held to, by name; what the store promises if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyModel>,
    /// When to stop.
    pub limits: Limits,
    /// The weather of the simulation.
    pub simulation: Conditions,
    /// Where and how it runs on Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// What `upgrade` and `downgrade` take nodes to; without it, the next storage format and the one
    /// before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// Where the store runs already, with `substrate: external`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// The store, if it is not the reference store, to which `target` belongs.
    #[serde(
        with = "serde_yaml::with::singleton_map",
        skip_serializing_if = "Option::is_none"
    )]
    pub store: Option<Store>,
    /// What `quorate compare` runs of it: modes, faults and repetitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Matrix>,
}

/// A substrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// Deterministic simulation in virtual time.
    Sim,
    /// Processes on loopback.
    Local,
    /// Processes in network namespaces of their own, on a bridge.
    Netns,
    /// Pods on Kubernetes.
    K8s,
    /// A store that runs already.
    External,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sim => "sim",
            Self::Local => "local",
            Self::Netns => "netns",
            Self::K8s => "k8s",
            Self::External => "external",
        })
    }
}

/// How clients work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Number of client threads: a number, or `3n` for three a node.
    pub concurrency: Concurrency,
    /// Operations a second of all threads together, at most; 0 is as fast as answers come.
    pub rate: f64,
    /// Which node a thread asks.
    pub policy: Policy,
    /// How long a client waits for an answer before the outcome is unknown.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Whether a client tells each replica what its own operations have shown it, so that one that
    /// has seen less does not answer.
    pub sessions: bool,
}

/// What is done to the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Random packages, by name; ignored if there is a schedule.
    pub packages: Vec<String>,
    /// Mean time between the end of one random fault and the next.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long a random fault lasts at least and at most, instead of what its package would take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Lasting>,
    /// Exactly these faults, and blocks of them (docs/faults.md).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Program>,
    /// How many nodes may be hurt at once; any number if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hurt_at_most: Option<u16>,
    /// The nodes that may be hurt, by name; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
}

/// How long random faults last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lasting {
    /// At least.
    #[serde(with = "duration")]
    pub min: Duration,
    /// At most.
    #[serde(with = "duration")]
    pub max: Duration,
}

/// When to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long clients and faults go on.
    #[serde(with = "duration")]
    pub time: Duration,
    /// How long the cluster may take to agree after healing, and the final reads after that.
    #[serde(with = "duration")]
    pub recovery: Duration,
    /// How long a checker may search for a linearization of one key.
    #[serde(with = "duration")]
    pub check_per_key: Duration,
    /// So many operations of clients at most, the final reads not counted; none for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// End as soon as the schedule is over, or an upgrade in it fails, and after `time` at the latest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub until_schedule_ends: bool,
}

impl Default for Experiment {
    fn default() -> Self {
        Self {
            name: "demo".to_owned(),
            seed: None,
            nodes: 5,
            substrate: On::Local,
            target: Config::default(),
            workload: Kind::Append,
            parameters: Parameters::default(),
            clients: Clients::default(),
            faults: Faults::default(),
            checks: Vec::new(),
            consistency: None,
            limits: Limits::default(),
            simulation: Conditions::default(),
            kubernetes: None,
            versions: None,
            external: None,
            store: None,
            compare: None,
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            concurrency: Concurrency::PerNode(2),
            rate: 200.0,
            policy: Policy::Leader,
            timeout: Duration::from_secs(1),
            sessions: false,
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            packages: vec!["isolate-leader".to_owned(), "kill-leader".to_owned()],
            interval: Duration::from_secs(4),
            lasting: None,
            schedule: None,
            hurt_at_most: None,
            targets: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(25),
            recovery: Duration::from_secs(20),
            check_per_key: Duration::from_secs(30),
            operations: None,
            until_schedule_ends: false,
        }
    }
}

/// Number of client threads. Written `10`, or `3n` for three a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "String")]
pub enum Concurrency {
    /// So many.
    Fixed(u32),
    /// So many a node.
    PerNode(u32),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a number of threads such as 10, or 3n for three a node"
)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl TryFrom<NumberOrText> for Concurrency {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<Self, String> {
        match given {
            NumberOrText::Number(n) => Ok(Self::Fixed(n)),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| {
            format!("expected a number of threads such as 10, or 3n for three a node, not {text:?}")
        };
        match text.strip_suffix('n') {
            Some("") => Ok(Self::PerNode(1)),
            Some(each) => each.parse().map(Self::PerNode).map_err(wrong),
            None => text.parse().map(Self::Fixed).map_err(wrong),
        }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::PerNode(n) => write!(f, "{n}n"),
        }
    }
}

impl From<Concurrency> for String {
    fn from(concurrency: Concurrency) -> Self {
        concurrency.to_string()
    }
}

/// A value that cannot be: where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The field, e.g. `target.ack`.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Why an experiment file is refused, in one line: `file:line: field: what was expected`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExperimentError(pub String);

impl Experiment {
    /// Reads an experiment file. Nothing is started.
    ///
    /// # Errors
    /// One message with file, line, field and what was expected.
    pub fn read(path: &Path) -> Result<(Self, String), ExperimentError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ExperimentError(format!("cannot read {}: {e}", path.display())))?;
        let experiment = Self::parse(&text, &path.display().to_string())?;
        Ok((experiment, text))
    }

    /// Parses an experiment; `file` is for messages.
    ///
    /// # Errors
    /// One message with file, line, field and what was expected.
    pub fn parse(text: &str, file: &str) -> Result<Self, ExperimentError> {
        parse_yaml(text, file)
    }

    /// Checks that every value is possible.
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), Impossible> {
        let impossible = |field: &str, message: String| {
            Err(Impossible {
                field: field.to_owned(),
                message,
            })
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(named) {
            return impossible(
                "name",
                format!(
                    "expected letters, digits, '-', '_' and '.', not starting with '.', not {:?}",
                    self.name
                ),
            );
        }
        if !(1..=99).contains(&self.nodes) {
            return impossible(
                "nodes",
                format!("expected 1 to 99 nodes, not {}", self.nodes),
            );
        }
        defaults::validate(self)?;
        if let Err(e) = self.target.validate(usize::from(self.nodes)) {
            return impossible(&format!("target.{}", e.field), e.message);
        }
        if let Err(e) = self.parameters.validate(self.workload) {
            return impossible(&format!("parameters.{}", e.field), e.message);
        }
        if !(1..=10_000).contains(&self.threads()) {
            return impossible(
                "clients.concurrency",
                format!("expected 1 to 10000 client threads, not {}", self.threads()),
            );
        }
        if !self.clients.rate.is_finite() || self.clients.rate < 0.0 {
            return impossible(
                "clients.rate",
                format!(
                    "expected operations a second, or 0 for no limit, not {}",
                    self.clients.rate
                ),
            );
        }
        if self.clients.policy == Policy::Gateway && self.target.gateways == 0 {
            return impossible(
                "clients.policy",
                "there is no gateway: set target.gateways".into(),
            );
        }
        if let Policy::Fixed(node) = self.clients.policy
            && !(1..=self.nodes).contains(&node)
        {
            return impossible(
                "clients.policy",
                format!("there is no n{node}: the cluster has n1 to n{}", self.nodes),
            );
        }
        let positive = [
            ("clients.timeout", self.clients.timeout),
            ("faults.interval", self.faults.interval),
            ("limits.time", self.limits.time),
            ("limits.check_per_key", self.limits.check_per_key),
        ];
        for (field, value) in positive {
            if value.is_zero() || value > Duration::from_secs(7 * 24 * 3600) {
                return impossible(
                    field,
                    format!(
                        "expected more than 0 s and at most 7 days, not {}",
                        duration::format(value)
                    ),
                );
            }
        }
        if let Some(Lasting { min, max }) = self.faults.lasting
            && (min.is_zero() || max < min)
        {
            return impossible(
                "faults.lasting",
                format!("expected 0 s < min ≤ max, not {min:?} to {max:?}"),
            );
        }
        self.validate_store()?;
        self.validate_faults()?;
        self.validate_versions()?;
        self.validate_conditions()?;
        let known = crate::judge::checker_names();
        for (i, check) in self.checks.iter().enumerate() {
            if !known.contains(&check.as_str()) {
                return impossible(
                    &format!("checks[{i}]"),
                    format!(
                        "there is no checker {check:?}; expected one of {}",
                        known.join(", ")
                    ),
                );
            }
        }
        if self.consistency.is_some() && !self.has_isolation() {
            return impossible(
                "consistency",
                format!(
                    "expected nothing: only {} judge by it, and they do not judge {}",
                    defaults::BY_MODEL.join(" and "),
                    self.workload
                ),
            );
        }
        Ok(())
    }

    /// Whether a checker judges it that holds transactions to a consistency model.
    fn has_isolation(&self) -> bool {
        let names = crate::judge::names(self);
        names.iter().any(|name| defaults::BY_MODEL.contains(name))
    }

    /// What transactions are held to: what was asked for, or what the store promises.
    pub fn consistency(&self) -> ConsistencyModel {
        let promised = || self.store.as_ref().map(|store| store.target().promises());
        self.consistency.or_else(promised).unwrap_or_default()
    }

    fn validate_store(&self) -> Result<(), Impossible> {
        let impossible = |field: &str, message: String| {
            Err(Impossible {
                field: field.to_owned(),
                message,
            })
        };
        let external = self.substrate == On::External;
        if external {
            let external = self.external.clone().unwrap_or_default();
            external.validate()?;
            if external.nodes.len() != usize::from(self.nodes) {
                let named = external.nodes.len();
                let message = format!(
                    "expected {named}, as external.nodes names, not {}",
                    self.nodes
                );
                return impossible("nodes", message);
            }
        }
        let Some(store) = &self.store else {
            return Ok(());
        };
        store.validate()?;
        let running = |kubernetes: &Kubernetes| kubernetes.statefulset.is_some();
        match (self.substrate, store.target().recipe()) {
            (On::External, _) => {}
            (On::K8s, _) if self.kubernetes.as_ref().is_some_and(running) => {}
            (On::K8s, _) => {
                let message = "expected kubernetes.statefulset (--statefulset SELECTOR --port PORT): on \
                               Kubernetes this store is not started, but found";
                return impossible("substrate", message.to_owned());
            }
            (On::Netns, Some(recipe)) => {
                if let Err(why) = recipe.find().and_then(|_| store.target().startable()) {
                    return impossible("store", why);
                }
            }
            (_, Some(_)) => {
                let message = "expected netns, external with --nodes host:port,…, or k8s with \
                               --statefulset SELECTOR, for this store";
                return impossible("substrate", message.to_owned());
            }
            (_, None) => {
                let message = "expected external (--nodes host:port,…) or k8s (--statefulset SELECTOR): \
                               how to start it is not known";
                return impossible("substrate", message.to_owned());
            }
        }
        let needed = self.workload.operations(&self.parameters);
        match needed.into_iter().find(|f| !store.target().has(f)) {
            None => Ok(()),
            Some(lacking) => {
                let message = format!(
                    "{} has no {lacking}, which {} needs",
                    store.name(),
                    self.workload
                );
                impossible("workload", message)
            }
        }
    }

    /// Whether it is another store than the reference store.
    pub fn is_foreign(&self) -> bool {
        self.store.is_some()
    }

    fn validate_faults(&self) -> Result<(), Impossible> {
        self.validate_budget()?;
        let capabilities = self.capabilities();
        if let Some(program) = &self.faults.schedule {
            if let Some((index, at)) = program.first_not_before(self.limits.time) {
                return Err(Impossible {
                    field: format!("faults.schedule[{index}].at"),
                    message: format!(
                        "{} is not before the end of the run at {} (limits.time)",
                        duration::format(at),
                        duration::format(self.limits.time)
                    ),
                });
            }
            return program
                .validate_among(self.nodes, self.all_nodes() - self.nodes, &capabilities)
                .map_err(|e| match e {
                    ScheduleError::Impossible { place, message } => Impossible {
                        field: format!("faults.schedule{place}"),
                        message,
                    },
                    other @ ScheduleError::Syntax(_) => Impossible {
                        field: "faults.schedule".to_owned(),
                        message: other.to_string(),
                    },
                });
        }
        for (i, name) in self.faults.packages.iter().enumerate() {
            package::select([name], self.nodes, &capabilities).map_err(|e| Impossible {
                field: format!("faults.packages[{i}]"),
                message: e.to_string(),
            })?;
        }
        Ok(())
    }

    fn validate_versions(&self) -> Result<(), Impossible> {
        let Some(versions) = &self.versions else {
            return Ok(());
        };
        versions
            .validate(self.substrate)
            .map_err(|(field, message)| Impossible {
                field: format!("versions.{field}"),
                message,
            })?;
        for (field, version) in [("from", &versions.from), ("to", &versions.to)] {
            if self.is_foreign() && version.storage.is_some() {
                return Err(Impossible {
                    field: format!("versions.{field}"),
                    message: format!(
                        "expected an image; storage formats are the reference store's, not {version}"
                    ),
                });
            }
        }
        Ok(())
    }

    fn validate_budget(&self) -> Result<(), Impossible> {
        let all = self.all_nodes();
        if let Some(most) = self.faults.hurt_at_most
            && !(1..=all).contains(&most)
        {
            return Err(Impossible {
                field: "faults.hurt_at_most".to_owned(),
                message: format!("expected 1 to {all} nodes, not {most}"),
            });
        }
        for (i, name) in self.faults.targets.iter().flatten().enumerate() {
            if parse_node(name).is_none_or(|node| node > all) {
                return Err(Impossible {
                    field: format!("faults.targets[{i}]"),
                    message: format!("expected a node from n1 to n{all}, not {name:?}"),
                });
            }
        }
        if self.faults.targets.as_ref().is_some_and(Vec::is_empty) {
            return Err(Impossible {
                field: "faults.targets".to_owned(),
                message: "expected at least one node; leave it out for all".to_owned(),
            });
        }
        Ok(())
    }

    /// How much of the cluster may be hurt.
    fn budget(&self) -> Budget {
        let targets = self.faults.targets.as_ref();
        Budget {
            hurt_at_most: self.faults.hurt_at_most,
            targets: targets.map(|names| names.iter().filter_map(|n| parse_node(n)).collect()),
        }
    }

    /// Why nobody is known to lead, of a store whose nodes do not say it here.
    fn silent_about_roles(&self) -> Option<&'static str> {
        let store = self.store.as_ref()?;
        match self.substrate {
            On::K8s | On::External => store.target().without_roles_elsewhere(),
            On::Sim | On::Local | On::Netns => store.target().without_roles(),
        }
    }

    /// Whether one of the nodes leads, and is known to.
    pub fn has_leader(&self) -> bool {
        match &self.store {
            Some(store) => store.target().has_leader() && self.silent_about_roles().is_none(),
            None => self.target.one_log(),
        }
    }

    /// The roles that no node ever has.
    fn without_roles(&self, here: Capabilities) -> Capabilities {
        let target = &self.target;
        let semi_sync = target.mode == Mode::SingleLeader && target.ack != Ack::Async;
        let without = |here: Capabilities, absent: bool, role, reason| {
            if absent {
                here.without_role(role, reason)
            } else {
                here
            }
        };
        if let Some(why) = self.silent_about_roles() {
            let roles = ["leader", "follower", "synchronous-standby", "gateway"];
            return (roles.into_iter()).fold(here, |here, role| without(here, true, role, why));
        }
        let leaderless = target.mode == Mode::Leaderless;
        let here = without(
            here,
            leaderless,
            "leader",
            "in a leaderless mode nobody leads",
        );
        let nobody_follows = leaderless || target.mode == Mode::MultiLeader;
        let here = without(
            here,
            nobody_follows,
            "follower",
            "in this mode nobody follows",
        );
        let here = without(
            here,
            !semi_sync,
            "synchronous-standby",
            "the leader waits for no follower; that is target.ack: semi-sync(k) or sync",
        );
        let gateways = target.gateways;
        without(
            here,
            gateways == 0,
            "gateway",
            "there is none; set target.gateways",
        )
    }

    /// What can and may be done: the kinds of faults that the substrate can inject and the mode of
    /// replication can suffer, the roles there are, and how many nodes may be hurt.
    pub fn capabilities(&self) -> Capabilities {
        use FaultKind::{AddMember, MoveHome, RemoveMember, ReplaceMember, TransferLeadership};
        let here = self.capabilities_of_substrate();
        let beyond_mode: &[_] = match self.target.mode {
            Mode::Raft => &[MoveHome],
            Mode::SingleLeader => &[MoveHome, AddMember, RemoveMember, ReplaceMember],
            Mode::MultiLeader => &[AddMember, RemoveMember, ReplaceMember, TransferLeadership],
            Mode::Leaderless => &[
                MoveHome,
                AddMember,
                RemoveMember,
                ReplaceMember,
                TransferLeadership,
            ],
        };
        let reason = "the mode does not know it";
        let here = beyond_mode
            .iter()
            .fold(here, |here, &kind| here.without(kind, reason));
        self.without_roles(here).within(self.budget())
    }

    /// The faults that can be injected where it runs, whatever the mode.
    pub fn capabilities_of_substrate(&self) -> Capabilities {
        match self.substrate {
            On::Sim => sim::capabilities(),
            On::Local | On::Netns => {
                let here = local::capabilities(self.substrate);
                let store = self.store.as_ref();
                store.map_or(here.clone(), |store| store.target().capabilities(here))
            }
            On::K8s => {
                let here = k8s::options::capabilities(&self.kubernetes.clone().unwrap_or_default());
                let recipe = self
                    .store
                    .as_ref()
                    .and_then(|store| store.target().recipe());
                match recipe {
                    Some(recipe) => recipe.capabilities_of_pods(here),
                    None => here,
                }
            }
            On::External => self.external.clone().unwrap_or_default().capabilities(),
        }
    }

    fn validate_conditions(&self) -> Result<(), Impossible> {
        let conditions = &self.simulation;
        for (field, share) in [
            ("drop", conditions.drop),
            ("duplicate", conditions.duplicate),
        ] {
            if !(0.0..1.0).contains(&share) {
                return Err(Impossible {
                    field: format!("simulation.{field}"),
                    message: format!("expected a share from 0 to below 1, not {share}"),
                });
            }
        }
        let limited = [
            ("latency_us", conditions.latency_us, 60_000_000),
            ("jitter_us", conditions.jitter_us, 60_000_000),
            ("fsync_us", conditions.fsync_us, 60_000_000),
            ("clock_offset_ms", conditions.clock_offset_ms, 86_400_000),
            (
                "clock_drift_ppm",
                u64::from(conditions.clock_drift_ppm),
                500_000,
            ),
        ];
        for (field, value, most) in limited {
            if value > most {
                return Err(Impossible {
                    field: format!("simulation.{field}"),
                    message: format!("expected at most {most}, not {value}"),
                });
            }
        }
        Ok(())
    }

    /// The same with everything written out that defaults left open, but for the seed.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        self.parameters = self.parameters.resolved(self.workload);
        if self.substrate == On::K8s {
            self.kubernetes.get_or_insert_default();
        }
        if self.checks.is_empty() {
            let checks = defaults::checks(&self);
            self.checks = checks.into_iter().map(str::to_owned).collect();
        }
        if self.has_isolation() {
            self.consistency = Some(self.consistency());
        }
        self
    }

    /// Number of client threads.
    pub fn threads(&self) -> u32 {
        match self.clients.concurrency {
            Concurrency::Fixed(n) => n,
            Concurrency::PerNode(each) => each.saturating_mul(u32::from(self.nodes)),
        }
    }

    /// Number of all nodes: the replicas, then gateways and the monitor.
    pub fn all_nodes(&self) -> u16 {
        self.nodes + self.target.auxiliaries() as u16
    }

    /// The mode in one word: `async`, `semi-sync(1)`, `sync`, `raft`; `unknown` of a store that is
    /// not ours.
    pub fn mode(&self) -> String {
        if let Some(store) = &self.store {
            return store.target().mode();
        }
        mode::name(&self.target)
    }

    /// The store in a few words.
    pub fn target_name(&self) -> &str {
        self.store.as_ref().map_or("reference", Store::name)
    }

    /// The whole experiment as YAML, defaults written out.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("an experiment has only plain fields")
    }
}

/// Parses YAML into a type; an error names file, line and field.
///
/// # Errors
/// See [`ExperimentError`].
pub fn parse_yaml<T: for<'a> Deserialize<'a>>(
    text: &str,
    file: &str,
) -> Result<T, ExperimentError> {
    serde_yaml::from_str(text).map_err(|e| {
        let message = e.to_string();
        match e.location() {
            Some(at) => {
                let tail = format!(" at line {} column {}", at.line(), at.column());
                let message = in_words(message.strip_suffix(&tail).unwrap_or(&message));
                ExperimentError(format!("{file}:{}: {message}", at.line()))
            }
            None => ExperimentError(format!("{file}: {message}")),
        }
    })
}

/// Rust's names of types in words that mean something to whoever wrote the file.
fn in_words(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "f64" => "a number",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        _ if expected.starts_with("struct ") => "fields, each with its value",
        other => other,
    };
    format!("{before}, expected {expected}")
}

/// Puts an impossible value into one line that names the place in the file it came from.
pub fn explain(impossible: &Impossible, file: &str, text: Option<&str>) -> ExperimentError {
    let Impossible { field, message } = impossible;
    match text.and_then(|t| line_of(t, field)) {
        Some(line) => ExperimentError(format!("{file}:{line}: {field}: {message}")),
        None => ExperimentError(format!("{field}: {message}")),
    }
}
