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
