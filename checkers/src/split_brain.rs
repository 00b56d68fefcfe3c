//! Whether two nodes acknowledged writes in overlapping time.
//!
//! Every acknowledged write carries a witness: the node that answered, and the epoch or term it was
//! in. All writes acknowledged by one node in one epoch are a *tenure*. Two tenures of different
//! nodes overlap if the one of the lower (or the same) epoch acknowledges a write that was invoked
//! after a client had seen the other acknowledge one: the superseded node cannot have been told.
//!
//! One anomaly a pair of tenures: `superseded` is the node that went on, `seconds` the time from
//! the other's first acknowledgement to the last one of the superseded node, and `discarded` how
//! many writes of each side (append, generate, add and insert only, over the whole tenure) are missing from the
//! final reads (see [`crate::lost_writes`]).
//!
//! Also without witnesses, `divergent-branches`: a list or a register forked, and both branches went
//! on: what each acknowledged is missing from the other (see `branches`). Without witnesses and
//! without such a fork nobody knows: `unknown(no-witnesses)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::found::{self, Found, told};
use crate::verdict::conclude;
use crate::{Anomaly, CheckResult, Checker, F, History, Operation, Value, lost_writes, observe};

mod branches;

use branches::Divergence;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct SplitBrain;

/// What one node acknowledged in one epoch.
struct Tenure<'a> {
    node: &'a Arc<str>,
    epoch: u64,
    /// By invocation.
    writes: Vec<usize>,
    /// The operation acknowledged first.
    first: usize,
    discarded: u64,
}

/// Two tenures that overlap.
struct Overlap<'t, 'a> {
    superseded: &'t Tenure<'a>,
    by: &'t Tenure<'a>,
    /// What the superseded node acknowledged although it was superseded, by invocation.
    writes: &'t [usize],
    /// ns.
    from: u64,
    to: u64,
    /// The operation of the superseded node acknowledged last.
    last: usize,
}

impl Checker for SplitBrain {
    fn name(&self) -> &'static str {
        "split-brain"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let mut found = Found::default();
        let mut discarded: FxHashSet<usize> = FxHashSet::default();
        if observe::all_known(&operations).is_ok() {
            let keys = observe::by_key(&operations);
            for (key, view) in &keys {
                for fork in branches::divergences(&operations, view) {
                    found.add("divergent-branches", || divergent(&operations, *key, &fork));
                }
            }
            discarded = lost_writes::lost_operations(&operations, keys, history.final_phase());
        }
        let mut tenures: BTreeMap<(u64, &str), Tenure<'_>> = BTreeMap::new();
        let (mut acknowledged, mut without_witness) = (0_u64, 0_u64);
        for (i, op) in operations.iter().enumerate() {
            if !(op.is_ok() && op.f().is_write()) {
                continue;
            }
            acknowledged += 1;
            let (Some(node), Some(epoch)) = (op.node(), op.epoch()) else {
                without_witness += 1;
                continue;
            };
            let tenure = tenures.entry((epoch, node)).or_insert_with(|| Tenure {
                node,
                epoch,
                writes: Vec::new(),
                first: i,
                discarded: 0,
            });
            tenure.writes.push(i);
            if op.completed_position < operations[tenure.first].completed_position {
                tenure.first = i;
            }
            let counted = matches!(op.f(), F::Append | F::Generate | F::Add | F::Insert)
                && discarded.contains(&i);
            tenure.discarded += u64::from(counted);
        }
        let tenures: Vec<Tenure<'_>> = tenures.into_values().collect();
        let mut overlaps = overlaps(&operations, &tenures);
        overlaps.sort_by_key(|o| operations[o.writes[0]].invoked_position);

        let mut reasons = Vec::new();
        if acknowledged > 0 && without_witness == acknowledged {
            reasons.push("no-witnesses".to_owned());
        } else if without_witness > 0 {
            reasons.push(format!(
                "no-witnesses: {without_witness} of {acknowledged} acknowledged writes"
            ));
        }
        let verdict = conclude(
            !overlaps.is_empty() || !found.is_empty(),
            acknowledged,
            reasons,
        );
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = acknowledged - without_witness;
        result.figure("tenures", tenures.len());
        result.figure("pairs", overlaps.len());
        result.figure("overlap_seconds", union_seconds(&overlaps));
        result.figure("discarded_writes", discarded_writes(&overlaps));
        result.figure("without_witness", without_witness);
        result.figure("divergent_branches", found.count("divergent-branches"));
        for overlap in &overlaps {
            found.add("split-brain", || anomaly(&operations, overlap));
        }
        found.list(&mut result);
        result
    }
}

fn divergent(operations: &[Operation<'_>], key: Option<&Value>, fork: &Divergence) -> Anomaly {
    let write = |w: usize| told(&operations[w], observe::written(&operations[w]), key);
    let (first, other, again) = (write(fork.first), write(fork.other), write(fork.again));
    let mut summary = format!(
        "two branches of {} both went on: the {first}; then the {other}, without the first; then \
         the {again}, without the second",
        observe::key_name(key)
    );
    let mut ops = vec![fork.first, fork.other, fork.again];
    if let Some((a, b)) = fork.shown {
        let [a_told, b_told] = [a, b].map(|read| told(&operations[read], None, key));
        summary = format!("{summary}; the {a_told} shows the one branch, the {b_told} the other");
        ops.extend([a, b]);
    }
    let ops: Vec<&Operation<'_>> = ops.iter().map(|&op| &operations[op]).collect();
    found::anomaly(key, &ops, summary)
}

/// All pairs that overlap. `tenures` ascend by epoch, then by node.
fn overlaps<'t, 'a>(
    operations: &[Operation<'a>],
    tenures: &'t [Tenure<'a>],
) -> Vec<Overlap<'t, 'a>> {
    let ended = |i: usize| operations[i].completed_position.unwrap_or(usize::MAX);
    let at = |i: usize| operations[i].completed_at().unwrap_or_default();
    let mut found = Vec::new();
    for (i, lower) in tenures.iter().enumerate() {
        for higher in &tenures[i + 1..] {
            if lower.node == higher.node {
                continue;
            }
            // In the same epoch, the one that was first is superseded by nobody's word: take the
            // one that went on after the later start.
            let same_epoch = lower.epoch == higher.epoch;
            let (superseded, by) = if same_epoch && ended(higher.first) < ended(lower.first) {
                (higher, lower)
            } else {
                (lower, higher)
            };
            let mut pair = (
                superseded,
                by,
                after(operations, superseded, ended(by.first)),
            );
            if pair.2.is_empty() && same_epoch {
                // The first one stopped, and the other began afterwards under the same epoch.
                pair = (
                    by,
                    superseded,
                    after(operations, by, ended(superseded.first)),
                );
            }
            let (superseded, by, writes) = pair;
            let Some(last) = writes.iter().copied().max_by_key(|&w| ended(w)) else {
                continue;
            };
            found.push(Overlap {
                superseded,
                by,
                writes,
                from: at(by.first),
                to: at(last),
                last,
            });
        }
    }
    found
}

/// The writes of a tenure invoked after a position.
fn after<'t>(operations: &[Operation<'_>], tenure: &'t Tenure<'_>, position: usize) -> &'t [usize] {
    let from = tenure
        .writes
        .partition_point(|&w| operations[w].invoked_position <= position);
    &tenure.writes[from..]
}

/// Seconds during which at least one pair overlapped.
fn union_seconds(overlaps: &[Overlap<'_, '_>]) -> f64 {
    let mut spans: Vec<(u64, u64)> = overlaps.iter().map(|o| (o.from, o.to)).collect();
    spans.sort_unstable();
    let (mut total, mut until) = (0, 0);
    for (from, to) in spans {
        total += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    total as f64 / 1e9
}

/// Discarded writes of all tenures that overlap with another, each tenure counted once.
fn discarded_writes(overlaps: &[Overlap<'_, '_>]) -> u64 {
    let sides = overlaps.iter().flat_map(|o| [o.superseded, o.by]);
    let by_tenure: BTreeMap<(u64, &str), u64> =
        sides.map(|t| ((t.epoch, &**t.node), t.discarded)).collect();
    by_tenure.values().sum()
}

fn anomaly(operations: &[Operation<'_>], overlap: &Overlap<'_, '_>) -> Anomaly {
    let (superseded, by) = (overlap.superseded, overlap.by);
    let seconds = overlap.to.saturating_sub(overlap.from) as f64 / 1e9;
    let summary = format!(
        "{} (epoch {}) acknowledged {} write(s) that began after {} (epoch {}) had acknowledged \
         one: {seconds:.3} s with two leaders; {} of the {} writes acknowledged by {} and {} of the \
         {} by {} were discarded",
        superseded.node,
        superseded.epoch,
        overlap.writes.len(),
        by.node,
        by.epoch,
        superseded.discarded,
        superseded.writes.len(),
        superseded.node,
        by.discarded,
        by.writes.len(),
        by.node,
    );
    let side = |tenure: &Tenure<'_>| {
        serde_json::json!({
            "node": &**tenure.node,
            "epoch": tenure.epoch,
            "acknowledged": tenure.writes.len(),
            "discarded": tenure.discarded,
        })
    };
    let mut figures = serde_json::Map::new();
    figures.insert("superseded".to_owned(), side(superseded));
    figures.insert("by".to_owned(), side(by));
    figures.insert("writes".to_owned(), overlap.writes.len().into());
    figures.insert(
        "from_seconds".to_owned(),
        (overlap.from as f64 / 1e9).into(),
    );
    figures.insert("seconds".to_owned(), seconds.into());
    let mut ops = vec![by.first, overlap.writes[0], overlap.last];
    ops.dedup();
    Anomaly {
        class: "split-brain".to_owned(),
        key: None,
        summary,
        ops: ops
            .into_iter()
            .map(|i| operations[i].invoke.index)
            .collect(),
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, ints};
    use crate::{Kind, Verdict};

    fn check(script: &Script) -> CheckResult {
        SplitBrain.check(&script.history())
    }

    #[test]
    fn a_superseded_leader_that_goes_on_is_split_brain() {
        let mut s = Script::new();
        s.key("k");
        s.node("n1", 1).op(1, Kind::Ok, F::Append, 1);
        s.node("n2", 2).op(2, Kind::Ok, F::Append, 2);
        s.node("n1", 1).op(1, Kind::Ok, F::Append, 3);
        s.node("n1", 1).op(1, Kind::Ok, F::Append, 4);
        s.node("n2", 2).op(2, Kind::Ok, F::Read, ints(&[1, 2]));
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Invalid);
        assert_eq!(result.anomalies.len(), 1);
        let anomaly = &result.anomalies[0];
        assert_eq!(anomaly.ops, [2, 4, 6]);
        assert_eq!(anomaly.figures["superseded"]["node"], "n1");
        assert_eq!(anomaly.figures["superseded"]["discarded"], 2);
        assert_eq!(anomaly.figures["by"]["discarded"], 0);
        // From the acknowledgement at 3 ms to the one at 7 ms.
        assert_eq!(result.figures["overlap_seconds"], 0.004);
        assert_eq!(result.figures["discarded_writes"], 2);
    }

    #[test]
    fn an_orderly_failover_is_not() {
        let mut s = Script::new();
        s.node("n1", 1).op(1, Kind::Ok, F::Write, 1);
        // Invoked before the new leader acknowledged anything, answered after.
        s.client(1, Kind::Invoke, F::Write, 2);
        s.node("n2", 2).op(2, Kind::Ok, F::Write, 3);
        s.node("n1", 1).client(1, Kind::Ok, F::Write, 2);
        s.node("n2", 2).op(2, Kind::Ok, F::Write, 4);
        s.node("n1", 3).op(1, Kind::Ok, F::Write, 5);
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Valid);
        assert_eq!(result.figures["tenures"], 3);
    }

    #[test]
    fn two_nodes_in_one_epoch_are() {
        let mut s = Script::new();
        s.node("n2", 1).op(1, Kind::Ok, F::Write, 1);
        s.node("n1", 1).op(1, Kind::Ok, F::Write, 2);
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Invalid);
        assert_eq!(result.anomalies[0].ops, [0, 2]);
    }

    #[test]
    fn without_witnesses_nobody_knows() {
        let mut s = Script::new();
        s.op(1, Kind::Ok, F::Write, 1);
        assert_eq!(check(&s).verdict, Verdict::Unknown("no-witnesses".into()));
        s.node("n1", 1).op(1, Kind::Ok, F::Write, 2);
        let reason = "no-witnesses: 1 of 2 acknowledged writes";
        assert_eq!(check(&s).verdict, Verdict::Unknown(reason.into()));
        assert_eq!(
            check(&Script::new()).verdict,
            Verdict::Unknown("nothing-to-judge".into())
        );
    }

    const TAIL: &str = "two branches of key k both went on";

    #[test]
    fn branches_that_both_go_on_are_split_brain_without_witnesses() {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Append, 1)
            .op(2, Kind::Ok, F::Append, 2)
            .op(1, Kind::Ok, F::Append, 3)
            .op(3, Kind::Ok, F::Read, ints(&[1, 3]))
            .op(3, Kind::Ok, F::Read, ints(&[2]));
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Invalid);
        assert_eq!(result.anomalies[0].class, "divergent-branches");
        assert_eq!(result.anomalies[0].ops, [0, 2, 4, 6, 8]);
        assert!(result.anomalies[0].summary.starts_with(TAIL));
        // A failover that lost the end, and registers by their compare-and-sets.
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Append, 1)
            .op(1, Kind::Ok, F::Append, 3)
            .op(3, Kind::Ok, F::Read, ints(&[1, 3]))
            .op(2, Kind::Ok, F::Append, 2)
            .op(3, Kind::Ok, F::Read, ints(&[1, 2]));
        assert_eq!(check(&s).verdict, Verdict::Unknown("no-witnesses".into()));
        for (again, split) in [(ints(&[2, 4]), true), (ints(&[3, 4]), false)] {
            let mut s = Script::new();
            s.key("k")
                .op(1, Kind::Ok, F::Write, 1)
                .op(1, Kind::Ok, F::Cas, ints(&[1, 2]))
                .op(1, Kind::Ok, F::Cas, ints(&[1, 3]))
                .op(1, Kind::Ok, F::Cas, again);
            assert_eq!(check(&s).verdict == Verdict::Invalid, split);
        }
    }

    /// One list with failovers that lose its end, read with a lag; or two that part for good.
    #[test]
    fn forks_are_found_as_defined_and_never_where_one_list_is_written() {
        use rand::rngs::SmallRng;
        use rand::{Rng, SeedableRng};

        use crate::Value;
        use crate::testing::correct_run;

        #[derive(Default)]
        struct Store {
            lists: [Vec<i64>; 2],
            old: Vec<Vec<i64>>,
        }

        let (mut forked, mut clean) = (0, 0);
        for seed in 0..20_000_u64 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let two = rng.random_bool(0.5);
            let mut choice = SmallRng::seed_from_u64(seed);
            let mut next = 0;
            let ops = rng.random_range(4..20);
            let history = correct_run(
                &mut rng,
                &mut Store::default(),
                3,
                ops,
                |rng| {
                    if rng.random_bool(0.4) {
                        return (F::Read, Value::Nil);
                    }
                    next += 1;
                    (F::Append, Value::Int(next))
                },
                |store, f, value| {
                    let node = usize::from(two && choice.random_bool(0.5));
                    if choice.random_bool(0.1) {
                        let list = &mut store.lists[node];
                        store.old.push(list.clone());
                        let left = choice.random_range(0..=list.len());
                        list.truncate(left);
                    }
                    let list = &mut store.lists[node];
                    if f == &F::Append {
                        list.extend(value.as_int());
                        return value.clone();
                    }
                    let lag = choice.random_range(0..store.old.len() + 3);
                    let shown = store.old.get(lag).unwrap_or(list);
                    let shown = &shown[..choice.random_range(0..=shown.len())];
                    ints(shown)
                },
            );
            let operations = history.operations().unwrap();
            let reads: Vec<&[Value]> = operations
                .iter()
                .filter(|op| op.f() == &F::Read)
                .filter_map(|op| op.result()?.items())
                .collect();
            let fork = |a: &[Value], b: &[Value]| !a.starts_with(b) && !b.starts_with(a);
            let expected = reads.iter().any(|a| {
                reads.iter().filter(|b| fork(a, b)).any(|b| {
                    let only = |shows: &[Value], other: &[Value]| -> Vec<&Operation<'_>> {
                        operations
                            .iter()
                            .filter(|op| op.is_ok() && op.f() == &F::Append)
                            .filter(|op| shows.contains(op.argument()))
                            .filter(|op| !other.contains(op.argument()))
                            .collect()
                    };
                    let (ours, theirs) = (only(a, b), only(b, a));
                    ours.iter().any(|x| {
                        theirs
                            .iter()
                            .filter(|y| x.precedes(y))
                            .any(|y| ours.iter().any(|again| y.precedes(again)))
                    })
                })
            });
            let result = SplitBrain.check(&history);
            let found = result.verdict == Verdict::Invalid;
            assert_eq!(found, expected, "seed {seed}: {history:#?} {result:#?}");
            assert!(two || !found, "seed {seed}: {history:#?}");
            forked += u64::from(found);
            clean += u64::from(!found);
        }
        assert!(forked > 300 && clean > 5_000, "{forked} {clean}");
    }
}
