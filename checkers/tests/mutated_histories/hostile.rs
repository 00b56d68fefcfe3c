//! Files that somebody made up to break a reader, and histories that cannot be or that stretch
//! every number: refused in one line that says where, or judged.

use std::io::{self, Read, Write};

use checkers::check_all::NAMES;
use checkers::format::{self, Events, ReadError, ReadOptions};
use checkers::{Event, F, Format, History, Kind, Process, Value, Verdict, by_name, check_all};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::{judge, read};

const JSONL: &str = r#"{"index":0,"time":1,"process":0,"type":"invoke","f":"read","value":null}"#;
const EDN: &str = "{:index 0, :time 1, :process 0, :type :invoke, :f :read, :value nil}";
const LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:read\tnil";

/// A good line of the format, then this one, then another.
fn second(format: Format, line: &str) -> Vec<u8> {
    match format {
        Format::Jsonl => format!("{JSONL}\n{line}\n{JSONL}\n"),
        Format::Json => format!("[{JSONL},\n{line},\n{JSONL}]\n"),
        Format::Edn | Format::PorcupineKv => format!("{EDN}\n{line}\n{EDN}\n"),
        Format::JepsenLog => format!("{LOG}\n{line}\n{LOG}\n"),
    }
    .into_bytes()
}

#[test]
fn bad_lines_are_refused_by_number() {
    let long = "1".repeat(1 << 20);
    let deep =
        |open: &str, close: &str, depth| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let jsonl = |field: &str, value: &str| {
        let fields = [
            ("index", "5"),
            ("time", "9"),
            ("process", "1"),
            ("type", "\"ok\""),
            ("f", "\"read\""),
        ];
        let fields = fields.map(|(name, usual)| {
            format!("\"{name}\":{}", if name == field { value } else { usual })
        });
        format!(
            "{{{},\"value\":{}}}",
            fields.join(","),
            if field == "value" { value } else { "1" }
        )
    };
    let edn = |field: &str, value: &str| {
        let fields = [
            ("index", "5"),
            ("time", "9"),
            ("process", "1"),
            ("type", ":ok"),
            ("f", ":read"),
        ];
        let fields = fields
            .map(|(name, usual)| format!(":{name} {}", if name == field { value } else { usual }));
        format!(
            "{{{}, :value {}}}",
            fields.join(", "),
            if field == "value" { value } else { "1" }
        )
    };
    let mut cases: Vec<(Format, String)> = Vec::new();
    for (field, values) in [
        (
            "index",
            vec![
                "-1",
                "1.5",
                "1e400",
                "\"5\"",
                "[]",
                &long,
                "18446744073709551616",
            ],
        ),
        ("time", vec!["-1", "1e5", "{}", &long]),
        ("process", vec!["-1", "1.5", "true", "[1]", &long]),
        ("type", vec!["\"okay\"", "1", "null", "\"\\u0000\""]),
        ("f", vec!["1", "null", "[]"]),
        (
            "value",
            vec![
                "\0", "\"\0\"", "nope", "1.", "01", "'a'", "{1:2}", "{\"a\"}", "[1,]", "\"\\x\"",
            ],
        ),
    ] {
        for value in values {
            cases.push((Format::Jsonl, jsonl(field, value)));
            // Indexes and times may be null there.
            if matches!(field, "process" | "type" | "value") {
                cases.push((Format::Json, jsonl(field, value)));
            }
        }
    }
    for (field, values) in [
        (
            "index",
            vec!["-1", "1.5", "9999999999999999999", "1/2", "[]", &long],
        ),
        ("time", vec!["-1", "#inst \"2026\"", "1M"]),
        ("process", vec!["-1", "1.5", "sym", "[1]", &long]),
        ("type", vec![":okay", "1", "nil"]),
        ("f", vec!["1", "nil", "sym"]),
        (
            "value",
            vec![
                "\0",
                "1_x",
                ":",
                "#",
                "{:a}",
                "\"\\x\"",
                "\"\\ud800\"",
                "##Nope",
                "[1)",
                "\u{1}",
            ],
        ),
    ] {
        for value in values {
            cases.push((Format::Edn, edn(field, value)));
        }
    }
    cases.extend([
        (Format::Jsonl, deep("[", "]", 200_000)),
        (Format::Jsonl, jsonl("value", &deep("[", "]", 128))),
        (Format::Jsonl, jsonl("value", &deep("{\"a\":[", "]}", 64))),
        (Format::Json, jsonl("value", &deep("[", "]", 128))),
        (Format::Edn, edn("value", &deep("[", "]", 40))),
        (Format::Edn, edn("value", &deep("#{", "}", 200_000))),
        (Format::Edn, edn("value", &deep("#a [", "]", 200_000))),
        (Format::Edn, "{1 2}".to_owned()),
        (Format::Edn, "{nil nil}".to_owned()),
        (Format::Edn, "{[:process] 1, :type :ok}".to_owned()),
        (Format::Edn, "#unknown/tag 7".to_owned()),
        (Format::Edn, "#unknown/tag [1 2]".to_owned()),
        (
            Format::JepsenLog,
            "INFO jepsen.util - 0 :okay :read 1".to_owned(),
        ),
        (
            Format::JepsenLog,
            "INFO jepsen.util - 0 :ok read 1".to_owned(),
        ),
        (
            Format::JepsenLog,
            "INFO jepsen.util - 0 :ok :read [1".to_owned(),
        ),
        (
            Format::JepsenLog,
            format!("INFO jepsen.util - 0 :ok :read {}", "[".repeat(200_000)),
        ),
        (
            Format::PorcupineKv,
            "{:process 1, :type :ok, :f :get, :key \"k\" :value".to_owned(),
        ),
    ]);
    for (format, line) in cases {
        let bytes = second(format, &line);
        let start: String = line.chars().take(80).collect();
        let error = read(&bytes, Some(format), false, false)
            .err()
            .unwrap_or_else(|| panic!("{format:?} takes {start}"));
        let ReadError::Corrupt { line, .. } = &error else {
            panic!("{error}");
        };
        let text = error.to_string();
        assert_eq!(*line, 2, "{text}");
        assert!(
            text.starts_with("<bytes>:2: ") && text.len() < 300,
            "{text}"
        );
        assert!(!text.contains(char::is_control), "{text}");
        let partial = read(&bytes, Some(format), true, false).unwrap();
        assert_eq!(partial.history.events.len(), 1, "{start}");
        assert_eq!(partial.cut.unwrap().to_string(), text);
    }
}

#[test]
fn odd_lines_are_read() {
    let wide = "7,".repeat(100_000);
    let long = "x".repeat(1 << 20);
    for (format, line, events) in [
        (Format::Jsonl, String::new(), 1),
        (Format::Jsonl, format!("\u{feff}{JSONL}"), 1),
        (Format::Jsonl, format!("{JSONL}\r"), 1),
        (
            Format::Jsonl,
            JSONL.replace("null", &format!("[{wide}0]")),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("null", &format!("{{\"{long}\":\"{long}\"}}")),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("null", "[[[[[[[[[[[[1]]]]]]]]]]]]"),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("null", "{\"\":{\"$x\":1e300}}"),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("\"time\":1", "\"time\":18446744073709551615"),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("\"index\":0", "\"index\":18446744073709551615"),
            1,
        ),
        (
            Format::Jsonl,
            JSONL.replace("\"process\":0", "\"process\":9223372036854775807"),
            1,
        ),
        (Format::Edn, String::new(), 0),
        (Format::Edn, format!("\u{feff}[{EDN}]\r\n"), 1),
        (Format::Edn, format!("#unknown/tag {EDN}"), 1),
        (Format::Edn, EDN.replace("nil", &format!("[{wide}]")), 1),
        (
            Format::Edn,
            EDN.replace("nil", &format!("{{:{long} \"{long}\"}}")),
            1,
        ),
        (
            Format::Edn,
            EDN.replace("nil", "{nil {1 2}, [3] #x/y (4)}"),
            1,
        ),
        (
            Format::Edn,
            EDN.replace("nil", "99999999999999999999999999999999N"),
            1,
        ),
        (Format::Edn, EDN.replace("nil", "##NaN"), 1),
        (Format::Json, "[]".to_owned(), 0),
        (
            Format::Json,
            format!("[\r\n{JSONL}\r\n,\r\n{JSONL}\r\n]\r\n"),
            2,
        ),
        (Format::JepsenLog, format!("\0\0\n{LOG}\r\n"), 1),
    ] {
        let events = if format == Format::Jsonl && line.is_empty() {
            0
        } else {
            events
        };
        let report =
            read(line.as_bytes(), Some(format), false, false).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report.history.events.len(), events);
        judge(&report.history);
    }
}

/// A stream without end, or one that grows when it is unpacked, costs a bounded amount of memory.
#[test]
fn what_does_not_end_is_refused() {
    for format in [Format::Jsonl, Format::Edn, Format::JepsenLog, Format::Json] {
        let start = if format == Format::Json { "[\"" } else { "{\"" };
        let endless = start.as_bytes().chain(io::repeat(b'a'));
        let options = ReadOptions::default();
        let error = format::read_stream(endless, "x", Some(format), &options).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("x:1: longer than 256 MiB"), "{text}");
    }
    let blank = zstd::encode_all(io::repeat(b'\n').take(1 << 26), 1).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut io::repeat(b' ').take(1 << 26), &mut packed).unwrap();
    packed.write_all(EDN.as_bytes()).unwrap();
    let spaced = packed.finish().unwrap();
    assert!(blank.len() + spaced.len() < 1 << 20);
    let report = read(&blank, Some(Format::Jsonl), false, false).unwrap();
    assert!(report.history.events.is_empty());
    let report = read(&spaced, Some(Format::Edn), false, false).unwrap();
    assert_eq!(report.history.events.len(), 1);
}

/// What each checker says of events that cannot be.
#[test]
fn histories_that_cannot_be_are_unknown() {
    let event = |index: u64, process: u64, kind: Kind, f: F| {
        let process = Process::Client(process);
        let mut event = Event::new(index, index, process, kind, f, Value::Int(1));
        event.key = Some(Value::str("k"));
        event
    };
    let other_key = {
        let mut event = event(1, 1, Kind::Ok, F::Write);
        event.key = Some(Value::str("other"));
        event
    };
    let invoke = event(0, 1, Kind::Invoke, F::Write);
    for events in [
        vec![event(0, 1, Kind::Ok, F::Write)],
        vec![event(0, u64::MAX, Kind::Ok, F::Write)],
        vec![invoke.clone(), event(1, 1, Kind::Invoke, F::Write)],
        vec![invoke.clone(), event(0, 1, Kind::Ok, F::Write)],
        vec![
            event(5, 1, Kind::Invoke, F::Write),
            event(4, 1, Kind::Ok, F::Write),
        ],
        vec![invoke.clone(), event(1, 1, Kind::Ok, F::Read)],
        vec![invoke.clone(), other_key],
        vec![
            invoke.clone(),
            event(1, 1, Kind::Ok, F::Write),
            event(2, 1, Kind::Fail, F::Write),
        ],
    ] {
        let history = History { events };
        for name in NAMES {
            let result = by_name(name).unwrap().check(&history);
            let malformed = matches!(&result.verdict, Verdict::Unknown(why)
                if why.starts_with("malformed-history: event ") && !why.contains('\n'));
            assert!(malformed, "{name}: {:?} of {history:?}", result.verdict);
        }
    }
}

/// A value of any kind.
fn value(rng: &mut SmallRng, numbers: &[i64], depth: u32) -> Value {
    let nested = |rng: &mut SmallRng| -> Vec<Value> {
        (0..rng.random_range(0..4))
            .map(|_| value(rng, numbers, depth - 1))
            .collect()
    };
    match rng.random_range(0..if depth > 0 { 12 } else { 7 }) {
        0 => Value::Nil,
        1 => Value::Float([f64::NAN, f64::INFINITY, -0.0, 1e308][rng.random_range(0..4)]),
        2 => Value::str(["", "a", "append", "r", "w"][rng.random_range(0..5)]),
        3 => Value::Keyword(["append", "r", "w", "x"][rng.random_range(0..4)].into()),
        4 => Value::Bool(true),
        5 | 6 => Value::Int(*numbers.choose(rng).unwrap()),
        7 | 8 => Value::Vector(nested(rng).into()),
        9 => Value::List(nested(rng).into()),
        10 => Value::tagged("t", value(rng, numbers, depth - 1)),
        _ => {
            let pairs = nested(rng).into_iter().map(|v| (v.clone(), v));
            Value::Map(pairs.collect())
        }
    }
}

/// Times that go back and forth, numbers at their limits, values of every kind: judged somehow.
#[test]
fn histories_that_stretch_every_number_are_judged() {
    let fs = [
        "read",
        "write",
        "cas",
        "append",
        "add",
        "increment",
        "insert",
        "remove",
        "put",
        "generate",
        "acquire",
        "release",
        "inspect",
        "txn",
        "transfer",
        "enqueue",
        "dequeue",
        "drain",
        "push",
        "pop",
        "contains",
        "send",
        "poll",
        "assign",
        "subscribe",
    ];
    let numbers = [i64::MIN, i64::MIN + 1, -1, 0, 1, 2, i64::MAX - 1, i64::MAX];
    let times = [0, 1, 1 << 40, u64::MAX - 1, u64::MAX];
    let mut rng = SmallRng::seed_from_u64(11);
    for _ in 0..1_500 {
        let one = *fs.choose(&mut rng).unwrap();
        let mut events: Vec<Event> = Vec::new();
        let mut open: Vec<Option<Event>> = vec![None; 4];
        for index in 0..rng.random_range(2..30) {
            let p = rng.random_range(0..open.len());
            let mut event = match open[p].take() {
                Some(invoke) => {
                    let mut event = invoke;
                    event.kind = *[Kind::Ok, Kind::Ok, Kind::Ok, Kind::Fail, Kind::Info]
                        .choose(&mut rng)
                        .unwrap();
                    if rng.random_bool(0.5) {
                        event.value = value(&mut rng, &numbers, 3);
                    }
                    event
                }
                None => {
                    let f = [one, "read", fs.choose(&mut rng).unwrap()][rng.random_range(0..3)];
                    let process = [p as u64, u64::MAX - p as u64][p % 2];
                    let argument = value(&mut rng, &numbers, 3);
                    let mut event = Event::new(
                        0,
                        0,
                        Process::Client(process),
                        Kind::Invoke,
                        F::from_name(f),
                        argument,
                    );
                    if rng.random_bool(0.7) {
                        event.key = Some(value(&mut rng, &numbers, 1)).filter(|key| !key.is_nil());
                    }
                    open[p] = Some(event.clone());
                    event
                }
            };
            event.index = index;
            event.time = *times.choose(&mut rng).unwrap();
            if rng.random_bool(0.5) {
                event.node = Some(["n1", "n2", ""][rng.random_range(0..3)].into());
                event.epoch = [None, Some(0), Some(u64::MAX)][rng.random_range(0..3)];
            }
            if rng.random_bool(0.1) {
                event
                    .extra
                    .push(("seen".into(), value(&mut rng, &numbers, 2)));
            }
            events.push(event);
            if rng.random_bool(0.05) {
                let f = F::from_name(["phase", "inject", "heal", "begin"][rng.random_range(0..4)]);
                let value = value(&mut rng, &numbers, 2);
                let time = *times.choose(&mut rng).unwrap();
                events.push(Event::new(
                    index,
                    time,
                    Process::Nemesis,
                    Kind::Info,
                    f,
                    value,
                ));
            }
        }
        for (index, event) in (0..).zip(&mut events) {
            event.index = index;
        }
        let history = History { events };
        judge(&history);
        // What was judged can be kept, and comes back.
        let mut out = Vec::new();
        format::write(&mut out, &history, Format::Edn).unwrap();
        let options = ReadOptions {
            independent: Some(false),
            ..ReadOptions::default()
        };
        if let Ok(report) = format::read_bytes(&out, Some(Format::Edn), &options) {
            assert_eq!(report.history.events.len(), history.events.len());
        }
        let streamed = Events::new(&out[..], "x", Some(Format::Edn), &options).unwrap();
        assert!(streamed.count() <= history.events.len() + 1);
    }
}

/// Long histories of the kinds that make a careless algorithm quadratic.
#[test]
fn long_histories_are_judged_in_time() {
    const OPS: u64 = 20_000;
    for f in [
        "write",
        "append",
        "add",
        "increment",
        "acquire",
        "txn",
        "enqueue",
    ] {
        let mut events = Vec::new();
        for n in 0..OPS {
            // A new client each, as after crashes; none of them ever returns, or all do.
            let value = Value::Int(n as i64);
            let mut event = Event::new(
                0,
                0,
                Process::Client(n),
                Kind::Invoke,
                F::from_name(f),
                value,
            );
            event.key = Some(Value::str("k"));
            events.push(event.clone());
            if n % 2 == 0 {
                event.kind = Kind::Ok;
                events.push(event);
            }
        }
        for (index, event) in (0..).zip(&mut events) {
            event.index = index;
        }
        let history = History { events };
        let all: Vec<_> = NAMES.iter().map(|name| by_name(name).unwrap()).collect();
        for result in check_all(&history, &all).results {
            let crashed =
                matches!(&result.verdict, Verdict::Unknown(why) if why.contains("crashed"));
            assert!(!crashed, "{f}: {result:?}");
        }
    }
}
