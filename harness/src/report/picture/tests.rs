use checkers::{Kind, Value};

use super::*;
use crate::report::fixture;
use crate::report::html::evidence::Evidence;

#[test]
fn the_picture_shows_operations_faults_and_breaks() {
    let history = fixture::history();
    let summary = fixture::summary();
    let mut evidence = Evidence::choose(&summary);
    history.events.iter().for_each(|e| evidence.record(e));
    let anomaly = evidence.groups[0].shown[0];
    let (scene, _) = evidence.scene(anomaly);
    let text = label_of(scene.core[0]);
    assert!(
        text.starts_with("append k") && text.ends_with("→ n1 e1"),
        "{text}"
    );
    let read = label_of(scene.core[1]);
    assert!(read.contains("more, ") && read.ends_with("n3 e3"), "{read}");
    assert!(!scene.context.is_empty());
    let svg = draw(&scene).into_string();
    for part in ["isolate leader n1", "⋯", "class=\"edge missed\""] {
        assert!(svg.contains(part), "{part} is missing in {svg}");
    }
    assert!(!svg.contains("NaN"), "{svg}");
}

/// What the reads of a transaction showed is in its label.
#[test]
fn a_transaction_is_told_by_its_parts() {
    let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    let mut op = op(0, 1, &F::from_name("txn"), Some((1, Kind::Ok)));
    op.invoke.value = value(r#"[["append", 3, 1], ["r", 0, null]]"#);
    op.invoke.key = None;
    op.complete.as_mut().unwrap().value = value(r#"[["append", 3, 1], ["r", 0, [5, 6]]]"#);
    assert_eq!(label_of(&op), "txn append 3 1, r 0 [5 6] →");
    op.complete = None;
    assert_eq!(label_of(&op), "txn append 3 1, r 0 nil → no answer");
}

fn op(index: u64, process: u64, f: &F, ends: Option<(u64, Kind)>) -> Op {
    let event = |index: u64, kind| {
        let process = Process::Client(process);
        let value = Value::Int(1);
        let mut event = Event::new(index, index * 1_000_000, process, kind, f.clone(), value);
        event.key = Some(Value::str("k"));
        event
    };
    Op {
        invoke: event(index, Kind::Invoke),
        complete: ends.map(|(index, kind)| event(index, kind)),
    }
}

#[test]
fn others_are_faint_and_what_never_ended_fades_out() {
    let core = [
        op(0, 1, &F::Write, None),
        op(2, 2, &F::Read, Some((6, Kind::Ok))),
    ];
    let context = [
        op(3, 4, &F::Write, Some((5, Kind::Ok))),
        op(900, 5, &F::Write, Some((901, Kind::Ok))),
    ];
    let scene = Scene {
        core: core.iter().collect(),
        context: context.iter().collect(),
        bands: &[],
        end_ns: 7_000_000,
        sentence: "one < two",
    };
    let svg = draw(&scene).into_string();
    assert_eq!(svg.matches("class=\"context\"").count(), 1, "{svg}");
    assert_eq!(
        svg.matches("class=\"open\"").count(),
        FADE as usize,
        "{svg}"
    );
    assert_eq!(svg.matches("edge from").count(), 1, "{svg}");
    assert!(
        svg.contains("process 4") && !svg.contains("process 5"),
        "{svg}"
    );
    assert!(svg.contains("one &lt; two"), "{svg}");
}
