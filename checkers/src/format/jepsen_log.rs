//! Jepsen's older text logs: lines `INFO  jepsen.util - PROCESS :type :f value [error]`, among the
//! lines of other loggers, which are skipped.
//!
//! They have no times. An `info` may carry its error in the place of the value (`:timed-out`).

use std::io::{self, Write};
use std::sync::Arc;

use crate::{Event, F, History, Kind, Process, Value};

use super::edn::parse::Parser;
use super::edn::{print, writes_as_tuples};
use super::input::Input;
use super::names::Names;
use super::settle::MISSING;
use super::window::Window;
use super::{Format, ReadError, ReadOptions, ReadReport, Reader, Warning};

/// The logger whose lines are operations.
pub(super) const LOGGER: &str = "jepsen.util";

/// Reads a history.
///
/// # Errors
///
/// [`ReadError`] names the line of an operation that cannot be read.
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    super::read_stream(text.as_bytes(), file, Some(Format::JepsenLog), options)
}

/// Reads the operations among the lines.
pub(super) struct Log<'a> {
    window: Window<'a>,
    /// How much of the window was read.
    read: usize,
    names: Names,
}

impl<'a> Log<'a> {
    pub fn new(input: Input<'a>, file: &str) -> Self {
        Self {
            window: Window::new(input, file),
            read: 0,
            names: Names::default(),
        }
    }
}

impl Reader for Log<'_> {
    fn batch(
        &mut self,
        events: &mut Vec<Event>,
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, ReadError> {
        self.window.advance(self.read)?;
        self.read = 0;
        let text = self.window.text();
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let whole = line.ends_with('\n');
            if !whole && self.window.more() {
                break;
            }
            self.read += line.len();
            let line = line.trim_end_matches(['\n', '\r']);
            let torn = match event(line, &mut self.names) {
                Ok(None) => false,
                // `:ok :read 4` may be what is left of `:ok :read 42`.
                Ok(Some(_)) if !whole && !line.ends_with([']', ')', '}', '"']) => true,
                Ok(Some(event)) => {
                    events.push(event);
                    false
                }
                Err(_) if !whole => true,
                Err((field, message)) => {
                    let line = self.window.line(number);
                    let field = Some(field.to_owned());
                    let file = self.window.file();
                    return Err(ReadError::corrupt(file, line, field, &message));
                }
            };
            if torn && !self.window.is_broken() {
                let line = self.window.line(number);
                warnings.push(Warning::TornLastLine { line });
            }
        }
        if self.window.more() {
            return Ok(true);
        }
        self.window.end(warnings).map(|()| false)
    }
}

/// Whether a line says an operation.
pub(super) fn is_operation(line: &str) -> bool {
    matches!(event(line, &mut Names::default()), Ok(Some(_)))
}

type Bad = (&'static str, String);

fn event(line: &str, names: &mut Names) -> Result<Option<Event>, Bad> {
    let Some((_, rest)) = line.split_once(LOGGER) else {
        return Ok(None);
    };
    let rest = rest.trim_start_matches([' ', '-', ':', '\t']);
    let (process, rest) = word(rest);
    let (kind, rest) = word(rest);
    let Some(kind) = kind.strip_prefix(':') else {
        // Something else that Jepsen had to say.
        return Ok(None);
    };
    let process = Process::from_name(process.trim_start_matches(':'));
    let Some(kind) = Kind::from_name(kind) else {
        let message = format!("found :{kind}, expected :invoke, :ok, :fail or :info");
        return Err(("type", message));
    };
    let (f, rest) = word(rest);
    let Some(f) = f.strip_prefix(':') else {
        return Err(("f", format!("found `{f}`, expected a keyword")));
    };
    let mut parser = Parser::with(rest, std::mem::take(names));
    let result = value_and_error(&mut parser);
    *names = parser.into_names();
    let (value, error) = result?;
    let mut event = Event::new(MISSING, MISSING, process, kind, F::from_name(f), value);
    if error.is_some() {
        event.error = error;
        names.share_details(&mut event);
    }
    Ok(Some(event))
}

fn value_and_error(parser: &mut Parser<'_>) -> Result<(Value, Option<Arc<str>>), Bad> {
    let value = parser.value().map_err(|bad| ("value", bad.message))?;
    let error = |bad: super::edn::parse::Bad| ("error", bad.message);
    if parser.at_end().map_err(error)? {
        return Ok((value, None));
    }
    let text = match parser.value().map_err(error)? {
        Value::Str(text) => text.into(),
        other => other.to_string().into(),
    };
    if !parser.at_end().map_err(error)? {
        return Err(("error", "more text after the error".to_owned()));
    }
    Ok((value, Some(text)))
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

/// Writes what the format has fields for: process, type, function, value and error. A key becomes
/// a tuple `[key value]`.
///
/// # Errors
///
/// Those of the output; [`io::ErrorKind::InvalidInput`] for a name that is no keyword.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    let tuples = writes_as_tuples(history) || history.events.iter().any(|e| e.key.is_some());
    for event in &history.events {
        let mut process = String::new();
        match &event.process {
            Process::Client(n) => process = n.to_string(),
            other => print::name(&mut process, &other.to_string()),
        }
        let mut f = String::new();
        print::name(&mut f, event.f.name());
        if [&process, &f].iter().any(|name| name.starts_with('"')) {
            let message = format!("event {}: a name is no keyword", event.index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut value = String::new();
        match &event.key {
            Some(key) if tuples => {
                let tuple = [key.clone(), event.value.clone()].into_iter().collect();
                print::value(&mut value, &tuple);
            }
            _ => print::value(&mut value, &event.value),
        }
        write!(
            out,
            "INFO  {LOGGER} - {process}\t:{}\t{f}\t{value}",
            event.kind.name()
        )?;
        if let Some(error) = &event.error {
            let mut text = String::new();
            print::value(&mut text, &Value::str(error));
            write!(out, "\t{text}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tabs_and_spaces_and_skips_other_loggers() {
        let text = "INFO  jepsen.core - Running test\n\
                    INFO  jepsen.util - 0\t:invoke\t:cas\t[1 2]\n\
                    INFO  jepsen.util - :nemesis :info   :start   nil\n\
                    INFO  jepsen.util - 0   :info   :cas    :timed-out\n\
                    INFO  jepsen.util - 1 :ok :read 4 \"late\"\n\
                    INFO  jepsen.util - 1 :ok :re";
        let report = read(text, "x", &ReadOptions::default()).unwrap();
        let events = &report.history.events;
        assert_eq!(events.len(), 4);
        assert_eq!(events[0].f, F::Cas);
        assert_eq!(events[1].process, Process::Nemesis);
        assert_eq!(events[2].value, Value::Keyword("timed-out".into()));
        assert_eq!(events[3].error.as_deref(), Some("late"));
        let torn = Warning::TornLastLine { line: 6 };
        assert_eq!(report.warnings, [torn, Warning::NoTimes]);
        let mut out = Vec::new();
        write(&mut out, &report.history).unwrap();
        let again = read(
            std::str::from_utf8(&out).unwrap(),
            "x",
            &ReadOptions::default(),
        );
        assert_eq!(again.unwrap().history, report.history);
    }

    #[test]
    fn a_corrupt_operation_is_an_error() {
        let text =
            "INFO  jepsen.util - 0\t:invoked\t:cas\t[1 2]\nINFO jepsen.util - 1 :ok :read 1\n";
        let error = read(text, "x.log", &ReadOptions::default()).unwrap_err();
        let expected =
            "x.log:1: field `type`: found :invoked, expected :invoke, :ok, :fail or :info";
        assert_eq!(error.to_string(), expected);
        let text = "INFO  jepsen.util - 0 :ok :read [1\nINFO jepsen.util - 1 :ok :read 1\n";
        let error = read(text, "x.log", &ReadOptions::default()).unwrap_err();
        assert_eq!(error.line(), Some(1));
    }
}
