//! Jepsen's EDN: operation maps (`{:type :invoke, :f :read, :value nil, :process 3, …}`), one after
//! the other or in one vector or list.
//!
//! * `:index` and `:time` may be missing: positions are taken, with a warning. Jepsen stamps an
//!   event before it records it, so that times may go back a little: they are raised, with a
//!   warning, and the recorded ones kept.
//! * `:f` may be missing (Elle's examples): it is `txn`.
//! * **Tuples of jepsen.independent.** There a value is `[key value]`. Without
//!   [`ReadOptions::independent`] a history is taken as such if every invocation of a client has a
//!   vector of two (or a `MapEntry`), at least one of them is a read of `[key nil]`, and no event
//!   has a field `:key`.
//!
//! Writing: with tuples if reading would find them, else with a field `:key`.

use std::io::{self, Write};
use std::sync::Arc;

use crate::{Event, F, History, Kind, Process, Value};

use super::error::excerpt;
use super::{Format, ReadError, ReadOptions, ReadReport, Warning};

pub(super) mod parse;
pub(super) mod print;

use parse::{Bad, Parser};

/// Extra fields with this prefix hold what a field of an event was in EDN, when it was not text.
const AS_WRITTEN: &str = "edn:";
/// The extra field that holds a time that was raised.
const RECORDED_TIME: &str = "recorded-time";

/// Reads a history.
///
/// # Errors
///
/// [`ReadError`] names line and field. With [`ReadOptions::partial`] a corrupt event ends the
/// history instead. A last event that is cut off is left out with a warning.
pub fn read(text: &str, file: &str, options: &ReadOptions) -> Result<ReadReport, ReadError> {
    let mut report = read_events(text, file, options)?;
    settle_keys(&mut report.history, options);
    Ok(report)
}

/// Finds the keys of a history that was just read.
pub(super) fn settle_keys(history: &mut History, options: &ReadOptions) {
    let independent = options
        .independent
        .unwrap_or_else(|| looks_independent(history));
    if independent {
        split_tuples(history);
    }
    for event in &mut history.events {
        // `:key nil` is how the writer says that values are no tuples.
        event.key = event.key.take().filter(|key| !key.is_nil());
    }
}

/// Takes the keys out of the values of clients.
pub(super) fn split_tuples(history: &mut History) {
    for event in &mut history.events {
        if !event.process.is_nemesis() {
            split_tuple(event);
        }
    }
}

/// Reads the events with their values as they are.
pub(super) fn read_events(
    text: &str,
    file: &str,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let mut parser = Parser::new(text);
    let mut close = None;
    for (open, end) in [('[', ']'), ('(', ')')] {
        if parser.take(open).unwrap_or(false) {
            close = Some(end);
            break;
        }
    }
    collect(|| next_event(&mut parser, close), text, file, options)
}

/// Reads events until there are no more.
///
/// Only an event that begins on the last line is torn. One that begins before it and is not whole
/// has lost its end: what follows may be many events, which nobody may miss silently.
pub(super) fn collect(
    mut next: impl FnMut() -> Result<Option<RawEvent>, FieldError>,
    text: &str,
    file: &str,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let last_line = text.trim_end().matches('\n').count() as u64 + 1;
    let mut fields: Vec<RawEvent> = Vec::new();
    let mut warnings = Vec::new();
    let mut cut = None;
    loop {
        match next() {
            Ok(Some(event)) => fields.push(event),
            Ok(None) => break,
            Err((_, bad)) if bad.incomplete && bad.began >= last_line => {
                warnings.push(Warning::TornLastLine { line: bad.began });
                break;
            }
            Err((field, bad)) => {
                let error = ReadError::corrupt(
                    file,
                    if bad.incomplete { bad.began } else { bad.line },
                    field,
                    &bad.message,
                );
                if !options.partial {
                    return Err(error);
                }
                cut = Some(error);
                break;
            }
        }
    }
    let history = number(fields, &mut warnings);
    Ok(ReadReport {
        history,
        format: Format::Edn,
        warnings,
        cut,
    })
}

/// An event before it is known whether the history has indexes and times.
pub(super) struct RawEvent {
    event: Event,
    index: Option<u64>,
    time: Option<u64>,
}

pub(super) type FieldError = (Option<String>, Bad);

fn next_event(
    parser: &mut Parser<'_>,
    close: Option<char>,
) -> Result<Option<RawEvent>, FieldError> {
    let whole = |bad| (None, bad);
    if let Some(close) = close
        && parser.take(close).map_err(whole)?
    {
        if parser.at_end().map_err(whole)? {
            return Ok(None);
        }
        let line = parser.line();
        let message = format!("more text after the closing `{close}`");
        return Err(whole(Bad {
            line,
            began: line,
            message,
            incomplete: false,
        }));
    }
    if parser.at_end().map_err(whole)? {
        let Some(close) = close else { return Ok(None) };
        let line = parser.line();
        return Err(whole(Bad {
            line,
            began: line,
            message: format!("the closing `{close}` is missing"),
            incomplete: true,
        }));
    }
    let began = parser.line();
    let of_event = |bad| (None, Bad { began, ..bad });
    let mut value = parser.value().map_err(of_event)?;
    // Jepsen's own record: `#jepsen.history.Op{…}`.
    while let Value::Tagged(tagged) = value {
        value = tagged.1.clone();
    }
    raw_event(&value, began).map(Some)
}

/// The event that a map says, which begins on this line.
pub(super) fn raw_event(value: &Value, line: u64) -> Result<RawEvent, FieldError> {
    let bad = |field: Option<&str>, message: String| {
        let bad = Bad {
            line,
            began: line,
            message,
            incomplete: false,
        };
        (field.map(str::to_owned), bad)
    };
    let Value::Map(pairs) = value else {
        let message = format!("found {}, expected an operation: a map", excerpt(value));
        return Err(bad(None, message));
    };
    event(pairs).map_err(|(field, message)| bad(field, message))
}

fn event(pairs: &[(Value, Value)]) -> Result<RawEvent, (Option<&str>, String)> {
    let mut event = Event::new(
        0,
        0,
        Process::Nemesis,
        Kind::Info,
        F::Other("txn".into()),
        Value::Nil,
    );
    let (mut index, mut time, mut process, mut kind) = (None, None, None, None);
    for (name, value) in pairs {
        let (Value::Keyword(name) | Value::Str(name)) = name else {
            return Err((
                None,
                format!("found {}, expected the name of a field", excerpt(name)),
            ));
        };
        let fail = |expected: &str| {
            (
                Some(&**name),
                format!("found {}, expected {expected}", excerpt(value)),
            )
        };
        let natural = || {
            let n = value.as_int().and_then(|n| u64::try_from(n).ok());
            n.ok_or_else(|| fail("a whole number from 0"))
        };
        match &**name {
            "index" if !value.is_nil() => index = Some(natural()?),
            "time" if !value.is_nil() => time = Some(natural()?),
            "process" => {
                process = Some(match value {
                    Value::Int(n) => Process::Client(
                        u64::try_from(*n).map_err(|_| fail("a whole number from 0"))?,
                    ),
                    Value::Keyword(name) | Value::Str(name) if &**name == "nemesis" => {
                        Process::Nemesis
                    }
                    Value::Keyword(name) | Value::Str(name) => Process::Other(name.clone()),
                    _ => return Err(fail("a number or a name")),
                });
            }
            "type" => {
                let name = text(value).ok_or_else(|| fail("invoke, ok, fail or info"))?;
                let known = Kind::from_name(name);
                kind = Some(known.ok_or_else(|| fail("invoke, ok, fail or info"))?);
            }
            "f" => event.f = F::from_name(text(value).ok_or_else(|| fail("a name"))?),
            "value" => event.value = value.clone(),
            "key" => event.key = Some(value.clone()),
            "epoch" if !value.is_nil() => event.epoch = Some(natural()?),
            "node" => event.node = as_text(&mut event.extra, name, value),
            "role" => event.role = as_text(&mut event.extra, name, value),
            "error" => event.error = as_text(&mut event.extra, name, value),
            "index" | "time" | "epoch" => {}
            _ => event.extra.push((name.into(), value.clone())),
        }
    }
    let missing = |name: &str| (None, format!("the field `:{name}` is missing"));
    event.process = process.ok_or_else(|| missing("process"))?;
    event.kind = kind.ok_or_else(|| missing("type"))?;
    Ok(RawEvent { event, index, time })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Keyword(name) | Value::Str(name) => Some(name),
        _ => None,
    }
}

/// A field that is text here but may be any value in EDN: what it was is kept beside it.
fn as_text(extra: &mut Vec<(Arc<str>, Value)>, name: &str, value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Nil => None,
        Value::Str(text) => Some(text.into()),
        other => {
            extra.push((format!("{AS_WRITTEN}{name}").into(), other.clone()));
            Some(other.to_string().into())
        }
    }
}

/// Gives every event an index and a time that fit the order recorded.
fn number(raw: Vec<RawEvent>, warnings: &mut Vec<Warning>) -> History {
    let mut increasing = raw.is_empty() || raw[0].index.is_some();
    for pair in raw.windows(2) {
        increasing &= pair[0].index < pair[1].index;
    }
    if !increasing {
        warnings.push(Warning::Renumbered);
    }
    let timed = raw.iter().any(|r| r.time.is_some());
    if !timed && !raw.is_empty() {
        warnings.push(Warning::NoTimes);
    }
    let mut raised = 0;
    let mut now = 0;
    let mut events = Vec::with_capacity(raw.len());
    for (position, raw) in raw.into_iter().enumerate() {
        let mut event = raw.event;
        event.index = match raw.index {
            Some(index) if increasing => index,
            _ => position as u64,
        };
        match raw.time {
            Some(time) if time < now => {
                raised += 1;
                let recorded = Value::Int(time.try_into().unwrap_or(i64::MAX));
                event.extra.push((RECORDED_TIME.into(), recorded));
            }
            Some(time) => now = time,
            None if !timed => now = position as u64,
            None => {}
        }
        event.time = now;
        events.push(event);
    }
    if raised > 0 {
        warnings.push(Warning::TimesRaised { events: raised });
    }
    History { events }
}

/// The two parts of a tuple.
fn tuple(value: &Value) -> Option<(&Value, &Value)> {
    let items = match value {
        Value::Vector(items) => items,
        Value::Tagged(tagged) if tagged.0.ends_with("MapEntry") => match &tagged.1 {
            Value::Vector(items) => items,
            _ => return None,
        },
        _ => return None,
    };
    match &**items {
        [key, value] => Some((key, value)),
        _ => None,
    }
}

pub(super) fn looks_independent(history: &History) -> bool {
    let mut invocations = history
        .events
        .iter()
        .filter(|e| e.kind == Kind::Invoke && !e.process.is_nemesis());
    let any_key = history.events.iter().any(|e| e.key.is_some());
    let read_of_key = |e: &&Event| {
        e.f == F::Read && tuple(&e.value).is_some_and(|(key, v)| v.is_nil() && !key.is_nil())
    };
    !any_key
        && invocations.clone().any(|e| read_of_key(&e))
        && invocations.all(|e| tuple(&e.value).is_some_and(|(key, _)| !key.is_nil()))
}

fn split_tuple(event: &mut Event) {
    if let Some((key, value)) = tuple(&event.value)
        && !key.is_nil()
    {
        event.key = Some(key.clone());
        event.value = value.clone();
    }
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
    let recorded_time = event
        .extra
        .iter()
        .find(|(name, _)| &**name == RECORDED_TIME);
    let time = match recorded_time {
        Some((_, Value::Int(time))) => time.to_string(),
        _ => event.time.to_string(),
    };
    let _ = std::fmt::Write::write_fmt(
        line,
        format_args!("{{:index {}, :time {time}, :process ", event.index),
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
        if &**name != RECORDED_TIME && !name.starts_with(AS_WRITTEN) {
            field(name, value);
        }
    }
    line.push_str("}\n");
}

#[cfg(test)]
mod tests;
