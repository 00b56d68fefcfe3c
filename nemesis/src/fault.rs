//! The kinds of faults, their parameters, and which of them a substrate can do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Node;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// End processes and start them again.
    Kill,
    /// The same, with everything not synced to disk lost.
    PowerLoss,
    /// Stop processes and continue them.
    Pause,
    /// Let nothing through some links.
    Partition,
    /// Delay or throttle some links.
    Slow,
    /// End processes, delete their data, and start them on nothing.
    Wipe,
    /// Start processes again with a newer version of the storage format.
    Upgrade,
    /// Give the keys of one node another home (multi-leader).
    MoveHome,
    /// Let a node join (raft).
    AddMember,
    /// Let a node leave (raft).
    RemoveMember,
    /// Let a node leave, and another join in its place (raft).
    ReplaceMember,
    /// Let another node lead (raft, single-leader).
    TransferLeadership,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Pause,
        Self::Partition,
        Self::Slow,
        Self::Wipe,
        Self::Upgrade,
        Self::MoveHome,
        Self::AddMember,
        Self::RemoveMember,
        Self::ReplaceMember,
        Self::TransferLeadership,
    ];

    /// The name used in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Slow => "slow",
            Self::Wipe => "wipe",
            Self::Upgrade => "upgrade",
            Self::MoveHome => "move-home",
            Self::AddMember => "add-member",
            Self::RemoveMember => "remove-member",
            Self::ReplaceMember => "replace-member",
            Self::TransferLeadership => "transfer-leadership",
        }
    }
}

/// A fault with its parameters; whom it hits is a matter of the selector beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// See [`FaultKind::Kill`].
    Kill,
    /// See [`FaultKind::PowerLoss`].
    PowerLoss,
    /// See [`FaultKind::Pause`].
    Pause,
    /// See [`FaultKind::Partition`].
    Partition(Shape),
    /// See [`FaultKind::Slow`].
    Slow {
        /// Which links of the target.
        links: LinkSet,
        /// Added one-way delay, in whole milliseconds.
        latency: Duration,
        /// The most that goes through one link; `None` is unlimited.
        bandwidth: Option<Bandwidth>,
    },
    /// See [`FaultKind::Wipe`].
    Wipe,
    /// See [`FaultKind::Upgrade`].
    Upgrade,
    /// See [`FaultKind::MoveHome`]: the keys of the target.
    MoveHome {
        /// Where to; drawn if absent.
        to: Option<Node>,
    },
    /// See [`FaultKind::AddMember`].
    AddMember,
    /// See [`FaultKind::RemoveMember`].
    RemoveMember,
    /// See [`FaultKind::ReplaceMember`]: the target leaves.
    ReplaceMember {
        /// Who joins in its place.
        by: Node,
    },
    /// See [`FaultKind::TransferLeadership`]: the target is to lead.
    TransferLeadership,
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Kill => FaultKind::Kill,
            Self::PowerLoss => FaultKind::PowerLoss,
            Self::Pause => FaultKind::Pause,
            Self::Partition(_) => FaultKind::Partition,
            Self::Slow { .. } => FaultKind::Slow,
            Self::Wipe => FaultKind::Wipe,
            Self::Upgrade => FaultKind::Upgrade,
            Self::MoveHome { .. } => FaultKind::MoveHome,
            Self::AddMember => FaultKind::AddMember,
            Self::RemoveMember => FaultKind::RemoveMember,
            Self::ReplaceMember { .. } => FaultKind::ReplaceMember,
            Self::TransferLeadership => FaultKind::TransferLeadership,
        }
    }
}

impl Fault {
    /// Whether its target is one of those that take part already.
    pub(crate) fn is_of_members(&self) -> bool {
        matches!(
            self,
            Self::RemoveMember | Self::ReplaceMember { .. } | Self::TransferLeadership
        )
    }
}

/// How a partition divides the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The target, which stays together, is cut from all other replicas, both ways. Clients still
    /// reach it.
    Isolate,
    /// Two halves (as equal as can be), the target in the first, which is the smaller one.
    Halves,
    /// Two halves, and one node, the target, that talks to both.
    Bridge,
    /// Each node sees a majority, no two the same one.
    MajoritiesRing,
    /// What the target sends to, or receives from, other replicas is lost.
    OneWay(Direction),
    /// Clients are cut from the target; replicas are not.
    Clients,
}

impl Shape {
    /// The name used in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolate => "isolate",
            Self::Halves => "halves",
            Self::Bridge => "bridge",
            Self::MajoritiesRing => "majorities-ring",
            Self::OneWay(_) => "one-way",
            Self::Clients => "clients",
        }
    }

    /// Whether the shape is drawn over all nodes in some order, with the target optional.
    pub fn ordered(self) -> bool {
        matches!(self, Self::Halves | Self::Bridge | Self::MajoritiesRing)
    }
}

/// Which messages a one-way partition loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Those that the target sends.
    Out,
    /// Those sent to the target.
    In,
}

/// Which links of its target a slow-down touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkSet {
    /// Those to and from other replicas.
    #[default]
    Peers,
    /// Those from clients.
    Clients,
    /// Both.
    All,
}

impl LinkSet {
    /// The name used in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Clients => "clients",
            Self::All => "all",
        }
    }
}

/// A rate in KiB/s; written `64KiB/s` or `2MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// How many KiB a second, from 1.
    pub kib_s: u64,
}

/// A text that is no bandwidth.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no bandwidth; expected one such as 64KiB/s or 2MiB/s, from 1KiB/s")]
pub struct BandwidthError {
    /// What was written.
    pub text: String,
}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, BandwidthError> {
        let parse = || {
            let (digits, factor) = match text.strip_suffix("KiB/s") {
                Some(digits) => (digits, 1),
                None => (text.strip_suffix("MiB/s")?, 1024),
            };
            let number: u64 = digits.trim_end().parse().ok()?;
            number.checked_mul(factor).filter(|&kib_s| kib_s > 0)
        };
        parse()
            .map(|kib_s| Self { kib_s })
            .ok_or_else(|| BandwidthError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}KiB/s", self.kib_s)
    }
}

impl Serialize for Bandwidth {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::wire::from_text(deserializer, "a bandwidth such as 64KiB/s or 2MiB/s")
    }
}

/// The kinds of faults that a substrate can inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<FaultKind>);

impl Capabilities {
    /// Every kind, as in simulation.
    pub fn all() -> Self {
        Self(FaultKind::ALL.into())
    }

    /// Without one kind, e.g. power loss on real processes.
    #[must_use]
    pub fn without(mut self, kind: FaultKind) -> Self {
        self.0.remove(&kind);
        self
    }

    /// Whether a kind can be injected.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.0.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_round_trip() {
        let two: Bandwidth = "2MiB/s".parse().unwrap();
        assert_eq!(two.kib_s, 2048);
        assert_eq!(two.to_string().parse(), Ok(two));
        for text in [
            "64",
            "0KiB/s",
            "64kb",
            "-1KiB/s",
            "99999999999999999999KiB/s",
        ] {
            assert!(text.parse::<Bandwidth>().is_err(), "{text}");
        }
    }
}
