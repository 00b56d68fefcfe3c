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

use crate::{History, Value};

use super::edn::parse::Bad;
use super::edn::{self, FieldError, RawEvent};
use super::{Format, ReadError, ReadOptions, ReadReport, jsonl};

/// Reads a history.
///
/// # Errors
///
/// As [`edn::read`].
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    let mut array = Array::new(text);
    let mut report = edn::collect(|| array.next_event(), text, file, options)?;
    report.format = Format::Json;
    edn::settle_keys(&mut report.history, options);
    Ok(report)
}

/// The elements of an array, one after the other.
struct Array<'a> {
    text: &'a str,
    position: usize,
    line: u64,
    opened: bool,
}

impl<'a> Array<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            line: 1,
            opened: false,
        }
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text[self.position..self.position + bytes];
        self.line += passed.matches('\n').count() as u64;
        self.position += bytes;
    }

    /// Takes the next character after space, if it is one of these.
    fn take(&mut self, wanted: &[char]) -> Result<char, FieldError> {
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_ascii_start();
        self.advance(rest.len() - trimmed.len());
        let wanted_names = || {
            let names: Vec<String> = wanted.iter().map(|c| format!("`{c}`")).collect();
            names.join(" or ")
        };
        match trimmed.chars().next() {
            Some(c) if wanted.contains(&c) => {
                self.advance(c.len_utf8());
                Ok(c)
            }
            Some(c) => Err(self.bad(format!("found `{c}`, expected {}", wanted_names()), false)),
            None => Err(self.bad(format!("the text ends, expected {}", wanted_names()), true)),
        }
    }

    fn bad(&self, message: String, incomplete: bool) -> FieldError {
        let bad = Bad {
            line: self.line,
            began: self.line,
            message,
            incomplete,
        };
        (None, bad)
    }

    fn next_event(&mut self) -> Result<Option<RawEvent>, FieldError> {
        if !self.opened {
            self.take(&['['])?;
            self.opened = true;
            if self.text[self.position..]
                .trim_ascii_start()
                .starts_with(']')
            {
                self.take(&[']'])?;
                return self.end();
            }
        } else if self.take(&[',', ']'])? == ']' {
            return self.end();
        }
        let rest = &self.text[self.position..];
        let space = rest.len() - rest.trim_ascii_start().len();
        self.advance(space);
        let began = self.line;
        let rest = &self.text[self.position..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(e)) => {
                let bad = Bad {
                    line: began + (e.line() as u64).saturating_sub(1),
                    began,
                    message: jsonl::describe(&e),
                    incomplete: e.is_eof(),
                };
                return Err((None, bad));
            }
            None => return Err(self.bad("the text ends, expected an operation".to_owned(), true)),
        };
        let length = values.byte_offset();
        self.advance(length);
        edn::raw_event(&value, began).map(Some)
    }

    fn end(&mut self) -> Result<Option<RawEvent>, FieldError> {
        if self.text[self.position..].trim_ascii().is_empty() {
            return Ok(None);
        }
        Err(self.bad("more text after the closing `]`".to_owned(), false))
    }
}

/// Writes a history, one map a line.
///
/// # Errors
///
/// Those of the output.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    // Without keys, values that only look like tuples must not be taken for some.
    let deny_tuples = edn::looks_independent(history);
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
    use crate::format::{Warning, detect, read_bytes};
    use crate::testing::any_history;
    use crate::{F, Process};

    fn read_text(text: &str) -> Result<ReadReport, ReadError> {
        read(text, "x.json", &ReadOptions::default())
    }

    #[test]
    fn reads_maps_with_and_without_times() {
        let text = "[ {\"type\":\"invoke\",\"f\":\"add\",\"value\":1,\"op-index\":7,\"process\":0},\n\
                     {\"type\":\"info\",\"f\":\"start\",\"process\":\"nemesis\"}]\n";
        assert_eq!(detect(text.as_bytes()), Some(Format::Json));
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
