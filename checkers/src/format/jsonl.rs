//! JSON Lines, the canonical form: one event a line, in the order recorded.
//!
//! ```json
//! {"index":0,"time":12034000,"process":3,"type":"invoke","f":"write","key":"k7","value":1042,"node":"n2"}
//! ```
//!
//! Further fields: `role`, `epoch`, `error`; any other is kept in [`Event::extra`]. `process` is a
//! number, `"nemesis"` or another name; `value` may be left out when it is null.

use std::io::{self, Write};

use crate::{Event, History, Process, Value};

use super::{Format, ReadError, ReadOptions, ReadReport};

mod blocks;
mod parse;
mod scan;

pub(super) use blocks::Lines;
pub(super) use parse::describe;
pub(super) use scan::Scan;

/// Appends one event and a newline. Allocates nothing but the buffer's growth.
pub fn write_event(out: &mut Vec<u8>, event: &Event) {
    out.extend_from_slice(b"{\"index\":");
    write_u64(out, event.index);
    out.extend_from_slice(b",\"time\":");
    write_u64(out, event.time);
    out.extend_from_slice(b",\"process\":");
    match &event.process {
        Process::Client(n) => write_u64(out, *n),
        Process::Nemesis => out.extend_from_slice(b"\"nemesis\""),
        Process::Other(name) => write_str(out, name),
    }
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(event.kind.name().as_bytes());
    out.extend_from_slice(b"\",\"f\":");
    write_str(out, event.f.name());
    if let Some(key) = &event.key {
        out.extend_from_slice(b",\"key\":");
        write_value(out, key);
    }
    out.extend_from_slice(b",\"value\":");
    write_value(out, &event.value);
    for (name, text) in [
        ("node", &event.node),
        ("role", &event.role),
        ("error", &event.error),
    ] {
        if let Some(text) = text {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_str(out, text);
        }
    }
    if let Some(epoch) = event.epoch {
        out.extend_from_slice(b",\"epoch\":");
        write_u64(out, epoch);
    }
    for (name, value) in &event.extra {
        out.push(b',');
        write_str(out, name);
        out.push(b':');
        write_value(out, value);
    }
    out.extend_from_slice(b"}\n");
}

/// Writes a whole history.
///
/// # Errors
///
/// Those of the output.
pub fn write(out: &mut impl Write, history: &History) -> io::Result<()> {
    const BLOCK: usize = 64 * 1024;
    let mut buffer = Vec::with_capacity(2 * BLOCK);
    for event in &history.events {
        write_event(&mut buffer, event);
        if buffer.len() >= BLOCK {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)
}

fn write_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..i]);
        plain_from = i + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 0xf)]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// The same JSON as [`Value`]'s `Serialize`; the frequent kinds without going through serde.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Value::Str(text) => write_str(out, text),
        Value::Vector(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(out, item);
            }
            out.push(b']');
        }
        rare => serde_json::to_writer(out, rare).expect("a value always has a JSON form"),
    }
}

/// Reads a history line by line.
///
/// A last line that is torn (no newline, and not an event) is left out with a warning; any other
/// bad line is an error.
///
/// # Errors
///
/// [`ReadError`] names file, line and field. With [`ReadOptions::partial`] a corrupt line ends the
/// history instead, and the error is in [`ReadReport::cut`].
pub fn read(
    input: impl io::Read,
    file: &str,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    super::read_stream(input, file, Some(Format::Jsonl), options)
}

#[cfg(test)]
mod tests;
