//! Quorums.

use super::checker;
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::Row;

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "quorum-versions",
        mode: "leaderless, R + W > N, dotted versions, readers resolve",
        fault: "everything that a minority of a key's replicas can suffer",
        expected: "nothing lost, converges",
        experiment: "
target: {mode: leaderless, leaderless: {n: 5, r: 3, w: 3}}
workload: conflict
parameters: {resolve: true}
clients: {policy: any}
faults: {packages: [kill, pause, partition]}",
        demands: &[checker("siblings", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "quorum-partial-writes",
        mode: "leaderless, R + W > N, perfect clocks, no read repair",
        fault: "writes that reach some replicas only: kills and partitions",
        expected: "not linearizable: a read shows a partial write, a later one does not",
        experiment: "
target:
  mode: leaderless
  leaderless: {n: 3, r: 2, w: 2, versions: lww, read_repair: off, anti_entropy_ms: 0}
workload: register
parameters: {keys: 5, cas_fraction: 0.0}
clients: {policy: any, rate: 400}
simulation: {clock_offset_ms: 0, clock_drift_ppm: 0, drop: 0.05}
faults: {packages: [kill, partition]}
limits: {time: 12s}",
        demands: &[checker("linearizable", Violated(0.3))],
    },
    Row {
        id: "quorum-blocking-repair",
        mode: "leaderless, R + W > N, perfect clocks, reads repair first",
        fault: "writes that reach some replicas only: kills and partitions",
        expected: "linearizable: what a read shows, a majority holds",
        experiment: "
target:
  mode: leaderless
  leaderless: {n: 3, r: 2, w: 2, versions: lww, read_repair: blocking, anti_entropy_ms: 0}
workload: register
parameters: {keys: 5, cas_fraction: 0.0}
clients: {policy: any, rate: 400}
simulation: {clock_offset_ms: 0, clock_drift_ppm: 0, drop: 0.05}
faults: {packages: [kill, partition]}",
        demands: &[checker("linearizable", Holds)],
    },
    Row {
        id: "quorum-too-small",
        mode: "leaderless, R + W ≤ N",
        fault: "none",
        expected: "stale reads",
        experiment: "
target: {mode: leaderless, leaderless: {n: 3, r: 1, w: 1, versions: lww}}
workload: register
parameters: {keys: 3, cas_fraction: 0.0}
clients: {policy: any, rate: 1000}
simulation: {clock_offset_ms: 0, clock_drift_ppm: 0, jitter_us: 5000}
limits: {time: 6s}",
        demands: &[checker("stale-reads", Violated(0.9))],
    },
    Row {
        id: "sloppy-partition",
        mode: "leaderless, sloppy quorum",
        fault: "partition",
        expected: "stale reads: R + W > N says nothing of stand-ins; nothing lost once they hand over",
        experiment: "
target:
  mode: leaderless
  leaderless: {n: 3, r: 2, w: 2, sloppy: true, versions: lww}
workload: register
parameters: {cas_fraction: 0.0}
clients: {policy: spread}
simulation: {clock_offset_ms: 0, clock_drift_ppm: 0}
faults: {schedule: [{at: 1s, for: 2s, fault: partition, shape: isolate, target: [n4, n5]}]}
limits: {time: 4s}",
        demands: &[
            checker("stale-reads", Violated(0.9)),
            checker("lost-writes", Holds),
        ],
    },
    Row {
        id: "sloppy-hint-holder-dies",
        mode: "leaderless, sloppy quorum",
        fault: "partition, then those that hold the hints lose their data",
        expected: "acknowledged writes lost",
        experiment: "
target:
  mode: leaderless
  leaderless: {n: 3, r: 2, w: 2, sloppy: true, versions: lww}
workload: register
parameters: {cas_fraction: 0.0}
clients: {policy: n4}
simulation: {clock_offset_ms: 0, clock_drift_ppm: 0}
faults:
  schedule:
    - {at: 1s, for: 2s, fault: partition, shape: isolate, target: [n1, n2, n3]}
    - {at: 2500ms, for: 700ms, fault: wipe, target: [n4, n5]}
limits: {time: 3300ms}",
        demands: &[checker("lost-writes", Violated(0.9))],
    },
    Row {
        id: "leaderless-lww-skew",
        mode: "leaderless, last write wins",
        fault: "clocks up to 500 ms apart",
        expected: "acknowledged writes shadowed by older ones",
        experiment: "
target: {mode: leaderless, leaderless: {n: 5, r: 3, w: 3, versions: lww}}
workload: register
parameters: {keys: 5, cas_fraction: 0.0}
clients: {policy: any}
simulation: {clock_offset_ms: 500}",
        demands: &[
            checker("linearizable", Violated(0.95)),
            checker("lost-writes", Violated(0.5)),
            checker("convergence", Holds),
        ],
    },
];
