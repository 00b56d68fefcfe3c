use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::format::Warning;
use crate::format::names::Names;
use crate::testing;
use crate::{F, Kind};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

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
    for index in 0..20_000 {
        event.index = index;
        event.time = index * 7919;
        write_event(&mut text, &event);
    }
    let packed = zstd::encode_all(&text[..], 1).unwrap();
    let report = read_text(&packed, false).unwrap();
    assert_eq!(report.history.events.len(), 20_000);
    let torn = read_text(&packed[..packed.len() / 2], false).unwrap();
    assert!(!torn.history.events.is_empty());
    let events = torn.history.events.len() as u64;
    assert_eq!(torn.warnings, [Warning::TornCompression { line: events }]);
}

/// The line of an event as somebody might write it: any order, any space, odd numbers and texts.
fn odd_line(rng: &mut SmallRng) -> String {
    const NUMBERS: [&str; 16] = [
        "0",
        "1",
        "7",
        "00",
        "01",
        "-0",
        "-1",
        "1.0",
        "1e2",
        "999999999999999999",
        "1000000000000000000",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775808",
        "+1",
    ];
    const TEXTS: [&str; 12] = [
        "\"\"",
        "\"k7\"",
        "\"nemesis\"",
        "\"read\"",
        "\"append\"",
        "\"ключ\"",
        "\"a\\n\"",
        "\"$map\"",
        "\"\\u00e9\"",
        "\"a\tb\"",
        "\"a",
        "\"leader\"",
    ];
    const WORDS: [&str; 5] = ["null", "true", "false", "nul", "{}"];
    fn value(rng: &mut SmallRng, depth: usize) -> String {
        let space = [" ", "", "", "\t"][rng.random_range(0..4)];
        match rng.random_range(0..if depth > 0 { 8 } else { 5 }) {
            0 | 1 => NUMBERS[rng.random_range(0..3)].to_owned(),
            2 => NUMBERS.choose(rng).unwrap().to_string(),
            3 => TEXTS.choose(rng).unwrap().to_string(),
            4 => WORDS[rng.random_range(0..if depth > 1 { 3 } else { 5 })].to_owned(),
            5 | 6 => {
                let n = rng.random_range(0..4);
                let items: Vec<String> = (0..n).map(|_| value(rng, depth - 1)).collect();
                format!("[{space}{}{space}]", items.join(&format!(",{space}")))
            }
            _ => {
                let n = rng.random_range(0..3);
                let pairs: Vec<String> = (0..n)
                    .map(|_| {
                        let name = TEXTS[rng.random_range(0..8)];
                        format!("{name}{space}:{space}{}", value(rng, depth - 1))
                    })
                    .collect();
                format!("{{{space}{}{space}}}", pairs.join(","))
            }
        }
    }
    let mut fields: Vec<(&str, String)> = Vec::new();
    for name in [
        "index", "time", "process", "type", "f", "key", "value", "node", "role", "epoch", "error",
        "link",
    ] {
        let rare = matches!(name, "role" | "error" | "epoch" | "link");
        if rng.random_bool(if rare { 0.2 } else { 0.95 }) {
            let text = match name {
                "type" => [
                    "\"invoke\"",
                    "\"ok\"",
                    "\"info\"",
                    "\"fail\"",
                    "\"okay\"",
                    "3",
                ][rng.random_range(0..6).min(rng.random_range(0..6))]
                .to_owned(),
                "f" | "node" | "role" | "error" if rng.random_bool(0.9) => {
                    TEXTS[rng.random_range(1..5)].to_owned()
                }
                "index" | "time" | "process" | "epoch" if rng.random_bool(0.9) => {
                    rng.random_range(0..5000).to_string()
                }
                _ => value(rng, 3),
            };
            fields.push((name, text));
        }
    }
    if rng.random_bool(0.3) {
        let (a, b) = (
            rng.random_range(0..fields.len()),
            rng.random_range(0..fields.len()),
        );
        fields.swap(a, b);
    }
    if rng.random_bool(0.05) {
        let twice = fields.choose(rng).unwrap().clone();
        fields.push(twice);
    }
    let space = ["", "", " ", "\t "][rng.random_range(0..4)];
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{space}{value}"))
        .collect();
    let mut line = format!("{{{}}}", fields.join(&format!("{space},{space}")));
    if rng.random_bool(0.1) {
        let at = rng.random_range(0..=line.len());
        if line.is_char_boundary(at) {
            line.insert_str(
                at,
                ["}", "\"", ",", " ", "x", "\r", "0"][rng.random_range(0..7)],
            );
        }
    }
    line + ["", "\n", "\r\n", " \n", "\n{"][rng.random_range(0..5)]
}

/// What is scanned is what would be parsed.
#[test]
fn the_scanner_reads_what_the_parser_reads() {
    let mut rng = SmallRng::seed_from_u64(3);
    let (mut scanned, mut parsed, mut refused) = (0, 0, 0);
    // Endings of lines that are known are taken from memory: the same names all the time.
    let mut names = Names::default();
    for _ in 0..200_000 {
        let text = odd_line(&mut rng);
        let line = text.split('\n').next().unwrap().trim_ascii();
        let mut scan = Scan::new(text.as_bytes());
        let found = scan.event(&mut names);
        let expected = parse::event(line.as_bytes(), &mut names);
        match (found, expected) {
            (Some(found), Ok(expected)) => {
                assert_eq!(found, expected, "{text:?}");
                let after = text.find('\n').map_or(text.len(), |at| at + 1);
                assert_eq!(scan.position(), after, "{text:?}");
                scanned += 1;
            }
            (Some(found), Err(bad)) => panic!("{text:?}: {found:?}, but {}", bad.message),
            (None, Ok(_)) => parsed += 1,
            (None, Err(_)) => refused += 1,
        }
    }
    assert!(
        scanned > 20_000 && parsed > 10_000 && refused > 20_000,
        "{scanned}, {parsed}, {refused}"
    );
}

/// What Quorate writes is scanned, save for what is rare.
#[test]
fn the_frequent_lines_are_scanned() {
    for line in [
        LINE,
        r#"{"index":1,"time":2,"process":3,"type":"ok","f":"read","key":"k7","value":null,"node":"n2","role":"leader","epoch":3}"#,
        r#"{"index": 1, "time": 2, "process": "nemesis", "type": "info", "f": "phase", "value": "final"}"#,
        r#"{"type":"ok","f":"txn","value":[["append",1,2],["r",3,[1,2]],["r",4,null]],"process":3,"time":2,"index":1}"#,
        r#"{"index":1,"time":2,"process":3,"type":"info","f":"cas","value":[1,-2],"error":"timeout"}"#,
        r#"{"index":1,"time":2,"process":3,"type":"ok","f":"read","value":{"1":2,"3":4}}"#,
    ] {
        let event = Scan::new(line.as_bytes()).event(&mut Names::default());
        assert!(event.is_some(), "{line}");
    }
}

#[test]
fn times_may_go_back_but_indexes_may_not() {
    let line = |index: u64, time: u64| {
        let event = Event::new(
            index,
            time,
            Process::Client(index),
            Kind::Invoke,
            F::Read,
            Value::Nil,
        );
        let mut out = Vec::new();
        write_event(&mut out, &event);
        out
    };
    let text = [
        line(0, 5),
        line(1, 4),
        line(2, 9),
        line(7, 8),
        b"\n\n".to_vec(),
        line(8, 8),
    ]
    .concat();
    let report = read_text(&text, false).unwrap();
    assert_eq!(
        report.warnings,
        [Warning::TimesGoBack {
            first: 1,
            events: 2
        }]
    );
    assert_eq!(report.history.events[1].time, 4);
    let text = [text, b" \n".to_vec(), line(8, 9)].concat();
    let error = read_text(&text, false).unwrap_err();
    let expected = "<bytes>:9: field `index`: 8 does not follow 8: indexes must increase";
    assert_eq!(error.to_string(), expected);
    let report = read_text(&text, true).unwrap();
    assert_eq!(report.history.events.len(), 5);
}

#[test]
fn lines_without_end_are_refused() {
    let text = format!("{LINE}\n{}", "x".repeat(3 << 20));
    let error = read_text(text.as_bytes(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "<bytes>:2: longer than 1 MiB, expected an event"
    );
    let report = read_text(text.as_bytes(), true).unwrap();
    assert_eq!(report.history.events.len(), 1);
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
