use super::*;
use crate::testing::Script;
use crate::{F, Kind, Verdict};

fn check(script: &Script) -> CheckResult {
    Counter.check(&script.history())
}

#[test]
fn a_final_read_shows_the_sum_exactly() {
    for (shown, verdict) in [
        (4, Verdict::Valid),
        (3, Verdict::Invalid),
        (5, Verdict::Invalid),
    ] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Increment, 5)
            .op(2, Kind::Ok, F::Increment, -1)
            .op(3, Kind::Fail, F::Increment, 7)
            .nemesis("phase", "final")
            .op(4, Kind::Ok, F::Read, shown);
        let result = check(&s);
        assert_eq!(result.verdict, verdict, "{shown}");
        assert_eq!(result.figures["lost"], (4 - shown).max(0));
        assert_eq!(result.figures["extra"], (shown - 4).max(0));
        assert_eq!(result.anomalies.len(), usize::from(shown != 4));
    }
}

#[test]
fn the_sentence_says_what_was_expected() {
    let mut s = Script::new();
    s.key("k")
        .node("n2", 1)
        .op(1, Kind::Ok, F::Increment, 5)
        .op(4, Kind::Ok, F::Read, Value::Nil);
    let result = check(&s);
    assert_eq!(
        result.anomalies[0].summary,
        "a read of key k by process 4 from n2 shows 0, which is final, but the increments come to \
         exactly 5: 5 lost"
    );
    assert_eq!(result.anomalies[0].ops, [2]);
}

#[test]
fn what_is_indeterminate_widens_the_bounds() {
    for (shown, valid) in [(-3, false), (-2, true), (0, true), (4, true), (5, false)] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Increment, 1)
            .op(2, Kind::Info, F::Increment, 3)
            .op(3, Kind::Info, F::Increment, -3)
            .nemesis("phase", "final")
            .op(4, Kind::Ok, F::Read, shown);
        assert_eq!(check(&s).verdict == Verdict::Valid, valid, "{shown}");
    }
}

#[test]
fn a_late_read_is_stale_but_an_impossible_one_is_not() {
    let history = |early: i64| {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Increment, 2)
            .op(2, Kind::Ok, F::Read, early)
            .op(1, Kind::Ok, F::Increment, 2)
            .nemesis("phase", "final")
            .op(4, Kind::Ok, F::Read, 4);
        s
    };
    let late = check(&history(0));
    assert_eq!(late.verdict, Verdict::Valid);
    assert_eq!(late.figures["stale"], 1);
    // The second increment has not begun.
    assert_eq!(check(&history(4)).verdict, Verdict::Invalid);
    assert_eq!(check(&history(-1)).verdict, Verdict::Invalid);
    assert_eq!(check(&history(2)).figures["stale"], 0);
}

#[test]
fn increments_around_a_read_may_or_may_not_be_in_it() {
    for shown in [1, 3] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Increment, 1)
            .client(2, Kind::Invoke, F::Increment, 2)
            .client(3, Kind::Invoke, F::Read, Value::Nil)
            .client(2, Kind::Ok, F::Increment, 2)
            .client(3, Kind::Ok, F::Read, shown)
            .op(4, Kind::Ok, F::Read, 3);
        let result = check(&s);
        assert_eq!(result.verdict, Verdict::Valid);
        assert_eq!(result.figures["stale"], 0);
    }
}

#[test]
fn one_final_read_that_is_right_is_enough() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Increment, 1)
        .nemesis("phase", "final")
        .op(4, Kind::Ok, F::Read, Value::Nil)
        .op(4, Kind::Ok, F::Read, 1);
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(result.figures["stale"], 1);
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let unknown = |reason: &str| Verdict::Unknown(reason.to_owned());
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Append, 1);
    assert_eq!(check(&s).verdict, unknown("nothing-to-judge"));
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Increment, 1)
        .op(1, Kind::Ok, F::Read, 1)
        .nemesis("phase", "final");
    assert_eq!(check(&s).verdict, unknown("final-read-missing (1 keys)"));
    s.op(1, Kind::Ok, F::Read, 1);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    s.op(1, Kind::Info, F::Remove, Value::Nil);
    assert_eq!(
        check(&s).verdict,
        unknown("removed (1 keys); nothing-to-judge")
    );
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Increment, i64::MAX)
        .op(1, Kind::Ok, F::Increment, i64::MAX)
        .op(1, Kind::Ok, F::Read, -2);
    assert_eq!(check(&s).verdict, Verdict::Invalid, "no overflow");
}
