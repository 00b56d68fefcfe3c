//! What a substrate is asked to do, and what it answers.

use std::fmt;
use std::time::Duration;

use crate::fault::{CrashPoint, Stored};

/// A node by its number, from 1: `1` is `n1`.
pub type Node = u16;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A replica.
    Node(Node),
    /// All clients of the harness.
    Clients,
}

/// A directed link. Between replicas each direction is a link of its own; a link from
/// [`Endpoint::Clients`] carries requests and their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Where messages come from.
    pub from: Endpoint,
    /// Where they go.
    pub to: Endpoint,
}

/// A primitive fault with every role resolved to nodes.
///
/// The contract of a substrate, for each action: do it, **prove by observation** that it took
/// effect (a probe over every cut link that gets no answer, the state of the process, a measured
/// round trip) and report the proof; when told to heal, undo exactly this action and prove that it
/// is gone. Healing is idempotent. When the owner dies, the action heals by itself within seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the processes at once, as `SIGKILL` does; what was written but not synced survives.
    /// Healing starts them again on their data.
    Kill(Vec<Node>),
    /// End the processes and lose everything not synced, the last record possibly torn.
    /// Healing starts them again on what is left.
    PowerLoss(Vec<Node>),
    /// End the processes at once and delete all their data. Healing starts them on nothing, as new
    /// members.
    Wipe(Vec<Node>),
    /// End the processes and start them at once, with a storage format one version newer. Proven
    /// by the version that they report. Healing does nothing: they stay upgraded.
    Upgrade(Vec<Node>),
    /// Stop the processes as `SIGSTOP` does. Healing continues them.
    Pause(Vec<Node>),
    /// Have an operator ask this node for something; another node that it names as its leader is
    /// asked instead. Proven by the answer, and where the command says so by what the nodes then
    /// say of themselves.
    Admin(Node, Command),
    /// Let nothing through these links.
    Cut(Vec<Link>),
    /// Impair what goes through these links.
    Impair {
        /// Which.
        links: Vec<Link>,
        /// How.
        impairment: Impairment,
    },
    /// Have the processes end themselves at the next passage of a point in their code. Proven by
    /// their end there. Healing starts them again on their data.
    Crash(Vec<Node>, CrashPoint),
    /// Let each process have so many percent of one processor. Healing takes the limit off.
    Cpu(Vec<Node>, u8),
    /// Let each process have so many MiB of memory. Healing takes the limit off, and starts those
    /// again that did not survive it.
    Memory(Vec<Node>, u64),
    /// As [`Action::PowerLoss`], with the last record written but not synced torn in the middle.
    TornWrite(Vec<Node>),
    /// End the processes at once and flip one bit of what they have stored. Healing starts them on
    /// it; one that refuses is started on nothing, as an operator would.
    BitFlip(Vec<Node>, Stored),
    /// End the processes at once and put back a copy of their data that is at least so many
    /// milliseconds old. Healing starts them on it.
    Rollback(Vec<Node>, u64),
    /// Let the disks of these nodes misbehave. Healing lets them be; a process that ended over it
    /// is started again.
    Disk(Vec<Node>, DiskFault),
    /// Let so many KiB/s of reads, and as many of writes, through to the disk of each of these nodes.
    /// Healing takes the limit off.
    ThrottleDisk(Vec<Node>, u64),
    /// Let the clocks of these nodes be wrong. Healing sets them right.
    Clock(Vec<Node>, ClockFault),
    /// As [`Action::Upgrade`], one version older.
    Downgrade(Vec<Node>),
    /// Have the orchestrator of containers do what it does to nodes in daily work. Healing has it
    /// undone, and waits until the nodes are back.
    Orchestrate(Vec<Node>, Orchestration),
}

/// What an orchestrator of containers does to nodes in daily work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Orchestration {
    /// Let no pod go to the hosts of these nodes any more, and evict those that are there.
    Drain,
    /// Let there be fewer nodes: these, which are the last ones, go.
    Scale,
    /// Start them again, one by one. Healing waits until that is done.
    RollingRestart,
    /// Let the names by which nodes and clients find the store lead nowhere.
    NoEndpoints,
}

/// What happens to packets (in simulation: to messages) on a link. All zero is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Impairment {
    /// Delay in milliseconds added to the round trip, at least (less the jitter): all of it on the
    /// request where messages go one way, as between replicas.
    pub latency_ms: u64,
    /// How much more or less than that it is at any time, in milliseconds, uniformly.
    pub jitter_ms: u64,
    /// At most this many KiB/s a link; `None` is unlimited.
    pub bandwidth_kib_s: Option<u64>,
    /// How many of a hundred are lost.
    pub loss_percent: u8,
    /// How many of a hundred are held back so that later ones overtake them.
    pub reorder_percent: u8,
    /// How many of a hundred arrive twice.
    pub duplicate_percent: u8,
}

impl Impairment {
    /// Both at once: the worse of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            latency_ms: self.latency_ms.max(other.latency_ms),
            jitter_ms: self.jitter_ms.max(other.jitter_ms),
            bandwidth_kib_s: match (self.bandwidth_kib_s, other.bandwidth_kib_s) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            loss_percent: self.loss_percent.max(other.loss_percent),
            reorder_percent: self.reorder_percent.max(other.reorder_percent),
            duplicate_percent: self.duplicate_percent.max(other.duplicate_percent),
        }
    }
}

/// How a disk misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFault {
    /// Every write fails for want of space (`ENOSPC`).
    Full,
    /// Every write fails because the file system is read-only (`EROFS`).
    ReadOnly,
    /// Every read, write and sync takes so many milliseconds longer.
    Slow(u64),
    /// Every sync fails (`EIO`), and what it was to make durable is lost at the next power loss
    /// even if a later sync succeeds, as Linux has it (Rebello et al., "Can Applications Recover
    /// from fsync Failures?", USENIX ATC 2020).
    FsyncError,
}

/// How a clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockFault {
    /// Set by so many milliseconds, at once; forward if positive.
    Jump(i64),
    /// So many microseconds gained each second from now on, lost if negative.
    Drift(i64),
    /// Set by `by_ms` and back again, every `every_ms`.
    Strobe {
        /// In milliseconds; forward if positive.
        by_ms: i64,
        /// In milliseconds, from 1.
        every_ms: u64,
    },
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    /// Become the home of the keys whose home is this node. Healing does nothing.
    TakeHome(Node),
    /// Let this node leave. Healing takes it back.
    RemoveMember(Node),
    /// Let this node join. Healing takes it out again.
    AddMember(Node),
    /// Let the second join, then the first leave. Healing does the same the other way round.
    ReplaceMember(Node, Node),
    /// Let this node lead; proven by its saying that it does. Healing does nothing.
    TransferLeadership(Node),
    /// Let this node take a snapshot of its state and drop the log before it. Healing does nothing.
    Snapshot(Node),
}

/// One thing asked of one node: what commands consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// See [`Command::TakeHome`].
    TakeHome(Node),
    /// See [`Command::AddMember`].
    Add(Node),
    /// See [`Command::RemoveMember`].
    Remove(Node),
    /// See [`Command::TransferLeadership`].
    Transfer(Node),
    /// See [`Command::Snapshot`].
    Snapshot(Node),
}

impl Command {
    /// What is asked for, one after the other.
    pub fn requests(self) -> Vec<Request> {
        match self {
            Self::TakeHome(of) => vec![Request::TakeHome(of)],
            Self::AddMember(node) => vec![Request::Add(node)],
            Self::RemoveMember(node) => vec![Request::Remove(node)],
            Self::ReplaceMember(old, new) => vec![Request::Add(new), Request::Remove(old)],
            Self::TransferLeadership(to) => vec![Request::Transfer(to)],
            Self::Snapshot(node) => vec![Request::Snapshot(node)],
        }
    }

    /// What is asked for to undo it; nothing where it stays.
    pub fn undo(self) -> Vec<Request> {
        match self {
            Self::AddMember(node) => vec![Request::Remove(node)],
            Self::RemoveMember(node) => vec![Request::Add(node)],
            Self::ReplaceMember(old, new) => vec![Request::Add(old), Request::Remove(new)],
            Self::TakeHome(_) | Self::TransferLeadership(_) | Self::Snapshot(_) => Vec::new(),
        }
    }

    /// The nodes that it names.
    pub fn nodes(self) -> Vec<Node> {
        match self {
            Self::TakeHome(node)
            | Self::RemoveMember(node)
            | Self::AddMember(node)
            | Self::TransferLeadership(node)
            | Self::Snapshot(node) => vec![node],
            Self::ReplaceMember(old, new) => vec![old, new],
        }
    }
}

/// What a substrate observed after injecting or healing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The effect was seen; how, in a few words ("8 of 8 cut links gave no answer in 300 ms").
    Seen(String),
    /// It was not; why.
    NotSeen(String),
}

/// What is known of one node when a fault is about to be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Which node.
    pub node: Node,
    /// `leader`, `follower`, …; `None` if it did not answer.
    pub role: Option<String>,
    /// Its epoch or term.
    pub epoch: u64,
    /// Index of the newest entry in its log.
    pub last_index: u64,
    /// Who it believes the leader is.
    pub leader: Option<Node>,
    /// What it has still to deliver or to fetch, in modes without one leader: 0 when it has settled.
    pub pending: u64,
    /// The version of the storage format that it writes.
    pub storage_version: u16,
    /// Whether it has stopped replicating for good.
    pub stopped: bool,
    /// The followers whose copies its acknowledgements rest on, where it leads and waits for some.
    pub standbys: Vec<Node>,
    /// The machine that it runs on, where several share one and that is known.
    pub host: Option<String>,
}

impl NodeView {
    /// Of a node that did not answer.
    pub fn silent(node: Node) -> Self {
        Self {
            node,
            role: None,
            epoch: 0,
            last_index: 0,
            leader: None,
            pending: 0,
            storage_version: 0,
            stopped: false,
            standbys: Vec::new(),
            host: None,
        }
    }
}

/// What is known of the cluster: one entry a node, ordered by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// All nodes, also those that did not answer.
    pub nodes: Vec<NodeView>,
    /// The node that acknowledged the last write, as clients saw it.
    pub last_acknowledged: Option<Node>,
    /// What else clients see.
    pub clients: ClientView,
}

/// What clients see of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientView {
    /// Writes acknowledged since the start of the run.
    pub acknowledged: u64,
    /// How much older than what had been acknowledged was what the last read showed; zero where
    /// that is not observed.
    pub staleness: Duration,
    /// Reads that have no answer yet.
    pub reads_in_flight: u32,
    /// All other operations that have none.
    pub writes_in_flight: u32,
}

impl View {
    /// The node that calls itself leader in the highest epoch.
    pub fn leader(&self) -> Option<Node> {
        self.nodes
            .iter()
            .filter(|n| n.role.as_deref() == Some("leader"))
            .max_by_key(|n| (n.epoch, n.node))
            .map(|n| n.node)
    }
}

/// Once it is done: `n3 joined`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeHome(of) => write!(f, "the keys of n{of} have a new home"),
            Self::Add(node) => write!(f, "n{node} joined"),
            Self::Remove(node) => write!(f, "n{node} left"),
            Self::Transfer(to) => write!(f, "n{to} leads"),
            Self::Snapshot(node) => write!(f, "n{node} has a new snapshot"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(n) => write!(f, "n{n}"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}", self.from, self.to)
    }
}
