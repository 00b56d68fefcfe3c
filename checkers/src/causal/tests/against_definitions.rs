//! The three forms against their definitions, by trying every causal order.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::causal::{Variant, memory, only_weak};
use crate::isolation::analysis::{Findings, Level, analyse};
use crate::isolation::clocks;
use crate::isolation::execution::{Builder, Execution, INITIAL, Read};

/// Bits of operations.
type Set = u8;

/// Single operations on up to 2 registers: reads, writes and compare-and-sets, in sessions of these
/// sizes.
pub(super) fn any_execution(rng: &mut SmallRng, sizes: &[usize]) -> Execution {
    let ops: usize = sizes.iter().sum();
    let keys = rng.random_range(1..=if ops > 6 { 3 } else { 2_u32 });
    let cas = if rng.random_bool(0.3) { 0.3 } else { 0.0 };
    let what: Vec<(u32, bool, bool)> = (0..ops)
        .map(|_| {
            let key = rng.random_range(0..keys);
            let both = rng.random_bool(cas);
            let write = rng.random_bool(0.5);
            (key, !write || both, write || both)
        })
        .collect();
    let mut place: Vec<usize> = (0..ops).collect();
    for i in (1..ops).rev() {
        place.swap(i, rng.random_range(0..=i));
    }
    let forward = rng.random_bool(0.8);
    // Long histories are hardly ever good, save if reads are mostly from what is near.
    let near = ops > 8;
    let initial = if near { 0.01 } else { 0.15 };
    let mut builder = Builder::new(keys, ops);
    let mut t = 0;
    for &size in sizes {
        builder.session();
        for _ in 0..size {
            let (key, reads, writes) = what[t];
            let writers: Vec<usize> = (0..ops)
                .filter(|&w| w != t && what[w].2 && what[w].0 == key)
                .filter(|&w| !forward || place[w] < place[t])
                .collect();
            let from = if writers.is_empty() || rng.random_bool(initial) {
                INITIAL
            } else {
                let last = writers.iter().copied().max_by_key(|&w| place[w]);
                match last {
                    Some(last) if near && rng.random_bool(0.8) => last as u32,
                    _ => writers[rng.random_range(0..writers.len())] as u32,
                }
            };
            let read = reads.then_some(Read { key, from });
            let written: &[u32] = if writes { &[key] } else { &[] };
            builder.txn(read.as_slice(), written);
            t += 1;
        }
    }
    builder.finish()
}

/// All transitive strict orders that contain the order of sessions of these sizes: of each
/// operation those before it.
fn orders(sizes: &[usize]) -> Vec<Vec<Set>> {
    let mut session_of = Vec::new();
    for (session, &size) in sizes.iter().enumerate() {
        session_of.extend(std::iter::repeat_n(session, size));
    }
    // One operation more at a time: below it a set closed downwards, above it one closed upwards,
    // and all of the first below all of the second.
    let mut orders: Vec<Vec<Set>> = vec![Vec::new()];
    for op in 0..session_of.len() {
        let same = (0..op).filter(|&o| session_of[o] == session_of[op]);
        let before = same.fold(0, |set: Set, o| set | 1 << o);
        let mut next = Vec::new();
        for order in &orders {
            for below in 0..1_u16 << op {
                let below = below as Set;
                let closed = (0..op).all(|o| below >> o & 1 == 0 || order[o] & !below == 0);
                if !closed || before & !below != 0 {
                    continue;
                }
                for above in 0..1_u16 << op {
                    let above = above as Set;
                    let fits = above & below == 0
                        && (0..op).all(|o| {
                            if above >> o & 1 == 1 {
                                below & !order[o] == 0
                            } else {
                                order[o] & above == 0
                            }
                        });
                    if !fits {
                        continue;
                    }
                    let mut order: Vec<Set> = order.clone();
                    for (o, set) in order.iter_mut().enumerate() {
                        if above >> o & 1 == 1 {
                            *set |= 1 << op;
                        }
                    }
                    order.push(below);
                    next.push(order);
                }
            }
        }
        orders = next;
    }
    orders
}

/// Whether some sequence of `left` that respects the order explains the reads of `checked`.
fn explains(e: &Execution, order: &[Set], left: Set, checked: Set, held: &mut Vec<u32>) -> bool {
    if left == 0 {
        return true;
    }
    for op in 0..e.txns() {
        if left >> op & 1 == 0 || order[op as usize] & left != 0 {
            continue;
        }
        let right = |read: &Read| held[read.key as usize] == read.from;
        if checked >> op & 1 == 1 && !e.reads(op).iter().all(right) {
            continue;
        }
        let written = e.writes(op).first().map(|&key| {
            let before = std::mem::replace(&mut held[key as usize], op);
            (key, before)
        });
        let found = explains(e, order, left & !(1 << op), checked, held);
        if let Some((key, before)) = written {
            held[key as usize] = before;
        }
        if found {
            return true;
        }
    }
    false
}

/// Whether there is a causal order as the definition of the form asks for.
fn by_definition(e: &Execution, variant: Variant, orders: &[Vec<Set>]) -> bool {
    let ops = 0..e.txns();
    orders.iter().any(|order| {
        // What a read shows is among its causes, or nothing could explain it.
        let causes = ops.clone().all(|op| {
            let mut reads = e.reads(op).iter().filter(|read| read.from != INITIAL);
            reads.all(|read| order[op as usize] >> read.from & 1 == 1)
        });
        if !causes {
            return false;
        }
        if variant == Variant::Convergence {
            return arbitrated(e, order, &mut Vec::new());
        }
        ops.clone().all(|op| {
            let past = order[op as usize] | 1 << op;
            let mut checked: Set = 1 << op;
            if variant == Variant::Memory {
                let session = e.session(e.session_of(op));
                checked = (session.start..=op).fold(0, |set, o| set | 1 << o);
            }
            explains(e, order, past, checked, &mut vec![INITIAL; e.keys()])
        })
    })
}

/// Whether the causal order extends to a total one in which every read shows the last write among
/// its causes.
fn arbitrated(e: &Execution, order: &[Set], total: &mut Vec<u32>) -> bool {
    if total.len() == e.txns() as usize {
        return (0..e.txns()).all(|op| {
            e.reads(op).iter().all(|read| {
                let causes = |&&w: &&u32| order[op as usize] >> w & 1 == 1 && e.wrote(w, read.key);
                total.iter().rev().find(causes).map_or(INITIAL, |&w| w) == read.from
            })
        });
    }
    let placed = total.iter().fold(0, |set: Set, &o| set | 1 << o);
    for op in 0..e.txns() {
        if placed >> op & 1 == 0 && order[op as usize] & !placed == 0 {
            total.push(op);
            let found = arbitrated(e, order, total);
            total.pop();
            if found {
                return true;
            }
        }
    }
    false
}

fn decide(e: &Execution, variant: Variant) -> bool {
    let mut findings: Findings = analyse(e, Level::Causal);
    if variant != Variant::Convergence {
        only_weak(&mut findings);
    }
    if variant == Variant::Memory
        && let Some(order) = clocks::causes_first(e)
    {
        // Even where weak fails, which the checker does not wait for.
        let weak = findings.weak;
        findings = memory::causal_memory(e, &order, u64::MAX);
        assert!(!weak || !findings.violations.is_empty(), "{e:?}");
    }
    assert_eq!(findings.undecided, None);
    findings.violations.is_empty()
}

/// Checks that many cases: how often each form failed and held, and how often convergence held
/// without memory, and memory without convergence.
fn compare(seed: u64, cases: u32, shapes: &[&'static [usize]]) -> ([[u32; 2]; 3], [u32; 2]) {
    let mut all: BTreeMap<&[usize], Vec<Vec<Set>>> = BTreeMap::new();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut counts = [[0_u32; 2]; 3];
    let mut only_one = [0_u32; 2];
    for case in 0..cases {
        let sizes = shapes[rng.random_range(0..shapes.len())];
        let orders = all.entry(sizes).or_insert_with(|| orders(sizes));
        let e = any_execution(&mut rng, sizes);
        let mut holds = [false; 3];
        let variants = [Variant::Weak, Variant::Convergence, Variant::Memory];
        for (i, variant) in variants.into_iter().enumerate() {
            holds[i] = by_definition(&e, variant, orders);
            assert_eq!(
                decide(&e, variant),
                holds[i],
                "case {case}: {variant:?} of {e:?}"
            );
            counts[i][usize::from(holds[i])] += 1;
        }
        assert!(holds[0] || !holds[1] && !holds[2]);
        only_one[0] += u32::from(holds[1] && !holds[2]);
        only_one[1] += u32::from(holds[2] && !holds[1]);
    }
    (counts, only_one)
}

#[test]
fn each_form_is_decided_as_its_definition_says() {
    const SHAPES: [&[usize]; 8] = [
        &[2, 2],
        &[3, 1],
        &[2, 1, 1],
        &[3, 2],
        &[2, 2, 1],
        &[3, 3],
        &[4, 2],
        &[4, 3],
    ];
    let (counts, _) = compare(5, 100_000, &SHAPES);
    for [invalid, valid] in counts {
        assert!(invalid > 20_000 && valid > 20_000, "{counts:?}");
    }
}

#[test]
fn convergence_and_memory_are_told_apart() {
    let (counts, only_one) = compare(6, 40_000, &[&[4, 3], &[5, 3], &[4, 4]]);
    assert!(counts.iter().flatten().all(|&cases| cases > 5_000));
    assert!(only_one[0] >= 3 && only_one[1] > 100, "{only_one:?}");
}
