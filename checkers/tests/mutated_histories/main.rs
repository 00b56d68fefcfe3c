//! Histories that were damaged: an error or a verdict, never a panic, and nothing that was not in
//! the file.

mod hostile;

use checkers::check_all::NAMES;
use checkers::format::{self, ReadError, ReadOptions, ReadReport, jsonl};
use checkers::{
    Checker, Event, F, Format, History, Kind, Process, Value, Verdict, by_name, check_all,
};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Damaged files per format.
const ROUNDS: u64 = 800;

/// A history with everything in it that the format can hold.
fn history(rng: &mut SmallRng, format: Format) -> History {
    let text = format == Format::PorcupineKv;
    let with_nemesis = !text;
    let value = |rng: &mut SmallRng| match (text, rng.random_range(0..4)) {
        (true, _) => Value::str(&format!("x {} y", rng.random_range(0..9))),
        (false, 0) => Value::Nil,
        (false, 1) => (0..rng.random_range(0..4)).map(Value::Int).collect(),
        (false, _) => Value::Int(rng.random_range(0..9)),
    };
    let fs: &[F] = match format {
        Format::PorcupineKv => &[F::Read, F::Write, F::Append],
        _ => &[
            F::Read,
            F::Read,
            F::Write,
            F::Append,
            F::Add,
            F::Cas,
            F::Increment,
            F::Insert,
            F::Remove,
            F::Put,
            F::Generate,
            F::Acquire,
            F::Release,
            F::Inspect,
        ],
    };
    // Of one function most of the time: a key that mixes them is judged by nobody.
    let one = fs.choose(rng).unwrap().clone();
    let mixed = rng.random_bool(0.3);
    let mut open: Vec<Option<(F, Value, Value)>> = vec![None; 4];
    let mut events: Vec<Event> = Vec::new();
    for position in 0..rng.random_range(4..24) {
        let p = rng.random_range(0..open.len());
        let mut event = Event::new(
            position,
            0,
            Process::Client(p as u64),
            Kind::Invoke,
            F::Read,
            Value::Nil,
        );
        if with_nemesis && rng.random_bool(0.1) {
            event.process = Process::Nemesis;
            event.kind = Kind::Info;
            event.f = F::from_name("phase");
            event.value = Value::str("final");
        } else if let Some((f, key, argument)) = open[p].take() {
            event.kind = *[Kind::Ok, Kind::Ok, Kind::Fail, Kind::Info]
                .choose(rng)
                .unwrap();
            event.value = match f {
                F::Read | F::Generate | F::Inspect => value(rng),
                _ => argument,
            };
            event.f = f;
            event.key = Some(key);
            if !text && format != Format::JepsenLog {
                event.node = Some("n1".into());
                event.epoch = Some(rng.random_range(0..3));
            }
        } else {
            let f = match rng.random_range(0..8) {
                0..4 if !mixed => F::Read,
                4..7 if !mixed => one.clone(),
                7 if !mixed && !text => F::Remove,
                _ => fs.choose(rng).unwrap().clone(),
            };
            let key = Value::str(["a", "b"][rng.random_range(0..2)]);
            let argument = if f == F::Read { Value::Nil } else { value(rng) };
            event.f = f.clone();
            event.key = Some(key.clone());
            event.value = argument.clone();
            if format == Format::Jsonl || format == Format::Edn {
                if f == F::Inspect {
                    event.node = Some(["n1", "n2"][rng.random_range(0..2)].into());
                } else if f.is_write() && rng.random_bool(0.5) {
                    event.extra.push(("seen".into(), value(rng)));
                }
            }
            open[p] = Some((f, key, argument));
        }
        event.time = match format {
            Format::JepsenLog | Format::PorcupineKv => position,
            _ => position * 1_000,
        };
        events.push(event);
    }
    History { events }
}

/// Damages a file; the first byte that may differ.
fn damage(rng: &mut SmallRng, bytes: &mut Vec<u8>) -> usize {
    const TOKENS: [&[u8]; 22] = [
        b"-1",
        b"99999999999999999999",
        b"1e999",
        b"-0",
        b"null",
        b"nil",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b"#",
        b"#_",
        b"^",
        b":",
        b"\xff\xfe",
        b"\xc3",
        b"\n",
        b";",
        b"\"process\":",
        b"\0",
    ];
    let at = rng.random_range(0..=bytes.len());
    let line = |bytes: &[u8], at: usize| {
        let start = bytes[..at]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |i| i + 1);
        let end = bytes[at..]
            .iter()
            .position(|b| *b == b'\n')
            .map_or(bytes.len(), |i| at + i + 1);
        start..end
    };
    match rng.random_range(0..8) {
        0 => bytes.truncate(at),
        1 => {
            let token = *TOKENS.choose(rng).unwrap();
            bytes.splice(at..at, token.iter().copied());
        }
        2 => {
            let to = (at + rng.random_range(1..6)).min(bytes.len());
            let token = *TOKENS.choose(rng).unwrap();
            bytes.splice(at..to, token.iter().copied());
        }
        3 if at < bytes.len() => bytes[at] = rng.random(),
        4 => {
            let twice = bytes[line(bytes, at)].to_vec();
            bytes.splice(at..at, twice);
        }
        5 => {
            let range = line(bytes, at);
            let twice = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, twice);
            return range.start;
        }
        6 => {
            let range = line(bytes, at);
            let start = range.start;
            bytes.drain(range);
            return start;
        }
        _ => {
            // Another number in the place of one.
            let digits = |b: &u8| b.is_ascii_digit();
            if let Some(from) = bytes[at..].iter().position(digits).map(|i| at + i) {
                let to = bytes[from..]
                    .iter()
                    .position(|b| !digits(b))
                    .map_or(bytes.len(), |i| from + i);
                let token = *TOKENS[..5].choose(rng).unwrap();
                bytes.splice(from..to, token.iter().copied());
            }
        }
    }
    at
}

fn judge(history: &History) {
    let all: Vec<Box<dyn Checker>> = NAMES.iter().map(|n| by_name(n).unwrap()).collect();
    for result in check_all(history, &all).results {
        let crashed = matches!(&result.verdict, Verdict::Unknown(why) if why.contains("crashed"));
        assert!(!crashed, "{result:?}: {history:#?}");
    }
}

fn read(
    bytes: &[u8],
    format: Option<Format>,
    partial: bool,
    tuples: bool,
) -> Result<ReadReport, ReadError> {
    let options = ReadOptions {
        partial,
        independent: format.map(|_| tuples),
    };
    format::read_bytes(bytes, format, &options)
}

#[test]
fn damaged_histories_are_errors_or_verdicts() {
    let (mut refused, mut accepted, mut cut) = (0, 0, 0);
    for format in Format::ALL {
        let mut rng = SmallRng::seed_from_u64(5);
        let tuples = matches!(format, Format::Edn | Format::JepsenLog);
        for round in 0..ROUNDS {
            let whole = history(&mut rng, format);
            let mut bytes = Vec::new();
            format::write(&mut bytes, &whole, format).unwrap();
            let whole = read(&bytes, Some(format), false, tuples).unwrap().history;
            let mut first = bytes.len();
            for _ in 0..rng.random_range(1..3) {
                first = first.min(damage(&mut rng, &mut bytes));
            }
            // What stands on the lines before the first one touched must come back as it was.
            let before = &bytes[..first.min(bytes.len())];
            let same = before.split(|b| *b == b'\n').count() - 1;
            let context = || format!("{format:?}, {round}: {}", String::from_utf8_lossy(&bytes));
            for (as_format, partial) in [
                (None, false),
                (None, true),
                (Some(format), false),
                (Some(format), true),
            ] {
                match read(&bytes, as_format, partial, tuples) {
                    Ok(report) => {
                        accepted += 1;
                        cut += u32::from(report.cut.is_some());
                        let events = &report.history.events;
                        if as_format.is_some() {
                            assert!(events.len() >= same, "lost an event: {}", context());
                            assert_eq!(events[..same], whole.events[..same], "{}", context());
                        }
                        if report.format == Format::Jsonl {
                            assert_in_file(&bytes, events);
                        }
                        judge(&report.history);
                        let mut again = Vec::new();
                        format::write(&mut again, &report.history, Format::Jsonl).unwrap();
                    }
                    Err(e) => {
                        refused += 1;
                        let text = e.to_string();
                        assert!(!partial || as_format.is_none(), "{text}: {}", context());
                        assert_eq!(text.lines().count(), 1, "{text}");
                    }
                }
            }
        }
    }
    assert!(
        refused > 500 && accepted > 500 && cut > 200,
        "{refused}, {accepted}, {cut}"
    );
}

/// Each event is a line of its own, in the order of the lines.
fn assert_in_file(bytes: &[u8], events: &[Event]) {
    let mut lines = bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.trim_ascii().is_empty());
    for event in events {
        let line = lines.next().expect("an event has a line");
        let alone = jsonl::read(line, "", &ReadOptions::default()).unwrap();
        assert_eq!(alone.history.events, std::slice::from_ref(event));
    }
}

#[test]
fn deep_nesting_is_an_error() {
    const DEPTH: usize = 100_000;
    let heads = [
        "",
        "{\"index\":0,\"time\":0,\"process\":0,\"type\":\"ok\",\"f\":\"read\",\"value\":",
        "{:process 0, :type :ok, :f :read, :value ",
        "{:process 0, :type :ok, :f :get, :key \"k\", :value ",
        "INFO  jepsen.util - 0 :ok :read ",
        "[{\"process\":0,\"type\":\"ok\",\"f\":\"read\",\"value\":",
        "[{:process 0, :type :ok, :f :read, :value ",
    ];
    for head in heads {
        for nested in [
            "[", "{", "(", "#{", "#_", "#a ", "^", "{\"a\":", "{:a ", "#_[", "^#_",
        ] {
            let text = format!("{head}{}\n", nested.repeat(DEPTH));
            for format in Format::ALL.map(Some).into_iter().chain([None]) {
                // What is no operation of the log at all is skipped.
                let report = read(text.as_bytes(), format, false, false);
                let empty = matches!(&report, Ok(r) if r.history.events.is_empty());
                assert!(report.is_err() || empty, "{head}{nested} as {format:?}");
                let partial = read(text.as_bytes(), format, true, false);
                assert!(partial.is_err() || partial.is_ok_and(|r| r.history.events.is_empty()));
            }
        }
    }
}

#[test]
fn files_without_content_are_empty_histories() {
    for bytes in [&b""[..], b"\n", b" \n\n", b"\r\n"] {
        for format in Format::ALL.map(Some).into_iter().chain([None]) {
            for partial in [false, true] {
                let Ok(report) = read(bytes, format, partial, false) else {
                    panic!("{bytes:?} as {format:?}");
                };
                assert!(report.history.events.is_empty());
                judge(&report.history);
            }
        }
    }
}

/// What lost its end in the middle of the file must not pass for a torn last line.
#[test]
fn a_history_that_lost_a_bracket_is_refused() {
    let op = "{:process 0, :type :invoke, :f :read, :value nil}\n{:process 0, :type :ok, :f :read, :value 1}\n";
    for unclosed in [
        "{:process 1, :type :invoke, :f :read, :value [}\n",
        "{:process 1, :error \"\n",
        "{:a\n",
    ] {
        let text = format!("{op}{unclosed}{op}");
        let error = read(text.as_bytes(), Some(Format::Edn), false, false).unwrap_err();
        assert_eq!(error.line(), Some(3), "{error}");
        let report = read(text.as_bytes(), Some(Format::Edn), true, false).unwrap();
        assert_eq!(report.history.events.len(), 2);
        assert!(report.cut.is_some());
    }
}
