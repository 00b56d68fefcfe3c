//! Several checkers over one history, and their merged verdict.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::causal::Variant;
use crate::{
    Availability, Bank, Causal, CheckResult, Checker, Convergence, Counter, History, KAtomicity,
    Kafka, Linearizable, ListAppend, LostWrites, MutualExclusion, Queue, ReadAtomic, ReadCommitted,
    RwRegister, Sequential, Sessions, SetFull, Siblings, SplitBrain, StaleReads, UniqueIds,
    Verdict,
};

/// The names of all checkers, as the command line takes them.
pub const NAMES: [&str; 24] = [
    "linearizable",
    "lost-writes",
    "set-full",
    "stale-reads",
    "k-atomicity",
    "split-brain",
    "sessions",
    "siblings",
    "counter",
    "mutual-exclusion",
    "bank",
    "queue",
    "kafka",
    "unique-ids",
    "convergence",
    "read-committed",
    "read-atomic",
    "causal",
    "causal-convergence",
    "causal-memory",
    "sequential",
    "availability",
    "list-append",
    "rw-register",
];

/// The checker of that name with its default settings.
pub fn by_name(name: &str) -> Option<Box<dyn Checker>> {
    Some(match name {
        "linearizable" => Box::new(Linearizable::default()),
        "lost-writes" => Box::new(LostWrites),
        "set-full" => Box::new(SetFull::default()),
        "stale-reads" => Box::new(StaleReads),
        "k-atomicity" => Box::new(KAtomicity),
        "split-brain" => Box::new(SplitBrain),
        "sessions" => Box::new(Sessions),
        "siblings" => Box::new(Siblings),
        "counter" => Box::new(Counter),
        "mutual-exclusion" => Box::new(MutualExclusion),
        "bank" => Box::new(Bank::default()),
        "queue" => Box::new(Queue::default()),
        "kafka" => Box::new(Kafka),
        "unique-ids" => Box::new(UniqueIds),
        "convergence" => Box::new(Convergence),
        "read-committed" => Box::new(ReadCommitted),
        "read-atomic" => Box::new(ReadAtomic),
        "causal" => Box::new(Causal::default()),
        "causal-convergence" => Box::new(Causal {
            variant: Some(Variant::Convergence),
        }),
        "causal-memory" => Box::new(Causal {
            variant: Some(Variant::Memory),
        }),
        "sequential" => Box::new(Sequential::default()),
        "availability" => Box::new(Availability::default()),
        "list-append" => Box::new(ListAppend::default()),
        "rw-register" => Box::new(RwRegister::default()),
        _ => return None,
    })
}

/// What all checkers found: the content of `verdict.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of all: invalid > unknown > valid. Without any checker: unknown.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// One result a checker, in the order asked for.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// The merged verdict of these results; the reason of an unknown one names its checker.
    pub fn of(results: Vec<CheckResult>) -> Self {
        let named = |r: &CheckResult| match &r.verdict {
            Verdict::Unknown(reason) => Verdict::Unknown(format!("{}: {reason}", r.checker)),
            other => other.clone(),
        };
        let verdict = results
            .iter()
            .map(named)
            .reduce(Verdict::merge)
            .unwrap_or_else(|| Verdict::Unknown("no-checkers".to_owned()));
        Self { verdict, results }
    }
}

/// Runs every checker. One that panics is `unknown(checker-crashed)`, and hides no other's
/// finding.
pub fn check_all(history: &History, checkers: &[Box<dyn Checker>]) -> Report {
    let results: Vec<CheckResult> = checkers
        .iter()
        .map(|checker| {
            catch_unwind(AssertUnwindSafe(|| checker.check(history))).unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                CheckResult::unknown(checker.name(), format!("checker-crashed: {message}"))
            })
        })
        .collect();
    Report::of(results)
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, ints};
    use crate::{F, Kind, Value};

    struct Crashing;

    impl Checker for Crashing {
        fn name(&self) -> &'static str {
            "crashing"
        }

        fn check(&self, history: &History) -> CheckResult {
            panic!("{} events were too many", history.events.len())
        }
    }

    fn lost() -> History {
        let mut s = Script::new();
        s.op(1, Kind::Ok, F::Add, 1)
            .op(1, Kind::Ok, F::Read, ints(&[]));
        s.history()
    }

    #[test]
    fn a_crash_is_unknown_and_masks_no_failure() {
        let crashing: Vec<Box<dyn Checker>> = vec![Box::new(Crashing)];
        let report = check_all(&lost(), &crashing);
        let reason = "crashing: checker-crashed: 4 events were too many";
        assert_eq!(report.verdict, Verdict::Unknown(reason.into()));
        let both: Vec<Box<dyn Checker>> = vec![Box::new(Crashing), Box::new(LostWrites)];
        assert_eq!(check_all(&lost(), &both).verdict, Verdict::Invalid);
        assert_eq!(
            check_all(&lost(), &[]).verdict,
            Verdict::Unknown("no-checkers".into())
        );
    }

    /// Who does not know what an operation did must not call the history valid.
    #[test]
    fn transactions_are_valid_only_to_those_who_know_them() {
        let micro = |name: &str, value: Value| -> Value {
            [Value::str(name), Value::Int(1), value]
                .into_iter()
                .collect()
        };
        let txn = |micro: Value| [micro].into_iter().collect::<Value>();
        let mut s = Script::new();
        s.op(
            1,
            Kind::Ok,
            F::from_name("txn"),
            txn(micro("append", Value::Int(1))),
        );
        s.op(
            2,
            Kind::Ok,
            F::from_name("txn"),
            txn(micro("r", ints(&[1]))),
        );
        let transactions = s.history();
        let pairs = |pairs: &[(Value, i64)]| {
            let pairs = pairs.iter().map(|(k, v)| (k.clone(), Value::Int(*v)));
            Value::Map(pairs.collect())
        };
        let transfer = [("from", 0), ("to", 1), ("amount", 5)];
        let mut s = Script::new();
        s.op(
            1,
            Kind::Ok,
            F::from_name("transfer"),
            pairs(&transfer.map(|(name, value)| (Value::str(name), value))),
        );
        s.op(
            2,
            Kind::Ok,
            F::Read,
            pairs(&[(Value::Int(0), 5), (Value::Int(1), 15)]),
        );
        let bank = s.history();
        let valid = |history: &History| -> Vec<&str> {
            let checked = NAMES.into_iter().filter(|name| {
                let checker = by_name(name).unwrap();
                checker.check(history).verdict == Verdict::Valid
            });
            checked.collect()
        };
        assert_eq!(
            valid(&transactions),
            [
                "read-committed",
                "read-atomic",
                "causal",
                "causal-convergence",
                "availability",
                "list-append",
            ]
        );
        assert_eq!(valid(&bank), ["bank", "availability"]);
    }

    #[test]
    fn every_name_has_a_checker_and_the_report_survives_json() {
        let all: Vec<_> = NAMES.iter().map(|name| by_name(name).unwrap()).collect();
        assert!(all.iter().zip(NAMES).all(|(c, name)| c.name() == name));
        assert!(by_name("no-such-checker").is_none());
        for history in [lost(), History::default()] {
            let report = check_all(&history, &all);
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        }
    }
}
