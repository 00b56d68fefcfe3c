//! What can be configured of a cluster, and which values are possible.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a cluster replicates. All nodes of a cluster are given the same.
///
/// Every field has a default; fields that do not concern the chosen mode are ignored by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The replication mode.
    pub mode: Mode,
    /// When a leader acknowledges a write (single-leader). `semi-sync(k)` needs
    /// 1 ≤ k < number of nodes.
    pub ack: Ack,
    /// Who promotes a new leader when the old one is gone (single-leader).
    pub failover: Failover,
    /// Whether a failover needs answers of a majority of all nodes, itself included
    /// (single-leader). Without it, each side of a partition may promote a leader.
    pub failover_requires_majority: bool,
    /// What keeps a cut-off leader from acknowledging (single-leader).
    pub fencing: Fencing,
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
    /// The followers, after a timeout.
    Automatic,
    /// Nobody: the first node leads whenever it is up.
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

/// Who answers reads that do not ask to be local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// The leader, in the mode's own way: from its state (single-leader), by `ReadIndex` (raft).
    Leader,
    /// Any replica, from its own state (single-leader only).
    Any,
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

fn within<T: Copy + PartialOrd + fmt::Display>(
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
    /// Checks every field against its range and against the number of nodes.
    ///
    /// # Errors
    /// The first impossible value.
    pub fn validate(&self, nodes: usize) -> Result<(), ConfigError> {
        let error = |field, message: String| Err(ConfigError { field, message });
        if let Ack::SemiSync(k) = self.ack
            && (k == 0 || usize::from(k) >= nodes)
        {
            return error(
                "ack",
                format!("semi-sync(k) needs 1 ≤ k < number of nodes, which is {nodes}; k is {k}"),
            );
        }
        match (self.mode, self.reads) {
            (Mode::SingleLeader, Reads::ReadIndex | Reads::Local) => {
                return error(
                    "reads",
                    "expected leader or any with mode single-leader".into(),
                );
            }
            (Mode::Raft, Reads::Any) => {
                return error(
                    "reads",
                    "expected read-index or local with mode raft".into(),
                );
            }
            _ => {}
        }
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
