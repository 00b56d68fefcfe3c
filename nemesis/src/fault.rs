//! The kinds of faults, their parameters, and which of them a substrate can do.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Budget, Node};

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
    /// Have the store end itself at a named point in its own code.
    Crash,
    /// Give processes only part of a processor.
    Cpu,
    /// Give processes little memory.
    Memory,
    /// Lose some of what goes through some links.
    Loss,
    /// Let some of what goes through some links overtake the rest.
    Reorder,
    /// Deliver some of what goes through some links twice.
    Duplicate,
    /// Power loss that tears the last record written.
    TornWrite,
    /// End processes and flip one bit of what they have stored.
    BitFlip,
    /// Let every write fail for want of space.
    DiskFull,
    /// Let every write fail because the file system is read-only.
    ReadOnly,
    /// Let reads, writes and syncs take longer.
    SlowDisk,
    /// Let every sync fail, and drop what it was to make durable.
    FsyncError,
    /// Let only so much of reads and writes through to the disk.
    ThrottleDisk,
    /// End processes and put back an older copy of their data.
    Rollback,
    /// Set the clock of processes forward or back.
    ClockJump,
    /// Let the clock of processes run fast or slow.
    ClockDrift,
    /// Set the clock of processes forward and back again, over and over.
    ClockStrobe,
    /// Have a node take a snapshot and drop the log before it.
    Snapshot,
    /// Start processes again with an older version of the storage format.
    Downgrade,
    /// Cordon the Kubernetes nodes of the targets, and evict the pods of the store there.
    Drain,
    /// Take the last nodes away, and bring them back.
    Scale,
    /// Start all nodes again, one by one.
    RollingRestart,
    /// Let the names of the store lead nowhere.
    NoEndpoints,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 35] = [
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
        Self::Crash,
        Self::Cpu,
        Self::Memory,
        Self::Loss,
        Self::Reorder,
        Self::Duplicate,
        Self::TornWrite,
        Self::BitFlip,
        Self::DiskFull,
        Self::ReadOnly,
        Self::SlowDisk,
        Self::FsyncError,
        Self::ThrottleDisk,
        Self::Rollback,
        Self::ClockJump,
        Self::ClockDrift,
        Self::ClockStrobe,
        Self::Snapshot,
        Self::Downgrade,
        Self::Drain,
        Self::Scale,
        Self::RollingRestart,
        Self::NoEndpoints,
    ];

    /// Those that only an orchestrator of containers can do.
    pub const ORCHESTRATED: [Self; 4] = [
        Self::Drain,
        Self::Scale,
        Self::RollingRestart,
        Self::NoEndpoints,
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
            Self::Crash => "crash",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Loss => "loss",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::TornWrite => "torn-write",
            Self::BitFlip => "bit-flip",
            Self::DiskFull => "disk-full",
            Self::ReadOnly => "read-only",
            Self::SlowDisk => "slow-disk",
            Self::FsyncError => "fsync-error",
            Self::ThrottleDisk => "throttle-disk",
            Self::Rollback => "rollback",
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
            Self::ClockStrobe => "clock-strobe",
            Self::Snapshot => "snapshot",
            Self::Downgrade => "downgrade",
            Self::Drain => "drain",
            Self::Scale => "scale",
            Self::RollingRestart => "rolling-restart",
            Self::NoEndpoints => "no-endpoints",
        }
    }
}

impl FaultKind {
    /// What it does, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Kill => "ends processes at once",
            Self::PowerLoss => "ends processes, and what was not synced is gone",
            Self::Pause => "stops processes",
            Self::Partition => "lets nothing through some links",
            Self::Slow => "delays or throttles links",
            Self::Wipe => "ends processes and deletes their data",
            Self::Upgrade => "starts processes with a newer storage format",
            Self::MoveHome => "gives a node's keys another home",
            Self::AddMember => "lets a node join",
            Self::RemoveMember => "lets a node leave",
            Self::ReplaceMember => "lets a node join in another's place",
            Self::TransferLeadership => "lets another node lead",
            Self::Crash => "the store ends at a named point of its code",
            Self::Cpu => "gives processes only part of a processor",
            Self::Memory => "gives processes little memory",
            Self::Loss => "loses some packets of links",
            Self::Reorder => "lets some packets of links overtake others",
            Self::Duplicate => "delivers some packets of links twice",
            Self::TornWrite => "power loss that tears the last record",
            Self::BitFlip => "flips one bit of what is stored",
            Self::DiskFull => "refuses writes for want of space",
            Self::ReadOnly => "refuses writes to a read-only disk",
            Self::SlowDisk => "delays reads, writes and syncs",
            Self::ThrottleDisk => "limits the bandwidth of the disk",
            Self::FsyncError => "fails syncs and drops what they were for",
            Self::Rollback => "puts back an older copy of the data",
            Self::ClockJump => "sets clocks forward or back",
            Self::ClockDrift => "lets clocks run fast or slow",
            Self::ClockStrobe => "sets clocks to and fro",
            Self::Snapshot => "forces a snapshot and drops the log before it",
            Self::Downgrade => "starts processes with an older storage format",
            Self::Drain => "cordons Kubernetes nodes and evicts the pods there",
            Self::Scale => "takes the last nodes away",
            Self::RollingRestart => "starts all nodes again, one by one",
            Self::NoEndpoints => "lets the Services of the store lead nowhere",
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
        /// How much more or less than that it may be at any time, in whole milliseconds: at most
        /// the latency itself.
        jitter: Duration,
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
    /// See [`FaultKind::Crash`].
    Crash {
        /// Where in its code.
        point: CrashPoint,
    },
    /// See [`FaultKind::Cpu`].
    Cpu {
        /// How much of one processor each process gets.
        share: Percent,
    },
    /// See [`FaultKind::Memory`].
    Memory {
        /// How much each process gets, in MiB, from 1.
        mib: u64,
    },
    /// See [`FaultKind::Loss`].
    Loss(Disturbance),
    /// See [`FaultKind::Reorder`].
    Reorder(Disturbance),
    /// See [`FaultKind::Duplicate`].
    Duplicate(Disturbance),
    /// See [`FaultKind::TornWrite`].
    TornWrite,
    /// See [`FaultKind::BitFlip`].
    BitFlip {
        /// Of what.
        file: Stored,
    },
    /// See [`FaultKind::DiskFull`].
    DiskFull,
    /// See [`FaultKind::ReadOnly`].
    ReadOnly,
    /// See [`FaultKind::ThrottleDisk`].
    ThrottleDisk {
        /// At most this much of reads, and as much of writes.
        bandwidth: Bandwidth,
    },
    /// See [`FaultKind::SlowDisk`].
    SlowDisk {
        /// Added to each read, write and sync, in whole milliseconds.
        latency: Duration,
    },
    /// See [`FaultKind::FsyncError`].
    FsyncError,
    /// See [`FaultKind::Rollback`].
    Rollback {
        /// How old the copy is at least, in whole milliseconds. A node that has run for less starts
        /// on nothing.
        age: Duration,
    },
    /// See [`FaultKind::ClockJump`].
    ClockJump {
        /// In milliseconds; forward if positive.
        by_ms: i64,
    },
    /// See [`FaultKind::ClockDrift`].
    ClockDrift {
        /// Microseconds gained (or, if negative, lost) each second; above −1,000,000.
        ppm: i64,
    },
    /// See [`FaultKind::ClockStrobe`].
    ClockStrobe {
        /// In milliseconds; forward if positive.
        by_ms: i64,
        /// How often it changes, in whole milliseconds.
        every: Duration,
    },
    /// See [`FaultKind::Snapshot`].
    Snapshot,
    /// See [`FaultKind::Downgrade`].
    Downgrade,
    /// See [`FaultKind::Drain`].
    Drain,
    /// See [`FaultKind::Scale`].
    Scale,
    /// See [`FaultKind::RollingRestart`].
    RollingRestart,
    /// See [`FaultKind::NoEndpoints`].
    NoEndpoints,
}

/// Which links are disturbed, and how much of what goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// Which links of the target.
    pub links: LinkSet,
    /// Of packets, or in simulation of messages.
    pub percent: Percent,
}

/// A part of a hundred, from 1 to 100; written `30%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// `None` unless from 1 to 100.
    pub const fn new(percent: u8) -> Option<Self> {
        match percent {
            1..=100 => Some(Self(percent)),
            _ => None,
        }
    }

    /// From 1 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A text that is no percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no percentage; expected one from 1% to 100%")]
pub struct PercentError {
    /// What was written.
    pub text: String,
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let digits = text
            .strip_suffix('%')
            .and_then(|t| t.trim_end().parse().ok());
        digits.and_then(Self::new).ok_or_else(|| PercentError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::wire::from_text(deserializer, "a percentage such as 30%")
    }
}

/// A named point in the code of a store that knows it, as the reference store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashPoint {
    /// A record is written, and its sync was not begun.
    BeforeFsync,
    /// A record is durable, and nobody was told yet: no reply, no message.
    BeforeReply,
    /// A record is in the log and durable, and the state does not show it yet.
    BeforeApply,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BeforeFsync, Self::BeforeReply, Self::BeforeApply];

    /// The name used in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeFsync => "before-fsync",
            Self::BeforeReply => "before-reply",
            Self::BeforeApply => "before-apply",
        }
    }
}

/// What a node has stored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stored {
    /// Its log: the file written last.
    #[default]
    Log,
    /// Its newest snapshot.
    Snapshot,
}

impl Stored {
    /// The name used in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }
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
            Self::Crash { .. } => FaultKind::Crash,
            Self::Cpu { .. } => FaultKind::Cpu,
            Self::Memory { .. } => FaultKind::Memory,
            Self::Loss(_) => FaultKind::Loss,
            Self::Reorder(_) => FaultKind::Reorder,
            Self::Duplicate(_) => FaultKind::Duplicate,
            Self::TornWrite => FaultKind::TornWrite,
            Self::BitFlip { .. } => FaultKind::BitFlip,
            Self::DiskFull => FaultKind::DiskFull,
            Self::ReadOnly => FaultKind::ReadOnly,
            Self::SlowDisk { .. } => FaultKind::SlowDisk,
            Self::FsyncError => FaultKind::FsyncError,
            Self::ThrottleDisk { .. } => FaultKind::ThrottleDisk,
            Self::Rollback { .. } => FaultKind::Rollback,
            Self::ClockJump { .. } => FaultKind::ClockJump,
            Self::ClockDrift { .. } => FaultKind::ClockDrift,
            Self::ClockStrobe { .. } => FaultKind::ClockStrobe,
            Self::Snapshot => FaultKind::Snapshot,
            Self::Downgrade => FaultKind::Downgrade,
            Self::Drain => FaultKind::Drain,
            Self::Scale => FaultKind::Scale,
            Self::RollingRestart => FaultKind::RollingRestart,
            Self::NoEndpoints => FaultKind::NoEndpoints,
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

/// What can and may be done where an experiment runs: the kinds of faults and the roles there are,
/// why not the others, and how much may be hurt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    kinds: BTreeMap<FaultKind, String>,
    roles: BTreeMap<&'static str, String>,
    budget: Budget,
    rolled_from_the_last: bool,
}

impl Capabilities {
    /// Every kind, every role, without limit.
    pub fn all() -> Self {
        Self::default()
    }

    /// Without one kind, for a reason that completes "… cannot be injected here: ". The first
    /// reason given for a kind stays.
    #[must_use]
    pub fn without(mut self, kind: FaultKind, reason: &str) -> Self {
        self.kinds.entry(kind).or_insert_with(|| reason.to_owned());
        self
    }

    /// Without nodes in one of the roles that [`Selector::role`](crate::Selector::role) names, for
    /// a reason that completes "… is nobody here: ".
    #[must_use]
    pub fn without_role(mut self, role: &'static str, reason: &str) -> Self {
        self.roles.entry(role).or_insert_with(|| reason.to_owned());
        self
    }

    /// The same within these limits.
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Where versions can only be changed from the node with the highest number down, as a
    /// StatefulSet does it.
    #[must_use]
    pub fn rolled_from_the_last(mut self) -> Self {
        self.rolled_from_the_last = true;
        self
    }

    /// Whether versions can only be changed from the node with the highest number down.
    pub fn rolls_from_the_last(&self) -> bool {
        self.rolled_from_the_last
    }

    /// Whether a kind can be injected.
    pub fn has(&self, kind: FaultKind) -> bool {
        !self.kinds.contains_key(&kind)
    }

    /// Why a kind cannot be injected.
    pub fn obstacle(&self, kind: FaultKind) -> Option<&str> {
        self.kinds.get(&kind).map(String::as_str)
    }

    /// Why no node ever has this role.
    pub fn absence(&self, role: &str) -> Option<&str> {
        self.roles.get(role).map(String::as_str)
    }

    /// How much may be hurt.
    pub fn budget(&self) -> &Budget {
        &self.budget
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
