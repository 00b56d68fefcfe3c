//! Reading and writing recorded histories.
//!
//! [`jsonl`] is the canonical form. [`read_path`] and [`read_bytes`] recognise the format, and
//! zstd compression, by content.

pub mod edn;
pub mod error;
pub mod jepsen_log;
pub mod json;
pub mod jsonl;
pub mod porcupine_kv;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use crate::History;

pub use error::{ReadError, ReadOptions, ReadReport, Warning};

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

/// Recognises the format by the start of a history.
pub fn detect(start: &[u8]) -> Option<Format> {
    let text = String::from_utf8_lossy(start);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(';'));
    let first = lines.next()?;
    if let Some(object) = first.strip_prefix('{') {
        let object = object.trim_start();
        let spread = object.is_empty() && lines.clone().next().is_some_and(|l| l.starts_with('"'));
        if spread {
            return Some(Format::Jsonl);
        }
        if object.starts_with('"') {
            return Some(Format::Jsonl);
        }
        let porcupine = |line: &str| {
            line.contains(":f :get,")
                || line.contains(":f :put,")
                || line.contains(":f :append,") && line.contains(":key \"")
        };
        if !object.contains(":index") && porcupine(object) {
            return Some(Format::PorcupineKv);
        }
        return (object.is_empty() || object.starts_with([':', '#', '}'])).then_some(Format::Edn);
    }
    let array = text.trim_start().strip_prefix('[').map(str::trim_start);
    let object = array.and_then(|rest| rest.strip_prefix('{'));
    if object.is_some_and(|rest| rest.trim_start().starts_with(['"', '}'])) {
        return Some(Format::Json);
    }
    if first.starts_with(['[', '(', '#']) {
        return Some(Format::Edn);
    }
    let log = |line: &str| line.contains(jepsen_log::LOGGER);
    (log(first) || lines.any(log)).then_some(Format::JepsenLog)
}

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads a history from a file, compressed with zstd or not.
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
    let io = |source| ReadError::Io {
        file: file.clone(),
        source,
    };
    let input = BufReader::new(File::open(path).map_err(io)?);
    read(input, &file, format, options)
}

/// Reads a history from memory, compressed with zstd or not.
///
/// # Errors
///
/// [`ReadError`] names line and field.
pub fn read_bytes(
    bytes: &[u8],
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    read(bytes, "<bytes>", format, options)
}

fn read(
    mut input: impl BufRead,
    file: &str,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let io = |source| ReadError::Io {
        file: file.to_owned(),
        source,
    };
    if input.fill_buf().map_err(io)?.starts_with(&ZSTD_MAGIC) {
        let decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(io)?;
        return read_plain(BufReader::new(decoder), file, format, options);
    }
    read_plain(input, file, format, options)
}

fn read_plain(
    mut input: impl BufRead,
    file: &str,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<ReadReport, ReadError> {
    let io = |source| ReadError::Io {
        file: file.to_owned(),
        source,
    };
    let start = match input.fill_buf() {
        Ok(start) => start,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => &[],
        Err(e) => return Err(io(e)),
    };
    // A run that was killed at once leaves an empty file.
    let format = match format.or_else(|| detect(start)) {
        Some(format) => format,
        None if start.trim_ascii().is_empty() => Format::Jsonl,
        None => {
            let file = file.to_owned();
            return Err(ReadError::UnknownFormat { file });
        }
    };
    if format == Format::Jsonl {
        return jsonl::read(input, file, options);
    }
    let mut bytes = Vec::new();
    let torn = match input.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => true,
        Err(e) => return Err(io(e)),
    };
    let mut broken = None;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // Cut within the last character.
        Err(e) if e.utf8_error().error_len().is_none() => {
            let whole = e.utf8_error().valid_up_to();
            String::from_utf8_lossy(&e.as_bytes()[..whole]).into_owned()
        }
        Err(e) => {
            let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = String::from_utf8_lossy(before).matches('\n').count() as u64 + 1;
            let message = "found bytes that are not UTF-8, expected text";
            let error = ReadError::corrupt(file, line, None, message);
            if !options.partial {
                return Err(error);
            }
            broken = Some(error);
            // Up to the line that is broken.
            let whole = before
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |i| i + 1);
            String::from_utf8_lossy(&before[..whole]).into_owned()
        }
    };
    let mut report = match format {
        Format::Json => json::read(&text, file, options),
        Format::Edn => edn::read(&text, file, options),
        Format::JepsenLog => jepsen_log::read(&text, file, options),
        Format::PorcupineKv => porcupine_kv::read(&text, file, options),
        Format::Jsonl => jsonl::read(text.as_bytes(), file, options),
    }?;
    report.cut = report.cut.or(broken);
    if torn {
        let line = text.lines().count() as u64;
        report.warnings.push(Warning::TornCompression { line });
    }
    Ok(report)
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
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_content() {
        for (start, format) in [
            (r#"{"index":0,"time":1}"#, Some(Format::Jsonl)),
            ("\n[\n {\n \"index\":0,", Some(Format::Json)),
            ("{\n  \"verdict\": 1", Some(Format::Jsonl)),
            ("; x\n\n [{:process 1}", Some(Format::Edn)),
            ("({:process 1", Some(Format::Edn)),
            ("{:index 0, :f :get, :key 1}", Some(Format::Edn)),
            ("#jepsen.history.Op{:index 1}", Some(Format::Edn)),
            (
                "{:process 1, :type :invoke, :f :get, :key \"9\", :value nil}",
                Some(Format::PorcupineKv),
            ),
            (
                "2026 INFO x\nINFO  jepsen.util - 0\t:invoke\t:read\tnil",
                Some(Format::JepsenLog),
            ),
            ("hello", None),
            ("", None),
        ] {
            assert_eq!(detect(start.as_bytes()), format, "{start}");
        }
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
    }

    #[test]
    fn other_files_are_refused_and_empty_ones_are_empty_histories() {
        let error = read_bytes(b"hello\n", None, &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, ReadError::UnknownFormat { .. }));
        let report = read_bytes(b"", None, &ReadOptions::default()).unwrap();
        assert_eq!(report.history, History::default());
        let missing = read_path(Path::new("/nowhere/x"), None, &ReadOptions::default());
        assert!(missing.unwrap_err().to_string().starts_with("/nowhere/x: "));
        let bad = read_bytes(b"[{:a\n\xff}]", Some(Format::Edn), &ReadOptions::default());
        assert_eq!(bad.unwrap_err().line(), Some(2));
    }
}
