//! The rows: each mode under each fault worth knowing, by family of modes.

mod leaderless;
mod multi_leader;
mod raft;
mod single_leader;
mod streams;
mod timeouts;

use super::{Demand, Expect, Figure, Property, Row};

/// What all rows have in common: a dense run of a few virtual seconds.
pub const BASE: &str = "
nodes: 5
substrate: sim
target: {heartbeat_ms: 50, failover_timeout_ms: 300}
clients: {rate: 150, timeout: 500ms}
faults: {packages: [none], interval: 500ms, lasting: {min: 200ms, max: 1500ms}}
limits: {time: 6s, recovery: 20s}
";

const fn checker(name: &'static str, expect: Expect) -> Demand {
    Demand {
        property: Property::Checker(name),
        expect,
    }
}

const fn figure(
    name: &'static str,
    holds: fn(&super::run::Judged) -> Option<bool>,
    expect: Expect,
) -> Demand {
    Demand {
        property: Property::Figure(Figure {
            name,
            checker: None,
            holds,
        }),
        expect,
    }
}

/// All families, in the order of the docs.
const FAMILIES: [&[Row]; 6] = [
    single_leader::ROWS,
    raft::ROWS,
    multi_leader::ROWS,
    leaderless::ROWS,
    streams::ROWS,
    timeouts::ROWS,
];

/// The table, in the order of the docs.
pub fn all() -> impl Iterator<Item = &'static Row> {
    FAMILIES.into_iter().flatten()
}
