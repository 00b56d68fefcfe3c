//! How soon a leader is given up.

use super::figure;
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::{Row, figures};

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "timeout-too-short",
        mode: "single leader, failover after 60 ms",
        fault: "none, but load: messages take up to 80 ms",
        expected: "needless failovers",
        experiment: "
target: {ack: async, heartbeat_ms: 20, failover_timeout_ms: 60}
simulation: {latency_us: 1000, jitter_us: 80000}",
        demands: &[figure(
            "the first leader stays",
            figures::first_leader_stays,
            Violated(0.9),
        )],
    },
    Row {
        id: "timeout-fitting",
        mode: "single leader, failover after 1 s",
        fault: "none, but load: messages take up to 80 ms",
        expected: "no needless failover",
        experiment: "
target: {ack: async, heartbeat_ms: 200, failover_timeout_ms: 1000}
simulation: {latency_us: 1000, jitter_us: 80000}",
        demands: &[figure(
            "the first leader stays",
            figures::first_leader_stays,
            Holds,
        )],
    },
    Row {
        id: "timeout-short-recovery",
        mode: "single leader, failover after 300 ms",
        fault: "leader killed",
        expected: "writes go on within a second",
        experiment: "
target: {ack: async, failover_timeout_ms: 300}
faults: {schedule: [{at: 1s, for: 4s, fault: kill, target: leader}]}",
        demands: &[figure(
            "writes go on within 1 s",
            figures::writes_within_a_second,
            Holds,
        )],
    },
    Row {
        id: "timeout-too-long",
        mode: "single leader, failover after 3 s",
        fault: "leader killed",
        expected: "the recovery time grows with the timeout: no write for 3 s",
        experiment: "
target: {ack: async, failover_timeout_ms: 3000}
faults: {schedule: [{at: 1s, for: 4s, fault: kill, target: leader}]}",
        demands: &[figure(
            "writes go on within 1 s",
            figures::writes_within_a_second,
            Violated(1.0),
        )],
    },
];
