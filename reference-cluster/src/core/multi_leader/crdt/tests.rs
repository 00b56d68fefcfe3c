//! Merging is commutative, associative and idempotent, for every type and whatever histories the
//! merged states have: so all replicas that have the same changes show the same.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Cell, change};
use crate::core::multi_leader::clock::{Moment, Stamp};
use crate::core::multi_leader::origin::Origin;
use crate::core::{Datum, NodeId, Op, Scalar};

const NODES: usize = 3;

/// What some node does next.
#[derive(Clone, Debug)]
enum Step {
    /// Operation `what` with two arguments.
    Do {
        node: usize,
        what: u8,
        a: i64,
        b: i64,
    },
    /// Takes in all that another has.
    Merge { to: usize, from: usize },
    /// Takes in one change of another's, whatever it has of those before.
    Deliver { to: usize, which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES;
    let step = prop_oneof![
        5 => (node.clone(), 0..4_u8, 0..6_i64, 0..6_i64)
            .prop_map(|(node, what, a, b)| Step::Do { node, what, a, b }),
        1 => (node.clone(), node.clone()).prop_map(|(to, from)| Step::Merge { to, from }),
        3 => (node, 0..1_000_usize).prop_map(|(to, which)| Step::Deliver { to, which }),
    ];
    prop::collection::vec(step, 0..40)
}

/// One of four operations on a type.
fn op(kind: u8, what: u8, a: i64, b: i64, unique: i64) -> Op {
    let key = || "k".into();
    let (a, b) = (Scalar::Int(a), Scalar::Int(b));
    match (kind, what) {
        (0, _) => Op::Increment(key(), unique % 7 - 3),
        (1, _) => Op::Write(key(), b),
        (2, 0 | 1) => Op::Add(key(), a),
        (2 | 3, 2) => Op::Remove(key(), a),
        (3, 0 | 1) => Op::Put(key(), a, b),
        (2..=4, 3) if unique % 5 == 0 => Op::Delete(key()),
        (2, _) => Op::Add(key(), b),
        (3, _) => Op::Put(key(), b, a),
        (_, 0) => Op::Append(key(), Scalar::Int(unique)),
        (_, 1) => Op::Insert(key(), Scalar::Int(unique / 2), Scalar::Int(unique)),
        (_, 2) => Op::Remove(key(), Scalar::Int(unique / 2)),
        (..) => Op::Insert(key(), Scalar::Nil, Scalar::Int(unique)),
    }
}

/// Plays the steps on keys of one type: the states of all nodes, and all changes made.
fn play(kind: u8, steps: &[Step]) -> (Vec<Cell>, Vec<Cell>) {
    let mut states = vec![Cell::default(); NODES];
    let mut changes: Vec<Cell> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Do { node, what, a, b } => {
                let stamp = Stamp {
                    moment: Moment {
                        ms: at as u64 / 3,
                        count: 0,
                    },
                    origin: Origin {
                        node: NodeId(node as u16 + 1),
                        life: 0,
                    },
                    seq: at as u64 + 1,
                };
                let op = op(kind, what, a, b, at as i64);
                let change = change(Some(&states[node]), &op, stamp).unwrap();
                states[node].merge(&change, false);
                changes.push(change);
            }
            Step::Merge { to, from } => {
                let theirs = states[from].clone();
                states[to].merge(&theirs, false);
            }
            Step::Deliver { to, which } => {
                if !changes.is_empty() {
                    states[to].merge(&changes[which % changes.len()], false);
                }
            }
        }
    }
    (states, changes)
}

fn merged(a: &Cell, b: &Cell) -> Cell {
    let mut both = a.clone();
    both.merge(b, false);
    both
}

fn laws(kind: u8, steps: &[Step]) {
    let (states, changes) = play(kind, steps);
    let some = states.iter().chain(changes.iter().take(3));
    let some: Vec<&Cell> = some.collect();
    for a in &some {
        assert_eq!(merged(a, a), **a, "idempotent");
        for b in &some {
            assert_eq!(merged(a, b), merged(b, a), "commutative");
            for c in &some {
                assert_eq!(
                    merged(&merged(a, b), c),
                    merged(a, &merged(b, c)),
                    "associative"
                );
            }
        }
    }
    // Every change, in two orders, once and twice.
    let all = changes
        .iter()
        .fold(Cell::default(), |all, c| merged(&all, c));
    let back = changes.iter().rev().chain(&changes);
    let back = back.fold(Cell::default(), |all, c| merged(&all, c));
    assert_eq!(all, back);
    let of_states = states
        .iter()
        .fold(Cell::default(), |all, c| merged(&all, c));
    assert_eq!(
        all.datum(),
        of_states.datum(),
        "states hold what their changes say"
    );
}

proptest! {
    #[test]
    fn counters_merge(steps in steps()) {
        laws(0, &steps);
        let (states, _) = play(0, &steps);
        let all = states.iter().fold(Cell::default(), |all, c| merged(&all, c));
        let done = steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Do { .. }));
        let sum: i64 = done.map(|(at, _)| at as i64 % 7 - 3).sum();
        prop_assert!(matches!(all.datum(), None | Some(Datum::Counter(_))));
        if let Some(Datum::Counter(counted)) = all.datum() {
            prop_assert_eq!(counted, sum);
        }
    }

    #[test]
    fn registers_merge(steps in steps()) {
        laws(1, &steps);
    }

    #[test]
    fn sets_merge(steps in steps()) {
        laws(2, &steps);
    }

    #[test]
    fn maps_merge(steps in steps()) {
        laws(3, &steps);
    }

    #[test]
    fn texts_merge_and_keep_every_insert(steps in steps()) {
        laws(4, &steps);
        let (states, changes) = play(4, &steps);
        let all = states.iter().fold(Cell::default(), |all, c| merged(&all, c));
        let Some(Datum::List(list)) = all.datum() else { return Ok(()) };
        let shown: BTreeSet<_> = list.iter().collect();
        prop_assert_eq!(shown.len(), list.len(), "nothing comes twice");
        // Whatever nobody has removed is there.
        let inserted = changes.iter().filter_map(|change| change.text.as_ref());
        let mut expected: BTreeSet<Scalar> = inserted.flat_map(super::Text::inserted).collect();
        for change in &changes {
            for gone in all.text.iter().flat_map(|text| text.taken_by(change.text.as_ref())) {
                expected.remove(&gone);
            }
        }
        prop_assert_eq!(shown, expected.iter().collect::<BTreeSet<_>>());
    }
}

/// An addition that the remover has not seen survives the removal.
#[test]
fn additions_win_over_concurrent_removals() {
    for (kind, expected) in [
        (2, Datum::Set([Scalar::Int(1)].into())),
        (3, Datum::Map([(Scalar::Int(1), Scalar::Int(5))].into())),
    ] {
        let act = |node, what| Step::Do {
            node,
            what,
            a: 1,
            b: 5,
        };
        let steps = [
            act(0, 0),
            Step::Merge { to: 1, from: 0 },
            act(0, 2),
            act(1, 0),
        ];
        let (states, _) = play(kind, &steps);
        assert_ne!(states[0].datum(), Some(expected.clone()));
        let both = merged(&states[0], &states[1]);
        assert_eq!(both.datum(), Some(expected));
    }
}

/// Words typed at the same place by two people do not mix.
#[test]
fn concurrent_runs_of_inserts_do_not_interleave() {
    let step = |node, what| Step::Do {
        node,
        what,
        a: 0,
        b: 0,
    };
    let steps: Vec<Step> = (0..6).map(|at| step(usize::from(at >= 3), 0)).collect();
    let (states, _) = play(4, &steps);
    let both = merged(&states[0], &states[1]);
    let ints = |list: [i64; 6]| Some(Datum::List(list.map(Scalar::Int).to_vec()));
    assert_eq!(both.datum(), ints([3, 4, 5, 0, 1, 2]));
}
