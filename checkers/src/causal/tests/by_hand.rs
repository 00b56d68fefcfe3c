//! One history for each anomaly, and those that tell the three forms apart.

use crate::testing::Script;
use crate::{CheckResult, F, History, Kind, Value, Verdict, by_name};

/// `0:w x 1, 1:r x nil`: operations one after the other.
fn history(text: &str) -> History {
    let mut script = Script::new();
    for op in text.split(',') {
        let (process, op) = op.trim().split_once(':').unwrap();
        let words: Vec<&str> = op.split_whitespace().collect();
        let value = |word: &str| word.parse().map_or(Value::Nil, Value::Int);
        let process = process.parse().unwrap();
        let (f, value) = match words[0] {
            "w" => (F::Write, value(words[2])),
            "cas" => {
                let both = [value(words[2]), value(words[3])];
                (F::Cas, both.into_iter().collect())
            }
            _ => (F::Read, value(words[2])),
        };
        script.key(words[1]).op(process, Kind::Ok, f, value);
    }
    script.history()
}

fn check(name: &str, text: &str) -> CheckResult {
    by_name(name).unwrap().check(&history(text))
}

/// The classes of anomalies of each form, and of sequential consistency.
fn expect(text: &str, expected: [&[&str]; 4]) {
    let names = [
        "causal",
        "causal-convergence",
        "causal-memory",
        "sequential",
    ];
    for (name, expected) in names.into_iter().zip(expected) {
        let result = check(name, text);
        let classes: Vec<&str> = result.anomalies.iter().map(|a| &*a.class).collect();
        assert_eq!(classes, expected, "{name}: {result:#?}");
        let valid = result.verdict == Verdict::Valid;
        assert_eq!(valid, expected.is_empty(), "{name}: {result:#?}");
    }
}

#[test]
fn what_all_forms_forbid() {
    expect("0:w x 1, 1:r x 7", [&["thin-air-read"]; 4]);
    expect("0:r x 2, 0:w y 1, 1:r y 1, 1:w x 2", [&["cyclic-co"]; 4]);
    expect(
        "0:w x 1, 0:w y 2, 1:r y 2, 1:r x nil",
        [&["write-co-init-read"]; 4],
    );
    expect(
        "0:w x 1, 1:r x 1, 1:w x 2, 2:r x 2, 2:r x 1",
        [&["write-co-read"]; 4],
    );
    expect(
        "0:w x 1, 1:cas x 1 2, 2:r x 2, 2:r x 1",
        [&["write-co-read"]; 4],
    );
}

#[test]
fn memory_without_convergence() {
    let crossed = "0:w x 1, 1:w x 2, 0:r x 2, 1:r x 1";
    expect(crossed, [&[], &["cyclic-cf"], &[], &["cyclic-cf"]]);
    let result = check("causal", crossed);
    assert_eq!(result.figures["converges"], false);
}

#[test]
fn convergence_without_memory() {
    // Figure 3b of Bouajjani et al.: the second session must put x = 1 before x = 2 for the last
    // read, but x = 1 comes after z = 1, which it had not seen when it had written x = 2.
    let history = "0:w z 1, 0:w x 1, 0:w y 1, 1:w x 2, 1:r z nil, 1:r y 1, 1:r x 2";
    expect(
        history,
        [&[], &[], &["write-hb-init-read"], &["write-hb-init-read"]],
    );
}

#[test]
fn neither() {
    // A session sees the other write replace its own, and then its own again.
    let history = "0:w x 1, 1:w x 2, 0:r x 2, 0:r x 1";
    expect(
        history,
        [&[], &["cyclic-cf"], &["cyclic-hb"], &["cyclic-cf"]],
    );
}

#[test]
fn causal_but_not_sequential() {
    // Both miss the other's write (the store buffer's litmus test).
    let buffered = "0:w x 1, 0:r y nil, 1:w y 1, 1:r x nil";
    expect(buffered, [&[], &[], &[], &["not-sequential"]]);
    let result = check("sequential", buffered);
    assert_eq!(result.anomalies[0].ops, [0, 2, 4, 6]);
}

#[test]
fn stale_is_sequential() {
    expect("0:w x 1, 1:r x nil, 1:r x 1", [&[]; 4]);
    expect("0:w x 1, 0:w x 2, 1:r x 1, 2:r x 2, 1:r x 2", [&[]; 4]);
}

#[test]
fn memory_is_not_decided_for_transactions() {
    let mut script = Script::new();
    let mop = |f: &str, value: Value| -> Value {
        [Value::str(f), Value::str("x"), value]
            .into_iter()
            .collect()
    };
    let both: Value = [mop("r", Value::Nil), mop("w", Value::Int(1))]
        .into_iter()
        .collect();
    script.op(0, Kind::Ok, F::from_name("txn"), both);
    let result = by_name("causal-memory").unwrap().check(&script.history());
    assert!(
        matches!(result.verdict, Verdict::Unknown(reason) if reason.starts_with("not-registers"))
    );
    let result = by_name("causal").unwrap().check(&script.history());
    assert_eq!(result.verdict, Verdict::Valid);
}
