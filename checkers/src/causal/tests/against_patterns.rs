//! Causal memory of histories too long for all orders, against the bad patterns of the paper as
//! they are written, by closing the relation step by step.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::against_definitions::any_execution;
use crate::causal::memory;
use crate::isolation::clocks;
use crate::isolation::execution::{Builder, Execution, INITIAL, Read};

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

/// What a causal memory answers that keeps the write that came last, save for up to two reads.
fn nearly_memory(rng: &mut SmallRng, sizes: &[usize]) -> Execution {
    let keys = rng.random_range(2..=4_usize);
    let slow = rng.random_range(0.3..0.9);
    let starts: Vec<usize> = (0..sizes.len()).map(|s| sizes[..s].iter().sum()).collect();
    let ops: usize = sizes.iter().sum();
    // By operation: its key, whom it read from (if it reads), and the writes before it.
    let mut done: Vec<Option<(u32, Option<u32>, u64)>> = vec![None; ops];
    let mut at = vec![0; sizes.len()];
    let mut known = vec![0_u64; sizes.len()];
    let mut held = vec![vec![INITIAL; keys]; sizes.len()];
    while let Some(s) = {
        let left: Vec<usize> = (0..sizes.len()).filter(|&s| at[s] < sizes[s]).collect();
        (!left.is_empty()).then(|| left[rng.random_range(0..left.len())])
    } {
        for (w, op) in done.iter().enumerate() {
            if let Some((key, None, before)) = *op
                && known[s] >> w & 1 == 0
                && before & !known[s] == 0
                && !rng.random_bool(slow)
            {
                known[s] |= 1 << w;
                held[s][key as usize] = w as u32;
            }
        }
        let t = starts[s] + at[s];
        at[s] += 1;
        let key = rng.random_range(0..keys);
        if rng.random_bool(0.5) {
            done[t] = Some((key as u32, None, known[s]));
            known[s] |= 1 << t;
            held[s][key] = t as u32;
        } else {
            done[t] = Some((key as u32, Some(held[s][key]), 0));
        }
    }
    let done: Vec<(u32, Option<u32>, u64)> = done.into_iter().flatten().collect();
    let mut reads: Vec<Option<u32>> = done.iter().map(|op| op.1).collect();
    for _ in 0..rng.random_range(0..=2) {
        let (r, w) = (rng.random_range(0..ops), rng.random_range(0..ops));
        if reads[r].is_some() && done[w].1.is_none() && done[w].0 == done[r].0 {
            reads[r] = Some(w as u32);
        }
    }
    let mut builder = Builder::new(keys as u32, ops);
    for (s, &size) in sizes.iter().enumerate() {
        builder.session();
        for t in starts[s]..starts[s] + size {
            let key = done[t].0;
            let read = reads[t].map(|from| Read { key, from });
            let written: &[u32] = if read.is_none() { &[key] } else { &[] };
            builder.txn(read.as_slice(), written);
        }
    }
    builder.finish()
}

#[test]
fn causal_memory_is_decided_as_its_patterns_say() {
    const SHAPES: [&[usize]; 5] = [&[6, 6], &[8, 8], &[5, 5, 5], &[9, 7, 4], &[10, 10, 10]];
    let mut rng = SmallRng::seed_from_u64(8);
    let mut counts = [0_u32; 2];
    while counts.iter().sum::<u32>() < 150_000 {
        let sizes = SHAPES[rng.random_range(0..SHAPES.len())];
        let mut e = if rng.random_bool(0.3) {
            any_execution(&mut rng, sizes)
        } else {
            nearly_memory(&mut rng, sizes)
        };
        for i in (1..e.order.len()).rev() {
            e.order.swap(i, rng.random_range(0..=i));
        }
        let Some(order) = clocks::causes_first(&e) else {
            continue;
        };
        let expected = by_patterns(&e);
        let findings = memory::causal_memory(&e, &order, u64::MAX);
        assert_eq!(findings.violations.is_empty(), expected, "{e:?}");
        counts[usize::from(expected)] += 1;
    }
    assert!(counts.iter().all(|&count| count > 10_000), "{counts:?}");
}
