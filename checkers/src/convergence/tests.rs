use super::*;
use crate::{Event, Kind, Process, Verdict};

/// A history of inspections: node, key, outcome, answer or error.
#[derive(Default)]
struct Inspections(History);

impl Inspections {
    fn event(&mut self, node: &str, key: Option<&str>, kind: Kind, value: Value) -> &mut Event {
        let index = self.0.events.len() as u64;
        let client = Process::Client(0);
        let mut event = Event::new(index, index * 1_000_000, client, kind, F::Inspect, value);
        event.key = key.map(Value::str);
        event.node = Some(node.into());
        self.0.events.push(event);
        self.0.events.last_mut().unwrap()
    }

    fn content(&mut self, node: &str, key: Option<&str>, value: Value) -> &mut Self {
        self.event(node, key, Kind::Invoke, Value::Nil);
        self.event(node, key, Kind::Ok, value);
        self
    }

    fn digest(&mut self, node: &str, fields: &[(&str, &str)]) -> &mut Self {
        let fields = fields
            .iter()
            .map(|(name, value)| (Value::str(name), Value::str(value)));
        self.content(node, None, Value::Map(fields.collect()))
    }

    fn failed(&mut self, node: &str, key: Option<&str>, kind: Kind, error: &str) -> &mut Self {
        self.event(node, key, Kind::Invoke, Value::Nil);
        self.event(node, key, kind, Value::Nil).error = Some(error.into());
        self
    }

    fn check(&self) -> CheckResult {
        Convergence.check(&self.0)
    }
}

fn unknown(reason: &str) -> Verdict {
    Verdict::Unknown(reason.to_owned())
}

#[test]
fn equal_digests_converged_and_only_the_last_ones_count() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa"), ("scope", "")])
        .digest("n2", &[("digest", "bb"), ("scope", "")])
        .failed("n3", None, Kind::Info, "timeout")
        .digest("n2", &[("digest", "aa")])
        .digest("n3", &[("digest", "aa")]);
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Valid, "{result:?}");
    assert_eq!(result.judged, 3);
    s.digest("n3", &[("digest", "cc")]);
    assert_eq!(s.check().verdict, Verdict::Invalid);
}

#[test]
fn a_difference_names_the_replicas_the_keys_and_what_they_hold() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa")])
        .digest("n2", &[("digest", "bb")])
        .digest("n3", &[("digest", "aa")])
        .content("n1", Some("k"), Value::Int(1))
        .content("n2", Some("k"), Value::Nil)
        .content("n3", Some("k"), Value::Int(1))
        .content("n1", Some("same"), Value::Int(2))
        .content("n2", Some("same"), Value::Int(2));
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.figures["diverged_keys"], 1);
    assert_eq!(result.figures["diverged_scopes"], 1);
    let [scope, key] = &result.anomalies[..] else {
        panic!("{result:?}")
    };
    assert_eq!(
        scope.summary,
        "the replicas did not converge by digest: n1 and n3 hold aa; n2 holds bb"
    );
    assert_eq!(scope.ops, [0, 2, 4]);
    assert_eq!(
        key.summary,
        "key k did not converge: n1 and n3 hold 1; n2 holds nil"
    );
    assert_eq!(
        (key.class.as_str(), &key.ops[..]),
        ("diverged", &[6, 8, 10][..])
    );
    assert_eq!(key.figures["holdings"]["n2"], "nil");
}

#[test]
fn a_partial_replica_is_compared_by_the_keys_that_it_holds() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa"), ("scope", "")])
        .digest("n2", &[("digest", "aa"), ("scope", "")])
        .digest("n3", &[("digest", "cc"), ("scope", "eu/")]);
    assert_eq!(s.check().verdict, unknown("not-compared: n3"));
    s.content("n1", Some("us/1"), Value::Int(1))
        .content("n3", Some("us/1"), Value::Nil)
        .content("n1", Some("eu/1"), Value::Int(1))
        .content("n3", Some("eu/1"), Value::Int(1));
    assert_eq!(s.check().verdict, Verdict::Valid);
    s.content("n3", Some("eu/1"), Value::Int(7));
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].key, Some(Value::str("eu/1")));
}

#[test]
fn replicas_on_a_ring_are_compared_by_the_keys_that_they_answer_for() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa"), ("scope", "range n1")])
        .digest("n2", &[("digest", "bb"), ("scope", "range n2")])
        .digest("n3", &[("digest", "cc"), ("scope", "range n3")])
        .content("n1", Some("k"), Value::Int(1))
        .content("n2", Some("k"), Value::Int(1))
        .failed("n3", Some("k"), Kind::Fail, "unsupported")
        .content("n2", Some("l"), Value::Int(2))
        .content("n3", Some("l"), Value::Int(2));
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Valid, "{result:?}");
    assert_eq!(result.judged, 3);
    s.content("n3", Some("l"), Value::Nil);
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(
        result.anomalies[0].summary,
        "key l did not converge: n2 holds 2; n3 holds nil"
    );
}

#[test]
fn who_does_not_answer_is_unknown_and_masks_nobody() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa")])
        .digest("n2", &[("digest", "aa")])
        .failed("n3", None, Kind::Info, "timeout")
        .failed("n4", None, Kind::Fail, "unsupported")
        .failed("n2", Some("k"), Kind::Fail, "unsupported");
    assert_eq!(s.check().verdict, unknown("no-answer: n3"));
    s.digest("n2", &[("digest", "bb")]);
    assert_eq!(s.check().verdict, Verdict::Invalid);
}

#[test]
fn a_replica_that_stopped_says_why() {
    let mut s = Inspections::default();
    s.digest("n1", &[("digest", "aa")]).digest(
        "n2",
        &[
            ("digest", "aa"),
            ("stopped", "the record is of storage version 2"),
        ],
    );
    let result = s.check();
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.anomalies[0].class, "replication-stopped");
    assert_eq!(
        result.anomalies[0].summary,
        "n2 stopped replicating: the record is of storage version 2"
    );
}

#[test]
fn nothing_inspected_or_nothing_to_compare_is_nothing_to_judge() {
    let mut s = Inspections::default();
    assert_eq!(s.check().verdict, unknown("nothing-to-judge"));
    s.digest("n1", &[("digest", "aa")]);
    assert_eq!(s.check().verdict, unknown("nothing-to-judge"));
    s.failed("n2", None, Kind::Fail, "connection refused");
    assert_eq!(
        s.check().verdict,
        unknown("no-answer: n2; nothing-to-judge")
    );
}

#[test]
fn many_keys_are_counted_but_few_are_named() {
    let mut s = Inspections::default();
    for i in 0..50 {
        let key = format!("k{i}");
        s.content("n1", Some(&key), Value::Int(1)).content(
            "n2",
            Some(&key),
            Value::str(&"x".repeat(500)),
        );
    }
    let result = s.check();
    assert_eq!(result.figures["diverged_keys"], 50);
    assert_eq!(result.anomalies.len(), KEYS_NAMED_MAX);
    assert!(result.anomalies[0].summary.len() < 200);
}

#[test]
fn of_long_collections_the_difference_is_told() {
    let items = |from: i64| -> Value { (from..100).map(Value::Int).collect() };
    let reversed: Value = (0..100).rev().map(Value::Int).collect();
    let mut s = Inspections::default();
    s.content("n1", Some("k"), items(0))
        .content("n2", Some("k"), items(2));
    assert_eq!(
        s.check().anomalies[0].summary,
        "key k did not converge: n1 holds all 100 elements; n2 holds 98 of 100 elements, without \
         0, 1"
    );
    s.content("n2", Some("k"), reversed);
    assert_eq!(
        s.check().anomalies[0].summary,
        "key k did not converge: n1 holds all 100 elements, in an order of its own; n2 holds all \
         100 elements, in an order of its own"
    );
}
