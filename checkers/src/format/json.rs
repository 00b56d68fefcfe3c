//! A JSON array of operation maps, as elle-cli takes them: the fields of Jepsen's maps, with plain
//! JSON values.
//!
//! ```json
//! [{"type":"invoke","f":"add","value":1,"process":0,"time":10474104701,"index":0},
//!  {"type":"ok","f":"add","value":1,"process":0,"time":10584742951,"index":1}]
//! ```
//!
//! What may be missing, and tuples of jepsen.independent, are as in [`super::edn`].

use std::io::{self, Write};

use crate::{Event, History, Value};

use super::edn;
use super::edn::parse::{Bad, Parser};
use super::forms::{Syntax, Wrong};
use super::jsonl::{self, Scan};
use super::settle::looks_independent;
use super::{Format, ReadError, ReadOptions, ReadReport};

/// Reads a history.
///
/// # Errors
///
/// As [`super::edn::read`].
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    super::read_stream(text.as_bytes(), file, Some(Format::Json), options)
}

/// The operations of an array, one after the other.
#[derive(Clone, Copy, Default)]
pub(super) struct Array {
    opened: bool,
    closed: bool,
}

impl Syntax for Array {
    fn skip(parser: &mut Parser<'_>) {
        skip_space(parser);
    }

    fn next(&mut self, parser: &mut Parser<'_>) -> Result<Option<Event>, Wrong> {
        skip_space(parser);
        if !self.opened {
            // A file without content is a history without events.
            if parser.peek().is_none() {
                return Ok(None);
            }
            take(parser, "[")?;
            self.opened = true;
            skip_space(parser);
            self.closed = parser.take(b']');
        } else if !self.closed {
            self.closed = take(parser, ",]")? == b']';
        }
        skip_space(parser);
        if self.closed {
            return match parser.peek() {
                None => Ok(None),
                Some(_) => Err(wrong(parser, "more text after the closing `]`".to_owned())),
            };
        }
        let began = parser.position();
        let value = value(parser)?;
        edn::operation(&value, began, parser).map(Some)
    }
}

fn skip_space(parser: &mut Parser<'_>) {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = parser.peek() {
        parser.advance(1);
    }
}

/// Takes the next byte, if it is one of these.
fn take(parser: &mut Parser<'_>, wanted: &str) -> Result<u8, Wrong> {
    if let Some(byte) = wanted.bytes().find(|&byte| parser.take(byte)) {
        return Ok(byte);
    }
    let names: Vec<String> = wanted.chars().map(|c| format!("`{c}`")).collect();
    let found = match parser.rest().chars().next() {
        Some(c) => format!("found `{c}`"),
        None => "the text ends".to_owned(),
    };
    Err(wrong(
        parser,
        format!("{found}, expected {}", names.join(" or ")),
    ))
}

fn wrong(parser: &Parser<'_>, message: String) -> Wrong {
    let bad = Bad {
        line: parser.line(),
        message,
        incomplete: parser.peek().is_none(),
    };
    Wrong::at(parser.position(), bad)
}

fn value(parser: &mut Parser<'_>) -> Result<Value, Wrong> {
    let began = parser.position();
    let text = parser.rest();
    let mut scan = Scan::new(text.as_bytes());
    if let Some(value) = scan.value(parser.names()) {
        parser.advance(scan.position());
        return Ok(value);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            parser.advance(values.byte_offset());
            Ok(value)
        }
        Some(Err(e)) => {
            let bad = Bad {
                line: parser.line_at(began) + (e.line() as u64).saturating_sub(1),
                message: jsonl::describe(&e),
                incomplete: e.is_eof(),
            };
            if e.is_eof() {
                parser.advance(text.len());
            }
            Err(Wrong::at(began, bad))
        }
        None => Err(wrong(
            parser,
            "the text ends, expected an operation".to_owned(),
        )),
    }
}

/// Writes a history, one map a line.
///
/// # Errors
///
/// Those of the output.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    // Without keys, values that only look like tuples must not be taken for some.
    let deny_tuples = looks_independent(history);
    let mut line = Vec::new();
    out.write_all(b"[")?;
    for (i, event) in history.events.iter().enumerate() {
        line.clear();
        jsonl::write_event(&mut line, event);
        line.pop();
        if i > 0 {
            out.write_all(b",\n")?;
        }
        if deny_tuples && i == 0 {
            out.write_all(b"{\"key\":null,")?;
            out.write_all(&line[1..])?;
        } else {
            out.write_all(&line)?;
        }
    }
    out.write_all(b"]\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{Guess, Warning, detect, read_bytes};
    use crate::testing::any_history;
    use crate::{F, Process};

    fn read_text(text: &str) -> Result<ReadReport, ReadError> {
        read(text, "x.json", &ReadOptions::default())
    }

    #[test]
    fn reads_maps_with_and_without_times() {
        let text = "[ {\"type\":\"invoke\",\"f\":\"add\",\"value\":1,\"op-index\":7,\"process\":0},\n\
                     {\"type\":\"info\",\"f\":\"start\",\"process\":\"nemesis\"}]\n";
        assert_eq!(detect(text.as_bytes()), Guess::Format(Format::Json));
        let report = read_text(text).unwrap();
        let events = &report.history.events;
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0].f, &events[0].value), (&F::Add, &Value::Int(1)));
        assert_eq!(events[0].extra, [("op-index".into(), Value::Int(7))]);
        assert_eq!(events[1].process, Process::Nemesis);
        assert_eq!(report.warnings, [Warning::Renumbered, Warning::NoTimes]);
        assert!(read_text("[]").unwrap().history.events.is_empty());
    }

    #[test]
    fn errors_name_line_field_and_what_was_expected() {
        for (text, expected) in [
            (
                "[{\"type\":\"ok\",\"process\":0},\n {\"type\":\"okay\",\"process\":0}]",
                "x.json:2: field `type`: found okay, expected invoke, ok, fail or info",
            ),
            (
                "[{\"type\":\"ok\",\n\"process\":-1}]",
                "x.json:1: field `process`: found -1, expected a whole number from 0",
            ),
            ("[\n\n7]", "x.json:3: found 7, expected an operation: a map"),
            (
                "[{\"type\":\"ok\",\"process\":0} {}]",
                "x.json:1: found `{`, expected `,` or `]`",
            ),
            (
                "[{\"type\":\"ok\",\"process\":0}] x",
                "x.json:1: more text after the closing `]`",
            ),
        ] {
            assert_eq!(read_text(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_cut_file_keeps_what_was_whole() {
        let text = "[{\"type\":\"ok\",\"process\":0},\n{\"type\":\"ok\",\"pro";
        let report = read_text(text).unwrap();
        assert_eq!(report.history.events.len(), 1);
        assert!(report.warnings.contains(&Warning::TornLastLine { line: 2 }));
    }

    proptest! {
        #[test]
        fn round_trips(history in any_history()) {
            let mut out = Vec::new();
            write(&mut out, &history).unwrap();
            let report = read_bytes(&out, Some(Format::Json), &ReadOptions::default()).unwrap();
            prop_assert_eq!(report.history, history);
        }
    }
}
