//! The planted mistakes, each with the shortest schedule known to show it.

use reference_cluster::core::config::Bug;

use super::Exhibit;

/// All of them.
pub const EXHIBITS: &[Exhibit] = &[
    Exhibit {
        bug: Bug::AcknowledgeBeforeFsync,
        what: "a write is acknowledged before it is on disk: a loss of power takes it back",
        checker: "lost-writes",
        experiment: "
target: {mode: raft}
clients: {rate: 2000}
faults: {schedule: [{at: 1s, for: 500ms, fault: power-loss, target: all}]}
limits: {time: 2s}",
    },
    Exhibit {
        bug: Bug::VoteForgotten,
        what: "a node that restarts votes again in the same term: two leaders of one term",
        checker: "convergence",
        experiment: "
target: {mode: raft, heartbeat_ms: 20, failover_timeout_ms: 100, pre_vote: false}
clients: {rate: 300, timeout: 1s, policy: spread}
simulation: {latency_us: 1000, jitter_us: 80000, drop: 0.02}
faults: {packages: [kill, isolate-leader], interval: 20ms, lasting: {min: 10ms, max: 60ms}}
limits: {time: 60s}",
    },
    Exhibit {
        bug: Bug::ReadIndexWithoutQuorum,
        what: "the leader answers a read without asking a majority whether it still leads",
        checker: "stale-reads",
        experiment: "
nodes: 3
target: {mode: raft}
clients: {rate: 400, policy: spread}
faults: {schedule: [{at: 1s, for: 1s, fault: pause, target: leader}]}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::LogTruncatedBelowCommit,
        what: "a node that starts again drops the end of its log though it is committed",
        checker: "lost-writes",
        experiment: "
nodes: 3
target: {mode: raft}
faults: {schedule: [{at: 1s, for: 300ms, fault: kill, target: all}]}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::SnapshotWithHole,
        what: "a snapshot lacks a key: a new follower has a hole, and one day it leads",
        checker: "convergence",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), log_keep: 16}
faults: {schedule: [{at: 1s, for: 1s, fault: wipe, target: n3}]}
limits: {time: 4s}",
    },
    Exhibit {
        bug: Bug::DuplicateAppliedTwice,
        what: "a message that the network duplicates is applied twice",
        checker: "convergence",
        experiment: "
nodes: 3
target: {ack: async}
simulation: {duplicate: 0.05}
limits: {time: 2s}",
    },
    Exhibit {
        bug: Bug::EpochNotCompared,
        what: "a promotion does not raise the epoch above those of others, and an equal one is \
               obeyed",
        checker: "split-brain",
        experiment: "
target: {ack: semi-sync(2), fencing: epoch, failover_requires_majority: true}
clients: {rate: 200}
simulation: {latency_us: 1000, jitter_us: 100000}
faults:
  packages: [kill-leader, isolate-leader, partition-ring, partition-one-way, pause-leader]
  interval: 100ms
  lasting: {min: 100ms, max: 1s}
limits: {time: 30s}",
    },
    Exhibit {
        bug: Bug::MajorityOffByOne,
        what: "half of the nodes count as a majority: two leaders in a cluster of four",
        checker: "split-brain",
        experiment: "
nodes: 4
target: {ack: async, fencing: epoch, failover_requires_majority: true}
faults: {schedule: [{at: 1s, for: 2s, fault: partition, shape: halves, target: leader}]}
limits: {time: 4s}",
    },
    Exhibit {
        bug: Bug::SessionIgnored,
        what: "a replica answers a read whatever the session has seen",
        checker: "sessions",
        experiment: "
target: {ack: async, reads: any}
workload: session
clients: {policy: any, rate: 2000, sessions: true}
parameters: {keys: 3}
limits: {time: 2s}",
    },
    Exhibit {
        bug: Bug::CasDecidedEarly,
        what: "a compare-and-set is decided when it arrives, not when it is applied: two succeed",
        checker: "linearizable",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), fencing: epoch, failover_requires_majority: true}
workload: register
parameters: {keys: 1, cas_fraction: 0.5, read_fraction: 0.4}
clients: {concurrency: 10, rate: 2000}
limits: {time: 2s}",
    },
    Exhibit {
        bug: Bug::HintDropped,
        what: "a hint is forgotten when it is sent, not when it is acknowledged",
        checker: "siblings",
        experiment: "
target:
  mode: leaderless
  leaderless: {n: 3, r: 1, w: 3, sloppy: true, read_repair: off, anti_entropy_ms: 0}
workload: conflict
simulation: {drop: 0.2}
faults: {schedule: [{at: 1s, for: 1s, fault: kill, target: n2}]}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::TombstoneResurrected,
        what: "a tombstone is collected before all replicas have it: what was deleted comes back",
        checker: "siblings",
        experiment: "
target: {mode: leaderless, leaderless: {n: 5, r: 3, w: 3}}
workload: calendar
faults: {schedule: [{at: 1s, for: 2s, fault: partition, shape: isolate, target: n3}]}
limits: {time: 4s}",
    },
    Exhibit {
        bug: Bug::ReadRepairOverwrites,
        what: "read repair writes what it read without comparing versions",
        checker: "siblings",
        experiment: "
target: {mode: leaderless, leaderless: {n: 3, r: 2, w: 2, anti_entropy_ms: 0}}
workload: conflict
clients: {rate: 1000}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::CounterMergedByAdding,
        what: "merging counters adds them up: what arrives twice counts twice",
        checker: "counter",
        experiment: "
nodes: 3
target: {mode: multi-leader, multi_leader: {conflicts: crdt}}
workload: counter
simulation: {duplicate: 0.05}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::TieKeepsOwn,
        what: "of two writes with equal timestamps each replica keeps the one it got first",
        checker: "convergence",
        experiment: "
nodes: 3
target: {mode: multi-leader, multi_leader: {conflicts: lww, clock: hybrid}}
workload: conflict
clients: {rate: 2000}
limits: {time: 3s}",
    },
    Exhibit {
        bug: Bug::ChangeSentOnce,
        what: "a change is forgotten when it is sent to another leader, not when it is \
               acknowledged",
        checker: "convergence",
        experiment: "
nodes: 3
target: {mode: multi-leader, multi_leader: {conflicts: siblings}}
workload: conflict
simulation: {drop: 0.05}
limits: {time: 3s}",
    },
];
