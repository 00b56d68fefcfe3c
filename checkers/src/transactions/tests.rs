//! Checks of transactions against a simulated database and against brute force.

mod by_hand;
mod database;
mod minimal;
mod oracle;

use std::collections::BTreeMap;

use database::{Isolation, Options, run};

use super::encode::{Shape, Transactions};
use super::{ListAppend, RwRegister};
use crate::{CheckResult, Checker, ConsistencyModel, History, Verdict};

const SMALL: Options = Options {
    isolation: Isolation::Serial,
    lists: true,
    txns: 4,
    clients: 3,
    keys: 2,
    mops: 3,
    unanswered: 10,
    aborted: 5,
    corrupted: 0,
};

const LARGE: Options = Options {
    isolation: Isolation::Serial,
    lists: true,
    txns: 200,
    clients: 8,
    keys: 6,
    mops: 4,
    unanswered: 5,
    aborted: 5,
    corrupted: 0,
};

const LEVELS: [Isolation; 7] = [
    Isolation::Serial,
    Isolation::StaleReads,
    Isolation::Snapshot,
    Isolation::ReadCommitted,
    Isolation::ReadUncommitted,
    Isolation::Dirty,
    Isolation::NoRollback,
];

fn list_append(history: &History, model: ConsistencyModel) -> CheckResult {
    ListAppend { model }.check(history)
}

fn rw_register(history: &History, model: ConsistencyModel, keys: bool) -> CheckResult {
    let checker = RwRegister {
        model,
        sequential_keys: keys,
        linearizable_keys: keys,
    };
    checker.check(history)
}

/// The strongest model that a level of isolation keeps.
fn promise(isolation: Isolation) -> Option<ConsistencyModel> {
    match isolation {
        Isolation::Serial => Some(ConsistencyModel::StrongSerializable),
        Isolation::StaleReads => Some(ConsistencyModel::Serializable),
        Isolation::Snapshot => Some(ConsistencyModel::StrongSnapshotIsolation),
        Isolation::ReadCommitted => Some(ConsistencyModel::StrongReadCommitted),
        Isolation::ReadUncommitted => Some(ConsistencyModel::StrongReadUncommitted),
        Isolation::Dirty | Isolation::NoRollback => None,
    }
}

#[test]
fn a_database_is_never_accused_of_more_than_it_does() {
    let mut classes: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for isolation in LEVELS {
        let mut flagged = 0;
        let runs = if isolation == Isolation::Serial {
            3_000
        } else {
            500
        };
        for seed in 0..runs {
            let base = if seed % 2 == 0 { LARGE } else { SMALL };
            let options = Options { isolation, ..base };
            let history = run(options, seed);
            let strict = list_append(&history, ConsistencyModel::StrongSerializable);
            flagged += u32::from(strict.verdict == Verdict::Invalid);
            for anomaly in &strict.anomalies {
                let counts = classes.entry(format!("{isolation:?}")).or_default();
                *counts.entry(anomaly.class.clone()).or_default() += 1;
            }
            if let Some(model) = promise(isolation) {
                let kept = list_append(&history, model);
                let told = kept.anomalies.first().map(|a| &a.summary);
                assert_ne!(
                    kept.verdict,
                    Verdict::Invalid,
                    "{isolation:?} {seed}: {told:?}"
                );
            }
        }
        println!("{isolation:?}: {flagged} of {runs}");
        if isolation == Isolation::Serial {
            assert_eq!(flagged, 0);
        } else {
            assert!(flagged > 200, "{isolation:?}: {flagged}");
        }
    }
    println!("{classes:#?}");
    let found = |isolation: &str, class: &str| classes[isolation].contains_key(class);
    assert!(found("StaleReads", "G-single-realtime"));
    assert!(found("Snapshot", "G2-item"));
    assert!(found("ReadCommitted", "G-single") && found("ReadCommitted", "lost-update"));
    assert!(found("ReadUncommitted", "G1a") && found("ReadUncommitted", "G1b"));
    assert!(found("ReadUncommitted", "G1c"));
    assert!(found("Dirty", "G0") && found("NoRollback", "dirty-update"));
}

#[test]
fn brute_force_agrees() {
    use ConsistencyModel as M;
    let models = [
        M::Serializable,
        M::StrongSessionSerializable,
        M::StrongSerializable,
        M::SnapshotIsolation,
        M::StrongSessionSnapshotIsolation,
        M::StrongSnapshotIsolation,
    ];
    let mut table: BTreeMap<M, [u32; 4]> = BTreeMap::new();
    for seed in 0..6_000 {
        let isolation = LEVELS[seed as usize % LEVELS.len()];
        let options = Options {
            isolation,
            txns: 3 + seed as usize % 3,
            corrupted: if seed % 3 == 0 { 15 } else { 0 },
            ..SMALL
        };
        let history = run(options, seed);
        let txns = Transactions::of(&history, Shape::Lists).unwrap();
        for model in models {
            let result = list_append(&history, model);
            let possible = oracle::allows(&txns, model).unwrap();
            let invalid = result.verdict == Verdict::Invalid;
            let entry = table.entry(model).or_default();
            entry[usize::from(invalid) + 2 * usize::from(possible)] += 1;
            assert!(
                !(invalid && possible),
                "{isolation:?} {seed} is {model}: {:#?}\n{:#?}",
                result.anomalies,
                history
                    .events
                    .iter()
                    .map(|e| format!("{} {} {}", e.process, e.kind.name(), e.value))
                    .collect::<Vec<_>>()
            );
        }
    }
    for (model, [missed, found, valid, _]) in table {
        println!("{model}: {found} invalid found, {missed} missed, {valid} valid");
        assert!(valid > 1_000 && found > 500, "{model}");
        assert!(missed * 200 < found, "{model}: {missed} of {found} missed");
    }
}

/// Registers: of what is linearizable by key, the versions may be taken to be so.
#[test]
fn a_database_of_registers_is_never_accused_of_more_than_it_does() {
    let mut classes: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for isolation in LEVELS {
        let mut flagged = [0, 0];
        let runs = if isolation == Isolation::Serial {
            2_000
        } else {
            400
        };
        for seed in 0..runs {
            let base = if seed % 2 == 0 { LARGE } else { SMALL };
            let options = Options {
                isolation,
                lists: false,
                ..base
            };
            let history = run(options, seed);
            for keys in [false, true] {
                let strict = rw_register(&history, ConsistencyModel::StrongSerializable, keys);
                flagged[usize::from(keys)] += u32::from(strict.verdict == Verdict::Invalid);
                for anomaly in &strict.anomalies {
                    let counts = classes.entry(format!("{isolation:?} {keys}")).or_default();
                    *counts.entry(anomaly.class.clone()).or_default() += 1;
                }
                let linearizable = isolation == Isolation::Serial;
                if let Some(model) = promise(isolation).filter(|_| !keys || linearizable) {
                    let kept = rw_register(&history, model, keys);
                    let told = kept.anomalies.first().map(|a| &a.summary);
                    assert_ne!(
                        kept.verdict,
                        Verdict::Invalid,
                        "{isolation:?} {seed} {keys}: {told:?}"
                    );
                }
            }
        }
        println!("{isolation:?}: {flagged:?} of {runs}");
        if isolation == Isolation::Serial {
            assert_eq!(flagged, [0, 0]);
        } else {
            assert!(
                flagged[0] > 10 && flagged[1] >= flagged[0],
                "{isolation:?}: {flagged:?}"
            );
        }
    }
    println!("{classes:#?}");
    let found = |isolation: &str, class: &str| classes[isolation].contains_key(class);
    assert!(found("Snapshot false", "G2-item"));
    assert!(found("ReadCommitted false", "lost-update"));
    assert!(found("ReadUncommitted false", "G1a") && found("ReadUncommitted false", "G1b"));
    assert!(found("StaleReads true", "cyclic-versions"));
}

#[test]
fn brute_force_agrees_on_registers() {
    use ConsistencyModel as M;
    let models = [
        M::Serializable,
        M::StrongSessionSerializable,
        M::StrongSerializable,
        M::SnapshotIsolation,
        M::StrongSnapshotIsolation,
    ];
    let mut table: BTreeMap<(bool, M), [u32; 4]> = BTreeMap::new();
    for seed in 0..4_000 {
        let isolation = LEVELS[seed as usize % LEVELS.len()];
        let options = Options {
            isolation,
            lists: false,
            txns: 3 + seed as usize % 3,
            corrupted: if seed % 3 == 0 { 15 } else { 0 },
            ..SMALL
        };
        let history = run(options, seed);
        let txns = Transactions::of(&history, Shape::Registers).unwrap();
        for model in models {
            for keys in [false, true] {
                // A strictly serializable store has keys that are linearizable.
                if keys && model != M::StrongSerializable {
                    continue;
                }
                let result = rw_register(&history, model, keys);
                let possible = oracle::allows(&txns, model).unwrap();
                let invalid = result.verdict == Verdict::Invalid;
                let entry = table.entry((keys, model)).or_default();
                entry[usize::from(invalid) + 2 * usize::from(possible)] += 1;
                assert!(
                    !(invalid && possible),
                    "{isolation:?} {seed} is {model}: {:#?}\n{:#?}",
                    result.anomalies,
                    history
                        .events
                        .iter()
                        .map(|e| format!("{} {} {}", e.process, e.kind.name(), e.value))
                        .collect::<Vec<_>>()
                );
            }
        }
    }
    for ((keys, model), [missed, found, valid, _]) in table {
        println!("{model} {keys}: {found} invalid found, {missed} missed, {valid} valid");
        assert!(valid > 1_000 && found > 300, "{model}");
    }
}
