//! The levels against their definitions: every commit order is tried, and the axiom checked word
//! for word.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::isolation::analysis::{Level, Violation, Why, analyse};
use crate::isolation::execution::{Builder, Execution, INITIAL, Read};

const LEVELS: [Level; 3] = [Level::ReadCommitted, Level::ReadAtomic, Level::Causal];

/// Up to 5 transactions in up to 3 sessions on up to 2 keys.
fn any_execution(rng: &mut SmallRng) -> Execution {
    let txns = rng.random_range(2..=5_u32);
    let sessions = rng.random_range(1..=3_u32);
    let keys = rng.random_range(1..=2_u32);
    let mut session_of: Vec<u32> = (0..txns).map(|_| rng.random_range(0..sessions)).collect();
    session_of.sort_unstable();
    let writes_often = rng.random_range(0.3..0.9);
    let writes: Vec<Vec<u32>> = (0..txns)
        .map(|_| {
            (0..keys)
                .filter(|_| rng.random_bool(writes_often))
                .collect()
        })
        .collect();
    let reads_max = rng.random_range(1..=3);
    let initial = rng.random_range(0.0..0.5);
    // Reads mostly from transactions with a smaller place in some order, so that many are good.
    let mut place: Vec<u32> = (0..txns).collect();
    for i in (1..place.len()).rev() {
        place.swap(i, rng.random_range(0..=i));
    }
    let forward = rng.random_bool(0.7);
    let mut builder = Builder::new(keys, txns as usize);
    let mut last = u32::MAX;
    for t in 0..txns {
        if session_of[t as usize] != last {
            last = session_of[t as usize];
            builder.session();
        }
        let mut reads = Vec::new();
        for _ in 0..rng.random_range(0..=reads_max) {
            let key = rng.random_range(0..keys);
            let writers: Vec<u32> = (0..txns)
                .filter(|&w| w != t && writes[w as usize].contains(&key))
                .filter(|&w| {
                    !forward || w < t || session_of[w as usize] != last && place[w as usize] < 2
                })
                .collect();
            let from = if writers.is_empty() || rng.random_bool(initial) {
                INITIAL
            } else {
                writers[rng.random_range(0..writers.len())]
            };
            reads.push(Read { key, from });
        }
        builder.txn(&reads, &writes[t as usize]);
    }
    let mut e = builder.finish();
    if rng.random_bool(0.2) {
        let pair = (rng.random_range(0..txns), rng.random_range(0..txns));
        if pair.0 != pair.1 {
            e.versions.push(pair);
        }
    }
    for i in (1..e.order.len()).rev() {
        e.order.swap(i, rng.random_range(0..=i));
    }
    e
}

/// Whether `t2` is visible to the `i`th read of `t3`, by the definition of the level.
fn visible(e: &Execution, level: Level, t2: u32, t3: u32, i: usize, causes: &[Vec<bool>]) -> bool {
    match level {
        Level::ReadCommitted => e.reads(t3)[..i].iter().any(|read| read.from == t2),
        Level::ReadAtomic => {
            e.in_session_order(t2, t3) || e.reads(t3).iter().any(|read| read.from == t2)
        }
        Level::Causal | Level::CausalMemory => causes[t2 as usize][t3 as usize],
    }
}

pub(super) fn causes(e: &Execution) -> Vec<Vec<bool>> {
    let n = e.txns() as usize;
    let mut before = vec![vec![false; n]; n];
    for b in 0..e.txns() {
        for a in 0..e.txns() {
            let read = e.reads(b).iter().any(|read| read.from == a);
            before[a as usize][b as usize] = read || e.in_session_order(a, b);
        }
    }
    for via in 0..n {
        for a in 0..n {
            for b in 0..n {
                before[a][b] |= before[a][via] && before[via][b];
            }
        }
    }
    before
}

/// Whether some commit order meets the axiom.
fn by_definition(e: &Execution, level: Level) -> bool {
    let causes = causes(e);
    let mut order: Vec<u32> = Vec::new();
    extend(e, level, &causes, &mut order)
}

fn extend(e: &Execution, level: Level, causes: &[Vec<bool>], order: &mut Vec<u32>) -> bool {
    if order.len() == e.txns() as usize {
        return meets(e, level, causes, order);
    }
    for t in 0..e.txns() {
        if !order.contains(&t) {
            order.push(t);
            let found = extend(e, level, causes, order);
            order.pop();
            if found {
                return true;
            }
        }
    }
    false
}

pub(super) fn meets(e: &Execution, level: Level, causes: &[Vec<bool>], order: &[u32]) -> bool {
    // The initial state comes before everything.
    let place = |t: u32| order.iter().position(|&o| o == t).map_or(0, |p| p + 1);
    let txns = 0..e.txns();
    for a in txns.clone() {
        for b in txns.clone() {
            let must = e.in_session_order(a, b)
                || e.reads(b).iter().any(|read| read.from == a)
                || e.versions.contains(&(a, b));
            if must && place(a) >= place(b) {
                return false;
            }
        }
    }
    for t3 in txns.clone() {
        for (i, read) in e.reads(t3).iter().enumerate() {
            for t2 in txns.clone() {
                let asked = t2 != read.from
                    && t2 != t3
                    && e.wrote(t2, read.key)
                    && visible(e, level, t2, t3, i, causes);
                if asked && place(t2) >= place(read.from) {
                    return false;
                }
            }
        }
    }
    true
}

/// That a violation is what it says.
fn confirm(e: &Execution, level: Level, violation: &Violation) {
    let causes = causes(e);
    let link = |a: u32, why: Why, b: u32| match why {
        Why::Session => assert!(e.in_session_order(a, b)),
        Why::ReadFrom => assert!(e.sources(b).contains(&a)),
        Why::Versions => assert!(e.versions.contains(&(a, b))),
        Why::Axiom(edge) => {
            assert_eq!((edge.before, edge.after), (a, b));
            axiom(e, level, edge, &causes);
        }
    };
    let chain = |way: &[(u32, Why)], end: u32| {
        for (i, &(a, why)) in way.iter().enumerate() {
            link(a, why, way.get(i + 1).map_or(end, |next| next.0));
        }
    };
    match violation {
        Violation::Initial(edge) => {
            assert_eq!(edge.after, INITIAL);
            axiom(e, level, *edge, &causes);
        }
        Violation::Overwritten { edge, way } => {
            axiom(e, level, *edge, &causes);
            assert_eq!(way[0].0, edge.after);
            chain(way, edge.before);
        }
        Violation::Cycle(cycle) => {
            assert!(cycle.len() > 1);
            chain(cycle, cycle[0].0);
        }
    }
}

fn axiom(e: &Execution, level: Level, edge: levels::Edge, causes: &[Vec<bool>]) {
    assert!(e.wrote(edge.before, edge.key));
    let reads = e.reads(edge.reader).iter().enumerate();
    let asked = reads
        .filter(|(_, read)| (read.key, read.from) == (edge.key, edge.after))
        .any(|(i, _)| visible(e, level, edge.before, edge.reader, i, causes));
    assert!(asked, "{edge:?} in {e:?}");
}

use crate::isolation::levels;

#[test]
fn each_level_is_decided_as_its_definition_says() {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut counts = [[0_u32; 2]; 3];
    for case in 0..120_000 {
        let e = any_execution(&mut rng);
        let mut stronger_holds = false;
        for (i, level) in LEVELS.into_iter().enumerate().rev() {
            let expected = by_definition(&e, level);
            let findings = analyse(&e, level);
            assert_eq!(findings.undecided, None);
            assert_eq!(
                findings.violations.is_empty(),
                expected,
                "case {case}: {level:?} of {e:?}: {findings:?}"
            );
            for violation in &findings.violations {
                confirm(&e, level, violation);
            }
            assert!(expected || !stronger_holds, "the levels are a hierarchy");
            stronger_holds = expected;
            counts[i][usize::from(expected)] += 1;
        }
    }
    for [invalid, valid] in counts {
        assert!(invalid > 25_000 && valid > 25_000, "{counts:?}");
    }
}
