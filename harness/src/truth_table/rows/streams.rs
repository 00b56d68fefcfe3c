//! What a leader ships, and followers that join.

use super::checker;
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::{Demand, Property, Row};

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "statement-nondeterministic",
        mode: "single leader, statement stream",
        fault: "operations that are not deterministic",
        expected: "replicas diverge",
        experiment: "
target: {ack: async, stream: statement}
workload: nondeterministic
limits: {time: 3s}",
        demands: &[checker("convergence", Violated(1.0))],
    },
    Row {
        id: "wal-nondeterministic",
        mode: "single leader, wal stream",
        fault: "operations that are not deterministic",
        expected: "replicas stay the same",
        experiment: "
target: {ack: async, stream: wal}
workload: nondeterministic
limits: {time: 3s}",
        demands: &[checker("convergence", Holds), checker("lost-writes", Holds)],
    },
    Row {
        id: "logical-nondeterministic",
        mode: "single leader, logical stream",
        fault: "operations that are not deterministic",
        expected: "replicas stay the same",
        experiment: "
target: {ack: async, stream: logical}
workload: nondeterministic
limits: {time: 3s}",
        demands: &[checker("convergence", Holds), checker("lost-writes", Holds)],
    },
    Row {
        id: "wal-rolling-upgrade",
        mode: "single leader, wal stream",
        fault: "rolling upgrade to another storage format",
        expected: "replication stops, with an error that says why",
        experiment: "
target: {ack: async, stream: wal}
workload: upgrade
faults:
  schedule:
    - {at: 1s, for: 100ms, fault: upgrade, target: n2}
    - {at: 2s, for: 100ms, fault: upgrade, target: n3}",
        demands: &[
            Demand {
                property: Property::Class("convergence", "replication-stopped"),
                expect: Violated(1.0),
            },
            checker("lost-writes", Holds),
        ],
    },
    Row {
        id: "logical-rolling-upgrade",
        mode: "single leader, logical stream",
        fault: "rolling upgrade to another storage format",
        expected: "replication goes on",
        experiment: "
target: {ack: semi-sync(1), stream: logical, failover_requires_majority: true}
workload: upgrade
faults:
  schedule:
    - {at: 1s, for: 100ms, fault: upgrade, target: n2}
    - {at: 2s, for: 100ms, fault: upgrade, target: n3}
    - {at: 3s, for: 100ms, fault: upgrade, target: n4}
    - {at: 4s, for: 100ms, fault: upgrade, target: n5}
    - {at: 5s, for: 100ms, fault: upgrade, target: n1}",
        demands: &[checker("convergence", Holds), checker("lost-writes", Holds)],
    },
    Row {
        id: "new-follower",
        mode: "single leader, semi-sync(1)",
        fault: "a follower joins empty and another returns under load, the leader killed meanwhile",
        expected: "no hole",
        experiment: "
target: {ack: semi-sync(1), failover_requires_majority: true, log_keep: 100}
workload: bootstrap
clients: {rate: 1000}
faults:
  schedule:
    - {at: 500ms, for: 1500ms, fault: kill, target: n5}
    - {at: 1s, for: 1s, fault: wipe, target: n4}
    - {at: 2050ms, for: 1s, fault: kill, target: leader}
limits: {time: 5s}",
        demands: &[checker("convergence", Holds), checker("lost-writes", Holds)],
    },
];
