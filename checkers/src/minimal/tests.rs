use super::*;
use crate::by_name;
use crate::testing::{Script, ints};

fn checker(name: &str) -> Box<dyn Checker> {
    by_name(name).unwrap()
}

/// The minimal history of every anomaly that the checker finds: each fails again with that class.
fn assert_minimal(name: &str, whole: &History) -> Vec<History> {
    let checker = checker(name);
    let result = checker.check(whole);
    assert_eq!(result.verdict, Verdict::Invalid, "{name}: {whole:?}");
    let each = result.anomalies.iter().map(|anomaly| {
        let smaller = history(whole, &*checker, anomaly)
            .unwrap_or_else(|| panic!("{name}: nothing fails again: {anomaly:?}"));
        let again = checker.check(&smaller);
        assert_eq!(again.verdict, Verdict::Invalid, "{name}: {smaller:?}");
        let same = |a: &&Anomaly| a.class == anomaly.class && a.key == anomaly.key;
        assert!(
            again.anomalies.iter().any(|a| same(&a)),
            "{anomaly:?}: {again:?}"
        );
        let mut text = Vec::new();
        jsonl::write(&mut text, &smaller).unwrap();
        let options = crate::format::ReadOptions::default();
        let read = crate::format::read_bytes(&text, Some(crate::Format::Jsonl), &options).unwrap();
        assert_eq!(read.history, smaller);
        smaller
    });
    each.collect()
}

fn operations(history: &History) -> Vec<u64> {
    let operations = history.operations().unwrap();
    operations.iter().map(|op| op.invoke.index).collect()
}

#[test]
fn a_list_is_cut_to_the_elements_kept() {
    let mut s = Script::new();
    s.key("other").op(7, Kind::Ok, F::Append, 99);
    s.key("k");
    let mut all = Vec::new();
    for n in 1..=20 {
        s.op(1, Kind::Ok, F::Append, n);
        all.push(n);
        s.op(2, Kind::Ok, F::Read, ints(&all));
    }
    s.op(3, Kind::Ok, F::Read, ints(&all[..19]));
    s.op(3, Kind::Ok, F::Read, ints(&all));
    for name in ["linearizable", "stale-reads", "sessions"] {
        let of_name = checker(name).check(&s.history());
        if of_name.verdict != Verdict::Invalid {
            assert_eq!(name, "sessions");
            continue;
        }
        let [smaller] = &assert_minimal(name, &s.history())[..] else {
            panic!("one anomaly");
        };
        let proof = if name == "linearizable" {
            vec![78, 82]
        } else {
            vec![78, 82, 84]
        };
        assert_eq!(operations(smaller), proof, "{name}");
        assert_eq!(smaller.events[3].value, ints(&[]));
    }
}

#[test]
fn a_register_keeps_the_write_of_what_was_read() {
    let mut s = Script::new();
    s.key("k");
    for n in 1..=30 {
        s.op(1, Kind::Ok, F::Write, n);
        s.op(2, Kind::Ok, F::Read, n);
    }
    s.op(3, Kind::Ok, F::Read, 17).op(3, Kind::Ok, F::Read, 30);
    for name in ["linearizable", "stale-reads"] {
        for smaller in assert_minimal(name, &s.history()) {
            assert!(smaller.events.len() <= 10, "{name}: {smaller:?}");
        }
    }
}

#[test]
fn a_read_of_everything_is_cut_to_the_key() {
    let pairs = |pairs: &[(&str, i64)]| -> Value {
        let pairs = pairs.iter().map(|(k, v)| (Value::str(k), Value::Int(*v)));
        Value::Map(pairs.collect())
    };
    let mut s = Script::new();
    s.key("a").op(1, Kind::Ok, F::Write, 1);
    s.key("b")
        .op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Write, 3);
    let mut whole = s.history();
    s = Script::new();
    s.op(9, Kind::Ok, F::Read, pairs(&[("a", 1), ("b", 2)]));
    for mut event in s.history().events {
        event.index += 100;
        event.time += 100_000_000;
        whole.events.push(event);
    }
    let [smaller] = &assert_minimal("linearizable", &whole)[..] else {
        panic!("one anomaly");
    };
    assert_eq!(smaller.events.last().unwrap().value, pairs(&[("b", 2)]));
    assert_eq!(operations(smaller), [2, 4, 100]);
}

#[test]
fn lost_writes_keep_the_phase_and_the_final_reads() {
    let mut s = Script::new();
    s.key("k");
    for n in 1..=10 {
        s.op(1, Kind::Ok, F::Append, n);
    }
    s.op(2, Kind::Ok, F::Read, ints(&[1, 2, 3, 4, 5, 6]));
    s.nemesis("kill", "n1").nemesis("phase", "final");
    s.op(
        3,
        Kind::Ok,
        F::Read,
        ints(&[1, 2, 4, 4, 5, 6, 7, 8, 9, 10, 77]),
    );
    s.op(4, Kind::Ok, F::Read, ints(&[1, 2, 4, 5, 6, 7, 8, 9, 10]));
    for smaller in assert_minimal("lost-writes", &s.history()) {
        let remarks: Vec<&str> = smaller.nemesis().map(|e| e.f.name()).collect();
        assert_eq!(remarks, ["phase"]);
        assert!(operations(&smaller).len() <= 4, "{smaller:?}");
    }
}

#[test]
fn two_leaders_are_shown_by_three_writes() {
    let mut s = Script::new();
    s.key("k");
    for n in 0..9 {
        s.node("n1", 1).op(1, Kind::Ok, F::Append, n);
    }
    s.node("n2", 2).op(2, Kind::Ok, F::Append, 20);
    for n in 10..19 {
        s.node("n1", 1).op(1, Kind::Ok, F::Append, n);
    }
    let [smaller] = &assert_minimal("split-brain", &s.history())[..] else {
        panic!("one anomaly");
    };
    assert_eq!(operations(smaller).len(), 3);
}

#[test]
fn sessions_are_shown_by_one_client() {
    let mut s = Script::new();
    s.key("k");
    for n in 1..=9 {
        s.op(1, Kind::Ok, F::Write, n).op(2, Kind::Ok, F::Read, n);
    }
    s.op(2, Kind::Ok, F::Read, 3).op(1, Kind::Ok, F::Read, 4);
    for smaller in assert_minimal("sessions", &s.history()) {
        assert!(smaller.events.len() <= 10, "{smaller:?}");
    }
    let mut s = Script::new();
    s.key("k");
    for n in 1..=9 {
        s.op(1, Kind::Ok, F::Append, n);
    }
    s.op(2, Kind::Ok, F::Read, ints(&[1, 2, 3]))
        .op(2, Kind::Ok, F::Read, ints(&[1, 2]))
        .op(1, Kind::Ok, F::Read, ints(&[1, 2, 3, 4, 5]));
    for smaller in assert_minimal("sessions", &s.history()) {
        assert!(smaller.events.len() <= 8, "{smaller:?}");
    }
}

#[test]
fn siblings_are_found_again() {
    let mut s = Script::new();
    s.key("k");
    s.client(1, Kind::Invoke, F::Write, 1).seen(ints(&[]));
    s.client(2, Kind::Invoke, F::Write, 2).seen(ints(&[]));
    s.client(1, Kind::Ok, F::Write, 1)
        .client(2, Kind::Ok, F::Write, 2);
    s.op(3, Kind::Ok, F::Read, ints(&[1, 2]));
    s.op(3, Kind::Ok, F::Read, ints(&[2]));
    s.op(4, Kind::Ok, F::Read, ints(&[2]));
    assert_minimal("siblings", &s.history());
}

#[test]
fn a_counter_keeps_its_increments() {
    let mut s = Script::new();
    s.key("other").op(1, Kind::Ok, F::Increment, 7);
    s.key("k");
    for n in 1..=10 {
        s.op(1, Kind::Ok, F::Increment, n);
        s.op(2, Kind::Ok, F::Read, n * (n + 1) / 2);
    }
    s.op(3, Kind::Ok, F::Read, 77).op(3, Kind::Ok, F::Read, 55);
    let [smaller] = &assert_minimal("counter", &s.history())[..] else {
        panic!("one anomaly");
    };
    assert_eq!(operations(smaller).len(), 11, "{smaller:?}");
}

#[test]
fn a_lock_keeps_its_release() {
    let mut s = Script::new();
    s.key("k");
    for n in 0..9 {
        s.op(n, Kind::Ok, F::Acquire, n as i64)
            .op(n, Kind::Ok, F::Release, n as i64);
    }
    s.op(20, Kind::Ok, F::Acquire, 20)
        .op(21, Kind::Ok, F::Acquire, 21)
        .op(20, Kind::Ok, F::Release, 20)
        .op(21, Kind::Ok, F::Release, 21);
    let [smaller] = &assert_minimal("mutual-exclusion", &s.history())[..] else {
        panic!("one anomaly");
    };
    assert_eq!(operations(smaller).len(), 4, "{smaller:?}");
}

#[test]
fn replicas_that_differ_are_shown_by_their_inspections() {
    let mut s = Script::new();
    s.key("k");
    for n in 1..=9 {
        s.node("n1", 1).op(1, Kind::Ok, F::Append, n);
    }
    for (node, held) in [
        ("n1", ints(&[1, 2])),
        ("n2", ints(&[2, 1])),
        ("n3", ints(&[1, 2])),
    ] {
        s.node(node, 1)
            .client(5, Kind::Invoke, F::Inspect, Value::Nil);
        s.client(5, Kind::Ok, F::Inspect, held);
    }
    let [smaller] = &assert_minimal("convergence", &s.history())[..] else {
        panic!("one anomaly");
    };
    assert_eq!(operations(smaller).len(), 3);
}

#[test]
fn the_first_violation_is_one_of_linearizability() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Append, 1)
        .op(2, Kind::Ok, F::Read, ints(&[]));
    let checkers: Vec<Box<dyn Checker>> = vec![checker("lost-writes"), checker("linearizable")];
    let results = crate::check_all(&s.history(), &checkers).results;
    let found = first(&s.history(), &checkers, &results).unwrap();
    assert_eq!(found.checker, "linearizable");
    assert_eq!(found.history, s.history());
    assert!(first(&History::default(), &checkers, &[]).is_none());
    let nothing = Anomaly {
        ops: Vec::new(),
        ..found.anomaly.clone()
    };
    assert!(history(&s.history(), &*checkers[1], &nothing).is_none());
    let wrong = Anomaly {
        class: "other".to_owned(),
        ..found.anomaly
    };
    assert!(history(&s.history(), &*checkers[1], &wrong).is_none());
}

/// Random histories of registers, lists and sets: every anomaly of every checker that judges them is
/// found again in a history that is no larger, save for the few whose proof is all of it.
#[test]
fn random_anomalies_are_found_again() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let mut rng = SmallRng::seed_from_u64(17);
    let names = [
        "linearizable",
        "lost-writes",
        "stale-reads",
        "split-brain",
        "sessions",
    ];
    let mut found = [0; 5];
    for round in 0..600 {
        let write = [F::Write, F::Append, F::Add][round % 3].clone();
        let mut s = Script::new();
        let mut shown: Vec<i64> = Vec::new();
        for n in 0..14 {
            s.key(["a", "b"][usize::from(rng.random_bool(0.3))]);
            s.node(
                ["n1", "n2"][usize::from(rng.random_bool(0.3))],
                rng.random_range(1..3),
            );
            let process = rng.random_range(0..4);
            if n == 11 {
                s.nemesis("phase", "final");
            }
            if n < 10 && rng.random_bool(0.5) {
                let kind = [Kind::Ok, Kind::Ok, Kind::Ok, Kind::Fail][rng.random_range(0..4)];
                s.op(process, kind, write.clone(), n);
                shown.push(n);
            } else if write == F::Write {
                let value = shown.get(shown.len().saturating_sub(rng.random_range(1..4)));
                s.op(
                    process,
                    Kind::Ok,
                    F::Read,
                    value.map_or(Value::Nil, |v| Value::Int(*v)),
                );
            } else {
                let from = rng.random_range(0..=shown.len().min(2));
                let mut items = shown[from..].to_vec();
                if rng.random_bool(0.2) {
                    items.pop();
                }
                s.op(process, Kind::Ok, F::Read, ints(&items));
            }
        }
        for (name, found) in names.iter().zip(&mut found) {
            if checker(name).check(&s.history()).verdict == Verdict::Invalid {
                let each = assert_minimal(name, &s.history());
                *found += each.len();
                assert!(
                    each.iter()
                        .all(|h| h.events.len() <= s.history().events.len())
                );
            }
        }
    }
    assert!(found.iter().all(|n| *n > 200), "{found:?}");
}
