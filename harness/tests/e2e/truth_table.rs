//! The harness against the truth table and the planted mistakes: a sample of the seeds that
//! `quorate truth --run` and `quorate museum` take.

use quorate::museum::exhibits::EXHIBITS;
use quorate::truth_table::{Demand, Expect, Row, render, rows, run};

/// Seeds of a row: more where a violation is rare, so that some must be among them.
fn sample(row: &Row) -> std::ops::Range<u64> {
    let rare = |d: &Demand| matches!(d.expect, Expect::Violated(share) if share < 0.1);
    if row.demands.iter().any(rare) {
        0..100
    } else {
        0..30
    }
}

#[test]
fn every_row_behaves_as_theory_says() {
    let mut wrong = String::new();
    for row in rows::all() {
        let result = run(row, sample(row)).unwrap();
        if !result.as_expected() {
            wrong.push_str(&render::result(row, &result));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The comparison itself can fail: each demand of some rows, turned round, is not met.
#[test]
fn a_bent_table_is_noticed() {
    for id in ["async-calm", "async-split-brain", "raft-local-reads"] {
        let row = rows::all().find(|row| row.id == id).unwrap();
        for demand in row.demands {
            let expect = match demand.expect {
                Expect::Holds => Expect::Violated(0.05),
                Expect::Violated(_) => Expect::Holds,
            };
            let bent: &'static [Demand] = Box::leak(Box::new([Demand { expect, ..*demand }]));
            let bent = Row {
                demands: bent,
                ..*row
            };
            let result = run(&bent, 0..10).unwrap();
            assert!(!result.as_expected(), "{id}: {}", demand.property);
        }
    }
}

#[test]
fn every_planted_mistake_is_found_and_nothing_without_it() {
    let mut wrong = Vec::new();
    for exhibit in EXHIBITS {
        let visit = exhibit.visit(0..60, 10).unwrap();
        if !visit.good() {
            wrong.push(visit);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// In this seed the replicas never agree: what the last reads lack, another replica brings back.
/// Taken for final reads they would show losses that were none.
#[test]
fn nothing_is_lost_for_certain_while_replicas_disagree() {
    let row = rows::all().find(|row| row.id == "timeout-too-short");
    let result = run(row.unwrap(), 322..323).unwrap();
    assert!(
        result.disagreements.is_empty(),
        "{:?}",
        result.disagreements
    );
}
