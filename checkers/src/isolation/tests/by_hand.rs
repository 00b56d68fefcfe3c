//! One history for each anomaly.

use crate::testing::ints;
use crate::{CheckResult, Event, F, History, Kind, Process, Value, Verdict, by_name};

/// Transactions one after the other: process, outcome, and micro-operations as in
/// `w x 1; r y 2; r z nil; append l 3; r l [3 4]`.
fn history(txns: &[(u64, Kind, &str)]) -> History {
    let mut events = Vec::new();
    for (process, outcome, text) in txns {
        let mops: Value = text.split(';').map(mop).collect();
        for kind in [Kind::Invoke, *outcome] {
            let index = events.len() as u64;
            let process = Process::Client(*process);
            let f = F::from_name("txn");
            events.push(Event::new(
                index,
                index * 1_000_000,
                process,
                kind,
                f,
                mops.clone(),
            ));
        }
    }
    History { events }
}

fn mop(text: &str) -> Value {
    let mut words = text.trim().splitn(3, ' ');
    let f = Value::Keyword(words.next().unwrap().into());
    let key = Value::str(words.next().unwrap());
    let value = match words.next().unwrap() {
        "nil" => Value::Nil,
        list if list.starts_with('[') => {
            let items = list.trim_matches(['[', ']']).split_whitespace();
            ints(&items.map(|n| n.parse().unwrap()).collect::<Vec<i64>>())
        }
        n => Value::Int(n.parse().unwrap()),
    };
    [f, key, value].into_iter().collect()
}

fn check(name: &str, txns: &[(u64, Kind, &str)]) -> CheckResult {
    by_name(name).unwrap().check(&history(txns))
}

fn classes(result: &CheckResult) -> Vec<&str> {
    result.anomalies.iter().map(|a| &*a.class).collect()
}

const OK: Kind = Kind::Ok;
const LEVELS: [&str; 3] = ["read-committed", "read-atomic", "causal-convergence"];

/// That the levels from the first of these on do not hold, for these reasons; those before it do.
fn expect(txns: &[(u64, Kind, &str)], expected: [&str; 3]) {
    for (level, class) in LEVELS.into_iter().zip(expected) {
        let result = check(level, txns);
        if class.is_empty() {
            assert_eq!(result.verdict, Verdict::Valid, "{level}: {result:#?}");
        } else {
            assert_eq!(result.verdict, Verdict::Invalid, "{level}");
            assert_eq!(classes(&result), [class], "{level}: {result:#?}");
        }
    }
}

#[test]
fn what_no_level_allows() {
    expect(&[(0, OK, "w x 1"), (1, OK, "r x 7")], ["thin-air-read"; 3]);
    expect(
        &[(0, Kind::Fail, "w x 1"), (1, OK, "r x 1")],
        ["aborted-read"; 3],
    );
    expect(
        &[(0, OK, "w x 1; w x 2"), (1, OK, "r x 1")],
        ["intermediate-read"; 3],
    );
    expect(&[(0, OK, "r x 1; w x 1")], ["future-read"; 3]);
    expect(
        &[(1, OK, "w x 2"), (0, OK, "w x 1; r x 2")],
        ["internal"; 3],
    );
    expect(
        &[(0, OK, "w x 1; r y 2"), (1, OK, "w y 2; r x 1")],
        ["causality-cycle", "causality-cycle", "cyclic-co"],
    );
}

#[test]
fn an_unknown_outcome_is_no_failure() {
    expect(&[(0, Kind::Info, "w x 1"), (1, OK, "r x 1")], [""; 3]);
    expect(&[(0, Kind::Info, "w x 1"), (1, OK, "r x nil")], [""; 3]);
    // Somebody saw it, so that it happened as a whole.
    let seen = [(0, Kind::Info, "w x 1; w y 1"), (1, OK, "r x 1; r y nil")];
    expect(
        &seen,
        ["non-monotonic-read", "fractured-read", "write-co-init-read"],
    );
}

#[test]
fn each_level_forbids_more() {
    let fractured = [(0, OK, "w x 1; w y 1"), (1, OK, "r y nil; r x 1")];
    expect(&fractured, ["", "fractured-read", "write-co-init-read"]);
    let repeated = [(0, OK, "w x 1"), (1, OK, "r x nil; r x 1")];
    expect(&repeated, ["", "non-repeatable-read", "write-co-init-read"]);
    let own = [(0, OK, "w x 1"), (0, OK, "r x nil")];
    expect(&own, ["", "read-your-writes", "write-co-init-read"]);
    let causal = [
        (0, OK, "w x 1"),
        (1, OK, "r x 1; w x 2"),
        (2, OK, "r x 2; w y 3"),
        (3, OK, "r y 3; r x 1"),
    ];
    expect(&causal, ["", "", "write-co-read"]);
    let write_skew = [
        (0, OK, "r x nil; r y nil; w x 1"),
        (1, OK, "r x nil; r y nil; w y 1"),
    ];
    expect(&write_skew, [""; 3]);
}

#[test]
fn an_order_that_no_two_reads_contradict_may_still_be_missing() {
    // Each session sees the other's write replace its own.
    let crossed = [
        (0, OK, "w x 1"),
        (1, OK, "w x 2"),
        (0, OK, "r x 2"),
        (1, OK, "r x 1"),
    ];
    expect(&crossed, ["", "commit-order-cycle", "cyclic-cf"]);
}

#[test]
fn lists_show_the_order_of_their_elements() {
    expect(
        &[(0, OK, "append l 1; append l 2"), (1, OK, "r l [1 2]")],
        [""; 3],
    );
    expect(
        &[(0, OK, "append l 1; r l [1]"), (1, OK, "r l [1]")],
        [""; 3],
    );
    let classes_of = |txns: &[(u64, Kind, &str)]| -> Vec<String> {
        let result = check("read-committed", txns);
        classes(&result).into_iter().map(str::to_owned).collect()
    };
    let both = (0, OK, "append l 1; append l 2");
    let torn = [both, (1, OK, "append l 3"), (2, OK, "r l [1 3 2]")];
    assert_eq!(
        classes_of(&torn),
        ["version-order-cycle", "torn-append", "torn-append"]
    );
    let half = [both, (1, OK, "append l 3"), (2, OK, "r l [1]")];
    assert_eq!(classes_of(&half), ["intermediate-read"]);
    let twice = [both, (2, OK, "r l [1 2 1]")];
    assert!(classes_of(&twice).contains(&"duplicate-elements".to_owned()));
    let apart = [
        (0, OK, "append l 1"),
        (1, OK, "append l 2"),
        (2, OK, "r l [1]"),
        (3, OK, "r l [2]"),
    ];
    assert_eq!(classes_of(&apart)[0], "incompatible-order");
    // What is read of one list is later than what is read of the other.
    let crossed = [
        (0, OK, "append l 1; append m 1"),
        (1, OK, "append l 2; append m 2"),
        (2, OK, "r l [1 2]"),
        (3, OK, "r m [2 1]"),
    ];
    assert_eq!(classes_of(&crossed), ["version-order-cycle"]);
    // Acknowledged, but in no list that was read: it comes after what is.
    let unseen = [
        (0, OK, "append l 1"),
        (1, OK, "r m [2]; append l 3"),
        (0, OK, "append m 2"),
        (2, OK, "r l [1]"),
    ];
    expect(&unseen, [""; 3]);
}

#[test]
fn a_few_words_say_what_is_wrong() {
    let fractured = [(0, OK, "w x 1; w y 1"), (1, OK, "r y nil; r x 1")];
    let result = check("read-atomic", &fractured);
    assert_eq!(
        result.anomalies[0].summary,
        "transaction [[:r y nil] [:r x 1]] of process 1 (0.003 s) found key y never written \
         though transaction [[:w x 1] [:w y 1]] of process 0 (0.001 s), which it read from, had \
         written 1"
    );
    assert_eq!(result.anomalies[0].ops, [0, 2]);
    assert_eq!(result.anomalies[0].key, Some(Value::str("y")));
}

#[test]
fn nothing_is_said_where_nothing_can_be() {
    let verdict = |txns: &[(u64, Kind, &str)]| check("read-committed", txns).verdict;
    let unknown = |reason: &str| Verdict::Unknown(reason.to_owned());
    assert_eq!(verdict(&[(0, OK, "w x 1")]), unknown("nothing-to-judge"));
    assert_eq!(verdict(&[]), unknown("nothing-to-judge"));
    let twice = [
        (0, OK, "w x 1"),
        (1, OK, "w x 1"),
        (2, OK, "r x 1; r y nil"),
    ];
    let reason = "ambiguous-values: 1 reads of values that were written more than once";
    assert_eq!(verdict(&twice), unknown(reason));
    let other = History {
        events: vec![Event::new(
            0,
            0,
            Process::Client(0),
            Kind::Invoke,
            F::Add,
            Value::Int(1),
        )],
    };
    let result = by_name("causal").unwrap().check(&other);
    assert_eq!(
        result.verdict,
        unknown("unknown-function: `add` at event 0")
    );
}

#[test]
fn anomalies_are_listed_up_to_a_thousand_and_counted() {
    let reads: Vec<(u64, Kind, &str)> = (0..1_500).map(|p| (p, OK, "r x 7")).collect();
    let result = check("read-committed", &reads);
    assert_eq!(result.anomalies.len(), 1_000);
    assert_eq!(result.figures["thin_air_read_count"], 1_500);
}
