//! What is shown of cycles: each edge is true, and no smaller cycle among the same transactions is
//! as bad.

use super::database::{Isolation, Options, run};
use super::{LARGE, LEVELS, SMALL};
use crate::transactions::cycles::{self, Cycle};
use crate::transactions::encode::{Shape, Transactions};
use crate::transactions::findings::{Explain, Findings, quoted};
use crate::transactions::graph::{Builder, Kind};
use crate::transactions::lists::Lists;
use crate::transactions::registers::{Assumptions, Registers};

/// The kinds of edges from `a` to `b`, by what explains them.
fn edges(txns: &Transactions<'_>, explain: &impl Explain, a: u32, b: u32) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = [Kind::Ww, Kind::Wr, Kind::Rw]
        .into_iter()
        .filter(|&kind| explain.explain(a, b, kind, ["a", "b"]).is_some())
        .collect();
    let (a, b) = (&txns.txns[a as usize], &txns.txns[b as usize]);
    if Transactions::precedes(a, b) {
        let process = a.process == b.process;
        kinds.push(if process {
            Kind::Process
        } else {
            Kind::Realtime
        });
    }
    kinds
}

/// Whether there is a cycle as bad as this one over fewer of its transactions.
fn can_be_smaller(txns: &Transactions<'_>, explain: &impl Explain, cycle: &Cycle) -> bool {
    fn extend(
        txns: &Transactions<'_>,
        explain: &impl Explain,
        cycle: &Cycle,
        names: &[u32],
        path: &mut Vec<(u32, Kind)>,
        at: u32,
    ) -> bool {
        for &next in names {
            for kind in edges(txns, explain, at, next) {
                path.push((at, kind));
                let first = path[0].0;
                let closed = path.len() > 1 && next == first;
                let found = if closed {
                    Cycle::of(path.clone())
                        .phenomenon()
                        .implies(cycle.phenomenon())
                } else {
                    let fresh = next != at && path.iter().all(|s| s.0 != next);
                    fresh
                        && path.len() + 1 < names.len()
                        && extend(txns, explain, cycle, names, path, next)
                };
                path.pop();
                if found {
                    return true;
                }
            }
        }
        false
    }
    let names: Vec<u32> = cycle.steps.iter().map(|s| s.0).collect();
    let mut path: Vec<(u32, Kind)> = Vec::new();
    names
        .iter()
        .any(|&start| extend(txns, explain, cycle, &names, &mut path, start))
}

fn judge(txns: &Transactions<'_>, found: &cycles::Found, explain: &impl Explain) -> [usize; 2] {
    let mut lengths = [0, 0];
    for cycle in &found.cycles {
        let n = cycle.steps.len();
        let mut names: Vec<u32> = cycle.steps.iter().map(|s| s.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n, "a transaction twice");
        assert_eq!(&Cycle::of(cycle.steps.clone()), cycle);
        for (i, &(a, kind)) in cycle.steps.iter().enumerate() {
            let b = cycle.steps[(i + 1) % n].0;
            let kinds = edges(txns, explain, a, b);
            assert!(
                kinds.contains(&kind),
                "{a} to {b} is {kinds:?}, not {kind:?}"
            );
        }
        lengths[usize::from(n > 2)] += 1;
        if n <= 6 {
            let told: Vec<String> = cycle.steps.iter().map(|s| quoted(txns, s.0)).collect();
            assert!(!can_be_smaller(txns, explain, cycle), "{cycle:?} {told:#?}");
        }
    }
    assert!(found.undecided.is_empty());
    lengths
}

#[test]
fn edges_are_true_and_cycles_minimal() {
    let mut all = [0, 0];
    for seed in 0..700 {
        let isolation = LEVELS[seed as usize % LEVELS.len()];
        let base = if seed % 3 == 0 { LARGE } else { SMALL };
        let lists = seed % 2 == 0;
        let options = Options {
            isolation,
            lists,
            txns: if seed % 3 == 0 { 100 } else { 12 },
            corrupted: u32::from(isolation != Isolation::Serial) * 2,
            ..base
        };
        let history = run(options, seed);
        let shape = if lists {
            Shape::Lists
        } else {
            Shape::Registers
        };
        let txns = Transactions::of(&history, shape).unwrap();
        let mut findings = Findings::default();
        let mut builder = Builder::new(txns.txns.len() as u32);
        let lengths = if lists {
            let lists = Lists::of(&txns, &mut builder, &mut findings).unwrap();
            let found = cycles::find(&txns, &lists.committed, builder).unwrap();
            judge(&txns, &found, &lists)
        } else {
            let none = Assumptions::default();
            let registers = Registers::of(&txns, none, &mut builder, &mut findings).unwrap();
            let found = cycles::find(&txns, &registers.committed, builder).unwrap();
            judge(&txns, &found, &registers)
        };
        all = [all[0] + lengths[0], all[1] + lengths[1]];
    }
    println!("{} cycles of two, {} longer", all[0], all[1]);
    assert!(all[0] > 500 && all[1] > 200);
}
