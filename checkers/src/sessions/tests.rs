use super::*;
use crate::testing::{Script, ints};
use crate::{F, Kind, Verdict};

fn check(script: &Script) -> CheckResult {
    Sessions.check(&script.history())
}

/// Classes and operations of the anomalies.
fn found(script: &Script) -> Vec<(String, Vec<u64>)> {
    let result = check(script);
    assert_eq!(
        result.verdict == Verdict::Invalid,
        !result.anomalies.is_empty()
    );
    let anomalies = result.anomalies.into_iter();
    anomalies.map(|a| (a.class, a.ops)).collect()
}

fn one(class: &str, ops: &[u64]) -> Vec<(String, Vec<u64>)> {
    vec![(class.to_owned(), ops.to_vec())]
}

const NONE: [(String, Vec<u64>); 0] = [];

/// A replacing write: its invocation carries what its client saw.
fn replacing(s: &mut Script, process: u64, kind: Kind, value: i64, seen: &[i64]) {
    s.client(process, Kind::Invoke, F::Write, value)
        .seen(ints(seen))
        .client(process, kind, F::Write, value);
}

#[test]
fn elements_own_writes_must_be_read() {
    let mut s = Script::new();
    s.key("k")
        .node("n2", 1)
        .op(1, Kind::Ok, F::Append, 7)
        .op(2, Kind::Ok, F::Read, ints(&[]))
        .op(1, Kind::Ok, F::Read, ints(&[]));
    assert_eq!(found(&s), one("read-your-writes", &[0, 4]));
    let result = check(&s);
    assert_eq!(
        result.anomalies[0].summary,
        "7 of the append by process 1 from n2 (0.001 s) is missing from the later read by process \
         1 from n2 (0.005 s) of key k"
    );
    assert_eq!(result.figures["read_your_writes"], 1);
    assert_eq!(result.figures["monotonic_reads"], 0);
    assert_eq!(result.figures["sessions"], 2);
}

#[test]
fn elements_once_shown_must_be_shown() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Add, 7)
        .op(2, Kind::Ok, F::Read, ints(&[7]))
        .op(3, Kind::Ok, F::Read, ints(&[]))
        .op(2, Kind::Ok, F::Read, ints(&[]));
    assert_eq!(found(&s), one("monotonic-reads", &[2, 6]));
}

#[test]
fn elements_of_one_writer_come_in_its_order() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Ok, F::Append, 2)
        .op(2, Kind::Ok, F::Read, ints(&[2]));
    assert_eq!(found(&s), one("monotonic-writes", &[0, 2, 4]));
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Ok, F::Append, 2)
        .op(2, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_eq!(found(&s), one("monotonic-writes", &[0, 2, 4]));
    // A set has no order.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Add, 2)
        .op(2, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_eq!(found(&s), NONE);
}

#[test]
fn elements_follow_what_their_writer_had_read() {
    for wrong in [&[2][..], &[2, 1]] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Append, 1)
            .op(2, Kind::Ok, F::Read, ints(&[1]))
            .op(2, Kind::Info, F::Append, 2)
            .op(3, Kind::Ok, F::Read, ints(wrong));
        assert_eq!(found(&s), one("writes-follow-reads", &[2, 4, 6]));
    }
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Ok, F::Read, ints(&[1]))
        .op(2, Kind::Info, F::Append, 2)
        .op(3, Kind::Ok, F::Read, ints(&[1, 2]))
        .op(4, Kind::Ok, F::Read, ints(&[1]))
        .op(4, Kind::Ok, F::Read, ints(&[1, 2]));
    assert_eq!(found(&s), NONE);
    assert_eq!(check(&s).verdict, Verdict::Valid);
}

#[test]
fn a_text_is_judged_by_what_was_inserted_and_a_list_by_what_was_generated() {
    let mut s = Script::new();
    let after = |a: Value, b: i64| -> Value { [a, Value::Int(b)].into_iter().collect() };
    s.key("k")
        .op(1, Kind::Ok, F::Insert, after(Value::Nil, 1))
        .op(1, Kind::Ok, F::Insert, after(Value::Nil, 2))
        .op(2, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_eq!(found(&s), NONE);
    s.op(2, Kind::Ok, F::Read, ints(&[2]));
    assert_eq!(found(&s).len(), 2, "monotonic reads and writes");
    let mut s = Script::new();
    s.key("k")
        .client(1, Kind::Invoke, F::Generate, "now")
        .client(1, Kind::Ok, F::Generate, 17)
        .op(1, Kind::Ok, F::Read, ints(&[]));
    assert_eq!(found(&s), one("read-your-writes", &[0, 2]));
}

#[test]
fn what_somebody_may_have_removed_may_be_missing_but_not_come_back() {
    for outcome in [Kind::Ok, Kind::Info] {
        for taken in [Value::Int(1), Value::Nil] {
            let mut s = Script::new();
            s.key("k")
                .op(1, Kind::Ok, F::Add, 1)
                .op(1, Kind::Ok, F::Read, ints(&[1]))
                .op(2, outcome, F::Remove, taken)
                .op(1, Kind::Ok, F::Read, ints(&[]));
            assert_eq!(found(&s), NONE);
            s.op(1, Kind::Ok, F::Read, ints(&[1]));
            assert_eq!(found(&s), one("monotonic-reads", &[6, 8]));
        }
    }
    // A failed removal, or one that begins later, excuses nothing.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Add, 1)
        .op(2, Kind::Fail, F::Remove, 1)
        .op(1, Kind::Ok, F::Read, ints(&[]))
        .op(2, Kind::Ok, F::Remove, 1);
    assert_eq!(found(&s), one("read-your-writes", &[0, 4]));
}

#[test]
fn what_a_session_removed_must_be_gone() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Add, 1)
        .op(1, Kind::Ok, F::Remove, 1)
        .op(1, Kind::Ok, F::Read, ints(&[1]));
    assert_eq!(found(&s), one("read-your-writes", &[2, 4]));
    // Somebody may have added it again, or it was not known to be there at all.
    for first in [1, 2] {
        let mut s = Script::new();
        s.key("k").op(first, Kind::Ok, F::Add, 1);
        if first == 1 {
            s.op(2, Kind::Info, F::Add, 1);
        }
        s.op(1, Kind::Ok, F::Remove, 1)
            .op(1, Kind::Ok, F::Read, ints(&[1]));
        assert_eq!(found(&s), NONE);
    }
}

#[test]
fn an_element_of_many_writers_is_nobodys() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Ok, F::Append, 2)
        .op(2, Kind::Info, F::Append, 2)
        .op(3, Kind::Ok, F::Read, ints(&[2]));
    assert_eq!(found(&s), NONE);
}

#[test]
fn an_unknown_outcome_ends_the_session() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(1, Kind::Info, F::Append, 2)
        .op(1, Kind::Ok, F::Read, ints(&[]))
        .op(1, Kind::Ok, F::Append, 3)
        .op(2, Kind::Ok, F::Read, ints(&[3]));
    assert_eq!(found(&s), NONE);
    assert_eq!(check(&s).figures["sessions"], 3);
}

#[test]
fn registers_own_writes_are_not_older() {
    let mut s = Script::new();
    s.key("k")
        .op(2, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Read, 1);
    assert_eq!(found(&s), one("read-your-writes", &[2, 4]));
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Read, Value::Nil);
    assert_eq!(found(&s), one("read-your-writes", &[0, 2]));
    // Concurrent with the own write, or pending.
    let mut s = Script::new();
    s.key("k")
        .op(3, Kind::Info, F::Write, 4)
        .client(2, Kind::Invoke, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 2)
        .client(2, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Read, 1)
        .op(1, Kind::Ok, F::Read, 4);
    assert_eq!(found(&s), NONE);
}

#[test]
fn registers_do_not_go_back() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 2)
        .op(3, Kind::Ok, F::Read, 2)
        .op(3, Kind::Ok, F::Read, 1);
    assert_eq!(found(&s), one("monotonic-reads", &[4, 6]));
    // Concurrent writes: either order, but not both.
    let mut s = Script::new();
    s.key("k")
        .client(1, Kind::Invoke, F::Write, 1)
        .client(2, Kind::Invoke, F::Write, 2)
        .client(1, Kind::Ok, F::Write, 1)
        .client(2, Kind::Ok, F::Write, 2)
        .op(3, Kind::Ok, F::Read, 2)
        .op(3, Kind::Ok, F::Read, 1);
    assert_eq!(found(&s), NONE);
    s.op(3, Kind::Ok, F::Read, 2);
    assert_eq!(found(&s), one("monotonic-reads", &[4, 6, 8]));
}

#[test]
fn registers_that_may_be_removed_may_read_as_nothing() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Read, 1)
        .op(2, Kind::Info, F::Remove, Value::Nil)
        .op(1, Kind::Ok, F::Read, Value::Nil);
    assert_eq!(found(&s), NONE);
}

#[test]
fn siblings_are_replaced_by_who_saw_them() {
    let mut s = Script::new();
    s.key("k")
        .client(1, Kind::Invoke, F::Write, 1)
        .client(2, Kind::Invoke, F::Write, 2)
        .client(1, Kind::Ok, F::Write, 1)
        .client(2, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Read, ints(&[1, 2]));
    replacing(&mut s, 3, Kind::Ok, 3, &[1, 2]);
    s.op(1, Kind::Ok, F::Read, ints(&[3]));
    assert_eq!(found(&s), NONE);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    // One of two siblings cannot have replaced the other.
    let mut alone = s.clone();
    alone.op(2, Kind::Ok, F::Read, ints(&[1, 2]));
    alone.op(2, Kind::Ok, F::Read, ints(&[1]));
    assert_eq!(found(&alone), one("monotonic-reads", &[10, 12]));
    // What was replaced is not shown beside what replaced it.
    s.op(4, Kind::Ok, F::Read, ints(&[1, 3]));
    assert_eq!(found(&s), one("writes-follow-reads", &[0, 6, 10]));
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, 1);
    replacing(&mut s, 1, Kind::Ok, 2, &[1]);
    s.op(4, Kind::Ok, F::Read, ints(&[1, 2]));
    assert_eq!(found(&s), one("monotonic-writes", &[0, 2, 4]));
}

#[test]
fn siblings_own_writes_are_not_older() {
    let mut s = Script::new();
    s.key("k")
        .op(2, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Read, ints(&[1, 2]))
        .op(1, Kind::Ok, F::Read, ints(&[1]));
    let found = found(&s);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], one("read-your-writes", &[2, 6])[0]);
    assert_eq!(found[1], one("monotonic-reads", &[4, 6])[0]);
}

#[test]
fn each_field_of_a_map_is_a_register() {
    let put = |field: &str, value: i64| -> Value {
        [Value::str(field), Value::Int(value)].into_iter().collect()
    };
    let map = |pairs: &[(&str, i64)]| -> Value { pairs.iter().map(|(f, v)| put(f, *v)).collect() };
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Put, put("a", 1))
        .op(1, Kind::Ok, F::Put, put("b", 1))
        .op(1, Kind::Ok, F::Read, map(&[("a", 1), ("b", 1)]))
        .op(1, Kind::Ok, F::Put, put("a", 2))
        .op(1, Kind::Ok, F::Read, map(&[("a", 2), ("b", 1)]));
    assert_eq!(found(&s), NONE);
    let mut wrong = s.clone();
    wrong.op(1, Kind::Ok, F::Read, map(&[("a", 1), ("b", 1)]));
    let found_there = found(&wrong);
    assert_eq!(found_there.len(), 2, "{found_there:?}");
    assert_eq!(found_there[0], one("read-your-writes", &[6, 10])[0]);
    s.op(2, Kind::Ok, F::Remove, "a")
        .op(1, Kind::Ok, F::Read, map(&[("b", 1)]));
    assert_eq!(found(&s), NONE);
    s.op(1, Kind::Ok, F::Read, map(&[]));
    assert_eq!(found(&s).len(), 2, "b is missing");
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let verdict = |s: &Script| check(s).verdict;
    let unknown = |reason: &str| Verdict::Unknown(reason.to_owned());
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, 1);
    assert_eq!(verdict(&s), unknown("nothing-to-judge"));
    s.op(1, Kind::Ok, F::Read, 1);
    assert_eq!(verdict(&s), Verdict::Valid);
    s.op(1, Kind::Ok, F::Write, 1);
    assert_eq!(
        verdict(&s),
        unknown("values-not-unique (1 keys); nothing-to-judge")
    );
    s.op(1, Kind::Ok, F::Append, 1);
    assert_eq!(
        verdict(&s),
        unknown("mixed-functions (1 keys); nothing-to-judge")
    );
    // A value that nobody wrote proves nothing.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Read, 9);
    assert_eq!(verdict(&s), unknown("nothing-to-judge"));
}
