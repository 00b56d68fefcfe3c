//! What an experiment says about Kubernetes; known also where the substrate itself is not built in,
//! so that a file means the same everywhere.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use nemesis::{Capabilities, Fault, FaultKind, LinkSet, Shape, package};
use serde::{Deserialize, Serialize};

use crate::experiment::{Experiment, Impossible};

/// Where and how the store runs on Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// The namespace; it must carry the label `quorate.dev/faults=allowed`.
    pub namespace: String,
    /// The image of the nodes; by default the one last brought up in the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A store that runs already, instead of one of the run's own. The experiment's `store` says how
    /// clients speak to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<Existing>,
    /// Where nodes keep their journals.
    pub storage: Storage,
    /// The class of volumes; by default the cluster's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Size of each volume.
    pub volume_mib: u32,
    /// Where a run in a Job leaves what it found.
    #[serde(skip_serializing_if = "Results::is_default")]
    pub results: Results,
    /// The Secret of the namespace whose entries are the environment of a run in a Job, such as the
    /// password of a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Have the agents on the nodes do what the API server cannot; `quorate k8s agent up` starts
    /// them.
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
    /// The clocks of nodes can be made wrong, by agents: the run's own store is started with
    /// libfaketime, and one that runs already was.
    #[serde(skip_serializing_if = "is_false")]
    pub clocks: bool,
    /// How long the pods may take until all are ready, in seconds.
    pub ready_within_s: u64,
    /// The run's name, which its store has, too; drawn if absent. Not of the file: no two runs have
    /// the same.
    #[serde(skip)]
    pub run: Option<String>,
}

/// A store that runs already, as a StatefulSet. It is neither made nor removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Existing {
    /// The selector of its pods, e.g. `app=store`.
    pub selector: String,
    /// The port that they serve clients at.
    pub port: u16,
    /// The container that is the node; by default the first of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Test a throw-away copy of it instead, in a namespace of its own: nothing is done to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where nodes keep their journals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// In a volume for each node: what a pod has written outlives it.
    #[default]
    Volumes,
    /// In the pod: what it has written goes with it.
    EmptyDir,
}

impl Kubernetes {
    /// Whether the store is the run's own, a copy or not: the run has made it, and removes it.
    pub fn is_own(&self) -> bool {
        self.statefulset
            .as_ref()
            .is_none_or(|existing| existing.copy)
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            namespace: "quorate".to_owned(),
            image: None,
            statefulset: None,
            storage: Storage::default(),
            storage_class: None,
            volume_mib: 256,
            results: Results::default(),
            secret: None,
            agent: false,
            clocks: false,
            ready_within_s: 120,
            run: None,
        }
    }
}

/// Where a run in a Job leaves what it found. Written `config-map`, `pvc` or `pvc:CLAIM`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Results {
    /// In `ConfigMap`s, which go with the Job.
    #[default]
    ConfigMap,
    /// In the volume of this claim, which stays.
    Claim(String),
}

impl Results {
    /// The claim that is meant if none is named; it is made where it is missing.
    pub const CLAIM: &str = "quorate-results";

    fn is_default(&self) -> bool {
        *self == Self::ConfigMap
    }

    /// The claim, if it is one.
    pub fn claim(&self) -> Option<&str> {
        match self {
            Self::ConfigMap => None,
            Self::Claim(name) => Some(name),
        }
    }
}

impl FromStr for Results {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text.split_once(':') {
            None if text == "config-map" => return Ok(Self::ConfigMap),
            None if text == "pvc" => Self::CLAIM,
            Some(("pvc", name)) => name,
            _ => "",
        };
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.len() > 253
            || !name.chars().all(inner)
            || !name.starts_with(ends)
            || !name.ends_with(ends)
        {
            return Err(format!(
                "expected config-map, pvc, or pvc:CLAIM with the name of a PersistentVolumeClaim, not {text:?}"
            ));
        }
        Ok(Self::Claim(name.to_owned()))
    }
}

impl TryFrom<String> for Results {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap => f.write_str("config-map"),
            Self::Claim(name) if name == Self::CLAIM => f.write_str("pvc"),
            Self::Claim(name) => write!(f, "pvc:{name}"),
        }
    }
}

impl From<Results> for String {
    fn from(results: Results) -> Self {
        results.to_string()
    }
}

/// Flags for `--on k8s` and `quorate k8s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// The namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The image of the nodes; by default the one last brought up in the namespace.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Where nodes keep their journals: volumes, or empty-dir (a deleted pod loses it).
    #[arg(long, value_enum, value_name = "STORAGE")]
    pub storage: Option<Storage>,
    /// The class of volumes; by default the cluster's own.
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
    /// Test the pods of this selector, which run already as one StatefulSet, instead of a store of
    /// the run's own; --target says how clients speak to it.
    #[arg(long, value_name = "SELECTOR", requires = "port")]
    pub statefulset: Option<String>,
    /// The port that they serve clients at.
    #[arg(long, value_name = "PORT", requires = "statefulset")]
    pub port: Option<u16>,
    /// With --in-cluster: the Secret of the namespace whose entries are the environment of the Job, as
    /// for password-env of a store.
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,
    /// Let the agents on the nodes do what the API server cannot: pause, cut off, slow down.
    #[arg(long)]
    pub agent: bool,
    /// Let the clocks of nodes be such that agents can make them wrong: nodes are started with
    /// libfaketime, which their image must have. Those of --statefulset must be already.
    #[arg(long)]
    pub clocks: bool,
}

impl KubernetesArgs {
    /// Puts the flags over what a file says.
    pub fn apply(&self, to: &mut Option<Kubernetes>) {
        if *self == Self::default() {
            return;
        }
        let to = to.get_or_insert_default();
        if let Some(namespace) = &self.namespace {
            to.namespace.clone_from(namespace);
        }
        if let Some(storage) = self.storage {
            to.storage = storage;
        }
        to.agent |= self.agent;
        to.clocks |= self.clocks;
        if let (Some(selector), Some(port)) = (&self.statefulset, self.port) {
            to.statefulset = Some(Existing {
                selector: selector.clone(),
                port,
                container: None,
                copy: false,
            });
        }
        if self.secret.is_some() {
            to.secret.clone_from(&self.secret);
        }
        if self.image.is_some() {
            to.image.clone_from(&self.image);
        }
        if self.storage_class.is_some() {
            to.storage_class.clone_from(&self.storage_class);
        }
    }
}

/// What agents on the nodes of the cluster can do.
const BY_AGENT: [FaultKind; 12] = [
    FaultKind::Pause,
    FaultKind::Partition,
    FaultKind::Slow,
    FaultKind::Loss,
    FaultKind::Reorder,
    FaultKind::Duplicate,
    FaultKind::Cpu,
    FaultKind::Memory,
    FaultKind::ThrottleDisk,
    FaultKind::ClockJump,
    FaultKind::ClockDrift,
    FaultKind::ClockStrobe,
];

/// What can be done to pods: by the API, and by agents where the experiment wants them.
pub fn capabilities(kubernetes: &Kubernetes) -> Capabilities {
    use FaultKind as K;
    FaultKind::ALL
        .into_iter()
        .fold(Capabilities::all().rolled_from_the_last(), |all, kind| {
            match (kind, kubernetes.storage) {
                (K::Kill, Storage::Volumes)
                | (K::Wipe, Storage::EmptyDir)
                | (K::Drain | K::Scale | K::RollingRestart | K::NoEndpoints, _) => all,
                (K::Upgrade | K::Downgrade, _) if kubernetes.is_own() => all,
                (K::Upgrade | K::Downgrade, _) => all.without(
                    kind,
                    "only a store of the run's own is given another version, or a copy (copy: true)",
                ),
                // An agent ends the container: what is in the pod stays.
                (K::Kill, Storage::EmptyDir) if kubernetes.agent => all,
                (K::ClockJump | K::ClockDrift | K::ClockStrobe, _) if !kubernetes.clocks => all.without(
                    kind,
                    "a pod has the clock of its Kubernetes node, unless it is started with libfaketime: --clocks (with --agent) has it so",
                ),
                (kind, _) if BY_AGENT.contains(&kind) => {
                    if kubernetes.agent {
                        all
                    } else {
                        all.without(
                            kind,
                            "it takes an agent on each node: `quorate k8s agent up` starts them, --agent uses them",
                        )
                    }
                }
                (K::Kill, Storage::EmptyDir) => all.without(
                    kind,
                    "a deleted pod loses its emptyDir, which is `wipe`; use storage: volumes",
                ),
                (K::Wipe, Storage::Volumes) => all.without(
                    kind,
                    "a volume outlives its pod, which makes it `kill`; use storage: empty-dir",
                ),
                _ => all.without(kind, "it is not known on Kubernetes yet"),
            }
        })
}

/// Every fault that an experiment may do: of its schedule, or else of its packages.
pub fn faults_of(experiment: &Experiment) -> Vec<Fault> {
    let capabilities = experiment.capabilities();
    match &experiment.faults.schedule {
        Some(program) => program.faults(experiment.nodes, &capabilities),
        None => package::select(&experiment.faults.packages, experiment.nodes, &capabilities)
            .map(|packages| packages.iter().flat_map(|one| one.faults()).collect())
            .unwrap_or_default(),
    }
}

/// Whether a fault changes the links of clients, and whether it cuts them (which is possible wherever
/// they are).
fn of_clients(fault: &Fault) -> Option<bool> {
    let impaired = |links: LinkSet| (links != LinkSet::Peers).then_some(false);
    match fault {
        Fault::Partition(Shape::Clients) => Some(true),
        Fault::Slow { links, .. } => impaired(*links),
        Fault::Loss(one) | Fault::Reorder(one) | Fault::Duplicate(one) => impaired(one.links),
        _ => None,
    }
}

/// Whether agents have to change the links of clients.
pub fn changes_client_links(experiment: &Experiment) -> bool {
    faults_of(experiment)
        .iter()
        .any(|fault| of_clients(fault).is_some())
}

/// Refuses faults that cannot be done to clients that are not in the cluster (`inside`).
///
/// # Errors
/// The field, and the way out.
pub fn refuse_client_links(experiment: &Experiment, inside: bool) -> Result<(), Impossible> {
    let faults = faults_of(experiment);
    let impossible = faults.iter().find(|fault| of_clients(fault) == Some(false));
    match impossible {
        Some(fault) if !inside => Err(Impossible {
            field: "faults.schedule".to_owned(),
            message: format!(
                "{} on links of clients is done to clients in the cluster only (--in-cluster): from \
                 outside they come through the kubelet and the pod's loopback, whose packets cannot be \
                 impaired; leave out `links`, or say `links: peers`",
                fault.kind().name()
            ),
        }),
        _ => Ok(()),
    }
}

/// Chooses the faults of an experiment that names none: those of its mode that pods can suffer.
pub fn choose_faults(experiment: &mut Experiment) {
    let led = experiment.has_leader();
    let here = experiment.capabilities_of_substrate();
    let name = if here.has(FaultKind::Wipe) {
        if led { "wipe-follower" } else { "wipe" }
    } else if here.has(FaultKind::Kill) {
        if led { "kill-leader" } else { "kill" }
    } else {
        "none"
    };
    experiment.faults.packages = vec![name.to_owned()];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::On;

    #[test]
    fn a_pod_that_loses_its_data_is_wiped_and_not_killed() {
        use FaultKind as K;
        for (storage, can, cannot) in [
            (Storage::Volumes, FaultKind::Kill, FaultKind::Wipe),
            (Storage::EmptyDir, FaultKind::Wipe, FaultKind::Kill),
        ] {
            let kubernetes = Kubernetes {
                storage,
                ..Kubernetes::default()
            };
            let here = capabilities(&kubernetes);
            assert!(here.has(can));
            assert!(here.obstacle(cannot).unwrap().contains(can.name()));
            let known = FaultKind::ALL.into_iter().filter(|kind| here.has(*kind));
            let always = [K::Upgrade, K::Downgrade, K::Drain, K::Scale];
            let mut all = vec![can, K::RollingRestart, K::NoEndpoints];
            all.extend(always);
            all.sort_unstable();
            let mut known: Vec<_> = known.collect();
            known.sort_unstable();
            assert_eq!(known, all);
        }
    }

    #[test]
    fn clocks_are_made_wrong_where_agents_and_libfaketime_are() {
        for (agent, clocks, says) in [
            (false, false, Some("--clocks")),
            (true, false, Some("--clocks")),
            (false, true, Some("--agent")),
            (true, true, None),
        ] {
            let kubernetes = Kubernetes {
                agent,
                clocks,
                ..Kubernetes::default()
            };
            let here = capabilities(&kubernetes);
            for kind in [
                FaultKind::ClockJump,
                FaultKind::ClockDrift,
                FaultKind::ClockStrobe,
            ] {
                let obstacle = here.obstacle(kind);
                assert_eq!(obstacle.is_none(), says.is_none());
                let obstacle = obstacle.unwrap_or_default();
                assert!(obstacle.contains(says.unwrap_or_default()), "{obstacle}");
            }
        }
    }

    #[test]
    fn results_are_read_as_they_are_written() {
        for (text, claim) in [
            ("config-map", None),
            ("pvc", Some(Results::CLAIM)),
            ("pvc:my-claim.1", Some("my-claim.1")),
        ] {
            let results: Results = text.parse().unwrap();
            assert_eq!(results.claim(), claim);
            assert_eq!(results.to_string(), text);
        }
        for bad in [
            "",
            "pvc:",
            "pvc:-a",
            "pvc:A",
            "claim",
            "pvc:../x",
            "hostPath:/",
        ] {
            assert!(bad.parse::<Results>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_to_clients_outside_is_refused_with_the_way_out() {
        let of = |fault: &str| {
            let text = format!(
                "substrate: k8s\nkubernetes: {{agent: true}}\nfaults:\n  schedule: [{{at: 1s, for: 1s, \
                 target: n1, {fault}}}]\n"
            );
            let experiment = Experiment::parse(&text, "x").unwrap();
            experiment.validate().unwrap();
            experiment
        };
        for (fault, changes, impossible) in [
            ("fault: loss, percent: 10%, links: clients", true, true),
            ("fault: slow, latency: 20ms, links: all", true, true),
            ("fault: slow, latency: 20ms", false, false),
            ("fault: partition, shape: clients", true, false),
            ("fault: pause", false, false),
        ] {
            let experiment = of(fault);
            assert_eq!(changes_client_links(&experiment), changes, "{fault}");
            assert_eq!(refuse_client_links(&experiment, true), Ok(()));
            let outside = refuse_client_links(&experiment, false);
            assert_eq!(outside.is_err(), impossible, "{fault}");
            if let Err(error) = outside {
                assert!(error.message.contains("--in-cluster"), "{}", error.message);
            }
        }
    }

    #[test]
    fn the_faults_chosen_are_possible() {
        for storage in [Storage::Volumes, Storage::EmptyDir] {
            for mode in ["async", "raft", "multi-leader-crdt"] {
                let mut experiment = Experiment {
                    substrate: On::K8s,
                    kubernetes: Some(Kubernetes {
                        storage,
                        ..Kubernetes::default()
                    }),
                    ..Experiment::default()
                };
                crate::mode::set(&mut experiment.target, mode).unwrap();
                crate::defaults::choose(&mut experiment, crate::defaults::Given::default());
                choose_faults(&mut experiment);
                experiment.validate().unwrap();
            }
        }
    }
}
