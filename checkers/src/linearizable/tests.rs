use super::engine::Refutation;
use super::engine::brute_force::BruteForce;
use super::engine::porcupine::Porcupine;
use super::*;
use crate::testing::{Script, ints};
use crate::{Event, F, Kind, Process, Verdict};

fn check(script: &Script) -> CheckResult {
    Linearizable::default().check(&script.history())
}

#[test]
fn a_read_that_goes_back_is_explained_by_few_operations() {
    let mut s = Script::new();
    s.key("quiet").op(9, Kind::Ok, F::Write, 1);
    s.key("k");
    for n in 1..=50 {
        s.op(1, Kind::Ok, F::Write, n);
        s.op(2, Kind::Ok, F::Read, n);
    }
    s.op(3, Kind::Ok, F::Read, 49);
    s.op(2, Kind::Ok, F::Read, 50);
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies.len(), 1);
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.key, Some(Value::str("k")));
    // write 49, then write 50, then a read of 49.
    assert_eq!(anomaly.ops, [194, 198, 202]);
    assert_eq!(
        anomaly.summary,
        "process 3 read k=49 at 0.203 s; the read began 3.00 ms after write 50 by process 1 was \
         acknowledged; no order of these 3 operations fits both real time and what they returned: write 49 by process 1 (0.194–0.195 s); write 50 by process 1 \
         (0.198–0.199 s); read → 49 by process 3 (0.202–0.203 s)"
    );
    assert_eq!(result.figures["keys"], 2);
    assert_eq!(result.figures["keys_linearizable"], 1);
}

#[test]
fn several_values_at_a_time_are_left_to_another_checker() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Read, ints(&[1]))
        .op(1, Kind::Ok, F::Write, 2)
        .op(2, Kind::Ok, F::Read, ints(&[2]));
    assert_eq!(check(&s).verdict, Verdict::Valid);
    s.op(2, Kind::Ok, F::Read, ints(&[1, 2]));
    let siblings = Verdict::Unknown("siblings at key k (5 ops)".into());
    assert_eq!(check(&s).verdict, siblings);
    s.op(2, Kind::Ok, F::Read, ints(&[1]));
    assert_eq!(check(&s).verdict, Verdict::Invalid);
    // An array that was written is a value.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, ints(&[1, 2]))
        .op(2, Kind::Ok, F::Read, ints(&[1, 2]));
    assert_eq!(check(&s).verdict, Verdict::Valid);
}

#[test]
fn functions_without_a_model_are_unknown_and_inspections_nothing() {
    for f in [F::Insert, F::Generate, F::Other("txn".into())] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Ok, f.clone(), ints(&[1, 2]));
        let reason = format!("unknown-function: `{}` at event 2", f.name());
        assert_eq!(check(&s).verdict, Verdict::Unknown(reason));
    }
    for f in [F::Increment, F::Remove, F::Put, F::Acquire] {
        let mut s = Script::new();
        s.key("k")
            .op(1, Kind::Ok, F::Write, 1)
            .op(1, Kind::Ok, f.clone(), ints(&[1, 2]));
        let reason = "mixed-functions at key k (2 ops)".to_owned();
        assert_eq!(check(&s).verdict, Verdict::Unknown(reason));
    }
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Inspect, 9);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    assert_eq!(check(&s).judged, 1);
}

#[test]
fn a_list_that_misses_an_acknowledged_element_is_explained() {
    let mut s = Script::new();
    s.key("k");
    let mut all = Vec::new();
    for n in 1..=20 {
        s.op(1, Kind::Ok, F::Append, n);
        all.push(n);
        s.op(2, Kind::Ok, F::Read, ints(&all));
    }
    s.op(3, Kind::Ok, F::Read, ints(&all[..19]));
    let result = check(&s);
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].ops, [76, 80]);
}

#[test]
fn pending_writes_may_take_effect_late_or_never() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Info, F::Write, 1)
        .op(2, Kind::Info, F::Write, 2)
        .op(3, Kind::Ok, F::Read, Value::Nil)
        .op(3, Kind::Ok, F::Read, 1)
        .op(3, Kind::Info, F::Read, Value::Nil);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    s.op(4, Kind::Ok, F::Read, Value::Nil);
    assert_eq!(check(&s).verdict, Verdict::Invalid);
}

#[test]
fn a_refused_cas_constrains_only_if_asked() {
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Fail, F::Cas, ints(&[1, 2]));
    assert_eq!(check(&s).verdict, Verdict::Valid);
    let strict = Linearizable {
        refused_cas_constrains: true,
        ..Linearizable::default()
    };
    let result = strict.check(&s.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].ops, [0, 2]);
}

#[test]
fn what_cannot_be_judged_is_unknown_and_hides_no_violation() {
    assert_eq!(
        check(&Script::new()).verdict,
        Verdict::Unknown("nothing-to-judge".into())
    );
    let mut s = Script::new();
    s.key("mixed").op(1, Kind::Ok, F::Write, 1);
    s.op(1, Kind::Ok, F::Append, 2);
    let reason = "mixed-functions at key mixed (2 ops)";
    assert_eq!(check(&s).verdict, Verdict::Unknown(reason.into()));
    s.key("k").op(1, Kind::Ok, F::Read, 7);
    assert_eq!(check(&s).verdict, Verdict::Invalid);
    let mut s = Script::new();
    s.op(1, Kind::Ok, F::Other("txn".into()), 1);
    let reason = "unknown-function: `txn` at event 0";
    assert_eq!(check(&s).verdict, Verdict::Unknown(reason.into()));
}

/// Forty concurrent writes, and a read of what nobody wrote.
fn concurrent() -> Script {
    let mut s = Script::new();
    s.key("k");
    for n in 1..=40 {
        s.client(n, Kind::Invoke, F::Write, n as i64);
    }
    for n in 1..=40 {
        s.client(n, Kind::Ok, F::Write, n as i64);
    }
    s.op(1, Kind::Ok, F::Read, 99);
    s
}

#[test]
fn a_budget_names_its_key_and_how_far_it_got() {
    let unlimited = Limits::NONE;
    let limits = [
        (
            Limits {
                per_key_configurations: Some(20),
                ..unlimited
            },
            "20 configurations",
            "more configurations for each key",
        ),
        (
            Limits {
                total_configurations: Some(0),
                ..unlimited
            },
            "0 configurations in all",
            "more configurations in all",
        ),
        (
            Limits {
                per_key_bytes: Some(1024),
                ..unlimited
            },
            "1 KiB",
            "more memory for each key",
        ),
    ];
    for (limits, spent, remedy) in limits {
        let small = Linearizable {
            limits,
            engine: Box::new(engine::jit::Jit),
            ..Linearizable::default()
        };
        let result = small.check(&concurrent().history());
        let Verdict::Unknown(reason) = result.verdict else {
            panic!("{:?}", result.verdict)
        };
        let begins = format!("budget: {spent} at key k, at event ");
        assert!(reason.starts_with(&begins), "{reason}");
        let ends = format!(
            " of 82 (40 operations open); {remedy}, another engine, or fewer clients at a time \
             would decide it"
        );
        assert!(reason.contains("operations open); "), "{reason}");
        let ends = &ends[ends.find("; ").unwrap()..];
        assert!(reason.ends_with(ends), "{reason}");
    }
    assert_eq!(check(&concurrent()).verdict, Verdict::Invalid);
}

#[test]
fn a_key_that_fails_stops_the_others_on_request() {
    let mut s = Script::new();
    s.key("a").op(1, Kind::Ok, F::Read, 7);
    s.key("b").op(1, Kind::Ok, F::Write, 1);
    let fast = Linearizable {
        fail_fast: true,
        ..Linearizable::default()
    };
    let result = fast.check(&s.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.figures["keys_unknown"], 1);
    assert_eq!(check(&s).figures["keys_unknown"], 0);
}

/// A key of each kind: linearizable so far, and not with one operation more.
#[test]
fn every_kind_of_object_is_judged() {
    type Ops = Vec<(F, Value)>;
    let other = |name: &str| F::Other(name.into());
    let map = |pairs: &[(&str, i64)]| {
        let pairs = pairs.iter().map(|(f, v)| (Value::str(f), Value::Int(*v)));
        Value::Map(pairs.collect())
    };
    let put = |f: &str, v: i64| -> Value { [Value::str(f), Value::Int(v)].into_iter().collect() };
    let cases: Vec<(Option<Model>, Ops, (F, Value))> = vec![
        (
            None,
            vec![
                (F::Put, put("a", 1)),
                (F::Put, put("b", 2)),
                (F::Remove, Value::str("a")),
                (F::Read, map(&[("b", 2)])),
            ],
            (F::Read, map(&[("a", 1), ("b", 2)])),
        ),
        (
            None,
            vec![
                (F::Increment, Value::Int(3)),
                (F::Increment, Value::Int(-1)),
                (F::Read, Value::Int(2)),
            ],
            (F::Read, Value::Int(3)),
        ),
        (
            None,
            vec![
                (F::Acquire, Value::Nil),
                (F::Release, Value::Nil),
                (F::Acquire, Value::str("x")),
            ],
            (F::Acquire, Value::str("y")),
        ),
        (
            Some(Model::Semaphore(2)),
            vec![(F::Acquire, Value::str("x")), (F::Acquire, Value::str("y"))],
            (F::Acquire, Value::str("z")),
        ),
        (
            None,
            vec![
                (F::Add, Value::Int(1)),
                (other("contains"), Value::Int(1)),
                (F::Remove, Value::Int(1)),
            ],
            (F::Read, ints(&[1])),
        ),
        (
            None,
            vec![
                (other("enqueue"), Value::Int(2)),
                (other("enqueue"), Value::Int(1)),
                (other("dequeue"), Value::Int(2)),
            ],
            (other("dequeue"), Value::Nil),
        ),
        (
            None,
            vec![
                (other("push"), Value::Int(1)),
                (other("push"), Value::Int(2)),
                (other("pop"), Value::Int(2)),
            ],
            (other("pop"), Value::Int(2)),
        ),
        (
            Some(Model::PriorityQueue),
            vec![
                (other("enqueue"), Value::Int(2)),
                (other("enqueue"), Value::Int(1)),
                (other("dequeue"), Value::Int(1)),
            ],
            (other("dequeue"), Value::Int(1)),
        ),
    ];
    for (model, ops, wrong) in cases {
        let mut s = Script::new();
        s.key("k");
        let told = format!("{model:?} {ops:?}");
        let one = |s: &mut Script, (f, value): (F, Value)| {
            let asks = matches!(f, F::Read) || ["dequeue", "pop"].contains(&f.name());
            let argument = if asks { Value::Nil } else { value.clone() };
            let result = if f.name() == "contains" {
                Value::Bool(true)
            } else {
                value
            };
            s.client(1, Kind::Invoke, f.clone(), argument);
            s.client(1, Kind::Ok, f, result);
        };
        for op in ops {
            one(&mut s, op);
        }
        let linearizable = Linearizable {
            model,
            ..Linearizable::default()
        };
        let verdict = linearizable.check(&s.history()).verdict;
        assert_eq!(verdict, Verdict::Valid, "{told}");
        one(&mut s, wrong);
        let verdict = linearizable.check(&s.history()).verdict;
        assert_eq!(verdict, Verdict::Invalid, "{told}");
    }
}

/// Whether these operations of a problem can be ordered. Elements whose writes are left out are left
/// out of the reads, too; those that nobody wrote stay.
fn orderable(whole: &encode::Problem, kept: &[usize]) -> bool {
    let left_out: Vec<Option<engine::Id>> = (0..whole.ops.len())
        .filter(|i| !kept.contains(i))
        .map(|i| encode::left_by(&whole.ops[i].action))
        .collect();
    let mut ops: Vec<engine::Op> = kept.iter().map(|&i| whole.ops[i].clone()).collect();
    for op in &mut ops {
        if let engine::Action::ReadList(items) | engine::Action::ReadSet(items) = &mut op.action {
            *items = items
                .iter()
                .copied()
                .filter(|&e| !left_out.contains(&Some(e)))
                .collect();
        }
    }
    BruteForce.decide(whole.model, &ops, &Limits::default()) == Decision::Linearizable
}

/// The proof cannot be ordered; without any one of its operations, it can. (A write is not left out
/// while another operation of the proof returned or expects its value.)
fn assert_minimal(whole: &encode::Problem, proof: &[usize], context: &str) {
    assert!(!orderable(whole, proof), "no proof: {context}");
    for &one in proof {
        let rest: Vec<usize> = proof.iter().copied().filter(|&i| i != one).collect();
        let left = encode::left_by(&whole.ops[one].action);
        let needed = rest.iter().any(|&i| match whole.ops[i].action {
            engine::Action::Read(value) | engine::Action::Cas(value, _) => left == Some(value),
            _ => false,
        });
        assert!(
            needed || orderable(whole, &rest),
            "{one} is not needed: {context}"
        );
    }
}

/// Random histories with pending writes. What `check` says after leaving out what nobody saw is what
/// trying every order of all operations says, and what it gives as the proof is a minimal one, with
/// and without the short way to it.
#[test]
fn verdicts_agree_with_trying_every_order_and_proofs_are_minimal() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let mut rng = SmallRng::seed_from_u64(11);
    let (mut invalid, mut direct) = (0, 0);
    for round in 0..4_000 {
        let mut s = Script::new();
        let collection = match round % 3 {
            0 => None,
            1 => Some(F::Append),
            _ => Some(F::Add),
        };
        let mut open: Vec<(u64, F, Value)> = Vec::new();
        let mut shown: Vec<i64> = Vec::new();
        let mut process = 0;
        let mut begun = 0;
        while begun < BruteForce::MAX_OPS || !open.is_empty() {
            if begun < BruteForce::MAX_OPS && (open.is_empty() || rng.random_bool(0.5)) {
                let value = rng.random_range(0..3);
                let (f, value) = match (&collection, rng.random_range(0..4)) {
                    (_, 0 | 1) => (F::Read, Value::Nil),
                    (Some(f), _) => (f.clone(), Value::Int(begun as i64)),
                    (None, 2) => (F::Write, Value::Int(value)),
                    (None, _) => (F::Cas, ints(&[rng.random_range(0..3), value])),
                };
                s.client(process, Kind::Invoke, f.clone(), value.clone());
                open.push((process, f, value));
                process += 1;
                begun += 1;
            } else {
                let (process, f, value) = open.remove(rng.random_range(0..open.len()));
                let is_read = f == F::Read;
                let result = match (&collection, is_read) {
                    (Some(_), true) => ints(&shown[..rng.random_range(0..=shown.len())]),
                    (None, true) => Value::Int(rng.random_range(0..3)),
                    (_, false) => value.clone(),
                };
                if let (Some(_), Value::Int(n)) = (&collection, &value) {
                    shown.push(*n);
                }
                let kind = if !is_read && rng.random_bool(0.3) {
                    Kind::Info
                } else {
                    Kind::Ok
                };
                s.client(process, kind, f, result);
            }
        }
        let history = s.history();
        let result = Linearizable::default().check(&history);
        let operations = history.operations().unwrap();
        let keys = families::by_key(&operations);
        let view = &keys[&None];
        let model = families::model_of(&operations, view, false).unwrap();
        let whole = encode::encode_all(&operations, view, model, false).unwrap();
        let limits = Limits::default();
        let expected = BruteForce.decide(model, &whole.ops, &limits);
        if expected == Decision::Linearizable {
            assert_eq!(result.verdict, Verdict::Valid, "round {round}: {history:?}");
            continue;
        }
        invalid += 1;
        assert_eq!(
            result.verdict,
            Verdict::Invalid,
            "round {round}: {history:?}"
        );
        let context = format!("round {round}: {history:#?} {result:#?}");
        let position = |index: &u64| {
            let of = |&source: &usize| operations[source].invoke.index == *index;
            whole.sources.iter().position(of).unwrap()
        };
        let proof: Vec<usize> = result.anomalies[0].ops.iter().map(position).collect();
        assert_minimal(&whole, &proof, &context);
        let greedy = explain::explain(&Porcupine, &whole, &Refutation::default());
        assert_minimal(&whole, &greedy, &context);
        direct += u32::from(explain::direct(&Porcupine, &whole, &Refutation::default()).is_some());
    }
    assert!(
        direct > 200,
        "{direct} of {invalid} proofs were plain to see"
    );
    assert!((400..3600).contains(&invalid), "{invalid} invalid");
}

/// A history too long to be looked at the long way is decided all the same, and a stale read in it
/// is explained by a few operations.
#[test]
fn long_histories_of_registers_are_screened() {
    let mut history = History::default();
    let mut event = |process: u64, kind, f, value: i64| {
        let index = history.events.len() as u64;
        let value = Value::Int(value);
        let process = Process::Client(process);
        history
            .events
            .push(Event::new(index, index * 10, process, kind, f, value));
    };
    for value in 1..=(SCREENED_MIN as i64 / 2) {
        event(1, Kind::Invoke, F::Write, value);
        event(1, Kind::Ok, F::Write, value);
    }
    let valid = Linearizable::default().check(&history);
    assert_eq!(valid.verdict, Verdict::Valid);
    assert_eq!(valid.judged, SCREENED_MIN as u64 / 2);
    let mut event = |kind, value| {
        let index = history.events.len() as u64;
        let process = Process::Client(2);
        history
            .events
            .push(Event::new(index, index * 10, process, kind, F::Read, value));
    };
    event(Kind::Invoke, Value::Nil);
    event(Kind::Ok, Value::Int(7));
    let stale = Linearizable::default().check(&history);
    assert_eq!(stale.verdict, Verdict::Invalid);
    let ops = &stale.anomalies[0].ops;
    assert!(ops.len() <= 3 && ops.contains(&12), "{ops:?}");
    assert_eq!(stale.figures["keys_not_linearizable"], 1);
}
