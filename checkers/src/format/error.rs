//! What reading a history returns, and what can go wrong.

use std::fmt;

use super::Format;
use crate::History;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// When a line is corrupt, return what precedes it (and the error beside it) instead of
    /// failing.
    pub partial: bool,
    /// Whether client values of a Jepsen history are `[key value]` tuples of jepsen.independent;
    /// `None` finds out (see [`super::edn`]).
    pub independent: Option<bool>,
}

/// What was read.
#[derive(Debug)]
pub struct ReadReport {
    /// The history.
    pub history: History,
    /// The format it was in.
    pub format: Format,
    /// What was odd, but not wrong enough to refuse the history.
    pub warnings: Vec<Warning>,
    /// With [`ReadOptions::partial`]: why the history ends before the file does.
    pub cut: Option<ReadError>,
}

/// Something odd about a history that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The last line is not complete, as a killed writer leaves it. It was left out.
    TornLastLine {
        /// Its number, from 1.
        line: u64,
    },
    /// The compressed stream ends too early. What could be read ends at this line.
    TornCompression {
        /// The last complete line, from 1; 0 if there is none.
        line: u64,
    },
    /// The format has no times: they are the positions of the events, so that every figure in
    /// seconds or milliseconds is meaningless.
    NoTimes,
    /// Times of events are before those of the events above them (Jepsen stamps an event before it
    /// records it). What was first is decided by positions; a figure in seconds may be off by as
    /// much as they go back.
    TimesGoBack {
        /// The index of the first such event.
        first: u64,
        /// How many.
        events: u64,
    },
    /// Events had no index, or indexes that did not increase; the positions were taken.
    Renumbered,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornLastLine { line } => {
                write!(
                    f,
                    "line {line} is torn (the writer was killed); it was left out"
                )
            }
            Self::TornCompression { line } => {
                write!(f, "the compressed stream is torn after line {line}")
            }
            Self::NoTimes => f.write_str("no times recorded: figures in seconds mean nothing"),
            Self::TimesGoBack { first, events } => write!(
                f,
                "times go back at {events} events, first at event {first}; the order of the events \
                 is that of the file"
            ),
            Self::Renumbered => f.write_str("events were numbered by their position"),
        }
    }
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what the format says.
    #[error("{file}:{line}: {}{message}", .field.as_ref().map(|f| format!("field `{f}`: ")).unwrap_or_default())]
    Corrupt {
        /// The file, or `<bytes>`.
        file: String,
        /// From 1.
        line: u64,
        /// The field that is wrong, if it is one.
        field: Option<String>,
        /// What was expected and what was found.
        message: String,
    },
    /// It is a file of another kind.
    #[error("{file}: {what}")]
    Unsupported {
        /// The file, or `<bytes>`.
        file: String,
        /// What it is, and what to do.
        what: String,
    },
    /// It could be one of several formats, which mean different things.
    #[error("{file}: {what}; name the format")]
    Ambiguous {
        /// The file, or `<bytes>`.
        file: String,
        /// Which ones.
        what: String,
    },
    /// The format is not one of those known.
    #[error(
        "{file}: not a history in a known format: JSON Lines (`jsonl`), a JSON array of operations \
         (`json`), Jepsen's EDN (`edn`), Jepsen's log (`jepsen-log`), Porcupine's KV log \
         (`porcupine-kv`)"
    )]
    UnknownFormat {
        /// The file, or `<bytes>`.
        file: String,
    },
}

impl ReadError {
    /// A corrupt line. The message may quote the file: what would break the line is escaped.
    pub(super) fn corrupt(file: &str, line: u64, field: Option<String>, message: &str) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            line,
            field: field.map(|name| one_line(&name)),
            message: one_line(message),
        }
    }

    /// The line that is corrupt, from 1.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Corrupt { line, .. } => Some(*line),
            _ => None,
        }
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The start of a value, for a message.
pub(super) fn excerpt(value: &impl fmt::Display) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
