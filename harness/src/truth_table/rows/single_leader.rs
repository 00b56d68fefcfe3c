//! A single leader: acknowledgement, visibility, failover, fencing, locks.

use super::{checker, figure};
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::{Demand, Property, Row, figures};

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "async-calm",
        mode: "single leader, async, reads at the leader",
        fault: "none",
        expected: "linearizable, nothing lost",
        experiment: "target: {ack: async}",
        demands: &[
            checker("linearizable", Holds),
            checker("lost-writes", Holds),
            checker("stale-reads", Holds),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "async-any-reads",
        mode: "single leader, async, reads at any replica",
        fault: "none",
        expected: "stale reads, also within a session; nothing lost, converges",
        experiment: "
target: {ack: async, reads: any}
workload: session
clients: {policy: any, rate: 2000}
parameters: {keys: 3}
simulation: {latency_us: 1000, jitter_us: 4000}
limits: {time: 3s}",
        demands: &[
            checker("stale-reads", Violated(0.9)),
            checker("sessions", Violated(0.9)),
            checker("lost-writes", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "async-any-reads-sessions",
        mode: "single leader, async, reads at any replica with session tokens",
        fault: "none",
        expected: "stale reads, but never for what the session itself has seen",
        experiment: "
target: {ack: async, reads: any}
workload: session
clients: {policy: any, rate: 2000, sessions: true}
parameters: {keys: 3}
simulation: {latency_us: 1000, jitter_us: 4000}
limits: {time: 3s}",
        demands: &[
            checker("stale-reads", Violated(0.9)),
            checker("sessions", Holds),
            checker("lost-writes", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "async-kill-leader",
        mode: "single leader, async",
        fault: "leader killed",
        expected: "acknowledged writes lost, but only those that were in flight to the followers",
        experiment: "
target: {ack: async, failover_requires_majority: true}
clients: {rate: 3000}
simulation: {latency_us: 2000, jitter_us: 1000, drop: 0.0, fsync_us: 100}
faults: {schedule: [{at: 2s, for: 2s, fault: kill, target: leader}]}
limits: {time: 5s}",
        demands: &[
            checker("lost-writes", Violated(0.3)),
            figure(
                "nothing lost but what was in flight",
                figures::lost_only_in_flight,
                Holds,
            ),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "async-split-brain",
        mode: "single leader, async, no majority needed, no fencing",
        fault: "leader cut off from the replicas, with clients on both sides",
        expected: "two leaders acknowledge writes; those of the old side are lost",
        experiment: "
target: {ack: async}
faults: {schedule: [{at: 1s, for: 3s, fault: partition, shape: isolate, target: leader}]}",
        demands: &[
            checker("split-brain", Violated(0.9)),
            checker("lost-writes", Violated(0.9)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "async-fenced",
        mode: "single leader, async, epoch fencing, majority needed",
        fault: "leader cut off from the replicas, with clients on both sides",
        expected: "the old leader acknowledges nothing once another may; only its unreplicated \
                   tail is lost",
        experiment: "
target: {ack: async, fencing: epoch, failover_requires_majority: true}
simulation: {drop: 0.0}
faults: {schedule: [{at: 1s, for: 3s, fault: partition, shape: isolate, target: leader}]}",
        demands: &[
            checker("split-brain", Holds),
            checker("lost-writes", Violated(0.9)),
            figure(
                "nothing lost but the tail written while cut off",
                figures::lost_only_in_flight,
                Holds,
            ),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "semi-sync-kill-leader",
        mode: "single leader, semi-sync(1), the most up-to-date promoted",
        fault: "a follower slowed, then the leader's machine lost",
        expected: "nothing lost",
        experiment: SEMI_SYNC,
        demands: &[
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "semi-sync-first-promoted",
        mode: "single leader, semi-sync(1), the first promoted",
        fault: "a follower slowed, then the leader's machine lost",
        expected: "lost: the follower promoted is not the one that acknowledged",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000, candidate: first}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: n2, latency: 200ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}",
        demands: &[
            checker("lost-writes", Violated(0.5)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "semi-sync-fallback",
        mode: "single leader, semi-sync(1) that falls back to async after 100 ms",
        fault: "the followers slowed past the timeout, then the leader's machine lost",
        expected: "lost: what was acknowledged after the fallback",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000, semi_sync_timeout_ms: 100}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: [n2, n3], latency: 250ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}",
        demands: &[
            checker("lost-writes", Violated(0.8)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "semi-sync-no-fallback",
        mode: "single leader, semi-sync(1) that waits for ever",
        fault: "the followers slowed, then the leader's machine lost",
        expected: "nothing lost: writes wait instead",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: [n2, n3], latency: 250ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}",
        demands: &[checker("lost-writes", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "semi-sync-visible-before-ack",
        mode: "single leader, semi-sync(1), visible before it is acknowledged",
        fault: "the followers slowed, then the leader's machine lost",
        expected: "a write is read that then never was; nothing acknowledged is lost",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000, visibility: before-ack}
clients: {concurrency: 40, rate: 600}
parameters: {keys: 5, read_fraction: 0.95}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: [n2, n3], latency: 250ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}",
        demands: &[
            Demand {
                property: Property::Class("lost-writes", "vanished"),
                expect: Violated(0.8),
            },
            Demand {
                property: Property::Class("lost-writes", "lost"),
                expect: Holds,
            },
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "semi-sync-visible-after-ack",
        mode: "single leader, semi-sync(1), visible once it is acknowledged",
        fault: "the followers slowed, then the leader's machine lost",
        expected: "nothing is read that then never was",
        experiment: "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000, visibility: after-ack}
clients: {concurrency: 40, rate: 600}
parameters: {keys: 5, read_fraction: 0.95}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: [n2, n3], latency: 250ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}",
        demands: &[
            Demand {
                property: Property::Class("lost-writes", "vanished"),
                expect: Holds,
            },
            checker("lost-writes", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "sync-kill-follower",
        mode: "single leader, sync",
        fault: "a follower killed",
        expected: "nothing lost; no write is acknowledged until it returns",
        experiment: "
target: {ack: sync}
faults: {schedule: [{at: 1s, for: 3s, fault: kill, target: follower}]}",
        demands: &[
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
            figure(
                "writes are acknowledged during the fault",
                figures::writes_during_fault,
                Violated(1.0),
            ),
            figure(
                "writes are acknowledged after the fault",
                figures::writes_after_fault,
                Holds,
            ),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "lock-async",
        mode: "single leader, async, a lock per document",
        fault: "leader cut off",
        expected: "two clients hold the lock of a document at once",
        experiment: "
target: {ack: async}
workload: text
parameters: {editing: lock, keys: 5}
faults: {schedule: [{at: 1s, for: 4s, fault: partition, shape: isolate, target: leader}]}",
        demands: &[
            checker("mutual-exclusion", Violated(0.5)),
            checker("convergence", Holds),
        ],
    },
];

const SEMI_SYNC: &str = "
nodes: 3
target: {ack: semi-sync(1), failover_requires_majority: true, failover_timeout_ms: 1000}
faults:
  schedule:
    - {at: 1s, for: 6s, fault: slow, links: peers, target: n2, latency: 200ms}
    - {at: 2s, for: 4s, fault: power-loss, target: n1}
limits: {time: 8s}";
