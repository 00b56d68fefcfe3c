//! Whether a store hands out every identifier once, as Jepsen's `unique-ids`
//! (`jepsen.checker/unique-ids`).
//!
//! Judged are the acknowledged operations of function `generate` without a key that were asked for
//! nothing in particular (their argument is `nil`): with a key or an argument, `generate` appends to
//! a list. What was never acknowledged may have used up any identifier, and proves nothing.
//!
//! `duplicate-id`: two acknowledgements, or more, carry the same identifier; one anomaly an
//! identifier. Figures: `attempted`, `acknowledged`, `duplicated` (identifiers that were handed out
//! more than once), `min` and `max` (of all handed out; numbers as numbers). Linear.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::found::{Found, anomaly, with_value};
use crate::verdict::conclude;
use crate::{CheckResult, Checker, F, History, Operation, Value};

/// Operations named by an anomaly; the others are counted.
const NAMED_MAX: usize = 10;

/// The checker; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct UniqueIds;

impl Checker for UniqueIds {
    fn name(&self) -> &'static str {
        "unique-ids"
    }

    fn check(&self, history: &History) -> CheckResult {
        let operations = match history.operations() {
            Ok(operations) => operations,
            Err(e) => return CheckResult::unknown(self.name(), format!("malformed-history: {e}")),
        };
        let (mut attempted, mut acknowledged, mut without) = (0_u64, 0_u64, 0_u64);
        let mut range: Option<(&Value, &Value)> = None;
        let mut first: FxHashMap<&Value, usize> = FxHashMap::default();
        let mut again: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, op) in operations.iter().enumerate() {
            if op.f() != &F::Generate || op.key().is_some() || !op.argument().is_nil() {
                continue;
            }
            attempted += 1;
            let Some(id) = op.result() else { continue };
            if id.is_nil() {
                without += 1;
                continue;
            }
            acknowledged += 1;
            range = Some(range.map_or((id, id), |(min, max)| (min.min(id), max.max(id))));
            let by = *first.entry(id).or_insert(i);
            if by != i {
                again.entry(by).or_default().push(i);
            }
        }
        let mut found = Found::default();
        for (&by, others) in &again {
            found.add("duplicate-id", || duplicate(&operations, by, others));
        }
        let reasons = (without > 0).then(|| format!("generated-nothing ({without} operations)"));
        let verdict = conclude(
            !found.is_empty(),
            acknowledged,
            reasons.into_iter().collect(),
        );
        let mut result = CheckResult::new(self.name(), verdict);
        result.judged = acknowledged;
        result.figure("attempted", attempted);
        result.figure("acknowledged", acknowledged);
        result.figure("duplicated", found.count("duplicate-id"));
        let json = |value: Option<&Value>| serde_json::to_value(value).unwrap_or_default();
        result.figure("min", json(range.map(|(min, _)| min)));
        result.figure("max", json(range.map(|(_, max)| max)));
        found.list(&mut result);
        result
    }
}

fn duplicate(operations: &[Operation<'_>], first: usize, others: &[usize]) -> crate::Anomaly {
    let all = std::iter::once(&first).chain(others);
    let named: Vec<&Operation<'_>> = all.map(|&i| &operations[i]).take(NAMED_MAX).collect();
    let id = operations[first].result().unwrap_or(&Value::Nil);
    let each: Vec<String> = named
        .iter()
        .map(|op| {
            let at = op.completed_at().unwrap_or_default() as f64 / 1e9;
            let node = op.node().map_or_else(String::new, |n| format!(" by {n}"));
            format!("process {}{node} at {at:.3} s", op.process())
        })
        .collect();
    let more = (others.len() + 1).saturating_sub(NAMED_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let times = others.len() + 1;
    let summary = format!(
        "{id} was handed out {times} times: to {}{more}",
        each.join(", ")
    );
    let mut anomaly = with_value(anomaly(None, &named, summary), id);
    anomaly.figures.insert("times".to_owned(), times.into());
    anomaly
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::testing::{Script, correct_run};
    use crate::{Kind, Verdict};

    /// A store that counts, and one in four times is asked to repeat itself.
    #[test]
    fn the_duplicated_are_those_handed_out_twice() {
        let (mut valid, mut invalid) = (0, 0);
        for seed in 0..5_000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let repeats = if rng.random_bool(0.5) { 0.0 } else { 0.2 };
            let mut choice = SmallRng::seed_from_u64(seed + 1);
            let ops = rng.random_range(1..20);
            let history = correct_run(
                &mut rng,
                &mut 0_i64,
                3,
                ops,
                |_| (F::Generate, Value::Nil),
                |next, _, _| {
                    if *next == 0 || !choice.random_bool(repeats) {
                        *next += 1;
                        return Value::Int(*next);
                    }
                    Value::Int(choice.random_range(1..=*next))
                },
            );
            let mut times: BTreeMap<i64, u64> = BTreeMap::new();
            let ok = history.events.iter().filter(|e| e.kind == Kind::Ok);
            for id in ok.filter_map(|e| e.value.as_int()) {
                *times.entry(id).or_default() += 1;
            }
            let result = UniqueIds.check(&history);
            let found: BTreeSet<i64> = result
                .anomalies
                .iter()
                .map(|a| a.figures["value"].as_i64().unwrap())
                .collect();
            let twice = times.iter().filter(|(_, n)| **n > 1).map(|(id, _)| *id);
            assert_eq!(found, twice.collect(), "seed {seed}");
            let expected = match (times.is_empty(), found.is_empty()) {
                (true, _) => Verdict::Unknown("nothing-to-judge".to_owned()),
                (false, true) => Verdict::Valid,
                (false, false) => Verdict::Invalid,
            };
            assert_eq!(result.verdict, expected);
            valid += u64::from(expected == Verdict::Valid);
            invalid += u64::from(expected == Verdict::Invalid);
            if let Some(min) = times.keys().next() {
                assert_eq!(result.figures["min"], *min);
            }
        }
        assert!(valid > 1_000 && invalid > 1_000, "{valid} {invalid}");
    }

    #[test]
    fn what_appends_to_a_list_hands_out_nothing() {
        let mut s = Script::new();
        s.op(1, Kind::Ok, F::Generate, "random");
        s.op(1, Kind::Ok, F::Generate, "random");
        s.key("k").client(1, Kind::Invoke, F::Generate, Value::Nil);
        s.client(1, Kind::Ok, F::Generate, 1);
        let result = UniqueIds.check(&s.history());
        assert_eq!(result.verdict, Verdict::Unknown("nothing-to-judge".into()));
    }

    #[test]
    fn a_duplicate_is_told() {
        let mut s = Script::new();
        for (process, node) in [(1, "n1"), (2, "n2")] {
            s.node(node, 1);
            s.client(process, Kind::Invoke, F::Generate, Value::Nil)
                .client(process, Kind::Ok, F::Generate, 7);
        }
        s.op(3, Kind::Info, F::Generate, Value::Nil);
        let result = UniqueIds.check(&s.history());
        assert_eq!(
            result.anomalies[0].summary,
            "7 was handed out 2 times: to process 1 by n1 at 0.001 s, process 2 by n2 at 0.003 s"
        );
        assert_eq!(result.anomalies[0].ops, [0, 2]);
        assert_eq!(result.figures["attempted"], 3);
    }
}
