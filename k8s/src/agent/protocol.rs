//! What the harness and the agents say to each other, in one Lease a fault.
//!
//! | field of the Lease | who writes | what |
//! | --- | --- | --- |
//! | label [`FAULT`], label [`RUN`](crate::names::RUN) | harness | which fault of which run |
//! | annotation [`ORDER`] | harness, once | an [`Order`]: what, to which pods |
//! | `spec.renewTime` | harness, every second | that it is still there |
//! | annotation [`RELEASE`] | harness, once | that it is over: heal |
//! | annotation `quorate.dev/proof.NODE` | the agent on NODE | a [`Report`]: what it has seen on its own pods |
//!
//! Every writer patches its own fields and no others, so that no write is ever in conflict.
//! Deleting the Lease heals, too, but then nobody reads the proof of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::coordination::v1::Lease;
use nemesis::{ClockFault, Impairment};
use serde::{Deserialize, Serialize};

/// The label that says which fault of a run a Lease is; agents look at no others.
pub const FAULT: &str = "quorate.dev/fault";
/// The annotation with the [`Order`].
pub const ORDER: &str = "quorate.dev/order";
/// The annotation that asks for healing; see [`Release`].
pub const RELEASE: &str = "quorate.dev/release";
/// Begins the annotation with a node's [`Report`]; the node's name follows.
const PROOF: &str = "quorate.dev/proof.";
/// The version of this protocol: an agent refuses what it does not know.
pub const VERSION: u32 = 1;
/// How long a fault stands without a sign of life of its owner.
pub const DURATION_S: i32 = 5;
/// The longest name that Kubernetes lets an annotation have, after the `/`.
const NAME_MAX: usize = 63;

/// What is to be done, to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// [`VERSION`].
    pub version: u32,
    /// What.
    pub what: What,
    /// The pods that it is about, on whichever nodes; agents do their part on their own.
    pub pods: Vec<Target>,
    /// The links between them, for faults of links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Path>,
    /// Where the pods listen.
    pub port: u16,
    /// By which mechanism, where one is demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

impl Order {
    /// Whether clients are in a pod that the order names, as node 0; else they come from outside of
    /// the cluster.
    pub fn clients_are_a_pod(&self) -> bool {
        self.pods.iter().any(|pod| pod.node == 0)
    }
}

/// The kinds of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Do nothing; say whether the pods might be hurt, and by what.
    Check,
    /// Do nothing; say whether the clocks of the containers can be made wrong.
    CheckClock,
    /// End all processes of the containers, as `SIGKILL` does. The kubelet starts them anew.
    Kill,
    /// Stop all processes of the containers.
    Pause,
    /// Let nothing through the links.
    Cut,
    /// Impair what goes through the links.
    Impair(Impaired),
    /// Let each container have so many percent of one processor.
    Cpu(u8),
    /// Let each container have so many MiB of memory.
    Memory(u64),
    /// Let each container read so many KiB/s from the disk of its data, and write as many to it.
    ThrottleDisk(u64),
    /// Make the clock of each container wrong.
    Clock(Clock),
}

impl What {
    /// Whether it is done to links rather than to containers.
    pub fn is_of_links(self) -> bool {
        matches!(self, Self::Cut | Self::Impair(_))
    }
}

/// See [`ClockFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "they are those of ClockFault")]
pub enum Clock {
    Jump { by_ms: i64 },
    Drift { ppm: i64 },
    Strobe { by_ms: i64, every_ms: u64 },
}

impl From<ClockFault> for Clock {
    fn from(from: ClockFault) -> Self {
        match from {
            ClockFault::Jump(by_ms) => Self::Jump { by_ms },
            ClockFault::Drift(ppm) => Self::Drift { ppm },
            ClockFault::Strobe { by_ms, every_ms } => Self::Strobe { by_ms, every_ms },
        }
    }
}

impl From<Clock> for ClockFault {
    fn from(from: Clock) -> Self {
        match from {
            Clock::Jump { by_ms } => Self::Jump(by_ms),
            Clock::Drift { ppm } => Self::Drift(ppm),
            Clock::Strobe { by_ms, every_ms } => Self::Strobe { by_ms, every_ms },
        }
    }
}

/// See [`Impairment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "they are those of Impairment")]
pub struct Impaired {
    pub latency_ms: u64,
    pub jitter_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_kib_s: Option<u64>,
    pub loss_percent: u8,
    pub reorder_percent: u8,
    pub duplicate_percent: u8,
}

impl From<Impairment> for Impaired {
    fn from(from: Impairment) -> Self {
        let Impairment {
            latency_ms,
            jitter_ms,
            bandwidth_kib_s,
            loss_percent,
            reorder_percent,
            duplicate_percent,
        } = from;
        Self {
            latency_ms,
            jitter_ms,
            bandwidth_kib_s,
            loss_percent,
            reorder_percent,
            duplicate_percent,
        }
    }
}

impl From<Impaired> for Impairment {
    fn from(from: Impaired) -> Self {
        let Impaired {
            latency_ms,
            jitter_ms,
            bandwidth_kib_s,
            loss_percent,
            reorder_percent,
            duplicate_percent,
        } = from;
        Self {
            latency_ms,
            jitter_ms,
            bandwidth_kib_s,
            loss_percent,
            reorder_percent,
            duplicate_percent,
        }
    }
}

/// A pod that an order is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The store's name for it: 1 is n1; 0 is the pod that the clients are in.
    pub node: u16,
    /// The pod's name.
    pub pod: String,
    /// Its uid: a successor of the same name is another.
    pub uid: String,
    /// The container that is the node.
    pub container: String,
    /// The Kubernetes node that it runs on.
    pub on: String,
    /// Its address within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
}

/// A directed link between two pods of an order; from 0 is from the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Where packets come from.
    pub from: u16,
    /// Where they go.
    pub to: u16,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from {
            0 => write!(f, "clients→n{}", self.to),
            from => write!(f, "n{from}→n{}", self.to),
        }
    }
}

/// How healing is to be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// No other fault stands: what was hurt must work again.
    Alone,
    /// Others stand, which may keep it from working.
    BesideOthers,
}

impl Release {
    /// As the annotation says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::BesideOthers => "beside-others",
        }
    }

    /// What a Lease asks for. Whatever cannot be read asks for healing all the same.
    pub fn of(lease: &Lease) -> Option<Self> {
        let text = annotations(lease)?.get(RELEASE)?;
        Some(match text.as_str() {
            "alone" => Self::Alone,
            _ => Self::BesideOthers,
        })
    }
}

/// How far an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has read the order, and has begun or is about to. Written before anything is done: an
    /// agent that may not write does nothing.
    Taken,
    /// It will not do it.
    Refused,
    /// It was done and seen to work.
    Seen,
    /// It was tried and not seen to work. What was done of it stands until it is healed.
    NotSeen,
    /// It has ended before anybody asked for that.
    Faded,
    /// It is undone, and seen to be.
    Healed,
    /// It is not undone, or not seen to be; the agent goes on trying.
    NotHealed,
}

/// What an agent has seen on its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How far it is.
    pub state: State,
    /// What was seen, in a few words.
    pub text: String,
}

impl Report {
    /// A report.
    pub fn new(state: State, text: impl Into<String>) -> Self {
        Self {
            state,
            text: text.into(),
        }
    }
}

/// The annotation in which the agent of this node reports. A name too long for Kubernetes is
/// shortened, and told apart by a hash.
pub fn proof_key(node: &str) -> String {
    let room = NAME_MAX - (PROOF.len() - PROOF.find('/').unwrap_or(0) - 1);
    if node.len() <= room {
        return format!("{PROOF}{node}");
    }
    let hash = crate::store::hash(node);
    let head = node.get(..room - hash.len() - 1).unwrap_or_default();
    format!("{PROOF}{head}-{hash}")
}

fn annotations(lease: &Lease) -> Option<&BTreeMap<String, String>> {
    lease.metadata.annotations.as_ref()
}

/// What the agent of this node last reported.
pub fn report(lease: &Lease, node: &str) -> Option<Report> {
    let text = annotations(lease)?.get(&proof_key(node))?;
    serde_json::from_str(text).ok()
}

/// The order of a Lease.
///
/// # Errors
/// Why there is none that can be understood.
pub fn order(lease: &Lease) -> Result<Order, String> {
    let text = annotations(lease)
        .and_then(|all| all.get(ORDER))
        .ok_or("the Lease has no order")?;
    // Read first by itself: a later version may have fields that this one does not know.
    let version = serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|order| order["version"].as_u64());
    if version != Some(u64::from(VERSION)) {
        return Err(format!(
            "the order is of version {}, this agent is of {VERSION}; run both from one image",
            version.map_or_else(|| "unknown".to_owned(), |version| version.to_string())
        ));
    }
    serde_json::from_str(text).map_err(|error| format!("the order cannot be read: {error}"))
}

/// When a Lease was last renewed, by its owner's clock: only whether it changes means anything.
pub fn renewed(lease: &Lease) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    Some(spec.renew_time.as_ref()?.0.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(annotations: &serde_json::Value) -> Lease {
        serde_json::from_value(json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"annotations": annotations},
            "spec": {"renewTime": "2030-01-01T00:00:00.000001Z"},
        }))
        .unwrap()
    }

    fn target(node: u16) -> Target {
        Target {
            node,
            pod: format!("s-{}", node - 1),
            uid: format!("u{node}"),
            container: "node".to_owned(),
            on: "worker".to_owned(),
            ip: Some([10, 0, 0, 1].into()),
        }
    }

    #[test]
    fn orders_survive_the_way_there() {
        let impaired = Impaired::from(Impairment {
            latency_ms: 20,
            bandwidth_kib_s: Some(64),
            ..Impairment::default()
        });
        for what in [
            What::Check,
            What::Kill,
            What::Pause,
            What::Cut,
            What::Impair(impaired),
            What::Cpu(20),
            What::Memory(64),
            What::ThrottleDisk(64),
            What::CheckClock,
            What::Clock(ClockFault::Jump(-5_000).into()),
            What::Clock(ClockFault::Drift(200).into()),
            What::Clock(
                ClockFault::Strobe {
                    by_ms: 1_000,
                    every_ms: 100,
                }
                .into(),
            ),
        ] {
            let sent = Order {
                version: VERSION,
                what,
                pods: vec![target(1), target(2)],
                links: vec![Path { from: 0, to: 2 }],
                port: 7100,
                via: Some("queue".to_owned()),
            };
            let text = serde_json::to_string(&sent).unwrap();
            assert_eq!(order(&lease(&json!({ORDER: text}))), Ok(sent));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_reason() {
        for (text, says) in [
            ("", "unknown"),
            ("{}", "unknown"),
            (r#"{"version":2}"#, "version 2"),
            (r#"{"version":1,"what":"burn","pods":[],"port":1}"#, "burn"),
            (
                r#"{"version":1,"what":"kill","pods":[],"port":1,"x":1}"#,
                "`x`",
            ),
        ] {
            let error = order(&lease(&json!({ORDER: text}))).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(order(&lease(&json!({}))).is_err());
    }

    #[test]
    fn each_node_reports_under_its_own_name() {
        let long = |end: &str| format!("{}{end}", "ip-192-168-100-100.eu-central-1.".repeat(3));
        let names = ["n1", "n11", &long("a"), &long("b")].map(proof_key);
        for (i, name) in names.iter().enumerate() {
            let (prefix, rest) = name.split_once('/').unwrap();
            assert_eq!(prefix, "quorate.dev");
            assert!(
                rest.len() <= NAME_MAX && rest.starts_with("proof."),
                "{rest}"
            );
            assert!(!names[..i].contains(name));
        }
        let text = serde_json::to_string(&Report::new(State::NotSeen, "why")).unwrap();
        let lease = lease(&json!({proof_key("n1"): text}));
        assert_eq!(
            report(&lease, "n1"),
            Some(Report::new(State::NotSeen, "why"))
        );
        assert_eq!(report(&lease, "n11"), None);
    }

    #[test]
    fn a_release_that_cannot_be_read_heals() {
        let of = |text: &str| Release::of(&lease(&json!({RELEASE: text})));
        assert_eq!(of(Release::Alone.as_str()), Some(Release::Alone));
        assert_eq!(of(""), Some(Release::BesideOthers));
        assert_eq!(Release::of(&lease(&json!({}))), None);
        assert!(renewed(&lease(&json!({}))).is_some());
    }
}
