use super::*;
use crate::testing::{Script, ints};
use crate::{F, Kind, Verdict};

fn check(script: &Script) -> CheckResult {
    LostWrites.check(&script.history())
}

fn figure(result: &CheckResult, name: &str) -> u64 {
    result.figures[name].as_u64().unwrap()
}

#[test]
fn an_acknowledged_element_missing_from_the_final_read_is_lost() {
    let mut s = Script::new();
    s.key("k").node("n1", 2);
    for n in 1..=3 {
        s.op(1, Kind::Ok, F::Add, n);
    }
    s.nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[1, 3]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(figure(&result, "acknowledged"), 3);
    assert_eq!(figure(&result, "lost"), 1);
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.ops, [2, 7]);
    assert_eq!(
        anomaly.summary,
        "add of 2 to key k was acknowledged by n1 in epoch 2 to process 1 at 0.003 s, \
         but no final read shows it"
    );
    assert_eq!(anomaly.figures["value"], 2);
    assert_eq!(anomaly.figures["epoch"], 2);
}

#[test]
fn nothing_lost_is_valid_and_what_is_unknown_may_be_there_or_not() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Info, F::Append, 2)
        .op(3, Kind::Info, F::Append, 3)
        .op(4, Kind::Fail, F::Append, 4)
        .nemesis("phase", "final")
        .op(5, Kind::Ok, F::Read, ints(&[1, 3]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Valid, "{result:?}");
    assert_eq!(figure(&result, "recovered"), 1);
}

#[test]
fn an_element_in_any_final_read_is_not_lost() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[]))
        .op(2, Kind::Ok, F::Read, ints(&[1]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(figure(&result, "stale"), 1);
}

#[test]
fn without_a_final_read_nobody_knows() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Ok, F::Read, ints(&[1]))
        .nemesis("phase", "final");
    let result = check(&s);
    assert_eq!(
        result.verdict,
        Verdict::Unknown("final-read-missing".into())
    );
    assert_eq!(figure(&result, "never_read"), 1);
    // The final read began before the acknowledgement: it may or may not show the element.
    let mut s = Script::new();
    s.key("k")
        .client(1, Kind::Invoke, F::Append, 1)
        .client(2, Kind::Invoke, F::Read, Value::Nil)
        .client(1, Kind::Ok, F::Append, 1)
        .client(2, Kind::Ok, F::Read, ints(&[]));
    assert_eq!(
        check(&s).verdict,
        Verdict::Unknown("final-read-missing".into())
    );
}

#[test]
fn nothing_acknowledged_is_unknown_and_so_is_what_cannot_be_paired() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Append, 1)
        .op(2, Kind::Ok, F::Read, ints(&[]));
    assert_eq!(
        check(&s).verdict,
        Verdict::Unknown("nothing-to-judge".into())
    );
    let mut s = Script::new();
    s.client(1, Kind::Ok, F::Read, Value::Nil);
    assert!(matches!(check(&s).verdict, Verdict::Unknown(r) if r.starts_with("malformed-history")));
}

#[test]
fn duplicated_unexpected_and_vanished_elements_are_violations() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Fail, F::Append, 2)
        .op(1, Kind::Info, F::Append, 3)
        .op(2, Kind::Ok, F::Read, ints(&[1, 2, 3, 9]))
        .nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[1, 1]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Invalid);
    let classes: Vec<_> = result
        .anomalies
        .iter()
        .map(|a| (a.class.as_str(), &a.figures["value"]))
        .collect();
    assert_eq!(
        classes,
        [
            ("unexpected", &2.into()),
            ("unexpected", &9.into()),
            ("vanished", &3.into()),
            ("duplicated", &1.into())
        ]
    );
    assert_eq!(figure(&result, "lost"), 0);
}

#[test]
fn an_element_read_before_its_write_began_is_unexpected() {
    let mut s = Script::new();
    s.key("k")
        .op(2, Kind::Ok, F::Read, ints(&[1]))
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Ok, F::Read, ints(&[1]));
    let result = check(&s);
    assert_eq!(figure(&result, "unexpected"), 1);
    assert_eq!(result.verdict, Verdict::Invalid);
}

#[test]
fn resurrection_takes_three_reads_of_one_node() {
    let mut s = Script::new();
    s.key("k").node("n1", 1).op(1, Kind::Ok, F::Add, 1);
    s.op(2, Kind::Ok, F::Read, ints(&[1]));
    s.node("n2", 1).op(2, Kind::Ok, F::Read, ints(&[]));
    s.node("n1", 1).op(2, Kind::Ok, F::Read, ints(&[1]));
    assert_eq!(figure(&check(&s), "resurrected"), 0);
    s.op(2, Kind::Ok, F::Read, ints(&[]));
    s.op(2, Kind::Ok, F::Read, ints(&[1]));
    let result = check(&s);
    assert_eq!(figure(&result, "resurrected"), 1);
    assert_eq!(figure(&result, "stale"), 1);
    assert_eq!(result.verdict, Verdict::Valid);
}

#[test]
fn a_read_of_everything_shows_every_key() {
    let mut s = Script::new();
    s.key("a").op(1, Kind::Ok, F::Add, 1);
    s.key("b").op(1, Kind::Ok, F::Add, 1);
    let mut h = s.nemesis("phase", "final").history();
    let all = Value::Map(vec![(Value::str("a"), ints(&[1]))].into());
    for (kind, value) in [(Kind::Invoke, Value::Nil), (Kind::Ok, all)] {
        let index = h.events.len() as u64;
        let process = crate::Process::Client(1);
        h.events.push(crate::Event::new(
            index,
            index * 1_000_000,
            process,
            kind,
            F::Read,
            value,
        ));
    }
    let result = LostWrites.check(&h);
    assert_eq!(figure(&result, "lost"), 1);
    assert_eq!(result.anomalies[0].key, Some(Value::str("b")));
}

#[test]
fn a_register_that_went_back_lost_every_write_since() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Cas, ints(&[2, 3]))
        .nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, 1);
    let result = check(&s);
    assert_eq!(figure(&result, "lost"), 2);
    assert_eq!(result.verdict, Verdict::Invalid);
    s.op(2, Kind::Ok, F::Read, 3);
    let result = check(&s);
    assert_eq!((figure(&result, "lost"), figure(&result, "stale")), (0, 2));
    assert_eq!(result.verdict, Verdict::Valid);
}

#[test]
fn a_pending_write_explains_a_register_until_a_read_has_shown_it() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Write, 1)
        .op(2, Kind::Ok, F::Write, 2)
        .nemesis("phase", "final")
        .op(3, Kind::Ok, F::Read, 1);
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(figure(&result, "recovered"), 1);
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Write, 1)
        .op(3, Kind::Ok, F::Read, 1)
        .op(2, Kind::Ok, F::Write, 2)
        .nemesis("phase", "final")
        .op(3, Kind::Ok, F::Read, 1);
    assert_eq!(figure(&check(&s), "lost"), 1);
}

#[test]
fn an_empty_register_lost_everything() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Read, Value::Nil);
    assert_eq!(figure(&check(&s), "lost"), 1);
}

#[test]
fn registers_need_unique_values() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Read, 1);
    assert_eq!(
        check(&s).verdict,
        Verdict::Unknown("values-not-unique: key k".into())
    );
}

#[test]
fn an_unread_tail_of_a_register_is_unknown() {
    let mut s = Script::new();
    s.key("k")
        .op(2, Kind::Ok, F::Read, Value::Nil)
        .op(1, Kind::Ok, F::Write, 1);
    assert_eq!(
        check(&s).verdict,
        Verdict::Unknown("final-read-missing".into())
    );
}

/// A run that was killed has no final reads: what its last reads miss may still come.
#[test]
fn without_the_final_phase_nothing_is_lost_for_certain() {
    for (phase, verdict) in [
        ("main", Verdict::Unknown("final-read-missing".to_owned())),
        ("final", Verdict::Invalid),
    ] {
        let mut script = Script::new();
        script.nemesis("phase", "main");
        script.key("k").op(0, Kind::Ok, F::Append, 1);
        script.nemesis("phase", phase);
        script.key("k").op(0, Kind::Ok, F::Read, ints(&[]));
        assert_eq!(check(&script).verdict, verdict, "{phase}");
    }
}

fn pair(a: impl Into<Value>, b: impl Into<Value>) -> Value {
    [a.into(), b.into()].into_iter().collect()
}

#[test]
fn an_inserted_or_generated_element_must_be_read() {
    let mut s = Script::new();
    s.key("text")
        .op(1, Kind::Ok, F::Insert, pair(Value::Nil, 1))
        .op(1, Kind::Ok, F::Insert, pair(1, 2));
    s.key("list")
        .client(1, Kind::Invoke, F::Generate, "random")
        .client(1, Kind::Ok, F::Generate, 77);
    let mut lost = s.clone();
    s.nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[77]));
    s.key("text").op(2, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_eq!(check(&s).verdict, Verdict::Valid, "{:?}", check(&s));
    lost.nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[13]));
    lost.key("text").op(2, Kind::Ok, F::Read, ints(&[1]));
    let result = check(&lost);
    assert_eq!(figure(&result, "lost"), 2);
    assert_eq!(figure(&result, "unexpected"), 1);
    assert_eq!(figure(&result, "acknowledged"), 3);
}

#[test]
fn what_was_generated_without_an_answer_may_be_anything() {
    let mut s = Script::new();
    s.key("list")
        .op(1, Kind::Info, F::Generate, "now")
        .nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[13]));
    assert_eq!(figure(&check(&s), "unexpected"), 0);
    let mut s = Script::new();
    s.key("list")
        .op(1, Kind::Fail, F::Generate, "now")
        .nemesis("phase", "final")
        .op(2, Kind::Ok, F::Read, ints(&[13]));
    assert_eq!(figure(&check(&s), "unexpected"), 1);
}

#[test]
fn what_may_have_been_removed_is_not_lost() {
    for (kind, taken, lost) in [
        (Kind::Ok, Value::Int(1), false),
        (Kind::Info, Value::Int(1), false),
        (Kind::Info, Value::Nil, false),
        (Kind::Fail, Value::Int(1), true),
        (Kind::Ok, Value::Int(2), true),
    ] {
        for f in [F::Add, F::Append] {
            let mut s = Script::new();
            s.key("k")
                .op(1, Kind::Ok, f, 1)
                .op(2, kind, F::Remove, taken.clone())
                .nemesis("phase", "final")
                .op(3, Kind::Ok, F::Read, ints(&[]));
            let result = check(&s);
            assert_eq!(figure(&result, "lost"), u64::from(lost), "{kind:?} {taken}");
            assert_eq!(figure(&result, "removed"), u64::from(!lost));
        }
    }
    // It had ended before the element came, or began after the final read.
    let mut s = Script::new();
    s.key("k")
        .op(2, Kind::Ok, F::Remove, 1)
        .op(1, Kind::Ok, F::Add, 1)
        .nemesis("phase", "final")
        .op(3, Kind::Ok, F::Read, ints(&[]))
        .op(2, Kind::Ok, F::Remove, 1);
    assert_eq!(figure(&check(&s), "lost"), 1);
}

#[test]
fn a_register_that_may_be_removed_may_be_empty() {
    for (kind, lost) in [(Kind::Info, 0), (Kind::Fail, 1)] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(2, kind, F::Remove, Value::Nil)
            .nemesis("phase", "final")
            .op(3, Kind::Ok, F::Read, Value::Nil);
        assert_eq!(figure(&check(&s), "lost"), lost);
    }
}

#[test]
fn siblings_are_all_in_the_register() {
    for (shown, lost) in [(ints(&[1, 2]), 0), (ints(&[2]), 0), (ints(&[1]), 1)] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(2, Kind::Ok, F::Write, 2)
            .nemesis("phase", "final")
            .op(3, Kind::Ok, F::Read, shown.clone());
        let result = check(&s);
        assert_eq!(figure(&result, "lost"), lost, "{shown}");
        assert_eq!(figure(&result, "unexpected"), 0);
    }
}

#[test]
fn a_field_is_lost_unless_it_was_put_again_or_removed() {
    let read =
        |pairs: &[(&str, i64)]| -> Value { pairs.iter().map(|(f, v)| pair(*f, *v)).collect() };
    let lost = |put_again: Option<Kind>, removed: Option<(Kind, &str)>, shown: Value| {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Put, pair("a", 1))
            .op(1, Kind::Ok, F::Put, pair("b", 1));
        if let Some(kind) = put_again {
            s.op(2, kind, F::Put, pair("a", 2));
        }
        if let Some((kind, field)) = removed {
            s.op(3, kind, F::Remove, field);
        }
        s.nemesis("phase", "final").op(4, Kind::Ok, F::Read, shown);
        figure(&check(&s), "lost")
    };
    assert_eq!(lost(None, None, read(&[("a", 1), ("b", 1)])), 0);
    assert_eq!(lost(None, None, read(&[("b", 1)])), 1);
    assert_eq!(lost(None, None, Value::Nil), 2);
    assert_eq!(lost(Some(Kind::Ok), None, read(&[("a", 2), ("b", 1)])), 0);
    assert_eq!(lost(Some(Kind::Info), None, read(&[("a", 2), ("b", 1)])), 0);
    assert_eq!(lost(Some(Kind::Ok), None, read(&[("a", 1), ("b", 1)])), 1);
    let gone = read(&[("b", 1)]);
    assert_eq!(lost(None, Some((Kind::Info, "a")), gone.clone()), 0);
    assert_eq!(lost(None, Some((Kind::Fail, "a")), gone.clone()), 1);
    assert_eq!(lost(None, Some((Kind::Ok, "b")), gone), 1);
}

#[test]
fn counters_locks_and_inspections_are_no_writes_that_can_be_lost() {
    let mut s = Script::new();
    s.key("c")
        .op(1, Kind::Ok, F::Increment, 1)
        .op(1, Kind::Ok, F::Read, 0);
    s.key("quiet").op(1, Kind::Ok, F::Read, 0);
    s.key("l").op(1, Kind::Ok, F::Acquire, 1);
    s.key("i").op(1, Kind::Ok, F::Inspect, ints(&[9]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Unknown("nothing-to-judge".into()));
    assert!(result.anomalies.is_empty());
}
