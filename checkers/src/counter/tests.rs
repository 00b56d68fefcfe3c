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

/// Jepsen's counter: whatever a read shows must be between what was acknowledged before it and what
/// was asked for until it ended; with negative amounts the bounds change sides.
#[test]
fn every_read_of_a_counter_that_is_added_to_is_judged() {
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use crate::testing::correct_run;
    use crate::{Outcome, Value};

    let (mut outside, mut inside) = (0, 0);
    for seed in 0..20_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let negative = rng.random_bool(0.5);
        let ops = rng.random_range(2..16);
        let mut history = correct_run(
            &mut rng,
            &mut 0_i64,
            3,
            ops,
            |rng| match rng.random_range(0..6) {
                0..3 => (F::Read, Value::Nil),
                3 if negative => (
                    F::from_name("decrement"),
                    Value::Int(rng.random_range(1..4)),
                ),
                4 if negative => (F::Add, Value::Int(rng.random_range(-3..4))),
                _ => (F::Add, Value::Int(rng.random_range(0..4))),
            },
            |sum, f, value| {
                let amount = value.as_int().unwrap_or(0);
                match f {
                    F::Read => return Value::Int(*sum),
                    F::Add => *sum += amount,
                    _ => *sum -= amount,
                }
                value.clone()
            },
        );
        let reads: Vec<usize> = (0..history.events.len())
            .filter(|&i| history.events[i].f == F::Read && history.events[i].kind == Kind::Ok)
            .collect();
        let damaged = rng.random_bool(0.5);
        if let (true, Some(&at)) = (damaged, reads.choose(&mut rng)) {
            let shown = history.events[at].value.as_int().unwrap();
            history.events[at].value = Value::Int(shown + rng.random_range(-3..4));
        }
        let operations = history.operations().unwrap();
        if operations.iter().all(|op| op.f() == &F::Read) || reads.is_empty() {
            continue;
        }
        let mut expected = Vec::new();
        for read in operations
            .iter()
            .filter(|op| op.f() == &F::Read && op.is_ok())
        {
            let (mut lower, mut upper) = (0, 0);
            for op in operations.iter().filter(|op| op.outcome != Outcome::Fail) {
                let amount = op.argument().as_int().unwrap_or(0);
                let amount = if op.f() == &F::Add { amount } else { -amount };
                let acknowledged = op.precedes(read);
                let possible = op.invoked_position < read.completed_position.unwrap();
                if acknowledged || possible && amount < 0 {
                    lower += amount;
                }
                if acknowledged || possible && amount > 0 {
                    upper += amount;
                }
            }
            let shown = read.result().unwrap().as_int().unwrap();
            if shown < lower || shown > upper {
                expected.push(read.invoke.index);
            }
        }
        let result = Counter.check(&history);
        let found: Vec<u64> = result.anomalies.iter().map(|a| a.ops[0]).collect();
        assert_eq!(found, expected, "seed {seed}: {result:#?}\n{history:#?}");
        assert!(damaged || expected.is_empty(), "seed {seed}");
        let clean = !matches!(result.verdict, Verdict::Invalid);
        assert_eq!(clean, expected.is_empty());
        outside += u64::from(!clean);
        inside += u64::from(result.verdict == Verdict::Valid);
    }
    assert!(outside > 2_000 && inside > 5_000, "{outside} {inside}");
}

#[test]
fn a_set_of_numbers_is_no_counter() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Read, crate::testing::ints(&[1]));
    let nothing = Verdict::Unknown("nothing-to-judge".to_owned());
    assert_eq!(check(&s).verdict, nothing);
    // And sets have nothing to say of a counter.
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Add, 5).op(1, Kind::Ok, F::Read, 5);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    for name in ["lost-writes", "set-full", "stale-reads", "sessions"] {
        let result = crate::by_name(name).unwrap().check(&s.history());
        assert_eq!(result.verdict, nothing, "{name}");
    }
}
