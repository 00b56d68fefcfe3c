//! What can be configured of a cluster, and which values are possible.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use super::{leaderless::Leaderless, multi_leader::MultiLeader};

/// How a cluster replicates. All nodes of a cluster are given the same.
///
/// Every field has a default; fields that do not concern the chosen mode are ignored by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The replication mode.
    pub mode: Mode,
    /// When a leader acknowledges a write (single-leader). `semi-sync(k)` needs
    /// 1 ≤ k < number of nodes that hold all keys.
    pub ack: Ack,
    /// Who promotes a new leader when the old one is gone (single-leader).
    pub failover: Failover,
    /// Whether a failover needs answers of a majority of all nodes, itself included
    /// (single-leader). Without it, each side of a partition may promote a leader.
    pub failover_requires_majority: bool,
    /// What keeps a cut-off leader from acknowledging (single-leader).
    pub fencing: Fencing,
    /// How long semi-synchronous replication waits for its followers before it goes on
    /// asynchronously until they have caught up, as `MySQL`'s `rpl_semi_sync_master_timeout`
    /// does; milliseconds, 1 to 600 000; none: it waits for ever (single-leader).
    pub semi_sync_timeout_ms: Option<u64>,
    /// When a write is visible to reads at the leader (single-leader).
    pub visibility: Visibility,
    /// What makes somebody suspect the leader (single-leader).
    pub detection: Detection,
    /// How many consecutive writes of the monitor must fail; 1 to 1 000 (`detection: monitor`).
    pub failed_writes: u32,
    /// Who becomes the new leader (single-leader).
    pub candidate: Candidate,
    /// In which form the log is shipped (single-leader).
    pub stream: Stream,
    /// The version of the storage format that this node writes; 1 to 1 000. The one setting in
    /// which nodes may differ, while a cluster is being upgraded.
    pub storage_version: u16,
    /// Nodes that hold only the keys with a prefix, e.g. `{5: user/}` (single-leader). They are
    /// never promoted.
    pub partial: BTreeMap<u16, String>,
    /// How many members a cluster begins with, the others being spare (raft); none: all.
    pub initial_members: Option<u16>,
    /// Whether a candidate first asks whether it could win (raft).
    pub pre_vote: bool,
    /// Gateways in front of the replicas; 0 to 9. They are the nodes after the last replica.
    pub gateways: u16,
    /// How gateways spread reads.
    pub gateway_reads: GatewayReads,
    /// How many entries behind the newest known a replica may be for a gateway to read from it;
    /// 0 to 1 000 000 (`gateway_reads: bounded-staleness`).
    pub gateway_staleness: u64,
    /// What concerns the multi-leader mode only.
    pub multi_leader: MultiLeader,
    /// What concerns the leaderless mode only.
    pub leaderless: Leaderless,
    /// Known mistakes, planted to see whether they are found.
    pub bugs: BTreeSet<Bug>,
    /// Who answers reads that do not ask to be local.
    pub reads: Reads,
    /// When a node's journal is made durable.
    pub fsync: Fsync,
    /// Milliseconds between syncs with `fsync: interval`; 1 to 60 000.
    pub fsync_interval_ms: u64,
    /// Milliseconds between a leader's heartbeats; 2 to 60 000.
    pub heartbeat_ms: u64,
    /// Milliseconds without a heartbeat after which a follower suspects the leader; each node
    /// waits between one and one and a half times as long (single-leader) or one and two times
    /// (raft), drawn from its seed. At least three heartbeats, at most 600 000.
    pub failover_timeout_ms: u64,
    /// Entries that stay in the log when it is truncated behind a snapshot, which happens when it
    /// has grown to twice as many; 16 to 10 000 000.
    pub log_keep: u64,
    /// Longest key in bytes that the server accepts; 1 to 65 536.
    pub max_key_bytes: usize,
    /// Longest text value in bytes that the server accepts; 1 to 67 108 864.
    pub max_value_bytes: usize,
    /// Longest request body in bytes that the server accepts; 64 to 134 217 728.
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::SingleLeader,
            ack: Ack::Async,
            failover: Failover::Automatic,
            failover_requires_majority: false,
            fencing: Fencing::None,
            semi_sync_timeout_ms: None,
            visibility: Visibility::AfterAck,
            detection: Detection::Heartbeat,
            failed_writes: 3,
            candidate: Candidate::MostUpToDate,
            stream: Stream::Logical,
            storage_version: 1,
            partial: BTreeMap::new(),
            initial_members: None,
            pre_vote: true,
            gateways: 0,
            gateway_reads: GatewayReads::RoundRobin,
            gateway_staleness: 100,
            multi_leader: MultiLeader::default(),
            leaderless: Leaderless::default(),
            bugs: BTreeSet::new(),
            reads: Reads::Leader,
            fsync: Fsync::Always,
            fsync_interval_ms: 1_000,
            heartbeat_ms: 100,
            failover_timeout_ms: 1_000,
            log_keep: 10_000,
            max_key_bytes: 1_024,
            max_value_bytes: 262_144,
            max_body_bytes: 1_048_576,
        }
    }
}

/// The replication modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One leader ships its log to followers; see [`crate::core::single_leader`].
    SingleLeader,
    /// Consensus; see [`crate::core::raft`].
    Raft,
    /// Every node takes writes and passes them on; see [`crate::core::multi_leader`].
    MultiLeader,
    /// Quorums of reads and writes; see [`crate::core::leaderless`].
    Leaderless,
}

/// When a leader acknowledges a write. Written `async`, `sync`, `semi-sync(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ack {
    /// Once it is in the leader's own journal.
    Async,
    /// Once it is in every node's journal.
    Sync,
    /// Once it is in the journals of the leader and of this many followers.
    SemiSync(u16),
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async => f.write_str("async"),
            Self::Sync => f.write_str("sync"),
            Self::SemiSync(k) => write!(f, "semi-sync({k})"),
        }
    }
}

impl FromStr for Ack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |rest: &str| rest.strip_suffix(')')?.parse().ok();
        match text {
            "async" => Ok(Self::Async),
            "sync" => Ok(Self::Sync),
            _ => text
                .strip_prefix("semi-sync(")
                .and_then(count)
                .map(Self::SemiSync)
                .ok_or_else(|| {
                    format!("expected async, sync or semi-sync(k), e.g. semi-sync(1), not {text:?}")
                }),
        }
    }
}

impl TryFrom<String> for Ack {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ack> for String {
    fn from(ack: Ack) -> Self {
        ack.to_string()
    }
}

/// Who promotes a new leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failover {
    /// The followers or the monitor (`detection`).
    Automatic,
    /// Nobody: the node that led last, at first the first that holds all keys, leads whenever it
    /// is up.
    Manual,
}

/// What keeps a cut-off leader from acknowledging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fencing {
    /// Nothing.
    None,
    /// A leader that has not heard from a majority (itself included) of its own epoch within the
    /// failover timeout refuses reads and writes until it does.
    Epoch,
}

/// When a write is visible to reads at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Once it is acknowledged (`MySQL`'s `AFTER_SYNC`): nobody reads what a failover may take back,
    /// but for what is acknowledged and lost.
    AfterAck,
    /// Once it is in the leader's journal, before followers hold it (`AFTER_COMMIT`): others may
    /// read what then never was.
    BeforeAck,
}

/// What makes somebody suspect the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detection {
    /// Followers that do not hear from it.
    Heartbeat,
    /// A node of its own, after all replicas and gateways, that writes to the leader and counts
    /// consecutive failures.
    Monitor,
}

/// Who becomes the new leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// The replica with the newest log among those that can be reached.
    MostUpToDate,
    /// The first, by number, of those that can be reached.
    First,
}

/// In which form a leader ships its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// The operations, executed again by each replica: `MySQL`'s statement-based replication.
    /// What is not deterministic makes replicas differ.
    Statement,
    /// The bytes of the storage format, `PostgreSQL`'s physical replication: a replica that writes
    /// another version of the format must refuse.
    Wal,
    /// What changed, row by row, readable by every version: logical or row-based replication.
    Logical,
}

/// How gateways spread reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayReads {
    /// To the leader, like writes.
    Leader,
    /// To all replicas in turn.
    RoundRobin,
    /// To the replica with the fewest requests under way.
    LeastConnections,
    /// In turn to those replicas that are not further behind than `gateway_staleness`.
    BoundedStaleness,
}

/// Known mistakes of replicated stores, to be planted by name. Each is in the code of the mode that
/// it concerns, and changes nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bug {
    /// Writes are acknowledged, and matched by followers, before they are synced (single-leader,
    /// raft).
    AcknowledgeBeforeFsync,
    /// A node forgets its term and vote when its process ends (raft).
    VoteForgotten,
    /// The leader answers reads without asking a majority whether it still leads (raft).
    ReadIndexWithoutQuorum,
    /// A node that starts again drops the end of its log though it is committed (raft).
    LogTruncatedBelowCommit,
    /// A snapshot lacks one key (raft, single-leader).
    SnapshotWithHole,
    /// A duplicated message is applied twice (single-leader).
    DuplicateAppliedTwice,
    /// A leader of the same epoch is obeyed as if it were of a newer one, and promotions do not
    /// raise the epoch above those of others (single-leader).
    EpochNotCompared,
    /// Half of the nodes count as a majority (single-leader with `failover_requires_majority`).
    MajorityOffByOne,
    /// A replica answers whatever the session has seen (single-leader with sessions).
    SessionIgnored,
    /// A compare-and-set is decided when it arrives, not when it is applied (single-leader).
    CasDecidedEarly,
    /// A hint is forgotten when it is first sent, not when it is acknowledged (leaderless).
    HintDropped,
    /// Tombstones are collected before all replicas have them (leaderless).
    TombstoneResurrected,
    /// Read repair writes what it read without comparing versions (leaderless).
    ReadRepairOverwrites,
    /// Merging counters adds them up, so that what arrives twice counts twice (multi-leader, crdt).
    CounterMergedByAdding,
    /// Of two writes with equal timestamps each replica keeps the one it got first
    /// (multi-leader, lww).
    TieKeepsOwn,
    /// A change is forgotten when it is first sent to another leader (multi-leader).
    ChangeSentOnce,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AcknowledgeBeforeFsync,
        Self::VoteForgotten,
        Self::ReadIndexWithoutQuorum,
        Self::LogTruncatedBelowCommit,
        Self::SnapshotWithHole,
        Self::DuplicateAppliedTwice,
        Self::EpochNotCompared,
        Self::MajorityOffByOne,
        Self::SessionIgnored,
        Self::CasDecidedEarly,
        Self::HintDropped,
        Self::TombstoneResurrected,
        Self::ReadRepairOverwrites,
        Self::CounterMergedByAdding,
        Self::TieKeepsOwn,
        Self::ChangeSentOnce,
    ];
}

/// Who answers reads that do not ask to be local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// The leader, in the mode's own way: from its state (single-leader), by `ReadIndex` (raft).
    Leader,
    /// Any replica, from its own state (single-leader only).
    Any,
    /// Any replica but the leader, from its own state (single-leader only). A leader that has heard
    /// from no follower lately answers itself.
    Follower,
    /// The leader, without asking anybody as long as its lease lasts: a majority has promised not
    /// to elect another before (raft only).
    Lease,
    /// The leader after confirming its leadership with a majority (raft only); what `leader`
    /// means there.
    ReadIndex,
    /// Any replica, from its own state, stale or not (raft only).
    Local,
}

/// When a journal is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fsync {
    /// Before anything that depends on it is acknowledged.
    Always,
    /// Now and then; a loss of power loses what came since.
    Interval,
    /// When the operating system likes.
    Never,
}

/// A value that is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub field: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

pub(super) fn within<T: Copy + PartialOrd + fmt::Display>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if value < least || value > most {
        return Err(ConfigError {
            field,
            message: format!("expected {least} to {most}, not {value}"),
        });
    }
    Ok(())
}

impl Config {
    /// How many nodes hold no data: the gateways, and the monitor if there is one.
    pub fn auxiliaries(&self) -> usize {
        let monitor = self.mode == Mode::SingleLeader && self.detection == Detection::Monitor;
        usize::from(self.gateways) + usize::from(monitor)
    }

    /// Whether the cluster has one log, that of its leader.
    pub fn one_log(&self) -> bool {
        matches!(self.mode, Mode::SingleLeader | Mode::Raft)
    }

    /// Whether a mistake is planted.
    pub fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }

    /// Checks every field against its range and against the number of replicas.
    ///
    /// # Errors
    /// The first impossible value.
    pub fn validate(&self, nodes: usize) -> Result<(), ConfigError> {
        let error = |field, message: String| Err(ConfigError { field, message });
        self.validate_partial(nodes)?;
        let full = nodes - self.partial.len();
        if let Ack::SemiSync(k) = self.ack
            && (k == 0 || usize::from(k) >= full)
        {
            return error(
                "ack",
                format!(
                    "semi-sync(k) needs 1 ≤ k < number of nodes that hold all keys, which is \
                     {full}; k is {k}"
                ),
            );
        }
        match (self.mode, self.reads) {
            (Mode::SingleLeader, Reads::ReadIndex | Reads::Lease | Reads::Local) => {
                return error(
                    "reads",
                    "expected leader, any or follower with mode single-leader".into(),
                );
            }
            (Mode::Raft, Reads::Any | Reads::Follower) => {
                return error(
                    "reads",
                    "expected read-index, lease or local with mode raft".into(),
                );
            }
            (Mode::MultiLeader, _) => self.multi_leader.validate(nodes)?,
            (Mode::Leaderless, _) => self.leaderless.validate(nodes)?,
            _ => {}
        }
        if let Some(members) = self.initial_members
            && (members == 0 || usize::from(members) > nodes)
        {
            return error(
                "initial_members",
                format!("expected 1 to {nodes}, the number of nodes, not {members}"),
            );
        }
        within("gateways", self.gateways, 0, 9)?;
        within("gateway_staleness", self.gateway_staleness, 0, 1_000_000)?;
        if let Some(timeout) = self.semi_sync_timeout_ms {
            within("semi_sync_timeout_ms", timeout, 1, 600_000)?;
        }
        within("failed_writes", self.failed_writes, 1, 1_000)?;
        within("storage_version", self.storage_version, 1, 1_000)?;
        within("fsync_interval_ms", self.fsync_interval_ms, 1, 60_000)?;
        within("heartbeat_ms", self.heartbeat_ms, 2, 60_000)?;
        within(
            "failover_timeout_ms",
            self.failover_timeout_ms,
            3 * self.heartbeat_ms,
            600_000,
        )?;
        within("log_keep", self.log_keep, 16, 10_000_000)?;
        within("max_key_bytes", self.max_key_bytes, 1, 65_536)?;
        within("max_value_bytes", self.max_value_bytes, 1, 67_108_864)?;
        within("max_body_bytes", self.max_body_bytes, 64, 134_217_728)
    }

    /// Partial replicas are replicas, and leave somebody to lead.
    fn validate_partial(&self, nodes: usize) -> Result<(), ConfigError> {
        let error = |message: String| {
            let field = "partial";
            Err(ConfigError { field, message })
        };
        for (node, prefix) in &self.partial {
            if *node == 0 || usize::from(*node) > nodes {
                return error(format!("expected nodes from 1 to {nodes}, not {node}"));
            }
            if prefix.is_empty() {
                return error(format!("expected a prefix for node {node}, not nothing"));
            }
        }
        if self.partial.is_empty() {
            return Ok(());
        }
        if self.partial.len() >= nodes {
            return error("expected some node to hold all keys".into());
        }
        if self.mode != Mode::SingleLeader {
            return error("expected none but with mode single-leader".into());
        }
        if self.stream == Stream::Wal {
            return error(
                "expected stream logical or statement: the storage format is shipped whole".into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_reads_what_it_writes() {
        for ack in [Ack::Async, Ack::Sync, Ack::SemiSync(3)] {
            assert_eq!(ack.to_string().parse(), Ok(ack));
        }
        for bad in [
            "",
            "semi-sync",
            "semi-sync()",
            "semi-sync(-1)",
            "semi-sync(1",
            "Async",
        ] {
            assert!(bad.parse::<Ack>().is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_are_possible_and_the_impossible_is_named() {
        let config = Config::default();
        assert_eq!(config.validate(5), Ok(()));
        let field = |config: Config| config.validate(5).map_err(|e| e.field);
        let semi = |k| Config {
            ack: Ack::SemiSync(k),
            ..Config::default()
        };
        assert_eq!(field(semi(4)), Ok(()));
        assert_eq!(field(semi(5)), Err("ack"));
        assert_eq!(field(semi(0)), Err("ack"));
        assert_eq!(
            field(Config {
                reads: Reads::Local,
                ..config.clone()
            }),
            Err("reads")
        );
        assert_eq!(
            field(Config {
                failover_timeout_ms: 100,
                ..config.clone()
            }),
            Err("failover_timeout_ms")
        );
        assert_eq!(
            field(Config {
                mode: Mode::Raft,
                reads: Reads::Any,
                ..config
            }),
            Err("reads")
        );
        let members = |count| {
            field(Config {
                mode: Mode::Raft,
                reads: Reads::Lease,
                initial_members: Some(count),
                ..Config::default()
            })
        };
        assert_eq!(members(0), Err("initial_members"));
        assert_eq!((members(1), members(5)), (Ok(()), Ok(())));
        assert_eq!(members(6), Err("initial_members"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"mode":"raft","ack":"semi-sync(1)","colour":"red"}"#;
        let error = serde_json::from_str::<Config>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains("colour"), "{error}");
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert_eq!(
            serde_json::from_str::<Config>(&text).unwrap(),
            Config::default()
        );
    }
}
