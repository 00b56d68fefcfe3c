use super::*;
use crate::testing::{Script, ints};
use crate::{Checker, Kind, Linearizable};

/// What is said of all operations of a script.
fn said(script: &Script) -> String {
    let history = script.history();
    let operations = history.operations().unwrap();
    let all: Vec<usize> = (0..operations.len()).collect();
    anomaly(&operations, operations[0].key(), &all).summary
}

fn assert_says(script: &Script, fact: &str) {
    let said = said(script);
    assert!(said.starts_with(&format!("{fact}; ")), "{said}");
}

#[test]
fn a_stale_read() {
    let mut s = Script::new();
    s.key("k7");
    s.node("n1", 1).op(1, Kind::Ok, F::Write, 41);
    s.node("n1", 1).op(1, Kind::Ok, F::Write, 42);
    s.node("n2", 1).op(5, Kind::Ok, F::Read, 42);
    s.node("n3", 1).op(3, Kind::Ok, F::Read, 41);
    assert_eq!(
        said(&s),
        "n3 answered k7=41 to process 3 at 0.007 s; the read began 3.00 ms after write 42 by \
         process 1 was acknowledged by n1 and 1.00 ms after process 5 had read it from n2; no \
         order of these 4 operations fits both real time and what they returned: write 41 by \
         process 1 at n1 (0.000–0.001 s); write 42 by process 1 at n1 (0.002–0.003 s); read → 42 \
         by process 5 at n2 (0.004–0.005 s); read → 41 by process 3 at n3 (0.006–0.007 s)"
    );
}

#[test]
fn a_history_without_times_is_told_by_its_events() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Read, Value::Nil);
    let mut history = s.history();
    history.events.iter_mut().for_each(|e| e.time = 0);
    let anomalies = Linearizable::default().check(&history).anomalies;
    assert_eq!(
        anomalies[0].summary,
        "process 2 read k=nil (event 3); the read began after write 1 by process 1 was \
         acknowledged; no order of these 2 operations fits both real time and what they \
         returned: write 1 by process 1 (events 0–1); read → nil by process 2 (events 2–3)"
    );
}

#[test]
fn a_value_from_nowhere() {
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Read, 7);
    assert_says(
        &s,
        "process 1 read k=7 at 0.001 s, which nobody had written to key k by then",
    );
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Cas, ints(&[7, 8]));
    assert_says(
        &s,
        "process 1 found k=7 at 0.001 s, which nobody had written to key k by then",
    );
}

#[test]
fn two_replacements_of_one_value() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Cas, ints(&[1, 2]))
        .op(3, Kind::Ok, F::Cas, ints(&[1, 3]));
    assert_says(
        &s,
        "cas 1 → 2 by process 2 and cas 1 → 3 by process 3 were both acknowledged (at 0.003 s, at \
         0.005 s) and both replaced 1, though write 1 by process 1 put it there only once",
    );
}

#[test]
fn lists_and_sets() {
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Append, 20);
    s.node("n2", 1).op(3, Kind::Ok, F::Read, ints(&[18, 19]));
    assert_says(
        &s,
        "n2 answered k without 20 to process 3 at 0.003 s; the read began 1.00 ms after append \
         20 by process 1 was acknowledged",
    );
    let mut s = Script::new();
    s.key("k");
    s.client(1, Kind::Invoke, F::Append, 1)
        .client(2, Kind::Invoke, F::Append, 2);
    s.client(3, Kind::Invoke, F::Read, Value::Nil)
        .client(3, Kind::Ok, F::Read, ints(&[1, 2]));
    s.client(4, Kind::Invoke, F::Read, Value::Nil)
        .client(4, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_says(
        &s,
        "process 3 read k with 1 before 2 at 0.003 s, but process 4 read k with 2 before 1 at \
         0.005 s",
    );
    let mut s = Script::new();
    s.key("k");
    s.client(1, Kind::Invoke, F::Add, 1)
        .client(2, Kind::Invoke, F::Add, 2);
    s.client(3, Kind::Invoke, F::Read, Value::Nil)
        .client(4, Kind::Invoke, F::Read, Value::Nil);
    s.client(3, Kind::Ok, F::Read, ints(&[1]))
        .client(4, Kind::Ok, F::Read, ints(&[2]));
    assert_says(
        &s,
        "process 3 read k with 1 but without 2 at 0.004 s, but process 4 read k with 2 but \
         without 1 at 0.005 s",
    );
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Ok, F::Append, 2)
        .op(3, Kind::Ok, F::Read, ints(&[2, 1]));
    assert_says(
        &s,
        "process 3 read k with 2 before 1 at 0.005 s, but append 2 by process 2 began 1.00 ms \
         after append 1 by process 1 had ended",
    );
}

#[test]
fn queues_locks_and_counters() {
    let queue = |ops: &[(u64, &str, i64)]| {
        let mut s = Script::new();
        s.key("q");
        for &(process, f, value) in ops {
            let f = F::Other(f.into());
            let argument = if f.name() == "dequeue" {
                Value::Nil
            } else {
                Value::Int(value)
            };
            let result = if value < 0 {
                Value::Nil
            } else {
                Value::Int(value)
            };
            s.client(process, Kind::Invoke, f.clone(), argument);
            s.client(process, Kind::Ok, f, result);
        }
        s
    };
    assert_says(
        &queue(&[(1, "enqueue", 5), (2, "dequeue", 5), (3, "dequeue", 5)]),
        "process 2 took 5 out of key q at 0.003 s, and process 3 took it out again at 0.005 s, \
         though it was put in once",
    );
    assert_says(
        &queue(&[(1, "dequeue", 5), (2, "enqueue", 5)]),
        "process 1 took 5 out of key q at 0.001 s, 1.00 ms before enqueue 5 by process 2 began",
    );
    assert_says(
        &queue(&[(1, "dequeue", 5)]),
        "process 1 took 5 out of key q at 0.001 s, which nobody had put in",
    );
    assert_says(
        &queue(&[(1, "enqueue", 5), (2, "dequeue", -1)]),
        "process 2 found key q empty at 0.003 s, though it began 1.00 ms after enqueue 5 by \
         process 1 was acknowledged",
    );
    assert_says(
        &queue(&[
            (1, "enqueue", 5),
            (1, "enqueue", 6),
            (2, "dequeue", 6),
            (3, "dequeue", 5),
        ]),
        "enqueue 5 by process 1 was acknowledged before enqueue 6 by process 1 began, but key q \
         gave out 6 first (at 0.005 s to process 2) and 5 after it (at 0.007 s to process 3)",
    );
    let mut s = Script::new();
    s.key("k");
    s.node("n1", 1).op(1, Kind::Ok, F::Acquire, Value::Nil);
    s.node("n2", 2).op(2, Kind::Ok, F::Acquire, Value::Nil);
    s.op(1, Kind::Ok, F::Release, Value::Nil);
    assert_says(
        &s,
        "process 2 acquired key k from n2 at 0.003 s, 2.00 ms after process 1 acquired key k from \
         n1 and 1.00 ms before process 1 began to release it",
    );
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Increment, 5)
        .op(1, Kind::Info, F::Increment, 2)
        .op(2, Kind::Ok, F::Read, 9);
    assert_says(
        &s,
        "process 2 read k=9 at 0.005 s, but increments before and during the read make it 5 at \
         least and 7 at most",
    );
}

#[test]
fn anything_else_is_told_in_general_and_cut_short() {
    let mut s = Script::new();
    s.key("k");
    let long: Vec<i64> = (0..500).collect();
    for n in 0..12 {
        s.op(n, Kind::Ok, F::Read, ints(&long));
    }
    let said = said(&s);
    assert!(
        said.starts_with("key k is not linearizable; no order of these 12"),
        "{said}"
    );
    assert!(
        said.ends_with("; and 4 more") && said.len() < 1_200,
        "{said}"
    );
}

#[test]
fn lengths_of_time_have_three_digits() {
    let each = [
        (5, "5 ns"),
        (1_500, "1.50 µs"),
        (310_000_000, "310 ms"),
        (12_340_000_000, "12.3 s"),
    ];
    for (ns, text) in each {
        assert_eq!(length(ns), text);
    }
}
