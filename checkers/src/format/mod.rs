//! Reading and writing recorded histories.
//!
//! [`jsonl`] is the canonical form. [`read_path`], [`read_stream`] and [`read_bytes`] recognise the
//! format, and compression with zstd or gzip, by content. [`Events`] hands out events one by one,
//! for those who need not keep them.
//!
//! The way of the bytes: `input` (compression), then `jsonl` in blocks of lines, or `window` (text)
//! and `forms` (operation maps) for the others; then `settle` (indexes, times, keys).

mod detect;
pub mod edn;
pub mod error;
pub mod events;
mod forms;
mod input;
pub mod jepsen_log;
pub mod json;
pub mod jsonl;
mod names;
pub mod porcupine_kv;
mod settle;
mod window;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::{Event, History};

pub use detect::{Guess, detect};
pub use error::{ReadError, ReadOptions, ReadReport, Warning};
pub use events::Events;

use events::Source;

/// Reads the events of a format, some at a time.
trait Reader {
    /// Appends events, with the numbers that are recorded. Whether there may be more. What precedes
    /// an error is appended, too.
    fn batch(
        &mut self,
        events: &mut Vec<Event>,
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, ReadError>;
}

/// A format that a history can be recorded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines, the canonical form.
    Jsonl,
    /// A JSON array of operation maps (elle-cli).
    Json,
    /// Jepsen's operation maps in EDN.
    Edn,
    /// Jepsen's text log.
    JepsenLog,
    /// Porcupine's log of a key-value store of texts.
    PorcupineKv,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [
        Self::Jsonl,
        Self::Json,
        Self::Edn,
        Self::JepsenLog,
        Self::PorcupineKv,
    ];

    /// The name on the command line: `jsonl`, `json`, `edn`, `jepsen-log`, `porcupine-kv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Edn => "edn",
            Self::JepsenLog => "jepsen-log",
            Self::PorcupineKv => "porcupine-kv",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Reads a history from a file, compressed with zstd or gzip or not.
///
/// # Errors
///
/// [`ReadError`] names file, line and field.
pub fn read_path(
    path: &Path,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let file = path.display().to_string();
    let input = File::open(path).map_err(|source| ReadError::Io {
        file: file.clone(),
        source,
    })?;
    read_stream(input, &file, format, options)
}

/// Reads a history from memory, compressed with zstd or gzip or not.
///
/// # Errors
///
/// [`ReadError`] names line and field.
pub fn read_bytes(
    bytes: &[u8],
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    read_stream(bytes, "<bytes>", format, options)
}

/// Reads a history from a stream, such as the standard input, compressed with zstd or gzip or not.
/// Beside the events little is kept in memory. `file` is its name in errors.
///
/// # Errors
///
/// [`ReadError`] names file, line and field.
pub fn read_stream(
    input: impl io::Read,
    file: &str,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let mut source = Source::open(input, file, format, options, true)?;
    let mut history = History::default();
    while source.batch(&mut history.events)? {}
    let Source {
        format,
        warnings,
        cut,
        ..
    } = source;
    match format {
        Format::Edn | Format::Json => settle::keys(&mut history, options),
        Format::PorcupineKv | Format::JepsenLog if options.independent == Some(true) => {
            settle::split_tuples(&mut history.events);
        }
        _ => {}
    }
    settle::no_nil_keys(&mut history.events);
    Ok(ReadReport {
        history,
        format,
        warnings,
        cut,
    })
}

/// Writes a history in a format.
///
/// # Errors
///
/// Those of the output, and of the format for what it has no place for.
pub fn write(out: &mut impl Write, history: &History, format: Format) -> io::Result<()> {
    match format {
        Format::Jsonl => jsonl::write(out, history),
        Format::Json => json::write(out, history),
        Format::Edn => edn::write(out, history),
        Format::JepsenLog => jepsen_log::write(out, history),
        Format::PorcupineKv => porcupine_kv::write(out, history),
    }
}

#[cfg(test)]
mod tests;
