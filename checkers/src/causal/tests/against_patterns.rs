//! Causal memory of histories too long for all orders, against the bad patterns of the paper as
//! they are written, by closing the relation step by step.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::against_definitions::any_execution;
use crate::causal::memory;
use crate::isolation::clocks;
use crate::isolation::execution::{Execution, INITIAL};

/// By operation: those before it, as bits.
type Relation = Vec<u64>;

fn close(before: &mut Relation) {
    for via in 0..before.len() {
        for b in 0..before.len() {
            if before[b] >> via & 1 == 1 {
                before[b] |= before[via];
            }
        }
    }
}

fn causality(e: &Execution) -> Relation {
    let mut before: Relation = (0..e.txns())
        .map(|t| {
            let mut causes = e
                .sources(t)
                .iter()
                .chain(&e.previous(t))
                .copied()
                .collect::<Vec<_>>();
            causes.dedup();
            causes.into_iter().fold(0, |set, c| set | 1 << c)
        })
        .collect();
    close(&mut before);
    before
}

/// Whether no session's last operation shows a bad pattern.
fn by_patterns(e: &Execution) -> bool {
    let causality = causality(e);
    (0..e.sessions()).all(|p| {
        let Some(last) = e.session(p).last() else {
            return true;
        };
        let past = causality[last as usize] | 1 << last;
        let of_past = |t: u32| {
            if past >> t & 1 == 1 {
                causality[t as usize]
            } else {
                0
            }
        };
        let mut before: Relation = (0..e.txns()).map(of_past).collect();
        loop {
            let mut grown = false;
            for r in e.session(p) {
                for read in e.reads(r) {
                    for w in 0..e.txns() {
                        let happened = before[r as usize] >> w & 1 == 1;
                        if !happened || w == read.from || !e.wrote(w, read.key) {
                            continue;
                        }
                        if read.from == INITIAL {
                            return false;
                        }
                        grown |= before[read.from as usize] >> w & 1 == 0;
                        before[read.from as usize] |= 1 << w;
                    }
                }
            }
            close(&mut before);
            if (0..e.txns()).any(|t| before[t as usize] >> t & 1 == 1) {
                return false;
            }
            if !grown {
                return true;
            }
        }
    })
}

#[test]
fn causal_memory_is_decided_as_its_patterns_say() {
    const SHAPES: [&[usize]; 4] = [&[6, 6], &[8, 8], &[5, 5, 5], &[9, 7, 4]];
    let mut rng = SmallRng::seed_from_u64(8);
    let mut counts = [0_u32; 2];
    while counts.iter().sum::<u32>() < 100_000 {
        let sizes = SHAPES[rng.random_range(0..SHAPES.len())];
        let e = any_execution(&mut rng, sizes);
        let Some(order) = clocks::causes_first(&e) else {
            continue;
        };
        let expected = by_patterns(&e);
        // The easy ones, with a write among the causes of a read of the initial state, are many.
        if !expected && rng.random_bool(0.5) {
            continue;
        }
        let findings = memory::causal_memory(&e, &order, u64::MAX);
        assert_eq!(findings.violations.is_empty(), expected, "{e:?}");
        counts[usize::from(expected)] += 1;
    }
    assert!(counts.iter().all(|&count| count > 10_000), "{counts:?}");
}
