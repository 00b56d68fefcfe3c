//! Jepsen's EDN: operation maps (`{:type :invoke, :f :read, :value nil, :process 3, …}`), one after
//! the other or in one vector or list.
//!
//! * `:index` and `:time` may be missing: positions are taken, with a warning. Jepsen stamps an
//!   event before it records it, so that times may go back a little: there is a warning.
//! * `:f` may be missing (Elle's examples): it is `txn`.
//! * **Tuples of jepsen.independent.** There a value is `[key value]`. Without
//!   [`ReadOptions::independent`] a history is taken as such if every invocation of a client has a
//!   vector of two (or one tagged as a tuple or `MapEntry`), at least one of them is a read of `[key nil]`, and no event
//!   has a field `:key`.
//!
//! Writing: with tuples if reading would find them, else with a field `:key`.

use std::io::{self, Write};

use crate::{Event, F, History, Kind, Process, Value};

use super::forms::{Syntax, Wrong};
use super::settle::looks_independent;
use super::{Format, ReadError, ReadOptions, ReadReport};

mod fields;
pub(super) mod parse;
pub(super) mod print;

use fields::AS_WRITTEN;
use parse::{Bad, Parser};

/// Reads a history.
///
/// # Errors
///
/// [`ReadError`] names line and field. With [`ReadOptions::partial`] a corrupt event ends the
/// history instead. A last event that is cut off is left out with a warning.
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    super::read_stream(text.as_bytes(), file, Some(Format::Edn), options)
}

/// Operation maps one after the other, or in one vector or list.
#[derive(Clone, Copy, Default)]
pub(super) struct Maps {
    /// Whether it is known whether they are in a collection.
    opened: bool,
    /// What closes it.
    close: Option<u8>,
    closed: bool,
}

impl Syntax for Maps {
    fn skip(parser: &mut Parser<'_>) {
        parser.skip_blank();
    }

    /// At the start of a line that looks like an operation.
    fn begins(&self, text: &str, from: usize) -> Option<usize> {
        let after = text.as_bytes().get(from..)?;
        memchr::memchr_iter(b'\n', after)
            .map(|newline| newline + 1)
            .find(|&at| matches!(after.get(at), Some(b'{' | b'#')))
            .map(|at| from + at)
    }

    fn is_between(&self) -> bool {
        self.opened && !self.closed
    }

    fn next(&mut self, parser: &mut Parser<'_>) -> Result<Option<Event>, Wrong> {
        space(parser)?;
        if !self.opened {
            self.opened = true;
            for (open, close) in [(b'[', b']'), (b'(', b')')] {
                if self.close.is_none() && parser.take(open) {
                    self.close = Some(close);
                    space(parser)?;
                }
            }
        }
        if let Some(close) = self.close {
            if !self.closed && parser.take(close) {
                self.closed = true;
                space(parser)?;
            }
            let close = char::from(close);
            let message = match parser.peek() {
                None if !self.closed => format!("the closing `{close}` is missing"),
                Some(_) if self.closed => format!("more text after the closing `{close}`"),
                _ => String::new(),
            };
            if !message.is_empty() {
                let began = parser.position();
                let bad = Bad {
                    line: parser.line(),
                    message,
                    incomplete: parser.peek().is_none(),
                };
                return Err(Wrong::at(began, bad));
            }
        }
        if parser.peek().is_none() {
            return Ok(None);
        }
        if let Some(event) = parser.operation() {
            return Ok(Some(event));
        }
        let began = parser.position();
        let mut value = parser.value().map_err(|bad| Wrong::at(began, bad))?;
        // Jepsen's own record: `#jepsen.history.Op{…}`.
        while let Value::Tagged(tagged) = value {
            value = tagged.1.clone();
        }
        operation(&value, began, parser).map(Some)
    }
}

/// Skips space, comments and what is discarded.
fn space(parser: &mut Parser<'_>) -> Result<(), Wrong> {
    parser.skip_blank();
    let began = parser.position();
    parser.skip_space().map_err(|bad| Wrong::at(began, bad))
}

/// The event that a map says, which begins here.
pub(super) fn operation(
    value: &Value,
    began: usize,
    parser: &mut Parser<'_>,
) -> Result<Event, Wrong> {
    fields::event(value, parser.names()).map_err(|(field, message)| {
        let bad = Bad {
            line: parser.line_at(began),
            message,
            incomplete: false,
        };
        Wrong { began, field, bad }
    })
}

/// Writes a history, one map a line.
///
/// # Errors
///
/// Those of the output.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    let tuples = writes_as_tuples(history);
    // Without keys, values that only look like tuples must not be taken for some.
    let mut deny = !tuples && looks_independent(history);
    let mut line = String::new();
    for event in &history.events {
        line.clear();
        write_event(&mut line, event, tuples, deny);
        deny = false;
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Whether reading back would find the keys in tuples.
pub(super) fn writes_as_tuples(history: &History) -> bool {
    let mut read_of_key = false;
    for event in &history.events {
        if event.process.is_nemesis() != event.key.is_none() {
            return false;
        }
        read_of_key |= event.kind == Kind::Invoke
            && event.f == F::Read
            && event.value.is_nil()
            && !event.process.is_nemesis();
    }
    read_of_key
}

fn write_event(line: &mut String, event: &Event, tuples: bool, deny_tuples: bool) {
    let _ = std::fmt::Write::write_fmt(
        line,
        format_args!("{{:index {}, :time {}, :process ", event.index, event.time),
    );
    match &event.process {
        Process::Client(n) => line.push_str(&n.to_string()),
        other => print::name(line, &other.to_string()),
    }
    line.push_str(", :type :");
    line.push_str(event.kind.name());
    line.push_str(", :f ");
    print::name(line, event.f.name());
    line.push_str(", :value ");
    match &event.key {
        Some(key) if tuples => {
            line.push('[');
            print::value(line, key);
            line.push(' ');
            print::value(line, &event.value);
            line.push(']');
        }
        _ => print::value(line, &event.value),
    }
    let mut field = |name: &str, value: &Value| {
        line.push_str(", ");
        print::name(line, name);
        line.push(' ');
        print::value(line, value);
    };
    if let (Some(key), false) = (&event.key, tuples) {
        field("key", key);
    } else if deny_tuples {
        field("key", &Value::Nil);
    }
    let texts = [
        ("node", &event.node),
        ("role", &event.role),
        ("error", &event.error),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            let as_written = event
                .extra
                .iter()
                .find(|(n, _)| n.strip_prefix(AS_WRITTEN) == Some(name));
            match as_written {
                Some((_, value)) => field(name, value),
                None => field(name, &Value::str(text)),
            }
        }
    }
    if let Some(epoch) = event.epoch {
        field("epoch", &Value::Int(epoch.try_into().unwrap_or(i64::MAX)));
    }
    for (name, value) in &event.extra {
        if !name.starts_with(AS_WRITTEN) {
            field(name, value);
        }
    }
    line.push_str("}\n");
}

#[cfg(test)]
mod tests;
