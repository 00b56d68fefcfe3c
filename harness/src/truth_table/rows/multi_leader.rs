//! Several leaders: conflicts and what becomes of them.

use super::{checker, figure};
use crate::truth_table::Expect::{Holds, Violated};
use crate::truth_table::{Demand, Figure, Property, Row, figures};

/// See the [module](self).
pub(super) const ROWS: &[Row] = &[
    Row {
        id: "lww-calm",
        mode: "multi-leader, last write wins",
        fault: "none",
        expected: "concurrent acknowledged writes lost, by design; converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: lww}}
workload: conflict
parameters: {resolve: false}
clients: {policy: spread, rate: 1000}
limits: {time: 3s}",
        demands: &[
            checker("siblings", Violated(0.95)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "lww-partition",
        mode: "multi-leader, last write wins",
        fault: "partition",
        expected: "the writes of one side lost; converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: lww}}
workload: conflict
parameters: {resolve: false}
clients: {policy: spread}
faults: {packages: [partition]}",
        demands: &[
            checker("siblings", Violated(0.95)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "siblings-partition",
        mode: "multi-leader, siblings, readers resolve",
        fault: "partition",
        expected: "nothing lost, converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: siblings}}
workload: conflict
parameters: {resolve: true}
clients: {policy: spread}
faults: {packages: [partition]}",
        demands: &[checker("siblings", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "siblings-ring",
        mode: "multi-leader in a ring, siblings, readers resolve",
        fault: "kills and partitions",
        expected: "nothing lost, converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: siblings, topology: ring}}
workload: conflict
parameters: {resolve: true}
clients: {policy: spread}
faults: {packages: [partition, kill]}",
        demands: &[checker("siblings", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "crdt-counter",
        mode: "multi-leader, crdt counters",
        fault: "partition, reordering, duplicates",
        expected: "no increment lost or counted twice, converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: crdt}}
workload: counter
clients: {policy: spread}
simulation: {jitter_us: 30000, duplicate: 0.05}
faults: {packages: [partition]}",
        demands: &[
            Demand {
                property: Property::Figure(Figure {
                    name: "final counts are exact",
                    checker: Some("counter"),
                    holds: figures::final_counts_are_exact,
                }),
                expect: Holds,
            },
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "crdt-text",
        mode: "multi-leader, crdt text",
        fault: "partition, reordering, duplicates",
        expected: "no edit lost, converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: crdt}}
workload: text
parameters: {editing: crdt}
clients: {policy: spread}
simulation: {jitter_us: 30000, duplicate: 0.05}
faults: {packages: [partition]}",
        demands: &[checker("lost-writes", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "crdt-offline-calendar",
        mode: "multi-leader, siblings, a device each",
        fault: "devices offline in turn",
        expected: "no booking lost, converges once all are back",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: siblings}}
workload: calendar
clients: {policy: spread}
faults: {packages: [offline]}",
        demands: &[checker("siblings", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "lww-offline-calendar",
        mode: "multi-leader, last write wins, a device each",
        fault: "devices offline in turn",
        expected: "bookings of the same hour lost; converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: lww}}
workload: calendar
clients: {policy: spread}
faults: {packages: [offline]}",
        demands: &[
            checker("siblings", Violated(0.9)),
            checker("convergence", Holds),
        ],
    },
    Row {
        id: "procedure-not-commutative",
        mode: "multi-leader, a procedure that is not commutative",
        fault: "partition",
        expected: "replicas diverge: found",
        experiment: "
target:
  mode: multi-leader
  multi_leader: {conflicts: procedure, procedure: 'fn merge(ours, theirs) { ours }'}
workload: conflict
parameters: {resolve: false}
clients: {policy: spread}
faults: {schedule: [{at: 1s, for: 3s, fault: partition, shape: halves}]}",
        demands: &[checker("convergence", Violated(0.95))],
    },
    Row {
        id: "procedure-commutative",
        mode: "multi-leader, a procedure that is commutative",
        fault: "partition",
        expected: "converges",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: procedure}}
workload: conflict
parameters: {resolve: false}
clients: {policy: spread}
faults: {schedule: [{at: 1s, for: 3s, fault: partition, shape: halves}]}",
        demands: &[checker("convergence", Holds)],
    },
    Row {
        id: "synchronous-partition",
        mode: "multi-leader, synchronous detection",
        fault: "partition between sites",
        expected: "no conflict, nothing lost; unavailable",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: synchronous}}
workload: append
clients: {policy: spread}
faults: {schedule: [{at: 1s, for: 3s, fault: partition, shape: halves}]}",
        demands: &[
            checker("lost-writes", Holds),
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
        id: "home-calm",
        mode: "multi-leader, home region",
        fault: "none",
        expected: "no conflict, nothing lost",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: home}}
workload: append
clients: {policy: any}",
        demands: &[checker("lost-writes", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "home-partition",
        mode: "multi-leader, home region",
        fault: "partition",
        expected: "no conflict, nothing lost",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: home}}
workload: append
clients: {policy: any}
faults: {packages: [partition]}",
        demands: &[checker("lost-writes", Holds), checker("convergence", Holds)],
    },
    Row {
        id: "home-moved",
        mode: "multi-leader, home region",
        fault: "home moved while the old home is cut off",
        expected: "both homes take writes: acknowledged writes lost",
        experiment: "
target: {mode: multi-leader, multi_leader: {conflicts: home}}
workload: append
parameters: {keys: 40}
clients: {policy: any}
faults:
  schedule:
    - {at: 1s, for: 3s, fault: partition, shape: isolate, target: n2}
    - {at: 1500ms, for: 1s, fault: move-home, target: n2, to: n3}",
        demands: &[
            checker("lost-writes", Violated(0.9)),
            checker("convergence", Holds),
        ],
    },
];
