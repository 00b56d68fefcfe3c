//! Consensus.

use super::{checker, figure};
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::{Row, figures};

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "raft-minority",
        mode: "raft, reads by read-index",
        fault: "everything that a minority can suffer",
        expected: "linearizable, nothing lost, recovers",
        experiment: "
target: {mode: raft, reads: read-index}
faults: {packages: [kill, pause, partition, slow]}",
        demands: &[
            checker("linearizable", Holds),
            checker("lost-writes", Holds),
            checker("stale-reads", Holds),
            checker("split-brain", Holds),
            figure("the cluster recovers", figures::recovers, Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "raft-local-reads",
        mode: "raft, local reads",
        fault: "partitions and pauses",
        expected: "stale reads, nothing lost",
        experiment: "
target: {mode: raft, reads: local}
clients: {policy: spread}
faults: {packages: [partition, pause]}",
        demands: &[
            checker("stale-reads", Violated(0.8)),
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "raft-lease-pause",
        mode: "raft, lease reads",
        fault: "the leader paused beyond its lease",
        expected: "stale reads: what waited for it is answered before it knows; nothing lost",
        experiment: "
target: {mode: raft, reads: lease}
clients: {policy: spread, rate: 400}
faults: {packages: [pause-leader], lasting: {min: 600ms, max: 1200ms}}",
        demands: &[
            checker("stale-reads", Violated(0.2)),
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "raft-lease-drift",
        mode: "raft, lease reads",
        fault: "clocks that drift by up to half, leader cut off",
        expected: "stale reads: the lease of a slow leader outlasts an election by quick followers; \
                   nothing lost",
        experiment: "
target: {mode: raft, reads: lease}
clients: {policy: any, rate: 400}
simulation: {clock_drift_ppm: 500000}
faults: {packages: [transfer-leadership, isolate-leader], interval: 300ms, lasting: {min: 600ms, max: 1s}}
limits: {time: 60s}",
        demands: &[
            checker("stale-reads", Violated(0.05)),
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "raft-lease-sound",
        mode: "raft, lease reads",
        fault: "leader cut off, clocks that drift by 100 ppm at most",
        expected: "linearizable: the lease ends before the election does",
        experiment: "
target: {mode: raft, reads: lease}
clients: {policy: any, rate: 400}
simulation: {clock_drift_ppm: 100}
faults: {packages: [isolate-leader], interval: 300ms, lasting: {min: 600ms, max: 1s}}",
        demands: &[
            checker("linearizable", Holds),
            checker("lost-writes", Holds),
            checker("split-brain", Holds),
        ],
    },
    Row {
        id: "raft-fsync-never",
        mode: "raft, fsync never",
        fault: "power loss of a majority while the others are cut off",
        expected: "acknowledged writes lost",
        experiment: "
target: {mode: raft, fsync: never}
faults:
  schedule:
    - {at: 1s, for: 3s, fault: partition, shape: isolate, target: [n4, n5]}
    - {at: 3s, for: 500ms, fault: power-loss, target: [n1, n2, n3]}",
        demands: &[checker("lost-writes", Violated(0.9))],
    },
    Row {
        id: "lock-raft",
        mode: "raft, a lock per document",
        fault: "leader cut off",
        expected: "one client at a time holds the lock; no edit lost",
        experiment: "
target: {mode: raft}
workload: text
parameters: {editing: lock, keys: 5}
faults: {schedule: [{at: 1s, for: 4s, fault: partition, shape: isolate, target: leader}]}",
        demands: &[
            checker("mutual-exclusion", Holds),
            checker("lost-writes", Holds),
            checker("convergence", Holds),
        ],
    },
];
