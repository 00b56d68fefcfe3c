use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::format::Warning;
use crate::testing;
use crate::{F, Kind};

fn read_text(text: &[u8], partial: bool) -> Result<ReadReport, ReadError> {
    let options = ReadOptions {
        partial,
        ..ReadOptions::default()
    };
    super::super::read_bytes(text, Some(Format::Jsonl), &options)
}

const LINE: &str = r#"{"index":0,"time":12034000,"process":3,"type":"invoke","f":"write","key":"k7","value":1042,"node":"n2"}"#;

#[test]
fn reads_and_writes_the_line_of_the_design() {
    let report = read_text(format!("{LINE}\n").as_bytes(), false).unwrap();
    let mut expected = Event::new(
        0,
        12_034_000,
        Process::Client(3),
        Kind::Invoke,
        F::Write,
        Value::Int(1042),
    );
    expected.key = Some(Value::str("k7"));
    expected.node = Some("n2".into());
    assert_eq!(report.history.events, [expected]);
    assert_eq!(report.warnings, []);
    let mut out = Vec::new();
    write(&mut out, &report.history).unwrap();
    assert_eq!(out, format!("{LINE}\n").into_bytes());
}

#[test]
fn a_torn_last_line_is_reported_wherever_it_is_cut() {
    let text = format!(
        "{LINE}\n{}\n",
        r#"{"index":1,"time":12034001,"process":3,"type":"ok","f":"write","key":"ключ","value":-1.5e3}"#
    );
    let whole = read_text(text.as_bytes(), false).unwrap();
    assert_eq!(whole.history.events.len(), 2);
    for cut in LINE.len() + 2..text.len() - 2 {
        let report = read_text(&text.as_bytes()[..cut], false)
            .unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(report.history.events.len(), 1, "cut at {cut}");
        assert_eq!(report.warnings, [Warning::TornLastLine { line: 2 }]);
    }
}

#[test]
fn a_corrupt_line_names_line_and_field_and_its_prefix_can_be_kept() {
    let bad = [
        (
            r#"{"index":1,"time":-1,"process":3,"type":"ok","f":"read"}"#,
            Some("time"),
        ),
        (
            r#"{"index":1,"time":9000000000,"process":true,"type":"ok","f":"read"}"#,
            Some("process"),
        ),
        (
            r#"{"index":1,"time":9000000000,"process":1,"type":"okay","f":"read"}"#,
            Some("type"),
        ),
        (
            r#"{"index":0,"time":9000000000,"process":1,"type":"ok","f":"read"}"#,
            Some("index"),
        ),
        (
            r#"{"index":1,"time":9000000000,"process":1,"type":"ok","f":"read","f":"read"}"#,
            Some("f"),
        ),
        (
            r#"{"index":1,"time":9000000000,"process":1,"type":"ok"}"#,
            None,
        ),
        (r#"{"index":1,"time":9000000000} trailing"#, None),
        (r#"{"index":1"#, Some("index")),
        ("[1,2]", None),
    ];
    for (line, field) in bad {
        let text = format!("{LINE}\n{line}\n{LINE}\n");
        let error = read_text(text.as_bytes(), false).unwrap_err();
        let ReadError::Corrupt {
            line: at,
            field: of,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*at, of.as_deref()), (2, field), "{error}");
        let report = read_text(text.as_bytes(), true).unwrap();
        assert_eq!(report.history.events.len(), 1);
        assert_eq!(report.cut.unwrap().to_string(), error.to_string());
    }
    let error = read_text(format!("{LINE}\n{}\n", bad[2].0).as_bytes(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "<bytes>:2: field `type`: found \"okay\", expected invoke, ok, fail or info (column 54)"
    );
}

#[test]
fn fields_without_meaning_are_kept() {
    let line = r#"{"index":4,"time":5,"process":"nemesis","type":"info","f":"inject","value":{"id":3,"target":["n2"]},"link":"n1→n2","n":null}"#;
    let report = read_text(format!("{line}\n").as_bytes(), false).unwrap();
    let event = &report.history.events[0];
    assert_eq!(event.process, Process::Nemesis);
    let extra: Vec<(Arc<str>, Value)> = vec![
        ("link".into(), Value::str("n1→n2")),
        ("n".into(), Value::Nil),
    ];
    assert_eq!(event.extra, extra);
    let mut out = Vec::new();
    write_event(&mut out, event);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
}

#[test]
fn compressed_histories_are_recognised_and_may_be_torn() {
    let mut text = Vec::new();
    let mut event = Event::new(0, 0, Process::Client(0), Kind::Invoke, F::Read, Value::Nil);
    for index in 0..200_000 {
        event.index = index;
        event.time = index * 7919;
        write_event(&mut text, &event);
    }
    let packed = zstd::encode_all(&text[..], 1).unwrap();
    let report = read_text(&packed, false).unwrap();
    assert_eq!(report.history.events.len(), 200_000);
    let torn = read_text(&packed[..packed.len() / 2], false).unwrap();
    assert!(!torn.history.events.is_empty());
    let events = torn.history.events.len() as u64;
    assert_eq!(torn.warnings, [Warning::TornCompression { line: events }]);
}

proptest! {
    #[test]
    fn round_trips_lose_nothing(history in testing::any_history()) {
        let mut out = Vec::new();
        write(&mut out, &history).unwrap();
        let report = read_text(&out, false).unwrap();
        prop_assert_eq!(&report.history, &history);
        prop_assert_eq!(report.warnings, vec![]);
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>) {
        let _ = read_text(&bytes, true);
    }
}
