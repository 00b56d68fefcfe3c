use super::*;
use crate::testing::Script;
use crate::{Kind, Verdict};

fn check(script: &Script) -> CheckResult {
    MutualExclusion.check(&script.history())
}

fn found(script: &Script) -> Vec<Vec<u64>> {
    let result = check(script);
    assert!(result.anomalies.iter().all(|a| a.class == "held-twice"));
    result.anomalies.into_iter().map(|a| a.ops).collect()
}

const NONE: [Vec<u64>; 0] = [];

#[test]
fn two_owners_at_a_time_are_one_too_many() {
    let mut s = Script::new();
    s.key("k")
        .node("n1", 1)
        .op(1, Kind::Ok, F::Acquire, "a")
        .op(2, Kind::Ok, F::Acquire, "b")
        .op(1, Kind::Ok, F::Release, "a");
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].ops, [0, 2]);
    assert_eq!(
        result.anomalies[0].summary,
        "b (process 2) acquired the lock of key k from n1 at 0.003 s while a (process 1), who had \
         acquired it from n1 at 0.001 s, had not begun to release it: both held it for 0.001 s"
    );
    assert_eq!(result.figures["acquired"], 2);
    assert_eq!(result.figures["held_twice"], 1);
}

#[test]
fn one_after_the_other_is_right() {
    let mut s = Script::new();
    s.key("k");
    for process in 0..5 {
        s.op(process, Kind::Ok, F::Acquire, process as i64)
            .op(9, Kind::Fail, F::Acquire, 9)
            .op(process, Kind::Ok, F::Release, process as i64);
    }
    s.key("other").op(7, Kind::Ok, F::Acquire, 7);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    assert_eq!(check(&s).judged, 6);
}

#[test]
fn a_release_may_have_taken_effect_from_its_invocation_on() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, 1)
        .client(1, Kind::Invoke, F::Release, 1)
        .op(2, Kind::Ok, F::Acquire, 2)
        .client(1, Kind::Ok, F::Release, 1);
    assert_eq!(found(&s), NONE);
    for (kind, twice) in [(Kind::Info, false), (Kind::Fail, true)] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Acquire, 1)
            .op(1, kind, F::Release, 1)
            .op(2, Kind::Ok, F::Acquire, 2);
        assert_eq!(!found(&s).is_empty(), twice, "{kind:?}");
    }
}

/// Who is told that he does not have the lock had lost it, and has done with it.
#[test]
fn a_release_that_is_denied_ends_a_tenure() {
    for (acquired_by_other_first, twice) in [(false, false), (true, true)] {
        let mut s = Script::new();
        s.key("k").op(1, Kind::Ok, F::Acquire, 1);
        if acquired_by_other_first {
            s.op(2, Kind::Ok, F::Acquire, 2);
        }
        s.op(1, Kind::Fail, F::Release, 1)
            .op(3, Kind::Info, F::Release, 2)
            .op(4, Kind::Ok, F::Acquire, 4);
        let mut history = s.history();
        for event in &mut history.events {
            if event.kind == Kind::Fail {
                event.error = Some("cas-mismatch".into());
            }
        }
        let result = MutualExclusion.check(&history);
        assert_eq!(result.verdict == Verdict::Invalid, twice);
        assert_eq!(result.figures["held_twice"], u64::from(twice));
    }
}

#[test]
fn a_release_that_is_pending_may_end_a_later_tenure_of_its_owner() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, "a")
        .op(1, Kind::Info, F::Release, "a")
        .op(2, Kind::Ok, F::Acquire, "a")
        .op(3, Kind::Ok, F::Acquire, "b");
    assert_eq!(found(&s), NONE);
    // One that had ended before cannot.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, "a")
        .op(1, Kind::Ok, F::Release, "a")
        .op(2, Kind::Ok, F::Acquire, "a")
        .op(3, Kind::Ok, F::Acquire, "b");
    assert_eq!(found(&s), [vec![4, 6]]);
}

#[test]
fn uncertain_acquisitions_hold_nothing() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Acquire, 1)
        .op(2, Kind::Ok, F::Acquire, 2);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, 1)
        .op(3, Kind::Ok, F::Remove, Value::Nil)
        .op(2, Kind::Ok, F::Acquire, 2);
    assert_eq!(check(&s).verdict, Verdict::Valid);
}

#[test]
fn the_process_is_the_owner_if_none_is_named_and_may_hold_twice_itself() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, Value::Nil)
        .op(1, Kind::Ok, F::Acquire, Value::Nil)
        .op(2, Kind::Ok, F::Acquire, Value::Nil);
    assert_eq!(found(&s), [vec![0, 4]]);
}

#[test]
fn a_short_tenure_within_a_long_one_hides_nothing() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, 1)
        .op(2, Kind::Ok, F::Acquire, 2)
        .op(2, Kind::Ok, F::Release, 2)
        .op(3, Kind::Ok, F::Acquire, 3)
        .op(3, Kind::Ok, F::Release, 3);
    assert_eq!(found(&s), [vec![0, 2], vec![0, 6]]);
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let unknown = |reason: &str| Verdict::Unknown(reason.to_owned());
    let mut s = Script::new();
    assert_eq!(check(&s).verdict, unknown("nothing-to-judge"));
    s.key("k")
        .op(1, Kind::Ok, F::Acquire, 1)
        .op(1, Kind::Ok, F::Write, 1);
    assert_eq!(
        check(&s).verdict,
        unknown("mixed-functions (1 keys); nothing-to-judge")
    );
}

/// Acquisitions on leases and with tokens, held against the definitions pair by pair.
#[test]
fn leases_expire_and_tokens_increase() {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use crate::testing::correct_run;
    use crate::{Operation, Value};

    let (mut twice, mut refused, mut clean) = (0, 0, 0);
    for seed in 0..10_000_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut tokens, mut owner) = (0, 0);
        let wrong_tokens = rng.random_bool(0.3);
        let ops = rng.random_range(2..10);
        let mut choice = SmallRng::seed_from_u64(seed);
        let mut history = correct_run(
            &mut rng,
            &mut (),
            3,
            ops,
            |rng| {
                owner = rng.random_range(0..4);
                (F::Acquire, Value::Int(owner))
            },
            |(), _, _| {
                tokens += 1;
                let wrong = wrong_tokens && choice.random_bool(0.3);
                let token = if wrong {
                    tokens - choice.random_range(1..3)
                } else {
                    tokens
                };
                Value::Map([(Value::Keyword("fence".into()), Value::Int(token))].into())
            },
        );
        // Half of the runs are of a store that waits for leases to expire, as far as clients see.
        let patient = rng.random_bool(0.5);
        let mut leases: Vec<Option<u64>> = Vec::new();
        let positions: Vec<usize> = (0..history.events.len())
            .filter(|&i| history.events[i].kind == Kind::Ok)
            .collect();
        for &at in &positions {
            let ms = if patient { 0 } else { rng.random_range(0..12) };
            let leased = rng.random_bool(0.9) || patient;
            leases.push(leased.then_some(ms));
            if leased {
                let field = ("lease_ms".into(), Value::Int(ms as i64));
                history.events[at].extra.push(field);
            }
        }
        let operations = history.operations().unwrap();
        let acquired: Vec<&Operation<'_>> = operations.iter().filter(|op| op.is_ok()).collect();
        let lease_of = |op: &Operation<'_>| {
            let at = op.completed_position.unwrap();
            leases[positions.iter().position(|p| *p == at).unwrap()]
        };
        let token = |op: &Operation<'_>| match op.result().unwrap() {
            Value::Map(fields) => fields[0].1.as_int().unwrap(),
            other => panic!("{other}"),
        };
        let (mut held, mut fences) = (BTreeSet::new(), BTreeSet::new());
        for b in &acquired {
            for a in &acquired {
                let other = a.argument() != b.argument();
                let until = lease_of(a).map_or(u64::MAX, |ms| a.invoked_at() + ms * 1_000_000);
                let ended = |op: &Operation<'_>| op.completed_position.unwrap();
                // What is held not even at its acknowledgement is not held for certain.
                let holds = |op: &Operation<'_>| {
                    lease_of(op).is_none_or(|ms| {
                        op.invoked_at() + ms * 1_000_000 > op.completed_at().unwrap()
                    })
                };
                if other && ended(a) < ended(b) && b.completed_at().unwrap() < until && holds(b) {
                    held.insert(b.invoke.index);
                }
                let before = a.precedes(b);
                let earlier = before || a.invoked_position < b.invoked_position;
                if before && token(a) > token(b) || earlier && other && token(a) == token(b) {
                    fences.insert(b.invoke.index);
                }
            }
        }
        let result = MutualExclusion.check(&history);
        let found = |class: &str| -> BTreeSet<u64> {
            let of_class = result.anomalies.iter().filter(|a| a.class == class);
            of_class.map(|a| *a.ops.last().unwrap()).collect()
        };
        let context = || format!("seed {seed}: {result:#?} {history:#?}");
        assert_eq!(found("held-twice"), held, "{}", context());
        assert_eq!(found("fence-not-increasing"), fences, "{}", context());
        assert!(!patient || held.is_empty());
        assert!(wrong_tokens || fences.is_empty(), "{}", context());
        twice += held.len();
        refused += fences.len();
        clean += usize::from(result.verdict == Verdict::Valid);
    }
    assert!(
        twice > 1_000 && refused > 1_000 && clean > 1_000,
        "{twice} {refused} {clean}"
    );
}
