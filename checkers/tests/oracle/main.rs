//! Holds `lost-writes`, `stale-reads` and `split-brain` against an abstract store whose truth is
//! known by construction ([`store`], [`truth`]), and against what must not matter to a verdict
//! ([`metamorphic`]); `sessions` against its definition on the same store ([`sessions`]), and
//! `siblings`, `counter` and `mutual-exclusion` against stores with a planted mistake ([`planted`]);
//! `convergence` against replicas whose states are known ([`converged`]).

mod converged;
mod metamorphic;
mod planted;
mod sessions;
mod store;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use checkers::check_all::NAMES;
use checkers::{CheckResult, Checker, LostWrites, SplitBrain, StaleReads, Verdict, by_name};

use store::{Collection, Run, Setup};

/// Checkers of what this store does not have.
const ABOUT_OTHERS: [&str; 7] = [
    "convergence",
    "counter",
    "mutual-exclusion",
    "bank",
    "queue",
    "kafka",
    "unique-ids",
];

/// Runs per kind of store.
const ROUNDS: u64 = 700;

const FAMILIES: [Option<Collection>; 3] = [None, Some(Collection::List), Some(Collection::Set)];

/// The stores that are tried: of three nodes and of one, with and without a marker.
fn setups() -> impl Iterator<Item = (Setup, u64)> {
    let kinds = FAMILIES.into_iter().flat_map(|collection| {
        [
            (3, false, true),
            (3, true, true),
            (2, false, false),
            (1, true, true),
        ]
        .map(|(nodes, fenced, marked)| Setup {
            collection,
            nodes,
            fenced,
            marked,
            ops: 12,
        })
    });
    kinds.flat_map(|setup| (0..ROUNDS).map(move |seed| (setup, seed)))
}

fn count(result: &CheckResult, figure: &str) -> u64 {
    result.figures[figure].as_u64().expect("it is a count")
}

fn of_class<'r>(
    run: &'r Run,
    result: &'r CheckResult,
    class: &'r str,
) -> impl Iterator<Item = Vec<usize>> + 'r {
    let anomalies = result.anomalies.iter().filter(move |a| a.class == class);
    anomalies.map(|a| a.ops.iter().map(|&index| run.op(index)).collect())
}

fn truth_of(run: &Run, setup: Setup) -> truth::Truth {
    match setup.collection {
        Some(_) => truth::of_collections(run),
        None => truth::of_registers(run),
    }
}

#[test]
fn lost_writes_are_those_that_were_lost() {
    let (mut lost_in, mut clean) = (0, 0);
    for (setup, seed) in setups() {
        let run = store::run(setup, seed);
        let truth = truth_of(&run, setup);
        let result = LostWrites.check(&run.history);
        let context = || format!("{setup:?}, seed {seed}: {:#?}\n{result:#?}", run.history);

        let lost: BTreeSet<usize> = of_class(&run, &result, "lost").map(|ops| ops[0]).collect();
        assert_eq!(lost, truth.lost, "lost; {}", context());
        assert_eq!(count(&result, "lost"), lost.len() as u64);
        assert_eq!(
            count(&result, "never_read"),
            truth.never_read,
            "{}",
            context()
        );
        assert_eq!(
            count(&result, "recovered"),
            truth.recovered,
            "{}",
            context()
        );
        let vanished = of_class(&run, &result, "vanished").count();
        assert_eq!(vanished, truth.vanished.len(), "vanished; {}", context());
        assert_eq!(count(&result, "vanished"), vanished as u64);
        assert_eq!(count(&result, "duplicated"), 0, "{}", context());
        assert_eq!(count(&result, "unexpected"), 0, "{}", context());
        for ops in of_class(&run, &result, "lost") {
            let (write, read) = (&run.ops[ops[0]], &run.ops[ops[1]]);
            assert!(write.precedes(read), "the proof; {}", context());
            // What is missing from the value is missing from the store.
            let id = write.write.expect("a write is lost");
            assert!(!read.lineage.contains(&id), "no proof; {}", context());
        }

        let acknowledged = run.ops.iter().filter(|op| op.write.is_some() && op.is_ok());
        let expected = if !truth.lost.is_empty() || !truth.vanished.is_empty() {
            Verdict::Invalid
        } else {
            let reasons = [
                (truth.never_read > 0, "final-read-missing"),
                (acknowledged.count() == 0, "nothing-to-judge"),
            ];
            let reason = reasons.into_iter().find(|(holds, _)| *holds);
            reason.map_or(Verdict::Valid, |(_, r)| Verdict::Unknown(r.to_owned()))
        };
        assert_eq!(result.verdict, expected, "{}", context());
        *(if expected == Verdict::Invalid {
            &mut lost_in
        } else {
            &mut clean
        }) += 1;
    }
    assert!(lost_in > 500 && clean > 500, "{lost_in} and {clean}");
}

/// With a marker, what is lost is also told by what survived, without looking at reads at all.
#[test]
fn what_survived_is_not_lost() {
    for (setup, seed) in setups().filter(|(s, _)| s.marked && s.collection.is_some()) {
        let run = store::run(setup, seed);
        let result = LostWrites.check(&run.history);
        for ops in of_class(&run, &result, "lost") {
            let write = &run.ops[ops[0]];
            let id = write.write.expect("a write is lost");
            assert!(!run.survived[write.key].contains(&id), "{setup:?}, {seed}");
        }
        for key in 0..store::KEYS {
            if run.finals(key).is_empty() {
                continue;
            }
            let gone = run.acknowledged(key).filter(|&w| {
                let id = run.ops[w].write.expect("it is a write");
                !run.survived[key].contains(&id)
            });
            let lost = of_class(&run, &result, "lost").filter(|ops| run.ops[ops[0]].key == key);
            assert_eq!(lost.count(), gone.count(), "{setup:?}, {seed}");
        }
    }
}

#[test]
fn stale_reads_are_those_that_were_stale() {
    let (mut stale_in, mut clean) = (0, 0);
    for (setup, seed) in setups() {
        let run = store::run(setup, seed);
        let truth = truth_of(&run, setup);
        let result = StaleReads.check(&run.history);
        let context = || format!("{setup:?}, seed {seed}: {:#?}\n{result:#?}", run.history);

        let found: BTreeMap<usize, u64> = result
            .anomalies
            .iter()
            .map(|a| {
                let versions = a.figures["versions"].as_u64().expect("a count");
                (run.op(a.ops[1]), versions)
            })
            .collect();
        assert_eq!(found, truth.stale, "{}", context());
        let missing = truth.missing_lost.len() as u64;
        assert_eq!(
            count(&result, "reads_missing_lost_writes"),
            missing,
            "{}",
            context()
        );
        for a in &result.anomalies {
            let (write, read) = (&run.ops[run.op(a.ops[0])], &run.ops[run.op(a.ops[1])]);
            let id = write.write.expect("a write is missed");
            assert!(write.precedes(read), "the proof; {}", context());
            assert!(!read.lineage.contains(&id), "no proof; {}", context());
        }
        let invalid = result.verdict == Verdict::Invalid;
        assert_eq!(invalid, !truth.stale.is_empty(), "{}", context());
        *(if invalid { &mut stale_in } else { &mut clean }) += 1;
    }
    assert!(stale_in > 500 && clean > 500, "{stale_in} and {clean}");
}

#[test]
fn split_brain_is_two_nodes_that_both_went_on() {
    let (mut split, mut clean, mut forks) = (0, 0, 0);
    for (setup, seed) in setups() {
        let run = store::run(setup, seed);
        let result = SplitBrain.check(&run.history);
        let context = || format!("{setup:?}, seed {seed}: {:#?}\n{result:#?}", run.history);
        let writes: Vec<usize> = (0..store::KEYS).flat_map(|k| run.acknowledged(k)).collect();
        // Pairs of tenures, the superseded one first; within an epoch in either order.
        let mut pairs = BTreeSet::new();
        for &a in &writes {
            for &b in &writes {
                let (a, b) = (&run.ops[a], &run.ops[b]);
                let ((node, epoch), (other, later)) = (a.witness, b.witness);
                if node == other || epoch > later || !b.precedes(a) {
                    continue;
                }
                let in_order = epoch < later || node < other;
                pairs.insert(if in_order {
                    (a.witness, b.witness)
                } else {
                    (b.witness, a.witness)
                });
            }
        }
        let overlaps = of_class(&run, &result, "split-brain").count();
        assert_eq!(overlaps, pairs.len(), "{}", context());
        // What outcomes tell, witnesses tell, too.
        let forked = count(&result, "divergent_branches") > 0;
        assert!(!forked || overlaps > 0, "{}", context());
        forks += u64::from(forked);
        for ops in of_class(&run, &result, "split-brain") {
            let (by, superseded) = (&run.ops[ops[0]], &run.ops[ops[1]]);
            assert!(by.precedes(superseded), "the proof; {}", context());
            assert!(by.witness.1 >= superseded.witness.1, "{}", context());
            assert_ne!(by.witness.0, superseded.witness.0, "{}", context());
        }
        let lost = truth_of(&run, setup).lost;
        let overlaps = result.anomalies.iter().filter(|a| a.class == "split-brain");
        for anomaly in overlaps {
            for side in ["superseded", "by"] {
                let side = &anomaly.figures[side];
                let of_side = |i: &&usize| {
                    let (node, epoch) = run.ops[**i].witness;
                    side["node"] == format!("n{node}") && side["epoch"] == epoch
                };
                let tenure = writes.iter().filter(of_side).count();
                let discarded = lost.iter().filter(of_side).count();
                assert_eq!(side["acknowledged"], tenure, "{}", context());
                if setup.collection.is_some() {
                    assert_eq!(side["discarded"], discarded, "{}", context());
                }
            }
        }
        if setup.fenced {
            assert_ne!(result.verdict, Verdict::Invalid, "{}", context());
        }
        *(if pairs.is_empty() {
            &mut clean
        } else {
            &mut split
        }) += 1;
    }
    assert!(
        split > 500 && clean > 500 && forks > 0,
        "{split}, {clean} and {forks}"
    );
}

/// Checkers of transactions, and of orders over all keys: of some of these histories they say that
/// they cannot judge them, of others that they are valid.
const OF_SOME: [&str; 8] = [
    "list-append",
    "rw-register",
    "read-committed",
    "read-atomic",
    "causal",
    "causal-convergence",
    "causal-memory",
    "sequential",
];

#[test]
fn a_correct_store_is_valid_for_every_checker() {
    let mut valid: BTreeMap<&str, u32> = BTreeMap::new();
    let all: Vec<_> = NAMES.iter().map(|name| by_name(name).unwrap()).collect();
    for (mut setup, seed) in setups().filter(|(s, _)| s.nodes == 1) {
        setup.ops = 30;
        let run = store::run(setup, seed);
        for checker in &all {
            // A single copy may order two concurrent writes, and keep the last.
            if checker.name() == "siblings" {
                continue;
            }
            let result = checker.check(&run.history);
            let unread = "final-read-missing";
            let silent = ABOUT_OTHERS.contains(&checker.name())
                || checker.name() == "set-full" && setup.collection.is_none();
            if result.verdict == Verdict::Valid {
                *valid.entry(checker.name()).or_default() += 1;
            }
            let expected = match &result.verdict {
                Verdict::Valid => !silent,
                Verdict::Unknown(_) if OF_SOME.contains(&checker.name()) => true,
                Verdict::Unknown(why) if silent => why == "nothing-to-judge",
                // Each client may have done one thing only, and nobody may have read anything.
                Verdict::Unknown(why) if matches!(checker.name(), "sessions" | "set-full") => {
                    why == "nothing-to-judge" || why == unread
                }
                Verdict::Unknown(why) if checker.name() == "k-atomicity" => {
                    why == "nothing-to-judge" && setup.collection.is_some()
                }
                Verdict::Unknown(why) => why == unread,
                Verdict::Invalid => false,
            };
            assert!(expected, "{setup:?}, seed {seed}: {result:#?}");
            assert!(result.anomalies.is_empty());
        }
    }
    for name in OF_SOME {
        assert!(valid.get(name) > Some(&5), "{name}: {valid:?}");
    }
}

/// A write that is lost, or missing from a read that began after it, or seen and then gone, leaves
/// no order that explains it.
#[test]
fn what_loses_or_misses_a_write_is_not_linearizable() {
    let linearizable = by_name("linearizable").unwrap();
    for (setup, seed) in setups().filter(|(_, seed)| seed % 4 == 0) {
        let run = store::run(setup, seed);
        let found = [
            LostWrites.check(&run.history),
            StaleReads.check(&run.history),
        ];
        let any = found.iter().any(|r| r.verdict == Verdict::Invalid);
        if any || count(&found[1], "reads_missing_lost_writes") > 0 {
            let result = linearizable.check(&run.history);
            assert_eq!(result.verdict, Verdict::Invalid, "{setup:?}, seed {seed}");
        }
    }
}
